//! What is said of quotas between gateways, the books of a quota at its home, and the shards. Part of what `metadata` carries.

use serde::{Deserialize, Serialize};

use crate::ids::{BucketId, ShardId};
use crate::usage::{PayerKind, Usage};

/// Shards that one entry in the books of a quota may name: 40 bytes each, and a Raft entry has 256 KiB at most.
pub const BOOKED_SHARDS_MAX: usize = 4_096;

/// How old what is said about a quota is: what was said later is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Serial {
    /// The version of the cluster map that set the limit.
    pub version: u64,
    /// Grows with each entry in the books.
    pub number: u64,
}

/// Which quotas a new object counts for: the versions of the gateway's map that set them. A shard that was told of a quota by
/// this version or a later one knows better.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct QuotaTerms {
    /// The bucket's.
    pub bucket: Option<u64>,
    /// That of the account that owns the bucket.
    pub account: Option<u64>,
    /// The gateway has asked for more, in vain: what does not fit is refused for good.
    pub last: bool,
}

/// What happens in the books of a quota.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BooksEntry {
    /// This is the limit, by that version of the cluster map: none is the end of the quota. Until the shards have said what
    /// they use, nothing is granted; whoever says so first is to count them, unless nothing is heard of it for a while.
    Limit {
        /// The most that all shards may hold together.
        limit: Option<Usage>,
        /// The version of the map that says so; older ones are ignored.
        version: u64,
    },
    /// These shards are asked to give back what they do not use.
    Recall {
        /// The serial of the counting that this is part of.
        serial: Option<Serial>,
        /// The shards.
        shards: Vec<(BucketId, ShardId)>,
    },
    /// They did: this is left of what each was granted. Ignored of those that were granted more meanwhile.
    Returned {
        /// The serial of the recall.
        serial: Serial,
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
        /// The limit as the gateway knows it. When the books do not, the shards are to be counted first.
        limit: Option<Usage>,
        /// The version of the map that says so.
        version: u64,
    },
}

/// How the allowance of a shard changes. Older serials are ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AllowanceChange {
    /// It is this from now on; none ends the quota.
    Set {
        /// The serial of the books.
        serial: Serial,
        /// The most that it may hold.
        limit: Option<Usage>,
    },
    /// The shard says what it uses, and may not grow before it has asked the books.
    Shrink {
        /// The serial of the books.
        serial: Serial,
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
    /// To `Limit`: the shards are to be counted, by that serial.
    Counting {
        /// The serial.
        serial: Serial,
    },
    /// To `Limit`: the books have it, and the shards were counted.
    InForce,
    /// To `Grant`, to `Set`, and to `Limit` where there is none: the shard may hold so much, by that serial.
    Granted {
        /// The serial.
        serial: Serial,
        /// The most that it may hold.
        limit: Option<Usage>,
    },
    /// To `Grant`: not so much is left to grant.
    Exhausted {
        /// The most that all shards may hold together.
        limit: Usage,
    },
    /// To `Grant`: what the shards use is not known yet. To `Limit` and `Recall`: somebody counts them.
    Uncounted,
    /// To `Recall` and `Returned`: by this serial.
    Recalled {
        /// The serial.
        serial: Serial,
    },
    /// To `Shrink`: the shard holds so much.
    Shrunk(Usage),
    /// Something newer happened meanwhile.
    Superseded,
}
