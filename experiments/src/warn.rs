//! Signs of a training that went wrong, each with what to try.
//!
//! The rows of a finished run are looked through once, so that a run that was interrupted and resumed says what an
//! undisturbed one says. The warnings are printed when the run ends and stand in its `result.json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use crate::settings::RunSettings;

/// Iterations below which metrics say nothing.
const FEW: usize = 10;

/// What a run wrote, as far as warnings need it.
#[derive(Debug, Default)]
pub struct Rows {
    /// Columns of `train.csv`, one entry an iteration; blank cells are absent from their column.
    pub train: BTreeMap<String, Vec<f64>>,
    /// Returns of the training episodes, of all agents of the task together.
    pub returns: Vec<f64>,
    /// Mean returns of the evaluations.
    pub evaluations: Vec<f64>,
    /// Environment steps taken.
    pub steps: u64,
}

impl Rows {
    /// The rows in a run's folder.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(directory: &Path, steps: u64) -> Result<Self> {
        let mut rows = Self { steps, ..Self::default() };
        for_rows(&directory.join("train.csv"), |name, value| {
            rows.train.entry(name.to_owned()).or_default().push(value);
        })?;
        let mut agent_index = 0.0;
        for_rows(&directory.join("episodes.csv"), |name, value| match (name, rows.returns.last_mut()) {
            ("agent_index", _) => agent_index = value,
            ("return", Some(last)) if agent_index > 0.0 => *last += value,
            ("return", _) => rows.returns.push(value),
            _ => (),
        })?;
        for_rows(&directory.join("eval.csv"), |name, value| {
            if name == "return_mean" {
                rows.evaluations.push(value);
            }
        })?;
        Ok(rows)
    }

    fn column(&self, name: &str) -> &[f64] {
        let column = self.train.get(name).map_or(&[][..], Vec::as_slice);
        if column.len() < FEW { &[] } else { column }
    }
}

/// Calls `cell` with column and value of every number in a CSV file, row by row.
fn for_rows(path: &Path, mut cell: impl FnMut(&str, f64)) -> Result<()> {
    let shown = || format!("cannot read {}", path.display());
    let mut reader = csv::Reader::from_path(path).with_context(shown)?;
    let header = reader.headers().with_context(shown)?.clone();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).with_context(shown)? {
        for (name, text) in header.iter().zip(&record) {
            if let Ok(value) = text.parse() {
                cell(name, value);
            }
        }
    }
    Ok(())
}

/// The warnings about a run, each with what to try.
pub fn warnings(settings: &RunSettings, rows: &Rows) -> Vec<String> {
    let rules = [no_episode, kl, line_search, entropy, action_std, value_loss, outside, evaluation];
    rules.iter().filter_map(|rule| rule(settings, rows)).collect()
}

/// No training episode ended.
fn no_episode(_: &RunSettings, rows: &Rows) -> Option<String> {
    (rows.returns.is_empty() && rows.steps > 0).then(|| {
        format!(
            "no training episode ended in {} steps, so episodes.csv has no rows and nothing was learnt from an ending; try \
             more --steps, or fewer copies (--set num_envs=1)",
            rows.steps
        )
    })
}

/// KL divergence far over its limit, or over 1 nat where there is none: most of the time, or once beyond all measure.
fn kl(settings: &RunSettings, rows: &Rows) -> Option<String> {
    let kl = rows.column("kl");
    let limit = number(settings, "max_kl").or(number(settings, "target_kl"));
    let slack = number(settings, "kl_slack").unwrap_or(1.0).max(1.0);
    let most = limit.map_or(1.0, |limit| 3.0 * slack * limit);
    let over = kl.iter().filter(|kl| **kl > most).count();
    let largest = kl.iter().copied().fold(0.0, f64::max);
    // One jump is enough, if it is one from which no policy comes back.
    (2 * over > kl.len() || largest > 50.0 * most).then(|| {
        let (what, remedy) = match limit {
            Some(limit) => (format!("its limit {limit}"), "more conjugate-gradient iterations or a lower limit"),
            None => ("1 nat".to_owned(), "a lower learning rate, fewer epochs or a smaller clip range"),
        };
        format!(
            "the policy moves too far: {over} of {} iterations have a KL divergence far over {what}, the largest {largest:.3}; \
             try {remedy}",
            kl.len()
        )
    })
}

/// A line search that never accepts.
fn line_search(_: &RunSettings, rows: &Rows) -> Option<String> {
    let tried = rows.column("line_search_steps");
    let step = rows.column("step_size");
    let failed = step.iter().filter(|s| **s == 0.0).count();
    (!tried.is_empty() && 10 * failed >= 8 * step.len()).then(|| {
        format!(
            "the line search failed in {failed} of {} iterations, so the policy hardly changed; try a larger max_kl or \
             kl_slack, more damping, or larger batches",
            step.len()
        )
    })
}

/// A policy of choices that has become deterministic early. Gaussian policies are judged by their deviation.
fn entropy(_: &RunSettings, rows: &Rows) -> Option<String> {
    let entropy = rows.column("entropy");
    if entropy.is_empty() || !rows.column("action_std").is_empty() || entropy[0] <= 0.0 {
        return None;
    }
    let low = entropy.iter().position(|e| *e < 0.02 * entropy[0])?;
    (2 * low < entropy.len()).then(|| {
        format!(
            "the entropy collapsed from {:.3} to {:.4} nats by iteration {} of {}, and exploration with it; try a larger \
             entropy bonus (ent_coef), a lower learning rate or fewer epochs",
            entropy[0],
            entropy[low],
            low + 1,
            entropy.len()
        )
    })
}

/// A Gaussian policy whose deviation has all but vanished.
fn action_std(_: &RunSettings, rows: &Rows) -> Option<String> {
    let std = rows.column("action_std");
    let (first, last) = (std.first()?, std.last()?);
    (*last < 0.02 * first).then(|| {
        format!(
            "the standard deviation of actions fell from {first:.3} to {last:.2e}, its floor for all purposes, and exploration \
             with it; try a larger entropy bonus (ent_coef), or a lower learning rate"
        )
    })
}

/// A value loss that grows without bound, while the values explain nothing.
fn value_loss(_: &RunSettings, rows: &Rows) -> Option<String> {
    let loss = rows.column("value_loss");
    let tail = |column: &[f64]| median(&column[column.len() - column.len().div_ceil(10)..]);
    let explained = rows.column("explained_variance");
    if loss.is_empty() || (!explained.is_empty() && tail(explained) > 0.1) {
        return None;
    }
    let (before, after) = (median(&loss[..loss.len() / 2]), tail(loss));
    (after > 1e3 * before && after > 1.0).then(|| {
        format!(
            "the value loss exploded from {before:.2e} to {after:.2e}, and the values explain none of the returns; try a lower \
             learning rate, normalised rewards, or a smaller max_grad_norm"
        )
    })
}

/// Returns that the bins of a categorical value do not hold.
fn outside(settings: &RunSettings, rows: &Rows) -> Option<String> {
    let outside = rows.column("returns_outside");
    let share = outside.iter().sum::<f64>() / outside.len().max(1) as f64;
    (share > 0.01).then(|| {
        let range = |key| settings.options.get(key).map_or_else(String::new, ToString::to_string);
        let normalize = if settings.options.contains_key("normalize_reward") {
            "normalize_reward = true, or "
        } else {
            ""
        };
        format!(
            "{:.1} % of the returns lie outside the value's bins, from {} to {}, and count as the nearest end; try {normalize}a \
             value_min and value_max that hold the discounted returns",
            100.0 * share,
            range("value_min"),
            range("value_max")
        )
    })
}

/// Greedy evaluations far from what the training episodes return.
fn evaluation(_: &RunSettings, rows: &Rows) -> Option<String> {
    const EPISODES: usize = 20;
    let last = rows.evaluations.last()?;
    if rows.returns.len() < EPISODES || rows.evaluations.len() < 3 || !last.is_finite() {
        return None;
    }
    let returns = &rows.returns[rows.returns.len() - EPISODES..];
    let mean = returns.iter().sum::<f64>() / EPISODES as f64;
    let std = (returns.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / EPISODES as f64).sqrt();
    let ends = |values: &[f64]| {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        values.iter().copied().fold(f64::NEG_INFINITY, f64::max) - low
    };
    let range = ends(&rows.evaluations).max(ends(&rows.returns));
    // A greedy policy may do better than one that explores; worse by this much it should not do.
    (mean - last > 4.0 * std && mean - last > 0.25 * range).then(|| {
        format!(
            "the last evaluation returns {last:.4}, the last {EPISODES} training episodes {mean:.4}: the greedy policy is far \
             worse than the one that trained; try more --eval-episodes, and check that the task does not need chance"
        )
    })
}

/// An option of the agent that is a number.
fn number(settings: &RunSettings, option: &str) -> Option<f64> {
    let value = settings.options.get(option)?;
    value.as_float().or(value.as_integer().map(|i| i as f64)).filter(|v| *v > 0.0)
}

/// Median of a column that is not empty; NaN sorts last.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests;
