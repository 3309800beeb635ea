//! Constraints as rows: limits of joints and edges of friction pyramids, each with its Jacobian, its softness and
//! the acceleration that it asks for.
//!
//! A row with Jacobian J, softness R and reference aref pushes with the force f = max(0, (aref − J q̈) / R), the
//! minimiser of ½(q̈ − q̈_smooth)ᵀ M (q̈ − q̈_smooth) + ½ Σ min(0, J q̈ − aref)²/R. See E. Todorov, *Convex and
//! analytically-invertible dynamics with contacts and constraints*, ICRA 2014.

use super::model::Impedance;
use super::sim::{Sim, TREES};
use super::spatial::{Vec3, add, cross, dot, scale, sub};

/// Smallest softness.
const MIN_SOFTNESS: f64 = 1e-15;

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row<const NV: usize> {
    /// Jacobian.
    pub jac: [f64; NV],
    /// R.
    pub softness: f64,
    /// 1/R.
    pub hardness: f64,
    /// Acceleration along J that the row asks for.
    pub aref: f64,
    /// J q̈ − aref at the solver's current acceleration.
    pub slack: f64,
    /// Rate of `slack` along the direction of search.
    pub rate: f64,
    /// Force.
    pub force: f64,
    /// Where the Jacobian is not 0, largest first.
    pub moves: &'static [usize],
    /// The same, with all ancestors.
    pub chains: &'static [usize],
    /// Group of trees that constraints join.
    pub island: usize,
}

/// Σ a b.
#[inline(always)]
pub(super) fn inner<const N: usize>(a: &[f64; N], b: &[f64; N]) -> f64 {
    // Four sums side by side: one alone waits for each of its additions.
    let mut sums = [0.0; 4];
    let (whole, rest) = a.as_chunks::<4>();
    for (a, b) in whole.iter().zip(b.as_chunks::<4>().0) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    for (lane, (a, b)) in rest.iter().zip(&b[N - rest.len()..]).enumerate() {
        sums[lane] += a * b;
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

impl<const NV: usize> Row<NV> {
    /// No constraint yet: room for one.
    pub(super) const EMPTY: Self = Self {
        jac: [0.0; NV],
        softness: 1.0,
        hardness: 1.0,
        aref: 0.0,
        slack: 0.0,
        rate: 0.0,
        force: 0.0,
        moves: &[],
        chains: &[],
        island: 0,
    };

    /// Sets everything but the Jacobian and where it is not 0: softness, the violation `r`, the impedance `d` there,
    /// and the rate `v`.
    fn set(&mut self, softness: f64, impedance: &Impedance, d: f64, r: f64, v: f64) {
        self.softness = softness;
        self.hardness = 1.0 / softness;
        self.aref = -impedance.damping * v - impedance.stiffness * d * r;
    }
}

impl<const NQ: usize, const NV: usize, const NB: usize> Sim<NQ, NV, NB> {
    /// Active constraints: limits, then contacts in order; by islands where there are several trees.
    pub fn rows(&self) -> &[Row<NV>] {
        &self.rows[..self.nefc]
    }

    /// Writes the rows of all limits in reach, then those of all contacts.
    #[inline(always)]
    pub(super) fn make_constraints(&mut self) {
        self.nefc = 0;
        let model = self.model;
        for (i, dof) in model.dofs.iter().enumerate() {
            let Some(limit) = &dof.limit else { continue };
            let q = self.qpos[Self::coordinate(i)];
            for (dist, side) in [(q - limit.low, 1.0), (limit.high - q, -1.0)] {
                if dist < limit.margin {
                    let r = dist - limit.margin;
                    let d = limit.impedance.at(r);
                    let softness = ((1.0 - d) / d * limit.invweight).max(MIN_SOFTNESS);
                    let row = &mut self.rows[self.nefc];
                    row.jac = [0.0; NV];
                    row.jac[i] = side;
                    (row.moves, row.chains) = (&limit.chain[..1], limit.chain);
                    row.island = model.bodies[dof.body].tree.unwrap_or(0);
                    row.set(softness, &limit.impedance, d, r, side * self.qvel[i]);
                    self.nefc += 1;
                }
            }
        }
        for k in 0..self.contacts.len() {
            self.contact_rows(k);
        }
        if model.trees > 1 {
            self.join_islands();
        }
    }

    /// The rows of a contact: one along its normal, or the edges n ± μt of its friction pyramid.
    fn contact_rows(&mut self, k: usize) {
        let first = self.nefc;
        self.contacts[k].row = first;
        let contact = &self.contacts[k];
        let pair = &self.model.pairs[contact.pair];
        let (normal, [t1, t2], pos) = (contact.normal, contact.tangents, contact.pos);
        let margin = if self.profile.sums_margins() { pair.margin_sum } else { pair.margin_max };
        let r = contact.dist - margin;
        let impedance = &pair.impedance;
        let d = impedance.at(r);
        let mu = pair.friction.unwrap_or(0.0);
        let count = if pair.friction.is_some() { 4 } else { 1 };
        let bodies = &self.model.bodies;
        let island = bodies[pair.bodies.1].tree.or(bodies[pair.bodies.0].tree).unwrap_or(0);
        for row in &mut self.rows[first..first + count] {
            row.jac = [0.0; NV];
            (row.moves, row.chains, row.island) = (pair.moves, pair.chains, island);
        }
        // Jacobian of the relative velocity at the point, and that velocity.
        let mut velocity = [0.0; 4];
        for (dofs, sign) in [(pair.plus, 1.0), (pair.minus, -1.0)] {
            for &i in dofs {
                let v = scale(self.point_motion(i, pos), sign);
                let n = dot(normal, v);
                if count == 1 {
                    self.rows[first].jac[i] = n;
                    velocity[0] += n * self.qvel[i];
                } else {
                    let (a, b) = (mu * dot(t1, v), mu * dot(t2, v));
                    for (e, edge) in [n + a, n - a, n + b, n - b].into_iter().enumerate() {
                        self.rows[first + e].jac[i] = edge;
                        velocity[e] += edge * self.qvel[i];
                    }
                }
            }
        }
        let softness = match pair.friction {
            None => ((1.0 - d) / d * pair.invweight).max(MIN_SOFTNESS),
            Some(mu) => {
                let invweight = pair.invweight + mu * mu * pair.invweight;
                2.0 * mu * mu * ((1.0 - d) / d * invweight).max(MIN_SOFTNESS)
            }
        };
        for (row, v) in self.rows[first..first + count].iter_mut().zip(velocity) {
            row.set(softness, impedance, d, r, v);
        }
        self.nefc = first + count;
    }

    /// Velocity of a point that rests on what the degree of freedom moves, for a unit rate of it.
    #[inline(always)]
    fn point_motion(&self, dof: usize, point: Vec3) -> Vec3 {
        let [x, y, z, u, v, w] = self.cdof[dof];
        let tree = self.model.bodies[self.model.dofs[dof].body].tree.unwrap_or(0);
        add([u, v, w], cross([x, y, z], sub(point, self.com[tree])))
    }

    /// Names each row's island by its first tree, and sorts the rows by islands. Contacts between trees join them.
    fn join_islands(&mut self) {
        let mut island: [usize; TREES] = std::array::from_fn(|tree| tree);
        for contact in &self.contacts {
            let (a, b) = self.model.pairs[contact.pair].bodies;
            if let (Some(a), Some(b)) = (self.model.bodies[a].tree, self.model.bodies[b].tree) {
                let (low, high) = (island[a].min(island[b]), island[a].max(island[b]));
                island.iter_mut().filter(|i| **i == high).for_each(|i| *i = low);
            }
        }
        let rows = &mut self.rows[..self.nefc];
        rows.iter_mut().for_each(|row| row.island = island[row.island]);
        self.islands = island;
        // The forces of these models' contacts are not read one by one, so their rows may move.
        rows.sort_unstable_by_key(|row| row.island);
    }
}
