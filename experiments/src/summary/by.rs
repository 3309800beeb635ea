//! Runs of a hyperparameter search, grouped by some of the keys that their labels carry (`ppo+learning_rate=0.0003+clip=0.2`).

use std::cmp::Ordering;
use std::collections::BTreeSet;

use anyhow::{Result, bail};
use steadfast_envs::nearest;

use super::read::Run;

/// What a label says: the agent, and the values of its keys.
pub fn parts(label: &str) -> (String, Vec<(&str, &str)>) {
    let (settings, names): (Vec<&str>, Vec<&str>) = label.split('+').partition(|part| part.contains('='));
    (names.join("+"), settings.into_iter().filter_map(|part| part.split_once('=')).collect())
}

/// Takes all keys but `keys` from the labels of `runs`, so that runs which differ in the others alone are one agent's; sorted by
/// environment, agent, and the values of `keys` in their order.
///
/// # Errors
/// For a key that no label has.
pub fn regroup(runs: &mut Vec<Run>, keys: &[String]) -> Result<()> {
    let known: BTreeSet<String> =
        runs.iter().flat_map(|run| parts(&run.agent).1).map(|(key, _)| key.to_owned()).collect();
    if let Some(key) = keys.iter().find(|key| !known.contains(*key)) {
        match nearest(key, known.iter().map(String::as_str)) {
            Some(near) => bail!("no agent here varies '{key}'; did you mean '{near}'?"),
            None => bail!("no agent here varies '{key}', or anything else"),
        }
    }
    let mut all: Vec<(String, Vec<String>, Run)> = Vec::with_capacity(runs.len());
    for mut run in runs.drain(..) {
        let (name, settings) = parts(&run.agent);
        let value = |key: &String| {
            settings.iter().find(|(k, _)| k == key).map_or(String::new(), |(_, value)| (*value).to_owned())
        };
        let values: Vec<String> = keys.iter().map(value).collect();
        let mut label = name.clone();
        for (key, value) in keys.iter().zip(&values).filter(|(_, value)| !value.is_empty()) {
            label += &format!("+{key}={value}");
        }
        run.agent = label;
        all.push((name, values, run));
    }
    all.sort_by(|a, b| {
        let values = || a.1.iter().zip(&b.1).map(|(x, y)| compare(x, y)).find(|o| o.is_ne());
        a.2.env
            .cmp(&b.2.env)
            .then_with(|| a.0.cmp(&b.0))
            .then_with(|| values().unwrap_or(Ordering::Equal))
            .then_with(|| a.2.seed.cmp(&b.2.seed))
    });
    runs.extend(all.into_iter().map(|(_, _, run)| run));
    Ok(())
}

/// Numbers by size, everything else by its letters.
fn compare(a: &str, b: &str) -> Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        _ => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_keys_are_pooled_and_numbers_sorted_by_size() {
        let run = |agent: &str, seed| Run { env: "E".into(), agent: agent.into(), seed, ..Run::default() };
        let mut runs = vec![
            run("ppo+lr=1e-5+clip=0.2", 0),
            run("ppo+lr=0.01+clip=0.2", 0),
            run("ppo+lr=1e-5+clip=0.1", 0),
            run("ppo+lr=0.003+clip=0.1", 1),
            run("ppo+new", 0),
        ];
        let agents = |keys: &[&str], mut runs: Vec<Run>| {
            let keys: Vec<String> = keys.iter().map(|k| (*k).to_owned()).collect();
            regroup(&mut runs, &keys).map(|()| runs.into_iter().map(|run| run.agent).collect::<Vec<_>>())
        };
        assert_eq!(
            agents(&["lr"], runs.clone()).unwrap(),
            ["ppo+lr=1e-5", "ppo+lr=1e-5", "ppo+lr=0.003", "ppo+lr=0.01", "ppo+new"]
        );
        assert_eq!(
            agents(&["clip", "lr"], runs.clone()).unwrap()[..2],
            ["ppo+clip=0.1+lr=1e-5", "ppo+clip=0.1+lr=0.003"]
        );
        let error = |keys: &[&str], runs: Vec<Run>| agents(keys, runs).unwrap_err().to_string();
        assert!(error(&["clap"], runs.clone()).contains("did you mean 'clip'"));
        assert!(error(&["clip"], runs.split_off(4)).contains("or anything else"));
    }
}
