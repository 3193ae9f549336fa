//! The way of chunks onto the disk: judged, laid side by side at the end of an extent, synced once, then put into the index.
//!
//! The index is not synced: a crash may lose its newest entries, and [`ChunkTable::recover`] finds them again in the extents,
//! which are. One group is written at a time, so that what an extent holds up to some place is in the index up to there.

use std::collections::HashMap;

use annulus_common::chunk::{CHUNK_BYTES, ChunkOwner, verify_pieces};
use annulus_common::ids::ChunkId;
use bytes::Bytes;

use super::ChunkError;
use super::files::Pages;
use super::index::{Stored, lookup};
use super::record::{Entry, Header, Location, key_of, record_bytes};
use super::table::{ChunkTable, disk_failed, failed};
use crate::kv::{Batch, Durability, KvError, Table};

/// Bytes of records that one sync covers: more makes the first of a group wait without a gain for the last.
pub(super) const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A file of this size is not appended to any more: few enough files, and each soon dead or nearly so.
pub(super) const EXTENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A chunk that is to be written.
pub(super) struct Put {
    pub(super) id: ChunkId,
    pub(super) owner: ChunkOwner,
    pub(super) piece_crcs: Vec<u32>,
    pub(super) data: Bytes,
    pub(super) created_ms: u64,
    pub(super) purpose: Purpose,
}

/// Why a chunk is written, where there is one under its id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// It came: an equal one that is there is enough.
    Store,
    /// The bytes of an equal one may have rotted.
    Mend,
    /// Its extent is to go. Nothing happens if it does not lie there any more.
    Move {
        /// Where it lies.
        from: Location,
    },
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

    /// The bytes that it takes of an extent.
    pub(super) fn record_bytes(&self) -> usize {
        record_bytes(self.data.len() as u32) as usize
    }
}

/// Where the next record goes, and the memory in which a group is laid out.
pub(super) struct Appender {
    /// Nothing when the next group begins an extent.
    pub(super) next: Option<Location>,
    /// The number of the next extent that is begun.
    pub(super) next_extent: u64,
    pages: Pages,
}

impl Appender {
    pub(super) fn new() -> Self {
        Self { next: None, next_extent: 0, pages: Pages::with_room(GROUP_BYTES_MAX) }
    }
}

/// What one sync covers.
#[derive(Default)]
struct Group<'a> {
    records: Vec<Record<'a>>,
    places: HashMap<ChunkId, usize>,
}

struct Record<'a> {
    put: &'a Put,
    /// Its location is known once the group is laid out.
    entry: Entry,
    /// Whether something is in the index under its id.
    replaces: bool,
}

impl ChunkTable {
    /// Writes chunks, of [`GROUP_BYTES_MAX`] together, with one sync. The answers are in the order of `puts`.
    pub(super) fn write(&self, puts: &[Put]) -> Vec<Result<(), ChunkError>> {
        let mut answers: Vec<_> = puts.iter().map(check).collect();
        let mut appender = self.appender.lock();
        let mut group = Group::default();
        for (put, answer) in puts.iter().zip(&mut answers).filter(|(_, answer)| answer.is_ok()) {
            *answer = self.judge(put, &mut group);
        }
        if group.records.is_empty() {
            return answers;
        }
        if let Err(error) = self.append(&mut appender, &mut group) {
            for (put, answer) in puts.iter().zip(&mut answers) {
                if answer.is_ok() && group.places.contains_key(&put.id) {
                    *answer = Err(error.clone());
                }
            }
        }
        answers
    }

    /// Adds a chunk to the group, unless it is there already. Nobody else adds to the index meanwhile.
    fn judge<'a>(&self, put: &'a Put, group: &mut Group<'a>) -> Result<(), ChunkError> {
        let header = put.header();
        if let Some(&place) = group.places.get(&put.id) {
            let same = group.records[place].entry.header.same_chunk(&header);
            return if same { Ok(()) } else { Err(ChunkError::Conflict { id: put.id }) };
        }
        let stored = lookup(&*self.kv, put.id).map_err(failed)?;
        let replaces = match (&stored, put.purpose) {
            (Stored::Entry(stored), Purpose::Move { from }) if stored.location == from => true,
            (_, Purpose::Move { .. }) => return Ok(()),
            (Stored::Entry(stored), _) if !stored.header.same_chunk(&header) => {
                return Err(ChunkError::Conflict { id: put.id });
            }
            (Stored::Entry(_), Purpose::Store) => return Ok(()),
            // An id is never given to other bytes, so these mend what is unreadable.
            (Stored::Entry(_), Purpose::Mend) | (Stored::Unreadable(_), _) => true,
            (Stored::Nothing, _) => false,
        };
        group.places.insert(put.id, group.records.len());
        let entry = Entry { location: Location { extent: 0, offset: 0 }, header };
        group.records.push(Record { put, entry, replaces });
        Ok(())
    }

    fn append(&self, appender: &mut Appender, group: &mut Group<'_>) -> Result<(), ChunkError> {
        self.ledger.lock().check()?;
        let bytes = group.records.iter().map(|record| record.put.record_bytes() as u64).sum();
        if !self.files.admits(bytes).map_err(|error| disk_failed("measuring free space", &error))? {
            return Err(ChunkError::Full);
        }
        let start = self.place(appender, bytes)?;
        let end = group.lay_out(start, &mut appender.pages).map_err(|error| unencodable(&error))?;
        let written = self.files.write(start.extent, start.offset, &appender.pages);
        let synced = written.and_then(|()| self.files.sync(start.extent));
        let done = synced.map_err(|error| disk_failed("writing chunks", &error)).and_then(|()| self.index(group, end));
        match &done {
            Ok(()) => appender.next = Some(end),
            Err(error) => self.withdraw(appender, start, end, error),
        }
        done
    }

    /// Where a group goes: behind the last one, or at the start of a new extent.
    fn place(&self, appender: &mut Appender, bytes: u64) -> Result<Location, ChunkError> {
        if let Some(next) = appender.next.filter(|next| next.offset + bytes <= EXTENT_BYTES_MAX) {
            return Ok(next);
        }
        let start = Location { extent: appender.next_extent, offset: 0 };
        // Whether or not this succeeds, the number is used: a failure may leave the file behind.
        appender.next_extent += 1;
        appender.next = None;
        self.files.create(start.extent).map_err(|error| disk_failed("beginning an extent", &error))?;
        self.ledger.lock().active = Some(start.extent);
        appender.next = Some(start);
        Ok(start)
    }

    /// Puts a group that is on the disk into the index.
    fn index(&self, group: &Group<'_>, end: Location) -> Result<(), ChunkError> {
        let mut ledger = self.ledger.lock();
        let mut change = ledger.change();
        let mut batch = Batch::default();
        let mut lost_count = false;
        for Record { put, entry, replaces } in &group.records {
            if *replaces {
                match lookup(&*self.kv, put.id).map_err(failed)? {
                    Stored::Entry(old) => change.remove(&old),
                    Stored::Unreadable(_) => lost_count = true,
                    // It was removed meanwhile, so it comes anew.
                    Stored::Nothing => {}
                }
            }
            change.add(entry);
            batch.put(Table::ChunkIndex, key_of(put.id), entry.encode(put.id).map_err(|error| unencodable(&error))?);
        }
        change.reach(end);
        let rows = change.stage(&mut batch);
        self.commit(&mut ledger, rows, batch, group.durability())?;
        if lost_count {
            self.recount(&mut ledger);
        }
        Ok(())
    }

    /// Undoes what failed, as far as that can be done: nobody was told that it is there.
    fn withdraw(&self, appender: &mut Appender, start: Location, end: Location, error: &ChunkError) {
        if self.ledger.lock().check().is_err() {
            // The index may have taken it: then it stays. If not, the next start finds it, as after a crash.
            return;
        }
        let cut = self.files.cut(start.extent, start.offset);
        if matches!(error, ChunkError::Full) && cut.is_ok() {
            return;
        }
        // The disk may have kept what it says it has not. The place is never used for anything else.
        tracing::error!(extent = start.extent, %error, "an extent is given up");
        appender.next = None;
        self.ledger.lock().give_up(end);
    }
}

impl Group<'_> {
    /// Gives each record its place from `start` on, and lays out the bytes; returns where they end.
    fn lay_out(&mut self, start: Location, pages: &mut Pages) -> Result<Location, postcard::Error> {
        pages.clear();
        let mut at = start;
        for Record { put, entry, .. } in &mut self.records {
            entry.location = at;
            pages.push(&entry.encode_page(put.id)?);
            pages.push(&put.data);
            at.offset += put.record_bytes() as u64;
        }
        Ok(at)
    }

    /// The first group of an extent brings the index of the one before to the disk: a crash never costs the search of more
    /// than one. What was moved must be there before its old place goes.
    fn durability(&self) -> Durability {
        let is_first = self.records.first().is_some_and(|record| record.entry.location.offset == 0);
        let moves = self.records.iter().any(|record| matches!(record.put.purpose, Purpose::Move { .. }));
        if is_first || moves { Durability::Synced } else { Durability::Buffered }
    }
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

pub(super) fn unencodable(error: &postcard::Error) -> ChunkError {
    failed(KvError::Failed { during: "encoding a chunk's header", reason: error.to_string() })
}
