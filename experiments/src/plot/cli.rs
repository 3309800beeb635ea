//! `steadfast plot`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use super::{Figure, Kind, Options, XAxis, curves, kinds, save};
use crate::cli::{note, print};
use crate::stats::across::{Bootstrap, Method};
use crate::summary::read::Selection;
use crate::summary::{Score, across};

/// Arguments of `steadfast plot`.
#[derive(clap::Args)]
pub struct PlotArgs {
    #[command(flatten)]
    of: Selection,
    /// What to draw
    #[arg(long, value_enum, default_value_t = Kind::Curves)]
    kind: Kind,
    /// Figure to write, .svg, .png or .pdf; may be repeated [default: KIND.svg]
    #[arg(long)]
    out: Vec<PathBuf>,
    /// Horizontal axis of curves
    #[arg(long, value_enum, default_value_t = XAxis::Step)]
    x: XAxis,
    /// Column of curves, of eval.csv, train.csv or episodes.csv [default: return_mean]
    #[arg(long)]
    y: Option<String>,
    /// Score of a run, for figures of scores
    #[arg(long, value_enum, default_value_t = Score::Final)]
    score: Score,
    /// Random and reference score of each environment instead of the built-in file
    #[arg(long, value_name = "FILE")]
    scores: Option<PathBuf>,
    /// Agent that the others are compared with in `improvement` [default: all pairs]
    #[arg(long, value_name = "AGENT")]
    baseline: Option<String>,
    /// Option on the horizontal axis of `sensitivity`
    #[arg(long, value_name = "KEY", required_if_eq("kind", "sensitivity"))]
    option: Option<String>,
    /// Draw lines in the terminal instead
    #[arg(long)]
    terminal: bool,
    /// Heading
    #[arg(long)]
    title: Option<String>,
}

/// Reads, draws and writes.
///
/// # Errors
/// For files that cannot be read, and when there is nothing to draw.
pub fn main(args: &PlotArgs) -> Result<ExitCode> {
    let mut options = Options { x: args.x, ..Options::default() };
    if let Some(y) = &args.y {
        options.y.clone_from(y);
    }
    if args.kind != Kind::Curves && (args.y.is_some() || args.x != XAxis::Step) {
        bail!(
            "--x and --y belong to --kind curves; the other figures are made of final scores or areas (--score)"
        );
    }
    let bootstrap = Bootstrap { method: Method::Percentile, resamples: across::RESAMPLES, seed: 0 };
    let scales = across::scales(args.scores.as_deref())?;
    let (mut figure, warnings) = match args.kind {
        Kind::Curves => {
            let (curves, warnings) = curves(args.of.clone(), &options)?;
            let labels = options.labels(&curves);
            (Figure::Lines(curves, labels), warnings)
        }
        Kind::Aggregate => kinds::aggregate(args.of.clone(), &scales)?,
        Kind::Intervals => kinds::intervals(args.of.clone(), args.score, &scales, bootstrap)?,
        Kind::Profiles => kinds::profiles(args.of.clone(), args.score, &scales)?,
        Kind::Improvement => {
            kinds::improvement(args.of.clone(), args.score, args.baseline.as_deref(), bootstrap)?
        }
        Kind::Sensitivity => {
            kinds::sensitivity(args.of.clone(), args.score, args.option.as_deref().unwrap_or_default())?
        }
    };
    for warning in warnings {
        note(&format!("warning: {warning}"));
    }
    figure.labels_mut().title.clone_from(&args.title);
    if args.terminal {
        let Some(text) = figure.terminal(false) else {
            bail!(
                "intervals are not drawn in the terminal; `steadfast summary --aggregate --compare` prints them"
            );
        };
        return print(&text);
    }
    let default = [PathBuf::from(format!("{}.svg", args.kind.name()))];
    for path in if args.out.is_empty() { &default[..] } else { &args.out[..] } {
        save(path, &figure.svg())?;
        print(&format!("{}\n", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
