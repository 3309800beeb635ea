//! Checkpoints: named arrays in one safetensors file, with a checksum, written atomically.
//!
//! `checkpoint/state.safetensors` holds everything that a run needs to go on exactly: weights by layer
//! (`agent.policy.0.weight`), optimiser moments, normalisers, environment states, streams, counters and the lengths of
//! the CSV files. Any safetensors reader opens it.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use steadfast_envs::State;
use steadfast_envs::state::Array;

/// Version of the layout of the names within a checkpoint.
const FORMAT: &str = "steadfast-checkpoint-1";

/// Writes `state` to `path`.
///
/// # Errors
/// When the file cannot be written; an older checkpoint then stays.
pub fn save(path: &Path, state: &State) -> Result<()> {
    let arrays: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = state
        .iter()
        .map(|(name, array)| {
            let (dtype, shape, bytes) = match array {
                Array::F32(shape, v) => (Dtype::F32, shape.clone(), le_bytes(v, |x| x.to_le_bytes())),
                Array::F64(v) => (Dtype::F64, vec![v.len()], le_bytes(v, |x| x.to_le_bytes())),
                Array::U64(v) => (Dtype::U64, vec![v.len()], le_bytes(v, |x| x.to_le_bytes())),
            };
            (name.to_owned(), dtype, shape, bytes)
        })
        .collect();
    let views = arrays
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata =
        HashMap::from([("format".to_owned(), FORMAT.to_owned()), ("blake3".to_owned(), checksum(state))]);
    let bytes = serialize(views, Some(metadata)).context("cannot serialise the checkpoint")?;
    crate::record::write_atomic(path, &bytes)
}

/// Reads what [`save`] wrote.
///
/// # Errors
/// When the file is missing, truncated, changed, or no checkpoint of this version.
pub fn load(path: &Path) -> Result<State> {
    let shown = path.display();
    let advice = "delete the run's directory to start it anew";
    let bytes = std::fs::read(path).with_context(|| format!("cannot read checkpoint {shown}"))?;
    let damaged = |why: String| anyhow!("checkpoint {shown} is damaged ({why}); {advice}");
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    match metadata.get("format").map(String::as_str) {
        Some(FORMAT) => {}
        Some(other) => {
            bail!("checkpoint {shown} has format '{other}', this version reads '{FORMAT}'; {advice}")
        }
        None => bail!("{shown} is a safetensors file but no checkpoint of steadfast"),
    }
    let mut state = State::new();
    for (name, view) in tensors.iter() {
        let data = view.data();
        let array = match view.dtype() {
            Dtype::F32 => Array::F32(view.shape().to_vec(), words(data, f32::from_le_bytes)),
            Dtype::F64 => Array::F64(words(data, f64::from_le_bytes)),
            Dtype::U64 => Array::U64(words(data, u64::from_le_bytes)),
            other => return Err(damaged(format!("entry '{name}' has type {other:?}"))),
        };
        state.put(name, array);
    }
    if metadata.get("blake3") != Some(&checksum(&state)) {
        return Err(damaged("its checksum does not match".to_owned()));
    }
    Ok(state)
}

fn le_bytes<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|v| bytes(*v)).collect()
}

fn words<T, const N: usize>(bytes: &[u8], word: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|w| word(*w)).collect()
}

/// Hash of all names, types and bits.
fn checksum(state: &State) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, array) in state.iter() {
        hasher.update(name.as_bytes());
        let (tag, bytes) = match array {
            Array::F32(_, v) => (b"\0f32\0", le_bytes(v, |x| x.to_le_bytes())),
            Array::F64(v) => (b"\0f64\0", le_bytes(v, |x| x.to_le_bytes())),
            Array::U64(v) => (b"\0u64\0", le_bytes(v, |x| x.to_le_bytes())),
        };
        hasher.update(tag);
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state = State::new();
        state.put("a.weight", Array::F32(vec![2, 2], vec![1.0, f32::MIN_POSITIVE, -0.0, f32::MAX]));
        state.put_f64("b", &[std::f64::consts::PI, 1e-300]);
        state.put_u64("c", &[u64::MAX, 0]);
        state.put_f32("empty", &[]);
        state
    }

    #[test]
    fn a_checkpoint_comes_back_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.safetensors");
        save(&path, &state()).unwrap();
        assert_eq!(load(&path).unwrap(), state());
    }

    #[test]
    fn damage_of_any_byte_and_truncation_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.safetensors");
        save(&path, &state()).unwrap();
        let good = std::fs::read(&path).unwrap();
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x11;
            std::fs::write(&path, &bad).unwrap();
            // A flipped byte of padding or of a key's order may be harmless, but never changes a value.
            assert!(load(&path).map_or(true, |s| s == state()), "byte {i}");
        }
        for len in 0..good.len() {
            std::fs::write(&path, &good[..len]).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains("damaged"), "{error}");
        }
    }
}
