//! Values as one number or as a distribution over bins, and the loss of each against a return.

use serde::{Deserialize, Serialize};

use super::kernels::{exp, ln};

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
    /// Target and ln p of a row, `[K]`.
    target: Vec<f32>,
    log_p: Vec<f32>,
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
        let zeros = vec![0.0; centres.len()];
        Self {
            loss,
            low,
            high,
            width,
            sigma: sigma_ratio * width,
            centres,
            target: zeros.clone(),
            log_p: zeros,
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
        let max = outputs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let (mut total, mut sum) = (0.0, 0.0);
        for (y, centre) in outputs.iter().zip(&self.centres) {
            let weight = exp(y - max);
            total += weight;
            sum += weight * centre;
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
        let Self { target, log_p, .. } = self;
        let max = outputs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut total = 0.0;
        for (d, y) in d_outputs.iter_mut().zip(outputs) {
            *d = exp(y - max);
            total += *d;
        }
        let (ln_total, inverse) = (ln(total), 1.0 / total);
        log_p.iter_mut().zip(outputs).for_each(|(l, y)| *l = y - max - ln_total);
        let mut cross_entropy = 0.0;
        for ((d, target), log_p) in d_outputs.iter_mut().zip(&*target).zip(&*log_p) {
            cross_entropy -= target * log_p;
            *d = weight * (*d * inverse - target);
        }
        weight * cross_entropy
    }

    /// The distribution that stands for a return, into `target`.
    fn aim(&mut self, ret: f32) {
        let bins = self.centres.len();
        let ret = f64::from(ret).clamp(self.low, self.high);
        let at = (ret - self.low) / self.width;
        self.target.fill(0.0);
        if self.loss == ValueLoss::TwoHot {
            let below = (at.floor() as usize).min(bins - 2);
            let share = at - below as f64;
            (self.target[below], self.target[below + 1]) = ((1.0 - share) as f32, share as f32);
            return;
        }
        // Beyond 8.3 deviations there is less than 1e-16.
        let reach = (8.3 * self.sigma / self.width).ceil() as usize + 1;
        let (first, last) = ((at as usize).saturating_sub(reach), (at as usize + reach).min(bins - 1));
        let scale = self.width / (self.sigma * std::f64::consts::SQRT_2);
        // 2 Φ − 1 at an edge.
        let edge = |i: usize| libm::erf((i as f64 - at) * scale);
        let total = edge(bins) - edge(0);
        let mut before = edge(first);
        for i in first..=last {
            let after = edge(i + 1);
            self.target[i] = ((after - before) / total) as f32;
            before = after;
        }
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
