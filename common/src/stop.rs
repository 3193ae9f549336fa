//! How a process is told to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// SIGTERM and SIGINT ask for a clean end, in which `what` is done; a second one ends the process at once.
pub fn on_signal(what: &'static str) -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        for times in 1.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if times > 1 {
                error!("told to stop twice: ending at once");
                std::process::exit(1);
            }
            info!("told to stop: {what}");
            told.cancel();
        }
    });
    Ok(stop)
}
