//! Numbers on axes: round ticks, short labels, names and units.

use super::{Curve, Labels};

/// One axis: its range, its ticks and their labels.
pub(super) struct Axis {
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Over `low..=high` (in units of the data) with about `count` ticks; labels show `value / unit`.
    /// Thousands are written `k` from `kilo` on.
    fn new(low: f64, high: f64, count: usize, unit: f64, kilo: f64) -> Self {
        let step = round_step((high - low) / unit / count as f64);
        let first = (low / unit / step - 1e-9).ceil();
        let ticks = (0..=3 * count).map(|i| (first + i as f64) * step);
        let ticks = ticks.take_while(|t| *t <= high / unit + 1e-9 * step);
        let style = Style { step, top: low.abs().max(high.abs()) / unit, kilo };
        let ticks = ticks.map(|t| (t * unit, style.label(t))).collect();
        Self { low, high, ticks }
    }

    /// Place of `value` in `[0, 1]`.
    pub fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// The horizontal axis of a panel, from 0 where the curves start near it.
pub(super) fn x_axis(panel: &[Curve], count: usize, labels: &Labels) -> Axis {
    if let Some(ticks) = &labels.ticks {
        let (low, high) = bounds(ticks.iter().map(|t| &t.0));
        let (low, high) = widened(low, high, 0.04);
        return Axis { low, high, ticks: ticks.clone() };
    }
    let (low, high) = bounds(panel.iter().flat_map(|c| &c.x));
    let low = if low > 0.0 && low < 0.25 * high { 0.0 } else { low };
    let (low, high) = if high > low { (low, high) } else { widened(low, high, 0.05) };
    Axis::new(low, high, count, labels.unit, 1e3)
}

/// The horizontal axis of intervals that cover `low..=high`.
pub(super) fn interval_axis(low: f64, high: f64, count: usize) -> Axis {
    let (low, high) = widened(low, high, 0.06);
    Axis::new(low, high, count, 1.0, 1e4)
}

/// The vertical axis of a panel: lines and bands with a margin.
pub(super) fn y_axis(panel: &[Curve], count: usize) -> Axis {
    let (low, high) = bounds(panel.iter().flat_map(|c| c.low.iter().chain(&c.high).chain(&c.centre)));
    let (low, high) = widened(low, high, 0.05);
    // Four digits fit beside a panel; more become thousands, all of them.
    let kilo = if low.abs().max(high.abs()) >= 1e4 { 1e3 } else { f64::INFINITY };
    Axis::new(low, high, count, 1.0, kilo)
}

pub(super) fn bounds<'a>(values: impl Iterator<Item = &'a f64>) -> (f64, f64) {
    // Figures have no place for larger numbers, and sums of these stay finite.
    let kept = values.filter(|v| v.is_finite()).map(|v| v.clamp(-1e300, 1e300));
    let (low, high) = kept.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

/// A margin of `share` of the range on both sides; around a constant, of a tenth of it.
fn widened(low: f64, high: f64, share: f64) -> (f64, f64) {
    let size = low.abs().max(high.abs());
    let margin = match high - low {
        range if range > 1e-9 * size => share * range,
        _ if size > 0.0 => 0.1 * size,
        _ => 1.0,
    };
    (low - margin, high + margin)
}

/// The nearest 1, 2, 2.5 or 5 times a power of ten from `step` upwards.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 2.5, 5.0]
        .map(|m| m * power)
        .into_iter()
        .find(|s| *s >= step * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// How the numbers of one axis are written.
struct Style {
    /// Distance of ticks.
    step: f64,
    /// Largest size on the axis.
    top: f64,
    /// Size from which numbers are written in thousands (`k`) and millions (`M`).
    kilo: f64,
}

impl Style {
    /// `value` as short as the distance to the next tick allows.
    fn label(&self, value: f64) -> String {
        let size = value.abs();
        let text = if size < 1e-9 * self.step {
            "0".to_owned()
        } else if !(1e-3..1e10).contains(&self.top) {
            // As many digits behind the first as tell neighbours apart.
            let digits = (size.log10().floor() - self.step.log10().floor()).clamp(0.0, 12.0) as usize;
            let digits = digits + usize::from(self.decimals(10f64.powf(self.step.log10().floor())) > 0);
            format!("{value:.digits$e}")
        } else {
            let (unit, suffix) = match size * (1.0 + 1e-9) {
                size if size < self.kilo => (1.0, ""),
                size if size < 1e6 => (1e3, "k"),
                _ => (1e6, "M"),
            };
            match self.decimals(unit) {
                // A small step far from zero: thousands would hide it.
                many @ 4.. => format!("{value:.*}", self.decimals(1.0).min(many)),
                few if unit > 1.0 => format!("{}{suffix}", trimmed(&format!("{:.few$}", value / unit))),
                few => format!("{value:.few$}"),
            }
        };
        text.replace('-', "\u{2212}")
    }

    /// Decimals that the step needs in `unit`.
    fn decimals(&self, unit: f64) -> usize {
        let whole = |decimals: &i32| {
            let scaled = self.step / unit * 10f64.powi(*decimals);
            scaled >= 0.5 && (scaled - scaled.round()).abs() < 1e-6 * scaled
        };
        (0..12).find(whole).unwrap_or(12) as usize
    }
}

/// Without zeros at the end of the decimals.
pub(super) fn trimmed(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

/// Agents in order of their names: an agent's place decides its colour in every panel.
pub(super) fn agents(curves: &[Curve]) -> Vec<&str> {
    let mut agents: Vec<&str> = curves.iter().map(|c| c.agent.as_str()).collect();
    agents.sort_unstable();
    agents.dedup();
    agents
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(low: f64, high: f64, kilo: f64) -> Vec<String> {
        Axis::new(low, high, 5, 1.0, kilo).ticks.into_iter().map(|t| t.1.replace('\u{2212}', "-")).collect()
    }

    #[test]
    fn labels_are_what_a_person_would_write() {
        assert_eq!(labels(0.0, 1e6, 1e3), ["0", "200k", "400k", "600k", "800k", "1M"]);
        assert_eq!(labels(0.0, 2.5e6, 1e3), ["0", "500k", "1M", "1.5M", "2M", "2.5M"]);
        assert_eq!(labels(0.0, 5120.0, 1e3), ["0", "2k", "4k"]);
        assert_eq!(labels(-1400.0, 120.0, f64::INFINITY), ["-1000", "-500", "0"]);
        assert_eq!(labels(0.35, 1.41, f64::INFINITY), ["0.50", "0.75", "1.00", "1.25"]);
        assert_eq!(labels(0.0, 4e-4, f64::INFINITY), ["0", "1e-4", "2e-4", "3e-4", "4e-4"]);
        assert_eq!(labels(0.0, 1.2e-4, f64::INFINITY), ["0", "2.5e-5", "5.0e-5", "7.5e-5", "1.00e-4"]);
        assert_eq!(labels(0.0, 3e12, f64::INFINITY), ["0", "1e12", "2e12", "3e12"]);
    }

    #[test]
    fn a_constant_has_an_axis() {
        for value in [0.0, 5.0, -1e-12, 1e9, 1e300, -1e308] {
            let curve =
                Curve { x: vec![value], centre: vec![value], low: vec![value], high: vec![value], ..flat() };
            for axis in [
                x_axis(std::slice::from_ref(&curve), 5, &Labels::default()),
                y_axis(std::slice::from_ref(&curve), 5),
            ] {
                assert!(axis.high > axis.low && !axis.ticks.is_empty(), "{value}");
            }
        }
    }

    fn flat() -> Curve {
        let none = Vec::new;
        Curve {
            env: "E".into(),
            agent: "a".into(),
            x: none(),
            centre: none(),
            low: none(),
            high: none(),
            seeds: 1,
            episodes: None,
        }
    }

    proptest! {
        #[test]
        fn ticks_are_few_inside_and_told_apart(
            low in -1e6..1e6f64, exponent in -6..9i32, mantissa in 1.0..10f64, near_zero: bool, thousands: bool,
        ) {
            let range = mantissa * 10f64.powi(exponent);
            let low = if near_zero { low / 1e6 * range } else { low };
            let high = low + range;
            let kilo = if thousands { 1e3 } else { f64::INFINITY };
            let axis = Axis::new(low, high, 5, 1.0, kilo);
            prop_assert!((2..=6).contains(&axis.ticks.len()), "{:?}", axis.ticks);
            let slack = 1e-6 * range;
            prop_assert!(axis.ticks.iter().all(|(t, _)| low - slack <= *t && *t <= high + slack));
            prop_assert!(axis.ticks.windows(2).all(|t| t[0].0 < t[1].0 && t[0].1 != t[1].1), "{:?}", axis.ticks);
        }
    }
}
