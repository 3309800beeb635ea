//! `Hopper-v5`: hop forward on one leg, in a plane.
//!
//! - State: (x, z, pitch) of the torso, three joints, and their rates.
//! - Observation: the state, the rates clipped to ±10, without x unless
//!   `exclude_current_positions_from_observation` is false.
//! - Action: torques on the joints, 200 N m for each unit, ±1.
//! - Reward: `forward_reward_weight` times the mean velocity in x, plus `healthy_reward` while healthy, minus
//!   `ctrl_cost_weight` Σ a².
//! - Start: everything uniform in ± `reset_noise_scale` about standing at z = 1.25 m.
//! - Terminates when unhealthy: z, pitch, or any other number of the state but x out of its open range; 1000 steps
//!   of 0.008 s; solved at 3800.
//!
//! Source: Gymnasium 1.4.0 on MuJoCo 4.0.0.

use super::{Task, View, add_uniform, clipped, control_cost, positions};
use crate::Rng;
use crate::mujoco::model::Model;
use crate::mujoco::{Profile, Sim, models};
use crate::options::{Range, Scale, Steps, options};

options! {
    /// The task of this module.
    pub struct Hopper {
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
        /// Healthy range of everything but x and z.
        healthy_state_range: Range = Range(-100.0, 100.0),
        /// Healthy range of z.
        healthy_z_range: Range = Range(0.7, f64::INFINITY),
        /// Healthy range of the pitch.
        healthy_angle_range: Range = Range(-0.2, 0.2),
        /// Spread of the start.
        reset_noise_scale: Scale = Scale(5e-3),
        /// Whether the observation leaves out x.
        exclude_current_positions_from_observation: bool = true,
    }
}

impl Hopper {
    fn is_healthy(&self, sim: &Sim<6, 6, 5>) -> bool {
        let [_, z, pitch, ..] = sim.qpos;
        let mut rest = sim.qpos[2..].iter().chain(&sim.qvel);
        rest.all(|x| self.healthy_state_range.holds(*x))
            && self.healthy_z_range.holds(z)
            && self.healthy_angle_range.holds(pitch)
    }
}

impl Task<6, 6, 5> for Hopper {
    const ID: &'static str = "Hopper-v5";
    const MAX_STEPS: usize = 1000;
    const THRESHOLD: Option<f64> = Some(3800.0);
    const VIEW: View = View::Side { z: 0.9, width: 3.6 };

    fn model() -> &'static Model<6, 6, 5> {
        &models::hopper::MODEL
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn frame_skip(&self) -> usize {
        self.frame_skip.0
    }

    fn start(&self, sim: &mut Sim<6, 6, 5>, rng: &mut Rng) {
        add_uniform(&mut sim.qpos, self.reset_noise_scale.0, rng);
        add_uniform(&mut sim.qvel, self.reset_noise_scale.0, rng);
    }

    fn observe(&self, sim: &Sim<6, 6, 5>, obs: &mut Vec<f64>) {
        positions(&sim.qpos, self.exclude_current_positions_from_observation, 1, obs);
        clipped(&sim.qvel, obs);
    }

    fn place(&self, sim: &Sim<6, 6, 5>) -> f64 {
        sim.qpos[0]
    }

    fn outcome(&self, sim: &Sim<6, 6, 5>, action: &[f64], velocity: f64) -> (f64, bool) {
        let healthy = self.is_healthy(sim);
        let survive = if healthy { self.healthy_reward } else { 0.0 };
        let reward =
            self.forward_reward_weight * velocity + survive - control_cost(self.ctrl_cost_weight, action);
        (reward, !healthy && self.terminate_when_unhealthy)
    }
}
