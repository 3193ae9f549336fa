//! `annulus kms`.

use clap::{Args, Subcommand};

use super::{CliError, Target, output, segment};
use crate::admin::model::{KmsKeyReport, NewKmsKey, Rewrapped};

#[derive(Debug, Args)]
pub(super) struct KmsArgs {
    #[command(subcommand)]
    action: KmsAction,
}

#[derive(Debug, Subcommand)]
enum KmsAction {
    /// Make a key, which SSE-KMS requests can name. A key named aws/s3 is used by those that name none.
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// List the keys.
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Let nobody use a key: its objects can be neither written nor read when this returns.
    Disable {
        /// Its name.
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Let a key be used again.
    Enable {
        /// Its name.
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Give a key a new version for what is written from now on. What there is stays readable.
    Rotate {
        /// Its name.
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Wrap every key by the master key that the gateway has now, after the master key was changed.
    Rewrap {
        #[command(flatten)]
        target: Target,
    },
}

pub(super) async fn execute(args: KmsArgs) -> Result<(), CliError> {
    match args.action {
        KmsAction::Create { name, target } => {
            let key: KmsKeyReport = target.client()?.post("/kms", &NewKmsKey { name }).await?;
            if target.json { output::json(&key)? } else { output::line(&format!("key  {}", key.name))? }
        }
        KmsAction::List { target } => {
            let keys: Vec<KmsKeyReport> = target.client()?.get("/kms").await?;
            if target.json { output::json(&keys)? } else { print(&keys)? }
        }
        KmsAction::Disable { name, target } => change(&target, &name, "disable").await?,
        KmsAction::Enable { name, target } => change(&target, &name, "enable").await?,
        KmsAction::Rotate { name, target } => change(&target, &name, "rotate").await?,
        KmsAction::Rewrap { target } => {
            let done: Rewrapped = target.client()?.post("/kms-rewrap", &()).await?;
            if target.json { output::json(&done)? } else { output::line(&format!("{} wrapped anew", done.versions))? }
        }
    }
    Ok(())
}

async fn change(target: &Target, name: &str, action: &str) -> Result<(), CliError> {
    let key: KmsKeyReport = target.client()?.post(&format!("/kms/{}/{action}", segment(name)), &()).await?;
    if target.json { Ok(output::json(&key)?) } else { Ok(()) }
}

fn print(keys: &[KmsKeyReport]) -> std::io::Result<()> {
    let row = |key: &KmsKeyReport| {
        let state = if key.enabled { "enabled" } else { "disabled" };
        let dates = [key.created_ms, key.rotated_ms].map(output::date);
        let [created, rotated] = dates;
        [key.name.clone(), state.to_owned(), key.versions.to_string(), created, rotated]
    };
    let rows: Vec<[String; 5]> = keys.iter().map(row).collect();
    output::table(["KEY", "STATE", "VERSIONS", "CREATED", "ROTATED"], &rows)
}
