//! A critic of all players at once that watches the graph of who hears whom: what it saw of a rollout, and what it remembers.

use std::ops::Range;

use rand::seq::SliceRandom;
use steadfast_envs::{Rng, Spec, State, StateError, VecEnv};

use super::View;
use crate::core::adam::Adam;
use crate::core::advantages::explained_variance;
use crate::core::device::Device;
use crate::core::graph_critic::{GraphCritic, Scenes, Shape};
use crate::core::loss::SquaredError;
use crate::core::on_policy::CriticFit;

/// Heads of the attention, where they divide the width.
const HEADS: usize = 4;

/// The critic with a rollout of T steps of N copies.
pub(super) struct Onlooker {
    pub critic: GraphCritic,
    /// The observation of each player in a joint one.
    obs: Vec<Range<usize>>,
    obs_len: usize,
    /// Length of the longest.
    longest: usize,
    /// Whether players differ, so that a node says whose it is.
    unequal: bool,
    /// Whether it looks at the task's graph; otherwise all hear all.
    graph: bool,
    node_len: usize,
    /// Memories `[N, n, W]` now, and at the start of the rollout.
    memory: Vec<f32>,
    first_memory: Vec<f32>,
    /// Copies whose next step begins an episode, `[N]`.
    starts: Vec<bool>,
    scenes: Scenes,
    /// The scene after the last step.
    last: Scenes,
    /// The last scenes of truncated episodes, one step of as many copies, and when they were.
    finals: Scenes,
    cut: Vec<(usize, usize)>,
    /// V and R of the rollout, `[T, N, n]`.
    values: Vec<f32>,
    returns: Vec<f32>,
    order: Vec<u32>,
}

impl Onlooker {
    /// A fresh critic as `view` says, of this width, for N copies.
    pub fn new(view: View, width: usize, copies: usize, spec: &Spec, rng: &mut Rng, device: &Device) -> Self {
        let mut obs = Vec::new();
        let mut end = 0;
        for agent in &spec.agents {
            obs.push(end..end + agent.obs.len());
            end += agent.obs.len();
        }
        let longest = obs.iter().map(|range| range.len()).max().unwrap_or(0);
        let unequal = spec.agents.iter().any(|agent| agent.obs != spec.agents[0].obs);
        let shown = spec.graph.filter(|_| view != View::Attention);
        let agents = spec.agents.len();
        let node_len = longest + shown.map_or(0, |g| g.node_len) + if unequal { agents } else { 0 };
        let shape = Shape {
            agents,
            node_len,
            edge_len: shown.map_or(0, |g| g.edge_len),
            width,
            heads: if width.is_multiple_of(HEADS) { HEADS } else { 1 },
            recurrent: matches!(view, View::Graph | View::GraphMean),
            attention: view != View::GraphMean,
        };
        let critic = GraphCritic::new(shape, rng, device);
        let memory = vec![0.0; copies * critic.memory_len()];
        Self {
            obs,
            obs_len: end,
            longest,
            unequal,
            graph: shown.is_some(),
            node_len,
            first_memory: memory.clone(),
            memory,
            starts: vec![true; copies],
            scenes: Scenes::default(),
            last: Scenes::default(),
            finals: Scenes::default(),
            cut: Vec::new(),
            values: Vec::new(),
            returns: Vec::new(),
            order: Vec::new(),
            critic,
        }
    }

    fn agents(&self) -> usize {
        self.obs.len()
    }

    /// Adds what one copy shows: normalised joint observation, and its graph.
    fn show(&self, obs: &[f32], (nodes, adjacency, edges): (&[f32], &[bool], &[f32]), to: &mut Scenes) {
        let n = self.agents();
        let own = nodes.len() / n;
        for (i, range) in self.obs.iter().enumerate() {
            let end = to.nodes.len() + self.node_len;
            to.nodes.extend_from_slice(&obs[range.clone()]);
            to.nodes.resize(to.nodes.len() + self.longest - range.len(), 0.0);
            if self.unequal {
                to.nodes.extend((0..n).map(|j| f32::from(u8::from(i == j))));
            }
            if self.graph {
                to.nodes.extend_from_slice(&nodes[i * own..(i + 1) * own]);
            }
            debug_assert_eq!(to.nodes.len(), end);
        }
        if self.graph {
            to.adjacency.extend_from_slice(adjacency);
            to.edges.extend_from_slice(edges);
        } else {
            to.adjacency.resize(to.adjacency.len() + n * n, true);
        }
    }

    /// Row `i` of the graphs of all copies.
    fn graph_of<'a>(
        all: (&'a [f32], &'a [bool], &'a [f32]),
        i: usize,
        n: usize,
    ) -> (&'a [f32], &'a [bool], &'a [f32]) {
        fn row<X>(all: &[X], i: usize, n: usize) -> &[X] {
            &all[i * (all.len() / n)..(i + 1) * (all.len() / n)]
        }
        (row(all.0, i, n), row(all.1, i, n), row(all.2, i, n))
    }

    /// Begins a rollout.
    pub fn begin(&mut self) {
        self.scenes.clear();
        self.finals.clear();
        self.cut.clear();
        self.first_memory.clone_from(&self.memory);
    }

    /// Sees the present of all copies, with their normalised joint observations `[N, obs_len]`: before each step, and, as
    /// the `last`, after the rollout.
    pub fn look(&mut self, envs: &VecEnv, obs: &[f32], last: bool) {
        let mut scenes = std::mem::take(if last { &mut self.last } else { &mut self.scenes });
        if last {
            scenes.clear();
        }
        let all = (envs.nodes(), envs.adjacency(), envs.edges());
        for (i, obs) in obs.chunks_exact(self.obs_len).enumerate() {
            self.show(obs, Self::graph_of(all, i, envs.len()), &mut scenes);
        }
        scenes.starts.extend_from_slice(&self.starts);
        *(if last { &mut self.last } else { &mut self.scenes }) = scenes;
    }

    /// Sees how copies ended, after a step; the normalised final joint observations of those cut short come in order.
    pub fn ends(&mut self, envs: &VecEnv, final_obs: &[f32]) {
        let n = envs.len();
        let step = self.scenes.starts.len() / n - 1;
        let mut finals = std::mem::take(&mut self.finals);
        let cut = (0..n).filter(|i| envs.truncated()[*i]);
        for (i, obs) in cut.zip(final_obs.chunks_exact(self.obs_len)) {
            self.show(obs, Self::graph_of(envs.final_graph(), i, n), &mut finals);
            finals.starts.push(false);
            self.cut.push((step, i));
        }
        self.finals = finals;
        let ended = envs.terminated().iter().zip(envs.truncated());
        self.starts.clear();
        self.starts.extend(ended.map(|(terminated, truncated)| *terminated || *truncated));
    }

    /// V of the rollout, of the last scenes and of the final ones, each `[rows, n]`; remembers the rollout.
    pub fn values(&mut self) -> (&[f32], Vec<f32>, Vec<f32>) {
        let len = self.critic.memory_len();
        let (mut then, mut cut) = (Vec::new(), self.cut.iter().peekable());
        self.values.clear();
        self.critic.values(&self.scenes, &mut self.memory, &mut self.values, |step, memory| {
            while let Some((_, copy)) = cut.next_if(|(at, _)| *at == step) {
                then.extend_from_slice(&memory[copy * len..(copy + 1) * len]);
            }
        });
        let (mut last, mut finals) = (Vec::new(), Vec::new());
        self.critic.values(&self.last, &mut self.memory.clone(), &mut last, |_, _| ());
        if !then.is_empty() {
            self.critic.values(&self.finals, &mut then, &mut finals, |_, _| ());
        }
        (&self.values, last, finals)
    }

    /// Takes the returns `[T, N]` of player `i`, all players in turn.
    pub fn learn_from(&mut self, i: usize, returns: &[f32]) {
        let n = self.agents();
        self.returns.resize(returns.len() * n, 0.0);
        self.returns.chunks_exact_mut(n).zip(returns).for_each(|(row, ret)| row[i] = *ret);
    }

    /// Share of the returns' variance that V explained before the update.
    pub fn explained(&self) -> Option<f64> {
        explained_variance(&self.values, &self.returns)
    }

    /// Passes over shuffled minibatches, whole copies of about as many rows as asked for.
    pub fn fit(&mut self, adam: &mut Adam, fit: &CriticFit, lr: f64, rng: &mut Rng) {
        let copies = self.starts.len();
        let steps = self.scenes.starts.len() / copies;
        let size = (fit.minibatch / steps).clamp(1, copies);
        let loss = SquaredError { clip: fit.clip, weight: 1.0 };
        for _ in 0..fit.epochs {
            self.order.clear();
            self.order.extend(0..copies as u32);
            self.order.shuffle(rng);
            for picked in self.order.chunks(size) {
                let targets = (self.returns.as_slice(), self.values.as_slice());
                self.critic.grad(&self.scenes, &self.first_memory, targets, picked, &loss);
                adam.step(&mut self.critic.weights, lr);
            }
        }
    }

    /// E[(V − R)²] over the rollout.
    pub fn error(&mut self) -> f64 {
        let mut values = Vec::new();
        self.critic.values(&self.scenes, &mut self.first_memory.clone(), &mut values, |_, _| ());
        let squares = values.iter().zip(&self.returns).map(|(v, r)| f64::from(v - r).powi(2));
        squares.sum::<f64>() / values.len() as f64
    }

    /// Saves weights and memories.
    pub fn save(&self, state: &mut State) {
        self.critic.save("critic", state);
        state.put_f32("critic.memory", &self.memory);
        let starts: Vec<u64> = self.starts.iter().map(|s| u64::from(*s)).collect();
        state.put_u64("critic.starts", &starts);
    }

    /// Restores what [`Self::save`] wrote.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, state: &State) -> Result<(), StateError> {
        self.critic.load("critic", state)?;
        self.memory = state.f32("critic.memory", self.memory.len())?.to_vec();
        self.starts = state.u64("critic.starts", self.starts.len())?.iter().map(|s| *s != 0).collect();
        Ok(())
    }
}
