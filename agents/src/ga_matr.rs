//! Multi-agent trust-region learning with a critic on the graph of who hears whom (after GA-MATR): a graph-recurrent network
//! with attention values states, trust-region steps are settled by a meta-game.
//!
//! Z. Feng, D. Wu, M. Huang, C. Yuen, *Graph attention-based reinforcement learning for trajectory design and resource
//! assignment in multi-UAV assisted communication*, 2024, arXiv:2401.17880. Only its abstract is known to us, and no code: the
//! networks are our reconstruction, the policy step is that of MATRL (arXiv:2106.06828), and no number here is the paper's.
//!
//! For k = 0, 1, … K−1:
//!
//! 1. All players act with their π_old for T steps in N environments, each on what it remembers of its own observations since
//!    the episode began; the critic watches the graph of the task: who hears whom, what nodes and edges show, and all
//!    observations.
//! 2. Passing messages that attention weighs, and remembering what it has heard since the episode began, it values the
//!    state for each player, V_i; each estimates its advantages Â_i and returns R_i (GAE).
//! 3. Each player finds a step π̂_i of TRPO on E[r_i Â_i] within E[KL(π_i,old ‖ π̂_i)] ≤ δ; gradient and Fisher matrix go back
//!    through the time of the rollout.
//! 4. The meta-game: each keeps π_i,old or takes π̂_i, and is paid U_i(s) = E[(Π_{j: s_j = 1} r̂_j − 1) Â_i]. ρ: its equilibrium.
//!    Aggregate θ̄_i = θ_i + ρ_i (θ̂_i − θ_i), as far as nobody regrets it.
//! 5. Each replies with a step within its trust region to the others' aggregated policies.
//! 6. Fit V to the R_i, back through the time of the rollout.
//!
//! Deviations: see above. Ablations are presets: `no-graph` (a network on the central state in the place of the graph),
//! `no-recurrence` (neither critic nor policies remember), `no-attention` (messages weigh the same) and `no-meta-game` (line 3
//! alone); the regulariser by the deviation of the rates belongs to the task (option `reward=std` of `uav-bs`, and
//! `std_weight`). Outputs of actors are not normalised by layer, and attention has no penalty on its logits.

use serde::{Deserialize, Serialize};
use steadfast_envs::rng::{self, Purpose};
use steadfast_envs::{Rng, State, VecEnv};

use crate::config::within;
use crate::core::adam::Adam;
use crate::core::joint::{Joint, Plan, Reward, Settled, View, load_adams, save_adams};
use crate::core::on_policy::OnPolicy;
use crate::core::trust_region::{Steps, TrustRegion, natural_step};
use crate::{Acting, Agent, AgentError, BuildError, Metrics, Seen, Setup};

/// Options.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The critic: on the `graph` of the task, with memory and attention; `graph-mean` without attention, `graph-memoryless`
    /// without memory; `attention` over all observations; or a network on the `central` state or the `local`
    /// observation. Its width is the first of the `hidden` sizes.
    pub critic: View,
    /// What a player is paid: its `own` rewards, or the mean of the `team`.
    pub reward: Reward,
    /// Whether a meta-game decides which steps are taken (lines 4 and 5); otherwise all are.
    pub meta_game: bool,
    /// c: products of ratios in payoffs are clipped to [1/c, c].
    pub payoff_clip: f64,
    /// Whether policies remember their episodes: an encoder and a gated recurrent unit in the place of the first hidden layer.
    pub recurrent_actor: bool,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub region: TrustRegion,
    #[serde(flatten)]
    #[allow(missing_docs, reason = "flattened: its fields are documented")]
    pub on_policy: OnPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            critic: View::Graph,
            reward: Reward::Own,
            meta_game: true,
            payoff_clip: 3.0,
            recurrent_actor: true,
            region: TrustRegion::default(),
            on_policy: OnPolicy::default(),
        }
    }
}

/// The agent.
pub struct GaMatr {
    config: Config,
    core: Joint,
    critic_adams: Vec<Adam>,
    order_rng: Rng,
}

impl GaMatr {
    /// An agent with fresh networks.
    ///
    /// # Errors
    /// When an option is out of range or the agent cannot act in the task.
    pub fn new(config: Config, setup: &Setup) -> Result<Self, BuildError> {
        config.region.validate()?;
        within("payoff_clip", config.payoff_clip, 1.0, f64::INFINITY)?;
        let plan = Plan {
            view: config.critic,
            reward: config.reward,
            share: false,
            recurrent: config.recurrent_actor,
        };
        let core = Joint::new(config.on_policy.clone(), plan, setup)?;
        let (_, critic_adams) = core.optimizers(config.region.adam_epsilon);
        Ok(Self { config, core, critic_adams, order_rng: rng::stream(setup.seed, Purpose::Minibatch, 1) })
    }
}

impl Agent for GaMatr {
    fn num_envs(&self) -> usize {
        self.config.on_policy.num_envs
    }

    fn steps_per_iteration(&self) -> u64 {
        self.core.batch_len() as u64
    }

    fn iterate(&mut self, envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        let Self { config, core, critic_adams, order_rng } = self;
        let (c, clip) = (&config.region, config.payoff_clip);
        let lr = c.critic_lr * c.lr_schedule.factor(core.iteration, core.iterations);
        let max_kl = c.max_kl * c.kl_schedule.factor(core.iteration, core.iterations);

        // 1. All act, the critic watches.
        // 2. It values what it saw; each player estimates its advantages.
        core.collect(envs)?;
        if c.normalize_advantage {
            core.standardize_advantages();
        }

        // 3. A trust-region step of each.
        let old = core.parameters();
        let mut steps = Steps::default();
        for (policy, batch) in core.policies.iter_mut().zip(&core.batches) {
            steps.add(natural_step(policy, &batch.rows, c, max_kl));
        }

        // A single player has nobody to play with.
        let mut settled = None;
        if config.meta_game && core.policies.len() > 1 {
            let advantages: Vec<Vec<f32>> =
                core.batches.iter().map(|b| b.rows.host().advantage.clone()).collect();
            let of: Vec<&[f32]> = advantages.iter().map(Vec::as_slice).collect();

            // 4. The meta-game, and the aggregated steps.
            let s = core.settle(&old, &of, clip, (c, max_kl), order_rng);

            // 5. Replies.
            core.reply(&old, &s, &of, clip, (c, max_kl));
            settled = Some(s);
        }

        // 6. Fit the critic.
        core.fit_critics(critic_adams, &c.critic_fit(), lr);

        let own = Metrics {
            nash_weight: settled.as_ref().map(Settled::mean_rho),
            exploitability: settled.and_then(|s| s.exploitability),
            ..steps.metrics(lr)
        };
        core.finish(0.2, own).finite(envs.steps())
    }

    fn act(&self, seen: &mut Seen, how: Acting, actions: &mut [f32], rng: &mut Rng) {
        self.core.pick(seen, how, actions, rng);
    }

    fn memory_len(&self) -> usize {
        self.core.memory_len()
    }

    fn save(&self) -> State {
        let mut state = State::new();
        self.core.save(&mut state);
        save_adams(&self.critic_adams, "critic_adam", &mut state);
        rng::save(&self.order_rng, "order_rng", &mut state);
        state
    }

    fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.core.load(state)?;
        load_adams(&mut self.critic_adams, "critic_adam", state)?;
        self.order_rng = rng::load("order_rng", state)?;
        Ok(())
    }
}
