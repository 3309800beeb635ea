use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// What `fixtures/rliable.py` wrote.
#[derive(Deserialize)]
struct Fixture {
    across: Vec<Suite>,
    pairs: Vec<Pair>,
    skewed: Vec<Skewed>,
    normal: Vec<(f64, f64)>,
}

#[derive(Deserialize)]
struct Suite {
    x: Vec<Vec<f64>>,
    y: Vec<Vec<f64>>,
    aggregates: BTreeMap<String, (f64, f64, f64)>,
    improvement: (f64, f64, f64),
    thresholds: Vec<f64>,
    profile: Vec<f64>,
    profile_low: Vec<f64>,
    profile_high: Vec<f64>,
    bca_iqm: (f64, f64),
}

#[derive(Deserialize)]
struct Pair {
    differences: Vec<f64>,
    mean: f64,
    p: f64,
}

#[derive(Deserialize)]
struct Skewed {
    values: Vec<f64>,
    low: f64,
    high: f64,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../../../fixtures/rliable.json")).unwrap()
}

fn with(method: Method, resamples: usize) -> Bootstrap {
    Bootstrap { method, resamples, seed: 0 }
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1.0), "{a} differs from {b}");
}

/// Ends from another generator agree up to Monte Carlo noise: a share of the width.
fn near(found: (f64, f64), expected: (f64, f64), share: f64) {
    let noise = share * (expected.1 - expected.0) + 1e-12;
    let apart = (found.0 - expected.0).abs().max((found.1 - expected.1).abs());
    assert!(apart <= noise, "{found:?} and {expected:?} are {apart} apart");
}

#[test]
fn aggregates_agree_with_rliable() {
    for suite in fixture().across {
        let found = aggregates(&suite.x, with(Method::Percentile, 50_000)).unwrap();
        for (name, e) in ["iqm", "median", "mean", "optimality_gap"].into_iter().zip(found) {
            let (value, low, high) = suite.aggregates[name];
            close(e.value, value);
            near((e.low, e.high), (low, high), 0.025);
        }
    }
}

#[test]
fn probabilities_of_improvement_agree_with_rliable() {
    for suite in fixture().across {
        let found = improvement(&suite.x, &suite.y, with(Method::Percentile, 50_000)).unwrap();
        let (value, low, high) = suite.improvement;
        close(found.value, value);
        // Theirs are 5000 draws, as they are slow.
        near((found.low, found.high), (low, high), 0.05);
        let turned = improvement(&suite.y, &suite.x, with(Method::Percentile, 100)).unwrap();
        close(found.value + turned.value, 1.0);
        let even = improvement(&suite.x, &suite.x, with(Method::Percentile, 100)).unwrap();
        close(even.value, 0.5);
    }
}

#[test]
fn profiles_agree_with_rliable() {
    for suite in fixture().across {
        let found = profile(&suite.x, &suite.thresholds, 50_000, 0).unwrap();
        let runs: usize = suite.x.iter().map(Vec::len).sum();
        for i in 0..suite.thresholds.len() {
            close(found.centre[i], suite.profile[i]);
            // Shares come in steps of a run, and so do the ends of their intervals.
            let step = 1.0 / runs as f64 + 1e-12;
            assert!((found.low[i] - suite.profile_low[i]).abs() <= step);
            assert!((found.high[i] - suite.profile_high[i]).abs() <= step);
        }
        assert!(found.centre.windows(2).all(|w| w[0] >= w[1]));
    }
    // A score on the threshold is not above it.
    assert_eq!(profile(&[vec![1.0, 2.0]], &[1.0, 2.0], 10, 0).unwrap().centre, [0.5, 0.0]);
}

#[test]
fn bca_intervals_agree_with_scipy() {
    for suite in fixture().across {
        let [iqm, ..] = aggregates(&suite.x, with(Method::Bca, 50_000)).unwrap();
        near((iqm.low, iqm.high), suite.bca_iqm, 0.03);
    }
    for sample in fixture().skewed {
        let groups = [sample.values];
        let [_, _, mean, _] = aggregates(&groups, with(Method::Bca, 50_000)).unwrap();
        near((mean.low, mean.high), (sample.low, sample.high), 0.03);
        // It is the correction that is tested: percentiles lie elsewhere.
        let [_, _, plain, _] = aggregates(&groups, with(Method::Percentile, 50_000)).unwrap();
        assert!(mean.high - plain.high > 0.05 * (sample.high - sample.low));
    }
}

#[test]
fn the_normal_quantile_is_scipys() {
    for (p, z) in fixture().normal {
        assert!((normal_quantile(p) - z).abs() <= 1e-9 * z.abs().max(1.0), "{p}: {} {z}", normal_quantile(p));
        assert!((normal(z) - p).abs() <= 1e-9 * p);
    }
}

#[test]
fn sign_flips_agree_with_scipy() {
    for pair in fixture().pairs {
        let found = paired(&pair.differences, with(Method::Percentile, 200)).unwrap();
        close(found.difference.value, pair.mean);
        close(found.p, pair.p);
    }
    // Random patterns for many seeds: near the normal approximation of a sum of random signs.
    let differences: Vec<f64> = (0..40).map(|i| f64::from(i % 5) - 1.6).collect();
    let found = paired(&differences, with(Method::Percentile, 200)).unwrap();
    let z = differences.iter().sum::<f64>() / differences.iter().map(|d| d * d).sum::<f64>().sqrt();
    assert!((found.p - 2.0 * normal(-z.abs())).abs() < 0.02, "{} {z}", found.p);
    assert_eq!((found.seeds, found.better, found.worse), (40, 24, 16));
    // Equal agents differ by nothing.
    let none = paired(&[0.0; 5], with(Method::Percentile, 200)).unwrap();
    assert_eq!((none.p, none.better, none.worse, none.difference.high), (1.0, 0, 0, 0.0));
}

#[test]
fn holm_corrects_step_by_step() {
    // 0.01 x 4; 0.02 x 3; 0.03 x 2 but not below its predecessor; 0.5 x 1.
    assert_eq!(holm(&[0.5, 0.01, 0.03, 0.02]), [0.5, 0.04, 0.06, 0.06]);
    assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    assert_eq!(holm(&[]), Vec::<f64>::new());
}

#[test]
fn ragged_tasks_keep_their_weight_in_means_and_holes_are_errors() {
    let b = with(Method::Percentile, 100);
    let ragged = [vec![0.0; 9], vec![1.0]];
    let [iqm, median, mean, gap] = aggregates(&ragged, b).unwrap();
    assert_eq!((iqm.value, median.value, mean.value, gap.value), (0.0, 0.5, 0.5, 0.9));
    assert_eq!(aggregates(&[vec![1.0], vec![f64::NAN]], b), Err(StatsError::NotFinite(0)));
    assert!(matches!(aggregates(&[vec![1.0], vec![]], b), Err(StatsError::TooFew { .. })));
    assert!(aggregates(&[], b).is_err());
    assert_eq!(improvement(&ragged, &ragged[..1], b), Err(StatsError::Lengths(2, 1)));
    assert_eq!(profile(&ragged, &[1.0, 1.0], 10, 0).unwrap_err(), StatsError::NotIncreasing(1));
    assert!(paired(&[1.0], b).is_err());
    // A jackknife needs two runs.
    let error = aggregates(&ragged, with(Method::Bca, 100)).unwrap_err();
    assert_eq!(error, StatsError::TooFew { needed: 2, found: 1 });
    // Constant scores: nothing to correct.
    let [iqm, ..] = aggregates(&[vec![2.0; 5]], with(Method::Bca, 100)).unwrap();
    assert_eq!((iqm.low, iqm.high), (2.0, 2.0));
}

#[test]
fn fifty_thousand_resamples_of_a_large_suite_are_quick() {
    let mut rng = stream(5, Purpose::Check, 0);
    use rand::Rng as _;
    let mut agent = || -> Vec<Vec<f64>> {
        (0..11).map(|_| (0..10).map(|_| f64::from(rng.next_u32()) / 4e9).collect()).collect()
    };
    let agents: Vec<_> = (0..6).map(|_| agent()).collect();
    let start = std::time::Instant::now();
    for scores in &agents {
        aggregates(scores, with(Method::Percentile, 50_000)).unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("6 agents x 11 tasks x 10 seeds, 50 000 resamples: {seconds:.2} s");
    // 2 s are promised on a free core; a busy machine gets five times as long.
    assert!(seconds < 10.0, "{seconds}");
}

proptest! {
    #[test]
    fn aggregates_lie_within_their_scores(
        scores in prop::collection::vec(prop::collection::vec(-2.0..2.0f64, 2..6), 1..5), bca: bool, seed in 0u64..9,
    ) {
        let method = if bca { Method::Bca } else { Method::Percentile };
        let all = scores.concat();
        let low = all.iter().copied().fold(f64::INFINITY, f64::min) - 1e-9;
        let high = all.iter().copied().fold(f64::NEG_INFINITY, f64::max) + 1e-9;
        let found = aggregates(&scores, Bootstrap { method, resamples: 60, seed }).unwrap();
        for e in &found[..3] {
            prop_assert!(low <= e.low && e.low <= e.high && e.high <= high && low <= e.value && e.value <= high);
        }
        // The gap is what lies below 1.
        let short: f64 = all.iter().map(|s| (1.0 - s).max(0.0)).sum::<f64>() / all.len() as f64;
        prop_assert!((found[3].value - short).abs() < 1e-12);
    }
}

proptest! {
    /// Sorting once serves every resample: the same draws as from a look at all pairs, ties and unequal numbers of runs included.
    #[test]
    fn improvement_equals_a_count_over_all_pairs(
        x in prop::collection::vec(prop::collection::vec(prop_oneof![0..4i32, -99..99i32], 2..9), 3),
        y in prop::collection::vec(prop::collection::vec(prop_oneof![0..4i32, -99..99i32], 2..9), 3),
        zero in prop_oneof![Just(0.0), Just(-0.0)],
    ) {
        let scores = |tasks: Vec<Vec<i32>>, zero: f64| -> Vec<Vec<f64>> {
            let score = |v: i32| if v == 0 { zero } else { f64::from(v) };
            tasks.into_iter().map(|runs| runs.into_iter().map(score).collect()).collect()
        };
        let (x, y) = (scores(x, zero), scores(y, 0.0));
        let groups = [x.clone(), y.clone()].concat();
        let pooled = groups.concat();
        for method in [Method::Percentile, Method::Bca] {
            let [expected] = estimates(&groups, with(method, 50), |picks, sizes| {
                let (mut of_x, mut of_y) = picks.split_at(sizes[..3].iter().sum());
                let mut total = 0.0;
                for task in 0..3 {
                    let (a, b) = (&of_x[..sizes[task]], &of_y[..sizes[3 + task]]);
                    let pairs = a.iter().flat_map(|a| b.iter().map(|b| (pooled[*a], pooled[*b])));
                    let wins: u32 = pairs.map(|(a, b)| u32::from(a > b) + u32::from(a >= b)).sum();
                    total += f64::from(wins) / (2 * a.len() * b.len()) as f64;
                    (of_x, of_y) = (&of_x[a.len()..], &of_y[b.len()..]);
                }
                [total / 3.0]
            }).unwrap();
            prop_assert_eq!(improvement(&x, &y, with(method, 50)).unwrap(), expected);
        }
    }
}
