//! Vector kernels on slices: the arithmetic of the CPU path.
//!
//! Each kernel is written once, as plain loops (products: as tiles of named vectors), and compiled for several instruction sets of which the processor's
//! best is taken at run time. **Results have the same bits on every processor**: the source fixes the order of
//! evaluation. Lanes run across independent results, never along a sum; sums take their terms in order, or in
//! sixteen strands that are joined in a fixed way; a fused multiply-add is written as one (`mul_add`) and is one
//! everywhere, in software where a processor older than 2013 has none (right, but slow); nothing else is contracted.
//!
//! The matrix products are not slower than the `gemm` crate's at the sizes of this crate; that is why they are ours. No external
//! product has a fixed order.

mod product;

pub use product::{Sizes, Start, product, product_transposed};

/// Sums and maxima that are under way side by side; part of the order of evaluation.
const STRANDS: usize = 16;

/// Compiles a kernel for several instruction sets: `fn name(arguments) { avx512, avx2, any }`, each a path to an
/// `#[inline(always)]` function of these arguments.
macro_rules! dispatched {
    ($(#[$meta:meta])* $seen:vis fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? { $wide:path, $avx2:path, $any:path }) => {
        $(#[$meta])*
        $seen fn $name($($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                fn wide($($arg: $type),*) $(-> $out)? {
                    $wide($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) $(-> $out)? {
                    $avx2($($arg),*)
                }
                if $crate::core::kernels::has_avx512() {
                    // SAFETY: the processor has the features that the function is compiled for.
                    return unsafe { wide($($arg),*) };
                }
                if $crate::core::kernels::has_avx2() {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $any($($arg),*)
        }
    };
}

pub(super) use dispatched;

#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
}

#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// The instruction set that the kernels use on this processor.
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            return "avx512";
        }
        if has_avx2() {
            return "avx2";
        }
    }
    std::env::consts::ARCH
}

dispatched! {
    /// `tanh` of every element, in place; error at most 6 ulp against `f64`.
    pub fn tanh(values: &mut [f32]) { tanh_all, tanh_all, tanh_all }
}

dispatched! {
    /// `grad` times the derivative of `tanh`, from its values: g (1 − h²), in place.
    pub fn tanh_backward(values: &[f32], grad: &mut [f32]) {
        tanh_backward_all, tanh_backward_all, tanh_backward_all
    }
}

dispatched! {
    /// `arsinh` of every element, in place; error at most 6 ulp against `f64`.
    pub fn asinh(values: &mut [f32]) { asinh_all, asinh_all, asinh_all }
}

dispatched! {
    /// exp(x − `shift`) of every element of `values`, into `out`.
    pub fn exp_shifted(values: &[f32], shift: f32, out: &mut [f32]) {
        exp_shifted_all, exp_shifted_all, exp_shifted_all
    }
}

dispatched! {
    /// The largest element, as [`f32::max`] has it; −∞ of none.
    pub fn largest(values: &[f32]) -> f32 { largest_all, largest_all, largest_all }
}

dispatched! {
    /// max(0, x) of every element, in place.
    pub fn relu(values: &mut [f32]) { relu_all, relu_all, relu_all }
}

dispatched! {
    /// `grad` times the derivative of the rectifier, from its values: 0 or −0 where they are 0, in place. A gradient that
    /// is not finite becomes NaN there.
    pub fn relu_backward(values: &[f32], grad: &mut [f32]) {
        relu_backward_all, relu_backward_all, relu_backward_all
    }
}

dispatched! {
    /// Moves `values` towards `other` by a share of the way: x + share (y − x), in place.
    pub fn mix(values: &mut [f32], other: &[f32], share: f32) { mix_all, mix_all, mix_all }
}

dispatched! {
    /// `sums` plus the sum of the rows of `rows` `[B, n]`, in order; n is the length of `sums`.
    pub fn add_rows(rows: &[f32], sums: &mut [f32]) { add_rows_all, add_rows_all, add_rows_all }
}

dispatched! {
    /// Σ x²
    pub fn sum_of_squares(values: &[f32]) -> f32 {
        sum_of_squares_all, sum_of_squares_all, sum_of_squares_all
    }
}

dispatched! {
    /// Multiplies every element.
    pub fn scale(values: &mut [f32], factor: f32) { scale_all, scale_all, scale_all }
}

dispatched! {
    /// One step of Adam on `params`, with the moments `m` and `v`.
    pub fn adam(params: &mut [f32], m: &mut [f32], v: &mut [f32], grad: &[f32], step: AdamStep) {
        adam_all, adam_all, adam_all
    }
}

/// The numbers of one step of Adam.
#[derive(Clone, Copy)]
pub struct AdamStep {
    /// β₁
    pub beta1: f32,
    /// 1 − β₁, rounded once.
    pub rest1: f32,
    /// β₂
    pub beta2: f32,
    /// 1 − β₂, rounded once.
    pub rest2: f32,
    /// Learning rate over 1 − β₁ᵗ.
    pub rate: f32,
    /// 1 / (1 − β₂ᵗ)
    pub correction2: f32,
    /// ε
    pub epsilon: f32,
}

#[inline(always)]
fn tanh_all(values: &mut [f32]) {
    for x in values {
        *x = tanh_one(*x);
    }
}

#[inline(always)]
fn exp_shifted_all(values: &[f32], shift: f32, out: &mut [f32]) {
    // Whole blocks: a few elements alone would take as long as a block.
    for (values, out) in values.chunks(STRANDS).zip(out.chunks_mut(STRANDS)) {
        let mut block = [0.0; STRANDS];
        block[..values.len()].copy_from_slice(values);
        block.iter_mut().for_each(|x| *x = exp(*x - shift));
        let n = values.len().min(out.len());
        out[..n].copy_from_slice(&block[..n]);
    }
}

#[inline(always)]
fn largest_all(values: &[f32]) -> f32 {
    let mut strands = [f32::NEG_INFINITY; STRANDS];
    let blocks = values.chunks_exact(STRANDS);
    let rest = blocks.remainder();
    // A comparison, unlike `f32::max`, is one instruction; NaN loses both ways.
    let keep = |most: &mut f32, x: f32| *most = if x > *most { x } else { *most };
    for block in blocks {
        strands.iter_mut().zip(block).for_each(|(most, x)| keep(most, *x));
    }
    strands.iter_mut().zip(rest).for_each(|(most, x)| keep(most, *x));
    strands.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

#[inline(always)]
fn asinh_all(values: &mut [f32]) {
    for x in values {
        *x = asinh_one(*x);
    }
}

/// ±ln(1 + t) with t = |x| + x²/(1 + √(1 + x²)), which does not cancel.
#[inline(always)]
fn asinh_one(x: f32) -> f32 {
    let a = x.abs();
    // Beyond 2³⁰ it is ln 2|x|, and the square would overflow.
    let t = if a > 1.073_741_8e9 { a + a } else { a + a * a / (1.0 + (1.0 + a * a).sqrt()) };
    // What 1 + t loses by rounding is in the quotient (Kahan).
    let w = 1.0 + t;
    let correction = if w == 1.0 || w.is_infinite() { 1.0 } else { t / (w - 1.0) };
    let y = if w == 1.0 { t } else { ln(w) * correction };
    y.copysign(x)
}

/// A rational approximation (numerator of degree 13, denominator of degree 6) on the clamped argument.
#[inline(always)]
fn tanh_one(x: f32) -> f32 {
    // Beyond this |x| the approximation has reached one.
    const CLAMP: f32 = 7.998_811_7;
    // Minimax coefficients as published in Eigen's source (`generic_fast_tanh_float`).
    const P: [f32; 7] = [
        4.893_524_6e-3,
        6.372_619_3e-4,
        1.485_722_4e-5,
        5.122_297e-8,
        -8.604_672e-11,
        2.000_188e-13,
        -2.760_768_5e-16,
    ];
    const Q: [f32; 4] = [4.893_525e-3, 2.268_434_6e-3, 1.185_347_1e-4, 1.198_258_4e-6];
    let c = x.clamp(-CLAMP, CLAMP);
    let s = c * c;
    let mut p = P[6];
    for a in P[..6].iter().rev() {
        p = p.mul_add(s, *a);
    }
    let mut q = Q[3];
    for a in Q[..3].iter().rev() {
        q = q.mul_add(s, *a);
    }
    // NaN passes through `clamp`; tiny arguments are their own tanh, and keep the sign of zero. The quotient may
    // round to just above one. (`c`, which is x there: x would become a masked store, as in `relu_backward`.)
    if x.abs() < 4e-4 { c } else { (c * p / q).clamp(-1.0, 1.0) }
}

#[inline(always)]
fn tanh_backward_all(values: &[f32], grad: &mut [f32]) {
    for (g, h) in grad.iter_mut().zip(values) {
        *g *= 1.0 - h * h;
    }
}

#[inline(always)]
fn relu_all(values: &mut [f32]) {
    values.iter_mut().for_each(|x| *x = x.max(0.0));
}

#[inline(always)]
fn relu_backward_all(values: &[f32], grad: &mut [f32]) {
    // A factor: a choice between what is there and 0 becomes a masked store, which takes five times as long (AMD, AVX2).
    for (g, h) in grad.iter_mut().zip(values) {
        *g *= if *h > 0.0 { 1.0 } else { 0.0 };
    }
}

#[inline(always)]
fn mix_all(values: &mut [f32], other: &[f32], share: f32) {
    for (x, y) in values.iter_mut().zip(other) {
        *x += share * (y - *x);
    }
}

#[inline(always)]
fn add_rows_all(rows: &[f32], sums: &mut [f32]) {
    let n = sums.len();
    let mut columns = sums.chunks_exact_mut(STRANDS);
    let mut j = 0;
    for columns in columns.by_ref() {
        let mut strip = [0.0; STRANDS];
        strip.copy_from_slice(columns);
        for row in rows.chunks_exact(n) {
            let row = &row[j..j + STRANDS];
            for (s, x) in strip.iter_mut().zip(row) {
                *s += x;
            }
        }
        columns.copy_from_slice(&strip);
        j += STRANDS;
    }
    for (j, s) in (j..).zip(columns.into_remainder()) {
        rows.chunks_exact(n).for_each(|row| *s += row[j]);
    }
}

#[inline(always)]
fn sum_of_squares_all(values: &[f32]) -> f32 {
    let mut strands = [0.0f32; STRANDS];
    let blocks = values.chunks_exact(STRANDS);
    let rest = blocks.remainder();
    for block in blocks {
        for (s, x) in strands.iter_mut().zip(block) {
            *s = x.mul_add(*x, *s);
        }
    }
    for (s, x) in strands.iter_mut().zip(rest) {
        *s = x.mul_add(*x, *s);
    }
    strands.iter().sum()
}

#[inline(always)]
fn scale_all(values: &mut [f32], factor: f32) {
    values.iter_mut().for_each(|x| *x *= factor);
}

#[inline(always)]
fn adam_all(params: &mut [f32], m: &mut [f32], v: &mut [f32], grad: &[f32], step: AdamStep) {
    let n = params.len();
    let (m, v, grad) = (&mut m[..n], &mut v[..n], &grad[..n]);
    for i in 0..n {
        let g = grad[i];
        m[i] = m[i] * step.beta1 + g * step.rest1;
        v[i] = v[i] * step.beta2 + g * g * step.rest2;
        let deviation = (v[i] * step.correction2).sqrt() + step.epsilon;
        params[i] -= m[i] * step.rate / deviation;
    }
}

/// `to` `[columns, rows]` becomes the transpose of `from` `[rows, columns]`.
pub fn transpose(from: &[f32], to: &mut [f32], rows: usize, columns: usize) {
    // Square blocks that fit into registers.
    const SIDE: usize = 4;
    let (whole_rows, whole_columns) = (rows / SIDE * SIDE, columns / SIDE * SIDE);
    for r in (0..whole_rows).step_by(SIDE) {
        for c in (0..whole_columns).step_by(SIDE) {
            let mut block = [[0.0; SIDE]; SIDE];
            for (i, row) in block.iter_mut().enumerate() {
                row.copy_from_slice(&from[(r + i) * columns + c..][..SIDE]);
            }
            for j in 0..SIDE {
                to[(c + j) * rows + r..][..SIDE].copy_from_slice(&block.map(|row| row[j]));
            }
        }
    }
    for c in 0..columns {
        let first = if c < whole_columns { whole_rows } else { 0 };
        for r in first..rows {
            to[c * rows + r] = from[r * columns + c];
        }
    }
}

/// eˣ to 2 ulp; 0 below −87.3 (no denormals), infinity above 88.7. The same bits everywhere, unlike a system's.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // x = n ln 2 + r with |r| ≤ ½ ln 2; ln 2 in two parts, the first exact in few bits (Cody and Waite 1980).
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Cephes' `expf`.
    const P: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
    // 1.5·2²³ + n, where the sum is rounded to a whole number whose lowest bits are those of n: to round, and to cast, would
    // call a function or look at every lane alone.
    const ROUND: f32 = 12_582_912.0;
    let rounded = (x * std::f32::consts::LOG2_E).clamp(-126.0, 128.0) + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = P[0];
    for a in &P[1..] {
        p = p * r + a;
    }
    // 2ⁿ in two factors: 2¹²⁸ alone is not a number.
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    let y = (p * r * r + r + 1.0) * power(n >> 1) * power(n.wrapping_sub(n >> 1));
    if x > 88.722_84 {
        f32::INFINITY
    } else if x < -87.336_54 {
        0.0
    } else {
        y
    }
}

/// Natural logarithm of a positive normal number, to 2 ulp. The same bits everywhere, unlike a system's.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // Cephes' `logf`: x = m 2ᵉ with √½ ≤ m < √2.
    const P: [f32; 9] = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_7e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    if x.is_nan() || x < f32::MIN_POSITIVE {
        return if x == 0.0 { f32::NEG_INFINITY } else { f32::NAN };
    }
    if x.is_infinite() {
        return x;
    }
    let bits = x.to_bits();
    let (mut e, mut m) = ((bits >> 23) as i32 - 126, f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000));
    if m < std::f32::consts::FRAC_1_SQRT_2 {
        e -= 1;
        m += m;
    }
    let (t, e) = (m - 1.0, e as f32);
    let s = t * t;
    let mut p = P[0];
    for a in &P[1..] {
        p = p * t + a;
    }
    p * t * s + e * -2.121_944_4e-4 - 0.5 * s + t + e * 0.693_359_4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0).collect()
    }

    #[test]
    fn arsinh_is_accurate_everywhere() {
        let mut worst = 0.0f64;
        for i in -4000..4000 {
            let x = 10f32.powf(i as f32 * 0.009);
            for x in [x, -x] {
                let mut y = [x];
                asinh(&mut y);
                let expected = f64::from(x).asinh();
                worst = worst.max((f64::from(y[0]) - expected).abs() / expected.abs());
            }
        }
        assert!(worst < 6.0 * f64::from(f32::EPSILON), "{worst:e}");
        let mut special = [0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        asinh(&mut special);
        assert_eq!(special[..3], [0.0, f32::INFINITY, f32::NEG_INFINITY]);
        assert!(special[3].is_nan());
    }

    proptest! {
        #[test]
        fn instruction_sets_do_not_show(n in 0usize..100, seed in 0usize..100) {
            let x: Vec<f32> = numbers(n, seed).iter().map(|x| x * 12.0).collect();
            let (mut a, mut b) = (x.clone(), x.clone());
            tanh(&mut a);
            tanh_all(&mut b);
            prop_assert_eq!(&a, &b);
            let (mut c, mut d) = (x.clone(), x.clone());
            asinh(&mut c);
            asinh_all(&mut d);
            prop_assert_eq!(&c, &d);
            let (mut g, mut h) = (numbers(n, 5), numbers(n, 5));
            tanh_backward(&a, &mut g);
            tanh_backward_all(&a, &mut h);
            prop_assert_eq!(&g, &h);
            for i in 0..n {
                let expected = f64::from(numbers(n, 5)[i]) * (1.0 - f64::from(a[i]).powi(2));
                prop_assert!((f64::from(g[i]) - expected).abs() < 1e-6);
            }
            let (mut a, mut b) = (x.clone(), x.clone());
            relu(&mut a);
            relu_all(&mut b);
            prop_assert_eq!(&a, &b);
            let expected: Vec<f32> = x.iter().map(|x| if *x > 0.0 { *x } else { 0.0 }).collect();
            prop_assert_eq!(&a, &expected);
            let mut g = numbers(n, 5);
            relu_backward(&a, &mut g);
            let slope = |i: usize| if x[i] > 0.0 { numbers(n, 5)[i] } else { 0.0 };
            let expected: Vec<f32> = (0..n).map(slope).collect();
            prop_assert_eq!(&g, &expected);
            let (mut a, mut b) = (x.clone(), x.clone());
            mix(&mut a, &numbers(n, 8), 0.3);
            mix_all(&mut b, &numbers(n, 8), 0.3);
            prop_assert_eq!(&a, &b);
            prop_assert!((0..n).all(|i| (a[i] - 0.7 * x[i] - 0.3 * numbers(n, 8)[i]).abs() < 1e-5));
            prop_assert_eq!(sum_of_squares(&x), sum_of_squares_all(&x));
            let sum: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            prop_assert!((f64::from(sum_of_squares(&x)) - sum).abs() <= 1e-5 * (1.0 + sum));
            for columns in [1, 3, 16, 40] {
                let rows = &x[..n / columns * columns];
                let (mut a, mut b) = (numbers(columns, 6), numbers(columns, 6));
                add_rows(rows, &mut a);
                add_rows_all(rows, &mut b);
                prop_assert_eq!(&a, &b);
                for j in 0..columns {
                    let first = f64::from(numbers(columns, 6)[j]);
                    let sum: f64 = rows.iter().skip(j).step_by(columns).map(|x| f64::from(*x)).sum();
                    prop_assert!((f64::from(a[j]) - first - sum).abs() < 1e-4);
                }
            }
            let step = AdamStep {
                beta1: 0.9, rest1: 0.1, beta2: 0.999, rest2: 0.001, rate: 0.01, correction2: 1.5, epsilon: 1e-5,
            };
            let (mut p, mut m, mut v) = (x.clone(), numbers(n, 7), x.iter().map(|x| x * x).collect::<Vec<_>>());
            let (mut q, mut m2, mut v2) = (p.clone(), m.clone(), v.clone());
            adam(&mut p, &mut m, &mut v, &x, step);
            adam_all(&mut q, &mut m2, &mut v2, &x, step);
            prop_assert_eq!((p, m, v), (q, m2, v2));
        }
    }

    #[test]
    fn tanh_is_close_to_the_f64_function() {
        let mut worst = 0.0f64;
        let mut values: Vec<f32> = (-200_000..=200_000).map(|i| i as f32 * 1e-4).collect();
        let x = values.clone();
        tanh(&mut values);
        for (x, y) in x.iter().zip(&values) {
            worst = worst.max((f64::from(*y) - f64::from(*x).tanh()).abs());
            assert!(y.abs() <= 1.0);
        }
        assert!(worst < 4e-7, "{worst:e}");
        let mut edges = [f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-30, f32::NAN];
        tanh(&mut edges);
        assert_eq!(edges[..5], [1.0, -1.0, 0.0, -0.0, 1e-30]);
        assert!(edges[3].is_sign_negative() && edges[5].is_nan());
    }

    #[test]
    fn exp_and_ln_are_close_to_the_f64_functions() {
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let (y, truth) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((y / truth - 1.0).abs() < 2.5e-7, "exp({x}) = {y:e}, not {truth:e}");
        }
        assert_eq!([exp(0.0), exp(-0.0), exp(f32::NEG_INFINITY), exp(-200.0)], [1.0, 1.0, 0.0, 0.0]);
        assert_eq!([exp(f32::INFINITY), exp(89.0)], [f32::INFINITY; 2]);
        assert!(exp(f32::NAN).is_nan() && exp(88.72).is_finite());
        let mut x = f32::MIN_POSITIVE;
        while x.is_finite() {
            let (y, truth) = (f64::from(ln(x)), f64::from(x).ln());
            assert!((y - truth).abs() < 2.5e-7 * truth.abs().max(0.3), "ln({x}) = {y}, not {truth}");
            x *= 1.0003;
        }
        assert_eq!([ln(1.0), ln(0.0), ln(f32::INFINITY)], [0.0, f32::NEG_INFINITY, f32::INFINITY]);
        assert!(ln(-1.0).is_nan() && ln(f32::NAN).is_nan());
    }

    #[test]
    fn transpose_swaps_rows_and_columns() {
        for (rows, columns) in [(0, 3), (1, 5), (16, 16), (17, 40)] {
            let from = numbers(rows * columns, 1);
            let mut to = vec![0.0; rows * columns];
            transpose(&from, &mut to, rows, columns);
            assert!((0..rows * columns).all(|i| to[i % columns * rows + i / columns] == from[i]));
        }
    }

    #[test]
    fn scale_multiplies() {
        let mut x = numbers(37, 1);
        scale(&mut x, 0.5);
        assert!(x.iter().zip(numbers(37, 1)).all(|(a, b)| *a == 0.5 * b));
    }
}
