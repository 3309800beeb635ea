//! Hyper++: proximal policy optimisation with regularised hyperbolic features and a categorical value.
//!
//! T. Klein, T. Lang, et al., "Understanding and Improving Hyperbolic Deep Reinforcement Learning", 2025,
//! arXiv:2512.14202. The agents that it is compared with are options of this one: S-RYM (E. Cetin, B. Chamberlain,
//! M. Bronstein, J. Hunt, 2023, arXiv:2210.01542) and their Euclidean and ablated relatives are its presets.
//!
//! For k = 0, 1, … K−1:
//!
//! 1. Act with π_old for T steps in N environments; estimate advantages Â and returns R (GAE).
//! 2. For each epoch, for each random minibatch of the batch:
//! 3. Encoder to x; features n = x/rms(x), x̂ = tanh(n)/√d, v = ρ_max σ(⟨w, x̂⟩ + b) x̂, so that |v| < ρ_max;
//!    policy and value are signed distances of exp₀(v) to hyperplanes of the hyperboloid.
//! 4. Raise E[min(r Â, clip(r, 1−ε, 1+ε) Â)] + c₂ E[entropy of π]; lower c₁ E[cross-entropy of the value's distribution with
//!    a normal distribution around R] (HL-Gauss).
//! 5. One Adam step for all, the gradient norm clipped; a step on points of the ball is Riemannian.
//!
//! Deviations: the encoder is a multi-layer perceptron on vectors, with norm and tanh as on pictures; everything is `f32`
//! (enough for the radii of the gate; points are never formed). Advantages are estimated once a batch, not anew each epoch.
//! Spectral normalisation acts on every layer of the encoder. Baselines train as many epochs as Hyper++, and theirs
//! is the squared error without the factor ½. Continuous actions: head and features give the means of a Gaussian. A
//! gradient that is not finite, which unregularised features can cause, is left out and counted.

use serde::{Deserialize, Serialize};
use steadfast_envs::{Rng, State, VecEnv};

use crate::config::{at_least, bad, positive, within};
use crate::core::adam::{Adam, Schedule, clip_global_norm};
use crate::core::batch::Rows;
use crate::core::hyperbolic::mlr::RiemannianAdam;
use crate::core::loss::ClippedSurrogate;
use crate::core::on_policy::OnPolicy;
use crate::core::shared::SharedActorCritic;
use crate::core::trunk::Representation;
use crate::core::weights::{Vector, read};
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Fours of embeddings grow fast: δ of so many takes a second.
const MOST_MEASURED: usize = 256;

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Adam's step size. Paper: 5e-4 on ProcGen, 1e-4 on Atari.
    pub learning_rate: f64,
    /// How the learning rate changes over the run: `constant` or `linear` (to zero). Paper: constant.
    pub lr_schedule: Schedule,
    /// Passes over each batch. Paper: 2 (its baselines: 3).
    pub epochs: usize,
    /// Rows of a minibatch. Paper: 2048 of 16384.
    pub minibatch: usize,
    /// ε: clip range of the probability ratio. Paper: 0.2.
    pub clip: f64,
    /// c₁: weight of the value loss. Paper: 0.5.
    pub value_coef: f64,
    /// c₂: weight of the entropy bonus. Paper: 0.01.
    pub entropy_coef: f64,
    /// Largest norm of the gradient; 0 switches clipping off. Paper: 0.5.
    pub max_grad_norm: f64,
    /// Normalise advantages within each minibatch.
    pub normalize_advantage: bool,
    /// ε of Adam. Paper: 1e-5.
    pub adam_epsilon: f64,
    /// Embeddings of each iteration whose geometry is measured (`delta_rel`, `radius_depth`); 0 measures none.
    pub measured: usize,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub representation: Representation,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub on_policy: OnPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            learning_rate: 5e-4,
            lr_schedule: Schedule::Constant,
            epochs: 2,
            minibatch: 64,
            clip: 0.2,
            value_coef: 0.5,
            entropy_coef: 0.01,
            max_grad_norm: 0.5,
            normalize_advantage: true,
            adam_epsilon: 1e-5,
            measured: 0,
            representation: Representation::default(),
            on_policy: OnPolicy { normalize_reward: true, ..OnPolicy::default() },
        }
    }
}

/// The agent.
pub struct HyperPp {
    config: Config,
    core: SharedActorCritic,
    adam: Adam,
    points_adam: RiemannianAdam,
}

impl HyperPp {
    /// An agent with a fresh network.
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
            ("value_coef", config.value_coef),
            ("entropy_coef", config.entropy_coef),
            ("max_grad_norm", config.max_grad_norm),
        ] {
            within(key, value, 0.0, f64::INFINITY)?;
        }
        let r = &config.representation;
        if config.measured > MOST_MEASURED {
            let why = format!("must be at most {MOST_MEASURED}, got {}", config.measured);
            return Err(bad("measured", why));
        }
        let core = SharedActorCritic::new(config.on_policy.clone(), r, config.measured, setup)?;
        Ok(Self {
            adam: Adam::new(core.net.weights.len(), config.adam_epsilon, &setup.device),
            points_adam: RiemannianAdam::new(
                core.net.points.len(),
                r.embedding.features,
                r.embedding.curvature,
                config.adam_epsilon,
            ),
            core,
            config,
        })
    }
}

impl Agent for HyperPp {
    fn num_envs(&self) -> usize {
        self.config.on_policy.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        self.core.batch_len() as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let Self { config: c, core, adam, points_adam } = self;
        let lr = c.learning_rate * c.lr_schedule.factor(core.iteration, core.iterations);

        // 1. Act, estimate advantages.
        let mut batch = core.collect(envs)?;

        // 2. Epochs of minibatches.
        let surrogate = ClippedSurrogate { clip: c.clip, entropy: c.entropy_coef };
        let (mut grad_norm, mut steps, mut skipped) = (0.0, 0.0, 0.0);
        core.shuffle(&mut batch, c.epochs, c.minibatch);
        while let Some(mb) = batch.minibatch() {
            if c.normalize_advantage {
                mb.standardize_advantage(1e-8);
            }
            let Rows::Host(mb) = mb else { continue };

            // 3. Encoder, features, heads.
            // 4. Clipped surrogate, entropy and cross-entropy of the value; back through all of it.
            core.net.grad(mb, &surrogate, c.value_coef);

            // 5. One step for all.
            let net = &mut core.net;
            let norm = if net.points.is_empty() {
                clip_global_norm([&mut net.weights], c.max_grad_norm)
            } else {
                clip_global_norm([&mut net.weights, &mut net.points], c.max_grad_norm)
            };
            let [norm] = read([norm]);
            if !norm.is_finite() {
                skipped += 1.0;
                continue;
            }
            grad_norm += norm;
            steps += 1.0;
            adam.step(&mut net.weights, lr);
            match (&mut net.points.params, &net.points.grad) {
                (Vector::Host(points), Vector::Host(grad)) => points_adam.step(points, grad, lr),
                _ => {
                    let mut points = net.points.to_host();
                    points_adam.step(&mut points, &net.points.grad_to_host(), lr);
                    net.points.set(points);
                }
            }
        }
        let own = Metrics {
            learning_rate: Some(lr),
            grad_norm: (steps > 0.0).then(|| grad_norm / steps),
            skipped_updates: Some(skipped),
            ..Metrics::default()
        };
        core.finish(batch, c.clip, own).finite(envs.steps())
    }

    fn act(&self, seen: &mut Seen, how: Acting, actions: &mut [f32], rng: &mut Rng) {
        self.core.pick(seen, how, actions, rng);
    }

    fn remarks(&self) -> Vec<String> {
        self.config.representation.embedding.remarks()
    }

    fn save(&self) -> State {
        let mut state = State::new();
        self.core.save(&mut state);
        self.adam.save("adam", &mut state);
        self.points_adam.save("points_adam", &mut state);
        state
    }

    fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.core.load(state)?;
        self.adam.load("adam", state)?;
        self.points_adam.load("points_adam", state)?;
        Ok(())
    }
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;
    use crate::Device;
    use crate::core::features::{Norm, Scale};
    use crate::core::hyperbolic::mlr::Geometry;
    use crate::core::trunk::Embedding;
    use steadfast_envs::{Purpose, make};

    fn small(representation: Representation) -> Config {
        let on_policy = OnPolicy { num_envs: 2, horizon: 32, ..OnPolicy::default() };
        Config { representation, on_policy, ..Config::default() }
    }

    fn agent(config: Config, device: Device) -> Result<(HyperPp, VecEnv), BuildError> {
        let envs = VecEnv::new(&|| make("CartPole-v1").unwrap(), 2, 0, Purpose::Env, 1);
        let setup = Setup { spec: envs.spec(), seed: 0, total_steps: 10_000, device };
        Ok((HyperPp::new(config, &setup)?, envs))
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let refused = |r: Representation| agent(small(r), Device::cpu()).err().unwrap().to_string();
        let of = |embedding: Embedding| refused(Representation { embedding, ..Representation::default() });
        let (base, space) = (Representation::default, Embedding::default);
        for alpha in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(of(Embedding { alpha, ..space() }).contains("'alpha'"));
        }
        for curvature in [0.0, -1.0, f64::INFINITY] {
            assert!(of(Embedding { curvature, ..space() }).contains("'curvature'"));
        }
        assert!(of(Embedding { features: 0, ..space() }).contains("'features'"));
        assert!(refused(Representation { bins: 1, ..base() }).contains("'bins'"));
        assert!(refused(Representation { value_min: 10.0, ..base() }).contains("'value_min'"));
        let no_gate = Embedding { scale: Scale::Root, radius_factor: 2.0, ..space() };
        assert!(of(no_gate).contains("'radius_factor'"));
    }

    /// Asked for, the geometry of embeddings is measured, and nothing else changes.
    #[test]
    fn embeddings_are_measured_on_demand() {
        let run = |measured| {
            let config = Config { measured, ..small(Representation::default()) };
            let (mut agent, mut envs) = agent(config, Device::cpu()).unwrap();
            (0..3).map(|_| agent.iterate(&mut envs).unwrap()).collect::<Vec<Metrics>>()
        };
        let (without, with) = (run(0), run(16));
        for (without, with) in without.iter().zip(&with) {
            assert_eq!((without.delta_rel, without.radius_depth), (None, None));
            let (delta, depth) = (with.delta_rel.unwrap(), with.radius_depth.unwrap());
            assert!(delta > 0.0 && delta < 1.0 && depth.abs() <= 1.0, "{delta} {depth}");
            assert_eq!(Metrics { delta_rel: None, radius_depth: None, ..*with }, *without);
        }
        let config = Config { measured: 1000, ..small(Representation::default()) };
        assert!(agent(config, Device::cpu()).err().unwrap().to_string().contains("'measured'"));
    }

    #[test]
    fn few_features_are_remarked_on() {
        let remarks = |features| {
            let embedding = Embedding { features, ..Embedding::default() };
            let representation = Representation { embedding, ..Representation::default() };
            agent(small(representation), Device::cpu()).unwrap().0.remarks()
        };
        assert!(remarks(4).is_empty());
        assert!(remarks(3)[0].contains("features = 3"));
    }

    /// Features so long that sinh overflows: reported, and no weight is touched.
    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let embedding = Embedding {
            norm: Norm::None,
            scale: Scale::None,
            geometry: Geometry::BallPoints,
            curvature: 1e6,
            ..Embedding::default()
        };
        let plain = Representation { embedding, ..Representation::default() };
        let (mut agent, mut envs) = agent(small(plain), Device::cpu()).unwrap();
        let before = agent.core.net.weights.to_host();
        let error = agent.iterate(&mut envs).unwrap_err().to_string();
        assert!(error.contains("NaN or infinite"), "{error}");
        assert_eq!(agent.core.net.weights.to_host(), before);
    }

    #[test]
    fn features_stay_within_the_radius() {
        let (mut agent, mut envs) = agent(small(Representation::default()), Device::cpu()).unwrap();
        for _ in 0..5 {
            let m = agent.iterate(&mut envs).unwrap();
            let (rho, gate) = (m.feature_norm.unwrap(), m.gate.unwrap());
            assert!(
                rho > 0.1 && rho < 0.95f64.atanh() * 1f64.tanh() && gate > 0.0 && gate < 1.0,
                "{rho} {gate}"
            );
            assert_eq!(m.skipped_updates, Some(0.0));
        }
    }
}
