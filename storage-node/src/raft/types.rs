//! The vocabulary of the module's interface: what a group is started with, what it publishes, how its members change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use annulus_common::ids::{GroupId, NodeId};
use parking_lot::Mutex;

/// A group as it is when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSpec {
    /// The group.
    pub group: GroupId,
    /// Its first voters; the same list on each of them. Empty for a node that joins a group that exists.
    pub voters: Vec<NodeId>,
}

/// How much a replica keeps for others that are behind. The defaults are for real nodes; a test takes smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The log is cut when it holds more entries than this...
    pub log_entries: u64,
    /// ... or more bytes.
    pub log_bytes: u64,
    /// What a cut leaves behind the applied entry, for followers that are a little slow: at most so many entries...
    pub tail_entries: u64,
    /// ... and bytes.
    pub tail_bytes: u64,
    /// A follower that is catching up holds the log back, up to so many entries...
    pub held_entries: u64,
    /// ... and bytes; beyond them it needs a snapshot.
    pub held_bytes: u64,
    /// What one piece of a snapshot holds, unless a single pair is larger.
    pub piece_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            log_entries: 10_000,
            log_bytes: 8 << 20,
            tail_entries: 2_000,
            tail_bytes: 4 << 20,
            held_entries: 100_000,
            held_bytes: 64 << 20,
            piece_bytes: 1 << 20,
        }
    }
}

/// What a replica is at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Orders commands.
    Leader,
    /// Follows, and may vote.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Follows without a vote, or is not a member at all.
    Learner,
}

/// A replica as it last published itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// What it is.
    pub role: Role,
    /// Whom it takes for the leader.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// The last index it knows to be committed.
    pub committed: u64,
    /// The last index that its state machine has applied.
    pub applied: u64,
    /// The last index of its log.
    pub last_index: u64,
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Who follows without a vote.
    pub learners: Vec<NodeId>,
    /// Whether the membership is between two configurations.
    pub joint: bool,
    /// For a leader: whether a change of the membership is in its log that it has not applied yet.
    pub change_pending: bool,
    /// Whether its state is incomplete until a snapshot is in.
    pub installing: bool,
    /// Grows by one when the state begins to be replaced by a snapshot, and by one when it is whole again: odd in
    /// between. Not kept across restarts.
    pub generation: u64,
    /// How far the others are; only the leader knows.
    pub progress: Vec<PeerProgress>,
}

/// How far another replica is, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// The replica.
    pub node: NodeId,
    /// The last index that is known to be in its log.
    pub matched: u64,
    /// Whether it answered within the last election time-out.
    pub active: bool,
    /// Whether it is being brought up by a snapshot.
    pub in_snapshot: bool,
}

/// One step of a membership change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipStep {
    /// Adds a node that follows without a vote.
    AddLearner(NodeId),
    /// Gives a learner a vote. Refused while it is far behind: it would only slow the quorum down.
    Promote(NodeId),
    /// Removes a voter or a learner. Refused for the leader: transfer the leadership first.
    Remove(NodeId),
}

/// Steps that happen together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipChange {
    /// The steps.
    pub steps: Vec<MembershipStep>,
}

impl MembershipChange {
    /// A change of one step.
    pub fn one(step: MembershipStep) -> Self {
        Self { steps: vec![step] }
    }
}

/// How often something was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RaftCounters {
    /// Frames that could not be decoded, wholly or from some point on.
    pub frames_malformed: u64,
    /// Frames that found the queue full.
    pub frames_overflowed: u64,
    /// Messages for groups that are not here.
    pub messages_unknown_group: u64,
    /// Messages that made no sense: wrong addressee, impossible terms or indices, a kind that is never sent.
    pub messages_refused: u64,
    /// Snapshots installed here.
    pub snapshots_installed: u64,
    /// Snapshots that could not be installed, for whatever reason.
    pub snapshots_failed: u64,
}

/// Where a group publishes its status.
pub(super) type StatusCell = Arc<Mutex<GroupStatus>>;

/// The counters as they are counted.
#[derive(Default)]
pub(super) struct CounterCells {
    pub(super) frames_malformed: AtomicU64,
    pub(super) frames_overflowed: AtomicU64,
    pub(super) messages_unknown_group: AtomicU64,
    pub(super) messages_refused: AtomicU64,
    pub(super) snapshots_installed: AtomicU64,
    pub(super) snapshots_failed: AtomicU64,
}

impl CounterCells {
    pub(super) fn read(&self) -> RaftCounters {
        RaftCounters {
            frames_malformed: self.frames_malformed.load(Ordering::Relaxed),
            frames_overflowed: self.frames_overflowed.load(Ordering::Relaxed),
            messages_unknown_group: self.messages_unknown_group.load(Ordering::Relaxed),
            messages_refused: self.messages_refused.load(Ordering::Relaxed),
            snapshots_installed: self.snapshots_installed.load(Ordering::Relaxed),
            snapshots_failed: self.snapshots_failed.load(Ordering::Relaxed),
        }
    }
}

/// Counts one.
pub(super) fn count(cell: &AtomicU64) {
    cell.fetch_add(1, Ordering::Relaxed);
}
