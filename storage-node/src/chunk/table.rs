//! Chunks in extents and their index, with calls that block: what is read, what is removed, what is counted.
//!
//! An entry of the index is the truth: a chunk is here exactly when it has one. `append` writes, `recovery` finds what a crash
//! made the index forget, `reclaim` gives disk space back. Who calls from where, and how many wait, is `mod`'s.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use annulus_common::chunk::{Digest, piece_bytes, piece_range, verify_pieces};
use annulus_common::ids::ChunkId;
use bytes::Bytes;
use parking_lot::Mutex;

use super::append::Appender;
use super::files::{ExtentFiles, PAGE_BYTES};
use super::index::{Span, Stored, count, lookup, walk};
use super::ledger::{Extent, Ledger};
use super::record::{Entry, Header, RecordError, key_of};
use super::{Alarms, ChunkError, ChunkInfo, ChunkRead, Usage};
use crate::kv::{Batch, Durability, Kv, KvError, Table};

pub(super) struct ChunkTable {
    pub(super) kv: Arc<dyn Kv>,
    pub(super) files: Arc<dyn ExtentFiles>,
    /// Held while chunks are judged, written and put into the index. Taken before the ledger.
    pub(super) appender: Mutex<Appender>,
    /// Held while what it counts changes.
    pub(super) ledger: Mutex<Ledger>,
    /// Held while chunks are removed, and while they are moved: what is moved would be found again after a crash, though it
    /// was removed on the way. Taken before the others.
    pub(super) moving: Mutex<()>,
    corrupt_reads: AtomicU64,
    pub(super) alarms: Alarms,
}

/// Why a record was not read.
pub(super) enum Fault {
    /// Its bytes are not there, or not what was written.
    Bytes(String),
    Disk(io::Error),
}

impl ChunkTable {
    /// Opens what is there, and finds what a crash made the index forget.
    pub(super) fn open(kv: Arc<dyn Kv>, files: Arc<dyn ExtentFiles>, alarms: Alarms) -> Result<Self, ChunkError> {
        let table = Self {
            kv,
            files,
            appender: Mutex::new(Appender::new()),
            ledger: Mutex::new(Ledger::default()),
            moving: Mutex::new(()),
            corrupt_reads: AtomicU64::new(0),
            alarms,
        };
        table.recover()?;
        Ok(table)
    }

    /// The whole pieces that `range` touches, checked.
    pub(super) fn read(&self, id: ChunkId, range: &Range<u32>) -> Result<ChunkRead, ChunkError> {
        let mut seen_at = None;
        loop {
            let entry = match lookup(&*self.kv, id).map_err(failed)? {
                Stored::Nothing => return Err(ChunkError::NotFound { id }),
                Stored::Unreadable(reason) => return Err(self.corrupt(id, reason)),
                Stored::Entry(entry) => entry,
            };
            let pieces = piece_range(range, entry.header.length);
            match self.read_pieces(id, &entry, &pieces) {
                Ok(data) => {
                    let piece_crcs = entry.header.piece_crcs[pieces.start as usize..pieces.end as usize].to_vec();
                    let Header { owner, length, .. } = entry.header;
                    return Ok(ChunkRead { owner, pieces_from: pieces.start, piece_crcs, data, length });
                }
                // It may have been removed or moved since the index was asked, so that one is asked again.
                Err(Fault::Bytes(reason)) => {
                    if seen_at.replace(entry.location) == Some(entry.location) {
                        return Err(self.corrupt(id, reason));
                    }
                }
                Err(Fault::Disk(error)) => return Err(disk_failed("reading a chunk", &error)),
            }
        }
    }

    /// Pieces of a record, checked. With the first piece the page before it is read, so that the whole record is.
    pub(super) fn read_pieces(&self, id: ChunkId, entry: &Entry, pieces: &Range<u32>) -> Result<Bytes, Fault> {
        if pieces.is_empty() {
            return Ok(Bytes::new());
        }
        let bytes = piece_bytes(pieces, entry.header.length);
        let page_bytes = if pieces.start == 0 { PAGE_BYTES } else { 0 };
        let at = entry.location.offset + (PAGE_BYTES - page_bytes) as u64 + u64::from(bytes.start);
        let wanted = page_bytes + bytes.len();
        let read = match self.files.read(entry.location.extent, at, wanted) {
            Ok(read) if read.len() == wanted => read,
            Ok(read) => return Err(Fault::Bytes(format!("{} bytes are left of {wanted}", read.len()))),
            Err(error) if is_damage(&error) => return Err(Fault::Bytes(error.to_string())),
            Err(error) => return Err(Fault::Disk(error)),
        };
        if page_bytes > 0 {
            check_page(&read[..page_bytes], id, entry).map_err(|error| Fault::Bytes(error.to_string()))?;
        }
        let data = Bytes::from(read).slice(page_bytes..);
        let piece_crcs = &entry.header.piece_crcs[pieces.start as usize..pieces.end as usize];
        verify_pieces(&data, piece_crcs).map_err(|mismatch| Fault::Bytes(mismatch.to_string()))?;
        Ok(data)
    }

    pub(super) fn stat(&self, id: ChunkId) -> Result<Option<ChunkInfo>, ChunkError> {
        match lookup(&*self.kv, id).map_err(failed)? {
            Stored::Nothing => Ok(None),
            Stored::Entry(entry) => Ok(Some(info(id, entry))),
            Stored::Unreadable(reason) => Err(self.corrupt(id, reason)),
        }
    }

    /// Chunks in the order of the ring. One whose entry is unreadable is reported and left out.
    pub(super) fn list(&self, span: &Span, limit: usize) -> Result<Vec<ChunkInfo>, ChunkError> {
        let mut found = Vec::new();
        self.show(span, limit, |id, entry| found.push(info(id, entry)))?;
        Ok(found)
    }

    /// What at most `limit` chunks of a span amount to, and the last of them if there may be more.
    pub(super) fn digest(&self, span: &Span, limit: usize) -> Result<(Digest, Option<ChunkId>), ChunkError> {
        let mut digest = Digest::default();
        let last = self.show(span, limit, |id, entry| digest.add(id, entry.header.length, &entry.header.piece_crcs))?;
        Ok((digest, last))
    }

    fn show(
        &self,
        span: &Span,
        limit: usize,
        mut show: impl FnMut(ChunkId, Entry),
    ) -> Result<Option<ChunkId>, ChunkError> {
        let shown = walk(&*self.kv, span, limit, |id, entry| match entry {
            Ok(entry) => show(id, entry),
            Err(error) => drop(self.corrupt(id, error.to_string())),
        });
        shown.map_err(failed)
    }

    /// Removes chunks from the index, durably, then gives their disk space back.
    pub(super) fn delete(&self, ids: &[ChunkId]) -> Result<(), ChunkError> {
        let Removed { entries, emptied } = self.remove_entries(ids)?;
        for &number in &emptied {
            self.drop_extent(number);
        }
        let mut holes: BTreeMap<u64, Vec<Range<u64>>> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| !emptied.contains(&entry.location.extent)) {
            holes.entry(entry.location.extent).or_default().push(entry.extent_bytes());
        }
        for (number, ranges) in holes {
            self.punch(number, ranges);
        }
        Ok(())
    }

    fn remove_entries(&self, ids: &[ChunkId]) -> Result<Removed, ChunkError> {
        let _nothing_moves = self.moving.lock();
        let mut ledger = self.ledger.lock();
        let mut change = ledger.change();
        let mut batch = Batch::default();
        let mut entries = Vec::new();
        let mut lost_count = false;
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            match lookup(&*self.kv, id).map_err(failed)? {
                Stored::Nothing => continue,
                Stored::Entry(entry) => {
                    change.remove(&entry);
                    entries.push(entry);
                }
                Stored::Unreadable(_) => lost_count = true,
            }
            batch.delete(Table::ChunkIndex, key_of(id));
        }
        if batch.is_empty() && !ledger.is_due() {
            return Ok(Removed::default());
        }
        let emptied = change.emptied();
        let rows = change.stage(&mut batch);
        self.commit(&mut ledger, rows, batch, Durability::Synced)?;
        if lost_count {
            self.recount(&mut ledger);
        }
        Ok(Removed { entries, emptied })
    }

    /// Gives the disk space of removed records back. What fails is owed, and left to `reclaim`.
    fn punch(&self, number: u64, mut ranges: Vec<Range<u64>>) {
        let bytes = ranges.iter().map(|range| range.end - range.start).sum();
        ranges.sort_unstable_by_key(|range| range.start);
        // The chunks of an object often lie side by side: fewer holes to make.
        ranges.dedup_by(|next, range| {
            let touches = range.end == next.start;
            if touches {
                range.end = next.end;
            }
            touches
        });
        match self.files.punch(number, &ranges) {
            Ok(()) => self.ledger.lock().settle(number, bytes),
            Err(error) => tracing::warn!(extent = number, %error, "disk space of removed chunks not given back"),
        }
    }

    /// Removes an extent that holds no chunk. What fails is left to `reclaim`.
    pub(super) fn drop_extent(&self, number: u64) {
        if let Err(error) = self.files.remove(number) {
            tracing::warn!(extent = number, %error, "an empty extent was not removed");
            return;
        }
        let mut batch = Batch::default();
        let mut ledger = self.ledger.lock();
        ledger.forget(number, &mut batch);
        // A crash may bring the row back: an extent without chunks, which the next start forgets again.
        if let Err(error) = self.kv.write(batch, Durability::Buffered) {
            tracing::warn!(extent = number, %error, "the row of a removed extent was not removed");
        }
    }

    pub(super) fn usage(&self) -> Usage {
        Usage { corrupt_reads: self.corrupt_reads.load(Ordering::Relaxed), ..self.ledger.lock().usage() }
    }

    /// Writes a batch with the rows that it changes. When that fails for want of space, nothing happened; when it fails
    /// otherwise, the engine takes no more writes, and only the next start can tell what is in the index.
    pub(super) fn commit(
        &self,
        ledger: &mut Ledger,
        rows: BTreeMap<u64, Extent>,
        batch: Batch,
        durability: Durability,
    ) -> Result<(), ChunkError> {
        ledger.check()?;
        let durability = if ledger.is_due() { Durability::Synced } else { durability };
        let written = self.kv.write(batch, durability).map_err(failed);
        match &written {
            Ok(()) => ledger.merge(rows),
            Err(ChunkError::Failed(error)) => {
                ledger.fail(Arc::clone(error));
                (self.alarms.on_failed)(&format!(
                    "the index of chunks failed, and only a start tells what is in it: {error}"
                ));
            }
            Err(_) => {}
        }
        written
    }

    /// Counts anew what is in the extents, after an entry went of which nobody could say what it counted for: long, and never
    /// needed unless the index rots beneath its own checksums. When it fails, the counters stay wrong and nothing else.
    pub(super) fn recount(&self, ledger: &mut Ledger) {
        let counted = count(&*self.kv).map_err(failed).and_then(|counted| {
            let mut change = ledger.change();
            for (&number, row) in &ledger.rows {
                let fresh = counted.get(&number).copied().unwrap_or_default();
                let owed_bytes = row.owed_bytes + row.living_bytes.saturating_sub(fresh.living_bytes);
                change.set(number, Extent { end: row.end, owed_bytes, ..fresh });
            }
            let mut batch = Batch::default();
            let rows = change.stage(&mut batch);
            self.commit(ledger, rows, batch, Durability::Buffered)
        });
        if let Err(error) = counted {
            tracing::error!(%error, "the chunks were not counted");
        }
    }

    /// Tells who repairs, and makes the error.
    pub(super) fn corrupt(&self, id: ChunkId, reason: String) -> ChunkError {
        self.corrupt_reads.fetch_add(1, Ordering::Relaxed);
        tracing::error!(chunk = ?id, reason, "chunk is corrupt");
        (self.alarms.on_corrupt)(id);
        ChunkError::Corrupt { id, reason }
    }
}

/// What a removal leaves to be given back.
#[derive(Default)]
struct Removed {
    entries: Vec<Entry>,
    /// Extents that hold nothing any more.
    emptied: Vec<u64>,
}

/// Whether the page before a chunk says what the index says.
fn check_page(page: &[u8], id: ChunkId, entry: &Entry) -> Result<(), RecordError> {
    let (found_id, found) = Entry::decode_page(page)?;
    if found_id == id && found == *entry { Ok(()) } else { Err(RecordError::Content) }
}

/// Whether an error is about these bytes, which others may have, and not about the machine.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData)
}

fn info(id: ChunkId, entry: Entry) -> ChunkInfo {
    let Header { owner, length, piece_crcs, created_ms } = entry.header;
    ChunkInfo { id, owner, length, piece_crcs, created_ms }
}

pub(super) fn failed(error: KvError) -> ChunkError {
    match error {
        KvError::Full { .. } => ChunkError::Full,
        error => ChunkError::Failed(Arc::new(error)),
    }
}

pub(super) fn disk_failed(during: &'static str, error: &io::Error) -> ChunkError {
    failed(match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => KvError::Full { during },
        _ => KvError::Failed { during, reason: error.to_string() },
    })
}
