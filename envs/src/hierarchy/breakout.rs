//! `hierarchy/breakout`: break bricks with a ball that a paddle keeps from falling, on 10 × 10 places.
//!
//! The game of MinAtar (K. Young, T. Tian, *MinAtar: an Atari-inspired testbed for thorough and reproducible reinforcement
//! learning experiments*, 2019), whose answers it gives step by step (`fixtures/minatar.py`).
//!
//! - The ball moves one place diagonally at a time and is thrown back by the walls and the ceiling. A brick in its way vanishes
//!   and sends it back up or down; only the first of bricks that are met step after step does vanish. On the
//!   paddle's row it goes back up if the paddle is below where it was, straight back the way it came if the paddle is where
//!   it is going, and else is lost. When the last brick is gone, all of them come back as the ball next reaches that row.
//! - Action: stay, left, right. With probability `sticky` the action before is taken again instead.
//! - Observation: four planes of 10 × 10 ones and zeros, [paddle, ball, trail, bricks]; the trail is where the ball
//!   was.
//! - Reward: 1 for each brick. Terminates when the ball is lost; 1000 steps.
//! - Levels: a number names the side on which the ball starts, and which of the 30 places of rows 1, 2 and 3 have bricks: the
//!   share `bricks` of them, all by default. Training levels are 0, 1, …; the held-out ones begin at 2³². With all bricks
//!   there are only two different levels.
//!
//! Differences from MinAtar: the three actions that do something, not six; a time limit; what is repeated at the first step of
//! an episode is to stay, not the last action of the episode before; `bricks`, and levels, of which MinAtar has a new one
//! in every episode, as here by default.
//!
//! Comparator `follow`: goes to where the ball will come down and stays there; return 42 ± 1 (random play: 0.4).

use std::ops::Range;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use super::{Count, Levels, PLACES, SIDE, numbers};
use crate::options::{Fraction, Options as _, options};
use crate::rng::{Purpose, stream};
use crate::scene::{Paint, ball, line, slab};
use crate::{Env, OptionError, Rng, Scene, Space, Spec, State, StateError};

options! {
    /// What `hierarchy/breakout` leaves to its user.
    pub struct BreakoutOptions {
        /// Probability that the action before is taken again.
        sticky: Fraction = Fraction(0.1),
        /// Share of the places of bricks that have one.
        bricks: Fraction = Fraction(1.0),
        /// Levels to play.
        levels: Levels = Levels::Train,
        /// How many training levels there are; 0: no limit.
        num_levels: Count = Count(0),
        /// What the levels are drawn from.
        level_seed: Count = Count(0),
    }
}

/// Places of bricks: three rows, from row 1 on.
const WALL: usize = 3 * SIDE as usize;

impl BreakoutOptions {
    /// The options with the `given` keys and values.
    ///
    /// # Errors
    /// For an unknown option, a value that it does not take, and a share that leaves no brick.
    pub fn given(id: &str, given: &[(&str, &str)]) -> Result<Self, OptionError> {
        let options = Self::of(id, given)?;
        if options.count() == 0 {
            let why = format!("bricks = {} of {WALL} places leaves no brick", options.bricks.0);
            return Err(OptionError::Conflict { env: id.to_owned(), why });
        }
        Ok(options)
    }

    /// Bricks of a level.
    fn count(&self) -> usize {
        (self.bricks.0 * WALL as f64).round() as usize
    }

    /// Numbers of the levels that are played.
    fn range(&self) -> Range<u64> {
        numbers(self.levels, self.num_levels)
    }
}

const LEFT: usize = 1;
const RIGHT: usize = 2;

/// Where everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Game {
    /// Column and row of the ball.
    ball: [i64; 2],
    /// Where it was a step ago.
    last: [i64; 2],
    /// Where it goes, −1 or 1 along each axis.
    way: [i64; 2],
    /// Column of the paddle.
    paddle: i64,
    /// Bricks as bits, row by row.
    bricks: u32,
    /// Whether the ball met a brick in the last step.
    met: bool,
}

/// Row of the paddle.
const BOTTOM: i64 = SIDE - 1;

impl Game {
    /// The start of an episode, the ball falling inwards from the left or the right.
    fn new(right: bool, bricks: u32) -> Self {
        let ball = [if right { SIDE - 1 } else { 0 }, 3];
        Self { ball, last: ball, way: [if right { -1 } else { 1 }, 1], paddle: 4, bricks, met: false }
    }

    /// The bit of a brick at a place, 0 where there is no place for one.
    fn brick([column, row]: [i64; 2]) -> u32 {
        if (1..=3).contains(&row) { 1 << (SIDE * (row - 1) + column) } else { 0 }
    }

    /// One step; `full` are the bricks that come back. Returns whether a brick went, and whether the ball is lost.
    fn advance(&mut self, action: usize, full: u32) -> (bool, bool) {
        match action {
            LEFT => self.paddle = (self.paddle - 1).max(0),
            RIGHT => self.paddle = (self.paddle + 1).min(SIDE - 1),
            _ => {}
        }
        self.last = self.ball;
        let [x, y] = self.ball;
        let mut next = [x + self.way[0], (y + self.way[1]).min(BOTTOM)];
        if next[0] < 0 || next[0] >= SIDE {
            next[0] = next[0].clamp(0, SIDE - 1);
            self.way[0] = -self.way[0];
        }
        let (mut gone, mut lost, mut met) = (false, false, false);
        if next[1] < 0 {
            next[1] = 0;
            self.way[1] = -self.way[1];
        } else if self.bricks & Self::brick(next) != 0 {
            met = true;
            if !self.met {
                gone = true;
                self.bricks &= !Self::brick(next);
                next[1] = y;
                self.way[1] = -self.way[1];
            }
        } else if next[1] == BOTTOM {
            if self.bricks == 0 {
                self.bricks = full;
            }
            if x == self.paddle {
                next[1] = y;
                self.way[1] = -self.way[1];
            } else if next[0] == self.paddle {
                next[1] = y;
                self.way = [-self.way[0], -self.way[1]];
            } else {
                lost = true;
            }
        }
        (self.met, self.ball) = (met, next);
        (gone, lost)
    }

    /// Columns of a paddle that catches the ball when it next comes down: below where it then was, and where it goes.
    fn landing(mut self, full: u32) -> [i64; 2] {
        // A paddle out of the way, so that nothing is caught. No flight up and down is as long as the places are many.
        self.paddle = -1;
        for _ in 0..PLACES {
            if self.advance(0, full).1 {
                break;
            }
        }
        [self.last[0], self.ball[0]]
    }
}

/// The task of this module.
pub struct Breakout {
    spec: Spec,
    options: BreakoutOptions,
    level: u64,
    /// Bricks of the level.
    full: u32,
    game: Game,
    /// What was done last.
    action: usize,
}

impl Breakout {
    /// The task with these options, as [`BreakoutOptions::given`] checked them.
    pub fn new(id: &str, options: BreakoutOptions) -> Self {
        let obs = Space::uniform(4 * PLACES, 0.0, 1.0);
        let spec = Spec { reward_range: (0.0, 1.0), ..Spec::single(id, obs, Space::Discrete(3), Some(1000)) };
        let mut env = Self { spec, level: 0, full: 0, game: Game::new(false, 0), action: 0, options };
        env.enter(env.options.range().start);
        env
    }

    /// Builds a level and goes to its start.
    fn enter(&mut self, level: u64) {
        let mut rng = stream(self.options.level_seed.0 as u64, Purpose::Level, level);
        let right = rng.random();
        let mut places: [usize; WALL] = std::array::from_fn(|i| i);
        let chosen = places.partial_shuffle(&mut rng, self.options.count()).0;
        self.full = chosen.iter().fold(0, |bricks, place| bricks | 1 << place);
        (self.level, self.game, self.action) = (level, Game::new(right, self.full), 0);
    }

    fn observe(&self, obs: &mut [f32]) {
        let at = |[column, row]: [i64; 2]| (SIDE * row + column) as usize;
        obs.fill(0.0);
        obs[at([self.game.paddle, BOTTOM])] = 1.0;
        obs[PLACES + at(self.game.ball)] = 1.0;
        obs[2 * PLACES + at(self.game.last)] = 1.0;
        let wall = &mut obs[3 * PLACES + SIDE as usize..][..WALL];
        wall.iter_mut().enumerate().for_each(|(i, seen)| *seen = (self.game.bricks >> i & 1) as f32);
    }
}

impl Env for Breakout {
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
        let (gone, lost) = self.game.advance(self.action, self.full);
        reward[0] = f64::from(gone);
        self.observe(obs);
        lost
    }

    fn save(&self, state: &mut State) {
        let Game { ball, last, way, paddle, bricks, met } = self.game;
        let [x, y, last_x, last_y] = [ball[0], ball[1], last[0], last[1]].map(|n| n as u64);
        let [right, down] = way.map(|w| u64::from(w > 0));
        let others = [paddle as u64, u64::from(bricks), u64::from(met), self.action as u64];
        state.put_u64("state", &[&[self.level, x, y, last_x, last_y, right, down][..], &others].concat());
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        let values = state.u64("state", 11)?;
        let invalid = |why: String| Err(StateError::Invalid { name: "state".to_owned(), why });
        let level = values[0];
        if !self.options.range().contains(&level) {
            return invalid(format!("level {level} is not among those that are played"));
        }
        for (what, value, limit) in [
            ("column", values[1].max(values[3]), SIDE as u64),
            ("row", values[2].max(values[4]), SIDE as u64),
            ("direction", values[5].max(values[6]), 2),
            ("paddle", values[7], SIDE as u64),
            ("bricks", values[8], 1 << WALL),
            ("flag", values[9], 2),
            ("action", values[10], 3),
        ] {
            if value >= limit {
                return invalid(format!("{what} {value}, which must be below {limit}"));
            }
        }
        self.enter(level);
        let pair = |i: usize| [values[i] as i64, values[i + 1] as i64];
        self.game = Game {
            ball: pair(1),
            last: pair(3),
            way: pair(5).map(|w| 2 * w - 1),
            paddle: values[7] as i64,
            bricks: values[8] as u32,
            met: values[9] == 1,
        };
        self.action = values[10] as usize;
        Ok(())
    }

    fn comparators(&self) -> &'static [&'static str] {
        &["follow"]
    }

    fn comparator_action(&self, name: &str, _: &mut Rng, action: &mut [f64]) -> bool {
        if name != "follow" {
            return false;
        }
        let [was, goes] = self.game.landing(self.full);
        let (low, high) = (was.min(goes), was.max(goes));
        action[0] = match self.game.paddle {
            p if p < low => RIGHT as f64,
            p if p > high => LEFT as f64,
            _ => 0.0,
        };
        true
    }

    fn scene(&self) -> Option<Scene> {
        let side = SIDE as f64;
        let at = |[column, row]: [i64; 2]| [column as f64 + 0.5, -(row as f64 + 0.5)];
        let frame = [[0.0, -side], [0.0, 0.0], [side, 0.0], [side, -side]];
        let mut shapes = vec![line(frame, Paint::Still)];
        for place in (0..WALL as i64).filter(|place| self.game.bricks >> place & 1 == 1) {
            shapes.push(slab(at([place % SIDE, 1 + place / SIDE]), [0.45, 0.4], 0.0, Paint::Goal));
        }
        shapes.push(slab(at([self.game.paddle, BOTTOM]), [0.5, 0.2], 0.0, Paint::Body));
        shapes.push(line([at(self.game.last), at(self.game.ball)], Paint::Accent));
        shapes.push(ball(at(self.game.ball), 0.3, Paint::Accent));
        Some(Scene::side([side / 2.0, -side / 2.0], side + 1.0, side + 1.0, 0.1, shapes))
    }
}

#[cfg(test)]
mod tests {
    use super::super::minatar;
    use super::*;
    use std::collections::BTreeSet;

    const ID: &str = "hierarchy/breakout";
    /// MinAtar's numbers of our actions.
    const THEIRS: [u64; 3] = [0, 1, 3];

    fn breakout(given: &[(&str, &str)]) -> Breakout {
        Breakout::new(ID, BreakoutOptions::given(ID, given).unwrap())
    }

    #[test]
    fn every_step_is_as_in_minatar() {
        let (mut steps, mut rewards, mut ends, mut refills) = (0, 0, 0, 0);
        for episode in include_str!("../../fixtures/minatar/breakout.jsonl").lines() {
            let episode: serde_json::Value = serde_json::from_str(episode).unwrap();
            let mut env = breakout(&[]);
            env.game = Game::new(episode["side"] == 1, env.full);
            if let Some(bricks) = episode["bricks"].as_array() {
                env.game.bricks = bricks.iter().fold(0, |all, b| all | 1 << (b.as_u64().unwrap() - 10));
            }
            let mut obs = vec![f32::NAN; 400];
            for step in minatar::steps(&episode) {
                if let Some(action) = step.action {
                    let before = env.game.bricks;
                    let action = THEIRS.iter().position(|a| *a == action).unwrap_or(0);
                    let (gone, lost) = env.game.advance(action, env.full);
                    assert_eq!((f64::from(gone), lost), (step.reward, step.over), "step {steps}");
                    steps += 1;
                    rewards += usize::from(gone);
                    ends += usize::from(lost);
                    refills += usize::from(env.game.bricks.count_ones() > before.count_ones());
                }
                env.observe(&mut obs);
                assert_eq!(minatar::ones(&obs), step.ones, "step {steps}");
            }
        }
        assert!(
            steps > 1500 && rewards > 100 && ends > 10 && refills > 3,
            "{steps} {rewards} {ends} {refills}"
        );
    }

    #[test]
    fn following_the_ball_is_far_better_than_chance() {
        let mean = |name| {
            let mut env = breakout(&[]);
            let (mut rng, mut obs, mut action, mut reward) =
                (stream(0, Purpose::Check, 0), vec![0.0; 400], [0.0], [0.0]);
            let mut sum = 0.0;
            for _ in 0..50 {
                env.reset(&mut rng, &mut obs);
                for _ in 0..1000 {
                    if !env.comparator_action(name, &mut rng, &mut action) {
                        action[0] = f64::from(rng.random_range(0..3));
                    }
                    let over = env.step(&action, &mut rng, &mut obs, &mut reward);
                    sum += reward[0];
                    if over {
                        break;
                    }
                }
            }
            sum / 50.0
        };
        let (random, follow) = (mean("random"), mean("follow"));
        assert!(random < 2.0 && follow > 10.0, "random {random}, follow {follow}");
    }

    #[test]
    fn a_sticky_action_is_the_one_before() {
        for (sticky, share) in [("0", 0.0), ("0.25", 0.25), ("1", 1.0)] {
            let mut env = breakout(&[("sticky", sticky)]);
            let (mut rng, mut obs, mut reward) = (stream(1, Purpose::Check, 0), vec![0.0; 400], [0.0]);
            let mut kept = 0.0;
            for t in 0..4000 {
                env.game.ball = [0, 5];
                let before = env.action;
                let action = (before + 1 + t % 2) % 3;
                env.step(&[action as f64], &mut rng, &mut obs, &mut reward);
                assert!([before, action].contains(&env.action));
                kept += f64::from(u8::from(env.action == before)) / 4000.0;
            }
            assert!((kept - share).abs() < 0.03, "{kept} of {share}");
        }
    }

    #[test]
    fn levels_differ_and_held_out_ones_are_never_trained_on() {
        let layouts = |levels| -> BTreeSet<u32> {
            let mut env = breakout(&[("bricks", "0.5"), ("levels", levels), ("num_levels", "0")]);
            let first = env.options.range().start;
            (first..first + 200)
                .map(|level| {
                    env.enter(level);
                    assert_eq!(env.full.count_ones(), 15);
                    env.full
                })
                .collect()
        };
        let (train, test) = (layouts("train"), layouts("test"));
        assert_eq!((train.len(), test.len()), (200, 200));
        assert!(train.is_disjoint(&test));
        let mut env = breakout(&[("num_levels", "3")]);
        let (mut rng, mut played) = (stream(3, Purpose::Check, 0), BTreeSet::new());
        for _ in 0..100 {
            env.reset(&mut rng, &mut [0.0; 400]);
            assert_eq!(env.full.count_ones(), 30);
            played.insert(env.level);
        }
        assert_eq!(played, BTreeSet::from([0, 1, 2]));
        let mut state = State::new();
        env.save(&mut state);
        assert!(breakout(&[("levels", "test")]).load(&state).is_err());
    }

    #[test]
    fn bad_options_and_states_are_one_clear_error_each() {
        let error = |key, value| BreakoutOptions::given(ID, &[(key, value)]).unwrap_err().to_string();
        for (key, value, part) in [
            ("bricks", "0.01", "bricks = 0.01 of 30 places leaves no brick"),
            ("sticky", "1.5", "'sticky' takes a number from 0 to 1"),
            ("ramping", "true", "no option 'ramping'"),
        ] {
            assert!(error(key, value).contains(part), "{}", error(key, value));
        }
        let mut state = State::new();
        state.put_u64("state", &[0, 3, 10, 3, 4, 0, 0, 4, 0, 0, 0]);
        let error = breakout(&[]).load(&state).unwrap_err().to_string();
        assert!(error.contains("row 10, which must be below 10"), "{error}");
    }
}
