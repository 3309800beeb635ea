//! `hierarchy/tree`: descend a b-ary tree to its best leaf.
//!
//! - Levels: the b^h subtrees below depth h (`held_depth`), in an order that `level_seed` shuffles. The last quarter, rounded
//!   up, is held out. An episode starts at the root of one of them, drawn evenly.
//! - Action: one of the b children. After `depth` − h steps a leaf is reached and the episode terminates.
//! - Observation: the path from the root of the whole tree, seen through a fixed random projection. Each edge (its depth i
//!   and choice c) has a vector e(i, c) of `features` numbers N(0, 1/depth); the observation is the sum of those on
//!   the path, plus N(0, `noise`²) drawn anew at every step. Squared distances are thus about
//!   proportional to the edges by which two paths differ.
//! - Reward: at the leaf alone. Edge i has the value w(i, choice before, choice), uniform in [0, 1] and drawn once from
//!   `level_seed`. The reward is the sum of the episode's edges, scaled so that the worst leaf of the subtree gives
//!   0 and the best 1. What is worth taking depends on the choice before, in the same way in every subtree: what is
//!   learnt in some holds in the others.
//!
//! Comparator `oracle`: dynamic programming, return 1.

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rand_distr::{Distribution as _, StandardNormal};

use super::{Count, Levels, Several};
use crate::options::{Few, Options as _, Scale, options};
use crate::rng::{Purpose, stream};
use crate::scene::{Paint, ball, line};
use crate::{Env, OptionError, Rng, Scene, Space, Spec, State, StateError};

options! {
    /// What `hierarchy/tree` leaves to its user.
    pub struct TreeOptions {
        /// Children of a node, b.
        branching: Several = Several(3),
        /// Edges from the root to a leaf.
        depth: Few = Few(8),
        /// Depth of the roots of the levels, h.
        held_depth: Few = Few(3),
        /// Numbers of an observation.
        features: Few = Few(32),
        /// Standard deviation of the noise of an observation.
        noise: Scale = Scale(0.1),
        /// Levels to play.
        levels: Levels = Levels::Train,
        /// How many of the training levels are played; 0: all.
        num_levels: Count = Count(0),
        /// What the tree is drawn from.
        level_seed: Count = Count(0),
    }
}

/// Most leaves of a tree.
const MOST_LEAVES: usize = 1_000_000;

impl TreeOptions {
    /// The options with the `given` keys and values.
    ///
    /// # Errors
    /// For an unknown option, a value that it does not take, and values that do not go together.
    pub fn given(id: &str, given: &[(&str, &str)]) -> Result<Self, OptionError> {
        let options = Self::of(id, given)?;
        let (b, depth, held, count) =
            (options.branching.0, options.depth.0, options.held_depth.0, options.num_levels.0);
        let leaves = b.checked_pow(depth as u32).filter(|n| *n <= MOST_LEAVES);
        let why = if leaves.is_none() {
            format!("branching = {b} to the power of depth = {depth} are more than {MOST_LEAVES} leaves")
        } else if held >= depth {
            format!("held_depth = {held} must be less than depth = {depth}")
        } else if count > options.training() {
            format!("num_levels = {count} are more than the {} training levels", options.training())
        } else {
            return Ok(options);
        };
        Err(OptionError::Conflict { env: id.to_owned(), why })
    }

    /// Subtrees that are not held out.
    fn training(&self) -> usize {
        let all = self.branching.0.pow(self.held_depth.0 as u32);
        all - all.div_ceil(4)
    }
}

/// The task of this module.
pub struct Tree {
    spec: Spec,
    options: TreeOptions,
    /// Levels that are played: the choices that lead to each, as the digits of a number in base b.
    roots: Vec<usize>,
    /// e(i, c), `[depth, b, features]`.
    edges: Vec<f32>,
    /// w(i, before, c), `[depth, b, b]`; the choice before the first is 0.
    values: Vec<f64>,
    /// Most that can be had from depth i after that choice, `[depth + 1, b]`.
    best: Vec<f64>,
    /// Least.
    worst: Vec<f64>,
    path: Vec<usize>,
    /// Sum of the vectors on the path.
    clean: Vec<f32>,
    /// Sum of the values of the episode's edges.
    sum: f64,
}

impl Tree {
    /// The task with these options, as [`TreeOptions::given`] checked them.
    pub fn new(id: &str, options: TreeOptions) -> Self {
        let (b, depth, features) = (options.branching.0, options.depth.0, options.features.0);
        let mut rng = stream(options.level_seed.0 as u64, Purpose::Level, 0);
        let mut roots: Vec<usize> = (0..b.pow(options.held_depth.0 as u32)).collect();
        roots.shuffle(&mut rng);
        let test = roots.split_off(options.training());
        match options.levels {
            Levels::Test => roots = test,
            Levels::Train if options.num_levels.0 > 0 => roots.truncate(options.num_levels.0),
            Levels::Train => {}
        }
        let scale = 1.0 / (depth as f64).sqrt();
        let mut gauss = || {
            let z: f64 = StandardNormal.sample(&mut rng);
            (scale * z) as f32
        };
        let edges = (0..depth * b * features).map(|_| gauss()).collect();
        let values: Vec<f64> = (0..depth * b * b).map(|_| rng.random()).collect();
        let ends = |pick: fn(f64, f64) -> f64, start: f64| {
            let mut table = vec![0.0; (depth + 1) * b];
            for row in (0..depth * b).rev() {
                let below = (row / b + 1) * b;
                table[row] = (0..b).map(|c| values[row * b + c] + table[below + c]).fold(start, pick);
            }
            table
        };
        let (best, worst) = (ends(f64::max, f64::NEG_INFINITY), ends(f64::min, f64::INFINITY));
        let obs = Space::uniform(features, f32::NEG_INFINITY, f32::INFINITY);
        // The limit is never reached.
        let limit = depth - options.held_depth.0 + 1;
        let spec = Spec {
            reward_threshold: Some(0.95),
            reward_range: (0.0, 1.0),
            ..Spec::single(id, obs, Space::Discrete(b), Some(limit))
        };
        let (path, clean) = (Vec::with_capacity(depth), vec![0.0; features]);
        Self { spec, options, roots, edges, values, best, worst, path, clean, sum: 0.0 }
    }

    /// Goes to the root of a level.
    fn enter(&mut self, root: usize) {
        let (b, held) = (self.options.branching.0, self.options.held_depth.0);
        self.path.clear();
        self.clean.fill(0.0);
        (0..held).for_each(|i| self.descend(root / b.pow((held - 1 - i) as u32) % b));
        self.sum = 0.0;
    }

    /// Index of the present (depth, choice before).
    fn row(&self) -> usize {
        self.path.len() * self.options.branching.0 + self.path.last().copied().unwrap_or(0)
    }

    /// Follows an edge.
    fn descend(&mut self, choice: usize) {
        let (b, features) = (self.options.branching.0, self.options.features.0);
        self.sum += self.values[self.row() * b + choice];
        let edge = (self.path.len() * b + choice) * features;
        self.clean.iter_mut().zip(&self.edges[edge..edge + features]).for_each(|(x, e)| *x += e);
        self.path.push(choice);
    }

    fn observe(&self, rng: &mut Rng, obs: &mut [f32]) {
        obs.copy_from_slice(&self.clean);
        if self.options.noise.0 > 0.0 {
            let noise = self.options.noise.0 as f32;
            for x in obs {
                let z: f32 = StandardNormal.sample(rng);
                *x += noise * z;
            }
        }
    }
}

impl Env for Tree {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.enter(self.roots[rng.random_range(0..self.roots.len())]);
        self.observe(rng, obs);
    }

    fn step(&mut self, action: &[f64], rng: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let (b, depth, held) = (self.options.branching.0, self.options.depth.0, self.options.held_depth.0);
        if self.path.len() < depth {
            self.descend((action[0] as usize).min(b - 1));
        }
        let over = self.path.len() == depth;
        reward[0] = 0.0;
        if over {
            let start = held * b + self.path[held - 1];
            let (best, worst) = (self.best[start], self.worst[start]);
            reward[0] = ((self.sum - worst) / (best - worst)).clamp(0.0, 1.0);
        }
        self.observe(rng, obs);
        over
    }

    fn save(&self, state: &mut State) {
        state.put_u64("length", &[self.path.len() as u64]);
        let padded = self.path.iter().copied().chain(std::iter::repeat(0)).take(self.options.depth.0);
        state.put_u64("path", &padded.map(|c| c as u64).collect::<Vec<_>>());
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        let (b, depth, held) = (self.options.branching.0, self.options.depth.0, self.options.held_depth.0);
        let invalid = |name: &str, why: String| Err(StateError::Invalid { name: name.to_owned(), why });
        let length = state.u64("length", 1)?[0];
        let path = state.u64("path", depth)?;
        // An environment that was never reset has no path.
        if length != 0 && !(held as u64..=depth as u64).contains(&length) {
            return invalid("length", format!("{length} is not from {held} to {depth}"));
        }
        let path = &path[..length as usize];
        if let Some(choice) = path.iter().find(|c| **c >= b as u64) {
            return invalid("path", format!("choice {choice} of {b}"));
        }
        if path.is_empty() {
            self.path.clear();
            return Ok(());
        }
        let root = path[..held].iter().fold(0, |n, c| n * b + *c as usize);
        if !self.roots.contains(&root) {
            return invalid("path", format!("subtree {root} is not among the levels that are played"));
        }
        self.enter(root);
        path[held..].iter().for_each(|c| self.descend(*c as usize));
        Ok(())
    }

    fn comparators(&self) -> &'static [&'static str] {
        &["oracle"]
    }

    fn comparator_action(&self, name: &str, _: &mut Rng, action: &mut [f64]) -> bool {
        let b = self.options.branching.0;
        if name != "oracle" {
            return false;
        }
        let (row, below) = (self.row(), (self.path.len() + 1) * b);
        let worth = |c: usize| self.values[row * b + c] + self.best[below + c];
        action[0] = 0.0;
        if self.path.len() < self.options.depth.0 {
            action[0] = (0..b).max_by(|a, c| worth(*a).total_cmp(&worth(*c))).unwrap_or(0) as f64;
        }
        true
    }

    /// The subtree, its nodes breadth first: every level has the same.
    fn state_graph(&self) -> Option<Vec<Vec<usize>>> {
        let (b, edges) = (self.options.branching.0, self.options.depth.0 - self.options.held_depth.0);
        let inner: usize = (0..edges as u32).map(|i| b.pow(i)).sum();
        let nodes = inner + b.pow(edges as u32);
        let neighbours = |v: usize| {
            let parent = (v > 0).then(|| (v - 1) / b);
            let children = if v < inner { b * v + 1..b * v + b + 1 } else { 0..0 };
            parent.into_iter().chain(children).collect()
        };
        Some((0..nodes).map(neighbours).collect())
    }

    /// The path, and at each of its nodes the children that it passed by.
    fn scene(&self) -> Option<Scene> {
        let (b, depth) = (self.options.branching.0, self.options.depth.0);
        let x = |c: usize| 2.0 * c as f64 / (b - 1) as f64 - 1.0;
        let mut shapes = Vec::new();
        let mut at = [0.0, 0.0];
        for (i, choice) in self.path.iter().enumerate() {
            let child = |c: usize| [x(c), -(i as f64 + 1.0)];
            shapes.extend((0..b).map(|c| line([at, child(c)], Paint::Still)));
            shapes.push(line([at, child(*choice)], Paint::Accent));
            at = child(*choice);
        }
        shapes.push(ball(at, 0.25, Paint::Body));
        let below = depth as f64;
        Some(Scene::side([0.0, -below / 2.0], 3.0, below + 1.0, 0.5, shapes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gromov;

    const ID: &str = "hierarchy/tree";

    fn tree(given: &[(&str, &str)]) -> Tree {
        Tree::new(ID, TreeOptions::given(ID, given).unwrap())
    }

    #[test]
    fn the_oracle_is_the_best_of_all_leaves_and_the_worst_gives_nothing() {
        for levels in ["train", "test"] {
            let mut env = tree(&[("depth", "6"), ("held_depth", "2"), ("levels", levels)]);
            let (mut rng, mut obs, mut reward) = (stream(0, Purpose::Check, 0), vec![0.0; 32], [0.0]);
            for root in env.roots.clone() {
                let mut returns = Vec::new();
                for leaf in 0..81usize {
                    env.enter(root);
                    let ended = (0..4).map(|i| {
                        env.step(&[(leaf / 3usize.pow(i) % 3) as f64], &mut rng, &mut obs, &mut reward)
                    });
                    assert_eq!(ended.collect::<Vec<_>>(), [false, false, false, true]);
                    returns.push(reward[0]);
                }
                assert_eq!(returns.iter().copied().fold(f64::INFINITY, f64::min), 0.0);
                env.enter(root);
                let mut action = [0.0];
                for _ in 0..4 {
                    assert!(env.comparator_action("oracle", &mut rng.clone(), &mut action));
                    env.step(&action, &mut rng, &mut obs, &mut reward);
                }
                let best = returns.iter().copied().fold(0.0, f64::max);
                assert!(reward[0] == best && (best - 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn held_out_subtrees_are_never_trained_on() {
        let (train, test) = (tree(&[]), tree(&[("levels", "test")]));
        assert_eq!((train.roots.len(), test.roots.len()), (20, 7));
        assert!(test.roots.iter().all(|r| !train.roots.contains(r)));
        let few = tree(&[("num_levels", "5")]);
        assert_eq!(few.roots, train.roots[..5]);
        let mut env = tree(&[("levels", "test")]);
        let mut rng = stream(1, Purpose::Check, 0);
        for _ in 0..200 {
            env.reset(&mut rng, &mut [0.0; 32]);
            let root = env.path.iter().fold(0, |n, c| 3 * n + c);
            assert!(test.roots.contains(&root));
        }
        let mut state = State::new();
        env.save(&mut state);
        assert!(tree(&[]).load(&state).is_err(), "a held-out level is loaded into training");
    }

    #[test]
    fn its_graph_is_a_tree() {
        let mut rng = stream(2, Purpose::Check, 0);
        let small = tree(&[("branching", "2"), ("depth", "7")]).state_graph().unwrap();
        assert_eq!(small.len(), 31);
        let measured = gromov::of_graph(&small, &mut rng).unwrap();
        assert_eq!((measured.delta, measured.diameter, measured.exact), (0.0, 8.0, true));
        let large = gromov::of_graph(&tree(&[]).state_graph().unwrap(), &mut rng).unwrap();
        assert_eq!((large.delta, large.exact), (0.0, false));
    }

    #[test]
    fn what_is_seen_of_two_paths_tells_how_many_edges_they_share() {
        let mut env = tree(&[("features", "64"), ("noise", "0")]);
        let mut seen = |root: usize| {
            env.enter(root);
            env.clean.clone()
        };
        let (a, near, far) = (seen(0), seen(1), seen(13));
        let apart = |b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / 64.0;
        // Paths 000, 001 and 111: one and three edges, each 2 / depth.
        assert!((apart(&near) - 0.25).abs() < 0.12, "{}", apart(&near));
        assert!((apart(&far) - 0.75).abs() < 0.25, "{}", apart(&far));
    }

    #[test]
    fn bad_options_are_one_clear_error_each() {
        let error = |key, value| TreeOptions::given(ID, &[(key, value)]).unwrap_err().to_string();
        for (key, value, part) in [
            ("branching", "0", "'branching' takes a whole number from 2 to 64"),
            ("depth", "0", "'depth' takes a whole number from 1 to 64"),
            ("depth", "20", "more than 1000000 leaves"),
            ("held_depth", "8", "held_depth = 8 must be less than depth = 8"),
            ("num_levels", "21", "more than the 20 training levels"),
            ("levels", "validation", "'levels' takes train or test"),
            ("noise", "-1", "'noise' takes"),
        ] {
            assert!(error(key, value).contains(part), "{}", error(key, value));
        }
    }
}
