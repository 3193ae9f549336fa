//! What happens to a worker, and what it asks for in return. It knows no order of events: that is the worker's
//! caller's.

use annulus_common::ids::{GroupId, NodeId};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::proposals::answer;
use super::snapshot::Outcome;
use super::types::{GroupSpec, MembershipChange};
use super::{FetchError, RaftError, StateMachine};

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, RaftError>>;

/// What came of asking for a piece of a snapshot.
pub type PieceResult = Result<Bytes, FetchError>;

/// What happens to a worker.
pub enum Input {
    /// A group is to be started.
    Create {
        /// What it begins as.
        spec: GroupSpec,
        /// Its state machine.
        machine: Box<dyn StateMachine>,
        /// Answered when it runs.
        reply: Reply<()>,
    },
    /// A group is to be removed from this node.
    Destroy {
        /// The group.
        group: GroupId,
        /// Answered when nothing of it is left.
        reply: Reply<()>,
    },
    /// A command.
    Propose {
        /// For which group.
        group: GroupId,
        /// What to agree on; neither empty nor larger than [`super::COMMAND_BYTES_MAX`].
        command: Bytes,
        /// Answered when it is applied.
        reply: Reply<Bytes>,
    },
    /// A reader.
    Read {
        /// Of which group.
        group: GroupId,
        /// Answered when the state is recent enough.
        reply: Reply<()>,
    },
    /// A change of the members.
    ChangeMembership {
        /// Of which group.
        group: GroupId,
        /// The change.
        change: MembershipChange,
        /// Answered when it is in force.
        reply: Reply<()>,
    },
    /// A leadership is to be passed on.
    TransferLeader {
        /// Of which group.
        group: GroupId,
        /// To whom.
        to: NodeId,
        /// Answered when it has been asked.
        reply: Reply<()>,
    },
    /// A peer's frame.
    Frame {
        /// The peer.
        from: NodeId,
        /// Its bytes.
        frame: Bytes,
    },
    /// A peer cannot be reached.
    Unreachable {
        /// The peer.
        peer: NodeId,
    },
    /// What came of a [`Fetch`].
    Fetched {
        /// As in the `Fetch`.
        group: GroupId,
        /// As in the `Fetch`.
        index: u64,
        /// As in the `Fetch`.
        after: Bytes,
        /// The reply, if there was one.
        result: PieceResult,
    },
    /// A transfer to another node has ended.
    #[doc(hidden)]
    SnapshotEnded(Outcome),
    /// 100 ms have passed.
    Tick,
    /// The node is about to stop: leaderships go to others.
    Drain,
}

impl Input {
    /// Answers a request that will not be carried out.
    pub(super) fn refuse(self, error: RaftError) {
        match self {
            Self::Create { reply, .. }
            | Self::Destroy { reply, .. }
            | Self::Read { reply, .. }
            | Self::ChangeMembership { reply, .. }
            | Self::TransferLeader { reply, .. } => answer(reply, Err(error)),
            Self::Propose { reply, .. } => answer(reply, Err(error)),
            Self::Frame { .. }
            | Self::Unreachable { .. }
            | Self::Fetched { .. }
            | Self::SnapshotEnded(_)
            | Self::Tick
            | Self::Drain => {}
        }
    }

    pub(super) fn command_bytes(&self) -> usize {
        if let Self::Propose { command, .. } = self { command.len() } else { 0 }
    }
}

/// A request that must go to another node, beside Raft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The node to ask.
    pub from: NodeId,
    /// The group whose snapshot it is.
    pub group: GroupId,
    /// The index of the snapshot.
    pub index: u64,
    /// The key after which the piece begins. Without it the request only tells something, and no [`Input::Fetched`] is
    /// awaited.
    pub after: Option<Bytes>,
    /// What to ask.
    pub request: Bytes,
}
