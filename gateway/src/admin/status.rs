//! How the cluster is, put together from what each node says of itself. "Healthy" is never concluded from silence: a node
//! that does not answer is a problem, and so is a group without a leader that answers.

use std::collections::BTreeMap;

use annulus_common::ids::{GroupId, NodeId, PartitionId};
use annulus_common::map::size::{MAP_BYTES_MAX, MapSize, RECORDS_MAX};
use annulus_common::map::{ClusterMap, NodeState};
use annulus_common::protocol::room::RoomFor;
use annulus_common::protocol::{GroupStatus, NodeStatus};
use futures::future::join;

use super::model::{
    ClusterStatus, CopiesReport, MovesReport, NodeDetails, NodeReport, PartitionReport, Redundancy, Risk,
};
use super::{Admin, copies, events};

/// Log entries that a member may be behind its leader and still count as in sync: what is in flight under load.
const IN_SYNC_LAG_ENTRIES: u64 = 1_000;

impl Admin {
    pub(super) async fn status(&self, map: &ClusterMap) -> ClusterStatus {
        let client = self.objects.client();
        let (answers, moves) = join(client.node_statuses(map), self.moves(map)).await;
        summarize(map, &answers.into_iter().collect(), moves, self.clock.now_ms())
    }
}

type Answers = BTreeMap<NodeId, Option<NodeStatus>>;

pub(super) fn summarize(map: &ClusterMap, answers: &Answers, moves: MovesReport, now_ms: u64) -> ClusterStatus {
    let map_group = group_report(None, &map.map_voters, answers);
    let partitions: Vec<PartitionReport> = (0..map.partitions())
        .map(|number| group_report(Some(number), map.replicas(PartitionId(number)), answers))
        .collect();
    let redundancy = redundancy(map, &map_group, &partitions, answers);
    let copies = copies::report(map, &partitions, answers);
    let known = problems(map, answers, &map_group, &redundancy, &copies);
    let unknown = unknown(&copies);
    let state = match (known.is_empty(), unknown.is_empty()) {
        (true, true) => "healthy",
        (true, false) => "verifying",
        (false, _) => "degraded",
    };
    let problems = [known, unknown].concat();
    ClusterStatus {
        cluster: map.cluster.to_string(),
        healthy: problems.is_empty(),
        state: state.to_owned(),
        problems,
        replication_factor: map.replication_factor,
        map_version: map.version.0,
        epoch: map.epoch.0,
        nodes: map.nodes.keys().map(|id| node_report(map, *id, answers)).collect(),
        events: events::report(are_events_told(map), &partitions, answers, now_ms),
        partitions,
        map_group,
        redundancy,
        copies,
        moves,
    }
}

fn are_events_told(map: &ClusterMap) -> bool {
    map.buckets.values().any(|bucket| bucket.config.notification.is_some())
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
    let voters: Vec<NodeId> = leader.map(|(_, status)| status.voters.clone()).unwrap_or_default();
    PartitionReport {
        partition,
        replicas: replicas.iter().map(|node| node.0).collect(),
        is_as_planned: voters.len() == replicas.len() && replicas.iter().all(|node| voters.contains(node)),
        voters: voters.iter().map(|node| node.0).collect(),
        leader: leader.map(|(node, _)| node.0),
        in_sync: voters.iter().filter(|node| in_sync.contains(node)).map(|node| node.0).collect(),
    }
}

/// The leader, and the members that have nearly all of its log, and say that their state is whole.
fn in_sync(leader: NodeId, status: &GroupStatus, answers: &Answers) -> Vec<NodeId> {
    let is_whole = |node: &NodeId| {
        let answer = answers.get(node).and_then(Option::as_ref);
        let groups = answer.into_iter().flat_map(|answer| &answer.groups);
        answer.is_some_and(|answer| answer.stalled.is_none())
            && groups.into_iter().any(|own| own.group == status.group && !own.installing)
    };
    // A leader that has heard nothing of a member yet has it at 0, however short the log is.
    let is_near = |matched: u64| matched > 0 && matched + IN_SYNC_LAG_ENTRIES >= status.committed;
    let close = |node: &NodeId, matched: u64| *node == leader || (is_near(matched) && is_whole(node));
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
        let quorum = group.voters.len() / 2 + 1;
        if group.leader.is_none() { 0 } else { group.in_sync.len().saturating_sub(quorum) }
    };
    Redundancy {
        partitions_below_target: partitions.iter().filter(|group| group.in_sync.len() < target).count() as u32,
        partitions_unavailable: partitions.iter().filter(|group| group.leader.is_none()).count() as u32,
        chunk_copies_owed: answers.values().flatten().flat_map(|status| &status.hints).map(|(_, count)| count).sum(),
        node_failures_tolerated: groups().map(spare).min().unwrap_or(0) as u32,
        risks: map.nodes.keys().filter_map(|node| risk(map, *node, partitions, answers)).collect(),
    }
}

/// What would stop or be lost without a node that answers, if anything.
fn risk(map: &ClusterMap, node: NodeId, partitions: &[PartitionReport], answers: &Answers) -> Option<Risk> {
    let is_up = |node: &NodeId| answers.get(node).is_some_and(Option::is_some);
    let stops = |group: &&PartitionReport| {
        let left = group.in_sync.iter().filter(|member| **member != node.0).count();
        group.leader.is_some() && group.voters.contains(&node.0) && left < group.voters.len() / 2 + 1
    };
    let is_last = |(number, group): &(u32, &PartitionReport)| {
        let have = copies::of(map, answers, PartitionId(*number), group);
        have.iter().any(|have| have.is_lost_with(|other| *other == node))
    };
    let risk = Risk {
        node: node.0,
        name: map.nodes[&node].profile.name.clone(),
        partitions_stopped: partitions.iter().filter(stops).count() as u32,
        partitions_lost: (0..).zip(partitions).filter(is_last).count() as u32,
    };
    (is_up(&node) && risk.partitions_stopped + risk.partitions_lost > 0).then_some(risk)
}

fn problems(
    map: &ClusterMap,
    answers: &Answers,
    map_group: &PartitionReport,
    redundancy: &Redundancy,
    copies: &CopiesReport,
) -> Vec<String> {
    // A node without data is missed by nobody.
    let mut problems: Vec<String> = map
        .nodes
        .iter()
        .filter(|(id, _)| answers.get(id).is_none_or(Option::is_none) && map.is_holding(**id))
        .map(|(id, node)| format!("node {id} ({}) does not answer at {}", node.profile.name, node.profile.addr))
        .collect();
    problems.extend(answers.iter().filter_map(|(id, answer)| disk_problem(map, *id, answer.as_ref()?)));
    if map_group.leader.is_none() {
        problems.push("the cluster map has no leader: buckets, users and keys cannot be changed".to_owned());
    } else if !map_group.is_as_planned || map_group.in_sync.len() < map_group.replicas.len() {
        problems.push("the cluster map has fewer replicas than it should".to_owned());
    }
    problems.extend(fullness(map));
    let count = |count: u64, what: &str| (count > 0).then(|| format!("{what}: {count}"));
    problems.extend(count(redundancy.partitions_unavailable.into(), "partitions without a leader"));
    let moving = map.moves.partitions.len() as u64;
    problems.extend(count(moving, "partitions not yet on all the nodes that should have them"));
    problems.extend(count(
        redundancy.partitions_below_target.into(),
        "partitions with fewer replicas than they should have",
    ));
    problems.extend(count(redundancy.chunk_copies_owed, "chunk copies owed to nodes that missed them"));
    problems.extend(count(copies.chunks_missing, "copies of chunks missing"));
    problems.extend(count(copies.chunks_damaged, "copies of chunks damaged and not mended yet"));
    problems
}

/// A disk that takes nothing any more, or only what makes room on it.
fn disk_problem(map: &ClusterMap, id: NodeId, status: &NodeStatus) -> Option<String> {
    let name = &map.nodes.get(&id).filter(|_| map.is_holding(id))?.profile.name;
    let free = status.disk_free_bytes;
    match (&status.stalled, status.room) {
        (Some(reason), _) => Some(format!("node {id} ({name}) cannot write its log: {reason}")),
        (None, RoomFor::Growth) => None,
        (None, RoomFor::Markers | RoomFor::Release) => {
            Some(format!("node {id} ({name}) has no room for new objects: {free} bytes are free"))
        }
    }
}

/// How full the cluster map is, when it will soon refuse what is configured.
fn fullness(map: &ClusterMap) -> Option<String> {
    let (size, records) = (MapSize::of(map), map.records());
    let is_near = |now: u64, most: u64| now >= most - most / 5;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    if is_near(records as u64, RECORDS_MAX as u64) {
        return Some(format!("the cluster map is nearly full: {records} of {RECORDS_MAX} buckets, accounts and keys"));
    }
    let (largest, most) = size.largest().filter(|_| is_near(size.total(), MAP_BYTES_MAX))?;
    let name = map.users.get(&largest).map_or("", |user| &user.name);
    Some(format!(
        "the cluster map is nearly full: {:.1} of {} MiB of buckets, configurations and identities, {:.1} MiB of them {name}'s",
        mib(size.total()),
        MAP_BYTES_MAX >> 20,
        mib(most),
    ))
}

/// What keeps the cluster from being called healthy although nothing is known to be wrong.
fn unknown(copies: &CopiesReport) -> Vec<String> {
    let unverified =
        |count| format!("copies of partitions not compared with the others of late, and so unknown: {count}");
    Some(copies.unverified).filter(|&count| count > 0).map(unverified).into_iter().collect()
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
        state: state_name(node.state).to_owned(),
        partitions: map.placement.iter().filter(|set| set.contains(&id)).count() as u32,
        holds_data: map.is_holding(id) || copies::may_have_strays(node, answer),
        up: answer.is_some(),
        details: answer.map(|status| details(id, status)),
    }
}

/// How a state is called.
pub(super) fn state_name(state: NodeState) -> &'static str {
    match state {
        NodeState::Spare => "spare",
        NodeState::Active => "active",
        NodeState::Draining => "draining",
        NodeState::Dead => "dead",
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
        strays: status.repair.strays,
        moved_bytes: status.repair.moved_bytes,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use annulus_common::ids::{Epoch, GroupId, NodeId, PartitionId};
    use annulus_common::map::{ClusterMap, Move, NodeState};
    use annulus_common::protocol::outbox::Backlogs;
    use annulus_common::protocol::repair::{PartitionCopy, RepairStatus};
    use annulus_common::protocol::room::RoomFor;
    use annulus_common::protocol::{GroupStatus, NodeStatus};

    use super::super::model::{ClusterStatus, MovesReport, Risk};
    use super::{Answers, node_report, summarize};
    use crate::client::testing::map_of;

    /// A node that has compared all that it should have, and lacks nothing.
    fn complete_copies(map: &ClusterMap, node: NodeId) -> RepairStatus {
        let copy = |partition| PartitionCopy {
            partition,
            uncompared: Vec::new(),
            lacking_chunks: 0,
            lacking_bytes: 0,
            damaged_chunks: 0,
        };
        let held = (0..map.partitions()).map(PartitionId).filter(|at| map.replicas(*at).contains(&node));
        RepairStatus { partitions: held.map(copy).collect(), ..RepairStatus::default() }
    }

    /// Each of these nodes answers, with complete copies; the first of them leads every group, in which all nodes of the placement vote.
    pub(crate) fn answers(map: &ClusterMap, up: &[u64]) -> Answers {
        let group = |node: u64, group: GroupId| {
            let voters = group.partition().map_or(&map.map_voters[..], |partition| map.replicas(partition)).to_vec();
            let leader = voters.iter().copied().find(|voter| up.contains(&voter.0));
            let matched = voters.iter().map(|voter| (*voter, 10)).collect();
            let matched = if leader == Some(NodeId(node)) { matched } else { Vec::new() };
            GroupStatus { group, leader, term: 1, committed: 10, applied: 10, voters, installing: false, matched }
        };
        let status = |node: u64| NodeStatus {
            node: NodeId(node),
            software: "1".to_owned(),
            uptime_seconds: 1,
            groups: (0..=map.partitions()).map(|number| group(node, GroupId(number))).collect(),
            chunks: 0,
            chunk_bytes: 0,
            disk_bytes: 0,
            disk_free_bytes: 0,
            room: RoomFor::Growth,
            stalled: None,
            hints: Vec::new(),
            corrupt_reads: 0,
            repair: complete_copies(map, NodeId(node)),
            backlogs: Backlogs { webhooks: Vec::new(), is_all: true },
        };
        map.nodes.keys().map(|node| (*node, up.contains(&node.0).then(|| status(node.0)))).collect()
    }

    #[test]
    fn a_disk_without_room_or_that_cannot_be_written_is_a_problem() {
        let mut map = map_of(3, 3);
        map.map_voters = [1, 2, 3].map(NodeId).to_vec();
        let told = |change: fn(&mut NodeStatus)| {
            let mut answers = answers(&map, &[1, 2, 3]);
            change(answers.get_mut(&NodeId(2)).unwrap().as_mut().unwrap());
            summarize(&map, &answers, MovesReport::default(), 0)
        };
        assert!(told(|_| ()).healthy);
        let full = told(|status| status.room = RoomFor::Markers);
        assert_eq!(full.problems, ["node 2 (n2) has no room for new objects: 0 bytes are free"]);
        assert_eq!((full.healthy, full.redundancy.node_failures_tolerated), (false, 1));
        // It follows nobody any more, whatever its leaders still believe.
        let stalled = told(|status| status.stalled = Some("no space left".to_owned()));
        assert_eq!(stalled.problems[0], "node 2 (n2) cannot write its log: no space left");
        assert_eq!(stalled.redundancy.node_failures_tolerated, 0);
    }

    #[test]
    fn a_node_is_not_empty_while_it_may_have_what_belongs_elsewhere() {
        let mut map = map_of(4, 3);
        map.placement.iter_mut().for_each(|set| *set = [1, 2, 3].map(NodeId).to_vec());
        let mut holds = |state, strays: Option<Option<u64>>| {
            map.nodes.get_mut(&NodeId(4)).unwrap().state = state;
            let mut answers = answers(&map, if strays.is_some() { &[1, 2, 3, 4] } else { &[1, 2, 3] });
            if let (Some(status), Some(strays)) = (answers.get_mut(&NodeId(4)).unwrap(), strays) {
                status.repair.strays = strays;
            }
            node_report(&map, NodeId(4), &answers).holds_data
        };
        // (state, what it says of strays, whether it may have some)
        let cases = [
            (NodeState::Draining, Some(Some(0)), false),
            (NodeState::Draining, Some(Some(1)), true),
            (NodeState::Draining, Some(None), true),
            (NodeState::Draining, None, true),
            (NodeState::Spare, Some(Some(1)), true),
            (NodeState::Spare, Some(None), false),
            (NodeState::Spare, None, false),
            (NodeState::Dead, None, false),
        ];
        for (state, strays, expected) in cases {
            assert_eq!(holds(state, strays), expected, "{state:?} {strays:?}");
        }
        let mut answers = answers(&map, &[4]);
        map.nodes.get_mut(&NodeId(4)).unwrap().state = NodeState::Draining;
        let status = answers.get_mut(&NodeId(4)).unwrap().as_mut().unwrap();
        (status.repair.strays, status.hints) = (Some(0), vec![(NodeId(3), 1)]);
        assert!(node_report(&map, NodeId(4), &answers).holds_data, "somebody else has yet to get what it keeps");
    }

    fn status(map: &ClusterMap, up: &[u64]) -> ClusterStatus {
        summarize(map, &answers(map, up), MovesReport::default(), 0)
    }

    fn risks(map: &ClusterMap, up: &[u64]) -> BTreeMap<u64, (u32, u32)> {
        let risks = status(map, up).redundancy.risks;
        risks
            .into_iter()
            .map(|Risk { node, partitions_stopped, partitions_lost, .. }| (node, (partitions_stopped, partitions_lost)))
            .collect()
    }

    #[test]
    fn it_is_said_which_failure_would_stop_or_lose_something() {
        let map = map_of(3, 3);
        let all = map.partitions();
        assert!(status(&map, &[1, 2, 3]).healthy && risks(&map, &[1, 2, 3]).is_empty());
        assert_eq!(risks(&map, &[1, 2]), [(1, (all, 0)), (2, (all, 0))].into());
        let one = map_of(1, 1);
        assert_eq!(risks(&one, &[1]), [(1, (one.partitions(), one.partitions()))].into());
    }

    #[test]
    fn who_is_being_filled_by_a_snapshot_or_was_not_heard_of_is_no_copy() {
        let map = map_of(3, 3);
        let first = GroupId::from(PartitionId(0));
        let behind = |spoil: &dyn Fn(&mut Answers)| {
            let mut answers = answers(&map, &[1, 2, 3]);
            spoil(&mut answers);
            let status = summarize(&map, &answers, MovesReport::default(), 0);
            (status.healthy, status.copies.metadata_replicas_missing)
        };
        let group = |answers: &mut Answers, node: u64, spoil: &dyn Fn(&mut GroupStatus)| {
            let status = answers.get_mut(&NodeId(node)).and_then(Option::as_mut).expect("it answers");
            spoil(status.groups.iter_mut().find(|own| own.group == first).expect("it has the group"));
        };
        let leader = map.replicas(PartitionId(0))[0].0;
        let other = *[1, 2, 3].iter().find(|node| **node != leader).expect("there are three");
        assert_eq!(behind(&|_| {}), (true, 0));
        assert_eq!(behind(&|answers| group(answers, other, &|own| own.installing = true)), (false, 1));
        let unheard = |own: &mut GroupStatus| own.matched.iter_mut().for_each(|at| at.1 *= u64::from(at.0.0 != other));
        assert_eq!(behind(&|answers| group(answers, leader, &unheard)), (false, 1));
        let is_sent_one = |own: &mut GroupStatus| own.matched.retain(|at| at.0.0 != other);
        assert_eq!(behind(&|answers| group(answers, leader, &is_sent_one)), (false, 1));
    }

    #[test]
    fn who_has_just_joined_is_no_second_copy() {
        let mut map = map_of(2, 2);
        let moving = Move { epoch: Epoch(2), leaving: Vec::new(), joining: vec![NodeId(2)] };
        map.moves.partitions.insert(PartitionId(0), moving);
        assert_eq!(risks(&map, &[1, 2])[&1].1, 1);
        let moving = status(&map, &[1, 2]);
        assert!(!moving.healthy && moving.problems.iter().any(|problem| problem.contains("not yet on all")));
    }

    #[test]
    fn a_silent_node_without_data_is_missed_by_nobody() {
        let mut map = map_of(4, 3);
        map.placement = vec![vec![NodeId(1), NodeId(2), NodeId(3)]; map.placement.len()];
        assert!(status(&map, &[1, 2, 3]).healthy);
        assert!(!status(&map, &[1, 2, 4]).healthy);
    }
}
