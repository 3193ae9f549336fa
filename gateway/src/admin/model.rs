//! What the admin API says, in JSON: the same types on the server and in the commands that ask it.

mod events;
mod layout;

use serde::{Deserialize, Serialize};

pub use events::{EventsReport, WebhookReport};
pub use layout::{LayoutRequest, MovesReport, NodePlan, PauseRequest, PlanReport, StepRequest};

/// Where the admin API lives on the gateway's port.
pub const BASE: &str = "/-/admin/v1";

/// The cluster as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster: String,
    /// Everything that is stored has all its replicas: every node answered, and all have compared what they hold with the others
    /// and lack nothing.
    pub healthy: bool,
    /// `healthy`, `degraded`, or `verifying`: nothing is known to be wrong, and not everything is known yet.
    pub state: String,
    /// What keeps it from being healthy, in words.
    pub problems: Vec<String>,
    /// Replicas of each partition and chunk.
    pub replication_factor: u8,
    /// The last change of the cluster map.
    pub map_version: u64,
    /// The last change of placement.
    pub epoch: u64,
    /// Storage nodes.
    pub nodes: Vec<NodeReport>,
    /// Partitions of the ring.
    pub partitions: Vec<PartitionReport>,
    /// Group 0, the cluster map's.
    pub map_group: PartitionReport,
    /// How redundant the data is.
    pub redundancy: Redundancy,
    /// What is on its way to other nodes.
    pub moves: MovesReport,
    /// How many copies there are, and what would lose data now.
    pub copies: CopiesReport,
    /// Which events wait for webhooks.
    pub events: EventsReport,
}

impl ClusterStatus {
    /// Whether everything is on the nodes that should have it, and nowhere else.
    pub fn is_settled(&self) -> bool {
        self.moves.partitions == 0 && !self.moves.map_group && self.map_group.is_as_planned
    }
}

/// A storage node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its number.
    pub id: u64,
    /// `NODE_ID`.
    pub name: String,
    /// Where its peers reach it.
    pub address: String,
    /// Its failure domain.
    pub zone: String,
    /// Bytes it offers.
    pub capacity_bytes: u64,
    /// `spare` (registered, and no more), `active`, `draining`, or `dead` (silent for so long that others took its share over).
    pub state: String,
    /// Partitions that it should hold.
    pub partitions: u32,
    /// Whether it should hold anything, or may still have something that belongs elsewhere: else it may be removed.
    pub holds_data: bool,
    /// Whether it answered.
    pub up: bool,
    /// The rest is absent when it did not.
    pub details: Option<NodeDetails>,
}

impl NodeReport {
    /// Nodes go by name or by number.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.id.to_string() == name
    }
}

/// What a node said of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDetails {
    /// Software version.
    pub software: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Groups that it leads.
    pub leads: u32,
    /// Groups that it holds.
    pub groups: u32,
    /// Chunks that it holds.
    pub chunks: u64,
    /// Bytes of them.
    pub chunk_bytes: u64,
    /// Size of its file system.
    pub disk_bytes: u64,
    /// Free bytes of it.
    pub disk_free_bytes: u64,
    /// Chunks that it keeps a hint of for others.
    pub hints: u64,
    /// Corrupt reads since it started.
    pub corrupt_reads: u64,
    /// Chunks that it has and that belong elsewhere, until they are there; nothing while it has not looked for them.
    pub strays: Option<u64>,
    /// Bytes that its repair moved since it started.
    pub moved_bytes: u64,
}

/// A Raft group and its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionReport {
    /// The partition's number; the group's is one more, and group 0 has no partition.
    pub partition: Option<u32>,
    /// The nodes that it should be on.
    pub replicas: Vec<u64>,
    /// The nodes that vote in it, as its leader says.
    pub voters: Vec<u64>,
    /// Whether these are the same.
    pub is_as_planned: bool,
    /// Its leader, when it has one that answers.
    pub leader: Option<u64>,
    /// Members that have (nearly) all of the leader's log.
    pub in_sync: Vec<u64>,
}

/// How redundant the data is now, from what the nodes said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redundancy {
    /// Partitions with fewer in-sync members than they should have.
    pub partitions_below_target: u32,
    /// Partitions that have no leader: their keys cannot be read or written now.
    pub partitions_unavailable: u32,
    /// Chunk copies that are owed to nodes, as others remember it.
    pub chunk_copies_owed: u64,
    /// How many more nodes may fail, whichever they are, before some partition stops serving.
    pub node_failures_tolerated: u32,
    /// The nodes whose failure now would stop something, or lose it.
    pub risks: Vec<Risk>,
}

/// What the failure of one node would mean now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// The node's number.
    pub node: u64,
    /// Its name.
    pub name: String,
    /// Partitions that would stop serving, for want of a majority.
    pub partitions_stopped: u32,
    /// Partitions that no other node is known to have all of: their data would be lost if the node's disk were.
    pub partitions_lost: u32,
}

/// How many copies there are now, by comparison of the nodes with each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiesReport {
    /// Copies of partitions of which nothing is known now: their nodes do not answer, or have not compared them of late.
    pub unverified: u32,
    /// Copies of chunks that are missing.
    pub chunks_missing: u64,
    /// Their bytes.
    pub bytes_missing: u64,
    /// Copies of chunks that were found damaged and are not mended yet.
    pub chunks_damaged: u64,
    /// Chunks that are where they do not belong, until they are where they do.
    pub strays: u64,
    /// Replicas of partitions' metadata that are missing or behind.
    pub metadata_replicas_missing: u32,
    /// The zones whose loss would lose something now, where there is more than one.
    pub zones_at_risk: Vec<ZoneRisk>,
    /// Bytes that all nodes together moved in a second of late.
    pub bytes_per_second: u64,
    /// Seconds until nothing is missing, if it goes on like this.
    pub eta_seconds: Option<u64>,
    /// When every node had read and checked everything that it has, Unix milliseconds.
    pub scrubbed_ms: Option<u64>,
}

/// What the loss of one zone would mean now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneRisk {
    /// The zone.
    pub zone: String,
    /// Partitions of which it has the only good copies that are known.
    pub partitions: u32,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserReport {
    /// The canonical user id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// As S3 shows it.
    pub display_name: String,
    /// Its e-mail address.
    pub email: Option<String>,
    /// Whether it may use the admin API.
    pub admin: bool,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
}

/// An account to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Its name.
    pub name: String,
    /// As S3 shows it; the name when absent.
    pub display_name: Option<String>,
    /// Its e-mail address.
    pub email: Option<String>,
    /// Whether it may use the admin API.
    #[serde(default)]
    pub admin: bool,
}

/// An access key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyReport {
    /// Its public id.
    pub access_key: String,
    /// Its secret, told once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
    /// The name of its account.
    pub user: String,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
}

/// An access key to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// The name of its account.
    pub user: String,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketReport {
    /// Its name.
    pub name: String,
    /// The name of the account that owns it.
    pub owner: String,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// A bucket to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBucket {
    /// Its name.
    pub name: String,
    /// The name of its owner; the caller when absent.
    pub owner: Option<String>,
}

/// How much a bucket holds: objects, all their versions counted, and their bytes as clients sent them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReport {
    /// Under the prefix that was asked for.
    pub whole: PrefixUsage,
    /// Under each prefix that is longer by one slash, in byte order: what is left of the whole lies right under it.
    pub below: Vec<PrefixUsage>,
    /// Whether there are more of these: `after` the last one.
    pub more: bool,
}

/// How much lies under a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixUsage {
    /// The prefix.
    pub prefix: String,
    /// Versions of objects. Delete markers are none.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// A quota of a bucket or an account, and what of it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaReport {
    /// The bucket or the account.
    pub name: String,
    /// The most objects, all their versions counted.
    pub objects: Option<u64>,
    /// The most bytes.
    pub bytes: Option<u64>,
    /// How many objects there are.
    pub used_objects: u64,
    /// How many bytes.
    pub used_bytes: u64,
}

/// A quota to set. What is absent has no end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewQuota {
    /// The most objects, all their versions counted.
    pub objects: Option<u64>,
    /// The most bytes.
    pub bytes: Option<u64>,
}

/// A key of the key service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KmsKeyReport {
    /// Its name.
    pub name: String,
    /// Whether it may be used.
    pub enabled: bool,
    /// How often it was made and rotated.
    pub versions: u64,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
    /// When its last version was made, Unix milliseconds.
    pub rotated_ms: u64,
}

/// A key of the key service to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKmsKey {
    /// Its name.
    pub name: String,
}

/// What a new wrapping of all keys did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrapped {
    /// Versions of keys that were wrapped by another master key.
    pub versions: u64,
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A word for programs.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}
