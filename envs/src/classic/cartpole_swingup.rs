//! `CartPoleSwingUp`: swing a hanging pole up by moving its cart, and balance it in the middle of the track.
//!
//! The cart and pole of [`super::cartpole`] (same masses, lengths and equations of motion, no friction),
//! with a continuous force 10 a N, |a| ≤ 1, integrated by one classical Runge-Kutta step of 0.04 s.
//!
//! - State: (x, ẋ, θ, θ̇), θ from upright, not wrapped. Observation: (x, ẋ, cos θ, sin θ, θ̇).
//! - Reward: ((1 + cos θ)/2)² · (1 − ½ (x/2.4)²) · (1 − 0.1 a²) after the step: height of the pole, times two
//!   mild factors for the middle of the track and for a small force; in [0, 1]. The square makes whirling,
//!   which is the easiest way to be upright at times, worth 3/8 of balancing instead of ½.
//! - Start: hanging, θ = π, each number uniform within ±0.05 of rest.
//! - Terminates when the cart leaves the track, |x| > 2.4 m, with reward 0: every reward is positive, so
//!   leaving forfeits the rest. 250 steps (10 s).
//!
//! Source: own design, in the manner of the cart-pole swing-up of the DeepMind Control Suite (Tassa and
//! others, 2018, arXiv 1801.00690), which has a heavier reward product and walls.

use std::f64::consts::PI;

use super::{cartpole::accelerations, load_state, rk4, uniforms};
use crate::{Env, Rng, Scene, Space, Spec, State, StateError};

const DT: f64 = 0.04;
const MAX_FORCE: f64 = 10.0;
const MAX_POSITION: f64 = 2.4;

/// The task of this module.
pub struct CartPoleSwingUp {
    spec: Spec,
    state: [f64; 4],
}

impl Default for CartPoleSwingUp {
    fn default() -> Self {
        // One step overshoots the end of the track by less than the track's length.
        let (x, inf) = (2.0 * MAX_POSITION as f32, f32::INFINITY);
        let obs = Space::symmetric(&[x, inf, 1.0, 1.0, inf]);
        let spec = Spec {
            reward_range: (0.0, 1.0),
            ..Spec::single("CartPoleSwingUp", obs, Space::symmetric(&[1.0]), Some(250))
        };
        Self { spec, state: [0.0, 0.0, PI, 0.0] }
    }
}

/// Advances by `dt` under `force`, in N.
fn advance(state: [f64; 4], force: f64, dt: f64) -> [f64; 4] {
    let derivative = |y: [f64; 4]| {
        let (x_acc, theta_acc) = accelerations(y, force);
        [y[1], x_acc, y[3], theta_acc]
    };
    rk4(derivative, state, dt)
}

impl CartPoleSwingUp {
    fn observe(&self, obs: &mut [f32]) {
        let [x, x_dot, theta, theta_dot] = self.state;
        let (sin, cos) = theta.sin_cos();
        obs.copy_from_slice(&[x, x_dot, cos, sin, theta_dot].map(|x| x as f32));
    }
}

impl Env for CartPoleSwingUp {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.state = uniforms(rng, 0.05);
        self.state[2] += PI;
        self.observe(obs);
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let action = action[0];
        self.state = advance(self.state, MAX_FORCE * action, DT);
        self.observe(obs);
        let x = self.state[0] / MAX_POSITION;
        let terminated = x.abs() > 1.0;
        let upright = (1.0 + self.state[2].cos()) / 2.0;
        let pay = upright * upright * (1.0 - 0.5 * x * x) * (1.0 - 0.1 * action * action);
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
        Some(super::cartpole::picture(self.state, DT))
    }
}

#[cfg(test)]
mod tests {
    use super::super::uniform;
    use super::*;
    use crate::rng::{Purpose, stream};

    // The same bodies, written down again: cart 1 kg, uniform rod of 0.1 kg and 1 m, g = 9.8 m/s².
    const CART: f64 = 1.0;
    const ROD: f64 = 0.1;
    const HALF: f64 = 0.5;

    /// Kinetic and potential energy, in J.
    fn energy([_, x_dot, theta, theta_dot]: [f64; 4]) -> f64 {
        let (vx, vz) = (x_dot + HALF * theta_dot * theta.cos(), -HALF * theta_dot * theta.sin());
        let spin = ROD * (2.0 * HALF) * (2.0 * HALF) / 12.0 * theta_dot * theta_dot;
        0.5 * (CART * x_dot * x_dot + ROD * (vx * vx + vz * vz) + spin) + ROD * 9.8 * HALF * theta.cos()
    }

    /// Horizontal momentum, in kg·m/s.
    fn momentum([_, x_dot, theta, theta_dot]: [f64; 4]) -> f64 {
        CART * x_dot + ROD * (x_dot + HALF * theta_dot * theta.cos())
    }

    #[test]
    fn without_force_energy_and_momentum_are_conserved() {
        let start = [0.1, 0.4, 2.5, -3.0];
        let end = (0..5000).fold(start, |y, _| advance(y, 0.0, 1e-3));
        assert!((energy(end) - energy(start)).abs() < 1e-10);
        assert!((momentum(end) - momentum(start)).abs() < 1e-10);
        // At the step of the task, over an episode: a percent of the energy between hanging and upright.
        let end = (0..250).fold(start, |y, _| advance(y, 0.0, DT));
        assert!((energy(end) - energy(start)).abs() < 0.01);
    }

    #[test]
    fn the_force_gives_its_power_and_its_impulse() {
        let mut rng = stream(0, Purpose::Check, 0);
        for _ in 0..100 {
            let y = uniforms::<4>(&mut rng, 4.0);
            let force = uniform(&mut rng, -10.0, 10.0);
            let h = 1e-4;
            let (before, after) = (advance(y, force, -h), advance(y, force, h));
            let power = (energy(after) - energy(before)) / (2.0 * h);
            assert!((power - force * y[1]).abs() < 1e-4, "{power} at {y:?}");
            let rate = (momentum(after) - momentum(before)) / (2.0 * h);
            assert!((rate - force).abs() < 1e-4, "{rate} at {y:?}");
        }
    }

    #[test]
    fn balancing_in_the_middle_pays_one_and_the_rail_ends_it() {
        let mut env = CartPoleSwingUp::default();
        let (mut rng, mut obs, mut reward) = (stream(0, Purpose::Check, 0), [0.0; 5], [0.0]);
        env.state = [0.0; 4];
        assert!(!env.step(&[0.0], &mut rng, &mut obs, &mut reward));
        assert_eq!((reward[0], obs), (1.0, [0.0, 0.0, 1.0, 0.0, 0.0]));
        env.state = [2.39, 1.0, 0.0, 0.0];
        assert!(env.step(&[1.0], &mut rng, &mut obs, &mut reward));
        assert_eq!(reward[0], 0.0);
    }
}
