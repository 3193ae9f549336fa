//! `annulus repair`: whether anything may be moved, and how far it is.

use clap::{Args, Subcommand};

use super::{CliError, Target, output, progress};
use crate::admin::model::{ClusterStatus, PauseRequest};

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    #[command(subcommand)]
    action: RepairAction,
}

#[derive(Debug, Subcommand)]
enum RepairAction {
    /// Move nothing until `resume`, and give up no silent node meanwhile.
    Pause {
        #[command(flatten)]
        target: Target,
    },
    /// Go on moving.
    Resume {
        #[command(flatten)]
        target: Target,
    },
    /// Show how far everything is.
    Status {
        #[command(flatten)]
        target: Target,
    },
}

pub(super) async fn execute(args: RepairArgs) -> Result<(), CliError> {
    match args.action {
        RepairAction::Pause { target } => pause(&target, true).await,
        RepairAction::Resume { target } => pause(&target, false).await,
        RepairAction::Status { target } => {
            let status: ClusterStatus = target.client()?.get("/status").await?;
            if target.json {
                output::json(&status.moves)?;
            } else {
                output::line(&progress::describe(&status.moves))?;
            }
            Ok(())
        }
    }
}

async fn pause(target: &Target, paused: bool) -> Result<(), CliError> {
    let request = PauseRequest { paused };
    target.client()?.post::<serde_json::Value>("/moves", &request).await?;
    if target.json {
        output::json(&request)?;
    }
    Ok(())
}
