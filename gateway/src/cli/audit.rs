//! `annulus audit`: everything is read and looked for on every node, and a report is written that can be checked.

use std::path::{Path, PathBuf};

use annulus_common::clock::SystemClock;
use clap::Args;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};

use super::{CliError, Target, output};
use crate::admin::audit::model::{
    AuditReport, CopyPage, CopyReport, CopyRequest, MetadataPage, MetadataRequest, NamesPage, NamesRequest, Problem,
};
use crate::admin::client::AdminClient;
use crate::admin::model::{ClusterStatus, PartitionReport};

/// Partitions whose names are looked for at the same time.
const PARTITIONS_AT_ONCE: usize = 4;

/// Problems that are printed; the report has them all.
const PRINTED_MAX: usize = 20;

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Write the whole report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn execute(args: AuditArgs) -> Result<(), CliError> {
    let report = audit(&args.target.client()?).await?;
    if let Some(path) = &args.out {
        write(path, &report)?;
    }
    if args.target.json {
        output::json(&report)?;
    } else {
        print(&report)?;
    }
    if report.sound { Ok(()) } else { Err(CliError::Unsound(report.problems.len())) }
}

async fn audit(client: &AdminClient) -> Result<AuditReport, CliError> {
    let clock = SystemClock::shared();
    let began_ms = clock.now_ms();
    let status: ClusterStatus = client.get("/status").await?;
    let numbers = 0..status.partitions.len() as u32;
    let names = stream::iter(numbers).map(|partition| names_of(client, partition)).buffered(PARTITIONS_AT_ONCE);
    let (names, nodes) = futures::try_join!(
        names.try_collect::<Vec<NamesPage>>(),
        try_join_all(status.nodes.iter().filter(|node| node.up).map(|node| everything_at(client, &status, node.id))),
    )?;
    let mut named = NamesPage::default();
    names.into_iter().for_each(|page| named.add(page));
    let mut report = AuditReport {
        cluster: status.cluster.clone(),
        began_ms,
        ended_ms: began_ms,
        epoch: status.epoch,
        replication_factor: status.replication_factor,
        sound: false,
        named: named.named,
        inline_bytes: named.inline_bytes,
        chunks: named.chunks,
        copies_expected: named.copies_expected,
        below_target: named.copies_missing,
        copies: Vec::new(),
        problems: [replicas_behind(&status), named.problems].concat(),
    };
    for (copies, problems) in nodes {
        report.copies.extend(copies);
        report.problems.extend(problems);
    }
    let after: ClusterStatus = client.get("/status").await?;
    if after.epoch != status.epoch {
        let message = "the placement changed during the audit: what was found may be of neither".to_owned();
        report.problems.push(problem("moving", None, None, message));
    }
    report.copies.sort_by_key(|copy| (copy.partition, copy.node));
    report.below_target += report.problems.iter().filter(|problem| problem.kind != "missing").count() as u64;
    report.sound = report.problems.is_empty() && report.below_target == 0;
    report.ended_ms = clock.now_ms();
    Ok(report)
}

/// Nodes that do not answer, and replicas of metadata that are not up to date.
fn replicas_behind(status: &ClusterStatus) -> Vec<Problem> {
    let silent = status.nodes.iter().filter(|node| !node.up);
    let silent = silent.map(|node| problem("silent", Some(node.id), None, "the node does not answer".to_owned()));
    let groups = status.partitions.iter().chain([&status.map_group]);
    let behind = groups.flat_map(|group: &PartitionReport| {
        let lacking = group.replicas.iter().filter(|node| !group.in_sync.contains(node));
        lacking.map(|node| {
            let message = "a replica of the metadata is missing or behind".to_owned();
            problem("behind", Some(*node), group.partition, message)
        })
    });
    silent.chain(behind).collect()
}

/// Looks for everything that a partition names.
async fn names_of(client: &AdminClient, partition: u32) -> Result<NamesPage, CliError> {
    let mut sum = NamesPage::default();
    loop {
        let after = sum.next.take();
        sum.add(client.post("/audit/names", &NamesRequest { partition, after }).await?);
        if sum.next.is_none() {
            return Ok(sum);
        }
    }
}

/// Has a node read everything that it should have.
async fn everything_at(
    client: &AdminClient,
    status: &ClusterStatus,
    node: u64,
) -> Result<(Vec<CopyReport>, Vec<Problem>), CliError> {
    let mut problems = metadata_at(client, node).await?;
    let mut copies = Vec::new();
    let held = status.partitions.iter().filter(|partition| partition.replicas.contains(&node));
    for partition in held.filter_map(|partition| partition.partition) {
        let copy = copy_at(client, node, partition).await?;
        let digest = format!("{:016x}", copy.digest);
        copies.push(CopyReport { partition, node, chunks: copy.chunks, bytes: copy.bytes, digest });
        problems.extend(copy.problems);
    }
    Ok((copies, problems))
}

async fn copy_at(client: &AdminClient, node: u64, partition: u32) -> Result<CopyPage, CliError> {
    let mut sum = CopyPage::default();
    let mut after = None;
    loop {
        let page: CopyPage = client.post("/audit/copies", &CopyRequest { node, partition, after }).await?;
        sum.chunks += page.chunks;
        sum.bytes += page.bytes;
        sum.digest = sum.digest.wrapping_add(page.digest);
        sum.problems.extend(page.problems);
        after = page.next;
        if after.is_none() {
            return Ok(sum);
        }
    }
}

async fn metadata_at(client: &AdminClient, node: u64) -> Result<Vec<Problem>, CliError> {
    let mut after = None;
    loop {
        let page: MetadataPage = client.post("/audit/metadata", &MetadataRequest { node, after }).await?;
        after = page.next;
        if after.is_none() || !page.problems.is_empty() {
            return Ok(page.problems);
        }
    }
}

fn problem(kind: &str, node: Option<u64>, partition: Option<u32>, message: String) -> Problem {
    Problem { kind: kind.to_owned(), node, partition, chunk: None, of: None, message }
}

fn print(report: &AuditReport) -> std::io::Result<()> {
    let read: u64 = report.copies.iter().map(|copy| copy.bytes).sum();
    output::line(&format!(
        "{} objects and parts: {} in metadata, {} chunks with {} copies; {} read on all nodes",
        report.named,
        output::bytes(report.inline_bytes),
        report.chunks,
        report.copies_expected,
        output::bytes(read)
    ))?;
    for problem in report.problems.iter().take(PRINTED_MAX) {
        let at = |what: &str, number: Option<u64>| number.map(|number| format!(" {what} {number}")).unwrap_or_default();
        let place = format!("{}{}", at("node", problem.node), at("partition", problem.partition.map(u64::from)));
        let chunk = problem.chunk.as_ref().map(|chunk| format!(" {chunk}")).unwrap_or_default();
        let of = problem.of.as_ref().map(|of| format!(" of {of}")).unwrap_or_default();
        output::line(&format!("  ! {}:{place}{chunk}{of}: {}", problem.kind, problem.message))?;
    }
    if report.problems.len() > PRINTED_MAX {
        output::line(&format!("  ... and {} more: --out FILE has them", report.problems.len() - PRINTED_MAX))?;
    }
    let verdict = if report.sound { "everything is there and sound" } else { "not everything is as it should be" };
    output::line(&format!("{} below target: {verdict}", report.below_target))
}

fn write(path: &Path, report: &AuditReport) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(report).map_err(std::io::Error::from)?;
    std::fs::write(path, text).map_err(|error| CliError::Run(format!("cannot write {}: {error}", path.display())))
}
