//! Observation and action spaces.

/// A space of flat numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Space {
    /// Real vectors between `low` and `high` (elementwise; bounds may be infinite).
    Box {
        /// Lower bounds.
        low: Vec<f32>,
        /// Upper bounds.
        high: Vec<f32>,
    },
    /// One of `n` choices, written as the index 0, 1, … n−1.
    Discrete(usize),
    /// Several independent choices, `n` of each.
    MultiDiscrete(Vec<usize>),
    /// A product of spaces, one after another.
    Hybrid(Vec<Space>),
}

impl Space {
    /// Box with the same bounds in each of `len` dimensions.
    pub fn uniform(len: usize, low: f32, high: f32) -> Self {
        Self::Box { low: vec![low; len], high: vec![high; len] }
    }

    /// Box symmetric about zero: `-high..=high`.
    pub fn symmetric(high: &[f32]) -> Self {
        Self::Box { low: high.iter().map(|h| -h).collect(), high: high.to_vec() }
    }

    /// Numbers in one element.
    pub fn len(&self) -> usize {
        match self {
            Self::Box { low, .. } => low.len(),
            Self::Discrete(_) => 1,
            Self::MultiDiscrete(n) => n.len(),
            Self::Hybrid(parts) => parts.iter().map(Self::len).sum(),
        }
    }

    /// True for a space whose elements hold no number.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `x` is an element.
    pub fn contains(&self, x: &[f64]) -> bool {
        let index = |x: f64, n: usize| x >= 0.0 && x < n as f64 && x.fract() == 0.0;
        x.len() == self.len()
            && match self {
                Self::Box { low, high } => {
                    x.iter().zip(low).zip(high).all(|((x, l), h)| *x >= f64::from(*l) && *x <= f64::from(*h))
                }
                Self::Discrete(n) => index(x[0], *n),
                Self::MultiDiscrete(n) => x.iter().zip(n).all(|(x, n)| index(*x, *n)),
                Self::Hybrid(parts) => {
                    let mut rest = x;
                    parts.iter().all(|part| {
                        let (head, tail) = rest.split_at(part.len());
                        rest = tail;
                        part.contains(head)
                    })
                }
            }
    }

    /// Bounds of every number of an element: the box's, and `0..=n-1` for a choice.
    pub fn bounds(&self) -> Vec<(f64, f64)> {
        match self {
            Self::Box { low, high } => {
                low.iter().zip(high).map(|(l, h)| (f64::from(*l), f64::from(*h))).collect()
            }
            Self::Discrete(n) => vec![(0.0, *n as f64 - 1.0)],
            Self::MultiDiscrete(n) => n.iter().map(|n| (0.0, *n as f64 - 1.0)).collect(),
            Self::Hybrid(parts) => parts.iter().flat_map(Self::bounds).collect(),
        }
    }
}

/// As in Gymnasium: `Box(3)`, `Discrete(2)`, …
impl std::fmt::Display for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Box { low, .. } => write!(f, "Box({})", low.len()),
            Self::Discrete(n) => write!(f, "Discrete({n})"),
            Self::MultiDiscrete(n) => write!(f, "MultiDiscrete({n:?})"),
            Self::Hybrid(parts) => {
                let parts: Vec<_> = parts.iter().map(ToString::to_string).collect();
                write!(f, "Hybrid({})", parts.join(", "))
            }
        }
    }
}
