//! The index of chunks: where each lies and what is known of it, in the order of the ring.
//!
//! It reads entries and opens no extent; what is written to it, and when, is `append`'s and `table`'s.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use annulus_common::ids::ChunkId;

use super::ledger::Extent;
use super::record::{Entry, KEY_END, RecordError, chunk_of, key_of, position_key};
use crate::kv::{Kv, KvError, Table};

/// What the index says of a chunk.
pub(super) enum Stored {
    Nothing,
    Entry(Entry),
    Unreadable(String),
}

pub(super) fn lookup(kv: &dyn Kv, id: ChunkId) -> Result<Stored, KvError> {
    match kv.get(Table::ChunkIndex, &key_of(id)) {
        Ok(None) => Ok(Stored::Nothing),
        Ok(Some(bytes)) => Ok(match Entry::decode(id, &bytes) {
            Ok(entry) => Stored::Entry(entry),
            Err(error) => Stored::Unreadable(error.to_string()),
        }),
        Err(KvError::Corrupt { reason, .. }) => Ok(Stored::Unreadable(reason)),
        Err(error) => Err(error),
    }
}

/// Neighbours on the ring.
pub(super) struct Span {
    pub(super) positions: RangeInclusive<u64>,
    /// The last chunk that was seen of them already.
    pub(super) after: Option<ChunkId>,
}

impl Span {
    /// The bounds of the keys.
    fn keys(&self) -> (Vec<u8>, Vec<u8>) {
        let first = position_key(*self.positions.start());
        let behind_last = self.positions.end().checked_add(1).map_or(KEY_END.to_vec(), position_key);
        let next = self.after.map(|id| [key_of(id), vec![0]].concat());
        (next.unwrap_or_default().max(first), behind_last)
    }
}

/// Shows what is in a span in the order of the ring, `limit` readable entries at most; returns the last if the limit ended it.
pub(super) fn walk(
    kv: &dyn Kv,
    span: &Span,
    limit: usize,
    mut show: impl FnMut(ChunkId, Result<Entry, RecordError>),
) -> Result<Option<ChunkId>, KvError> {
    let (lower, upper) = span.keys();
    let mut cursor = kv.cursor(Table::ChunkIndex, &lower, &upper)?;
    cursor.seek(&lower)?;
    let mut last = None;
    let mut left = limit;
    while let Some((key, value)) = cursor.entry() {
        if left == 0 {
            return Ok(last);
        }
        let Some(id) = chunk_of(key) else {
            let reason = format!("{key:02x?} is no chunk's key");
            return Err(KvError::Corrupt { during: "walking the index of chunks", reason });
        };
        let entry = Entry::decode(id, value);
        if entry.is_ok() {
            last = Some(id);
            left -= 1;
        }
        show(id, entry);
        cursor.next()?;
    }
    Ok(None)
}

/// Counts what the rows of all extents should say; where they end, and what they owe, the index does not know.
pub(super) fn count(kv: &dyn Kv) -> Result<BTreeMap<u64, Extent>, KvError> {
    let mut rows: BTreeMap<u64, Extent> = BTreeMap::new();
    let span = Span { positions: 0..=u64::MAX, after: None };
    walk(kv, &span, usize::MAX, |_, entry| {
        if let Ok(entry) = entry {
            rows.entry(entry.location.extent).or_default().add(entry.header.length);
        }
    })?;
    Ok(rows)
}
