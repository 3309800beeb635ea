//! Statistics of agents across tasks: aggregates, performance profiles, probability of improvement, and paired
//! differences by seed.
//!
//! Scores are `scores[task][run]`, brought to one scale by the caller. A resample draws runs anew within each task
//! (stratified), so that no task's weight varies; tasks may have different numbers of runs, but none may be empty and
//! every score must be finite. Definitions are those of Agarwal et al. (2021, arXiv:2108.13264) and of their library
//! `rliable`: the mean and the median are those of the tasks' means, the interquartile mean and the optimality gap pool
//! all runs, profiles count scores strictly above a threshold, and a tie is half an improvement.

use steadfast_envs::rng::{Purpose, stream};

use super::{Band, CONFIDENCE, Result, StatsError, at_least, average, check, ends, percentile, resample};

/// One number for an agent on all tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Interquartile mean of all runs.
    Iqm,
    /// Median over tasks of the mean over runs.
    Median,
    /// Mean over tasks of the mean over runs.
    Mean,
    /// Mean shortfall below a score of 1; what lies above counts as 1. Lower is better.
    OptimalityGap,
}

impl Aggregate {
    /// All of them, in the order of [`aggregates`].
    pub const ALL: [Self; 4] = [Self::Iqm, Self::Median, Self::Mean, Self::OptimalityGap];

    /// Its name in tables and figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iqm => "IQM",
            Self::Median => "median",
            Self::Mean => "mean",
            Self::OptimalityGap => "optimality gap",
        }
    }
}

/// How an interval is made of bootstrap draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// The outer percentiles of the draws.
    #[default]
    Percentile,
    /// Bias-corrected and accelerated (Efron 1987): percentiles shifted for the draws' bias and skewness.
    Bca,
}

/// A statistic with its interval at [`CONFIDENCE`].
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// The statistic of the data.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How intervals are computed.
#[derive(Clone, Copy, Debug)]
pub struct Bootstrap {
    /// From draws to ends.
    pub method: Method,
    /// Number of draws.
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// The four aggregates of one agent, from shared resamples.
///
/// # Errors
/// Without tasks, with a task without runs, or with a score that is not finite.
pub fn aggregates(scores: &[Vec<f64>], bootstrap: Bootstrap) -> Result<[Estimate; 4]> {
    let pooled = scores.concat();
    let mut order: Vec<usize> = (0..pooled.len()).collect();
    order.sort_by(|a, b| pooled[*a].total_cmp(&pooled[*b]));
    let mut rank = vec![0; pooled.len()];
    for (place, &run) in order.iter().enumerate() {
        rank[run] = place;
    }
    let (mut counts, mut means) = (vec![0; pooled.len()], Vec::new());
    estimates(scores, bootstrap, |picks, sizes| {
        means.clear();
        let mut rest = picks;
        for &size in sizes {
            let (task, others) = rest.split_at(size);
            means.push(task.iter().map(|&run| pooled[run]).sum::<f64>() / size as f64);
            rest = others;
        }
        let n = picks.len();
        let gap = 1.0 - picks.iter().map(|&run| pooled[run].min(1.0)).sum::<f64>() / n as f64;
        // The runs are sorted once, a resample only counts how often it has each.
        counts.fill(0);
        for &run in picks {
            counts[rank[run]] += 1;
        }
        let (mut skip, mut keep, mut sum) = (n / 4, n - 2 * (n / 4), 0.0);
        for (&run, &count) in order.iter().zip(&counts) {
            let skipped = count.min(skip);
            let kept = (count - skipped).min(keep);
            sum += kept as f64 * pooled[run];
            skip -= skipped;
            keep -= kept;
        }
        let (iqm, mean) = (sum / (n - 2 * (n / 4)) as f64, average(&means));
        [iqm, percentile(&mut means, 50.0), mean, gap]
    })
}

/// Share of all runs whose score is strictly above each of `thresholds` (increasing), with percentile intervals.
///
/// # Errors
/// As [`aggregates`]; with thresholds that do not increase.
pub fn profile(scores: &[Vec<f64>], thresholds: &[f64], resamples: usize, seed: u64) -> Result<Band> {
    checked(scores)?;
    at_least(resamples, 1)?;
    check(thresholds, 1)?;
    if let Some(i) = (1..thresholds.len()).find(|&i| thresholds[i] <= thresholds[i - 1]) {
        return Err(StatsError::NotIncreasing(i));
    }
    // A score is above the thresholds before its place, and only those.
    let places: Vec<usize> = scores.iter().flatten().map(|s| thresholds.partition_point(|t| t < s)).collect();
    let shares = |picks: &[usize]| -> Vec<f64> {
        let mut above = vec![0.0; thresholds.len() + 1];
        for &run in picks {
            above[places[run]] += 1.0;
        }
        for i in (0..thresholds.len()).rev() {
            above[i] += above[i + 1];
        }
        above[1..].iter().map(|count| count / picks.len() as f64).collect()
    };
    let sizes: Vec<usize> = scores.iter().map(Vec::len).collect();
    let mut picks: Vec<usize> = (0..places.len()).collect();
    let centre = shares(&picks);
    let mut rng = stream(seed, Purpose::Bootstrap, 0);
    let mut draws = vec![Vec::with_capacity(resamples); thresholds.len()];
    for _ in 0..resamples {
        resample(&sizes, &mut picks, &mut rng);
        for (draws, share) in draws.iter_mut().zip(shares(&picks)) {
            draws.push(share);
        }
    }
    let (low, high) = draws.iter_mut().map(|d| ends(d)).unzip();
    Ok(Band { centre, low, high })
}

/// Probability that a run of `x` scores above a run of `y` on the same task, a tie counting one half, averaged over tasks.
/// The runs of `x` and `y` are resampled independently.
///
/// # Errors
/// As [`aggregates`]; when `x` and `y` have not the same number of tasks.
pub fn improvement(x: &[Vec<f64>], y: &[Vec<f64>], bootstrap: Bootstrap) -> Result<Estimate> {
    if x.len() != y.len() {
        return Err(StatsError::Lengths(x.len(), y.len()));
    }
    let groups = [x, y].concat();
    let runs: usize = x.iter().map(Vec::len).sum();
    // The runs of each task by their score, those of y first among equals; whether a run's score exceeds that before it.
    let (mut at_x, mut at_y) = (0, runs);
    let sorted = x.iter().zip(y).map(|(x, y)| {
        let of_y = y.iter().enumerate().map(|(i, score)| (at_y + i, *score));
        let of_x = x.iter().enumerate().map(|(i, score)| (at_x + i, *score));
        let mut sorted: Vec<(usize, f64)> = of_y.chain(of_x).collect();
        sorted.sort_by(|a, b| a.1.partial_cmp(&b.1).unwrap_or(std::cmp::Ordering::Equal));
        (at_x, at_y) = (at_x + x.len(), at_y + y.len());
        let above = |i: usize| i > 0 && sorted[i].1 > sorted[i - 1].1;
        sorted.iter().enumerate().map(|(i, (run, _))| (*run, above(i))).collect()
    });
    let sorted: Vec<Vec<(usize, bool)>> = sorted.collect();
    let mut counts = vec![0; groups.iter().map(Vec::len).sum()];
    let [p] = estimates(&groups, bootstrap, |picks, sizes| {
        counts.fill(0);
        picks.iter().for_each(|run| counts[*run] += 1u64);
        let (of_x, of_y) = sizes.split_at(sorted.len());
        let shares = sorted.iter().zip(of_x.iter().zip(of_y)).map(|(sorted, (of_x, of_y))| {
            // Twice the Mann-Whitney statistic, in whole numbers.
            let (mut wins, mut below, mut equal) = (0, 0, 0);
            for &(run, above) in sorted {
                if above {
                    below += equal;
                    equal = 0;
                }
                if run < runs {
                    wins += counts[run] * (2 * below + equal);
                } else {
                    equal += counts[run];
                }
            }
            wins as f64 / (2 * of_x * of_y) as f64
        });
        [shares.sum::<f64>() / sorted.len() as f64]
    })?;
    Ok(p)
}

/// A comparison of two agents on one task by the seeds that both have.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Paired {
    /// Seeds in common.
    pub seeds: usize,
    /// Mean difference, with its interval over seeds.
    pub difference: Estimate,
    /// Seeds on which the first is better.
    pub better: usize,
    /// Seeds on which the second is better.
    pub worse: usize,
    /// Two-sided p of the sign-flip test of a mean difference of 0; never below 2 / 2^seeds.
    pub p: f64,
}

/// Describes the `differences` of two agents, one a seed.
///
/// The test asks how often a mean at least as far from 0 arises when the signs of the differences are drawn by lot: all
/// sign patterns up to 16 seeds, 65 535 random ones and the observed one beyond.
///
/// # Errors
/// With fewer than two differences, or one that is not finite.
pub fn paired(differences: &[f64], bootstrap: Bootstrap) -> Result<Paired> {
    check(differences, 2)?;
    let [difference] = estimates(&[differences.to_vec()], bootstrap, |picks, _| {
        [picks.iter().map(|&seed| differences[seed]).sum::<f64>() / picks.len() as f64]
    })?;
    Ok(Paired {
        seeds: differences.len(),
        difference,
        better: differences.iter().filter(|d| **d > 0.0).count(),
        worse: differences.iter().filter(|d| **d < 0.0).count(),
        p: sign_flip(differences, bootstrap.seed),
    })
}

fn sign_flip(differences: &[f64], seed: u64) -> f64 {
    use rand::Rng as _;
    const EXACT: usize = 16;
    let signed = |flips: &mut dyn FnMut(usize) -> bool| -> f64 {
        differences.iter().enumerate().map(|(i, d)| if flips(i) { -d } else { *d }).sum::<f64>().abs()
    };
    let observed = signed(&mut |_| false);
    // Sums of the same numbers in other signs round differently.
    let slack = 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let mut rng = stream(seed, Purpose::Bootstrap, 1);
    let patterns = 1u32 << differences.len().min(EXACT);
    let extreme = (0..patterns).filter(|pattern| {
        let sum = if differences.len() <= EXACT {
            signed(&mut |i| pattern >> i & 1 == 1)
        } else if *pattern == 0 {
            observed
        } else {
            signed(&mut |_| rng.next_u32() >> 31 == 1)
        };
        sum >= observed - slack
    });
    extreme.count() as f64 / f64::from(patterns)
}

/// Holm's correction: p values that hold for the whole family of comparisons, in the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut corrected, mut least) = (vec![0.0; p.len()], 0.0f64);
    for (rank, &i) in order.iter().enumerate() {
        least = least.max(((p.len() - rank) as f64 * p[i]).min(1.0));
        corrected[i] = least;
    }
    corrected
}

fn checked(groups: &[Vec<f64>]) -> Result<()> {
    at_least(groups.len(), 1)?;
    groups.iter().try_for_each(|group| check(group, 1))
}

/// `statistic(picks, sizes)` of the groups with intervals; `picks` are places in the pooled data, `sizes[g]` of them in
/// group g after group.
fn estimates<const K: usize>(
    groups: &[Vec<f64>],
    bootstrap: Bootstrap,
    mut statistic: impl FnMut(&[usize], &[usize]) -> [f64; K],
) -> Result<[Estimate; K]> {
    checked(groups)?;
    at_least(bootstrap.resamples, 1)?;
    let mut sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
    let all: Vec<usize> = (0..sizes.iter().sum()).collect();
    let values = statistic(&all, &sizes);
    let mut draws: [Vec<f64>; K] = std::array::from_fn(|_| Vec::with_capacity(bootstrap.resamples));
    let mut rng = stream(bootstrap.seed, Purpose::Bootstrap, 0);
    let mut picks = all.clone();
    for _ in 0..bootstrap.resamples {
        resample(&sizes, &mut picks, &mut rng);
        for (draws, draw) in draws.iter_mut().zip(statistic(&picks, &sizes)) {
            draws.push(draw);
        }
    }
    let mut levels = [(50.0 * (1.0 - CONFIDENCE), 50.0 * (1.0 + CONFIDENCE)); K];
    if bootstrap.method == Method::Bca {
        // Without each run in turn, in the order of the runs.
        let mut without: [Vec<f64>; K] = std::array::from_fn(|_| Vec::new());
        let mut left_out = 0;
        for group in 0..sizes.len() {
            at_least(sizes[group], 2)?;
            sizes[group] -= 1;
            for _ in 0..=sizes[group] {
                let mut rest = all.clone();
                rest.remove(left_out);
                for (without, value) in without.iter_mut().zip(statistic(&rest, &sizes)) {
                    without.push(value);
                }
                left_out += 1;
            }
            sizes[group] += 1;
        }
        for k in 0..K {
            levels[k] = bca(&draws[k], values[k], &without[k], &sizes);
        }
    }
    Ok(std::array::from_fn(|k| Estimate {
        value: values[k],
        low: percentile(&mut draws[k], levels[k].0),
        high: percentile(&mut draws[k], levels[k].1),
    }))
}

/// The percentiles of `draws` that bound a BCa interval; `without` holds the statistic without each run, group by group.
fn bca(draws: &[f64], value: f64, without: &[f64], sizes: &[usize]) -> (f64, f64) {
    let below = draws.iter().map(|d| f64::from(*d < value) + f64::from(*d <= value)).sum::<f64>() / 2.0;
    let draws = draws.len() as f64;
    // Where all draws lie on one side, half a draw is taken to lie on the other.
    let z0 = normal_quantile((below / draws).clamp(0.5 / draws, 1.0 - 0.5 / draws));
    let (mut cubes, mut squares, mut rest) = (0.0, 0.0, without);
    for &size in sizes {
        let (group, others) = rest.split_at(size);
        let (centre, n) = (average(group), size as f64);
        for v in group {
            let influence = (n - 1.0) / n * (centre - v);
            cubes += influence.powi(3);
            squares += influence.powi(2);
        }
        rest = others;
    }
    let acceleration = if squares > 0.0 { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 };
    let level = |z: f64| 100.0 * normal(z0 + (z0 + z) / (1.0 - acceleration * (z0 + z)));
    let z = normal_quantile((1.0 + CONFIDENCE) / 2.0);
    (level(-z), level(z))
}

/// Distribution function of the standard normal.
fn normal(z: f64) -> f64 {
    0.5 * libm::erfc(-z * std::f64::consts::FRAC_1_SQRT_2)
}

/// Its inverse, for `p` in (0, 1): bisection to the last bit of the distance from the nearer tail; a few of these are needed.
fn normal_quantile(p: f64) -> f64 {
    if p > 0.5 {
        // 1 - p is exact there.
        return -normal_quantile(1.0 - p);
    }
    let (mut low, mut high) = (-40.0, 0.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if normal(middle) < p { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests;
