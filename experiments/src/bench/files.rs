//! What the files of many runs cost: collecting, summarising, drawing, reporting.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use steadfast_agents::Metrics;

use super::{Line, Show};
use crate::record::{Csv, EpisodeRow, EvalRow, Key, TimingRow, TrainRow};
use crate::settings::RunSettings;
use crate::suite::{self, Overrides};
use crate::sweep::cell_dir;
use crate::sweep::plan::Manifest;
use crate::train::{self, Provenance, RunFile, RunResult, Status};

/// Evaluations of a run, iterations, training episodes.
const EVALUATIONS: u64 = 100;
const ITERATIONS: u64 = 100;
const EPISODES: u64 = 200;

/// Seconds and peak memory of a process over a sweep of 5 100 runs, beside ten times those over 510.
pub(super) fn files(show: &mut Show) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    write(&folder.join("small"), 34)?;
    let runs = write(&folder.join("large"), 340)?;
    let work: [(&str, &[&str]); 4] = [
        ("collect", &["sweep", "collect", "SWEEP"]),
        ("summary", &["summary", "SWEEP"]),
        ("plot", &["plot", "SWEEP", "--out", "curves.svg"]),
        ("report", &["report", "SWEEP", "--out", "report.html"]),
    ];
    for (what, args) in work {
        let [small, large] = ["small", "large"].map(|sweep| process(folder, sweep, args));
        let ((s, small_mb), (seconds, mb)) = (small?, large?);
        let name = format!("{what} {runs} runs of {EVALUATIONS} evaluations");
        let reference = "ten times a tenth of the runs";
        show(vec![
            Line::new("files", format!("{name}, time"), "s", (seconds, 1.0), reference, 10.0 * s),
            Line::new("files", format!("{name}, memory"), "MB", (mb, 1.0), reference, 10.0 * small_mb),
        ])?;
    }
    Ok(())
}

/// Seconds that a command takes, and its peak memory in megabytes, NaN where the system does not tell.
fn process(folder: &Path, sweep: &str, args: &[&str]) -> Result<(f64, f64)> {
    let args = args.iter().map(|arg| if *arg == "SWEEP" { sweep } else { arg });
    let start = Instant::now();
    let mut child = Command::new(std::env::current_exe()?)
        .args(args)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start this program again")?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = f64::NAN;
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kb) = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()) {
            peak = kb / 1024.0;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    ensure!(ended.success(), "{sweep}: exit status {ended}");
    Ok((start.elapsed().as_secs_f64(), peak))
}

/// The sweep of suite `classic` with that many seeds, complete, as the trainings would have left it. Says how many runs it has.
fn write(sweep: &Path, seeds: u64) -> Result<usize> {
    let mut suite = suite::load("classic")?;
    suite.name = sweep.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let overrides =
        Overrides { seeds: Some((0..seeds).collect()), device: "cpu".to_owned(), ..Overrides::default() };
    let manifest = Manifest::plan(&suite, &overrides)?;
    manifest.write(sweep, false)?;
    manifest.cells.iter().try_for_each(|cell| write_run(&cell_dir(sweep, cell), cell))?;
    Ok(manifest.cells.len())
}

fn write_run(place: &Path, cell: &RunSettings) -> Result<()> {
    std::fs::create_dir_all(place)?;
    let key = Key { agent: cell.label.clone(), env: cell.env.clone(), seed: cell.seed };
    let (agent, env, seed) = (key.agent.as_str(), key.env.as_str(), key.seed);
    // As many digits as measured numbers have.
    let number = |i: u64| ((i * 7919 + seed * 104_729) % 20_011) as f64 / 7.0 - 1000.0;
    let mut csv = Csv::open(&place.join("episodes.csv"), 0)?;
    for i in 1..=EPISODES {
        csv.push(EpisodeRow {
            agent,
            env,
            seed,
            step: i * cell.steps / EPISODES,
            episode: i - 1,
            agent_index: 0,
            r#return: number(i),
            length: 200,
            terminated: false,
            truncated: true,
        })?;
    }
    csv.flush()?;
    let mut csv = Csv::open(&place.join("eval.csv"), 0)?;
    for i in 0..=EVALUATIONS {
        let score = number(3 * i);
        csv.push(EvalRow {
            agent,
            env,
            seed,
            step: i * cell.steps / EVALUATIONS,
            episodes: 20,
            return_mean: score,
            return_std: score.abs() / 3.0,
            return_min: score - 100.0,
            return_max: score + 100.0,
            length_mean: 200.0,
        })?;
    }
    csv.flush()?;
    let mut csv = Csv::open(&place.join("train.csv"), 0)?;
    let mut timing = Csv::open(&place.join("timing.csv"), 0)?;
    for i in 1..=ITERATIONS {
        let step = i * cell.steps / ITERATIONS;
        let value = Some(number(5 * i) / 3e4);
        let metrics = Metrics {
            policy_loss: value,
            value_loss: value,
            kl: value.map(f64::abs),
            entropy: value,
            explained_variance: value,
            grad_norm: value,
            learning_rate: Some(3e-4),
            ..Metrics::default()
        };
        csv.push(TrainRow::new(&key, step, i, &metrics))?;
        timing.push(TimingRow::new(&key, step, i as f64 * 0.02, number(i).abs() * 100.0, None))?;
    }
    csv.flush()?;
    timing.flush()?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let provenance = Provenance {
        version: version.clone(),
        git: String::new(),
        burn: String::new(),
        host: String::new(),
        command: "steadfast bench files".to_owned(),
    };
    let run = RunFile { settings: cell.clone(), provenance };
    std::fs::write(place.join("run.toml"), toml::to_string(&run)?)?;
    let result = RunResult {
        status: Status::Done,
        reason: None,
        step: cell.steps,
        return_mean: Some(number(3 * EVALUATIONS)),
        divergences: 0,
        warnings: Vec::new(),
        wall_s: 2.0,
        version,
        files: train::checksums(place)?,
    };
    std::fs::write(place.join("result.json"), serde_json::to_vec_pretty(&result)?)?;
    Ok(())
}
