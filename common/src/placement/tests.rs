//! The promises of the module's head, for random clusters and their changes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, prop_assume, proptest};

use super::{PlacementError, PlacementNode, fair_shares, place, stand_ins};
use crate::ids::{NodeId, PartitionId};

type Placement = Vec<Vec<NodeId>>;

fn node(id: u64, zone: usize, capacity: u64) -> PlacementNode {
    PlacementNode { id: NodeId(id), zone: format!("zone{zone}"), capacity, draining: false }
}

/// `count` equal nodes, dealt to `zones` zones.
fn equal_nodes(count: u64, zones: usize) -> Vec<PlacementNode> {
    (0..count).map(|id| node(id, id as usize % zones, 1000)).collect()
}

fn loads(placement: &Placement) -> BTreeMap<NodeId, usize> {
    let mut loads = BTreeMap::new();
    placement.iter().flatten().for_each(|id| *loads.entry(*id).or_default() += 1);
    loads
}

fn leads(placement: &Placement) -> BTreeMap<NodeId, usize> {
    let mut leads: BTreeMap<_, _> = placement.iter().flatten().map(|id| (*id, 0)).collect();
    placement.iter().for_each(|set| *leads.entry(set[0]).or_default() += 1);
    leads
}

/// How many replicas are where they were not before.
fn moved(before: &Placement, after: &Placement) -> usize {
    before.iter().zip(after).flat_map(|(before, after)| after.iter().filter(|id| !before.contains(id))).count()
}

/// What has to move whatever one does: nodes below their share must get, nodes above must give.
fn least_movement(nodes: &[PlacementNode], replication_factor: usize, before: &Placement) -> usize {
    let shares = fair_shares(nodes, replication_factor, before.len() as u32).unwrap();
    let held = loads(before);
    let at = |id: &NodeId| held.get(id).copied().unwrap_or(0);
    let gets: usize = shares.iter().map(|(id, share)| (share.floor() as usize).saturating_sub(at(id))).sum();
    let most = |id: &NodeId| shares.get(id).map_or(0, |share| share.ceil() as usize);
    let gives: usize = held.iter().map(|(id, held)| held.saturating_sub(most(id))).sum();
    gets.max(gives)
}

fn holders(nodes: &[PlacementNode]) -> Vec<&PlacementNode> {
    nodes.iter().filter(|node| node.capacity > 0 && !node.draining).collect()
}

/// Panics unless the placement keeps all promises that concern it alone.
fn check(nodes: &[PlacementNode], replication_factor: usize, partitions: u32, placement: &Placement) {
    assert_eq!(placement.len(), partitions as usize);
    let holders = holders(nodes);
    let zone_of: BTreeMap<NodeId, &str> = holders.iter().map(|node| (node.id, node.zone.as_str())).collect();
    let mut zone_sizes: BTreeMap<&str, usize> = BTreeMap::new();
    zone_of.values().for_each(|zone| *zone_sizes.entry(zone).or_default() += 1);

    for set in placement {
        assert_eq!(set.iter().collect::<BTreeSet<_>>().len(), replication_factor, "distinct: {set:?}");
        let mut in_zone: BTreeMap<&str, usize> = zone_sizes.keys().map(|zone| (*zone, 0)).collect();
        set.iter().for_each(|id| *in_zone.get_mut(zone_of[id]).expect("a node that holds data") += 1);
        let least_open =
            in_zone.iter().filter(|(zone, count)| **count < zone_sizes[*zone]).map(|(_, count)| *count).min();
        let most = in_zone.values().copied().max().unwrap();
        assert!(least_open.is_none_or(|least| most <= least + 1), "zones could be spread further: {in_zone:?}");
        let spread = in_zone.values().filter(|count| **count > 0).count();
        assert_eq!(spread, replication_factor.min(zone_sizes.len()));
    }

    let held = loads(placement);
    for (id, share) in fair_shares(nodes, replication_factor, partitions).unwrap() {
        let held = held.get(&id).copied().unwrap_or(0) as f64;
        assert!(held == share.floor() || held == share.ceil(), "node {id} holds {held}, its share is {share}");
    }

    let leads = leads(placement);
    for set in placement {
        assert!(set.iter().all(|id| leads[&set[0]] <= leads[id] + 1), "leading could be spread further: {leads:?}");
    }
}

/// Clusters of up to 14 nodes in up to 5 zones with capacities that may differ a thousandfold.
fn cluster() -> impl Strategy<Value = Vec<PlacementNode>> {
    let capacity = proptest::prop_oneof![4 => Just(1000_u64), 4 => 200..5000_u64, 1 => 1..1_000_000_u64, 1 => Just(0)];
    let node = (0..5_usize, capacity, prop::bool::weighted(0.1));
    vec(node, 1..14).prop_map(|nodes| {
        let numbered = nodes.into_iter().enumerate();
        let named = numbered.map(|(id, (zone, capacity, draining))| PlacementNode {
            draining,
            ..self::node(id as u64 * 7 % 101, zone, capacity)
        });
        named.collect()
    })
}

/// One thing that happens to a cluster.
#[derive(Clone, Debug)]
enum Change {
    Join(PlacementNode),
    Drain(usize),
    Lose(usize),
    Weigh(usize, u64),
}

fn change() -> impl Strategy<Value = Change> {
    proptest::prop_oneof![
        (0..5_usize, 200..5000_u64).prop_map(|(zone, capacity)| Change::Join(node(0, zone, capacity))),
        any::<usize>().prop_map(Change::Drain),
        any::<usize>().prop_map(Change::Lose),
        (any::<usize>(), 200..5000_u64).prop_map(|(index, capacity)| Change::Weigh(index, capacity)),
    ]
}

fn apply(nodes: &mut Vec<PlacementNode>, change: Change, fresh: u64) {
    let count = nodes.len();
    match change {
        Change::Join(node) => nodes.push(PlacementNode { id: NodeId(1000 + fresh), ..node }),
        Change::Drain(index) => nodes[index % count].draining = true,
        Change::Lose(index) => drop(nodes.remove(index % count)),
        Change::Weigh(index, capacity) => nodes[index % count].capacity = capacity,
    }
}

proptest! {
    #[test]
    fn any_cluster_is_placed_as_promised(
        nodes in cluster(), replication_factor in 1..6_usize, partitions in prop::sample::select(vec![1, 7, 16, 64]),
    ) {
        let available = holders(&nodes).len();
        match place(&nodes, replication_factor, partitions, &[]) {
            Ok(placement) => check(&nodes, replication_factor, partitions, &placement),
            Err(error) => {
                prop_assert!(available < replication_factor);
                prop_assert_eq!(error, PlacementError::TooFewNodes { replication_factor, available });
            }
        }
    }

    #[test]
    fn changes_keep_the_promises(
        nodes in cluster(), changes in vec(change(), 1..6), factors in vec(1..5_usize, 6..7), partitions in 1..40_u32,
    ) {
        let (mut nodes, mut placement) = (nodes, Vec::new());
        for (fresh, change) in changes.into_iter().enumerate() {
            if let Ok(next) = place(&nodes, factors[fresh], partitions, &placement) {
                check(&nodes, factors[fresh], partitions, &next);
                // Once placed, nothing moves by itself, and the order of the nodes does not matter.
                nodes.reverse();
                prop_assert_eq!(&place(&nodes, factors[fresh], partitions, &next).unwrap(), &next);
                placement = next;
            }
            if nodes.len() > 1 {
                apply(&mut nodes, change, fresh as u64);
            }
        }
    }

    #[test]
    fn one_change_moves_what_it_must(
        count in 4..40_u64, more_zones in prop::option::of(0..4_usize), change in change(), replication_factor in 1..4_usize,
    ) {
        // With fewer zones than this a change brings a zone to its bounds, and sets it has no part in have to move too.
        let zones = more_zones.map_or(1, |more| 2 * replication_factor + more);
        let mut nodes = equal_nodes(count.max(4 * zones as u64), zones);
        let before = place(&nodes, replication_factor, 256, &[]).unwrap();
        apply(&mut nodes, change, 0);
        let after = place(&nodes, replication_factor, 256, &before).unwrap();

        let (moved, least) = (moved(&before, &after), least_movement(&nodes, replication_factor, &before));
        prop_assert!(moved as f64 <= 1.1 * least as f64, "{} moved, {} had to", moved, least);
    }

    #[test]
    fn no_placement_moves_less(
        nodes in vec((0..3_usize, 1..4_u64), 3..6), before in vec(vec(0..6_u64, 2..3), 3..5),
    ) {
        let nodes: Vec<_> = nodes.iter().enumerate().map(|(id, (zone, weight))| node(id as u64, *zone, *weight)).collect();
        let before: Placement = before.into_iter().map(|set| set.into_iter().map(NodeId).collect()).collect();
        let placement = place(&nodes, 2, before.len() as u32, &before).unwrap();
        check(&nodes, 2, before.len() as u32, &placement);
        prop_assert_eq!(moved(&before, &placement), least_by_trying_all(&nodes, &before));
    }

    #[test]
    fn fair_shares_are_level_water(nodes in cluster(), replication_factor in 1..6_usize, partitions in 1..300_u32) {
        let shares = fair_shares(&nodes, replication_factor, partitions);
        prop_assume!(shares.is_ok());
        let shares = shares.unwrap();
        let total: f64 = shares.values().sum();
        prop_assert!((total - (replication_factor * partitions as usize) as f64).abs() < 1e-3);
        // In one zone, whoever is not full stands at the same level, and no full node stands higher.
        for a in holders(&nodes) {
            prop_assert!(shares[&a.id] <= f64::from(partitions));
            for b in holders(&nodes).into_iter().filter(|b| b.zone == a.zone) {
                let (level_a, level_b) = (shares[&a.id] / a.capacity as f64, shares[&b.id] / b.capacity as f64);
                let full = shares[&b.id] == f64::from(partitions);
                prop_assert!(full || level_a <= level_b * (1.0 + 1e-4), "{} above {}", level_a, level_b);
            }
        }
    }
}

/// The fewest moves of all placements on two nodes each that are spread over zones and balanced.
fn least_by_trying_all(nodes: &[PlacementNode], before: &Placement) -> usize {
    let shares = fair_shares(nodes, 2, before.len() as u32).unwrap();
    let zones = nodes.iter().map(|node| &node.zone).collect::<BTreeSet<_>>().len();
    let mut pairs = Vec::new();
    for (index, a) in nodes.iter().enumerate() {
        for b in &nodes[index + 1..] {
            if zones == 1 || a.zone != b.zone {
                pairs.push([a.id, b.id]);
            }
        }
    }
    let mut best = usize::MAX;
    for choice in 0..pairs.len().pow(before.len() as u32) {
        let digit = |place: usize| choice / pairs.len().pow(place as u32) % pairs.len();
        let placement: Placement = (0..before.len()).map(|place| pairs[digit(place)].to_vec()).collect();
        let held = loads(&placement);
        let balanced = shares.iter().all(|(id, share)| {
            let held = held.get(id).copied().unwrap_or(0) as f64;
            held == share.floor() || held == share.ceil()
        });
        if balanced {
            best = best.min(moved(before, &placement));
        }
    }
    best
}

#[test]
fn equal_nodes_get_equal_shares_and_lead_equally() {
    let placement = place(&equal_nodes(8, 4), 3, 64, &[]).unwrap();
    assert!(loads(&placement).values().all(|held| *held == 24), "{:?}", loads(&placement));
    assert!(leads(&placement).values().all(|led| *led == 8), "{:?}", leads(&placement));
}

#[test]
fn the_fullest_node_is_at_most_five_percent_above_the_mean_of_twenty() {
    let nodes: Vec<_> = (0..30).map(|id| node(id, id as usize % 5, 1000 + 37 * id)).collect();
    let placement = place(&nodes, 3, 512, &[]).unwrap();
    let shares = fair_shares(&nodes, 3, 512).unwrap();
    let held = loads(&placement);
    assert!(shares.values().all(|share| *share >= 20.0));
    assert!(shares.iter().all(|(id, share)| held[id] as f64 <= 1.05 * share));
}

#[test]
fn a_node_of_another_size_gets_another_share() {
    let nodes = [node(1, 0, 100), node(2, 1, 100), node(3, 2, 100), node(4, 3, 300)];
    let held = loads(&place(&nodes, 2, 60, &[]).unwrap());
    assert_eq!(held[&NodeId(4)], 60, "three fifths of the capacity would be more than all partitions' half");
    assert!((1..4).all(|id| held[&NodeId(id)] == 20));
}

#[test]
fn neighbours_on_the_ring_do_not_share_their_nodes() {
    let placement = place(&equal_nodes(12, 1), 3, 128, &[]).unwrap();
    let partners =
        |id: NodeId| placement.iter().filter(move |set| set.contains(&id)).flatten().collect::<BTreeSet<_>>();
    assert!((0..12).all(|id| partners(NodeId(id)).len() >= 10), "each node is restored by nearly all others");
}

#[test]
fn a_leader_that_stays_and_is_not_too_busy_leads_on() {
    let before = place(&equal_nodes(6, 3), 3, 60, &[]).unwrap();
    let mut nodes = equal_nodes(6, 3);
    nodes[5].draining = true;
    let after = place(&nodes, 3, 60, &before).unwrap();
    let changed = before.iter().zip(&after).filter(|(before, after)| before[0] != after[0]).count();
    assert!((10..=12).contains(&changed), "the drained node led 10 sets, and few others hand over: {changed}");
}

#[test]
fn what_cannot_be_placed_is_refused() {
    let nodes = equal_nodes(2, 2);
    let too_few = PlacementError::TooFewNodes { replication_factor: 3, available: 2 };
    assert_eq!(place(&nodes, 3, 16, &[]), Err(too_few));
    assert_eq!(place(&nodes, 0, 16, &[]), Err(PlacementError::Nothing));
    assert_eq!(place(&nodes, 1, 0, &[]), Err(PlacementError::Nothing));
    let twice = [node(1, 0, 1), node(1, 1, 1)];
    assert_eq!(place(&twice, 1, 16, &[]), Err(PlacementError::DuplicateNode(NodeId(1))));
    let changed = PlacementError::PartitionsChanged { previous: 1, partitions: 16 };
    assert_eq!(place(&nodes, 1, 16, &[vec![NodeId(0)]]), Err(changed));
}

/// The sizing at the upper end: each node a zone of its own makes the largest network.
#[test]
fn a_hundred_nodes_and_a_thousand_partitions() {
    for zones in [1, 3, 100] {
        let mut nodes = equal_nodes(100, zones);
        let before = place(&nodes, 3, 1024, &[]).unwrap();
        check(&nodes, 3, 1024, &before);
        nodes.push(node(500, 0, 1000));
        let after = place(&nodes, 3, 1024, &before).unwrap();
        check(&nodes, 3, 1024, &after);
    }
}

/// Not a stored format: the map is. But nodes of two versions should not plan differently without somebody noticing.
#[test]
fn the_golden_placement() {
    let placement = place(&equal_nodes(4, 4), 3, 4, &[]).unwrap();
    let ids: Vec<Vec<u64>> = placement.iter().map(|set| set.iter().map(|id| id.0).collect()).collect();
    assert_eq!(ids, [[2, 1, 3], [1, 0, 3], [3, 0, 2], [0, 2, 1]]);
}

#[test]
fn stand_ins_are_the_next_others_on_the_ring() {
    let sets = [[1, 2], [2, 3], [4, 1], [5, 3]].map(|set| set.map(NodeId).to_vec());
    let stand_ins = |partition, exclude: &[u64]| {
        let exclude: Vec<_> = exclude.iter().copied().map(NodeId).collect();
        stand_ins(&sets, PartitionId(partition), &exclude).map(|id| id.0).collect::<Vec<_>>()
    };
    assert_eq!(stand_ins(0, &[]), [3, 4, 5]);
    assert_eq!(stand_ins(3, &[]), [1, 2, 4]);
    assert_eq!(stand_ins(1, &[4]), [1, 5]);
    assert_eq!(stand_ins(9, &[]), [1, 2, 3, 4, 5], "beyond the ring there is no set to leave out");
}
