//! Golden values: what three iterations with fixed settings report on the CPU.
//!
//! A failure means that numbers have moved. If that was intended, copy the printed rows and say so in
//! CHANGELOG.md under "Changes to numbers"; results of the suites that it moves must be made anew.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{build, is_off_policy, learners, options, plays, takes_heads};
use steadfast_agents::{Device, Entry};

/// Agent, task, and after the third iteration: policy loss, value loss, KL divergence, entropy.
const GOLDEN: &[(&str, &str, [f64; 4])] = &[
    ("ppo", "CartPole-v1", [-0.01223388, 0.4137891, 0.0009545136, 0.686709]),
    ("ppo", "Pendulum-v1", [-0.003285552, 0.2914626, 0.0002659191, 1.408375]),
    ("trpo", "CartPole-v1", [-0.02922846, 0.3251839, 0.007603932, 0.6499293]),
    ("trpo", "Pendulum-v1", [-0.03056842, 0.3070116, 0.008771101, 1.333515]),
    ("mdpo", "CartPole-v1", [-0.0014378, 0.6111843, 0.000125829, 0.6917823]),
    ("mdpo", "Pendulum-v1", [-0.0012078, 0.3150546, 0.000059210, 1.4118377]),
    ("sac", "Pendulum-v1", [0.0608018, 21.2496004, 0.0, 0.6482584]),
    ("hyperpp", "CartPole-v1", [-0.0012531, 1.2395096, 0.000045076, 0.6902215]),
    ("hyperpp", "Pendulum-v1", [-0.0014645, 0.3210283, 0.000033344, 1.4151351]),
    ("dqn", "CartPole-v1", [0.0, 0.3597621, 0.0, 0.0]),
    ("mdpo_off", "Pendulum-v1", [0.1971607, 15.5556865, 0.01504489, 0.6091818]),
    ("ippo", "CartPole-v1", [-0.0015084, 0.5916467, 0.000098903, 0.6921765]),
    ("ippo", "Pendulum-v1", [-0.0009429, 0.3055368, 0.000037986, 1.4126902]),
    ("mappo", "CartPole-v1", [-0.0015084, 0.5916467, 0.000098903, 0.6921765]),
    ("mappo", "Pendulum-v1", [-0.0009429, 0.3055368, 0.000037986, 1.4126902]),
    ("itrpo", "CartPole-v1", [-0.0292289, 0.3251840, 0.007603935, 0.6499293]),
    ("itrpo", "Pendulum-v1", [-0.0305693, 0.3070116, 0.008771120, 1.3335149]),
    ("hatrpo", "CartPole-v1", [-0.0292289, 0.3251840, 0.007603935, 0.6499293]),
    ("hatrpo", "Pendulum-v1", [-0.0305693, 0.3070116, 0.008771120, 1.3335149]),
    ("happo", "CartPole-v1", [-0.0015084, 0.5916467, 0.000098903, 0.6921765]),
    ("happo", "Pendulum-v1", [-0.0009429, 0.3055368, 0.000037986, 1.4126902]),
    ("matrl", "CartPole-v1", [-0.0292289, 0.3251840, 0.007603935, 0.6499293]),
    ("matrl", "Pendulum-v1", [-0.0305693, 0.3070116, 0.008771120, 1.3335149]),
    ("ga_matr", "CartPole-v1", [-0.0197799, 0.3075658, 0.006735723, 0.6415072]),
    ("ga_matr", "Pendulum-v1", [-0.0376080, 0.1429232, 0.008153766, 1.2643354]),
    ("ga_matr", "particle/spread", [-0.0352880, 0.5179102, 0.004732706, 1.6013930]),
    ("maddpg", "CartPole-v1", [-1.7689028, 0.0136475, 0.000000000, 0.0000000]),
    ("maddpg", "Pendulum-v1", [10.0282301, 0.3648300, 0.000000000, 0.0000000]),
    ("maddpg", "particle/spread", [2.0293509, 0.0222700, 0.000000000, 0.0000000]),
    ("ippo", "particle/spread", [-0.0023584, 1.2153599, 0.000030458, 1.6092704]),
    ("mappo", "particle/spread", [-0.0019036, 1.0590531, 0.000032698, 1.6092544]),
    ("itrpo", "particle/spread", [-0.0583133, 1.1022868, 0.005665920, 1.5892066]),
    ("hatrpo", "particle/spread", [-0.0496249, 0.8706663, 0.005628449, 1.5928393]),
    ("happo", "particle/spread", [-0.0019145, 1.0590531, 0.000033057, 1.6092540]),
    ("matrl", "particle/spread", [-0.0488167, 0.9409224, 0.005660919, 1.5854600]),
];

/// The same with hyperbolic heads.
const HYPERBOLIC: &[(&str, &str, [f64; 4])] = &[
    ("ppo", "CartPole-v1", [-0.0085172, 2.0791259, 0.000218771, 0.6881838]),
    ("ppo", "Pendulum-v1", [-0.0031346, 0.3012724, 0.000219728, 1.4062507]),
    ("trpo", "CartPole-v1", [-0.0228684, 1.7771944, 0.003675960, 0.6688257]),
    ("trpo", "Pendulum-v1", [-0.0260959, 0.3040830, 0.008330210, 1.2847521]),
    ("mdpo", "CartPole-v1", [-0.0045445, 2.1889480, 0.000066620, 0.6887919]),
    ("mdpo", "Pendulum-v1", [-0.0012240, 0.3208264, 0.000058098, 1.4113998]),
];

#[test]
fn three_iterations_report_what_they_always_did() {
    reports(learners(), "", GOLDEN);
    reports(learners().filter(|e| takes_heads(e)), "heads = 'hyperpp'\nfeatures = 8", HYPERBOLIC);
}

fn reports(entries: impl Iterator<Item = &'static Entry>, heads: &str, golden: &[(&str, &str, [f64; 4])]) {
    let mut moved = Vec::new();
    for entry in entries {
        for env in
            ["CartPole-v1", "Pendulum-v1", "particle/spread"].into_iter().filter(|env| plays(entry, env))
        {
            let own = match entry.name {
                "maddpg" => "buffer = 1000\nminibatch = 32\nlearning_starts = 100\ntrain_every = 1",
                _ if is_off_policy(entry) => "buffer = 1000\nminibatch = 32\nlearning_starts = 100",
                _ => "normalize_obs = true\nnormalize_reward = true",
            };
            let text = format!("num_envs = 2\nhorizon = 64\nhidden = [16]\n{own}\n{heads}");
            let (mut agent, mut envs) =
                build(entry, env, &options(entry, &text), 0, 10 * 128, Device::cpu(), 1);
            for _ in 0..2 {
                agent.iterate(&mut envs).unwrap();
            }
            let m = agent.iterate(&mut envs).unwrap();
            // Agents without a divergence report none.
            let found = [m.policy_loss, m.value_loss, m.kl, m.entropy].map(|x| x.unwrap_or(0.0));
            let golden = golden.iter().find(|row| (row.0, row.1) == (entry.name, env));
            // Relative to the value; KL divergences are small differences of numbers of order one.
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * b.abs().max(1e-3);
            if !golden.is_some_and(|row| found.iter().zip(row.2).all(|(a, b)| close(*a, b))) {
                let [a, b, c, d] = found;
                moved.push(format!("    ({:?}, {env:?}, [{a:.7}, {b:.7}, {c:.9}, {d:.7}]),", entry.name));
            }
        }
    }
    assert!(moved.is_empty(), "changes to numbers; found now:\n{}", moved.join("\n"));
}
