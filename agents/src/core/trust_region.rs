//! Natural-gradient pieces: conjugate gradient and backtracking line search.

/// Solves A x = b for a symmetric positive definite A (Hestenes and Stiefel 1952), given by its products: `product` writes
/// A times its first argument to its second.
///
/// Stops after `iterations` steps, when the squared residual falls below `tolerance`, or in a direction without
/// positive curvature: rounding makes such directions of a singular A, and a step along one has no length.
pub fn conjugate_gradient(
    mut product: impl FnMut(&[f64], &mut [f64]),
    b: &[f64],
    iterations: usize,
    tolerance: f64,
) -> Vec<f64> {
    let mut x = vec![0.0; b.len()];
    let mut r = b.to_vec();
    let mut p = b.to_vec();
    let mut ap = vec![0.0; b.len()];
    let mut rr = dot(&r, &r);
    for _ in 0..iterations {
        if rr < tolerance {
            break;
        }
        product(&p, &mut ap);
        let curvature = dot(&p, &ap);
        if curvature <= 0.0 {
            break;
        }
        let alpha = rr / curvature;
        for i in 0..b.len() {
            x[i] += alpha * p[i];
            r[i] -= alpha * ap[i];
        }
        let rr_next = dot(&r, &r);
        let beta = rr_next / rr;
        for i in 0..b.len() {
            p[i] = r[i] + beta * p[i];
        }
        rr = rr_next;
    }
    x
}

/// Σ a_i b_i
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Tries step fractions 1, `shrink`, `shrink`², … at most `tries` times, until one is accepted.
/// Returns the accepted fraction, if any, and the number tried.
pub fn line_search(shrink: f64, tries: usize, mut accept: impl FnMut(f64) -> bool) -> (Option<f64>, usize) {
    let mut fraction = 1.0;
    for tried in 1..=tries {
        if accept(fraction) {
            return (Some(fraction), tried);
        }
        fraction *= shrink;
    }
    (None, tries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conjugate_gradient_solves_a_dense_system() {
        let n = 12;
        // A = M Mᵀ + I
        let m: Vec<f64> = (0..n * n).map(|i| ((i * 37 % 23) as f64 - 11.0) / 7.0).collect();
        let a = |i: usize, j: usize| {
            (0..n).map(|k| m[i * n + k] * m[j * n + k]).sum::<f64>() + f64::from(u8::from(i == j))
        };
        let product = |x: &[f64], out: &mut [f64]| {
            (0..n).for_each(|i| out[i] = (0..n).map(|j| a(i, j) * x[j]).sum());
        };
        let truth: Vec<f64> = (0..n).map(|i| (i as f64).sin()).collect();
        let mut b = vec![0.0; n];
        product(&truth, &mut b);
        let x = conjugate_gradient(product, &b, 50, 1e-24);
        assert!(x.iter().zip(&truth).all(|(a, b)| (a - b).abs() < 1e-8), "{x:?}");
    }

    #[test]
    fn conjugate_gradient_stops_where_a_singular_matrix_has_no_answer() {
        // A = diag(2, 0): the second equation has no solution, and asking on must not give NaN.
        let product = |x: &[f64], out: &mut [f64]| out.copy_from_slice(&[2.0 * x[0], 0.0]);
        let x = conjugate_gradient(product, &[4.0, 0.0], 10, 0.0);
        assert_eq!(x, [2.0, 0.0]);
        let x = conjugate_gradient(product, &[0.0, 1.0], 10, 1e-10);
        assert_eq!(x, [0.0, 0.0]);
    }

    #[test]
    fn line_search_backtracks_until_accepted_or_gives_up() {
        assert_eq!(line_search(0.5, 10, |f| f < 0.3), (Some(0.25), 3));
        assert_eq!(line_search(0.5, 4, |_| false), (None, 4));
    }
}
