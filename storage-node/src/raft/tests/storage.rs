//! The log on disk: what an install keeps of it, what a cut leaves, and the bytes themselves.

use std::sync::Arc;

use bytes::Bytes;
use raft::Storage as _;
use raft::eraftpb::{ConfState, Entry, HardState};

use super::GROUP;
use crate::kv::memory::MemoryKv;
use crate::kv::{Batch, Durability, Kv, Table};
use crate::raft::snapshot::{KeyRange, SnapshotStore};
use crate::raft::storage::{GroupStorage, Position};
use crate::raft::{GroupSpec, Limits, NodeId};

struct Disk {
    kv: Arc<dyn Kv>,
    storage: GroupStorage,
}

fn range() -> KeyRange {
    KeyRange { table: Table::Meta, lower: "a".into(), upper: "b".into() }
}

fn open(kv: &Arc<dyn Kv>) -> Option<GroupStorage> {
    GroupStorage::open(Arc::clone(kv), GROUP, range(), Arc::new(SnapshotStore::new(Arc::clone(kv), 1))).unwrap()
}

impl Disk {
    /// A group whose log has the entries `2..=last` of term 3.
    fn with_log(last: u64) -> Self {
        let kv: Arc<dyn Kv> = Arc::new(MemoryKv::new());
        let spec = GroupSpec { group: GROUP, voters: vec![NodeId(1), NodeId(2)] };
        let mut batch = Batch::default();
        let outgoing = Arc::new(SnapshotStore::new(Arc::clone(&kv), 1));
        let mut storage = GroupStorage::bootstrap(Arc::clone(&kv), &spec, range(), outgoing, &mut batch);
        storage.append((2..=last).map(|index| entry(index, 3)).collect(), &mut batch);
        storage.set_hard(HardState { term: 4, vote: 2, commit: 2 }, &mut batch);
        kv.write(batch, Durability::Synced).unwrap();
        Self { kv, storage }
    }

    fn install(mut self, position: Position) -> GroupStorage {
        let mut batch = Batch::default();
        self.storage.begin_install(&mut batch);
        self.kv.write(batch, Durability::Synced).unwrap();
        assert!(open(&self.kv).unwrap().installing());
        let conf = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
        let batch = self.storage.finish_install(position, &conf).unwrap();
        self.kv.write(batch, Durability::Synced).unwrap();
        open(&self.kv).unwrap()
    }
}

fn entry(index: u64, term: u64) -> Entry {
    Entry { index, term, data: vec![index as u8; 10], ..Entry::default() }
}

#[test]
fn an_install_keeps_the_entries_that_follow_it() {
    let storage = Disk::with_log(10).install(Position { index: 6, term: 3 });
    assert_eq!((storage.first_index().unwrap(), storage.last_index().unwrap()), (7, 10));
    assert_eq!((storage.term(6).unwrap(), storage.term(10).unwrap()), (3, 3));
    let state = storage.initial_state().unwrap();
    assert_eq!(state.hard_state, HardState { term: 4, vote: 2, commit: 6 });
    assert_eq!(state.conf_state.voters, vec![1, 2, 3]);
    assert_eq!(storage.applied().index, 6);
    assert!(!storage.installing());
}

#[test]
fn an_install_drops_a_log_that_it_contradicts_or_outruns() {
    for position in [Position { index: 6, term: 4 }, Position { index: 20, term: 4 }] {
        let storage = Disk::with_log(10).install(position);
        assert_eq!(
            (storage.first_index().unwrap(), storage.last_index().unwrap()),
            (position.index + 1, position.index)
        );
        assert_eq!(storage.term(position.index).unwrap(), 4);
        assert_eq!(storage.initial_state().unwrap().hard_state.commit, position.index);
    }
}

#[test]
fn a_conflicting_tail_is_gone_after_a_restart() {
    let Disk { kv, mut storage } = Disk::with_log(10);
    let mut batch = Batch::default();
    storage.append(vec![entry(4, 4)], &mut batch);
    kv.write(batch, Durability::Synced).unwrap();
    let storage = open(&kv).unwrap();
    assert_eq!((storage.last_index().unwrap(), storage.term(4).unwrap()), (4, 4));
}

#[test]
fn a_cut_leaves_a_tail_and_what_others_need() {
    let limits = Limits { log_entries: 20, tail_entries: 5, held_entries: 60, ..Limits::default() };
    for (applied, needed_after, first) in [(15, None, 2), (30, None, 26), (30, Some(10), 11), (80, Some(10), 76)] {
        let Disk { kv, mut storage } = Disk::with_log(100);
        let mut batch = Batch::default();
        for index in 2..=applied {
            storage.set_applied(Position { index, term: 3 }, &mut batch);
        }
        storage.compact(&limits, needed_after, &mut batch).unwrap();
        kv.write(batch, Durability::Synced).unwrap();
        for storage in [&storage, &open(&kv).unwrap()] {
            assert_eq!(storage.first_index().unwrap(), first);
            assert_eq!(storage.last_index().unwrap(), 100);
            let context = raft::GetEntriesContext::empty(false);
            assert_eq!(storage.entries(first, 101, None, context).unwrap().len() as u64, 101 - first);
        }
    }
}

#[test]
fn entries_are_read_up_to_a_size_from_disk_as_from_memory() {
    let Disk { kv, storage } = Disk::with_log(50);
    for storage in [&storage, &open(&kv).unwrap()] {
        let read = |bytes: u64| storage.entries(5, 50, bytes, raft::GetEntriesContext::empty(false)).unwrap();
        assert_eq!(read(0).len(), 1);
        assert_eq!(read(u64::MAX).len(), 45);
        let some = read(100);
        assert!((2..20).contains(&some.len()));
        assert!(some.iter().zip(5..).all(|(entry, index)| entry.index == index));
    }
}

/// These bytes are on disks. A change of them needs a new version.
#[test]
fn the_stored_bytes_stay_what_they_are() {
    let Disk { kv, .. } = Disk::with_log(2);
    let get = |table, key: &[u8]| kv.get(table, key).unwrap().unwrap();
    let log_key = [0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2];
    let entry = Bytes::from_static(b"\x01\x10\x03\x18\x02\x22\x0a\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02");
    assert_eq!(get(Table::Log, &log_key), entry);
    let system = |kind: u8| get(Table::System, &[b"raft\x01\0\0\0\x07", &[kind][..]].concat());
    assert_eq!(system(b'h'), &b"\x08\x04\x10\x02\x18\x02"[..]);
    assert_eq!(system(b'c'), &b"\x0a\x02\x01\x02"[..]);
    assert_eq!(system(b'a'), &b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01"[..]);
    assert_eq!(system(b't'), system(b'a'));
}
