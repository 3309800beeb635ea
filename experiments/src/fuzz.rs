//! Readers on damaged input: whatever a file holds, reading it ends in a value or in one clear error, soon, and never in a
//! panic.
//!
//! Each test damages real files for a second; `STEADFAST_FUZZ_SECONDS=600 cargo test fuzz` does so for ten minutes a
//! reader. Damage is drawn from a fixed stream, so that a failure comes again; the input that caused it is kept in a file that the
//! message names; it belongs into a test beside the reader.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::RngExt;
use steadfast_agents::Replay;
use steadfast_agents::core::replay::Transition;
use steadfast_envs::rng::stream;
use steadfast_envs::state::Array;
use steadfast_envs::{Purpose, Rng, State, VecEnv};

use crate::settings::RunSettings;
use crate::suite::Overrides;
use crate::sweep::plan::Manifest;
use crate::{checkpoint, plot, suite, summary, train};

/// Longest that one damaged file may keep a reader.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pieces of text that readers may stumble over.
const TOKENS: [&str; 28] = [
    "",
    "\n",
    "\r\n",
    "\"",
    "'",
    ",",
    ";",
    "#",
    "{",
    "}",
    "[",
    "]",
    "=",
    "\u{feff}",
    "\u{0}",
    "é",
    "-1",
    "0",
    "1e999",
    "-1e-999",
    "NaN",
    "inf",
    "18446744073709551616",
    "9223372036854775807",
    "0.5",
    "true",
    "null",
    "1..3",
];

/// Damages `bytes` in one to eight places.
fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.random_range(1..=8) {
        let at = rng.random_range(0..=bytes.len());
        let end = (at + rng.random_range(0..=16)).min(bytes.len());
        match rng.random_range(0..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let copy = bytes[at..end].to_vec();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, copy);
            }
            5 => number(bytes, rng),
            _ => {
                let token = TOKENS[rng.random_range(0..TOKENS.len())];
                bytes.splice(at..end, token.bytes());
            }
        }
    }
}

/// Replaces a number of a text by another.
fn number(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let digit = |i: &usize| bytes[*i].is_ascii_digit();
    let starts: Vec<usize> = (0..bytes.len()).filter(|i| digit(i) && (*i == 0 || !digit(&(i - 1)))).collect();
    if starts.is_empty() {
        return;
    }
    let start = starts[rng.random_range(0..starts.len())];
    let end = (start..bytes.len()).find(|i| !digit(i)).unwrap_or(bytes.len());
    let token = TOKENS[rng.random_range(16..TOKENS.len())];
    bytes.splice(start..end, token.bytes());
}

/// Reads copies of `files` with [`damage`] for a second, each under the name that stands beside it.
fn fuzz(reader: &str, files: &[(String, Vec<u8>)], read: impl Fn(&Path) -> Result<()>) {
    fuzz_with(damage, reader, files, read);
}

fn fuzz_with(
    damage: impl Fn(&mut Vec<u8>, &mut Rng),
    reader: &str,
    files: &[(String, Vec<u8>)],
    read: impl Fn(&Path) -> Result<()>,
) {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| read(&path)));
        let problem = match &outcome {
            Err(_) => Some("a panic".to_owned()),
            Ok(Err(error)) if format!("{error:#}").trim().is_empty() => {
                Some("an error without text".to_owned())
            }
            _ if start.elapsed() > PATIENCE => Some(format!("{:?}", start.elapsed())),
            _ => None,
        };
        if let Some(problem) = problem {
            let kept = std::env::temp_dir().join(format!("steadfast-fuzz-{reader}"));
            std::fs::write(&kept, bytes).unwrap();
            panic!("{reader}: {problem} on the input that is now in {}", kept.display());
        }
        outcome.unwrap()
    };
    for (name, bytes) in files {
        check(name, bytes).unwrap_or_else(|e| panic!("{reader} does not read {name} undamaged: {e:#}"));
    }
    let seconds = std::env::var("STEADFAST_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut rng = stream(0, Purpose::Check, 0);
    let (start, mut good, mut bad) = (Instant::now(), 0u64, 0u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        let (name, bytes) = &files[rng.random_range(0..files.len())];
        let mut bytes = bytes.clone();
        damage(&mut bytes, &mut rng);
        match check(name, &bytes) {
            Ok(()) => good += 1,
            Err(_) => bad += 1,
        }
    }
    println!("{reader}: {good} damaged files were read, {bad} refused");
    assert!(bad > 0, "damage must show");
}

fn file(name: &str, text: &str) -> (String, Vec<u8>) {
    (name.to_owned(), text.as_bytes().to_vec())
}

#[test]
fn manifests() {
    let text = |name| Manifest::plan(&suite::load(name).unwrap(), &Overrides::default()).unwrap().to_text();
    let files: Vec<_> =
        ["smoke", "sac-vs-mdpo", "spread"].map(|name| file("manifest.jsonl", &text(name).unwrap())).into();
    fuzz("manifest", &files, |path| Manifest::read(path).map(|_| ()));
}

#[test]
fn suites() {
    let vary = "title = 'Search'\nseeds = '0..2'\n[search]\nmethod = 'random'\nsamples = 3\n[[agents]]\nname = 'ppo'\nvary = { \
                learning_rate = { from = 1e-4, to = 1e-2, log = true, points = 3 }, clip = [0.1, 0.2] }\n[[envs]]\nid = \
                'CartPole-v1'\nsteps = 2048\n";
    let built_in = |name: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("suites").join(name);
        ("suite.toml".to_owned(), std::fs::read(path).unwrap())
    };
    let files = [
        file("suite.toml", vary),
        built_in("smoke.toml"),
        built_in("hyperbolic.toml"),
        built_in("sac-vs-mdpo.toml"),
    ];
    fuzz("suite", &files, |path| {
        let suite = suite::load(path.to_str().unwrap())?;
        Manifest::plan(&suite, &Overrides::default()).map(|_| ())
    });
}

#[test]
fn tables() {
    let reference = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../results/reference");
    let ours = std::fs::read(reference.join("sac-vs-mdpo/eval.csv")).unwrap();
    let start: Vec<u8> = ours.split_inclusive(|b| *b == b'\n').take(60).flatten().copied().collect();
    fuzz("table", &[("eval.csv".to_owned(), start)], |path| {
        draw(path).and(summary::summarise(&[path.to_owned()]).map(|_| ()))
    });
}

#[test]
fn foreign_logs() {
    let monitor = "#{\"t_start\": 1759.3, \"env_id\": \"CartPole-v1\"}\nr,l,t\n21.0,21,0.31\n500.0,500,1.9\n13,13,2.5\n";
    let episodes = "r,l,t\n21.0,21,0.31\n500.0,500,1.9\n";
    let long = "global_step,charts/episodic_return,exp_name,env_id,seed\n100,21.5,ppo,CartPole-v1,1\n\
                200,30,ppo,CartPole-v1,1\n";
    let progress =
        "time/total_timesteps,eval/mean_reward,rollout/ep_rew_mean\n1000,12.5,11\n2000,,19.5\n3000,20,\n";
    let files = [
        file("ppo/0.monitor.csv", monitor),
        file("ppo/1.monitor.csv", episodes),
        file("long.csv", long),
        file("PPO/CartPole-v1_3/progress.csv", progress),
    ];
    fuzz("log", &files, draw);
}

/// Reads the curves of a file, and draws them.
fn draw(path: &Path) -> Result<()> {
    let options = plot::Options::default();
    let (curves, _) = plot::curves(&[path.to_owned()], &options)?;
    plot::write(&path.with_extension("svg"), &curves, &options)
}

#[test]
fn scores() {
    let text = include_str!("../scores.toml");
    fuzz("scores", &[file("scores.toml", text)], |path| summary::across::scales(Some(path)).map(|_| ()));
}

/// The settings of a small run.
fn settings(agent: &str, env: &str, options: &str) -> RunSettings {
    let suite = format!(
        "title = 'Fuzz'\nseeds = '1'\n[[agents]]\nname = '{agent}'\nset = {{ {options} }}\n[[envs]]\nid = '{env}'\nsteps = 2048\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fuzz.toml");
    std::fs::write(&path, suite).unwrap();
    let suite = suite::load(path.to_str().unwrap()).unwrap();
    suite.cells(&Overrides { device: "cpu".to_owned(), ..Overrides::default() }).unwrap().remove(0)
}

#[test]
fn records_of_runs() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings("ppo", "CartPole-v1", "horizon = 64, num_envs = 2");
    let run = folder.path().join("run");
    let conduct = train::Conduct {
        threads: 1,
        checkpoint_every: Duration::from_secs(60),
        resume: false,
        claimed: false,
        command: "steadfast train".to_owned(),
        profile: false,
    };
    train::run(&settings, &run, &conduct, &mut |_| ControlFlow::Continue(())).unwrap();
    let files =
        ["run.toml", "result.json"].map(|name| (name.to_owned(), std::fs::read(run.join(name)).unwrap()));
    fuzz("record", &files, |path| match path.extension().and_then(|e| e.to_str()) {
        Some("toml") => {
            train::read_settings(path.parent().unwrap()).and_then(|s| train::build(&s)).map(|_| ())
        }
        _ => train::read_result(path.parent().unwrap()).map(|_| ()),
    });
}

/// Checkpoints with damaged bytes, and sound files with damaged contents.
#[test]
fn checkpoints() {
    for (agent, env, options) in [
        ("ppo", "CartPole-v1", "hidden = [4], num_envs = 2, normalize_obs = true, normalize_reward = true"),
        ("sac", "Pendulum-v1", "hidden = [4], buffer = 300"),
        ("matrl", "particle/spread", "hidden = [4], num_envs = 2"),
    ] {
        let settings = settings(agent, env, options);
        let fresh = || {
            let (agent, make) = train::build(&settings).unwrap();
            let envs = VecEnv::new(&make, agent.num_envs(), 1, Purpose::Env, 1);
            (agent, envs)
        };
        let (agent, envs) = fresh();
        let mut state = agent.save();
        state.put_state("envs", envs.save());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        checkpoint::save(&path, &state).unwrap();
        let files = [("state.safetensors".to_owned(), std::fs::read(&path).unwrap())];
        let read = |path: &Path| {
            let state = checkpoint::load(path)?;
            let (mut agent, mut envs) = fresh();
            agent.load(&state)?;
            envs.load(&state.state("envs"))?;
            Ok(())
        };
        fuzz(&format!("checkpoint-{}", settings.agent), &files, read);
        fuzz_with(contents, &format!("state-{}", settings.agent), &files, read);
    }
}

#[test]
fn replay_buffers() {
    const STORED: u64 = 250;
    let empty = || Replay::new(100, 3, 1).unwrap();
    let mut replay = empty();
    for i in 0..STORED {
        let x = [i as f32; 3];
        let terminated = i.is_multiple_of(7);
        let t = Transition { obs: &x, action: &x[..1], rewards: &x[..1], next_obs: &x, terminated };
        replay.push(&t);
    }
    let folder = tempfile::tempdir().unwrap();
    checkpoint::save_replay(folder.path(), &replay, 0).unwrap();
    let files: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
        .collect();
    let read = |path: &Path| {
        let mut replay = empty();
        replay.expect(STORED);
        checkpoint::load_replay(path.parent().unwrap(), &mut replay)
    };
    fuzz("replay", &files, read);
    fuzz_with(contents, "replay-contents", &files, read);
}

/// Damages what a checkpoint holds, and writes it as a sound file.
fn contents(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    std::fs::write(&path, &*bytes).unwrap();
    checkpoint::save(&path, &other_contents(&checkpoint::load(&path).unwrap(), rng)).unwrap();
    *bytes = std::fs::read(&path).unwrap();
}

/// `state` with one entry that is gone, longer, shorter, of another type, or holds other numbers.
fn other_contents(state: &State, rng: &mut Rng) -> State {
    let chosen = rng.random_range(0..state.iter().count());
    let how = rng.random_range(0..6);
    let number = [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 1e18][rng.random_range(0..6)];
    let mut other = State::new();
    for (i, (name, array)) in state.iter().enumerate() {
        let numbers: Vec<f64> = match array {
            Array::F32(_, v) => v.iter().map(|x| f64::from(*x)).collect(),
            Array::F64(v) => v.clone(),
            Array::U64(v) => v.iter().map(|x| *x as f64).collect(),
        };
        let changed = match (i == chosen, how, array) {
            (false, ..) => array.clone(),
            (_, 0, _) => continue,
            (_, 1, _) => Array::F64(numbers),
            (_, 2, _) => Array::F32(vec![0], Vec::new()),
            (_, 3, Array::U64(v)) => Array::U64(v.iter().copied().chain([7]).collect()),
            (_, _, Array::U64(v)) => Array::U64(v.iter().map(|_| number as u64).collect()),
            (_, 3, Array::F64(v)) => Array::F64(v.iter().copied().chain([7.0]).collect()),
            (_, _, Array::F64(v)) => Array::F64(v.iter().map(|_| number).collect()),
            (_, 3, Array::F32(_, v)) => Array::F32(vec![v.len() + 1], [&v[..], &[7.0]].concat()),
            (_, 4, Array::F32(shape, v)) => Array::F32(shape.iter().rev().copied().collect(), v.clone()),
            (_, _, Array::F32(shape, v)) => Array::F32(shape.clone(), vec![number as f32; v.len()]),
        };
        other.put(name, changed);
    }
    other
}
