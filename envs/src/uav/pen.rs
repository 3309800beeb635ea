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

/// Writes numbers one after another, clipped to ± [`CLIP`].
pub struct Pen<'a>(std::slice::IterMut<'a, f32>);

impl<'a> Pen<'a> {
    /// A pen at the start of a slice; beyond its end nothing is written.
    pub fn on(slice: &'a mut [f32]) -> Self {
        Self(slice.iter_mut())
    }

    pub fn number(&mut self, x: f64) {
        if let Some(slot) = self.0.next() {
            *slot = x.clamp(-CLIP, CLIP) as f32;
        }
    }

    pub fn numbers<const N: usize>(&mut self, x: [f64; N]) {
        x.into_iter().for_each(|x| self.number(x));
    }

    pub fn flag(&mut self, x: bool) {
        self.number(if x { 1.0 } else { 0.0 });
    }
}
