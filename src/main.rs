//! The `broadside` command.

#![warn(clippy::unwrap_used)]

mod cli;

use std::process::ExitCode;

// A page consists of thousands of small strings. With the allocator of the C library, their allocation took
// a third of the total time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
