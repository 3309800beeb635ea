//! Action distributions on plain slices, row by row: the CPU path of [`Dist`](super::dist::Dist).
//!
//! Log-probability, entropy and KL divergence with their gradients, and the Fisher matrix, in the closed
//! forms of `dist.rs`.

use std::ops::Range;

use super::batch::HostRows;
use super::dist::{Head, Place};
use super::kernels::{exp, ln};
use super::loss::{Dual, PolicyLoss, Sample};
use super::policy::Comparison;
use super::weights::Scalar;

/// ½ ln(2π)
const HALF_LN_2PI: f32 = 0.918_938_5;

/// What a loss is differentiated with respect to: ln π, entropy and KL of the row.
const LOG_PROB: usize = 0;
const ENTROPY: usize = 1;
const KL: usize = 2;

/// Derivatives of a row's loss with respect to ln π(a|s), the entropy and KL(π ‖ π_old).
pub type Weights = [f32; 3];

/// What all rows of a batch have in common, and room for one row.
#[derive(Clone, Debug, Default)]
pub struct Density {
    /// 1/σ and 1/σ_old of a Gaussian, `[A]`.
    inverse_std: Vec<f32>,
    inverse_std_old: Vec<f32>,
    /// (σ/σ_old)², `[A]`.
    variance_ratio: Vec<f32>,
    /// The parts of ln π, of the entropy and of both KL divergences that are the same for all rows.
    log_prob: f32,
    entropy: f32,
    kl: f32,
    kl_old_new: f32,
    /// z = (a − μ)/σ of the running row, `[A]`, or its ln p, `[K]`.
    row: Vec<f32>,
}

/// One row of a batch.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// a, `[action_len]`.
    pub action: &'a [f32],
    /// Means of π_old, or its log-probabilities, `[K]`.
    pub old: &'a [f32],
    /// ln π_old(a|s)
    pub log_prob_old: f32,
    /// Â
    pub advantage: f32,
}

impl Density {
    /// Takes in what all rows share: the log-stds of π and of π_old, `[E]`.
    pub fn share(&mut self, head: &Head, log_std: &[f32], log_std_old: &[f32]) {
        self.row.resize(head.outputs(), 0.0);
        let inverse = |from: &[f32], to: &mut Vec<f32>| {
            to.clear();
            to.extend(from.iter().map(|l| exp(-l)));
        };
        inverse(log_std, &mut self.inverse_std);
        inverse(log_std_old, &mut self.inverse_std_old);
        self.variance_ratio.clear();
        [self.log_prob, self.entropy, self.kl, self.kl_old_new] = [0.0; 4];
        for (new, old) in log_std.iter().zip(log_std_old) {
            let ratio = exp((new - old) * 2.0);
            self.variance_ratio.push(ratio);
            self.log_prob -= new + HALF_LN_2PI;
            self.entropy += new + HALF_LN_2PI + 0.5;
            self.kl += 0.5 * ratio + (old - new) - 0.5;
            self.kl_old_new += 0.5 * exp((old - new) * 2.0) + (new - old) - 0.5;
        }
    }

    /// Takes in a row's network outputs `[K]`; returns ln π(a|s) of its action.
    pub fn read(&mut self, head: &Head, outputs: &[f32], action: &[f32]) -> f32 {
        let mut log_prob = self.log_prob;
        for (part, Place { outputs: o, extra: e, action: a }) in head.parts() {
            let (outputs, row, action) = (&outputs[o.clone()], &mut self.row[o], &action[a]);
            match part {
                Head::Categorical { sizes } => {
                    log_softmax(sizes, outputs, row);
                    let picked = choices(sizes).zip(action).map(|((start, _), a)| row[start + *a as usize]);
                    log_prob += picked.sum::<f32>();
                }
                _ => {
                    let inverse_std = &self.inverse_std[e];
                    let mut sum = 0.0;
                    for d in 0..outputs.len() {
                        let z = (action[d] - outputs[d]) * inverse_std[d];
                        row[d] = z;
                        sum += z * z;
                    }
                    log_prob -= 0.5 * sum;
                }
            }
        }
        log_prob
    }

    /// Entropy of the row last read, nats.
    pub fn entropy(&self, head: &Head) -> f32 {
        let of = |row: &[f32]| row.iter().map(|l| -exp(*l) * l).sum::<f32>();
        self.entropy + discrete(head).map(|at| of(&self.row[at])).sum::<f32>()
    }

    /// KL(π ‖ π_old) of the row last read, nats.
    pub fn kl(&self, head: &Head, outputs: &[f32], old: &[f32]) -> f32 {
        let mut kl = self.kl;
        for (part, Place { outputs: o, extra: e, .. }) in head.parts() {
            let (row, outputs, old) = (&self.row[o.clone()], &outputs[o.clone()], &old[o]);
            kl += match part {
                Head::Categorical { .. } => row.iter().zip(old).map(|(p, q)| exp(*p) * (p - q)).sum(),
                _ => 0.5 * distance(outputs, old, &self.inverse_std_old[e]),
            };
        }
        kl
    }

    /// KL(π_old ‖ π) of the row last read, nats.
    pub fn kl_old_new(&self, head: &Head, outputs: &[f32], old: &[f32]) -> f32 {
        let mut kl = self.kl_old_new;
        for (part, Place { outputs: o, extra: e, .. }) in head.parts() {
            let (row, outputs, old) = (&self.row[o.clone()], &outputs[o.clone()], &old[o]);
            kl += match part {
                Head::Categorical { .. } => row.iter().zip(old).map(|(p, q)| exp(*q) * (q - p)).sum(),
                _ => 0.5 * distance(outputs, old, &self.inverse_std[e]),
            };
        }
        kl
    }

    /// Mean of `loss` over `rows` under a policy with these network outputs `[B, K]` and log-stds `[E]`; its gradient goes
    /// to `d_outputs` `[B, K]` and `d_extra` `[E]`.
    pub fn grad(
        &mut self,
        head: &Head,
        outputs: &[f32],
        log_std: &[f32],
        rows: &HostRows,
        loss: &impl PolicyLoss,
        d_outputs: &mut [f32],
        d_extra: &mut [f32],
    ) -> f64 {
        self.share(head, log_std, &rows.log_std_old);
        d_extra.fill(0.0);
        let (k, a) = (head.outputs(), head.action_len());
        let share = 1.0 / rows.advantage.len() as f32;
        let mut sum = 0.0;
        let pairs = outputs.chunks_exact(k).zip(d_outputs.chunks_exact_mut(k));
        for (i, (outputs, d_outputs)) in pairs.enumerate() {
            let row = rows.row(i, a, k);
            let log_prob = self.read(head, outputs, row.action);
            let Dual { value, slope } = loss.row(&HostSample { density: self, head, outputs, row, log_prob });
            sum += f64::from(value);
            let slope = slope.map(|s| s * share);
            self.backward(head, outputs, &row, slope, d_outputs, d_extra);
        }
        sum / rows.advantage.len() as f64
    }

    /// How a policy with these network outputs `[B, K]` and log-stds `[E]` differs from π_old over `rows`; a ratio counts
    /// as clipped beyond 1 ± `clip`.
    pub fn compare(
        &mut self,
        head: &Head,
        outputs: &[f32],
        log_std: &[f32],
        rows: &HostRows,
        clip: f64,
    ) -> Comparison {
        self.share(head, log_std, &rows.log_std_old);
        let (k, a) = (head.outputs(), head.action_len());
        let mut sums = [0.0f64; 5];
        for (i, outputs) in outputs.chunks_exact(k).enumerate() {
            let row = rows.row(i, a, k);
            let log_prob = self.read(head, outputs, row.action);
            let ratio = HostSample { density: self, head, outputs, row, log_prob }.ratio().value;
            let clipped = (f64::from(ratio) - 1.0).abs() > clip;
            let terms = [
                ratio * row.advantage,
                self.kl_old_new(head, outputs, row.old),
                self.kl(head, outputs, row.old),
                self.entropy(head),
                f32::from(u8::from(clipped)),
            ];
            sums.iter_mut().zip(terms).for_each(|(sum, x)| *sum += f64::from(x));
        }
        let mean = |i: usize| Scalar::Host(sums[i] / rows.advantage.len() as f64);
        Comparison {
            surrogate: mean(0),
            kl_old_new: mean(1),
            kl_new_old: mean(2),
            entropy: mean(3),
            clip_fraction: mean(4),
        }
    }

    /// Completes `rows`, which hold observations and actions, with a policy of these network outputs `[B, K]` and
    /// log-stds `[E]` as π_old, and the log-probabilities under it.
    pub fn remember(&mut self, head: &Head, outputs: &[f32], log_std: &[f32], rows: &mut HostRows) {
        rows.log_std_old.clear();
        rows.log_std_old.extend_from_slice(log_std);
        rows.old.clear();
        rows.old.extend_from_slice(outputs);
        rows.log_prob_old.clear();
        self.share(head, log_std, log_std);
        let pairs = outputs.chunks_exact(head.outputs()).zip(rows.actions.chunks_exact(head.action_len()));
        rows.log_prob_old.extend(pairs.map(|(outputs, action)| self.read(head, outputs, action)));
        self.normalize(head, &mut rows.old);
    }

    /// Turns the logits of all choices into log-probabilities, `[B, K]`, and leaves means as they are.
    pub fn normalize(&mut self, head: &Head, outputs: &mut [f32]) {
        for row in outputs.chunks_exact_mut(head.outputs()) {
            for (part, Place { outputs: o, .. }) in head.parts() {
                if let Head::Categorical { sizes } = part {
                    log_softmax(sizes, &row[o.clone()], &mut self.row[o.clone()]);
                    row[o.clone()].copy_from_slice(&self.row[o]);
                }
            }
        }
    }

    /// Gradient of a loss with respect to the outputs of the row last read, into `d_outputs` `[K]`, and to the
    /// log-stds, added to `d_extra` `[E]`.
    pub fn backward(
        &self,
        head: &Head,
        outputs: &[f32],
        row: &Row,
        weights: Weights,
        d_outputs: &mut [f32],
        d_extra: &mut [f32],
    ) {
        let [log_prob, entropy, kl] = weights;
        for (part, Place { outputs: o, extra: e, action: a }) in head.parts() {
            let (outputs, read, old) = (&outputs[o.clone()], &self.row[o.clone()], &row.old[o.clone()]);
            let (d_outputs, action) = (&mut d_outputs[o], &row.action[a]);
            match part {
                Head::Categorical { sizes } => {
                    for ((start, end), a) in choices(sizes).zip(action) {
                        let log_p = &read[start..end];
                        let old = &old[start..end];
                        let d = &mut d_outputs[start..end];
                        // Σ p ln p and Σ p (ln p − ln q) of this choice.
                        let (mut negentropy, mut divergence) = (0.0, 0.0);
                        for (p, q) in log_p.iter().zip(old) {
                            negentropy += exp(*p) * p;
                            divergence += exp(*p) * (p - q);
                        }
                        for j in 0..d.len() {
                            let l = log_p[j];
                            let slope =
                                kl * (l - old[j] - divergence) - entropy * (l - negentropy) - log_prob;
                            d[j] = exp(l) * slope;
                        }
                        d[*a as usize] += log_prob;
                    }
                }
                _ => {
                    let (inverse_std, inverse_std_old) =
                        (&self.inverse_std[e.clone()], &self.inverse_std_old[e.clone()]);
                    let (variance_ratio, d_extra) = (&self.variance_ratio[e.clone()], &mut d_extra[e]);
                    for d in 0..outputs.len() {
                        let z = read[d];
                        let inverse_old = inverse_std_old[d];
                        let shift = (outputs[d] - old[d]) * inverse_old * inverse_old;
                        d_outputs[d] = log_prob * z * inverse_std[d] + kl * shift;
                        d_extra[d] += log_prob * (z * z - 1.0) + entropy + kl * (variance_ratio[d] - 1.0);
                    }
                }
            }
        }
    }

    /// Product of the Fisher matrix of the distributions with network outputs `[B, K]` and tangents of the
    /// same shape, in place, and of the log-stds, `[E]`, in place: 1/σ² for a Gaussian's mean, 2 for its log-std
    /// (for each of B rows), diag(p) − p pᵀ for logits.
    pub fn fisher(
        &mut self,
        head: &Head,
        outputs: &[f32],
        log_std: &[f32],
        d_outputs: &mut [f32],
        d_extra: &mut [f32],
    ) {
        let k = head.outputs();
        let rows = outputs.len() / k;
        let work = &mut self.row;
        work.resize(k, 0.0);
        for (part, Place { outputs: o, extra: e, .. }) in head.parts() {
            let pairs = outputs.chunks_exact(k).zip(d_outputs.chunks_exact_mut(k));
            let pairs = pairs.map(|(outputs, d)| (&outputs[o.clone()], &mut d[o.clone()]));
            let work = &mut work[o.clone()];
            match part {
                Head::Categorical { sizes } => {
                    for (outputs, d) in pairs {
                        log_softmax(sizes, outputs, work);
                        for (start, end) in choices(sizes) {
                            let (log_p, d) = (&work[start..end], &mut d[start..end]);
                            let mean: f32 = log_p.iter().zip(&*d).map(|(l, d)| exp(*l) * d).sum();
                            d.iter_mut().zip(log_p).for_each(|(d, l)| *d = exp(*l) * (*d - mean));
                        }
                    }
                }
                _ => {
                    work.iter_mut().zip(&log_std[e]).for_each(|(w, l)| *w = exp(-2.0 * l));
                    for (_, d) in pairs {
                        d.iter_mut().zip(&*work).for_each(|(d, w)| *d *= w);
                    }
                }
            }
        }
        d_extra.iter_mut().for_each(|d| *d *= 2.0 * rows as f32);
    }
}

/// Where the choices lie among the outputs.
fn discrete(head: &Head) -> impl Iterator<Item = Range<usize>> {
    let categorical = |part: &Head| matches!(part, Head::Categorical { .. });
    head.parts().filter(move |(part, _)| categorical(part)).map(|(_, place)| place.outputs)
}

/// ln p of each choice from its logits, `[K]` to `[K]`.
fn log_softmax(sizes: &[usize], logits: &[f32], out: &mut [f32]) {
    for (start, end) in choices(sizes) {
        let (logits, out) = (&logits[start..end], &mut out[start..end]);
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = logits.iter().map(|l| exp(l - max)).sum();
        let ln_total = ln(total);
        out.iter_mut().zip(logits).for_each(|(o, l)| *o = l - max - ln_total);
    }
}

/// Where each choice begins and ends among the outputs.
fn choices(sizes: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    sizes.iter().scan(0, |start, n| {
        *start += n;
        Some((*start - n, *start))
    })
}

/// Σ ((a − b) w)²
fn distance(a: &[f32], b: &[f32], weight: &[f32]) -> f32 {
    a.iter().zip(b).zip(weight).map(|((a, b), w)| ((a - b) * w) * ((a - b) * w)).sum()
}

/// A row under a policy's loss: its terms with their derivatives, computed when asked for.
pub struct HostSample<'a> {
    /// What the rows share, with this row read.
    pub density: &'a Density,
    /// The distribution's kind.
    pub head: &'a Head,
    /// Network outputs of the row, `[K]`.
    pub outputs: &'a [f32],
    /// The row of the batch.
    pub row: Row<'a>,
    /// ln π(a|s)
    pub log_prob: f32,
}

impl Sample for HostSample<'_> {
    type X = Dual<3>;

    fn ratio(&self) -> Dual<3> {
        use super::loss::Real;
        (self.log_prob() - Dual::constant(self.row.log_prob_old)).exp()
    }

    fn log_prob(&self) -> Dual<3> {
        Dual::variable(self.log_prob, LOG_PROB)
    }

    fn entropy(&self) -> Dual<3> {
        Dual::variable(self.density.entropy(self.head), ENTROPY)
    }

    fn kl(&self) -> Dual<3> {
        Dual::variable(self.density.kl(self.head, self.outputs, self.row.old), KL)
    }

    fn advantage(&self) -> Dual<3> {
        Dual::constant(self.row.advantage)
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::core::testing::{actions, close, heads, normals};

    /// ln π(a|s), entropy, KL(π ‖ π_old) and KL(π_old ‖ π) in `f64`, the textbook way, of network outputs `[K]` and
    /// log-stds `[E]`.
    fn terms(head: &Head, new: (&[f64], &[f64]), old: (&[f64], &[f64]), action: &[f32]) -> [f64; 4] {
        let normal = |(mean, s): (f64, f64), (mean_q, t): (f64, f64)| {
            let distance = (mean - mean_q).powi(2);
            t - s + ((2.0 * s).exp() + distance) / (2.0 * (2.0 * t).exp()) - 0.5
        };
        let mut sums = [0.0; 4];
        match head {
            Head::Gaussian { dim } => {
                for d in 0..*dim {
                    let (p, q) = ((new.0[d], new.1[d]), (old.0[d], old.1[d]));
                    let z = (f64::from(action[d]) - p.0) / p.1.exp();
                    let half_ln_2pi = 0.5 * std::f64::consts::TAU.ln();
                    let row = [
                        -0.5 * z * z - p.1 - half_ln_2pi,
                        p.1 + half_ln_2pi + 0.5,
                        normal(p, q),
                        normal(q, p),
                    ];
                    sums.iter_mut().zip(row).for_each(|(s, x)| *s += x);
                }
            }
            Head::Categorical { sizes } => {
                for ((start, end), a) in choices(sizes).zip(action) {
                    let softmax = |logits: &[f64]| -> Vec<f64> {
                        let total: f64 = logits.iter().map(|l| l.exp()).sum();
                        logits.iter().map(|l| l.exp() / total).collect()
                    };
                    let (p, q) = (softmax(&new.0[start..end]), softmax(&old.0[start..end]));
                    sums[0] += p[*a as usize].ln();
                    sums[1] -= p.iter().map(|p| p * p.ln()).sum::<f64>();
                    sums[2] += p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
                    sums[3] += p.iter().zip(&q).map(|(p, q)| q * (q / p).ln()).sum::<f64>();
                }
            }
            Head::Product(_) => {
                for (part, Place { outputs: o, extra: e, action: a }) in head.parts() {
                    let of = |x: (&'_ [f64], &'_ [f64])| (x.0[o.clone()].to_vec(), x.1[e.clone()].to_vec());
                    let (new, old) = (of(new), of(old));
                    let part = terms(part, (&new.0, &new.1), (&old.0, &old.1), &action[a]);
                    sums.iter_mut().zip(part).for_each(|(s, x)| *s += x);
                }
            }
        }
        sums
    }

    #[test]
    fn rows_agree_with_closed_forms_and_finite_differences_in_f64() {
        const H: f64 = 1e-6;
        let more = [Head::Gaussian { dim: 1 }, Head::Categorical { sizes: vec![2, 7, 3] }];
        for (i, head) in heads().into_iter().chain(more).enumerate() {
            let (k, e) = (head.outputs(), head.extra_params());
            let draw = |n, index, scale: f32| -> (Vec<f32>, Vec<f64>) {
                let x: Vec<f32> = normals(n, index + 10 * i as u64).iter().map(|x| scale * x).collect();
                let wide = x.iter().map(|x| f64::from(*x)).collect();
                (x, wide)
            };
            let ((outputs, outputs64), (log_std, log_std64)) = (draw(k, 1, 1.0), draw(e, 2, 0.3));
            let ((mut old, old64), (log_std_old, log_std_old64)) = (draw(k, 3, 1.0), draw(e, 4, 0.3));
            let action = actions(&head, 3, 5)[2 * head.action_len()..].to_vec();
            let mut density = Density::default();
            density.share(&head, &log_std, &log_std_old);
            density.normalize(&head, &mut old);
            let ours = [
                density.read(&head, &outputs, &action),
                density.entropy(&head),
                density.kl(&head, &outputs, &old),
                density.kl_old_new(&head, &outputs, &old),
            ];
            let at = |moved: Option<usize>, h: f64| {
                let (mut outputs, mut log_std) = (outputs64.clone(), log_std64.clone());
                if let Some(j) = moved {
                    if j < k { outputs[j] += h } else { log_std[j - k] += h }
                }
                terms(&head, (&outputs, &log_std), (&old64, &log_std_old64), &action)
            };
            close(&ours, &at(None, 0.0), 1e-5);

            let row = Row { action: &action, old: &old, log_prob_old: 0.0, advantage: 0.0 };
            let weights = [0.7, -0.4, 1.3];
            let (mut d_outputs, mut d_extra) = (vec![9.0; k], vec![2.0; e]);
            density.backward(&head, &outputs, &row, weights, &mut d_outputs, &mut d_extra);
            let loss = |j: usize, h: f64| {
                at(Some(j), h).iter().zip(weights).map(|(x, w)| x * f64::from(w)).sum::<f64>()
            };
            let numeric: Vec<f64> = (0..k + e).map(|j| (loss(j, H) - loss(j, -H)) / (2.0 * H)).collect();
            close(&d_outputs, &numeric[..k], 1e-5);
            let added: Vec<f32> = d_extra.iter().map(|d| d - 2.0).collect();
            close(&added, &numeric[k..], 1e-5);
        }
    }

    #[test]
    fn log_softmax_survives_logits_far_apart() {
        let mut out = [0.0; 5];
        log_softmax(&[3, 2], &[-200.0, 60.0, -300.0, 1e4, 1e4], &mut out);
        close(&out, &[-260.0, 0.0, -360.0, -std::f64::consts::LN_2, -std::f64::consts::LN_2], 1e-6);
    }
}
