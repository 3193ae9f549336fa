//! A storage node as a whole: its databases opened, its place in the cluster found, its parts started, and all of it stopped
//! again in order. What the parts do is theirs; how requests reach them is `server`'s.

mod config;
mod data;
mod groups;
mod life;
mod service;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::map::watch::MapWatch;
use annulus_common::protocol::NodeStatus;
use annulus_common::rpc::{IdentitySource, Service, SharedTransport};
use annulus_common::task::spawn_or_end;
use annulus_common::telemetry::Metrics;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

pub use self::config::NodeConfig;
pub use self::data::NodeData;
use self::life::{Parts, Shared, Stage};
use self::service::NodeService;
use crate::chunk::{Alarms, ChunkError, ChunkStore};
use crate::cluster::formation::{EntranceError, Lobby};
use crate::cluster::membership::Membership;
use crate::counting::Counting;
use crate::kv::KvError;
use crate::kv::identity::IdentityError;
use crate::raft::RaftError;
use crate::repair::databases::Databases;
use crate::repair::mend::Damage;
use crate::repair::redundancy::Redundancy;

/// How often readiness is looked at by those who wait for it.
const READY_RECHECK: Duration = Duration::from_millis(20);

/// How long a stopping node waits for requests that still hold its databases.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Why a node does not start, or cannot go on. Every text names the way out, as far as there is one.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory is not this node's, or not complete.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] KvError),
    /// The chunk store cannot be opened.
    #[error(transparent)]
    Chunks(#[from] ChunkError),
    /// Consensus cannot be started.
    #[error(transparent)]
    Raft(#[from] RaftError),
    /// The node cannot get into a cluster.
    #[error(transparent)]
    Entrance(#[from] EntranceError),
    /// The settings contradict each other.
    #[error("{0}")]
    Settings(String),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What it said.
        source: std::io::Error,
    },
}

/// A running node. Dropping it stops it at once, as a crash would; [`StorageNode::shutdown`] does it politely.
pub struct StorageNode {
    shared: Arc<Shared>,
    /// Gets the node into the cluster, then keeps up with it. Taken by who stops the node.
    life: Mutex<Option<JoinHandle<()>>>,
}

impl StorageNode {
    /// Starts a node on its databases. It returns before the node is in a cluster, which may take as long as others do: its
    /// service must be reachable under its address meanwhile. To be called inside a runtime.
    pub fn start(
        config: NodeConfig,
        data: NodeData,
        transport: SharedTransport,
        clock: SharedClock,
    ) -> Result<Self, StartError> {
        config::check(&config)?;
        let identity = data.identity.read().clone();
        let me = config::this_node(&config, identity.instance)?;
        let membership = Membership::load(&*data.meta, &identity)?;
        let stage = match &membership {
            Some(_) => Stage::Starting,
            None => Stage::Fresh(Arc::new(Lobby::new(me.clone(), config.formation.initial_nodes, Arc::clone(&clock)))),
        };
        let damage = Damage::open(Arc::clone(&data.meta))?;
        let databases = Databases::new(Arc::clone(&data.meta), Arc::clone(&data.chunks), Arc::clone(&clock));
        let failure = watch::Sender::new(None);
        let alarms = alarms(&damage, &failure);
        let chunks = ChunkStore::open(data.chunks, data.extents, Arc::clone(&clock), data.execution, alarms)?;
        let shared = Arc::new(Shared {
            config,
            started_at: clock.monotonic(),
            clock,
            identity: data.identity,
            stage: ArcSwap::from_pointee(stage),
            foreground: Arc::default(),
            counting: OnceLock::new(),
            failure,
        });
        let (databases, chunks) = (Arc::new(databases), Arc::new(chunks));
        let parts = Parts { me, kv: data.meta, databases, chunks, damage, transport };
        let life = spawn_or_end(&shared.fatal(), "the node's life", Arc::clone(&shared).live(parts, membership));
        Ok(Self { shared, life: Mutex::new(Some(life)) })
    }

    /// Answers what peers and gateways ask.
    pub fn service(&self) -> Arc<dyn Service> {
        Arc::new(NodeService(Arc::clone(&self.shared)))
    }

    /// Who the node is, as its peers are told.
    pub fn identity(&self) -> IdentitySource {
        data::identity_source(Arc::clone(&self.shared.identity))
    }

    /// Counts what the node does from now on. Later calls change nothing.
    pub fn count_into(&self, metrics: Arc<Metrics>) {
        let _ = self.shared.counting.set(Counting::new(metrics, Arc::clone(&self.shared.clock)));
    }

    /// Brings those metrics up to date that are states, not counts.
    pub async fn refresh_metrics(&self) {
        if let (Some(counting), Some(status)) = (self.shared.counting.get(), self.status().await) {
            counting.show(&status);
        }
    }

    /// Whether the node is a member, knows the newest map and has a leader for each of its groups. A group that the node is
    /// just getting, or losing, does not count.
    pub fn is_ready(&self) -> bool {
        match &**self.shared.stage.load() {
            Stage::Member(server) => server.map.current().is_some_and(|map| server.has_leaders(&map)),
            Stage::Fresh(_) | Stage::Starting | Stage::Removed(_) | Stage::Stopped => false,
        }
    }

    /// Waits until [`StorageNode::is_ready`]. Give up by dropping the future.
    pub async fn ready(&self) {
        while !self.is_ready() {
            tokio::time::sleep(READY_RECHECK).await;
        }
    }

    /// The node's copy of the cluster map, once it is a member and its first whole map has come.
    pub fn map(&self) -> Option<MapWatch> {
        self.shared.server().map(|server| server.map.clone()).filter(MapWatch::has_arrived)
    }

    /// How complete the node's partitions are, once it is a member.
    pub fn redundancy(&self) -> Option<Arc<Redundancy>> {
        self.shared.server().map(|server| Arc::clone(&server.redundancy))
    }

    /// What the node knows of itself, once it is a member.
    pub async fn status(&self) -> Option<NodeStatus> {
        let server = self.shared.server()?;
        self.shared.status(&server).await.ok()
    }

    /// Waits until the node cannot go on, and says why. The process should end then.
    pub async fn failed(&self) -> String {
        let mut failure = self.shared.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the node was dropped".to_owned(),
        }
    }

    /// Stops the node: hands leaderships over, finishes writing, closes the databases. The service must stay reachable until
    /// this returns, because handing over takes messages.
    pub async fn shutdown(&self) {
        let server = self.shared.server();
        let life = self.life.lock().take();
        if let Some(life) = life {
            life.abort();
            // It ends in the abort, or had ended before.
            let _ = life.await;
        }
        if let Some(server) = server {
            server.raft.shutdown().await;
            let databases = Arc::downgrade(&server.kv);
            self.shared.enter(Stage::Stopped);
            // Finishes what the chunk store accepted, which blocks.
            let _ = tokio::task::spawn_blocking(move || drop(server)).await;
            let closed = async {
                while databases.strong_count() > 0 {
                    tokio::time::sleep(READY_RECHECK).await;
                }
            };
            if tokio::time::timeout(CLOSE_PATIENCE, closed).await.is_err() {
                warn!("requests still hold the databases, stopping all the same");
            }
        }
        self.shared.enter(Stage::Stopped);
        info!("node stopped");
    }
}

/// Damaged chunks are mended; a chunk store that failed ends the node, as raft does in the same case: it refuses every write
/// until the next start.
fn alarms(damage: &Arc<Damage>, failure: &watch::Sender<Option<String>>) -> Alarms {
    let (damage, failure) = (Arc::clone(damage), failure.clone());
    Alarms {
        on_corrupt: Arc::new(move |chunk| damage.report(chunk)),
        on_failed: Arc::new(move |reason| life::fail(&failure, reason)),
    }
}

impl Drop for StorageNode {
    fn drop(&mut self) {
        if let Some(life) = self.life.get_mut().take() {
            life.abort();
        }
        self.shared.enter(Stage::Stopped);
    }
}
