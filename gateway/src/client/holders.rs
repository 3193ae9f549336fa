//! Who stands in for the holders of a chunk, as writers and readers both look for them.

use annulus_common::ids::{NodeId, PartitionId};
use annulus_common::map::ClusterMap;
use annulus_common::placement;

/// The first `max` nodes in ring order after a partition's own.
pub(super) fn stand_ins(map: &ClusterMap, partition: PartitionId, max: usize) -> Vec<NodeId> {
    placement::stand_ins(&map.placement, partition, &[]).take(max).collect()
}
