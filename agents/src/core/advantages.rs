//! Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438).

/// A rollout's rewards, endings and values, time-major: entry (t, n) lies at `t * N + n`.
pub struct Trajectory<'a> {
    /// Rewards, `[T, N]`.
    pub rewards: &'a [f32],
    /// V(s_t), `[T, N]`.
    pub values: &'a [f32],
    /// V of the state after step t: V(s_{t+1}) within an episode, V(final observation) where one
    /// was cut short, 0 where one terminated, `[T, N]`.
    pub next_values: &'a [f32],
    /// Whether an episode ended with step t, however it ended, `[T, N]`.
    pub ended: &'a [bool],
}

/// Advantages Â `[T, N]` and returns Â + V `[T, N]` (TD(λ)) of `n` copies, into `advantages` and `returns`; `running` is
/// room for one number a copy.
///
/// Eq. 16 backwards in time: Â_t = δ_t + γλ Â_{t+1}, δ_t = r_t + γ V'(s_t) − V(s_t); the sum is cut where an
/// episode ended.
pub fn gae(
    trajectory: &Trajectory,
    n: usize,
    gamma: f64,
    lambda: f64,
    running: &mut Vec<f64>,
    advantages: &mut Vec<f32>,
    returns: &mut Vec<f32>,
) {
    let Trajectory { rewards, values, next_values, ended } = *trajectory;
    advantages.resize(rewards.len(), 0.0);
    returns.resize(rewards.len(), 0.0);
    running.clear();
    running.resize(n, 0.0);
    // Copies side by side: their sums are independent, so that the inner loop vectorises.
    for first in (0..rewards.len()).step_by(n).rev() {
        let step = first..first + n;
        let (rewards, values, next_values) =
            (&rewards[step.clone()], &values[step.clone()], &next_values[step.clone()]);
        let (ended, advantages, returns) =
            (&ended[step.clone()], &mut advantages[step.clone()], &mut returns[step]);
        let running = &mut running[..n];
        for i in 0..n {
            let delta = f64::from(rewards[i]) + gamma * f64::from(next_values[i]) - f64::from(values[i]);
            let goes_on = if ended[i] { 0.0 } else { gamma * lambda };
            running[i] = delta + goes_on * running[i];
            advantages[i] = running[i] as f32;
            returns[i] = (running[i] + f64::from(values[i])) as f32;
        }
    }
}

/// Share of the returns' variance that the values explain: 1 − Var(R − V) / Var(R); `None` for constant returns.
pub fn explained_variance(values: &[f32], returns: &[f32]) -> Option<f64> {
    let total = variance(returns.iter().map(|r| f64::from(*r)));
    let rest = variance(returns.iter().zip(values).map(|(r, v)| f64::from(*r) - f64::from(*v)));
    (total > 0.0).then(|| 1.0 - rest / total)
}

fn variance(x: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let n = x.len() as f64;
    let mean = x.clone().sum::<f64>() / n;
    x.map(|x| (x - mean).powi(2)).sum::<f64>() / n
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Σ_l (γλ)^l δ_{t+l} up to the end of the episode, as written in the paper.
    fn quadratic(t: &Trajectory, n: usize, gamma: f64, lambda: f64, i: usize) -> f64 {
        let (mut sum, mut weight, mut j) = (0.0, 1.0, i);
        loop {
            sum += weight
                * (f64::from(t.rewards[j]) + gamma * f64::from(t.next_values[j]) - f64::from(t.values[j]));
            if t.ended[j] || j + n >= t.rewards.len() {
                return sum;
            }
            weight *= gamma * lambda;
            j += n;
        }
    }

    proptest! {
        #[test]
        fn equals_the_quadratic_time_sum(
            rows in prop::collection::vec((-2.0f32..2.0, -2.0f32..2.0, -2.0f32..2.0, prop::bool::weighted(0.2)), 1..40),
            n in 1usize..4, gamma in 0.0f64..1.0, lambda in 0.0f64..1.0,
        ) {
            let rows = &rows[..rows.len() / n * n];
            let rewards: Vec<f32> = rows.iter().map(|r| r.0).collect();
            let values: Vec<f32> = rows.iter().map(|r| r.1).collect();
            let next_values: Vec<f32> = rows.iter().map(|r| r.2).collect();
            let ended: Vec<bool> = rows.iter().map(|r| r.3).collect();
            let t = Trajectory { rewards: &rewards, values: &values, next_values: &next_values, ended: &ended };
            let (mut running, mut advantages, mut returns) = (vec![7.0; 9], vec![7.0; 99], Vec::new());
            gae(&t, n, gamma, lambda, &mut running, &mut advantages, &mut returns);
            prop_assert_eq!((advantages.len(), returns.len()), (rows.len(), rows.len()));
            for i in 0..rows.len() {
                prop_assert!((f64::from(advantages[i]) - quadratic(&t, n, gamma, lambda, i)).abs() < 1e-4);
                prop_assert!((returns[i] - advantages[i] - values[i]).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn explained_variance_is_one_for_perfect_and_zero_for_constant_values() {
        let returns = [1.0, 2.0, 4.0];
        assert_eq!(explained_variance(&returns, &returns), Some(1.0));
        assert_eq!(explained_variance(&[7.0; 3], &returns), Some(0.0));
        assert_eq!(explained_variance(&returns, &[1.0; 3]), None);
    }
}
