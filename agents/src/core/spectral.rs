//! Spectral normalisation: every weight matrix of a network divided by its largest singular value (Miyato et al. 2018,
//! arXiv:1802.05957), estimated by one step of power iteration for each update.

use burn::tensor::Tensor;
use rand_distr::{Distribution, StandardNormal};
use steadfast_envs::{Rng, State, StateError};

use super::device::Device;
use super::mlp::Mlp;

/// Left and right singular vectors of each layer, as far as they are known.
#[derive(Clone, Debug)]
pub struct Spectral {
    layers: Vec<Layer>,
}

#[derive(Clone, Debug)]
struct Layer {
    /// Of the weight matrix within the parameters.
    offset: usize,
    /// `[in]`
    left: Vec<f32>,
    /// `[out]`
    right: Vec<f32>,
    /// leftᵀ W right
    sigma: f32,
}

impl Spectral {
    /// For the layers of `mlp` with weights `params`, after `warm_up` steps from vectors drawn from `rng`.
    pub fn new(mlp: &Mlp, params: &[f32], warm_up: usize, rng: &mut Rng) -> Self {
        let layer = |(offset, inputs, outputs)| Layer {
            offset,
            left: StandardNormal.sample_iter(&mut *rng).take(inputs).collect(),
            right: vec![0.0; outputs],
            sigma: 1.0,
        };
        let mut spectral = Self { layers: mlp.matrices().map(layer).collect() };
        for _ in 0..warm_up.max(1) {
            spectral.iterate(params);
        }
        spectral
    }

    /// One step of power iteration in each layer.
    pub fn iterate(&mut self, params: &[f32]) {
        for l in &mut self.layers {
            let weight = &params[l.offset..l.offset + l.left.len() * l.right.len()];
            l.right.fill(0.0);
            for (row, left) in weight.chunks_exact(l.right.len()).zip(&l.left) {
                l.right.iter_mut().zip(row).for_each(|(r, w)| *r += left * w);
            }
            normalize(&mut l.right);
            for (row, left) in weight.chunks_exact(l.right.len()).zip(&mut l.left) {
                *left = row.iter().zip(&l.right).map(|(w, r)| w * r).sum();
            }
            normalize(&mut l.left);
        }
    }

    /// The parameters with every weight matrix divided by its σ, into `effective`; biases stay.
    pub fn apply(&mut self, params: &[f32], effective: &mut Vec<f32>) {
        effective.clear();
        effective.extend_from_slice(params);
        for l in &mut self.layers {
            let weight = &mut effective[l.offset..l.offset + l.left.len() * l.right.len()];
            let rows = weight.chunks_exact(l.right.len()).zip(&l.left);
            l.sigma = rows
                .map(|(row, left)| left * row.iter().zip(&l.right).map(|(w, r)| w * r).sum::<f32>())
                .sum();
            weight.iter_mut().for_each(|w| *w /= l.sigma);
        }
    }

    /// What [`Self::apply`] does, on tensors: σ depends on the parameters `[P]`, singular vectors do not.
    pub fn apply_tensor(&self, params: &Tensor<1>, device: &Device) -> Tensor<1> {
        let mut parts = Vec::with_capacity(2 * self.layers.len());
        for l in &self.layers {
            let (inputs, outputs) = (l.left.len(), l.right.len());
            let weight = params.clone().narrow(0, l.offset, inputs * outputs).reshape([inputs, outputs]);
            let left = device.matrix(l.left.clone(), inputs).autodiff(); // [1, in]
            let right = device.matrix(l.right.clone(), 1).autodiff(); // [out, 1]
            let sigma = left.matmul(weight.clone()).matmul(right); // [1, 1]
            parts.push((weight / sigma).reshape([inputs * outputs]));
            parts.push(params.clone().narrow(0, l.offset + inputs * outputs, outputs));
        }
        Tensor::cat(parts, 0)
    }

    /// The gradient with respect to the parameters from that with respect to the `effective` ones, in place, singular
    /// vectors held fixed: (G − ⟨G, W/σ⟩ left rightᵀ) / σ.
    pub fn backward(&self, effective: &[f32], grad: &mut [f32]) {
        for l in &self.layers {
            let at = l.offset..l.offset + l.left.len() * l.right.len();
            let (weight, grad) = (&effective[at.clone()], &mut grad[at]);
            let along: f32 = grad.iter().zip(weight).map(|(g, w)| g * w).sum();
            for (row, left) in grad.chunks_exact_mut(l.right.len()).zip(&l.left) {
                row.iter_mut().zip(&l.right).for_each(|(g, r)| *g = (*g - along * left * r) / l.sigma);
            }
        }
    }

    /// Saves the singular vectors.
    pub fn save(&self, name: &str, state: &mut State) {
        for (i, l) in self.layers.iter().enumerate() {
            state.put_f32(&format!("{name}.{i}.left"), &l.left);
            state.put_f32(&format!("{name}.{i}.right"), &l.right);
        }
    }

    /// Restores the singular vectors.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, name: &str, state: &State) -> Result<(), StateError> {
        for (i, l) in self.layers.iter_mut().enumerate() {
            l.left = state.f32(&format!("{name}.{i}.left"), l.left.len())?.to_vec();
            l.right = state.f32(&format!("{name}.{i}.right"), l.right.len())?.to_vec();
        }
        Ok(())
    }
}

/// To length 1; a vector of zeros stays.
fn normalize(x: &mut [f32]) {
    let norm = x.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm > 0.0 {
        x.iter_mut().for_each(|x| *x /= norm);
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::core::device::Device;
    use crate::core::mlp::{Activation, Init};
    use crate::core::testing::{close, normals, rng};

    fn network() -> (Mlp, Vec<f32>) {
        let mlp = Mlp::new(6, &[9, 4], 7, Activation::Relu, &Device::cpu());
        let params = normals(mlp.len(), 1);
        assert_eq!(mlp.init(Init::Pytorch, 1.0, &mut rng(0)).len(), params.len());
        (mlp, params)
    }

    /// Singular values of `[rows, columns]` by one-sided Jacobi rotations, largest first.
    fn svd(matrix: &[f32], rows: usize, columns: usize) -> Vec<f64> {
        let mut a: Vec<Vec<f64>> =
            (0..columns).map(|c| (0..rows).map(|r| f64::from(matrix[r * columns + c])).collect()).collect();
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        for _ in 0..60 {
            for i in 0..columns {
                for j in 0..i {
                    let (p, q, r) = (dot(&a[i], &a[i]), dot(&a[j], &a[j]), dot(&a[i], &a[j]));
                    if r.abs() < 1e-14 * (p * q).sqrt() {
                        continue;
                    }
                    let angle = 0.5 * (2.0 * r).atan2(p - q);
                    let (sin, cos) = angle.sin_cos();
                    for k in 0..rows {
                        let (x, y) = (a[i][k], a[j][k]);
                        (a[i][k], a[j][k]) = (cos * x + sin * y, cos * y - sin * x);
                    }
                }
            }
        }
        let mut values: Vec<f64> = a.iter().map(|x| dot(x, x).sqrt()).collect();
        values.sort_by(|a, b| b.total_cmp(a));
        values
    }

    #[test]
    fn layers_get_spectral_norm_one() {
        let (mlp, params) = network();
        let mut spectral = Spectral::new(&mlp, &params, 300, &mut rng(2));
        let mut effective = Vec::new();
        spectral.apply(&params, &mut effective);
        for ((offset, inputs, outputs), l) in mlp.matrices().zip(&spectral.layers) {
            let at = offset..offset + inputs * outputs;
            let values = svd(&params[at.clone()], inputs, outputs);
            let squares: f64 = params[at.clone()].iter().map(|w| f64::from(*w).powi(2)).sum();
            close(&[values.iter().map(|s| s * s).sum::<f64>()], &[squares], 1e-9);
            close(&[f64::from(l.sigma)], &[values[0]], 1e-4);
            close(&[svd(&effective[at.clone()], inputs, outputs)[0]], &[1.0], 1e-4);
            let bias = at.end..at.end + outputs;
            assert_eq!(params[bias.clone()], effective[bias]);
        }
    }

    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let (mlp, mut params) = network();
        let mut spectral = Spectral::new(&mlp, &params, 300, &mut rng(2));
        let mut effective = Vec::new();
        spectral.apply(&params, &mut effective);
        let g = normals(params.len(), 3);
        let mut grad = g.clone();
        spectral.backward(&effective, &mut grad);
        for i in 0..params.len() {
            let saved = params[i];
            let mut at = |x: f32| {
                params[i] = x;
                spectral.apply(&params, &mut effective);
                effective.iter().zip(&g).map(|(w, g)| f64::from(*w) * f64::from(*g)).sum::<f64>()
            };
            let numeric = (at(saved + 1e-2) - at(saved - 1e-2)) / 2e-2;
            at(saved);
            params[i] = saved;
            close(&[f64::from(grad[i])], &[numeric], 5e-3);
        }
    }
}
