//! `CartPole-v1`: keep a pole upright on a cart that is pushed left or right.
//!
//! A cart (M = 1 kg) on a frictionless track carries a uniform pole (m = 0.1 kg, half-length l = 0.5 m).
//! θ is the angle from upright, F = ±10 N the push of action 1 or 0:
//!
//! ```text
//! t = (F + m l θ̇² sin θ) / (M + m)
//! θ̈ = (g sin θ − t cos θ) / (l (4/3 − m cos² θ / (M + m))),   ẍ = t − m l θ̈ cos θ / (M + m)
//! ```
//!
//! with g = 9.8 m/s², integrated by explicit Euler, dt = 0.02 s (positions use the old velocities).
//!
//! - State and observation: (x, ẋ, θ, θ̇).
//! - Reward: 1 a step, the last one included.
//! - Start: each uniform in ±0.05.
//! - Terminates at |x| > 2.4 m or |θ| > 12°; 500 steps; solved at 475.
//!
//! Source: Barto, Sutton & Anderson, "Neuronlike adaptive elements that can solve difficult learning
//! control problems", 1983; equations after R. Florian, 2005; Gymnasium 1.4.0, `CartPole-v1`.

use super::{load_state, uniforms};
use crate::scene::{Paint, ball, line, rod, slab};
use crate::{Env, Rng, Scene, Space, Spec, State, StateError};

const GRAVITY: f64 = 9.8;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = POLE_MASS + 1.0;
const HALF_LENGTH: f64 = 0.5;
const POLE_MOMENT: f64 = POLE_MASS * HALF_LENGTH;
const MAX_FORCE: f64 = 10.0;
const DT: f64 = 0.02;
const MAX_POSITION: f64 = 2.4;
const MAX_ANGLE: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;

/// The task of this module.
pub struct CartPole {
    spec: Spec,
    state: [f64; 4],
}

/// Accelerations (ẍ, θ̈) of the cart and of the pole under `force`, in N.
pub(super) fn accelerations([_, _, theta, theta_dot]: [f64; 4], force: f64) -> (f64, f64) {
    let (sin, cos) = theta.sin_cos();
    let push = (force + POLE_MOMENT * (theta_dot * theta_dot) * sin) / TOTAL_MASS;
    let theta_acc =
        (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * (cos * cos) / TOTAL_MASS));
    (push - POLE_MOMENT * theta_acc * cos / TOTAL_MASS, theta_acc)
}

/// The cart on its track with the pole, θ clockwise from upright.
pub(super) fn picture([x, _, theta, _]: [f64; 4], dt: f64) -> Scene {
    let (sin, cos) = theta.sin_cos();
    let tip = [x + 2.0 * HALF_LENGTH * sin, 2.0 * HALF_LENGTH * cos];
    let shapes = vec![
        line([[-MAX_POSITION, 0.0], [MAX_POSITION, 0.0]], Paint::Still),
        slab([x, 0.0], [0.22, 0.1], 0.0, Paint::Body),
        rod([x, 0.0], tip, 0.04, Paint::Accent),
        ball([x, 0.0], 0.03, Paint::Still),
    ];
    Scene::side([0.0; 2], 5.4, 2.6, dt, shapes)
}

impl Default for CartPole {
    fn default() -> Self {
        // Twice the limits, so that the last observation of an episode is inside.
        let high = [2.0 * MAX_POSITION, f64::INFINITY, 2.0 * MAX_ANGLE, f64::INFINITY];
        let obs = Space::symmetric(&high.map(|h| h as f32));
        let spec = Spec {
            reward_threshold: Some(475.0),
            reward_range: (1.0, 1.0),
            ..Spec::single("CartPole-v1", obs, Space::Discrete(2), Some(500))
        };
        Self { spec, state: [0.0; 4] }
    }
}

impl Env for CartPole {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.state = uniforms(rng, 0.05);
        obs.copy_from_slice(&self.state.map(|x| x as f32));
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let force = if action[0] == 1.0 { MAX_FORCE } else { -MAX_FORCE };
        let (x_acc, theta_acc) = accelerations(self.state, force);
        let [x, x_dot, theta, theta_dot] = &mut self.state;
        *x += DT * *x_dot;
        *x_dot += DT * x_acc;
        *theta += DT * *theta_dot;
        *theta_dot += DT * theta_acc;
        reward[0] = 1.0;
        let terminated = x.abs() > MAX_POSITION || theta.abs() > MAX_ANGLE;
        obs.copy_from_slice(&self.state.map(|x| x as f32));
        terminated
    }

    fn save(&self, state: &mut State) {
        state.put_f64("state", &self.state);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        self.state = load_state(state)?;
        Ok(())
    }

    fn scene(&self) -> Option<Scene> {
        Some(picture(self.state, DT))
    }
}
