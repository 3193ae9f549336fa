//! Scans of a partition in memory: what is due is found once, page by page, and deleting it takes nothing else.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::Clock;
use annulus_common::condition::Conditions;
use annulus_common::ids::{BucketId, GroupId, PartitionId, RequestId, ShardId, UploadId};
use annulus_common::lifecycle::{Calendar, Expiration, Filter, Lifecycle, NoncurrentExpiration, Rule};
use annulus_common::object::{
    AttributeChange, Data, ETag, KeyPath, NewObject, ObjectAttributes, ObjectHeaders, Retention, RetentionMode, Upload,
    UserId, VersionId, Versioning,
};
use annulus_common::protocol::metadata::{
    Command, DeleteOutcome, Deletion, Entry, MetaReply, Mutation, Query, QueryReply, QuotaTerms,
};
use bytes::Bytes;

use super::scan::{Scan, ShardAt, uploads_page, versions_page};
use super::{AgreedTime, is_time_of_most};
use crate::kv::memory::MemoryKv;
use crate::kv::{Batch, Durability, Kv};
use crate::metadata::{Partition, abandoned_uploads, answer, decode_reply, encode_command};
use crate::raft::StateMachine;

const AT: ShardAt = ShardAt { partition: PartitionId(4), bucket: BucketId(1), shard: ShardId(2) };
const DAY_MS: u64 = 1_000;

struct Bench {
    kv: Arc<MemoryKv>,
    partition: Partition,
    index: u64,
}

impl Bench {
    fn new() -> Self {
        let kv = Arc::new(MemoryKv::default());
        Self { partition: Partition::new(GroupId::from(AT.partition), kv.clone()), kv, index: 0 }
    }

    fn run(&mut self, time_ms: u64, command: Command) -> MetaReply {
        self.index += 1;
        let mutation = Mutation { request: request(self.index), since: None, time_ms, command, notice: None };
        let mut batch = Batch::default();
        let reply = self.partition.apply(self.index, &encode_command(&mutation), &mut batch);
        self.kv.write(batch, Durability::Buffered).unwrap();
        decode_reply(&reply).unwrap().reply
    }

    fn put(&mut self, time_ms: u64, key: &str, tags: &[(&str, &str)]) {
        let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let object = NewObject {
            owner: UserId([0; 32]),
            size: 1,
            etag: ETag { md5: [7; 16], parts: None },
            checksum: None,
            headers: ObjectHeaders::default(),
            attributes: ObjectAttributes { tags, ..ObjectAttributes::default() },
            encryption: None,
            data: Data::Inline(Bytes::from_static(b"x")),
        };
        let command = Command::Put {
            path: path(key),
            versioning: Versioning::Enabled,
            conditions: Conditions::default(),
            quota: QuotaTerms::default(),
            object,
        };
        assert!(matches!(self.run(time_ms, command), MetaReply::Written { .. }));
    }

    fn delete(&mut self, time_ms: u64, deletions: Vec<Deletion>) -> Vec<DeleteOutcome> {
        let (bucket, shard) = (AT.bucket, AT.shard);
        let owner = UserId([0; 32]);
        let command = Command::Delete { bucket, shard, versioning: Versioning::Enabled, owner, deletions };
        match self.run(time_ms, command) {
            MetaReply::Deleted(outcomes) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    fn mark(&mut self, time_ms: u64, key: &str) {
        let deletion = Deletion {
            key: key.to_owned(),
            version: None,
            conditions: Conditions::default(),
            bypass_governance: false,
            sequence: None,
        };
        assert!(matches!(self.delete(time_ms, vec![deletion])[..], [DeleteOutcome::Marked(_)]));
    }

    /// Changes the version of a key that entry `sequence` wrote.
    fn change(&mut self, sequence: u64, key: &str, change: AttributeChange) {
        let version = VersionId::new(sequence, request(sequence), key);
        let command = Command::SetAttributes { path: path(key), version, sequence, change };
        assert_eq!(self.run(0, command), MetaReply::Done);
    }

    /// What is due, from all pages.
    fn due(&self, rule: &Rule, now_ms: u64) -> Vec<Deletion> {
        let mut scan = Scan::new(lifecycle(rule), Calendar::Short(DAY_MS), now_ms);
        let (mut due, mut after) = (Vec::new(), None);
        loop {
            let page = versions_page(self.kv.as_ref(), AT, scan, after).unwrap().unwrap();
            due.extend(page.due);
            scan = page.scan;
            after = page.next;
            if after.is_none() {
                return due;
            }
        }
    }

    /// Begins an upload whose id is made of the key.
    fn begin_upload(&mut self, path: KeyPath, initiated_ms: u64) {
        let upload = Upload {
            id: UploadId([path.key.as_bytes()[0]; 16]),
            initiator: UserId([0; 32]),
            owner: UserId([0; 32]),
            initiated_ms,
            headers: ObjectHeaders::default(),
            attributes: ObjectAttributes::default(),
            checksum: None,
            encryption: None,
        };
        assert_eq!(self.run(0, Command::CreateUpload { path, upload }), MetaReply::Done);
    }

    fn versions(&self) -> usize {
        let query = Query::Versions {
            bucket: AT.bucket,
            shard: AT.shard,
            prefix: String::new(),
            delimiter: None,
            from: Vec::new(),
            older_than: None,
            limit: 1_000,
        };
        match answer(self.kv.as_ref(), AT.partition, &query).unwrap() {
            QueryReply::Versions(page) => page.entries.iter().filter(|entry| matches!(entry, Entry::Item(_))).count(),
            other => panic!("{other:?}"),
        }
    }
}

/// The name of the mutation that is entry `index`.
fn request(index: u64) -> RequestId {
    RequestId(u128::from(index).to_be_bytes())
}

fn path(key: &str) -> KeyPath {
    KeyPath { bucket: AT.bucket, shard: AT.shard, key: key.to_owned() }
}

fn rule() -> Rule {
    Rule {
        id: "r".to_owned(),
        enabled: true,
        filter: Filter::default(),
        expiration: None,
        noncurrent: None,
        abort_upload_days: None,
    }
}

fn lifecycle(rule: &Rule) -> Arc<Lifecycle> {
    Arc::new(Lifecycle { rules: vec![rule.clone()] })
}

fn keys(due: &[Deletion]) -> Vec<&str> {
    due.iter().map(|deletion| deletion.key.as_str()).collect()
}

#[test]
fn current_objects_expire_into_markers_and_what_was_written_meanwhile_stays() {
    let mut bench = Bench::new();
    for key in ["a", "b", "c"] {
        bench.put(0, key, &[]);
    }
    bench.put(DAY_MS, "d", &[]);
    let days = Rule { expiration: Some(Expiration::Days(1)), ..rule() };
    assert!(bench.due(&days, DAY_MS - 1).is_empty());
    let due = bench.due(&days, DAY_MS);
    assert_eq!(keys(&due), ["a", "b", "c"]);
    bench.put(DAY_MS, "b", &[]);
    let outcomes = bench.delete(DAY_MS, due);
    let expected = [true, false, true];
    assert!(outcomes.iter().zip(expected).all(|(outcome, gone)| matches!(outcome, DeleteOutcome::Marked(_)) == gone));
    assert_eq!(outcomes[1], DeleteOutcome::PreconditionFailed);
    assert!(bench.due(&days, DAY_MS).is_empty(), "it is done");
}

#[test]
fn noncurrent_versions_go_and_then_the_marker_that_hid_them() {
    let mut bench = Bench::new();
    for time_ms in [0, 10, 20] {
        bench.put(time_ms, "k", &[]);
    }
    bench.mark(30, "k");
    bench.put(0, "other", &[]);
    let both = Rule {
        expiration: Some(Expiration::DeleteMarker),
        noncurrent: Some(NoncurrentExpiration { days: 1, newer: None }),
        ..rule()
    };
    let due = bench.due(&both, 20 + DAY_MS);
    assert_eq!(due.len(), 2, "the third is noncurrent since later");
    assert!(bench.delete(2_000, due).iter().all(|outcome| *outcome == DeleteOutcome::Deleted));
    let due = bench.due(&both, 30 + DAY_MS);
    assert_eq!(keys(&due), ["k"]);
    bench.delete(2_000, due);
    let due = bench.due(&both, 30 + DAY_MS);
    assert_eq!(bench.delete(2_000, due), [DeleteOutcome::MarkerRemoved]);
    assert_eq!(bench.versions(), 1, "the other key's");
}

#[test]
fn a_version_that_is_locked_stays_when_it_is_due() {
    let mut bench = Bench::new();
    for key in ["free", "held", "retained"] {
        bench.put(0, key, &[]);
        bench.mark(10, key);
    }
    let retention = Some(Retention { mode: RetentionMode::Governance, until_ms: 5 * DAY_MS });
    bench.change(3, "held", AttributeChange::LegalHold(true));
    bench.change(5, "retained", AttributeChange::Retention { retention, bypass_governance: false });
    let days = Rule { noncurrent: Some(NoncurrentExpiration { days: 1, newer: None }), ..rule() };
    let due = bench.due(&days, 2 * DAY_MS);
    assert_eq!(keys(&due), ["free", "held", "retained"]);
    let outcomes = bench.delete(2 * DAY_MS, due);
    assert_eq!(outcomes, [DeleteOutcome::Deleted, DeleteOutcome::Locked, DeleteOutcome::Locked]);
    let due = bench.due(&days, 6 * DAY_MS);
    assert_eq!(bench.delete(6 * DAY_MS, due), [DeleteOutcome::Locked, DeleteOutcome::Deleted]);
}

#[test]
fn tags_are_asked_of_each_version() {
    let mut bench = Bench::new();
    bench.put(0, "red", &[("colour", "red")]);
    bench.put(0, "blue", &[("colour", "blue")]);
    bench.put(0, "none", &[]);
    let filter = Filter { tags: [("colour".to_owned(), "red".to_owned())].into(), ..Filter::default() };
    let due = bench.due(&Rule { filter, expiration: Some(Expiration::Days(1)), ..rule() }, DAY_MS);
    assert_eq!(keys(&due), ["red"]);
}

#[test]
fn pages_end_amid_a_key_and_nothing_is_missed() {
    let mut bench = Bench::new();
    for number in 0..1_203 {
        bench.put(number, "many", &[]);
    }
    bench.put(0, "next", &[]);
    bench.mark(5, "next");
    let kept = Rule { noncurrent: Some(NoncurrentExpiration { days: 1, newer: Some(100) }), ..rule() };
    let due = bench.due(&kept, 10 * DAY_MS);
    assert_eq!(keys(&due), vec!["many"; 1_102], "all but the current one and a hundred");
}

#[test]
fn uploads_are_due_in_their_time() {
    let mut bench = Bench::new();
    for (key, initiated_ms) in [("a", 0), ("b", 500), ("c", 5_000)] {
        bench.begin_upload(path(key), initiated_ms);
    }
    let rule = Rule { abort_upload_days: Some(1), ..rule() };
    let scan = Scan::new(lifecycle(&rule), Calendar::Short(DAY_MS), 1_500);
    let page = uploads_page(bench.kv.as_ref(), AT, scan, None).unwrap().unwrap();
    assert_eq!(page.due, [("a", 0), ("b", 0)].map(|(key, _)| (path(key), UploadId([key.as_bytes()[0]; 16]))));
    assert!(page.next.is_none());
}

#[test]
fn a_node_with_a_wrong_clock_expires_nothing() {
    let now = 1_800_000_000_000;
    let (near, days_ago) = (now - 30_000, now - 40 * 86_400_000);
    assert!(is_time_of_most(now, &[], 1), "it is alone");
    assert!(is_time_of_most(now, &[near, days_ago], 3));
    assert!(is_time_of_most(now, &[near], 3), "one does not answer");
    assert!(!is_time_of_most(now, &[days_ago, days_ago], 3));
    assert!(!is_time_of_most(now, &[], 3));
    assert!(!is_time_of_most(now, &[days_ago], 2));
}

/// A clock that is set while its time runs on.
struct SetClock {
    set_ms: u64,
    running: Duration,
}

impl Clock for SetClock {
    fn now_ms(&self) -> u64 {
        self.set_ms
    }

    fn monotonic(&self) -> Duration {
        self.running
    }
}

#[test]
fn what_was_agreed_on_goes_on_by_itself_and_ends_when_the_clock_is_set() {
    let agreed = AgreedTime { ms: 1_800_000_000_000, at: Duration::from_secs(7) };
    let after = |seconds: u64, set_ms: u64| {
        let clock = SetClock { set_ms, running: Duration::from_secs(7 + seconds) };
        agreed.now_ms(&clock).ok()
    };
    assert_eq!(after(0, agreed.ms), Some(agreed.ms));
    assert_eq!(after(3_600, agreed.ms + 3_600_000), Some(agreed.ms + 3_600_000));
    assert_eq!(after(3_600, agreed.ms + 3_620_000), Some(agreed.ms + 3_600_000), "it is set a little, as clocks are");
    assert_eq!(after(60, agreed.ms + 86_400_000), None);
    assert_eq!(after(3_600, agreed.ms), None);
}

#[test]
fn uploads_are_abandoned_with_their_bucket_and_no_other() {
    let mut bench = Bench::new();
    let paths: Vec<KeyPath> = [(1, 2, "x"), (1, 3, "a"), (2, 0, "m"), (3, 2, "k"), (3, 2, "l"), (9, 1, "z")]
        .map(|(bucket, shard, key)| KeyPath { bucket: BucketId(bucket), shard: ShardId(shard), key: key.to_owned() })
        .into();
    paths.iter().for_each(|path| bench.begin_upload(path.clone(), 0));
    let abandoned = |bench: &Bench, limit| {
        let is_gone = |bucket: BucketId| [1, 3].contains(&bucket.0);
        let found = abandoned_uploads(bench.kv.as_ref(), AT.partition, is_gone, limit).unwrap();
        found.into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    assert_eq!(abandoned(&bench, 10), [&paths[..2], &paths[3..5]].concat());
    assert_eq!(abandoned(&bench, 3), [&paths[..2], &paths[3..4]].concat());
    for path in abandoned(&bench, 10) {
        let upload = UploadId([path.key.as_bytes()[0]; 16]);
        assert_eq!(bench.run(0, Command::AbortUpload { path, upload }), MetaReply::Done);
    }
    assert_eq!(abandoned(&bench, 10), []);
}
