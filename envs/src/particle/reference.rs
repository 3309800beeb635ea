//! `particle/reference`: two agents tell each other where to go.
//!
//! - Two agents that do not collide and three landmarks, radius 0.05; start anywhere in the square of side 2.
//!   Each agent knows the landmark that the *other* should reach; the draws are independent.
//! - Observation: own velocity; the landmarks, relative; the colour of the landmark that the other should
//!   reach; the ten words of the other.
//! - Action: a move and a word out of ten: move + 5 word, or five and ten numbers.
//! - Reward: with dᵢ the distance of the other agent from the landmark that i knows,
//!   −(1 − `local_ratio`) mean d − `local_ratio` dᵢ.
//! - Never terminates; `max_cycles` steps.

use super::world::{Body, World};
use super::{Rules, Scenario, TwoDialects};
use crate::options::{Fraction, Steps, options};
use crate::pen::Pen;
use crate::scene::{Paint, Shape, line};

/// Colours of the landmarks.
const COLOURS: [[f64; 3]; 3] = [[0.75, 0.25, 0.25], [0.25, 0.75, 0.25], [0.25, 0.25, 0.75]];

options! {
    /// The task of this module.
    pub struct Reference {
        /// Version of the task, which returns depend on.
        dialect: TwoDialects = TwoDialects::V3,
        /// Whether actions are numbers instead of a choice.
        continuous: bool = false,
        /// Weight of the distance that the agent itself knows; the rest is that of the mean.
        local_ratio: Fraction = Fraction(0.5),
        /// Time limit in steps.
        max_cycles: Steps = Steps(25),
    }
}

impl Scenario for Reference {
    const ID: &'static str = "particle/reference";
    const GOALS: usize = 2;
    const INFORMED: &'static str = "oracle";

    fn rules(&self) -> Rules {
        Rules { dialect: self.dialect.into(), continuous: self.continuous, max_cycles: self.max_cycles.0 }
    }

    fn world(&self) -> World {
        let agent = Body { force: 5.0, ..Body::still(0.05) };
        World::new(self.dialect.into(), vec![agent; 2], vec![Body::still(0.05); 3], 10)
    }

    fn role(&self, agent: usize) -> (String, bool) {
        (format!("agent_{agent}"), true)
    }

    fn observe(&self, world: &World, goals: &[usize], agent: usize, pen: &mut Pen) {
        pen.numbers(world.velocity[agent]);
        for landmark in 2..5 {
            pen.numbers(world.from_to(agent, landmark));
        }
        pen.numbers(COLOURS[goals[agent]]);
        pen.numbers(world.words_of(1 - agent).iter().copied());
    }

    fn reward(&self, world: &World, goals: &[usize], reward: &mut [f64]) {
        let far: [f64; 2] = std::array::from_fn(|i| world.distance(1 - i, 2 + goals[i]));
        let Fraction(own) = self.local_ratio;
        for (r, d) in reward.iter_mut().zip(far) {
            *r = -(far[0] + far[1]) / 2.0 * (1.0 - own) - d * own;
        }
    }

    fn advise(&self, world: &World, goals: &[usize]) -> Vec<([f64; 2], usize)> {
        (0..2).map(|i| (world.position[2 + goals[1 - i]], goals[i])).collect()
    }

    fn links(&self, world: &World, goals: &[usize]) -> Vec<Shape> {
        let link = |i: usize| line([world.position[i], world.position[2 + goals[1 - i]]], Paint::Goal);
        (0..2).map(link).collect()
    }
}
