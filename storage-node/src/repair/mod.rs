//! Repair: the only mover of data. What is where and should not be, or should be and is not, is put right here.
//!
//! `deliver` brings owed chunks to nodes that were down and gives up the copies that stood in for them; `collect` removes
//! known garbage from the whole cluster; `reclaim` gives the disk space of what was removed back. Each is a loop over
//! decisions that are plain functions. `hints` is what is owed, `pace` how fast, `peers` the calls to other nodes. Nothing
//! here makes a cluster map or judges a mutation.

mod collect;
mod deliver;
pub mod hints;
mod pace;
mod peers;
mod reclaim;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::NodeId;
use annulus_common::map::watch::MapWatch;
use annulus_common::rpc::SharedTransport;
use futures::future::join_all;
use tokio::task::JoinHandle;

use self::collect::Collection;
use self::deliver::Delivery;
use self::hints::HintStore;
use self::reclaim::Reclaiming;
use crate::chunk::ChunkStore;
use crate::kv::{Kv, KvError};
use crate::raft::RaftNode;

/// How fast repair goes.
#[derive(Clone, Debug)]
pub struct RepairSettings {
    /// The most bytes of owed chunks that this node sends in a second: a third of a gigabit network, so that clients feel little.
    pub deliver_bytes_per_second: u64,
    /// The pause before the next look for hints that are due.
    pub deliver_pause: Duration,
    /// How long bytes that no object refers to are kept.
    pub collect_grace: Duration,
    /// The pause before the next look for garbage.
    pub collect_pause: Duration,
    /// The most chunks that this node asks others to remove in a second, each from all its holders.
    pub collect_chunks_per_second: u64,
    /// How often the removed bytes are looked at.
    pub reclaim_check: Duration,
}

impl Default for RepairSettings {
    fn default() -> Self {
        Self {
            deliver_bytes_per_second: 64 << 20,
            deliver_pause: Duration::from_secs(1),
            collect_grace: Duration::from_secs(900),
            collect_pause: Duration::from_secs(10),
            collect_chunks_per_second: 2_000,
            reclaim_check: Duration::from_secs(60),
        }
    }
}

/// What repair works with.
#[derive(Clone)]
pub struct RepairSeams {
    /// This node.
    pub node: NodeId,
    /// The database of the metadata.
    pub kv: Arc<dyn Kv>,
    /// What others are owed.
    pub hints: Arc<HintStore>,
    /// The chunks of this node.
    pub chunks: Arc<ChunkStore>,
    /// The groups of this node.
    pub raft: RaftNode,
    /// Who holds what.
    pub map: MapWatch,
    /// The way to other nodes.
    pub transport: SharedTransport,
    /// The time.
    pub clock: SharedClock,
    /// How fast.
    pub settings: RepairSettings,
}

/// Repair at work. Dropping it stops it at once; that is safe at any moment, because every step can be repeated.
pub struct Repair {
    loops: Vec<JoinHandle<()>>,
}

impl Repair {
    /// Starts the loops. To be called inside a runtime.
    pub fn start(seams: RepairSeams) -> Repair {
        let deliver = tokio::spawn(Delivery::new(&seams).run());
        let collect = tokio::spawn(Collection::new(&seams).run());
        let reclaim = tokio::spawn(Reclaiming::new(&seams).run());
        Repair { loops: vec![deliver, collect, reclaim] }
    }

    /// Stops the loops and returns when they hold nothing any more.
    pub async fn shutdown(mut self) {
        self.abort();
        // They end in the abort.
        join_all(self.loops.drain(..)).await;
    }

    fn abort(&self) {
        self.loops.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Repair {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Uses the database on a thread that may block.
async fn on_disk<T: Send + 'static>(
    during: &'static str,
    work: impl FnOnce() -> Result<T, KvError> + Send + 'static,
) -> Result<T, KvError> {
    let working = tokio::task::spawn_blocking(work);
    working.await.unwrap_or_else(|error| Err(KvError::Failed { during, reason: error.to_string() }))
}
