//! `hierarchy/asterix`: collect gold and keep out of the way of enemies, on 10 × 10 places.
//!
//! The game of MinAtar (K. Young, T. Tian, *MinAtar: an Atari-inspired testbed for thorough and reproducible reinforcement
//! learning experiments*, 2019), whose answers it gives step by step (`fixtures/minatar.py`).
//!
//! - Rows 1 to 8 have room for one thing each. Every few steps one enters in a row drawn evenly from the free ones, from the left
//!   or the right alike, gold with probability 1/3 and an enemy else. Things move one place at a time, every few steps,
//!   and leave at the other side. The player starts in the middle, at column 5 and row 5, and keeps to these rows.
//! - The few steps are at first 10 from one entry to the next and 5 from one move to the next. With `ramping`, the game becomes
//!   faster every 102 steps: by 1 from entry to entry, every other time also from move to move; 1 is the least.
//! - Action: stay, left, up, right, down. With probability `sticky` the action before is taken again instead.
//! - Observation: four planes of 10 × 10 ones and zeros, [player, enemies, trails, gold]; the trail of a thing is
//!   the place behind it, by which its direction is seen.
//! - Reward: 1 for each gold that the player meets. Terminates when it meets an enemy; 1000 steps.
//! - Levels: a number names what enters: the stream that sides, gold and rows are drawn from. Training levels are 0, 1, …;
//!   the held-out ones begin at 2³².
//!
//! Differences from MinAtar: the five actions that do something, not six; a time limit; what is repeated at the first step of an
//! episode is to stay, not the last action of the episode before; levels, of which MinAtar has a new one in every
//! episode, as here by default.
//!
//! Comparator `search`: looks three steps ahead, for gold in reach, else for the nearest gold, and never at what may
//! enter; return 22 ± 1 (random play: 0.6).

use std::ops::Range;

use rand::RngExt as _;

use super::{Count, Levels, PLACES, SIDE, numbers};
use crate::options::{Fraction, Options as _, options};
use crate::rng::{self, Purpose, stream};
use crate::scene::{Paint, ball, line, slab};
use crate::{Env, OptionError, Rng, Scene, Space, Spec, State, StateError};

options! {
    /// What `hierarchy/asterix` leaves to its user.
    pub struct AsterixOptions {
        /// Probability that the action before is taken again.
        sticky: Fraction = Fraction(0.1),
        /// Whether the game becomes faster.
        ramping: bool = true,
        /// Levels to play.
        levels: Levels = Levels::Train,
        /// How many training levels there are; 0: no limit.
        num_levels: Count = Count(0),
        /// What the levels are drawn from.
        level_seed: Count = Count(0),
    }
}

impl AsterixOptions {
    /// The options with the `given` keys and values.
    ///
    /// # Errors
    /// For an unknown option and a value that it does not take.
    pub fn given(id: &str, given: &[(&str, &str)]) -> Result<Self, OptionError> {
        Self::of(id, given)
    }

    /// Numbers of the levels that are played.
    fn range(&self) -> Range<u64> {
        numbers(self.levels, self.num_levels)
    }
}

const LEFT: usize = 1;
const UP: usize = 2;
const RIGHT: usize = 3;
const DOWN: usize = 4;
const ACTIONS: usize = 5;

/// Rows with things, from row 1 on.
const ROWS: usize = 8;

/// Steps from one entry to the next at first.
const ENTRY: u64 = 10;
/// Steps from one move to the next at first.
const MOVE: u64 = 5;
/// Steps in which the game goes on at the same speed.
const RAMP: u64 = 101;

/// Gold or an enemy on its way along a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Thing {
    column: i64,
    /// Whether it came from the left.
    right: bool,
    gold: bool,
}

impl Thing {
    fn new(right: bool, gold: bool) -> Self {
        Self { column: if right { 0 } else { SIDE - 1 }, right, gold }
    }

    /// The next column, or the last one.
    fn along(&self, steps: i64) -> i64 {
        if self.right { self.column + steps } else { self.column - steps }
    }
}

/// Where everything is, and when it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Game {
    /// Column and row of the player.
    player: [i64; 2],
    things: [Option<Thing>; ROWS],
    /// Steps from one entry to the next, and until the next.
    entry: [u64; 2],
    /// Steps from one move to the next, and until the next.
    pace: [u64; 2],
    /// Steps until the game becomes faster, and how often it did.
    ramp: [u64; 2],
}

impl Game {
    fn new() -> Self {
        let things = [None; ROWS];
        Self { player: [5, 5], things, entry: [ENTRY; 2], pace: [MOVE; 2], ramp: [RAMP, 0] }
    }

    /// Whether something enters in the next step, if there is a free row.
    fn opens(&self) -> bool {
        self.entry[1] == 0
    }

    /// One step, in which a thing may enter at a row (0 for the first of theirs). Returns the gold collected, and whether an
    /// enemy was met.
    fn advance(&mut self, action: usize, entering: Option<(usize, Thing)>, ramping: bool) -> (u32, bool) {
        if self.opens() {
            self.entry[1] = self.entry[0];
        }
        if let Some((row, thing)) = entering {
            self.things[row] = Some(thing);
        }
        let [x, y] = &mut self.player;
        match action {
            LEFT => *x = (*x - 1).max(0),
            RIGHT => *x = (*x + 1).min(SIDE - 1),
            UP => *y = (*y - 1).max(1),
            DOWN => *y = (*y + 1).min(ROWS as i64),
            _ => {}
        }
        let (mut gold, mut met) = (0, false);
        self.meet(&mut gold, &mut met);
        if self.pace[1] == 0 {
            self.pace[1] = self.pace[0];
            for slot in &mut self.things {
                *slot = slot
                    .map(|thing| Thing { column: thing.along(1), ..thing })
                    .filter(|thing| (0..SIDE).contains(&thing.column));
            }
            self.meet(&mut gold, &mut met);
        }
        self.entry[1] -= 1;
        self.pace[1] -= 1;
        if ramping && (self.entry[0] > 1 || self.pace[0] > 1) {
            if self.ramp[0] > 0 {
                self.ramp[0] -= 1;
            } else {
                if self.pace[0] > 1 && self.ramp[1] % 2 == 1 {
                    self.pace[0] -= 1;
                }
                self.entry[0] = (self.entry[0] - 1).max(1);
                self.ramp = [RAMP, self.ramp[1] + 1];
            }
        }
        (gold, met)
    }

    /// Takes the gold where the player is, or meets the enemy there.
    fn meet(&mut self, gold: &mut u32, met: &mut bool) {
        let [column, row] = self.player;
        let slot = &mut self.things[row as usize - 1];
        match slot {
            Some(thing) if thing.column == column && thing.gold => {
                *gold += 1;
                *slot = None;
            }
            Some(thing) if thing.column == column => *met = true,
            _ => {}
        }
    }

    /// What the best of all courses of so many steps is worth, if nothing enters, and its first action.
    fn search(&self, steps: usize, ramping: bool) -> (f64, usize) {
        if steps == 0 {
            let distance = |(row, thing): (usize, &Option<Thing>)| {
                let thing = thing.filter(|thing| thing.gold)?;
                Some((thing.column - self.player[0]).abs() + (row as i64 + 1 - self.player[1]).abs())
            };
            let middle = (self.player[0] - 5).abs() + (self.player[1] - 5).abs();
            let nearest = self.things.iter().enumerate().filter_map(distance).min();
            return (-0.01 * nearest.unwrap_or(middle) as f64, 0);
        }
        let worth = |action: usize| {
            let mut next = *self;
            match next.advance(action, None, ramping) {
                (_, true) => -10.0,
                (gold, false) => f64::from(gold) + 0.9 * next.search(steps - 1, ramping).0,
            }
        };
        let mut best = (f64::NEG_INFINITY, 0);
        for (value, action) in (0..ACTIONS).map(|action| (worth(action), action)) {
            if value > best.0 {
                best = (value, action);
            }
        }
        best
    }
}

/// The task of this module.
pub struct Asterix {
    spec: Spec,
    options: AsterixOptions,
    level: u64,
    /// What enters is drawn from it.
    entries: Rng,
    game: Game,
    /// What was done last.
    action: usize,
}

impl Asterix {
    /// The task with these options, as [`AsterixOptions::given`] checked them.
    pub fn new(id: &str, options: AsterixOptions) -> Self {
        let obs = Space::uniform(4 * PLACES, 0.0, 1.0);
        let spec =
            Spec { reward_range: (0.0, 1.0), ..Spec::single(id, obs, Space::Discrete(ACTIONS), Some(1000)) };
        let level = options.range().start;
        let entries = stream(options.level_seed.0 as u64, Purpose::Level, level);
        Self { spec, level, entries, game: Game::new(), action: 0, options }
    }

    /// Goes to the start of a level.
    fn enter(&mut self, level: u64) {
        self.entries = stream(self.options.level_seed.0 as u64, Purpose::Level, level);
        (self.level, self.game, self.action) = (level, Game::new(), 0);
    }

    /// What enters, and in which row, if one is free.
    fn draw(&mut self) -> Option<(usize, Thing)> {
        let right = self.entries.random();
        let gold = self.entries.random::<f64>() < 1.0 / 3.0;
        let free = self.game.things.iter().filter(|slot| slot.is_none()).count();
        let chosen = if free == 0 { return None } else { self.entries.random_range(0..free) };
        let row = (0..ROWS).filter(|row| self.game.things[*row].is_none()).nth(chosen)?;
        Some((row, Thing::new(right, gold)))
    }

    fn observe(&self, obs: &mut [f32]) {
        let at = |column: i64, row: usize| SIDE as usize * row + column as usize;
        obs.fill(0.0);
        obs[at(self.game.player[0], self.game.player[1] as usize)] = 1.0;
        for (slot, thing) in self.game.things.iter().enumerate() {
            let Some(thing) = thing else { continue };
            obs[if thing.gold { 3 } else { 1 } * PLACES + at(thing.column, slot + 1)] = 1.0;
            let behind = thing.along(-1);
            if (0..SIDE).contains(&behind) {
                obs[2 * PLACES + at(behind, slot + 1)] = 1.0;
            }
        }
    }
}

impl Env for Asterix {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.enter(rng.random_range(self.options.range()));
        self.observe(obs);
    }

    fn step(&mut self, action: &[f64], rng: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        if rng.random::<f64>() >= self.options.sticky.0 {
            self.action = action[0] as usize;
        }
        let entering = if self.game.opens() { self.draw() } else { None };
        let (gold, met) = self.game.advance(self.action, entering, self.options.ramping);
        reward[0] = f64::from(gold);
        self.observe(obs);
        met
    }

    fn save(&self, state: &mut State) {
        let Game { player, things, entry, pace, ramp } = self.game;
        let [x, y] = player.map(|p| p as u64);
        let before = [self.level, self.action as u64, x, y, ramp[0], ramp[1]];
        state.put_u64("state", &[&before[..], &entry, &pace].concat());
        // A row: 0 without a thing, else its column from 1, plus 10 for one from the left and 20 for gold.
        let code =
            |thing: Thing| thing.column as u64 + 1 + 10 * u64::from(thing.right) + 20 * u64::from(thing.gold);
        state.put_u64("things", &things.map(|thing| thing.map_or(0, code)));
        rng::save(&self.entries, "entries", state);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        let values = state.u64("state", 10)?;
        let codes = state.u64("things", ROWS)?;
        let entries = rng::load("entries", state)?;
        let invalid = |name: &str, why: String| Err(StateError::Invalid { name: name.to_owned(), why });
        let level = values[0];
        if !self.options.range().contains(&level) {
            return invalid("state", format!("level {level} is not among those that are played"));
        }
        for (what, value, least, most) in [
            ("action", values[1], 0, ACTIONS as u64 - 1),
            ("column", values[2], 0, SIDE as u64 - 1),
            ("row", values[3], 1, ROWS as u64),
            ("ramp", values[4], 0, RAMP),
            ("interval of entries", values[6], 1, ENTRY),
            ("steps to an entry", values[7], 0, ENTRY),
            ("interval of moves", values[8], 1, MOVE),
            ("steps to a move", values[9], 0, MOVE),
        ] {
            if !(least..=most).contains(&value) {
                return invalid("state", format!("{what} {value}, which must be from {least} to {most}"));
            }
        }
        if let Some(code) = codes.iter().find(|code| **code > 40) {
            return invalid("things", format!("{code}, which must be at most 40"));
        }
        let thing = |code: u64| {
            let code = code.checked_sub(1)?;
            Some(Thing { column: (code % 10) as i64, right: code / 10 % 2 == 1, gold: code / 20 == 1 })
        };
        self.game = Game {
            player: [values[2] as i64, values[3] as i64],
            things: std::array::from_fn(|row| thing(codes[row])),
            entry: [values[6], values[7]],
            pace: [values[8], values[9]],
            ramp: [values[4], values[5]],
        };
        (self.level, self.action, self.entries) = (level, values[1] as usize, entries);
        Ok(())
    }

    fn comparators(&self) -> &'static [&'static str] {
        &["search"]
    }

    fn comparator_action(&self, name: &str, _: &mut Rng, action: &mut [f64]) -> bool {
        if name != "search" {
            return false;
        }
        action[0] = self.game.search(3, self.options.ramping).1 as f64;
        true
    }

    fn scene(&self) -> Option<Scene> {
        let side = SIDE as f64;
        let at = |column: f64, row: f64| [column + 0.5, -(row + 0.5)];
        let frame = [[0.0, 0.0], [side, 0.0], [side, -side], [0.0, -side], [0.0, 0.0]];
        let mut shapes = vec![line(frame, Paint::Still)];
        for (slot, thing) in self.game.things.iter().enumerate() {
            let Some(thing) = thing else { continue };
            let (column, row) = (thing.column as f64, slot as f64 + 1.0);
            let paint = if thing.gold { Paint::Goal } else { Paint::Accent };
            shapes.push(line([at(thing.along(-1) as f64, row), at(column, row)], paint));
            shapes.push(slab(at(column, row), [0.35; 2], 0.0, paint));
        }
        let [x, y] = self.game.player.map(|p| p as f64);
        shapes.push(ball(at(x, y), 0.35, Paint::Body));
        Some(Scene::side([side / 2.0, -side / 2.0], side + 1.0, side + 1.0, 0.1, shapes))
    }
}

#[cfg(test)]
mod tests {
    use super::super::minatar;
    use super::*;
    use std::collections::BTreeSet;

    const ID: &str = "hierarchy/asterix";

    fn asterix(given: &[(&str, &str)]) -> Asterix {
        Asterix::new(ID, AsterixOptions::given(ID, given).unwrap())
    }

    #[test]
    fn every_step_is_as_in_minatar() {
        let (mut steps, mut rewards, mut ends, mut speeds) = (0, 0, 0, BTreeSet::new());
        for episode in include_str!("../../fixtures/minatar/asterix.jsonl").lines() {
            let episode: serde_json::Value = serde_json::from_str(episode).unwrap();
            let ramping = episode["ramping"].as_bool().unwrap();
            let mut env = asterix(&[]);
            let mut obs = vec![f32::NAN; 400];
            for step in minatar::steps(&episode) {
                if let Some(action) = step.action {
                    let entering = match step.entity[..] {
                        [left, gold, row] => Some((row as usize - 1, Thing::new(left == 1, gold == 1))),
                        _ => None,
                    };
                    let opens = env.game.opens() && env.game.things.contains(&None);
                    assert_eq!(entering.is_some(), opens, "step {steps}");
                    let action = if action < 5 { action as usize } else { 0 };
                    let (gold, met) = env.game.advance(action, entering, ramping);
                    assert_eq!((f64::from(gold), met), (step.reward, step.over), "step {steps}");
                    steps += 1;
                    rewards += gold;
                    ends += usize::from(met);
                    speeds.insert((env.game.entry[0], env.game.pace[0]));
                }
                env.observe(&mut obs);
                assert_eq!(minatar::ones(&obs), step.ones, "step {steps}");
            }
        }
        assert!(steps > 2500 && rewards > 50 && ends > 10, "{steps} {rewards} {ends}");
        assert!(speeds.contains(&(10, 5)) && speeds.contains(&(2, 1)), "{speeds:?}");
    }

    #[test]
    fn what_enters_is_drawn_evenly() {
        let mut env = asterix(&[]);
        let (mut right, mut gold, mut rows) = (0.0, 0.0, [0.0; ROWS]);
        let (count, taken) = (8000, Some(Thing::new(true, true)));
        for level in 0..count {
            env.enter(level);
            env.game.things[2] = taken;
            let (row, thing) = env.draw().unwrap();
            right += f64::from(u8::from(thing.right)) / count as f64;
            gold += f64::from(u8::from(thing.gold)) / count as f64;
            rows[row] += 1.0 / count as f64;
        }
        // Five standard errors.
        assert!((right - 0.5).abs() < 0.028 && (gold - 1.0 / 3.0).abs() < 0.027, "{right} {gold}");
        for (row, share) in rows.iter().enumerate() {
            let expected = if row == 2 { 0.0 } else { 1.0 / 7.0 };
            assert!((share - expected).abs() < 0.02, "{rows:?}");
        }
        env.game.things = [taken; ROWS];
        assert_eq!(env.draw(), None);
    }

    #[test]
    fn looking_ahead_is_far_better_than_chance() {
        let mean = |name| {
            let mut env = asterix(&[]);
            let (mut rng, mut obs, mut action, mut reward) =
                (stream(0, Purpose::Check, 0), vec![0.0; 400], [0.0], [0.0]);
            let mut sum = 0.0;
            for _ in 0..30 {
                env.reset(&mut rng, &mut obs);
                for _ in 0..1000 {
                    if !env.comparator_action(name, &mut rng, &mut action) {
                        action[0] = f64::from(rng.random_range(0..5));
                    }
                    let over = env.step(&action, &mut rng, &mut obs, &mut reward);
                    sum += reward[0];
                    if over {
                        break;
                    }
                }
            }
            sum / 30.0
        };
        let (random, search) = (mean("random"), mean("search"));
        assert!(random < 2.0 && search > 10.0, "random {random}, search {search}");
    }

    #[test]
    fn a_level_names_what_enters() {
        let course = |env: &mut Asterix, level: u64| -> Vec<Vec<u32>> {
            let (mut rng, mut obs, mut reward) = (stream(5, Purpose::Check, level), vec![0.0; 400], [0.0]);
            env.enter(level);
            // In the corner, where the player is met late.
            env.game.player = [0, 1];
            let mut seen = Vec::new();
            for _ in 0..40 {
                env.step(&[0.0], &mut rng, &mut obs, &mut reward);
                seen.push(minatar::ones(&obs));
            }
            seen
        };
        let courses = |levels| -> BTreeSet<Vec<Vec<u32>>> {
            let mut env = asterix(&[("levels", levels)]);
            let first = env.options.range().start;
            assert_eq!(
                course(&mut env, first),
                course(&mut env, first),
                "whatever the stream of the episode"
            );
            (first..first + 20).map(|level| course(&mut env, level)).collect()
        };
        let (train, test) = (courses("train"), courses("test"));
        assert_eq!((train.len(), test.len()), (20, 20), "levels differ");
        assert!(train.is_disjoint(&test));
        let mut env = asterix(&[("num_levels", "3")]);
        let (mut rng, mut played) = (stream(3, Purpose::Check, 0), BTreeSet::new());
        for _ in 0..100 {
            env.reset(&mut rng, &mut [0.0; 400]);
            played.insert(env.level);
        }
        assert_eq!(played, BTreeSet::from([0, 1, 2]));
        let mut state = State::new();
        env.save(&mut state);
        assert!(asterix(&[("levels", "test")]).load(&state).is_err());
    }

    #[test]
    fn bad_options_and_states_are_one_clear_error_each() {
        let error = |key, value| AsterixOptions::given(ID, &[(key, value)]).unwrap_err().to_string();
        for (key, value, part) in [
            ("sticky", "-0.5", "'sticky' takes a number from 0 to 1"),
            ("ramping", "1", "'ramping' takes true or false"),
            ("bricks", "1", "no option 'bricks'"),
        ] {
            assert!(error(key, value).contains(part), "{}", error(key, value));
        }
        let mut env = asterix(&[]);
        let mut state = State::new();
        env.save(&mut state);
        state.put_u64("state", &[0, 0, 5, 0, 0, 0, 10, 10, 5, 5]);
        let error = env.load(&state).unwrap_err().to_string();
        assert!(error.contains("row 0, which must be from 1 to 8"), "{error}");
    }
}
