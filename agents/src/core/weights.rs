//! Flat parameter vectors and scalars, where the networks compute: in host memory or on a device.

use burn::tensor::Tensor;

use super::device::{Device, to_host};

/// A vector `[P]` in host memory (CPU) or on a device.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "few live at a time, and tensors are handles")]
pub enum Vector {
    /// In host memory.
    Host(Vec<f32>),
    /// On a device.
    Tensor(Tensor<1>),
}

impl Vector {
    /// `values` where `device` computes.
    pub fn new(values: Vec<f32>, device: &Device) -> Self {
        if device.is_cpu() { Self::Host(values) } else { Self::Tensor(device.vector(values)) }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(values) => values.len(),
            Self::Tensor(tensor) => tensor.dims()[0],
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first entry.
    pub fn first(&self) -> f32 {
        match self {
            Self::Host(values) => values[0],
            Self::Tensor(tensor) => to_host(tensor.clone())[0],
        }
    }

    /// A copy in host memory.
    pub fn to_host(&self) -> Vec<f32> {
        match self {
            Self::Host(values) => values.clone(),
            Self::Tensor(tensor) => to_host(tensor.clone()),
        }
    }
}

/// A network's parameters θ and the gradient of the loss last asked for, both `[P]`.
#[derive(Clone)]
pub struct Weights {
    /// θ
    pub params: Vector,
    /// ∇_θ loss
    pub grad: Vector,
    device: Device,
}

impl Weights {
    /// Parameters `values` and a gradient of zeros, where `device` computes.
    pub fn new(values: Vec<f32>, device: &Device) -> Self {
        let grad = Vector::new(vec![0.0; values.len()], device);
        Self { params: Vector::new(values, device), grad, device: device.clone() }
    }

    /// Number of parameters, P.
    pub fn len(&self) -> usize {
        self.params.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// θ in host memory.
    pub fn to_host(&self) -> Vec<f32> {
        self.params.to_host()
    }

    /// The gradient in host memory.
    pub fn grad_to_host(&self) -> Vec<f32> {
        self.grad.to_host()
    }

    /// Replaces θ.
    pub fn set(&mut self, values: Vec<f32>) {
        self.params = Vector::new(values, &self.device);
    }

    /// Replaces the gradient.
    pub fn set_grad(&mut self, values: Vec<f32>) {
        self.grad = Vector::new(values, &self.device);
    }

    /// Sets every entry of the gradient to `value`.
    pub fn fill_grad(&mut self, value: f32) {
        match &mut self.grad {
            Vector::Host(grad) => grad.fill(value),
            Vector::Tensor(grad) => *grad = grad.full_like(value),
        }
    }

    /// θ = θ_0 + `length` · `direction`
    pub fn set_moved(&mut self, origin: &Vector, length: f64, direction: &[f64]) {
        let step = direction.iter().map(|x| (length * x) as f32);
        match (&mut self.params, origin) {
            (Vector::Host(params), Vector::Host(origin)) => {
                params.iter_mut().zip(origin).zip(step).for_each(|((p, o), s)| *p = o + s);
            }
            (Vector::Tensor(params), Vector::Tensor(origin)) => {
                *params = origin.clone() + self.device.vector(step.collect());
            }
            _ => apart(),
        }
    }
}

/// A number in host memory, or still on a device.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "few live at a time, and tensors are handles")]
pub enum Scalar {
    /// In host memory.
    Host(f64),
    /// On a device, `[1]`.
    Tensor(Tensor<1>),
}

impl Scalar {
    /// Sum of numbers from one place.
    pub fn sum<const N: usize>(scalars: [Self; N]) -> Self {
        let mut tensors = Vec::new();
        let mut sum = 0.0;
        for scalar in scalars {
            match scalar {
                Self::Host(x) => sum += x,
                Self::Tensor(x) => tensors.push(x),
            }
        }
        if tensors.is_empty() { Self::Host(sum) } else { Self::Tensor(Tensor::cat(tensors, 0).sum()) }
    }

    /// Square root.
    pub fn sqrt(self) -> Self {
        match self {
            Self::Host(x) => Self::Host(x.sqrt()),
            Self::Tensor(x) => Self::Tensor(x.sqrt()),
        }
    }
}

/// The mean of scalars, without reading any back.
#[derive(Default)]
pub struct Mean {
    sum: f64,
    count: usize,
    tensors: Vec<Tensor<1>>,
}

impl Mean {
    /// Takes in one.
    pub fn add(&mut self, scalar: Scalar) {
        match scalar {
            Scalar::Host(x) => {
                self.sum += x;
                self.count += 1;
            }
            Scalar::Tensor(x) => self.tensors.push(x),
        }
    }

    /// Their mean; NaN of none.
    pub fn get(self) -> Scalar {
        if self.tensors.is_empty() {
            return Scalar::Host(self.sum / self.count as f64);
        }
        Scalar::Tensor(Tensor::cat(self.tensors, 0).mean())
    }
}

/// Reads scalars; those on a device in one transfer.
pub fn read<const N: usize>(scalars: [Scalar; N]) -> [f64; N] {
    let on_device = scalars.iter().filter_map(|s| match s {
        Scalar::Host(_) => None,
        Scalar::Tensor(x) => Some(x.clone()),
    });
    let on_device: Vec<Tensor<1>> = on_device.collect();
    let mut values =
        if on_device.is_empty() { Vec::new() } else { to_host(Tensor::cat(on_device, 0)) }.into_iter();
    scalars.map(|s| match s {
        Scalar::Host(x) => x,
        Scalar::Tensor(_) => values.next().map_or(f64::NAN, f64::from),
    })
}

/// A network, its optimiser and its batches are made for one device.
pub(super) fn apart() -> ! {
    unreachable!("what belongs together lies in one place")
}
