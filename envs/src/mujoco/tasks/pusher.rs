//! `Pusher-v5`: push a cylinder on a table to a goal with a seven-joint arm.
//!
//! - State: seven joints, (y, x) of the object, (y, x) of the goal, and their rates.
//! - Observation: joints, their rates, and the positions of fingertips, object and goal.
//! - Action: torques on the joints, in N m, ±2.
//! - Reward: minus `reward_dist_weight` times the distance of object and goal, minus `reward_near_weight` times that
//!   of object and fingertips, minus `reward_control_weight` Σ a².
//! - Start: the arm stretched out, rates of the joints uniform in ±0.005, the object anywhere on its part of the
//!   table but near the goal.
//! - Never terminates; 100 steps of 0.05 s; solved at 0.
//!
//! Positions are those of the last forward evaluation. While the wrist touches the object this task is equivalent to
//! the original, not identical: MuJoCo's general convex collider finds that contact to 1e-6 … 1e-5 only, ours exactly.
//! Measured over 152 touching steps of `tests/mujoco.rs`, the next coordinates differ by 5e-11 in the median and by
//! 1.2e-4 at most, the rates by 1.6e-3, the reward by 3.4e-5 (relative to the largest number or 1).
//!
//! Source: Gymnasium 1.4.0 on MuJoCo 4.0.0.

use super::{Task, View, add_uniform, control_cost, distance, uniform};
use crate::Rng;
use crate::mujoco::model::Model;
use crate::mujoco::{Profile, Sim, models};
use crate::options::{Steps, options};

const TIPS: usize = 10;
const OBJECT: usize = 11;
const GOAL: usize = 12;

options! {
    /// The task of this module.
    pub struct Pusher {
        /// The MuJoCo to reproduce.
        profile: Profile = Profile::Mujoco40,
        /// Time steps of 0.01 s in a step.
        frame_skip: Steps = Steps(5),
        /// Weight of the distance of object and fingertips.
        reward_near_weight: f64 = 0.5,
        /// Weight of the distance of object and goal.
        reward_dist_weight: f64 = 1.0,
        /// Weight of the cost of the action.
        reward_control_weight: f64 = 0.1,
    }
}

impl Task<11, 11, 13> for Pusher {
    const ID: &'static str = "Pusher-v5";
    const MAX_STEPS: usize = 100;
    const THRESHOLD: Option<f64> = Some(0.0);
    const VIEW: View = View::Around { distance: 3.0, elevation: 0.7 };

    fn model() -> &'static Model<11, 11, 13> {
        &models::pusher::MODEL
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn frame_skip(&self) -> usize {
        self.frame_skip.0
    }

    fn start(&self, sim: &mut Sim<11, 11, 13>, rng: &mut Rng) {
        loop {
            let object = [uniform(rng, -0.3, 0.0), uniform(rng, -0.2, 0.2)];
            if object[0].hypot(object[1]) > 0.17 {
                sim.qpos[7..9].copy_from_slice(&object);
                break;
            }
        }
        add_uniform(&mut sim.qvel[..7], 0.005, rng);
    }

    fn observe(&self, sim: &Sim<11, 11, 13>, obs: &mut Vec<f64>) {
        obs.extend(&sim.qpos[..7]);
        obs.extend(&sim.qvel[..7]);
        obs.extend([TIPS, OBJECT, GOAL].iter().flat_map(|b| sim.xpos[*b]));
    }

    fn outcome(&self, sim: &Sim<11, 11, 13>, action: &[f64], _: f64) -> (f64, bool) {
        let near = distance(sim.xpos[OBJECT], sim.xpos[TIPS]) * self.reward_near_weight;
        let dist = distance(sim.xpos[OBJECT], sim.xpos[GOAL]) * self.reward_dist_weight;
        (-dist - control_cost(self.reward_control_weight, action) - near, false)
    }
}
