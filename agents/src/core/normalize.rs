//! Running normalisation of observations and rewards, as in Baselines' `VecNormalize`.

use steadfast_envs::{State, StateError};

/// Normalised values are clipped to this magnitude.
const CLIP: f64 = 10.0;
const EPSILON: f64 = 1e-8;

/// Running mean and variance of vectors (Chan, Golub and LeVeque 1979, parallel form).
#[derive(Clone, Debug)]
pub struct RunningMoments {
    mean: Vec<f64>,
    variance: Vec<f64>,
    count: f64,
    /// √(variance + ε), as last updated.
    std: Vec<f64>,
    /// Mean and variance of one batch.
    batch: (Vec<f64>, Vec<f64>),
}

impl RunningMoments {
    /// Moments of `len`-vectors, before any has been seen: mean 0, variance 1, weight 1e-4.
    pub fn new(len: usize) -> Self {
        let zeros = || vec![0.0; len];
        let std = vec![(1.0 + EPSILON).sqrt(); len];
        Self { mean: zeros(), variance: vec![1.0; len], count: 1e-4, std, batch: (zeros(), zeros()) }
    }

    /// Takes in a batch of rows, `[B, len]`.
    pub fn update<T: Copy + Into<f64>>(&mut self, rows: &[T]) {
        let len = self.mean.len();
        let n = (rows.len() / len) as f64;
        let total = self.count + n;
        let (mean, variance) = (&mut self.batch.0[..len], &mut self.batch.1[..len]);
        mean.fill(0.0);
        variance.fill(0.0);
        // Row by row: the columns are independent, so that the inner loops vectorise.
        for row in rows.chunks_exact(len) {
            mean.iter_mut().zip(row).for_each(|(m, x)| *m += (*x).into());
        }
        mean.iter_mut().for_each(|m| *m /= n);
        for row in rows.chunks_exact(len) {
            for d in 0..len {
                let x = row[d].into() - mean[d];
                variance[d] += x * x;
            }
        }
        for d in 0..len {
            let (mean, variance) = (mean[d], variance[d] / n);
            let delta = mean - self.mean[d];
            let sum_of_squares =
                self.variance[d] * self.count + variance * n + delta * delta * self.count * n / total;
            self.mean[d] += delta * n / total;
            self.variance[d] = sum_of_squares / total;
        }
        self.count = total;
        self.deviate();
    }

    fn deviate(&mut self) {
        self.std.iter_mut().zip(&self.variance).for_each(|(s, v)| *s = (v + EPSILON).sqrt());
    }

    fn save(&self, name: &str, state: &mut State) {
        state.put_f64(&format!("{name}.mean"), &self.mean);
        state.put_f64(&format!("{name}.variance"), &self.variance);
        state.put_f64(&format!("{name}.count"), &[self.count]);
    }

    fn load(&mut self, name: &str, state: &State) -> Result<(), StateError> {
        let len = self.mean.len();
        self.mean.copy_from_slice(state.f64(&format!("{name}.mean"), len)?);
        self.variance.copy_from_slice(state.f64(&format!("{name}.variance"), len)?);
        self.count = state.f64(&format!("{name}.count"), 1)?[0];
        self.deviate();
        Ok(())
    }
}

/// Observations to zero mean and unit variance, clipped to ±10; or left as they are.
#[derive(Clone, Debug)]
pub struct ObsNormalizer(Option<RunningMoments>);

impl ObsNormalizer {
    /// For observations of `len` numbers; does nothing unless `enabled`.
    pub fn new(len: usize, enabled: bool) -> Self {
        Self(enabled.then(|| RunningMoments::new(len)))
    }

    /// Takes in raw observations, `[B, len]`.
    pub fn update(&mut self, obs: &[f32]) {
        if let Some(moments) = &mut self.0 {
            moments.update(obs);
        }
    }

    /// Appends normalised `obs`, `[B, len]`, to `out`.
    pub fn extend(&self, obs: &[f32], out: &mut Vec<f32>) {
        match &self.0 {
            None => out.extend_from_slice(obs),
            Some(m) => {
                for row in obs.chunks_exact(m.mean.len()) {
                    let moments = m.mean.iter().zip(&m.std);
                    let scaled = |(x, (mean, std)): (&f32, (&f64, &f64))| {
                        ((f64::from(*x) - mean) / std).clamp(-CLIP, CLIP) as f32
                    };
                    out.extend(row.iter().zip(moments).map(scaled));
                }
            }
        }
    }

    /// Saves the moments.
    pub fn save(&self, state: &mut State) {
        if let Some(moments) = &self.0 {
            moments.save("obs_normalizer", state);
        }
    }

    /// Restores the moments.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, state: &State) -> Result<(), StateError> {
        self.0.as_mut().map_or(Ok(()), |moments| moments.load("obs_normalizer", state))
    }
}

/// Rewards divided by the running standard deviation of the discounted return, clipped to ±10; not centred.
#[derive(Clone, Debug)]
pub struct RewardScaler {
    moments: Option<RunningMoments>,
    /// Discounted sum of each copy's running episode, `[N]`.
    returns: Vec<f64>,
    gamma: f64,
}

impl RewardScaler {
    /// For `n` copies and discount `gamma`; does nothing unless `enabled`.
    pub fn new(n: usize, gamma: f64, enabled: bool) -> Self {
        Self { moments: enabled.then(|| RunningMoments::new(1)), returns: vec![0.0; n], gamma }
    }

    /// Appends scaled rewards `[N]` to `out`; `ended[i]` says that copy i's episode is over.
    pub fn extend(&mut self, rewards: &[f64], ended: impl Iterator<Item = bool>, out: &mut Vec<f32>) {
        let Some(moments) = &mut self.moments else {
            out.extend(rewards.iter().map(|r| *r as f32));
            return;
        };
        for (sum, r) in self.returns.iter_mut().zip(rewards) {
            *sum = *sum * self.gamma + r;
        }
        moments.update(&self.returns);
        let std = moments.std[0];
        out.extend(rewards.iter().map(|r| (r / std).clamp(-CLIP, CLIP) as f32));
        for (sum, ended) in self.returns.iter_mut().zip(ended) {
            if ended {
                *sum = 0.0;
            }
        }
    }

    /// Saves the moments and the running sums.
    pub fn save(&self, state: &mut State) {
        if let Some(moments) = &self.moments {
            moments.save("reward_scaler", state);
            state.put_f64("reward_scaler.returns", &self.returns);
        }
    }

    /// Restores the moments and the running sums.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, state: &State) -> Result<(), StateError> {
        if let Some(moments) = &mut self.moments {
            moments.load("reward_scaler", state)?;
            let n = self.returns.len();
            self.returns.copy_from_slice(state.f64("reward_scaler.returns", n)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_moments_equal_those_of_the_whole_sample() {
        let rows: Vec<f64> = (0..600).map(|i| ((i * i) % 37) as f64 - 5.0 * (i % 2) as f64).collect();
        let mut moments = RunningMoments::new(2);
        moments.count = 0.0;
        moments.variance.fill(0.0);
        for batch in rows.chunks(8) {
            moments.update(batch);
        }
        for d in 0..2 {
            let column: Vec<f64> = rows[d..].iter().step_by(2).copied().collect();
            let mean = column.iter().sum::<f64>() / 300.0;
            let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 300.0;
            assert!((moments.mean[d] - mean).abs() < 1e-10 && (moments.variance[d] - variance).abs() < 1e-9);
        }
    }

    #[test]
    fn rewards_are_scaled_by_the_deviation_of_the_return_and_not_centred() {
        let mut scaler = RewardScaler::new(1, 0.5, true);
        let (mut out, mut oracle, mut sum) = (Vec::new(), RunningMoments::new(1), 0.0);
        for t in 0..50 {
            let (r, ended) = (f64::from(t % 7) + 1.0, t % 10 == 9);
            scaler.extend(&[r], std::iter::once(ended), &mut out);
            sum = sum * 0.5 + r;
            oracle.update(&[sum]);
            let expected = (r / (oracle.variance[0] + 1e-8).sqrt()).clamp(-10.0, 10.0) as f32;
            assert_eq!(out[t as usize], expected);
            if ended {
                sum = 0.0;
            }
        }
    }

    #[test]
    fn disabled_normalisers_change_nothing() {
        let (mut out, obs) = (Vec::new(), [1.0f32, -20.0]);
        let mut normalizer = ObsNormalizer::new(2, false);
        normalizer.update(&obs);
        normalizer.extend(&obs, &mut out);
        assert_eq!(out, obs);
    }
}
