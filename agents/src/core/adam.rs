//! Adam (Kingma and Ba 2015, arXiv:1412.6980) on flat parameter vectors, and global-norm clipping.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use steadfast_envs::{State, StateError};

use super::device::{Device, to_host};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;

/// Adam's moment estimates of one flat parameter vector `[P]`.
pub struct Adam {
    m: Tensor<1>,
    v: Tensor<1>,
    steps: u64,
    epsilon: f64,
    device: Device,
}

impl Adam {
    /// For `len` parameters, with the given ε.
    pub fn new(len: usize, epsilon: f64, device: &Device) -> Self {
        let zeros = || device.vector(vec![0.0; len]);
        Self { m: zeros(), v: zeros(), steps: 0, epsilon, device: device.clone() }
    }

    /// The parameters `[P]` after one descent step along `grad` `[P]` with learning rate `lr` (algorithm 1).
    pub fn step(&mut self, params: Tensor<1>, grad: Tensor<1>, lr: f64) -> Tensor<1> {
        self.steps += 1;
        let t = i32::try_from(self.steps).unwrap_or(i32::MAX);
        self.m = self.m.clone() * BETA1 + grad.clone() * (1.0 - BETA1);
        self.v = self.v.clone() * BETA2 + grad.square() * (1.0 - BETA2);
        let (bias1, bias2) = (1.0 - BETA1.powi(t), 1.0 - BETA2.powi(t));
        let deviation = (self.v.clone() * (1.0 / bias2)).sqrt() + self.epsilon;
        params - self.m.clone() * (lr / bias1) / deviation
    }

    /// Saves the moments and the step count.
    pub fn save(&self, name: &str, state: &mut State) {
        state.put_f32(&format!("{name}.m"), &to_host(self.m.clone()));
        state.put_f32(&format!("{name}.v"), &to_host(self.v.clone()));
        state.put_u64(&format!("{name}.steps"), &[self.steps]);
    }

    /// Restores the moments and the step count.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, name: &str, state: &State) -> Result<(), StateError> {
        let len = self.m.dims()[0];
        self.m = self.device.vector(state.f32(&format!("{name}.m"), len)?.to_vec());
        self.v = self.device.vector(state.f32(&format!("{name}.v"), len)?.to_vec());
        self.steps = state.u64(&format!("{name}.steps"), 1)?[0];
        Ok(())
    }
}

/// Scales gradients so that their joint Euclidean norm is at most `max_norm`; a `max_norm` of 0 leaves them
/// alone. Returns them with the norm before clipping, `[1]`, without reading it back.
pub fn clip_global_norm<const N: usize>(grads: [Tensor<1>; N], max_norm: f64) -> ([Tensor<1>; N], Tensor<1>) {
    let squares = grads.iter().map(|g| g.clone().square().sum()).collect();
    let norm = Tensor::cat(squares, 0).sum().sqrt(); // [1]
    if max_norm <= 0.0 {
        return (grads, norm);
    }
    let scale = ((norm.clone() + 1e-6).recip() * max_norm).clamp_max(1.0);
    (grads.map(|g| g * scale.clone()), norm)
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
    use super::*;

    #[test]
    fn adam_follows_the_textbook_recursion() {
        let device = Device::cpu();
        let mut adam = Adam::new(2, 1e-5, &device);
        let mut params = device.vector(vec![1.0, -2.0]);
        let (mut x, mut m, mut v) = ([1.0f64, -2.0], [0.0f64; 2], [0.0f64; 2]);
        for t in 1..=20 {
            let grad = [x[0] * 0.5 + 0.1, (x[1]).sin()];
            params = adam.step(params, device.vector(grad.iter().map(|g| *g as f32).collect()), 0.05);
            for i in 0..2 {
                m[i] = 0.9 * m[i] + 0.1 * grad[i];
                v[i] = 0.999 * v[i] + 0.001 * grad[i] * grad[i];
                let (mh, vh) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.999f64.powi(t)));
                x[i] -= 0.05 * mh / (vh.sqrt() + 1e-5);
            }
            for (a, b) in to_host(params.clone()).iter().zip(x) {
                assert!((f64::from(*a) - b).abs() < 1e-5, "step {t}: {a} against {b}");
            }
        }
    }

    #[test]
    fn clipping_bounds_the_joint_norm_and_keeps_small_gradients() {
        let device = Device::cpu();
        let grads = || [device.vector(vec![3.0, 0.0]), device.vector(vec![4.0])];
        let ([a, b], norm) = clip_global_norm(grads(), 0.5);
        assert_eq!(to_host(norm), [5.0]);
        assert!((to_host(a)[0] - 0.3).abs() < 1e-6 && (to_host(b)[0] - 0.4).abs() < 1e-6);
        let ([a, _], _) = clip_global_norm(grads(), 10.0);
        assert_eq!(to_host(a), [3.0, 0.0]);
        let ([a, _], _) = clip_global_norm(grads(), 0.0);
        assert_eq!(to_host(a), [3.0, 0.0]);
    }

    #[test]
    fn schedules_end_where_they_should() {
        assert_eq!(Schedule::Linear.factor(0, 10), 1.0);
        assert_eq!(Schedule::Linear.factor(10, 10), 0.0);
        assert_eq!(Schedule::Constant.factor(10, 10), 1.0);
    }
}
