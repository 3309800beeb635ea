//! Mirror descent policy optimisation, off-policy (MDPO).
//!
//! M. Tomar, L. Shani, Y. Efroni, M. Ghavamzadeh, 2020, arXiv:2005.09814.
//!
//! Repeat, at every step of the environment:
//!
//! 1. Act with π_θ (uniformly at random at first), store the transition; then, gradient step by gradient step:
//! 2. Draw a minibatch of transitions.
//! 3. Fit Q_1 and Q_2 to r + γ V'(s'); only to r where the task ended.
//! 4. Draw a ~ π_θ(·|s); fit V to min(Q_1, Q_2)(s, a) − λ ln π(a|s).
//! 5. Lower E[c ln π(a|s) − (c − λ) ln π_old(a|s) − Q_1(s, a)] through the action, by one Adam step; c = 1/t.
//! 6. The target network follows: φ' ← φ' + τ (φ − φ').
//! 7. Every m steps of the environment: π_old ← π_θ.
//!
//! The loss is c KL(π ‖ π_old) − λ entropy − Q: one step of mirror descent of size t on the entropy-regularised task, whose
//! exact solution is π_old^(1 − λt) exp(t Q). λ = 0 is the hard variant; at c = λ it is SAC's. With q in (1, 2] the
//! logarithms become ln_q p = (p^(q−1) − 1)/(q − 1), dimension by dimension, and the weight of the one of π_old
//! q (c − λ): the Tsallis variant.
//!
//! Deviations from the released code, each of which the preset `code` undoes: training actions are drawn from the policy,
//! not its most likely ones; V's targets hold each state's own ln π, not the minibatch's mean; no regulariser on the
//! actor's outputs; densities have no floor. As in the code, a step of the environment is one gradient step, instead of m
//! of them on one objective.

use serde::{Deserialize, Serialize};
use steadfast_envs::{Rng, State, VecEnv};

use crate::config::{at_least, positive, within};
use crate::core::off_policy::{ActorCritics, CriticKind, OffPolicy};
use crate::core::replay::Replay;
use crate::core::squashed::{ActorLoss, Candidate, Logarithm, Squashed};
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// c = 1/t: weight of the divergence from π_old. Paper: 0.3 to 0.8, by task.
    pub kl_coef: f64,
    /// λ: weight of the entropy against the reward; 0 is the hard variant. Paper: 0.2.
    pub entropy_coef: f64,
    /// m: environment steps between copies of π to π_old. Paper: 1000.
    pub m: usize,
    /// q of the logarithm, in [1, 2]: 1 is the KL variant, above it the Tsallis variant.
    pub tsallis_q: f64,
    /// Weight of μ² + (ln σ)² in the actor's loss. Code: 1e-3.
    pub actor_regularizer: f64,
    /// The minibatch's mean of ln π in all of V's targets. Code: true.
    pub mean_entropy: bool,
    /// Densities of a dimension below this count as this in logarithms, without gradient. Code: 1e-6.
    pub density_floor: f64,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub off_policy: OffPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kl_coef: 0.5,
            entropy_coef: 0.2,
            m: 1000,
            tsallis_q: 1.0,
            actor_regularizer: 0.0,
            mean_entropy: false,
            density_floor: 0.0,
            off_policy: OffPolicy {
                critic: CriticKind::VNetwork,
                smaller_q: false,
                learning_starts: 10_000,
                ..OffPolicy::default()
            },
        }
    }
}

/// What an actor step lowers: c ln π − q (c − λ) ln π_old − Q, in the mean over states.
pub struct ProximalSoftValue {
    /// c
    pub kl_coef: f64,
    /// λ
    pub entropy_coef: f64,
    /// q
    pub tsallis_q: f64,
    /// Weight of μ² + (ln σ)².
    pub regularizer: f64,
}

impl ActorLoss for ProximalSoftValue {
    fn row<S: Candidate>(&self, pi: &S) -> S::X {
        let old = self.tsallis_q * (self.kl_coef - self.entropy_coef);
        let loss = pi.log_prob() * self.kl_coef - pi.log_prob_old() * old - pi.q();
        if self.regularizer == 0.0 { loss } else { loss + pi.magnitude() * self.regularizer }
    }
}

/// The agent.
pub struct MdpoOff {
    config: Config,
    core: ActorCritics,
    /// π_old
    old: Squashed,
}

impl MdpoOff {
    /// An agent with fresh networks.
    ///
    /// # Errors
    /// When an option is out of range or the agent cannot act in the task.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        positive("kl_coef", config.kl_coef)?;
        within("entropy_coef", config.entropy_coef, 0.0, f64::INFINITY)?;
        at_least("m", config.m, 1)?;
        within("tsallis_q", config.tsallis_q, 1.0, 2.0)?;
        within("actor_regularizer", config.actor_regularizer, 0.0, f64::INFINITY)?;
        within("density_floor", config.density_floor, 0.0, 1.0)?;
        let logarithm = Logarithm { q: config.tsallis_q, floor: config.density_floor };
        let core = ActorCritics::new(config.off_policy.clone(), logarithm, setup)?;
        Ok(Self { old: core.actor.copy(), core, config })
    }
}

impl Agent for MdpoOff {
    fn num_envs(&self) -> usize {
        self.config.off_policy.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        self.core.batch_len() as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let Self { config: c, core, old } = self;
        let loss = ProximalSoftValue {
            kl_coef: c.kl_coef,
            entropy_coef: c.entropy_coef,
            tsallis_q: c.tsallis_q,
            regularizer: c.actor_regularizer,
        };
        for _ in 0..c.off_policy.horizon {
            // 1. Act, store.
            let before = envs.steps();
            for _ in 0..core.act(envs)? {
                // 2. Minibatch.
                core.sample();

                // 3. Q functions.
                core.fit_q(c.entropy_coef);

                // 4. Fresh actions, and V.
                core.propose();
                core.fit_v(c.entropy_coef, c.mean_entropy);

                // 5. Actor.
                core.remember(old);
                core.step_actor(&loss);

                // 6. Target network.
                core.track();
            }
            // 7. π_old.
            if before / c.m as u64 != envs.steps() / c.m as u64 {
                *old = core.actor.copy();
            }
        }
        let metrics = Metrics {
            learning_rate: Some(c.off_policy.learning_rate),
            step_size: Some(1.0 / c.kl_coef),
            temperature: Some(c.entropy_coef),
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
        self.old.save("policy_old", &mut state);
        state
    }

    fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.core.load(state)?;
        self.old.load("policy_old", state)?;
        Ok(())
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::core::adam::Adam;
    use crate::core::device::Device;
    use crate::core::mlp::{Activation, Init};
    use crate::core::squashed::Draw;
    use crate::core::testing::{close, rng};

    /// With π_old normal (before squashing) and Q(a) = −½ k (u − b)² − λ ln(1 − a²), a = tanh u, the exact step π_old^(1−λt)
    /// exp(t Q) is of the same family: precisions add.
    #[test]
    fn many_steps_on_a_bandit_reach_the_mirror_descent_step() {
        let (k, b) = (1.5f64, 0.6);
        for (t, lambda) in [(0.8, 0.0), (0.8, 0.4), (2.0, 0.5)] {
            let (kl_coef, entropy_coef) = (1.0 / t, lambda);
            let loss = ProximalSoftValue { kl_coef, entropy_coef, tsallis_q: 1.0, regularizer: 0.0 };
            let device = Device::cpu();
            let new = |mean: f64, std: f64| {
                let mut actor =
                    Squashed::new(1, 1, &[], Activation::Tanh, Init::Pytorch, &mut rng(0), &device);
                actor.weights.set(vec![0.0, 0.0, mean as f32, std.ln() as f32]);
                actor
            };
            let (mut mean, mut std) = (-0.4, 0.8);
            let mut actor = new(mean, std);
            // Three steps of mirror descent, each from where the one before should have ended.
            for round in 0..3 {
                let old = new(mean, std);
                let precision = (1.0 - lambda * t) / (std * std) + t * k;
                mean = ((1.0 - lambda * t) * mean / (std * std) + t * k * b) / precision;
                std = precision.powf(-0.5);
                let mut adam = Adam::new(actor.len(), 1e-8, &device);
                // Noise at the quantiles of the normal distribution: batch means are expectations.
                const N: usize = 400;
                let noise: Vec<f32> = quantiles(N);
                let obs = vec![1.0; N];
                let mut draw = Draw::with_noise(noise);
                for i in 0..1500 {
                    actor.draw(&obs, &mut draw);
                    old.remember(&obs, &mut draw);
                    let judge = |a: &f32| {
                        let (a, u) = (f64::from(*a), f64::from(*a).atanh());
                        let q = -0.5 * k * (u - b).powi(2) - lambda * (1.0 - a * a).ln();
                        let slope = (-k * (u - b) + 2.0 * lambda * a) / (1.0 - a * a);
                        (q as f32, slope as f32)
                    };
                    let (q, slope): (Vec<f32>, Vec<f32>) = draw.actions.iter().map(judge).unzip();
                    actor.grad(&obs, &mut draw, &q, &slope, &loss);
                    adam.step(&mut actor.weights, 0.03 * (1.0 - f64::from(i) / 1500.0));
                }
                let p = actor.weights.to_host();
                let found = [f64::from(p[0] + p[2]), f64::from(p[1] + p[3]).exp()];
                println!("t {t} λ {lambda} round {round}: {found:?} of {mean}, {std}");
                close(&found, &[mean, std], 5e-3);
            }
        }
    }

    /// The standard normal distribution in `n` points of equal weight, scaled to unit variance.
    fn quantiles(n: usize) -> Vec<f32> {
        // Bisection on the distribution function, integrated by the trapezoidal rule.
        let (step, mut x, mut below, mut out) = (1e-4, -6.0f64, 0.0f64, Vec::new());
        let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        while out.len() < n {
            let target = (out.len() as f64 + 0.5) / n as f64;
            while below < target {
                below += 0.5 * step * (density(x) + density(x + step));
                x += step;
            }
            out.push(x);
        }
        let scale = (out.iter().map(|x| x * x).sum::<f64>() / n as f64).sqrt();
        out.iter().map(|x| (x / scale) as f32).collect()
    }
}
