//! Values as one number or as a distribution over bins, and the loss of each against a return.

use std::ops::Range;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::device::Device;
use super::kernels::{self, ln};

/// What the value's loss is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueLoss {
    /// (V − R)², one output.
    Squared,
    /// Cross-entropy with R split between its two nearest atoms (C51's projection of a point; Bellemare et al. 2017,
    /// arXiv:1707.06887).
    TwoHot,
    /// Cross-entropy with a normal distribution around R, cut into bins (HL-Gauss; Imani and White 2018,
    /// arXiv:1806.04613; Farebrother et al. 2024, arXiv:2403.03950).
    HlGauss,
}

/// How outputs of a network become a value, and what they cost.
#[derive(Clone, Debug)]
pub struct ValueHead {
    loss: ValueLoss,
    low: f64,
    high: f64,
    /// Of the bins, or of the atoms at their ends.
    width: f64,
    /// Deviation of HL-Gauss's normal distribution.
    sigma: f64,
    /// Value of each bin: centre or atom, `[K]`.
    centres: Vec<f32>,
    /// Target of a row, `[K]`, and the bins that it has a share in.
    target: Vec<f32>,
    aimed: Range<usize>,
    memo: Memo,
}

/// Targets of HL-Gauss by the bits of their return: epochs pass over the same returns again, and error functions are dear.
#[derive(Clone, Debug, Default)]
struct Memo {
    /// The bits of the return in each slot; those of a NaN where there is none.
    keys: Vec<u32>,
    /// The shares of its target's bins, `[SLOTS, width]`.
    shares: Vec<f32>,
}

impl Memo {
    const BITS: u32 = 14;
    const NONE: u32 = u32::MAX;

    /// The slot of a return. The highest bits of the product are the best mixed.
    fn slot(bits: u32) -> usize {
        (bits.wrapping_mul(0x9e37_79b1) >> (32 - Self::BITS)) as usize
    }

    fn reserve(&mut self, width: usize) {
        if self.keys.is_empty() {
            let slots = 1 << Self::BITS;
            self.keys.resize(slots, Self::NONE);
            self.shares.resize(slots * width, 0.0);
        }
    }
}

impl ValueHead {
    /// `bins` over [`low`, `high`]; `sigma_ratio` is HL-Gauss's deviation in widths of a bin.
    pub fn new(loss: ValueLoss, low: f64, high: f64, bins: usize, sigma_ratio: f64) -> Self {
        let n = bins as f64;
        let (width, first) = match loss {
            ValueLoss::HlGauss => ((high - low) / n, 0.5),
            ValueLoss::TwoHot | ValueLoss::Squared => ((high - low) / (n - 1.0), 0.0),
        };
        let centres = match loss {
            ValueLoss::Squared => Vec::new(),
            _ => (0..bins).map(|i| (low + width * (i as f64 + first)) as f32).collect(),
        };
        Self {
            loss,
            low,
            high,
            width,
            sigma: sigma_ratio * width,
            target: vec![0.0; centres.len()],
            aimed: 0..0,
            memo: Memo::default(),
            centres,
        }
    }

    /// Outputs that it needs, K.
    pub fn outputs(&self) -> usize {
        self.centres.len().max(1)
    }

    /// Whether a return lies outside the bins; it counts as the nearest end then.
    pub fn is_outside(&self, ret: f32) -> bool {
        self.loss != ValueLoss::Squared && !(self.low..=self.high).contains(&f64::from(ret))
    }

    /// The value that one row of outputs `[K]` means: their one number, or the mean of the bins.
    pub fn value(&self, outputs: &[f32]) -> f32 {
        if self.loss == ValueLoss::Squared {
            return outputs[0];
        }
        let max = kernels::largest(outputs);
        let (mut total, mut sum) = (0.0, 0.0);
        let mut weights = [0.0; 64];
        for (outputs, centres) in outputs.chunks(64).zip(self.centres.chunks(64)) {
            kernels::exp_shifted(outputs, max, &mut weights);
            for (weight, centre) in weights.iter().zip(centres) {
                total += weight;
                sum += weight * centre;
            }
        }
        sum / total
    }

    /// The loss of one row of outputs `[K]` against the return, times `weight`; its gradient goes to `d_outputs`.
    pub fn loss(&mut self, outputs: &[f32], ret: f32, weight: f32, d_outputs: &mut [f32]) -> f32 {
        if self.loss == ValueLoss::Squared {
            let error = outputs[0] - ret;
            d_outputs[0] = 2.0 * weight * error;
            return weight * error * error;
        }
        self.aim(ret);
        let max = kernels::largest(outputs);
        kernels::exp_shifted(outputs, max, d_outputs);
        let total: f32 = d_outputs.iter().fold(0.0, |sum, d| sum + d);
        let (ln_total, inverse) = (ln(total), 1.0 / total);
        let mut cross_entropy = 0.0;
        for (target, y) in self.target[self.aimed.clone()].iter().zip(&outputs[self.aimed.clone()]) {
            cross_entropy -= target * (y - max - ln_total);
        }
        for (d, target) in d_outputs.iter_mut().zip(&self.target) {
            *d = weight * (*d * inverse - target);
        }
        weight * cross_entropy
    }

    /// The mean loss over rows of outputs `[B, K]` against their returns `[B]`, on tensors; `[1]`.
    pub fn loss_tensor(&mut self, outputs: Tensor<2>, rets: &[f32], device: &Device) -> Tensor<1> {
        if self.loss == ValueLoss::Squared {
            let rets = device.matrix(rets.to_vec(), 1).autodiff();
            return (outputs - rets).square().mean();
        }
        let mut targets = Vec::with_capacity(rets.len() * self.outputs());
        for ret in rets {
            self.aim(*ret);
            targets.extend_from_slice(&self.target);
        }
        let targets = device.matrix(targets, self.outputs()).autodiff();
        -(burn::tensor::activation::log_softmax(outputs, 1) * targets).sum_dim(1).mean()
    }

    /// The distribution that stands for a return, into `target`.
    fn aim(&mut self, ret: f32) {
        let (bins, bits) = (self.centres.len(), ret.to_bits());
        let ret = f64::from(ret).clamp(self.low, self.high);
        let at = (ret - self.low) / self.width;
        self.target[self.aimed.clone()].fill(0.0);
        if self.loss == ValueLoss::TwoHot {
            let below = (at.floor() as usize).min(bins - 2);
            let share = at - below as f64;
            (self.target[below], self.target[below + 1]) = ((1.0 - share) as f32, share as f32);
            self.aimed = below..below + 2;
            return;
        }
        // Beyond 8.3 deviations there is less than 1e-16.
        let reach = (8.3 * self.sigma / self.width).ceil() as usize + 1;
        let (first, last) = ((at as usize).saturating_sub(reach), (at as usize + reach).min(bins - 1));
        self.aimed = first..last + 1;
        let (width, slot) = ((2 * reach + 1).min(bins), Memo::slot(bits));
        self.memo.reserve(width);
        let shares = &mut self.memo.shares[slot * width..][..self.aimed.len()];
        let target = &mut self.target[self.aimed.clone()];
        if self.memo.keys[slot] == bits {
            target.copy_from_slice(shares);
            return;
        }
        let scale = self.width / (self.sigma * std::f64::consts::SQRT_2);
        // 2 Φ − 1 at an edge.
        let edge = |i: usize| libm::erf((i as f64 - at) * scale);
        let total = edge(bins) - edge(0);
        let mut before = edge(first);
        for (i, target) in (first..).zip(target.iter_mut()) {
            let after = edge(i + 1);
            *target = ((after - before) / total) as f32;
            before = after;
        }
        self.memo.keys[slot] = bits;
        shares.copy_from_slice(target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::{close, normals};

    fn head(loss: ValueLoss) -> ValueHead {
        ValueHead::new(loss, -10.0, 10.0, 51, 0.75)
    }

    /// Φ by Simpson's rule.
    fn normal_cdf(x: f64) -> f64 {
        let (n, low) = (4000, -12.0);
        let h = (x - low) / f64::from(n);
        let f = |i: i32| (-0.5 * (low + h * f64::from(i)).powi(2)).exp();
        let odd_even = |i: i32| if i % 2 == 1 { 4.0 } else { 2.0 };
        let sum = f(0) + f(n) + (1..n).map(|i| odd_even(i) * f(i)).sum::<f64>();
        sum * h / 3.0 / std::f64::consts::TAU.sqrt()
    }

    #[test]
    fn hl_gauss_masses_are_those_of_the_normal_distribution() {
        let mut head = head(ValueLoss::HlGauss);
        let (width, sigma) = (20.0 / 51.0, 0.75 * 20.0 / 51.0);
        assert_eq!(head.centres[25], 0.0);
        for t in [-10.0f32, -9.9, -3.3, 0.0, 0.1, 5.0, 9.7, 10.0, 1e6, -1e6] {
            head.aim(t);
            let mean = f64::from(t).clamp(-10.0, 10.0);
            let cdf = |x: f64| normal_cdf((x - mean) / sigma);
            let inside = cdf(10.0) - cdf(-10.0);
            for i in 0..51 {
                let low = -10.0 + width * i as f64;
                let mass = (cdf(low + width) - cdf(low)) / inside;
                assert!((f64::from(head.target[i]) - mass).abs() < 1e-7, "{t}, bin {i}");
            }
            let total: f64 = head.target.iter().map(|p| f64::from(*p)).sum();
            assert!((total - 1.0).abs() < 1e-6);
        }
    }

    /// More returns than the memo has room for, each several times: what it remembers is what it would work out.
    #[test]
    fn a_return_met_again_has_its_target_again() {
        let returns: Vec<f32> = normals(40_000, 3).iter().map(|x| 6.0 * x).collect();
        let (mut head, mut fresh) = (head(ValueLoss::HlGauss), head(ValueLoss::HlGauss));
        for _ in 0..3 {
            for ret in returns.iter().step_by(17).chain([&-20.0, &20.0, &0.0, &-0.0]) {
                head.aim(*ret);
                fresh.memo.keys.fill(Memo::NONE);
                fresh.aim(*ret);
                assert_eq!(head.target, fresh.target, "{ret}");
                assert_eq!(head.aimed, fresh.aimed);
            }
        }
    }

    /// The mean of the target is the return, but near the ends of the range.
    #[test]
    fn targets_have_the_returns_mean() {
        for loss in [ValueLoss::TwoHot, ValueLoss::HlGauss] {
            let mut head = head(loss);
            for i in 0..=160 {
                let t = -8.0 + 0.1 * i as f32;
                head.aim(t);
                let mean: f64 =
                    head.target.iter().zip(&head.centres).map(|(p, x)| f64::from(*p) * f64::from(*x)).sum();
                assert!((mean - f64::from(t)).abs() < 1e-5, "{loss:?}: {mean}, not {t}");
                let outputs: Vec<f32> = head.target.iter().map(|p| (p + 1e-30).ln()).collect();
                close(&[head.value(&outputs)], &[t], 1e-5);
            }
        }
    }

    #[test]
    fn two_hot_targets_lie_on_the_nearest_atoms() {
        let mut head = head(ValueLoss::TwoHot);
        head.aim(0.1);
        close(&head.target[25..27], &[0.75, 0.25], 1e-6);
        for (t, i) in [(10.0, 50), (-10.0, 0), (99.0, 50), (-99.0, 0)] {
            head.aim(t);
            close(&[head.target[i]], &[1.0], 1e-6);
        }
        assert!(head.is_outside(10.5) && !head.is_outside(-9.0));
        assert!(!ValueHead::new(ValueLoss::Squared, -10.0, 10.0, 51, 0.75).is_outside(11.0));
    }

    /// softmax − target, and by finite differences.
    #[test]
    fn the_gradient_is_softmax_minus_target() {
        for loss in [ValueLoss::Squared, ValueLoss::TwoHot, ValueLoss::HlGauss] {
            let mut head = head(loss);
            let k = head.outputs();
            let (outputs, mut d) = (normals(k, 1), vec![0.0; k]);
            for ret in [-20.0, -1.3, 0.0, 4.2] {
                head.loss(&outputs, ret, 0.5, &mut d);
                if loss != ValueLoss::Squared {
                    let total: f64 = outputs.iter().map(|y| f64::from(*y).exp()).sum();
                    let expected: Vec<f64> = (0..k)
                        .map(|i| 0.5 * (f64::from(outputs[i]).exp() / total - f64::from(head.target[i])))
                        .collect();
                    close(&d, &expected, 1e-6);
                }
                for i in 0..k {
                    let mut at = |h: f32| {
                        let mut moved = outputs.clone();
                        moved[i] += h;
                        f64::from(head.loss(&moved, ret, 0.5, &mut vec![0.0; k]))
                    };
                    let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
                    close(&[f64::from(d[i])], &[numeric], 2e-3);
                }
            }
        }
    }
}
