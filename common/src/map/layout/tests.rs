//! Layouts under random steps: nothing acknowledged leaves the holders, little moves, the load is even, and what would lose
//! something is refused.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::{LayoutStep, map_voters};
use crate::ids::{ClusterId, Epoch, GroupId, InstanceId, NodeId, PartitionId, RequestId};
use crate::map::change::{MapChange, MapEntry, MapRefusal, MapReply};
use crate::map::{ClusterMap, Node, NodeProfile, NodeSettings, NodeState};
use crate::placement::fair_shares;

const PARTITIONS: u32 = 16;

fn profile(number: u64) -> NodeProfile {
    NodeProfile {
        name: format!("n{number}"),
        instance: InstanceId([number as u8; 16]),
        addr: format!("n{number}:1"),
        zone: format!("z{}", number % 3),
        capacity_bytes: 1_000,
    }
}

/// A cluster of nodes `1..=active`, and as many spares after them.
fn cluster(active: u64, spares: u64, replication_factor: u8) -> ClusterMap {
    cluster_of(active, spares, replication_factor, profile)
}

fn cluster_of(active: u64, spares: u64, replication_factor: u8, profile: impl Fn(u64) -> NodeProfile) -> ClusterMap {
    let state = |number| if number <= active { NodeState::Active } else { NodeState::Spare };
    let nodes: BTreeMap<NodeId, Node> =
        (1..=active + spares).map(|number| (NodeId(number), Node::new(profile(number), state(number)))).collect();
    let candidates: Vec<_> = nodes.iter().map(|(id, node)| node.for_placement(*id)).collect();
    let placement = crate::placement::place(&candidates, replication_factor.into(), PARTITIONS, &[]).unwrap();
    ClusterMap::formed(ClusterId([1; 16]), replication_factor, map_voters(&nodes, &[]), placement, nodes)
}

fn apply(map: &mut ClusterMap, change: MapChange) -> Result<MapReply, MapRefusal> {
    map.apply(&MapEntry { request: RequestId([0; 16]), time_ms: 0, change })
}

/// Plans and carries out.
fn take(map: &mut ClusterMap, step: LayoutStep) -> Result<(), MapRefusal> {
    let change = map.plan(&step)?;
    apply(map, MapChange::ChangeLayout(change)).map(|_| ())
}

fn remove(node: u64, force: bool) -> LayoutStep {
    LayoutStep::Remove { node: NodeId(node), force }
}

/// Everything is moved.
fn settle(map: &mut ClusterMap) {
    let partitions = map.moves.partitions.iter().map(|(partition, moving)| ((*partition).into(), moving.epoch));
    let map_group = map.moves.map_group.iter().map(|moving| (GroupId::CLUSTER_MAP, moving.epoch));
    let moved = partitions.chain(map_group).collect();
    apply(map, MapChange::Moved(moved)).unwrap();
    assert_eq!(map.moves.all().count(), 0);
}

fn refused(map: &ClusterMap, step: LayoutStep) -> MapRefusal {
    map.plan(&step).unwrap_err()
}

/// What every layout promises.
fn check(map: &ClusterMap) {
    let eligible: Vec<NodeId> = map.nodes.iter().filter(|(_, node)| node.is_eligible()).map(|(id, _)| *id).collect();
    let replicas = usize::from(map.replication_factor).min(eligible.len());
    for set in &map.placement {
        assert_eq!(set.iter().collect::<BTreeSet<_>>().len(), replicas);
        assert!(set.iter().all(|id| eligible.contains(id)), "{set:?} of {eligible:?}");
    }
    let voters = if eligible.len() >= 5 { 5 } else { eligible.len().min(3) };
    assert_eq!(map.map_voters.iter().collect::<BTreeSet<_>>().len(), voters);
    assert!(map.map_voters.iter().all(|id| eligible.contains(id)));
    let candidates: Vec<_> = map.nodes.iter().map(|(id, node)| node.for_placement(*id)).collect();
    for (id, share) in fair_shares(&candidates, replicas, PARTITIONS).unwrap() {
        let held = map.placement.iter().filter(|set| set.contains(&id)).count() as f64;
        assert!(held == share.floor() || held == share.ceil(), "node {id} holds {held} of {share}");
    }
    for (partition, moving) in &map.moves.partitions {
        assert!(moving.leaving.iter().all(|id| !map.replicas(*partition).contains(id)));
        assert!(moving.leaving.iter().chain(&moving.joining).all(|id| map.nodes.contains_key(id)));
    }
}

#[derive(Clone, Debug)]
enum Event {
    Step(LayoutStep),
    Register,
    Write(u32, bool),
    /// Repair completes a partition, and says so now or only after later steps.
    Complete(u32, bool),
}

fn event() -> impl Strategy<Value = Event> {
    let node = || (1..9_u64).prop_map(NodeId);
    let step = prop_oneof![
        3 => vec(node(), 1..3).prop_map(LayoutStep::Add),
        2 => node().prop_map(LayoutStep::Drain),
        2 => (node(), any::<bool>()).prop_map(|(node, force)| LayoutStep::Remove { node, force }),
        1 => (node(), node()).prop_map(|(old, new)| LayoutStep::Replace { old, new }),
        1 => (node(), 0..3_u8, 1..4_000_u64).prop_map(|(node, zone, capacity)| {
            let settings = NodeSettings { zone: Some(format!("z{zone}")), capacity_bytes: Some(capacity) };
            LayoutStep::Set { node, settings }
        }),
        1 => (1..5_u8).prop_map(LayoutStep::SetReplication),
        1 => node().prop_map(LayoutStep::Dead),
    ];
    prop_oneof![
        4 => step.prop_map(Event::Step),
        1 => proptest::prelude::Just(Event::Register),
        4 => (0..PARTITIONS, any::<bool>()).prop_map(|(partition, first)| Event::Write(partition, first)),
        4 => (0..PARTITIONS, any::<bool>()).prop_map(|(partition, late)| Event::Complete(partition, late)),
    ]
}

/// What nodes hold: the numbers of writes, by partition and node.
type Held = BTreeMap<(u32, NodeId), BTreeSet<usize>>;

/// Copies everything that any holder has to every replica, and the strays of removed nodes to nowhere.
fn complete(map: &ClusterMap, held: &mut Held, partition: u32) {
    let all: BTreeSet<usize> =
        map.holders(PartitionId(partition)).filter_map(|id| held.get(&(partition, id))).flatten().copied().collect();
    for id in map.replicas(PartitionId(partition)) {
        held.entry((partition, *id)).or_default().extend(&all);
    }
}

proptest! {
    /// A write is on a write quorum of the placement. Repair copies what holders have. Then only the removal of nodes by force
    /// can take a write away, and not even that where it was on every replica.
    #[test]
    fn what_was_written_stays_with_the_holders(events in vec(event(), 0..60)) {
        let mut map = cluster(4, 2, 3);
        let (mut held, mut acknowledged): (Held, Vec<BTreeSet<usize>>) = (Held::new(), vec![BTreeSet::new(); PARTITIONS as usize]);
        let mut reports = Vec::new();
        for (number, event) in events.into_iter().enumerate() {
            match event {
                Event::Step(step) => {
                    let forced = matches!(step, LayoutStep::Remove { force: true, .. } | LayoutStep::Replace { .. });
                    let before = map.clone();
                    if take(&mut map, step).is_err() {
                        prop_assert_eq!(&before, &map);
                    } else if forced {
                        // What only the removed node had is gone, as was said before it was removed.
                        for (partition, writes) in (0..).zip(&mut acknowledged) {
                            let holders: Vec<NodeId> = map.holders(PartitionId(partition)).collect();
                            writes.retain(|write| holders.iter().any(|id| held.get(&(partition, *id)).is_some_and(|has| has.contains(write))));
                        }
                    }
                }
                Event::Register => {
                    let id = map.next_node.0;
                    if id < 9 {
                        apply(&mut map, MapChange::RegisterNode { node: None, profile: profile(id) }).unwrap();
                    }
                }
                Event::Write(partition, first) => {
                    let set = map.replicas(PartitionId(partition)).to_vec();
                    let quorum = map.write_quorum().min(set.len());
                    let by = if first { &set[..quorum] } else { &set[set.len() - quorum..] };
                    for id in by {
                        held.entry((partition, *id)).or_default().insert(number);
                    }
                    acknowledged[partition as usize].insert(number);
                }
                Event::Complete(partition, late) => {
                    complete(&map, &mut held, partition);
                    let Some(moving) = map.move_of(PartitionId(partition)) else { continue };
                    reports.push((PartitionId(partition).into(), moving.epoch));
                    if !late {
                        // Reports of earlier epochs come along, and must not count.
                        apply(&mut map, MapChange::Moved(std::mem::take(&mut reports))).unwrap();
                    }
                }
            }
            check(&map);
            for (partition, writes) in (0..).zip(&acknowledged) {
                let holders: Vec<NodeId> = map.holders(PartitionId(partition)).collect();
                for write in writes {
                    let has = holders.iter().any(|id| held.get(&(partition, *id)).is_some_and(|has| has.contains(write)));
                    prop_assert!(has, "write {write} of partition {partition} is with none of {holders:?}");
                }
            }
        }
    }

    #[test]
    fn a_join_and_a_drain_move_hardly_more_than_they_must(active in 3..9_u64, factor in 1..4_u8) {
        // Zones of different sizes would make more move than capacity does.
        let in_one_zone = |number| NodeProfile { zone: "z".to_owned(), ..profile(number) };
        let mut map = cluster_of(active, 1, factor, in_one_zone);
        let new = NodeId(active + 1);
        take(&mut map, LayoutStep::Add(vec![new])).unwrap();
        let moved = |map: &ClusterMap| map.moves.partitions.values().map(|moving| moving.joining.len()).sum::<usize>();
        let held = |map: &ClusterMap, id| map.placement.iter().filter(|set| set.contains(&id)).count();
        prop_assert!(moved(&map) as f64 <= 1.1 * held(&map, new) as f64, "{} to fill {}", moved(&map), held(&map, new));
        settle(&mut map);
        let leaves = held(&map, NodeId(1));
        take(&mut map, LayoutStep::Drain(NodeId(1))).unwrap();
        prop_assert!(moved(&map) as f64 <= 1.1 * leaves as f64, "{} to empty {leaves}", moved(&map));
    }
}

#[test]
fn a_node_joins_is_drained_and_leaves() {
    let mut map = cluster(3, 0, 3);
    apply(&mut map, MapChange::RegisterNode { node: None, profile: profile(4) }).unwrap();
    assert_eq!(map.nodes[&NodeId(4)].state, NodeState::Spare);
    assert!(!map.is_holding(NodeId(4)), "nothing moves without being asked");
    take(&mut map, LayoutStep::Add(vec![NodeId(4)])).unwrap();
    assert_eq!(map.epoch, Epoch(2));
    let moving = map.moves.partitions.clone();
    assert!(moving.values().all(|moving| moving.joining == [NodeId(4)] && moving.leaving.len() == 1));
    assert_eq!(moving.len(), map.placement.iter().filter(|set| set.contains(&NodeId(4))).count());
    settle(&mut map);
    take(&mut map, LayoutStep::Drain(NodeId(2))).unwrap();
    assert_eq!(refused(&map, remove(2, false)), MapRefusal::NodeHoldsData(NodeId(2)));
    settle(&mut map);
    take(&mut map, remove(2, false)).unwrap();
    assert!(!map.nodes.contains_key(&NodeId(2)));
    // Neither its directory nor its number comes back; its name may.
    let back = MapChange::RegisterNode { node: Some(NodeId(2)), profile: profile(2) };
    assert_eq!(apply(&mut map, back).unwrap_err(), MapRefusal::NodeRemoved(NodeId(2)));
    let fresh = NodeProfile { instance: InstanceId([99; 16]), ..profile(2) };
    assert_eq!(apply(&mut map, MapChange::RegisterNode { node: None, profile: fresh }), Ok(MapReply::Node(NodeId(5))));
}

#[test]
fn what_would_leave_too_few_nodes_is_refused() {
    let mut map = cluster(3, 0, 3);
    let too_few = |replication_factor, eligible| MapRefusal::TooFewNodes { replication_factor, eligible };
    assert_eq!(refused(&map, LayoutStep::Drain(NodeId(1))), too_few(3, 2));
    assert_eq!(refused(&map, LayoutStep::Dead(NodeId(1))), too_few(3, 2));
    assert_eq!(refused(&map, LayoutStep::SetReplication(4)), too_few(4, 3));
    assert_eq!(refused(&map, LayoutStep::SetReplication(0)), too_few(0, 3));
    assert_eq!(refused(&map, remove(1, false)), MapRefusal::NodeHoldsData(NodeId(1)));
    take(&mut map, LayoutStep::SetReplication(2)).unwrap();
    settle(&mut map);
    take(&mut map, LayoutStep::Drain(NodeId(1))).unwrap();
}

#[test]
fn a_lost_node_is_removed_by_force_and_its_successor_gets_full_sets() {
    let mut map = cluster(3, 0, 3);
    take(&mut map, remove(2, true)).unwrap();
    assert!(map.placement.iter().all(|set| set.len() == 2), "two nodes hold what two can");
    settle(&mut map);
    let fresh = NodeProfile { instance: InstanceId([99; 16]), ..profile(2) };
    apply(&mut map, MapChange::RegisterNode { node: None, profile: fresh }).unwrap();
    take(&mut map, LayoutStep::Add(vec![NodeId(4)])).unwrap();
    assert!(map.placement.iter().all(|set| set.len() == 3));
    assert!(map.moves.partitions.values().all(|moving| moving.joining == [NodeId(4)] && moving.leaving.is_empty()));
    assert_eq!(map.moves.partitions.len(), PARTITIONS as usize, "a set that only grows has to be filled, too");
}

#[test]
fn a_lost_node_is_replaced_in_one_step() {
    let mut map = cluster(3, 1, 3);
    take(&mut map, LayoutStep::Replace { old: NodeId(2), new: NodeId(4) }).unwrap();
    assert!(map.placement.iter().all(|set| set.len() == 3 && set.contains(&NodeId(4))));
    assert!(map.moves.partitions.values().all(|moving| moving.joining == [NodeId(4)] && moving.leaving.is_empty()));
    assert!(map.map_voters.contains(&NodeId(4)) && !map.nodes.contains_key(&NodeId(2)));
}

#[test]
fn the_last_node_that_has_all_of_a_partition_stays() {
    let mut map = cluster(1, 1, 1);
    take(&mut map, LayoutStep::Add(vec![NodeId(2)])).unwrap();
    take(&mut map, LayoutStep::Drain(NodeId(1))).unwrap();
    assert!(matches!(refused(&map, remove(1, true)), MapRefusal::LastReplica(_)));
    settle(&mut map);
    take(&mut map, remove(1, false)).unwrap();
    assert!(matches!(refused(&map, remove(2, true)), MapRefusal::TooFewNodes { .. }));
}

#[test]
fn a_voter_of_group_0_stays_until_the_group_has_let_it_go() {
    let mut map = cluster(4, 0, 1);
    let voter = map.map_voters[0];
    take(&mut map, LayoutStep::Drain(voter)).unwrap();
    let moved = map.moves.partitions.iter().map(|(partition, moving)| ((*partition).into(), moving.epoch)).collect();
    apply(&mut map, MapChange::Moved(moved)).unwrap();
    assert_eq!(refused(&map, remove(voter.0, false)), MapRefusal::NodeHoldsData(voter));
    settle(&mut map);
    take(&mut map, remove(voter.0, false)).unwrap();
}

#[test]
fn a_plan_is_good_for_the_layout_it_was_made_from() {
    let mut map = cluster(4, 2, 3);
    let late = map.plan(&LayoutStep::Add(vec![NodeId(5)])).unwrap();
    take(&mut map, LayoutStep::Add(vec![NodeId(6)])).unwrap();
    let outcome = apply(&mut map, MapChange::ChangeLayout(late));
    assert_eq!(outcome.unwrap_err(), MapRefusal::LayoutChanged(Epoch(2)));
    let mut wrong = map.plan(&LayoutStep::Rebalance).unwrap();
    wrong.sets.push((PartitionId(0), vec![NodeId(1), NodeId(2), NodeId(5)]));
    let outcome = apply(&mut map, MapChange::ChangeLayout(wrong));
    assert!(matches!(outcome.unwrap_err(), MapRefusal::NoPlacement(_)), "node 5 is a spare");
}

#[test]
fn what_an_operator_set_outlives_a_restart_of_the_node() {
    let mut map = cluster(4, 0, 3);
    let settings = NodeSettings { zone: Some("cellar".to_owned()), capacity_bytes: None };
    take(&mut map, LayoutStep::Set { node: NodeId(1), settings }).unwrap();
    let said = NodeProfile { capacity_bytes: 5_000, ..profile(1) };
    apply(&mut map, MapChange::RegisterNode { node: Some(NodeId(1)), profile: said }).unwrap();
    let node = &map.nodes[&NodeId(1)];
    assert_eq!((node.zone(), node.capacity_bytes()), ("cellar", 5_000));
}

#[test]
fn a_dead_node_comes_back_as_a_spare() {
    let mut map = cluster(4, 0, 3);
    take(&mut map, LayoutStep::Dead(NodeId(1))).unwrap();
    assert!(map.placement.iter().all(|set| !set.contains(&NodeId(1))));
    assert_eq!(refused(&map, LayoutStep::Add(vec![NodeId(1)])), MapRefusal::NodeDead(NodeId(1)));
    apply(&mut map, MapChange::RegisterNode { node: Some(NodeId(1)), profile: profile(1) }).unwrap();
    assert_eq!(map.nodes[&NodeId(1)].state, NodeState::Spare);
    take(&mut map, LayoutStep::Add(vec![NodeId(1)])).unwrap();
    check(&map);
}
