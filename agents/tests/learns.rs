//! Every agent learns the probes: tasks with known answers, each of which exposes one kind of bug.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{build, is_off_policy, learners, options, plays, set, takes_heads};
use steadfast_agents::{Acting, Agent, Device, Entry, Seen};
use steadfast_envs::{Purpose, VecEnv, make, probe, rng::stream};

/// The probes that end in a best return, with the shortfall that counts as learnt.
///
/// Each is far above what an agent gets that ignores its observations or its rewards: 2 and 2.3 of 8 in the
/// discrete identities, −5.3 in the continuous one, ½ in `two-step`, 0 (the mean of the arms is 0.125) and −0.36 in
/// the bandits. In `coordination` two agents that always name the same get 5.3 of 8.
const PROBES: [(&str, f64); 7] = [
    ("probe/bandit", 0.1),
    ("probe/bandit-continuous", 0.05),
    ("probe/identity-discrete", 0.2),
    ("probe/identity-continuous", 0.3),
    ("probe/multi-discrete", 0.2),
    ("probe/two-step", 0.05),
    ("probe/coordination", 0.2),
];

/// Small networks, short rollouts and large steps, so that a probe takes seconds.
///
/// MDPO anneals its learning rate, as in the paper: with a constant one as large as this, Adam's steps end up longer
/// than the shrinking deviation of the actions, and some seeds diverge after they have solved the task.
fn small(entry: &Entry) -> String {
    if entry.name == "dqn" {
        let steps =
            "learning_rate = 3e-3\nminibatch = 64\ntrain_every = 1\ntarget_every = 50\nlearning_starts = 200";
        return format!("{steps}\nbuffer = 20_000\nhorizon = 256\nhidden = [16]\nfeatures = 16\ngamma = 0.9");
    }
    if is_off_policy(entry) {
        let own = match entry.name {
            "sac" => "temperature = 0.1",
            "mdpo_off" => "entropy_coef = 0.05\nkl_coef = 0.1\nm = 100",
            // Random actions of all show what a right choice is worth before partners settle on a wrong one.
            "maddpg" => "train_every = 1\nnoise = 0.3\nstraight_through = false",
            name => panic!("'{name}' needs settings here, for the probes"),
        };
        let pace = match entry.name {
            "maddpg" => "learning_rate = 3e-3\nlearning_starts = 2000",
            _ => "learning_rate = 3e-3\nlearning_starts = 200",
        };
        let steps = "critic_lr = 3e-3\nminibatch = 64\ntau = 0.02";
        return format!("{own}\n{pace}\n{steps}\nbuffer = 20_000\nhorizon = 256\nhidden = [16]\ngamma = 0.9");
    }
    let own = match entry.name {
        "ppo" => "learning_rate = 3e-3\nepochs = 6",
        "trpo" | "itrpo" | "hatrpo" | "matrl" | "ga_matr" => "max_kl = 0.05\ncritic_lr = 3e-3",
        "ippo" | "mappo" | "happo" => {
            "learning_rate = 3e-3\nepochs = 6\nminibatch = 64\nentropy_coef = 0\nmax_grad_norm = 0.5\ncritic_lr = 3e-3\n\
             critic_minibatch = 64"
        }
        "hyperpp" => "learning_rate = 3e-3\nepochs = 6\nfeatures = 8\nnormalize_reward = false",
        "mdpo" => "learning_rate = 6e-3\nlr_schedule = 'linear'\nm = 20\ncritic_lr = 3e-3\nvalue_clip = 0.0",
        name => panic!("'{name}' needs settings here, for the probes"),
    };
    // Policies that remember learn more slowly; on small batches they may settle in the equilibrium of `coordination` in which both
    // name the same wrong sign.
    let num_envs = if entry.name == "ga_matr" { 16 } else { 4 };
    format!("{own}\nnum_envs = {num_envs}\nhorizon = 64\nhidden = [16]\nlog_std_init = -0.5\ngamma = 0.9")
}

/// Mean return of the greedy policy over 2000 episodes.
fn evaluate(agent: &dyn Agent, env: &str) -> f64 {
    let mut envs = VecEnv::new(&|| make(env).unwrap(), 50, 1, Purpose::Eval, 1);
    let mut rng = stream(1, Purpose::Check, 0);
    let mut actions = vec![0.0; 50 * envs.spec().action_len()];
    let mut returns = Vec::new();
    let len = agent.memory_len();
    let mut memory = vec![0.0; 50 * len];
    while returns.len() < 2000 {
        let mut seen = Seen { obs: envs.obs(), masks: &[], memory: &mut memory };
        agent.act(&mut seen, Acting::Greedy, &mut actions, &mut rng);
        envs.step(&actions);
        let over = |i: &usize| envs.terminated()[*i] || envs.truncated()[*i];
        (0..50).filter(over).for_each(|i| memory[i * len..(i + 1) * len].fill(0.0));
        returns.extend(envs.take_episodes().iter().map(|e| e.returns[0]));
    }
    returns.iter().sum::<f64>() / returns.len() as f64
}

fn learn(entry: &Entry, settings: &str, seed: u64) {
    for (env, shortfall) in PROBES.into_iter().filter(|(env, _)| plays(entry, env)) {
        let (mut agent, mut envs) =
            build(entry, env, &options(entry, settings), seed, 60 * 256, Device::cpu(), 1);
        for _ in 0..60 {
            agent.iterate(&mut envs).unwrap();
        }
        let (mean, best) = (evaluate(agent.as_ref(), env), probe::optimal_return(env).unwrap());
        println!("{} {env} {seed}: {mean:.3} of {best}", entry.name);
        assert!(mean >= best - shortfall, "{} on {env}: {mean}, best {best}", entry.name);
        assert!(mean <= best + 0.05, "{} on {env}: {mean} is too good to be true", entry.name);
    }
}

#[test]
fn every_agent_solves_the_probes() {
    learners().for_each(|entry| learn(entry, &small(entry), 0));
}

#[test]
fn agents_with_hyperbolic_heads_solve_the_probes() {
    for entry in learners().filter(|e| takes_heads(e)) {
        learn(entry, &format!("{}\nheads = 'hyperpp'\nfeatures = 8", small(entry)), 0);
    }
}

/// The value that the agent's critic ends with on `probe/endless`, whose observations mean nothing: without
/// hidden layers it is w·s + b. Returned at s = −1, 0, 1.
fn endless_values(entry: &Entry, time_limit: &str) -> [f64; 3] {
    let mut table = options(entry, &small(entry));
    if is_off_policy(entry) {
        // Without entropy in the values. Q is linear in state and action.
        let own = match entry.name {
            "sac" => "temperature = 1e-9\ntune_temperature = false",
            "maddpg" => "",
            _ => "entropy_coef = 0",
        };
        set(&mut table, &format!("{own}\nhidden = []\ninit = 'xavier'"));
    } else {
        set(
            &mut table,
            "hidden = []\nnormalize_obs = false\nnormalize_reward = false\nlr_schedule = 'constant'",
        );
    }
    if entry.name == "hyperpp" {
        let plain =
            "norm = 'none'\nscale = 'none'\ngeometry = 'euclidean'\nvalue_loss = 'squared'\nfeatures = 1";
        set(&mut table, plain);
    }
    if entry.name == "ga_matr" {
        // Its own critic is no line; `core::joint` tests that it bootstraps.
        set(&mut table, "critic = 'central'");
    }
    set(&mut table, &format!("time_limit = '{time_limit}'"));
    // Some agents have one learning rate for all.
    let rate = if table.contains_key("critic_lr") { "critic_lr" } else { "learning_rate" };
    set(&mut table, &format!("{rate} = 0.03"));
    let (mut agent, mut envs) = build(entry, "probe/endless", &table, 0, 60 * 256, Device::cpu(), 1);
    for _ in 0..60 {
        agent.iterate(&mut envs).unwrap();
    }
    let state = agent.save();
    if entry.name == "hyperpp" {
        // One feature: V = z tanh(w s + b) + o.
        let read = |name: &str| f64::from(state.f32(name, 1).unwrap()[0]);
        let [w, b, z, o] = ["policy.0.weight", "policy.0.bias", "critic.normals", "critic.offsets"].map(read);
        return [-1.0, 0.0, 1.0].map(|s| z * (w * s + b).tanh() + o);
    }
    let (critic, inputs) = match entry.name {
        "maddpg" => ("critic", 2),
        _ if is_off_policy(entry) => ("q1", 2),
        _ => ("critic", 1),
    };
    let read = |name: &str, len| f64::from(state.f32(&format!("{critic}.0.{name}"), len).unwrap()[0]);
    let (weight, bias) = (read("weight", inputs), read("bias", 1));
    [bias - weight, bias, bias + weight]
}

/// Time limits are not terminations: the value of a reward of 1 for ever is 1/(1 − γ) = 10, although no episode is
/// longer than ten steps.
#[test]
fn values_see_beyond_the_time_limit() {
    for entry in learners().filter(|e| plays(e, "probe/endless")) {
        let truth = probe::endless_value(0.9);
        for value in endless_values(entry, "bootstrap") {
            assert!((value - truth).abs() < 0.5, "{}: {value}, not {truth}", entry.name);
        }
    }
}

/// The guard of the test above: with the other setting it must fail, by far.
#[test]
fn values_stop_at_a_time_limit_that_is_taken_for_a_termination() {
    for entry in learners().filter(|e| plays(e, "probe/endless")) {
        // The most that ten steps can pay: (1 − γ¹⁰)/(1 − γ); the mean over the steps left is less.
        let most = (1.0 - 0.9f64.powi(10)) / 0.1;
        for value in endless_values(entry, "terminal") {
            assert!(value < most && value > 1.0, "{}: {value}, above {most}", entry.name);
        }
    }
}

/// Policies that remember name a cue that is long gone; the guard: without a memory they get half.
#[test]
fn a_cue_is_remembered() {
    for entry in learners().filter(|e| (e.defaults)().contains_key("recurrent_actor")) {
        for (remembers, least, most) in [(true, 0.95, 1.0), (false, 0.4, 0.6)] {
            let text = format!("{}\nrecurrent_actor = {remembers}", small(entry));
            let table = options(entry, &text);
            let (mut agent, mut envs) = build(entry, "probe/recall", &table, 0, 60 * 256, Device::cpu(), 1);
            for _ in 0..60 {
                agent.iterate(&mut envs).unwrap();
            }
            let mean = evaluate(agent.as_ref(), "probe/recall");
            println!("{} {remembers}: {mean}", entry.name);
            assert!((least..=most).contains(&mean), "{}, memory {remembers}: {mean}", entry.name);
        }
    }
}
