//! What each extent holds: the counters behind `usage`, kept by the same batches that change what they count.
//!
//! A row also says up to where its extent is in the index. Batches reach the disk in order, so after a crash what lies behind
//! that is exactly what the index may have lost, and what lies before it and is not in the index was removed. It reads and
//! writes no extent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::record::{Entry, Location, record_bytes};
use super::{ChunkError, Usage};
use crate::kv::{Batch, Kv, KvError, Table};

/// What an extent holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Extent {
    /// Where what is in the index ends, or was there once.
    pub(super) end: u64,
    /// How many chunks are in it.
    pub(super) chunks: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Their records' bytes.
    pub(super) living_bytes: u64,
    /// Bytes of removed records whose disk space was not given back yet.
    pub(super) owed_bytes: u64,
}

/// An extent of which at most one part in so many is alive is copied, so that its file can go.
const NEARLY_EMPTY_PARTS: u64 = 8;

impl Extent {
    const VERSION: u8 = 1;
    const FIELDS: usize = 5;

    /// The version, then the counters in big-endian.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![Self::VERSION];
        for field in [self.end, self.chunks, self.bytes, self.living_bytes, self.owed_bytes] {
            bytes.extend_from_slice(&field.to_be_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&Self::VERSION, fields) = bytes.split_first()? else { return None };
        let (fields, rest) = fields.as_chunks::<8>();
        if fields.len() != Self::FIELDS || !rest.is_empty() {
            return None;
        }
        let field = |place: usize| u64::from_be_bytes(fields[place]);
        Some(Self { end: field(0), chunks: field(1), bytes: field(2), living_bytes: field(3), owed_bytes: field(4) })
    }

    pub(super) fn is_nearly_empty(&self) -> bool {
        self.living_bytes <= self.end / NEARLY_EMPTY_PARTS
    }

    /// What reclaiming it would do away with. Saturates, here as below: a count that rot has falsified must not stop anything.
    fn reclaimable_bytes(&self) -> u64 {
        if self.is_nearly_empty() { self.end.saturating_sub(self.living_bytes) } else { self.owed_bytes }
    }

    pub(super) fn add(&mut self, length: u32) {
        self.chunks += 1;
        self.bytes += u64::from(length);
        self.living_bytes += record_bytes(length);
    }

    fn remove(&mut self, length: u32) {
        self.chunks = self.chunks.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(length));
        self.living_bytes = self.living_bytes.saturating_sub(record_bytes(length));
        self.owed_bytes += record_bytes(length);
    }
}

/// The rows of all extents.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) rows: BTreeMap<u64, Extent>,
    /// The extent that is being appended to: it is not reclaimed, however empty.
    pub(super) active: Option<u64>,
    /// Extents that a failing disk made unusable, whose rows are not stored yet: what may lie in them must never be taken for
    /// chunks, so the next batch carries them and is synced.
    given_up: BTreeSet<u64>,
    /// Why a batch may be in the index or not: nothing is changed any more until it was opened again and says itself.
    failure: Option<Arc<KvError>>,
}

/// The kind of the table's keys, before the number in big-endian.
const ROW: u8 = b'e';

fn row_key(number: u64) -> Vec<u8> {
    let mut key = vec![ROW];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

impl Ledger {
    /// The rows that are stored, and the numbers of those that are unreadable.
    pub(super) fn load(kv: &dyn Kv) -> Result<(Self, Vec<u64>), KvError> {
        let mut ledger = Self::default();
        let mut unreadable = Vec::new();
        let mut cursor = kv.cursor(Table::Extent, &[ROW], &[ROW + 1])?;
        cursor.seek(&[ROW])?;
        while let Some((key, value)) = cursor.entry() {
            let number = key.split_first().and_then(|(_, number)| number.try_into().ok()).map(u64::from_be_bytes);
            match (number, Extent::decode(value)) {
                (Some(number), Some(row)) => drop(ledger.rows.insert(number, row)),
                (Some(number), None) => unreadable.push(number),
                (None, _) => tracing::error!(?key, "a key of the extents is none"),
            }
            cursor.next()?;
        }
        Ok((ledger, unreadable))
    }

    /// What all of them amount to. Reads that failed are counted elsewhere.
    pub(super) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for (&number, row) in &self.rows {
            usage.chunks += row.chunks;
            usage.bytes += row.bytes;
            usage.removed_bytes += if self.active == Some(number) { 0 } else { row.reclaimable_bytes() };
        }
        usage
    }

    /// Whether an extent has no chunk, or is not known.
    pub(super) fn holds_nothing(&self, number: u64) -> bool {
        self.rows.get(&number).is_none_or(|row| row.chunks == 0)
    }

    /// Begins a change of some rows.
    pub(super) fn change(&self) -> Change<'_> {
        let given_up = self.given_up.iter().filter_map(|number| Some((*number, *self.rows.get(number)?)));
        Change { ledger: self, rows: given_up.collect() }
    }

    /// Takes over the rows of a change that was written.
    pub(super) fn merge(&mut self, rows: BTreeMap<u64, Extent>) {
        self.rows.extend(rows);
        self.given_up.clear();
    }

    /// Nothing will be appended to an extent any more, and nothing up to `end` is to be found in it that is not in the index.
    pub(super) fn give_up(&mut self, end: Location) {
        let row = self.rows.entry(end.extent).or_default();
        row.end = row.end.max(end.offset);
        self.active = None;
        self.given_up.insert(end.extent);
    }

    /// A batch failed, and nobody knows whether it is in the index.
    pub(super) fn fail(&mut self, error: Arc<KvError>) {
        self.failure = Some(error);
    }

    /// Whether changes are possible.
    pub(super) fn check(&self) -> Result<(), ChunkError> {
        self.failure.as_ref().map_or(Ok(()), |error| Err(ChunkError::Failed(Arc::clone(error))))
    }

    /// Whether the next change must be stored at once, even an empty one.
    pub(super) fn is_due(&self) -> bool {
        !self.given_up.is_empty()
    }

    /// Forgets an extent whose file is gone.
    pub(super) fn forget(&mut self, number: u64, batch: &mut Batch) {
        self.rows.remove(&number);
        batch.delete(Table::Extent, row_key(number));
    }

    /// Notes that disk space was given back. It is stored with the next change of the row: a crash before that costs no more
    /// than doing it again.
    pub(super) fn settle(&mut self, number: u64, bytes: u64) {
        if let Some(row) = self.rows.get_mut(&number) {
            row.owed_bytes = row.owed_bytes.saturating_sub(bytes);
        }
    }
}

/// Rows as they will be when a batch is written.
pub(super) struct Change<'a> {
    ledger: &'a Ledger,
    rows: BTreeMap<u64, Extent>,
}

impl Change<'_> {
    fn row(&mut self, number: u64) -> &mut Extent {
        self.rows.entry(number).or_insert_with(|| self.ledger.rows.get(&number).copied().unwrap_or_default())
    }

    /// A chunk came.
    pub(super) fn add(&mut self, entry: &Entry) {
        self.row(entry.location.extent).add(entry.header.length);
    }

    /// A chunk went.
    pub(super) fn remove(&mut self, entry: &Entry) {
        self.row(entry.location.extent).remove(entry.header.length);
    }

    /// All before `end` is in the index.
    pub(super) fn reach(&mut self, end: Location) {
        let row = self.row(end.extent);
        row.end = row.end.max(end.offset);
    }

    /// Sets the row of an extent that was counted.
    pub(super) fn set(&mut self, number: u64, row: Extent) {
        self.rows.insert(number, row);
    }

    /// The extents whose last chunk goes with this change.
    pub(super) fn emptied(&self) -> Vec<u64> {
        let emptied = |&(&number, row): &(&u64, &Extent)| row.chunks == 0 && self.ledger.active != Some(number);
        self.rows.iter().filter(emptied).map(|(&number, _)| number).collect()
    }

    /// Adds the changed rows to the batch that makes them true.
    pub(super) fn stage(self, batch: &mut Batch) -> BTreeMap<u64, Extent> {
        self.rows.iter().for_each(|(&number, row)| batch.put(Table::Extent, row_key(number), row.encode()));
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::Extent;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(fields in any::<[u64; 5]>()) {
            let [end, chunks, bytes, living_bytes, owed_bytes] = fields;
            let row = Extent { end, chunks, bytes, living_bytes, owed_bytes };
            let encoded = row.encode();
            prop_assert_eq!(Extent::decode(&encoded), Some(row));
            prop_assert_eq!(Extent::decode(&encoded[1..]), None);
            prop_assert_eq!(Extent::decode(&encoded[..encoded.len() - 8]), None);
        }
    }
}
