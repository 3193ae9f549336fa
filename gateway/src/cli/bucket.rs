//! `annulus bucket`.

use clap::{Args, Subcommand};

use super::{CliError, Target, output};
use crate::admin::model::{BucketReport, NewBucket};

#[derive(Debug, Args)]
pub(super) struct BucketArgs {
    #[command(subcommand)]
    action: BucketAction,
}

#[derive(Debug, Subcommand)]
enum BucketAction {
    /// Make a bucket.
    Create {
        /// Its name.
        name: String,
        /// The name of the account that will own it; yours when absent.
        #[arg(long)]
        owner: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// List the buckets of all accounts.
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Delete an empty bucket.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        target: Target,
    },
}

pub(super) async fn execute(args: BucketArgs) -> Result<(), CliError> {
    match args.action {
        BucketAction::Create { name, owner, target } => {
            let bucket: BucketReport = target.client()?.post("/buckets", &NewBucket { name, owner }).await?;
            if target.json { output::json(&bucket)? } else { print(&[bucket])? }
        }
        BucketAction::List { target } => {
            let buckets: Vec<BucketReport> = target.client()?.get("/buckets").await?;
            if target.json { output::json(&buckets)? } else { print(&buckets)? }
        }
        BucketAction::Delete { name, target } => {
            target.client()?.delete(&format!("/buckets/{}", super::segment(&name))).await?
        }
    }
    Ok(())
}

fn print(buckets: &[BucketReport]) -> std::io::Result<()> {
    let rows: Vec<[String; 4]> = buckets
        .iter()
        .map(|bucket| {
            let state = if bucket.deleting { "deleting" } else { "active" };
            [bucket.name.clone(), bucket.owner.clone(), output::date(bucket.created_ms), state.to_owned()]
        })
        .collect();
    output::table(["NAME", "OWNER", "CREATED", "STATE"], &rows)
}
