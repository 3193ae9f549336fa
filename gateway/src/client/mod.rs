//! The cluster as a gateway sees it: its map, its metadata by partition, its chunks by id.
//!
//! Here it is known which node to ask, when to ask another, what may be asked twice, and when a write is durable. What
//! objects and buckets are is not known here; nothing is kept but guesses (leaders, health) that cost a detour when wrong.

mod audit;
mod error;
mod health;
mod holders;
mod leaders;
mod metadata;
mod moves;
mod outbox;
mod peers;
mod reached;
mod read_chunk;
mod retry;
mod status;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod write_chunk;

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::RequestId;
use annulus_common::map::change::{MapChange, MapEntry, MapRefusal, MapReply};
use annulus_common::map::watch::MapWatch;
use annulus_common::map::{ClusterMap, MAP_LEASE_MS};
use annulus_common::protocol::Refusal;
use annulus_common::rpc::SharedTransport;
use tokio::sync::{Notify, Semaphore};

use leaders::Leaders;
use peers::Peers;
use reached::Reached;

pub use error::ClientError;
pub use metadata::Proposal;

/// How long a request waits for a map with a lease: a new leader of group 0 is elected in 1.5 - 3 s.
const MAP_WAIT: Duration = Duration::from_millis(2 * MAP_LEASE_MS);

/// How long a change of the map may take, an election and a lease that runs out included.
const MAP_CHANGE_DEADLINE: Duration = Duration::from_secs(15);

/// Chunks that are acknowledged and still on their way to the rest of their holders: 64 MiB of memory. When there are
/// more, a write is acknowledged only when a place is free, so that a slow node slows its writers down.
const BACKGROUND_CHUNKS_MAX: usize = 16;

/// A client of the cluster. One per process; shared by all requests.
pub struct ClusterClient {
    watch: MapWatch,
    peers: Arc<Peers>,
    leaders: Leaders,
    reached: Reached,
    background: Arc<Semaphore>,
    told: Notify,
    clock: SharedClock,
}

impl ClusterClient {
    /// A client that finds the cluster through a watched map.
    pub fn new(transport: SharedTransport, watch: MapWatch, clock: SharedClock) -> Arc<Self> {
        let partitions = watch.latest().partitions();
        Arc::new(Self {
            watch,
            peers: Arc::new(Peers::new(transport, clock.clone())),
            leaders: Leaders::new(partitions),
            reached: Reached::new(partitions),
            background: Arc::new(Semaphore::new(BACKGROUND_CHUNKS_MAX)),
            told: Notify::new(),
            clock,
        })
    }

    /// The map, with every change in it that was acknowledged before this call. Waits briefly when the lease ran out.
    pub async fn map(&self) -> Result<Arc<ClusterMap>, ClientError> {
        leased_map(&self.watch).await
    }

    /// The watched map, for those who need more of it than [`ClusterClient::map`].
    pub fn watch(&self) -> &MapWatch {
        &self.watch
    }

    /// Wakes whoever delivers events when a mutation of this process may have made one.
    pub fn told(&self) -> &Notify {
        &self.told
    }

    /// Changes the map. Once answered, the change is in force everywhere.
    pub async fn change_map(&self, change: MapChange) -> Result<Result<MapReply, MapRefusal>, ClientError> {
        let time_ms = self.clock.now_ms();
        self.change_map_as(RequestId::generate(time_ms), change).await
    }

    /// Changes the map under a request id of the caller's choice.
    pub async fn change_map_as(
        &self,
        request: RequestId,
        change: MapChange,
    ) -> Result<Result<MapReply, MapRefusal>, ClientError> {
        let entry = MapEntry { request, time_ms: self.clock.now_ms(), change };
        self.watch.change(entry, MAP_CHANGE_DEADLINE).await.map_err(|refusal| match refusal {
            Refusal::Uncertain => ClientError::Uncertain,
            Refusal::NotLeader { .. } | Refusal::NotReady(_) => ClientError::NoMap,
            other => ClientError::Refused(other),
        })
    }
}

async fn leased_map(watch: &MapWatch) -> Result<Arc<ClusterMap>, ClientError> {
    if let Some(map) = watch.current() {
        return Ok(map);
    }
    let leased = async {
        loop {
            watch.refresh().await;
            if let Some(map) = watch.current() {
                return map;
            }
        }
    };
    tokio::time::timeout(MAP_WAIT, leased).await.map_err(|_| ClientError::NoMap)
}
