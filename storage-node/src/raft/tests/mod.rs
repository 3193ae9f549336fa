//! The module's behaviour, on a network of workers that a test steps: no thread, no time, everything from a seed.

mod elections;
mod membership;
mod random;
mod reads;
mod replication;
mod snapshots;
mod storage;
mod storage_faults;
mod threads;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use annulus_common::ids::{GroupId, NodeId};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Fetch, FetchError, GroupSpec, GroupStatus, Input, Limits, MembershipChange, Outbox, RaftError, Role, StateMachine,
    Worker, WorkerConfig,
};
use crate::kv::memory::MemoryKv;
use crate::kv::{Batch, Kv, KvRead, Table};

/// The group of most tests.
pub(super) const GROUP: GroupId = GroupId(7);
/// Deliveries after which a network that does not come to rest is at fault.
const DELIVERIES_MAX: usize = 200_000;

/// A state machine that remembers every command under its index, and a digest of all of them in order.
pub(super) struct Journal {
    kv: Arc<dyn Kv>,
    group: GroupId,
    pub(super) restored: Arc<Mutex<u32>>,
}

impl Journal {
    pub(super) fn new(kv: Arc<dyn Kv>, group: GroupId) -> Self {
        Self { kv, group, restored: Arc::default() }
    }

    fn key(group: GroupId, rest: &[u8]) -> Bytes {
        [&group.0.to_be_bytes()[..], rest].concat().into()
    }

    pub(super) fn digest(kv: &dyn KvRead, group: GroupId) -> u64 {
        let stored = kv.get(Table::Meta, &Self::key(group, b"digest")).unwrap();
        stored.map_or(0, |bytes| u64::from_be_bytes(bytes.as_ref().try_into().unwrap()))
    }

    pub(super) fn command(kv: &dyn KvRead, group: GroupId, index: u64) -> Option<Bytes> {
        kv.get(Table::Meta, &Self::key(group, &[b"c", &index.to_be_bytes()[..]].concat())).unwrap()
    }
}

impl StateMachine for Journal {
    fn apply(&mut self, index: u64, command: &[u8], batch: &mut Batch) -> Bytes {
        let before = Self::digest(&*self.kv, self.group);
        let digest = xxh3_64(&[&before.to_be_bytes()[..], &index.to_be_bytes()[..], command].concat());
        batch.put(Table::Meta, Self::key(self.group, b"digest"), digest.to_be_bytes().to_vec());
        let key = Self::key(self.group, &[b"c", &index.to_be_bytes()[..]].concat());
        batch.put(Table::Meta, key, command.to_vec());
        Bytes::copy_from_slice(&index.to_be_bytes())
    }

    fn range(&self) -> (Table, Bytes, Bytes) {
        (Table::Meta, Self::key(self.group, b""), Self::key(GroupId(self.group.0 + 1), b""))
    }

    fn restored(&mut self) {
        *self.restored.lock() += 1;
    }
}

/// What waits for an answer.
pub(super) type Answer<T> = oneshot::Receiver<Result<T, RaftError>>;

type Sent = Arc<Mutex<VecDeque<(NodeId, NodeId, Bytes)>>>;

/// A node of the network: its disk outlives its worker.
pub(super) struct TestNode {
    pub(super) kv: Arc<MemoryKv>,
    pub(super) worker: Option<Worker>,
    pub(super) groups: Vec<GroupId>,
}

/// Nodes and the frames between them.
pub(super) struct Net {
    pub(super) seed: u64,
    pub(super) limits: Limits,
    pub(super) nodes: BTreeMap<NodeId, TestNode>,
    /// Frames on their way.
    pub(super) sent: Sent,
    /// Fetches on their way, with who asked.
    pub(super) fetches: VecDeque<(NodeId, Fetch)>,
    /// Directions in which nothing passes.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Every state that was ever seen: the digest by group and applied index. Two of the same index must be the same.
    seen: BTreeMap<(GroupId, u64), u64>,
}

impl Net {
    /// A network of nodes `1..=nodes`, all voters of `GROUP`.
    pub(super) fn new(nodes: u64, seed: u64) -> Self {
        Self::with_limits(nodes, seed, Limits::default())
    }

    pub(super) fn with_limits(nodes: u64, seed: u64, limits: Limits) -> Self {
        let mut net = Self { limits, ..Self::empty(seed) };
        let voters: Vec<_> = (1..=nodes).map(NodeId).collect();
        for node in &voters {
            net.add_node(*node);
            net.create(*node, GROUP, &voters);
        }
        net
    }

    pub(super) fn empty(seed: u64) -> Self {
        let (nodes, sent, fetches) = Default::default();
        Self { seed, limits: Limits::default(), nodes, sent, fetches, cut: BTreeSet::new(), seen: BTreeMap::new() }
    }

    pub(super) fn add_node(&mut self, node: NodeId) {
        let kv = Arc::new(MemoryKv::new());
        self.nodes.insert(node, TestNode { kv, worker: None, groups: Vec::new() });
        self.start(node);
    }

    /// Starts a group on a node that runs.
    pub(super) fn create(&mut self, node: NodeId, group: GroupId, voters: &[NodeId]) {
        let kv: Arc<dyn Kv> = self.nodes[&node].kv.clone();
        let (reply, mut answer) = oneshot::channel();
        let spec = GroupSpec { group, voters: voters.to_vec() };
        self.input(node, vec![Input::Create { spec, machine: Box::new(Journal::new(kv, group)), reply }]);
        answer.try_recv().unwrap().unwrap();
        let groups = &mut self.nodes.get_mut(&node).unwrap().groups;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }

    /// Starts a node's worker, with the groups it had.
    pub(super) fn start(&mut self, node: NodeId) {
        let kv: Arc<dyn Kv> = self.nodes[&node].kv.clone();
        self.start_on(node, kv);
    }

    /// The same, with something between the worker and its disk.
    pub(super) fn start_on(&mut self, node: NodeId, kv: Arc<dyn Kv>) {
        let sent = Arc::clone(&self.sent);
        let outbox = Outbox { send: Arc::new(move |to, frame| sent.lock().push_back((node, to, frame))) };
        let config = WorkerConfig { node, seed: self.seed, index: 0, workers: 1, limits: self.limits };
        let worker = Worker::new(config, kv, outbox, Box::new(|_, attempt| attempt < 3));
        let entry = self.nodes.get_mut(&node).unwrap();
        entry.worker = Some(worker);
        for group in entry.groups.clone() {
            self.create(node, group, &[]);
        }
    }

    /// The process ends; what was written stays.
    pub(super) fn stop(&mut self, node: NodeId) {
        let entry = self.nodes.get_mut(&node).unwrap();
        if let Some(mut worker) = entry.worker.take() {
            worker.stop(&RaftError::Stopped);
        }
        self.fetches.retain(|(from, _)| *from != node);
    }

    /// The machine ends: what was not synced is lost.
    pub(super) fn crash(&mut self, node: NodeId) {
        self.stop(node);
        self.nodes[&node].kv.crash();
    }

    /// The disk of a node that is down is another, empty one.
    pub(super) fn forget(&mut self, node: NodeId) {
        let entry = self.nodes.get_mut(&node).unwrap();
        (entry.kv, entry.groups) = (Arc::new(MemoryKv::new()), Vec::new());
    }

    /// Nothing passes between `node` and the others.
    pub(super) fn isolate(&mut self, node: NodeId) {
        for other in self.nodes.keys().filter(|other| **other != node) {
            self.cut.insert((node, *other));
            self.cut.insert((*other, node));
        }
    }

    pub(super) fn cut_direction(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(super) fn passes(&self, from: NodeId, to: NodeId) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// One turn of a node; nothing if it is down.
    pub(super) fn input(&mut self, node: NodeId, inputs: Vec<Input>) {
        let Some(worker) = self.nodes.get_mut(&node).and_then(|entry| entry.worker.as_mut()) else { return };
        let mut fetches = worker.turn(inputs).expect("a worker failed");
        while worker.has_work() {
            fetches.extend(worker.turn(Vec::new()).expect("a worker failed"));
        }
        self.fetches.extend(fetches.into_iter().map(|fetch| (node, fetch)));
        self.check_states(node);
    }

    /// State machines that have applied the same number of entries are the same.
    fn check_states(&mut self, node: NodeId) {
        for group in self.nodes[&node].groups.clone() {
            let Some(status) = self.try_status(node, group).filter(|status| !status.installing) else { continue };
            let digest = Journal::digest(&*self.nodes[&node].kv, group);
            let seen = *self.seen.entry((group, status.applied)).or_insert(digest);
            assert_eq!(seen, digest, "node {node} differs at index {} (seed {})", status.applied, self.seed);
        }
    }

    /// A tick of every node, and everything that follows from it.
    pub(super) fn tick(&mut self) {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.input(node, vec![Input::Tick]);
        }
        self.settle();
    }

    pub(super) fn ticks(&mut self, count: usize) {
        (0..count).for_each(|_| self.tick());
    }

    /// Delivers everything until nothing is on its way.
    pub(super) fn settle(&mut self) {
        for _ in 0..DELIVERIES_MAX {
            if !self.deliver_frame() && !self.deliver_fetch() {
                return;
            }
        }
        panic!("the network does not come to rest (seed {})", self.seed);
    }

    pub(super) fn deliver_frame(&mut self) -> bool {
        let Some((from, to, frame)) = self.sent.lock().pop_front() else { return false };
        if self.passes(from, to) {
            self.input(to, vec![Input::Frame { from, frame }]);
        }
        true
    }

    pub(super) fn deliver_fetch(&mut self) -> bool {
        let Some((node, fetch)) = self.fetches.pop_front() else { return false };
        let Fetch { from, group, index, after, request } = fetch;
        let mut result = Err(FetchError { reason: "unreachable".into() });
        let passes = self.passes(node, from) && self.passes(from, node);
        if let Some(worker) = self.nodes[&from].worker.as_ref().filter(|_| passes) {
            let (reply, input) = futures::executor::block_on(worker.serve_snapshot(node, request));
            result = Ok(reply);
            self.input(from, input.into_iter().collect());
        }
        if let Some(after) = after {
            self.input(node, vec![Input::Fetched { group, index, after, result }]);
        }
        true
    }

    pub(super) fn try_status(&self, node: NodeId, group: GroupId) -> Option<GroupStatus> {
        self.nodes[&node].worker.as_ref()?.status(group)
    }

    pub(super) fn status(&self, node: NodeId) -> GroupStatus {
        self.try_status(node, GROUP).unwrap()
    }

    /// The leader of the highest term.
    pub(super) fn leader(&self) -> Option<NodeId> {
        let leaders = self.nodes.keys().filter_map(|node| {
            let status = self.try_status(*node, GROUP)?;
            (status.role == Role::Leader).then_some((status.term, *node))
        });
        leaders.max().map(|(_, node)| node)
    }

    /// Ticks until there is a leader that has committed something in its term.
    pub(super) fn elect(&mut self) -> NodeId {
        self.until("a leader", |net| {
            let leader = net.leader()?;
            let status = net.status(leader);
            (status.committed == status.last_index).then_some(leader)
        })
    }

    /// Ticks until something is the case.
    pub(super) fn until<T>(&mut self, what: &str, is: impl Fn(&Self) -> Option<T>) -> T {
        for _ in 0..600 {
            if let Some(result) = is(self) {
                return result;
            }
            self.tick();
        }
        panic!("{what} never came (seed {})", self.seed);
    }

    /// Ticks until all nodes that run have applied the same.
    pub(super) fn converge(&mut self) -> u64 {
        self.until("convergence", |net| {
            let running: Vec<_> = net.nodes.keys().filter_map(|node| net.try_status(*node, GROUP)).collect();
            let first = running.first()?;
            let same = |status: &GroupStatus| {
                status.applied == first.applied && status.applied == status.last_index && !status.installing
            };
            (net.leader().is_some() && running.iter().all(same)).then_some(first.applied)
        })
    }

    pub(super) fn propose(&mut self, node: NodeId, command: impl Into<Bytes>) -> Answer<Bytes> {
        let (reply, answer) = oneshot::channel();
        self.input(node, vec![Input::Propose { group: GROUP, command: command.into(), reply }]);
        answer
    }

    pub(super) fn read(&mut self, node: NodeId) -> Answer<()> {
        let (reply, answer) = oneshot::channel();
        self.input(node, vec![Input::Read { group: GROUP, reply }]);
        answer
    }

    pub(super) fn change(&mut self, node: NodeId, change: MembershipChange) -> Answer<()> {
        let (reply, answer) = oneshot::channel();
        self.input(node, vec![Input::ChangeMembership { group: GROUP, change, reply }]);
        answer
    }

    pub(super) fn transfer(&mut self, node: NodeId, to: NodeId) -> Answer<()> {
        let (reply, answer) = oneshot::channel();
        self.input(node, vec![Input::TransferLeader { group: GROUP, to, reply }]);
        answer
    }

    /// Proposes wherever the leader is until it is acknowledged, and returns the index at which the command was
    /// applied.
    pub(super) fn commit(&mut self, command: impl Into<Bytes>) -> u64 {
        let command = command.into();
        for _ in 0..100 {
            let leader = self.elect();
            let mut answer = self.propose(leader, command.clone());
            self.settle();
            if let Some(Ok(reply)) = answered(&mut answer) {
                return index_of(&reply);
            }
            self.tick();
        }
        panic!("a command was never acknowledged (seed {})", self.seed);
    }

    /// Commits so much that the logs are cut.
    pub(super) fn commit_until_cut(&mut self) {
        for number in 0..150_u32 {
            self.commit([&number.to_be_bytes()[..], &[0; 64 << 10][..]].concat());
        }
    }

    pub(super) fn kv(&self, node: NodeId) -> &dyn KvRead {
        &*self.nodes[&node].kv
    }
}

/// What the journal answers.
pub(super) fn index_of(reply: &Bytes) -> u64 {
    u64::from_be_bytes(reply.as_ref().try_into().unwrap())
}

/// The answer, if there is one.
pub(super) fn answered<T>(answer: &mut Answer<T>) -> Option<Result<T, RaftError>> {
    answer.try_recv().ok()
}
