//! Multi-agent particle tasks: discs in a plane that cover, guide, tell and chase.
//!
//! They equal MPE2 1.1.1 (dialect `v3`) and PettingZoo 1.22.3 (dialect `v2`) step by step, to 1e-12
//! (`tests/particle.rs`). One file a task; [`Dialect`] tells the versions apart, whose returns differ by a
//! factor of up to nine: a score without its dialect means nothing, and [`crate::compare::table`] prints it
//! with the scores of simple policies beside it.
//!
//! An action of an agent that moves is one of five moves (nothing, −x, +x, −y, +y), or five numbers from 0 to 1
//! of which the differences push ([`Dialect`] says which way); words follow, as a one-hot vector or as numbers.
//! The central state is the joint observation, as in PettingZoo. Graph: everyone hears everyone; a node is
//! velocity, position, and 1 for the prey of a chase; an edge is the vector to the other and its length.
//!
//! Every task saves its whole physical state as one array called `state`: positions and velocities of the
//! agents, positions of the landmarks, words, goals.
//!
//! Source: R. Lowe et al., *Multi-agent actor-critic for mixed cooperative-competitive environments*, 2017;
//! I. Mordatch and P. Abbeel, *Emergence of grounded compositional language in multi-agent populations*, 2018.

mod reference;
mod speaker_listener;
mod spread;
mod tag;
pub mod world;

pub use reference::Reference;
pub use speaker_listener::SpeakerListener;
pub use spread::Spread;
pub use tag::Tag;

use rand::RngExt as _;
use world::{Body, DAMPING, DT, World};

use crate::options::{Options, choice};
use crate::pen::Pen;
use crate::scene::{Paint, Shape, ball, line};
use crate::{AgentSpec, Env, Graph, GraphShape, Rng, Scene, Space, Spec, State, StateError};

choice! {
    /// Versions of `spread`.
    pub enum Dialect: "v3, v2 or original" {
        /// MPE2, PettingZoo from 1.23, JaxMARL: a position moves with the velocity *before* the step; numbers
        /// of an action push as the moves do: a₂ − a₁, a₄ − a₃.
        V3 = "v3",
        /// PettingZoo up to 1.22, HARL: a position moves with the new velocity; numbers push the other way, a₁
        /// − a₂; in `spread` an agent collides with itself.
        V2 = "v2",
        /// Multiagent-particle-envs, on-policy, EPyMARL: as `v2`, but moves go the other way too, and all
        /// agents share the *sum* of their rewards.
        Original = "original",
    }
}

choice! {
    /// Versions of the other tasks; see [`Dialect`].
    pub enum TwoDialects: "v3 or v2" {
        /// MPE2.
        V3 = "v3",
        /// PettingZoo up to 1.22.
        V2 = "v2",
    }
}

impl From<TwoDialects> for Dialect {
    fn from(dialect: TwoDialects) -> Self {
        match dialect {
            TwoDialects::V3 => Self::V3,
            TwoDialects::V2 => Self::V2,
        }
    }
}

/// What all tasks leave to their user.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Version.
    pub dialect: Dialect,
    /// Whether actions are numbers.
    pub continuous: bool,
    /// Time limit in steps.
    pub max_cycles: usize,
}

/// What makes a task of the shared world.
pub trait Scenario: Options + Send + Sync + 'static {
    /// Registered name.
    const ID: &'static str;
    /// Goals that are drawn for an episode, each a landmark.
    const GOALS: usize = 0;
    /// Half the side of the square in which landmarks start.
    const LANDMARK_REACH: f64 = 1.0;
    /// Name of the comparator that knows everything.
    const INFORMED: &'static str;

    /// What all tasks leave to their user.
    fn rules(&self) -> Rules;
    /// Bodies, and the size of the vocabulary.
    fn world(&self) -> World;
    /// Name of an agent, and whether it speaks.
    fn role(&self, agent: usize) -> (String, bool);
    /// Appends what `agent` sees.
    fn observe(&self, world: &World, goals: &[usize], agent: usize, pen: &mut Pen);
    /// Writes the rewards.
    fn reward(&self, world: &World, goals: &[usize], reward: &mut [f64]);
    /// Where each agent goes that knows everything, and the word that it then says.
    fn advise(&self, world: &World, goals: &[usize]) -> Vec<([f64; 2], usize)>;
    /// Whether an agent is chased.
    fn is_prey(&self, _agent: usize) -> bool {
        false
    }
    /// Lines of the picture beside the bodies.
    fn links(&self, _world: &World, _goals: &[usize]) -> Vec<Shape> {
        Vec::new()
    }
}

/// A particle task: the bodies move, its [`Scenario`] says what is seen and paid.
pub struct Particle<S> {
    spec: Spec,
    task: S,
    world: World,
    goals: Vec<usize>,
    /// Whether each agent has a voice.
    speaks: Vec<bool>,
}

/// More numbers than any observation has.
const LONGEST: usize = 1024;

impl<S: Scenario> Particle<S> {
    /// The task with these options.
    pub fn new(task: S) -> Self {
        let (world, goals) = (task.world(), vec![0; S::GOALS]);
        let agent = |i: usize| {
            // The observation is as long as what is written of it.
            let mut scratch = [0.0; LONGEST];
            let mut pen = Pen::on(&mut scratch, f64::INFINITY);
            task.observe(&world, &goals, i, &mut pen);
            let len = LONGEST - pen.left();
            let (name, speaks) = task.role(i);
            let (moves, words) = (world.bodies[i].force > 0.0, if speaks { world.words } else { 0 });
            let action = if task.rules().continuous {
                Space::uniform(if moves { MOVES } else { 0 } + words, 0.0, 1.0)
            } else {
                Space::Discrete(if moves { MOVES } else { 1 } * words.max(1))
            };
            AgentSpec { name, obs: Space::uniform(len, f32::NEG_INFINITY, f32::INFINITY), action }
        };
        let agents: Vec<AgentSpec> = (0..world.agents()).map(agent).collect();
        let spec = Spec {
            id: S::ID.to_owned(),
            agents,
            max_steps: Some(task.rules().max_cycles),
            reward_threshold: None,
            reward_range: (f64::NEG_INFINITY, f64::INFINITY),
            clips_actions: false,
            masked: false,
            state_len: 0,
            graph: Some(GraphShape { node_len: 5, edge_len: 3 }),
        };
        let speaks = (0..world.agents()).map(|i| task.role(i).1).collect();
        Self { spec, task, world, goals, speaks }
    }

    fn observe(&self, obs: &mut [f32]) {
        let mut pen = Pen::on(obs, f64::INFINITY);
        for agent in 0..self.world.agents() {
            self.task.observe(&self.world, &self.goals, agent, &mut pen);
        }
    }

    /// Turns the joint action into forces and words.
    fn decode(&mut self, action: &[f64]) {
        let (world, Rules { dialect, continuous, .. }) = (&mut self.world, self.task.rules());
        let mut rest = action;
        for i in 0..world.agents() {
            let (own, others) = rest.split_at(self.spec.agents[i].action.len());
            rest = others;
            let force = world.bodies[i].force;
            let said = &mut world.said[i * world.words..(i + 1) * world.words];
            let (push, words) = match (continuous, force > 0.0) {
                (true, true) => (pushed(dialect, own), &own[MOVES..]),
                (true, false) => ([0.0; 2], own),
                (false, moves) => {
                    let (choice, values) = (own[0] as usize, if moves { MOVES } else { 1 });
                    if self.speaks[i] {
                        said.fill(0.0);
                        said.iter_mut().skip(choice / values).take(1).for_each(|word| *word = 1.0);
                    }
                    (moved(dialect, choice % values), &own[..0])
                }
            };
            if continuous && self.speaks[i] {
                said.copy_from_slice(words);
            }
            world.force[i] = push.map(|u| u * force);
        }
    }

    /// Writes the action of agent `i` that coasts closest to `target`, and says `word`.
    fn head_for(&self, i: usize, target: [f64; 2], word: usize, action: &mut [f64]) {
        let (world, dialect) = (&self.world, self.task.rules().dialect);
        let force = world.bodies[i].force;
        let values = if force > 0.0 { MOVES } else { 1 };
        // With no further push a body goes DT v (1 + (1 − DAMPING) + …) after a step.
        let coast = DT / DAMPING;
        let early = if dialect == Dialect::V3 { DT } else { 0.0 };
        let reach = early + coast * (1.0 - DAMPING);
        let short: [f64; 2] = std::array::from_fn(|axis| {
            target[axis] - world.position[i][axis] - reach * world.velocity[i][axis]
        });
        let gain = coast * DT * force;
        if self.task.rules().continuous {
            action.fill(0.0);
            if force > 0.0 {
                for axis in 0..2 {
                    let u = (short[axis] / gain).clamp(-1.0, 1.0);
                    let along = if (u > 0.0) == (dialect == Dialect::V3) { 2 } else { 1 };
                    action[2 * axis + along] = u.abs();
                }
            }
            if self.speaks[i] {
                action[if force > 0.0 { MOVES } else { 0 } + word] = 1.0;
            }
        } else {
            let missed = |choice: &usize| {
                let push = moved(dialect, *choice);
                (short[0] - gain * push[0]).hypot(short[1] - gain * push[1])
            };
            let best = (0..values).min_by(|a, b| missed(a).total_cmp(&missed(b))).unwrap_or(0);
            action[0] = (best + if self.speaks[i] { values * word } else { 0 }) as f64;
        }
    }
}

/// Moves of an agent: none, and two along each axis.
const MOVES: usize = 5;

/// Direction of a move.
fn moved(dialect: Dialect, choice: usize) -> [f64; 2] {
    let unit = if dialect == Dialect::Original { 1.0 } else { -1.0 };
    match choice {
        1 => [unit, 0.0],
        2 => [-unit, 0.0],
        3 => [0.0, unit],
        4 => [0.0, -unit],
        _ => [0.0; 2],
    }
}

/// Direction and strength of a push given as numbers.
fn pushed(dialect: Dialect, a: &[f64]) -> [f64; 2] {
    let push = [a[2] - a[1], a[4] - a[3]];
    if dialect == Dialect::V3 { push } else { push.map(|u| -u) }
}

impl<S: Scenario> Env for Particle<S> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        let agents = self.world.agents();
        for goal in &mut self.goals {
            *goal = rng.random_range(0..(self.world.bodies.len() - agents) as u32) as usize;
        }
        for (i, position) in self.world.position.iter_mut().enumerate() {
            let reach = if i < agents { 1.0 } else { S::LANDMARK_REACH };
            *position = std::array::from_fn(|_| reach * (2.0 * rng.random::<f64>() - 1.0));
        }
        self.world.velocity.fill([0.0; 2]);
        self.world.said.fill(0.0);
        self.observe(obs);
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        self.decode(action);
        self.world.step();
        self.observe(obs);
        self.task.reward(&self.world, &self.goals, reward);
        false
    }

    fn graph(&self, graph: Graph) {
        let (world, agents) = (&self.world, self.world.agents());
        graph.adjacency.fill(true);
        for (i, node) in graph.nodes.chunks_exact_mut(5).enumerate() {
            let ([vx, vy], [x, y]) = (world.velocity[i], world.position[i]);
            let prey = if self.task.is_prey(i) { 1.0 } else { 0.0 };
            node.copy_from_slice(&[vx, vy, x, y, prey].map(|x| x as f32));
        }
        for (pair, edge) in graph.edges.chunks_exact_mut(3).enumerate() {
            let [x, y] = world.from_to(pair / agents, pair % agents);
            edge.copy_from_slice(&[x, y, x.hypot(y)].map(|x| x as f32));
        }
    }

    fn comparators(&self) -> &'static [&'static str] {
        &[IDLE, S::INFORMED]
    }

    fn comparator_action(&self, name: &str, _: &mut Rng, action: &mut [f64]) -> bool {
        if name != IDLE && name != S::INFORMED {
            return false;
        }
        action.fill(0.0);
        let mut rest = action;
        let advice =
            (name == S::INFORMED).then(|| self.task.advise(&self.world, &self.goals)).into_iter().flatten();
        for (i, (target, word)) in advice.enumerate() {
            let (own, others) = rest.split_at_mut(self.spec.agents[i].action.len());
            rest = others;
            self.head_for(i, target, word, own);
        }
        true
    }

    fn save(&self, state: &mut State) {
        let world = &self.world;
        let (agents, landmarks) = world.position.split_at(world.agents());
        let goals: Vec<f64> = self.goals.iter().map(|goal| *goal as f64).collect();
        let parts = [
            agents.as_flattened(),
            world.velocity.as_flattened(),
            landmarks.as_flattened(),
            &world.said,
            &goals,
        ];
        state.put_f64("state", &parts.concat());
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        let world = &mut self.world;
        let (agents, bodies) = (world.velocity.len(), world.bodies.len());
        let values = state.f64("state", 2 * (agents + bodies) + world.said.len() + self.goals.len())?;
        let invalid = |why: String| StateError::Invalid { name: "state".to_owned(), why };
        if let Some(i) = values.iter().position(|x| !x.is_finite()) {
            return Err(invalid(format!("value {i} is {}", values[i])));
        }
        let (moving, rest) = values.split_at(2 * agents);
        let (velocity, rest) = rest.split_at(2 * agents);
        let (still, rest) = rest.split_at(2 * (bodies - agents));
        let (said, goals) = rest.split_at(world.said.len());
        if let Some(goal) = goals.iter().find(|g| !Space::Discrete(bodies - agents).contains(&[**g])) {
            return Err(invalid(format!("{goal} is no landmark")));
        }
        let (first, others) = world.position.split_at_mut(agents);
        first.as_flattened_mut().copy_from_slice(moving);
        others.as_flattened_mut().copy_from_slice(still);
        world.velocity.as_flattened_mut().copy_from_slice(velocity);
        world.said.copy_from_slice(said);
        self.goals.iter_mut().zip(goals).for_each(|(to, from)| *to = *from as usize);
        Ok(())
    }

    /// Agents and landmarks from above; lines from each agent to where its goal is.
    fn scene(&self) -> Option<Scene> {
        let world = &self.world;
        let agents = world.agents();
        let frame = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]];
        let mut shapes = vec![line(frame, Paint::Still)];
        let disc = |i: usize| {
            let paint = match i {
                _ if i >= agents && world.bodies[i].collides => Paint::Still,
                _ if i >= agents => Paint::Goal,
                _ if self.task.is_prey(i) || world.bodies[i].force == 0.0 => Paint::Accent,
                _ => Paint::Body,
            };
            ball(world.position[i], world.bodies[i].radius, paint)
        };
        shapes.extend((agents..world.bodies.len()).chain(0..agents).map(disc));
        shapes.extend(self.task.links(world, &self.goals));
        Some(Scene::side([0.0; 2], 3.0, 3.0, DT, shapes))
    }
}

/// The comparator that neither moves nor speaks (of choices it makes the first).
const IDLE: &str = "no-op";

/// A body that moves and that others bounce off.
fn disc(radius: f64, force: f64, max_speed: f64) -> Body {
    Body { radius, collides: true, force, max_speed }
}
