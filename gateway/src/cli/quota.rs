//! `annulus bucket quota` and `annulus user quota`.

use clap::Args;

use super::{CliError, Target, output, parse_bytes};
use crate::admin::model::{NewQuota, QuotaReport};

/// Show a quota and what of it is used, or set it. What is not named stays as it is.
#[derive(Debug, Args)]
pub(super) struct QuotaArgs {
    /// Its name.
    name: String,
    /// The most bytes, like 10GiB, or `none`.
    #[arg(long, value_parser = most_bytes)]
    bytes: Option<Most>,
    /// The most objects, all their versions counted, or `none`.
    #[arg(long, value_parser = most_objects)]
    objects: Option<Most>,
    /// There is no quota any more.
    #[arg(long, conflicts_with_all = ["bytes", "objects"])]
    none: bool,
    #[command(flatten)]
    target: Target,
}

/// How much there may be, if there is an end to it.
#[derive(Clone, Copy, Debug)]
struct Most(Option<u64>);

fn most_bytes(text: &str) -> Result<Most, String> {
    most(text, parse_bytes)
}

fn most_objects(text: &str) -> Result<Most, String> {
    most(text, |text| text.parse().map_err(|_| format!("`{text}` is not a number of objects")))
}

fn most(text: &str, number: impl Fn(&str) -> Result<u64, String>) -> Result<Most, String> {
    match text {
        "none" => Ok(Most(None)),
        text => number(text).map(|number| Most(Some(number))),
    }
}

/// `kind` is the part of the path that says what has the quota.
pub(super) async fn execute(kind: &str, args: QuotaArgs) -> Result<(), CliError> {
    let QuotaArgs { name, bytes, objects, none, target } = args;
    let (client, path) = (target.client()?, format!("/{kind}/{}/quota", super::segment(&name)));
    let mut report: QuotaReport = client.get(&path).await?;
    let new = match none {
        true => NewQuota::default(),
        false => NewQuota {
            objects: objects.map_or(report.objects, |most| most.0),
            bytes: bytes.map_or(report.bytes, |most| most.0),
        },
    };
    if none || bytes.is_some() || objects.is_some() {
        report = client.post(&path, &new).await?;
    }
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
