//! Speed of the tasks with several agents or with levels on one core under random allowed actions: environment steps (of
//! all agents together) a second, and agent steps a second. Resets are included; nothing is allocated in a step.
//!
//!     cargo run --release -p steadfast-envs --example multi_agent_speed [SECONDS] [TASK [KEY=VALUE ...]]

use std::time::Instant;

use steadfast_envs::rng::{Purpose, stream};
use steadfast_envs::{MakeError, make_with};

const TASKS: &[(&str, &[(&str, &str)])] = &[
    ("particle/spread", &[]),
    ("particle/spread", &[("continuous", "true")]),
    ("particle/reference", &[]),
    ("particle/speaker-listener", &[]),
    ("particle/tag", &[]),
    ("uav-trajectory/wu2018-1", &[]),
    ("uav-trajectory/wu2018-2", &[]),
    ("uav-harvest", &[]),
    ("uav-bs/bs-tiny", &[]),
    ("uav-bs/bs-std", &[]),
    ("uav-bs/bs-std", &[("action", "discrete")]),
    ("uav-bs/bs-std", &[("action", "multi-discrete")]),
    ("uav-bs/bs-std", &[("action", "hybrid")]),
    ("uav-bs/bs-std", &[("sight", "sampled"), ("fading", "rician")]),
    ("uav-bs/bs-dense", &[]),
    ("uav-bs/bs-jam", &[]),
    ("hierarchy/tree", &[]),
    ("hierarchy/maze", &[]),
    ("hierarchy/key-door", &[]),
    ("hierarchy/key-door", &[("rooms", "8")]),
    ("hierarchy/breakout", &[]),
    ("hierarchy/asterix", &[]),
];

fn main() -> Result<(), MakeError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seconds: f64 = args.first().and_then(|s| s.parse().ok()).unwrap_or(0.5);
    match args.get(1) {
        None => TASKS.iter().try_for_each(|(id, given)| measure(id, given, seconds)),
        Some(id) => {
            let given: Vec<(&str, &str)> = args[2..].iter().filter_map(|a| a.split_once('=')).collect();
            measure(id, &given, seconds)
        }
    }
}

fn measure(id: &str, given: &[(&str, &str)], seconds: f64) -> Result<(), MakeError> {
    let mut env = make_with(id, given)?;
    let spec = env.spec().clone();
    let (mut rng, mut choice) = (stream(0, Purpose::Check, 0), stream(0, Purpose::Check, 1));
    let mut obs = vec![0.0; spec.obs_len()];
    let mut rewards = vec![0.0; spec.agents.len()];
    let limit = spec.max_steps.unwrap_or(usize::MAX);
    // Actions that the first states allow: what is forbidden later is survived, at about the same cost.
    let mut mask = vec![true; spec.mask_len()];
    let mut draw = |mask: &[bool]| {
        let (mut action, mut rest) = (Vec::new(), mask);
        for agent in &spec.agents {
            let flags = if spec.masked { agent.action.choices().iter().sum() } else { 0 };
            let (own, others) = rest.split_at(flags);
            rest = others;
            agent.action.sample(own, &mut choice, &mut action);
        }
        action
    };
    let mut actions = Vec::new();
    for _ in 0..1000 {
        env.reset(&mut rng, &mut obs);
        if spec.masked {
            env.mask(&mut mask);
        }
        actions.push(draw(&mask));
    }
    let (mut best, mut done) = (f64::INFINITY, 0);
    let start = Instant::now();
    // The fastest of many rounds: other work on the machine only ever slows one down.
    while start.elapsed().as_secs_f64() < seconds {
        let (round, mut steps) = (Instant::now(), 0);
        while steps < 4000 {
            env.reset(&mut rng, &mut obs);
            for _ in 0..limit {
                steps += 1;
                if env.step(&actions[steps % actions.len()], &mut rng, &mut obs, &mut rewards) {
                    break;
                }
            }
        }
        best = best.min(round.elapsed().as_secs_f64() / steps as f64);
        done += steps;
    }
    let options: Vec<String> = given.iter().map(|(k, v)| format!("{k}={v}")).collect();
    println!(
        "{{\"env\": \"{id}\", \"options\": \"{}\", \"agents\": {}, \"steps\": {done}, \"steps_per_s\": {:.0}, \"agent_steps_per_s\": {:.0}}}",
        options.join(" "),
        rewards.len(),
        1.0 / best,
        rewards.len() as f64 / best
    );
    Ok(())
}
