//! What losses of different agents have in common, on the same states, noise and values.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{build, options};
use rand_distr::{Distribution, StandardNormal};
use steadfast_agents::core::mlp::{Activation, Init};
use steadfast_agents::core::squashed::{ActorLoss, Draw, Logarithm, Squashed};
use steadfast_agents::core::weights::read;
use steadfast_agents::mdpo_off::ProximalSoftValue;
use steadfast_agents::sac::SoftValue;
use steadfast_agents::{Device, Metrics};
use steadfast_envs::state::Array;
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

/// Networks of an agent by name, and its metrics, after three iterations on a task with one player.
fn after_three(agent: &str, env: &str, settings: &str) -> (Vec<(String, Array)>, Vec<Metrics>) {
    let entry = steadfast_agents::entry(agent).unwrap();
    let (mut agent, mut envs) = build(entry, env, &options(entry, settings), 5, 10_000, Device::cpu(), 1);
    let metrics = (0..3).map(|_| agent.iterate(&mut envs).unwrap()).collect();
    let state = agent.save();
    let networks =
        state.iter().filter(|(name, _)| name.starts_with("policy.") || name.starts_with("critic."));
    (networks.map(|(name, array)| (name.to_owned(), array.clone())).collect(), metrics)
}

/// Same streams, same update, same bits.
#[test]
fn trust_region_agents_with_one_player_are_trpo() {
    let settings = "num_envs = 3\nhorizon = 70\nhidden = [16]\nnormalize_obs = true\nnormalize_reward = true\n\
                    noise_correlation = 0.5\nmax_kl = 0.05\nkl_slack = 1.0\nbacktrack = 0.8\nfisher_every = 3\n\
                    kl_schedule = 'linear'\nlr_schedule = 'linear'\ncritic_epochs = 2\ncritic_minibatch = 32";
    for env in ["CartPole-v1", "Pendulum-v1", "probe/multi-discrete"] {
        let trpo = after_three("trpo", env, settings);
        assert!(trpo.1.iter().all(|m| m.step_size > Some(0.0)));
        for agent in ["itrpo", "hatrpo", "matrl"] {
            assert!(after_three(agent, env, settings) == trpo, "{agent} on {env}");
        }
        let own = "critic = 'central'\nrecurrent_actor = false";
        assert!(after_three("ga_matr", env, &format!("{settings}\n{own}")) == trpo, "ga_matr on {env}");
        let other = after_three("hatrpo", env, &settings.replace("fisher_every = 3", "fisher_every = 2"));
        assert!(other != trpo, "{env}: the settings count");
    }
}

/// Its step is MATRL's; with the same critic and policies, too, it is MATRL.
#[test]
fn ga_matr_without_its_critic_is_matrl() {
    let settings = "num_envs = 3\nhorizon = 70\nhidden = [16]\ncritic_minibatch = 32\ncritic = 'central'";
    let matrl = after_three("matrl", "particle/spread", settings);
    let settings = &format!("{settings}\nrecurrent_actor = false");
    assert!(after_three("ga_matr", "particle/spread", settings) == matrl);
    assert!(matrl.1.iter().all(|m| m.nash_weight.is_some() && m.exploitability.is_some()));
    let alone = after_three("ga_matr", "particle/spread", &format!("{settings}\nmeta_game = false"));
    let independent = after_three("itrpo", "particle/spread", settings);
    assert!(alone == independent, "without the meta-game it is independent TRPO");
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
