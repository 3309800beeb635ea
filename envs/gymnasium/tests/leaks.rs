//! Memory, in a process of its own.

#![cfg(all(feature = "embed", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Played, made};

/// 1 000 environments made and closed, each by a maker of its own: resident memory stays where it is.
#[test]
fn nothing_leaks() {
    let cycle = |times: usize| {
        for _ in 0..times {
            Played::new(&made("CartPole-v1", &[]).unwrap()).step(0.0);
        }
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
        pages as f64 * 4096.0 / 1e6
    };
    let before = cycle(100);
    let after = cycle(1000);
    assert!(after - before < 4.0, "{before} MB before, {after} MB after");
}
