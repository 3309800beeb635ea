//! Speed of the MuJoCo tasks on one core under random actions: one line of JSON a task, with the environment steps taken
//! and how many of them a second.
//!
//! `fixtures/mujoco_speed.py` runs this beside MuJoCo's C library and Gymnasium, in the same minute:
//!
//!     cargo run --release -p steadfast-envs --example mujoco_speed [SECONDS] [TASK]

use std::time::Instant;

use rand::RngExt as _;
use steadfast_envs::REGISTRY;
use steadfast_envs::rng::{Purpose, stream};

/// Steps after which an episode starts anew, as in the companion script.
const EPISODE: usize = 50;

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds: f64 = args.next().and_then(|s| s.parse().ok()).unwrap_or(0.5);
    let only = args.next();
    for entry in REGISTRY.iter().filter(|e| e.id.ends_with("-v5")) {
        if only.as_ref().is_some_and(|only| !entry.id.starts_with(only.as_str())) {
            continue;
        }
        let mut env = (entry.make)();
        let spec = env.spec().clone();
        let bounds = spec.agents[0].action.bounds();
        let (mut rng, mut choice) = (stream(0, Purpose::Check, 0), stream(0, Purpose::Check, 1));
        let mut draw = || -> Vec<f64> {
            bounds.iter().map(|(l, h)| f64::from((l + (h - l) * choice.random::<f64>()) as f32)).collect()
        };
        let actions: Vec<Vec<f64>> = (0..1000).map(|_| draw()).collect();
        let mut obs = vec![0.0; spec.obs_len()];
        let mut reward = [0.0];
        let mut episodes = |count: usize| {
            for episode in 0..count {
                env.reset(&mut rng, &mut obs);
                for t in 0..EPISODE {
                    let action = &actions[(episode * EPISODE + t) % actions.len()];
                    env.step(action, &mut rng, &mut obs, &mut reward);
                }
            }
        };
        let (start, mut steps) = (Instant::now(), 0);
        while start.elapsed().as_secs_f64() < seconds {
            episodes(4);
            steps += 4 * EPISODE;
        }
        let rate = steps as f64 / start.elapsed().as_secs_f64();
        println!("{{\"env\": \"{}\", \"steps\": {steps}, \"steps_per_s\": {rate:.0}}}", entry.id);
    }
}
