//! Chunks in a `Kv`, with calls that block: what is written together, what is checked, what is counted.
//!
//! Who calls from where, and how many wait, is `mod`'s.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use annulus_common::chunk::{
    CHUNK_BYTES, ChunkOwner, Digest, PIECE_BYTES, PIECES_MAX, piece_bytes, piece_range, verify_pieces,
};
use annulus_common::ids::ChunkId;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::record::{Header, KEY_END, chunk_of, header_key, piece_key, position_key};
use super::{ChunkError, ChunkInfo, ChunkRead, OnCorrupt, Usage};
use crate::kv::{Batch, Durability, Kv, KvError, KvRead, Table};

/// The counters, kept by the same batches that change what they count.
const USAGE_KEY: &[u8] = b"chunk-usage";

/// A chunk that is to be written.
pub(super) struct Put {
    pub(super) id: ChunkId,
    pub(super) owner: ChunkOwner,
    pub(super) piece_crcs: Vec<u32>,
    pub(super) data: Bytes,
    pub(super) created_ms: u64,
    /// Writes an equal chunk again: its pieces on disk may no longer be what its header says.
    pub(super) rewrite: bool,
}

impl Put {
    fn header(&self) -> Header {
        Header {
            owner: self.owner,
            length: self.data.len() as u32,
            piece_crcs: self.piece_crcs.clone(),
            created_ms: self.created_ms,
        }
    }
}

/// The header that is stored for a chunk.
enum Stored {
    Nothing,
    Header(Header),
    Unreadable(String),
}

pub(super) struct ChunkTable {
    kv: Arc<dyn Kv>,
    /// Held while something is judged and written, so that two writers never both find an id free.
    usage: Mutex<Usage>,
    corrupt_reads: AtomicU64,
    on_corrupt: OnCorrupt,
}

impl ChunkTable {
    pub(super) fn open(kv: Arc<dyn Kv>, on_corrupt: OnCorrupt) -> Result<Self, ChunkError> {
        let stored = kv.get(Table::System, USAGE_KEY).map_err(failed)?;
        let usage = match stored.as_deref().and_then(Usage::decode) {
            Some(usage) => usage,
            None => count(&*kv)?,
        };
        Ok(Self { kv, usage: Mutex::new(usage), corrupt_reads: AtomicU64::new(0), on_corrupt })
    }

    /// Writes chunks as one batch with one sync. The answers are in the order of `puts`.
    pub(super) fn write(&self, puts: &[Put]) -> Vec<Result<(), ChunkError>> {
        let mut answers: Vec<_> = puts.iter().map(check).collect();
        let mut group = Group::default();
        let mut usage = self.usage.lock();
        let mut usage_after = *usage;
        for (put, answer) in puts.iter().zip(&mut answers).filter(|(_, answer)| answer.is_ok()) {
            *answer = self.stage(put, &mut group, &mut usage_after);
        }
        if group.batch.is_empty() {
            return answers;
        }
        match self.commit(group.batch, usage_after) {
            Ok(()) => *usage = usage_after,
            Err(error) => {
                let waits_for_the_batch = |put: &Put| group.staged.contains_key(&put.id);
                for (put, answer) in puts.iter().zip(&mut answers) {
                    if answer.is_ok() && waits_for_the_batch(put) {
                        *answer = Err(error.clone());
                    }
                }
            }
        }
        answers
    }

    /// Adds a chunk to the group, unless it is there already.
    fn stage(&self, put: &Put, group: &mut Group, usage: &mut Usage) -> Result<(), ChunkError> {
        let header = put.header();
        if let Some(staged) = group.staged.get(&put.id) {
            return if staged.same_chunk(&header) { Ok(()) } else { Err(ChunkError::Conflict { id: put.id }) };
        }
        match self.stored(&*self.kv, put.id).map_err(failed)? {
            Stored::Header(stored) if !stored.same_chunk(&header) => return Err(ChunkError::Conflict { id: put.id }),
            Stored::Header(_) if !put.rewrite => return Ok(()),
            Stored::Nothing => usage.add(header.length),
            // Counted when it was first written. An id is never given to other bytes, so these mend it.
            Stored::Header(_) | Stored::Unreadable(_) => {}
        }
        let encoded = header.encode(put.id).map_err(|error| internal("encoding a chunk's header", &error))?;
        group.batch.put(Table::ChunkHeader, header_key(put.id), encoded);
        for piece in 0..header.piece_crcs.len() as u32 {
            let bytes = piece_bytes(&(piece..piece + 1), header.length);
            let bytes = put.data.slice(bytes.start as usize..bytes.end as usize);
            group.batch.put(Table::ChunkData, piece_key(put.id, piece), bytes);
        }
        group.staged.insert(put.id, header);
        Ok(())
    }

    fn commit(&self, mut batch: Batch, usage: Usage) -> Result<(), ChunkError> {
        batch.put(Table::System, USAGE_KEY, usage.encode());
        self.kv.write(batch, Durability::Synced).map_err(failed)
    }

    /// The whole pieces that `range` touches, checked.
    pub(super) fn read(&self, id: ChunkId, range: &Range<u32>) -> Result<ChunkRead, ChunkError> {
        let snapshot = self.kv.snapshot();
        let header = match self.stored(&*snapshot, id).map_err(failed)? {
            Stored::Nothing => return Err(ChunkError::NotFound { id }),
            Stored::Unreadable(reason) => return Err(self.corrupt(id, reason)),
            Stored::Header(header) => header,
        };
        let pieces = piece_range(range, header.length);
        let data = match read_pieces(&*snapshot, id, &pieces, header.length) {
            Err(KvError::Corrupt { reason, .. }) => return Err(self.corrupt(id, reason)),
            data => data.map_err(failed)?,
        };
        let piece_crcs = header.piece_crcs[pieces.start as usize..pieces.end as usize].to_vec();
        verify_pieces(&data, &piece_crcs).map_err(|mismatch| self.corrupt(id, mismatch.to_string()))?;
        Ok(ChunkRead { owner: header.owner, pieces_from: pieces.start, piece_crcs, data, length: header.length })
    }

    pub(super) fn stat(&self, id: ChunkId) -> Result<Option<ChunkInfo>, ChunkError> {
        match self.stored(&*self.kv, id).map_err(failed)? {
            Stored::Nothing => Ok(None),
            Stored::Header(header) => Ok(Some(info(id, header))),
            Stored::Unreadable(reason) => Err(self.corrupt(id, reason)),
        }
    }

    pub(super) fn delete(&self, ids: &[ChunkId]) -> Result<(), ChunkError> {
        let mut usage = self.usage.lock();
        let mut usage_after = *usage;
        let mut batch = Batch::default();
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let (length, pieces) = match self.stored(&*self.kv, id).map_err(failed)? {
                Stored::Nothing => continue,
                Stored::Header(header) => (header.length, header.piece_crcs.len() as u32),
                Stored::Unreadable(_) => (self.measure(id).map_err(failed)?, PIECES_MAX),
            };
            usage_after.remove(length);
            batch.delete(Table::ChunkHeader, header_key(id));
            // Not a range: many of those slow every read, and a chunk has few pieces.
            (0..pieces).for_each(|piece| batch.delete(Table::ChunkData, piece_key(id, piece)));
        }
        if !batch.is_empty() {
            self.commit(batch, usage_after)?;
            *usage = usage_after;
        }
        Ok(())
    }

    /// Chunks in the order of the ring. One whose header is unreadable is reported and left out.
    pub(super) fn list(&self, span: &Span, limit: usize) -> Result<Vec<ChunkInfo>, ChunkError> {
        let mut found = Vec::new();
        self.walk(span, limit, |id, header| found.push(info(id, header)))?;
        Ok(found)
    }

    /// What at most `limit` chunks of a span amount to, and the last of them if there may be more.
    pub(super) fn digest(&self, span: &Span, limit: usize) -> Result<(Digest, Option<ChunkId>), ChunkError> {
        let mut digest = Digest::default();
        let last = self.walk(span, limit, |id, header| digest.add(id, header.length, &header.piece_crcs))?;
        Ok((digest, last))
    }

    /// Shows chunks of a span in the order of the ring, and returns the last if the limit ended it.
    fn walk(
        &self,
        span: &Span,
        limit: usize,
        mut show: impl FnMut(ChunkId, Header),
    ) -> Result<Option<ChunkId>, ChunkError> {
        let (lower, upper) = span.keys();
        let mut cursor = self.kv.cursor(Table::ChunkHeader, &lower, &upper).map_err(failed)?;
        cursor.seek(&lower).map_err(failed)?;
        let mut last = None;
        let mut left = limit;
        while let Some((key, value)) = cursor.entry() {
            if left == 0 {
                return Ok(last);
            }
            let Some(id) = chunk_of(key) else { return Err(internal("listing chunks", &"a key is no chunk's")) };
            match Header::decode(id, value) {
                Ok(header) => {
                    show(id, header);
                    last = Some(id);
                    left -= 1;
                }
                Err(error) => drop(self.corrupt(id, error.to_string())),
            }
            cursor.next().map_err(failed)?;
        }
        Ok(None)
    }

    pub(super) fn usage(&self) -> Usage {
        Usage { corrupt_reads: self.corrupt_reads.load(Ordering::Relaxed), ..*self.usage.lock() }
    }

    pub(super) fn reclaim(&self) -> Result<(), ChunkError> {
        let removed_bytes = self.usage.lock().removed_bytes;
        self.kv.compact(Table::ChunkHeader, &[], &KEY_END).map_err(failed)?;
        self.kv.compact(Table::ChunkData, &[], &KEY_END).map_err(failed)?;
        let mut usage = self.usage.lock();
        // What was removed meanwhile is for the next time.
        let usage_after = Usage { removed_bytes: usage.removed_bytes.saturating_sub(removed_bytes), ..*usage };
        self.commit(Batch::default(), usage_after)?;
        *usage = usage_after;
        Ok(())
    }

    fn stored(&self, kv: &(impl KvRead + ?Sized), id: ChunkId) -> Result<Stored, KvError> {
        match kv.get(Table::ChunkHeader, &header_key(id)) {
            Ok(None) => Ok(Stored::Nothing),
            Ok(Some(bytes)) => Ok(match Header::decode(id, &bytes) {
                Ok(header) => Stored::Header(header),
                Err(error) => Stored::Unreadable(error.to_string()),
            }),
            Err(KvError::Corrupt { reason, .. }) => Ok(Stored::Unreadable(reason)),
            Err(error) => Err(error),
        }
    }

    /// The length of a chunk whose header is unreadable, from its pieces. One that is unreadable too counts as whole.
    fn measure(&self, id: ChunkId) -> Result<u32, KvError> {
        let mut length = 0;
        for piece in 0..PIECES_MAX {
            length += match self.kv.get(Table::ChunkData, &piece_key(id, piece)) {
                Ok(bytes) => bytes.map_or(0, |bytes| bytes.len() as u32),
                Err(KvError::Corrupt { .. }) => PIECE_BYTES,
                Err(error) => return Err(error),
            };
        }
        Ok(length)
    }

    /// Tells who repairs, and makes the error.
    fn corrupt(&self, id: ChunkId, reason: String) -> ChunkError {
        self.corrupt_reads.fetch_add(1, Ordering::Relaxed);
        tracing::error!(chunk = ?id, reason, "chunk is corrupt");
        (self.on_corrupt)(id);
        ChunkError::Corrupt { id, reason }
    }
}

/// Neighbours on the ring.
pub(super) struct Span {
    pub(super) positions: RangeInclusive<u64>,
    /// The last chunk that was seen of them already.
    pub(super) after: Option<ChunkId>,
}

impl Span {
    /// The bounds of the headers' keys.
    fn keys(&self) -> (Vec<u8>, Vec<u8>) {
        let first = position_key(*self.positions.start());
        let behind_last = self.positions.end().checked_add(1).map_or(KEY_END.to_vec(), position_key);
        let next = self.after.map(|id| [header_key(id), vec![0]].concat());
        (next.unwrap_or_default().max(first), behind_last)
    }
}

/// What one batch writes.
#[derive(Default)]
struct Group {
    batch: Batch,
    staged: HashMap<ChunkId, Header>,
}

/// Whether the bytes are what their sender meant. Nothing is written before.
fn check(put: &Put) -> Result<(), ChunkError> {
    let id = put.id;
    if put.data.is_empty() || put.data.len() > CHUNK_BYTES as usize {
        let reason = format!("{} bytes are not a chunk of 1 to {CHUNK_BYTES}", put.data.len());
        return Err(ChunkError::Mismatch { id, reason });
    }
    verify_pieces(&put.data, &put.piece_crcs)
        .map_err(|mismatch| ChunkError::Mismatch { id, reason: mismatch.to_string() })
}

/// Pieces side by side. One that is missing, or too short, leaves the others out of step with their CRCs.
fn read_pieces(kv: &(impl KvRead + ?Sized), id: ChunkId, pieces: &Range<u32>, length: u32) -> Result<Bytes, KvError> {
    let bytes = piece_bytes(pieces, length);
    let mut data = BytesMut::with_capacity(bytes.len());
    let (lower, upper) = (piece_key(id, pieces.start), piece_key(id, pieces.end));
    let mut cursor = kv.cursor(Table::ChunkData, &lower, &upper)?;
    cursor.seek(&lower)?;
    while let Some((_, piece)) = cursor.entry() {
        data.extend_from_slice(piece);
        cursor.next()?;
    }
    Ok(data.freeze())
}

/// Counts what the counters should say, for a database that lost them.
fn count(kv: &dyn Kv) -> Result<Usage, ChunkError> {
    let mut usage = Usage::default();
    let mut cursor = kv.cursor(Table::ChunkHeader, &[], &KEY_END).map_err(failed)?;
    cursor.seek(&[]).map_err(failed)?;
    while let Some((key, value)) = cursor.entry() {
        let header = chunk_of(key).and_then(|id| Header::decode(id, value).ok());
        usage.add(header.map_or(0, |header| header.length));
        cursor.next().map_err(failed)?;
    }
    Ok(usage)
}

impl Usage {
    const VERSION: u8 = 1;

    /// The version, then the counters in big-endian.
    fn encode(self) -> Vec<u8> {
        let mut bytes = vec![Self::VERSION];
        bytes.extend_from_slice(&self.chunks.to_be_bytes());
        bytes.extend_from_slice(&self.bytes.to_be_bytes());
        bytes.extend_from_slice(&self.removed_bytes.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&Self::VERSION, counters) = bytes.split_first()? else { return None };
        let (chunks, counters) = counters.split_first_chunk()?;
        let (bytes, removed_bytes) = counters.split_first_chunk()?;
        Some(Self {
            chunks: u64::from_be_bytes(*chunks),
            bytes: u64::from_be_bytes(*bytes),
            removed_bytes: u64::from_be_bytes(removed_bytes.try_into().ok()?),
            corrupt_reads: 0,
        })
    }

    fn add(&mut self, length: u32) {
        self.chunks += 1;
        self.bytes += u64::from(length);
    }

    /// Saturates: a count that rot has falsified must not stop a delete.
    fn remove(&mut self, length: u32) {
        self.chunks = self.chunks.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(length));
        self.removed_bytes = self.removed_bytes.saturating_add(u64::from(length));
    }
}

fn info(id: ChunkId, header: Header) -> ChunkInfo {
    let Header { owner, length, piece_crcs, created_ms } = header;
    ChunkInfo { id, owner, length, piece_crcs, created_ms }
}

fn failed(error: KvError) -> ChunkError {
    match error {
        KvError::Full { .. } => ChunkError::Full,
        error => ChunkError::Failed(Arc::new(error)),
    }
}

fn internal(during: &'static str, error: &dyn std::fmt::Display) -> ChunkError {
    failed(KvError::Failed { during, reason: error.to_string() })
}
