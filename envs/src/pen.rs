//! Writing observations number by number.

/// Writes numbers one after another, clipped to ± a limit.
pub struct Pen<'a> {
    rest: std::slice::IterMut<'a, f32>,
    limit: f64,
}

impl<'a> Pen<'a> {
    /// A pen at the start of a slice; beyond its end nothing is written.
    pub fn on(slice: &'a mut [f32], limit: f64) -> Self {
        Self { rest: slice.iter_mut(), limit }
    }

    /// Writes a number.
    pub fn number(&mut self, x: f64) {
        if let Some(slot) = self.rest.next() {
            *slot = x.clamp(-self.limit, self.limit) as f32;
        }
    }

    /// Writes numbers.
    pub fn numbers(&mut self, x: impl IntoIterator<Item = f64>) {
        x.into_iter().for_each(|x| self.number(x));
    }

    /// Writes 1 for true, 0 for false.
    pub fn flag(&mut self, x: bool) {
        self.number(if x { 1.0 } else { 0.0 });
    }

    /// Numbers that there is room for.
    pub fn left(&self) -> usize {
        self.rest.len()
    }
}
