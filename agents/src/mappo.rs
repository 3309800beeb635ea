//! Multi-agent PPO (MAPPO): PPO for a team, with one value function that sees the whole state.
//!
//! C. Yu, A. Velu, E. Vinitsky, J. Gao, Y. Wang, A. Bayen, Y. Wu, *The surprising effectiveness of PPO in cooperative
//! multi-agent games*, 2022, arXiv:2103.01955.
//!
//! For k = 0, 1, … K−1:
//!
//! 1. All players act with their π_old, which see their own observations, for T steps in N environments; estimate joint
//!    advantages Â and returns R (GAE) from the mean of their rewards and V(s), which sees the central state.
//! 2. Each player raises E[min(r_i Â, clip(r_i, 1−ε, 1+ε) Â)] + c₂ E[entropy of π_i], r_i = π_i(a_i|o_i) /
//!    π_i,old(a_i|o_i), by epochs of minibatches; all at once: none sees the others' steps.
//! 3. Fit V to R.
//!
//! Deviations: players share a policy only if asked to (the paper's do where spaces allow it); no recurrence; rewards
//! are divided by the running deviation of the return instead of the values being normalised.

use serde::{Deserialize, Serialize};
use steadfast_envs::{Rng, State, VecEnv};

use crate::core::adam::Adam;
use crate::core::joint::{Clipped, Joint, Plan, Reward, View, load_adams, save_adams};
use crate::core::on_policy::OnPolicy;
use crate::core::weights::{Mean, read};
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Config {
    /// One policy for all players, told which player it serves; players must have equal spaces.
    pub share_parameters: bool,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub clipped: Clipped,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub on_policy: OnPolicy,
}

/// The agent.
pub struct Mappo {
    config: Config,
    core: Joint,
    policy_adams: Vec<Adam>,
    critic_adams: Vec<Adam>,
}

impl Mappo {
    /// An agent with fresh networks.
    ///
    /// # Errors
    /// When an option is out of range or the agent cannot act in the task.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        config.clipped.validate()?;
        let plan = Plan {
            view: View::Central,
            reward: Reward::Team,
            share: config.share_parameters,
            recurrent: false,
        };
        let core = Joint::new(config.on_policy.clone(), plan, setup)?;
        let (policy_adams, critic_adams) = core.optimizers(config.clipped.adam_epsilon);
        Ok(Self { config, core, policy_adams, critic_adams })
    }
}

impl Agent for Mappo {
    fn num_envs(&self) -> usize {
        self.config.on_policy.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        self.core.batch_len() as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let Self { config: Config { clipped: c, .. }, core, policy_adams, critic_adams } = self;
        let factor = c.lr_schedule.factor(core.iteration, core.iterations);
        let lr = c.learning_rate * factor;

        // 1. All act; joint advantages.
        core.collect(envs)?;
        if c.normalize_advantage {
            core.standardize_advantages();
        }

        // 2. Clipped surrogate and entropy, player by player.
        let mut grad_norm = Mean::default();
        for (i, adam) in policy_adams.iter_mut().enumerate() {
            core.clipped_steps(i, adam, c, lr, &mut grad_norm);
        }

        // 3. Fit the value function.
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
        state
    }

    fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.core.load(state)?;
        load_adams(&mut self.policy_adams, "policy_adam", state)?;
        load_adams(&mut self.critic_adams, "critic_adam", state)
    }
}
