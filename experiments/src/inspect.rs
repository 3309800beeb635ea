//! Looking at what there is: agents, environments, suites; checking and stepping an environment.

use std::io::{BufRead, Write, stdin, stdout};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value, json};
use steadfast_agents::docs;
use steadfast_envs::rng::{self, Purpose};
use steadfast_envs::state::Array;
use steadfast_envs::{Env, State, StateError, gromov};

use crate::{settings, suite};

/// All agents, or the page of one.
///
/// # Errors
/// For an unknown name.
pub fn agents(name: Option<&str>, as_json: bool) -> Result<String> {
    let page = |e: &steadfast_agents::Entry| -> Result<Value> {
        let defaults = (e.defaults)();
        let options: Vec<Value> = docs::options(e.source)
            .into_iter()
            .map(|(key, doc)| json!({ "key": key, "default": defaults.get(&key), "doc": doc }))
            .collect();
        let presets = settings::presets(e.name)?;
        let summary = docs::summary(e.source);
        Ok(json!({ "name": e.name, "summary": summary, "presets": presets, "options": options,
                   "header": docs::header(e.source) }))
    };
    let Some(name) = name else {
        if as_json {
            let all: Vec<Value> = steadfast_agents::REGISTRY.iter().map(page).collect::<Result<_>>()?;
            return pretty(&Value::Array(all));
        }
        let lines = steadfast_agents::REGISTRY.iter().map(|e| {
            let presets = settings::presets(e.name)?.join(", ");
            Ok(format!("{:8} {}  [presets: {presets}]\n", e.name, docs::summary(e.source)))
        });
        return lines.collect();
    };
    let entry = steadfast_agents::entry(name)?;
    if as_json {
        return pretty(&page(entry)?);
    }
    let defaults = (entry.defaults)();
    let mut text = format!("{}\n\nOptions (--set key=value):\n\n", docs::header(entry.source));
    for (key, doc) in docs::options(entry.source) {
        let default = defaults.get(&key).map(ToString::to_string).unwrap_or_default();
        text += &format!("  {key} = {default}\n      {doc}\n");
    }
    text += &format!("\nPresets: {}\n", settings::presets(name)?.join(", "));
    Ok(text)
}

/// All environments, or the page of one.
///
/// # Errors
/// For an unknown name.
pub fn envs(name: Option<&str>, as_json: bool) -> Result<String> {
    let page = |e: &steadfast_envs::Entry| {
        let env = (e.make)();
        let spec = env.spec();
        let agents: Vec<Value> = spec
            .agents
            .iter()
            .map(|a| json!({ "name": a.name, "obs": a.obs.to_string(), "action": a.action.to_string() }))
            .collect();
        let options: Vec<Value> = (e.options)(&[])
            .unwrap_or_default()
            .iter()
            .map(|o| json!({ "key": o.key, "default": o.value, "takes": o.takes, "doc": o.doc }))
            .collect();
        json!({ "id": e.id, "summary": e.summary, "agents": agents, "max_steps": spec.max_steps,
                "reward_threshold": spec.reward_threshold, "options": options, "geometry": geometry(env.as_ref()) })
    };
    let Some(name) = name else {
        if as_json {
            return pretty(&steadfast_envs::REGISTRY.iter().map(page).collect());
        }
        let line = |e: &steadfast_envs::Entry| {
            let env = (e.make)();
            // Of several agents the first one's spaces; the task's own page has all.
            let (agent, others) = (&env.spec().agents[0], env.spec().agents.len() - 1);
            let action = match others {
                0 => agent.action.to_string(),
                n => format!("{}, {n} more", agent.action),
            };
            format!("{:26} {:9} {action:23} {}\n", e.id, agent.obs.to_string(), e.summary)
        };
        return Ok(steadfast_envs::REGISTRY.iter().map(line).collect());
    };
    let entry = steadfast_envs::entry(name)?;
    if as_json {
        return pretty(&page(entry));
    }
    let env = (entry.make)();
    let spec = env.spec();
    let mut text = format!("{}: {}\n", entry.id, entry.summary);
    for agent in &spec.agents {
        text += &format!("{}: observation {}, action {}\n", agent.name, agent.obs, agent.action);
        for (what, space) in [("observation", &agent.obs), ("action", &agent.action)] {
            let bounds = space.bounds();
            let runs = bounds.chunk_by(|a, b| a == b).map(|run| match (run[0], run.len()) {
                ((low, high), 1) => format!("[{low}, {high}]"),
                ((low, high), n) => format!("{n} x [{low}, {high}]"),
            });
            text += &format!("  {what} bounds: {}\n", runs.collect::<Vec<_>>().join(" "));
        }
    }
    let or_none = |x: Option<String>| x.unwrap_or_else(|| "none".to_owned());
    text += &format!("time limit: {}\n", or_none(spec.max_steps.map(|n| format!("{n} steps"))));
    text +=
        &format!("solved from a mean return of: {}\n", or_none(spec.reward_threshold.map(|r| r.to_string())));
    if !env.comparators().is_empty() {
        text += &format!("comparators: {}\n", env.comparators().join(", "));
    }
    if let Some(g) = geometry(env.as_ref()) {
        let number = |key: &str| g[key].as_f64().unwrap_or(f64::NAN);
        let some =
            if g["points"] == g["states"] { String::new() } else { format!(", of {} of them", g["points"]) };
        text += &format!(
            "states of the first level: {}; Gromov's delta {}, relative to the diameter (2 delta / {}) {:.3}{some}\n",
            g["states"],
            number("delta"),
            number("diameter"),
            number("delta_rel")
        );
    }
    let options = (entry.options)(&[]).unwrap_or_default();
    if !options.is_empty() {
        text += "\nOptions (--env-set key=value):\n\n";
    }
    for o in options {
        text += &format!("  {} = {}\n      {} Takes {}.\n", o.key, o.value, o.doc, o.takes);
    }
    Ok(text)
}

/// How far from a tree the states of a task's present level are, of a task that tells: Gromov's δ, δ_rel = 2 δ / diameter,
/// and the diameter, of the `points` that were looked at.
fn geometry(env: &dyn Env) -> Option<Value> {
    let graph = env.state_graph()?;
    let measured = gromov::of_graph(&graph, &mut rng::stream(0, Purpose::Check, 0))?;
    Some(json!({ "states": graph.len(), "points": measured.points, "diameter": measured.diameter,
                 "delta": measured.delta, "delta_rel": measured.relative() }))
}

/// All suites, or the cells of one.
///
/// # Errors
/// For an unknown name.
pub fn suites(name: Option<&str>, as_json: bool) -> Result<String> {
    let page = |s: &suite::Suite| {
        let agents: Vec<Value> = s
            .agents
            .iter()
            .map(|a| json!({ "name": a.name, "label": a.label, "preset": a.preset, "set": a.set, "vary": a.vary }))
            .collect();
        let envs: Vec<Value> = s
            .envs
            .iter()
            .map(|e| json!({ "id": e.id, "steps": e.steps, "set": e.set, "vary": e.vary }))
            .collect();
        json!({ "name": s.name, "title": s.title, "seeds": s.seeds, "evaluations": s.evaluations,
                "eval_episodes": s.eval_episodes, "final_episodes": s.final_episodes, "agents": agents, "envs": envs })
    };
    let chosen = match name {
        Some(name) => vec![suite::load(name)?],
        None => suite::built_in()?,
    };
    if as_json {
        let mut pages: Vec<Value> = chosen.iter().map(page).collect();
        return if name.is_some() { pretty(&pages.swap_remove(0)) } else { pretty(&Value::Array(pages)) };
    }
    let mut text = String::new();
    for s in &chosen {
        text += &format!("{:20} {}\n", s.name, s.title);
        if name.is_some() {
            for a in &s.agents {
                let label = a.label.as_deref().unwrap_or(&a.name);
                text += &format!(
                    "  agent {label}: {}, preset {}{}\n",
                    a.name,
                    a.preset,
                    set(&a.set) + &varied(&a.vary)
                );
            }
            for e in &s.envs {
                text += &format!("  env {}: {} steps{}\n", e.id, e.steps, set(&e.set) + &varied(&e.vary));
            }
            text += &format!(
                "  seeds {}; {} evaluations of {} episodes, the last of {}\n",
                s.seeds, s.evaluations, s.eval_episodes, s.final_episodes
            );
        }
    }
    Ok(text)
}

fn set(table: &toml::Table) -> String {
    let items: Vec<String> = table.iter().map(|(k, v)| format!("{k}={v}")).collect();
    if items.is_empty() { String::new() } else { format!(", {}", items.join(" ")) }
}

fn varied(table: &toml::Table) -> String {
    if table.is_empty() { String::new() } else { format!(", varied{}", set(table).trim_start_matches(',')) }
}

fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Runs the conformance checks on one environment, or on all.
///
/// # Errors
/// For an unknown name.
pub fn check(name: &str) -> Result<ExitCode> {
    let chosen: Vec<&str> = match name {
        "all" => steadfast_envs::REGISTRY.iter().map(|entry| entry.id).collect(),
        _ => vec![name],
    };
    let mut failed = 0;
    for id in chosen {
        let make = settings::env_maker(id, &settings::resolve_env(id, &toml::Table::new())?)?;
        for result in steadfast_envs::check::check(&make) {
            let line = match &result.outcome {
                Ok(()) => format!("ok      {id} {}\n", result.name),
                Err(why) => {
                    failed += 1;
                    format!("FAILED  {id} {}: {why}\n", result.name)
                }
            };
            crate::cli::print(&line)?;
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Steps an environment from injected states: JSON lines in, JSON lines out.
///
/// # Errors
/// For an unknown environment or option of it, and for a line that is no state and action of it, by line number.
pub fn step(name: &str, options: &toml::Table) -> Result<ExitCode> {
    let mut env = settings::env_maker(name, &settings::resolve_env(name, options)?)?();
    let mut out = stdout().lock();
    for (i, line) in stdin().lock().lines().enumerate() {
        let line = line.with_context(|| format!("standard input, line {}", i + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        let answer =
            step_line(env.as_mut(), &line).with_context(|| format!("standard input, line {}", i + 1))?;
        match writeln!(out, "{answer}") {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => break,
            written => written.context("cannot print")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn step_line(env: &mut dyn Env, line: &str) -> Result<Value> {
    let object: Map<String, Value> = serde_json::from_str(line)
        .map_err(|e| anyhow!("not a JSON object such as {{\"state\": [..], \"action\": [..]}}: {e}"))?;
    let numbers = |key: &str, value: &Value| -> Result<Vec<f64>> {
        let items = match value {
            Value::Array(items) => items.clone(),
            Value::Number(_) => vec![value.clone()],
            _ => bail!("'{key}' must be a list of numbers"),
        };
        items
            .iter()
            .map(|v| {
                v.as_f64()
                    .filter(|x| x.is_finite())
                    .ok_or_else(|| anyhow!("'{key}' holds {v}, no finite number"))
            })
            .collect()
    };
    let spec = env.spec().clone();
    let action = numbers("action", object.get("action").ok_or_else(|| anyhow!("'action' is missing"))?)?;
    if action.len() != spec.action_len() {
        bail!("'action' has {} numbers, {} takes {}", action.len(), spec.id, spec.action_len());
    }
    // What the environment saves tells which keys there are, and which of them count.
    let mut template = State::new();
    env.save(&mut template);
    let mut state = State::new();
    for (key, array) in template.iter() {
        // What may be left out, the environment knows.
        let Some(given) = object.get(key) else { continue };
        let values = numbers(key, given)?;
        match array {
            Array::F64(_) => state.put_f64(key, &values),
            Array::F32(..) => state.put_f32(key, &values.iter().map(|x| *x as f32).collect::<Vec<_>>()),
            Array::U64(_) => state.put_u64(key, &values.iter().map(|x| *x as u64).collect::<Vec<_>>()),
        }
    }
    if let Some(key) = object.keys().find(|k| *k != "action" && !template.contains(k)) {
        let keys: Vec<&str> = template.iter().map(|(k, _)| k).collect();
        bail!("unknown key '{key}'; {} has: {}, action", spec.id, keys.join(", "));
    }
    env.load(&state).map_err(|error| match error {
        StateError::Missing(key) => anyhow!("'{key}' is missing"),
        error => anyhow!("not a state of {}: {error}", spec.id),
    })?;

    let mut clipped = vec![0.0; action.len()];
    spec.clip(&action, &mut clipped);
    let (mut obs, mut rewards) = (vec![0.0f32; spec.obs_len()], vec![0.0f64; spec.agents.len()]);
    let terminated = env.step(&clipped, &mut rng::stream(0, Purpose::Check, 0), &mut obs, &mut rewards);
    let mut after = State::new();
    env.save(&mut after);
    let mut answer = Map::new();
    for (key, array) in after.iter() {
        let value = match array {
            Array::F64(v) => json!(v),
            Array::F32(_, v) => json!(v),
            Array::U64(v) => json!(v),
        };
        answer.insert(key.to_owned(), value);
    }
    answer.insert("obs".to_owned(), env.precise_obs().map_or_else(|| json!(obs), |obs| json!(obs)));
    let reward = if rewards.len() == 1 { json!(rewards[0]) } else { json!(rewards) };
    answer.insert("reward".to_owned(), reward);
    answer.insert("terminated".to_owned(), json!(terminated));
    Ok(Value::Object(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_keeps_full_precision_both_ways() {
        let mut env = steadfast_envs::make("Pendulum-v1").unwrap();
        let answer =
            step_line(env.as_mut(), r#"{"state": [0.1234567890123456, -0.7], "action": [0.3]}"#).unwrap();
        let theta_dot = -0.7 + (15.0 * 0.1234567890123456f64.sin() + 3.0 * 0.3) * 0.05;
        let got = answer["state"][1].as_f64().unwrap();
        assert!((got - theta_dot).abs() < 1e-15, "{got}");
    }

    #[test]
    fn a_robot_goes_on_from_what_a_step_prints() {
        let make = || settings::env_maker("Ant-v5", &settings::resolve_env("Ant-v5", &toml::Table::new())?);
        let (mut env, mut other) = (make().unwrap()(), make().unwrap()());
        let (qpos, zeros) =
            ([0.0, 0.0, 0.6, 1.0, 0.1, 0.0, 0.0, 0.1, 0.6, 0.0, -0.6, 0.0, -0.6, 0.2, 0.6], [0.0; 14]);
        let action = [0.5; 8];
        let line = json!({ "qpos": qpos, "qvel": zeros, "qacc_warmstart": zeros, "action": action });
        let mut answer = step_line(env.as_mut(), &line.to_string()).unwrap();
        assert_eq!(answer["obs"].as_array().unwrap().len(), 105);
        assert_eq!(answer["obs"][0], answer["qpos"][2], "in full precision");
        let again = json!({ "qpos": answer["qpos"], "qvel": answer["qvel"], "place": answer["place"],
                            "qacc_warmstart": answer["qacc_warmstart"], "action": action });
        answer = step_line(other.as_mut(), &again.to_string()).unwrap();
        let (mut obs, mut reward) = (vec![0.0; 105], [0.0]);
        env.step(&action, &mut rng::stream(0, Purpose::Check, 0), &mut obs, &mut reward);
        assert_eq!(answer["reward"], json!(reward[0]));
        let missing =
            step_line(other.as_mut(), r#"{"qpos": [0], "action": [0, 0, 0, 0, 0, 0, 0, 0]}"#).unwrap_err();
        assert!(format!("{missing:#}").contains("'qpos'"), "{missing:#}");
    }

    #[test]
    fn bad_lines_are_named() {
        let mut env = steadfast_envs::make("Pendulum-v1").unwrap();
        let mut error = |line: &str| format!("{:#}", step_line(env.as_mut(), line).unwrap_err());
        assert!(error("[1]").contains("not a JSON object"));
        assert!(error(r#"{"state": [1, 2]}"#).contains("'action' is missing"));
        assert!(error(r#"{"state": [1], "action": [0]}"#).contains("state"));
        assert!(error(r#"{"state": [1, "x"], "action": [0]}"#).contains("no finite number"));
        assert!(error(r#"{"state": [1, 2], "action": [0, 0]}"#).contains("takes 1"));
        assert!(error(r#"{"state": [1, 2], "qpos": [], "action": [0]}"#).contains("unknown key 'qpos'"));
    }
}
