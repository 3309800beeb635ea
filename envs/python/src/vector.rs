//! Many copies of an environment, stepped together without Python's lock.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use numpy::ndarray::{ArrayView1, ArrayView2};
use numpy::{PyArray1, PyArray2, PyArray3, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use steadfast_envs::rng::{self, Purpose};
use steadfast_envs::{Autoreset, VecEnv};

use crate::{Home, raise, state};

/// Views of the arrays that a step writes: observations, last observations, rewards, terminated, truncated.
type Views<'py> = (
    Bound<'py, PyArray2<f32>>,
    Bound<'py, PyArray2<f32>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<bool>>,
    Bound<'py, PyArray1<bool>>,
);

/// Copies of one environment with one agent.
#[pyclass(module = "steadfast._steadfast")]
pub struct NativeVectorEnv {
    home: Home,
    // Never locked: with `&mut self` at hand it only makes the environments shareable.
    envs: Mutex<VecEnv>,
    waits: bool,
}

impl NativeVectorEnv {
    fn envs(&mut self) -> &mut VecEnv {
        self.envs.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl NativeVectorEnv {
    #[new]
    fn new(
        id: &str,
        options: BTreeMap<String, String>,
        copies: usize,
        threads: usize,
        autoreset: &str,
        max_steps: Option<usize>,
    ) -> PyResult<Self> {
        let make = crate::env::maker(id, &options)?;
        let mode = match autoreset {
            "SameStep" => Autoreset::SameStep,
            "NextStep" => Autoreset::NextStep,
            "Disabled" => Autoreset::Disabled,
            other => {
                return Err(raise(format!(
                    "autoreset_mode must be NextStep, SameStep or Disabled, not {other}"
                )));
            }
        };
        let mut envs = VecEnv::new(&make, copies, 0, Purpose::Env, threads);
        if envs.spec().agents.len() > 1 {
            return Err(raise(format!("'{id}' has several agents: use steadfast.parallel_env")));
        }
        envs.set_autoreset(mode);
        envs.set_max_steps(max_steps);
        Ok(Self { home: Home::here(), envs: Mutex::new(envs), waits: mode == Autoreset::Disabled })
    }

    /// Views of the arrays that every step and reset writes anew.
    fn views<'py>(slf: &Bound<'py, Self>) -> PyResult<Views<'py>> {
        let mut this = slf.try_borrow_mut()?;
        let envs = this.envs();
        let (n, obs_len) = (envs.len(), envs.spec().obs_len());
        let matrix = |values| ArrayView2::from_shape((n, obs_len), values).map_err(raise);
        let owner = || slf.clone().into_any();
        // SAFETY: the arrays live in the VecEnv, which never moves them to other memory, and that in `slf`, which the views
        // keep alive. Rust writes to them only within `step`, `reset` and `set_state`, which take it exclusively.
        unsafe {
            Ok((
                PyArray2::borrow_from_array(&matrix(envs.obs())?, owner()),
                PyArray2::borrow_from_array(&matrix(envs.final_obs())?, owner()),
                PyArray1::borrow_from_array(&ArrayView1::from(envs.rewards()), owner()),
                PyArray1::borrow_from_array(&ArrayView1::from(envs.terminated()), owner()),
                PyArray1::borrow_from_array(&ArrayView1::from(envs.truncated()), owner()),
            ))
        }
    }

    /// Starts new episodes in all copies, or where `mask` says; a copy with a seed draws from that stream from then on.
    fn reset(
        &mut self,
        py: Python,
        seeds: Vec<Option<u64>>,
        mask: Option<PyReadonlyArray1<bool>>,
    ) -> PyResult<()> {
        self.home.check("vector environment")?;
        let envs = self.envs();
        let n = envs.len();
        let mask = match &mask {
            Some(mask) => mask.as_slice()?.to_vec(),
            None => vec![true; n],
        };
        if seeds.len() != n || mask.len() != n {
            return Err(raise(format!(
                "{} seeds, a mask of {}, and {n} environments",
                seeds.len(),
                mask.len()
            )));
        }
        for i in (0..n).filter(|i| mask[*i]) {
            if let Some(seed) = seeds[i] {
                envs.set_rng(i, rng::stream(seed, Purpose::Env, 0));
            }
        }
        py.detach(|| envs.reset_where(|i| mask[i]));
        Ok(())
    }

    /// Steps every copy with its row of `actions`, `[copies, action_len]`; other Python threads run meanwhile.
    fn step(&mut self, py: Python, actions: PyReadonlyArray2<f32>) -> PyResult<()> {
        self.home.check("vector environment")?;
        let waits = self.waits;
        let envs = self.envs();
        let actions = actions.as_slice()?;
        let wanted = envs.len() * envs.spec().action_len();
        if actions.len() != wanted {
            return Err(raise(format!("the actions have {} numbers, not {wanted}", actions.len())));
        }
        if waits && let Some(i) = (0..envs.len()).find(|i| envs.is_over(*i)) {
            return Err(raise(format!(
                "the episode of environment {i} is over: reset(options={{'reset_mask': ...}}) comes first, as \
                 autoreset_mode is Disabled"
            )));
        }
        py.detach(|| {
            envs.step(actions);
            // Nobody asks for the finished episodes.
            envs.take_episodes();
        });
        Ok(())
    }

    /// All copies with their streams and running episodes.
    fn get_state<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        state::to_dict(py, &self.envs().save())
    }

    /// Restores what `get_state` gave, in the same number of copies.
    fn set_state(&mut self, values: &Bound<PyDict>) -> PyResult<()> {
        self.home.check("vector environment")?;
        let saved = state::from_dict(values)?;
        self.envs().load(&saved).map_err(raise)
    }

    /// Copy `i` as pixels, `[height, width, 3]`.
    fn render<'py>(&mut self, py: Python<'py>, i: usize) -> PyResult<Bound<'py, PyArray3<u8>>> {
        crate::env::pixels(py, self.envs().env(i))
    }
}
