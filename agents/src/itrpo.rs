//! Independent TRPO: each player takes its own trust-region step, as if the others were part of its world.
//!
//! The step is that of J. Schulman, S. Levine, P. Moritz, M. Jordan, P. Abbeel, 2015, arXiv:1502.05477; independent
//! learners with a trust region are studied by M. Sun and others, 2022, arXiv:2202.00082.
//!
//! For k = 0, 1, … K−1:
//!
//! 1. All players act with their π_old for T steps in N environments; each estimates its advantages Â_i and returns R_i
//!    (GAE) from its rewards and its own V_i.
//! 2. Each player raises E[r_i Â_i], r_i = π_i(a_i|o_i) / π_i,old(a_i|o_i), by one step of TRPO within E[KL(π_i,old ‖ π_i)] ≤
//!    δ; none sees the others' steps.
//! 3. Each fits V_i to R_i.
//!
//! With one player this is TRPO. Deviations: those of our `trpo`; a value function may see the central state, or rewards be
//! the team's, where asked to.

use serde::{Deserialize, Serialize};
use steadfast_envs::{Rng, State, VecEnv};

use crate::core::adam::Adam;
use crate::core::joint::{Joint, Plan, Reward, View, load_adams, save_adams};
use crate::core::on_policy::OnPolicy;
use crate::core::trust_region::{Steps, TrustRegion, natural_step};
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// What a value function sees: the `local` observation of its player, the `central` state, or all players by `attention`
    /// or on the `graph`.
    pub critic: View,
    /// What a player is paid: its `own` rewards, or the mean of the `team`.
    pub reward: Reward,
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
            critic: View::Local,
            reward: Reward::Own,
            recurrent_actor: false,
            region: TrustRegion::default(),
            on_policy: OnPolicy::default(),
        }
    }
}

/// The agent.
pub struct Itrpo {
    config: Config,
    core: Joint,
    critic_adams: Vec<Adam>,
}

impl Itrpo {
    /// An agent with fresh networks.
    ///
    /// # Errors
    /// When an option is out of range or the agent cannot act in the task.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        config.region.validate()?;
        let plan = Plan {
            view: config.critic,
            reward: config.reward,
            share: false,
            recurrent: config.recurrent_actor,
        };
        let core = Joint::new(config.on_policy.clone(), plan, setup)?;
        let (_, critic_adams) = core.optimizers(config.region.adam_epsilon);
        Ok(Self { config, core, critic_adams })
    }
}

impl Agent for Itrpo {
    fn num_envs(&self) -> usize {
        self.config.on_policy.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        self.core.batch_len() as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let Self { config: Config { region: c, .. }, core, critic_adams } = self;
        let lr = c.critic_lr * c.lr_schedule.factor(core.iteration, core.iterations);
        let max_kl = c.max_kl * c.kl_schedule.factor(core.iteration, core.iterations);

        // 1. All act, each estimates its advantages.
        core.collect(envs)?;
        if c.normalize_advantage {
            core.standardize_advantages();
        }

        // 2. A trust-region step of each.
        let mut steps = Steps::default();
        for (policy, batch) in core.policies.iter_mut().zip(&core.batches) {
            steps.add(natural_step(policy, &batch.rows, c, max_kl));
        }

        // 3. Fit the value functions.
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
        state
    }

    fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.core.load(state)?;
        load_adams(&mut self.critic_adams, "critic_adam", state)
    }
}
