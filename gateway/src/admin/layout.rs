//! Changes of the layout: planned here, carried out by the cluster map, and what they come to said before and after.

use std::collections::BTreeMap;

use annulus_common::ids::{GroupId, NodeId, PartitionId, RequestId};
use annulus_common::map::change::{MapChange, MapEntry, MapRefusal};
use annulus_common::map::{ClusterMap, LayoutChange, LayoutStep, Node, NodeSettings, NodeState};
use annulus_common::protocol::{GroupStatus, NodeStatus, PartitionUsage};
use http::StatusCode;

use super::error::AdminProblem;
use super::model::{LayoutRequest, NodePlan, PauseRequest, PlanReport, StepRequest};
use super::status::state_name;
use super::{Admin, copies};

/// Plans that are made anew because somebody else changed the layout meanwhile.
const PLANS_MAX: usize = 5;

/// What a node that is taken out without having been drained costs.
const COST_OF_FORCE: &str = "what only this node holds is lost: chunks whose other copies are missing now. `annulus node \
                             drain` copies them first, if the node still runs";

/// The groups of each node that answers, as it sees them.
type Answers = BTreeMap<NodeId, Vec<GroupStatus>>;

type Usage = BTreeMap<PartitionId, PartitionUsage>;

impl Admin {
    /// Plans a change of the layout and carries it out, unless only the plan is asked for.
    pub(super) async fn change_layout(&self, request: LayoutRequest) -> Result<PlanReport, AdminProblem> {
        let client = self.objects.client();
        for _ in 0..PLANS_MAX {
            let map = client.map().await?;
            let step = step_of(&map, &request.step)?;
            let change = plan(&map, &step)?;
            if let LayoutStep::Remove { .. } | LayoutStep::Replace { .. } = step {
                let answers = client.node_statuses(&map).await.into_iter().collect();
                check_copies(&map, &answers, &request.step, &step)?;
                check_majorities(&map, &answers, &step)?;
            }
            let usage = client.usage(&map, (0..map.partitions()).map(PartitionId)).await;
            let awaited = awaited(&request.step, &step);
            let report = PlanReport { awaited, ..summarize(&map, &change, &usage)? };
            if request.dry_run {
                return Ok(report);
            }
            match client.change_map(MapChange::ChangeLayout(change)).await? {
                Ok(_) => return Ok(PlanReport { carried_out: true, ..report }),
                Err(MapRefusal::LayoutChanged(_)) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Err(AdminProblem::new(
            StatusCode::CONFLICT,
            "LayoutChanged",
            "the layout is being changed by others: try again",
        ))
    }

    /// Lets nothing be moved until further notice, or lets it go on.
    pub(super) async fn pause_moves(&self, request: PauseRequest) -> Result<(), AdminProblem> {
        self.objects.client().change_map(MapChange::PauseMoves(request.paused)).await??;
        Ok(())
    }
}

/// The plan, by the map alone.
fn plan(map: &ClusterMap, step: &LayoutStep) -> Result<LayoutChange, AdminProblem> {
    map.plan(step).map_err(|refusal| match refusal {
        MapRefusal::NodeHoldsData(node) => {
            let message = format!("node {node} still holds data: drain it first. With --force, {COST_OF_FORCE}");
            AdminProblem::new(StatusCode::CONFLICT, "NodeHoldsData", message)
        }
        refusal => refusal.into(),
    })
}

/// Refuses to take out a node that has what no other node has, unless that is insisted on. The map does not know of it.
fn check_copies(
    map: &ClusterMap,
    answers: &copies::Answers,
    request: &StepRequest,
    step: &LayoutStep,
) -> Result<(), AdminProblem> {
    let (node, what) = match (request, step) {
        (StepRequest::Remove { force: false, .. }, LayoutStep::Remove { node, .. }) => {
            (node, has_strays(map, answers, *node))
        }
        (StepRequest::Replace { force: false, .. }, LayoutStep::Replace { old, .. }) => {
            (old, has_last_copies(map, answers, *old))
        }
        (StepRequest::Replace { force: false, .. }, LayoutStep::Remove { node, .. }) => {
            (node, is_no_lost_one(answers, *node))
        }
        _ => return Ok(()),
    };
    let Some(what) = what else { return Ok(()) };
    let message = format!("node {node} {what}. With --force, {COST_OF_FORCE}");
    Err(AdminProblem::new(StatusCode::CONFLICT, "NodeHoldsData", message))
}

/// Refuses to take out a node without which no majority of a group is left, whatever is insisted on.
fn check_majorities(map: &ClusterMap, answers: &copies::Answers, step: &LayoutStep) -> Result<(), AdminProblem> {
    let Some(gone) = taken_out(step) else { return Ok(()) };
    let groups = |status: &NodeStatus| status.groups.clone();
    let answers = answers.iter().filter_map(|(node, status)| Some((*node, status.as_ref().map(groups)?))).collect();
    let stuck = stuck_without(map, &answers, gone);
    if stuck.is_empty() {
        return Ok(());
    }
    let message = format!(
        "without node {gone}, {} would have no majority and be lost: start another of their nodes first. This cannot be \
         forced",
        stuck.join(", ")
    );
    Err(AdminProblem::new(StatusCode::CONFLICT, "QuorumLost", message))
}

/// A node that was drained may have stood in for others.
fn has_strays(map: &ClusterMap, answers: &copies::Answers, node: NodeId) -> Option<String> {
    let answer = answers.get(&node).and_then(Option::as_ref);
    if map.is_holding(node) || !copies::may_have_strays(&map.nodes[&node], answer) {
        return None;
    }
    let what = match answer {
        Some(_) => "has chunks that have yet to be copied to where they belong: it does so by itself, try again",
        None => "does not answer, and may have chunks that have yet to be copied to where they belong",
    };
    Some(what.to_owned())
}

/// A node that is taken for lost may still answer.
fn has_last_copies(map: &ClusterMap, answers: &copies::Answers, node: NodeId) -> Option<String> {
    let lost = copies::chunks_lost_with(map, answers, node);
    let partitions = if lost == 1 { "partition" } else { "partitions" };
    (lost > 0).then(|| format!("answers, and no other is known to have all chunks of {lost} {partitions}: drain it"))
}

/// A node whose place nobody can take yet: it would be missed as long as it takes to start another.
fn is_no_lost_one(answers: &copies::Answers, node: NodeId) -> Option<String> {
    let is_up = answers.get(&node).is_some_and(Option::is_some);
    is_up.then(|| "answers, and the new one is not there yet: drain it".to_owned())
}

/// The node that leaves the map although it may hold something.
fn taken_out(step: &LayoutStep) -> Option<NodeId> {
    match step {
        LayoutStep::Remove { node, force: true } | LayoutStep::Replace { old: node, .. } => Some(*node),
        _ => None,
    }
}

/// What is asked, with the numbers that the map knows the nodes by.
fn step_of(map: &ClusterMap, request: &StepRequest) -> Result<LayoutStep, AdminProblem> {
    Ok(match request {
        StepRequest::Add { nodes } => {
            LayoutStep::Add(nodes.iter().map(|node| find_node(map, node)).collect::<Result<_, _>>()?)
        }
        StepRequest::Drain { node } => LayoutStep::Drain(find_node(map, node)?),
        StepRequest::Remove { node, force } => {
            // A node that holds nothing needs no force, and is not judged as if it did.
            let node = find_node(map, node)?;
            LayoutStep::Remove { node, force: *force && map.is_holding(node) }
        }
        StepRequest::Replace { old, new, .. } => replacement(map, find_node(map, old)?, new)?,
        StepRequest::Set { node, zone, capacity_bytes, as_configured } => {
            let node = find_node(map, node)?;
            let before = if *as_configured { NodeSettings::default() } else { map.nodes[&node].set.clone() };
            let settings = NodeSettings {
                zone: zone.clone().or(before.zone),
                capacity_bytes: capacity_bytes.or(before.capacity_bytes),
            };
            check_settings(&settings)?;
            LayoutStep::Set { node, settings }
        }
        StepRequest::SetReplication { factor } => LayoutStep::SetReplication(*factor),
        StepRequest::Rebalance {} => LayoutStep::Rebalance,
    })
}

/// In one step where the new node is there already; else the old one goes first, as the new one may be waiting for its name.
fn replacement(map: &ClusterMap, old: NodeId, new: &str) -> Result<LayoutStep, AdminProblem> {
    let Some(new) = find_node(map, new).ok().filter(|new| *new != old) else {
        return Ok(LayoutStep::Remove { node: old, force: map.is_holding(old) });
    };
    let node = &map.nodes[&new];
    if node.state != NodeState::Spare {
        let (name, state) = (&node.profile.name, state_name(node.state));
        let message = format!("{name} is {state} already: name a node that has just been started");
        return Err(AdminProblem::new(StatusCode::CONFLICT, "NodeInUse", message));
    }
    Ok(LayoutStep::Replace { old, new })
}

/// Who takes the place of the node that goes first.
fn awaited(request: &StepRequest, step: &LayoutStep) -> Option<String> {
    match (request, step) {
        (StepRequest::Replace { new, .. }, LayoutStep::Remove { .. }) => Some(new.clone()),
        _ => None,
    }
}

fn find_node(map: &ClusterMap, name: &str) -> Result<NodeId, AdminProblem> {
    let numbered = || name.parse().ok().map(NodeId).filter(|id| map.nodes.contains_key(id));
    let found = map.node_named(name).or_else(numbered);
    found.ok_or_else(|| AdminProblem::new(StatusCode::NOT_FOUND, "NoSuchNode", format!("there is no node {name}")))
}

/// The rules of the settings that these stand in for.
fn check_settings(settings: &NodeSettings) -> Result<(), AdminProblem> {
    let is_name = |zone: &String| {
        (1..=ZONE_BYTES_MAX).contains(&zone.len())
            && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if settings.zone.as_ref().is_some_and(|zone| !is_name(zone)) {
        let rule = "a zone has 1 to 63 letters, digits, `-`, `_` and `.`";
        return Err(AdminProblem::new(StatusCode::BAD_REQUEST, "InvalidZone", rule));
    }
    if settings.capacity_bytes == Some(0) {
        let rule = "a node without room is no storage node: drain it instead";
        return Err(AdminProblem::new(StatusCode::BAD_REQUEST, "InvalidCapacity", rule));
    }
    Ok(())
}

/// As long as a node's own setting may be.
const ZONE_BYTES_MAX: usize = 63;

/// The groups that would have no majority of members that answer, as people call them.
fn stuck_without(map: &ClusterMap, answers: &Answers, gone: NodeId) -> Vec<String> {
    let is_alive = |node: &NodeId| *node != gone && answers.contains_key(node);
    let voters = |group: GroupId, fallback: &[NodeId]| -> Vec<NodeId> {
        let told = answers.values().flatten().filter(|own| own.group == group);
        // Whoever has applied the most knows the members best.
        told.max_by_key(|own| (own.term, own.applied)).map_or_else(|| fallback.to_vec(), |own| own.voters.clone())
    };
    let is_stuck = |group: GroupId, fallback: &[NodeId]| {
        let voters = voters(group, fallback);
        voters.contains(&gone) && voters.iter().filter(|node| is_alive(node)).count() < voters.len() / 2 + 1
    };
    let partitions = (0..map.partitions()).map(PartitionId);
    let stuck = partitions.filter(|partition| is_stuck((*partition).into(), map.replicas(*partition)));
    let named = stuck.map(|partition| format!("partition {}", partition.0));
    let map_group = is_stuck(GroupId::CLUSTER_MAP, &map.map_voters).then(|| "the cluster map".to_owned());
    map_group.into_iter().chain(named).collect()
}

/// What a change comes to.
fn summarize(map: &ClusterMap, change: &LayoutChange, usage: &Usage) -> Result<PlanReport, AdminProblem> {
    let mut next = map.clone();
    let change_map = MapChange::ChangeLayout(change.clone());
    next.apply(&MapEntry { request: RequestId([0; 16]), time_ms: 0, change: change_map })?;
    let fills = |partition: &PartitionId| {
        let before = map.replicas(*partition);
        next.replicas(*partition).iter().filter(|node| !before.contains(node)).copied().collect::<Vec<_>>()
    };
    let filled: BTreeMap<PartitionId, Vec<NodeId>> =
        change.sets.iter().map(|(partition, _)| (*partition, fills(partition))).collect();
    let moved = |bytes: fn(&PartitionUsage) -> u64| -> u64 {
        let each = filled.iter().map(|(partition, to)| usage.get(partition).map_or(0, bytes) * to.len() as u64);
        each.sum()
    };
    let nodes = map.nodes.keys().map(|id| plan_of(*id, map, &next, &filled, usage)).collect();
    Ok(PlanReport {
        carried_out: false,
        epoch: next.epoch.0,
        replication_factor: next.replication_factor,
        partitions_to_move: filled.values().filter(|to| !to.is_empty()).count() as u32,
        replicas_to_fill: filled.values().map(Vec::len).sum::<usize>() as u32,
        chunk_bytes_to_move: moved(|usage| usage.chunk_bytes),
        metadata_bytes_to_move: moved(|usage| usage.metadata_bytes),
        partitions_unknown: map.partitions() - usage.len() as u32,
        map_voters: next.map_voters.iter().map(|id| id.0).collect(),
        nodes,
        costs: costs(map, &next, &change.step),
        awaited: None,
    })
}

fn plan_of(
    id: NodeId,
    map: &ClusterMap,
    next: &ClusterMap,
    filled: &BTreeMap<PartitionId, Vec<NodeId>>,
    usage: &Usage,
) -> NodePlan {
    let held = |map: &ClusterMap| -> Vec<PartitionId> {
        (0..map.partitions()).map(PartitionId).filter(|partition| map.replicas(*partition).contains(&id)).collect()
    };
    let bytes = |partitions: &[PartitionId]| -> u64 {
        partitions.iter().filter_map(|partition| usage.get(partition)).map(|usage| usage.chunk_bytes).sum()
    };
    let (before, after) = (held(map), held(next));
    let arriving: Vec<PartitionId> =
        filled.iter().filter(|(_, to)| to.contains(&id)).map(|(partition, _)| *partition).collect();
    let node = next.nodes.get(&id);
    NodePlan {
        id: id.0,
        name: map.nodes[&id].profile.name.clone(),
        state: node.map_or("removed", |node| state_name(node.state)).to_owned(),
        capacity_bytes: node.map_or(0, Node::capacity_bytes),
        partitions_before: before.len() as u32,
        partitions_after: after.len() as u32,
        chunk_bytes_before: bytes(&before),
        chunk_bytes_after: bytes(&after),
        chunk_bytes_in: bytes(&arriving),
    }
}

/// What a change costs beside the work.
fn costs(map: &ClusterMap, next: &ClusterMap, step: &LayoutStep) -> Vec<String> {
    let mut costs = Vec::new();
    if taken_out(step).is_some() {
        costs.push(COST_OF_FORCE.to_owned());
    }
    let replicas = next.placement.iter().map(Vec::len).min().unwrap_or(0);
    if replicas < usize::from(next.replication_factor) {
        costs.push(format!(
            "only {replicas} of {} replicas of everything remain until another node is added",
            next.replication_factor
        ));
    }
    if next.replication_factor < map.replication_factor {
        let tolerated = match (next.replication_factor - 1) / 2 {
            0 => "no node may fail".to_owned(),
            1 => "one node may fail".to_owned(),
            nodes => format!("{nodes} nodes may fail at the same time"),
        };
        costs.push(format!("from then on {tolerated} without an interruption"));
    }
    costs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use annulus_common::ids::{GroupId, NodeId, PartitionId};
    use annulus_common::map::{LayoutStep, NodeState};
    use annulus_common::protocol::{GroupStatus, PartitionUsage};

    use super::super::status;
    use super::{
        Answers, StepRequest, awaited, check_copies, find_node, has_last_copies, step_of, stuck_without, summarize,
    };
    use crate::client::testing::map_of;

    fn usage(partitions: u32) -> BTreeMap<PartitionId, PartitionUsage> {
        let each = PartitionUsage { chunk_bytes: 1_000, metadata_bytes: 10 };
        (0..partitions).map(|partition| (PartitionId(partition), each)).collect()
    }

    /// Each of these nodes answers that these vote in every group.
    fn answers(up: &[u64], voters: &[u64]) -> Answers {
        let voters: Vec<NodeId> = voters.iter().map(|node| NodeId(*node)).collect();
        let group = |number| GroupStatus {
            group: GroupId(number),
            leader: None,
            term: 1,
            committed: 1,
            applied: 1,
            voters: voters.clone(),
            installing: false,
            matched: Vec::new(),
        };
        up.iter().map(|node| (NodeId(*node), (0..3).map(group).collect())).collect()
    }

    #[test]
    fn a_plan_says_what_moves_and_what_each_node_holds_then() {
        let map = map_of(4, 3);
        let change = map.plan(&LayoutStep::Drain(NodeId(4))).unwrap();
        let report = summarize(&map, &change, &usage(map.partitions())).unwrap();
        let drained = report.nodes.iter().find(|node| node.id == 4).unwrap();
        assert_eq!((drained.partitions_after, drained.state.as_str()), (0, "draining"));
        assert_eq!(report.replicas_to_fill, drained.partitions_before);
        assert_eq!(report.chunk_bytes_to_move, 1_000 * u64::from(drained.partitions_before));
        assert_eq!(report.chunk_bytes_to_move, report.nodes.iter().map(|node| node.chunk_bytes_in).sum::<u64>());
        assert_eq!(report.metadata_bytes_to_move, 10 * u64::from(drained.partitions_before));
        assert!(report.nodes.iter().filter(|node| node.id != 4).all(|node| node.partitions_after == map.partitions()));
        assert!(report.costs.is_empty() && !report.carried_out && report.partitions_unknown == 0);
    }

    #[test]
    fn force_says_what_it_costs() {
        let map = map_of(3, 3);
        let change = map.plan(&LayoutStep::Remove { node: NodeId(3), force: true }).unwrap();
        let report = summarize(&map, &change, &usage(0)).unwrap();
        assert!(report.costs.iter().any(|cost| cost.contains("is lost")), "{:?}", report.costs);
        assert!(report.costs.iter().any(|cost| cost.contains("only 2 of 3 replicas")), "{:?}", report.costs);
        assert_eq!(report.partitions_unknown, map.partitions());
    }

    #[test]
    fn a_node_that_answers_is_no_lost_one_while_it_has_the_last_copies() {
        let map = map_of(4, 3);
        let mut statuses = status::tests::answers(&map, &[1, 2, 3, 4]);
        let mut lacking = |node: u64, chunks| {
            let status = statuses.get_mut(&NodeId(node)).unwrap().as_mut().unwrap();
            status.repair.partitions.iter_mut().for_each(|copy| copy.lacking_chunks = chunks);
            has_last_copies(&map, &statuses, NodeId(1))
        };
        assert_eq!(lacking(2, 0), None);
        assert_eq!(lacking(2, 5), None, "a third has them");
        lacking(3, 5);
        let refused = lacking(4, 5).expect("nobody else has them");
        assert!(refused.contains("answers") && refused.contains("drain it"), "{refused}");
        statuses.insert(NodeId(1), None);
        assert_eq!(has_last_copies(&map, &statuses, NodeId(1)), None, "what is lost is lost");
    }

    #[test]
    fn a_node_goes_before_its_replacement_is_there_only_if_it_is_lost() {
        let mut map = map_of(4, 3);
        map.nodes.get_mut(&NodeId(4)).unwrap().state = NodeState::Spare;
        let replace = |new: &str, force, up: &[u64]| {
            let request = StepRequest::Replace { old: "n2".to_owned(), new: new.to_owned(), force };
            let step = step_of(&map, &request).map_err(|problem| format!("{problem:?}"))?;
            let answers = status::tests::answers(&map, up);
            check_copies(&map, &answers, &request, &step).map_err(|problem| format!("{problem:?}"))?;
            Ok::<_, String>((step.clone(), awaited(&request, &step)))
        };
        let (lost, all) = ([1, 3, 4], [1, 2, 3, 4]);
        let at_once = (LayoutStep::Replace { old: NodeId(2), new: NodeId(4) }, None);
        assert_eq!(replace("n4", false, &lost), Ok(at_once.clone()));
        assert_eq!(replace("n4", false, &all), Ok(at_once), "all that it has is elsewhere");
        for new in ["n2", "n9"] {
            let first = (LayoutStep::Remove { node: NodeId(2), force: true }, Some(new.to_owned()));
            assert_eq!(replace(new, false, &lost), Ok(first.clone()));
            assert_eq!(replace(new, true, &all), Ok(first));
            let refused = replace(new, false, &all).unwrap_err();
            assert!(refused.contains("answers") && refused.contains("drain it"), "{refused}");
        }
        assert!(replace("n1", true, &lost).unwrap_err().contains("n1 is active already"));
    }

    #[test]
    fn fewer_replicas_say_what_they_cost() {
        let map = map_of(5, 5);
        let costs = |factor| {
            let change = map.plan(&LayoutStep::SetReplication(factor)).unwrap();
            summarize(&map, &change, &usage(0)).unwrap().costs
        };
        assert_eq!(costs(1), ["from then on no node may fail without an interruption"]);
        assert_eq!(costs(3), ["from then on one node may fail without an interruption"]);
        assert!(costs(5).is_empty());
    }

    #[test]
    fn what_has_no_majority_without_a_node_is_named() {
        let map = map_of(3, 3);
        assert!(stuck_without(&map, &answers(&[1, 2, 3], &[1, 2, 3]), NodeId(3)).is_empty());
        assert!(stuck_without(&map, &answers(&[1, 2], &[1, 2, 3]), NodeId(3)).is_empty());
        let stuck = stuck_without(&map, &answers(&[1], &[1, 2, 3]), NodeId(3));
        assert!(
            stuck.contains(&"the cluster map".to_owned()) && stuck.contains(&"partition 0".to_owned()),
            "{stuck:?}"
        );
        // It is no member any more, whatever the placement says.
        assert!(stuck_without(&map, &answers(&[1, 2], &[1, 2]), NodeId(3)).iter().all(|name| name != "partition 0"));
    }

    #[test]
    fn nodes_go_by_name_or_number() {
        let map = map_of(3, 3);
        assert_eq!(find_node(&map, "n2").unwrap(), NodeId(2));
        assert_eq!(find_node(&map, "3").unwrap(), NodeId(3));
        assert!(find_node(&map, "n9").is_err());
        let set = |zone: &str| StepRequest::Set {
            node: "n1".to_owned(),
            zone: Some(zone.to_owned()),
            capacity_bytes: None,
            as_configured: false,
        };
        assert!(step_of(&map, &set("cellar")).is_ok());
        assert!(step_of(&map, &set("no such place")).is_err());
    }
}
