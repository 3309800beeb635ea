//! Tells the binary its git revision and burn version, for the provenance of runs.

use std::process::Command;

fn main() {
    // Lets the binary find the library of the Python that it is built against.
    #[cfg(feature = "gymnasium")]
    pyo3_build_config::add_libpython_rpath_link_args();

    // Without locks, `status` does not rewrite the index, which would ask for another build.
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("--no-optional-locks").args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let revision = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let dirty = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
    println!("cargo::rustc-env=STEADFAST_GIT={revision}{}", if dirty { "-dirty" } else { "" });

    let lock = std::fs::read_to_string("../Cargo.lock").unwrap_or_default();
    let burn = lock.split("[[package]]").find(|package| package.contains("name = \"burn\"\n"));
    let version = burn.and_then(|package| package.split("version = \"").nth(1)?.split('"').next());
    println!("cargo::rustc-env=STEADFAST_BURN={}", version.unwrap_or("unknown"));
    for path in ["../.git/HEAD", "../.git/index", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
}
