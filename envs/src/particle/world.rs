//! The plane that all particle tasks share: discs with inertia, drag and soft contacts.

use super::Dialect;

/// Duration of a step, in s.
pub const DT: f64 = 0.1;
/// Share of its speed that a body loses in a step.
pub const DAMPING: f64 = 0.25;
/// Force of a unit of penetration.
pub const CONTACT_FORCE: f64 = 100.0;
/// Softness of contacts: the penetration is rounded off over this length.
pub const CONTACT_MARGIN: f64 = 1e-3;

/// What a disc is like. Its mass is 1.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// Radius.
    pub radius: f64,
    /// Whether others bounce off it.
    pub collides: bool,
    /// Force of a unit of action; 0 for what cannot move.
    pub force: f64,
    /// Highest speed, or infinity.
    pub max_speed: f64,
}

impl Body {
    /// A body that the others pass through and that stays where it is.
    pub const fn still(radius: f64) -> Self {
        Self { radius, collides: false, force: 0.0, max_speed: f64::INFINITY }
    }
}

/// Where everything is.
#[derive(Clone, Debug)]
pub struct World {
    /// Order of integration.
    pub dialect: Dialect,
    /// The agents, then the landmarks.
    pub bodies: Vec<Body>,
    /// Positions of all bodies.
    pub position: Vec<[f64; 2]>,
    /// Velocities of the agents.
    pub velocity: Vec<[f64; 2]>,
    /// What each agent wants to do to itself in this step, a force; afterwards the sum of all forces on it.
    pub force: Vec<[f64; 2]>,
    /// What each agent has said, `words` numbers an agent; zeros from those who are silent.
    pub said: Vec<f64>,
    /// Size of the vocabulary.
    pub words: usize,
}

impl World {
    /// All at the origin, at rest and silent.
    pub fn new(dialect: Dialect, agents: Vec<Body>, landmarks: Vec<Body>, words: usize) -> Self {
        let n = agents.len();
        let bodies = [agents, landmarks].concat();
        Self {
            dialect,
            position: vec![[0.0; 2]; bodies.len()],
            bodies,
            velocity: vec![[0.0; 2]; n],
            force: vec![[0.0; 2]; n],
            said: vec![0.0; n * words],
            words,
        }
    }

    /// Number of agents.
    pub fn agents(&self) -> usize {
        self.velocity.len()
    }

    /// Positions of the landmarks.
    pub fn landmarks(&self) -> &[[f64; 2]] {
        &self.position[self.agents()..]
    }

    /// Words of agent `i`.
    pub fn words_of(&self, i: usize) -> &[f64] {
        &self.said[i * self.words..(i + 1) * self.words]
    }

    /// Vector from body `i` to body `j`.
    pub fn from_to(&self, i: usize, j: usize) -> [f64; 2] {
        [self.position[j][0] - self.position[i][0], self.position[j][1] - self.position[i][1]]
    }

    /// Distance of two bodies.
    pub fn distance(&self, i: usize, j: usize) -> f64 {
        let [x, y] = self.from_to(i, j);
        (x * x + y * y).sqrt()
    }

    /// Whether two bodies overlap.
    pub fn touch(&self, i: usize, j: usize) -> bool {
        self.distance(i, j) < self.bodies[i].radius + self.bodies[j].radius
    }

    /// Adds contact forces and moves the agents on by [`DT`].
    pub fn step(&mut self) {
        let agents = self.agents();
        for i in 0..agents {
            for j in i + 1..self.bodies.len() {
                let Some(force) = self.contact(i, j) else { continue };
                for axis in 0..2 {
                    self.force[i][axis] += force[axis];
                    if j < agents {
                        self.force[j][axis] -= force[axis];
                    }
                }
            }
        }
        for i in 0..agents {
            if self.bodies[i].force == 0.0 {
                continue;
            }
            let old = self.velocity[i];
            let mut v: [f64; 2] =
                std::array::from_fn(|axis| old[axis] * (1.0 - DAMPING) + self.force[i][axis] * DT);
            let speed = (v[0] * v[0] + v[1] * v[1]).sqrt();
            if speed > self.bodies[i].max_speed {
                v = v.map(|x| x / speed * self.bodies[i].max_speed);
            }
            let moves = if self.dialect == Dialect::V3 { old } else { v };
            self.velocity[i] = v;
            for axis in 0..2 {
                self.position[i][axis] += moves[axis] * DT;
            }
        }
    }

    /// Force of body `j` on body `i`, along the line between them: proportional to a soft maximum of 0 and the
    /// penetration. None at all where their centres coincide, which has no direction.
    fn contact(&self, i: usize, j: usize) -> Option<[f64; 2]> {
        let (a, b) = (&self.bodies[i], &self.bodies[j]);
        if !(a.collides && b.collides) {
            return None;
        }
        let [x, y] = self.from_to(j, i);
        let distance = (x * x + y * y).sqrt();
        let depth = (a.radius + b.radius - distance) / CONTACT_MARGIN;
        // Below exp(−40) the force is under 1e-18.
        if depth < -40.0 || distance == 0.0 {
            return None;
        }
        let penetration = (depth.max(0.0) + (-depth.abs()).exp().ln_1p()) * CONTACT_MARGIN;
        Some([x, y].map(|d| CONTACT_FORCE * d / distance * penetration))
    }
}
