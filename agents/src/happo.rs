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
use crate::{Agent, AgentError, BuildError, Metrics, Seen, Setup};

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
        let plan = Plan { view: View::Central, reward: Reward::Team, share: false };
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

    fn act(&self, seen: &mut Seen, actions: &mut [f32], _rng: &mut Rng) {
        self.core.greedy(seen, actions);
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
