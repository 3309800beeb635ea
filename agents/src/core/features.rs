//! From an encoder's outputs to features of bounded length: norm, activation, scale (Klein et al. 2025, arXiv:2512.14202).
//!
//! For outputs x `[d]` of the encoder:
//!
//! 1. RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467), n = x / √(mean x² + ε) without a gain: |n| < √d; or
//!    LayerNorm, (x − mean)/√(variance + ε), or nothing.
//! 2. h = tanh n or max(0, n): |h| ≤ |n|, and |h| ≤ √d tanh 1 for tanh after RMSNorm, since tanh² √u is concave.
//! 3. x̂ = h/√d: |x̂| < 1.
//! 4. A learned gate, v = ρ_max σ(⟨w, x̂⟩ + b) x̂: ρ = |v| < ρ_max.

use burn::tensor::Tensor;
use rand_distr::{Distribution, Uniform};
use serde::{Deserialize, Serialize};
use steadfast_envs::Rng;

use super::hyperbolic::{Float, dot};

/// What happens to the encoder's outputs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Division by the root mean square.
    Rms,
    /// Zero mean and unit variance.
    Layer,
    /// Nothing here; the encoder's layers have spectral norm 1 ([`spectral`](super::spectral)).
    Spectral,
    /// Nothing.
    None,
}

/// The nonlinearity after the norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Squash {
    /// Hyperbolic tangent.
    Tanh,
    /// max(0, x).
    Relu,
}

/// What bounds the features' length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// 1/√d, then a learned gate of the state.
    Gate,
    /// 1/√d.
    Root,
    /// Vectors longer than 1 are shortened to 1.
    Clip,
    /// Nothing.
    None,
}

/// The chain: shapes only, the parameters are the caller's. They are w `[d]` and b `[1]` of a gate.
#[derive(Clone, Debug)]
pub struct Features {
    /// d
    pub dim: usize,
    /// Step 1.
    pub norm: Norm,
    /// Step 2.
    pub squash: Squash,
    /// Steps 3 and 4.
    pub scale: Scale,
    /// ρ_max, where there is a gate.
    pub bound: f64,
}

/// What a forward pass keeps.
#[derive(Clone, Debug, Default)]
pub struct Work<T> {
    /// v, `[B, d]`.
    v: Vec<T>,
    /// dL/dv, `[B, d]`.
    d_v: Vec<T>,
    /// n and x̂, `[B, d]`.
    normed: Vec<T>,
    scaled: Vec<T>,
    /// 1/√(mean x² + ε), or of the variance, `[B]`.
    inverse: Vec<T>,
    /// σ of the gate, `[B]`.
    gate: Vec<T>,
    /// Gradients of one row, `[d]`.
    row: Vec<T>,
}

impl<T: Float> Work<T> {
    /// The features of the last forward pass, `[B, d]`, and room for the derivative of a loss with respect to them.
    pub fn features(&mut self) -> (&[T], &mut [T]) {
        self.d_v.resize(self.v.len(), T::default());
        (&self.v, &mut self.d_v)
    }

    /// Mean length of the features of the last forward pass, and mean of their gate where there is one.
    pub fn means(&self) -> (f64, Option<f64>) {
        let n = self.inverse.len().max(1);
        let length = |v: &[T]| -> f64 { dot(v, v).sqrt().into() };
        let norm = self.v.chunks_exact((self.v.len() / n).max(1)).map(length).sum::<f64>() / n as f64;
        let gate = || self.gate.iter().map(|g| -> f64 { (*g).into() }).sum::<f64>() / n as f64;
        (norm, (!self.gate.is_empty()).then(gate))
    }
}

impl Features {
    /// Number of parameters.
    pub fn len(&self) -> usize {
        if self.scale == Scale::Gate { self.dim + 1 } else { 0 }
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Initial parameters: uniform in ±1/√d.
    pub fn init(&self, rng: &mut Rng) -> Vec<f32> {
        let limit = 1.0 / (self.dim as f64).sqrt();
        let uniform = Uniform::new_inclusive(-limit, limit);
        // Fails for an empty range only, of which there is none.
        uniform.map_or(vec![0.0; self.len()], |u| {
            u.sample_iter(rng).take(self.len()).map(|w| w as f32).collect()
        })
    }

    /// Features of the encoder's outputs `x` `[B, d]`, into [`Work::features`].
    pub fn forward<T: Float>(&self, params: &[T], x: &[T], work: &mut Work<T>) {
        let d = self.dim;
        let Work { v, normed, scaled, inverse, gate, .. } = work;
        let one = T::of(1.0);
        let share = T::of(1.0 / d as f64);
        normed.clear();
        inverse.clear();
        for x in x.chunks_exact(d) {
            let mean = match self.norm {
                Norm::Layer => x.iter().fold(T::default(), |sum, x| sum + *x) * share,
                _ => T::default(),
            };
            let factor = match self.norm {
                Norm::Rms | Norm::Layer => {
                    let square = |sum, x: &T| sum + (*x - mean) * (*x - mean);
                    one / (x.iter().fold(T::default(), square) * share + T::EPSILON).sqrt()
                }
                Norm::Spectral | Norm::None => one,
            };
            inverse.push(factor);
            normed.extend(x.iter().map(|x| (*x - mean) * factor));
        }
        scaled.clear();
        scaled.extend_from_slice(normed);
        match self.squash {
            Squash::Tanh => T::tanh_all(scaled),
            Squash::Relu => scaled.iter_mut().for_each(|h| {
                if *h < T::default() {
                    *h = T::default();
                }
            }),
        }
        if matches!(self.scale, Scale::Gate | Scale::Root) {
            let root = T::of(1.0 / (d as f64).sqrt());
            scaled.iter_mut().for_each(|h| *h *= root);
        }
        v.clear();
        v.extend_from_slice(scaled);
        gate.clear();
        match self.scale {
            Scale::Gate => {
                let (w, b) = (&params[..d], params[d]);
                for v in v.chunks_exact_mut(d) {
                    let sigma = one / (one + (-(dot(w, v) + b)).exp());
                    gate.push(sigma);
                    let factor = T::of(self.bound) * sigma;
                    v.iter_mut().for_each(|v| *v *= factor);
                }
            }
            Scale::Clip => {
                for v in v.chunks_exact_mut(d) {
                    let length = dot(v, v).sqrt();
                    if length > one {
                        v.iter_mut().for_each(|v| *v = *v / length);
                    }
                }
            }
            Scale::Root | Scale::None => {}
        }
    }

    /// Features `[B, d]` of the encoder's outputs `x` `[B, d]` on tensors, under the parameters that begin at `first`.
    pub fn forward_tensor(&self, params: &Tensor<1>, first: usize, x: Tensor<2>) -> Tensor<2> {
        let d = self.dim;
        let n = match self.norm {
            Norm::Rms | Norm::Layer => {
                let x = if self.norm == Norm::Layer { x.clone() - x.mean_dim(1) } else { x };
                let square = x.clone().square().mean_dim(1);
                x / (square + f64::from(f32::EPSILON)).sqrt()
            }
            Norm::Spectral | Norm::None => x,
        };
        let h = match self.squash {
            Squash::Tanh => n.tanh(),
            Squash::Relu => n.clamp_min(0.0),
        };
        let root = 1.0 / (d as f64).sqrt();
        match self.scale {
            Scale::Gate => {
                let x_hat = h * root;
                let logit = x_hat.clone().matmul(params.clone().narrow(0, first, d).reshape([d, 1]))
                    + params.clone().narrow(0, first + d, 1).reshape([1, 1]);
                x_hat * (burn::tensor::activation::sigmoid(logit) * self.bound)
            }
            Scale::Root => h * root,
            Scale::Clip => {
                let longer = h.clone().square().sum_dim(1).clamp_min(1.0).sqrt();
                h / longer
            }
            Scale::None => h,
        }
    }

    /// After [`Self::forward`], with dL/dv in [`Work::features`]: dL/d`params` into `d_params`, dL/dx into `d_x` `[B, d]`.
    pub fn backward<T: Float>(&self, params: &[T], work: &mut Work<T>, d_params: &mut [T], d_x: &mut [T]) {
        let d = self.dim;
        let Work { v, d_v, normed, scaled, inverse, gate, row } = work;
        let one = T::of(1.0);
        let (root, share) = (T::of(1.0 / (d as f64).sqrt()), T::of(1.0 / d as f64));
        let unscale =
            if matches!(self.scale, Scale::Gate | Scale::Root) { T::of((d as f64).sqrt()) } else { one };
        d_params.fill(T::default());
        row.resize(d, T::default());
        for (b, (d_v, d_x)) in d_v.chunks_exact(d).zip(d_x.chunks_exact_mut(d)).enumerate() {
            let at = b * d..(b + 1) * d;
            let (v, n, x_hat) = (&v[at.clone()], &normed[at.clone()], &scaled[at]);
            // To x̂.
            match self.scale {
                Scale::Gate => {
                    let (sigma, bound) = (gate[b], T::of(self.bound));
                    let d_logit = bound * dot(d_v, x_hat) * sigma * (one - sigma);
                    for j in 0..d {
                        row[j] = bound * sigma * d_v[j] + d_logit * params[j];
                        d_params[j] += d_logit * x_hat[j];
                    }
                    d_params[d] += d_logit;
                }
                Scale::Clip => {
                    let length = dot(x_hat, x_hat).sqrt();
                    let along = dot(v, d_v);
                    let clipped = length > one;
                    for j in 0..d {
                        row[j] = if clipped { (d_v[j] - v[j] * along) / length } else { d_v[j] };
                    }
                }
                Scale::Root | Scale::None => row.copy_from_slice(d_v),
            }
            // To h, then to n.
            for j in 0..d {
                if matches!(self.scale, Scale::Gate | Scale::Root) {
                    row[j] *= root;
                }
                let h = x_hat[j] * unscale;
                row[j] *= match self.squash {
                    Squash::Tanh => one - h * h,
                    Squash::Relu if h > T::default() => one,
                    Squash::Relu => T::default(),
                };
            }
            // To x.
            let (along, mean) = match self.norm {
                Norm::Rms => (dot(row, n) * share, T::default()),
                Norm::Layer => {
                    (dot(row, n) * share, row.iter().fold(T::default(), |sum, g| sum + *g) * share)
                }
                Norm::Spectral | Norm::None => (T::default(), T::default()),
            };
            for j in 0..d {
                d_x[j] = inverse[b] * (row[j] - mean - n[j] * along);
            }
        }
    }

    /// Directional derivative of the features along `tangent` of `params`, into the room of [`Work::features`], after
    /// [`Self::forward`] on outputs of an encoder that move along `d_x` `[B, d]`.
    pub fn jvp<T: Float>(&self, params: &[T], tangent: &[T], d_x: &[T], work: &mut Work<T>) {
        let d = self.dim;
        work.features();
        let Work { v, d_v, normed, scaled, inverse, gate, .. } = work;
        let one = T::of(1.0);
        let share = T::of(1.0 / d as f64);
        let rooted = matches!(self.scale, Scale::Gate | Scale::Root);
        let (root, unscale) =
            if rooted { (T::of(1.0 / (d as f64).sqrt()), T::of((d as f64).sqrt())) } else { (one, one) };
        for (b, (d_x, d_v)) in d_x.chunks_exact(d).zip(d_v.chunks_exact_mut(d)).enumerate() {
            let at = b * d..(b + 1) * d;
            let (v, n, x_hat) = (&v[at.clone()], &normed[at.clone()], &scaled[at]);
            // n: the way back is symmetric.
            let (along, mean) = match self.norm {
                Norm::Rms => (dot(d_x, n) * share, T::default()),
                Norm::Layer => {
                    (dot(d_x, n) * share, d_x.iter().fold(T::default(), |sum, d| sum + *d) * share)
                }
                Norm::Spectral | Norm::None => (T::default(), T::default()),
            };
            // x̂
            for j in 0..d {
                let h = x_hat[j] * unscale;
                let slope = match self.squash {
                    Squash::Tanh => one - h * h,
                    Squash::Relu if h > T::default() => one,
                    Squash::Relu => T::default(),
                };
                d_v[j] = inverse[b] * (d_x[j] - mean - n[j] * along) * slope * root;
            }
            // v
            match self.scale {
                Scale::Gate => {
                    let (sigma, bound) = (gate[b], T::of(self.bound));
                    let d_logit = dot(&tangent[..d], x_hat) + dot(&params[..d], d_v) + tangent[d];
                    let d_sigma = sigma * (one - sigma) * d_logit;
                    for j in 0..d {
                        d_v[j] = bound * (d_sigma * x_hat[j] + sigma * d_v[j]);
                    }
                }
                Scale::Clip => {
                    let length = dot(x_hat, x_hat).sqrt();
                    if length > one {
                        let along = dot(v, d_v);
                        d_v.iter_mut().zip(v).for_each(|(d, v)| *d = (*d - *v * along) / length);
                    }
                }
                Scale::Root | Scale::None => {}
            }
        }
    }

    /// The same on tensors, without autodiff: features `[B, d]` of `x` `[B, d]` under the parameters that begin at `first`, and their
    /// derivative along `d_x` and `tangent`.
    pub fn jvp_tensor(
        &self,
        params: &Tensor<1>,
        tangent: &Tensor<1>,
        first: usize,
        x: Tensor<2>,
        d_x: Tensor<2>,
    ) -> (Tensor<2>, Tensor<2>) {
        let d = self.dim;
        let (n, d_n) = match self.norm {
            Norm::Rms | Norm::Layer => {
                let centred =
                    |x: Tensor<2>| if self.norm == Norm::Layer { x.clone() - x.mean_dim(1) } else { x };
                let (x, d_x) = (centred(x), centred(d_x));
                let inverse = (x.clone().square().mean_dim(1) + f64::from(f32::EPSILON)).sqrt().recip(); // [B, 1]
                let n = x * inverse.clone();
                let along = (n.clone() * d_x.clone()).mean_dim(1);
                (n.clone(), (d_x - n * along) * inverse)
            }
            Norm::Spectral | Norm::None => (x, d_x),
        };
        let (h, slope) = match self.squash {
            Squash::Tanh => {
                let h = n.tanh();
                (h.clone(), 1.0 - h.square())
            }
            Squash::Relu => {
                let h = n.clamp_min(0.0);
                (h.clone(), h.sign())
            }
        };
        let d_h = d_n * slope;
        let root = 1.0 / (d as f64).sqrt();
        match self.scale {
            Scale::Gate => {
                let gate = |of: &Tensor<1>| of.clone().narrow(0, first, d).reshape([d, 1]);
                let offset = |of: &Tensor<1>| of.clone().narrow(0, first + d, 1).reshape([1, 1]);
                let (x_hat, d_x_hat) = (h * root, d_h * root);
                let logit = x_hat.clone().matmul(gate(params)) + offset(params); // [B, 1]
                let d_logit = x_hat.clone().matmul(gate(tangent))
                    + d_x_hat.clone().matmul(gate(params))
                    + offset(tangent);
                let sigma = burn::tensor::activation::sigmoid(logit);
                let d_sigma = sigma.clone() * (1.0 - sigma.clone()) * d_logit;
                let d_v = x_hat.clone() * d_sigma + d_x_hat * sigma.clone();
                (x_hat * sigma * self.bound, d_v * self.bound)
            }
            Scale::Root => (h * root, d_h * root),
            Scale::Clip => {
                let square = h.clone().square().sum_dim(1);
                let longer = square.clone().clamp_min(1.0).sqrt();
                let v = h / longer.clone();
                let along = (v.clone() * d_h.clone()).sum_dim(1) * square.greater_scalar(1.0).float();
                (v.clone(), (d_h - v * along) / longer)
            }
            Scale::None => (h, d_h),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hyperbolic::testing::{near, normals};
    use super::*;
    use proptest::prelude::*;

    const NORMS: [Norm; 3] = [Norm::Rms, Norm::Layer, Norm::None];
    const SCALES: [Scale; 4] = [Scale::Gate, Scale::Root, Scale::Clip, Scale::None];

    fn narrow<T: Float>(x: &[f64]) -> Vec<T> {
        x.iter().map(|x| T::of(*x)).collect()
    }

    fn features<T: Float>(chain: &Features, params: &[f64], x: &[f64]) -> Vec<f64> {
        let mut work = Work::default();
        chain.forward(&narrow::<T>(params), &narrow(x), &mut work);
        super::super::hyperbolic::testing::f64s(work.features().0)
    }

    #[test]
    fn features_follow_their_definition() {
        let (x, params) = (normals(8, 1), normals(9, 2));
        let chain =
            Features { dim: 8, norm: Norm::Rms, squash: Squash::Tanh, scale: Scale::Gate, bound: 1.8 };
        let rms = (x.iter().map(|x| x * x).sum::<f64>() / 8.0 + f64::EPSILON).sqrt();
        let x_hat: Vec<f64> = x.iter().map(|x| (x / rms).tanh() / 8f64.sqrt()).collect();
        let logit = params[8] + x_hat.iter().zip(&params).map(|(x, w)| x * w).sum::<f64>();
        let expected: Vec<f64> = x_hat.iter().map(|x| 1.8 / (1.0 + (-logit).exp()) * x).collect();
        let (ours, single) = (features::<f64>(&chain, &params, &x), features::<f32>(&chain, &params, &x));
        for i in 0..8 {
            near(ours[i], expected[i], 1.0, 1e-14);
            near(single[i], expected[i], 1.0, 1e-6);
        }
        let layer = Features { norm: Norm::Layer, scale: Scale::None, ..chain };
        let mean = x.iter().sum::<f64>() / 8.0;
        let std = (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 8.0).sqrt();
        for (ours, x) in features::<f64>(&layer, &[], &x).iter().zip(&x) {
            near(*ours, ((x - mean) / std).tanh(), 1.0, 1e-12);
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (d, rows) = (5, 3);
        for norm in NORMS {
            for squash in [Squash::Tanh, Squash::Relu] {
                for scale in SCALES {
                    let chain = Features { dim: d, norm, squash, scale, bound: 1.8 };
                    let (mut params, mut x, g) =
                        (normals(chain.len(), 3), normals(rows * d, 4), normals(rows * d, 5));
                    let loss = |params: &[f64], x: &[f64]| dot(&features::<f64>(&chain, params, x), &g);
                    let mut work = Work::default();
                    chain.forward(&params, &x, &mut work);
                    work.features().1.copy_from_slice(&g);
                    let (mut d_params, mut d_x) = (vec![0.0; params.len()], vec![0.0; x.len()]);
                    chain.backward(&params, &mut work, &mut d_params, &mut d_x);
                    let h = 1e-6;
                    for i in 0..params.len() {
                        let saved = params[i];
                        params[i] = saved + h;
                        let up = loss(&params, &x);
                        params[i] = saved - h;
                        near(d_params[i], (up - loss(&params, &x)) / (2.0 * h), 1.0, 1e-6);
                        params[i] = saved;
                    }
                    for i in 0..x.len() {
                        let saved = x[i];
                        x[i] = saved + h;
                        let up = loss(&params, &x);
                        x[i] = saved - h;
                        near(d_x[i], (up - loss(&params, &x)) / (2.0 * h), 1.0, 1e-6);
                        x[i] = saved;
                    }
                }
            }
        }
    }

    /// J t of a chain with numbers of `T`, for tangents of parameters and inputs.
    fn along<T: Float>(chain: &Features, at: [&[f64]; 2], tangents: [&[f64]; 2]) -> Vec<f64> {
        let ([params, x], [tangent, d_x]) = (at.map(narrow::<T>), tangents.map(narrow::<T>));
        let mut work = Work::default();
        chain.forward(&params, &x, &mut work);
        chain.jvp(&params, &tangent, &d_x, &mut work);
        super::super::hyperbolic::testing::f64s(work.features().1)
    }

    #[test]
    fn tangents_agree_with_finite_differences() {
        let (d, rows) = (5, 3);
        for norm in NORMS {
            for squash in [Squash::Tanh, Squash::Relu] {
                for scale in SCALES {
                    let chain = Features { dim: d, norm, squash, scale, bound: 1.8 };
                    let (params, x) = (normals(chain.len(), 3), normals(rows * d, 4));
                    let (tangent, d_x) = (normals(chain.len(), 6), normals(rows * d, 7));
                    let ours = along::<f64>(&chain, [&params, &x], [&tangent, &d_x]);
                    let single = along::<f32>(&chain, [&params, &x], [&tangent, &d_x]);
                    let moved = |h: f64| {
                        let by = |x: &[f64], d: &[f64]| -> Vec<f64> {
                            x.iter().zip(d).map(|(x, d)| x + h * d).collect()
                        };
                        features::<f64>(&chain, &by(&params, &tangent), &by(&x, &d_x))
                    };
                    let h = 1e-6;
                    for (i, (up, down)) in moved(h).iter().zip(moved(-h)).enumerate() {
                        near(ours[i], (up - down) / (2.0 * h), 1.0, 1e-6);
                        near(single[i], ours[i], 1.0, 1e-4);
                    }
                }
            }
        }
    }

    #[cfg(feature = "cpu")]
    #[test]
    fn tangents_on_tensors_agree_with_those_in_f64() {
        use crate::core::device::to_host;
        let (d, rows) = (5, 3);
        for device in crate::core::testing::tensor_devices() {
            for (norm, squash) in NORMS.into_iter().flat_map(|n| [(n, Squash::Tanh), (n, Squash::Relu)]) {
                for scale in SCALES {
                    let chain = Features { dim: d, norm, squash, scale, bound: 1.8 };
                    let (params, x) = (normals(chain.len(), 3), normals(rows * d, 4));
                    let (tangent, d_x) = (normals(chain.len(), 6), normals(rows * d, 7));
                    let flat = |x: &[f64]| device.vector([&[0.5f32], narrow::<f32>(x).as_slice()].concat());
                    let matrix = |x: &[f64]| device.matrix(narrow(x), d);
                    let (v, d_v) =
                        chain.jvp_tensor(&flat(&params), &flat(&tangent), 1, matrix(&x), matrix(&d_x));
                    let expected = along::<f64>(&chain, [&params, &x], [&tangent, &d_x]);
                    for (ours, expected) in to_host(v).iter().zip(features::<f64>(&chain, &params, &x)) {
                        near(*ours, expected, 1.0, 1e-5);
                    }
                    for (ours, expected) in to_host(d_v).iter().zip(expected) {
                        near(*ours, expected, 1.0, 1e-4);
                    }
                }
            }
        }
    }

    /// Lengths of x̂ and of v for inputs of any scale, in both precisions.
    fn bounded<T: Float>(x: &[f64], params: &[f64], squash: Squash) -> Result<(), TestCaseError> {
        let bound = 0.95f64.atanh();
        let d = x.len();
        let chain = Features { dim: d, norm: Norm::Rms, squash, scale: Scale::Gate, bound };
        let length = |x: Vec<f64>| dot(&x, &x).sqrt();
        let x_hat = length(features::<T>(&Features { scale: Scale::Root, ..chain.clone() }, &[], x));
        let rho = length(features::<T>(&chain, params, x));
        match squash {
            Squash::Tanh => prop_assert!(x_hat <= 0.7616, "{x_hat}"),
            Squash::Relu => prop_assert!(x_hat <= 1.0 + 4.0 * T::EPSILON.into(), "{x_hat}"),
        }
        prop_assert!(rho < bound, "{rho}");
        Ok(())
    }

    proptest! {
        #[test]
        fn the_length_is_bounded(d in 1usize..65, exponent in -12.0f64..12.0, index in 0u64..1000) {
            let x: Vec<f64> = normals(d, index).iter().map(|x| x * 10f64.powf(exponent)).collect();
            let params: Vec<f64> = normals(d + 1, index + 1).iter().map(|w| 0.5 * w).collect();
            for squash in [Squash::Tanh, Squash::Relu] {
                bounded::<f64>(&x, &params, squash)?;
                bounded::<f32>(&x, &params, squash)?;
            }
        }
    }

    #[test]
    fn clipped_features_have_length_one_at_most() {
        let chain =
            Features { dim: 4, norm: Norm::None, squash: Squash::Relu, scale: Scale::Clip, bound: 0.0 };
        near(features::<f64>(&chain, &[], &[3.0, 4.0, 0.0, -1.0])[1], 0.8, 1.0, 1e-15);
        assert_eq!(features::<f64>(&chain, &[], &[0.3, 0.4, 0.0, -1.0]), [0.3, 0.4, 0.0, 0.0]);
    }
}
