//! The promise: same seed, same bits, whatever the number of threads, and across a save and a load.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{build, is_off_policy, load, options, plays, replay};
use steadfast_agents::core::profile::{self, Stage};
use steadfast_agents::{Acting, Agent, Device, Entry, Metrics, REGISTRY, Seen};
use steadfast_envs::rng::stream;
use steadfast_envs::{Purpose, State, VecEnv};
use toml::Table;

const TASKS: [&str; 4] = ["CartPole-v1", "Pendulum-v1", "particle/spread", "uav-bs/bs-tiny"];

/// Everything that carries state from one iteration to the next is switched on. The horizon is no divisor of an
/// episode's length, so that iterations begin in the middle of episodes.
fn everything_on(entry: &Entry) -> Table {
    if entry.name == "dqn" {
        // Target network, power iteration and Riemannian Adam.
        let replay = "buffer = 500\nminibatch = 16\nlearning_starts = 100\ntrain_every = 7\nupdates = 3";
        let own = "target_every = 4\ntau = 0.7\nlr_schedule = 'linear'\ngeometry = 'ball-points'\nnorm = 'spectral'";
        return options(
            entry,
            &format!("{own}\n{replay}\nhidden = [8]\nfeatures = 8\nnum_envs = 4\nhorizon = 60"),
        );
    }
    if is_off_policy(entry) {
        // A buffer that is overwritten, and a copy of the old policy in the middle of an iteration.
        let own = match entry.name {
            "mdpo_off" => "m = 100\ncritic = 'v-network'\nnoise_correlation = 0.5",
            "maddpg" => "",
            _ => "noise_correlation = 0.5",
        };
        let replay = "buffer = 500\nminibatch = 16\nlearning_starts = 100\ntrain_every = 7";
        return options(entry, &format!("{own}\n{replay}\nhidden = [8]\nnum_envs = 4\nhorizon = 60"));
    }
    let learning = "normalize_obs = true\nnormalize_reward = true\nnoise_correlation = 0.5\nhidden = [8]";
    let schedule = "lr_schedule = 'linear'";
    let text = match entry.name {
        "random" => String::new(),
        "ppo" => format!("{learning}\n{schedule}\nepochs = 2\nminibatch = 32\nvalue_clip = 0.2"),
        "ippo" | "mappo" | "happo" => format!(
            "{learning}\n{schedule}\nepochs = 2\nminibatch = 32\nvalue_clip = 0.2\ncritic_epochs = 2\ncritic_minibatch = 32"
        ),
        // Everything that carries state: power iteration, Riemannian Adam.
        "hyperpp" => format!(
            "{learning}\n{schedule}\nepochs = 2\nminibatch = 32\nfeatures = 8\ngeometry = 'ball-points'\nnorm = 'spectral'"
        ),
        "trpo" => format!(
            "{learning}\n{schedule}\ncritic_epochs = 2\ncritic_minibatch = 32\nheads = 'hyperpp'\nfeatures = 8"
        ),
        _ => format!("{learning}\n{schedule}\ncritic_epochs = 2\ncritic_minibatch = 32"),
    };
    options(entry, &format!("{text}\nnum_envs = 4\nhorizon = 60"))
}

fn new(entry: &Entry, env: &str, seed: u64, threads: usize) -> (Box<dyn Agent>, VecEnv) {
    build(entry, env, &everything_on(entry), seed, 5 * 240, Device::cpu(), threads)
}

/// The metrics of `iterations`, the episodes' returns among them as bits, and the state after them.
fn go_on(agent: &mut dyn Agent, envs: &mut VecEnv, iterations: usize) -> (Vec<Metrics>, Vec<u64>, State) {
    let metrics = (0..iterations).map(|_| agent.iterate(envs).unwrap()).collect();
    let returns = envs.take_episodes().iter().map(|e| e.returns[0].to_bits()).collect();
    let mut state = agent.save();
    state.put_state("envs", envs.save());
    if let Some(replay) = replay(agent) {
        state.put_state("replay", replay);
    }
    (metrics, returns, state)
}

fn run(entry: &Entry, env: &str, seed: u64, threads: usize) -> (Vec<Metrics>, Vec<u64>, State) {
    let (mut agent, mut envs) = new(entry, env, seed, threads);
    go_on(agent.as_mut(), &mut envs, 5)
}

#[test]
fn the_seed_determines_a_run_whatever_the_threads() {
    for entry in REGISTRY.iter().filter(|e| e.name != "comparator") {
        for env in TASKS.into_iter().filter(|env| plays(entry, env)) {
            let first = run(entry, env, 7, 1);
            for threads in [1, 2, 4] {
                assert!(run(entry, env, 7, threads) == first, "{} on {env}, {threads} threads", entry.name);
            }
            let other = run(entry, env, 8, 1);
            assert!(other.1 != first.1 && other.2 != first.2, "{} on {env} ignores its seed", entry.name);
        }
    }
}

/// What `train --profile` prints: acting and the environments have their share with every agent, learning with all that learn.
#[test]
fn an_iteration_says_where_its_time_goes() {
    for entry in REGISTRY.iter().filter(|e| e.name != "comparator") {
        let env = TASKS.into_iter().find(|env| plays(entry, env)).unwrap();
        let (mut agent, mut envs) = new(entry, env, 7, 1);
        profile::start(Stage::Recording);
        agent.iterate(&mut envs).unwrap();
        profile::enter(Stage::Recording);
        let seconds = profile::seconds().unwrap();
        for stage in [Stage::Environment, Stage::Inference, Stage::Update] {
            let has = stage != Stage::Update || entry.name != "random";
            assert_eq!(seconds[stage as usize] > 0.0, has, "{}: {stage:?}", entry.name);
        }
    }
}

/// Kill after two iterations and resume: the other three are the same to the last bit.
#[test]
fn a_loaded_agent_goes_on_as_if_it_had_never_stopped() {
    for entry in REGISTRY.iter().filter(|e| e.name != "comparator") {
        for env in TASKS.into_iter().filter(|env| plays(entry, env)) {
            let (mut agent, mut envs) = new(entry, env, 7, 1);
            go_on(agent.as_mut(), &mut envs, 2);
            let (saved, saved_envs, saved_replay) = (agent.save(), envs.save(), replay(agent.as_ref()));
            let uninterrupted = go_on(agent.as_mut(), &mut envs, 3);

            // Another seed: whatever is not loaded differs.
            let (mut agent, mut envs) = new(entry, env, 1234, 1);
            load(agent.as_mut(), &saved, saved_replay.as_ref());
            envs.load(&saved_envs).unwrap();
            assert!(agent.save() == saved, "{}: saving what was loaded", entry.name);
            assert!(go_on(agent.as_mut(), &mut envs, 3) == uninterrupted, "{} on {env}", entry.name);
        }
    }
}

/// A task of one agent that it can act in.
fn first(entry: &Entry) -> &'static str {
    if plays(entry, "Pendulum-v1") { "Pendulum-v1" } else { "CartPole-v1" }
}

#[test]
fn a_fresh_agent_can_be_saved_and_loaded_too() {
    for entry in REGISTRY.iter().filter(|e| e.name != "comparator") {
        let (agent, _) = new(entry, first(entry), 7, 1);
        let (mut other, mut envs) = new(entry, first(entry), 1234, 1);
        load(other.as_mut(), &agent.save(), replay(agent.as_ref()).as_ref());
        let (_, fresh_envs) = new(entry, first(entry), 7, 1);
        envs.load(&fresh_envs.save()).unwrap();
        assert!(go_on(other.as_mut(), &mut envs, 5) == run(entry, first(entry), 7, 1), "{}", entry.name);
    }
}

#[test]
fn the_state_of_another_shape_is_refused() {
    for entry in common::learners() {
        let (agent, _) = new(entry, first(entry), 7, 1);
        let mut wide = everything_on(entry);
        common::set(&mut wide, "hidden = [9]");
        let (mut other, _) = build(entry, first(entry), &wide, 7, 1200, Device::cpu(), 1);
        let error = other.load(&agent.save()).unwrap_err().to_string();
        assert!(error.contains("policy.0"), "{}: {error}", entry.name);
        assert!(other.load(&State::new()).is_err());
    }
}

/// Drawn actions follow the stream, and vary where the most likely one does not.
#[test]
fn actions_are_drawn_or_the_most_likely() {
    // Comparators act by themselves.
    for entry in REGISTRY.iter().filter(|e| e.name != "comparator") {
        for env in TASKS.into_iter().filter(|env| plays(entry, env)) {
            let (agent, envs) = new(entry, env, 3, 1);
            let spec = envs.spec();
            let obs = envs.obs()[..spec.obs_len()].repeat(64);
            let act = |how, seed| {
                let mut memory = vec![0.0; 64 * agent.memory_len()];
                let mut seen = Seen { obs: &obs, masks: &[], memory: &mut memory };
                let mut actions = vec![0.0; 64 * spec.action_len()];
                agent.act(&mut seen, how, &mut actions, &mut stream(seed, Purpose::Check, 0));
                actions
            };
            let vary = |actions: &[f32]| actions.chunks(spec.action_len()).any(|a| a != &actions[..a.len()]);
            let drawn = act(Acting::Sampled, 0);
            assert!(vary(&drawn), "{} on {env}", entry.name);
            assert_eq!(drawn, act(Acting::Sampled, 0), "{} on {env}", entry.name);
            assert_ne!(drawn, act(Acting::Sampled, 1), "{} on {env}", entry.name);
            if entry.name != "random" {
                let best = act(Acting::Greedy, 0);
                assert!(!vary(&best) && best == act(Acting::Greedy, 1), "{} on {env}", entry.name);
            }
        }
    }
}
