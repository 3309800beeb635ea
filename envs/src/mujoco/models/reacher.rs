//! The compiled model of Gymnasium's `reacher.xml`.
//!
//! Written by `fixtures/mujoco_models.py` with MuJoCo 4.0.0 (Apache-2.0) from the XML file of Gymnasium 1.4.0 (MIT).

use crate::mujoco::model::*;

/// The model: 4 coordinates, 4 degrees of freedom, 5 bodies.
pub static MODEL: Model<4, 4, 5> = Model {
    timestep: 0.01,
    gravity: [0.0, 0.0, -9.81],
    fluid: None,
    integrator: Integrator::RungeKutta,
    solver: Solver::Newton,
    iterations: 100,
    trace0: 2.007439657922844,
    trees: 2,
    free: false,
    qpos0: [0.0, 0.0, 0.1, -0.1],
    bodies: [
        Body { name: "world", parent: 0, tree: None, dofs: (0, 0), pos: [0.0, 0.0, 0.0], rot: None,
            mass: 0.0, ipos: [0.0, 0.0, 0.0], inertia: [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            principal: [0.0, 0.0, 0.0], irot: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0] },
        Body { name: "body0", parent: 0, tree: Some(0), dofs: (0, 1), pos: [0.0, 0.0, 0.01], rot: None,
            mass: 0.03560471674068432, ipos: [0.05, 0.0, 0.0], inertia: [1.7383479349863525e-06, 3.9175660390264734e-05, 3.9175660390264734e-05, 0.0, 8.312753253587242e-21, 0.0],
            principal: [3.9175660390264734e-05, 3.9175660390264734e-05, 1.7383479349863525e-06], irot: [2.220446049250313e-16, -0.0, -1.0, 0.0, 1.0, -0.0, 1.0, 0.0, 2.220446049250313e-16] },
        Body { name: "body1", parent: 1, tree: Some(0), dofs: (1, 2), pos: [0.1, 0.0, 0.0], rot: None,
            mass: 0.03560471674068432, ipos: [0.05, 0.0, 0.0], inertia: [1.7383479349863525e-06, 3.9175660390264734e-05, 3.9175660390264734e-05, 0.0, 8.312753253587242e-21, 0.0],
            principal: [3.9175660390264734e-05, 3.9175660390264734e-05, 1.7383479349863525e-06], irot: [2.220446049250313e-16, -0.0, -1.0, 0.0, 1.0, -0.0, 1.0, 0.0, 2.220446049250313e-16] },
        Body { name: "fingertip", parent: 2, tree: Some(0), dofs: (0, 0), pos: [0.11, 0.0, 0.0], rot: None,
            mass: 0.004188790204786391, ipos: [0.0, 0.0, 0.0], inertia: [1.6755160819145565e-07, 1.6755160819145565e-07, 1.6755160819145565e-07, 0.0, 0.0, 0.0],
            principal: [1.6755160819145565e-07, 1.6755160819145565e-07, 1.6755160819145565e-07], irot: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0] },
        Body { name: "target", parent: 0, tree: Some(1), dofs: (2, 4), pos: [0.1, -0.1, 0.01], rot: None,
            mass: 0.0030536280592892784, ipos: [0.0, 0.0, 0.0], inertia: [9.893754912097261e-08, 9.893754912097261e-08, 9.893754912097261e-08, 0.0, 0.0, 0.0],
            principal: [9.893754912097261e-08, 9.893754912097261e-08, 9.893754912097261e-08], irot: [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0] },
    ],
    dofs: [
        Dof { joint: "joint0", kind: DofKind::Hinge, body: 1, ancestors: Up { trunk: 0, branch: 0 }, coupled: Up { trunk: 0, branch: 0 },
            pos: [0.0, 0.0, 0.0], axis: [0.0, 0.0, 1.0], stiffness: 0.0, damping: 1.0, armature: 1.0,
            limit: None },
        Dof { joint: "joint1", kind: DofKind::Hinge, body: 2, ancestors: Up { trunk: 0, branch: 0 }, coupled: Up { trunk: 0, branch: 0 },
            pos: [0.0, 0.0, 0.0], axis: [0.0, 0.0, 1.0], stiffness: 0.0, damping: 1.0, armature: 1.0,
            limit: Some(Limit { chain: &[1, 0], low: -3.0, high: 3.0, margin: 0.0, invweight: 0.9998211549602818, impedance: Impedance::new([0.02, 1.0], [0.9, 0.95, 0.001, 0.5, 2.0], 0.01) }) },
        Dof { joint: "target_x", kind: DofKind::Slide, body: 4, ancestors: Up { trunk: 0, branch: 2 }, coupled: Up { trunk: 0, branch: 2 },
            pos: [0.0, 0.0, 0.0], axis: [1.0, 0.0, 0.0], stiffness: 0.0, damping: 0.0, armature: 0.0,
            limit: Some(Limit { chain: &[2], low: -0.27, high: 0.27, margin: 0.0, invweight: 327.47930677344726, impedance: Impedance::new([0.02, 1.0], [0.9, 0.95, 0.001, 0.5, 2.0], 0.01) }) },
        Dof { joint: "target_y", kind: DofKind::Slide, body: 4, ancestors: Up { trunk: 0, branch: 2 }, coupled: Up { trunk: 0, branch: 2 },
            pos: [0.0, 0.0, 0.0], axis: [0.0, 1.0, 0.0], stiffness: 0.0, damping: 0.0, armature: 0.0,
            limit: Some(Limit { chain: &[3, 2], low: -0.27, high: 0.27, margin: 0.0, invweight: 327.47930677344726, impedance: Impedance::new([0.02, 1.0], [0.9, 0.95, 0.001, 0.5, 2.0], 0.01) }) },
    ],
    geoms: &[
        Geom { shape: Shape::Plane, body: 0, pos: [0.0, 0.0, 0.0], axis: [0.0, 0.0, 1.0], radius: 0.0, half: 0.0, collides: false },
        Geom { shape: Shape::Capsule, body: 0, pos: [0.0, -0.3, 0.01], axis: [-1.0, -0.0, 2.220446049250313e-16], radius: 0.02, half: 0.3, collides: false },
        Geom { shape: Shape::Capsule, body: 0, pos: [0.3, 0.0, 0.01], axis: [0.0, -1.0, 2.220446049250313e-16], radius: 0.02, half: 0.3, collides: false },
        Geom { shape: Shape::Capsule, body: 0, pos: [0.0, 0.3, 0.01], axis: [-1.0, -0.0, 2.220446049250313e-16], radius: 0.02, half: 0.3, collides: false },
        Geom { shape: Shape::Capsule, body: 0, pos: [-0.3, 0.0, 0.01], axis: [0.0, -1.0, 2.220446049250313e-16], radius: 0.02, half: 0.3, collides: false },
        Geom { shape: Shape::Cylinder, body: 0, pos: [0.0, 0.0, 0.01], axis: [0.0, -1.2246467991473532e-16, -1.0], radius: 0.011, half: 0.01, collides: false },
        Geom { shape: Shape::Capsule, body: 1, pos: [0.05, 0.0, 0.0], axis: [-1.0, -0.0, 2.220446049250313e-16], radius: 0.01, half: 0.05, collides: false },
        Geom { shape: Shape::Capsule, body: 2, pos: [0.05, 0.0, 0.0], axis: [-1.0, -0.0, 2.220446049250313e-16], radius: 0.01, half: 0.05, collides: false },
        Geom { shape: Shape::Sphere, body: 3, pos: [0.0, 0.0, 0.0], axis: [0.0, 0.0, 1.0], radius: 0.01, half: 0.0, collides: false },
        Geom { shape: Shape::Sphere, body: 4, pos: [0.0, 0.0, 0.0], axis: [0.0, 0.0, 1.0], radius: 0.009, half: 0.0, collides: false },
    ],
    pairs: &[
        
    ],
    actuators: &[
        Actuator { dof: 0, gear: 200.0, low: -1.0, high: 1.0 },
        Actuator { dof: 1, gear: 200.0, low: -1.0, high: 1.0 },
    ],
    sites: &[],
};
