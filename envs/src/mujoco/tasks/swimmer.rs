//! `Swimmer-v5`: swim forward with three links in a viscous fluid.
//!
//! - State: (x, y) of the first link, its angle, the two joints, and their rates.
//! - Observation: the state, without x and y unless `exclude_current_positions_from_observation` is false.
//! - Action: torques on the joints, 150 N m for each unit, ±1.
//! - Reward: `forward_reward_weight` times the mean velocity in x, minus `ctrl_cost_weight` Σ a².
//! - Start: everything uniform in ± `reset_noise_scale`.
//! - Never terminates; 1000 steps of 0.04 s; solved at 360.
//!
//! Source: Gymnasium 1.4.0 on MuJoCo 4.0.0.

use super::{Task, View, add_uniform, control_cost, positions};
use crate::Rng;
use crate::mujoco::model::Model;
use crate::mujoco::{Profile, Sim, models};
use crate::options::{Scale, Steps, options};

options! {
    /// The task of this module.
    pub struct Swimmer {
        /// The MuJoCo to reproduce.
        profile: Profile = Profile::Mujoco40,
        /// Time steps of 0.01 s in a step.
        frame_skip: Steps = Steps(4),
        /// Weight of the velocity.
        forward_reward_weight: f64 = 1.0,
        /// Weight of the cost of the action.
        ctrl_cost_weight: f64 = 1e-4,
        /// Spread of the start.
        reset_noise_scale: Scale = Scale(0.1),
        /// Whether the observation leaves out x and y.
        exclude_current_positions_from_observation: bool = true,
    }
}

impl Task<5, 5, 4> for Swimmer {
    const ID: &'static str = "Swimmer-v5";
    const MAX_STEPS: usize = 1000;
    const THRESHOLD: Option<f64> = Some(360.0);
    const VIEW: View = View::Around { distance: 6.0, elevation: 1.0 };

    fn model() -> &'static Model<5, 5, 4> {
        &models::swimmer::MODEL
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn frame_skip(&self) -> usize {
        self.frame_skip.0
    }

    fn start(&self, sim: &mut Sim<5, 5, 4>, rng: &mut Rng) {
        add_uniform(&mut sim.qpos, self.reset_noise_scale.0, rng);
        add_uniform(&mut sim.qvel, self.reset_noise_scale.0, rng);
    }

    fn observe(&self, sim: &Sim<5, 5, 4>, obs: &mut Vec<f64>) {
        positions(&sim.qpos, self.exclude_current_positions_from_observation, 2, obs);
        obs.extend(&sim.qvel);
    }

    fn place(&self, sim: &Sim<5, 5, 4>) -> f64 {
        sim.qpos[0]
    }

    fn outcome(&self, _: &Sim<5, 5, 4>, action: &[f64], velocity: f64) -> (f64, bool) {
        (self.forward_reward_weight * velocity - control_cost(self.ctrl_cost_weight, action), false)
    }
}
