//! A database in memory: the twin of `disk` for tests and simulation.
//!
//! It keeps the promises of the seam, no more: buffered writes are lost by [`MemoryKv::crash`], synced ones are not, and
//! snapshots and cursors see one moment. It never fails and is never full; faults are put around it, not in it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use annulus_common::protocol::room::RoomFor;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Batch, Checkpoint, Cursor, Durability, Kv, KvError, KvRead, Op, Table};

/// The keys of one table. Shared with the snapshots and cursors that look at it, copied by the first write that would
/// disturb them.
type Keys = Arc<BTreeMap<Bytes, Bytes>>;

/// A database in memory.
#[derive(Default)]
pub struct MemoryKv {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tables: BTreeMap<Table, Keys>,
    /// What the buffered writes replaced, newest last: a crash takes them back in reverse.
    unsynced: Vec<Undo>,
}

struct Undo {
    table: Table,
    key: Bytes,
    before: Option<Bytes>,
}

impl MemoryKv {
    /// An empty database.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses every write since the last synced one, as a machine that loses power does.
    pub fn crash(&self) {
        let mut state = self.state.lock();
        while let Some(Undo { table, key, before }) = state.unsynced.pop() {
            let keys = state.keys_mut(table);
            match before {
                Some(value) => keys.insert(key, value),
                None => keys.remove(&key),
            };
        }
    }

    fn moment(&self) -> Moment {
        Moment { tables: self.state.lock().tables.clone() }
    }
}

impl State {
    fn keys_mut(&mut self, table: Table) -> &mut BTreeMap<Bytes, Bytes> {
        Arc::make_mut(self.tables.entry(table).or_default())
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Put(table, key, value) => {
                let before = self.keys_mut(table).insert(key.clone(), value);
                self.unsynced.push(Undo { table, key, before });
            }
            Op::Delete(table, key) => self.delete(table, key),
            Op::DeleteRange(table, from, to) => {
                if from < to {
                    let doomed: Vec<Bytes> = self.keys_mut(table).range(from..to).map(|(key, _)| key.clone()).collect();
                    doomed.into_iter().for_each(|key| self.delete(table, key));
                }
            }
        }
    }

    fn delete(&mut self, table: Table, key: Bytes) {
        if let Some(before) = self.keys_mut(table).remove(&key) {
            self.unsynced.push(Undo { table, key, before: Some(before) });
        }
    }
}

impl Kv for MemoryKv {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        let mut state = self.state.lock();
        batch.ops.into_iter().for_each(|op| state.apply(op));
        if durability == Durability::Synced {
            state.unsynced.clear();
        }
        Ok(())
    }

    fn snapshot(&self) -> Box<dyn KvRead + '_> {
        Box::new(self.moment())
    }

    fn room(&self) -> RoomFor {
        RoomFor::Growth
    }

    fn disk_bytes(&self, table: Table, from: &[u8], to: &[u8]) -> u64 {
        let state = self.state.lock();
        let keys = state.tables.get(&table).into_iter().flat_map(|keys| keys.iter());
        keys.filter(|(key, _)| (from..to).contains(&&key[..]))
            .map(|(key, value)| (key.len() + value.len()) as u64)
            .sum()
    }

    fn checkpoint(&self) -> Result<Box<dyn Checkpoint>, KvError> {
        Ok(Box::new(self.moment()))
    }
}

impl KvRead for MemoryKv {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.state.lock().tables.get(&table).and_then(|keys| keys.get(key).cloned()))
    }

    fn cursor<'a>(&'a self, table: Table, lower: &[u8], upper: &[u8]) -> Result<Box<dyn Cursor + 'a>, KvError> {
        self.moment().into_cursor(table, lower, upper)
    }
}

/// The tables at one moment.
struct Moment {
    tables: BTreeMap<Table, Keys>,
}

impl Moment {
    fn into_cursor<'a>(mut self, table: Table, lower: &[u8], upper: &[u8]) -> Result<Box<dyn Cursor + 'a>, KvError> {
        let keys = self.tables.remove(&table).unwrap_or_default();
        let (lower, upper) = (Bytes::copy_from_slice(lower), Bytes::copy_from_slice(upper));
        Ok(Box::new(MemoryCursor { keys, lower, upper, entry: None }))
    }
}

impl KvRead for Moment {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.tables.get(&table).and_then(|keys| keys.get(key).cloned()))
    }

    fn cursor<'a>(&'a self, table: Table, lower: &[u8], upper: &[u8]) -> Result<Box<dyn Cursor + 'a>, KvError> {
        Self { tables: self.tables.clone() }.into_cursor(table, lower, upper)
    }
}

impl Checkpoint for Moment {
    fn verify(&self, table: Table, from: &[u8], bytes_max: usize) -> Result<Option<Vec<u8>>, KvError> {
        let Some(keys) = self.tables.get(&table) else { return Ok(None) };
        let mut bytes = 0;
        for (key, value) in keys.range::<[u8], _>((Bound::Included(from), Bound::Unbounded)) {
            if bytes >= bytes_max {
                return Ok(Some(key.to_vec()));
            }
            bytes += key.len() + value.len();
        }
        Ok(None)
    }
}

struct MemoryCursor {
    keys: Keys,
    lower: Bytes,
    upper: Bytes,
    entry: Option<(Bytes, Bytes)>,
}

impl MemoryCursor {
    /// The first key (or the last) between `from` and `to`.
    fn find(&self, from: Bound<&[u8]>, to: &[u8], first: bool) -> Option<(Bytes, Bytes)> {
        let (Bound::Included(start) | Bound::Excluded(start)) = from else { return None };
        // BTreeMap::range panics when its bounds cross.
        if start >= to {
            return None;
        }
        let mut range = self.keys.range::<[u8], _>((from, Bound::Excluded(to)));
        let found = if first { range.next() } else { range.next_back() };
        found.map(|(key, value)| (key.clone(), value.clone()))
    }
}

impl Cursor for MemoryCursor {
    fn seek(&mut self, key: &[u8]) -> Result<(), KvError> {
        self.entry = self.find(Bound::Included(key.max(&self.lower)), &self.upper, true);
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<(), KvError> {
        self.entry = self.find(Bound::Included(&self.lower), key.min(&self.upper), false);
        Ok(())
    }

    fn next(&mut self) -> Result<(), KvError> {
        if let Some((key, _)) = self.entry.take() {
            self.entry = self.find(Bound::Excluded(&key), &self.upper, true);
        }
        Ok(())
    }

    fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.entry.as_ref().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }
}
