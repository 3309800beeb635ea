//! `MountainCarContinuous-v0`: drive an underpowered car out of a valley.
//!
//! The height of the road is sin 3x. With the force a clipped to ±1,
//!
//! ```text
//! v ← clip(v + 0.0015 a − 0.0025 cos 3x, ±0.07),   x ← clip(x + v, −1.2, 0.6)
//! ```
//!
//! and the car stops (v = 0) at the left wall. One step is the unit of time.
//!
//! - State and observation: (x, v).
//! - Reward: −0.1 a², with a *before* clipping, and +100 on reaching the goal.
//! - Start: x uniform in (−0.6, −0.4), v = 0.
//! - Terminates at x ≥ 0.45 with v ≥ 0; 999 steps; solved at 90.
//!
//! Source: A. Moore, PhD thesis, Cambridge, 1990; Gymnasium 1.4.0, `MountainCarContinuous-v0`.
//!
//! Gymnasium keeps this state in float32 and its arithmetic follows NumPy 2, where a Python number
//! takes the type of the array scalar that it meets. From a float32 state and a float32 action every
//! step here has the same bits; the comments in [`Env::step`] say where a rounding comes from. One
//! difference: Gymnasium's state between a reset and the first step is float64, ours is rounded.

use super::{load_state, uniform};
use crate::{Env, Rng, Scene, Space, Spec, State, StateError};

const MIN_POSITION: f32 = -1.2;
const MAX_POSITION: f32 = 0.6;
const MAX_SPEED: f32 = 0.07;
const GOAL_POSITION: f32 = 0.45;

/// The task of this module.
pub struct MountainCarContinuous {
    spec: Spec,
    position: f32,
    speed: f32,
}

impl Default for MountainCarContinuous {
    fn default() -> Self {
        let obs = Space::Box { low: vec![MIN_POSITION, -MAX_SPEED], high: vec![MAX_POSITION, MAX_SPEED] };
        let action = Space::symmetric(&[1.0]);
        let spec = Spec {
            reward_threshold: Some(90.0),
            reward_range: (f64::NEG_INFINITY, 100.0),
            clips_actions: true,
            ..Spec::single("MountainCarContinuous-v0", obs, action, Some(999))
        };
        Self { spec, position: -0.5, speed: 0.0 }
    }
}

impl Env for MountainCarContinuous {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.position = uniform(rng, -0.6, -0.4) as f32;
        self.speed = 0.0;
        obs.copy_from_slice(&[self.position, self.speed]);
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let force = action[0] as f32;
        // `math.cos` returns a Python number, so the slope is float64 until it meets a float32.
        let slope = 0.0025 * f64::from(3.0 * self.position).cos();
        let push = if force.abs() > 1.0 {
            // Clipping replaces the float32 force by a Python number: float64 up to the sum with v.
            (0.0015 * f64::from(force.signum()) - slope) as f32
        } else {
            0.0015 * force - slope as f32
        };
        self.speed = (self.speed + push).clamp(-MAX_SPEED, MAX_SPEED);
        self.position = (self.position + self.speed).clamp(MIN_POSITION, MAX_POSITION);
        if self.position == MIN_POSITION && self.speed < 0.0 {
            self.speed = 0.0;
        }
        let terminated = self.position >= GOAL_POSITION && self.speed >= 0.0;
        let force = f64::from(force);
        reward[0] = if terminated { 100.0 } else { 0.0 } - force * force * 0.1;
        obs.copy_from_slice(&[self.position, self.speed]);
        terminated
    }

    fn save(&self, state: &mut State) {
        state.put_f64("state", &[f64::from(self.position), f64::from(self.speed)]);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        let [position, speed] = load_state(state)?;
        (self.position, self.speed) = (position as f32, speed as f32);
        Ok(())
    }

    fn scene(&self) -> Option<Scene> {
        Some(super::mountain_car::picture(f64::from(self.position), f64::from(GOAL_POSITION)))
    }
}
