//! One cell: claim it, train, and move the folder to its place, whole. Run it as often as you like, wherever you like: a
//! complete cell is left alone, an unfinished one goes on from its checkpoint.

use std::fs;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::cell_dir;
use super::claim::{self, Answer, Claim, Owner, Watch};
use crate::cli::{note, one_line};
use crate::record::write_atomic;
use crate::settings::RunSettings;
use crate::train::{self, Conduct, INTERRUPTED, Outcome, Progress, RunResult, Status};

/// How to run a cell.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Time without an iteration after which the cell counts as hanging and is ended.
    pub timeout: Option<Duration>,
    /// Time without a heartbeat after which other machines take a cell over.
    pub term: Duration,
    /// Wait, up to the term, for another process that has the cell.
    pub wait: bool,
    /// A working folder whose owner, on another machine, has been seen to be dead.
    pub lapsed: Option<PathBuf>,
    /// Time between checkpoints.
    pub checkpoint_every: Duration,
}

/// How a cell ended, if it did not fail.
#[derive(Debug)]
pub enum Ending {
    /// It is complete.
    Complete(RunResult),
    /// It had been before.
    AlreadyDone,
    /// It is not: it was asked to stop, or somebody else has it.
    TryAgain(String),
}

/// `seed-0.failed.json`: why the latest try of a cell failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong, in one line.
    pub reason: String,
    /// Where.
    pub host: String,
    /// Process.
    pub pid: u32,
    /// Version of the binary.
    pub version: String,
}

/// Path of the failure of the cell whose place is `place`.
pub fn failure_path(place: &Path) -> PathBuf {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(".failed.json");
    place.with_file_name(name)
}

/// The failure of the cell whose place is `place`, if its latest try failed.
pub fn failure(place: &Path) -> Option<Failure> {
    serde_json::from_slice(&fs::read(failure_path(place)).ok()?).ok()
}

/// Records a failure. Where nothing can be written, the exit code has to do.
pub fn record_failure(place: &Path, pid: u32, reason: &str) {
    let failure = Failure {
        reason: reason.to_owned(),
        host: claim::host(),
        pid,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    if let Some(parent) = place.parent()
        && fs::create_dir_all(parent).is_ok()
        && let Ok(bytes) = serde_json::to_vec_pretty(&failure)
    {
        let _ = write_atomic(&failure_path(place), &bytes);
    }
}

/// Runs a cell of the sweep in `sweep` to its end, unless it is complete.
///
/// # Errors
/// When it fails, which is recorded beside its place, too.
pub fn run(
    sweep: &Path,
    settings: &RunSettings,
    manner: &Manner,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Ending> {
    let place = cell_dir(sweep, settings);
    let ended = attempt(&place, settings, manner, progress);
    match &ended {
        Ok(Ending::TryAgain(_)) => {}
        Ok(_) => {
            // Absent, most of the time.
            let _ = fs::remove_file(failure_path(&place));
        }
        Err(error) => record_failure(&place, std::process::id(), &one_line(error)),
    }
    ended
}

fn attempt(
    place: &Path,
    settings: &RunSettings,
    manner: &Manner,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Ending> {
    if let Some(Outcome::AlreadyDone) = train::look(settings, place, true)? {
        return Ok(Ending::AlreadyDone);
    }
    let mut claim = match wait_for(place, manner)? {
        Answer::Ours(claim) => claim,
        Answer::Complete => return Ok(Ending::AlreadyDone),
        Answer::Taken(who) => return Ok(Ending::TryAgain(format!("{who} has it"))),
    };
    let _ = fs::remove_file(failure_path(place));
    let conduct = Conduct {
        threads: 1,
        checkpoint_every: manner.checkpoint_every,
        resume: true,
        claimed: true,
        command: repeat_command(settings),
        profile: false,
    };
    let alarm = manner.timeout.map(|limit| Alarm::set(limit, place.to_owned(), claim.part.clone()));
    let outcome = guarded(|| {
        train::run(settings, &claim.part, &conduct, &mut |p| {
            if let Some(alarm) = &alarm {
                alarm.heard();
            }
            progress(p);
            if claim.lost() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    drop(alarm);
    match outcome {
        // Whatever failed then failed because the folder has gone.
        _ if claim.lost() => Ok(Ending::TryAgain("another host has taken it over".to_owned())),
        Err(error) => Err(error),
        Ok(Outcome::Interrupted) => Ok(Ending::TryAgain("interrupted".to_owned())),
        Ok(Outcome::Finished(_) | Outcome::AlreadyDone) => publish(place, &mut claim),
    }
}

/// Asks for the cell; where another process has it, as often as `manner` allows.
fn wait_for(place: &Path, manner: &Manner) -> Result<Answer> {
    let (mut watch, began) = (Watch::default(), Instant::now());
    loop {
        let answer = claim::request(place, manner.term, |part, lease, bytes| {
            manner.lapsed.as_deref() == Some(part) || watch.lapsed(part, lease, bytes)
        })?;
        let patient = manner.wait && began.elapsed() < manner.term + Duration::from_secs(1);
        match answer {
            Answer::Taken(_) if patient && !INTERRUPTED.load(Ordering::Relaxed) => {
                std::thread::sleep(Duration::from_millis(50));
            }
            answer => return Ok(answer),
        }
    }
}

/// Moves a complete working folder to its place.
fn publish(place: &Path, claim: &mut Claim) -> Result<Ending> {
    let part = claim.part.clone();
    let result = train::read_result(&part)?.context("a run without result.json")?;
    claim.end();
    if let Err(error) = fs::rename(&part, place) {
        if !part.exists() {
            return Ok(Ending::TryAgain("another host has taken it over".to_owned()));
        }
        if !place.join("result.json").exists() {
            return Err(error).with_context(|| format!("cannot move {} to its place", part.display()));
        }
        // Two ran it. Its seed determines its files.
        for file in ["episodes.csv", "eval.csv", "train.csv"] {
            if fs::read(part.join(file)).ok() != fs::read(place.join(file)).ok() {
                bail!(
                    "{} and {} are the same run with different {file}: were they run by different binaries?",
                    place.display(),
                    part.display()
                );
            }
        }
        fs::remove_dir_all(&part).with_context(|| format!("cannot remove {}", part.display()))?;
        return Ok(Ending::AlreadyDone);
    }
    // What another that began in the same moment has left.
    for old in claim::parts(place).iter().filter(|old| matches!(claim::owner(old), Owner::Nobody)) {
        let _ = fs::remove_dir_all(old);
    }
    // The rename must survive a power cut.
    if let Some(parent) = place.parent() {
        fs::File::open(parent)
            .and_then(|d| d.sync_all())
            .with_context(|| format!("cannot sync {}", parent.display()))?;
    }
    Ok(Ending::Complete(result))
}

/// `work`, with a panic as an error.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let told = Arc::new(Mutex::new(String::new()));
    let listener = Arc::clone(&told);
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let place = info.location().map_or(String::new(), |l| format!(" at {l}"));
        let text = info.payload_as_str().unwrap_or("no message");
        *listener.lock().unwrap_or_else(PoisonError::into_inner) = format!("panicked{place}: {text}");
    }));
    let outcome = catch_unwind(AssertUnwindSafe(work));
    let _ = std::panic::take_hook();
    outcome.unwrap_or_else(|_| {
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        Err(anyhow!("{told}; this is a mistake in the program, please report it with the run's run.toml"))
    })
}

/// Ends the process when it has heard of no iteration for too long.
struct Alarm {
    began: Instant,
    heard_ms: Arc<AtomicU64>,
    off: Arc<AtomicBool>,
}

impl Alarm {
    fn set(limit: Duration, place: PathBuf, part: PathBuf) -> Self {
        let alarm =
            Self { began: Instant::now(), heard_ms: Arc::default(), off: Arc::new(AtomicBool::new(false)) };
        let (began, heard_ms, off) = (alarm.began, Arc::clone(&alarm.heard_ms), Arc::clone(&alarm.off));
        std::thread::spawn(move || {
            loop {
                let heard = Duration::from_millis(heard_ms.load(Ordering::Relaxed));
                let left = (heard + limit).saturating_sub(began.elapsed());
                if off.load(Ordering::Relaxed) {
                    return;
                }
                if left.is_zero() {
                    let reason = format!("no iteration in {} s (--timeout)", limit.as_secs_f64());
                    record_failure(&place, std::process::id(), &reason);
                    let _ = fs::remove_file(part.join(claim::LEASE));
                    note(&format!("error: {reason}"));
                    std::process::exit(i32::from(crate::cli::EXIT_FAILED));
                }
                std::thread::sleep(left);
            }
        });
        alarm
    }

    fn heard(&self) {
        self.heard_ms.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.off.store(true, Ordering::Relaxed);
    }
}

/// Why a finished training did not take all its steps.
pub fn divergence(result: &RunResult) -> Option<&str> {
    (result.status == Status::Diverged).then(|| result.reason.as_deref().unwrap_or("no reason given"))
}

/// The `train` command that repeats a cell outside its sweep.
pub fn repeat_command(s: &RunSettings) -> String {
    let mut options = String::new();
    for (key, value) in &s.env_options {
        options += &format!(" --env-set '{key}={value}'");
    }
    for (key, value) in &s.eval_env_options {
        options += &format!(" --eval-env-set '{key}={value}'");
    }
    for (key, value) in &s.options {
        options += &format!(" --set '{key}={value}'");
    }
    format!(
        "steadfast train --agent {} --preset {} --label {} --env {} --seed {} --steps {} --evaluations {} \
         --eval-episodes {} --final-episodes {} --device {}{options}",
        s.agent,
        s.preset,
        s.label,
        s.env,
        s.seed,
        s.steps,
        s.evaluations,
        s.eval_episodes,
        s.final_episodes,
        s.device
    )
}

/// The variables in which engines tell a task its number, and where each begins to count.
const NUMBERS: [(&str, u64); 6] = [
    ("SLURM_ARRAY_TASK_ID", 0),
    ("HQ_TASK_ID", 0),
    ("JOB_COMPLETION_INDEX", 0),
    ("PBS_ARRAY_INDEX", 0),
    ("SGE_TASK_ID", 1),
    ("PARALLEL_SEQ", 1),
];

/// The cells of a task: `index` or what the engine says, counted from `base` or as the engine does, and each
/// `stride`-th after it.
///
/// # Errors
/// When no number is given, or several, or one that names no cell.
pub fn task(
    index: Option<u64>,
    base: Option<u64>,
    stride: Option<u64>,
    cells: usize,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<usize>> {
    // Grid Engine says `undefined` outside of arrays.
    let said = |name: &str| variable(name).filter(|text| !text.is_empty() && text != "undefined");
    let (number, first, from) = match index {
        Some(index) => (index, 0, "--index"),
        None => {
            let mut told = NUMBERS.iter().filter_map(|(name, base)| Some((*name, *base, said(name)?)));
            let Some((name, first, text)) = told.next() else {
                let names: Vec<&str> = NUMBERS.iter().map(|(name, _)| *name).collect();
                bail!("which cell? Give --index, or set one of {}", names.join(", "));
            };
            if let Some((other, ..)) = told.next() {
                bail!("both {name} and {other} are set; give --index");
            }
            let number = text.parse().map_err(|_| anyhow!("{name} is '{text}', no whole number"))?;
            (number, first, name)
        }
    };
    let base = base.unwrap_or(first);
    let position = number.checked_sub(base).and_then(|i| usize::try_from(i).ok()).filter(|i| *i < cells);
    let Some(position) = position else {
        bail!("there is no cell {number} ({from}): the manifest has {cells}, numbered from {base}");
    };
    let stride = stride.map_or(cells, |stride| usize::try_from(stride).unwrap_or(cells));
    if position >= stride {
        bail!("cell {number} ({from}) is not below --stride {stride}: another task runs it");
    }
    Ok((position..cells).step_by(stride).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_where() {
        let error = guarded::<()>(|| panic!("index {} of {}", 3, 2)).unwrap_err().to_string();
        assert!(error.starts_with("panicked at experiments/src/sweep/cell.rs:"), "{error}");
        assert!(error.contains("index 3 of 2") && error.contains("report"), "{error}");
        assert_eq!(guarded(|| Ok(3)).unwrap(), 3);
    }

    #[test]
    fn tasks_are_told_their_cells_by_any_engine() {
        let set = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        };
        let cells = |pairs, base, stride| task(None, base, stride, 8, set(pairs));
        assert_eq!(cells(&[("SLURM_ARRAY_TASK_ID", "3")], None, None).unwrap(), [3]);
        assert_eq!(cells(&[("HQ_TASK_ID", "0")], None, None).unwrap(), [0]);
        assert_eq!(cells(&[("JOB_COMPLETION_INDEX", "7")], None, None).unwrap(), [7]);
        assert_eq!(cells(&[("PBS_ARRAY_INDEX", "1")], Some(1), None).unwrap(), [0]);
        assert_eq!(cells(&[("SGE_TASK_ID", "1")], None, None).unwrap(), [0]);
        assert_eq!(cells(&[("PARALLEL_SEQ", "8")], None, None).unwrap(), [7]);
        // Three tasks: every cell once.
        let shares = ["1", "2", "3"]
            .map(|i| task(None, None, Some(3), 8, |n| (n == "PARALLEL_SEQ").then(|| i.into())));
        assert_eq!(shares.map(Result::unwrap), [vec![0, 3, 6], vec![1, 4, 7], vec![2, 5]]);
        assert_eq!(task(Some(2), None, None, 8, set(&[("HQ_TASK_ID", "5")])).unwrap(), [2]);
        let error = |pairs, base, stride| format!("{:#}", cells(pairs, base, stride).unwrap_err());
        assert!(error(&[], None, None).contains("Give --index"));
        assert!(error(&[("SGE_TASK_ID", "undefined")], None, None).contains("Give --index"));
        assert!(error(&[("HQ_TASK_ID", "1"), ("PARALLEL_SEQ", "1")], None, None).contains("both HQ_TASK_ID"));
        assert!(error(&[("HQ_TASK_ID", "8")], None, None).contains("no cell 8"));
        assert!(error(&[("SGE_TASK_ID", "0")], None, None).contains("no cell 0"));
        assert!(error(&[("HQ_TASK_ID", "x")], None, None).contains("'x', no whole number"));
        assert!(error(&[("HQ_TASK_ID", "5")], None, Some(4)).contains("not below --stride 4"));
    }
}
