//! One environment.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use numpy::{PyArray1, PyArray3, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use steadfast::{render, settings};
use steadfast_envs::rng::{self, Purpose};
use steadfast_envs::{Env, Maker, Rng, State};

use crate::{Home, raise, space, state};

/// The constructor of a registered environment with options as texts.
///
/// # Errors
/// For an unknown environment or option.
pub fn maker(id: &str, options: &BTreeMap<String, String>) -> PyResult<Maker> {
    settings::env_maker(id, options).map_err(raise)
}

/// A scene as pixels, `[height, width, 3]`.
pub fn pixels<'py>(py: Python<'py>, env: &dyn Env) -> PyResult<Bound<'py, PyArray3<u8>>> {
    let scene = env.scene().ok_or_else(|| raise(format!("'{}' has no picture", env.spec().id)))?;
    let frame = render::frame(&scene, 1.0).map_err(raise)?;
    let rgb: Vec<u8> = frame.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    PyArray1::from_vec(py, rgb).reshape([frame.height() as usize, frame.width() as usize, 3])
}

/// One environment and its stream: all agents' observations and actions one after another, without a time limit.
#[pyclass(module = "steadfast._steadfast")]
pub struct NativeEnv {
    home: Home,
    // Never locked: with `&mut self` at hand it only makes the environment shareable.
    env: Mutex<Box<dyn Env>>,
    rng: Rng,
    action: Vec<f64>,
    obs: Vec<f32>,
    rewards: Vec<f64>,
}

impl NativeEnv {
    fn env(&mut self) -> &mut dyn Env {
        self.env.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut()
    }
}

#[pymethods]
impl NativeEnv {
    #[new]
    fn new(id: &str, options: BTreeMap<String, String>) -> PyResult<Self> {
        let env = maker(id, &options)?();
        let spec = env.spec();
        let (obs, action) = (vec![0.0; spec.obs_len()], vec![0.0; spec.action_len()]);
        let rewards = vec![0.0; spec.agents.len()];
        let rng = rng::stream(0, Purpose::Env, 0);
        Ok(Self { home: Home::here(), env: Mutex::new(env), rng, action, obs, rewards })
    }

    /// What the environment is: agents with their spaces, limits, and seconds between two pictures.
    fn spec<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let spec = self.env().spec().clone();
        let agent = |a: &steadfast_envs::AgentSpec| -> PyResult<Bound<'py, PyTuple>> {
            (&a.name, space(py, &a.obs)?, space(py, &a.action)?).into_pyobject(py)
        };
        let dict = PyDict::new(py);
        dict.set_item("id", &spec.id)?;
        dict.set_item("agents", spec.agents.iter().map(agent).collect::<PyResult<Vec<_>>>()?)?;
        dict.set_item("max_steps", spec.max_steps)?;
        dict.set_item("reward_threshold", spec.reward_threshold)?;
        dict.set_item("reward_range", spec.reward_range)?;
        dict.set_item("dt", self.env().scene().map(|scene| scene.dt))?;
        Ok(dict)
    }

    /// Draws from the stream of that seed from now on.
    fn seed(&mut self, seed: u64) {
        self.rng = rng::stream(seed, Purpose::Env, 0);
    }

    /// Starts an episode; its first observation.
    fn reset<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f32>>> {
        self.home.check("environment")?;
        let env = self.env.get_mut().unwrap_or_else(PoisonError::into_inner);
        env.reset(&mut self.rng, &mut self.obs);
        Ok(PyArray1::from_slice(py, &self.obs))
    }

    /// Observation, rewards of the agents, and whether the task terminated.
    fn step<'py>(
        &mut self,
        py: Python<'py>,
        action: PyReadonlyArray1<'py, f64>,
    ) -> PyResult<(Bound<'py, PyArray1<f32>>, Vec<f64>, bool)> {
        self.home.check("environment")?;
        let action = action.as_slice()?;
        if action.len() != self.action.len() {
            return Err(raise(format!("the action has {} numbers, not {}", action.len(), self.action.len())));
        }
        let env = self.env.get_mut().unwrap_or_else(PoisonError::into_inner);
        env.spec().clip(action, &mut self.action);
        let terminated = env.step(&self.action, &mut self.rng, &mut self.obs, &mut self.rewards);
        Ok((PyArray1::from_slice(py, &self.obs), self.rewards.clone(), terminated))
    }

    /// Which choices each agent has now, a flag for each of their values; None where there is always every choice.
    fn masks<'py>(&mut self, py: Python<'py>) -> Option<Vec<Bound<'py, PyArray1<i8>>>> {
        let spec = self.env().spec().clone();
        if !spec.masked {
            return None;
        }
        let mut mask = vec![true; spec.mask_len()];
        self.env().mask(&mut mask);
        let mut rest = mask.iter().map(|allowed| i8::from(*allowed));
        let numbers = spec.agents.iter().map(|a| a.action.choices().iter().sum());
        Some(numbers.map(|n| PyArray1::from_iter(py, rest.by_ref().take(n))).collect())
    }

    /// The present state as a central critic sees it.
    fn central_state<'py>(&mut self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        let mut state = vec![0.0; self.env().spec().state_len];
        if state.is_empty() {
            return PyArray1::from_slice(py, &self.obs);
        }
        self.env().central_state(&mut state);
        PyArray1::from_vec(py, state)
    }

    /// Everything that a step depends on: the environment's arrays, and its stream.
    fn get_state<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let mut saved = State::new();
        self.env().save(&mut saved);
        rng::save(&self.rng, "rng", &mut saved);
        state::to_dict(py, &saved)
    }

    /// Goes on from a state; without `rng` in it, on the present stream.
    fn set_state(&mut self, values: &Bound<PyDict>) -> PyResult<()> {
        self.home.check("environment")?;
        let saved = state::from_dict(values)?;
        self.env().load(&saved).map_err(raise)?;
        if saved.contains("rng") {
            self.rng = rng::load("rng", &saved).map_err(raise)?;
        }
        Ok(())
    }

    /// The present state as pixels, `[height, width, 3]`.
    fn render<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyArray3<u8>>> {
        pixels(py, self.env())
    }
}
