//! Multinomial logistic regression: K logits, each a signed distance to a hyperplane, of tangent vectors at the origin.
//!
//! With n = z/|z|, A = sinh(s)/s and B = cosh s of s = √κ ρ, all hyperbolic logits have one form,
//!
//! u_k = A (α_k ⟨n_k, v⟩ + β_k ⟨q_k, v⟩) − γ_k B,   y_k = g (|z_k|/√κ) arsinh(u_k):
//!
//! | head | κ | g | α | β | γ |
//! |---|---|---|---|---|---|
//! | [`Geometry::Hyperboloid`]: Lorentz MLR (Bdeir et al. 2024, arXiv:2303.15919) | c | 1 | √κ cosh √κa | 0 | sinh √κa |
//! | [`Geometry::Ball`]: HNN++ (Shimizu et al. 2021, arXiv:2006.08210) | 4c | 4 | √κ cosh √κa | 0 | sinh √κa |
//! | [`Geometry::BallPoints`]: offsets are points q of the ball (Ganea et al. 2018, arXiv:1805.09112; Cetin et al. 2023, arXiv:2210.01542) | 4c | 2 | √κ | c√κ λ_q⟨q, n⟩ | √c λ_q⟨q, n⟩ |
//!
//! The first two are one family of functions: HNN++(v, z, r) = Lorentz(2v, 2z, 2r). In the ball, exp₀ goes twice as far:
//! hence κ = 4c. Points are never formed, so that nothing saturates; with large ρ, sinh overflows and the
//! logits are not finite. Offsets a and normals z are Euclidean parameters; points q need a Riemannian
//! optimiser ([`RiemannianAdam`]).

use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use steadfast_envs::{Rng, State, StateError};

use super::maps::{ball_exp, ball_transport, conformal_factor};
use super::{Float, Radial, dot, sinh_cosh};
use crate::core::kernels::{Sizes, dispatched};

/// Where the features of a head live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Geometry {
    /// Nowhere: a linear layer, y = ⟨z, v⟩ + b.
    Euclidean,
    /// On the hyperboloid.
    Hyperboloid,
    /// In the Poincaré ball, with scalar offsets.
    Ball,
    /// In the Poincaré ball, with points as offsets.
    BallPoints,
}

/// A head: shapes only, the parameters are the caller's.
///
/// Parameters: normals `[d, K]` row by row, then offsets `[K]`; points `[K, d]`, of [`Geometry::BallPoints`] alone, apart.
#[derive(Clone, Debug)]
pub struct Mlr {
    geometry: Geometry,
    inputs: usize,
    outputs: usize,
    curvature: f64,
}

/// Lengths below this count as this, where something is divided by them.
pub(super) const TINY: f64 = 1e-15;

/// What a forward pass keeps for the backward pass, and room for both.
#[derive(Clone, Debug, Default)]
pub struct Work<T> {
    /// y, `[B, K]`.
    outputs: Vec<T>,
    /// dL/dy, `[B, K]`.
    d_outputs: Vec<T>,
    planes: Planes<T>,
    /// s² and what follows from it, of each row, `[B]`.
    squares: Vec<T>,
    radial: Vec<Radial<T>>,
    /// ⟨z, v⟩, then ⟨n, v⟩; ⟨q, v⟩; u; arsinh u: `[B, K]` each.
    along_normal: Vec<T>,
    along_point: Vec<T>,
    u: Vec<T>,
    asinh: Vec<T>,
    /// Points, transposed, `[d, K]`, and normals, `[K, d]`.
    transposed: Vec<T>,
    /// dL/d⟨n, v⟩ / |z| and dL/d⟨q, v⟩, `[B, K]`.
    d_normal: Vec<T>,
    d_point: Vec<T>,
    sums: Sums<T>,
    /// dL/d(s²/2) of each row, over κ, `[B]`.
    along_v: Vec<T>,
}

/// What all rows share, `[K]` each.
#[derive(Clone, Debug, Default)]
pub struct Planes<T> {
    /// |z|
    norm: Vec<T>,
    alpha: Vec<T>,
    beta: Vec<T>,
    gamma: Vec<T>,
    /// ⟨q, n⟩ and λ_q; cosh and sinh of √κa.
    first: Vec<T>,
    second: Vec<T>,
}

/// Sums over the rows, of each plane, `[K]` each.
#[derive(Clone, Debug, Default)]
pub struct Sums<T> {
    /// dL/dα, dL/dβ, dL/dγ.
    alpha: Vec<T>,
    beta: Vec<T>,
    gamma: Vec<T>,
    /// Of the normal, along n.
    along_n: Vec<T>,
    /// Of dL/d(s²/2), `[B, K]`.
    terms: Vec<T>,
}

impl<T: Float> Planes<T> {
    fn clear(&mut self, k: usize) {
        let Self { norm, alpha, beta, gamma, first, second } = self;
        for column in [norm, alpha, beta, gamma, first, second] {
            column.clear();
            column.resize(k, T::default());
        }
    }
}

impl<T: Float> Sums<T> {
    fn clear(&mut self, rows: usize, k: usize) {
        let Self { alpha, beta, gamma, along_n, terms } = self;
        for column in [alpha, beta, gamma, along_n] {
            column.clear();
            column.resize(k, T::default());
        }
        terms.resize(rows * k, T::default());
    }
}

/// What the loops over rows write on their way back.
pub struct Back<'a, T> {
    /// dL/d⟨n, v⟩ / |z| and dL/d⟨q, v⟩, `[B, K]`.
    d_normal: &'a mut [T],
    d_point: &'a mut [T],
    sums: &'a mut Sums<T>,
    along_v: &'a mut [T],
}

/// What they read: dL/dy, ⟨n, v⟩, ⟨q, v⟩, u and arsinh u, `[B, K]` each, and g/√κ.
pub struct Kept<'a, T> {
    d_y: &'a [T],
    along_normal: &'a [T],
    along_point: &'a [T],
    u: &'a [T],
    asinh: &'a [T],
    scale: T,
}

/// The loops over rows, compiled for several instruction sets where a processor has them.
pub trait Loops: Sized {
    /// ⟨n, v⟩ from ⟨z, v⟩, in place, and u, `[B, K]` each.
    fn distances(
        radial: &[Radial<Self>],
        planes: &Planes<Self>,
        along_normal: &mut [Self],
        along_point: &[Self],
        u: &mut [Self],
    );
    /// Derivatives of u and y.
    fn slopes(radial: &[Radial<Self>], planes: &Planes<Self>, seen: Kept<Self>, back: Back<Self>);
}

impl Loops for f64 {
    fn distances(radial: &[Radial<f64>], planes: &Planes<f64>, nv: &mut [f64], qv: &[f64], u: &mut [f64]) {
        distances_all(radial, planes, nv, qv, u);
    }
    fn slopes(radial: &[Radial<f64>], planes: &Planes<f64>, seen: Kept<f64>, back: Back<f64>) {
        slopes_all(radial, planes, seen, back);
    }
}

impl Loops for f32 {
    fn distances(radial: &[Radial<f32>], planes: &Planes<f32>, nv: &mut [f32], qv: &[f32], u: &mut [f32]) {
        distances_f32(radial, planes, nv, qv, u);
    }
    fn slopes(radial: &[Radial<f32>], planes: &Planes<f32>, seen: Kept<f32>, back: Back<f32>) {
        slopes_f32(radial, planes, seen, back);
    }
}

dispatched! {
    fn distances_f32(radial: &[Radial<f32>], planes: &Planes<f32>, nv: &mut [f32], qv: &[f32], u: &mut [f32]) {
        distances_all, distances_all, distances_all
    }
}

dispatched! {
    fn slopes_f32(radial: &[Radial<f32>], planes: &Planes<f32>, seen: Kept<f32>, back: Back<f32>) {
        slopes_all, slopes_all, slopes_all
    }
}

#[inline(always)]
fn distances_all<T: Float>(
    radial: &[Radial<T>],
    planes: &Planes<T>,
    along_normal: &mut [T],
    along_point: &[T],
    u: &mut [T],
) {
    let k = planes.norm.len();
    let (norm, alpha) = (&planes.norm[..k], &planes.alpha[..k]);
    let (beta, gamma) = (&planes.beta[..k], &planes.gamma[..k]);
    for (b, r) in radial.iter().enumerate() {
        let row = b * k..(b + 1) * k;
        let (nv, qv, u) = (&mut along_normal[row.clone()], &along_point[row.clone()], &mut u[row]);
        for i in 0..k {
            nv[i] = nv[i] / norm[i];
            u[i] = r.a * (alpha[i] * nv[i] + beta[i] * qv[i]) - gamma[i] * r.b;
        }
    }
}

#[inline(always)]
fn slopes_all<T: Float>(radial: &[Radial<T>], planes: &Planes<T>, seen: Kept<T>, back: Back<T>) {
    let k = planes.norm.len();
    let (norm, alpha) = (&planes.norm[..k], &planes.alpha[..k]);
    let (beta, gamma) = (&planes.beta[..k], &planes.gamma[..k]);
    let Sums { alpha: d_alpha, beta: d_beta, gamma: d_gamma, along_n, terms } = back.sums;
    let (d_alpha, d_beta) = (&mut d_alpha[..k], &mut d_beta[..k]);
    let (d_gamma, along_n) = (&mut d_gamma[..k], &mut along_n[..k]);
    let (scale, one) = (seen.scale, T::of(1.0));
    for (b, r) in radial.iter().enumerate() {
        let row = b * k..(b + 1) * k;
        let (nv, qv, u) =
            (&seen.along_normal[row.clone()], &seen.along_point[row.clone()], &seen.u[row.clone()]);
        let (asinh, d_y) = (&seen.asinh[row.clone()], &seen.d_y[row.clone()]);
        let terms = &mut terms[row.clone()];
        let (d_normal, d_point) = (&mut back.d_normal[row.clone()], &mut back.d_point[row]);
        for i in 0..k {
            let d_u = d_y[i] * scale * norm[i] / (one + u[i] * u[i]).sqrt();
            let d_inner = d_u * r.a;
            d_normal[i] = d_inner * alpha[i] / norm[i];
            d_point[i] = d_inner * beta[i];
            let inner = alpha[i] * nv[i] + beta[i] * qv[i];
            terms[i] = d_u * (inner * r.slope - gamma[i] * r.a);
            d_alpha[i] += d_inner * nv[i];
            d_beta[i] += d_inner * qv[i];
            d_gamma[i] += -d_u * r.b;
            along_n[i] += d_y[i] * scale * asinh[i] - d_normal[i] * nv[i];
        }
    }
    // Sums take their terms in order; those of several rows go side by side.
    const SIDE: usize = 8;
    for (along_v, terms) in back.along_v.chunks_mut(SIDE).zip(terms.chunks(SIDE * k)) {
        let mut sums = [T::default(); SIDE];
        for i in 0..k {
            sums.iter_mut().zip(terms[i..].iter().step_by(k)).for_each(|(sum, term)| *sum += *term);
        }
        along_v.copy_from_slice(&sums[..along_v.len()]);
    }
}

impl<T: Float> Work<T> {
    /// The outputs of the last forward pass, `[B, K]`, and room for the derivative of a loss with respect to them.
    pub fn outputs(&mut self) -> (&[T], &mut [T]) {
        self.d_outputs.resize(self.outputs.len(), T::default());
        (&self.outputs, &mut self.d_outputs)
    }

    /// The outputs of the last forward pass, to be changed: no derivative looks at them.
    pub fn outputs_mut(&mut self) -> &mut [T] {
        &mut self.outputs
    }
}

impl Mlr {
    /// A head of `outputs` planes for features of `inputs` numbers, in a space of curvature −`curvature`.
    pub fn new(geometry: Geometry, inputs: usize, outputs: usize, curvature: f64) -> Self {
        Self { geometry, inputs, outputs, curvature }
    }

    /// Where the features live.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// c
    pub fn curvature(&self) -> f64 {
        self.curvature
    }

    /// K
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of Euclidean parameters.
    pub fn len(&self) -> usize {
        let offsets = if self.geometry == Geometry::BallPoints { 0 } else { self.outputs };
        self.inputs * self.outputs + offsets
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers in all points.
    pub fn points_len(&self) -> usize {
        if self.geometry == Geometry::BallPoints { self.inputs * self.outputs } else { 0 }
    }

    /// Names and shapes of the parts of the parameters, in order.
    pub fn parts(&self) -> Vec<(&'static str, Vec<usize>)> {
        let mut parts = vec![("normals", vec![self.inputs, self.outputs])];
        if self.geometry != Geometry::BallPoints {
            parts.push(("offsets", vec![self.outputs]));
        }
        parts
    }

    /// Initial parameters: normals N(0, `gain`²/d), offsets 0. Points start at the origin.
    pub fn init(&self, gain: f64, rng: &mut Rng) -> Vec<f32> {
        let scale = gain / (self.inputs as f64).sqrt();
        let normal = |x: f64| (scale * x) as f32;
        let mut params: Vec<f32> =
            StandardNormal.sample_iter(rng).take(self.inputs * self.outputs).map(normal).collect();
        params.resize(self.len(), 0.0);
        params
    }

    /// κ and g of the table above.
    pub(super) fn scales<T: Float>(&self) -> (T, T) {
        let (kappa, gain) = match self.geometry {
            Geometry::Euclidean | Geometry::Hyperboloid => (1.0, 1.0),
            Geometry::Ball => (4.0, 4.0),
            Geometry::BallPoints => (4.0, 2.0),
        };
        (T::of(kappa * self.curvature), T::of(gain))
    }

    /// Logits of features `v` `[B, d]`, into [`Work::outputs`].
    pub fn forward<T: Float>(&self, params: &[T], points: &[T], v: &[T], work: &mut Work<T>) {
        let (d, k) = (self.inputs, self.outputs);
        let rows = v.len() / d.max(1);
        let sizes = Sizes { m: rows, n: k, k: d };
        let (normals, offsets) = params.split_at(d * k);
        let Work {
            outputs, squares, radial, along_normal, along_point, u, asinh, transposed, planes, ..
        } = work;
        if self.geometry == Geometry::Euclidean {
            outputs.clear();
            (0..rows).for_each(|_| outputs.extend_from_slice(offsets));
            return T::product(v, normals, true, outputs, sizes);
        }
        self.look_at_planes(normals, offsets, points, planes);
        let (kappa, gain) = self.scales::<T>();
        squares.clear();
        squares.extend(v.chunks_exact(d).map(|v| kappa * dot(v, v)));
        Radial::all(squares, radial);
        along_normal.resize(rows * k, T::default());
        T::product(v, normals, false, along_normal, sizes);
        along_point.resize(rows * k, T::default());
        if self.geometry == Geometry::BallPoints {
            transposed.resize(d * k, T::default());
            transpose(points, transposed, k, d);
            T::product(v, transposed, false, along_point, sizes);
        }
        u.resize(rows * k, T::default());
        T::distances(radial, planes, along_normal, along_point, u);
        asinh.clear();
        asinh.extend_from_slice(u);
        T::asinh_all(asinh);
        outputs.resize(rows * k, T::default());
        let scale = gain / kappa.sqrt();
        for (y, asinh) in outputs.chunks_exact_mut(k).zip(asinh.chunks_exact(k)) {
            for ((y, a), norm) in y.iter_mut().zip(asinh).zip(&planes.norm) {
                *y = scale * *norm * *a;
            }
        }
    }

    /// After [`Self::forward`], with dL/dy `[B, K]` in [`Work::outputs`]: dL/d`params` into `d_params`, dL/d`points` into
    /// `d_points`; dL/dv is added to `d_v` `[B, d]`.
    pub fn backward<T: Float>(
        &self,
        params: &[T],
        points: &[T],
        v: &[T],
        work: &mut Work<T>,
        d_params: &mut [T],
        d_points: &mut [T],
        d_v: &mut [T],
    ) {
        let (d, k) = (self.inputs, self.outputs);
        let rows = v.len() / d.max(1);
        let (towards_planes, towards_rows) = (Sizes { m: d, n: k, k: rows }, Sizes { m: rows, n: d, k });
        let normals = &params[..d * k];
        let (d_normals, d_offsets) = d_params.split_at_mut(d * k);
        let Work { d_outputs, radial, along_normal, along_point, u, asinh, transposed, .. } = work;
        transposed.resize(d * k, T::default());
        if self.geometry == Geometry::Euclidean {
            d_offsets.fill(T::default());
            for row in d_outputs.chunks_exact(k) {
                d_offsets.iter_mut().zip(row).for_each(|(d, g)| *d += *g);
            }
            T::product_transposed(v, d_outputs, false, d_normals, towards_planes);
            transpose(normals, transposed, d, k);
            return T::product(d_outputs, transposed, true, d_v, towards_rows);
        }

        let (planes, d_normal, d_point, sums, along_v) =
            (&work.planes, &mut work.d_normal, &mut work.d_point, &mut work.sums, &mut work.along_v);
        let (kappa, gain) = self.scales::<T>();
        let scale = gain / kappa.sqrt();
        sums.clear(rows, k);
        along_v.resize(rows, T::default());
        d_normal.resize(rows * k, T::default());
        d_point.resize(rows * k, T::default());
        let seen = Kept { d_y: d_outputs, along_normal, along_point, u, asinh, scale };
        T::slopes(radial, planes, seen, Back { d_normal, d_point, sums, along_v });
        for ((v, d_v), along_v) in v.chunks_exact(d).zip(d_v.chunks_exact_mut(d)).zip(&*along_v) {
            // dA/dv = κ slope v, dB/dv = κ A v
            let along_v = kappa * *along_v;
            d_v.iter_mut().zip(v).for_each(|(d, v)| *d += along_v * *v);
        }
        T::product_transposed(v, d_normal, false, d_normals, towards_planes);
        transpose(normals, transposed, d, k);
        T::product(d_normal, transposed, true, d_v, towards_rows);
        if self.geometry == Geometry::BallPoints {
            T::product(d_point, points, true, d_v, towards_rows);
            // Σ_b dL/d⟨q, v⟩ v, `[K, d]`
            T::product_transposed(d_point, v, false, d_points, Sizes { m: k, n: d, k: rows });
        }

        let root = kappa.sqrt();
        let c = T::of(self.curvature);
        for i in 0..k {
            let (d_alpha, d_beta, d_gamma) = (sums.alpha[i], sums.beta[i], sums.gamma[i]);
            let (norm, along_n) = (planes.norm[i], &mut sums.along_n[i]);
            if self.geometry == Geometry::BallPoints {
                // e = λ⟨q, n⟩, of which β and γ are multiples.
                let (qn, lambda) = (planes.first[i], planes.second[i]);
                let d_e = d_beta * c * root + d_gamma * c.sqrt();
                let (q, d_q) = (&points[i * d..(i + 1) * d], &mut d_points[i * d..(i + 1) * d]);
                for j in 0..d {
                    let n = normals[j * k + i] / norm;
                    d_q[j] += d_e * lambda * (n + qn * c * lambda * q[j]);
                    d_normals[j * k + i] += d_e * lambda / norm * q[j];
                }
                *along_n += -d_e * lambda / norm * qn;
            } else {
                let (cosh, sinh) = (planes.first[i], planes.second[i]);
                d_offsets[i] = root * (d_alpha * root * sinh + d_gamma * cosh);
            }
        }
        for (d_row, row) in d_normals.chunks_exact_mut(k).zip(normals.chunks_exact(k)) {
            for i in 0..k {
                d_row[i] += sums.along_n[i] * (row[i] / planes.norm[i]);
            }
        }
    }

    /// Directional derivative of the logits along `tangent` of `params`, into the room of [`Work::outputs`], after [`Self::forward`]
    /// on features that move along `d_v` `[B, d]`. Points, of [`Geometry::BallPoints`] alone, stand still.
    pub fn jvp<T: Float>(
        &self,
        params: &[T],
        points: &[T],
        tangent: &[T],
        v: &[T],
        d_v: &[T],
        work: &mut Work<T>,
    ) {
        let (d, k) = (self.inputs, self.outputs);
        let sizes = Sizes { m: v.len() / d.max(1), n: k, k: d };
        let (normals, (d_normals, d_offsets)) = (&params[..d * k], tangent.split_at(d * k));
        work.outputs();
        let Work {
            d_outputs,
            radial,
            along_normal,
            along_point,
            u,
            asinh,
            transposed,
            planes,
            d_point,
            squares,
            ..
        } = work;
        // d⟨z, v⟩
        T::product(v, d_normals, false, d_outputs, sizes);
        T::product(d_v, normals, true, d_outputs, sizes);
        if self.geometry == Geometry::Euclidean {
            for row in d_outputs.chunks_exact_mut(k) {
                row.iter_mut().zip(d_offsets).for_each(|(d, offset)| *d += *offset);
            }
            return;
        }
        let (kappa, gain) = self.scales::<T>();
        let (root, scale) = (kappa.sqrt(), gain / kappa.sqrt());
        d_point.clear();
        d_point.resize(d_outputs.len(), T::default());
        if self.geometry == Geometry::BallPoints {
            transposed.resize(d * k, T::default());
            transpose(points, transposed, k, d);
            T::product(d_v, transposed, false, d_point, sizes);
        }
        // d(s²/2), of which A and B are functions
        squares.clear();
        squares.extend(v.chunks_exact(d).zip(d_v.chunks_exact(d)).map(|(v, d_v)| kappa * dot(v, d_v)));
        let (c, one) = (T::of(self.curvature), T::of(1.0));
        for i in 0..k {
            let (norm, first, second) = (planes.norm[i], planes.first[i], planes.second[i]);
            let along_z = |sum, j: usize| sum + normals[j * k + i] * d_normals[j * k + i];
            let d_norm = (0..d).fold(T::default(), along_z) / norm;
            let (d_alpha, d_beta, d_gamma) = if self.geometry == Geometry::BallPoints {
                // ⟨q, n⟩ = ⟨q, z⟩/|z|
                let q = &points[i * d..(i + 1) * d];
                let along = (0..d).fold(T::default(), |sum, j| sum + q[j] * d_normals[j * k + i]);
                let d_e = second * (along - first * d_norm) / norm;
                (T::default(), c * root * d_e, c.sqrt() * d_e)
            } else {
                let d_offset = root * d_offsets[i];
                (root * second * d_offset, T::default(), first * d_offset)
            };
            let (alpha, beta, gamma) = (planes.alpha[i], planes.beta[i], planes.gamma[i]);
            for (b, r) in radial.iter().enumerate() {
                let at = b * k + i;
                let (d_square, nv, qv) = (squares[b], along_normal[at], along_point[at]);
                let d_nv = (d_outputs[at] - nv * d_norm) / norm;
                let inner = alpha * nv + beta * qv;
                let d_inner = d_alpha * nv + alpha * d_nv + d_beta * qv + beta * d_point[at];
                let d_u = r.slope * d_square * inner + r.a * d_inner - d_gamma * r.b - gamma * r.a * d_square;
                d_outputs[at] = scale * (d_norm * asinh[at] + norm * d_u / (one + u[at] * u[at]).sqrt());
            }
        }
    }

    /// What all rows share.
    fn look_at_planes<T: Float>(&self, normals: &[T], offsets: &[T], points: &[T], planes: &mut Planes<T>) {
        let (d, k) = (self.inputs, self.outputs);
        let (kappa, _) = self.scales::<T>();
        let (root, c) = (kappa.sqrt(), T::of(self.curvature));
        planes.clear(k);
        for row in normals.chunks_exact(k) {
            planes.norm.iter_mut().zip(row).for_each(|(norm, z)| *norm += *z * *z);
        }
        for i in 0..k {
            let norm = planes.norm[i].sqrt();
            let norm = if norm < T::of(TINY) { T::of(TINY) } else { norm };
            planes.norm[i] = norm;
            if self.geometry == Geometry::BallPoints {
                let q = &points[i * d..(i + 1) * d];
                let qn = (0..d).fold(T::default(), |sum, j| sum + q[j] * normals[j * k + i]) / norm;
                let lambda = conformal_factor(q, c);
                (planes.first[i], planes.second[i]) = (qn, lambda);
                planes.alpha[i] = root;
                planes.beta[i] = c * root * lambda * qn;
                planes.gamma[i] = c.sqrt() * lambda * qn;
            } else {
                let (sinh, cosh) = sinh_cosh(root * offsets[i]);
                (planes.first[i], planes.second[i]) = (cosh, sinh);
                planes.alpha[i] = root * cosh;
                planes.gamma[i] = sinh;
            }
        }
    }
}

/// `[rows, columns]` to `[columns, rows]`.
fn transpose<T: Float>(from: &[T], to: &mut [T], rows: usize, columns: usize) {
    for (r, row) in from.chunks_exact(columns.max(1)).enumerate() {
        row.iter().enumerate().for_each(|(c, x)| to[c * rows + r] = *x);
    }
}

/// Adam on points of the ball (Bécigneul and Ganea 2019, arXiv:1810.00760): one second moment a point, steps along
/// geodesics, momentum carried along by parallel transport.
pub struct RiemannianAdam {
    m: Vec<f32>,
    v: Vec<f32>,
    steps: u64,
    epsilon: f64,
    curvature: f64,
    dim: usize,
    /// Point, momentum, gradient, step, room and the point after the step, `[dim]` each.
    room: [Vec<f64>; 6],
}

impl RiemannianAdam {
    const BETA1: f64 = 0.9;
    const BETA2: f64 = 0.999;

    /// For points `[K, dim]` of `len` numbers.
    pub fn new(len: usize, dim: usize, curvature: f64, epsilon: f64) -> Self {
        let room = std::array::from_fn(|_| vec![0.0; dim]);
        Self { m: vec![0.0; len], v: vec![0.0; len / dim.max(1)], steps: 0, epsilon, curvature, dim, room }
    }

    /// One descent step along the Riemannian gradient, `grad`/λ², with learning rate `lr`.
    pub fn step(&mut self, points: &mut [f32], grad: &[f32], lr: f64) {
        self.steps += 1;
        let t = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let (first, second) = (1.0 - Self::BETA1.powi(t), 1.0 - Self::BETA2.powi(t));
        let (c, d) = (self.curvature, self.dim);
        let [q, m, g, step, room, end] = &mut self.room;
        let load =
            |from: &[f32], to: &mut [f64]| to.iter_mut().zip(from).for_each(|(a, b)| *a = f64::from(*b));
        let store = |from: &[f64], to: &mut [f32]| to.iter_mut().zip(from).for_each(|(a, b)| *a = *b as f32);
        for (i, v) in self.v.iter_mut().enumerate() {
            let at = i * d..(i + 1) * d;
            load(&points[at.clone()], q);
            load(&self.m[at.clone()], m);
            load(&grad[at.clone()], g);
            let lambda = conformal_factor(q, c);
            let inverse = 1.0 / (lambda * lambda);
            // Squared length of the Riemannian gradient: λ² |g/λ²|².
            let square = dot(g, g) * inverse;
            *v = (Self::BETA2 * f64::from(*v) + (1.0 - Self::BETA2) * square) as f32;
            let factor = -lr / first / ((f64::from(*v) / second).sqrt() + self.epsilon);
            for j in 0..d {
                m[j] = Self::BETA1 * m[j] + (1.0 - Self::BETA1) * inverse * g[j];
                step[j] = factor * m[j];
            }
            ball_exp(q, step, c, room, end);
            ball_transport(q, end, c, m);
            store(end, &mut points[at.clone()]);
            store(m, &mut self.m[at]);
        }
    }

    /// Saves the moments and the step count.
    pub fn save(&self, name: &str, state: &mut State) {
        state.put_f32(&format!("{name}.m"), &self.m);
        state.put_f32(&format!("{name}.v"), &self.v);
        state.put_u64(&format!("{name}.steps"), &[self.steps]);
    }

    /// Restores the moments and the step count.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, name: &str, state: &State) -> Result<(), StateError> {
        self.m = state.f32(&format!("{name}.m"), self.m.len())?.to_vec();
        self.v = state.f32(&format!("{name}.v"), self.v.len())?.to_vec();
        self.steps = state.u64(&format!("{name}.steps"), 1)?[0];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::maps::{hyperboloid_distance, hyperboloid_exp0, mobius_add};
    use super::super::testing::{CURVATURES, DIMS, RADII, near, normals, vector};
    use super::*;
    use proptest::prelude::*;

    const GEOMETRIES: [Geometry; 4] =
        [Geometry::Euclidean, Geometry::Hyperboloid, Geometry::Ball, Geometry::BallPoints];

    /// The only logit of a head with one plane.
    fn logit<T: Float>(geometry: Geometry, v: &[T], z: &[T], offset: &[T], c: f64) -> T {
        let head = Mlr::new(geometry, v.len(), 1, c);
        let mut work = Work::default();
        if geometry == Geometry::BallPoints {
            head.forward(z, offset, v, &mut work);
        } else {
            head.forward(&[z, offset].concat(), &[], v, &mut work);
        }
        work.outputs().0[0]
    }

    fn narrow<T: Float>(x: &[f64]) -> Vec<T> {
        x.iter().map(|x| T::of(*x)).collect()
    }

    fn times(k: f64, x: &[f64]) -> Vec<f64> {
        x.iter().map(|x| k * x).collect()
    }

    /// Dimensions, curvatures, radii, and an offset for each.
    fn cases(reach: f64, mut f: impl FnMut(usize, f64, f64, f64)) {
        for d in DIMS {
            for c in CURVATURES {
                let radii = RADII.into_iter().filter(|rho| c.sqrt() * rho <= reach);
                radii.enumerate().for_each(|(i, rho)| f(d, c, rho, [0.0, 0.3, -0.7][i % 3]));
            }
        }
    }

    /// y(exp₀(t n)) = |z| (t − a), along the geodesic that meets the plane at a right angle.
    fn geodesic<T: Float>(reach: f64, tolerance: f64) {
        cases(reach, |d, c, t, a| {
            for sign in [1.0, -1.0] {
                let z = vector::<f64>(d, 0.8, 4);
                let v = times(sign * t / 0.8, &z);
                let y = |geometry| logit::<T>(geometry, &narrow(&v), &narrow(&z), &[T::of(a)], c);
                let distance = sign * t - a;
                near(y(Geometry::Hyperboloid), 0.8 * distance, 1.0, tolerance);
                near(y(Geometry::Euclidean), 0.8 * distance + (0.8 + 1.0) * a, 1.0, tolerance);
                if 2.0 * c.sqrt() * t <= reach {
                    near(y(Geometry::Ball), 4.0 * 0.8 * distance, 1.0, tolerance);
                    // A point on the same geodesic: the ball's distances are twice those of tangent vectors.
                    let q: Vec<f64> = {
                        let mut q = vec![0.0; d];
                        super::super::maps::ball_exp0(&times(a / 0.8, &z), c, &mut q);
                        q
                    };
                    let y = logit::<T>(Geometry::BallPoints, &narrow(&v), &narrow(&z), &narrow(&q), c);
                    near(y, 2.0 * 0.8 * distance, 1.0, tolerance);
                }
            }
        });
    }

    #[test]
    fn along_its_normal_a_logit_is_the_distance() {
        geodesic::<f64>(10.0, 1e-13);
        geodesic::<f32>(3.0, 1e-5);
    }

    /// |y|/|z| is the distance to the point of the hyperplane that is the Minkowski-orthogonal projection.
    fn projection<T: Float>(reach: f64, tolerance: f64) {
        cases(reach, |d, c, rho, a| {
            let (v, z) = (vector::<f64>(d, rho, 5), vector::<f64>(d, 1.7, 6));
            let root = c.sqrt();
            let mut x = vec![0.0; d + 1];
            hyperboloid_exp0(&v, c, &mut x);
            // The plane's unit normal in Minkowski space.
            let (sinh, cosh) = sinh_cosh(root * a);
            let n: Vec<f64> = [sinh].into_iter().chain(z.iter().map(|z| cosh * z / 1.7)).collect();
            let inner = |x: &[f64], y: &[f64]| dot(&x[1..], &y[1..]) - x[0] * y[0];
            let along = inner(&x, &n);
            let foot: Vec<f64> = x.iter().zip(&n).map(|(x, n)| x - along * n).collect();
            let scale = (-inner(&foot, &foot) * c).sqrt();
            let foot = times(1.0 / scale, &foot);
            assert!(inner(&foot, &n).abs() < 1e-9 * x[0], "on the plane");
            let distance = hyperboloid_distance(&x, &foot, c);
            let y = logit::<T>(Geometry::Hyperboloid, &narrow(&v), &narrow(&z), &[T::of(a)], c);
            let y: f64 = y.into();
            near(y.abs() / 1.7, distance, 1.0, tolerance);
        });
    }

    #[test]
    fn a_logit_is_the_distance_to_the_hyperplane() {
        projection::<f64>(6.0, 1e-10);
        projection::<f32>(3.0, 1e-4);
    }

    /// HNN++(v, z, r) = Lorentz(2v, 2z, 2r), and the ball of points against Möbius addition, as published.
    fn equivalences<T: Float>(reach: f64, tolerance: f64) {
        cases(reach, |d, c, rho, a| {
            let (v, z) = (vector::<f64>(d, rho, 7), vector::<f64>(d, 0.9, 8));
            let y = |geometry, k: f64| -> T {
                logit(geometry, &narrow(&times(k, &v)), &narrow(&times(k, &z)), &[T::of(k * a)], c)
            };
            near(y(Geometry::Ball, 0.5), y(Geometry::Hyperboloid, 1.0), 1.0, tolerance);

            // HNN++ on a point of the ball, as published.
            let half = times(0.5, &v);
            let mut p = vec![0.0; d];
            super::super::maps::ball_exp0(&half, c, &mut p);
            let (root, lambda) = (c.sqrt(), conformal_factor(&p, c));
            let u = root * lambda * dot(&p, &z) / 0.9 * (2.0 * root * a).cosh()
                - (lambda - 1.0) * (2.0 * root * a).sinh();
            let published = 2.0 * 0.9 / root * u.asinh();
            near(
                logit::<T>(Geometry::Ball, &narrow(&half), &narrow(&z), &[T::of(a)], c),
                published,
                1.0,
                20.0 * tolerance,
            );

            let q = vector::<f64>(d, a.abs() / root, 9);
            let mut w = vec![0.0; d];
            mobius_add(&times(-1.0, &q), &p, c, &mut w);
            let u = 2.0 * root * dot(&w, &z) / 0.9 / (1.0 - c * dot(&w, &w));
            let published = 0.9 / root * u.asinh();
            let ours = logit::<T>(Geometry::BallPoints, &narrow(&half), &narrow(&z), &narrow(&q), c);
            near(ours, published, 1.0, 20.0 * tolerance);
        });
    }

    #[test]
    fn heads_agree_with_each_other_and_with_their_published_forms() {
        equivalences::<f64>(6.0, 1e-12);
        equivalences::<f32>(3.0, 1e-5);
    }

    /// Signs, rotations, scaling of the normal, and that the curvature is redundant.
    fn symmetries<T: Float>(reach: f64, tolerance: f64) {
        cases(reach, |d, c, rho, a| {
            let (v, z) = (vector::<f64>(d, rho, 10), vector::<f64>(d, 0.9, 11));
            for geometry in [Geometry::Hyperboloid, Geometry::Ball] {
                if geometry == Geometry::Ball && 2.0 * c.sqrt() * rho > reach {
                    continue;
                }
                let y = |v: &[f64], z: &[f64], a: f64, c: f64| -> f64 {
                    logit::<T>(geometry, &narrow(v), &narrow(z), &[T::of(a)], c).into()
                };
                let at = y(&v, &z, a, c);
                near(y(&times(-1.0, &v), &z, -a, c), -at, 1.0, tolerance);
                near(y(&v, &times(2.5, &z), a, c), 2.5 * at, 1.0, tolerance);
                // A reflection turns both alike.
                let axis = vector::<f64>(d, 1.0, 12);
                let reflect = |x: &[f64]| -> Vec<f64> {
                    let along = 2.0 * dot(x, &axis);
                    x.iter().zip(&axis).map(|(x, n)| x - along * n).collect()
                };
                near(y(&reflect(&v), &reflect(&z), a, c), at, 1.0, tolerance);
                let root = c.sqrt();
                near(root * at, y(&times(root, &v), &z, root * a, 1.0), 1.0, tolerance);
            }
        });
    }

    #[test]
    fn heads_have_their_symmetries() {
        symmetries::<f64>(6.0, 1e-13);
        symmetries::<f32>(3.0, 1e-5);
    }

    /// As c → 0, y → ⟨z, v⟩ − |z| a, times the head's gain; the error is of order c.
    #[test]
    fn without_curvature_heads_are_linear() {
        let (v, z, a) = (vector::<f64>(5, 1.1, 13), vector::<f64>(5, 0.9, 14), 0.4);
        for (geometry, gain) in [(Geometry::Hyperboloid, 1.0), (Geometry::Ball, 4.0)] {
            let error = |c: f64| (logit(geometry, &v, &z, &[a], c) - gain * (dot(&z, &v) - 0.9 * a)).abs();
            for c in [1e-2, 1e-3, 1e-4] {
                let ratio = error(c) / error(c / 10.0);
                assert!((8.0..12.0).contains(&ratio), "{ratio}");
            }
            let y: f64 = logit::<f32>(geometry, &narrow(&v), &narrow(&z), &[a as f32], 1e-4).into();
            near(y, gain * (dot(&z, &v) - 0.9 * a), 1.0, 1e-3);
        }
        let q = vector::<f64>(5, 0.4, 15);
        let linear = 2.0 * 0.9 * (dot(&z, &v) / 0.9 - dot(&z, &q) / 0.9);
        near(logit(Geometry::BallPoints, &v, &z, &q, 1e-6), linear, 1.0, 1e-5);
    }

    /// A batch with a loss Σ g ∘ y: parameters, points, features, g.
    struct Batch {
        head: Mlr,
        params: Vec<f64>,
        points: Vec<f64>,
        v: Vec<f64>,
        g: Vec<f64>,
    }

    fn batch(geometry: Geometry, d: usize, c: f64, rho: f64) -> Batch {
        let (rows, k) = (3, 4);
        let head = Mlr::new(geometry, d, k, c);
        let params = times(0.5, &normals(head.len(), 16));
        let inside = |i: usize| vector::<f64>(d, 0.2 * i as f64 / c.sqrt(), 20 + i as u64);
        let points: Vec<f64> = (0..head.points_len() / d).flat_map(inside).collect();
        let v = (0..rows).flat_map(|i| vector::<f64>(d, rho, 30 + i)).collect();
        Batch { head, params, points, v, g: normals(rows as usize * k, 17) }
    }

    impl Batch {
        fn loss(&self) -> f64 {
            let mut work = Work::default();
            self.head.forward(&self.params, &self.points, &self.v, &mut work);
            dot(work.outputs().0, &self.g)
        }

        fn gradient<T: Float>(&self) -> [Vec<f64>; 3] {
            let (params, points, v) = (narrow(&self.params), narrow(&self.points), narrow::<T>(&self.v));
            let mut work = Work::default();
            self.head.forward(&params, &points, &v, &mut work);
            work.outputs().1.copy_from_slice(&narrow(&self.g));
            let zeros = |x: &[T]| vec![T::default(); x.len()];
            let (mut d_params, mut d_points, mut d_v) = (zeros(&params), zeros(&points), zeros(&v));
            self.head.backward(&params, &points, &v, &mut work, &mut d_params, &mut d_points, &mut d_v);
            [d_params, d_points, d_v].map(|x| super::super::testing::f64s(&x))
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for geometry in GEOMETRIES {
            for (d, c) in [(2, 0.1), (5, 1.0), (5, 4.0), (32, 1.0)] {
                for rho in [0.0, 1e-8, 1e-3, 0.5, 1.0, 1.83] {
                    let mut batch = batch(geometry, d, c, rho);
                    let ours = batch.gradient::<f64>();
                    let single = batch.gradient::<f32>();
                    let size = ours.iter().flatten().fold(1.0, |m: f64, x| m.max(x.abs()));
                    for part in 0..3 {
                        for i in 0..ours[part].len() {
                            let mut moved = |h: f64| {
                                let x = match part {
                                    0 => &mut batch.params[i],
                                    1 => &mut batch.points[i],
                                    _ => &mut batch.v[i],
                                };
                                let saved = *x;
                                *x += h;
                                let loss = batch.loss();
                                match part {
                                    0 => batch.params[i] = saved,
                                    1 => batch.points[i] = saved,
                                    _ => batch.v[i] = saved,
                                }
                                loss
                            };
                            let h = 1e-6;
                            let numeric = (moved(h) - moved(-h)) / (2.0 * h);
                            near(ours[part][i], numeric, size, 1e-6);
                            near(single[part][i], ours[part][i], size, 1e-4);
                        }
                    }
                }
            }
        }
    }

    /// J t along tangents of parameters and features.
    fn along<T: Float>(batch: &Batch, tangent: &[f64], d_v: &[f64]) -> Vec<f64> {
        let (params, points, v) =
            (narrow::<T>(&batch.params), narrow::<T>(&batch.points), narrow::<T>(&batch.v));
        let mut work = Work::default();
        batch.head.forward(&params, &points, &v, &mut work);
        batch.head.jvp(&params, &points, &narrow(tangent), &v, &narrow(d_v), &mut work);
        super::super::testing::f64s(work.outputs().1)
    }

    #[test]
    fn tangents_agree_with_finite_differences() {
        for geometry in GEOMETRIES {
            for (d, c) in [(2, 0.1), (5, 1.0), (5, 4.0), (32, 1.0)] {
                for rho in [0.0, 1e-8, 1e-3, 0.5, 1.0, 1.83] {
                    let mut batch = batch(geometry, d, c, rho);
                    let (tangent, d_v) = (normals(batch.params.len(), 18), normals(batch.v.len(), 19));
                    let ours = along::<f64>(&batch, &tangent, &d_v);
                    let single = along::<f32>(&batch, &tangent, &d_v);
                    let (params, v) = (batch.params.clone(), batch.v.clone());
                    let mut moved = |h: f64| {
                        let by = |x: &[f64], d: &[f64]| x.iter().zip(d).map(|(x, d)| x + h * d).collect();
                        (batch.params, batch.v) = (by(&params, &tangent), by(&v, &d_v));
                        let mut work = Work::default();
                        batch.head.forward(&batch.params, &batch.points, &batch.v, &mut work);
                        work.outputs().0.to_vec()
                    };
                    let size = ours.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
                    let h = 1e-6;
                    for (i, (up, down)) in moved(h).iter().zip(moved(-h)).enumerate() {
                        near(ours[i], (up - down) / (2.0 * h), size, 1e-6);
                        near(single[i], ours[i], size, 1e-4);
                    }
                }
            }
        }
    }

    /// Rows do not influence one another: a row alone gives the same bits.
    #[test]
    fn a_row_alone_gives_the_bits_of_the_batch() {
        for geometry in GEOMETRIES {
            let batch = batch(geometry, 5, 1.0, 0.7);
            let (params, points, v) = (narrow::<f32>(&batch.params), narrow(&batch.points), narrow(&batch.v));
            let mut work = Work::default();
            batch.head.forward(&params, &points, &v, &mut work);
            let all = work.outputs().0.to_vec();
            for (v, y) in v.chunks_exact(5).zip(all.chunks_exact(4)) {
                batch.head.forward(&params, &points, v, &mut work);
                assert_eq!(work.outputs().0, y);
            }
        }
    }

    /// |dy/dv| of one plane.
    fn slope<T: Float>(geometry: Geometry, v: &[f64], z: &[f64], offset: &[f64], c: f64) -> f64 {
        let head = Mlr::new(geometry, v.len(), 1, c);
        let (v, z, offset) = (narrow::<T>(v), narrow::<T>(z), narrow::<T>(offset));
        let (params, points) = match geometry {
            Geometry::BallPoints => (z, offset),
            _ => ([z, offset].concat(), Vec::new()),
        };
        let zeros = |n: usize| vec![T::default(); n];
        let mut work = Work::default();
        head.forward(&params, &points, &v, &mut work);
        work.outputs().1[0] = T::of(1.0);
        let mut d_v = zeros(v.len());
        let (mut d_params, mut d_points) = (zeros(params.len()), zeros(points.len()));
        head.backward(&params, &points, &v, &mut work, &mut d_params, &mut d_points, &mut d_v);
        dot(&d_v, &d_v).sqrt().into()
    }

    proptest! {
        /// |dy/dv| ≤ |z| sinh(s)/s on the hyperboloid, ≤ 4|z| sinh(2s)/(2s) for HNN++, half of that for points.
        #[test]
        fn gradients_stay_within_their_bounds(
            d in 2usize..33, rho in 0.0f64..4.0, a in -2.0f64..2.0, log_c in -2.0f64..1.0, index in 0u64..1000
        ) {
            let c = 10.0f64.powf(log_c);
            let (v, z) = (vector::<f64>(d, rho, index), vector::<f64>(d, 0.7, index + 1));
            let s = c.sqrt() * rho;
            let q = vector::<f64>(d, a.abs().min(1.0) * 0.95 / c.sqrt(), index + 2);
            let stretch = |s: f64| if s > 0.0 { s.sinh() / s } else { 1.0 };
            for (geometry, offset, bound) in [
                (Geometry::Hyperboloid, vec![a], 0.7 * stretch(s)),
                (Geometry::Ball, vec![a], 2.8 * stretch(2.0 * s)),
                (Geometry::BallPoints, q, 1.4 * stretch(2.0 * s)),
            ] {
                let exact = slope::<f64>(geometry, &v, &z, &offset, c);
                prop_assert!(exact <= bound * (1.0 + 1e-9), "{geometry:?}: {exact} above {bound}");
                if s <= 3.0 {
                    let single = slope::<f32>(geometry, &v, &z, &offset, c);
                    prop_assert!(single <= bound * (1.0 + 1e-4), "{geometry:?}, f32: {single} above {bound}");
                }
            }
        }
    }

    /// The bound is attained: a plane through the point, its normal across the radius.
    #[test]
    fn the_bounds_are_sharp() {
        let (v, z) = ([1.83, 0.0], [0.0, 1.0]);
        near(slope::<f64>(Geometry::Hyperboloid, &v, &z, &[0.0], 1.0), 1.83f64.sinh() / 1.83, 1.0, 1e-8);
        near(slope::<f64>(Geometry::Ball, &v, &z, &[0.0], 1.0), 4.0 * 3.66f64.sinh() / 3.66, 1.0, 1e-8);
    }

    /// Distance to a goal falls, whatever the scale of the gradient; the first step is as long as the learning rate.
    #[test]
    fn riemannian_adam_finds_the_nearest_point() {
        let c = 1.0;
        let goal = [0.5f64, -0.6, 0.3];
        let mut points = vec![0.3f32, 0.8, 0.1];
        let mut adam = RiemannianAdam::new(3, 3, c, 1e-8);
        let distance =
            |p: &[f32]| super::super::maps::ball_distance(&super::super::testing::f64s(p), &goal, c);
        let grad = |p: &[f32]| -> Vec<f32> {
            let h = 1e-3f32;
            let moved = |i: usize, h: f32| {
                let mut p = p.to_vec();
                p[i] += h;
                distance(&p).powi(2)
            };
            (0..3).map(|i| ((moved(i, h) - moved(i, -h)) / f64::from(2.0 * h)) as f32).collect()
        };
        let start = points.clone();
        let mut first = true;
        for k in 0..800 {
            let g = grad(&points);
            adam.step(&mut points, &g, 0.1 * 0.995f64.powi(k));
            if std::mem::take(&mut first) {
                let moved = super::super::maps::ball_distance(
                    &super::super::testing::f64s(&points),
                    &super::super::testing::f64s(&start),
                    c,
                );
                near(moved, 0.1, 0.0, 1e-3);
            }
        }
        assert!(distance(&points) < 0.02, "{}", distance(&points));
    }
}
