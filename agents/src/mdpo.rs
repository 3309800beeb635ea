//! Mirror descent policy optimisation, on-policy (MDPO).
//!
//! M. Tomar, L. Shani, Y. Efroni, M. Ghavamzadeh, 2020, arXiv:2005.09814.
//!
//! For k = 0, 1, … K−1:
//!
//! 1. Act with π_old for T steps in N environments; estimate advantages Â and returns R (GAE).
//! 2. t_k = 1 − (k − 1) / K: the step size of mirror descent falls from about 1 to 1/K.
//! 3. Repeat m times, on the whole batch:
//! 4. Raise E[r Â] − E[KL(π_θ ‖ π_old)] / t_k, r = π_θ(a|s) / π_old(a|s), by one Adam step.
//! 5. Fit V_φ to R by minibatch Adam.
//!
//! The KL divergence is in closed form and has the new policy first, contrary to TRPO's. Its gradient is zero at
//! π_old, so that m = 1 is the vanilla policy gradient.
//!
//! Deviations: none by choice from the released code under the preset `code` (constant learning rates, time limits as
//! terminations, clipped value loss without ½). By default time limits bootstrap.

use serde::{Deserialize, Serialize};
use steadfast_envs::{Rng, State, VecEnv};

use crate::config::{at_least, positive, within};
use crate::core::adam::{Adam, Schedule, clip_global_norm};
use crate::core::loss::{PolicyLoss, Sample};
use crate::core::network::Heads;
use crate::core::on_policy::{ActorCritic, CriticFit, OnPolicy};
use crate::core::weights::Mean;
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// m: policy steps on each batch. Paper: 10.
    pub m: usize,
    /// Adam's step size for the policy. Code: 3e-4.
    pub learning_rate: f64,
    /// How the learning rates change over the run: `constant` (code) or `linear` (to zero; paper).
    pub lr_schedule: Schedule,
    /// Factor on the annealed step size t_k. Paper: 1.
    pub step_size: f64,
    /// Largest norm of the policy's gradient; 0 switches clipping off. Code: 0.5.
    pub max_grad_norm: f64,
    /// Normalise advantages over the batch.
    pub normalize_advantage: bool,
    /// ε of the policy's Adam. Code: 1e-5.
    pub adam_epsilon: f64,
    /// Adam's step size for the value function. Code: 3e-4.
    pub critic_lr: f64,
    /// Passes over the batch when fitting the value function. Code: 5.
    pub critic_epochs: usize,
    /// Rows of a minibatch when fitting the value function. Code: 128.
    pub critic_minibatch: usize,
    /// Clip range of the value around V_old in the value loss; 0 switches it off. Code: 0.2.
    pub value_clip: f64,
    /// ε of the value function's Adam. Code: 1e-8.
    pub critic_adam_epsilon: f64,
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
            m: 10,
            learning_rate: 3e-4,
            lr_schedule: Schedule::Constant,
            step_size: 1.0,
            max_grad_norm: 0.5,
            normalize_advantage: true,
            adam_epsilon: 1e-5,
            critic_lr: 3e-4,
            critic_epochs: 5,
            critic_minibatch: 128,
            value_clip: 0.2,
            critic_adam_epsilon: 1e-8,
            on_policy: OnPolicy { normalize_obs: true, normalize_reward: true, ..OnPolicy::default() },
            heads: Heads::default(),
        }
    }
}

/// t_k at iteration k of K: 1 + 1/K, 1, … down to 2/K at k = K−1 and 1/K at k = K, where it stays: at 0 the penalty
/// would be infinite, and below 0 it would push the policies apart.
pub fn step_size(k: u64, iterations: u64) -> f64 {
    let iterations = iterations.max(1);
    1.0 - (k.min(iterations) as f64 - 1.0) / iterations as f64
}

/// What the m policy steps lower: KL(π ‖ π_old) / t − r Â, in the mean over rows.
pub struct ProximalSurrogate {
    /// t: step size of mirror descent.
    pub t: f64,
}

impl PolicyLoss for ProximalSurrogate {
    fn row<S: Sample>(&self, pi: &S) -> S::X {
        pi.kl() * (1.0 / self.t) - pi.ratio() * pi.advantage()
    }
}

/// The agent.
pub struct Mdpo {
    config: Config,
    core: ActorCritic,
    policy_adam: Adam,
    critic_adam: Adam,
}

impl Mdpo {
    /// An agent with fresh networks.
    ///
    /// # Errors
    /// When an option is out of range or the agent cannot act in the task.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        for (key, value) in [
            ("learning_rate", config.learning_rate),
            ("step_size", config.step_size),
            ("adam_epsilon", config.adam_epsilon),
            ("critic_lr", config.critic_lr),
            ("critic_adam_epsilon", config.critic_adam_epsilon),
        ] {
            positive(key, value)?;
        }
        within("max_grad_norm", config.max_grad_norm, 0.0, f64::INFINITY)?;
        within("value_clip", config.value_clip, 0.0, f64::INFINITY)?;
        at_least("m", config.m, 1)?;
        at_least("critic_epochs", config.critic_epochs, 1)?;
        at_least("critic_minibatch", config.critic_minibatch, 1)?;
        let core = ActorCritic::new(config.on_policy.clone(), &config.heads, setup)?;
        Ok(Self {
            policy_adam: Adam::new(core.policy.len(), config.adam_epsilon, &setup.device),
            critic_adam: Adam::new(core.critic.len(), config.critic_adam_epsilon, &setup.device),
            core,
            config,
        })
    }
}

impl Agent for Mdpo {
    fn num_envs(&self) -> usize {
        self.config.on_policy.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        self.core.batch_len() as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let Self { config: c, core, policy_adam, critic_adam } = self;
        let factor = c.lr_schedule.factor(core.iteration, core.iterations);

        // 1. Act, estimate advantages.
        let mut batch = core.collect(envs)?;
        if c.normalize_advantage {
            batch.rows.standardize_advantage(1e-8);
        }

        // 2. Step size of mirror descent.
        let t_k = c.step_size * step_size(core.iteration, core.iterations);

        // 3. m steps on the whole batch.
        let mut grad_norm = Mean::default();
        for _ in 0..c.m {
            // 4. Surrogate with the KL penalty.
            core.policy.grad(&batch.rows, &ProximalSurrogate { t: t_k });
            grad_norm.add(clip_global_norm([&mut core.policy.weights], c.max_grad_norm));
            policy_adam.step(&mut core.policy.weights, c.learning_rate * factor);
        }

        // 5. Fit the value function.
        let fit = CriticFit { epochs: c.critic_epochs, minibatch: c.critic_minibatch, clip: c.value_clip };
        core.fit_critic(&mut batch, critic_adam, &fit, c.critic_lr * factor);

        core.finish(batch, 0.2, [grad_norm.get()], |[grad_norm]| Metrics {
            learning_rate: Some(c.learning_rate * factor),
            step_size: Some(t_k),
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
    use crate::core::device::Device;
    use crate::core::dist::Head;
    use crate::core::mlp::Activation;
    use crate::core::policy::Policy;
    use crate::core::testing::{
        actions, advantages, close, devices, loss_and_grad, normals, params, policy, policy_on, rows,
    };
    use crate::core::weights::read;

    /// −ln π Â: its gradient is the vanilla policy gradient.
    struct Vanilla;
    impl PolicyLoss for Vanilla {
        fn row<S: Sample>(&self, pi: &S) -> S::X {
            -(pi.log_prob() * pi.advantage())
        }
    }

    /// r Â
    struct Ratio;
    impl PolicyLoss for Ratio {
        fn row<S: Sample>(&self, pi: &S) -> S::X {
            pi.ratio() * pi.advantage()
        }
    }

    fn batch_of(policy: &mut Policy, n: usize) -> Rows {
        let actions = actions(&policy.head().clone(), n, 11);
        rows(policy, normals(2 * n, 12), actions, normals(n, 13))
    }

    #[test]
    fn the_step_size_falls_from_just_above_one_to_one_over_k() {
        for k in [1, 2, 100, 4882] {
            assert!((step_size(0, k) - (1.0 + 1.0 / k as f64)).abs() < 1e-12);
            assert!((step_size(1, k) - 1.0).abs() < 1e-12);
            assert!((step_size(k - 1, k) - 2.0 / k as f64).abs() < 1e-12);
            // A run whose budget is no multiple of the batch takes one iteration more; nothing makes t_k ≤ 0.
            for beyond in [k, k + 1, 10 * k] {
                assert!((step_size(beyond, k) - 1.0 / k as f64).abs() < 1e-12);
            }
        }
        assert_eq!(step_size(0, 0), 2.0, "a budget below one batch");
    }

    /// With m = 1 MDPO is the vanilla policy gradient, however large the weight of the KL divergence.
    #[test]
    fn the_first_step_follows_the_policy_gradient() {
        for head in [Head::Gaussian { dim: 2 }, Head::Categorical { sizes: vec![3, 2] }] {
            let mut policy = policy(head, 2, &[3]);
            let rows = batch_of(&mut policy, 12);
            let (_, vanilla) = loss_and_grad(&mut policy, &rows, &Vanilla);
            for t in [1.0, 0.1] {
                close(&loss_and_grad(&mut policy, &rows, &ProximalSurrogate { t }).1, &vanilla, 1e-5);
            }
        }
    }

    #[test]
    fn the_loss_is_the_penalty_minus_the_surrogate_with_the_new_policy_first() {
        for device in devices() {
            for head in [Head::Gaussian { dim: 2 }, Head::Categorical { sizes: vec![3, 2] }] {
                let mut policy = policy_on(&device, head, 2, &[3], Activation::Tanh);
                let rows = batch_of(&mut policy, 12);
                let shift = normals(policy.len(), 15);
                policy.weights.set(params(&policy).iter().zip(shift).map(|(p, s)| p + 0.6 * s).collect());
                let after = policy.compare(&rows, 0.2);
                let [of_new, kl, swapped] = read([after.surrogate, after.kl_new_old, after.kl_old_new]);
                assert!(
                    (kl - swapped).abs() > 0.01,
                    "{kl} and {swapped} must differ for this to mean anything"
                );
                let (surrogate, _) = loss_and_grad(&mut policy, &rows, &Ratio);
                close(&[surrogate], &[of_new], 1e-5);
                assert!(advantages(&rows).iter().any(|a| *a != 0.0) && surrogate.abs() > 1e-3);
                for t in [1.0, 0.25] {
                    let (loss, _) = loss_and_grad(&mut policy, &rows, &ProximalSurrogate { t });
                    close(&[loss], &[kl / t - surrogate], 1e-5);
                }
            }
        }
    }

    /// Many Adam steps on the loss from π_old.
    fn minimise(policy: &mut Policy, rows: &Rows, t: f64) {
        let mut adam = Adam::new(policy.len(), 1e-8, &Device::cpu());
        for i in 0..1500 {
            policy.grad(rows, &ProximalSurrogate { t });
            adam.step(&mut policy.weights, 0.05 * (1.0 - f64::from(i) / 1500.0));
        }
    }

    /// The exact step of mirror descent is π_old exp(t A) / Z.
    #[test]
    fn many_steps_on_a_bandit_reach_the_mirror_descent_step() {
        // Arms occur in the batch as often as π_old takes them, so that batch means are expectations.
        let (counts, values, t) = ([1usize, 2, 4, 1], [1.0f64, -0.5, 0.2, 2.0], 0.8);
        let mut policy = policy(Head::Categorical { sizes: vec![4] }, 1, &[]);
        let logits = counts.iter().map(|c| (*c as f32).ln());
        policy.weights.set(logits.chain([0.0; 4]).collect()); // one weight an arm, and biases
        let arms: Vec<usize> = (0..4).flat_map(|a| vec![a; counts[a]]).collect();
        let actions = arms.iter().map(|a| *a as f32).collect();
        let advantage = arms.iter().map(|a| values[*a] as f32).collect();
        let rows = rows(&mut policy, vec![1.0; 8], actions, advantage);
        minimise(&mut policy, &rows, t);

        let weights: Vec<f64> = (0..4).map(|a| counts[a] as f64 * (t * values[a]).exp()).collect();
        let expected: Vec<f64> = weights.iter().map(|w| w / weights.iter().sum::<f64>()).collect();
        let theta = params(&policy);
        let odds: Vec<f64> = (0..4).map(|a| f64::from(theta[a] + theta[4 + a]).exp()).collect();
        let found: Vec<f64> = odds.iter().map(|o| o / odds.iter().sum::<f64>()).collect();
        close(&found, &expected, 1e-3);
    }

    /// For a normal π_old and A = −½ c (a − b)² the exact step is normal as well.
    #[test]
    fn many_steps_on_a_continuous_bandit_reach_the_mirror_descent_step() {
        const N: usize = 800;
        let (c, b, t, mean, std) = (2.0, 1.5, 0.5, 0.4, 0.8f64);
        let mut policy = policy(Head::Gaussian { dim: 1 }, 1, &[]);
        policy.weights.set(vec![mean as f32, 0.0, std.ln() as f32]);
        // A grid of actions; density and cell size weigh each, so that batch means are integrals.
        let cell = 16.0 * std / N as f64;
        let action = |i: usize| mean + (i as f64 + 0.5) * cell - 8.0 * std;
        let density =
            |a: f64| (-0.5 * ((a - mean) / std).powi(2)).exp() / (std * std::f64::consts::TAU.sqrt());
        let weighted = |a: f64| -0.5 * c * (a - b) * (a - b) * density(a) * cell * N as f64;
        let actions = (0..N).map(|i| action(i) as f32).collect();
        let advantage = (0..N).map(|i| weighted(action(i)) as f32).collect();
        let rows = rows(&mut policy, vec![1.0; N], actions, advantage);
        minimise(&mut policy, &rows, t);

        // Precisions add: 1/σ² = 1/σ_old² + t c.
        let precision = 1.0 / (std * std) + t * c;
        let expected = (mean / (std * std) + t * c * b) / precision;
        let theta = params(&policy);
        close(&[theta[0] + theta[1], theta[2]], &[expected, -0.5 * precision.ln()], 1e-3);
    }
}
