//! What several test modules need: small policies away from their initial weights, batches made by hand, comparisons.

use rand_distr::{Distribution, StandardNormal};
use steadfast_envs::{Purpose, Rng, rng::stream};

use super::device::{Device, to_host};
use super::dist::Head;
use super::mlp::{Activation, Init};
use super::on_policy::Batch;
use super::policy::{Net, Policy};

/// A stream for tests.
pub fn rng(index: u64) -> Rng {
    stream(0, Purpose::Check, index)
}

/// `n` standard normal numbers.
pub fn normals(n: usize, index: u64) -> Vec<f32> {
    StandardNormal.sample_iter(rng(index)).take(n).collect()
}

/// A policy on the CPU whose parameters are all of order one, so that no derivative hides near zero.
pub fn policy(head: Head, obs_len: usize, hidden: &[usize]) -> Policy {
    let net = Net {
        hidden: hidden.to_vec(),
        activation: Activation::Tanh,
        init: Init::Orthogonal,
        log_std_init: 0.0,
    };
    let mut policy = Policy::new(head, obs_len, &net, &mut rng(0), &Device::cpu());
    let params = normals(policy.len(), 1).iter().map(|x| 0.6 * x).collect();
    policy.set_params(policy.vector(params));
    policy.refresh();
    policy
}

/// A batch of `obs` `[B, O]` and `actions` `[B, action_len]` whose π_old is `policy` as it stands.
pub fn batch(policy: &Policy, obs: Vec<f32>, actions: Vec<f32>, advantage: Vec<f32>) -> Batch {
    let (device, len) = (Device::cpu(), advantage.len());
    let columns = obs.len() / len;
    let obs = device.matrix(obs, columns);
    let actions = device.matrix(actions, policy.head().action_len());
    let dist_old = policy.dist(&obs);
    let zeros = device.vector(vec![0.0; len]);
    Batch {
        len,
        log_prob_old: dist_old.log_prob(&actions),
        value_old: zeros.clone(),
        ret: zeros,
        advantage: device.vector(advantage),
        explained_variance: None,
        obs,
        actions,
        dist_old,
    }
}

/// θ on the host.
pub fn params(policy: &Policy) -> Vec<f32> {
    to_host(policy.params())
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
