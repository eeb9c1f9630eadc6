//! The `broadside` command.

#![warn(clippy::unwrap_used)]

mod cli;

use std::process::ExitCode;

// A page is some thousands of small texts, each allocated and freed once: with the allocator of
// the C library, that was a third of the time of everything.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
