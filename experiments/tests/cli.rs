//! What people do with the binary, and what it says to bad input.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use common::{SMALL, call, files, refused, seen, steadfast, succeed};

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut args =
        vec!["train", "--agent", "ppo", "--env", "CartPole-v1", "--steps", "1024", "--out", "out", "--quiet"];
    args.extend(["--evaluations", "4", "--eval-episodes", "2", "--final-episodes", "2"]);
    args.extend(SMALL);
    args.extend(more);
    args
}

#[test]
fn a_sweep_ends_in_csv_a_table_and_a_figure() {
    let dir = tempfile::tempdir().unwrap();
    let out = succeed(dir.path(), &["sweep", "run", "smoke", "--quiet"]);
    for text in ["CartPole-v1", "Pendulum-v1", "IQM", "95 % interval", "results/smoke/curves.svg"] {
        assert!(out.contains(text), "no {text} in {out}");
    }
    let sweep = dir.path().join("results/smoke");
    let first_line =
        |name: &str| fs::read_to_string(sweep.join(name)).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(first_line("summary.csv"), "env,agent,score,seeds,mean,std,median,iqm,iqm_low,iqm_high");
    // Two agents, two environments, two seeds, five points of the grid.
    let eval = fs::read_to_string(sweep.join("eval.csv")).unwrap();
    assert_eq!(eval.lines().count(), 1 + 8 * 5);
    let keys: Vec<(&str, &str, u64, u64)> = eval
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect::<Vec<_>>())
        .map(|c| (c[0], c[1], c[2].parse().unwrap(), c[3].parse().unwrap()))
        .collect();
    assert!(keys.is_sorted(), "by agent, environment, seed and step");
    let svg = fs::read_to_string(sweep.join("curves.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("greedy evaluation return"));
    assert_eq!(&fs::read(sweep.join("curves.png")).unwrap()[1..4], b"PNG");

    // Again: nothing is run, nothing changes but the joined files, which are the same.
    let before = files(&sweep);
    succeed(dir.path(), &["sweep", "run", "smoke", "--quiet"]);
    assert!(files(&sweep) == before);
    let status = succeed(dir.path(), &["sweep", "status", "smoke"]);
    assert_eq!(status, "8 done, 0 diverged, 0 running, 0 failed, 0 stopped, 0 missing of 8\n");

    // The same cells, one by one from a manifest, give the same files.
    let manifest = succeed(dir.path(), &["sweep", "plan", "smoke", "--out", "cluster"]);
    assert_eq!(manifest, "cluster/smoke/manifest.jsonl\n");
    for index in 0..8 {
        let index = index.to_string();
        succeed(
            dir.path(),
            &["sweep", "cell", "--manifest", "cluster/smoke/manifest.jsonl", "--index", &index],
        );
    }
    succeed(dir.path(), &["sweep", "collect", "smoke", "--out", "cluster"]);
    let cluster = dir.path().join("cluster/smoke");
    assert!(common::determined(&cluster) == common::determined(&sweep));
}

#[test]
fn a_failed_cell_is_reported_and_stops_no_other() {
    let dir = tempfile::tempdir().unwrap();
    succeed(dir.path(), &["sweep", "run", "smoke", "--quiet", "--seeds", "1"]);
    // One cell cannot go on: its checkpoint is damaged.
    let cell = dir.path().join("results/smoke/ppo/CartPole-v1/seed-0");
    fs::remove_file(cell.join("result.json")).unwrap();
    fs::write(cell.join("checkpoint/state.safetensors"), "no checkpoint").unwrap();
    fs::remove_dir_all(dir.path().join("results/smoke/random")).unwrap();
    let (code, out, err) = call(dir.path(), &["sweep", "run", "smoke", "--seeds", "1"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("failed: ppo CartPole-v1 seed-0: checkpoint"), "{err}");
    assert!(err.contains("is damaged") && err.contains("1 of 4 cells failed"), "{err}");
    assert!(out.contains("random"), "the others are run, joined and shown: {out}");
    let status = succeed(dir.path(), &["sweep", "status", "smoke"]);
    assert!(status.starts_with("3 done, 0 diverged, 0 running, 1 failed"), "{status}");
    assert!(status.contains("ppo CartPole-v1 seed-0") && status.contains("is damaged"), "{status}");
    fs::remove_dir_all(cell.parent().unwrap()).unwrap();
    succeed(dir.path(), &["sweep", "run", "smoke", "--quiet", "--seeds", "1"]);
}

#[test]
fn runs_become_a_page_and_files_of_other_tools() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    for seed in ["0", "1"] {
        succeed(folder, &train(&["--seed", seed]));
    }
    // A page that holds the runs with their metrics and needs nothing else.
    assert_eq!(succeed(folder, &["report", "out", "--title", "Two <runs>"]), "report.html\n");
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("<title>Two &lt;runs&gt; · steadfast</title>"));
    assert!(page.contains("default-src 'none'"), "the browser refuses whatever is not in the page");
    let (_, data) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let data: serde_json::Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
    assert_eq!(data["runs"].as_array().unwrap().len(), 2);
    assert!(data["columns"].as_array().unwrap().iter().any(|column| column["name"] == "kl"));
    refused(folder, &["report", "nowhere"], &["nowhere"]);
    refused(folder, &["report", "out", "--out", "out"], &["out is a folder", "--out"]);
    refused(folder, &["report", "out", "--out", "no/such/page.html"], &["no/such"]);

    // Files under the names that other tools look for.
    for (format, file) in [
        ("sb3", "ppo/CartPole-v1_1/0.monitor.csv"),
        ("openrlbenchmark", "openrlbenchmark.csv"),
        ("marl-eval", "marl-eval.json"),
        ("parquet", "eval.parquet"),
    ] {
        let out = succeed(folder, &["export", format, "out", "--out", format]);
        assert!(out.ends_with(&format!(": {format}\n")), "{out}");
        assert!(
            folder.join(format).join(file).is_file(),
            "{format}: {:?}",
            files(&folder.join(format)).keys()
        );
    }
    succeed(folder, &["export", "tensorboard", "out", "--out", "tensorboard"]);
    let events = files(&folder.join("tensorboard"));
    assert!(events.keys().all(|path| path.to_str().unwrap().contains("events.out.tfevents")), "{events:?}");
    assert_eq!(events.len(), 2, "a file a run");
    // Training episodes are the same, and `plot` reads what it wrote.
    let returns = |path: &str| {
        let text = fs::read_to_string(folder.join(path)).unwrap();
        let rows = text.lines().filter(|line| !line.starts_with('#')).skip(1).map(str::to_owned);
        rows.map(|row| row.split(',').map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let ours = returns("out/ppo/CartPole-v1/seed-1/episodes.csv");
    let theirs = returns("sb3/ppo/CartPole-v1_1/0.monitor.csv");
    let number = |text: &String| text.parse::<f64>().unwrap();
    assert!(!ours.is_empty());
    let of =
        |rows: &[Vec<String>], column: usize| rows.iter().map(|row| number(&row[column])).collect::<Vec<_>>();
    let header = fs::read_to_string(folder.join("out/ppo/CartPole-v1/seed-1/episodes.csv")).unwrap();
    let column = |name: &str| header.lines().next().unwrap().split(',').position(|h| h == name).unwrap();
    assert_eq!(of(&ours, column("return")), of(&theirs, 0));
    assert_eq!(of(&ours, column("length")), of(&theirs, 1));
    for logs in ["sb3/ppo/CartPole-v1_0/0.monitor.csv", "openrlbenchmark/openrlbenchmark.csv"] {
        succeed(folder, &["plot", logs, "--out", "theirs.svg"]);
        assert!(fs::read_to_string(folder.join("theirs.svg")).unwrap().starts_with("<svg"));
    }
    refused(folder, &["export", "sb3", "nowhere"], &["nowhere", "does not exist"]);
}

#[test]
fn a_run_can_be_trained_evaluated_summarised_and_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    succeed(folder, &train(&[]));
    let run = "out/ppo/CartPole-v1/seed-0";
    let eval = succeed(folder, &["eval", run, "--episodes", "7"]);
    assert!(eval.starts_with("ppo on CartPole-v1, 7 episodes: return"), "{eval}");
    // The last evaluation of the run met the same episodes.
    let json: serde_json::Value =
        serde_json::from_str(&succeed(folder, &["eval", run, "--episodes", "2", "--json"])).unwrap();
    let result: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join(run).join("result.json")).unwrap()).unwrap();
    assert_eq!(json["return_mean"], result["return_mean"]);
    assert_eq!(result["status"], "done");
    for (name, magic) in [("a.gif", b"GIF8".as_slice()), ("a.png", b"\x89PNG")] {
        succeed(folder, &["eval", run, "--episodes", "1", "--render", name]);
        assert!(fs::read(folder.join(name)).unwrap().starts_with(magic));
    }
    refused(folder, &["eval", run, "--render", "a.mp4"], &["a.mp4", ".gif"]);
    assert!(succeed(folder, &["summary", "out"]).contains("CartPole-v1"));
    let rows: serde_json::Value =
        serde_json::from_str(&succeed(folder, &["summary", "out", "--json"])).unwrap();
    assert_eq!(rows[0]["score"], "final");
    assert_eq!(rows[0]["mean"], result["return_mean"]);
    for (y, name) in [("return_mean", "a.svg"), ("kl", "b.png"), ("return", "c.svg")] {
        assert_eq!(succeed(folder, &["plot", "out", "--y", y, "--out", name]), format!("{name}\n"));
        assert!(folder.join(name).metadata().unwrap().len() > 1000);
    }
    succeed(folder, &["plot", "out", "--x", "wall", "--out", "d.svg"]);
    assert!(succeed(folder, &["plot", "out", "--terminal"]).lines().count() > 10);
}

#[test]
fn every_page_of_the_lists_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    for (what, known) in [("agents", "mdpo"), ("envs", "Pendulum-v1"), ("suites", "mdpo-vs-ppo")] {
        assert!(succeed(dir.path(), &["list", what]).contains(known));
        let all: serde_json::Value =
            serde_json::from_str(&succeed(dir.path(), &["list", what, "--json"])).unwrap();
        for item in all.as_array().unwrap() {
            let name = item["name"].as_str().or(item["id"].as_str()).unwrap();
            assert!(succeed(dir.path(), &["list", what, name]).lines().count() > 3, "{what} {name}");
            let page: serde_json::Value =
                serde_json::from_str(&succeed(dir.path(), &["list", what, name, "--json"])).unwrap();
            assert_eq!(&page, item);
        }
    }
    let page = succeed(dir.path(), &["list", "agents", "mdpo"]);
    for text in
        ["arXiv:2005.09814", "For k = 0, 1, … K−1:", "learning_rate = 0.0003", "gae_lambda", "minimal"]
    {
        assert!(page.contains(text), "no {text}");
    }
}

#[test]
fn the_page_of_a_task_says_how_like_a_tree_its_states_are() {
    let dir = tempfile::tempdir().unwrap();
    let page = |name| succeed(dir.path(), &["list", "envs", name]);
    assert!(!page("Pendulum-v1").contains("Gromov"));
    let maze = page("hierarchy/maze");
    assert!(
        maze.contains("first level: 64; Gromov's delta 0, relative to the diameter (2 delta / "),
        "{maze}"
    );
    assert!(
        maze.contains("  observation bounds: 50 x [0, 1] 2 x [-1, 1]\n  action bounds: [0, 3]\n"),
        "{maze}"
    );
    let tree = page("hierarchy/tree");
    // 1 + 3 + 9 + 27 + 81 + 243 nodes.
    assert!(
        tree.contains("first level: 364; Gromov's delta 0,") && tree.contains(", of 128 of them"),
        "{tree}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&succeed(dir.path(), &["list", "envs", "hierarchy/maze", "--json"])).unwrap();
    assert_eq!((&json["geometry"]["delta_rel"], &json["geometry"]["points"]), (&0.0.into(), &64.into()));
}

#[test]
fn environments_can_be_checked_and_stepped() {
    let dir = tempfile::tempdir().unwrap();
    assert!(succeed(dir.path(), &["check", "Acrobot-v1"]).lines().all(|line| line.starts_with("ok ")));
    let step = |env: &str, input: &str| {
        let mut child = steadfast(dir.path(), &["step", env]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        seen(&child.wait_with_output().unwrap())
    };
    let (code, out, _) = step("CartPole-v1", "{\"state\": [0, 1, 0.1, 0], \"action\": [1]}\n\n");
    assert_eq!(code, 0);
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((answer["state"][0].as_f64(), answer["reward"].as_f64()), (Some(0.02), Some(1.0)));
    assert_eq!(answer["terminated"], false);
    let (code, _, err) =
        step("CartPole-v1", "{\"state\": [0, 1, 0.1, 0], \"action\": [1]}\n{\"state\": [1]}\n");
    assert_eq!(code, 2);
    assert!(err.contains("line 2") && err.contains("'action' is missing"), "{err}");
}

#[test]
fn a_training_that_diverges_ends_with_a_status_and_whole_files() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = call(dir.path(), &train(&["--set", "learning_rate=1e30"]));
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("NaN or infinite") && err.contains("learning rate"), "{err}");
    let run = dir.path().join("out/ppo/CartPole-v1/seed-0");
    let result: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("result.json")).unwrap()).unwrap();
    assert_eq!(result["status"], "diverged");
    for name in ["episodes.csv", "eval.csv", "train.csv", "timing.csv"] {
        let text = fs::read_to_string(run.join(name)).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{name}");
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert!(reader.records().all(|r| r.is_ok()), "{name}");
    }
}

#[test]
fn names_that_do_not_exist_are_answered_with_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    refused(dir, &["train", "--agent", "pppo", "--env", "CartPole-v1"], &["unknown agent 'pppo'", "'ppo'"]);
    let sac =
        |env, more: [&'static str; 4]| [["train", "--agent", "sac", "--env", env].as_slice(), &more].concat();
    let none = ["--seed", "0", "--steps", "2k"];
    refused(dir, &sac("CartPole-v1", none), &["Discrete(2)", "`ppo`, `trpo` and `mdpo`"]);
    let wide = ["--set", "minibatch=300", "--set", "buffer=200"];
    refused(dir, &sac("Pendulum-v1", wide), &["'minibatch'", "buffer of 200"]);
    let late = ["--set", "learning_starts=2000", "--steps", "2k"];
    refused(dir, &sac("Pendulum-v1", late), &["'learning_starts'", "2000 steps of the run"]);
    refused(dir, &["train", "--agent", "ppo", "--env", "CartPol"], &["unknown environment", "'CartPole-v1'"]);
    refused(dir, &train(&["--preset", "sb4"]), &["no preset 'sb4'", "did you mean 'sb3'"]);
    refused(dir, &train(&["--set", "gama=0.9"]), &["unknown option 'gama'", "'gamma'"]);
    refused(dir, &["sweep", "run", "mdpo-vs-pp"], &["unknown suite", "'mdpo-vs-ppo'"]);
    refused(dir, &["list", "agents", "mpdo"], &["unknown agent", "'mdpo'"]);
    refused(dir, &["check", "Acrobot"], &["unknown environment", "'Acrobot-v1'"]);
    refused(dir, &["plot", "nowhere"], &["nowhere does not exist"]);
    refused(dir, &["trian"], &["unrecognized subcommand 'trian'", "'train'"]);
    refused(dir, &train(&["--stepz", "5"]), &["unexpected argument '--stepz'", "'--steps'"]);
    refused(dir, &train(&["--device", "cuda"]), &["unknown device 'cuda'", "cpu"]);
    assert!(files(dir).is_empty(), "nothing is written");
}

#[test]
fn values_of_the_wrong_type_or_range_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let bad = |args: &[&str], needles: &[&str]| refused(dir, &train(args), needles);
    bad(&["--set", "gamma=1.5"], &["'gamma'", "between 0 and 1", "1.5"]);
    bad(&["--set", "gamma=high"], &["'gamma'", "number"]);
    bad(&["--set", "num_envs=0"], &["'num_envs'", "at least 1"]);
    bad(&["--set", "learning_rate=-1"], &["'learning_rate'"]);
    bad(&["--set", "learning_rate=nan"], &["'learning_rate'", "finite"]);
    bad(&["--set", "hidden=[64, -1]"], &["'hidden'"]);
    bad(&["--set", "activation=sine"], &["'activation'", "tanh"]);
    bad(&["--set", "gamma"], &["key=value"]);
    bad(&["--seed", "-1"], &["--seed"]);
    bad(&["--threads", "0"], &["--threads"]);
    bad(&["--eval-episodes", "0"], &["--eval-episodes"]);
    bad(&["--label", "../up"], &["label"]);
    let steps = |n: &str, needle: &str| {
        refused(dir, &["train", "--agent", "ppo", "--env", "CartPole-v1", "--steps", n], &[needle]);
    };
    steps("-5", "--steps");
    steps("0", "--steps");
    steps("lots", "no step count");
    steps("100", "less than one iteration");
    assert!(files(dir).is_empty(), "nothing is written");
}

#[test]
fn files_that_are_damaged_or_of_something_else_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();

    write("broken.toml", "title = 't'\nseeds = 2\n");
    refused(folder, &["sweep", "run", "broken.toml"], &["broken.toml", "line 2"]);
    write("cut.toml", "title = 't'\n[[agents");
    refused(folder, &["sweep", "plan", "cut.toml"], &["cut.toml", "line 2"]);
    refused(folder, &["sweep", "plan", "absent.toml"], &["cannot read suite absent.toml"]);

    write("other.csv", "a,b\n1,2\n");
    refused(folder, &["plot", "other.csv"], &["other.csv", "agent"]);
    write("empty.csv", "");
    refused(folder, &["summary", "empty.csv"], &["empty.csv is empty"]);
    write("cut.csv", "agent,env,seed,step,return_mean\nppo,E,0,0,1\nppo,E,0,10");
    refused(folder, &["summary", "cut.csv"], &["cut.csv", "3"]);
    write("words.csv", "agent,env,seed,step,return_mean\nppo,E,0,0,much\n");
    refused(folder, &["plot", "words.csv"], &["words.csv", "return_mean", "much"]);

    let manifest = succeed(folder, &["sweep", "plan", "smoke", "--print"]);
    write("manifest.jsonl", &manifest[..manifest.len() / 2]);
    refused(
        folder,
        &["sweep", "cell", "--manifest", "manifest.jsonl", "--index", "0"],
        &["manifest.jsonl line"],
    );
    write("manifest.jsonl", &manifest.replace("\"seed\":1", "\"seed\":7"));
    refused(
        folder,
        &["sweep", "cell", "--manifest", "manifest.jsonl", "--index", "0"],
        &["manifest.jsonl was changed"],
    );
    write("manifest.jsonl", &manifest);
    refused(folder, &["sweep", "cell", "--manifest", "manifest.jsonl", "--index", "8"], &["no cell 8"]);

    succeed(folder, &train(&[]));
    let run = folder.join("out/ppo/CartPole-v1/seed-0");
    refused(folder, &train(&["--set", "gamma=0.9"]), &["holds another run", "gamma"]);
    let checkpoint = run.join("checkpoint/state.safetensors");
    let good = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, &good[..good.len() - 5]).unwrap();
    refused(folder, &["eval", "out/ppo/CartPole-v1/seed-0"], &["is damaged"]);
    refused(folder, &["eval", "out"], &["run.toml", "directory of a run"]);
    fs::write(&checkpoint, &good).unwrap();

    fs::remove_file(run.join("result.json")).unwrap();
    refused(folder, &train(&[]), &["unfinished", "--resume"]);
    let eval = fs::read(run.join("eval.csv")).unwrap();
    fs::write(run.join("eval.csv"), &eval[..eval.len() - 1]).unwrap();
    refused(folder, &train(&["--resume"]), &["eval.csv", "changed from outside"]);
    fs::write(run.join("eval.csv"), eval).unwrap();
    succeed(folder, &train(&["--resume"]));

    let taken = folder.join("out/ppo/CartPole-v1/seed-9");
    fs::create_dir_all(&taken).unwrap();
    fs::write(taken.join("thesis.tex"), "irreplaceable").unwrap();
    refused(folder, &train(&["--seed", "9"]), &["not empty", "--out"]);
    assert_eq!(files(&taken).len(), 1, "and stays as it was");
}

/// Without a graphics driver `--device wgpu` says what to install.
#[cfg(all(feature = "wgpu", target_os = "linux"))]
#[test]
fn an_absent_device_says_what_to_install() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = steadfast(dir.path(), &train(&["--device", "wgpu"]));
    // Neither Vulkan's loader nor OpenGL's then knows a driver.
    for loader in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "__EGL_VENDOR_LIBRARY_FILENAMES"] {
        command.env(loader, "/nonexistent.json");
    }
    let (code, _, err) = seen(&command.output().unwrap());
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("mesa-vulkan-drivers") && err.contains("--device cpu"), "{err}");
    assert_eq!(err.trim_end().lines().count(), 1, "{err}");
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let shell = "\"$0\" list agents ppo | head -n 1; exit ${PIPESTATUS[0]}";
    let status = std::process::Command::new("bash")
        .current_dir(Path::new(dir.path()))
        .args(["-c", shell, env!("CARGO_BIN_EXE_steadfast")])
        .output()
        .unwrap();
    assert_eq!(seen(&status).0, 0, "{:?}", status);
}
