//! Tasks whose geometry is a dial: how much the graph of their states is like a tree.
//!
//! A tree embeds in the hyperbolic plane with as little distortion as one likes, in Euclidean space only with dimensions
//! that grow with it. Whether an agent with a hyperbolic representation gains by that is what these tasks ask; the
//! measure is Gromov's δ ([`crate::gromov`]) of [`crate::Env::state_graph`].
//!
//! | task | dial | δ of the graph of states |
//! |---|---|---|
//! | [`tree`] | `branching`, `depth`: how fast the tree grows | 0, always |
//! | [`maze`] | `loops`: share of the walls of a perfect maze that are opened | 0 for `loops=0` (a tree), n − 1 for `loops=1` (open n × n) |
//! | [`key_door`] | `rooms`, `size`, `shape`: sub-goals, and how large and in which order | about 4 by default, δ_rel 0.3; 16 and 0.6 for `rooms=8` (means of 30 levels) |
//!
//! States of [`key_door`] are a cell and the keys held; keys that can be fetched in either order make loops. Only the dial
//! `loops` changes the geometry while the rest stays; compare its ends at the same `distance`.
//!
//! Two small games, [`breakout`] and [`asterix`], have no geometry to speak of: they ask whether an agent is stable where what it
//! sees and what things are worth change as it learns, and whether it does well in levels that it has not seen.
//!
//! A level is a subtree, a maze, a plan of rooms, a wall of bricks or a course of enemies and gold. `levels=train` plays the first `num_levels` training levels (0: all of
//! them), `levels=test` all of the others, which no training level ever is. Every level but the games' has the optimum
//! 1, reached by the comparator `oracle`.

pub mod asterix;
pub mod breakout;
pub mod key_door;
pub mod maze;
pub mod tree;

pub use asterix::{Asterix, AsterixOptions};
pub use breakout::{Breakout, BreakoutOptions};
pub use key_door::{KeyDoor, KeyDoorOptions};
pub use maze::{Maze, MazeOptions};
pub use tree::{Tree, TreeOptions};

use std::ops::Range;

use crate::options::{OptionValue, choice};

choice! {
    /// Which levels are played.
    pub enum Levels: "train or test" {
        /// Those to learn on.
        Train = "train",
        /// Those held out.
        Test = "test",
    }
}

/// First level that is held out, where levels are numbers of streams ([`crate::Purpose::Level`]).
const HELD_OUT: u64 = 1 << 32;

/// Numbers of the levels that are played, of which `count` are for training; 0: no limit.
fn numbers(levels: Levels, count: Count) -> Range<u64> {
    match (levels, count.0) {
        (Levels::Test, _) => HELD_OUT..2 * HELD_OUT,
        (Levels::Train, 0) => 0..HELD_OUT,
        (Levels::Train, count) => 0..count as u64,
    }
}

/// Places along a side of a game.
const SIDE: i64 = 10;

/// Places of a game.
const PLACES: usize = (SIDE * SIDE) as usize;

/// How many there are of something that makes no sense alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Several(pub usize);

/// A number of something, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub usize);

/// The side of a square that has a middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odd(pub usize);

impl OptionValue for Several {
    const TAKES: &'static str = "a whole number from 2 to 64";
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|n| (2..=64).contains(n)).map(Self)
    }
    fn text(&self) -> String {
        self.0.to_string()
    }
}

impl OptionValue for Count {
    const TAKES: &'static str = "a whole number from 0 to 1000000";
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|n| *n <= 1_000_000).map(Self)
    }
    fn text(&self) -> String {
        self.0.to_string()
    }
}

impl OptionValue for Odd {
    const TAKES: &'static str = "an odd number from 1 to 31";
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|n| n % 2 == 1 && *n <= 31).map(Self)
    }
    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// What MinAtar answered: `fixtures/minatar.py`.
#[cfg(test)]
mod minatar {
    use serde_json::Value;

    /// One step of an episode, or its start.
    pub struct Step {
        /// Theirs; none for the start.
        pub action: Option<u64>,
        /// What enters: whether from the left, whether gold, row.
        pub entity: Vec<u64>,
        pub reward: f64,
        pub over: bool,
        /// Where the observation is 1.
        pub ones: Vec<u32>,
    }

    pub fn steps(episode: &Value) -> Vec<Step> {
        let numbers = |list: &Value| -> Vec<u64> {
            list.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect()
        };
        let step = |step: &Value| Step {
            action: step[0].as_u64(),
            entity: numbers(&step[1]),
            reward: step[2].as_f64().unwrap(),
            over: step[3] == 1,
            ones: numbers(&step[4]).iter().map(|n| *n as u32).collect(),
        };
        episode["steps"].as_array().unwrap().iter().map(step).collect()
    }

    /// Where an observation of ones and zeros is 1.
    pub fn ones(obs: &[f32]) -> Vec<u32> {
        assert!(obs.iter().all(|x| [0.0, 1.0].contains(x)));
        (0..obs.len() as u32).filter(|i| obs[*i as usize] == 1.0).collect()
    }
}
