//! Independent PPO (IPPO): each player learns alone, as if the others were part of its world.
//!
//! C. Schroeder de Witt, T. Gupta, D. Makoviichuk, V. Makoviychuk, P. Torr, M. Sun, S. Whiteson, *Is independent learning
//! all you need in the StarCraft multi-agent challenge?*, 2020, arXiv:2011.09533.
//!
//! For k = 0, 1, … K−1:
//!
//! 1. All players act with their π_old for T steps in N environments; each estimates its advantages Â_i and returns R_i
//!    (GAE) from its rewards and its own V_i, which sees what it sees.
//! 2. Each player raises E[min(r_i Â_i, clip(r_i, 1−ε, 1+ε) Â_i)] + c₂ E[entropy of π_i], r_i = π_i(a_i|o_i) /
//!    π_i,old(a_i|o_i), by epochs of minibatches.
//! 3. Each fits V_i to R_i.
//!
//! Deviations: by default players share nothing and each is paid its own rewards; advantages are normalised over the
//! batch and gradient norms clipped, as in the usual codes.

use serde::{Deserialize, Serialize};
use steadfast_envs::{Rng, State, VecEnv};

use crate::core::adam::Adam;
use crate::core::joint::{Clipped, Joint, Plan, Reward, View, load_adams, save_adams};
use crate::core::on_policy::OnPolicy;
use crate::core::weights::{Mean, read};
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// One policy and one value function for all players, told which player they serve; players must have equal spaces.
    pub share_parameters: bool,
    /// What a player is paid: its `own` rewards, or the mean of the `team`.
    pub reward: Reward,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub clipped: Clipped,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub on_policy: OnPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            share_parameters: false,
            reward: Reward::Own,
            clipped: Clipped::default(),
            on_policy: OnPolicy::default(),
        }
    }
}

/// The agent.
pub struct Ippo {
    config: Config,
    core: Joint,
    policy_adams: Vec<Adam>,
    critic_adams: Vec<Adam>,
}

impl Ippo {
    /// An agent with fresh networks.
    ///
    /// # Errors
    /// When an option is out of range or the agent cannot act in the task.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        config.clipped.validate()?;
        let plan = Plan {
            view: View::Local,
            reward: config.reward,
            share: config.share_parameters,
            recurrent: false,
        };
        let core = Joint::new(config.on_policy.clone(), plan, setup)?;
        let (policy_adams, critic_adams) = core.optimizers(config.clipped.adam_epsilon);
        Ok(Self { config, core, policy_adams, critic_adams })
    }
}

impl Agent for Ippo {
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

        // 1. All act, each estimates its advantages.
        core.collect(envs)?;
        if c.normalize_advantage {
            core.standardize_advantages();
        }

        // 2. Clipped surrogate and entropy, player by player.
        let mut grad_norm = Mean::default();
        for (i, adam) in policy_adams.iter_mut().enumerate() {
            core.clipped_steps(i, adam, c, lr, &mut grad_norm);
        }

        // 3. Fit the value functions.
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
