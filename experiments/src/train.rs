//! One run: the loop over iterations, the evaluation grid, checkpoints and the files of the run directory.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use steadfast_agents::core::profile::{self, STAGES, Stage};
use steadfast_agents::{Acting, Agent, AgentError, Device, Metrics, Seen, Setup};
use steadfast_envs::rng::{self, Purpose};
use steadfast_envs::{Env, Maker, Rng, Spec, State, VecEnv};

use crate::checkpoint;
use crate::record::{
    self, Csv, EpisodeRow, EvalRow, Key, TimingRow, TrainRow, is_draft, remove_drafts, write_atomic,
};
use crate::settings::{RunSettings, env_maker};
use crate::sweep::claim::LEASE;
use crate::warn::{self, Rows};

/// Set by SIGINT, SIGTERM, SIGHUP and SIGUSR1: checkpoint and stop at the next iteration.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What does not change a result.
#[derive(Clone, Debug)]
pub struct Conduct {
    /// Threads that step environment copies.
    pub threads: usize,
    /// Seconds between checkpoints.
    pub checkpoint_every: Duration,
    /// Go on from a checkpoint if there is one.
    pub resume: bool,
    /// The caller has claimed the directory, as sweeps do in their own way.
    pub claimed: bool,
    /// The command that repeats the run, for `run.toml`.
    pub command: String,
    /// Measure where the time goes, for `timing.csv`.
    pub profile: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All steps taken.
    Done,
    /// A loss, an observation or a reward was not finite; the rows up to there stand.
    Diverged,
}

/// `result.json`: the last file that a run writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunResult {
    /// How it ended.
    pub status: Status,
    /// Why, where it did not simply finish.
    pub reason: Option<String>,
    /// Environment steps taken.
    pub step: u64,
    /// Mean return of the last evaluation.
    pub return_mean: Option<f64>,
    /// Times that the simulation of a training environment ran away and was put back to its start.
    #[serde(default)]
    pub divergences: u64,
    /// Signs that something went wrong, each with what to try.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Seconds of computing.
    pub wall_s: f64,
    /// Version of the binary.
    pub version: String,
    /// BLAKE3 of each CSV file, so that a later change shows; empty in results of old.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// What a caller may show while a run goes on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Environment steps taken.
    pub step: u64,
    /// Environment steps of the run.
    pub steps: u64,
    /// Mean return of the latest evaluation.
    pub return_mean: Option<f64>,
    /// Environment steps per second since the run began or was resumed.
    pub steps_per_s: f64,
}

/// Why [`run`] returned.
pub enum Outcome {
    /// The run is complete.
    Finished(RunResult),
    /// It had been completed before.
    AlreadyDone,
    /// It was asked to stop; a checkpoint holds its state.
    Interrupted,
}

/// `run.toml`: the settings and where they ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunFile {
    /// What the run is.
    pub settings: RunSettings,
    /// Where it ran.
    pub provenance: Provenance,
}

/// Where a run ran; not part of its identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of the binary.
    pub version: String,
    /// Revision of the source.
    pub git: String,
    /// Version of the tensor library.
    pub burn: String,
    /// Machine.
    pub host: String,
    /// The command that repeats it.
    pub command: String,
}

/// Reads the settings of a run directory.
///
/// # Errors
/// When `run.toml` is missing or malformed.
pub fn read_settings(directory: &Path) -> Result<RunSettings> {
    Ok(read_run(directory)?.settings)
}

/// Reads `run.toml` of a run directory.
///
/// # Errors
/// When it is missing or malformed.
pub fn read_run(directory: &Path) -> Result<RunFile> {
    let path = directory.join("run.toml");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}: is this the directory of a run?", path.display()))?;
    toml::from_str(&text).map_err(|e| anyhow!("{} is malformed: {}", path.display(), e.message()))
}

/// The result of a run directory, if the run is complete.
///
/// # Errors
/// When `result.json` exists and cannot be read.
pub fn read_result(directory: &Path) -> Result<Option<RunResult>> {
    let path = directory.join("result.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let result = serde_json::from_str(&text).with_context(|| {
        format!("{} is malformed; delete it to have the run checked again", path.display())
    })?;
    Ok(Some(result))
}

/// BLAKE3 of each CSV file of a run directory.
///
/// # Errors
/// When one cannot be read.
pub fn checksums(directory: &Path) -> Result<BTreeMap<String, String>> {
    let checksum = |name: &str| {
        let path = directory.join(name);
        let mut hasher = blake3::Hasher::new();
        let file = fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hasher.update_reader(file).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((name.to_owned(), hasher.finalize().to_hex().to_string()))
    };
    NAMES.into_iter().map(checksum).collect()
}

/// Path of the checkpoint in a run directory.
pub fn checkpoint_path(directory: &Path) -> PathBuf {
    directory.join("checkpoint").join("state.safetensors")
}

/// Folder of the replay buffer in a run directory, of an agent that has one.
fn replay_folder(directory: &Path) -> PathBuf {
    directory.join("checkpoint").join("replay")
}

/// Builds the agent of a run, with its environment's maker.
///
/// # Errors
/// For an unknown agent or environment, bad options, or an absent device.
pub fn build(settings: &RunSettings) -> Result<(Box<dyn Agent>, Maker)> {
    let make = env_maker(&settings.env, &settings.env_options)?;
    let device = Device::named(&settings.device)?;
    let spec = make();
    let setup = Setup { spec: spec.spec(), seed: settings.seed, total_steps: settings.steps, device };
    let agent = (steadfast_agents::entry(&settings.agent)?.build)(&settings.options, &setup)
        .with_context(|| format!("agent '{}' on {}", settings.label, settings.env))?;
    if let Some(name) = agent.comparator() {
        let known = spec.comparators();
        if known.is_empty() {
            bail!("{} has no comparators; --agent random plays any task", settings.env);
        }
        if !known.contains(&name) {
            bail!("{} has no comparator '{name}'; set policy to one of: {}", settings.env, known.join(", "));
        }
    }
    Ok((agent, make))
}

/// The maker of the environment of the second evaluation, where there is one.
///
/// # Errors
/// For options that the environment does not have, and for those that change what an agent sees or does.
fn second_maker(settings: &RunSettings, agent: &dyn Agent) -> Result<Option<Maker>> {
    let Some(name) = settings.second_env() else { return Ok(None) };
    let make = env_maker(&settings.env, &settings.second_env_options()?)?;
    let first = env_maker(&settings.env, &settings.env_options)?;
    if make().spec().agents != first().spec().agents && agent.comparator().is_none() {
        bail!(
            "{name} has other observations or actions than the environment of training; the policy does not fit"
        );
    }
    Ok(Some(make))
}

/// Builds the agent of a run that is about to start.
///
/// # Errors
/// As [`build`], and for settings that leave nothing to do.
pub fn prepare(settings: &RunSettings) -> Result<(Box<dyn Agent>, Maker)> {
    settings.validate()?;
    let (agent, make) = build(settings)?;
    let least = agent.steps_per_iteration();
    if least > settings.steps {
        bail!(
            "{} steps are less than one iteration of '{}' on {} ({least} steps); raise --steps or lower its horizon",
            settings.steps,
            settings.label,
            settings.env
        );
    }
    Ok((agent, make))
}

/// Whether `directory` is free for this run; an outcome when there is nothing left to do.
pub(crate) fn look(settings: &RunSettings, directory: &Path, resume: bool) -> Result<Option<Outcome>> {
    let shown = directory.display();
    if directory.join("run.toml").exists() {
        let found = read_settings(directory)?;
        if &found != settings {
            let difference = RunSettings::difference(&found, settings);
            bail!("{shown} holds another run ({difference}); choose another --out or delete it");
        }
        if read_result(directory)?.is_some() {
            return Ok(Some(Outcome::AlreadyDone));
        }
        if !resume {
            bail!("{shown} holds this run, unfinished; add --resume to go on, or delete it to start anew");
        }
        return Ok(None);
    }
    // A run killed in its first moments leaves an empty `checkpoint` and a draft of run.toml.
    let foreign = |name: &std::ffi::OsStr| name != "checkpoint" && name != LEASE && !is_draft(name);
    if let Ok(entries) = fs::read_dir(directory)
        && entries.flatten().any(|e| foreign(&e.file_name()))
    {
        bail!("{shown} is not empty and holds no run (no run.toml); choose another --out");
    }
    Ok(None)
}

/// Trains as `settings` say, into `directory`.
///
/// The rows of an iteration are recorded when it is complete: those of the one that diverges are not. `progress` hears
/// of every iteration; where it breaks, the run stops there with a checkpoint, as it does when it is interrupted.
///
/// # Errors
/// For settings that cannot run, a directory that belongs to another run, files that cannot be read or written, and an
/// environment that fails: the latest checkpoint then stays.
pub fn run(
    settings: &RunSettings,
    directory: &Path,
    conduct: &Conduct,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Outcome> {
    let shown = directory.display();
    if let Some(outcome) = look(settings, directory, conduct.resume)? {
        return Ok(outcome);
    }
    let (mut agent, make) = prepare(settings)?;
    let second = second_maker(settings, agent.as_ref())?;
    let per_iteration = agent.steps_per_iteration();
    let path = checkpoint_path(directory);
    let checkpoints = directory.join("checkpoint");
    fs::create_dir_all(&checkpoints).with_context(|| format!("cannot create {shown}"))?;
    let _claim = match conduct.claimed {
        true => None,
        false => Some(
            record::claim(directory)
                .ok_or_else(|| anyhow!("another process is running {shown}; wait for it, or stop it"))?,
        ),
    };
    // The process that had the directory before may have gone on.
    if let Some(outcome) = look(settings, directory, conduct.resume)? {
        return Ok(outcome);
    }
    remove_drafts(directory);
    remove_drafts(&checkpoints);
    remove_drafts(&replay_folder(directory));
    if !directory.join("run.toml").exists() {
        let file = RunFile { settings: settings.clone(), provenance: provenance(conduct) };
        write_atomic(&directory.join("run.toml"), toml::to_string(&file)?.as_bytes())?;
    }

    let envs = VecEnv::new(&make, agent.num_envs(), settings.seed, Purpose::Env, conduct.threads);
    sound(envs.fault())?;
    let state = if path.exists() { Some(checkpoint::load(&path)?) } else { None };
    let unfit =
        || format!("checkpoint {} does not fit this run; delete {shown} to start it anew", path.display());
    let lengths = match &state {
        Some(state) => lengths(state).with_context(unfit)?,
        None => [0; 4],
    };
    let mut session = Session::open(settings, directory, envs, lengths)?;
    if let Some(state) = &state {
        session.restore(state, agent.as_mut(), directory).with_context(unfit)?;
    }

    if conduct.profile {
        profile::start(Stage::Recording);
    }
    let started = (Instant::now(), session.envs.steps());
    let mut saved = Instant::now();
    loop {
        let step = session.envs.steps();
        let last = per_iteration == 0 || step + per_iteration > settings.steps;
        // The policy in force now acts until the next iteration ends: it answers for the grid up to there.
        let until = if last { settings.steps + 1 } else { step + per_iteration };
        session.evaluate_until(until, agent.as_ref(), &make, second.as_deref())?;
        let stop = progress(&Progress {
            step,
            steps: settings.steps,
            return_mean: session.last_return,
            steps_per_s: (step - started.1) as f64 / started.0.elapsed().as_secs_f64().max(1e-9),
        })
        .is_break();
        let finished = last.then_some((Status::Done, None));
        let finished = match finished {
            Some(end) => Some(end),
            None if stop || INTERRUPTED.load(Ordering::Relaxed) => {
                session.flush()?;
                session.checkpoint(directory, agent.as_ref())?;
                return Ok(Outcome::Interrupted);
            }
            None => match iterate(agent.as_mut(), &mut session.envs)? {
                Ok(metrics) => {
                    profile::enter(Stage::Recording);
                    session.record(&metrics)?;
                    None
                }
                Err(error @ AgentError::NonFinite { .. }) => {
                    Some((Status::Diverged, Some(error.to_string())))
                }
                Err(error) => return Err(error.into()),
            },
        };
        session.flush()?;
        if finished.is_some() || saved.elapsed() >= conduct.checkpoint_every {
            if !matches!(finished, Some((Status::Diverged, _))) {
                session.checkpoint(directory, agent.as_ref())?;
            }
            saved = Instant::now();
        }
        if let Some((status, reason)) = finished {
            let rows = Rows::read(directory, session.envs.steps())?;
            let result = RunResult {
                status,
                reason,
                step: session.envs.steps(),
                return_mean: session.last_return,
                divergences: session.envs.divergences(),
                warnings: warn::warnings(settings, &rows),
                wall_s: session.wall(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                files: checksums(directory)?,
            };
            write_atomic(&directory.join("result.json"), &serde_json::to_vec_pretty(&result)?)?;
            return Ok(Outcome::Finished(result));
        }
    }
}

/// One iteration. A failed environment is an error, whatever became of its numbers.
fn iterate(agent: &mut dyn Agent, envs: &mut VecEnv) -> Result<Result<Metrics, AgentError>> {
    let metrics = agent.iterate(envs);
    sound(envs.fault())?;
    Ok(metrics)
}

/// The error of an environment that has failed.
fn sound(fault: Option<&str>) -> Result<()> {
    fault.map_or(Ok(()), |why| Err(anyhow!("the environment failed: {why}")))
}

/// The open files and counters of a run.
struct Session<'a> {
    settings: &'a RunSettings,
    key: Key,
    envs: VecEnv,
    files: [Csv; 4],
    /// Next point of the evaluation grid.
    next_eval: u64,
    iteration: u64,
    episodes: u64,
    last_return: Option<f64>,
    /// Seconds of computing before this process took over, and since when it counts.
    wall_before: f64,
    since: Instant,
    /// Transitions of the replay buffer that the latest checkpoint has.
    replay_saved: u64,
    /// Step and seconds of the latest row of `timing.csv`.
    timed: (u64, f64),
    /// Seconds of each stage up to the latest row of `timing.csv`, with `--profile`.
    staged: [f64; STAGES],
}

const EPISODES: usize = 0;
const EVAL: usize = 1;
const TRAIN: usize = 2;
const TIMING: usize = 3;
/// The CSV files of a run.
pub(crate) const NAMES: [&str; 4] = ["episodes.csv", "eval.csv", "train.csv", "timing.csv"];

/// Bytes of each file when the checkpoint was written.
fn lengths(state: &State) -> Result<[u64; 4]> {
    let lengths = state.u64("run.lengths", 4)?;
    Ok(std::array::from_fn(|i| lengths[i]))
}

impl<'a> Session<'a> {
    fn open(settings: &'a RunSettings, directory: &Path, envs: VecEnv, lengths: [u64; 4]) -> Result<Self> {
        let open = |i: usize| Csv::open(&directory.join(NAMES[i]), lengths[i]);
        Ok(Self {
            key: Key { agent: settings.label.clone(), env: settings.env.clone(), seed: settings.seed },
            settings,
            envs,
            files: [open(0)?, open(1)?, open(2)?, open(3)?],
            next_eval: 0,
            iteration: 0,
            episodes: 0,
            last_return: None,
            replay_saved: 0,
            wall_before: 0.0,
            since: Instant::now(),
            timed: (0, 0.0),
            staged: [0.0; STAGES],
        })
    }

    fn restore(&mut self, state: &State, agent: &mut dyn Agent, directory: &Path) -> Result<()> {
        agent.load(&state.state("agent"))?;
        if let Some(replay) = agent.replay_mut() {
            checkpoint::load_replay(&replay_folder(directory), replay)?;
            self.replay_saved = replay.stored();
        }
        self.envs.load(&state.state("envs"))?;
        let counters = state.u64("run.counters", 4)?;
        [self.next_eval, self.iteration, self.episodes, self.timed.0] =
            [counters[0], counters[1], counters[2], counters[3]];
        let reals = state.f64("run.reals", 3)?;
        self.wall_before = reals[0];
        self.timed.1 = reals[1];
        self.last_return = (self.next_eval > 0).then_some(reals[2]);
        Ok(())
    }

    fn checkpoint(&mut self, directory: &Path, agent: &dyn Agent) -> Result<()> {
        if let Some(replay) = agent.replay() {
            checkpoint::save_replay(&replay_folder(directory), replay, self.replay_saved)?;
        }
        for file in &self.files {
            file.sync()?;
        }
        let mut state = State::new();
        state.put_state("agent", agent.save());
        state.put_state("envs", self.envs.save());
        let lengths: Vec<u64> = self.files.iter().map(Csv::len).collect();
        state.put_u64("run.lengths", &lengths);
        state.put_u64("run.counters", &[self.next_eval, self.iteration, self.episodes, self.timed.0]);
        state.put_f64("run.reals", &[self.wall(), self.timed.1, self.last_return.unwrap_or(f64::NAN)]);
        checkpoint::save(&checkpoint_path(directory), &state)?;
        if let Some(replay) = agent.replay() {
            checkpoint::prune_replay(&replay_folder(directory), replay);
            self.replay_saved = replay.stored();
        }
        Ok(())
    }

    fn wall(&self) -> f64 {
        self.wall_before + self.since.elapsed().as_secs_f64()
    }

    /// Rows of one iteration.
    fn record(&mut self, metrics: &Metrics) -> Result<()> {
        self.iteration += 1;
        let Key { agent, env, seed } = &self.key;
        for e in self.envs.take_episodes() {
            for (agent_index, r) in e.returns.iter().enumerate() {
                self.files[EPISODES].push(EpisodeRow {
                    agent,
                    env,
                    seed: *seed,
                    step: e.step,
                    episode: self.episodes,
                    agent_index,
                    r#return: *r,
                    length: e.length,
                    terminated: e.terminated,
                    truncated: !e.terminated,
                })?;
            }
            self.episodes += 1;
        }
        self.files[TRAIN].push(TrainRow::new(&self.key, self.envs.steps(), self.iteration, metrics))
    }

    /// Evaluates the current policy for every grid point below `until`.
    fn evaluate_until(
        &mut self,
        until: u64,
        agent: &dyn Agent,
        make: &dyn Fn() -> Box<dyn Env>,
        second: Option<&(dyn Fn() -> Box<dyn Env> + Send + Sync)>,
    ) -> Result<()> {
        let s = self.settings;
        let mut evaluation: Option<(usize, Evaluation, Option<Evaluation>)> = None;
        while self.next_eval <= s.evaluations && s.grid(self.next_eval) < until {
            let step = s.grid(self.next_eval);
            let episodes = if self.next_eval == s.evaluations { s.final_episodes } else { s.eval_episodes };
            // Between two updates the policy is the same, and so are its episodes.
            let (e, other) = match evaluation.take() {
                Some((n, e, other)) if n == episodes => (e, other),
                _ => {
                    profile::enter(Stage::Evaluation);
                    let e = evaluate(agent, Acting::Greedy, make, s.seed, episodes)?;
                    let other = second.map(|make| evaluate(agent, Acting::Greedy, make, s.seed, episodes));
                    profile::enter(Stage::Recording);
                    (e, other.transpose()?)
                }
            };
            // Training's own row comes last: it is the one that a glance at the file should find.
            let second_env = s.second_env();
            let rows = [(second_env.as_ref(), other.as_ref()), (Some(&self.key.env), Some(&e))];
            for (env, e) in rows.into_iter().filter_map(|(env, e)| env.zip(e)) {
                self.files[EVAL].push(EvalRow {
                    agent: &self.key.agent,
                    env,
                    seed: self.key.seed,
                    step,
                    episodes,
                    return_mean: e.mean,
                    return_std: e.std,
                    return_min: e.min,
                    return_max: e.max,
                    length_mean: e.length,
                })?;
            }
            self.last_return = Some(e.mean);
            evaluation = Some((episodes, e, other));
            let (wall_s, taken) = (self.wall(), self.envs.steps());
            let (seconds, steps) = (wall_s - self.timed.1, taken - self.timed.0);
            let steps_per_s = if steps == 0 { 0.0 } else { steps as f64 / seconds };
            let stages = profile::seconds().map(|now| {
                let since = std::array::from_fn(|i| now[i] - self.staged[i]);
                self.staged = now;
                since
            });
            self.files[TIMING].push(TimingRow::new(&self.key, step, wall_s, steps_per_s, stages))?;
            self.timed = (taken, wall_s);
            self.next_eval += 1;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.files.iter_mut().try_for_each(Csv::flush)
    }
}

/// Statistics of evaluation episodes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Evaluation {
    /// Mean return.
    pub mean: f64,
    /// Its standard deviation over the episodes (population).
    pub std: f64,
    /// Lowest return.
    pub min: f64,
    /// Highest return.
    pub max: f64,
    /// Mean length in steps.
    pub length: f64,
}

/// An episode that is being played.
struct Player {
    number: usize,
    env: Box<dyn Env>,
    rng: Rng,
    obs: Vec<f32>,
    memory: Vec<f32>,
}

/// Fails when a mask allows no value of a choice.
fn legal(spec: &Spec, mask: &[bool]) -> Result<()> {
    let mut rest = mask;
    for agent in &spec.agents {
        let (flags, others) = rest.split_at(agent.action.flags());
        rest = others;
        if let Some(choice) = agent.action.blocked(flags) {
            bail!("{}: the mask of agent '{}' allows no value of its choice {choice}", spec.id, agent.name);
        }
    }
    Ok(())
}

/// Plays `episodes` episodes side by side, episode i always on stream (`seed`, evaluation, i): policies of one run
/// meet the same starts at every evaluation. An episode without a time limit is cut after `longest` steps.
///
/// `watch` sees the task of episode i when it starts, without rewards, and after each step, with one reward an agent.
///
/// # Errors
/// When an environment fails, or `watch` does.
pub fn play(
    agent: &dyn Agent,
    how: Acting,
    make: &dyn Fn() -> Box<dyn Env>,
    seed: u64,
    episodes: usize,
    longest: usize,
    mut watch: impl FnMut(usize, &mut dyn Env, Option<&[f64]>) -> Result<()>,
) -> Result<()> {
    let spec = make().spec().clone();
    let player = |i| Player {
        number: i,
        env: make(),
        rng: rng::stream(seed, Purpose::Eval, i as u64),
        obs: vec![0.0; spec.obs_len()],
        memory: vec![0.0; agent.memory_len()],
    };
    let mut running: Vec<Player> = (0..episodes).map(player).collect();
    for p in &mut running {
        p.env.reset(&mut p.rng, &mut p.obs);
        watch(p.number, p.env.as_mut(), None)?;
    }
    let (mut obs, mut masks, mut memory, mut drawn) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut mask = vec![true; spec.mask_len()];
    let (mut action, mut rewards) = (vec![0.0; spec.action_len()], vec![0.0; spec.agents.len()]);
    let mut act_rng = rng::stream(seed, Purpose::Eval, u64::MAX);
    let mut outcome = Ok(());
    for _ in 0..spec.max_steps.unwrap_or(longest) {
        if running.is_empty() || outcome.is_err() {
            break;
        }
        obs.clear();
        masks.clear();
        memory.clear();
        for p in &running {
            obs.extend_from_slice(&p.obs);
            memory.extend_from_slice(&p.memory);
            if spec.masked {
                p.env.mask(&mut mask);
                legal(&spec, &mask)?;
                masks.extend_from_slice(&mask);
            }
        }
        drawn.resize(running.len() * action.len(), 0.0);
        let mut seen = Seen { obs: &obs, masks: &masks, memory: &mut memory };
        agent.act(&mut seen, how, &mut drawn, &mut act_rng);
        let (mut row, mut memories) = (0..action.len(), memory.as_slice());
        running.retain_mut(|p| {
            match agent.comparator() {
                // Whether the task has it was seen when the agent was built.
                Some(name) => _ = p.env.comparator_action(name, &mut act_rng, &mut action),
                None => spec.clip(&drawn[row.clone()], &mut action),
            }
            row = row.end..row.end + action.len();
            let (remembered, rest) = memories.split_at(p.memory.len());
            p.memory.copy_from_slice(remembered);
            memories = rest;
            let terminated = p.env.step(&action, &mut p.rng, &mut p.obs, &mut rewards);
            if outcome.is_ok() {
                outcome = sound(p.env.fault()).and_then(|()| watch(p.number, p.env.as_mut(), Some(&rewards)));
            }
            !terminated && !p.env.truncated()
        });
    }
    outcome
}

/// Statistics of the returns of `episodes` episodes ([`play`]).
///
/// # Errors
/// When an environment fails.
pub fn evaluate(
    agent: &dyn Agent,
    how: Acting,
    make: &dyn Fn() -> Box<dyn Env>,
    seed: u64,
    episodes: usize,
) -> Result<Evaluation> {
    let (mut returns, mut lengths) = (vec![0.0; episodes], vec![0usize; episodes]);
    // A task without a time limit is cut at a length that no evaluation should need.
    play(agent, how, make, seed, episodes, 100_000, |i, _, rewards| {
        if let Some(rewards) = rewards {
            returns[i] += rewards.iter().sum::<f64>();
            lengths[i] += 1;
        }
        Ok(())
    })?;
    let n = episodes as f64;
    let mean = returns.iter().sum::<f64>() / n;
    Ok(Evaluation {
        mean,
        std: (returns.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / n).sqrt(),
        min: returns.iter().copied().fold(f64::INFINITY, f64::min),
        max: returns.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        length: lengths.iter().sum::<usize>() as f64 / n,
    })
}

fn provenance(conduct: &Conduct) -> Provenance {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git: env!("STEADFAST_GIT").to_owned(),
        burn: env!("STEADFAST_BURN").to_owned(),
        host,
        command: conduct.command.clone(),
    }
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;
    use crate::settings::assignments;
    use steadfast_envs::compare;

    fn comparator(env: &str, policy: &str) -> RunSettings {
        let options = assignments(&[format!("policy={policy}")]).unwrap();
        RunSettings {
            label: policy.to_owned(),
            agent: "comparator".to_owned(),
            preset: "default".to_owned(),
            env: env.to_owned(),
            seed: 3,
            steps: 1000,
            evaluations: 4,
            eval_episodes: 2,
            final_episodes: 6,
            device: "cpu".to_owned(),
            env_options: crate::settings::resolve_env(env, &toml::Table::new()).unwrap(),
            eval_env_options: std::collections::BTreeMap::new(),
            options,
        }
    }

    /// As the environments' own table scores them; the return of an evaluation is the sum over agents.
    #[test]
    fn comparators_are_scored_as_in_the_table_of_the_environments() {
        for (env, policy) in [("uav-bs/bs-tiny", "k-means"), ("uav-trajectory/wu2018-1", "circular")] {
            let settings = comparator(env, policy);
            let (agent, make) = build(&settings).unwrap();
            let found = evaluate(agent.as_ref(), Acting::Greedy, &make, 3, 4).unwrap().mean;
            let agents = make().spec().agents.len() as f64;
            let expected = agents * compare::score(&make, policy, 4, 3).mean;
            assert!((found - expected).abs() < 1e-9 * expected.abs(), "{env}: {found}, {expected}");
        }
    }

    #[test]
    fn a_comparator_is_evaluated_without_training() {
        let folder = tempfile::tempdir().unwrap();
        let conduct = Conduct {
            threads: 1,
            checkpoint_every: Duration::from_secs(60),
            resume: false,
            claimed: true,
            command: String::new(),
            profile: false,
        };
        let settings = comparator("uav-trajectory", "static");
        let outcome = run(&settings, folder.path(), &conduct, &mut |_| ControlFlow::Continue(())).unwrap();
        let Outcome::Finished(result) = outcome else { panic!("not finished") };
        let rows = fs::read_to_string(folder.path().join("eval.csv")).unwrap();
        assert_eq!((result.status, result.step, rows.lines().count()), (Status::Done, 0, 6), "{rows}");
    }

    #[test]
    fn a_comparator_that_the_task_does_not_have_is_named() {
        let error = |env, policy| format!("{:#}", build(&comparator(env, policy)).err().unwrap());
        let text = error("uav-trajectory", "k-means");
        assert!(text.contains("no comparator 'k-means'") && text.contains("fly-hover"), "{text}");
        assert!(error("Pendulum-v1", "static").contains("Pendulum-v1 has no comparators"));
    }
}
