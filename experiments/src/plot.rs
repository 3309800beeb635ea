//! What `steadfast plot` draws, as SVG, PNG, PDF or in the terminal.
//!
//! Learning curves are here: one panel an environment, one line an agent, the interquartile mean (or mean) over seeds
//! with its bootstrap interval as a band; the other [`Kind`]s are in `kinds.rs`. The drawing is our own SVG, so the bytes
//! depend on the data alone; a PNG or PDF is that SVG rendered with a font that is part of the binary, so it looks the
//! same on every machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use resvg::{tiny_skia, usvg};

use crate::settings::trained_on;
use crate::stats::{self, Statistic};
use crate::summary::read::{self, Run, Selection};

mod axis;
pub mod cli;
pub mod kinds;
mod pdf;
mod svg;
mod terminal;

/// Points of a curve whose runs share no grid of steps.
const POINTS: usize = 100;

/// Kinds of figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A column over training, a panel an environment
    #[default]
    Curves,
    /// Interquartile mean over all environments over training
    Aggregate,
    /// Interquartile mean, median, mean and optimality gap over all environments
    Intervals,
    /// Share of runs above each score, over all environments
    Profiles,
    /// Probability that one agent beats another
    Improvement,
    /// Score against an option of the agents
    Sensitivity,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Curves => "curves",
            Self::Aggregate => "aggregate",
            Self::Intervals => "intervals",
            Self::Profiles => "profiles",
            Self::Improvement => "improvement",
            Self::Sensitivity => "sensitivity",
        }
    }
}

/// The texts of a figure.
#[derive(Clone, Debug)]
pub struct Labels {
    /// Heading.
    pub title: Option<String>,
    /// What the horizontal axes show.
    pub x: String,
    /// Labels of the horizontal axis show values divided by this.
    pub unit: f64,
    /// Ticks of the horizontal axis instead of round numbers.
    pub ticks: Option<Vec<(f64, String)>>,
    /// What the vertical axes show.
    pub y: String,
    /// What lines, bands and bars are, of how many seeds, and how they were evaluated.
    pub caption: String,
}

impl Default for Labels {
    fn default() -> Self {
        let none = String::new;
        Self { title: None, x: none(), unit: 1.0, ticks: None, y: none(), caption: none() }
    }
}

/// A panel of intervals.
#[derive(Clone, Debug)]
pub struct IntervalPanel {
    /// Its heading.
    pub title: String,
    /// From the top.
    pub rows: Vec<IntervalRow>,
    /// Ends of the axis, with a line in the middle; the intervals decide where there are none.
    pub range: Option<(f64, f64)>,
}

/// One interval.
#[derive(Clone, Debug)]
pub struct IntervalRow {
    /// What it is of.
    pub name: String,
    /// The agent whose colour it has.
    pub look: String,
    /// Value and interval.
    pub estimate: stats::across::Estimate,
}

/// A figure that only needs to be drawn.
pub enum Figure {
    /// Lines with bands, a panel an environment.
    Lines(Vec<Curve>, Labels),
    /// Intervals side by side.
    Intervals(Vec<IntervalPanel>, Labels),
}

impl Figure {
    fn labels_mut(&mut self) -> &mut Labels {
        match self {
            Self::Lines(_, labels) | Self::Intervals(_, labels) => labels,
        }
    }

    /// As SVG.
    pub fn svg(&self) -> String {
        match self {
            Self::Lines(curves, labels) => svg::lines(curves, labels),
            Self::Intervals(panels, labels) => svg::intervals(panels, labels),
        }
    }

    /// As text, if it is one of lines.
    pub fn terminal(&self, color: bool) -> Option<String> {
        match self {
            Self::Lines(curves, labels) => Some(terminal::terminal(curves, labels, color)),
            Self::Intervals(..) => None,
        }
    }
}

/// What the horizontal axis shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum XAxis {
    /// Environment steps.
    #[default]
    Step,
    /// Wall time of training, from `timing.csv`.
    Wall,
}

/// What to draw, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Horizontal axis.
    pub x: XAxis,
    /// Column on the vertical axis: of `eval.csv` (`return_mean`), `episodes.csv` (`return`) or `train.csv`.
    pub y: String,
    /// Summary over seeds.
    pub statistic: Statistic,
    /// Title above all panels.
    pub title: Option<String>,
    /// Most points of a curve; a longer one shows this many of them, evenly spread, with the first and the last.
    pub points: usize,
}

impl Default for Options {
    fn default() -> Self {
        let y = "return_mean".to_owned();
        Self { x: XAxis::Step, y, statistic: Statistic::Iqm, title: None, points: usize::MAX }
    }
}

impl Options {
    /// The texts of a figure of `curves`.
    pub fn labels(&self, curves: &[Curve]) -> Labels {
        let longest = axis::bounds(curves.iter().flat_map(|c| &c.x)).1;
        let (x, unit) = match self.x {
            XAxis::Step => ("environment steps", 1.0),
            XAxis::Wall if longest > 2.0 * 3600.0 => ("wall time (hours)", 3600.0),
            XAxis::Wall if longest > 2.0 * 60.0 => ("wall time (minutes)", 60.0),
            XAxis::Wall => ("wall time (seconds)", 1.0),
        };
        Labels {
            title: self.title.clone(),
            x: x.to_owned(),
            unit,
            ticks: None,
            y: self.y_title(),
            caption: self.caption(curves),
        }
    }

    /// What the vertical axis shows.
    pub fn y_title(&self) -> String {
        match self.y.as_str() {
            "return_mean" => "greedy evaluation return".to_owned(),
            "return" => "episode return".to_owned(),
            "length_mean" => "evaluation episode length".to_owned(),
            "length" => "episode length".to_owned(),
            column => column.replace('_', " "),
        }
    }

    /// What line and band are, for the foot of the figure.
    fn caption(&self, curves: &[Curve]) -> String {
        let statistic = match self.statistic {
            Statistic::Iqm => "Interquartile mean",
            Statistic::Mean => "Mean",
            Statistic::Median => "Median",
        };
        let least = curves.iter().map(|c| c.seeds).min().unwrap_or(0);
        let most = curves.iter().map(|c| c.seeds).max().unwrap_or(0);
        let lines = match (least, most) {
            (_, 0 | 1) => "One seed: no interval.".to_owned(),
            (1, _) => format!(
                "{statistic} over 1 to {most} seeds; bands where there are several: 95 % bootstrap interval."
            ),
            _ if least == most => format!("{statistic} over {most} seeds; bands: 95 % bootstrap interval."),
            _ => format!("{statistic} over {least} to {most} seeds; bands: 95 % bootstrap interval."),
        };
        let episodes = || curves.iter().filter_map(|c| c.episodes);
        let (fewest, largest) =
            (episodes().map(|e| e.0).min().unwrap_or(0), episodes().map(|e| e.1).max().unwrap_or(0));
        match (fewest, largest) {
            (_, 0) => lines,
            (a, b) if a == b => format!("{lines} Evaluations: {a} greedy episodes."),
            (a, b) => format!("{lines} Evaluations: {a} to {b} greedy episodes."),
        }
    }
}

/// One agent on one environment, summarised over seeds. All vectors have one entry a point.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Environment.
    pub env: String,
    /// Agent.
    pub agent: String,
    /// Environment steps, or seconds.
    pub x: Vec<f64>,
    /// Statistic over seeds.
    pub centre: Vec<f64>,
    /// Lower end of its interval; the centre itself with one seed.
    pub low: Vec<f64>,
    /// Upper end of its interval; the centre itself with one seed.
    pub high: Vec<f64>,
    /// Number of seeds.
    pub seeds: usize,
    /// Fewest and most episodes of the evaluations behind a point, where they are known.
    pub episodes: Option<(u64, u64)>,
}

/// Reads and summarises the curves that are selected (see [`read::runs`]), sorted by environment and agent.
///
/// Seeds evaluated on one grid of steps are compared step by step, where all of them have a value; training
/// episodes are averaged over hundredths of the shortest run; anything else is interpolated. The second part
/// holds warnings: runs left out, values that are not finite, curves cut to their shortest run.
///
/// # Errors
/// As [`read::runs`]; without a single curve; for [`XAxis::Wall`] when a run has no `timing.csv`.
pub fn curves(of: impl Into<Selection>, options: &Options) -> Result<(Vec<Curve>, Vec<String>)> {
    let of = of.into();
    curves_of(read::runs(of.clone(), &options.y)?, &of.paths, options)
}

/// As [`curves`], of runs that were read from `paths` already.
///
/// # Errors
/// As [`curves`].
pub fn curves_of(
    mut runs: Vec<Run>,
    paths: &[PathBuf],
    options: &Options,
) -> Result<(Vec<Curve>, Vec<String>)> {
    let mut warnings = Vec::new();
    runs.retain_mut(|run| keep(run, &options.y, &mut warnings));
    for group in runs.chunk_by(|a, b| a.env == b.env && a.agent == b.agent) {
        name_the_short(group, &mut warnings);
    }
    if options.x == XAxis::Wall {
        use_wall_time(&mut runs, paths)?;
    }
    let episodes = if options.y == "return_mean" { episodes(paths) } else { BTreeMap::new() };
    let mut curves = Vec::new();
    for group in runs.chunk_by(|a, b| a.env == b.env && a.agent == b.agent) {
        let (env, agent) = (group[0].env.clone(), group[0].agent.clone());
        let (mut x, mut values) = align(group, options.x, &mut warnings);
        thin(&mut x, options.points);
        values.iter_mut().for_each(|values| thin(values, options.points));
        if x.is_empty() {
            warnings.push(format!("{agent} on {env}: its seeds have no range in common; left out"));
            continue;
        }
        let band = stats::band(&[values], options.statistic, stats::BAND_RESAMPLES, 0)
            .with_context(|| format!("{agent} on {env}: column '{}'", options.y))?;
        let episodes = episodes.get(&(env.clone(), agent.clone())).copied();
        curves.push(Curve {
            env,
            agent,
            x,
            centre: band.centre,
            low: band.low,
            high: band.high,
            seeds: group.len(),
            episodes,
        });
    }
    if curves.is_empty() {
        let why = warnings.first().map_or("the files hold no rows", String::as_str);
        bail!("nothing to draw for column '{}': {why}", options.y);
    }
    Ok((curves, warnings))
}

/// Keeps `most` entries (at least two), evenly spread from the first to the last.
pub fn thin(values: &mut Vec<f64>, most: usize) {
    if values.len() > most {
        let last = (values.len() - 1) as f64;
        *values = (0..most).map(|i| values[(i as f64 * last / (most - 1) as f64).round() as usize]).collect();
    }
}

/// Fewest and most episodes of an evaluation of each agent on each environment; files that do not say are left out.
fn episodes(paths: &[PathBuf]) -> BTreeMap<(String, String), (u64, u64)> {
    let mut found = BTreeMap::new();
    for run in read::runs(paths, "episodes").unwrap_or_default() {
        let (fewest, most) = found.entry((run.env, run.agent)).or_insert((u64::MAX, 0));
        for episodes in run.y {
            *fewest = (*fewest).min(episodes as u64);
            *most = (*most).max(episodes as u64);
        }
    }
    found
}

/// Drops values that cannot be drawn, and says so; false when nothing is left.
fn keep(run: &mut Run, column: &str, warnings: &mut Vec<String>) -> bool {
    let all = run.y.len();
    let points = run.x.iter().zip(&run.y).filter(|(_, y)| y.is_finite()).map(|(x, y)| (*x, *y));
    (run.x, run.y) = points.unzip();
    let lost = all - run.y.len();
    if lost > 0 {
        warnings
            .push(format!("{}: {lost} of {all} values of '{column}' are not finite; left out", run.name()));
    } else if all == 0 {
        warnings.push(format!("{}: no value of '{column}'; left out", run.name()));
    }
    !run.y.is_empty()
}

/// Replaces steps by the seconds at which they were reached.
fn use_wall_time(runs: &mut [Run], paths: &[PathBuf]) -> Result<()> {
    // A file stands for the folder it lies in.
    let folder = |path: &PathBuf| match path.parent() {
        Some(parent) if path.is_file() && parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) if path.is_file() => parent.to_owned(),
        _ => path.clone(),
    };
    let mut folders: Vec<PathBuf> = paths.iter().map(folder).collect();
    folders.sort();
    folders.dedup();
    let timings = read::runs(&folders, "wall_s").context("wall time needs timing.csv beside the results")?;
    for run in runs {
        let key = (trained_on(&run.env), run.agent.as_str(), run.seed);
        let place = timings.binary_search_by_key(&key, |t| (t.env.as_str(), t.agent.as_str(), t.seed));
        let timing = place.map_err(|_| {
            anyhow!("{}: no timing.csv; draw over steps, or keep the run folders together", run.name())
        })?;
        let timing = &timings[timing];
        // Training starts at step 0 and second 0; behind the last row it goes on at the last rate.
        let mut clock: Vec<(f64, f64)> = vec![(0.0, 0.0)];
        clock.extend(
            timing.x.iter().copied().zip(timing.y.iter().copied()).filter(|(x, y)| *x > 0.0 && y.is_finite()),
        );
        if clock.len() < 2 {
            bail!("{}: its timing.csv holds no row; draw over steps", run.name());
        }
        run.x.iter_mut().for_each(|x| *x = interpolate(&clock, *x));
    }
    Ok(())
}

/// The piecewise linear function through `points` (at least two, increasing) at `x`; it goes on straight
/// beyond the ends.
fn interpolate(points: &[(f64, f64)], x: f64) -> f64 {
    let i = points.partition_point(|p| p.0 < x).clamp(1, points.len() - 1);
    let ((x0, y0), (x1, y1)) = (points[i - 1], points[i]);
    if x1 > x0 { y0 + (y1 - y0) * (x - x0) / (x1 - x0) } else { y1 }
}

/// Brings the seeds of one agent on one environment to common points: `x`, and values `[seed][point]`.
fn align(runs: &[Run], axis: XAxis, warnings: &mut Vec<String>) -> (Vec<f64>, Vec<Vec<f64>>) {
    if runs.iter().any(|run| run.episodic) {
        return bins(runs);
    }
    let most = runs.iter().map(|run| run.x.len()).max().unwrap_or(0);
    let fewest = runs.iter().map(|run| run.x.len()).min().unwrap_or(0);
    let common = common_steps(runs);
    if axis == XAxis::Step && 2 * common.len() > fewest {
        if common.len() < fewest {
            let (agent, env, n) = (&runs[0].agent, &runs[0].env, common.len());
            warnings.push(format!(
                "{agent} on {env}: seeds have values at different steps; the {n} in common are drawn"
            ));
        }
        let values = runs.iter().map(|run| at_steps(run, &common)).collect();
        return (common, values);
    }
    // No common grid: one of our own over the range that all seeds cover.
    let start = runs.iter().filter_map(|run| run.x.first()).copied().fold(f64::NEG_INFINITY, f64::max);
    let end = runs.iter().filter_map(|run| run.x.last()).copied().fold(f64::INFINITY, f64::min);
    if start > end || runs.iter().any(|run| run.x.len() < 2) {
        return (vec![], vec![]);
    }
    let points = most.clamp(2, POINTS);
    let x: Vec<f64> = (0..points).map(|i| start + (end - start) * i as f64 / (points - 1) as f64).collect();
    let values = |run: &Run| {
        let points: Vec<(f64, f64)> = run.x.iter().copied().zip(run.y.iter().copied()).collect();
        x.iter().map(|&x| interpolate(&points, x)).collect()
    };
    let values = runs.iter().map(values).collect();
    (x, values)
}

/// Says which seeds end early, since a curve ends with its shortest seed.
fn name_the_short(runs: &[Run], warnings: &mut Vec<String>) {
    let last = |run: &Run| run.x.last().copied().unwrap_or(0.0);
    let longest = runs.iter().map(last).fold(0.0, f64::max);
    // Episodes, and with them some agents' iterations, end where they end.
    for run in runs.iter().filter(|run| last(run) < 0.95 * longest) {
        let (name, end) = (run.name(), last(run));
        warnings.push(format!("{name}: ends at step {end}, others reach {longest}; the curve ends with it"));
    }
}

/// Steps at which every run has a value.
fn common_steps(runs: &[Run]) -> Vec<f64> {
    let mut common = runs[0].x.clone();
    for run in &runs[1..] {
        common.retain(|x| run.x.binary_search_by(|other| other.total_cmp(x)).is_ok());
    }
    common
}

/// Values of `run` at `steps`, all of which it has.
fn at_steps(run: &Run, steps: &[f64]) -> Vec<f64> {
    let mut points = run.x.iter().zip(&run.y);
    steps.iter().filter_map(|step| points.find(|(x, _)| *x == step)).map(|(_, y)| *y).collect()
}

/// Means of the episodes that ended in each of at most [`POINTS`] equal parts of the shortest run; nothing where another
/// run's first episode ends after that.
fn bins(runs: &[Run]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let end = runs.iter().filter_map(|run| run.x.last()).copied().fold(f64::INFINITY, f64::min);
    if runs.iter().any(|run| run.x.first().is_none_or(|first| *first > end)) {
        return (vec![], vec![]);
    }
    let fewest = runs.iter().map(|run| run.x.len()).min().unwrap_or(0);
    let count = fewest.clamp(1, POINTS);
    let middle = |bin: usize| (bin as f64 + 0.5) * end / count as f64;
    let values = |run: &Run| {
        let mut sums = vec![(0.0, 0.0); count];
        for (x, y) in run.x.iter().zip(&run.y).filter(|(x, _)| **x <= end) {
            // A bin holds its right end; multiplied first, so that whole steps meet it exactly.
            let bin = (x * count as f64 / end).ceil() as usize;
            let (sum, episodes) = &mut sums[bin.clamp(1, count) - 1];
            *sum += y;
            *episodes += 1.0;
        }
        let full = sums.iter().enumerate().filter(|(_, (_, episodes))| *episodes > 0.0);
        let mut points: Vec<(f64, f64)> =
            full.map(|(bin, (sum, episodes))| (middle(bin), sum / episodes)).collect();
        // A part without an episode lies on the line between its neighbours, level at the ends.
        if let (Some(&first), Some(&last)) = (points.first(), points.last()) {
            points.insert(0, (0.0, first.1));
            points.push((end, last.1));
        }
        (0..count).map(|bin| interpolate(&points, middle(bin))).collect()
    };
    let values = runs.iter().map(values).collect();
    ((0..count).map(middle).collect(), values)
}

/// Colour (`#rrggbb`) and dashes (as SVG's `stroke-dasharray`) of the lines of each agent in a figure of all `names`, sorted.
pub fn looks(names: &[&str]) -> Vec<(&'static str, &'static str)> {
    svg::looks(names).into_iter().map(svg::look).collect()
}

/// Draws `curves` and writes the figure to `path` ([`save`]).
///
/// # Errors
/// As [`save`].
pub fn write(path: &Path, curves: &[Curve], options: &Options) -> Result<()> {
    save(path, &svg::lines(curves, &options.labels(curves)))
}

/// Writes an SVG to `path`, as its extension says: `.svg`, `.png` or `.pdf`.
///
/// # Errors
/// For another extension, and when the file cannot be written.
pub fn save(path: &Path, svg: &str) -> Result<()> {
    let bytes = match path.extension().and_then(|e| e.to_str()).map(str::to_lowercase).as_deref() {
        Some("svg") => svg.as_bytes().to_vec(),
        Some("png") => png(&parsed(svg)?)?,
        Some("pdf") => pdf::pdf(&parsed(svg)?)?,
        _ => bail!("{}: a figure is .svg, .png or .pdf", path.display()),
    };
    // First beside it, so that there is never half a figure.
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.tmp", std::process::id()));
    let written = std::fs::write(&draft, bytes).and_then(|()| std::fs::rename(&draft, path));
    if written.is_err() {
        std::fs::remove_file(&draft).ok();
    }
    written.with_context(|| format!("cannot write {}; does its folder exist?", path.display()))
}

/// An SVG with its text as outlines of the bundled font.
fn parsed(svg: &str) -> Result<usvg::Tree> {
    let mut options = usvg::Options { font_family: svg::FONT.to_owned(), ..usvg::Options::default() };
    for font in [notosans::REGULAR_TTF, notosans::BOLD_TTF] {
        options.fontdb_mut().load_font_data(font.to_vec());
    }
    usvg::Tree::from_str(svg, &options).context("the figure is not valid SVG")
}

/// Renders a figure at twice its size.
fn png(tree: &usvg::Tree) -> Result<Vec<u8>> {
    const SCALE: f32 = 2.0;
    let side = |length: f32| (length * SCALE).ceil() as u32;
    let (width, height) = (side(tree.size().width()), side(tree.size().height()));
    let mut image = tiny_skia::Pixmap::new(width, height)
        .ok_or_else(|| anyhow!("a figure of {width} x {height} pixels is too large; write .svg"))?;
    resvg::render(tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut image.as_mut());
    image.encode_png().context("cannot encode the figure")
}

#[cfg(test)]
mod tests;
