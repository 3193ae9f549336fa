//! How the cluster map lies in group 0's range of `Table::Meta`: one record per node, bucket, account and key, so that a change
//! writes what it changed and no more. Every value is a format byte and postcard. Which change touches what is decided here,
//! what it does to the map is not.

use std::collections::VecDeque;
use std::sync::Arc;

use annulus_common::iam::{
    EntityKey, FoldedName, Group, IamChange, Kind, ManagedPolicy, Record, Role, User as IamUser,
};
use annulus_common::ids::{BucketId, ClusterId, Epoch, GroupId, NodeId};
use annulus_common::map::change::{MapChange, MapEntry, MapReply};
use annulus_common::map::size::{Weight, bytes_of, weight_of_identity};
use annulus_common::map::{AccessKey, Bucket, ClusterMap, KmsKey, LayoutStep, MapVersion, Moves, Node, User};
use annulus_common::object::UserId;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::kv::{Batch, KvError, KvRead, Table};

/// Changes that are remembered: for watchers that fell behind a little, and so that a change that is asked for again is
/// answered as the first time.
pub const HISTORY_MAX: usize = 1_024;

/// Their bytes together, answers included: every voter has them in memory and on its disk. As many as the group's leader takes at
/// once, so that who watches can still be told of them one by one.
pub const HISTORY_BYTES_MAX: usize = 16 << 20;

/// The format of every value.
const FORMAT: u8 = 1;

const COUNTERS: u8 = b'c';
const LAYOUT: u8 = b'l';
const NODE: u8 = b'n';
const BUCKET: u8 = b'b';
const USER: u8 = b'u';
const KEY: u8 = b'k';
const KMS_KEY: u8 = b'm';
const IAM_USER: u8 = b'U';
const IAM_GROUP: u8 = b'G';
const IAM_ROLE: u8 = b'R';
const IAM_POLICY: u8 = b'P';
const HISTORY: u8 = b'h';

/// What every change changes.
#[derive(Serialize, Deserialize)]
struct Counters {
    version: MapVersion,
    next_node: NodeId,
    next_bucket: BucketId,
}

/// What only a change of the layout changes.
#[derive(Serialize, Deserialize)]
struct Layout {
    cluster: ClusterId,
    epoch: Epoch,
    replication_factor: u8,
    map_voters: Vec<NodeId>,
    placement: Vec<Vec<NodeId>>,
    moves: Moves,
}

/// A change that was carried out, with what it answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Done {
    /// The change.
    pub entry: MapEntry,
    /// Its answer.
    pub reply: MapReply,
}

/// What the records hold together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// The map.
    pub map: ClusterMap,
    /// The changes that led to it, the last one being the one to the map's version.
    pub history: VecDeque<Done>,
}

/// A record of the map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// Who holds what.
    Layout,
    /// A node.
    Node(NodeId),
    /// A bucket.
    Bucket(String),
    /// An account.
    User(UserId),
    /// An access key.
    Key(String),
    /// A key of the key service.
    KmsKey(String),
    /// An identity of an account.
    Iam(Record),
}

/// The range that holds everything of group 0.
pub fn range() -> (Table, Bytes, Bytes) {
    let group = GroupId::CLUSTER_MAP.0;
    let (from, to) = (group.to_be_bytes(), (group + 1).to_be_bytes());
    (Table::Meta, Bytes::copy_from_slice(&from), Bytes::copy_from_slice(&to))
}

/// The records that `change` touches in `map`, which it has not been applied to yet. The counters it always does.
pub fn touched(map: &ClusterMap, change: &MapChange) -> Vec<Part> {
    match change {
        MapChange::CreateBucket { name, .. }
        | MapChange::BeginDeleteBucket { name }
        | MapChange::AbortDeleteBucket { name, .. }
        | MapChange::FinishDeleteBucket { name, .. }
        | MapChange::ConfigureBucket { name, .. } => vec![Part::Bucket(name.clone())],
        MapChange::CreateUser { id, .. } | MapChange::SetUserQuota { id, .. } => vec![Part::User(*id)],
        MapChange::DeleteUser { id } => {
            let keys = map.keys.iter().filter(|(_, key)| key.user == *id).map(|(key, _)| Part::Key(key.clone()));
            let identities = map.iam.records_of(*id).into_iter().map(Part::Iam);
            keys.chain(identities).chain([Part::User(*id)]).collect()
        }
        MapChange::CreateKey { id, .. } | MapChange::DeleteKey { id } => vec![Part::Key(id.clone())],
        MapChange::RegisterNode { node, profile } => {
            let known = node.or_else(|| map.node_of_instance(profile.instance));
            vec![Part::Node(known.unwrap_or(map.next_node))]
        }
        MapChange::ChangeLayout(change) => {
            let nodes = nodes_of(&change.step).into_iter().map(Part::Node);
            nodes.chain([Part::Layout]).collect()
        }
        MapChange::Moved(_) | MapChange::PauseMoves(_) => vec![Part::Layout],
        MapChange::CreateKmsKey { name, .. }
        | MapChange::EnableKmsKey { name, .. }
        | MapChange::PutKmsKeyVersion { name, .. } => vec![Part::KmsKey(name.clone())],
        MapChange::Iam { account, change } => {
            let identities = map.iam.touched(*account, change).into_iter().map(Part::Iam);
            identities.chain(keys_of_identities(map, *account, change).into_iter().map(Part::Key)).collect()
        }
    }
}

/// The access keys that a change of identities touches.
fn keys_of_identities(map: &ClusterMap, account: UserId, change: &IamChange) -> Vec<String> {
    match change {
        IamChange::ActivateKey { id, .. } => vec![id.clone()],
        IamChange::Rename { of, .. } if of.kind == Kind::User => {
            let user = FoldedName::of(&of.name);
            map.keys.iter().filter(|(_, key)| key.is_of(account, &user)).map(|(id, _)| id.clone()).collect()
        }
        _ => Vec::new(),
    }
}

/// The nodes that a step says something of.
fn nodes_of(step: &LayoutStep) -> Vec<NodeId> {
    match step {
        LayoutStep::Add(nodes) => nodes.clone(),
        LayoutStep::Drain(node)
        | LayoutStep::Remove { node, .. }
        | LayoutStep::Set { node, .. }
        | LayoutStep::Dead(node) => vec![*node],
        LayoutStep::Replace { old, new } => vec![*old, *new],
        LayoutStep::SetReplication(_) | LayoutStep::Rebalance => Vec::new(),
    }
}

/// Writes a whole map as the beginning of the group.
pub fn put_whole(map: &ClusterMap, batch: &mut Batch) {
    let (table, from, to) = range();
    batch.delete_range(table, from, to);
    put_part(map, &Part::Layout, batch);
    put(batch, key(COUNTERS, &[]), &counters_of(map));
    let nodes = map.nodes.keys().map(|id| Part::Node(*id));
    let buckets = map.buckets.keys().map(|name| Part::Bucket(name.clone()));
    let users = map.users.keys().map(|id| Part::User(*id));
    let keys = map.keys.keys().map(|id| Part::Key(id.clone()));
    let kms_keys = map.kms_keys.keys().map(|name| Part::KmsKey(name.clone()));
    let identities = map.iam.records().into_iter().map(Part::Iam);
    let parts = nodes.chain(buckets).chain(users).chain(keys).chain(kms_keys).chain(identities);
    parts.for_each(|part| put_part(map, &part, batch));
}

/// Writes what a change made of `map`: the parts it touched, the counters, and the change itself.
pub fn put_change(map: &ClusterMap, touched: &[Part], done: &Done, batch: &mut Batch) {
    touched.iter().for_each(|part| put_part(map, part, batch));
    put(batch, key(COUNTERS, &[]), &counters_of(map));
    put(batch, history_key(map.version), done);
}

/// Removes the change that led to that version from what is remembered.
pub fn forget_change(version: MapVersion, batch: &mut Batch) {
    batch.delete(Table::Meta, history_key(version));
}

/// What a part takes of what accounts may configure, if it counts and is there.
pub fn weight(map: &ClusterMap, part: &Part) -> Option<Weight> {
    match part {
        Part::Layout | Part::Node(_) => None,
        Part::Bucket(name) => map.buckets.get(name).map(|bucket| (Some(bucket.owner), bytes_of(name, bucket))),
        Part::User(id) => map.users.get(id).map(|user| (Some(*id), bytes_of(id, user))),
        Part::Key(id) => map.keys.get(id).map(|key| (Some(key.user), bytes_of(id, key))),
        Part::KmsKey(name) => map.kms_keys.get(name).map(|key| (None, bytes_of(name, key))),
        Part::Iam(record) => weight_of_identity(&map.iam, record),
    }
}

fn put_part(map: &ClusterMap, part: &Part, batch: &mut Batch) {
    match part {
        Part::Layout => put(batch, key(LAYOUT, &[]), &layout_of(map)),
        Part::Node(id) => put_or_delete(batch, key(NODE, &id.0.to_be_bytes()), map.nodes.get(id)),
        Part::Bucket(name) => put_or_delete(batch, key(BUCKET, name.as_bytes()), map.buckets.get(name)),
        Part::User(id) => put_or_delete(batch, key(USER, &id.0), map.users.get(id)),
        Part::Key(id) => put_or_delete(batch, key(KEY, id.as_bytes()), map.keys.get(id)),
        Part::KmsKey(name) => put_or_delete(batch, key(KMS_KEY, name.as_bytes()), map.kms_keys.get(name)),
        Part::Iam(Record { kind, key: of }) => {
            let iam = &map.iam;
            match kind {
                Kind::User => put_or_delete(batch, identity_key(IAM_USER, of), iam.users.get(of)),
                Kind::Group => put_or_delete(batch, identity_key(IAM_GROUP, of), iam.groups.get(of)),
                Kind::Role => put_or_delete(batch, identity_key(IAM_ROLE, of), iam.roles.get(of)),
                Kind::Policy => put_or_delete(batch, identity_key(IAM_POLICY, of), iam.policies.get(of)),
            }
        }
    }
}

/// Reads everything; nothing when the group has not begun here.
pub fn load(kv: &(impl KvRead + ?Sized)) -> Result<Option<Loaded>, KvError> {
    let (table, from, to) = range();
    let Some(layout) = kv.get(table, &key(LAYOUT, &[]))? else { return Ok(None) };
    let Some(counters) = kv.get(table, &key(COUNTERS, &[]))? else { return Ok(None) };
    let mut loaded = begin(parse(&layout)?, parse(&counters)?);
    let mut cursor = kv.cursor(table, &from, &to)?;
    cursor.seek(&from)?;
    while let Some((record_key, value)) = cursor.entry() {
        take_record(&mut loaded, record_key, value)?;
        cursor.next()?;
    }
    Ok(Some(loaded))
}

fn take_record(loaded: &mut Loaded, record_key: &[u8], value: &[u8]) -> Result<(), KvError> {
    let Some((&kind, id)) = record_key.get(GROUP_BYTES..).and_then(<[u8]>::split_first) else {
        return Err(corrupt("a record without a kind"));
    };
    let map = &mut loaded.map;
    match kind {
        COUNTERS | LAYOUT => {}
        NODE => {
            let id = id.try_into().map_err(|_| corrupt("a node's number"))?;
            map.nodes.insert(NodeId(u64::from_be_bytes(id)), parse::<Node>(value)?);
        }
        BUCKET => {
            map.buckets.insert(text(id)?, parse::<Bucket>(value)?);
        }
        USER => {
            let id = id.try_into().map_err(|_| corrupt("an account's id"))?;
            map.users.insert(UserId(id), parse::<User>(value)?);
        }
        KEY => {
            map.keys.insert(text(id)?, parse::<AccessKey>(value)?);
        }
        KMS_KEY => {
            map.kms_keys.insert(text(id)?, parse::<KmsKey>(value)?);
        }
        IAM_USER => {
            map.iam.users.insert(identity(id)?, Arc::new(parse::<IamUser>(value)?));
        }
        IAM_GROUP => {
            map.iam.groups.insert(identity(id)?, Arc::new(parse::<Group>(value)?));
        }
        IAM_ROLE => {
            map.iam.roles.insert(identity(id)?, Arc::new(parse::<Role>(value)?));
        }
        IAM_POLICY => {
            map.iam.policies.insert(identity(id)?, Arc::new(parse::<ManagedPolicy>(value)?));
        }
        HISTORY => loaded.history.push_back(parse(value)?),
        _ => return Err(corrupt("a record of an unknown kind")),
    }
    Ok(())
}

fn counters_of(map: &ClusterMap) -> Counters {
    Counters { version: map.version, next_node: map.next_node, next_bucket: map.next_bucket }
}

fn layout_of(map: &ClusterMap) -> Layout {
    Layout {
        cluster: map.cluster,
        epoch: map.epoch,
        replication_factor: map.replication_factor,
        map_voters: map.map_voters.clone(),
        placement: map.placement.clone(),
        moves: map.moves.clone(),
    }
}

fn begin(layout: Layout, counters: Counters) -> Loaded {
    let map = ClusterMap {
        cluster: layout.cluster,
        version: counters.version,
        epoch: layout.epoch,
        replication_factor: layout.replication_factor,
        map_voters: layout.map_voters,
        placement: layout.placement,
        moves: layout.moves,
        nodes: Default::default(),
        next_node: counters.next_node,
        buckets: Default::default(),
        next_bucket: counters.next_bucket,
        users: Default::default(),
        keys: Default::default(),
        kms_keys: Default::default(),
        iam: Default::default(),
    };
    Loaded { map, history: VecDeque::new() }
}

/// The group's number, before everything.
const GROUP_BYTES: usize = 4;

fn key(kind: u8, id: &[u8]) -> Bytes {
    let mut key = Vec::with_capacity(GROUP_BYTES + 1 + id.len());
    key.extend_from_slice(&GroupId::CLUSTER_MAP.0.to_be_bytes());
    key.push(kind);
    key.extend_from_slice(id);
    key.into()
}

/// The account's id, then the folded name.
fn identity_key(kind: u8, of: &EntityKey) -> Bytes {
    key(kind, &[&of.account.0[..], of.name.as_str().as_bytes()].concat())
}

fn identity(id: &[u8]) -> Result<EntityKey, KvError> {
    let (account, name) = id.split_first_chunk::<32>().ok_or_else(|| corrupt("an identity's key"))?;
    Ok(EntityKey::new(UserId(*account), &text(name)?))
}

fn history_key(version: MapVersion) -> Bytes {
    key(HISTORY, &version.0.to_be_bytes())
}

fn put_or_delete<T: Serialize>(batch: &mut Batch, key: Bytes, value: Option<&T>) {
    match value {
        Some(value) => put(batch, key, value),
        None => batch.delete(Table::Meta, key),
    }
}

fn put<T: Serialize>(batch: &mut Batch, key: Bytes, value: &T) {
    let record = postcard::to_extend(value, vec![FORMAT]).expect("records are plain data, which always encodes");
    batch.put(Table::Meta, key, record);
}

fn parse<T: DeserializeOwned>(record: &[u8]) -> Result<T, KvError> {
    match record.split_first() {
        Some((&FORMAT, body)) => postcard::from_bytes(body).map_err(|error| corrupt(&error.to_string())),
        Some((other, _)) => Err(corrupt(&format!("format {other} is not understood"))),
        None => Err(corrupt("an empty record")),
    }
}

fn text(id: &[u8]) -> Result<String, KvError> {
    String::from_utf8(id.to_vec()).map_err(|_| corrupt("a name that is not UTF-8"))
}

fn corrupt(reason: &str) -> KvError {
    KvError::Corrupt { during: "reading the cluster map", reason: reason.to_owned() }
}
