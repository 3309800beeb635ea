//! Constraints as rows: limits of joints and edges of friction pyramids, each with its Jacobian, its softness and
//! the acceleration that it asks for.
//!
//! A row with Jacobian J, softness R and reference aref pushes with the force f = max(0, (aref − J q̈) / R), the
//! minimiser of ½(q̈ − q̈_smooth)ᵀ M (q̈ − q̈_smooth) + ½ Σ min(0, J q̈ − aref)²/R. See E. Todorov, *Convex and
//! analytically-invertible dynamics with contacts and constraints*, ICRA 2014.

use super::model::Impedance;
use super::sim::{Sim, TREES};
use super::spatial::{Vec3, add, cross, dot, sub};

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
    /// L⁻ᵀ Jᵀ, for projected Gauss-Seidel; so are the next three.
    pub half: [f64; NV],
    /// Force before the extrapolation of a sweep.
    pub before: f64,
    /// Force after it.
    pub ahead: f64,
    /// A place in the order of visits: which row comes there.
    pub order: usize,
    /// Group of trees that constraints join.
    pub island: usize,
}

/// Σ a b.
#[inline(always)]
pub(super) fn inner<const N: usize>(a: &[f64; N], b: &[f64; N]) -> f64 {
    let mut sum = 0.0;
    for i in 0..N {
        sum += a[i] * b[i];
    }
    sum
}

impl<const NV: usize> Row<NV> {
    fn new(jac: [f64; NV], softness: f64, impedance: &Impedance, d: f64, r: f64, qvel: &[f64; NV]) -> Self {
        let aref = -impedance.damping * inner(&jac, qvel) - impedance.stiffness * d * r;
        let hardness = 1.0 / softness;
        Self {
            jac,
            softness,
            hardness,
            aref,
            slack: 0.0,
            rate: 0.0,
            force: 0.0,
            half: [0.0; NV],
            before: 0.0,
            ahead: 0.0,
            order: 0,
            island: 0,
        }
    }
}

impl<const NQ: usize, const NV: usize, const NB: usize> Sim<NQ, NV, NB> {
    /// Writes the rows of all limits in reach, then those of all contacts.
    pub(super) fn make_constraints(&mut self) {
        self.rows.clear();
        let model = self.model;
        for (i, dof) in model.dofs.iter().enumerate() {
            let Some(limit) = &dof.limit else { continue };
            let q = self.qpos[Self::coordinate(i)];
            for (dist, side) in [(q - limit.low, 1.0), (limit.high - q, -1.0)] {
                if dist < limit.margin {
                    let r = dist - limit.margin;
                    let d = limit.impedance.at(r);
                    let softness = ((1.0 - d) / d * limit.invweight).max(MIN_SOFTNESS);
                    let mut jac = [0.0; NV];
                    jac[i] = side;
                    let mut row = Row::new(jac, softness, &limit.impedance, d, r, &self.qvel);
                    row.island = model.bodies[dof.body].tree.unwrap_or(0);
                    self.rows.push(row);
                }
            }
        }
        for k in 0..self.contacts.len() {
            self.contacts[k].row = self.rows.len();
            self.contact_rows(k);
        }
        if model.trees > 1 {
            self.join_islands();
        }
    }

    fn contact_rows(&mut self, k: usize) {
        let contact = self.contacts[k];
        let pair = &self.model.pairs[contact.pair];
        let margin = if self.profile.sums_margins() { pair.margin_sum } else { pair.margin_max };
        let r = contact.dist - margin;
        let impedance = &pair.impedance;
        let d = impedance.at(r);
        // Jacobian of the relative velocity at the point, along the normal and the tangents.
        let [t1, t2] = contact.tangents;
        let mut along = [[0.0; NV]; 3];
        for (dofs, sign) in [(pair.plus, 1.0), (pair.minus, -1.0)] {
            for &i in dofs {
                let v = self.point_motion(i, contact.pos);
                along[0][i] = sign * dot(contact.normal, v);
                if pair.friction.is_some() {
                    along[1][i] = sign * dot(t1, v);
                    along[2][i] = sign * dot(t2, v);
                }
            }
        }
        let bodies = &self.model.bodies;
        let island = bodies[pair.bodies.1].tree.or(bodies[pair.bodies.0].tree).unwrap_or(0);
        let mut push = |jac, softness| {
            let row = Row::new(jac, softness, impedance, d, r, &self.qvel);
            self.rows.push(Row { island, ..row });
        };
        match pair.friction {
            None => push(along[0], ((1.0 - d) / d * pair.invweight).max(MIN_SOFTNESS)),
            Some(mu) => {
                let invweight = pair.invweight + mu * mu * pair.invweight;
                let softness = 2.0 * mu * mu * ((1.0 - d) / d * invweight).max(MIN_SOFTNESS);
                for tangent in [&along[1], &along[2]] {
                    for mu in [mu, -mu] {
                        let mut jac = along[0];
                        for i in 0..NV {
                            jac[i] += mu * tangent[i];
                        }
                        push(jac, softness);
                    }
                }
            }
        }
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
        self.rows.iter_mut().for_each(|row| row.island = island[row.island]);
        self.islands = island;
        // The forces of these models' contacts are not read one by one, so their rows may move.
        self.rows.sort_unstable_by_key(|row| row.island);
    }
}
