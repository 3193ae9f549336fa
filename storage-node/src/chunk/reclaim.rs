//! Gives disk space back where a removal could not: from extents that are nearly empty, whose last chunks are moved so that the
//! file can go, and for removals whose holes were not made because of a crash.
//!
//! Which chunks live in an extent only the index can say, and it is ordered by the ring: one walk through it serves many.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use annulus_common::ids::ChunkId;

use super::ChunkError;
use super::append::{GROUP_BYTES_MAX, Purpose, Put};
use super::index::{Span, walk};
use super::ledger::Extent;
use super::record::Entry;
use super::table::{ChunkTable, Fault, disk_failed, failed};

/// Extents of one walk through the index: what is known of their chunks takes a few hundred bytes each, tens of MiB at most.
const EXTENTS_PER_WALK: usize = 32;

/// Entries that are read before the walk lets go of the database's state of that moment.
const ENTRIES_PER_LOOK: usize = 16 * 1024;

type Living = Vec<(ChunkId, Entry)>;

impl ChunkTable {
    /// Reclaims every extent once that is worth it.
    pub(super) fn reclaim(&self) -> Result<(), ChunkError> {
        let mut seen = BTreeSet::new();
        loop {
            let extents = self.worthwhile(&mut seen);
            if extents.is_empty() {
                return Ok(());
            }
            for (number, living) in self.living_in(&extents)? {
                self.reclaim_extent(number, &extents[&number], living)?;
            }
        }
    }

    /// Extents to reclaim that were not seen yet. What is appended to is left alone, so the chunks of these only become fewer.
    fn worthwhile(&self, seen: &mut BTreeSet<u64>) -> BTreeMap<u64, Extent> {
        let ledger = self.ledger.lock();
        let is_due = |number: u64, row: &Extent| {
            ledger.active != Some(number) && !seen.contains(&number) && (row.is_nearly_empty() || row.owed_bytes > 0)
        };
        let rows = ledger.rows.iter().filter(|&(&number, row)| is_due(number, row));
        let extents: BTreeMap<u64, Extent> = rows.take(EXTENTS_PER_WALK).map(|(&number, &row)| (number, row)).collect();
        seen.extend(extents.keys());
        extents
    }

    fn living_in(&self, extents: &BTreeMap<u64, Extent>) -> Result<BTreeMap<u64, Living>, ChunkError> {
        let mut living: BTreeMap<u64, Living> = extents.keys().map(|&number| (number, Vec::new())).collect();
        let mut span = Span { positions: 0..=u64::MAX, after: None };
        loop {
            // An entry that is unreadable is reported by whoever lists or reads it; its record may be lost with its extent.
            let last = walk(&*self.kv, &span, ENTRIES_PER_LOOK, |id, entry| {
                let Ok(entry) = entry else { return };
                if let Some(chunks) = living.get_mut(&entry.location.extent) {
                    chunks.push((id, entry));
                }
            });
            match last.map_err(failed)? {
                Some(last) => span.after = Some(last),
                None => return Ok(living),
            }
        }
    }

    fn reclaim_extent(&self, number: u64, row: &Extent, living: Living) -> Result<(), ChunkError> {
        if row.is_nearly_empty() {
            return self.empty(number, living);
        }
        match self.files.punch(number, &gaps(&living, row.end)) {
            // What was removed since the walk is owed by its own removal.
            Ok(()) => self.ledger.lock().settle(number, row.owed_bytes),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return self.empty(number, living),
            // Its chunks are corrupt; they get repaired into another extent, and then its file is dropped.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(disk_failed("giving disk space back", &error)),
        }
        Ok(())
    }

    /// Moves the chunks of an extent to where new ones go, and drops it. One that cannot be read keeps it.
    fn empty(&self, number: u64, living: Living) -> Result<(), ChunkError> {
        let mut group: Vec<Put> = Vec::new();
        let mut group_bytes = 0;
        for (id, entry) in living {
            let Some(put) = self.to_move(id, &entry)? else { continue };
            if group_bytes + put.record_bytes() > GROUP_BYTES_MAX {
                self.move_group(&std::mem::take(&mut group))?;
                group_bytes = 0;
            }
            group_bytes += put.record_bytes();
            group.push(put);
        }
        self.move_group(&group)?;
        if self.ledger.lock().holds_nothing(number) {
            self.drop_extent(number);
        }
        Ok(())
    }

    fn to_move(&self, id: ChunkId, entry: &Entry) -> Result<Option<Put>, ChunkError> {
        let header = &entry.header;
        let data = match self.read_pieces(id, entry, &(0..header.piece_crcs.len() as u32)) {
            Ok(data) => data,
            Err(Fault::Bytes(_)) => {
                // Read as anybody reads: corrupt, unless it was removed meanwhile.
                drop(self.read(id, &(0..header.length)));
                return Ok(None);
            }
            Err(Fault::Disk(error)) => return Err(disk_failed("reading a chunk", &error)),
        };
        let purpose = Purpose::Move { from: entry.location };
        let (piece_crcs, created_ms) = (header.piece_crcs.clone(), header.created_ms);
        Ok(Some(Put { id, owner: header.owner, piece_crcs, data, created_ms, purpose }))
    }

    fn move_group(&self, group: &[Put]) -> Result<(), ChunkError> {
        let _nothing_is_removed = self.moving.lock();
        self.write(group).into_iter().collect()
    }
}

/// What lies between the chunks of an extent. None of it is, or will be, a chunk.
fn gaps(living: &Living, end: u64) -> Vec<Range<u64>> {
    let mut living: Vec<Range<u64>> = living.iter().map(|(_, entry)| entry.extent_bytes()).collect();
    living.sort_unstable_by_key(|range| range.start);
    let starts = [0].into_iter().chain(living.iter().map(|range| range.end));
    let ends = living.iter().map(|range| range.start).chain([end]);
    starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| start..end).collect()
}
