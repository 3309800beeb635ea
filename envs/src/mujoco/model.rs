//! What a compiled model holds: bodies, degrees of freedom, shapes, pairs that may touch, motors.
//!
//! The eleven models are data ([`super::models`]), written by `fixtures/mujoco_models.py` from MuJoCo's own
//! compiler. Lengths are in m, masses in kg, angles in rad, times in s.

use super::spatial::{Mat3, Vec3};

/// A kinematic tree with `NQ` coordinates, `NV` degrees of freedom and `NB` bodies, the world (body 0) included.
///
/// `NQ` is `NV`, or `NV` + 1 for a model on a free joint, whose orientation is a quaternion (w, x, y, z).
/// A free joint, if there is one, belongs to body 1 and comes first.
pub struct Model<const NQ: usize, const NV: usize, const NB: usize> {
    /// Length of a time step, in s.
    pub timestep: f64,
    /// Acceleration of gravity, world axes, in m/s².
    pub gravity: Vec3,
    /// The medium, where there is one.
    pub fluid: Option<Fluid>,
    /// How time is advanced.
    pub integrator: Integrator,
    /// How constraint forces are found.
    pub solver: Solver,
    /// Most iterations of the solver.
    pub iterations: usize,
    /// Trace of the mass matrix at `qpos0`.
    pub trace0: f64,
    /// Number of kinematic trees that can move.
    pub trees: usize,
    /// Whether body 1 hangs on a free joint.
    pub free: bool,
    /// Coordinates of the reference pose.
    pub qpos0: [f64; NQ],
    /// Bodies, parents before children.
    pub bodies: [Body; NB],
    /// Degrees of freedom, in the order of their bodies.
    pub dofs: [Dof; NV],
    /// All shapes, those included that touch nothing.
    pub geoms: &'static [Geom],
    /// Pairs of shapes that may touch, in the order in which contacts are listed.
    pub pairs: &'static [Pair],
    /// Motors, in the order of the controls.
    pub actuators: &'static [Actuator],
    /// Marked points.
    pub sites: &'static [Site],
}

/// A rigid body. Its frame sits at `pos`, `rot` in the frame of its parent, before the joints move it.
pub struct Body {
    /// Name in the XML file; may be empty.
    pub name: &'static str,
    /// Index of the parent.
    pub parent: usize,
    /// Kinematic tree; `None` for what is fixed to the world.
    pub tree: Option<usize>,
    /// First degree of freedom between this body and its parent, and one past the last.
    pub dofs: (usize, usize),
    /// Origin in the parent's frame.
    pub pos: Vec3,
    /// Orientation in the parent's frame; `None` where it is the parent's.
    pub rot: Option<Mat3>,
    /// Mass.
    pub mass: f64,
    /// Centre of mass, in the body's frame.
    pub ipos: Vec3,
    /// Inertia about the centre of mass in the body's axes: xx, yy, zz, xy, xz, yz, in kg m².
    pub inertia: [f64; 6],
    /// Principal moments of inertia.
    pub principal: Vec3,
    /// Principal axes in the body's frame, as columns.
    pub irot: Mat3,
}

/// What a degree of freedom does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DofKind {
    /// A translation along an axis of the body.
    Slide,
    /// A rotation about an axis of the body.
    Hinge,
    /// A translation of a free joint, along an axis of the world.
    FreeSlide,
    /// A rotation of a free joint, about an axis of the body.
    FreeTurn,
}

/// The degrees of freedom between one of number i and the root: 0..trunk and branch..i.
///
/// Numbers go depth first, and every model is a chain with branches that are chains: two ranges always do.
#[derive(Clone, Copy, Debug)]
pub struct Up {
    /// End of the first range.
    pub trunk: usize,
    /// Start of the second range.
    pub branch: usize,
}

/// One degree of freedom.
pub struct Dof {
    /// Name of its joint.
    pub joint: &'static str,
    /// What it does.
    pub kind: DofKind,
    /// The body that it moves.
    pub body: usize,
    /// The degrees of freedom that move its own axis.
    pub ancestors: Up,
    /// The same, with those of another tree that a contact may couple to it.
    pub coupled: Up,
    /// A point of the axis, in the body's frame.
    pub pos: Vec3,
    /// Unit axis in the body's frame.
    pub axis: Vec3,
    /// Spring towards coordinate 0, in N/m or N m.
    pub stiffness: f64,
    /// Damping, in N s/m or N m s.
    pub damping: f64,
    /// Inertia of the motor, added to the diagonal of the mass matrix.
    pub armature: f64,
    /// Limits of the coordinate.
    pub limit: Option<Limit>,
}

/// Limits of one coordinate.
pub struct Limit {
    /// Its degree of freedom, then the ancestors, nearest first.
    pub chain: &'static [usize],
    /// Lower limit.
    pub low: f64,
    /// Upper limit.
    pub high: f64,
    /// Distance from which the limit acts.
    pub margin: f64,
    /// Approximate inverse inertia seen by the limit.
    pub invweight: f64,
    /// Spring, damper and softness.
    pub impedance: Impedance,
}

/// Shape of a geom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The half space below a plane; its axis is the normal.
    Plane,
    /// A ball.
    Sphere,
    /// A cylinder with half balls on its ends.
    Capsule,
    /// A cylinder.
    Cylinder,
}

/// A shape fixed to a body.
pub struct Geom {
    /// What it is.
    pub shape: Shape,
    /// Its body.
    pub body: usize,
    /// Centre, in the body's frame.
    pub pos: Vec3,
    /// Unit axis, in the body's frame.
    pub axis: Vec3,
    /// Radius.
    pub radius: f64,
    /// Half length along the axis, half balls not counted.
    pub half: f64,
    /// Whether it is part of a [`Pair`].
    pub collides: bool,
}

/// Two shapes that may touch, the simpler one first.
pub struct Pair {
    /// The shapes; contact normals point from the first to the second.
    pub geoms: (usize, usize),
    /// Their bodies.
    pub bodies: (usize, usize),
    /// Coefficient of sliding friction; `None` for a contact without friction.
    pub friction: Option<f64>,
    /// Degrees of freedom that move the second body but not the first.
    pub plus: &'static [usize],
    /// Degrees of freedom that move the first body but not the second.
    pub minus: &'static [usize],
    /// Both of these, largest first.
    pub moves: &'static [usize],
    /// The degrees of freedom that move either body, largest first.
    pub chains: &'static [usize],
    /// Distance from which the contact acts: the sum of the shapes' margins (MuJoCo from 3.5).
    pub margin_sum: f64,
    /// The same as the larger of the margins (MuJoCo before 3.5).
    pub margin_max: f64,
    /// Approximate inverse mass seen by the contact.
    pub invweight: f64,
    /// Sum of the radii of the spheres around the shapes (a plane counts 0).
    pub reach: f64,
    /// Spring, damper and softness.
    pub impedance: Impedance,
}

/// A motor on one degree of freedom.
pub struct Actuator {
    /// What it drives.
    pub dof: usize,
    /// Force or torque for each unit of control.
    pub gear: f64,
    /// Lowest control.
    pub low: f64,
    /// Highest control.
    pub high: f64,
}

/// A marked point of a body.
pub struct Site {
    /// Its body.
    pub body: usize,
    /// Position in the body's frame.
    pub pos: Vec3,
}

/// The medium around the bodies.
pub struct Fluid {
    /// Density, in kg/m³.
    pub density: f64,
    /// Viscosity, in Pa s.
    pub viscosity: f64,
}

/// How time is advanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrator {
    /// Semi-implicit Euler with implicit joint damping.
    Euler,
    /// Runge-Kutta of fourth order.
    RungeKutta,
}

/// How constraint forces are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// Newton's method on the primal problem.
    Newton,
    /// Projected Gauss-Seidel sweeps on the dual problem.
    Pgs,
}

/// Spring, damper and softness of a constraint (MuJoCo's `solref` and `solimp`, for one time step).
///
/// The constraint pulls its violation r towards zero with the acceleration a = −B ṙ − K d r, and yields to the
/// share 1 − d of the opposing force; d(r) rises from `low` at r = 0 to `high` at |r| = `width`.
#[derive(Clone, Copy, Debug)]
pub struct Impedance {
    /// K, in 1/s².
    pub stiffness: f64,
    /// B, in 1/s.
    pub damping: f64,
    low: f64,
    high: f64,
    width: f64,
    middle: f64,
    power: f64,
}

impl Impedance {
    /// From a time constant and a damping ratio (`solref`) and the five numbers of `solimp`.
    ///
    /// The time constant is at least two time steps; impedances keep 1e-4 away from 0 and 1.
    pub const fn new(solref: [f64; 2], solimp: [f64; 5], timestep: f64) -> Self {
        let [low, high, width, middle, power] = solimp;
        let (low, high) = (low.clamp(MIN_IMPEDANCE, MAX_IMPEDANCE), high.clamp(MIN_IMPEDANCE, MAX_IMPEDANCE));
        let time = solref[0].max(2.0 * timestep);
        Self {
            stiffness: 1.0 / (high * high * time * time * solref[1] * solref[1]),
            damping: 2.0 / (high * time),
            low,
            high,
            width,
            middle: middle.clamp(MIN_IMPEDANCE, MAX_IMPEDANCE),
            power: power.max(1.0),
        }
    }

    /// d at the violation `r`.
    pub fn at(&self, r: f64) -> f64 {
        if self.low == self.high || self.width <= MIN_WIDTH {
            return 0.5 * (self.low + self.high);
        }
        let x = r.abs() / self.width;
        if x >= 1.0 {
            return self.high;
        }
        let (p, middle) = (self.power, self.middle);
        let y = if p == 2.0 && middle == 0.5 {
            // Every model's curve; the general one without its powers.
            if x <= 0.5 { 2.0 * x * x } else { 1.0 - 2.0 * (1.0 - x) * (1.0 - x) }
        } else if x <= middle {
            x.powf(p) / middle.powf(p - 1.0)
        } else {
            1.0 - (1.0 - x).powf(p) / (1.0 - middle).powf(p - 1.0)
        };
        self.low + y * (self.high - self.low)
    }
}

const MIN_IMPEDANCE: f64 = 1e-4;
const MAX_IMPEDANCE: f64 = 0.9999;
const MIN_WIDTH: f64 = 1e-15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impedance_is_a_smooth_step() {
        let curve = |middle, power| Impedance::new([0.02, 1.0], [0.2, 0.8, 0.01, middle, power], 0.002);
        for (middle, power) in [(0.5, 2.0), (0.3, 3.0), (0.7, 1.0)] {
            let d = curve(middle, power);
            assert!((d.at(0.0) - 0.2).abs() < 1e-15 && (d.at(-0.01) - 0.8).abs() < 1e-15);
            let (below, above) = (d.at(0.01 * middle - 1e-12), d.at(0.01 * middle + 1e-12));
            assert!((below - above).abs() < 1e-9, "continuous at the middle");
            assert!((0..100).all(|i| d.at(1e-4 * f64::from(i)) <= d.at(1e-4 * f64::from(i + 1))));
        }
        // The short form is the long one.
        let (short, long) = (curve(0.5, 2.0), curve(0.5, 2.0 + 1e-14));
        assert!(
            (0..100).all(|i| (short.at(1e-4 * f64::from(i)) - long.at(1e-4 * f64::from(i))).abs() < 1e-13)
        );
    }

    #[test]
    fn a_time_constant_below_two_steps_is_raised() {
        let fast = Impedance::new([0.001, 1.0], [0.9, 0.95, 0.001, 0.5, 2.0], 0.01);
        assert!((fast.damping - 2.0 / (0.95 * 0.02)).abs() < 1e-12);
    }
}
