//! Many Raft groups on one node: agreement on an order of commands, for state machines that live in a [`Kv`].
//!
//! This module alone imports the crate `raft`. It knows no object, bucket or chunk: a command is bytes, and what it
//! means is the [`StateMachine`]'s. It opens no socket: frames leave through [`Outbox`] and come in through
//! [`RaftNode::step`].
//!
//! What is guaranteed
//! - A command whose [`RaftNode::propose`] returned `Ok` is fsynced on a majority of the voters and applied here. It is
//!   never lost while a majority of the voters keeps its disks, and every replica applies it at the same index.
//! - `Err` of `propose` says what is known: after [`RaftError::Uncertain`], `TimedOut` and `Stopped` the command may
//!   still be applied, after every other error it never will be. Commands carry an id of their own if that matters.
//! - After [`RaftNode::read_index`] returned `Ok`, this replica's state holds every command that was acknowledged by
//!   anyone before the call. There are no leases and no clock in that argument: a quorum is asked each time.
//! - A promise (a vote, an acknowledgement) is sent only after what it promises is fsynced. An entry is applied only
//!   when it is committed and fsynced here.
//! - After a crash at any moment the node resumes from what was fsynced. A replica that crashed while a snapshot was
//!   being installed applies nothing, leads nothing and answers no read until a complete snapshot is in.
//! - What a peer sends may be lost, repeated, reordered or garbage: it is checked before it reaches the Raft core.
//!
//! What is not: the caller's choice of a leader, redirection, deduplication of commands, membership policy, encryption.
//!
//! When storage fails: a write that finds the disk full is repeated, with a pause, until there is space. Nothing that
//! depends on it is acknowledged or sent meanwhile, new requests are refused with [`RaftError::Storage`], and since the
//! node then sends no heartbeats, its groups elect leaders elsewhere. Any other failure is repeated a few times; if it
//! stays, or if the disk returned wrong bytes, or if there is a bug (a panic), the worker stops for good and
//! [`FatalHook`] is called: the process must end, because a replica that has lost track of its own promises must not
//! vote.
//!
//! Roles: [`worker`](Worker) is the steppable core (no thread, no time, no randomness beyond the seed), `group` drives
//! one group (`membership` and `status` are parts of it), `storage` and `log_cache` are its log, `snapshot` and
//! `install` move state to a follower that is too far behind, `frame` and `guard` are the wire and the gate behind it,
//! `proposals` and `reads` keep what waits for an answer, `queue` and `driver` make threads of workers.

mod driver;
mod error;
mod frame;
mod group;
mod guard;
mod input;
mod install;
mod log_cache;
mod logger;
mod membership;
mod proposals;
mod queue;
mod reads;
mod snapshot;
mod status;
mod storage;
mod types;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use annulus_common::clock::SharedClock;
use annulus_common::ids::{GroupId, NodeId, PartitionId};
use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::oneshot;

use crate::kv::{Batch, Kv, KvError, Table};

pub use error::RaftError;
pub use input::{Fetch, Input, PieceResult, Reply};
pub use snapshot::{FetchError, SnapshotSource};
pub use types::{GroupSpec, GroupStatus, Limits, MembershipChange, MembershipStep, PeerProgress, RaftCounters, Role};
pub use worker::{StoragePatience, Worker, WorkerConfig};

use driver::Driver;
use queue::Queue;
use snapshot::SnapshotStore;
use types::{CounterCells, StatusCell};

/// The largest command. Larger things travel in pieces, so that one proposal never delays a heartbeat noticeably.
pub const COMMAND_BYTES_MAX: usize = 256 << 10;

/// What a group agrees on. Its state lives in a [`Kv`], which is the same database the Raft log is in.
///
/// `apply` must be deterministic: the same commands in the same order give the same batches and the same replies on
/// every node. So it must not look at a clock, a random number or anything else that is not in its state or in the
/// command. It sees the effects of all earlier commands in the `Kv`. A state machine that cannot read its state must
/// panic, which stops the node (see the module's words on storage failures).
pub trait StateMachine: Send + 'static {
    /// Carries out the command at `index`: puts its effects into `batch` and returns what the proposer is told.
    ///
    /// The caller adds the applied index to the same batch, so a command takes effect exactly once across crashes.
    fn apply(&mut self, index: u64, command: &[u8], batch: &mut Batch) -> Bytes;

    /// The keys that hold all of this state machine's state, `lower..upper` of a table: what a snapshot carries.
    /// Constant.
    fn range(&self) -> (Table, Bytes, Bytes);

    /// The range has been replaced by a snapshot: whatever is cached in memory must be loaded again.
    fn restored(&mut self);
}

/// Where frames for other nodes go. Must not block; it may lose, repeat and reorder, but not alter.
#[derive(Clone)]
pub struct Outbox {
    /// Takes a frame for a node.
    pub send: Arc<dyn Fn(NodeId, Bytes) + Send + Sync>,
}

/// Called once, with the reason, when this node must stop serving. The process should end.
pub type FatalHook = Arc<dyn Fn(&str) + Send + Sync>;

/// What a node is told at start.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// This node.
    pub node: NodeId,
    /// How many threads drive the groups; a group belongs to the thread `group id % workers`. One is enough for most
    /// disks.
    pub workers: usize,
    /// What election time-outs derive from, together with node, group and term.
    pub seed: u64,
}

impl RaftConfig {
    /// One worker, and a seed that is the node's id.
    pub fn new(node: NodeId) -> Self {
        Self { node, workers: 1, seed: node.0 }
    }
}

/// What a node is given to reach the world.
#[derive(Clone)]
pub struct RaftSeams {
    /// The database of the log and of the state machines.
    pub kv: Arc<dyn Kv>,
    /// What ticks are counted by.
    pub clock: SharedClock,
    /// Where frames go.
    pub outbox: Outbox,
    /// How the pieces of a snapshot are got from another node; it must end in [`RaftNode::serve_snapshot`] over there.
    pub snapshots: Arc<dyn SnapshotSource>,
    /// Called when the node must stop serving.
    pub fatal: FatalHook,
}

/// The groups of this node. Cheap to clone.
#[derive(Clone)]
pub struct RaftNode {
    shared: Arc<Shared>,
}

/// Where each group publishes its status.
type Statuses = Arc<RwLock<BTreeMap<GroupId, StatusCell>>>;

/// What handles and workers have in common.
pub(crate) struct Shared {
    node: NodeId,
    /// One queue per worker.
    queues: Vec<Arc<Queue>>,
    /// What each group last published.
    statuses: Statuses,
    counters: Arc<CounterCells>,
    /// Snapshots that are being served to other nodes.
    outgoing: Arc<SnapshotStore>,
    driver: Driver,
}

/// The groups that a node has on its disk, in order.
pub fn stored_groups(kv: &dyn Kv) -> Result<Vec<GroupId>, KvError> {
    storage::GroupStorage::stored(kv)
}

impl RaftNode {
    /// Starts the workers. Must be called within a tokio runtime, which then carries the transfers of snapshots.
    pub fn start(config: RaftConfig, seams: RaftSeams) -> Result<Self, RaftError> {
        let shared = driver::start(config, seams)?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Starts a group here. The first time ever, it begins with `spec.voters`, which must be the same on all of them;
    /// with no voters it waits to be made a member by a leader. Later times it resumes from what is stored and `voters`
    /// is ignored.
    pub async fn create_group(&self, spec: GroupSpec, machine: Box<dyn StateMachine>) -> Result<(), RaftError> {
        let group = spec.group;
        self.request(group, |reply| Input::Create { spec, machine, reply }).await
    }

    /// Removes a group from this node: log, Raft state and the state machine's range. For a replica that is no longer a
    /// member.
    pub async fn destroy_group(&self, group: GroupId) -> Result<(), RaftError> {
        self.request(group, |reply| Input::Destroy { group, reply }).await
    }

    /// Puts a command into the group's order and returns what its state machine answered. Only the leader can.
    pub async fn propose(&self, group: GroupId, command: Bytes) -> Result<Bytes, RaftError> {
        if command.len() > COMMAND_BYTES_MAX {
            return Err(RaftError::TooLarge { bytes: command.len(), bytes_max: COMMAND_BYTES_MAX });
        }
        // A command that is empty would be taken for the entry with which a leader opens its term.
        if command.is_empty() {
            return Err(RaftError::Refused { reason: "a command must not be empty" });
        }
        self.request(group, |reply| Input::Propose { group, command, reply }).await
    }

    /// Returns once this replica's state holds everything that was acknowledged before the call. Only the leader can.
    ///
    /// What is then read must come from one snapshot of the [`Kv`], and count only if [`RaftNode::generation`] says the
    /// same before this call and after the reading: between the two this replica may lose the leadership and have its
    /// state replaced.
    pub async fn read_index(&self, group: GroupId) -> Result<(), RaftError> {
        self.request(group, |reply| Input::Read { group, reply }).await
    }

    /// Changes the members. One step at a time is a simple change; several go through joint consensus, and the call
    /// returns when the joint configuration has been left.
    pub async fn change_membership(&self, group: GroupId, change: MembershipChange) -> Result<(), RaftError> {
        self.request(group, |reply| Input::ChangeMembership { group, change, reply }).await
    }

    /// Asks `to` to take over. Returns when it has been asked: within an election time-out it leads, or all stays as it
    /// was.
    pub async fn transfer_leader(&self, group: GroupId, to: NodeId) -> Result<(), RaftError> {
        self.request(group, |reply| Input::TransferLeader { group, to, reply }).await
    }

    /// What the group last published; at most a tick old.
    pub fn status(&self, group: GroupId) -> Option<GroupStatus> {
        self.shared.statuses.read().get(&group).map(|cell| cell.lock().clone())
    }

    /// Which incarnation of the group's state this is, or nothing if there is none or it is being replaced right now.
    pub fn generation(&self, group: GroupId) -> Option<u64> {
        let generation = self.shared.statuses.read().get(&group)?.lock().generation;
        generation.is_multiple_of(2).then_some(generation)
    }

    /// The groups of this node, in order.
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared.statuses.read().keys().copied().collect()
    }

    /// The partitions whose leader this node takes itself for.
    pub fn led_partitions(&self) -> Vec<PartitionId> {
        let leads = |group: &GroupId| self.status(*group).is_some_and(|status| status.role == Role::Leader);
        self.groups().into_iter().filter(leads).filter_map(GroupId::partition).collect()
    }

    /// Why the log cannot be written, while that is so.
    pub fn stalled(&self) -> Option<String> {
        self.shared.queues.iter().find_map(|queue| queue.stalled())
    }

    /// Takes a frame of a peer, whose id the transport has proven. Never blocks: what does not fit is dropped, as a
    /// network may.
    pub fn step(&self, from: NodeId, frame: Bytes) {
        driver::step(&self.shared, from, frame);
    }

    /// The transport could not deliver to `peer`: replication to it slows down until it answers again.
    pub fn report_unreachable(&self, peer: NodeId) {
        for queue in &self.shared.queues {
            queue.push_control(Input::Unreachable { peer });
        }
    }

    /// Answers a peer's [`SnapshotSource::fetch`]: the other end of the transport calls this with the request's bytes.
    pub async fn serve_snapshot(&self, peer: NodeId, request: Bytes) -> Bytes {
        let (reply, outcome) = self.shared.outgoing.answer(peer, &request).await;
        if let Some(outcome) = outcome {
            self.queue_of(outcome.group).push_control(Input::SnapshotEnded(outcome));
        }
        reply
    }

    /// How often something was dropped, since start.
    pub fn counters(&self) -> RaftCounters {
        self.shared.counters.read()
    }

    /// Hands leaderships over, waits for that for a bounded time, answers what waits with `Stopped`, and ends the
    /// threads. Further calls find the node stopped.
    pub async fn shutdown(&self) {
        driver::shutdown(&self.shared).await;
    }

    async fn request<T>(&self, group: GroupId, input: impl FnOnce(Reply<T>) -> Input) -> Result<T, RaftError> {
        let (reply, answer) = oneshot::channel();
        self.queue_of(group).push_request(input(reply))?;
        // A worker that ends in a panic drops its waiters: whether the command was applied is not known.
        answer.await.unwrap_or(Err(RaftError::Uncertain))
    }

    fn queue_of(&self, group: GroupId) -> &Queue {
        &self.shared.queues[group.0 as usize % self.shared.queues.len()]
    }
}
