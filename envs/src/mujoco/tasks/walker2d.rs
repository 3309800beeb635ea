//! `Walker2d-v5`: walk forward on two legs, in a plane.
//!
//! - State: (x, z, pitch) of the torso, six joints, and their rates.
//! - Observation: the state, the rates clipped to ±10, without x unless
//!   `exclude_current_positions_from_observation` is false.
//! - Action: torques on the joints, 100 N m for each unit, ±1.
//! - Reward: `forward_reward_weight` times the mean velocity in x, plus `healthy_reward` while healthy, minus
//!   `ctrl_cost_weight` Σ a².
//! - Start: everything uniform in ± `reset_noise_scale` about standing at z = 1.25 m.
//! - Terminates when unhealthy: z or pitch out of its open range; 1000 steps of 0.008 s.
//!
//! Source: Gymnasium 1.4.0 on MuJoCo 4.0.0.

use super::{Task, View, add_uniform, clipped, control_cost, positions};
use crate::Rng;
use crate::mujoco::model::Model;
use crate::mujoco::{Profile, Sim, models};
use crate::options::{Range, Scale, Steps, options};

options! {
    /// The task of this module.
    pub struct Walker2d {
        /// The MuJoCo to reproduce.
        profile: Profile = Profile::Mujoco40,
        /// Time steps of 0.002 s in a step.
        frame_skip: Steps = Steps(4),
        /// Weight of the velocity.
        forward_reward_weight: f64 = 1.0,
        /// Weight of the cost of the action.
        ctrl_cost_weight: f64 = 1e-3,
        /// Reward of a healthy step.
        healthy_reward: f64 = 1.0,
        /// Whether an unhealthy state ends the episode.
        terminate_when_unhealthy: bool = true,
        /// Healthy range of z.
        healthy_z_range: Range = Range(0.8, 2.0),
        /// Healthy range of the pitch.
        healthy_angle_range: Range = Range(-1.0, 1.0),
        /// Spread of the start.
        reset_noise_scale: Scale = Scale(5e-3),
        /// Whether the observation leaves out x.
        exclude_current_positions_from_observation: bool = true,
    }
}

impl Task<9, 9, 8> for Walker2d {
    const ID: &'static str = "Walker2d-v5";
    const MAX_STEPS: usize = 1000;
    const THRESHOLD: Option<f64> = None;
    const VIEW: View = View::Side { z: 0.9, width: 3.6 };

    fn model() -> &'static Model<9, 9, 8> {
        &models::walker2d::MODEL
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn frame_skip(&self) -> usize {
        self.frame_skip.0
    }

    fn start(&self, sim: &mut Sim<9, 9, 8>, rng: &mut Rng) {
        add_uniform(&mut sim.qpos, self.reset_noise_scale.0, rng);
        add_uniform(&mut sim.qvel, self.reset_noise_scale.0, rng);
    }

    fn observe(&self, sim: &Sim<9, 9, 8>, obs: &mut Vec<f64>) {
        positions(&sim.qpos, self.exclude_current_positions_from_observation, 1, obs);
        clipped(&sim.qvel, obs);
    }

    fn place(&self, sim: &Sim<9, 9, 8>) -> f64 {
        sim.qpos[0]
    }

    fn outcome(&self, sim: &Sim<9, 9, 8>, action: &[f64], velocity: f64) -> (f64, bool) {
        let [_, z, pitch, ..] = sim.qpos;
        let healthy = self.healthy_z_range.holds(z) && self.healthy_angle_range.holds(pitch);
        let survive = if healthy { self.healthy_reward } else { 0.0 };
        let reward =
            self.forward_reward_weight * velocity + survive - control_cost(self.ctrl_cost_weight, action);
        (reward, !healthy && self.terminate_when_unhealthy)
    }
}
