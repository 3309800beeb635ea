//! Runs a sweep on this machine: one child process a cell, some at a time. Several of these may share a folder, on one
//! host or on many: each takes cells that nobody has, waits for those that somebody has, and goes on with those whose
//! owner has died.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::cell::{Failure, failure, record_failure};
use super::claim::{self, Owner, Watch};
use super::plan::Manifest;
use super::status::{State, look};
use super::{cell_dir, name};
use crate::cli::{EXIT_TRY_AGAIN, note};
use crate::train::{INTERRUPTED, Progress};

/// How to run a sweep.
#[derive(Clone, Debug)]
pub struct Options {
    /// Cells at a time.
    pub jobs: usize,
    /// No progress.
    pub quiet: bool,
    /// As [`super::cell::Manner::timeout`].
    pub timeout: Option<Duration>,
    /// As [`super::cell::Manner::term`].
    pub term: Duration,
}

/// How a child process ended.
enum Ended {
    Complete,
    /// Interrupted, or somebody else has the cell.
    TryAgain,
    Failed(String),
}

/// What a look at a cell advises.
enum Advice {
    Complete,
    /// Somebody works on it.
    Wait(String),
    /// Run it; the working folder of an owner on another machine that has died, if there is one.
    Run(Option<PathBuf>),
    /// It has failed since this sweep began, elsewhere.
    Failed(String),
}

/// Pause before another look at a cell that somebody has.
const PAUSE: Duration = Duration::from_millis(200);

/// Runs all unfinished cells, `jobs` at a time, each in a child process. Returns how many failed.
///
/// # Errors
/// For a folder that holds another sweep. Cells that fail are reported and counted.
pub fn run(manifest: &Manifest, sweep: &Path, options: &Options) -> Result<usize> {
    let states: Vec<State> = manifest.cells.iter().map(|cell| look(sweep, cell)).collect::<Result<_>>()?;
    manifest.write(sweep, true)?;
    let failed_before: Vec<Option<Failure>> =
        manifest.cells.iter().map(|cell| failure(&cell_dir(sweep, cell))).collect();

    // Long cells first, so that none is left alone at the end.
    let mut pending: Vec<usize> =
        (0..states.len()).filter(|i| !matches!(states[*i], State::Complete(_))).collect();
    pending.sort_by_key(|i| (std::cmp::Reverse(manifest.cells[*i].steps), manifest.cells[*i].seed, *i));
    let complete = states.len() - pending.len();

    let bars = MultiProgress::with_draw_target(if options.quiet {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    });
    let style = |template: &str| {
        ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─")
    };
    let total = bars.add(ProgressBar::new(states.len() as u64));
    total.set_style(style("{prefix:>34} {bar:30} {pos}/{len} cells, {elapsed} gone, {eta} left"));
    total.set_prefix(manifest.suite.clone());
    total.set_position(complete as u64);
    total.tick();
    let cell_style = style("{prefix:>34} {bar:30} {msg}");

    let executable = std::env::current_exe().context("cannot find this program's own file")?;
    let workers = options.jobs.clamp(1, pending.len().max(1));
    // With each cell the earliest moment to look at it.
    let queue: Mutex<VecDeque<(usize, Instant)>> =
        Mutex::new(pending.into_iter().map(|index| (index, Instant::now())).collect());
    let watch = Mutex::new(Watch::default());
    let failures = AtomicUsize::new(0);
    let finished = AtomicUsize::new(complete);
    let told_of_others = AtomicBool::new(false);
    // Without a terminal: one line a cell, so that logs show life.
    let lines = bars.is_hidden() && !options.quiet;
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match queue.iter().position(|(_, when)| *when <= now) {
            Some(i) => queue.remove(i).map(|(index, _)| Some(index)),
            None => (!queue.is_empty()).then_some(None),
        }
    };
    let later = |index| {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back((index, Instant::now() + PAUSE));
    };
    let work = || {
        while let Some(next) = next() {
            if INTERRUPTED.load(Ordering::Relaxed) {
                break;
            }
            let Some(index) = next else {
                std::thread::sleep(PAUSE / 4);
                continue;
            };
            let cell = &manifest.cells[index];
            let name = name(cell);
            let ended = match advise(sweep, manifest, index, failed_before[index].as_ref(), &watch)? {
                Advice::Complete => Ended::Complete,
                Advice::Failed(why) => Ended::Failed(why),
                Advice::Wait(who) => {
                    if !told_of_others.swap(true, Ordering::Relaxed) && !options.quiet {
                        bars.suspend(|| note(&format!("{who} has {name}: leaving it alone until it ends")));
                    }
                    later(index);
                    continue;
                }
                Advice::Run(lapsed) => {
                    let bar = bars.insert_before(&total, ProgressBar::new(cell.steps));
                    bar.set_style(cell_style.clone());
                    bar.set_prefix(name.clone());
                    let ended = child(&executable, manifest, sweep, index, lapsed.as_deref(), options, &bar);
                    bar.finish_and_clear();
                    bars.remove(&bar);
                    ended.unwrap_or_else(|why| Ended::Failed(format!("{why:#}")))
                }
            };
            match ended {
                Ended::Complete => {
                    let done = finished.fetch_add(1, Ordering::Relaxed) + 1;
                    total.inc(1);
                    if lines {
                        note(&format!("[{done}/{}] {name} done", manifest.cells.len()));
                    }
                }
                _ if INTERRUPTED.load(Ordering::Relaxed) => break,
                Ended::TryAgain => later(index),
                Ended::Failed(why) => {
                    bars.suspend(|| note(&format!("failed: {name}: {why}")));
                    failures.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    };
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    total.finish_and_clear();
    outcomes.into_iter().collect::<Result<()>>()?;
    Ok(failures.into_inner())
}

fn advise(
    sweep: &Path,
    manifest: &Manifest,
    index: usize,
    failed_before: Option<&Failure>,
    watch: &Mutex<Watch>,
) -> Result<Advice> {
    let cell = &manifest.cells[index];
    let place = cell_dir(sweep, cell);
    Ok(match look(sweep, cell)? {
        State::Complete(_) => Advice::Complete,
        State::Failed(new) if new.pid != 0 && Some(&new) != failed_before => Advice::Failed(new.reason),
        State::Running(who) => {
            let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
            let lapsed = claim::parts(&place).into_iter().find(|part| match claim::owner(part) {
                Owner::Elsewhere(lease, bytes) => watch.lapsed(part, &lease, &bytes),
                Owner::Alive(_) | Owner::Nobody => false,
            });
            lapsed.map_or_else(|| Advice::Wait(who.who()), |part| Advice::Run(Some(part)))
        }
        State::Failed(_) | State::Stopped | State::Missing => Advice::Run(None),
    })
}

/// One child process; it stops by itself when its standard input closes, that is when this process ends, however.
fn child(
    executable: &Path,
    manifest: &Manifest,
    sweep: &Path,
    index: usize,
    lapsed: Option<&Path>,
    options: &Options,
    bar: &ProgressBar,
) -> Result<Ended> {
    let mut command = Command::new(executable);
    command.args(["sweep", "cell", "--supervised", "--index", &index.to_string(), "--plan", &manifest.hash]);
    command.arg("--manifest").arg(Manifest::path(sweep));
    command.args(["--lease", &options.term.as_secs_f64().to_string()]);
    if let Some(timeout) = options.timeout {
        command.args(["--timeout", &timeout.as_secs_f64().to_string()]);
    }
    if let Some(part) = lapsed {
        command.arg("--lapsed").arg(part);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start a child process")?;
    let mut stdin = child.stdin.take();
    let mut stderr = child.stderr.take().context("child without stderr")?;
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        // Bytes that are no UTF-8 end the text; the exit status still tells.
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let stdout = BufReader::new(child.stdout.take().context("child without stdout")?);
    for line in stdout.lines() {
        let Ok(line) = line else { break };
        // Only this process may have got the signal: the child has a line an iteration, and stops after the next.
        if INTERRUPTED.load(Ordering::Relaxed) {
            drop(stdin.take());
        }
        if let Ok(p) = serde_json::from_str::<Progress>(&line) {
            bar.set_position(p.step);
            let score = p.return_mean.map_or(String::new(), |r| format!("return {r:9.2}  "));
            bar.set_message(format!("{score}{:6.0} steps/s", p.steps_per_s));
        }
    }
    let status = child.wait().context("cannot wait for a child process")?;
    drop(stdin);
    let errors = errors.join().unwrap_or_default();
    let last = errors.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or_default().trim();
    Ok(match status.code() {
        Some(0) => Ended::Complete,
        Some(code) if code == i32::from(EXIT_TRY_AGAIN) => Ended::TryAgain,
        Some(_) if !last.is_empty() => Ended::Failed(last.trim_start_matches("error: ").to_owned()),
        Some(code) => Ended::Failed(format!("exit code {code}")),
        None => {
            let reason = format!("it was killed ({status}) {last}").trim_end().to_owned();
            record_failure(&cell_dir(sweep, &manifest.cells[index]), child.id(), &reason);
            Ended::Failed(reason)
        }
    })
}
