//! Adam (Kingma and Ba 2015, arXiv:1412.6980) on flat parameter vectors, and global-norm clipping.

use serde::{Deserialize, Serialize};
use steadfast_envs::{State, StateError};

use super::device::Device;
use super::kernels::{self, AdamStep};
use super::weights::{Scalar, Vector, Weights, apart};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;

/// Adam's moment estimates of one flat parameter vector `[P]`.
pub struct Adam {
    m: Vector,
    v: Vector,
    steps: u64,
    epsilon: f64,
    device: Device,
}

impl Adam {
    /// For `len` parameters, with the given ε.
    pub fn new(len: usize, epsilon: f64, device: &Device) -> Self {
        let zeros = || Vector::new(vec![0.0; len], device);
        Self { m: zeros(), v: zeros(), steps: 0, epsilon, device: device.clone() }
    }

    /// One descent step along the gradient with learning rate `lr` (algorithm 1).
    pub fn step(&mut self, weights: &mut Weights, lr: f64) {
        self.steps += 1;
        let t = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let (rate, correction2) = (lr / (1.0 - BETA1.powi(t)), 1.0 / (1.0 - BETA2.powi(t)));
        match (&mut weights.params, &weights.grad, &mut self.m, &mut self.v) {
            (Vector::Host(params), Vector::Host(grad), Vector::Host(m), Vector::Host(v)) => {
                let step = AdamStep {
                    beta1: BETA1 as f32,
                    rest1: (1.0 - BETA1) as f32,
                    beta2: BETA2 as f32,
                    rest2: (1.0 - BETA2) as f32,
                    rate: rate as f32,
                    correction2: correction2 as f32,
                    epsilon: self.epsilon as f32,
                };
                kernels::adam(params, m, v, grad, step);
            }
            (Vector::Tensor(params), Vector::Tensor(grad), Vector::Tensor(m), Vector::Tensor(v)) => {
                *m = m.clone() * BETA1 + grad.clone() * (1.0 - BETA1);
                *v = v.clone() * BETA2 + grad.clone().square() * (1.0 - BETA2);
                let deviation = (v.clone() * correction2).sqrt() + self.epsilon;
                *params = params.clone() - m.clone() * rate / deviation;
            }
            _ => apart(),
        }
    }

    /// Saves the moments and the step count.
    pub fn save(&self, name: &str, state: &mut State) {
        state.put_f32(&format!("{name}.m"), &self.m.to_host());
        state.put_f32(&format!("{name}.v"), &self.v.to_host());
        state.put_u64(&format!("{name}.steps"), &[self.steps]);
    }

    /// Restores the moments and the step count.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, name: &str, state: &State) -> Result<(), StateError> {
        let len = self.m.len();
        self.m = Vector::new(state.f32(&format!("{name}.m"), len)?.to_vec(), &self.device);
        self.v = Vector::new(state.f32(&format!("{name}.v"), len)?.to_vec(), &self.device);
        self.steps = state.u64(&format!("{name}.steps"), 1)?[0];
        Ok(())
    }
}

/// Scales gradients so that their joint Euclidean norm is at most `max_norm`; a `max_norm` of 0 leaves them
/// alone. Returns the norm before clipping.
pub fn clip_global_norm<const N: usize>(mut weights: [&mut Weights; N], max_norm: f64) -> Scalar {
    let squares = weights.each_ref().map(|w| match &w.grad {
        Vector::Host(grad) => Scalar::Host(f64::from(kernels::sum_of_squares(grad))),
        Vector::Tensor(grad) => Scalar::Tensor(grad.clone().square().sum()),
    });
    let norm = Scalar::sum(squares).sqrt();
    if max_norm <= 0.0 {
        return norm;
    }
    for w in &mut weights {
        match (&mut w.grad, &norm) {
            (Vector::Host(grad), Scalar::Host(norm)) => {
                let factor = max_norm / (norm + 1e-6);
                if factor < 1.0 {
                    kernels::scale(grad, factor as f32);
                }
            }
            (Vector::Tensor(grad), Scalar::Tensor(norm)) => {
                let scale = ((norm.clone() + 1e-6).recip() * max_norm).clamp_max(1.0);
                *grad = grad.clone() * scale;
            }
            _ => apart(),
        }
    }
    norm
}

/// How a learning rate changes over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Stays as it is.
    Constant,
    /// Falls linearly to zero at the end of the run.
    Linear,
}

impl Schedule {
    /// The factor at iteration k of K (k from 0).
    pub fn factor(self, k: u64, iterations: u64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Linear => 1.0 - k.min(iterations) as f64 / iterations.max(1) as f64,
        }
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::super::testing::{close, devices, normals};
    use super::super::weights::{Mean, read};
    use super::*;

    fn weights(params: &[f32], grad: &[f32], device: &Device) -> Weights {
        let mut weights = Weights::new(params.to_vec(), device);
        weights.set_grad(grad.to_vec());
        weights
    }

    #[test]
    fn adam_follows_the_textbook_recursion() {
        for device in devices() {
            for n in [0, 1, 2, 15, 16, 37] {
                let mut adam = Adam::new(n, 1e-5, &device);
                let mut x: Vec<f64> = normals(n, 1).iter().map(|x| f64::from(*x)).collect();
                let mut ours = weights(&normals(n, 1), &[], &device);
                let (mut m, mut v) = (vec![0.0f64; n], vec![0.0f64; n]);
                for t in 1..=20 {
                    let grad: Vec<f64> = (0..n).map(|i| x[i] * 0.5 + (i as f64 + x[i]).sin()).collect();
                    ours.set_grad(grad.iter().map(|g| *g as f32).collect());
                    adam.step(&mut ours, 0.05);
                    for i in 0..n {
                        m[i] = 0.9 * m[i] + 0.1 * grad[i];
                        v[i] = 0.999 * v[i] + 0.001 * grad[i] * grad[i];
                        let (mh, vh) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.999f64.powi(t)));
                        x[i] -= 0.05 * mh / (vh.sqrt() + 1e-5);
                    }
                    close(&ours.to_host(), &x, 1e-5);
                }
            }
        }
    }

    #[test]
    fn clipping_bounds_the_joint_norm_and_keeps_small_gradients() {
        for device in devices() {
            let clip = |max_norm| {
                let mut a = weights(&[0.0; 2], &[3.0, 0.0], &device);
                let mut b = weights(&[0.0], &[4.0], &device);
                let norm = clip_global_norm([&mut a, &mut b], max_norm);
                (a.grad_to_host(), b.grad_to_host(), read([norm]))
            };
            let (a, b, norm) = clip(0.5);
            assert_eq!(norm, [5.0]);
            close(&[a[0], b[0]], &[0.3, 0.4], 1e-6);
            assert_eq!(clip(10.0).0, [3.0, 0.0]);
            assert_eq!(clip(0.0).0, [3.0, 0.0]);
        }
    }

    #[test]
    fn a_mean_is_that_of_what_was_added() {
        for device in devices() {
            let mut mean = Mean::default();
            for x in [1.0, 2.0, 6.0] {
                mean.add(match device.is_cpu() {
                    true => Scalar::Host(x),
                    false => Scalar::Tensor(device.vector(vec![x as f32])),
                });
            }
            assert_eq!(read([mean.get()]), [3.0]);
        }
        assert!(read([Mean::default().get()])[0].is_nan());
    }

    #[test]
    fn schedules_end_where_they_should() {
        assert_eq!(Schedule::Linear.factor(0, 10), 1.0);
        assert_eq!(Schedule::Linear.factor(10, 10), 0.0);
        assert_eq!(Schedule::Constant.factor(10, 10), 1.0);
    }
}
