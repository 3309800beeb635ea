//! Flat parameter vectors and scalars, where the networks compute: in host memory or on a device.

use std::ops::{BitAnd, Mul};

use burn::tensor::{Bool, Tensor};

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
    /// `values` where `device` computes; none need no device.
    pub fn new(values: Vec<f32>, device: &Device) -> Self {
        if device.is_cpu() || values.is_empty() {
            Self::Host(values)
        } else {
            Self::Tensor(device.vector(values))
        }
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

    /// Euclidean norm.
    pub fn norm(&self) -> Scalar {
        match self {
            Self::Host(values) => {
                Scalar::Host(values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt())
            }
            Self::Tensor(tensor) => Scalar::Tensor(tensor.clone().square().sum().sqrt()),
        }
    }
}

/// A direction in the space of parameters, `[P]`: of `f64` in host memory (CPU), or on a device.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "few live at a time, and tensors are handles")]
pub enum Direction {
    /// In host memory.
    Host(Vec<f64>),
    /// On a device.
    Tensor(Tensor<1>),
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

    /// θ = θ_0 + `length` · `direction`; a `length` of 0 gives θ_0, whatever the direction.
    pub fn set_moved(&mut self, origin: &Vector, length: &Scalar, direction: &Direction) {
        match (&mut self.params, origin, length, direction) {
            (Vector::Host(params), Vector::Host(origin), Scalar::Host(length), Direction::Host(x)) => {
                params.clone_from(origin);
                if *length != 0.0 {
                    params.iter_mut().zip(x).for_each(|(p, x)| *p += (length * x) as f32);
                }
            }
            (
                Vector::Tensor(params),
                Vector::Tensor(origin),
                Scalar::Tensor(length),
                Direction::Tensor(x),
            ) => {
                let still = length.clone().equal_scalar(0.0).expand(x.dims());
                *params = (origin.clone() + x.clone() * length.clone()).mask_where(still, origin.clone());
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

impl Scalar {
    /// Whether it is at most `bound`; NaN is not.
    pub fn at_most(&self, bound: f64) -> Truth {
        match self {
            Self::Host(x) => Truth::Host(*x <= bound),
            Self::Tensor(x) => Truth::Tensor(x.clone().lower_equal_scalar(bound)),
        }
    }

    /// Whether it is above `other`; NaN is not.
    pub fn above(&self, other: &Self) -> Truth {
        match (self, other) {
            (Self::Host(x), Self::Host(y)) => Truth::Host(x > y),
            (Self::Tensor(x), Self::Tensor(y)) => Truth::Tensor(x.clone().greater(y.clone())),
            _ => apart(),
        }
    }
}

impl Mul<f64> for &Scalar {
    type Output = Scalar;
    fn mul(self, factor: f64) -> Scalar {
        match self {
            Scalar::Host(x) => Scalar::Host(x * factor),
            Scalar::Tensor(x) => Scalar::Tensor(x.clone() * factor),
        }
    }
}

/// Whether something holds: known in host memory, or only on a device.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "few live at a time, and tensors are handles")]
pub enum Truth {
    /// In host memory.
    Host(bool),
    /// On a device, `[1]`.
    Tensor(Tensor<1, Bool>),
}

impl BitAnd for Truth {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        match (self, other) {
            (Self::Host(a), Self::Host(b)) => Self::Host(a && b),
            (Self::Tensor(a), Self::Tensor(b)) => Self::Tensor(a.bool_and(b)),
            _ => apart(),
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
    read_both(scalars, []).0
}

/// Reads two lists of scalars; those on a device in one transfer.
pub fn read_both<const N: usize, const M: usize>(a: [Scalar; N], b: [Scalar; M]) -> ([f64; N], [f64; M]) {
    let on_device = a.iter().chain(&b).filter_map(|s| match s {
        Scalar::Host(_) => None,
        Scalar::Tensor(x) => Some(x.clone()),
    });
    let on_device: Vec<Tensor<1>> = on_device.collect();
    let mut values =
        if on_device.is_empty() { Vec::new() } else { to_host(Tensor::cat(on_device, 0)) }.into_iter();
    let mut value = |s| match s {
        Scalar::Host(x) => x,
        Scalar::Tensor(_) => values.next().map_or(f64::NAN, f64::from),
    };
    (a.map(&mut value), b.map(&mut value))
}

/// A network, its optimiser and its batches are made for one device.
pub(super) fn apart() -> ! {
    unreachable!("what belongs together lies in one place")
}
