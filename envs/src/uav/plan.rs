//! Where to send UAVs: packings, clusters, assignments and tours. Points are (x, y) in m.

use std::f64::consts::TAU;

use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;
use rand::RngExt as _;

use crate::Rng;

/// Mean of some points; the origin for none.
pub fn centroid(points: &[[f64; 2]]) -> [f64; 2] {
    let n = points.len().max(1) as f64;
    points.iter().fold([0.0; 2], |c, p| [c[0] + p[0] / n, c[1] + p[1] / n])
}

/// Distance of two points.
pub fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Columns of the square grid on which [`scatter`] falls back.
fn columns(count: usize) -> usize {
    (count as f64).sqrt().ceil() as usize
}

/// The largest separation that [`scatter`] can promise to so many points in a square.
pub fn widest(count: usize, side: f64) -> f64 {
    side / columns(count) as f64
}

/// Random points of a square, at least `separation` apart; no more than [`widest`] may be asked for.
///
/// Each is drawn anew until it is far from the earlier ones; if a hundred draws do not do, all go to a square
/// grid.
pub fn scatter(points: &mut [[f64; 2]], side: f64, separation: f64, rng: &mut Rng) {
    for i in 0..points.len() {
        let mut draws = 0;
        loop {
            points[i] = [side * rng.random::<f64>(), side * rng.random::<f64>()];
            if points[..i].iter().all(|p| distance(*p, points[i]) >= separation) {
                break;
            }
            draws += 1;
            if draws == 100 {
                let (step, columns) = (widest(points.len(), side), columns(points.len()));
                for (j, point) in points.iter_mut().enumerate() {
                    *point = [(j % columns) as f64 + 0.5, (j / columns) as f64 + 0.5].map(|x| x * step);
                }
                return;
            }
        }
    }
}

/// Centres of so many equal cells of a square, in rows that are shifted against each other: as a hexagonal
/// lattice has them.
pub fn hexagonal(count: usize, side: f64) -> Vec<[f64; 2]> {
    let mut centres = vec![[0.0; 2]; count];
    hexagonal_into(&mut centres, side);
    centres
}

/// As [`hexagonal`], written to `centres`.
pub fn hexagonal_into(centres: &mut [[f64; 2]], side: f64) {
    let count = centres.len();
    let rows = (count as f64).sqrt().round().max(1.0) as usize;
    let mut next = 0;
    for r in 0..rows {
        // As equal as can be: the first rows take what is left over.
        let in_row = count / rows + usize::from(r < count % rows);
        let shift = if rows == 1 {
            0.0
        } else if r % 2 == 0 {
            -0.125
        } else {
            0.125
        };
        for c in 0..in_row {
            let x = (c as f64 + 0.5 + shift) / in_row as f64;
            centres[next] = [side * x, side * (r as f64 + 0.5) / rows as f64];
            next += 1;
        }
    }
}

/// Lloyd's k-means from the given centres, until they rest (or 50 rounds). A centre without points stays.
///
/// A crate would bring fifty others for these lines.
pub fn k_means(points: &[[f64; 2]], centres: &mut [[f64; 2]]) {
    for _ in 0..50 {
        let nearest = |p: &[f64; 2]| {
            let by = |a: &usize, b: &usize| distance(centres[*a], *p).total_cmp(&distance(centres[*b], *p));
            (0..centres.len()).min_by(by).unwrap_or(0)
        };
        let labels: Vec<usize> = points.iter().map(nearest).collect();
        let mean = |i: usize| {
            let own: Vec<[f64; 2]> =
                points.iter().zip(&labels).filter(|(_, label)| **label == i).map(|(p, _)| *p).collect();
            if own.is_empty() { centres[i] } else { centroid(&own) }
        };
        let new: Vec<[f64; 2]> = (0..centres.len()).map(mean).collect();
        if new == centres {
            return;
        }
        centres.copy_from_slice(&new);
    }
}

/// The one-to-one assignment of rows to columns of greatest total value (Hungarian method): the column of each
/// row. At most as many rows as columns; values count in millionths of the greatest.
pub fn assign(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let scale = (0..rows * columns).map(|s| value(s / columns, s % columns).abs()).fold(1e-300, f64::max);
    let whole = |(i, j): (usize, usize)| (1e6 * value(i, j) / scale).round() as i64;
    kuhn_munkres(&Matrix::from_fn(rows, columns, whole)).1
}

/// Targets dealt to those at `from` so that the sum of distances is least. As many of the one as of the other.
pub fn deal(from: &[[f64; 2]], targets: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let to = assign(from.len(), targets.len(), |i, j| -distance(from[i], targets[j]));
    to.into_iter().map(|j| targets[j]).collect()
}

/// A short closed tour through points: their order. Nearest neighbour, then 2-opt until nothing helps.
pub fn tour(points: &[[f64; 2]]) -> Vec<usize> {
    let mut order = Vec::with_capacity(points.len());
    tour_into(&mut order, points);
    order
}

/// As [`tour`], written to `order`.
pub fn tour_into(order: &mut Vec<usize>, points: &[[f64; 2]]) {
    let n = points.len();
    order.clear();
    order.extend(0..n);
    for i in 1..n {
        let from = points[order[i - 1]];
        let by = |a: &usize, b: &usize| {
            distance(from, points[order[*a]]).total_cmp(&distance(from, points[order[*b]]))
        };
        if let Some(next) = (i..n).min_by(by) {
            order.swap(i, next);
        }
    }
    let mut improved = true;
    while improved {
        improved = false;
        for i in 0..n {
            for j in i + 2..n {
                let at = |s: usize| points[order[s % n]];
                let gain = distance(at(i), at(i + 1)) + distance(at(j), at(j + 1))
                    - distance(at(i), at(j))
                    - distance(at(i + 1), at(j + 1));
                if gain > 1e-9 {
                    order[i + 1..=j].reverse();
                    improved = true;
                }
            }
        }
    }
}

/// Length of a closed tour.
pub fn length(points: &[[f64; 2]], order: &[usize]) -> f64 {
    (0..order.len()).map(|s| distance(points[order[s]], points[order[(s + 1) % order.len()]])).sum()
}

/// The point of a circle at a fraction of a turn.
pub fn on_circle(centre: [f64; 2], radius: f64, turn: f64) -> [f64; 2] {
    let (sin, cos) = (TAU * turn).sin_cos();
    [centre[0] + radius * cos, centre[1] + radius * sin]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    fn random_points(n: usize, seed: u64) -> Vec<[f64; 2]> {
        let mut points = vec![[0.0; 2]; n];
        scatter(&mut points, 1000.0, 0.0, &mut stream(seed, Purpose::Check, 0));
        points
    }

    #[test]
    fn scattered_points_keep_their_distance() {
        for (count, share) in [(1, 1.0), (2, 1.0), (5, 0.9), (9, 1.0), (30, 1.0)] {
            for seed in 0..20 {
                let mut points = vec![[0.0; 2]; count];
                let separation = share * widest(count, 100.0);
                scatter(&mut points, 100.0, separation, &mut stream(seed, Purpose::Check, 0));
                for i in 0..count {
                    assert!(points[i].iter().all(|x| (0.0..=100.0).contains(x)));
                    assert!((0..i).all(|j| distance(points[i], points[j]) >= separation - 1e-9));
                }
            }
        }
    }

    #[test]
    fn a_hexagonal_packing_is_inside_and_wide() {
        for count in 1..=20 {
            let points = hexagonal(count, 1.0);
            assert_eq!(points.len(), count);
            assert!(points.iter().flatten().all(|x| (0.0..=1.0).contains(x)));
            for i in 0..count {
                for j in 0..i {
                    assert!(
                        distance(points[i], points[j]) > 0.6 / (count as f64).sqrt(),
                        "{count}: {points:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn clusters_are_found() {
        let mut points = Vec::new();
        for (c, centre) in [[100.0, 100.0], [800.0, 200.0], [400.0, 900.0]].into_iter().enumerate() {
            points.extend(
                random_points(30, c as u64)
                    .iter()
                    .map(|p| [centre[0] + 0.05 * p[0], centre[1] + 0.05 * p[1]]),
            );
        }
        let mut centres = vec![[0.0, 0.0], [1000.0, 0.0], [500.0, 1000.0]];
        k_means(&points, &mut centres);
        for (i, centre) in centres.iter().enumerate() {
            assert!(distance(*centre, centroid(&points[30 * i..30 * (i + 1)])) < 1e-9);
        }
    }

    /// Every order of the first numbers.
    fn permutations(n: usize) -> Vec<Vec<usize>> {
        if n == 0 {
            return vec![Vec::new()];
        }
        let insert = |p: Vec<usize>| (0..n).map(move |at| [&p[..at], &[n - 1], &p[at..]].concat());
        permutations(n - 1).into_iter().flat_map(insert).collect()
    }

    #[test]
    fn assignments_and_tours_are_as_good_as_brute_force() {
        for seed in 0..20 {
            let (from, to) = (random_points(5, seed), random_points(5, seed + 100));
            let cost =
                |targets: &[[f64; 2]]| from.iter().zip(targets).map(|(a, b)| distance(*a, *b)).sum::<f64>();
            let orders = permutations(5);
            let all = orders.iter().map(|p| cost(&p.iter().map(|i| to[*i]).collect::<Vec<_>>()));
            let best = all.fold(f64::INFINITY, f64::min);
            assert!((cost(&deal(&from, &to)) - best).abs() < 0.02);
            let points = random_points(7, seed);
            let shortest = permutations(7).iter().map(|p| length(&points, p)).fold(f64::INFINITY, f64::min);
            assert!(length(&points, &tour(&points)) < 1.15 * shortest, "seed {seed}");
        }
    }
}
