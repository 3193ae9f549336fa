//! The changes of the cluster map, and the one function that carries them out. Pure and deterministic: times and ids come in the change.
//!
//! Every change can be asked for again after an uncertain answer: it then answers as the first time and changes nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    AccessKey, Bucket, BucketChange, BucketConfig, BucketState, ClusterMap, KmsKey, KmsKeyVersion, LayoutChange,
    MapVersion, Node, NodeProfile, NodeState, User, kms, size::SizeLimit,
};
use crate::iam::{Holder, IamChange, IamRefusal, Kind, USER_KEYS_MAX};
use crate::ids::{BucketId, Epoch, GroupId, InstanceId, NodeId, PartitionId, RequestId};
use crate::object::UserId;
use crate::policy::POLICY_TEXT_BYTES_MAX;
use crate::usage::Quota;
use crate::{cors, website};

/// Buckets that one account may own (AWS: 100 by default, 10,000 at most).
pub const BUCKETS_PER_USER_MAX: usize = 10_000;

/// Access keys of one account's own.
pub const KEYS_PER_USER_MAX: usize = 100;

/// The largest document of a bucket as it is kept, of those that S3 does not bound itself: every copy of the map has it, and it goes
/// through one entry of a log with what names it (256 KiB). S3's 1,000 lifecycle rules may have some 245 bytes each.
pub const DOCUMENT_BYTES_MAX: usize = 240 << 10;

// What S3 bounds in its own way is bounded by less, as it is written.
const _: () = assert!(
    POLICY_TEXT_BYTES_MAX <= DOCUMENT_BYTES_MAX
        && cors::DOCUMENT_BYTES_MAX <= DOCUMENT_BYTES_MAX as u64
        && website::DOCUMENT_BYTES_MAX <= DOCUMENT_BYTES_MAX as u64
);

/// A change with what makes it deterministic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MapEntry {
    /// The mutation's name.
    pub request: RequestId,
    /// When, Unix milliseconds.
    pub time_ms: u64,
    /// What.
    pub change: MapChange,
}

/// What can change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MapChange {
    /// Makes a bucket.
    CreateBucket {
        /// Its name, already checked against the rules.
        name: String,
        /// Its owner.
        owner: UserId,
        /// What is configured of it from the beginning.
        config: Box<BucketConfig>,
    },
    /// Begins to delete a bucket; the entry's request is the token that fences its shards.
    BeginDeleteBucket {
        /// The bucket's name.
        name: String,
    },
    /// Gives up deleting: the token is void from now on.
    AbortDeleteBucket {
        /// The bucket's name.
        name: String,
        /// The attempt.
        token: RequestId,
    },
    /// Removes a bucket whose shards are all fenced.
    FinishDeleteBucket {
        /// The bucket's name.
        name: String,
        /// The attempt.
        token: RequestId,
    },
    /// Makes an account.
    CreateUser {
        /// Its id, drawn by the caller.
        id: UserId,
        /// The account.
        user: User,
    },
    /// Sets the most that an account's buckets may hold together.
    SetUserQuota {
        /// The account.
        id: UserId,
        /// From now on.
        quota: Option<Quota>,
    },
    /// Removes an account without buckets, with its keys and all that is in it.
    DeleteUser {
        /// The account.
        id: UserId,
    },
    /// Makes an access key.
    CreateKey {
        /// Its public id, drawn by the caller.
        id: String,
        /// The key.
        key: AccessKey,
    },
    /// Revokes an access key.
    DeleteKey {
        /// Its public id.
        id: String,
    },
    /// A storage node joins, or says where it is reached now.
    RegisterNode {
        /// Its number, where it has one: a data directory that was removed does not get another.
        node: Option<NodeId>,
        /// What it says of itself.
        profile: NodeProfile,
    },
    /// Sets what is configured of a bucket.
    ConfigureBucket {
        /// The bucket's name.
        name: String,
        /// The bucket: another of that name is not meant.
        id: BucketId,
        /// From now on.
        change: BucketChange,
    },
    /// Changes who holds what.
    ChangeLayout(LayoutChange),
    /// Everything of these groups is on exactly the nodes that this epoch gave them, the chunks of their partitions included: who
    /// held them before may forget them.
    Moved(Vec<(GroupId, Epoch)>),
    /// Moves nothing until further notice, or goes on.
    PauseMoves(bool),
    /// Makes a key of the key service.
    CreateKmsKey {
        /// Its name.
        name: String,
        /// The key, wrapped by the master key.
        key: KmsKey,
    },
    /// Lets a key of the key service be used, or not.
    EnableKmsKey {
        /// Its name.
        name: String,
        /// Whether it may be used.
        enabled: bool,
    },
    /// Gives a key of the key service a new version, or a version a new wrapping.
    PutKmsKeyVersion {
        /// Its name.
        name: String,
        /// The version's number: the one after the last, or one that is there.
        number: u32,
        /// The version.
        version: KmsKeyVersion,
    },
    /// Changes the identities of an account.
    Iam {
        /// The account.
        account: UserId,
        /// What.
        change: IamChange,
    },
}

/// What a change answers. Answers are remembered, so they are small: never all that is configured of a bucket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MapReply {
    /// Done.
    Done,
    /// The bucket is there, as it was made.
    Bucket(Box<Bucket>),
    /// The node's number.
    Node(NodeId),
    /// The bucket is being deleted: every shard of it is to be fenced.
    Deleting {
        /// The bucket.
        id: BucketId,
        /// How many shards it has.
        shards: u16,
    },
}

/// Why a change was refused. Nothing happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum MapRefusal {
    /// The name is taken.
    #[error("bucket already exists")]
    BucketExists(Box<Bucket>),
    /// There is no such bucket.
    #[error("no such bucket")]
    NoSuchBucket,
    /// What is configured of the bucket stands in the way.
    #[error("the bucket is configured otherwise")]
    InvalidBucketState,
    /// Somebody else is deleting the bucket.
    #[error("the bucket is being deleted")]
    BucketBusy(Box<Bucket>),
    /// The account owns as many as it may.
    #[error("too many buckets")]
    TooManyBuckets,
    /// The account's name, id or e-mail address is taken.
    #[error("user already exists")]
    UserExists,
    /// There is no such account.
    #[error("no such user")]
    NoSuchUser,
    /// The account still owns buckets.
    #[error("the user still owns buckets")]
    UserOwnsBuckets,
    /// It is the last account that may administer, or its last key.
    #[error("the last administrator, or its last active key, cannot be taken away: nobody could give it back")]
    LastAdmin,
    /// The key's id is taken.
    #[error("access key already exists")]
    KeyExists,
    /// The account, or the user of it, has as many keys as it may.
    #[error("there may be {0} access keys and no more")]
    TooManyKeys(usize),
    /// There is no such key.
    #[error("no such access key")]
    NoSuchKey,
    /// A node of that name is in the cluster with another data directory.
    #[error("node name {name} belongs to another data directory of this cluster")]
    NodeNameTaken {
        /// The name.
        name: String,
        /// That directory.
        instance: InstanceId,
    },
    /// The node was removed from the cluster.
    #[error(
        "node {0} was removed from this cluster. Its own data directory is of no use any more: move it away and start that node \
         with an empty one. Others take it off their seeds"
    )]
    NodeRemoved(NodeId),
    /// There is no such node.
    #[error("there is no node {0}")]
    NoSuchNode(NodeId),
    /// The node is taken for dead.
    #[error("node {0} is dead: start it, and it comes back as a spare, or remove it")]
    NodeDead(NodeId),
    /// The layout has changed since the plan was made: plan anew.
    #[error("the layout has changed meanwhile; it is now of epoch {}", .0.0)]
    LayoutChanged(Epoch),
    /// There would be fewer nodes than replicas.
    #[error("{replication_factor} replicas need as many nodes, and {eligible} would be left to hold data")]
    TooFewNodes {
        /// Replicas that are wanted.
        replication_factor: u8,
        /// Nodes that may hold data.
        eligible: u32,
    },
    /// The node still holds data or has a vote.
    #[error("node {0} still holds data: drain it first")]
    NodeHoldsData(NodeId),
    /// No other node has all of that partition.
    #[error("no other node has all of partition {}: its objects would be lost", .0.0)]
    LastReplica(PartitionId),
    /// The plan makes no sense, or there is none.
    #[error("no placement: {0}")]
    NoPlacement(String),
    /// The name is taken.
    #[error("kms key already exists")]
    KmsKeyExists,
    /// There is no such key.
    #[error("no such kms key")]
    NoSuchKmsKey,
    /// There are as many as there may be.
    #[error("too many kms keys")]
    TooManyKmsKeys,
    /// Somebody else changed the key meanwhile, or it has as many versions as it may.
    #[error("the kms key was changed meanwhile, or has too many versions")]
    KmsKeyChanged,
    /// The identities of an account do not allow it.
    #[error(transparent)]
    Iam(IamRefusal),
    /// The map would be larger than it may be.
    #[error(transparent)]
    TooLarge(SizeLimit),
}

impl ClusterMap {
    /// Carries out a change, or refuses it and stays as it was.
    pub fn apply(&mut self, entry: &MapEntry) -> Result<MapReply, MapRefusal> {
        let reply = match &entry.change {
            MapChange::CreateBucket { name, owner, config } => self.create_bucket(entry, name, *owner, config),
            MapChange::BeginDeleteBucket { name } => self.begin_delete_bucket(entry, name),
            MapChange::AbortDeleteBucket { name, token } => self.abort_delete_bucket(name, *token),
            MapChange::FinishDeleteBucket { name, token } => self.finish_delete_bucket(name, *token),
            MapChange::CreateUser { id, user } => self.create_user(*id, user),
            MapChange::SetUserQuota { id, quota } => self.set_user_quota(*id, *quota),
            MapChange::DeleteUser { id } => self.delete_user(*id),
            MapChange::CreateKey { id, key } => self.create_key(id, key),
            MapChange::DeleteKey { id } => self.delete_key(id),
            MapChange::RegisterNode { node, profile } => self.register_node(*node, profile),
            MapChange::ConfigureBucket { name, id, change } => self.configure_bucket(name, *id, change),
            MapChange::ChangeLayout(change) => self.change_layout(change),
            MapChange::Moved(moved) => Ok(self.end_moves(moved)),
            MapChange::PauseMoves(paused) => {
                self.moves.paused = *paused;
                Ok(MapReply::Done)
            }
            MapChange::CreateKmsKey { name, key } => kms::create(&mut self.kms_keys, name, key),
            MapChange::EnableKmsKey { name, enabled } => kms::enable(&mut self.kms_keys, name, *enabled),
            MapChange::PutKmsKeyVersion { name, number, version } => {
                kms::put_version(&mut self.kms_keys, name, *number, version)
            }
            MapChange::Iam { account, change } => self.change_iam(entry.time_ms, *account, change),
        }?;
        self.version = MapVersion(self.version.0 + 1);
        Ok(reply)
    }

    fn create_bucket(
        &mut self,
        entry: &MapEntry,
        name: &str,
        owner: UserId,
        config: &BucketConfig,
    ) -> Result<MapReply, MapRefusal> {
        if let Some(bucket) = self.buckets.get(name) {
            let again = bucket.request == entry.request;
            return if again {
                Ok(MapReply::Bucket(Box::new(bucket.clone())))
            } else {
                Err(MapRefusal::BucketExists(Box::new(bucket.clone())))
            };
        }
        if self.buckets.values().filter(|bucket| bucket.owner == owner).count() >= BUCKETS_PER_USER_MAX {
            return Err(MapRefusal::TooManyBuckets);
        }
        let bucket = Bucket {
            id: self.next_bucket,
            owner,
            created_ms: entry.time_ms,
            shards: super::BUCKET_SHARDS,
            request: entry.request,
            state: BucketState::Active,
            config: config.clone(),
        };
        self.next_bucket = BucketId(self.next_bucket.0 + 1);
        self.buckets.insert(name.to_owned(), bucket.clone());
        Ok(MapReply::Bucket(Box::new(bucket)))
    }

    fn configure_bucket(&mut self, name: &str, id: BucketId, change: &BucketChange) -> Result<MapReply, MapRefusal> {
        let bucket = self.buckets.get_mut(name).filter(|bucket| bucket.id == id).ok_or(MapRefusal::NoSuchBucket)?;
        if !bucket.config.allows(change) {
            return Err(MapRefusal::InvalidBucketState);
        }
        bucket.config.change(change);
        // Known by the version that this change makes.
        if let (BucketChange::Quota(_), Some(quota)) = (change, &mut bucket.config.quota) {
            *quota = Arc::new(quota.at(self.version.0 + 1));
        }
        Ok(MapReply::Done)
    }

    fn begin_delete_bucket(&mut self, entry: &MapEntry, name: &str) -> Result<MapReply, MapRefusal> {
        let bucket = self.buckets.get_mut(name).ok_or(MapRefusal::NoSuchBucket)?;
        match bucket.state {
            BucketState::Deleting { token, .. } if token != entry.request => {
                return Err(MapRefusal::BucketBusy(Box::new(bucket.clone())));
            }
            BucketState::Deleting { .. } => {}
            BucketState::Active => {
                bucket.state = BucketState::Deleting { token: entry.request, since_ms: entry.time_ms };
            }
        }
        Ok(MapReply::Deleting { id: bucket.id, shards: bucket.shards })
    }

    fn abort_delete_bucket(&mut self, name: &str, token: RequestId) -> Result<MapReply, MapRefusal> {
        let bucket = self.buckets.get_mut(name).ok_or(MapRefusal::NoSuchBucket)?;
        if matches!(bucket.state, BucketState::Deleting { token: current, .. } if current == token) {
            bucket.state = BucketState::Active;
        }
        Ok(MapReply::Done)
    }

    /// A bucket that is gone was finished by an earlier try; one that is back in service, or deleted by someone else, is refused.
    fn finish_delete_bucket(&mut self, name: &str, token: RequestId) -> Result<MapReply, MapRefusal> {
        let Some(bucket) = self.buckets.get(name) else { return Ok(MapReply::Done) };
        match bucket.state {
            BucketState::Deleting { token: current, .. } if current == token => {
                self.buckets.remove(name);
                Ok(MapReply::Done)
            }
            _ => Err(MapRefusal::BucketBusy(Box::new(bucket.clone()))),
        }
    }

    fn create_user(&mut self, id: UserId, user: &User) -> Result<MapReply, MapRefusal> {
        if self.users.get(&id) == Some(user) {
            return Ok(MapReply::Done);
        }
        let taken = self.users.contains_key(&id)
            || self.users.keys().any(|other| other.number() == id.number())
            || self
                .users
                .values()
                .any(|other| other.name == user.name || (other.email.is_some() && other.email == user.email));
        if taken {
            return Err(MapRefusal::UserExists);
        }
        self.users.insert(id, user.clone());
        Ok(MapReply::Done)
    }

    fn set_user_quota(&mut self, id: UserId, quota: Option<Quota>) -> Result<MapReply, MapRefusal> {
        let version = self.version.0 + 1;
        self.users.get_mut(&id).ok_or(MapRefusal::NoSuchUser)?.quota = quota.map(|quota| quota.at(version));
        Ok(MapReply::Done)
    }

    fn delete_user(&mut self, id: UserId) -> Result<MapReply, MapRefusal> {
        let user = self.users.get(&id).ok_or(MapRefusal::NoSuchUser)?;
        if self.buckets.values().any(|bucket| bucket.owner == id) {
            return Err(MapRefusal::UserOwnsBuckets);
        }
        if user.admin && self.users.values().filter(|user| user.admin).count() == 1 {
            return Err(MapRefusal::LastAdmin);
        }
        self.check_admin_without(|_, key| key.user == id)?;
        self.users.remove(&id);
        self.keys.retain(|_, key| key.user != id);
        self.iam.forget(id);
        Ok(MapReply::Done)
    }

    fn delete_key(&mut self, id: &str) -> Result<MapReply, MapRefusal> {
        self.check_admin_without(|other, _| other == id)?;
        self.keys.remove(id).map(|_| MapReply::Done).ok_or(MapRefusal::NoSuchKey)
    }

    /// Refuses to take away the last keys by which the cluster can be administered.
    fn check_admin_without(&self, goes: impl Fn(&str, &AccessKey) -> bool) -> Result<(), MapRefusal> {
        let administers = |key: &AccessKey| {
            key.active && key.iam_user.is_none() && self.users.get(&key.user).is_some_and(|user| user.admin)
        };
        let keys = || self.keys.iter().filter(|(_, key)| administers(key));
        let (some, all) = (keys().any(|(id, key)| goes(id, key)), keys().all(|(id, key)| goes(id, key)));
        if some && all { Err(MapRefusal::LastAdmin) } else { Ok(()) }
    }

    fn change_iam(&mut self, time_ms: u64, account: UserId, change: &IamChange) -> Result<MapReply, MapRefusal> {
        if !self.users.contains_key(&account) {
            return Err(MapRefusal::NoSuchUser);
        }
        if let IamChange::ActivateKey { id, active: false } = change {
            self.check_admin_without(|other, _| other == id)?;
        }
        self.iam.apply(account, time_ms, change, &mut self.keys).map_err(MapRefusal::Iam)?;
        Ok(MapReply::Done)
    }

    fn create_key(&mut self, id: &str, key: &AccessKey) -> Result<MapReply, MapRefusal> {
        if self.keys.get(id) == Some(key) {
            return Ok(MapReply::Done);
        }
        if !self.users.contains_key(&key.user) {
            return Err(MapRefusal::NoSuchUser);
        }
        if let Some(user) = key.iam_user.as_ref().filter(|user| self.iam.user(key.user, user.as_str()).is_none()) {
            return Err(MapRefusal::Iam(Holder::new(Kind::User, user.as_str()).missing()));
        }
        let most = if key.iam_user.is_some() { USER_KEYS_MAX } else { KEYS_PER_USER_MAX };
        let held = self.keys.values().filter(|other| other.user == key.user && other.iam_user == key.iam_user).count();
        if self.keys.contains_key(id) {
            return Err(MapRefusal::KeyExists);
        }
        if held >= most {
            return Err(MapRefusal::TooManyKeys(most));
        }
        self.keys.insert(id.to_owned(), key.clone());
        Ok(MapReply::Done)
    }

    fn register_node(&mut self, id: Option<NodeId>, profile: &NodeProfile) -> Result<MapReply, MapRefusal> {
        if let Some(id) = id.or_else(|| self.node_of_instance(profile.instance)) {
            let known = self.nodes.get_mut(&id).filter(|known| known.profile.instance == profile.instance);
            let known = known.ok_or(MapRefusal::NodeRemoved(id))?;
            known.profile = profile.clone();
            if known.state == NodeState::Dead {
                // Others have its share now; whether it gets one again is for operators to say.
                known.state = NodeState::Spare;
            }
            return Ok(MapReply::Node(id));
        }
        if let Some(other) = self.node_named(&profile.name).and_then(|other| self.nodes.get(&other)) {
            return Err(MapRefusal::NodeNameTaken { name: profile.name.clone(), instance: other.profile.instance });
        }
        let id = self.next_node;
        self.next_node = NodeId(id.0 + 1);
        self.nodes.insert(id, Node::new(profile.clone(), NodeState::Spare));
        Ok(MapReply::Node(id))
    }
}
