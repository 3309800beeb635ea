//! The game behind an update: each player keeps its policy or takes its step, and is paid what the batch says of it.
//!
//! A combination of choices is a bit mask s: bit i is set where player i takes its step. A mixed strategy ρ holds the
//! probability with which each player steps; in parameter space it becomes the share of the step that is taken.

use rand::seq::SliceRandom;
use steadfast_envs::Rng;

/// Rounds of fictitious play.
const ROUNDS: usize = 1000;

/// Most players whose 2^N combinations are tried one by one.
pub const MOST_PLAYERS: usize = 10;

/// Payoffs U_i(s) of N players, each with two choices.
#[derive(Clone, Debug)]
pub struct MetaGame {
    /// `[N, 2^N]`, player by player.
    payoffs: Vec<Vec<f64>>,
}

impl MetaGame {
    /// The game of `players` with U_i(s) = `payoff`(i, s).
    pub fn new(players: usize, payoff: impl Fn(usize, usize) -> f64) -> Self {
        let of = |i| (0..1 << players).map(|s| payoff(i, s)).collect();
        Self { payoffs: (0..players).map(of).collect() }
    }

    /// The game that a batch estimates by importance ratios: U_i(s) = E[(clip(Π_{j: s_j = 1} r_j, 1/c, c) − 1) Â_i], which
    /// is 0 where all keep. `ratios` `[N, B]` are the steps' r_j, `advantages` `[N, B]` the players'.
    pub fn estimate(ratios: &[Vec<f32>], advantages: &[&[f32]], clip: f64) -> Self {
        let rows = ratios.first().map_or(0, Vec::len);
        let mut payoffs = vec![Vec::with_capacity(1 << ratios.len()); ratios.len()];
        for s in 0..1usize << ratios.len() {
            let mut sums = vec![0.0; ratios.len()];
            for row in 0..rows {
                let moved = (0..ratios.len()).filter(|j| s >> j & 1 == 1);
                let gain = gain(moved.map(|j| ratios[j][row]), clip);
                sums.iter_mut().zip(advantages).for_each(|(sum, a)| *sum += gain * f64::from(a[row]));
            }
            payoffs.iter_mut().zip(sums).for_each(|(u, sum)| u.push(sum / rows as f64));
        }
        Self { payoffs }
    }

    fn players(&self) -> usize {
        self.payoffs.len()
    }

    /// Whether no player gains by changing its choice alone.
    fn is_equilibrium(&self, s: usize) -> bool {
        self.payoffs.iter().enumerate().all(|(i, u)| u[s] >= u[s ^ 1 << i])
    }

    /// An equilibrium ρ `[N]`. Of several pure ones that with the largest sum of payoffs, of equals that with the fewest
    /// movers. Where there is none: the mixed one of two players, in closed form; of more players what fictitious play
    /// ends with, which need not be one.
    pub fn solve(&self) -> Vec<f64> {
        let n = self.players();
        let welfare = |s: usize| self.payoffs.iter().map(|u| u[s]).sum::<f64>();
        let better = |s: usize, best: usize| {
            let order = welfare(s).total_cmp(&welfare(best));
            order.is_gt() || order.is_eq() && s.count_ones() < best.count_ones()
        };
        let pure = (0..1usize << n).filter(|s| self.is_equilibrium(*s));
        if let Some(s) = pure.reduce(|best, s| if better(s, best) { s } else { best }) {
            return (0..n).map(|i| (s >> i & 1) as f64).collect();
        }
        if n == 2 {
            // Each steps as often as leaves the other indifferent: its gains g(0) and g(1) have opposite signs.
            let share = |u: &[f64], own: usize, other: usize| {
                let (at_rest, at_step) = (u[own] - u[0], u[own | other] - u[other]);
                at_rest / (at_rest - at_step)
            };
            return vec![share(&self.payoffs[1], 2, 1), share(&self.payoffs[0], 1, 2)];
        }
        // Fictitious play (Brown 1951) from ½; who is indifferent stays.
        let mut rho = vec![0.5; n];
        for round in 1..=ROUNDS {
            let replies: Vec<f64> = (0..n)
                .map(|i| match self.gain(i, &rho) {
                    g if g > 0.0 => 1.0,
                    g if g < 0.0 => 0.0,
                    _ => rho[i],
                })
                .collect();
            rho.iter_mut().zip(replies).for_each(|(r, reply)| *r += (reply - *r) / (round + 1) as f64);
        }
        rho
    }

    /// U_i when all mix by `rho`.
    pub fn expected(&self, i: usize, rho: &[f64]) -> f64 {
        let probability = |s: usize| {
            rho.iter().enumerate().map(|(j, r)| if s >> j & 1 == 1 { *r } else { 1.0 - r }).product::<f64>()
        };
        self.payoffs[i].iter().enumerate().map(|(s, u)| probability(s) * u).sum()
    }

    /// What player i gains by stepping instead of keeping, while the others mix by `rho`.
    fn gain(&self, i: usize, rho: &[f64]) -> f64 {
        let mut rho = rho.to_vec();
        let mut at = |own| {
            rho[i] = own;
            self.expected(i, &rho)
        };
        at(1.0) - at(0.0)
    }

    /// The most that a player gains by leaving `rho` alone; 0 in an equilibrium.
    pub fn exploitability(&self, rho: &[f64]) -> f64 {
        let regret = |i: usize| {
            let gain = self.gain(i, rho);
            (gain * (1.0 - rho[i])).max(-gain * rho[i])
        };
        (0..self.players()).map(regret).fold(0.0, f64::max)
    }
}

/// clip(Π `ratios`, 1/c, c) − 1
fn gain(ratios: impl Iterator<Item = f32>, clip: f64) -> f64 {
    ratios.map(f64::from).product::<f64>().clamp(1.0 / clip, clip) - 1.0
}

/// E[(clip(Π_j r_j, 1/c, c) − 1) Â] of `ratios` `[N, B]` of all players together and one player's `advantage` `[B]`.
pub fn payoff(ratios: &[Vec<f32>], advantage: &[f32], clip: f64) -> f64 {
    let row = |(row, a): (usize, &f32)| gain(ratios.iter().map(|r| r[row]), clip) * f64::from(*a);
    advantage.iter().enumerate().map(row).sum::<f64>() / advantage.len() as f64
}

/// For more than [`MOST_PLAYERS`]: in random orders each player steps or keeps, whichever pays while the others stay as
/// they are, until none changes or each has been asked `sweeps` times. Returns ρ `[N]` of zeros and ones.
pub fn best_responses(
    ratios: &[Vec<f32>],
    advantages: &[&[f32]],
    clip: f64,
    sweeps: usize,
    rng: &mut Rng,
) -> Vec<f64> {
    let n = ratios.len();
    let mut steps = vec![false; n];
    let mut order: Vec<usize> = (0..n).collect();
    for _ in 0..sweeps {
        order.shuffle(rng);
        let mut changed = false;
        for &i in &order {
            let before = steps[i];
            let mut paid = |own: bool| {
                steps[i] = own;
                let rows = advantages[i].iter().enumerate().map(|(row, a)| {
                    gain((0..n).filter(|j| steps[*j]).map(|j| ratios[j][row]), clip) * f64::from(*a)
                });
                rows.sum::<f64>()
            };
            let now = paid(true) > paid(false);
            steps[i] = now;
            changed |= now != before;
        }
        if !changed {
            break;
        }
    }
    steps.into_iter().map(|s| f64::from(u8::from(s))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use steadfast_envs::{Purpose, rng::stream};

    /// A game of two players from payoffs in the order keep-keep, step-keep, keep-step, step-step.
    fn two(first: [f64; 4], second: [f64; 4]) -> MetaGame {
        MetaGame::new(2, |i, s| [first, second][i][s])
    }

    /// Numbers in ±1 without a pattern.
    fn number(i: usize) -> f64 {
        ((i as f64 * 12.9898).sin() * 43_758.545_3).fract()
    }

    #[test]
    fn a_dominant_corner_is_taken_though_both_lose_by_it() {
        // The prisoners' dilemma: to step is to defect.
        let game = two([0.0, 2.0, -3.0, -1.0], [0.0, -3.0, 2.0, -1.0]);
        assert_eq!(game.solve(), [1.0, 1.0]);
        assert_eq!(game.exploitability(&[1.0, 1.0]), 0.0);
        assert_eq!(game.exploitability(&[0.0, 0.0]), 2.0);
    }

    #[test]
    fn matching_pennies_are_played_by_halves() {
        let game = two([1.0, -1.0, -1.0, 1.0], [-1.0, 1.0, 1.0, -1.0]);
        assert_eq!(game.solve(), [0.5, 0.5]);
        // Uneven pennies: the other player's payoffs decide.
        let game = two([3.0, -1.0, -1.0, 1.0], [-1.0, 1.0, 1.0, -2.0]);
        let rho = game.solve();
        assert!((rho[0] - 0.4).abs() < 1e-12 && (rho[1] - 2.0 / 3.0).abs() < 1e-12, "{rho:?}");
        assert!(game.exploitability(&rho) < 1e-12);
    }

    /// Three players, each of whom wants to differ from the next: no pure equilibrium.
    #[test]
    fn fictitious_play_comes_near_a_mixed_equilibrium_of_three() {
        let bit = |s: usize, i: usize| s >> (i % 3) & 1;
        let game = MetaGame::new(3, |i, s| {
            let same = bit(s, i) == bit(s, i + 1);
            (if same { -1.0 } else { 1.0 }) + if bit(s, i) == 1 { 0.3 } else { 0.0 }
        });
        assert!((0..8).all(|s| !game.is_equilibrium(s)));
        let rho = game.solve();
        // Indifference: 2 (2ρ − 1) = 0.3.
        assert!(rho.iter().all(|r| (r - 0.575).abs() < 0.05), "{rho:?}");
        assert!(game.exploitability(&rho) < 0.1, "{}", game.exploitability(&rho));
    }

    #[test]
    fn equals_go_to_the_larger_sum_and_then_to_fewer_movers() {
        // Two equilibria, both move or none; the sums decide.
        assert_eq!(two([0.0, -1.0, -1.0, 2.0], [0.0, -1.0, -1.0, 1.0]).solve(), [1.0, 1.0]);
        assert_eq!(two([0.0, -1.0, -1.0, -0.5], [0.0, -1.0, -1.0, 0.2]).solve(), [0.0, 0.0]);
        assert_eq!(two([0.0; 4], [0.0; 4]).solve(), [0.0, 0.0]);
    }

    /// A common payoff has its best corner for an equilibrium, and nobody moving pays 0.
    #[test]
    fn identical_payoffs_never_lower_the_estimated_team_payoff() {
        for trial in 0..200 {
            let n = 1 + trial % 5;
            let ratios: Vec<Vec<f32>> = (0..n)
                .map(|i| (0..30).map(|t| number(trial * 1000 + i * 30 + t).exp() as f32).collect())
                .collect();
            let advantage: Vec<f32> = (0..30).map(|t| number(trial * 77 + t + 9) as f32).collect();
            let game = MetaGame::estimate(&ratios, &vec![advantage.as_slice(); n], 3.0);
            let rho = game.solve();
            let team = game.expected(0, &rho);
            let best = game.payoffs[0].iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert!(team >= 0.0 && team == best, "{team} of {best}");
            let greedy = best_responses(
                &ratios,
                &vec![advantage.as_slice(); n],
                3.0,
                20,
                &mut stream(0, Purpose::Check, trial as u64),
            );
            assert!(game.expected(0, &greedy) >= 0.0 && game.exploitability(&greedy) < 1e-12);
        }
    }

    #[test]
    fn payoffs_are_means_of_products_of_ratios() {
        let ratios = vec![vec![1.5f32, 0.5, 1.0], vec![4.0, 1.0, 0.5]];
        let (a, b) = ([1.0f32, -1.0, 0.5], [0.5f32, 2.0, -1.0]);
        let game = MetaGame::estimate(&ratios, &[&a, &b], 3.0);
        let mean = |gains: [f64; 3], a: [f32; 3]| {
            gains.iter().zip(a).map(|(g, a)| g * f64::from(a)).sum::<f64>() / 3.0
        };
        // 4 and 6 are clipped to 3.
        let gains = [[0.0; 3], [0.5, -0.5, 0.0], [2.0, 0.0, -0.5], [2.0, -0.5, -0.5]];
        for s in 0..4 {
            assert!((game.payoffs[0][s] - mean(gains[s], a)).abs() < 1e-12);
            assert!((game.payoffs[1][s] - mean(gains[s], b)).abs() < 1e-12);
        }
        assert_eq!(payoff(&ratios, &a, 3.0), game.payoffs[0][3]);
        assert!(
            (game.expected(0, &[0.5, 1.0]) - 0.5 * (game.payoffs[0][2] + game.payoffs[0][3])).abs() < 1e-12
        );
    }

    /// f = xy for one player and −xy for the other: independent steps spiral outward. So does the game of keeping and
    /// stepping where both steps are dominant, that is nearly everywhere; a reply to the opponent's aggregated step
    /// contracts (it is the extragradient method).
    #[test]
    fn replies_to_the_aggregated_opponent_contract_a_cyclic_game() {
        const H: f64 = 0.1;
        let payoffs = |x: f64, y: f64, (dx, dy): (f64, f64)| {
            MetaGame::new(2, |i, s| {
                let moved = |d: f64, bit: usize| if s >> bit & 1 == 1 { d } else { 0.0 };
                let f = (x + moved(dx, 0)) * (y + moved(dy, 1)) - x * y;
                if i == 0 { f } else { -f }
            })
        };
        let run = |replies: bool, game: bool| {
            let (mut x, mut y) = (1.0f64, 0.5f64);
            for _ in 0..300 {
                let (dx, dy) = (H * y, -H * x);
                let rho = if game { payoffs(x, y, (dx, dy)).solve() } else { vec![1.0, 1.0] };
                let (mx, my) = (x + rho[0] * dx, y + rho[1] * dy);
                (x, y) = if replies { (x + H * my, y - H * mx) } else { (mx, my) };
            }
            x.hypot(y) / 1.0f64.hypot(0.5)
        };
        assert!(run(false, false) > 4.0, "independent steps leave: {}", run(false, false));
        assert!(run(false, true) > 1.0, "the game alone does not contract: {}", run(false, true));
        assert!(run(true, true) < 0.5, "replies contract: {}", run(true, true));
    }
}
