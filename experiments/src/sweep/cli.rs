//! `steadfast sweep …`.

use std::io::{Read, Write, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::cell::{self, Ending, Manner, divergence};
use super::emit::{self, Engine};
use super::plan::Manifest;
use super::{collect, run, status};
use crate::cli::{EXIT_FAILED, EXIT_TRY_AGAIN, note, one_line, print, seconds, stop_on_signals};
use crate::settings::{assignments, positive, seed_list, step_count};
use crate::suite::{self, Overrides};
use crate::train::{self, INTERRUPTED, Progress};
use crate::{plot, summary};

#[derive(Subcommand)]
pub enum SweepCommands {
    /// Plan, run, collect, summarise and plot
    Run(RunArgs),
    /// Write the manifest: one line a cell; print its path
    Plan(PlanArgs),
    /// Run one cell of a manifest, or a task's share of them
    Cell(CellArgs),
    /// Count the cells that are done, diverged, running, failed, stopped and missing
    Status(StatusArgs),
    /// Join the files of complete cells; summarise and plot
    Collect(CollectArgs),
    /// Print the script with which an engine runs the cells
    Emit(EmitArgs),
    /// Hand that script to the engine; print the job's id
    Submit(EmitArgs),
}

#[derive(Args)]
struct SuiteArgs {
    /// Name of a suite (`steadfast list suites`) or path of a suite file
    suite: String,
    /// Seeds instead of the suite's: 5, 0..5 or 1,4,7
    #[arg(long, value_parser = seed_list, allow_hyphen_values = true)]
    seeds: Option<std::vec::Vec<u64>>,
    /// Environment steps of every cell instead of the suite's
    #[arg(long, value_parser = step_count, allow_hyphen_values = true)]
    steps: Option<u64>,
    /// Override an option of all agents; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where networks live: cpu or wgpu
    #[arg(long, default_value = steadfast_agents::Device::NAMES[0])]
    device: String,
    /// Folder of results; the sweep goes to OUT/SUITE
    #[arg(long, default_value = "results")]
    out: PathBuf,
}

#[derive(Args)]
pub struct PlanArgs {
    #[command(flatten)]
    suite: SuiteArgs,
    /// Print the manifest and write nothing
    #[arg(long)]
    print: bool,
}

#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    suite: SuiteArgs,
    /// Cells at a time [default: one a processor]
    #[arg(long, short, value_parser = positive, allow_negative_numbers = true)]
    jobs: Option<u64>,
    #[command(flatten)]
    conduct: ConductArgs,
    /// No progress
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Args)]
struct ConductArgs {
    /// Seconds without an iteration after which a cell counts as hanging and is ended [default: none]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    timeout: Option<Duration>,
    /// Seconds without a heartbeat after which other machines take a cell over
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, allow_negative_numbers = true)]
    lease: Duration,
}

#[derive(Args)]
pub struct CellArgs {
    /// Manifest written by `sweep plan`
    #[arg(long)]
    manifest: PathBuf,
    /// Number of the cell [default: what Slurm, HyperQueue, Kubernetes, PBS, Grid Engine or GNU parallel says]
    #[arg(long, allow_negative_numbers = true)]
    index: Option<u64>,
    /// Number of the first cell [default: 0; 1 for Grid Engine's and GNU parallel's numbers]
    #[arg(long)]
    base: Option<u64>,
    /// Run each K-th cell from this one on, for fewer tasks than cells
    #[arg(long, value_name = "K", value_parser = positive)]
    stride: Option<u64>,
    /// Folder of the sweep [default: the manifest's]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Seconds between checkpoints
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    checkpoint_every: Duration,
    #[command(flatten)]
    conduct: ConductArgs,
    /// Refuse a manifest of another hash
    #[arg(long, value_name = "HASH", hide = true)]
    plan: Option<String>,
    /// Working folder of an owner that has been seen to be dead
    #[arg(long, hide = true)]
    lapsed: Option<PathBuf>,
    /// Print progress as JSON lines, wait for nobody, and stop when standard input closes
    #[arg(long, hide = true)]
    supervised: bool,
}

#[derive(Args)]
struct SweepArgs {
    /// Folder of a sweep, its manifest, or the name of its suite
    sweep: String,
    /// Folder of results, in which OUT/SUITE is the sweep
    #[arg(long, default_value = "results")]
    out: PathBuf,
}

#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    sweep: SweepArgs,
    /// Look again and again, until all cells are done
    #[arg(long)]
    watch: bool,
    /// Print JSON: one object a cell
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct CollectArgs {
    #[command(flatten)]
    sweep: SweepArgs,
    /// Join cells of different versions, too
    #[arg(long)]
    mixed: bool,
}

#[derive(Args)]
pub struct EmitArgs {
    /// Engine
    engine: Engine,
    #[command(flatten)]
    sweep: SweepArgs,
    #[command(flatten)]
    options: emit::Options,
}

/// Runs the command.
///
/// # Errors
/// For bad input; the message says what, where and what to do.
pub fn main(command: &SweepCommands) -> Result<ExitCode> {
    match command {
        SweepCommands::Run(args) => run_here(args),
        SweepCommands::Plan(args) => plan(args),
        SweepCommands::Cell(args) => run_cells(args),
        SweepCommands::Status(args) => show_status(args),
        SweepCommands::Collect(args) => {
            let (manifest, folder) = find(&args.sweep)?;
            join(&manifest, &folder, args.mixed)
        }
        SweepCommands::Emit(args) => print(&script(args)?),
        SweepCommands::Submit(args) if args.engine == Engine::Slurm => {
            print(&format!("{}\n", emit::submit(&script(args)?)?))
        }
        SweepCommands::Submit(_) => {
            bail!("only Slurm takes submissions from here; run what `sweep emit` prints")
        }
    }
}

fn script(args: &EmitArgs) -> Result<String> {
    let (manifest, folder) = find(&args.sweep)?;
    emit::script(args.engine, &manifest, &folder, &args.options)
}

fn planned(args: &SuiteArgs) -> Result<(Manifest, PathBuf)> {
    let overrides = Overrides {
        seeds: args.seeds.clone(),
        steps: args.steps,
        set: assignments(&args.set)?,
        device: args.device.clone(),
    };
    let manifest = Manifest::plan(&suite::load(&args.suite)?, &overrides)?;
    // One cell of each agent is built here, so that bad options fail before anything is written.
    let mut seen = Vec::new();
    for cell in &manifest.cells {
        if !seen.contains(&(&cell.label, &cell.env)) {
            seen.push((&cell.label, &cell.env));
            drop(train::prepare(cell)?);
        }
    }
    let folder = args.out.join(&manifest.suite);
    Ok((manifest, folder))
}

/// The planned sweep that is meant, and its folder.
fn find(args: &SweepArgs) -> Result<(Manifest, PathBuf)> {
    let given = Path::new(&args.sweep);
    let path = if given.is_file() && given.extension().is_some_and(|e| e == "jsonl") {
        given.to_owned()
    } else if Manifest::path(given).is_file() {
        Manifest::path(given)
    } else {
        let stem = given.file_stem().filter(|_| given.extension().is_some_and(|e| e == "toml"));
        let folder = args.out.join(stem.unwrap_or(given.as_os_str()));
        if !folder.is_dir() {
            bail!(
                "there is no sweep {}: name its folder, or the suite that `steadfast sweep plan` or `run` was given",
                folder.display()
            );
        }
        Manifest::path(&folder)
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((Manifest::read(&path)?, folder.to_owned()))
}

fn plan(args: &PlanArgs) -> Result<ExitCode> {
    let (manifest, folder) = planned(&args.suite)?;
    if args.print {
        return print(&manifest.to_text()?);
    }
    manifest.write(&folder, false)?;
    note(&format!("{} cells", manifest.cells.len()));
    print(&format!("{}\n", Manifest::path(&folder).display()))
}

fn run_here(args: &RunArgs) -> Result<ExitCode> {
    let (manifest, folder) = planned(&args.suite)?;
    let jobs = match args.jobs {
        Some(jobs) => usize::try_from(jobs).unwrap_or(usize::MAX),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    stop_on_signals()?;
    let options =
        run::Options { jobs, quiet: args.quiet, timeout: args.conduct.timeout, term: args.conduct.lease };
    let failures = run::run(&manifest, &folder, &options)?;
    if INTERRUPTED.load(Ordering::Relaxed) {
        note("interrupted; the same command goes on");
        return Ok(ExitCode::from(EXIT_TRY_AGAIN));
    }
    let all = manifest.cells.len();
    if failures < all {
        join(&manifest, &folder, false)?;
    }
    if failures == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    note(&format!("error: {failures} of {all} cells failed; the same command tries them again"));
    Ok(ExitCode::from(EXIT_FAILED))
}

/// Joins, summarises, plots and prints.
fn join(manifest: &Manifest, folder: &Path, mixed: bool) -> Result<ExitCode> {
    for message in collect::collect(manifest, folder, mixed)? {
        note(&format!("warning: {message}"));
    }
    let eval = folder.join("eval.csv");
    let (rows, warnings) = summary::summarise(std::slice::from_ref(&eval))?;
    for warning in warnings {
        note(&format!("warning: {warning}"));
    }
    crate::record::write_atomic(&folder.join("summary.csv"), summary::to_csv(&rows)?.as_bytes())?;
    let options = plot::Options { title: Some(manifest.title.clone()), ..plot::Options::default() };
    let (curves, _) = plot::curves(&[eval], &options)?;
    for name in ["curves.svg", "curves.png"] {
        plot::write(&folder.join(name), &curves, &options)?;
    }
    print(&summary::table(&rows))?;
    print(&format!(
        "\n{0}/curves.svg (.png), {0}/summary.csv, {0}/eval.csv, {0}/episodes.csv\n",
        folder.display()
    ))
}

fn run_cells(args: &CellArgs) -> Result<ExitCode> {
    let manifest = Manifest::read(&args.manifest)?;
    if args.plan.as_ref().is_some_and(|hash| *hash != manifest.hash) {
        bail!("{} was planned anew since this task was submitted; submit again", args.manifest.display());
    }
    let variable = |name: &str| std::env::var(name).ok();
    let cells = cell::task(args.index, args.base, args.stride, manifest.cells.len(), variable)?;
    let folder = match &args.dir {
        Some(folder) => folder.clone(),
        None => args.manifest.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf),
    };
    stop_on_signals()?;
    if args.supervised {
        // The parent holds the other end: when it dies, however, this cell checkpoints and stops.
        std::thread::spawn(|| {
            let _ = stdin().read_to_end(&mut Vec::new());
            INTERRUPTED.store(true, Ordering::Relaxed);
        });
    }
    let manner = Manner {
        timeout: args.conduct.timeout,
        term: args.conduct.lease,
        wait: !args.supervised,
        lapsed: args.lapsed.clone(),
        checkpoint_every: args.checkpoint_every,
    };
    let mut code = ExitCode::SUCCESS;
    for index in cells {
        let settings = &manifest.cells[index];
        let shown = super::cell_dir(&folder, settings);
        let shown = shown.display();
        let ended = cell::run(&folder, settings, &manner, &mut |progress: &Progress| {
            if args.supervised
                && let Ok(line) = serde_json::to_string(progress)
            {
                // A parent that has gone shows on standard input.
                let _ = writeln!(std::io::stdout(), "{line}");
            }
        });
        let line = match ended {
            Ok(Ending::Complete(result)) => {
                // A result like others: no engine should try again.
                if let Some(why) = divergence(&result) {
                    note(&format!("warning: {shown} diverged: {why}"));
                }
                let score = result.return_mean.map_or(String::new(), |m| format!(", return {m:.2}"));
                format!("{} steps in {:.1} s{score}: {shown}\n", result.step, result.wall_s)
            }
            Ok(Ending::AlreadyDone) => format!("already done: {shown}\n"),
            Ok(Ending::TryAgain(why)) => {
                note(&format!("{why}; try again: {shown}"));
                return Ok(ExitCode::from(EXIT_TRY_AGAIN));
            }
            Err(error) => {
                note(&format!("error: {}", one_line(&error)));
                code = ExitCode::from(EXIT_FAILED);
                continue;
            }
        };
        if !args.supervised {
            print(&line)?;
        }
    }
    Ok(code)
}

fn show_status(args: &StatusArgs) -> Result<ExitCode> {
    let (manifest, folder) = find(&args.sweep)?;
    let mut shown = String::new();
    loop {
        let rows = status::all(&manifest, &folder)?;
        let text = if args.json { serde_json::to_string(&rows)? + "\n" } else { status::text(&rows) };
        if text != shown {
            print(&text)?;
            shown = text;
        }
        if !args.watch || status::is_over(&rows) {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}
