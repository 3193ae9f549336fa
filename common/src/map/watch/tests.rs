//! A watch against a leader that does as it is told: leases, news, gaps, and finding the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{MapWatch, POLL_HOLD};
use crate::clock::ManualClock;
use crate::ids::{ClusterId, InstanceId, NodeId, RequestId};
use crate::map::change::{MapChange, MapEntry};
use crate::map::{ClusterMap, MAP_LEASE_MS, MapVersion, Node, NodeProfile, NodeState, User};
use crate::object::UserId;
use crate::protocol::{Answer, MapUpdate, Refusal, Request, Response, decode, encode};
use crate::rpc::local::LocalNetwork;
use crate::rpc::{Envelope, PeerIdentity, Service};

const LEASE: Duration = Duration::from_millis(MAP_LEASE_MS);
const PATIENCE: Duration = Duration::from_secs(30);
const LEADER: &str = "leader";

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens in time")
}

fn node(number: u8, addr: &str) -> Node {
    let instance = InstanceId([number; 16]);
    let (name, addr, zone) = (addr.to_owned(), addr.to_owned(), "z".to_owned());
    Node::new(NodeProfile { name, instance, addr, zone, capacity_bytes: 1 }, NodeState::Active)
}

fn first_map() -> ClusterMap {
    let nodes = BTreeMap::from([(NodeId(1), node(1, LEADER)), (NodeId(2), node(2, "other"))]);
    ClusterMap::formed(ClusterId([1; 16]), 1, vec![NodeId(1)], vec![vec![NodeId(1)]], nodes)
}

fn create_user(number: u8) -> MapEntry {
    let name = format!("user-{number}");
    let user = User { display_name: name.clone(), name, email: None, admin: false, quota: None, created_ms: 0 };
    let change = MapChange::CreateUser { id: UserId([number; 32]), user };
    MapEntry { request: RequestId([number; 16]), time_ms: 0, change }
}

/// Group 0's leader, as far as a watcher can tell.
struct Leader {
    state: Mutex<Script>,
    news: Notify,
    clock: Arc<ManualClock>,
}

struct Script {
    map: ClusterMap,
    changes: Vec<MapEntry>,
    /// Held polls sleep through news.
    deaf: bool,
    /// Polls that a defect ends, at the watcher: one in process is answered on its own task.
    panics: usize,
    /// The clock moves by this before a poll is answered.
    slow: Duration,
    /// What watchers said they had.
    asked: Vec<Option<MapVersion>>,
    /// Bytes of a piece of the whole map, where they are few.
    piece_bytes: usize,
    /// Changes that one answer carries.
    changes_max: usize,
    /// The map that is sent in pieces, and the places that pieces were asked from.
    whole: (MapVersion, Bytes),
    pieces: Vec<u64>,
    /// What the next who asks for a piece is answered instead.
    piece_refusals: Vec<Refusal>,
    /// Polls of who has this version, or a later one, are not answered.
    mute_from: Option<MapVersion>,
}

impl Leader {
    fn change(&self, entry: &MapEntry) -> MapVersion {
        let mut state = self.state.lock();
        state.map.apply(entry).unwrap();
        state.changes.push(entry.clone());
        self.news.notify_waiters();
        state.map.version
    }

    async fn poll(&self, have: Option<MapVersion>, hold: bool) -> (Answer, Bytes) {
        let news = self.news.notified();
        let (current, deaf, muted) = {
            let mut state = self.state.lock();
            state.asked.push(have);
            if state.panics > 0 {
                state.panics -= 1;
                drop(state);
                panic!("told to");
            }
            let muted = state.mute_from.is_some_and(|from| have >= Some(from));
            (have == Some(state.map.version), state.deaf, muted)
        };
        if muted {
            std::future::pending::<()>().await;
        }
        if hold && (current || deaf) {
            let heard = async { if deaf { std::future::pending().await } else { news.await } };
            let _ = tokio::time::timeout(POLL_HOLD, heard).await;
        }
        let mut state = self.state.lock();
        self.clock.advance(state.slow);
        let Some(have) = have else {
            if state.whole.1.is_empty() || state.piece_bytes == usize::MAX {
                state.whole = (state.map.version, encode(&state.map));
            }
            let (version, whole) = state.whole.clone();
            let bytes = whole.len() as u64;
            return (Ok(Response::Map(MapUpdate::Whole { version, bytes })), state.piece(0));
        };
        let mut entries = state.changes.iter().skip((have.0 - 1) as usize).cloned().collect::<Vec<_>>();
        let more = entries.len() > state.changes_max;
        entries.truncate(state.changes_max);
        let update = if entries.is_empty() { MapUpdate::Current } else { MapUpdate::Changes { entries, more } };
        (Ok(Response::Map(update)), Bytes::new())
    }

    fn fetch(&self, version: MapVersion, from: u64) -> (Answer, Bytes) {
        let mut state = self.state.lock();
        state.pieces.push(from);
        if let Some(refusal) = state.piece_refusals.pop() {
            return (Err(refusal), Bytes::new());
        }
        assert_eq!(version, state.whole.0);
        (Ok(Response::MapPiece), state.piece(from as usize))
    }
}

impl Script {
    fn piece(&self, from: usize) -> Bytes {
        let whole = &self.whole.1;
        whole.slice(from..whole.len().min(from.saturating_add(self.piece_bytes)))
    }
}

#[async_trait]
impl Service for Leader {
    async fn call(&self, _peer: &PeerIdentity, request: Envelope) -> Envelope {
        let (answer, payload) = match decode(&request.header).unwrap() {
            Request::WatchMap { have, hold, .. } => self.poll(have, hold).await,
            Request::FetchMap { version, from } => self.fetch(version, from),
            Request::PeekMap => (Ok(Response::MapPeeked), encode(&self.state.lock().map.skeleton())),
            Request::ChangeMap(entry) => {
                self.change(&entry);
                (Ok(Response::MapChanged(Ok(crate::map::change::MapReply::Done))), Bytes::new())
            }
            other => panic!("unexpected request {other:?}"),
        };
        Envelope { header: encode(&answer), payload }
    }

    fn receive(&self, _peer: &PeerIdentity, _message: Envelope) {}
}

/// A node that is no voter: it knows the map and who leads, no more.
struct Bystander;

#[async_trait]
impl Service for Bystander {
    async fn call(&self, _peer: &PeerIdentity, request: Envelope) -> Envelope {
        let (answer, payload): (Answer, Bytes) = match decode(&request.header).unwrap() {
            Request::PeekMap => (Ok(Response::MapPeeked), encode(&first_map().skeleton())),
            _ => (Err(Refusal::NotHere), Bytes::new()),
        };
        Envelope { header: encode(&answer), payload }
    }

    fn receive(&self, _peer: &PeerIdentity, _message: Envelope) {}
}

struct Site {
    network: LocalNetwork,
    clock: Arc<ManualClock>,
    leader: Arc<Leader>,
}

impl Site {
    fn new() -> Self {
        let network = LocalNetwork::new();
        let clock = ManualClock::at(Duration::from_secs(10));
        let script = Script {
            map: first_map(),
            changes: Vec::new(),
            deaf: false,
            panics: 0,
            slow: Duration::ZERO,
            asked: Vec::new(),
            piece_bytes: usize::MAX,
            changes_max: usize::MAX,
            whole: (MapVersion(0), Bytes::new()),
            pieces: Vec::new(),
            piece_refusals: Vec::new(),
            mute_from: None,
        };
        let leader = Arc::new(Leader { state: Mutex::new(script), news: Notify::new(), clock: clock.clone() });
        let site = Self { network, clock, leader };
        site.leader_appears();
        site
    }

    fn leader_appears(&self) {
        self.network.register(LEADER, self.leader.clone(), identity(Some(NodeId(1))));
    }

    async fn connect(&self, seed: &str) -> MapWatch {
        let transport = self.network.transport(identity(None));
        soon(MapWatch::connect(vec![seed.to_owned()], InstanceId([9; 16]), transport, self.clock.clone())).await
    }

    fn resume(&self) -> MapWatch {
        let transport = self.network.transport(identity(None));
        MapWatch::resume(first_map().skeleton(), Vec::new(), InstanceId([9; 16]), transport, self.clock.clone())
    }
}

fn identity(node: Option<NodeId>) -> crate::rpc::IdentitySource {
    let instance = InstanceId([node.map_or(9, |node| node.0 as u8); 16]);
    Arc::new(move || PeerIdentity { instance, node, cluster: None })
}

#[tokio::test]
async fn the_map_is_current_while_the_lease_lasts() {
    let site = Site::new();
    let watch = site.connect(LEADER).await;
    assert_eq!(*watch.current().unwrap(), first_map());
    site.network.unregister(LEADER);
    assert!(watch.current().is_some());
    site.clock.advance(LEASE);
    assert_eq!(watch.current(), None);
    assert_eq!(*watch.latest(), first_map());
    let version = site.leader.change(&create_user(1));
    site.leader_appears();
    assert_eq!(soon(watch.refresh()).await.users.len(), 1);
    assert_eq!(watch.current().unwrap().version, version);
}

#[tokio::test]
async fn the_lease_counts_from_before_the_poll() {
    let site = Site::new();
    let watch = site.connect(LEADER).await;
    site.network.unregister(LEADER);
    site.leader.state.lock().slow = LEASE;
    site.leader_appears();
    let _ = soon(watch.refresh()).await;
    assert_eq!(watch.current(), None);
}

#[tokio::test]
async fn changes_come_in_order_and_amount_to_the_same_map() {
    let site = Site::new();
    let watch = site.connect(LEADER).await;
    let mut version = MapVersion(0);
    for number in 1..=20 {
        version = site.leader.change(&create_user(number));
    }
    let map = soon(watch.changed(version)).await;
    assert_eq!(*map, site.leader.state.lock().map);
    assert!(watch.current().is_some());
}

#[tokio::test]
async fn a_large_map_comes_in_pieces_and_counts_when_nothing_is_lacking() {
    let site = Site::new();
    for number in 1..=9 {
        site.leader.change(&create_user(number));
    }
    let bytes = {
        let mut state = site.leader.state.lock();
        (state.piece_bytes, state.changes_max) = (100, 2);
        state.piece_refusals = vec![Refusal::Uncertain; 2];
        // The copy that is sent is older than what there is: the rest comes as changes, two at a time.
        let mut older = first_map();
        state.changes[..4].iter().for_each(|entry| drop(older.apply(entry)));
        state.whole = (older.version, encode(&older));
        state.whole.1.len() as u64
    };
    let watch = site.connect(LEADER).await;
    assert_eq!(*watch.current().unwrap(), site.leader.state.lock().map);
    let state = site.leader.state.lock();
    let mut expected: Vec<u64> = (0..bytes).step_by(100).skip(1).collect();
    // The first of them was lost twice, and only that was asked for again.
    expected.splice(0..0, [100, 100]);
    assert_eq!(state.pieces, expected);
    let asked: Vec<u64> = state.asked.iter().map(|have| have.map_or(0, |have| have.0)).collect();
    assert_eq!(asked[..4], [0, 5, 7, 9]);
}

#[tokio::test]
async fn a_copy_that_is_given_up_meanwhile_is_begun_anew() {
    let site = Site::new();
    {
        let mut state = site.leader.state.lock();
        state.piece_bytes = 100;
        state.piece_refusals = vec![Refusal::NotReady("given up".into())];
    }
    let watch = site.connect(LEADER).await;
    assert_eq!(*watch.current().unwrap(), first_map());
    assert_eq!(site.leader.state.lock().asked.iter().filter(|have| have.is_none()).count(), 2);
}

#[tokio::test]
async fn who_has_caught_up_only_in_part_has_no_lease_by_that() {
    let site = Site::new();
    let watch = site.connect(LEADER).await;
    site.network.unregister(LEADER);
    site.clock.advance(LEASE);
    for number in 1..=5 {
        site.leader.change(&create_user(number));
    }
    {
        let mut state = site.leader.state.lock();
        (state.changes_max, state.mute_from) = (1, Some(MapVersion(3)));
    }
    site.leader_appears();
    assert_eq!(soon(watch.changed(MapVersion(3))).await.version, MapVersion(3));
    assert!(watch.current().is_none());
    site.leader.state.lock().mute_from = None;
    assert_eq!(soon(watch.refresh()).await.version, MapVersion(6));
    assert_eq!(watch.current().unwrap().version, MapVersion(6));
}

#[tokio::test]
async fn a_refresh_does_not_wait_for_the_poll_that_is_held() {
    let site = Site::new();
    site.leader.state.lock().deaf = true;
    let watch = site.connect(LEADER).await;
    for number in 1..=3 {
        let version = site.leader.change(&create_user(number));
        let (one, another) = soon(async { tokio::join!(watch.refresh(), watch.refresh()) }).await;
        assert!(one.version >= version && another.version >= version);
    }
    assert_eq!(*watch.latest(), site.leader.state.lock().map);
}

#[tokio::test]
async fn changes_that_do_not_fit_are_answered_by_asking_for_everything() {
    let site = Site::new();
    let watch = site.connect(LEADER).await;
    let version = {
        // The leader's map gains a user in a way that its changes do not tell: what they tell is refused twice.
        let mut state = site.leader.state.lock();
        state.map.apply(&create_user(1)).unwrap();
        state.map.apply(&create_user(2)).unwrap();
        let nothing = MapChange::DeleteKey { id: "none".to_owned() };
        let misfit = MapEntry { request: RequestId([3; 16]), time_ms: 0, change: nothing };
        state.changes.extend([misfit.clone(), misfit]);
        state.map.version
    };
    site.leader.news.notify_waiters();
    assert_eq!(*soon(watch.changed(version)).await, site.leader.state.lock().map);
    assert_eq!(site.leader.state.lock().asked.iter().filter(|have| have.is_none()).count(), 2);
}

#[tokio::test]
async fn a_watch_that_panics_goes_on_with_all_of_the_map() {
    let site = Site::new();
    let watch = site.connect(LEADER).await;
    site.leader.state.lock().panics = 1;
    let version = site.leader.change(&create_user(1));
    soon(watch.changed(version)).await;
    let version = site.leader.change(&create_user(2));
    assert_eq!(*soon(watch.changed(version)).await, site.leader.state.lock().map);
    let state = site.leader.state.lock();
    assert_eq!((state.panics, state.asked.iter().filter(|have| have.is_none()).count()), (0, 2));
}

#[tokio::test]
async fn the_leader_is_found_through_any_node() {
    let site = Site::new();
    site.network.register("other", Arc::new(Bystander), identity(Some(NodeId(2))));
    let watch = site.connect("other").await;
    assert_eq!(*watch.current().unwrap(), first_map());
    let entry = create_user(1);
    soon(watch.change(entry, PATIENCE)).await.unwrap().unwrap();
    assert_eq!(soon(watch.changed(MapVersion(2))).await.users.len(), 1);
}

#[tokio::test]
async fn a_watch_that_resumes_begins_with_what_it_knows_and_replaces_it() {
    let site = Site::new();
    site.leader.change(&create_user(1));
    site.network.unregister(LEADER);
    let watch = site.resume();
    assert!(watch.current().is_none() && !watch.has_arrived());
    assert_eq!(watch.latest().addr(NodeId(1)), Some(LEADER));
    site.leader_appears();
    assert_eq!(soon(watch.changed(MapVersion(1))).await.users.len(), 1);
    assert_eq!(site.leader.state.lock().asked[0], None);
    assert!(watch.has_arrived());
}

#[tokio::test]
async fn a_change_without_a_leader_has_no_known_outcome() {
    let site = Site::new();
    let watch = site.connect(LEADER).await;
    site.network.unregister(LEADER);
    let outcome = watch.change(create_user(1), Duration::from_millis(50)).await;
    assert_eq!(outcome, Err(Refusal::Uncertain));
}
