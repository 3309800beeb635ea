//! Proximal policy optimisation with the clipped surrogate (PPO).
//!
//! J. Schulman, F. Wolski, P. Dhariwal, A. Radford, O. Klimov, 2017, arXiv:1707.06347.
//!
//! For k = 0, 1, … K−1:
//!
//! 1. Act with π_old for T steps in N environments; estimate advantages Â and returns R (GAE).
//! 2. For each epoch, for each random minibatch of the batch:
//! 3. Raise E[min(r Â, clip(r, 1−ε, 1+ε) Â)] + c₂ E[entropy of π], r = π_θ(a|s) / π_old(a|s) (eq. 7, 9).
//! 4. Lower c₁ E[(V_φ(s) − R)²] (eq. 9).
//! 5. One Adam step for both, their joint gradient norm clipped.
//!
//! Deviations: advantages are normalised in each minibatch, the value loss may be clipped around V_old, and the
//! gradient norm is clipped; all as in the authors' code, all switchable. No early stopping on KL.

use serde::{Deserialize, Serialize};
use steadfast_envs::{Rng, State, VecEnv};

use crate::config::{at_least, positive, within};
use crate::core::adam::{Adam, Schedule, clip_global_norm};
use crate::core::loss::{ClippedSurrogate, SquaredError};
use crate::core::network::Heads;
use crate::core::on_policy::{ActorCritic, OnPolicy};
use crate::core::weights::Mean;
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Adam's step size. Paper: 3e-4.
    pub learning_rate: f64,
    /// How the learning rate changes over the run: `constant` or `linear` (to zero). Paper: linear on Atari.
    pub lr_schedule: Schedule,
    /// Passes over each batch. Paper: 10.
    pub epochs: usize,
    /// Rows of a minibatch. Paper: 64.
    pub minibatch: usize,
    /// ε: clip range of the probability ratio. Paper: 0.2.
    pub clip: f64,
    /// Clip range of the value around V_old in the value loss; 0 switches it off.
    pub value_clip: f64,
    /// c₁: weight of the value loss. Paper: 1 where networks share weights; ours do not.
    pub value_coef: f64,
    /// c₂: weight of the entropy bonus. Paper: 0 in continuous control.
    pub entropy_coef: f64,
    /// Largest joint norm of the gradients; 0 switches clipping off.
    pub max_grad_norm: f64,
    /// Normalise advantages within each minibatch.
    pub normalize_advantage: bool,
    /// ε of Adam.
    pub adam_epsilon: f64,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub on_policy: OnPolicy,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub heads: Heads,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            learning_rate: 3e-4,
            lr_schedule: Schedule::Constant,
            epochs: 10,
            minibatch: 64,
            clip: 0.2,
            value_clip: 0.0,
            value_coef: 0.5,
            entropy_coef: 0.0,
            max_grad_norm: 0.5,
            normalize_advantage: true,
            adam_epsilon: 1e-5,
            on_policy: OnPolicy::default(),
            heads: Heads::default(),
        }
    }
}

/// The agent.
pub struct Ppo {
    config: Config,
    core: ActorCritic,
    policy_adam: Adam,
    critic_adam: Adam,
}

impl Ppo {
    /// An agent with fresh networks.
    ///
    /// # Errors
    /// When an option is out of range or the agent cannot act in the task.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        positive("learning_rate", config.learning_rate)?;
        positive("clip", config.clip)?;
        positive("adam_epsilon", config.adam_epsilon)?;
        at_least("epochs", config.epochs, 1)?;
        at_least("minibatch", config.minibatch, 1)?;
        for (key, value) in [
            ("value_clip", config.value_clip),
            ("value_coef", config.value_coef),
            ("entropy_coef", config.entropy_coef),
            ("max_grad_norm", config.max_grad_norm),
        ] {
            within(key, value, 0.0, f64::INFINITY)?;
        }
        let core = ActorCritic::new(config.on_policy.clone(), &config.heads, setup)?;
        Ok(Self {
            policy_adam: Adam::new(core.policy.len(), config.adam_epsilon, &setup.device),
            critic_adam: Adam::new(core.critic.len(), config.adam_epsilon, &setup.device),
            core,
            config,
        })
    }
}

impl Agent for Ppo {
    fn num_envs(&self) -> usize {
        self.config.on_policy.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        self.core.batch_len() as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let Self { config: c, core, policy_adam, critic_adam } = self;
        let lr = c.learning_rate * c.lr_schedule.factor(core.iteration, core.iterations);

        // 1. Act, estimate advantages.
        let mut batch = core.collect(envs)?;

        // 2. Epochs of minibatches.
        let policy_loss = ClippedSurrogate { clip: c.clip, entropy: c.entropy_coef };
        let value_loss = SquaredError { clip: c.value_clip, weight: c.value_coef };
        let mut grad_norm = Mean::default();
        core.shuffle(&mut batch, c.epochs, c.minibatch);
        while let Some(mb) = batch.minibatch() {
            if c.normalize_advantage {
                mb.standardize_advantage(1e-8);
            }

            // 3. Clipped surrogate and entropy.
            core.policy.grad(mb, &policy_loss);

            // 4. Value loss.
            core.critic.grad(mb, &value_loss);

            // 5. One step for both.
            let (policy, critic) = (&mut core.policy.weights, &mut core.critic.weights);
            grad_norm.add(clip_global_norm([policy, critic], c.max_grad_norm));
            policy_adam.step(&mut core.policy.weights, lr);
            critic_adam.step(&mut core.critic.weights, lr);
        }
        core.finish(batch, c.clip, [grad_norm.get()], |[grad_norm]| Metrics {
            learning_rate: Some(lr),
            grad_norm: Some(grad_norm),
            ..Metrics::default()
        })
        .finite(envs.steps())
    }

    fn act(&self, seen: &mut Seen, how: Acting, actions: &mut [f32], rng: &mut Rng) {
        self.core.pick(seen, how, actions, rng);
    }

    fn remarks(&self) -> Vec<String> {
        self.config.heads.remarks()
    }

    fn save(&self) -> State {
        let mut state = State::new();
        self.core.save(&mut state);
        self.policy_adam.save("policy_adam", &mut state);
        self.critic_adam.save("critic_adam", &mut state);
        state
    }

    fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.core.load(state)?;
        self.policy_adam.load("policy_adam", state)?;
        self.critic_adam.load("critic_adam", state)?;
        Ok(())
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use crate::core::batch::Rows;
    use crate::core::dist::Head;
    use crate::core::loss::{PolicyLoss, Sample};
    use crate::core::mlp::Activation;
    use crate::core::policy::Policy;
    use crate::core::testing::{
        actions, close, devices, loss_and_grad, normals, params, policy, policy_on, rows, shift_log_prob_old,
    };
    use crate::core::weights::read;

    /// ln π: its gradient is the score.
    struct LogProb;
    impl PolicyLoss for LogProb {
        fn row<S: Sample>(&self, pi: &S) -> S::X {
            pi.log_prob()
        }
    }

    /// A batch whose ratios π_θ/π_old are `ratios` at the policy's own θ.
    fn batch_with(policy: &mut Policy, ratios: &[f64], advantage: Vec<f32>) -> Rows {
        let n = ratios.len();
        let actions = actions(&policy.head().clone(), n, 11);
        let mut rows = rows(policy, normals(2 * n, 12), actions, advantage);
        let shift: Vec<f32> = ratios.iter().map(|r| -r.ln() as f32).collect();
        shift_log_prob_old(&mut rows, &shift);
        rows
    }

    #[test]
    fn the_loss_follows_equation_7() {
        let ratios = [0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 3.0];
        for device in devices() {
            for head in [Head::Gaussian { dim: 2 }, Head::Categorical { sizes: vec![3, 2] }] {
                let mut policy = policy_on(&device, head, 2, &[3], Activation::Tanh);
                for sign in [1.0, -1.0] {
                    let advantage: Vec<f32> = (0..7).map(|i| sign * (0.5 + i as f32)).collect();
                    let rows = batch_with(&mut policy, &ratios, advantage.clone());
                    let surrogate = (0..7)
                        .map(|i| {
                            let a = f64::from(advantage[i]);
                            (ratios[i] * a).min(ratios[i].clamp(0.8, 1.2) * a)
                        })
                        .sum::<f64>()
                        / 7.0;
                    let [mean_entropy] = read([policy.compare(&rows, 0.2).entropy]);
                    for entropy in [0.0, 0.3] {
                        let loss = ClippedSurrogate { clip: 0.2, entropy };
                        let (loss, _) = loss_and_grad(&mut policy, &rows, &loss);
                        close(&[loss], &[-surrogate - entropy * mean_entropy], 1e-5);
                    }
                }
            }
        }
    }

    /// The clip removes the incentive to go on in the direction that the advantage asks for, and only that.
    #[test]
    fn the_gradient_stops_where_the_clip_binds() {
        let mut policy = policy(Head::Gaussian { dim: 2 }, 2, &[3]);
        for (ratio, advantage, flows) in [
            (1.5, 2.0, false),
            (0.5, -2.0, false),
            (1.5, -2.0, true),
            (0.5, 2.0, true),
            (1.1, 2.0, true),
            (0.9, -2.0, true),
            (1.0, 2.0, true),
        ] {
            let rows = batch_with(&mut policy, &[ratio], vec![advantage]);
            let (_, grad) = loss_and_grad(&mut policy, &rows, &ClippedSurrogate { clip: 0.2, entropy: 0.0 });
            let (_, score) = loss_and_grad(&mut policy, &rows, &LogProb);
            // ∇(−r Â) = −r Â ∇ln π, or nothing.
            let factor = if flows { -ratio as f32 * advantage } else { 0.0 };
            close(&grad, &score.iter().map(|s| factor * s).collect::<Vec<f32>>(), 1e-5);
        }
    }

    #[test]
    fn the_entropy_bonus_raises_entropy() {
        for head in [Head::Gaussian { dim: 2 }, Head::Categorical { sizes: vec![3, 2] }] {
            let mut policy = policy(head, 2, &[3]);
            let rows = batch_with(&mut policy, &[1.0; 4], vec![0.0; 4]);
            let [before] = read([policy.compare(&rows, 0.2).entropy]);
            let (_, grad) = loss_and_grad(&mut policy, &rows, &ClippedSurrogate { clip: 0.2, entropy: 1.0 });
            policy.weights.set(params(&policy).iter().zip(grad).map(|(p, g)| p - 0.01 * g).collect());
            let [after] = read([policy.compare(&rows, 0.2).entropy]);
            assert!(after > before + 1e-4);
        }
    }
}
