//! `particle/spread`: cover all landmarks, and do not collide.
//!
//! - Agents and landmarks: `agents` of each, radii 0.15 and 0.05; start anywhere in the square of side 2.
//! - Observation: own velocity and position; then, relative, the landmarks and the other agents; then the words
//!   of the others, which are always 0.
//! - Reward: D is the sum over landmarks of the distance of the nearest agent, C the number of agents that this
//!   one touches. `v3`, `v2`: −(1 − `local_ratio`) D − `local_ratio` C; `original`: the sum over agents of −D −
//!   C. In `v2` and `original` an agent touches itself.
//! - Never terminates; `max_cycles` steps.
//!
//! The `oracle` sends each agent to a landmark of its own, with the smallest sum of distances. It knows no
//! collisions and is not optimal.

use pathfinding::kuhn_munkres::kuhn_munkres_min;
use pathfinding::matrix::Matrix;

use super::world::{Body, World};
use super::{Dialect, Rules, Scenario, disc};
use crate::options::{Few, Fraction, Steps, options};
use crate::pen::Pen;
use crate::scene::{Paint, Shape, line};

options! {
    /// The task of this module.
    pub struct Spread {
        /// Version of the task, which returns depend on.
        dialect: Dialect = Dialect::V3,
        /// Whether actions are five numbers instead of a move.
        continuous: bool = false,
        /// Agents, and landmarks.
        agents: Few = Few(3),
        /// Weight of the agent's own collisions; the rest is that of the distances (not in `original`).
        local_ratio: Fraction = Fraction(0.5),
        /// Time limit in steps.
        max_cycles: Steps = Steps(25),
    }
}

impl Scenario for Spread {
    const ID: &'static str = "particle/spread";
    const INFORMED: &'static str = "oracle";

    fn rules(&self) -> Rules {
        Rules { dialect: self.dialect, continuous: self.continuous, max_cycles: self.max_cycles.0 }
    }

    fn world(&self) -> World {
        let n = self.agents.0;
        World::new(self.dialect, vec![disc(0.15, 5.0, f64::INFINITY); n], vec![Body::still(0.05); n], 2)
    }

    fn role(&self, agent: usize) -> (String, bool) {
        (format!("agent_{agent}"), false)
    }

    fn observe(&self, world: &World, _: &[usize], agent: usize, pen: &mut Pen) {
        let n = world.agents();
        pen.numbers(world.velocity[agent]);
        pen.numbers(world.position[agent]);
        for landmark in n..2 * n {
            pen.numbers(world.from_to(agent, landmark));
        }
        for other in (0..n).filter(|other| *other != agent) {
            pen.numbers(world.from_to(agent, other));
        }
        for other in (0..n).filter(|other| *other != agent) {
            pen.numbers(world.words_of(other).iter().copied());
        }
    }

    fn reward(&self, world: &World, _: &[usize], reward: &mut [f64]) {
        let n = world.agents();
        let nearest =
            |landmark| (0..n).map(|agent| world.distance(agent, landmark)).fold(f64::INFINITY, f64::min);
        let far: f64 = (n..2 * n).map(nearest).sum();
        let counts_itself = self.dialect != Dialect::V3;
        reward.fill(if counts_itself { 1.0 } else { 0.0 });
        for i in 0..n {
            for j in i + 1..n {
                if world.touch(i, j) {
                    reward[i] += 1.0;
                    reward[j] += 1.0;
                }
            }
        }
        if self.dialect == Dialect::Original {
            let shared: f64 = reward.iter().map(|touched| -far - touched).sum();
            reward.fill(shared);
        } else {
            let Fraction(own) = self.local_ratio;
            reward.iter_mut().for_each(|r| *r = -far * (1.0 - own) - *r * own);
        }
    }

    fn advise(&self, world: &World, _: &[usize]) -> Vec<([f64; 2], usize)> {
        let n = world.agents();
        // In micrometres, since the assignment is exact on whole numbers.
        let cost = |(i, j): (usize, usize)| (1e6 * world.distance(i, n + j)) as i64;
        let (_, landmark) = kuhn_munkres_min(&Matrix::from_fn(n, n, cost));
        landmark.into_iter().map(|j| (world.position[n + j], 0)).collect()
    }

    /// From each landmark to the nearest agent, as it is paid.
    fn links(&self, world: &World, _: &[usize]) -> Vec<Shape> {
        let n = world.agents();
        let nearest = |landmark: usize| {
            let by =
                |a: &usize, b: &usize| world.distance(*a, landmark).total_cmp(&world.distance(*b, landmark));
            let agent = (0..n).min_by(by).unwrap_or(0);
            line([world.position[landmark], world.position[agent]], Paint::Goal)
        };
        (n..2 * n).map(nearest).collect()
    }
}
