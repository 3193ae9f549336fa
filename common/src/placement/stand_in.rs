//! Who stands in for a replica that is down: the next nodes along the ring.

use crate::ids::{NodeId, PartitionId};

/// How many of them a writer tries before it gives a chunk up: each may cost a deadline. Repair looks for copies at as many.
pub const STAND_INS_MAX: usize = 8;

/// The nodes outside a partition's replica set and outside `exclude`, each once, in the order in which the sets of the
/// partitions after it name them. Every caller with the same map gets the same order, so that a reader asks first
/// where a writer went.
pub fn stand_ins<'a>(
    placement: &'a [Vec<NodeId>],
    partition: PartitionId,
    exclude: &'a [NodeId],
) -> impl Iterator<Item = NodeId> + 'a {
    let (before, from) = placement.split_at(placement.len().min(partition.0 as usize));
    let own = from.first().map_or(&[][..], Vec::as_slice);
    let mut seen: Vec<NodeId> = Vec::new();
    from.iter().skip(1).chain(before).flatten().copied().filter(move |id| {
        let new = !own.contains(id) && !exclude.contains(id) && !seen.contains(id);
        if new {
            seen.push(*id);
        }
        new
    })
}
