//! The Gymnasium MuJoCo v5 tasks, step for step, on a small engine of their own.
//!
//! The engine computes what MuJoCo computes for the features that the eleven models use: trees of bodies on slide,
//! hinge and free joints, motors, springs, dampers, an inertia-box fluid, limits, and contacts of planes, balls and
//! capsules with pyramidal friction. One forward evaluation ([`Sim::forward`]) runs, in order:
//!
//! ```text
//! kinematics   qpos → frames of bodies, joints, shapes; inertias and motions about each tree's centre of mass
//! dynamics     mass matrix (composite bodies) and its LᵀDL factors; bias force (recursive Newton-Euler); springs,
//!              dampers, drag; motors; q̈ without constraints
//! collision    points of contact
//! constraint   a row for each limit in reach and each edge of a friction pyramid
//! newton, pgs  forces of the rows, q̈
//! integrate    four evaluations (Runge-Kutta) or one (Euler) make a step
//! ```
//!
//! MuJoCo's solvers stop before they have converged, so their rules for starting, searching and stopping are kept
//! too: with them one step differs from MuJoCo's by about 1e-13 (`tests/mujoco.rs`). [`Profile`] names the version.
//! The one exception is [`tasks::pusher`] while the wrist touches the object.
//!
//! Numbers are `f64`. A simulation takes its memory when it is made; a step takes none. The models are those that
//! MuJoCo 4.0.0 (Apache-2.0) compiles from the XML files of Gymnasium 1.4.0 (MIT), see [`models`].
//!
//! References: R. Featherstone, *Rigid Body Dynamics Algorithms*, 2008; E. Todorov, T. Erez and Y. Tassa, *MuJoCo: a
//! physics engine for model-based control*, 2012; the chapter "Computation" of MuJoCo's documentation.

pub mod collision;
pub mod constraint;
mod dynamics;
mod integrate;
mod kinematics;
pub mod model;
#[rustfmt::skip]
pub mod models;
mod newton;
mod pgs;
pub mod profile;
pub mod sim;
pub mod spatial;
pub mod split;
pub mod tasks;

pub use profile::Profile;
pub use sim::Sim;
pub use tasks::Robot;
