//! Why a request to a group failed, named by what the caller can do.

use annulus_common::ids::NodeId;

/// Why a request failed. After `Uncertain`, `TimedOut` and `Stopped` a command may still be applied; after the others
/// it never is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RaftError {
    /// Ask the leader, if it is known.
    #[error("not the leader of the group (leader: {leader:?})")]
    NotLeader {
        /// The leader as far as this node knows.
        leader: Option<NodeId>,
    },
    /// This node has no such group: the caller's map is old, or the group is not yet started.
    #[error("no such group here")]
    NoSuchGroup,
    /// Not taken: the leadership is being handed over, or a membership change is under way. Try again soon.
    #[error("not taken at the moment")]
    Dropped,
    /// The leadership was lost: the command may or may not be applied. Ask the new leader, with the same request id.
    #[error("leadership was lost; the outcome is not known")]
    Uncertain,
    /// The command is larger than an entry may be. It must go in pieces.
    #[error("a command of {bytes} bytes is larger than {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Too much is waiting. Slow down and try again.
    #[error("too much is waiting")]
    Busy,
    /// No quorum answered in time.
    #[error("no quorum answered in time")]
    TimedOut,
    /// The node is stopping or has stopped.
    #[error("the node is stopping")]
    Stopped,
    /// This node's storage fails. Another node may do better.
    #[error("storage fails: {reason}")]
    Storage {
        /// What it said.
        reason: String,
    },
    /// The request makes no sense in the group's state; repeating it does not help.
    #[error("refused: {reason}")]
    Refused {
        /// Why.
        reason: &'static str,
    },
}

impl From<crate::kv::KvError> for RaftError {
    fn from(error: crate::kv::KvError) -> Self {
        RaftError::Storage { reason: error.to_string() }
    }
}
