//! Sharing the air: who gets which rate from which power.
//!
//! Powers in W, gains as ratios, bandwidths in Hz, rates in bit/s. UAVs are i < M, users k < K, subchannels n < N; tables
//! are flat, row by row.

/// σ²: thermal noise over a bandwidth, of a density in dBm/Hz and a receiver's noise figure in dB; in W.
pub fn noise(bandwidth: f64, density: f64, figure: f64) -> f64 {
    watt(density + figure) * bandwidth
}

/// dBm in W.
pub fn watt(dbm: f64) -> f64 {
    10f64.powf(dbm / 10.0) * 1e-3
}

/// W in dBm.
pub fn dbm(watt: f64) -> f64 {
    10.0 * (watt * 1e3).log10()
}

/// Spectral efficiency at a signal-to-interference-and-noise ratio, at most `cap`; in bit/s/Hz.
pub fn efficiency(sinr: f64, cap: f64) -> f64 {
    (1.0 + sinr).log2().min(cap)
}

/// No user on this subchannel.
pub const IDLE: usize = usize::MAX;

/// Adds to `rates`, `[K]`, what OFDMA gives: every UAV that sends on a subchannel disturbs all others that do.
///
/// `gains`: `[M, K]`. `users`: `[M, N]`, the user of each subchannel or [`IDLE`]. `powers`: `[M, N]`. `jamming`: `[K]`, power
/// that arrives from elsewhere on each subchannel. `cap`: in bit/s/Hz.
pub fn ofdma(
    gains: &[f64],
    users: &[usize],
    powers: &[f64],
    jamming: &[f64],
    noise: f64,
    bandwidth: f64,
    cap: f64,
    rates: &mut [f64],
) {
    let k = rates.len();
    let n = users.len() * k / gains.len().max(1);
    for (slot, (user, power)) in users.iter().zip(powers).enumerate() {
        if *user == IDLE || *power == 0.0 {
            continue;
        }
        let (i, channel) = (slot / n, slot % n);
        let signal = power * gains[i * k + user];
        let sinr = signal / (interference(gains, powers, n, i, channel, *user, k) + jamming[*user] + noise);
        rates[*user] += bandwidth * efficiency(sinr, cap);
    }
}

/// Power that reaches `user` on `channel` from all UAVs but `i`; tables as for [`ofdma`].
pub fn interference(
    gains: &[f64],
    powers: &[f64],
    n: usize,
    i: usize,
    channel: usize,
    user: usize,
    k: usize,
) -> f64 {
    let mut sum = 0.0;
    for (j, row) in powers.chunks_exact(n).enumerate() {
        if j != i {
            sum += row[channel] * gains[j * k + user];
        }
    }
    sum
}

/// Adds to `rates`, `[K]`, what TDMA gives: UAV i serves user k for the fraction `shares[i K + k]` of the time over the whole
/// `bandwidth`, and all others disturb it all the time.
///
/// `gains`, `shares`: `[M, K]`; `powers`: `[M]`.
pub fn tdma(
    gains: &[f64],
    shares: &[f64],
    powers: &[f64],
    noise: f64,
    bandwidth: f64,
    cap: f64,
    rates: &mut [f64],
) {
    let k = rates.len();
    for (slot, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        let (i, user) = (slot / k, slot % k);
        let disturbance = interference(gains, powers, 1, i, 0, user, k);
        rates[user] += share * bandwidth * efficiency(powers[i] * gains[slot] / (disturbance + noise), cap);
    }
}

/// Spectral efficiencies (weak, strong) of two users who share a subchannel in NOMA, in bit/s/Hz.
///
/// The weak user, with the smaller gain/(interference + noise), gets the fraction `alpha` > ½ of `power` and takes the other
/// signal for noise; the strong one decodes and removes the weak one's.
pub fn noma(power: f64, alpha: f64, gains: (f64, f64), interferences: (f64, f64), noise: f64) -> (f64, f64) {
    let ((weak, strong), (at_weak, at_strong)) = (gains, interferences);
    let own = (1.0 - alpha) * power;
    (
        efficiency(alpha * power * weak / (own * weak + at_weak + noise), f64::INFINITY),
        efficiency(own * strong / (at_strong + noise), f64::INFINITY),
    )
}

/// Writes the powers that maximise Σ log(1 + gₙ pₙ) subject to Σ pₙ = `total`, and returns the water level: pₙ is how far
/// 1/gₙ is below it.
///
/// `gains`: gain over noise of each subchannel. Where none is above 0, all powers are 0.
pub fn water_fill(gains: &[f64], total: f64, powers: &mut [f64]) -> f64 {
    // The level falls with every subchannel that is left out, so the worst of those below water go one by one.
    powers.iter_mut().zip(gains).for_each(|(p, g)| *p = if *g > 0.0 { 1.0 } else { 0.0 });
    loop {
        let used = || powers.iter().zip(gains).filter(|(p, _)| **p > 0.0).map(|(_, g)| 1.0 / g);
        let (count, floor) = used().fold((0.0, 0.0), |(n, sum), x| (n + 1.0, sum + x));
        if count == 0.0 {
            return 0.0;
        }
        let level = (total + floor) / count;
        let highest = used().fold(0.0, f64::max);
        if highest <= level {
            powers.iter_mut().zip(gains).filter(|(p, _)| **p > 0.0).for_each(|(p, g)| *p = level - 1.0 / g);
            return level;
        }
        powers
            .iter_mut()
            .zip(gains)
            .filter(|(p, g)| **p > 0.0 && 1.0 / **g == highest)
            .for_each(|(p, _)| *p = 0.0);
    }
}

/// Jain's index of fairness, (Σ x)²/(K Σ x²): from 1/K (one has all) to 1 (all the same; also when all are 0).
pub fn jain(x: &[f64]) -> f64 {
    let (sum, squares) = x.iter().fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
    if squares > 0.0 { sum * sum / (x.len() as f64 * squares) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const B: f64 = 180e3;

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    fn ofdma_rates(gains: &[f64], users: &[usize], powers: &[f64], k: usize, noise: f64) -> Vec<f64> {
        let mut rates = vec![0.0; k];
        ofdma(gains, users, powers, &vec![0.0; k], noise, B, f64::INFINITY, &mut rates);
        rates
    }

    #[test]
    fn noise_of_a_resource_block() {
        close(dbm(noise(B, -174.0, 0.0)), -121.447, 1e-3);
        close(dbm(noise(B, -174.0, 7.0)), -114.447, 1e-3);
        close(watt(30.0), 1.0, 1e-12);
        // Half the bandwidth has half the noise.
        close(10.0 * (noise(B, -174.0, 7.0) / noise(B / 2.0, -174.0, 7.0)).log10(), 3.0103, 1e-4);
    }

    #[test]
    fn two_like_signals_are_at_0_db_and_silence_is_snr() {
        let snr = |noise: f64| 1e-9 / noise;
        for noise in [1e-12, 1e-15, 1e-18] {
            let both = ofdma_rates(&[1e-9, 1e-9], &[0, IDLE], &[1.0, 1.0], 1, noise)[0] / B;
            close(both, (1.0 + 1e-9 / (1e-9 + noise)).log2(), 1e-12);
            let alone = ofdma_rates(&[1e-9, 1e-9], &[0, IDLE], &[1.0, 0.0], 1, noise)[0] / B;
            close(alone, (1.0 + snr(noise)).log2(), 1e-9);
        }
        close(ofdma_rates(&[1e-9, 1e-9], &[0, IDLE], &[1.0, 1.0], 1, 1e-30)[0] / B, 1.0, 1e-12);
    }

    #[test]
    fn noma_gives_its_vector() {
        let (weak, strong) = noma(1.0, 0.8, (1e-9, 1e-8), (0.0, 0.0), 1e-13);
        close(weak, 2.321351, 1e-6);
        close(strong, 14.287785, 1e-6);
        let orthogonal = |g: f64| 0.5 * efficiency(g / 1e-13, f64::INFINITY);
        close(orthogonal(1e-8), 8.3048, 1e-4);
        close(orthogonal(1e-9), 6.6439, 1e-4);
    }

    #[test]
    fn water_filling_gives_its_vector() {
        let mut powers = [0.0; 4];
        close(water_fill(&[4.0, 2.0, 1.0, 0.5], 1.0, &mut powers), 0.875, 1e-12);
        for (p, expected) in powers.iter().zip([0.625, 0.375, 0.0, 0.0]) {
            close(*p, expected, 1e-12);
        }
        assert_eq!(
            (water_fill(&[0.0, 0.0], 1.0, &mut powers[..2]), &powers[..2]),
            (0.0, [0.0, 0.0].as_slice())
        );
    }

    #[test]
    fn tdma_of_one_is_ofdma() {
        let mut rates = [0.0; 2];
        tdma(&[1e-9, 2e-9, 3e-9, 4e-9], &[0.25, 0.0, 0.0, 0.5], &[1.0, 2.0], 1e-12, B, 9.0, &mut rates);
        close(rates[0], 0.25 * B * (1.0 + 1e-9 / (6e-9 + 1e-12f64)).log2(), 1e-6);
        close(rates[1], 0.5 * B * (1.0 + 8e-9 / (2e-9 + 1e-12f64)).log2(), 1e-6);
    }

    #[test]
    fn fairness_has_its_extremes() {
        assert_eq!(jain(&[0.0, 0.0, 0.0]), 1.0);
        close(jain(&[5.0, 0.0, 0.0, 0.0]), 0.25, 1e-15);
        close(jain(&[2.0; 7]), 1.0, 1e-15);
    }

    /// A cell of M = 3 UAVs, K = 4 users and N = 2 subchannels.
    fn cell() -> impl Strategy<Value = (Vec<f64>, Vec<usize>, Vec<f64>)> {
        let gain = (-13.0..-7.0f64).prop_map(|x| 10f64.powf(x));
        (
            proptest::collection::vec(gain, 12),
            proptest::collection::vec(prop_oneof![0usize..4, Just(IDLE)], 6),
            proptest::collection::vec(0.0..1.0f64, 6),
        )
    }

    proptest! {
        #[test]
        fn an_interferer_never_helps((gains, users, powers) in cell(), extra in 0.0..5.0f64, j in 0usize..6) {
            let before = ofdma_rates(&gains, &users, &powers, 4, 1e-12);
            let mut louder = powers.clone();
            louder[j] += extra;
            let after = ofdma_rates(&gains, &users, &louder, 4, 1e-12);
            for k in (0..4).filter(|k| users[j] != *k) {
                prop_assert!(after[k] <= before[k]);
            }
            // Without the others each does at least as well.
            for i in 0..3 {
                let mut alone = powers.clone();
                alone.iter_mut().enumerate().filter(|(s, _)| s / 2 != i).for_each(|(_, p)| *p = 0.0);
                let mut own = users.clone();
                own.iter_mut().enumerate().filter(|(s, _)| s / 2 != i).for_each(|(_, u)| *u = IDLE);
                let loud = ofdma_rates(&gains, &own, &powers, 4, 1e-12);
                let quiet = ofdma_rates(&gains, &own, &alone, 4, 1e-12);
                for k in 0..4 {
                    prop_assert!(quiet[k] >= loud[k]);
                }
            }
        }

        #[test]
        fn names_do_not_matter((gains, users, powers) in cell()) {
            // UAVs in another order, users in another order.
            let (uav, user) = ([2, 0, 1], [3, 1, 0, 2]);
            let renamed: Vec<f64> = (0..12).map(|s| gains[uav[s / 4] * 4 + user[s % 4]]).collect();
            let name = |k: usize| user.iter().position(|u| *u == k).unwrap_or(IDLE);
            let new_users: Vec<usize> = (0..6).map(|s| name(users[uav[s / 2] * 2 + s % 2])).collect();
            let new_powers: Vec<f64> = (0..6).map(|s| powers[uav[s / 2] * 2 + s % 2]).collect();
            let before = ofdma_rates(&gains, &users, &powers, 4, 1e-12);
            let after = ofdma_rates(&renamed, &new_users, &new_powers, 4, 1e-12);
            for k in 0..4 {
                prop_assert!((after[k] - before[user[k]]).abs() <= 1e-9 * before[user[k]].max(1.0));
            }
        }

        #[test]
        fn water_filling_uses_all_and_beats_any_shift(
            gains in proptest::collection::vec(0.01..10.0f64, 1..6), total in 0.01..5.0f64,
            from in 0usize..6, to in 0usize..6, moved in 0.0..1.0f64,
        ) {
            let mut powers = vec![0.0; gains.len()];
            water_fill(&gains, total, &mut powers);
            prop_assert!((powers.iter().sum::<f64>() - total).abs() < 1e-9 && powers.iter().all(|p| *p >= 0.0));
            let value = |p: &[f64]| p.iter().zip(&gains).map(|(p, g)| (1.0 + p * g).ln()).sum::<f64>();
            let mut other = powers.clone();
            let (from, to) = (from % gains.len(), to % gains.len());
            let moved = moved * other[from];
            other[from] -= moved;
            other[to] += moved;
            prop_assert!(value(&other) <= value(&powers) + 1e-12);
        }

        #[test]
        fn fairness_is_bounded(rates in proptest::collection::vec(0.0..1e7f64, 1..20)) {
            let j = jain(&rates);
            prop_assert!(j >= 1.0 / rates.len() as f64 - 1e-12 && j <= 1.0 + 1e-12);
        }
    }
}
