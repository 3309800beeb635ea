//! Saved states as dictionaries of NumPy arrays.

use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use steadfast_envs::State;
use steadfast_envs::state::Array;

/// Arrays by name.
pub fn to_dict<'py>(py: Python<'py>, state: &State) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, array) in state.iter() {
        match array {
            Array::F32(_, v) => dict.set_item(name, PyArray1::from_slice(py, v))?,
            Array::F64(v) => dict.set_item(name, PyArray1::from_slice(py, v))?,
            Array::U64(v) => dict.set_item(name, PyArray1::from_slice(py, v))?,
        }
    }
    Ok(dict)
}

/// What [`to_dict`] made, or a user: the type of an array says which it is.
///
/// # Errors
/// For a value that is no vector of float32, float64 or uint64.
pub fn from_dict(dict: &Bound<PyDict>) -> PyResult<State> {
    let mut state = State::new();
    for (name, value) in dict {
        let name: String = name.extract()?;
        if let Ok(array) = value.cast::<PyArray1<f64>>() {
            state.put_f64(&name, &array.to_vec()?);
        } else if let Ok(array) = value.cast::<PyArray1<f32>>() {
            state.put_f32(&name, &array.to_vec()?);
        } else if let Ok(array) = value.cast::<PyArray1<u64>>() {
            state.put_u64(&name, &array.to_vec()?);
        } else {
            return Err(crate::raise(format!(
                "state entry '{name}' must be a one-dimensional array of float64, float32 or uint64"
            )));
        }
    }
    Ok(state)
}
