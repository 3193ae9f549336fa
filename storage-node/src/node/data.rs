//! The databases of a node and who it is: opened before anybody is talked to. Nothing runs here.

use std::sync::Arc;

use annulus_common::clock::SharedClock;
use annulus_common::ids::InstanceId;
use annulus_common::rpc::{IdentitySource, PeerIdentity};
use parking_lot::RwLock;

use super::{NodeConfig, StartError};
use crate::chunk::Execution;
use crate::chunk::files::ExtentFiles;
use crate::chunk::files::disk::DiskFiles;
use crate::kv::Kv;
use crate::kv::directory::{DirectoryOptions, NodeDirectory};
use crate::kv::disk::{BlockCache, DiskOptions, OpenMode};
use crate::kv::identity::NodeIdentity;

/// The databases of a node, open, and who it is: known before anybody is talked to.
pub struct NodeData {
    pub(super) meta: Arc<dyn Kv>,
    pub(super) chunks: Arc<dyn Kv>,
    pub(super) extents: Arc<dyn ExtentFiles>,
    pub(super) execution: Execution,
    pub(super) identity: Arc<RwLock<NodeIdentity>>,
}

impl NodeData {
    /// Opens the data directory, which no other process may have open; makes it where there is none.
    pub fn open(config: &NodeConfig, clock: &SharedClock) -> Result<Self, StartError> {
        let made = std::fs::create_dir_all(&config.data_dir);
        made.map_err(|source| StartError::System {
            what: format!("making the data directory {}", config.data_dir.display()),
            source,
        })?;
        let cache = BlockCache::new(config.block_cache_bytes);
        let mut meta = DiskOptions::metadata(cache.clone());
        // Each database leaves its own share of it free: see `DiskOptions`.
        meta.reserve_bytes = config.disk_reserve_bytes;
        let mut chunks = DiskOptions::chunks(cache);
        chunks.reserve_bytes = config.disk_reserve_bytes;
        let instance = InstanceId::generate(clock.now_ms());
        let options = DirectoryOptions { mode: OpenMode::Create, name: config.name.clone(), instance, meta, chunks };
        let directory = NodeDirectory::open(&config.data_dir, &options)?;
        let opened = DiskFiles::open(&directory.extents, config.disk_reserve_bytes);
        let extents = opened.map_err(|source| StartError::System {
            what: format!("opening {}", directory.extents.display()),
            source,
        })?;
        let NodeDirectory { meta, chunks, identity, extents: _ } = directory;
        Ok(Self::of(meta, chunks, Arc::new(extents), identity, Execution::Threads))
    }

    /// Databases and extents that were opened elsewhere, such as in memory; the identity is that in `meta`, or a new node's.
    pub fn of(
        meta: Arc<dyn Kv>,
        chunks: Arc<dyn Kv>,
        extents: Arc<dyn ExtentFiles>,
        identity: NodeIdentity,
        execution: Execution,
    ) -> Self {
        Self { meta, chunks, extents, execution, identity: Arc::new(RwLock::new(identity)) }
    }

    /// Who the node is, as its peers are told: it changes when the node gets into a cluster.
    pub fn identity(&self) -> IdentitySource {
        identity_source(Arc::clone(&self.identity))
    }
}

/// Tells who the node is at the moment of asking.
pub(super) fn identity_source(identity: Arc<RwLock<NodeIdentity>>) -> IdentitySource {
    Arc::new(move || {
        let identity = identity.read();
        PeerIdentity { instance: identity.instance, node: identity.node, cluster: identity.cluster }
    })
}
