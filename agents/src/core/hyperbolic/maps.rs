//! Points of hyperbolic space: exponential and logarithmic maps, distances, transport, and the isometry of the models.
//!
//! Points of the hyperboloid are slices `[d + 1]`, x₀ first; points of the ball and tangent vectors `[d]`. Distances are in
//! forms that neither cancel nor saturate.

use super::{Float, Radial, dot};

/// exp₀(v) on the hyperboloid: x₀ = cosh(s)/√c, xₛ = (sinh s / s) v. `[d]` to `[d + 1]`.
pub fn hyperboloid_exp0<T: Float>(v: &[T], c: T, x: &mut [T]) {
    let r = Radial::of(c * dot(v, v));
    x[0] = r.b / c.sqrt();
    x[1..].iter_mut().zip(v).for_each(|(x, v)| *x = r.a * *v);
}

/// log₀(x) on the hyperboloid, from xₛ alone. `[d + 1]` to `[d]`.
pub fn hyperboloid_log0<T: Float>(x: &[T], c: T, v: &mut [T]) {
    let sinh = c.sqrt() * dot(&x[1..], &x[1..]).sqrt();
    // arsinh(t)/t = 1 − t²/6 + …
    let factor = if sinh < T::of(1e-4) { T::of(1.0) - sinh * sinh / T::of(6.0) } else { sinh.asinh() / sinh };
    v.iter_mut().zip(&x[1..]).for_each(|(v, x)| *v = factor * *x);
}

/// Distance on the hyperboloid: (2/√c) arsinh(½√c √(|xₛ − yₛ|² − (x₀ − y₀)²)), where x₀ − y₀ comes from xₛ and yₛ.
pub fn hyperboloid_distance<T: Float>(x: &[T], y: &[T], c: T) -> T {
    let (mut square, mut along) = (T::default(), T::default());
    for (x, y) in x[1..].iter().zip(&y[1..]) {
        square += (*x - *y) * (*x - *y);
        along += (*x - *y) * (*x + *y);
    }
    let time = along / (x[0] + y[0]);
    let chord = square - time * time;
    let chord = if chord > T::default() { chord.sqrt() } else { T::default() };
    T::of(2.0) / c.sqrt() * (T::of(0.5) * c.sqrt() * chord).asinh()
}

/// exp₀(v) in the ball: (tanh s / s) v; its distance from the origin is 2ρ. `[d]` to `[d]`.
pub fn ball_exp0<T: Float>(v: &[T], c: T, p: &mut [T]) {
    let factor = tanh_over(c.sqrt() * dot(v, v).sqrt());
    p.iter_mut().zip(v).for_each(|(p, v)| *p = factor * *v);
}

/// log₀(p) in the ball. `[d]` to `[d]`.
pub fn ball_log0<T: Float>(p: &[T], c: T, v: &mut [T]) {
    let t = c.sqrt() * dot(p, p).sqrt();
    let factor = if t < T::of(1e-4) { T::of(1.0) + t * t / T::of(3.0) } else { t.atanh() / t };
    v.iter_mut().zip(p).for_each(|(v, p)| *v = factor * *p);
}

/// λ = 2 / (1 − c|p|²) of a point of the ball.
pub fn conformal_factor<T: Float>(p: &[T], c: T) -> T {
    T::of(2.0) / (T::of(1.0) - c * dot(p, p))
}

/// Distance in the ball: (2/√c) arsinh(√c |p − q| / √((1 − c|p|²)(1 − c|q|²))).
pub fn ball_distance<T: Float>(p: &[T], q: &[T], c: T) -> T {
    let square = p.iter().zip(q).fold(T::default(), |sum, (p, q)| sum + (*p - *q) * (*p - *q));
    let factors = (conformal_factor(p, c) * conformal_factor(q, c)).sqrt() * T::of(0.5);
    T::of(2.0) / c.sqrt() * (c.sqrt() * square.sqrt() * factors).asinh()
}

/// Möbius addition p ⊕ q in the ball.
pub fn mobius_add<T: Float>(p: &[T], q: &[T], c: T, out: &mut [T]) {
    let (pp, qq, pq) = (dot(p, p), dot(q, q), dot(p, q));
    let (one, two) = (T::of(1.0), T::of(2.0));
    let denominator = one + two * c * pq + c * c * pp * qq;
    let (a, b) = ((one + two * c * pq + c * qq) / denominator, (one - c * pp) / denominator);
    for ((out, p), q) in out.iter_mut().zip(p).zip(q) {
        *out = a * *p + b * *q;
    }
}

/// exp_q(u) in the ball: q ⊕ tanh(√c λ|u|/2) u/(√c |u|). `step` is room for `[d]`.
pub fn ball_exp<T: Float>(q: &[T], u: &[T], c: T, step: &mut [T], out: &mut [T]) {
    // exp₀ moves by v what exp_q moves by 2v/λ.
    let half = conformal_factor(q, c) * T::of(0.5);
    let factor = half * tanh_over(c.sqrt() * half * dot(u, u).sqrt());
    step.iter_mut().zip(u).for_each(|(s, u)| *s = factor * *u);
    mobius_add(q, step, c, out);
}

/// Parallel transport of the tangent vector `u` at p to q in the ball, in place: (λ_p/λ_q) gyr[q, −p] u.
pub fn ball_transport<T: Float>(p: &[T], q: &[T], c: T, u: &mut [T]) {
    // gyr[a, b] w = w + 2 (A a + B b)/D (Ungar 2008), a = q, b = −p.
    let (aa, bb, ab) = (dot(q, q), dot(p, p), -dot(p, q));
    let (aw, bw) = (dot(q, u), -dot(p, u));
    let (one, two) = (T::of(1.0), T::of(2.0));
    let d = one + two * c * ab + c * c * aa * bb;
    let a = c * bw + two * c * c * ab * bw - c * c * aw * bb;
    let b = -c * c * bw * aa - c * aw;
    let (a, b) = (two * a / d, two * b / d);
    let factor = conformal_factor(p, c) / conformal_factor(q, c);
    for ((u, p), q) in u.iter_mut().zip(p).zip(q) {
        *u = factor * (*u + a * *q - b * *p);
    }
}

/// The point of the ball that a point of the hyperboloid is: xₛ/(1 + √c x₀). `[d + 1]` to `[d]`.
pub fn to_ball<T: Float>(x: &[T], c: T, p: &mut [T]) {
    let factor = T::of(1.0) / (T::of(1.0) + c.sqrt() * x[0]);
    p.iter_mut().zip(&x[1..]).for_each(|(p, x)| *p = factor * *x);
}

/// The point of the hyperboloid that a point of the ball is: xₛ = λ p, x₀ = (λ − 1)/√c. `[d]` to `[d + 1]`.
pub fn to_hyperboloid<T: Float>(p: &[T], c: T, x: &mut [T]) {
    let factor = conformal_factor(p, c);
    x[0] = (factor - T::of(1.0)) / c.sqrt();
    x[1..].iter_mut().zip(p).for_each(|(x, p)| *x = factor * *p);
}

/// tanh(s)/s
fn tanh_over<T: Float>(s: T) -> T {
    if s < T::of(1e-4) { T::of(1.0) - s * s / T::of(3.0) } else { s.tanh() / s }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CURVATURES, DIMS, RADII, f64s, near, vector};
    use super::*;

    fn exp_h<T: Float>(v: &[T], c: T) -> Vec<T> {
        let mut x = vec![T::default(); v.len() + 1];
        hyperboloid_exp0(v, c, &mut x);
        x
    }

    fn exp_b<T: Float>(v: &[T], c: T) -> Vec<T> {
        let mut p = vec![T::default(); v.len()];
        ball_exp0(v, c, &mut p);
        p
    }

    fn add<T: Float>(p: &[T], q: &[T], c: T) -> Vec<T> {
        let mut out = vec![T::default(); p.len()];
        mobius_add(p, q, c, &mut out);
        out
    }

    fn minus<T: Float>(p: &[T]) -> Vec<T> {
        p.iter().map(|p| -*p).collect()
    }

    /// Calls `f(d, c, ρ)` for every case with √c ρ ≤ `reach`.
    fn cases(reach: f64, mut f: impl FnMut(usize, f64, f64)) {
        for d in DIMS {
            for c in CURVATURES {
                RADII.into_iter().filter(|rho| c.sqrt() * rho <= reach).for_each(|rho| f(d, c, rho));
            }
        }
    }

    /// Constraint, inverse, and distance from the origin, in both models.
    fn exponential_map<T: Float>(reach: f64, constraint: f64, tolerance: f64) {
        cases(reach, |d, c, rho| {
            let v = vector::<T>(d, rho, 1);
            let c = T::of(c);
            let x = exp_h(&v, c);
            let residual = dot(&x[1..], &x[1..]) - x[0] * x[0] + T::of(1.0) / c;
            near(residual / (x[0] * x[0]), 0.0, 1.0, constraint);
            let mut back = vec![T::default(); d];
            hyperboloid_log0(&x, c, &mut back);
            back.iter().zip(&v).for_each(|(a, b)| near(*a, *b, rho, tolerance));
            let mut origin = vec![T::default(); d + 1];
            origin[0] = T::of(1.0) / c.sqrt();
            near(hyperboloid_distance(&origin, &x, c), rho, 0.0, tolerance);
        });
    }

    #[test]
    fn the_hyperboloid_keeps_its_constraint_and_its_distances() {
        exponential_map::<f64>(10.0, 1e-14, 1e-12);
        exponential_map::<f32>(3.0, 1e-6, 1e-5);
    }

    /// In the ball, points near the border have few digits left: the tolerance grows with λ.
    fn ball_map<T: Float>(reach: f64, tolerance: f64) {
        cases(reach, |d, c, rho| {
            let v = vector::<T>(d, rho, 1);
            let cc = T::of(c);
            let p = exp_b(&v, cc);
            let lambda: f64 = conformal_factor(&p, cc).into();
            let mut back = vec![T::default(); d];
            ball_log0(&p, cc, &mut back);
            back.iter().zip(&v).for_each(|(a, b)| near(*a, *b, rho, tolerance * lambda));
            near(ball_distance(&vec![T::default(); d], &p, cc), 2.0 * rho, 0.0, tolerance * lambda);
        });
    }

    #[test]
    fn the_ball_is_twice_as_far() {
        ball_map::<f64>(5.0, 1e-13);
        ball_map::<f32>(3.0, 1e-6);
    }

    fn metric<T: Float>(reach: f64, tolerance: f64) {
        cases(reach, |d, c, rho| {
            let c = T::of(c);
            let [x, y, z] = [1, 2, 3].map(|i| exp_h(&vector::<T>(d, rho, i), c));
            let distance = |x: &[T], y: &[T]| -> f64 { hyperboloid_distance(x, y, c).into() };
            assert_eq!(distance(&x, &y), distance(&y, &x));
            assert_eq!(distance(&x, &x), 0.0);
            assert!(distance(&x, &z) <= distance(&x, &y) + distance(&y, &z) + tolerance);
            // The isometry: there and back, and equal distances. The coordinates of the ball lose digits as λ grows.
            let mut p = vec![T::default(); d];
            to_ball(&x, c, &mut p);
            let lambda: f64 = conformal_factor(&p, c).into();
            let mut back = vec![T::default(); d + 1];
            to_hyperboloid(&p, c, &mut back);
            let slack = 1.0 + 0.1 * lambda;
            back.iter().zip(&x).for_each(|(a, b)| near(*a, *b, x[0].into(), tolerance * slack));
            let mut q = vec![T::default(); d];
            to_ball(&y, c, &mut q);
            near(ball_distance(&p, &q, c), distance(&x, &y), 1e-3, tolerance * slack);
            assert_eq!(ball_distance(&p, &q, c), ball_distance(&q, &p, c));
        });
    }

    #[test]
    fn distances_are_metrics_and_the_models_are_isometric() {
        metric::<f64>(5.0, 1e-12);
        metric::<f32>(3.0, 1e-5);
    }

    /// The stable forms against the textbook's.
    #[test]
    fn distances_have_their_closed_forms() {
        cases(4.0, |d, c, rho| {
            let (v, w) = (vector::<f64>(d, rho, 1), vector::<f64>(d, 0.5 + rho, 2));
            let (x, y) = (exp_h(&v, c), exp_h(&w, c));
            let closed = (c * (x[0] * y[0] - dot(&x[1..], &y[1..]))).acosh() / c.sqrt();
            near(hyperboloid_distance(&x, &y, c), closed, 1.0, 1e-9);
            let (p, q) = (exp_b(&v, c), exp_b(&w, c));
            let w = add(&minus(&p), &q, c);
            let closed = 2.0 / c.sqrt() * (c * dot(&w, &w)).sqrt().atanh();
            near(ball_distance(&p, &q, c), closed, 1.0, 1e-9);
        });
    }

    /// Near points, where the textbook's form knows nothing (acosh of a number that rounds to 1).
    #[test]
    fn near_points_have_accurate_distances_in_f32() {
        for rho in [0.5f64, 1.83, 3.0] {
            let v = vector::<f64>(32, rho, 1);
            let w: Vec<f64> = v.iter().zip(vector::<f64>(32, 1e-3, 2)).map(|(v, e)| v + e).collect();
            let exact = hyperboloid_distance(&exp_h(&v, 1.0), &exp_h(&w, 1.0), 1.0);
            let narrow = |v: &[f64]| exp_h(&v.iter().map(|x| *x as f32).collect::<Vec<f32>>(), 1.0);
            near(hyperboloid_distance(&narrow(&v), &narrow(&w), 1.0), exact, 0.0, 1e-2);
        }
    }

    /// exp_q: the right distance, the right direction; and transport: an isometry that keeps the geodesic's tangent.
    #[test]
    fn the_ball_has_an_exponential_map_everywhere() {
        cases(2.0, |d, c, rho| {
            let q = exp_b(&vector::<f64>(d, rho, 1), c);
            let lambda = conformal_factor(&q, c);
            let u = vector::<f64>(d, 0.6 / lambda, 2);
            let exp = |u: &[f64]| {
                let mut out = vec![0.0; d];
                ball_exp(&q, u, c, &mut vec![0.0; d], &mut out);
                out
            };
            let end = exp(&u);
            near(ball_distance(&q, &end, c), 0.6, 1.0, 1e-10);
            // A small step is a straight one.
            let near_by = exp(&u.iter().map(|u| 1e-6 * u).collect::<Vec<f64>>());
            for i in 0..d {
                near((near_by[i] - q[i]) * 1e6, u[i], 1.0, 1e-5 * lambda);
            }
            // The tangent of the geodesic at its end is that of its beginning, transported.
            let (h, mut moved) = (1e-5, u.clone());
            let beyond = exp(&u.iter().map(|u| (1.0 + h) * u).collect::<Vec<f64>>());
            ball_transport(&q, &end, c, &mut moved);
            for i in 0..d {
                near(moved[i], (beyond[i] - end[i]) / h, 1.0, 1e-3);
            }
            // Any vector keeps its length, and returns.
            let mut w = vector::<f64>(d, 1.0, 3);
            ball_transport(&q, &end, c, &mut w);
            near(conformal_factor(&end, c) * dot(&w, &w).sqrt(), lambda, 1.0, 1e-9);
            ball_transport(&end, &q, c, &mut w);
            w.iter().zip(f64s(&vector::<f64>(d, 1.0, 3))).for_each(|(a, b)| near(*a, b, 1.0, 1e-9));
        });
    }

    /// gyr[a, b] w = −(a ⊕ b) ⊕ (a ⊕ (b ⊕ w)), by definition.
    #[test]
    fn transport_is_the_gyration_of_mobius_addition() {
        for c in CURVATURES {
            let p = exp_b(&vector::<f64>(5, 0.6, 1), c);
            let q = exp_b(&vector::<f64>(5, 0.9, 2), c);
            let w = exp_b(&vector::<f64>(5, 0.4, 3), c);
            let gyr = add(&minus(&add(&q, &minus(&p), c)), &add(&q, &add(&minus(&p), &w, c), c), c);
            let mut ours = w.clone();
            ball_transport(&p, &q, c, &mut ours);
            let factor = conformal_factor(&p, c) / conformal_factor(&q, c);
            ours.iter().zip(gyr).for_each(|(a, b)| near(*a, factor * b, 1.0, 1e-12));
        }
    }
}
