//! Reads result files back: any CSV with our columns, by column name; other columns are ignored, so files may grow.
//!
//! Files of other tools are known by their columns, too:
//!
//! | file | columns | agent, environment, seed |
//! | --- | --- | --- |
//! | Stable-Baselines3's `monitor.csv` | `r,l,t` behind a line of JSON | file or folder name, the JSON, file name |
//! | Stable-Baselines3's `progress.csv` | `time/total_timesteps`, `rollout/…`, `eval/…`, `train/…` | folders `AGENT/ENV_SEED/` |
//! | CleanRL's and openrlbenchmark's long CSV | `exp_name,env_id,seed,global_step,charts/…` | columns |
//! | Gymnasium's `RecordEpisodeStatistics`, one row an episode | `r,l`, `t` | as `monitor.csv`, without environment |
//!
//! `return` and `length` (and `return_mean`, `length_mean`) mean the columns that hold them there; any other column is asked
//! for by its own name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use csv::StringRecord;
use steadfast_envs::nearest;

/// One column of one run, in order of steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// Environment.
    pub env: String,
    /// Agent.
    pub agent: String,
    /// Seed.
    pub seed: u64,
    /// Environment steps. Increasing; several episodes may end on the same step.
    pub x: Vec<f64>,
    /// The column's values. May be NaN or infinite, as the run wrote them.
    pub y: Vec<f64>,
    /// Rows whose cell is blank: the metric was not measured there.
    pub blank: usize,
    /// True for one row an episode (steps differ between seeds), false for rows on a grid of steps.
    pub episodic: bool,
}

impl Run {
    /// `agent on env, seed n`: how messages name a run.
    pub fn name(&self) -> String {
        format!("{} on {}, seed {}", self.agent, self.env, self.seed)
    }
}

/// The environment of a file that does not say it.
const UNKNOWN: &str = "unknown environment";

/// The file of a run directory that holds `column`.
fn file_of(column: &str) -> &'static str {
    match column {
        "return_mean" | "return_std" | "return_min" | "return_max" | "length_mean" | "episodes" => "eval.csv",
        "return" | "length" | "agent_index" => "episodes.csv",
        "wall_s" | "steps_per_s" | "environment_s" | "inference_s" | "advantages_s" | "update_s"
        | "evaluation_s" | "recording_s" => "timing.csv",
        _ => "train.csv",
    }
}

/// Which runs are meant: all under some paths, or those of some agents and environments.
#[derive(Args, Clone, Debug, Default)]
pub struct Selection {
    /// CSV files, run directories or folders of sweeps
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Only these agents, as tables and legends name them: hatrpo,k-means
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub agents: Vec<String>,
    /// Only these environments
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub envs: Vec<String>,
}

/// All runs under paths.
impl<T: AsRef<[PathBuf]> + ?Sized> From<&T> for Selection {
    fn from(paths: &T) -> Self {
        Self { paths: paths.as_ref().to_vec(), ..Self::default() }
    }
}

/// Reads `column` of every run that is selected, sorted by environment, agent and seed.
///
/// A path is a CSV file, or a folder: a run, a collected suite, or anything above run folders. A folder that
/// holds the file itself is taken by it, and its subfolders are not searched, unless one of theirs was written later: then
/// the sweep has gone on since it was collected. Other sweeps in its subfolders are not part of it.
///
/// # Errors
/// A path without such a file; a file that cannot be read, is empty, cut off or of another schema; a row
/// that occurs twice; a selected agent or environment that no run has. The message names the file, the line, the column, and what
/// to do.
pub fn runs(of: impl Into<Selection>, column: &str) -> Result<Vec<Run>> {
    let of = of.into();
    let mut table = Table::default();
    for path in &of.paths {
        for file in files(path, file_of(column))? {
            table.read(&file, column)?;
        }
    }
    let mut runs = table.finish()?;
    select(&mut runs, "agent", &of.agents, |run| &run.agent)?;
    select(&mut runs, "environment", &of.envs, |run| &run.env)?;
    Ok(runs)
}

/// Keeps the runs whose `name` is one of `names`, or all if there are none.
fn select(runs: &mut Vec<Run>, what: &str, names: &[String], name: impl Fn(&Run) -> &str) -> Result<()> {
    for wanted in names {
        if !runs.iter().any(|run| name(run) == wanted) {
            match nearest(wanted, runs.iter().map(&name)) {
                Some(near) => bail!("no run of {what} '{wanted}' here; did you mean '{near}'?"),
                None => bail!("no run of {what} '{wanted}' here"),
            }
        }
    }
    runs.retain(|run| names.is_empty() || names.iter().any(|wanted| wanted == name(run)));
    Ok(())
}

/// The files called `name` that `path` stands for.
pub fn files(path: &Path, name: &str) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if !path.exists() {
        bail!("{} does not exist; pass a run folder, a suite folder or a CSV file", path.display());
    }
    let mut found = Vec::new();
    walk(path, name, 8, &mut found)?;
    if found.is_empty() {
        bail!(
            "no {name} under {}; pass a folder that `steadfast train` or `steadfast sweep` wrote",
            path.display()
        );
    }
    Ok(found)
}

/// Depth is limited, so that a link to a parent folder ends.
fn walk(folder: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let file = folder.join(name);
    if file.is_file() {
        let mut cells = Vec::new();
        search(folder, name, depth, &mut cells)?;
        // What was exported into this folder is no cell, nor is what belongs to another sweep.
        let is_sweep = |inner: &Path| inner.join("manifest.jsonl").is_file();
        let of_another = |cell: &Path| cell.ancestors().skip(1).take_while(|a| *a != folder).any(is_sweep);
        cells.retain(|cell| cell.ends_with(name) && !of_another(cell));
        let time = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
        let collected = time(&file);
        if cells.iter().any(|cell| time(cell) > collected) {
            found.append(&mut cells);
        } else {
            found.push(file);
        }
        return Ok(());
    }
    search(folder, name, depth, found)
}

/// The files below a folder.
fn search(folder: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = folder.read_dir().with_context(|| format!("cannot list {}", folder.display()))?;
    let mut children = Vec::new();
    for entry in entries {
        children.push(entry.with_context(|| format!("cannot list {}", folder.display()))?.path());
    }
    children.sort();
    for child in children {
        let is_monitor = || child.file_name().is_some_and(|n| n.to_string_lossy().ends_with("monitor.csv"));
        if child.is_dir() {
            if depth > 0 {
                walk(&child, name, depth - 1, found)?;
            }
        } else if matches!(name, "eval.csv" | "episodes.csv") && is_monitor() {
            found.push(child);
        }
    }
    Ok(())
}

/// One cell with the key that makes its row unique within a run, and where it was read.
struct Cell {
    key: (u64, u64, u64),
    value: f64,
    file: usize,
    line: u64,
}

#[derive(Default)]
struct Table {
    files: Vec<PathBuf>,
    runs: Vec<(Run, Vec<Cell>)>,
    index: HashMap<(String, String, u64), usize>,
}

impl Table {
    fn read(&mut self, path: &Path, column: &str) -> Result<()> {
        self.files.push(path.to_owned());
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
        let mut input = BufReader::new(file);
        let first = input.fill_buf().with_context(|| format!("cannot read {shown}"))?.first().copied();
        match first {
            None => bail!("{shown} is empty; remove it, or run its cell again"),
            Some(b'#') => self.read_monitor(path, input, column),
            Some(_) => {
                let mut reader = csv::Reader::from_reader(input);
                let header = reader.headers().map_err(|e| malformed(path, &e))?.clone();
                let has = |name: &str| header.iter().any(|h| h == name);
                if has("global_step") && has("exp_name") {
                    self.read_long(path, reader, &header, column)
                } else if has("time/total_timesteps") {
                    self.read_progress(path, reader, &header, column)
                } else if has("r") && has("l") && !has("agent") {
                    self.read_episodes(path, reader, &header, column, UNKNOWN, 0)
                } else {
                    self.read_ours(path, reader, &header, column)
                }
            }
        }
    }

    fn read_ours(
        &mut self,
        path: &Path,
        mut reader: csv::Reader<impl std::io::Read>,
        header: &StringRecord,
        column: &str,
    ) -> Result<()> {
        let [agent, env, seed, step, value] =
            columns(path, header, ["agent", "env", "seed", "step", column])?;
        let find = |name| header.iter().position(|h| h == name);
        // With episodes as rows, several may end on one step.
        let episode = find("episode").map(|e| (e, find("agent_index")));
        let mut record = StringRecord::new();
        let mut current = usize::MAX;
        while reader.read_record(&mut record).map_err(|e| malformed(path, &e))? {
            let line = record.position().map_or(0, csv::Position::line);
            let cells = Cells { path, header, record: &record, line };
            let seed = cells.whole(seed)?;
            let (agent, env) = (cells.name(agent)?, cells.name(env)?);
            let same = |(run, _): &(Run, _)| run.seed == seed && run.agent == agent && run.env == env;
            if !self.runs.get(current).is_some_and(same) {
                current = self.run(env, agent, seed, episode.is_some());
            }
            let mut key = (cells.whole(step)?, 0, 0);
            if let Some((episode, agent_index)) = episode {
                key.1 = cells.whole(episode)?;
                key.2 = agent_index.map_or(Ok(0), |i| cells.whole(i))?;
            }
            let value = cells.number(value)?;
            self.push(current, key, value, line);
        }
        Ok(())
    }

    /// Stable-Baselines3: a line of JSON behind `#`, then episodes.
    fn read_monitor(&mut self, path: &Path, mut input: BufReader<File>, column: &str) -> Result<()> {
        let mut text = String::new();
        input.read_line(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
        let meta: serde_json::Value = serde_json::from_str(text.trim_start_matches('#'))
            .map_err(|e| anyhow!("{}: line 1: the text behind '#' is not JSON ({e})", path.display()))?;
        let env = meta["env_id"].as_str().unwrap_or(UNKNOWN);
        let start = input.stream_position().with_context(|| format!("cannot read {}", path.display()))?;
        let mut file = input.into_inner();
        file.seek(std::io::SeekFrom::Start(start))
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut reader = csv::Reader::from_reader(file);
        let header = reader.headers().map_err(|e| malformed(path, &e))?.clone();
        // The reader started behind the first line.
        self.read_episodes(path, reader, &header, column, env, 1)
    }

    /// Rows `r,l,t`: return, length, seconds. The file says neither agent nor seed; `ppo.monitor.csv` is agent `ppo`, and
    /// `ppo/0.monitor.csv` is its seed 0. `above` lines lie above the header.
    fn read_episodes(
        &mut self,
        path: &Path,
        mut reader: csv::Reader<impl std::io::Read>,
        header: &StringRecord,
        column: &str,
        env: &str,
        above: u64,
    ) -> Result<()> {
        let wanted = match column {
            "return_mean" | "return" => "r",
            "length_mean" | "length" => "l",
            _ => bail!("{} is a monitor file; it has 'return' and 'length', no '{column}'", path.display()),
        };
        let [value, length] = columns(path, header, [wanted, "l"])?;
        let (agent, seed) = monitor_name(path);
        let run = self.free_run(env, &agent, seed, true);
        let (mut record, mut steps, mut episode) = (StringRecord::new(), 0, 0);
        while reader.read_record(&mut record).map_err(|e| malformed(path, &e))? {
            let line = record.position().map_or(0, csv::Position::line) + above;
            let cells = Cells { path, header, record: &record, line };
            steps = cells
                .whole(length)?
                .checked_add(steps)
                .ok_or_else(|| cells.bad(length, "a number of steps"))?;
            episode += 1;
            let value = cells.number(value)?;
            self.push(run, (steps, episode, 0), value, line);
        }
        Ok(())
    }

    /// Stable-Baselines3's log: rows of many metrics, blank where one was not logged. `PPO/CartPole-v1_3/progress.csv` is
    /// agent `PPO` on `CartPole-v1`, seed 3; `PPO/progress.csv` is agent `PPO`.
    fn read_progress(
        &mut self,
        path: &Path,
        mut reader: csv::Reader<impl std::io::Read>,
        header: &StringRecord,
        column: &str,
    ) -> Result<()> {
        let names = match column {
            "return_mean" => &["eval/mean_reward", "rollout/ep_rew_mean"][..],
            "length_mean" => &["eval/mean_ep_length", "rollout/ep_len_mean"],
            "return" => &["rollout/ep_rew_mean"],
            "length" => &["rollout/ep_len_mean"],
            other => &[other],
        };
        let known = names.iter().find(|name| header.iter().any(|h| h == **name)).unwrap_or(&names[0]);
        let [step, value] = columns(path, header, ["time/total_timesteps", known])?;
        let name = |path: Option<&Path>| Some(path?.file_name()?.to_string_lossy().into_owned());
        let folder = path.parent();
        let (agent, env, seed) = match (name(folder), name(folder.and_then(Path::parent))) {
            (Some(run), Some(agent)) => match run.rsplit_once('_').map(|(env, n)| (env, n.parse())) {
                Some((env, Ok(seed))) => (agent, env.to_owned(), seed),
                _ => (run, UNKNOWN.to_owned(), 0),
            },
            (run, _) => (run.unwrap_or_else(|| "progress".to_owned()), UNKNOWN.to_owned(), 0),
        };
        let run = self.free_run(&env, &agent, seed, false);
        let (mut record, mut row) = (StringRecord::new(), 0);
        while reader.read_record(&mut record).map_err(|e| malformed(path, &e))? {
            let line = record.position().map_or(0, csv::Position::line);
            let cells = Cells { path, header, record: &record, line };
            row += 1;
            if let Some(value) = cells.number(value)? {
                let step = cells.count(step)?;
                self.push(run, (step, row, 0), Some(value), line);
            }
        }
        Ok(())
    }

    /// CleanRL's long form: a row an episode, or a row a logged metric.
    fn read_long(
        &mut self,
        path: &Path,
        mut reader: csv::Reader<impl std::io::Read>,
        header: &StringRecord,
        column: &str,
    ) -> Result<()> {
        let wanted = match column {
            "return_mean" | "return" => "charts/episodic_return",
            "length_mean" | "length" => "charts/episodic_length",
            other => other,
        };
        let [agent, env, seed, step, value] =
            columns(path, header, ["exp_name", "env_id", "seed", "global_step", wanted])?;
        let (mut record, mut row) = (StringRecord::new(), 0);
        while reader.read_record(&mut record).map_err(|e| malformed(path, &e))? {
            let line = record.position().map_or(0, csv::Position::line);
            let cells = Cells { path, header, record: &record, line };
            row += 1;
            if let Some(value) = cells.number(value)? {
                let run = self.run(cells.name(env)?, cells.name(agent)?, cells.count(seed)?, true);
                self.push(run, (cells.count(step)?, row, 0), Some(value), line);
            }
        }
        Ok(())
    }

    /// A new run of that agent on that environment, of the first free seed from `seed` on.
    fn free_run(&mut self, env: &str, agent: &str, mut seed: u64, episodic: bool) -> usize {
        while self.index.contains_key(&(env.to_owned(), agent.to_owned(), seed)) {
            seed += 1;
        }
        self.run(env, agent, seed, episodic)
    }

    /// Index of that run, new or known.
    fn run(&mut self, env: &str, agent: &str, seed: u64, episodic: bool) -> usize {
        let key = (env.to_owned(), agent.to_owned(), seed);
        *self.index.entry(key).or_insert_with(|| {
            let (env, agent) = (env.to_owned(), agent.to_owned());
            self.runs.push((Run { env, agent, seed, episodic, ..Run::default() }, Vec::new()));
            self.runs.len() - 1
        })
    }

    fn push(&mut self, run: usize, key: (u64, u64, u64), value: Option<f64>, line: u64) {
        let (run, cells) = &mut self.runs[run];
        match value {
            Some(value) => cells.push(Cell { key, value, file: self.files.len() - 1, line }),
            None => run.blank += 1,
        }
    }

    fn finish(mut self) -> Result<Vec<Run>> {
        self.runs.sort_by(|(a, _), (b, _)| (&a.env, &a.agent, a.seed).cmp(&(&b.env, &b.agent, b.seed)));
        let mut runs = Vec::with_capacity(self.runs.len());
        for (mut run, mut cells) in self.runs {
            cells.sort_by_key(|c| c.key);
            if let Some(pair) = cells.windows(2).find(|pair| pair[0].key == pair[1].key) {
                let place = |c: &Cell| format!("{}, line {}", self.files[c.file].display(), c.line);
                bail!(
                    "{}: step {} occurs twice, at {} and at {}; pass each run once, or remove one of the rows",
                    run.name(),
                    pair[0].key.0,
                    place(&pair[0]),
                    place(&pair[1]),
                );
            }
            run.x = cells.iter().map(|c| c.key.0 as f64).collect();
            run.y = cells.iter().map(|c| c.value).collect();
            runs.push(run);
        }
        Ok(runs)
    }
}

/// Agent and seed that a monitor file's name stands for.
fn monitor_name(path: &Path) -> (String, u64) {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = file.trim_end_matches(".csv").trim_end_matches("monitor").trim_end_matches('.');
    let folder = path.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    match (stem.parse(), folder) {
        (Ok(seed), Some(folder)) => (folder, seed),
        (_, Some(folder)) if stem.is_empty() => (folder, 0),
        _ if stem.is_empty() => ("monitor".to_owned(), 0),
        _ => (stem.to_owned(), 0),
    }
}

/// One row, with what a message about it needs.
struct Cells<'a> {
    path: &'a Path,
    header: &'a StringRecord,
    record: &'a StringRecord,
    line: u64,
}

impl<'a> Cells<'a> {
    fn get(&self, column: usize) -> &'a str {
        self.record.get(column).unwrap_or_default().trim()
    }

    fn bad(&self, column: usize, what: &str) -> anyhow::Error {
        let name = self.header.get(column).unwrap_or_default();
        let (file, line, text) = (self.path.display(), self.line, self.get(column));
        anyhow!("{file}: line {line}, column '{name}': '{text}' is not {what}; correct or remove that line")
    }

    fn name(&self, column: usize) -> Result<&'a str> {
        let text = self.get(column);
        if text.is_empty() { Err(self.bad(column, "a name")) } else { Ok(text) }
    }

    fn whole(&self, column: usize) -> Result<u64> {
        self.get(column).parse().map_err(|_| self.bad(column, "a whole number"))
    }

    /// A whole number that may be written as `1000.0`, as pandas does where a column has holes.
    fn count(&self, column: usize) -> Result<u64> {
        let text = self.get(column);
        text.strip_suffix(".0").unwrap_or(text).parse().map_err(|_| self.bad(column, "a whole number"))
    }

    /// `None` for a blank cell.
    fn number(&self, column: usize) -> Result<Option<f64>> {
        match self.get(column) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| self.bad(column, "a number")),
        }
    }
}

/// Positions of the columns of these names.
fn columns<const N: usize>(path: &Path, header: &StringRecord, names: [&str; N]) -> Result<[usize; N]> {
    let mut found = [0; N];
    for (i, name) in names.iter().enumerate() {
        found[i] = header.iter().position(|h| h == *name).ok_or_else(|| {
            let all: Vec<&str> = header.iter().collect();
            let (file, all) = (path.display(), all.join(", "));
            anyhow!("{file}: line 1: no column '{name}' among: {all}; {}", remedy(path, &names, header))
        })?;
    }
    Ok(found)
}

/// What to do about a file of another schema.
fn remedy(path: &Path, names: &[&str], header: &StringRecord) -> String {
    let wanted = names.last().copied().unwrap_or_default();
    if names.first() != Some(&"agent") {
        return "choose one of these columns".to_owned();
    }
    if !["agent", "env", "seed", "step"].iter().all(|name| header.iter().any(|h| h == *name)) {
        "this is not a file of ours, and none of Stable-Baselines3 or CleanRL".to_owned()
    } else if path.ends_with(file_of(wanted)) {
        "choose one of these columns, or another file".to_owned()
    } else {
        format!("'{wanted}' is in {}", file_of(wanted))
    }
}

fn malformed(path: &Path, error: &csv::Error) -> anyhow::Error {
    let file = path.display();
    let line = error.position().map_or(0, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => anyhow!(
            "{file}: line {line} has {len} columns where the header has {expected_len}; the file is cut off or \
             damaged: remove that line, or run its cell again"
        ),
        csv::ErrorKind::Utf8 { .. } => {
            anyhow!("{file}: line {line} is not UTF-8 text; this is not a CSV file of ours")
        }
        _ => anyhow!("{file}: cannot be read: {error}"),
    }
}
