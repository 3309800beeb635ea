//! Multi-layer perceptrons on one flat parameter vector.
//!
//! All weights of a network lie in one vector, layer after layer: the weight matrix `[in, out]` row by row, then
//! the bias `[out]`. Optimisers, natural gradients, checkpoints and the acting copy on the host
//! then need no walk over layers. Derivatives are written out ([`Mlp::vjp`], [`Mlp::jvp`]): a network is one
//! step of the chain rule, and the autodiff graph holds only what follows it (distribution and loss).
//!
//! Everything exists twice: on tensors here, for graphics devices and as the second opinion in tests, and on plain
//! slices in [`slices`], for the CPU.

use burn::tensor::Tensor;
use rand_distr::{Distribution, StandardNormal, Uniform};
use serde::{Deserialize, Serialize};
use steadfast_envs::Rng;

use super::device::Device;

pub mod slices;

/// Nonlinearity after each hidden layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Hyperbolic tangent.
    Tanh,
    /// max(0, x).
    Relu,
}

/// How initial weights are drawn; biases start at zero, unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Orthogonal matrices (Saxe et al. 2014, arXiv:1312.6120) with gain √2 in hidden layers.
    Orthogonal,
    /// Uniform in ±√(6 / (in + out)) (Glorot and Bengio 2010); gains are ignored.
    Xavier,
    /// Weights and biases uniform in ±1/√in: PyTorch's default for linear layers; gains are ignored.
    Pytorch,
}

/// One affine layer within the flat vector.
#[derive(Clone, Copy, Debug)]
struct Layer {
    offset: usize,
    inputs: usize,
    outputs: usize,
}

impl Layer {
    fn bias(&self) -> usize {
        self.offset + self.inputs * self.outputs
    }

    fn end(&self) -> usize {
        self.bias() + self.outputs
    }
}

/// A multi-layer perceptron: shapes only, the weights are the caller's.
#[derive(Clone, Debug)]
pub struct Mlp {
    layers: Vec<Layer>,
    activation: Activation,
    device: Device,
}

/// The inputs of every layer, kept from a forward pass for its derivatives.
#[derive(Clone)]
pub struct Pass(Vec<Tensor<2>>);

impl Mlp {
    /// Network from `inputs` to `outputs` through the `hidden` sizes.
    pub fn new(
        inputs: usize,
        hidden: &[usize],
        outputs: usize,
        activation: Activation,
        device: &Device,
    ) -> Self {
        let mut layers = Vec::with_capacity(hidden.len() + 1);
        let (mut offset, mut from) = (0, inputs);
        for &to in hidden.iter().chain([&outputs]) {
            let layer = Layer { offset, inputs: from, outputs: to };
            offset = layer.end();
            from = to;
            layers.push(layer);
        }
        Self { layers, activation, device: device.clone() }
    }

    /// Number of parameters, P.
    pub fn len(&self) -> usize {
        self.layers.last().map_or(0, Layer::end)
    }

    /// Length of an input.
    pub fn inputs(&self) -> usize {
        self.layers.first().map_or(0, |l| l.inputs)
    }

    /// True for a network without layers, which [`Mlp::new`] never makes.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Names and shapes of the parts of the flat vector, in order.
    pub fn parts(&self) -> Vec<(String, Vec<usize>)> {
        let both = |(i, l): (usize, &Layer)| {
            [(format!("{i}.weight"), vec![l.inputs, l.outputs]), (format!("{i}.bias"), vec![l.outputs])]
        };
        self.layers.iter().enumerate().flat_map(both).collect()
    }

    /// Offset, inputs and outputs of each layer's weight matrix `[in, out]` in the flat vector.
    pub fn matrices(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.layers.iter().map(|l| (l.offset, l.inputs, l.outputs))
    }

    /// Initial weights `[P]`; `gain` scales the last layer.
    pub fn init(&self, init: Init, gain: f64, rng: &mut Rng) -> Vec<f32> {
        let mut params = vec![0.0; self.len()];
        for (i, l) in self.layers.iter().enumerate() {
            let gain = if i + 1 == self.layers.len() { gain } else { std::f64::consts::SQRT_2 };
            let weight = match init {
                Init::Orthogonal => orthogonal(l.inputs, l.outputs, gain, rng),
                Init::Xavier => {
                    uniform((6.0 / (l.inputs + l.outputs) as f64).sqrt(), l.inputs * l.outputs, rng)
                }
                Init::Pytorch => uniform(1.0 / (l.inputs as f64).sqrt(), l.end() - l.offset, rng),
            };
            params[l.offset..l.offset + weight.len()].copy_from_slice(&weight);
        }
        params
    }

    /// Outputs `[B, out]` for inputs `[B, in]`, and what the derivatives need.
    pub fn forward(&self, params: &Tensor<1>, x: Tensor<2>) -> (Tensor<2>, Pass) {
        let mut inputs = Vec::with_capacity(self.layers.len());
        let mut h = x;
        for (i, l) in self.layers.iter().enumerate() {
            inputs.push(h.clone());
            h = h.matmul(weight(params, l)) + bias(params, l); // [B, out]
            if i + 1 < self.layers.len() {
                h = self.activate(h);
            }
        }
        (h, Pass(inputs))
    }

    /// Gradient `[P]` of Σ `grad` ∘ outputs with respect to the parameters (vector-Jacobian product), `grad` `[B, out]`.
    pub fn vjp(&self, params: &Tensor<1>, pass: &Pass, grad: Tensor<2>) -> Tensor<1> {
        let mut parts = Vec::with_capacity(2 * self.layers.len());
        let mut g = grad;
        for (i, l) in self.layers.iter().enumerate().rev() {
            let x = &pass.0[i];
            parts.push(g.clone().sum_dim(0).reshape([l.outputs]));
            parts.push(x.clone().transpose().matmul(g.clone()).reshape([l.inputs * l.outputs]));
            if i > 0 {
                g = g.matmul(weight(params, l).transpose()) * self.slope(x); // [B, in]
            }
        }
        parts.reverse();
        Tensor::cat(parts, 0)
    }

    /// Directional derivative `[B, out]` of the outputs along `tangent` `[P]` (Jacobian-vector product).
    pub fn jvp(&self, params: &Tensor<1>, pass: &Pass, tangent: &Tensor<1>) -> Tensor<2> {
        let mut dh: Option<Tensor<2>> = None; // the inputs do not move
        for (i, l) in self.layers.iter().enumerate() {
            let x = &pass.0[i];
            let mut d = x.clone().matmul(weight(tangent, l)) + bias(tangent, l);
            if let Some(dx) = dh {
                d = d + (dx * self.slope(x)).matmul(weight(params, l));
            }
            dh = Some(d);
        }
        dh.unwrap_or_else(|| self.device.matrix(Vec::new(), 1))
    }

    fn activate(&self, h: Tensor<2>) -> Tensor<2> {
        match self.activation {
            Activation::Tanh => h.tanh(),
            Activation::Relu => h.clamp_min(0.0),
        }
    }

    /// Derivative of the activation, from its value.
    fn slope(&self, h: &Tensor<2>) -> Tensor<2> {
        match self.activation {
            Activation::Tanh => 1.0 - h.clone().square(),
            Activation::Relu => h.clone().sign(),
        }
    }
}

fn weight(params: &Tensor<1>, l: &Layer) -> Tensor<2> {
    params.clone().narrow(0, l.offset, l.inputs * l.outputs).reshape([l.inputs, l.outputs])
}

fn bias(params: &Tensor<1>, l: &Layer) -> Tensor<2> {
    params.clone().narrow(0, l.bias(), l.outputs).reshape([1, l.outputs])
}

/// Matrix `[rows, columns]` with orthonormal rows or columns (whichever are fewer), times `gain`.
///
/// Gram-Schmidt, applied twice, on standard normal vectors: the result is distributed uniformly, as
/// from a QR decomposition with positive diagonal.
pub(super) fn orthogonal(rows: usize, columns: usize, gain: f64, rng: &mut Rng) -> Vec<f32> {
    let (few, many) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(few);
    for _ in 0..few {
        let mut v: Vec<f64> = StandardNormal.sample_iter(&mut *rng).take(many).collect();
        for _ in 0..2 {
            for b in &basis {
                let dot: f64 = v.iter().zip(b).map(|(v, b)| v * b).sum();
                v.iter_mut().zip(b).for_each(|(v, b)| *v -= dot * b);
            }
        }
        let norm = v.iter().map(|v| v * v).sum::<f64>().sqrt();
        v.iter_mut().for_each(|v| *v /= norm);
        basis.push(v);
    }
    let at = |r: usize, c: usize| if rows <= columns { basis[r][c] } else { basis[c][r] };
    (0..rows * columns).map(|i| (gain * at(i / columns, i % columns)) as f32).collect()
}

/// `len` numbers, uniform in ±`limit`.
fn uniform(limit: f64, len: usize, rng: &mut Rng) -> Vec<f32> {
    match Uniform::new_inclusive(-limit, limit) {
        Ok(uniform) => uniform.sample_iter(rng).take(len).map(|w| w as f32).collect(),
        Err(_) => vec![0.0; len], // only for an empty layer
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use steadfast_envs::{Purpose, rng::stream};

    fn network(activation: Activation) -> (Mlp, Vec<f32>, Vec<f32>, Device) {
        let device = Device::cpu_tensors();
        let mlp = Mlp::new(3, &[8, 5], 2, activation, &device);
        let mut rng = stream(1, Purpose::Check, 0);
        let mut params = mlp.init(Init::Orthogonal, 1.0, &mut rng);
        // Biases away from zero, so that their derivatives matter.
        params.iter_mut().for_each(|p| *p += 0.1);
        let x: Vec<f32> = StandardNormal.sample_iter(&mut rng).take(4 * 3).collect();
        (mlp, params, x, device)
    }

    fn host(tensor: Tensor<2>) -> Vec<f32> {
        super::super::device::to_host(tensor)
    }

    fn close(a: &[f32], b: &[f32], tolerance: f32) {
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{a} against {b}");
        }
    }

    #[test]
    fn orthogonal_rows_have_unit_length_and_are_perpendicular() {
        let mut rng = stream(0, Purpose::Init, 0);
        for (rows, columns) in [(4, 9), (9, 4), (5, 5)] {
            let w = orthogonal(rows, columns, 2.0, &mut rng);
            let at =
                |i: usize, k: usize| if rows <= columns { w[i * columns + k] } else { w[k * columns + i] };
            for i in 0..rows.min(columns) {
                for j in 0..rows.min(columns) {
                    let dot: f32 = (0..rows.max(columns)).map(|k| at(i, k) * at(j, k)).sum();
                    assert!((dot - if i == j { 4.0 } else { 0.0 }).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn uniform_weights_have_the_stated_limits() {
        let mlp = Mlp::new(4, &[36], 60, Activation::Relu, &Device::cpu_tensors());
        let limits = |params: &[f32], range: std::ops::Range<usize>| {
            params[range].iter().fold(0.0f32, |a, b| a.max(b.abs()))
        };
        let near = |x: f32, limit: f32| assert!(x <= limit && x > 0.9 * limit, "{x} of {limit}");
        let params = mlp.init(Init::Pytorch, 1.0, &mut stream(0, Purpose::Init, 0));
        near(limits(&params, 0..4 * 36), 0.5);
        near(limits(&params, 4 * 36..5 * 36), 0.5);
        near(limits(&params, 5 * 36..5 * 36 + 36 * 60), 1.0 / 6.0);
        let params = mlp.init(Init::Xavier, 1.0, &mut stream(0, Purpose::Init, 0));
        near(limits(&params, 0..4 * 36), (6.0f32 / 40.0).sqrt());
        assert_eq!(limits(&params, 4 * 36..5 * 36), 0.0);
    }

    #[test]
    fn vjp_agrees_with_autodiff() {
        for activation in [Activation::Tanh, Activation::Relu] {
            let (mlp, params, x, device) = network(activation);
            let g = device.matrix((0..8).map(|i| i as f32 * 0.3 - 1.0).collect(), 2);
            let flat = device.vector(params.clone());
            let (_, pass) = mlp.forward(&flat, device.matrix(x.clone(), 3));
            let ours = mlp.vjp(&flat, &pass, g.clone());
            let leaf = flat.autodiff().require_grad();
            let (y, _) = mlp.forward(&leaf, device.matrix(x, 3).autodiff());
            let gradients = (y * g.autodiff()).sum().backward();
            let theirs = leaf.grad(&gradients).unwrap();
            close(&super::super::device::to_host(ours), &super::super::device::to_host(theirs), 1e-4);
        }
    }

    #[test]
    fn jvp_agrees_with_finite_differences() {
        let (mlp, params, x, device) = network(Activation::Tanh);
        let tangent: Vec<f32> = (0..mlp.len()).map(|i| ((i * 7) % 11) as f32 * 0.02 - 0.1).collect();
        let at = |h: f32| {
            let moved = params.iter().zip(&tangent).map(|(p, t)| p + h * t).collect();
            host(mlp.forward(&device.vector(moved), device.matrix(x.clone(), 3)).0)
        };
        let flat = device.vector(params.clone());
        let (_, pass) = mlp.forward(&flat, device.matrix(x.clone(), 3));
        let ours = host(mlp.jvp(&flat, &pass, &device.vector(tangent.clone())));
        let numeric: Vec<f32> = at(1e-2).iter().zip(at(-1e-2)).map(|(a, b)| (a - b) / 2e-2).collect();
        close(&ours, &numeric, 2e-3);
    }
}
