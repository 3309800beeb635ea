//! The equation of motion M q̈ + bias = passive + motors + constraints, by the recursive algorithms of
//! Featherstone, *Rigid Body Dynamics Algorithms* (2008), chapters 5, 6 and 8.

use super::model::{Dof, DofKind, Fluid, Up};
use super::sim::Sim;
use super::spatial::{
    Vec3, add, add_scaled6, cross, cross_force, cross_motion, dot, dot6, momentum, multiply, rotate,
    rotate_back, sub,
};

/// Factors a symmetric matrix as LᵀDL, without fill-in: an elimination from the leaves to the root touches
/// only pairs of a degree of freedom and one that is `up` from it.
#[inline(always)]
pub(super) fn factor<const NV: usize>(
    dofs: &[Dof; NV],
    up: impl Fn(&Dof) -> Up,
    m: &mut [[f64; NV]; NV],
    diag_inv: &mut [f64; NV],
) {
    for k in (0..NV).rev() {
        let (above, row) = m.split_at_mut(k);
        let row = &mut row[0];
        let inv = 1.0 / row[k];
        diag_inv[k] = inv;
        let Up { trunk, branch } = up(&dofs[k]);
        // From the nearest to the root: what an elimination reads of the row is not yet divided.
        for i in (0..trunk).chain(branch..k).rev() {
            let a = row[i] * inv;
            let Up { trunk, branch } = up(&dofs[i]);
            for j in 0..trunk {
                above[i][j] -= a * row[j];
            }
            for j in branch..=i {
                above[i][j] -= a * row[j];
            }
            row[i] = a;
        }
    }
}

/// Solves LᵀDL x = b in place.
#[inline(always)]
pub(super) fn solve<const NV: usize>(
    dofs: &[Dof; NV],
    up: impl Fn(&Dof) -> Up,
    l: &[[f64; NV]; NV],
    diag_inv: &[f64; NV],
    x: &mut [f64; NV],
) {
    for i in (0..NV).rev() {
        let xi = x[i];
        let Up { trunk, branch } = up(&dofs[i]);
        for j in 0..trunk {
            x[j] -= l[i][j] * xi;
        }
        for j in branch..i {
            x[j] -= l[i][j] * xi;
        }
    }
    for i in 0..NV {
        let Up { trunk, branch } = up(&dofs[i]);
        let mut xi = x[i] * diag_inv[i];
        for j in 0..trunk {
            xi -= l[i][j] * x[j];
        }
        for j in branch..i {
            xi -= l[i][j] * x[j];
        }
        x[i] = xi;
    }
}

impl<const NQ: usize, const NV: usize, const NB: usize> Sim<NQ, NV, NB> {
    /// Mass matrix by composite rigid bodies, and its factors.
    #[inline(always)]
    pub(super) fn mass_matrix(&mut self) {
        let model = self.model;
        let mut crb = self.cinert;
        for b in (1..NB).rev() {
            let parent = model.bodies[b].parent;
            if parent > 0 {
                for i in 0..10 {
                    crb[parent][i] += crb[b][i];
                }
            }
        }
        for (i, dof) in model.dofs.iter().enumerate() {
            let force = momentum(&crb[dof.body], &self.cdof[i]);
            let mut set = |j: usize, x: f64| (self.qm[i][j], self.qld[i][j]) = (x, x);
            set(i, dot6(&self.cdof[i], &force) + dof.armature);
            let Up { trunk, branch } = dof.ancestors;
            (0..trunk).for_each(|j| set(j, dot6(&self.cdof[j], &force)));
            (branch..i).for_each(|j| set(j, dot6(&self.cdof[j], &force)));
        }
        factor(&model.dofs, |dof| dof.ancestors, &mut self.qld, &mut self.qld_diag_inv);
    }

    /// M x.
    #[inline(always)]
    pub(super) fn multiply_mass(&self, x: &[f64; NV]) -> [f64; NV] {
        let mut y = [0.0; NV];
        for (i, dof) in self.model.dofs.iter().enumerate() {
            let row = &self.qm[i];
            let Up { trunk, branch } = dof.ancestors;
            let mut sum = row[i] * x[i];
            let mut add = |j: usize| {
                sum += row[j] * x[j];
                y[j] += row[j] * x[i];
            };
            (0..trunk).for_each(&mut add);
            (branch..i).for_each(&mut add);
            y[i] += sum;
        }
        y
    }

    /// Velocities of the bodies, and the bias force by recursive Newton-Euler: outward the accelerations that
    /// q̈ = 0 leaves, gravity as an acceleration of the base; inward the forces that they take.
    #[inline(always)]
    pub(super) fn velocities_and_bias(&mut self) {
        let model = self.model;
        let [x, y, z] = model.gravity;
        self.cacc[0] = [0.0, 0.0, 0.0, -x, -y, -z];
        for b in 1..NB {
            let body = &model.bodies[b];
            let (mut v, mut a) = (self.cvel[body.parent], self.cacc[body.parent]);
            for d in body.dofs.0..body.dofs.1 {
                let (cdof, qd) = (&self.cdof[d], self.qvel[d]);
                match model.dofs[d].kind {
                    DofKind::FreeSlide => self.cdof_dot[d] = [0.0; 6],
                    DofKind::FreeTurn => {
                        // The three axes turn together: each with the velocity that all of them give.
                        if d == 3 {
                            let translation = v;
                            for r in 3..6 {
                                self.cdof_dot[r] = cross_motion(&translation, &self.cdof[r]);
                            }
                        }
                    }
                    DofKind::Slide | DofKind::Hinge => self.cdof_dot[d] = cross_motion(&v, cdof),
                }
                add_scaled6(&mut a, &self.cdof_dot[d], qd);
                add_scaled6(&mut v, cdof, qd);
            }
            if body.tree.is_some() {
                let inertia = &self.cinert[b];
                let gyroscopic = cross_force(&v, &momentum(inertia, &v));
                self.cfrc_int[b] = momentum(inertia, &a);
                add_scaled6(&mut self.cfrc_int[b], &gyroscopic, 1.0);
            }
            (self.cvel[b], self.cacc[b]) = (v, a);
        }
        for b in (1..NB).rev() {
            let f = self.cfrc_int[b];
            for d in model.bodies[b].dofs.0..model.bodies[b].dofs.1 {
                self.qfrc_bias[d] = dot6(&self.cdof[d], &f);
            }
            add_scaled6(&mut self.cfrc_int[model.bodies[b].parent], &f, 1.0);
        }
    }

    /// Springs, dampers, and drag where there is a medium.
    #[inline(always)]
    pub(super) fn passive(&mut self) {
        for (i, dof) in self.model.dofs.iter().enumerate() {
            let mut force = -dof.damping * self.qvel[i];
            if dof.stiffness != 0.0 {
                force -= dof.stiffness * self.qpos[Self::coordinate(i)];
            }
            self.qfrc_passive[i] = force;
        }
        if let Some(fluid) = &self.model.fluid {
            self.drag(fluid);
        }
    }

    /// Drag on each body as on the box of the same inertia: linear in the velocity (viscosity, as on a sphere of
    /// the mean edge), and quadratic (density).
    fn drag(&mut self, fluid: &Fluid) {
        use std::f64::consts::PI;
        for b in 1..NB {
            let body = &self.model.bodies[b];
            let Some(tree) = body.tree else { continue };
            let [ix, iy, iz] = body.principal;
            let edge = |others: f64, own: f64| ((others - own).max(1e-15) / body.mass * 6.0).sqrt();
            let e = [edge(iy + iz, ix), edge(ix + iz, iy), edge(ix + iy, iz)];
            let frame = multiply(&self.xmat[b], &body.irot);
            let offset = sub(self.xipos[b], self.com[tree]);
            let [a, b_, c, d, e_, f] = self.cvel[b];
            let (w, v) = ([a, b_, c], add([d, e_, f], cross([a, b_, c], offset)));
            let (w, v) = (rotate_back(&frame, w), rotate_back(&frame, v));
            let mean = (e[0] + e[1] + e[2]) / 3.0;
            let (mut torque, mut force) = ([0.0; 3], [0.0; 3]);
            for i in 0..3 {
                let (j, k) = ((i + 1) % 3, (i + 2) % 3);
                torque[i] = -PI * mean * mean * mean * fluid.viscosity * w[i]
                    - fluid.density * e[i] * (e[j].powi(4) + e[k].powi(4)) * w[i].abs() * w[i] / 64.0;
                force[i] = -3.0 * PI * mean * fluid.viscosity * v[i]
                    - 0.5 * fluid.density * e[j] * e[k] * v[i].abs() * v[i];
            }
            let (torque, force) = (rotate(&frame, torque), rotate(&frame, force));
            self.apply(b, tree, self.xipos[b], torque, force);
        }
    }

    /// Adds a torque and a force at `point` of a body to the passive forces.
    fn apply(&mut self, body: usize, tree: usize, point: Vec3, torque: Vec3, force: Vec3) {
        let about_com = add(torque, cross(sub(point, self.com[tree]), force));
        let mut b = body;
        while b > 0 {
            let body = &self.model.bodies[b];
            for d in body.dofs.0..body.dofs.1 {
                let [x, y, z, u, v, w] = self.cdof[d];
                self.qfrc_passive[d] += dot([x, y, z], about_com) + dot([u, v, w], force);
            }
            b = body.parent;
        }
    }

    /// Forces of the motors: gear times the clamped control. One control that is no finite number stops them all.
    #[inline(always)]
    pub(super) fn actuation(&mut self) {
        let actuators = self.model.actuators;
        self.qfrc_actuator = [0.0; NV];
        if self.ctrl[..actuators.len()].iter().all(|c| c.is_finite()) {
            for (actuator, ctrl) in actuators.iter().zip(&self.ctrl) {
                self.qfrc_actuator[actuator.dof] += actuator.gear * ctrl.clamp(actuator.low, actuator.high);
            }
        }
    }

    /// Writes `cfrc_ext`: the forces of the contacts on each body about the centre of mass of its tree, (torque,
    /// force) in world axes, as the last forward evaluation left them. The world's row stays 0.
    pub fn sum_contact_forces(&mut self) {
        self.cfrc_ext = [[0.0; 6]; NB];
        for contact in &self.contacts {
            let pair = &self.model.pairs[contact.pair];
            let force = contact.force(self.rows(), pair.friction);
            for (body, sign) in [(pair.bodies.0, -1.0), (pair.bodies.1, 1.0)] {
                if let Some(tree) = self.model.bodies[body].tree {
                    let torque = cross(sub(contact.pos, self.com[tree]), force);
                    for i in 0..3 {
                        self.cfrc_ext[body][i] += sign * torque[i];
                        self.cfrc_ext[body][3 + i] += sign * force[i];
                    }
                }
            }
        }
    }
}
