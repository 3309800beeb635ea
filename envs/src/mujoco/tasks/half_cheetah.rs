//! `HalfCheetah-v5`: run forward on a front and a back leg, in a plane.
//!
//! - State: (x, z, pitch) of the torso, six joints, and their rates.
//! - Observation: the state, without x unless `exclude_current_positions_from_observation` is false.
//! - Action: torques on the joints, 30 to 120 N m for each unit, ±1.
//! - Reward: `forward_reward_weight` times the mean velocity in x, minus `ctrl_cost_weight` Σ a².
//! - Start: coordinates uniform in ± `reset_noise_scale`, rates normal with that deviation.
//! - Never terminates; 1000 steps of 0.05 s; solved at 4800.
//!
//! Source: P. Wawrzyński, *A cat-like robot real-time learning to run*, 2009; Gymnasium 1.4.0 on MuJoCo 4.0.0.

use super::{Task, View, add_normal, add_uniform, control_cost, positions};
use crate::Rng;
use crate::mujoco::model::Model;
use crate::mujoco::{Profile, Sim, models};
use crate::options::{Scale, Steps, options};

options! {
    /// The task of this module.
    pub struct HalfCheetah {
        /// The MuJoCo to reproduce.
        profile: Profile = Profile::Mujoco40,
        /// Time steps of 0.01 s in a step.
        frame_skip: Steps = Steps(5),
        /// Weight of the velocity.
        forward_reward_weight: f64 = 1.0,
        /// Weight of the cost of the action.
        ctrl_cost_weight: f64 = 0.1,
        /// Spread of the start.
        reset_noise_scale: Scale = Scale(0.1),
        /// Whether the observation leaves out x.
        exclude_current_positions_from_observation: bool = true,
    }
}

impl Task<9, 9, 8> for HalfCheetah {
    const ID: &'static str = "HalfCheetah-v5";
    const MAX_STEPS: usize = 1000;
    const THRESHOLD: Option<f64> = Some(4800.0);
    const VIEW: View = View::Side { z: 0.8, width: 3.6 };

    fn model() -> &'static Model<9, 9, 8> {
        &models::half_cheetah::MODEL
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn frame_skip(&self) -> usize {
        self.frame_skip.0
    }

    fn start(&self, sim: &mut Sim<9, 9, 8>, rng: &mut Rng) {
        add_uniform(&mut sim.qpos, self.reset_noise_scale.0, rng);
        add_normal(&mut sim.qvel, self.reset_noise_scale.0, rng);
    }

    fn observe(&self, sim: &Sim<9, 9, 8>, obs: &mut Vec<f64>) {
        positions(&sim.qpos, self.exclude_current_positions_from_observation, 1, obs);
        obs.extend(&sim.qvel);
    }

    fn place(&self, sim: &Sim<9, 9, 8>) -> f64 {
        sim.qpos[0]
    }

    fn outcome(&self, _: &Sim<9, 9, 8>, action: &[f64], velocity: f64) -> (f64, bool) {
        (self.forward_reward_weight * velocity - control_cost(self.ctrl_cost_weight, action), false)
    }
}
