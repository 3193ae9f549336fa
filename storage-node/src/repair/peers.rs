//! The calls that repair makes to other nodes, one function each. It knows addresses, deadlines and what an answer must look
//! like; when to call whom, and what follows, is the callers'.

use std::ops::RangeInclusive;
use std::time::Duration;

use annulus_common::chunk::{CHUNK_BYTES, ChunkOwner, Digest, verify_pieces};
use annulus_common::ids::{ChunkId, NodeId, PartitionId};
use annulus_common::map::ClusterMap;
use annulus_common::protocol::metadata::{MetaReply, Mutation, Query, QueryReply};
use annulus_common::protocol::{
    self, Answer, CHUNKS_PER_REQUEST_MAX, DIGESTS_PER_REQUEST_MAX, ListedChunk, Purpose, Refusal, Request, Response,
};
use annulus_common::rpc::{Envelope, Lane, RpcError, SharedTransport};
use bytes::Bytes;

/// How long a node may take to say which chunks it has: it is also how a silent node is found out.
const ASK_DEADLINE: Duration = Duration::from_secs(5);

/// How long a page of digests may take: a scan of the whole index of a full node is seconds.
const DIGEST_DEADLINE: Duration = Duration::from_secs(60);

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
        let request = Request::PutChunk { id, owner, piece_crcs, hints: Vec::new(), purpose: Purpose::Repair };
        match self.ask(map, node, Lane::Bulk, &request, data, CHUNK_DEADLINE).await? {
            (Response::Done, _) => Ok(()),
            _ => Err(unexpected("a chunk")),
        }
    }

    /// Reads a whole chunk, as it was written: what arrives is checked.
    pub(super) async fn get_chunk(&self, map: &ClusterMap, node: NodeId, id: ChunkId) -> Result<Copy, PeerError> {
        let request = Request::GetChunk { id, from: 0, to: CHUNK_BYTES, purpose: Purpose::Repair };
        match self.ask(map, node, Lane::Bulk, &request, Bytes::new(), CHUNK_DEADLINE).await? {
            (Response::Chunk { owner, piece_crcs, length, .. }, data) => {
                if data.len() != length as usize || verify_pieces(&data, &piece_crcs).is_err() {
                    return Err(Refusal::Mismatch.into());
                }
                Ok(Copy { owner, piece_crcs, data })
            }
            _ => Err(unexpected("reading a chunk")),
        }
    }

    /// What the chunks of each of these parts of the ring amount to there.
    pub(super) async fn digests(
        &self,
        map: &ClusterMap,
        node: NodeId,
        parts: &[RangeInclusive<u64>],
    ) -> Result<Vec<Digest>, PeerError> {
        let mut digests = Vec::with_capacity(parts.len());
        for parts in parts.chunks(DIGESTS_PER_REQUEST_MAX) {
            let request = Request::DigestChunks(parts.to_vec());
            match self.ask(map, node, Lane::Control, &request, Bytes::new(), DIGEST_DEADLINE).await? {
                (Response::ChunkDigests(page), _) if page.len() == parts.len() => digests.extend(page),
                _ => return Err(unexpected("what its chunks amount to")),
            }
        }
        Ok(digests)
    }

    /// The next chunks of a part of the ring there; none when `after` is the last.
    pub(super) async fn list_chunks(
        &self,
        map: &ClusterMap,
        node: NodeId,
        positions: &RangeInclusive<u64>,
        after: Option<ChunkId>,
    ) -> Result<Vec<ListedChunk>, PeerError> {
        let request = Request::ListChunks { positions: positions.clone(), after };
        match self.ask(map, node, Lane::Control, &request, Bytes::new(), ASK_DEADLINE).await? {
            (Response::ChunkList(page), _) if page.len() <= CHUNKS_PER_REQUEST_MAX => Ok(page),
            _ => Err(unexpected("listing chunks")),
        }
    }

    /// Asks partitions' metadata, each for itself; the answers are in the order asked.
    pub(super) async fn query(
        &self,
        map: &ClusterMap,
        node: NodeId,
        queries: Vec<(PartitionId, Query)>,
    ) -> Result<Vec<Result<QueryReply, Refusal>>, PeerError> {
        let asked = queries.len();
        let request = Request::Query { epoch: map.epoch, queries };
        match self.ask(map, node, Lane::Control, &request, Bytes::new(), ASK_DEADLINE).await? {
            (Response::Queried(answers), _) if answers.len() == asked => Ok(answers),
            _ => Err(unexpected("queries")),
        }
    }

    /// Has a mutation carried out there, if the node is the partition's leader.
    pub(super) async fn mutate(
        &self,
        map: &ClusterMap,
        node: NodeId,
        partition: PartitionId,
        mutation: Mutation,
    ) -> Result<MetaReply, PeerError> {
        let request = Request::Mutate { partition, epoch: map.epoch, mutation };
        match self.ask(map, node, Lane::Control, &request, Bytes::new(), ASK_DEADLINE).await? {
            (Response::Mutated(applied), _) => Ok(applied.reply),
            _ => Err(unexpected("a mutation")),
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
