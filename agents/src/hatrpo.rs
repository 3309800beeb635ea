//! Heterogeneous-agent TRPO (HATRPO): a team steps one after another, each with regard to the steps before its own.
//!
//! J. G. Kuba, R. Chen, M. Wen, Y. Wen, F. Sun, J. Wang, Y. Yang, *Trust region policy optimisation in multi-agent
//! reinforcement learning*, 2022, arXiv:2109.11251.
//!
//! For k = 0, 1, … K−1:
//!
//! 1. All players act with their π_old for T steps in N environments; estimate joint advantages Â and returns R (GAE)
//!    from the mean of their rewards and V(s), which sees the central state.
//! 2. M ← Â; draw a random order of the players.
//! 3. For each player i in that order: raise E[r_i M], r_i = π_i(a_i|o_i) / π_i,old(a_i|o_i), by one step of TRPO within
//!    E[KL(π_i,old ‖ π_i)] ≤ δ.
//! 4. M ← r_i M: what the steps so far have made of each joint action (the compound ratio, lemma 1 and proposition 3).
//! 5. Fit V to R.
//!
//! With one player this is TRPO. Deviations: the KL divergence is the exact one for every kind of action, choices and
//! hybrid ones too; the line search accepts what improves E[r_i M] within δ and its slack, as our TRPO does, without a
//! least share of the expected gain; rewards are divided by the running deviation of the return.

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use steadfast_envs::rng::{self, Purpose};
use steadfast_envs::{Rng, State, VecEnv};

use crate::core::adam::Adam;
use crate::core::joint::{Joint, Plan, Reward, View, load_adams, save_adams};
use crate::core::on_policy::OnPolicy;
use crate::core::trust_region::{Steps, TrustRegion, natural_step};
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Players step in an order that is drawn anew for each iteration (paper); otherwise always in the order of the task.
    pub random_order: bool,
    /// Whether policies remember their episodes: an encoder and a gated recurrent unit in the place of the first hidden layer.
    pub recurrent_actor: bool,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub region: TrustRegion,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub on_policy: OnPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            random_order: true,
            recurrent_actor: false,
            region: TrustRegion::default(),
            on_policy: OnPolicy::default(),
        }
    }
}

/// The agent.
pub struct Hatrpo {
    config: Config,
    core: Joint,
    critic_adams: Vec<Adam>,
    order_rng: Rng,
}

impl Hatrpo {
    /// An agent with fresh networks.
    ///
    /// # Errors
    /// When an option is out of range or the agent cannot act in the task.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        config.region.validate()?;
        let plan = Plan {
            view: View::Central,
            reward: Reward::Team,
            share: false,
            recurrent: config.recurrent_actor,
        };
        let core = Joint::new(config.on_policy.clone(), plan, setup)?;
        let (_, critic_adams) = core.optimizers(config.region.adam_epsilon);
        Ok(Self { config, core, critic_adams, order_rng: rng::stream(setup.seed, Purpose::Minibatch, 1) })
    }
}

impl Agent for Hatrpo {
    fn num_envs(&self) -> usize {
        self.config.on_policy.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        self.core.batch_len() as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let Self { config, core, critic_adams, order_rng } = self;
        let c = &config.region;
        let lr = c.critic_lr * c.lr_schedule.factor(core.iteration, core.iterations);
        let max_kl = c.max_kl * c.kl_schedule.factor(core.iteration, core.iterations);

        // 1. All act; joint advantages.
        core.collect(envs)?;
        if c.normalize_advantage {
            core.standardize_advantages();
        }

        // 2. Compound advantages M, and the order of the players.
        let advantage = core.batches[0].rows.host().advantage.clone();
        let (mut compound, mut ratios) = (advantage.clone(), Vec::new());
        let mut order: Vec<usize> = (0..core.policies.len()).collect();
        if config.random_order {
            order.shuffle(order_rng);
        }
        let mut steps = Steps::default();
        for i in order {
            // 3. A trust-region step on E[r M].
            let (policy, rows) = (&mut core.policies[i], &mut core.batches[i].rows);
            rows.host_mut().advantage.clone_from(&compound);
            steps.add(natural_step(policy, rows, c, max_kl));

            // 4. M ← r M.
            policy.ratios(rows.host(), &mut ratios);
            compound.iter_mut().zip(&ratios).for_each(|(m, r)| *m *= r);
            rows.host_mut().advantage.clone_from(&advantage);
        }

        // 5. Fit the value function.
        core.fit_critics(critic_adams, &c.critic_fit(), lr);

        core.finish(0.2, steps.metrics(lr)).finite(envs.steps())
    }

    fn act(&self, seen: &mut Seen, how: Acting, actions: &mut [f32], rng: &mut Rng) {
        self.core.pick(seen, how, actions, rng);
    }

    fn memory_len(&self) -> usize {
        self.core.memory_len()
    }

    fn save(&self) -> State {
        let mut state = State::new();
        self.core.save(&mut state);
        save_adams(&self.critic_adams, "critic_adam", &mut state);
        rng::save(&self.order_rng, "order_rng", &mut state);
        state
    }

    fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.core.load(state)?;
        load_adams(&mut self.critic_adams, "critic_adam", state)?;
        self.order_rng = rng::load("order_rng", state)?;
        Ok(())
    }
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;
    use crate::core::device::{Device, to_host};
    use crate::core::testing::close;
    use crate::core::testing::task;

    fn hatrpo(env: &str, config: Config) -> (Hatrpo, VecEnv) {
        let envs = VecEnv::new(&|| task(env), 4, 2, Purpose::Env, 1);
        let setup = Setup { spec: envs.spec(), seed: 3, total_steps: 10_000, device: Device::cpu() };
        (Hatrpo::new(config, &setup).unwrap(), envs)
    }

    fn config() -> Config {
        let mut config = Config { random_order: false, ..Config::default() };
        (config.on_policy.num_envs, config.on_policy.horizon) = (4, 50);
        config.on_policy.net.hidden = vec![16];
        config.region.max_kl = 0.05;
        config
    }

    /// ln π(a|o) of player `i`'s batch under parameters `theta`, by tensors.
    fn log_probs(agent: &Hatrpo, i: usize, theta: &[f32]) -> Vec<f64> {
        let (device, rows) = (Device::cpu_tensors(), agent.core.batches[i].rows.host());
        let policy = &agent.core.policies[i];
        let head = policy.head();
        let obs = device.matrix(rows.obs.clone(), rows.obs.len() / rows.advantage.len());
        let actions = device.matrix(rows.actions.clone(), head.action_len());
        let forbidden = head.forbidden(&rows.masks, &device);
        let dist = policy.dist(&device.vector(theta.to_vec()), &obs, forbidden.as_ref());
        to_host(dist.log_prob(&actions)).into_iter().map(f64::from).collect()
    }

    /// The last player's step, taken once more from its old policy on Â times the product of the others' ratios.
    #[test]
    fn each_step_regards_the_product_of_the_ratios_before_it() {
        for env in ["particle/spread", "uav-bs/bs-tiny"] {
            let (mut agent, mut envs) = hatrpo(env, config());
            let weights = |agent: &Hatrpo| -> Vec<Vec<f32>> {
                agent.core.policies.iter().map(|p| p.weights.to_host()).collect()
            };
            let old = weights(&agent);
            agent.iterate(&mut envs).unwrap();
            let new = weights(&agent);
            let last = old.len() - 1;
            assert!((0..=last).all(|i| old[i] != new[i]), "{env}: all have stepped");
            let rows = agent.core.batches[0].rows.host().advantage.len();
            let mut product = vec![1.0; rows];
            for i in 0..last {
                let (before, after) = (log_probs(&agent, i, &old[i]), log_probs(&agent, i, &new[i]));
                product.iter_mut().zip(before.iter().zip(after)).for_each(|(m, (a, b))| *m *= (b - a).exp());
            }
            assert!(product.iter().any(|m| (m - 1.0).abs() > 0.05), "{env}: the ratios count");
            let step = |agent: &mut Hatrpo, compound: &[f64]| {
                let (policy, rows) = (&mut agent.core.policies[last], &mut agent.core.batches[last].rows);
                let own = rows.host_mut().advantage.clone();
                let weighted = own.iter().zip(compound).map(|(a, m)| (f64::from(*a) * m) as f32).collect();
                rows.host_mut().advantage = weighted;
                policy.weights.set(old[last].clone());
                natural_step(policy, rows, &agent.config.region, 0.05);
                rows.host_mut().advantage = own;
                policy.weights.to_host()
            };
            close(&step(&mut agent, &product), &new[last], 1e-3);
            let alone = step(&mut agent, &vec![1.0; rows]);
            let distance = alone.iter().zip(&new[last]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(distance > 5e-3, "{env}: without the product the step is another one: {distance}");
        }
    }

    #[test]
    fn every_player_stays_in_its_trust_region_with_any_kind_of_action() {
        for env in ["particle/spread", "HalfCheetah-v5/2x3", "uav-bs/bs-tiny"] {
            let (mut agent, mut envs) = hatrpo(env, config());
            for _ in 0..3 {
                let metrics = agent.iterate(&mut envs).unwrap();
                assert!(metrics.kl.unwrap() > 1e-3, "{env}: {metrics:?}");
                for (policy, batch) in agent.core.policies.iter_mut().zip(&agent.core.batches) {
                    let [kl] = crate::core::weights::read([policy.compare(&batch.rows, 0.2).kl_old_new]);
                    assert!(kl <= 1.5 * 0.05 + 1e-6, "{env}: {kl}");
                }
            }
        }
    }
}
