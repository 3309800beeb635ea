//! `Humanoid-v5`: walk forward on two legs, with arms.
//!
//! - State: position and orientation (a quaternion) of the torso, seventeen joints, and their rates.
//! - Observation: the state, without x and y unless `exclude_current_positions_from_observation` is false; then of
//!   each body inertia and velocity about the centre of mass, the torques of the motors, and the contact forces on
//!   each body, unless `include_…_in_observation` is false.
//! - Action: controls of the motors, 25 to 300 N m for each unit, ±0.4.
//! - Reward: `forward_reward_weight` times the mean velocity of the centre of mass in x, plus `healthy_reward` while
//!   healthy, minus `ctrl_cost_weight` Σ a², minus `contact_cost_weight` times the sum of squares of the contact forces,
//!   clipped to `contact_cost_range`.
//! - Start: everything uniform in ± `reset_noise_scale` about standing at z = 1.4 m.
//! - Terminates when unhealthy: z out of its open range; 1000 steps of 0.015 s.
//!
//! Everything but the state is that of the last forward evaluation.
//!
//! Source: Y. Tassa, T. Erez and E. Todorov, *Synthesis and stabilization of complex behaviors through online
//! trajectory optimization*, 2012; Gymnasium 1.4.0 on MuJoCo 4.0.0.

use super::{Task, add_uniform, positions};
use crate::Rng;
use crate::mujoco::model::Model;
use crate::mujoco::{Profile, Sim, models};
use crate::options::{Range, Scale, Steps, options};

/// The simulation of a humanoid.
pub(super) type Body = Sim<24, 23, 14>;

options! {
    /// The task of this module.
    pub struct Humanoid {
        /// The MuJoCo to reproduce.
        profile: Profile = Profile::Mujoco40,
        /// Time steps of 0.003 s in a step.
        frame_skip: Steps = Steps(5),
        /// Weight of the velocity.
        forward_reward_weight: f64 = 1.25,
        /// Weight of the cost of the action.
        ctrl_cost_weight: f64 = 0.1,
        /// Weight of the cost of contact forces.
        contact_cost_weight: f64 = 5e-7,
        /// What the cost of contact forces is clipped to.
        contact_cost_range: Range = Range(f64::NEG_INFINITY, 10.0),
        /// Reward of a healthy step.
        healthy_reward: f64 = 5.0,
        /// Whether an unhealthy state ends the episode.
        terminate_when_unhealthy: bool = true,
        /// Healthy range of z.
        healthy_z_range: Range = Range(1.0, 2.0),
        /// Spread of the start.
        reset_noise_scale: Scale = Scale(1e-2),
        /// Whether the observation leaves out x and y.
        exclude_current_positions_from_observation: bool = true,
        /// Whether the observation holds the inertias.
        include_cinert_in_observation: bool = true,
        /// Whether the observation holds the velocities of the bodies.
        include_cvel_in_observation: bool = true,
        /// Whether the observation holds the torques of the motors.
        include_qfrc_actuator_in_observation: bool = true,
        /// Whether the observation holds the contact forces.
        include_cfrc_ext_in_observation: bool = true,
    }
}

/// Appends the observation of a humanoid, with the parts that are included.
pub(super) fn observe(
    sim: &Body,
    hide_place: bool,
    [cinert, cvel, qfrc_actuator, cfrc_ext]: [bool; 4],
    obs: &mut Vec<f64>,
) {
    positions(&sim.qpos, hide_place, 2, obs);
    obs.extend(&sim.qvel);
    for (included, part) in [
        (cinert, sim.cinert[1..].as_flattened()),
        (cvel, sim.cvel[1..].as_flattened()),
        (qfrc_actuator, &sim.qfrc_actuator[6..]),
        (cfrc_ext, sim.cfrc_ext[1..].as_flattened()),
    ] {
        if included {
            obs.extend(part);
        }
    }
}

/// Cost of the controls, and that of the contact forces, of a humanoid.
pub(super) fn costs(sim: &Body, ctrl_weight: f64, contact_weight: f64, range: Range) -> (f64, f64) {
    let square = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>();
    let ctrl = ctrl_weight * square(&sim.ctrl[..sim.model().actuators.len()]);
    let contact = contact_weight * square(sim.cfrc_ext.as_flattened());
    (ctrl, contact.clamp(range.0, range.1))
}

impl Task<24, 23, 14> for Humanoid {
    const ID: &'static str = "Humanoid-v5";
    const MAX_STEPS: usize = 1000;
    const THRESHOLD: Option<f64> = None;
    const CONTACT_FORCES: bool = true;
    const LATE: bool = true;

    fn model() -> &'static Model<24, 23, 14> {
        &models::humanoid::MODEL
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn frame_skip(&self) -> usize {
        self.frame_skip.0
    }

    fn start(&self, sim: &mut Body, rng: &mut Rng) {
        add_uniform(&mut sim.qpos, self.reset_noise_scale.0, rng);
        add_uniform(&mut sim.qvel, self.reset_noise_scale.0, rng);
    }

    fn observe(&self, sim: &Body, obs: &mut Vec<f64>) {
        let included = [
            self.include_cinert_in_observation,
            self.include_cvel_in_observation,
            self.include_qfrc_actuator_in_observation,
            self.include_cfrc_ext_in_observation,
        ];
        observe(sim, self.exclude_current_positions_from_observation, included, obs);
    }

    fn place(&self, sim: &Body) -> f64 {
        let bodies = &sim.model().bodies;
        let mass: f64 = bodies.iter().map(|b| b.mass).sum();
        bodies.iter().zip(&sim.xipos).map(|(b, x)| b.mass * x[0]).sum::<f64>() / mass
    }

    fn outcome(&self, sim: &Body, _: &[f64], velocity: f64) -> (f64, bool) {
        let healthy = self.healthy_z_range.holds(sim.qpos[2]);
        let survive = if healthy { self.healthy_reward } else { 0.0 };
        let (ctrl, contact) =
            costs(sim, self.ctrl_cost_weight, self.contact_cost_weight, self.contact_cost_range);
        let reward = self.forward_reward_weight * velocity + survive - (ctrl + contact);
        (reward, !healthy && self.terminate_when_unhealthy)
    }
}
