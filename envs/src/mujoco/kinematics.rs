//! Where everything is: frames of bodies, axes of joints, shapes; and the spatial quantities about each tree's
//! centre of mass.

use super::model::DofKind;
use super::sim::{Sim, TREES};
use super::spatial::{
    IDENTITY, add, add_scaled, cross, inertia_about, multiply, quat_to_mat, rotate, scale, sub, turn,
    unit_quat,
};

impl<const NQ: usize, const NV: usize, const NB: usize> Sim<NQ, NV, NB> {
    /// Frames of bodies, joints and shapes from `qpos`.
    ///
    /// A body starts at its place in the parent's frame; each of its joints moves it on: a slide along its axis,
    /// a hinge about its axis, through its anchor. A free joint gives position and orientation directly.
    #[inline(always)]
    pub(super) fn kinematics(&mut self) {
        let model = self.model;
        let mut first = 1;
        if model.free {
            let q = &self.qpos;
            self.xpos[1] = [q[0], q[1], q[2]];
            self.xmat[1] = quat_to_mat(unit_quat([q[3], q[4], q[5], q[6]]));
            self.xipos[1] = add(self.xpos[1], rotate(&self.xmat[1], model.bodies[1].ipos));
            first = 2;
        }
        for b in first..NB {
            let body = &model.bodies[b];
            let (mut pos, mut mat) = if body.parent == 0 {
                (body.pos, body.rot.unwrap_or(IDENTITY))
            } else {
                let parent = &self.xmat[body.parent];
                let pos = add(self.xpos[body.parent], rotate(parent, body.pos));
                (pos, body.rot.map_or(*parent, |rot| multiply(parent, &rot)))
            };
            for d in body.dofs.0..body.dofs.1 {
                let dof = &model.dofs[d];
                let q = self.qpos[Self::coordinate(d)] - model.qpos0[Self::coordinate(d)];
                let axis = rotate(&mat, dof.axis);
                self.xaxis[d] = axis;
                if dof.kind == DofKind::Slide {
                    // Its motion is the same wherever its axis lies.
                    pos = add_scaled(pos, axis, q);
                } else if dof.pos == [0.0; 3] {
                    self.xanchor[d] = pos;
                    mat = turn(&mat, dof.axis, q);
                } else {
                    let anchor = add(pos, rotate(&mat, dof.pos));
                    self.xanchor[d] = anchor;
                    mat = turn(&mat, dof.axis, q);
                    pos = sub(anchor, rotate(&mat, dof.pos));
                }
            }
            (self.xpos[b], self.xmat[b]) = (pos, mat);
            self.xipos[b] = add(pos, rotate(&mat, body.ipos));
        }
        for (g, geom) in model.geoms.iter().enumerate() {
            if geom.collides && geom.body > 0 {
                let mat = &self.xmat[geom.body];
                self.geom_xpos[g] = add(self.xpos[geom.body], rotate(mat, geom.pos));
                self.geom_xaxis[g] = rotate(mat, geom.axis);
            }
        }
    }

    /// Centres of mass of the trees; inertias and motions of bodies and joints about them.
    #[inline(always)]
    pub(super) fn spatial_frames(&mut self) {
        let model = self.model;
        let (mut moment, mut mass) = ([[0.0; 3]; TREES], [0.0; TREES]);
        for (body, xipos) in model.bodies.iter().zip(&self.xipos) {
            if let Some(tree) = body.tree {
                moment[tree] = add_scaled(moment[tree], *xipos, body.mass);
                mass[tree] += body.mass;
            }
        }
        for tree in 0..model.trees {
            self.com[tree] = scale(moment[tree], 1.0 / mass[tree]);
        }
        for b in 1..NB {
            let body = &model.bodies[b];
            let Some(tree) = body.tree else { continue };
            let com = self.com[tree];
            self.cinert[b] = inertia_about(&self.xmat[b], &body.inertia, body.mass, sub(self.xipos[b], com));
            for d in body.dofs.0..body.dofs.1 {
                let [x, y, z] = match model.dofs[d].kind {
                    DofKind::Slide => {
                        let [x, y, z] = self.xaxis[d];
                        self.cdof[d] = [0.0, 0.0, 0.0, x, y, z];
                        continue;
                    }
                    DofKind::FreeSlide => {
                        self.cdof[d] = [0.0; 6];
                        self.cdof[d][3 + d] = 1.0;
                        continue;
                    }
                    DofKind::Hinge => self.xaxis[d],
                    DofKind::FreeTurn => {
                        self.xanchor[d] = self.xpos[b];
                        let m = &self.xmat[b];
                        [m[d - 3], m[d], m[d + 3]]
                    }
                };
                let [u, v, w] = cross([x, y, z], sub(com, self.xanchor[d]));
                self.cdof[d] = [x, y, z, u, v, w];
            }
        }
    }
}
