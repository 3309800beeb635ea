//! What PPO, TRPO and MDPO have in common: one actor, one critic, one way to collect a batch.
//!
//! They differ only in their update, so that a comparison compares updates.

use burn::tensor::Tensor;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use steadfast_envs::rng::{self, Purpose, Rng};
use steadfast_envs::{Spec, State, VecEnv};

use super::adam::Adam;
use super::advantages::{Trajectory, explained_variance, gae};
use super::device::{Device, to_host};
use super::dist::{Dist, Head};
use super::normalize::{ObsNormalizer, RewardScaler};
use super::policy::{Critic, Net, Policy};
use super::rollout::Collector;
use crate::{AgentError, BuildError, Metrics, Setup};

/// What a time limit means to the advantage estimator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeLimit {
    /// The episode was only cut short: bootstrap from the value of its final observation.
    Bootstrap,
    /// Treat it like a termination, as several well-known codes do.
    Terminal,
}

/// Settings of the actor, the critic and the batch, the same for every on-policy agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnPolicy {
    /// N: environment copies that are stepped together.
    pub num_envs: usize,
    /// T: steps of each copy in one iteration; a batch holds N·T.
    pub horizon: usize,
    /// γ: discount factor, in [0, 1].
    pub gamma: f64,
    /// λ: weight of longer sums in generalised advantage estimation, in [0, 1].
    pub gae_lambda: f64,
    /// Time limits `bootstrap` (correct) or are `terminal` (as in some released codes).
    pub time_limit: TimeLimit,
    /// Normalise observations by running mean and deviation, clipped to ±10.
    pub normalize_obs: bool,
    /// Divide rewards by the running deviation of the discounted return, clipped to ±10.
    pub normalize_reward: bool,
    /// ρ: correlation in time of Gaussian exploration noise, in [0, 1): 0 is white noise; each action keeps
    /// its distribution, only successive ones become alike (after Hollenstein et al. 2024, arXiv:2312.11091).
    pub noise_correlation: f64,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub net: Net,
}

impl Default for OnPolicy {
    fn default() -> Self {
        Self {
            num_envs: 1,
            horizon: 2048,
            gamma: 0.99,
            gae_lambda: 0.95,
            time_limit: TimeLimit::Bootstrap,
            normalize_obs: false,
            normalize_reward: false,
            noise_correlation: 0.0,
            net: Net::default(),
        }
    }
}

impl OnPolicy {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the first key that is out of range.
    pub fn validate(&self) -> Result<(), BuildError> {
        use crate::config::{at_least, within};
        at_least("num_envs", self.num_envs, 1)?;
        at_least("horizon", self.horizon, 1)?;
        within("gamma", self.gamma, 0.0, 1.0)?;
        within("gae_lambda", self.gae_lambda, 0.0, 1.0)?;
        within("noise_correlation", self.noise_correlation, 0.0, 0.999_999)?;
        within("log_std_init", self.net.log_std_init, -20.0, 10.0)?;
        for size in &self.net.hidden {
            at_least("hidden", *size, 1)?;
        }
        Ok(())
    }
}

/// One batch of experience on the device; B = T·N, time-major.
pub struct Batch {
    /// Number of rows, B.
    pub len: usize,
    /// s, `[B, O]`.
    pub obs: Tensor<2>,
    /// a, unclipped, `[B, action_len]`.
    pub actions: Tensor<2>,
    /// π_old(·|s).
    pub dist_old: Dist,
    /// ln π_old(a|s), `[B]`.
    pub log_prob_old: Tensor<1>,
    /// V_old(s), `[B]`.
    pub value_old: Tensor<1>,
    /// Â, not normalised, `[B]`.
    pub advantage: Tensor<1>,
    /// R = Â + V_old, `[B]`.
    pub ret: Tensor<1>,
    /// Share of the returns' variance that V_old explains.
    pub explained_variance: Option<f64>,
}

impl Batch {
    /// r = π(a|s) / π_old(a|s), `[B]`, for a π on the autodiff graph.
    pub fn ratio(&self, dist: &Dist) -> Tensor<1> {
        (dist.log_prob(&constant(&self.actions)) - constant(&self.log_prob_old)).exp()
    }

    /// Every n-th observation, `[⌈B/n⌉, O]`.
    pub fn every(&self, n: usize) -> Tensor<2> {
        if n == 1 {
            return self.obs.clone();
        }
        let rows: Vec<i32> = (0..self.len as i32).step_by(n).collect();
        let count = rows.len();
        let data = burn::tensor::TensorData::new(rows, [count]);
        self.obs.clone().select(0, Tensor::from_data(data, &self.obs.device()))
    }

    /// The rows of a minibatch; the explained variance stays that of the whole batch.
    pub fn select(&self, rows: &Tensor<1, burn::tensor::Int>) -> Self {
        let vector = |t: &Tensor<1>| t.clone().select(0, rows.clone());
        Self {
            len: rows.dims()[0],
            obs: self.obs.clone().select(0, rows.clone()),
            actions: self.actions.clone().select(0, rows.clone()),
            dist_old: self.dist_old.select(rows),
            log_prob_old: vector(&self.log_prob_old),
            value_old: vector(&self.value_old),
            advantage: vector(&self.advantage),
            ret: vector(&self.ret),
            explained_variance: self.explained_variance,
        }
    }
}

/// Policy, critic and collector of an on-policy agent.
pub struct ActorCritic {
    /// Settings.
    pub config: OnPolicy,
    /// π_θ.
    pub policy: Policy,
    /// V_φ.
    pub critic: Critic,
    /// Iterations done, k.
    pub iteration: u64,
    /// Iterations planned, K.
    pub iterations: u64,
    collector: Collector,
    minibatch_rng: Rng,
    device: Device,
    obs_len: usize,
}

impl ActorCritic {
    /// Fresh networks for a task with one agent.
    ///
    /// # Errors
    /// When a setting is out of range or the task is none that on-policy agents can act in.
    pub fn new(config: OnPolicy, setup: &Setup) -> Result<Self, BuildError> {
        config.validate()?;
        let (spec, seed, device) = (setup.spec, setup.seed, &setup.device);
        let head = head_for(spec)?;
        let obs_len = spec.obs_len();
        let n = config.num_envs;
        let collector = Collector::new(
            seed,
            n,
            head.extra_params(),
            config.noise_correlation,
            ObsNormalizer::new(obs_len, config.normalize_obs),
            RewardScaler::new(n, config.gamma, config.normalize_reward),
        );
        let init = |index| rng::stream(seed, Purpose::Init, index);
        Ok(Self {
            policy: Policy::new(head, obs_len, &config.net, &mut init(0), device),
            critic: Critic::new(obs_len, &config.net, &mut init(1), device),
            iteration: 0,
            iterations: setup.total_steps / (n * config.horizon) as u64,
            collector,
            minibatch_rng: rng::stream(seed, Purpose::Minibatch, 0),
            device: device.clone(),
            obs_len: obs_len * n,
            config,
        })
    }

    /// Environment steps of one iteration.
    pub fn batch_len(&self) -> usize {
        self.config.num_envs * self.config.horizon
    }

    /// Acts for T steps and estimates advantages and returns of the batch.
    ///
    /// # Errors
    /// When an observation or a reward is not finite.
    pub fn collect(&mut self, envs: &mut VecEnv) -> Result<Batch, AgentError> {
        let n = envs.len();
        let columns = envs.spec().obs_len();
        let rollout = self.collector.collect(&self.policy, envs, self.config.horizon)?;
        let len = rollout.rewards.len();

        // One pass of the critic over s_0 … s_T and the final observations of truncated episodes.
        let mut all_obs = rollout.obs;
        all_obs.extend_from_slice(&rollout.last_obs);
        all_obs.extend_from_slice(&rollout.final_obs);
        let all_obs = self.device.matrix(all_obs, columns); // [B + N + F, O]
        let all_values = to_host(self.critic.values(all_obs.clone()));
        let obs = all_obs.narrow(0, 0, len); // [B, O]
        let values = &all_values[..len];

        let mut final_values = all_values[len + n..].iter();
        let bootstrap = self.config.time_limit == TimeLimit::Bootstrap;
        let next_values: Vec<f32> = (0..len)
            .map(|i| match (rollout.terminated[i], rollout.truncated[i]) {
                (true, _) => 0.0,
                (_, true) => *final_values.next().filter(|_| bootstrap).unwrap_or(&0.0),
                _ => all_values[i + n],
            })
            .collect();
        let ended: Vec<bool> =
            rollout.terminated.iter().zip(&rollout.truncated).map(|(a, b)| *a || *b).collect();
        let trajectory =
            Trajectory { rewards: &rollout.rewards, values, next_values: &next_values, ended: &ended };
        let (advantages, returns) = gae(&trajectory, n, self.config.gamma, self.config.gae_lambda);

        let actions = self.device.matrix(rollout.actions, self.policy.head().action_len());
        let dist_old = self.policy.dist(&obs);
        Ok(Batch {
            len,
            log_prob_old: dist_old.log_prob(&actions),
            value_old: self.device.vector(values.to_vec()),
            explained_variance: explained_variance(values, &returns),
            advantage: self.device.vector(advantages),
            ret: self.device.vector(returns),
            obs,
            actions,
            dist_old,
        })
    }

    /// Rows 0..`len` in random order, cut into minibatches of `size` (the last may be smaller).
    pub fn minibatches(&mut self, len: usize, size: usize) -> Vec<Tensor<1, burn::tensor::Int>> {
        let mut order: Vec<u32> = (0..len as u32).collect();
        order.shuffle(&mut self.minibatch_rng);
        order.chunks(size).map(|rows| self.device.indices(rows)).collect()
    }

    /// Fits V to the returns: `epochs` passes over shuffled minibatches of mean-squared-error descent,
    /// [`value_loss`] with `clip`. Returns the mean loss, `[1]`.
    pub fn fit_critic(&mut self, batch: &Batch, adam: &mut Adam, fit: &CriticFit, lr: f64) -> Tensor<1> {
        let mut losses = Vec::new();
        for _ in 0..fit.epochs {
            for rows in self.minibatches(batch.len, fit.minibatch) {
                let obs = batch.obs.clone().select(0, rows.clone());
                let ret = batch.ret.clone().select(0, rows.clone());
                let value_old = batch.value_old.clone().select(0, rows);
                let grad = self.critic.grad(&obs, |values| {
                    let loss = value_loss(values, &ret, &value_old, fit.clip);
                    losses.push(loss.clone().inner());
                    loss
                });
                self.critic.set_params(adam.step(self.critic.params(), grad, lr));
            }
        }
        mean_of(losses)
    }

    /// Ends an iteration: refreshes the acting copy, counts, and completes `metrics` with what holds for the
    /// whole batch after the update.
    pub fn finish(&mut self, batch: &Batch, clip: f64, grad_norm: Tensor<1>, metrics: Metrics) -> Metrics {
        self.policy.refresh();
        self.iteration += 1;
        let dist = self.policy.dist(&batch.obs);
        let ratio = (dist.log_prob(&batch.actions) - batch.log_prob_old.clone()).exp(); // [B]
        let clipped = (ratio.clone() - 1.0).abs().greater_scalar(clip).float().mean();
        let value_error = (self.critic.values(batch.obs.clone()) - batch.ret.clone()).square().mean();
        let [policy_loss, value_loss, kl, entropy, clip_fraction, grad_norm] = read([
            -(ratio * standardized(batch.advantage.clone(), 1e-8)).mean(),
            value_error,
            batch.dist_old.kl(&dist).mean(),
            dist.entropy().mean(),
            clipped,
            grad_norm,
        ]);
        Metrics {
            policy_loss: Some(policy_loss),
            value_loss: Some(value_loss),
            kl: Some(kl),
            entropy: Some(entropy),
            clip_fraction: Some(clip_fraction),
            explained_variance: batch.explained_variance,
            grad_norm: Some(grad_norm),
            action_std: self.policy.action_std(),
            ..metrics
        }
    }

    /// The most likely actions `[rows, action_len]` for raw observations `[rows, O]`.
    pub fn greedy(&self, obs: &[f32], actions: &mut [f32]) {
        let mut normalized = Vec::with_capacity(obs.len());
        self.collector.normalized(obs, &mut normalized);
        self.policy.greedy(&normalized, &mut super::policy::Scratch::default(), actions);
    }

    /// Saves networks, normalisers, streams and counters.
    pub fn save(&self, state: &mut State) {
        self.policy.save("policy", state);
        self.critic.save("critic", state);
        let mut collector = State::new();
        self.collector.save(&mut collector);
        state.put_state("collector", collector);
        rng::save(&self.minibatch_rng, "minibatch_rng", state);
        state.put_u64("iteration", &[self.iteration]);
    }

    /// Restores what [`Self::save`] wrote.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.policy.load("policy", state)?;
        self.critic.load("critic", state)?;
        self.collector.load(&state.state("collector"), self.obs_len)?;
        self.minibatch_rng = rng::load("minibatch_rng", state)?;
        self.iteration = state.u64("iteration", 1)?[0];
        Ok(())
    }
}

/// How TRPO and MDPO fit the critic after the policy step.
#[derive(Clone, Copy, Debug)]
pub struct CriticFit {
    /// Passes over the batch.
    pub epochs: usize,
    /// Rows of a minibatch.
    pub minibatch: usize,
    /// Largest change of a value that still lowers the loss; 0 leaves the loss unclipped.
    pub clip: f64,
}

/// Mean squared error of values `[B]` against returns; with `clip` > 0 the larger of it and the error of
/// V_old + clip(V − V_old, ±clip), element by element.
pub fn value_loss(values: &Tensor<1>, ret: &Tensor<1>, value_old: &Tensor<1>, clip: f64) -> Tensor<1> {
    let (ret, value_old) = (constant(ret), constant(value_old));
    let error = (values.clone() - ret.clone()).square();
    if clip <= 0.0 {
        return error.mean();
    }
    let near = (values.clone() - value_old.clone()).clamp(-clip, clip) + value_old;
    error.max_pair((near - ret).square()).mean()
}

/// (A − mean) / (std + ε) over a batch of advantages, with the sample standard deviation.
pub fn standardized(advantage: Tensor<1>, epsilon: f64) -> Tensor<1> {
    let n = advantage.dims()[0] as f64;
    let centred = advantage.clone() - advantage.mean();
    let variance = centred.clone().square().sum() * (1.0 / (n - 1.0).max(1.0));
    centred / (variance.sqrt() + epsilon)
}

/// A tensor as a constant of an autodiff graph.
pub fn constant<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    tensor.clone().autodiff()
}

/// Mean of scalars `[1]`, without reading them back.
pub fn mean_of(scalars: Vec<Tensor<1>>) -> Tensor<1> {
    Tensor::cat(scalars, 0).mean()
}

/// Reads scalars `[1]` back in one transfer.
pub fn read<const N: usize>(scalars: [Tensor<1>; N]) -> [f64; N] {
    let values = to_host(Tensor::cat(scalars.to_vec(), 0));
    std::array::from_fn(|i| values.get(i).map_or(f64::NAN, |v| f64::from(*v)))
}

fn head_for(spec: &Spec) -> Result<Head, BuildError> {
    let cannot = |why: String| BuildError::CannotAct { env: spec.id.clone(), why };
    let [agent] = spec.agents.as_slice() else {
        return Err(cannot(format!("it has {} agents and this agent plays one", spec.agents.len())));
    };
    Head::for_space(&agent.action).filter(|h| h.outputs() > 0).ok_or_else(|| {
        cannot(format!("its action space is {} and this agent has no head for it", agent.action))
    })
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::super::testing::{close, normals};
    use super::*;
    use steadfast_envs::{Space, make, probe};

    fn endless(time_limit: TimeLimit, horizon: usize, lambda: f64) -> (ActorCritic, VecEnv) {
        let make = || make("probe/endless").unwrap();
        let config = OnPolicy { num_envs: 2, horizon, gae_lambda: lambda, time_limit, ..OnPolicy::default() };
        let envs = VecEnv::new(&make, 2, 3, Purpose::Env, 1);
        let setup = Setup { spec: envs.spec(), seed: 3, total_steps: 1000, device: Device::cpu() };
        (ActorCritic::new(config, &setup).unwrap(), envs)
    }

    /// With λ = 0 the return is r + γ V(next): `next` is the observation that follows, or the final one.
    #[test]
    fn returns_bootstrap_from_the_observation_that_an_episode_was_cut_at() {
        const T: usize = 2 * probe::ENDLESS_STEPS + 3;
        for time_limit in [TimeLimit::Bootstrap, TimeLimit::Terminal] {
            let (mut core, mut envs) = endless(time_limit, T, 0.0);
            let batch = core.collect(&mut envs).unwrap();
            // The task ignores actions: a second copy replays the same observations.
            let (_, mut replay) = endless(time_limit, T, 0.0);
            let value = |obs: &[f32]| to_host(core.critic.values(Device::cpu().matrix(obs.to_vec(), 1)));
            let mut expected = Vec::new();
            for _ in 0..T {
                replay.step(&[0.0; 2]);
                let (next, last) = (value(replay.obs()), value(replay.final_obs()));
                for i in 0..2 {
                    expected.push(match (replay.truncated()[i], time_limit) {
                        (false, _) => 1.0 + 0.99 * next[i],
                        (true, TimeLimit::Bootstrap) => 1.0 + 0.99 * last[i],
                        (true, TimeLimit::Terminal) => 1.0,
                    });
                }
            }
            close(&to_host(batch.ret.clone()), &expected, 1e-5);
            let advantage = to_host(batch.ret - batch.value_old);
            close(&to_host(batch.advantage), &advantage, 1e-5);
        }
    }

    /// A sum that ran on from one episode into the next would exceed what ten steps can pay.
    #[test]
    fn advantages_do_not_cross_episodes() {
        let (mut core, mut envs) = endless(TimeLimit::Terminal, 3 * probe::ENDLESS_STEPS, 1.0);
        core.critic.set_params(core.critic.params() * 0.0);
        let returns = to_host(core.collect(&mut envs).unwrap().ret);
        for (i, ret) in returns.iter().enumerate() {
            let left = (probe::ENDLESS_STEPS - i / 2 % probe::ENDLESS_STEPS) as i32;
            let expected = (1.0 - 0.99f64.powi(left)) / 0.01;
            assert!((f64::from(*ret) - expected).abs() < 1e-4, "row {i}: {ret}, not {expected}");
        }
    }

    #[test]
    fn rows_of_a_batch_belong_together() {
        let make = || make("probe/identity-continuous").unwrap();
        let mut envs = VecEnv::new(&make, 3, 0, Purpose::Env, 1);
        let config =
            OnPolicy { num_envs: 3, horizon: 20, gae_lambda: 0.0, gamma: 0.0, ..OnPolicy::default() };
        let setup = Setup { spec: envs.spec(), seed: 0, total_steps: 1000, device: Device::cpu() };
        let mut core = ActorCritic::new(config, &setup).unwrap();
        let batch = core.collect(&mut envs).unwrap();
        // With γ = 0 the return is the reward, which says what was seen and done.
        let (obs, actions, ret) =
            (to_host(batch.obs.clone()), to_host(batch.actions.clone()), to_host(batch.ret.clone()));
        assert!(actions.iter().any(|a| a.abs() > 1.0), "actions are stored unclipped");
        for i in 0..batch.len {
            let cost = |d: usize| (actions[2 * i + d].clamp(-1.0, 1.0) - obs[2 * i + d]).powi(2);
            close(&[ret[i]], &[-(cost(0) + cost(1))], 1e-5);
        }
        let dist = core.policy.dist(&batch.obs);
        close(&to_host(batch.log_prob_old.clone()), &to_host(dist.log_prob(&batch.actions)), 1e-6);
        close(&to_host(batch.value_old.clone()), &to_host(core.critic.values(batch.obs.clone())), 1e-5);

        let mb = batch.select(&Device::cpu().indices(&[7, 2]));
        assert_eq!(to_host(mb.obs), [&obs[14..16], &obs[4..6]].concat());
        assert_eq!(to_host(mb.actions.clone()), [&actions[14..16], &actions[4..6]].concat());
        assert_eq!(to_host(mb.ret), [ret[7], ret[2]]);
        close(&to_host(mb.dist_old.log_prob(&mb.actions)), &to_host(mb.log_prob_old), 1e-6);
        let every = to_host(batch.every(25));
        assert_eq!(every, [&obs[..2], &obs[50..52], &obs[100..102]].concat());
    }

    #[test]
    fn minibatches_hold_every_row_once_in_a_new_order() {
        let (mut core, _) = endless(TimeLimit::Bootstrap, 5, 0.95);
        let mut draw = || -> Vec<Vec<i32>> {
            let rows = core.minibatches(10, 4).into_iter();
            rows.map(|rows| rows.into_data().try_into_vec::<i32>().unwrap()).collect()
        };
        let (first, second) = (draw(), draw());
        assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
        for minibatches in [&first, &second] {
            let mut all = minibatches.concat();
            all.sort_unstable();
            assert_eq!(all, (0..10).collect::<Vec<i32>>());
        }
        assert_ne!(first, second);
    }

    #[test]
    fn value_loss_follows_its_definition() {
        let device = Device::cpu();
        let n = 40;
        let [v, r, old] = [1, 2, 3].map(|i| normals(n, i));
        for clip in [0.0, 0.3] {
            let expected: f64 = (0..n)
                .map(|i| {
                    let [v, r, old] = [v[i], r[i], old[i]].map(f64::from);
                    let near = old + (v - old).clamp(-clip, clip);
                    if clip > 0.0 { (v - r).powi(2).max((near - r).powi(2)) } else { (v - r).powi(2) }
                })
                .sum::<f64>()
                / n as f64;
            let [v, r, old] = [&v, &r, &old].map(|x| device.vector(x.clone()));
            let loss = value_loss(&constant(&v), &r, &old, clip);
            assert_eq!(loss.dims(), [1]);
            close(&to_host(loss.inner()), &[expected], 1e-5);
        }
    }

    #[test]
    fn standardized_uses_the_sample_deviation() {
        let values = [3.0, -1.0, 4.0, 2.0];
        let device = Device::cpu();
        let (mean, std) = (2.0, (14.0f64 / 3.0).sqrt());
        let expected: Vec<f64> = values.iter().map(|v| (f64::from(*v) - mean) / std).collect();
        close(&to_host(standardized(device.vector(values.to_vec()), 1e-8)), &expected, 1e-6);
        assert_eq!(to_host(standardized(device.vector(vec![5.0]), 1e-8)), [0.0], "one row, no NaN");
        assert_eq!(to_host(standardized(device.vector(vec![2.0; 3]), 1e-8)), [0.0; 3]);
    }

    #[test]
    fn tasks_that_no_head_fits_are_refused() {
        let plain = make("CartPole-v1").unwrap().spec().clone();
        let refused = |spec: &Spec| {
            let setup = Setup { spec, seed: 0, total_steps: 1000, device: Device::cpu() };
            ActorCritic::new(OnPolicy::default(), &setup).err().unwrap().to_string()
        };
        let mut hybrid = plain.clone();
        hybrid.agents[0].action = Space::Hybrid(vec![Space::Discrete(2), Space::uniform(1, -1.0, 1.0)]);
        let error = refused(&hybrid);
        assert!(error.contains("cannot act in 'CartPole-v1'") && error.contains("Hybrid"), "{error}");
        let mut pair = plain.clone();
        pair.agents.push(plain.agents[0].clone());
        assert!(refused(&pair).contains("it has 2 agents"));
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let refused = |config: OnPolicy| config.validate().unwrap_err().to_string();
        let base = OnPolicy::default;
        assert!(refused(OnPolicy { gamma: 1.1, ..base() }).contains("'gamma'"));
        assert!(refused(OnPolicy { gae_lambda: -0.1, ..base() }).contains("'gae_lambda'"));
        assert!(refused(OnPolicy { noise_correlation: 1.0, ..base() }).contains("'noise_correlation'"));
        assert!(refused(OnPolicy { horizon: 0, ..base() }).contains("'horizon'"));
        let net = Net { hidden: vec![8, 0], ..Net::default() };
        assert!(refused(OnPolicy { net, ..base() }).contains("'hidden'"));
        assert!(OnPolicy::default().validate().is_ok());
    }
}
