//! Conformance checks: what [`crate::VecEnv`] and the agents take for granted about an [`Env`].
//!
//! Run [`check`] on your own environment:
//!
//! ```
//! use steadfast_envs::{check, classic};
//!
//! let results = check::check(&|| Box::new(classic::Pendulum::default()));
//! assert!(results.iter().all(|r| r.outcome.is_ok()));
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::rng::{Purpose, stream};
use crate::space::finite;
use crate::state::Array;
use crate::{AgentSpec, Env, Graph, Rng, Space, Spec, State, StateError, VecEnv};

/// What became of one check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckResult {
    /// What must hold.
    pub name: &'static str,
    /// Nothing, or how it failed.
    pub outcome: Result<(), String>,
}

type Make<'a> = &'a dyn Fn() -> Box<dyn Env>;
type Check = fn(Make) -> Result<(), String>;

const SPEC: (&str, Check) = ("the spec is sane", spec_is_sane);
const CHECKS: [(&str, Check); 9] = [
    ("observations and rewards keep to the spec", keeps_to_the_spec),
    ("extreme actions stay finite", survives_extremes),
    ("something moves", moves),
    ("the same stream gives the same trajectory", is_deterministic),
    ("a reset forgets the last episode", resets_fully),
    ("a loaded copy goes on bit for bit", resumes_exactly),
    ("a state that does not fit is refused", refuses_misfits),
    ("the time limit is left to the spec", leaves_time_alone),
    ("masks, central state and graph are sound", views_are_sound),
];

/// Steps of a trajectory; episodes that end on the way are followed by others.
const STEPS: usize = 500;

/// Runs every check on environments that `make` builds. A panic inside the environment is a failure
/// of the check that met it. When the spec itself is not sane, the other checks are not run.
pub fn check(make: &dyn Fn() -> Box<dyn Env>) -> Vec<CheckResult> {
    let run = |(name, check): (&'static str, Check)| {
        let outcome = catch_unwind(AssertUnwindSafe(|| check(make))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panicked: {}", text.unwrap_or("(no message)")))
        });
        CheckResult { name, outcome }
    };
    let spec = run(SPEC);
    let rest = if spec.outcome.is_ok() { CHECKS.as_slice() } else { &[] };
    std::iter::once(spec).chain(rest.iter().map(|c| run(*c))).collect()
}

/// One environment under test, its stream, and the numbers it wrote last.
struct Driver {
    env: Box<dyn Env>,
    spec: Spec,
    rng: Rng,
    /// Stream of the random actions, apart from the environment's own.
    choice: Rng,
    obs: Vec<f32>,
    reward: Vec<f64>,
    terminated: bool,
    length: usize,
}

/// What a task offers beside observations, as written in one state.
#[derive(PartialEq)]
struct Views {
    mask: Vec<bool>,
    state: Vec<f32>,
    nodes: Vec<f32>,
    adjacency: Vec<bool>,
    edges: Vec<f32>,
}

impl Views {
    /// Written over NaN and over `flags`, so that what is not written shows.
    fn of(env: &dyn Env, flags: bool) -> Self {
        let spec = env.spec();
        let agents = spec.agents.len();
        let (pairs, shape) = spec.graph.map_or((0, None), |shape| (agents * agents, Some(shape)));
        let (node_len, edge_len) = shape.map_or((0, 0), |s| (s.node_len, s.edge_len));
        let mut views = Self {
            mask: vec![flags; spec.mask_len()],
            state: vec![f32::NAN; spec.state_len],
            nodes: vec![f32::NAN; agents * node_len],
            adjacency: vec![flags; pairs],
            edges: vec![f32::NAN; pairs * edge_len],
        };
        if spec.masked {
            env.mask(&mut views.mask);
        }
        if spec.state_len > 0 {
            env.central_state(&mut views.state);
        }
        if shape.is_some() {
            let Views { nodes, adjacency, edges, .. } = &mut views;
            env.graph(Graph { nodes, adjacency, edges });
        }
        views
    }

    /// The numbers' and flags' bits.
    fn bits(&self) -> impl Iterator<Item = u64> {
        let numbers = self.state.iter().chain(&self.nodes).chain(&self.edges).map(|x| u64::from(x.to_bits()));
        numbers.chain(self.mask.iter().chain(&self.adjacency).map(|m| u64::from(*m)))
    }
}

impl Driver {
    /// A new environment, not yet reset.
    fn new(make: Make, seed: u64) -> Self {
        let env = make();
        let spec = env.spec().clone();
        let (obs, reward) = (vec![f32::NAN; spec.obs_len()], vec![f64::NAN; spec.agents.len()]);
        let (rng, choice) = (stream(seed, Purpose::Check, 0), stream(seed, Purpose::Check, 1));
        Self { env, spec, rng, choice, obs, reward, terminated: false, length: 0 }
    }

    /// A new environment, reset.
    fn started(make: Make, seed: u64) -> Self {
        let mut driver = Self::new(make, seed);
        driver.reset();
        driver
    }

    fn reset(&mut self) {
        // What is not written stays NaN, and is found out.
        self.obs.fill(f32::NAN);
        self.env.reset(&mut self.rng, &mut self.obs);
        self.length = 0;
    }

    /// Takes one step; an episode that has ended is followed by another first.
    fn step(&mut self, action: &[f64]) {
        if self.over() {
            self.reset();
        }
        self.obs.fill(f32::NAN);
        self.reward.fill(f64::NAN);
        self.terminated = self.env.step(action, &mut self.rng, &mut self.obs, &mut self.reward);
        self.length += 1;
    }

    fn over(&self) -> bool {
        self.length > 0 && (self.terminated || self.spec.max_steps.is_some_and(|limit| self.length >= limit))
    }

    fn step_at_random(&mut self) {
        if self.over() {
            self.reset();
        }
        let action = self.random_action();
        self.step(&action);
    }

    /// A random allowed action in the present state.
    fn random_action(&mut self) -> Vec<f64> {
        let mut mask = vec![false; self.spec.mask_len()];
        if self.spec.masked {
            self.env.mask(&mut mask);
        }
        let mut action = Vec::with_capacity(self.spec.action_len());
        random_action(&self.spec, &mask, &mut self.choice, &mut action);
        action
    }

    /// The bits of everything that `steps` random steps write.
    fn trajectory(&mut self, steps: usize) -> Vec<u64> {
        let mut bits = Vec::new();
        for _ in 0..steps {
            self.step_at_random();
            bits.extend(self.obs.iter().map(|x| u64::from(x.to_bits())));
            bits.extend(self.reward.iter().map(|x| x.to_bits()));
            bits.push(u64::from(self.terminated));
            bits.extend(Views::of(self.env.as_ref(), false).bits());
        }
        bits
    }

    fn saved(&self) -> State {
        let mut state = State::new();
        self.env.save(&mut state);
        state
    }

    /// Goes on from where `other` stands, by way of its saved state.
    fn load_from(&mut self, other: &Self) -> Result<(), StateError> {
        self.env.load(&other.saved())?;
        (self.rng, self.choice) = (other.rng.clone(), other.choice.clone());
        (self.terminated, self.length) = (other.terminated, other.length);
        Ok(())
    }

    /// Whether what was written last is finite and inside the spec's bounds.
    fn inspect_obs(&self) -> Result<(), String> {
        let bounds = self.spec.agents.iter().flat_map(|a| a.obs.bounds());
        for (i, (x, (low, high))) in self.obs.iter().zip(bounds).enumerate() {
            let x = f64::from(*x);
            within(x, low, high, 1e-6).map_err(|why| format!("observation {i} {why}"))?;
        }
        Ok(())
    }

    fn inspect_reward(&self) -> Result<(), String> {
        let (low, high) = self.spec.reward_range;
        for (i, r) in self.reward.iter().enumerate() {
            within(*r, low, high, 1e-9).map_err(|why| format!("reward of agent {i} {why}"))?;
        }
        Ok(())
    }

    fn inspect(&self) -> Result<(), String> {
        self.inspect_obs().and_then(|()| self.inspect_reward())
    }
}

/// Whether `x` is finite and in `low..=high`, up to a rounding of `slack` relative to the bound.
fn within(x: f64, low: f64, high: f64, slack: f64) -> Result<(), String> {
    let slack = |bound: f64| slack * (1.0 + bound.abs());
    if !x.is_finite() {
        Err(format!("is {x}, or was never written"))
    } else if x < low && x < low - slack(low) || x > high && x > high + slack(high) {
        Err(format!("is {x}, outside [{low}, {high}]"))
    } else {
        Ok(())
    }
}

/// Appends a random joint action that `mask` allows.
pub(crate) fn random_action(spec: &Spec, mask: &[bool], rng: &mut Rng, action: &mut Vec<f64>) {
    let mut rest = mask;
    for agent in &spec.agents {
        let flags = if spec.masked { agent.action.flags() } else { 0 };
        let (own, others) = rest.split_at(flags);
        rest = others;
        agent.action.sample(own, rng, action);
    }
}

fn spec_is_sane(make: Make) -> Result<(), String> {
    let env = make();
    let spec = env.spec();
    let fail = |why: &str| Err(why.to_owned());
    if spec.id.is_empty() {
        return fail("the id is empty");
    }
    if spec.agents.is_empty() {
        return fail("there is no agent");
    }
    for agent in &spec.agents {
        let named = |what, why| format!("{what} space of '{}': {why}", agent.name);
        if !matches!(agent.obs, Space::Box { .. }) {
            return Err(named("observation", "is not a box".to_owned()));
        }
        space_is_sane(&agent.obs).map_err(|why| named("observation", why))?;
        space_is_sane(&agent.action).map_err(|why| named("action", why))?;
    }
    let mut names: Vec<_> = spec.agents.iter().map(|a| &a.name).collect();
    names.sort();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return fail("two agents have the same name");
    }
    if spec.max_steps == Some(0) {
        return fail("the time limit is 0 steps");
    }
    if spec.masked && spec.mask_len() == 0 {
        return fail("masks are declared, but no agent has a discrete choice");
    }
    if spec.graph.is_some_and(|graph| graph.node_len == 0) {
        return fail("the nodes of the graph are empty");
    }
    if !ordered(spec.reward_range) {
        return Err(format!("the reward range {:?} is not ordered", spec.reward_range));
    }
    if make().spec() != spec {
        return fail("two environments of the same constructor have different specs");
    }
    Ok(())
}

fn space_is_sane(space: &Space) -> Result<(), String> {
    match space {
        Space::Box { low, high } if low.len() != high.len() => {
            Err(format!("{} lower bounds and {} upper ones", low.len(), high.len()))
        }
        Space::Discrete(0) => Err("no choice".to_owned()),
        Space::MultiDiscrete(n) if n.contains(&0) => Err("no choice".to_owned()),
        Space::Hybrid(parts) if !parts.is_empty() => parts.iter().try_for_each(space_is_sane),
        _ if space.is_empty() => Err("is empty".to_owned()),
        _ => match space.bounds().into_iter().find(|b| !ordered(*b)) {
            Some((low, high)) => Err(format!("bounds [{low}, {high}] are not ordered")),
            None => Ok(()),
        },
    }
}

/// Whether neither is NaN and there is room for a finite number between them.
fn ordered((low, high): (f64, f64)) -> bool {
    low <= high && low < f64::INFINITY && high > f64::NEG_INFINITY
}

fn keeps_to_the_spec(make: Make) -> Result<(), String> {
    for seed in 0..3 {
        let mut driver = Driver::new(make, seed);
        for _ in 0..20 {
            driver.reset();
            driver.inspect_obs().map_err(|why| format!("after a reset, {why}"))?;
        }
        for t in 0..STEPS {
            driver.step_at_random();
            driver.inspect().map_err(|why| format!("after step {t}, {why}"))?;
        }
    }
    Ok(())
}

fn survives_extremes(make: Make) -> Result<(), String> {
    let mut driver = Driver::started(make, 0);
    let bounds: Vec<_> = driver.spec.agents.iter().flat_map(|a| a.action.bounds()).collect();
    // An environment that clips by itself is handed what its policy drew.
    let scale = if driver.spec.clips_actions { 1e3 } else { 1.0 };
    let extreme = |highest: &dyn Fn(usize) -> bool| -> Vec<f64> {
        let choose = |(i, (low, high)): (usize, &(f64, f64))| {
            let (low, high) = finite(*low, *high, 1e3);
            scale * if highest(i) { high } else { low }
        };
        bounds.iter().enumerate().map(choose).collect()
    };
    let lowest = extreme(&|_| false);
    let highest = extreme(&|_| true);
    let mixed = extreme(&|i| i % 2 == 0);
    let pairs = [(&lowest, &lowest), (&highest, &highest), (&mixed, &mixed), (&lowest, &highest)];
    for (even, odd) in pairs {
        driver.reset();
        for t in 0..STEPS {
            let action = if t % 2 == 0 { even } else { odd };
            driver.step(action);
            driver.inspect().map_err(|why| format!("after step {t} of actions {even:?}, {odd:?}, {why}"))?;
        }
    }
    Ok(())
}

fn moves(make: Make) -> Result<(), String> {
    let mut driver = Driver::started(make, 0);
    driver.step_at_random();
    let (obs, reward) = (driver.obs.clone(), driver.reward.clone());
    for _ in 0..STEPS {
        driver.step_at_random();
        if driver.obs != obs || driver.reward != reward {
            return Ok(());
        }
    }
    Err(format!("{STEPS} random steps left every observation and reward as it was"))
}

fn is_deterministic(make: Make) -> Result<(), String> {
    let run = || Driver::started(make, 1).trajectory(STEPS);
    if run() == run() {
        Ok(())
    } else {
        Err("two environments with the same stream and actions parted".to_owned())
    }
}

fn resets_fully(make: Make) -> Result<(), String> {
    let fresh = Driver::started(make, 2).trajectory(STEPS);
    let mut used = Driver::started(make, 3);
    for episode in 0..3 {
        for _ in 0..2 * STEPS {
            used.step_at_random();
            if used.over() {
                break;
            }
        }
        (used.rng, used.choice) = (stream(2, Purpose::Check, 0), stream(2, Purpose::Check, 1));
        used.reset();
        if used.trajectory(STEPS) != fresh {
            return Err(format!(
                "after {} episodes, a reset did not start as a new environment does",
                episode + 1
            ));
        }
    }
    Ok(())
}

fn resumes_exactly(make: Make) -> Result<(), String> {
    for before in [0, 1, 5, 50] {
        let mut original = Driver::started(make, 4);
        original.trajectory(before);
        let mut fresh = Driver::new(make, 5);
        let mut used = Driver::started(make, 6);
        used.trajectory(20);
        for copy in [&mut fresh, &mut used] {
            copy.load_from(&original).map_err(|e| format!("its own state was refused: {e}"))?;
            if copy.saved() != original.saved() {
                return Err("what was loaded is not what is saved again".to_owned());
            }
        }
        let expected = original.trajectory(STEPS);
        if fresh.trajectory(STEPS) != expected {
            return Err(format!("a new copy, loaded after {before} steps, parted from the original"));
        }
        if used.trajectory(STEPS) != expected {
            return Err(format!("a used copy, loaded after {before} steps, parted from the original"));
        }
    }
    Ok(())
}

fn refuses_misfits(make: Make) -> Result<(), String> {
    let mut driver = Driver::started(make, 7);
    let saved = driver.saved();
    let mut refused = |state: &State, what: String| match driver.env.load(state) {
        Err(_) => Ok(()),
        Ok(()) => Err(format!("{what} was accepted")),
    };
    if saved.iter().next().is_some() {
        refused(&State::new(), "an empty state".to_owned())?;
    }
    for (name, array) in saved.iter() {
        for (longer, change) in [(true, "one value too many"), (false, "one value too few")] {
            if let Some(array) = resized(array, longer) {
                let mut state = saved.clone();
                state.put(name, array);
                refused(&state, format!("entry '{name}' with {change}"))?;
            }
        }
    }
    Ok(())
}

/// The array with one value more or one less; `None` where there is none to take.
fn resized(array: &Array, longer: bool) -> Option<Array> {
    fn of<T: Clone + Default>(values: &[T], longer: bool) -> Option<Vec<T>> {
        if longer {
            Some([values, &[T::default()]].concat())
        } else {
            values.split_last().map(|(_, rest)| rest.to_vec())
        }
    }
    match array {
        Array::F32(_, v) => of(v, longer).map(|v| Array::F32(vec![v.len()], v)),
        Array::F64(v) => of(v, longer).map(Array::F64),
        Array::U64(v) => of(v, longer).map(Array::U64),
    }
}

fn leaves_time_alone(make: Make) -> Result<(), String> {
    const COPIES: usize = 3;
    let mut envs = VecEnv::new(make, COPIES, 8, Purpose::Check, 1);
    let limit = envs.spec().max_steps;
    let mut choice = stream(8, Purpose::Check, COPIES as u64);
    let mut action = Vec::new();
    let mask_len = envs.spec().mask_len();
    for _ in 0..limit.unwrap_or(STEPS) {
        action.clear();
        for i in 0..COPIES {
            let mask = &envs.masks()[i * mask_len..(i + 1) * mask_len];
            random_action(envs.spec(), mask, &mut choice, &mut action);
        }
        let action: Vec<f32> = action.iter().map(|a| *a as f32).collect();
        envs.step(&action);
    }
    let truncated = envs.truncated().contains(&true);
    let episodes = envs.take_episodes();
    let Some(limit) = limit else {
        return if truncated { Err("an endless task was cut short".to_owned()) } else { Ok(()) };
    };
    if let Some(long) = episodes.iter().find(|e| e.length > limit) {
        return Err(format!("an episode of {} steps outlived the limit of {limit}", long.length));
    }
    // One episode may come to its own end in its last step by chance; all of them do not.
    if episodes.len() == COPIES && episodes.iter().all(|e| e.length == limit && e.terminated) {
        return Err(format!(
            "every episode terminated in step {limit}, its time limit: running out of time is not a \
             termination (if that end does belong to the task, raise `max_steps`)"
        ));
    }
    Ok(())
}

/// Masks leave something to choose, views are written whole and finite, and none of them changes anything. (That what a
/// mask allows is accepted and what it forbids is survived, the first two checks see.)
fn views_are_sound(make: Make) -> Result<(), String> {
    let mut driver = Driver::started(make, 9);
    let agents = driver.spec.agents.len();
    let named = |agent: &AgentSpec| {
        let name = |(i, n)| (format!("choice {i} of '{}'", agent.name), n);
        agent.action.choices().into_iter().enumerate().map(name).collect::<Vec<(String, usize)>>()
    };
    let choices: Vec<_> = driver.spec.agents.iter().flat_map(named).collect();
    for t in 0..STEPS {
        let fail = |why: String| Err(format!("after {t} steps, {why}"));
        let views = Views::of(driver.env.as_ref(), false);
        let mut rest = views.mask.as_slice();
        for (what, n) in choices.iter().filter(|_| driver.spec.masked) {
            let (own, others) = rest.split_at(*n);
            rest = others;
            if !own.contains(&true) {
                return fail(format!("the mask allows no value of {what}"));
            }
        }
        for (what, numbers) in
            [("the central state", &views.state), ("the nodes", &views.nodes), ("the edges", &views.edges)]
        {
            if let Some(i) = numbers.iter().position(|x| !x.is_finite()) {
                return fail(format!("number {i} of {what} is {}, or was never written", numbers[i]));
            }
        }
        if let Some(i) = (0..agents).find(|i| views.adjacency.get(i * agents + i) == Some(&false)) {
            return fail(format!("agent {i} does not hear itself"));
        }
        // Written over other flags it must come out the same: all was written, and nothing changed.
        if Views::of(driver.env.as_ref(), true) != views {
            return fail("a mask or a graph is not written whole, or not the same twice".to_owned());
        }
        driver.step_at_random();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GraphShape;
    use rand::RngExt as _;

    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        Spec,
        OutOfBounds,
        NotWritten,
        RewardOutOfRange,
        Extreme,
        Frozen,
        HiddenStream,
        ResetLeaks,
        SaveForgets,
        LoadForgives,
        LoadPanics,
        OwnTimeLimit,
        NothingAllowed,
        StateNotWritten,
        Deaf,
        MaskNotWritten,
    }

    /// A noisy walk that ends at ±5, with one thing wrong.
    struct Walk {
        spec: Spec,
        fault: Fault,
        position: f64,
        speed: f64,
        length: f64,
        nonce: f64,
    }

    impl Walk {
        fn new(fault: Fault) -> Self {
            let high = if fault == Fault::OutOfBounds { 1.0 } else { 8.0 };
            let obs = Space::Box { low: vec![-8.0, -3.0], high: vec![high, 3.0] };
            let action = Space::Hybrid(vec![Space::symmetric(&[1.0]), Space::Discrete(2)]);
            let mut spec = Spec {
                masked: true,
                state_len: 1,
                graph: Some(GraphShape { node_len: 1, edge_len: 1 }),
                ..Spec::single("walk", obs, action, Some(20))
            };
            spec.reward_range = if fault == Fault::RewardOutOfRange { (0.0, 0.5) } else { (-1.0, 1.0) };
            if fault == Fault::Spec {
                spec.agents[0].action = Space::uniform(1, 1.0, -1.0);
            }
            let nonce = if fault == Fault::HiddenStream {
                // A generator of its own: what a process-wide one would do.
                use std::sync::atomic::{AtomicU32, Ordering};
                static COUNT: AtomicU32 = AtomicU32::new(0);
                f64::from(COUNT.fetch_add(1, Ordering::Relaxed)) * 1e-3
            } else {
                0.0
            };
            Self { spec, fault, position: 0.0, speed: 0.0, length: 0.0, nonce }
        }

        fn observe(&self, obs: &mut [f32]) {
            let frozen = self.fault == Fault::Frozen;
            obs[0] = if frozen { 0.0 } else { self.position as f32 };
            if self.fault != Fault::NotWritten {
                obs[1] = if frozen { 0.0 } else { self.speed as f32 };
            }
        }
    }

    impl Env for Walk {
        fn spec(&self) -> &Spec {
            &self.spec
        }

        fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
            self.position = rng.random::<f64>();
            if self.fault != Fault::ResetLeaks {
                self.speed = 0.0;
            }
            self.length = 0.0;
            self.observe(obs);
        }

        fn step(&mut self, action: &[f64], rng: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
            let mut push = action[0];
            if self.fault == Fault::Extreme && push == 1.0 {
                push = f64::NAN;
            }
            self.speed = 0.5 * self.speed + 0.5 * push + 0.1 * rng.random::<f64>() + self.nonce.min(0.1);
            self.position += self.speed;
            self.length += 1.0;
            self.observe(obs);
            reward[0] = if self.fault == Fault::Frozen { 0.0 } else { push };
            self.position.abs() > 5.0 || self.fault == Fault::OwnTimeLimit && self.length == 20.0
        }

        /// The second value is allowed on the right side only.
        fn mask(&self, mask: &mut [bool]) {
            mask[0] = self.fault != Fault::NothingAllowed || self.position > 0.0;
            if self.fault != Fault::MaskNotWritten {
                mask[1] = self.position > 0.0;
            }
        }

        fn central_state(&self, state: &mut [f32]) {
            if self.fault != Fault::StateNotWritten || self.position > 0.0 {
                state[0] = self.position as f32;
            }
        }

        fn graph(&self, graph: Graph) {
            graph.nodes[0] = self.speed as f32;
            graph.adjacency[0] = self.fault != Fault::Deaf;
            graph.edges[0] = 0.0;
        }

        fn save(&self, state: &mut State) {
            let speed = if self.fault == Fault::SaveForgets { 0.0 } else { self.speed };
            state.put_f64("state", &[self.position, speed, self.length]);
        }

        fn load(&mut self, state: &State) -> Result<(), StateError> {
            if self.fault == Fault::LoadForgives && state.f64("state", 3).is_err() {
                return Ok(());
            }
            if self.fault == Fault::LoadPanics {
                assert!(state.f64("state", 3).is_ok(), "three numbers");
            }
            [self.position, self.speed, self.length] = state.f64_array("state")?;
            Ok(())
        }
    }

    fn failed(fault: Fault) -> Vec<(&'static str, String)> {
        let results = check(&|| Box::new(Walk::new(fault)));
        results.into_iter().filter_map(|r| r.outcome.err().map(|why| (r.name, why))).collect()
    }

    #[test]
    fn a_sound_environment_passes() {
        assert_eq!(failed(Fault::None), []);
    }

    #[test]
    fn every_check_finds_its_fault() {
        let cases = [
            (Fault::Spec, vec![SPEC.0]),
            (Fault::OutOfBounds, vec![CHECKS[0].0, CHECKS[1].0]),
            (Fault::NotWritten, vec![CHECKS[0].0, CHECKS[1].0]),
            (Fault::RewardOutOfRange, vec![CHECKS[0].0, CHECKS[1].0]),
            (Fault::Extreme, vec![CHECKS[1].0]),
            (Fault::Frozen, vec![CHECKS[2].0]),
            (Fault::HiddenStream, vec![CHECKS[3].0, CHECKS[4].0, CHECKS[5].0]),
            (Fault::ResetLeaks, vec![CHECKS[4].0]),
            (Fault::SaveForgets, vec![CHECKS[5].0]),
            (Fault::LoadForgives, vec![CHECKS[6].0]),
            (Fault::LoadPanics, vec![CHECKS[6].0]),
            (Fault::OwnTimeLimit, vec![CHECKS[7].0]),
            (Fault::StateNotWritten, vec![CHECKS[8].0]),
            (Fault::Deaf, vec![CHECKS[8].0]),
            (Fault::MaskNotWritten, vec![CHECKS[8].0]),
        ];
        for (fault, expected) in cases {
            let failures = failed(fault);
            let names: Vec<_> = failures.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, expected, "{failures:#?}");
        }
        let covered = CHECKS.len();
        assert_eq!(covered, 9, "a new check needs a fault of its own above");
    }

    #[test]
    fn a_mask_that_allows_nothing_is_named() {
        let why = views_are_sound(&|| Box::new(Walk::new(Fault::NothingAllowed))).unwrap_err();
        assert!(why.contains("allows no value of choice 0 of 'agent'"), "{why}");
    }

    #[test]
    fn a_panic_is_reported_with_its_message() {
        let why = failed(Fault::LoadPanics).remove(0).1;
        assert!(why.contains("panicked") && why.contains("three numbers"), "{why}");
    }

    #[test]
    fn insane_specs_are_named() {
        let insane = |change: fn(&mut Spec)| {
            let make = || -> Box<dyn Env> {
                let mut env = Walk::new(Fault::None);
                change(&mut env.spec);
                Box::new(env)
            };
            spec_is_sane(&make).unwrap_err()
        };
        assert!(insane(|s| s.agents.clear()).contains("no agent"));
        assert!(insane(|s| s.id.clear()).contains("id"));
        assert!(insane(|s| s.max_steps = Some(0)).contains("0 steps"));
        assert!(insane(|s| s.reward_range = (1.0, f64::NAN)).contains("reward range"));
        assert!(insane(|s| s.agents[0].obs = Space::Discrete(3)).contains("not a box"));
        assert!(insane(|s| s.agents[0].action = Space::Discrete(0)).contains("no choice"));
        assert!(insane(|s| s.agents[0].action = Space::Hybrid(vec![])).contains("empty"));
        assert!(insane(|s| s.agents[0].obs = Space::uniform(0, 0.0, 1.0)).contains("empty"));
        assert!(insane(|s| s.agents[0].action = Space::symmetric(&[1.0])).contains("masks"));
        assert!(insane(|s| s.graph = Some(GraphShape { node_len: 0, edge_len: 1 })).contains("nodes"));
        assert!(insane(|s| s.agents.push(s.agents[0].clone())).contains("same name"));
        assert!(insane(|s| s.agents[0].obs = Space::Box { low: vec![0.0], high: vec![] }).contains("upper"));
    }
}
