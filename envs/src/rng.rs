//! Random streams: one portable generator, one stream for each (run seed, purpose, index).
//!
//! Every random number of a run is drawn on the host from such a stream, so that a run depends on
//! its seed alone: not on threads, devices or the order in which other parts draw.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{State, StateError};

/// The generator of every stream: ChaCha with 8 rounds, the same on every platform.
pub type Rng = ChaCha8Rng;

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Dynamics and resets of one environment copy of the training run.
    Env = 1,
    /// Initial weights.
    Init = 2,
    /// Sampled actions.
    Action = 3,
    /// Minibatch order and replay sampling.
    Minibatch = 4,
    /// Dynamics and resets of one evaluation episode.
    Eval = 5,
    /// Statistics: bootstrap resampling.
    Bootstrap = 6,
    /// Tests and checks.
    Check = 7,
    /// Layouts of levels, whatever run plays them.
    Level = 8,
}

/// The stream of `purpose` number `index` in the run of that `seed`.
///
/// The 256-bit key holds the three numbers side by side, so distinct triples give distinct
/// keys and, ChaCha being a block cipher, unrelated streams.
pub fn stream(seed: u64, purpose: Purpose, index: u64) -> Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    key[24..].copy_from_slice(b"steadfst");
    Rng::from_seed(key)
}

/// Adds the generator's key and position to `state`.
pub fn save(rng: &Rng, name: &str, state: &mut State) {
    let seed = rng.get_seed();
    let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|b| seed[8 * i + b]));
    let position = rng.get_word_pos();
    state.put_u64(name, &[word(0), word(1), word(2), word(3), position as u64, (position >> 64) as u64]);
}

/// The generator that [`save`] wrote.
///
/// # Errors
/// When the entry is missing or has another length.
pub fn load(name: &str, state: &State) -> Result<Rng, StateError> {
    let words = state.u64(name, 6)?;
    let mut key = [0u8; 32];
    for i in 0..4 {
        key[8 * i..8 * i + 8].copy_from_slice(&words[i].to_le_bytes());
    }
    let mut rng = Rng::from_seed(key);
    rng.set_word_pos(u128::from(words[4]) | u128::from(words[5]) << 64);
    Ok(rng)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng as _;

    #[test]
    fn streams_differ_by_every_part_of_their_name() {
        let first = |seed, purpose, index| stream(seed, purpose, index).next_u64();
        let a = first(0, Purpose::Env, 0);
        assert_eq!(a, first(0, Purpose::Env, 0));
        assert_ne!(a, first(1, Purpose::Env, 0));
        assert_ne!(a, first(0, Purpose::Init, 0));
        assert_ne!(a, first(0, Purpose::Env, 1));
    }

    #[test]
    fn a_loaded_stream_goes_on_where_the_saved_one_stood() {
        let mut rng = stream(3, Purpose::Action, 7);
        for _ in 0..1001 {
            rng.next_u32();
        }
        let mut state = State::new();
        save(&rng, "rng", &mut state);
        let mut loaded = load("rng", &state).unwrap();
        assert!((0..100).all(|_| rng.next_u64() == loaded.next_u64()));
    }
}
