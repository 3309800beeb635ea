//! Gromov's δ: how far a finite metric space is from a tree.
//!
//! Of four points, the three ways to pair them give three sums of two distances; δ of the four is half the
//! difference of the two largest sums, and δ of the space the largest of all fours. A tree has δ = 0, a cycle of
//! length 4m has δ = m, an open n × n grid has δ = n − 1. No space has more than half its diameter, so that
//! δ_rel = 2 δ / diameter lies in [0, 1].
//!
//! Source: M. Gromov, *Hyperbolic groups*, 1987 (the four-point condition); δ_rel after E. Cetin et al., *Hyperbolic
//! deep reinforcement learning*, 2023.

use std::collections::VecDeque;

use rand::seq::SliceRandom as _;

use crate::Rng;

/// Points up to which [`of_graph`] takes all of them.
pub const EXACT: usize = 128;

/// What δ a space has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyperbolicity {
    /// δ, in the unit of the distances.
    pub delta: f64,
    /// Largest distance.
    pub diameter: f64,
    /// Points that were looked at.
    pub points: usize,
    /// Whether these were all; of some of them δ is a lower bound.
    pub exact: bool,
}

impl Hyperbolicity {
    /// δ_rel = 2 δ / diameter, in [0, 1]; 0 for a single point.
    pub fn relative(&self) -> f64 {
        if self.diameter > 0.0 { 2.0 * self.delta / self.diameter } else { 0.0 }
    }
}

/// δ of n points from their distances, `[n, n]`, symmetric, finite and with the triangle inequality.
///
/// Pairs are tried from the farthest on. By the triangle inequality no four points have more than half the shorter
/// distance of the pair of pairs with the largest sum, so that the search ends early where δ is large (N. Cohen,
/// D. Coudert, A. Lancin, *On computing the Gromov hyperbolicity*, 2015). At worst it looks at n⁴/8 pairs of pairs.
pub fn delta(distances: &[f64], n: usize) -> f64 {
    let at = |i: usize, j: usize| distances[i * n + j];
    let mut pairs: Vec<(usize, usize)> = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).collect();
    pairs.sort_by(|a, b| at(b.0, b.1).total_cmp(&at(a.0, a.1)));
    let mut best = 0.0f64;
    for (rank, &(i, j)) in pairs.iter().enumerate() {
        if at(i, j) / 2.0 <= best {
            break;
        }
        for &(k, l) in &pairs[..rank] {
            let others = (at(i, k) + at(j, l)).max(at(i, l) + at(j, k));
            best = best.max((at(i, j) + at(k, l) - others) / 2.0);
        }
    }
    best
}

/// Distances in steps of `sources` from every vertex of an undirected graph, `[sources, vertices]`; infinite where
/// there is no path. Neighbours are given vertex by vertex.
pub fn distances(neighbours: &[Vec<usize>], sources: &[usize]) -> Vec<f64> {
    let n = neighbours.len();
    let mut all = vec![f64::INFINITY; sources.len() * n];
    let mut queue = VecDeque::new();
    for (row, &source) in all.chunks_mut(n.max(1)).zip(sources) {
        row[source] = 0.0;
        queue.push_back(source);
        while let Some(v) = queue.pop_front() {
            for &w in &neighbours[v] {
                if row[w].is_infinite() {
                    row[w] = row[v] + 1.0;
                    queue.push_back(w);
                }
            }
        }
    }
    all
}

/// δ of an undirected connected graph: exact up to [`EXACT`] vertices, of so many random ones beyond. `None` for a graph
/// that is empty or falls apart.
pub fn of_graph(neighbours: &[Vec<usize>], rng: &mut Rng) -> Option<Hyperbolicity> {
    let n = neighbours.len();
    let mut chosen: Vec<usize> = (0..n).collect();
    if n > EXACT {
        chosen.shuffle(rng);
        chosen.truncate(EXACT);
    }
    let all = distances(neighbours, &chosen);
    if n == 0 || all.iter().any(|d| d.is_infinite()) {
        return None;
    }
    let among: Vec<f64> = all.chunks(n).flat_map(|row| chosen.iter().map(|&j| row[j])).collect();
    let points = chosen.len();
    let diameter = among.iter().copied().fold(0.0, f64::max);
    Some(Hyperbolicity { delta: delta(&among, points), diameter, points, exact: points == n })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use rand::RngExt as _;

    fn graph(n: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Vec<Vec<usize>> {
        let mut neighbours = vec![Vec::new(); n];
        for (a, b) in edges {
            neighbours[a].push(b);
            neighbours[b].push(a);
        }
        neighbours
    }

    fn of(neighbours: &[Vec<usize>]) -> Hyperbolicity {
        of_graph(neighbours, &mut stream(0, Purpose::Check, 0)).unwrap()
    }

    fn grid(n: usize) -> Vec<Vec<usize>> {
        let right = (0..n * n).filter(move |v| v % n + 1 < n).map(|v| (v, v + 1));
        graph(n * n, right.chain((0..n * n - n).map(|v| (v, v + n))))
    }

    #[test]
    fn cycles_grids_and_trees_have_their_known_values() {
        for m in 1..=6 {
            let n = 4 * m;
            let cycle = of(&graph(n, (0..n).map(|v| (v, (v + 1) % n))));
            assert_eq!((cycle.delta, cycle.diameter), (m as f64, 2.0 * m as f64));
            assert_eq!((cycle.relative(), cycle.exact), (1.0, true));
        }
        for n in [2, 5, 9] {
            assert_eq!(of(&grid(n)).delta, n as f64 - 1.0);
        }
        let mut rng = stream(1, Purpose::Check, 0);
        for _ in 0..20 {
            let edges: Vec<_> = (1..60).map(|v| (v, rng.random_range(0..v))).collect();
            assert_eq!(of(&graph(60, edges)).delta, 0.0);
        }
        assert_eq!(of(&graph(1, [])).relative(), 0.0);
    }

    #[test]
    fn the_pruned_search_finds_what_all_fours_give() {
        let mut rng = stream(2, Purpose::Check, 0);
        let mut above_zero = 0;
        for _ in 0..40 {
            let n = 12;
            let points: Vec<[f64; 3]> = (0..n).map(|_| std::array::from_fn(|_| rng.random())).collect();
            let distance = |a: &[f64; 3], b: &[f64; 3]| {
                a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
            };
            let d: Vec<f64> = points.iter().flat_map(|a| points.iter().map(|b| distance(a, b))).collect();
            let at = |i: usize, j: usize| d[i * n + j];
            let mut brute = 0.0f64;
            for (i, j, k, l) in (0..n).flat_map(|i| {
                (0..i).flat_map(move |j| (0..j).flat_map(move |k| (0..k).map(move |l| (i, j, k, l))))
            }) {
                let mut sums = [at(i, j) + at(k, l), at(i, k) + at(j, l), at(i, l) + at(j, k)];
                sums.sort_by(f64::total_cmp);
                brute = brute.max((sums[2] - sums[1]) / 2.0);
            }
            assert!((delta(&d, n) - brute).abs() < 1e-12);
            above_zero += usize::from(brute > 0.01);
        }
        assert!(above_zero > 30);
    }

    #[test]
    fn a_large_graph_is_sampled_and_a_broken_one_refused() {
        let large = of(&grid(20));
        assert_eq!((large.points, large.exact), (EXACT, false));
        assert!(large.delta > 9.0 && large.delta <= 19.0, "a lower bound of 19: {}", large.delta);
        let mut rng = stream(3, Purpose::Check, 0);
        assert_eq!(of_graph(&graph(3, [(0, 1)]), &mut rng), None);
        assert_eq!(of_graph(&[], &mut rng), None);
    }
}
