//! Double DQN: Q-learning with a replay buffer and a target network, where one network chooses and the other judges.
//!
//! H. van Hasselt, A. Guez, D. Silver, 2016, arXiv:1509.06461, after V. Mnih et al., "Human-level control through deep
//! reinforcement learning", 2015. Features, head and value loss are those of Hyper++ (arXiv:2512.14202), whose authors
//! train this agent on Atari; the default is the plain Euclidean network.
//!
//! Repeat, at every step of the environment:
//!
//! 1. Act: with probability ε, which falls as the run goes on, uniformly at random, else argmax Q_θ(s, ·); store the
//!    transition. Then, gradient step by gradient step:
//! 2. Draw a minibatch of transitions.
//! 3. a* = argmax Q_θ(s', ·), y = r + γ Q_θ'(s', a*); only r where the task ended.
//! 4. Lower the loss of Q_θ(s, a) against y: half the squared error, its slope clipped to ±1, or the cross-entropy of
//!    Q's distribution with a normal distribution around y (HL-Gauss); one Adam step, the gradient norm clipped.
//! 5. Every n gradient steps the target network follows: θ' ← θ' + τ (θ − θ').
//!
//! Deviations: observations are vectors, and the encoder is a multi-layer perceptron. ε counts steps of the environment from
//! the first on. The authors of Hyper++ choose a* at s, not at s', in their released code; here it is the paper's. Points of
//! the ball move by Riemannian Adam.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use steadfast_envs::rng::{self, Purpose};
use steadfast_envs::{Rng, Space, Spec, State, VecEnv};

use crate::config::{at_least, positive, replay, rollout, widths, within};
use crate::core::adam::{Adam, Schedule, clip_global_norm};
use crate::core::features::{Norm, Scale, Squash};
use crate::core::hyperbolic::mlr::{Geometry, RiemannianAdam};
use crate::core::mlp::{Activation, Init};
use crate::core::on_policy::{TimeLimit, only_agent};
use crate::core::policy::Net;
use crate::core::profile::{self, Stage};
use crate::core::q_net::{QNet, QWork, Tally, best, choose};
use crate::core::replay::{Replay, Transition, Transitions};
use crate::core::rollout::{finite_obs, finite_rewards};
use crate::core::trunk::{Embedding, Representation};
use crate::core::value_head::ValueLoss;
use crate::core::weights::read;
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// N: environment copies that are stepped together. Paper: 1.
    pub num_envs: usize,
    /// Steps of each copy in one iteration: a row of metrics, and the finest grid of evaluations.
    pub horizon: usize,
    /// Steps of each copy between updates. Paper: 4.
    pub train_every: usize,
    /// Gradient steps at each update. Paper: 1.
    pub updates: usize,
    /// Transitions that the replay buffer holds. Paper: 1e6.
    pub buffer: usize,
    /// Transitions in a minibatch, drawn uniformly from the buffer. Paper: 32.
    pub minibatch: usize,
    /// Environment steps with uniformly random actions before the first update. Paper: 50 000.
    pub learning_starts: usize,
    /// γ: discount factor, in [0, 1]. Paper: 0.99.
    pub gamma: f64,
    /// The target's action is the online network's choice (Double DQN), or the target network's own (DQN).
    pub double: bool,
    /// n: gradient steps between moves of the target network. Paper: 10 000 steps of the environment; tuned variant 30 000.
    pub target_every: usize,
    /// τ: share of the way that the target network moves then, in (0, 1]. Paper: 1.
    pub tau: f64,
    /// ε at the start of the run. Paper: 1.
    pub epsilon_start: f64,
    /// ε from the end of its descent on. Paper: 0.1; tuned variant 0.01.
    pub epsilon_end: f64,
    /// Share of the run over which ε falls, linearly. Paper: 1 M of 50 M steps.
    pub epsilon_share: f64,
    /// Time limits `bootstrap` (correct) or are `terminal` (as in some released codes).
    pub time_limit: TimeLimit,
    /// Adam's step size.
    pub learning_rate: f64,
    /// How the learning rate changes over the run: `constant` or `linear` (to zero).
    pub lr_schedule: Schedule,
    /// ε of Adam.
    pub adam_epsilon: f64,
    /// Largest slope of the squared error; 0 leaves it as it is. Paper: 1.
    pub error_clip: f64,
    /// Largest norm of the gradient; 0 switches clipping off.
    pub max_grad_norm: f64,
    /// Sizes of the hidden layers before the features.
    pub hidden: Vec<usize>,
    /// Nonlinearity after each hidden layer: `tanh` or `relu`.
    pub activation: Activation,
    /// Initial weights: `orthogonal`, `xavier` or `pytorch` (uniform in ±1/√in).
    pub init: Init,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub representation: Representation,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            num_envs: 1,
            horizon: 1000,
            train_every: 4,
            updates: 1,
            buffer: 1_000_000,
            minibatch: 32,
            learning_starts: 1000,
            gamma: 0.99,
            double: true,
            target_every: 1000,
            tau: 1.0,
            epsilon_start: 1.0,
            epsilon_end: 0.05,
            epsilon_share: 0.1,
            time_limit: TimeLimit::Bootstrap,
            learning_rate: 5e-4,
            lr_schedule: Schedule::Constant,
            adam_epsilon: 1e-5,
            error_clip: 1.0,
            max_grad_norm: 10.0,
            hidden: vec![64],
            activation: Activation::Relu,
            init: Init::Orthogonal,
            representation: Representation {
                embedding: Embedding {
                    features: 64,
                    norm: Norm::None,
                    squash: Squash::Relu,
                    scale: Scale::None,
                    geometry: Geometry::Euclidean,
                    ..Embedding::default()
                },
                value_loss: ValueLoss::Squared,
                ..Representation::default()
            },
        }
    }
}

impl Config {
    fn validate(&self, total_steps: u64) -> Result<(), BuildError> {
        for (key, value) in [
            ("train_every", self.train_every),
            ("updates", self.updates),
            ("target_every", self.target_every),
        ] {
            at_least(key, value, 1)?;
        }
        rollout(self.num_envs, self.horizon)?;
        widths("hidden", &self.hidden)?;
        replay(self.minibatch, self.buffer, self.learning_starts, total_steps)?;
        positive("tau", self.tau)?;
        for (key, value) in [
            ("gamma", self.gamma),
            ("tau", self.tau),
            ("epsilon_start", self.epsilon_start),
            ("epsilon_end", self.epsilon_end),
            ("epsilon_share", self.epsilon_share),
        ] {
            within(key, value, 0.0, 1.0)?;
        }
        positive("learning_rate", self.learning_rate)?;
        positive("adam_epsilon", self.adam_epsilon)?;
        within("error_clip", self.error_clip, 0.0, f64::INFINITY)?;
        within("max_grad_norm", self.max_grad_norm, 0.0, f64::INFINITY)?;
        self.representation.validate()
    }

    /// ε after so many of `total` steps of the environment.
    fn epsilon(&self, steps: u64, total: u64) -> f64 {
        let descent = self.epsilon_share * total as f64;
        let share = if descent > 0.0 { (steps as f64 / descent).min(1.0) } else { 1.0 };
        self.epsilon_start + share * (self.epsilon_end - self.epsilon_start)
    }
}

/// The agent.
pub struct Dqn {
    config: Config,
    /// Q_θ and Q_θ'.
    net: QNet,
    target: QNet,
    adam: Adam,
    points_adam: RiemannianAdam,
    replay: Replay,
    action_rng: Rng,
    minibatch_rng: Rng,
    total_steps: u64,
    /// Steps of the environment, of each copy, and of the gradient so far.
    env_steps: u64,
    steps: u64,
    gradient_steps: u64,
    /// Observations before a step, and its actions.
    obs: Vec<f32>,
    actions: Vec<f32>,
    mb: Transitions,
    /// Q_θ and Q_θ' `[B, A]`, and y `[B]`.
    q: Vec<f32>,
    q_target: Vec<f32>,
    targets: Vec<f32>,
    acting: QWork,
    evaluation: RefCell<(Vec<f32>, QWork)>,
}

/// The number of choices of the task's one agent.
fn choices(spec: &Spec) -> Result<usize, BuildError> {
    let cannot = |why: String| {
        let why = format!("{why}`ppo`, `trpo`, `mdpo` and `hyperpp` can act in it");
        Err(BuildError::CannotAct { env: spec.id.clone(), why })
    };
    match &only_agent(spec)?.action {
        Space::Discrete(_) if spec.masked => {
            cannot("it forbids some of its choices and this agent allows them all; ".to_owned())
        }
        Space::Discrete(n) => Ok(*n),
        space @ Space::Box { .. } => cannot(format!(
            "its action space is {space} and this agent makes one choice; `sac`, `mdpo_off`, "
        )),
        space => cannot(format!("its action space is {space} and this agent makes one choice; ")),
    }
}

impl Dqn {
    /// An agent with fresh networks and an empty buffer.
    ///
    /// # Errors
    /// When an option is out of range, the agent cannot act in the task, or the device is not the CPU.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        config.validate(setup.total_steps)?;
        if !setup.device.is_cpu() {
            let why = "its networks compute on the CPU only: use `--device cpu`".to_owned();
            return Err(BuildError::CannotAct { env: setup.spec.id.clone(), why });
        }
        let actions = choices(setup.spec)?;
        let (c, r, obs_len) = (&config, &config.representation, setup.spec.obs_len());
        let shape =
            Net { hidden: c.hidden.clone(), activation: c.activation, init: c.init, log_std_init: 0.0 };
        let init = &mut rng::stream(setup.seed, Purpose::Init, 0);
        let net = QNet::new(obs_len, actions, &shape, r, init, setup);
        let points = net.points.len();
        Ok(Self {
            adam: Adam::new(net.weights.len(), c.adam_epsilon, &setup.device),
            points_adam: RiemannianAdam::new(
                points,
                r.embedding.features,
                r.embedding.curvature,
                c.adam_epsilon,
            ),
            target: net.clone(),
            net,
            replay: Replay::new(c.buffer, obs_len, 1)?,
            action_rng: rng::stream(setup.seed, Purpose::Action, 0),
            minibatch_rng: rng::stream(setup.seed, Purpose::Minibatch, 0),
            total_steps: setup.total_steps,
            env_steps: 0,
            steps: 0,
            gradient_steps: 0,
            obs: Vec::new(),
            actions: vec![0.0; c.num_envs],
            mb: Transitions::default(),
            q: Vec::new(),
            q_target: Vec::new(),
            targets: Vec::new(),
            acting: QWork::default(),
            evaluation: RefCell::default(),
            config,
        })
    }

    /// Acts once in every copy and stores the transitions. Returns the number of gradient steps that are due.
    fn step(&mut self, envs: &mut VecEnv) -> Result<usize, AgentError> {
        profile::enter(Stage::Inference);
        let c = &self.config;
        finite_obs(envs)?;
        self.obs.clear();
        self.obs.extend_from_slice(envs.obs());
        let random = self.env_steps < c.learning_starts as u64;
        let epsilon = if random { 1.0 } else { c.epsilon(self.env_steps, self.total_steps) };
        self.net.values(&self.obs, &mut self.acting, &mut self.q);
        choose(&self.q, epsilon, &mut self.action_rng, &mut self.actions);
        profile::enter(Stage::Environment);
        envs.step(&self.actions);
        profile::enter(Stage::Update);
        finite_rewards(envs)?;
        let o = self.obs.len() / c.num_envs;
        for i in 0..c.num_envs {
            let (terminated, truncated) = (envs.terminated()[i], envs.truncated()[i]);
            let after = if terminated || truncated { envs.final_obs() } else { envs.obs() };
            self.replay.push(&Transition {
                obs: &self.obs[i * o..(i + 1) * o],
                action: &self.actions[i..=i],
                rewards: &[envs.rewards()[i] as f32],
                next_obs: &after[i * o..(i + 1) * o],
                terminated: terminated || truncated && c.time_limit == TimeLimit::Terminal,
            });
        }
        self.steps += 1;
        self.env_steps = envs.steps();
        let learning = self.env_steps > c.learning_starts as u64;
        Ok(if learning && self.steps.is_multiple_of(c.train_every as u64) { c.updates } else { 0 })
    }
}

/// y = r + γ Q'(s', argmax Q(s', ·)) for rows of Q and Q' at s', `[B, A]` each, into `y` `[B]`.
fn double_targets(mb: &Transitions, gamma: f64, chooser: &[f32], judge: &[f32], y: &mut Vec<f32>) {
    let a = judge.len() / mb.rewards.len().max(1);
    let rows = chooser.chunks_exact(a).zip(judge.chunks_exact(a));
    let rewards = mb.rewards.iter().zip(&mb.goes_on);
    y.clear();
    y.extend(rewards.zip(rows).map(|((r, goes_on), (q, q_target))| {
        let next = q_target[best(q)];
        r + gamma as f32 * goes_on * next
    }));
}

impl Agent for Dqn {
    fn num_envs(&self) -> usize {
        self.config.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        (self.config.num_envs * self.config.horizon) as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let (per_iteration, c) = (self.steps_per_iteration(), self.config.clone());
        let done = self.env_steps / per_iteration;
        let lr = c.learning_rate * c.lr_schedule.factor(done, self.total_steps / per_iteration);
        let mut tally = Tally::default();
        for _ in 0..c.horizon {
            // 1. Act, store.
            for _ in 0..self.step(envs)? {
                // 2. Minibatch.
                self.replay.sample(c.minibatch, &mut self.minibatch_rng, &mut self.mb);

                // 3. Targets.
                self.target.evaluate(&self.mb.next_obs, &mut self.q_target);
                if c.double {
                    self.net.evaluate(&self.mb.next_obs, &mut self.q);
                }
                let chooser = if c.double { &self.q } else { &self.q_target };
                double_targets(&self.mb, c.gamma, chooser, &self.q_target, &mut self.targets);

                // 4. One step down the loss.
                let net = &mut self.net;
                let (_, fit) = net.grad(&self.mb.obs, &self.mb.actions, &self.targets, c.error_clip);
                let [norm] = read([clip_global_norm([&mut net.weights, &mut net.points], c.max_grad_norm)]);
                tally.add(&fit, norm);
                if norm.is_finite() {
                    net.step(&mut self.adam, &mut self.points_adam, lr);
                }

                // 5. The target network follows.
                self.gradient_steps += 1;
                if self.gradient_steps.is_multiple_of(c.target_every as u64) {
                    self.target.track(&self.net, c.tau);
                }
            }
        }
        tally.metrics(lr, envs.steps())
    }

    fn act(&self, seen: &mut Seen, how: Acting, actions: &mut [f32], rng: &mut Rng) {
        let (q, work) = &mut *self.evaluation.borrow_mut();
        self.net.values(seen.obs, work, q);
        let epsilon = match how {
            Acting::Greedy => 0.0,
            Acting::Sampled => self.config.epsilon(self.env_steps, self.total_steps),
        };
        choose(q, epsilon, rng, actions);
    }

    fn remarks(&self) -> Vec<String> {
        self.config.representation.embedding.remarks()
    }

    fn replay(&self) -> Option<&Replay> {
        Some(&self.replay)
    }

    fn replay_mut(&mut self) -> Option<&mut Replay> {
        Some(&mut self.replay)
    }

    fn save(&self) -> State {
        let mut state = State::new();
        self.net.save("policy", &mut state);
        let mut target = State::new();
        self.target.save("policy", &mut target);
        state.put_state("target", target);
        self.adam.save("adam", &mut state);
        self.points_adam.save("points_adam", &mut state);
        rng::save(&self.action_rng, "action_rng", &mut state);
        rng::save(&self.minibatch_rng, "minibatch_rng", &mut state);
        let counters = [self.replay.stored(), self.env_steps, self.steps, self.gradient_steps];
        state.put_u64("counters", &counters);
        state
    }

    fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.net.load("policy", state)?;
        self.target.load("policy", &state.state("target"))?;
        self.adam.load("adam", state)?;
        self.points_adam.load("points_adam", state)?;
        self.action_rng = rng::load("action_rng", state)?;
        self.minibatch_rng = rng::load("minibatch_rng", state)?;
        let counters = state.u64("counters", 4)?;
        self.replay.expect(counters[0]);
        (self.env_steps, self.steps, self.gradient_steps) = (counters[1], counters[2], counters[3]);
        Ok(())
    }
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;
    use crate::Device;
    use crate::core::testing::{close, rng};
    use steadfast_envs::make;

    fn agent(env: &str, config: Config, device: Device) -> Result<(Dqn, VecEnv), BuildError> {
        let envs = VecEnv::new(&|| make(env).unwrap(), config.num_envs, 0, Purpose::Env, 1);
        let setup = Setup { spec: envs.spec(), seed: 0, total_steps: 10_000, device };
        Ok((Dqn::new(config, &setup)?, envs))
    }

    fn small() -> Config {
        Config { buffer: 2000, learning_starts: 100, horizon: 200, hidden: vec![8], ..Config::default() }
    }

    /// Three transitions, the second of which ended: worked out by hand.
    #[test]
    fn one_network_chooses_and_the_other_judges() {
        let mb = Transitions {
            rewards: vec![1.0, -2.0, 0.5],
            goes_on: vec![1.0, 0.0, 1.0],
            ..Transitions::default()
        };
        let online = [0.0, 3.0, 1.0, /**/ 9.0, 0.0, 0.0, /**/ -1.0, -2.0, -0.5];
        let target = [5.0, -1.0, 7.0, /**/ 8.0, 8.0, 8.0, /**/ 4.0, 2.0, 10.0];
        let mut y = Vec::new();
        double_targets(&mb, 0.9, &online, &target, &mut y);
        close(&y, &[1.0 - 0.9, -2.0, 0.5 + 0.9 * 10.0], 1e-6);
        // The target network's own choice is its maximum: never less.
        double_targets(&mb, 0.9, &target, &target, &mut y);
        close(&y, &[1.0 + 0.9 * 7.0, -2.0, 0.5 + 0.9 * 10.0], 1e-6);
    }

    #[test]
    fn epsilon_falls_and_actions_follow_it() {
        let c = Config { epsilon_end: 0.2, epsilon_share: 0.25, ..Config::default() };
        let epsilons = [0, 1250, 2500, 9000].map(|steps| c.epsilon(steps, 10_000));
        close(&epsilons, &[1.0, 0.6, 0.2, 0.2], 1e-12);
        close(&[Config { epsilon_share: 0.0, ..c }.epsilon(0, 100)], &[0.2], 1e-12);

        // Of four actions the best is chosen with probability 1 − ε + ε/4, the others with ε/4 each.
        let (n, epsilon) = (40_000usize, 0.4);
        let q: Vec<f32> = [0.0, 1.0, 0.5, 1.0].repeat(n);
        let mut actions = vec![0.0; n];
        choose(&q, epsilon, &mut rng(3), &mut actions);
        for (a, p) in [(0, 0.1), (1, 0.7), (2, 0.1), (3, 0.1)] {
            let share = actions.iter().filter(|x| **x as usize == a).count() as f64 / n as f64;
            assert!((share - p).abs() < 5.0 * (p * (1.0 - p) / n as f64).sqrt(), "{a}: {share}, not {p}");
        }
        choose(&q, 0.0, &mut rng(3), &mut actions);
        assert!(actions.iter().all(|a| *a == 1.0), "the first of equals");
    }

    /// Acrobot hardly ever swings up by chance: after 500 steps the time is over. What is stored bootstraps from the
    /// observation that the episode was cut at, unless it is told otherwise.
    #[test]
    fn a_time_limit_is_no_end() {
        for (time_limit, goes_on) in [(TimeLimit::Bootstrap, 1.0), (TimeLimit::Terminal, 0.0)] {
            let config = Config { time_limit, horizon: 501, learning_starts: 5000, ..small() };
            let (mut agent, mut envs) = agent("Acrobot-v1", config, Device::cpu()).unwrap();
            agent.iterate(&mut envs).unwrap();
            let (last, next) = (agent.replay.piece(499, 500), agent.replay.piece(500, 501));
            assert_eq!(last.f32("goes_on", 1).unwrap(), [goes_on]);
            assert_ne!(last.f32("next_obs", 6).unwrap(), next.f32("obs", 6).unwrap(), "a new episode");
            let before = agent.replay.piece(498, 499);
            assert_eq!(before.f32("next_obs", 6).unwrap(), last.f32("obs", 6).unwrap());
            assert_eq!(before.f32("goes_on", 1).unwrap(), [1.0]);
        }
    }

    #[test]
    fn tasks_that_it_cannot_act_in_are_refused_with_others_that_can() {
        let refused = |env: &str| agent(env, small(), Device::cpu()).err().unwrap().to_string();
        assert!(refused("Pendulum-v1").contains("`sac`, `mdpo_off`, `ppo`, `trpo`, `mdpo` and `hyperpp`"));
        assert!(refused("probe/multi-discrete").contains("one choice; `ppo`, `trpo`, `mdpo` and `hyperpp`"));
        assert!(refused("particle/spread").contains("agents"));
        let error = agent("CartPole-v1", small(), Device::cpu_tensors()).err().unwrap().to_string();
        assert!(error.contains("--device cpu"), "{error}");
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        for (config, key) in [
            (Config { tau: 0.0, ..small() }, "tau"),
            (Config { tau: 1.5, ..small() }, "tau"),
            (Config { gamma: -0.1, ..small() }, "gamma"),
            (Config { epsilon_end: 1.1, ..small() }, "epsilon_end"),
            (Config { target_every: 0, ..small() }, "target_every"),
            (Config { minibatch: 4000, ..small() }, "minibatch"),
            (Config { learning_starts: 10_000, ..small() }, "learning_starts"),
            (Config { hidden: vec![4, 0], ..small() }, "hidden"),
            (
                Config {
                    representation: Representation {
                        embedding: Embedding { alpha: 1.0, ..Embedding::default() },
                        ..small().representation
                    },
                    ..small()
                },
                "alpha",
            ),
        ] {
            let error = agent("CartPole-v1", config, Device::cpu()).err().unwrap().to_string();
            assert!(error.contains(&format!("'{key}'")), "{key}: {error}");
        }
    }

    /// Features so long that sinh overflows: no gradient is finite, and no weight is touched.
    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let representation = Representation {
            embedding: Embedding {
                geometry: Geometry::BallPoints,
                curvature: 1e6,
                ..small().representation.embedding
            },
            ..small().representation
        };
        let config = Config { representation, ..small() };
        let (mut agent, mut envs) = agent("CartPole-v1", config, Device::cpu()).unwrap();
        let before = agent.net.weights.to_host();
        let error = agent.iterate(&mut envs).unwrap_err().to_string();
        assert!(error.contains("NaN or infinite"), "{error}");
        assert_eq!(agent.net.weights.to_host(), before);
    }
}
