//! Soft actor-critic (SAC).
//!
//! T. Haarnoja, A. Zhou, K. Hartikainen, G. Tucker, S. Ha, J. Tan, V. Kumar, H. Zhu, A. Gupta, P. Abbeel, S. Levine,
//! 2018, arXiv:1812.05905; with a value network and a fixed temperature, its first form: T. Haarnoja, A. Zhou,
//! P. Abbeel, S. Levine, 2018, arXiv:1801.01290.
//!
//! Repeat, at every step of the environment:
//!
//! 1. Act with π_θ (uniformly at random at first), store the transition; then, gradient step by gradient step:
//! 2. Draw a minibatch of transitions.
//! 3. Fit Q_1 and Q_2 to r + γ (min(Q_1', Q_2')(s', a') − α ln π(a'|s')), a' ~ π_θ; only r where the task ended.
//! 4. Draw a ~ π_θ(·|s); lower E[α ln π(a|s) − min(Q_1, Q_2)(s, a)] through the action, by one Adam step.
//! 5. Lower −ln α (E[ln π(a|s)] + H̄): the temperature α rises where the entropy is below its target H̄.
//! 6. Target networks follow: φ' ← φ' + τ (φ − φ').
//!
//! Deviations: with `critic = "v-network"` the Q functions learn from a value network's target, V'(s'), and V from
//! min(Q_1, Q_2)(s, a) − α ln π(a|s) (the first form; there the released codes raise Q_1 alone: `smaller_q`). ln(1 − a²)
//! is computed without the released codes' 1e-6, from the action before squashing.

use serde::{Deserialize, Serialize};
use steadfast_envs::{Rng, State, VecEnv};

use crate::config::positive;
use crate::core::adam::Adam;
use crate::core::off_policy::{ActorCritics, OffPolicy};
use crate::core::replay::Replay;
use crate::core::squashed::{ActorLoss, Candidate, Logarithm};
use crate::core::weights::Weights;
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// α: weight of the entropy against the reward, at the beginning if it is tuned. First paper: fixed 0.2.
    pub temperature: f64,
    /// Tune α towards the target entropy (second paper) or leave it as it is.
    pub tune_temperature: bool,
    /// H̄ for each dimension of the action, nats. Second paper: −1.
    pub target_entropy: f64,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub off_policy: OffPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            tune_temperature: true,
            target_entropy: -1.0,
            off_policy: OffPolicy::default(),
        }
    }
}

/// What an actor step lowers: α ln π(a|s) − Q(s, a), in the mean over states.
pub struct SoftValue {
    /// α
    pub temperature: f64,
}

impl ActorLoss for SoftValue {
    fn row<S: Candidate>(&self, pi: &S) -> S::X {
        pi.log_prob() * self.temperature - pi.q()
    }
}

/// The agent.
pub struct Sac {
    config: Config,
    core: ActorCritics,
    /// ln α and its optimiser.
    ln_alpha: Weights,
    alpha_adam: Adam,
    /// H̄ of whole actions.
    target_entropy: f64,
}

impl Sac {
    /// An agent with fresh networks.
    ///
    /// # Errors
    /// When an option is out of range or the agent cannot act in the task.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        positive("temperature", config.temperature)?;
        let core = ActorCritics::new(config.off_policy.clone(), Logarithm::NATURAL, setup)?;
        Ok(Self {
            ln_alpha: Weights::new(vec![config.temperature.ln() as f32], &setup.device),
            alpha_adam: Adam::new(1, 1e-8, &setup.device),
            target_entropy: config.target_entropy * setup.spec.action_len() as f64,
            core,
            config,
        })
    }
}

/// α
fn temperature(ln_alpha: &Weights) -> f64 {
    f64::from(ln_alpha.params.first()).exp()
}

impl Agent for Sac {
    fn num_envs(&self) -> usize {
        self.config.off_policy.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        self.core.batch_len() as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let Self { config: c, core, ln_alpha, alpha_adam, target_entropy } = self;
        let mut alpha = temperature(ln_alpha);
        for _ in 0..c.off_policy.horizon {
            // 1. Act, store.
            for _ in 0..core.act(envs)? {
                // 2. Minibatch.
                core.sample();

                // 3. Q functions.
                core.fit_q(alpha);

                // 4. Actor, and V where there is one.
                core.propose();
                core.fit_v(alpha, false);
                core.step_actor(&SoftValue { temperature: alpha });

                // 5. Temperature.
                if c.tune_temperature {
                    let log_probs = core.log_probs();
                    let mean = log_probs.iter().map(|l| f64::from(*l)).sum::<f64>() / log_probs.len() as f64;
                    ln_alpha.fill_grad(-(mean + *target_entropy) as f32);
                    alpha_adam.step(ln_alpha, c.off_policy.learning_rate);
                    alpha = temperature(ln_alpha);
                }

                // 6. Target networks.
                core.track();
            }
        }
        let metrics = Metrics {
            learning_rate: Some(c.off_policy.learning_rate),
            temperature: Some(alpha),
            ..Metrics::default()
        };
        core.finish(metrics, envs.steps())
    }

    fn act(&self, seen: &mut Seen, how: Acting, actions: &mut [f32], rng: &mut Rng) {
        self.core.pick(seen.obs, how, actions, rng);
    }

    fn replay(&self) -> Option<&Replay> {
        Some(self.core.replay())
    }

    fn replay_mut(&mut self) -> Option<&mut Replay> {
        Some(self.core.replay_mut())
    }

    fn save(&self) -> State {
        let mut state = State::new();
        self.core.save(&mut state);
        state.put_f32("ln_alpha", &self.ln_alpha.to_host());
        self.alpha_adam.save("alpha_adam", &mut state);
        state
    }

    fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.core.load(state)?;
        self.ln_alpha.set(state.f32("ln_alpha", 1)?.to_vec());
        self.alpha_adam.load("alpha_adam", state)?;
        Ok(())
    }
}
