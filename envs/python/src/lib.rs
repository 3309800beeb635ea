//! The compiled half of the Python package `steadfast`: environments, trainings and trained policies.
//!
//! What users see is in `steadfast/*.py`; these classes do the work and know neither Gymnasium nor PettingZoo.
#![cfg(feature = "python")]

mod env;
mod run;
mod state;
mod vector;

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use steadfast_envs::{REGISTRY, Space};

/// As in the binary: the system's allocator would triple the time of an update.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pyo3::create_exception!(
    steadfast,
    SteadfastError,
    PyRuntimeError,
    "What cannot be done, and what to do about it."
);

/// An error of ours, in Python.
fn raise(error: impl std::fmt::Display) -> PyErr {
    SteadfastError::new_err(format!("{error:#}"))
}

/// Forks that lie between the process that imported this module and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// The process in which an object lives. Threads, and locks that they hold, do not survive a fork.
struct Home(u64);

impl Home {
    fn here() -> Self {
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// That of the import. What trainings and policies share, pools of threads above all, lives there.
    fn of_the_module() -> Self {
        Self(0)
    }

    /// # Errors
    /// In a child of the process that made the object.
    fn check(&self, what: &str) -> PyResult<()> {
        if self.0 == FORKS.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(raise(format!(
            "this {what} is from before the process forked, and cannot be used in the child: make it there, or start \
             processes by 'spawn'"
        )))
    }
}

/// `os.register_at_fork` calls it in children.
#[pyfunction]
fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Names and summaries of all registered environments.
#[pyfunction]
fn registry() -> Vec<(&'static str, &'static str)> {
    REGISTRY.iter().map(|e| (e.id, e.summary)).collect()
}

/// A space as a tuple: kind, and its bounds or numbers of choices.
fn space<'py>(py: Python<'py>, of: &Space) -> PyResult<Bound<'py, PyTuple>> {
    match of {
        Space::Box { low, high } => ("Box", low, high).into_pyobject(py),
        Space::Discrete(n) => ("Discrete", *n).into_pyobject(py),
        Space::MultiDiscrete(n) => ("MultiDiscrete", n).into_pyobject(py),
        Space::Hybrid(parts) => {
            let parts = parts.iter().map(|part| space(py, part)).collect::<PyResult<Vec<_>>>()?;
            ("Tuple", parts).into_pyobject(py)
        }
    }
}

#[pymodule]
fn _steadfast(module: &Bound<PyModule>) -> PyResult<()> {
    module.add("SteadfastError", module.py().get_type::<SteadfastError>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<env::NativeEnv>()?;
    module.add_class::<vector::NativeVectorEnv>()?;
    module.add_class::<run::Policy>()?;
    module.add_function(wrap_pyfunction!(forked, module)?)?;
    module.add_function(wrap_pyfunction!(registry, module)?)?;
    module.add_function(wrap_pyfunction!(run::train, module)?)?;
    module.add_function(wrap_pyfunction!(run::result, module)?)
}
