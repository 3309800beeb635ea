//! What agents for several players have in common: a policy and a critic for each player, one way to collect a batch.
//!
//! Players are the agents of the task; each has its own spaces. With one player everything here does what
//! [`ActorCritic`](super::on_policy::ActorCritic) does, draw for draw and bit for bit. Networks compute on plain slices.

mod meta;
mod onlooker;

use std::cell::RefCell;
use std::ops::Range;

use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use steadfast_envs::rng::{self, Purpose, Rng};
use steadfast_envs::{State, VecEnv};

pub use self::meta::Settled;
use self::onlooker::Onlooker;
use super::adam::{Adam, Schedule, clip_global_norm};
use super::advantages::{Trajectory, explained_variance, gae};
use super::batch::{Batch, HostRows, Rows};
use super::device::Device;
use super::loss::{ClippedSurrogate, SquaredError};
use super::network::Workspace;
use super::normalize::{ObsNormalizer, RewardScaler};
use super::on_policy::{CriticFit, OnPolicy, TimeLimit, head_of};
use super::policy::{Critic, Policy};
use super::profile::{self, Stage};
use super::recurrent::{Memories, forget};
use super::rollout::{advance_noise, finite_obs, finite_rewards, some_choice};
use super::weights::{Mean, Scalar, read};
use crate::{Acting, AgentError, BuildError, Metrics, Seen, Setup};

/// What a critic sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// The observation of its player.
    Local,
    /// The central state of the task, or all observations where it declares none.
    Central,
    /// The observations of all, by attention ([`super::graph_critic`]).
    Attention,
    /// The graph of the task and all observations, with a memory and attention (after GA-MATR).
    Graph,
    /// The same with equal weights instead of attention.
    GraphMean,
    /// The same without a memory.
    GraphMemoryless,
}

impl View {
    /// Whether one critic watches all players, each with a value of its own.
    fn is_graph(self) -> bool {
        !matches!(self, Self::Local | Self::Central)
    }
}

/// Which rewards count for a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reward {
    /// Its own.
    Own,
    /// The mean of all players' rewards.
    Team,
}

/// How the players are played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the critics see.
    pub view: View,
    /// Which rewards count. A central critic of the team's reward is one for all.
    pub reward: Reward,
    /// One policy, and one local critic, for all players; the observation is followed by the player's number as a
    /// one-hot vector.
    pub share: bool,
    /// Policies remember their episodes. Not of shared ones, nor with minibatches of a policy's rows.
    pub recurrent: bool,
}

/// Settings of clipped steps (PPO) of several players and of their critics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clipped {
    /// Adam's step size for the policies.
    pub learning_rate: f64,
    /// How the learning rates change over the run: `constant` or `linear` (to zero).
    pub lr_schedule: Schedule,
    /// Passes over each batch.
    pub epochs: usize,
    /// Rows of a minibatch.
    pub minibatch: usize,
    /// ε: clip range of the probability ratio.
    pub clip: f64,
    /// c₂: weight of the entropy bonus.
    pub entropy_coef: f64,
    /// Largest gradient norm of a policy; 0 switches clipping off.
    pub max_grad_norm: f64,
    /// Normalise advantages over the batch.
    pub normalize_advantage: bool,
    /// Adam's step size for the value functions.
    pub critic_lr: f64,
    /// Passes over the batch when fitting a value function.
    pub critic_epochs: usize,
    /// Rows of a minibatch when fitting a value function.
    pub critic_minibatch: usize,
    /// Clip range of the value around V_old in the value loss; 0 switches it off.
    pub value_clip: f64,
    /// ε of Adam.
    pub adam_epsilon: f64,
}

impl Default for Clipped {
    fn default() -> Self {
        Self {
            learning_rate: 5e-4,
            lr_schedule: Schedule::Constant,
            epochs: 5,
            minibatch: 1024,
            clip: 0.2,
            entropy_coef: 0.01,
            max_grad_norm: 10.0,
            normalize_advantage: true,
            critic_lr: 1e-3,
            critic_epochs: 5,
            critic_minibatch: 1024,
            value_clip: 0.0,
            adam_epsilon: 1e-5,
        }
    }
}

impl Clipped {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the first key that is out of range.
    pub fn validate(&self) -> Result<(), BuildError> {
        use crate::config::{at_least, positive, within};
        for (key, value) in [
            ("learning_rate", self.learning_rate),
            ("clip", self.clip),
            ("critic_lr", self.critic_lr),
            ("adam_epsilon", self.adam_epsilon),
        ] {
            positive(key, value)?;
        }
        for (key, value) in [
            ("epochs", self.epochs),
            ("minibatch", self.minibatch),
            ("critic_epochs", self.critic_epochs),
            ("critic_minibatch", self.critic_minibatch),
        ] {
            at_least(key, value, 1)?;
        }
        for (key, value) in [
            ("entropy_coef", self.entropy_coef),
            ("max_grad_norm", self.max_grad_norm),
            ("value_clip", self.value_clip),
        ] {
            within(key, value, 0.0, f64::INFINITY)?;
        }
        Ok(())
    }

    /// How the critics are fitted.
    pub fn critic_fit(&self) -> CriticFit {
        CriticFit { epochs: self.critic_epochs, minibatch: self.critic_minibatch, clip: self.value_clip }
    }
}

/// Where a player's part lies in the joint vectors, and which networks are its own.
struct Player {
    obs: Range<usize>,
    action: Range<usize>,
    flags: Range<usize>,
    policy: usize,
    /// Its number and how many there are, where a network serves several.
    one_hot: Option<(usize, usize)>,
}

impl Player {
    /// Appends what the player's networks see of joint observations, `[rows, O]` each.
    fn see(&self, joint: &[f32], width: usize, to: &mut Vec<f32>) {
        for row in joint.chunks_exact(width) {
            to.extend_from_slice(&row[self.obs.clone()]);
            if let Some((own, all)) = self.one_hot {
                to.extend((0..all).map(|i| f32::from(u8::from(i == own))));
            }
        }
    }

    /// Appends the player's flags of joint masks, `[rows, flags]`.
    fn allow(&self, joint: &[bool], width: usize, to: &mut Vec<bool>) {
        if !self.flags.is_empty() && !joint.is_empty() {
            joint.chunks_exact(width).for_each(|row| to.extend_from_slice(&row[self.flags.clone()]));
        }
    }

    /// Writes the player's actions `[rows, A]` into joint ones.
    fn put(&self, own: &[f32], joint: &mut [f32], width: usize) {
        let rows = joint.chunks_exact_mut(width).zip(own.chunks_exact(self.action.len()));
        rows.for_each(|(row, own)| row[self.action.clone()].copy_from_slice(own));
    }
}

/// T steps of N copies as one player lived them, time-major.
#[derive(Default)]
struct Track {
    /// Observations as its networks see them, `[T, N, O]`.
    obs: Vec<f32>,
    /// Choices allowed there, `[T, N, flags]`.
    masks: Vec<bool>,
    /// Actions as sampled, `[T, N, A]`.
    actions: Vec<f32>,
    /// Standard normal numbers of the running step, `[N, E]`.
    noise: Vec<f32>,
    /// What its policy remembers now, and before the first step, `[N, W]`.
    memory: Vec<f32>,
    first_memory: Vec<f32>,
}

/// What is estimated for one player, or for all; `[T, N]` each.
#[derive(Default)]
struct Stream {
    /// Rewards, scaled if so configured.
    rewards: Vec<f32>,
    /// V(s_0) … V(s_T), then of the final states.
    values: Vec<f32>,
    next_values: Vec<f32>,
    running: Vec<f64>,
    advantages: Vec<f32>,
    returns: Vec<f32>,
}

/// Policies, critics and collector of an agent for several players.
pub struct Joint {
    /// Settings.
    pub config: OnPolicy,
    /// π_i of each player, or one for all.
    pub policies: Vec<Policy>,
    /// V_i of each player, or one for all.
    pub critics: Vec<Critic>,
    /// What the policies learn from, one a policy: observations, actions and advantages of the player (of all players,
    /// one after another, where they share it).
    pub batches: Vec<Batch>,
    /// What the critics learn from, one a critic.
    pub critic_batches: Vec<Batch>,
    /// In their place: one critic that watches all players.
    onlooker: Option<Onlooker>,
    /// Iterations done, k.
    pub iteration: u64,
    /// Iterations planned, K.
    pub iterations: u64,
    plan: Plan,
    players: Vec<Player>,
    names: Vec<String>,
    obs_normalizer: ObsNormalizer,
    /// Of the central state, where it is not the joint observation.
    state_normalizer: Option<ObsNormalizer>,
    /// One a stream of rewards.
    reward_scalers: Vec<RewardScaler>,
    rng: Rng,
    minibatch_rng: Rng,
    device: Device,
    tracks: Vec<Track>,
    streams: Vec<Stream>,
    /// Normalised current joint observations, `[N, obs_len]`; empty before the first step.
    obs: Vec<f32>,
    /// Normalised current central states, `[N, S]`; empty where no critic sees them.
    states: Vec<f32>,
    /// Central states of the rollout, `[T, N, S]`.
    past_states: Vec<f32>,
    /// Normalised final joint observations and central states of truncated episodes, in order of their steps.
    final_obs: Vec<f32>,
    final_states: Vec<f32>,
    terminated: Vec<bool>,
    truncated: Vec<bool>,
    ended: Vec<bool>,
    /// Copies whose next step begins an episode, `[N]`, and where in the rollout one began, `[T, N]`, for policies that remember.
    begins: Vec<bool>,
    starts: Vec<bool>,
    scratch: Scratch,
    evaluation: RefCell<Evaluation>,
    obs_len: usize,
    action_len: usize,
    mask_len: usize,
    state_len: usize,
}

/// Room for one step of all copies.
#[derive(Default)]
struct Scratch {
    joint: Vec<f32>,
    own: Vec<f32>,
    rewards: Vec<f64>,
    work: Workspace,
    memories: Memories,
}

/// Room for acting greedily.
#[derive(Default)]
struct Evaluation {
    joint: Vec<f32>,
    obs: Vec<f32>,
    masks: Vec<bool>,
    actions: Vec<f32>,
    work: Workspace,
    memory: Vec<f32>,
    memories: Memories,
}

impl Joint {
    /// Fresh networks for all players of a task.
    ///
    /// # Errors
    /// When a setting is out of range, a player has nothing to choose, players with different spaces are to share a
    /// network, or the device is not the CPU.
    pub fn new(config: OnPolicy, plan: Plan, setup: &Setup) -> Result<Self, BuildError> {
        config.validate()?;
        let (spec, seed, device) = (setup.spec, setup.seed, &setup.device);
        let cannot = |why: String| BuildError::CannotAct { env: spec.id.clone(), why };
        if !device.is_cpu() {
            return Err(cannot(
                "agents for several players compute on the CPU; use `--device cpu`".to_owned(),
            ));
        }
        let count = spec.agents.len();
        let first = &spec.agents[0];
        if plan.share
            && let Some(other) =
                spec.agents.iter().find(|a| (&a.obs, &a.action) != (&first.obs, &first.action))
        {
            return Err(cannot(format!(
                "'{}' and '{}' have different spaces and cannot share a policy; set share_parameters=false",
                first.name, other.name
            )));
        }
        let share = plan.share && count > 1;
        let mut players = Vec::new();
        let (mut obs, mut action, mut flags) = (0..0, 0..0, 0..0);
        let after = |range: &mut Range<usize>, len: usize| {
            *range = range.end..range.end + len;
            range.clone()
        };
        for (i, agent) in spec.agents.iter().enumerate() {
            players.push(Player {
                obs: after(&mut obs, agent.obs.len()),
                action: after(&mut action, agent.action.len()),
                flags: after(&mut flags, if spec.masked { agent.action.flags() } else { 0 }),
                policy: if share { 0 } else { i },
                one_hot: share.then_some((i, count)),
            });
        }
        let n = config.num_envs;
        let init = |index: usize| rng::stream(seed, Purpose::Init, index as u64);
        let sees = |p: &Player| p.obs.len() + p.one_hot.map_or(0, |(_, all)| all);
        let mut policies = Vec::new();
        for (i, (agent, player)) in
            spec.agents.iter().zip(&players).take(if share { 1 } else { count }).enumerate()
        {
            let head = head_of(spec, agent)?;
            let new = if plan.recurrent { Policy::recurrent } else { Policy::new };
            policies.push(new(head, sees(player), &config.net, &mut init(2 * i), device));
        }
        let streams = if (plan.view, plan.reward) == (View::Central, Reward::Team) { 1 } else { count };
        let critics = match plan.view {
            View::Local if share => 1,
            View::Local | View::Central => streams,
            _ => 0,
        };
        let critics: Vec<Critic> = (0..critics)
            .map(|i| {
                let len = if plan.view == View::Local { sees(&players[i]) } else { spec.central_len() };
                Critic::new(len, &config.net, &mut init(2 * i + 1), device)
            })
            .collect();
        let onlooker = plan.view.is_graph().then(|| {
            let width = config.net.hidden.first().copied().unwrap_or(1);
            Onlooker::new(plan.view, width, n, spec, &mut init(1), device)
        });
        let mut rng = rng::stream(seed, Purpose::Action, 0);
        let track = |p: &Player| {
            let noise_len = n * policies[p.policy].head().extra_params();
            let noise = StandardNormal.sample_iter(&mut rng).take(noise_len).collect();
            let memory = vec![0.0; n * policies[p.policy].memory_len()];
            Track { noise, first_memory: memory.clone(), memory, ..Track::default() }
        };
        let tracks = players.iter().map(track).collect();
        let empty = || Batch::new(Rows::Host(HostRows::default()), None);
        let central = plan.view == View::Central && spec.state_len > 0;
        let state_normalizer = central.then(|| ObsNormalizer::new(spec.state_len, config.normalize_obs));
        Ok(Self {
            batches: policies.iter().map(|_| empty()).collect(),
            critic_batches: critics.iter().map(|_| empty()).collect(),
            policies,
            critics,
            onlooker,
            iteration: 0,
            iterations: setup.total_steps / (n * config.horizon) as u64,
            plan: Plan { share, ..plan },
            players,
            names: spec.agents.iter().map(|a| a.name.clone()).collect(),
            obs_normalizer: ObsNormalizer::new(spec.obs_len(), config.normalize_obs),
            state_normalizer,
            reward_scalers: vec![RewardScaler::new(n, config.gamma, config.normalize_reward); streams],
            rng,
            minibatch_rng: rng::stream(seed, Purpose::Minibatch, 0),
            device: device.clone(),
            tracks,
            streams: std::iter::repeat_with(Stream::default).take(streams).collect(),
            obs: Vec::new(),
            states: Vec::new(),
            past_states: Vec::new(),
            final_obs: Vec::new(),
            final_states: Vec::new(),
            terminated: Vec::new(),
            truncated: Vec::new(),
            ended: Vec::new(),
            begins: vec![true; n],
            starts: Vec::new(),
            scratch: Scratch::default(),
            evaluation: RefCell::default(),
            obs_len: spec.obs_len(),
            action_len: spec.action_len(),
            mask_len: spec.mask_len(),
            state_len: spec.state_len,
            config,
        })
    }

    /// Environment steps of one iteration.
    pub fn batch_len(&self) -> usize {
        self.config.num_envs * self.config.horizon
    }

    /// An optimiser for each policy, and one for each critic.
    pub fn optimizers(&self, epsilon: f64) -> (Vec<Adam>, Vec<Adam>) {
        let adam = |len| Adam::new(len, epsilon, &self.device);
        let critics =
            self.critics.iter().map(Critic::len).chain(self.onlooker.iter().map(|o| o.critic.len()));
        (self.policies.iter().map(|p| adam(p.len())).collect(), critics.map(adam).collect())
    }

    /// Acts for T steps, estimates advantages and returns, and fills the batches.
    ///
    /// # Errors
    /// When an observation or a reward is not finite, or a mask allows nothing.
    pub fn collect(&mut self, envs: &mut VecEnv) -> Result<(), AgentError> {
        self.act(envs)?;
        profile::enter(Stage::Advantages);
        self.estimate(envs.len());
        self.fill();
        profile::enter(Stage::Update);
        Ok(())
    }

    fn act(&mut self, envs: &mut VecEnv) -> Result<(), AgentError> {
        for track in &mut self.tracks {
            track.obs.clear();
            track.masks.clear();
            track.actions.clear();
            track.first_memory.clone_from(&track.memory);
        }
        self.starts.clear();
        self.streams.iter_mut().for_each(|s| s.rewards.clear());
        [&mut self.past_states, &mut self.final_obs, &mut self.final_states].into_iter().for_each(Vec::clear);
        [&mut self.terminated, &mut self.truncated, &mut self.ended].into_iter().for_each(Vec::clear);
        let (n, rho) = (envs.len(), self.config.noise_correlation as f32);
        let count = self.players.len();
        if self.obs.is_empty() {
            self.observe(envs)?;
        }
        if let Some(onlooker) = &mut self.onlooker {
            onlooker.begin();
        }
        for _ in 0..self.config.horizon {
            profile::enter(Stage::Inference);
            some_choice(envs)?;
            self.scratch.joint.resize(n * self.action_len, 0.0);
            if self.plan.recurrent {
                self.starts.extend_from_slice(&self.begins);
            }
            for (player, track) in self.players.iter().zip(&mut self.tracks) {
                let (seen, allowed) = (track.obs.len(), track.masks.len());
                player.see(&self.obs, self.obs_len, &mut track.obs);
                player.allow(envs.masks(), self.mask_len, &mut track.masks);
                let Scratch { joint, own, work, memories, .. } = &mut self.scratch;
                own.resize(n * player.action.len(), 0.0);
                let (obs, masks) = (&track.obs[seen..], &track.masks[allowed..]);
                let policy = &self.policies[player.policy];
                forget(&mut track.memory, &self.begins, policy.memory_len().max(1));
                let obs = policy.perceive(obs, &mut track.memory, memories);
                policy.sample(obs, masks, &track.noise, &mut self.rng, work, own);
                track.actions.extend_from_slice(own);
                player.put(own, joint, self.action_len);
            }
            self.past_states.extend_from_slice(&self.states);
            if let Some(onlooker) = &mut self.onlooker {
                onlooker.look(envs, &self.obs, false);
            }
            profile::enter(Stage::Environment);
            envs.step(&self.scratch.joint);
            profile::enter(Stage::Inference);
            finite_rewards(envs)?;
            self.observe(envs)?;
            let first = self.ended.len();
            self.ended.extend(envs.terminated().iter().zip(envs.truncated()).map(|(a, b)| *a || *b));
            self.begins.copy_from_slice(&self.ended[first..]);
            self.terminated.extend_from_slice(envs.terminated());
            self.truncated.extend_from_slice(envs.truncated());
            for (i, (stream, scaler)) in self.streams.iter_mut().zip(&mut self.reward_scalers).enumerate() {
                let rewards = &mut self.scratch.rewards;
                rewards.clear();
                rewards.extend(envs.rewards().chunks_exact(count).map(|all| match self.plan.reward {
                    Reward::Own => all[i],
                    Reward::Team => all.iter().sum::<f64>() / count as f64,
                }));
                scaler.extend(rewards, self.ended[first..].iter().copied(), &mut stream.rewards);
            }
            let cut = self.final_obs.len();
            for i in (0..n).filter(|i| envs.truncated()[*i]) {
                let row = &envs.final_obs()[i * self.obs_len..(i + 1) * self.obs_len];
                self.obs_normalizer.extend(row, &mut self.final_obs);
                if self.plan.view == View::Central {
                    let len = envs.final_states().len() / n;
                    let row = &envs.final_states()[i * len..(i + 1) * len];
                    let normalizer = self.state_normalizer.as_ref().unwrap_or(&self.obs_normalizer);
                    normalizer.extend(row, &mut self.final_states);
                }
            }
            if let Some(onlooker) = &mut self.onlooker {
                onlooker.ends(envs, &self.final_obs[cut..]);
            }
            for track in &mut self.tracks {
                advance_noise(&mut track.noise, rho, &mut self.rng);
            }
        }
        if let Some(onlooker) = &mut self.onlooker {
            onlooker.look(envs, &self.obs, true);
        }
        Ok(())
    }

    fn observe(&mut self, envs: &VecEnv) -> Result<(), AgentError> {
        finite_obs(envs)?;
        self.obs_normalizer.update(envs.obs());
        self.obs.clear();
        self.obs_normalizer.extend(envs.obs(), &mut self.obs);
        if self.plan.view == View::Central {
            self.states.clear();
            match &mut self.state_normalizer {
                Some(normalizer) => {
                    normalizer.update(envs.states());
                    normalizer.extend(envs.states(), &mut self.states);
                }
                None => self.states.extend_from_slice(&self.obs),
            }
        }
        Ok(())
    }

    /// Values, advantages and returns of every stream.
    fn estimate(&mut self, n: usize) {
        let len = self.ended.len();
        let bootstrap = self.config.time_limit == TimeLimit::Bootstrap;
        let OnPolicy { gamma, gae_lambda, .. } = self.config;
        let count = self.players.len();
        let watched = self.onlooker.as_mut().map(|onlooker| {
            let (all, last, finals) = onlooker.values();
            [all, &last, &finals].concat()
        });
        for (i, stream) in self.streams.iter_mut().enumerate() {
            let values = &mut stream.values;
            values.clear();
            let own = if self.plan.share { 0 } else { i };
            match self.plan.view {
                View::Central => {
                    let critic = &mut self.critics[own];
                    for states in [&self.past_states, &self.states, &self.final_states] {
                        critic.values(states, values, &self.device);
                    }
                }
                View::Local => {
                    let critic = &mut self.critics[own];
                    let (player, own) = (&self.players[i], &mut self.scratch.own);
                    own.clear();
                    player.see(&self.obs, self.obs_len, own);
                    player.see(&self.final_obs, self.obs_len, own);
                    critic.values(&self.tracks[i].obs, values, &self.device);
                    critic.values(own, values, &self.device);
                }
                _ => {
                    let of_all = watched.as_deref().unwrap_or_default();
                    values.extend(of_all.iter().skip(i).step_by(count));
                }
            }
            let (values, later) = stream.values.split_at(len);
            let mut final_values = later[n..].iter();
            stream.next_values.clear();
            stream.next_values.extend((0..len).map(|t| match (self.terminated[t], self.truncated[t]) {
                (true, _) => 0.0,
                (_, true) => *final_values.next().filter(|_| bootstrap).unwrap_or(&0.0),
                _ => stream.values[t + n],
            }));
            let trajectory = Trajectory {
                rewards: &stream.rewards,
                values,
                next_values: &stream.next_values,
                ended: &self.ended,
            };
            let Stream { running, advantages, returns, .. } = stream;
            gae(&trajectory, n, gamma, gae_lambda, running, advantages, returns);
        }
    }

    fn fill(&mut self) {
        let len = self.ended.len();
        for batch in self.batches.iter_mut().chain(&mut self.critic_batches) {
            let HostRows { obs, masks, actions, value_old, advantage, ret, .. } = batch.rows.host_mut();
            [obs, actions, value_old, advantage, ret].into_iter().for_each(Vec::clear);
            masks.clear();
        }
        for (i, (player, track)) in self.players.iter().zip(&self.tracks).enumerate() {
            let rows = self.batches[player.policy].rows.host_mut();
            rows.obs.extend_from_slice(&track.obs);
            rows.masks.extend_from_slice(&track.masks);
            rows.starts.clone_from(&self.starts);
            rows.memory.clone_from(&track.first_memory);
            rows.actions.extend_from_slice(&track.actions);
            rows.advantage.extend_from_slice(&self.streams[i.min(self.streams.len() - 1)].advantages);
        }
        for (policy, batch) in self.policies.iter_mut().zip(&mut self.batches) {
            policy.remember(batch.rows.host_mut());
        }
        if let Some(onlooker) = &mut self.onlooker {
            for (i, stream) in self.streams.iter().enumerate() {
                onlooker.learn_from(i, &stream.returns);
            }
            return;
        }
        for (i, stream) in self.streams.iter().enumerate() {
            let batch = &mut self.critic_batches[if self.plan.share { 0 } else { i }];
            let rows = batch.rows.host_mut();
            rows.obs.extend_from_slice(match self.plan.view {
                View::Central => &self.past_states,
                _ => &self.tracks[i].obs,
            });
            rows.value_old.extend_from_slice(&stream.values[..len]);
            rows.advantage.extend_from_slice(&stream.advantages);
            rows.ret.extend_from_slice(&stream.returns);
        }
        for batch in &mut self.critic_batches {
            let rows = batch.rows.host();
            let explained = explained_variance(&rows.value_old, &rows.ret);
            batch.explained_variance = explained;
        }
    }

    /// Normalises the advantages of each batch.
    pub fn standardize_advantages(&mut self) {
        self.batches.iter_mut().for_each(|b| b.rows.standardize_advantage(1e-8));
    }

    /// Raises the clipped surrogate of policy `i` over shuffled minibatches of its batch, as its advantages are; adds each
    /// gradient norm to `grad_norm`.
    pub fn clipped_steps(
        &mut self,
        i: usize,
        adam: &mut Adam,
        settings: &Clipped,
        lr: f64,
        grad_norm: &mut Mean,
    ) {
        let loss = ClippedSurrogate { clip: settings.clip, entropy: settings.entropy_coef };
        let (policy, batch) = (&mut self.policies[i], &mut self.batches[i]);
        batch.shuffle(settings.epochs, settings.minibatch, &mut self.minibatch_rng, &self.device);
        while let Some(mb) = batch.minibatch() {
            policy.grad(mb, &loss);
            grad_norm.add(clip_global_norm([&mut policy.weights], settings.max_grad_norm));
            adam.step(&mut policy.weights, lr);
        }
    }

    /// Fits every critic to its returns: passes over shuffled minibatches of mean-squared-error descent.
    pub fn fit_critics(&mut self, adams: &mut [Adam], fit: &CriticFit, lr: f64) {
        if let (Some(onlooker), [adam]) = (&mut self.onlooker, &mut *adams) {
            onlooker.fit(adam, fit, lr, &mut self.minibatch_rng);
            return;
        }
        let loss = SquaredError { clip: fit.clip, weight: 1.0 };
        for ((critic, batch), adam) in self.critics.iter_mut().zip(&mut self.critic_batches).zip(adams) {
            batch.shuffle(fit.epochs, fit.minibatch, &mut self.minibatch_rng, &self.device);
            while let Some(mb) = batch.minibatch() {
                critic.grad(mb, &loss);
                adam.step(&mut critic.weights, lr);
            }
        }
    }

    /// Ends an iteration: refreshes the acting copies, counts, and completes the agent's `own` metrics with the means over
    /// players of what holds for the whole batch after the update.
    pub fn finish(&mut self, clip: f64, own: Metrics) -> Metrics {
        self.iteration += 1;
        self.standardize_advantages();
        let mut means: [Mean; 4] = Default::default();
        let mut value_loss = Mean::default();
        for (policy, batch) in self.policies.iter_mut().zip(&self.batches) {
            policy.refresh();
            let after = policy.compare(&batch.rows, clip);
            let of_one = [after.surrogate, after.kl_old_new, after.entropy, after.clip_fraction];
            means.iter_mut().zip(of_one).for_each(|(mean, x)| mean.add(x));
        }
        for (critic, batch) in self.critics.iter_mut().zip(&self.critic_batches) {
            value_loss.add(critic.error(&batch.rows));
        }
        if let Some(onlooker) = &mut self.onlooker {
            value_loss.add(Scalar::Host(onlooker.error()));
        }
        let [surrogate, kl, entropy, clip_fraction] = means.map(|m| read([m.get()])[0]);
        let mean = |of: Vec<f64>| (!of.is_empty()).then(|| of.iter().sum::<f64>() / of.len() as f64);
        Metrics {
            policy_loss: Some(-surrogate),
            value_loss: Some(read([value_loss.get()])[0]),
            kl: Some(kl),
            entropy: Some(entropy),
            clip_fraction: Some(clip_fraction),
            explained_variance: mean(
                self.critic_batches
                    .iter()
                    .filter_map(|b| b.explained_variance)
                    .chain(self.onlooker.as_ref().and_then(Onlooker::explained))
                    .collect(),
            ),
            action_std: mean(self.policies.iter().filter_map(Policy::action_std).collect()),
            ..own
        }
    }

    /// Joint actions `[rows, action_len]` for what is seen, picked as `how` says.
    pub fn pick(&self, seen: &mut Seen, how: Acting, joint: &mut [f32], rng: &mut Rng) {
        let e = &mut *self.evaluation.borrow_mut();
        e.joint.clear();
        self.obs_normalizer.extend(seen.obs, &mut e.joint);
        let rows = joint.len() / self.action_len;
        let remembered = self.memory_len();
        let mut at = 0;
        for player in &self.players {
            let policy = &self.policies[player.policy];
            e.obs.clear();
            e.masks.clear();
            player.see(&e.joint, self.obs_len, &mut e.obs);
            player.allow(seen.masks, self.mask_len, &mut e.masks);
            e.actions.resize(rows * player.action.len(), 0.0);
            // Whoever remembers nothing is asked as at the start of an episode.
            let columns = at..at + policy.memory_len();
            at = columns.end;
            e.memory.clear();
            e.memory.resize(rows * columns.len(), 0.0);
            for (own, all) in e
                .memory
                .chunks_exact_mut(columns.len().max(1))
                .zip(seen.memory.chunks_exact(remembered.max(1)))
            {
                own.copy_from_slice(&all[columns.clone()]);
            }
            let obs = policy.perceive(&e.obs, &mut e.memory, &mut e.memories);
            policy.pick(obs, &e.masks, how, rng, &mut e.work, &mut e.actions);
            for (all, own) in seen
                .memory
                .chunks_exact_mut(remembered.max(1))
                .zip(e.memory.chunks_exact(columns.len().max(1)))
            {
                all[columns.clone()].copy_from_slice(own);
            }
            player.put(&e.actions, joint, self.action_len);
        }
    }

    /// Numbers that the players carry from one step of an episode to the next while they act.
    pub fn memory_len(&self) -> usize {
        if !self.plan.recurrent {
            return 0;
        }
        self.players.iter().map(|player| self.policies[player.policy].memory_len()).sum()
    }

    /// `what` where there is one of them, `what.player` where there are several.
    fn name(&self, what: &str, of: usize, i: usize) -> String {
        if of == 1 { what.to_owned() } else { format!("{what}.{}", self.names[i]) }
    }

    /// Saves networks, normalisers, streams and counters.
    pub fn save(&self, state: &mut State) {
        for (i, policy) in self.policies.iter().enumerate() {
            policy.save(&self.name("policy", self.policies.len(), i), state);
        }
        for (i, critic) in self.critics.iter().enumerate() {
            critic.save(&self.name("critic", self.critics.len(), i), state);
        }
        if let Some(onlooker) = &self.onlooker {
            onlooker.save(state);
        }
        let mut c = State::new();
        self.obs_normalizer.save(&mut c);
        if let Some(normalizer) = &self.state_normalizer {
            let mut s = State::new();
            normalizer.save(&mut s);
            c.put_state("central", s);
        }
        for (i, scaler) in self.reward_scalers.iter().enumerate() {
            let mut s = State::new();
            scaler.save(&mut s);
            c.put_state(&format!("rewards.{i}"), s);
        }
        rng::save(&self.rng, "action_rng", &mut c);
        for (i, track) in self.tracks.iter().enumerate() {
            c.put_f32(&format!("noise.{i}"), &track.noise);
            if self.plan.recurrent {
                c.put_f32(&format!("memory.{i}"), &track.memory);
            }
        }
        if self.plan.recurrent {
            c.put_u64("begins", &self.begins.iter().map(|b| u64::from(*b)).collect::<Vec<_>>());
        }
        c.put_f32("obs", &self.obs);
        c.put_f32("states", &self.states);
        state.put_state("collector", c);
        rng::save(&self.minibatch_rng, "minibatch_rng", state);
        state.put_u64("iteration", &[self.iteration]);
    }

    /// Restores what [`Self::save`] wrote.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, state: &State) -> Result<(), AgentError> {
        for i in 0..self.policies.len() {
            let name = self.name("policy", self.policies.len(), i);
            self.policies[i].load(&name, state)?;
        }
        for i in 0..self.critics.len() {
            let name = self.name("critic", self.critics.len(), i);
            self.critics[i].load(&name, state)?;
        }
        if let Some(onlooker) = &mut self.onlooker {
            onlooker.load(state)?;
        }
        let c = state.state("collector");
        self.obs_normalizer.load(&c)?;
        if let Some(normalizer) = &mut self.state_normalizer {
            normalizer.load(&c.state("central"))?;
        }
        for (i, scaler) in self.reward_scalers.iter_mut().enumerate() {
            scaler.load(&c.state(&format!("rewards.{i}")))?;
        }
        self.rng = rng::load("action_rng", &c)?;
        for (i, track) in self.tracks.iter_mut().enumerate() {
            track.noise = c.f32(&format!("noise.{i}"), track.noise.len())?.to_vec();
            if self.plan.recurrent {
                track.memory = c.f32(&format!("memory.{i}"), track.memory.len())?.to_vec();
            }
        }
        if self.plan.recurrent {
            self.begins = c.u64("begins", self.begins.len())?.iter().map(|b| *b != 0).collect();
        }
        // Before the first step there are none.
        let (n, started) = (self.config.num_envs, c.f32("obs", 0).is_err());
        self.obs = c.f32("obs", if started { n * self.obs_len } else { 0 })?.to_vec();
        let states = match (&self.state_normalizer, self.plan.view) {
            (None, View::Central) => self.obs.len(),
            (Some(_), View::Central) if started => n * self.state_len,
            _ => 0,
        };
        self.states = c.f32("states", states)?.to_vec();
        self.minibatch_rng = rng::load("minibatch_rng", state)?;
        self.iteration = state.u64("iteration", 1)?[0];
        Ok(())
    }
}

/// Saves one optimiser a network.
pub fn save_adams(adams: &[Adam], what: &str, state: &mut State) {
    for (i, adam) in adams.iter().enumerate() {
        adam.save(&format!("{what}.{i}"), state);
    }
}

/// Restores what [`save_adams`] wrote.
///
/// # Errors
/// When an entry is missing or has another length.
pub fn load_adams(adams: &mut [Adam], what: &str, state: &State) -> Result<(), AgentError> {
    for (i, adam) in adams.iter_mut().enumerate() {
        adam.load(&format!("{what}.{i}"), state)?;
    }
    Ok(())
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::super::graph_critic::Scenes;
    use super::super::testing::close;
    use super::super::testing::task;
    use super::*;

    fn joint(env: &str, plan: Plan, config: OnPolicy) -> Result<(Joint, VecEnv), BuildError> {
        let envs = VecEnv::new(&|| task(env), config.num_envs, 6, Purpose::Env, 1);
        let setup = Setup { spec: envs.spec(), seed: 2, total_steps: 10_000, device: Device::cpu() };
        Ok((Joint::new(config, plan, &setup)?, envs))
    }

    fn config() -> OnPolicy {
        let net = super::super::policy::Net { hidden: vec![8], ..Default::default() };
        OnPolicy { num_envs: 3, horizon: 60, gamma: 0.9, net, ..OnPolicy::default() }
    }

    const PLANS: [Plan; 4] = [
        Plan { view: View::Local, reward: Reward::Own, share: false, recurrent: false },
        Plan { view: View::Local, reward: Reward::Own, share: true, recurrent: false },
        Plan { view: View::Central, reward: Reward::Team, share: true, recurrent: false },
        Plan { view: View::Central, reward: Reward::Own, share: false, recurrent: false },
    ];

    /// Playing the recorded actions again gives what each player's rows hold, and advantages by their definition.
    #[test]
    fn batches_hold_what_each_player_lived() {
        for (env, plan) in PLANS
            .iter()
            .map(|p| ("particle/spread", p))
            .chain([("uav-bs/bs-tiny", &PLANS[0]), ("particle/tag", &PLANS[3])])
        {
            let (mut joint, mut envs) = joint(env, *plan, config()).unwrap();
            joint.collect(&mut envs).unwrap();
            let spec = envs.spec().clone();
            let (n, count, len) = (3, spec.agents.len(), 180);
            let mut replay = VecEnv::new(&|| task(env), n, 6, Purpose::Env, 1);
            let (mut rewards, mut states, mut ends, mut finals) =
                (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for t in 0..60 {
                let mut actions = vec![0.0; n * spec.action_len()];
                states.push(replay.states().to_vec());
                for (i, player) in joint.players.iter().enumerate() {
                    let rows = joint.batches[player.policy].rows.host();
                    let first = if plan.share { i * len } else { 0 } + n * t;
                    let width = rows.obs.len() / rows.advantage.len();
                    for copy in 0..n {
                        let seen = &rows.obs[(first + copy) * width..][..width];
                        let truth = &replay.obs()[copy * spec.obs_len()..][player.obs.clone()];
                        assert_eq!(&seen[..truth.len()], truth);
                        if plan.share {
                            let one_hot: Vec<f32> =
                                (0..count).map(|j| if j == i { 1.0 } else { 0.0 }).collect();
                            assert_eq!(&seen[truth.len()..], one_hot);
                        }
                        let own = player.action.len();
                        let action = &rows.actions[(first + copy) * own..][..own];
                        actions[copy * spec.action_len()..][player.action.clone()].copy_from_slice(action);
                        if spec.masked {
                            let flags = &replay.masks()[copy * spec.mask_len()..][player.flags.clone()];
                            let action: Vec<f64> = action.iter().map(|a| f64::from(*a)).collect();
                            let mut clipped = action.clone();
                            spec.agents[i].action.clip(&mut clipped);
                            assert!(spec.agents[i].action.allows(&clipped, flags), "{env}: {action:?}");
                        }
                    }
                }
                replay.step(&actions);
                rewards.push(replay.rewards().to_vec());
                ends.push((replay.terminated().to_vec(), replay.truncated().to_vec()));
                finals.push((replay.final_obs().to_vec(), replay.final_states().to_vec()));
            }
            states.push(replay.states().to_vec());
            // TD(λ) returns of copy 0 and the last player, backwards by hand.
            let player = count - 1;
            let stream = if (plan.view, plan.reward) == (View::Central, Reward::Team) { 0 } else { player };
            let critic = if plan.share { 0 } else { stream };
            let mut value = |state: &[f32], obs: &[f32]| {
                let mut seen = Vec::new();
                match plan.view {
                    View::Central => seen.extend_from_slice(&state[..spec.central_len()]),
                    _ => joint.players[player].see(&obs[..spec.obs_len()], spec.obs_len(), &mut seen),
                }
                let mut out = Vec::new();
                joint.critics[critic].values(&seen, &mut out, &joint.device);
                f64::from(out[0])
            };
            let own = |all: &[f64]| match plan.reward {
                Reward::Own => all[player],
                Reward::Team => all[..count].iter().sum::<f64>() / count as f64,
            };
            let last = replay.obs().to_vec();
            let mut obs = vec![Vec::new(); 61];
            for (t, obs) in obs.iter_mut().enumerate().take(60) {
                for p in &joint.players {
                    let rows = joint.batches[p.policy].rows.host();
                    let width = rows.obs.len() / rows.advantage.len();
                    let i = joint.players.iter().position(|q| q.obs == p.obs).unwrap();
                    let first = if plan.share { i * len } else { 0 } + n * t;
                    obs.extend_from_slice(&rows.obs[first * width..][..p.obs.len()]);
                }
            }
            obs[60] = last;
            let (mut running, mut expected) = (0.0, vec![0.0; 60]);
            for t in (0..60).rev() {
                let v = value(&states[t], &obs[t]);
                let (terminated, truncated) = (ends[t].0[0], ends[t].1[0]);
                let next = match (terminated, truncated) {
                    (true, _) => 0.0,
                    (_, true) => value(&finals[t].1, &finals[t].0),
                    _ => value(&states[t + 1], &obs[t + 1]),
                };
                let delta = own(&rewards[t]) + 0.9 * next - v;
                running = delta + if terminated || truncated { 0.0 } else { 0.9 * 0.95 * running };
                expected[t] = running;
            }
            let rows = joint.batches[joint.players[player].policy].rows.host();
            let first = if plan.share { player * len } else { 0 };
            let found: Vec<f32> = (0..60).map(|t| rows.advantage[first + n * t]).collect();
            close(&found, &expected, 1e-4);
            assert!(ends.iter().any(|e| e.1[0]) || env.starts_with("uav"), "{env} was cut short");
        }
    }

    /// Values of a critic that watches the graph, by hand: one copy alone, its memory cleared where an episode begins, its
    /// value bootstrapped from the final scene of the episode that was cut short.
    #[test]
    fn a_critic_of_the_graph_bootstraps_from_what_it_remembers() {
        for (env, given) in
            [("uav-bs/bs-tiny", &[("steps", "25")][..]), ("particle/spread", &[]), ("particle/tag", &[])]
        {
            for view in [View::Attention, View::Graph, View::GraphMean, View::GraphMemoryless] {
                let make = || steadfast_envs::make_with(env, given).unwrap();
                let envs = || VecEnv::new(&make, 3, 6, Purpose::Env, 1);
                let (mut live, mut replay) = (envs(), envs());
                let spec = live.spec().clone();
                let plan = Plan { view, reward: Reward::Own, share: false, recurrent: false };
                let setup = Setup { spec: &spec, seed: 2, total_steps: 10_000, device: Device::cpu() };
                let mut joint = Joint::new(config(), plan, &setup).unwrap();
                // Two rollouts: the second begins with the memories of the first.
                joint.collect(&mut live).unwrap();
                let mut memory = vec![0.0; joint.onlooker.as_ref().unwrap().critic.memory_len()];
                let (mut running, mut ends, mut rewards) = (Vec::new(), Vec::new(), Vec::new());
                let n = spec.agents.len();
                let mut start = true;
                let row =
                    |joint: &mut Joint, replay: &VecEnv, last: bool, memory: &mut [f32], start: bool| {
                        let mut scenes = Scenes::default();
                        let graphs = if last {
                            replay.final_graph()
                        } else {
                            (replay.nodes(), replay.adjacency(), replay.edges())
                        };
                        let (obs, len) = (if last { replay.final_obs() } else { replay.obs() }, n);
                        let longest = spec.agents.iter().map(|a| a.obs.len()).max().unwrap();
                        let mut at = 0;
                        for (i, agent) in spec.agents.iter().enumerate() {
                            scenes.nodes.extend_from_slice(&obs[at..at + agent.obs.len()]);
                            scenes.nodes.extend(std::iter::repeat_n(0.0, longest - agent.obs.len()));
                            if env == "particle/tag" {
                                scenes.nodes.extend((0..n).map(|j| if i == j { 1.0 } else { 0.0 }));
                            }
                            if let Some(graph) = spec.graph.filter(|_| view != View::Attention) {
                                let own = graph.node_len;
                                scenes.nodes.extend_from_slice(&graphs.0[i * own..(i + 1) * own]);
                            }
                            at += agent.obs.len();
                        }
                        if view != View::Attention && spec.graph.is_some() {
                            scenes.adjacency.extend_from_slice(&graphs.1[..n * n]);
                            scenes.edges.extend_from_slice(&graphs.2[..graphs.2.len() / 3]);
                        } else {
                            scenes.adjacency = vec![true; len * len];
                        }
                        scenes.starts.push(start);
                        let mut values = Vec::new();
                        let onlooker = joint.onlooker.as_mut().unwrap();
                        onlooker.critic.values(&scenes, memory, &mut values, |_, _| ());
                        f64::from(values[n - 1])
                    };
                for _ in 0..60 {
                    running.push(row(&mut joint, &replay, false, &mut memory, start));
                    let t = rewards.len();
                    let mut actions = vec![0.0; 3 * spec.action_len()];
                    for (player, track) in joint.players.iter().zip(&joint.tracks) {
                        let own = 3 * player.action.len();
                        player.put(&track.actions[t * own..(t + 1) * own], &mut actions, spec.action_len());
                    }
                    replay.step(&actions);
                    let cut = replay.truncated()[0];
                    let at_end = cut.then(|| row(&mut joint, &replay, true, &mut memory.clone(), false));
                    start = replay.terminated()[0] || cut;
                    ends.push((start, at_end));
                    rewards.push(replay.rewards()[n - 1]);
                }
                running.push(row(&mut joint, &replay, false, &mut memory.clone(), start));
                let (mut sum, mut expected) = (0.0, vec![0.0; 60]);
                for t in (0..60).rev() {
                    let next = match ends[t] {
                        (true, at_end) => at_end.unwrap_or(0.0),
                        _ => running[t + 1],
                    };
                    sum = rewards[t] + 0.9 * next - running[t] + if ends[t].0 { 0.0 } else { 0.855 * sum };
                    expected[t] = sum;
                }
                let rows = joint.batches[n - 1].rows.host();
                let found: Vec<f32> = (0..60).map(|t| rows.advantage[3 * t]).collect();
                close(&found, &expected, 1e-4);
                assert!(ends.iter().any(|(_, at_end)| at_end.is_some()), "{env} was cut short");

                // The second rollout begins with the memories of the first.
                joint.collect(&mut live).unwrap();
                let first = joint.streams[n - 1].values[0];
                let again = row(&mut joint, &replay, false, &mut memory, start);
                close(&[first], &[again], 1e-5);
            }
        }
    }

    /// Policies that remember act on what they remember since the episode began, from one rollout to the next, and learn from that.
    #[test]
    fn memories_are_those_of_the_running_episode() {
        for env in ["particle/spread", "particle/speaker-listener", "probe/recall"] {
            let plan = Plan { view: View::Central, reward: Reward::Own, share: false, recurrent: true };
            let (mut joint, mut envs) = joint(env, plan, OnPolicy { horizon: 35, ..config() }).unwrap();
            assert_eq!(joint.memory_len(), 8 * joint.players.len());
            let mut own = vec![vec![0.0; 3 * 8]; joint.players.len()];
            let (mut begins, mut episodes) = (vec![true; 3], 0);
            for _ in 0..3 {
                joint.collect(&mut envs).unwrap();
                for (i, own) in own.iter_mut().enumerate() {
                    let (policy, rows) = (&joint.policies[i], joint.batches[i].rows.host());
                    assert_eq!(rows.memory, *own);
                    let (mut room, width) = (Memories::default(), rows.obs.len() / rows.starts.len());
                    for t in 0..35 {
                        let starts = &rows.starts[3 * t..3 * t + 3];
                        forget(own, starts, 8);
                        policy.perceive(&rows.obs[3 * t * width..3 * (t + 1) * width], own, &mut room);
                        let ended = |c: usize| joint.terminated[3 * t + c] || joint.truncated[3 * t + c];
                        let expected: Vec<bool> = match t {
                            0 => begins.clone(),
                            _ => (0..3).map(|c| joint.ended[3 * (t - 1) + c]).collect(),
                        };
                        assert_eq!(starts, expected);
                        episodes += (0..3).filter(|c| ended(*c)).count();
                    }
                    assert_eq!(*own, joint.tracks[i].memory, "{env}");
                }
                begins = joint.ended[3 * 34..].to_vec();
                assert!(joint.ratios().iter().flatten().all(|r| (r - 1.0).abs() < 1e-5));
            }
            assert!(episodes > 3);
            // Outside training: a row's memory is its own, and follows from its observations.
            let (len, n) = (joint.memory_len(), joint.players.len());
            let mut memory = vec![0.0; 3 * len];
            let mut actions = vec![0.0; 3 * joint.action_len];
            let mut rng = super::super::testing::rng(0);
            let mut by_hand = vec![vec![0.0; 3 * 8]; n];
            for _ in 0..3 {
                let mut seen = Seen { obs: envs.obs(), masks: &[], memory: &mut memory };
                joint.pick(&mut seen, Acting::Greedy, &mut actions, &mut rng);
                for (i, by_hand) in by_hand.iter_mut().enumerate() {
                    let (mut obs, mut room) = (Vec::new(), Memories::default());
                    joint.players[i].see(envs.obs(), joint.obs_len, &mut obs);
                    joint.policies[i].perceive(&obs, by_hand, &mut room);
                    for copy in 0..3 {
                        let found = &memory[copy * len + 8 * i..copy * len + 8 * (i + 1)];
                        assert_eq!(found, &by_hand[8 * copy..8 * (copy + 1)], "{env}");
                    }
                }
                envs.step(&actions);
            }
        }
    }

    #[test]
    fn unequal_players_share_no_policy() {
        let error = joint("particle/speaker-listener", PLANS[1], config()).err().unwrap().to_string();
        assert!(error.contains("share_parameters=false") && error.contains("speaker"), "{error}");
        assert!(joint("particle/speaker-listener", PLANS[0], config()).is_ok());
    }

    /// A shared policy that is told whom it serves acts as it learned, also when it is asked for its best actions.
    #[test]
    fn greedy_actions_go_to_their_players() {
        for plan in PLANS {
            let (mut joint, envs) = joint("particle/spread", plan, config()).unwrap();
            for (i, policy) in joint.policies.iter_mut().enumerate() {
                let normals = super::super::testing::normals(policy.len(), i as u64);
                policy.weights.set(normals);
                policy.refresh();
            }
            let mut actions = vec![9.0; 3 * 3];
            let mut rng = super::super::testing::rng(0);
            joint.pick(&mut Seen::only(envs.obs()), Acting::Greedy, &mut actions, &mut rng);
            for (i, player) in joint.players.iter().enumerate() {
                for copy in 0..3 {
                    let mut seen = Vec::new();
                    player.see(&envs.obs()[copy * 54..][..54], 54, &mut seen);
                    let mut own = [0.0];
                    let policy = &joint.policies[player.policy];
                    policy.pick(&seen, &[], Acting::Greedy, &mut rng, &mut Workspace::default(), &mut own);
                    assert_eq!(actions[3 * copy + i], own[0]);
                }
            }
        }
    }
}
