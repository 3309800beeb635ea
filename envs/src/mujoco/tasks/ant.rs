//! `Ant-v5`: walk forward on four legs.
//!
//! - State: position and orientation (a quaternion) of the torso, eight joints, and their rates.
//! - Observation: the state, without x and y unless `exclude_current_positions_from_observation` is false; then the
//!   contact forces on the bodies, clipped, unless `include_cfrc_ext_in_observation` is false.
//! - Action: torques on the joints, 150 N m for each unit, ±1.
//! - Reward: `forward_reward_weight` times the mean velocity of the torso in x, plus `healthy_reward` while healthy,
//!   minus `ctrl_cost_weight` Σ a², minus `contact_cost_weight` times the sum of squares of the clipped contact forces.
//! - Start: coordinates uniform in ± `reset_noise_scale`, rates normal with that deviation.
//! - Terminates when unhealthy: z out of its closed range, or a number of the state not finite; 1000 steps of 0.05 s;
//!   solved at 6000.
//!
//! Position of the torso and contact forces are those of the last forward evaluation.
//!
//! Source: J. Schulman et al., *High-dimensional continuous control using generalized advantage estimation*, 2016;
//! Gymnasium 1.4.0 on MuJoCo 4.0.0.

use super::{Task, add_normal, add_uniform, control_cost, positions};
use crate::Rng;
use crate::mujoco::model::Model;
use crate::mujoco::{Profile, Sim, models};
use crate::options::{Range, Scale, Steps, options};

const TORSO: usize = 1;

options! {
    /// The task of this module.
    pub struct Ant {
        /// The MuJoCo to reproduce.
        profile: Profile = Profile::Mujoco40,
        /// Time steps of 0.01 s in a step.
        frame_skip: Steps = Steps(5),
        /// Weight of the velocity.
        forward_reward_weight: f64 = 1.0,
        /// Weight of the cost of the action.
        ctrl_cost_weight: f64 = 0.5,
        /// Weight of the cost of contact forces.
        contact_cost_weight: f64 = 5e-4,
        /// Reward of a healthy step.
        healthy_reward: f64 = 1.0,
        /// Whether an unhealthy state ends the episode.
        terminate_when_unhealthy: bool = true,
        /// Healthy range of z.
        healthy_z_range: Range = Range(0.2, 1.0),
        /// What contact forces are clipped to, in observation and reward.
        contact_force_range: Range = Range(-1.0, 1.0),
        /// Spread of the start.
        reset_noise_scale: Scale = Scale(0.1),
        /// Whether the observation leaves out x and y.
        exclude_current_positions_from_observation: bool = true,
        /// Whether the observation holds the contact forces.
        include_cfrc_ext_in_observation: bool = true,
    }
}

impl Ant {
    fn is_healthy(&self, sim: &Sim<15, 14, 14>) -> bool {
        let Range(low, high) = self.healthy_z_range;
        sim.qpos.iter().chain(&sim.qvel).all(|x| x.is_finite()) && low <= sim.qpos[2] && sim.qpos[2] <= high
    }

    fn clip(&self, force: f64) -> f64 {
        force.clamp(self.contact_force_range.0, self.contact_force_range.1)
    }
}

impl Task<15, 14, 14> for Ant {
    const ID: &'static str = "Ant-v5";
    const MAX_STEPS: usize = 1000;
    const THRESHOLD: Option<f64> = Some(6000.0);
    const CONTACT_FORCES: bool = true;
    const LATE: bool = true;

    fn model() -> &'static Model<15, 14, 14> {
        &models::ant::MODEL
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn frame_skip(&self) -> usize {
        self.frame_skip.0
    }

    fn start(&self, sim: &mut Sim<15, 14, 14>, rng: &mut Rng) {
        add_uniform(&mut sim.qpos, self.reset_noise_scale.0, rng);
        add_normal(&mut sim.qvel, self.reset_noise_scale.0, rng);
    }

    fn observe(&self, sim: &Sim<15, 14, 14>, obs: &mut Vec<f64>) {
        positions(&sim.qpos, self.exclude_current_positions_from_observation, 2, obs);
        obs.extend(&sim.qvel);
        if self.include_cfrc_ext_in_observation {
            obs.extend(sim.cfrc_ext[1..].as_flattened().iter().map(|f| self.clip(*f)));
        }
    }

    fn place(&self, sim: &Sim<15, 14, 14>) -> f64 {
        sim.xpos[TORSO][0]
    }

    fn outcome(&self, sim: &Sim<15, 14, 14>, action: &[f64], velocity: f64) -> (f64, bool) {
        let healthy = self.is_healthy(sim);
        let survive = if healthy { self.healthy_reward } else { 0.0 };
        let square = |f: &f64| self.clip(*f) * self.clip(*f);
        let contact = self.contact_cost_weight * sim.cfrc_ext.as_flattened().iter().map(square).sum::<f64>();
        let costs = control_cost(self.ctrl_cost_weight, action) + contact;
        (self.forward_reward_weight * velocity + survive - costs, !healthy && self.terminate_when_unhealthy)
    }
}
