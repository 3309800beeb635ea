//! Results in the formats of other tools: what `steadfast export` writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cli::print;
use crate::record::write_atomic;
use crate::summary::read::{self, Run};

mod parquet;

/// A format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Stable-Baselines3: AGENT/ENV_SEED/0.monitor.csv and progress.csv
    Sb3,
    /// TensorBoard: an event file a run, tags as Stable-Baselines3's
    Tensorboard,
    /// The long CSV of CleanRL's curves: openrlbenchmark.csv
    Openrlbenchmark,
    /// The JSON of marl-eval, BenchMARL and Stoix: marl-eval.json
    MarlEval,
    /// Parquet, typed columns: eval.parquet, episodes.parquet, train.parquet, timing.parquet
    Parquet,
}

/// Arguments of `steadfast export`.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// Format to write
    format: Format,
    /// Run directories or folders of sweeps
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Folder to write to
    #[arg(long, default_value = "export")]
    out: PathBuf,
}

/// Reads the runs and writes them anew.
///
/// # Errors
/// For files that cannot be read or written.
pub fn main(args: &ExportArgs) -> Result<ExitCode> {
    if let Some(path) = args.paths.iter().find(|path| !path.exists()) {
        anyhow::bail!("{} does not exist; pass run directories or a sweep's folder", path.display());
    }
    let files = match args.format {
        Format::Sb3 => sb3(&args.paths)?,
        Format::Tensorboard => tensorboard(&args.paths)?,
        Format::Openrlbenchmark => {
            vec![("openrlbenchmark.csv".into(), openrlbenchmark(&args.paths)?.into_bytes())]
        }
        Format::MarlEval => vec![("marl-eval.json".into(), marl_eval(&args.paths)?.into_bytes())],
        Format::Parquet => parquet::parquet(&args.paths)?,
    };
    for (name, bytes) in &files {
        let path = args.out.join(name);
        let folder = path.parent().unwrap_or(&args.out);
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        write_atomic(&path, bytes)?;
    }
    print(&format!(
        "{} file{}: {}\n",
        files.len(),
        if files.len() == 1 { "" } else { "s" },
        args.out.display()
    ))
}

/// What names a run: agent, environment, seed.
type Key = (String, String, u64);
/// A column of every run as (step, value).
type Columns = BTreeMap<Key, Vec<(u64, f64)>>;

/// Tagged scalars of a run as (step, value).
type Scalars = BTreeMap<&'static str, Vec<(u64, f64)>>;

fn key(run: &Run) -> Key {
    (run.agent.clone(), run.env.clone(), run.seed)
}

/// The runs of a column; none where there is no such file.
fn optional(paths: &[PathBuf], file: &str, column: &str) -> Result<Vec<Run>> {
    let with: Vec<PathBuf> = paths.iter().filter(|path| read::files(path, file).is_ok()).cloned().collect();
    if with.is_empty() { Ok(vec![]) } else { read::runs(&with, column) }
}

fn columns(paths: &[PathBuf], file: &str, column: &str) -> Result<Columns> {
    let points = |run: Run| (key(&run), run.x.iter().map(|x| *x as u64).zip(run.y).collect());
    Ok(optional(paths, file, column)?.into_iter().map(points).collect())
}

/// A finished training episode.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Episode {
    step: u64,
    /// Of all agents of the task together.
    total: f64,
    length: u64,
}

/// The training episodes of every run, in order.
fn episodes(paths: &[PathBuf]) -> Result<BTreeMap<Key, Vec<Episode>>> {
    let returns = optional(paths, "episodes.csv", "return")?;
    let lengths = optional(paths, "episodes.csv", "length")?;
    let agents = optional(paths, "episodes.csv", "agent_index")?;
    let mut all = BTreeMap::new();
    for ((run, length), agent) in returns.into_iter().zip(lengths).zip(agents) {
        let mut found: Vec<Episode> = Vec::new();
        for i in 0..run.y.len() {
            match found.last_mut() {
                Some(last) if agent.y[i] > 0.0 => last.total += run.y[i],
                _ => {
                    found.push(Episode { step: run.x[i] as u64, total: run.y[i], length: length.y[i] as u64 })
                }
            }
        }
        all.insert(key(&run), found);
    }
    Ok(all)
}

/// Seconds at a step by the rows of `timing.csv`; 0 without them.
fn seconds(timing: &Columns, key: &Key, step: u64) -> f64 {
    let rows = timing.get(key).map_or(&[][..], Vec::as_slice);
    let after = rows.partition_point(|row| row.0 < step);
    let before = |i: usize| if i == 0 { (0, 0.0) } else { rows[i - 1] };
    match rows.get(after) {
        Some(&(to, t)) if to > before(after).0 => {
            let (from, s) = before(after);
            s + (t - s) * (step - from) as f64 / (to - from) as f64
        }
        Some(row) => row.1,
        None => before(after).1,
    }
}

/// Our columns beside Stable-Baselines3's tags; its entropy loss is the negative entropy.
const TAGS: [(&str, &str, f64); 9] = [
    ("policy_loss", "train/policy_gradient_loss", 1.0),
    ("value_loss", "train/value_loss", 1.0),
    ("kl", "train/approx_kl", 1.0),
    ("entropy", "train/entropy_loss", -1.0),
    ("clip_fraction", "train/clip_fraction", 1.0),
    ("explained_variance", "train/explained_variance", 1.0),
    ("learning_rate", "train/learning_rate", 1.0),
    ("action_std", "train/std", 1.0),
    ("temperature", "train/ent_coef", 1.0),
];

/// Episodes of the running means that Stable-Baselines3 logs.
const WINDOW: usize = 100;

/// Scalars of every run by tag.
fn scalars(paths: &[PathBuf]) -> Result<BTreeMap<Key, Scalars>> {
    let mut all: BTreeMap<Key, Scalars> = BTreeMap::new();
    let mut add = |tag: &'static str, sign: f64, columns: Columns| {
        for (key, points) in columns {
            if !points.is_empty() {
                let points = points.into_iter().map(|(step, y)| (step, sign * y)).collect();
                all.entry(key).or_default().insert(tag, points);
            }
        }
    };
    add("eval/mean_reward", 1.0, columns(paths, "eval.csv", "return_mean")?);
    add("eval/mean_ep_length", 1.0, columns(paths, "eval.csv", "length_mean")?);
    for (column, tag, sign) in TAGS {
        add(tag, sign, columns(paths, "train.csv", column)?);
    }
    // Means of the last hundred episodes at the end of each iteration.
    let iterations = columns(paths, "train.csv", "iteration")?;
    let (mut rewards, mut lengths) = (Columns::new(), Columns::new());
    for (key, episodes) in episodes(paths)? {
        for (step, _) in iterations.get(&key).into_iter().flatten() {
            let done = &episodes[..episodes.partition_point(|e| e.step <= *step)];
            let last = &done[done.len().saturating_sub(WINDOW)..];
            if !last.is_empty() {
                let n = last.len() as f64;
                let mean = |f: &dyn Fn(&Episode) -> f64| last.iter().map(f).sum::<f64>() / n;
                rewards.entry(key.clone()).or_default().push((*step, mean(&|e| e.total)));
                lengths.entry(key.clone()).or_default().push((*step, mean(&|e| e.length as f64)));
            }
        }
    }
    add("rollout/ep_rew_mean", 1.0, rewards);
    add("rollout/ep_len_mean", 1.0, lengths);
    Ok(all)
}

type Files = Vec<(PathBuf, Vec<u8>)>;

/// `0.monitor.csv` and `progress.csv` of every run.
fn sb3(paths: &[PathBuf]) -> Result<Files> {
    let timing = columns(paths, "timing.csv", "wall_s")?;
    let mut files = Vec::new();
    let folder =
        |(agent, env, seed): &Key| Path::new(agent).join(format!("{}_{seed}", env.replace('/', "-")));
    for (key, episodes) in episodes(paths)? {
        let mut text = format!("#{}\nr,l,t\n", json!({ "t_start": 0.0, "env_id": key.1 }));
        for e in episodes {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:.6},{},{:.6}", e.total, e.length, seconds(&timing, &key, e.step));
        }
        files.push((folder(&key).join("0.monitor.csv"), text.into_bytes()));
    }
    let tags = ["rollout/ep_rew_mean", "rollout/ep_len_mean", "eval/mean_reward", "eval/mean_ep_length"];
    let tags: Vec<&str> = tags.into_iter().chain(TAGS.map(|t| t.1)).collect();
    for (key, scalars) in scalars(paths)? {
        let mut rows: BTreeMap<u64, Vec<Option<f64>>> = BTreeMap::new();
        for (column, tag) in tags.iter().enumerate() {
            for (step, y) in scalars.get(tag).into_iter().flatten() {
                rows.entry(*step).or_insert_with(|| vec![None; tags.len()])[column] = Some(*y);
            }
        }
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(["time/total_timesteps", "time/time_elapsed"].iter().chain(&tags))?;
        for (step, cells) in rows {
            let head = [step.to_string(), format!("{:.3}", seconds(&timing, &key, step))];
            let cells = cells.into_iter().map(|c| c.map_or(String::new(), |y| y.to_string()));
            csv.write_record(head.into_iter().chain(cells))?;
        }
        files.push((folder(&key).join("progress.csv"), csv.into_inner()?));
    }
    Ok(files)
}

/// One row an episode: `exp_name,env_id,seed,global_step,charts/episodic_return,charts/episodic_length`.
fn openrlbenchmark(paths: &[PathBuf]) -> Result<String> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let head =
        ["exp_name", "env_id", "seed", "global_step", "charts/episodic_return", "charts/episodic_length"];
    csv.write_record(head)?;
    let episodes = episodes(paths)?;
    anyhow::ensure!(
        !episodes.is_empty(),
        "no episodes.csv under the paths; pass run directories or a sweep's folder"
    );
    for ((agent, env, seed), episodes) in episodes {
        for e in episodes {
            csv.serialize((&agent, &env, seed, e.step, e.total, e.length))?;
        }
    }
    Ok(String::from_utf8(csv.into_inner()?)?)
}

/// Environment, task, algorithm, seed, evaluation. The suite stands for the environment and its environments for tasks;
/// an evaluation is one number, the mean over its episodes. The last one is the absolute metric.
fn marl_eval(paths: &[PathBuf]) -> Result<String> {
    let mut tasks = serde_json::Map::new();
    for run in read::runs(paths, "return_mean")? {
        let algorithms = tasks.entry(&run.env).or_insert_with(|| json!({}));
        let runs = &mut algorithms[&run.agent];
        if runs.is_null() {
            *runs = json!({});
        }
        let mut steps = serde_json::Map::new();
        for (k, (x, y)) in run.x.iter().zip(&run.y).enumerate() {
            steps.insert(format!("step_{k}"), json!({ "step_count": *x as u64, "return": [y] }));
        }
        if let Some(last) = run.y.last() {
            steps.insert("absolute_metrics".to_owned(), json!({ "return": [last] }));
        }
        runs[format!("seed_{}", run.seed)] = serde_json::Value::Object(steps);
    }
    Ok(serde_json::to_string_pretty(&json!({ "steadfast": tasks }))? + "\n")
}

/// An event file of every run.
fn tensorboard(paths: &[PathBuf]) -> Result<Files> {
    let timing = columns(paths, "timing.csv", "wall_s")?;
    let mut files = Vec::new();
    for (key, scalars) in scalars(paths)? {
        let mut file = Vec::new();
        // Event { wall_time: 1 double, step: 2 int64, file_version: 3 string, summary: 5 Summary }.
        record(&mut file, &[&field(1, 1)[..], &0f64.to_le_bytes(), &text(3, "brain.Event:2")].concat());
        for (tag, points) in scalars {
            for (step, y) in points {
                // Summary { value: 1 Value { tag: 1 string, simple_value: 2 float } }.
                let value = [&text(1, tag)[..], &field(2, 5), &(y as f32).to_le_bytes()].concat();
                let summary = bytes(5, &bytes(1, &value));
                let time = seconds(&timing, &key, step).to_le_bytes();
                let head = [&field(1, 1)[..], &time, &field(2, 0), &varint(step)].concat();
                record(&mut file, &[head, summary].concat());
            }
        }
        let (agent, env, seed) = &key;
        let folder = Path::new(agent).join(env.replace('/', "-")).join(format!("seed-{seed}"));
        files.push((folder.join("events.out.tfevents.0000000000.steadfast"), file));
    }
    Ok(files)
}

/// A record of the event file: length, its checksum, data, its checksum.
fn record(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(&length).to_le_bytes());
    file.extend(data);
    file.extend(masked(data).to_le_bytes());
}

/// TensorFlow's masked CRC-32C.
fn masked(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Key of a protobuf field.
fn field(number: u8, wire: u8) -> [u8; 1] {
    [number << 3 | wire]
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn bytes(number: u8, data: &[u8]) -> Vec<u8> {
    [&field(number, 2)[..], &varint(data.len() as u64), data].concat()
}

fn text(number: u8, text: &str) -> Vec<u8> {
    bytes(number, text.as_bytes())
}

#[cfg(test)]
mod tests;
