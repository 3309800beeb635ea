//! Sweeps: plan cells, run them in child processes, collect their files.
//!
//! A manifest (JSON lines: a header, then one line a cell) fixes what a sweep is. A cell is one run in one
//! process, so that a crash stays its own. A finished cell is never run again.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::cli::{EXIT_DIVERGED, EXIT_TRY_AGAIN, note};
use crate::record::{Draft, claim, remove_drafts, write_atomic};
use crate::settings::RunSettings;
use crate::suite::{Overrides, Suite};
use crate::train::{self, INTERRUPTED, Progress, RunResult, Status};

/// Layout of the manifest.
const SCHEMA: &str = "steadfast-manifest-1";

/// First line of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    schema: String,
    version: String,
    suite: String,
    title: String,
    cells: usize,
}

/// A planned sweep.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Name of the suite and of its folder.
    pub suite: String,
    /// Heading of figures and tables.
    pub title: String,
    /// The runs, sorted by label, environment and seed.
    pub cells: Vec<RunSettings>,
}

impl Manifest {
    /// The cells of a suite.
    ///
    /// # Errors
    /// For unknown names and bad options.
    pub fn plan(suite: &Suite, overrides: &Overrides) -> Result<Self> {
        let cells = suite.cells(overrides)?;
        cells
            .iter()
            .try_for_each(RunSettings::validate)
            .with_context(|| format!("suite '{}'", suite.name))?;
        Ok(Self { suite: suite.name.clone(), title: suite.title.clone(), cells })
    }

    /// As JSON lines; the same plan gives the same bytes.
    ///
    /// # Errors
    /// Never in practice: settings always serialise.
    pub fn to_text(&self) -> Result<String> {
        let header = Header {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            suite: self.suite.clone(),
            title: self.title.clone(),
            cells: self.cells.len(),
        };
        let mut text = serde_json::to_string(&header)? + "\n";
        for cell in &self.cells {
            text += &(serde_json::to_string(cell)? + "\n");
        }
        Ok(text)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When the file cannot be read, is no manifest of this version, or is truncated.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| {
            format!("cannot read manifest {shown}; write one with `steadfast sweep plan`")
        })?;
        let mut lines = text.lines();
        let header: Header = serde_json::from_str(lines.next().unwrap_or_default())
            .map_err(|e| anyhow!("{shown} line 1 is no manifest header: {e}"))?;
        if header.schema != SCHEMA {
            bail!(
                "{shown} has schema '{}', this version reads '{SCHEMA}'; plan the sweep again",
                header.schema
            );
        }
        let cell = |(i, line): (usize, &str)| -> Result<RunSettings> {
            let place = || format!("{shown} line {}", i + 2);
            let cell: RunSettings = serde_json::from_str(line).with_context(place)?;
            cell.validate().with_context(place)?;
            Ok(cell)
        };
        let cells: Vec<RunSettings> = lines.enumerate().map(cell).collect::<Result<_>>()?;
        if cells.len() != header.cells {
            bail!("{shown} is truncated: {} of {} cells; plan the sweep again", cells.len(), header.cells);
        }
        Ok(Self { suite: header.suite, title: header.title, cells })
    }
}

/// Directory of a cell below the sweep's.
pub fn cell_dir(sweep: &Path, cell: &RunSettings) -> PathBuf {
    sweep.join(&cell.label).join(cell.env.replace(['/', ':'], "-")).join(format!("seed-{}", cell.seed))
}

/// State of a cell on disk.
#[derive(Clone, Debug)]
pub enum CellState {
    /// `result.json` is there.
    Complete(RunResult),
    /// Some files are there.
    Begun,
    /// Nothing is there.
    Missing,
}

/// Looks at a cell's directory.
///
/// # Errors
/// When it holds another run or unreadable files.
pub fn cell_state(sweep: &Path, cell: &RunSettings) -> Result<CellState> {
    let directory = cell_dir(sweep, cell);
    if !directory.join("run.toml").exists() {
        return Ok(CellState::Missing);
    }
    let found = train::read_settings(&directory)?;
    if &found != cell {
        bail!(
            "{} holds another run ({}); choose another --out, or delete the old sweep",
            directory.display(),
            RunSettings::difference(&found, cell)
        );
    }
    Ok(train::read_result(&directory)?.map_or(CellState::Begun, CellState::Complete))
}

/// Whether no cell of the sweep is complete.
///
/// # Errors
/// When a cell's directory holds another run or unreadable files.
pub fn run_is_empty(manifest: &Manifest, sweep: &Path) -> Result<bool> {
    for cell in &manifest.cells {
        if matches!(cell_state(sweep, cell)?, CellState::Complete(_)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Runs all unfinished cells, `jobs` at a time, each in a child process.
///
/// # Errors
/// For a folder that holds another sweep or is in use. Cells that fail are reported and counted.
pub fn run(manifest: &Manifest, sweep: &Path, jobs: usize, quiet: bool) -> Result<usize> {
    fs::create_dir_all(sweep).with_context(|| format!("cannot create {}", sweep.display()))?;
    let Some(_claim) = claim(sweep) else {
        bail!("another `sweep run` is at work in {}; wait for it, or stop it", sweep.display());
    };
    remove_drafts(sweep);
    let states: Vec<CellState> =
        manifest.cells.iter().map(|cell| cell_state(sweep, cell)).collect::<Result<_>>()?;
    let path = sweep.join("manifest.jsonl");
    write_atomic(&path, manifest.to_text()?.as_bytes())?;

    // Long cells first, so that none is left alone at the end.
    let mut pending: Vec<usize> =
        (0..states.len()).filter(|i| !matches!(states[*i], CellState::Complete(_))).collect();
    pending.sort_by_key(|i| (std::cmp::Reverse(manifest.cells[*i].steps), manifest.cells[*i].seed, *i));
    let complete = states.len() - pending.len();

    let bars = MultiProgress::with_draw_target(if quiet {
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
    let workers = jobs.clamp(1, pending.len().max(1));
    let queue = Mutex::new(VecDeque::from(pending));
    let failures = AtomicUsize::new(0);
    let finished = AtomicUsize::new(complete);
    // Without a terminal: one line a cell, so that logs show life.
    let lines = bars.is_hidden() && !quiet;
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut q| q.pop_front());
                    let Some(index) = next else { break };
                    if INTERRUPTED.load(Ordering::Relaxed) {
                        break;
                    }
                    let cell = &manifest.cells[index];
                    let name = format!("{} {} seed-{}", cell.label, cell.env, cell.seed);
                    let bar = bars.insert_before(&total, ProgressBar::new(cell.steps));
                    bar.set_style(cell_style.clone());
                    bar.set_prefix(name.clone());
                    let outcome = run_cell(&executable, &path, sweep, index, &bar);
                    bar.finish_and_clear();
                    bars.remove(&bar);
                    match outcome {
                        Ok(()) => {
                            let done = finished.fetch_add(1, Ordering::Relaxed) + 1;
                            total.inc(1);
                            if lines {
                                note(&format!("[{done}/{}] {name} done", manifest.cells.len()));
                            }
                        }
                        Err(_) if INTERRUPTED.load(Ordering::Relaxed) => break,
                        Err(why) => {
                            bars.suspend(|| note(&format!("failed: {name}: {why:#}")));
                            failures.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    total.finish_and_clear();
    Ok(failures.into_inner())
}

/// One child process; it stops by itself when its standard input closes, that is when this process ends, however.
fn run_cell(executable: &Path, manifest: &Path, sweep: &Path, index: usize, bar: &ProgressBar) -> Result<()> {
    let mut child = Command::new(executable)
        .args(["sweep", "cell", "--supervised", "--index", &index.to_string(), "--manifest"])
        .arg(manifest)
        .arg("--dir")
        .arg(sweep)
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
    if status.success() || status.code() == Some(i32::from(EXIT_DIVERGED)) {
        return Ok(());
    }
    // The line behind a panic's is advice on how to debug it.
    let telling = |l: &&str| !l.trim().is_empty() && !l.starts_with("note:");
    let last = errors.lines().rev().find(telling).unwrap_or_default().trim();
    match (last.is_empty(), status.code()) {
        (_, Some(code)) if code == i32::from(EXIT_TRY_AGAIN) => bail!("it was interrupted"),
        (false, Some(_)) => bail!("{}", last.trim_start_matches("error: ")),
        (_, Some(code)) => bail!("exit code {code}"),
        _ => bail!("killed ({status}) {last}"),
    }
}

/// Joins the files of all complete cells into `episodes.csv`, `eval.csv`, `train.csv` and `timing.csv` of the sweep's
/// folder, sorted by agent, environment, seed and step. Returns one message for each cell that is not complete or diverged.
///
/// # Errors
/// When files cannot be read or written, or have different headers.
pub fn collect(manifest: &Manifest, sweep: &Path) -> Result<Vec<String>> {
    let mut messages = Vec::new();
    let mut complete = Vec::new();
    for cell in &manifest.cells {
        let name = format!("{} {} seed-{}", cell.label, cell.env, cell.seed);
        match cell_state(sweep, cell)? {
            CellState::Complete(result) => {
                if result.status == Status::Diverged {
                    messages.push(format!("{name} diverged: {}", result.reason.unwrap_or_default()));
                }
                complete.push(cell_dir(sweep, cell));
            }
            CellState::Begun => messages.push(format!("{name} is unfinished")),
            CellState::Missing => messages.push(format!("{name} is missing")),
        }
    }
    if complete.is_empty() {
        bail!("no cell of {} is complete; run `steadfast sweep run {}`", sweep.display(), manifest.suite);
    }
    for name in ["episodes.csv", "eval.csv", "train.csv", "timing.csv"] {
        let mut draft = Draft::new(&sweep.join(name))?;
        let mut header: Option<String> = None;
        for directory in &complete {
            let path = directory.join(name);
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            // A run without a single finished episode leaves an empty file.
            let Some((first, rows)) = text.split_once('\n') else { continue };
            match &header {
                None => {
                    draft.write(format!("{first}\n").as_bytes())?;
                    header = Some(first.to_owned());
                }
                Some(header) if header != first => {
                    bail!(
                        "{} has other columns than the cells before it; run the sweep with one version",
                        path.display()
                    )
                }
                Some(_) => {}
            }
            draft.write(rows.as_bytes())?;
        }
        draft.finish()?;
    }
    Ok(messages)
}
