//! Checkpoints: named arrays in one safetensors file, with a checksum, written atomically.
//!
//! `checkpoint/state.safetensors` holds everything that a run needs to go on exactly: weights by layer
//! (`agent.policy.0.weight`), optimiser moments, normalisers, environment states, streams, counters and the lengths of
//! the CSV files. Any safetensors reader opens it.
//!
//! A replay buffer is large and changes little between checkpoints. Its transitions go to files of their own,
//! `checkpoint/replay/<number of the first>.safetensors`, of which a checkpoint writes only those with new transitions, and
//! then deletes those that the buffer has forgotten.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use steadfast_agents::Replay;
use steadfast_envs::State;
use steadfast_envs::state::Array;

/// Most transitions in one file of a replay buffer.
const PIECE: u64 = 16_384;

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

/// Writes to `folder` the transitions of `replay` from number `saved` on, which the checkpoint before did not have.
/// What that checkpoint needs stays as it is.
///
/// # Errors
/// When a file cannot be written; the older files then stay.
pub fn save_replay(folder: &Path, replay: &Replay, saved: u64) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut from = saved.max(replay.oldest());
    while from < replay.stored() {
        let start = from / PIECE * PIECE;
        let first = start.max(replay.oldest());
        let end = (start + PIECE).min(replay.stored());
        save(&piece_path(folder, first), &replay.piece(first, end))?;
        from = end;
    }
    Ok(())
}

/// Deletes the files of `folder` that no transition of `replay` needs, once a checkpoint is complete. A file that cannot
/// be deleted is in nobody's way.
pub fn prune_replay(folder: &Path, replay: &Replay) {
    let firsts = pieces(folder);
    for pair in firsts.windows(2).filter(|pair| pair[1] <= replay.oldest()) {
        let _ = std::fs::remove_file(piece_path(folder, pair[0]));
    }
}

/// Fills `replay`, which knows how much it had stored, from `folder`.
///
/// # Errors
/// When a file is damaged, or a transition is in none.
pub fn load_replay(folder: &Path, replay: &mut Replay) -> Result<()> {
    let stored = replay.stored();
    for first in pieces(folder).into_iter().filter(|first| *first < stored) {
        let path = piece_path(folder, first);
        replay.restore(&load(&path)?).with_context(|| format!("{} does not fit this run", path.display()))?;
    }
    if !replay.is_complete() {
        bail!("{} lacks transitions that the checkpoint needs; delete the run's directory", folder.display());
    }
    Ok(())
}

fn piece_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:012}.safetensors"))
}

/// Numbers of the first transitions of the files in `folder`, in order.
fn pieces(folder: &Path) -> Vec<u64> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut firsts: Vec<u64> = files
        .filter_map(|file| file.file_name().to_str()?.strip_suffix(".safetensors")?.parse().ok())
        .collect();
    firsts.sort_unstable();
    firsts
}

fn le_bytes<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut all = Vec::with_capacity(N * values.len());
    values.iter().for_each(|v| all.extend_from_slice(&bytes(*v)));
    all
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
    use steadfast_agents::core::replay::Transition;

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

    /// A buffer of observation i, that goes on from `replay`.
    fn push(replay: &mut Replay, upto: u64) {
        while replay.stored() < upto {
            let x = [replay.stored() as f32];
            replay.push(&Transition { obs: &x, action: &x, rewards: &x, next_obs: &x, terminated: false });
        }
    }

    /// Checkpoints at any moments, each of them loadable until the next is complete, and no more files than needed.
    #[test]
    fn a_replay_buffer_comes_back_from_every_checkpoint() {
        for capacity in [1, 700, PIECE as usize, 3 * PIECE as usize + 11] {
            let dir = tempfile::tempdir().unwrap();
            let new = || Replay::new(capacity, 1, 1).unwrap();
            let (mut replay, mut saved) = (new(), 0);
            let same_after = |stored: u64, replay: &Replay| {
                let mut other = new();
                other.expect(stored);
                load_replay(dir.path(), &mut other).unwrap();
                let held = stored - other.len() as u64..stored;
                let mut fresh = new();
                push(&mut fresh, stored);
                assert_eq!(other.piece(held.start, held.end), fresh.piece(held.start, held.end));
                assert!(replay.stored() >= stored);
            };
            for step in [5, 300, 1, 0, PIECE - 306, 1, PIECE, 3 * PIECE + 7, 200, 200, PIECE / 2, PIECE] {
                let upto = saved + step;
                push(&mut replay, upto);
                save_replay(dir.path(), &replay, saved).unwrap();
                // Killed here: the checkpoint before must still hold.
                same_after(saved, &replay);
                prune_replay(dir.path(), &replay);
                saved = replay.stored();
                same_after(saved, &replay);
                let files = pieces(dir.path()).len() as u64;
                assert!(files <= capacity as u64 / PIECE + 2, "{files} files of {capacity}");
            }
            std::fs::remove_file(piece_path(dir.path(), *pieces(dir.path()).last().unwrap())).unwrap();
            let mut other = new();
            other.expect(saved);
            let error = load_replay(dir.path(), &mut other).unwrap_err().to_string();
            assert!(error.contains("lacks transitions"), "{error}");
        }
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
