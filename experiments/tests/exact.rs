//! The promise of the file formats: same seed, same bytes, whatever the threads, kills and full disks.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{SMALL, call, determined, seen, steadfast, succeed};

const AGENTS: [&str; 6] = ["random", "ppo", "trpo", "mdpo", "sac", "mdpo_off"];

/// A training of `agent` with everything on that carries state from one iteration to the next.
fn training<'a>(agent: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args =
        vec!["train", "--agent", agent, "--env", "Pendulum-v1", "--steps", "12800", "--out", "out"];
    args.extend(["--evaluations", "10", "--eval-episodes", "3", "--final-episodes", "5"]);
    args.extend(&SMALL[..4]);
    if agent != "random" {
        args.extend(&SMALL[4..]);
        args.extend(["--set", "noise_correlation=0.5"]);
    }
    if ["sac", "mdpo_off"].contains(&agent) {
        // A buffer that is overwritten, twice.
        args.extend(["--set", "buffer=5000", "--set", "minibatch=16", "--set", "learning_starts=200"]);
        args.extend(["--set", "train_every=4"]);
    } else if agent != "random" {
        args.extend(["--set", "normalize_obs=true"]);
    }
    args.extend(more);
    args
}

fn run_folder(folder: &Path, agent: &str) -> PathBuf {
    folder.join("out").join(agent).join("Pendulum-v1/seed-0")
}

#[test]
fn the_seed_determines_every_file_whatever_the_threads() {
    for agent in AGENTS {
        let runs = ["1", "1", "2"].map(|threads| {
            let dir = tempfile::tempdir().unwrap();
            succeed(dir.path(), &training(agent, &["--quiet", "--threads", threads]));
            determined(&run_folder(dir.path(), agent))
        });
        assert_eq!(runs[0].len(), 3, "{agent}");
        assert!(runs[0] == runs[1], "{agent}: the same command twice");
        assert!(runs[0] == runs[2], "{agent}: one thread and two");
    }
}

/// Killed at twenty random moments, each time resumed: the files are those of a run that nothing disturbed.
#[test]
fn kills_leave_no_trace() {
    // The low bits of a linear congruential generator would repeat quickly: the high ones are used.
    let mut state = 20_061_116u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for agent in AGENTS.into_iter().skip(1) {
        let calm = tempfile::tempdir().unwrap();
        succeed(calm.path(), &training(agent, &["--quiet"]));
        let calm = determined(&run_folder(calm.path(), agent));
        let mut kills = 0;
        while kills < 20 {
            let dir = tempfile::tempdir().unwrap();
            let args = training(agent, &["--quiet", "--resume", "--checkpoint-every", "0"]);
            while kills < 20 {
                let mut child = steadfast(dir.path(), &args).spawn().unwrap();
                // Longer and longer, so that a slow machine gets somewhere, too.
                std::thread::sleep(Duration::from_millis(1 + random(40 + 10 * kills)));
                child.kill().unwrap();
                let status = child.wait().unwrap();
                if status.success() {
                    break;
                }
                assert_eq!(status.code(), None, "{agent}: only the kill may end it");
                kills += 1;
            }
            succeed(dir.path(), &args);
            assert!(determined(&run_folder(dir.path(), agent)) == calm, "{agent}, {kills} kills");
        }
    }
}

/// The same for a sweep whose process is killed together with its children, and for one asked to stop.
#[cfg(unix)]
#[test]
fn a_killed_sweep_goes_on() {
    let calm = tempfile::tempdir().unwrap();
    succeed(calm.path(), &["sweep", "run", "smoke", "--quiet"]);
    let calm = determined(&calm.path().join("results/smoke"));
    assert!(calm.len() > 3 * 8, "eight cells and what joins them");
    let dir = tempfile::tempdir().unwrap();
    for (signal, pause) in [("KILL", 150), ("TERM", 300), ("KILL", 600)] {
        let mut child = steadfast(dir.path(), &["sweep", "run", "smoke", "--quiet"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        std::process::Command::new("kill")
            .args([&format!("-{signal}"), &child.id().to_string()])
            .status()
            .unwrap();
        child.wait().unwrap();
    }
    // Children of a killed sweep notice, checkpoint and stop by themselves; the next sweep waits for them.
    succeed(dir.path(), &["sweep", "run", "smoke", "--quiet"]);
    assert!(determined(&dir.path().join("results/smoke")) == calm);
}

/// A disk that is full in the middle of a run: one clear error, and nothing lost but the time since the checkpoint.
#[cfg(unix)]
#[test]
fn a_full_disk_costs_no_more_than_the_work_since_the_checkpoint() {
    // A limit on file sizes, in blocks of 512 bytes, stands for the disk: writing fails in the same way. 16 blocks hold the
    // first rows of train.csv, 64 the first transitions of a replay buffer, not all of them.
    for (agent, blocks) in [("ppo", 16), ("sac", 64)] {
        let calm = tempfile::tempdir().unwrap();
        succeed(calm.path(), &training(agent, &["--quiet"]));
        let dir = tempfile::tempdir().unwrap();
        let args = training(agent, &["--quiet", "--resume", "--checkpoint-every", "0"]);
        let mut limited = std::process::Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        limited.current_dir(dir.path()).args(["-c", &script, "sh"]);
        limited.arg(env!("CARGO_BIN_EXE_steadfast")).args(&args);
        let (code, _, err) = seen(&limited.output().unwrap());
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("cannot write") && err.trim_end().lines().count() == 1, "{err}");
        if agent == "sac" {
            assert!(
                err.contains("replay")
                    && run_folder(dir.path(), agent).join("checkpoint/state.safetensors").exists()
            );
        }
        succeed(dir.path(), &args);
        let folder = |dir: &tempfile::TempDir| determined(&run_folder(dir.path(), agent));
        assert!(folder(&dir) == folder(&calm), "{agent}");
    }
}

/// `run.toml` names the command that repeats the run, `sweep cell`'s as well as `train`'s.
#[test]
fn the_recorded_command_repeats_the_run() {
    let dir = tempfile::tempdir().unwrap();
    succeed(dir.path(), &training("mdpo", &["--quiet", "--seed", "3", "--label", "mirror"]));
    succeed(dir.path(), &["sweep", "run", "smoke", "--quiet"]);
    for run in ["out/mirror/Pendulum-v1/seed-3", "results/smoke/ppo/CartPole-v1/seed-1"] {
        let text = std::fs::read_to_string(dir.path().join(run).join("run.toml")).unwrap();
        let file: toml::Table = text.parse().unwrap();
        let command = file["provenance"]["command"].as_str().unwrap();
        let again = tempfile::tempdir().unwrap();
        let script = command.replace(" --out out", "").replace(" --quiet", "");
        let script = script.replacen("steadfast", "\"$0\"", 1) + " --out again --quiet";
        let status = std::process::Command::new("sh")
            .current_dir(again.path())
            .args(["-c", &script, env!("CARGO_BIN_EXE_steadfast")])
            .status()
            .unwrap();
        assert!(status.success(), "{command}");
        let run = Path::new(run);
        let tail: PathBuf = run.components().skip(run.components().count() - 3).collect();
        assert!(
            determined(&dir.path().join(run)) == determined(&again.path().join("again").join(tail)),
            "{command}"
        );
    }
}

/// A finished run is left alone, and says so.
#[test]
fn a_finished_run_is_never_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let args = training("random", &[]);
    succeed(dir.path(), &args);
    let before = common::files(dir.path());
    let (code, out, _) = call(dir.path(), &args);
    assert_eq!(code, 0);
    assert!(out.starts_with("already done"), "{out}");
    assert!(common::files(dir.path()) == before);
}
