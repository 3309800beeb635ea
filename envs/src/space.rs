//! Observation and action spaces.

use rand::RngExt as _;

use crate::Rng;

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

    /// Moves every number of `x`, `[len]`, to the nearest within its [bounds](Self::bounds).
    pub fn clip(&self, x: &mut [f64]) {
        let index = |x: &mut f64, n: usize| *x = x.clamp(0.0, n as f64 - 1.0);
        match self {
            Self::Box { low, high } => {
                let bounds = low.iter().zip(high);
                x.iter_mut().zip(bounds).for_each(|(x, (l, h))| *x = x.clamp(f64::from(*l), f64::from(*h)));
            }
            Self::Discrete(n) => index(&mut x[0], *n),
            Self::MultiDiscrete(n) => x.iter_mut().zip(n).for_each(|(x, n)| index(x, *n)),
            Self::Hybrid(parts) => {
                let mut rest = x;
                for part in parts {
                    let (head, tail) = rest.split_at_mut(part.len());
                    part.clip(head);
                    rest = tail;
                }
            }
        }
    }

    /// Number of values of each discrete choice, in order; a box has none. A mask holds as many flags, one choice after
    /// another.
    pub fn choices(&self) -> Vec<usize> {
        match self {
            Self::Box { .. } => Vec::new(),
            Self::Discrete(n) => vec![*n],
            Self::MultiDiscrete(n) => n.clone(),
            Self::Hybrid(parts) => parts.iter().flat_map(Self::choices).collect(),
        }
    }

    /// Flags of one mask: one for each value of each discrete choice.
    pub fn flags(&self) -> usize {
        match self {
            Self::Box { .. } => 0,
            Self::Discrete(n) => *n,
            Self::MultiDiscrete(n) => n.iter().sum(),
            Self::Hybrid(parts) => parts.iter().map(Self::flags).sum(),
        }
    }

    /// The first choice of which `mask` `[flags]` allows no value.
    pub fn blocked(&self, mask: &[bool]) -> Option<usize> {
        self.blocked_from(&mut 0, &mut mask.iter())
    }

    fn blocked_from(&self, choice: &mut usize, flags: &mut std::slice::Iter<bool>) -> Option<usize> {
        let mut blocked = |n: usize| {
            *choice += 1;
            let allowed = flags.by_ref().take(n).filter(|flag| **flag).count();
            (allowed == 0).then(|| *choice - 1)
        };
        match self {
            Self::Box { .. } => None,
            Self::Discrete(n) => blocked(*n),
            Self::MultiDiscrete(n) => n.iter().find_map(|n| blocked(*n)),
            Self::Hybrid(parts) => parts.iter().find_map(|part| part.blocked_from(choice, flags)),
        }
    }

    /// Whether `x` is an element and all its choices are allowed by `mask`.
    pub fn allows(&self, x: &[f64], mask: &[bool]) -> bool {
        let mut rest = mask;
        self.contains(x)
            && self.discrete(x).into_iter().zip(self.choices()).all(|(value, n)| {
                let (head, tail) = rest.split_at(n);
                rest = tail;
                head[value as usize]
            })
    }

    /// The numbers of `x` that are discrete choices, in order.
    fn discrete(&self, x: &[f64]) -> Vec<f64> {
        match self {
            Self::Box { .. } => Vec::new(),
            Self::Discrete(_) | Self::MultiDiscrete(_) => x.to_vec(),
            Self::Hybrid(parts) => {
                let mut rest = x;
                let each = parts.iter().flat_map(|part| {
                    let (head, tail) = rest.split_at(part.len());
                    rest = tail;
                    part.discrete(head)
                });
                each.collect()
            }
        }
    }

    /// Appends a random element: uniform over the allowed values of each choice (all of them where `mask` is empty),
    /// uniform within bounds, and within ±1 of zero or of the one bound where there is no other.
    ///
    /// # Panics
    /// Where a mask allows no value of a choice.
    pub fn sample(&self, mask: &[bool], rng: &mut Rng, action: &mut Vec<f64>) {
        let mut rest = mask;
        self.sample_part(&mut rest, rng, action);
    }

    fn sample_part(&self, mask: &mut &[bool], rng: &mut Rng, action: &mut Vec<f64>) {
        let mut choice = |n: usize, rng: &mut Rng| {
            if mask.is_empty() {
                return rng.random_range(0..n as u64) as f64;
            }
            let (head, tail) = mask.split_at(n);
            *mask = tail;
            let allowed = head.iter().filter(|m| **m).count() as u64;
            assert!(allowed > 0, "the mask allows nothing");
            let nth = rng.random_range(0..allowed) as usize;
            head.iter().enumerate().filter(|(_, m)| **m).nth(nth).map_or(0.0, |(i, _)| i as f64)
        };
        match self {
            Self::Box { .. } => {
                for (low, high) in self.bounds() {
                    let (low, high) = finite(low, high, 1.0);
                    action.push(low + (high - low) * rng.random::<f64>());
                }
            }
            Self::Discrete(n) => action.push(choice(*n, rng)),
            Self::MultiDiscrete(n) => n.iter().for_each(|n| action.push(choice(*n, rng))),
            Self::Hybrid(parts) => parts.iter().for_each(|part| part.sample_part(mask, rng, action)),
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

/// The bounds themselves, with `reach` in the place of infinity.
pub(crate) fn finite(low: f64, high: f64, reach: f64) -> (f64, f64) {
    match (low.is_finite(), high.is_finite()) {
        (true, true) => (low, high),
        (true, false) => (low, low + reach),
        (false, true) => (high - reach, high),
        (false, false) => (-reach, reach),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    #[test]
    fn a_blocked_choice_is_named_by_its_number() {
        let space = Space::Hybrid(vec![
            Space::Discrete(2),
            Space::uniform(1, 0.0, 1.0),
            Space::MultiDiscrete(vec![1, 3]),
        ]);
        assert_eq!(space.flags(), 6);
        assert_eq!(space.blocked(&[true; 6]), None);
        assert_eq!(space.blocked(&[false, true, true, false, false, true]), None);
        assert_eq!(space.blocked(&[false, true, true, false, false, false]), Some(2));
        assert_eq!(space.blocked(&[false, false, true, true, true, true]), Some(0));
    }

    #[test]
    fn clipping_moves_each_number_to_its_nearest_bound() {
        let parts = vec![
            Space::Box { low: vec![-1.0, f32::NEG_INFINITY], high: vec![2.0, 0.1] },
            Space::Discrete(3),
            Space::Hybrid(vec![Space::MultiDiscrete(vec![2, 4]), Space::uniform(1, 5.0, 6.0)]),
        ];
        let space = Space::Hybrid(parts);
        for x in [[9.0; 6], [-9.0; 6], [0.5, -7.0, 1.0, 1.0, 2.0, 5.5], [-1.0, 0.2, 2.5, -1.0, 3.0, 4.0]] {
            let mut clipped = x;
            space.clip(&mut clipped);
            let bounds = space.bounds();
            let nearest = |i: usize| if x[i] < bounds[i].0 { bounds[i].0 } else { x[i].min(bounds[i].1) };
            assert_eq!(clipped, std::array::from_fn(nearest));
        }
    }

    #[test]
    fn a_mask_speaks_of_the_choices_in_order() {
        let space = Space::Hybrid(vec![
            Space::symmetric(&[1.0, 1.0]),
            Space::MultiDiscrete(vec![3, 2]),
            Space::Discrete(2),
        ]);
        assert_eq!(space.choices(), [3, 2, 2]);
        let mask = [true, false, true, false, true, true, false];
        assert!(space.allows(&[0.5, -1.0, 2.0, 1.0, 0.0], &mask));
        for bad in [[0.5, -1.0, 1.0, 1.0, 0.0], [0.5, -1.0, 2.0, 0.0, 0.0], [0.5, -1.0, 2.0, 1.0, 1.0]] {
            assert!(!space.allows(&bad, &mask), "{bad:?}");
        }
        assert!(!space.allows(&[1.5, 0.0, 2.0, 1.0, 0.0], &mask), "outside the box");
        let (mut rng, mut seen) = (stream(0, Purpose::Check, 0), [0; 3]);
        for _ in 0..300 {
            let mut x = Vec::new();
            space.sample(&mask, &mut rng, &mut x);
            assert!(space.allows(&x, &mask), "{x:?}");
            seen[x[2] as usize] += 1;
        }
        assert!(seen[0] > 100 && seen[1] == 0 && seen[2] > 100, "{seen:?}");
    }
}
