//! A group's log and Raft state in the [`Kv`], as the Raft core wants to read them. Changes go into batches that the
//! worker writes; what is in memory here is ahead of the disk only between the two, while the Raft core is not running.
//!
//! ```text
//! Log:    group u32 BE | index u64 BE                     -> version u8 (1) | eraftpb.Entry (protobuf)
//! System: "raft" | version u8 (1) | group u32 BE | kind   -> by kind
//!   'h' hard state: eraftpb.HardState (protobuf); its commit may be older than what is applied
//!   'c' membership at the applied index: eraftpb.ConfState (protobuf)
//!   't' truncated: index u64 BE | term u64 BE of the last entry that is not in the log any more
//!   'a' applied: the same, of the last entry whose effects are in the state machine's range
//!   'i' installing: empty; while it is there, the state machine's range is incomplete
//! ```

use std::sync::Arc;

use annulus_common::ids::{GroupId, NodeId};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message as _;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::log_cache::{LogCache, LogWeight};
use super::snapshot::{KeyRange, SnapshotStore};
use super::types::{GroupSpec, Limits};
use crate::kv::{Batch, Kv, KvError, Table};

/// Where the log of a new group begins. Not zero: a node that joins later has nothing, so it cannot mistake the first
/// entries for all there is and gets a snapshot, which tells it the members.
pub(super) const BOOTSTRAP: Position = Position { index: 1, term: 1 };

const ENTRY_VERSION: u8 = 1;

/// What the keys of all groups begin with, and what comes after them.
const SYSTEM_PREFIX: &[u8] = b"raft\x01";
const SYSTEM_PREFIX_END: &[u8] = b"raft\x02";

/// A place in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Position {
    pub(super) index: u64,
    pub(super) term: u64,
}

/// The log and Raft state of one group.
pub(super) struct GroupStorage {
    kv: Arc<dyn Kv>,
    group: GroupId,
    range: KeyRange,
    outgoing: Arc<SnapshotStore>,
    hard: HardState,
    conf: ConfState,
    truncated: Position,
    applied: Position,
    last: Position,
    installing: bool,
    cache: LogCache,
    weight: LogWeight,
}

impl GroupStorage {
    /// What is stored of a group, or nothing if it never was on this node.
    pub(super) fn open(
        kv: Arc<dyn Kv>,
        group: GroupId,
        range: KeyRange,
        outgoing: Arc<SnapshotStore>,
    ) -> Result<Option<Self>, KvError> {
        let Some(applied) = kv.get(Table::System, &system_key(group, b'a'))? else { return Ok(None) };
        let read = |kind| Ok(kv.get(Table::System, &system_key(group, kind))?.unwrap_or_default());
        let applied = Position::decode(applied)?;
        let truncated = Position::decode(read(b't')?)?;
        let mut hard = HardState::decode(read(b'h')?).map_err(corrupt)?;
        let conf = ConfState::decode(read(b'c')?).map_err(corrupt)?;
        let installing = kv.get(Table::System, &system_key(group, b'i'))?.is_some();
        let last =
            last_entry(&*kv, group)?.map_or(truncated, |entry| Position { index: entry.index, term: entry.term });
        // The commit index is not written for its own sake; whatever was applied had been committed.
        hard.commit = hard.commit.max(applied.index).max(truncated.index);
        let (cache, weight) = Default::default();
        Ok(Some(Self { kv, group, range, outgoing, hard, conf, truncated, applied, last, installing, cache, weight }))
    }

    /// The groups that are stored, in order.
    pub(super) fn stored(kv: &dyn Kv) -> Result<Vec<GroupId>, KvError> {
        let mut cursor = kv.cursor(Table::System, SYSTEM_PREFIX, SYSTEM_PREFIX_END)?;
        let mut groups = Vec::new();
        cursor.seek(SYSTEM_PREFIX)?;
        while let Some((key, _)) = cursor.entry() {
            if let Some((group, b"a")) = key[SYSTEM_PREFIX.len()..].split_first_chunk::<4>() {
                groups.push(GroupId(u32::from_be_bytes(*group)));
            }
            cursor.next()?;
        }
        Ok(groups)
    }

    /// A group that begins here. The batch makes it so on disk.
    pub(super) fn bootstrap(
        kv: Arc<dyn Kv>,
        spec: &GroupSpec,
        range: KeyRange,
        outgoing: Arc<SnapshotStore>,
        batch: &mut Batch,
    ) -> Self {
        let start = if spec.voters.is_empty() { Position::default() } else { BOOTSTRAP };
        let hard = HardState { term: start.term, vote: 0, commit: start.index };
        let conf = ConfState { voters: spec.voters.iter().map(|node| node.0).collect(), ..ConfState::default() };
        let group = spec.group;
        batch.put(Table::System, system_key(group, b'h'), hard.encode_to_vec());
        batch.put(Table::System, system_key(group, b'c'), conf.encode_to_vec());
        batch.put(Table::System, system_key(group, b't'), start.encode());
        batch.put(Table::System, system_key(group, b'a'), start.encode());
        let (cache, weight) = Default::default();
        let (truncated, applied, last, installing) = (start, start, start, false);
        Self { kv, group, range, outgoing, hard, conf, truncated, applied, last, installing, cache, weight }
    }

    /// Removes everything of a group, the state machine's range included.
    pub(super) fn destroy(&self, batch: &mut Batch) {
        for kind in *b"hctai" {
            batch.delete(Table::System, system_key(self.group, kind));
        }
        batch.delete_range(Table::Log, log_key(self.group, 0), log_key(self.group, u64::MAX));
        batch.delete_range(self.range.table, self.range.lower.clone(), self.range.upper.clone());
        self.outgoing.cancel_group(self.group);
    }

    pub(super) fn conf(&self) -> &ConfState {
        &self.conf
    }

    pub(super) fn applied(&self) -> Position {
        self.applied
    }

    /// The term that is on disk.
    pub(super) fn stored_term(&self) -> u64 {
        self.hard.term
    }

    /// The end of the log that is on disk.
    pub(super) fn last(&self) -> Position {
        self.last
    }

    pub(super) fn truncated(&self) -> Position {
        self.truncated
    }

    pub(super) fn range(&self) -> &KeyRange {
        &self.range
    }

    /// Whether the state machine's range is incomplete.
    pub(super) fn installing(&self) -> bool {
        self.installing
    }

    /// What the Raft core may take for applied: with an incomplete state, nothing beyond what the log has lost.
    pub(super) fn applied_for_core(&self) -> u64 {
        if self.installing { self.truncated.index } else { self.applied.index }
    }

    /// Appends entries, in place of whatever is there from the first of them on.
    pub(super) fn append(&mut self, entries: Vec<Entry>, batch: &mut Batch) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        assert!(first.index > self.truncated.index, "an entry that was cut off cannot be replaced");
        assert!(self.installing || first.index > self.applied.index, "an applied entry cannot be replaced");
        assert!(first.index <= self.last.index + 1, "the log cannot have a gap");
        if last.index < self.last.index {
            let (from, to) = (log_key(self.group, last.index + 1), log_key(self.group, self.last.index + 1));
            batch.delete_range(Table::Log, from, to);
        }
        self.last = Position { index: last.index, term: last.term };
        for entry in &entries {
            let value = encode_entry(entry);
            self.weight.append(entry.index, value.len());
            batch.put(Table::Log, log_key(self.group, entry.index), value);
        }
        self.cache.append(entries);
    }

    /// Takes over a hard state.
    pub(super) fn set_hard(&mut self, hard: HardState, batch: &mut Batch) {
        batch.put(Table::System, system_key(self.group, b'h'), hard.encode_to_vec());
        self.hard = hard;
    }

    /// Takes over the membership as of the entry that is being applied.
    pub(super) fn set_conf(&mut self, conf: ConfState, batch: &mut Batch) {
        batch.put(Table::System, system_key(self.group, b'c'), conf.encode_to_vec());
        self.conf = conf;
    }

    /// An entry's effects are in the same batch.
    pub(super) fn set_applied(&mut self, applied: Position, batch: &mut Batch) {
        assert_eq!(applied.index, self.applied.index + 1, "entries are applied one after the other");
        batch.put(Table::System, system_key(self.group, b'a'), applied.encode());
        self.applied = applied;
    }

    /// From the write of this batch on, the range is incomplete; it empties it too.
    pub(super) fn begin_install(&mut self, batch: &mut Batch) {
        batch.put(Table::System, system_key(self.group, b'i'), Bytes::new());
        batch.delete_range(self.range.table, self.range.lower.clone(), self.range.upper.clone());
        self.installing = true;
    }

    /// The batch after which the range is complete again: it holds the state at `position`, with the members of `conf`.
    /// The log keeps what follows `position`, if it has it; else all of it is older or was never committed. What is in
    /// memory here is then out of date: the group must be opened again.
    pub(super) fn finish_install(&self, position: Position, conf: &ConfState) -> raft::Result<Batch> {
        let mut batch = Batch::default();
        let follows = position.index <= self.last.index && self.term(position.index)? == position.term;
        let cut_to = if follows { position.index + 1 } else { self.last.index + 1 };
        batch.delete_range(Table::Log, log_key(self.group, 0), log_key(self.group, cut_to));
        batch.put(Table::System, system_key(self.group, b't'), position.encode());
        batch.put(Table::System, system_key(self.group, b'a'), position.encode());
        batch.put(Table::System, system_key(self.group, b'c'), conf.encode_to_vec());
        let commit = if follows { self.hard.commit.max(position.index) } else { position.index };
        let hard = HardState { commit, ..self.hard.clone() };
        batch.put(Table::System, system_key(self.group, b'h'), hard.encode_to_vec());
        batch.delete(Table::System, system_key(self.group, b'i'));
        Ok(batch)
    }

    /// Cuts the log if it has grown long. `needed_after` is the lowest index up to which everybody else has it.
    pub(super) fn compact(
        &mut self,
        limits: &Limits,
        needed_after: Option<u64>,
        batch: &mut Batch,
    ) -> raft::Result<bool> {
        if self.installing {
            return Ok(false);
        }
        let entries = self.applied.index - self.truncated.index;
        let bytes = self.weight.bytes();
        if entries <= limits.log_entries && bytes <= limits.log_bytes {
            return Ok(false);
        }
        let by_entries = self.applied.index.saturating_sub(limits.tail_entries);
        let by_bytes = self.weight.index_before_last(limits.tail_bytes).unwrap_or(0);
        let mut cut = by_entries.max(by_bytes).min(self.applied.index);
        if entries <= limits.held_entries && bytes <= limits.held_bytes {
            cut = cut.min(needed_after.unwrap_or(u64::MAX));
        }
        if cut <= self.truncated.index {
            return Ok(false);
        }
        let truncated = Position { index: cut, term: self.term(cut)? };
        let (from, to) = (log_key(self.group, self.truncated.index), log_key(self.group, cut + 1));
        batch.delete_range(Table::Log, from, to);
        batch.put(Table::System, system_key(self.group, b't'), truncated.encode());
        self.truncated = truncated;
        self.cache.compact(cut);
        self.weight.compact(cut);
        Ok(true)
    }

    fn read_entry(&self, index: u64) -> Result<Entry, KvError> {
        let value = self.kv.get(Table::Log, &log_key(self.group, index))?;
        decode_entry(index, value.ok_or_else(|| missing(index))?)
    }

    fn read_entries(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<Entry>, KvError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut push = |entry: Entry| {
            bytes += entry.encoded_len() as u64;
            let fits = entries.is_empty() || bytes <= bytes_max;
            if fits {
                entries.push(entry);
            }
            fits
        };
        let mut next = low;
        if self.cache.get(low).is_none() {
            let (lower, upper) = (log_key(self.group, low), log_key(self.group, high));
            let mut cursor = self.kv.cursor(Table::Log, &lower, &upper)?;
            cursor.seek(&lower)?;
            while next < high && self.cache.get(next).is_none() {
                let (key, value) = cursor.entry().ok_or_else(|| missing(next))?;
                if key != log_key(self.group, next).as_ref() {
                    return Err(missing(next));
                }
                if !push(decode_entry(next, Bytes::copy_from_slice(value))?) {
                    return Ok(entries);
                }
                next += 1;
                cursor.next()?;
            }
        }
        while next < high {
            let entry = self.cache.get(next).ok_or_else(|| missing(next))?;
            if !push(entry.clone()) {
                break;
            }
            next += 1;
        }
        Ok(entries)
    }
}

impl Storage for GroupStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard.clone(), conf_state: self.conf.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.truncated.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last.index + 1, "entries beyond the end of the log were asked for");
        self.read_entries(low, high, max_size.into().unwrap_or(u64::MAX)).map_err(unreadable)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated.index {
            return Ok(self.truncated.term);
        }
        if index < self.truncated.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if index > self.last.index {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        if index == self.last.index {
            return Ok(self.last.term);
        }
        match self.cache.get(index) {
            Some(entry) => Ok(entry.term),
            None => Ok(self.read_entry(index).map_err(unreadable)?.term),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last.index)
    }

    /// Describes the state at the applied index and begins to hold it for `to`.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let later = || raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable);
        if self.installing || self.applied.index < request_index || self.applied.index == 0 {
            return Err(later());
        }
        if !self.outgoing.begin(self.group, NodeId(to), self.applied.index, &self.range) {
            return Err(later());
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.applied.index;
        metadata.term = self.applied.term;
        metadata.set_conf_state(self.conf.clone());
        Ok(snapshot)
    }
}

impl Position {
    fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(16);
        bytes.put_u64(self.index);
        bytes.put_u64(self.term);
        bytes.freeze()
    }

    fn decode(mut bytes: Bytes) -> Result<Self, KvError> {
        if bytes.len() != 16 {
            return Err(corrupt("a position does not have 16 bytes"));
        }
        Ok(Self { index: bytes.get_u64(), term: bytes.get_u64() })
    }
}

fn system_key(group: GroupId, kind: u8) -> Bytes {
    let mut key = BytesMut::with_capacity(10);
    key.put_slice(SYSTEM_PREFIX);
    key.put_u32(group.0);
    key.put_u8(kind);
    key.freeze()
}

fn log_key(group: GroupId, index: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(12);
    key.put_u32(group.0);
    key.put_u64(index);
    key.freeze()
}

fn encode_entry(entry: &Entry) -> Bytes {
    let mut value = BytesMut::with_capacity(1 + entry.encoded_len());
    value.put_u8(ENTRY_VERSION);
    entry.encode_raw(&mut value);
    value.freeze()
}

fn decode_entry(index: u64, mut value: Bytes) -> Result<Entry, KvError> {
    if value.is_empty() || value.get_u8() != ENTRY_VERSION {
        return Err(corrupt("a log entry has an unknown version"));
    }
    let entry = Entry::decode(value).map_err(corrupt)?;
    if entry.index != index {
        return Err(corrupt("a log entry is not at its place"));
    }
    Ok(entry)
}

fn last_entry(kv: &dyn Kv, group: GroupId) -> Result<Option<Entry>, KvError> {
    let (lower, upper) = (log_key(group, 0), log_key(group, u64::MAX));
    let mut cursor = kv.cursor(Table::Log, &lower, &upper)?;
    cursor.seek_before(&upper)?;
    let Some((key, value)) = cursor.entry() else { return Ok(None) };
    let index = key.get(4..12).map(|mut index| index.get_u64()).ok_or_else(|| corrupt("a log key is too short"))?;
    decode_entry(index, Bytes::copy_from_slice(value)).map(Some)
}

fn missing(index: u64) -> KvError {
    corrupt(format!("log entry {index} is missing"))
}

fn corrupt(reason: impl ToString) -> KvError {
    KvError::Corrupt { during: "reading the raft log", reason: reason.to_string() }
}

/// The Raft core ends in a panic on this, which stops the node: it cannot go on without its log.
fn unreadable(error: KvError) -> raft::Error {
    // The panic shows how the error is made, not what it tells the operator.
    tracing::error!(%error, "the raft log cannot be read");
    raft::Error::Store(StorageError::Other(Box::new(error)))
}
