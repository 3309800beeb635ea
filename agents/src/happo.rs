//! Heterogeneous-agent PPO (HAPPO): a team steps one after another, each with regard to the steps before its own.
//!
//! J. G. Kuba, R. Chen, M. Wen, Y. Wen, F. Sun, J. Wang, Y. Yang, *Trust region policy optimisation in multi-agent
//! reinforcement learning*, 2022, arXiv:2109.11251.
//!
//! For k = 0, 1, … K−1:
//!
//! 1. All players act with their π_old for T steps in N environments; estimate joint advantages Â and returns R (GAE)
//!    from the mean of their rewards and V(s), which sees the central state.
//! 2. M ← Â; draw a random order of the players.
//! 3. For each player i in that order: raise E[min(r_i M, clip(r_i, 1−ε, 1+ε) M)] + c₂ E[entropy of π_i], r_i =
//!    π_i(a_i|o_i) / π_i,old(a_i|o_i), by epochs of minibatches.
//! 4. M ← r_i M: what the steps so far have made of each joint action (the compound ratio).
//! 5. Fit V to R.
//!
//! Deviations: gradient norms are clipped, as in the authors' code; rewards are divided by the running deviation of the
//! return instead of the values being normalised.

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use steadfast_envs::rng::{self, Purpose};
use steadfast_envs::{Rng, State, VecEnv};

use crate::core::adam::Adam;
use crate::core::joint::{Clipped, Joint, Plan, Reward, View, load_adams, save_adams};
use crate::core::on_policy::OnPolicy;
use crate::core::weights::{Mean, read};
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Players step in an order that is drawn anew for each iteration (paper); otherwise always in the order of the task.
    pub random_order: bool,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub clipped: Clipped,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub on_policy: OnPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self { random_order: true, clipped: Clipped::default(), on_policy: OnPolicy::default() }
    }
}

/// The agent.
pub struct Happo {
    config: Config,
    core: Joint,
    policy_adams: Vec<Adam>,
    critic_adams: Vec<Adam>,
    order_rng: Rng,
}

impl Happo {
    /// An agent with fresh networks.
    ///
    /// # Errors
    /// When an option is out of range or the agent cannot act in the task.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        config.clipped.validate()?;
        let plan = Plan { view: View::Central, reward: Reward::Team, share: false, recurrent: false };
        let core = Joint::new(config.on_policy.clone(), plan, setup)?;
        let (policy_adams, critic_adams) = core.optimizers(config.clipped.adam_epsilon);
        let order_rng = rng::stream(setup.seed, Purpose::Minibatch, 1);
        Ok(Self { config, core, policy_adams, critic_adams, order_rng })
    }
}

impl Agent for Happo {
    fn num_envs(&self) -> usize {
        self.config.on_policy.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        self.core.batch_len() as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let Self { config, core, policy_adams, critic_adams, order_rng } = self;
        let c = &config.clipped;
        let factor = c.lr_schedule.factor(core.iteration, core.iterations);
        let lr = c.learning_rate * factor;

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
        let mut grad_norm = Mean::default();
        for i in order {
            // 3. Clipped surrogate of M, and entropy.
            core.batches[i].rows.host_mut().advantage.clone_from(&compound);
            core.clipped_steps(i, &mut policy_adams[i], c, lr, &mut grad_norm);

            // 4. M ← r M.
            let rows = core.batches[i].rows.host_mut();
            core.policies[i].ratios(rows, &mut ratios);
            compound.iter_mut().zip(&ratios).for_each(|(m, r)| *m *= r);
            rows.advantage.clone_from(&advantage);
        }

        // 5. Fit the value function.
        core.fit_critics(critic_adams, &c.critic_fit(), c.critic_lr * factor);

        let own = Metrics {
            learning_rate: Some(lr),
            grad_norm: Some(read([grad_norm.get()])[0]),
            ..Metrics::default()
        };
        core.finish(c.clip, own).finite(envs.steps())
    }

    fn act(&self, seen: &mut Seen, how: Acting, actions: &mut [f32], rng: &mut Rng) {
        self.core.pick(seen, how, actions, rng);
    }

    fn save(&self) -> State {
        let mut state = State::new();
        self.core.save(&mut state);
        save_adams(&self.policy_adams, "policy_adam", &mut state);
        save_adams(&self.critic_adams, "critic_adam", &mut state);
        rng::save(&self.order_rng, "order_rng", &mut state);
        state
    }

    fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.core.load(state)?;
        load_adams(&mut self.policy_adams, "policy_adam", state)?;
        load_adams(&mut self.critic_adams, "critic_adam", state)?;
        self.order_rng = rng::load("order_rng", state)?;
        Ok(())
    }
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;
    use crate::core::adam::clip_global_norm;
    use crate::core::device::Device;
    use crate::core::loss::ClippedSurrogate;
    use crate::core::testing::{close, task};

    /// One step over the whole batch, so that the last player's can be taken again: from its old policy, on Â times the
    /// product of the others' ratios.
    #[test]
    fn each_step_regards_the_product_of_the_ratios_before_it() {
        let mut config = Config { random_order: false, ..Config::default() };
        (config.on_policy.num_envs, config.on_policy.horizon) = (4, 50);
        config.on_policy.net.hidden = vec![16];
        let clipped = Clipped {
            learning_rate: 0.05,
            epochs: 1,
            minibatch: 200,
            adam_epsilon: 1e-3,
            ..Clipped::default()
        };
        config.clipped = clipped;
        let envs = &mut VecEnv::new(&|| task("particle/spread"), 4, 2, Purpose::Env, 1);
        let setup = Setup { spec: envs.spec(), seed: 3, total_steps: 10_000, device: Device::cpu() };
        let mut agent = Happo::new(config, &setup).unwrap();
        let old = agent.core.policies[2].weights.to_host();
        agent.iterate(envs).unwrap();
        let new = agent.core.policies[2].weights.to_host();
        let (mut product, mut ratios) = (vec![1.0f32; 200], Vec::new());
        for i in 0..2 {
            agent.core.policies[i].ratios(agent.core.batches[i].rows.host(), &mut ratios);
            product.iter_mut().zip(&ratios).for_each(|(m, r)| *m *= r);
        }
        let mut step = |compound: &[f32]| {
            let (policy, rows) = (&mut agent.core.policies[2], &mut agent.core.batches[2].rows);
            let own = rows.host_mut().advantage.clone();
            rows.host_mut().advantage = own.iter().zip(compound).map(|(a, m)| a * m).collect();
            policy.weights.set(old.clone());
            policy.grad(rows, &ClippedSurrogate { clip: 0.2, entropy: 0.01 });
            clip_global_norm([&mut policy.weights], 10.0);
            Adam::new(policy.len(), 1e-3, &Device::cpu()).step(&mut policy.weights, 0.05);
            rows.host_mut().advantage = own;
            policy.weights.to_host()
        };
        close(&step(&product), &new, 1e-3);
        let alone = step(&[1.0; 200]);
        let distance = alone.iter().zip(&new).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(distance > 5e-3, "without the product the step is another one: {distance}");
    }
}
