//! Memory and transfers: no heap allocation per environment step or minibatch, nothing read back inside an iteration.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{build, is_off_policy, learners, on_tensors, options, plays, takes_heads};
use steadfast_agents::core::device::{Transfers, transfers};
use steadfast_agents::{Device, Entry};

/// Counts the calling thread's allocations.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of an iteration once buffers have grown, with its finished episodes.
fn allocations(entry: &Entry, heads: &str, env: &str, horizon: usize, epochs: usize) -> (u64, u64) {
    let own = match entry.name {
        "maddpg" => format!(
            "updates = {epochs}\nbuffer = 10_000\nminibatch = 32\nlearning_starts = 64\ntrain_every = 4"
        ),
        _ if is_off_policy(entry) => {
            format!("updates = {epochs}\nbuffer = 10_000\nminibatch = 32\nlearning_starts = 64")
        }
        "ppo" | "hyperpp" => format!("epochs = {epochs}\nminibatch = 32\nentropy_coef = 0.01"),
        "trpo" | "itrpo" | "hatrpo" | "matrl" | "ga_matr" => {
            format!("critic_epochs = {epochs}\ncritic_minibatch = 32\ncg_iterations = 5")
        }
        "mdpo" => format!("critic_epochs = {epochs}\ncritic_minibatch = 32\nm = {epochs}"),
        "ippo" | "mappo" | "happo" => format!(
            "epochs = {epochs}\nminibatch = 32\nentropy_coef = 0.01\ncritic_epochs = {epochs}\ncritic_minibatch = 32"
        ),
        name => panic!("'{name}' needs settings here"),
    };
    let normalize = if is_off_policy(entry) { "" } else { "normalize_obs = true\nnormalize_reward = true" };
    let text = format!("{own}\nnum_envs = 4\nhorizon = {horizon}\nhidden = [16]\n{normalize}\n{heads}");
    let (mut agent, mut envs) = build(entry, env, &options(entry, &text), 0, 1_000_000, Device::cpu(), 1);
    for _ in 0..6 {
        agent.iterate(&mut envs).unwrap();
    }
    envs.take_episodes();
    let before = ALLOCATIONS.get();
    agent.iterate(&mut envs).unwrap();
    (ALLOCATIONS.get() - before, envs.take_episodes().len() as u64)
}

/// Agents whose heads can be hyperbolic, with such.
fn hyperbolic() -> impl Iterator<Item = (&'static Entry, &'static str)> {
    learners().filter(|e| takes_heads(e)).map(|e| (e, "heads = 'hyperpp'\nfeatures = 8"))
}

#[test]
fn steps_and_minibatches_do_not_allocate() {
    for (entry, heads) in learners().map(|e| (e, "")).chain(hyperbolic()) {
        for env in ["Pendulum-v1", "CartPole-v1", "probe/multi-discrete", "probe/coordination"]
            .into_iter()
            .filter(|e| plays(entry, e))
        {
            let (few, _) = allocations(entry, heads, env, 64, 1);
            for (horizon, epochs) in [(64, 8), (256, 8)] {
                let (many, episodes) = allocations(entry, heads, env, horizon, epochs);
                // An iteration may allocate a little, for each step of each player (of `matrl` two); a finished episode is handed over in memory of its
                // own, in a list that grows.
                let players = steadfast_envs::make(env).unwrap().spec().agents.len() as u64;
                let steps = if players > 1 { 2 * players } else { 1 };
                let allowed = 40 * steps + 2 * episodes;
                println!("{} on {env}: {few} and {many} allocations, {episodes} episodes", entry.name);
                assert!(
                    few <= 40 * steps + 2 * 256 && many <= allowed,
                    "{} on {env}: {many} of {allowed}",
                    entry.name
                );
            }
        }
    }
}

/// Transfers of one iteration with that many passes over the batch.
fn transfers_of(entry: &Entry, heads: &str, device: &Device, epochs: usize) -> Transfers {
    let own = match entry.name {
        _ if is_off_policy(entry) => {
            format!("updates = {epochs}\nbuffer = 1000\nminibatch = 32\nlearning_starts = 100")
        }
        "ppo" | "hyperpp" => format!("epochs = {epochs}\nminibatch = 32"),
        "trpo" => format!("critic_epochs = {epochs}\ncritic_minibatch = 32\ncg_iterations = 5"),
        _ => format!("critic_epochs = {epochs}\ncritic_minibatch = 32\nm = {epochs}"),
    };
    let text = format!("{own}\nnum_envs = 2\nhorizon = 64\nhidden = [16]\n{heads}");
    let (mut agent, mut envs) =
        build(entry, "Pendulum-v1", &options(entry, &text), 0, 10_000, device.clone(), 1);
    agent.iterate(&mut envs).unwrap();
    let before = transfers();
    agent.iterate(&mut envs).unwrap();
    let after = transfers();
    Transfers { uploads: after.uploads - before.uploads, downloads: after.downloads - before.downloads }
}

/// What a graphics device sees, counted on the CPU through the same code.
#[test]
fn nothing_is_read_back_inside_an_iteration() {
    for (entry, heads) in learners().filter(|e| on_tensors(e)).map(|e| (e, "")).chain(hyperbolic()) {
        assert_eq!(
            transfers_of(entry, heads, &Device::cpu(), 3),
            Transfers::default(),
            "slices move nothing"
        );
        let (once, often) = (
            transfers_of(entry, heads, &Device::cpu_tensors(), 1),
            transfers_of(entry, heads, &Device::cpu_tensors(), 5),
        );
        println!("{}: {once:?}, {often:?}", entry.name);
        if is_off_policy(entry) {
            // They hand their numbers from network to network through the host: so many each gradient step.
            let each = |a: u64, b: u64| (b - a) as f64 / (4.0 * 64.0);
            let (up, down) = (each(once.uploads, often.uploads), each(once.downloads, often.downloads));
            assert!(up <= 30.0 && down <= 10.0, "{}: {up} and {down} a gradient step", entry.name);
            continue;
        }
        if entry.name == "hyperpp" {
            // Batches lie on the host: up goes each minibatch, down comes whether its gradient is finite.
            let minibatches = 4.0 * (128.0 / 32.0);
            let each = |a: u64, b: u64| (b - a) as f64 / minibatches;
            let (up, down) = (each(once.uploads, often.uploads), each(once.downloads, often.downloads));
            assert!(up <= 9.0 && down <= 1.0, "{}: {up} and {down} a minibatch", entry.name);
            continue;
        }
        assert_eq!(once, often, "{}: transfers do not grow with the minibatches", entry.name);
        // Observations for the critic, then observations, actions, values, advantages, returns and the order of the
        // minibatches; back come values, metrics and the parameters for acting.
        assert_eq!(often, Transfers { uploads: 7, downloads: 3 }, "{}", entry.name);
    }
}
