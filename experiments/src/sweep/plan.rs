//! The manifest of a sweep, JSON lines: a header, then one line a cell. It never changes while somebody works from it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::{claim, name};
use crate::record::{self, remove_drafts, write_atomic};
use crate::settings::RunSettings;
use crate::suite::{Overrides, Suite};

/// Layout of the manifest.
const SCHEMA: &str = "steadfast-manifest-2";

/// Name of the manifest in a sweep's folder.
const FILE: &str = "manifest.jsonl";

/// First line of a manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Header {
    schema: String,
    version: String,
    suite: String,
    title: String,
    cells: usize,
    /// Of the lines of the cells.
    hash: String,
}

/// Line of a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    index: usize,
    settings: RunSettings,
}

/// A planned sweep.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Name of the suite and of its folder.
    pub suite: String,
    /// Heading of figures and tables.
    pub title: String,
    /// The runs, sorted by label, environment and seed.
    pub cells: Vec<RunSettings>,
    /// Hash of all cells: two sweeps of one hash are the same.
    pub hash: String,
}

impl Manifest {
    /// The cells of a suite.
    ///
    /// # Errors
    /// For unknown names and bad options.
    pub fn plan(suite: &Suite, overrides: &Overrides) -> Result<Self> {
        let cells = suite.cells(overrides)?;
        cells
            .iter()
            .try_for_each(RunSettings::validate)
            .with_context(|| format!("suite '{}'", suite.name))?;
        let hash = hash(&lines(&cells)?);
        Ok(Self { suite: suite.name.clone(), title: suite.title.clone(), cells, hash })
    }

    /// As JSON lines; the same plan gives the same bytes.
    ///
    /// # Errors
    /// Never in practice: settings always serialise.
    pub fn to_text(&self) -> Result<String> {
        let header = Header {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            suite: self.suite.clone(),
            title: self.title.clone(),
            cells: self.cells.len(),
            hash: self.hash.clone(),
        };
        Ok(serde_json::to_string(&header)? + "\n" + &lines(&self.cells)?)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When the file cannot be read, is no manifest of this version, is truncated or was changed.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| {
            format!("cannot read manifest {shown}; write one with `steadfast sweep plan`")
        })?;
        let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
        let schema = serde_json::from_str::<serde_json::Value>(first).ok();
        match schema.as_ref().and_then(|header| header["schema"].as_str()) {
            Some(SCHEMA) | None => {}
            Some(other) => {
                bail!("{shown} has schema '{other}', this version reads '{SCHEMA}'; plan the sweep again")
            }
        }
        let header: Header =
            serde_json::from_str(first).map_err(|e| anyhow!("{shown} line 1 is no manifest header: {e}"))?;
        let cell = |(i, line): (usize, &str)| -> Result<RunSettings> {
            let place = || format!("{shown} line {}", i + 2);
            let line: Line = serde_json::from_str(line).with_context(place)?;
            line.settings.validate().with_context(place)?;
            Ok(line.settings)
        };
        let cells: Vec<RunSettings> = rest.lines().enumerate().map(cell).collect::<Result<_>>()?;
        if cells.len() != header.cells {
            bail!("{shown} is truncated: {} of {} cells; plan the sweep again", cells.len(), header.cells);
        }
        if hash(rest) != header.hash {
            bail!("{shown} was changed since it was planned; plan the sweep again");
        }
        Ok(Self { suite: header.suite, title: header.title, cells, hash: header.hash })
    }

    /// Path of the manifest in a sweep's folder.
    pub fn path(sweep: &Path) -> PathBuf {
        sweep.join(FILE)
    }

    /// Writes the manifest into the sweep's folder, unless it is there. `replace` allows another plan in its place, if
    /// nobody works from the old one.
    ///
    /// # Errors
    /// When the folder cannot be written to, or holds another plan that must stay.
    pub fn write(&self, sweep: &Path, replace: bool) -> Result<()> {
        let shown = sweep.display();
        fs::create_dir_all(sweep).with_context(|| format!("cannot create {shown}"))?;
        let path = Self::path(sweep);
        let text = self.to_text()?;
        if fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
            return Ok(());
        }
        // Two processes that plan at the same moment: one after the other.
        let _turn = record::turn(sweep);
        if path.exists() {
            let other = match Self::read(&path) {
                Ok(old) if old.hash == self.hash => None,
                Ok(old) => Some(self.difference(&old)),
                Err(_) => None,
            };
            if let Some(difference) = &other
                && !replace
            {
                bail!("{shown} holds another plan ({difference}); choose another --out or delete it");
            }
            if let Some(difference) = other
                && let Some(who) = claim::anyone(sweep)
            {
                bail!(
                    "{who} is at work in {shown} on another plan ({difference}); wait, or choose another --out"
                );
            }
        }
        remove_drafts(sweep);
        write_atomic(&path, text.as_bytes())
    }

    /// The first thing in which another plan differs.
    fn difference(&self, other: &Self) -> String {
        let pairs = self.cells.iter().zip(&other.cells);
        match pairs.into_iter().find(|(new, old)| new != old) {
            Some((new, old)) if name(new) == name(old) => {
                format!("{}: {}", name(new), RunSettings::difference(old, new))
            }
            _ => format!("{} cells there, {} here", other.cells.len(), self.cells.len()),
        }
    }
}

/// One line a cell.
fn lines(cells: &[RunSettings]) -> Result<String> {
    let mut text = String::new();
    for (index, settings) in cells.iter().enumerate() {
        text += &(serde_json::to_string(&Line { index, settings: settings.clone() })? + "\n");
    }
    Ok(text)
}

/// 64 bits of a cryptographic hash, in hexadecimal digits: plans meet by accident only.
fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}
