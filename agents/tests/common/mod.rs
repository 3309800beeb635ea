//! What the integration tests share.
#![allow(dead_code, reason = "each test file uses its part")]

use steadfast_agents::{Agent, Device, Entry, REGISTRY, Setup, config};
use steadfast_envs::{Purpose, State, VecEnv, make};
use toml::Table;

/// The agents that learn.
pub fn learners() -> impl Iterator<Item = &'static Entry> {
    REGISTRY.iter().filter(|e| !["random", "comparator"].contains(&e.name))
}

/// Whether the agent replays experience.
pub fn is_off_policy(entry: &Entry) -> bool {
    (entry.defaults)().contains_key("buffer")
}

/// Whether the agent is one for several players: its networks compute on slices alone.
pub fn is_joint(entry: &Entry) -> bool {
    ["ippo", "mappo", "itrpo", "hatrpo", "happo", "matrl", "ga_matr", "maddpg"].contains(&entry.name)
}

/// Whether the agent can act in the task.
pub fn plays(entry: &Entry, env: &str) -> bool {
    let task = make(env).unwrap();
    let setup = Setup { spec: task.spec(), seed: 0, total_steps: 1_000_000, device: Device::cpu() };
    (entry.build)(&options(entry, if is_off_policy(entry) { "buffer = 1500" } else { "" }), &setup).is_ok()
}

/// Whether the agent's networks compute on tensors, too.
pub fn on_tensors(entry: &Entry) -> bool {
    !is_joint(entry) && entry.name != "dqn"
}

/// Whether what follows the agent's hidden layers is a choice.
pub fn takes_heads(entry: &Entry) -> bool {
    (entry.defaults)().contains_key("heads")
}

/// Loads what `from` saved, its replay buffer included.
pub fn load(agent: &mut dyn Agent, state: &State, replay: Option<&State>) {
    agent.load(state).unwrap();
    if let (Some(to), Some(replay)) = (agent.replay_mut(), replay) {
        to.restore(replay).unwrap();
        assert!(to.is_complete());
    }
}

/// All that the agent's replay buffer holds.
pub fn replay(agent: &dyn Agent) -> Option<State> {
    agent.replay().map(|replay| replay.piece(replay.oldest(), replay.stored()))
}

/// The agent's default options with those of `text`, in TOML, over them.
pub fn options(entry: &Entry, text: &str) -> Table {
    let mut table = (entry.defaults)();
    set(&mut table, text);
    table
}

/// Sets the options of `text`, in TOML.
pub fn set(table: &mut Table, text: &str) {
    config::merge(table, &text.parse().unwrap()).unwrap();
}

/// An agent and the environments that it asks for.
pub fn build(
    entry: &Entry,
    env: &str,
    options: &Table,
    seed: u64,
    total_steps: u64,
    device: Device,
    threads: usize,
) -> (Box<dyn Agent>, VecEnv) {
    let make_env = || make(env).unwrap();
    let sample = make_env();
    let setup = Setup { spec: sample.spec(), seed, total_steps, device };
    let agent = (entry.build)(options, &setup).unwrap_or_else(|e| panic!("{} on {env}: {e}", entry.name));
    let envs = VecEnv::new(&make_env, agent.num_envs(), seed, Purpose::Env, threads);
    (agent, envs)
}
