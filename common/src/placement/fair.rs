//! The fair share of each node: how many replicas it should hold, before rounding.
//!
//! Water is poured into vessels as wide as the nodes' capacities until it is as much as there are replicas. A node is
//! full at one replica of each partition; a zone takes no less and no more than the spread over zones gives it. What
//! results is the most even distribution that these bounds allow: it minimises the sum of `share^2 / capacity`.

use std::collections::BTreeMap;

use super::{Candidate, PlacementError, PlacementNode};
use crate::ids::NodeId;

/// How many replicas of one partition a zone holds: from the first to the second number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ZoneBounds {
    pub(super) least: usize,
    pub(super) most: usize,
}

/// Enough halvings to get from the largest level of water to the last bit of a double.
const HALVINGS: usize = 200;

/// The fair share of each node that may hold data, in replicas.
pub fn fair_shares(
    nodes: &[PlacementNode],
    replication_factor: usize,
    partitions: u32,
) -> Result<BTreeMap<NodeId, f64>, PlacementError> {
    let candidates = super::candidates(nodes, replication_factor)?;
    let shares = shares(&candidates, replication_factor, partitions as usize);
    Ok(candidates.iter().map(|node| node.id).zip(shares).collect())
}

/// The zones, each with the indices of its nodes.
pub(super) fn zones(candidates: &[Candidate<'_>]) -> Vec<Vec<usize>> {
    let mut zones: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, node) in candidates.iter().enumerate() {
        zones.entry(node.zone).or_default().push(index);
    }
    zones.into_values().collect()
}

/// Replicas are dealt to the zones in turn, as long as a zone has nodes that have none yet: so each zone holds `level`
/// of each partition, or all its nodes if they are fewer, and some zones hold one more.
pub(super) fn zone_bounds(zones: &[Vec<usize>], replication_factor: usize) -> Vec<ZoneBounds> {
    let held_at = |level: usize| zones.iter().map(|zone| zone.len().min(level)).sum::<usize>();
    let level = (0..replication_factor).take_while(|level| held_at(level + 1) <= replication_factor).count();
    let rest = replication_factor - held_at(level);
    let most = |zone: &Vec<usize>| if rest > 0 { zone.len().min(level + 1) } else { zone.len().min(level) };
    zones.iter().map(|zone| ZoneBounds { least: zone.len().min(level), most: most(zone) }).collect()
}

/// The fair share of each candidate.
pub(super) fn shares(candidates: &[Candidate<'_>], replication_factor: usize, partitions: usize) -> Vec<f64> {
    let zones = zones(candidates);
    let bounds = zone_bounds(&zones, replication_factor);
    let vessel = |index: usize, level: f64| (candidates[index].capacity as f64 * level).min(partitions as f64);
    let held = |zone: &Vec<usize>, level: f64| zone.iter().map(|&index| vessel(index, level)).sum::<f64>();
    let bounded = |zone: usize, level: f64| {
        let (least, most) = (bounds[zone].least * partitions, bounds[zone].most * partitions);
        held(&zones[zone], level).clamp(least as f64, most as f64)
    };
    let replicas = (replication_factor * partitions) as f64;
    let everywhere = level_at(replicas, partitions, |level| (0..zones.len()).map(|zone| bounded(zone, level)).sum());

    let mut shares = vec![0.0; candidates.len()];
    for (zone, members) in zones.iter().enumerate() {
        let level = level_at(bounded(zone, everywhere), partitions, |level| held(members, level));
        members.iter().for_each(|&index| shares[index] = snapped(vessel(index, level)));
    }
    shares
}

/// The lowest level at which `held` reaches `wanted`. At the level `partitions` every node is full: a capacity is at
/// least 1.
fn level_at(wanted: f64, partitions: usize, held: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, partitions as f64);
    for _ in 0..HALVINGS {
        let middle = low + (high - low) / 2.0;
        if held(middle) < wanted { low = middle } else { high = middle }
    }
    high
}

/// A share that is a whole number but for rounding is that number. Errors stay far below one replica in sum, so that
/// bounds rounded from these shares can always be met: a flow's conditions are inequalities between whole numbers.
fn snapped(share: f64) -> f64 {
    const ROUNDING: f64 = 1e-7;
    if (share - share.round()).abs() < ROUNDING { share.round() } else { share }
}
