//! Who leads which partition, as far as this client was told. A wrong guess costs one detour.

use std::sync::atomic::{AtomicU64, Ordering};

use annulus_common::ids::{NodeId, PartitionId};
use annulus_common::map::ClusterMap;

use super::health::Health;

/// One leader per partition; 0 is none, as nodes are stored one higher.
pub(super) struct Leaders(Box<[AtomicU64]>);

impl Leaders {
    pub(super) fn new(partitions: u32) -> Self {
        Self((0..partitions).map(|_| AtomicU64::new(0)).collect())
    }

    /// The node to ask for the `attempt`-th time: the leader as known, or else one holder after the other, those that
    /// are in health first. None for a partition without any.
    pub(super) fn guess(
        &self,
        map: &ClusterMap,
        partition: PartitionId,
        attempt: usize,
        health: &Health,
    ) -> Option<NodeId> {
        let known = self.get(partition).filter(|leader| map.nodes.contains_key(leader));
        if let Some(leader) = known.filter(|&leader| health.is_usable(leader)) {
            return Some(leader);
        }
        // A group that is moving may still be led from where it was.
        let (usable, suspect): (Vec<NodeId>, Vec<NodeId>) =
            map.holders(partition).partition(|&node| !health.is_suspect(node));
        let ordered = [usable, suspect].concat();
        ordered.get(attempt % ordered.len().max(1)).copied()
    }

    pub(super) fn learn(&self, partition: PartitionId, leader: NodeId) {
        if let Some(slot) = self.0.get(partition.0 as usize) {
            slot.store(leader.0 + 1, Ordering::Relaxed);
        }
    }

    /// Forgets `leader`, unless another one was learnt meanwhile.
    pub(super) fn forget(&self, partition: PartitionId, leader: NodeId) {
        if let Some(slot) = self.0.get(partition.0 as usize) {
            let _ = slot.compare_exchange(leader.0 + 1, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn get(&self, partition: PartitionId) -> Option<NodeId> {
        let stored = self.0.get(partition.0 as usize)?.load(Ordering::Relaxed);
        stored.checked_sub(1).map(NodeId)
    }
}
