//! `DoubleIntegrator`: bring a frictionless unit mass to rest at the origin; the optimum is known exactly.
//!
//! Position p and speed v under a force u = 3 a, |a| ≤ 1, held for dt = 0.1 s (an exact integration, not an
//! approximation):
//!
//! ```text
//! s⁺ = A s + B u,   A = [[1, dt], [0, 1]],   B = [dt²/2, dt]
//! ```
//!
//! - State and observation: s = (p, v), unbounded.
//! - Reward: −(p² + v² + u²), with the state *before* the step.
//! - Start: p and v uniform in ±1.
//! - Never terminates; 100 steps (10 s).
//!
//! This is linear-quadratic regulation with Q = I and R = 1: the optimal force is u = −K s and the optimal
//! value −sᵀP s, from the Riccati equation ([`lqr`]). Over the finite episode the optimum is a sequence of
//! such gains ([`optimal_return`]). From no start does either optimal force exceed the 3 N of the box, so
//! these values of the unbounded problem are also those of the task.
//!
//! Source: any text on optimal control, for example Bertsekas, *Dynamic Programming and Optimal Control*,
//! vol. 1.

use super::{load_state, uniforms};
use crate::scene::{Paint, ball, line, slab};
use crate::{Env, Rng, Scene, Space, Spec, State, StateError};

/// Duration of one step, in s.
pub const DT: f64 = 0.1;
/// Force of action 1, in N.
pub const MAX_FORCE: f64 = 3.0;
/// Steps in an episode.
pub const STEPS: usize = 100;

/// The task of this module.
pub struct DoubleIntegrator {
    spec: Spec,
    state: [f64; 2],
}

impl Default for DoubleIntegrator {
    fn default() -> Self {
        let obs = Space::symmetric(&[f32::INFINITY; 2]);
        let spec = Spec {
            reward_range: (f64::NEG_INFINITY, 0.0),
            ..Spec::single("DoubleIntegrator", obs, Space::symmetric(&[1.0]), Some(STEPS))
        };
        Self { spec, state: [0.0; 2] }
    }
}

impl Env for DoubleIntegrator {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.state = uniforms(rng, 1.0);
        obs.copy_from_slice(&self.state.map(|x| x as f32));
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let force = MAX_FORCE * action[0];
        reward[0] = -cost(self.state, force);
        self.state = advance(self.state, force);
        obs.copy_from_slice(&self.state.map(|x| x as f32));
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
        let shapes = vec![
            line([[-3.0, -0.15], [3.0, -0.15]], Paint::Still),
            ball([0.0, 0.0], 0.06, Paint::Goal),
            slab([self.state[0], 0.0], [0.15, 0.15], 0.0, Paint::Body),
        ];
        Some(Scene::side([0.0; 2], 4.0, 1.0, DT, shapes))
    }
}

fn advance([p, v]: [f64; 2], force: f64) -> [f64; 2] {
    [p + DT * v + DT * DT / 2.0 * force, v + DT * force]
}

fn cost([p, v]: [f64; 2], force: f64) -> f64 {
    p * p + v * v + force * force
}

/// A quadratic cost-to-go and the gain that is greedy for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lqr {
    /// P: the cost-to-go of state s is sᵀP s, so its value is the negative of that.
    pub value: [[f64; 2]; 2],
    /// K: the force is u = −K s, in N; the action is u / [`MAX_FORCE`].
    pub gain: [f64; 2],
}

impl Lqr {
    /// Cost-to-go sᵀP s.
    pub fn cost_to_go(&self, s: [f64; 2]) -> f64 {
        let p = self.value;
        p[0][0] * s[0] * s[0] + (p[0][1] + p[1][0]) * s[0] * s[1] + p[1][1] * s[1] * s[1]
    }

    /// Force −K s, in N.
    pub fn force(&self, s: [f64; 2]) -> f64 {
        -(self.gain[0] * s[0] + self.gain[1] * s[1])
    }

    /// One step of the Riccati recursion: the optimum with one step more to go.
    fn back(&self, gamma: f64) -> Self {
        let p = self.value;
        // P A and P B, then K = γ BᵀPA / (R + γ BᵀPB) and P' = Q + γ AᵀPA − γ AᵀPB K.
        let pa = [[p[0][0], DT * p[0][0] + p[0][1]], [p[1][0], DT * p[1][0] + p[1][1]]];
        let b = [DT * DT / 2.0, DT];
        let pb = [p[0][0] * b[0] + p[0][1] * b[1], p[1][0] * b[0] + p[1][1] * b[1]];
        let bpb = b[0] * pb[0] + b[1] * pb[1];
        let bpa = [b[0] * pa[0][0] + b[1] * pa[1][0], b[0] * pa[0][1] + b[1] * pa[1][1]];
        let gain = bpa.map(|x| gamma * x / (1.0 + gamma * bpb));
        // Row i of AᵀX is X[0] for i = 0 and dt X[0] + X[1] for i = 1.
        let apa = [pa[0], [DT * pa[0][0] + pa[1][0], DT * pa[0][1] + pa[1][1]]];
        let identity = [[1.0, 0.0], [0.0, 1.0]];
        let entry = |i: usize, j: usize| identity[i][j] + gamma * (apa[i][j] - bpa[i] * gain[j]);
        Self { value: [[entry(0, 0), entry(0, 1)], [entry(1, 0), entry(1, 1)]], gain }
    }

    /// Nothing to go, nothing to pay.
    const END: Self = Self { value: [[0.0; 2]; 2], gain: [0.0; 2] };
}

/// The optimum over an endless horizon with discount `gamma` in (0, 1]: the fixed point of the Riccati
/// recursion.
///
/// The recursion contracts for this system even at `gamma` = 1; 1000 rounds reach the last bit.
pub fn lqr(gamma: f64) -> Lqr {
    (0..1000).fold(Lqr::END, |next, _| next.back(gamma))
}

/// The optimum of every step of an episode of `steps` steps, first step first, undiscounted.
pub fn finite_lqr(steps: usize) -> Vec<Lqr> {
    let back = |next: &mut Lqr, _| {
        *next = next.back(1.0);
        Some(*next)
    };
    let mut plan: Vec<Lqr> = (0..steps).scan(Lqr::END, back).collect();
    plan.reverse();
    plan
}

/// The exact optimal undiscounted return of `steps` steps from state `start`, for an unbounded force.
pub fn optimal_return(start: [f64; 2], steps: usize) -> f64 {
    -finite_lqr(steps).first().map_or(0.0, |first| first.cost_to_go(start))
}

/// The mean of [`optimal_return`] over the starts of the task.
///
/// p and v are independent with variance ⅓, so the mean of sᵀP s is tr(P)/3.
pub fn mean_optimal_return(steps: usize) -> f64 {
    -finite_lqr(steps).first().map_or(0.0, |first| (first.value[0][0] + first.value[1][1]) / 3.0)
}

/// The undiscounted return of `steps` steps from state `start` under the force u = −K s, K = `gain`.
pub fn gain_return(gain: [f64; 2], start: [f64; 2], steps: usize) -> f64 {
    let policy = Lqr { gain, ..Lqr::END };
    let mut s = start;
    let mut total = 0.0;
    for _ in 0..steps {
        let force = policy.force(s);
        total -= cost(s, force);
        s = advance(s, force);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    const CORNERS: [[f64; 2]; 4] = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]];

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn the_riccati_equation_has_its_published_solution() {
        // Solved independently with NumPy for this system (dt = 0.1, Q = I, R = 1).
        let cases = [
            (1.0, [17.834931, 10.012492, 10.012492, 17.856586], [0.917075, 1.635596]),
            (0.99, [16.421180, 9.197622, 9.197622, 16.923121], [0.842656, 1.546324]),
        ];
        for (gamma, value, gain) in cases {
            let found = lqr(gamma);
            for (a, b) in found.value.as_flattened().iter().zip(value) {
                close(*a, b, 1e-6);
            }
            for (a, b) in found.gain.iter().zip(gain) {
                close(*a, b, 1e-6);
            }
            let again = found.back(gamma);
            for (a, b) in again.value.as_flattened().iter().zip(found.value.as_flattened()) {
                close(*a, *b, 1e-14);
            }
        }
    }

    #[test]
    fn no_sequence_of_forces_beats_the_optimal_return() {
        // The return is a concave quadratic in the forces: cyclic exact line search finds its one maximum.
        const STEPS: usize = 6;
        let total = |start: [f64; 2], forces: &[f64; STEPS]| {
            let mut s = start;
            forces.iter().fold(0.0, |sum, u| {
                let r = cost(s, *u);
                s = advance(s, *u);
                sum - r
            })
        };
        for start in [[1.0, 0.3], [-0.4, 0.9]] {
            let mut forces = [0.0; STEPS];
            for _ in 0..2000 {
                for i in 0..STEPS {
                    let at = |d: f64| {
                        let mut f = forces;
                        f[i] += d;
                        total(start, &f)
                    };
                    let (left, middle, right) = (at(-1.0), at(0.0), at(1.0));
                    forces[i] += 0.5 * (left - right) / (left - 2.0 * middle + right);
                }
            }
            close(total(start, &forces), optimal_return(start, STEPS), 1e-12);
            assert!(gain_return(lqr(1.0).gain, start, STEPS) < optimal_return(start, STEPS));
        }
    }

    #[test]
    fn a_long_run_of_the_best_gain_costs_what_the_value_says() {
        for start in CORNERS {
            let optimum = lqr(1.0);
            close(gain_return(optimum.gain, start, 1000), -optimum.cost_to_go(start), 1e-12);
            close(optimal_return(start, 1000), -optimum.cost_to_go(start), 1e-12);
        }
    }

    #[test]
    fn the_task_pays_the_optimal_return_and_its_box_never_binds() {
        // The force is linear in the start, so the corners have the largest.
        let plan = finite_lqr(STEPS);
        let constant = vec![lqr(0.99); STEPS];
        for start in CORNERS {
            for (policy, expected) in [
                (&plan, optimal_return(start, STEPS)),
                (&constant, gain_return(constant[0].gain, start, STEPS)),
            ] {
                let mut env = DoubleIntegrator { state: start, ..Default::default() };
                let (mut obs, mut reward, mut sum) = ([0.0; 2], [0.0], 0.0);
                for step in policy {
                    let action = step.force(env.state) / MAX_FORCE;
                    assert!(action.abs() <= 1.0, "action {action} from {start:?}");
                    env.step(&[action], &mut stream(0, Purpose::Check, 0), &mut obs, &mut reward);
                    sum += reward[0];
                }
                close(sum, expected, 1e-12);
            }
        }
    }

    #[test]
    fn the_mean_optimal_return_is_the_mean() {
        // Two-point Gauss-Legendre quadrature in each coordinate is exact for a quadratic.
        let node = 1.0 / 3f64.sqrt();
        let mean = CORNERS.iter().map(|c| optimal_return(c.map(|x| x * node), STEPS)).sum::<f64>() / 4.0;
        close(mean_optimal_return(STEPS), mean, 1e-12);
        close(mean, -11.897172, 1e-6);
    }
}
