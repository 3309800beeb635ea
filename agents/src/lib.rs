//! Reinforcement-learning agents: one algorithm, one file, on the shared [`core`].
//!
//! An agent author writes one turn of the paper's outer loop ([`Agent::iterate`]): collect, estimate advantages,
//! update. Agents know no files and no CSV; the only clock is the profiler's ([`core::profile`]). To add one: a
//! file like `ppo.rs`, and its block in [`REGISTRY`].

pub mod comparator;
pub mod config;
pub mod core;
pub mod docs;
pub mod dqn;
pub mod ga_matr;
pub mod happo;
pub mod hatrpo;
pub mod hyperpp;
pub mod ippo;
pub mod itrpo;
pub mod maddpg;
pub mod mappo;
pub mod matrl;
pub mod mdpo;
pub mod mdpo_off;
pub mod ppo;
pub mod random;
pub mod sac;
pub mod trpo;

use steadfast_envs::{Rng, Spec, State, StateError, VecEnv, nearest};
use toml::Table;

pub use crate::core::device::{Device, DeviceError};
pub use crate::core::replay::Replay;

/// What an agent is built for.
pub struct Setup<'a> {
    /// The task.
    pub spec: &'a Spec,
    /// Run seed: with the configuration it determines the run.
    pub seed: u64,
    /// Environment steps of the whole run; schedules end there.
    pub total_steps: u64,
    /// Where the networks live.
    pub device: Device,
}

/// What an agent sees of some episodes when it is asked to act, one row an episode.
pub struct Seen<'a> {
    /// Raw joint observations, `[rows, obs_len]`.
    pub obs: &'a [f32],
    /// Choices allowed, `[rows, mask_len]`; empty where all are.
    pub masks: &'a [bool],
    /// What [`Agent::act`] wrote one step earlier, all zero at the start of an episode, `[rows, memory_len]`.
    pub memory: &'a mut [f32],
}

impl<'a> Seen<'a> {
    /// Observations alone: everything is allowed, nothing is remembered.
    pub fn only(obs: &'a [f32]) -> Self {
        Self { obs, masks: &[], memory: &mut [] }
    }
}

/// How an agent picks its actions outside training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acting {
    /// The most likely action.
    #[default]
    Greedy,
    /// One drawn from π(·|s).
    Sampled,
}

/// A learning algorithm.
pub trait Agent: Send {
    /// Environment copies that the agent wants stepped together.
    fn num_envs(&self) -> usize;

    /// Environment steps that [`Self::iterate`] takes, over all copies; 0 for an agent that does not learn and is only
    /// evaluated.
    fn steps_per_iteration(&self) -> u64;

    /// One turn of the algorithm's outer loop: collect experience, update.
    ///
    /// # Errors
    /// [`AgentError::NonFinite`] when an observation, a reward or a loss is not a finite number.
    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError>;

    /// Actions `[rows, action_len]` for what is seen, picked as `how` says, with `rng` where chance is needed.
    fn act(&self, seen: &mut Seen, how: Acting, actions: &mut [f32], rng: &mut Rng);

    /// Numbers that the agent carries from one step of an episode to the next while it acts ([`Seen::memory`]).
    fn memory_len(&self) -> usize {
        0
    }

    /// The comparator of the task ([`steadfast_envs::Env::comparators`]) that acts in the agent's place, for
    /// [`comparator`].
    fn comparator(&self) -> Option<&str> {
        None
    }

    /// What the user should know about settings that are legal but hardly meant.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// Everything that the agent needs to go on exactly, but the contents of its replay buffer.
    fn save(&self) -> State;

    /// The replay buffer of an agent that has one: checkpoints store its contents apart, as it grows.
    fn replay(&self) -> Option<&Replay> {
        None
    }

    /// The same, to be filled after [`Self::load`].
    fn replay_mut(&mut self) -> Option<&mut Replay> {
        None
    }

    /// Restores what [`Self::save`] wrote.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    fn load(&mut self, state: &State) -> Result<(), AgentError>;
}

/// What an iteration reports; the same columns for every agent, empty where they do not apply.
///
/// Losses, KL, entropy and clip fraction are taken over the whole batch after the update; those of off-policy agents are
/// means over the gradient steps of the iteration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// −E[r Â], r = π/π_old, with Â normalised over the batch: the surrogate that the update lowers. Off-policy: the
    /// actor's loss.
    pub policy_loss: Option<f64>,
    /// E[(V − R)²]; off-policy: ½ E[(Q − y)²].
    pub value_loss: Option<f64>,
    /// E[KL(π_old ‖ π)], nats.
    pub kl: Option<f64>,
    /// E[entropy of π], nats.
    pub entropy: Option<f64>,
    /// Share of samples whose ratio left 1 ± clip range (PPO), of 0.2 (others).
    pub clip_fraction: Option<f64>,
    /// Share of the returns' variance that V explained before the update.
    pub explained_variance: Option<f64>,
    /// Mean gradient norm before clipping.
    pub grad_norm: Option<f64>,
    /// t_k of MDPO; accepted step fraction times step length of TRPO.
    pub step_size: Option<f64>,
    /// Line-search trials of TRPO.
    pub line_search_steps: Option<f64>,
    /// Learning rate of the iteration.
    pub learning_rate: Option<f64>,
    /// Mean standard deviation of Gaussian actions (before squashing, where they are squashed).
    pub action_std: Option<f64>,
    /// E[Q(s, a)] of fresh actions (off-policy agents).
    pub q: Option<f64>,
    /// Temperature α of SAC, entropy coefficient λ of off-policy MDPO.
    pub temperature: Option<f64>,
    /// E|v|: mean length of the features that enter the heads (hyperbolic agents).
    pub feature_norm: Option<f64>,
    /// Mean of the features' learned gate, in (0, 1).
    pub gate: Option<f64>,
    /// δ_rel of some of the features where the heads look at them: 0 in a tree, up to 1.
    pub delta_rel: Option<f64>,
    /// Spearman's ρ of the features' length and the steps since the episode began, in a tree the depth.
    pub radius_depth: Option<f64>,
    /// Share of the returns outside the value's bins.
    pub returns_outside: Option<f64>,
    /// Gradient steps left out because their gradient was NaN or infinite.
    pub skipped_updates: Option<f64>,
    /// Mean over players of the share ρ of their steps that the meta-game let them take.
    pub nash_weight: Option<f64>,
    /// The most that a player of the meta-game would gain by leaving its solution alone: 0 in an equilibrium.
    pub exploitability: Option<f64>,
}

impl Metrics {
    /// Fails when a loss is not finite.
    ///
    /// # Errors
    /// [`AgentError::NonFinite`].
    pub fn finite(self, step: u64) -> Result<Self, AgentError> {
        let watched = [self.policy_loss, self.value_loss, self.kl, self.entropy, self.grad_norm];
        if watched.into_iter().flatten().all(f64::is_finite) {
            Ok(self)
        } else {
            Err(AgentError::NonFinite { what: "a loss", step })
        }
    }
}

/// An agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The run has diverged.
    #[error("{what} is NaN or infinite at step {step}")]
    NonFinite {
        /// What is not finite.
        what: &'static str,
        /// Environment steps taken.
        step: u64,
    },
    /// A mask allows no value of a choice.
    #[error(
        "the mask of agent '{agent}' allows no value of its choice {choice} at step {step}; the environment must allow one"
    )]
    NoChoice {
        /// Agent of the task.
        agent: String,
        /// Number of its choice, from 0.
        choice: usize,
        /// Environment steps taken.
        step: u64,
    },
    /// A checkpoint does not fit.
    #[error(transparent)]
    State(#[from] StateError),
}

/// An agent cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No agent of that name.
    #[error("unknown agent '{name}'; did you mean '{nearest}'? (`steadfast list agents` names all)")]
    UnknownAgent {
        /// What was asked for.
        name: String,
        /// The registered name most like it.
        nearest: String,
    },
    /// No option of that name.
    #[error("unknown option '{key}'; did you mean '{nearest}'?")]
    UnknownKey {
        /// What was given.
        key: String,
        /// The option most like it.
        nearest: String,
    },
    /// A value of the wrong type or out of range.
    #[error("option '{key}': {why}")]
    BadValue {
        /// Option.
        key: String,
        /// What is wrong and what is expected.
        why: String,
    },
    /// The agent has no way to act in the task.
    #[error("cannot act in '{env}': {why}")]
    CannotAct {
        /// Task.
        env: String,
        /// What does not fit.
        why: String,
    },
}

/// Makes an agent from a complete table of options.
pub type Build = fn(&Table, &Setup) -> Result<Box<dyn Agent>, BuildError>;

/// A registered algorithm.
pub struct Entry {
    /// Name, as on the command line.
    pub name: &'static str,
    /// Its source file: the header and the `Config` documentation are its page.
    pub source: &'static str,
    /// All options with their defaults.
    pub defaults: fn() -> Table,
    /// Constructor.
    pub build: Build,
}

macro_rules! entry {
    ($module:ident, $agent:ident) => {
        Entry {
            name: stringify!($module),
            source: include_str!(concat!(stringify!($module), ".rs")),
            defaults: || config::table(&$module::Config::default()),
            build: |table, setup| {
                let config: $module::Config =
                    config::parse(table, &config::table(&$module::Config::default()))?;
                Ok(Box::new($module::$agent::new(config, setup)?))
            },
        }
    };
}

/// Every agent, in the order in which `steadfast list agents` prints them.
pub const REGISTRY: &[Entry] = &[
    entry!(random, Random),
    entry!(comparator, Comparator),
    entry!(ppo, Ppo),
    entry!(trpo, Trpo),
    entry!(mdpo, Mdpo),
    entry!(sac, Sac),
    entry!(mdpo_off, MdpoOff),
    entry!(hyperpp, HyperPp),
    entry!(dqn, Dqn),
    entry!(ippo, Ippo),
    entry!(mappo, Mappo),
    entry!(itrpo, Itrpo),
    entry!(hatrpo, Hatrpo),
    entry!(happo, Happo),
    entry!(matrl, Matrl),
    entry!(ga_matr, GaMatr),
    entry!(maddpg, Maddpg),
];

/// The registered agent of that name.
///
/// # Errors
/// [`BuildError::UnknownAgent`] with the nearest registered name.
pub fn entry(name: &str) -> Result<&'static Entry, BuildError> {
    REGISTRY.iter().find(|e| e.name == name).ok_or_else(|| BuildError::UnknownAgent {
        name: name.to_owned(),
        nearest: nearest(name, REGISTRY.iter().map(|e| e.name)).unwrap_or_default().to_owned(),
    })
}
