//! The eleven tasks, one file each: what a robot sees, what it is paid, when it has fallen.
//!
//! A task is a struct of its options ([`crate::options`]) that implements [`Task`]; [`Robot`] makes an environment
//! of it. The keyword arguments are Gymnasium's, with its defaults, and `profile` names the MuJoCo to reproduce.
//!
//! Two habits of Gymnasium's rewards are kept. Quantities that MuJoCo derives from the state, such as positions of
//! bodies and contact forces, are those of the last forward evaluation, not of the state that the step ended in.
//! And the cost of an action is computed in float32, the type of the action.

pub mod ant;
pub mod half_cheetah;
pub mod hopper;
pub mod humanoid;
pub mod humanoid_standup;
pub mod inverted_double_pendulum;
pub mod inverted_pendulum;
pub mod pusher;
pub mod reacher;
pub mod swimmer;
pub mod walker2d;

pub use ant::Ant;
pub use half_cheetah::HalfCheetah;
pub use hopper::Hopper;
pub use humanoid::Humanoid;
pub use humanoid_standup::HumanoidStandup;
pub use inverted_double_pendulum::InvertedDoublePendulum;
pub use inverted_pendulum::InvertedPendulum;
pub use pusher::Pusher;
pub use reacher::Reacher;
pub use swimmer::Swimmer;
pub use walker2d::Walker2d;

use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};

use super::model::{Model, Shape};
use super::spatial::{add, add_scaled, rotate};
use super::{Profile, Sim};
use crate::options::{OptionError, Options};
use crate::scene::{self, Camera, Paint};
use crate::{Env, Rng, Scene, Space, Spec, State, StateError};

/// What a task adds to its model.
pub trait Task<const NQ: usize, const NV: usize, const NB: usize>: Options + Send {
    /// Registered name.
    const ID: &'static str;
    /// Time limit, in steps.
    const MAX_STEPS: usize;
    /// Mean return from which the task counts as solved.
    const THRESHOLD: Option<f64>;
    /// Whether observation or reward reads the contact forces.
    const CONTACT_FORCES: bool = false;
    /// Whether [`Self::place`] belongs to the last forward evaluation instead of to the state.
    const LATE: bool = false;
    /// From where pictures show it.
    const VIEW: View = View::Around { distance: 4.0, elevation: 0.35 };

    /// The model.
    fn model() -> &'static Model<NQ, NV, NB>;
    /// The MuJoCo to reproduce.
    fn profile(&self) -> Profile;
    /// Time steps of one environment step.
    fn frame_skip(&self) -> usize;
    /// Draws the start of an episode into `qpos` and `qvel`, which hold the reference pose at rest.
    fn start(&self, sim: &mut Sim<NQ, NV, NB>, rng: &mut Rng);
    /// Appends the observation.
    fn observe(&self, sim: &Sim<NQ, NV, NB>, obs: &mut Vec<f64>);
    /// Where the robot is along the direction in which it is paid to move, in m.
    fn place(&self, _: &Sim<NQ, NV, NB>) -> f64 {
        0.0
    }
    /// Reward of a step with the action `action`, in which the place changed at the mean rate `velocity` (m/s), and
    /// whether the task terminated.
    fn outcome(&self, sim: &Sim<NQ, NV, NB>, action: &[f64], velocity: f64) -> (f64, bool);
}

/// From where pictures show a robot; on the ground they follow its first body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View {
    /// From the side: height in the middle of the picture and its width, in m.
    Side {
        /// Height.
        z: f64,
        /// Width.
        width: f64,
    },
    /// In perspective, from the front right.
    Around {
        /// Distance, in m.
        distance: f64,
        /// Angle above the horizon, in rad.
        elevation: f64,
    },
}

/// The environment of a task.
///
/// State: `qpos`, `qvel`, `qacc_warmstart`, the number of `divergences`, and for tasks whose reward starts from a
/// place of the last forward evaluation also that `place`. The last two may be left out when loading: the place is
/// then that of the loaded state, as after a reset.
pub struct Robot<T, const NQ: usize, const NV: usize, const NB: usize> {
    spec: Spec,
    task: T,
    sim: Sim<NQ, NV, NB>,
    /// Duration of a step, in s.
    dt: f64,
    place: f64,
    obs: Vec<f64>,
}

impl<T: Task<NQ, NV, NB>, const NQ: usize, const NV: usize, const NB: usize> Robot<T, NQ, NV, NB> {
    /// The environment of a task with its options.
    pub fn new(task: T) -> Self {
        let model = T::model();
        let mut sim = Sim::new(model, task.profile());
        sim.forward();
        let mut obs = Vec::new();
        task.observe(&sim, &mut obs);
        let bounds = |of: fn(&super::model::Actuator) -> f64| {
            model.actuators.iter().map(|a| of(a) as f32).collect::<Vec<f32>>()
        };
        let action = Space::Box { low: bounds(|a| a.low), high: bounds(|a| a.high) };
        let obs_space = Space::uniform(obs.len(), f32::NEG_INFINITY, f32::INFINITY);
        let spec = Spec {
            reward_threshold: T::THRESHOLD,
            ..Spec::single(T::ID, obs_space, action, Some(T::MAX_STEPS))
        };
        let dt = model.timestep * task.frame_skip() as f64;
        let place = task.place(&sim);
        Self { spec, task, sim, dt, place, obs }
    }

    /// The environment with some options given as text.
    ///
    /// # Errors
    /// For an unknown option, and for a value that it does not take.
    pub fn of(given: &[(&str, &str)]) -> Result<Self, OptionError> {
        Ok(Self::new(T::of(T::ID, given)?))
    }

    /// The simulation.
    pub fn sim(&self) -> &Sim<NQ, NV, NB> {
        &self.sim
    }

    fn write_obs(&mut self, obs: &mut [f32]) {
        self.obs.clear();
        self.task.observe(&self.sim, &mut self.obs);
        for (x, y) in obs.iter_mut().zip(&self.obs) {
            *x = *y as f32;
        }
    }
}

impl<T: Task<NQ, NV, NB>, const NQ: usize, const NV: usize, const NB: usize> Env for Robot<T, NQ, NV, NB> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.sim.reset();
        self.task.start(&mut self.sim, rng);
        self.sim.forward();
        self.place = self.task.place(&self.sim);
        self.write_obs(obs);
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        self.sim.ctrl[..action.len()].copy_from_slice(action);
        for _ in 0..self.task.frame_skip() {
            self.sim.step();
        }
        if T::CONTACT_FORCES {
            self.sim.sum_contact_forces();
        }
        let before = std::mem::replace(&mut self.place, self.task.place(&self.sim));
        self.write_obs(obs);
        let (paid, terminated) = self.task.outcome(&self.sim, action, (self.place - before) / self.dt);
        // MuJoCo holds its motors still when a control is not a finite number; the reward tells the run.
        reward[0] = if action.iter().all(|a| a.is_finite()) { paid } else { f64::NAN };
        terminated
    }

    fn save(&self, state: &mut State) {
        state.put_f64("qpos", &self.sim.qpos);
        state.put_f64("qvel", &self.sim.qvel);
        state.put_f64("qacc_warmstart", &self.sim.qacc_warmstart);
        if T::LATE {
            state.put_f64("place", &[self.place]);
        }
        state.put_u64("divergences", &[self.sim.divergences]);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        let qpos = finite(state, "qpos")?;
        let qvel = finite(state, "qvel")?;
        let qacc_warmstart = finite(state, "qacc_warmstart")?;
        let place = if state.contains("place") { Some(finite::<1>(state, "place")?[0]) } else { None };
        let divergences = if state.contains("divergences") { state.u64("divergences", 1)?[0] } else { 0 };
        self.sim.reset();
        (self.sim.qpos, self.sim.qvel, self.sim.qacc_warmstart) = (qpos, qvel, qacc_warmstart);
        self.sim.divergences = divergences;
        self.sim.forward();
        self.place = place.unwrap_or_else(|| self.task.place(&self.sim));
        Ok(())
    }

    /// Shapes as of the last forward evaluation.
    fn scene(&self) -> Option<Scene> {
        let (sim, model) = (&self.sim, self.sim.model());
        let ground = model.geoms.iter().any(|g| g.shape == Shape::Plane);
        let centre = if ground { sim.xipos[1] } else { [0.0; 3] };
        let camera = match T::VIEW {
            View::Side { z, width } => Camera::Side { centre: [centre[0], z], width, height: 0.75 * width },
            View::Around { distance, elevation } => {
                Camera::Orbit { target: centre, distance, azimuth: -1.2, elevation }
            }
        };
        let draw = |geom: &super::model::Geom| {
            let body = &model.bodies[geom.body];
            let paint = match body.name {
                "target" | "goal" => Paint::Goal,
                _ if geom.body == 0 => Paint::Still,
                _ if geom.body.is_multiple_of(2) => Paint::Accent,
                _ => Paint::Body,
            };
            let (pos, mat) = (sim.xpos[geom.body], &sim.xmat[geom.body]);
            let middle = add(pos, rotate(mat, geom.pos));
            let axis = rotate(mat, geom.axis);
            let end = |side: f64| add_scaled(middle, axis, side * geom.half);
            scene::Shape::Capsule { from: end(-1.0), to: end(1.0), radius: geom.radius, paint }
        };
        let shapes = model.geoms.iter().filter(|g| g.shape != Shape::Plane).map(draw).collect();
        Some(Scene { camera, ground, shapes, dt: self.dt, remembers: false })
    }

    fn precise_obs(&self) -> Option<&[f64]> {
        Some(&self.obs)
    }

    fn divergences(&self) -> u64 {
        self.sim.divergences
    }
}

/// The `N` finite values saved under a name.
fn finite<const N: usize>(state: &State, name: &str) -> Result<[f64; N], StateError> {
    let values = state.f64_array::<N>(name)?;
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(i) => {
            Err(StateError::Invalid { name: name.to_owned(), why: format!("value {i} is {}", values[i]) })
        }
    }
}

/// Adds to each value an independent uniform draw from ± `scale`.
fn add_uniform(values: &mut [f64], scale: f64, rng: &mut Rng) {
    for x in values {
        *x += scale * (2.0 * rng.random::<f64>() - 1.0);
    }
}

/// Adds to each value an independent normal draw of standard deviation `scale`.
fn add_normal(values: &mut [f64], scale: f64, rng: &mut Rng) {
    for x in values {
        let z: f64 = StandardNormal.sample(rng);
        *x += scale * z;
    }
}

/// A uniform draw from `low..high`.
fn uniform(rng: &mut Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// `weight` Σ a², as NumPy computes it: in float32 for an action of float32 numbers.
fn control_cost(weight: f64, action: &[f64]) -> f64 {
    if action.iter().any(|a| f64::from(*a as f32) != *a) {
        return weight * action.iter().map(|a| a * a).sum::<f64>();
    }
    let square = |i: usize| {
        let a = action[i] as f32;
        a * a
    };
    let sum = if action.len() == 8 {
        // NumPy's pairwise sum of a block of eight.
        ((square(0) + square(1)) + (square(2) + square(3)))
            + ((square(4) + square(5)) + (square(6) + square(7)))
    } else {
        (0..action.len()).map(square).sum::<f32>()
    };
    f64::from(weight as f32 * sum)
}

/// Distance of two points.
fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    super::spatial::norm(super::spatial::sub(a, b))
}

/// Appends velocities clipped to ±10.
fn clipped(velocities: &[f64], obs: &mut Vec<f64>) {
    obs.extend(velocities.iter().map(|v| v.clamp(-10.0, 10.0)));
}

/// Appends coordinates, from number `hidden` on if the task hides where the robot is.
fn positions(qpos: &[f64], hide: bool, hidden: usize, obs: &mut Vec<f64>) {
    obs.extend_from_slice(&qpos[if hide { hidden } else { 0 }..]);
}
