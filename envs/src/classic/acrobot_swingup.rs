//! `AcrobotSwingUp`: stand a two-link arm on its end with a torque at the elbow, and keep it there.
//!
//! The arm of [`super::acrobot`] (same links, equations of motion and limits of speed, no friction), with a
//! continuous torque 20 a N·m, |a| ≤ 1, integrated by one classical Runge-Kutta step of 0.05 s. The elbow
//! is strong, but the shoulder stays free: the arm must be swung up, and balanced over a pivot that cannot
//! push.
//!
//! - State: (θ₁, θ₂, θ̇₁, θ̇₂), angles wrapped to ±π. Observation: as `Acrobot-v1`.
//! - Reward: ((2 + y)/4)² · 1/(1 + 0.02 (θ̇₁² + θ̇₂²)) · (1 − 0.1 a²) after the step, in [0, 1]: y = −cos
//!   θ₁ − cos(θ₁ + θ₂) is the height of the tip above the pivot, and the mild factors for stillness and a
//!   small torque make standing worth more than whirling.
//! - Start: hanging, each number uniform within ±0.1 of rest.
//! - Never terminates; 300 steps (15 s).
//!
//! Source: own design; the mechanism is Sutton's (1996), the task that of Spong, "The swing up control
//! problem for the acrobot", 1995.

use super::acrobot::{advance, obs_space, observe, tip_height};
use super::{load_state, uniforms};
use crate::scene::{Paint, ball};
use crate::{Env, Rng, Scene, Space, Spec, State, StateError};

const DT: f64 = 0.05;
const MAX_TORQUE: f64 = 20.0;

/// The task of this module.
pub struct AcrobotSwingUp {
    spec: Spec,
    state: [f64; 4],
}

impl Default for AcrobotSwingUp {
    fn default() -> Self {
        let spec = Spec {
            reward_range: (0.0, 1.0),
            ..Spec::single("AcrobotSwingUp", obs_space(), Space::symmetric(&[1.0]), Some(300))
        };
        Self { spec, state: [0.0; 4] }
    }
}

impl Env for AcrobotSwingUp {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.state = uniforms(rng, 0.1);
        observe(self.state, obs);
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let action = action[0];
        self.state = advance(self.state, MAX_TORQUE * action, DT);
        observe(self.state, obs);
        let [_, _, speed1, speed2] = self.state;
        let height = (2.0 + tip_height(self.state)) / 4.0;
        let stillness = 1.0 / (1.0 + 0.02 * (speed1 * speed1 + speed2 * speed2));
        reward[0] = height * height * stillness * (1.0 - 0.1 * action * action);
        false
    }

    fn save(&self, state: &mut State) {
        state.put_f64("state", &self.state);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        self.state = load_state(state)?;
        Ok(())
    }

    fn scene(&self) -> Option<Scene> {
        Some(super::acrobot::picture(self.state, DT, ball([0.0, 2.0], 0.12, Paint::Goal)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{acrobot::derivative, rk4, uniform};
    use super::*;
    use crate::rng::{Purpose, stream};

    /// Kinetic and potential energy, in J: two bodies of 1 kg and 1 kg·m², centres at ½ m of 1 m links, g =
    /// 9.8 m/s².
    fn energy([theta1, theta2, speed1, speed2]: [f64; 4]) -> f64 {
        let (angle, turn) = (theta1 + theta2, speed1 + speed2);
        let first = [0.5 * speed1 * theta1.cos(), 0.5 * speed1 * theta1.sin()];
        let second = [2.0 * first[0] + 0.5 * turn * angle.cos(), 2.0 * first[1] + 0.5 * turn * angle.sin()];
        let square = |v: [f64; 2]| v[0] * v[0] + v[1] * v[1];
        let height = -0.5 * theta1.cos() - theta1.cos() - 0.5 * angle.cos();
        0.5 * (square(first) + square(second) + speed1 * speed1 + turn * turn) + 9.8 * height
    }

    /// Angular momentum about the pivot, in kg·m²/s: each body's spin plus r × v of its centre.
    fn momentum([theta1, theta2, speed1, speed2]: [f64; 4]) -> f64 {
        let (angle, turn) = (theta1 + theta2, speed1 + speed2);
        let place = [theta1.sin() + 0.5 * angle.sin(), -theta1.cos() - 0.5 * angle.cos()];
        let speed = [
            speed1 * theta1.cos() + 0.5 * turn * angle.cos(),
            speed1 * theta1.sin() + 0.5 * turn * angle.sin(),
        ];
        speed1 + turn + 0.25 * speed1 + place[0] * speed[1] - place[1] * speed[0]
    }

    #[test]
    fn without_torque_energy_is_conserved() {
        let start = [2.0, -1.0, 0.5, 1.0];
        let run = |n: usize, dt: f64| (0..n).fold(start, |y, _| advance(y, 0.0, dt));
        assert!((energy(run(10_000, 1e-3)) - energy(start)).abs() < 1e-9);
        // At the step of the task, over an episode: a thousandth of the 39.2 J between hanging and standing.
        assert!((energy(run(300, DT)) - energy(start)).abs() < 0.04);
    }

    #[test]
    fn the_torque_gives_its_power_and_no_moment_about_the_pivot() {
        let mut rng = stream(0, Purpose::Check, 0);
        for _ in 0..100 {
            let y = uniforms::<4>(&mut rng, 3.0);
            let torque = uniform(&mut rng, -20.0, 20.0);
            let h = 1e-4;
            let [before, after] = [-h, h].map(|h| rk4(|y| derivative(y, torque), y, h));
            let power = (energy(after) - energy(before)) / (2.0 * h);
            assert!((power - torque * y[3]).abs() < 1e-4, "{power} at {y:?}");
            // The elbow is inside the arm: only gravity has a moment about the pivot.
            let moment = -9.8 * (1.5 * y[0].sin() + 0.5 * (y[0] + y[1]).sin());
            let rate = (momentum(after) - momentum(before)) / (2.0 * h);
            assert!((rate - moment).abs() < 1e-4, "{rate}, not {moment}, at {y:?}");
        }
    }

    #[test]
    fn standing_pays_one_and_hanging_nothing() {
        let mut env = AcrobotSwingUp::default();
        let (mut rng, mut obs, mut reward) = (stream(0, Purpose::Check, 0), [0.0; 6], [0.0]);
        for (theta1, pay) in [(std::f64::consts::PI, 1.0), (0.0, 0.0)] {
            env.state = [theta1, 0.0, 0.0, 0.0];
            assert!(!env.step(&[0.0], &mut rng, &mut obs, &mut reward));
            assert!((reward[0] - pay).abs() < 1e-12);
        }
    }
}
