//! Trainings and trained policies.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2};
use pyo3::prelude::*;
use steadfast::settings::{self, RunSettings};
use steadfast::train::{self as run, Conduct, Outcome, Progress};
use steadfast::{checkpoint, sweep};
use steadfast_agents::{Acting, Agent, Seen};
use steadfast_envs::Rng;
use steadfast_envs::rng::{self, Purpose};

use crate::{Home, raise};

/// Trains as the command `steadfast train` does. `told` hears of every iteration as (step, steps, mean return, steps per
/// second) and may return False to stop. Returns the run's directory and how it ended.
#[pyfunction]
#[pyo3(signature = (agent, env, *, preset, options, env_options, label, seed, steps, evaluations, eval_episodes,
                    final_episodes, device, threads, workers, out, resume, checkpoint_every, told))]
pub fn train(
    py: Python,
    agent: String,
    env: String,
    preset: String,
    options: Vec<String>,
    env_options: Vec<String>,
    label: Option<String>,
    seed: u64,
    steps: u64,
    evaluations: u64,
    eval_episodes: usize,
    final_episodes: usize,
    device: String,
    threads: usize,
    workers: usize,
    out: PathBuf,
    resume: bool,
    checkpoint_every: f64,
    told: Option<Py<PyAny>>,
) -> PyResult<(PathBuf, &'static str)> {
    Home::of_the_module().check("module")?;
    let resolved = || -> anyhow::Result<RunSettings> {
        let options = settings::assignments(&options)?;
        let settings = RunSettings {
            label: label.unwrap_or_else(|| settings::label(&agent, &preset)),
            options: settings::resolve(&agent, &env, &preset, &[&options])?,
            env_options: settings::resolve_env(&env, &settings::assignments(&env_options)?)?,
            eval_env_options: BTreeMap::new(),
            agent,
            preset,
            env,
            seed,
            steps,
            evaluations,
            eval_episodes,
            final_episodes,
            device,
        };
        settings.validate()?;
        Ok(settings)
    };
    let settings = resolved().map_err(raise)?;
    settings::set_gymnasium_workers(workers);
    let conduct = Conduct {
        threads,
        checkpoint_every: Duration::try_from_secs_f64(checkpoint_every).map_err(raise)?,
        resume,
        claimed: false,
        command: "steadfast.train(...) in Python".to_owned(),
        profile: false,
    };
    let directory = sweep::cell_dir(&out, &settings);
    // What a handler of signals or the listener raised.
    let mut raised = None;
    let mut listen = |p: &Progress| {
        let heard = Python::attach(|py| {
            py.check_signals()?;
            let Some(told) = &told else { return Ok(true) };
            let answer = told.call1(py, (p.step, p.steps, p.return_mean, p.steps_per_s))?;
            Ok(!matches!(answer.extract(py), Ok(false)))
        });
        match heard {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(()),
            Err(error) => {
                raised = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let outcome = py.detach(|| run::run(&settings, &directory, &conduct, &mut listen)).map_err(raise)?;
    if let Some(error) = raised {
        return Err(error);
    }
    let how = match outcome {
        Outcome::Finished(_) | Outcome::AlreadyDone => "finished",
        Outcome::Interrupted => "interrupted",
    };
    Ok((directory, how))
}

/// Status, reason, step, mean return.
type Ended = (String, Option<String>, u64, Option<f64>);

/// `result.json` of a run; None for an unfinished one.
#[pyfunction]
pub fn result(directory: PathBuf) -> PyResult<Option<Ended>> {
    let result = run::read_result(&directory).map_err(raise)?;
    Ok(result.map(|r| (format!("{:?}", r.status).to_lowercase(), r.reason, r.step, r.return_mean)))
}

/// Actions and memory.
type Acted<'py> = (Bound<'py, PyArray2<f32>>, Bound<'py, PyArray2<f32>>);

/// The trained policy of a run.
#[pyclass(module = "steadfast._steadfast")]
pub struct Policy {
    home: Home,
    // Never locked: with `&mut self` at hand it only makes the agent shareable.
    agent: Mutex<Box<dyn Agent>>,
    rng: Rng,
    obs_len: usize,
    action_len: usize,
    spec: steadfast_envs::Spec,
    /// Agent, environment and seed of the run.
    #[pyo3(get)]
    agent_name: String,
    #[pyo3(get)]
    env: String,
    #[pyo3(get)]
    env_options: BTreeMap<String, String>,
    #[pyo3(get)]
    seed: u64,
}

#[pymethods]
impl Policy {
    /// Loads the run in `directory`.
    #[new]
    fn new(py: Python, directory: PathBuf) -> PyResult<Self> {
        Home::of_the_module().check("module")?;
        let load = || -> anyhow::Result<_> {
            let settings = run::read_settings(&directory)?;
            let (mut agent, make) = run::build(&settings)?;
            let path = run::checkpoint_path(&directory);
            let state = checkpoint::load(&path)?;
            let unfit = || format!("checkpoint {} does not fit its run.toml", path.display());
            agent.load(&state.state("agent")).with_context(unfit)?;
            Ok((settings, agent, make().spec().clone()))
        };
        let (settings, agent, spec) = py.detach(load).map_err(raise)?;
        let rng = rng::stream(settings.seed, Purpose::Eval, u64::MAX);
        Ok(Self {
            home: Home::here(),
            agent: Mutex::new(agent),
            rng,
            obs_len: spec.obs_len(),
            action_len: spec.action_len(),
            spec,
            agent_name: settings.agent,
            env: settings.env,
            env_options: settings.env_options,
            seed: settings.seed,
        })
    }

    /// The spaces of each agent of the task: name, observations, actions.
    fn agents<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, pyo3::types::PyTuple>>> {
        let agent = |a: &steadfast_envs::AgentSpec| {
            (&a.name, crate::space(py, &a.obs)?, crate::space(py, &a.action)?).into_pyobject(py)
        };
        self.spec.agents.iter().map(agent).collect()
    }

    /// Actions `[rows, action_len]` for observations `[rows, obs_len]`: the most likely ones of those that `masks` `[rows,
    /// mask_len]` allow, or ones drawn from the policy's distribution if `sampled`. `memory` `[rows, memory_len]` is what the last call returned beside them, zero where an episode
    /// begins.
    #[pyo3(signature = (obs, sampled, masks=None, memory=None))]
    fn act<'py>(
        &mut self,
        py: Python<'py>,
        obs: PyReadonlyArray2<'py, f32>,
        sampled: bool,
        masks: Option<PyReadonlyArray2<'py, bool>>,
        memory: Option<PyReadonlyArray2<'py, f32>>,
    ) -> PyResult<Acted<'py>> {
        self.home.check("policy")?;
        let obs = obs.as_slice()?;
        let rows = obs.len() / self.obs_len;
        if rows * self.obs_len != obs.len() {
            let (found, wanted) = (obs.len(), self.obs_len);
            return Err(raise(format!("{found} numbers are no whole number of observations of {wanted}")));
        }
        let mut actions = vec![0.0; rows * self.action_len];
        let agent = self.agent.get_mut().unwrap_or_else(PoisonError::into_inner);
        let masks = masks.as_ref().map_or(Ok(&[][..]), |m| m.as_slice())?;
        let mut memory = memory.as_ref().map_or(Ok(&[][..]), |m| m.as_slice())?.to_vec();
        if memory.is_empty() {
            memory.resize(rows * agent.memory_len(), 0.0);
        }
        for (what, found, wanted) in [
            ("masks", masks.len(), if masks.is_empty() { 0 } else { rows * self.spec.mask_len() }),
            ("memory", memory.len(), rows * agent.memory_len()),
        ] {
            if found != wanted {
                return Err(raise(format!("{found} numbers of {what}; {rows} rows need {wanted}")));
            }
        }
        let how = if sampled { Acting::Sampled } else { Acting::Greedy };
        agent.act(&mut Seen { obs, masks, memory: &mut memory }, how, &mut actions, &mut self.rng);
        let memory_len = agent.memory_len();
        let memory = PyArray1::from_vec(py, memory).reshape([rows, memory_len])?;
        Ok((PyArray1::from_vec(py, actions).reshape([rows, self.action_len])?, memory))
    }
}
