//! `annulus bucket quota` and `annulus user quota`.

use clap::Args;

use super::{CliError, Target, output, parse_bytes};
use crate::admin::model::{NewQuota, QuotaReport};

/// Show a quota and what of it is used, or set it. What is not named has no end then.
#[derive(Debug, Args)]
pub(super) struct QuotaArgs {
    /// The bucket or the account.
    name: String,
    /// The most bytes, like 10GiB.
    #[arg(long, value_parser = parse_bytes)]
    bytes: Option<u64>,
    /// The most objects, all their versions counted.
    #[arg(long)]
    objects: Option<u64>,
    /// There is no quota any more.
    #[arg(long, conflicts_with_all = ["bytes", "objects"])]
    none: bool,
    #[command(flatten)]
    target: Target,
}

/// `kind` is the part of the path that says what has the quota.
pub(super) async fn execute(kind: &str, args: QuotaArgs) -> Result<(), CliError> {
    let QuotaArgs { name, bytes, objects, none, target } = args;
    let path = format!("/{kind}/{}/quota", super::segment(&name));
    let sets = none || bytes.is_some() || objects.is_some();
    let report: QuotaReport = match sets {
        true => target.client()?.post(&path, &NewQuota { objects, bytes }).await?,
        false => target.client()?.get(&path).await?,
    };
    if target.json {
        output::json(&report)?
    } else {
        print(&report)?
    }
    Ok(())
}

fn print(report: &QuotaReport) -> std::io::Result<()> {
    let most = |most: Option<String>| most.unwrap_or_else(|| "unlimited".to_owned());
    let rows = [
        [
            "objects".to_owned(),
            report.used_objects.to_string(),
            most(report.objects.map(|objects| objects.to_string())),
        ],
        ["bytes".to_owned(), output::bytes(report.used_bytes), most(report.bytes.map(output::bytes))],
    ];
    output::table(["", "USED", "QUOTA"], &rows)
}
