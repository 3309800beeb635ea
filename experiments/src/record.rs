//! The files of a run: the rows that they hold and the only code that writes them.
//!
//! One struct a file is its schema; serde is the only source of headers. Writers append, flush once an iteration,
//! and know their length, so that a resumed run first cuts off what came after its checkpoint.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use steadfast_agents::Metrics;
use steadfast_agents::core::profile::{STAGES, Stage};

/// What every row begins with.
#[derive(Clone, Debug)]
pub struct Key {
    /// Label of the agent within the sweep.
    pub agent: String,
    /// Environment.
    pub env: String,
    /// Run seed.
    pub seed: u64,
}

/// A row of `episodes.csv`: a finished training episode of one agent of the task.
#[derive(Debug, Serialize)]
pub struct EpisodeRow<'a> {
    /// Label of the agent.
    pub agent: &'a str,
    /// Environment.
    pub env: &'a str,
    /// Run seed.
    pub seed: u64,
    /// Environment steps taken when the episode ended.
    pub step: u64,
    /// Number of the episode in the run, from 0.
    pub episode: u64,
    /// Which agent of a multi-agent task; 0 in plain tasks.
    pub agent_index: usize,
    /// Undiscounted sum of rewards.
    pub r#return: f64,
    /// Length in steps.
    pub length: usize,
    /// The task ended it.
    pub terminated: bool,
    /// The time limit ended it.
    pub truncated: bool,
}

/// A row of `eval.csv`: episodes played greedily by the policy that is in force at `step`.
#[derive(Debug, Serialize)]
pub struct EvalRow<'a> {
    /// Label of the agent.
    pub agent: &'a str,
    /// Environment.
    pub env: &'a str,
    /// Run seed.
    pub seed: u64,
    /// Environment steps of training, a point of the run's evaluation grid.
    pub step: u64,
    /// Number of episodes.
    pub episodes: usize,
    /// Mean undiscounted return (of all agents together in multi-agent tasks).
    pub return_mean: f64,
    /// Standard deviation over the episodes (population).
    pub return_std: f64,
    /// Lowest return.
    pub return_min: f64,
    /// Highest return.
    pub return_max: f64,
    /// Mean length in steps.
    pub length_mean: f64,
}

/// A row of `train.csv`: what an iteration reports; empty cells do not apply to the agent.
#[derive(Debug, Serialize)]
pub struct TrainRow<'a> {
    /// Label of the agent.
    pub agent: &'a str,
    /// Environment.
    pub env: &'a str,
    /// Run seed.
    pub seed: u64,
    /// Environment steps taken after the iteration.
    pub step: u64,
    /// Iteration, from 1.
    pub iteration: u64,
    /// −E[r Â] after the update.
    pub policy_loss: Option<f64>,
    /// E[(V − R)²] after the update.
    pub value_loss: Option<f64>,
    /// E[KL(π_old ‖ π)], nats.
    pub kl: Option<f64>,
    /// E[entropy of π], nats.
    pub entropy: Option<f64>,
    /// Share of samples whose ratio left the clip range.
    pub clip_fraction: Option<f64>,
    /// Share of the returns' variance explained by the values.
    pub explained_variance: Option<f64>,
    /// Mean gradient norm before clipping.
    pub grad_norm: Option<f64>,
    /// t_k of MDPO, length of the step of TRPO.
    pub step_size: Option<f64>,
    /// Line-search trials of TRPO.
    pub line_search_steps: Option<f64>,
    /// Learning rate.
    pub learning_rate: Option<f64>,
    /// Mean standard deviation of Gaussian actions.
    pub action_std: Option<f64>,
    /// E[Q(s, a)] of fresh actions.
    pub q: Option<f64>,
    /// Weight of the entropy against the reward.
    pub temperature: Option<f64>,
    /// Mean length of the features that enter hyperbolic heads.
    pub feature_norm: Option<f64>,
    /// Mean of their learned gate.
    pub gate: Option<f64>,
    /// δ_rel of a sample of the features: 0 in a tree, up to 1.
    pub delta_rel: Option<f64>,
    /// Rank correlation of the features' length and the steps since the episode began.
    pub radius_depth: Option<f64>,
    /// Share of the returns outside the value's bins.
    pub returns_outside: Option<f64>,
    /// Gradient steps left out because their gradient was not finite.
    pub skipped_updates: Option<f64>,
    /// Mean share of the players' steps that a meta-game let them take.
    pub nash_weight: Option<f64>,
    /// The most that a player of the meta-game would gain by leaving its solution alone.
    pub exploitability: Option<f64>,
}

impl<'a> TrainRow<'a> {
    /// The row of one iteration.
    pub fn new(key: &'a Key, step: u64, iteration: u64, m: &Metrics) -> Self {
        Self {
            agent: &key.agent,
            env: &key.env,
            seed: key.seed,
            step,
            iteration,
            policy_loss: m.policy_loss,
            value_loss: m.value_loss,
            kl: m.kl,
            entropy: m.entropy,
            clip_fraction: m.clip_fraction,
            explained_variance: m.explained_variance,
            grad_norm: m.grad_norm,
            step_size: m.step_size,
            line_search_steps: m.line_search_steps,
            learning_rate: m.learning_rate,
            action_std: m.action_std,
            q: m.q,
            temperature: m.temperature,
            feature_norm: m.feature_norm,
            gate: m.gate,
            delta_rel: m.delta_rel,
            radius_depth: m.radius_depth,
            returns_outside: m.returns_outside,
            skipped_updates: m.skipped_updates,
            nash_weight: m.nash_weight,
            exploitability: m.exploitability,
        }
    }
}

/// A row of `timing.csv`, the only file of a run that depends on the clock.
#[derive(Debug, Serialize)]
pub struct TimingRow<'a> {
    /// Label of the agent.
    pub agent: &'a str,
    /// Environment.
    pub env: &'a str,
    /// Run seed.
    pub seed: u64,
    /// Environment steps of training.
    pub step: u64,
    /// Seconds of computing since the run began, pauses between kill and resume not counted.
    pub wall_s: f64,
    /// Environment steps per second since the row before.
    pub steps_per_s: f64,
    /// Seconds since the row before in steps of the environments; this and the others only with `--profile`.
    pub environment_s: Option<f64>,
    /// In acting.
    pub inference_s: Option<f64>,
    /// In values and advantages.
    pub advantages_s: Option<f64>,
    /// In updates.
    pub update_s: Option<f64>,
    /// In evaluations.
    pub evaluation_s: Option<f64>,
    /// In writing rows and checkpoints.
    pub recording_s: Option<f64>,
}

impl<'a> TimingRow<'a> {
    /// The row of a time; `stages` are the seconds of each stage of `--profile`.
    pub fn new(
        key: &'a Key,
        step: u64,
        wall_s: f64,
        steps_per_s: f64,
        stages: Option<[f64; STAGES]>,
    ) -> Self {
        let stage = |stage: Stage| stages.map(|s| s[stage as usize]);
        Self {
            agent: &key.agent,
            env: &key.env,
            seed: key.seed,
            step,
            wall_s,
            steps_per_s,
            environment_s: stage(Stage::Environment),
            inference_s: stage(Stage::Inference),
            advantages_s: stage(Stage::Advantages),
            update_s: stage(Stage::Update),
            evaluation_s: stage(Stage::Evaluation),
            recording_s: stage(Stage::Recording),
        }
    }
}

/// Appends rows to a CSV file.
pub struct Csv {
    path: PathBuf,
    file: File,
    rows: csv::Writer<Vec<u8>>,
    length: u64,
}

impl Csv {
    /// Opens `path` and cuts it to `length` bytes, as a checkpoint recorded them; 0 starts anew.
    ///
    /// # Errors
    /// When the file cannot be opened or is shorter than recorded.
    pub fn open(path: &Path, length: u64) -> Result<Self> {
        let shown = path.display();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("cannot open {shown} for writing"))?;
        let found = file.metadata().with_context(|| format!("cannot read {shown}"))?.len();
        if found < length {
            bail!(
                "{shown} has {found} bytes where its checkpoint recorded {length}: it was changed from outside; \
                 delete the run's directory to start it anew"
            );
        }
        file.set_len(length)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .with_context(|| format!("cannot cut {shown}"))?;
        let rows = csv::WriterBuilder::new().has_headers(length == 0).from_writer(Vec::new());
        Ok(Self { path: path.to_owned(), file, rows, length })
    }

    /// Adds a row; it reaches the file with [`Self::flush`].
    ///
    /// # Errors
    /// When the row cannot be serialised.
    pub fn push(&mut self, row: impl Serialize) -> Result<()> {
        self.rows.serialize(row).with_context(|| format!("cannot write a row of {}", self.path.display()))
    }

    /// Writes the rows added since the last call.
    ///
    /// # Errors
    /// When the disk is full, say. The rows are kept for another try.
    pub fn flush(&mut self) -> Result<()> {
        let shown = self.path.display();
        self.rows.flush().with_context(|| format!("cannot write {shown}"))?;
        let bytes = self.rows.get_ref();
        if bytes.is_empty() {
            return Ok(());
        }
        self.file.write_all(bytes).with_context(|| format!("cannot write {shown}"))?;
        self.length += bytes.len() as u64;
        // The header, if any, is written.
        self.rows = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        Ok(())
    }

    /// Makes what was flushed survive a power cut.
    ///
    /// # Errors
    /// When the system cannot.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().with_context(|| format!("cannot sync {}", self.path.display()))
    }

    /// Bytes written.
    pub fn len(&self) -> u64 {
        self.length
    }
}

/// What the names of unfinished files begin with; a killed process may leave some.
const DRAFT: &str = ".steadfast-";

/// A file that appears whole or not at all: written under another name beside it, then renamed.
#[derive(Debug)]
pub struct Draft {
    target: PathBuf,
    folder: PathBuf,
    file: tempfile::NamedTempFile,
}

impl Draft {
    /// Begins the file that is to appear at `path`.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn new(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let context = || format!("cannot write {}", path.display());
        let file = tempfile::Builder::new().prefix(DRAFT).tempfile_in(folder).with_context(context)?;
        // The default for temporary files is owner-only; results are meant to be shared.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).with_context(context)?;
        }
        Ok(Self { target: path.to_owned(), folder: folder.to_owned(), file })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When the disk is full, say.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write {}", self.target.display()))
    }

    /// Makes the file appear, also after a power cut.
    ///
    /// # Errors
    /// When the system cannot; an older file then stays.
    pub fn finish(self) -> Result<()> {
        let Self { target, folder, file } = self;
        let context = || format!("cannot write {}", target.display());
        file.as_file().sync_all().with_context(context)?;
        file.persist(&target).map_err(|e| e.error).with_context(context)?;
        // The rename itself must survive, too.
        File::open(folder).and_then(|d| d.sync_all()).with_context(context)
    }
}

/// Writes a whole file so that a crash leaves either the old one or the new one.
///
/// # Errors
/// When the directory cannot be written to.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut draft = Draft::new(path)?;
    draft.write(bytes)?;
    draft.finish()
}

/// Removes what killed writers left in `folder`. Call it only where nobody else writes.
pub fn remove_drafts(folder: &Path) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        if is_draft(&entry.file_name()) {
            // One that cannot be removed does no harm.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether that is the name of an unfinished file.
pub fn is_draft(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(DRAFT)
}

/// Claims `folder` for this process until the answer is dropped; `None` when another process has it. The claim
/// ends with the process, however it ends. Where the file system knows no locks, everybody gets it.
pub fn claim(folder: &Path) -> Option<Claim> {
    match File::open(folder) {
        Ok(handle) => match handle.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => None,
            _ => Some(Claim(Some(handle))),
        },
        Err(_) => Some(Claim(None)),
    }
}

/// Waits until no other process that asks for a turn in `folder` has it; ends with the answer. Where the file system knows
/// no locks, everybody has it at once.
pub fn turn(folder: &Path) -> Option<File> {
    let handle = File::open(folder).ok()?;
    handle.lock().ok().map(|()| handle)
}

/// A claimed folder.
#[derive(Debug)]
pub struct Claim(#[allow(dead_code, reason = "the open handle is the claim")] Option<File>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_the_documented_schema() {
        let key = Key { agent: "ppo".into(), env: "e".into(), seed: 0 };
        let header = |write: &dyn Fn(&mut Csv)| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.csv");
            let mut csv = Csv::open(&path, 0).unwrap();
            write(&mut csv);
            csv.flush().unwrap();
            std::fs::read_to_string(path).unwrap().lines().next().unwrap().to_owned()
        };
        assert_eq!(
            header(&|c| c
                .push(EpisodeRow {
                    agent: "a",
                    env: "e",
                    seed: 0,
                    step: 1,
                    episode: 0,
                    agent_index: 0,
                    r#return: 1.5,
                    length: 3,
                    terminated: true,
                    truncated: false
                })
                .unwrap()),
            "agent,env,seed,step,episode,agent_index,return,length,terminated,truncated"
        );
        assert_eq!(
            header(&|c| c
                .push(EvalRow {
                    agent: "a",
                    env: "e",
                    seed: 0,
                    step: 1,
                    episodes: 1,
                    return_mean: 0.0,
                    return_std: 0.0,
                    return_min: 0.0,
                    return_max: 0.0,
                    length_mean: 0.0
                })
                .unwrap()),
            "agent,env,seed,step,episodes,return_mean,return_std,return_min,return_max,length_mean"
        );
        assert_eq!(
            header(&|c| c.push(TrainRow::new(&key, 1, 1, &Metrics::default())).unwrap()),
            "agent,env,seed,step,iteration,policy_loss,value_loss,kl,entropy,clip_fraction,explained_variance,\
             grad_norm,step_size,line_search_steps,learning_rate,action_std,q,temperature,feature_norm,gate,\
             delta_rel,radius_depth,returns_outside,skipped_updates,nash_weight,exploitability"
        );
        assert_eq!(
            header(&|c| c.push(TimingRow::new(&key, 1, 0.0, 0.0, None)).unwrap()),
            "agent,env,seed,step,wall_s,steps_per_s,environment_s,inference_s,advantages_s,update_s,evaluation_s,\
             recording_s"
        );
    }

    #[test]
    fn a_reopened_file_is_cut_to_the_recorded_length_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        let key = Key { agent: "a".into(), env: "e".into(), seed: 0 };
        let row = |step| EpisodeRow {
            agent: &key.agent,
            env: &key.env,
            seed: key.seed,
            step,
            episode: 0,
            agent_index: 0,
            r#return: 0.5,
            length: 2,
            terminated: true,
            truncated: false,
        };
        let mut csv = Csv::open(&path, 0).unwrap();
        csv.push(row(1)).unwrap();
        csv.flush().unwrap();
        let recorded = csv.len();
        csv.push(row(2)).unwrap();
        csv.flush().unwrap();
        let mut csv = Csv::open(&path, recorded).unwrap();
        csv.push(row(3)).unwrap();
        csv.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let (header, rows) = text.split_once('\n').unwrap();
        assert_eq!(header, "agent,env,seed,step,episode,agent_index,return,length,terminated,truncated");
        assert_eq!(rows, "a,e,0,1,0,0,0.5,2,true,false\na,e,0,3,0,0,0.5,2,true,false\n");
        assert_eq!(csv.len(), text.len() as u64);
        assert!(Csv::open(&path, 10_000).is_err());
    }
}
