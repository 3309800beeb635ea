//! Multi-agent deep deterministic policy gradient (MADDPG).
//!
//! R. Lowe, Y. Wu, A. Tamar, J. Harb, P. Abbeel, I. Mordatch, *Multi-agent actor-critic for mixed cooperative-competitive
//! environments*, 2017, arXiv:1706.02275.
//!
//! Repeat, at every step of the environment:
//!
//! 1. Each player acts with its μ_i, which sees its own observation, and noise (uniformly at random at first); store joint
//!    observations, joint actions and the reward of each. Then, every so many steps:
//! 2. Draw a minibatch of joint transitions (o, a, r, o').
//! 3. Fit Q_i, which sees everybody's observations and actions, to r_i + γ Q_i'(o', μ_1'(o_1'), …, μ_N'(o_N')); only r_i
//!    where the task ended.
//! 4. Raise E[Q_i(o, a_1, …, μ_i(o_i), …, a_N)] through the player's own action, the others' as stored; a choice is a draw that
//!    is differentiated as its Gumbel-softmax relaxation.
//! 5. Target networks follow: φ' ← φ' + τ (φ − φ'), of critics and actors.
//!
//! Deviations: one minibatch serves all players of a gradient step, so that the targets' actions are computed once; choices act
//! as drawn, where the released code sends their relaxation to the environment; in targets they are drawn, too. No
//! inference of the others' policies, no ensembles. Tasks with masks are refused.

use serde::{Deserialize, Serialize};
use steadfast_envs::{Rng, State, VecEnv};

use crate::config::{positive, within};
use crate::core::central::{Central, Settings};
use crate::core::relaxed::Form;
use crate::core::replay::Replay;
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Temperature of the relaxation of choices.
    pub relaxation: f64,
    /// Actions of an actor's step: the `relaxation` of choices itself (`false`), or drawn choices with its derivative.
    pub straight_through: bool,
    /// Weight of the mean square of an actor's outputs in its loss. Released code: 0.001.
    pub output_penalty: f64,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub settings: Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self { relaxation: 1.0, straight_through: true, output_penalty: 1e-3, settings: Settings::default() }
    }
}

/// The agent.
pub struct Maddpg {
    config: Config,
    core: Central,
}

impl Maddpg {
    /// An agent with fresh networks and an empty buffer.
    ///
    /// # Errors
    /// When an option is out of range, the task masks choices or has unbounded actions, or the device is not the CPU.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        positive("relaxation", config.relaxation)?;
        within("output_penalty", config.output_penalty, 0.0, f64::INFINITY)?;
        Ok(Self { core: Central::new(config.settings.clone(), setup)?, config })
    }
}

impl Agent for Maddpg {
    fn num_envs(&self) -> usize {
        self.config.settings.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        (self.config.settings.num_envs * self.config.settings.horizon) as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let Self { config: c, core } = self;
        let tau = c.relaxation as f32;
        let form = if c.straight_through { Form::Through(tau) } else { Form::Relaxed(tau) };
        for _ in 0..c.settings.horizon {
            // 1. Act, store.
            for _ in 0..core.step(envs)? {
                // 2. Minibatch, and the targets' actions.
                core.sample();

                // 3. Critics.
                (0..core.len()).for_each(|i| core.fit_critic(i));

                // 4. Actors.
                (0..core.len()).for_each(|i| core.step_actor(i, form, c.output_penalty));

                // 5. Target networks.
                core.track();
            }
        }
        core.finish(envs.steps())
    }

    fn act(&self, seen: &mut Seen, how: Acting, actions: &mut [f32], rng: &mut Rng) {
        self.core.pick(seen, how, actions, rng);
    }

    fn replay(&self) -> Option<&Replay> {
        Some(self.core.replay())
    }

    fn replay_mut(&mut self) -> Option<&mut Replay> {
        Some(self.core.replay_mut())
    }

    fn save(&self) -> State {
        let mut state = State::new();
        self.core.save(&mut state);
        state
    }

    fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.core.load(state)
    }
}
