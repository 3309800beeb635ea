//! Experience replay: the last transitions, sampled uniformly.
//!
//! A struct of arrays in host memory, a ring once it is full. Transitions are numbered from the beginning of the
//! run, and their numbers decide what a checkpoint has to write: [`Replay::piece`] and [`Replay::restore`] move
//! ranges of them.

use rand::RngExt;
use steadfast_envs::{Rng, State, StateError};

use crate::BuildError;
use crate::config::bad;

/// The buffer.
pub struct Replay {
    obs_len: usize,
    action_len: usize,
    players: usize,
    capacity: usize,
    /// Transitions stored since the run began; number i lies in slot i mod capacity.
    stored: u64,
    /// s, `[len, O]`.
    obs: Vec<f32>,
    /// a as the policy gave it, `[len, A]`.
    actions: Vec<f32>,
    /// r of each player, `[len, M]`.
    rewards: Vec<f32>,
    /// s', `[len, O]`: of an episode that ended, its final observation.
    next_obs: Vec<f32>,
    /// 0 where the task ended the episode, else 1: what s' is worth, `[len]`.
    goes_on: Vec<f32>,
}

/// Transitions drawn from a [`Replay`], for its buffers kept between draws.
#[derive(Clone, Debug, Default)]
pub struct Transitions {
    /// s, `[B, O]`.
    pub obs: Vec<f32>,
    /// a, `[B, A]`.
    pub actions: Vec<f32>,
    /// r of each player, `[B, M]`.
    pub rewards: Vec<f32>,
    /// s', `[B, O]`.
    pub next_obs: Vec<f32>,
    /// 0 where the task ended the episode, else 1, `[B]`.
    pub goes_on: Vec<f32>,
}

/// One transition on its way into a [`Replay`].
pub struct Transition<'a> {
    /// s, `[O]`.
    pub obs: &'a [f32],
    /// a, `[A]`.
    pub action: &'a [f32],
    /// r of each player, `[M]`.
    pub rewards: &'a [f32],
    /// s', `[O]`.
    pub next_obs: &'a [f32],
    /// Whether the task ended the episode; a time limit does not.
    pub terminated: bool,
}

impl Replay {
    /// An empty buffer for `capacity` transitions of a single player. Memory is reserved at once, and used as it fills.
    ///
    /// # Errors
    /// When that much memory cannot be reserved; names the option `buffer`.
    pub fn new(capacity: usize, obs_len: usize, action_len: usize) -> Result<Self, BuildError> {
        Self::of_players(1, capacity, obs_len, action_len)
    }

    /// The same for several players, each with its own rewards; observations and actions are joint.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_players(
        players: usize,
        capacity: usize,
        obs_len: usize,
        action_len: usize,
    ) -> Result<Self, BuildError> {
        let reserve = |columns: usize| {
            let mut array = Vec::new();
            array.try_reserve_exact(capacity.saturating_mul(columns)).map(|()| array).map_err(|_| {
                let bytes = capacity as f64 * (2 * obs_len + action_len + players + 1) as f64 * 4.0;
                bad(
                    "buffer",
                    format!("{capacity} transitions need {:.1} GB of memory; lower it", bytes / 1e9),
                )
            })
        };
        Ok(Self {
            obs: reserve(obs_len)?,
            actions: reserve(action_len)?,
            rewards: reserve(players)?,
            next_obs: reserve(obs_len)?,
            goes_on: reserve(1)?,
            obs_len,
            action_len,
            players,
            capacity,
            stored: 0,
        })
    }

    /// Transitions stored since the run began.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// The first transition that the buffer still holds; the last is number [`Self::stored`] − 1.
    pub fn oldest(&self) -> u64 {
        self.stored - self.len() as u64
    }

    /// Transitions held.
    pub fn len(&self) -> usize {
        self.stored.min(self.capacity as u64) as usize
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.stored == 0
    }

    /// Stores a transition; a full buffer forgets its oldest.
    pub fn push(&mut self, t: &Transition) {
        let slot = (self.stored % self.capacity as u64) as usize;
        let goes_on = if t.terminated { 0.0 } else { 1.0 };
        put(&mut self.obs, slot, t.obs);
        put(&mut self.actions, slot, t.action);
        put(&mut self.rewards, slot, t.rewards);
        put(&mut self.next_obs, slot, t.next_obs);
        put(&mut self.goes_on, slot, &[goes_on]);
        self.stored += 1;
    }

    /// Draws `count` transitions with replacement into `to`.
    pub fn sample(&self, count: usize, rng: &mut Rng, to: &mut Transitions) {
        let (o, a, m, len) = (self.obs_len, self.action_len, self.players, self.len() as u32);
        to.obs.resize(count * o, 0.0);
        to.actions.resize(count * a, 0.0);
        to.rewards.resize(count * m, 0.0);
        to.next_obs.resize(count * o, 0.0);
        to.goes_on.resize(count, 0.0);
        for i in 0..count {
            let slot = rng.random_range(0..len) as usize;
            to.obs[i * o..(i + 1) * o].copy_from_slice(&self.obs[slot * o..(slot + 1) * o]);
            to.actions[i * a..(i + 1) * a].copy_from_slice(&self.actions[slot * a..(slot + 1) * a]);
            to.rewards[i * m..(i + 1) * m].copy_from_slice(&self.rewards[slot * m..(slot + 1) * m]);
            to.next_obs[i * o..(i + 1) * o].copy_from_slice(&self.next_obs[slot * o..(slot + 1) * o]);
            to.goes_on[i] = self.goes_on[slot];
        }
    }

    /// Transitions `from` to `to` (exclusive), all of which the buffer holds.
    pub fn piece(&self, from: u64, to: u64) -> State {
        let mut state = State::new();
        state.put_u64("range", &[from, to]);
        for (name, columns, array) in [
            ("obs", self.obs_len, &self.obs),
            ("actions", self.action_len, &self.actions),
            ("rewards", self.players, &self.rewards),
            ("next_obs", self.obs_len, &self.next_obs),
            ("goes_on", 1, &self.goes_on),
        ] {
            let rows = (from..to).flat_map(|i| {
                let slot = (i % self.capacity as u64) as usize;
                &array[slot * columns..(slot + 1) * columns]
            });
            state.put_f32(name, &rows.copied().collect::<Vec<f32>>());
        }
        state
    }

    /// Empties the buffer and has it wait for the pieces of one that had stored `stored` transitions.
    pub fn expect(&mut self, stored: u64) {
        self.stored = stored;
        let len = self.len();
        let Self { obs, actions, rewards, next_obs, goes_on, .. } = self;
        [obs, actions, rewards, next_obs, goes_on].into_iter().for_each(Vec::clear);
        self.obs.resize(len * self.obs_len, f32::NAN);
        self.actions.resize(len * self.action_len, f32::NAN);
        self.rewards.resize(len * self.players, f32::NAN);
        self.next_obs.resize(len * self.obs_len, f32::NAN);
        self.goes_on.resize(len, f32::NAN);
    }

    /// Whether no transition is waited for.
    pub fn is_complete(&self) -> bool {
        !self.goes_on.iter().any(|x| x.is_nan())
    }

    /// Takes what [`Self::piece`] gave; transitions that the buffer does not hold are passed over.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn restore(&mut self, piece: &State) -> Result<(), StateError> {
        let range = piece.u64("range", 2)?;
        let (from, to) = (range[0], range[1]);
        let rows = to.saturating_sub(from) as usize;
        let (oldest, stored, capacity) = (self.oldest(), self.stored, self.capacity as u64);
        for (name, columns, array) in [
            ("obs", self.obs_len, &mut self.obs),
            ("actions", self.action_len, &mut self.actions),
            ("rewards", self.players, &mut self.rewards),
            ("next_obs", self.obs_len, &mut self.next_obs),
            ("goes_on", 1, &mut self.goes_on),
        ] {
            let values = piece.f32(name, rows.saturating_mul(columns))?.chunks_exact(columns);
            for (number, row) in (from..to).zip(values).filter(|(i, _)| (oldest..stored).contains(i)) {
                put(array, (number % capacity) as usize, row);
            }
        }
        Ok(())
    }
}

/// Writes row `slot`, which may be the one after the last.
fn put(array: &mut Vec<f32>, slot: usize, row: &[f32]) {
    let start = slot * row.len();
    if start == array.len() {
        array.extend_from_slice(row);
    } else {
        array[start..start + row.len()].copy_from_slice(row);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use steadfast_envs::{Purpose, rng::stream};

    /// Every number of transition i tells i.
    fn push(replay: &mut Replay, i: u64) {
        let x = i as f32;
        replay.push(&Transition {
            obs: &[x, x + 0.25],
            action: &[-x],
            rewards: &[2.0 * x, x - 1.0][..replay.players],
            next_obs: &[x + 1.0, x + 1.25],
            terminated: i.is_multiple_of(3),
        });
    }

    fn filled(capacity: usize, count: u64) -> Replay {
        filled_by(1, capacity, count)
    }

    fn filled_by(players: usize, capacity: usize, count: u64) -> Replay {
        let mut replay = Replay::of_players(players, capacity, 2, 1).unwrap();
        (0..count).for_each(|i| push(&mut replay, i));
        replay
    }

    #[test]
    fn rows_stay_together_and_the_oldest_go_first() {
        for (players, capacity, count) in
            [(1, 50, 7), (1, 50, 50), (2, 50, 51), (1, 50, 260), (2, 50, 260), (1, 1, 9)]
        {
            let replay = filled_by(players, capacity, count);
            assert_eq!(replay.len() as u64, count.min(capacity as u64));
            let (mut rng, mut drawn) = (stream(0, Purpose::Check, 0), Transitions::default());
            let mut seen = std::collections::BTreeMap::new();
            for _ in 0..40 {
                replay.sample(100, &mut rng, &mut drawn);
                for i in 0..100 {
                    let x = drawn.obs[2 * i];
                    assert_eq!(drawn.obs[2 * i + 1], x + 0.25);
                    assert_eq!(drawn.actions[i], -x);
                    let rewards = &drawn.rewards[players * i..players * (i + 1)];
                    assert_eq!(rewards, &[2.0 * x, x - 1.0][..players]);
                    assert_eq!(drawn.next_obs[2 * i..2 * i + 2], [x + 1.0, x + 1.25]);
                    assert_eq!(drawn.goes_on[i] == 0.0, (x as u64).is_multiple_of(3));
                    *seen.entry(x as u64).or_insert(0u32) += 1;
                }
            }
            let held: Vec<u64> = (replay.oldest()..count).collect();
            assert_eq!(seen.keys().copied().collect::<Vec<_>>(), held, "all of those held, no others");
            // Uniform: each number of draws is binomial; five deviations.
            let p = 1.0 / held.len() as f64;
            let tolerance = 5.0 * (4000.0 * p * (1.0 - p)).sqrt() + 1e-9;
            assert!(seen.values().all(|n| (f64::from(*n) - 4000.0 * p).abs() <= tolerance), "{seen:?}");
        }
    }

    proptest! {
        /// Pieces cut anywhere, some of them too old or from later on, give the buffer back.
        #[test]
        fn a_buffer_comes_back_from_its_pieces(
            players in 1usize..3, capacity in 1usize..40, count in 0u64..120, cut in 1u64..30,
        ) {
            let replay = filled_by(players, capacity, count);
            let mut other = Replay::of_players(players, capacity, 2, 1).unwrap();
            other.expect(count);
            prop_assert_eq!(other.is_complete(), count == 0);
            let mut from = replay.oldest();
            while from < count {
                let to = (from + cut).min(count);
                other.restore(&replay.piece(from, to)).unwrap();
                from = to;
            }
            let later = filled_by(players, 1000, count + 5);
            other.restore(&later.piece(0, replay.oldest())).unwrap();
            other.restore(&later.piece(count, count + 5)).unwrap();
            prop_assert!(other.is_complete());
            prop_assert_eq!(other.piece(other.oldest(), count), replay.piece(replay.oldest(), count));
            // And both go on alike.
            let (mut a, mut b) = (replay, other);
            for i in count..count + 50 {
                push(&mut a, i);
                push(&mut b, i);
            }
            prop_assert_eq!(a.piece(a.oldest(), a.stored()), b.piece(b.oldest(), b.stored()));
        }
    }

    #[test]
    fn a_buffer_beyond_memory_and_a_piece_of_another_shape_are_refused() {
        let error = Replay::new(usize::MAX / 64, 300, 8).err().unwrap().to_string();
        assert!(error.contains("'buffer'") && error.contains("GB"), "{error}");
        let mut wide = Replay::new(10, 3, 1).unwrap();
        wide.expect(5);
        assert!(wide.restore(&filled(10, 5).piece(0, 5)).is_err());
        let mut endless = filled(10, 5).piece(0, 5);
        endless.put_u64("range", &[0, u64::MAX]);
        assert!(filled(10, 5).restore(&endless).is_err());
    }
}
