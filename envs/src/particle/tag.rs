//! `particle/tag`: slow hunters chase fast prey among obstacles.
//!
//! - `adversaries` hunters (radius 0.075, force 3, speed up to 1), then `prey` (0.05, 4, 1.3), then `obstacles`
//!   (0.2); everything collides. Agents start anywhere in the square of side 2, obstacles in that of side 1.8.
//! - Observation: own velocity and position; then, relative, the obstacles and the other agents; then the
//!   velocities of the other prey.
//! - Reward of a hunter: 10 for each pair of hunter and prey that touch, whoever they are. Of a prey: −10 for
//!   each hunter that touches it, and for each coordinate x: −10 (|x| − 0.9) from 0.9, −min(exp(2 |x| − 2), 10)
//!   from 1.
//! - Never terminates; `max_cycles` steps.
//!
//! In the comparator `chase` hunters head for the nearest prey, and prey away from the nearest hunter, but not
//! out of the square.

use super::world::World;
use super::{Rules, Scenario, TwoDialects, disc};
use crate::options::{Few, Steps, options};
use crate::particle::world::Body;
use crate::pen::Pen;

options! {
    /// The task of this module.
    pub struct Tag {
        /// Version of the task, which returns depend on.
        dialect: TwoDialects = TwoDialects::V3,
        /// Whether actions are five numbers instead of a move.
        continuous: bool = false,
        /// Hunters.
        adversaries: Few = Few(3),
        /// Those who are hunted.
        prey: Few = Few(1),
        /// Obstacles.
        obstacles: Few = Few(2),
        /// Time limit in steps.
        max_cycles: Steps = Steps(25),
    }
}

impl Tag {
    fn prey_of(&self, world: &World) -> std::ops::Range<usize> {
        self.adversaries.0..world.agents()
    }
}

impl Scenario for Tag {
    const ID: &'static str = "particle/tag";
    const LANDMARK_REACH: f64 = 0.9;
    const INFORMED: &'static str = "chase";

    fn rules(&self) -> Rules {
        Rules { dialect: self.dialect.into(), continuous: self.continuous, max_cycles: self.max_cycles.0 }
    }

    fn world(&self) -> World {
        let hunters = vec![disc(0.075, 3.0, 1.0); self.adversaries.0];
        let prey = vec![disc(0.05, 4.0, 1.3); self.prey.0];
        let obstacles = vec![Body { collides: true, ..Body::still(0.2) }; self.obstacles.0];
        World::new(self.dialect.into(), [hunters, prey].concat(), obstacles, 2)
    }

    fn role(&self, agent: usize) -> (String, bool) {
        let name = match agent.checked_sub(self.adversaries.0) {
            None => format!("adversary_{agent}"),
            Some(i) => format!("agent_{i}"),
        };
        (name, false)
    }

    fn is_prey(&self, agent: usize) -> bool {
        agent >= self.adversaries.0
    }

    fn observe(&self, world: &World, _: &[usize], agent: usize, pen: &mut Pen) {
        pen.numbers(world.velocity[agent]);
        pen.numbers(world.position[agent]);
        for obstacle in world.agents()..world.bodies.len() {
            pen.numbers(world.from_to(agent, obstacle));
        }
        for other in (0..world.agents()).filter(|other| *other != agent) {
            pen.numbers(world.from_to(agent, other));
        }
        for other in self.prey_of(world).filter(|other| *other != agent) {
            pen.numbers(world.velocity[other]);
        }
    }

    fn reward(&self, world: &World, _: &[usize], reward: &mut [f64]) {
        let (hunters, all) = reward.split_at_mut(self.adversaries.0);
        let mut caught = 0;
        for (prey, r) in self.prey_of(world).zip(all) {
            let touches = (0..hunters.len()).filter(|hunter| world.touch(*hunter, prey)).count();
            caught += touches;
            *r = -10.0 * touches as f64 - world.position[prey].map(fence).iter().sum::<f64>();
        }
        hunters.fill(10.0 * caught as f64);
    }

    fn advise(&self, world: &World, _: &[usize]) -> Vec<([f64; 2], usize)> {
        let nearest = |agent: usize, of: std::ops::Range<usize>| {
            of.min_by(|a, b| world.distance(agent, *a).total_cmp(&world.distance(agent, *b))).unwrap_or(agent)
        };
        let target = |agent: usize| {
            if !self.is_prey(agent) {
                return world.position[nearest(agent, self.prey_of(world))];
            }
            let [x, y] = world.from_to(nearest(agent, 0..self.adversaries.0), agent);
            let away = |axis: usize, d: f64| {
                (world.position[agent][axis] + d / x.hypot(y).max(1e-9)).clamp(-0.85, 0.85)
            };
            [away(0, x), away(1, y)]
        };
        (0..world.agents()).map(|agent| (target(agent), 0)).collect()
    }
}

/// What a prey pays for being at this coordinate.
fn fence(x: f64) -> f64 {
    let x = x.abs();
    if x < 0.9 {
        0.0
    } else if x < 1.0 {
        (x - 0.9) * 10.0
    } else {
        (2.0 * x - 2.0).exp().min(10.0)
    }
}
