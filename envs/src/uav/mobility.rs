//! How users move on the ground.
//!
//! - `static`: not at all.
//! - `waypoint`: to a random point at a speed uniform in 0.5 to 1.5 m/s (a least speed above 0, or the mean would decay),
//!   there to wait for up to 10 s.
//! - `gauss-markov`: speed s and heading θ are autoregressive, per slot s′ = α s + (1 − α) s̄ + √(1 − α²) σ w with α = 0.85, so
//!   that in the long run s has mean s̄ = 1 m/s and deviation σ = 0.3 m/s (θ: 0.5 rad about a mean of its own, which turns
//!   to the middle of the area near a wall).
//! - `hot-spots`: in three clusters of deviation 60 m, whose centres move as in `waypoint`.
//!
//! Source: D. Johnson and D. Maltz, *Dynamic source routing in ad hoc wireless networks*, 1996; B. Liang and Z. Haas,
//! *Predictive distance-based mobility management for PCS networks*, 1999.

use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};

use crate::options::choice;
use crate::{Rng, State, StateError};

/// Memory of Gauss-Markov, per slot.
pub const ALPHA: f64 = 0.85;
/// Mean speed of Gauss-Markov, in m/s.
pub const MEAN_SPEED: f64 = 1.0;
/// Deviation of that speed, in m/s.
pub const SPEED_DEVIATION: f64 = 0.3;
/// Deviation of its heading, in rad.
pub const HEADING_DEVIATION: f64 = 0.5;
/// Nearer to a wall than this, in m, its mean heading turns to the middle.
pub const WALL: f64 = 50.0;
/// Speeds of waypoints, in m/s.
pub const SPEEDS: (f64, f64) = (0.5, 1.5);
/// Longest wait at a waypoint, in s.
pub const LONGEST_PAUSE: f64 = 10.0;
/// Number of hot spots.
pub const HOT_SPOTS: usize = 3;
/// Deviation of a hot spot, in m.
pub const HOT_SPOT_SIZE: f64 = 60.0;

choice! {
    /// Models of movement.
    pub enum Mobility: "static, waypoint, gauss-markov or hot-spots" {
        /// None.
        Static = "static",
        /// Random waypoints.
        Waypoint = "waypoint",
        /// Gauss-Markov.
        GaussMarkov = "gauss-markov",
        /// Drifting clusters.
        HotSpots = "hot-spots",
    }
}

/// One that walks: a user, or the centre of a hot spot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Walker {
    /// Where it goes (waypoint), or its place in its cluster.
    aim: [f64; 2],
    speed: f64,
    /// Waits so long still where it goes (waypoint), in s.
    wait: f64,
    /// Direction, and its mean (Gauss-Markov), in rad.
    heading: f64,
    mean: f64,
}

/// Numbers that a walker is saved as.
const WALKER: usize = 6;

/// Users on a square with a corner at the origin.
#[derive(Clone, Debug)]
pub struct Users {
    model: Mobility,
    side: f64,
    /// Positions, in m.
    pub position: Vec<[f64; 2]>,
    /// Velocities in the last slot, in m/s.
    pub velocity: Vec<[f64; 2]>,
    walkers: Vec<Walker>,
    /// Centres of hot spots, and who walks them.
    spots: Vec<([f64; 2], Walker)>,
}

impl Users {
    /// So many users of a model on a square of that side, all in a corner until [`Self::place`].
    pub fn new(model: Mobility, count: usize, side: f64) -> Self {
        let spots = if model == Mobility::HotSpots { HOT_SPOTS } else { 0 };
        Self {
            model,
            side,
            position: vec![[0.0; 2]; count],
            velocity: vec![[0.0; 2]; count],
            walkers: vec![Walker::default(); count],
            spots: vec![Default::default(); spots],
        }
    }

    /// Draws where they are and how they move.
    pub fn place(&mut self, rng: &mut Rng) {
        let side = self.side;
        for (centre, walker) in &mut self.spots {
            *centre = anywhere(side, rng);
            *walker = Walker::to_waypoint(side, rng);
        }
        self.velocity.fill([0.0; 2]);
        for (k, (position, walker)) in self.position.iter_mut().zip(&mut self.walkers).enumerate() {
            *position = anywhere(side, rng);
            match self.model {
                Mobility::Static => {}
                Mobility::Waypoint => *walker = Walker::to_waypoint(side, rng),
                Mobility::GaussMarkov => {
                    let mean = std::f64::consts::TAU * rng.random::<f64>();
                    let speed = MEAN_SPEED + SPEED_DEVIATION * normal(rng);
                    *walker =
                        Walker { speed, heading: mean + HEADING_DEVIATION * normal(rng), mean, ..*walker };
                }
                Mobility::HotSpots => {
                    walker.aim = [HOT_SPOT_SIZE * normal(rng), HOT_SPOT_SIZE * normal(rng)];
                    let (centre, _) = self.spots[k % HOT_SPOTS];
                    *position = inside(side, [centre[0] + walker.aim[0], centre[1] + walker.aim[1]]);
                }
            }
        }
    }

    /// Moves everyone on by `dt` s.
    pub fn step(&mut self, dt: f64, rng: &mut Rng) {
        let side = self.side;
        if self.model == Mobility::Static {
            return;
        }
        for (centre, walker) in &mut self.spots {
            *centre = walker.walk(*centre, side, dt, rng);
        }
        for k in 0..self.position.len() {
            let (old, walker) = (self.position[k], &mut self.walkers[k]);
            let new = match self.model {
                Mobility::Static => old,
                Mobility::Waypoint => walker.walk(old, side, dt, rng),
                Mobility::GaussMarkov => {
                    walker.speed = gauss_markov(walker.speed, MEAN_SPEED, SPEED_DEVIATION, rng);
                    if old.iter().any(|x| *x < WALL || *x > side - WALL) {
                        let middle = (0.5 * side - old[1]).atan2(0.5 * side - old[0]);
                        // The nearer of its equivalents, so that nobody spins.
                        let turns = ((walker.mean - middle) / std::f64::consts::TAU).round();
                        walker.mean = middle + std::f64::consts::TAU * turns;
                    }
                    walker.heading = gauss_markov(walker.heading, walker.mean, HEADING_DEVIATION, rng);
                    let (sin, cos) = walker.heading.sin_cos();
                    inside(side, [old[0] + dt * walker.speed * cos, old[1] + dt * walker.speed * sin])
                }
                Mobility::HotSpots => {
                    let (centre, _) = self.spots[k % HOT_SPOTS];
                    inside(side, [centre[0] + walker.aim[0], centre[1] + walker.aim[1]])
                }
            };
            self.velocity[k] = [(new[0] - old[0]) / dt, (new[1] - old[1]) / dt];
            self.position[k] = new;
        }
    }

    /// Adds everything under names that begin with `users.`.
    pub fn save(&self, state: &mut State) {
        state.put_f64("users.position", self.position.as_flattened());
        state.put_f64("users.velocity", self.velocity.as_flattened());
        let numbers = |w: &Walker| [w.aim[0], w.aim[1], w.speed, w.wait, w.heading, w.mean];
        state.put_f64("users.walkers", self.walkers.iter().map(numbers).collect::<Vec<_>>().as_flattened());
        let spot = |(c, w): &([f64; 2], Walker)| [[c[0], c[1]].as_slice(), &numbers(w)].concat();
        state.put_f64("users.spots", &self.spots.iter().flat_map(spot).collect::<Vec<_>>());
    }

    /// Restores what [`Self::save`] wrote.
    ///
    /// # Errors
    /// When an entry is missing or has the wrong length.
    pub fn load(&mut self, state: &State) -> Result<(), StateError> {
        let k = self.position.len();
        let position = state.f64("users.position", 2 * k)?;
        let velocity = state.f64("users.velocity", 2 * k)?;
        let walkers = state.f64("users.walkers", WALKER * k)?;
        let spots = state.f64("users.spots", (2 + WALKER) * self.spots.len())?;
        let walker =
            |x: &[f64]| Walker { aim: [x[0], x[1]], speed: x[2], wait: x[3], heading: x[4], mean: x[5] };
        self.position.as_flattened_mut().copy_from_slice(position);
        self.velocity.as_flattened_mut().copy_from_slice(velocity);
        self.walkers.iter_mut().zip(walkers.chunks_exact(WALKER)).for_each(|(w, x)| *w = walker(x));
        let spots = self.spots.iter_mut().zip(spots.chunks_exact(2 + WALKER));
        spots.for_each(|(spot, x)| *spot = ([x[0], x[1]], walker(&x[2..])));
        Ok(())
    }
}

impl Walker {
    fn to_waypoint(side: f64, rng: &mut Rng) -> Self {
        let speed = SPEEDS.0 + (SPEEDS.1 - SPEEDS.0) * rng.random::<f64>();
        Self { aim: anywhere(side, rng), speed, wait: LONGEST_PAUSE * rng.random::<f64>(), ..Self::default() }
    }

    /// Where one is after `dt`, who walks to the aim and then waits.
    fn walk(&mut self, from: [f64; 2], side: f64, dt: f64, rng: &mut Rng) -> [f64; 2] {
        let to = [self.aim[0] - from[0], self.aim[1] - from[1]];
        let (left, reach) = (to[0].hypot(to[1]), self.speed * dt);
        if left > reach {
            return [from[0] + to[0] / left * reach, from[1] + to[1] / left * reach];
        }
        let at = self.aim;
        self.wait -= dt;
        if self.wait <= 0.0 {
            *self = Self::to_waypoint(side, rng);
        }
        at
    }
}

/// One step of an autoregression of mean `mean` and deviation `deviation`.
fn gauss_markov(x: f64, mean: f64, deviation: f64, rng: &mut Rng) -> f64 {
    ALPHA * x + (1.0 - ALPHA) * mean + (1.0 - ALPHA * ALPHA).sqrt() * deviation * normal(rng)
}

fn normal(rng: &mut Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn anywhere(side: f64, rng: &mut Rng) -> [f64; 2] {
    [side * rng.random::<f64>(), side * rng.random::<f64>()]
}

fn inside(side: f64, at: [f64; 2]) -> [f64; 2] {
    at.map(|x| x.clamp(0.0, side))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};

    #[test]
    fn gauss_markov_has_its_moments() {
        let (mut rng, n) = (stream(0, Purpose::Check, 0), 400_000);
        let mut speeds = vec![MEAN_SPEED];
        for t in 0..n {
            speeds.push(gauss_markov(speeds[t], MEAN_SPEED, SPEED_DEVIATION, &mut rng));
        }
        let mean = speeds.iter().sum::<f64>() / speeds.len() as f64;
        let covariance = |lag: usize| {
            let pairs = speeds.iter().zip(&speeds[lag..]);
            pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / (speeds.len() - lag) as f64
        };
        assert!((mean - MEAN_SPEED).abs() < 0.01, "{mean}");
        assert!(
            (covariance(0) / (SPEED_DEVIATION * SPEED_DEVIATION) - 1.0).abs() < 0.02,
            "{}",
            covariance(0)
        );
        assert!((covariance(1) / covariance(0) - ALPHA).abs() < 0.01, "{}", covariance(1) / covariance(0));
    }

    #[test]
    fn users_move_as_fast_as_they_should_and_stay_inside() {
        for (model, slow, fast) in [
            (Mobility::Static, 0.0, 0.0),
            (Mobility::Waypoint, 0.3, 1.6),
            (Mobility::GaussMarkov, 0.7, 1.2),
            (Mobility::HotSpots, 0.1, 1.6),
        ] {
            let mut users = Users::new(model, 20, 400.0);
            let mut rng = stream(1, Purpose::Check, 0);
            users.place(&mut rng);
            let (mut sum, mut count) = (0.0, 0.0);
            for _ in 0..3000 {
                users.step(1.0, &mut rng);
                for (p, v) in users.position.iter().zip(&users.velocity) {
                    assert!(p.iter().all(|x| (0.0..=400.0).contains(x)), "{model:?}: {p:?}");
                    sum += v[0].hypot(v[1]);
                    count += 1.0;
                }
            }
            assert!((slow..=fast).contains(&(sum / count)), "{model:?}: {} m/s", sum / count);
        }
    }

    #[test]
    fn hot_spots_are_as_wide_as_they_should_be() {
        let mut users = Users::new(Mobility::HotSpots, 3000, 1e5);
        users.place(&mut stream(2, Purpose::Check, 0));
        let members: Vec<[f64; 2]> = users.position.iter().copied().step_by(HOT_SPOTS).collect();
        for axis in 0..2 {
            let mean = members.iter().map(|p| p[axis]).sum::<f64>() / members.len() as f64;
            let variance =
                members.iter().map(|p| (p[axis] - mean).powi(2)).sum::<f64>() / members.len() as f64;
            assert!((variance.sqrt() / HOT_SPOT_SIZE - 1.0).abs() < 0.1, "{}", variance.sqrt());
        }
    }
}
