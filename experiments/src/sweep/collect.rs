//! Joins the files of complete cells. What comes out depends on the cells alone: not on who ran them, where, in which order.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::plan::Manifest;
use super::status::{State, concerns, look};
use super::{cell_dir, name};
use crate::record::Draft;
use crate::train;

/// Joins the files of all complete cells into `episodes.csv`, `eval.csv`, `train.csv` and `timing.csv` of the sweep's
/// folder, sorted by agent, environment, seed and step. Returns one message for each cell that is not complete or diverged.
///
/// # Errors
/// When files cannot be read or written, were changed, have different headers, or come from different versions (unless
/// `mixed`).
pub fn collect(manifest: &Manifest, sweep: &Path, mixed: bool) -> Result<Vec<String>> {
    let mut messages = Vec::new();
    let mut complete = Vec::new();
    let mut first: Option<(String, String)> = None;
    for cell in &manifest.cells {
        let state = look(sweep, cell)?;
        messages.extend(concerns(cell, &state));
        let State::Complete(result) = state else { continue };
        let place = cell_dir(sweep, cell);
        if !result.files.is_empty() {
            let found = train::checksums(&place)?;
            if let Some((file, _)) = result.files.iter().find(|(file, hash)| found.get(*file) != Some(hash)) {
                bail!(
                    "{} was changed after its run had ended; delete {} and run the sweep again",
                    place.join(file).display(),
                    place.display()
                );
            }
        }
        match &first {
            None => first = Some((name(cell), result.version)),
            Some((other, version)) if *version != result.version && !mixed => bail!(
                "{other} was run by version {version}, {} by version {}; add --mixed to join them all the same",
                name(cell),
                result.version
            ),
            Some(_) => {}
        }
        complete.push(place);
    }
    if complete.is_empty() {
        let why = messages.first().map_or(String::new(), |m| format!(" ({m})"));
        bail!(
            "no cell of {} is complete{why}; run `steadfast sweep run {}`",
            sweep.display(),
            manifest.suite
        );
    }
    for name in train::NAMES {
        let mut draft = Draft::new(&sweep.join(name))?;
        let mut header: Option<String> = None;
        for directory in &complete {
            let path = directory.join(name);
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            // A run without a single finished episode leaves an empty file.
            let Some((first, rows)) = text.split_once('\n') else { continue };
            match &header {
                None => {
                    draft.write(format!("{first}\n").as_bytes())?;
                    header = Some(first.to_owned());
                }
                Some(header) if header != first => {
                    bail!(
                        "{} has other columns than the cells before it; run the sweep with one version",
                        path.display()
                    )
                }
                Some(_) => {}
            }
            draft.write(rows.as_bytes())?;
        }
        draft.finish()?;
    }
    Ok(messages)
}
