//! Who is served when, in hindsight.

/// Who is served when: shares of the slots flown so far that maximise the least total efficiency.
///
/// ```text
/// max over w of min_k Σ_t Σ_i w_ik(t) r_ik(t),   w ≥ 0,   Σ_k w_ik(t) ≤ 1
/// ```
///
/// By its dual: with prices λ of the users, a slot goes to the user of greatest λ_k r_ik(t); after the last slot, prices
/// fall for who gets much and rise for who gets little, until all get the same. The maximum is softened, ever less
/// towards the end, so that prices settle and the shares of a slot are feasible at every moment: [`Self::total`] is
/// what they really give. (Unlike the source's, two UAVs may serve a user at once.)
///
/// Until then a slot goes to the user of greatest efficiency among those who have not reached a level yet (see [`filled`]). Prices
/// that even out the totals of the slots so far would make it pay best to stay in the middle of all users, or to hurry from one to
/// the next; who serves one after the other until each has enough flies one round with long stops.
#[derive(Clone)]
pub struct Schedule {
    uavs: usize,
    /// c: total efficiency that is enough for a user until the last slot.
    pub level: f64,
    /// Efficiencies of the slots so far, `[T, M, K]`.
    pub history: Vec<f64>,
    /// Prices of the users, of mean 1.
    pub prices: Vec<f64>,
    /// What each user gets.
    pub total: Vec<f64>,
    /// Of all rounds after the last slot, the totals of the greatest least.
    best: Vec<f64>,
    shares: Vec<f64>,
}

/// The smallest of some numbers.
pub fn least(x: &[f64]) -> f64 {
    x.iter().copied().fold(f64::INFINITY, f64::min)
}

/// How far a level c is reached, mean_k min(x_k, c): between the least and the mean of numbers below it.
pub fn filled(x: &[f64], level: f64) -> f64 {
    x.iter().map(|x| x.min(level)).sum::<f64>() / x.len() as f64
}

/// Price of a user who has reached the level beside one who has not.
const SATED: f64 = 1e-3;
/// Softness of the choice of a user while flying, and in the end, in bit/s/Hz.
const SOFTNESS: (f64, f64) = (0.3, 0.01);
/// Rounds of prices after the last slot.
const ROUNDS: usize = 400;

impl Schedule {
    pub fn new(uavs: usize, users: usize, steps: usize) -> Self {
        Self {
            uavs,
            level: f64::INFINITY,
            history: Vec::with_capacity(steps * uavs * users),
            prices: vec![1.0; users],
            total: vec![0.0; users],
            best: vec![0.0; users],
            shares: vec![0.0; users],
        }
    }

    pub fn restart(&mut self) {
        self.history.clear();
        self.prices.fill(1.0);
        self.total.fill(0.0);
    }

    /// Adds what the slots from number `from` on, of all UAVs, give at the present prices.
    fn add(&mut self, from: usize, softness: f64) {
        let k = self.prices.len();
        for rates in self.history[from * self.uavs * k..].chunks_exact(k) {
            let bids = || rates.iter().zip(&self.prices).map(|(r, price)| r * price);
            let highest = bids().fold(0.0, f64::max);
            let mut sum = 0.0;
            for (share, bid) in self.shares.iter_mut().zip(bids()) {
                let behind = (highest - bid) / softness;
                *share = if behind < 30.0 { (-behind).exp() } else { 0.0 };
                sum += *share;
            }
            for ((total, share), rate) in self.total.iter_mut().zip(&self.shares).zip(rates) {
                *total += share / sum * rate;
            }
        }
    }

    /// Moves the prices against the totals of the last sharing: the further, the less sharply shares answer to
    /// prices.
    fn reprice(&mut self, softness: f64) {
        let k = self.prices.len() as f64;
        let mean = self.total.iter().sum::<f64>() / k + 1e-9;
        let slots = self.history.len() as f64 / (k * self.uavs as f64);
        // A user's share of a slot answers to its price with about bid/softness.
        let bid = (k * mean / (slots * self.uavs as f64)).max(softness);
        for (price, total) in self.prices.iter_mut().zip(&self.total) {
            *price *= (mean / (total + 1e-3 * mean)).powf(1.5 * softness / bid);
        }
        self.balance();
    }

    /// Scales prices to mean 1.
    fn balance(&mut self) {
        let scale = self.prices.len() as f64 / self.prices.iter().sum::<f64>();
        self.prices.iter_mut().for_each(|price| *price *= scale);
    }

    /// Prices while flying: who has reached the level comes last.
    fn weigh(&mut self) {
        for (price, total) in self.prices.iter_mut().zip(&self.total) {
            *price = if *total < self.level { 1.0 } else { SATED };
        }
        self.balance();
    }

    /// Adds a slot at the present prices; after the `last` one all slots are shared out anew until the prices settle.
    pub fn push(&mut self, rates: impl Iterator<Item = f64>, last: bool) {
        let (first, end) = SOFTNESS;
        let slot = self.history.len() / (self.uavs * self.prices.len());
        self.history.extend(rates);
        self.add(slot, first);
        if !last {
            self.weigh();
            return;
        }
        self.prices.fill(1.0);
        for round in 0..ROUNDS {
            let softness = first * (end / first).powf(round as f64 / (ROUNDS - 1) as f64);
            self.total.fill(0.0);
            self.add(0, softness);
            if round == 0 || least(&self.total) > least(&self.best) {
                self.best.copy_from_slice(&self.total);
            }
            self.reprice(softness);
        }
        self.total.copy_from_slice(&self.best);
    }

    /// The user of greatest price times efficiency under UAV `i` in the last slot.
    pub fn user(&self, i: usize) -> Option<usize> {
        let k = self.prices.len();
        let start = self.history.len().checked_sub(self.uavs * k)? + i * k;
        let bid = |user: usize| self.history[start + user] * self.prices[user];
        (0..k).max_by(|a, b| bid(*a).total_cmp(&bid(*b)))
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;

    use super::*;
    use crate::rng::{Purpose, stream};

    /// Until it is reached, prices are the slopes of what the level counts; the best served is passed over once it has enough.
    #[test]
    fn while_flying_who_has_enough_comes_last() {
        let mut schedule = Schedule::new(1, 4, 10);
        schedule.level = 50.0;
        schedule.total.copy_from_slice(&[0.0, 20.0, 90.0, 35.0]);
        schedule.weigh();
        let highest = schedule.prices.iter().copied().fold(0.0, f64::max);
        for user in 0..4 {
            let at = |shift: f64| {
                let mut total = schedule.total.clone();
                total[user] += shift;
                filled(&total, 50.0)
            };
            let slope = 4.0 * (at(1e-4) - at(-1e-4)) / 2e-4;
            assert!((schedule.prices[user] / highest - slope).abs() < 2e-3, "{user}: {:?}", schedule.prices);
        }
        schedule.push([1.0, 2.0, 9.0, 8.0].into_iter(), false);
        assert!(schedule.total[2] == 90.0 && schedule.total[3] > 42.9, "{:?}", schedule.total);
        let sum = 20.0 + 50.0 + schedule.total[0] + schedule.total[3];
        assert!((filled(&schedule.total, 50.0) - sum / 4.0).abs() < 1e-9 && filled(&[0.0; 3], 7.0) == 0.0);
    }

    /// The optimum of the linear programme lies between what the shares give and what the prices would.
    #[test]
    fn slots_are_shared_out_almost_as_well_as_can_be() {
        let mut rng = stream(1, Purpose::Check, 0);
        for (m, k) in [(1, 6), (1, 2), (2, 6), (2, 9)] {
            for _ in 0..5 {
                let mut schedule = Schedule::new(m, k, 200);
                for t in 0..200 {
                    let rates: Vec<f64> = (0..m * k).map(|_| 10.0 * rng.random::<f64>().powi(2)).collect();
                    schedule.push(rates.into_iter(), t == 199);
                }
                let prices: f64 = schedule.prices.iter().sum();
                let slots = schedule.history.chunks_exact(k);
                let bid = |rates: &[f64]| {
                    rates.iter().zip(&schedule.prices).map(|(r, p)| r * p).fold(0.0, f64::max)
                };
                let dual = slots.map(bid).sum::<f64>() / prices;
                let least = least(&schedule.total);
                println!("{m} {k}: {:.4}", least / dual);
                assert!(least <= dual + 1e-9 && least > 0.98 * dual, "{m} {k}: {least} and {dual}");
            }
        }
    }
}
