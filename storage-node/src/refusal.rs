//! The one table from what went wrong inside a node to what the sender of a request can do about it.

use annulus_common::protocol::Refusal;

use crate::chunk::ChunkError;
use crate::kv::KvError;
use crate::raft::RaftError;

/// A proposal failed: whether it may still be carried out decides what is said.
pub fn of_proposal(error: RaftError) -> Refusal {
    match error {
        RaftError::Uncertain | RaftError::TimedOut | RaftError::Stopped => Refusal::Uncertain,
        RaftError::TooLarge { .. } | RaftError::Refused { .. } => Refusal::Invalid(error.to_string()),
        other => of_read(other),
    }
}

/// A read failed: nothing was done.
pub fn of_read(error: RaftError) -> Refusal {
    match error {
        RaftError::NotLeader { leader } => Refusal::NotLeader { leader },
        RaftError::NoSuchGroup => Refusal::NotHere,
        RaftError::Storage { reason } => Refusal::Storage(reason),
        RaftError::Dropped
        | RaftError::Uncertain
        | RaftError::Busy
        | RaftError::TimedOut
        | RaftError::Stopped
        | RaftError::TooLarge { .. }
        | RaftError::Refused { .. } => Refusal::NotReady(error.to_string()),
    }
}

/// The disk failed.
pub fn of_storage(error: KvError) -> Refusal {
    match error {
        KvError::Full { .. } => Refusal::Full,
        KvError::Corrupt { .. } | KvError::Failed { .. } => Refusal::Storage(error.to_string()),
    }
}

/// A chunk could not be written or read.
pub fn of_chunk(error: ChunkError) -> Refusal {
    match error {
        ChunkError::NotFound { .. } => Refusal::NoSuchChunk,
        ChunkError::Corrupt { .. } => Refusal::CorruptChunk,
        ChunkError::Mismatch { .. } | ChunkError::Conflict { .. } => Refusal::Mismatch,
        ChunkError::Full => Refusal::Full,
        ChunkError::Failed(_) => Refusal::Storage(error.to_string()),
    }
}
