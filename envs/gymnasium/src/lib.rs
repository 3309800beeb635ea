//! Gymnasium's environments as tasks of steadfast: any registered id, or a class of the user's.
//!
//! `maker` turns an id and keyword arguments into a `Maker` of `Env`s, like those of the registry. Observations
//! are flattened (Gymnasium's own flattening: a choice becomes one-hot) to `f32`; actions may be boxes or choices. The Python
//! half, `bridge.py`, runs in an interpreter of this process (`embedded`) or in worker processes (`worker`).
//!
//! **Seeds.** Each episode is reset with a seed of its own, drawn from the task's stream, so that it is a function of
//! (seed, actions). **Exact resume** rests on that: what is saved is the seed and the actions of the running episode, and
//! loading plays them again. Most environments of Gymnasium can be neither copied nor saved, but nearly all repeat an
//! episode. One that does not is found out: the observation that the replay ends with must equal the saved one bit for
//! bit, or the state is refused.
//!
//! **Failures.** A Python exception, a worker that died, or an observation that does not fit its space becomes the
//! task's `Env::fault`, with the traceback.
#![cfg(feature = "python")]

mod embedded;
#[cfg(feature = "embed")]
mod interpreter;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng as _;
use serde_json::Value;
use steadfast_envs::{Env, Maker, Picture, Rng, Space, Spec, State, StateError};
use worker::Worker;

/// The Python half.
const BRIDGE: &std::ffi::CStr = c_str(concat!(include_str!("bridge.py"), "\0"));

const fn c_str(text: &str) -> &std::ffi::CStr {
    match std::ffi::CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("bridge.py holds a zero byte"),
    }
}

/// Numbers in the actions of an episode that are kept for its replay: 8 MB. A longer one cannot be loaded.
const LONGEST_REPLAY: usize = 1 << 20;

/// Worker processes of the makers made from now on; 0 runs their environments in this process.
static WORKERS: AtomicUsize = AtomicUsize::new(0);

/// Sets the number of worker processes of each [`maker`] from now on. 0, the default, runs environments in this process,
/// which is fastest for cheap ones; workers let heavy ones run beside each other, step for step as many as the
/// [`steadfast_envs::VecEnv`] has threads, and keep the process safe from those that crash.
pub fn set_workers(workers: usize) {
    WORKERS.store(workers, Ordering::Relaxed);
}

/// An environment that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GymnasiumError(String);

/// What runs one environment.
trait Driver: Send {
    /// Starts the episode of that seed and writes its first observation.
    fn reset(&mut self, seed: u64, obs: &mut [f32]) -> Result<(), String>;
    /// Steps by `action`; reward, terminated and truncated.
    fn step(&mut self, action: &[f64], obs: &mut [f32]) -> Result<(f64, bool, bool), String>;
    /// Draws the present state.
    fn picture(&mut self) -> Result<Picture, String>;
}

/// Where the environments of one maker come from.
struct Source {
    spec: Spec,
    /// Registered id or class, without `gymnasium:`.
    name: String,
    /// Keyword arguments as texts, a JSON object.
    options: String,
    workers: Vec<Arc<Worker>>,
    made: AtomicUsize,
    /// Environments whose task was dropped: making one may take longer than an episode.
    idle: Mutex<Vec<Box<dyn Driver>>>,
}

impl Source {
    /// A new environment, and its specification in JSON.
    fn open(&self, render: bool) -> Result<(Box<dyn Driver>, String), String> {
        if self.workers.is_empty() {
            return embedded::open(&self.name, &self.options, render);
        }
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        worker::open(&self.workers[made % self.workers.len()], made, &self.name, &self.options, render)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Driver>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The constructor of the environment `name`: a registered id (`HalfCheetah-v5`), an id behind a module that is
/// imported first (`ale_py:ALE/Pong-v5`), or a class or function (`my_module:MyEnv`). `options` are its keyword
/// arguments, each written as JSON or as a Python literal; `max_episode_steps` overrides the registered time limit.
///
/// One environment is made here, for its spaces. A later one that cannot be made has a [`Env::fault`] from the start.
///
/// # Errors
/// Without a Python or Gymnasium, for an unknown environment or option, and for spaces that have no fixed length.
pub fn maker(name: &str, options: &BTreeMap<String, String>) -> Result<Maker, GymnasiumError> {
    let id = format!("gymnasium:{name}");
    let named = |why: String| GymnasiumError(format!("{id}: {why}"));
    let options = serde_json::to_string(options).map_err(|e| named(e.to_string()))?;
    let workers = WORKERS.load(Ordering::Relaxed);
    let workers =
        (0..workers).map(|_| Worker::start().map(Arc::new)).collect::<Result<_, _>>().map_err(named)?;
    let spec = Spec::single(&id, Space::Discrete(1), Space::Discrete(1), None);
    let (made, idle) = (AtomicUsize::new(0), Mutex::default());
    let mut source = Source { spec, name: name.to_owned(), options, workers, made, idle };
    let (first, spec) = source.open(false).map_err(named)?;
    source.spec = read_spec(&id, &spec).ok_or_else(|| named(format!("no specification: {spec}")))?;
    source.idle().push(first);
    let source = Arc::new(source);
    Ok(Box::new(move || Box::new(Task::new(source.clone()))))
}

/// The specification that `bridge.py` wrote.
fn read_spec(id: &str, text: &str) -> Option<Spec> {
    let spec: Value = serde_json::from_str(text).ok()?;
    let numbers = |values: &Value| -> Option<Vec<f32>> {
        values.as_array()?.iter().map(|x| x.as_str()?.parse().ok()).collect()
    };
    let boxed = |of: &Value| Some(Space::Box { low: numbers(&of["low"])?, high: numbers(&of["high"])? });
    let action = match &spec["action"]["choices"] {
        Value::Null => boxed(&spec["action"])?,
        Value::Array(n) => {
            Space::MultiDiscrete(n.iter().map(|n| n.as_u64().map(|n| n as usize)).collect::<Option<_>>()?)
        }
        n => Space::Discrete(n.as_u64()? as usize),
    };
    let max_steps = spec["max_steps"].as_u64().map(|n| n as usize);
    let reward_threshold = spec["threshold"].as_f64();
    Some(Spec { reward_threshold, ..Spec::single(id, boxed(&spec)?, action, max_steps) })
}

/// The running episode, all that its replay needs.
#[derive(Clone, Default)]
struct Episode {
    seed: u64,
    steps: u64,
    /// Of all steps, one after another, unless they are too many.
    actions: Vec<f64>,
    /// Last observation; empty before the first.
    obs: Vec<f32>,
}

/// One environment of Gymnasium.
struct Task {
    spec: Spec,
    source: Arc<Source>,
    /// None once the task has failed.
    driver: Option<Box<dyn Driver>>,
    episode: Episode,
    truncated: bool,
    /// Whether the environment was made to be drawn.
    renders: bool,
    fault: Option<String>,
}

impl Task {
    fn new(source: Arc<Source>) -> Self {
        let spec = source.spec.clone();
        let episode = Episode::default();
        let mut task =
            Self { spec, source, driver: None, episode, truncated: false, renders: false, fault: None };
        let idle = task.source.idle().pop();
        match idle.map_or_else(|| task.source.open(false).map(|(driver, _)| driver), Ok) {
            Ok(driver) => task.driver = Some(driver),
            Err(why) => task.fail(&why),
        }
        task
    }

    fn fail(&mut self, why: &str) {
        self.driver = None;
        self.fault = Some(format!("{}: {why}", self.spec.id));
    }

    /// Brings a fresh episode to where `episode` stands; the observation there.
    fn replay(driver: &mut dyn Driver, episode: &Episode, action_len: usize) -> Result<Vec<f32>, String> {
        let mut obs = vec![0.0; episode.obs.len()];
        driver.reset(episode.seed, &mut obs)?;
        for action in episode.actions.chunks_exact(action_len) {
            driver.step(action, &mut obs)?;
        }
        Ok(obs)
    }

    fn draw(&mut self) -> Result<Picture, String> {
        if !self.renders {
            let (mut driver, _) = self.source.open(true)?;
            Self::replay(driver.as_mut(), &self.episode, self.spec.action_len())?;
            (self.driver, self.renders) = (Some(driver), true);
        }
        match &mut self.driver {
            Some(driver) => driver.picture(),
            None => Err("it has failed".to_owned()),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // One that was made to be drawn is slower.
        if let Some(driver) = self.driver.take().filter(|_| !self.renders) {
            self.source.idle().push(driver);
        }
    }
}

impl Env for Task {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        // Some environments take no seed above 2³¹.
        let seed = u64::from(rng.next_u32() >> 1);
        self.episode.actions.clear();
        (self.episode.seed, self.episode.steps, self.truncated) = (seed, 0, false);
        let Some(driver) = &mut self.driver else { return obs.fill(f32::NAN) };
        match driver.reset(seed, obs) {
            Ok(()) => {
                self.episode.obs.clear();
                self.episode.obs.extend_from_slice(obs);
            }
            Err(why) => {
                self.fail(&why);
                obs.fill(f32::NAN);
            }
        }
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let stepped = self.driver.as_mut().map(|driver| driver.step(action, obs));
        if let Some(Ok((paid, terminated, truncated))) = stepped {
            reward[0] = paid;
            self.truncated = truncated;
            self.episode.steps += 1;
            if self.episode.actions.len() < LONGEST_REPLAY {
                self.episode.actions.extend_from_slice(action);
            }
            self.episode.obs.copy_from_slice(obs);
            return terminated;
        }
        if let Some(Err(why)) = stepped {
            self.fail(&why);
        }
        obs.fill(f32::NAN);
        reward.fill(f64::NAN);
        true
    }

    fn save(&self, state: &mut State) {
        let Episode { seed, steps, actions, obs } = &self.episode;
        state.put_u64("episode", &[*seed, *steps, u64::from(!obs.is_empty())]);
        state.put_f64("actions", actions);
        state.put_f32("obs", obs);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        let entry = state.u64("episode", 3)?;
        let (seed, steps, started) = (entry[0], entry[1], entry[2] != 0);
        let (obs_len, action_len) = (self.spec.obs_len(), self.spec.action_len());
        let numbers = steps.saturating_mul(action_len as u64);
        let refuse = |why: String| Err(StateError::Unrepeatable(format!("{}: {why}", self.spec.id)));
        if numbers > LONGEST_REPLAY as u64 {
            return refuse(format!(
                "the running episode of {steps} steps is too long to be played again; give it a time limit \
                 (--env-set max_episode_steps=N) to have runs that can be resumed"
            ));
        }
        let actions = state.f64("actions", numbers as usize)?.to_vec();
        let obs = state.f32("obs", if started { obs_len } else { 0 })?.to_vec();
        let episode = Episode { seed, steps, actions, obs };
        let Some(driver) = &mut self.driver else {
            return refuse(self.fault.clone().unwrap_or_default());
        };
        if started {
            match Self::replay(driver.as_mut(), &episode, action_len) {
                Err(why) => return refuse(format!("its episode cannot be played again: {why}")),
                Ok(found) if same_bits(&found, &episode.obs) => {}
                Ok(_) => {
                    return refuse(format!(
                        "its episode, played again from seed {seed} through {steps} actions, came out otherwise: the \
                         environment does not repeat, so that its runs cannot be resumed"
                    ));
                }
            }
        }
        (self.episode, self.truncated) = (episode, false);
        Ok(())
    }

    fn picture(&mut self) -> Option<Picture> {
        match self.draw() {
            Ok(picture) => Some(picture),
            Err(why) => {
                self.fail(&why);
                None
            }
        }
    }

    fn truncated(&self) -> bool {
        self.truncated
    }

    fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
