//! Probes: tiny tasks whose best return is known, each of which exposes one kind of agent bug.
//!
//! An agent that fails a probe is broken; no tuning excuses it. Going down the list, each probe adds
//! one thing that can go wrong, so the first failure names the suspect.
//!
//! | probe | best return | a failure points to |
//! |---|---|---|
//! | `probe/bandit` | 1 | sign of the loss, advantages of single steps, sampling of discrete actions |
//! | `probe/bandit-continuous` | 0 | log-probability of the Gaussian head, exploration that never shrinks |
//! | `probe/identity-discrete` | 8 | observations and actions paired wrongly in the batch |
//! | `probe/identity-continuous` | 0 | the same, for a continuous head; observation normalisation |
//! | `probe/multi-discrete` | 8 | log-probabilities not added over the parts of an action, parts mixed up |
//! | `probe/two-step` | 1 | credit: advantages, returns and Q-targets that do not reach one step back |
//! | `probe/coordination` | 8 | several agents: rows or actions of one given to another |
//! | `probe/recall` | 1 | a memory lost, or carried from one episode into the next; ½ without one |
//! | `probe/endless` | 10 | time limits taken for terminations: the value must be 1/(1 − γ) |

use rand::RngExt as _;
use rand_distr::StandardNormal;

use crate::{AgentSpec, Env, Rng, Space, Spec, State, StateError};

/// Steps of an episode of the identity probes.
pub const IDENTITY_STEPS: usize = 8;
/// Mean rewards of the arms of `probe/bandit`.
pub const BANDIT_MEANS: [f64; 4] = [0.0, 0.5, 1.0, -1.0];
/// Standard deviation of the reward noise of both bandits.
pub const BANDIT_NOISE: f64 = 0.5;
/// Best action of `probe/bandit-continuous`.
pub const BANDIT_TARGET: f64 = 0.6;
/// Steps of an episode of `probe/recall`.
pub const RECALL_STEPS: usize = 4;
/// Steps after which `probe/endless` is cut short.
pub const ENDLESS_STEPS: usize = 10;

/// Expected return of the best policy of the probe of that id.
pub fn optimal_return(id: &str) -> Option<f64> {
    match id {
        "probe/bandit" => Some(BANDIT_MEANS.into_iter().fold(f64::NEG_INFINITY, f64::max)),
        "probe/bandit-continuous" | "probe/identity-continuous" => Some(0.0),
        "probe/identity-discrete" | "probe/multi-discrete" | "probe/coordination" => {
            Some(IDENTITY_STEPS as f64)
        }
        "probe/two-step" | "probe/recall" => Some(1.0),
        "probe/endless" => Some(ENDLESS_STEPS as f64),
        _ => None,
    }
}

/// Value of every state of `probe/endless` under any policy, where time limits are bootstrapped: 1/(1 − γ).
///
/// An agent that takes the time limit for a termination finds less, at most (1 − γ¹⁰)/(1 − γ).
pub fn endless_value(gamma: f64) -> f64 {
    1.0 / (1.0 - gamma)
}

/// Writes the indices `state` as one-hot vectors of `sizes`, one after another.
fn one_hot(state: &[f64], sizes: &[usize], obs: &mut [f32]) {
    obs.fill(0.0);
    let mut start = 0;
    for (index, size) in state.iter().zip(sizes) {
        obs[start + *index as usize] = 1.0;
        start += size;
    }
}

/// An index below `n` saved as `value`, or what is wrong with it.
fn checked_index(value: f64, n: usize) -> Result<f64, StateError> {
    if Space::Discrete(n).contains(&[value]) {
        Ok(value)
    } else {
        Err(StateError::Invalid { name: "state".to_owned(), why: format!("{value} is no index below {n}") })
    }
}

/// `probe/identity-discrete` and `probe/multi-discrete`: name the indices that are shown.
///
/// Observation: each index as a one-hot vector, drawn uniformly and anew at every step. Reward: the
/// fraction of indices named rightly. Never terminates; [`IDENTITY_STEPS`] steps.
pub struct Identity {
    spec: Spec,
    sizes: Vec<usize>,
    state: Vec<f64>,
}

impl Identity {
    /// One index below 4.
    pub fn discrete() -> Self {
        Self::new("probe/identity-discrete", vec![4], Space::Discrete(4))
    }

    /// Two indices, below 3 and below 4.
    pub fn multi_discrete() -> Self {
        Self::new("probe/multi-discrete", vec![3, 4], Space::MultiDiscrete(vec![3, 4]))
    }

    fn new(id: &str, sizes: Vec<usize>, action: Space) -> Self {
        let obs = Space::uniform(sizes.iter().sum(), 0.0, 1.0);
        let spec = Spec { reward_range: (0.0, 1.0), ..Spec::single(id, obs, action, Some(IDENTITY_STEPS)) };
        Self { spec, state: vec![0.0; sizes.len()], sizes }
    }
}

impl Env for Identity {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        for (index, size) in self.state.iter_mut().zip(&self.sizes) {
            *index = rng.random_range(0..*size as u32).into();
        }
        one_hot(&self.state, &self.sizes, obs);
    }

    fn step(&mut self, action: &[f64], rng: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let right = action.iter().zip(&self.state).filter(|(a, s)| a == s).count();
        reward[0] = right as f64 / self.state.len() as f64;
        self.reset(rng, obs);
        false
    }

    fn save(&self, state: &mut State) {
        state.put_f64("state", &self.state);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        let values = state.f64("state", self.sizes.len())?.iter().zip(&self.sizes);
        self.state = values.map(|(value, size)| checked_index(*value, *size)).collect::<Result<_, _>>()?;
        Ok(())
    }
}

/// `probe/identity-continuous`: repeat the two numbers that are shown.
///
/// Observation s: two numbers uniform in ±1, drawn anew at every step. Reward: −|a − s|². Never terminates;
/// [`IDENTITY_STEPS`] steps.
pub struct IdentityContinuous {
    spec: Spec,
    state: [f64; 2],
}

impl Default for IdentityContinuous {
    fn default() -> Self {
        let space = Space::symmetric(&[1.0, 1.0]);
        let spec = Spec::single("probe/identity-continuous", space.clone(), space, Some(IDENTITY_STEPS));
        Self { spec: Spec { reward_range: (-8.0, 0.0), ..spec }, state: [0.0; 2] }
    }
}

impl Env for IdentityContinuous {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.state = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
        obs.copy_from_slice(&self.state.map(|x| x as f32));
    }

    fn step(&mut self, action: &[f64], rng: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        reward[0] = -action.iter().zip(&self.state).map(|(a, s)| (a - s) * (a - s)).sum::<f64>();
        self.reset(rng, obs);
        false
    }

    fn save(&self, state: &mut State) {
        state.put_f64("state", &self.state);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        self.state = state.f64_array("state")?;
        Ok(())
    }
}

/// `probe/bandit` and `probe/bandit-continuous`: one step, one noisy reward.
///
/// The observation is always 1. Mean reward: [`BANDIT_MEANS`] of the arm, or −(a − [`BANDIT_TARGET`])²;
/// Gaussian noise of standard deviation [`BANDIT_NOISE`] is added. Terminates after one step, so the limit
/// of 2 steps is never reached.
pub struct Bandit {
    spec: Spec,
    mean: fn(f64) -> f64,
}

impl Bandit {
    /// Four arms.
    pub fn discrete() -> Self {
        let last = BANDIT_MEANS.len() - 1;
        // The index is clamped, so that no action can panic.
        let mean = |arm: f64| BANDIT_MEANS[(arm as usize).min(BANDIT_MEANS.len() - 1)];
        Self::new("probe/bandit", Space::Discrete(last + 1), mean)
    }

    /// One number in ±1.
    pub fn continuous() -> Self {
        let mean = |a: f64| -(a - BANDIT_TARGET) * (a - BANDIT_TARGET);
        Self::new("probe/bandit-continuous", Space::symmetric(&[1.0]), mean)
    }

    fn new(id: &str, action: Space, mean: fn(f64) -> f64) -> Self {
        Self { spec: Spec::single(id, Space::uniform(1, 0.0, 1.0), action, Some(2)), mean }
    }
}

impl Env for Bandit {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, _: &mut Rng, obs: &mut [f32]) {
        obs[0] = 1.0;
    }

    fn step(&mut self, action: &[f64], rng: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let noise: f64 = rng.sample(StandardNormal);
        reward[0] = (self.mean)(action[0]) + BANDIT_NOISE * noise;
        obs[0] = 1.0;
        true
    }

    fn save(&self, state: &mut State) {
        state.put_f64("state", &[]);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        state.f64("state", 0).map(|_| ())
    }
}

/// `probe/two-step`: what is done at the first step is paid for at the second.
///
/// The first observation is (0, c) with a cue c = ±1; the first reward is 0 whatever the action. The second
/// observation is (1, m) with m = 1 if the first action had the sign of the cue and −1 otherwise; the
/// second step pays 1 or 0 accordingly, whatever its action, and terminates (so the limit of 3 steps is
/// never reached). An agent that looks at immediate rewards alone gets ½.
pub struct TwoStep {
    spec: Spec,
    state: [f64; 2],
}

impl Default for TwoStep {
    fn default() -> Self {
        let obs = Space::Box { low: vec![0.0, -1.0], high: vec![1.0, 1.0] };
        let spec = Spec::single("probe/two-step", obs, Space::symmetric(&[1.0]), Some(3));
        Self { spec: Spec { reward_range: (0.0, 1.0), ..spec }, state: [0.0, 1.0] }
    }
}

impl Env for TwoStep {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.state = [0.0, if rng.random() { 1.0 } else { -1.0 }];
        obs.copy_from_slice(&self.state.map(|x| x as f32));
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let [phase, sign] = self.state;
        let terminated = phase == 1.0;
        reward[0] = if terminated && sign > 0.0 { 1.0 } else { 0.0 };
        if !terminated {
            self.state = [1.0, if action[0] * sign > 0.0 { 1.0 } else { -1.0 }];
        }
        obs.copy_from_slice(&self.state.map(|x| x as f32));
        terminated
    }

    fn save(&self, state: &mut State) {
        state.put_f64("state", &self.state);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        self.state = state.f64_array("state")?;
        Ok(())
    }
}

/// `probe/coordination`: two agents see the same index and have to name it together.
///
/// Observation of each: an index below 3 as a one-hot vector, drawn uniformly and anew at every step. Reward of both: 1
/// if both name it, ½ if both name another and the same, 0 if they disagree. Never
/// terminates; [`IDENTITY_STEPS`] steps. Agents that always name the same index, blind, get ⅔ a step.
pub struct Coordination {
    spec: Spec,
    state: f64,
}

/// Indices of `probe/coordination`.
const SIGNS: usize = 3;

impl Default for Coordination {
    fn default() -> Self {
        let agent = |i| AgentSpec {
            name: format!("agent_{i}"),
            obs: Space::uniform(SIGNS, 0.0, 1.0),
            action: Space::Discrete(SIGNS),
        };
        let id = "probe/coordination";
        let single = Spec::single(id, agent(0).obs, agent(0).action, Some(IDENTITY_STEPS));
        let agents = vec![agent(0), agent(1)];
        Self { spec: Spec { agents, reward_range: (0.0, 1.0), ..single }, state: 0.0 }
    }
}

impl Env for Coordination {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.state = rng.random_range(0..SIGNS as u32).into();
        obs.chunks_exact_mut(SIGNS).for_each(|own| one_hot(&[self.state], &[SIGNS], own));
    }

    fn step(&mut self, action: &[f64], rng: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let paid = match (action[0] == action[1], action[0] == self.state) {
            (true, true) => 1.0,
            (true, false) => 0.5,
            _ => 0.0,
        };
        reward.fill(paid);
        self.reset(rng, obs);
        false
    }

    fn save(&self, state: &mut State) {
        state.put_f64("state", &[self.state]);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        self.state = checked_index(state.f64("state", 1)?[0], SIGNS)?;
        Ok(())
    }
}

/// `probe/recall`: name what was shown some steps ago.
///
/// The first observation is (c, 0) with a cue c = ±1, the last is (0, 1), those between are (0, 0); the action at the last
/// of [`RECALL_STEPS`] steps is paid 1 if it is 1 after c = 1 or 0 after c = −1, and the episode terminates. An agent
/// that remembers nothing gets ½. Not for agents without a memory.
pub struct Recall {
    spec: Spec,
    /// Cue, and steps taken.
    state: [f64; 2],
}

impl Default for Recall {
    fn default() -> Self {
        let obs = Space::Box { low: vec![-1.0, 0.0], high: vec![1.0, 1.0] };
        let spec = Spec::single("probe/recall", obs, Space::Discrete(2), Some(RECALL_STEPS + 1));
        Self { spec: Spec { reward_range: (0.0, 1.0), ..spec }, state: [1.0, 0.0] }
    }
}

impl Recall {
    fn show(&self, obs: &mut [f32]) {
        let [cue, time] = self.state;
        obs[0] = if time == 0.0 { cue as f32 } else { 0.0 };
        obs[1] = f32::from(u8::from(time + 1.0 == RECALL_STEPS as f64));
    }
}

impl Env for Recall {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        self.state = [if rng.random() { 1.0 } else { -1.0 }, 0.0];
        self.show(obs);
    }

    fn step(&mut self, action: &[f64], _: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        let [cue, time] = self.state;
        let last = time + 1.0 == RECALL_STEPS as f64;
        reward[0] = if last && (action[0] > 0.5) == (cue > 0.0) { 1.0 } else { 0.0 };
        self.state[1] += 1.0;
        self.show(obs);
        last
    }

    fn save(&self, state: &mut State) {
        state.put_f64("state", &self.state);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        self.state = state.f64_array("state")?;
        Ok(())
    }
}

/// `probe/endless`: reward 1 for ever, but cut short after [`ENDLESS_STEPS`] steps.
///
/// The observation is uniform in ±1 and means nothing. The value of every state is [`endless_value`].
pub struct Endless {
    spec: Spec,
}

impl Default for Endless {
    fn default() -> Self {
        let space = Space::symmetric(&[1.0]);
        let spec = Spec::single("probe/endless", space.clone(), space, Some(ENDLESS_STEPS));
        Self { spec: Spec { reward_range: (1.0, 1.0), ..spec } }
    }
}

impl Env for Endless {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn reset(&mut self, rng: &mut Rng, obs: &mut [f32]) {
        obs[0] = rng.random_range(-1.0..1.0);
    }

    fn step(&mut self, _: &[f64], rng: &mut Rng, obs: &mut [f32], reward: &mut [f64]) -> bool {
        reward[0] = 1.0;
        self.reset(rng, obs);
        false
    }

    fn save(&self, state: &mut State) {
        state.put_f64("state", &[]);
    }

    fn load(&mut self, state: &State) -> Result<(), StateError> {
        state.f64("state", 0).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use crate::{REGISTRY, VecEnv, make};

    /// From an observation to an action.
    type Policy = fn(&[f32]) -> Vec<f32>;

    /// Mean return over many episodes of the policy `act`.
    fn mean_return(id: &str, act: Policy) -> f64 {
        let mut envs = VecEnv::new(&|| make(id).unwrap(), 50, 0, Purpose::Check, 1);
        let mut returns = Vec::new();
        while returns.len() < 5000 {
            let actions: Vec<f32> = envs.obs().chunks(envs.spec().obs_len()).flat_map(act).collect();
            envs.step(&actions);
            returns.extend(envs.take_episodes().iter().map(|e| e.returns[0]));
        }
        returns.iter().sum::<f64>() / returns.len() as f64
    }

    fn argmax(obs: &[f32]) -> f32 {
        obs.iter().position(|x| *x == 1.0).unwrap() as f32
    }

    #[test]
    fn the_best_policies_reach_the_stated_returns() {
        let best: [(&str, Policy); 8] = [
            ("probe/bandit", |_| vec![2.0]),
            ("probe/bandit-continuous", |_| vec![BANDIT_TARGET as f32]),
            ("probe/identity-discrete", |obs| vec![argmax(obs)]),
            ("probe/identity-continuous", |obs| obs.to_vec()),
            ("probe/multi-discrete", |obs| vec![argmax(&obs[..3]), argmax(&obs[3..])]),
            ("probe/two-step", |obs| vec![obs[1]]),
            ("probe/coordination", |obs| vec![argmax(&obs[..3]), argmax(&obs[3..])]),
            ("probe/endless", |_| vec![0.0]),
        ];
        // No policy of observations alone is best in `recall`.
        assert_eq!(REGISTRY.iter().filter(|e| e.id.starts_with("probe/")).count(), best.len() + 1);
        for (id, act) in best {
            let (mean, optimum) = (mean_return(id, act), optimal_return(id).unwrap());
            // Only the bandits are noisy: five standard errors.
            let slack = if id.contains("bandit") { 5.0 * BANDIT_NOISE / 5000f64.sqrt() } else { 1e-6 };
            assert!((mean - optimum).abs() <= slack, "{id}: {mean}, not {optimum}");
        }
        assert_eq!(optimal_return("Pendulum-v1"), None);
    }

    #[test]
    fn blind_policies_fall_well_short() {
        assert!((mean_return("probe/identity-discrete", |_| vec![0.0]) - 2.0).abs() < 0.1);
        assert!((mean_return("probe/multi-discrete", |_| vec![0.0, 0.0]) - 8.0 * 7.0 / 24.0).abs() < 0.1);
        // Each coordinate costs its variance, one third.
        assert!((mean_return("probe/identity-continuous", |_| vec![0.0; 2]) + 16.0 / 3.0).abs() < 0.1);
        assert!((mean_return("probe/two-step", |_| vec![1.0]) - 0.5).abs() < 0.05);
        assert!((mean_return("probe/coordination", |_| vec![1.0, 1.0]) - 16.0 / 3.0).abs() < 0.1);
        assert_eq!(mean_return("probe/coordination", |_| vec![1.0, 0.0]), 0.0);
        assert!((mean_return("probe/bandit", |_| vec![3.0]) + 1.0).abs() < 0.05);
        assert!((mean_return("probe/recall", |_| vec![1.0]) - 0.5).abs() < 0.05);
    }

    #[test]
    fn only_the_first_action_of_two_step_counts() {
        let mut env = TwoStep::default();
        let mut rng = stream(0, Purpose::Check, 0);
        let (mut obs, mut reward) = ([0.0; 2], [0.0]);
        for second in [-1.0, 1.0] {
            env.reset(&mut rng, &mut obs);
            let cue = f64::from(obs[1]);
            assert!(!env.step(&[cue], &mut rng, &mut obs, &mut reward));
            assert_eq!((obs, reward), ([1.0, 1.0], [0.0]));
            assert!(env.step(&[second], &mut rng, &mut obs, &mut reward));
            assert_eq!(reward, [1.0]);
        }
    }

    #[test]
    fn who_remembers_the_cue_is_paid() {
        let mut env = Recall::default();
        let mut rng = stream(0, Purpose::Check, 0);
        let (mut obs, mut reward) = ([0.0; 2], [0.0]);
        for episode in 0..20 {
            env.reset(&mut rng, &mut obs);
            let (cue, right) = (obs[0], episode % 3 > 0);
            let action = if (cue > 0.0) == right { 1.0 } else { 0.0 };
            for t in 1..RECALL_STEPS {
                assert!(!env.step(&[action], &mut rng, &mut obs, &mut reward));
                assert_eq!((obs[0], obs[1] == 1.0, reward[0]), (0.0, t + 1 == RECALL_STEPS, 0.0));
            }
            assert!(env.step(&[action], &mut rng, &mut obs, &mut reward));
            assert_eq!(reward[0] == 1.0, right);
        }
    }

    #[test]
    fn endless_is_cut_short_and_never_terminates() {
        let mut envs = VecEnv::new(&|| make("probe/endless").unwrap(), 1, 0, Purpose::Check, 1);
        for t in 1..=3 * ENDLESS_STEPS {
            envs.step(&[0.0]);
            assert!(!envs.terminated()[0]);
            assert_eq!(envs.truncated()[0], t % ENDLESS_STEPS == 0);
        }
        let sum: f64 = (0..10_000).map(|t| 0.99f64.powi(t)).sum();
        assert!((endless_value(0.99) - sum).abs() < 1e-9);
    }

    #[test]
    fn an_index_out_of_range_is_refused() {
        for bad in [4.0, -1.0, 0.5, f64::NAN] {
            let mut state = State::new();
            state.put_f64("state", &[bad]);
            assert!(Identity::discrete().load(&state).is_err(), "{bad}");
        }
    }
}
