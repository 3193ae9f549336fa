//! What an audit asks of this node: to read and check everything that it holds, a bounded piece at a time. It mends nothing: what
//! is damaged is reported by the chunk store, as by any other read.

use std::ops::RangeInclusive;

use annulus_common::chunk::{CHUNK_BYTES, Digest};
use annulus_common::ids::ChunkId;
use annulus_common::protocol::repair::VerifiedChunks;

use super::databases::{Databases, Place};
use crate::chunk::{ChunkError, ChunkStore};
use crate::kv::KvError;

/// Chunks of one page, and their bytes: what a disk reads in a second.
const PAGE_CHUNKS: usize = 512;
const PAGE_BYTES: u64 = 32 << 20;

/// Metadata of one page.
const METADATA_BYTES: usize = 32 << 20;

/// Reads and checks the next chunks of a part of the ring.
pub(crate) async fn verify_chunks(
    chunks: &ChunkStore,
    positions: RangeInclusive<u64>,
    after: Option<ChunkId>,
) -> Result<VerifiedChunks, ChunkError> {
    let page = chunks.iterate(positions, after, PAGE_CHUNKS).await?;
    let (mut good, mut damaged, mut read_bytes) = (Digest::default(), Vec::new(), 0);
    for (at, info) in page.iter().enumerate() {
        match chunks.get(info.id, 0..CHUNK_BYTES).await {
            Ok(_) => good.add(info.id, info.length, &info.piece_crcs),
            // Collected since it was listed.
            Err(ChunkError::NotFound { .. }) => {}
            Err(ChunkError::Corrupt { .. }) => damaged.push(info.id),
            Err(error) => return Err(error),
        }
        read_bytes += u64::from(info.length);
        if read_bytes >= PAGE_BYTES || at + 1 == PAGE_CHUNKS {
            return Ok(VerifiedChunks { good, damaged, last: Some(info.id) });
        }
    }
    Ok(VerifiedChunks { good, damaged, last: None })
}

/// Reads and checks the next of the databases: from the beginning, or from a place on. Returns where to go on.
pub(crate) fn verify_metadata(databases: &Databases, from: Option<Place>) -> Result<Option<Place>, KvError> {
    databases.verify(from.unwrap_or_default(), METADATA_BYTES)
}
