//! What PPO, TRPO and MDPO have in common: one actor, one critic, one way to collect a batch.
//!
//! They differ only in their update, so that a comparison compares updates.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use steadfast_envs::rng::{self, Purpose, Rng};
use steadfast_envs::{AgentSpec, Spec, State, VecEnv};

use super::adam::Adam;
use super::advantages::{Trajectory, explained_variance, gae};
use super::batch::{Batch, HostRows, Rows, TensorRows};
use super::device::Device;
use super::dist::Head;
use super::loss::SquaredError;
use super::network::{Heads, Workspace};
use super::normalize::{ObsNormalizer, RewardScaler};
use super::policy::{Critic, Net, Policy};
use super::profile::{self, Stage};
use super::rollout::{Collector, Rollout};
use super::weights::{Scalar, Vector, read_both};
use crate::{Acting, AgentError, BuildError, Metrics, Seen, Setup};

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
        use crate::config::{rollout, widths, within};
        rollout(self.num_envs, self.horizon)?;
        within("gamma", self.gamma, 0.0, 1.0)?;
        within("gae_lambda", self.gae_lambda, 0.0, 1.0)?;
        within("noise_correlation", self.noise_correlation, 0.0, 0.999_999)?;
        within("log_std_init", self.net.log_std_init, -20.0, 10.0)?;
        widths("hidden", &self.net.hidden)
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
    rollout: Rollout,
    estimates: Estimates,
    /// The batch of the last iteration, for its buffers.
    spare: Option<Batch>,
    /// Normalised observations and buffers of evaluation.
    evaluation: RefCell<(Vec<f32>, Workspace)>,
}

/// What the advantage estimator works on, kept for its buffers; `[T, N]` each.
#[derive(Default)]
pub(super) struct Estimates {
    /// V(s_0) … V(s_T), then of the final observations.
    pub values: Vec<f32>,
    next_values: Vec<f32>,
    ended: Vec<bool>,
    running: Vec<f64>,
    /// Â
    pub advantages: Vec<f32>,
    /// R
    pub returns: Vec<f32>,
}

impl Estimates {
    /// Advantages and returns of a rollout of `n` copies, with V of observations from `critic`, which adds them to its
    /// second argument.
    pub fn estimate(
        &mut self,
        rollout: &mut Rollout,
        n: usize,
        config: &OnPolicy,
        critic: impl FnOnce(&[f32], &mut Vec<f32>),
    ) {
        let len = rollout.rewards.len();
        // The critic at s_0 … s_T and at the final observations of truncated episodes.
        self.values.clear();
        // One call and one transfer: a device waits for neither.
        rollout.obs.extend_from_slice(&rollout.last_obs);
        rollout.obs.extend_from_slice(&rollout.final_obs);
        critic(&rollout.obs, &mut self.values);
        rollout.obs.truncate(len * rollout.last_obs.len() / n);

        let (values, later) = self.values.split_at(len);
        let mut final_values = later[n..].iter();
        let bootstrap = config.time_limit == TimeLimit::Bootstrap;
        self.next_values.clear();
        self.next_values.extend((0..len).map(|i| match (rollout.terminated[i], rollout.truncated[i]) {
            (true, _) => 0.0,
            (_, true) => *final_values.next().filter(|_| bootstrap).unwrap_or(&0.0),
            _ => self.values[i + n],
        }));
        self.ended.clear();
        self.ended.extend(rollout.terminated.iter().zip(&rollout.truncated).map(|(a, b)| *a || *b));
        let trajectory = Trajectory {
            rewards: &rollout.rewards,
            values,
            next_values: &self.next_values,
            ended: &self.ended,
        };
        let (gamma, lambda) = (config.gamma, config.gae_lambda);
        gae(&trajectory, n, gamma, lambda, &mut self.running, &mut self.advantages, &mut self.returns);
    }
}

impl ActorCritic {
    /// Fresh networks for a task with one agent.
    ///
    /// # Errors
    /// When a setting is out of range or the task is none that on-policy agents can act in.
    pub fn new(config: OnPolicy, heads: &Heads, setup: &Setup) -> Result<Self, BuildError> {
        config.validate()?;
        heads.validate()?;
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
            policy: Policy::with_heads(head, obs_len, &config.net, heads, &mut init(0), device),
            critic: Critic::with_heads(obs_len, &config.net, heads, &mut init(1), device),
            iteration: 0,
            iterations: setup.total_steps / (n * config.horizon) as u64,
            collector,
            minibatch_rng: rng::stream(seed, Purpose::Minibatch, 0),
            device: device.clone(),
            obs_len: obs_len * n,
            rollout: Rollout::default(),
            estimates: Estimates::default(),
            spare: None,
            evaluation: RefCell::default(),
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
        self.collector.collect(&self.policy, envs, self.config.horizon, &mut self.rollout)?;
        profile::enter(Stage::Advantages);
        let rollout = &mut self.rollout;
        let len = rollout.rewards.len();

        let (critic, device) = (&mut self.critic, &self.device);
        let e = &mut self.estimates;
        e.estimate(rollout, n, &self.config, |obs, out| critic.values(obs, out, device));
        let values = &e.values[..len];
        let explained = explained_variance(values, &e.returns);
        let spare = self.spare.take();
        let batch = match &self.policy.weights.params {
            Vector::Host(_) => {
                let mut batch = spare.unwrap_or_else(|| Batch::new(Rows::Host(HostRows::default()), None));
                if let Rows::Host(rows) = &mut batch.rows {
                    std::mem::swap(&mut rows.obs, &mut rollout.obs);
                    std::mem::swap(&mut rows.masks, &mut rollout.masks);
                    std::mem::swap(&mut rows.actions, &mut rollout.actions);
                    std::mem::swap(&mut rows.advantage, &mut e.advantages);
                    std::mem::swap(&mut rows.ret, &mut e.returns);
                    rows.value_old.clear();
                    rows.value_old.extend_from_slice(values);
                    self.policy.remember(rows);
                }
                batch.explained_variance = explained;
                batch
            }
            Vector::Tensor(params) => {
                let device = &self.device;
                let obs = device.matrix(rollout.obs.clone(), self.obs_len / n); // [B, O]
                let actions = device.matrix(rollout.actions.clone(), self.policy.head().action_len());
                let forbidden = self.policy.head().forbidden(&rollout.masks, device);
                let dist_old = self.policy.dist(params, &obs, forbidden.as_ref());
                let rows = TensorRows {
                    log_prob_old: dist_old.log_prob(&actions),
                    value_old: device.vector(values.to_vec()),
                    advantage: device.vector(e.advantages.clone()),
                    ret: device.vector(e.returns.clone()),
                    obs,
                    forbidden,
                    actions,
                    dist_old,
                };
                Batch::new(Rows::Tensor(rows), explained)
            }
        };
        profile::enter(Stage::Update);
        Ok(batch)
    }

    /// Draws the minibatches that [`Batch::minibatch`] hands out: `epochs` passes in random orders.
    pub fn shuffle(&mut self, batch: &mut Batch, epochs: usize, minibatch: usize) {
        batch.shuffle(epochs, minibatch, &mut self.minibatch_rng, &self.device);
    }

    /// Fits V to the returns: `epochs` passes over shuffled minibatches of mean-squared-error descent.
    pub fn fit_critic(&mut self, batch: &mut Batch, adam: &mut Adam, fit: &CriticFit, lr: f64) {
        self.shuffle(batch, fit.epochs, fit.minibatch);
        while let Some(mb) = batch.minibatch() {
            self.critic.grad(mb, &SquaredError { clip: fit.clip, weight: 1.0 });
            adam.step(&mut self.critic.weights, lr);
        }
    }

    /// Ends an iteration: refreshes the acting copy, counts, and completes the `metrics` that the agent makes of its
    /// `own` numbers with what holds for the whole batch after the update. All are read in one transfer.
    pub fn finish<const N: usize>(
        &mut self,
        mut batch: Batch,
        clip: f64,
        own: [Scalar; N],
        metrics: impl FnOnce([f64; N]) -> Metrics,
    ) -> Metrics {
        self.policy.refresh();
        self.iteration += 1;
        batch.rows.standardize_advantage(1e-8);
        let after = self.policy.compare(&batch.rows, clip);
        let (feature_norm, gate) = self.policy.feature_means();
        let value_error = self.critic.error(&batch.rows);
        let of_all = [after.surrogate, value_error, after.kl_old_new, after.entropy, after.clip_fraction];
        let ([surrogate, value_loss, kl, entropy, clip_fraction], own) = read_both(of_all, own);
        let explained_variance = batch.explained_variance;
        self.spare = Some(batch);
        Metrics {
            policy_loss: Some(-surrogate),
            value_loss: Some(value_loss),
            kl: Some(kl),
            entropy: Some(entropy),
            clip_fraction: Some(clip_fraction),
            explained_variance,
            action_std: self.policy.action_std(),
            feature_norm,
            gate,
            ..metrics(own)
        }
    }

    /// Actions `[rows, action_len]` for what is seen, picked as `how` says.
    pub fn pick(&self, seen: &Seen, how: Acting, actions: &mut [f32], rng: &mut Rng) {
        let (normalized, work) = &mut *self.evaluation.borrow_mut();
        normalized.clear();
        self.collector.normalized(seen.obs, normalized);
        self.policy.pick(normalized, seen.masks, how, rng, work, actions);
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

pub(super) fn head_for(spec: &Spec) -> Result<Head, BuildError> {
    head_of(spec, only_agent(spec)?)
}

/// The head of one agent of a task.
pub(super) fn head_of(spec: &Spec, agent: &AgentSpec) -> Result<Head, BuildError> {
    let head = Head::for_space(&agent.action);
    if head.outputs() > 0 {
        return Ok(head);
    }
    Err(BuildError::CannotAct {
        env: spec.id.clone(),
        why: format!("the action space of '{}' is {}: there is nothing to choose", agent.name, agent.action),
    })
}

/// The one agent of a plain task.
///
/// # Errors
/// [`BuildError::CannotAct`] for a task with several.
pub fn only_agent(spec: &Spec) -> Result<&AgentSpec, BuildError> {
    match spec.agents.as_slice() {
        [agent] => Ok(agent),
        agents => Err(BuildError::CannotAct {
            env: spec.id.clone(),
            why: format!("it has {} agents and this agent plays one", agents.len()),
        }),
    }
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::super::mlp::Activation;
    use super::super::testing::{advantages, close, devices, policy_on, rows};
    use super::*;
    use steadfast_envs::{Space, make, probe};

    fn host(batch: &Batch) -> &HostRows {
        let Rows::Host(rows) = &batch.rows else { panic!("on the CPU") };
        rows
    }

    fn endless(time_limit: TimeLimit, horizon: usize, lambda: f64) -> (ActorCritic, VecEnv) {
        let make = || make("probe/endless").unwrap();
        let config = OnPolicy { num_envs: 2, horizon, gae_lambda: lambda, time_limit, ..OnPolicy::default() };
        let envs = VecEnv::new(&make, 2, 3, Purpose::Env, 1);
        let setup = Setup { spec: envs.spec(), seed: 3, total_steps: 1000, device: Device::cpu() };
        (ActorCritic::new(config, &Heads::default(), &setup).unwrap(), envs)
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
            let mut value = |obs: &[f32]| {
                let mut values = Vec::new();
                core.critic.values(obs, &mut values, &Device::cpu());
                values
            };
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
            let rows = host(&batch);
            close(&rows.ret, &expected, 1e-5);
            let advantage: Vec<f32> = rows.ret.iter().zip(&rows.value_old).map(|(r, v)| r - v).collect();
            close(&rows.advantage, &advantage, 1e-5);
        }
    }

    /// A sum that ran on from one episode into the next would exceed what ten steps can pay.
    #[test]
    fn advantages_do_not_cross_episodes() {
        let (mut core, mut envs) = endless(TimeLimit::Terminal, 3 * probe::ENDLESS_STEPS, 1.0);
        core.critic.weights.set(vec![0.0; core.critic.len()]);
        let batch = core.collect(&mut envs).unwrap();
        for (i, ret) in host(&batch).ret.iter().enumerate() {
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
        let mut core = ActorCritic::new(config, &Heads::default(), &setup).unwrap();
        let mut batch = core.collect(&mut envs).unwrap();
        // With γ = 0 the return is the reward, which says what was seen and done.
        let all = host(&batch).clone();
        assert!(all.actions.iter().any(|a| a.abs() > 1.0), "actions are stored unclipped");
        for i in 0..60 {
            let cost = |d: usize| (all.actions[2 * i + d].clamp(-1.0, 1.0) - all.obs[2 * i + d]).powi(2);
            close(&[all.ret[i]], &[-(cost(0) + cost(1))], 1e-5);
        }
        let mut values = Vec::new();
        core.critic.values(&all.obs, &mut values, &Device::cpu());
        assert_eq!(all.value_old, values);

        // Minibatches hold every row once an epoch, whole, in a new order each time.
        let mut seen = Vec::new();
        let mut sizes = Vec::new();
        core.shuffle(&mut batch, 2, 25);
        while let Some(Rows::Host(mb)) = batch.minibatch() {
            sizes.push(mb.advantage.len());
            for i in 0..mb.advantage.len() {
                let from = all.advantage.iter().position(|a| *a == mb.advantage[i]).unwrap();
                seen.push(from);
                let pair = |x: &[f32], i: usize| [x[2 * i], x[2 * i + 1]];
                assert_eq!(pair(&mb.obs, i), pair(&all.obs, from));
                assert_eq!(pair(&mb.actions, i), pair(&all.actions, from));
                assert_eq!(pair(&mb.old, i), pair(&all.old, from));
                assert_eq!(mb.log_prob_old[i], all.log_prob_old[from]);
                assert_eq!((mb.ret[i], mb.value_old[i]), (all.ret[from], all.value_old[from]));
            }
            mb.advantage.fill(0.0); // of the copy, not of the batch
        }
        assert_eq!(sizes, [25, 25, 10, 25, 25, 10]);
        let (first, second) = seen.split_at(60);
        assert_ne!(first, second);
        for epoch in [first, second] {
            let mut rows = epoch.to_vec();
            rows.sort_unstable();
            assert_eq!(rows, (0..60).collect::<Vec<usize>>());
        }
    }

    #[test]
    fn standardized_advantages_have_the_sample_deviation() {
        for device in devices() {
            let standardized = |advantage: Vec<f32>| {
                let n = advantage.len();
                let mut policy = policy_on(&device, Head::Gaussian { dim: 1 }, 1, &[], Activation::Tanh);
                let mut rows = rows(&mut policy, vec![0.0; n], vec![0.0; n], advantage);
                rows.standardize_advantage(1e-8);
                advantages(&rows)
            };
            let values = [3.0, -1.0, 4.0, 2.0];
            let (mean, std) = (2.0, (14.0f64 / 3.0).sqrt());
            let expected: Vec<f64> = values.iter().map(|v| (f64::from(*v) - mean) / std).collect();
            close(&standardized(values.to_vec()), &expected, 1e-6);
            assert_eq!(standardized(vec![5.0]), [0.0], "one row, no NaN");
            assert_eq!(standardized(vec![2.0; 3]), [0.0; 3]);
        }
    }

    #[test]
    fn tasks_without_a_choice_or_with_several_agents_are_refused() {
        let plain = make("CartPole-v1").unwrap().spec().clone();
        let refused = |spec: &Spec| {
            let setup = Setup { spec, seed: 0, total_steps: 1000, device: Device::cpu() };
            ActorCritic::new(OnPolicy::default(), &Heads::default(), &setup).err().unwrap().to_string()
        };
        let mut idle = plain.clone();
        idle.agents[0].action = Space::Hybrid(Vec::new());
        let error = refused(&idle);
        assert!(
            error.contains("cannot act in 'CartPole-v1'") && error.contains("nothing to choose"),
            "{error}"
        );
        let mut pair = plain.clone();
        pair.agents.push(plain.agents[0].clone());
        assert!(refused(&pair).contains("it has 2 agents"));
    }

    /// Masks are stored with the state in which they held: every action of a batch is legal there.
    #[test]
    fn a_batch_holds_the_masks_that_its_actions_keep_to() {
        for device in devices() {
            let mut envs = VecEnv::new(&|| make("uav-harvest").unwrap(), 2, 1, Purpose::Env, 1);
            let spec = envs.spec().clone();
            let setup = Setup { spec: &spec, seed: 1, total_steps: 1000, device };
            let config = OnPolicy { num_envs: 2, horizon: 150, ..OnPolicy::default() };
            let mut core = ActorCritic::new(config, &Heads::default(), &setup).unwrap();
            let batch = core.collect(&mut envs).unwrap();
            let Rows::Host(rows) = &batch.rows else { continue };
            let (space, flags) = (&spec.agents[0].action, spec.mask_len());
            assert!(rows.masks.contains(&false), "a task that forbids nothing tests nothing");
            for (action, mask) in rows.actions.iter().zip(rows.masks.chunks_exact(flags)) {
                assert!(space.allows(&[f64::from(*action)], mask));
            }
            assert_eq!(
                core.policy.head().forbidden(&rows.masks, &setup.device).unwrap().dims(),
                [300, flags]
            );
        }
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let refused = |config: OnPolicy| config.validate().unwrap_err().to_string();
        let base = OnPolicy::default;
        assert!(refused(OnPolicy { gamma: 1.1, ..base() }).contains("'gamma'"));
        assert!(refused(OnPolicy { gae_lambda: -0.1, ..base() }).contains("'gae_lambda'"));
        assert!(refused(OnPolicy { noise_correlation: 1.0, ..base() }).contains("'noise_correlation'"));
        assert!(refused(OnPolicy { horizon: 0, ..base() }).contains("'horizon'"));
        assert!(refused(OnPolicy { horizon: 1 << 40, ..base() }).contains("'horizon'"));
        assert!(refused(OnPolicy { horizon: 1 << 20, num_envs: 1 << 10, ..base() }).contains("'horizon'"));
        for hidden in [vec![8, 0], vec![1_000_000, 8], vec![i64::MAX as usize], vec![1; 17]] {
            let net = Net { hidden, ..Net::default() };
            assert!(refused(OnPolicy { net, ..base() }).contains("'hidden'"));
        }
        assert!(OnPolicy::default().validate().is_ok());
    }
}
