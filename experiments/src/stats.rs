//! Statistics of a few runs: interquartile mean, bootstrap intervals, area under a curve.
//!
//! Deep reinforcement learning is reported from a handful of seeds, so a point estimate says little.
//! The suite reports the interquartile mean with a stratified percentile bootstrap interval, after
//! Agarwal, Schwarzer, Castro, Courville, Bellemare, "Deep Reinforcement Learning at the Edge of the
//! Statistical Precipice" (2021, arXiv:2108.13264), and agrees with their library `rliable`
//! (`fixtures/rliable.py`).
//!
//! No function averages over a hole: an empty slice or a value that is not finite is a [`StatsError`].
//! Leaving a diverged run out is a decision of the caller, who has to name it.

use rand::Rng as _;
use steadfast_envs::rng::{Purpose, stream};

pub mod across;

/// Share of an interval that should cover the true value.
pub const CONFIDENCE: f64 = 0.95;

/// Resamples of a bootstrap interval: its ends then move by about 1 % of its width between seeds.
pub const RESAMPLES: usize = 10_000;

/// Resamples of a band around a curve: it is looked at, not read off.
pub const BAND_RESAMPLES: usize = 2000;

/// Why a statistic does not exist.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StatsError {
    /// Fewer values than the statistic needs.
    TooFew {
        /// Values needed.
        needed: usize,
        /// Values given.
        found: usize,
    },
    /// NaN or an infinity at that index.
    NotFinite(usize),
    /// Two slices that belong together differ in length.
    Lengths(usize, usize),
    /// Steps that do not increase at that index.
    NotIncreasing(usize),
}

impl std::fmt::Display for StatsError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::TooFew { needed, found } => write!(f, "{found} values where {needed} are needed"),
            Self::NotFinite(i) => write!(f, "value {i} is not finite"),
            Self::Lengths(a, b) => write!(f, "{a} values beside {b}"),
            Self::NotIncreasing(i) => write!(f, "step {i} does not come after the one before it"),
        }
    }
}

impl std::error::Error for StatsError {}

/// Result of a statistic.
pub type Result<T> = std::result::Result<T, StatsError>;

/// A summary of several values by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Statistic {
    /// Interquartile mean: the mean of the middle half.
    #[default]
    Iqm,
    /// Arithmetic mean.
    Mean,
    /// Median.
    Median,
}

impl Statistic {
    /// The statistic of `values`.
    ///
    /// # Errors
    /// Without values, or with one that is not finite.
    pub fn of(self, values: &[f64]) -> Result<f64> {
        check(values, 1)?;
        Ok(self.of_scratch(&mut values.to_vec()))
    }

    /// The same for checked values whose order may be lost; the bootstrap's inner loop.
    fn of_scratch(self, values: &mut [f64]) -> f64 {
        match self {
            Self::Iqm => {
                values.sort_unstable_by(f64::total_cmp);
                let cut = values.len() / 4;
                average(&values[cut..values.len() - cut])
            }
            Self::Mean => average(values),
            Self::Median => percentile(values, 50.0),
        }
    }
}

/// Arithmetic mean.
///
/// # Errors
/// Without values, or with one that is not finite.
pub fn mean(values: &[f64]) -> Result<f64> {
    Statistic::Mean.of(values)
}

/// Sample standard deviation (divisor `n - 1`).
///
/// # Errors
/// With fewer than two values, or one that is not finite.
pub fn std(values: &[f64]) -> Result<f64> {
    check(values, 2)?;
    let centre = average(values);
    let squares: f64 = values.iter().map(|v| (v - centre).powi(2)).sum();
    Ok((squares / (values.len() - 1) as f64).sqrt())
}

/// Median; the mean of the middle two of an even number.
///
/// # Errors
/// Without values, or with one that is not finite.
pub fn median(values: &[f64]) -> Result<f64> {
    Statistic::Median.of(values)
}

/// Interquartile mean: drops `floor(n / 4)` values from each end and averages the rest.
///
/// # Errors
/// Without values, or with one that is not finite.
pub fn iqm(values: &[f64]) -> Result<f64> {
    Statistic::Iqm.of(values)
}

/// Percentile bootstrap interval of the pooled `statistic`, at [`CONFIDENCE`].
///
/// Each resample draws every group anew **within itself**, as many values as it has, so a task's weight
/// never varies; a single group is the plain bootstrap. The result is a function of the arguments alone.
/// With five values the interval covers less than it promises (about 0.85): more seeds are the remedy.
///
/// # Errors
/// Without groups, with an empty group, or with a value that is not finite.
pub fn interval(
    groups: &[Vec<f64>],
    statistic: Statistic,
    resamples: usize,
    seed: u64,
) -> Result<(f64, f64)> {
    at_least(groups.len(), 1)?;
    at_least(resamples, 1)?;
    for group in groups {
        check(group, 1)?;
    }
    let mut rng = stream(seed, Purpose::Bootstrap, 0);
    let (pooled, sizes): (_, Vec<usize>) = (groups.concat(), groups.iter().map(Vec::len).collect());
    let mut picks = vec![0; pooled.len()];
    let (mut sample, mut counts) = (Resamples::new(&pooled), vec![0; pooled.len()]);
    let draws = (0..resamples).map(|_| {
        resample(&sizes, &mut picks, &mut rng);
        if statistic == Statistic::Iqm {
            counts.fill(0);
            picks.iter().for_each(|run| counts[*run] += 1);
            return sample.iqm(&counts);
        }
        sample.of_picks(statistic, &pooled, &picks)
    });
    let mut draws: Vec<f64> = draws.collect();
    Ok(ends(&mut draws))
}

/// A curve over several runs with its bootstrap interval at each point.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// Statistic over runs.
    pub centre: Vec<f64>,
    /// Lower end of the interval.
    pub low: Vec<f64>,
    /// Upper end of the interval.
    pub high: Vec<f64>,
}

/// `statistic` over the runs of all tasks at each point of a curve, `tasks[task][run][point]`, and its interval.
///
/// A resample draws whole runs within each task and is shared by all points, since the points of a run belong
/// together; the ends of the band are therefore as smooth as the runs.
///
/// # Errors
/// Without tasks, with a task without runs, with runs of different lengths, or with a value that is not finite.
pub fn band(tasks: &[Vec<Vec<f64>>], statistic: Statistic, resamples: usize, seed: u64) -> Result<Band> {
    at_least(tasks.len(), 1)?;
    at_least(resamples, 1)?;
    tasks.iter().try_for_each(|runs| at_least(runs.len(), 1))?;
    let curves: Vec<&Vec<f64>> = tasks.iter().flatten().collect();
    let points = curves[0].len();
    for curve in &curves {
        check(curve, 0)?;
        if curve.len() != points {
            return Err(StatsError::Lengths(points, curve.len()));
        }
    }
    let mut rng = stream(seed, Purpose::Bootstrap, 0);
    let sizes: Vec<usize> = tasks.iter().map(Vec::len).collect();
    let mut picks = vec![0; resamples * curves.len()];
    for runs in picks.chunks_exact_mut(curves.len()) {
        resample(&sizes, runs, &mut rng);
    }
    // How often each run occurs in each resample: with it, sorting the runs of a point once serves all resamples.
    let mut counts = vec![0; picks.len()];
    for (runs, counts) in picks.chunks_exact(curves.len()).zip(counts.chunks_exact_mut(curves.len())) {
        runs.iter().for_each(|run| counts[*run] += 1);
    }
    let mut band = Band { centre: vec![], low: vec![], high: vec![] };
    let mut draws = Vec::with_capacity(resamples);
    for point in 0..points {
        draws.clear();
        let mut column: Vec<f64> = curves.iter().map(|curve| curve[point]).collect();
        let mut sample = Resamples::new(&column);
        if statistic == Statistic::Iqm {
            draws.extend(counts.chunks_exact(curves.len()).map(|counts| sample.iqm(counts)));
        } else {
            let picks = picks.chunks_exact(curves.len());
            draws.extend(picks.map(|picks| sample.of_picks(statistic, &column, picks)));
        }
        let (low, high) = ends(&mut draws);
        band.centre.push(statistic.of_scratch(&mut column));
        band.low.push(low);
        band.high.push(high);
    }
    Ok(band)
}

/// Area under `values` over `steps` by the trapezoid rule, divided by the range of steps: the mean
/// height of the curve, in units of `values`.
///
/// # Errors
/// With fewer than two points, a number that is not finite, or steps that do not increase.
pub fn area(steps: &[f64], values: &[f64]) -> Result<f64> {
    check(steps, 2)?;
    check(values, 2)?;
    if steps.len() != values.len() {
        return Err(StatsError::Lengths(steps.len(), values.len()));
    }
    let mut area = 0.0;
    for i in 1..steps.len() {
        if steps[i] <= steps[i - 1] {
            return Err(StatsError::NotIncreasing(i));
        }
        area += (steps[i] - steps[i - 1]) * (values[i] + values[i - 1]) / 2.0;
    }
    Ok(area / (steps[steps.len() - 1] - steps[0]))
}

fn at_least(found: usize, needed: usize) -> Result<()> {
    if found < needed { Err(StatsError::TooFew { needed, found }) } else { Ok(()) }
}

fn check(values: &[f64], needed: usize) -> Result<()> {
    at_least(values.len(), needed)?;
    values.iter().position(|v| !v.is_finite()).map_or(Ok(()), |i| Err(StatsError::NotFinite(i)))
}

/// Resamples of some values, which are sorted once for all of them.
struct Resamples {
    /// Places of the values, smallest value first, and the values in that order.
    order: Vec<usize>,
    sorted: Vec<f64>,
    scratch: Vec<f64>,
}

impl Resamples {
    /// A value is written this many times at once, which saves a branch that no processor foresees.
    const COPIES: usize = 4;

    fn new(values: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
        let sorted = order.iter().map(|i| values[*i]).collect();
        Self { order, sorted, scratch: vec![0.0; values.len() + Self::COPIES] }
    }

    /// [`iqm`] of the sample that holds each value as often as `counts` says, as many values as there are, bit for bit.
    fn iqm(&mut self, counts: &[u32]) -> f64 {
        let (cut, n) = (self.order.len() / 4, self.order.len());
        let mut filled = 0;
        for (&place, &value) in self.order.iter().zip(&self.sorted) {
            let count = counts[place] as usize;
            self.scratch[filled..filled + Self::COPIES].fill(value);
            if count > Self::COPIES {
                self.scratch[filled..filled + count].fill(value);
            }
            filled += count;
        }
        average(&self.scratch[cut..n - cut])
    }

    /// `statistic` of the values at `picks`.
    fn of_picks(&mut self, statistic: Statistic, values: &[f64], picks: &[usize]) -> f64 {
        let sample = &mut self.scratch[..picks.len()];
        sample.iter_mut().zip(picks).for_each(|(slot, run)| *slot = values[*run]);
        statistic.of_scratch(sample)
    }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The `q`-th percentile, `q` in `[0, 100]`, by linear interpolation between order statistics; `values` lose
/// their order. Selects instead of sorting: bands need thousands of these.
fn percentile(values: &mut [f64], q: f64) -> f64 {
    let rank = q / 100.0 * (values.len() - 1) as f64;
    let (_, below, rest) = values.select_nth_unstable_by(rank as usize, f64::total_cmp);
    let above = rest.iter().copied().min_by(f64::total_cmp).unwrap_or(*below);
    *below + (above - *below) * rank.fract()
}

/// The outer percentiles of bootstrap draws.
fn ends(draws: &mut [f64]) -> (f64, f64) {
    let tail = 50.0 * (1.0 - CONFIDENCE);
    (percentile(draws, tail), percentile(draws, 100.0 - tail))
}

/// Draws every group anew within itself: into `picks`, group by group, places in the pooled data.
fn resample(sizes: &[usize], picks: &mut [usize], rng: &mut steadfast_envs::Rng) {
    let mut first = 0;
    for &size in sizes {
        for slot in &mut picks[first..first + size] {
            *slot = first + pick(rng, size);
        }
        first += size;
    }
}

/// A uniform index below `n`: the high word of a product, whose bias of `n / 2^32` is far below the
/// bootstrap's own noise. Written out, so that intervals do not depend on a library's sampling method.
fn pick(rng: &mut steadfast_envs::Rng, n: usize) -> usize {
    ((u64::from(rng.next_u32()) * n as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    /// What `fixtures/rliable.py` wrote.
    #[derive(Deserialize)]
    struct Fixture {
        samples: Vec<Sample>,
        curves: Vec<CurveArea>,
        strata: Vec<Strata>,
    }

    #[derive(Deserialize)]
    struct Sample {
        values: Vec<f64>,
        mean: f64,
        std: Option<f64>,
        median: f64,
        iqm: f64,
        percentiles: Vec<(f64, f64)>,
    }

    #[derive(Deserialize)]
    struct CurveArea {
        steps: Vec<f64>,
        values: Vec<f64>,
        area: f64,
    }

    #[derive(Deserialize)]
    struct Strata {
        groups: Vec<Vec<f64>>,
        iqm: f64,
        iqm_low: f64,
        iqm_high: f64,
        mean: f64,
        mean_low: f64,
        mean_high: f64,
    }

    fn fixture() -> Fixture {
        serde_json::from_str(include_str!("../fixtures/rliable.json")).unwrap()
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1.0), "{a} differs from {b}");
    }

    #[test]
    fn point_estimates_agree_with_numpy_scipy_and_rliable() {
        let samples = fixture().samples;
        assert!(samples.len() >= 12);
        for s in samples {
            close(mean(&s.values).unwrap(), s.mean);
            close(median(&s.values).unwrap(), s.median);
            close(iqm(&s.values).unwrap(), s.iqm);
            assert_eq!(std(&s.values).is_ok(), s.std.is_some());
            if let Some(expected) = s.std {
                close(std(&s.values).unwrap(), expected);
            }
            for (q, expected) in s.percentiles {
                close(percentile(&mut s.values.clone(), q), expected);
            }
        }
    }

    #[test]
    fn areas_agree_with_numpy() {
        for c in fixture().curves {
            close(area(&c.steps, &c.values).unwrap(), c.area);
        }
    }

    #[test]
    fn stratified_intervals_agree_with_rliable() {
        for s in fixture().strata {
            let pooled = s.groups.concat();
            close(iqm(&pooled).unwrap(), s.iqm);
            close(mean(&pooled).unwrap(), s.mean);
            for (statistic, low, high) in
                [(Statistic::Iqm, s.iqm_low, s.iqm_high), (Statistic::Mean, s.mean_low, s.mean_high)]
            {
                // Two generators: the ends agree up to Monte Carlo noise.
                let (l, h) = interval(&s.groups, statistic, 50_000, 0).unwrap();
                let noise = 0.02 * (high - low);
                assert!((l - low).abs() < noise && (h - high).abs() < noise, "[{l}, {h}] [{low}, {high}]");
            }
        }
    }

    #[test]
    fn resampling_stays_within_a_task() {
        // Two tasks far apart, without spread: no resample can move the pooled mean.
        let groups = vec![vec![0.0; 5], vec![100.0; 5]];
        assert_eq!(interval(&groups, Statistic::Mean, 1000, 0), Ok((50.0, 50.0)));
        let (low, high) = interval(&[groups.concat()], Statistic::Mean, 1000, 0).unwrap();
        assert!(high - low > 40.0);
    }

    #[test]
    fn intervals_cover_as_often_as_they_promise() {
        let mut rng = stream(1, Purpose::Check, 0);
        // Sum of uniforms: symmetric about 0, so mean, median and IQM are all 0.
        let mut draw = || (0..6).map(|_| f64::from(rng.next_u32()) / 2f64.powi(32) - 0.5).sum::<f64>();
        for (groups, size, statistic) in
            [(1, 40, Statistic::Mean), (1, 40, Statistic::Iqm), (4, 10, Statistic::Iqm)]
        {
            let trials = 1000;
            let mut covered = 0;
            for trial in 0..trials {
                let sample: Vec<Vec<f64>> =
                    (0..groups).map(|_| (0..size).map(|_| draw()).collect()).collect();
                let (low, high) = interval(&sample, statistic, 500, trial).unwrap();
                covered += usize::from(low <= 0.0 && 0.0 <= high);
            }
            let coverage = covered as f64 / trials as f64;
            // Stratified resampling of ten values loses a tenth of the variance.
            assert!((0.905..0.97).contains(&coverage), "{groups} x {size} {statistic:?}: {coverage}");
        }
    }

    #[test]
    fn a_band_of_one_point_is_an_interval() {
        let values = [3.0, -1.0, 4.0, 1.5, 9.0];
        let curves: Vec<Vec<f64>> = values.iter().map(|&v| vec![v, 2.0 * v]).collect();
        let band = band(&[curves], Statistic::Iqm, 2000, 7).unwrap();
        let (low, high) = interval(&[values.to_vec()], Statistic::Iqm, 2000, 7).unwrap();
        assert_eq!((band.low[0], band.centre[0], band.high[0]), (low, iqm(&values).unwrap(), high));
        // Resamples are shared: twice the values, twice the band.
        assert_eq!((band.low[1], band.high[1]), (2.0 * low, 2.0 * high));
    }

    #[test]
    fn holes_are_errors() {
        let nan = [1.0, f64::NAN, 2.0];
        for f in [mean, std, median, iqm] {
            assert_eq!(f(&nan), Err(StatsError::NotFinite(1)));
            assert!(matches!(f(&[]), Err(StatsError::TooFew { found: 0, .. })));
        }
        assert_eq!(std(&[1.0]), Err(StatsError::TooFew { needed: 2, found: 1 }));
        assert_eq!(iqm(&[f64::INFINITY]), Err(StatsError::NotFinite(0)));
        assert!(interval(&[], Statistic::Mean, 10, 0).is_err());
        assert!(interval(&[vec![1.0], vec![]], Statistic::Mean, 10, 0).is_err());
        assert!(interval(&[vec![1.0]], Statistic::Mean, 0, 0).is_err());
        assert_eq!(band(&[vec![vec![1.0], vec![]]], Statistic::Mean, 10, 0), Err(StatsError::Lengths(1, 0)));
        assert!(band(&[], Statistic::Mean, 10, 0).is_err());
        assert_eq!(area(&[0.0, 0.0], &[1.0, 1.0]), Err(StatsError::NotIncreasing(1)));
        assert_eq!(area(&[0.0, 1.0], &[1.0, 1.0, 1.0]), Err(StatsError::Lengths(2, 3)));
    }

    proptest! {
        #[test]
        fn statistics_lie_within_their_data(values in prop::collection::vec(-1e6..1e6f64, 1..40), seed in 0u64..9) {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min) - 1e-6;
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max) + 1e-6;
            for statistic in [Statistic::Iqm, Statistic::Mean, Statistic::Median] {
                let (l, h) = interval(std::slice::from_ref(&values), statistic, 50, seed).unwrap();
                let centre = statistic.of(&values).unwrap();
                prop_assert!(low <= l && l <= h && h <= high && low <= centre && centre <= high);
                prop_assert_eq!((l, h), interval(std::slice::from_ref(&values), statistic, 50, seed).unwrap());
            }
        }

        #[test]
        fn counting_equals_sorting_a_resample(
            values in prop::collection::vec(prop_oneof![-1e6..1e6f64, -2.0..2.0f64, Just(1.0), Just(0.0)], 1..40),
            seed in 0u64..100,
        ) {
            let mut picks = vec![0; values.len()];
            resample(&[values.len()], &mut picks, &mut stream(seed, Purpose::Bootstrap, 0));
            let sample: Vec<f64> = picks.iter().map(|i| values[*i]).collect();
            let mut counts = vec![0; values.len()];
            picks.iter().for_each(|i| counts[*i] += 1);
            prop_assert_eq!(Resamples::new(&values).iqm(&counts), iqm(&sample).unwrap());
            // One value alone.
            counts.fill(0);
            counts[seed as usize % values.len()] = values.len() as u32;
            let alone = vec![values[seed as usize % values.len()]; values.len()];
            prop_assert_eq!(Resamples::new(&values).iqm(&counts), iqm(&alone).unwrap());
        }

        #[test]
        fn statistics_follow_shift_scale_and_order(
            values in prop::collection::vec(-1e3..1e3f64, 2..30), shift in -1e3..1e3f64, scale in 0.1..10f64,
        ) {
            let moved: Vec<f64> = values.iter().rev().map(|v| scale * v + shift).collect();
            for f in [mean, median, iqm] {
                prop_assert!((f(&moved).unwrap() - (scale * f(&values).unwrap() + shift)).abs() < 1e-8);
            }
            prop_assert!((std(&moved).unwrap() - scale * std(&values).unwrap()).abs() < 1e-7);
        }
    }
}
