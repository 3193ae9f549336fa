//! The cluster map: who is in the cluster, which nodes hold which partition, which buckets, users and keys there are.
//!
//! It is the state of Raft group 0 and everyone's cached copy of it. It changes by [`change::MapChange`] alone, applied by one pure
//! function, so that the group's replicas and every watcher arrive at the same map. No I/O but in `leader` and `watch`.

mod bucket;
pub mod change;
mod kms;
pub mod layout;
pub mod leader;
mod node;
pub mod size;
pub mod watch;
pub mod whole;
mod whom;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::iam::{FoldedName, Iam};
use crate::ids::{BucketId, ChunkId, ClusterId, Epoch, InstanceId, NodeId, PartitionId, ShardId};
use crate::object::{KeyPath, UserId};
use crate::ring;
use crate::usage::{Payer, Quota};

pub use bucket::{Bucket, BucketChange, BucketConfig, BucketState};
pub use kms::{KMS_KEY_VERSIONS_MAX, KMS_KEYS_MAX, KmsKey, KmsKeyVersion, KmsKeys, MasterKeyId};
pub use layout::{LayoutChange, LayoutStep, Move, Moves};
pub use node::{Node, NodeProfile, NodeSettings, NodeState};

/// Index shards of a new bucket: a list asks at most this many groups.
pub const BUCKET_SHARDS: u16 = 16;

/// How long a watcher may serve from its copy after it asked for news, in milliseconds.
pub const MAP_LEASE_MS: u64 = 2_000;

/// The number of the map's last change, of any kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct MapVersion(pub u64);

/// The whole of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClusterMap {
    /// The cluster.
    pub cluster: ClusterId,
    /// The last change.
    pub version: MapVersion,
    /// The last change of placement.
    pub epoch: Epoch,
    /// How many replicas a partition and a chunk should have.
    pub replication_factor: u8,
    /// The nodes that vote in group 0.
    pub map_voters: Vec<NodeId>,
    /// The replica set of each partition, by its number. The first is the preferred leader.
    pub placement: Vec<Vec<NodeId>>,
    /// Partitions that are not yet where their placement says.
    pub moves: Moves,
    /// Storage nodes.
    pub nodes: BTreeMap<NodeId, Node>,
    /// The id that the next node gets.
    pub next_node: NodeId,
    /// Buckets by name.
    pub buckets: BTreeMap<String, Bucket>,
    /// The id that the next bucket gets.
    pub next_bucket: BucketId,
    /// Accounts.
    pub users: BTreeMap<UserId, User>,
    /// Access keys by their public id.
    pub keys: BTreeMap<String, AccessKey>,
    /// Keys of the key service by name, wrapped.
    pub kms_keys: KmsKeys,
    /// Users, groups, roles and managed policies of accounts.
    pub iam: Iam,
}

/// An account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct User {
    /// Unique, for the administrator.
    pub name: String,
    /// As S3 shows it.
    pub display_name: String,
    /// Unique where given.
    pub email: Option<String>,
    /// May use the admin API.
    pub admin: bool,
    /// The most that its buckets may hold together.
    pub quota: Option<Quota>,
    /// Unix milliseconds.
    pub created_ms: u64,
}

/// An access key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// The account.
    pub user: UserId,
    /// The user of the account whose it is; the account's own otherwise.
    pub iam_user: Option<FoldedName>,
    /// Whether it signs.
    pub active: bool,
    /// Signs requests. Never logged.
    pub secret: String,
    /// Unix milliseconds.
    pub created_ms: u64,
}

impl AccessKey {
    /// A key of an account's own.
    pub fn of_account(user: UserId, secret: String, created_ms: u64) -> Self {
        Self { user, iam_user: None, active: true, secret, created_ms }
    }

    /// Whether it is that user's.
    pub fn is_of(&self, account: UserId, iam_user: &FoldedName) -> bool {
        self.user == account && self.iam_user.as_ref() == Some(iam_user)
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("user", &self.user).field("secret", &"***").finish()
    }
}

impl ClusterMap {
    /// The map of a cluster that has just been formed: nobody has anything yet.
    pub fn formed(
        cluster: ClusterId,
        replication_factor: u8,
        map_voters: Vec<NodeId>,
        placement: Vec<Vec<NodeId>>,
        nodes: BTreeMap<NodeId, Node>,
    ) -> Self {
        Self {
            cluster,
            version: MapVersion(1),
            epoch: Epoch(1),
            replication_factor,
            map_voters,
            placement,
            moves: Moves::default(),
            next_node: NodeId(nodes.keys().next_back().map_or(0, |last| last.0) + 1),
            nodes,
            buckets: BTreeMap::new(),
            next_bucket: BucketId(1),
            users: BTreeMap::new(),
            keys: BTreeMap::new(),
            kms_keys: KmsKeys::default(),
            iam: Iam::default(),
        }
    }

    /// How many buckets, accounts and access keys there are.
    pub fn records(&self) -> usize {
        self.buckets.len() + self.users.len() + self.keys.len()
    }

    /// How many partitions the ring has.
    pub fn partitions(&self) -> u32 {
        self.placement.len() as u32
    }

    /// Where the records of `key` live.
    pub fn key_path(bucket: &Bucket, key: &str) -> KeyPath {
        KeyPath { bucket: bucket.id, shard: ring::shard_of(key.as_bytes(), bucket.shards), key: key.to_owned() }
    }

    /// The partition of an index shard.
    pub fn partition_of_shard(&self, bucket: BucketId, shard: ShardId) -> PartitionId {
        ring::partition_of_shard(bucket, shard, self.partitions())
    }

    /// The partition that keeps the books of a quota: who may use how much of it.
    pub fn home_of(&self, payer: Payer) -> PartitionId {
        match payer {
            Payer::Bucket(bucket) => self.partition_of_shard(bucket, ShardId(0)),
            Payer::Account(user) => ring::partition_of_account(user, self.partitions()),
        }
    }

    /// The partition of a chunk.
    pub fn partition_of_chunk(&self, chunk: ChunkId) -> PartitionId {
        ring::partition_of_chunk(chunk, self.partitions())
    }

    /// The nodes that hold a partition; none for a partition that does not exist.
    pub fn replicas(&self, partition: PartitionId) -> &[NodeId] {
        self.placement.get(partition.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// The nodes that may have what a partition holds: its replicas, then those that it is moving away from.
    pub fn holders(&self, partition: PartitionId) -> impl Iterator<Item = NodeId> + '_ {
        self.replicas(partition).iter().chain(self.leaving(partition)).copied()
    }

    /// The holders that have everything, as far as writes and repair brought it to them: all but those that joined lately.
    pub fn complete_holders(&self, partition: PartitionId) -> impl Iterator<Item = NodeId> + '_ {
        let joining = self.move_of(partition).map_or(&[][..], |moving| &moving.joining);
        self.holders(partition).filter(|id| !joining.contains(id))
    }

    /// The nodes that a partition is moving away from.
    pub fn leaving(&self, partition: PartitionId) -> &[NodeId] {
        self.move_of(partition).map_or(&[], |moving| &moving.leaving)
    }

    /// How far the nodes of a partition have changed, while it is not where its placement says.
    pub fn move_of(&self, partition: PartitionId) -> Option<&Move> {
        self.moves.partitions.get(&partition)
    }

    /// Replicas that must have a write before it is acknowledged: W = RF / 2 + 1.
    pub fn write_quorum(&self) -> usize {
        usize::from(self.replication_factor) / 2 + 1
    }

    /// Where peers reach a node.
    pub fn addr(&self, node: NodeId) -> Option<&str> {
        self.nodes.get(&node).map(|node| node.profile.addr.as_str())
    }

    /// The node of a data directory.
    pub fn node_of_instance(&self, instance: InstanceId) -> Option<NodeId> {
        self.nodes.iter().find(|(_, node)| node.profile.instance == instance).map(|(id, _)| *id)
    }

    /// The node of that name.
    pub fn node_named(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().find(|(_, node)| node.profile.name == name).map(|(id, _)| *id)
    }

    /// The access key of that id, if it signs.
    pub fn active_key(&self, id: &str) -> Option<&AccessKey> {
        self.keys.get(id).filter(|key| key.active)
    }

    /// The account of that name.
    pub fn user_named(&self, name: &str) -> Option<(UserId, &User)> {
        self.users.iter().find(|(_, user)| user.name == name).map(|(id, user)| (*id, user))
    }
}
