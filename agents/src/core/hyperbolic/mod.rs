//! Hyperbolic space of sectional curvature −c, c > 0, in two models, and classifiers that live there.
//!
//! * hyperboloid: x = (x₀, xₛ) with −x₀² + |xₛ|² = −1/c, x₀ > 0;
//! * ball: |p| < 1/√c, conformal factor λ = 2 / (1 − c|p|²).
//!
//! A feature vector v is a tangent vector at the origin, ρ = |v|, s = √c ρ. [`maps`] has maps, distances and transport;
//! [`mlr`] the multinomial logistic regressions, which take v and never form a point; [`tensors`] has these on tensors.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

use super::kernels::{self, Sizes, Start};

pub mod maps;
pub mod measure;
pub mod mlr;
pub mod tensors;

/// `f32`, in which agents compute, or `f64`, in which tests check the same lines.
///
/// Transcendental functions have the same bits on every platform (`libm` crate or [`kernels`]).
pub trait Float:
    Copy
    + Debug
    + PartialOrd
    + Default
    + Into<f64>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
    + mlr::Loops
{
    /// Distance from 1 to the next number.
    const EPSILON: Self;
    /// The nearest number.
    fn of(x: f64) -> Self;
    /// √x
    fn sqrt(self) -> Self;
    /// |x|
    fn abs(self) -> Self;
    /// eˣ
    fn exp(self) -> Self;
    /// tanh x
    fn tanh(self) -> Self;
    /// arsinh x
    fn asinh(self) -> Self;
    /// artanh x
    fn atanh(self) -> Self;
    /// arsinh of every element, in place.
    fn asinh_all(values: &mut [Self]) {
        values.iter_mut().for_each(|x| *x = x.asinh());
    }
    /// tanh of every element, in place.
    fn tanh_all(values: &mut [Self]) {
        values.iter_mut().for_each(|x| *x = x.tanh());
    }
    /// C = A B, or C + A B, for A `[m, k]`, B `[k, n]`, C `[m, n]`.
    fn product(a: &[Self], b: &[Self], add: bool, c: &mut [Self], sizes: Sizes) {
        naive(|i, p| a[i * sizes.k + p], b, add, c, sizes);
    }
    /// C = Aᵀ B, or C + Aᵀ B, for A `[k, m]`, B `[k, n]`, C `[m, n]`.
    fn product_transposed(a: &[Self], b: &[Self], add: bool, c: &mut [Self], sizes: Sizes) {
        naive(|i, p| a[p * sizes.m + i], b, add, c, sizes);
    }
}

fn naive<T: Float>(a: impl Fn(usize, usize) -> T, b: &[T], add: bool, c: &mut [T], sizes: Sizes) {
    for i in 0..sizes.m {
        for j in 0..sizes.n {
            let start = if add { c[i * sizes.n + j] } else { T::default() };
            c[i * sizes.n + j] = (0..sizes.k).fold(start, |sum, p| sum + a(i, p) * b[p * sizes.n + j]);
        }
    }
}

impl Float for f64 {
    const EPSILON: Self = Self::EPSILON;
    fn of(x: f64) -> Self {
        x
    }
    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }
    fn abs(self) -> Self {
        Self::abs(self)
    }
    fn exp(self) -> Self {
        libm::exp(self)
    }
    fn tanh(self) -> Self {
        libm::tanh(self)
    }
    fn asinh(self) -> Self {
        libm::asinh(self)
    }
    fn atanh(self) -> Self {
        libm::atanh(self)
    }
}

impl Float for f32 {
    const EPSILON: Self = Self::EPSILON;
    fn of(x: f64) -> Self {
        x as Self
    }
    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }
    fn abs(self) -> Self {
        Self::abs(self)
    }
    fn exp(self) -> Self {
        kernels::exp(self)
    }
    fn tanh(self) -> Self {
        libm::tanhf(self)
    }
    fn asinh(self) -> Self {
        libm::asinhf(self)
    }
    fn atanh(self) -> Self {
        libm::atanhf(self)
    }
    fn asinh_all(values: &mut [Self]) {
        kernels::asinh(values);
    }
    fn tanh_all(values: &mut [Self]) {
        kernels::tanh(values);
    }
    fn product(a: &[Self], b: &[Self], add: bool, c: &mut [Self], sizes: Sizes) {
        kernels::product(a, b, if add { Start::Current } else { Start::Zero }, c, sizes);
    }
    fn product_transposed(a: &[Self], b: &[Self], add: bool, c: &mut [Self], sizes: Sizes) {
        kernels::product_transposed(a, b, if add { Start::Current } else { Start::Zero }, c, sizes);
    }
}

/// ⟨x, y⟩, terms in order.
pub fn dot<T: Float>(x: &[T], y: &[T]) -> T {
    x.iter().zip(y).fold(T::default(), |sum, (x, y)| sum + *x * *y)
}

/// Hyperbolic functions of s as even functions of it, which the exponential map and its derivative are made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Radial<T> {
    /// A = sinh(s) / s
    pub a: T,
    /// B = cosh s
    pub b: T,
    /// (B − A) / s²: dA/ds = s times this, dB/ds = s A.
    pub slope: T,
}

impl<T: Float> Radial<T> {
    /// Of s², by series below 1.
    pub fn of(s2: T) -> Self {
        let one = T::of(1.0);
        if s2 < one {
            // Σ s²ᵏ/(2k+1)!, Σ s²ᵏ/(2k)! and Σ s²ᵏ (2k+2)/(2k+3)!, whose terms beyond the tenth are below 1e-19.
            let (mut a, mut b, mut slope) = (T::default(), T::default(), T::default());
            let mut term = one; // s²ᵏ/(2k)!
            for k in 0..10 {
                let n = f64::from(2 * k);
                a += term * T::of(1.0 / (n + 1.0));
                b += term;
                slope += term * T::of(1.0 / ((n + 1.0) * (n + 3.0)));
                term = term * s2 * T::of(1.0 / ((n + 1.0) * (n + 2.0)));
            }
            return Self { a, b, slope };
        }
        let s = s2.sqrt();
        let (sinh, b) = sinh_cosh(s);
        let a = sinh / s;
        Self { a, b, slope: (b - a) / s2 }
    }
}

impl<T: Float> Radial<T> {
    /// [`Self::of`] every s², into `out`: the series of several side by side.
    pub fn all(s2: &[T], out: &mut Vec<Self>) {
        const LANES: usize = 8;
        let one = T::of(1.0);
        out.clear();
        for s2 in s2.chunks(LANES) {
            let mut x = [T::default(); LANES];
            x[..s2.len()].copy_from_slice(s2);
            let zeros = [T::default(); LANES];
            let (mut a, mut b, mut slope) = (zeros, zeros, zeros);
            let mut term = [one; LANES];
            for k in 0..10 {
                let n = f64::from(2 * k);
                let (first, second) = (T::of(1.0 / (n + 1.0)), T::of(1.0 / ((n + 1.0) * (n + 3.0))));
                let next = T::of(1.0 / ((n + 1.0) * (n + 2.0)));
                for i in 0..LANES {
                    a[i] += term[i] * first;
                    b[i] += term[i];
                    slope[i] += term[i] * second;
                    term[i] = term[i] * x[i] * next;
                }
            }
            let of = |(i, s2): (usize, &T)| {
                if *s2 < one { Self { a: a[i], b: b[i], slope: slope[i] } } else { Self::of(*s2) }
            };
            out.extend(s2.iter().enumerate().map(of));
        }
    }
}

/// sinh x and cosh x.
pub fn sinh_cosh<T: Float>(x: T) -> (T, T) {
    let half = T::of(0.5);
    if x.abs() < T::of(1.0) {
        let r = Radial::of(x * x);
        return (x * r.a, r.b);
    }
    let (up, down) = (x.exp(), (-x).exp());
    ((up - down) * half, (up + down) * half)
}

#[cfg(test)]
pub(super) mod testing {
    use super::Float;
    use rand_distr::{Distribution, StandardNormal};
    use steadfast_envs::{Purpose, rng::stream};

    /// The dimensions, curvatures and radii of the identities' tests.
    pub const DIMS: [usize; 3] = [2, 5, 32];
    pub const CURVATURES: [f64; 3] = [0.1, 1.0, 4.0];
    pub const RADII: [f64; 8] = [0.0, 1e-8, 1e-3, 0.5, 1.0, 1.83, 3.0, 5.0];

    pub fn normals(n: usize, index: u64) -> Vec<f64> {
        StandardNormal.sample_iter(stream(0, Purpose::Check, index)).take(n).collect()
    }

    /// A vector of length `rho` in a random direction.
    pub fn vector<T: Float>(d: usize, rho: f64, index: u64) -> Vec<T> {
        let x = normals(d, index);
        let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.iter().map(|x| T::of(x * rho / norm)).collect()
    }

    pub fn f64s<T: Float>(x: &[T]) -> Vec<f64> {
        x.iter().map(|x| (*x).into()).collect()
    }

    /// Asserts |a − b| ≤ `tolerance` · max(`scale`, |b|).
    #[track_caller]
    pub fn near<T: Float, U: Float>(a: T, b: U, scale: f64, tolerance: f64) {
        let (a, b): (f64, f64) = (a.into(), b.into());
        assert!(
            (a - b).abs() <= tolerance * b.abs().max(scale),
            "{a} is not {b}, off by {:e}",
            (a - b).abs()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the system's functions, and across the border of the series.
    #[test]
    fn radial_functions_are_hyperbolic_functions() {
        for s in [1e-9, 1e-4, 0.1, 0.5, 0.999, 1.001, 2.0, 10.0, 40.0] {
            let r = Radial::<f64>::of(s * s);
            let (a, b) = (f64::sinh(s) / s, f64::cosh(s));
            assert!((r.a / a - 1.0).abs() < 1e-14 && (r.b / b - 1.0).abs() < 1e-14, "{s}");
            // The closed form cancels near 0, where the limit is 1/3.
            let slope = if s < 0.1 { 1.0 / 3.0 + s * s / 30.0 } else { (b - a) / (s * s) };
            assert!((r.slope / slope - 1.0).abs() < 1e-11, "{s}: {} is not {slope}", r.slope);
            let narrow = Radial::<f32>::of((s * s) as f32);
            assert!((f64::from(narrow.a) / a - 1.0).abs() < 1e-5, "{s}");
            assert!((f64::from(narrow.slope) / slope - 1.0).abs() < 1e-5, "{s}");
            for x in [s, -s] {
                let (sinh, cosh) = sinh_cosh(x);
                assert!((sinh / x.sinh() - 1.0).abs() < 1e-14 && (cosh / x.cosh() - 1.0).abs() < 1e-14);
            }
        }
        // Side by side they are the same to the last bit.
        let s2: Vec<f32> = (0..37).map(|i| 0.04 * i as f32).collect();
        let mut all = Vec::new();
        Radial::all(&s2, &mut all);
        for (s2, r) in s2.iter().zip(&all) {
            let alone = Radial::of(*s2);
            assert_eq!((r.a, r.b, r.slope), (alone.a, alone.b, alone.slope));
        }
        assert_eq!(all.len(), 37);
        let zero = Radial::<f32>::of(0.0);
        assert_eq!((zero.a, zero.b, zero.slope), (1.0, 1.0, 1.0 / 3.0));
    }
}
