//! How far the logs of partitions have got, as far as this client was told: what a mutation says of when it was first asked for. An
//! old figure costs a detour, never a second carrying out.

use std::sync::atomic::{AtomicU64, Ordering};

use annulus_common::ids::PartitionId;

/// A place in the log of each partition: one that its group has been beyond, or 0.
pub(super) struct Reached(Box<[AtomicU64]>);

impl Reached {
    pub(super) fn new(partitions: u32) -> Self {
        Self((0..partitions).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn get(&self, partition: PartitionId) -> u64 {
        self.0.get(partition.0 as usize).map_or(0, |reached| reached.load(Ordering::Relaxed))
    }

    /// The last answer counts, not the highest: what was once wrong does not stay so.
    pub(super) fn learn(&self, partition: PartitionId, index: u64) {
        if let Some(reached) = self.0.get(partition.0 as usize) {
            reached.store(index, Ordering::Relaxed);
        }
    }
}
