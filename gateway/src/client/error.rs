//! Why the cluster could not do something, by what can be done about it.

use annulus_common::ids::{ChunkId, PartitionId};
use annulus_common::protocol::Refusal;

/// A failure after every retry that made sense.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClientError {
    /// Ask again soon: the leader of the cluster map does not answer.
    #[error("no leader of the cluster map answers")]
    NoMap,
    /// Ask again soon: no leader of the partition answered in time. Nothing was done.
    #[error("no leader of partition {} answered in time; the last answer: {last}", partition.0)]
    NoLeader {
        /// The partition.
        partition: PartitionId,
        /// The last thing that went wrong.
        last: String,
    },
    /// The mutation may or may not be carried out.
    #[error("the outcome is not known")]
    Uncertain,
    /// Ask again soon: too few nodes took the chunk.
    #[error("{acked} nodes took the chunk, {needed} are needed")]
    NoQuorum {
        /// Nodes that have it.
        acked: usize,
        /// Nodes that must.
        needed: usize,
    },
    /// Too few nodes have space left.
    #[error("no space is left")]
    Full,
    /// Ask again soon: a node that may have the chunk does not answer.
    #[error("no holder of chunk {0:?} answers")]
    ChunkUnavailable(ChunkId),
    /// Every node answered, and none has a good copy.
    #[error("chunk {0:?} is missing or corrupt on every node")]
    ChunkLost(ChunkId),
    /// A bug or another version: asking again is of no use.
    #[error("the cluster refused the request: {0}")]
    Refused(Refusal),
}
