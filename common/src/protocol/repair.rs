//! What nodes say of how complete they are, and what an audit is told.

use serde::{Deserialize, Serialize};

use crate::chunk::Digest;
use crate::ids::{BucketId, ChunkId, NodeId, PartId, PartitionId};

/// How complete a node is, by comparison with the others, and what its repair is doing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RepairStatus {
    /// The partitions that the node should have, as far as it knows.
    pub partitions: Vec<PartitionCopy>,
    /// Chunks that were found damaged here and wait to be mended.
    pub damaged: u64,
    /// Chunks that were mended since it started.
    pub mended: u64,
    /// Chunks here that belong elsewhere, but for those that nothing refers to. Nothing while it is not known: they were not
    /// looked for since the placement changed.
    pub strays: Option<u64>,
    /// Bytes that it moved since it started.
    pub moved_bytes: u64,
    /// Bytes that it moved in a second of late.
    pub moved_bytes_per_second: u64,
    /// How far the scrub is.
    pub scrubbed_percent: u8,
    /// When the last scrub that came to its end did, Unix milliseconds.
    pub scrub_completed_ms: Option<u64>,
}

/// A node's copy of a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionCopy {
    /// Which.
    pub partition: PartitionId,
    /// The other nodes that should have it and with which it was not compared of late: of what they have nothing is known.
    pub uncompared: Vec<NodeId>,
    /// Chunks that others have and this copy lacks.
    pub lacking_chunks: u64,
    /// Their bytes.
    pub lacking_bytes: u64,
    /// Chunks of it that were found damaged.
    pub damaged_chunks: u64,
}

/// Chunks that were read and checked: a page.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerifiedChunks {
    /// What those amount to that are as they were written.
    pub good: Digest,
    /// Those that are not.
    pub damaged: Vec<ChunkId>,
    /// The last one that was looked at; nothing when there are no more.
    pub last: Option<ChunkId>,
}

/// What a partition's metadata names: a page.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inventory {
    /// Objects, and parts of uploads.
    pub named: Vec<Named>,
    /// Where to go on, when there may be more.
    pub next: Option<Vec<u8>>,
}

/// One object, or one part of an upload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Named {
    /// The bucket; nothing for the part of an upload.
    pub bucket: Option<BucketId>,
    /// The object's key, or the upload's id.
    pub name: String,
    /// Bytes that lie in the metadata itself.
    pub inline_bytes: u64,
    /// The parts that lie in chunks, with their lengths.
    pub parts: Vec<(PartId, u64)>,
}
