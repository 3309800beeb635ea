//! `MountainCar-v0`: drive an underpowered car out of a valley, with three gears.
//!
//! The height of the road is sin 3x. Action a is 0 (backward), 1 (none) or 2 (forward):
//!
//! ```text
//! v ← clip(v + 0.001 (a − 1) − 0.0025 cos 3x, ±0.07),   x ← clip(x + v, −1.2, 0.6)
//! ```
//!
//! and the car stops (v = 0) at the left wall. One step is the unit of time.
//!
//! - State and observation: (x, v).
//! - Reward: −1 a step, the last one included.
//! - Start: x uniform in (−0.6, −0.4), v = 0.
//! - Terminates at x ≥ 0.5 with v ≥ 0; 200 steps; solved at −110.
//!
//! Source: A. Moore, PhD thesis, Cambridge, 1990; Sutton & Barto, *Reinforcement Learning*, ex. 10.1;
//! Gymnasium 1.4.0, `MountainCar-v0`. The best mean return is about −98.

use super::{load_state, uniform};
use crate::scene::{Paint, Shape, ball, line, slab};
use crate::{Env, Rng, Scene, Space, Spec, State, StateError};

const MIN_POSITION: f64 = -1.2;
const MAX_POSITION: f64 = 0.6;
const MAX_SPEED: f64 = 0.07;
const GOAL_POSITION: f64 = 0.5;

/// The task of this module.
pub struct MountainCar {
    spec: Spec,
    position: f64,
    speed: f64,
}

impl Default for MountainCar {
    fn default() -> Self {
        let bound = |position: f64, speed: f64| vec![position as f32, speed as f32];
        let obs = Space::Box { low: bound(MIN_POSITION, -MAX_SPEED), high: bound(MAX_POSITION, MAX_SPEED) };
        let spec = Spec {
            reward_threshold: Some(-110.0),
            reward_range: (-1.0, -1.0),
            ..Spec::single("MountainCar-v0", obs, Space::Discrete(3), Some(200))
        };
        Self { spec, position: -0.5, speed: 0.0 }
    }
}

/// The car on its road, and the flag that it is to reach. The road is drawn at the height that its slope asks for
/// when positions are lengths; a step of time is drawn as 1/30 s.
pub(super) fn picture(position: f64, goal: f64) -> Scene {
    let height = |x: f64| 0.45 * (3.0 * x).sin();
    let road = (0..=90).map(|i| MIN_POSITION + 0.02 * f64::from(i)).map(|x| [x, height(x)]);
    let flag = |x: f64, z: f64| [goal + x, 0.0, height(goal) + z];
    let slope = (1.35 * (3.0 * position).cos()).atan();
    let above = |along: f64, up: f64| {
        let (sin, cos) = slope.sin_cos();
        [position + cos * along - sin * up, height(position) + sin * along + cos * up]
    };
    let shapes = vec![
        line(road, Paint::Still),
        line([[goal, height(goal)], [goal, height(goal) + 0.25]], Paint::Still),
        Shape::Polygon {
            corners: vec![flag(0.0, 0.25), flag(0.1, 0.21), flag(0.0, 0.17)],
            paint: Paint::Goal,
        },
        slab(above(0.0, 0.08), [0.07, 0.03], slope, Paint::Body),
        ball(above(-0.045, 0.035), 0.03, Paint::Accent),
        ball(above(0.045, 0.035), 0.03, Paint::Accent),
    ];
    Scene::side([0.5 * (MIN_POSITION + MAX_POSITION), 0.12], 2.0, 1.4, 1.0 / 30.0, shapes)
}

impl MountainCar {
    fn observe(&self, obs: &mut [f32]) {
        obs.copy_from_slice(&[self.position as f32, self.speed as f32]);
    }
}

impl Env for MountainCar {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.position = uniform(rng, -0.6, -0.4);
        self.speed = 0.0;
        self.observe(obs);
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let push = (action[0] - 1.0) * 0.001 - 0.0025 * (3.0 * self.position).cos();
        self.speed = (self.speed + push).clamp(-MAX_SPEED, MAX_SPEED);
        self.position = (self.position + self.speed).clamp(MIN_POSITION, MAX_POSITION);
        if self.position == MIN_POSITION && self.speed < 0.0 {
            self.speed = 0.0;
        }
        reward[0] = -1.0;
        self.observe(obs);
        self.position >= GOAL_POSITION && self.speed >= 0.0
    }

    fn save(&self, state: &mut State) {
        state.put_f64("state", &[self.position, self.speed]);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        [self.position, self.speed] = load_state(state)?;
        Ok(())
    }

    fn scene(&self) -> Option<Scene> {
        Some(picture(self.position, GOAL_POSITION))
    }
}
