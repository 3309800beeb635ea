//! The particle tasks against MPE2 and PettingZoo, step by step (`fixtures/particle.py`), and the scores of simple policies.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Read;

use serde_json::Value;
use steadfast_envs::rng::{Purpose, stream};
use steadfast_envs::{State, compare, make_with};

fn floats(line: &Value, key: &str) -> Vec<f64> {
    line[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// Largest difference, relative to the larger of 1 and the expected value.
fn difference(ours: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(ours.len(), expected.len());
    assert!(ours.iter().all(|x| x.is_finite()), "{ours:?}");
    ours.iter().zip(expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max)
}

/// Lines of a fixture: what task it is of, and its steps.
fn read(name: &str) -> (Value, Vec<Value>) {
    let path = format!("{}/fixtures/particle/{name}.jsonl.gz", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (lines.next().unwrap(), lines.collect())
}

/// States and rewards to 1e-12, observations to a rounding of float32. Of spread in dialect `original` the physics are
/// those of `v2`; its moves go the other way.
fn agrees(name: &str, original: bool) {
    let (header, lines) = read(name);
    let text = |x: &Value| x.as_str().unwrap().to_owned();
    let mut options: Vec<(String, String)> =
        header["options"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), text(v))).collect();
    if original {
        options.push(("dialect".to_owned(), "original".to_owned()));
    }
    let given: Vec<(&str, &str)> = options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let mut env = make_with(header["id"].as_str().unwrap(), &given).unwrap();
    let spec = env.spec().clone();
    let names: Vec<String> = header["agents"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(spec.agents.iter().map(|a| a.name.clone()).collect::<Vec<_>>(), names);
    let mut worst: f64 = 0.0;
    for (i, line) in lines.iter().enumerate() {
        let mut action = floats(line, "action");
        if original && name.ends_with("discrete") {
            action.iter_mut().for_each(|a| *a = [0.0, 2.0, 1.0, 4.0, 3.0][*a as usize]);
        }
        let mut state = State::new();
        state.put_f64("state", &floats(line, "state"));
        env.load(&state).unwrap();
        let (mut obs, mut rewards) = (vec![f32::NAN; spec.obs_len()], vec![f64::NAN; names.len()]);
        assert!(!env.step(&action, &mut stream(0, Purpose::Check, 0), &mut obs, &mut rewards));
        let mut after = State::new();
        env.save(&mut after);
        let next = floats(line, "next_state");
        let expected = if original {
            vec![line["shared"].as_f64().unwrap(); names.len()]
        } else {
            floats(line, "rewards")
        };
        worst = worst.max(difference(after.f64("state", next.len()).unwrap(), &next));
        worst = worst.max(difference(&rewards, &expected));
        assert!(worst <= 1e-12, "{name}, step {i}: {worst:e}; {rewards:?} instead of {expected:?}");
        let obs: Vec<f64> = obs.iter().map(|x| f64::from(*x)).collect();
        assert!(difference(&obs, &floats(line, "obs")) <= 1.2e-7, "{name}, step {i}: {obs:?}");
    }
    println!("{name}: {} steps, largest difference {worst:.1e}", lines.len());
}

#[test]
fn every_step_is_that_of_the_original() {
    for task in ["spread", "spread-5", "reference", "speaker-listener", "tag", "tag-crowd"] {
        for dialect in ["v3", "v2"] {
            for actions in ["discrete", "continuous"] {
                agrees(&format!("{task}-{dialect}-{actions}"), false);
            }
        }
    }
    for name in ["spread-v2-discrete", "spread-v2-continuous", "spread-5-v2-discrete"] {
        agrees(name, true);
    }
}

/// Mean over agents of the return, of the policy of that name.
fn mean(given: &[(&str, &str)], policy: &'static str) -> compare::Score {
    compare::score(&|| make_with("particle/spread", given).unwrap(), policy, 1500, 0)
}

/// The anchors of the tables were measured independently in Python: 1500 episodes, standard error 0.4 of the sum of
/// distances, hence 0.2 of a v3 reward.
#[test]
fn simple_policies_score_on_spread_what_they_score_elsewhere() {
    let agents = 3.0;
    for (dialect, sum_of, anchors) in [
        ("v3", 1.0, [("random", -26.3), ("no-op", -24.2), ("oracle", -8.4)]),
        ("v2", agents, [("random", -115.0), ("no-op", -108.8), ("oracle", -61.1)]),
        ("original", 1.0, [("random", -230.0), ("no-op", -218.0), ("oracle", -122.0)]),
    ] {
        for (policy, expected) in anchors {
            let score = mean(&[("dialect", dialect)], policy);
            let (ours, error) = (score.mean * sum_of, score.error * sum_of);
            println!("{dialect} {policy}: {ours:.1} ± {error:.1}, elsewhere {expected}");
            assert!(
                (ours - expected).abs() < 5.0 * error + 0.01 * f64::abs(expected),
                "{dialect} {policy}: {score:?}"
            );
        }
    }
}

#[test]
fn who_knows_the_goal_gets_there() {
    for id in ["particle/reference", "particle/speaker-listener", "particle/tag", "particle/spread"] {
        for continuous in ["false", "true"] {
            for dialect in ["v3", "v2"] {
                let given = [("continuous", continuous), ("dialect", dialect)];
                let scores = compare::scores(&|| make_with(id, &given).unwrap(), 300, 1);
                let [random, idle, informed] = &scores[..] else { panic!("{scores:?}") };
                println!("{id} {given:?}: {:.1} {:.1} {:.1}", random.mean, idle.mean, informed.mean);
                let error = random.error.hypot(informed.error);
                assert!(
                    informed.mean > random.mean.max(idle.mean) + 4.0 * error,
                    "{id} {given:?}: {scores:?}"
                );
            }
        }
    }
}

#[test]
fn a_goal_that_is_no_landmark_is_refused() {
    let mut env = make_with("particle/speaker-listener", &[]).unwrap();
    let mut saved = State::new();
    env.save(&mut saved);
    let mut values = saved.f64("state", 21).unwrap().to_vec();
    for bad in [3.0, -1.0, 0.5, f64::NAN] {
        values[20] = bad;
        let mut state = State::new();
        state.put_f64("state", &values);
        assert!(env.load(&state).is_err(), "{bad}");
    }
}
