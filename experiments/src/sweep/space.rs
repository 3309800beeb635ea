//! Hyperparameter search: the values that a suite varies, as a grid, at random, or along a Sobol sequence. Points are drawn when
//! the sweep is planned; the manifest holds them.

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use toml::{Table, Value};

/// Most points of one agent on one environment.
const MOST_POINTS: usize = 100_000;

/// `[search]` of a suite file: how points are chosen.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Grid by default.
    #[serde(default)]
    pub method: Method,
    /// Points of `random` and `sobol`; a power of two for `sobol`.
    pub samples: Option<usize>,
    /// Another seed, other points of `random` and `sobol`.
    #[serde(default)]
    pub seed: u64,
}

/// How points are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Every combination.
    #[default]
    Grid,
    /// Independently and uniformly.
    Random,
    /// Evenly: any 2^k points in a row, from a multiple of 2^k on, fill each axis in 2^k equal steps.
    Sobol,
}

/// `{ from, to, log, points }`: a range. Whole numbers at both ends make it one of whole numbers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    from: Value,
    to: Value,
    /// Even in the logarithm.
    #[serde(default)]
    log: bool,
    /// Values of a grid, ends included.
    points: Option<usize>,
}

/// The values of one key.
#[derive(Clone, Debug)]
enum Axis {
    List(Vec<Value>),
    Real { from: f64, to: f64, log: bool, points: Option<usize> },
    Whole { from: i64, to: i64, log: bool, points: Option<usize> },
}

/// All points for the keys of `vary`, in order; one point without keys if there are none. A value is rounded to four
/// significant digits, so that its name says exactly what runs; points that become equal are one.
///
/// # Errors
/// For an axis that is neither a list nor a range, an empty one, and for a method that lacks its number of points.
pub fn points(vary: &Table, search: &Search) -> Result<Vec<Table>> {
    if vary.is_empty() {
        return Ok(vec![Table::new()]);
    }
    let axes: Vec<(&str, Axis)> = vary
        .iter()
        .map(|(key, value)| Ok((key.as_str(), axis(value).with_context(|| format!("vary.{key}"))?)))
        .collect::<Result<_>>()?;
    let mut points = match search.method {
        Method::Grid => grid(&axes)?,
        Method::Random => sampled(&axes, search, |i, key, _| unit(search.seed, i as u64, key))?,
        Method::Sobol => {
            let sequence = sobol(axes.len())?;
            let shifts: Vec<u32> =
                axes.iter().map(|(key, _)| (unit(search.seed, 0, key) * 2f64.powi(32)) as u32).collect();
            if !search.samples.unwrap_or(1).is_power_of_two() {
                bail!(
                    "search.samples of sobol must be a power of two: other numbers fill the space unevenly"
                );
            }
            sampled(&axes, search, |i, _, d| {
                f64::from(sobol_point(&sequence[d], i as u32) ^ shifts[d]) / 2f64.powi(32)
            })?
        }
    };
    let mut seen: Vec<Table> = Vec::with_capacity(points.len());
    points.retain(|point| {
        let new = !seen.contains(point);
        if new {
            seen.push(point.clone());
        }
        new
    });
    Ok(points)
}

/// What a point adds to the label of an agent: `+key=value` for each key.
pub fn suffix(point: &Table) -> String {
    point.iter().map(|(key, value)| format!("+{key}={}", text(value))).collect()
}

/// A value in a label.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join("x"),
        Value::Float(x) => {
            let (plain, scientific) = (format!("{x}"), format!("{x:e}"));
            if plain.len() <= scientific.len() + 2 { plain } else { scientific }
        }
        other => other.to_string(),
    }
}

fn axis(value: &Value) -> Result<Axis> {
    match value {
        Value::Array(values) if !values.is_empty() => return Ok(Axis::List(values.clone())),
        Value::Table(_) => {}
        _ => bail!("must be a list of values, or a range {{ from, to }}, got {value}"),
    }
    let Range { from, to, log, points } =
        value.clone().try_into().map_err(|e: toml::de::Error| anyhow!("{}", e.message().trim()))?;
    if points.is_some_and(|n| n < 2) {
        bail!("points must be at least 2");
    }
    if let (Value::Integer(from), Value::Integer(to)) = (&from, &to) {
        let (from, to) = (*from, *to);
        if from >= to || (log && from < 1) {
            bail!("from {from} to {to} is no range{}", if log { " with a logarithm" } else { "" });
        }
        return Ok(Axis::Whole { from, to, log, points });
    }
    let number = |value: &Value| match value {
        Value::Integer(n) => Ok(*n as f64),
        Value::Float(x) if x.is_finite() => Ok(*x),
        other => Err(anyhow!("a range needs numbers, got {other}")),
    };
    let (from, to) = (number(&from)?, number(&to)?);
    if from >= to || (log && from <= 0.0) {
        bail!("from {from} to {to} is no range{}", if log { " with a logarithm" } else { "" });
    }
    Ok(Axis::Real { from, to, log, points })
}

/// The value at `u` in [0, 1), or at both ends of a range for `u` in [0, 1].
fn at(axis: &Axis, u: f64) -> Value {
    let between = |from: f64, to: f64, log: bool| match log {
        true => (from.ln() + u * (to.ln() - from.ln())).exp(),
        false => from + u * (to - from),
    };
    match axis {
        Axis::List(values) => values[((u * values.len() as f64) as usize).min(values.len() - 1)].clone(),
        Axis::Real { from, to, log, .. } => {
            Value::Float(rounded(between(*from, *to, *log)).clamp(*from, *to))
        }
        // Each whole number has an equal share of the range, or of its logarithm.
        Axis::Whole { from, to, log, .. } => {
            let x = between(*from as f64, *to as f64 + 1.0, *log).floor() as i64;
            Value::Integer(x.clamp(*from, *to))
        }
    }
}

/// To four significant digits.
fn rounded(x: f64) -> f64 {
    format!("{x:.3e}").parse().unwrap_or(x)
}

fn grid(axes: &[(&str, Axis)]) -> Result<Vec<Table>> {
    let mut points = vec![Table::new()];
    for (key, axis) in axes {
        let values: Vec<Value> = match axis {
            Axis::List(values) => values.clone(),
            Axis::Real { points: Some(n), .. } => {
                (0..*n).map(|i| at(axis, i as f64 / (n - 1) as f64)).collect()
            }
            Axis::Whole { from, to, log, points: Some(n) } => {
                let ends = Axis::Real { from: *from as f64, to: *to as f64, log: *log, points: None };
                let whole = |i| at(&ends, i as f64 / (n - 1) as f64).as_float().unwrap_or_default().round();
                (0..*n).map(|i| Value::Integer(whole(i) as i64)).collect()
            }
            Axis::Whole { from, to, log: false, points: None } if to - from < MOST_POINTS as i64 => {
                (*from..=*to).map(Value::Integer).collect()
            }
            _ => bail!("vary.{key}: a range on a grid needs its number of points"),
        };
        if points.len() * values.len() > MOST_POINTS {
            bail!("the grid has more than {MOST_POINTS} points; sample it with search.method = \"sobol\"");
        }
        points = points
            .iter()
            .flat_map(|point| {
                values.iter().map(|value| {
                    let mut point = point.clone();
                    point.insert((*key).to_owned(), value.clone());
                    point
                })
            })
            .collect();
    }
    Ok(points)
}

fn sampled(
    axes: &[(&str, Axis)],
    search: &Search,
    u: impl Fn(usize, &str, usize) -> f64,
) -> Result<Vec<Table>> {
    let samples = search.samples.context("search.samples is missing: how many points?")?;
    if !(1..=MOST_POINTS).contains(&samples) {
        bail!("search.samples must be between 1 and {MOST_POINTS}, got {samples}");
    }
    let point = |i| {
        axes.iter().enumerate().map(|(d, (key, axis))| ((*key).to_owned(), at(axis, u(i, key, d)))).collect()
    };
    Ok((0..samples).map(point).collect())
}

/// Uniform in [0, 1): a hash of its place, so that a further key or sample changes no other.
fn unit(seed: u64, sample: u64, key: &str) -> f64 {
    let hash = blake3::hash(format!("{seed} {sample} {key}").as_bytes());
    let bits = hash.as_bytes().iter().take(8).fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
    (bits >> 11) as f64 / 2f64.powi(53)
}

/// Joe and Kuo (2008), "Constructing Sobol sequences with better two-dimensional projections", their numbers
/// D(6) for dimensions 2 to 16: degree s and coefficients a of the primitive polynomial, initial numbers m.
const JOE_KUO: [(u32, u32, &[u32]); 15] = [
    (1, 0, &[1]),
    (2, 1, &[1, 3]),
    (3, 1, &[1, 3, 1]),
    (3, 2, &[1, 1, 1]),
    (4, 1, &[1, 1, 3, 3]),
    (4, 4, &[1, 3, 5, 13]),
    (5, 2, &[1, 1, 5, 5, 17]),
    (5, 4, &[1, 1, 5, 5, 5]),
    (5, 7, &[1, 1, 7, 11, 19]),
    (5, 11, &[1, 1, 5, 1, 1]),
    (5, 13, &[1, 1, 1, 3, 11]),
    (5, 14, &[1, 3, 5, 5, 31]),
    (6, 1, &[1, 3, 3, 9, 7, 49]),
    (6, 13, &[1, 1, 1, 15, 21, 21]),
    (6, 16, &[1, 3, 1, 13, 27, 49]),
];

/// Direction numbers v of each dimension.
fn sobol(dimensions: usize) -> Result<Vec<[u32; 32]>> {
    if dimensions > JOE_KUO.len() + 1 {
        bail!("a Sobol sequence has at most {} keys here, got {dimensions}; use random", JOE_KUO.len() + 1);
    }
    let mut all = vec![std::array::from_fn(|k| 1 << (31 - k))];
    for (s, a, m) in JOE_KUO.iter().take(dimensions.saturating_sub(1)) {
        let s = *s as usize;
        let mut v = [0u32; 32];
        for k in 0..32 {
            v[k] = match m.get(k) {
                Some(m) => m << (31 - k),
                None => {
                    // v_k = a_1 v_{k−1} ⊕ … ⊕ a_{s−1} v_{k−s+1} ⊕ v_{k−s} ⊕ v_{k−s} / 2^s
                    let mixed = (1..s).filter(|j| a >> (s - 1 - j) & 1 == 1).fold(0, |x, j| x ^ v[k - j]);
                    mixed ^ v[k - s] ^ (v[k - s] >> s)
                }
            };
        }
        all.push(v);
    }
    Ok(all)
}

/// Point `i` of one dimension, as a fraction of 2³², in the order of Gray codes.
fn sobol_point(v: &[u32; 32], i: u32) -> u32 {
    let gray = i ^ (i >> 1);
    (0..32).filter(|k| gray >> k & 1 == 1).fold(0, |x, k| x ^ v[k])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().unwrap()
    }

    fn error(vary: &str, search: &str) -> String {
        let search: Search = toml::from_str(search).unwrap();
        format!("{:#}", points(&table(vary), &search).unwrap_err())
    }

    #[test]
    fn a_grid_has_every_combination_in_order() {
        let vary = table("clip = [0.1, 0.2]\nepochs = { from = 1, to = 3 }");
        let found: Vec<String> = points(&vary, &Search::default()).unwrap().iter().map(suffix).collect();
        let expected = [(0.1, 1), (0.1, 2), (0.1, 3), (0.2, 1), (0.2, 2), (0.2, 3)];
        assert_eq!(found, expected.map(|(c, e)| format!("+clip={c}+epochs={e}")));
        let vary =
            table("lr = { from = 1e-5, to = 1e-2, log = true, points = 4 }\nhidden = [[64, 64], [256]]");
        let found: Vec<String> = points(&vary, &Search::default()).unwrap().iter().map(suffix).collect();
        assert_eq!(found[0], "+lr=1e-5+hidden=64x64");
        assert_eq!(found[3], "+lr=0.0001+hidden=256");
        assert_eq!(found[7], "+lr=0.01+hidden=256");
        let vary = table("n = { from = 16, to = 1024, log = true, points = 4 }");
        let found = points(&vary, &Search::default()).unwrap();
        assert_eq!(
            found.iter().map(|p| p["n"].as_integer().unwrap()).collect::<Vec<_>>(),
            [16, 64, 256, 1024]
        );
        assert_eq!(points(&Table::new(), &Search::default()).unwrap(), [Table::new()]);
    }

    /// `scipy.stats.qmc.Sobol(d=16, scramble=False, bits=32)`: its points 1, 2, 7 and 100.
    #[test]
    fn the_sobol_sequence_is_scipys() {
        let v = sobol(16).unwrap();
        let point = |i: u32| v.iter().map(|v| sobol_point(v, i)).collect::<Vec<u32>>();
        assert_eq!(point(1), [1 << 31; 16]);
        let two = [96, 32, 32, 32, 96, 96, 32, 96, 96, 96, 96, 96, 32, 32, 96, 32];
        assert_eq!(point(2), two.map(|x: u32| x << 25));
        let seven = [16, 80, 48, 16, 16, 48, 80, 80, 80, 112, 80, 16, 80, 48, 16, 16];
        assert_eq!(point(7), seven.map(|x: u32| x << 25));
        let hundred = [53, 33, 99, 93, 113, 95, 3, 61, 81, 89, 59, 87, 61, 109, 41, 63];
        assert_eq!(point(100), hundred.map(|x: u32| x << 25));
    }

    /// Any 2^k points fill every axis in 2^k equal steps, whatever the shift.
    #[test]
    fn sobol_points_are_even() {
        let vary = table(&(0..16).map(|d| format!("k{d} = {{ from = 0, to = 63 }}\n")).collect::<String>());
        for seed in 0..3 {
            let search = Search { method: Method::Sobol, samples: Some(64), seed };
            let found = points(&vary, &search).unwrap();
            for key in vary.keys() {
                let mut values: Vec<i64> = found.iter().map(|p| p[key].as_integer().unwrap()).collect();
                values.sort_unstable();
                assert_eq!(values, (0..64).collect::<Vec<_>>(), "{key}");
            }
        }
    }

    /// Kolmogorov and Smirnov: a logarithmic range is uniform in the logarithm.
    #[test]
    fn random_points_are_uniform_and_a_further_key_changes_none() {
        let search = Search { method: Method::Random, samples: Some(2000), seed: 5 };
        let vary = table("lr = { from = 1e-5, to = 1e-1, log = true }");
        let found = points(&vary, &search).unwrap();
        let mut u: Vec<f64> =
            found.iter().map(|p| (p["lr"].as_float().unwrap().log10() + 5.0) / 4.0).collect();
        u.sort_by(f64::total_cmp);
        let n = u.len() as f64;
        let distance =
            u.iter().enumerate().map(|(i, u)| (u - (i as f64 + 0.5) / n).abs()).fold(0.0, f64::max);
        // 1.63 / √n is exceeded once in a hundred seeds.
        assert!(n > 1900.0 && distance < 1.63 / n.sqrt(), "{distance}");
        let more = table("clip = [0.1, 0.2]\nlr = { from = 1e-5, to = 1e-1, log = true }");
        let search = Search { samples: Some(50), ..search };
        let lr = |vary: &Table| -> Vec<Value> {
            points(vary, &search).unwrap().iter().map(|p| p["lr"].clone()).collect()
        };
        assert_eq!(lr(&vary), lr(&more));
        let other = Search { seed: 6, ..search.clone() };
        assert_ne!(points(&vary, &search).unwrap(), points(&vary, &other).unwrap());
    }

    #[test]
    fn mistakes_are_named() {
        assert!(error("clip = 0.2", "").contains("vary.clip: must be a list"));
        assert!(error("clip = []", "").contains("must be a list"));
        assert!(error("clip = { from = 0.1, to = 0.2 }", "").contains("needs its number of points"));
        assert!(error("clip = { from = 0.3, to = 0.2, points = 3 }", "").contains("no range"));
        assert!(error("lr = { from = 0, to = 0.2, log = true, points = 3 }", "").contains("logarithm"));
        assert!(error("clip = { from = 0.1, too = 0.2 }", "").contains("too"));
        assert!(error("clip = [0.1]", "method = 'random'").contains("search.samples is missing"));
        assert!(error("clip = [0.1]", "method = 'sobol'\nsamples = 12").contains("power of two"));
    }
}
