//! The channel between a UAV and a user on the ground: how much of the power arrives.
//!
//! Two models give the probability of a line of sight (LoS) and the path loss with and without one:
//!
//! - Al-Hourani, for four kinds of built-up area. With the elevation θ in *degrees*, P = 1/(1 + a exp(−b (θ − a)));
//!   losses are those of free space plus a constant.
//! - 3GPP TR 36.777, for UMa, UMi and RMa. The standard is for a base station on the ground and a user in the air; using
//!   it the other way round, as here, is customary. The user's height is 1.5 m.
//!
//! The mean loss is taken in dB, P L_LoS + (1 − P) L_NLoS, or else the LoS of each link is drawn. Gains are powers:
//! g = 10^(−L/10), times a unit-mean variate where there is fading. Distances in m, frequencies in GHz.
//!
//! Source: A. Al-Hourani, S. Kandeepan and S. Lardner, *Optimal LAP altitude for maximum coverage*, 2014; 3GPP TR 36.777,
//! annex B.

use std::f64::consts::{LN_10, PI};

use rand::RngExt as _;
use rand_distr::{Distribution as _, Exp1, StandardNormal};

use crate::Rng;
use crate::options::choice;

/// Speed of light, in m/s.
pub const LIGHT: f64 = 299_792_458.0;
/// Height of a user, in m (3GPP models only).
pub const USER_HEIGHT: f64 = 1.5;
/// Rician factor of a link with a line of sight: 10 dB.
pub const RICIAN: f64 = 10.0;

choice! {
    /// Surroundings.
    pub enum Surroundings: "suburban, urban, dense-urban, high-rise, uma, umi, rma or free-space" {
        /// Al-Hourani: few low houses.
        Suburban = "suburban",
        /// Al-Hourani: a town.
        Urban = "urban",
        /// Al-Hourani: a dense town.
        DenseUrban = "dense-urban",
        /// Al-Hourani: towers.
        HighRise = "high-rise",
        /// 3GPP: urban, antennas above the roofs.
        Uma = "uma",
        /// 3GPP: urban, antennas below the roofs.
        Umi = "umi",
        /// 3GPP: rural.
        Rma = "rma",
        /// Nothing in the way.
        FreeSpace = "free-space",
    }
}

choice! {
    /// How the line of sight of a link is settled.
    pub enum Sight: "mean or sampled" {
        /// The mean loss, in dB.
        Mean = "mean",
        /// Drawn for each link, anew whenever it has moved by the coherence distance; with shadowing where the model has it.
        Sampled = "sampled",
    }
}

choice! {
    /// Small-scale fading of the received power, of mean 1.
    pub enum Fading: "none, rician or rayleigh" {
        /// None.
        None = "none",
        /// A line of sight 10 dB above the rest where there is one, Rayleigh where there is none.
        Rician = "rician",
        /// Exponential.
        Rayleigh = "rayleigh",
    }
}

/// Constants of Al-Hourani's model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlHourani {
    /// Both the elevation of the bend and a factor.
    pub a: f64,
    /// Steepness, per degree.
    pub b: f64,
    /// Loss beyond free space with a line of sight, in dB.
    pub los: f64,
    /// The same without, in dB.
    pub nlos: f64,
}

/// Few low houses.
pub const SUBURBAN: AlHourani = AlHourani { a: 4.88, b: 0.43, los: 0.1, nlos: 21.0 };
/// A town.
pub const URBAN: AlHourani = AlHourani { a: 9.61, b: 0.16, los: 1.0, nlos: 20.0 };
/// A dense town.
pub const DENSE_URBAN: AlHourani = AlHourani { a: 12.08, b: 0.11, los: 1.6, nlos: 23.0 };
/// Towers.
pub const HIGH_RISE: AlHourani = AlHourani { a: 27.23, b: 0.08, los: 2.3, nlos: 34.0 };

impl AlHourani {
    /// Probability of a line of sight at an elevation in degrees.
    pub fn los_probability(&self, elevation: f64) -> f64 {
        1.0 / (1.0 + self.a * (-self.b * (elevation - self.a)).exp())
    }

    /// The elevation, in degrees, at which a given loss reaches furthest on the ground, whatever that loss and the
    /// frequency.
    ///
    /// At a fixed loss the radius is r ∝ cos θ · 10^((nlos − los) P/20): the best of a fine grid, since towers have several
    /// stationary points, then the root of the derivative of its logarithm.
    pub fn optimal_elevation(&self) -> f64 {
        let log_radius = |theta: f64| {
            theta.to_radians().cos().ln()
                + LN_10 / 20.0 * (self.nlos - self.los) * self.los_probability(theta)
        };
        let slope = |theta: f64| {
            let p = self.los_probability(theta);
            -PI / 180.0 * theta.to_radians().tan()
                + LN_10 / 20.0 * (self.nlos - self.los) * self.b * p * (1.0 - p)
        };
        let best =
            (1..900).map(|i| 0.1 * f64::from(i)).max_by(|x, y| log_radius(*x).total_cmp(&log_radius(*y)));
        let best = best.unwrap_or(45.0);
        let (mut low, mut high) = (best - 0.1, best + 0.1);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if slope(middle) > 0.0 { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    }
}

/// Loss of free space over `distance` m at `carrier` GHz, in dB.
pub fn free_space_loss(distance: f64, carrier: f64) -> f64 {
    20.0 * (4.0 * PI * carrier * 1e9 * distance / LIGHT).log10()
}

/// Loss in dB as the power gain that it leaves.
pub fn gain(loss: f64) -> f64 {
    (-LN_10 / 10.0 * loss).exp()
}

/// A link in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Probability of a line of sight.
    pub los_probability: f64,
    /// Path loss with a line of sight, in dB.
    pub los: f64,
    /// Path loss without, in dB.
    pub nlos: f64,
}

impl Link {
    /// Mean loss, in dB.
    pub fn mean(&self) -> f64 {
        self.los_probability * self.los + (1.0 - self.los_probability) * self.nlos
    }
}

impl Surroundings {
    /// Altitudes for which the model is meant, in m.
    pub fn altitudes(self) -> (f64, f64) {
        match self {
            Self::Uma | Self::Umi => (22.5, 300.0),
            Self::Rma => (10.0, 300.0),
            _ => (1.0, f64::INFINITY),
        }
    }

    /// The link over `r` m of ground to a UAV at altitude `h` m, at `carrier` GHz.
    pub fn link(self, r: f64, h: f64, carrier: f64) -> Link {
        match self {
            Self::Suburban => built_up(&SUBURBAN, r, h, carrier),
            Self::Urban => built_up(&URBAN, r, h, carrier),
            Self::DenseUrban => built_up(&DENSE_URBAN, r, h, carrier),
            Self::HighRise => built_up(&HIGH_RISE, r, h, carrier),
            Self::FreeSpace => {
                let loss = free_space_loss(r.hypot(h), carrier);
                Link { los_probability: 1.0, los: loss, nlos: loss }
            }
            Self::Uma => {
                let lg = h.log10();
                let (p1, d1) = (4300.0 * lg - 3800.0, (460.0 * lg - 700.0).max(18.0));
                let d = lg_slant(r, h);
                Link {
                    los_probability: if h > 100.0 { 1.0 } else { beyond(r, d1, p1) },
                    los: 28.0 + 22.0 * d + 20.0 * carrier.log10(),
                    nlos: -17.5 + (46.0 - 7.0 * lg) * d + lg_carrier(carrier),
                }
            }
            Self::Umi => {
                let lg = h.log10();
                let (p1, d1) = (233.98 * lg - 0.95, (294.05 * lg - 432.94).max(18.0));
                let d = lg_slant(r, h);
                let free = free_space_loss(1.0, carrier) + 20.0 * d;
                let los = free.max(30.9 + (22.25 - 0.5 * lg) * d + 20.0 * carrier.log10());
                let nlos = los.max(32.4 + (43.2 - 7.6 * lg) * d + 20.0 * carrier.log10());
                Link { los_probability: beyond(r, d1, p1), los, nlos }
            }
            Self::Rma => {
                let lg = h.log10();
                let (p1, d1) = ((15021.0 * lg - 16053.0).max(1000.0), (1350.8 * lg - 1602.0).max(18.0));
                let d = lg_slant(r, h);
                let los = (23.9 - 1.8 * lg).max(20.0) * d + lg_carrier(carrier);
                let nlos = los.max(-12.0 + (35.0 - 5.3 * lg) * d + lg_carrier(carrier));
                Link { los_probability: if h > 40.0 { 1.0 } else { beyond(r, d1, p1) }, los, nlos }
            }
        }
    }

    /// Standard deviations of the shadowing at altitude `h` with and without a line of sight, in dB; 0 where the model has none.
    pub fn shadowing(self, h: f64) -> (f64, f64) {
        match self {
            Self::Uma => (4.64 * (-0.0066 * h).exp(), 6.0),
            Self::Umi => ((5.0 * (-0.01 * h).exp()).max(2.0), 8.0),
            Self::Rma => (4.2 * (-0.0046 * h).exp(), 6.0),
            _ => (0.0, 0.0),
        }
    }
}

fn built_up(area: &AlHourani, r: f64, h: f64, carrier: f64) -> Link {
    let free = free_space_loss(1.0, carrier) + 10.0 * (r * r + h * h).log10();
    let los_probability = area.los_probability(h.atan2(r).to_degrees());
    Link { los_probability, los: free + area.los, nlos: free + area.nlos }
}

/// Probability of a line of sight of 3GPP: certain up to `d1`.
fn beyond(r: f64, d1: f64, p1: f64) -> f64 {
    if r <= d1 { 1.0 } else { d1 / r + (1.0 - d1 / r) * (-r / p1).exp() }
}

/// Decadic logarithm of the distance of UAV and user.
fn lg_slant(r: f64, h: f64) -> f64 {
    let up = h - USER_HEIGHT;
    0.5 * (r * r + up * up).log10()
}

fn lg_carrier(carrier: f64) -> f64 {
    20.0 * (40.0 * PI * carrier / 3.0).log10()
}

impl Fading {
    /// A draw of the received power relative to its mean.
    pub fn draw(self, los: bool, rng: &mut Rng) -> f64 {
        match self {
            Self::None => 1.0,
            Self::Rician if los => {
                // A constant of power K/(K + 1) and a complex normal of power 1/(K + 1).
                let deviation = (0.5 / (RICIAN + 1.0)).sqrt();
                let [x, y]: [f64; 2] = std::array::from_fn(|_| StandardNormal.sample(rng));
                let real = (RICIAN / (RICIAN + 1.0)).sqrt() + deviation * x;
                real * real + deviation * deviation * y * y
            }
            Self::Rician | Self::Rayleigh => Exp1.sample(rng),
        }
    }
}

/// A draw of whether a link has a line of sight, and of its shadowing as a multiple of the standard deviation.
pub fn draw_sight(link: &Link, rng: &mut Rng) -> (bool, f64) {
    (rng.random::<f64>() < link.los_probability, StandardNormal.sample(rng))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    const BUILT_UP: [Surroundings; 4] =
        [Surroundings::Suburban, Surroundings::Urban, Surroundings::DenseUrban, Surroundings::HighRise];

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    #[test]
    fn the_optimal_elevations_are_those_published() {
        let cases = [
            (SUBURBAN, Surroundings::Suburban, 20.339, 0.994, 1089.0, 404.0),
            (URBAN, Surroundings::Urban, 42.439, 0.952, 706.0, 646.0),
            (DENSE_URBAN, Surroundings::DenseUrban, 54.619, 0.899, 448.0, 631.0),
            (HIGH_RISE, Surroundings::HighRise, 75.519, 0.636, 61.0, 235.0),
        ];
        for (area, surroundings, angle, probability, radius, altitude) in cases {
            let best = area.optimal_elevation();
            close(best, angle, 1e-3);
            close(area.los_probability(best), probability, 5e-4);
            // By brute force: the furthest point on the ground that a loss of 100 dB reaches from any altitude.
            let reach = |h: f64| {
                let (mut low, mut high) = (0.0, 3000.0);
                for _ in 0..60 {
                    let r = 0.5 * (low + high);
                    if surroundings.link(r, h, 2.0).mean() < 100.0 { low = r } else { high = r }
                }
                low
            };
            let h = (1..2000).map(f64::from).max_by(|a, b| reach(*a).total_cmp(&reach(*b))).unwrap();
            close(h, altitude, 1.0);
            close(reach(h), radius, 1.0);
            close(h.atan2(reach(h)).to_degrees(), angle, 0.2);
        }
    }

    #[test]
    fn losses_are_the_published_ones() {
        for (surroundings, r, probability, loss) in [
            (Surroundings::Urban, 0.0, 0.999975, 79.4689),
            (Surroundings::Urban, 100.0, 0.967692, 83.0925),
            (Surroundings::Urban, 300.0, 0.299262, 102.7824),
            (Surroundings::Urban, 1000.0, 0.052814, 117.5081),
            (Surroundings::Suburban, 300.0, 0.985846, 88.8642),
            (Surroundings::DenseUrban, 100.0, 0.755774, 88.3051),
            (Surroundings::HighRise, 100.0, 0.132077, 111.2918),
        ] {
            let link = surroundings.link(r, 100.0, 2.0);
            close(link.los_probability, probability, 1e-6);
            close(link.mean(), loss, 1e-4);
        }
        for (carrier, loss) in [(2.0, 38.4684), (2.4, 40.0520), (5.8, 47.7163)] {
            close(free_space_loss(1.0, carrier), loss, 1e-4);
            close(Surroundings::FreeSpace.link(0.0, 1.0, carrier).mean(), loss, 1e-4);
        }
        close(10.0 * gain(83.0).log10(), -83.0, 1e-12);
    }

    #[test]
    fn the_3gpp_models_give_their_vectors() {
        let p = |s: Surroundings, h, r| s.link(r, h, 2.0).los_probability;
        for (r, at_50, at_100) in [(100.0, 0.9948, 1.0), (500.0, 0.8887, 0.9446), (1000.0, 0.7721, 0.8533)] {
            close(p(Surroundings::Uma, 50.0, r), at_50, 5e-5);
            close(p(Surroundings::Uma, 100.0, r), at_100, 5e-5);
        }
        for (r, probability) in [(100.0, 1.0), (500.0, 0.5467), (1000.0, 0.2544)] {
            close(p(Surroundings::Umi, 100.0, r), probability, 5e-5);
        }
        assert_eq!((p(Surroundings::Uma, 150.0, 2000.0), p(Surroundings::Rma, 60.0, 5000.0)), (1.0, 1.0));
        for (surroundings, los, nlos) in
            [(Surroundings::Uma, 93.580, 107.594), (Surroundings::Umi, 94.449, 114.223)]
        {
            let link = surroundings.link(500.0, 100.0, 2.0);
            close(link.los, los, 1e-3);
            close(link.nlos, nlos, 1e-3);
        }
        let link = Surroundings::Rma.link(500.0, 35.0, 2.0);
        assert!(link.los_probability < 1.0 && link.nlos > link.los);
        close(link.los, (23.9 - 1.8 * 35f64.log10()) * 500f64.hypot(33.5).log10() + 38.4622, 1e-3);
    }

    #[test]
    fn nearer_and_steeper_is_never_worse() {
        for surroundings in BUILT_UP {
            for theta in 1..90 {
                let at = |theta: f64, d: f64| {
                    surroundings.link(d * theta.to_radians().cos(), d * theta.to_radians().sin(), 2.0)
                };
                let theta = f64::from(theta);
                assert!(at(theta, 200.0).los_probability >= at(theta - 1.0, 200.0).los_probability);
                assert!(at(theta, 200.0).mean() <= at(theta, 201.0).mean());
            }
        }
    }

    #[test]
    fn fading_keeps_the_mean_power() {
        const N: usize = 200_000;
        let mut rng = stream(0, Purpose::Check, 0);
        // The variance of a Rician power of mean 1 is (2 K + 1)/(K + 1)².
        let rician = (2.0 * RICIAN + 1.0) / ((RICIAN + 1.0) * (RICIAN + 1.0));
        for (fading, los, variance) in
            [(Fading::Rician, true, rician), (Fading::Rician, false, 1.0), (Fading::Rayleigh, true, 1.0)]
        {
            let draws: Vec<f64> = (0..N).map(|_| fading.draw(los, &mut rng)).collect();
            let mean = draws.iter().sum::<f64>() / N as f64;
            let spread = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / N as f64;
            close(mean, 1.0, 5.0 * (variance / N as f64).sqrt());
            close(spread / variance, 1.0, 0.03);
        }
        let link = Surroundings::Urban.link(300.0, 100.0, 2.0);
        let seen = (0..N).filter(|_| draw_sight(&link, &mut rng).0).count() as f64 / N as f64;
        close(seen, link.los_probability, 5.0 * (0.21f64 / N as f64).sqrt());
    }
}
