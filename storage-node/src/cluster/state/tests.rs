//! What the state machine keeps is what the map says: in memory, in the database, at a watcher.

use std::collections::BTreeMap;
use std::sync::Arc;

use annulus_common::acl::BucketAcl;
use annulus_common::ids::{BucketId, ClusterId, Epoch, GroupId, InstanceId, NodeId, RequestId};
use annulus_common::lifecycle::{Filter, Lifecycle, Rule};
use annulus_common::map::change::{MapChange, MapEntry, MapRefusal, MapReply};
use annulus_common::map::size::{MAP_BYTES_MAX, MapSize, SizeLimit};
use annulus_common::map::{
    AccessKey, BucketChange, ClusterMap, LayoutStep, MapVersion, Node, NodeProfile, NodeSettings, NodeState, User,
};
use annulus_common::object::UserId;
use annulus_common::protocol;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::super::records::{self, HISTORY_BYTES_MAX, HISTORY_MAX};
use super::{
    Lack, MapMachine, MapState, Outcome, UPDATE_BYTES_MAX, UPDATE_CHANGES_MAX, decode_outcome, encode_command,
};
use crate::kv::memory::MemoryKv;
use crate::kv::{Batch, Durability, Kv};
use crate::raft::StateMachine;

fn first_map() -> ClusterMap {
    let nodes = BTreeMap::from([(NodeId(1), Node::new(profile(0), NodeState::Active))]);
    ClusterMap {
        users: BTreeMap::from([(user_id(0), user(0))]),
        ..ClusterMap::formed(ClusterId([1; 16]), 1, vec![NodeId(1)], vec![vec![NodeId(1)]; 4], nodes)
    }
}

fn profile(number: u8) -> NodeProfile {
    NodeProfile {
        name: format!("n{number}"),
        instance: InstanceId([number; 16]),
        addr: format!("host-{number}:1"),
        zone: "z".to_owned(),
        capacity_bytes: 1,
    }
}

fn user_id(number: u8) -> UserId {
    UserId([number; 32])
}

fn user(number: u8) -> User {
    let name = format!("user-{number}");
    User { display_name: name.clone(), name, email: None, admin: number == 0, quota: None, created_ms: 0 }
}

fn change() -> impl Strategy<Value = MapChange> {
    let bucket = || (0..4u8).prop_map(|number| format!("bucket-{number}"));
    let request = || (0..6u8).prop_map(|number| RequestId([number; 16]));
    let key = || (0..4u8).prop_map(|number| format!("key-{number}"));
    prop_oneof![
        (bucket(), 0..3u8).prop_map(|(name, owner)| {
            MapChange::CreateBucket { name, owner: user_id(owner), config: Default::default() }
        }),
        (bucket(), 0..6u64, any::<bool>()).prop_map(|(name, id, open)| {
            let acl = if open { BucketAcl::PublicRead } else { BucketAcl::Private };
            MapChange::ConfigureBucket { name, id: BucketId(id), change: BucketChange::Acl(acl) }
        }),
        bucket().prop_map(|name| MapChange::BeginDeleteBucket { name }),
        (bucket(), request()).prop_map(|(name, token)| MapChange::AbortDeleteBucket { name, token }),
        (bucket(), request()).prop_map(|(name, token)| MapChange::FinishDeleteBucket { name, token }),
        (0..3u8).prop_map(|number| MapChange::CreateUser { id: user_id(number), user: user(number) }),
        (0..3u8).prop_map(|number| MapChange::DeleteUser { id: user_id(number) }),
        (key(), 0..3u8).prop_map(|(id, owner)| {
            let key = AccessKey::of_account(user_id(owner), "secret".to_owned(), 0);
            MapChange::CreateKey { id, key }
        }),
        key().prop_map(|id| MapChange::DeleteKey { id }),
        (0..3u8, any::<bool>()).prop_map(|(number, moved)| {
            let profile = profile(number);
            let addr = if moved { "elsewhere:1".to_owned() } else { profile.addr.clone() };
            MapChange::RegisterNode { node: None, profile: NodeProfile { addr, ..profile } }
        }),
    ]
}

/// A change, or a step of the layout that is planned when its turn comes.
#[derive(Clone, Debug)]
enum Asked {
    Change(MapChange),
    Step(LayoutStep),
}

fn asked() -> impl Strategy<Value = Asked> {
    let node = || (1..4u64).prop_map(NodeId);
    let step = prop_oneof![
        node().prop_map(|node| LayoutStep::Add(vec![node])),
        node().prop_map(LayoutStep::Drain),
        (node(), any::<bool>()).prop_map(|(node, force)| LayoutStep::Remove { node, force }),
        (node(), node()).prop_map(|(old, new)| LayoutStep::Replace { old, new }),
        node().prop_map(LayoutStep::Dead),
        (1..3u8).prop_map(LayoutStep::SetReplication),
        (node(), 1..9u64).prop_map(|(node, capacity)| {
            let settings = NodeSettings { zone: None, capacity_bytes: Some(capacity) };
            LayoutStep::Set { node, settings }
        }),
    ];
    let moved = (0..5u32, 1..6u64).prop_map(|(group, epoch)| (GroupId(group), Epoch(epoch)));
    prop_oneof![
        8 => change().prop_map(Asked::Change),
        6 => step.prop_map(Asked::Step),
        1 => any::<bool>().prop_map(|paused| Asked::Change(MapChange::PauseMoves(paused))),
        2 => proptest::collection::vec(moved, 0..6).prop_map(|moved| Asked::Change(MapChange::Moved(moved))),
    ]
}

fn entries() -> impl Strategy<Value = Vec<MapEntry>> {
    // Few request ids, so that some entries are asked for again; tokens are among them.
    let asked = proptest::collection::vec((0..40u8, asked()), 0..60);
    asked.prop_map(|asked| {
        let mut map = first_map();
        let entry = |(request, asked): (u8, Asked)| {
            let change = match asked {
                Asked::Change(change) => change,
                Asked::Step(step) => MapChange::ChangeLayout(map.plan(&step).ok()?),
            };
            let entry = MapEntry { request: RequestId([request; 16]), time_ms: 7, change };
            let _ = map.apply(&entry);
            Some(entry)
        };
        asked.into_iter().filter_map(entry).collect()
    })
}

struct Group {
    kv: Arc<MemoryKv>,
    machine: MapMachine,
    state: MapState,
    index: u64,
}

impl Group {
    fn begin() -> Self {
        let kv = Arc::new(MemoryKv::new());
        let mut batch = Batch::default();
        records::put_whole(&first_map(), &mut batch);
        kv.write(batch, Durability::Synced).unwrap();
        Self::on(kv)
    }

    fn on(kv: Arc<MemoryKv>) -> Self {
        let (machine, state) = MapMachine::open(kv.clone()).unwrap();
        Self { kv, machine, state, index: 0 }
    }

    fn apply(&mut self, entry: &MapEntry) -> Outcome {
        self.index += 1;
        let mut batch = Batch::default();
        let reply = self.machine.apply(self.index, &encode_command(entry), &mut batch);
        self.kv.write(batch, Durability::Buffered).unwrap();
        decode_outcome(&reply).unwrap()
    }

    fn map(&self) -> ClusterMap {
        ClusterMap::clone(&self.state.map().unwrap())
    }
}

fn create_bucket(request: u8, name: &str) -> MapEntry {
    let change = MapChange::CreateBucket { name: name.to_owned(), owner: user_id(0), config: Default::default() };
    MapEntry { request: RequestId([request; 16]), time_ms: 5, change }
}

fn numbered(number: u32) -> RequestId {
    let mut request = [7; 16];
    request[..4].copy_from_slice(&number.to_be_bytes());
    RequestId(request)
}

/// Lifecycle rules of about so many bytes for a bucket.
fn large_rules(request: u32, id: u64, name: &str, bytes: usize) -> MapEntry {
    let rule = |number: usize| Rule {
        id: format!("{number:0>200}"),
        enabled: true,
        filter: Filter::default(),
        expiration: None,
        noncurrent: None,
        abort_upload_days: Some(1),
    };
    let lifecycle = Lifecycle { rules: (0..bytes / 212).map(rule).collect() };
    let change = BucketChange::Lifecycle(Some(Arc::new(lifecycle)));
    let change = MapChange::ConfigureBucket { name: name.to_owned(), id: BucketId(id), change };
    MapEntry { request: numbered(request), time_ms: 5, change }
}

/// Brings a watcher's map to the group's, and says in how many answers.
fn catch_up(group: &Group, watcher: &mut ClusterMap) -> usize {
    for answers in 0.. {
        match group.state.lack_since(Some(watcher.version)).unwrap() {
            Lack::Nothing => return answers,
            Lack::Changes { entries, more } => {
                assert!(entries.iter().map(|entry| protocol::encode(entry).len()).sum::<usize>() <= UPDATE_BYTES_MAX);
                entries.iter().for_each(|entry| drop(watcher.apply(entry).unwrap()));
                assert_eq!(more, watcher.version < group.map().version);
            }
            Lack::Everything(map) => *watcher = ClusterMap::clone(&map),
        }
    }
    unreachable!("it ends")
}

proptest! {
    #[test]
    fn what_is_loaded_again_is_what_was_in_memory(entries in entries()) {
        let mut group = Group::begin();
        for entry in &entries {
            group.apply(entry);
        }
        let loaded = records::load(&*group.kv).unwrap().unwrap();
        prop_assert_eq!(&loaded.map, &group.map());
        // So is what is counted along the way.
        {
            let state = group.state.shared.state.lock();
            let state = state.as_ref().unwrap();
            prop_assert_eq!(&state.size, &MapSize::of(&state.map));
            prop_assert_eq!(state.history_bytes, state.history.iter().map(|kept| kept.bytes).sum::<usize>());
        }
        // The history too: a replica that restarts answers repeated requests as the others do.
        let mut restarted = Group::on(Arc::clone(&group.kv));
        for entry in &entries {
            prop_assert_eq!(restarted.apply(entry), group.apply(entry));
        }
    }

    #[test]
    fn a_watcher_that_applies_the_changes_arrives_at_the_map(entries in entries(), at in 0..60usize) {
        let mut group = Group::begin();
        let at = at.min(entries.len());
        entries[..at].iter().for_each(|entry| drop(group.apply(entry)));
        let mut watcher = group.map();
        entries[at..].iter().for_each(|entry| drop(group.apply(entry)));
        prop_assert!(catch_up(&group, &mut watcher) <= 2);
        prop_assert_eq!(watcher, group.map());
    }
}

#[test]
fn a_change_that_is_asked_for_again_answers_as_the_first_time() {
    let mut group = Group::begin();
    let first = group.apply(&create_bucket(1, "photos"));
    assert!(matches!(first.result, Ok(MapReply::Bucket(_))));
    assert!(matches!(group.apply(&create_bucket(2, "photos")).result, Err(MapRefusal::BucketExists(_))));
    group.apply(&create_bucket(3, "music"));
    assert_eq!(group.apply(&create_bucket(1, "photos")), first);
    assert_eq!(group.map().version, MapVersion(3));
}

#[test]
fn a_watcher_far_behind_or_ahead_gets_the_whole_map() {
    let mut group = Group::begin();
    let register = |time_ms: u64| {
        let mut request = [9; 16];
        request[..8].copy_from_slice(&time_ms.to_be_bytes());
        MapEntry {
            request: RequestId(request),
            time_ms,
            change: MapChange::RegisterNode { node: None, profile: profile(0) },
        }
    };
    for time_ms in 0..HISTORY_MAX as u64 + 10 {
        assert!(group.apply(&register(time_ms)).result.is_ok());
    }
    let version = group.map().version;
    let lack = |have| group.state.lack_since(have).unwrap();
    let told_since = MapVersion(version.0 - HISTORY_MAX as u64);
    for have in [None, Some(MapVersion(1)), Some(MapVersion(told_since.0 - 1)), Some(MapVersion(version.0 + 1))] {
        assert!(matches!(lack(have), Lack::Everything(map) if map.version == version));
    }
    assert!(matches!(lack(Some(version)), Lack::Nothing));
    let two_behind = lack(Some(MapVersion(version.0 - 2)));
    assert!(matches!(two_behind, Lack::Changes { entries, more: false } if entries.len() == 2));
    let far_behind = lack(Some(told_since));
    assert!(matches!(far_behind, Lack::Changes { entries, more: true } if entries.len() == UPDATE_CHANGES_MAX));
    assert_eq!(records::load(&*group.kv).unwrap().unwrap().history.len(), HISTORY_MAX);
}

#[test]
fn many_large_changes_at_once_are_told_in_pieces() {
    let mut group = Group::begin();
    group.apply(&create_bucket(1, "photos"));
    let mut watcher = group.map();
    for number in 0..20 {
        group.apply(&large_rules(1_000 + number, 1, "photos", 90 << 10)).result.unwrap();
    }
    // A megabyte takes eleven of them.
    assert_eq!(catch_up(&group, &mut watcher), 2);
    assert_eq!(watcher, group.map());
}

#[test]
fn what_is_remembered_is_small_whatever_is_configured() {
    let mut group = Group::begin();
    group.apply(&create_bucket(1, "photos"));
    group.apply(&large_rules(2_000, 1, "photos", 200 << 10)).result.unwrap();
    let history_bytes = |group: &Group| group.state.shared.state.lock().as_ref().unwrap().history_bytes;
    let before = history_bytes(&group);
    // Each of them changes a few bytes of a bucket that has many.
    for number in 0..300u32 {
        let (begin, abort) = (numbered(10_000 + number), numbered(20_000 + number));
        let name = || "photos".to_owned();
        let change = MapChange::BeginDeleteBucket { name: name() };
        group.apply(&MapEntry { request: begin, time_ms: 1, change }).result.unwrap();
        let change = MapChange::AbortDeleteBucket { name: name(), token: begin };
        group.apply(&MapEntry { request: abort, time_ms: 1, change }).result.unwrap();
        let change = BucketChange::RequesterPays(number % 2 == 0);
        let change = MapChange::ConfigureBucket { name: name(), id: BucketId(1), change };
        group.apply(&MapEntry { request: numbered(30_000 + number), time_ms: 1, change }).result.unwrap();
    }
    assert!(history_bytes(&group) - before < 900 * 200, "{} bytes", history_bytes(&group));
    // And what is large in itself is forgotten earlier.
    for number in 0..100 {
        group.apply(&large_rules(3_000 + number, 1, "photos", 200 << 10)).result.unwrap();
    }
    let loaded = records::load(&*group.kv).unwrap().unwrap();
    assert!(history_bytes(&group) <= HISTORY_BYTES_MAX);
    assert_eq!(loaded.history.len(), HISTORY_BYTES_MAX / (201 << 10));
    let restarted = Group::on(Arc::clone(&group.kv));
    assert_eq!(history_bytes(&restarted), history_bytes(&group));
    let told_since = |group: &Group| group.state.shared.state.lock().as_ref().unwrap().told_since();
    assert_eq!(told_since(&restarted), told_since(&group));
}

#[test]
fn what_grows_past_its_bounds_is_refused_and_what_shrinks_passes() {
    let mut group = Group::begin();
    let mut request = 0;
    let mut next = || {
        request += 1;
        request
    };
    let document = 200 << 10;
    let too_large = |outcome: &Outcome| match &outcome.result {
        Err(MapRefusal::TooLarge(limit)) => Some(*limit),
        _ => None,
    };
    // Each account fills its share, until all of them have filled the map.
    let mut buckets: Vec<(u64, String)> = Vec::new();
    let mut reached = Vec::new();
    'accounts: for account in 10..20u8 {
        let change = MapChange::CreateUser { id: user_id(account), user: user(account) };
        group.apply(&MapEntry { request: numbered(next()), time_ms: 0, change }).result.unwrap();
        loop {
            let name = format!("bucket-{}", buckets.len());
            let id = buckets.len() as u64 + 1;
            let change =
                MapChange::CreateBucket { name: name.clone(), owner: user_id(account), config: Default::default() };
            group.apply(&MapEntry { request: numbered(next()), time_ms: 0, change }).result.unwrap();
            buckets.push((id, name.clone()));
            let before = group.state.map().unwrap();
            let outcome = group.apply(&large_rules(next(), id, &name, document));
            match too_large(&outcome) {
                None => assert!(outcome.result.is_ok()),
                Some(limit) => {
                    assert_eq!(group.state.map().unwrap(), before, "nothing has changed");
                    reached.push(limit);
                    if limit == SizeLimit::Map {
                        break 'accounts;
                    }
                    break;
                }
            }
        }
    }
    let account = SizeLimit::Account;
    assert_eq!(reached, [account, account, account, account, SizeLimit::Map]);
    assert!(protocol::encode(&*group.state.map().unwrap()).len() as u64 > MAP_BYTES_MAX - (document as u64));
    let (last, last_name) = buckets.last().unwrap().clone();
    let too_much = large_rules(next(), last, &last_name, document);
    let mut restarted = Group::on(Arc::clone(&group.kv));
    assert_eq!(too_large(&restarted.apply(&too_much)), Some(SizeLimit::Map), "the count is that of the records");
    assert_eq!(too_large(&group.apply(&too_much)), Some(SizeLimit::Map));
    // What operators do, what closes a bucket, and what becomes smaller passes.
    let (id, name) = buckets[0].clone();
    let block = BucketChange::PublicAccessBlock(Some(Default::default()));
    let change = MapChange::ConfigureBucket { name: name.clone(), id: BucketId(id), change: block };
    group.apply(&MapEntry { request: numbered(next()), time_ms: 0, change }).result.unwrap();
    let change = MapChange::RegisterNode { node: None, profile: profile(7) };
    group.apply(&MapEntry { request: numbered(next()), time_ms: 0, change }).result.unwrap();
    group.apply(&large_rules(next(), id, &name, document / 2)).result.unwrap();
    assert!(group.apply(&large_rules(next(), last, &last_name, document / 4)).result.is_ok(), "there is room again");
}

#[test]
fn a_snapshot_replaces_everything() {
    let mut source = Group::begin();
    source.apply(&create_bucket(1, "photos"));
    let empty = Arc::new(MemoryKv::new());
    let mut follower = Group::on(empty);
    assert!(follower.state.map().is_none());
    let mut batch = Batch::default();
    let (table, from, to) = records::range();
    batch.delete_range(table, from.clone(), to.clone());
    {
        use crate::kv::KvRead;
        let mut cursor = source.kv.cursor(table, &from, &to).unwrap();
        cursor.seek(&from).unwrap();
        while let Some((key, value)) = cursor.entry() {
            batch.put(table, key.to_vec(), value.to_vec());
            cursor.next().unwrap();
        }
    }
    follower.kv.write(batch, Durability::Synced).unwrap();
    follower.machine.restored();
    assert_eq!(follower.map(), source.map());
    assert_eq!(follower.state.version(), source.map().version);
    let again = create_bucket(1, "photos");
    assert_eq!(follower.apply(&again), source.apply(&again));
}
