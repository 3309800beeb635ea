//! Every registered task passes the conformance checks, under a name of its own.

use std::collections::BTreeSet;

use steadfast_envs::{REGISTRY, check, entry, make};

#[test]
fn every_registered_task_passes_every_check() {
    let mut failures = Vec::new();
    for entry in REGISTRY {
        for result in check::check(&entry.make) {
            if let Err(why) = result.outcome {
                failures.push(format!("{}: {}: {why}", entry.id, result.name));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn the_registry_is_consistent() {
    let ids: BTreeSet<_> = REGISTRY.iter().map(|e| e.id).collect();
    assert_eq!(ids.len(), REGISTRY.len(), "two tasks have the same name");
    for entry in REGISTRY {
        assert_eq!((entry.make)().spec().id, entry.id);
        assert!(!entry.summary.is_empty() && entry.summary.len() <= 90, "{}", entry.id);
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest() {
    let message = make("pendulum").err().unwrap().to_string();
    assert!(message.contains("'pendulum'") && message.contains("'Pendulum-v1'"), "{message}");
    assert!(entry("CartPole-v1").is_ok());
}
