//! Collecting experience: the policy acts in a [`VecEnv`], everything lands in host memory.

use rand_distr::{Distribution, StandardNormal};
use steadfast_envs::rng::{self, Purpose, Rng};
use steadfast_envs::{State, StateError, VecEnv};

use super::network::Workspace;
use super::normalize::{ObsNormalizer, RewardScaler};
use super::policy::Policy;
use super::profile::{self, Stage};
use crate::AgentError;

/// T steps of N copies, time-major: entry (t, n) lies at `t * N + n`.
#[derive(Default)]
pub struct Rollout {
    /// Observations s_t as the networks see them, `[T, N, O]`.
    pub obs: Vec<f32>,
    /// Choices allowed in s_t, `[T, N, mask_len]`; empty for a task without masks.
    pub masks: Vec<bool>,
    /// Actions a_t as sampled, unclipped, `[T, N, action_len]`.
    pub actions: Vec<f32>,
    /// Rewards, scaled if so configured, `[T, N]`.
    pub rewards: Vec<f32>,
    /// Whether the task ended the episode with step t, `[T, N]`.
    pub terminated: Vec<bool>,
    /// Whether the time limit did, `[T, N]`.
    pub truncated: Vec<bool>,
    /// The observations after the last step, `[N, O]`.
    pub last_obs: Vec<f32>,
    /// Final observations of truncated episodes, in order of their steps, `[F, O]`.
    pub final_obs: Vec<f32>,
}

impl Rollout {
    fn clear(&mut self) {
        let Self { obs, masks, actions, rewards, terminated, truncated, last_obs, final_obs } = self;
        [obs, actions, rewards, last_obs, final_obs].into_iter().for_each(Vec::clear);
        [masks, terminated, truncated].into_iter().for_each(Vec::clear);
    }
}

/// What a policy acts on, one row a copy.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// Normalised observations, `[N, O]`.
    pub obs: &'a [f32],
    /// Choices allowed, `[N, mask_len]`; empty where all are.
    pub masks: &'a [bool],
    /// Standard normal numbers, `[N, E]`.
    pub noise: &'a [f32],
}

/// The acting side of an agent: normalisers, exploration noise and the current observations.
pub struct Collector {
    obs_normalizer: ObsNormalizer,
    reward_scaler: RewardScaler,
    rng: Rng,
    /// ρ: correlation of the exploration noise with that of the step before.
    noise_correlation: f32,
    /// Standard normal numbers of the running step, `[N, E]`.
    noise: Vec<f32>,
    /// Normalised current observations, `[N, O]`; empty before the first step.
    obs: Vec<f32>,
    work: Workspace,
}

impl Collector {
    /// For `copies` environments of `obs_len` numbers and a policy with `noise_len` Gaussian dimensions.
    pub fn new(
        seed: u64,
        copies: usize,
        noise_len: usize,
        noise_correlation: f64,
        obs_normalizer: ObsNormalizer,
        reward_scaler: RewardScaler,
    ) -> Self {
        let mut rng = rng::stream(seed, Purpose::Action, 0);
        let noise = StandardNormal.sample_iter(&mut rng).take(copies * noise_len).collect();
        let noise_correlation = noise_correlation as f32;
        let (obs, work) = (Vec::new(), Workspace::default());
        Self { obs_normalizer, reward_scaler, rng, noise_correlation, noise, obs, work }
    }

    /// Takes `steps` steps in every copy with actions sampled from `policy`, into `rollout`, whose buffers it
    /// uses again.
    ///
    /// # Errors
    /// Those of [`Self::collect_with`].
    pub fn collect(
        &mut self,
        policy: &Policy,
        envs: &mut VecEnv,
        steps: usize,
        rollout: &mut Rollout,
    ) -> Result<(), AgentError> {
        let mut work = std::mem::take(&mut self.work);
        let mut sample = |sight: Sight, rng: &mut Rng, actions: &mut [f32]| {
            policy.sample(sight.obs, sight.masks, sight.noise, rng, &mut work, actions);
        };
        let result = self.collect_with(policy.head().action_len(), &mut sample, envs, steps, rollout);
        self.work = work;
        result
    }

    /// The same with actions `[N, action_len]` that `sample` draws for what is seen.
    ///
    /// # Errors
    /// [`AgentError::NonFinite`] when an observation or a reward is not a finite number; [`AgentError::NoChoice`] when a
    /// mask allows nothing.
    pub fn collect_with(
        &mut self,
        action_len: usize,
        sample: &mut dyn FnMut(Sight, &mut Rng, &mut [f32]),
        envs: &mut VecEnv,
        steps: usize,
        rollout: &mut Rollout,
    ) -> Result<(), AgentError> {
        let (n, obs_len) = (envs.len(), envs.spec().obs_len());
        rollout.clear();
        rollout.actions.resize(steps * n * action_len, 0.0);
        if self.obs.is_empty() {
            self.observe(envs)?;
        }
        for actions in rollout.actions.chunks_exact_mut(n * action_len) {
            profile::enter(Stage::Inference);
            let (masks, noise) = (envs.masks(), self.noise.as_slice());
            some_choice(envs)?;
            sample(Sight { obs: &self.obs, masks, noise }, &mut self.rng, actions);
            rollout.obs.extend_from_slice(&self.obs);
            rollout.masks.extend_from_slice(masks);
            profile::enter(Stage::Environment);
            envs.step(actions);
            profile::enter(Stage::Inference);
            finite_rewards(envs)?;
            self.observe(envs)?;
            let (terminated, truncated) = (envs.terminated(), envs.truncated());
            let ended = terminated.iter().zip(truncated).map(|(a, b)| *a || *b);
            self.reward_scaler.extend(envs.rewards(), ended, &mut rollout.rewards);
            rollout.terminated.extend_from_slice(terminated);
            rollout.truncated.extend_from_slice(truncated);
            for i in (0..n).filter(|i| truncated[*i]) {
                let row = &envs.final_obs()[i * obs_len..(i + 1) * obs_len];
                self.obs_normalizer.extend(row, &mut rollout.final_obs);
            }
            advance_noise(&mut self.noise, self.noise_correlation, &mut self.rng);
        }
        rollout.last_obs.extend_from_slice(&self.obs);
        Ok(())
    }

    /// Normalises raw observations without learning from them, for evaluation.
    pub fn normalized(&self, obs: &[f32], out: &mut Vec<f32>) {
        self.obs_normalizer.extend(obs, out);
    }

    fn observe(&mut self, envs: &VecEnv) -> Result<(), AgentError> {
        finite_obs(envs)?;
        self.obs_normalizer.update(envs.obs());
        self.obs.clear();
        self.obs_normalizer.extend(envs.obs(), &mut self.obs);
        Ok(())
    }

    /// Saves the normalisers, the noise, the stream and the current observations.
    pub fn save(&self, state: &mut State) {
        self.obs_normalizer.save(state);
        self.reward_scaler.save(state);
        rng::save(&self.rng, "action_rng", state);
        state.put_f32("noise", &self.noise);
        state.put_f32("obs", &self.obs);
    }

    /// Restores what [`Self::save`] wrote, for `obs_len` numbers in all copies' observations.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, state: &State, obs_len: usize) -> Result<(), StateError> {
        self.obs_normalizer.load(state)?;
        self.reward_scaler.load(state)?;
        self.rng = rng::load("action_rng", state)?;
        self.noise = state.f32("noise", self.noise.len())?.to_vec();
        // Before the first step there are none.
        let started = state.f32("obs", 0).is_err();
        self.obs = state.f32("obs", if started { obs_len } else { 0 })?.to_vec();
        Ok(())
    }
}

/// ε ← ρ ε + √(1 − ρ²) ξ, ξ ~ N(0, 1): each ε is standard normal, whatever ρ.
pub(super) fn advance_noise(noise: &mut [f32], rho: f32, rng: &mut Rng) {
    let fresh = (1.0 - rho * rho).sqrt();
    for e in noise {
        let xi: f32 = StandardNormal.sample(rng);
        *e = rho * *e + fresh * xi;
    }
}

/// Fails when an observation is not finite.
///
/// # Errors
/// [`AgentError::NonFinite`].
pub fn finite_obs(envs: &VecEnv) -> Result<(), AgentError> {
    if envs.obs().iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    Err(AgentError::NonFinite { what: "an observation", step: envs.steps() })
}

/// Fails when a mask allows no value of a choice.
///
/// # Errors
/// [`AgentError::NoChoice`].
pub fn some_choice(envs: &VecEnv) -> Result<(), AgentError> {
    let spec = envs.spec();
    let mut rest = envs.masks();
    while !rest.is_empty() {
        for agent in &spec.agents {
            let (flags, others) = rest.split_at(agent.action.flags());
            rest = others;
            if let Some(choice) = agent.action.blocked(flags) {
                return Err(AgentError::NoChoice { agent: agent.name.clone(), choice, step: envs.steps() });
            }
        }
    }
    Ok(())
}

/// Fails when a reward is not finite.
///
/// # Errors
/// [`AgentError::NonFinite`].
pub fn finite_rewards(envs: &VecEnv) -> Result<(), AgentError> {
    if envs.rewards().iter().all(|r| r.is_finite()) {
        return Ok(());
    }
    Err(AgentError::NonFinite { what: "a reward", step: envs.steps() })
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::super::dist::Head;
    use super::super::testing::{close, policy};
    use super::*;
    use steadfast_envs::make;

    fn collector(n: usize, obs_len: usize, rho: f64, normalize: bool) -> Collector {
        let obs_normalizer = ObsNormalizer::new(obs_len, normalize);
        Collector::new(1, n, 1, rho, obs_normalizer, RewardScaler::new(n, 0.99, normalize))
    }

    fn pendulums(n: usize) -> VecEnv {
        VecEnv::new(&|| make("Pendulum-v1").unwrap(), n, 1, Purpose::Env, 1)
    }

    /// White or correlated, the noise of each step is standard normal and copies are independent.
    #[test]
    fn noise_has_the_stated_correlation_and_unit_variance() {
        const T: usize = 20_000;
        for rho in [0.0, 0.8] {
            let mut policy = policy(Head::Gaussian { dim: 1 }, 3, &[]);
            policy.weights.set(vec![0.0; policy.len()]); // mean 0, deviation 1: actions are the noise
            policy.refresh();
            let mut rollout = Rollout::default();
            collector(2, 3, rho, false).collect(&policy, &mut pendulums(2), T, &mut rollout).unwrap();
            let noise = |t: usize, n: usize| f64::from(rollout.actions[2 * t + n]);
            let mean = |f: &dyn Fn(usize) -> f64| (0..T - 1).map(f).sum::<f64>() / (T - 1) as f64;
            for n in 0..2 {
                assert!(mean(&|t| noise(t, n)).abs() < 0.07);
                assert!((mean(&|t| noise(t, n).powi(2)) - 1.0).abs() < 0.06);
                assert!((mean(&|t| noise(t, n) * noise(t + 1, n)) - rho).abs() < 0.06, "ρ = {rho}");
            }
            assert!(mean(&|t| noise(t, 0) * noise(t, 1)).abs() < 0.06);
        }
    }

    #[test]
    fn a_rollout_records_what_happened() {
        const T: usize = 450; // Pendulum is cut short at 200
        let policy = policy(Head::Gaussian { dim: 1 }, 3, &[4]);
        let (mut envs, mut replay) = (pendulums(2), pendulums(2));
        let (mut rollout, mut collector) = (Rollout::default(), collector(2, 3, 0.0, false));
        collector.collect(&policy, &mut envs, T, &mut rollout).unwrap();
        let mut final_obs = Vec::new();
        for t in 0..T {
            let (rows, wide) = (2 * t..2 * t + 2, 6 * t..6 * t + 6);
            assert_eq!(&rollout.obs[wide], replay.obs());
            replay.step(&rollout.actions[rows.clone()]);
            assert_eq!(&rollout.truncated[rows.clone()], replay.truncated());
            assert_eq!(&rollout.terminated[rows.clone()], replay.terminated());
            close(&rollout.rewards[rows], replay.rewards(), 1e-6);
            if replay.truncated()[0] {
                final_obs.extend_from_slice(replay.final_obs());
            }
        }
        assert_eq!((rollout.last_obs.as_slice(), rollout.final_obs), (replay.obs(), final_obs.clone()));
        assert_eq!(final_obs.len(), 2 * 2 * 3, "two copies, cut short twice");
        assert!(rollout.actions.iter().any(|a| a.abs() > 2.0), "actions are stored unclipped");
    }

    /// Each observation enters the running moments once, also across the border of two rollouts; an evaluation
    /// adds none.
    #[test]
    fn the_normalizer_sees_every_observation_once() {
        let policy = policy(Head::Gaussian { dim: 1 }, 3, &[4]);
        let (mut envs, mut collector) = (pendulums(2), collector(2, 3, 0.0, true));
        for rounds in 1..=2 {
            collector.collect(&policy, &mut envs, 10, &mut Rollout::default()).unwrap();
            collector.normalized(&[0.0; 3], &mut Vec::new());
            let mut state = State::new();
            collector.save(&mut state);
            let count = state.f64("obs_normalizer.count", 1).unwrap()[0];
            assert!((count - (2.0 * (10.0 * f64::from(rounds) + 1.0) + 1e-4)).abs() < 1e-9, "{count}");
            assert!(
                (state.f64("reward_scaler.count", 1).unwrap()[0] - 20.0 * f64::from(rounds)).abs() < 1e-3
            );
        }
    }
}
