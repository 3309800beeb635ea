//! Step-by-step parity with Gymnasium 1.4.0: its answers to injected states (`fixtures/gymnasium.py`).

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use serde_json::Value;
use steadfast_envs::rng::{Purpose, stream};
use steadfast_envs::{Env, State, make};

/// What one line of a fixture says, and what we answer.
struct Case {
    what: String,
    expected: Outcome,
    ours: Outcome,
}

#[derive(Debug)]
struct Outcome {
    state: Vec<f64>,
    obs: Vec<f64>,
    reward: f64,
    terminated: bool,
}

fn floats(line: &Value, key: &str) -> Vec<f64> {
    line[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// Injects `state`, steps by `action` (clipped as [`steadfast_envs::VecEnv`] does), and reads the result.
fn step(env: &mut dyn Env, state: &[f64], action: &[f64]) -> Outcome {
    let mut saved = State::new();
    saved.put_f64("state", state);
    env.load(&saved).unwrap();
    let mut clipped = vec![f64::NAN; action.len()];
    env.spec().clip(action, &mut clipped);
    let mut obs = vec![f32::NAN; env.spec().obs_len()];
    let mut reward = [f64::NAN];
    let terminated = env.step(&clipped, &mut stream(0, Purpose::Check, 0), &mut obs, &mut reward);
    let mut saved = State::new();
    env.save(&mut saved);
    let state = saved.f64("state", state.len()).unwrap().to_vec();
    Outcome { state, obs: obs.iter().map(|x| f64::from(*x)).collect(), reward: reward[0], terminated }
}

fn cases(task: &str, fixture: &str) -> Vec<Case> {
    let mut env = make(task).unwrap();
    let case = |(number, line): (usize, &str)| {
        let line: Value = serde_json::from_str(line).unwrap();
        let (state, action) = (floats(&line, "state"), floats(&line, "action"));
        Case {
            what: format!("{task}, line {}: action {action:?} in {state:?}", number + 1),
            ours: step(env.as_mut(), &state, &action),
            expected: Outcome {
                state: floats(&line, "next_state"),
                obs: floats(&line, "obs"),
                reward: line["reward"].as_f64().unwrap(),
                terminated: line["terminated"].as_bool().unwrap(),
            },
        }
    };
    let cases: Vec<Case> = fixture.lines().enumerate().map(case).collect();
    assert!(cases.len() >= 300, "{task} has only {} steps", cases.len());
    cases
}

/// Largest difference, relative to the larger of 1 and the expected value.
fn difference(ours: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(ours.len(), expected.len());
    assert!(ours.iter().all(|x| x.is_finite()), "{ours:?}");
    ours.iter().zip(expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max)
}

/// States and rewards to 1e-12; observations to a rounding of float32.
fn agrees(task: &str, fixture: &str) {
    let cases = cases(task, fixture);
    let mut worst: f64 = 0.0;
    for Case { what, expected, ours } in &cases {
        worst = worst.max(difference(&ours.state, &expected.state));
        worst = worst.max(difference(&[ours.reward], &[expected.reward]));
        assert!(worst <= 1e-12, "{what}: {ours:?} instead of {expected:?}");
        assert!(difference(&ours.obs, &expected.obs) <= 1.2e-7, "{what}: {ours:?} instead of {expected:?}");
        assert_eq!(ours.terminated, expected.terminated, "{what}");
    }
    println!("{task}: {} steps, largest difference {worst:.1e}", cases.len());
}

#[test]
fn pendulum_agrees() {
    agrees("Pendulum-v1", include_str!("../fixtures/pendulum-v1.jsonl"));
}

#[test]
fn mountain_car_agrees() {
    agrees("MountainCar-v0", include_str!("../fixtures/mountaincar-v0.jsonl"));
}

#[test]
fn cartpole_agrees() {
    agrees("CartPole-v1", include_str!("../fixtures/cartpole-v1.jsonl"));
}

#[test]
fn acrobot_agrees() {
    agrees("Acrobot-v1", include_str!("../fixtures/acrobot-v1.jsonl"));
}

#[test]
fn mountain_car_continuous_agrees_bit_for_bit() {
    let fixture = include_str!("../fixtures/mountaincarcontinuous-v0.jsonl");
    for Case { what, expected, ours } in cases("MountainCarContinuous-v0", fixture) {
        let bits = |o: &Outcome| -> Vec<u64> {
            // Adding 0 forgets the sign of a zero, which Gymnasium's integer 0 does not have.
            o.state.iter().chain(&o.obs).chain([&o.reward]).map(|x| (x + 0.0).to_bits()).collect()
        };
        assert_eq!(bits(&ours), bits(&expected), "{what}: {ours:?} instead of {expected:?}");
        assert_eq!(ours.terminated, expected.terminated, "{what}");
    }
}

/// The specs that Gymnasium registers: time limit, threshold, sizes.
#[test]
fn the_specs_are_those_of_gymnasium() {
    let cases = [
        ("Pendulum-v1", 200, None, "Box(3)", "Box(1)"),
        ("MountainCarContinuous-v0", 999, Some(90.0), "Box(2)", "Box(1)"),
        ("MountainCar-v0", 200, Some(-110.0), "Box(2)", "Discrete(3)"),
        ("CartPole-v1", 500, Some(475.0), "Box(4)", "Discrete(2)"),
        ("Acrobot-v1", 500, Some(-100.0), "Box(6)", "Discrete(3)"),
    ];
    for (id, max_steps, threshold, obs, action) in cases {
        let env = make(id).unwrap();
        let spec = env.spec();
        assert_eq!(spec.id, id);
        assert_eq!((spec.max_steps, spec.reward_threshold), (Some(max_steps), threshold), "{id}");
        assert_eq!(spec.agents[0].obs.to_string(), obs, "{id}");
        assert_eq!(spec.agents[0].action.to_string(), action, "{id}");
    }
}
