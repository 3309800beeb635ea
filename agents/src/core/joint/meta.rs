//! What the meta-game makes of the players' steps: how much of each is taken, and replies to what the others take.

use steadfast_envs::Rng;

use super::Joint;
use crate::core::meta_game::{MOST_PLAYERS, MetaGame, best_responses, payoff};
use crate::core::trust_region::{TrustRegion, natural_step};
use crate::core::weights::read;

/// Halvings of ρ before all keep their policies.
const HALVINGS: usize = 5;
/// Times that each of many players is asked for its best response.
const SWEEPS: usize = 10;

/// The outcome of a meta-game.
pub struct Settled {
    /// The share of its step that each player takes, `[N]`.
    pub rho: Vec<f64>,
    /// The most that a player would gain by leaving the solution of the game alone; unknown of more than
    /// [`MOST_PLAYERS`] players.
    pub exploitability: Option<f64>,
    /// The ratios r̄ of the aggregated policies, `[N, B]`.
    pub ratios: Vec<Vec<f32>>,
}

impl Settled {
    /// The mean of ρ over the players.
    pub fn mean_rho(&self) -> f64 {
        self.rho.iter().sum::<f64>() / self.rho.len() as f64
    }
}

impl Joint {
    /// Parameters of all policies.
    pub fn parameters(&self) -> Vec<Vec<f32>> {
        self.policies.iter().map(|p| p.weights.to_host()).collect()
    }

    /// π_i/π_i,old of every player's batch, `[N, B]`.
    pub fn ratios(&mut self) -> Vec<Vec<f32>> {
        let pairs = self.policies.iter_mut().zip(&self.batches);
        pairs
            .map(|(policy, batch)| {
                let mut ratios = Vec::new();
                policy.ratios(batch.rows.host(), &mut ratios);
                ratios
            })
            .collect()
    }

    /// Sets every policy to θ + ρ (θ̂ − θ).
    fn aggregate(&mut self, old: &[Vec<f32>], stepped: &[Vec<f32>], rho: &[f64]) {
        for (i, policy) in self.policies.iter_mut().enumerate() {
            policy.weights.set(match rho[i] {
                1.0 => stepped[i].clone(),
                rho => old[i].iter().zip(&stepped[i]).map(|(a, b)| a + rho as f32 * (b - a)).collect(),
            });
        }
    }

    /// Solves the meta-game between keeping the parameters `old` and taking the steps to the present ones, under the players'
    /// `advantages` `[N, B]`, and takes the shares of the steps that it says; halves them until each KL is within
    /// `max_kl` and its slack and no player would rather keep its old policy against the others' aggregated ones.
    pub fn settle(
        &mut self,
        old: &[Vec<f32>],
        advantages: &[&[f32]],
        clip: f64,
        (region, max_kl): (&TrustRegion, f64),
        rng: &mut Rng,
    ) -> Settled {
        let players = self.policies.len();
        let stepped = self.parameters();
        let taken = self.ratios();
        let (mut rho, mut exploitability) = (Vec::new(), None);
        if players <= MOST_PLAYERS {
            let game = MetaGame::estimate(&taken, advantages, clip);
            rho = game.solve();
            exploitability = Some(game.exploitability(&rho));
        } else {
            rho.extend(best_responses(&taken, advantages, clip, SWEEPS, rng));
        }
        let mut ratios = Vec::new();
        for halving in 0..=HALVINGS {
            if halving == HALVINGS {
                rho.fill(0.0);
            }
            self.aggregate(old, &stepped, &rho);
            ratios = self.ratios();
            let content = (0..players).all(|i| {
                let batch = &self.batches[i].rows;
                let [kl] = read([self.policies[i].compare(batch, 0.2).kl_old_new]);
                let mut kept = ratios.clone();
                kept[i].fill(1.0);
                kl <= region.kl_slack * max_kl
                    && payoff(&ratios, advantages[i], clip) >= payoff(&kept, advantages[i], clip)
            });
            if content {
                break;
            }
            rho.iter_mut().for_each(|r| *r *= 0.5);
        }
        Settled { rho, exploitability, ratios }
    }

    /// Each player takes its step of TRPO anew, from its `old` parameters, on E[r_i M_i] with M_i = Â_i Π_{j≠i} r̄_j: against
    /// the others' aggregated policies. The replies stand where the sum of payoffs is no lower than with those.
    pub fn reply(
        &mut self,
        old: &[Vec<f32>],
        settled: &Settled,
        advantages: &[&[f32]],
        clip: f64,
        (region, max_kl): (&TrustRegion, f64),
    ) {
        let aggregated = &settled.ratios;
        let middle = self.parameters();
        for i in 0..self.policies.len() {
            let (policy, rows) = (&mut self.policies[i], &mut self.batches[i].rows);
            let others = |row: usize| {
                let others = aggregated.iter().enumerate().filter(|(j, _)| *j != i);
                others.map(|(_, r)| r[row]).product::<f32>()
            };
            let advantage = &mut rows.host_mut().advantage;
            advantage.iter_mut().enumerate().for_each(|(row, a)| *a *= others(row));
            policy.weights.set(old[i].clone());
            natural_step(policy, rows, region, max_kl);
            rows.host_mut().advantage.copy_from_slice(advantages[i]);
        }
        let replied = self.ratios();
        let welfare = |ratios: &[Vec<f32>]| advantages.iter().map(|a| payoff(ratios, a, clip)).sum::<f64>();
        if welfare(&replied) < welfare(aggregated) {
            self.policies.iter_mut().zip(middle).for_each(|(p, theta)| p.weights.set(theta));
        }
    }
}
