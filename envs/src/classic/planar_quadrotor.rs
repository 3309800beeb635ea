//! `PlanarQuadrotor`: fly a two-rotor craft in a vertical plane to a goal, and hover there.
//!
//! A rigid body (m = 1 kg, J = 0.05 kg·m²) with a rotor at each end of arms of l = 0.25 m. Each rotor
//! carries half the weight at action 0: Tᵢ = ½ m g (1 + ½ aᵢ), |aᵢ| ≤ 1, g = 9.81 m/s². θ is the tilt,
//! positive anticlockwise:
//!
//! ```text
//! ẍ = −(T₁ + T₂) sin θ / m,   z̈ = (T₁ + T₂) cos θ / m − g,   θ̈ = (T₂ − T₁) l / J
//! ```
//!
//! with T₁ on the left (−x) arm, integrated by one classical Runge-Kutta step of 0.04 s. No drag.
//!
//! - State: (x, z, θ, ẋ, ż, θ̇), the goal at the origin; θ is not wrapped.
//!   Observation: (x, z, cos θ, sin θ, ẋ, ż, θ̇).
//! - Reward: (1 + cos θ)/2 · 1/(1 + x² + z²) · (1 − 0.05 (a₁² + a₂²)) after the step: upright, close, with
//!   little effort; in [0, 1].
//! - Start: x, z uniform in ±1 m, tilt in ±0.3 rad, speeds in ±0.3 m/s or rad/s.
//! - Terminates on leaving the arena, |x| or |z| > 3 m, with reward 0: every reward is positive, so leaving
//!   forfeits the rest. 250 steps (10 s).
//!
//! Source: own design; the model is the usual planar one (for example Mellinger & Kumar, 2011, in one plane).

use super::{load_state, rk4, uniforms};
use crate::scene::{Paint, ball, rod};
use crate::{Env, Rng, Scene, Space, Spec, State, StateError};

const DT: f64 = 0.04;
const GRAVITY: f64 = 9.81;
const MASS: f64 = 1.0;
const INERTIA: f64 = 0.05;
const ARM: f64 = 0.25;
const ARENA: f64 = 3.0;

/// The task of this module.
pub struct PlanarQuadrotor {
    spec: Spec,
    state: [f64; 6],
}

/// Time derivative of the state under the two thrusts, in N.
fn derivative([_, _, theta, x_dot, z_dot, theta_dot]: [f64; 6], thrust: [f64; 2]) -> [f64; 6] {
    let (sin, cos) = theta.sin_cos();
    let lift = (thrust[0] + thrust[1]) / MASS;
    [x_dot, z_dot, theta_dot, -lift * sin, lift * cos - GRAVITY, (thrust[1] - thrust[0]) * ARM / INERTIA]
}

impl Default for PlanarQuadrotor {
    fn default() -> Self {
        // The last step of an episode may overshoot the arena, by less than its radius.
        let (edge, inf) = (2.0 * ARENA as f32, f32::INFINITY);
        let obs = Space::symmetric(&[edge, edge, 1.0, 1.0, inf, inf, inf]);
        let spec = Spec {
            reward_range: (0.0, 1.0),
            ..Spec::single("PlanarQuadrotor", obs, Space::symmetric(&[1.0, 1.0]), Some(250))
        };
        Self { spec, state: [0.0; 6] }
    }
}

impl PlanarQuadrotor {
    fn observe(&self, obs: &mut [f32]) {
        let [x, z, theta, x_dot, z_dot, theta_dot] = self.state;
        let (sin, cos) = theta.sin_cos();
        obs.copy_from_slice(&[x, z, cos, sin, x_dot, z_dot, theta_dot].map(|x| x as f32));
    }
}

impl Env for PlanarQuadrotor {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        let [x, z] = uniforms(rng, 1.0);
        let [theta, x_dot, z_dot, theta_dot] = uniforms(rng, 0.3);
        self.state = [x, z, theta, x_dot, z_dot, theta_dot];
        self.observe(obs);
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let thrust = [action[0], action[1]].map(|a| 0.5 * MASS * GRAVITY * (1.0 + 0.5 * a));
        self.state = rk4(|y| derivative(y, thrust), self.state, DT);
        self.observe(obs);
        let [x, z, theta, ..] = self.state;
        let terminated = x.abs() > ARENA || z.abs() > ARENA;
        let effort = action[0] * action[0] + action[1] * action[1];
        let pay = (1.0 + theta.cos()) / 2.0 / (1.0 + x * x + z * z) * (1.0 - 0.05 * effort);
        reward[0] = if terminated { 0.0 } else { pay };
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
        let [x, z, theta, ..] = self.state;
        let (sin, cos) = theta.sin_cos();
        let at = |along: f64, up: f64| [x + cos * along - sin * up, z + sin * along + cos * up];
        let rotor = |along: f64| rod(at(along - 0.12, 0.06), at(along + 0.12, 0.06), 0.015, Paint::Accent);
        let shapes = vec![
            ball([0.0; 2], 0.08, Paint::Goal),
            rod(at(-ARM, 0.0), at(ARM, 0.0), 0.03, Paint::Body),
            rotor(-ARM),
            rotor(ARM),
        ];
        Some(Scene::side([0.0; 2], 4.0, 4.0, DT, shapes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    /// The state, reward and ending after `steps` steps of `action` from `state`.
    fn fly(state: [f64; 6], action: [f64; 2], steps: usize) -> ([f64; 6], f64, bool) {
        let mut env = PlanarQuadrotor { state, ..Default::default() };
        let (mut obs, mut reward, mut terminated) = ([0.0; 7], [0.0], false);
        for _ in 0..steps {
            terminated = env.step(&action, &mut stream(0, Purpose::Check, 0), &mut obs, &mut reward);
        }
        (env.state, reward[0], terminated)
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn hovering_at_the_goal_is_an_equilibrium_and_pays_one() {
        let (state, reward, terminated) = fly([0.0; 6], [0.0; 2], 250);
        assert_eq!((state, reward, terminated), ([0.0; 6], 1.0, false));
    }

    #[test]
    fn level_flight_and_turning_have_their_closed_forms() {
        let t = 10.0 * DT;
        // Thrust ½ (1 + ½·0.4) of the weight on each side: 0.2 g upward.
        let (state, _, _) = fly([0.5, -1.0, 0.0, 0.1, 0.0, 0.0], [0.4, 0.4], 10);
        close(state[1], -1.0 + 0.1 * GRAVITY * t * t);
        close(state[4], 0.2 * GRAVITY * t);
        close(state[0], 0.5 + 0.1 * t);
        // A difference of ¼·0.2 weights at each arm: the right rotor lifts, the craft turns anticlockwise.
        let (state, _, _) = fly([0.0; 6], [-0.1, 0.1], 10);
        let acceleration = 0.05 * MASS * GRAVITY * ARM / INERTIA;
        close(state[2], 0.5 * acceleration * t * t);
        close(state[5], acceleration * t);
        assert!(state[0] < 0.0, "leaning left drives it left");
    }

    #[test]
    fn the_mirror_image_flies_the_mirror_image() {
        let (a, reward_a, _) = fly([0.3, 0.2, 0.4, -0.5, 0.1, 0.6], [0.7, -0.2], 20);
        let (b, reward_b, _) = fly([-0.3, 0.2, -0.4, 0.5, 0.1, -0.6], [-0.2, 0.7], 20);
        for (i, sign) in [-1.0, 1.0, -1.0, -1.0, 1.0, -1.0].into_iter().enumerate() {
            close(a[i], sign * b[i]);
        }
        close(reward_a, reward_b);
    }

    #[test]
    fn a_fixed_tilt_accelerates_along_the_thrust() {
        // Without a moment the tilt stays and the acceleration is constant, so the path is a parabola.
        let (tilt, t) = (0.3f64, 10.0 * DT);
        let (state, _, _) = fly([0.0, 0.0, tilt, 0.0, 0.0, 0.0], [0.0, 0.0], 10);
        close(state[0], -0.5 * GRAVITY * tilt.sin() * t * t);
        close(state[1], 0.5 * GRAVITY * (tilt.cos() - 1.0) * t * t);
    }

    #[test]
    fn leaving_the_arena_ends_the_episode_with_nothing() {
        let (_, reward, terminated) = fly([2.99, 0.0, 0.0, 1.0, 0.0, 0.0], [0.0; 2], 1);
        assert_eq!((reward, terminated), (0.0, true));
    }
}
