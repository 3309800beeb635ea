//! The binary, called from outside.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Settings that make a training of any learning agent a matter of milliseconds an iteration.
pub const SMALL: &[&str] = &["--set", "horizon=64", "--set", "num_envs=2", "--set", "hidden=[16]"];

/// A call of the binary from within `folder`, its standard input empty.
pub fn steadfast(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.current_dir(folder).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end and returns the exit code and what was printed on standard output and standard error.
pub fn call(folder: &Path, args: &[&str]) -> (i32, String, String) {
    seen(&steadfast(folder, args).output().unwrap())
}

/// Exit code, standard output and standard error; a signal is no exit code.
pub fn seen(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Runs to the end, successfully; returns standard output.
pub fn succeed(folder: &Path, args: &[&str]) -> String {
    let (code, out, err) = call(folder, args);
    assert_eq!(code, 0, "{args:?}: {err}");
    out
}

/// Bad input: exit code 2, nothing on standard output, one line on standard error that holds all of `needles`.
pub fn refused(folder: &Path, args: &[&str], needles: &[&str]) {
    let (code, out, err) = call(folder, args);
    assert_eq!(code, 2, "{args:?}: {out}{err}");
    assert_eq!(out, "", "{args:?}");
    assert!(err.starts_with("error: ") && err.trim_end().lines().count() == 1, "{args:?}: {err}");
    for needle in needles {
        assert!(err.contains(needle), "{args:?}: no '{needle}' in {err}");
    }
}

/// All files below `folder`, by path from there.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(path).unwrap());
            }
        }
    }
    found
}

/// The files of a run or sweep that the seed determines: all CSV but the timings.
pub fn determined(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = files(folder);
    let timing = |path: &Path| path.file_name().is_some_and(|name| name == "timing.csv");
    found.retain(|path, _| path.extension().is_some_and(|e| e == "csv") && !timing(path));
    found
}
