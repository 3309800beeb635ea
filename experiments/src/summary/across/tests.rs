use std::fmt::Write as _;

use super::*;
use crate::stats::across::Method;

const HEADER: &str =
    "agent,env,seed,step,episodes,return_mean,return_std,return_min,return_max,length_mean\n";

fn quick() -> Bootstrap {
    Bootstrap { method: Method::Percentile, resamples: 200, seed: 0 }
}

/// Two evaluations a run; the second is `value`.
fn runs(text: &mut String, agent: &str, env: &str, values: &[f64]) {
    for (seed, value) in values.iter().enumerate() {
        writeln!(text, "{agent},{env},{seed},0,10,0.0,,,,").unwrap();
        writeln!(text, "{agent},{env},{seed},100,10,{value},,,,").unwrap();
    }
}

fn read(text: &str, score: Score) -> (Scores, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eval.csv");
    std::fs::write(&path, format!("{HEADER}{text}")).unwrap();
    Scores::read(&[path], score).unwrap()
}

fn scale(random: f64, reference: f64) -> Scale {
    Scale { random, random_source: String::new(), reference, reference_source: String::new() }
}

#[test]
fn scores_are_normalised_and_aggregated() {
    let mut text = String::new();
    for (agent, better) in [("a", 0.0), ("b", 10.0)] {
        runs(&mut text, agent, "E", &[10.0, 12.0, 14.0, 16.0, 18.0].map(|v| v + better));
        // The worse the return, the better the score where the reference lies below random.
        runs(&mut text, agent, "F", &[-1.0; 5]);
    }
    let (scores, mut warnings) = read(&text, Score::Final);
    let scales = BTreeMap::from([("E".to_owned(), scale(4.0, 24.0)), ("F".to_owned(), scale(-3.0, 1.0))]);
    let common = scores.clone().common(&scales, &mut warnings).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(common.tasks("a"), [vec![0.3, 0.4, 0.5, 0.6, 0.7], vec![0.5; 5]]);
    let rows = aggregate(&common, quick()).unwrap();
    assert_eq!((rows[0].runs, rows[0].median.value, rows[0].optimality_gap.value), (10, 0.5, 0.5));
    assert!((rows[1].mean.value - 0.75).abs() < 1e-12);
    let profiles = profiles(&common, 100).unwrap();
    let at = |threshold: f64| profiles[0].thresholds.iter().position(|t| *t == threshold).unwrap();
    // Of a's ten scores 0.6 and 0.7 are above 0.5, and none above 1; the five at 0.5 are not above it.
    assert_eq!(
        (profiles[0].share[at(0.5)], profiles[0].share[at(0.49)], profiles[0].share[at(1.0)]),
        (0.2, 0.8, 0.0)
    );
    let table = aggregate_table(&rows, &common.envs());
    assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
    assert!(table.find("\n b ").unwrap() < table.find("\n a ").unwrap(), "{table}");

    let pairs = pairs(&scores, None).unwrap();
    let rows = paired(&scores, &pairs, quick(), &mut warnings).unwrap();
    let e = &rows[0];
    assert_eq!((e.env.as_str(), e.agent.as_str(), e.other.as_str()), ("E", "a", "b"));
    assert_eq!((e.paired.difference.value, e.paired.worse, e.paired.p, e.p_holm), (-10.0, 5, 0.0625, 0.125));
    let rows = improvements(&scores, &pairs, quick()).unwrap();
    // Never better on E, always level on F.
    assert_eq!((rows[0].tasks, rows[0].probability.value), (2, 0.25));
}

#[test]
fn holes_are_named_and_never_averaged() {
    let mut text = String::new();
    runs(&mut text, "a", "E", &[1.0, 2.0, f64::NAN, 4.0, 5.0]);
    runs(&mut text, "b", "E", &[1.0, 2.0, 3.0, 4.0, 5.0]);
    text += "b,E,5,0,10,0.0,,,,\n";
    runs(&mut text, "a", "only-a", &[1.0; 5]);
    runs(&mut text, "a", "no-scale", &[1.0; 5]);
    runs(&mut text, "b", "no-scale", &[1.0; 5]);
    let (scores, mut warnings) = read(&text, Score::Final);
    assert_eq!(scores.agents["a"]["E"].keys().copied().collect::<Vec<_>>(), [0, 1, 3, 4]);
    assert_eq!(scores.agents["b"]["E"].len(), 5);
    let scales = BTreeMap::from([("E".to_owned(), scale(0.0, 1.0)), ("only-a".to_owned(), scale(0.0, 1.0))]);
    let common = scores.clone().common(&scales, &mut warnings).unwrap();
    assert_eq!(common.envs(), BTreeSet::from(["E"]));
    let has =
        |text: &str| assert!(warnings.iter().any(|w| w.contains(text)), "'{text}' not in {warnings:#?}");
    has("a on E, seed 2: return is NaN at step 100: it diverged; left out");
    has("b on E, seed 5: ends at step 0, others at 100");
    has("a on E: 4 seeds; use at least 5");
    has("a on E: no score of seed 2, which other agents have");
    has("only-a: no score of b; the environment is left out");
    has("no-scale: no random and reference score to normalise by");
    // Paired: only the four seeds in common.
    let rows = paired(&scores, &pairs(&scores, Some("b")).unwrap(), quick(), &mut warnings).unwrap();
    assert_eq!((rows[0].paired.seeds, rows[0].paired.difference.value, rows[0].paired.p), (4, 0.0, 1.0));
    assert!(pairs(&scores, Some("c")).unwrap_err().to_string().contains("no scores of 'c' among: a, b"));
    let error = scores.common(&BTreeMap::new(), &mut warnings).unwrap_err();
    assert!(error.to_string().contains("no environment to compare on"), "{error}");
}

#[test]
fn the_area_is_a_score() {
    let mut text = String::new();
    runs(&mut text, "a", "E", &[1.0, 2.0, 3.0, 4.0, 5.0]);
    let (scores, warnings) = read(&text, Score::Auc);
    assert_eq!(scores.tasks("a"), [[0.5, 1.0, 1.5, 2.0, 2.5]]);
    assert_eq!(warnings, Vec::<String>::new());
    assert!(pairs(&scores, None).unwrap_err().to_string().contains("needs two agents"));
}

/// Every number of the built-in file is in the committed results, where its source says.
#[test]
fn built_in_scales_are_the_committed_results() {
    #[derive(Deserialize)]
    struct Row {
        env: String,
        agent: String,
        score: String,
        iqm: f64,
    }
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference");
    let scales = scales(None).unwrap();
    assert!(scales.len() >= 10);
    for (env, scale) in scales {
        for (value, source) in
            [(scale.random, &scale.random_source), (scale.reference, &scale.reference_source)]
        {
            let (suite, agent) = source.split_once(": ").unwrap();
            let mut reader = csv::Reader::from_path(results.join(suite).join("summary.csv")).unwrap();
            let rows: Vec<Row> = reader.deserialize().map(Result::unwrap).collect();
            let row = rows.iter().find(|r| r.env == env && r.agent == agent && r.score == "final");
            let found = row.unwrap_or_else(|| panic!("{env}: nothing at {source}")).iqm;
            assert!((found - value).abs() <= 5e-4 * found.abs(), "{env}: {value} is {found} in {source}");
        }
        assert!(scale.reference > scale.random, "{env}");
    }
}

#[test]
fn a_bad_scale_file_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.toml");
    let error = |text: &str| {
        std::fs::write(&path, text).unwrap();
        format!("{:#}", scales(Some(&path)).unwrap_err())
    };
    assert!(error("[E]\nrandom = 1\n").contains("each environment needs random, random_source"));
    let text = "[E]\nrandom = 1\nreference = 1\nrandom_source = \"\"\nreference_source = \"\"\n";
    assert!(error(text).contains("E: random and reference must be finite and differ"));
    assert!(format!("{:#}", scales(Some(Path::new("nowhere.toml"))).unwrap_err()).contains("nowhere.toml"));
}
