//! `annulus`: the gateway, alone or with a storage node in the same process, and the commands that administer a cluster.

use std::io::Write;
use std::process::ExitCode;

use annulus_gateway::cli::Cli;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How a command ends whose answer nobody reads any more: as the shell tells it of a program that SIGPIPE ended. Not well, as
/// what it was waiting for may not have happened.
const CLOSED_PIPE: u8 = 128 + 13;

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::from(CLOSED_PIPE),
        Err(error) => {
            // Standard error may be closed; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "annulus: {error}");
            ExitCode::FAILURE
        }
    }
}
