//! What a report shows, as JSON. Every number that the page prints or draws is computed here, by the code that `summary` and
//! `plot` use.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::plot::{self, Curve, Figure, IntervalPanel, Labels, Options, XAxis, kinds};
use crate::settings::RunSettings;
use crate::stats::across::{Bootstrap, Method};
use crate::summary::across::{self, Scale};
use crate::summary::read::{self, Run};
use crate::summary::{self, Score, SummaryRow};
use crate::sweep::cell::repeat_command;
use crate::sweep::plan::Manifest;
use crate::sweep::status::{self, CellStatus};
use crate::train::{self, Status};

/// Most points of a curve on the page.
const POINTS: usize = 200;
/// Numbers of each of four parts of the page, some 7 bytes each, beyond which curves have fewer points: curves of returns
/// and of metrics of training, of all agents and of single runs.
const NUMBERS: usize = 140_000;
/// Bytes of one picture, and of all, that are put into the page.
const PICTURE: u64 = 700_000;
const PICTURES: u64 = 1_500_000;
/// Agents up to which every one is compared with every other.
const ALL_PAIRS: usize = 8;

/// What to report on.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// CSV files, run folders or folders of sweeps.
    pub paths: Vec<PathBuf>,
    /// Heading; the sweep's title, or the folder's name, where there is none.
    pub title: Option<String>,
    /// Scores to normalise by.
    pub scales: BTreeMap<String, Scale>,
    /// The agent that the others are compared with.
    pub baseline: Option<String>,
}

/// The whole page.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Heading.
    pub title: String,
    version: &'static str,
    agents: Vec<Look>,
    envs: Vec<String>,
    /// Horizontal coordinates that lines share.
    grids: Vec<Vec<Short>>,
    columns: Vec<Column>,
    summary: Vec<SummaryRow>,
    views: Vec<View>,
    /// Why views are missing, and what they leave out.
    view_notes: Vec<String>,
    warnings: Vec<String>,
    runs: Vec<RunEntry>,
    /// Options of the runs, each once.
    configs: Vec<Value>,
    cells: Vec<CellStatus>,
}

/// A number of five digits, which is more than a screen shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Short(pub f64);

impl Serialize for Short {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let short: f64 = format!("{:.4e}", self.0).parse().unwrap_or(f64::NAN);
        // Steps keep all their digits.
        match self.0 {
            v if v.fract() == 0.0 && v.abs() < 1e15 => serializer.serialize_i64(v as i64),
            _ if short.fract() == 0.0 && short.abs() < 1e15 => serializer.serialize_i64(short as i64),
            _ => serializer.serialize_f64(short),
        }
    }
}

fn short(values: &[f64]) -> Vec<Short> {
    values.iter().copied().map(Short).collect()
}

/// An agent, and how `plot` draws it.
#[derive(Debug, Serialize)]
struct Look {
    name: String,
    color: &'static str,
    dash: &'static str,
}

/// The curves of a column of the result files.
#[derive(Debug, Serialize)]
struct Column {
    name: String,
    title: String,
    step: Axis,
    wall: Option<Axis>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Axis {
    label: String,
    /// The axis shows values divided by this.
    unit: f64,
    caption: String,
    lines: Vec<Line>,
}

/// A curve; agent, environment and grid are places in the lists of the report.
#[derive(Debug, Serialize)]
struct Line {
    agent: usize,
    env: usize,
    seeds: usize,
    grid: usize,
    centre: Vec<Short>,
    #[serde(skip_serializing_if = "Option::is_none")]
    low: Option<Vec<Short>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    high: Option<Vec<Short>>,
}

/// A figure across environments.
#[derive(Debug, Serialize)]
struct View {
    kind: &'static str,
    title: &'static str,
    x: String,
    y: String,
    caption: String,
    lines: Vec<Line>,
    panels: Vec<Panel>,
}

#[derive(Debug, Serialize)]
struct Panel {
    title: String,
    range: Option<(f64, f64)>,
    rows: Vec<PanelRow>,
}

#[derive(Debug, Serialize)]
struct PanelRow {
    name: String,
    agent: usize,
    value: f64,
    low: f64,
    high: f64,
}

/// One run.
#[derive(Debug, Default, Serialize)]
struct RunEntry {
    agent: usize,
    env: usize,
    seed: u64,
    grid: usize,
    returns: Vec<Short>,
    /// `done`, `diverged`, `unfinished`, or `unknown` without a run folder.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    step: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_s: Option<f64>,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<usize>,
    /// Metrics of training: name, grid, values.
    metrics: Vec<(String, usize, Vec<Short>)>,
    pictures: Vec<Picture>,
}

#[derive(Clone, Debug, Serialize)]
struct Picture {
    name: String,
    /// As `data:` address; absent when it is too large.
    data: Option<String>,
}

/// What is known of a run beside its rows.
#[derive(Clone, Debug)]
struct Detail {
    settings: RunSettings,
    command: String,
    origin: Option<String>,
    result: Option<train::RunResult>,
    status: &'static str,
    pictures: Vec<Picture>,
}

type Key = (String, String, u64);

/// A column of the result files, by its name.
type Named = (String, Vec<Run>);

/// The curves of a column over one axis, and remarks.
type Drawn = (Vec<Curve>, Options, Vec<String>);

/// Places in the report's lists.
#[derive(Default)]
struct Index {
    agents: HashMap<String, usize>,
    envs: HashMap<String, usize>,
    grids: HashMap<Vec<u64>, usize>,
    coordinates: Vec<Vec<Short>>,
}

impl Index {
    fn grid(&mut self, x: &[f64]) -> usize {
        let next = self.coordinates.len();
        let bits = x.iter().map(|x| x.to_bits()).collect();
        let place = *self.grids.entry(bits).or_insert(next);
        if place == next {
            self.coordinates.push(short(x));
        }
        place
    }

    fn agent(&self, name: &str) -> usize {
        self.agents.get(name).copied().unwrap_or(0)
    }

    fn line(&mut self, curve: &Curve) -> Line {
        let band = curve.seeds > 1;
        Line {
            agent: self.agent(&curve.agent),
            env: self.envs.get(&curve.env).copied().unwrap_or(0),
            seeds: curve.seeds,
            grid: self.grid(&curve.x),
            centre: short(&curve.centre),
            low: band.then(|| short(&curve.low)),
            high: band.then(|| short(&curve.high)),
        }
    }

    fn axis(&mut self, curves: &[Curve], options: &Options) -> Axis {
        let Labels { x, unit, caption, .. } = options.labels(curves);
        Axis { label: x, unit, caption, lines: curves.iter().map(|c| self.line(c)).collect() }
    }
}

/// Assembles a report.
///
/// # Errors
/// As [`summary::summarise`], and for a damaged `run.toml`, `result.json` or `train.csv`.
pub fn assemble(source: &Source) -> Result<Report> {
    let paths = &source.paths;
    let (rows, warnings) = summary::summarise(paths)?;
    let runs = read::runs(paths, "return_mean")?;
    let details = details(paths)?;

    let names: BTreeSet<&str> = runs.iter().map(|run| run.agent.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let envs: BTreeSet<&str> = runs.iter().map(|run| run.env.as_str()).collect();
    let envs: Vec<String> = envs.into_iter().map(str::to_owned).collect();
    let mut index = Index {
        agents: names.iter().enumerate().map(|(i, name)| ((*name).to_owned(), i)).collect(),
        envs: envs.iter().enumerate().map(|(i, env)| (env.clone(), i)).collect(),
        ..Index::default()
    };
    let looks = names.iter().zip(plot::looks(&names));
    let agents: Vec<Look> =
        looks.map(|(name, (color, dash))| Look { name: (*name).to_owned(), color, dash }).collect();

    let groups = runs.chunk_by(|a, b| a.env == b.env && a.agent == b.agent).count();
    let (columns, raw) = columns(paths, runs.clone(), groups, &mut index)?;
    let (views, view_notes) = views(source, &mut index, names.len());
    let (runs, configs) = entries(&runs, &details, &raw, &mut index);
    let mut cells = Vec::new();
    for path in paths {
        // Without run folders, as in published results, all cells would seem to be missing.
        if let Ok(manifest) = Manifest::read(&Manifest::path(path))
            && read::files(path, "run.toml").is_ok()
        {
            cells.extend(status::all(&manifest, path)?);
        }
    }
    let title = source.title.clone().unwrap_or_else(|| title(paths));
    Ok(Report {
        title,
        version: env!("CARGO_PKG_VERSION"),
        agents,
        envs,
        grids: index.coordinates,
        columns,
        summary: rows,
        views,
        view_notes,
        warnings,
        runs,
        configs,
        cells,
    })
}

/// Title of the sweep in the first folder, or its name.
fn title(paths: &[PathBuf]) -> String {
    let Some(path) = paths.first() else { return String::new() };
    let header = fs::read_to_string(Manifest::path(path)).ok();
    let header: Option<Value> = header.as_deref().and_then(|t| serde_json::from_str(t.lines().next()?).ok());
    let said = header.and_then(|header| header["title"].as_str().map(str::to_owned));
    said.filter(|title| paths.len() == 1 && !title.is_empty()).unwrap_or_else(|| {
        let whole = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        whole.file_name().map_or_else(|| "Report".to_owned(), |name| name.to_string_lossy().into_owned())
    })
}

/// Whether every path has that file.
fn all_have(paths: &[PathBuf], file: &str) -> bool {
    paths.iter().all(|path| path.is_dir() && read::files(path, file).is_ok())
}

/// Columns of `train.csv` that hold metrics.
fn metrics(paths: &[PathBuf]) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    if !all_have(paths, "train.csv") {
        return Ok(found);
    }
    for path in paths {
        for file in read::files(path, "train.csv")? {
            let mut reader =
                csv::Reader::from_path(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let header = reader.headers().with_context(|| format!("cannot read {}", file.display()))?;
            for name in header.iter() {
                let key = ["agent", "env", "seed", "step", "iteration"].contains(&name);
                if !key && !found.iter().any(|known| known == name) {
                    found.push(name.to_owned());
                }
            }
        }
    }
    Ok(found)
}

/// The curves of all columns, and the runs behind those of training.
fn columns(
    paths: &[PathBuf],
    returns: Vec<Run>,
    groups: usize,
    index: &mut Index,
) -> Result<(Vec<Column>, Vec<Named>)> {
    let metrics = metrics(paths)?;
    let lengths =
        if has_column(paths, "eval.csv", "length_mean") { read::runs(paths, "length_mean")? } else { vec![] };
    let mut wanted = vec![("return_mean".to_owned(), returns), ("length_mean".to_owned(), lengths)];
    if all_have(paths, "episodes.csv") {
        // The file of a run that finished no episode is empty.
        if let Ok(runs) = read::runs(paths, "return") {
            wanted.push(("return".to_owned(), runs));
        }
    }
    for name in &metrics {
        wanted.push((name.clone(), read::runs(paths, name)?));
    }
    wanted.retain(|(_, runs)| runs.iter().any(|run| run.y.iter().any(|y| y.is_finite())));
    let wall = all_have(paths, "timing.csv");
    // Three numbers a point, over steps and over time.
    let most = |columns: usize| (NUMBERS / (6 * groups * columns).max(1)).clamp(12, POINTS);
    let few = most(metrics.len());
    let points = most(wanted.len() - wanted.iter().filter(|(name, _)| metrics.contains(name)).count());
    let axes: Vec<XAxis> = if wall { vec![XAxis::Step, XAxis::Wall] } else { vec![XAxis::Step] };
    let draw = |(name, runs): &Named| -> Result<Vec<Drawn>> {
        let points = if metrics.contains(name) { few } else { points };
        let mut drawn = Vec::new();
        for x in &axes {
            let options = Options { x: *x, y: name.clone(), points, ..Options::default() };
            match plot::curves_of(runs.clone(), paths, &options) {
                Ok((curves, notes)) => drawn.push((curves, options, notes)),
                Err(error) if drawn.is_empty() => return Err(error),
                // The page does without the clock.
                Err(_) => {}
            }
        }
        Ok(drawn)
    };
    let drawn = in_parallel(&wanted, &draw);
    let mut columns = Vec::new();
    for ((name, _), drawn) in wanted.iter().zip(drawn) {
        // Nothing to draw, such as a single evaluation that diverged, is no reason to hide the rest.
        let Ok(drawn) = drawn else { continue };
        let Some((curves, options, notes)) = drawn.first() else { continue };
        let wall = drawn.get(1).map(|(curves, options, _)| index.axis(curves, options));
        let step = index.axis(curves, options);
        let (title, notes) = (options.y_title(), notes.clone());
        columns.push(Column { name: name.clone(), title, step, wall, notes });
    }
    let raw = wanted.into_iter().filter(|(name, _)| metrics.contains(name)).collect();
    Ok((columns, raw))
}

/// Whether every file of that name has the column.
fn has_column(paths: &[PathBuf], file: &str, column: &str) -> bool {
    let has = |path: &PathBuf| {
        let reader = csv::Reader::from_path(path).ok();
        reader.and_then(|mut r| Some(r.headers().ok()?.iter().any(|h| h == column))).unwrap_or(false)
    };
    paths.iter().all(|path| read::files(path, file).is_ok_and(|files| files.iter().all(has)))
}

/// `work` of each item, on all cores.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: &(impl Fn(&T) -> R + Sync)) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let worker = |first: usize| {
            scope.spawn(move || {
                let mine = items.iter().enumerate().skip(first).step_by(cores);
                mine.map(|(i, item)| (i, work(item))).collect::<Vec<_>>()
            })
        };
        let workers: Vec<_> = (0..cores).map(worker).collect();
        let joined = workers.into_iter().map(|w| w.join());
        joined.flat_map(|found| found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Figures across environments, and why some are missing.
fn views(source: &Source, index: &mut Index, agents: usize) -> (Vec<View>, Vec<String>) {
    let Source { paths, scales, baseline, .. } = source;
    let bootstrap = Bootstrap { method: Method::Percentile, resamples: across::RESAMPLES, seed: 0 };
    let (mut views, mut notes) = (Vec::new(), Vec::new());
    let kinds = ["intervals", "aggregate", "profiles", "improvement"];
    let draw = |kind: &&str| match *kind {
        "intervals" => Some(kinds::intervals(paths, Score::Final, scales, bootstrap)),
        "aggregate" => Some(kinds::aggregate(paths, scales)),
        "profiles" => Some(kinds::profiles(paths, Score::Final, scales)),
        _ if agents < 2 || (agents > ALL_PAIRS && baseline.is_none()) => None,
        _ => Some(kinds::improvement(paths, Score::Final, baseline.as_deref(), bootstrap)),
    };
    let titles = [
        "Scores over all environments",
        "Interquartile mean while training goes on",
        "Performance profiles",
        "Probability of improvement",
    ];
    for ((kind, title), drawn) in kinds.into_iter().zip(titles).zip(in_parallel(&kinds, &draw)) {
        match drawn {
            Some(Ok((figure, warnings))) => {
                notes.extend(warnings);
                views.push(view(kind, title, &figure, index));
            }
            Some(Err(error)) => notes.push(format!("{title}: {error:#}")),
            None if agents > ALL_PAIRS => notes.push(format!(
                "{title}: with more than {ALL_PAIRS} agents every one is compared with --baseline AGENT"
            )),
            None => {}
        }
    }
    // Each figure says the same of the scores that it leaves out.
    let mut seen = BTreeSet::new();
    notes.retain(|note| seen.insert(note.clone()));
    (views, notes)
}

fn view(kind: &'static str, title: &'static str, figure: &Figure, index: &mut Index) -> View {
    let (labels, curves, panels): (&Labels, &[Curve], &[IntervalPanel]) = match figure {
        Figure::Lines(curves, labels) => (labels, curves, &[]),
        Figure::Intervals(panels, labels) => (labels, &[], panels),
    };
    let panel = |panel: &IntervalPanel| {
        let rows = panel.rows.iter().map(|row| PanelRow {
            name: row.name.clone(),
            agent: index.agent(&row.look),
            value: row.estimate.value,
            low: row.estimate.low,
            high: row.estimate.high,
        });
        Panel { title: panel.title.clone(), range: panel.range, rows: rows.collect() }
    };
    let panels = panels.iter().map(panel).collect();
    let (x, y, caption) = (labels.x.clone(), labels.y.clone(), labels.caption.clone());
    View { kind, title, x, y, caption, lines: curves.iter().map(|c| index.line(c)).collect(), panels }
}

/// What run folders say, and where there are none the sweep's manifest.
fn details(paths: &[PathBuf]) -> Result<HashMap<Key, Detail>> {
    let mut found: HashMap<Key, Detail> = HashMap::new();
    let mut room = PICTURES;
    for path in paths {
        let folder = match path.parent() {
            Some(parent) if path.is_file() && parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) if path.is_file() => parent,
            _ => path,
        };
        for file in read::files(folder, "run.toml").unwrap_or_default() {
            let run = file.parent().unwrap_or(folder);
            let train::RunFile { settings, provenance } = train::read_run(run)?;
            let result = train::read_result(run)?;
            let key = (settings.label.clone(), settings.env.clone(), settings.seed);
            // A cell may have a working folder beside its finished one.
            if result.is_none() && found.contains_key(&key) {
                continue;
            }
            let status = match result.as_ref().map(|r| r.status) {
                Some(Status::Done) => "done",
                Some(Status::Diverged) => "diverged",
                None => "unfinished",
            };
            let p = provenance;
            let mut origin = format!("version {} on {}", p.version, p.host);
            if !p.git.is_empty() {
                origin = format!("{origin}, revision {}", p.git);
            }
            let (command, origin) = (p.command, Some(origin));
            let pictures = pictures(run, &mut room)?;
            found.insert(key, Detail { settings, command, origin, result, status, pictures });
        }
        if found.is_empty() && Manifest::path(folder).is_file() {
            for settings in kinds::settings(&[folder.to_owned()])? {
                let key = (settings.label.clone(), settings.env.clone(), settings.seed);
                let command = repeat_command(&settings);
                let (origin, result, pictures) = (None, None, vec![]);
                found.insert(key, Detail { settings, command, origin, result, status: "unknown", pictures });
            }
        }
    }
    Ok(found)
}

/// The pictures in a run's folder; those that are too large by name only.
fn pictures(run: &Path, room: &mut u64) -> Result<Vec<Picture>> {
    let shown = || format!("cannot read {}", run.display());
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in run.read_dir().with_context(shown)? {
        files.push(entry.with_context(shown)?.path());
    }
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let kind = match file.extension().and_then(|e| e.to_str()).map(str::to_lowercase).as_deref() {
            Some("gif") => "gif",
            Some("png") => "png",
            _ => continue,
        };
        let size = file.metadata().with_context(shown)?.len();
        let data = if size <= PICTURE.min(*room) {
            *room -= size;
            let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            Some(format!("data:image/{kind};base64,{}", STANDARD.encode(bytes)))
        } else {
            None
        };
        let name = match &data {
            Some(_) => file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            None => file.display().to_string(),
        };
        found.push(Picture { name, data });
    }
    Ok(found)
}

/// The runs, and the options that they share.
fn entries(
    runs: &[Run],
    details: &HashMap<Key, Detail>,
    raw: &[Named],
    index: &mut Index,
) -> (Vec<RunEntry>, Vec<Value>) {
    let most = |columns: usize| (NUMBERS / (runs.len() * columns).max(1)).clamp(8, POINTS);
    let (evaluations, points) = (most(1), most(raw.len()));
    let of: Vec<HashMap<(&str, &str, u64), &Run>> = raw
        .iter()
        .map(|(_, runs)| runs.iter().map(|r| ((r.agent.as_str(), r.env.as_str(), r.seed), r)).collect())
        .collect();
    let mut configs: Vec<Value> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut entries = Vec::new();
    for run in runs {
        let (mut x, mut y) = (run.x.clone(), run.y.clone());
        plot::thin(&mut x, evaluations);
        plot::thin(&mut y, evaluations);
        let mut entry = RunEntry {
            agent: index.agent(&run.agent),
            env: index.envs.get(&run.env).copied().unwrap_or(0),
            seed: run.seed,
            grid: index.grid(&x),
            returns: short(&y),
            status: "unknown",
            step: run.x.last().map_or(0, |x| *x as u64),
            ..RunEntry::default()
        };
        for ((name, _), runs) in raw.iter().zip(&of) {
            let Some(metric) = runs.get(&(run.agent.as_str(), run.env.as_str(), run.seed)) else { continue };
            let (mut x, mut y) = (metric.x.clone(), metric.y.clone());
            plot::thin(&mut x, points);
            plot::thin(&mut y, points);
            if !y.is_empty() {
                entry.metrics.push((name.clone(), index.grid(&x), short(&y)));
            }
        }
        if let Some(detail) = details.get(&(run.agent.clone(), run.env.clone(), run.seed)) {
            entry.status = detail.status;
            entry.steps = Some(detail.settings.steps);
            entry.command = Some(detail.command.clone());
            entry.origin.clone_from(&detail.origin);
            entry.pictures.clone_from(&detail.pictures);
            if let Some(result) = &detail.result {
                entry.reason.clone_from(&result.reason);
                entry.step = result.step;
                entry.wall_s = Some(result.wall_s);
                entry.warnings.clone_from(&result.warnings);
            }
            let mut config = serde_json::to_value(&detail.settings).unwrap_or(Value::Null);
            if let Some(object) = config.as_object_mut() {
                object.remove("seed");
            }
            let place = *known.entry(config.to_string()).or_insert(configs.len());
            if place == configs.len() {
                configs.push(config);
            }
            entry.config = Some(place);
        }
        entries.push(entry);
    }
    (entries, configs)
}
