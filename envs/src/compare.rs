//! How well simple policies do on a task: what a learned score is to be held against.

use crate::check::random_action;
use crate::rng::{Purpose, stream};
use crate::{Env, MakeError, Rng};

/// Name under which [`scores`] lists the policy that draws uniformly from what is allowed.
pub const RANDOM: &str = "random";

/// Mean return of a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Name of the policy.
    pub policy: &'static str,
    /// Mean over episodes of the mean over agents of the return.
    pub mean: f64,
    /// Standard error of that mean; 0 for a single episode.
    pub error: f64,
    /// Mean over all steps of what [`Env::info`] tells.
    pub info: Vec<(&'static str, f64)>,
}

/// Scores of the random policy and of every comparator of the task, each over `episodes` episodes that begin alike.
pub fn scores(make: &dyn Fn() -> Box<dyn Env>, episodes: usize, seed: u64) -> Vec<Score> {
    let named = make().comparators();
    std::iter::once(RANDOM)
        .chain(named.iter().copied())
        .map(|policy| score(make, policy, episodes, seed))
        .collect()
}

/// Score of the random policy ([`RANDOM`]) or of one comparator of the task over `episodes` episodes; episode i begins
/// as number i of an evaluation with the same seed. A comparator that the task does not have draws at random.
pub fn score(make: &dyn Fn() -> Box<dyn Env>, policy: &'static str, episodes: usize, seed: u64) -> Score {
    let mut env = make();
    let spec = env.spec().clone();
    let (mut obs, mut rewards) = (vec![0.0; spec.obs_len()], vec![0.0; spec.agents.len()]);
    let (mut mask, mut action) = (vec![true; spec.mask_len()], Vec::with_capacity(spec.action_len()));
    let mut returns = Vec::with_capacity(episodes);
    let mut info: Vec<(&'static str, f64)> = Vec::new();
    let mut steps = 0;
    for episode in 0..episodes as u64 {
        let mut world = stream(seed, Purpose::Eval, episode);
        let mut choice = stream(seed, Purpose::Action, episode);
        env.reset(&mut world, &mut obs);
        let mut sum = 0.0;
        for _ in 0..spec.max_steps.unwrap_or(1000) {
            act(env.as_ref(), policy, &mut mask, &mut choice, &mut action);
            let terminated = env.step(&action, &mut world, &mut obs, &mut rewards);
            sum += rewards.iter().sum::<f64>() / rewards.len() as f64;
            steps += 1;
            for (i, (name, value)) in env.info().into_iter().enumerate() {
                match info.get_mut(i) {
                    Some(entry) => entry.1 += value,
                    None => info.push((name, value)),
                }
            }
            if terminated {
                break;
            }
        }
        returns.push(sum);
    }
    let n = returns.len().max(1) as f64;
    let mean = returns.iter().sum::<f64>() / n;
    let variance = returns.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / (n - 1.0).max(1.0);
    info.iter_mut().for_each(|(_, sum)| *sum /= f64::from(steps.max(1)));
    Score { policy, mean, error: (variance / n).sqrt(), info }
}

fn act(env: &dyn Env, policy: &str, mask: &mut [bool], rng: &mut Rng, action: &mut Vec<f64>) {
    let spec = env.spec();
    action.clear();
    action.resize(spec.action_len(), 0.0);
    if policy == RANDOM || !env.comparator_action(policy, rng, action) {
        if spec.masked {
            env.mask(mask);
        }
        action.clear();
        random_action(spec, mask, rng, action);
    }
}

/// The scores of simple policies on a registered task as a table in words, headed by the task and all its options: the
/// frame in which a learned score means something. Returns are means over agents.
///
/// # Errors
/// As [`crate::make_with`].
pub fn table(id: &str, given: &[(&str, &str)], episodes: usize, seed: u64) -> Result<String, MakeError> {
    let entry = crate::entry(id)?;
    let make = (entry.maker)(given)?;
    let options = (entry.options)(given)?;
    let options: Vec<String> = options.iter().map(|o| format!("{} = {}", o.key, o.value)).collect();
    let mut text = format!("{id} ({})\n", options.join(", "));
    for Score { policy, mean, error, info } in scores(&make, episodes, seed) {
        let info: String = info.iter().map(|(name, value)| format!("  {name} {value:.4}")).collect();
        text += &format!("{policy:12} {mean:10.3} ± {error:.3}{info}\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::make;

    #[test]
    fn the_random_policy_scores_as_it_must() {
        // Four values, one of them right, eight times.
        let score = &scores(&|| make("probe/identity-discrete").unwrap(), 2000, 0)[0];
        assert_eq!(score.policy, RANDOM);
        assert!((score.mean - 2.0).abs() < 4.0 * score.error, "{score:?}");
        let deviation = (8.0f64 * 0.25 * 0.75).sqrt();
        assert!((score.error / (deviation / 2000f64.sqrt()) - 1.0).abs() < 0.1, "{score:?}");
    }

    #[test]
    fn a_table_names_the_dialect_and_the_anchors() {
        let table = table("particle/spread", &[("dialect", "v2")], 20, 0).unwrap();
        let mut lines = table.lines();
        assert!(
            lines
                .next()
                .unwrap()
                .starts_with("particle/spread (dialect = v2, continuous = false, agents = 3")
        );
        let policies: Vec<_> = lines.map(|line| line.split_whitespace().next().unwrap()).collect();
        assert_eq!(policies, ["random", "no-op", "oracle"]);
        assert!(super::table("particle/spread", &[("dialect", "v4")], 1, 0).is_err());
    }
}
