//! Multi-agent trust-region learning (MATRL): independent trust-region steps, and a game that decides which of them are taken.
//!
//! Y. Wen, H. Chen, Y. Yang, Z. Tian, M. Li, X. Chen, J. Wang, *A game-theoretic approach to multi-agent trust region
//! optimization*, 2022, arXiv:2106.06828. The form for N players is our reconstruction.
//!
//! For k = 0, 1, … K−1:
//!
//! 1. All players act with their π_old for T steps in N environments; each estimates its advantages Â_i and returns R_i
//!    (GAE) from its rewards and V_i(s), which sees the central state.
//! 2. Each player finds a step π̂_i of TRPO on E[r_i Â_i] within E[KL(π_i,old ‖ π̂_i)] ≤ δ, as if the others stood still.
//! 3. The meta-game: each keeps π_i,old or takes π̂_i, and is paid U_i(s) = E[(Π_{j: s_j = 1} r̂_j − 1) Â_i], estimated from the
//!    same batch. ρ: its equilibrium.
//! 4. Aggregate θ̄_i = θ_i + ρ_i (θ̂_i − θ_i). Halve ρ until each KL is within δ and its slack and no player would rather
//!    keep π_i,old against the others' π̄_j.
//! 5. Reply: each takes its step of TRPO anew, from π_i,old, on E[r_i M_i] with M_i = Â_i Π_{j≠i} r̄_j: against the others as
//!    they will be. The replies stand where the sum of payoffs is no lower than with π̄.
//! 6. Fit V_i to R_i.
//!
//! With one player this is TRPO. Deviations: the paper has two players, ours any number (equilibria are found by
//! enumeration, by closed form or fictitious play where none is pure, and beyond ten players by best responses in turn);
//! products of ratios are clipped; the reply starts from the old policy, for from the aggregated one it would move cyclic
//! games outward.

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
    /// What a value function sees: the `local` observation of its player, the `central` state, or all players by `attention`
    /// or on the `graph`.
    pub critic: View,
    /// What a player is paid: its `own` rewards, or the mean of the `team`.
    pub reward: Reward,
    /// c: products of ratios in payoffs are clipped to [1/c, c].
    pub payoff_clip: f64,
    /// Whether players reply to the others' aggregated steps (line 5); otherwise they take the aggregated ones.
    pub reply: bool,
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
            critic: View::Central,
            reward: Reward::Own,
            payoff_clip: 3.0,
            reply: true,
            recurrent_actor: false,
            region: TrustRegion::default(),
            on_policy: OnPolicy::default(),
        }
    }
}

/// The agent.
pub struct Matrl {
    config: Config,
    core: Joint,
    critic_adams: Vec<Adam>,
    order_rng: Rng,
}

impl Matrl {
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

impl Agent for Matrl {
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

        // 1. All act, each estimates its advantages.
        core.collect(envs)?;
        if c.normalize_advantage {
            core.standardize_advantages();
        }

        // 2. A trust-region step of each.
        let old = core.parameters();
        let mut steps = Steps::default();
        for (policy, batch) in core.policies.iter_mut().zip(&core.batches) {
            steps.add(natural_step(policy, &batch.rows, c, max_kl));
        }

        // A single player has nobody to play with.
        let mut settled = None;
        if core.policies.len() > 1 {
            let advantages: Vec<Vec<f32>> =
                core.batches.iter().map(|b| b.rows.host().advantage.clone()).collect();
            let of: Vec<&[f32]> = advantages.iter().map(Vec::as_slice).collect();

            // 3. The meta-game and its equilibrium.
            // 4. Aggregated steps, as far as they hold what they promise.
            let s = core.settle(&old, &of, clip, (c, max_kl), order_rng);

            // 5. Replies to the others' aggregated steps.
            if config.reply {
                core.reply(&old, &s, &of, clip, (c, max_kl));
            }
            settled = Some(s);
        }

        // 6. Fit the value functions.
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

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::*;
    use crate::core::device::Device;
    use crate::core::meta_game::payoff;
    use crate::core::weights::read;
    use steadfast_envs::make_with;

    fn matrl(players: &str, config: Config) -> (Matrl, VecEnv) {
        let make = || make_with("particle/spread", &[("agents", players)]).unwrap();
        let envs = VecEnv::new(&make, 4, 2, Purpose::Env, 1);
        let setup = Setup { spec: envs.spec(), seed: 3, total_steps: 10_000, device: Device::cpu() };
        (Matrl::new(config, &setup).unwrap(), envs)
    }

    fn config(reward: Reward, reply: bool) -> Config {
        let mut config = Config { reward, reply, ..Config::default() };
        (config.on_policy.num_envs, config.on_policy.horizon) = (4, 50);
        config.on_policy.net.hidden = vec![16];
        config.region.max_kl = 0.05;
        config
    }

    /// What the batch says of the new policies, player by player.
    fn payoffs(agent: &mut Matrl) -> Vec<f64> {
        let ratios = agent.core.ratios();
        agent.core.batches.iter().map(|b| payoff(&ratios, &b.rows.host().advantage, 3.0)).collect()
    }

    #[test]
    fn the_estimated_team_payoff_never_falls() {
        for (players, reply) in [("3", false), ("3", true), ("5", true)] {
            let (mut agent, mut envs) = matrl(players, config(Reward::Team, reply));
            let mut risen = 0.0;
            for _ in 0..6 {
                agent.iterate(&mut envs).unwrap();
                let team = payoffs(&mut agent)[0];
                assert!(team >= -1e-6, "{players} players, {team}");
                risen += team;
            }
            assert!(risen > 0.05, "{players} players: {risen}");
        }
    }

    /// Without replies nobody would rather have kept its policy, and all are within their trust regions.
    #[test]
    fn nobody_regrets_its_aggregated_step() {
        let (mut agent, mut envs) = matrl("3", config(Reward::Own, false));
        for _ in 0..6 {
            let metrics = agent.iterate(&mut envs).unwrap();
            assert!(metrics.kl > Some(1e-4), "{metrics:?}");
            assert!(metrics.nash_weight > Some(0.0) && metrics.nash_weight <= Some(1.0), "{metrics:?}");
            assert!(metrics.exploitability >= Some(0.0), "{metrics:?}");
            let (all, now) = (agent.core.ratios(), payoffs(&mut agent));
            for i in 0..3 {
                let mut kept = all.clone();
                kept[i].fill(1.0);
                let batch = &agent.core.batches[i].rows;
                assert!(now[i] >= payoff(&kept, &batch.host().advantage, 3.0) - 1e-6);
                let [kl] = read([agent.core.policies[i].compare(batch, 0.2).kl_old_new]);
                assert!(kl <= 1.5 * 0.05 + 1e-6, "{kl}");
            }
        }
    }

    /// The estimate of every player's step alone is that of the game's corners, which the solver sees.
    #[test]
    fn a_step_that_pays_is_taken() {
        let (mut agent, mut envs) = matrl("2", config(Reward::Team, false));
        let before: Vec<Vec<f32>> = agent.core.policies.iter().map(|p| p.weights.to_host()).collect();
        agent.iterate(&mut envs).unwrap();
        let moved =
            agent.core.policies.iter().zip(before).filter(|(p, old)| p.weights.to_host() != *old).count();
        let [first, second] = payoffs(&mut agent)[..] else { panic!("two players") };
        assert!(moved > 0 && first > 0.0 && (first - second).abs() < 1e-9, "{moved}: {first}, {second}");
    }

    #[test]
    fn more_than_ten_players_can_play() {
        let (mut agent, mut envs) = matrl("11", config(Reward::Team, true));
        for _ in 0..2 {
            let metrics = agent.iterate(&mut envs).unwrap();
            assert!(metrics.kl > Some(1e-5) && payoffs(&mut agent)[0] >= -1e-6, "{metrics:?}");
        }
    }
}
