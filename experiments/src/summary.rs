//! Scores of finished runs: what `steadfast summary` prints and `summary.csv` holds.
//!
//! Two scores a run, both of greedy evaluation returns: `final`, the last evaluation, and `auc`, the area
//! under the learning curve divided by its range of steps (its mean height, so that fast learning counts). A row describes the scores of all seeds of an agent on an environment.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use crate::stats::{self, RESAMPLES, Statistic};
use read::{Run, Selection};

pub mod across;
pub mod by;
pub mod read;

/// Seeds below which a comparison says little.
pub const FEW_SEEDS: usize = 5;

/// Which number of a run a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// Mean return of the last evaluation.
    Final,
    /// Area under the evaluation curve divided by its range of steps.
    Auc,
}

/// One row of `summary.csv`: the scores of an agent on an environment over its seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SummaryRow {
    /// Environment.
    pub env: String,
    /// Agent.
    pub agent: String,
    /// Which score.
    pub score: Score,
    /// Seeds with that score.
    pub seeds: usize,
    /// Mean over seeds.
    pub mean: f64,
    /// Sample standard deviation; blank with one seed.
    pub std: Option<f64>,
    /// Median.
    pub median: f64,
    /// Interquartile mean.
    pub iqm: f64,
    /// Lower end of its 95 % bootstrap interval; blank with one seed.
    pub iqm_low: Option<f64>,
    /// Upper end of its 95 % bootstrap interval; blank with one seed.
    pub iqm_high: Option<f64>,
}

/// Summarises all runs under `paths` (see [`read::runs`]); rows are sorted by environment, agent and score.
///
/// The second part holds warnings: few seeds, missing seeds, runs of another length, runs without a score.
/// A run with a value that is not finite has no score: it is named and left out, never averaged.
///
/// # Errors
/// As [`read::runs`], and when there is not one score.
pub fn summarise(of: impl Into<Selection>) -> Result<(Vec<SummaryRow>, Vec<String>)> {
    summarise_by(of, &[])
}

/// As [`summarise`]; with `keys` of a hyperparameter search, runs that differ in other keys alone are pooled.
///
/// # Errors
/// As [`summarise`], and for a key that no run has.
pub fn summarise_by(of: impl Into<Selection>, keys: &[String]) -> Result<(Vec<SummaryRow>, Vec<String>)> {
    let mut runs = read::runs(of, "return_mean")?;
    if !keys.is_empty() {
        by::regroup(&mut runs, keys)?;
    }
    if let Some(run) = runs.iter().find(|run| run.episodic) {
        bail!("{}: training episodes, not evaluations; `steadfast summary` needs eval.csv", run.name());
    }
    let (mut rows, mut warnings) = (Vec::new(), Vec::new());
    for env in runs.chunk_by(|a, b| a.env == b.env) {
        let all: BTreeSet<u64> = env.iter().map(|run| run.seed).collect();
        for agent in env.chunk_by(|a, b| a.agent == b.agent) {
            warn_about(agent, &all, &mut warnings);
            let mut finals = Vec::new();
            let mut areas = Vec::new();
            for run in agent {
                // An evaluation that is not there cannot be the last one.
                finals.extend(run.y.last().filter(|y| y.is_finite()));
                areas.extend(stats::area(&run.x, &run.y).ok());
            }
            for (score, values) in [(Score::Final, finals), (Score::Auc, areas)] {
                if !values.is_empty() {
                    rows.push(row(&agent[0], score, values)?);
                }
            }
        }
    }
    if rows.is_empty() {
        bail!("no run has a score: {}", warnings.first().map_or("the files hold no rows", String::as_str));
    }
    Ok((rows, warnings))
}

fn row(run: &Run, score: Score, values: Vec<f64>) -> Result<SummaryRow> {
    let groups = [values];
    let values = &groups[0];
    let describe = || -> stats::Result<SummaryRow> {
        let bounds = match values.len() {
            1 => None,
            _ => Some(stats::interval(&groups, Statistic::Iqm, RESAMPLES, 0)?),
        };
        Ok(SummaryRow {
            env: run.env.clone(),
            agent: run.agent.clone(),
            score,
            seeds: values.len(),
            mean: stats::mean(values)?,
            std: stats::std(values).ok(),
            median: stats::median(values)?,
            iqm: stats::iqm(values)?,
            iqm_low: bounds.map(|b| b.0),
            iqm_high: bounds.map(|b| b.1),
        })
    };
    describe().with_context(|| format!("{} on {}", run.agent, run.env))
}

/// Names what makes the rows of one agent on one environment less than they seem.
fn warn_about(agent: &[Run], all_seeds: &BTreeSet<u64>, warnings: &mut Vec<String>) {
    let place = format!("{} on {}", agent[0].agent, agent[0].env);
    if agent.len() < FEW_SEEDS {
        let plural = if agent.len() == 1 { "seed" } else { "seeds" };
        warnings
            .push(format!("{place}: {} {plural}; use at least {FEW_SEEDS} for a comparison", agent.len()));
    }
    let present: BTreeSet<u64> = agent.iter().map(|run| run.seed).collect();
    let missing: Vec<String> = all_seeds.difference(&present).map(u64::to_string).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        warnings.push(format!("{place}: no seed {missing}, which other agents have on this environment"));
    }
    for (i, run) in agent.iter().enumerate() {
        // Evaluations that hardly vary, such as zeros and a first success at the end, may well agree.
        let varies = run.y.iter().map(|y| y.to_bits()).collect::<BTreeSet<u64>>().len()
            > 2.min(run.y.len().saturating_sub(1));
        if let Some(twin) = agent[..i].iter().find(|other| varies && other.y == run.y) {
            let (a, b) = (twin.seed, run.seed);
            warnings.push(format!(
                "{place}: seeds {a} and {b} have the same evaluations; they are one run: check how the seed is passed on"
            ));
        }
    }
    let last = |run: &Run| run.x.last().map_or(0, |x| *x as u64);
    let longest = agent.iter().map(last).max().unwrap_or(0);
    for run in agent {
        if last(run) != longest {
            let name = run.name();
            warnings.push(format!(
                "{name}: ends at step {}, others at {longest}; its scores mean less",
                last(run)
            ));
        } else if run.x.first() != agent[0].x.first() || run.x.len() != agent[0].x.len() {
            warnings.push(format!("{}: evaluated at other steps than seed {}", run.name(), agent[0].seed));
        }
        if run.blank > 0 {
            warnings.push(format!("{}: {} evaluations without a return", run.name(), run.blank));
        }
        let bad = run.y.iter().position(|y| !y.is_finite());
        if let Some(i) = bad {
            let left_out = if run.y.last().is_some_and(|y| y.is_finite()) { "auc" } else { "final and auc" };
            let (name, step) = (run.name(), run.x[i]);
            warnings.push(format!("{name}: return is {} at step {step}; left out of {left_out}", run.y[i]));
        } else if run.y.len() == 1 {
            warnings.push(format!("{}: a single evaluation; left out of auc", run.name()));
        } else if run.y.is_empty() {
            warnings.push(format!("{}: no evaluation; left out", run.name()));
        }
    }
}

/// The rows as tables for a terminal, one block an environment, within 100 columns.
pub fn table(rows: &[SummaryRow]) -> String {
    let mut out = String::new();
    for env in rows.chunk_by(|a, b| a.env == b.env) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["agent", "score", "seeds", "IQM", "95 % interval", "mean", "std", "median"]);
        for agent in env.chunk_by(|a, b| a.agent == b.agent) {
            for (i, row) in agent.iter().enumerate() {
                table.add_row([
                    if i == 0 {
                        shortened(&row.agent, if row.agent.contains('=') { 72 } else { 24 })
                    } else {
                        String::new()
                    },
                    match row.score {
                        Score::Final => "final".to_owned(),
                        Score::Auc => "auc".to_owned(),
                    },
                    row.seeds.to_string(),
                    figures(row.iqm),
                    match (row.iqm_low, row.iqm_high) {
                        (Some(low), Some(high)) => format!("[{}, {}]", figures(low), figures(high)),
                        _ => "-".to_owned(),
                    },
                    figures(row.mean),
                    row.std.map_or_else(|| "-".to_owned(), figures),
                    figures(row.median),
                ]);
            }
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("{}\n", env[0].env));
        for line in table.to_string().lines() {
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}

/// `summary.csv`.
///
/// # Errors
/// When a row cannot be written as CSV.
pub fn to_csv(rows: &[SummaryRow]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

/// The rows as a JSON array, for programs.
///
/// # Errors
/// When a row cannot be written as JSON.
pub fn to_json(rows: &[SummaryRow]) -> Result<String> {
    Ok(serde_json::to_string_pretty(rows)?)
}

/// Four significant figures, without an exponent where that is readable.
fn figures(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e7).contains(&size) {
        return format!("{value:.3e}");
    }
    let decimals = if size < 1.0 { 4 } else { 3 - (size.log10().floor() as i64).clamp(0, 3) };
    format!("{value:.*}", decimals as usize)
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::path::{Path, PathBuf};

    const HEADER: &str =
        "agent,env,seed,step,episodes,return_mean,return_std,return_min,return_max,length_mean\n";

    /// A collected suite: `value(agent, env, seed, evaluation)`.
    fn suite(folder: &Path, seeds: u64, value: impl Fn(usize, usize, u64, u64) -> f64) -> PathBuf {
        let mut text = HEADER.to_owned();
        for (a, agent) in ["mdpo", "ppo"].iter().enumerate() {
            for (e, env) in ["Hopper-v5", "Swimmer-v5"].iter().enumerate() {
                for seed in 0..seeds {
                    for i in 0..3 {
                        let y = value(a, e, seed, i);
                        writeln!(text, "{agent},{env},{seed},{},10,{y},1.0,0.0,9.0,100", i * 1000).unwrap();
                    }
                }
            }
        }
        let path = folder.join("eval.csv");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eval.csv");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn error(text: &str) -> String {
        let (_folder, path) = file(text);
        format!("{:#}", summarise(&[path]).unwrap_err())
    }

    #[test]
    fn scores_are_the_last_evaluation_and_the_mean_height() {
        let folder = tempfile::tempdir().unwrap();
        // Curve s, s + 1, s + 6 at steps 0, 1000, 2000: final s + 6, area s + (0.5 + 3.5) / 2.
        suite(folder.path(), 5, |_, _, seed, i| [0.0, 1.0, 6.0][i as usize] + 10.0 * seed as f64);
        let (rows, warnings) = summarise(&[folder.path().to_owned()]).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(rows.len(), 8);
        assert!(
            rows.windows(2)
                .all(|w| (&w[0].env, &w[0].agent, w[0].score) < (&w[1].env, &w[1].agent, w[1].score))
        );
        let (last, area) = (&rows[0], &rows[1]);
        assert_eq!(
            (last.score, last.seeds, last.mean, last.median, last.iqm),
            (Score::Final, 5, 26.0, 26.0, 26.0)
        );
        assert_eq!((area.score, area.mean), (Score::Auc, 22.0));
        assert!((last.std.unwrap() - 250f64.sqrt()).abs() < 1e-12);
        assert!(last.iqm_low.unwrap() < 26.0 && last.iqm_high.unwrap() > 26.0);
    }

    #[test]
    fn only_what_is_selected_is_summarised() {
        let folder = tempfile::tempdir().unwrap();
        let path = suite(folder.path(), 1, |a, e, _, _| (a + 2 * e) as f64);
        let selected = |agents: &[&str], envs: &[&str]| {
            let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
            let of = Selection { paths: vec![path.clone()], agents: names(agents), envs: names(envs) };
            summarise(of).map(|(rows, _)| {
                rows.into_iter().step_by(2).map(|r| (r.env, r.agent, r.mean)).collect::<Vec<_>>()
            })
        };
        assert_eq!(selected(&[], &[]).unwrap().len(), 4);
        assert_eq!(selected(&["ppo"], &["Swimmer-v5"]).unwrap(), [("Swimmer-v5".into(), "ppo".into(), 3.0)]);
        assert_eq!(selected(&["ppo", "mdpo"], &["Hopper-v5"]).unwrap().len(), 2);
        let error = |agents: &[&str], envs: &[&str]| selected(agents, envs).unwrap_err().to_string();
        assert_eq!(error(&["pp"], &[]), "no run of agent 'pp' here; did you mean 'ppo'?");
        assert_eq!(error(&[], &["Hopper"]), "no run of environment 'Hopper' here; did you mean 'Hopper-v5'?");
    }

    #[test]
    fn csv_and_json_read_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = suite(folder.path(), 1, |a, e, seed, i| (a + 2 * e) as f64 / 3.0 + (seed * i) as f64);
        let (rows, warnings) = summarise(&[path]).unwrap();
        assert_eq!(warnings.iter().filter(|w| w.contains("1 seed;")).count(), 4);
        let csv = to_csv(&rows).unwrap();
        assert!(csv.starts_with("env,agent,score,seeds,mean,std,median,iqm,iqm_low,iqm_high\n"));
        assert!(csv.contains("Hopper-v5,mdpo,final,1,0.0,,0.0,0.0,,\n"), "{csv}");
        let back: Vec<SummaryRow> =
            csv::Reader::from_reader(csv.as_bytes()).deserialize().map(Result::unwrap).collect();
        assert_eq!(back, rows);
        assert_eq!(serde_json::from_str::<Vec<SummaryRow>>(&to_json(&rows).unwrap()).unwrap(), rows);
    }

    #[test]
    fn tables_fit_a_terminal() {
        let folder = tempfile::tempdir().unwrap();
        let path =
            suite(folder.path(), 5, |a, e, seed, i| -1234567.0 * (1 + a + e) as f64 + (seed * i) as f64);
        let text = table(&summarise(&[path]).unwrap().0);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert_eq!(text.matches("Hopper-v5").count(), 1);
        assert_eq!(text.lines().filter(|line| line.contains("final")).count(), 4);
    }

    #[test]
    fn figures_are_four_and_readable() {
        let shown = [0.0, 0.12345, 1.0, -153.24, 3512.3, 123456.7, 1e-5, -2.5e9].map(figures);
        assert_eq!(shown, ["0.0000", "0.1235", "1.000", "-153.2", "3512", "123457", "1.000e-5", "-2.500e9"]);
    }

    #[test]
    fn diverged_and_ragged_runs_are_named_and_never_averaged() {
        let rows = "a,E,0,0,1,1.0,,,,\na,E,0,10,1,3.0,,,,\na,E,1,0,1,1.0,,,,\na,E,1,10,1,NaN,,,,\n\
                    a,E,2,0,1,5.0,,,,\na,E,3,0,1,inf,,,,\na,E,3,10,1,3.0,,,,\nb,E,9,0,1,,,,,\nb,E,9,10,1,3.0,,,,\n";
        let (_folder, path) = file(&format!("{HEADER}{rows}"));
        let (rows, warnings) = summarise(&[path]).unwrap();
        let (last, area) = (&rows[0], &rows[1]);
        assert_eq!((last.seeds, last.mean), (3, 11.0 / 3.0));
        assert_eq!((area.seeds, area.mean), (1, 2.0));
        let has =
            |text: &str| assert!(warnings.iter().any(|w| w.contains(text)), "'{text}' not in {warnings:#?}");
        has("a on E, seed 1: return is NaN at step 10; left out of final and auc");
        has("a on E, seed 3: return is inf at step 0; left out of auc");
        has("a on E, seed 2: ends at step 0, others at 10");
        has("a on E, seed 2: a single evaluation; left out of auc");
        has("a on E: no seed 9, which other agents have");
        has("b on E: no seed 0, 1, 2, 3");
        has("b on E, seed 9: 1 evaluations without a return");
        has("a on E: 4 seeds; use at least 5");
    }

    #[test]
    fn seeds_that_are_the_same_run_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = suite(folder.path(), 5, |a, _, seed, i| {
            let seed = if a == 0 { seed % 4 } else { seed };
            match a {
                1 if i == 0 => 9.0,
                1 => 500.0,
                _ => (seed * 10 + i) as f64,
            }
        });
        let (_, warnings) = summarise(&[path]).unwrap();
        // Evaluations that hardly vary, as at an optimum, are no sign.
        assert_eq!(warnings.len(), 2, "{warnings:#?}");
        assert!(
            warnings[0].starts_with("mdpo on Hopper-v5: seeds 0 and 4 have the same evaluations"),
            "{warnings:?}"
        );
    }

    #[test]
    fn run_folders_and_their_collection_give_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let collected = suite(folder.path(), 5, |a, e, seed, i| (a + 2 * e) as f64 + (seed * i) as f64);
        let before = summarise(&[folder.path().to_owned()]).unwrap();
        let text = std::fs::read_to_string(&collected).unwrap();
        for line in text.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            let run = folder.path().join(cells[0]).join(cells[1]).join(format!("seed-{}", cells[2]));
            std::fs::create_dir_all(&run).unwrap();
            let file = run.join("eval.csv");
            let old = std::fs::read_to_string(&file).unwrap_or(HEADER.to_owned());
            std::fs::write(file, format!("{old}{line}\n")).unwrap();
        }
        assert_eq!(summarise(&[folder.path().to_owned()]).unwrap(), before);
        std::fs::remove_file(collected).unwrap();
        assert_eq!(summarise(&[folder.path().to_owned()]).unwrap(), before);
        let parts = ["mdpo", "ppo"].map(|agent| folder.path().join(agent));
        assert_eq!(summarise(&parts).unwrap(), before);
        let twice = [folder.path().to_owned(), folder.path().join("ppo")];
        assert!(format!("{:#}", summarise(&twice).unwrap_err()).contains("occurs twice"));
    }

    #[test]
    fn a_sweep_within_a_sweep_is_not_part_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let outer = suite(folder.path(), 5, |a, e, seed, i| (a + 2 * e) as f64 + (seed * i) as f64);
        let before = summarise(&[folder.path().to_owned()]).unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("manifest.jsonl"), "{}\n").unwrap();
        suite(&inner, 5, |_, _, seed, _| seed as f64);
        // Written later, as after a checkout.
        let earlier = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        std::fs::File::options().write(true).open(outer).unwrap().set_modified(earlier).unwrap();
        assert_eq!(summarise(&[folder.path().to_owned()]).unwrap(), before);
        assert_ne!(summarise(&[inner]).unwrap(), before);
    }

    #[test]
    fn bad_input_is_one_clear_error() {
        let row = "ppo,E,0,1000,10,1.5,1,1,1,1\n";
        assert!(error("").contains("eval.csv is empty"));
        assert!(error(HEADER).contains("no run has a score"));
        assert!(
            error(&format!("{HEADER}{row}ppo,E,0,20"))
                .contains("line 3 has 4 columns where the header has 10")
        );
        assert!(error(&format!("{HEADER}{row}{row}")).contains("eval.csv, line 2 and at "));
        let text = error(&format!("{HEADER}ppo,E,0,1000,10,high,1,1,1,1\n"));
        assert!(text.contains("eval.csv: line 2, column 'return_mean': 'high' is not a number"), "{text}");
        let text = error(&format!("{HEADER}ppo,E,-1,1000,10,1,1,1,1,1\n"));
        assert!(text.contains("column 'seed': '-1' is not a whole number"), "{text}");
        assert!(
            error(&format!("{HEADER},E,1,1000,10,1,1,1,1,1\n")).contains("column 'agent': '' is not a name")
        );
        let text = error("agent,env,seed,step,wall_s,steps_per_s\n");
        assert!(text.contains("no column 'return_mean' among: agent, env, seed, step, wall_s"), "{text}");
        let (_folder, path) = file("agent,env,seed,step,wall_s,steps_per_s\n");
        let timing = path.with_file_name("timing.csv");
        std::fs::rename(path, &timing).unwrap();
        let text = format!("{:#}", summarise(&[timing]).unwrap_err());
        assert!(
            text.contains("timing.csv: line 1") && text.contains("'return_mean' is in eval.csv"),
            "{text}"
        );
        assert!(error("x,y\n1,2\n").contains("this is not a file of ours"));
        assert!(
            format!("{:#}", summarise(&["nowhere".into()]).unwrap_err()).contains("nowhere does not exist")
        );
        let empty = tempfile::tempdir().unwrap();
        assert!(
            format!("{:#}", summarise(&[empty.path().into()]).unwrap_err()).contains("no eval.csv under")
        );
        let (_folder, path) = file("");
        std::fs::write(&path, [HEADER.as_bytes(), &[0xff, 0xfe, b',', b'\n']].concat()).unwrap();
        assert!(format!("{:#}", summarise(&[path]).unwrap_err()).contains("line 2"));
    }

    #[test]
    fn monitor_files_have_no_score() {
        let text = error("#{\"t_start\": 1.0, \"env_id\": \"CartPole-v1\"}\nr,l,t\n9.0,9,0.1\n");
        assert!(text.contains("needs eval.csv"), "{text}");
    }

    #[test]
    fn a_large_suite_is_quick() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eval.csv");
        let mut text = HEADER.to_owned();
        for run in 0..1000 {
            for i in 0..100 {
                writeln!(text, "a{},e{},{},{i},10,{},0,0,0,0", run % 10, run / 10 % 20, run / 200, run * i)
                    .unwrap();
            }
        }
        std::fs::write(&path, text).unwrap();
        let start = std::time::Instant::now();
        assert_eq!(summarise(&[path]).unwrap().0.len(), 400);
        // 5000 runs are promised within 10 s; a debug build of a busy machine gets this fifth as long.
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }
}
