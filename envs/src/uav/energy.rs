//! Power of a rotary wing in level flight.
//!
//! ```text
//! P(V) = P₀ (1 + 3V²/U²) + Pᵢ √(√(1 + V⁴/4v₀⁴) − V²/2v₀²) + ½ d₀ ρ s A V³
//! P₀ = (δ/8) ρ s A Ω³ R³        blade profile
//! Pᵢ = (1 + k) W^(3/2)/√(2ρA)   induced: what holds the weight, less the faster it flies
//! ```
//!
//! Slow flight costs *less* than hovering. Climbing and turning are not counted.
//!
//! Source: Y. Zeng, J. Xu and R. Zhang, *Energy minimization for wireless communication with rotary-wing UAV*, 2019.

/// Profile drag of a blade.
const DELTA: f64 = 0.012;
/// Density of air, in kg/m³.
const RHO: f64 = 1.225;
/// Rotor solidity.
const S: f64 = 0.05;
/// Area of the rotor disc, in m².
const A: f64 = 0.503;
/// Angular speed of the blades, in rad/s.
const OMEGA: f64 = 300.0;
/// Radius of the rotor, in m.
const R: f64 = 0.4;
/// Correction of the induced power.
const K: f64 = 0.1;
/// Weight, in N.
const W: f64 = 20.0;
/// Speed of a blade's tip, in m/s.
const U: f64 = 120.0;
/// Mean induced speed of the rotor when hovering, in m/s.
const V0: f64 = 4.03;
/// Drag of the fuselage, as a ratio.
const D0: f64 = 0.6;

/// Blade profile power when hovering, P₀, in W.
pub fn profile_power() -> f64 {
    DELTA / 8.0 * RHO * S * A * OMEGA.powi(3) * R.powi(3)
}

/// Induced power when hovering, Pᵢ, in W.
pub fn induced_power() -> f64 {
    (1.0 + K) * W.powf(1.5) / (2.0 * RHO * A).sqrt()
}

/// Power at horizontal speed `v` in m/s, in W.
pub fn power(v: f64) -> f64 {
    let (square, x) = (v * v, v * v / (2.0 * V0 * V0));
    // √(1 + x²) − x, written without cancellation.
    let induced = 1.0 / ((1.0 + x * x).sqrt() + x);
    profile_power() * (1.0 + 3.0 * square / (U * U))
        + induced_power() * induced.sqrt()
        + 0.5 * D0 * RHO * S * A * square * v
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    #[test]
    fn the_curve_goes_through_its_points() {
        close(profile_power(), 79.856, 1e-3);
        close(induced_power(), 88.628, 1e-3);
        for (v, watts) in [(0.0, 168.484), (10.0, 126.03), (20.0, 178.30), (30.0, 356.28)] {
            close(power(v), watts, 5e-3);
        }
        let speeds = || (1..4000).map(|i| 0.01 * f64::from(i));
        let least = speeds().min_by(|a, b| power(*a).total_cmp(&power(*b))).unwrap();
        close(least, 10.21, 0.011);
        close(power(least), 126.00, 5e-3);
        let range = speeds().min_by(|a, b| (power(*a) / a).total_cmp(&(power(*b) / b))).unwrap();
        close(range, 18.30, 0.011);
        close(power(range) / range, 8.829, 1e-3);
    }
}
