//! An update on tensors, on a graphics device or not, gives the parameters that the CPU gives, up to rounding.
//!
//! Acting and randomness live on the host, so all devices see the same rollout. Without a graphics adapter its part
//! is skipped, with a line that says so, unless `STEADFAST_REQUIRE_WGPU=1` is set.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{build, is_off_policy, learners, on_tensors, options, plays, takes_heads};
use steadfast_agents::{Device, Entry, Setup};
use steadfast_envs::{State, state::Array};

/// One update with steps far longer than the tolerance. Adam's first step is nearly lr · sign(g): a large ε keeps
/// the rounding of a tiny gradient from becoming a whole step.
fn one_update(entry: &Entry) -> String {
    if is_off_policy(entry) {
        let replay = "buffer = 1000\nminibatch = 32\nlearning_starts = 64\ntrain_every = 8";
        return format!(
            "learning_rate = 1e-3\ncritic_lr = 1e-3\n{replay}\nnum_envs = 2\nhorizon = 64\nhidden = [16, 16]"
        );
    }
    let critic = "critic_lr = 0.01\ncritic_epochs = 1\ncritic_minibatch = 128";
    let own = match entry.name {
        "ppo" => "learning_rate = 0.01\nepochs = 1\nminibatch = 128".to_owned(),
        "hyperpp" => "learning_rate = 0.01\nepochs = 1\nminibatch = 128".to_owned(),
        "trpo" => critic.to_owned(),
        "mdpo" => format!("learning_rate = 0.01\nm = 2\ncritic_adam_epsilon = 1e-3\n{critic}"),
        name => panic!("'{name}' needs settings here, for a single update"),
    };
    format!("{own}\nadam_epsilon = 1e-3\nnum_envs = 2\nhorizon = 64\nhidden = [16, 16]")
}

/// The parameters of all networks by name, before and after that many iterations.
fn update(
    entry: &Entry,
    heads: &str,
    env: &str,
    device: &Device,
    iterations: usize,
) -> [Vec<(String, Vec<f32>)>; 2] {
    let options = options(entry, &format!("{}\n{heads}", one_update(entry)));
    let (mut agent, mut envs) = build(entry, env, &options, 0, 10 * 128, device.clone(), 1);
    let before = parameters(&agent.save());
    for _ in 0..iterations {
        agent.iterate(&mut envs).unwrap();
    }
    [before, parameters(&agent.save())]
}

fn parameters(state: &State) -> Vec<(String, Vec<f32>)> {
    let mut found = Vec::new();
    for (name, array) in state.iter() {
        if let Array::F32(_, values) = array
            && ["policy.", "critic.", "q1.", "q2.", "v."].iter().any(|network| name.starts_with(network))
        {
            found.push((name.to_owned(), values.clone()));
        }
    }
    found
}

/// Largest |a − b| / max(1, |a|), over all parameters.
fn distance(a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)]) -> f32 {
    let names = |x: &[(String, Vec<f32>)]| x.iter().map(|(n, v)| (n.clone(), v.len())).collect::<Vec<_>>();
    assert_eq!(names(a), names(b));
    let pairs = a.iter().flat_map(|(_, v)| v).zip(b.iter().flat_map(|(_, v)| v));
    pairs.map(|(a, b)| (a - b).abs() / a.abs().max(1.0)).fold(0.0, f32::max)
}

/// Compares with the CPU after so many iterations: whatever differs then feeds on itself, through what is seen and done.
fn agrees_with_the_cpu(device: &Device, iterations: usize) {
    let hyperbolic = learners().filter(|e| takes_heads(e)).map(|e| (e, "heads = 'hyperpp'\nfeatures = 8"));
    for (entry, heads) in learners().filter(|e| on_tensors(e)).map(|e| (e, "")).chain(hyperbolic) {
        for env in
            ["CartPole-v1", "Pendulum-v1", "probe/multi-discrete"].into_iter().filter(|e| plays(entry, e))
        {
            let [before, cpu] = update(entry, heads, env, &Device::cpu(), iterations);
            let [_, other] = update(entry, heads, env, device, iterations);
            assert!(distance(&before, &cpu) > 3e-3, "{} on {env}: the update does too little", entry.name);
            let distance = distance(&cpu, &other);
            println!("{} {heads:?} on {env}, {iterations} iterations: {distance:e}", entry.name);
            assert!(distance <= 1e-4, "{} on {env}: the devices differ by {distance:e}", entry.name);
        }
    }
}

#[test]
fn agents_without_tensors_refuse_other_devices() {
    for entry in learners().filter(|e| !on_tensors(e)) {
        let task = steadfast_envs::make("particle/spread").unwrap();
        let device = Device::cpu_tensors();
        let setup = Setup { spec: task.spec(), seed: 0, total_steps: 1_000_000, device };
        let error = (entry.build)(&options(entry, ""), &setup).err().unwrap().to_string();
        assert!(error.contains("--device cpu"), "{}: {error}", entry.name);
    }
}

#[test]
fn tensors_agree_with_slices() {
    agrees_with_the_cpu(&Device::cpu_tensors(), 1);
    agrees_with_the_cpu(&Device::cpu_tensors(), 4);
}

#[cfg(feature = "wgpu")]
#[test]
fn one_update_agrees_with_the_cpu() {
    match Device::wgpu() {
        Ok(device) => agrees_with_the_cpu(&device, 1),
        Err(error) if std::env::var("STEADFAST_REQUIRE_WGPU").is_ok_and(|v| v == "1") => {
            panic!("STEADFAST_REQUIRE_WGPU is set, but {error}")
        }
        Err(error) => eprintln!("skipped one_update_agrees_with_the_cpu: {error}"),
    }
}
