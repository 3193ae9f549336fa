//! What every `Kv` promises, as functions that both implementations pass.
//!
//! Durability after a reopen belongs to the disk and is tested there; so is everything about errors.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use proptest::prelude::{Strategy, any};
use proptest::prop_oneof;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::disk::{BlockCache, DiskKv, DiskOptions, OpenMode};
use super::memory::MemoryKv;
use super::{Batch, Cursor, Durability, Kv, KvRead, Op, Table};

const LOW: &[u8] = b"";
const HIGH: &[u8] = &[0xff; 8];

/// Tables that every database under test has.
const TABLES: [Table; 2] = [Table::Meta, Table::Log];

#[test]
fn memory_conforms() {
    check_all(|check| check(&MemoryKv::new()));
}

#[test]
fn disk_conforms() {
    check_all(|check| {
        let directory = tempfile::tempdir().unwrap();
        let options = DiskOptions::metadata(BlockCache::new(1 << 20));
        check(&DiskKv::open(directory.path(), OpenMode::Create, &options).unwrap());
    });
}

type Check = fn(&dyn Kv);

/// Runs every check against a database of its own.
fn check_all(with_kv: impl Fn(Check)) {
    let checks: [Check; 10] = [
        reads_what_was_written,
        keeps_tables_apart,
        applies_a_batch_in_order,
        deletes_ranges,
        walks_in_order_within_bounds,
        seeks_before,
        isolates_snapshots,
        isolates_cursors,
        verifies_everything_in_steps,
        behaves_like_a_map,
    ];
    checks.into_iter().for_each(with_kv);
}

fn verifies_everything_in_steps(kv: &dyn Kv) {
    for key in [b"a", b"b", b"c"] {
        put(kv, key, &[7; 100]);
    }
    let checkpoint = kv.checkpoint().unwrap();
    put(kv, b"d", &[7; 100]);
    let verify = |table, from: &[u8], bytes_max| checkpoint.verify(table, from, bytes_max).unwrap();
    assert_eq!(verify(Table::Meta, b"", 1_000), None);
    assert_eq!(verify(Table::Meta, b"", 1).as_deref(), Some(&b"b"[..]));
    assert_eq!(verify(Table::Meta, b"b", 101).as_deref(), Some(&b"c"[..]));
    assert_eq!(verify(Table::Meta, b"c", 1), None, "it is of the moment when it was made");
    assert_eq!(verify(Table::Log, b"", 1), None);
    let later = kv.checkpoint().unwrap();
    assert_eq!(later.verify(Table::Meta, b"c", 1).unwrap().as_deref(), Some(&b"d"[..]));
}

fn reads_what_was_written(kv: &dyn Kv) {
    assert_eq!(kv.get(Table::Meta, b"a").unwrap(), None);
    put(kv, b"a", b"1");
    assert_eq!(kv.get(Table::Meta, b"a").unwrap().as_deref(), Some(&b"1"[..]));
    put(kv, b"a", b"");
    assert_eq!(kv.get(Table::Meta, b"a").unwrap().as_deref(), Some(&b""[..]));
    let large = vec![7; 100_000];
    put(kv, b"large", &large);
    assert_eq!(kv.get(Table::Meta, b"large").unwrap().as_deref(), Some(&large[..]));
    kv.write(Batch::default(), Durability::Synced).unwrap();
}

fn keeps_tables_apart(kv: &dyn Kv) {
    put(kv, b"a", b"meta");
    assert_eq!(kv.get(Table::Log, b"a").unwrap(), None);
    assert_eq!(walk(kv, Table::Log, LOW, HIGH), []);
}

fn applies_a_batch_in_order(kv: &dyn Kv) {
    let mut batch = Batch::default();
    batch.put(Table::Meta, &b"a"[..], &b"1"[..]);
    batch.put(Table::Meta, &b"b"[..], &b"1"[..]);
    batch.delete(Table::Meta, &b"a"[..]);
    batch.delete_range(Table::Meta, &b"b"[..], &b"c"[..]);
    batch.put(Table::Meta, &b"b"[..], &b"2"[..]);
    batch.delete(Table::Meta, &b"never there"[..]);
    kv.write(batch, Durability::Synced).unwrap();
    assert_eq!(walk(kv, Table::Meta, LOW, HIGH), pairs(&[("b", "2")]));
}

fn deletes_ranges(kv: &dyn Kv) {
    ["a", "b", "c", "d"].iter().for_each(|key| put(kv, key.as_bytes(), b"1"));
    let mut batch = Batch::default();
    batch.delete_range(Table::Meta, &b"b"[..], &b"d"[..]);
    batch.delete_range(Table::Meta, &b"z"[..], &b"a"[..]); // crossed: nothing
    batch.delete_range(Table::Meta, &b"a"[..], &b"a"[..]); // empty: nothing
    kv.write(batch, Durability::Buffered).unwrap();
    assert_eq!(walk(kv, Table::Meta, LOW, HIGH), pairs(&[("a", "1"), ("d", "1")]));
}

fn walks_in_order_within_bounds(kv: &dyn Kv) {
    for key in ["d", "b", "a", "c", "b\0", "\u{0}"] {
        put(kv, key.as_bytes(), b"1");
    }
    let keys = |lower: &str, upper: &str| -> Vec<String> {
        let entries = walk(kv, Table::Meta, lower.as_bytes(), upper.as_bytes());
        entries.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
    };
    assert_eq!(keys("", "z"), ["\0", "a", "b", "b\0", "c", "d"]);
    assert_eq!(keys("a", "c"), ["a", "b", "b\0"]);
    assert_eq!(keys("aa", "b\0"), ["b"]);
    assert!(keys("x", "z").is_empty());
    assert!(keys("c", "a").is_empty());
    assert!(keys("a", "a").is_empty());

    let mut cursor = kv.cursor(Table::Meta, b"b", b"d").unwrap();
    assert_eq!(cursor.entry(), None);
    cursor.next().unwrap();
    assert_eq!(cursor.entry(), None);
    cursor.seek(b"").unwrap();
    assert_eq!(key_at(&*cursor), Some(&b"b"[..]));
    cursor.seek(b"bb").unwrap();
    assert_eq!(key_at(&*cursor), Some(&b"c"[..]));
    cursor.next().unwrap();
    assert_eq!(cursor.entry(), None);
    cursor.next().unwrap();
    assert_eq!(cursor.entry(), None);
    cursor.seek(b"d").unwrap();
    assert_eq!(cursor.entry(), None);
    cursor.seek(b"b").unwrap();
    assert_eq!(key_at(&*cursor), Some(&b"b"[..]));
}

fn seeks_before(kv: &dyn Kv) {
    ["a", "b", "c"].iter().for_each(|key| put(kv, key.as_bytes(), b"1"));
    let mut cursor = kv.cursor(Table::Meta, b"b", b"c").unwrap();
    cursor.seek_before(b"zz").unwrap();
    assert_eq!(key_at(&*cursor), Some(&b"b"[..]));
    cursor.seek_before(b"b").unwrap();
    assert_eq!(cursor.entry(), None);
    cursor.seek_before(b"").unwrap();
    assert_eq!(cursor.entry(), None);

    let mut cursor = kv.cursor(Table::Meta, LOW, HIGH).unwrap();
    cursor.seek_before(b"c").unwrap();
    assert_eq!(key_at(&*cursor), Some(&b"b"[..]));
    cursor.next().unwrap();
    assert_eq!(key_at(&*cursor), Some(&b"c"[..]));
    cursor.seek_before(b"bb").unwrap();
    assert_eq!(key_at(&*cursor), Some(&b"b"[..]));
}

fn isolates_snapshots(kv: &dyn Kv) {
    put(kv, b"a", b"1");
    let snapshot = kv.snapshot();
    put(kv, b"a", b"2");
    put(kv, b"b", b"2");
    let mut batch = Batch::default();
    batch.delete_range(Table::Meta, LOW, HIGH);
    kv.write(batch, Durability::Synced).unwrap();
    assert_eq!(snapshot.get(Table::Meta, b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(snapshot.get(Table::Meta, b"b").unwrap(), None);
    assert_eq!(walk(&*snapshot, Table::Meta, LOW, HIGH), pairs(&[("a", "1")]));
    assert_eq!(walk(kv, Table::Meta, LOW, HIGH), []);
}

fn isolates_cursors(kv: &dyn Kv) {
    ["a", "b", "c"].iter().for_each(|key| put(kv, key.as_bytes(), b"1"));
    let mut cursor = kv.cursor(Table::Meta, LOW, HIGH).unwrap();
    cursor.seek(b"a").unwrap();
    let mut batch = Batch::default();
    batch.delete(Table::Meta, &b"b"[..]);
    batch.put(Table::Meta, &b"aa"[..], &b"2"[..]);
    kv.write(batch, Durability::Buffered).unwrap();
    cursor.next().unwrap();
    assert_eq!(key_at(&*cursor), Some(&b"b"[..]));
    cursor.seek(b"aa").unwrap();
    assert_eq!(key_at(&*cursor), Some(&b"b"[..]));
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Op>, bool),
    Seek(Vec<u8>, Vec<u8>, Vec<u8>),
    SeekBefore(Vec<u8>, Vec<u8>, Vec<u8>),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0u8..4, 0..4)
}

fn op() -> impl Strategy<Value = Op> {
    let table = || proptest::sample::select(&TABLES[..]);
    let value = prop_oneof![proptest::collection::vec(any::<u8>(), 0..8), (2000usize..5000).prop_map(|n| vec![1; n])];
    prop_oneof![
        6 => (table(), key(), value).prop_map(|(table, key, value)| Op::Put(table, key.into(), value.into())),
        3 => (table(), key()).prop_map(|(table, key)| Op::Delete(table, key.into())),
        1 => (table(), key(), key()).prop_map(|(table, from, to)| Op::DeleteRange(table, from.into(), to.into())),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (proptest::collection::vec(op(), 0..6), any::<bool>()).prop_map(|(ops, synced)| Step::Write(ops, synced)),
        (key(), key(), key()).prop_map(|(lower, upper, at)| Step::Seek(lower, upper, at)),
        (key(), key(), key()).prop_map(|(lower, upper, at)| Step::SeekBefore(lower, upper, at)),
    ]
}

type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

fn behaves_like_a_map(kv: &dyn Kv) {
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let history = proptest::collection::vec(step(), 1..40);
    let run = |steps: Vec<Step>| {
        let mut wipe = Batch::default();
        TABLES.iter().for_each(|&table| wipe.delete_range(table, LOW, HIGH));
        kv.write(wipe, Durability::Buffered).unwrap();
        let mut model = Model::new();
        steps.into_iter().try_for_each(|step| follow(kv, &mut model, step))
    };
    runner.run(&history, run).unwrap();
}

fn follow(kv: &dyn Kv, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    let table = Table::Meta;
    let (cursor_entry, expected) = match step {
        Step::Write(ops, synced) => {
            ops.iter().for_each(|op| apply(model, op));
            kv.write(Batch { ops }, if synced { Durability::Synced } else { Durability::Buffered }).unwrap();
            for &table in &TABLES {
                proptest::prop_assert_eq!(walk(kv, table, LOW, HIGH), within(model, table, LOW, HIGH));
            }
            return Ok(());
        }
        Step::Seek(lower, upper, at) => {
            let mut cursor = kv.cursor(table, &lower, &upper).unwrap();
            cursor.seek(&at).unwrap();
            let expected = within(model, table, &lower, &upper).into_iter().find(|(key, _)| *key >= at);
            (owned(cursor.entry()), expected)
        }
        Step::SeekBefore(lower, upper, at) => {
            let mut cursor = kv.cursor(table, &lower, &upper).unwrap();
            cursor.seek_before(&at).unwrap();
            let expected = within(model, table, &lower, &upper).into_iter().rfind(|(key, _)| *key < at);
            (owned(cursor.entry()), expected)
        }
    };
    proptest::prop_assert_eq!(cursor_entry, expected);
    Ok(())
}

fn apply(model: &mut Model, op: &Op) {
    match op.clone() {
        Op::Put(table, key, value) => {
            model.insert((table, key.to_vec()), value.to_vec());
        }
        Op::Delete(table, key) => {
            model.remove(&(table, key.to_vec()));
        }
        Op::DeleteRange(table, from, to) => model.retain(|(t, key), _| *t != table || *key < from || *key >= to),
    }
}

fn within(model: &Model, table: Table, lower: &[u8], upper: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    if lower >= upper {
        return Vec::new();
    }
    let range = (Bound::Included((table, lower.to_vec())), Bound::Excluded((table, upper.to_vec())));
    model.range(range).map(|((_, key), value)| (key.clone(), value.clone())).collect()
}

fn put(kv: &dyn Kv, key: &[u8], value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(Table::Meta, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    kv.write(batch, Durability::Buffered).unwrap();
}

fn walk(kv: &(impl KvRead + ?Sized), table: Table, lower: &[u8], upper: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut cursor = kv.cursor(table, lower, upper).unwrap();
    cursor.seek(lower).unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = owned(cursor.entry()) {
        entries.push(entry);
        cursor.next().unwrap();
    }
    entries
}

fn owned(entry: Option<(&[u8], &[u8])>) -> Option<(Vec<u8>, Vec<u8>)> {
    entry.map(|(key, value)| (key.to_vec(), value.to_vec()))
}

fn key_at(cursor: &dyn Cursor) -> Option<&[u8]> {
    cursor.entry().map(|(key, _)| key)
}

fn pairs(entries: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
    entries.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}
