//! Natural-gradient pieces: conjugate gradient, step length and backtracking line search.
//!
//! On a device no number is looked at on the way: decisions are masks there.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::adam::Schedule;
use super::batch::Rows;
use super::loss::Surrogate;
use super::on_policy::CriticFit;
use super::policy::{Fisher, Policy};
use super::weights::{Direction, Mean, Scalar, Truth, Vector, read};
use crate::{BuildError, Metrics};

/// Squared residual at which conjugate gradient stops.
pub const CG_TOLERANCE: f64 = 1e-10;

/// Settings of the trust-region steps of several agents and of fitting their critics, those of TRPO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrustRegion {
    /// δ: bound on the mean KL divergence of each agent's step.
    pub max_kl: f64,
    /// How δ changes over the run: `constant` or `linear` (to zero).
    pub kl_schedule: Schedule,
    /// The line search accepts a KL of up to this many δ.
    pub kl_slack: f64,
    /// Conjugate-gradient iterations.
    pub cg_iterations: usize,
    /// Added to the diagonal of F.
    pub cg_damping: f64,
    /// F is averaged over every n-th row of the batch.
    pub fisher_every: usize,
    /// Factor by which the line search shrinks the step.
    pub backtrack: f64,
    /// Most steps that the line search tries.
    pub backtrack_steps: usize,
    /// Normalise advantages over the batch.
    pub normalize_advantage: bool,
    /// Adam's step size for the value functions.
    pub critic_lr: f64,
    /// How their learning rate changes: `constant` or `linear` (to zero).
    pub lr_schedule: Schedule,
    /// Passes over the batch when fitting a value function.
    pub critic_epochs: usize,
    /// Rows of a minibatch when fitting a value function.
    pub critic_minibatch: usize,
    /// ε of Adam.
    pub adam_epsilon: f64,
}

impl Default for TrustRegion {
    fn default() -> Self {
        Self {
            max_kl: 0.01,
            kl_schedule: Schedule::Constant,
            kl_slack: 1.5,
            cg_iterations: 10,
            cg_damping: 0.1,
            fisher_every: 1,
            backtrack: 0.5,
            backtrack_steps: 10,
            normalize_advantage: true,
            critic_lr: 1e-3,
            lr_schedule: Schedule::Constant,
            critic_epochs: 10,
            critic_minibatch: 128,
            adam_epsilon: 1e-5,
        }
    }
}

impl TrustRegion {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the first key that is out of range.
    pub fn validate(&self) -> Result<(), BuildError> {
        use crate::config::{at_least, positive, within};
        positive("max_kl", self.max_kl)?;
        within("kl_slack", self.kl_slack, 1.0, f64::INFINITY)?;
        within("cg_damping", self.cg_damping, 0.0, f64::INFINITY)?;
        within("backtrack", self.backtrack, 0.01, 0.99)?;
        positive("critic_lr", self.critic_lr)?;
        positive("adam_epsilon", self.adam_epsilon)?;
        for (key, value) in [
            ("cg_iterations", self.cg_iterations),
            ("fisher_every", self.fisher_every),
            ("backtrack_steps", self.backtrack_steps),
            ("critic_epochs", self.critic_epochs),
            ("critic_minibatch", self.critic_minibatch),
        ] {
            at_least(key, value, 1)?;
        }
        Ok(())
    }

    /// How the critics are fitted.
    pub fn critic_fit(&self) -> CriticFit {
        CriticFit { epochs: self.critic_epochs, minibatch: self.critic_minibatch, clip: 0.0 }
    }
}

/// What a trust-region step was like.
pub struct Step {
    /// ‖∇ E[r Â]‖
    pub grad_norm: Scalar,
    /// Accepted step length along the natural direction; 0 where none was.
    pub length: Scalar,
    /// Trials of the line search.
    pub tried: Scalar,
}

/// The means over several steps.
#[derive(Default)]
pub struct Steps {
    grad_norm: Mean,
    length: Mean,
    tried: Mean,
}

impl Steps {
    /// Takes in one.
    pub fn add(&mut self, step: Step) {
        self.grad_norm.add(step.grad_norm);
        self.length.add(step.length);
        self.tried.add(step.tried);
    }

    /// As an agent reports them, with its learning rate.
    pub fn metrics(self, lr: f64) -> Metrics {
        let [grad_norm, length, tried] = read([self.grad_norm.get(), self.length.get(), self.tried.get()]);
        Metrics {
            learning_rate: Some(lr),
            grad_norm: Some(grad_norm),
            step_size: Some(length),
            line_search_steps: Some(tried),
            ..Metrics::default()
        }
    }
}

/// One step of TRPO that raises E[r Â] over `rows` within E[KL(π_old ‖ π)] ≤ `max_kl`, slack aside: gradient, natural
/// direction, step length, line search, operation for operation those of `trpo.rs`.
pub fn natural_step(policy: &mut Policy, rows: &Rows, region: &TrustRegion, max_kl: f64) -> Step {
    policy.grad(rows, &Surrogate);
    let g = policy.weights.grad.clone();
    let mut fisher = policy.fisher(rows, region.fisher_every, region.cg_damping);
    let x = natural_direction(&mut fisher, &g, region.cg_iterations, CG_TOLERANCE);
    let beta = step_length(max_kl, &fisher.curvature(&x));
    let theta_old = policy.weights.params.clone();
    let surrogate_old = policy.compare(rows, 0.2).surrogate;
    let (length, tried) = line_search(&beta, region.backtrack, region.backtrack_steps, |length| {
        policy.weights.set_moved(&theta_old, length, &x);
        let step = policy.compare(rows, 0.2);
        step.kl_old_new.at_most(region.kl_slack * max_kl) & step.surrogate.above(&surrogate_old)
    });
    policy.weights.set_moved(&theta_old, &length, &x); // θ_old if none was accepted
    Step { grad_norm: g.norm(), length, tried }
}

/// x ≈ F⁻¹ `g` for gradient `g` `[P]`, by conjugate gradient (Hestenes and Stiefel 1952).
///
/// Stops after `iterations` steps, when the squared residual falls below `tolerance`, or in a direction without
/// positive curvature: rounding makes such directions of a singular F, and a step along one has no length.
pub fn natural_direction(fisher: &mut Fisher, g: &Vector, iterations: usize, tolerance: f64) -> Direction {
    match g {
        Vector::Host(g) => {
            let g: Vec<f64> = g.iter().map(|x| f64::from(*x)).collect();
            let product = |v: &[f64], out: &mut [f64]| fisher.product_slices(v, out);
            Direction::Host(conjugate_gradient_slices(product, &g, iterations, tolerance))
        }
        Vector::Tensor(g) => {
            Direction::Tensor(conjugate_gradient(|v| fisher.product(v), g, iterations, tolerance))
        }
    }
}

/// Solves A x = b for a symmetric positive definite A, given by its products: `product` writes A times its first
/// argument to its second.
fn conjugate_gradient_slices(
    mut product: impl FnMut(&[f64], &mut [f64]),
    b: &[f64],
    iterations: usize,
    tolerance: f64,
) -> Vec<f64> {
    let mut x = vec![0.0; b.len()];
    let mut r = b.to_vec();
    let mut p = b.to_vec();
    let mut ap = vec![0.0; b.len()];
    let mut rr = dot(&r, &r);
    for _ in 0..iterations {
        if rr < tolerance {
            break;
        }
        product(&p, &mut ap);
        let curvature = dot(&p, &ap);
        if curvature <= 0.0 {
            break;
        }
        let alpha = rr / curvature;
        for i in 0..b.len() {
            x[i] += alpha * p[i];
            r[i] -= alpha * ap[i];
        }
        let rr_next = dot(&r, &r);
        let beta = rr_next / rr;
        for i in 0..b.len() {
            p[i] = r[i] + beta * p[i];
        }
        rr = rr_next;
    }
    x
}

/// The same on a device, always in `iterations` steps: those after the stop change nothing.
fn conjugate_gradient(
    product: impl Fn(&Tensor<1>) -> Tensor<1>,
    b: &Tensor<1>,
    iterations: usize,
    tolerance: f64,
) -> Tensor<1> {
    let (mut x, mut r, mut p) = (b.zeros_like(), b.clone(), b.clone());
    for _ in 0..iterations {
        let rr = r.clone().square().sum(); // [1], as all scalars here
        let ap = product(&p);
        let curvature = p.clone().dot(ap.clone());
        let goes_on = rr.clone().greater_equal_scalar(tolerance);
        let goes_on = goes_on.bool_and(curvature.clone().greater_scalar(0.0)).expand(b.dims()); // [P]
        let alpha = rr.clone() / curvature;
        let r_next = r.clone() - ap * alpha.clone();
        let beta = r_next.clone().square().sum() / rr;
        // Masks and not factors of 0, for 0 · ∞ is no number.
        x = x.clone().mask_where(goes_on.clone(), x + p.clone() * alpha);
        p = p.clone().mask_where(goes_on.clone(), r_next.clone() + p * beta);
        r = r.mask_where(goes_on, r_next);
    }
    x
}

/// Σ a_i b_i
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// β = √(2δ / xᵀ F x) for the `curvature` xᵀ F x; 0 where that is not positive.
pub fn step_length(max_kl: f64, curvature: &Scalar) -> Scalar {
    match curvature {
        Scalar::Host(curvature) if *curvature > 0.0 => Scalar::Host((2.0 * max_kl / curvature).sqrt()),
        Scalar::Host(_) => Scalar::Host(0.0),
        Scalar::Tensor(curvature) => {
            let positive = curvature.clone().greater_scalar(0.0);
            let beta = (curvature.clone().recip() * (2.0 * max_kl)).sqrt();
            Scalar::Tensor(beta.mask_fill(positive.bool_not(), 0.0))
        }
    }
}

/// Tries the step lengths `beta`, `beta` · `shrink`, `beta` · `shrink`², … at most `tries` times, until one is accepted.
/// Returns the accepted length, 0 if there is none, and the number tried.
///
/// On a device all are tried, and the first accepted one is picked there: waiting for a verdict would idle the device
/// once a try. A try costs one forward pass over the batch; ten of them stand beside the 40 or so of conjugate gradient
/// (ten products, each a tangent and a backward pass) and the 30 of fitting V (ten epochs, forward and backward). On
/// tensors of the CPU, which saves no wait, that is a quarter more for a run on Hopper.
pub fn line_search(
    beta: &Scalar,
    shrink: f64,
    tries: usize,
    mut accept: impl FnMut(&Scalar) -> Truth,
) -> (Scalar, Scalar) {
    let mut fraction = 1.0;
    let mut verdicts = Vec::new();
    for tried in 1..=tries {
        let length = beta * fraction;
        match (accept(&length), length) {
            (Truth::Host(true), length) => return (length, Scalar::Host(tried as f64)),
            (Truth::Tensor(accepted), Scalar::Tensor(length)) => {
                verdicts.push((accepted, length, tried as f64))
            }
            _ => {}
        }
        fraction *= shrink;
    }
    let Scalar::Tensor(beta) = beta else { return (Scalar::Host(0.0), Scalar::Host(tries as f64)) };
    let (mut found, mut number) = (beta.zeros_like(), beta.full_like(tries as f64));
    // The first accepted one is written last.
    for (accepted, length, tried) in verdicts.into_iter().rev() {
        found = found.mask_where(accepted.clone(), length);
        number = number.mask_fill(accepted, tried);
    }
    (Scalar::Tensor(found), Scalar::Tensor(number))
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::super::device::{Device, to_host};
    use super::super::testing::{close, devices, direction, scalar};
    use super::super::weights::Weights;
    use super::*;

    /// x and the number of products that it took, for a matrix given row by row.
    fn solve(device: &Device, a: &[f64], b: &[f64], iterations: usize, tolerance: f64) -> (Vec<f64>, usize) {
        let count = std::cell::Cell::new(0);
        let f32s = |x: &[f64]| x.iter().map(|x| *x as f32).collect::<Vec<f32>>();
        let x = if device.is_cpu() {
            let product = |v: &[f64], out: &mut [f64]| {
                count.set(count.get() + 1);
                out.iter_mut().zip(a.chunks(b.len())).for_each(|(out, row)| *out = dot(row, v));
            };
            conjugate_gradient_slices(product, b, iterations, tolerance)
        } else {
            let (matrix, n) = (device.matrix(f32s(a), b.len()), b.len());
            let product = |v: &Tensor<1>| {
                count.set(count.get() + 1);
                matrix.clone().matmul(v.clone().reshape([n, 1])).reshape([n])
            };
            let x = conjugate_gradient(product, &device.vector(f32s(b)), iterations, tolerance);
            to_host(x).into_iter().map(f64::from).collect()
        };
        (x, count.get())
    }

    #[test]
    fn conjugate_gradient_solves_a_dense_system() {
        let n = 12;
        // A = M Mᵀ / n + I
        let m: Vec<f64> = (0..n * n).map(|i| ((i * 37 % 23) as f64 - 11.0) / 7.0).collect();
        let rows = |m: &[f64], i: usize| m[i * n..(i + 1) * n].to_vec();
        let entry =
            |i: usize, j: usize| dot(&rows(&m, i), &rows(&m, j)) / n as f64 + f64::from(u8::from(i == j));
        let a: Vec<f64> = (0..n * n).map(|i| entry(i / n, i % n)).collect();
        let truth: Vec<f64> = (0..n).map(|i| (i as f64).sin()).collect();
        let b: Vec<f64> = a.chunks(n).map(|row| dot(row, &truth)).collect();
        for (device, tolerance) in devices().iter().zip([1e-8, 1e-5]) {
            close(&solve(device, &a, &b, 50, 1e-24).0, &truth, tolerance);
        }
    }

    /// A matrix with two eigenvalues is done with in two steps; after them 0 / 0 lies in wait.
    #[test]
    fn conjugate_gradient_stays_where_it_has_converged() {
        let a = [4.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let b = [1.0, 2.0, -3.0];
        for (device, products) in devices().iter().zip([2, 40]) {
            let (x, took) = solve(device, &a, &b, 40, 1e-10);
            assert_eq!(took, products);
            close(&x, &[0.25, 2.0, -3.0], 1e-6);
            assert_eq!(x, solve(device, &a, &b, 2, 1e-10).0, "frozen from there on");
        }
    }

    #[test]
    fn conjugate_gradient_stops_where_a_singular_matrix_has_no_answer() {
        for device in &devices() {
            // The second equation has no solution, and asking on must not give NaN.
            let singular = [2.0, 0.0, 0.0, 0.0];
            assert_eq!(solve(device, &singular, &[4.0, 0.0], 10, 0.0).0, [2.0, 0.0]);
            assert_eq!(solve(device, &singular, &[0.0, 1.0], 10, 1e-10).0, [0.0, 0.0]);
            // No positive curvature at all, and one only after the first step.
            assert_eq!(solve(device, &[-1.0, 0.0, 0.0, -1.0], &[1.0, 2.0], 10, 1e-10).0, [0.0, 0.0]);
            let (x, _) = solve(device, &[2.0, 0.0, 0.0, -1.0], &[2.0, 1.0], 10, 1e-10);
            let first = 5.0 / 7.0; // bᵀ b / bᵀ A b
            close(&x, &[2.0 * first, first], 1e-6);
        }
    }

    #[test]
    fn a_step_has_no_length_without_positive_curvature() {
        for device in &devices() {
            let length = |curvature| read([step_length(0.02, &scalar(curvature, device))])[0];
            close(&[length(4.0)], &[0.1], 1e-6);
            assert_eq!([0.0, -1.0, f64::NAN].map(length), [0.0; 3]);
        }
    }

    #[test]
    fn line_search_backtracks_until_accepted_or_gives_up() {
        for device in &devices() {
            let search = |tries, bound| {
                let (found, tried) = line_search(&scalar(2.0, device), 0.5, tries, |x| x.at_most(bound));
                read([found, tried])
            };
            assert_eq!(search(10, 2.0), [2.0, 1.0]);
            assert_eq!(search(10, 0.6), [0.5, 3.0]);
            assert_eq!(search(10, 1.0), [1.0, 2.0], "the first of several that would do");
            assert_eq!(search(4, 0.1), [0.0, 4.0]);
            assert_eq!(search(4, f64::NAN), [0.0, 4.0]);
        }
    }

    #[test]
    fn a_direction_that_is_no_number_moves_nothing() {
        for device in &devices() {
            let (nan, b) = ([f64::NAN; 4], [1.0, 2.0]);
            let (x, _) = solve(device, &nan, &b, 10, 1e-10);
            let curvature = nan.chunks(2).zip(&x).map(|(row, x_i)| x_i * dot(row, &x)).sum();
            let beta = step_length(0.01, &scalar(curvature, device));
            let mut weights = Weights::new(vec![-0.0, 3.0], device);
            let origin = weights.params.clone();
            weights.set_moved(&origin, &beta, &direction(vec![f32::NAN; 2], device));
            assert_eq!(weights.to_host(), [-0.0, 3.0]);
        }
    }

    #[test]
    fn nothing_that_is_no_number_is_accepted() {
        for device in &devices() {
            let [one, nan] = [1.0, f64::NAN].map(|x| scalar(x, device));
            let holds = |truth: Truth| match truth {
                Truth::Host(holds) => holds,
                Truth::Tensor(holds) => to_host(holds.float())[0] > 0.0,
            };
            assert!(holds(one.at_most(1.0)) && holds(one.above(&scalar(0.5, device))));
            assert!(!holds(one.above(&one)) && !holds(one.above(&nan)) && !holds(nan.above(&one)));
            assert!(!holds(nan.at_most(1.0)) && !holds(one.at_most(1.0) & nan.at_most(1.0)));
        }
    }
}
