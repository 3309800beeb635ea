//! What losses of different agents have in common, on the same states, noise and values.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use rand_distr::{Distribution, StandardNormal};
use steadfast_agents::Device;
use steadfast_agents::core::mlp::{Activation, Init};
use steadfast_agents::core::squashed::{ActorLoss, Draw, Logarithm, Squashed};
use steadfast_agents::core::weights::read;
use steadfast_agents::mdpo_off::ProximalSoftValue;
use steadfast_agents::sac::SoftValue;
use steadfast_envs::{Purpose, rng::stream};

const ROWS: usize = 32;

fn normals(n: usize, index: u64) -> Vec<f32> {
    StandardNormal.sample_iter(stream(0, Purpose::Check, index)).take(n).collect()
}

fn actor(device: &Device, logarithm: Logarithm, index: u64) -> Squashed {
    let mut rng = stream(0, Purpose::Init, 0);
    let actor = Squashed::new(3, 2, &[8], Activation::Relu, Init::Pytorch, &mut rng, device);
    let mut actor = actor.with_logarithm(logarithm);
    actor.weights.set(normals(actor.len(), index).iter().map(|x| 0.4 * x).collect());
    actor
}

/// The loss, then its gradient.
fn step(device: &Device, logarithm: Logarithm, loss: &impl ActorLoss) -> Vec<f64> {
    let (mut actor, old) = (actor(device, logarithm, 1), actor(device, logarithm, 2));
    let obs = normals(3 * ROWS, 3);
    let mut draw = Draw::with_noise(normals(2 * ROWS, 4));
    actor.draw(&obs, &mut draw);
    old.remember(&obs, &mut draw);
    let value = actor.grad(&obs, &mut draw, &normals(ROWS, 5), &normals(2 * ROWS, 6), loss);
    let grad = actor.weights.grad_to_host();
    read([value]).into_iter().chain(grad.into_iter().map(f64::from)).collect()
}

fn mdpo(kl_coef: f64, entropy_coef: f64, tsallis_q: f64) -> ProximalSoftValue {
    ProximalSoftValue { kl_coef, entropy_coef, tsallis_q, regularizer: 0.0 }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn off_policy_mdpo_with_equal_weights_is_sac() {
    for device in [Device::cpu(), Device::cpu_tensors()] {
        let sac = step(&device, Logarithm::NATURAL, &SoftValue { temperature: 0.2 });
        assert!(distance(&step(&device, Logarithm::NATURAL, &mdpo(0.2, 0.2, 1.0)), &sac) < 1e-6);
        let other = step(&device, Logarithm::NATURAL, &mdpo(0.5, 0.2, 1.0));
        assert!(distance(&other, &sac) > 1e-2, "the old policy counts");
    }
}

#[test]
fn the_tsallis_variant_tends_to_the_kl_variant() {
    let kl = step(&Device::cpu(), Logarithm::NATURAL, &mdpo(0.5, 0.2, 1.0));
    let far = [1.1, 1.01, 1.001]
        .map(|q| distance(&step(&Device::cpu(), Logarithm { q, floor: 0.0 }, &mdpo(0.5, 0.2, q)), &kl));
    // Of order q − 1.
    assert!(far[0] > 0.01 && far[1] < 0.2 * far[0] && far[2] < 0.2 * far[1], "{far:?}");
}
