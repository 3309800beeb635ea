//! `Pendulum-v1`: swing a rod up and hold it there, with a torque too weak to lift it directly.
//!
//! A uniform rod (m = 1 kg, l = 1 m) on a frictionless pivot; θ is the angle from upright. With the
//! inertia ml²/3 about the pivot,
//!
//! ```text
//! θ̈ = 3g/(2l) sin θ + 3/(ml²) u,   g = 10 m/s²,   |u| ≤ 2 N·m
//! ```
//!
//! integrated by semi-implicit Euler, dt = 0.05 s: first θ̇, clipped to ±8 rad/s, then θ, which is not
//! wrapped.
//!
//! - State: (θ, θ̇). Observation: (cos θ, sin θ, θ̇).
//! - Reward: −(n(θ)² + 0.1 θ̇² + 0.001 u²) in the state *before* the step; n wraps to ±π.
//! - Start: θ uniform in ±π, θ̇ uniform in ±1.
//! - Never terminates; 200 steps.
//!
//! Source: Gymnasium 1.4.0, `Pendulum-v1`. The best mean return is about −137.

use std::f64::consts::PI;

use super::{load_state, uniform, wrap};
use crate::scene::{Paint, ball, rod};
use crate::{Env, Rng, Scene, Space, Spec, State, StateError};

const DT: f64 = 0.05;
const GRAVITY: f64 = 10.0;
const MAX_SPEED: f64 = 8.0;
const MAX_TORQUE: f64 = 2.0;

/// The task of this module.
pub struct Pendulum {
    spec: Spec,
    theta: f64,
    speed: f64,
    // Sine and cosine of `theta`, written by one step for its observation and used again by the
    // dynamics of the next.
    sin: f64,
    cos: f64,
}

impl Default for Pendulum {
    fn default() -> Self {
        let obs = Space::symmetric(&[1.0, 1.0, MAX_SPEED as f32]);
        let action = Space::symmetric(&[MAX_TORQUE as f32]);
        let worst = cost(PI, MAX_SPEED, MAX_TORQUE);
        let spec =
            Spec { reward_range: (-worst, 0.0), ..Spec::single("Pendulum-v1", obs, action, Some(200)) };
        Self { spec, theta: 0.0, speed: 0.0, sin: 0.0, cos: 1.0 }
    }
}

fn cost(angle: f64, speed: f64, torque: f64) -> f64 {
    angle * angle + 0.1 * (speed * speed) + 0.001 * (torque * torque)
}

impl Pendulum {
    fn set(&mut self, theta: f64, speed: f64) {
        (self.theta, self.speed) = (theta, speed);
        (self.sin, self.cos) = theta.sin_cos();
    }

    fn observe(&self, obs: &mut [f32]) {
        obs.copy_from_slice(&[self.cos as f32, self.sin as f32, self.speed as f32]);
    }
}

impl Env for Pendulum {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        let theta = uniform(rng, -PI, PI);
        self.set(theta, uniform(rng, -1.0, 1.0));
        self.observe(obs);
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let torque = action[0];
        reward[0] = -cost(wrap(self.theta), self.speed, torque);
        let acceleration = 1.5 * GRAVITY * self.sin + 3.0 * torque;
        let speed = (self.speed + acceleration * DT).clamp(-MAX_SPEED, MAX_SPEED);
        self.set(self.theta + speed * DT, speed);
        self.observe(obs);
        false
    }

    fn save(&self, state: &mut State) {
        state.put_f64("state", &[self.theta, self.speed]);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        let [theta, speed] = load_state(state)?;
        self.set(theta, speed);
        Ok(())
    }

    fn scene(&self) -> Option<Scene> {
        // θ grows anticlockwise, from upright.
        let tip = [-self.sin, self.cos];
        let shapes = vec![rod([0.0; 2], tip, 0.06, Paint::Body), ball([0.0; 2], 0.04, Paint::Still)];
        Some(Scene::side([0.0; 2], 2.6, 2.6, DT, shapes))
    }
}
