//! Spreads the first places of replica sets over the nodes: an optimal semi-matching of partitions to nodes.
//!
//! As long as some chain of sets leads from a node with many first places to one with at least two fewer, each set of
//! the chain hands its first place on. When no chain is left the spread is as even as it can be
//! (Harvey, Ladner, Lovász, Tamir: Semi-matchings for bipartite graphs and load balancing, 2006).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ids::NodeId;

/// Hands first places on until none can be spread more evenly. Only the first place and the new leader's old one
/// change in a set.
pub(super) fn spread(placement: &mut [Vec<NodeId>]) {
    let mut leads: BTreeMap<NodeId, Vec<usize>> = placement.iter().flatten().map(|id| (*id, Vec::new())).collect();
    for (partition, set) in placement.iter().enumerate() {
        leads.entry(set[0]).or_default().push(partition);
    }
    // A node from which no chain leads away will not get one: whatever it reaches has at most one first place fewer,
    // and chains of nodes that are no busier end further below, outside of what it reaches.
    let mut settled = BTreeSet::new();
    while let Some(busiest) = busiest(&leads, &settled) {
        match relieving_chain(placement, &leads, busiest) {
            Some(chain) => chain.into_iter().for_each(|(partition, to)| hand_on(placement, &mut leads, partition, to)),
            None => {
                settled.insert(busiest);
            }
        }
    }
}

fn busiest(leads: &BTreeMap<NodeId, Vec<usize>>, settled: &BTreeSet<NodeId>) -> Option<NodeId> {
    let open = leads.iter().filter(|(id, _)| !settled.contains(*id));
    open.max_by_key(|(id, led)| (led.len(), Reverse(**id))).map(|(id, _)| *id)
}

/// The shortest chain from `start` to a node with at least two first places fewer: which set hands its first place to
/// whom, from the end of the chain to its start.
fn relieving_chain(
    placement: &[Vec<NodeId>],
    leads: &BTreeMap<NodeId, Vec<usize>>,
    start: NodeId,
) -> Option<Vec<(usize, NodeId)>> {
    let mut came_by: BTreeMap<NodeId, (NodeId, usize)> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(from) = queue.pop_front() {
        for &partition in &leads[&from] {
            for &to in &placement[partition][1..] {
                if to == start || came_by.contains_key(&to) {
                    continue;
                }
                came_by.insert(to, (from, partition));
                if leads[&to].len() + 2 <= leads[&start].len() {
                    return Some(chain_to(to, start, &came_by));
                }
                queue.push_back(to);
            }
        }
    }
    None
}

fn chain_to(end: NodeId, start: NodeId, came_by: &BTreeMap<NodeId, (NodeId, usize)>) -> Vec<(usize, NodeId)> {
    let (mut chain, mut at) = (Vec::new(), end);
    while at != start {
        let (from, partition) = came_by[&at];
        chain.push((partition, at));
        at = from;
    }
    chain
}

fn hand_on(placement: &mut [Vec<NodeId>], leads: &mut BTreeMap<NodeId, Vec<usize>>, partition: usize, to: NodeId) {
    let set = &mut placement[partition];
    let place = set.iter().position(|&id| id == to).expect("a chain runs over members of the set");
    leads.entry(set[0]).or_default().retain(|&led| led != partition);
    set.swap(0, place);
    leads.entry(to).or_default().push(partition);
}
