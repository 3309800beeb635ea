use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use super::data::Short;
use super::*;
use crate::stats;
use crate::summary::{self, Score};

const EVAL: &str = "agent,env,seed,step,episodes,return_mean,return_std,return_min,return_max,length_mean\n";

/// Two agents, two environments that have reference scores, five seeds, eleven evaluations.
fn eval(name: &str) -> String {
    let mut text = EVAL.to_owned();
    for (a, agent) in ["mdpo", name].iter().enumerate() {
        for (e, env) in ["CartPole-v1", "Pendulum-v1"].iter().enumerate() {
            for seed in 0..5 {
                for i in 0..11 {
                    let y = ((a + 2 * e + 1) * (seed + 3)) as f64 / 7.0 + ((seed * 7 + i * 5) % 11) as f64;
                    writeln!(text, "{agent},{env},{seed},{},20,{y},1,0,9,100", i * 1000).unwrap();
                }
            }
        }
    }
    text
}

fn source(paths: &[&Path]) -> Source {
    Source {
        paths: paths.iter().map(|p| p.to_path_buf()).collect(),
        scales: across::scales(None).unwrap(),
        ..Source::default()
    }
}

/// The page's data, read back as a browser does.
fn data_of(page: &str) -> Value {
    let (_, after) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(after.split_once("</script>").unwrap().0).unwrap()
}

fn report(folder: &Path) -> Value {
    data_of(&page(&data::assemble(&source(&[folder])).unwrap(), "").unwrap())
}

#[test]
fn the_numbers_are_those_of_summary_and_plot() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("eval.csv"), eval("ppo")).unwrap();
    let report = report(folder.path());
    let paths = [folder.path().to_owned()];
    let (rows, warnings) = summary::summarise(&paths).unwrap();
    let shown: Vec<summary::SummaryRow> = serde_json::from_value(report["summary"].clone()).unwrap();
    assert_eq!((shown.len(), &shown), (8, &rows));
    assert_eq!(report["warnings"], serde_json::to_value(warnings).unwrap());

    // The curve ends where the final score is, up to the five digits of a curve.
    let lines = report["columns"][0]["step"]["lines"].as_array().unwrap();
    assert_eq!((report["columns"][0]["name"].as_str(), lines.len()), (Some("return_mean"), 4));
    for line in lines {
        let name = |list: &str, key: &str| match list {
            "agents" => report[list][line[key].as_u64().unwrap() as usize]["name"].as_str().unwrap(),
            _ => report[list][line[key].as_u64().unwrap() as usize].as_str().unwrap(),
        };
        let (agent, env) = (name("agents", "agent"), name("envs", "env"));
        let row = rows.iter().find(|r| r.agent == agent && r.env == env && r.score == Score::Final).unwrap();
        let last = line["centre"].as_array().unwrap().last().unwrap().as_f64().unwrap();
        assert!((last - row.iqm).abs() <= 1e-4 * row.iqm.abs(), "{last} {}", row.iqm);
        let grid = report["grids"][line["grid"].as_u64().unwrap() as usize].as_array().unwrap();
        assert_eq!((grid.len(), grid[10].as_u64()), (11, Some(10_000)));
        let ends = |key: &str| line[key].as_array().unwrap().last().unwrap().as_f64().unwrap();
        assert!(ends("low") <= last && last <= ends("high") && ends("low") < ends("high"));
    }
    // Known agents have their colours of `plot`.
    assert_eq!(report["agents"][0]["color"], "#0072B2");
    assert_eq!(report["agents"][1]["color"], "#D55E00");

    // A run's last return, and the aggregate of normalised scores by hand.
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 20);
    let scales = across::scales(None).unwrap();
    let mut scores = Vec::new();
    for run in runs.iter().filter(|run| run["agent"] == 0) {
        let env = report["envs"][run["env"].as_u64().unwrap() as usize].as_str().unwrap();
        scores.push(scales[env].normalised(run["returns"][10].as_f64().unwrap()));
    }
    let iqm = &report["views"][0]["panels"][0];
    let row = iqm["rows"].as_array().unwrap().iter().find(|row| row["name"] == "mdpo").unwrap();
    let expected = stats::iqm(&scores).unwrap();
    assert!((row["value"].as_f64().unwrap() - expected).abs() < 1e-3 * expected.abs(), "{row} {expected}");
    let kinds: Vec<&str> =
        report["views"].as_array().unwrap().iter().map(|v| v["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["intervals", "aggregate", "profiles", "improvement"]);
}

#[test]
fn names_cannot_leave_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let bad = "</script><script>alert(1)</script><!--{{script}}";
    fs::write(folder.path().join("eval.csv"), eval(bad)).unwrap();
    let mut source = source(&[folder.path()]);
    source.title = Some("a < b & </title>{{data}}".to_owned());
    let page = page(&data::assemble(&source).unwrap(), "").unwrap();
    let report = data_of(&page);
    assert_eq!(report["agents"][0]["name"], bad);
    assert_eq!(report["title"], "a < b & </title>{{data}}");
    assert!(page.contains("<title>a &lt; b &amp; &lt;/title&gt;{{data}} · steadfast</title>"));
    // Data, uPlot and ours.
    assert_eq!(page.matches("<script").count(), 3);
    assert_eq!(page.matches("</script>").count(), 3);
    assert!(page.contains("Leon Sorokin"), "the licence of uPlot");
    // Nothing is loaded from anywhere.
    assert!(page.contains("default-src 'none'"));
    for address in ["src=\"http", "href=\"http", "url(http", "@import"] {
        assert!(!page.contains(address), "{address}");
    }
}

#[test]
fn metrics_time_and_columns_that_are_blank() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("eval.csv"), eval("ppo")).unwrap();
    let mut train = "agent,env,seed,step,iteration,kl,q\n".to_owned();
    let mut timing = "agent,env,seed,step,wall_s,steps_per_s\n".to_owned();
    for agent in ["mdpo", "ppo"] {
        for env in ["CartPole-v1", "Pendulum-v1"] {
            for seed in 0..5 {
                for i in 1..=1000 {
                    writeln!(train, "{agent},{env},{seed},{},{i},{},", i * 10, i as f64 / 100.0).unwrap();
                }
                writeln!(timing, "{agent},{env},{seed},10000,{},1", 3600.0 * (3 + seed) as f64).unwrap();
            }
        }
    }
    fs::write(folder.path().join("train.csv"), train).unwrap();
    let without = report(folder.path());
    fs::write(folder.path().join("timing.csv"), timing).unwrap();
    let report = report(folder.path());
    let names: Vec<&str> =
        report["columns"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["return_mean", "length_mean", "kl"]);
    assert_eq!(without["columns"][0]["wall"], Value::Null);
    let wall = &report["columns"][0]["wall"];
    assert_eq!((wall["label"].as_str(), wall["unit"].as_f64()), (Some("wall time (hours)"), Some(3600.0)));
    // A thinned curve keeps both ends.
    let line = &report["columns"][2]["step"]["lines"][0];
    let grid = report["grids"][line["grid"].as_u64().unwrap() as usize].as_array().unwrap();
    assert_eq!((grid.len(), &grid[0], &grid[199]), (200, &10.into(), &10_000.into()));
    assert_eq!((line["centre"][0].as_f64(), line["centre"][199].as_f64()), (Some(0.01), Some(10.0)));
    assert_eq!(report["runs"][0]["metrics"][0][0], "kl");
}

#[test]
fn a_run_that_diverged_is_named_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (text, row) = (eval("ppo"), "mdpo,CartPole-v1,0,10000,20,");
    let (head, tail) = text.split_once(row).unwrap();
    let (_, rest) = tail.split_once(',').unwrap();
    fs::write(folder.path().join("eval.csv"), format!("{head}{row}NaN,{rest}")).unwrap();
    let report = report(folder.path());
    assert_eq!(report["runs"][0]["returns"][10], Value::Null);
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("mdpo on CartPole-v1, seed 0: return is NaN at step 10000"), "{warnings}");
    let rows: Vec<summary::SummaryRow> = serde_json::from_value(report["summary"].clone()).unwrap();
    assert_eq!(rows[0].seeds, 4);
}

#[test]
fn bad_input_is_the_error_of_summary() {
    let folder = tempfile::tempdir().unwrap();
    let both = |path: &Path| {
        let ours = format!("{:#}", data::assemble(&source(&[path])).unwrap_err());
        let theirs = format!("{:#}", summary::summarise(&[path.to_owned()]).unwrap_err());
        assert_eq!(ours, theirs);
        ours
    };
    assert!(both(folder.path()).contains("no eval.csv under"));
    assert!(both(Path::new("nowhere")).contains("nowhere does not exist"));
    let file = folder.path().join("eval.csv");
    fs::write(&file, format!("{EVAL}ppo,E,0,0,10,high,1,1,1,1\n")).unwrap();
    assert!(both(folder.path()).contains("line 2, column 'return_mean': 'high' is not a number"));
    fs::write(&file, format!("{EVAL}ppo,E,0,0,10,NaN,1,1,1,1\n")).unwrap();
    assert!(both(folder.path()).contains("no run has a score"));
    fs::write(&file, eval("ppo")).unwrap();
    fs::write(folder.path().join("train.csv"), "agent,env,seed,step,iteration,kl\nppo,E,0,10,1\n").unwrap();
    let error = format!("{:#}", data::assemble(&source(&[folder.path()])).unwrap_err());
    assert!(error.contains("train.csv: line 2 has 5 columns where the header has 6"), "{error}");
    assert!(format!("{:#}", write(folder.path(), "").unwrap_err()).contains("is a folder"));
}

#[test]
fn numbers_are_short_and_steps_whole() {
    let text = |v: f64| serde_json::to_string(&Short(v)).unwrap();
    let shown = [0.0, -0.5, 1.0 / 3.0, 123_456.7, 1_234_567.0, -2.34567e-9, 1e300, f64::NAN, f64::INFINITY];
    let expected = ["0", "-0.5", "0.33333", "123460", "1234567", "-2.3457e-9", "1e+300", "null", "null"];
    assert_eq!(shown.map(text), expected);
}

#[test]
fn a_page_of_500_runs_is_below_5_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut evals, mut train) = (EVAL.to_owned(), "agent,env,seed,step,iteration".to_owned());
    let metrics = 12;
    (0..metrics).for_each(|m| write!(train, ",metric_{m}").unwrap());
    train.push('\n');
    let mut timing = "agent,env,seed,step,wall_s,steps_per_s\n".to_owned();
    for run in 0..500u64 {
        let (agent, env, seed) = (run % 20, run / 20 % 5, run / 100);
        // No two numbers alike, all of many digits.
        let noise = |i: u64| ((run * 7919 + i * 104_729) % 1_000_003) as f64 / 977.0;
        for i in 0..=100 {
            writeln!(evals, "a{agent},e{env},{seed},{},20,{},0,0,0,{}", i * 10_000, noise(i), noise(i + 500))
                .unwrap();
        }
        for i in 1..=60 {
            write!(train, "a{agent},e{env},{seed},{},{i}", i * 16_384).unwrap();
            (0..metrics).for_each(|m| write!(train, ",{}", noise(i * 17 + m)).unwrap());
            train.push('\n');
            writeln!(timing, "a{agent},e{env},{seed},{},{},1", i * 16_384, i as f64 * noise(3)).unwrap();
        }
    }
    for (name, text) in [("eval.csv", evals), ("train.csv", train), ("timing.csv", timing)] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let page = page(&data::assemble(&source(&[folder.path()])).unwrap(), "").unwrap();
    assert!(page.len() < 4_500_000, "{}", page.len());
    assert_eq!(data_of(&page)["runs"].as_array().unwrap().len(), 500);
}
