//! The calls that repair makes to other nodes, one function each. It knows addresses, deadlines and what an answer must look
//! like; when to call whom, and what follows, is the callers'.

use std::time::Duration;

use annulus_common::chunk::{CHUNK_BYTES, ChunkOwner, verify_pieces};
use annulus_common::ids::{ChunkId, NodeId};
use annulus_common::map::ClusterMap;
use annulus_common::protocol::{self, Answer, Refusal, Request, Response};
use annulus_common::rpc::{Envelope, Lane, RpcError, SharedTransport};
use bytes::Bytes;

/// How long a node may take to say which chunks it has: it is also how a silent node is found out.
const ASK_DEADLINE: Duration = Duration::from_secs(5);

/// How long a chunk may take: nobody waits for it, and a busy disk should not be asked twice.
const CHUNK_DEADLINE: Duration = Duration::from_secs(20);

/// How long a batch of deletions may take: 1,000 chunks are up to 17,000 keys.
const DELETE_DEADLINE: Duration = Duration::from_secs(20);

/// How long a node may take to show that it lives.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum PeerError {
    /// It has no address in the map.
    #[error("the node is not in the cluster map")]
    Unknown,
    /// It did not answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// It answered no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A whole chunk whose bytes have been checked.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) owner: ChunkOwner,
    pub(super) piece_crcs: Vec<u32>,
    pub(super) data: Bytes,
}

/// The way to other nodes. Addresses come with each call, from the map by which the caller decided.
pub(super) struct Peers {
    transport: SharedTransport,
}

impl Peers {
    pub(super) fn new(transport: SharedTransport) -> Self {
        Self { transport }
    }

    /// Whether the node answers at all.
    pub(super) async fn is_reachable(&self, map: &ClusterMap, node: NodeId) -> bool {
        let request = Request::HasChunks(Vec::new());
        self.ask(map, node, Lane::Control, &request, Bytes::new(), PROBE_DEADLINE).await.is_ok()
    }

    /// Which of these chunks the node has, in the order asked.
    pub(super) async fn has_chunks(
        &self,
        map: &ClusterMap,
        node: NodeId,
        chunks: &[ChunkId],
    ) -> Result<Vec<bool>, PeerError> {
        let request = Request::HasChunks(chunks.to_vec());
        match self.ask(map, node, Lane::Control, &request, Bytes::new(), ASK_DEADLINE).await? {
            (Response::HasChunks(has), _) if has.len() == chunks.len() => Ok(has),
            _ => Err(unexpected("which chunks it has")),
        }
    }

    /// Stores a chunk there; it is on disk when this returns.
    pub(super) async fn put_chunk(
        &self,
        map: &ClusterMap,
        node: NodeId,
        id: ChunkId,
        copy: Copy,
    ) -> Result<(), PeerError> {
        let Copy { owner, piece_crcs, data } = copy;
        let request = Request::PutChunk { id, owner, piece_crcs, hints: Vec::new() };
        match self.ask(map, node, Lane::Bulk, &request, data, CHUNK_DEADLINE).await? {
            (Response::Done, _) => Ok(()),
            _ => Err(unexpected("a chunk")),
        }
    }

    /// Reads a whole chunk that must have these checksums.
    pub(super) async fn get_chunk(
        &self,
        map: &ClusterMap,
        node: NodeId,
        id: ChunkId,
        piece_crcs: &[u32],
    ) -> Result<Bytes, PeerError> {
        let request = Request::GetChunk { id, from: 0, to: CHUNK_BYTES };
        match self.ask(map, node, Lane::Bulk, &request, Bytes::new(), CHUNK_DEADLINE).await? {
            (Response::Chunk { .. }, data) => match verify_pieces(&data, piece_crcs) {
                Ok(()) => Ok(data),
                Err(_) => Err(Refusal::Mismatch.into()),
            },
            _ => Err(unexpected("reading a chunk")),
        }
    }

    /// Removes chunks there; they are gone, durably, when this returns.
    pub(super) async fn delete_chunks(
        &self,
        map: &ClusterMap,
        node: NodeId,
        chunks: Vec<ChunkId>,
    ) -> Result<(), PeerError> {
        let request = Request::DeleteChunks(chunks);
        match self.ask(map, node, Lane::Control, &request, Bytes::new(), DELETE_DEADLINE).await? {
            (Response::Done, _) => Ok(()),
            _ => Err(unexpected("deleting chunks")),
        }
    }

    async fn ask(
        &self,
        map: &ClusterMap,
        node: NodeId,
        lane: Lane,
        request: &Request,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<(Response, Bytes), PeerError> {
        let addr = map.addr(node).ok_or(PeerError::Unknown)?;
        let envelope = Envelope { header: protocol::encode(request), payload };
        let answer = self.transport.call(addr, lane, envelope, deadline).await?;
        match protocol::decode::<Answer>(&answer.header) {
            Ok(outcome) => Ok((outcome?, answer.payload)),
            Err(malformed) => Err(Refusal::Invalid(malformed.to_string()).into()),
        }
    }
}

fn unexpected(to: &str) -> PeerError {
    Refusal::Invalid(format!("the answer is not one to {to}")).into()
}
