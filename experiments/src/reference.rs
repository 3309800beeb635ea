//! The committed results hold what the README says of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use steadfast_agents::{Acting, Agent, AgentError, Metrics, Seen};
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

/// Half-width of the 95 % interval of a mean over so many seeds, in standard errors (Student's t).
fn t95(seeds: usize) -> f64 {
    match seeds {
        3 => 4.303,
        5 => 2.776,
        10 => 2.262,
        n => panic!("no quantile for {n} seeds"),
    }
}

/// With the settings of Stable-Baselines3 and sb3-contrib our agents learn as theirs do: the 95 % intervals of the mean over
/// the seeds overlap at every fifth of the run.
fn curves_agree(suite: &str, algorithms: &[&str], tasks: &[(&str, u64)]) {
    let interval = |runs: &[(u64, f64)]| {
        let values: Vec<f64> = runs.iter().map(|r| r.1).collect();
        let half = t95(values.len()) * std(&values).unwrap() / (values.len() as f64).sqrt();
        let mean = mean(&values).unwrap();
        (mean - half, mean + half)
    };
    let ours = evaluations(&folder(suite).join("steadfast-eval.csv"));
    let theirs = evaluations(&folder(suite).join("sb3-eval.csv"));
    for algorithm in algorithms {
        for (env, steps) in tasks {
            for fifth in 1..=5 {
                let step = steps / 5 * fifth;
                let key = |name: &str| (format!("{name}-{algorithm}"), (*env).to_owned(), step);
                let (a, b) = (interval(&ours[&key("steadfast")]), interval(&theirs[&key("sb3")]));
                println!("{algorithm} {env} {step}: {a:?} {b:?}");
                assert!(a.0 <= b.1 && b.0 <= a.1, "{algorithm} {env} at {step}: {a:?} and {b:?}");
            }
        }
    }
}

#[test]
fn curves_agree_with_stable_baselines3() {
    curves_agree("sb3", &["ppo", "trpo"], &[("Pendulum-v1", 100_000), ("CartPole-v1", 100_000)]);
}

#[test]
fn curves_agree_with_stable_baselines3_on_robots() {
    let tasks = ["Hopper-v5", "HalfCheetah-v5", "InvertedPendulum-v5"].map(|env| (env, 200_000));
    curves_agree("sb3-mujoco", &["ppo", "trpo"], &tasks);
}

#[test]
fn sac_agrees_with_stable_baselines3() {
    curves_agree("sb3-sac", &["sac"], &[("Pendulum-v1", 20_000), ("HalfCheetah-v5", 50_000)]);
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

/// Final scores of the off-policy agents' default presets, 5 seeds, 100 greedy episodes after 20 000 steps.
#[test]
fn off_policy_presets_hold_their_thresholds() {
    let all = evaluations(&folder("sac-vs-mdpo/eval.csv"));
    for agent in ["sac", "mdpo_off"] {
        for (env, threshold) in [("Pendulum-v1", -155.0), ("MountainCarContinuous-v0", 90.0)] {
            let runs = &all[&(agent.to_owned(), env.to_owned(), 20_000)];
            let scores: Vec<f64> = runs.iter().map(|r| r.1).collect();
            assert_eq!(scores.len(), 5);
            let score = iqm(&scores).unwrap();
            assert!(score >= threshold, "{agent} {env}: {score}");
        }
    }
}

/// SAC on robots: 3 seeds, 20 greedy episodes after 200 000 steps.
#[test]
fn sac_walks_and_runs() {
    let all = evaluations(&folder("sac-vs-mdpo-mujoco/eval.csv"));
    for (env, threshold) in [("HalfCheetah-v5", 4000.0), ("Hopper-v5", 1500.0)] {
        let runs = &all[&("sac".to_owned(), env.to_owned(), 200_000)];
        let scores: Vec<f64> = runs.iter().map(|r| r.1).collect();
        assert_eq!(scores.len(), 3);
        let score = iqm(&scores).unwrap();
        println!("{env}: {score}");
        assert!(score >= threshold, "{env}: {score}");
    }
}

/// Of every seed: the unregularised ball has larger gradients and leaves the clip range more often than the Euclidean arm, that
/// one more than Hyper++.
#[test]
fn the_unregularised_ball_is_the_least_stable() {
    let mut found: BTreeMap<(String, &str), BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    let mut reader = csv::Reader::from_path(folder("hyperbolic/stability/train.csv")).unwrap();
    for row in reader.deserialize() {
        let row: BTreeMap<String, String> = row.unwrap();
        for column in ["grad_norm", "clip_fraction"] {
            let runs = found.entry((row["agent"].clone(), column)).or_default();
            runs.entry(row["seed"].clone()).or_default().push(row[column].parse().unwrap());
        }
    }
    for column in ["grad_norm", "clip_fraction"] {
        let of = |agent: &str| {
            let runs = &found[&(agent.to_owned(), column)];
            assert_eq!(runs.len(), 5, "{agent}");
            runs.values().map(|values| mean(values).unwrap()).collect::<Vec<f64>>()
        };
        let least = |agent: &str| of(agent).into_iter().fold(f64::INFINITY, f64::min);
        let most = |agent: &str| of(agent).into_iter().fold(0.0, f64::max);
        assert!(least("hyper") > most("euclidean"), "{column}");
        assert!(least("euclidean") > most("hyperpp"), "{column}");
    }
}

/// Mean return of the exact finite-horizon optimum over the evaluation episodes of a seed.
fn optimum(seed: u64, episodes: usize) -> f64 {
    let make = steadfast_envs::entry("DoubleIntegrator").unwrap().make;
    let gains = finite_lqr(make().spec().max_steps.unwrap()).iter().map(|l| l.gain).collect();
    evaluate(&Optimal { gains, step: std::cell::Cell::new(0) }, Acting::Greedy, &make, seed, episodes)
        .unwrap()
        .mean
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
    fn act(&self, seen: &mut Seen, _how: Acting, actions: &mut [f32], _rng: &mut Rng) {
        let gain = self.gains[self.step.replace(self.step.get() + 1)];
        for (s, a) in seen.obs.chunks_exact(2).zip(actions) {
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
