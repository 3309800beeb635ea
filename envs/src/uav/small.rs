//! Observations as small numbers.

use super::radio;

/// Largest number of an observation.
pub const CLIP: f64 = 5.0;

/// Decibels as a small number: −120 is 0, −60 is 1.
pub fn decibels(x: f64) -> f64 {
    (x + 120.0) / 60.0
}

/// A power in W as a small number, from its dBm; silence is that of 1e-18 W.
pub fn loudness(watt: f64) -> f64 {
    decibels(radio::dbm(watt.max(1e-18)))
}
