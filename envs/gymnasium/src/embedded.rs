//! Environments in the interpreter of this process.

use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use steadfast_envs::Picture;

use crate::{BRIDGE, Driver};

/// `bridge.py` as a module of the interpreter.
fn bridge(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || {
        PyModule::from_code(py, BRIDGE, c"steadfast_bridge.py", c"steadfast_bridge").map(Bound::unbind)
    })?;
    Ok(module.bind(py))
}

/// What an exception says, then where it was raised.
fn explain(py: Python, error: &PyErr) -> String {
    let text = bridge(py)
        .and_then(|m| m.getattr("explain")?.call1((error.clone_ref(py).into_value(py),))?.extract());
    text.unwrap_or_else(|_| error.to_string())
}

/// `bridge.Driver`, with what every step needs at hand: this does in Rust what its method `step` does.
struct Embedded {
    driver: Py<PyAny>,
    step: Py<PyAny>,
    read: Py<PyAny>,
    write: Py<PyAny>,
    /// What `write` writes to.
    obs: Py<PyArray1<f32>>,
    /// Whether observations may be vectors as they are.
    vectors: bool,
    /// Whether a float32 vector is an action as it is.
    single: bool,
}

/// What a step returns: observation, reward, terminated, truncated, info.
type Answer<'py> = (Bound<'py, PyAny>, f64, Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);

/// A new environment in this process, and its specification.
///
/// # Errors
/// When there is no interpreter or no Gymnasium, and what the environment raised.
pub fn open(name: &str, options: &str, render: bool) -> Result<(Box<dyn Driver>, String), String> {
    #[cfg(feature = "embed")]
    crate::interpreter::start()?;
    with(|py| {
        let driver = bridge(py)?.getattr("Driver")?.call1((name, options, render))?;
        let spec = driver.getattr("spec")?.extract()?;
        let obs = driver.getattr("obs")?.cast_into::<PyArray1<f32>>()?.unbind();
        let at_hand = |name: &str| driver.getattr(name).map(Bound::unbind);
        let step = driver.getattr("env")?.getattr("step")?.unbind();
        let (read, write) = (at_hand("read")?, at_hand("write")?);
        let [vectors, single] = ["vectors", "single"].map(|flag| driver.getattr(flag)?.extract::<bool>());
        let (vectors, single) = (vectors?, single?);
        let driver: Box<dyn Driver> =
            Box::new(Embedded { driver: driver.unbind(), step, read, write, obs, vectors, single });
        Ok((driver, spec))
    })
}

fn with<T>(f: impl FnOnce(Python) -> PyResult<T>) -> Result<T, String> {
    Python::try_attach(|py| f(py).map_err(|e| explain(py, &e)))
        .unwrap_or_else(|| Err("the Python interpreter is shutting down".to_owned()))
}

impl Embedded {
    /// What `write` wrote.
    fn written(&self, py: Python, obs: &mut [f32]) -> PyResult<()> {
        obs.copy_from_slice(self.obs.bind(py).readonly().as_slice()?);
        Ok(())
    }

    /// Reads what the environment returned: here where it is a plain vector, else by the checks of `write`.
    fn observe(&self, seen: &Bound<PyAny>, obs: &mut [f32]) -> PyResult<()> {
        if self.vectors
            && let Ok(seen) = seen.cast::<PyArray1<f64>>()
            && seen.len()? == obs.len()
        {
            let seen = seen.readonly();
            obs.iter_mut().zip(seen.as_array()).for_each(|(x, seen)| *x = *seen as f32);
        } else if self.vectors
            && let Ok(seen) = seen.cast::<PyArray1<f32>>()
            && seen.len()? == obs.len()
        {
            let seen = seen.readonly();
            obs.iter_mut().zip(seen.as_array()).for_each(|(x, seen)| *x = *seen);
        } else {
            self.write.bind(seen.py()).call1((seen,))?;
            self.written(seen.py(), obs)?;
        }
        Ok(())
    }
}

impl Driver for Embedded {
    fn reset(&mut self, seed: u64, obs: &mut [f32]) -> Result<(), String> {
        with(|py| {
            self.driver.bind(py).call_method1("reset", (seed,))?;
            self.written(py, obs)
        })
    }

    fn step(&mut self, action: &[f64], obs: &mut [f32]) -> Result<(f64, bool, bool), String> {
        with(|py| {
            let action = if self.single {
                PyArray1::from_iter(py, action.iter().map(|a| *a as f32)).into_any()
            } else {
                self.read.bind(py).call1((PyArray1::from_slice(py, action),))?
            };
            let answer = self.step.bind(py).call1((action,))?;
            let (seen, reward, terminated, truncated, _): Answer = answer.extract()?;
            self.observe(&seen, obs)?;
            // Environments return booleans of NumPy, too.
            Ok((reward, terminated.is_truthy()?, truncated.is_truthy()?))
        })
    }

    fn picture(&mut self) -> Result<Picture, String> {
        with(|py| {
            let (height, width, rgb, fps) = self.driver.bind(py).call_method0("picture")?.extract()?;
            Ok(Picture { width, height, rgb, fps })
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // What an environment raises when it is closed changes nothing any more.
        let _ = with(|py| self.driver.bind(py).call_method0("close").map(drop));
    }
}

/// The program of the interpreter that this process is.
#[cfg(not(feature = "embed"))]
pub fn program() -> Result<std::path::PathBuf, String> {
    with(|py| py.import("sys")?.getattr("executable")?.extract())
}
