//! `annulus status`.

use clap::Args;

use super::{CliError, Target, output, progress};
use crate::admin::model::{ClusterStatus, EventsReport, NodeReport, PartitionReport, Risk, WebhookReport};

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
    print_events(&status.events)?;
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

/// What webhooks were not told yet, and what they never are. Nothing where all is told.
fn print_events(events: &EventsReport) -> std::io::Result<()> {
    for webhook in &events.webhooks {
        output::line(&describe_webhook(webhook))?;
    }
    if !events.complete {
        output::line("more events may wait for webhooks: not every partition has told of its own")?;
    }
    Ok(())
}

/// How it stands with the events of a webhook, in words.
fn describe_webhook(report: &WebhookReport) -> String {
    let WebhookReport { webhook, waiting, set_aside, oldest_ms, given_up, dropped, untold_ms } = report;
    let waits = if *waiting == 1 { "waits" } else { "wait" };
    let mut text = format!("webhook {webhook}: {} {waits}", output::count(*waiting, "event"));
    if let Some(ms) = oldest_ms {
        text += &format!(", the oldest since {}", output::date(*ms));
    }
    if *set_aside > 0 {
        text += &format!("; refused and tried again: {set_aside}");
    }
    if let Some(ms) = untold_ms {
        text += &format!("; never told: {given_up} given up, {dropped} dropped, the last at {}", output::date(*ms));
    }
    text
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
    use super::{Risk, WebhookReport, describe, describe_webhook, tolerance};

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

    #[test]
    fn it_is_said_what_waits_for_a_webhook_and_what_it_is_never_told() {
        let webhook = |waiting, set_aside, untold_ms: Option<u64>| {
            let (webhook, oldest_ms) = ("orders".to_owned(), (waiting > 0).then_some(1_700_000_000_123));
            let (given_up, dropped) = if untold_ms.is_some() { (2, 1_024) } else { (0, 0) };
            let report = WebhookReport { webhook, waiting, set_aside, oldest_ms, given_up, dropped, untold_ms };
            describe_webhook(&report)
        };
        let since = "the oldest since 2023-11-14T22:13:20Z";
        assert_eq!(webhook(1, 0, None), format!("webhook orders: 1 event waits, {since}"));
        assert_eq!(webhook(3, 1, None), format!("webhook orders: 3 events wait, {since}; refused and tried again: 1"));
        let never = "never told: 2 given up, 1024 dropped, the last at 2023-11-14T22:13:21Z";
        assert_eq!(webhook(0, 0, Some(1_700_000_001_000)), format!("webhook orders: 0 events wait; {never}"));
    }
}
