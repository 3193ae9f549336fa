//! A partition against a model: random mutations, and what must hold after each.

mod appends;
mod outboxes;
mod quotas;
mod replays;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use annulus_common::acl::ObjectAcl;
use annulus_common::condition::{Conditions, ETagCondition};
use annulus_common::ids::{BucketId, GroupId, PartId, PartitionId, RequestId, ShardId, UploadId};
use annulus_common::notification::Notice;
use annulus_common::object::{
    AttributeChange, Data, ETag, KeyPath, NewObject, ObjectAttributes, ObjectHeaders, ObjectVersion, Part, Upload,
    UserId, Version, VersionId, Versioning,
};
use annulus_common::protocol::metadata::{
    Applied, Command, DeleteOutcome, Deletion, Entry, MetaReply, Mutation, PARTS_MAX, Query, QueryReply, QuotaTerms,
    parts_fingerprint,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{Partition, answer, decode_reply, encode_command};
use crate::kv::memory::MemoryKv;
use crate::kv::{Batch, Durability, Kv};
use crate::raft::StateMachine;

const BUCKET: BucketId = BucketId(1);
const SHARD: ShardId = ShardId(2);
const PARTITION: PartitionId = PartitionId(4);

/// A partition with a log of its own, fed one mutation after the other.
struct Bench {
    kv: Arc<MemoryKv>,
    partition: Partition,
    index: u64,
}

impl Bench {
    fn new() -> Self {
        let kv = Arc::new(MemoryKv::default());
        Self { partition: Partition::new(GroupId::from(PARTITION), kv.clone()), kv, index: 0 }
    }

    fn run(&mut self, command: Command) -> MetaReply {
        let mut request = [0; 16];
        request[8..].copy_from_slice(&(self.index + 1).to_be_bytes());
        self.run_as(RequestId(request), command)
    }

    fn run_as(&mut self, request: RequestId, command: Command) -> MetaReply {
        self.run_telling(request, command, None)
    }

    fn run_telling(&mut self, request: RequestId, command: Command, notice: Option<Box<Notice>>) -> MetaReply {
        self.carry_out(&Mutation {
            request,
            since: Some(self.index),
            time_ms: (self.index + 1) * 1000,
            command,
            notice,
        })
    }

    /// The next entry of the log.
    fn carry_out(&mut self, mutation: &Mutation) -> MetaReply {
        self.index += 1;
        let mut batch = Batch::default();
        let reply = self.partition.apply(self.index, &encode_command(mutation), &mut batch);
        self.kv.write(batch, Durability::Buffered).expect("memory holds it");
        let Applied { index, reply } = decode_reply(&reply).expect("a reply of our own");
        assert_eq!(index, self.index);
        reply
    }

    fn ask(&self, query: &Query) -> QueryReply {
        answer(self.kv.as_ref(), PARTITION, query).expect("memory answers")
    }

    fn object(&self, key: &str) -> Option<ObjectVersion> {
        match self.version(key, None) {
            Some(Version::Object(object)) => Some(*object),
            Some(Version::Marker(_)) | None => None,
        }
    }

    fn version(&self, key: &str, version: Option<VersionId>) -> Option<Version> {
        match self.ask(&Query::Object { path: path(key), version }) {
            QueryReply::Object(found) => found,
            other => panic!("{other:?}"),
        }
    }

    fn referenced(&self, part: PartId) -> bool {
        self.ask(&Query::References(vec![part])) == QueryReply::References(vec![true])
    }

    fn garbage(&self) -> BTreeSet<PartId> {
        match self.ask(&Query::Garbage { before_ms: u64::MAX, after: None, limit: 1000 }) {
            QueryReply::Garbage(garbage) => garbage.into_iter().map(|entry| entry.part).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn begin_upload(&mut self, key: &str, id: u8) -> UploadId {
        let upload = Upload {
            id: UploadId([id; 16]),
            initiator: UserId([0; 32]),
            owner: UserId([0; 32]),
            initiated_ms: 0,
            headers: ObjectHeaders::default(),
            attributes: ObjectAttributes::default(),
            checksum: None,
            encryption: None,
        };
        let id = upload.id;
        assert_eq!(self.run(Command::CreateUpload { path: path(key), upload }), MetaReply::Done);
        id
    }

    fn complete(&mut self, key: &str, upload: UploadId, parts: &[Part]) -> MetaReply {
        self.run(Command::CompleteUpload {
            path: path(key),
            upload,
            versioning: Versioning::Unversioned,
            conditions: Conditions::default(),
            quota: QuotaTerms::default(),
            default_retention: None,
            parts: parts.iter().map(|part| part.number).collect(),
            fingerprint: parts_fingerprint(parts),
            etag: ETag { md5: [9; 16], parts: Some(parts.len() as u16) },
            checksum: None,
        })
    }
}

fn path(key: &str) -> KeyPath {
    KeyPath { bucket: BUCKET, shard: SHARD, key: key.to_owned() }
}

fn part(id: u8, number: u16) -> Part {
    Part { id: PartId([id; 16]), number, length: 5 << 20, stored: 5 << 20, md5: [id; 16], checksum: None }
}

fn object(tag: u8, data: Data) -> NewObject {
    let size = match &data {
        Data::Inline(bytes) => bytes.len() as u64,
        Data::Parts(parts) => parts.iter().map(|part| part.length).sum(),
    };
    let etag = ETag { md5: [tag; 16], parts: None };
    NewObject {
        owner: UserId([0; 32]),
        size,
        etag,
        checksum: None,
        headers: ObjectHeaders::default(),
        attributes: ObjectAttributes::default(),
        encryption: None,
        data,
    }
}

fn put(key: &str, conditions: Conditions, object: NewObject) -> Command {
    put_in(Versioning::Unversioned, key, conditions, object)
}

fn put_in(versioning: Versioning, key: &str, conditions: Conditions, object: NewObject) -> Command {
    Command::Put { path: path(key), versioning, conditions, quota: QuotaTerms::default(), object }
}

fn delete(key: &str, conditions: Conditions) -> Command {
    delete_in(Versioning::Unversioned, vec![deletion(key, None, conditions)])
}

fn delete_in(versioning: Versioning, deletions: Vec<Deletion>) -> Command {
    Command::Delete { bucket: BUCKET, shard: SHARD, versioning, owner: UserId([1; 32]), deletions }
}

fn deletion(key: &str, version: Option<VersionId>, conditions: Conditions) -> Deletion {
    Deletion { key: key.to_owned(), version, conditions, bypass_governance: false, sequence: None }
}

fn if_absent() -> Conditions {
    Conditions { if_none_match: Some(ETagCondition::Any), ..Conditions::default() }
}

fn inline(tag: u8) -> NewObject {
    object(tag, Data::Inline(Bytes::from(vec![tag; 3])))
}

#[test]
fn what_is_put_is_found_until_it_is_deleted() {
    let mut bench = Bench::new();
    for data in [Data::Inline(Bytes::new()), Data::Inline(Bytes::from_static(b"abc")), Data::Parts(vec![part(1, 1)])] {
        let reply = bench.run(put("k", Conditions::default(), object(7, data.clone())));
        assert!(matches!(reply, MetaReply::Written { .. }), "{reply:?}");
        let found = bench.object("k").expect("it was put");
        assert_eq!((found.object.data, found.sequence, found.modified_ms), (data, bench.index, bench.index * 1000));
    }
    assert_eq!(bench.run(delete("k", Conditions::default())), MetaReply::Deleted(vec![DeleteOutcome::Deleted]));
    assert_eq!(bench.object("k"), None);
    assert_eq!(bench.garbage(), BTreeSet::from([PartId([1; 16])]));
}

#[test]
fn a_mutation_that_is_sent_again_is_answered_again_and_not_repeated() {
    let mut bench = Bench::new();
    let first = bench.run_as(RequestId([1; 16]), put("k", if_absent(), inline(1)));
    bench.run_as(RequestId([2; 16]), put("k", Conditions::default(), inline(2)));
    let again = bench.run_as(RequestId([1; 16]), put("k", if_absent(), inline(1)));
    assert_eq!(first, again);
    assert_eq!(bench.object("k").map(|found| found.object), Some(inline(2)));
}

#[test]
fn a_name_stands_for_what_it_was_claimed_for_first() {
    let mut bench = Bench::new();
    let (name, other) = (RequestId([1; 16]), RequestId([2; 16]));
    let mut claim = |name, request: u8| bench.run_as(name, Command::Claim(RequestId([request; 16])));
    for (name, request, first) in [(name, 7, 7), (name, 8, 7), (other, 8, 8), (name, 7, 7)] {
        assert_eq!(claim(name, request), MetaReply::Claimed(RequestId([first; 16])));
    }
}

#[test]
fn conditions_are_judged_in_order() {
    let mut bench = Bench::new();
    let matching = |tag: u8| Conditions {
        if_match: Some(ETagCondition::OneOf(vec![ETag { md5: [tag; 16], parts: None }.to_string()])),
        ..Conditions::default()
    };
    assert_eq!(bench.run(put("k", matching(1), inline(1))), MetaReply::NoSuchKey);
    assert!(matches!(bench.run(put("k", if_absent(), inline(1))), MetaReply::Written { .. }));
    assert_eq!(bench.run(put("k", if_absent(), inline(2))), MetaReply::PreconditionFailed);
    assert!(matches!(bench.run(put("k", matching(1), inline(3))), MetaReply::Written { .. }));
    assert_eq!(bench.run(put("k", matching(1), inline(4))), MetaReply::PreconditionFailed);
    let delete = |conditions| delete("k", conditions);
    assert_eq!(bench.run(delete(matching(1))), MetaReply::Deleted(vec![DeleteOutcome::PreconditionFailed]));
    assert_eq!(bench.run(delete(matching(3))), MetaReply::Deleted(vec![DeleteOutcome::Deleted]));
    assert_eq!(bench.run(delete(matching(3))), MetaReply::Deleted(vec![DeleteOutcome::NoSuchKey]));
}

#[test]
fn what_is_too_much_to_delete_at_once_is_put_off() {
    let mut bench = Bench::new();
    let keys = ["a", "b", "c", "d", "e"];
    let part_of = |key: u8, number: u16| {
        let mut id = [key; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        Part { id: PartId(id), ..part(key, number) }
    };
    for (number, key) in (1u8..).zip(keys) {
        let parts = (1..=PARTS_MAX).map(|part| part_of(number, part)).collect();
        bench.run(put(key, Conditions::default(), object(number, Data::Parts(parts))));
    }
    let asked = |keys: &[&str]| {
        let deletions = keys.iter().map(|key| deletion(key, None, Conditions::default()));
        delete_in(Versioning::Unversioned, deletions.collect())
    };
    let name = RequestId([1; 16]);
    let first = bench.run_as(name, asked(&keys));
    let MetaReply::Deleted(outcomes) = first.clone() else { panic!("refused: {first:?}") };
    let ended = outcomes.iter().take_while(|outcome| **outcome == DeleteOutcome::Deleted).count();
    assert!((1..keys.len()).contains(&ended), "{outcomes:?}");
    assert!(outcomes[ended..].iter().all(|outcome| *outcome == DeleteOutcome::NotYet), "{outcomes:?}");
    let there = |bench: &Bench| keys.iter().filter(|key| bench.object(key).is_some()).count();
    assert_eq!(there(&bench), keys.len() - ended);
    assert_eq!(bench.run_as(name, asked(&keys)), first, "the same again is no further one");
    assert_eq!(there(&bench), keys.len() - ended);
    let rest = &keys[ended..];
    assert_eq!(bench.run(asked(rest)), MetaReply::Deleted(vec![DeleteOutcome::Deleted; rest.len()]));
    assert_eq!(there(&bench), 0);
    assert!(!bench.referenced(part_of(5, PARTS_MAX).id));
}

#[test]
fn attributes_are_changed_of_the_version_they_were_judged_by() {
    let mut bench = Bench::new();
    let acl = |sequence, acl| {
        let change = AttributeChange::Acl(acl);
        Command::SetAttributes { path: path("k"), version: VersionId::Null, sequence, change }
    };
    assert_eq!(bench.run(acl(1, ObjectAcl::PublicRead)), MetaReply::NoSuchVersion);
    bench.run(put("k", Conditions::default(), inline(1)));
    let before = bench.object("k").unwrap();
    assert_eq!(bench.run(acl(before.sequence, ObjectAcl::PublicRead)), MetaReply::Done);
    let mut expected = before.clone();
    expected.object.attributes.acl = ObjectAcl::PublicRead;
    assert_eq!(bench.object("k"), Some(expected));
    bench.run(put("k", Conditions::default(), inline(2)));
    assert_eq!(bench.run(acl(before.sequence, ObjectAcl::PublicRead)), MetaReply::PreconditionFailed);
    assert_eq!(bench.object("k").unwrap().object.attributes.acl, ObjectAcl::Private);
}

#[test]
fn a_refused_put_leaves_its_parts_to_the_collector() {
    let mut bench = Bench::new();
    bench.run(put("k", Conditions::default(), inline(1)));
    let refused = put("k", if_absent(), object(2, Data::Parts(vec![part(8, 1)])));
    assert_eq!(bench.run(refused), MetaReply::PreconditionFailed);
    assert_eq!(bench.garbage(), BTreeSet::from([PartId([8; 16])]));
    assert!(!bench.referenced(PartId([8; 16])));
}

#[test]
fn an_inventory_names_everything_in_pages() {
    let mut bench = Bench::new();
    bench.run(put("inline", Conditions::default(), inline(1)));
    bench.run(put("large", Conditions::default(), object(1, Data::Parts(vec![part(1, 1), part(2, 2)]))));
    let upload = bench.begin_upload("big", 1);
    bench.run(Command::PutPart { path: path("big"), upload, part: part(3, 1), sent: None });
    for number in 0..1_500 {
        bench.run(put(&format!("many/{number:04}"), Conditions::default(), inline(2)));
    }
    let (mut named, mut from, mut pages) = (Vec::new(), None, 0);
    loop {
        let QueryReply::Inventory(page) = bench.ask(&Query::Inventory { from }) else { panic!("no inventory") };
        named.extend(page.named);
        pages += 1;
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!((named.len(), pages), (1_503, 2));
    let parts = |name: &str| {
        let found = named.iter().find(|named| named.name == name).unwrap();
        found.parts.iter().map(|(part, _)| part.0[0]).collect::<Vec<_>>()
    };
    assert_eq!((parts("inline"), parts("large"), parts("part 1")), (vec![], vec![1, 2], vec![3]));
    assert!(named.iter().all(|named| named.bucket.is_none() == (named.name == "part 1")));
    assert!(named[0].inline_bytes > 0);
}

#[test]
fn what_is_condemned_can_never_be_referred_to() {
    let mut bench = Bench::new();
    let of_part = |id| put("k", Conditions::default(), object(1, Data::Parts(vec![part(id, 1)])));
    bench.run(of_part(4));
    let [named, unnamed] = [PartId([4; 16]), PartId([5; 16])];
    let condemn = || Command::Condemn(vec![named, unnamed]);
    assert_eq!(bench.run(condemn()), MetaReply::Condemned(vec![false, true]));
    assert_eq!(bench.run(of_part(5)), MetaReply::PartsCondemned);
    let upload = bench.begin_upload("big", 1);
    let late = Command::PutPart { path: path("big"), upload, part: part(5, 1), sent: None };
    assert_eq!(bench.run(late), MetaReply::PartsCondemned);
    assert!(!bench.referenced(unnamed) && bench.referenced(named));
    assert_eq!(bench.run(condemn()), MetaReply::Condemned(vec![false, true]));
    assert_eq!(bench.run(of_part(4)), MetaReply::PartsChanged, "it is not condemned, and was put before");
}

#[test]
fn an_upload_becomes_an_object_of_the_chosen_parts() {
    let mut bench = Bench::new();
    let upload = bench.begin_upload("big", 1);
    for part in [part(1, 1), part(2, 2), part(3, 3), part(4, 2)] {
        let reply = bench.run(Command::PutPart { path: path("big"), upload, part, sent: None });
        assert_eq!(reply, MetaReply::Done);
    }
    let stale = [part(1, 1), part(2, 2)];
    assert_eq!(bench.complete("big", upload, &stale), MetaReply::PartsChanged);
    let chosen = [part(1, 1), part(4, 2)];
    let done = bench.complete("big", upload, &chosen);
    assert!(matches!(done, MetaReply::Written { .. }), "{done:?}");
    assert_eq!(bench.complete("big", upload, &chosen), done, "completing again answers the same");
    assert_eq!(bench.object("big").map(|found| found.object.data), Some(Data::Parts(chosen.to_vec())));
    assert_eq!(bench.garbage(), BTreeSet::from([PartId([2; 16]), PartId([3; 16])]));
    let late = Command::PutPart { path: path("big"), upload, part: part(5, 1), sent: None };
    assert_eq!(bench.run(late), MetaReply::NoSuchUpload);
}

#[test]
fn a_fence_closes_an_empty_shard_until_its_token_is_void() {
    let mut bench = Bench::new();
    let fence = |token| Command::Fence { bucket: BUCKET, shard: SHARD, token: RequestId([token; 16]) };
    bench.run(put("k", Conditions::default(), inline(1)));
    assert_eq!(bench.run(fence(1)), MetaReply::NotEmpty);
    bench.run(delete("k", Conditions::default()));
    let upload = bench.begin_upload("big", 1);
    bench.run(Command::PutPart { path: path("big"), upload, part: part(6, 1), sent: None });
    assert_eq!(bench.run(fence(1)), MetaReply::Done);
    assert_eq!(bench.run(put("k", Conditions::default(), inline(1))), MetaReply::Fenced(RequestId([1; 16])));
    bench.run(Command::Unfence { bucket: BUCKET, shard: SHARD, token: RequestId([2; 16]) });
    assert_eq!(bench.run(put("k", Conditions::default(), inline(1))), MetaReply::Fenced(RequestId([1; 16])));
    bench.run(Command::Unfence { bucket: BUCKET, shard: SHARD, token: RequestId([1; 16]) });
    assert!(matches!(bench.run(put("k", Conditions::default(), inline(1))), MetaReply::Written { .. }));
}

/// A clock that stepped forward makes an id that was drawn a moment ago look as old as that.
#[test]
fn a_condemnation_is_forgotten_when_it_is_old_itself() {
    const OVER_30_DAYS: u64 = 3_000_000;
    let mut bench = Bench::new();
    let ids = [1, 2, 3].map(|id: u128| PartId(id.to_be_bytes()));
    let named = put("k", Conditions::default(), object(1, Data::Parts(vec![Part { id: ids[0], ..part(1, 1) }])));
    bench.index += OVER_30_DAYS;
    for id in &ids[..2] {
        assert_eq!(bench.run(Command::Condemn(vec![*id])), MetaReply::Condemned(vec![true]));
    }
    assert_eq!(bench.run(named.clone()), MetaReply::PartsCondemned);
    bench.index += OVER_30_DAYS;
    bench.run(Command::Condemn(vec![ids[2]]));
    assert!(matches!(bench.run(named), MetaReply::Written { .. }));
}

/// Another shard may have refused the deletion: then this one has lost nothing.
#[test]
fn a_fence_stops_uploads_and_keeps_them() {
    let mut bench = Bench::new();
    let token = RequestId([1; 16]);
    let upload = bench.begin_upload("big", 1);
    let put_part = |id| Command::PutPart { path: path("big"), upload, part: part(id, 1), sent: None };
    assert_eq!(bench.run(put_part(6)), MetaReply::Done);
    assert_eq!(bench.run(Command::Fence { bucket: BUCKET, shard: SHARD, token }), MetaReply::Done);
    assert_eq!(bench.garbage(), BTreeSet::new());
    assert_eq!(bench.run(put_part(7)), MetaReply::Fenced(token));
    assert_eq!(bench.complete("big", upload, &[part(6, 1)]), MetaReply::Fenced(token));
    let of_no_upload = Command::PutPart { path: path("big"), upload: UploadId([9; 16]), part: part(8, 1), sent: None };
    assert_eq!(bench.run(of_no_upload), MetaReply::NoSuchUpload);
    bench.run(Command::Unfence { bucket: BUCKET, shard: SHARD, token });
    assert!(matches!(bench.complete("big", upload, &[part(6, 1)]), MetaReply::Written { .. }));
    assert_eq!(bench.garbage(), BTreeSet::from([PartId([8; 16])]));
}

#[test]
fn uploads_list_by_key_then_by_id_across_pages() {
    let mut bench = Bench::new();
    for (key, id) in [("b", 2), ("a", 3), ("b", 1), ("b\0", 4), ("d/x", 5), ("d/y", 6)] {
        bench.begin_upload(key, id);
    }
    let (mut from, mut after_upload, mut seen) = (Vec::new(), None, Vec::new());
    loop {
        let delimiter = Some("/".to_owned());
        let query = Query::Uploads {
            bucket: BUCKET,
            shard: SHARD,
            prefix: String::new(),
            delimiter,
            from,
            after_upload,
            limit: 2,
        };
        let QueryReply::Uploads(page) = bench.ask(&query) else { panic!("not a page") };
        after_upload = None;
        for entry in page.entries {
            match entry {
                Entry::Item(upload) => {
                    after_upload = (page.next.as_deref() == Some(upload.key.as_bytes())).then_some(upload.id);
                    seen.push((upload.key, upload.id.0[0]));
                }
                Entry::Prefix(prefix) => seen.push((prefix, 0)),
            }
        }
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    let expected = [("a", 3), ("b", 1), ("b", 2), ("b\0", 4), ("d/", 0)];
    assert_eq!(seen, expected.map(|(key, id)| (key.to_owned(), id)));
}

/// What a listing must be, by the simplest way.
fn model_list(keys: &BTreeSet<String>, prefix: &str, delimiter: Option<&str>, from: &[u8]) -> Vec<String> {
    let mut listed = Vec::new();
    for key in keys.iter().filter(|key| key.starts_with(prefix) && key.as_bytes() >= from) {
        let rest = &key[prefix.len()..];
        let entry = match delimiter.and_then(|delimiter| rest.find(delimiter).map(|at| at + delimiter.len())) {
            Some(end) => format!("{prefix}{}", &rest[..end]),
            None => key.clone(),
        };
        if listed.last() != Some(&entry) {
            listed.push(entry);
        }
    }
    listed
}

fn list_all(bench: &Bench, prefix: &str, delimiter: Option<&str>, from: &[u8], limit: u32) -> Vec<String> {
    let (mut from, mut listed) = (from.to_vec(), Vec::new());
    loop {
        let query = Query::List {
            bucket: BUCKET,
            shard: SHARD,
            prefix: prefix.to_owned(),
            delimiter: delimiter.map(str::to_owned),
            from,
            limit,
        };
        let QueryReply::List(page) = bench.ask(&query) else { panic!("not a page") };
        assert!(page.entries.len() <= limit as usize);
        listed.extend(page.entries.into_iter().map(|entry| match entry {
            Entry::Item(object) => object.key,
            Entry::Prefix(prefix) => prefix,
        }));
        match page.next {
            Some(next) => from = next,
            None => return listed,
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    PutInline(String, u8),
    PutParts(String),
    Delete(String),
    Upload(String),
    PutPart(u16),
    Complete,
    Abort,
}

fn a_key() -> impl Strategy<Value = String> {
    "[ab/]{1,3}"
}

fn an_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (a_key(), any::<u8>()).prop_map(|(key, tag)| Act::PutInline(key, tag)),
        a_key().prop_map(Act::PutParts),
        a_key().prop_map(Act::Delete),
        a_key().prop_map(Act::Upload),
        (1u16..4).prop_map(Act::PutPart),
        Just(Act::Complete),
        Just(Act::Abort),
    ]
}

proptest! {
    #[test]
    fn listings_agree_with_the_model(
        keys in proptest::collection::btree_set("[ab/\u{e9}]{1,5}", 0..40), prefix in "[ab/]{0,2}",
        delimiter in proptest::option::of("/|a|ab|\u{e9}"), from in "[ab/]{0,3}", limit in 1u32..5,
    ) {
        let mut bench = Bench::new();
        for key in &keys {
            bench.run(put(key, Conditions::default(), inline(1)));
        }
        let listed = list_all(&bench, &prefix, delimiter.as_deref(), from.as_bytes(), limit);
        prop_assert_eq!(listed, model_list(&keys, &prefix, delimiter.as_deref(), from.as_bytes()));
    }

    /// Every part that ever was put is referred to or garbage, and never both.
    #[test]
    fn parts_are_referred_to_or_garbage(acts in vec(an_act(), 1..60)) {
        let mut bench = Bench::new();
        let mut next_part = 0u8;
        let mut live: BTreeMap<String, Vec<PartId>> = BTreeMap::new();
        let mut upload: Option<(String, UploadId, BTreeMap<u16, Part>)> = None;
        for act in acts {
            match act {
                Act::PutInline(key, tag) => {
                    bench.run(put(&key, Conditions::default(), inline(tag)));
                    live.insert(key, Vec::new());
                }
                Act::PutParts(key) => {
                    next_part += 1;
                    let data = Data::Parts(vec![part(next_part, 1)]);
                    bench.run(put(&key, Conditions::default(), object(0, data)));
                    live.insert(key, vec![PartId([next_part; 16])]);
                }
                Act::Delete(key) => {
                    bench.run(delete(&key, Conditions::default()));
                    live.remove(&key);
                }
                Act::Upload(key) if upload.is_none() => {
                    next_part += 1;
                    let id = bench.begin_upload(&key, next_part);
                    upload = Some((key, id, BTreeMap::new()));
                }
                Act::PutPart(number) => {
                    next_part += 1;
                    let new = part(next_part, number);
                    let (key, id) = match &mut upload {
                        Some((key, id, parts)) => {
                            parts.insert(number, new.clone());
                            (key.clone(), *id)
                        }
                        None => ("gone".to_owned(), UploadId([0xff; 16])),
                    };
                    bench.run(Command::PutPart { path: path(&key), upload: id, part: new, sent: None });
                }
                Act::Complete => {
                    if let Some((key, id, parts)) = upload.take() {
                        let parts: Vec<Part> = parts.into_values().collect();
                        bench.complete(&key, id, &parts);
                        live.insert(key, parts.iter().map(|part| part.id).collect());
                    }
                }
                Act::Abort => {
                    if let Some((key, id, _)) = upload.take() {
                        bench.run(Command::AbortUpload { path: path(&key), upload: id });
                    }
                }
                Act::Upload(_) => {}
            }
            let mut wanted: BTreeSet<PartId> = live.values().flatten().copied().collect();
            wanted.extend(upload.iter().flat_map(|(_, _, parts)| parts.values().map(|part| part.id)));
            let garbage = bench.garbage();
            for id in 1..=next_part {
                let id = PartId([id; 16]);
                prop_assert_eq!(bench.referenced(id), wanted.contains(&id), "{:?}", id);
                prop_assert!(!(wanted.contains(&id) && garbage.contains(&id)), "{:?} is both", id);
            }
        }
    }
}
