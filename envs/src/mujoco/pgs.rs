//! Projected Gauss-Seidel on the dual problem: find f ≥ 0 that minimises ½ fᵀ A f + fᵀ b, with A = J M⁻¹ Jᵀ + R and
//! b = J q̈_smooth − aref; then q̈ = q̈_smooth + M⁻¹ Jᵀ f.
//!
//! A run stops long before it has converged, so the order of the rows, the momentum and the rule for stopping are
//! part of the result.

use super::constraint::{Row, inner};
use super::dynamics::solve;
use super::model::Up;
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

/// The orders of visits, sweep by sweep. They depend on the number of rows alone, which changes rarely from one
/// evaluation to the next, so they are kept.
struct Orders {
    rows: usize,
    sweeps: usize,
    generator: Pcg32,
    /// Order after order.
    order: Vec<u16>,
}

impl Orders {
    /// The order of a sweep over `rows` rows: the one before, shuffled once more (Fisher and Yates, from the end).
    #[inline(always)]
    fn of(&mut self, rows: usize, sweep: usize) -> &[u16] {
        if rows != self.rows {
            (self.rows, self.sweeps, self.generator) = (rows, 0, Pcg32::new());
        }
        if sweep >= self.sweeps {
            let at = sweep * rows;
            if sweep == 0 {
                (0..rows).for_each(|r| self.order[r] = r as u16);
            } else {
                self.order.copy_within(at - rows..at, at);
            }
            for r in (1..rows).rev() {
                self.order.swap(at + r, at + (self.generator.next() % (r as u32 + 1)) as usize);
            }
            self.sweeps = sweep + 1;
        }
        &self.order[sweep * rows..(sweep + 1) * rows]
    }
}

/// The dual problem of one evaluation: each array holds a number a row of the constraints, padded to a multiple of four.
pub(super) struct Dual {
    /// A, row by row; once complete, its columns divided by the diagonal.
    a: Vec<f64>,
    /// L⁻ᵀ Jᵀ: for each degree of freedom its number in each row.
    half: Vec<f64>,
    /// b.
    b: Vec<f64>,
    /// Diagonal of A.
    diagonal: Vec<f64>,
    /// (A f + b) / diagonal: by how much a force exceeds what the others ask of it.
    excess: Vec<f64>,
    /// f.
    force: Vec<f64>,
    /// f before the extrapolation of a sweep.
    before: Vec<f64>,
    /// f after it.
    ahead: Vec<f64>,
    orders: Orders,
}

impl Dual {
    /// Room for `rows` rows on `nv` degrees of freedom, and for `sweeps` sweeps.
    pub(super) fn new(rows: usize, nv: usize, sweeps: usize) -> Self {
        let width = padded(rows);
        let column = || vec![0.0; width];
        let order = vec![0; rows * sweeps];
        Self {
            a: vec![0.0; rows * width],
            half: vec![0.0; nv * width],
            b: column(),
            diagonal: column(),
            excess: column(),
            force: column(),
            before: column(),
            ahead: column(),
            orders: Orders { rows: 0, sweeps: 0, generator: Pcg32::new(), order },
        }
    }
}

/// The width of an array of `rows` numbers: loops over it have no rest.
#[inline(always)]
fn padded(rows: usize) -> usize {
    rows.next_multiple_of(4)
}

/// y += s x.
#[inline(always)]
fn add_scaled(y: &mut [f64], x: &[f64], s: f64) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += s * x;
    }
}

impl<const NQ: usize, const NV: usize, const NB: usize> Sim<NQ, NV, NB> {
    /// Finds `qacc`, the forces of the rows and `qfrc_constraint`.
    #[inline(always)]
    pub(super) fn pgs(&mut self) {
        let mut all = std::mem::take(&mut self.rows);
        let rows = &mut all[..self.nefc];
        let mut dual = self.dual.take();
        let mut force = [0.0; NV];
        if let Some(dual) = &mut dual {
            self.fill(dual, rows);
            self.sweep(dual, rows);
            for (row, f) in rows.iter_mut().zip(&dual.force) {
                row.force = *f;
                if *f != 0.0 {
                    for &i in row.moves {
                        force[i] += f * row.jac[i];
                    }
                }
            }
        }
        (self.rows, self.dual) = (all, dual);
        self.qfrc_constraint = force;
        solve(&self.model.dofs, |dof| dof.ancestors, &self.qld, &self.qld_diag_inv, &mut force);
        for i in 0..NV {
            self.qacc[i] = self.qacc_smooth[i] + force[i];
        }
    }

    /// Writes A, its diagonal, and b; then divides the columns of A and b by the diagonal.
    #[inline(always)]
    fn fill(&self, dual: &mut Dual, rows: &[Row<NV>]) {
        let n = rows.len();
        let dofs = &self.model.dofs;
        let m = padded(n);
        let (a, half) = (&mut dual.a[..n * m], &mut dual.half[..NV * m]);
        for (r, row) in rows.iter().enumerate() {
            dual.b[r] = inner(&row.jac, &self.qacc_smooth) - row.aref;
            // With M = LᵀDL, A = Hᵀ D⁻¹ H for H = L⁻ᵀ Jᵀ.
            let mut h = row.jac;
            for &i in row.chains {
                let Up { trunk, branch } = dofs[i].ancestors;
                let x = -h[i];
                add_scaled(&mut h[..trunk], &self.qld[i][..trunk], x);
                add_scaled(&mut h[branch..i], &self.qld[i][branch..i], x);
            }
            for d in 0..NV {
                half[d * m + r] = h[d];
            }
            // Row r of A up to its diagonal, from the degrees of freedom that the row moves. What is written beyond
            // comes from evaluations before: later rows write over it, and nothing reads the padding.
            let (done, rest) = a.split_at_mut(r * m);
            let line = &mut rest[..padded(r + 1)];
            line.fill(0.0);
            for &d in row.chains {
                add_scaled(line, &half[d * m..], h[d] * self.qld_diag_inv[d]);
            }
            line[r] += row.softness;
            dual.diagonal[r] = line[r];
            for (c, x) in line[..r].iter().enumerate() {
                done[c * m + r] = *x;
            }
        }
        let inverse = &mut dual.excess[..m];
        for (inverse, diagonal) in inverse.iter_mut().zip(&dual.diagonal) {
            *inverse = 1.0 / diagonal;
        }
        dual.b.iter_mut().zip(&*inverse).for_each(|(b, inverse)| *b *= inverse);
        for line in a.chunks_exact_mut(m) {
            line.iter_mut().zip(&*inverse).for_each(|(a, inverse)| *a *= inverse);
        }
    }

    /// Finds the forces by sweeps from the warm start.
    #[inline(always)]
    fn sweep(&mut self, dual: &mut Dual, rows: &[Row<NV>]) {
        let n = rows.len();
        let shuffles = self.profile.shuffles();
        let trace = if shuffles { (0..NV).map(|i| self.qm[i][i]).sum() } else { self.model.trace0 };
        let scale = 1.0 / trace;
        let m = padded(n);
        let (a, b, diagonal) = (&dual.a[..n * m], &dual.b[..m], &dual.diagonal[..n]);
        let (excess, force) = (&mut dual.excess[..m], &mut dual.force[..n]);
        let (before, ahead) = (&mut dual.before[..n], &mut dual.ahead[..n]);
        let line = |r: usize| &a[r * m..(r + 1) * m];
        excess.copy_from_slice(b);
        for (r, row) in rows.iter().enumerate() {
            let slack = inner(&row.jac, &self.qacc_warmstart) - row.aref;
            force[r] = if slack < 0.0 { -row.hardness * slack } else { 0.0 };
            if force[r] != 0.0 {
                add_scaled(excess, line(r), force[r]);
            }
        }
        let cost: f64 = (0..n).map(|r| 0.5 * force[r] * diagonal[r] * (excess[r] + b[r])).sum();
        if cost > 0.0 {
            force.fill(0.0);
            excess.copy_from_slice(b);
        }
        let mut k = 0.0;
        for sweep in 0..self.model.iterations {
            self.niter += 1;
            let mut improvement = 0.0;
            // Minimises over one force: it gives up its excess, or all that it has. Rows come in random order: to work
            // on one that keeps its force costs no more than to guess whether it does.
            let mut visit = |r: usize, force: &mut [f64], excess: &mut [f64]| {
                let given = excess[r].min(force[r]);
                let gain = diagonal[r] * given * (excess[r] - 0.5 * given);
                if gain >= -MAX_RISE {
                    force[r] -= given;
                    add_scaled(excess, line(r), -given);
                    improvement += gain;
                }
            };
            if shuffles {
                let beta = (k - 1.0) / (k + 2.0);
                if beta > 0.0 {
                    for r in 0..n {
                        let held = force[r];
                        force[r] = (held + beta * (held - before[r])).max(0.0);
                        before[r] = held;
                        if force[r] != held {
                            add_scaled(excess, line(r), force[r] - held);
                        }
                    }
                } else {
                    before.copy_from_slice(force);
                }
                ahead.copy_from_slice(force);
                for r in dual.orders.of(n, sweep) {
                    visit(usize::from(*r), force, excess);
                }
            } else {
                (0..n).for_each(|r| visit(r, force, excess));
            }
            if improvement * scale < TOLERANCE {
                break;
            }
            if shuffles {
                let turned: f64 = (0..n).map(|r| (force[r] - ahead[r]) * (ahead[r] - before[r])).sum();
                k = if turned < 0.0 { 0.0 } else { k + 1.0 };
            }
        }
    }
}
