//! `annulus bucket`.

use clap::{Args, Subcommand};

use super::quota::QuotaArgs;
use super::{CliError, Target, output};
use crate::admin::model::{BucketReport, NewBucket, PrefixUsage, UsageReport};

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
    /// Show how much a bucket holds, at once: every write counts.
    Du {
        /// The bucket.
        name: String,
        /// Only what lies under it: it ends with a slash, and has four at most.
        #[arg(long, default_value = "")]
        prefix: String,
        #[command(flatten)]
        target: Target,
    },
    /// Show or set the most that a bucket may hold.
    Quota(QuotaArgs),
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
        BucketAction::Du { name, prefix, target } => {
            let usage = usage(&target, &name, &prefix).await?;
            if target.json { output::json(&usage)? } else { print_usage(&usage)? }
        }
        BucketAction::Quota(args) => super::quota::execute("buckets", args).await?,
        BucketAction::Delete { name, target } => {
            target.client()?.delete(&format!("/buckets/{}", super::segment(&name))).await?
        }
    }
    Ok(())
}

/// The usage with all prefixes right below, page by page.
async fn usage(target: &Target, name: &str, prefix: &str) -> Result<UsageReport, CliError> {
    let (client, name) = (target.client()?, super::segment(name));
    let mut all: Option<UsageReport> = None;
    loop {
        let last = all.as_ref().and_then(|all| all.below.last());
        let after = last.map(|last| format!("&after={}", super::segment(&last.prefix))).unwrap_or_default();
        let path = format!("/buckets/{name}/usage?prefix={}{after}", super::segment(prefix));
        let page: UsageReport = client.get(&path).await?;
        let more = page.more;
        match &mut all {
            Some(all) => all.below.extend(page.below),
            None => all = Some(UsageReport { more: false, ..page }),
        }
        if !more {
            return Ok(all.expect("a page was just taken"));
        }
    }
}

fn print_usage(usage: &UsageReport) -> std::io::Result<()> {
    let row = |usage: &PrefixUsage| [usage.prefix.clone(), usage.objects.to_string(), output::bytes(usage.bytes)];
    let mut rows: Vec<[String; 3]> = usage.below.iter().map(row).collect();
    rows.push(["(all)".to_owned(), usage.whole.objects.to_string(), output::bytes(usage.whole.bytes)]);
    output::table(["PREFIX", "OBJECTS", "SIZE"], &rows)
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
