//! What an off-policy agent for several players needs: actors that see their own observations, critics that see everybody's
//! observations and actions, one replay of joint transitions with the rewards of each.
//!
//! Players are the agents of the task; each has its own spaces. Networks compute on plain slices.

use std::cell::RefCell;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use steadfast_envs::rng::{self, Purpose};
use steadfast_envs::{Rng, State, VecEnv};

use super::adam::{Adam, clip_global_norm};
use super::device::Device;
use super::mlp::{Activation, Init};
use super::on_policy::TimeLimit;
use super::policy::{Critic, Net};
use super::profile::{self, Stage};
use super::relaxed::{Form, Proposal, Relaxed};
use super::replay::{Replay, Transition, Transitions};
use super::rollout::{finite_obs, finite_rewards};
use super::weights::{Mean, read};
use crate::config::{at_least, positive, replay, rollout, widths, within};
use crate::{Acting, AgentError, BuildError, Metrics, Seen, Setup};

/// Settings of actors, critics and replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Copies of the environment that are stepped together.
    pub num_envs: usize,
    /// Steps of each copy in one iteration: a row of metrics, and the finest grid of evaluations.
    pub horizon: usize,
    /// Steps of each copy between updates. Released code: 100 of one copy.
    pub train_every: usize,
    /// Gradient steps of every player at each update.
    pub updates: usize,
    /// Joint transitions that the replay buffer holds.
    pub buffer: usize,
    /// Joint transitions in a minibatch, drawn uniformly from the buffer.
    pub minibatch: usize,
    /// Environment steps with uniformly random actions before the first update.
    pub learning_starts: usize,
    /// γ: discount factor, in [0, 1].
    pub gamma: f64,
    /// τ: share by which target networks follow at each gradient step, in (0, 1].
    pub tau: f64,
    /// Time limits `bootstrap` (correct) or are `terminal` (as in the released code).
    pub time_limit: TimeLimit,
    /// Step size of Adam for the actors.
    pub learning_rate: f64,
    /// Step size of Adam for the critics.
    pub critic_lr: f64,
    /// Largest gradient norm of a network; 0 switches clipping off.
    pub max_grad_norm: f64,
    /// σ: deviation of the noise on numbers while training, in halves of their range.
    pub noise: f64,
    /// Sizes of the hidden layers, of actors and critics.
    pub hidden: Vec<usize>,
    /// Nonlinearity after each hidden layer: `tanh` or `relu`.
    pub activation: Activation,
    /// Initial weights: `pytorch` (uniform in ±1/√in), `orthogonal` or `xavier`.
    pub init: Init,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            num_envs: 1,
            horizon: 1000,
            train_every: 100,
            updates: 1,
            buffer: 1_000_000,
            minibatch: 1024,
            learning_starts: 25_600,
            gamma: 0.95,
            tau: 0.01,
            time_limit: TimeLimit::Bootstrap,
            learning_rate: 1e-2,
            critic_lr: 1e-2,
            max_grad_norm: 0.5,
            noise: 0.1,
            hidden: vec![64, 64],
            activation: Activation::Relu,
            init: Init::Xavier,
        }
    }
}

impl Settings {
    /// Checks ranges, and that learning begins before the run ends after `total_steps`.
    ///
    /// # Errors
    /// Names the first key that is out of range.
    pub fn validate(&self, total_steps: u64) -> Result<(), BuildError> {
        rollout(self.num_envs, self.horizon)?;
        at_least("train_every", self.train_every, 1)?;
        at_least("updates", self.updates, 1)?;
        replay(self.minibatch, self.buffer, self.learning_starts, total_steps)?;
        within("gamma", self.gamma, 0.0, 1.0)?;
        positive("tau", self.tau)?;
        within("tau", self.tau, 0.0, 1.0)?;
        positive("learning_rate", self.learning_rate)?;
        positive("critic_lr", self.critic_lr)?;
        within("max_grad_norm", self.max_grad_norm, 0.0, f64::INFINITY)?;
        within("noise", self.noise, 0.0, f64::INFINITY)?;
        widths("hidden", &self.hidden)
    }
}

/// One player: its networks, and where its part lies in joint vectors.
struct Player {
    name: String,
    obs: Range<usize>,
    action: Range<usize>,
    /// Of the encoded joint action.
    code: Range<usize>,
    actor: Relaxed,
    actor_target: Relaxed,
    actor_adam: Adam,
    critic: Critic,
    critic_target: Critic,
    critic_adam: Adam,
    /// Its observations, `[B, o]`, and actions there.
    own: Vec<f32>,
    proposal: Proposal,
}

impl Player {
    /// Its columns of joint observations `[B, O]`.
    fn see(&self, joint: &[f32], width: usize, to: &mut Vec<f32>) {
        to.clear();
        joint.chunks_exact(width).for_each(|row| to.extend_from_slice(&row[self.obs.clone()]));
    }
}

/// Numbers of a minibatch on their way between the networks, kept for their buffers.
#[derive(Default)]
struct Room {
    /// Joint observations and joint encoded actions side by side, `[B, O + E]`: now, and at the next step.
    now: Vec<f32>,
    next: Vec<f32>,
    values: Vec<f32>,
    targets: Vec<f32>,
    ones: Vec<f32>,
    slopes: Vec<f32>,
}

/// Sums over the gradient steps of an iteration.
#[derive(Default)]
struct Tally {
    steps: u64,
    critic_loss: Mean,
    grad_norm: Mean,
    actor_loss: f64,
    q: f64,
}

/// Actors, critics and replay of all players.
pub struct Central {
    config: Settings,
    players: Vec<Player>,
    replay: Replay,
    device: Device,
    action_rng: Rng,
    minibatch_rng: Rng,
    obs: Vec<f32>,
    codes: Vec<f32>,
    env_actions: Vec<f32>,
    rewards: Vec<f32>,
    /// Steps of each copy so far.
    steps: u64,
    mb: Transitions,
    room: Room,
    tally: Tally,
    evaluation: RefCell<(Vec<f32>, Proposal)>,
    obs_len: usize,
    code_len: usize,
    action_len: usize,
}

impl Central {
    /// Fresh networks and an empty buffer.
    ///
    /// # Errors
    /// When an option is out of range, the task masks choices or has unbounded actions, or the device is not the CPU.
    pub fn new(config: Settings, setup: &Setup) -> Result<Self, BuildError> {
        config.validate(setup.total_steps)?;
        let (spec, device) = (setup.spec, &setup.device);
        let cannot = |why: &str| BuildError::CannotAct { env: spec.id.clone(), why: why.to_owned() };
        if !device.is_cpu() {
            return Err(cannot("agents for several players compute on the CPU; use `--device cpu`"));
        }
        if spec.masked {
            return Err(cannot(
                "it masks choices, and this agent's critics know no masks; `hatrpo` and `mappo` can act in it",
            ));
        }
        let c = &config;
        let init = |index: usize| rng::stream(setup.seed, Purpose::Init, index as u64);
        let shape = (c.activation, c.init);
        let mut actors = Vec::new();
        for (i, agent) in spec.agents.iter().enumerate() {
            let new =
                || Relaxed::new(agent.obs.len(), &agent.action, &c.hidden, shape, &mut init(2 * i), device);
            let Some(both) = new().zip(new()) else {
                return Err(cannot(
                    "its actions have no bounds, and this agent squashes actions into theirs",
                ));
            };
            actors.push(both);
        }
        let code_len = actors.iter().map(|(actor, _)| actor.code_len()).sum::<usize>();
        let net = Net { hidden: c.hidden.clone(), activation: c.activation, init: c.init, log_std_init: 0.0 };
        let (mut obs, mut action, mut code) = (0..0, 0..0, 0..0);
        let after = |range: &mut Range<usize>, len: usize| {
            *range = range.end..range.end + len;
            range.clone()
        };
        let adam = |len| Adam::new(len, 1e-8, device);
        let players: Vec<Player> = spec
            .agents
            .iter()
            .zip(actors)
            .enumerate()
            .map(|(i, (agent, (actor, actor_target)))| {
                let critic = Critic::new(spec.obs_len() + code_len, &net, &mut init(2 * i + 1), device);
                Player {
                    name: agent.name.clone(),
                    obs: after(&mut obs, agent.obs.len()),
                    action: after(&mut action, agent.action.len()),
                    code: after(&mut code, actor.code_len()),
                    actor_adam: adam(actor.len()),
                    critic_adam: adam(critic.len()),
                    critic_target: critic.clone(),
                    actor,
                    actor_target,
                    critic,
                    own: Vec::new(),
                    proposal: Proposal::default(),
                }
            })
            .collect();
        Ok(Self {
            replay: Replay::of_players(players.len(), c.buffer, spec.obs_len(), code_len)?,
            players,
            device: device.clone(),
            action_rng: rng::stream(setup.seed, Purpose::Action, 0),
            minibatch_rng: rng::stream(setup.seed, Purpose::Minibatch, 0),
            obs: Vec::new(),
            codes: Vec::new(),
            env_actions: Vec::new(),
            rewards: Vec::new(),
            steps: 0,
            mb: Transitions::default(),
            room: Room::default(),
            tally: Tally::default(),
            evaluation: RefCell::default(),
            obs_len: spec.obs_len(),
            code_len,
            action_len: spec.action_len(),
            config,
        })
    }

    /// Number of players.
    pub fn len(&self) -> usize {
        self.players.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.players.is_empty()
    }

    /// The replay buffer.
    pub fn replay(&self) -> &Replay {
        &self.replay
    }

    /// The replay buffer, to be restored.
    pub fn replay_mut(&mut self) -> &mut Replay {
        &mut self.replay
    }

    /// Acts once in every copy, with noise, and stores the transitions. Returns the number of gradient steps that are due.
    ///
    /// # Errors
    /// When an observation or a reward is not finite.
    pub fn step(&mut self, envs: &mut VecEnv) -> Result<usize, AgentError> {
        profile::enter(Stage::Inference);
        finite_obs(envs)?;
        let (c, n, o, e) = (&self.config, envs.len(), self.obs_len, self.code_len);
        self.obs.clear();
        self.obs.extend_from_slice(envs.obs());
        self.codes.resize(n * e, 0.0);
        self.env_actions.resize(n * self.action_len, 0.0);
        let random = envs.steps() < c.learning_starts as u64;
        for player in &mut self.players {
            let (mut own, mut p) = (std::mem::take(&mut player.own), std::mem::take(&mut player.proposal));
            if random {
                player.actor.uniform(n, &mut self.action_rng, &mut p);
            } else {
                player.see(&self.obs, o, &mut own);
                player.actor.shake(n, &mut self.action_rng, &mut p);
                player.actor.propose(&own, Form::Noisy(c.noise as f32), &mut p);
            }
            put(&p.code, &mut self.codes, player.code.clone(), e);
            player.actor.decode(&p.code, &mut self.env_actions, player.action.clone(), self.action_len);
            (player.own, player.proposal) = (own, p);
        }
        profile::enter(Stage::Environment);
        envs.step(&self.env_actions);
        profile::enter(Stage::Update);
        finite_rewards(envs)?;
        self.rewards.clear();
        self.rewards.extend(envs.rewards().iter().map(|r| *r as f32));
        let m = self.players.len();
        for i in 0..n {
            let (terminated, truncated) = (envs.terminated()[i], envs.truncated()[i]);
            let after = if terminated || truncated { envs.final_obs() } else { envs.obs() };
            self.replay.push(&Transition {
                obs: &self.obs[i * o..(i + 1) * o],
                action: &self.codes[i * e..(i + 1) * e],
                rewards: &self.rewards[i * m..(i + 1) * m],
                next_obs: &after[i * o..(i + 1) * o],
                terminated: terminated || truncated && c.time_limit == TimeLimit::Terminal,
            });
        }
        self.steps += 1;
        let learning = envs.steps() > c.learning_starts as u64;
        Ok(if learning && self.steps.is_multiple_of(c.train_every as u64) { c.updates } else { 0 })
    }

    /// Draws a minibatch for all players: o and a, o' and the target actors' actions there.
    pub fn sample(&mut self) {
        let Self { config: c, replay, minibatch_rng: rng, mb, room, players, obs_len, code_len, .. } = self;
        let (o, e, rows) = (*obs_len, *code_len, c.minibatch);
        replay.sample(rows, rng, mb);
        room.now.clear();
        for (obs, code) in mb.obs.chunks_exact(o).zip(mb.actions.chunks_exact(e)) {
            room.now.extend_from_slice(obs);
            room.now.extend_from_slice(code);
        }
        room.next.resize(rows * (o + e), 0.0);
        put(&mb.next_obs, &mut room.next, 0..o, o + e);
        for player in players {
            let (mut own, mut p) = (std::mem::take(&mut player.own), std::mem::take(&mut player.proposal));
            player.see(&mb.next_obs, o, &mut own);
            player.actor.shake(rows, rng, &mut p);
            player.actor_target.propose(&own, Form::Noisy(0.0), &mut p);
            put(&p.code, &mut room.next, o + player.code.start..o + player.code.end, o + e);
            (player.own, player.proposal) = (own, p);
        }
    }

    /// One Adam step of Q_i towards r_i + γ Q_i'(o', a'), only r_i where the task ended.
    pub fn fit_critic(&mut self, i: usize) {
        let Self { config: c, mb, room, players, device, tally, .. } = self;
        let (m, gamma) = (players.len(), c.gamma as f32);
        let player = &mut players[i];
        room.values.clear();
        player.critic_target.values(&room.next, &mut room.values, device);
        let rewards = mb.rewards.iter().skip(i).step_by(m);
        room.targets.clear();
        room.targets.extend(
            rewards.zip(&mb.goes_on).zip(&room.values).map(|((r, goes_on), next)| r + gamma * goes_on * next),
        );
        tally.critic_loss.add(player.critic.regress(&room.now, &room.targets, device));
        clip_global_norm([&mut player.critic.weights], c.max_grad_norm);
        player.critic_adam.step(&mut player.critic.weights, c.critic_lr);
    }

    /// One Adam step of μ_i that raises Q_i through its own action in that `form`, the others' as stored, and lowers `penalty` times
    /// the mean square of its outputs. The joint actions of the minibatch are as before afterwards.
    pub fn step_actor(&mut self, i: usize, form: Form, penalty: f64) {
        let Self { config: c, mb, room, players, device, tally, minibatch_rng, obs_len, code_len, .. } = self;
        let (o, width) = (*obs_len, *obs_len + *code_len);
        let player = &mut players[i];
        let (mut own, mut p) = (std::mem::take(&mut player.own), std::mem::take(&mut player.proposal));
        player.see(&mb.obs, o, &mut own);
        player.actor.shake(c.minibatch, minibatch_rng, &mut p);
        player.actor.propose(&own, form, &mut p);
        let columns = o + player.code.start..o + player.code.end;
        put(&p.code, &mut room.now, columns.clone(), width);
        room.values.clear();
        player.critic.values(&room.now, &mut room.values, device);
        room.ones.clear();
        room.ones.resize(c.minibatch, 1.0);
        let all = player.critic.input_slopes(&room.now, &room.ones, device);
        room.slopes.clear();
        all.chunks_exact(width).for_each(|row| room.slopes.extend_from_slice(&row[columns.clone()]));
        let squares = player.actor.grad(&own, &mut p, &room.slopes, form, penalty);
        tally.grad_norm.add(clip_global_norm([&mut player.actor.weights], c.max_grad_norm));
        player.actor_adam.step(&mut player.actor.weights, c.learning_rate);
        // The stored actions again, for the next player.
        let code = player.code.clone();
        for (row, stored) in room.now.chunks_exact_mut(width).zip(mb.actions.chunks_exact(*code_len)) {
            row[columns.clone()].copy_from_slice(&stored[code.clone()]);
        }
        (player.own, player.proposal) = (own, p);
        let q = room.values.iter().map(|q| f64::from(*q)).sum::<f64>() / room.values.len() as f64;
        tally.steps += 1;
        tally.q += q;
        tally.actor_loss += penalty * squares - q;
    }

    /// Ends an iteration: the means over its gradient steps.
    ///
    /// # Errors
    /// When one of them is not finite.
    pub fn finish(&mut self, step: u64) -> Result<Metrics, AgentError> {
        let learning_rate = Some(self.config.learning_rate);
        let Tally { steps, critic_loss, grad_norm, actor_loss, q } = std::mem::take(&mut self.tally);
        if steps == 0 {
            return Ok(Metrics { learning_rate, ..Metrics::default() });
        }
        let [value_loss, grad_norm] = read([critic_loss.get(), grad_norm.get()]);
        Metrics {
            learning_rate,
            policy_loss: Some(actor_loss / steps as f64),
            value_loss: Some(value_loss),
            grad_norm: Some(grad_norm),
            q: Some(q / steps as f64),
            ..Metrics::default()
        }
        .finite(step)
    }

    /// `what` where there is one player, `what.player` where there are several.
    fn name(&self, what: &str, i: usize) -> String {
        if self.players.len() == 1 { what.to_owned() } else { format!("{what}.{}", self.players[i].name) }
    }

    /// Target networks follow by τ (of the settings).
    pub fn track(&mut self) {
        for player in &mut self.players {
            player.critic_target.track(&player.critic, self.config.tau);
            player.actor_target.track(&player.actor, self.config.tau);
        }
    }

    /// Joint actions `[rows, action_len]` for what is seen, picked as `how` says.
    pub fn pick(&self, seen: &Seen, how: Acting, actions: &mut [f32], rng: &mut Rng) {
        let (own, p) = &mut *self.evaluation.borrow_mut();
        let form = match how {
            Acting::Greedy => Form::Best,
            Acting::Sampled => Form::Noisy(self.config.noise as f32),
        };
        for player in &self.players {
            player.see(seen.obs, self.obs_len, own);
            if how == Acting::Sampled {
                player.actor.shake(seen.obs.len() / self.obs_len, rng, p);
            }
            player.actor.propose(own, form, p);
            player.actor.decode(&p.code, actions, player.action.clone(), self.action_len);
        }
    }

    /// Saves networks, streams and counters; the replay buffer's contents are saved apart.
    pub fn save(&self, state: &mut State) {
        for (i, player) in self.players.iter().enumerate() {
            player.actor.save(&self.name("policy", i), state);
            player.actor_target.save(&self.name("policy_target", i), state);
            player.actor_adam.save(&self.name("policy_adam", i), state);
            player.critic.save(&self.name("critic", i), state);
            player.critic_target.save(&self.name("critic_target", i), state);
            player.critic_adam.save(&self.name("critic_adam", i), state);
        }
        rng::save(&self.action_rng, "action_rng", state);
        rng::save(&self.minibatch_rng, "minibatch_rng", state);
        state.put_u64("counters", &[self.steps, self.replay.stored()]);
    }

    /// Restores what [`Self::save`] wrote; the replay buffer then waits for its contents.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, state: &State) -> Result<(), AgentError> {
        for i in 0..self.players.len() {
            let names = ["policy", "policy_target", "policy_adam", "critic", "critic_target", "critic_adam"]
                .map(|what| self.name(what, i));
            let player = &mut self.players[i];
            player.actor.load(&names[0], state)?;
            player.actor_target.load(&names[1], state)?;
            player.actor_adam.load(&names[2], state)?;
            player.critic.load(&names[3], state)?;
            player.critic_target.load(&names[4], state)?;
            player.critic_adam.load(&names[5], state)?;
        }
        self.action_rng = rng::load("action_rng", state)?;
        self.minibatch_rng = rng::load("minibatch_rng", state)?;
        let counters = state.u64("counters", 2)?;
        self.steps = counters[0];
        self.replay.expect(counters[1]);
        Ok(())
    }
}

/// Writes rows `from` to columns `at` of `to`, whose rows have `width` numbers.
fn put(from: &[f32], to: &mut [f32], at: Range<usize>, width: usize) {
    let rows = to.chunks_exact_mut(width).zip(from.chunks_exact(at.len()));
    rows.for_each(|(to, from)| to[at.clone()].copy_from_slice(from));
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;
    use crate::core::testing::{close, task};

    const ROWS: usize = 32;

    fn agent(env: &str, config: Settings) -> Result<(Central, VecEnv), BuildError> {
        let envs = VecEnv::new(&|| task(env), config.num_envs, 3, Purpose::Env, 1);
        let setup = Setup { spec: envs.spec(), seed: 3, total_steps: 1_000_000, device: Device::cpu() };
        Ok((Central::new(config, &setup)?, envs))
    }

    fn config() -> Settings {
        Settings {
            num_envs: 4,
            horizon: 50,
            train_every: 10,
            buffer: 1000,
            minibatch: ROWS,
            learning_starts: 100,
            hidden: vec![8],
            ..Settings::default()
        }
    }

    fn learn(agent: &mut Central, envs: &mut VecEnv) {
        for _ in 0..50 {
            for _ in 0..agent.step(envs).unwrap() {
                agent.sample();
                (0..agent.len()).for_each(|i| agent.fit_critic(i));
                (0..agent.len()).for_each(|i| agent.step_actor(i, Form::Relaxed(1.0), 1e-3));
                agent.track();
            }
        }
        agent.finish(envs.steps()).unwrap();
    }

    fn ask(critic: &mut Critic, x: &[f32]) -> f64 {
        let mut out = Vec::new();
        critic.values(x, &mut out, &Device::cpu());
        f64::from(out[0])
    }

    /// y_i = r_i + γ Q_i'(o', a'), row by row and player by player, with the targets' actions asked one at a time.
    #[test]
    fn targets_are_those_of_the_paper() {
        for env in ["particle/spread", "particle/speaker-listener", "HalfCheetah-v5/2x3"] {
            let (mut agent, mut envs) = agent(env, config()).unwrap();
            learn(&mut agent, &mut envs);
            // Targets that differ from what they follow.
            agent.sample();
            agent.mb.goes_on[5] = 0.0;
            let spec = envs.spec();
            let (o, e) = (agent.obs_len, agent.code_len);
            for i in 0..agent.players.len() {
                let mut expected = Vec::new();
                for row in 0..ROWS {
                    let next_obs = &agent.mb.next_obs[row * o..(row + 1) * o];
                    let mut x = next_obs.to_vec();
                    let mut at = 0;
                    for (j, player) in agent.players.iter_mut().enumerate() {
                        let own = &next_obs[at..at + spec.agents[j].obs.len()];
                        at += own.len();
                        let drawn = &agent.room.next[row * (o + e) + o..][player.code.clone()];
                        if spec.agents[j].action.choices().is_empty() {
                            let mut p = Proposal::default();
                            player.actor_target.propose(own, Form::Best, &mut p);
                            close(drawn, &p.code, 1e-6);
                        } else {
                            assert_eq!(drawn.iter().sum::<f32>(), 1.0);
                            assert!(drawn.contains(&1.0));
                        }
                        x.extend_from_slice(drawn);
                    }
                    let next = ask(&mut agent.players[i].critic_target, &x);
                    let reward = f64::from(agent.mb.rewards[row * agent.players.len() + i]);
                    expected.push(reward + if row == 5 { 0.0 } else { 0.95 * next });
                }
                agent.fit_critic(i);
                close(&agent.room.targets, &expected, 1e-5);
            }
        }
    }

    /// An actor's step: the slope of its own critic at the joint action with its own part renewed, and the minibatch as it was
    /// afterwards.
    #[test]
    fn actors_climb_their_own_critics() {
        let (mut agent, mut envs) = agent("particle/spread", config()).unwrap();
        learn(&mut agent, &mut envs);
        agent.sample();
        let (before, width) = (agent.room.now.clone(), agent.obs_len + agent.code_len);
        for i in 0..3 {
            let columns =
                agent.obs_len + agent.players[i].code.start..agent.obs_len + agent.players[i].code.end;
            let mut other = agent.players[i].critic.clone();
            agent.step_actor(i, Form::Through(1.0), 0.0);
            assert_eq!(agent.room.now, before);
            let code = agent.players[i].proposal.code.clone();
            for row in [0, 7, 31] {
                let mut x = before[row * width..(row + 1) * width].to_vec();
                x[columns.clone()].copy_from_slice(&code[row * 5..(row + 1) * 5]);
                close(&[agent.room.values[row]], &[ask(&mut other, &x)], 1e-6);
                for k in 0..5 {
                    let mut at = |h: f32| {
                        let mut x = x.clone();
                        x[columns.start + k] += h;
                        ask(&mut other, &x)
                    };
                    let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
                    close(&[agent.room.slopes[row * 5 + k]], &[slope], 5e-3);
                }
            }
        }
    }

    /// What is stored is what happened: joint observations follow one another, rewards are each player's.
    #[test]
    fn transitions_hold_what_everybody_lived() {
        let (mut agent, mut envs) = agent("particle/tag", config()).unwrap();
        for _ in 0..50 {
            agent.step(&mut envs).unwrap();
        }
        let (o, n, m) = (agent.obs_len, 4, agent.players.len());
        let all = agent.replay.piece(0, 200);
        let (obs, next) = (all.f32("obs", 200 * o).unwrap(), all.f32("next_obs", 200 * o).unwrap());
        for t in 0..49 {
            let follows = next[n * t * o..(n * t + 1) * o] == obs[n * (t + 1) * o..(n * (t + 1) + 1) * o];
            assert_eq!(follows, (t + 1) % 25 != 0, "{t}");
        }
        let rewards = all.f32("rewards", 200 * m).unwrap();
        let last: Vec<f32> = envs.rewards().iter().map(|r| *r as f32).collect();
        assert_eq!(rewards[196 * m..], last);
        assert!(rewards.chunks(m).any(|r| r.iter().any(|x| *x != r[0])), "hunters and prey differ");
    }

    #[test]
    fn what_it_cannot_do_is_refused() {
        let with = |given: &[(&str, &str)]| {
            let envs = VecEnv::new(
                &|| steadfast_envs::make_with("uav-bs/bs-tiny", given).unwrap(),
                4,
                3,
                Purpose::Env,
                1,
            );
            let setup = Setup { spec: envs.spec(), seed: 3, total_steps: 1_000_000, device: Device::cpu() };
            Central::new(config(), &setup).map(|_| ())
        };
        with(&[]).unwrap();
        let error = with(&[("action", "hybrid")]).unwrap_err().to_string();
        assert!(error.contains("masks"), "{error}");
        for (bad, key) in [
            (Settings { minibatch: 65, buffer: 64, ..config() }, "minibatch"),
            (Settings { hidden: vec![1 << 20, 4], ..config() }, "hidden"),
            (Settings { horizon: usize::MAX, ..config() }, "horizon"),
            (Settings { learning_starts: 1_000_000, ..config() }, "learning_starts"),
            (Settings { tau: 0.0, ..config() }, "tau"),
        ] {
            let error = agent("particle/spread", bad).err().unwrap().to_string();
            assert!(error.contains(&format!("'{key}'")), "{error}");
        }
    }
}
