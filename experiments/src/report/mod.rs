//! `steadfast report`: one HTML file about a sweep that opens anywhere, without a network.
//!
//! The page is `report.html` with styles, scripts and data put in. Curves are drawn by uPlot, which is part of the binary
//! (`vendor/uplot`).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::cli::{note, print};
use crate::record::write_atomic;
use crate::summary::across;
use data::{Report, Source};

mod data;
mod serve;

const PAGE: &str = include_str!("report.html");

/// What the page is made of, by the names that it has in `report.html`.
const PARTS: [(&str, &str); 5] = [
    ("uplot-licence", include_str!("vendor/uplot/LICENSE")),
    ("uplot-style", include_str!("vendor/uplot/uPlot.min.css")),
    ("style", include_str!("report.css")),
    ("uplot", include_str!("vendor/uplot/uPlot.iife.min.js")),
    ("script", include_str!("report.js")),
];

/// Size above which a page is announced.
const LARGE: usize = 5_000_000;

/// Arguments of `steadfast report`.
#[derive(clap::Args)]
pub struct ReportArgs {
    /// Folders of sweeps, run directories or CSV files
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// File to write
    #[arg(long, default_value = "report.html")]
    out: PathBuf,
    /// Show the page on this machine (127.0.0.1) instead, and keep it up to date; any free port, or this one. Put it last
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "0", conflicts_with = "out")]
    serve: Option<u16>,
    /// Heading [default: the sweep's title]
    #[arg(long)]
    title: Option<String>,
    /// Random and reference score of each environment instead of the built-in file
    #[arg(long, value_name = "FILE")]
    scores: Option<PathBuf>,
    /// Agent that the others are compared with [default: all pairs, of up to 8 agents]
    #[arg(long, value_name = "AGENT")]
    baseline: Option<String>,
}

/// Reads the results and writes the page.
///
/// # Errors
/// For files that cannot be read, and when no run has a score.
pub fn main(args: &ReportArgs) -> Result<ExitCode> {
    let source = Source {
        paths: args.paths.clone(),
        title: args.title.clone(),
        scales: across::scales(args.scores.as_deref())?,
        baseline: args.baseline.clone(),
    };
    if let Some(port) = args.serve {
        return serve::serve(source, port);
    }
    let page = page(&data::assemble(&source)?, "")?;
    if page.len() > LARGE {
        note(&format!(
            "the page has {:.1} MB; reports on parts of the runs are lighter",
            page.len() as f64 / 1e6
        ));
    }
    write(&args.out, &page)?;
    print(&format!("{}\n", args.out.display()))
}

fn write(path: &Path, page: &str) -> Result<()> {
    if path.is_dir() {
        bail!("{} is a folder; --out is the HTML file to write", path.display());
    }
    write_atomic(path, page.as_bytes())
}

/// The page about `report`; with the mark of its files it asks its server for news.
fn page(report: &Report, mark: &str) -> Result<String> {
    let data = in_script(&serde_json::to_string(report)?);
    let mut page = String::with_capacity(PAGE.len() + data.len() + 100_000);
    let mut rest = PAGE;
    // Once from the front, so that what is put in is not searched.
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").context("report.html has an open '{{'")?;
        page += before;
        match PARTS.iter().find(|(part, _)| *part == name) {
            Some((_, text)) => page += text,
            None if name == "data" => page += &data,
            None if name == "live" => page += mark,
            None => page += &escaped(&report.title),
        }
        rest = after;
    }
    Ok(page + rest)
}

/// JSON that no `</script>` or comment within can end.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
}

/// Text between tags.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
