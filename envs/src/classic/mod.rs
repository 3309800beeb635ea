//! Classic control: small closed-form tasks, one file each.
//!
//! The five Gymnasium tasks equal Gymnasium 1.4.0 step by step (`tests/parity.rs`): to 1e-12 where it
//! computes in float64, bit for bit where it keeps float32 state. The others are our own: their action
//! box is [−1, 1] in each dimension, and their reward per step lies in [0, 1] (the linear-quadratic one
//! excepted). Every task saves its whole physical state as one array called `state`, in the order that
//! its file documents.

pub mod acrobot;
pub mod acrobot_swingup;
pub mod cartpole;
pub mod cartpole_swingup;
pub mod double_integrator;
pub mod mountain_car;
pub mod mountain_car_continuous;
pub mod pendulum;
pub mod planar_quadrotor;

pub use acrobot::Acrobot;
pub use acrobot_swingup::AcrobotSwingUp;
pub use cartpole::CartPole;
pub use cartpole_swingup::CartPoleSwingUp;
pub use double_integrator::DoubleIntegrator;
pub use mountain_car::MountainCar;
pub use mountain_car_continuous::MountainCarContinuous;
pub use pendulum::Pendulum;
pub use planar_quadrotor::PlanarQuadrotor;

use rand::RngExt as _;
use std::f64::consts::{PI, TAU};

use crate::{Rng, State, StateError};

/// A uniform draw from `low..high`.
fn uniform(rng: &mut Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// `N` independent uniform draws from `-high..high`.
fn uniforms<const N: usize>(rng: &mut Rng, high: f64) -> [f64; N] {
    std::array::from_fn(|_| uniform(rng, -high, high))
}

/// One classical Runge-Kutta step of length `dt` of y' = f(y).
fn rk4<const N: usize>(f: impl Fn([f64; N]) -> [f64; N], y: [f64; N], dt: f64) -> [f64; N] {
    let along = |k: &[f64; N], h: f64| std::array::from_fn(|i| y[i] + h * k[i]);
    let k1 = f(y);
    let k2 = f(along(&k1, dt / 2.0));
    let k3 = f(along(&k2, dt / 2.0));
    let k4 = f(along(&k3, dt));
    std::array::from_fn(|i| y[i] + dt / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]))
}

/// `x` modulo 2π, in [0, 2π] and rounded as Python's `%`.
///
/// `fmod` is exact, so within one turn of the range a single addition or subtraction has the same
/// result (the subtraction is exact by Sterbenz's lemma) without the call.
fn modulo_tau(x: f64) -> f64 {
    if (0.0..TAU).contains(&x) {
        x
    } else if (TAU..2.0 * TAU).contains(&x) {
        x - TAU
    } else if (-TAU..0.0).contains(&x) {
        x + TAU
    } else {
        x.rem_euclid(TAU)
    }
}

/// The angle in [−π, π] that differs from `angle` by whole turns.
fn wrap(angle: f64) -> f64 {
    modulo_tau(angle + PI) - PI
}

/// The `N` finite values saved as `state`.
fn load_state<const N: usize>(state: &State) -> Result<[f64; N], StateError> {
    let values = state.f64_array::<N>("state")?;
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(i) => {
            Err(StateError::Invalid { name: "state".to_owned(), why: format!("value {i} is {}", values[i]) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modulo_rounds_as_rem_euclid() {
        let near = |x: f64| [x.next_down(), x, x.next_up(), x - 0.7, x + 1.1];
        for turns in -4..=4 {
            for x in near(f64::from(turns) * TAU) {
                assert_eq!(modulo_tau(x), x.rem_euclid(TAU), "at {x:e}");
            }
        }
        assert_eq!(modulo_tau(-1e-300), TAU, "a tiny negative number rounds up to the modulus, as in Python");
    }

    #[test]
    fn rk4_is_of_fourth_order() {
        // y'' = -y from (1, 0) is (cos t, -sin t); halving the step divides the error by 2^4.
        let error = |n: u32| {
            let dt = 1.0 / f64::from(n);
            let y = (0..n).fold([1.0, 0.0], |y, _| rk4(|[p, v]| [v, -p], y, dt));
            (y[0] - 1f64.cos()).hypot(y[1] + 1f64.sin())
        };
        let ratio = error(20) / error(40);
        assert!((15.0..17.0).contains(&ratio), "ratio {ratio}");
    }

    #[test]
    fn a_state_with_a_hole_is_refused() {
        let mut state = State::new();
        state.put_f64("state", &[0.0, f64::NAN]);
        assert!(matches!(load_state::<2>(&state), Err(StateError::Invalid { .. })));
        assert!(matches!(load_state::<3>(&state), Err(StateError::Length { .. })));
    }
}
