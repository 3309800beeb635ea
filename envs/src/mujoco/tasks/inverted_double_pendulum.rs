//! `InvertedDoublePendulum-v5`: keep two poles, one on the other, upright on a cart.
//!
//! - State: (x, θ₁, θ₂) and their rates; θ₂ from the line of the first pole.
//! - Observation: x, sin θ₁, sin θ₂, cos θ₁, cos θ₂, the rates and the constraint force on the cart, both clipped
//!   to ±10.
//! - Action: force on the cart, 500 N for each unit, ±1.
//! - Reward: `healthy_reward` while up, minus 0.01 x² + (z − 2)² of the tip and 1e-3 θ̇₁² + 5e-3 θ̇₂².
//! - Start: coordinates uniform in ± `reset_noise_scale`, rates normal with that deviation.
//! - Terminates when the tip is at z ≤ 1 m; 1000 steps of 0.05 s; solved at 9100.
//!
//! Tip and constraint force are those of the last forward evaluation.
//!
//! Source: Gymnasium 1.4.0 on MuJoCo 4.0.0.

use super::{Task, View, add_normal, add_uniform, clipped};
use crate::Rng;
use crate::mujoco::model::Model;
use crate::mujoco::spatial::{add, rotate};
use crate::mujoco::{Profile, Sim, models};
use crate::options::{Scale, Steps, options};

options! {
    /// The task of this module.
    pub struct InvertedDoublePendulum {
        /// The MuJoCo to reproduce.
        profile: Profile = Profile::Mujoco40,
        /// Time steps of 0.01 s in a step.
        frame_skip: Steps = Steps(5),
        /// Reward of a step in which the poles stay up.
        healthy_reward: f64 = 10.0,
        /// Spread of the start.
        reset_noise_scale: Scale = Scale(0.1),
    }
}

impl Task<3, 3, 4> for InvertedDoublePendulum {
    const ID: &'static str = "InvertedDoublePendulum-v5";
    const MAX_STEPS: usize = 1000;
    const THRESHOLD: Option<f64> = Some(9100.0);
    const VIEW: View = View::Side { z: 0.6, width: 3.6 };

    fn model() -> &'static Model<3, 3, 4> {
        &models::inverted_double_pendulum::MODEL
    }

    fn profile(&self) -> Profile {
        self.profile
    }

    fn frame_skip(&self) -> usize {
        self.frame_skip.0
    }

    fn start(&self, sim: &mut Sim<3, 3, 4>, rng: &mut Rng) {
        add_uniform(&mut sim.qpos, self.reset_noise_scale.0, rng);
        add_normal(&mut sim.qvel, self.reset_noise_scale.0, rng);
    }

    fn observe(&self, sim: &Sim<3, 3, 4>, obs: &mut Vec<f64>) {
        let [x, theta1, theta2] = sim.qpos;
        obs.extend([x, theta1.sin(), theta2.sin(), theta1.cos(), theta2.cos()]);
        clipped(&sim.qvel, obs);
        clipped(&sim.qfrc_constraint[..1], obs);
    }

    fn outcome(&self, sim: &Sim<3, 3, 4>, _: &[f64], _: f64) -> (f64, bool) {
        let tip = &sim.model().sites[0];
        let [x, _, z] = add(sim.xpos[tip.body], rotate(&sim.xmat[tip.body], tip.pos));
        let terminated = z <= 1.0;
        let [_, v1, v2] = sim.qvel;
        let penalty = 0.01 * x * x + (z - 2.0) * (z - 2.0) + (1e-3 * v1 * v1 + 5e-3 * v2 * v2);
        (if terminated { 0.0 } else { self.healthy_reward } - penalty, terminated)
    }
}
