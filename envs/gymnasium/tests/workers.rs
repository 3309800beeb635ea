//! The same environments in worker processes.

#![cfg(feature = "embed")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::time::Instant;

use common::{Played, class, failures, made};
use steadfast_envs::VecEnv;
use steadfast_envs::rng::Purpose;

fn with_workers(n: usize) {
    steadfast_gymnasium::set_workers(n);
}

/// One test, as the number of workers is the process's.
#[test]
fn workers_do_as_this_process_does() {
    with_workers(0);
    let here = trajectory("tests.faulty:Mixed", 1);
    with_workers(2);
    assert_eq!(here, trajectory("tests.faulty:Mixed", 1), "a worker gives the same numbers");
    assert_eq!(here, trajectory("tests.faulty:Mixed", 3), "for any number of threads");
    for name in ["Pendulum-v1", "tests.faulty:Walk"] {
        assert_eq!(failures(&made(name, &[]).unwrap()), [], "{name}");
    }

    let fault = Played::fault(&class("Raises"));
    assert!(fault.contains("ValueError: boom") && fault.contains("in step"), "{fault}");
    let fault = Played::fault(&class("Dies"));
    assert!(fault.contains("worker process died") && fault.contains("exit status: 7"), "{fault}");
    let error = made("tests.faulty:Words", &[]).err().unwrap();
    assert!(error.contains("no fixed length"), "{error}");
    assert_eq!(Played::new(&class("Walk")).env.picture().unwrap().width, 6);

    // 20 ms of waiting a step, 2 copies: one after another, or beside each other.
    let seconds = |threads| {
        let mut envs = VecEnv::new(&class("Slow"), 2, 0, Purpose::Env, threads);
        let started = Instant::now();
        (0..20).for_each(|_| envs.step(&[0.0; 2]));
        started.elapsed().as_secs_f64()
    };
    let (one, two) = (seconds(1), seconds(2));
    assert!(two < 0.75 * one, "{two} s on two threads, {one} s on one");
}

fn trajectory(name: &str, threads: usize) -> Vec<u32> {
    let mut envs = VecEnv::new(&made(name, &[]).unwrap(), 3, 5, Purpose::Env, threads);
    let mut seen = Vec::new();
    for t in 0..100 {
        envs.step(&[t % 3, t % 2, 0, 1, 2, 0].map(|x| x as f32));
        seen.extend(envs.obs().iter().map(|x| x.to_bits()));
        seen.extend(envs.rewards().iter().map(|x| x.to_bits() as u32));
    }
    seen
}
