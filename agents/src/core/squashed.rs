//! The actor of off-policy agents: a normal distribution with state-dependent deviation, squashed by tanh into (−1, 1).
//!
//! a = tanh(u), u = μ(s) + σ(s) ε, ε ~ N(0, I) (Haarnoja et al. 2018, arXiv:1812.05905, appendix C). The network's
//! outputs are μ, then ln σ, cut off at −20 and 2. A policy step differentiates through the action: a loss states
//! what one state costs ([`ActorLoss`]) in terms of ln π(a|s), ln π_old(a|s) and Q(s, a), whose derivative with
//! respect to the action the critic supplies.

use burn::tensor::Tensor;
use steadfast_envs::{Rng, State, StateError};

use super::device::{Device, to_host};
use super::kernels::{self, exp, ln};
use super::loss::{Dual, Real};
use super::mlp::slices::Workspace;
use super::mlp::{Activation, Init, Mlp};
use super::policy::{load_parts, save_parts};
use super::weights::{Scalar, Vector, Weights, apart};

/// Where ln σ is cut off.
const LOG_STD: (f32, f32) = (-20.0, 2.0);
/// ½ ln(2π)
const HALF_LN_2PI: f32 = 0.918_938_5;

/// The policy network and its distribution.
pub struct Squashed {
    mlp: Mlp,
    action_len: usize,
    logarithm: Logarithm,
    device: Device,
    /// θ and the gradient of the loss last asked for, `[P]`.
    pub weights: Weights,
}

/// The logarithm that log-probabilities are taken in, dimension by dimension.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logarithm {
    /// q in [1, 2] of ln_q p = (p^(q−1) − 1) / (q − 1); 1 is the natural logarithm.
    pub q: f64,
    /// Densities of a dimension below this count as this, and have no gradient; 0 for none.
    pub floor: f64,
}

impl Logarithm {
    /// ln
    pub const NATURAL: Self = Self { q: 1.0, floor: 0.0 };

    /// ln_q p and its derivative with respect to ln p, from ln p.
    #[inline(always)]
    fn of(self, ln_p: f32) -> (f32, f32) {
        let floor = ln(self.floor as f32); // −∞ of 0
        let (ln_p, inside) = if ln_p < floor { (floor, 0.0) } else { (ln_p, 1.0) };
        if self.q == 1.0 {
            return (ln_p, inside);
        }
        let k = (self.q - 1.0) as f32;
        let power = exp(k * ln_p);
        ((power - 1.0) / k, power * inside)
    }

    /// ln_q p of ln p as a tensor.
    fn of_tensor(self, ln_p: Tensor<2>) -> Tensor<2> {
        let ln_p = if self.floor > 0.0 { ln_p.clamp_min(self.floor.ln()) } else { ln_p };
        if self.q == 1.0 { ln_p } else { ((ln_p * (self.q - 1.0)).exp() - 1.0) / (self.q - 1.0) }
    }
}

/// Actions drawn at a batch of states, with the numbers that a policy step needs again.
#[derive(Clone, Debug, Default)]
pub struct Draw {
    /// ε, `[B, A]`.
    pub noise: Vec<f32>,
    /// a in (−1, 1), `[B, A]`.
    pub actions: Vec<f32>,
    /// ln π(a|s), `[B]`.
    pub log_probs: Vec<f32>,
    /// The network's pass, and its outputs: μ, then ln σ before it is cut off, `[B, 2 A]`.
    work: Workspace,
    outputs: Vec<f32>,
    /// u, a before squashing, `[B, A]`.
    u: Vec<f32>,
    /// σ, `[B, A]`.
    std: Vec<f32>,
    /// The outputs of π_old, `[B, 2 A]`; empty where there is none.
    old: Vec<f32>,
    old_work: Workspace,
}

impl Draw {
    /// Room for a draw with this noise, `[B, A]`.
    pub fn with_noise(noise: Vec<f32>) -> Self {
        Self { noise, ..Self::default() }
    }
}

/// One state as a policy's loss sees it, with a fresh action there.
pub trait Candidate {
    /// Number type.
    type X: Real;
    /// ln π(a|s)
    fn log_prob(&self) -> Self::X;
    /// ln π_old(a|s)
    fn log_prob_old(&self) -> Self::X;
    /// Q(s, a)
    fn q(&self) -> Self::X;
    /// Means over the dimensions of the action: μ² + (ln σ)².
    fn magnitude(&self) -> Self::X;
}

/// What a policy step lowers.
pub trait ActorLoss {
    /// The loss of one state.
    fn row<S: Candidate>(&self, pi: &S) -> S::X;
}

/// What a loss is differentiated with respect to.
const LOG_PROB: usize = 0;
const LOG_PROBOLD: usize = 1;
const Q: usize = 2;
const MAGNITUDE: usize = 3;

/// A row on the CPU.
struct HostCandidate {
    log_prob: f32,
    log_prob_old: f32,
    q: f32,
    magnitude: f32,
}

impl Candidate for HostCandidate {
    type X = Dual<4>;

    fn log_prob(&self) -> Dual<4> {
        Dual::variable(self.log_prob, LOG_PROB)
    }

    fn log_prob_old(&self) -> Dual<4> {
        Dual::variable(self.log_prob_old, LOG_PROBOLD)
    }

    fn q(&self) -> Dual<4> {
        Dual::variable(self.q, Q)
    }

    fn magnitude(&self) -> Dual<4> {
        Dual::variable(self.magnitude, MAGNITUDE)
    }
}

/// A batch as tensors on an autodiff graph, `[B]` each.
struct TensorCandidate {
    log_prob: Tensor<1>,
    log_prob_old: Option<Tensor<1>>,
    q: Tensor<1>,
    magnitude: Tensor<1>,
}

impl Candidate for TensorCandidate {
    type X = Tensor<1>;

    fn log_prob(&self) -> Tensor<1> {
        self.log_prob.clone()
    }

    fn log_prob_old(&self) -> Tensor<1> {
        self.log_prob_old.clone().unwrap_or_else(|| self.log_prob.zeros_like())
    }

    fn q(&self) -> Tensor<1> {
        self.q.clone()
    }

    fn magnitude(&self) -> Tensor<1> {
        self.magnitude.clone()
    }
}

/// ln(1 − tanh² u), without cancellation.
#[inline(always)]
fn ln_slope(u: f32) -> f32 {
    let size = u.abs();
    2.0 * (std::f32::consts::LN_2 - size - ln(1.0 + exp(-2.0 * size)))
}

/// ln σ as used, and whether it is not cut off.
#[inline(always)]
fn log_std(raw: f32) -> (f32, bool) {
    (raw.clamp(LOG_STD.0, LOG_STD.1), raw > LOG_STD.0 && raw < LOG_STD.1)
}

/// ln of the density of one dimension of a normal distribution squashed by tanh, at tanh u.
#[inline(always)]
fn ln_density(u: f32, mean: f32, log_std: f32) -> f32 {
    let z = (u - mean) * exp(-log_std);
    -0.5 * z * z - log_std - HALF_LN_2PI - ln_slope(u)
}

impl Squashed {
    /// A policy for actions of `action_len` numbers, with fresh weights drawn from `rng`.
    pub fn new(
        obs_len: usize,
        action_len: usize,
        hidden: &[usize],
        activation: Activation,
        init: Init,
        rng: &mut Rng,
        device: &Device,
    ) -> Self {
        let mlp = Mlp::new(obs_len, hidden, 2 * action_len, activation, device);
        let weights = Weights::new(mlp.init(init, 0.01, rng), device);
        Self { mlp, action_len, logarithm: Logarithm::NATURAL, device: device.clone(), weights }
    }

    /// The same with log-probabilities in another logarithm.
    pub fn with_logarithm(self, logarithm: Logarithm) -> Self {
        Self { logarithm, ..self }
    }

    /// Number of parameters, P.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy, to be π_old.
    pub fn copy(&self) -> Self {
        let (mlp, weights, device) = (self.mlp.clone(), self.weights.clone(), self.device.clone());
        Self { mlp, weights, device, ..*self }
    }

    /// Network outputs `[B, 2 A]` for observations `[B, O]`.
    fn outputs(&self, obs: &[f32], work: &mut Workspace, out: &mut Vec<f32>) {
        out.clear();
        match &self.weights.params {
            Vector::Host(params) => out.extend_from_slice(self.mlp.forward_slices(params, obs, work)),
            Vector::Tensor(params) => {
                let obs = self.device.matrix(obs.to_vec(), self.mlp.inputs());
                out.extend(to_host(self.mlp.forward(params, obs).0));
            }
        }
    }

    /// Draws an action at every observation `[B, O]`, with the noise of `draw`.
    pub fn draw(&self, obs: &[f32], draw: &mut Draw) {
        let (a, rows) = (self.action_len, draw.noise.len() / self.action_len);
        let Draw { noise, actions, log_probs, work, outputs, u, std, old, .. } = draw;
        self.outputs(obs, work, outputs);
        u.resize(rows * a, 0.0);
        std.resize(rows * a, 0.0);
        log_probs.clear();
        old.clear();
        for (i, row) in outputs.chunks_exact(2 * a).enumerate() {
            let mut sum = 0.0;
            for d in 0..a {
                let (log_std, _) = log_std(row[a + d]);
                let (k, sigma) = (i * a + d, exp(log_std));
                std[k] = sigma;
                u[k] = row[d] + sigma * noise[k];
                let ln_p = -0.5 * noise[k] * noise[k] - log_std - HALF_LN_2PI - ln_slope(u[k]);
                sum += self.logarithm.of(ln_p).0;
            }
            log_probs.push(sum);
        }
        actions.clone_from(u);
        kernels::tanh(actions);
    }

    /// Adds to `draw`, drawn at `obs` `[B, O]`, what `self`, as π_old, makes of these states.
    pub fn remember(&self, obs: &[f32], draw: &mut Draw) {
        self.outputs(obs, &mut draw.old_work, &mut draw.old);
    }

    /// Mean of `loss` over the states of `draw`, drawn from `self` as it is now at `obs` `[B, O]`; its gradient goes
    /// to [`Self::weights`]. `q` `[B]` is Q(s, a), `q_slope` `[B, A]` its derivative with respect to a.
    pub fn grad(
        &mut self,
        obs: &[f32],
        draw: &mut Draw,
        q: &[f32],
        q_slope: &[f32],
        loss: &impl ActorLoss,
    ) -> Scalar {
        let (a, rows) = (self.action_len, q.len());
        // One number a row, never a row of numbers.
        assert_eq!((draw.log_probs.len(), q_slope.len(), draw.u.len()), (rows, rows * a, rows * a));
        assert!(draw.old.is_empty() || draw.old.len() == 2 * rows * a);
        match (&self.weights.params, &mut self.weights.grad) {
            (Vector::Host(params), Vector::Host(grad)) => {
                let mut work = std::mem::take(&mut draw.work);
                let (_, d_outputs) = work.outputs();
                let share = 1.0 / rows as f32;
                let mut sum = 0.0;
                for i in 0..rows {
                    let row = Row::new(draw, i, a);
                    let Dual { value, slope } = loss.row(&HostCandidate {
                        log_prob: draw.log_probs[i],
                        log_prob_old: row.log_prob_old(self.logarithm),
                        q: q[i],
                        magnitude: row.magnitude(),
                    });
                    sum += f64::from(value);
                    let slope = slope.map(|s| s * share);
                    let d_row = &mut d_outputs[2 * i * a..2 * (i + 1) * a];
                    row.backward(self.logarithm, slope, &q_slope[i * a..(i + 1) * a], d_row);
                }
                self.mlp.vjp_slices(params, obs, &mut work, grad);
                draw.work = work;
                Scalar::Host(sum / rows as f64)
            }
            (Vector::Tensor(params), grad) => {
                let matrix = |values: &[f32]| self.device.matrix(values.to_vec(), a).autodiff();
                let (outputs, pass) =
                    self.mlp.forward(params, self.device.matrix(obs.to_vec(), self.mlp.inputs()));
                let outputs = outputs.autodiff().require_grad(); // [B, 2 A]
                let split = |outputs: &Tensor<2>| {
                    let log_std = outputs.clone().narrow(1, a, a);
                    (outputs.clone().narrow(1, 0, a), log_std.clamp(LOG_STD.0, LOG_STD.1))
                };
                let column = |t: Tensor<2>| t.reshape([rows]);
                let (mean, log_std) = split(&outputs);
                let u = mean.clone() + log_std.clone().exp() * matrix(&draw.noise);
                let actions = u.clone().tanh();
                // Q to first order around the actions drawn: its gradient there is all that matters.
                let moved = (actions - matrix(&draw.actions)) * matrix(q_slope);
                let candidate = TensorCandidate {
                    log_prob: log_prob_tensor(self.logarithm, &u, &mean, &log_std),
                    log_prob_old: (!draw.old.is_empty()).then(|| {
                        let old = self.device.matrix(draw.old.clone(), 2 * a).autodiff();
                        let (mean, log_std) = split(&old);
                        log_prob_tensor(self.logarithm, &u, &mean, &log_std)
                    }),
                    q: column(moved.sum_dim(1)) + self.device.vector(q.to_vec()).autodiff(),
                    magnitude: column((mean.square() + log_std.square()).mean_dim(1)),
                };
                let loss = loss.row(&candidate).mean();
                let gradients = loss.backward();
                let d_outputs =
                    outputs.grad(&gradients).unwrap_or_else(|| outputs.clone().inner().zeros_like());
                *grad = Vector::Tensor(self.mlp.vjp(params, &pass, d_outputs));
                Scalar::Tensor(loss.inner())
            }
            _ => apart(),
        }
    }

    /// Mean of KL(π ‖ π_old) over the states of `draw`, nats: that of the normals, since squashing both alike changes
    /// no divergence.
    pub fn kl(&self, draw: &Draw) -> f64 {
        let a = self.action_len;
        let mut sum = 0.0;
        for (i, old) in draw.old.chunks_exact(2 * a).enumerate() {
            for d in 0..a {
                let (std, old_log_std) = (draw.std[i * a + d], log_std(old[a + d]).0);
                let shift = draw.outputs[2 * i * a + d] - old[d];
                let (ratio, z) = (std * exp(-old_log_std), shift * exp(-old_log_std));
                sum += f64::from(0.5 * (ratio * ratio + z * z - 1.0) - ln(ratio));
            }
        }
        sum / (draw.old.len() / (2 * a)).max(1) as f64
    }

    /// Mean of σ over `draw`.
    pub fn std(draw: &Draw) -> f64 {
        draw.std.iter().map(|s| f64::from(*s)).sum::<f64>() / draw.std.len().max(1) as f64
    }

    /// The most likely u squashed, tanh μ, `[B, A]`, for observations `[B, O]`; `work` is room.
    pub fn greedy(&self, obs: &[f32], work: &mut Draw, actions: &mut [f32]) {
        let a = self.action_len;
        self.outputs(obs, &mut work.work, &mut work.outputs);
        for (action, row) in actions.chunks_exact_mut(a).zip(work.outputs.chunks_exact(2 * a)) {
            action.copy_from_slice(&row[..a]);
        }
        kernels::tanh(actions);
    }

    /// Saves the weights, named and shaped by layer.
    pub fn save(&self, name: &str, state: &mut State) {
        save_parts(&self.mlp.parts(), &self.weights.to_host(), name, state);
    }

    /// Restores the weights.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, name: &str, state: &State) -> Result<(), StateError> {
        self.weights.set(load_parts(&self.mlp.parts(), name, state)?);
        Ok(())
    }
}

/// ln π(tanh u | s), `[B]`, for u, μ and ln σ `[B, A]`.
fn log_prob_tensor(logarithm: Logarithm, u: &Tensor<2>, mean: &Tensor<2>, log_std: &Tensor<2>) -> Tensor<1> {
    let z = (u.clone() - mean.clone()) * (-log_std.clone()).exp();
    let size = u.clone().abs();
    // ln(1 − tanh² u)
    let ln_slope =
        ((size.clone() * -2.0).exp() + 1.0).log() * -2.0 - size * 2.0 + 2.0 * std::f64::consts::LN_2;
    let ln_p = z.square() * -0.5 - log_std.clone() - f64::from(HALF_LN_2PI) - ln_slope; // [B, A]
    let [rows, _] = ln_p.dims();
    logarithm.of_tensor(ln_p).sum_dim(1).reshape([rows])
}

/// One state of a [`Draw`] with the network's outputs there, `[A]` each.
struct Row<'a> {
    mean: &'a [f32],
    log_std: &'a [f32],
    noise: &'a [f32],
    action: &'a [f32],
    u: &'a [f32],
    std: &'a [f32],
    /// μ and ln σ of π_old; empty without one.
    old: (&'a [f32], &'a [f32]),
}

impl<'a> Row<'a> {
    fn new(draw: &'a Draw, i: usize, a: usize) -> Self {
        let (of, pair) = (i * a..(i + 1) * a, 2 * i * a..2 * (i + 1) * a);
        let (mean, log_std) = draw.outputs[pair.clone()].split_at(a);
        let old = if draw.old.is_empty() { &[][..] } else { &draw.old[pair] };
        Self {
            mean,
            log_std,
            noise: &draw.noise[of.clone()],
            action: &draw.actions[of.clone()],
            u: &draw.u[of.clone()],
            std: &draw.std[of],
            old: old.split_at(old.len() / 2),
        }
    }

    fn log_prob_old(&self, logarithm: Logarithm) -> f32 {
        let (mean, raw) = self.old;
        let ln_p = |d: usize| ln_density(self.u[d], mean[d], log_std(raw[d]).0);
        (0..mean.len()).map(|d| logarithm.of(ln_p(d)).0).sum()
    }

    fn magnitude(&self) -> f32 {
        let square = |d: usize| self.mean[d] * self.mean[d] + log_std(self.log_std[d]).0.powi(2);
        (0..self.mean.len()).map(square).sum::<f32>() / self.mean.len() as f32
    }

    /// Gradient of a loss with these derivatives with respect to μ and the raw ln σ, into `d` `[2 A]`.
    fn backward(&self, logarithm: Logarithm, slope: [f32; 4], q_slope: &[f32], d: &mut [f32]) {
        let a = self.mean.len();
        for k in 0..a {
            let (u, action, std, noise) = (self.u[k], self.action[k], self.std[k], self.noise[k]);
            let (log_std_, inside) = log_std(self.log_std[k]);
            let ln_p = -0.5 * noise * noise - log_std_ - HALF_LN_2PI - ln_slope(u);
            let direct = slope[LOG_PROB] * logarithm.of(ln_p).1;
            // −d ln(1 − tanh² u)/du = 2 tanh u
            let mut d_u = direct * 2.0 * action + slope[Q] * q_slope[k] * (1.0 - action * action);
            if let (Some(mean), Some(raw)) = (self.old.0.get(k), self.old.1.get(k)) {
                let (old_log_std, _) = log_std(*raw);
                let old = slope[LOG_PROBOLD] * logarithm.of(ln_density(u, *mean, old_log_std)).1;
                d_u += old * (2.0 * action - (u - mean) * exp(-2.0 * old_log_std));
            }
            let magnitude = slope[MAGNITUDE] * 2.0 / a as f32;
            d[k] = d_u + magnitude * self.mean[k];
            d[a + k] = if inside { d_u * std * noise - direct + magnitude * log_std_ } else { 0.0 };
        }
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::core::testing::{close, devices, normals, rng};
    use crate::core::weights::read;

    const A: usize = 2;
    const O: usize = 3;
    const KINDS: [Logarithm; 5] = [
        Logarithm::NATURAL,
        Logarithm { q: 1.5, floor: 0.0 },
        Logarithm { q: 2.0, floor: 0.0 },
        Logarithm { q: 1.0, floor: 0.3 },
        Logarithm { q: 1.4, floor: 0.3 },
    ];

    /// Uses everything that a loss may.
    struct Everything;
    impl ActorLoss for Everything {
        fn row<S: Candidate>(&self, pi: &S) -> S::X {
            pi.log_prob() * 0.7 - pi.log_prob_old() * 0.4 - pi.q()
                + pi.q().square() * 0.2
                + pi.magnitude() * 0.3
        }
    }

    /// An actor without hidden layers: its outputs are linear in the observation.
    fn linear(device: &Device, logarithm: Logarithm, index: u64) -> Squashed {
        let actor = Squashed::new(O, A, &[], Activation::Tanh, Init::Pytorch, &mut rng(0), device);
        let mut actor = actor.with_logarithm(logarithm);
        actor.weights.set(normals(actor.len(), index).iter().map(|x| 0.5 * x).collect());
        actor
    }

    /// μ and ln σ `[A]` each, in `f64`.
    fn outputs(params: &[f64], obs: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let unit = |j: usize| {
            let sum: f64 = (0..O).map(|k| f64::from(obs[k]) * params[k * 2 * A + j]).sum();
            sum + params[O * 2 * A + j]
        };
        ((0..A).map(unit).collect(), (A..2 * A).map(|j| unit(j).clamp(-20.0, 2.0)).collect())
    }

    fn textbook_log(l: Logarithm, p: f64) -> f64 {
        let p = p.max(l.floor);
        if l.q == 1.0 { p.ln() } else { (p.powf(l.q - 1.0) - 1.0) / (l.q - 1.0) }
    }

    /// The density of one dimension at a = tanh u, by the change of variables.
    fn density(u: f64, mean: f64, log_std: f64) -> f64 {
        let z = (u - mean) / log_std.exp();
        (-0.5 * z * z).exp() / (log_std.exp() * std::f64::consts::TAU.sqrt()) / (1.0 - u.tanh().powi(2))
    }

    /// Q(a), and its slope.
    fn judge(a: &[f64]) -> (f64, Vec<f64>) {
        let q = (2.0 * a[0]).sin() + a[0] * a[1] - a[1] * a[1];
        (q, vec![2.0 * (2.0 * a[0]).cos() + a[1], a[0] - 2.0 * a[1]])
    }

    /// The mean of [`Everything`] over rows, in `f64`, the textbook way.
    fn textbook_loss(l: Logarithm, params: &[f64], old: &[f64], obs: &[f32], noise: &[f32]) -> f64 {
        let rows = noise.len() / A;
        let row = |i: usize| {
            let obs = &obs[i * O..(i + 1) * O];
            let ((mean, log_std), (mean_o, log_std_o)) = (outputs(params, obs), outputs(old, obs));
            let u = |d: usize| mean[d] + log_std[d].exp() * f64::from(noise[i * A + d]);
            let sum = |mean: &[f64], log_std: &[f64]| {
                (0..A).map(|d| textbook_log(l, density(u(d), mean[d], log_std[d]))).sum::<f64>()
            };
            let (q, _) = judge(&(0..A).map(|d| u(d).tanh()).collect::<Vec<_>>());
            let size = (0..A).map(|d| mean[d].powi(2) + log_std[d].powi(2)).sum::<f64>() / A as f64;
            sum(&mean, &log_std) * 0.7 - sum(&mean_o, &log_std_o) * 0.4 - q + q * q * 0.2 + size * 0.3
        };
        (0..rows).map(row).sum::<f64>() / rows as f64
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|x| f64::from(*x)).collect()
    }

    #[test]
    fn losses_and_gradients_agree_with_finite_differences_in_f64() {
        const H: f64 = 1e-6;
        const ROWS: usize = 7;
        for device in devices() {
            for logarithm in KINDS {
                let (mut actor, old) = (linear(&device, logarithm, 1), linear(&device, logarithm, 2));
                let (obs, noise) = (normals(ROWS * O, 3), normals(ROWS * A, 4));
                let mut draw = Draw::with_noise(noise.clone());
                actor.draw(&obs, &mut draw);
                old.remember(&obs, &mut draw);
                let judged: Vec<_> = draw.actions.chunks_exact(A).map(|a| judge(&wide(a))).collect();
                let q: Vec<f32> = judged.iter().map(|(q, _)| *q as f32).collect();
                let slope: Vec<f32> = judged.iter().flat_map(|(_, s)| s).map(|s| *s as f32).collect();
                let loss = actor.grad(&obs, &mut draw, &q, &slope, &Everything);
                let (params, old) = (wide(&actor.weights.to_host()), wide(&old.weights.to_host()));
                let at = |i: usize, h: f64| {
                    let mut params = params.clone();
                    params[i] += h;
                    textbook_loss(logarithm, &params, &old, &obs, &noise)
                };
                close(&read([loss]), &[at(0, 0.0)], 1e-5);
                let numeric: Vec<f64> =
                    (0..params.len()).map(|i| (at(i, H) - at(i, -H)) / (2.0 * H)).collect();
                close(&actor.weights.grad_to_host(), &numeric, 1e-4);
            }
        }
    }

    #[test]
    fn densities_of_actions_integrate_to_one() {
        for (mean, log_std) in [(0.0f32, 0.0f32), (0.7, -1.5), (-1.2, 0.3)] {
            let mut actor =
                Squashed::new(1, 1, &[], Activation::Tanh, Init::Pytorch, &mut rng(0), &Device::cpu());
            actor.weights.set(vec![0.0, 0.0, mean, log_std]);
            // Noise on a grid: actions side by side.
            const N: usize = 40_001;
            let noise: Vec<f32> = (0..N).map(|i| (i as f32 / (N - 1) as f32 - 0.5) * 16.0).collect();
            let mut draw = Draw::with_noise(noise);
            actor.draw(&vec![1.0; N], &mut draw);
            let a = |i: usize| (f64::from(draw.u[i])).tanh();
            let p = |i: usize| f64::from(draw.log_probs[i]).exp();
            let total: f64 = (1..N).map(|i| 0.5 * (p(i) + p(i - 1)) * (a(i) - a(i - 1))).sum();
            assert!((total - 1.0).abs() < 1e-3, "{total} for {mean}, {log_std}");
        }
        assert!((-60..=60).all(|u| ln_slope(u as f32).is_finite()), "however far out");
    }

    #[test]
    fn the_divergence_agrees_with_monte_carlo() {
        let (actor, old) = (linear(&Device::cpu(), KINDS[0], 1), linear(&Device::cpu(), KINDS[0], 2));
        const N: usize = 100_000;
        let obs: Vec<f32> = normals(O, 3).into_iter().cycle().take(N * O).collect();
        let mut draw = Draw::with_noise(normals(N * A, 4));
        actor.draw(&obs, &mut draw);
        old.remember(&obs, &mut draw);
        let row = |i: usize| f64::from(draw.log_probs[i] - Row::new(&draw, i, A).log_prob_old(KINDS[0]));
        let mean = (0..N).map(row).sum::<f64>() / N as f64;
        let variance = (0..N).map(|i| (row(i) - mean).powi(2)).sum::<f64>() / N as f64;
        let exact = actor.kl(&draw);
        assert!(exact > 0.1 && (mean - exact).abs() < 4.0 * (variance / N as f64).sqrt(), "{mean}, {exact}");
    }

    #[test]
    fn a_deviation_that_is_cut_off_has_no_gradient() {
        let device = Device::cpu();
        let mut actor = Squashed::new(1, 1, &[], Activation::Tanh, Init::Pytorch, &mut rng(0), &device);
        for (raw, cut) in [(1.9, false), (2.1, true), (-19.0, false), (-20.5, true)] {
            actor.weights.set(vec![0.0, 0.0, 0.1, raw]);
            let mut draw = Draw::with_noise(vec![0.5]);
            actor.draw(&[1.0], &mut draw);
            actor.grad(&[1.0], &mut draw, &[0.0], &[0.0], &Everything);
            assert_eq!(actor.weights.grad_to_host()[3] == 0.0, cut, "{raw}");
            assert_eq!(draw.std[0], exp(f32::clamp(raw, -20.0, 2.0)));
        }
    }

    #[test]
    #[should_panic(expected = "assertion")]
    fn a_row_of_numbers_for_each_row_is_refused() {
        let mut actor = linear(&Device::cpu(), KINDS[0], 1);
        let mut draw = Draw::with_noise(normals(3 * A, 4));
        actor.draw(&normals(3 * O, 3), &mut draw);
        // Q as [B, B], as the broadcast of [B] and [B, 1] gives it.
        actor.grad(&normals(3 * O, 3), &mut draw, &[0.0; 9], &[0.0; 6], &Everything);
    }
}
