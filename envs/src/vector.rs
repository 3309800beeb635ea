//! Many copies of one environment, stepped together.
//!
//! [`VecEnv`] is the one place for time limits, automatic resets and episode statistics.
//! It resets in the same step in which an episode ends, and keeps the observation that the
//! episode ended with: agents bootstrap from it when the episode was only cut short by time.

use crate::rng::{self, Purpose, Rng};
use crate::{Env, Graph, Spec, State, StateError};

/// A finished episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// Environment copy that it ran in.
    pub copy: usize,
    /// Steps of all copies taken when it ended, its last one included.
    pub step: u64,
    /// Undiscounted return of each agent.
    pub returns: Vec<f64>,
    /// Length in steps.
    pub length: usize,
    /// Whether the task ended it (otherwise the time limit did).
    pub terminated: bool,
}

/// What becomes of a copy whose episode has ended, by Gymnasium's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Autoreset {
    /// It is reset in the same step, and the last observation is kept apart: what agents expect.
    #[default]
    SameStep,
    /// The next step resets it, whatever its action, and pays nothing.
    NextStep,
    /// Nothing: [`VecEnv::reset_where`] is the caller's to call.
    Disabled,
}

/// One environment with what belongs to it alone: its stream and its running episode.
struct Copy {
    env: Box<dyn Env>,
    rng: Rng,
    returns: Vec<f64>,
    length: usize,
    /// Action in `f64`, clipped to the action space.
    action: Vec<f64>,
    finished: Option<Episode>,
    /// The episode has ended and the next has not begun; never after a step of [`Autoreset::SameStep`].
    over: bool,
}

/// Copies of one environment, stepped together. Rows are copies; a joint observation holds all agents.
///
/// Results do not depend on the number of threads: each copy has its own stream and its own rows.
pub struct VecEnv {
    spec: Spec,
    copies: Vec<Copy>,
    pool: Option<rayon::ThreadPool>,
    autoreset: Autoreset,
    steps: u64,
    now: Views,
    last: Views,
    rewards: Vec<f64>,
    terminated: Vec<bool>,
    truncated: Vec<bool>,
    episodes: Vec<Episode>,
}

impl VecEnv {
    /// `copies` environments (at least one) made by `make` and reset; copy i draws from stream
    /// (`seed`, `purpose`, i). With `threads` > 1 the copies are stepped by that many threads.
    pub fn new(
        make: &dyn Fn() -> Box<dyn Env>,
        copies: usize,
        seed: u64,
        purpose: Purpose,
        threads: usize,
    ) -> Self {
        let first = make();
        let spec = first.spec().clone();
        let agents = spec.agents.len();
        let envs = std::iter::once(first).chain(std::iter::repeat_with(make)).take(copies.max(1));
        let copies: Vec<Copy> = envs
            .enumerate()
            .map(|(i, env)| Copy {
                env,
                rng: rng::stream(seed, purpose, i as u64),
                returns: vec![0.0; agents],
                length: 0,
                action: vec![0.0; spec.action_len()],
                finished: None,
                over: false,
            })
            .collect();
        let n = copies.len();
        // A pool that cannot start (no threads left) costs speed, never a result.
        let threads = threads.min(n);
        let pool = (threads > 1)
            .then(|| rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok())
            .flatten();
        let mut envs = Self {
            pool,
            autoreset: Autoreset::SameStep,
            steps: 0,
            now: Views::new(n, &spec),
            last: Views::new(n, &spec),
            rewards: vec![0.0; n * agents],
            terminated: vec![false; n],
            truncated: vec![false; n],
            episodes: Vec::new(),
            copies,
            spec,
        };
        envs.reset();
        envs
    }

    /// Lets copies whose episode has ended do as `mode` says from now on.
    pub fn set_autoreset(&mut self, mode: Autoreset) {
        self.autoreset = mode;
    }

    /// Sets the time limit in steps, in the place of the spec's.
    pub fn set_max_steps(&mut self, limit: Option<usize>) {
        self.spec.max_steps = limit;
    }

    /// Lets copy `i` draw from `rng` from now on.
    pub fn set_rng(&mut self, i: usize, rng: Rng) {
        self.copies[i].rng = rng;
    }

    /// Starts a new episode in every copy.
    pub fn reset(&mut self) {
        self.reset_where(|_| true);
    }

    /// Starts a new episode in every copy i of `which(i)`.
    pub fn reset_where(&mut self, which: impl Fn(usize) -> bool) {
        let mut rest = self.now.rows();
        for (i, copy) in self.copies.iter_mut().enumerate() {
            let (mut row, others) = rest.split_at(1);
            rest = others;
            if which(i) {
                copy.reset(&mut row);
            }
        }
    }

    /// Steps every copy with its row of `actions`, `[N, action_len]`, unclipped. Copies whose episode ends are
    /// reset at once, unless [`Self::set_autoreset`] said otherwise: [`Self::obs`] then holds the new episode's
    /// first observation and [`Self::final_obs`] the old one's last.
    pub fn step(&mut self, actions: &[f32]) {
        let n = self.copies.len();
        debug_assert_eq!(actions.len(), n * self.spec.action_len());
        let rule = Rule { spec: &self.spec, autoreset: self.autoreset, first: self.steps + 1 };
        let rows = Rows {
            copies: &mut self.copies,
            actions,
            now: self.now.rows(),
            last: self.last.rows(),
            rewards: &mut self.rewards,
            terminated: &mut self.terminated,
            truncated: &mut self.truncated,
        };
        match &self.pool {
            None => rows.step(0, &rule),
            // Chunks of rows, so that a cheap environment pays for one hand-over, not for N.
            Some(pool) => pool.install(|| rows.share(0, n.div_ceil(pool.current_num_threads()), &rule)),
        }
        self.steps += n as u64;
        self.episodes.extend(self.copies.iter_mut().filter_map(|c| c.finished.take()));
    }

    /// The task.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Times that the simulation of a copy ran away and was put back to its start.
    pub fn divergences(&self) -> u64 {
        self.copies.iter().map(|copy| copy.env.divergences()).sum()
    }

    /// Why the first copy that failed cannot go on, if one did.
    pub fn fault(&self) -> Option<&str> {
        self.copies.iter().find_map(|copy| copy.env.fault())
    }

    /// Copy `i`.
    pub fn env(&mut self, i: usize) -> &mut dyn Env {
        self.copies[i].env.as_mut()
    }

    /// Whether the episode of copy `i` has ended and its next has not begun.
    pub fn is_over(&self, i: usize) -> bool {
        self.copies[i].over
    }

    /// Number of copies, N.
    pub fn len(&self) -> usize {
        self.copies.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// Environment steps taken by all copies together.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Current observations, `[N, obs_len]`.
    pub fn obs(&self) -> &[f32] {
        &self.now.obs
    }

    /// Last observation of the episode that ended in each copy's latest ending, `[N, obs_len]`: meaningful where
    /// [`Self::terminated`] or [`Self::truncated`] is set.
    pub fn final_obs(&self) -> &[f32] {
        &self.last.obs
    }

    /// Choices allowed now, `[N, mask_len]`; empty where the task has no masks ([`Env::mask`]).
    pub fn masks(&self) -> &[bool] {
        &self.now.masks
    }

    /// Choices allowed where the latest episode of each copy ended, `[N, mask_len]`: meaningful when
    /// [`Self::final_obs`] is.
    pub fn final_masks(&self) -> &[bool] {
        &self.last.masks
    }

    /// Central states now, `[N, central_len]`: those of [`Env::central_state`], or else the joint observations.
    pub fn states(&self) -> &[f32] {
        self.now.central()
    }

    /// Central states in which the latest episodes ended, `[N, central_len]`: meaningful when [`Self::final_obs`] is.
    pub fn final_states(&self) -> &[f32] {
        self.last.central()
    }

    /// Nodes of the graphs now, `[N, agents, node_len]`; empty where the task has no graph ([`Env::graph`]).
    pub fn nodes(&self) -> &[f32] {
        &self.now.nodes
    }

    /// Who hears whom now, `[N, agents, agents]`; empty where the task has no graph.
    pub fn adjacency(&self) -> &[bool] {
        &self.now.adjacency
    }

    /// Edges of the graphs now, `[N, agents, agents, edge_len]`; empty where the task has no graph.
    pub fn edges(&self) -> &[f32] {
        &self.now.edges
    }

    /// Nodes, adjacency and edges of the graphs in which the latest episodes ended, as [`Self::nodes`],
    /// [`Self::adjacency`] and [`Self::edges`]: meaningful when [`Self::final_obs`] is.
    pub fn final_graph(&self) -> (&[f32], &[bool], &[f32]) {
        (&self.last.nodes, &self.last.adjacency, &self.last.edges)
    }

    /// What the last step of copy `i` was like ([`Env::info`]). Of a step that ended an episode nothing is left.
    pub fn info(&self, i: usize) -> Vec<(&'static str, f64)> {
        self.copies[i].env.info()
    }

    /// Rewards of the last step, `[N, agents]`.
    pub fn rewards(&self) -> &[f64] {
        &self.rewards
    }

    /// Copies whose task ended in the last step, `[N]`.
    pub fn terminated(&self) -> &[bool] {
        &self.terminated
    }

    /// Copies cut short by the time limit in the last step, `[N]`; never set together with
    /// [`Self::terminated`], which wins.
    pub fn truncated(&self) -> &[bool] {
        &self.truncated
    }

    /// Hands over the episodes finished since the last call, in order of their last step.
    pub fn take_episodes(&mut self) -> Vec<Episode> {
        std::mem::take(&mut self.episodes)
    }

    /// Saves every copy, its stream and its running episode. Take the finished episodes first.
    pub fn save(&self) -> State {
        let mut state = State::new();
        state.put_u64("steps", &[self.steps]);
        state.put_f32("obs", &self.now.obs);
        for (i, copy) in self.copies.iter().enumerate() {
            let mut s = State::new();
            copy.env.save(&mut s);
            let mut c = State::new();
            c.put_state("env", s);
            rng::save(&copy.rng, "rng", &mut c);
            c.put_f64("returns", &copy.returns);
            c.put_u64("length", &[copy.length as u64]);
            if copy.over {
                c.put_u64("over", &[1]);
            }
            state.put_state(&i.to_string(), c);
        }
        state
    }

    /// Restores what [`Self::save`] wrote into the same number of copies.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, state: &State) -> Result<(), StateError> {
        self.steps = state.u64("steps", 1)?[0];
        let obs_len = self.now.obs.len();
        self.now.obs.copy_from_slice(state.f32("obs", obs_len)?);
        let mut rest = self.now.rows();
        for (i, copy) in self.copies.iter_mut().enumerate() {
            let (mut row, others) = rest.split_at(1);
            rest = others;
            let c = state.state(&i.to_string());
            copy.env.load(&c.state("env"))?;
            copy.rng = rng::load("rng", &c)?;
            copy.returns = c.f64("returns", copy.returns.len())?.to_vec();
            copy.length = c.u64("length", 1)?[0] as usize;
            copy.over = c.contains("over");
            row.view(copy.env.as_ref());
        }
        self.episodes.clear();
        Ok(())
    }
}

/// What agents see of the copies, one row a copy; empty vectors stand for what the task does not offer.
struct Views {
    obs: Vec<f32>,
    masks: Vec<bool>,
    states: Vec<f32>,
    nodes: Vec<f32>,
    adjacency: Vec<bool>,
    edges: Vec<f32>,
    copies: usize,
}

/// Some rows of [`Views`].
struct ViewRows<'a> {
    obs: &'a mut [f32],
    masks: &'a mut [bool],
    states: &'a mut [f32],
    nodes: &'a mut [f32],
    adjacency: &'a mut [bool],
    edges: &'a mut [f32],
    copies: usize,
}

impl Views {
    fn new(copies: usize, spec: &Spec) -> Self {
        let agents = spec.agents.len();
        let (pairs, node_len, edge_len) = spec
            .graph
            .map_or((0, 0, 0), |g| (agents * agents, agents * g.node_len, agents * agents * g.edge_len));
        Self {
            obs: vec![0.0; copies * spec.obs_len()],
            masks: vec![true; copies * spec.mask_len()],
            states: vec![0.0; copies * spec.state_len],
            nodes: vec![0.0; copies * node_len],
            adjacency: vec![false; copies * pairs],
            edges: vec![0.0; copies * edge_len],
            copies,
        }
    }

    fn central(&self) -> &[f32] {
        if self.states.is_empty() { &self.obs } else { &self.states }
    }

    fn rows(&mut self) -> ViewRows<'_> {
        ViewRows {
            obs: &mut self.obs,
            masks: &mut self.masks,
            states: &mut self.states,
            nodes: &mut self.nodes,
            adjacency: &mut self.adjacency,
            edges: &mut self.edges,
            copies: self.copies,
        }
    }
}

impl<'a> ViewRows<'a> {
    /// The first `n` rows, and the others.
    fn split_at(self, n: usize) -> (Self, Self) {
        fn split<T>(rows: &mut [T], n: usize, of: usize) -> (&mut [T], &mut [T]) {
            rows.split_at_mut(rows.len() / of * n)
        }
        let of = self.copies;
        let (obs, obs_) = split(self.obs, n, of);
        let (masks, masks_) = split(self.masks, n, of);
        let (states, states_) = split(self.states, n, of);
        let (nodes, nodes_) = split(self.nodes, n, of);
        let (adjacency, adjacency_) = split(self.adjacency, n, of);
        let (edges, edges_) = split(self.edges, n, of);
        (
            Self { obs, masks, states, nodes, adjacency, edges, copies: n },
            Self {
                obs: obs_,
                masks: masks_,
                states: states_,
                nodes: nodes_,
                adjacency: adjacency_,
                edges: edges_,
                copies: of - n,
            },
        )
    }

    /// Writes everything but the observation of the one row.
    fn view(&mut self, env: &dyn Env) {
        if !self.masks.is_empty() {
            env.mask(self.masks);
        }
        if !self.states.is_empty() {
            env.central_state(self.states);
        }
        if !self.nodes.is_empty() {
            env.graph(Graph { nodes: self.nodes, adjacency: self.adjacency, edges: self.edges });
        }
    }
}

/// What holds for a step of every copy.
struct Rule<'a> {
    spec: &'a Spec,
    autoreset: Autoreset,
    /// Number of the step of copy 0, counting the steps of all copies.
    first: u64,
}

/// What some copies read and write in a step.
struct Rows<'a> {
    copies: &'a mut [Copy],
    actions: &'a [f32],
    now: ViewRows<'a>,
    /// Written only where an episode ends.
    last: ViewRows<'a>,
    rewards: &'a mut [f64],
    terminated: &'a mut [bool],
    truncated: &'a mut [bool],
}

impl Rows<'_> {
    /// The first `n` copies, and the others.
    fn split_at(self, n: usize) -> (Self, Self) {
        let of = self.copies.len();
        let (copies, copies_) = self.copies.split_at_mut(n);
        let (actions, actions_) = self.actions.split_at(self.actions.len() / of * n);
        let (now, now_) = self.now.split_at(n);
        let (last, last_) = self.last.split_at(n);
        let agents = self.rewards.len() / of;
        let (rewards, rewards_) = self.rewards.split_at_mut(agents * n);
        let (terminated, terminated_) = self.terminated.split_at_mut(n);
        let (truncated, truncated_) = self.truncated.split_at_mut(n);
        (
            Self { copies, actions, now, last, rewards, terminated, truncated },
            Self {
                copies: copies_,
                actions: actions_,
                now: now_,
                last: last_,
                rewards: rewards_,
                terminated: terminated_,
                truncated: truncated_,
            },
        )
    }

    /// Steps the copies, the first of which is number `start`, in tasks of at most `most` copies.
    fn share(self, start: usize, most: usize, rule: &Rule) {
        let n = self.copies.len();
        if n <= most {
            return self.step(start, rule);
        }
        // Whole tasks on the left, so that all but the last are full.
        let half = n.div_ceil(most) / 2 * most;
        let (left, right) = self.split_at(half);
        rayon::join(|| left.share(start, most, rule), || right.share(start + half, most, rule));
    }

    /// Steps the copies one after another.
    fn step(self, start: usize, rule: &Rule) {
        let mut rest = self;
        for i in start..start + rest.copies.len() {
            let (row, others) = rest.split_at(1);
            rest = others;
            if let Some((copy, _)) = row.copies.split_first_mut() {
                let ended = (&mut row.terminated[0], &mut row.truncated[0]);
                copy.step(i, row.actions, rule, row.now, row.last, row.rewards, ended);
            }
        }
    }
}

impl Copy {
    fn reset(&mut self, now: &mut ViewRows) {
        self.env.reset(&mut self.rng, now.obs);
        self.returns.fill(0.0);
        self.length = 0;
        self.over = false;
        now.view(self.env.as_ref());
    }

    fn step(
        &mut self,
        index: usize,
        action: &[f32],
        rule: &Rule,
        mut now: ViewRows,
        mut last: ViewRows,
        rewards: &mut [f64],
        (terminated, truncated): (&mut bool, &mut bool),
    ) {
        if self.over && rule.autoreset == Autoreset::NextStep {
            // A step that only starts the next episode.
            self.reset(&mut now);
            rewards.fill(0.0);
            (*terminated, *truncated) = (false, false);
            return;
        }
        rule.spec.clip(action, &mut self.action);
        *terminated = self.env.step(&self.action, &mut self.rng, now.obs, rewards);
        self.length += 1;
        self.returns.iter_mut().zip(&*rewards).for_each(|(sum, r)| *sum += r);
        // When both happen, terminated wins: there is nothing to bootstrap from.
        let late = rule.spec.max_steps.is_some_and(|limit| self.length >= limit);
        *truncated = !*terminated && (late || self.env.truncated());
        self.over = *terminated || *truncated;
        if self.over {
            last.obs.copy_from_slice(now.obs);
            last.view(self.env.as_ref());
            self.finished = Some(Episode {
                copy: index,
                step: rule.first + index as u64,
                returns: self.returns.clone(),
                length: self.length,
                terminated: *terminated,
            });
        }
        if self.over && rule.autoreset == Autoreset::SameStep {
            self.reset(&mut now);
        } else {
            now.view(self.env.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Space;
    use rand::Rng as _;

    /// Counts its steps, adds noise to the reward, and terminates at a random count.
    struct Counter {
        spec: Spec,
        count: f64,
        end: f64,
    }

    impl Counter {
        fn boxed(max_steps: usize) -> Box<dyn Env> {
            let spec = Spec::single(
                "counter",
                Space::uniform(1, 0.0, 1e3),
                Space::uniform(1, -1.0, 1.0),
                Some(max_steps),
            );
            Box::new(Self { spec, count: 0.0, end: 0.0 })
        }
    }

    impl Env for Counter {
        fn spec(&self) -> &Spec {
            &self.spec
        }
        fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
            self.count = 0.0;
            self.end = f64::from(rng.next_u32() % 7 + 3);
            obs[0] = 0.0;
        }
        fn step(&mut self, action: &[f64], rng: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
            self.count += 1.0;
            obs[0] = self.count as f32;
            reward[0] = action[0] + f64::from(rng.next_u32() % 10);
            self.count >= self.end
        }
        fn save(&self, state: &mut State) {
            state.put_f64("state", &[self.count, self.end]);
        }
        fn load(&mut self, state: &State) -> Result<(), StateError> {
            [self.count, self.end] = state.f64_array("state")?;
            Ok(())
        }
    }

    fn run(envs: &mut VecEnv, steps: usize) -> (Vec<f32>, Vec<Episode>) {
        let mut seen = Vec::new();
        for t in 0..steps {
            let actions: Vec<f32> = (0..envs.len()).map(|i| (t + i) as f32 * 0.1 - 1.0).collect();
            envs.step(&actions);
            seen.extend_from_slice(envs.obs());
            seen.extend(envs.rewards().iter().map(|r| *r as f32));
        }
        (seen, envs.take_episodes())
    }

    #[test]
    fn threads_never_change_a_result() {
        let result =
            |threads| run(&mut VecEnv::new(&|| Counter::boxed(6), 13, 5, Purpose::Env, threads), 200);
        assert_eq!(result(1), result(2));
        assert_eq!(result(1), result(5));
    }

    #[test]
    fn the_time_limit_truncates_and_termination_wins() {
        let mut envs = VecEnv::new(&|| Counter::boxed(6), 8, 0, Purpose::Env, 1);
        let mut endings = [0, 0];
        for _ in 0..500 {
            let before: Vec<f32> = envs.obs().to_vec();
            envs.step(&[0.0; 8]);
            for i in 0..8 {
                let (terminated, truncated) = (envs.terminated()[i], envs.truncated()[i]);
                assert!(!(terminated && truncated));
                endings[0] += usize::from(terminated);
                endings[1] += usize::from(truncated);
                if terminated || truncated {
                    assert_eq!(envs.final_obs()[i], before[i] + 1.0, "the last observation is kept");
                    assert_eq!(envs.obs()[i], 0.0, "and the next episode has begun");
                } else {
                    assert_eq!(envs.obs()[i], before[i] + 1.0);
                }
            }
        }
        assert!(endings[0] > 100 && endings[1] > 100, "{endings:?}");
        for e in envs.take_episodes() {
            assert!(e.length <= 6 && (e.terminated || e.length == 6));
        }
    }

    #[test]
    fn a_copy_that_has_ended_waits_as_its_mode_says() {
        let new = |mode| {
            let mut envs = VecEnv::new(&|| Counter::boxed(6), 4, 2, Purpose::Env, 1);
            envs.set_autoreset(mode);
            envs
        };
        let (mut same, mut next, mut off) =
            (new(Autoreset::SameStep), new(Autoreset::NextStep), new(Autoreset::Disabled));
        let mut ended = 0;
        for _ in 0..200 {
            for envs in [&mut same, &mut next, &mut off] {
                envs.step(&[0.0; 4]);
            }
            for i in 0..4 {
                assert_eq!(next.is_over(i), next.terminated()[i] || next.truncated()[i]);
                if next.is_over(i) {
                    ended += 1;
                    assert_eq!(next.obs()[i], next.final_obs()[i]);
                }
            }
            // A step for those that wait, in which the others do not move.
            let over: Vec<bool> = (0..4).map(|i| next.is_over(i)).collect();
            if over.iter().any(|o| *o) {
                let mut held = new(Autoreset::NextStep);
                held.load(&next.save()).unwrap();
                held.step(&[0.0; 4]);
                for i in (0..4).filter(|i| over[*i]) {
                    assert_eq!((held.obs()[i], held.rewards()[i], held.is_over(i)), (0.0, 0.0, false));
                }
                assert_eq!(off.obs(), next.obs());
                off.reset_where(|i| over[i]);
                next.reset_where(|i| over[i]);
            }
            assert_eq!((off.obs(), next.obs()), (same.obs(), same.obs()));
            assert_eq!((off.rewards(), next.rewards()), (same.rewards(), same.rewards()));
        }
        assert!(ended > 100, "{ended}");
    }

    #[test]
    fn actions_are_clipped_to_the_box() {
        let mut envs = VecEnv::new(&|| Counter::boxed(6), 1, 0, Purpose::Env, 1);
        envs.step(&[0.5]);
        let inside = envs.rewards()[0].fract();
        envs.step(&[7.0]);
        assert_eq!((inside, envs.rewards()[0].fract()), (0.5, 0.0));
    }

    /// Two agents that count together; the count is the central state, and it forbids the choices below it.
    struct Shared {
        spec: Spec,
        count: usize,
    }

    impl Shared {
        fn boxed() -> Box<dyn Env> {
            let single = Spec::single("s", Space::uniform(1, 0.0, 9.0), Space::Discrete(4), Some(3));
            let mut spec = Spec {
                masked: true,
                state_len: 1,
                graph: Some(crate::GraphShape { node_len: 1, edge_len: 2 }),
                ..single
            };
            spec.agents.push(crate::AgentSpec { name: "other".to_owned(), ..spec.agents[0].clone() });
            Box::new(Self { spec, count: 0 })
        }
    }

    impl Env for Shared {
        fn spec(&self) -> &Spec {
            &self.spec
        }
        fn reset(&mut self, _: &mut Rng, obs: &mut [f32]) {
            self.count = 0;
            obs.fill(0.0);
        }
        fn step(&mut self, _: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
            self.count += 1;
            obs.fill(self.count as f32);
            reward.copy_from_slice(&[1.0, 2.0]);
            false
        }
        fn mask(&self, mask: &mut [bool]) {
            mask.iter_mut().enumerate().for_each(|(i, m)| *m = i % 4 >= self.count);
        }
        fn central_state(&self, state: &mut [f32]) {
            state[0] = self.count as f32;
        }
        fn graph(&self, graph: Graph) {
            graph.nodes.copy_from_slice(&[self.count as f32, 10.0]);
            graph.adjacency.fill(true);
            graph.edges.fill(self.count as f32);
        }
        fn save(&self, state: &mut State) {
            state.put_u64("count", &[self.count as u64]);
        }
        fn load(&mut self, state: &State) -> Result<(), StateError> {
            self.count = state.u64("count", 1)?[0] as usize;
            Ok(())
        }
    }

    #[test]
    fn masks_states_and_graphs_belong_to_the_observation_beside_them() {
        for threads in [1, 2] {
            let new = || VecEnv::new(&Shared::boxed, 5, 0, Purpose::Check, threads);
            let mut envs = new();
            for t in 1..=7 {
                envs.step(&[3.0; 10]);
                let now = (t % 3) as f32;
                let allowed = |count: f32| (0..8).map(|i| (i % 4) as f32 >= count).collect::<Vec<_>>();
                assert_eq!(envs.states(), [now; 5]);
                assert_eq!(envs.masks(), allowed(now).repeat(5));
                assert_eq!(envs.nodes(), [now, 10.0].repeat(5));
                assert_eq!((envs.adjacency(), envs.edges()), ([true; 20].as_slice(), [now; 40].as_slice()));
                if t % 3 == 0 {
                    assert_eq!((envs.obs(), envs.final_obs()), ([0.0; 10].as_slice(), [3.0; 10].as_slice()));
                    assert_eq!(envs.final_states(), [3.0; 5]);
                    assert_eq!(envs.final_masks(), allowed(3.0).repeat(5));
                    assert_eq!(envs.final_graph().0, [3.0, 10.0].repeat(5));
                    assert_eq!(envs.final_graph().2, [3.0; 40]);
                }
            }
            let mut loaded = new();
            loaded.load(&envs.save()).unwrap();
            assert_eq!((loaded.states(), loaded.masks()), (envs.states(), envs.masks()));
            let episodes = envs.take_episodes();
            assert_eq!(episodes.len(), 10);
            let steps: Vec<u64> = episodes.iter().map(|e| e.step).collect();
            assert_eq!(steps, [11, 12, 13, 14, 15, 26, 27, 28, 29, 30]);
            assert_eq!(episodes[0].returns, [3.0, 6.0]);
        }
    }

    #[test]
    fn a_loaded_copy_goes_on_bit_for_bit() {
        let new = || VecEnv::new(&|| Counter::boxed(6), 4, 9, Purpose::Env, 1);
        let mut envs = new();
        run(&mut envs, 57);
        let state = envs.save();
        let mut other = new();
        other.load(&state).unwrap();
        assert_eq!(run(&mut envs, 100), run(&mut other, 100));
        assert!(VecEnv::new(&|| Counter::boxed(6), 5, 9, Purpose::Env, 1).load(&state).is_err());
    }
}
