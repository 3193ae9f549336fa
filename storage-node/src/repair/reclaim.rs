//! Has the chunk store reclaim what deletes left over: extents that are nearly empty. Moving their last chunks is work, so it
//! waits until it is worth it and until the disk has nothing better to do.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;

use super::{Next, RepairSeams, Worker};
use crate::chunk::{ChunkStore, Usage};

/// Fewer removed bytes are not worth the work: one extent.
const WORTHWHILE_BYTES: u64 = 256 << 20;

/// The pause after a reclaiming: what is removed meanwhile is done together.
const REST: Duration = Duration::from_secs(10 * 60);

/// A node that is never idle does it all the same, after this long.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// The loop and what it remembers.
pub(super) struct Reclaiming {
    chunks: Arc<ChunkStore>,
    clock: SharedClock,
    check: Duration,
    watch: Watch,
}

impl Reclaiming {
    pub(super) fn new(seams: &RepairSeams) -> Self {
        let chunks = Arc::clone(&seams.chunks);
        Self { chunks, clock: Arc::clone(&seams.clock), check: seams.settings.reclaim_check, watch: Watch::default() }
    }
}

impl Worker for Reclaiming {
    async fn turn(&mut self) -> Next {
        let removed_bytes = self.chunks.usage().removed_bytes;
        if self.watch.is_due(self.chunks.usage(), self.clock.monotonic()) {
            match self.chunks.reclaim().await {
                Ok(()) => tracing::info!(removed_bytes, "disk space of removed chunks reclaimed"),
                Err(error) => tracing::warn!(%error, "disk space of removed chunks not reclaimed"),
            }
            self.watch.done(self.clock.monotonic());
        }
        Next::After(self.check)
    }
}

/// Decides when.
#[derive(Debug, Default)]
struct Watch {
    seen: Option<Usage>,
    /// Since when there is enough to do.
    since: Option<Duration>,
    rest_until: Duration,
}

impl Watch {
    /// Whether to reclaim now. A disk counts as idle when nothing was written or removed since the last look.
    fn is_due(&mut self, usage: Usage, now: Duration) -> bool {
        let idle = self.seen == Some(usage);
        self.seen = Some(usage);
        if usage.removed_bytes < WORTHWHILE_BYTES {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now >= self.rest_until && (idle || now - since >= PATIENCE)
    }

    fn done(&mut self, now: Duration) {
        self.since = None;
        self.rest_until = now + REST;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{PATIENCE, REST, WORTHWHILE_BYTES, Watch};
    use crate::chunk::Usage;

    const MINUTE: Duration = Duration::from_secs(60);

    fn removed(bytes: u64) -> Usage {
        Usage { removed_bytes: bytes, ..Usage::default() }
    }

    #[test]
    fn it_waits_until_it_is_worth_it_and_the_disk_is_idle() {
        let mut watch = Watch::default();
        assert!(!watch.is_due(removed(WORTHWHILE_BYTES - 1), MINUTE));
        assert!(!watch.is_due(removed(WORTHWHILE_BYTES - 1), 2 * MINUTE));
        assert!(!watch.is_due(removed(WORTHWHILE_BYTES), 3 * MINUTE));
        assert!(!watch.is_due(removed(WORTHWHILE_BYTES + 1), 4 * MINUTE));
        assert!(watch.is_due(removed(WORTHWHILE_BYTES + 1), 5 * MINUTE));
    }

    #[test]
    fn it_rests_afterwards() {
        let mut watch = Watch::default();
        watch.done(MINUTE);
        let much = removed(2 * WORTHWHILE_BYTES);
        assert!(!watch.is_due(much, 2 * MINUTE));
        assert!(!watch.is_due(much, REST));
        assert!(watch.is_due(much, MINUTE + REST));
    }

    #[test]
    fn a_node_that_is_never_idle_does_it_in_the_end() {
        let mut watch = Watch::default();
        let mut now = MINUTE;
        while now < MINUTE + PATIENCE {
            assert!(!watch.is_due(removed(WORTHWHILE_BYTES + now.as_secs()), now));
            now += MINUTE;
        }
        assert!(watch.is_due(removed(WORTHWHILE_BYTES + now.as_secs()), now));
    }
}
