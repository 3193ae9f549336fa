//! The same with real threads and the machine's clock. Everything is waited for; nothing is timed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SystemClock;
use annulus_common::ids::{GroupId, NodeId};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

use super::{Journal, index_of};
use crate::kv::memory::MemoryKv;
use crate::kv::{Batch, Kv, Table};
use crate::raft::{
    COMMAND_BYTES_MAX, FetchError, GroupSpec, Outbox, RaftConfig, RaftError, RaftNode, RaftSeams, Role, SnapshotSource,
    StateMachine,
};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const GROUPS: u32 = 8;
const PATIENCE: Duration = Duration::from_secs(60);

type Peers = Arc<RwLock<BTreeMap<NodeId, RaftNode>>>;

struct Direct {
    node: NodeId,
    peers: Peers,
}

#[async_trait]
impl SnapshotSource for Direct {
    async fn fetch(&self, from: NodeId, request: Bytes) -> Result<Bytes, FetchError> {
        let peer = self.peers.read().get(&from).cloned().ok_or(FetchError { reason: "gone".into() })?;
        Ok(peer.serve_snapshot(self.node, request).await)
    }
}

async fn start(node: NodeId, kv: Arc<dyn Kv>, peers: &Peers, workers: usize) -> RaftNode {
    let reach = Arc::clone(peers);
    let send = move |to: NodeId, frame: Bytes| {
        if let Some(peer) = reach.read().get(&to) {
            peer.step(node, frame);
        }
    };
    let seams = RaftSeams {
        kv: Arc::clone(&kv),
        clock: SystemClock::shared(),
        outbox: Outbox { send: Arc::new(send) },
        snapshots: Arc::new(Direct { node, peers: Arc::clone(peers) }),
        fatal: Arc::new(|reason| panic!("node stopped: {reason}")),
    };
    let raft = RaftNode::start(RaftConfig { workers, ..RaftConfig::new(node) }, seams).unwrap();
    peers.write().insert(node, raft.clone());
    for group in (0..GROUPS).map(GroupId) {
        let machine = Box::new(Journal::new(Arc::clone(&kv), group));
        raft.create_group(GroupSpec { group, voters: NODES.to_vec() }, machine).await.unwrap();
    }
    raft
}

/// Proposes wherever the leader is, until it is acknowledged.
async fn commit(peers: &Peers, group: GroupId, command: &Bytes) -> u64 {
    let attempt = async {
        loop {
            let nodes: Vec<_> = peers.read().values().cloned().collect();
            for node in nodes {
                if let Ok(reply) = node.propose(group, command.clone()).await {
                    return index_of(&reply);
                }
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, attempt).await.expect("a command is acknowledged in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_groups_and_workers_survive_the_end_of_a_node() {
    let peers = Peers::default();
    let disks: BTreeMap<_, _> = NODES.map(|node| (node, Arc::new(MemoryKv::new()))).into();
    for node in NODES {
        start(node, disks[&node].clone(), &peers, 2).await;
    }
    let mut kept = Vec::new();
    for number in 0..40_u32 {
        let group = GroupId(number % GROUPS);
        let command = Bytes::from(format!("command {number}"));
        kept.push((group, commit(&peers, group, &command).await, command));
    }
    let leaver = peers.read()[&NodeId(1)].clone();
    peers.write().remove(&NodeId(1));
    leaver.shutdown().await;
    assert_eq!(leaver.propose(GroupId(0), "x".into()).await, Err(RaftError::Stopped));
    for group in (0..GROUPS).map(GroupId) {
        let command = Bytes::from("after");
        kept.push((group, commit(&peers, group, &command).await, command));
    }
    for (group, index, command) in kept {
        let leader = tokio::time::timeout(PATIENCE, async {
            loop {
                let nodes: Vec<_> = peers.read().iter().map(|(id, node)| (*id, node.clone())).collect();
                for (id, node) in nodes {
                    if node.read_index(group).await.is_ok() {
                        return id;
                    }
                }
                tokio::task::yield_now().await;
            }
        });
        let leader = leader.await.unwrap();
        assert_eq!(Journal::command(&*disks[&leader], group, index), Some(command));
    }
    let nodes: Vec<_> = peers.read().values().cloned().collect();
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_handover_at_shutdown_leaves_leaders_behind() {
    let peers = Peers::default();
    for node in NODES {
        start(node, Arc::new(MemoryKv::new()), &peers, 1).await;
    }
    commit(&peers, GroupId(1), &"x".into()).await;
    let leading = |node: &RaftNode| {
        node.groups().into_iter().filter(|group| node.status(*group).unwrap().role == Role::Leader).count()
    };
    let first = peers.read()[&NodeId(1)].clone();
    first.shutdown().await;
    assert_eq!(leading(&first), 0);
    let others: Vec<_> = peers.read().values().cloned().collect();
    for node in others {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn what_is_too_large_or_empty_is_refused() {
    let peers = Peers::default();
    let node = start(NodeId(1), Arc::new(MemoryKv::new()), &peers, 1).await;
    let large = node.propose(GroupId(0), vec![0; COMMAND_BYTES_MAX + 1].into()).await;
    assert!(matches!(large, Err(RaftError::TooLarge { .. })));
    assert!(matches!(node.propose(GroupId(0), Bytes::new()).await, Err(RaftError::Refused { .. })));
    assert_eq!(node.propose(GroupId(77), "x".into()).await, Err(RaftError::NoSuchGroup));
    assert_eq!(node.status(GroupId(77)), None);
    assert_eq!(node.groups().len(), GROUPS as usize);
    node.shutdown().await;
}

struct Broken;

impl StateMachine for Broken {
    fn apply(&mut self, _: u64, _: &[u8], _: &mut Batch) -> Bytes {
        panic!("broken")
    }

    fn range(&self) -> (Table, Bytes, Bytes) {
        (Table::Meta, "a".into(), "b".into())
    }

    fn restored(&mut self) {}
}

#[tokio::test]
async fn a_panic_stops_the_node_and_is_reported() {
    let (told, is_told) = std::sync::mpsc::channel();
    let seams = RaftSeams {
        kv: Arc::new(MemoryKv::new()),
        clock: SystemClock::shared(),
        outbox: Outbox { send: Arc::new(|_, _| {}) },
        snapshots: Arc::new(Direct { node: NodeId(1), peers: Peers::default() }),
        fatal: Arc::new(move |reason| told.send(reason.to_string()).unwrap()),
    };
    let node = RaftNode::start(RaftConfig::new(NodeId(1)), seams).unwrap();
    node.create_group(GroupSpec { group: GroupId(0), voters: vec![NodeId(1)] }, Box::new(Broken)).await.unwrap();
    assert_eq!(node.propose(GroupId(0), "x".into()).await, Err(RaftError::Uncertain));
    assert_eq!(is_told.recv_timeout(PATIENCE).unwrap(), "panic: broken");
    assert_eq!(node.propose(GroupId(0), "x".into()).await, Err(RaftError::Stopped));
}
