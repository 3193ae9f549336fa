//! What the admin API says, in JSON: the same types on the server and in the commands that ask it.

use serde::{Deserialize, Serialize};

/// Where the admin API lives on the gateway's port.
pub const BASE: &str = "/-/admin/v1";

/// The cluster as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's id.
    pub cluster: String,
    /// Everything that is stored has all its replicas, as far as the nodes that answered know, and every node answered.
    pub healthy: bool,
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
    /// Whether it answered.
    pub up: bool,
    /// The rest is absent when it did not.
    pub details: Option<NodeDetails>,
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
}

/// A Raft group and its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionReport {
    /// The partition's number; the group's is one more, and group 0 has no partition.
    pub partition: Option<u32>,
    /// Its members.
    pub replicas: Vec<u64>,
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
    /// Chunk copies that are known to be missing, remembered as hints.
    pub chunk_copies_missing: u64,
    /// How many more nodes may fail, whichever they are, before some partition stops serving.
    pub node_failures_tolerated: u32,
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
