//! Newton's method on the primal problem, with MuJoCo's rules for where to start, how to search a line and when to
//! stop: the result is not fully converged, so the rules are part of it.

use super::constraint::{Row, inner};
use super::dynamics::{factor, solve};
use super::sim::Sim;

/// When to stop, relative to the scale of the cost.
const TOLERANCE: f64 = 1e-8;
/// The same for the slope along a line, relative to [`TOLERANCE`].
const LINE_TOLERANCE: f64 = 0.01;
/// Most evaluations of a line search.
const LINE_EVALUATIONS: usize = 50;

/// A point of a line: step length, cost relative to the start's quadratic part, first and second derivative.
#[derive(Clone, Copy, Default)]
struct Point {
    alpha: f64,
    cost: f64,
    slope: f64,
    curvature: f64,
}

impl Point {
    fn newton_step(&self) -> f64 {
        self.alpha - self.slope / self.curvature
    }
}

/// The cost along a line: a quadratic part a² q2 + a q1 + q0 and the rows.
struct Line<'a, const NV: usize> {
    quadratic: [f64; 3],
    rows: &'a [Row<NV>],
    evaluations: usize,
}

impl<const NV: usize> Line<'_, NV> {
    #[inline(always)]
    fn at(&mut self, alpha: f64) -> Point {
        self.evaluations += 1;
        let [q0, q1, q2] = self.quadratic;
        let mut cost = alpha * alpha * q2 + alpha * q1 + q0;
        let (mut slope, mut curvature) = (2.0 * alpha * q2 + q1, 2.0 * q2);
        for row in self.rows {
            let x = row.slack + alpha * row.rate;
            if x < 0.0 {
                let force = row.hardness * x;
                cost += 0.5 * force * x;
                slope += force * row.rate;
                curvature += row.hardness * row.rate * row.rate;
            }
        }
        Point { alpha, cost, slope, curvature: curvature.max(1e-15) }
    }

    /// The step length: one Newton step if it will do; else Newton steps until the slope changes sign, then
    /// bracketing by midpoints and Newton steps from both ends. 0 where nothing is gained.
    fn search(&mut self, tolerance: f64) -> f64 {
        let start = self.at(0.0);
        let mut p1 = self.at(start.newton_step());
        if start.cost < p1.cost {
            p1 = start;
        }
        if p1.slope.abs() < tolerance {
            return p1.alpha;
        }
        let direction = if p1.slope < 0.0 { 1.0 } else { -1.0 };
        let mut p2 = None;
        while p1.slope * direction <= -tolerance && self.evaluations < LINE_EVALUATIONS {
            p2 = Some(p1);
            p1 = self.at(p1.newton_step());
            if p1.slope.abs() < tolerance {
                return p1.alpha;
            }
        }
        let Some(mut p2) = p2.filter(|_| self.evaluations < LINE_EVALUATIONS) else {
            return p1.alpha;
        };
        let mut p2_next = p1;
        let mut p1_next = self.at(p1.newton_step());
        while self.evaluations < LINE_EVALUATIONS {
            let middle = self.at(0.5 * (p1.alpha + p2.alpha));
            let candidates = [p1_next, p2_next, middle];
            let good = candidates.iter().filter(|p| p.slope.abs() < tolerance);
            if let Some(best) = good.reduce(|best, p| if p.cost < best.cost { p } else { best }) {
                return best.alpha;
            }
            let moved1 = self.shrink(&mut p1, &candidates, &mut p1_next);
            let moved2 = self.shrink(&mut p2, &candidates, &mut p2_next);
            if !moved1 && !moved2 {
                return middle.alpha;
            }
        }
        if p1.cost <= p2.cost && p1.cost < start.cost {
            p1.alpha
        } else if p2.cost <= p1.cost && p2.cost < start.cost {
            p2.alpha
        } else {
            0.0
        }
    }

    /// Moves one end of the bracket to the candidates on its side that are nearer to the minimum.
    fn shrink(&mut self, end: &mut Point, candidates: &[Point; 3], next: &mut Point) -> bool {
        let mut moved = false;
        for p in candidates {
            let nearer = (end.slope < 0.0 && p.slope < 0.0 && end.slope < p.slope)
                || (end.slope > 0.0 && p.slope > 0.0 && end.slope > p.slope);
            if nearer {
                (*end, moved) = (*p, true);
            }
        }
        if moved {
            *next = self.at(end.newton_step());
        }
        moved
    }
}

impl<const NQ: usize, const NV: usize, const NB: usize> Sim<NQ, NV, NB> {
    /// Finds `qacc`, the forces of the rows and `qfrc_constraint`.
    pub(super) fn newton(&mut self) {
        let mut all = std::mem::take(&mut self.rows);
        let rows = &mut all[..self.nefc];
        let warm = self.cost(&self.qacc_warmstart, rows);
        let smooth =
            rows.iter().map(|row| row_cost(inner(&row.jac, &self.qacc_smooth) - row.aref, row)).sum();
        let start = if warm > smooth { self.qacc_smooth } else { self.qacc_warmstart };
        self.qacc = self.qacc_smooth;
        self.qfrc_constraint = [0.0; NV];
        if self.model.trees == 1 {
            self.qacc = start;
            self.newton_island(rows, None);
        } else {
            // The rows are sorted by islands, and no row touches two.
            for rows in rows.chunk_by_mut(|a, b| a.island == b.island) {
                let island = rows[0].island;
                for i in 0..NV {
                    if self.in_island(i, island) {
                        self.qacc[i] = start[i];
                    }
                }
                self.newton_island(rows, Some(island));
            }
        }
        self.rows = all;
    }

    fn in_island(&self, dof: usize, island: usize) -> bool {
        self.model.bodies[self.model.dofs[dof].body].tree.is_some_and(|tree| self.islands[tree] == island)
    }

    /// Total cost of an acceleration.
    fn cost(&self, qacc: &[f64; NV], rows: &[Row<NV>]) -> f64 {
        let ma = self.multiply_mass(qacc);
        let mut cost = 0.0;
        for i in 0..NV {
            cost += 0.5 * (ma[i] - self.qfrc_smooth[i]) * (qacc[i] - self.qacc_smooth[i]);
        }
        cost + rows.iter().map(|row| row_cost(inner(&row.jac, qacc) - row.aref, row)).sum::<f64>()
    }

    /// Improves `qacc` in the degrees of freedom of one island, or in all.
    fn newton_island(&mut self, rows: &mut [Row<NV>], island: Option<usize>) {
        let dofs = &self.model.dofs;
        let inside = |sim: &Self, i: usize| island.is_none_or(|island| sim.in_island(i, island));
        let trace: f64 = (0..NV).filter(|i| inside(self, *i)).map(|i| self.qm[i][i]).sum();
        let scale = 1.0 / trace;
        let decrement = self.profile.checks_decrement();
        let mut ma = self.multiply_mass(&self.qacc);
        for row in rows.iter_mut() {
            row.slack = inner(&row.jac, &self.qacc) - row.aref;
        }
        let gradient = |sim: &Self, ma: &[f64; NV], force: &[f64; NV]| -> [f64; NV] {
            std::array::from_fn(|i| if inside(sim, i) { ma[i] - sim.qfrc_smooth[i] - force[i] } else { 0.0 })
        };
        let mut cost = self.primal_cost(&ma, rows);
        let mut force = forces(rows);
        let mut grad = gradient(self, &ma, &force);
        let small = |x: f64| scale * x < TOLERANCE;
        'solve: {
            if decrement && small(inner(&grad, &grad).sqrt()) {
                let mut step = grad;
                solve(dofs, |dof| dof.ancestors, &self.qld, &self.qld_diag_inv, &mut step);
                if small(0.5 * inner(&grad, &step)) {
                    break 'solve;
                }
            }
            let mut newton_step = self.newton_direction(&grad, rows);
            if decrement && small(inner(&grad, &grad).sqrt()) && small(0.5 * inner(&grad, &newton_step)) {
                break 'solve;
            }
            for _ in 0..self.model.iterations {
                let search = newton_step.map(|x| -x);
                let length = inner(&search, &search).sqrt();
                if length < 1e-15 {
                    break;
                }
                let mv = self.multiply_mass(&search);
                let mut linear = 0.0;
                for i in 0..NV {
                    linear += search[i] * (ma[i] - self.qfrc_smooth[i]);
                }
                for row in rows.iter_mut() {
                    row.rate = inner(&row.jac, &search);
                }
                let quadratic = [self.gauss_cost(&ma), linear, 0.5 * inner(&search, &mv)];
                let alpha = Line { quadratic, rows, evaluations: 0 }
                    .search(TOLERANCE * LINE_TOLERANCE * length / scale);
                if alpha == 0.0 {
                    break;
                }
                for i in 0..NV {
                    self.qacc[i] += alpha * search[i];
                    ma[i] += alpha * mv[i];
                }
                for row in rows.iter_mut() {
                    row.slack += alpha * row.rate;
                }
                self.niter += 1;
                let old = std::mem::replace(&mut cost, self.primal_cost(&ma, rows));
                force = forces(rows);
                grad = gradient(self, &ma, &force);
                let improvement = scale * (old - cost);
                if (improvement > 0.0 && improvement < TOLERANCE) || small(inner(&grad, &grad).sqrt()) {
                    break;
                }
                newton_step = self.newton_direction(&grad, rows);
                if decrement && small(0.5 * inner(&grad, &newton_step)) {
                    break;
                }
            }
        }
        for i in 0..NV {
            self.qfrc_constraint[i] += force[i];
        }
    }

    /// Cost of departing from the unconstrained acceleration, given M q̈.
    fn gauss_cost(&self, ma: &[f64; NV]) -> f64 {
        let mut cost = 0.0;
        for i in 0..NV {
            cost += 0.5 * (ma[i] - self.qfrc_smooth[i]) * (self.qacc[i] - self.qacc_smooth[i]);
        }
        cost
    }

    fn primal_cost(&self, ma: &[f64; NV], rows: &[Row<NV>]) -> f64 {
        self.gauss_cost(ma) + rows.iter().map(|row| row_cost(row.slack, row)).sum::<f64>()
    }

    /// H⁻¹ grad, with H = M + Σ JᵀJ/R over the rows that push.
    fn newton_direction(&self, grad: &[f64; NV], rows: &[Row<NV>]) -> [f64; NV] {
        let dofs = &self.model.dofs;
        let mut h = self.qm;
        for row in rows.iter().filter(|row| row.slack < 0.0) {
            for (n, &i) in row.moves.iter().enumerate() {
                let a = row.hardness * row.jac[i];
                for &j in &row.moves[n..] {
                    h[i][j] += a * row.jac[j];
                }
            }
        }
        let mut diag_inv = [0.0; NV];
        factor(dofs, |dof| dof.coupled, &mut h, &mut diag_inv);
        let mut step = *grad;
        solve(dofs, |dof| dof.coupled, &h, &diag_inv, &mut step);
        step
    }
}

#[inline(always)]
fn row_cost<const NV: usize>(slack: f64, row: &Row<NV>) -> f64 {
    if slack < 0.0 { 0.5 * row.hardness * slack * slack } else { 0.0 }
}

/// Sets the force of each row and returns Jᵀ f.
fn forces<const NV: usize>(rows: &mut [Row<NV>]) -> [f64; NV] {
    let mut total = [0.0; NV];
    for row in rows {
        row.force = if row.slack < 0.0 { -row.hardness * row.slack } else { 0.0 };
        if row.force != 0.0 {
            for &i in row.moves {
                total[i] += row.force * row.jac[i];
            }
        }
    }
    total
}
