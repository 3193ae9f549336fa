//! What a chunk store promises, over the memory and over the disk.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::{
    CHUNK_BYTES, ChunkOwner, Digest, PIECE_BYTES, piece_bytes, piece_crcs, piece_range, trim_range, verify_pieces,
};
use annulus_common::clock::ManualClock;
use annulus_common::ids::{BucketId, ChunkId, PartId, PartitionId, ShardId};
use annulus_common::ring::{partition_of_chunk, position_of_chunk, positions_of};
use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use proptest::prelude::any;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use super::files::disk::DiskFiles;
use super::files::memory::MemoryFiles;
use super::files::{ExtentFiles, PAGE_BYTES, Pages};
use super::record::{Entry, Location, key_of, record_bytes};
use super::{Alarms, ChunkError, ChunkInfo, ChunkStore, Execution, Usage};
use crate::kv::disk::{BlockCache, DiskKv, DiskOptions, OpenMode};
use crate::kv::memory::MemoryKv;
use crate::kv::{Batch, Durability, Kv, KvRead, Table};

mod crashes;

const OWNER: ChunkOwner = ChunkOwner { bucket: BucketId(4), shard: ShardId(2) };
const NOW_MS: u64 = 1_700_000_000_000;
const PAGE: u64 = PAGE_BYTES as u64;

/// A store, what it is made of, and what it reported.
struct Fixture {
    store: ChunkStore,
    kv: Arc<dyn Kv>,
    files: Arc<dyn ExtentFiles>,
    reported: Arc<Mutex<Vec<ChunkId>>>,
    failures: Arc<Mutex<Vec<String>>>,
}

impl Fixture {
    fn over(kv: Arc<dyn Kv>, files: Arc<dyn ExtentFiles>, execution: Execution) -> Self {
        let reported = Arc::new(Mutex::new(Vec::new()));
        let report = reported.clone();
        let clock = ManualClock::at(Duration::from_millis(NOW_MS));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let failed = failures.clone();
        let alarms = Alarms {
            on_corrupt: Arc::new(move |id| report.lock().push(id)),
            on_failed: Arc::new(move |reason| failed.lock().push(reason.to_owned())),
        };
        let store = ChunkStore::open(kv.clone(), files.clone(), clock, execution, alarms).unwrap();
        Self { store, kv, files, reported, failures }
    }

    fn in_memory(execution: Execution) -> Self {
        Self::over(Arc::new(MemoryKv::new()), Arc::new(MemoryFiles::new()), execution)
    }

    fn on_disk(path: &Path) -> Self {
        Self::on_disk_with_reserve(path, None)
    }

    fn on_disk_with_reserve(path: &Path, reserve_bytes: Option<u64>) -> Self {
        let options = DiskOptions { reserve_bytes, ..DiskOptions::chunks(BlockCache::new(1 << 20)) };
        let kv = DiskKv::open(&path.join("index"), OpenMode::Create, &options).unwrap();
        let extents = path.join("extents");
        std::fs::create_dir_all(&extents).unwrap();
        let files = DiskFiles::open(&extents, reserve_bytes).unwrap();
        Self::over(Arc::new(kv), Arc::new(files), Execution::Threads)
    }

    async fn put(&self, id: ChunkId, data: &Bytes) -> Result<(), ChunkError> {
        self.store.put(id, OWNER, piece_crcs(data), data.clone()).await
    }

    /// What a receiver makes of a read.
    async fn get(&self, id: ChunkId, range: Range<u32>) -> Result<Bytes, ChunkError> {
        let read = self.store.get(id, range.clone()).await?;
        verify_pieces(&read.data, &read.piece_crcs).unwrap();
        Ok(read.data.slice(trim_range(&range, read.pieces_from, read.length)))
    }

    /// Where a chunk lies.
    fn location(&self, id: ChunkId) -> Location {
        let value = self.kv.get(Table::ChunkIndex, &key_of(id)).unwrap().unwrap();
        Entry::decode(id, &value).unwrap().location
    }

    /// Changes one byte of a chunk's record behind the store's back.
    fn rot(&self, id: ChunkId, at: u64) {
        let Location { extent, offset } = self.location(id);
        let page_at = (offset + at) / PAGE * PAGE;
        let mut page = self.files.read(extent, page_at, PAGE_BYTES).unwrap();
        page.resize(PAGE_BYTES, 0);
        page[(at % PAGE) as usize] ^= 1;
        let mut pages = Pages::with_room(PAGE_BYTES);
        pages.push(&page);
        self.files.write(extent, page_at, &pages).unwrap();
        self.files.sync(extent).unwrap();
    }

    /// Changes one byte of a chunk's entry in the index.
    fn rot_entry(&self, id: ChunkId, at: usize) {
        let mut value = self.kv.get(Table::ChunkIndex, &key_of(id)).unwrap().unwrap().to_vec();
        value[at] ^= 1;
        let mut batch = Batch::default();
        batch.put(Table::ChunkIndex, key_of(id), value);
        self.kv.write(batch, Durability::Synced).unwrap();
    }
}

/// Runs a check over the memory, with and without threads, and over the disk.
fn everywhere(check: impl AsyncFn(&Fixture)) {
    let runtime = Runtime::new().unwrap();
    for execution in [Execution::Inline, Execution::Threads] {
        runtime.block_on(check(&Fixture::in_memory(execution)));
    }
    let directory = tempfile::tempdir().unwrap();
    runtime.block_on(check(&Fixture::on_disk(directory.path())));
}

fn id(part: u8, index: u32) -> ChunkId {
    ChunkId { part: PartId([part; 16]), index }
}

/// Bytes that differ from place to place and from seed to seed.
fn bytes(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut data = Vec::with_capacity(length + 8);
    while data.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(length);
    data.into()
}

fn is_corrupt<T>(result: &Result<T, ChunkError>) -> bool {
    matches!(result, Err(ChunkError::Corrupt { .. }))
}

#[test]
fn any_range_of_any_size_comes_back() {
    let runtime = Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let disk = Fixture::on_disk(directory.path());
    let memory = Fixture::in_memory(Execution::Inline);
    let sizes = (1..=CHUNK_BYTES, any::<u32>(), any::<u32>(), any::<[u8; 16]>());
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let check = |(length, a, b, part): (u32, u32, u32, [u8; 16])| {
        let id = ChunkId { part: PartId(part), index: a };
        let data = bytes(u64::from(b), length as usize);
        let (a, b) = (a % (length + 2), b % (length + 2));
        let range = a.min(b)..a.max(b);
        let wanted = data.slice(range.start.min(length) as usize..range.end.min(length) as usize);
        for fixture in [&disk, &memory] {
            runtime.block_on(async {
                fixture.put(id, &data).await.unwrap();
                assert_eq!(fixture.get(id, range.clone()).await.unwrap(), wanted);
                assert_eq!(fixture.get(id, 0..u32::MAX).await.unwrap(), data);
            });
        }
        Ok(())
    };
    runner.run(&sizes, check).unwrap();
}

#[test]
fn only_the_pieces_of_the_range_are_read() {
    everywhere(async |fixture| {
        let data = bytes(1, CHUNK_BYTES as usize);
        fixture.put(id(1, 0), &data).await.unwrap();
        fixture.rot(id(1, 0), PAGE + 9 * u64::from(PIECE_BYTES) + 5);
        let range = 3 * PIECE_BYTES + 7..5 * PIECE_BYTES;
        let read = fixture.store.get(id(1, 0), range.clone()).await.unwrap();
        assert_eq!((read.pieces_from, read.piece_crcs.len(), read.length), (3, 2, CHUNK_BYTES));
        let pieces = piece_bytes(&piece_range(&range, CHUNK_BYTES), CHUNK_BYTES);
        assert_eq!(read.data, data.slice(pieces.start as usize..pieces.end as usize));
    });
}

#[test]
fn a_chunk_that_is_not_there_is_not_found() {
    everywhere(async |fixture| {
        assert!(matches!(fixture.store.get(id(1, 0), 0..1).await, Err(ChunkError::NotFound { .. })));
        assert_eq!(fixture.store.stat(id(1, 0)).await.unwrap(), None);
    });
}

#[test]
fn what_did_not_arrive_intact_is_not_written() {
    everywhere(async |fixture| {
        let data = bytes(1, 300_000);
        let mut crcs = piece_crcs(&data);
        crcs[1] ^= 1;
        let too_long = bytes(2, CHUNK_BYTES as usize + 1);
        let attempts = [
            (crcs, data.clone()),
            (piece_crcs(&data[..1000]), data.clone()),
            (Vec::new(), Bytes::new()),
            (piece_crcs(&too_long), too_long),
        ];
        for (crcs, data) in attempts {
            let result = fixture.store.put(id(1, 0), OWNER, crcs, data).await;
            assert!(matches!(result, Err(ChunkError::Mismatch { .. })), "{result:?}");
        }
        assert_eq!(fixture.store.stat(id(1, 0)).await.unwrap(), None);
        assert_eq!(fixture.store.usage(), Usage::default());
    });
}

#[test]
fn the_same_chunk_again_is_success_and_another_is_a_conflict() {
    everywhere(async |fixture| {
        let (data, other) = (bytes(1, 300_000), bytes(2, 300_000));
        let (first, twin) = tokio::join!(fixture.put(id(1, 0), &data), fixture.put(id(1, 0), &data));
        first.unwrap();
        twin.unwrap();
        fixture.put(id(1, 0), &data).await.unwrap();
        assert!(matches!(fixture.put(id(1, 0), &other).await, Err(ChunkError::Conflict { .. })));
        let stranger = ChunkOwner { shard: ShardId(3), ..OWNER };
        for result in [
            fixture.store.put(id(1, 0), stranger, piece_crcs(&data), data.clone()).await,
            fixture.store.mend(id(1, 0), OWNER, piece_crcs(&other), other.clone()).await,
        ] {
            assert!(matches!(result, Err(ChunkError::Conflict { .. })), "{result:?}");
        }
        assert_eq!(fixture.get(id(1, 0), 0..CHUNK_BYTES).await.unwrap(), data);
        assert_eq!(fixture.store.usage(), Usage { chunks: 1, bytes: 300_000, ..Usage::default() });
    });
}

#[test]
fn of_two_different_chunks_at_once_one_wins() {
    everywhere(async |fixture| {
        for round in 0..16 {
            let rivals = [bytes(1, 1000), bytes(2, 1000)];
            let results = join_all(rivals.iter().map(|data| fixture.put(id(1, round), data))).await;
            let winners: Vec<_> = results.iter().zip(&rivals).filter(|(result, _)| result.is_ok()).collect();
            assert_eq!(winners.len(), 1, "{results:?}");
            assert_eq!(fixture.get(id(1, round), 0..1000).await.unwrap(), winners[0].1);
        }
    });
}

#[test]
fn rot_is_found_reported_and_mended() {
    everywhere(async |fixture| {
        let (chunk, data) = (id(1, 0), bytes(1, 600_000));
        fixture.put(chunk, &data).await.unwrap();
        // In the page (its magic, its content, its zeros), in the bytes (first, in the middle, last).
        for at in [0, 40, 2000, PAGE - 1, PAGE, PAGE + 300_070, PAGE + 599_999] {
            fixture.rot(chunk, at);
            check_mending(fixture, chunk, &data).await;
        }
        for at in [0, 3, 12] {
            fixture.rot_entry(chunk, at);
            check_mending(fixture, chunk, &data).await;
        }
        assert_eq!((fixture.store.usage().chunks, fixture.store.usage().bytes), (1, 600_000));
    });
}

async fn check_mending(fixture: &Fixture, chunk: ChunkId, data: &Bytes) {
    let reads_before = fixture.store.usage().corrupt_reads;
    assert!(is_corrupt(&fixture.get(chunk, 0..CHUNK_BYTES).await));
    assert_eq!(fixture.store.usage().corrupt_reads, reads_before + 1);
    assert_eq!(fixture.reported.lock().pop(), Some(chunk));
    fixture.store.mend(chunk, OWNER, piece_crcs(data), data.clone()).await.unwrap();
    assert_eq!(fixture.get(chunk, 0..CHUNK_BYTES).await.unwrap(), data);
}

#[test]
fn a_lost_extent_costs_its_chunks_and_nothing_else() {
    everywhere(async |fixture| {
        let data = bytes(1, 600_000);
        fixture.put(id(1, 0), &data).await.unwrap();
        fixture.files.remove(fixture.location(id(1, 0)).extent).unwrap();
        assert!(is_corrupt(&fixture.get(id(1, 0), 0..CHUNK_BYTES).await));
        assert_eq!(fixture.reported.lock().pop(), Some(id(1, 0)));
        // The extent that is appended to is gone: the first chunk finds it out, and another extent is begun.
        let _ = fixture.put(id(1, 1), &data).await;
        fixture.put(id(1, 1), &data).await.unwrap();
        fixture.store.mend(id(1, 0), OWNER, piece_crcs(&data), data.clone()).await.unwrap();
        for index in 0..2 {
            assert_eq!(fixture.get(id(1, index), 0..CHUNK_BYTES).await.unwrap(), data);
        }
        fixture.store.reclaim().await.unwrap();
        assert_eq!(fixture.store.usage(), Usage { chunks: 2, bytes: 1_200_000, removed_bytes: 0, corrupt_reads: 1 });
    });
}

#[test]
fn a_start_reports_the_chunks_of_a_lost_extent_and_no_others() {
    let (kv, files) = (Arc::new(MemoryKv::new()), Arc::new(MemoryFiles::new()));
    let start = || Fixture::over(kv.clone(), files.clone(), Execution::Inline);
    Runtime::new().unwrap().block_on(async {
        let fixture = start();
        for index in 0..3 {
            fixture.put(id(1, index), &bytes(u64::from(index), 600_000)).await.unwrap();
        }
        let Location { extent, offset } = fixture.location(id(1, 1));
        drop(fixture);
        assert_eq!(*start().reported.lock(), []);
        files.cut(extent, offset + PAGE).unwrap();
        let cut_short = start();
        let mut reported = cut_short.reported.lock().clone();
        reported.sort_unstable();
        assert_eq!(reported, [id(1, 1), id(1, 2)]);
        cut_short.put(id(2, 0), &bytes(9, 600_000)).await.unwrap();
        assert_ne!(cut_short.location(id(2, 0)).extent, extent);
        drop(cut_short);
        files.remove(extent).unwrap();
        let lost = start();
        let mut reported = lost.reported.lock().clone();
        reported.sort_unstable();
        assert_eq!(reported, [id(1, 0), id(1, 1), id(1, 2)]);
        assert_eq!(lost.store.usage().corrupt_reads, 0, "nothing was read");
    });
}

#[test]
fn an_extent_that_is_cut_short_costs_what_was_cut() {
    everywhere(async |fixture| {
        for index in 0..2 {
            fixture.put(id(1, index), &bytes(u64::from(index), 600_000)).await.unwrap();
        }
        let Location { extent, offset } = fixture.location(id(1, 1));
        fixture.files.cut(extent, offset + PAGE + 300_000).unwrap();
        assert!(is_corrupt(&fixture.get(id(1, 1), 0..CHUNK_BYTES).await));
        assert!(fixture.get(id(1, 1), 0..PIECE_BYTES).await.is_ok());
        assert_eq!(fixture.get(id(1, 0), 0..CHUNK_BYTES).await.unwrap(), bytes(0, 600_000));
    });
}

#[test]
fn deleted_chunks_are_gone_with_their_disk_space() {
    everywhere(async |fixture| {
        let ids = [id(1, 0), id(1, 1), id(2, 0)];
        for (n, &chunk) in ids.iter().enumerate() {
            fixture.put(chunk, &bytes(n as u64, 700_000)).await.unwrap();
        }
        let places = ids.map(|id| fixture.location(id));
        fixture.rot_entry(ids[1], 6);
        fixture.store.delete(vec![ids[1], ids[0], ids[0], id(9, 9)]).await.unwrap();
        for id in &ids[..2] {
            assert!(matches!(fixture.get(*id, 0..1).await, Err(ChunkError::NotFound { .. })));
        }
        assert_eq!(fixture.get(ids[2], 0..CHUNK_BYTES).await.unwrap(), bytes(2, 700_000));
        let is_hole = |place: Location| {
            let record = fixture.files.read(place.extent, place.offset, record_bytes(700_000) as usize).unwrap();
            record.iter().all(|&byte| byte == 0)
        };
        // Where the second one lay only its entry knew: that space comes back with the rest of the extent.
        assert_eq!(places.map(is_hole), [true, false, false]);
        assert_eq!((fixture.store.usage().chunks, fixture.store.usage().bytes), (1, 700_000));
        fixture.store.reclaim().await.unwrap();
        assert_eq!(fixture.get(ids[2], 0..CHUNK_BYTES).await.unwrap(), bytes(2, 700_000));
        fixture.put(ids[0], &bytes(8, 10)).await.unwrap();
        assert_eq!((fixture.store.usage().chunks, fixture.store.usage().bytes), (2, 700_010));
    });
}

/// Enough to fill some extents.
const CROWD: u32 = 140;

#[test]
fn extents_that_are_empty_go_and_nearly_empty_ones_are_emptied() {
    let runtime = Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    for fixture in [Fixture::in_memory(Execution::Threads), Fixture::on_disk(directory.path())] {
        runtime.block_on(async {
            let data = bytes(1, CHUNK_BYTES as usize);
            let ids: Vec<_> = (0..CROWD).map(|index| id(1, index)).collect();
            join_all(ids.iter().map(|&id| fixture.put(id, &data))).await.into_iter().for_each(|done| done.unwrap());
            let extent_of: Vec<u64> = ids.iter().map(|&id| fixture.location(id).extent).collect();
            let (first, last) = (extent_of[0], extent_of[CROWD as usize - 1]);
            assert_eq!(fixture.files.numbers().unwrap().len(), 3);
            // Of the first extent two chunks stay, of the second none, of the last all.
            let stay: Vec<_> = (0..CROWD as usize).filter(|&n| [0, 5].contains(&n) || extent_of[n] == last).collect();
            let go = (0..CROWD as usize).filter(|n| !stay.contains(n)).map(|n| ids[n]).collect();
            fixture.store.delete(go).await.unwrap();
            let mut left = fixture.files.numbers().unwrap();
            left.sort_unstable();
            assert_eq!(left, [first, last]);
            let usage = fixture.store.usage();
            let bytes = stay.len() as u64 * u64::from(CHUNK_BYTES);
            assert_eq!((usage.chunks, usage.bytes), (stay.len() as u64, bytes));
            assert!(usage.removed_bytes > 200 << 20, "{usage:?}");
            fixture.store.reclaim().await.unwrap();
            assert_eq!(fixture.files.numbers().unwrap(), [last]);
            assert_eq!(fixture.store.usage(), Usage { removed_bytes: 0, ..usage });
            for n in stay {
                assert_eq!(fixture.get(ids[n], 0..CHUNK_BYTES).await.unwrap(), data);
                assert_eq!(fixture.store.stat(ids[n]).await.unwrap().unwrap().created_ms, NOW_MS);
            }
        });
    }
}

#[test]
fn what_is_read_while_it_is_removed_is_there_or_not_but_never_corrupt() {
    let runtime = Runtime::new().unwrap();
    let fixture = Fixture::in_memory(Execution::Threads);
    runtime.block_on(async {
        for round in 0..400 {
            let data = bytes(1, 600_000);
            fixture.put(id(1, round), &data).await.unwrap();
            let reads = join_all((0..4).map(|_| fixture.get(id(1, round), 0..CHUNK_BYTES)));
            let (reads, removed) = tokio::join!(reads, fixture.store.delete(vec![id(1, round)]));
            removed.unwrap();
            for read in reads {
                assert!(read.is_ok_and(|read| read == data) || fixture.reported.lock().is_empty());
            }
        }
    });
    assert_eq!(fixture.store.usage().corrupt_reads, 0);
}

#[test]
fn an_extent_with_a_corrupt_chunk_is_kept_until_that_is_mended() {
    let runtime = Runtime::new().unwrap();
    let fixture = Fixture::in_memory(Execution::Threads);
    runtime.block_on(async {
        let data = bytes(1, CHUNK_BYTES as usize);
        let ids: Vec<_> = (0..CROWD / 2).map(|index| id(1, index)).collect();
        join_all(ids.iter().map(|&id| fixture.put(id, &data))).await.into_iter().for_each(|done| done.unwrap());
        let first = fixture.location(ids[0]).extent;
        let go = ids[2..].iter().filter(|&&id| fixture.location(id).extent == first).copied().collect();
        fixture.rot(ids[1], PAGE + 77);
        fixture.store.delete(go).await.unwrap();
        fixture.store.reclaim().await.unwrap();
        assert_eq!(*fixture.reported.lock(), [ids[1]]);
        assert!(fixture.files.numbers().unwrap().contains(&first));
        assert_ne!(fixture.location(ids[0]).extent, first);
        assert!(is_corrupt(&fixture.get(ids[1], 0..CHUNK_BYTES).await));
        fixture.store.mend(ids[1], OWNER, piece_crcs(&data), data.clone()).await.unwrap();
        fixture.store.reclaim().await.unwrap();
        assert!(!fixture.files.numbers().unwrap().contains(&first));
        for id in &ids[..2] {
            assert_eq!(fixture.get(*id, 0..CHUNK_BYTES).await.unwrap(), data);
        }
    });
}

#[test]
fn pages_list_every_chunk_once_in_order() {
    everywhere(async |fixture| {
        let mut ids: Vec<_> = (0..7).flat_map(|part| (0..3).map(move |index| id(part * 36, index * 200))).collect();
        join_all(ids.iter().map(|&chunk| async move { fixture.put(chunk, &bytes(1, 100)).await.unwrap() })).await;
        ids.sort_by_key(|&id| position_of_chunk(id));
        fixture.rot_entry(ids[4], 6);
        let unreadable = ids.remove(4);
        let mut listed: Vec<ChunkInfo> = Vec::new();
        loop {
            let page = fixture.store.iterate(0..=u64::MAX, listed.last().map(|info| info.id), 4).await.unwrap();
            assert!(page.len() <= 4);
            if page.is_empty() {
                break;
            }
            listed.extend(page);
        }
        assert_eq!(listed.iter().map(|info| info.id).collect::<Vec<_>>(), ids);
        assert_eq!(fixture.reported.lock().first(), Some(&unreadable));
        let data = bytes(1, 100);
        let expected =
            ChunkInfo { id: ids[0], owner: OWNER, length: 100, piece_crcs: piece_crcs(&data), created_ms: NOW_MS };
        assert_eq!(listed[0], expected);
        assert_eq!(fixture.store.stat(ids[0]).await.unwrap(), Some(expected));
    });
}

#[test]
fn a_part_of_the_ring_is_listed_and_digested_alone() {
    everywhere(async |fixture| {
        let ids: Vec<_> = (0..40).map(|index| id(1, index)).collect();
        join_all(ids.iter().map(|&chunk| async move { fixture.put(chunk, &bytes(1, 100)).await.unwrap() })).await;
        let whole = fixture.store.digest(0..=u64::MAX).await.unwrap();
        assert_eq!((whole.chunks, whole.bytes), (40, 4000));
        let mut merged = Digest::default();
        for partition in (0..7).map(PartitionId) {
            let positions = positions_of(partition, 7);
            let mut expected: Vec<_> =
                ids.iter().copied().filter(|&id| partition_of_chunk(id, 7) == partition).collect();
            expected.sort_by_key(|&id| position_of_chunk(id));
            let listed = fixture.store.iterate(positions.clone(), None, 100).await.unwrap();
            assert_eq!(listed.iter().map(|info| info.id).collect::<Vec<_>>(), expected);
            let after_others = fixture.store.iterate(positions.clone(), Some(ids[0]), 100).await.unwrap();
            assert!(after_others.iter().all(|info| expected.contains(&info.id) && info.id != ids[0]));
            merged.merge(&fixture.store.digest(positions).await.unwrap());
        }
        assert_eq!(merged, whole);
        fixture.store.delete(vec![ids[0]]).await.unwrap();
        let without = fixture.store.digest(0..=u64::MAX).await.unwrap();
        fixture.put(ids[0], &bytes(2, 100)).await.unwrap();
        let other = fixture.store.digest(0..=u64::MAX).await.unwrap();
        assert!(without != whole && other != whole && other.chunks == whole.chunks);
    });
}

#[test]
fn concurrent_puts_are_all_there_after_a_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(put_many(&Fixture::on_disk(directory.path())));
    runtime.block_on(find_many(&Fixture::on_disk(directory.path())));
}

const MANY: u32 = 60;

fn many(index: u32) -> Bytes {
    bytes(u64::from(index), (index as usize * 37_000) % (CHUNK_BYTES as usize) + 1)
}

async fn put_many(fixture: &Fixture) {
    let puts = (0..MANY).map(|index| async move { fixture.put(id(1, index), &many(index)).await });
    join_all(puts).await.into_iter().for_each(|result| result.unwrap());
}

async fn find_many(fixture: &Fixture) {
    let mut sum = 0;
    for index in 0..MANY {
        assert_eq!(fixture.get(id(1, index), 0..CHUNK_BYTES).await.unwrap(), many(index));
        sum += many(index).len() as u64;
    }
    assert_eq!(fixture.store.usage(), Usage { chunks: u64::from(MANY), bytes: sum, ..Usage::default() });
}

#[test]
fn lost_counters_are_counted_again() {
    let (kv, files) = (Arc::new(MemoryKv::new()), Arc::new(MemoryFiles::new()));
    let runtime = Runtime::new().unwrap();
    let fixture = Fixture::over(kv.clone(), files.clone(), Execution::Inline);
    runtime.block_on(async {
        fixture.put(id(1, 0), &bytes(1, 10)).await.unwrap();
        fixture.put(id(1, 1), &bytes(2, 20)).await.unwrap();
    });
    let mut batch = Batch::default();
    let row = [b"e".to_vec(), fixture.location(id(1, 0)).extent.to_be_bytes().to_vec()].concat();
    assert!(kv.get(Table::Extent, &row).unwrap().is_some());
    batch.put(Table::Extent, row, &b"?"[..]);
    kv.write(batch, Durability::Synced).unwrap();
    let fixture = Fixture::over(kv, files, Execution::Inline);
    assert_eq!(fixture.store.usage(), Usage { chunks: 2, bytes: 30, ..Usage::default() });
    runtime.block_on(async {
        fixture.put(id(1, 2), &bytes(3, 30)).await.unwrap();
        for (index, length) in [(0, 10), (1, 20), (2, 30)] {
            assert_eq!(fixture.get(id(1, index), 0..100).await.unwrap(), bytes(u64::from(index) + 1, length));
        }
    });
}

#[test]
fn a_full_disk_refuses_chunks_but_reads_and_deletes() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let fixture = Fixture::on_disk(directory.path());
    runtime.block_on(fixture.put(id(1, 0), &bytes(1, 10))).unwrap();
    drop(fixture);
    let fixture = Fixture::on_disk_with_reserve(directory.path(), Some(u64::MAX));
    runtime.block_on(async {
        let data = bytes(2, 10);
        let results = tokio::join!(fixture.put(id(1, 1), &data), fixture.put(id(1, 1), &data));
        assert!(matches!(results, (Err(ChunkError::Full), Err(ChunkError::Full))), "{results:?}");
        assert_eq!(fixture.get(id(1, 0), 0..10).await.unwrap(), bytes(1, 10));
        assert_eq!(fixture.store.usage().chunks, 1);
        fixture.store.delete(vec![id(1, 0)]).await.unwrap();
        assert_eq!(fixture.store.usage(), Usage::default());
    });
}
