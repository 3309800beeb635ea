//! What SAC and off-policy MDPO have in common: one squashed actor, critics on replayed transitions, one way to act.
//!
//! They differ only in what an actor step lowers, so that a comparison compares that.

use std::cell::RefCell;

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use steadfast_envs::rng::{self, Purpose, Rng};
use steadfast_envs::{Space, Spec, State, VecEnv};

use super::adam::Adam;
use super::device::Device;
use super::mlp::{Activation, Init};
use super::on_policy::{TimeLimit, only_agent};
use super::policy::{Critic, Net};
use super::profile::{self, Stage};
use super::replay::{Replay, Transition, Transitions};
use super::rollout::{advance_noise, finite_obs, finite_rewards};
use super::squashed::{ActorLoss, Draw, Logarithm, Squashed};
use super::weights::{Mean, Scalar, read};
use crate::{Acting, AgentError, BuildError, Metrics, Setup};

/// What the actor learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CriticKind {
    /// Two Q functions, each with a target network; targets take a fresh action at s' (arXiv:1812.05905).
    TwinQ,
    /// Two Q functions without target networks and a V function with one, which they learn from (arXiv:1801.01290).
    VNetwork,
}

/// How actions are chosen while training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exploration {
    /// Drawn from the policy.
    Sample,
    /// The most likely one, without noise.
    Greedy,
}

/// Settings of actor, critics and replay, the same for every off-policy agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OffPolicy {
    /// N: environment copies that are stepped together.
    pub num_envs: usize,
    /// Steps of each copy in one iteration: a row of metrics, and the finest grid of evaluations.
    pub horizon: usize,
    /// Steps of each copy between updates.
    pub train_every: usize,
    /// Gradient steps at each update.
    pub updates: usize,
    /// Transitions that the replay buffer holds.
    pub buffer: usize,
    /// Transitions in a minibatch, drawn uniformly from the buffer.
    pub minibatch: usize,
    /// Environment steps with uniformly random actions before the first update.
    pub learning_starts: usize,
    /// γ: discount factor, in [0, 1].
    pub gamma: f64,
    /// τ: share by which target networks follow at each gradient step, in (0, 1].
    pub tau: f64,
    /// Time limits `bootstrap` (correct) or are `terminal` (as in some released codes).
    pub time_limit: TimeLimit,
    /// Critics: `twin-q` or `v-network`.
    pub critic: CriticKind,
    /// The actor rises on the smaller of both Q functions, or on the first alone.
    pub smaller_q: bool,
    /// Step size of Adam for the actor (and the temperature).
    pub learning_rate: f64,
    /// Step size of Adam for the critics.
    pub critic_lr: f64,
    /// Actions while training are drawn (`sample`) or the most likely (`greedy`).
    pub exploration: Exploration,
    /// ρ: correlation in time of the noise in actions while training, in [0, 1): 0 is white noise; each action keeps
    /// its distribution, only successive ones become alike (after Hollenstein et al. 2024, arXiv:2312.11091).
    pub noise_correlation: f64,
    /// Sizes of the hidden layers, of the actor and of the critics.
    pub hidden: Vec<usize>,
    /// Nonlinearity after each hidden layer: `tanh` or `relu`.
    pub activation: Activation,
    /// Initial weights: `pytorch` (uniform in ±1/√in), `orthogonal` or `xavier`.
    pub init: Init,
}

impl Default for OffPolicy {
    fn default() -> Self {
        Self {
            num_envs: 1,
            horizon: 1000,
            train_every: 1,
            updates: 1,
            buffer: 1_000_000,
            minibatch: 256,
            learning_starts: 100,
            gamma: 0.99,
            tau: 0.005,
            time_limit: TimeLimit::Bootstrap,
            critic: CriticKind::TwinQ,
            smaller_q: true,
            learning_rate: 3e-4,
            critic_lr: 3e-4,
            exploration: Exploration::Sample,
            noise_correlation: 0.0,
            hidden: vec![256, 256],
            activation: Activation::Relu,
            init: Init::Pytorch,
        }
    }
}

impl OffPolicy {
    /// Checks ranges, and that learning begins before the run ends after `total_steps`.
    ///
    /// # Errors
    /// Names the first key that is out of range.
    pub fn validate(&self, total_steps: u64) -> Result<(), BuildError> {
        use crate::config::{at_least, positive, replay, rollout, widths, within};
        rollout(self.num_envs, self.horizon)?;
        at_least("train_every", self.train_every, 1)?;
        at_least("updates", self.updates, 1)?;
        replay(self.minibatch, self.buffer, self.learning_starts, total_steps)?;
        within("gamma", self.gamma, 0.0, 1.0)?;
        positive("tau", self.tau)?;
        within("tau", self.tau, 0.0, 1.0)?;
        positive("learning_rate", self.learning_rate)?;
        positive("critic_lr", self.critic_lr)?;
        within("noise_correlation", self.noise_correlation, 0.0, 0.999_999)?;
        widths("hidden", &self.hidden)
    }
}

/// Actor, critics and replay of an off-policy agent.
pub struct ActorCritics {
    /// Settings.
    pub config: OffPolicy,
    /// π_θ
    pub actor: Squashed,
    actor_adam: Adam,
    /// Q_1 and Q_2.
    q: [Learner; 2],
    target: Target,
    replay: Replay,
    bounds: ActionBounds,
    device: Device,
    action_rng: Rng,
    minibatch_rng: Rng,
    /// The action of the running step, with its correlated noise, and its transition to the environment's units.
    acting: Draw,
    env_actions: Vec<f32>,
    obs: Vec<f32>,
    /// Steps of each copy so far.
    steps: u64,
    /// The minibatch, with actions drawn at s and at s'.
    mb: Transitions,
    here: Draw,
    next: Draw,
    values: Values,
    tally: Tally,
    evaluation: RefCell<Draw>,
}

/// A critic with its optimiser.
struct Learner {
    critic: Critic,
    adam: Adam,
}

/// What the Q functions learn from.
#[allow(clippy::large_enum_variant, reason = "one lives")]
enum Target {
    TwinQ([Critic; 2]),
    VNetwork { v: Learner, target: Critic },
}

/// Numbers of a minibatch on their way between the networks, kept for their buffers.
#[derive(Default)]
struct Values {
    /// s or s' and an action side by side, `[B, O + A]`.
    inputs: Vec<f32>,
    /// Q_1, Q_2 or V, `[B]`.
    first: Vec<f32>,
    second: Vec<f32>,
    /// y, `[B]`.
    targets: Vec<f32>,
    /// Which rows' Q counts, `[B]`.
    chosen: Vec<f32>,
    /// Q(s, a) of the actions drawn, `[B]`, the smaller of both, and what the actor sees.
    smaller: Vec<f32>,
    q: Vec<f32>,
    /// Its derivative with respect to a, `[B, A]`.
    q_slope: Vec<f32>,
}

/// Sums over the gradient steps of an iteration.
#[derive(Default)]
struct Tally {
    steps: u64,
    critic_loss: Mean,
    actor_loss: Mean,
    log_prob: f64,
    q: f64,
    std: f64,
    kl: f64,
}

/// The box of actions, as a map from (−1, 1).
struct ActionBounds {
    centre: Vec<f32>,
    half: Vec<f32>,
}

impl ActionBounds {
    fn new(spec: &Spec) -> Result<Self, BuildError> {
        let cannot = |why: String| BuildError::CannotAct { env: spec.id.clone(), why };
        let agent = only_agent(spec)?;
        let Space::Box { low, high } = &agent.action else {
            return Err(cannot(format!(
                "its action space is {} and this agent acts in boxes only; `ppo`, `trpo` and `mdpo` can act in it",
                agent.action
            )));
        };
        if low.iter().chain(high).any(|x| !x.is_finite()) {
            return Err(cannot(
                "its actions have no bounds, and this agent squashes actions into theirs".to_owned(),
            ));
        }
        let both = || low.iter().zip(high);
        Ok(Self {
            centre: both().map(|(l, h)| 0.5 * (l + h)).collect(),
            half: both().map(|(l, h)| 0.5 * (h - l)).collect(),
        })
    }

    /// Actions in (−1, 1) to the environment's units, row by row.
    fn scale(&self, actions: &[f32], out: &mut [f32]) {
        for (i, (out, a)) in out.iter_mut().zip(actions).enumerate() {
            let d = i % self.half.len();
            *out = self.centre[d] + self.half[d] * a;
        }
    }
}

impl Learner {
    fn new(critic: Critic, device: &Device) -> Self {
        Self { adam: Adam::new(critic.len(), 1e-8, device), critic }
    }

    fn fit(&mut self, inputs: &[f32], targets: &[f32], lr: f64, device: &Device) -> Scalar {
        let loss = self.critic.regress(inputs, targets, device);
        self.adam.step(&mut self.critic.weights, lr);
        loss
    }
}

impl ActorCritics {
    /// Fresh networks and an empty buffer, for a task with one agent and bounded continuous actions.
    ///
    /// # Errors
    /// When a setting is out of range or the task is none that off-policy agents can act in.
    pub fn new(config: OffPolicy, logarithm: Logarithm, setup: &Setup) -> Result<Self, BuildError> {
        config.validate(setup.total_steps)?;
        let (spec, seed, device) = (setup.spec, setup.seed, &setup.device);
        let bounds = ActionBounds::new(spec)?;
        let (o, a) = (spec.obs_len(), bounds.half.len());
        let init = |index| rng::stream(seed, Purpose::Init, index);
        let c = &config;
        let net = Net { hidden: c.hidden.clone(), activation: c.activation, init: c.init, log_std_init: 0.0 };
        let critic = |inputs, index| Critic::new(inputs, &net, &mut init(index), device);
        let actor = Squashed::new(o, a, &c.hidden, c.activation, c.init, &mut init(0), device);
        let q = [1, 2].map(|index| critic(o + a, index));
        let target = match c.critic {
            CriticKind::TwinQ => Target::TwinQ(q.clone()),
            CriticKind::VNetwork => {
                let v = critic(o, 3);
                Target::VNetwork { target: v.clone(), v: Learner::new(v, device) }
            }
        };
        let mut action_rng = rng::stream(seed, Purpose::Action, 0);
        let noise = StandardNormal.sample_iter(&mut action_rng).take(c.num_envs * a).collect();
        Ok(Self {
            actor_adam: Adam::new(actor.len(), 1e-8, device),
            actor: actor.with_logarithm(logarithm),
            q: q.map(|q| Learner::new(q, device)),
            target,
            replay: Replay::new(c.buffer, o, a)?,
            bounds,
            device: device.clone(),
            action_rng,
            minibatch_rng: rng::stream(seed, Purpose::Minibatch, 0),
            acting: Draw::with_noise(noise),
            env_actions: vec![0.0; c.num_envs * a],
            obs: Vec::new(),
            steps: 0,
            mb: Transitions::default(),
            here: Draw::default(),
            next: Draw::default(),
            values: Values::default(),
            tally: Tally::default(),
            evaluation: RefCell::default(),
            config,
        })
    }

    /// Environment steps of one iteration.
    pub fn batch_len(&self) -> usize {
        self.config.num_envs * self.config.horizon
    }

    /// The replay buffer.
    pub fn replay(&self) -> &Replay {
        &self.replay
    }

    /// The replay buffer, to be restored.
    pub fn replay_mut(&mut self) -> &mut Replay {
        &mut self.replay
    }

    /// Acts once in every copy and stores the transitions. Returns the number of gradient steps that are due.
    ///
    /// # Errors
    /// When an observation or a reward is not finite.
    pub fn act(&mut self, envs: &mut VecEnv) -> Result<usize, AgentError> {
        profile::enter(Stage::Inference);
        let c = &self.config;
        finite_obs(envs)?;
        self.obs.clear();
        self.obs.extend_from_slice(envs.obs());
        let (n, a) = (c.num_envs, self.bounds.half.len());
        if envs.steps() < c.learning_starts as u64 {
            self.acting.actions.resize(n * a, 0.0);
            self.acting.actions.fill_with(|| self.action_rng.random_range(-1.0..1.0));
        } else if c.exploration == Exploration::Greedy {
            let mut actions = std::mem::take(&mut self.acting.actions);
            self.actor.greedy(&self.obs, &mut self.acting, &mut actions);
            self.acting.actions = actions;
        } else {
            self.actor.draw(&self.obs, &mut self.acting);
            advance_noise(&mut self.acting.noise, c.noise_correlation as f32, &mut self.action_rng);
        }
        self.bounds.scale(&self.acting.actions, &mut self.env_actions);
        profile::enter(Stage::Environment);
        envs.step(&self.env_actions);
        profile::enter(Stage::Update);
        finite_rewards(envs)?;
        let o = self.obs.len() / n;
        for i in 0..n {
            let (terminated, truncated) = (envs.terminated()[i], envs.truncated()[i]);
            let after = if terminated || truncated { envs.final_obs() } else { envs.obs() };
            self.replay.push(&Transition {
                obs: &self.obs[i * o..(i + 1) * o],
                action: &self.acting.actions[i * a..(i + 1) * a],
                rewards: &[envs.rewards()[i] as f32],
                next_obs: &after[i * o..(i + 1) * o],
                terminated: terminated || truncated && c.time_limit == TimeLimit::Terminal,
            });
        }
        self.steps += 1;
        let learning = envs.steps() > c.learning_starts as u64;
        Ok(if learning && self.steps.is_multiple_of(c.train_every as u64) { c.updates } else { 0 })
    }

    /// Draws a minibatch.
    pub fn sample(&mut self) {
        let rng = &mut self.minibatch_rng;
        self.replay.sample(self.config.minibatch, rng, &mut self.mb);
        for draw in [&mut self.next, &mut self.here] {
            draw.noise.resize(self.mb.actions.len(), 0.0);
            draw.noise.fill_with(|| StandardNormal.sample(rng));
        }
    }

    /// One Adam step of both Q functions towards y = r + γ (next value, unless the task ended). With λ =
    /// `entropy_coef` the next value is min(Q_1', Q_2')(s', a') − λ ln π(a'|s') for a fresh a', or V'(s').
    pub fn fit_q(&mut self, entropy_coef: f64) {
        let Self { config: c, values: v, mb, device, .. } = self;
        match &mut self.target {
            Target::TwinQ(targets) => {
                self.actor.draw(&mb.next_obs, &mut self.next);
                join(&mb.next_obs, &self.next.actions, &mut v.inputs, mb.rewards.len());
                evaluate(targets.each_mut(), v, device);
                let lambda = entropy_coef as f32;
                v.first.clear();
                v.first.extend(v.smaller.iter().zip(&self.next.log_probs).map(|(q, l)| q - lambda * l));
            }
            Target::VNetwork { target, .. } => {
                v.first.clear();
                target.values(&mb.next_obs, &mut v.first, device);
            }
        }
        let gamma = c.gamma as f32;
        let rows = mb.rewards.iter().zip(&mb.goes_on).zip(&v.first);
        v.targets.clear();
        v.targets.extend(rows.map(|((r, goes_on), next)| r + gamma * goes_on * next));
        join(&mb.obs, &mb.actions, &mut v.inputs, mb.rewards.len());
        for q in &mut self.q {
            self.tally.critic_loss.add(q.fit(&v.inputs, &v.targets, c.critic_lr, device));
        }
    }

    /// Draws fresh actions at the states of the minibatch, and judges them.
    pub fn propose(&mut self) {
        let Self { values: v, mb, here, device, .. } = self;
        self.actor.draw(&mb.obs, here);
        join(&mb.obs, &here.actions, &mut v.inputs, mb.rewards.len());
        let [q1, q2] = self.q.each_mut().map(|q| &mut q.critic);
        evaluate([&mut *q1, &mut *q2], v, device);
        let (o, a) = (mb.obs.len() / mb.rewards.len(), self.bounds.half.len());
        v.q_slope.clear();
        v.q_slope.resize(here.actions.len(), 0.0);
        let smaller = self.config.smaller_q;
        v.q.clone_from(if smaller { &v.smaller } else { &v.first });
        for (j, q) in [q1, q2].into_iter().enumerate() {
            v.chosen.clear();
            let of_first = |(first, second): (&f32, &f32)| !smaller || first <= second;
            v.chosen.extend(
                v.first.iter().zip(&v.second).map(|pair| f32::from(u8::from(of_first(pair) == (j == 0)))),
            );
            if j == 1 && !smaller {
                continue;
            }
            let slopes = q.input_slopes(&v.inputs, &v.chosen, device);
            for (sum, row) in v.q_slope.chunks_exact_mut(a).zip(slopes.chunks_exact(o + a)) {
                sum.iter_mut().zip(&row[o..]).for_each(|(s, x)| *s += x);
            }
        }
        let mean = |x: &[f32]| x.iter().map(|x| f64::from(*x)).sum::<f64>() / x.len() as f64;
        self.tally.steps += 1;
        self.tally.log_prob += mean(&here.log_probs);
        self.tally.q += mean(&v.q);
        self.tally.std += Squashed::std(here);
    }

    /// ln π of the actions proposed, `[B]`.
    pub fn log_probs(&self) -> &[f32] {
        &self.here.log_probs
    }

    /// One Adam step of V, where there is one, towards min(Q_1, Q_2)(s, a) − λ ln π(a|s) of the actions proposed, or,
    /// with `mean_entropy`, with the minibatch's mean of ln π.
    pub fn fit_v(&mut self, entropy_coef: f64, mean_entropy: bool) {
        let Target::VNetwork { v: learner, .. } = &mut self.target else { return };
        let Self { values: v, mb, here, .. } = self;
        let lambda = entropy_coef as f32;
        let mean = here.log_probs.iter().sum::<f32>() / here.log_probs.len() as f32;
        v.targets.clear();
        let pairs = v.smaller.iter().zip(&here.log_probs);
        v.targets.extend(pairs.map(|(q, l)| q - lambda * if mean_entropy { mean } else { *l }));
        self.tally.critic_loss.add(learner.fit(&mb.obs, &v.targets, self.config.critic_lr, &self.device));
    }

    /// Takes `old` for π_old in the next [`Self::step_actor`].
    pub fn remember(&mut self, old: &Squashed) {
        old.remember(&self.mb.obs, &mut self.here);
        self.tally.kl += self.actor.kl(&self.here);
    }

    /// One Adam step of the actor on `loss`, over the actions proposed.
    pub fn step_actor(&mut self, loss: &impl ActorLoss) {
        let Self { values: v, mb, here, .. } = self;
        self.tally.actor_loss.add(self.actor.grad(&mb.obs, here, &v.q, &v.q_slope, loss));
        self.actor_adam.step(&mut self.actor.weights, self.config.learning_rate);
    }

    /// Target networks follow by τ.
    pub fn track(&mut self) {
        let tau = self.config.tau;
        match &mut self.target {
            Target::TwinQ(targets) => {
                targets.iter_mut().zip(&self.q).for_each(|(t, q)| t.track(&q.critic, tau));
            }
            Target::VNetwork { v, target } => target.track(&v.critic, tau),
        }
    }

    /// Ends an iteration: completes `metrics` with the means over its gradient steps.
    ///
    /// # Errors
    /// When one of them is not finite.
    pub fn finish(&mut self, metrics: Metrics, step: u64) -> Result<Metrics, AgentError> {
        let Tally { steps, critic_loss, actor_loss, log_prob, q, std, kl } = std::mem::take(&mut self.tally);
        if steps == 0 {
            return Ok(Metrics { learning_rate: metrics.learning_rate, ..Metrics::default() });
        }
        let [value_loss, policy_loss] = read([critic_loss.get(), actor_loss.get()]);
        let mean = |sum: f64| Some(sum / steps as f64);
        Metrics {
            policy_loss: Some(policy_loss),
            value_loss: Some(value_loss),
            entropy: mean(-log_prob),
            q: mean(q),
            action_std: mean(std),
            kl: metrics.step_size.and(mean(kl)),
            ..metrics
        }
        .finite(step)
    }

    /// Actions `[rows, A]`, in the environment's units, for observations `[rows, O]`, picked as `how` says.
    pub fn pick(&self, obs: &[f32], how: Acting, actions: &mut [f32], rng: &mut Rng) {
        let draw = &mut *self.evaluation.borrow_mut();
        match how {
            Acting::Greedy => {
                draw.actions.resize(actions.len(), 0.0);
                let mut squashed = std::mem::take(&mut draw.actions);
                self.actor.greedy(obs, draw, &mut squashed);
                draw.actions = squashed;
            }
            Acting::Sampled => {
                draw.noise.resize(actions.len(), 0.0);
                draw.noise.fill_with(|| StandardNormal.sample(rng));
                self.actor.draw(obs, draw);
            }
        }
        self.bounds.scale(&draw.actions, actions);
    }

    /// Saves networks, streams and counters; the replay buffer's contents are saved apart.
    pub fn save(&self, state: &mut State) {
        self.actor.save("policy", state);
        self.actor_adam.save("policy_adam", state);
        for (i, q) in self.q.iter().enumerate() {
            q.critic.save(&format!("q{}", i + 1), state);
            q.adam.save(&format!("q{}_adam", i + 1), state);
        }
        match &self.target {
            Target::TwinQ(targets) => {
                targets.iter().enumerate().for_each(|(i, q)| q.save(&format!("q{}_target", i + 1), state));
            }
            Target::VNetwork { v, target } => {
                v.critic.save("v", state);
                v.adam.save("v_adam", state);
                target.save("v_target", state);
            }
        }
        rng::save(&self.action_rng, "action_rng", state);
        rng::save(&self.minibatch_rng, "minibatch_rng", state);
        state.put_f32("noise", &self.acting.noise);
        state.put_u64("counters", &[self.steps, self.replay.stored()]);
    }

    /// Restores what [`Self::save`] wrote; the replay buffer then waits for its contents.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.actor.load("policy", state)?;
        self.actor_adam.load("policy_adam", state)?;
        for (i, q) in self.q.iter_mut().enumerate() {
            q.critic.load(&format!("q{}", i + 1), state)?;
            q.adam.load(&format!("q{}_adam", i + 1), state)?;
        }
        match &mut self.target {
            Target::TwinQ(targets) => {
                for (i, q) in targets.iter_mut().enumerate() {
                    q.load(&format!("q{}_target", i + 1), state)?;
                }
            }
            Target::VNetwork { v, target } => {
                v.critic.load("v", state)?;
                v.adam.load("v_adam", state)?;
                target.load("v_target", state)?;
            }
        }
        self.action_rng = rng::load("action_rng", state)?;
        self.minibatch_rng = rng::load("minibatch_rng", state)?;
        self.acting.noise = state.f32("noise", self.acting.noise.len())?.to_vec();
        let counters = state.u64("counters", 2)?;
        self.steps = counters[0];
        self.replay.expect(counters[1]);
        Ok(())
    }
}

/// `left` `[B, L]` and `right` `[B, R]` side by side, `[B, L + R]`.
fn join(left: &[f32], right: &[f32], out: &mut Vec<f32>, rows: usize) {
    let (l, r) = (left.len() / rows, right.len() / rows);
    out.clear();
    for (left, right) in left.chunks_exact(l).zip(right.chunks_exact(r)) {
        out.extend_from_slice(left);
        out.extend_from_slice(right);
    }
}

/// Both Q functions at the inputs, and the smaller of them.
fn evaluate([q1, q2]: [&mut Critic; 2], v: &mut Values, device: &Device) {
    for (q, out) in [(q1, &mut v.first), (q2, &mut v.second)] {
        out.clear();
        q.values(&v.inputs, out, device);
    }
    v.smaller.clear();
    v.smaller.extend(v.first.iter().zip(&v.second).map(|(a, b)| a.min(*b)));
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;
    use crate::core::testing::{close, devices};
    use steadfast_envs::make;

    const ROWS: usize = 64;
    const STEPS: u64 = 450; // Pendulum is cut short at 200

    fn learner(config: OffPolicy, device: &Device) -> (ActorCritics, VecEnv) {
        let make = || make("Pendulum-v1").unwrap();
        let config = OffPolicy { hidden: vec![8], activation: Activation::Tanh, minibatch: ROWS, ..config };
        let envs = VecEnv::new(&make, config.num_envs, 3, Purpose::Env, 1);
        let setup = Setup { spec: envs.spec(), seed: 3, total_steps: 1_000_000, device: device.clone() };
        (ActorCritics::new(config, Logarithm::NATURAL, &setup).unwrap(), envs)
    }

    fn acted(config: OffPolicy, device: &Device) -> ActorCritics {
        let (mut core, mut envs) = learner(config, device);
        while envs.steps() < STEPS {
            core.act(&mut envs).unwrap();
        }
        core
    }

    /// A transition leads to the observation that the episode ended with, which is worth something unless the task ended.
    #[test]
    fn the_time_limit_ends_no_task() {
        for (time_limit, ends) in [(TimeLimit::Bootstrap, false), (TimeLimit::Terminal, true)] {
            let core = acted(OffPolicy { time_limit, ..OffPolicy::default() }, &Device::cpu());
            let all = core.replay.piece(0, STEPS);
            let (obs, next) = (all.f32("obs", 450 * 3).unwrap(), all.f32("next_obs", 450 * 3).unwrap());
            let goes_on = all.f32("goes_on", 450).unwrap();
            for t in 0..449 {
                let last = t == 199 || t == 399;
                assert_eq!(goes_on[t] == 0.0, last && ends, "{t}");
                let follows = next[3 * t..3 * t + 3] == obs[3 * t + 3..3 * t + 6];
                assert_eq!(follows, !last, "{t}");
            }
        }
    }

    /// Random actions fill the box at first, then those of the policy; copies and waiting are counted in steps of all.
    #[test]
    fn updates_begin_and_recur_as_configured() {
        let config = OffPolicy {
            num_envs: 4,
            learning_starts: 40,
            train_every: 3,
            updates: 2,
            ..OffPolicy::default()
        };
        let (mut core, mut envs) = learner(config, &Device::cpu());
        let due: Vec<usize> = (0..20).map(|_| core.act(&mut envs).unwrap()).collect();
        // 11 steps of 4 copies are the first above 40; the 12th, 15th, 18th of a copy are multiples of 3.
        let expected: Vec<usize> = (1..=20).map(|t| if t > 10 && t % 3 == 0 { 2 } else { 0 }).collect();
        assert_eq!(due, expected);
        let all = core.replay.piece(0, 80);
        let actions = all.f32("actions", 80).unwrap();
        assert!(actions.iter().all(|a| a.abs() < 1.0));
        let spread = |x: &[f32]| x.iter().map(|a| a * a).sum::<f32>() / x.len() as f32;
        assert!((spread(&actions[..40]) - 1.0 / 3.0).abs() < 0.12, "{}", spread(&actions[..40]));
    }

    /// y = r + γ (min Q' − λ ln π) or r + γ V', row by row, against networks asked one row at a time.
    #[test]
    fn targets_are_those_of_the_papers() {
        let (lambda, gamma) = (0.3, 0.9);
        for critic in [CriticKind::TwinQ, CriticKind::VNetwork] {
            for device in devices() {
                let config = OffPolicy { critic, gamma, ..OffPolicy::default() };
                let mut core = acted(config, &device);
                // Targets that differ from what they follow.
                (0..3).for_each(|_| {
                    core.sample();
                    core.fit_q(lambda);
                    core.propose();
                    core.fit_v(lambda, false);
                });
                core.sample();
                core.mb.goes_on[5] = 0.0;
                core.fit_q(lambda);
                let targets = core.values.targets.clone();
                for i in 0..ROWS {
                    let next = &core.mb.next_obs[3 * i..3 * i + 3];
                    let ask = |critic: &mut Critic, x: &[f32]| {
                        let mut out = Vec::new();
                        critic.values(x, &mut out, &device);
                        f64::from(out[0])
                    };
                    let value = match &mut core.target {
                        Target::TwinQ(q) => {
                            let mut draw = Draw::with_noise(vec![core.next.noise[i]]);
                            core.actor.draw(next, &mut draw);
                            let x = [next[0], next[1], next[2], draw.actions[0]];
                            let q = q.each_mut().map(|q| ask(q, &x));
                            q[0].min(q[1]) - lambda * f64::from(draw.log_probs[0])
                        }
                        Target::VNetwork { target, .. } => ask(target, next),
                    };
                    let bootstrap = if i == 5 { 0.0 } else { gamma * value };
                    close(&[targets[i]], &[f64::from(core.mb.rewards[i]) + bootstrap], 1e-5);
                }

                if critic == CriticKind::TwinQ {
                    continue;
                }
                core.propose();
                let (q, log_probs) = (core.values.smaller.clone(), core.here.log_probs.clone());
                let mean = log_probs.iter().sum::<f32>() / ROWS as f32;
                for mean_entropy in [false, true] {
                    core.fit_v(lambda, mean_entropy);
                    // Each state's own entropy: the broadcast of [B] against [B, 1] gives every state the mean.
                    let l = |i: usize| if mean_entropy { mean } else { log_probs[i] };
                    let expected: Vec<f32> = (0..ROWS).map(|i| q[i] - 0.3 * l(i)).collect();
                    close(&core.values.targets, &expected, 1e-6);
                }
                assert!(log_probs.iter().any(|l| (l - mean).abs() > 0.1));
            }
        }
    }

    /// The slope of the smaller Q, or of the first, with respect to the action, against differences.
    #[test]
    fn the_actor_climbs_the_q_that_it_is_told() {
        for (smaller_q, device) in [(true, 0), (false, 0), (true, 1), (false, 1)] {
            let device = devices()[device].clone();
            let mut core = acted(OffPolicy { smaller_q, ..OffPolicy::default() }, &device);
            core.sample();
            core.propose();
            let (q, slope, actions) =
                (core.values.q.clone(), core.values.q_slope.clone(), core.here.actions.clone());
            let (mut first, mut second) = (0, 0);
            for i in 0..ROWS {
                let mut at = |h: f32| {
                    let obs = &core.mb.obs[3 * i..3 * i + 3];
                    let x = [obs[0], obs[1], obs[2], actions[i] + h];
                    let both = core.q.each_mut().map(|q| {
                        let mut out = Vec::new();
                        q.critic.values(&x, &mut out, &device);
                        out[0]
                    });
                    if both[0] <= both[1] {
                        first += 1
                    } else {
                        second += 1
                    }
                    if smaller_q { both[0].min(both[1]) } else { both[0] }
                };
                close(&[q[i]], &[at(0.0)], 1e-6);
                close(&[slope[i]], &[(at(1e-2) - at(-1e-2)) / 2e-2], 2e-3);
            }
            assert!(first > 3 && second > 3, "both must occur: {first}, {second}");
        }
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let bad = |config: OffPolicy| config.validate(1000).unwrap_err().to_string();
        let d = OffPolicy::default;
        assert!(
            bad(OffPolicy { minibatch: 65, buffer: 64, ..d() }).contains("'minibatch': must not be larger")
        );
        assert!(bad(OffPolicy { learning_starts: 1000, ..d() }).contains("nothing would be learnt"));
        for (config, key) in [
            (OffPolicy { tau: 0.0, ..d() }, "tau"),
            (OffPolicy { tau: 1.5, ..d() }, "tau"),
            (OffPolicy { gamma: -0.1, ..d() }, "gamma"),
            (OffPolicy { train_every: 0, ..d() }, "train_every"),
            (OffPolicy { critic_lr: 0.0, ..d() }, "critic_lr"),
            (OffPolicy { hidden: vec![4, 0], ..d() }, "hidden"),
            (OffPolicy { hidden: vec![1 << 20, 4], ..d() }, "hidden"),
            (OffPolicy { horizon: usize::MAX, ..d() }, "horizon"),
        ] {
            assert!(bad(config).contains(&format!("'{key}'")), "{key}");
        }
        d().validate(1000).unwrap();
        let device = Device::cpu();
        let task = make("CartPole-v1").unwrap();
        let setup = Setup { spec: task.spec(), seed: 0, total_steps: 1000, device };
        let error = ActorCritics::new(d(), Logarithm::NATURAL, &setup).err().unwrap().to_string();
        assert!(error.contains("`ppo`, `trpo` and `mdpo`"), "{error}");
    }
}
