//! The committed results hold what the README says of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use steadfast_agents::{Agent, AgentError, Metrics};
use steadfast_envs::classic::double_integrator::{MAX_FORCE, finite_lqr};
use steadfast_envs::{Rng, State, VecEnv};

use crate::stats::{iqm, mean, std};
use crate::train::evaluate;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference").join(name)
}

/// Mean evaluation returns of the seeds, by agent, environment and step.
fn evaluations(path: &Path) -> BTreeMap<(String, String, u64), Vec<(u64, f64)>> {
    let mut found: BTreeMap<_, Vec<(u64, f64)>> = BTreeMap::new();
    let mut reader = csv::Reader::from_path(path).unwrap();
    for row in reader.deserialize() {
        let row: BTreeMap<String, String> = row.unwrap();
        let key = (row["agent"].clone(), row["env"].clone(), row["step"].parse().unwrap());
        found
            .entry(key)
            .or_default()
            .push((row["seed"].parse().unwrap(), row["return_mean"].parse().unwrap()));
    }
    found
}

/// Our PPO and TRPO with the settings of Stable-Baselines3 and sb3-contrib learn as theirs do: the 95 % intervals of
/// the mean over the seeds (Student's t) overlap at every fifth of the run.
#[test]
fn curves_agree_with_stable_baselines3() {
    // Two-sided 95 % quantiles for 5 and 10 seeds.
    let t = |n: usize| if n == 5 { 2.776 } else { 2.262 };
    let interval = |runs: &[(u64, f64)]| {
        let values: Vec<f64> = runs.iter().map(|r| r.1).collect();
        assert!(values.len() == 5 || values.len() == 10);
        let half = t(values.len()) * std(&values).unwrap() / (values.len() as f64).sqrt();
        let mean = mean(&values).unwrap();
        (mean - half, mean + half)
    };
    let ours = evaluations(&folder("sb3/steadfast-eval.csv"));
    let theirs = evaluations(&folder("sb3/sb3-eval.csv"));
    for algorithm in ["ppo", "trpo"] {
        for env in ["Pendulum-v1", "CartPole-v1"] {
            for step in [20_000, 40_000, 60_000, 80_000, 100_000] {
                let key = |name: &str| (format!("{name}-{algorithm}"), env.to_owned(), step);
                let (a, b) = (interval(&ours[&key("steadfast")]), interval(&theirs[&key("sb3")]));
                println!("{algorithm} {env} {step}: {a:?} {b:?}");
                assert!(a.0 <= b.1 && b.0 <= a.1, "{algorithm} {env} at {step}: {a:?} and {b:?}");
            }
        }
    }
}

/// Final scores of the default presets, 10 seeds, 100 greedy episodes.
#[test]
fn default_presets_hold_their_thresholds() {
    let all = evaluations(&folder("classic/eval.csv"));
    let last = |agent: &str, env: &str| {
        let runs = all.iter().filter(|((a, e, _), _)| a == agent && e == env);
        let (_, runs) = runs.max_by_key(|((_, _, step), _)| *step).unwrap();
        assert_eq!(runs.len(), 10, "{agent} {env}");
        runs.clone()
    };
    let values = |runs: &[(u64, f64)]| runs.iter().map(|r| r.1).collect::<Vec<f64>>();
    for agent in ["ppo", "trpo", "mdpo"] {
        for (env, threshold) in [("Pendulum-v1", -165.0), ("CartPole-v1", 495.0), ("Acrobot-v1", -85.0)] {
            let score = iqm(&values(&last(agent, env))).unwrap();
            assert!(score >= threshold, "{agent} {env}: {score}");
        }
        let car = last(agent, "MountainCarContinuous-v0");
        assert!(car.iter().filter(|r| r.1 >= 90.0).count() >= 8, "{agent} MountainCarContinuous-v0: {car:?}");

        // Against the optimum from the very same starts.
        let runs = last(agent, "DoubleIntegrator");
        let best: Vec<f64> = runs.iter().map(|(seed, _)| optimum(*seed, 100)).collect();
        let (score, best) = (iqm(&values(&runs)).unwrap(), iqm(&best).unwrap());
        println!("{agent} DoubleIntegrator: {score} of {best}");
        assert!(score >= 1.02 * best, "{agent} DoubleIntegrator: {score} against {best}");
    }
}

/// Mean return of the exact finite-horizon optimum over the evaluation episodes of a seed.
fn optimum(seed: u64, episodes: usize) -> f64 {
    let make = steadfast_envs::entry("DoubleIntegrator").unwrap().make;
    let gains = finite_lqr(make().spec().max_steps.unwrap()).iter().map(|l| l.gain).collect();
    evaluate(&Optimal { gains, step: std::cell::Cell::new(0) }, &make, seed, episodes).unwrap().mean
}

/// Plays the time-varying optimal gains; all episodes of the task have the same length.
struct Optimal {
    gains: Vec<[f64; 2]>,
    step: std::cell::Cell<usize>,
}

impl Agent for Optimal {
    fn num_envs(&self) -> usize {
        1
    }
    fn steps_per_iteration(&self) -> u64 {
        1
    }
    fn iterate(&mut self, _envs: &mut VecEnv) -> Result<Metrics, AgentError> {
        Ok(Metrics::default())
    }
    fn act(&self, obs: &[f32], actions: &mut [f32], _rng: &mut Rng) {
        let gain = self.gains[self.step.replace(self.step.get() + 1)];
        for (s, a) in obs.chunks_exact(2).zip(actions) {
            *a = (-(gain[0] * f64::from(s[0]) + gain[1] * f64::from(s[1])) / MAX_FORCE) as f32;
        }
    }
    fn save(&self) -> State {
        State::new()
    }
    fn load(&mut self, _state: &State) -> Result<(), AgentError> {
        Ok(())
    }
}
