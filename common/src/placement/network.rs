//! Placement as a flow: source -> partition -> zone within the partition -> node -> sink.
//!
//! Every unit of flow is a replica. A zone and a node must take the least that is theirs and may take one more: what
//! they may take costs more than all movement together, so that the cheapest flow first fills what they must take.
//! Among those it takes the one with the fewest new replicas, as only these cost anything else.

use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_64;

use super::Candidate;
use super::fair::{ZoneBounds, shares, zone_bounds, zones};
use super::flow::{EdgeId, Network};
use crate::ids::NodeId;

const SOURCE: usize = 0;
const SINK: usize = 1;

/// A replica on a node that did not have it.
const COST_MOVE: i64 = 1;

/// The replica set of each partition, in an order that differs from partition to partition.
pub(super) fn choose(
    candidates: &[Candidate<'_>],
    replication_factor: usize,
    partitions: usize,
    previous: &[Vec<NodeId>],
) -> Vec<Vec<NodeId>> {
    let replicas = replication_factor * partitions;
    // More than all replicas could cost by moving, for what a zone or node may take but need not.
    let cost_optional = COST_MOVE * (replicas as i64 + 1);
    let zones = zones(candidates);
    let bounds = zone_bounds(&zones, replication_factor);
    let first_node = 2 + partitions;
    let first_zone = first_node + candidates.len();

    let mut network = Network::new(first_zone + partitions * zones.len());
    let mut held_by: Vec<Vec<(NodeId, EdgeId)>> = Vec::with_capacity(partitions);
    for partition in 0..partitions {
        let before: HashSet<NodeId> = previous.get(partition).into_iter().flatten().copied().collect();
        network.add(SOURCE, 2 + partition, replication_factor, 0);
        let mut held = Vec::with_capacity(candidates.len());
        for zone in shuffled(partition, zones.len(), |zone| candidates[zones[zone][0]].id) {
            let vertex = first_zone + partition * zones.len() + zone;
            add_zone(&mut network, 2 + partition, vertex, bounds[zone], cost_optional);
            for member in shuffled(partition, zones[zone].len(), |member| candidates[zones[zone][member]].id) {
                let node = zones[zone][member];
                let id = candidates[node].id;
                let cost = if before.contains(&id) { 0 } else { COST_MOVE };
                held.push((id, network.add(vertex, first_node + node, 1, cost)));
            }
        }
        held_by.push(held);
    }
    for (node, share) in shares(candidates, replication_factor, partitions).into_iter().enumerate() {
        network.add(first_node + node, SINK, share.floor() as usize, 0);
        network.add(first_node + node, SINK, (share.ceil() - share.floor()) as usize, cost_optional);
    }

    // Fair shares are a fractional flow within these bounds, so there is one in whole numbers.
    let placed = network.send(SOURCE, SINK, replicas);
    assert_eq!(placed, replicas, "fair shares can be rounded to a placement");
    let set = |held: Vec<(NodeId, EdgeId)>| {
        held.into_iter().filter(|(_, edge)| network.flow(*edge) > 0).map(|(id, _)| id).collect()
    };
    held_by.into_iter().map(set).collect()
}

fn add_zone(network: &mut Network, partition: usize, zone: usize, bounds: ZoneBounds, cost_optional: i64) {
    network.add(partition, zone, bounds.least, 0);
    network.add(partition, zone, bounds.most - bounds.least, cost_optional);
}

/// The numbers below `count` in an order that depends on the partition: else neighbours would get the same nodes, and
/// when one of these failed only the few others of its sets could help to restore it.
fn shuffled(partition: usize, count: usize, id: impl Fn(usize) -> NodeId) -> Vec<usize> {
    let rank = |index: usize| {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&(partition as u64).to_be_bytes());
        name[8..].copy_from_slice(&id(index).0.to_be_bytes());
        xxh3_64(&name)
    };
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&index| (rank(index), index));
    order
}
