//! [`mlr`](super::mlr) on tensors, with gradients by autodiff: for graphics devices, and its second opinion.
//!
//! Functions that autodiff would take through a quotient that is 0/0 at the origin, or through cancelling terms, are moved by
//! their tangent instead: f(x₀) + f′(x₀) (x − x₀) at the constant x₀ = x has f's value and f's derivative.

use burn::tensor::Tensor;

use super::mlr::{Geometry, Mlr, TINY};

/// A constant of the autodiff graph, and what is added to it: zero, with the derivative of `x`.
fn pinned<const D: usize>(x: Tensor<D>) -> (Tensor<D>, Tensor<D>) {
    let fixed = x.clone().detach();
    (fixed.clone(), x - fixed)
}

/// A = sinh(s)/s and B = cosh s of s².
pub fn radial<const D: usize>(s2: Tensor<D>) -> (Tensor<D>, Tensor<D>) {
    let (s2, moved) = pinned(s2);
    let [a, b, slope] = radial_parts(s2);
    // dA/d(s²) = slope/2, dB/d(s²) = A/2
    (a.clone() + slope * 0.5 * moved.clone(), b + a * 0.5 * moved)
}

/// A, B and dA/d(s²/2) of s².
fn radial_parts<const D: usize>(s2: Tensor<D>) -> [Tensor<D>; 3] {
    // As `Radial::of`: series below 1.
    let x = s2.clone().clamp_max(1.0);
    let mut term = x.ones_like();
    let (mut a, mut b, mut slope) = (x.zeros_like(), x.zeros_like(), x.zeros_like());
    for k in 0..10 {
        let n = f64::from(2 * k);
        a = a + term.clone() * (1.0 / (n + 1.0));
        b = b + term.clone();
        slope = slope + term.clone() * (1.0 / ((n + 1.0) * (n + 3.0)));
        term = term * x.clone() * (1.0 / ((n + 1.0) * (n + 2.0)));
    }
    let x = s2.clone().clamp_min(1.0);
    let s = x.clone().sqrt();
    let (up, down) = (s.clone().exp(), (-s.clone()).exp());
    let (far_a, far_b) = ((up.clone() - down.clone()) * 0.5 / s, (up + down) * 0.5);
    let far_slope = (far_b.clone() - far_a.clone()) / x;
    let near = s2.lower_scalar(1.0);
    let a = far_a.mask_where(near.clone(), a);
    let b = far_b.mask_where(near.clone(), b);
    [a, b, far_slope.mask_where(near, slope)]
}

/// arsinh
pub fn asinh<const D: usize>(u: Tensor<D>) -> Tensor<D> {
    let (u, moved) = pinned(u);
    let size = u.clone().abs();
    // x² overflows where 1 is lost beside it anyway.
    let x = size.clone().clamp_max(1e9);
    let root = (x.clone().square() + 1.0).sqrt();
    let value = (x.clone() + x.square() / (root.clone() + 1.0)).log1p()
        + (size.clone() / size.clamp(1e-9, 1e9)).clamp_min(1.0).log();
    value * u.sign() + moved / root
}

impl Mlr {
    /// Logits `[B, K]` of features `v` `[B, d]` under parameters and points (of [`Geometry::BallPoints`] alone).
    pub fn forward_tensor(&self, params: &Tensor<1>, points: Option<&Tensor<1>>, v: Tensor<2>) -> Tensor<2> {
        let (d, k) = (v.dims()[1], self.outputs());
        let normals = params.clone().narrow(0, 0, d * k).reshape([d, k]);
        let along = v.clone().matmul(normals.clone()); // ⟨z, v⟩
        let offsets = |params: &Tensor<1>| params.clone().narrow(0, d * k, k).reshape([1, k]);
        if self.geometry() == Geometry::Euclidean {
            return along + offsets(params);
        }
        let (kappa, gain) = self.scales::<f64>();
        let (root, c) = (kappa.sqrt(), self.curvature());
        let norm = normals.clone().square().sum_dim(0).sqrt().clamp_min(TINY); // [1, K]
        let along = along / norm.clone();
        let (a, b) = radial(v.clone().square().sum_dim(1) * kappa); // [B, 1]
        let u = match points {
            Some(points) => {
                let q = points.clone().reshape([k, d]).transpose();
                let lambda = (q.clone().square().sum_dim(0) * -c + 1.0).recip() * 2.0; // [1, K]
                let e = lambda * (q.clone() * normals).sum_dim(0) / norm.clone(); // λ⟨q, n⟩
                let inner = along * root + v.matmul(q) * e.clone() * (c * root);
                a * inner - b * e * c.sqrt()
            }
            None => {
                let x = offsets(params) * root;
                let (ratio, cosh) = radial(x.clone().square());
                a * (along * cosh * root) - b * (x * ratio)
            }
        };
        asinh(u) * norm * (gain / root)
    }

    /// Directional derivative `[B, K]` of the logits of features `v` `[B, d]` along `tangent` of `params` and `d_v`, without autodiff;
    /// not of [`Geometry::BallPoints`].
    pub fn jvp_tensor(
        &self,
        params: &Tensor<1>,
        tangent: &Tensor<1>,
        v: Tensor<2>,
        d_v: Tensor<2>,
    ) -> Tensor<2> {
        let (d, k) = (v.dims()[1], self.outputs());
        let normals = |of: &Tensor<1>| of.clone().narrow(0, 0, d * k).reshape([d, k]);
        let offsets = |of: &Tensor<1>| of.clone().narrow(0, d * k, k).reshape([1, k]);
        let (z, d_z) = (normals(params), normals(tangent));
        let d_along = v.clone().matmul(d_z.clone()) + d_v.clone().matmul(z.clone()); // d⟨z, v⟩
        if self.geometry() == Geometry::Euclidean {
            return d_along + offsets(tangent);
        }
        let (kappa, gain) = self.scales::<f64>();
        let root = kappa.sqrt();
        let norm = z.clone().square().sum_dim(0).sqrt().clamp_min(TINY); // [1, K]
        let d_norm = (z.clone() * d_z).sum_dim(0) / norm.clone();
        let nv = v.clone().matmul(z) / norm.clone();
        let d_nv = (d_along - nv.clone() * d_norm.clone()) / norm.clone();
        let [a, b, slope] = radial_parts(v.clone().square().sum_dim(1) * kappa); // [B, 1]
        let d_square = (v * d_v).sum_dim(1) * kappa; // d(s²/2)
        let (x, d_x) = (offsets(params) * root, offsets(tangent) * root);
        let (ratio, cosh) = radial(x.clone().square());
        let sinh = x * ratio;
        let inner = nv.clone() * cosh.clone() * root;
        let d_inner = (nv * sinh.clone() * d_x.clone() + d_nv * cosh.clone()) * root;
        let u = a.clone() * inner.clone() - b.clone() * sinh.clone();
        let d_u =
            slope * d_square.clone() * inner + a.clone() * d_inner - b * cosh * d_x - a * d_square * sinh;
        // Where u² overflows the derivative is 0 anyway.
        let stretch = (u.clone().clamp(-1e18, 1e18).square() + 1.0).sqrt();
        (asinh(u) * d_norm + d_u / stretch * norm) * (gain / root)
    }
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::super::mlr::Work;
    use super::super::testing::{CURVATURES, DIMS, RADII, near, normals, vector};
    use super::*;
    use crate::core::device::{Device, to_host};
    use crate::core::testing::tensor_devices;

    fn narrow(x: &[f64]) -> Vec<f32> {
        x.iter().map(|x| *x as f32).collect()
    }

    /// Logits and all gradients of Σ g y against the written-out ones in f64, at every radius, the origin included.
    fn heads_agree(device: &Device) {
        let k = 3;
        for geometry in [Geometry::Euclidean, Geometry::Hyperboloid, Geometry::Ball, Geometry::BallPoints] {
            for (d, c) in DIMS.into_iter().zip(CURVATURES) {
                // Far out a float's sinh and cosh differ by less than it can hold.
                let reach = if geometry == Geometry::Hyperboloid { 3.0 } else { 1.5 };
                let radii = RADII.iter().filter(|rho| c.sqrt() * **rho <= reach);
                let v: Vec<f64> = radii.enumerate().flat_map(|(i, rho)| vector(d, *rho, i as u64)).collect();
                let head = Mlr::new(geometry, d, k, c);
                let mut params = normals(head.len(), 20);
                params[d * k..].iter_mut().for_each(|a| *a *= 0.5 / c.sqrt());
                let points: Vec<f64> =
                    normals(head.points_len(), 21).iter().map(|q| 0.3 * q / (c * d as f64).sqrt()).collect();
                let g = normals(v.len() / d * k, 22);

                let mut work = Work::default();
                head.forward(&params, &points, &v, &mut work);
                work.outputs().1.copy_from_slice(&g);
                let expected = work.outputs().0.to_vec();
                let (mut d_params, mut d_points) = (vec![0.0; params.len()], vec![0.0; points.len()]);
                let mut d_v = vec![0.0; v.len()];
                head.backward(&params, &points, &v, &mut work, &mut d_params, &mut d_points, &mut d_v);

                let leaf = |x: &[f64]| device.vector(narrow(x)).autodiff().require_grad();
                let (params, at) = (leaf(&params), leaf(&v));
                let points = (!points.is_empty()).then(|| leaf(&points));
                let y = head.forward_tensor(&params, points.as_ref(), at.clone().reshape([-1, d as i32]));
                for (ours, expected) in to_host(y.clone().inner()).iter().zip(&expected) {
                    near(*ours, *expected, 1.0, 2e-5);
                }
                let gradients = (y * device.matrix(narrow(&g), k).autodiff()).sum().backward();
                let check = |leaf: &Tensor<1>, expected: &[f64]| {
                    let size = expected.iter().fold(1.0f64, |m, x| m.max(x.abs()));
                    let ours = to_host(leaf.grad(&gradients).unwrap());
                    for (ours, expected) in ours.iter().zip(expected) {
                        near(*ours, *expected, size, 5e-5);
                    }
                };
                check(&params, &d_params);
                check(&at, &d_v);
                if let Some(points) = &points {
                    check(points, &d_points);
                }
            }
        }
    }

    /// Directional derivatives against those in f64.
    fn tangents_agree(device: &Device) {
        let k = 3;
        for geometry in [Geometry::Euclidean, Geometry::Hyperboloid, Geometry::Ball] {
            for (d, c) in DIMS.into_iter().zip(CURVATURES) {
                let reach = if geometry == Geometry::Hyperboloid { 3.0 } else { 1.5 };
                let radii = RADII.iter().filter(|rho| c.sqrt() * **rho <= reach);
                let v: Vec<f64> = radii.enumerate().flat_map(|(i, rho)| vector(d, *rho, i as u64)).collect();
                let head = Mlr::new(geometry, d, k, c);
                let mut params = normals(head.len(), 20);
                params[d * k..].iter_mut().for_each(|a| *a *= 0.5 / c.sqrt());
                let (tangent, d_v) = (normals(head.len(), 23), normals(v.len(), 24));
                let mut work = Work::default();
                head.forward(&params, &[], &v, &mut work);
                head.jvp(&params, &[], &tangent, &v, &d_v, &mut work);
                let expected = work.outputs().1.to_vec();
                let flat = |x: &[f64]| device.vector(narrow(x));
                let matrix = |x: &[f64]| device.matrix(narrow(x), d);
                let ours =
                    to_host(head.jvp_tensor(&flat(&params), &flat(&tangent), matrix(&v), matrix(&d_v)));
                let size = expected.iter().fold(1.0f64, |m, x| m.max(x.abs()));
                for (ours, expected) in ours.iter().zip(&expected) {
                    near(*ours, *expected, size, 5e-5);
                }
            }
        }
    }

    #[test]
    fn tangents_on_tensors_agree_with_those_in_f64() {
        tensor_devices().iter().for_each(tangents_agree);
    }

    #[test]
    fn heads_on_tensors_agree_with_those_in_f64() {
        tensor_devices().iter().for_each(heads_agree);
    }

    /// Where squares overflow, at zero, and between.
    #[test]
    fn arsinh_and_its_derivative() {
        let x: Vec<f64> =
            [0.0, 1e-30, 1e-6, 0.3, 1.0, 50.0, 1e8, 1e10, 1e30].iter().flat_map(|x| [*x, -x]).collect();
        for device in tensor_devices() {
            let u = device.vector(narrow(&x)).autodiff().require_grad();
            let y = asinh(u.clone());
            let ours = to_host(y.clone().inner());
            let slope = to_host(u.grad(&y.sum().backward()).unwrap());
            for i in 0..x.len() {
                near(ours[i], x[i].asinh(), 1.0, 1e-5);
                near(slope[i], 1.0 / (1.0 + x[i] * x[i]).sqrt(), 1.0, 1e-6);
            }
        }
    }
}
