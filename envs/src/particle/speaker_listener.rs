//! `particle/speaker-listener`: one agent sees the goal and speaks, the other hears and moves.
//!
//! - A speaker that cannot move and a listener that cannot speak, radius 0.075, and three landmarks, radius
//!   0.04; start anywhere in the square of side 2. Nothing collides.
//! - Observation of the speaker: the colour of the goal. Of the listener: own velocity; the landmarks,
//!   relative; the three words of the speaker.
//! - Action of the speaker: a word out of three, or three numbers. Of the listener: a move, or five numbers.
//! - Reward of both: the negative *square* of the distance of listener and goal.
//! - Never terminates; `max_cycles` steps.

use super::world::{Body, World};
use super::{Rules, Scenario, TwoDialects};
use crate::options::{Steps, options};
use crate::pen::Pen;
use crate::scene::{Paint, Shape, line};

/// Colours of the landmarks.
const COLOURS: [[f64; 3]; 3] = [[0.65, 0.15, 0.15], [0.15, 0.65, 0.15], [0.15, 0.15, 0.65]];
const SPEAKER: usize = 0;
const LISTENER: usize = 1;

options! {
    /// The task of this module.
    pub struct SpeakerListener {
        /// Version of the task, which returns depend on.
        dialect: TwoDialects = TwoDialects::V3,
        /// Whether actions are numbers instead of a choice.
        continuous: bool = false,
        /// Time limit in steps.
        max_cycles: Steps = Steps(25),
    }
}

impl Scenario for SpeakerListener {
    const ID: &'static str = "particle/speaker-listener";
    const GOALS: usize = 1;
    const INFORMED: &'static str = "oracle";

    fn rules(&self) -> Rules {
        Rules { dialect: self.dialect.into(), continuous: self.continuous, max_cycles: self.max_cycles.0 }
    }

    fn world(&self) -> World {
        let listener = Body { force: 5.0, ..Body::still(0.075) };
        World::new(self.dialect.into(), vec![Body::still(0.075), listener], vec![Body::still(0.04); 3], 3)
    }

    fn role(&self, agent: usize) -> (String, bool) {
        let name = if agent == SPEAKER { "speaker_0" } else { "listener_0" };
        (name.to_owned(), agent == SPEAKER)
    }

    fn observe(&self, world: &World, goals: &[usize], agent: usize, pen: &mut Pen) {
        if agent == SPEAKER {
            return pen.numbers(COLOURS[goals[0]]);
        }
        pen.numbers(world.velocity[LISTENER]);
        for landmark in 2..5 {
            pen.numbers(world.from_to(LISTENER, landmark));
        }
        pen.numbers(world.words_of(SPEAKER).iter().copied());
    }

    fn reward(&self, world: &World, goals: &[usize], reward: &mut [f64]) {
        let [x, y] = world.from_to(LISTENER, 2 + goals[0]);
        reward.fill(-(x * x + y * y));
    }

    fn advise(&self, world: &World, goals: &[usize]) -> Vec<([f64; 2], usize)> {
        vec![(world.position[SPEAKER], goals[0]), (world.position[2 + goals[0]], 0)]
    }

    fn links(&self, world: &World, goals: &[usize]) -> Vec<Shape> {
        vec![line([world.position[LISTENER], world.position[2 + goals[0]]], Paint::Goal)]
    }
}
