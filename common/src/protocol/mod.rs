//! What gateways and storage nodes say to each other. Gateway and storage node meet only here.
//!
//! A header is one version byte and a postcard-encoded [`Request`] or [`Answer`]; bulk bytes travel beside it (see `rpc`).

mod listing;
pub mod metadata;
pub mod outbox;
mod quota;
pub mod repair;
pub mod room;

use std::ops::RangeInclusive;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use strum::VariantNames;

use crate::chunk::{ChunkOwner, Digest};
use crate::ids::{ChunkId, Epoch, GroupId, InstanceId, NodeId, PartitionId};
use crate::map::change::{MapEntry, MapRefusal, MapReply};
use crate::map::{ClusterMap, MapVersion, NodeProfile};
use metadata::{Applied, Mutation, Query, QueryReply};
use outbox::{Backlogs, WaitingOutbox};
use repair::{RepairStatus, VerifiedChunks};
use room::RoomFor;

/// The version of every header.
pub const PROTOCOL_VERSION: u8 = 1;

/// Chunks that one request may name.
pub const CHUNKS_PER_REQUEST_MAX: usize = 1_000;

/// Parts of the ring that one request may ask the digests of: each is a scan of the index there.
pub const DIGESTS_PER_REQUEST_MAX: usize = 256;

/// Queries that one request may carry: a list asks every shard of a bucket at once.
pub const QUERIES_PER_REQUEST_MAX: usize = 256;

/// A request to a storage node.
#[allow(clippy::large_enum_variant, reason = "a request is made, encoded and dropped; it is never kept in numbers")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Request {
    /// A data directory asks to be a member of the cluster, or to help form it. Any member answers.
    Join(NodeProfile),
    /// Asks for the cluster map, or for what changed since; answered when there is news, or after a part of the lease. Only group 0's leader.
    WatchMap {
        /// Who watches: the leader waits for its lease before it acknowledges a change.
        watcher: InstanceId,
        /// What the watcher has.
        have: Option<MapVersion>,
        /// Whether the answer may wait for news.
        hold: bool,
    },
    /// Asks for a piece of the whole map that the leader said a watcher should begin with.
    FetchMap {
        /// The version that was told.
        version: MapVersion,
        /// The bytes that are here already.
        from: u64,
    },
    /// Asks who is in the cluster, by the receiver's own copy of the map, which may be old and renews no lease: for who looks for
    /// the leader.
    PeekMap,
    /// Changes the cluster map. Only group 0's leader. Answered when the change is in force everywhere.
    ChangeMap(MapEntry),
    /// Mutates a partition's metadata. Only the partition's leader.
    Mutate {
        /// The partition.
        partition: PartitionId,
        /// The sender's epoch.
        epoch: Epoch,
        /// The mutation.
        mutation: Mutation,
    },
    /// Reads partitions' metadata, linearizably; answered in the order asked, each for itself.
    Query {
        /// The sender's epoch.
        epoch: Epoch,
        /// The partitions and what is asked of them.
        queries: Vec<(PartitionId, Query)>,
    },
    /// Stores a chunk (the payload), durably.
    PutChunk {
        /// Its id.
        id: ChunkId,
        /// Who refers to it.
        owner: ChunkOwner,
        /// The CRC-32C of each piece of the payload.
        piece_crcs: Vec<u32>,
        /// Nodes that should have the chunk too and could not be reached: the receiver remembers a hint for each, as durably as the chunk.
        hints: Vec<NodeId>,
        /// Who waits for it.
        purpose: Purpose,
    },
    /// Remembers that `node` is owed chunks which the receiver has.
    AddHints {
        /// The node.
        node: NodeId,
        /// The chunks.
        chunks: Vec<ChunkId>,
    },
    /// Reads the pieces of a chunk that a range touches.
    GetChunk {
        /// Its id.
        id: ChunkId,
        /// First byte.
        from: u32,
        /// The byte after the last.
        to: u32,
        /// Who waits for them.
        purpose: Purpose,
    },
    /// Removes chunks. Absent ones are no error.
    DeleteChunks(Vec<ChunkId>),
    /// Which of these chunks are here.
    HasChunks(Vec<ChunkId>),
    /// What the chunks of these parts of the ring amount to here, each part for itself: nodes compare what they hold with it.
    DigestChunks(Vec<RangeInclusive<u64>>),
    /// The chunks of a part of the ring, in its order: a page.
    ListChunks {
        /// The part.
        positions: RangeInclusive<u64>,
        /// Only what comes after this chunk.
        after: Option<ChunkId>,
    },
    /// Reads and checks the next chunks of a part of the ring: for an audit.
    VerifyChunks {
        /// The part.
        positions: RangeInclusive<u64>,
        /// Only what comes after this chunk.
        after: Option<ChunkId>,
    },
    /// Reads and checks the next metadata, of all partitions: for an audit.
    VerifyMetadata {
        /// Where to go on: what the last answer said.
        from: Option<(u8, Vec<u8>)>,
    },
    /// A piece of a Raft snapshot; the body is `storage_node::raft`'s own.
    Snapshot(Bytes),
    /// What the node knows of itself.
    NodeStatus,
    /// How far the node is with these partitions, and with the map: the leader of a partition's group asks before it makes the
    /// node a member, and before it says that the partition has moved.
    Progress(Vec<PartitionId>),
    /// What these partitions come to on the node. It sums up its index, which takes a while.
    Usage(Vec<PartitionId>),
    /// Who the members are of those of these groups that the receiver leads: a node asks before it forgets a group.
    Members {
        /// The sender's epoch: a leader that knows an older one must not answer by it.
        epoch: Epoch,
        /// The groups.
        groups: Vec<GroupId>,
    },
    /// Which outboxes of partitions that the node leads are not empty, as far as it knows without asking the others.
    Outboxes,
}

/// A message without an answer. The payload is `storage_node::raft`'s own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Raft messages of many groups.
    Raft,
}

/// The answer to a request.
pub type Answer = Result<Response, Refusal>;

/// A successful answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Response {
    /// Done: chunks stored or removed, hints kept.
    Done,
    /// To `Join`.
    Join(JoinReply),
    /// To `WatchMap`.
    Map(MapUpdate),
    /// To `FetchMap`; the payload is the piece.
    MapPiece,
    /// To `PeekMap`; the payload is the map without buckets, accounts and keys.
    MapPeeked,
    /// To `ChangeMap`.
    MapChanged(Result<MapReply, MapRefusal>),
    /// To `Mutate`.
    Mutated(Applied),
    /// To `Query`.
    Queried(Vec<Result<QueryReply, Refusal>>),
    /// To `GetChunk`; the payload holds whole pieces.
    Chunk {
        /// Who refers to the chunk.
        owner: ChunkOwner,
        /// The place of the first piece in the chunk.
        first_piece: u32,
        /// The CRC-32C of each piece sent.
        piece_crcs: Vec<u32>,
        /// The chunk's length.
        length: u32,
    },
    /// To `HasChunks`, in the order asked.
    HasChunks(Vec<bool>),
    /// To `DigestChunks`, in the order asked.
    ChunkDigests(Vec<Digest>),
    /// To `ListChunks`; nothing when there are no more.
    ChunkList(Vec<ListedChunk>),
    /// To `VerifyChunks`.
    ChunksVerified(VerifiedChunks),
    /// To `VerifyMetadata`.
    MetadataVerified {
        /// Where to go on, when there is more.
        next: Option<(u8, Vec<u8>)>,
    },
    /// To `Snapshot`; the payload is `storage_node::raft`'s own.
    Snapshot {
        /// The CRC-32C of the payload, which travels without one on the bulk lane.
        crc: u32,
    },
    /// To `NodeStatus`.
    NodeStatus(Box<NodeStatus>),
    /// To `Progress`.
    Progress(Progress),
    /// To `Usage`, in the order asked.
    Usage(Vec<PartitionUsage>),
    /// To `Members`: the voters and learners of each group that is led here and that is not changing just now.
    Members(Vec<(GroupId, Vec<NodeId>)>),
    /// To `Outboxes`.
    Outboxes(Vec<WaitingOutbox>),
}

/// Why a request was not carried out, by what the sender can do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Fetch the map and ask again: the receiver knows a newer placement.
    #[error("the request's epoch is older than {0:?}")]
    StaleEpoch(Epoch),
    /// Ask the leader.
    #[error("not the leader; the leader is {leader:?}")]
    NotLeader {
        /// As far as the receiver knows.
        leader: Option<NodeId>,
    },
    /// The receiver does not hold that partition: fetch the map.
    #[error("the partition is not here")]
    NotHere,
    /// Ask again soon: starting, stopping, too much at once, or no leader yet. Nothing was done.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The mutation may or may not be carried out: ask again with the same request id.
    #[error("the outcome is not known yet")]
    Uncertain,
    /// No space is left to write.
    #[error("no space left")]
    Full,
    /// The chunk is not here: ask another holder.
    #[error("no such chunk")]
    NoSuchChunk,
    /// The chunk's bytes are damaged here: ask another holder.
    #[error("the chunk is corrupt")]
    CorruptChunk,
    /// The payload's checksums do not match, or it contradicts the chunk that is there.
    #[error("the payload does not match its checksums")]
    Mismatch,
    /// The request makes no sense: a bug or another version.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// Storage failed.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// The answer to `Join`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum JoinReply {
    /// The cluster is being formed: ask again.
    Forming {
        /// Nodes that asked so far.
        present: u32,
        /// Nodes that are needed.
        needed: u32,
    },
    /// You are a member: this is your number, and the map to begin with.
    Member {
        /// The number.
        node: NodeId,
        /// The map at formation for an initial member (it tells which groups to begin), the newest without buckets, accounts and
        /// keys for a later one.
        map: Box<ClusterMap>,
        /// Whether the cluster was formed with this node, so that it begins its Raft groups by itself.
        initial: bool,
    },
    /// Not a member, and why.
    Refused(String),
    /// I am not a member myself: ask another seed.
    NotFormed,
}

/// The answer to `WatchMap`. Who has all that there is by it has its lease renewed, counted from when it asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MapUpdate {
    /// Nothing is newer than what the watcher has.
    Current,
    /// Apply these in order.
    Changes {
        /// The changes that come next.
        entries: Vec<MapEntry>,
        /// There are more than one message carries: ask again.
        more: bool,
    },
    /// Begin anew from this map, encoded as messages are, of which the payload is the first piece; then ask again.
    Whole {
        /// Its version.
        version: MapVersion,
        /// Its bytes.
        bytes: u64,
    },
}

/// A chunk as its holder's index knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedChunk {
    /// The chunk.
    pub id: ChunkId,
    /// Who refers to it.
    pub owner: ChunkOwner,
    /// Its bytes.
    pub length: u32,
    /// Its part of a [`Digest`]: two nodes with the same chunk say the same.
    pub sum: u64,
}

/// How far a node is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The epoch that the node has carried out: it keeps the groups that this one gives it, and forgets none of them.
    pub epoch: Epoch,
    /// The groups that are the node's by that epoch and run there, of the partitions that were asked for and of the map.
    pub groups: Vec<GroupId>,
    /// The partitions that were asked for and that move, as far as the node knows.
    pub moves: Vec<MoveProgress>,
    /// The node's clock, Unix milliseconds: who is about to do something because of the date asks others for it.
    pub clock_ms: u64,
    /// What its disk has room for: who leads a group asks its members for it.
    pub room: RoomFor,
}

/// How far a node is with a partition that moves to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MoveProgress {
    /// The partition.
    pub partition: PartitionId,
    /// The move: what is said of an earlier one does not count.
    pub epoch: Epoch,
    /// Whether every chunk is there.
    pub complete: bool,
}

/// What a partition comes to on a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PartitionUsage {
    /// Bytes of its chunks.
    pub chunk_bytes: u64,
    /// Bytes of its metadata, about: what the database keeps for it in files.
    pub metadata_bytes: u64,
}

/// What a node knows of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its number.
    pub node: NodeId,
    /// Software version.
    pub software: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// The Raft groups that it holds.
    pub groups: Vec<GroupStatus>,
    /// Chunks it holds.
    pub chunks: u64,
    /// Bytes of chunks it holds.
    pub chunk_bytes: u64,
    /// Size of the file system.
    pub disk_bytes: u64,
    /// Free bytes of it.
    pub disk_free_bytes: u64,
    /// What it has room for.
    pub room: RoomFor,
    /// Why its log cannot be written, while that is so: its groups stand still, although it answers.
    pub stalled: Option<String>,
    /// Hints it keeps for others, by node.
    pub hints: Vec<(NodeId, u64)>,
    /// Corrupt chunk reads since it started.
    pub corrupt_reads: u64,
    /// How complete it is.
    pub repair: RepairStatus,
    /// Events that wait in the partitions that it leads, as far as it knows without asking the others.
    pub backlogs: Backlogs,
}

/// Who waits for a chunk: how long clients wait is measured, and repair steps back for them, not for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Purpose {
    /// Somebody who uses the cluster.
    Client,
    /// Repair on another node.
    Repair,
}

/// A Raft group as one of its members sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// The leader, where known.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: u64,
    /// Committed index.
    pub committed: u64,
    /// Applied index.
    pub applied: u64,
    /// Voters.
    pub voters: Vec<NodeId>,
    /// Whether its state is incomplete: a snapshot is coming in.
    pub installing: bool,
    /// For a leader: how far each member has the log, as far as it was told. Who is sent a snapshot is left out.
    pub matched: Vec<(NodeId, u64)>,
}

/// Why a header could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// Written by another version.
    #[error("protocol version {0} is not understood")]
    Version(u8),
    /// Not what it should be.
    #[error("malformed message")]
    Malformed,
}

/// Encodes a header.
pub fn encode<T: Serialize>(message: &T) -> Bytes {
    let buffer = vec![PROTOCOL_VERSION];
    postcard::to_extend(message, buffer).expect("messages are plain data, which always encodes").into()
}

/// What the request in a header is called, without reading the rest of it.
pub fn request_name(header: &[u8]) -> &'static str {
    // After the version comes the variant's number, in one byte as there are fewer than 128.
    let variant = header.get(1).map(|&number| usize::from(number));
    variant.and_then(|number| Request::VARIANTS.get(number)).copied().unwrap_or("unknown")
}

/// Whether the answer in a header is a refusal, without reading the rest of it.
pub fn is_refusal(header: &[u8]) -> bool {
    const ERR: u8 = 1;
    header.get(1) == Some(&ERR)
}

/// Decodes a header.
pub fn decode<T: DeserializeOwned>(header: &[u8]) -> Result<T, DecodeError> {
    match header.split_first() {
        Some((&PROTOCOL_VERSION, body)) => postcard::from_bytes(body).map_err(|_| DecodeError::Malformed),
        Some((&version, _)) => Err(DecodeError::Version(version)),
        None => Err(DecodeError::Malformed),
    }
}
