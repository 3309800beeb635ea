//! The command line.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::settings::{self, RunSettings, assignments, positive, seed, step_count};
use crate::stats::{
    self,
    across::{Bootstrap, Method},
};
use crate::summary::read::Selection;
use crate::summary::{Score, across};
use crate::sweep;
use crate::train::{self, Conduct, INTERRUPTED, Outcome, Status};
use crate::{bench, export, inspect, plot, render, report, summary};
use steadfast_agents::Acting;
use steadfast_agents::core::profile::{self, STAGES};

/// Exit code of a training that diverged (its files stand).
pub const EXIT_DIVERGED: u8 = 3;
/// Exit code of a run that was asked to stop and can be resumed.
pub const EXIT_TRY_AGAIN: u8 = 75;
/// Exit code of a sweep with failed cells.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of bad input.
const EXIT_BAD_INPUT: u8 = 2;

/// Reinforcement-learning benchmarks: sweeps, curves and tables from one binary.
#[derive(Parser)]
#[command(name = "steadfast", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 something failed (a cell, a check), 2 bad input, 3 training diverged, \
                          75 interrupted and resumable.";

#[derive(Subcommand)]
enum Commands {
    /// Show agents, environments or suites; with a name, everything about one
    List(ListArgs),
    /// Train one agent on one environment with one seed
    Train(TrainArgs),
    /// Run many trainings: agents x environments x seeds
    #[command(subcommand)]
    Sweep(sweep::cli::SweepCommands),
    /// Play episodes with a trained policy
    Eval(EvalArgs),
    /// Draw learning curves and comparisons from any CSV with our columns (or SB3's monitor.csv)
    Plot(plot::cli::PlotArgs),
    /// Print final and area-under-curve scores with intervals
    Summary(SummaryArgs),
    /// Write a page about results that opens anywhere: curves, tables, every run
    Report(report::ReportArgs),
    /// Write results in the formats of other tools
    Export(export::ExportArgs),
    /// Measure speed
    Bench(bench::BenchArgs),
    /// Run the conformance checks on an environment
    Check {
        /// Environment, or `all`
        env: String,
    },
    /// Read states and actions as JSON lines, step once, print the results
    Step {
        /// Environment
        env: String,
        /// Profile of the environment, for those that have several; as --env-set profile=NAME
        #[arg(long, value_name = "NAME")]
        profile: Option<String>,
        /// Set an option of the environment; may be repeated
        #[arg(long, value_name = "KEY=VALUE")]
        env_set: Vec<String>,
    },
    /// Print a completion script for a shell
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
struct ListArgs {
    /// What to list
    what: What,
    /// One of them: its page
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    Agents,
    Envs,
    Suites,
}

#[derive(Args)]
struct TrainArgs {
    /// Algorithm (`steadfast list agents`)
    #[arg(long)]
    agent: String,
    /// Environment (`steadfast list envs`), or gymnasium:ID for one of Gymnasium's
    #[arg(long)]
    env: String,
    /// Run seed
    #[arg(long, default_value_t = 0, value_parser = seed, allow_hyphen_values = true)]
    seed: u64,
    /// Environment steps, such as 200k or 1M
    #[arg(long, default_value = "100k", value_parser = step_count, allow_hyphen_values = true)]
    steps: u64,
    /// Tuned or published options to start from (`steadfast list agents NAME`)
    #[arg(long, default_value = "default")]
    preset: String,
    /// Override an option; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Set an option of the environment (`steadfast list envs NAME`); may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    env_set: Vec<String>,
    /// Evaluate a second time, with these options of the environment over those of training; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    eval_env_set: Vec<String>,
    /// Python module to import first, in which Gymnasium environments are registered; as --env gymnasium:MODULE:ID
    #[arg(long, value_name = "MODULE")]
    gymnasium_import: Option<String>,
    /// Processes that run the Gymnasium environments; 0 runs them in this one
    #[arg(
        long,
        default_value_t = 0,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(0..=1024),
        allow_negative_numbers = true
    )]
    gymnasium_workers: u32,
    /// Name in rows and figures [default: the agent's, with the preset if it is not `default`]
    #[arg(long)]
    label: Option<String>,
    /// Evaluations after the first one at step 0
    #[arg(long, default_value_t = 20, value_parser = positive, allow_hyphen_values = true)]
    evaluations: u64,
    /// Episodes of an evaluation
    #[arg(long, default_value_t = 20, value_parser = episodes(), allow_negative_numbers = true)]
    eval_episodes: u32,
    /// Episodes of the last evaluation
    #[arg(long, default_value_t = 100, value_parser = episodes(), allow_negative_numbers = true)]
    final_episodes: u32,
    /// Where networks live: cpu or wgpu
    #[arg(long, default_value = steadfast_agents::Device::NAMES[0])]
    device: String,
    /// Threads that step environment copies; never changes a result
    #[arg(
        long,
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1024),
        allow_negative_numbers = true
    )]
    threads: u32,
    /// Folder of results; the run goes to OUT/LABEL/ENV/seed-N
    #[arg(long, default_value = "results/train")]
    out: PathBuf,
    /// Go on from the run's checkpoint
    #[arg(long)]
    resume: bool,
    /// Seconds between checkpoints
    #[arg(
        long,
        default_value = "10",
        value_name = "SECONDS",
        value_parser = seconds,
        allow_negative_numbers = true
    )]
    checkpoint_every: Duration,
    /// Show where the time goes, here and in `timing.csv`
    #[arg(long)]
    profile: bool,
    /// No progress bar, no closing line
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Args)]
struct EvalArgs {
    /// Directory of a run
    run: PathBuf,
    /// Episodes
    #[arg(long, default_value_t = 100, value_parser = episodes(), allow_negative_numbers = true)]
    episodes: u32,
    /// Seed of the episodes [default: the run's]
    #[arg(long, value_parser = seed, allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Option of the environment, instead of the run's: levels=test; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    env_set: Vec<String>,
    /// Draw actions from the policy, as training does, instead of taking the most likely ones
    #[arg(long)]
    sampled: bool,
    /// Draw the first episode: a .gif, or as a .png its middle, or its end where that shows its whole way
    #[arg(long, value_name = "FILE")]
    render: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct SummaryArgs {
    #[command(flatten)]
    of: Selection,
    /// Keys of a hyperparameter search, such as learning_rate,clip: runs that differ in other keys alone are pooled
    #[arg(long, value_name = "KEYS", value_delimiter = ',', conflicts_with_all = ["aggregate", "compare"])]
    by: Vec<String>,
    /// Aggregate over environments: interquartile mean, median, mean and optimality gap of normalised scores
    #[arg(long)]
    aggregate: bool,
    /// Compare agents: differences by seed on each environment, and the probability of improvement
    #[arg(long)]
    compare: bool,
    /// Compare every agent with this one only
    #[arg(long, value_name = "AGENT", requires = "compare")]
    baseline: Option<String>,
    /// Score of a run, for --aggregate and --compare
    #[arg(long, value_enum, default_value_t = Score::Final)]
    score: Score,
    /// Random and reference score of each environment instead of the built-in file
    #[arg(long, value_name = "FILE", requires = "aggregate")]
    scores: Option<PathBuf>,
    /// Interval of --aggregate and --compare
    #[arg(long, value_enum, default_value_t = Method::Percentile)]
    interval: Method,
    /// Bootstrap resamples of --aggregate and --compare
    #[arg(
        long,
        default_value_t = across::RESAMPLES as u32,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(100..=10_000_000),
        allow_negative_numbers = true
    )]
    resamples: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Parses the arguments and runs the command.
///
/// # Errors
/// For bad input; the message says what, where and what to do.
pub fn main() -> Result<ExitCode> {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    match cli.command {
        Commands::List(args) => list(&args),
        Commands::Train(args) => train(&args),
        Commands::Sweep(command) => sweep::cli::main(&command),
        Commands::Eval(args) => eval(&args),
        Commands::Plot(args) => plot::cli::main(&args),
        Commands::Summary(args) => summarise(&args),
        Commands::Report(args) => report::main(&args),
        Commands::Export(args) => export::main(&args),
        Commands::Bench(args) => bench::main(&args),
        Commands::Check { env } => inspect::check(&env),
        Commands::Step { env, profile, mut env_set } => {
            env_set.extend(profile.map(|name| format!("profile={name}")));
            inspect::step(&env, &assignments(&env_set)?)
        }
        Commands::Completions { shell } => {
            // It panics where it cannot write: into memory first.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "steadfast", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// Help and version as they are; a mistake as one line, like any other bad input.
fn usage(error: &clap::Error) -> Result<ExitCode> {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return print(&text);
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        note(text.trim_end());
        return Ok(ExitCode::from(EXIT_BAD_INPUT));
    }
    let mut lines = text.lines().map(str::trim);
    let what: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let mut line = what.join(" ").trim_start_matches("error: ").to_owned();
    for tip in lines.filter_map(|line| line.strip_prefix("tip: ")) {
        line += &format!("; {tip}");
    }
    bail!("{line} (--help tells more)")
}

/// Numbers of episodes.
fn episodes() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=settings::MOST_EPISODES as i64)
}

/// A duration in seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| format!("'{text}' is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("must be at least 0 and finite, got {text}"))
}

/// Prints results; a reader that has seen enough (`| head`) is no error.
pub fn print(text: &str) -> Result<ExitCode> {
    let mut stdout = std::io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("cannot print"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints a line about what is going on; nobody reading it is no error.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints an error in one line; the exit code of bad input.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    note(&format!("error: {}", one_line(error)));
    ExitCode::from(EXIT_BAD_INPUT)
}

/// An error in one line.
pub fn one_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

fn list(args: &ListArgs) -> Result<ExitCode> {
    let text = match args.what {
        What::Agents => inspect::agents(args.name.as_deref(), args.json)?,
        What::Envs => inspect::envs(args.name.as_deref(), args.json)?,
        What::Suites => inspect::suites(args.name.as_deref(), args.json)?,
    };
    print(&text)
}

/// Checkpoints and stops at the next iteration on SIGINT, SIGTERM and SIGHUP, and on SIGUSR1, with which batch systems
/// say that time is up.
pub fn stop_on_signals() -> Result<()> {
    let unseen = "cannot watch for signals";
    #[cfg(unix)]
    {
        let mut signals =
            signal_hook::iterator::Signals::new([signal_hook::consts::SIGUSR1]).context(unseen)?;
        std::thread::spawn(move || {
            if signals.forever().next().is_some() {
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
        });
    }
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed)).context(unseen)
}

fn train(args: &TrainArgs) -> Result<ExitCode> {
    let env = match &args.gymnasium_import {
        Some(module) => settings::gymnasium_from(module, &args.env)?,
        None => args.env.clone(),
    };
    settings::set_gymnasium_workers(args.gymnasium_workers as usize);
    let options = settings::resolve(&args.agent, &env, &args.preset, &[&assignments(&args.set)?])?;
    let settings = RunSettings {
        label: args.label.clone().unwrap_or_else(|| settings::label(&args.agent, &args.preset)),
        agent: args.agent.clone(),
        preset: args.preset.clone(),
        seed: args.seed,
        steps: args.steps,
        evaluations: args.evaluations,
        eval_episodes: args.eval_episodes as usize,
        final_episodes: args.final_episodes as usize,
        device: args.device.clone(),
        env_options: settings::resolve_env(&env, &assignments(&args.env_set)?)?,
        eval_env_options: settings::texts(&assignments(&args.eval_env_set)?),
        env,
        options,
    };
    // Before its label becomes a folder.
    settings.validate()?;
    if !args.quiet {
        train::build(&settings)?.0.remarks().iter().for_each(|remark| note(&format!("warning: {remark}")));
    }
    let conduct = Conduct {
        threads: args.threads as usize,
        checkpoint_every: args.checkpoint_every,
        resume: args.resume,
        claimed: false,
        command: command_line(),
        profile: args.profile,
    };
    let directory = sweep::cell_dir(&args.out, &settings);
    stop_on_signals()?;

    let bar = ProgressBar::with_draw_target(
        Some(settings.steps),
        if args.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() },
    );
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} steps, {eta} left  {msg}")?;
    bar.set_style(style.progress_chars("━╸─"));
    bar.set_prefix(format!("{} {} seed-{}", settings.label, settings.env, settings.seed));
    let outcome = train::run(&settings, &directory, &conduct, &mut |p| {
        bar.set_position(p.step);
        let score = p.return_mean.map_or(String::new(), |r| format!("return {r:.2}, "));
        bar.set_message(format!("{score}{:.0} steps/s", p.steps_per_s));
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    let outcome = outcome?;
    let (code, line) = closing(&outcome, &directory);
    if !args.quiet {
        if let Outcome::Finished(result) = &outcome {
            result.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
        }
        print(&line)?;
        if let Some(seconds) = profile::seconds() {
            print(&stages(&seconds))?;
        }
    }
    Ok(code)
}

/// Seconds of each stage with their shares, one line each.
fn stages(seconds: &[f64; STAGES]) -> String {
    let names = ["environment", "inference", "advantages", "update", "evaluation", "recording"];
    let total = seconds.iter().sum::<f64>().max(1e-9);
    let line = |(name, s): (&str, &f64)| format!("  {name:<12}{s:>9.3} s {:>5.1} %\n", 100.0 * s / total);
    names.into_iter().zip(seconds).map(line).collect()
}

/// Exit code and closing line of a training. Why it diverged goes to standard error.
fn closing(outcome: &Outcome, directory: &Path) -> (ExitCode, String) {
    let shown = directory.display();
    match outcome {
        Outcome::AlreadyDone => (ExitCode::SUCCESS, format!("already done: {shown}\n")),
        Outcome::Interrupted => {
            (ExitCode::from(EXIT_TRY_AGAIN), format!("interrupted; add --resume to go on: {shown}\n"))
        }
        Outcome::Finished(r) => {
            let score = r.return_mean.map_or(String::new(), |m| format!(", return {m:.2}"));
            let line = format!("{} steps in {:.1} s{score}: {shown}\n", r.step, r.wall_s);
            match r.status {
                Status::Done => (ExitCode::SUCCESS, line),
                Status::Diverged => {
                    let why = r.reason.as_deref().unwrap_or_default();
                    note(&format!("diverged: {why}; try a lower learning rate"));
                    (ExitCode::from(EXIT_DIVERGED), line)
                }
            }
        }
    }
}

/// A word as a shell wants it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The command that started this process, quoted for a shell.
fn command_line() -> String {
    std::iter::once("steadfast".to_owned())
        .chain(std::env::args_os().skip(1).map(|arg| quoted(&arg.to_string_lossy())))
        .collect::<Vec<_>>()
        .join(" ")
}

fn eval(args: &EvalArgs) -> Result<ExitCode> {
    if let Some(path) = &args.render {
        render::check(path)?;
    }
    let mut settings = train::read_settings(&args.run)?;
    if !args.env_set.is_empty() {
        let text = |(key, value): (&String, &String)| (key.clone(), toml::Value::String(value.clone()));
        let mut given: toml::Table = settings.env_options.iter().map(text).collect();
        given.extend(assignments(&args.env_set)?);
        settings.env_options = settings::resolve_env(&settings.env, &given)?;
    }
    let (mut agent, make) = train::build(&settings)?;
    let path = train::checkpoint_path(&args.run);
    let state = crate::checkpoint::load(&path)?;
    agent
        .load(&state.state("agent"))
        .with_context(|| format!("checkpoint {} does not fit its run.toml", path.display()))?;
    let seed = args.seed.unwrap_or(settings.seed);
    let how = if args.sampled { Acting::Sampled } else { Acting::Greedy };
    if let Some(path) = &args.render {
        render::episode(agent.as_ref(), how, &make, seed, path)?;
    }
    let e = train::evaluate(agent.as_ref(), how, &make, seed, args.episodes as usize)?;
    if args.json {
        let object = serde_json::json!({
            "agent": settings.label, "env": settings.env, "seed": settings.seed, "episodes": args.episodes,
            "sampled": args.sampled, "return_mean": e.mean, "return_std": e.std, "return_min": e.min, "return_max": e.max,
            "length_mean": e.length,
        });
        return print(&format!("{object}\n"));
    }
    print(&format!(
        "{} on {}, {} episodes: return {:.2} ± {:.2} (std), {:.2} to {:.2}, length {:.1}\n",
        settings.label, settings.env, args.episodes, e.mean, e.std, e.min, e.max, e.length
    ))
}

fn summarise(args: &SummaryArgs) -> Result<ExitCode> {
    if args.aggregate || args.compare {
        return compare(args);
    }
    let (rows, warnings) = summary::summarise_by(args.of.clone(), &args.by)?;
    for warning in warnings {
        note(&format!("warning: {warning}"));
    }
    print(&if args.json { summary::to_json(&rows)? + "\n" } else { summary::table(&rows) })
}

/// `summary` with `--aggregate`, `--compare` or both.
fn compare(args: &SummaryArgs) -> Result<ExitCode> {
    let bootstrap = Bootstrap { method: args.interval, resamples: args.resamples as usize, seed: 0 };
    let (scores, mut warnings) = across::Scores::read(args.of.clone(), args.score)?;
    let (mut out, mut json) = (String::new(), serde_json::Map::new());
    if args.aggregate {
        let scales = across::scales(args.scores.as_deref())?;
        let common = scores.clone().common(&scales, &mut warnings)?;
        let rows = across::aggregate(&common, bootstrap)?;
        out += &across::aggregate_table(&rows, &common.envs());
        json.insert("environments".into(), serde_json::to_value(common.envs())?);
        json.insert("aggregate".into(), serde_json::to_value(rows)?);
        if args.json {
            let profiles = across::profiles(&common, stats::BAND_RESAMPLES)?;
            json.insert("profiles".into(), serde_json::to_value(profiles)?);
        }
    }
    if args.compare {
        let pairs = across::pairs(&scores, args.baseline.as_deref())?;
        let paired = across::paired(&scores, &pairs, bootstrap, &mut warnings)?;
        let improvements = across::improvements(&scores, &pairs, bootstrap)?;
        if args.aggregate {
            out.push('\n');
        }
        out += &across::comparison_table(&paired, &improvements);
        json.insert("paired".into(), serde_json::to_value(paired)?);
        json.insert("improvement".into(), serde_json::to_value(improvements)?);
    }
    for warning in warnings {
        note(&format!("warning: {warning}"));
    }
    print(&if args.json { serde_json::to_string_pretty(&json)? + "\n" } else { out })
}
