//! `annulus`: the gateway, alone or with a storage node in the same process, and the commands that administer a cluster.

use std::io::Write;
use std::process::ExitCode;

use annulus_gateway::cli::Cli;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "annulus: {error}");
            ExitCode::FAILURE
        }
    }
}
