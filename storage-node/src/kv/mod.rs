//! Ordered key-value storage: the `Kv` seam between what a node means and the disk.
//!
//! `disk` (RocksDB) is the only place that imports the crate; `memory` is its twin for tests and simulation. Both pass the
//! same conformance suite. Nothing here knows what a key stands for. All calls block: they run on threads of their own.

#[cfg(test)]
mod conformance;
pub mod directory;
pub mod disk;
pub mod identity;
pub mod memory;

use annulus_common::protocol::room::RoomFor;
use bytes::Bytes;

/// The tables (RocksDB column families) of a database.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// Identity, format version, Raft hard states: few and small.
    System,
    /// Raft log entries.
    Log,
    /// Metadata records; small objects live in them, so values above 2 KiB go to blob files.
    Meta,
    /// Where each chunk lies, and what is known of it.
    ChunkIndex,
    /// What each extent of chunks holds: one row of counters for each, rewritten in place.
    Extent,
    /// Chunks that other nodes are owed.
    Hint,
}

impl Table {
    /// All of them, those of both databases.
    pub const ALL: [Self; 6] = [Self::System, Self::Log, Self::Meta, Self::ChunkIndex, Self::Extent, Self::Hint];
}

/// When a write is on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Before `write` returns: fsynced, together with every buffered write before it.
    Synced,
    /// With the next synced write. A crash may lose it, but never reorders it against other writes.
    Buffered,
}

/// One change of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Sets a key.
    Put(Table, Bytes, Bytes),
    /// Removes a key; nothing happens when there is none.
    Delete(Table, Bytes),
    /// Removes every key in `from..to`.
    DeleteRange(Table, Bytes, Bytes),
}

/// Changes that happen together or not at all, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// The changes.
    pub ops: Vec<Op>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push(Op::Put(table, key.into(), value.into()));
    }

    /// Removes a key.
    pub fn delete(&mut self, table: Table, key: impl Into<Bytes>) {
        self.ops.push(Op::Delete(table, key.into()));
    }

    /// Removes every key in `from..to`.
    pub fn delete_range(&mut self, table: Table, from: impl Into<Bytes>, to: impl Into<Bytes>) {
        self.ops.push(Op::DeleteRange(table, from.into(), to.into()));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

/// Why storage failed. The caller can do nothing but stop writing; what it was doing is kept in the text.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// No space is left. Reads go on.
    #[error("no space left on device while {during}")]
    Full {
        /// The operation.
        during: &'static str,
    },
    /// Bytes on disk are not what was written. The operator is told the way out wherever it is noticed: there is nothing in a
    /// database that its replicas do not have.
    #[error(
        "storage is corrupt while {during}: {reason}; move this data directory away and let the node join again under a new \
         id, its replicas have the data"
    )]
    Corrupt {
        /// The operation.
        during: &'static str,
        /// What the engine said.
        reason: String,
    },
    /// Anything else the disk or the engine says.
    #[error("storage failed while {during}: {reason}")]
    Failed {
        /// The operation.
        during: &'static str,
        /// What the engine said.
        reason: String,
    },
}

/// Reads, from the newest state or from a snapshot.
pub trait KvRead: Send + Sync {
    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError>;

    /// A cursor over `lower..upper`, not yet positioned. It sees one moment in time: later writes do not disturb it.
    fn cursor<'a>(&'a self, table: Table, lower: &[u8], upper: &[u8]) -> Result<Box<dyn Cursor + 'a>, KvError>;
}

/// Walks keys in order within its bounds.
pub trait Cursor {
    /// Moves to the first key at or after `key` (and within the bounds).
    fn seek(&mut self, key: &[u8]) -> Result<(), KvError>;

    /// Moves to the last key before `key` (and within the bounds).
    fn seek_before(&mut self, key: &[u8]) -> Result<(), KvError>;

    /// Moves to the next key.
    fn next(&mut self) -> Result<(), KvError>;

    /// The key and value here, or nothing past either end.
    fn entry(&self) -> Option<(&[u8], &[u8])>;
}

/// A database. `write` of a batch is atomic: after a crash all of it is there or nothing.
pub trait Kv: KvRead + 'static {
    /// Carries out a batch.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError>;

    /// The state of this moment, kept for as long as the snapshot is held.
    fn snapshot(&self) -> Box<dyn KvRead + '_>;

    /// What the disk has room for. There is none long before writes are refused, so that what makes room again finds some:
    /// whoever is about to begin something asks first.
    fn room(&self) -> RoomFor;

    /// About how many bytes of files `from..to` takes: for people. What was just written need not be in it.
    fn disk_bytes(&self, table: Table, from: &[u8], to: &[u8]) -> u64;

    /// Holds on to the files of this moment, so that they can be read from the disk however they change meanwhile; what is only in
    /// memory is written to them first. The disk space of what is replaced does not come back as long as it is held.
    fn checkpoint(&self) -> Result<Box<dyn Checkpoint>, KvError>;
}

/// The files of a database as they were at one moment.
pub trait Checkpoint: Send {
    /// Reads what lies in a table from `from` on, about `bytes_max` of it, and checks it against its checksums. It is read from the
    /// disk: no cache answers, and none is filled. Returns where to go on; nothing at the end of the table.
    fn verify(&self, table: Table, from: &[u8], bytes_max: usize) -> Result<Option<Vec<u8>>, KvError>;
}
