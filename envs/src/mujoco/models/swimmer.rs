//! The compiled model of Gymnasium's `swimmer.xml`.
//!
//! Written by `fixtures/mujoco_models.py` with MuJoCo 4.0.0 (Apache-2.0) from the XML file of Gymnasium 1.4.0 (MIT).

use crate::mujoco::model::*;

/// The model: 5 coordinates, 5 degrees of freedom, 4 bodies.
pub static MODEL: Model<5, 5, 4> = Model {
    timestep: 0.01,
    gravity: [0.0, 0.0, -9.81],
    fluid: Some(Fluid { density: 4000.0, viscosity: 0.1 }),
    integrator: Integrator::RungeKutta,
    solver: Solver::Newton,
    iterations: 100,
    trace0: 406.75610119651526,
    trees: 1,
    free: false,
    qpos0: [0.0, 0.0, 0.0, 0.0, 0.0],
    bodies: [
        Body { name: "world", parent: 0, tree: None, dofs: (0, 0), pos: [0.0, 0.0, 0.0], rot: None,
            mass: 0.0, ipos: [0.0, 0.0, 0.0], inertia: [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            principal: [0.0, 0.0, 0.0], irot: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0] },
        Body { name: "torso", parent: 0, tree: Some(0), dofs: (0, 3), pos: [0.0, 0.0, 0.0], rot: None,
            mass: 35.604716740684324, ipos: [1.0, 0.0, 0.0], inertia: [0.17383479349863523, 3.9175660390264717, 3.9175660390264717, 0.0, -8.312753253587239e-16, 0.0],
            principal: [3.9175660390264717, 3.9175660390264717, 0.17383479349863523], irot: [2.220446049250313e-16, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 2.220446049250313e-16] },
        Body { name: "mid", parent: 1, tree: Some(0), dofs: (3, 4), pos: [0.5, 0.0, 0.0], rot: None,
            mass: 35.604716740684324, ipos: [-0.5, 0.0, 0.0], inertia: [0.17383479349863523, 3.9175660390264717, 3.9175660390264717, 0.0, -8.312753253587239e-16, 0.0],
            principal: [3.9175660390264717, 3.9175660390264717, 0.17383479349863523], irot: [2.220446049250313e-16, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 2.220446049250313e-16] },
        Body { name: "back", parent: 2, tree: Some(0), dofs: (4, 5), pos: [-1.0, 0.0, 0.0], rot: None,
            mass: 35.604716740684324, ipos: [-0.5, 0.0, 0.0], inertia: [0.17383479349863523, 3.9175660390264717, 3.9175660390264717, 0.0, -8.312753253587239e-16, 0.0],
            principal: [3.9175660390264717, 3.9175660390264717, 0.17383479349863523], irot: [2.220446049250313e-16, 0.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, 2.220446049250313e-16] },
    ],
    dofs: [
        Dof { joint: "slider1", kind: DofKind::Slide, body: 1, ancestors: Up { trunk: 0, branch: 0 }, coupled: Up { trunk: 0, branch: 0 },
            pos: [0.0, 0.0, 0.0], axis: [1.0, 0.0, 0.0], stiffness: 0.0, damping: 0.0, armature: 0.1,
            limit: None },
        Dof { joint: "slider2", kind: DofKind::Slide, body: 1, ancestors: Up { trunk: 0, branch: 0 }, coupled: Up { trunk: 0, branch: 0 },
            pos: [0.0, 0.0, 0.0], axis: [0.0, 1.0, 0.0], stiffness: 0.0, damping: 0.0, armature: 0.1,
            limit: None },
        Dof { joint: "free_body_rot", kind: DofKind::Hinge, body: 1, ancestors: Up { trunk: 0, branch: 0 }, coupled: Up { trunk: 0, branch: 0 },
            pos: [0.0, 0.0, 0.0], axis: [0.0, 0.0, 1.0], stiffness: 0.0, damping: 0.0, armature: 0.1,
            limit: None },
        Dof { joint: "motor1_rot", kind: DofKind::Hinge, body: 2, ancestors: Up { trunk: 0, branch: 0 }, coupled: Up { trunk: 0, branch: 0 },
            pos: [0.0, 0.0, 0.0], axis: [0.0, 0.0, 1.0], stiffness: 0.0, damping: 0.0, armature: 0.1,
            limit: Some(Limit { chain: &[3, 2, 1, 0], low: -1.7453292519943295, high: 1.7453292519943295, margin: 0.0, invweight: 0.38529334162134676, impedance: Impedance::new([0.02, 1.0], [0.9, 0.95, 0.001, 0.5, 2.0], 0.01) }) },
        Dof { joint: "motor2_rot", kind: DofKind::Hinge, body: 3, ancestors: Up { trunk: 0, branch: 0 }, coupled: Up { trunk: 0, branch: 0 },
            pos: [0.0, 0.0, 0.0], axis: [0.0, 0.0, 1.0], stiffness: 0.0, damping: 0.0, armature: 0.1,
            limit: Some(Limit { chain: &[4, 3, 2, 1, 0], low: -1.7453292519943295, high: 1.7453292519943295, margin: 0.0, invweight: 0.3933336741383495, impedance: Impedance::new([0.02, 1.0], [0.9, 0.95, 0.001, 0.5, 2.0], 0.01) }) },
    ],
    geoms: &[
        Geom { shape: Shape::Plane, body: 0, pos: [0.0, 0.0, -0.1], axis: [0.0, 0.0, 1.0], radius: 0.0, half: 0.0, collides: false },
        Geom { shape: Shape::Capsule, body: 1, pos: [1.0, 0.0, 0.0], axis: [1.0, 0.0, 2.220446049250313e-16], radius: 0.1, half: 0.5, collides: false },
        Geom { shape: Shape::Capsule, body: 2, pos: [-0.5, 0.0, 0.0], axis: [1.0, 0.0, 2.220446049250313e-16], radius: 0.1, half: 0.5, collides: false },
        Geom { shape: Shape::Capsule, body: 3, pos: [-0.5, 0.0, 0.0], axis: [1.0, 0.0, 2.220446049250313e-16], radius: 0.1, half: 0.5, collides: false },
    ],
    pairs: &[
        
    ],
    actuators: &[
        Actuator { dof: 3, gear: 150.0, low: -1.0, high: 1.0 },
        Actuator { dof: 4, gear: 150.0, low: -1.0, high: 1.0 },
    ],
    sites: &[],
};
