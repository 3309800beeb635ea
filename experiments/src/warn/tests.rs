use std::ops::ControlFlow;
use std::time::Duration;

use super::*;
use crate::settings::{label, resolve};
use crate::train::{Conduct, Outcome, run};

fn settings(agent: &str, options: &[(&str, toml::Value)]) -> RunSettings {
    let options: toml::Table = options.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    RunSettings {
        label: label(agent, "default"),
        agent: agent.to_owned(),
        preset: "default".to_owned(),
        env: "Pendulum-v1".to_owned(),
        seed: 0,
        steps: 1024,
        evaluations: 2,
        eval_episodes: 1,
        final_episodes: 1,
        device: "cpu".to_owned(),
        env_options: BTreeMap::new(),
        eval_env_options: BTreeMap::new(),
        options,
    }
}

fn rows(columns: &[(&str, &dyn Fn(f64) -> f64)]) -> Rows {
    let train =
        columns.iter().map(|(name, f)| ((*name).to_owned(), (0..50).map(|i| f(f64::from(i))).collect()));
    Rows { train: train.collect(), returns: vec![1.0; 50], evaluations: vec![0.0, 1.0, 1.0], steps: 1000 }
}

/// The only warning about `rows`.
fn only(settings: &RunSettings, rows: &Rows) -> String {
    let found = warnings(settings, rows);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("; try "), "{}", found[0]);
    found[0].clone()
}

fn none(settings: &RunSettings, rows: &Rows) {
    assert_eq!(warnings(settings, rows), Vec::<String>::new());
}

#[test]
fn each_sign_gives_its_warning_and_health_gives_none() {
    let s = settings("ppo", &[]);
    none(&s, &rows(&[("kl", &|_| 0.02), ("entropy", &|i| 1.1 - 0.01 * i), ("value_loss", &|i| 1.0 + i)]));
    assert!(
        only(&s, &rows(&[("kl", &|_| 2.0)]))
            .contains("50 of 50 iterations have a KL divergence far over 1 nat")
    );
    let limited = settings("trpo", &[("max_kl", 0.01.into()), ("kl_slack", 1.5.into())]);
    assert!(only(&limited, &rows(&[("kl", &|_| 0.05)])).contains("far over its limit 0.01"));
    none(&limited, &rows(&[("kl", &|_| 0.044)]));
    // Now and then is no sign.
    none(&limited, &rows(&[("kl", &|i| if i % 3.0 == 0.0 { 1.0 } else { 0.01 })]));
    assert!(
        only(&s, &rows(&[("kl", &|i| if i == 3.0 { 99.0 } else { 0.01 })])).contains("1 of 50 iterations")
    );

    let trials = |share: f64| move |i: f64| if i < 50.0 * share { 0.0 } else { 0.5 };
    let failing = rows(&[("line_search_steps", &|_| 10.0), ("step_size", &trials(0.9))]);
    assert!(only(&limited, &failing).contains("the line search failed in 45 of 50"));
    none(&limited, &rows(&[("line_search_steps", &|_| 10.0), ("step_size", &trials(0.5))]));

    let text = only(&s, &rows(&[("entropy", &|i| 0.69 * (-0.5 * i).exp())]));
    assert!(text.contains("from 0.690 to") && text.contains("iteration 9 of 50"), "{text}");
    // Late, or of densities, it may fall.
    none(&s, &rows(&[("entropy", &|i| if i < 40.0 { 0.69 } else { 0.001 })]));
    none(&s, &rows(&[("entropy", &|i| 1.4 - i), ("action_std", &|i| 1.0 - 0.01 * i)]));
    assert!(only(&s, &rows(&[("action_std", &|i| (-0.2 * i).exp())])).contains("fell from 1.000 to 5.5"));

    let exploding = |i: f64| (0.4 * i).exp();
    assert!(only(&s, &rows(&[("value_loss", &exploding)])).contains("the value loss exploded"));
    let explained: &dyn Fn(f64) -> f64 = &|_| 0.9;
    none(&s, &rows(&[("value_loss", &exploding), ("explained_variance", explained)]));

    let bins = settings("hyperpp", &[("value_min", (-10.0).into()), ("value_max", 10.0.into())]);
    let text = only(&bins, &rows(&[("returns_outside", &|i| if i < 10.0 { 0.1 } else { 0.0 })]));
    assert!(text.contains("2.0 % of the returns lie outside the value's bins, from -10.0 to 10.0"), "{text}");
    none(&bins, &rows(&[("returns_outside", &|_| 0.009)]));

    let healthy = rows(&[]);
    let worse = Rows {
        evaluations: vec![0.0, 100.0, 40.0],
        returns: (0..50).map(|i| f64::from(i % 5) + 98.0).collect(),
        ..rows(&[])
    };
    assert!(only(&s, &worse).contains("returns 40.0000, the last 20 training episodes 100.0000"));
    none(&s, &Rows { evaluations: vec![0.0, 100.0, 140.0], ..worse });
    none(&s, &healthy);
    assert!(
        only(&s, &Rows { returns: vec![], ..healthy }).contains("no training episode ended in 1000 steps")
    );
}

#[test]
fn short_runs_are_not_judged_by_their_metrics() {
    let mut short = rows(&[("kl", &|_| 2.0), ("action_std", &|i| (-i).exp())]);
    short.train.values_mut().for_each(|column| column.truncate(FEW - 1));
    none(&settings("ppo", &[]), &short);
}

/// A real training; the warnings of its result.
fn trained(agent: &str, set: &[(&str, toml::Value)], steps: u64) -> Vec<String> {
    let mut settings = settings(agent, set);
    let overrides = settings.options.clone();
    settings.options = resolve(agent, &settings.env, "default", &[&overrides]).unwrap();
    settings.steps = steps;
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("run");
    let conduct = Conduct {
        threads: 1,
        checkpoint_every: Duration::from_secs(60),
        resume: false,
        claimed: false,
        command: String::new(),
        profile: false,
    };
    let outcome = run(&settings, &place, &conduct, &mut |_| ControlFlow::Continue(())).unwrap();
    let Outcome::Finished(result) = outcome else { panic!() };
    assert_eq!(crate::train::read_result(&place).unwrap().unwrap().warnings, result.warnings);
    result.warnings
}

#[test]
fn real_trainings_say_what_went_wrong() {
    let small = |horizon: i64, num_envs: i64| -> Vec<(&'static str, toml::Value)> {
        let hidden = toml::Value::Array(vec![8.into()]);
        vec![("horizon", horizon.into()), ("num_envs", num_envs.into()), ("hidden", hidden)]
    };
    // Eight copies take 128 steps each of an episode's 200.
    let found = trained("ppo", &small(64, 8), 1024);
    assert!(found.len() == 1 && found[0].contains("no training episode ended in 1024 steps"), "{found:?}");
    // A learning rate that throws the policy far away at every iteration.
    let wild = [&small(64, 4)[..], &[("learning_rate", 1.0.into())]].concat();
    let found = trained("ppo", &wild, 256 * 16);
    assert!(found.iter().any(|w| w.contains("the policy moves too far")), "{found:?}");
    let healthy = trained("ppo", &small(256, 4), 1024 * 12);
    assert_eq!(healthy, Vec::<String>::new());
}
