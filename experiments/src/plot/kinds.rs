//! Figures across environments and over options: everything but learning curves of single environments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Curve, Figure, IntervalPanel, IntervalRow, Labels, interpolate};
use crate::settings::RunSettings;
use crate::stats::across::{Aggregate, Bootstrap, Estimate};
use crate::stats::{self, Statistic};
use crate::summary::Score;
use crate::summary::across::{self, Scale, Scores};
use crate::summary::by::parts;
use crate::summary::read::{self, Run, Selection};
use crate::train;

/// Scores that every agent has, normalised, with what was left out.
fn common(
    of: impl Into<Selection>,
    score: Score,
    scales: &BTreeMap<String, Scale>,
) -> Result<(Scores, Vec<String>)> {
    let (scores, mut warnings) = Scores::read(of, score)?;
    let scores = scores.common(scales, &mut warnings)?;
    Ok((scores, warnings))
}

/// What a score is.
fn named(score: Score) -> &'static str {
    match score {
        Score::Final => "last greedy evaluation",
        Score::Auc => "mean height of the greedy evaluations",
    }
}

/// `5 environments`.
fn count(scores: &Scores) -> String {
    match scores.envs().len() {
        1 => "1 environment".to_owned(),
        n => format!("{n} environments"),
    }
}

/// `5 environments x 5 seeds`, and what scores and intervals are.
fn protocol(scores: &Scores, score: &str) -> String {
    let counts = || scores.agents.values().flat_map(BTreeMap::values).map(BTreeMap::len);
    let (fewest, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
    let seeds = if fewest == most { fewest.to_string() } else { format!("{fewest} to {most}") };
    let envs = count(scores);
    format!(
        "{envs} x {seeds} seeds; score: {score}, 0 random and 1 reference; 95 % stratified bootstrap intervals."
    )
}

/// Interquartile mean over all runs of all environments while training goes on (`--kind aggregate`). The horizontal axis is
/// the share of each environment's steps, or steps where all environments have the same.
///
/// # Errors
/// As [`Scores::read`] and [`Scores::common`].
pub fn aggregate(
    of: impl Into<Selection>,
    scales: &BTreeMap<String, Scale>,
) -> Result<(Figure, Vec<String>)> {
    let of = of.into();
    let (scores, warnings) = common(of.clone(), Score::Final, scales)?;
    let runs = read::runs(of, "return_mean")?;
    let kept = |run: &&Run| {
        let seeds = scores.agents.get(&run.agent).and_then(|tasks| tasks.get(&run.env));
        seeds.is_some_and(|seeds| seeds.contains_key(&run.seed))
    };
    let runs: Vec<&Run> = runs.iter().filter(kept).collect();
    let ends: Vec<f64> = runs.iter().filter_map(|run| run.x.last()).copied().collect();
    let (shortest, longest) =
        (ends.iter().copied().fold(f64::INFINITY, f64::min), ends.iter().copied().fold(0.0, f64::max));
    let points = runs.iter().map(|run| run.x.len()).max().unwrap_or(0);
    if runs.iter().any(|run| run.x.len() < 2) {
        bail!("a curve needs two evaluations a run; draw --kind intervals, or train with more --evaluations");
    }
    let share = |i: usize| i as f64 / (points - 1) as f64;
    let mut tasks: BTreeMap<&str, BTreeMap<&str, Vec<Vec<f64>>>> = BTreeMap::new();
    for run in &runs {
        let end = run.x.last().copied().unwrap_or(1.0);
        let line: Vec<(f64, f64)> = run.x.iter().map(|x| x / end).zip(run.y.iter().copied()).collect();
        let scale = &scales[&run.env];
        let curve = (0..points).map(|i| scale.normalised(interpolate(&line, share(i)))).collect();
        tasks.entry(&run.agent).or_default().entry(&run.env).or_default().push(curve);
    }
    let same = shortest == longest;
    let mut curves = Vec::new();
    for (agent, tasks) in tasks {
        let seeds = tasks.values().map(Vec::len).max().unwrap_or(0);
        let tasks: Vec<Vec<Vec<f64>>> = tasks.into_values().collect();
        let band = stats::band(&tasks, Statistic::Iqm, stats::BAND_RESAMPLES, 0)
            .with_context(|| format!("{agent} across environments"))?;
        curves.push(Curve {
            env: count(&scores),
            agent: agent.to_owned(),
            x: (0..points).map(|i| share(i) * if same { longest } else { 100.0 }).collect(),
            centre: band.centre,
            low: band.low,
            high: band.high,
            seeds,
            episodes: None,
        });
    }
    let labels = Labels {
        x: if same { "environment steps" } else { "share of each environment's steps (%)" }.to_owned(),
        y: "IQM of normalised scores".to_owned(),
        caption: format!("Interquartile mean over all runs, {}", protocol(&scores, "greedy evaluation")),
        ..Labels::default()
    };
    Ok((Figure::Lines(curves, labels), warnings))
}

/// Interquartile mean, median, mean and optimality gap of every agent (`--kind intervals`), best first.
///
/// # Errors
/// As [`Scores::read`] and [`Scores::common`].
pub fn intervals(
    of: impl Into<Selection>,
    score: Score,
    scales: &BTreeMap<String, Scale>,
    bootstrap: Bootstrap,
) -> Result<(Figure, Vec<String>)> {
    let (scores, warnings) = common(of, score, scales)?;
    let mut rows = across::aggregate(&scores, bootstrap)?;
    rows.sort_by(|a, b| b.iqm.value.total_cmp(&a.iqm.value));
    let panels = Aggregate::ALL.map(|aggregate| {
        let of = |row: &across::AggregateRow| match aggregate {
            Aggregate::Iqm => row.iqm,
            Aggregate::Median => row.median,
            Aggregate::Mean => row.mean,
            Aggregate::OptimalityGap => row.optimality_gap,
        };
        let rows = rows.iter().map(|row| IntervalRow {
            name: row.agent.clone(),
            look: row.agent.clone(),
            estimate: of(row),
        });
        IntervalPanel { title: aggregate.name().to_owned(), rows: rows.collect(), range: None }
    });
    let labels = Labels {
        x: "normalised score (of the optimality gap, lower is better)".to_owned(),
        caption: protocol(&scores, named(score)),
        ..Labels::default()
    };
    Ok((Figure::Intervals(panels.to_vec(), labels), warnings))
}

/// Share of runs above each score (`--kind profiles`).
///
/// # Errors
/// As [`Scores::read`] and [`Scores::common`].
pub fn profiles(
    of: impl Into<Selection>,
    score: Score,
    scales: &BTreeMap<String, Scale>,
) -> Result<(Figure, Vec<String>)> {
    let (scores, warnings) = common(of, score, scales)?;
    let curve = |p: across::Profile| Curve {
        env: count(&scores),
        seeds: scores.agents[&p.agent].values().map(BTreeMap::len).max().unwrap_or(0),
        agent: p.agent,
        x: p.thresholds,
        centre: p.share,
        low: p.low,
        high: p.high,
        episodes: None,
    };
    let curves = across::profiles(&scores, stats::BAND_RESAMPLES)?.into_iter().map(curve).collect();
    let labels = Labels {
        x: "normalised score τ".to_owned(),
        y: "share of runs with a score above τ".to_owned(),
        caption: format!("Performance profiles, {}", protocol(&scores, named(score))),
        ..Labels::default()
    };
    Ok((Figure::Lines(curves, labels), warnings))
}

/// Probability that a run of one agent beats a run of another (`--kind improvement`), for every pair, or every agent
/// against `baseline`.
///
/// # Errors
/// As [`Scores::read`] and [`across::pairs`].
pub fn improvement(
    of: impl Into<Selection>,
    score: Score,
    baseline: Option<&str>,
    bootstrap: Bootstrap,
) -> Result<(Figure, Vec<String>)> {
    let (scores, warnings) = Scores::read(of, score)?;
    let pairs = across::pairs(&scores, baseline)?;
    let rows = across::improvements(&scores, &pairs, bootstrap)?.into_iter().map(|row| IntervalRow {
        name: format!("{} > {}", row.agent, row.other),
        look: row.agent,
        estimate: row.probability,
    });
    let panel = IntervalPanel {
        title: "probability of improvement".to_owned(),
        rows: rows.collect(),
        range: Some((0.0, 1.0)),
    };
    let labels = Labels {
        x: "P(a run of the first scores above a run of the second)".to_owned(),
        caption: protocol(&scores, named(score)).replace(", 0 random and 1 reference", ""),
        ..Labels::default()
    };
    Ok((Figure::Intervals(vec![panel], labels), warnings))
}

/// Settings of every run under `paths`: from a sweep's manifest, and where there is none from run folders.
///
/// # Errors
/// For files that cannot be read, and where there is neither.
pub fn settings(paths: &[PathBuf]) -> Result<Vec<RunSettings>> {
    let mut found = Vec::new();
    for path in paths {
        let folder = if path.is_file() { path.parent().unwrap_or(Path::new(".")) } else { path };
        let manifest = folder.join("manifest.jsonl");
        if manifest.is_file() {
            // Manifests of older versions are read, too: their lines are the settings themselves.
            let text = std::fs::read_to_string(&manifest)
                .with_context(|| format!("cannot read {}", manifest.display()))?;
            for (i, line) in text.lines().enumerate().skip(1) {
                let place = || format!("{} line {}", manifest.display(), i + 1);
                let mut line: serde_json::Value = serde_json::from_str(line).with_context(place)?;
                let settings = line.get_mut("settings").map(serde_json::Value::take).unwrap_or(line);
                found.push(serde_json::from_value(settings).with_context(place)?);
            }
        } else {
            for file in read::files(folder, "run.toml")
                .context("options of runs are in run.toml or manifest.jsonl")?
            {
                found.push(train::read_settings(file.parent().unwrap_or(folder))?);
            }
        }
    }
    Ok(found)
}

/// Score against an option of the agents (`--kind sensitivity`): a panel an environment, a point a value of `option`. A line is an
/// agent of a search (`ppo-wide` of `ppo-wide+clip=0.1+lr=0.001`), over whose other keys it is pooled; where labels do not name the
/// option, an algorithm. The axis is logarithmic where positive values differ by a factor of 20.
///
/// # Errors
/// As [`Scores::read`]; when no run has the option, or its values are no numbers.
pub fn sensitivity(of: impl Into<Selection>, score: Score, option: &str) -> Result<(Figure, Vec<String>)> {
    let of = of.into();
    let (scores, mut warnings) = Scores::read(of.clone(), score)?;
    // Of each environment and line: value of the option, label, score.
    type Point = (f64, String, f64);
    let mut points: BTreeMap<(String, String), Vec<Point>> = BTreeMap::new();
    let mut known: Vec<String> = Vec::new();
    for cell in settings(&of.paths)? {
        let seeds = scores.agents.get(&cell.label).and_then(|tasks| tasks.get(&cell.env));
        let Some(score) = seeds.and_then(|seeds| seeds.get(&cell.seed)) else { continue };
        let Some(value) = cell.options.get(option) else {
            known.extend(cell.options.keys().cloned());
            continue;
        };
        let number = value.as_float().or(value.as_integer().map(|i| i as f64));
        let Some(number) = number.filter(|v| v.is_finite()) else {
            bail!("option '{option}' of '{}' is {value}, no number; there is no axis for it", cell.label);
        };
        let (name, keys) = parts(&cell.label);
        let line = if keys.iter().any(|(key, _)| *key == option) { name } else { cell.agent };
        points.entry((cell.env, line)).or_default().push((number, cell.label, *score));
    }
    if points.is_empty() {
        known.sort();
        known.dedup();
        bail!("no run with a score has an option '{option}'; options here: {}", known.join(", "));
    }
    let mut curves = Vec::new();
    for ((env, agent), mut values) in points {
        values.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        let (mut x, mut line, mut seeds) = (Vec::new(), Vec::new(), usize::MAX);
        let mut groups = values.chunk_by(|a, b| a.0 == b.0);
        if let Some(group) = groups.find(|group| group[0].1 != group[group.len() - 1].1) {
            let (a, b, x) = (&group[0].1, &group[group.len() - 1].1, group[0].0);
            warnings.push(format!(
                "{env}, {agent}: pooled over what differs beside {option}; {a} and {b} both have {x}"
            ));
        }
        for group in values.chunk_by(|a, b| a.0 == b.0) {
            let scores = [group.iter().map(|g| g.2).collect::<Vec<f64>>()];
            let value = stats::iqm(&scores[0])?;
            let (low, high) = stats::interval(&scores, Statistic::Iqm, stats::RESAMPLES, 0)?;
            x.push(group[0].0);
            line.push(Estimate { value, low, high });
            seeds = seeds.min(group.len());
        }
        curves.push(Curve {
            env,
            agent,
            x,
            centre: line.iter().map(|e| e.value).collect(),
            low: line.iter().map(|e| e.low).collect(),
            high: line.iter().map(|e| e.high).collect(),
            seeds,
            episodes: None,
        });
    }
    let mut values: Vec<f64> = curves.iter().flat_map(|c| c.x.clone()).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    if values.len() < 2 {
        bail!("all runs have {option} = {}; a sensitivity needs several values", values[0]);
    }
    let log = values[0] > 0.0 && values[values.len() - 1] >= 20.0 * values[0];
    let place = |v: f64| if log { v.log10() } else { v };
    curves.iter_mut().flat_map(|c| &mut c.x).for_each(|x| *x = place(*x));
    // With few values each has its label; with many every other one, and so on.
    let every = values.len().div_ceil(7);
    let ticks = values.iter().step_by(every).map(|v| (place(*v), format!("{v}"))).collect();
    let seeds = curves.iter().map(|c| c.seeds).min().unwrap_or(0);
    let labels = Labels {
        x: format!("{option}{}", if log { " (logarithmic)" } else { "" }),
        y: named(score).to_owned(),
        ticks: Some(ticks),
        caption: format!(
            "Interquartile mean over at least {seeds} seeds a point; bands: 95 % bootstrap interval."
        ),
        ..Labels::default()
    };
    Ok((Figure::Lines(curves, labels), warnings))
}
