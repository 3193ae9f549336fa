//! What only a disk can do: keep, lose, be damaged, be full, be somebody else's.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annulus_common::protocol::room::RoomFor;
use bytes::Bytes;

use super::tombstones::Met;
use super::{BlockCache, DiskKv, DiskOptions, OpenMode, disk_space, unflushed_bytes};
use crate::kv::{Batch, Durability, Kv, KvError, KvRead, Table};

fn options() -> DiskOptions {
    DiskOptions::metadata(BlockCache::new(1 << 20))
}

fn open(path: &Path) -> DiskKv {
    DiskKv::open(path, OpenMode::Create, &options()).unwrap()
}

fn refused(path: &Path, mode: OpenMode) -> KvError {
    match DiskKv::open(path, mode, &options()) {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

fn put(kv: &DiskKv, key: &str, value: &[u8], durability: Durability) -> Result<(), KvError> {
    let mut batch = Batch::default();
    batch.put(Table::Meta, key.as_bytes().to_vec(), value.to_vec());
    kv.write(batch, durability)
}

/// The files of a database as a machine that loses power would leave them, given that all reached the disk.
fn copy_of(path: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|file| file.is_file()) {
        fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    copy
}

/// Brings what was written from the log into the files of the tree.
fn compact(kv: &DiskKv) {
    kv.db.compact_range_cf(kv.family(Table::Meta).unwrap(), Some(b""), Some(b"z"));
}

fn files(path: &Path, extension: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|end| end == extension)).collect()
}

fn flip(file: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x20], at).unwrap();
}

#[test]
fn writes_are_there_after_a_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    put(&kv, "small", b"1", Durability::Synced).unwrap();
    put(&kv, "large", &[3; 10_000], Durability::Buffered).unwrap();
    drop(kv);
    let kv = DiskKv::open(directory.path(), OpenMode::Existing, &options()).unwrap();
    assert_eq!(kv.get(Table::Meta, b"small").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(kv.get(Table::Meta, b"large").unwrap().as_deref(), Some(&[3; 10_000][..]));
}

#[test]
fn a_crash_keeps_synced_writes_and_drops_only_the_torn_end() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    put(&kv, "a", &[1; 3000], Durability::Synced).unwrap();
    put(&kv, "b", &[2; 3000], Durability::Buffered).unwrap();
    let crashed = copy_of(directory.path());
    let log = files(crashed.path(), "log").pop().unwrap();
    let length = fs::metadata(&log).unwrap().len();
    OpenOptions::new().write(true).open(&log).unwrap().set_len(length - 100).unwrap();
    let kv = DiskKv::open(crashed.path(), OpenMode::Existing, &options()).unwrap();
    assert_eq!(kv.get(Table::Meta, b"a").unwrap().as_deref(), Some(&[1; 3000][..]));
    assert_eq!(kv.get(Table::Meta, b"b").unwrap(), None);
    put(&kv, "b", b"again", Durability::Synced).unwrap();
}

#[test]
fn damage_within_the_log_of_writes_refuses_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    put(&kv, "a", &[1; 3000], Durability::Synced).unwrap();
    put(&kv, "b", &[2; 3000], Durability::Synced).unwrap();
    let crashed = copy_of(directory.path());
    let log = files(crashed.path(), "log").pop().unwrap();
    let length = fs::metadata(&log).unwrap().len();
    for at in [100, length / 2, length - 1] {
        flip(&log, at);
        let error = refused(crashed.path(), OpenMode::Existing);
        assert!(matches!(error, KvError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(log.to_str().unwrap()), "{error}");
        flip(&log, at);
    }
    DiskKv::open(crashed.path(), OpenMode::Existing, &options()).unwrap();
}

#[test]
fn damage_in_a_table_is_an_error_when_it_is_read_and_the_operator_is_told_where() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    put(&kv, "small", &[1; 1000], Durability::Synced).unwrap();
    put(&kv, "large", &[2; 10_000], Durability::Synced).unwrap();
    compact(&kv);
    drop(kv);
    let reads = |key: &str| {
        let kv = DiskKv::open(directory.path(), OpenMode::Existing, &options()).unwrap();
        kv.get(Table::Meta, key.as_bytes())
    };
    // The engine does not say in which file values are damaged.
    let is_told = |error: KvError| {
        let text = error.to_string();
        matches!(error, KvError::Corrupt { .. }) && text.contains(directory.path().to_str().unwrap())
    };
    files(directory.path(), "blob").iter().for_each(|file| flip(file, 5000));
    assert!(is_told(reads("large").unwrap_err()));
    assert!(reads("small").unwrap().is_some());
    files(directory.path(), "sst").iter().for_each(|file| flip(file, 10));
    assert!(is_told(reads("small").unwrap_err()));
    let kv = DiskKv::open(directory.path(), OpenMode::Existing, &options()).unwrap();
    let mut cursor = kv.cursor(Table::Meta, b"", b"z").unwrap();
    assert!(is_told(cursor.seek(b"").unwrap_err()));
}

/// Reads everything from the disk.
fn verify(kv: &DiskKv) -> Result<(), KvError> {
    let checkpoint = kv.checkpoint()?;
    for &table in options().tables {
        assert_eq!(checkpoint.verify(table, b"", usize::MAX)?, None);
    }
    Ok(())
}

/// The operator is told which file it is: the database's own, not a link to it.
#[track_caller]
fn finds_damage_in(kv: &DiskKv, file: &Path) {
    let Err(error @ KvError::Corrupt { .. }) = verify(kv) else { panic!("{} is not found", file.display()) };
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    assert_eq!(fs::read_dir(kv.db.path().join("checkpoints")).unwrap().count(), 0);
}

#[test]
fn damage_on_the_disk_is_found_although_the_engine_has_it_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    put(&kv, "small", &[1; 1000], Durability::Synced).unwrap();
    put(&kv, "large", &[2; 10_000], Durability::Synced).unwrap();
    compact(&kv);
    let reads = || kv.get(Table::Meta, b"small").unwrap().as_deref() == Some(&[1; 1000][..]);
    assert!(reads());
    verify(&kv).unwrap();
    let one =
        |extension| files(directory.path(), extension).into_iter().max_by_key(|file| fs::metadata(file).unwrap().len());
    let current = directory.path().join("CURRENT");
    let manifest = directory.path().join(fs::read_to_string(&current).unwrap().trim_end());
    for (file, at) in [(one("sst").unwrap(), 10), (manifest, 100), (current, 12)] {
        flip(&file, at);
        finds_damage_in(&kv, &file);
        assert!(reads(), "it is still in memory");
        flip(&file, at);
        verify(&kv).unwrap();
    }
    // The engine does not say which blob file it is.
    flip(&one("blob").unwrap(), 5000);
    finds_damage_in(&kv, directory.path());
}

#[test]
fn a_log_that_rots_is_replaced_when_the_files_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    put(&kv, "a", &[1; 3000], Durability::Synced).unwrap();
    files(directory.path(), "log").iter().for_each(|log| flip(log, 100));
    verify(&kv).unwrap();
    let crashed = copy_of(directory.path());
    let kv = DiskKv::open(crashed.path(), OpenMode::Existing, &options()).unwrap();
    assert_eq!(kv.get(Table::Meta, b"a").unwrap().as_deref(), Some(&[1; 3000][..]));
}

/// A checkpoint that is made amid writes must not look damaged: the node would end.
#[test]
fn checkpoints_are_whole_while_writes_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    let done = AtomicBool::new(false);
    let write = |name: &str| {
        for number in (0u64..).take_while(|_| !done.load(Ordering::Relaxed)) {
            let size = if number % 50 == 0 { 3 << 20 } else { 1 + (number as usize * 37) % 5000 };
            let durability = if number % 3 == 0 { Durability::Synced } else { Durability::Buffered };
            put(&kv, &format!("{name}-{}", number % 300), &vec![number as u8; size], durability).unwrap();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| write("one"));
        scope.spawn(|| write("another"));
        let checked = (0..30).try_for_each(|_| verify(&kv));
        done.store(true, Ordering::Relaxed);
        checked.unwrap();
    });
}

#[test]
fn checkpoints_that_a_crash_left_behind_go_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    put(&kv, "a", b"1", Durability::Synced).unwrap();
    let checkpoints = directory.path().join("checkpoints");
    let checkpoint = kv.checkpoint().unwrap();
    put(&kv, "a", b"2", Durability::Synced).unwrap();
    let left = tempfile::tempdir_in(directory.path()).unwrap();
    for entry in fs::read_dir(checkpoints.join("0")).unwrap() {
        let file = entry.unwrap().path();
        fs::hard_link(&file, left.path().join(file.file_name().unwrap())).unwrap();
    }
    drop(checkpoint);
    assert_eq!(fs::read_dir(&checkpoints).unwrap().count(), 0);
    drop(kv);
    fs::rename(left.keep(), checkpoints.join("0")).unwrap();
    fs::create_dir(checkpoints.join("1.tmp")).unwrap();
    let kv = DiskKv::open(directory.path(), OpenMode::Existing, &options()).unwrap();
    assert!(!checkpoints.exists());
    assert_eq!(kv.get(Table::Meta, b"a").unwrap().as_deref(), Some(&b"2"[..]));
    verify(&kv).unwrap();
}

#[test]
fn a_damaged_or_missing_file_of_the_tree_refuses_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    put(&kv, "a", &[1; 1000], Durability::Synced).unwrap();
    compact(&kv);
    drop(kv);
    let table = files(directory.path(), "sst").pop().unwrap();
    let saved = fs::read(&table).unwrap();
    fs::remove_file(&table).unwrap();
    let error = refused(directory.path(), OpenMode::Existing);
    assert!(error.to_string().contains(directory.path().to_str().unwrap()), "{error}");
    fs::write(&table, saved).unwrap();

    let current = directory.path().join("CURRENT");
    fs::remove_file(&current).unwrap();
    let error = refused(directory.path(), OpenMode::Create);
    assert!(matches!(&error, KvError::Corrupt { reason, .. } if reason.contains("CURRENT")), "{error}");
}

/// No further write is needed for it: a walk that steps over them is.
#[test]
fn walks_do_not_step_over_what_was_deleted_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    let key = |number: u32| Bytes::from(format!("key-{number:05}"));
    let mut batch = Batch::default();
    (0..20_000).for_each(|number| batch.put(Table::Meta, key(number), &b"1"[..]));
    (0..20_000).filter(|number| number % 1_000 > 0).for_each(|number| batch.delete(Table::Meta, key(number)));
    kv.write(batch, Durability::Synced).unwrap();
    let walk = || {
        let met = Met::none();
        let mut cursor = kv.cursor(Table::Meta, b"", b"z").unwrap();
        cursor.seek(b"").unwrap();
        let mut entries = 0;
        while cursor.entry().is_some() {
            entries += 1;
            cursor.next().unwrap();
        }
        (entries, met.count())
    };
    assert_eq!(walk(), (20, 19_980));
    let begun = Instant::now();
    while walk() != (20, 0) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", walk());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_existing_database_is_never_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kv");
    let error = refused(&path, OpenMode::Existing);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(!path.exists());
}

#[test]
fn a_database_serves_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    put(&kv, "a", &[1; 3000], Durability::Synced).unwrap();
    // To a second process a record that is being written looks torn. It is not its to cut.
    let log = files(directory.path(), "log").pop().unwrap();
    let length = fs::metadata(&log).unwrap().len() + 3;
    OpenOptions::new().write(true).open(&log).unwrap().set_len(length).unwrap();
    assert!(refused(directory.path(), OpenMode::Existing).to_string().contains("in use by another process"));
    assert_eq!(fs::metadata(&log).unwrap().len(), length);
    let checkpoint = kv.checkpoint().unwrap();
    assert!(refused(directory.path(), OpenMode::Existing).to_string().contains("in use by another process"));
    assert_eq!(checkpoint.verify(Table::Meta, b"", 1 << 20).unwrap(), None);
    drop(kv);
    assert!(refused(directory.path(), OpenMode::Existing).to_string().contains("in use"), "its files are still read");
    drop(checkpoint);
    open(directory.path());
}

#[test]
fn a_table_it_was_not_opened_with_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    assert!(matches!(kv.get(Table::ChunkIndex, b"a"), Err(KvError::Failed { .. })));
}

#[test]
fn the_reserve_stops_writes_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    put(&kv, "a", b"1", Durability::Synced).unwrap();
    put(&kv, "b", b"1", Durability::Synced).unwrap();
    drop(kv);
    let full = DiskOptions { reserve_bytes: Some(u64::MAX), ..options() };
    let kv = DiskKv::open(directory.path(), OpenMode::Existing, &full).unwrap();
    assert!(matches!(put(&kv, "c", b"1", Durability::Synced), Err(KvError::Full { .. })));
    assert_eq!(kv.get(Table::Meta, b"a").unwrap().as_deref(), Some(&b"1"[..]));
    let mut batch = Batch::default();
    batch.delete(Table::Meta, &b"a"[..]);
    batch.delete_range(Table::Meta, &b"b"[..], &b"c"[..]);
    batch.put(Table::Meta, &b"counter"[..], &b"0"[..]);
    kv.write(batch, Durability::Synced).unwrap();
    assert_eq!(kv.get(Table::Meta, b"a").unwrap(), None);
    compact(&kv);
}

#[test]
fn there_is_no_room_for_what_grows_long_before_writes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let available_bytes = disk_space(directory.path()).unwrap().available_bytes;
    let with_reserve = |times: u64| {
        let reserve_bytes = Some(available_bytes.saturating_mul(times));
        DiskKv::open(directory.path(), OpenMode::Create, &DiskOptions { reserve_bytes, ..options() }).unwrap()
    };
    let kv = with_reserve(5);
    assert_eq!(kv.room(), RoomFor::Release);
    put(&kv, "a", b"1", Durability::Synced).unwrap();
    drop(kv);
    assert_eq!(with_reserve(3).room(), RoomFor::Markers);
    let kv = with_reserve(64);
    assert!(matches!(put(&kv, "b", b"1", Durability::Synced), Err(KvError::Full { .. })));
    drop(kv);
    assert_eq!(with_reserve(0).room(), RoomFor::Growth);
}

/// A node that is started again flushes what its log of writes holds: that space is spoken for.
#[test]
fn what_memory_holds_counts_until_it_is_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let kv = open(directory.path());
    for number in 0..500 {
        put(&kv, &format!("key-{number}"), &[7; 10_000], Durability::Buffered).unwrap();
    }
    assert!(unflushed_bytes(&kv.db) >= 5_000_000);
    kv.db.flush_cf(kv.family(Table::Meta).unwrap()).unwrap();
    assert!(unflushed_bytes(&kv.db) < 1_000_000);
}

/// Tombstones in memory free nothing: whoever asks for room has them brought to where compactions meet them.
#[test]
fn what_was_deleted_leaves_a_disk_without_room() {
    const OBJECTS: usize = 6_000;
    let directory = tempfile::tempdir().unwrap();
    let reserve_bytes = Some(disk_space(directory.path()).unwrap().available_bytes.saturating_mul(5));
    let kv = DiskKv::open(directory.path(), OpenMode::Create, &DiskOptions { reserve_bytes, ..options() }).unwrap();
    let key = |number: usize| format!("key-{number:05}");
    for number in 0..OBJECTS {
        put(&kv, &key(number), &[7; 3_000], Durability::Buffered).unwrap();
    }
    compact(&kv);
    let held = || files(directory.path(), "blob").iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>();
    assert!(held() > 16 << 20);
    let mut batch = Batch::default();
    (0..OBJECTS).for_each(|number| batch.delete(Table::Meta, key(number).into_bytes()));
    kv.write(batch, Durability::Synced).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while held() > 0 {
        assert!(Instant::now() < deadline, "{} bytes are held", held());
        assert_eq!(kv.room(), RoomFor::Release);
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn checksums_are_computed_in_hardware() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let log = fs::read_to_string(directory.path().join("LOG")).unwrap();
    assert!(log.contains("Fast CRC32 supported: Supported"));
}
