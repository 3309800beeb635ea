//! The state of one simulation, and everything that a forward evaluation derives from it.

use super::collision::{Contact, Nearness};
use super::constraint::Row;
use super::model::{Model, Solver, Up};
use super::pgs::Dual;
use super::profile::Profile;
use super::spatial::{IDENTITY, Inertia, Mat3, Spatial, Vec3};

/// Most kinematic trees of a model.
pub(super) const TREES: usize = 3;

/// A model in motion. The names are MuJoCo's: q for positions, v for velocities, `qfrc` for forces along the
/// degrees of freedom, `x` for world frames, `c` for spatial quantities about the centre of mass of a tree.
///
/// Everything but the state itself (`qpos`, `qvel`, `ctrl`, `qacc_warmstart`) belongs to the **last forward
/// evaluation**. After a step that is the evaluation that the step began with, or the fourth stage of
/// Runge-Kutta: never the state that the step ended in. Gymnasium's observations and rewards read it so.
pub struct Sim<const NQ: usize, const NV: usize, const NB: usize> {
    pub(super) model: &'static Model<NQ, NV, NB>,
    pub(super) profile: Profile,

    /// Coordinates.
    pub qpos: [f64; NQ],
    /// Velocities.
    pub qvel: [f64; NV],
    /// Controls, one a motor; the rest is unused.
    pub ctrl: [f64; NV],
    /// Acceleration from which the next solver run starts.
    pub qacc_warmstart: [f64; NV],
    /// Times that the simulation diverged and was reset.
    pub divergences: u64,

    /// Origins of the bodies.
    pub xpos: [Vec3; NB],
    /// Orientations of the bodies.
    pub xmat: [Mat3; NB],
    /// Centres of mass of the bodies.
    pub xipos: [Vec3; NB],
    /// Centres of the shapes.
    pub geom_xpos: Vec<Vec3>,
    /// Axes of the shapes.
    pub geom_xaxis: Vec<Vec3>,
    /// Directions of the degrees of freedom.
    pub(super) xaxis: [Vec3; NV],
    /// Points on the axes of those that turn.
    pub(super) xanchor: [Vec3; NV],
    /// Centre of mass of each tree.
    pub(super) com: [Vec3; TREES],
    /// Inertias of the bodies.
    pub cinert: [Inertia; NB],
    /// Velocities of the bodies.
    pub cvel: [Spatial; NB],
    /// Accelerations of the bodies that q̈ = 0 leaves, gravity included.
    pub(super) cacc: [Spatial; NB],
    /// Forces between bodies and parents for these.
    pub(super) cfrc_int: [Spatial; NB],
    /// Motions that the degrees of freedom allow.
    pub(super) cdof: [Spatial; NV],
    /// Their rates of change.
    pub(super) cdof_dot: [Spatial; NV],

    /// Mass matrix; row i holds the columns of i and its ancestors.
    pub(super) qm: [[f64; NV]; NV],
    /// Its factor L of LᵀDL, same layout.
    pub(super) qld: [[f64; NV]; NV],
    /// Inverse of D.
    pub(super) qld_diag_inv: [f64; NV],
    /// Coriolis, centrifugal and gravitational forces.
    pub qfrc_bias: [f64; NV],
    /// Springs, dampers and drag.
    pub qfrc_passive: [f64; NV],
    /// Motors.
    pub qfrc_actuator: [f64; NV],
    /// Everything but constraints.
    pub qfrc_smooth: [f64; NV],
    /// Constraints.
    pub qfrc_constraint: [f64; NV],
    /// Acceleration without constraints.
    pub qacc_smooth: [f64; NV],
    /// Acceleration.
    pub qacc: [f64; NV],

    /// Forces of contacts on the bodies, see [`Self::sum_contact_forces`].
    pub cfrc_ext: [Spatial; NB],
    /// The quick test of each pair.
    pub(super) nearness: Vec<Nearness>,
    /// Points of contact.
    pub contacts: Vec<Contact>,
    /// Room for all constraints that can be active together.
    pub(super) rows: Vec<Row<NV>>,
    /// Number of active constraints.
    pub(super) nefc: usize,
    /// The first tree of each tree's island.
    pub(super) islands: [usize; TREES],
    /// Memory of projected Gauss-Seidel, for models that it solves.
    pub(super) dual: Option<Box<Dual>>,
    /// Iterations that the solver took.
    pub niter: usize,
    /// Whether the processor has the instructions of [`Self::forward_wide`].
    #[cfg(target_arch = "x86_64")]
    wide: bool,
}

impl<const NQ: usize, const NV: usize, const NB: usize> Sim<NQ, NV, NB> {
    /// A simulation at rest in the reference pose. All memory that it will ever need is taken here.
    pub fn new(model: &'static Model<NQ, NV, NB>, profile: Profile) -> Self {
        // Two contacts a pair at most, four rows a contact with friction, and one side of each limit.
        let contacts = 2 * model.pairs.len();
        let of_pair = |p: &super::model::Pair| 2 * if p.friction.is_some() { 4 } else { 1 };
        let rows = model.pairs.iter().map(of_pair).sum::<usize>() + NV;
        let dual = (model.solver == Solver::Pgs).then(|| Box::new(Dual::new(rows, NV, model.iterations)));
        Self {
            model,
            profile,
            qpos: model.qpos0,
            qvel: [0.0; NV],
            ctrl: [0.0; NV],
            qacc_warmstart: [0.0; NV],
            divergences: 0,
            xpos: [[0.0; 3]; NB],
            xmat: [IDENTITY; NB],
            xipos: [[0.0; 3]; NB],
            geom_xpos: model.geoms.iter().map(|g| g.pos).collect(),
            geom_xaxis: model.geoms.iter().map(|g| g.axis).collect(),
            xaxis: [[0.0; 3]; NV],
            xanchor: [[0.0; 3]; NV],
            com: [[0.0; 3]; TREES],
            cinert: [[0.0; 10]; NB],
            cvel: [[0.0; 6]; NB],
            cacc: [[0.0; 6]; NB],
            cfrc_int: [[0.0; 6]; NB],
            cdof: [[0.0; 6]; NV],
            cdof_dot: [[0.0; 6]; NV],
            qm: [[0.0; NV]; NV],
            qld: [[0.0; NV]; NV],
            qld_diag_inv: [0.0; NV],
            qfrc_bias: [0.0; NV],
            qfrc_passive: [0.0; NV],
            qfrc_actuator: [0.0; NV],
            qfrc_smooth: [0.0; NV],
            qfrc_constraint: [0.0; NV],
            qacc_smooth: [0.0; NV],
            qacc: [0.0; NV],
            cfrc_ext: [[0.0; 6]; NB],
            nearness: model.pairs.iter().map(|p| Nearness::of(p, model.geoms, profile)).collect(),
            contacts: Vec::with_capacity(contacts),
            rows: vec![Row::EMPTY; rows],
            nefc: 0,
            islands: std::array::from_fn(|tree| tree),
            dual,
            niter: 0,
            #[cfg(target_arch = "x86_64")]
            wide: is_x86_feature_detected!("avx2"),
        }
    }

    /// Puts the state back to the reference pose at rest, with no control.
    pub fn reset(&mut self) {
        self.qpos = self.model.qpos0;
        self.qvel = [0.0; NV];
        self.ctrl = [0.0; NV];
        self.qacc_warmstart = [0.0; NV];
        self.cfrc_ext = [[0.0; 6]; NB];
    }

    /// The model.
    pub fn model(&self) -> &'static Model<NQ, NV, NB> {
        self.model
    }

    /// Derives everything from the state, accelerations included; leaves the state as it is.
    pub fn forward(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if self.wide {
            // SAFETY: the processor has AVX2. The operations and their order stay the same, so results do too; a step of a
            // humanoid takes 5 % less time.
            return unsafe { self.forward_wide() };
        }
        self.evaluate();
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn forward_wide(&mut self) {
        self.evaluate();
    }

    #[inline(always)]
    fn evaluate(&mut self) {
        self.kinematics();
        self.spatial_frames();
        self.mass_matrix();
        self.collide();
        self.velocities_and_bias();
        self.passive();
        self.actuation();
        for i in 0..NV {
            self.qfrc_smooth[i] = self.qfrc_passive[i] - self.qfrc_bias[i] + self.qfrc_actuator[i];
        }
        self.qacc_smooth = self.qfrc_smooth;
        super::dynamics::solve(
            &self.model.dofs,
            |dof| dof.ancestors,
            &self.qld,
            &self.qld_diag_inv,
            &mut self.qacc_smooth,
        );
        self.make_constraints();
        self.constrain();
    }

    /// Finds the constraint forces and the acceleration.
    #[inline(always)]
    fn constrain(&mut self) {
        self.niter = 0;
        if self.nefc == 0 {
            self.qacc = self.qacc_smooth;
            self.qfrc_constraint = [0.0; NV];
            return;
        }
        match self.model.solver {
            Solver::Newton => self.newton(),
            Solver::Pgs => self.pgs(),
        }
    }

    /// The mass matrix in full.
    pub fn mass(&self) -> [[f64; NV]; NV] {
        let mut full = [[0.0; NV]; NV];
        for (i, dof) in self.model.dofs.iter().enumerate() {
            full[i][i] = self.qm[i][i];
            let Up { trunk, branch } = dof.ancestors;
            for j in (0..trunk).chain(branch..i) {
                (full[i][j], full[j][i]) = (self.qm[i][j], self.qm[i][j]);
            }
        }
        full
    }

    /// Index in `qpos` of the coordinate of a slide or hinge.
    #[inline(always)]
    pub(super) fn coordinate(dof: usize) -> usize {
        dof + NQ - NV
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::mujoco::models;

    #[test]
    fn instruction_sets_do_not_show() {
        for profile in Profile::ALL {
            let run = |wide: bool| {
                let mut sim = Sim::new(&models::humanoid_standup::MODEL, profile);
                sim.wide &= wide;
                for t in 0..60 {
                    for (i, ctrl) in sim.ctrl.iter_mut().enumerate() {
                        *ctrl = 0.4 * (0.3 * f64::from(t) + i as f64).sin();
                    }
                    sim.step();
                }
                (sim.qpos, sim.qvel, sim.qacc_warmstart)
            };
            assert_eq!(run(true), run(false));
        }
    }
}
