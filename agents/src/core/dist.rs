//! Action distributions: exact log-probabilities, entropies and KL divergences in closed form.
//!
//! A [`Head`] says which distribution an action space needs and how to sample it on the host;
//! a [`Dist`] is a batch of distributions as tensors, on or off the autodiff graph.

use std::ops::Range;

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, softmax};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use steadfast_envs::{Rng, Space};

use super::device::Device;
use crate::Acting;

/// ln(2π)
const LN_2PI: f64 = 1.837_877_066_409_345_6;

/// Logit of a choice that a mask forbids: its probability is exactly 0, and differences of two such logits are finite.
pub const FORBIDDEN: f32 = -1e9;

/// The kind of distribution that an action space needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// Independent normals with a standard deviation that does not depend on the state.
    Gaussian {
        /// Action dimensions, A.
        dim: usize,
    },
    /// Independent choices, one of `sizes[i]` each; one entry for a plain discrete space.
    Categorical {
        /// Number of options of each choice.
        sizes: Vec<usize>,
    },
    /// Independent heads one after another: outputs, extra parameters and actions of the first, then of the second, …
    Product(Vec<Self>),
}

/// Where a part of a product lies.
#[derive(Clone)]
pub struct Place {
    /// Among the network's outputs, `[K]`.
    pub outputs: Range<usize>,
    /// Among the log-stds, `[E]`.
    pub extra: Range<usize>,
    /// Among the numbers of an action, `[action_len]`.
    pub action: Range<usize>,
}

impl Head {
    /// The head for an action space.
    pub fn for_space(space: &Space) -> Self {
        match space {
            Space::Box { low, .. } => Self::Gaussian { dim: low.len() },
            Space::Discrete(n) => Self::Categorical { sizes: vec![*n] },
            Space::MultiDiscrete(sizes) => Self::Categorical { sizes: sizes.clone() },
            Space::Hybrid(parts) => {
                Self::Product(parts.iter().flat_map(|p| Self::for_space(p).into_parts()).collect())
            }
        }
    }

    fn into_parts(self) -> Vec<Self> {
        match self {
            Self::Product(parts) => parts,
            head => vec![head],
        }
    }

    /// The heads of a product, none of them a product; of another head itself.
    pub fn parts(&self) -> impl Iterator<Item = (&Self, Place)> {
        let parts = match self {
            Self::Product(parts) => parts.as_slice(),
            head => std::slice::from_ref(head),
        };
        let after = |range: &mut Range<usize>, len: usize| *range = range.end..range.end + len;
        parts.iter().scan((0..0, 0..0, 0..0), move |(outputs, extra, action), part| {
            after(outputs, part.outputs());
            after(extra, part.extra_params());
            after(action, part.action_len());
            Some((part, Place { outputs: outputs.clone(), extra: extra.clone(), action: action.clone() }))
        })
    }

    /// Flags of a mask of one action: one for each option of each choice.
    pub fn mask_len(&self) -> usize {
        self.outputs() - self.extra_params()
    }

    /// Puts the choices that `masks` `[B, mask_len]` forbid out of reach of `outputs` `[B, K]`; an empty mask forbids
    /// nothing.
    pub fn forbid(&self, masks: &[bool], outputs: &mut [f32]) {
        if masks.is_empty() {
            return;
        }
        for (mask, outputs) in
            masks.chunks_exact(self.mask_len()).zip(outputs.chunks_exact_mut(self.outputs()))
        {
            let mut flags = mask.iter();
            for (part, place) in self.parts() {
                if let Self::Categorical { .. } = part {
                    let logits = outputs[place.outputs].iter_mut().zip(&mut flags);
                    logits.filter(|(_, allowed)| !**allowed).for_each(|(logit, _)| *logit = FORBIDDEN);
                }
            }
        }
    }

    /// What [`Self::forbid`] does, as a matrix to be added, `[B, K]`; none for an empty mask.
    pub fn forbidden(&self, masks: &[bool], device: &Device) -> Option<Tensor<2>> {
        let rows = masks.len() / self.mask_len().max(1);
        let mut bias = vec![0.0; rows * self.outputs()];
        self.forbid(masks, &mut bias);
        (rows > 0).then(|| device.matrix(bias, self.outputs()))
    }

    /// Network outputs that the distribution needs, K.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Gaussian { dim } => *dim,
            Self::Categorical { sizes } => sizes.iter().sum(),
            Self::Product(parts) => parts.iter().map(Self::outputs).sum(),
        }
    }

    /// Parameters beside the network's outputs: the log standard deviations.
    pub fn extra_params(&self) -> usize {
        match self {
            Self::Gaussian { dim } => *dim,
            Self::Categorical { .. } => 0,
            Self::Product(parts) => parts.iter().map(Self::extra_params).sum(),
        }
    }

    /// Numbers in one action.
    pub fn action_len(&self) -> usize {
        match self {
            Self::Gaussian { dim } => *dim,
            Self::Categorical { sizes } => sizes.len(),
            Self::Product(parts) => parts.iter().map(Self::action_len).sum(),
        }
    }

    /// The distributions for network outputs `[B, K]` and extra parameters `[1, E]`.
    pub fn dist(&self, outputs: Tensor<2>, extra: Option<Tensor<2>>) -> Dist {
        match (self, extra) {
            (Self::Gaussian { .. }, Some(log_std)) => Dist::Gaussian { mean: outputs, log_std },
            (Self::Gaussian { .. }, None) => Dist::Gaussian { log_std: outputs.zeros_like(), mean: outputs },
            (Self::Categorical { sizes }, _) => Dist::Categorical { logits: outputs, sizes: sizes.clone() },
            (Self::Product(_), extra) => {
                let part = |(part, place): (&Self, Place)| {
                    let extra = extra.as_ref().filter(|_| !place.extra.is_empty());
                    let extra = extra.map(|e| columns(e, &place.extra));
                    (part.dist(columns(&outputs, &place.outputs), extra), place)
                };
                Dist::Product(self.parts().map(part).collect())
            }
        }
    }

    /// Draws one action `[action_len]` on the host from one row of outputs `[K]`; `std` and `noise` `[E]` hold the
    /// deviations and standard normal numbers of a Gaussian.
    pub fn sample(&self, outputs: &[f32], std: &[f32], noise: &[f32], rng: &mut Rng, action: &mut [f32]) {
        match self {
            Self::Gaussian { .. } => {
                for d in 0..action.len() {
                    action[d] = outputs[d] + std[d] * noise[d];
                }
            }
            Self::Categorical { sizes } => {
                for_each_choice(sizes, outputs, |i, logits| {
                    // Inverse of the distribution function at a uniform number.
                    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let weight = |l: f32| f64::from(l - max).exp();
                    let total: f64 = logits.iter().map(|l| weight(*l)).sum();
                    let mut rest = rng.random::<f64>() * total;
                    let below = |l: &&f32| {
                        rest -= weight(**l);
                        rest >= 0.0
                    };
                    let drawn = logits.iter().take_while(below).count();
                    // Rounding may leave a rest at the end: the last option that is allowed.
                    let last = logits.iter().rposition(|l| *l > 0.5 * FORBIDDEN).unwrap_or(logits.len() - 1);
                    action[i] = drawn.min(last) as f32;
                });
            }
            Self::Product(_) => {
                for (part, Place { outputs: o, extra: e, action: a }) in self.parts() {
                    part.sample(&outputs[o], &std[e.clone()], &noise[e], rng, &mut action[a]);
                }
            }
        }
    }

    /// Actions `[rows, action_len]`, picked as `how` says, for outputs `[rows, K]`; `std` `[E]` holds the deviations of a
    /// Gaussian.
    pub fn pick(&self, outputs: &[f32], std: &[f32], how: Acting, rng: &mut Rng, actions: &mut [f32]) {
        let rows = outputs.chunks_exact(self.outputs()).zip(actions.chunks_exact_mut(self.action_len()));
        match how {
            Acting::Greedy => rows.for_each(|(row, action)| self.greedy(row, action)),
            Acting::Sampled => {
                let mut noise = vec![0.0; self.extra_params()];
                rows.for_each(|(row, action)| {
                    noise.fill_with(|| StandardNormal.sample(rng));
                    self.sample(row, std, &noise, rng, action);
                });
            }
        }
    }

    /// The most likely action `[action_len]` for one row of outputs `[K]`.
    pub fn greedy(&self, outputs: &[f32], action: &mut [f32]) {
        match self {
            Self::Gaussian { .. } => action.copy_from_slice(outputs),
            Self::Categorical { sizes } => for_each_choice(sizes, outputs, |i, logits| {
                let best = (0..logits.len()).rev().max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
                action[i] = best.unwrap_or(0) as f32;
            }),
            Self::Product(_) => {
                for (part, place) in self.parts() {
                    part.greedy(&outputs[place.outputs], &mut action[place.action]);
                }
            }
        }
    }
}

fn columns(matrix: &Tensor<2>, range: &Range<usize>) -> Tensor<2> {
    matrix.clone().narrow(1, range.start, range.len())
}

fn for_each_choice(sizes: &[usize], logits: &[f32], mut f: impl FnMut(usize, &[f32])) {
    let mut start = 0;
    for (i, n) in sizes.iter().enumerate() {
        f(i, &logits[start..start + n]);
        start += n;
    }
}

/// A batch of distributions.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "few live at a time, and tensors are handles")]
pub enum Dist {
    /// Normal with diagonal covariance.
    Gaussian {
        /// Means, `[B, A]`.
        mean: Tensor<2>,
        /// Log standard deviations, `[1, A]`.
        log_std: Tensor<2>,
    },
    /// Independent categoricals.
    Categorical {
        /// Unnormalised log-probabilities of all choices, one after another, `[B, K]`.
        logits: Tensor<2>,
        /// Number of options of each choice.
        sizes: Vec<usize>,
    },
    /// Independent distributions, and where each lies.
    Product(Vec<(Dist, Place)>),
}

impl Dist {
    /// ln π(a|s), `[B]`, for actions `[B, action_len]`.
    pub fn log_prob(&self, actions: &Tensor<2>) -> Tensor<1> {
        match self {
            Self::Gaussian { mean, log_std } => {
                let z = (actions.clone() - mean.clone()) * (-log_std.clone()).exp(); // [B, A]
                let per_dim = z.square() * -0.5 - log_std.clone() - 0.5 * LN_2PI;
                rows(per_dim.sum_dim(1))
            }
            Self::Categorical { logits, sizes } => {
                let mut start = 0;
                let per_choice = sizes.iter().enumerate().map(|(i, n)| {
                    let log_p = log_softmax(logits.clone().narrow(1, start, *n), 1); // [B, n]
                    start += n;
                    log_p.gather(1, actions.clone().narrow(1, i, 1).int()) // [B, 1]
                });
                rows(total(per_choice))
            }
            Self::Product(parts) => {
                sum(parts.iter().map(|(d, at)| d.log_prob(&columns(actions, &at.action))))
            }
        }
    }

    /// Entropy in nats, `[B]`, or `[1]` where it is the same for all states (Gaussian).
    pub fn entropy(&self) -> Tensor<1> {
        match self {
            Self::Gaussian { log_std, .. } => rows((log_std.clone() + 0.5 * (LN_2PI + 1.0)).sum_dim(1)),
            Self::Categorical { .. } => rows(total(
                self.choices().into_iter().map(|l| (-log_softmax(l.clone(), 1) * softmax(l, 1)).sum_dim(1)),
            )),
            Self::Product(parts) => sum(parts.iter().map(|(d, _)| d.entropy())),
        }
    }

    /// KL(self ‖ other) in nats, `[B]`.
    pub fn kl(&self, other: &Self) -> Tensor<1> {
        match (self, other) {
            (Self::Gaussian { mean, log_std }, Self::Gaussian { mean: mean_q, log_std: log_std_q }) => {
                // Σ ln(σ_q/σ_p) + (σ_p² + (μ_p − μ_q)²) / (2 σ_q²) − ½
                let ln_ratio = log_std_q.clone() - log_std.clone(); // [1, A]
                let variance_ratio = (ln_ratio.clone() * -2.0).exp();
                let distance = (mean.clone() - mean_q.clone()) * (-log_std_q.clone()).exp(); // [B, A]
                rows(((variance_ratio + distance.square()) * 0.5 + ln_ratio - 0.5).sum_dim(1))
            }
            (Self::Product(p), Self::Product(q)) => sum(p.iter().zip(q).map(|((p, _), (q, _))| p.kl(q))),
            _ => {
                // Heads are independent: KL adds over them. Σ p (ln p − ln q)
                let pairs = self.choices().into_iter().zip(other.choices());
                rows(total(pairs.map(|(p, q)| {
                    ((log_softmax(p.clone(), 1) - log_softmax(q, 1)) * softmax(p, 1)).sum_dim(1)
                })))
            }
        }
    }

    /// Product of the Fisher matrix of these distributions with tangents of their parameters: (`d_outputs` `[B, K]`,
    /// `d_extra` `[1, E]`) to the same shapes. The matrix is 1/σ² for a Gaussian's mean, 2 for its
    /// log-std (summed over the batch, hence the factor B), and diag(p) − p pᵀ for logits.
    pub fn fisher(&self, d_outputs: Tensor<2>, d_extra: Option<Tensor<2>>) -> (Tensor<2>, Option<Tensor<2>>) {
        match self {
            Self::Gaussian { log_std, .. } => {
                let batch = d_outputs.dims()[0] as f64;
                (d_outputs * (log_std.clone() * -2.0).exp(), d_extra.map(|d| d * (2.0 * batch)))
            }
            Self::Categorical { sizes, .. } => {
                let mut start = 0;
                let parts = self.choices().into_iter().zip(sizes).map(|(logits, n)| {
                    let p = softmax(logits, 1); // [B, n]
                    let d = d_outputs.clone().narrow(1, start, *n);
                    start += n;
                    let mean = (p.clone() * d.clone()).sum_dim(1); // [B, 1]
                    p * (d - mean)
                });
                (Tensor::cat(parts.collect(), 1), None)
            }
            Self::Product(parts) => {
                let (mut outputs, mut extras) = (Vec::new(), Vec::new());
                for (dist, at) in parts {
                    let extra = d_extra.as_ref().filter(|_| !at.extra.is_empty());
                    let (output, extra) =
                        dist.fisher(columns(&d_outputs, &at.outputs), extra.map(|e| columns(e, &at.extra)));
                    outputs.push(output);
                    extras.extend(extra);
                }
                (Tensor::cat(outputs, 1), (!extras.is_empty()).then(|| Tensor::cat(extras, 1)))
            }
        }
    }

    /// Rows `indices` of the batch.
    pub fn select(&self, indices: &Tensor<1, burn::tensor::Int>) -> Self {
        match self {
            Self::Gaussian { mean, log_std } => {
                Self::Gaussian { mean: mean.clone().select(0, indices.clone()), log_std: log_std.clone() }
            }
            Self::Categorical { logits, sizes } => {
                Self::Categorical { logits: logits.clone().select(0, indices.clone()), sizes: sizes.clone() }
            }
            Self::Product(parts) => Self::each(parts, |d| d.select(indices)),
        }
    }

    /// The same distributions as constants of an autodiff graph.
    pub fn constant(&self) -> Self {
        match self {
            Self::Gaussian { mean, log_std } => {
                Self::Gaussian { mean: mean.clone().autodiff(), log_std: log_std.clone().autodiff() }
            }
            Self::Categorical { logits, sizes } => {
                Self::Categorical { logits: logits.clone().autodiff(), sizes: sizes.clone() }
            }
            Self::Product(parts) => Self::each(parts, Self::constant),
        }
    }

    fn each(parts: &[(Self, Place)], f: impl Fn(&Self) -> Self) -> Self {
        Self::Product(parts.iter().map(|(dist, place)| (f(dist), place.clone())).collect())
    }

    /// The logits of each choice, `[B, n]`; none of other distributions.
    fn choices(&self) -> Vec<Tensor<2>> {
        match self {
            Self::Gaussian { .. } | Self::Product(_) => Vec::new(),
            Self::Categorical { logits, sizes } => logits.clone().split_with_sizes(sizes.clone(), 1),
        }
    }
}

/// `[B, 1]` to `[B]`.
fn rows(column: Tensor<2>) -> Tensor<1> {
    let [rows, _] = column.dims();
    column.reshape([rows])
}

/// Sum of `[B]` columns, of which some may be `[1]`, at least one.
fn sum(columns: impl Iterator<Item = Tensor<1>>) -> Tensor<1> {
    let sum = columns.reduce(|a, b| a + b);
    sum.unwrap_or_else(|| unreachable!("a product has parts"))
}

/// Sum of `[B, 1]` columns, at least one.
fn total(columns: impl Iterator<Item = Tensor<2>>) -> Tensor<2> {
    Tensor::cat(columns.collect(), 1).sum_dim(1)
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::super::device::to_host;
    use super::super::testing::{close, normals, rng};
    use super::*;

    /// One distribution in `f64`, computed the textbook way: the second opinion on everything above.
    #[derive(Clone)]
    struct Reference {
        head: Head,
        /// Means, or logits.
        outputs: Vec<f64>,
        log_std: Vec<f64>,
    }

    impl Reference {
        fn new(head: Head, index: u64) -> Self {
            let draw = |n, i, scale| normals(n, i).iter().map(|x| f64::from(scale * x)).collect();
            let (outputs, extra) = (head.outputs(), head.extra_params());
            Self { head, outputs: draw(outputs, 2 * index, 1.0), log_std: draw(extra, 2 * index + 1, 0.4) }
        }

        /// ln p of all options, choice by choice.
        fn log_probs(&self) -> Vec<Vec<f64>> {
            let Head::Categorical { sizes } = &self.head else { return Vec::new() };
            let mut rest = self.outputs.as_slice();
            let choice = |n: &usize| {
                let (logits, tail) = rest.split_at(*n);
                rest = tail;
                let total = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
                logits.iter().map(|l| l - total).collect()
            };
            sizes.iter().map(choice).collect()
        }

        /// The parts of a product, with where they lie.
        fn parts(&self) -> Vec<(Self, Place)> {
            let part = |(head, at): (&Head, Place)| {
                let log_std = self.log_std[at.extra.clone()].to_vec();
                (Self { head: head.clone(), outputs: self.outputs[at.outputs.clone()].to_vec(), log_std }, at)
            };
            self.head.parts().map(part).collect()
        }

        fn log_prob(&self, action: &[f32]) -> f64 {
            let normal = |d: usize| {
                let z = (f64::from(action[d]) - self.outputs[d]) / self.log_std[d].exp();
                -0.5 * z * z - self.log_std[d] - 0.5 * (2.0 * std::f64::consts::PI).ln()
            };
            match self.head {
                Head::Gaussian { dim } => (0..dim).map(normal).sum(),
                Head::Categorical { .. } => {
                    self.log_probs().iter().zip(action).map(|(p, a)| p[*a as usize]).sum()
                }
                Head::Product(_) => {
                    self.parts().iter().map(|(p, at)| p.log_prob(&action[at.action.clone()])).sum()
                }
            }
        }

        fn entropy(&self) -> f64 {
            let e = std::f64::consts::E;
            let normal = |s: &f64| 0.5 * (2.0 * std::f64::consts::PI * e * (2.0 * s).exp()).ln();
            match self.head {
                Head::Gaussian { .. } => self.log_std.iter().map(normal).sum(),
                Head::Categorical { .. } => self.log_probs().iter().flatten().map(|l| -l.exp() * l).sum(),
                Head::Product(_) => self.parts().iter().map(|(p, _)| p.entropy()).sum(),
            }
        }

        /// KL(self ‖ q)
        fn kl(&self, q: &Self) -> f64 {
            let normal = |d: usize| {
                let (s, t) = (self.log_std[d].exp(), q.log_std[d].exp());
                let distance = self.outputs[d] - q.outputs[d];
                (t / s).ln() + (s * s + distance * distance) / (2.0 * t * t) - 0.5
            };
            match self.head {
                Head::Gaussian { dim } => (0..dim).map(normal).sum(),
                Head::Categorical { .. } => {
                    let (p, q) = (self.log_probs(), q.log_probs());
                    p.iter().flatten().zip(q.iter().flatten()).map(|(p, q)| p.exp() * (p - q)).sum()
                }
                Head::Product(_) => self.parts().iter().zip(q.parts()).map(|((p, _), (q, _))| p.kl(&q)).sum(),
            }
        }

        fn extra(&self) -> Option<Tensor<2>> {
            let n = self.log_std.len();
            (n > 0).then(|| Device::cpu().matrix(f32s(&self.log_std), n))
        }

        /// The same, `rows` times, as tensors.
        fn dist(&self, rows: usize) -> Dist {
            let outputs = Device::cpu().matrix(f32s(&self.outputs).repeat(rows), self.outputs.len());
            self.head.dist(outputs, self.extra())
        }

        /// `n` actions, as an agent would draw them, `[n, action_len]`.
        fn samples(&self, n: usize, index: u64) -> Vec<f32> {
            let (mut rng, k) = (rng(index), self.head.action_len());
            let noise = normals(n * k, index + 1000);
            let (outputs, std) =
                (f32s(&self.outputs), self.log_std.iter().map(|l| l.exp() as f32).collect::<Vec<f32>>());
            let mut actions = vec![0.0; n * k];
            for (action, noise) in actions.chunks_mut(k).zip(noise.chunks(k)) {
                self.head.sample(&outputs, &std, noise, &mut rng, action);
            }
            actions
        }
    }

    fn f32s(x: &[f64]) -> Vec<f32> {
        x.iter().map(|x| *x as f32).collect()
    }

    fn heads() -> Vec<Head> {
        let choices = |sizes: &[usize]| Head::Categorical { sizes: sizes.to_vec() };
        vec![
            Head::Gaussian { dim: 1 },
            Head::Gaussian { dim: 3 },
            choices(&[2]),
            choices(&[4]),
            choices(&[3, 1, 2]),
            Head::Product(vec![Head::Gaussian { dim: 2 }, choices(&[3, 2]), Head::Gaussian { dim: 1 }]),
        ]
    }

    /// Every action of a categorical head, one after another.
    fn all_actions(sizes: &[usize]) -> Vec<f32> {
        let count: usize = sizes.iter().product();
        let digits = |mut i: usize| {
            let digit = move |n: &usize| {
                let digit = i % n;
                i /= n;
                digit as f32
            };
            sizes.iter().map(digit).collect::<Vec<f32>>()
        };
        (0..count).flat_map(digits).collect()
    }

    fn log_probs(dist: &Dist, actions: &[f32], action_len: usize) -> Vec<f32> {
        to_host(dist.log_prob(&Device::cpu().matrix(actions.to_vec(), action_len)))
    }

    /// Mean and standard error.
    fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
        let n = values.clone().count() as f64;
        let mean = values.clone().sum::<f64>() / n;
        (mean, (values.map(|x| (x - mean).powi(2)).sum::<f64>() / n / n).sqrt())
    }

    #[test]
    fn log_probs_follow_the_closed_form() {
        for (i, head) in heads().into_iter().enumerate() {
            let k = head.action_len();
            // Rows that differ, so that a mix-up of rows shows.
            let refs: Vec<Reference> = (0..5)
                .map(|row| Reference {
                    log_std: Reference::new(head.clone(), i as u64).log_std,
                    ..Reference::new(head.clone(), 10 * row + i as u64)
                })
                .collect();
            let actions: Vec<f32> = refs.iter().flat_map(|r| r.samples(1, i as u64)).collect();
            let outputs: Vec<f32> = refs.iter().flat_map(|r| &r.outputs).map(|x| *x as f32).collect();
            let dist = head.dist(Device::cpu().matrix(outputs, head.outputs()), refs[0].extra());
            let expected: Vec<f64> = refs.iter().zip(actions.chunks(k)).map(|(r, a)| r.log_prob(a)).collect();
            close(&log_probs(&dist, &actions, k), &expected, 1e-5);
        }
    }

    #[test]
    fn probabilities_sum_to_one() {
        for head in heads() {
            let reference = Reference::new(head.clone(), 7);
            let sum = match &head {
                Head::Categorical { sizes } => {
                    let actions = all_actions(sizes);
                    let n = actions.len() / sizes.len();
                    log_probs(&reference.dist(n), &actions, sizes.len())
                        .iter()
                        .map(|l| f64::from(*l).exp())
                        .sum::<f64>()
                }
                Head::Gaussian { dim } => {
                    // Midpoints of a grid of ±8 σ in each dimension.
                    const POINTS: usize = 28;
                    let cell: f64 =
                        reference.log_std.iter().map(|s| s.exp() * 16.0 / POINTS as f64).product();
                    let mut grid = all_actions(&vec![POINTS; *dim]);
                    for row in grid.chunks_mut(*dim) {
                        for d in 0..*dim {
                            let z = (f64::from(row[d]) + 0.5) * 16.0 / POINTS as f64 - 8.0;
                            row[d] = (reference.outputs[d] + reference.log_std[d].exp() * z) as f32;
                        }
                    }
                    let densities = log_probs(&reference.dist(1), &grid, *dim);
                    densities.iter().map(|l| f64::from(*l).exp()).sum::<f64>() * cell
                }
                // Its log-probabilities add up, as `log_probs_follow_the_closed_form` says.
                Head::Product(_) => continue,
            };
            assert!((sum - 1.0).abs() < 1e-5, "{head:?}: {sum}");
        }
    }

    #[test]
    fn entropy_is_the_closed_form_and_the_mean_surprise_of_samples() {
        const N: usize = 40_000;
        for (i, head) in heads().into_iter().enumerate() {
            let reference = Reference::new(head.clone(), 20 + i as u64);
            close(&to_host(reference.dist(1).entropy()), &[reference.entropy()], 1e-5);
            let samples = reference.samples(N, i as u64);
            let surprise = log_probs(&reference.dist(N), &samples, head.action_len());
            let (mean, error) = moments(surprise.iter().map(|l| -f64::from(*l)));
            assert!((mean - reference.entropy()).abs() <= 4.0 * error + 1e-6, "{head:?}: {mean} ± {error}");
        }
    }

    #[test]
    fn kl_is_the_closed_form_and_the_mean_log_ratio_of_samples_in_both_directions() {
        const N: usize = 40_000;
        for (i, head) in heads().into_iter().enumerate() {
            let p = Reference::new(head.clone(), 40 + i as u64);
            // A pair whose two directions differ, so that a swap shows.
            let lopsided = |q: &Reference| (p.kl(q) - q.kl(&p)).abs() > 0.1 * p.kl(q);
            let q = (50..).map(|j| Reference::new(head.clone(), j)).find(lopsided).unwrap();
            for (p, q) in [(&p, &q), (&q, &p)] {
                let kl = to_host(p.dist(1).kl(&q.dist(1)));
                close(&kl, &[p.kl(q)], 1e-5);
                let samples = p.samples(N, i as u64);
                let of = |r: &Reference| log_probs(&r.dist(N), &samples, head.action_len());
                let ratios: Vec<f64> = of(p).iter().zip(of(q)).map(|(p, q)| f64::from(p - q)).collect();
                let (mean, error) = moments(ratios.iter().copied());
                assert!((mean - p.kl(q)).abs() <= 4.0 * error, "{head:?}: {mean} ± {error}, not {}", p.kl(q));
            }
        }
    }

    #[test]
    fn kl_adds_over_heads_and_vanishes_between_equals() {
        for (i, head) in heads().into_iter().enumerate() {
            let (p, q) = (Reference::new(head.clone(), 60), Reference::new(head.clone(), 61 + i as u64));
            assert!(to_host(p.dist(3).kl(&p.dist(3))).iter().all(|kl| kl.abs() < 1e-6), "{head:?}");
            let sizes = match &head {
                Head::Gaussian { dim } => vec![1; *dim],
                Head::Categorical { sizes } => sizes.clone(),
                Head::Product(_) => {
                    let parts = p.parts().into_iter().zip(q.parts());
                    let sum = parts.map(|((p, _), (q, _))| to_host(p.dist(1).kl(&q.dist(1)))[0]);
                    close(&to_host(p.dist(1).kl(&q.dist(1))), &[sum.sum::<f32>()], 1e-5);
                    continue;
                }
            };
            let mut start = 0;
            let mut sum = 0.0;
            for n in sizes {
                let part = |r: &Reference| Reference {
                    head: match head {
                        Head::Gaussian { .. } => Head::Gaussian { dim: 1 },
                        _ => Head::Categorical { sizes: vec![n] },
                    },
                    outputs: r.outputs[start..start + n].to_vec(),
                    log_std: r.log_std.get(start..start + n).unwrap_or_default().to_vec(),
                };
                sum += to_host(part(&p).dist(1).kl(&part(&q).dist(1)))[0];
                start += n;
            }
            close(&to_host(p.dist(1).kl(&q.dist(1))), &[sum], 1e-5);
        }
    }

    /// The Hessian of either KL divergence at equality is the Fisher matrix.
    #[test]
    fn fisher_is_the_hessian_of_the_kl() {
        const H: f64 = 1e-3;
        for (i, head) in heads().into_iter().enumerate() {
            let (k, e) = (head.outputs(), head.extra_params());
            let p = Reference::new(head.clone(), 70 + i as u64);
            let moved = |steps: &[(usize, f64)]| {
                let mut q = p.clone();
                for (j, h) in steps {
                    if *j < k { q.outputs[*j] += h } else { q.log_std[j - k] += h }
                }
                q
            };
            for to in 0..k + e {
                let unit = |n: usize, at: Option<usize>| {
                    let values = (0..n).map(|j| f32::from(u8::from(Some(j) == at))).collect();
                    Device::cpu().matrix(values, n)
                };
                let extra = (e > 0).then(|| unit(e, to.checked_sub(k)));
                let (d_outputs, d_extra) = p.dist(1).fisher(unit(k, (to < k).then_some(to)), extra);
                let column: Vec<f32> =
                    to_host(d_outputs).into_iter().chain(d_extra.into_iter().flat_map(to_host)).collect();
                for forward in [true, false] {
                    let kl = |a: f64, from: usize, b: f64| {
                        let q = moved(&[(from, a * H), (to, b * H)]);
                        if forward { p.kl(&q) } else { q.kl(&p) }
                    };
                    let numeric: Vec<f64> = (0..k + e)
                        .map(|from| {
                            let cross = kl(1.0, from, 1.0) - kl(1.0, from, -1.0) - kl(-1.0, from, 1.0);
                            (cross + kl(-1.0, from, -1.0)) / (4.0 * H * H)
                        })
                        .collect();
                    close(&column, &numeric, 1e-4);
                }
            }
        }
    }

    /// F is summed over the rows; only the log-std, which all rows share, sees how many there are.
    #[test]
    fn fisher_counts_rows() {
        let p = Reference::new(Head::Gaussian { dim: 2 }, 3);
        let device = Device::cpu();
        let (mean, log_std) =
            p.dist(5).fisher(device.matrix(vec![1.0; 10], 2), Some(device.matrix(vec![1.0; 2], 2)));
        close(&to_host(log_std.unwrap()), &[10.0, 10.0], 1e-6);
        let per_row: Vec<f64> = p.log_std.iter().map(|s| (-2.0 * s).exp()).collect();
        close(&to_host(mean), &per_row.repeat(5), 1e-5);
    }

    #[test]
    fn sampled_frequencies_are_the_probabilities() {
        const N: usize = 40_000;
        let sizes = vec![3, 4];
        let reference = Reference::new(Head::Categorical { sizes: sizes.clone() }, 80);
        let samples = reference.samples(N, 0);
        // Joint frequencies: a dependence between the two choices would show as well.
        let chi_square: f64 = all_actions(&sizes)
            .chunks(2)
            .map(|action| {
                let expected = N as f64 * reference.log_prob(action).exp();
                let seen = samples.chunks(2).filter(|a| a == &action).count() as f64;
                (seen - expected).powi(2) / expected
            })
            .sum();
        assert!(chi_square < 31.3, "{chi_square}: above the 99.9 % point of 11 degrees of freedom");

        // Of a Gaussian, mean and deviation.
        let head = Head::Gaussian { dim: 2 };
        let mut actions = vec![0.0; 2 * N];
        head.pick(&[1.0, -2.0].repeat(N), &[0.5, 3.0], Acting::Sampled, &mut rng(1), &mut actions);
        for (d, (mean, std)) in [(1.0, 0.5), (-2.0, 3.0)].into_iter().enumerate() {
            let z: Vec<f64> = actions.chunks(2).map(|a| (f64::from(a[d]) - mean) / std).collect();
            let (first, second) = (z.iter().sum::<f64>(), z.iter().map(|z| z * z - 1.0).sum::<f64>());
            let n = (N as f64).sqrt();
            assert!((first / n).abs() < 3.3 && (second / n).abs() < 3.3 * 2f64.sqrt(), "{first} {second}");
        }

        let sure = Head::Categorical { sizes: vec![3] };
        let mut action = [9.0];
        for i in 0..1000 {
            sure.sample(&[-200.0, 60.0, -200.0], &[], &[], &mut rng(i), &mut action);
            assert_eq!(action, [1.0], "logits far apart leave one choice");
        }
    }

    /// Forbidding is leaving out: the distribution over what is left, with the same logits.
    #[test]
    fn a_masked_distribution_is_that_of_the_options_left() {
        let (p, q) = (normals(5, 1), normals(5, 2));
        let head = Head::Product(vec![Head::Gaussian { dim: 1 }, Head::Categorical { sizes: vec![4] }]);
        let small = Head::Product(vec![Head::Gaussian { dim: 1 }, Head::Categorical { sizes: vec![2] }]);
        let mask = [false, true, false, true];
        let dist = |head: &Head, outputs: &[f32]| {
            let device = Device::cpu();
            head.dist(device.matrix(outputs.to_vec(), outputs.len()), Some(device.matrix(vec![0.3], 1)))
        };
        let masked = |outputs: &[f32]| {
            let mut outputs = outputs.to_vec();
            head.forbid(&mask, &mut outputs);
            dist(&head, &outputs)
        };
        let left = |outputs: &[f32]| dist(&small, &[outputs[0], outputs[2], outputs[4]]);
        let log_prob = |d: &Dist, action: [f32; 2]| log_probs(d, &action, 2);
        close(&log_prob(&masked(&p), [0.7, 3.0]), &log_prob(&left(&p), [0.7, 1.0]), 1e-6);
        close(&to_host(masked(&p).entropy()), &to_host(left(&p).entropy()), 1e-6);
        close(&to_host(masked(&p).kl(&masked(&q))), &to_host(left(&p).kl(&left(&q))), 1e-6);
        assert!(log_prob(&masked(&p), [0.7, 2.0])[0] < -1e8);
    }

    /// Logits of any size, also where a number drawn lies at the very end of the distribution.
    #[test]
    fn no_illegal_action_is_ever_taken() {
        use proptest::prelude::*;
        let choice = prop::collection::vec((prop::bool::ANY, -100.0f32..100.0), 1..6);
        let choices = prop::collection::vec(choice, 1..4);
        proptest!(ProptestConfig::with_cases(2000), |(choices in choices, seed in 0u64..1000)| {
            let mut mask: Vec<bool> = Vec::new();
            let mut outputs = vec![0.5];
            for options in &choices {
                let allowed = options.iter().any(|(allowed, _)| *allowed);
                mask.extend(options.iter().enumerate().map(|(i, (flag, _))| *flag || !allowed && i == 0));
                outputs.extend(options.iter().map(|(_, logit)| logit));
            }
            let sizes: Vec<usize> = choices.iter().map(Vec::len).collect();
            let space = Space::Hybrid(vec![Space::uniform(1, -9.0, 9.0), Space::MultiDiscrete(sizes)]);
            let head = Head::for_space(&space);
            head.forbid(&mask, &mut outputs);
            let mut action = vec![0.0; head.action_len()];
            let mut take = |rng: Option<&mut steadfast_envs::Rng>| {
                match rng {
                    Some(rng) => head.sample(&outputs, &[1.0], &[0.1], rng, &mut action),
                    None => head.greedy(&outputs, &mut action),
                }
                action.iter().map(|a| f64::from(*a)).collect::<Vec<f64>>()
            };
            let mut rng = rng(seed);
            for _ in 0..20 {
                prop_assert!(space.allows(&take(Some(&mut rng)), &mask));
            }
            prop_assert!(space.allows(&take(None), &mask));
        });
    }

    #[test]
    fn gaussian_samples_are_mean_plus_deviation_times_noise() {
        let mut action = [0.0; 2];
        let head = Head::Gaussian { dim: 2 };
        head.sample(&[1.0, -2.0], &[1.0, 2.0], &[0.5, -1.5], &mut rng(0), &mut action);
        close(&action, &[1.5, -5.0], 1e-6);
    }

    #[test]
    fn greedy_takes_the_mode_and_the_first_of_equals() {
        let mut action = [0.0; 2];
        Head::Gaussian { dim: 2 }.greedy(&[0.3, -4.0], &mut action);
        assert_eq!(action, [0.3, -4.0]);
        let head = Head::Categorical { sizes: vec![3, 2] };
        head.greedy(&[0.0, 2.0, 1.0, -1.0, -0.5], &mut action);
        assert_eq!(action, [1.0, 1.0]);
        head.greedy(&[5.0, 1.0, 5.0, 0.0, 0.0], &mut action);
        assert_eq!(action, [0.0, 0.0]);
    }

    /// A result of shape `[B, 1]` or `[1, B]` would broadcast against `[B]` to `[B, B]` without a word.
    #[test]
    fn results_are_vectors_even_for_one_row_and_one_action() {
        let heads = [Head::Gaussian { dim: 1 }, Head::Categorical { sizes: vec![2] }];
        for head in heads.into_iter().chain([Head::Categorical { sizes: vec![2, 3] }]) {
            for rows in [1, 4] {
                let dist = Reference::new(head.clone(), 90).dist(rows);
                let actions = Device::cpu().matrix(vec![0.0; rows * head.action_len()], head.action_len());
                assert_eq!(dist.log_prob(&actions).dims(), [rows]);
                assert_eq!(dist.kl(&dist).dims(), [rows]);
                let shared = matches!(head, Head::Gaussian { .. });
                assert_eq!(dist.entropy().dims(), [if shared { 1 } else { rows }]);
                let (d_outputs, _) =
                    dist.fisher(Device::cpu().matrix(vec![1.0; rows * head.outputs()], head.outputs()), None);
                assert_eq!(d_outputs.dims(), [rows, head.outputs()]);
            }
        }
    }

    #[test]
    fn selected_rows_keep_their_distribution() {
        for head in [Head::Gaussian { dim: 2 }, Head::Categorical { sizes: vec![2, 3] }] {
            let device = Device::cpu();
            let k = head.outputs();
            let extra = (head.extra_params() > 0).then(|| device.matrix(vec![0.3, -0.2], 2));
            let dist = head.dist(device.matrix(normals(4 * k, 5), k), extra);
            let actions = device.matrix(vec![1.0; 8], 2);
            let all = to_host(dist.log_prob(&actions));
            let rows = dist.select(&device.indices(&[3, 0]));
            close(&to_host(rows.log_prob(&device.matrix(vec![1.0; 4], 2))), &[all[3], all[0]], 1e-6);
        }
    }
}
