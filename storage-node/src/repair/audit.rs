//! What an audit asks of this node: to read and check everything that it holds, a bounded piece at a time. It mends nothing: what
//! is damaged is reported by the chunk store, as by any other read.

use std::ops::RangeInclusive;

use annulus_common::chunk::{CHUNK_BYTES, Digest};
use annulus_common::ids::ChunkId;
use annulus_common::protocol::repair::VerifiedChunks;

use super::scrub::METADATA;
use crate::chunk::{ChunkError, ChunkStore};
use crate::kv::{Kv, KvError};

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

/// Reads and checks the next metadata: from the beginning, or from a table's key on. Returns where to go on.
pub(crate) fn verify_metadata(kv: &dyn Kv, from: Option<(u8, Vec<u8>)>) -> Result<Option<(u8, Vec<u8>)>, KvError> {
    let (table, from) = from.unwrap_or_default();
    let Some(&read) = METADATA.get(usize::from(table)) else { return Ok(None) };
    match kv.verify(read, &from, METADATA_BYTES)? {
        Some(next) => Ok(Some((table, next))),
        None if usize::from(table) + 1 < METADATA.len() => Ok(Some((table + 1, Vec::new()))),
        None => Ok(None),
    }
}
