//! Everything of the suite that touches the outside world: runs and their files, sweeps, statistics, figures, the command
//! line. The binary `steadfast` and the Python package are front ends of this library.

mod bench;
pub mod checkpoint;
pub mod cli;
mod export;
#[cfg(test)]
mod fuzz;
mod inspect;
mod plot;
mod record;
#[cfg(test)]
mod reference;
pub mod render;
mod report;
pub mod settings;
mod stats;
mod suite;
mod summary;
pub mod sweep;
pub mod train;
mod warn;
