//! `steadfast`: a benchmark suite for trust-region reinforcement learning.

use std::process::ExitCode;

use steadfast::cli;

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
