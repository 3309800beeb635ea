//! Sweeps: many runs, planned once, run anywhere, joined at the end.
//!
//! A manifest (`plan`) fixes what a sweep is. A cell is one run in one process (`cell`), so that a crash stays its own.
//! `run` starts cells on this machine; `emit` writes the scripts with which other engines do. Processes that share
//! nothing but the folder keep out of each other's way by claims (`claim`). `status` looks, `collect` joins.

use std::path::{Path, PathBuf};

use crate::settings::RunSettings;

pub(crate) mod cell;
pub(crate) mod claim;
pub(crate) mod cli;
pub(crate) mod collect;
pub(crate) mod emit;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod space;
pub(crate) mod status;

/// Directory of a finished cell below the sweep's.
pub fn cell_dir(sweep: &Path, cell: &RunSettings) -> PathBuf {
    sweep.join(&cell.label).join(cell.env.replace(['/', ':'], "-")).join(format!("seed-{}", cell.seed))
}

/// What messages call a cell.
pub(crate) fn name(cell: &RunSettings) -> String {
    format!("{} {} seed-{}", cell.label, cell.env, cell.seed)
}
