//! `InvertedPendulum-v5`: keep a pole upright on a cart that is pushed along a rail.
//!
//! - State: (x, θ) and their rates; θ from upright. Observation: the state.
//! - Action: force on the cart, 100 N for each unit, ±3.
//! - Reward: 1 while the pole is up.
//! - Start: everything uniform in ± `reset_noise_scale`.
//! - Terminates at |θ| > 0.2 rad; 1000 steps of 0.04 s; solved at 950.
//!
//! Source: Gymnasium 1.4.0 on MuJoCo 4.0.0.

use super::{Task, View, add_uniform};
use crate::Rng;
use crate::mujoco::model::Model;
use crate::mujoco::{Profile, Sim, models};
use crate::options::{Scale, Steps, options};

options! {
    /// The task of this module.
    pub struct InvertedPendulum {
        /// The MuJoCo to reproduce.
        profile: Profile = Profile::Mujoco40,
        /// Time steps of 0.02 s in a step.
        frame_skip: Steps = Steps(2),
        /// Spread of the start.
        reset_noise_scale: Scale = Scale(0.01),
    }
}

impl Task<2, 2, 3> for InvertedPendulum {
    const ID: &'static str = "InvertedPendulum-v5";
    const MAX_STEPS: usize = 1000;
    const THRESHOLD: Option<f64> = Some(950.0);
    const VIEW: View = View::Side { z: 0.3, width: 3.0 };

    fn model() -> &'static Model<2, 2, 3> {
        &models::inverted_pendulum::MODEL
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn frame_skip(&self) -> usize {
        self.frame_skip.0
    }

    fn start(&self, sim: &mut Sim<2, 2, 3>, rng: &mut Rng) {
        add_uniform(&mut sim.qpos, self.reset_noise_scale.0, rng);
        add_uniform(&mut sim.qvel, self.reset_noise_scale.0, rng);
    }

    fn observe(&self, sim: &Sim<2, 2, 3>, obs: &mut Vec<f64>) {
        obs.extend(sim.qpos.iter().chain(&sim.qvel));
    }

    fn outcome(&self, sim: &Sim<2, 2, 3>, _: &[f64], _: f64) -> (f64, bool) {
        let finite = sim.qpos.iter().chain(&sim.qvel).all(|x| x.is_finite());
        let terminated = !finite || sim.qpos[1].abs() > 0.2;
        (if terminated { 0.0 } else { 1.0 }, terminated)
    }
}
