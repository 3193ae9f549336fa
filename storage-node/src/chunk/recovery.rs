//! What a start makes of what the last run left: chunks that the index has forgotten, torn ends, extents that are gone.
//!
//! The index is written without a sync, behind the extents. A crash may take its newest batches, and never one from between
//! others; each batch says, in the row of its extent, up to where that extent is in the index. So what lies behind the row's
//! end is what may have been forgotten: it is searched for whole records, which are put back. What lies before and has no
//! entry was removed, as a removal is synced, and stays so. What is not whole was never acknowledged; it is cut off.

use std::collections::{BTreeMap, HashMap};

use annulus_common::chunk::verify_pieces;
use annulus_common::ids::ChunkId;

use super::ChunkError;
use super::append::EXTENT_BYTES_MAX;
use super::files::PAGE_BYTES;
use super::index::{Span, Stored, lookup, walk};
use super::ledger::{Extent, Ledger};
use super::record::{Entry, Location, key_of};
use super::table::{ChunkTable, disk_failed, failed};
use crate::kv::{Batch, Durability, Table};

/// Extents that are named in the log when they are damaged: enough to know where to look.
const NAMED_EXTENTS_MAX: usize = 16;

/// What was found behind the end of what the index knows.
#[derive(Default)]
struct Found {
    /// Whole records, in the order in which they were written.
    records: Vec<(ChunkId, Entry)>,
    /// Where the last of them ends.
    end: u64,
}

impl ChunkTable {
    /// Brings index and extents together again.
    pub(super) fn recover(&self) -> Result<(), ChunkError> {
        let mut numbers = self.files.numbers().map_err(|error| disk_failed("listing extents", &error))?;
        numbers.sort_unstable();
        let mut ledger = self.ledger.lock();
        self.load(&mut ledger)?;
        for &number in &numbers {
            self.recover_extent(&mut ledger, number)?;
        }
        self.report_damage(&ledger);
        self.resume(&mut ledger, &numbers);
        let useless = |number: &u64| ledger.active != Some(*number) && ledger.holds_nothing(*number);
        let known = ledger.rows.keys().copied();
        let useless: Vec<u64> = known.chain(numbers.iter().copied()).filter(useless).collect();
        drop(ledger);
        useless.into_iter().for_each(|number| self.drop_extent(number));
        Ok(())
    }

    /// Rows that are unreadable are counted anew. Their extents count as searched: all that can be known of them is lost.
    fn load(&self, ledger: &mut Ledger) -> Result<(), ChunkError> {
        let (loaded, unreadable) = Ledger::load(&*self.kv).map_err(failed)?;
        *ledger = loaded;
        for &number in &unreadable {
            tracing::error!(extent = number, "the counters of an extent are unreadable and counted anew");
            let end = self.files.length(number).unwrap_or_default();
            ledger.rows.insert(number, Extent { end, ..Extent::default() });
        }
        if !unreadable.is_empty() {
            self.recount(ledger);
        }
        Ok(())
    }

    fn recover_extent(&self, ledger: &mut Ledger, number: u64) -> Result<(), ChunkError> {
        let known_to = ledger.rows.get(&number).map_or(0, |row| row.end);
        let length = self.files.length(number).map_err(|error| disk_failed("measuring an extent", &error))?;
        if length <= known_to {
            return Ok(());
        }
        let found = self.search(number, known_to, length)?;
        tracing::info!(
            extent = number,
            from = known_to,
            to = found.end,
            length,
            found = found.records.len(),
            "searched"
        );
        if !found.records.is_empty() {
            self.adopt(ledger, number, &found)?;
        }
        if found.end < length {
            self.files.cut(number, found.end).map_err(|error| disk_failed("cutting a torn end", &error))?;
        }
        Ok(())
    }

    /// Looks for whole records. Where there is none, the next page may begin one: of several that were written together any may
    /// be torn, and others behind it whole.
    fn search(&self, number: u64, from: u64, length: u64) -> Result<Found, ChunkError> {
        let mut found = Found { records: Vec::new(), end: from };
        let mut at = from;
        while at < length {
            let location = Location { extent: number, offset: at };
            match self.whole_record(location)? {
                Some((id, entry)) => {
                    at = entry.extent_bytes().end;
                    found.end = at;
                    found.records.push((id, entry));
                }
                None => at += PAGE_BYTES as u64,
            }
        }
        Ok(found)
    }

    /// The record at a place, if its page says that it lies there, and its bytes are what the page says.
    fn whole_record(&self, location: Location) -> Result<Option<(ChunkId, Entry)>, ChunkError> {
        let read = |offset: u64, length: usize| {
            let read = self.files.read(location.extent, offset, length);
            read.map_err(|error| disk_failed("searching an extent", &error))
        };
        let Ok((id, entry)) = Entry::decode_page(&read(location.offset, PAGE_BYTES)?) else { return Ok(None) };
        if entry.location != location {
            return Ok(None);
        }
        let data = read(location.offset + PAGE_BYTES as u64, entry.header.length as usize)?;
        let whole =
            data.len() == entry.header.length as usize && verify_pieces(&data, &entry.header.piece_crcs).is_ok();
        Ok(whole.then_some((id, entry)))
    }

    /// Puts found records into the index. A later one takes the place of an earlier: it mended it, or moved it.
    fn adopt(&self, ledger: &mut Ledger, number: u64, found: &Found) -> Result<(), ChunkError> {
        let mut newest: HashMap<ChunkId, &Entry> = HashMap::new();
        let mut change = ledger.change();
        let mut batch = Batch::default();
        for (id, entry) in &found.records {
            if let Some(old) = newest.insert(*id, entry) {
                change.remove(old);
            } else {
                match lookup(&*self.kv, *id).map_err(failed)? {
                    Stored::Entry(old) => change.remove(&old),
                    Stored::Nothing | Stored::Unreadable(_) => {}
                }
            }
            change.add(entry);
            let encoded = entry.encode(*id).map_err(|error| super::append::unencodable(&error))?;
            batch.put(Table::ChunkIndex, key_of(*id), encoded);
        }
        change.reach(Location { extent: number, offset: found.end });
        let rows = change.stage(&mut batch);
        self.commit(ledger, rows, batch, Durability::Synced)
    }

    /// Chunks of a lost extent stay in the index, and are reported: that is how they get repaired. To find them takes a walk
    /// through the index, which only a damaged store pays for.
    fn report_damage(&self, ledger: &Ledger) {
        let with_length = |(&number, _): (&u64, &Extent)| (number, self.files.length(number).unwrap_or_default());
        let rows = ledger.rows.iter().filter(|(_, row)| row.chunks > 0);
        let is_short = |&(number, length): &(u64, u64)| length < ledger.rows[&number].end;
        let damaged: BTreeMap<u64, u64> = rows.map(with_length).filter(is_short).collect();
        if damaged.is_empty() {
            return;
        }
        let mut chunks = 0_u64;
        let everywhere = Span { positions: 0..=u64::MAX, after: None };
        let walked = walk(&*self.kv, &everywhere, usize::MAX, |id, entry| {
            // An entry that is unreadable is reported by whoever meets it.
            let Ok(entry) = entry else { return };
            if damaged.get(&entry.location.extent).is_some_and(|length| entry.extent_bytes().end > *length) {
                chunks += 1;
                (self.alarms.on_corrupt)(id);
            }
        });
        let named: Vec<u64> = damaged.keys().copied().take(NAMED_EXTENTS_MAX).collect();
        tracing::error!(
            extents = damaged.len(),
            ?named,
            chunks,
            "extents are missing or cut short, their chunks are to be mended"
        );
        if let Err(error) = walked {
            tracing::error!(%error, "not all of the chunks that are lost were found");
        }
    }

    /// The newest extent is appended to again, unless it is full or not as long as it should be.
    fn resume(&self, ledger: &mut Ledger, numbers: &[u64]) {
        let mut appender = self.appender.lock();
        let newest = numbers.iter().chain(ledger.rows.keys()).max();
        appender.next_extent = newest.map_or(1, |newest| newest + 1);
        let candidate = newest.and_then(|number| Some((*number, ledger.rows.get(number)?.end)));
        let intact = |(number, end): &(u64, u64)| self.files.length(*number).is_ok_and(|length| length == *end);
        if let Some((extent, offset)) = candidate.filter(|(_, end)| *end < EXTENT_BYTES_MAX).filter(intact) {
            appender.next = Some(Location { extent, offset });
            ledger.active = Some(extent);
        }
    }
}
