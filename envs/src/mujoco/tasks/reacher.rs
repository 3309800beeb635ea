//! `Reacher-v5`: bring the tip of a flat two-link arm to a target.
//!
//! - State: both angles, the target's (x, y), and their rates.
//! - Observation: cosines, sines, target, rates of the angles, and the way from the target to the tip in x and y.
//! - Action: torques, 200 N m for each unit, ±1.
//! - Reward: minus `reward_dist_weight` times that distance, minus `reward_control_weight` Σ a².
//! - Start: angles uniform in ±0.1, rates in ±0.005; the target anywhere within 0.2 m, at rest.
//! - Never terminates; 50 steps of 0.02 s; solved at −3.75.
//!
//! The distance is that of the last forward evaluation.
//!
//! Source: Gymnasium 1.4.0 on MuJoCo 4.0.0.

use super::{Task, View, add_uniform, control_cost, distance, uniform};
use crate::Rng;
use crate::mujoco::model::Model;
use crate::mujoco::spatial::sub;
use crate::mujoco::{Profile, Sim, models};
use crate::options::{Steps, options};

const FINGERTIP: usize = 3;
const TARGET: usize = 4;

options! {
    /// The task of this module.
    pub struct Reacher {
        /// The MuJoCo to reproduce.
        profile: Profile = Profile::Mujoco40,
        /// Time steps of 0.01 s in a step.
        frame_skip: Steps = Steps(2),
        /// Weight of the distance to the target.
        reward_dist_weight: f64 = 1.0,
        /// Weight of the cost of the action.
        reward_control_weight: f64 = 1.0,
    }
}

impl Task<4, 4, 5> for Reacher {
    const ID: &'static str = "Reacher-v5";
    const MAX_STEPS: usize = 50;
    const THRESHOLD: Option<f64> = Some(-3.75);
    const VIEW: View = View::Around { distance: 0.8, elevation: 1.2 };

    fn model() -> &'static Model<4, 4, 5> {
        &models::reacher::MODEL
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn frame_skip(&self) -> usize {
        self.frame_skip.0
    }

    fn start(&self, sim: &mut Sim<4, 4, 5>, rng: &mut Rng) {
        add_uniform(&mut sim.qpos, 0.1, rng);
        loop {
            let target = [uniform(rng, -0.2, 0.2), uniform(rng, -0.2, 0.2)];
            if target[0].hypot(target[1]) < 0.2 {
                sim.qpos[2..].copy_from_slice(&target);
                break;
            }
        }
        add_uniform(&mut sim.qvel[..2], 0.005, rng);
    }

    fn observe(&self, sim: &Sim<4, 4, 5>, obs: &mut Vec<f64>) {
        let [theta1, theta2, x, y] = sim.qpos;
        obs.extend([theta1.cos(), theta2.cos(), theta1.sin(), theta2.sin(), x, y]);
        obs.extend(&sim.qvel[..2]);
        obs.extend(&sub(sim.xpos[FINGERTIP], sim.xpos[TARGET])[..2]);
    }

    fn outcome(&self, sim: &Sim<4, 4, 5>, action: &[f64], _: f64) -> (f64, bool) {
        let away = distance(sim.xpos[FINGERTIP], sim.xpos[TARGET]);
        (-away * self.reward_dist_weight - control_cost(self.reward_control_weight, action), false)
    }
}
