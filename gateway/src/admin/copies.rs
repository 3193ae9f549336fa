//! How many good copies there are now, and what would be lost with which failure. A copy counts when its node answers and has
//! compared it of late with the others: what is not known is not good.

use std::collections::{BTreeMap, BTreeSet};

use annulus_common::ids::{NodeId, PartitionId};
use annulus_common::map::{ClusterMap, Node, NodeState};
use annulus_common::protocol::NodeStatus;
use annulus_common::protocol::repair::{PartitionCopy, RepairStatus};

use super::model::{CopiesReport, PartitionReport, ZoneRisk};

pub(super) type Answers = BTreeMap<NodeId, Option<NodeStatus>>;

pub(super) fn report(map: &ClusterMap, partitions: &[PartitionReport], answers: &Answers) -> CopiesReport {
    let copies: Vec<Option<&PartitionCopy>> =
        wanted(map).map(|(partition, node)| copy(answers, partition, node)).collect();
    let known = || copies.iter().flatten();
    let repairs = || answers.values().flatten().map(|status| &status.repair);
    let bytes_missing = known().map(|copy| copy.lacking_bytes).sum();
    let bytes_per_second = repairs().map(|repair| repair.moved_bytes_per_second).sum();
    let replicas_behind = partitions.iter().map(|group| group.replicas.len().saturating_sub(group.in_sync.len()));
    CopiesReport {
        unverified: copies.iter().filter(|copy| copy.is_none_or(|copy| !copy.uncompared.is_empty())).count() as u32,
        chunks_missing: known().map(|copy| copy.lacking_chunks).sum(),
        bytes_missing,
        chunks_damaged: repairs().map(|repair| repair.damaged).sum(),
        strays: repairs().filter_map(|repair| repair.strays).sum(),
        metadata_replicas_missing: replicas_behind.sum::<usize>() as u32,
        zones_at_risk: zones_at_risk(map, partitions, answers),
        bytes_per_second,
        eta_seconds: u64::checked_div(bytes_missing, bytes_per_second),
        scrubbed_ms: oldest_scrub(repairs()),
    }
}

/// The copies that there should be.
fn wanted(map: &ClusterMap) -> impl Iterator<Item = (PartitionId, NodeId)> + '_ {
    let numbered = (0..).map(PartitionId).zip(&map.placement);
    numbered.flat_map(|(partition, set)| set.iter().map(move |node| (partition, *node)))
}

fn copy(answers: &Answers, partition: PartitionId, node: NodeId) -> Option<&PartitionCopy> {
    let status = answers.get(&node)?.as_ref()?;
    status.repair.partitions.iter().find(|copy| copy.partition == partition)
}

/// Who has a partition's chunks, or its metadata.
pub(super) struct Have {
    /// Nodes that answer and have what is known to be all, or less.
    some: BTreeSet<NodeId>,
    /// Those that have all of it, as far as anybody who answers knows.
    all: BTreeSet<NodeId>,
}

impl Have {
    /// Whether something would be lost with these nodes.
    pub(super) fn is_lost_with(&self, gone: impl Fn(&NodeId) -> bool) -> bool {
        self.some.iter().any(&gone) && self.all.iter().all(&gone)
    }
}

/// Who has the chunks of a partition, and who its metadata.
pub(super) fn of(map: &ClusterMap, answers: &Answers, partition: PartitionId, group: &PartitionReport) -> [Have; 2] {
    let in_sync: BTreeSet<NodeId> = group.in_sync.iter().map(|node| NodeId(*node)).collect();
    [of_chunks(map, answers, partition), Have { some: in_sync.clone(), all: in_sync }]
}

/// Who has just joined has nothing before the move is over; who leaves had all, and gives nothing up before.
fn of_chunks(map: &ClusterMap, answers: &Answers, partition: PartitionId) -> Have {
    let status = |node: &NodeId| answers.get(node).and_then(Option::as_ref);
    let is_known = |copy: &PartitionCopy| copy.uncompared.iter().all(|other| status(other).is_none());
    let has_some = |node: &NodeId| match copy(answers, partition, *node) {
        Some(copy) => is_known(copy),
        None => map.leaving(partition).contains(node) && status(node).is_some(),
    };
    let some: BTreeSet<NodeId> = map.complete_holders(partition).filter(has_some).collect();
    let has_all = |node: &NodeId| {
        let knows_its_damage = status(node).is_some_and(|status| knows_where_damage_is(&status.repair));
        let lacks_nothing = |copy: &PartitionCopy| copy.lacking_chunks == 0 && copy.damaged_chunks == 0;
        knows_its_damage && copy(answers, partition, *node).is_none_or(lacks_nothing)
    };
    let all = some.iter().filter(|node| has_all(node)).copied().collect();
    Have { some, all }
}

/// Of more damage than it can keep in mind, a node only says how much it is.
fn knows_where_damage_is(repair: &RepairStatus) -> bool {
    repair.damaged <= repair.partitions.iter().map(|copy| copy.damaged_chunks).sum()
}

/// Whether a node may have chunks that have yet to be copied to where they belong: it stood in for others. Nobody knows of one that
/// does not answer, until it is given up.
pub(super) fn may_have_strays(node: &Node, answer: Option<&NodeStatus>) -> bool {
    let has_hints = |status: &NodeStatus| status.hints.iter().any(|(_, count)| *count > 0);
    match node.state {
        NodeState::Active | NodeState::Draining => {
            answer.is_none_or(|status| status.repair.strays != Some(0) || has_hints(status))
        }
        NodeState::Spare => {
            answer.is_some_and(|status| status.repair.strays.is_some_and(|strays| strays > 0) || has_hints(status))
        }
        NodeState::Dead => false,
    }
}

/// In how many partitions chunks would be lost with a node.
pub(super) fn chunks_lost_with(map: &ClusterMap, answers: &Answers, node: NodeId) -> usize {
    let partitions = (0..map.partitions()).map(PartitionId);
    partitions.filter(|at| of_chunks(map, answers, *at).is_lost_with(|other| *other == node)).count()
}

/// The zones whose loss would lose something now.
fn zones_at_risk(map: &ClusterMap, partitions: &[PartitionReport], answers: &Answers) -> Vec<ZoneRisk> {
    let zones: BTreeSet<&str> = map.nodes.values().map(|node| node.zone()).collect();
    if zones.len() < 2 {
        return Vec::new();
    }
    let mut at_risk: BTreeMap<&str, u32> = BTreeMap::new();
    for (partition, group) in (0..).map(PartitionId).zip(partitions) {
        let have = of(map, answers, partition, group);
        for zone in &zones {
            let is_in_zone = |node: &NodeId| map.nodes.get(node).is_some_and(|node| node.zone() == *zone);
            if have.iter().any(|have| have.is_lost_with(is_in_zone)) {
                *at_risk.entry(zone).or_default() += 1;
            }
        }
    }
    at_risk.into_iter().map(|(zone, partitions)| ZoneRisk { zone: zone.to_owned(), partitions }).collect()
}

/// When everything on every node had been read, if that was ever so.
fn oldest_scrub<'a>(repairs: impl Iterator<Item = &'a RepairStatus>) -> Option<u64> {
    let completed: Option<Vec<u64>> = repairs.map(|repair| repair.scrub_completed_ms).collect();
    completed?.into_iter().min()
}

#[cfg(test)]
mod tests {
    use annulus_common::ids::NodeId;
    use annulus_common::map::ClusterMap;
    use annulus_common::protocol::repair::PartitionCopy;

    use super::super::model::{CopiesReport, PartitionReport, ZoneRisk};
    use super::super::status::tests::answers;
    use super::{Answers, report};
    use crate::client::testing::map_of;

    /// Every node answers and has complete copies.
    fn complete(map: &ClusterMap) -> Answers {
        let all: Vec<u64> = map.nodes.keys().map(|node| node.0).collect();
        answers(map, &all)
    }

    /// Groups whose members are all in sync.
    fn groups(map: &ClusterMap) -> Vec<PartitionReport> {
        let report = |(number, set): (u32, &Vec<NodeId>)| {
            let replicas: Vec<u64> = set.iter().map(|node| node.0).collect();
            PartitionReport {
                partition: Some(number),
                leader: Some(replicas[0]),
                voters: replicas.clone(),
                is_as_planned: true,
                in_sync: replicas.clone(),
                replicas,
            }
        };
        (0..).zip(&map.placement).map(report).collect()
    }

    fn copies_of(answers: &mut Answers, node: u64) -> &mut Vec<PartitionCopy> {
        &mut answers.get_mut(&NodeId(node)).unwrap().as_mut().unwrap().repair.partitions
    }

    #[test]
    fn complete_copies_everywhere_are_nothing_to_report() {
        let map = map_of(3, 3);
        assert_eq!(report(&map, &groups(&map), &complete(&map)), CopiesReport::default());
    }

    #[test]
    fn what_no_comparison_has_shown_is_unknown_and_no_good_copy() {
        let map = map_of(3, 3);
        let mut answers = complete(&map);
        answers.insert(NodeId(1), None);
        copies_of(&mut answers, 2)[0].uncompared = vec![NodeId(3)];
        let report = report(&map, &groups(&map), &answers);
        assert_eq!(report.unverified, map.partitions() + 1);
        assert_eq!(report.zones_at_risk, [ZoneRisk { zone: "z3".to_owned(), partitions: 1 }]);
    }

    #[test]
    fn what_would_be_lost_is_told_though_a_node_is_silent() {
        let map = map_of(3, 3);
        let mut answers = complete(&map);
        answers.insert(NodeId(1), None);
        for node in [2, 3] {
            copies_of(&mut answers, node).iter_mut().for_each(|copy| copy.uncompared = vec![NodeId(1)]);
        }
        assert_eq!(report(&map, &groups(&map), &answers).zones_at_risk, [], "both have all that is left");
        copies_of(&mut answers, 3)[0].lacking_chunks = 1;
        let at_risk = |zone: &str, partitions| ZoneRisk { zone: zone.to_owned(), partitions };
        assert_eq!(report(&map, &groups(&map), &answers).zones_at_risk, [at_risk("z2", 1)]);
        copies_of(&mut answers, 2)[0].damaged_chunks = 1;
        let both = [at_risk("z2", 1), at_risk("z3", 1)];
        assert_eq!(report(&map, &groups(&map), &answers).zones_at_risk, both, "neither has what the other lacks");
    }

    #[test]
    fn what_is_missing_is_added_up_with_when_it_is_there() {
        let map = map_of(3, 3);
        let mut answers = complete(&map);
        for (node, chunks) in [(1, 2), (2, 3)] {
            let copy = &mut copies_of(&mut answers, node)[0];
            (copy.lacking_chunks, copy.lacking_bytes) = (chunks, chunks * 1_000);
        }
        answers.get_mut(&NodeId(1)).unwrap().as_mut().unwrap().repair.moved_bytes_per_second = 500;
        let report = report(&map, &groups(&map), &answers);
        assert_eq!((report.chunks_missing, report.bytes_missing, report.eta_seconds), (5, 5_000, Some(10)));
        assert_eq!(report.zones_at_risk[0].partitions, 1, "one good copy is left of one partition");
    }

    #[test]
    fn a_replica_of_the_metadata_that_is_behind_is_missing() {
        let map = map_of(3, 3);
        let mut groups = groups(&map);
        groups[0].in_sync.truncate(1);
        let report = report(&map, &groups, &complete(&map));
        assert_eq!(report.metadata_replicas_missing, 2);
        assert_eq!(report.zones_at_risk.len(), 1);
    }
}
