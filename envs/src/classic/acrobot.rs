//! `Acrobot-v1`: swing the tip of a two-link arm above a line, with a small torque at the elbow.
//!
//! Two links (length 1 m, mass 1 kg, centre of mass at ½ m, moment of inertia 1 kg·m² about it) hang from a
//! pivot; only the joint between them is driven, by τ ∈ {−1, 0, 1} N·m. θ₁ is measured from hanging, θ₂
//! from the line of the first link. With g = 9.8 m/s², m₂l₁l_c2 = ½ and h = ½ sin θ₂,
//!
//! ```text
//! d₁ = m₁l_c1² + m₂(l₁² + l_c2² + 2 l₁l_c2 cos θ₂) + I₁ + I₂,   d₂ = m₂(l_c2² + l₁l_c2 cos θ₂) + I₂
//! φ₂ = m₂l_c2 g sin(θ₁ + θ₂),   φ₁ = −h θ̇₂² − 2h θ̇₂θ̇₁ + (m₁l_c1 + m₂l₁) g sin θ₁ + φ₂
//! θ̈₂ = (τ + d₂/d₁ φ₁ − h θ̇₁² − φ₂) / (m₂l_c2² + I₂ − d₂²/d₁),   θ̈₁ = −(d₂θ̈₂ + φ₁)/d₁
//! ```
//!
//! integrated by one classical Runge-Kutta step of 0.2 s; then the angles are wrapped to ±π and the speeds
//! clipped to ±4π and ±9π rad/s.
//!
//! - State: (θ₁, θ₂, θ̇₁, θ̇₂). Observation: (cos θ₁, sin θ₁, cos θ₂, sin θ₂, θ̇₁, θ̇₂).
//! - Reward: −1 a step, 0 on reaching the goal.
//! - Start: each uniform in ±0.1, rounded to float32.
//! - Terminates when the tip is above the line: −cos θ₁ − cos(θ₁ + θ₂) > 1; 500 steps; solved at −100.
//!
//! Source: Sutton, "Generalization in reinforcement learning: successful examples using sparse coarse
//! coding", 1996, with the equations of Sutton & Barto's book; Gymnasium 1.4.0, `Acrobot-v1`.

use std::f64::consts::{FRAC_PI_2, PI, TAU};

use super::{load_state, rk4, uniforms};
use crate::scene::{Paint, Shape, ball, line, rod};
use crate::{Env, Rng, Scene, Space, Spec, State, StateError};

const GRAVITY: f64 = 9.8;
const DT: f64 = 0.2;
const MAX_SPEED_1: f64 = 4.0 * PI;
const MAX_SPEED_2: f64 = 9.0 * PI;
// Both links are alike.
const LENGTH: f64 = 1.0;
const MASS: f64 = 1.0;
const CENTRE: f64 = 0.5;
const INERTIA: f64 = 1.0;

/// The task of this module.
pub struct Acrobot {
    spec: Spec,
    state: [f64; 4],
}

/// Time derivative of the state (θ₁, θ₂, θ̇₁, θ̇₂) under the elbow torque `torque`, in N·m.
pub(super) fn derivative([theta1, theta2, speed1, speed2]: [f64; 4], torque: f64) -> [f64; 4] {
    let (sin2, cos2) = theta2.sin_cos();
    let d1 = MASS * (CENTRE * CENTRE)
        + MASS * (LENGTH * LENGTH + CENTRE * CENTRE + 2.0 * LENGTH * CENTRE * cos2)
        + INERTIA
        + INERTIA;
    let d2 = MASS * (CENTRE * CENTRE + LENGTH * CENTRE * cos2) + INERTIA;
    // cos(a − π/2) is sin a but for rounding; this form rounds as the original.
    let phi2 = MASS * CENTRE * GRAVITY * (theta1 + theta2 - FRAC_PI_2).cos();
    let phi1 = -MASS * LENGTH * CENTRE * (speed2 * speed2) * sin2
        - 2.0 * MASS * LENGTH * CENTRE * speed2 * speed1 * sin2
        + (MASS * CENTRE + MASS * LENGTH) * GRAVITY * (theta1 - FRAC_PI_2).cos()
        + phi2;
    let acc2 = (torque + d2 / d1 * phi1 - MASS * LENGTH * CENTRE * (speed1 * speed1) * sin2 - phi2)
        / (MASS * (CENTRE * CENTRE) + INERTIA - d2 * d2 / d1);
    [speed1, speed2, -(d2 * acc2 + phi1) / d1, acc2]
}

/// The two links below (or above) their pivot, and `goal`.
pub(super) fn picture([theta1, theta2, ..]: [f64; 4], dt: f64, goal: Shape) -> Scene {
    let elbow = [LENGTH * theta1.sin(), -LENGTH * theta1.cos()];
    let angle = theta1 + theta2;
    let tip = [elbow[0] + LENGTH * angle.sin(), elbow[1] - LENGTH * angle.cos()];
    let shapes = vec![
        goal,
        rod([0.0; 2], elbow, 0.08, Paint::Body),
        rod(elbow, tip, 0.08, Paint::Accent),
        ball([0.0; 2], 0.05, Paint::Still),
    ];
    Scene::side([0.0; 2], 4.4, 4.4, dt, shapes)
}

/// Height of the tip above the pivot, in m.
pub(super) fn tip_height([theta1, theta2, ..]: [f64; 4]) -> f64 {
    -theta1.cos() - (theta2 + theta1).cos()
}

/// Advances by `dt`, then wraps angles and clips speeds.
pub(super) fn advance(state: [f64; 4], torque: f64, dt: f64) -> [f64; 4] {
    let [theta1, theta2, speed1, speed2] = rk4(|y| derivative(y, torque), state, dt);
    [
        turn_back(theta1),
        turn_back(theta2),
        speed1.clamp(-MAX_SPEED_1, MAX_SPEED_1),
        speed2.clamp(-MAX_SPEED_2, MAX_SPEED_2),
    ]
}

/// Turns an angle back to [−π, π] turn by turn, for Gymnasium's rounding; a step moves it by a few
/// turns at most, so a larger angle (a loaded one) may take the short way.
fn turn_back(angle: f64) -> f64 {
    let mut angle = if angle.abs() < 1e3 { angle } else { super::wrap(angle) };
    while angle > PI {
        angle -= TAU;
    }
    while angle < -PI {
        angle += TAU;
    }
    angle
}

/// Observation space of the arm.
pub(super) fn obs_space() -> Space {
    Space::symmetric(&[1.0, 1.0, 1.0, 1.0, MAX_SPEED_1 as f32, MAX_SPEED_2 as f32])
}

/// Observation of the arm in `state`.
pub(super) fn observe([theta1, theta2, speed1, speed2]: [f64; 4], obs: &mut [f32]) {
    let ((sin1, cos1), (sin2, cos2)) = (theta1.sin_cos(), theta2.sin_cos());
    obs.copy_from_slice(&[cos1, sin1, cos2, sin2, speed1, speed2].map(|x| x as f32));
}

impl Default for Acrobot {
    fn default() -> Self {
        let spec = Spec {
            reward_threshold: Some(-100.0),
            reward_range: (-1.0, 0.0),
            ..Spec::single("Acrobot-v1", obs_space(), Space::Discrete(3), Some(500))
        };
        Self { spec, state: [0.0; 4] }
    }
}

impl Env for Acrobot {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.state = uniforms(rng, 0.1).map(|x| f64::from(x as f32));
        observe(self.state, obs);
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        self.state = advance(self.state, action[0] - 1.0, DT);
        let terminated = tip_height(self.state) > 1.0;
        reward[0] = if terminated { 0.0 } else { -1.0 };
        observe(self.state, obs);
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
        let goal = line([[-2.2, 1.0], [2.2, 1.0]], Paint::Goal);
        Some(picture(self.state, DT, goal))
    }
}
