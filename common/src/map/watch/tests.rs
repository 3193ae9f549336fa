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
        let (current, deaf) = {
            let mut state = self.state.lock();
            state.asked.push(have);
            if state.panics > 0 {
                state.panics -= 1;
                drop(state);
                panic!("told to");
            }
            (have == Some(state.map.version), state.deaf)
        };
        if hold && (current || deaf) {
            let heard = async { if deaf { std::future::pending().await } else { news.await } };
            let _ = tokio::time::timeout(POLL_HOLD, heard).await;
        }
        let state = self.state.lock();
        self.clock.advance(state.slow);
        let Some(have) = have else { return (Ok(Response::Map(MapUpdate::Whole)), encode(&state.map)) };
        let lacks = state.changes.iter().skip((have.0 - 1) as usize).cloned().collect::<Vec<_>>();
        let update = if lacks.is_empty() { MapUpdate::Current } else { MapUpdate::Changes(lacks) };
        (Ok(Response::Map(update)), Bytes::new())
    }
}

#[async_trait]
impl Service for Leader {
    async fn call(&self, _peer: &PeerIdentity, request: Envelope) -> Envelope {
        let (answer, payload) = match decode(&request.header).unwrap() {
            Request::WatchMap { have, hold, .. } => self.poll(have, hold).await,
            Request::PeekMap => (Ok(Response::Map(MapUpdate::Whole)), encode(&self.state.lock().map.skeleton())),
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
            Request::PeekMap => (Ok(Response::Map(MapUpdate::Whole)), encode(&first_map().skeleton())),
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
