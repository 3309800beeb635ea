//! The compiled model of Gymnasium's `inverted_double_pendulum.xml`.
//!
//! Written by `fixtures/mujoco_models.py` with MuJoCo 4.0.0 (Apache-2.0) from the XML file of Gymnasium 1.4.0 (MIT).

use crate::mujoco::model::*;

/// The model: 3 coordinates, 3 degrees of freedom, 4 bodies.
pub static MODEL: Model<3, 3, 4> = Model {
    timestep: 0.01,
    gravity: [1e-05, 0.0, -9.81],
    fluid: None,
    integrator: Integrator::RungeKutta,
    solver: Solver::Newton,
    iterations: 100,
    trace0: 23.491115879969513,
    trees: 1,
    free: false,
    qpos0: [0.0, 0.0, 0.0],
    bodies: [
        Body { name: "world", parent: 0, tree: None, dofs: (0, 0), pos: [0.0, 0.0, 0.0], rot: None,
            mass: 0.0, ipos: [0.0, 0.0, 0.0], inertia: [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            principal: [0.0, 0.0, 0.0], irot: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0] },
        Body { name: "cart", parent: 0, tree: Some(0), dofs: (0, 1), pos: [0.0, 0.0, 0.0], rot: None,
            mass: 10.47197551196598, ipos: [0.0, 0.0, 0.0], inertia: [0.04817108735504354, 0.12671090369478843, 0.12671090369478843, 0.0, 0.0, 0.0],
            principal: [0.12671090369478838, 0.12671090369478838, 0.04817108735504351], irot: [0.0, 0.0, 1.0000000000000002, 0.0, 1.0000000000000002, 0.0, -1.0000000000000002, 0.0, 0.0] },
        Body { name: "pole", parent: 1, tree: Some(0), dofs: (1, 2), pos: [0.0, 0.0, 0.0], rot: None,
            mass: 4.1987385815227585, ipos: [0.0, 0.0, 0.3], inertia: [0.15497066975016235, 0.15497066975016235, 0.004173927853541032, 0.0, 0.0, -1.846727472855469e-17],
            principal: [0.15497066975016235, 0.15497066975016235, 0.004173927853541032], irot: [1.0, 0.0, 0.0, 0.0, -1.0, -1.2246467991473532e-16, 0.0, 1.2246467991473532e-16, -1.0] },
        Body { name: "pole2", parent: 2, tree: Some(0), dofs: (2, 3), pos: [0.0, 0.0, 0.6], rot: None,
            mass: 4.1987385815227585, ipos: [0.0, 0.0, 0.3], inertia: [0.15497066975016235, 0.15497066975016235, 0.004173927853541032, 0.0, 0.0, -1.846727472855469e-17],
            principal: [0.15497066975016235, 0.15497066975016235, 0.004173927853541032], irot: [1.0, 0.0, 0.0, 0.0, -1.0, -1.2246467991473532e-16, 0.0, 1.2246467991473532e-16, -1.0] },
    ],
    dofs: [
        Dof { joint: "slider", kind: DofKind::Slide, body: 1, ancestors: Up { trunk: 0, branch: 0 }, coupled: Up { trunk: 0, branch: 0 },
            pos: [0.0, 0.0, 0.0], axis: [1.0, 0.0, 0.0], stiffness: 0.0, damping: 0.05, armature: 0.0,
            limit: Some(Limit { chain: &[0], low: -1.0, high: 1.0, margin: 0.01, invweight: 0.08467261918769675, impedance: Impedance::new([0.02, 1.0], [0.9, 0.95, 0.001, 0.5, 2.0], 0.01) }) },
        Dof { joint: "hinge", kind: DofKind::Hinge, body: 2, ancestors: Up { trunk: 0, branch: 0 }, coupled: Up { trunk: 0, branch: 0 },
            pos: [0.0, 0.0, 0.0], axis: [0.0, 1.0, 0.0], stiffness: 0.0, damping: 0.05, armature: 0.0,
            limit: None },
        Dof { joint: "hinge2", kind: DofKind::Hinge, body: 3, ancestors: Up { trunk: 0, branch: 0 }, coupled: Up { trunk: 0, branch: 0 },
            pos: [0.0, 0.0, 0.0], axis: [0.0, 1.0, 0.0], stiffness: 0.0, damping: 0.05, armature: 0.0,
            limit: None },
    ],
    geoms: &[
        Geom { shape: Shape::Plane, body: 0, pos: [0.0, 0.0, -3.0], axis: [0.0, 0.0, 1.0], radius: 0.0, half: 0.0, collides: false },
        Geom { shape: Shape::Capsule, body: 0, pos: [0.0, 0.0, 0.0], axis: [1.0000000000000002, 0.0, 0.0], radius: 0.02, half: 1.0, collides: false },
        Geom { shape: Shape::Capsule, body: 1, pos: [0.0, 0.0, 0.0], axis: [1.0000000000000002, 0.0, 0.0], radius: 0.1, half: 0.1, collides: false },
        Geom { shape: Shape::Capsule, body: 2, pos: [0.0, 0.0, 0.3], axis: [0.0, -1.2246467991473532e-16, -1.0], radius: 0.045, half: 0.3, collides: false },
        Geom { shape: Shape::Capsule, body: 3, pos: [0.0, 0.0, 0.3], axis: [0.0, -1.2246467991473532e-16, -1.0], radius: 0.045, half: 0.3, collides: false },
    ],
    pairs: &[
        
    ],
    actuators: &[
        Actuator { dof: 0, gear: 500.0, low: -1.0, high: 1.0 },
    ],
    sites: &[Site { body: 3, pos: [0.0, 0.0, 0.6] }],
};
