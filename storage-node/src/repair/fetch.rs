//! Getting a good copy of a chunk from whoever has one, and putting it where it is missing or has rotted here.
//!
//! Every byte is checked against its CRC where it is read, when it arrives, and before it is written. Which chunks are to
//! be fetched is the callers'.

use std::sync::Arc;

use annulus_common::ids::{ChunkId, NodeId};
use annulus_common::map::ClusterMap;
use annulus_common::placement::{STAND_INS_MAX, stand_ins};
use annulus_common::protocol::Refusal;

use super::peers::{Copy, PeerError, Peers};
use super::throttle::{Throttle, Urgency};
use crate::chunk::{ChunkError, ChunkStore};

/// Chunks that are on their way at once: enough to keep a link busy, and 16 MiB of memory.
pub(super) const CHUNKS_AT_ONCE: usize = 4;

/// Brings chunks here.
pub(super) struct Fetcher {
    me: NodeId,
    chunks: Arc<ChunkStore>,
    peers: Arc<Peers>,
    throttle: Arc<Throttle>,
}

/// Why a chunk is not here.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Nobody who was asked has a good copy.
    #[error("no good copy was found")]
    NoGoodCopy,
    /// A node that may have one does not answer.
    #[error("node {node} failed: {error}")]
    Silent {
        /// The first such node.
        node: NodeId,
        /// What it did.
        error: PeerError,
    },
    /// It cannot be written here.
    #[error(transparent)]
    Chunks(#[from] ChunkError),
}

impl Fetcher {
    pub(super) fn new(me: NodeId, chunks: Arc<ChunkStore>, peers: Arc<Peers>, throttle: Arc<Throttle>) -> Self {
        Self { me, chunks, peers, throttle }
    }

    /// A good copy from the first that has one: `first`, the other holders, then stand-ins.
    pub(super) async fn copy(&self, map: &ClusterMap, id: ChunkId, first: Option<NodeId>) -> Result<Copy, FetchError> {
        let mut silent = None;
        for node in self.sources(map, id, first) {
            match self.copy_of(map, node, id, first).await {
                Ok(copy) => return Ok(copy),
                Err(error) => {
                    tracing::debug!(chunk = ?id, node = node.0, %error, "no good copy there");
                    if silent.is_none() && may_have_it(&error) {
                        silent = Some(FetchError::Silent { node, error });
                    }
                }
            }
        }
        Err(silent.unwrap_or(FetchError::NoGoodCopy))
    }

    /// One that is not known to have the chunk is asked first: a read of what is not there is reported as damage, and two nodes
    /// that both lack a removed chunk would report it to each other for ever.
    async fn copy_of(
        &self,
        map: &ClusterMap,
        node: NodeId,
        id: ChunkId,
        known: Option<NodeId>,
    ) -> Result<Copy, PeerError> {
        if known != Some(node) && self.peers.has_chunks(map, node, &[id]).await? != [true] {
            return Err(Refusal::NoSuchChunk.into());
        }
        self.peers.get_chunk(map, node, id).await
    }

    /// A good copy of a chunk whose size is not known yet: what it took is waited for afterwards.
    pub(super) async fn paid_copy(&self, map: &ClusterMap, id: ChunkId) -> Result<Copy, FetchError> {
        let copy = self.copy(map, id, None).await?;
        self.throttle.take(copy.data.len() as u64, Urgency::Usual).await;
        Ok(copy)
    }

    /// Brings a chunk of `bytes` here that is missing.
    pub(super) async fn bring(
        &self,
        map: &ClusterMap,
        id: ChunkId,
        bytes: u32,
        first: Option<NodeId>,
        urgency: Urgency,
    ) -> Result<(), FetchError> {
        self.throttle.take(bytes.into(), urgency).await;
        let Copy { owner, piece_crcs, data } = self.copy(map, id, first).await?;
        Ok(self.chunks.put(id, owner, piece_crcs, data).await?)
    }

    fn sources(&self, map: &ClusterMap, id: ChunkId, first: Option<NodeId>) -> Vec<NodeId> {
        let partition = map.partition_of_chunk(id);
        let mut sources: Vec<NodeId> = Vec::new();
        let stand_ins = stand_ins(&map.placement, partition, &[]).take(STAND_INS_MAX);
        for node in first.into_iter().chain(map.holders(partition)).chain(stand_ins) {
            if node != self.me && map.nodes.contains_key(&node) && !sources.contains(&node) {
                sources.push(node);
            }
        }
        sources
    }
}

/// Whether a node that failed like this may have a good copy all the same.
fn may_have_it(error: &PeerError) -> bool {
    let has_none =
        matches!(error, PeerError::Refused(Refusal::NoSuchChunk | Refusal::CorruptChunk | Refusal::Mismatch));
    !has_none && !matches!(error, PeerError::Unknown)
}
