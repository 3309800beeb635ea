//! Trust-region policy optimisation (TRPO).
//!
//! J. Schulman, S. Levine, P. Moritz, M. Jordan, P. Abbeel, 2015, arXiv:1502.05477.
//!
//! For k = 0, 1, … K−1:
//!
//! 1. Act with π_old for T steps in N environments; estimate advantages Â and returns R (GAE).
//! 2. g = ∇_θ E[r Â], r = π_θ(a|s) / π_old(a|s) (eq. 14).
//! 3. Solve F x = g by conjugate gradient, F = E[Fisher matrix of π_θ(·|s)] (appendix C).
//! 4. Full step β x with β = √(2δ / xᵀ F x), so that the quadratic model of KL equals δ.
//! 5. Backtrack: shrink β until E[KL(π_old ‖ π)] ≤ δ and E[r Â] improves; keep π_old if it never does.
//! 6. Fit V_φ to R by minibatch Adam.
//!
//! Deviations: generalised advantages instead of single-path returns, normalised over the batch; F is damped; the
//! value function is a network fitted by Adam; all as in the usual codes.

use serde::{Deserialize, Serialize};
use steadfast_envs::{Rng, State, VecEnv};

use crate::config::{at_least, positive, within};
use crate::core::adam::{Adam, Schedule};
use crate::core::loss::Surrogate;
use crate::core::network::Heads;
use crate::core::on_policy::{ActorCritic, CriticFit, OnPolicy};
use crate::core::trust_region::{CG_TOLERANCE, line_search, natural_direction, step_length};
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Order of the arguments of the KL divergence that the line search bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KlDirection {
    /// KL(π_old ‖ π), as in the paper.
    OldNew,
    /// KL(π ‖ π_old), as in sb3-contrib.
    NewOld,
}

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// δ: bound on the mean KL divergence of a step. Paper: 0.01.
    pub max_kl: f64,
    /// How δ changes over the run: `constant` (paper) or `linear` (to zero, as the others anneal their learning rates).
    pub kl_schedule: Schedule,
    /// KL that the line search bounds: `old-new` (paper) or `new-old`.
    pub kl_direction: KlDirection,
    /// Average the KL over the dimensions of a continuous action instead of adding them up, as sb3-contrib does: δ and
    /// the damping then count for each dimension. Paper: no.
    pub kl_per_dimension: bool,
    /// The line search accepts a KL of up to this many δ. Paper: 1.
    pub kl_slack: f64,
    /// Conjugate-gradient iterations. Paper: 10.
    pub cg_iterations: usize,
    /// Added to the diagonal of F.
    pub cg_damping: f64,
    /// F is averaged over every n-th row of the batch. Paper: about a tenth of the data, n = 10.
    pub fisher_every: usize,
    /// Factor by which the line search shrinks the step.
    pub backtrack: f64,
    /// Most steps that the line search tries.
    pub backtrack_steps: usize,
    /// Normalise advantages over the batch.
    pub normalize_advantage: bool,
    /// Adam's step size for the value function.
    pub critic_lr: f64,
    /// How the value function's learning rate changes: `constant` or `linear` (to zero).
    pub lr_schedule: Schedule,
    /// Passes over the batch when fitting the value function.
    pub critic_epochs: usize,
    /// Rows of a minibatch when fitting the value function.
    pub critic_minibatch: usize,
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
            max_kl: 0.01,
            kl_schedule: Schedule::Constant,
            kl_direction: KlDirection::OldNew,
            kl_per_dimension: false,
            kl_slack: 1.5,
            cg_iterations: 10,
            cg_damping: 0.1,
            fisher_every: 1,
            backtrack: 0.5,
            backtrack_steps: 10,
            normalize_advantage: true,
            critic_lr: 1e-3,
            lr_schedule: Schedule::Constant,
            critic_epochs: 10,
            critic_minibatch: 128,
            adam_epsilon: 1e-5,
            on_policy: OnPolicy::default(),
            heads: Heads::default(),
        }
    }
}

/// The agent.
pub struct Trpo {
    config: Config,
    core: ActorCritic,
    critic_adam: Adam,
}

impl Trpo {
    /// An agent with fresh networks.
    ///
    /// # Errors
    /// When an option is out of range or the agent cannot act in the task.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        positive("max_kl", config.max_kl)?;
        within("kl_slack", config.kl_slack, 1.0, f64::INFINITY)?;
        within("cg_damping", config.cg_damping, 0.0, f64::INFINITY)?;
        within("backtrack", config.backtrack, 0.01, 0.99)?;
        positive("critic_lr", config.critic_lr)?;
        positive("adam_epsilon", config.adam_epsilon)?;
        for (key, value) in [
            ("cg_iterations", config.cg_iterations),
            ("fisher_every", config.fisher_every),
            ("backtrack_steps", config.backtrack_steps),
            ("critic_epochs", config.critic_epochs),
            ("critic_minibatch", config.critic_minibatch),
        ] {
            at_least(key, value, 1)?;
        }
        let core = ActorCritic::new(config.on_policy.clone(), &config.heads, setup)?;
        Ok(Self {
            critic_adam: Adam::new(core.critic.len(), config.adam_epsilon, &setup.device),
            core,
            config,
        })
    }
}

impl Agent for Trpo {
    fn num_envs(&self) -> usize {
        self.config.on_policy.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        self.core.batch_len() as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let Self { config: c, core, critic_adam } = self;
        let lr = c.critic_lr * c.lr_schedule.factor(core.iteration, core.iterations);
        // A mean over n dimensions is bounded by δ where the sum is bounded by n δ.
        let dimensions =
            if c.kl_per_dimension { core.policy.head().extra_params().max(1) as f64 } else { 1.0 };
        let max_kl = dimensions * c.max_kl * c.kl_schedule.factor(core.iteration, core.iterations);

        // 1. Act, estimate advantages.
        let mut batch = core.collect(envs)?;
        if c.normalize_advantage {
            batch.rows.standardize_advantage(1e-8);
        }

        // 2. Gradient of the surrogate.
        core.policy.grad(&batch.rows, &Surrogate);
        let g = core.policy.weights.grad.clone();

        // 3. Natural direction.
        let mut fisher = core.policy.fisher(&batch.rows, c.fisher_every, dimensions * c.cg_damping);
        let x = natural_direction(&mut fisher, &g, c.cg_iterations, CG_TOLERANCE);

        // 4. Step length.
        let beta = step_length(max_kl, &fisher.curvature(&x));

        // 5. Backtracking line search.
        let theta_old = core.policy.weights.params.clone();
        let surrogate_old = core.policy.compare(&batch.rows, 0.2).surrogate;
        let (length, tried) = line_search(&beta, c.backtrack, c.backtrack_steps, |length| {
            core.policy.weights.set_moved(&theta_old, length, &x);
            let step = core.policy.compare(&batch.rows, 0.2);
            let kl = match c.kl_direction {
                KlDirection::OldNew => step.kl_old_new,
                KlDirection::NewOld => step.kl_new_old,
            };
            kl.at_most(c.kl_slack * max_kl) & step.surrogate.above(&surrogate_old)
        });
        core.policy.weights.set_moved(&theta_old, &length, &x); // θ_old if none was accepted

        // 6. Fit the value function.
        let fit = CriticFit { epochs: c.critic_epochs, minibatch: c.critic_minibatch, clip: 0.0 };
        core.fit_critic(&mut batch, critic_adam, &fit, lr);

        core.finish(batch, 0.2, [g.norm(), length, tried], |[grad_norm, length, tried]| Metrics {
            learning_rate: Some(lr),
            grad_norm: Some(grad_norm),
            step_size: Some(length),
            line_search_steps: Some(tried),
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
        self.critic_adam.save("critic_adam", &mut state);
        state
    }

    fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.core.load(state)?;
        self.critic_adam.load("critic_adam", state)?;
        Ok(())
    }
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;
    use crate::core::device::Device;
    use crate::core::testing::devices;
    use steadfast_envs::{Purpose, make};

    fn trpo(env: &str, config: Config) -> (Trpo, VecEnv) {
        trpo_on(&Device::cpu(), env, config)
    }

    fn trpo_on(device: &Device, env: &str, config: Config) -> (Trpo, VecEnv) {
        let envs = VecEnv::new(&|| make(env).unwrap(), 2, 4, Purpose::Env, 1);
        let setup = Setup { spec: envs.spec(), seed: 4, total_steps: 10_000, device: device.clone() };
        (Trpo::new(config, &setup).unwrap(), envs)
    }

    fn config() -> Config {
        let mut config = Config::default();
        (config.on_policy.num_envs, config.on_policy.horizon) = (2, 256);
        config.on_policy.net.hidden = vec![16];
        config
    }

    #[test]
    fn a_step_improves_the_surrogate_inside_the_trust_region() {
        for env in ["CartPole-v1", "Pendulum-v1"] {
            for kl_direction in [KlDirection::OldNew, KlDirection::NewOld] {
                let (mut agent, mut envs) = trpo(env, Config { kl_direction, ..config() });
                for _ in 0..5 {
                    let metrics = agent.iterate(&mut envs).unwrap();
                    // The metric is KL(π_old ‖ π); the other direction differs in third order.
                    let bound = if kl_direction == KlDirection::OldNew { 0.015 } else { 0.02 };
                    let kl = metrics.kl.unwrap();
                    assert!((1e-4..=bound + 1e-6).contains(&kl), "{env}: {kl}");
                    // −E[r Â] is 0 at π_old, for Â has mean 0.
                    assert!(metrics.policy_loss.unwrap() < -1e-3, "{env}: {metrics:?}");
                    assert!(metrics.step_size.unwrap() > 0.0);
                }
            }
        }
    }

    /// Without damping a small full step has the KL divergence δ, however far conjugate gradient got: β and F are
    /// right. (Few iterations, for F is nearly singular.)
    #[test]
    fn a_small_step_has_the_stated_length() {
        for (env, kl_per_dimension, expected) in [
            ("CartPole-v1", false, 1e-4),
            ("Pendulum-v1", false, 1e-4),
            ("PlanarQuadrotor", false, 1e-4),
            ("PlanarQuadrotor", true, 2e-4),
            ("CartPole-v1", true, 1e-4),
        ] {
            let small =
                Config { max_kl: 1e-4, kl_per_dimension, cg_damping: 0.0, cg_iterations: 3, ..config() };
            let (mut agent, mut envs) = trpo(env, small);
            let metrics = agent.iterate(&mut envs).unwrap();
            assert_eq!(metrics.line_search_steps, Some(1.0));
            let kl = metrics.kl.unwrap();
            assert!((kl / expected - 1.0).abs() < 0.05, "{env}: {kl:e}");
        }
    }

    #[test]
    fn the_policy_is_restored_when_the_line_search_fails() {
        for (device, env) in devices().iter().flat_map(|d| [(d, "CartPole-v1"), (d, "Pendulum-v1")]) {
            let (mut agent, mut envs) = trpo_on(device, env, config());
            agent.config.kl_slack = -1.0; // no KL divergence is below −δ
            let weights =
                |agent: &Trpo| [agent.core.policy.weights.to_host(), agent.core.critic.weights.to_host()];
            let before = weights(&agent);
            let metrics = agent.iterate(&mut envs).unwrap();
            let after = weights(&agent);
            assert_eq!(after[0], before[0]);
            assert_ne!(after[1], before[1], "the critic is fitted all the same");
            assert_eq!((metrics.step_size, metrics.line_search_steps), (Some(0.0), Some(10.0)));
            assert!(metrics.kl.unwrap().abs() < 1e-7);
        }
    }

    /// The same step on slices and on tensors: direction, length, and tries of the line search, some of which it rejects.
    #[test]
    fn devices_agree_on_the_step() {
        let mut rejected = 0;
        for env in ["CartPole-v1", "Pendulum-v1", "probe/multi-discrete"] {
            let far = Config { max_kl: 0.5, kl_slack: 1.0, cg_damping: 1e-2, backtrack: 0.8, ..config() };
            // Conjugate gradient is of f64 on slices and of f32 on tensors: far apart where F is nearly singular.
            for (config, tolerance) in [(config(), 1e-3), (far, 2e-2)] {
                let [host, tensor] = devices().map(|device| {
                    let (mut agent, mut envs) = trpo_on(&device, env, config.clone());
                    agent.iterate(&mut envs).unwrap()
                });
                assert_eq!(host.line_search_steps, tensor.line_search_steps, "{env}");
                rejected += usize::from(host.line_search_steps > Some(1.0));
                for (a, b) in [
                    (host.step_size, tensor.step_size),
                    (host.kl, tensor.kl),
                    (host.policy_loss, tensor.policy_loss),
                    (host.grad_norm, tensor.grad_norm),
                ] {
                    let (a, b) = (a.unwrap(), b.unwrap());
                    assert!((a - b).abs() <= tolerance * b.abs(), "{env}: {a} and {b}");
                }
            }
        }
        assert!(rejected > 0, "no step was rejected");
    }

    /// The line search must reject steps beyond the quadratic model: a huge δ with no slack still ends below δ.
    #[test]
    fn backtracking_enforces_the_bound() {
        let (mut agent, mut envs) =
            trpo("CartPole-v1", Config { max_kl: 0.5, kl_slack: 1.0, cg_damping: 0.0, ..config() });
        let mut backtracked = 0;
        for _ in 0..10 {
            let metrics = agent.iterate(&mut envs).unwrap();
            assert!(metrics.kl.unwrap() <= 0.5 + 1e-6, "{metrics:?}");
            backtracked += usize::from(metrics.line_search_steps > Some(1.0));
        }
        assert!(backtracked > 0, "the test never reached the bound");
    }

    #[test]
    fn the_fisher_matrix_may_use_a_part_of_the_batch() {
        let (mut agent, mut envs) = trpo("Pendulum-v1", Config { fisher_every: 10, ..config() });
        let metrics = agent.iterate(&mut envs).unwrap();
        assert!(metrics.policy_loss.unwrap() < 0.0 && metrics.kl.unwrap() <= 0.015);
    }
}
