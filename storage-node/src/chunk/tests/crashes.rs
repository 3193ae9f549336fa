//! What a crash may cost: nothing that was acknowledged, whatever part of the rest the disk had already.

use std::collections::BTreeMap;
use std::sync::Arc;

use annulus_common::chunk::{CHUNK_BYTES, piece_crcs};
use annulus_common::ids::ChunkId;
use annulus_common::protocol::room::RoomFor;
use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use super::{Fixture, OWNER, PAGE, bytes, find_many, id, put_many};
use crate::chunk::files::memory::MemoryFiles;
use crate::chunk::files::{ExtentFiles, PAGE_BYTES, Pages};
use crate::chunk::record::{Entry, Header, Location};
use crate::chunk::{ChunkError, Execution, Usage};
use crate::kv::memory::MemoryKv;
use crate::kv::{Batch, Checkpoint, Cursor, Durability, Kv, KvError, KvRead, Table};

/// An index whose writes fail when they are told to.
#[derive(Default)]
struct FaultyKv {
    kv: MemoryKv,
    fault: Mutex<Option<Fault>>,
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    DiskFull,
    DiskFails,
    IndexFull,
    /// The batch is not in the index.
    IndexFails,
    /// It is there all the same.
    IndexAnswers,
}

impl KvRead for FaultyKv {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.kv.get(table, key)
    }

    fn cursor<'a>(&'a self, table: Table, lower: &[u8], upper: &[u8]) -> Result<Box<dyn Cursor + 'a>, KvError> {
        self.kv.cursor(table, lower, upper)
    }
}

impl Kv for FaultyKv {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        let failed = KvError::Failed { during: "a test", reason: "told to fail".to_owned() };
        match *self.fault.lock() {
            Some(Fault::IndexFull) => return Err(KvError::Full { during: "a test" }),
            Some(Fault::IndexFails) => return Err(failed),
            _ => {}
        }
        self.kv.write(batch, durability)?;
        if *self.fault.lock() == Some(Fault::IndexAnswers) { Err(failed) } else { Ok(()) }
    }

    fn checkpoint(&self) -> Result<Box<dyn Checkpoint>, KvError> {
        self.kv.checkpoint()
    }

    fn snapshot(&self) -> Box<dyn KvRead + '_> {
        self.kv.snapshot()
    }

    fn room(&self) -> RoomFor {
        self.kv.room()
    }

    fn disk_bytes(&self, table: Table, from: &[u8], to: &[u8]) -> u64 {
        self.kv.disk_bytes(table, from, to)
    }
}

/// A machine whose power may go.
struct Machine {
    kv: Arc<FaultyKv>,
    files: Arc<MemoryFiles>,
    runtime: Runtime,
}

impl Machine {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        Self { kv: Arc::default(), files: Arc::new(MemoryFiles::new()), runtime }
    }

    fn set_fault(&self, fault: Option<Fault>) {
        self.files.set_full(fault == Some(Fault::DiskFull));
        self.files.set_failing(fault == Some(Fault::DiskFails));
        *self.kv.fault.lock() = fault;
    }

    fn start(&self) -> Fixture {
        Fixture::over(self.kv.clone(), self.files.clone(), Execution::Inline)
    }

    fn put(&self, fixture: &Fixture, id: ChunkId, data: &Bytes) {
        self.runtime.block_on(fixture.put(id, data)).unwrap();
    }

    fn get(&self, fixture: &Fixture, id: ChunkId) -> Result<Bytes, ChunkError> {
        self.runtime.block_on(fixture.get(id, 0..CHUNK_BYTES))
    }

    fn delete(&self, fixture: &Fixture, id: ChunkId) {
        self.runtime.block_on(fixture.store.delete(vec![id])).unwrap();
    }

    /// Puts a record where the next one goes, as a write that was not acknowledged leaves it.
    fn write_behind(&self, fixture: &Fixture, id: ChunkId, data: &Bytes) {
        let extent = *self.files.numbers().unwrap().iter().max().unwrap();
        let location = Location { extent, offset: self.files.length(extent).unwrap() };
        let piece_crcs = piece_crcs(data);
        let header = Header { owner: OWNER, length: data.len() as u32, piece_crcs, created_ms: 5 };
        let mut pages = Pages::with_room(2 * PAGE_BYTES + data.len());
        pages.push(&Entry { location, header }.encode_page(id).unwrap());
        pages.push(data);
        fixture.files.write(extent, location.offset, &pages).unwrap();
    }
}

#[test]
fn concurrent_puts_are_all_there_after_a_crash() {
    let (kv, files) = (Arc::new(MemoryKv::new()), Arc::new(MemoryFiles::new()));
    let runtime = Runtime::new().unwrap();
    let fixture = Fixture::over(kv.clone(), files.clone(), Execution::Threads);
    runtime.block_on(put_many(&fixture));
    drop(fixture);
    files.crash();
    kv.crash();
    runtime.block_on(find_many(&Fixture::over(kv, files, Execution::Threads)));
}

#[test]
fn an_index_that_was_lost_whole_is_made_again() {
    let machine = Machine::new();
    let fixture = machine.start();
    (0..20).for_each(|index| machine.put(&fixture, id(1, index), &bytes(u64::from(index), 300_000)));
    let usage = fixture.store.usage();
    drop(fixture);
    let machine = Machine { kv: Arc::default(), ..machine };
    let fixture = machine.start();
    assert_eq!(fixture.store.usage(), usage);
    for index in 0..20 {
        assert_eq!(machine.get(&fixture, id(1, index)).unwrap(), bytes(u64::from(index), 300_000));
    }
    assert!(fixture.reported.lock().is_empty());
}

#[test]
fn a_torn_end_is_cut_off_and_what_is_whole_behind_it_is_kept() {
    let machine = Machine::new();
    let fixture = machine.start();
    machine.put(&fixture, id(1, 0), &bytes(0, 300_000));
    let end = machine.files.length(1).unwrap();
    machine.write_behind(&fixture, id(1, 1), &bytes(1, 300_000));
    machine.write_behind(&fixture, id(1, 2), &bytes(2, 300_000));
    machine.write_behind(&fixture, id(1, 3), &bytes(3, 300_000));
    let whole = end + 2 * (PAGE + 300_000_u64.next_multiple_of(PAGE));
    drop(fixture);
    // Of the first record a page of the bytes is missing, of the third its own page; the second is whole.
    let mut page = 0;
    let (torn, headless) = (5, (whole - end) / PAGE);
    machine.files.crash_keeping(|| {
        page += 1;
        page - 1 != torn && page - 1 != headless
    });
    machine.kv.kv.crash();
    let fixture = machine.start();
    assert_eq!(machine.get(&fixture, id(1, 0)).unwrap(), bytes(0, 300_000));
    assert!(matches!(machine.get(&fixture, id(1, 1)), Err(ChunkError::NotFound { .. })));
    assert_eq!(machine.get(&fixture, id(1, 2)).unwrap(), bytes(2, 300_000));
    assert!(matches!(machine.get(&fixture, id(1, 3)), Err(ChunkError::NotFound { .. })));
    assert_eq!(machine.files.length(1).unwrap(), whole);
    assert_eq!(fixture.store.usage(), Usage { chunks: 2, bytes: 600_000, ..Usage::default() });
    // The same extent goes on where it was cut.
    machine.put(&fixture, id(1, 1), &bytes(1, 300_000));
    assert_eq!(fixture.location(id(1, 1)), Location { extent: 1, offset: whole });
}

#[test]
fn what_was_removed_stays_removed_though_its_bytes_are_there() {
    let machine = Machine::new();
    let fixture = machine.start();
    machine.put(&fixture, id(1, 0), &bytes(0, 300_000));
    machine.put(&fixture, id(1, 1), &bytes(1, 300_000));
    let length = machine.files.length(1).unwrap() as usize;
    let before = machine.files.read(1, 0, length).unwrap();
    machine.delete(&fixture, id(1, 0));
    machine.put(&fixture, id(1, 2), &bytes(2, 300_000));
    // A disk that made no hole.
    let mut pages = Pages::with_room(length);
    pages.push(&before);
    machine.files.write(1, 0, &pages).unwrap();
    machine.files.sync(1).unwrap();
    drop(fixture);
    machine.kv.kv.crash();
    machine.files.crash();
    let fixture = machine.start();
    assert!(matches!(machine.get(&fixture, id(1, 0)), Err(ChunkError::NotFound { .. })));
    assert_eq!(machine.get(&fixture, id(1, 1)).unwrap(), bytes(1, 300_000));
    assert_eq!(machine.get(&fixture, id(1, 2)).unwrap(), bytes(2, 300_000));
    assert_eq!(fixture.store.usage(), Usage { chunks: 2, bytes: 600_000, ..fixture.store.usage() });
}

#[test]
fn a_write_that_failed_never_appears_once_its_chunk_was_removed() {
    for fault in [Fault::DiskFull, Fault::DiskFails, Fault::IndexFull] {
        let machine = Machine::new();
        let fixture = machine.start();
        machine.put(&fixture, id(1, 0), &bytes(0, 300_000));
        machine.set_fault(Some(fault));
        let refused = machine.runtime.block_on(fixture.put(id(1, 1), &bytes(1, 300_000)));
        assert_eq!(matches!(refused, Err(ChunkError::Full)), fault != Fault::DiskFails, "{refused:?}");
        machine.set_fault(None);
        machine.delete(&fixture, id(1, 1));
        drop(fixture);
        machine.kv.kv.crash();
        // Every page that was written got there in the end.
        machine.files.crash_keeping(|| true);
        let fixture = machine.start();
        assert!(matches!(machine.get(&fixture, id(1, 1)), Err(ChunkError::NotFound { .. })));
        machine.put(&fixture, id(1, 2), &bytes(2, 300_000));
        for index in [0, 2] {
            assert_eq!(machine.get(&fixture, id(1, index)).unwrap(), bytes(u64::from(index), 300_000));
        }
        assert_eq!((fixture.store.usage().chunks, fixture.store.usage().bytes), (2, 600_000));
    }
}

#[test]
fn an_index_that_failed_takes_nothing_until_the_next_start() {
    for fault in [Fault::IndexFails, Fault::IndexAnswers] {
        let machine = Machine::new();
        let fixture = machine.start();
        machine.put(&fixture, id(1, 0), &bytes(0, 300_000));
        machine.set_fault(Some(fault));
        assert!(machine.runtime.block_on(fixture.put(id(1, 1), &bytes(1, 300_000))).is_err());
        assert_eq!(fixture.failures.lock().len(), 1, "the node is told to end");
        machine.set_fault(None);
        assert!(machine.runtime.block_on(fixture.put(id(1, 2), &bytes(2, 300_000))).is_err());
        assert!(machine.runtime.block_on(fixture.store.delete(vec![id(1, 0)])).is_err());
        assert_eq!(machine.get(&fixture, id(1, 0)).unwrap(), bytes(0, 300_000));
        drop(fixture);
        let fixture = machine.start();
        // What was on its way is whole: it was synced before the index was asked.
        for index in [0, 1] {
            assert_eq!(machine.get(&fixture, id(1, index)).unwrap(), bytes(u64::from(index), 300_000));
        }
        assert!(matches!(machine.get(&fixture, id(1, 2)), Err(ChunkError::NotFound { .. })));
        assert_eq!((fixture.store.usage().chunks, fixture.store.usage().bytes), (2, 600_000));
    }
}

#[test]
fn a_page_in_a_chunks_bytes_is_never_taken_for_a_record() {
    let machine = Machine::new();
    let fixture = machine.start();
    machine.put(&fixture, id(1, 0), &bytes(0, 300_000));
    // The bytes of an object that hold the whole record of another: who can read their disk can make such an object.
    machine.put(&fixture, id(1, 1), &bytes(1, 5000));
    let Location { extent, offset } = fixture.location(id(1, 1));
    let record = machine.files.read(extent, offset, 3 * PAGE_BYTES).unwrap();
    machine.delete(&fixture, id(1, 1));
    let bait: Bytes = [record, vec![7; 3 * PAGE_BYTES]].concat().into();
    machine.write_behind(&fixture, id(1, 2), &bait);
    let torn_at = 5;
    drop(fixture);
    let mut page = 0;
    machine.files.crash_keeping(|| {
        page += 1;
        page - 1 != torn_at
    });
    machine.kv.kv.crash();
    let fixture = machine.start();
    assert_eq!(fixture.store.usage(), Usage { chunks: 1, bytes: 300_000, ..Usage::default() });
    assert_eq!(machine.get(&fixture, id(1, 0)).unwrap(), bytes(0, 300_000));
}

/// What happens to a store.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u8, u8),
    Mend(u8),
    Delete(u8),
    /// An index write that somebody synced.
    SyncIndex,
    Reclaim,
    /// The process ends; the machine stays.
    Restart,
    /// Something goes wrong for one put.
    Refuse(u8, Fault),
    /// Power goes, with a write on the way: whether each page got there follows from the number.
    Crash(u8, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12_u8, any::<u8>()).prop_map(|(chunk, size)| Step::Put(chunk, size)),
        1 => (0..12_u8).prop_map(Step::Mend),
        2 => (0..12_u8).prop_map(Step::Delete),
        1 => Just(Step::SyncIndex),
        1 => Just(Step::Reclaim),
        1 => Just(Step::Restart),
        1 => (0..12_u8, fault()).prop_map(|(chunk, fault)| Step::Refuse(chunk, fault)),
        1 => (0..12_u8, any::<u64>()).prop_map(|(chunk, seed)| Step::Crash(chunk, seed)),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let all = [Fault::DiskFull, Fault::DiskFails, Fault::IndexFull, Fault::IndexFails, Fault::IndexAnswers];
    proptest::sample::select(all.to_vec())
}

/// Whatever happens in whatever order: what was acknowledged is there, what was removed is not, and the counters agree.
#[test]
fn any_history_with_crashes_keeps_what_was_acknowledged() {
    let mut runner = TestRunner::new(Config { cases: 96, failure_persistence: None, ..Config::default() });
    let histories = proptest::collection::vec(step(), 1..60);
    let check = |history: Vec<Step>| {
        check_history(&history);
        Ok(())
    };
    runner.run(&histories, check).unwrap();
}

fn check_history(history: &[Step]) {
    let machine = Machine::new();
    let mut fixture = machine.start();
    // Id and bytes of what must be there. An id never comes back with other bytes, so each removal ends a life.
    let mut expected: BTreeMap<ChunkId, Bytes> = BTreeMap::new();
    let mut lives = [0_u32; 12];
    let chunk = |lives: &[u32; 12], place: u8| id(place, lives[place as usize]);
    for &step in history {
        match step {
            Step::Put(place, size) => {
                let id = chunk(&lives, place);
                let data = expected.get(&id).cloned().unwrap_or_else(|| data_of(id, size));
                machine.put(&fixture, id, &data);
                expected.insert(id, data);
            }
            Step::Mend(place) => {
                let id = chunk(&lives, place);
                let Some(data) = expected.get(&id).cloned() else { continue };
                machine.runtime.block_on(fixture.store.mend(id, OWNER, piece_crcs(&data), data)).unwrap();
            }
            Step::Delete(place) => {
                let id = chunk(&lives, place);
                machine.delete(&fixture, id);
                expected.remove(&id);
                lives[place as usize] += 1;
            }
            Step::SyncIndex => machine.kv.write(Batch::default(), Durability::Synced).unwrap(),
            Step::Reclaim => machine.runtime.block_on(fixture.store.reclaim()).unwrap(),
            Step::Restart => {
                drop(fixture);
                fixture = machine.start();
            }
            Step::Refuse(place, fault) => {
                let id = chunk(&lives, place);
                if expected.contains_key(&id) {
                    continue;
                }
                machine.set_fault(Some(fault));
                assert!(machine.runtime.block_on(fixture.put(id, &data_of(id, 9))).is_err());
                machine.set_fault(None);
                if matches!(fault, Fault::IndexFails | Fault::IndexAnswers) {
                    drop(fixture);
                    fixture = machine.start();
                }
                // Nobody knows whether it is there; a removal says that it is not.
                machine.delete(&fixture, id);
                lives[place as usize] += 1;
            }
            Step::Crash(place, seed) => {
                let id = chunk(&lives, place);
                // A chunk that is being written when it happens: there or not, but whole.
                if !expected.contains_key(&id) && !machine.files.numbers().unwrap().is_empty() {
                    machine.write_behind(&fixture, id, &data_of(id, 3));
                }
                drop(fixture);
                let mut state = seed | 1;
                machine.files.crash_keeping(|| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state.is_multiple_of(8) || seed.is_multiple_of(3)
                });
                machine.kv.kv.crash();
                fixture = machine.start();
                if let Ok(data) = machine.get(&fixture, id) {
                    assert_eq!(data, expected.get(&id).cloned().unwrap_or_else(|| data_of(id, 3)));
                    expected.insert(id, data);
                }
            }
        }
    }
    check_state(&machine, &fixture, &expected);
}

fn data_of(id: ChunkId, size: u8) -> Bytes {
    bytes(u64::from(id.part.0[0]) << 32 | u64::from(id.index), usize::from(size) * 1500 + 1)
}

fn check_state(machine: &Machine, fixture: &Fixture, expected: &BTreeMap<ChunkId, Bytes>) {
    for (&id, data) in expected {
        assert_eq!(machine.get(fixture, id).unwrap(), data);
    }
    let listed = machine.runtime.block_on(fixture.store.iterate(0..=u64::MAX, None, 1000)).unwrap();
    let mut listed: Vec<_> = listed.iter().map(|info| info.id).collect();
    listed.sort_unstable();
    assert_eq!(listed, expected.keys().copied().collect::<Vec<_>>());
    let usage = fixture.store.usage();
    let bytes: u64 = expected.values().map(|data| data.len() as u64).sum();
    assert_eq!((usage.chunks, usage.bytes), (expected.len() as u64, bytes));
    assert!(fixture.reported.lock().is_empty());
    assert_no_overlap(fixture, expected);
}

/// Each chunk has a place of its own.
fn assert_no_overlap(fixture: &Fixture, expected: &BTreeMap<ChunkId, Bytes>) {
    let places = expected.keys().map(|&id| {
        let value = fixture.kv.get(Table::ChunkIndex, &super::key_of(id)).unwrap().unwrap();
        let entry = Entry::decode(id, &value).unwrap();
        (entry.location.extent, entry.extent_bytes())
    });
    let mut places: Vec<_> = places.collect();
    places.sort_by_key(|(extent, range)| (*extent, range.start));
    for pair in places.windows(2) {
        assert!(pair[0].0 < pair[1].0 || pair[0].1.end <= pair[1].1.start, "{pair:?}");
    }
}
