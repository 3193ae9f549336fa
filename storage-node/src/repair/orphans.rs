//! Orphans: chunks that nothing refers to and that no garbage entry remembers. An upload that failed left them, or a copy that
//! came late, when the chunk had been collected.
//!
//! A chunk is looked at when it has been here for the grace period. Its header names its owner, and the leader of the owner's
//! partition is asked. What nothing refers to is first condemned there, in the log's order: from then on nothing can refer
//! to it, so that an upload which took longer than the grace period is refused and does not lose its bytes afterwards. Only
//! then it is removed here; other nodes do the same with their copies. No answer, no removal.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::{ChunkId, PartId};
use annulus_common::map::ClusterMap;
use annulus_common::map::watch::MapWatch;

use super::owners::{OwnedPart, Owners};
use super::throttle::Pacer;
use super::{Next, RepairSeams, Tools, Worker};
use crate::chunk::{ChunkError, ChunkInfo, ChunkStore, PAGE_CHUNKS_MAX};

/// A chunk is asked about once, when it has become old enough; what was referred to then becomes garbage later, which is known.
/// After so long all are asked about again: a node that was down while a chunk was collected may have come back with it.
const EVERYTHING_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Chunks that are looked at in a second: a full node is gone through in minutes, and its index stays free for others.
const CHUNKS_PER_SECOND: u64 = 50_000;

/// The loop and what it remembers.
pub(super) struct Orphans {
    chunks: Arc<ChunkStore>,
    map: MapWatch,
    clock: SharedClock,
    owners: Arc<Owners>,
    grace: Duration,
    pause: Duration,
    pacer: Pacer,
    /// Chunks that were written here before that have been asked about; Unix milliseconds.
    asked_before_ms: u64,
    /// When all of them were asked about last.
    everything_at: Option<Duration>,
}

impl Worker for Orphans {
    async fn turn(&mut self) -> Next {
        let now = self.clock.monotonic();
        if self.everything_at.is_none_or(|at| now >= at + EVERYTHING_AFTER) {
            self.asked_before_ms = 0;
        }
        let old_before_ms = self.clock.now_ms().saturating_sub(self.grace.as_millis() as u64);
        match self.sweep(old_before_ms).await {
            Ok(true) => {
                if self.asked_before_ms == 0 {
                    self.everything_at = Some(now);
                }
                self.asked_before_ms = old_before_ms;
            }
            // Some owner did not answer: its chunks are asked about again.
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the search for orphans was interrupted"),
        }
        Next::After(self.pause)
    }
}

impl Orphans {
    pub(super) fn new(seams: &RepairSeams, tools: &Tools) -> Self {
        Self {
            chunks: Arc::clone(&seams.chunks),
            map: seams.map.clone(),
            clock: Arc::clone(&seams.clock),
            owners: Arc::clone(&tools.owners),
            grace: seams.settings.orphan_grace,
            pause: seams.settings.orphans_pause,
            pacer: Pacer::new(CHUNKS_PER_SECOND),
            asked_before_ms: 0,
            everything_at: None,
        }
    }

    /// Goes through all chunks once. Tells whether every owner answered.
    async fn sweep(&mut self, old_before_ms: u64) -> Result<bool, ChunkError> {
        let mut after = None;
        let mut all_answered = true;
        loop {
            let page = self.chunks.iterate(0..=u64::MAX, after, PAGE_CHUNKS_MAX).await?;
            let Some(last) = page.last() else { return Ok(all_answered) };
            after = Some(last.id);
            let wait = self.pacer.take(self.clock.monotonic(), page.len() as u64);
            tokio::time::sleep(wait).await;
            let due: Vec<ChunkInfo> =
                page.into_iter().filter(|info| is_due(info, self.asked_before_ms, old_before_ms)).collect();
            if !due.is_empty() {
                all_answered &= self.sweep_page(&due).await?;
            }
        }
    }

    async fn sweep_page(&self, page: &[ChunkInfo]) -> Result<bool, ChunkError> {
        let map = self.map.latest();
        let parts: BTreeSet<OwnedPart> =
            page.iter().map(|info| OwnedPart { owner: info.owner, part: info.id.part }).collect();
        let referenced = self.owners.references(&map, parts.iter().copied()).await;
        let doubtful: Vec<OwnedPart> =
            parts.iter().copied().filter(|owned| referenced.get(&owned.part) == Some(&false)).collect();
        let condemned = self.condemn(&map, &doubtful).await;
        let orphans: Vec<ChunkId> = page.iter().map(|info| info.id).filter(|id| condemned.contains(&id.part)).collect();
        let all_answered = referenced.len() == parts.len() && condemned.len() == doubtful.len();
        if !orphans.is_empty() {
            tracing::info!(chunks = orphans.len(), "orphans removed");
            self.chunks.delete(orphans).await?;
        }
        Ok(all_answered)
    }

    async fn condemn(&self, map: &ClusterMap, doubtful: &[OwnedPart]) -> BTreeSet<PartId> {
        if doubtful.is_empty() {
            return BTreeSet::new();
        }
        self.owners.condemn(map, doubtful, self.clock.now_ms()).await
    }
}

/// Whether a chunk is to be asked about now.
fn is_due(info: &ChunkInfo, asked_before_ms: u64, old_before_ms: u64) -> bool {
    (asked_before_ms..=old_before_ms).contains(&info.created_ms)
}

#[cfg(test)]
mod tests {
    use annulus_common::chunk::ChunkOwner;
    use annulus_common::ids::{BucketId, ChunkId, PartId, ShardId};

    use super::is_due;
    use crate::chunk::ChunkInfo;

    #[test]
    fn a_chunk_is_asked_about_once_when_it_is_old_enough() {
        let written = |created_ms| ChunkInfo {
            id: ChunkId { part: PartId([1; 16]), index: 0 },
            owner: ChunkOwner { bucket: BucketId(1), shard: ShardId(0) },
            length: 1,
            piece_crcs: vec![0],
            created_ms,
        };
        assert!(is_due(&written(50), 0, 100));
        assert!(!is_due(&written(101), 0, 100), "it may belong to an upload under way");
        assert!(!is_due(&written(50), 100, 200), "it was asked about before");
        assert!(is_due(&written(100), 100, 200) && is_due(&written(150), 100, 200));
    }
}
