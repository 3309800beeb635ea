//! Speed: environments, updates and whole trainings, measured in one process.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;
use steadfast_agents::{Agent, Device, Setup};
use steadfast_envs::{Purpose, VecEnv};
use toml::Table;

use crate::settings;

/// Arguments of `steadfast bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// What to measure
    what: What,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
    /// Where networks live: cpu or wgpu
    #[arg(long, default_value = Device::NAMES[0])]
    device: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Environment steps per second in a VecEnv of 1024, actions zero
    Envs,
    /// Whole trainings: environment steps per second
    Train,
    /// Iterations without their rollouts: microseconds per optimiser step
    Update,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    name: String,
    value: f64,
    unit: &'static str,
    /// Times the slowest block of the measurement was slower than the fastest, which is quoted.
    spread: f64,
}

/// Runs the measurements; each is the best of several blocks, on one thread.
///
/// # Errors
/// For an absent device.
pub fn main(args: &BenchArgs) -> Result<ExitCode> {
    let device = Device::named(&args.device)?;
    let lines = match args.what {
        What::Envs => envs()?,
        What::Train => train(&device)?,
        What::Update => update(&device)?,
    };
    for line in lines {
        let text = if args.json {
            serde_json::to_string(&line)? + "\n"
        } else {
            let value = if line.value >= 1e6 {
                format!("{:.2} M", line.value / 1e6)
            } else {
                format!("{:.0}", line.value)
            };
            format!(
                "{:6} {:44} {value:>10} {} (spread {:.2})\n",
                line.what, line.name, line.unit, line.spread
            )
        };
        crate::cli::print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Fastest of `blocks` calls in seconds, and the ratio of the slowest to it. One call goes before, uncounted.
fn fastest(blocks: usize, mut work: impl FnMut() -> Result<()>) -> Result<(f64, f64)> {
    work()?;
    let (mut best, mut worst) = (f64::INFINITY, 0.0f64);
    for _ in 0..blocks {
        let start = Instant::now();
        work()?;
        let seconds = start.elapsed().as_secs_f64();
        best = best.min(seconds);
        worst = worst.max(seconds);
    }
    Ok((best, worst / best))
}

fn envs() -> Result<Vec<Line>> {
    const COPIES: usize = 1024;
    const STEPS: usize = 500;
    let mut lines = Vec::new();
    for entry in steadfast_envs::REGISTRY {
        let mut envs = VecEnv::new(&entry.make, COPIES, 0, Purpose::Check, 1);
        let actions = vec![0.0f32; COPIES * envs.spec().action_len()];
        let (seconds, spread) = fastest(5, || {
            for _ in 0..STEPS {
                envs.step(&actions);
            }
            envs.take_episodes();
            Ok(())
        })?;
        let value = (COPIES * STEPS) as f64 / seconds;
        lines.push(Line { what: "envs", name: entry.id.to_owned(), value, unit: "steps/s", spread });
    }
    Ok(lines)
}

/// The trainings that are measured: agent, preset, environment, options.
const TRAININGS: &[(&str, &str, &str, &str)] = &[
    ("ppo", "sb3", "Pendulum-v1", ""),
    ("ppo", "sb3", "Pendulum-v1", "num_envs=64 horizon=128 epochs=4 minibatch=256"),
    ("trpo", "sb3", "Pendulum-v1", ""),
    ("mdpo", "code", "Pendulum-v1", ""),
    ("ppo", "sb3", "CartPole-v1", ""),
];

fn build(
    agent: &str,
    preset: &str,
    env: &str,
    set: &str,
    device: &Device,
) -> Result<(Box<dyn Agent>, VecEnv, Table)> {
    let texts: Vec<String> = set.split_whitespace().map(str::to_owned).collect();
    let options = settings::resolve(agent, env, preset, &[&settings::assignments(&texts)?])?;
    let make = steadfast_envs::entry(env)?.make;
    let task = make();
    let setup = Setup { spec: task.spec(), seed: 0, total_steps: 10_000_000, device: device.clone() };
    let agent = (steadfast_agents::entry(agent)?.build)(&options, &setup)?;
    let envs = VecEnv::new(&make, agent.num_envs(), 0, Purpose::Env, 1);
    Ok((agent, envs, options))
}

fn train(device: &Device) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (agent_name, preset, env, set) in TRAININGS {
        let (mut agent, mut envs, _) = build(agent_name, preset, env, set, device)?;
        let steps = agent.steps_per_iteration();
        let (seconds, spread) = fastest(5, || {
            agent.iterate(&mut envs)?;
            envs.take_episodes();
            Ok(())
        })?;
        let name = format!("{agent_name} {preset} {env} {set}").trim_end().to_owned();
        lines.push(Line { what: "train", name, value: steps as f64 / seconds, unit: "steps/s", spread });
    }
    Ok(lines)
}

fn update(device: &Device) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (hidden, minibatch) in [(64, 64), (64, 2048), (256, 256)] {
        // Two trainings that differ only in their epochs: the difference is the updates, without rollouts.
        let time = |epochs: usize| {
            let set =
                format!("hidden=[{hidden},{hidden}] minibatch={minibatch} epochs={epochs} horizon=2048");
            let (mut agent, mut envs, _) = build("ppo", "sb3", "Pendulum-v1", &set, device)?;
            fastest(5, || {
                agent.iterate(&mut envs)?;
                Ok(())
            })
        };
        let ((few, _), (many, spread)) = (time(1)?, time(5)?);
        let updates = 4.0 * (2048.0 / f64::from(minibatch)).ceil();
        let name = format!("ppo Pendulum-v1 {hidden}-{hidden} minibatch {minibatch}");
        lines.push(Line {
            what: "update",
            name,
            value: (many - few) / updates * 1e6,
            unit: "us/update",
            spread,
        });
    }
    Ok(lines)
}
