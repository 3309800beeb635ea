//! Losses, written once for one row of a batch and evaluated two ways.
//!
//! An algorithm states what one row costs ([`PolicyLoss`], [`ValueLoss`]); the batch's loss is the mean. On the CPU
//! the statement runs on [`Dual`] numbers, which carry the derivatives with respect to the few things
//! that a loss knows of a policy (ln π, entropy, KL) along: no graph, no allocation. Elsewhere it runs on tensors
//! and autodiff. Each is the other's second opinion.

use std::ops::{Add, Mul, Neg, Sub};

use burn::tensor::Tensor;

use super::kernels;

/// What a loss is written in: one number with its derivatives, or a column of them.
pub trait Real:
    Clone
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Neg<Output = Self>
    + Mul<f64, Output = Self>
{
    /// eˣ
    fn exp(self) -> Self;
    /// x²
    fn square(self) -> Self;
    /// The smaller of two.
    fn min(self, other: Self) -> Self;
    /// The larger of two.
    fn max(self, other: Self) -> Self;
    /// The nearest number in [`low`, `high`].
    fn clamp(self, low: f64, high: f64) -> Self;
}

/// One row as a policy's loss sees it: a state, an action taken there by π_old, and π as it is now.
pub trait Sample {
    /// Number type.
    type X: Real;
    /// π(a|s) / π_old(a|s)
    fn ratio(&self) -> Self::X;
    /// ln π(a|s)
    fn log_prob(&self) -> Self::X;
    /// Entropy of π(·|s), nats.
    fn entropy(&self) -> Self::X;
    /// KL(π(·|s) ‖ π_old(·|s)), nats.
    fn kl(&self) -> Self::X;
    /// Â
    fn advantage(&self) -> Self::X;
}

/// What a policy step lowers.
pub trait PolicyLoss {
    /// The loss of one row.
    fn row<S: Sample>(&self, pi: &S) -> S::X;
}

/// What a step of TRPO raises: r Â, in the mean over rows.
pub struct Surrogate;

impl PolicyLoss for Surrogate {
    fn row<S: Sample>(&self, pi: &S) -> S::X {
        pi.ratio() * pi.advantage()
    }
}

/// What PPO lowers: −min(r Â, clip(r, 1−ε, 1+ε) Â) − c₂ entropy, in the mean over rows.
pub struct ClippedSurrogate {
    /// ε
    pub clip: f64,
    /// c₂
    pub entropy: f64,
}

impl PolicyLoss for ClippedSurrogate {
    fn row<S: Sample>(&self, pi: &S) -> S::X {
        let (ratio, advantage) = (pi.ratio(), pi.advantage());
        let clipped = ratio.clone().clamp(1.0 - self.clip, 1.0 + self.clip) * advantage.clone();
        let surrogate = (ratio * advantage).min(clipped);
        if self.entropy > 0.0 { -surrogate - pi.entropy() * self.entropy } else { -surrogate }
    }
}

/// What a step of the value function lowers.
pub trait ValueLoss {
    /// The loss of one row with V = `value`, R = `ret` and V_old = `value_old`.
    fn row<X: Real>(&self, value: X, ret: X, value_old: X) -> X;
}

/// Squared error of values against returns.
#[derive(Clone, Copy, Debug)]
pub struct SquaredError {
    /// With c > 0 the larger of (V − R)² and (V_old + clip(V − V_old, ±c) − R)²; 0 leaves the loss unclipped.
    pub clip: f64,
    /// Factor on the loss.
    pub weight: f64,
}

impl ValueLoss for SquaredError {
    fn row<X: Real>(&self, value: X, ret: X, value_old: X) -> X {
        let error = (value.clone() - ret.clone()).square();
        if self.clip <= 0.0 {
            return error * self.weight;
        }
        let near = (value - value_old.clone()).clamp(-self.clip, self.clip) + value_old;
        error.max((near - ret).square()) * self.weight
    }
}

/// A number and its derivatives with respect to `N` others.
#[derive(Clone, Copy, Debug)]
pub struct Dual<const N: usize> {
    /// Value.
    pub value: f32,
    /// Derivatives.
    pub slope: [f32; N],
}

impl<const N: usize> Dual<N> {
    /// A number that depends on nothing.
    pub fn constant(value: f32) -> Self {
        Self { value, slope: [0.0; N] }
    }

    /// The `index`-th of the numbers that all others depend on.
    pub fn variable(value: f32, index: usize) -> Self {
        let mut x = Self::constant(value);
        x.slope[index] = 1.0;
        x
    }

    /// f(x) from its value and its derivative there.
    fn chain(self, value: f32, derivative: f32) -> Self {
        Self { value, slope: self.slope.map(|s| s * derivative) }
    }
}

impl<const N: usize> Add for Dual<N> {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let slope = std::array::from_fn(|i| self.slope[i] + other.slope[i]);
        Self { value: self.value + other.value, slope }
    }
}

impl<const N: usize> Sub for Dual<N> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl<const N: usize> Mul for Dual<N> {
    type Output = Self;
    #[allow(clippy::suspicious_arithmetic_impl, reason = "the product rule is a sum")]
    fn mul(self, other: Self) -> Self {
        let slope = std::array::from_fn(|i| self.slope[i] * other.value + self.value * other.slope[i]);
        Self { value: self.value * other.value, slope }
    }
}

impl<const N: usize> Mul<f64> for Dual<N> {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        self.chain(self.value * factor as f32, factor as f32)
    }
}

impl<const N: usize> Neg for Dual<N> {
    type Output = Self;
    fn neg(self) -> Self {
        self.chain(-self.value, -1.0)
    }
}

impl<const N: usize> Real for Dual<N> {
    fn exp(self) -> Self {
        let value = kernels::exp(self.value);
        self.chain(value, value)
    }

    fn square(self) -> Self {
        self.chain(self.value * self.value, 2.0 * self.value)
    }

    fn min(self, other: Self) -> Self {
        if other.value < self.value { other } else { self }
    }

    fn max(self, other: Self) -> Self {
        if other.value > self.value { other } else { self }
    }

    fn clamp(self, low: f64, high: f64) -> Self {
        let value = self.value.clamp(low as f32, high as f32);
        if value == self.value { self } else { Self { value, slope: self.slope.map(|s| s * 0.0) } }
    }
}

/// A column `[B]`, one number a row.
impl Real for Tensor<1> {
    fn exp(self) -> Self {
        Tensor::exp(self)
    }

    fn square(self) -> Self {
        Tensor::<1>::square(self)
    }

    fn min(self, other: Self) -> Self {
        self.min_pair(other)
    }

    fn max(self, other: Self) -> Self {
        self.max_pair(other)
    }

    fn clamp(self, low: f64, high: f64) -> Self {
        Tensor::clamp(self, low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squared_error_follows_its_definition() {
        for i in 0..60 {
            let [v, r, old] = [i, i + 20, i + 40].map(|i| f64::from(i * 37 % 60) / 30.0 - 1.0);
            for clip in [0.0, 0.3] {
                let near = old + (v - old).clamp(-clip, clip);
                let plain = (v - r).powi(2);
                let expected = 0.5 * if clip > 0.0 { plain.max((near - r).powi(2)) } else { plain };
                let [v, r, old] = [v, r, old].map(|x| Dual::<1>::constant(x as f32));
                let loss = SquaredError { clip, weight: 0.5 }.row(v, r, old).value;
                assert!((f64::from(loss) - expected).abs() < 1e-6, "{loss}, not {expected}");
            }
        }
    }

    #[test]
    fn dual_numbers_carry_derivatives() {
        let f = |x: Dual<2>, y: Dual<2>| {
            (x * y).exp() - x.square() * 0.5 + (x + y).min(y).max(x - y) + (-y).clamp(-0.3, 0.3)
        };
        let at = |x: f32, y: f32| f(Dual::constant(x), Dual::constant(y)).value;
        for i in 0..40 {
            let (x, y) = ((i % 7) as f32 * 0.31 - 0.9, (i % 11) as f32 * 0.17 - 0.8);
            let ours = f(Dual::variable(x, 0), Dual::variable(y, 1));
            assert_eq!(ours.value, at(x, y));
            let h = 1e-2;
            let numeric =
                [(at(x + h, y) - at(x - h, y)) / (2.0 * h), (at(x, y + h) - at(x, y - h)) / (2.0 * h)];
            for (a, b) in ours.slope.iter().zip(numeric) {
                assert!((a - b).abs() < 5e-3, "{a}, not {b}, at {x}, {y}");
            }
        }
    }
}
