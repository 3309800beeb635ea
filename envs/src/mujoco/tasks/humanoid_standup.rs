//! `HumanoidStandup-v5`: stand up from lying on the back.
//!
//! - State, observation and action: those of `Humanoid-v5`.
//! - Reward: 1 + z / 0.003 s, minus `ctrl_cost_weight` Σ a², minus `impact_cost_weight` times the
//!   sum of squares of the contact forces, clipped to `impact_cost_range`. Gymnasium declares `uph_cost_weight` and
//!   does not use it; it is not an option here.
//! - Start: everything uniform in ± `reset_noise_scale` about lying at z = 0.105 m.
//! - Never terminates; 1000 steps of 0.015 s.
//!
//! Source: Y. Tassa, T. Erez and E. Todorov, *Synthesis and stabilization of complex behaviors through online
//! trajectory optimization*, 2012; Gymnasium 1.4.0 on MuJoCo 4.0.0.

use super::humanoid::{Body, costs, observe};
use super::{Task, add_uniform};
use crate::Rng;
use crate::mujoco::model::Model;
use crate::mujoco::{Profile, models};
use crate::options::{Range, Scale, Steps, options};

options! {
    /// The task of this module.
    pub struct HumanoidStandup {
        /// The MuJoCo to reproduce.
        profile: Profile = Profile::Mujoco40,
        /// Time steps of 0.003 s in a step.
        frame_skip: Steps = Steps(5),
        /// Weight of the cost of the action.
        ctrl_cost_weight: f64 = 0.1,
        /// Weight of the cost of contact forces.
        impact_cost_weight: f64 = 5e-7,
        /// What the cost of contact forces is clipped to.
        impact_cost_range: Range = Range(f64::NEG_INFINITY, 10.0),
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

impl Task<24, 23, 14> for HumanoidStandup {
    const ID: &'static str = "HumanoidStandup-v5";
    const MAX_STEPS: usize = 1000;
    const THRESHOLD: Option<f64> = None;
    const CONTACT_FORCES: bool = true;

    fn model() -> &'static Model<24, 23, 14> {
        &models::humanoid_standup::MODEL
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

    fn outcome(&self, sim: &Body, _: &[f64], _: f64) -> (f64, bool) {
        let (ctrl, impact) =
            costs(sim, self.ctrl_cost_weight, self.impact_cost_weight, self.impact_cost_range);
        // Divided by the time step, not by the duration of the step: a habit of the original.
        (sim.qpos[2] / sim.model().timestep - ctrl - impact + 1.0, false)
    }
}
