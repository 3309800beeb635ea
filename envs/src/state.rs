//! Named arrays: the one form in which environments and agents save what they need to go on exactly.

use std::collections::BTreeMap;

/// One array of a [`State`].
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Network weights and the like, with a shape.
    F32(Vec<usize>, Vec<f32>),
    /// Physics and statistics.
    F64(Vec<f64>),
    /// Counters, flags and generator states.
    U64(Vec<u64>),
}

/// Named arrays, ordered by name. Names are dotted paths: `env.3.state`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State(BTreeMap<String, Array>);

/// A saved state does not fit what loads it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StateError {
    /// No entry of that name and type.
    #[error("the saved state has no entry '{0}' of the expected type")]
    Missing(String),
    /// Another length than expected.
    #[error("the saved entry '{name}' has {found} values where {expected} are expected")]
    Length {
        /// Entry.
        name: String,
        /// Expected number of values.
        expected: usize,
        /// Number found.
        found: usize,
    },
    /// A value that the loader cannot accept.
    #[error("the saved entry '{name}' is out of range: {why}")]
    Invalid {
        /// Entry.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A task that is saved as what happened in it, and in which it does not happen again.
    #[error("{0}")]
    Unrepeatable(String),
}

impl State {
    /// An empty state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces an array.
    pub fn put(&mut self, name: &str, array: Array) {
        self.0.insert(name.to_owned(), array);
    }

    /// Adds `f64` values.
    pub fn put_f64(&mut self, name: &str, values: &[f64]) {
        self.put(name, Array::F64(values.to_vec()));
    }

    /// Adds `f32` values as a vector.
    pub fn put_f32(&mut self, name: &str, values: &[f32]) {
        self.put(name, Array::F32(vec![values.len()], values.to_vec()));
    }

    /// Adds whole numbers.
    pub fn put_u64(&mut self, name: &str, values: &[u64]) {
        self.put(name, Array::U64(values.to_vec()));
    }

    /// Adds all entries of `other` under `prefix.`.
    pub fn put_state(&mut self, prefix: &str, other: State) {
        self.0.extend(other.0.into_iter().map(|(name, array)| (format!("{prefix}.{name}"), array)));
    }

    /// The `f64` values of that name, exactly `len` of them.
    ///
    /// # Errors
    /// When the entry is missing or has another length.
    pub fn f64(&self, name: &str, len: usize) -> Result<&[f64], StateError> {
        match self.0.get(name) {
            Some(Array::F64(values)) => of_length(name, values, len),
            _ => Err(StateError::Missing(name.to_owned())),
        }
    }

    /// The `f64` values of that name as an array.
    ///
    /// # Errors
    /// When the entry is missing or has another length.
    pub fn f64_array<const N: usize>(&self, name: &str) -> Result<[f64; N], StateError> {
        let mut array = [0.0; N];
        array.copy_from_slice(self.f64(name, N)?);
        Ok(array)
    }

    /// The `f32` values of that name, exactly `len` of them.
    ///
    /// # Errors
    /// When the entry is missing or has another length.
    pub fn f32(&self, name: &str, len: usize) -> Result<&[f32], StateError> {
        match self.0.get(name) {
            Some(Array::F32(_, values)) => of_length(name, values, len),
            _ => Err(StateError::Missing(name.to_owned())),
        }
    }

    /// The whole numbers of that name, exactly `len` of them.
    ///
    /// # Errors
    /// When the entry is missing or has another length.
    pub fn u64(&self, name: &str, len: usize) -> Result<&[u64], StateError> {
        match self.0.get(name) {
            Some(Array::U64(values)) => of_length(name, values, len),
            _ => Err(StateError::Missing(name.to_owned())),
        }
    }

    /// The entries under `prefix.`, without it.
    pub fn state(&self, prefix: &str) -> State {
        let prefix = format!("{prefix}.");
        let under = |(name, array): (&String, &Array)| {
            name.strip_prefix(&prefix).map(|rest| (rest.to_owned(), array.clone()))
        };
        Self(self.0.iter().filter_map(under).collect())
    }

    /// Whether there is an entry of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// All entries, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.0.iter().map(|(name, array)| (name.as_str(), array))
    }
}

fn of_length<'a, T>(name: &str, values: &'a [T], len: usize) -> Result<&'a [T], StateError> {
    if values.len() == len {
        Ok(values)
    } else {
        Err(StateError::Length { name: name.to_owned(), expected: len, found: values.len() })
    }
}
