//! Comparisons of agents: what `steadfast summary --aggregate` and `--compare` print.
//!
//! A run has one score: its last evaluation, or the area under its evaluations. Across tasks scores are normalised:
//! 0 is what random actions get, 1 the reference of `scores.toml`. Nothing is averaged over a hole: a run that ended
//! before the others of its agent, or with a value that is not finite, and a task that an agent lacks are left out by name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use super::read::{self, Run, Selection};
use super::{FEW_SEEDS, Score, figures, shortened};
use crate::stats;
use crate::stats::across::{self, Aggregate, Bootstrap, Estimate, Paired};

/// Resamples of an interval across tasks, as many as `rliable` draws.
pub const RESAMPLES: usize = 50_000;

/// The scores that a task is measured by.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Return of random actions: 0 after normalisation.
    pub random: f64,
    /// Where `random` comes from.
    pub random_source: String,
    /// Return of a good agent: 1 after normalisation.
    pub reference: f64,
    /// Where `reference` comes from.
    pub reference_source: String,
}

impl Scale {
    /// `score` on the scale.
    pub fn normalised(&self, score: f64) -> f64 {
        (score - self.random) / (self.reference - self.random)
    }
}

/// Scales by environment: those of `path`, or those that come with the binary.
///
/// # Errors
/// When the file cannot be read, misses a key or has an unknown one, or gives a task no range.
pub fn scales(path: Option<&Path>) -> Result<BTreeMap<String, Scale>> {
    let (text, name) = match path {
        None => (include_str!("../../scores.toml").to_owned(), "scores.toml".to_owned()),
        Some(path) => {
            let name = path.display().to_string();
            (std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?, name)
        }
    };
    let scales: BTreeMap<String, Scale> = toml::from_str(&text).map_err(|e| {
        anyhow!(
            "{name}: {}; each environment needs random, random_source, reference, reference_source",
            e.message()
        )
    })?;
    for (env, scale) in &scales {
        let range = scale.reference - scale.random;
        if !range.is_finite() || range == 0.0 {
            bail!("{name}: {env}: random and reference must be finite and differ");
        }
    }
    Ok(scales)
}

/// Scores of every agent on every environment by seed, without holes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// `scores[agent][environment][seed]`.
    pub agents: BTreeMap<String, BTreeMap<String, BTreeMap<u64, f64>>>,
    /// Whether scores are normalised.
    pub normalised: bool,
}

impl Scores {
    /// The scores of the runs that are selected (see [`read::runs`]), with warnings about what is left out.
    ///
    /// # Errors
    /// As [`read::runs`], and when there is not one score.
    pub fn read(of: impl Into<Selection>, score: Score) -> Result<(Self, Vec<String>)> {
        let runs = read::runs(of, "return_mean")?;
        if let Some(run) = runs.iter().find(|run| run.episodic) {
            bail!("{}: training episodes, not evaluations; scores need eval.csv", run.name());
        }
        let (mut scores, mut warnings) = (Self::default(), Vec::new());
        for group in runs.chunk_by(|a, b| a.env == b.env && a.agent == b.agent) {
            let last = |run: &Run| run.x.last().copied().unwrap_or(0.0);
            let longest = group.iter().map(last).fold(0.0, f64::max);
            for run in group {
                match score_of(run, score, longest) {
                    Ok(value) => {
                        let tasks = scores.agents.entry(run.agent.clone()).or_default();
                        tasks.entry(run.env.clone()).or_default().insert(run.seed, value);
                    }
                    Err(why) => warnings.push(format!("{}: {why}; left out", run.name())),
                }
            }
        }
        if scores.agents.is_empty() {
            bail!(
                "no run has a score: {}",
                warnings.first().map_or("the files hold no rows", String::as_str)
            );
        }
        scores.warn_about_seeds(&mut warnings);
        Ok((scores, warnings))
    }

    fn warn_about_seeds(&self, warnings: &mut Vec<String>) {
        for env in self.envs() {
            let all: BTreeSet<u64> = self
                .agents
                .values()
                .filter_map(|tasks| tasks.get(env))
                .flat_map(|seeds| seeds.keys().copied())
                .collect();
            for (agent, tasks) in &self.agents {
                let Some(seeds) = tasks.get(env) else { continue };
                if seeds.len() < FEW_SEEDS {
                    let n = seeds.len();
                    warnings.push(format!(
                        "{agent} on {env}: {n} seed{}; use at least {FEW_SEEDS}, 10 for a claim",
                        if n == 1 { "" } else { "s" }
                    ));
                }
                let missing: Vec<String> =
                    all.iter().filter(|seed| !seeds.contains_key(seed)).map(u64::to_string).collect();
                if !missing.is_empty() {
                    let missing = missing.join(", ");
                    warnings.push(format!(
                        "{agent} on {env}: no score of seed {missing}, which other agents have"
                    ));
                }
            }
        }
    }

    /// All environments, sorted.
    pub fn envs(&self) -> BTreeSet<&str> {
        self.agents.values().flat_map(|tasks| tasks.keys().map(String::as_str)).collect()
    }

    /// Keeps the environments on which every agent has a score and, with several of them, normalises by `scales`; says
    /// which it drops.
    ///
    /// # Errors
    /// When nothing is left.
    pub fn common(mut self, scales: &BTreeMap<String, Scale>, warnings: &mut Vec<String>) -> Result<Self> {
        let envs: Vec<String> = self.envs().into_iter().map(str::to_owned).collect();
        for env in envs {
            let without: Vec<&str> = self
                .agents
                .iter()
                .filter(|(_, tasks)| !tasks.contains_key(&env))
                .map(|(a, _)| a.as_str())
                .collect();
            let scale = scales.get(&env);
            if without.is_empty()
                && let Some(scale) = scale
            {
                for task in self.agents.values_mut().filter_map(|tasks| tasks.get_mut(&env)) {
                    task.values_mut().for_each(|score| *score = scale.normalised(*score));
                }
                continue;
            }
            warnings.push(match scale {
                Some(_) => format!("{env}: no score of {}; the environment is left out for all agents", without.join(", ")),
                None => format!(
                    "{env}: no random and reference score to normalise by; left out; add it to a copy of scores.toml \
                     and pass --scores"
                ),
            });
            self.agents.values_mut().for_each(|tasks| drop(tasks.remove(&env)));
        }
        self.normalised = true;
        if self.envs().is_empty() {
            bail!("no environment to compare on: {}", warnings.last().map_or("no scores", String::as_str));
        }
        Ok(self)
    }

    /// Scores of one agent as the statistics want them: `[task][run]`, tasks in the order of their names.
    pub fn tasks(&self, agent: &str) -> Vec<Vec<f64>> {
        let tasks = self.agents.get(agent).into_iter().flat_map(BTreeMap::values);
        tasks.map(|seeds| seeds.values().copied().collect()).collect()
    }
}

/// The score of a run, or why it has none.
fn score_of(run: &Run, score: Score, longest: f64) -> std::result::Result<f64, String> {
    let Some((end, value)) = run.x.last().zip(run.y.last()) else {
        return Err("no evaluation".to_owned());
    };
    if let Some(i) = run.y.iter().position(|y| !y.is_finite()) {
        return Err(format!("return is {} at step {}: it diverged", run.y[i], run.x[i]));
    }
    if *end < longest {
        return Err(format!("ends at step {end}, others at {longest}: it diverged or is unfinished"));
    }
    if run.blank > 0 {
        return Err(format!("{} evaluations without a return", run.blank));
    }
    match score {
        Score::Final => Ok(*value),
        Score::Auc => stats::area(&run.x, &run.y).map_err(|e| format!("no area under its evaluations ({e})")),
    }
}

/// An agent across tasks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AggregateRow {
    /// Agent.
    pub agent: String,
    /// Runs of all tasks together.
    pub runs: usize,
    /// Interquartile mean.
    pub iqm: Estimate,
    /// Median of the tasks' means.
    pub median: Estimate,
    /// Mean of the tasks' means.
    pub mean: Estimate,
    /// Mean shortfall below 1.
    pub optimality_gap: Estimate,
}

/// All agents across tasks.
///
/// # Errors
/// As [`across::aggregates`], with the agent's name.
pub fn aggregate(scores: &Scores, bootstrap: Bootstrap) -> Result<Vec<AggregateRow>> {
    let row = |agent: &String| {
        let tasks = scores.tasks(agent);
        let [iqm, median, mean, optimality_gap] =
            across::aggregates(&tasks, bootstrap).with_context(|| agent.clone())?;
        let runs = tasks.iter().map(Vec::len).sum();
        Ok(AggregateRow { agent: agent.clone(), runs, iqm, median, mean, optimality_gap })
    };
    scores.agents.keys().map(row).collect()
}

/// The performance profile of an agent: which share of its runs scores above each threshold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// Agent.
    pub agent: String,
    /// Thresholds of the normalised score, increasing; the same for all agents.
    pub thresholds: Vec<f64>,
    /// Share of runs strictly above.
    pub share: Vec<f64>,
    /// Lower end of its 95 % interval.
    pub low: Vec<f64>,
    /// Upper end of its 95 % interval.
    pub high: Vec<f64>,
}

/// Profiles of all agents at hundredths from 0, or the lowest score but not below −1, to 1, or the highest but not above 3.
///
/// # Errors
/// As [`across::profile`], with the agent's name.
pub fn profiles(scores: &Scores, resamples: usize) -> Result<Vec<Profile>> {
    let all = || scores.agents.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values).copied();
    let (low, high) = (all().fold(0.0, f64::min).max(-1.0), all().fold(1.0, f64::max).min(3.0));
    let thresholds: Vec<f64> =
        ((100.0 * low).floor() as i64..=(100.0 * high).ceil() as i64).map(|i| i as f64 / 100.0).collect();
    let profile = |agent: &String| {
        let band = across::profile(&scores.tasks(agent), &thresholds, resamples, 0)
            .with_context(|| agent.clone())?;
        let (share, low, high) = (band.centre, band.low, band.high);
        Ok(Profile { agent: agent.clone(), thresholds: thresholds.clone(), share, low, high })
    };
    scores.agents.keys().map(profile).collect()
}

/// Two agents on one environment, seed by seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairedRow {
    /// Environment.
    pub env: String,
    /// First agent.
    pub agent: String,
    /// Second agent.
    pub other: String,
    /// First minus second.
    #[serde(flatten)]
    pub paired: Paired,
    /// `p` corrected for all rows together (Holm).
    pub p_holm: f64,
}

/// Two agents across tasks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImprovementRow {
    /// First agent.
    pub agent: String,
    /// Second agent.
    pub other: String,
    /// Tasks that both have.
    pub tasks: usize,
    /// Probability that a run of the first scores above a run of the second on a task.
    pub probability: Estimate,
}

/// Pairs of agents: each with `baseline`, or all of them.
///
/// # Errors
/// With fewer than two agents, or a baseline without a score.
pub fn pairs(scores: &Scores, baseline: Option<&str>) -> Result<Vec<(String, String)>> {
    let names: Vec<&String> = scores.agents.keys().collect();
    let all = || names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
    if names.len() < 2 {
        bail!("a comparison needs two agents; there is only {}", all());
    }
    match baseline {
        Some(name) if !names.iter().any(|n| *n == name) => bail!("no scores of '{name}' among: {}", all()),
        Some(name) => {
            Ok(names.into_iter().filter(|n| *n != name).map(|n| (n.clone(), name.to_owned())).collect())
        }
        None => {
            let mut pairs = Vec::new();
            for (i, a) in names.iter().enumerate() {
                pairs.extend(names[i + 1..].iter().map(|b| ((*a).clone(), (*b).clone())));
            }
            Ok(pairs)
        }
    }
}

/// Compares `pairs` by seed on each environment. A pair with fewer than two seeds in common on an environment is named in
/// `warnings`.
///
/// # Errors
/// For scores that are not finite.
pub fn paired(
    scores: &Scores,
    pairs: &[(String, String)],
    bootstrap: Bootstrap,
    warnings: &mut Vec<String>,
) -> Result<Vec<PairedRow>> {
    let mut rows = Vec::new();
    for env in scores.envs() {
        for (agent, other) in pairs {
            let seeds = |name: &String| scores.agents.get(name).and_then(|tasks| tasks.get(env));
            let (Some(a), Some(b)) = (seeds(agent), seeds(other)) else { continue };
            let differences: Vec<f64> = a.iter().filter_map(|(seed, x)| b.get(seed).map(|y| x - y)).collect();
            if differences.len() < 2 {
                let n = differences.len();
                warnings.push(format!(
                    "{env}: {agent} and {other} have {n} seeds in common; not compared by seed"
                ));
                continue;
            }
            let paired = across::paired(&differences, bootstrap)
                .with_context(|| format!("{agent} and {other} on {env}"))?;
            let (agent, other) = (agent.clone(), other.clone());
            rows.push(PairedRow { env: env.to_owned(), agent, other, paired, p_holm: 0.0 });
        }
    }
    let p: Vec<f64> = rows.iter().map(|row| row.paired.p).collect();
    for (row, p) in rows.iter_mut().zip(across::holm(&p)) {
        row.p_holm = p;
    }
    Ok(rows)
}

/// Probability of improvement of `pairs` over the tasks that both agents have; scores need not be normalised, since only
/// their order within a task counts.
///
/// # Errors
/// For scores that are not finite, or a pair without a task in common.
pub fn improvements(
    scores: &Scores,
    pairs: &[(String, String)],
    bootstrap: Bootstrap,
) -> Result<Vec<ImprovementRow>> {
    let row = |(agent, other): &(String, String)| {
        let (a, b) = (&scores.agents[agent], &scores.agents[other]);
        let both = a.iter().filter_map(|(env, x)| b.get(env).map(|y| (x, y)));
        let values = |seeds: &BTreeMap<u64, f64>| seeds.values().copied().collect::<Vec<f64>>();
        let (x, y): (Vec<_>, Vec<_>) = both.map(|(x, y)| (values(x), values(y))).unzip();
        let probability =
            across::improvement(&x, &y, bootstrap).with_context(|| format!("{agent} against {other}"))?;
        Ok(ImprovementRow { agent: agent.clone(), other: other.clone(), tasks: x.len(), probability })
    };
    pairs.iter().map(row).collect()
}

fn shown(e: &Estimate) -> String {
    format!("{} [{}, {}]", figures(e.value), figures(e.low), figures(e.high))
}

fn lines(table: &mut Table, right_from: usize) -> String {
    for column in table.column_iter_mut().skip(right_from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The aggregates as a table for a terminal, best interquartile mean first.
pub fn aggregate_table(rows: &[AggregateRow], envs: &BTreeSet<&str>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["agent", "runs"].into_iter().chain(Aggregate::ALL.map(Aggregate::name)));
    let mut order: Vec<&AggregateRow> = rows.iter().collect();
    order.sort_by(|a, b| b.iqm.value.total_cmp(&a.iqm.value));
    for row in order {
        let estimates = [&row.iqm, &row.median, &row.mean, &row.optimality_gap].map(shown);
        table.add_row([shortened(&row.agent, 24), row.runs.to_string()].into_iter().chain(estimates));
    }
    let envs: Vec<&str> = envs.iter().copied().collect();
    format!(
        "{} environments: {}\nscores: 0 random, 1 reference (scores.toml); 95 % stratified bootstrap intervals\n{}",
        envs.len(),
        envs.join(", "),
        lines(&mut table, 1)
    )
}

/// The comparisons as tables for a terminal.
pub fn comparison_table(paired: &[PairedRow], improvements: &[ImprovementRow]) -> String {
    let mut out = String::new();
    for env in paired.chunk_by(|a, b| a.env == b.env) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "by seed",
            "seeds",
            "difference, 95 % interval",
            "better",
            "worse",
            "p",
            "p (Holm)",
        ]);
        for row in env {
            let p = &row.paired;
            table.add_row([
                format!("{} − {}", shortened(&row.agent, 20), shortened(&row.other, 20)),
                p.seeds.to_string(),
                shown(&p.difference),
                p.better.to_string(),
                p.worse.to_string(),
                format!("{:.3}", p.p),
                format!("{:.3}", row.p_holm),
            ]);
        }
        out += &format!("{}\n{}\n", env[0].env, lines(&mut table, 1));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["probability of improvement", "environments", "P, 95 % interval"]);
    for row in improvements {
        table.add_row([
            format!("{} > {}", shortened(&row.agent, 20), shortened(&row.other, 20)),
            row.tasks.to_string(),
            shown(&row.probability),
        ]);
    }
    out + &lines(&mut table, 1)
}

#[cfg(test)]
mod tests;
