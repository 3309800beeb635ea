//! Projected Gauss-Seidel on the dual problem: find f ≥ 0 that minimises ½ fᵀ A f + fᵀ b, with A = J M⁻¹ Jᵀ + R and
//! b = J q̈_smooth − aref; then q̈ = q̈_smooth + M⁻¹ Jᵀ f.
//!
//! A run stops long before it has converged, so the order of the rows, the momentum and the rule for stopping are
//! part of the result.

use super::constraint::{Row, inner};
use super::dynamics::solve;
use super::sim::Sim;

/// When to stop, relative to the scale of the cost.
const TOLERANCE: f64 = 1e-8;
/// An update that raises the cost by more is taken back.
const MAX_RISE: f64 = 1e-10;

/// PCG-XSH-RR (M. O'Neill 2014), increment 1, as each run of the solver starts it.
struct Pcg32(u64);

impl Pcg32 {
    fn new() -> Self {
        let mut generator = Self(0);
        generator.next();
        generator
    }

    #[inline(always)]
    fn next(&mut self) -> u32 {
        let old = self.0;
        self.0 = old.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let shifted = (((old >> 18) ^ old) >> 27) as u32;
        shifted.rotate_right((old >> 59) as u32)
    }
}

impl<const NQ: usize, const NV: usize, const NB: usize> Sim<NQ, NV, NB> {
    /// Finds `qacc`, the forces of the rows and `qfrc_constraint`.
    pub(super) fn pgs(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        let mut dual = std::mem::take(&mut self.dual);
        let n = rows.len();
        self.fill_dual(&mut rows, &mut dual[..n * n]);
        self.sweep(&mut rows, &dual[..n * n]);
        let mut force = [0.0; NV];
        for row in &rows {
            if row.force != 0.0 {
                for i in 0..NV {
                    force[i] += row.force * row.jac[i];
                }
            }
        }
        (self.rows, self.dual) = (rows, dual);
        self.qfrc_constraint = force;
        solve(&self.model.dofs, &self.qld, &self.qld_diag_inv, &mut force);
        for i in 0..NV {
            self.qacc[i] = self.qacc_smooth[i] + force[i];
        }
    }

    /// Writes A row by row, and b into the rows' `slack`.
    fn fill_dual(&self, rows: &mut [Row<NV>], a: &mut [f64]) {
        let n = rows.len();
        let dofs = &self.model.dofs;
        for row in rows.iter_mut() {
            row.slack = inner(&row.jac, &self.qacc_smooth) - row.aref;
            // With M = LᵀDL: half of M⁻¹, L⁻ᵀ Jᵀ, kept with D⁻¹ apart.
            row.half = row.jac;
            for i in (0..NV).rev() {
                let x = row.half[i];
                if x != 0.0 {
                    for &j in dofs[i].ancestors {
                        row.half[j] -= self.qld[i][j] * x;
                    }
                }
            }
        }
        for i in 0..n {
            let mut scaled = rows[i].half;
            for d in 0..NV {
                scaled[d] *= self.qld_diag_inv[d];
            }
            for j in 0..=i {
                let x = inner(&scaled, &rows[j].half);
                (a[i * n + j], a[j * n + i]) = (x, x);
            }
            a[i * n + i] += rows[i].softness;
        }
    }

    /// Sets the rows' forces by sweeps from the warm start.
    fn sweep(&mut self, rows: &mut [Row<NV>], a: &[f64]) {
        let n = rows.len();
        let shuffles = self.profile.shuffles();
        let trace = if shuffles { (0..NV).map(|i| self.qm[i][i]).sum() } else { self.model.trace0 };
        let scale = 1.0 / trace;
        // `rate` keeps the residual A f + b.
        for row in rows.iter_mut() {
            let slack = inner(&row.jac, &self.qacc_warmstart) - row.aref;
            row.force = if slack < 0.0 { -row.hardness * slack } else { 0.0 };
            row.rate = row.slack;
        }
        let mut cost = 0.0;
        for i in 0..n {
            let af: f64 = (0..n).map(|j| a[i * n + j] * rows[j].force).sum();
            cost += rows[i].force * (0.5 * af + rows[i].slack);
        }
        if cost > 0.0 {
            rows.iter_mut().for_each(|row| row.force = 0.0);
        }
        for i in 0..n {
            let af: f64 = (0..n).map(|j| a[i * n + j] * rows[j].force).sum();
            rows[i].rate += af;
            rows[i].order = i;
        }
        let mut generator = Pcg32::new();
        let mut k = 0.0;
        for sweep in 0..self.model.iterations {
            self.niter += 1;
            if shuffles {
                let beta = (k - 1.0) / (k + 2.0);
                for i in 0..n {
                    let before = rows[i].force;
                    if sweep > 0 && beta > 0.0 {
                        let ahead = (before + beta * (before - rows[i].before)).max(0.0);
                        change(rows, a, i, ahead);
                    }
                    rows[i].before = before;
                    rows[i].ahead = rows[i].force;
                }
                for i in (1..n).rev() {
                    let j = generator.next() as usize % (i + 1);
                    let held = rows[i].order;
                    rows[i].order = rows[j].order;
                    rows[j].order = held;
                }
            }
            let mut improvement = 0.0;
            for v in 0..n {
                let i = rows[v].order;
                let (old, residual, diagonal) = (rows[i].force, rows[i].rate, a[i * n + i]);
                let new = (old - residual / diagonal).max(0.0);
                let delta = new - old;
                if delta != 0.0 {
                    let rise = 0.5 * delta * delta * diagonal + delta * residual;
                    if rise <= MAX_RISE {
                        change(rows, a, i, new);
                        improvement -= rise;
                    }
                }
            }
            if improvement * scale < TOLERANCE {
                break;
            }
            if shuffles {
                let turned: f64 = rows.iter().map(|r| (r.force - r.ahead) * (r.ahead - r.before)).sum();
                k = if turned < 0.0 { 0.0 } else { k + 1.0 };
            }
        }
    }
}

/// Sets the force of row `i`, and moves all residuals along.
#[inline(always)]
fn change<const NV: usize>(rows: &mut [Row<NV>], a: &[f64], i: usize, force: f64) {
    let n = rows.len();
    let delta = force - rows[i].force;
    if delta != 0.0 {
        for (row, a) in rows.iter_mut().zip(&a[i * n..(i + 1) * n]) {
            row.rate += a * delta;
        }
        rows[i].force = force;
    }
}
