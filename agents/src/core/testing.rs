//! What several test modules need: small policies away from their initial weights, batches made by hand, comparisons.

use rand_distr::{Distribution, StandardNormal};
use steadfast_envs::{Env, Purpose, Rng, make_with, rng::stream};

use super::batch::{HostRows, Rows, TensorRows};
use super::device::{Device, to_host};
use super::dist::Head;
use super::features::{Norm, Scale};
use super::hyperbolic::mlr::Geometry;
use super::loss::PolicyLoss;
use super::mlp::{Activation, Init};
use super::network::{Heads, Kind};
use super::policy::{Net, Policy};
use super::trunk::{Embedding, Representation};
use super::value_head::ValueLoss;
use super::weights::{Direction, Scalar, Vector, read};

/// The task of that name; those of `uav-bs` with hybrid actions and masks.
pub fn task(env: &str) -> Box<dyn Env> {
    let hybrid: &[(&str, &str)] = if env.starts_with("uav-bs") { &[("action", "hybrid")] } else { &[] };
    make_with(env, hybrid).unwrap_or_else(|e| panic!("{env}: {e}"))
}

/// A stream for tests.
pub fn rng(index: u64) -> Rng {
    stream(0, Purpose::Check, index)
}

/// `n` standard normal numbers.
pub fn normals(n: usize, index: u64) -> Vec<f32> {
    StandardNormal.sample_iter(rng(index)).take(n).collect()
}

/// The CPU on slices, and its second opinion on tensors.
pub fn devices() -> [Device; 2] {
    [Device::cpu(), Device::cpu_tensors()]
}

/// Where tensors compute: burn's CPU backend and, where there is one, a graphics adapter.
pub fn tensor_devices() -> Vec<Device> {
    #[allow(unused_mut, reason = "without wgpu there is one")]
    let mut devices = vec![Device::cpu_tensors()];
    #[cfg(feature = "wgpu")]
    match Device::wgpu() {
        Ok(device) => devices.push(device),
        Err(error) if std::env::var("STEADFAST_REQUIRE_WGPU").is_ok_and(|v| v == "1") => {
            panic!("STEADFAST_REQUIRE_WGPU is set, but {error}")
        }
        Err(error) => eprintln!("not on wgpu: {error}"),
    }
    devices
}

/// A small network's representation with these parts.
pub fn arm((norm, scale, geometry, value_loss): (Norm, Scale, Geometry, ValueLoss)) -> Representation {
    Representation {
        embedding: Embedding { features: 4, norm, scale, geometry, ..Embedding::default() },
        value_loss,
        bins: 11,
        value_min: -3.0,
        value_max: 3.0,
        ..Representation::default()
    }
}

/// What may follow hidden layers.
pub fn all_heads() -> Vec<Heads> {
    let embedded = |geometry, scale, norm| Heads {
        heads: Kind::Hyperpp,
        embedding: Embedding { features: 4, geometry, scale, norm, ..Embedding::default() },
    };
    vec![
        Heads::default(),
        embedded(Geometry::Hyperboloid, Scale::Gate, Norm::Rms),
        embedded(Geometry::Ball, Scale::Root, Norm::Layer),
        embedded(Geometry::Euclidean, Scale::Gate, Norm::Rms),
    ]
}

/// One head of each kind.
pub fn heads() -> Vec<Head> {
    let choices = |sizes: &[usize]| Head::Categorical { sizes: sizes.to_vec() };
    let hybrid = Head::Product(vec![Head::Gaussian { dim: 2 }, choices(&[3, 2]), Head::Gaussian { dim: 1 }]);
    vec![Head::Gaussian { dim: 2 }, choices(&[3]), choices(&[3, 2]), hybrid]
}

/// Actions `[B, action_len]` that the head can take.
pub fn actions(head: &Head, rows: usize, index: u64) -> Vec<f32> {
    match head {
        Head::Gaussian { dim } => normals(rows * dim, index),
        Head::Categorical { sizes } => {
            (0..rows).flat_map(|i| sizes.iter().map(move |n| (i % n) as f32)).collect()
        }
        Head::Product(parts) => {
            let each: Vec<_> = parts.iter().map(|p| (actions(p, rows, index), p.action_len())).collect();
            let row = |i: usize| each.iter().flat_map(move |(a, len)| a[i * len..(i + 1) * len].to_vec());
            (0..rows).flat_map(row).collect()
        }
    }
}

/// A policy on the CPU whose parameters are all of order one, so that no derivative hides near zero.
pub fn policy(head: Head, obs_len: usize, hidden: &[usize]) -> Policy {
    policy_on(&Device::cpu(), head, obs_len, hidden, Activation::Tanh)
}

/// The same on any device.
pub fn policy_on(
    device: &Device,
    head: Head,
    obs_len: usize,
    hidden: &[usize],
    activation: Activation,
) -> Policy {
    policy_with(&Heads::default(), device, head, obs_len, hidden, activation)
}

/// The same with a choice of what follows the hidden layers.
pub fn policy_with(
    heads: &Heads,
    device: &Device,
    head: Head,
    obs_len: usize,
    hidden: &[usize],
    activation: Activation,
) -> Policy {
    let net = Net { hidden: hidden.to_vec(), activation, init: Init::Orthogonal, log_std_init: 0.0 };
    let mut policy = Policy::with_heads(head, obs_len, &net, heads, &mut rng(0), device);
    // Wide layers: weights of order one over the root of their number of inputs.
    let scale = 0.6 / (1.0 + hidden.iter().copied().max().unwrap_or(0) as f32 / 4.0).sqrt();
    policy.weights.set(normals(policy.len(), 1).iter().map(|x| scale * x).collect());
    policy.refresh();
    policy
}

/// Rows of `obs` `[B, O]` and `actions` `[B, action_len]` whose π_old is `policy` as it stands; no values.
pub fn rows(policy: &mut Policy, obs: Vec<f32>, actions: Vec<f32>, advantage: Vec<f32>) -> Rows {
    masked_rows(policy, obs, Vec::new(), actions, advantage)
}

/// The same with masks `[B, mask_len]`.
pub fn masked_rows(
    policy: &mut Policy,
    obs: Vec<f32>,
    masks: Vec<bool>,
    actions: Vec<f32>,
    advantage: Vec<f32>,
) -> Rows {
    let len = advantage.len();
    let (value_old, ret) = (vec![0.0; len], vec![0.0; len]);
    match policy.weights.params.clone() {
        Vector::Host(_) => {
            let mut rows = HostRows { obs, masks, actions, advantage, value_old, ret, ..HostRows::default() };
            policy.remember(&mut rows);
            Rows::Host(rows)
        }
        Vector::Tensor(params) => {
            let device = Device::cpu_tensors();
            let forbidden = policy.head().forbidden(&masks, &device);
            let obs = device.matrix(obs.clone(), obs.len() / len);
            let actions = device.matrix(actions, policy.head().action_len());
            let dist_old = policy.dist(&params, &obs, forbidden.as_ref());
            Rows::Tensor(TensorRows {
                log_prob_old: dist_old.log_prob(&actions),
                value_old: device.vector(value_old),
                ret: device.vector(ret),
                advantage: device.vector(advantage),
                obs,
                forbidden,
                actions,
                dist_old,
            })
        }
    }
}

/// ln π_old(a|s) plus `shift`, row by row.
pub fn shift_log_prob_old(rows: &mut Rows, shift: &[f32]) {
    match rows {
        Rows::Host(rows) => rows.log_prob_old.iter_mut().zip(shift).for_each(|(l, s)| *l += s),
        Rows::Tensor(rows) => {
            rows.log_prob_old = rows.log_prob_old.clone() + Device::cpu_tensors().vector(shift.to_vec());
        }
    }
}

/// Advantages in host memory.
pub fn advantages(rows: &Rows) -> Vec<f32> {
    match rows {
        Rows::Host(rows) => rows.advantage.clone(),
        Rows::Tensor(rows) => to_host(rows.advantage.clone()),
    }
}

/// A loss and its gradient `[P]`.
pub fn loss_and_grad(policy: &mut Policy, rows: &Rows, loss: &impl PolicyLoss) -> (f64, Vec<f32>) {
    let value = policy.grad(rows, loss);
    (read([value])[0], policy.weights.grad_to_host())
}

/// A direction where `device` computes.
pub fn direction(values: Vec<f32>, device: &Device) -> Direction {
    match Vector::new(values, device) {
        Vector::Host(values) => Direction::Host(values.into_iter().map(f64::from).collect()),
        Vector::Tensor(values) => Direction::Tensor(values),
    }
}

/// A number where `device` computes.
pub fn scalar(value: f64, device: &Device) -> Scalar {
    if device.is_cpu() { Scalar::Host(value) } else { Scalar::Tensor(device.vector(vec![value as f32])) }
}

/// θ on the host.
pub fn params(policy: &Policy) -> Vec<f32> {
    policy.weights.to_host()
}

/// Asserts |a − b| ≤ `tolerance` · max(1, |b|), element by element.
#[track_caller]
pub fn close<A: Copy + Into<f64>, B: Copy + Into<f64>>(a: &[A], b: &[B], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let (a, b): (f64, f64) = ((*a).into(), (*b).into());
        assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "entry {i}: {a} is not {b}");
    }
}
