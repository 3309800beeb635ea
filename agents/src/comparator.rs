//! A policy that comes with the task, for tables and figures that hold learned scores against it.
//!
//! `steadfast list envs NAME` names the comparators of a task. They may look at its whole state, which no agent sees; so
//! whoever plays the episodes asks the task for their actions ([`crate::Agent::comparator`]). Nothing is learned, and
//! nothing is spent on training.

use serde::{Deserialize, Serialize};
use steadfast_envs::{Rng, State, VecEnv};

use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Name of the comparator.
    pub policy: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { policy: "static".to_owned() }
    }
}

/// The agent.
pub struct Comparator {
    config: Config,
}

impl Comparator {
    /// An agent for any task that has the comparator; only the task itself can tell.
    ///
    /// # Errors
    /// Never.
    pub fn new(config: Config, _: &Setup) -> Result<Self, BuildError> {
        Ok(Self { config })
    }
}

impl Agent for Comparator {
    fn num_envs(&self) -> usize {
        1
    }

    fn steps_per_iteration(&self) -> u64 {
        0
    }

    fn iterate(&mut self, _: &mut VecEnv) -> Result<Metrics, AgentError> {
        Ok(Metrics::default())
    }

    /// Leaves the actions as they are: the task writes them.
    fn act(&self, _: &mut Seen, _: Acting, _: &mut [f32], _: &mut Rng) {}

    fn comparator(&self) -> Option<&str> {
        Some(&self.config.policy)
    }

    fn save(&self) -> State {
        State::new()
    }

    fn load(&mut self, _: &State) -> Result<(), AgentError> {
        Ok(())
    }
}
