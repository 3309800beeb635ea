//! Speed: environments, updates and whole trainings, each beside a plain reference in the same process.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use steadfast_agents::core::adam::{Adam, clip_global_norm};
use steadfast_agents::core::batch::{HostRows, Rows};
use steadfast_agents::core::dist::Head;
use steadfast_agents::core::hyperbolic::mlr::RiemannianAdam;
use steadfast_agents::core::kernels::{self, AdamStep, Sizes, Start};
use steadfast_agents::core::loss::{ClippedSurrogate, SquaredError};
use steadfast_agents::core::network::Workspace;
use steadfast_agents::core::off_policy::{ActorCritics, OffPolicy};
use steadfast_agents::core::policy::{Critic, Net, Policy};
use steadfast_agents::core::replay::{Replay, Transition};
use steadfast_agents::core::shared::SharedNet;
use steadfast_agents::core::squashed::Logarithm;
use steadfast_agents::core::weights::Vector;
use steadfast_agents::sac::SoftValue;
use steadfast_agents::{Acting, Agent, Device, Setup, config, hyperpp};
use steadfast_envs::rng::stream;
use steadfast_envs::{Purpose, VecEnv};
use toml::Table;

use crate::checkpoint;
use crate::record::write_atomic;
use crate::settings;

mod files;

/// Arguments of `steadfast bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// What to measure
    what: What,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
    /// Write the lines to a CSV file as well
    #[arg(long, value_name = "FILE")]
    csv: Option<std::path::PathBuf>,
    /// Where networks live in `train`: cpu or wgpu
    #[arg(long, default_value = Device::NAMES[0])]
    device: String,
    /// Measure other libraries too, right after ours, with this Python (it needs `gymnasium[mujoco]` for `envs`, and
    /// stable-baselines3, sb3-contrib and sbx-rl for `train`)
    #[arg(long, value_name = "PYTHON")]
    peers: Option<std::path::PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Environment steps per second in a VecEnv of 1024, actions zero, beside the bare environment; with --peers, one
    /// environment under random actions beside Gymnasium and MuJoCo's C library
    Envs,
    /// Whole trainings: environment steps per second; beside the same on the tensor library
    Train,
    /// Inference and one minibatch: microseconds; beside the bare arithmetic, Hyper++ beside its Euclidean relatives
    Update,
    /// Collecting, summarising, drawing and reporting 5 100 runs: seconds and megabytes
    Files,
    /// All of these
    All,
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
struct Line {
    what: &'static str,
    name: String,
    value: f64,
    unit: &'static str,
    /// Times the slowest block of the measurement was slower than the fastest, which is quoted.
    spread: f64,
    /// What else was measured in this process.
    reference: String,
    /// Its value, in the same unit.
    reference_value: f64,
    /// Time of the work over that of the reference: below 1 is faster.
    ratio: f64,
    /// Processor and instruction set.
    processor: String,
}

impl Line {
    fn new(
        what: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        (value, spread): (f64, f64),
        reference: impl Into<String>,
        reference_value: f64,
    ) -> Self {
        // A rate is better when higher, a time when lower.
        let ratio = if unit == "steps/s" { reference_value / value } else { value / reference_value };
        let (name, reference) = (name.into(), reference.into());
        Self { what, name, value, unit, spread, reference, reference_value, ratio, processor: processor() }
    }

    fn text(&self) -> String {
        let value = if self.value >= 1e6 {
            format!("{:.2} M", self.value / 1e6)
        } else if self.value >= 100.0 {
            format!("{:.0}", self.value)
        } else {
            format!("{:.2}", self.value)
        };
        let of = if self.unit == "MB" { "memory" } else { "time" };
        format!(
            "{:6} {:70} {value:>9} {:7} (spread {:.2}) {:6.3} of the {of} of {}\n",
            self.what, self.name, self.unit, self.spread, self.ratio, self.reference
        )
    }
}

/// The processor's name where the system tells it, with the instruction set that the kernels use.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = name.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    format!("{name}, {}", kernels::instruction_set())
}

/// Runs the measurements; each is the best of several blocks, on one thread.
///
/// # Errors
/// For an absent device, a peer that cannot run, a file that cannot be written.
pub fn main(args: &BenchArgs) -> Result<ExitCode> {
    let device = Device::named(&args.device)?;
    let chosen = |what: What| args.what == what || args.what == What::All;
    let mut all = Vec::new();
    let mut show = |lines: Vec<Line>| -> Result<()> {
        for line in &lines {
            crate::cli::print(&if args.json { serde_json::to_string(line)? + "\n" } else { line.text() })?;
        }
        all.extend(lines);
        Ok(())
    };
    if chosen(What::Envs) {
        envs(args.peers.as_deref(), &mut show)?;
    }
    if chosen(What::Update) {
        update(&mut show)?;
    }
    if chosen(What::Train) {
        train(&device, args.peers.as_deref(), &mut show)?;
        replay_checkpoint(&mut show)?;
    }
    if chosen(What::Files) {
        files::files(&mut show)?;
    }
    if let Some(path) = &args.csv {
        let mut csv = csv::Writer::from_writer(Vec::new());
        all.iter().try_for_each(|line| csv.serialize(line))?;
        write_atomic(path, &csv.into_inner().context("cannot write the table")?)?;
    }
    Ok(ExitCode::SUCCESS)
}

type Show<'a> = dyn FnMut(Vec<Line>) -> Result<()> + 'a;

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

/// Microseconds of one call of `work`, with the spread, and of one of `reference`: the fastest of blocks of about
/// ten milliseconds that take turns, so that a busy machine slows both.
fn beside(mut work: impl FnMut(), mut reference: impl FnMut()) -> ((f64, f64), f64) {
    let calls = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        let mut calls = 0;
        while start.elapsed().as_secs_f64() < 0.01 {
            work();
            calls += 1;
        }
        calls
    };
    let block = |work: &mut dyn FnMut(), calls: u32| {
        let start = Instant::now();
        (0..calls).for_each(|_| work());
        start.elapsed().as_secs_f64() / f64::from(calls) * 1e6
    };
    let counts = (calls(&mut work), calls(&mut reference));
    let (mut best, mut worst, mut best_reference) = (f64::INFINITY, 0.0f64, f64::INFINITY);
    for _ in 0..30 {
        let micros = block(&mut work, counts.0);
        best = best.min(micros);
        worst = worst.max(micros);
        best_reference = best_reference.min(block(&mut reference, counts.1));
    }
    ((best, worst / best), best_reference)
}

fn envs(peers: Option<&std::path::Path>, show: &mut Show) -> Result<()> {
    for entry in steadfast_envs::REGISTRY {
        // A step of a robot costs a thousand times that of a closed form.
        let mut few = VecEnv::new(&entry.make, 32, 0, Purpose::Check, 1);
        let (probe, actions) = (Instant::now(), vec![0.0f32; 32 * few.spec().action_len()]);
        (0..10).for_each(|_| few.step(&actions));
        let dear = probe.elapsed().as_secs_f64() > 320.0 * 1e-6;
        let (copies, steps) = if dear { (32, 50) } else { (1024, 500) };
        // Whole episodes, where they are short: the last step of one may cost what all others do.
        let steps: usize = match few.spec().max_steps {
            Some(limit) if limit <= 200 => usize::next_multiple_of(steps, limit),
            _ => steps,
        };
        let mut envs = VecEnv::new(&entry.make, copies, 0, Purpose::Check, 1);
        let spec = envs.spec().clone();
        let actions = vec![0.0f32; copies * spec.action_len()];
        let (seconds, spread) = fastest(5, || {
            for _ in 0..steps {
                envs.step(&actions);
            }
            envs.take_episodes();
            Ok(())
        })?;
        // The same dynamics without copies, limits, statistics: one environment, reset when it must be.
        let (mut env, mut rng) = ((entry.make)(), stream(0, Purpose::Check, 0));
        let (mut obs, mut rewards) = (vec![0.0f32; spec.obs_len()], vec![0.0f64; spec.agents.len()]);
        let (action, limit) = (vec![0.0f64; spec.action_len()], spec.max_steps.unwrap_or(usize::MAX));
        env.reset(&mut rng, &mut obs);
        let (bare, _) = fastest(5, || {
            let mut length = 0;
            for _ in 0..copies * steps {
                length += 1;
                if env.step(&action, &mut rng, &mut obs, &mut rewards) || length >= limit {
                    env.reset(&mut rng, &mut obs);
                    length = 0;
                }
            }
            Ok(())
        })?;
        let rate = |seconds: f64| (copies * steps) as f64 / seconds;
        let value = (rate(seconds), spread);
        show(vec![Line::new("envs", entry.id, "steps/s", value, "the bare environment", rate(bare))])?;
    }
    let Some(python) = peers else { return Ok(()) };
    for entry in steadfast_envs::REGISTRY {
        let robot = entry.id.ends_with("-v5");
        if !robot && !CLASSIC_OF_GYMNASIUM.contains(&entry.id) {
            continue;
        }
        let (before, spread_before) = random_steps(entry)?;
        let mut theirs = vec![("gymnasium step", peer_rate(python, "gymnasium step", entry.id)?)];
        if robot {
            theirs.push(("mujoco mj_step", peer_rate(python, "mujoco mj_step", entry.id)?));
        }
        let (after, spread_after) = random_steps(entry)?;
        let ours = (before.max(after), spread_before.max(spread_after));
        let line = |(peer, rate): (&str, f64)| {
            Line::new("envs", format!("{} random actions", entry.id), "steps/s", ours, peer, rate)
        };
        show(theirs.into_iter().map(line).collect())?;
    }
    Ok(())
}

/// The classic tasks that Gymnasium has under the same name.
const CLASSIC_OF_GYMNASIUM: &[&str] =
    &["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"];

/// Steps of an episode under random actions; `tools/peers.py` has the same.
const EPISODE: usize = 50;

/// Steps per second of one environment under random actions, with the spread; resets are part of the time.
fn random_steps(entry: &steadfast_envs::Entry) -> Result<(f64, f64)> {
    let (mut env, mut rng) = ((entry.make)(), stream(0, Purpose::Check, 0));
    let spec = env.spec().clone();
    let (space, mut draws) = (&spec.agents[0].action, stream(0, Purpose::Check, 1));
    let mut actions = Vec::new();
    (0..1000).for_each(|_| space.sample(&[], &mut draws, &mut actions));
    let (mut obs, mut reward) = (vec![0.0; spec.obs_len()], [0.0]);
    let mut episodes = |count: usize| {
        for episode in 0..count {
            env.reset(&mut rng, &mut obs);
            for t in 0..EPISODE {
                let at = (episode * EPISODE + t) % 1000 * space.len();
                if env.step(&actions[at..at + space.len()], &mut rng, &mut obs, &mut reward) {
                    env.reset(&mut rng, &mut obs);
                }
            }
        }
    };
    // Blocks of a few tenths of a second, whatever a step costs.
    let (mut count, start) = (0, Instant::now());
    while start.elapsed().as_secs_f64() < 0.2 {
        episodes(4);
        count += 4;
    }
    let (seconds, spread) = fastest(5, || {
        episodes(count);
        Ok(())
    })?;
    Ok(((count * EPISODE) as f64 / seconds, spread))
}

/// The trainings that are measured: agent, preset, environment, options, and the peers with the same settings.
const TRAININGS: &[(&str, &str, &str, &str, &[&str])] = &[
    ("ppo", "sb3", "Pendulum-v1", "", &["sb3 PPO"]),
    ("ppo", "sb3", "Pendulum-v1", "num_envs=64 horizon=128 epochs=4 minibatch=256", &[]),
    ("trpo", "sb3", "Pendulum-v1", "", &["sb3 TRPO"]),
    ("mdpo", "code", "Pendulum-v1", "", &[]),
    ("ppo", "sb3", "CartPole-v1", "", &["sb3 PPO"]),
    ("sac", "sb3", "HalfCheetah-v5", "horizon=200", &["sb3 SAC", "sbx SAC"]),
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

/// Environment steps per second of whole iterations, with the spread.
fn training(agent: &str, preset: &str, env: &str, set: &str, device: &Device) -> Result<(f64, f64)> {
    let (mut agent, mut envs, _) = build(agent, preset, env, set, device)?;
    let steps = agent.steps_per_iteration() as f64;
    let (seconds, spread) = fastest(10, || {
        agent.iterate(&mut envs)?;
        envs.take_episodes();
        Ok(())
    })?;
    Ok((steps / seconds, spread))
}

fn train(device: &Device, peers: Option<&std::path::Path>, show: &mut Show) -> Result<()> {
    for (agent, preset, env, set, others) in TRAININGS {
        let name = format!("{agent} {preset} {env} {set}").trim_end().to_owned();
        let ours = training(agent, preset, env, set, device)?;
        let tensors = training(agent, preset, env, set, &Device::named("cpu-tensors")?)?.0;
        let mut lines = vec![Line::new("train", &name, "steps/s", ours, "the tensor library", tensors)];
        for (python, peer) in peers.iter().flat_map(|python| others.iter().map(move |peer| (python, peer))) {
            let value = peer_rate(python, peer, env)?;
            lines.push(Line::new("train", &name, "steps/s", ours, *peer, value));
        }
        show(lines)?;
    }
    Ok(())
}

/// What `tools/peers.py` prints.
#[derive(Deserialize)]
struct PeerRate {
    steps_per_s: f64,
}

/// Environment steps per second of a peer: `library algorithm`, or `library function` for a bare environment.
fn peer_rate(python: &std::path::Path, peer: &str, env: &str) -> Result<f64> {
    let output = Command::new(python)
        .args(["-c", include_str!("../tools/peers.py")])
        .args(peer.split(' '))
        .arg(env)
        .output()
        .with_context(|| format!("cannot run {}", python.display()))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("peer '{peer}' failed: {}", why.lines().last().unwrap_or("no message"));
    }
    let rate: PeerRate = serde_json::from_slice(&output.stdout).with_context(|| format!("peer '{peer}'"))?;
    Ok(rate.steps_per_s)
}

/// Observation and action lengths of the updates measured: those of HalfCheetah.
const OBS: usize = 17;
const ACTIONS: usize = 6;

fn update(show: &mut Show) -> Result<()> {
    let device = Device::named("cpu")?;
    for hidden in [64, 256] {
        let net = Net { hidden: vec![hidden; 2], ..Net::default() };
        let head = Head::Gaussian { dim: ACTIONS };
        let policy = Policy::new(head, OBS, &net, &mut stream(0, Purpose::Check, 0), &device);
        for rows in [1, 64] {
            let obs = numbers(rows * OBS);
            let (mut work, mut actions) = (Workspace::default(), vec![0.0; rows * ACTIONS]);
            let mut floor = Floor::new(OBS, hidden, ACTIONS, rows);
            let rng = &mut stream(0, Purpose::Check, 0);
            let (ours, bare) = beside(
                || policy.pick(&obs, &[], Acting::Greedy, rng, &mut work, &mut actions),
                || floor.forward(&obs),
            );
            let name = format!("inference {OBS}-{hidden}-{hidden}-{ACTIONS} rows {rows}");
            show(vec![Line::new("update", name, "us", ours, "the bare arithmetic", bare)])?;
        }
    }
    for (hidden, minibatch) in [(64, 64), (64, 2048), (256, 256)] {
        let net = Net { hidden: vec![hidden; 2], ..Net::default() };
        let rng = &mut stream(0, Purpose::Check, 0);
        let mut policy = Policy::new(Head::Gaussian { dim: ACTIONS }, OBS, &net, rng, &device);
        let mut critic = Critic::new(OBS, &net, rng, &device);
        let mut policy_adam = Adam::new(policy.len(), 1e-5, &device);
        let mut critic_adam = Adam::new(critic.len(), 1e-5, &device);
        let mut rows = Rows::Host(HostRows {
            obs: numbers(minibatch * OBS),
            masks: Vec::new(),
            actions: numbers(minibatch * ACTIONS),
            old: numbers(minibatch * ACTIONS),
            log_std_old: vec![0.0; ACTIONS],
            log_prob_old: vec![-0.9 * ACTIONS as f32; minibatch],
            value_old: numbers(minibatch),
            advantage: numbers(minibatch),
            ret: numbers(minibatch),
            starts: Vec::new(),
            memory: Vec::new(),
        });
        let (policy_loss, value_loss) =
            (ClippedSurrogate { clip: 0.2, entropy: 0.0 }, SquaredError { clip: 0.0, weight: 0.5 });
        let obs = numbers(minibatch * OBS);
        let mut floors = [ACTIONS, 1].map(|outputs| Floor::new(OBS, hidden, outputs, minibatch));
        let one_update = || {
            rows.standardize_advantage(1e-8);
            policy.grad(&rows, &policy_loss);
            critic.grad(&rows, &value_loss);
            clip_global_norm([&mut policy.weights, &mut critic.weights], 0.5);
            policy_adam.step(&mut policy.weights, 1e-5);
            critic_adam.step(&mut critic.weights, 1e-5);
        };
        let (ours, bare) = beside(one_update, || floors.iter_mut().for_each(|floor| floor.update(&obs)));
        let name = format!("ppo {OBS}-{hidden}-{hidden}-{ACTIONS} and critic, minibatch {minibatch}");
        show(vec![Line::new("update", name, "us", ours, "the bare arithmetic", bare)])?;
    }
    shared_update(show)?;
    sac_update(show)
}

/// A minibatch of Hyper++ beside the same of its Euclidean relatives, on a task of the hierarchy family: the same net, as
/// the presets have it.
fn shared_update(show: &mut Show) -> Result<()> {
    let task = steadfast_envs::make("hierarchy/maze")?;
    let (spec, device) = (task.spec(), Device::named("cpu")?);
    let setup = Setup { spec, seed: 0, total_steps: 10_000, device: device.clone() };
    let (obs_len, actions) = (spec.obs_len(), 4);
    for (hidden, minibatch) in [(64, 128), (256, 256)] {
        let net = Net { hidden: vec![hidden; 2], ..Net::default() };
        let one_update = |preset: &str| -> Result<_> {
            let options = settings::resolve("hyperpp", &spec.id, preset, &[])?;
            let defaults = config::table(&hyperpp::Config::default());
            let c: hyperpp::Config = config::parse(&options, &defaults)?;
            let (r, rng) = (&c.representation, &mut stream(0, Purpose::Check, 0));
            let head = Head::Categorical { sizes: vec![actions] };
            let mut net = SharedNet::new(head, obs_len, &net, r, rng, &setup);
            let mut adam = Adam::new(net.weights.len(), c.adam_epsilon, &device);
            let mut points_adam = RiemannianAdam::new(
                net.points.len(),
                r.embedding.features,
                r.embedding.curvature,
                c.adam_epsilon,
            );
            let chosen = (0..minibatch).map(|i| (i % actions) as f32).collect();
            let mut rows = Rows::Host(HostRows {
                obs: numbers(minibatch * obs_len),
                actions: chosen,
                old: numbers(minibatch * actions),
                log_prob_old: vec![-1.4; minibatch],
                value_old: numbers(minibatch),
                advantage: numbers(minibatch),
                ret: numbers(minibatch),
                ..HostRows::default()
            });
            let loss = ClippedSurrogate { clip: 0.2, entropy: 0.0 };
            Ok(move || {
                rows.standardize_advantage(1e-8);
                let Rows::Host(rows) = &rows else { return };
                net.grad(rows, &loss, 0.5);
                clip_global_norm([&mut net.weights, &mut net.points], 0.5);
                adam.step(&mut net.weights, 1e-5);
                if let (Vector::Host(points), Vector::Host(grad)) = (&mut net.points.params, &net.points.grad)
                {
                    points_adam.step(points, grad, 1e-5);
                }
            })
        };
        for (preset, other) in [
            ("hyperpp", "euclidean"),
            ("hyperpp", "euclidean-full"),
            ("hyperpp", "s-rym"),
            ("s-rym", "euclidean"),
        ] {
            let (ours, theirs) = beside(one_update(preset)?, one_update(other)?);
            let name =
                format!("{preset} {obs_len}-{hidden}-{hidden}-32-{actions} and value, minibatch {minibatch}");
            show(vec![Line::new("update", name, "us", ours, format!("preset {other}"), theirs)])?;
        }
    }
    Ok(())
}

/// A gradient step of SAC with everything that belongs to it, beside its networks' bare arithmetic: two passes of the
/// actor, six of Q functions; backward through the actor, through both Q functions, and through one to the action.
fn sac_update(show: &mut Show) -> Result<()> {
    let (hidden, rows) = (256, 256);
    let spec = steadfast_envs::make("HalfCheetah-v5")?.spec().clone();
    let setup = Setup { spec: &spec, seed: 0, total_steps: 10_000, device: Device::named("cpu")? };
    let mut core = ActorCritics::new(OffPolicy::default(), Logarithm::NATURAL, &setup)?;
    let obs = numbers(20_000 * OBS);
    for (i, obs) in obs.chunks_exact(OBS).enumerate() {
        let action = &obs[..ACTIONS];
        core.replay_mut().push(&Transition {
            obs,
            action,
            rewards: &obs[..1],
            next_obs: obs,
            terminated: i % 100 == 0,
        });
    }
    let one_update = || {
        core.sample();
        core.fit_q(0.2);
        core.propose();
        core.step_actor(&SoftValue { temperature: 0.2 });
        core.track();
    };
    let inputs = numbers(rows * (OBS + ACTIONS));
    let mut actor = Floor::new(OBS, hidden, 2 * ACTIONS, rows);
    let mut q = Floor::new(OBS + ACTIONS, hidden, 1, rows);
    let floor = || {
        actor.forward(&inputs[..rows * OBS]);
        actor.update(&inputs[..rows * OBS]);
        (0..4).for_each(|_| q.forward(&inputs));
        (0..2).for_each(|_| q.update(&inputs));
        q.backward_to_inputs();
    };
    let (ours, bare) = beside(one_update, floor);
    let name = format!("sac {OBS}-{hidden}-{hidden}-{ACTIONS} and critics, minibatch {rows}");
    show(vec![Line::new("update", name, "us", ours, "the bare arithmetic", bare)])
}

/// What a checkpoint of a full replay buffer takes, a million transitions of HalfCheetah: all of it at once, and a minute
/// of training after another checkpoint. Beside it, as many bytes written and synced in one go.
fn replay_checkpoint(show: &mut Show) -> Result<()> {
    const FULL: u64 = 1_000_000;
    const MINUTE: u64 = 20_000;
    let mut replay = Replay::new(FULL as usize, OBS, ACTIONS)?;
    let obs = numbers(1000 * OBS);
    let fill = |replay: &mut Replay, upto: u64| {
        while replay.stored() < upto {
            let i = (replay.stored() % 1000) as usize * OBS;
            let obs = &obs[i..i + OBS];
            let action = &obs[..ACTIONS];
            replay.push(&Transition { obs, action, rewards: &obs[..1], next_obs: obs, terminated: false });
        }
    };
    let row = (2 * OBS + ACTIONS + 2) * size_of::<f32>();
    for (what, before, saved) in [("whole", FULL, 0), ("a minute later", FULL + MINUTE, FULL)] {
        let mut times = Vec::new();
        for _ in 0..3 {
            let folder = tempfile::tempdir()?;
            fill(&mut replay, before);
            let bytes = vec![1u8; (before - saved) as usize * row];
            let start = Instant::now();
            checkpoint::save_replay(folder.path(), &replay, saved)?;
            let ours = start.elapsed().as_secs_f64() * 1e3;
            let start = Instant::now();
            write_atomic(&folder.path().join("bytes"), &bytes)?;
            times.push((ours, start.elapsed().as_secs_f64() * 1e3));
        }
        let best = |of: fn(&(f64, f64)) -> f64| times.iter().map(of).fold(f64::INFINITY, f64::min);
        let worst = times.iter().map(|t| t.0).fold(0.0, f64::max);
        let value = (best(|t| t.0), worst / best(|t| t.0));
        let name = format!("checkpoint of a full replay buffer, {what}");
        show(vec![Line::new("train", name, "ms", value, "the bare bytes", best(|t| t.1))])?;
    }
    Ok(())
}

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919) % 2003) as f32 / 1000.0 - 1.0).collect()
}

/// The arithmetic that no update can do without: the products, activations and Adam of one network with two hidden
/// layers, on bare slices, transposes for free, no loss.
struct Floor {
    sizes: [usize; 4],
    rows: usize,
    weights: [Vec<f32>; 3],
    values: [Vec<f32>; 3],
    grads: [Vec<f32>; 3],
    d_values: [Vec<f32>; 3],
    moments: [[Vec<f32>; 2]; 3],
    d_inputs: Vec<f32>,
}

impl Floor {
    fn new(inputs: usize, hidden: usize, outputs: usize, rows: usize) -> Self {
        let sizes = [inputs, hidden, hidden, outputs];
        let weights = || std::array::from_fn(|i| numbers(sizes[i] * sizes[i + 1]));
        let values = || std::array::from_fn(|i| numbers(rows * sizes[i + 1]));
        Self {
            sizes,
            rows,
            weights: weights(),
            values: values(),
            grads: weights(),
            d_values: values(),
            moments: std::array::from_fn(|i| [0, 1].map(|_| vec![0.0; sizes[i] * sizes[i + 1]])),
            d_inputs: vec![0.0; rows * inputs],
        }
    }

    fn forward(&mut self, obs: &[f32]) {
        for i in 0..3 {
            let (before, here) = self.values.split_at_mut(i);
            let x = before.last().map_or(obs, Vec::as_slice);
            let sizes = Sizes { m: self.rows, n: self.sizes[i + 1], k: self.sizes[i] };
            kernels::product(x, &self.weights[i], Start::Zero, &mut here[0], sizes);
            if i < 2 {
                kernels::tanh(&mut here[0]);
            }
        }
    }

    fn backward_to_inputs(&mut self) {
        for i in (1..3).rev() {
            let (k, n) = (self.sizes[i], self.sizes[i + 1]);
            let (before, here) = self.d_values.split_at_mut(i);
            let sizes = Sizes { m: self.rows, n: k, k: n };
            kernels::product(&here[0], &self.weights[i], Start::Zero, &mut before[i - 1], sizes);
            kernels::relu_backward(&self.values[i - 1], &mut before[i - 1]);
        }
        let sizes = Sizes { m: self.rows, n: self.sizes[0], k: self.sizes[1] };
        kernels::product(&self.d_values[0], &self.weights[0], Start::Zero, &mut self.d_inputs, sizes);
    }

    fn update(&mut self, obs: &[f32]) {
        self.forward(obs);
        let step = AdamStep {
            beta1: 0.9,
            rest1: 0.1,
            beta2: 0.999,
            rest2: 0.001,
            rate: 1e-6,
            correction2: 1.0,
            epsilon: 1e-5,
        };
        for i in (0..3).rev() {
            let (k, n) = (self.sizes[i], self.sizes[i + 1]);
            let x = if i == 0 { obs } else { &self.values[i - 1] };
            // A narrow layer's product is taken the other way round.
            let (a, b, m, n_out) = if n < 16 {
                (self.d_values[i].as_slice(), x, n, k)
            } else {
                (x, self.d_values[i].as_slice(), k, n)
            };
            let sizes = Sizes { m, n: n_out, k: self.rows };
            kernels::product_transposed(a, b, Start::Zero, &mut self.grads[i], sizes);
            if i > 0 {
                let (before, here) = self.d_values.split_at_mut(i);
                let sizes = Sizes { m: self.rows, n: k, k: n };
                kernels::product(&here[0], &self.weights[i], Start::Zero, &mut before[i - 1], sizes);
                kernels::tanh_backward(&self.values[i - 1], &mut before[i - 1]);
            }
        }
        for ((weights, grad), [m, v]) in self.weights.iter_mut().zip(&self.grads).zip(&mut self.moments) {
            kernels::adam(weights, m, v, grad, step);
        }
    }
}
