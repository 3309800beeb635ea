//! Who is served when, in hindsight.

/// Who is served when: shares of the slots flown so far that maximise the least total efficiency.
///
/// ```text
/// max over w of min_k Σ_t Σ_i w_ik(t) r_ik(t),   w ≥ 0,   Σ_k w_ik(t) ≤ 1
/// ```
///
/// By its dual: with prices λ of the users, a slot goes to the user of greatest λ_k r_ik(t); after the last slot, the prices of mean 1
/// are sought at which Σ_t Σ_i max_k λ_k r_ik(t) is least, where all users get the same. The maximum is softened,
/// s ln Σ_k exp(λ_k r_ik(t)/s), ever less from stage to stage, so that Newton's method finds them, and the shares of a slot, its slopes,
/// are feasible at every moment: [`Self::total`] is what they really give. (Unlike the source's, two UAVs may serve a user at once.)
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
    /// Of all prices tried after the last slot, the totals of the greatest least.
    best: Vec<f64>,
    shares: Vec<f64>,
    newton: Newton,
}

/// Memory of Newton's method.
#[derive(Clone)]
struct Newton {
    /// Second derivatives, `[K, K]`, and what elimination makes of them.
    hessian: Vec<f64>,
    reduced: Vec<f64>,
    /// Solutions for the slopes and for ones, and the prices before a step, `[K]` each.
    towards: Vec<f64>,
    ones: Vec<f64>,
    before: Vec<f64>,
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
/// Softness of the choice of a user while flying, in bit/s/Hz.
const SOFTNESS: f64 = 0.3;
/// Softness of the stages after the last slot: about half of the one before each.
const STAGES: [f64; 9] = [3.0, 1.5, 0.7, 0.3, 0.15, 0.07, 0.03, 0.015, 0.01];
/// Most prices tried in a stage.
const TRIALS: usize = 12;
/// Totals that differ by less than this part of their mean are equal.
const EQUAL: f64 = 1e-3;

/// Shares `[K]` of a slot with these rates at these prices, up to their sum; the highest bid, and the sum.
fn share(rates: &[f64], prices: &[f64], softness: f64, shares: &mut [f64]) -> (f64, f64) {
    let bids = || rates.iter().zip(prices).map(|(r, price)| r * price);
    let highest = bids().fold(0.0, f64::max);
    let mut sum = 0.0;
    for (share, bid) in shares.iter_mut().zip(bids()) {
        let behind = (highest - bid) / softness;
        *share = if behind < 30.0 { (-behind).exp() } else { 0.0 };
        sum += *share;
    }
    (highest, sum)
}

/// x of A x = b for a positive definite A `[K, K]`, which elimination without pivots destroys; x takes the place of b.
fn solve(a: &mut [f64], b: &mut [f64]) {
    let k = b.len();
    for i in 0..k {
        for row in i + 1..k {
            let factor = a[row * k + i] / a[i * k + i];
            for column in i..k {
                a[row * k + column] -= factor * a[i * k + column];
            }
            b[row] -= factor * b[i];
        }
    }
    for i in (0..k).rev() {
        let rest: f64 = (i + 1..k).map(|column| a[i * k + column] * b[column]).sum();
        b[i] = (b[i] - rest) / a[i * k + i];
    }
}

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
            newton: Newton {
                hessian: vec![0.0; users * users],
                reduced: vec![0.0; users * users],
                towards: vec![0.0; users],
                ones: vec![0.0; users],
                before: vec![0.0; users],
            },
        }
    }

    pub fn restart(&mut self) {
        self.history.clear();
        self.prices.fill(1.0);
        self.total.fill(0.0);
    }

    /// Adds what the slots from number `from` on, of all UAVs, give at the present prices.
    fn add(&mut self, from: usize) {
        let k = self.prices.len();
        for rates in self.history[from * self.uavs * k..].chunks_exact(k) {
            let (_, sum) = share(rates, &self.prices, SOFTNESS, &mut self.shares);
            for ((total, share), rate) in self.total.iter_mut().zip(&self.shares).zip(rates) {
                *total += share / sum * rate;
            }
        }
    }

    /// The softened dual at the present prices; totals and second derivatives are its first and second slopes.
    fn dual(&mut self, softness: f64) -> f64 {
        let k = self.prices.len();
        let hessian = &mut self.newton.hessian;
        hessian.fill(0.0);
        self.total.fill(0.0);
        let mut value = 0.0;
        for rates in self.history.chunks_exact(k) {
            let (highest, sum) = share(rates, &self.prices, softness, &mut self.shares);
            value += highest + softness * sum.ln();
            for i in 0..k {
                if self.shares[i] == 0.0 {
                    continue;
                }
                let gets = self.shares[i] / sum * rates[i];
                self.total[i] += gets;
                hessian[i * k + i] += gets * rates[i] / softness;
                for j in 0..k {
                    hessian[i * k + j] -= gets * self.shares[j] / sum * rates[j] / softness;
                }
            }
        }
        value
    }

    /// Prices at which all users get the same, and what they get.
    fn settle(&mut self) {
        let k = self.prices.len();
        self.prices.fill(1.0);
        self.best.fill(0.0);
        for softness in STAGES {
            let mut value = self.dual(softness);
            let mut trials = 1;
            loop {
                if least(&self.total) >= least(&self.best) {
                    self.best.copy_from_slice(&self.total);
                }
                let mean = self.total.iter().sum::<f64>() / k as f64;
                if trials >= TRIALS || self.total.iter().all(|total| (total - mean).abs() <= EQUAL * mean) {
                    break;
                }
                // Newton's step within Σλ = K: H d = ν 1 − g.
                let Newton { hessian, reduced, towards, ones, before } = &mut self.newton;
                let trace = (0..k).map(|i| hessian[i * k + i]).sum::<f64>();
                (0..k).for_each(|i| hessian[i * k + i] += 1e-6 * trace + 1e-9);
                towards.clone_from(&self.total);
                reduced.clone_from(hessian);
                solve(reduced, towards);
                ones.fill(1.0);
                reduced.clone_from(hessian);
                solve(reduced, ones);
                let nu = towards.iter().sum::<f64>() / ones.iter().sum::<f64>();
                towards.iter_mut().zip(&*ones).for_each(|(d, one)| *d = nu * one - *d);
                let slope: f64 = towards.iter().zip(&self.total).map(|(d, g)| d * g).sum();
                before.clone_from(&self.prices);
                // Prices stay positive.
                let room = towards
                    .iter()
                    .zip(&*before)
                    .map(|(d, price)| if *d < 0.0 { -0.8 * price / d } else { 1.0 });
                let mut length = room.fold(1.0, f64::min);
                loop {
                    let Newton { towards, before, .. } = &self.newton;
                    for ((price, before), d) in self.prices.iter_mut().zip(before).zip(towards) {
                        *price = before + length * d;
                    }
                    let next = self.dual(softness);
                    trials += 1;
                    if next <= value + 1e-4 * length * slope || trials >= TRIALS {
                        value = next;
                        break;
                    }
                    length *= 0.5;
                }
            }
        }
        self.total.copy_from_slice(&self.best);
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
        let slot = self.history.len() / (self.uavs * self.prices.len());
        self.history.extend(rates);
        self.add(slot);
        if !last {
            self.weigh();
            return;
        }
        self.settle();
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
                assert!(least <= dual + 1e-9 && least > 0.999 * dual, "{m} {k}: {least} and {dual}");
            }
        }
    }
}
