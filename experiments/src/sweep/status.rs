//! What has become of each cell.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Result, bail};
use serde::Serialize;

use super::cell::{Failure, failure};
use super::claim::{self, LEASE, Lease, Owner, host};
use super::plan::Manifest;
use super::{cell_dir, name};
use crate::cli::one_line;
use crate::settings::RunSettings;
use crate::train::{self, RunResult, Status};

/// State of a cell on disk.
#[derive(Clone, Debug)]
pub enum State {
    /// It is at its place, with `result.json`.
    Complete(RunResult),
    /// Somebody works on it.
    Running(Lease),
    /// The latest try failed.
    Failed(Failure),
    /// It has begun, and nobody goes on.
    Stopped,
    /// Nothing is there.
    Missing,
}

/// Looks at a cell.
///
/// # Errors
/// When its folder holds another run.
pub fn look(sweep: &Path, cell: &RunSettings) -> Result<State> {
    let place = cell_dir(sweep, cell);
    let parts = claim::parts(&place);
    let mut begun = false;
    for folder in std::iter::once(&place).chain(&parts) {
        if !folder.join("run.toml").exists() {
            continue;
        }
        begun = true;
        let unreadable = |error: anyhow::Error| {
            let (reason, version) = (one_line(&error), String::new());
            State::Failed(Failure { reason, host: host(), pid: 0, version })
        };
        match train::read_settings(folder) {
            Ok(found) if &found != cell => bail!(
                "{} holds another run ({}); choose another --out, or delete the old sweep",
                folder.display(),
                RunSettings::difference(&found, cell)
            ),
            Ok(_) => {}
            // Moved to its place, or taken over, since it was listed.
            Err(_) if !folder.exists() => continue,
            Err(error) => return Ok(unreadable(error)),
        }
        if folder == &place {
            match train::read_result(folder) {
                Ok(Some(result)) => return Ok(State::Complete(result)),
                Ok(None) => {}
                Err(error) => return Ok(unreadable(error)),
            }
        }
    }
    for part in &parts {
        if let Owner::Alive(lease) | Owner::Elsewhere(lease, _) = claim::owner(part) {
            return Ok(State::Running(lease));
        }
    }
    Ok(match failure(&place) {
        Some(failure) => State::Failed(failure),
        None if begun => State::Stopped,
        None => State::Missing,
    })
}

/// A cell in a status.
#[derive(Clone, Debug, Serialize)]
pub struct CellStatus {
    /// Number in the manifest.
    pub index: usize,
    /// Name in rows and figures.
    pub agent: String,
    /// Environment.
    pub env: String,
    /// Run seed.
    pub seed: u64,
    /// `done`, `diverged`, `running`, `failed`, `stopped` or `missing`.
    pub state: &'static str,
    /// Steps of training up to the latest evaluation.
    pub step: Option<u64>,
    /// Steps of the whole training.
    pub steps: u64,
    /// Mean return of the latest evaluation.
    pub return_mean: Option<f64>,
    /// Where it runs or failed.
    pub host: Option<String>,
    /// Which process.
    pub pid: Option<u32>,
    /// Seconds since its heartbeat, by the clocks of this host and the file's.
    pub heartbeat_s: Option<f64>,
    /// Why it failed or diverged.
    pub reason: Option<String>,
    /// What went wrong in the training, and what to try.
    pub warnings: Vec<String>,
}

/// The states in the order of a summary.
const STATES: [&str; 6] = ["done", "diverged", "running", "failed", "stopped", "missing"];

/// Looks at all cells.
///
/// # Errors
/// When a folder holds another run.
pub fn all(manifest: &Manifest, sweep: &Path) -> Result<Vec<CellStatus>> {
    manifest.cells.iter().enumerate().map(|(index, cell)| one(index, cell, sweep)).collect()
}

fn one(index: usize, cell: &RunSettings, sweep: &Path) -> Result<CellStatus> {
    let mut row = CellStatus {
        index,
        agent: cell.label.clone(),
        env: cell.env.clone(),
        seed: cell.seed,
        state: "missing",
        step: None,
        steps: cell.steps,
        return_mean: None,
        host: None,
        pid: None,
        heartbeat_s: None,
        reason: None,
        warnings: Vec::new(),
    };
    let place = cell_dir(sweep, cell);
    let part = claim::parts(&place).into_iter().next();
    if let Some((step, score)) = part.as_deref().and_then(latest) {
        (row.step, row.return_mean) = (Some(step), Some(score));
    }
    match look(sweep, cell)? {
        State::Complete(result) => {
            row.state = if result.status == Status::Diverged { "diverged" } else { "done" };
            (row.step, row.return_mean, row.reason) = (Some(result.step), result.return_mean, result.reason);
            row.warnings = result.warnings;
        }
        State::Running(lease) => {
            row.state = "running";
            (row.host, row.pid) = (Some(lease.host), Some(lease.pid));
            let beat = part.and_then(|p| p.join(LEASE).metadata().ok()?.modified().ok());
            row.heartbeat_s =
                beat.and_then(|t| SystemTime::now().duration_since(t).ok()).map(|age| age.as_secs_f64());
        }
        State::Failed(failure) => {
            row.state = "failed";
            (row.host, row.reason) = (Some(failure.host), Some(failure.reason));
            row.pid = (failure.pid != 0).then_some(failure.pid);
        }
        State::Stopped => row.state = "stopped",
        State::Missing => {}
    }
    Ok(row)
}

/// Step and mean return of the last whole row of a run's `eval.csv`.
fn latest(folder: &Path) -> Option<(u64, f64)> {
    let text = std::fs::read_to_string(folder.join("eval.csv")).ok()?;
    let (whole, _) = text.rsplit_once('\n')?;
    let header: Vec<&str> = whole.lines().next()?.split(',').collect();
    let row: Vec<&str> = whole.lines().next_back()?.split(',').collect();
    let cell = |name| row.get(header.iter().position(|h| *h == name)?).copied();
    Some((cell("step")?.parse().ok()?, cell("return_mean")?.parse().ok()?))
}

/// Whether there is nothing to wait for.
pub fn is_over(rows: &[CellStatus]) -> bool {
    rows.iter().all(|row| ["done", "diverged"].contains(&row.state))
}

/// Cells whose warnings a status shows.
const WARNED: usize = 10;

/// A line with the numbers, then one for each cell that runs, failed, diverged or stopped, then warnings.
pub fn text(rows: &[CellStatus]) -> String {
    let count = |state: &str| rows.iter().filter(|row| row.state == state).count();
    let counts: Vec<String> = STATES.iter().map(|state| format!("{} {state}", count(state))).collect();
    let mut text = format!("{} of {}\n", counts.join(", "), rows.len());
    for state in ["running", "failed", "diverged", "stopped"] {
        for row in rows.iter().filter(|row| row.state == state) {
            text += &format!("{state:>8}  {:>4}  {} {} seed-{}", row.index, row.agent, row.env, row.seed);
            if let Some(step) = row.step {
                text += &format!(", step {step} of {}", row.steps);
            }
            if let (Some(score), true) = (row.return_mean, state != "diverged") {
                text += &format!(", return {score:.2}");
            }
            if let (Some(host), Some(pid)) = (&row.host, row.pid) {
                text += &format!(", process {pid} on {host}");
            }
            if let Some(age) = row.heartbeat_s.filter(|age| *age > claim::TERM.as_secs_f64()) {
                text += &format!(", silent for {age:.0} s");
            }
            if let Some(reason) = &row.reason {
                text += &format!(": {reason}");
            }
            text += "\n";
        }
    }
    let warned: Vec<_> = rows.iter().filter(|row| !row.warnings.is_empty()).collect();
    for row in warned.iter().take(WARNED) {
        for warning in &row.warnings {
            let CellStatus { index, agent, env, seed, .. } = row;
            text += &format!(" warning  {index:>4}  {agent} {env} seed-{seed}: {warning}\n");
        }
    }
    if warned.len() > WARNED {
        let more = warned.len() - WARNED;
        text += &format!(" warnings of {more} more cells: `--json` and `steadfast report` have them all\n");
    }
    text
}

/// Messages about the cells that a collected sweep lacks, or should not hide.
pub fn concerns(cell: &RunSettings, state: &State) -> Option<String> {
    let name = name(cell);
    match state {
        State::Complete(result) => {
            super::cell::divergence(result).map(|why| format!("{name} diverged: {why}"))
        }
        State::Running(lease) => Some(format!("{name} is being run by {}", lease.who())),
        State::Failed(failure) => Some(format!("{name} failed: {}", failure.reason)),
        State::Stopped => Some(format!("{name} is unfinished")),
        State::Missing => Some(format!("{name} is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: usize, state: &'static str, warnings: &[&str]) -> CellStatus {
        CellStatus {
            index,
            agent: "ppo".to_owned(),
            env: "E".to_owned(),
            seed: index as u64,
            state,
            step: Some(10),
            steps: 10,
            return_mean: Some(1.5),
            host: None,
            pid: None,
            heartbeat_s: None,
            reason: None,
            warnings: warnings.iter().map(|w| (*w).to_owned()).collect(),
        }
    }

    #[test]
    fn a_status_shows_warnings_of_some_cells_and_counts_the_rest() {
        let quiet = [row(0, "done", &[]), row(1, "stopped", &[])];
        assert_eq!(
            text(&quiet),
            "1 done, 0 diverged, 0 running, 0 failed, 1 stopped, 0 missing of 2\n stopped     1  ppo E seed-1, step 10 of \
             10, return 1.50\n"
        );
        let rows: Vec<_> =
            (0..12).map(|i| row(i, "done", &["entropy gone; raise entropy_coef"][..i.min(1)])).collect();
        let shown = text(&rows);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines.len(), 1 + WARNED + 1);
        assert_eq!(lines[1], " warning     1  ppo E seed-1: entropy gone; raise entropy_coef");
        assert!(lines[11].starts_with(" warnings of 1 more cells"), "{shown}");
    }
}
