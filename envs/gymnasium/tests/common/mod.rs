//! The environments of `faulty.py`.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use steadfast_envs::rng::{Purpose, stream};
use steadfast_envs::{Env, Maker, Rng};

/// The maker of a class in `faulty.py`.
pub fn class(name: &str) -> Maker {
    made(&format!("tests.faulty:{name}"), &[]).unwrap()
}

pub fn made(name: &str, options: &[(&str, &str)]) -> Result<Maker, String> {
    let options: BTreeMap<_, _> = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    steadfast_gymnasium::maker(name, &options).map_err(|e| e.to_string())
}

/// An environment with its stream and what it wrote last.
pub struct Played {
    pub env: Box<dyn Env>,
    pub rng: Rng,
    pub obs: Vec<f32>,
    pub reward: f64,
}

impl Played {
    pub fn new(make: &Maker) -> Self {
        let mut env = make();
        let mut obs = vec![f32::NAN; env.spec().obs_len()];
        let mut rng = stream(0, Purpose::Check, 0);
        env.reset(&mut rng, &mut obs);
        Self { env, rng, obs, reward: f64::NAN }
    }

    pub fn step(&mut self, action: f64) -> bool {
        let action = vec![action; self.env.spec().action_len()];
        let mut reward = [f64::NAN];
        let terminated = self.env.step(&action, &mut self.rng, &mut self.obs, &mut reward);
        self.reward = reward[0];
        terminated
    }

    /// Why it failed within ten steps.
    pub fn fault(make: &Maker) -> String {
        let mut played = Self::new(make);
        for _ in 0..10 {
            if played.step(0.0) && played.env.fault().is_some() {
                assert!(played.reward.is_nan() && played.obs.iter().all(|x| x.is_nan()));
                break;
            }
        }
        played.env.fault().expect("it should have failed").to_owned()
    }
}

/// The names of the conformance checks that fail, with the reasons.
pub fn failures(make: &Maker) -> Vec<(&'static str, String)> {
    let results = steadfast_envs::check::check(make);
    results.into_iter().filter_map(|r| r.outcome.err().map(|why| (r.name, why))).collect()
}
