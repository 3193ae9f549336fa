//! Newtypes for everything that is named by a number. No logic beyond making and printing them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A storage node, as the cluster map numbers it. Never reused: a wiped node comes back under a new id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// A Raft group: 0 is the cluster map, `1 + p` is the metadata of partition `p`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct GroupId(pub u32);

/// A partition of the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PartitionId(pub u32);

/// The number of the last change of replica placement. Requests carry it; an older one is answered `StaleEpoch`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// A bucket. Never reused, so that a late write to a deleted bucket cannot land in its successor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct BucketId(pub u64);

/// One of the fixed number of index shards of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ShardId(pub u16);

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// A new id: 48 bits of Unix milliseconds, so that ids sort roughly by age, then 80 random bits.
            pub fn generate(now_ms: u64) -> Self {
                let mut id: [u8; 16] = rand::random();
                id[..6].copy_from_slice(&now_ms.to_be_bytes()[2..]);
                Self(id)
            }

            /// The id written as 32 lower-case hexadecimal digits.
            pub fn parse(text: &str) -> Option<Self> {
                let mut id = [0; 16];
                hex::decode_to_slice(text, &mut id).ok()?;
                Some(Self(id))
            }

            /// The Unix milliseconds at which the id was made.
            pub fn timestamp_ms(&self) -> u64 {
                let mut ms = [0; 8];
                ms[2..].copy_from_slice(&self.0[..6]);
                u64::from_be_bytes(ms)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

random_id!(
    /// A cluster: made once when it is formed, proven by every peer.
    ClusterId
);
random_id!(
    /// One life of a data directory or of a gateway process, known before it has a number.
    InstanceId
);
random_id!(
    /// One mutation, however often it is sent: the metadata state machine applies it once.
    RequestId
);
random_id!(
    /// A multipart upload.
    UploadId
);
random_id!(
    /// The bytes of one uploaded part (a plain object is one part). Chunk ids derive from it.
    PartId
);

/// One chunk of a part: the part's id and the chunk's place in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ChunkId {
    /// The part that the chunk belongs to.
    pub part: PartId,
    /// Its place in the part, from 0.
    pub index: u32,
}

impl ChunkId {
    /// The id as a key: the part's 16 bytes, then the index in big-endian, so that a part's chunks are neighbours.
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(&self.part.0);
        bytes[16..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }

    /// The inverse of [`ChunkId::to_bytes`].
    pub fn from_bytes(bytes: &[u8; 20]) -> Self {
        let mut part = [0; 16];
        part.copy_from_slice(&bytes[..16]);
        let mut index = [0; 4];
        index.copy_from_slice(&bytes[16..]);
        Self { part: PartId(part), index: u32::from_be_bytes(index) }
    }
}

/// An account, as AWS names it: the canonical user id, shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserId(pub [u8; 32]);

impl UserId {
    /// Whoever does not sign, by the id that AWS shows for it. No account is ever given it.
    pub const ANONYMOUS: Self = Self([
        0x65, 0xa0, 0x11, 0xa2, 0x9c, 0xdf, 0x8e, 0xc5, 0x33, 0xec, 0x3d, 0x1c, 0xca, 0xae, 0x92, 0x1c, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);

    /// The digits that are shown: [`UserId::ANONYMOUS`] is shorter than the others.
    fn shown(&self) -> &[u8] {
        if *self == Self::ANONYMOUS { &self.0[..16] } else { &self.0 }
    }

    /// The number that ARNs know the account by.
    pub fn number(&self) -> AccountNumber {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        AccountNumber(u64::from_be_bytes(first) % ACCOUNT_NUMBERS)
    }

    /// The id written as 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 32];
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(Self(id))
    }
}

/// How many account numbers there are: twelve digits, as AWS has them and as clients check.
const ACCOUNT_NUMBERS: u64 = 1_000_000_000_000;

/// An account in ARNs: twelve digits that follow from its canonical id. No two accounts of a cluster share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AccountNumber(u64);

impl AccountNumber {
    /// The number that twelve digits write.
    pub fn parse(text: &str) -> Option<Self> {
        let is_number = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { text.parse().ok().map(Self) } else { None }
    }
}

impl fmt::Display for AccountNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.shown()))
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserId({self})")
    }
}

impl GroupId {
    /// The group of the cluster map.
    pub const CLUSTER_MAP: GroupId = GroupId(0);

    /// The partition whose metadata the group has; none for that of the cluster map.
    pub fn partition(self) -> Option<PartitionId> {
        self.0.checked_sub(1).map(PartitionId)
    }
}

impl From<PartitionId> for GroupId {
    fn from(partition: PartitionId) -> Self {
        GroupId(partition.0 + 1)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
