//! `annulus status`.

use clap::Args;

use super::{CliError, Target, output, progress};
use crate::admin::model::{ClusterStatus, NodeReport, PartitionReport, Risk};

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// List every partition, not only those that lack something.
    #[arg(long)]
    partitions: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn show(args: StatusArgs) -> Result<(), CliError> {
    let status: ClusterStatus = args.target.client()?.get("/status").await?;
    if args.target.json {
        output::json(&status)?
    } else {
        print(&status, args.partitions)?
    }
    Ok(())
}

fn print(status: &ClusterStatus, all_partitions: bool) -> std::io::Result<()> {
    let health = &status.state;
    output::line(&format!(
        "cluster {}  {health}  replication factor {}  {} partitions  map version {}, epoch {}",
        status.cluster,
        status.replication_factor,
        status.partitions.len(),
        status.map_version,
        status.epoch
    ))?;
    for problem in &status.problems {
        output::line(&format!("  ! {problem}"))?;
    }
    print_redundancy(status)?;
    if status.moves.partitions > 0 || status.moves.paused {
        output::line(&progress::describe(&status.moves))?;
    }
    output::line("")?;
    let rows: Vec<[String; 10]> = status.nodes.iter().map(node_row).collect();
    let heading = ["ID", "NAME", "ADDRESS", "ZONE", "STATE", "SHARE", "LEADS", "CHUNKS", "DATA", "DISK FREE"];
    output::table(heading, &rows)?;
    let rows: Vec<[String; 4]> = std::iter::once(&status.map_group)
        .chain(&status.partitions)
        .filter(|partition| {
            let lacks = !partition.is_as_planned || partition.in_sync.len() < partition.replicas.len();
            all_partitions || partition.leader.is_none() || lacks
        })
        .map(partition_row)
        .collect();
    if !rows.is_empty() {
        output::line("")?;
        output::table(["PARTITION", "REPLICAS", "LEADER", "IN SYNC"], &rows)?;
    }
    Ok(())
}

/// What is below target now, what would lose data, and what is being done.
fn print_redundancy(status: &ClusterStatus) -> std::io::Result<()> {
    let (redundancy, copies) = (&status.redundancy, &status.copies);
    output::line(&format!(
        "below target: {} chunk copies, {} metadata replicas; unknown: {} copies of partitions; unavailable: {} partitions",
        copies.chunks_missing + copies.chunks_damaged,
        copies.metadata_replicas_missing,
        copies.unverified,
        redundancy.partitions_unavailable
    ))?;
    output::line(&tolerance(redundancy.node_failures_tolerated))?;
    for risk in &redundancy.risks {
        output::line(&describe(risk))?;
    }
    for zone in &copies.zones_at_risk {
        output::line(&format!("zone {} has the only good copies of {} partitions", zone.zone, zone.partitions))?;
    }
    if copies.bytes_missing > 0 {
        let eta = copies.eta_seconds.map(|seconds| format!(", {seconds} s left")).unwrap_or_default();
        let (missing, rate) = (output::bytes(copies.bytes_missing), output::bytes(copies.bytes_per_second));
        output::line(&format!("being repaired: {missing} at {rate}/s{eta}"))?;
    }
    match copies.scrubbed_ms {
        Some(ms) => output::line(&format!("everything was read and checked by {}", output::date(ms))),
        None => output::line("not everything has been read and checked yet"),
    }
}

/// How many nodes may fail, in words.
fn tolerance(nodes: u32) -> String {
    match nodes {
        0 => "no further node may fail: not everything would be served".to_owned(),
        1 => "any one more node may fail, and everything is served".to_owned(),
        nodes => format!("any {nodes} more nodes may fail, and everything is served"),
    }
}

/// What the failure of a node would do, in words.
fn describe(risk: &Risk) -> String {
    let Risk { node, name, partitions_stopped, partitions_lost } = risk;
    let stop = if *partitions_stopped == 1 { "stops" } else { "stop" };
    let stopped = output::count(*partitions_stopped, "partition");
    let mut text = format!("if node {node} ({name}) fails now, {stopped} {stop}");
    match partitions_lost {
        0 => {}
        1 => text += ", and one is lost if its disk is: no other node is known to have all of it",
        lost => text += &format!(", and {lost} are lost if its disk is: no other node is known to have all of them"),
    }
    text
}

fn node_row(node: &NodeReport) -> [String; 10] {
    let detail =
        |show: fn(&crate::admin::model::NodeDetails) -> String| node.details.as_ref().map_or("-".to_owned(), show);
    [
        node.id.to_string(),
        node.name.clone(),
        node.address.clone(),
        node.zone.clone(),
        format!("{}, {}", node.state, if node.up { "up" } else { "down" }),
        node.partitions.to_string(),
        detail(|details| format!("{}/{}", details.leads, details.groups)),
        detail(|details| details.chunks.to_string()),
        detail(|details| output::bytes(details.chunk_bytes)),
        detail(|details| output::bytes(details.disk_free_bytes)),
    ]
}

fn partition_row(partition: &PartitionReport) -> [String; 4] {
    let ids = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    [
        partition.partition.map_or("map".to_owned(), |number| number.to_string()),
        ids(&partition.replicas),
        partition.leader.map_or("none".to_owned(), |leader| leader.to_string()),
        ids(&partition.in_sync),
    ]
}

#[cfg(test)]
mod tests {
    use super::{Risk, describe, tolerance};

    #[test]
    fn one_is_not_said_as_many_are() {
        assert_eq!(tolerance(1), "any one more node may fail, and everything is served");
        assert_eq!(tolerance(2), "any 2 more nodes may fail, and everything is served");
        assert!(tolerance(0).starts_with("no further node may fail"));
        let risk = |partitions_stopped, partitions_lost| {
            describe(&Risk { node: 3, name: "n3".to_owned(), partitions_stopped, partitions_lost })
        };
        assert_eq!(risk(2, 0), "if node 3 (n3) fails now, 2 partitions stop");
        assert!(risk(1, 1).starts_with("if node 3 (n3) fails now, 1 partition stops, and one is lost"));
        assert!(risk(2, 2).contains(", and 2 are lost"));
    }
}
