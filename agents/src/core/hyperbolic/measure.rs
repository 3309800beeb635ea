//! What embeddings are like: how far from a tree, and whether their radius tells the depth. In `f64`, for metrics.

use steadfast_envs::gromov;

use super::dot;
use super::mlr::Geometry;

/// Distance of exp₀(v) and exp₀(w) on the hyperboloid, from the tangent vectors: by the law of cosines in half angles,
/// sinh²(d/2) = sinh²((a−b)/2) + sinh a sinh b |v/|v| − w/|w||²/4 with a = √c|v|, b = √c|w|, which does not cancel.
pub fn tangent_distance(v: &[f64], w: &[f64], c: f64) -> f64 {
    let (norm_v, norm_w) = (dot(v, v).sqrt(), dot(w, w).sqrt());
    let (a, b) = (c.sqrt() * norm_v, c.sqrt() * norm_w);
    let chord = if norm_v == 0.0 || norm_w == 0.0 {
        0.0
    } else {
        v.iter().zip(w).map(|(v, w)| (v / norm_v - w / norm_w).powi(2)).sum::<f64>()
    };
    let square = libm::sinh(0.5 * (a - b)).powi(2) + 0.25 * libm::sinh(a) * libm::sinh(b) * chord;
    2.0 * libm::asinh(square.sqrt()) / c.sqrt()
}

/// δ_rel = 2δ/diameter (Gromov) of features `v` `[n, d]` where heads of that geometry look at them; none when a distance is not
/// finite or all are zero.
pub fn relative_delta(v: &[f32], d: usize, geometry: Geometry, c: f64) -> Option<f64> {
    // exp₀ of the ball goes twice as far.
    let reach = if matches!(geometry, Geometry::Ball | Geometry::BallPoints) { 2.0 } else { 1.0 };
    let points: Vec<Vec<f64>> =
        v.chunks_exact(d).map(|v| v.iter().map(|x| reach * f64::from(*x)).collect()).collect();
    let distance = |(v, w): (&Vec<f64>, &Vec<f64>)| match geometry {
        Geometry::Euclidean => v.iter().zip(w).map(|(v, w)| (v - w).powi(2)).sum::<f64>().sqrt(),
        _ => tangent_distance(v, w, c),
    };
    let all: Vec<f64> =
        points.iter().flat_map(|v| points.iter().map(move |w| (v, w))).map(distance).collect();
    let diameter = all.iter().copied().fold(0.0, f64::max);
    let sound = diameter > 0.0 && all.iter().all(|x| x.is_finite());
    sound.then(|| 2.0 * gromov::delta(&all, points.len()) / diameter)
}

/// Spearman's ρ: the correlation of ranks, those of equals averaged; none where one of them does not vary.
pub fn rank_correlation(x: &[f64], y: &[f64]) -> Option<f64> {
    let (x, y) = (ranks(x), ranks(y));
    let middle = (x.len() as f64 - 1.0) / 2.0;
    let product =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum::<f64>();
    let scale = (product(&x, &x) * product(&y, &y)).sqrt();
    (scale > 0.0).then(|| product(&x, &y) / scale)
}

/// Ranks from 0.
fn ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|a, b| x[*a].total_cmp(&x[*b]));
    let mut ranks = vec![0.0; x.len()];
    let mut from = 0;
    for equals in order.chunk_by(|a, b| x[*a] == x[*b]) {
        let rank = from as f64 + (equals.len() as f64 - 1.0) / 2.0;
        equals.iter().for_each(|i| ranks[*i] = rank);
        from += equals.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::super::maps::{ball_distance, ball_exp0, hyperboloid_distance, hyperboloid_exp0};
    use super::super::testing::{near, vector};
    use super::*;

    #[test]
    fn tangent_vectors_are_as_far_apart_as_their_points() {
        for c in [0.1, 1.0, 4.0] {
            for (rho, other) in [(0.0, 0.7), (1e-3, 1e-3), (0.5, 1.8), (1.8, 1.8), (3.0, 0.1)] {
                let (v, w) = (vector::<f64>(4, rho, 1), vector::<f64>(4, other, 2));
                let ours = tangent_distance(&v, &w, c);
                let (mut x, mut y) = (vec![0.0; 5], vec![0.0; 5]);
                hyperboloid_exp0(&v, c, &mut x);
                hyperboloid_exp0(&w, c, &mut y);
                near(ours, hyperboloid_distance(&x, &y, c), 1e-3, 1e-9);
                // In the ball twice as far.
                let (mut p, mut q) = (vec![0.0; 4], vec![0.0; 4]);
                ball_exp0(&v, c, &mut p);
                ball_exp0(&w, c, &mut q);
                let double = |v: &[f64]| v.iter().map(|x| 2.0 * x).collect::<Vec<f64>>();
                near(tangent_distance(&double(&v), &double(&w), c), ball_distance(&p, &q, c), 1e-3, 1e-9);
            }
        }
        // Far out, where no point could be written down: out along one axis, back along another, less a constant.
        let far = tangent_distance(&[200.0, 0.0], &[0.0, 200.0], 1.0);
        near(far, 400.0 - 2f64.ln(), 1.0, 1e-12);
    }

    /// Points on a line form a tree; the corners of a square do not; far enough out in hyperbolic space they nearly do.
    #[test]
    fn far_points_of_hyperbolic_space_are_nearly_a_tree() {
        let line = [0.1f32, 0.0, 0.4, 0.0, -0.3, 0.0, 0.9, 0.0];
        for geometry in [Geometry::Euclidean, Geometry::Hyperboloid, Geometry::Ball, Geometry::BallPoints] {
            near(relative_delta(&line, 2, geometry, 1.0).unwrap(), 0.0, 1.0, 1e-12);
        }
        let square = |r: f32| [r, 0.0, 0.0, r, -r, 0.0, 0.0, -r];
        // Two diagonals against two sides twice: δ = (2·2r − 2·√2 r)/2, over a diameter of 2r.
        near(
            relative_delta(&square(1.0), 2, Geometry::Euclidean, 1.0).unwrap(),
            2.0 - 2f64.sqrt(),
            1.0,
            1e-6,
        );
        let at = |r, geometry| relative_delta(&square(r), 2, geometry, 1.0).unwrap();
        let deltas = [0.01, 1.0, 5.0, 50.0].map(|r| at(r, Geometry::Hyperboloid));
        near(deltas[0], 2.0 - 2f64.sqrt(), 1.0, 1e-3);
        assert!(deltas.windows(2).all(|w| w[1] < w[0]) && deltas[3] < 0.02, "{deltas:?}");
        near(at(0.5, Geometry::Ball), deltas[1], 1.0, 1e-12);
        assert_eq!(relative_delta(&[1e6, 0.0, 0.0, 1e6], 2, Geometry::Hyperboloid, 1.0), None);
        assert_eq!(relative_delta(&[0.0; 4], 2, Geometry::Euclidean, 1.0), None);
    }

    #[test]
    fn ranks_correlate_as_spearman_has_it() {
        near(rank_correlation(&[1.0, 2.0, 3.0], &[10.0, 100.0, 1e5]).unwrap(), 1.0, 1.0, 1e-15);
        near(rank_correlation(&[1.0, 2.0, 3.0], &[3.0, 2.0, -9.0]).unwrap(), -1.0, 1.0, 1e-15);
        // By hand: ranks 0, 1.5, 1.5, 3 and 0, 2, 1, 3.
        near(
            rank_correlation(&[1.0, 5.0, 5.0, 7.0], &[0.0, 2.0, 1.0, 3.0]).unwrap(),
            4.5 / 22.5f64.sqrt(),
            1.0,
            1e-15,
        );
        assert_eq!(rank_correlation(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(rank_correlation(&[], &[]), None);
    }
}
