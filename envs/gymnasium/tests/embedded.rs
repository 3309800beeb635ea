//! Environments in this process: conformance, spaces, failures, resume.

#![cfg(feature = "embed")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Played, class, failures, made};
use steadfast_envs::rng::{Purpose, stream};
use steadfast_envs::{State, VecEnv};

#[test]
fn gymnasiums_own_environments_pass_every_check() {
    for id in ["Pendulum-v1", "CartPole-v1", "MountainCar-v0", "Acrobot-v1", "MountainCarContinuous-v0"] {
        assert_eq!(failures(&made(id, &[]).unwrap()), [], "{id}");
    }
}

/// Exact resume among them.
#[test]
fn mujoco_environments_pass_every_check() {
    for id in ["HalfCheetah-v5", "Hopper-v5"] {
        assert_eq!(failures(&made(id, &[]).unwrap()), [], "{id}");
    }
}

#[test]
fn classes_and_unusual_spaces_pass_every_check() {
    for name in ["Walk", "Mixed", "Choice", "Keeps"] {
        assert_eq!(failures(&class(name)), [], "{name}");
    }
}

#[test]
fn specs_are_those_of_gymnasium() {
    let spec = |name: &str, options: &[(&str, &str)]| made(name, options).unwrap()().spec().clone();
    let pendulum = spec("Pendulum-v1", &[("g", "9.81")]);
    let ours = steadfast_envs::make("Pendulum-v1").unwrap();
    assert_eq!(pendulum.agents, ours.spec().agents);
    assert_eq!((pendulum.id.as_str(), pendulum.max_steps), ("gymnasium:Pendulum-v1", Some(200)));
    let mixed = spec("tests.faulty:Mixed", &[]);
    let agent = &mixed.agents[0];
    assert_eq!(
        (agent.obs.to_string(), agent.action.to_string()),
        ("Box(6)".into(), "MultiDiscrete([3, 2])".into())
    );
    let walk = spec("tests.faulty:test/Walk-v0", &[]);
    assert_eq!((walk.max_steps, walk.reward_threshold), (Some(30), Some(-1.5)));
    assert_eq!(spec("tests.faulty:test/Walk-v0", &[("max_episode_steps", "8")]).max_steps, Some(8));
    assert_eq!(spec("tests.faulty:Walk", &[("max_episode_steps", "8")]).max_steps, Some(8));
}

#[test]
fn keyword_arguments_reach_the_environment() {
    let speed = |text| {
        let mut played = Played::new(&made("tests.faulty:Walk", &[("speed", text)]).unwrap());
        let before = played.obs[0];
        played.step(1.0);
        played.obs[0] - before
    };
    assert!((speed("0.25") - speed("0.0") - 0.25).abs() < 1e-6);
}

#[test]
fn what_cannot_be_made_is_said_in_one_line() {
    let error = |name: &str| made(name, &[]).err().unwrap();
    for (name, needles) in [
        ("HalfCheeta-v5", &["HalfCheeta"][..]),
        ("nowhere:Some-v0", &["there is no Python module 'nowhere'", "PYTHONPATH"]),
        ("tests.faulty:Missing", &["tests.faulty", "Missing"]),
        ("tests.faulty:not_an_env", &["which is no gymnasium.Env"]),
        ("tests.faulty:Words", &["no fixed length"]),
        ("tests.faulty:ManyActions", &["none of Box, Discrete"]),
    ] {
        let text = error(name);
        assert!(text.starts_with(&format!("gymnasium:{name}: ")), "{text}");
        assert!(needles.iter().all(|needle| text.contains(needle)), "{text}");
        assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    }
    let unexpected = made("Pendulum-v1", &[("gravity", "1")]).err().unwrap();
    assert!(unexpected.contains("gravity"), "{unexpected}");
}

#[test]
fn failures_come_with_their_traceback() {
    for (name, needles) in [
        ("Raises", &["ValueError: boom", "faulty.py", "in step"][..]),
        ("RaisesInReset", &["RuntimeError: no start today", "in reset"]),
        ("WrongShape", &["shape (3,)", "(2,)"]),
        ("Broadcasts", &["shape (1,)", "(2,)"]),
        ("WrongType", &["dtype"]),
        ("OldStep", &["tuple of length 4"]),
    ] {
        let fault = Played::fault(&class(name));
        assert!(fault.starts_with(&format!("gymnasium:tests.faulty:{name}: ")), "{fault}");
        assert!(needles.iter().all(|needle| fault.contains(needle)), "{name}: {fault}");
    }
}

#[test]
fn a_failed_copy_stops_no_other_and_is_reported() {
    let mut envs = VecEnv::new(&class("Raises"), 3, 0, Purpose::Env, 2);
    for _ in 0..3 {
        envs.step(&[0.0; 3]);
        assert_eq!(envs.fault(), None);
    }
    envs.step(&[0.0; 3]);
    assert!(envs.fault().unwrap().contains("boom"));
    assert!(envs.rewards().iter().all(|r| r.is_nan()));
    envs.step(&[0.0; 3]);
}

/// The episode is cut by the environment itself, or by a wrapper in it: neither terminates.
#[test]
fn truncation_by_the_environment_is_no_termination() {
    for (name, length) in [("Truncates", 9), ("limited", 12)] {
        let mut envs = VecEnv::new(&class(name), 1, 3, Purpose::Env, 1);
        for _ in 0..100 {
            envs.step(&[0.0]);
        }
        let episodes = envs.take_episodes();
        assert!(episodes.len() >= 8, "{name}");
        assert!(episodes.iter().all(|e| e.length == length && !e.terminated), "{name}: {episodes:?}");
    }
}

#[test]
fn an_environment_that_does_not_repeat_is_refused() {
    let make = class("Unrepeatable");
    let mut played = Played::new(&make);
    played.step(0.0);
    let mut state = State::new();
    played.env.save(&mut state);
    let error = make().load(&state).unwrap_err().to_string();
    assert!(error.contains("does not repeat"), "{error}");
}

#[test]
fn an_endless_episode_is_refused_in_the_end() {
    let make = class("Endless");
    let mut played = Played::new(&make);
    // 64 numbers a step: 2^20 are reached after 16 384.
    for _ in 0..16_400 {
        assert!(!played.step(0.0));
    }
    let mut state = State::new();
    played.env.save(&mut state);
    let error = make().load(&state).unwrap_err().to_string();
    assert!(error.contains("16400 steps") && error.contains("max_episode_steps"), "{error}");
}

#[test]
fn pictures_show_the_present_state() {
    let make = class("Walk");
    let mut played = Played::new(&make);
    for _ in 0..3 {
        played.step(1.0);
        let picture = played.env.picture().unwrap();
        assert_eq!((picture.width, picture.height, picture.fps), (6, 4, 20));
        let column = ((f64::from(played.obs[0]) + 6.0) / 12.0 * 5.0).round() as usize;
        let dark: Vec<usize> = (0..6).filter(|x| picture.rgb[3 * x] == 0).collect();
        assert_eq!(dark, [column]);
    }
    let mut blind = Played::new(&class("limited"));
    assert!(blind.env.picture().is_some() || blind.env.fault().is_some());
}

#[test]
fn the_same_seed_gives_the_same_trajectory() {
    let run = |seed| {
        let mut envs = VecEnv::new(&made("HalfCheetah-v5", &[]).unwrap(), 2, seed, Purpose::Env, 1);
        let mut seen = Vec::new();
        for t in 0..200 {
            envs.step(&[(t as f32 * 0.1).sin(); 12]);
            seen.extend(envs.obs().iter().map(|x| x.to_bits()));
        }
        seen
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// Making, dropping and making again ends with as many open environments as at once were in use.
#[test]
fn dropped_environments_are_used_again() {
    let make = class("Walk");
    let first = Played::new(&make).obs;
    for _ in 0..50 {
        assert_eq!(Played::new(&make).obs, first);
    }
    let mut rng = stream(0, Purpose::Check, 0);
    let mut obs = [0.0; 2];
    make().reset(&mut rng, &mut obs);
    assert_eq!(obs.as_slice(), first);
}
