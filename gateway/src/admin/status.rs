//! How the cluster is, put together from what each node says of itself. "Healthy" is never concluded from silence: a node
//! that does not answer is a problem, and so is a group without a leader that answers.

use std::collections::BTreeMap;

use annulus_common::ids::{GroupId, NodeId, PartitionId};
use annulus_common::map::ClusterMap;
use annulus_common::protocol::{GroupStatus, NodeStatus};

use super::model::{ClusterStatus, NodeDetails, NodeReport, PartitionReport, Redundancy};
use crate::client::ClusterClient;

/// Log entries that a member may be behind its leader and still count as in sync: what is in flight under load.
const IN_SYNC_LAG_ENTRIES: u64 = 1_000;

pub(super) async fn gather(client: &ClusterClient, map: &ClusterMap) -> ClusterStatus {
    let answers = client.node_statuses(map).await;
    summarize(map, &answers.into_iter().collect())
}

type Answers = BTreeMap<NodeId, Option<NodeStatus>>;

fn summarize(map: &ClusterMap, answers: &Answers) -> ClusterStatus {
    let map_group = group_report(None, &map.map_voters, answers);
    let partitions: Vec<PartitionReport> = (0..map.partitions())
        .map(|number| group_report(Some(number), map.replicas(PartitionId(number)), answers))
        .collect();
    let redundancy = redundancy(map, &map_group, &partitions, answers);
    let problems = problems(map, answers, &map_group, &redundancy);
    ClusterStatus {
        cluster: map.cluster.to_string(),
        healthy: problems.is_empty(),
        problems,
        replication_factor: map.replication_factor,
        map_version: map.version.0,
        epoch: map.epoch.0,
        nodes: map.nodes.keys().map(|id| node_report(map, *id, answers)).collect(),
        partitions,
        map_group,
        redundancy,
    }
}

fn group_report(partition: Option<u32>, replicas: &[NodeId], answers: &Answers) -> PartitionReport {
    let group = partition.map_or(GroupId::CLUSTER_MAP, |number| PartitionId(number).into());
    let leading = answers.iter().filter_map(|(node, answer)| {
        let own = answer.as_ref()?.groups.iter().find(|status| status.group == group)?;
        (own.leader == Some(*node)).then_some((*node, own))
    });
    // Around an election two may believe that they lead: the later term is right.
    let leader = leading.max_by_key(|(_, status)| status.term);
    let in_sync = leader.map(|(node, status)| in_sync(node, status, answers)).unwrap_or_default();
    PartitionReport {
        partition,
        replicas: replicas.iter().map(|node| node.0).collect(),
        leader: leader.map(|(node, _)| node.0),
        in_sync: replicas.iter().filter(|node| in_sync.contains(node)).map(|node| node.0).collect(),
    }
}

/// The leader, and the members that answered and have nearly all of its log.
fn in_sync(leader: NodeId, status: &GroupStatus, answers: &Answers) -> Vec<NodeId> {
    let close = |node: &NodeId, matched: u64| {
        *node == leader
            || (matched + IN_SYNC_LAG_ENTRIES >= status.committed && answers.get(node).is_some_and(Option::is_some))
    };
    let matched = status.matched.iter().filter(|(node, matched)| close(node, *matched)).map(|(node, _)| *node);
    matched.chain([leader]).collect()
}

fn redundancy(
    map: &ClusterMap,
    map_group: &PartitionReport,
    partitions: &[PartitionReport],
    answers: &Answers,
) -> Redundancy {
    let target = usize::from(map.replication_factor);
    let groups = || partitions.iter().chain([map_group]);
    let spare = |group: &PartitionReport| {
        let quorum = group.replicas.len() / 2 + 1;
        if group.leader.is_none() { 0 } else { group.in_sync.len().saturating_sub(quorum) }
    };
    Redundancy {
        partitions_below_target: partitions.iter().filter(|group| group.in_sync.len() < target).count() as u32,
        partitions_unavailable: partitions.iter().filter(|group| group.leader.is_none()).count() as u32,
        chunk_copies_missing: answers.values().flatten().flat_map(|status| &status.hints).map(|(_, count)| count).sum(),
        node_failures_tolerated: groups().map(spare).min().unwrap_or(0) as u32,
    }
}

fn problems(map: &ClusterMap, answers: &Answers, map_group: &PartitionReport, redundancy: &Redundancy) -> Vec<String> {
    let mut problems: Vec<String> = map
        .nodes
        .iter()
        .filter(|(id, _)| answers.get(id).is_none_or(Option::is_none))
        .map(|(id, node)| format!("node {id} ({}) does not answer at {}", node.profile.name, node.profile.addr))
        .collect();
    if map_group.leader.is_none() {
        problems.push("the cluster map has no leader: buckets, users and keys cannot be changed".to_owned());
    } else if map_group.in_sync.len() < map_group.replicas.len() {
        problems.push("the cluster map has fewer replicas than it should".to_owned());
    }
    let count = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
    problems.extend(count(redundancy.partitions_unavailable.into(), "partitions have no leader"));
    problems
        .extend(count(redundancy.partitions_below_target.into(), "partitions have fewer replicas than they should"));
    problems.extend(count(redundancy.chunk_copies_missing, "chunk copies are owed to nodes that missed them"));
    let corrupt = answers.values().flatten().map(|status| status.corrupt_reads).sum();
    problems.extend(count(corrupt, "corrupt chunks were found by reads since the nodes started"));
    problems
}

fn node_report(map: &ClusterMap, id: NodeId, answers: &Answers) -> NodeReport {
    let node = &map.nodes[&id];
    let answer = answers.get(&id).and_then(Option::as_ref);
    NodeReport {
        id: id.0,
        name: node.profile.name.clone(),
        address: node.profile.addr.clone(),
        zone: node.zone().to_owned(),
        capacity_bytes: node.capacity_bytes(),
        up: answer.is_some(),
        details: answer.map(|status| details(id, status)),
    }
}

fn details(id: NodeId, status: &NodeStatus) -> NodeDetails {
    NodeDetails {
        software: status.software.clone(),
        uptime_seconds: status.uptime_seconds,
        leads: status.groups.iter().filter(|group| group.leader == Some(id)).count() as u32,
        groups: status.groups.len() as u32,
        chunks: status.chunks,
        chunk_bytes: status.chunk_bytes,
        disk_bytes: status.disk_bytes,
        disk_free_bytes: status.disk_free_bytes,
        hints: status.hints.iter().map(|(_, count)| count).sum(),
        corrupt_reads: status.corrupt_reads,
    }
}
