//! Sweeps among accidents: killed, hanging and failing cells, several parents, hosts that vanish, folders that refuse.
#![cfg(all(feature = "cpu", unix))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::{call, determined, refused, seen, steadfast, succeed};

/// Six cells of some hundred milliseconds each.
const SUITE: &str = "title = 'Tiny'
seeds = '2'
evaluations = 10
eval_episodes = 2
final_episodes = 2
agents = [
    { name = 'ppo', set = { horizon = 64, num_envs = 2, hidden = [16] } },
    { name = 'trpo', set = { horizon = 64, num_envs = 2, hidden = [16] } },
    { name = 'mdpo', set = { horizon = 64, num_envs = 2, hidden = [16] } },
]
envs = [{ id = 'Pendulum-v1', steps = 25600 }]
";

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tiny.toml"), SUITE).unwrap();
    dir
}

/// What comes out of a sweep that nothing disturbs.
fn calm() -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let dir = folder();
    succeed(dir.path(), &["sweep", "run", "tiny.toml", "--quiet"]);
    let files = determined(&dir.path().join("results/tiny"));
    assert_eq!(files.len(), 6 * 3 + 4);
    files
}

fn signal(pid: u32, name: &str) {
    Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
}

/// Folders in which somebody works, with what their leases say.
fn leases(sweep: &Path) -> Vec<(PathBuf, serde_json::Value)> {
    let agents = fs::read_dir(sweep).into_iter().flatten().flatten().map(|e| e.path());
    let envs = agents.flat_map(|a| fs::read_dir(a).into_iter().flatten().flatten().map(|e| e.path()));
    let cells = envs.flat_map(|a| fs::read_dir(a).into_iter().flatten().flatten().map(|e| e.path()));
    let lease = |cell: PathBuf| Some((fs::read(cell.join("lease.json")).ok()?, cell));
    cells.filter_map(lease).filter_map(|(l, cell)| Some((cell, serde_json::from_slice(&l).ok()?))).collect()
}

/// Waits until somebody works on a cell and has a checkpoint of it.
fn first_lease(sweep: &Path) -> (PathBuf, serde_json::Value) {
    let began = Instant::now();
    loop {
        let begun = |(part, _): &(PathBuf, serde_json::Value)| part.join("train.csv").exists();
        if let Some(found) = leases(sweep).into_iter().find(begun) {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "nobody works");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn start(dir: &Path, more: &[&str]) -> Child {
    let mut args = vec!["sweep", "run", "tiny.toml", "--quiet"];
    args.extend(more);
    steadfast(dir, &args).spawn().unwrap()
}

/// Cells and parents are killed at random moments; what they leave is finished, and equals what nothing disturbed.
#[test]
fn kills_of_cells_and_parents_leave_no_trace() {
    let calm = calm();
    let dir = folder();
    let sweep = dir.path().join("results/tiny");
    let mut state = 20_261_126u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..12 {
        let mut parent = start(dir.path(), &["--jobs", "2"]);
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(20 + random(60 + 10 * round)));
            for (_, lease) in leases(&sweep) {
                if random(2) == 0 {
                    signal(lease["pid"].as_u64().unwrap() as u32, "KILL");
                }
            }
        }
        parent.kill().unwrap();
        parent.wait().unwrap();
    }
    // The last try may still report a kill; the next one finds nothing wrong.
    let (code, _, err) = call(dir.path(), &["sweep", "run", "tiny.toml", "--quiet"]);
    assert!(code == 0 || err.contains("killed"), "{err}");
    succeed(dir.path(), &["sweep", "run", "tiny.toml", "--quiet"]);
    assert!(determined(&sweep) == calm);
    assert!(leases(&sweep).is_empty());
    assert!(succeed(dir.path(), &["sweep", "status", "tiny.toml"]).starts_with("6 done"));
}

/// Three parents on one folder share the cells: each is run once, and all of them end with the same files.
#[test]
fn several_parents_share_a_folder() {
    let calm = calm();
    let dir = folder();
    let parents: Vec<Child> = (0..3).map(|_| start(dir.path(), &["--jobs", "1"])).collect();
    for parent in parents {
        let (code, _, err) = seen(&parent.wait_with_output().unwrap());
        assert_eq!(code, 0, "{err}");
    }
    assert!(determined(&dir.path().join("results/tiny")) == calm);
}

/// A parent with other settings is refused while somebody works, and lets nothing be lost.
#[test]
fn another_plan_does_not_disturb_a_sweep_at_work() {
    let dir = folder();
    let mut parent = start(dir.path(), &["--jobs", "1"]);
    first_lease(&dir.path().join("results/tiny"));
    let more = ["sweep", "run", "tiny.toml", "--seeds", "3", "--quiet"];
    refused(dir.path(), &more, &["is at work in results/tiny on another plan"]);
    refused(dir.path(), &["sweep", "plan", "tiny.toml", "--seeds", "3"], &["holds another plan"]);
    assert!(parent.wait().unwrap().success());
    succeed(dir.path(), &more);
    assert!(succeed(dir.path(), &["sweep", "status", "tiny.toml"]).starts_with("9 done"));
    // Planning again is no change.
    succeed(dir.path(), &["sweep", "plan", "tiny.toml", "--seeds", "3"]);
    refused(
        dir.path(),
        &["sweep", "cell", "--manifest", "results/tiny/manifest.jsonl", "--index", "0", "--plan", "0123"],
        &["planned anew"],
    );
}

/// The leftovers of a host that has vanished: nobody holds a lock, its boot is not ours, its clock is years ahead.
#[test]
fn a_cell_of_a_vanished_host_is_taken_over_when_its_lease_is_void() {
    let calm = calm();
    let dir = folder();
    let sweep = dir.path().join("results/tiny");
    let mut parent = start(dir.path(), &["--jobs", "1"]);
    let (part, mut lease) = first_lease(&sweep);
    signal(lease["pid"].as_u64().unwrap() as u32, "KILL");
    parent.kill().unwrap();
    parent.wait().unwrap();
    for (part, _) in leases(&sweep) {
        (lease["machine"], lease["host"], lease["term_s"]) =
            ("another".into(), "vanished".into(), 1.5.into());
        fs::write(part.join("lease.json"), lease.to_string()).unwrap();
        let ahead = std::time::SystemTime::now() + Duration::from_secs(1 << 28);
        fs::File::options().write(true).open(part.join("lease.json")).unwrap().set_modified(ahead).unwrap();
    }
    assert!(part.exists());
    let status = succeed(dir.path(), &["sweep", "status", "results/tiny"]);
    assert!(status.contains("1 running") && status.contains("on vanished"), "{status}");
    let began = Instant::now();
    succeed(dir.path(), &["sweep", "run", "tiny.toml", "--quiet"]);
    assert!(began.elapsed() > Duration::from_millis(1500), "its lease was good");
    assert!(determined(&sweep) == calm);
    assert!(leases(&sweep).is_empty());
}

/// SIGTERM and SIGUSR1 stop a cell with the code that asks for another try, which goes on from there.
#[test]
fn a_cell_that_must_stop_asks_for_another_try() {
    let calm = calm();
    let dir = folder();
    let sweep = dir.path().join("results/tiny");
    assert_eq!(succeed(dir.path(), &["sweep", "plan", "tiny.toml"]), "results/tiny/manifest.jsonl\n");
    let cell = |i: usize| {
        let index = i.to_string();
        steadfast(
            dir.path(),
            &["sweep", "cell", "--manifest", "results/tiny/manifest.jsonl", "--index", &index],
        )
    };
    for (i, name) in ["USR1", "TERM"].into_iter().enumerate() {
        let child = cell(i).spawn().unwrap();
        first_lease(&sweep);
        signal(child.id(), name);
        let (code, _, err) = seen(&child.wait_with_output().unwrap());
        assert_eq!(code, 75, "{err}");
        assert!(err.contains("interrupted; try again"), "{err}");
        let status = succeed(dir.path(), &["sweep", "status", "tiny.toml"]);
        assert!(status.contains("1 stopped"), "{status}");
        assert!(cell(i).status().unwrap().success());
    }
    let again = cell(0).output().unwrap();
    assert!(seen(&again).1.starts_with("already done"));
    // Two tasks for the rest; the engine tells which.
    for task in ["1", "2"] {
        let mut task_of =
            steadfast(dir.path(), &["sweep", "cell", "--manifest", "results/tiny/manifest.jsonl"]);
        assert!(task_of.args(["--stride", "2"]).env("SGE_TASK_ID", task).status().unwrap().success());
    }
    succeed(dir.path(), &["sweep", "collect", "results/tiny"]);
    assert!(determined(&sweep) == calm);
}

/// A cell that hangs is ended, with a reason that the status shows; the others are run and joined.
#[test]
fn a_hanging_cell_is_ended_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    // One iteration of a million steps stands for a hang.
    let suite =
        SUITE.replace("steps = 25600", "steps = 2000000").replacen("horizon = 64", "horizon = 1000000", 1);
    fs::write(dir.path().join("tiny.toml"), suite.replace("'2'", "'1'")).unwrap();
    let only_fast = ["sweep", "run", "tiny.toml", "--timeout", "0.5"];
    let mut parent = steadfast(dir.path(), &only_fast).spawn().unwrap();
    let failed = dir.path().join("results/tiny/ppo/Pendulum-v1/seed-0.failed.json");
    let began = Instant::now();
    while !failed.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "it is never ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(parent.id(), "TERM");
    assert_eq!(parent.wait().unwrap().code(), Some(75));
    let status = succeed(dir.path(), &["sweep", "status", "tiny.toml"]);
    assert!(status.contains("1 failed") && status.contains("no iteration in 0.5 s (--timeout)"), "{status}");
    let json: serde_json::Value =
        serde_json::from_str(&succeed(dir.path(), &["sweep", "status", "tiny.toml", "--json"])).unwrap();
    let ppo = json.as_array().unwrap().iter().find(|c| c["agent"] == "ppo").unwrap();
    assert_eq!((ppo["state"].as_str(), ppo["steps"].as_u64()), (Some("failed"), Some(2_000_000)));
}

/// One clear message for each thing that cannot be read or written; the other cells are run.
#[test]
fn what_cannot_be_read_or_written_is_named_and_costs_nothing_else() {
    let dir = folder();
    let path = dir.path();
    refused(
        path,
        &["sweep", "run", "tiny.toml", "--out", "/proc/steadfast"],
        &["cannot create /proc/steadfast"],
    );
    refused(path, &["sweep", "status", "tiny.toml"], &["there is no sweep results/tiny"]);
    let calm = calm();
    let sweep = path.join("results/tiny");
    fs::create_dir_all(sweep.join("ppo/Pendulum-v1")).unwrap();
    fs::write(sweep.join("mdpo"), "in the way").unwrap();
    let (code, _, err) = call(path, &["sweep", "run", "tiny.toml"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("failed: mdpo Pendulum-v1 seed-0: cannot create"), "{err}");
    assert!(err.contains("2 of 6 cells failed"), "{err}");
    fs::remove_file(sweep.join("mdpo")).unwrap();
    // A result that no program wrote.
    let result = sweep.join("ppo/Pendulum-v1/seed-1/result.json");
    let good = fs::read(&result).unwrap();
    fs::write(&result, "{\"status\": \"do").unwrap();
    let (code, _, err) = call(path, &["sweep", "run", "tiny.toml"]);
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("failed: ppo Pendulum-v1 seed-1: ") && err.contains("result.json is malformed"),
        "{err}"
    );
    assert!(err.contains("1 of 6 cells failed"), "{err}");
    let status = succeed(path, &["sweep", "status", "tiny.toml"]);
    assert!(status.starts_with("5 done") && status.contains("result.json is malformed"), "{status}");
    fs::write(&result, good).unwrap();
    succeed(path, &["sweep", "run", "tiny.toml", "--quiet"]);
    assert!(determined(&sweep) == calm);
    assert!(succeed(path, &["sweep", "status", "tiny.toml", "--watch"]).starts_with("6 done, 0 diverged"));

    // A file that somebody has edited does not pass for the run's.
    let edited = sweep.join("ppo/Pendulum-v1/seed-1/eval.csv");
    let rows = fs::read_to_string(&edited).unwrap();
    fs::write(&edited, rows.replacen("-1", "-2", 1)).unwrap();
    refused(path, &["sweep", "collect", "tiny.toml"], &["seed-1/eval.csv was changed"]);
    fs::write(&edited, rows).unwrap();

    // Another version's cell is not mixed in unnoticed.
    let text = fs::read_to_string(&result).unwrap();
    let old = text.replace(env!("CARGO_PKG_VERSION"), "0.0.9");
    assert_ne!(text, old);
    fs::write(&result, old).unwrap();
    refused(path, &["sweep", "collect", "tiny.toml"], &["version 0.0.9", "--mixed"]);
    succeed(path, &["sweep", "collect", "tiny.toml", "--mixed"]);
}

/// Scripts that shells accept, that name the plan, and that Slurm gets.
/// A full disk, for which a limit on file sizes stands (blocks of 512 bytes): first every cell meets it, then the tables of the
/// sweep alone. Each is named once, and with room the same command goes on to the same files.
#[test]
fn a_full_disk_stops_cells_and_tables_and_spoils_nothing() {
    let dir = folder();
    let limited = |blocks: u32| {
        let mut command = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        command.current_dir(dir.path()).args(["-c", &script, "sh", env!("CARGO_BIN_EXE_steadfast")]);
        seen(&command.args(["sweep", "run", "tiny.toml", "--quiet"]).output().unwrap())
    };
    let (code, _, err) = limited(16);
    assert_eq!(code, 1, "{err}");
    assert_eq!(
        err.lines().filter(|l| l.starts_with("failed: ") && l.contains("cannot write")).count(),
        6,
        "{err}"
    );
    assert!(err.contains("6 of 6 cells failed; the same command tries them again"), "{err}");
    let (code, _, err) = limited(160);
    assert_eq!(code, 2, "{err}");
    assert!(
        err.starts_with("error: cannot write results/tiny/train.csv") && err.lines().count() == 1,
        "{err}"
    );
    succeed(dir.path(), &["sweep", "run", "tiny.toml", "--quiet"]);
    assert!(determined(&dir.path().join("results/tiny")) == calm());
}

#[test]
fn engines_get_scripts() {
    let dir = folder();
    let path = dir.path();
    succeed(path, &["sweep", "plan", "tiny.toml"]);
    let manifest = path.canonicalize().unwrap().join("results/tiny/manifest.jsonl");
    let emit = |more: &[&str]| succeed(path, &[&["sweep", "emit"], more].concat());
    for engine in ["slurm", "hyperqueue", "parallel"] {
        let script =
            emit(&[engine, "results/tiny", "--tasks", "4", "--option=--comment=a b", "--timeout", "60"]);
        let cell = format!("sweep cell --manifest {} --plan ", manifest.display());
        assert!(script.contains(&cell) && script.contains(" --stride 4 --timeout 60"), "{script}");
        assert!(script.contains("--comment=a b"), "{script}");
        let mut bash = Command::new("bash").arg("-n").stdin(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut bash.stdin.take().unwrap(), script.as_bytes()).unwrap();
        assert!(bash.wait().unwrap().success(), "{script}");
    }
    let slurm = emit(&["slurm", "tiny.toml", "--grace", "90", "--concurrent", "2"]);
    assert!(slurm.contains("#SBATCH --array=0-5%2\n") && slurm.contains("--signal=B:USR1@90\n"), "{slurm}");
    let job = emit(&["kubernetes", "tiny.toml", "--image", "registry/steadfast:1", "--claim", "disk"]);
    assert!(job.contains("completions: 6\n") && job.contains("values: [75]"), "{job}");
    refused(path, &["sweep", "emit", "kubernetes", "tiny.toml"], &["--image", "--claim"]);
    refused(path, &["sweep", "submit", "parallel", "tiny.toml"], &["sweep emit"]);

    // The script itself runs the cells, here with the numbers that Slurm would set and a cluster that never preempts.
    let tools = path.join("tools");
    fs::create_dir(&tools).unwrap();
    let sbatch = "#!/bin/bash\ncat > submitted.sh\nfor i in 0 1 2 3 4 5; do\n  SLURM_ARRAY_TASK_ID=$i bash submitted.sh >> log || \
                  exit 1\ndone\necho '4711;here'\n";
    fs::write(tools.join("sbatch"), sbatch).unwrap();
    fs::set_permissions(tools.join("sbatch"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let submit = |tools: &Path| {
        let paths = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        seen(
            &steadfast(path, &["sweep", "submit", "slurm", "tiny.toml"]).env("PATH", paths).output().unwrap(),
        )
    };
    assert_eq!(submit(&tools), (0, "4711\n".to_owned(), String::new()));
    succeed(path, &["sweep", "collect", "tiny.toml"]);
    assert!(determined(&path.join("results/tiny")) == calm());
    fs::write(tools.join("sbatch"), "#!/bin/bash\necho 'invalid partition' >&2\nexit 1\n").unwrap();
    let (code, _, err) = submit(&tools);
    assert!(code == 2 && err.contains("sbatch refuses") && err.contains("invalid partition"), "{err}");
}

/// A suite that varies options: one agent a point, in files, tables and figures.
#[test]
fn hyperparameters_are_searched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let suite = SUITE.replace("steps = 25600", "steps = 1280").replacen(
        "} },",
        "}, vary = { clip = [0.1, 0.2], learning_rate = { from = 1e-4, to = 1e-2, log = true } } },",
        1,
    );
    fs::write(path.join("tiny.toml"), format!("search = {{ method = 'sobol', samples = 4 }}\n{suite}"))
        .unwrap();
    let page = succeed(path, &["list", "suites", "tiny.toml"]);
    assert!(page.contains("varied clip=[0.1, 0.2] learning_rate="), "{page}");
    let plan = || succeed(path, &["sweep", "plan", "tiny.toml", "--print"]);
    assert_eq!(plan(), plan(), "the same points");
    succeed(path, &["sweep", "run", "tiny.toml", "--quiet"]);
    let eval = fs::read_to_string(path.join("results/tiny/eval.csv")).unwrap();
    assert_eq!(eval.lines().filter(|line| line.starts_with("ppo+clip=")).count(), 4 * 2 * 11);
    let by = succeed(path, &["summary", "results/tiny", "--by", "clip", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&by).unwrap();
    let ppo: Vec<_> = rows.as_array().unwrap().iter().filter(|r| r["agent"] == "ppo+clip=0.1").collect();
    assert_eq!((ppo.len(), ppo[0]["seeds"].as_u64()), (2, Some(4)));
    refused(path, &["summary", "results/tiny", "--by", "lr"], &["no agent here varies 'lr'"]);
    assert!(fs::read_to_string(path.join("results/tiny/curves.svg")).unwrap().contains("ppo+clip=0.1"));
}
