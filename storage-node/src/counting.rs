//! Counts the requests that a node has carried out, and shows its state, for the metrics. It sees requests and replies and changes neither.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::protocol::repair::RepairStatus;
use annulus_common::protocol::room::RoomFor;
use annulus_common::protocol::{NodeStatus, Refusal, Request};
use annulus_common::telemetry::Metrics;
use bytes::Bytes;

use crate::server::Reply;

/// Where and by which clock.
pub(crate) struct Counting {
    metrics: Arc<Metrics>,
    clock: SharedClock,
}

/// A request under way, as far as it is counted.
pub(crate) enum Ticket {
    Mutation { began: Duration },
    ChunkPut { bytes: u64 },
    ChunkGet,
    Uncounted,
}

impl Counting {
    pub(crate) fn new(metrics: Arc<Metrics>, clock: SharedClock) -> Self {
        Self { metrics, clock }
    }

    /// Brings the figures up to date that are states, not counts.
    pub(crate) fn show(&self, status: &NodeStatus) {
        let led = status.groups.iter().filter(|group| group.leader == Some(status.node)).count();
        self.metrics.raft_leaders.set(led as i64);
        self.metrics.hints_pending.set(status.hints.iter().map(|(_, count)| *count as i64).sum());
        self.metrics.disk_free_bytes.set(status.disk_free_bytes as i64);
        self.metrics.disk_full.set((status.room < RoomFor::Growth).into());
        self.show_repair(&status.repair);
    }

    fn show_repair(&self, status: &RepairStatus) {
        let repair = &self.metrics.repair;
        // They are counted where the work is done.
        repair.moved_bytes.inner().store(status.moved_bytes, Ordering::Relaxed);
        repair.mended.inner().store(status.mended, Ordering::Relaxed);
        repair.damaged.set(status.damaged as i64);
        repair.lacking.set(status.partitions.iter().map(|copy| copy.lacking_chunks as i64).sum());
        repair.lacking_bytes.set(status.partitions.iter().map(|copy| copy.lacking_bytes as i64).sum());
        repair.unverified.set(status.partitions.iter().filter(|copy| !copy.uncompared.is_empty()).count() as i64);
        repair.strays.set(status.strays.unwrap_or(0) as i64);
        repair.scrubbed.set(f64::from(status.scrubbed_percent) / 100.0);
        repair.scrub_completed.set(status.scrub_completed_ms.unwrap_or(0) as i64 / 1_000);
    }

    pub(crate) fn begin(&self, request: &Request, payload: &Bytes) -> Ticket {
        match request {
            Request::Mutate { .. } => {
                self.metrics.raft_proposals.inc();
                Ticket::Mutation { began: self.clock.monotonic() }
            }
            Request::PutChunk { .. } => Ticket::ChunkPut { bytes: payload.len() as u64 },
            Request::GetChunk { .. } => Ticket::ChunkGet,
            _ => Ticket::Uncounted,
        }
    }

    pub(crate) fn end(&self, ticket: Ticket, reply: &Reply) {
        match (ticket, reply) {
            (Ticket::Mutation { began }, Ok(_)) => {
                let took = self.clock.monotonic().saturating_sub(began);
                self.metrics.raft_commit_seconds.observe(took.as_secs_f64());
            }
            (Ticket::ChunkPut { bytes }, Ok(_)) => {
                self.metrics.chunk_puts.inc();
                self.metrics.chunk_written_bytes.inc_by(bytes);
            }
            (Ticket::ChunkGet, Ok((_, data))) => {
                self.metrics.chunk_gets.inc();
                self.metrics.chunk_read_bytes.inc_by(data.len() as u64);
            }
            (Ticket::ChunkGet, Err(Refusal::CorruptChunk)) => {
                self.metrics.chunk_corruptions.inc();
            }
            _ => {}
        }
    }
}
