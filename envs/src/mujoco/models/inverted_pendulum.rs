//! The compiled model of Gymnasium's `inverted_pendulum.xml`.
//!
//! Written by `fixtures/mujoco_models.py` with MuJoCo 4.0.0 (Apache-2.0) from the XML file of Gymnasium 1.4.0 (MIT).

use crate::mujoco::model::*;

/// The model: 2 coordinates, 2 degrees of freedom, 3 bodies.
pub static MODEL: Model<2, 2, 3> = Model {
    timestep: 0.02,
    gravity: [0.0, 0.0, -9.81],
    fluid: None,
    integrator: Integrator::RungeKutta,
    solver: Solver::Newton,
    iterations: 100,
    trace0: 16.130991422572983,
    trees: 1,
    free: false,
    qpos0: [0.0, 0.0],
    bodies: [
        Body { name: "world", parent: 0, tree: None, dofs: (0, 0), pos: [0.0, 0.0, 0.0], rot: None,
            mass: 0.0, ipos: [0.0, 0.0, 0.0], inertia: [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            principal: [0.0, 0.0, 0.0], irot: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0] },
        Body { name: "cart", parent: 0, tree: Some(0), dofs: (0, 1), pos: [0.0, 0.0, 0.0], rot: None,
            mass: 10.47197551196598, ipos: [0.0, 0.0, 0.0], inertia: [0.04817108735504354, 0.12671090369478843, 0.12671090369478843, 0.0, 0.0, 0.0],
            principal: [0.12671090369478838, 0.12671090369478838, 0.04817108735504351], irot: [0.0, 0.0, 1.0000000000000002, 0.0, 1.0000000000000002, 0.0, -1.0000000000000002, 0.0, 0.0] },
        Body { name: "pole", parent: 1, tree: Some(0), dofs: (1, 2), pos: [0.0, 0.0, 0.0], rot: None,
            mass: 5.018591641363306, ipos: [0.0005, 0.0, 0.3], inertia: [0.18874925897652553, 0.18874976687308845, 0.005907004206409033, 0.0, -0.00030473793777778145, 0.0],
            principal: [0.1887497668730885, 0.1887497668730885, 0.0059064963098460705], irot: [-0.9999986111140046, 0.0, -0.001666664351856578, 0.0, 0.9999999999999999, 0.0, 0.001666664351856578, -0.0, -0.9999986111140046] },
    ],
    dofs: [
        Dof { joint: "slider", kind: DofKind::Slide, body: 1, ancestors: Up { trunk: 0, branch: 0 }, coupled: Up { trunk: 0, branch: 0 },
            pos: [0.0, 0.0, 0.0], axis: [1.0, 0.0, 0.0], stiffness: 0.0, damping: 1.0, armature: 0.0,
            limit: Some(Limit { chain: &[0], low: -1.0, high: 1.0, margin: 0.0, invweight: 0.08367433805859587, impedance: Impedance::new([0.02, 1.0], [0.9, 0.95, 0.001, 0.5, 2.0], 0.02) }) },
        Dof { joint: "hinge", kind: DofKind::Hinge, body: 2, ancestors: Up { trunk: 0, branch: 0 }, coupled: Up { trunk: 0, branch: 0 },
            pos: [0.0, 0.0, 0.0], axis: [0.0, 1.0, 0.0], stiffness: 0.0, damping: 1.0, armature: 0.0,
            limit: Some(Limit { chain: &[1, 0], low: -1.5707963267948966, high: 1.5707963267948966, margin: 0.0, invweight: 2.023912919848819, impedance: Impedance::new([0.02, 1.0], [0.9, 0.95, 0.001, 0.5, 2.0], 0.02) }) },
    ],
    geoms: &[
        Geom { shape: Shape::Capsule, body: 0, pos: [0.0, 0.0, 0.0], axis: [1.0000000000000002, 0.0, 0.0], radius: 0.02, half: 1.0, collides: false },
        Geom { shape: Shape::Capsule, body: 1, pos: [0.0, 0.0, 0.0], axis: [1.0000000000000002, 0.0, 0.0], radius: 0.1, half: 0.1, collides: false },
        Geom { shape: Shape::Capsule, body: 2, pos: [0.0005, 0.0, 0.3], axis: [-0.001666664351856578, 0.0, -0.9999986111140046], radius: 0.049, half: 0.3000004166663773, collides: false },
    ],
    pairs: &[
        
    ],
    actuators: &[
        Actuator { dof: 0, gear: 100.0, low: -3.0, high: 3.0 },
    ],
    sites: &[],
};
