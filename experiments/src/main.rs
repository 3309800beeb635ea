//! `steadfast`: a benchmark suite for trust-region reinforcement learning.

mod bench;
mod checkpoint;
mod cli;
mod inspect;
mod plot;
mod record;
#[cfg(test)]
mod reference;
mod render;
mod settings;
mod stats;
mod suite;
mod summary;
mod sweep;
mod train;

use std::process::ExitCode;

/// Large batches come and go every minibatch; the system's allocator would map and clear their pages each time,
/// which triples the time of a 2048-row update.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::main() {
        Ok(code) => code,
        Err(error) => cli::fail(&error),
    }
}
