//! What a run is, resolved: agent default < preset < suite file < `--set key=value`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use steadfast_agents::{config, entry as agent_entry};
use steadfast_envs::{Maker, nearest};
use toml::{Table, Value};

/// The presets that come with the binary: agent name and file.
const PRESETS: &[(&str, &str)] = &[
    ("random", include_str!("../presets/random.toml")),
    ("comparator", include_str!("../presets/comparator.toml")),
    ("ppo", include_str!("../presets/ppo.toml")),
    ("trpo", include_str!("../presets/trpo.toml")),
    ("mdpo", include_str!("../presets/mdpo.toml")),
    ("sac", include_str!("../presets/sac.toml")),
    ("mdpo_off", include_str!("../presets/mdpo_off.toml")),
    ("ippo", include_str!("../presets/ippo.toml")),
    ("mappo", include_str!("../presets/mappo.toml")),
    ("itrpo", include_str!("../presets/itrpo.toml")),
    ("hatrpo", include_str!("../presets/hatrpo.toml")),
    ("happo", include_str!("../presets/happo.toml")),
    ("matrl", include_str!("../presets/matrl.toml")),
    ("ga_matr", include_str!("../presets/ga_matr.toml")),
    ("maddpg", include_str!("../presets/maddpg.toml")),
    ("hyperpp", include_str!("../presets/hyperpp.toml")),
    ("dqn", include_str!("../presets/dqn.toml")),
];

/// Everything that determines a run's results, and the names under which they are filed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSettings {
    /// Name of the agent in rows, tables and figures: the algorithm, and the preset where it matters.
    pub label: String,
    /// Registered algorithm.
    pub agent: String,
    /// Preset whose values `options` start from.
    pub preset: String,
    /// Registered environment, or one of Gymnasium's behind [`GYMNASIUM`].
    pub env: String,
    /// Run seed.
    pub seed: u64,
    /// Environment steps of training.
    pub steps: u64,
    /// Evaluations after the first one at step 0, evenly spaced; the last is at `steps`.
    pub evaluations: u64,
    /// Episodes of an evaluation.
    pub eval_episodes: usize,
    /// Episodes of the last evaluation.
    pub final_episodes: usize,
    /// `cpu` or `wgpu`.
    pub device: String,
    /// All options of the environment, as they are given on the command line; empty for one without options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env_options: BTreeMap<String, String>,
    /// Options of the environment, over those, on which every evaluation is done a second time: levels held out, say. Empty
    /// for one evaluation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub eval_env_options: BTreeMap<String, String>,
    /// All options of the agent.
    pub options: Table,
}

/// What the names of Gymnasium's environments begin with.
pub const GYMNASIUM: &str = "gymnasium:";

/// Largest seed: TOML knows no larger whole number.
const LARGEST_SEED: u64 = i64::MAX as u64;

/// Most episodes of one evaluation: all of them are played at once.
pub const MOST_EPISODES: usize = 100_000;

/// Largest whole number of an option: all of them count something.
const LARGEST_COUNT: i64 = 1_000_000_000;

/// Most seeds of a sweep.
const MOST_SEEDS: u64 = 100_000;

impl RunSettings {
    /// Checks everything but the agent's options, which the agent checks.
    ///
    /// # Errors
    /// Names the first setting that is out of range.
    pub fn validate(&self) -> Result<()> {
        // Labels become folder names.
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.+=".contains(c);
        if self.label.is_empty() || self.label.starts_with('.') || !self.label.chars().all(fine) {
            bail!(
                "label '{}' must consist of letters, digits, '-', '_', '.', '+' and '=', and not begin with '.'",
                self.label
            );
        }
        if self.seed > LARGEST_SEED {
            bail!("seed {} is above {LARGEST_SEED}", self.seed);
        }
        if self.steps == 0 {
            bail!("steps must be at least 1");
        }
        if !(1..=self.steps).contains(&self.evaluations) {
            bail!(
                "evaluations must be between 1 and the number of steps ({}), got {}",
                self.steps,
                self.evaluations
            );
        }
        for (key, n) in [("eval_episodes", self.eval_episodes), ("final_episodes", self.final_episodes)] {
            if !(1..=MOST_EPISODES).contains(&n) {
                bail!("{key} must be between 1 and {MOST_EPISODES}, got {n}");
            }
        }
        Ok(())
    }

    /// The environment's name in rows of the second evaluation: `ENV+key=value`; none without one.
    pub fn second_env(&self) -> Option<String> {
        let pairs = self.eval_env_options.iter().map(|(key, value)| format!("+{key}={value}"));
        (!self.eval_env_options.is_empty()).then(|| self.env.clone() + &pairs.collect::<String>())
    }

    /// All options of the environment of the second evaluation.
    ///
    /// # Errors
    /// For an option that the environment does not have.
    pub fn second_env_options(&self) -> Result<BTreeMap<String, String>> {
        let mut given = self.env_options.clone();
        given.extend(self.eval_env_options.clone());
        let text = |(key, value): (String, String)| (key, Value::String(value));
        resolve_env(&self.env, &given.into_iter().map(text).collect())
    }

    /// The first setting in which two runs differ.
    pub fn difference(found: &Self, wanted: &Self) -> String {
        let tables = (Table::try_from(found), Table::try_from(wanted));
        let (Ok(found), Ok(wanted)) = tables else { return "other settings".to_owned() };
        fn first(found: &Table, wanted: &Table) -> Option<String> {
            let changed = wanted.iter().find_map(|(key, new)| match (found.get(key), new) {
                (Some(old), new) if old == new => None,
                (Some(Value::Table(old)), Value::Table(new)) => first(old, new),
                (Some(old), new) => Some(format!("{key} = {old} there, {new} here")),
                (None, new) => Some(format!("no {key} there, {new} here")),
            });
            let dropped = || found.iter().find(|(key, _)| !wanted.contains_key(*key));
            changed.or_else(|| dropped().map(|(key, old)| format!("{key} = {old} there, none here")))
        }
        first(&found, &wanted).unwrap_or_else(|| "other settings".to_owned())
    }

    /// Step of the i-th evaluation, i from 0 to `evaluations`.
    pub fn grid(&self, i: u64) -> u64 {
        (u128::from(self.steps) * u128::from(i) / u128::from(self.evaluations.max(1))) as u64
    }
}

/// What rows and figures call an agent, unless they are told: its name, and the preset where it matters.
pub fn label(agent: &str, preset: &str) -> String {
    if preset == "default" { agent.to_owned() } else { format!("{agent}-{preset}") }
}

/// The name of Gymnasium's environment `env` behind the Python module that registers it.
///
/// # Errors
/// For an environment that is not Gymnasium's.
pub fn gymnasium_from(module: &str, env: &str) -> Result<String> {
    match env.strip_prefix(GYMNASIUM) {
        Some(id) => Ok(format!("{GYMNASIUM}{module}:{id}")),
        None => bail!("--gymnasium-import goes with --env {GYMNASIUM}ID, not with '{env}'"),
    }
}

/// Sets the number of processes that run Gymnasium's environments from now on; 0 runs them in this one.
pub fn set_gymnasium_workers(workers: usize) {
    #[cfg(feature = "python")]
    steadfast_gymnasium::set_workers(workers);
    #[cfg(not(feature = "python"))]
    let _ = workers;
}

/// Names of an agent's presets.
///
/// # Errors
/// When the agent has no preset file, or a malformed one.
pub fn presets(agent: &str) -> Result<Vec<String>> {
    Ok(preset_file(agent)?.into_iter().map(|(name, _)| name).collect())
}

/// All options of `agent` for `env`: defaults, then the preset's values for any environment, then those for this one,
/// then `layers` in order.
///
/// # Errors
/// For an unknown agent, preset or option, and for a value of the wrong type.
pub fn resolve(agent: &str, env: &str, preset: &str, layers: &[&Table]) -> Result<Table> {
    let entry = agent_entry(agent)?;
    let mut options = (entry.defaults)();
    let file = preset_file(agent)?;
    let Some((_, environments)) = file.iter().find(|(name, _)| name == preset) else {
        let names: Vec<&str> = file.iter().map(|(name, _)| name.as_str()).collect();
        let near = nearest(preset, names.iter().copied()).unwrap_or_default();
        bail!(
            "agent '{agent}' has no preset '{preset}'; did you mean '{near}'? It has: {}",
            names.join(", ")
        );
    };
    // Gymnasium's own Pendulum-v1 is tuned as ours is.
    for key in ["any", env.strip_prefix(GYMNASIUM).unwrap_or(env)] {
        if let Some(values) = environments.get(key) {
            let values =
                values.as_table().ok_or_else(|| anyhow!("preset '{preset}.{key}' of {agent} is no table"))?;
            config::merge(&mut options, values)
                .with_context(|| format!("preset '{preset}' of {agent} for {key}"))?;
        }
    }
    for layer in layers {
        config::merge(&mut options, layer).with_context(|| format!("agent '{agent}'"))?;
    }
    for (key, value) in &options {
        let bad = |what: &str| anyhow!("agent '{agent}': option '{key}': must be {what}, got {value}");
        match value {
            // No option means anything there, and JSON cannot hold it.
            Value::Float(x) if !x.is_finite() => return Err(bad("a finite number")),
            // Products of two of them still fit into 64 bits.
            Value::Integer(n) if *n > LARGEST_COUNT => return Err(bad("at most 1e9")),
            _ => {}
        }
    }
    Ok(options)
}

/// All options of `env`: its defaults, then `given`; for one of Gymnasium's only `given`, which it checks when it is
/// made.
///
/// # Errors
/// For an unknown environment or option, and for a value that the option does not take.
pub fn resolve_env(env: &str, given: &Table) -> Result<BTreeMap<String, String>> {
    let given = texts(given);
    if env.starts_with(GYMNASIUM) {
        return Ok(given);
    }
    let given: Vec<(&str, &str)> = given.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let options = (steadfast_envs::entry(env)?.options)(&given)?;
    Ok(options.into_iter().map(|o| (o.key.to_owned(), o.value)).collect())
}

/// The environment that a run in whose rows `env` stands was trained on ([`RunSettings::second_env`]).
pub fn trained_on(env: &str) -> &str {
    env.split('+').next().unwrap_or(env)
}

/// Options as they are given: values as text.
pub fn texts(given: &Table) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    given.iter().map(|(key, value)| (key.clone(), text(value))).collect()
}

/// The constructor of `env` with `options`.
///
/// # Errors
/// As [`resolve_env`], and for an environment of Gymnasium that cannot be made.
pub fn env_maker(env: &str, options: &BTreeMap<String, String>) -> Result<Maker> {
    if let Some(name) = env.strip_prefix(GYMNASIUM) {
        return gymnasium(name, options);
    }
    let given: Vec<(&str, &str)> =
        options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    Ok((steadfast_envs::entry(env)?.maker)(&given)?)
}

#[cfg(feature = "python")]
fn gymnasium(name: &str, options: &BTreeMap<String, String>) -> Result<Maker> {
    Ok(steadfast_gymnasium::maker(name, options)?)
}

#[cfg(not(feature = "python"))]
fn gymnasium(name: &str, _: &BTreeMap<String, String>) -> Result<Maker> {
    bail!(
        "{GYMNASIUM}{name} needs a build with Python: `cargo install --path experiments --features gymnasium`, and \
         `pip install gymnasium` in the active environment"
    )
}

fn preset_file(agent: &str) -> Result<Vec<(String, Table)>> {
    let (_, text) = PRESETS
        .iter()
        .find(|(name, _)| *name == agent)
        .ok_or_else(|| anyhow!("agent '{agent}' has no preset file"))?;
    let table: Table = text.parse().with_context(|| format!("presets of {agent}"))?;
    let named = |(name, value): (String, Value)| match value {
        Value::Table(environments) => Ok((name, environments)),
        _ => Err(anyhow!("presets of {agent}: '{name}' is no table")),
    };
    table.into_iter().map(named).collect()
}

/// A table of `key=value` assignments.
///
/// # Errors
/// When one has no `=`.
pub fn assignments(texts: &[String]) -> Result<Table> {
    Ok(texts.iter().map(|t| config::assignment(t)).collect::<Result<Table, _>>()?)
}

/// A step count: `200000`, `200_000`, `200k`, `1.5M`.
///
/// # Errors
/// When it is none, or not a positive whole number.
pub fn step_count(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let (number, scale) = match digits.chars().last() {
        Some('k' | 'K') => (&digits[..digits.len() - 1], 1e3),
        Some('m' | 'M') => (&digits[..digits.len() - 1], 1e6),
        Some('g' | 'G' | 'b' | 'B') => (&digits[..digits.len() - 1], 1e9),
        _ => (digits.as_str(), 1.0),
    };
    let unreadable = || format!("'{text}' is no step count such as 200000, 200k or 1M");
    let steps = number.parse::<f64>().map_err(|_| unreadable())? * scale;
    let whole = steps.round();
    if !(1.0..1e15).contains(&whole) {
        return Err(format!("must be between 1 and 1e15, got {text}"));
    }
    // 0.0011k is 1.1 steps; 1.1k is 1100 whatever the rounding.
    if (steps - whole).abs() > 1e-6 * whole { Err(unreadable()) } else { Ok(whole as u64) }
}

/// A whole number of at least 1.
///
/// # Errors
/// When it is none.
pub fn positive(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("must be a whole number of at least 1, got {text}")),
    }
}

/// A seed.
///
/// # Errors
/// When it is none.
pub fn seed(text: &str) -> Result<u64, String> {
    match text.trim().parse() {
        Ok(n) if n <= LARGEST_SEED => Ok(n),
        _ => Err(format!("'{text}' is no seed: a whole number from 0 to {LARGEST_SEED}")),
    }
}

/// Seeds: `3` is seeds 0, 1, 2; `0..5` excludes its end; `1,4,7` lists.
///
/// # Errors
/// When it is none of these, empty, very long, or names a seed twice.
pub fn seed_list(text: &str) -> Result<Vec<u64>, String> {
    let number = |t: &str| seed(t).map_err(|_| format!("'{text}' are no seeds such as 5, 0..5 or 1,4,7"));
    let range = |from: u64, to: u64| match to.saturating_sub(from) {
        0 => Err(format!("'{text}' names no seed")),
        n if n > MOST_SEEDS => Err(format!("'{text}' names {n} seeds; at most {MOST_SEEDS}")),
        _ => Ok((from..to).collect::<Vec<u64>>()),
    };
    if let Some((from, to)) = text.split_once("..") {
        return range(number(from)?, number(to)?);
    }
    if !text.contains(',') {
        return range(0, number(text)?);
    }
    let seeds = text.split(',').map(number).collect::<Result<Vec<u64>, _>>()?;
    let mut sorted = seeds.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|w| w[0] == w[1]) {
        Some(twice) => Err(format!("'{text}' names seed {} twice", twice[0])),
        None => Ok(seeds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_of_every_agent_builds_for_its_environments() {
        for (agent, _) in PRESETS {
            for (preset, environments) in preset_file(agent).unwrap() {
                for (env, _) in environments.iter().filter(|(env, _)| *env != "any") {
                    let env_spec = steadfast_envs::make(env).unwrap();
                    let options = resolve(agent, env, &preset, &[]).unwrap();
                    let setup = steadfast_agents::Setup {
                        spec: env_spec.spec(),
                        seed: 0,
                        total_steps: 1_000_000,
                        device: steadfast_agents::Device::named(steadfast_agents::Device::NAMES[0]).unwrap(),
                    };
                    if let Err(e) = (agent_entry(agent).unwrap().build)(&options, &setup) {
                        panic!("{agent} {preset} {env}: {e}");
                    }
                }
                assert!(resolve(agent, "any", &preset, &[]).is_ok());
            }
        }
    }

    #[test]
    fn layers_apply_in_order() {
        let low = assignments(&["gamma=0.5".into(), "epochs=3".into()]).unwrap();
        let high = assignments(&["gamma=0.6".into()]).unwrap();
        let options = resolve("ppo", "Pendulum-v1", "sb3", &[&low, &high]).unwrap();
        assert_eq!(options["gamma"].as_float(), Some(0.6));
        assert_eq!(options["epochs"].as_integer(), Some(3));
        let error = resolve("ppo", "Pendulum-v1", "sb4", &[]).unwrap_err().to_string();
        assert!(error.contains("did you mean 'sb3'"), "{error}");
    }

    #[test]
    fn env_options_are_complete_and_checked() {
        let given = assignments(&[
            "ctrl_cost_weight=1".into(),
            "profile=mujoco-3.3".into(),
            "healthy_z_range=[0.3, inf]".into(),
        ]);
        let options = resolve_env("Ant-v5", &given.unwrap()).unwrap();
        assert_eq!(options["ctrl_cost_weight"], "1.0");
        assert_eq!(options["profile"], "mujoco-3.3");
        assert_eq!(options["healthy_z_range"], "[0.3, inf]");
        assert_eq!(options["frame_skip"], "5");
        assert!(env_maker("Ant-v5", &options).is_ok());
        assert!(resolve_env("CartPole-v1", &Table::new()).unwrap().is_empty());
        let error = |env: &str, text: &str| {
            let given = assignments(&[text.to_owned()]).unwrap();
            format!("{:#}", resolve_env(env, &given).unwrap_err())
        };
        assert!(error("Ant-v5", "ctrl_cost=1").contains("did you mean 'ctrl_cost_weight'"));
        assert!(error("Ant-v5", "profile=mujoco-2").contains("takes mujoco-4.0 or mujoco-3.3"));
        assert!(error("CartPole-v1", "gravity=1").contains("has no options"));
    }

    #[test]
    fn environments_of_gymnasium_keep_their_options_as_given() {
        let given = assignments(&["g=9.5".into(), "mode=fast".into(), "wide=true".into()]).unwrap();
        let options = resolve_env("gymnasium:Pendulum-v1", &given).unwrap();
        assert_eq!((&*options["g"], &*options["mode"], &*options["wide"]), ("9.5", "fast", "true"));
        assert_eq!(
            gymnasium_from("ale_py", "gymnasium:ALE/Pong-v5").unwrap(),
            "gymnasium:ale_py:ALE/Pong-v5"
        );
        assert!(gymnasium_from("ale_py", "Pendulum-v1").is_err());
        let ours = resolve("ppo", "Pendulum-v1", "default", &[]).unwrap();
        assert_eq!(resolve("ppo", "gymnasium:Pendulum-v1", "default", &[]).unwrap(), ours);
        #[cfg(not(feature = "python"))]
        {
            let error = env_maker("gymnasium:Pendulum-v1", &options).err().unwrap().to_string();
            assert!(error.contains("--features gymnasium") && error.contains("pip install"), "{error}");
        }
    }

    #[test]
    fn step_counts_and_seeds_are_read_as_people_write_them() {
        assert_eq!(step_count("200k"), Ok(200_000));
        assert_eq!(step_count("1.5M"), Ok(1_500_000));
        assert_eq!(step_count("10_000"), Ok(10_000));
        assert_eq!(step_count("1.1k"), Ok(1100));
        for bad in ["-5", "0", "many", "", "k", "1.5", "0.0011k", "nan", "inf", "1e15", "1e300"] {
            assert!(step_count(bad).is_err(), "{bad}");
        }
        assert_eq!(seed_list("3"), Ok(vec![0, 1, 2]));
        assert_eq!(seed_list("2..4"), Ok(vec![2, 3]));
        assert_eq!(seed_list("1,4"), Ok(vec![1, 4]));
        for bad in ["5..5", "7..5", "x", "", "0", "-1", "1,1", "1,,2", "99999999999", "9223372036854775808"] {
            assert!(seed_list(bad).is_err(), "{bad}");
        }
    }
}
