//! Versions of keys against a model: for each key, a list of its versions, newest first.

use annulus_common::object::{ListedItem, Retention, RetentionMode};
use annulus_common::protocol::metadata::UsagePage;
use annulus_common::usage::{Usage, counted_prefixes};
use proptest::sample::Index;

use super::*;
use crate::kv::{KvRead, Table};

/// A version as the model has it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Held {
    id: VersionId,
    /// The part of an object; a delete marker has none.
    part: Option<PartId>,
    is_object: bool,
    legal_hold: bool,
}

#[derive(Default)]
struct Model {
    keys: BTreeMap<String, Vec<Held>>,
    /// Whether the bucket ever kept versions.
    versioned: bool,
    /// Parts of what was removed for good.
    garbage: BTreeSet<PartId>,
}

impl Model {
    fn held(&mut self, key: &str) -> &mut Vec<Held> {
        self.keys.entry(key.to_owned()).or_default()
    }

    /// Whether the null version that a write would replace is locked.
    fn is_stuck(&mut self, key: &str, versioning: Versioning) -> bool {
        let null = self.held(key).iter().find(|held| held.id == VersionId::Null).cloned();
        versioning != Versioning::Enabled && null.is_some_and(|null| null.legal_hold)
    }

    fn add(&mut self, key: &str, new: Held) {
        if new.id == VersionId::Null {
            self.remove(key, VersionId::Null);
        }
        self.held(key).insert(0, new);
    }

    fn remove(&mut self, key: &str, id: VersionId) {
        let held = self.held(key);
        if let Some(at) = held.iter().position(|held| held.id == id) {
            let removed = held.remove(at);
            self.garbage.extend(removed.part);
        }
    }

    /// Key, version, whether it is an object, whether it is the key's latest.
    fn listed(&self) -> Vec<(String, VersionId, bool, bool)> {
        let all =
            self.keys.iter().flat_map(|(key, held)| held.iter().enumerate().map(move |(at, held)| (key, at, held)));
        all.map(|(key, at, held)| (key.clone(), held.id, held.is_object, at == 0)).collect()
    }

    fn current(&self) -> Vec<String> {
        let current = self.keys.iter().filter(|(_, held)| held.first().is_some_and(|held| held.is_object));
        current.map(|(key, _)| key.clone()).collect()
    }
}

#[derive(Clone, Debug)]
enum Act {
    Put(Versioning, String),
    Delete(Versioning, Vec<String>),
    DeleteVersions(Vec<(String, Index)>),
    DeleteNull(String),
    Hold(String, Index, bool),
}

fn an_act() -> impl Strategy<Value = Act> {
    let key = || "[ab]/?|a\u{0}b?";
    let versioning = || {
        prop_oneof![
            Just(Versioning::Unversioned),
            Just(Versioning::Suspended),
            Just(Versioning::Enabled),
            Just(Versioning::Enabled)
        ]
    };
    prop_oneof![
        4 => (versioning(), key()).prop_map(|(versioning, key)| Act::Put(versioning, key)),
        2 => (versioning(), vec(key(), 1..4)).prop_map(|(versioning, keys)| Act::Delete(versioning, keys)),
        3 => vec((key(), any::<Index>()), 1..6).prop_map(Act::DeleteVersions),
        1 => key().prop_map(Act::DeleteNull),
        1 => (key(), any::<Index>(), any::<bool>()).prop_map(|(key, at, hold)| Act::Hold(key, at, hold)),
    ]
}

fn list_versions(bench: &Bench, limit: u32) -> Vec<(String, VersionId, bool, bool)> {
    let (mut from, mut older_than, mut listed) = (Vec::new(), None, Vec::new());
    loop {
        let query = Query::Versions {
            bucket: BUCKET,
            shard: SHARD,
            prefix: String::new(),
            delimiter: None,
            from,
            older_than,
            limit,
        };
        let QueryReply::Versions(page) = bench.ask(&query) else { panic!("not a page") };
        older_than = None;
        for entry in page.entries {
            let Entry::Item(version) = entry else { panic!("no delimiter was given") };
            let is_object = matches!(version.item, ListedItem::Object(_));
            let key = version.item.key().to_owned();
            older_than = (page.next.as_deref() == Some(key.as_bytes())).then_some(version.sequence);
            listed.push((key, version.item.version(), is_object, version.is_latest));
        }
        match page.next {
            Some(next) => from = next,
            None => return listed,
        }
    }
}

/// Carries out an act, in the partition and in the model.
fn act(bench: &mut Bench, model: &mut Model, act: Act) {
    match act {
        Act::Put(versioning, key) => {
            let new = part((bench.index + 1) as u8, 1);
            let stuck = model.is_stuck(&key, versioning);
            let data = Data::Parts(vec![new.clone()]);
            match bench.run(put_in(versioning, &key, Conditions::default(), object(0, data))) {
                MetaReply::Written { version, .. } => {
                    assert!(!stuck);
                    model.versioned |= versioning == Versioning::Enabled;
                    model.add(&key, Held { id: version, part: Some(new.id), is_object: true, legal_hold: false });
                }
                MetaReply::Locked => {
                    assert!(stuck);
                    model.garbage.insert(new.id);
                }
                reply => panic!("{reply:?}"),
            }
        }
        Act::Delete(versioning, keys) => {
            let deletions = keys.iter().map(|key| deletion(key, None, Conditions::default())).collect();
            let MetaReply::Deleted(outcomes) = bench.run(delete_in(versioning, deletions)) else { panic!("refused") };
            for (key, outcome) in keys.iter().zip(outcomes) {
                let again = |held: &&Held| !held.is_object && held.id.sequence() == Some(bench.index);
                match outcome {
                    DeleteOutcome::Locked => assert!(model.is_stuck(key, versioning)),
                    DeleteOutcome::Deleted => {
                        assert!(!model.versioned && versioning == Versioning::Unversioned);
                        model.remove(key, VersionId::Null);
                    }
                    // Asked for twice by one mutation: one marker says so.
                    DeleteOutcome::Marked(id) if model.held(key).first().filter(again).is_some() => {
                        assert_eq!(model.held(key)[0].id, id);
                    }
                    DeleteOutcome::Marked(id) => {
                        assert!(!model.is_stuck(key, versioning));
                        assert!(model.versioned || versioning != Versioning::Unversioned);
                        model.versioned = true;
                        model.add(key, Held { id, part: None, is_object: false, legal_hold: false });
                    }
                    outcome => panic!("{outcome:?}"),
                }
            }
        }
        Act::DeleteVersions(choices) => {
            let chosen: Vec<(String, VersionId)> = choices
                .into_iter()
                .filter_map(|(key, at)| {
                    let held = model.held(&key);
                    (!held.is_empty()).then(|| (key.clone(), held[at.index(held.len())].id))
                })
                .collect();
            delete_versions(bench, model, &chosen);
        }
        Act::DeleteNull(key) => delete_versions(bench, model, &[(key, VersionId::Null)]),
        Act::Hold(key, at, legal_hold) => {
            let held = model.held(&key);
            if held.is_empty() {
                return;
            }
            let at = at.index(held.len());
            let version = held[at].id;
            if let Some(Version::Object(found)) = bench.version(&key, Some(version)) {
                let change = AttributeChange::LegalHold(legal_hold);
                let (path, sequence) = (path(&key), found.sequence);
                let reply = bench.run(Command::SetAttributes { path, version, sequence, change });
                assert_eq!(reply, MetaReply::Done);
                model.held(&key)[at].legal_hold = legal_hold;
            }
        }
    }
}

fn delete_versions(bench: &mut Bench, model: &mut Model, chosen: &[(String, VersionId)]) {
    let deletions = chosen.iter().map(|(key, id)| deletion(key, Some(*id), Conditions::default())).collect();
    let MetaReply::Deleted(outcomes) = bench.run(delete_in(Versioning::Enabled, deletions)) else { panic!("refused") };
    for ((key, id), outcome) in chosen.iter().zip(outcomes) {
        let held = model.held(key).iter().find(|held| held.id == *id).cloned();
        let expected = match held {
            Some(held) if held.legal_hold => DeleteOutcome::Locked,
            Some(held) if !held.is_object => DeleteOutcome::MarkerRemoved,
            _ => DeleteOutcome::Deleted,
        };
        assert_eq!(outcome, expected);
        if outcome != DeleteOutcome::Locked {
            model.remove(key, *id);
        }
    }
}

/// The partition has what the model has, however it is asked.
fn agree(bench: &Bench, model: &Model, limit: u32) {
    assert_eq!(list_versions(bench, limit), model.listed());
    assert_eq!(list_all(bench, "", None, b"", limit), model.current());
    for (key, held) in &model.keys {
        let id = |version: Option<Version>| match version {
            Some(Version::Object(object)) => {
                Some((object.version, true, object.object.attributes.legal_hold == Some(true)))
            }
            Some(Version::Marker(marker)) => Some((marker.version, false, false)),
            None => None,
        };
        let known = |held: &Held| (held.id, held.is_object, held.legal_hold);
        assert_eq!(id(bench.version(key, None)), held.first().map(known));
        for held in held {
            assert_eq!(id(bench.version(key, Some(held.id))), Some(known(held)));
            assert!(held.part.is_none_or(|part| bench.referenced(part)));
        }
    }
    assert_eq!(bench.garbage(), model.garbage);
    agree_on_usage(bench, model);
}

/// What is counted is what a walk through all versions finds.
fn agree_on_usage(bench: &Bench, model: &Model) {
    let mut expected: BTreeMap<String, Usage> =
        [String::new(), "a/".to_owned()].map(|prefix| (prefix, Usage::NONE)).into();
    for (key, id, is_object, _) in model.listed() {
        let Some(Version::Object(found)) = bench.version(&key, Some(id)) else {
            assert!(!is_object, "{key}");
            continue;
        };
        for prefix in counted_prefixes(&key) {
            let sum = expected.entry(prefix.to_owned()).or_default();
            *sum = sum.plus(Usage::of_object(found.object.size));
        }
    }
    for (prefix, whole) in &expected {
        assert_eq!(usage(bench, prefix, None, 10).whole, *whole, "{prefix:?}");
    }
    let below = expected.into_iter().filter(|(prefix, usage)| !prefix.is_empty() && *usage != Usage::NONE);
    assert_eq!(usage(bench, "", None, 10).below, below.collect::<Vec<_>>());
}

fn usage(bench: &Bench, prefix: &str, after: Option<&str>, limit: u32) -> UsagePage {
    let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
    match bench.ask(&Query::Usage { bucket: BUCKET, shard: SHARD, prefix, after, limit }) {
        QueryReply::Usage(page) => page,
        other => panic!("{other:?}"),
    }
}

#[test]
fn usage_is_told_level_by_level_and_page_by_page() {
    let mut bench = Bench::new();
    for key in ["top", "a/1", "a/2", "a/b/1", "a/c/1", "b/1", "1/2/3/4/5/deep", "a"] {
        bench.run(put(key, Conditions::default(), inline(1)));
    }
    let below =
        |page: UsagePage| page.below.into_iter().map(|(prefix, usage)| (prefix, usage.objects)).collect::<Vec<_>>();
    let named =
        |pairs: &[(&str, u64)]| pairs.iter().map(|(prefix, count)| ((*prefix).to_owned(), *count)).collect::<Vec<_>>();
    let whole = usage(&bench, "", None, 10);
    assert_eq!((whole.whole, whole.more), (Usage { objects: 8, bytes: 24 }, false));
    assert_eq!(below(whole), named(&[("1/", 1), ("a/", 4), ("b/", 1)]));
    assert_eq!(below(usage(&bench, "a/", None, 10)), named(&[("a/b/", 1), ("a/c/", 1)]));
    let first = usage(&bench, "", None, 2);
    assert!(first.more);
    assert_eq!(below(first), named(&[("1/", 1), ("a/", 4)]));
    assert_eq!(below(usage(&bench, "", Some("a/"), 2)), named(&[("b/", 1)]));
    // Deeper than is counted there is nothing to tell.
    assert_eq!(usage(&bench, "1/2/3/4/", None, 10).whole.objects, 1);
    assert_eq!(below(usage(&bench, "1/2/3/4/", None, 10)), named(&[]));
    assert_eq!(usage(&bench, "1/2/3/4/5/", None, 10), UsagePage::default());
}

proptest! {
    #[test]
    fn versions_agree_with_the_model(acts in vec(an_act(), 1..40), limit in 1u32..4) {
        let (mut bench, mut model) = (Bench::new(), Model::default());
        for one in acts {
            act(&mut bench, &mut model, one);
            agree(&bench, &model, limit);
        }
        // A key without versions leaves nothing behind.
        let all: Vec<(String, VersionId)> = model.listed().into_iter().map(|(key, id, ..)| (key, id)).collect();
        for (key, id) in &all {
            if let Some(Version::Object(object)) = bench.version(key, Some(*id)) {
                let change = AttributeChange::LegalHold(false);
                let (path, sequence) = (path(key), object.sequence);
                bench.run(Command::SetAttributes { path, version: *id, sequence, change });
            }
        }
        for (key, id) in all {
            bench.run(delete_in(Versioning::Enabled, vec![deletion(&key, Some(id), Conditions::default())]));
        }
        let fence = Command::Fence { bucket: BUCKET, shard: SHARD, token: RequestId([9; 16]) };
        prop_assert_eq!(bench.run(fence), MetaReply::Done);
        prop_assert_eq!(bench.records(b"abcnov"), 0);
    }
}

impl Bench {
    /// How many records of those kinds there are.
    fn records(&self, kinds: &[u8]) -> usize {
        let mut cursor = self.kv.cursor(Table::Meta, &[], &[0xff]).expect("memory answers");
        cursor.seek(&[]).expect("memory answers");
        let mut found = 0;
        while let Some((key, _)) = cursor.entry() {
            found += usize::from(kinds.contains(&key[4]));
            cursor.next().expect("memory answers");
        }
        found
    }
}

#[test]
fn a_deleted_key_is_absent_to_conditions() {
    let mut bench = Bench::new();
    let enabled = |conditions, tag| put_in(Versioning::Enabled, "k", conditions, inline(tag));
    bench.run(enabled(if_absent(), 1));
    assert_eq!(bench.run(enabled(if_absent(), 2)), MetaReply::PreconditionFailed);
    let marked = bench.run(delete_in(Versioning::Enabled, vec![deletion("k", None, Conditions::default())]));
    assert!(matches!(marked, MetaReply::Deleted(outcomes) if matches!(outcomes[..], [DeleteOutcome::Marked(_)])));
    let if_there = Conditions { if_match: Some(ETagCondition::Any), ..Conditions::default() };
    assert_eq!(bench.run(enabled(if_there, 3)), MetaReply::NoSuchKey);
    assert!(matches!(bench.run(enabled(if_absent(), 4)), MetaReply::Written { .. }));
}

#[test]
fn a_shard_with_a_mere_delete_marker_is_not_empty() {
    let mut bench = Bench::new();
    bench.run(delete_in(Versioning::Enabled, vec![deletion("k", None, Conditions::default())]));
    let fence = Command::Fence { bucket: BUCKET, shard: SHARD, token: RequestId([9; 16]) };
    assert_eq!(bench.run(fence), MetaReply::NotEmpty);
}

#[test]
fn a_locked_version_is_not_removed_before_its_time() {
    let mut bench = Bench::new();
    let until_ms = 10_000;
    for mode in [RetentionMode::Governance, RetentionMode::Compliance] {
        let mut bench = Bench::new();
        let mut locked = inline(1);
        locked.attributes.retention = Some(Retention { mode, until_ms });
        let reply = bench.run(put_in(Versioning::Enabled, "k", Conditions::default(), locked));
        let MetaReply::Written { version, .. } = reply else { panic!("{reply:?}") };
        let mut remove = |bypass_governance| {
            let asked = Deletion { bypass_governance, ..deletion("k", Some(version), Conditions::default()) };
            bench.run(delete_in(Versioning::Enabled, vec![asked]))
        };
        assert_eq!(remove(false), MetaReply::Deleted(vec![DeleteOutcome::Locked]));
        let bypassed = match mode {
            RetentionMode::Governance => DeleteOutcome::Deleted,
            RetentionMode::Compliance => DeleteOutcome::Locked,
        };
        assert_eq!(remove(true), MetaReply::Deleted(vec![bypassed]));
        // The bench's clock goes a second a mutation.
        (0..until_ms / 1000).for_each(|_| drop(bench.run(put("other", Conditions::default(), inline(1)))));
        let asked = vec![deletion("k", Some(version), Conditions::default())];
        assert_eq!(bench.run(delete_in(Versioning::Enabled, asked)), MetaReply::Deleted(vec![DeleteOutcome::Deleted]));
    }
    // A put or a plain delete only adds a version.
    let mut held = inline(1);
    held.attributes.legal_hold = Some(true);
    bench.run(put_in(Versioning::Enabled, "k", Conditions::default(), held));
    assert!(matches!(
        bench.run(put_in(Versioning::Enabled, "k", Conditions::default(), inline(2))),
        MetaReply::Written { .. }
    ));
}

#[test]
fn an_upload_without_a_retention_gets_the_buckets() {
    let mut bench = Bench::new();
    let id = bench.begin_upload("k", 1);
    let new = part(1, 1);
    bench.run(Command::PutPart { path: path("k"), upload: id, part: new.clone(), sent: None });
    let retention = Retention { mode: RetentionMode::Governance, until_ms: 9_000 };
    let reply = bench.run(Command::CompleteUpload {
        path: path("k"),
        upload: id,
        versioning: Versioning::Enabled,
        conditions: Conditions::default(),
        quota: QuotaTerms::default(),
        default_retention: Some(retention),
        parts: vec![1],
        fingerprint: parts_fingerprint(&[new]),
        etag: ETag { md5: [9; 16], parts: Some(1) },
        checksum: None,
    });
    assert!(matches!(reply, MetaReply::Written { version: VersionId::Id(_), .. }), "{reply:?}");
    assert_eq!(bench.object("k").and_then(|object| object.object.attributes.retention), Some(retention));
}

#[test]
fn a_version_that_is_not_there_is_no_match() {
    let mut bench = Bench::new();
    bench.run(put_in(Versioning::Enabled, "k", Conditions::default(), inline(1)));
    let version = bench.object("k").expect("it was put").version;
    let matching = Conditions { if_match: Some(ETagCondition::Any), ..Conditions::default() };
    for (conditions, outcome) in [
        (Conditions::default(), DeleteOutcome::Deleted),
        (matching, DeleteOutcome::NoSuchKey),
        (if_absent(), DeleteOutcome::Deleted),
        (Conditions::default(), DeleteOutcome::Deleted),
    ] {
        let deletion = deletion("k", Some(version), conditions.clone());
        let reply = bench.run(delete_in(Versioning::Enabled, vec![deletion]));
        assert_eq!(reply, MetaReply::Deleted(vec![outcome]), "{conditions:?}");
    }
}
