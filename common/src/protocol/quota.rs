//! What is said of quotas between gateways, the books of a quota at its home, and the shards. Part of what `metadata` carries.

use serde::{Deserialize, Serialize};

use crate::ids::{BucketId, ShardId};
use crate::usage::{PayerKind, Usage};

/// Shards that one entry in the books of a quota may name: 40 bytes each, and a Raft entry has 256 KiB at most.
pub const BOOKED_SHARDS_MAX: usize = 4_096;

/// Which quotas a new object counts for, as the gateway's map said. A shard that was told of one knows better.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct QuotaTerms {
    /// The bucket's.
    pub bucket: bool,
    /// That of the account that owns the bucket.
    pub account: bool,
    /// The gateway has asked for more, in vain: what does not fit is refused for good.
    pub last: bool,
}

/// What happens in the books of a quota.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BooksEntry {
    /// This is the limit, by that version of the cluster map: none is the end of the quota. Until the shards have said what
    /// they use, nothing is granted.
    Limit {
        /// The most that all shards may hold together.
        limit: Option<Usage>,
        /// The version of the map that says so; older ones are ignored.
        version: u64,
    },
    /// These shards are asked to keep no more than they use.
    Recall {
        /// The serial that the first of several such entries was given.
        serial: Option<u64>,
        /// The shards.
        shards: Vec<(BucketId, ShardId)>,
    },
    /// They did: each may hold as much now. Ignored of those that were granted more meanwhile.
    Returned {
        /// The serial of the recall.
        serial: u64,
        /// What each is left with.
        left: Vec<(BucketId, ShardId, Usage)>,
        /// Whether these are the last of all shards that there are.
        all: bool,
    },
    /// A shard needs more.
    Grant {
        /// Its bucket.
        bucket: BucketId,
        /// The shard.
        shard: ShardId,
        /// What it needs, all in all.
        needs: Usage,
    },
}

/// How the allowance of a shard changes. Older serials are ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AllowanceChange {
    /// It is this from now on; none ends the quota.
    Set {
        /// The serial of the books.
        serial: u64,
        /// The most that it may hold.
        limit: Option<Usage>,
    },
    /// It is no more than is used.
    Shrink {
        /// The serial of the books.
        serial: u64,
    },
}

/// The answers about quotas.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum QuotaReply {
    /// To what makes an object: the shard may not hold so much. It has not been written, and can be asked for again.
    Short {
        /// By which quota.
        kind: PayerKind,
        /// What the shard would hold.
        needs: Usage,
    },
    /// The same, for good.
    Exceeded,
    /// To `Grant`, to `Limit`, and to `Set`: the shard may hold so much, by that serial.
    Granted {
        /// The serial.
        serial: u64,
        /// The most that it may hold.
        limit: Option<Usage>,
    },
    /// To `Grant`: so much is left to grant, which is not enough.
    Exhausted {
        /// What is left.
        free: Usage,
    },
    /// To `Grant`: what the shards use is not known yet.
    Uncounted,
    /// To `Recall`: by this serial.
    Recalled {
        /// The serial.
        serial: u64,
    },
    /// To `Shrink`: the shard holds so much, and may hold no more.
    Shrunk(Usage),
    /// Something newer happened meanwhile.
    Superseded,
}
