//! What is asked of chunks: stored, read, compared, and found damaged.

use std::ops::RangeInclusive;

use annulus_common::chunk::ChunkOwner;
use annulus_common::ids::{ChunkId, NodeId};
use annulus_common::protocol::{CHUNKS_PER_REQUEST_MAX, DIGESTS_PER_REQUEST_MAX, Refusal, Response};
use bytes::Bytes;

use super::{Reply, Server, bare, check_count};
use crate::chunk::{ChunkError, ChunkInfo, ChunkRead};
use crate::refusal;
use crate::repair::audit;

/// Nodes that one chunk may be owed to: more than the largest replication factor.
const HINTS_PER_CHUNK_MAX: usize = 16;

impl Server {
    pub(super) async fn put_chunk(
        &self,
        id: ChunkId,
        owner: ChunkOwner,
        piece_crcs: Vec<u32>,
        hints: Vec<NodeId>,
        data: Bytes,
    ) -> Reply {
        check_count(hints.len(), HINTS_PER_CHUNK_MAX)?;
        if self.damage.is_open(id) {
            // The bytes that are here may have rotted beneath a header that looks well.
            self.chunks.mend(id, owner, piece_crcs, data).await.map_err(refusal::of_chunk)?;
            self.damage.close(id, true).await.map_err(refusal::of_storage)?;
        } else {
            self.chunks.put(id, owner, piece_crcs, data).await.map_err(refusal::of_chunk)?;
        }
        if !hints.is_empty() {
            self.keep_hints(hints.into_iter().map(|node| (node, id)).collect()).await?;
        }
        Ok(bare(Response::Done))
    }

    pub(super) async fn add_hints(&self, node: NodeId, chunks: Vec<ChunkId>) -> Reply {
        check_count(chunks.len(), CHUNKS_PER_REQUEST_MAX)?;
        self.keep_hints(chunks.into_iter().map(|chunk| (node, chunk)).collect()).await?;
        Ok(bare(Response::Done))
    }

    pub(super) async fn delete_chunks(&self, chunks: Vec<ChunkId>) -> Reply {
        check_count(chunks.len(), CHUNKS_PER_REQUEST_MAX)?;
        self.chunks.delete(chunks).await.map_err(refusal::of_chunk)?;
        Ok(bare(Response::Done))
    }

    pub(super) async fn get_chunk(&self, id: ChunkId, from: u32, to: u32) -> Reply {
        let read = self.chunks.get(id, from..to).await.map_err(|error| {
            // Whoever asks a member of the chunk's partition expects it there.
            if matches!(error, ChunkError::NotFound { .. }) && self.is_member_for(id) {
                self.damage.report(id);
            }
            refusal::of_chunk(error)
        })?;
        let ChunkRead { owner, pieces_from, piece_crcs, data, length } = read;
        Ok((Response::Chunk { owner, first_piece: pieces_from, piece_crcs, length }, data))
    }

    fn is_member_for(&self, chunk: ChunkId) -> bool {
        let map = self.map.latest();
        map.replicas(map.partition_of_chunk(chunk)).contains(&self.node)
    }

    pub(super) async fn has_chunks(&self, chunks: Vec<ChunkId>) -> Reply {
        check_count(chunks.len(), CHUNKS_PER_REQUEST_MAX)?;
        let mut has = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            has.push(match self.chunks.stat(chunk).await {
                // What is known to have rotted confirms nothing, however well its header looks.
                Ok(found) => found.is_some() && !self.damage.is_open(chunk),
                // Whoever has a good copy may send it: it is written over the unreadable one.
                Err(ChunkError::Corrupt { .. }) => false,
                Err(error) => return Err(refusal::of_chunk(error)),
            });
        }
        Ok(bare(Response::HasChunks(has)))
    }

    pub(super) async fn digest_chunks(&self, parts: Vec<RangeInclusive<u64>>) -> Reply {
        check_count(parts.len(), DIGESTS_PER_REQUEST_MAX)?;
        let mut digests = Vec::with_capacity(parts.len());
        for positions in parts {
            digests.push(self.chunks.digest(positions).await.map_err(refusal::of_chunk)?);
        }
        Ok(bare(Response::ChunkDigests(digests)))
    }

    pub(super) async fn list_chunks(&self, positions: RangeInclusive<u64>, after: Option<ChunkId>) -> Reply {
        let page = self.chunks.iterate(positions, after, CHUNKS_PER_REQUEST_MAX).await.map_err(refusal::of_chunk)?;
        Ok(bare(Response::ChunkList(page.iter().map(ChunkInfo::listed).collect())))
    }

    pub(super) async fn verify_chunks(&self, positions: RangeInclusive<u64>, after: Option<ChunkId>) -> Reply {
        let page = audit::verify_chunks(&self.chunks, positions, after).await.map_err(refusal::of_chunk)?;
        Ok(bare(Response::ChunksVerified(page)))
    }

    async fn keep_hints(&self, owed: Vec<(NodeId, ChunkId)>) -> Result<(), Refusal> {
        self.hints.add(owed).await.map_err(refusal::of_storage)
    }
}
