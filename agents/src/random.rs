//! Uniformly random actions: the anchor below which no agent should score.
//!
//! Unbounded box dimensions are sampled from a standard normal. Nothing is learned.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use steadfast_envs::rng::{self, Purpose};
use steadfast_envs::{Rng, Space, State, VecEnv};

use crate::config::rollout;
use crate::core::profile::{self, Stage};
use crate::core::rollout::some_choice;
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// N: environment copies that are stepped together.
    pub num_envs: usize,
    /// T: steps of each copy in one iteration.
    pub horizon: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { num_envs: 1, horizon: 2048 }
    }
}

/// The agent.
pub struct Random {
    config: Config,
    spaces: Vec<Space>,
    rng: Rng,
}

impl Random {
    /// An agent for any task.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        rollout(config.num_envs, config.horizon)?;
        let spaces = setup.spec.agents.iter().map(|a| a.action.clone()).collect();
        Ok(Self { config, spaces, rng: rng::stream(setup.seed, Purpose::Action, 0) })
    }
}

impl Agent for Random {
    fn num_envs(&self) -> usize {
        self.config.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        (self.config.num_envs * self.config.horizon) as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let mut actions = vec![0.0; envs.len() * envs.spec().action_len()];
        for _ in 0..self.config.horizon {
            profile::enter(Stage::Inference);
            some_choice(envs)?;
            sample(&self.spaces, envs.masks(), &mut actions, &mut self.rng);
            profile::enter(Stage::Environment);
            envs.step(&actions);
            if !envs.obs().iter().all(|x| x.is_finite()) || !envs.rewards().iter().all(|r| r.is_finite()) {
                return Err(AgentError::NonFinite { what: "an observation or reward", step: envs.steps() });
            }
        }
        Ok(Metrics::default())
    }

    fn act(&self, seen: &mut Seen, _how: Acting, actions: &mut [f32], rng: &mut Rng) {
        sample(&self.spaces, seen.masks, actions, rng);
    }

    fn save(&self) -> State {
        let mut state = State::new();
        rng::save(&self.rng, "action_rng", &mut state);
        state
    }

    fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.rng = rng::load("action_rng", state)?;
        Ok(())
    }
}

/// Fills `actions` `[N, action_len]` with uniform samples of what `masks` allow.
fn sample(spaces: &[Space], mut masks: &[bool], actions: &mut [f32], rng: &mut Rng) {
    let mut rest = actions;
    while !rest.is_empty() {
        for space in spaces {
            let (head, tail) = rest.split_at_mut(space.len());
            sample_space(space, &mut masks, head, rng);
            rest = tail;
        }
    }
}

/// Takes its flags off the front of `masks`.
fn sample_space(space: &Space, masks: &mut &[bool], action: &mut [f32], rng: &mut Rng) {
    match space {
        Space::Box { low, high } => {
            for ((a, low), high) in action.iter_mut().zip(low).zip(high) {
                *a = if low.is_finite() && high.is_finite() {
                    low + (high - low) * rng.random::<f32>()
                } else {
                    let x: f32 = StandardNormal.sample(rng);
                    x.clamp(*low, *high)
                };
            }
        }
        Space::Discrete(n) => action[0] = choose(*n, masks, rng),
        Space::MultiDiscrete(sizes) => {
            action.iter_mut().zip(sizes).for_each(|(a, n)| *a = choose(*n, masks, rng));
        }
        Space::Hybrid(parts) => {
            let mut rest = action;
            for part in parts {
                let (head, tail) = rest.split_at_mut(part.len());
                sample_space(part, masks, head, rng);
                rest = tail;
            }
        }
    }
}

/// One of `n` options, of those that the flags at the front of `masks` allow.
fn choose(n: usize, masks: &mut &[bool], rng: &mut Rng) -> f32 {
    if masks.is_empty() {
        return rng.random_range(0..n) as f32;
    }
    let (flags, others) = masks.split_at(n);
    *masks = others;
    let allowed = flags.iter().filter(|flag| **flag).count();
    let nth = rng.random_range(0..allowed.max(1));
    (0..n).filter(|i| flags[*i]).nth(nth).unwrap_or(0) as f32
}
