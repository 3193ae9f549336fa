//! What can be asked of a partition's metadata: mutations, judged and carried out in the Raft group's order, and queries.

use serde::{Deserialize, Serialize};

use super::repair::Inventory;
use crate::checksum::ChecksumValue;
use crate::condition::Conditions;
use crate::ids::{BucketId, PartId, RequestId, ShardId, UploadId};
use crate::notification::Notice;
use crate::object::{
    AttributeChange, ETag, KeyPath, ListedObject, ListedVersion, NewObject, ObjectChecksum, Part, Retention, Upload,
    UploadedPart, UserId, Version, VersionId, Versioning,
};
use crate::usage::{Payer, PayerKind, Usage};

pub use super::listing::{Entry, ListedUpload, Page, after_prefix};
pub use super::outbox::{
    ASIDE_MAX, ASIDE_PAUSE_MS_MAX, Aside, CLAIM_MS_MAX, EVENTS_PER_QUERY_MAX, OutboxChange, OutboxPage,
};
pub use super::quota::{AllowanceChange, BOOKED_SHARDS_MAX, BooksEntry, QuotaReply, QuotaTerms, Serial};
pub use crate::object::parts_fingerprint;
pub use crate::usage::UsagePage;

/// Entries that one list query may return: what S3 returns in a page.
pub const LIST_ENTRIES_MAX: u32 = 1_000;

/// Keys that one `DeleteObjects` may name, as S3 says.
pub const DELETE_KEYS_MAX: usize = 1_000;

/// Parts of an upload, as S3 says.
pub const PARTS_MAX: u16 = 10_000;

/// A mutation: sent again after an uncertain answer it carries the same request id and is applied once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mutation {
    /// Its name.
    pub request: RequestId,
    /// A place that the group's log had reached before this was sent for the first time. Much later its answer may be forgotten, and
    /// it is [`MetaReply::Expired`] instead of being carried out twice. None for what twice is no different from once.
    pub since: Option<u64>,
    /// The gateway's time, Unix milliseconds: `Last-Modified` of what it writes.
    pub time_ms: u64,
    /// What to do.
    pub command: Command,
    /// Whom to tell of it.
    pub notice: Option<Box<Notice>>,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Makes or replaces an object.
    Put {
        /// Its key.
        path: KeyPath,
        /// Whether the bucket keeps what is replaced.
        versioning: Versioning,
        /// What must hold of the object that is there.
        conditions: Conditions,
        /// The quotas that it counts for.
        quota: QuotaTerms,
        /// The object.
        object: NewObject,
    },
    /// Adds bytes to the object that is there, in a bucket that keeps no versions.
    Append {
        /// Its key.
        path: KeyPath,
        /// Its sequence: another object, or one that has grown meanwhile, is [`MetaReply::PartsChanged`].
        sequence: u64,
        /// What must hold of it.
        conditions: Conditions,
        /// The quotas that it counts for.
        quota: QuotaTerms,
        /// The parts behind those that it has; of one that has none, all that it is made of.
        parts: Vec<Part>,
        /// Its bytes with them.
        size: u64,
        /// Its entity tag with them.
        etag: ETag,
        /// Its checksum with them.
        checksum: Option<ObjectChecksum>,
    },
    /// Gives the object that is there another key of its shard, in a bucket that never kept versions.
    Rename {
        /// Its key.
        path: KeyPath,
        /// Its sequence: another object is [`MetaReply::PartsChanged`].
        sequence: u64,
        /// Its new key.
        to: String,
        /// What must hold of the object that is there.
        conditions: Conditions,
    },
    /// Removes objects or versions of one shard, each for itself, in this order.
    Delete {
        /// The bucket.
        bucket: BucketId,
        /// The shard of all keys.
        shard: ShardId,
        /// Whether the bucket keeps what is deleted.
        versioning: Versioning,
        /// Who deletes: the owner of the delete markers.
        owner: UserId,
        /// What to remove.
        deletions: Vec<Deletion>,
    },
    /// Begins a multipart upload.
    CreateUpload {
        /// The key of the object to be.
        path: KeyPath,
        /// The upload.
        upload: Upload,
    },
    /// Adds or replaces a part.
    PutPart {
        /// The upload's key.
        path: KeyPath,
        /// The upload.
        upload: UploadId,
        /// The part.
        part: Part,
        /// The client's checksum of it, as in [`UploadedPart::sent`].
        sent: Option<ChecksumValue>,
    },
    /// Makes the object out of parts.
    CompleteUpload {
        /// The upload's key.
        path: KeyPath,
        /// The upload.
        upload: UploadId,
        /// Whether the bucket keeps what is replaced.
        versioning: Versioning,
        /// What must hold of the object that is there.
        conditions: Conditions,
        /// The quotas that the object counts for.
        quota: QuotaTerms,
        /// The retention of the object, if the upload was begun with none.
        default_retention: Option<Retention>,
        /// Part numbers in order.
        parts: Vec<u16>,
        /// [`parts_fingerprint`] of the parts as the gateway saw them when it checked the client's list: other parts since then are refused.
        fingerprint: u64,
        /// The object's entity tag.
        etag: ETag,
        /// The object's checksum.
        checksum: Option<ObjectChecksum>,
    },
    /// Removes an upload and its parts.
    AbortUpload {
        /// The upload's key.
        path: KeyPath,
        /// The upload.
        upload: UploadId,
    },
    /// Stops all writing to a shard, if it holds no version of an object; uploads under way are aborted with it.
    Fence {
        /// The bucket.
        bucket: BucketId,
        /// The shard.
        shard: ShardId,
        /// The deletion that asks.
        token: RequestId,
    },
    /// Lets writing go on, if it was stopped by `token`.
    Unfence {
        /// The bucket.
        bucket: BucketId,
        /// The shard.
        shard: ShardId,
        /// The deletion that stopped it.
        token: RequestId,
    },
    /// Forgets garbage whose chunks have been removed everywhere.
    Collected(Vec<Garbage>),
    /// From now on nothing can refer to those of these parts that nothing refers to: their chunks are about to be removed.
    Condemn(Vec<PartId>),
    /// Changes what can be changed of a version, if it still is the one that the gateway judged the caller by.
    SetAttributes {
        /// The object's key.
        path: KeyPath,
        /// The version.
        version: VersionId,
        /// Its sequence: another one under this id is [`MetaReply::PreconditionFailed`].
        sequence: u64,
        /// What to change.
        change: AttributeChange,
    },
    /// Changes the books of a quota, at its home.
    Books {
        /// Whose quota.
        payer: Payer,
        /// How.
        entry: BooksEntry,
    },
    /// Changes what a shard may use of a quota.
    Allowance {
        /// The bucket.
        bucket: BucketId,
        /// The shard.
        shard: ShardId,
        /// Of which quota.
        kind: PayerKind,
        /// How.
        change: AllowanceChange,
    },
    /// Changes the outbox of a webhook.
    Outbox {
        /// The webhook.
        webhook: String,
        /// How.
        change: OutboxChange,
    },
    /// Claims the name of this mutation for a request, and does nothing else: as answers are remembered, whoever claims the name
    /// again is told what it stands for.
    Claim(RequestId),
}

/// One of the things that a `Delete` removes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Deletion {
    /// The key.
    pub key: String,
    /// This version, for good. Without one the key is deleted: what that leaves, the bucket's versioning says.
    pub version: Option<VersionId>,
    /// What must hold of that version, or of the object that is there.
    pub conditions: Conditions,
    /// Whether the caller may, and wants to, remove what is locked in governance mode.
    pub bypass_governance: bool,
    /// Only if it is what this log index wrote; with no version named, if the object that is there is.
    pub sequence: Option<u64>,
}

/// A mutation that has been through its group's log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Applied {
    /// Where it stands there: later mutations may name it in [`Mutation::since`].
    pub index: u64,
    /// The answer.
    pub reply: MetaReply,
}

/// The answer to a mutation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MetaReply {
    /// Done.
    Done,
    /// The object is in place: by `Put` or `CompleteUpload`.
    Written {
        /// Its version.
        version: VersionId,
        /// Its `Last-Modified`.
        modified_ms: u64,
        /// Its entity tag: of an upload that was completed before, what it became.
        etag: ETag,
        /// Its checksum.
        checksum: Option<ObjectChecksum>,
    },
    /// To `Delete`: one outcome per deletion. The first is never [`DeleteOutcome::NotYet`], and nothing else follows one of those.
    Deleted(Vec<DeleteOutcome>),
    /// A condition failed.
    PreconditionFailed,
    /// A condition asked for an object and there is none.
    NoSuchKey,
    /// There is no such version of the key.
    NoSuchVersion,
    /// The version's retention or legal hold forbids it.
    Locked,
    /// There is no such upload.
    NoSuchUpload,
    /// The parts are not those that the gateway saw.
    PartsChanged,
    /// To `Condemn`, in the order asked: whether nothing refers to the part, for ever.
    Condemned(Vec<bool>),
    /// The upload took so long that its chunks were taken for orphans: they may be gone.
    PartsCondemned,
    /// The shard holds objects, or old versions of them.
    NotEmpty,
    /// The shard is fenced by this deletion of its bucket.
    Fenced(RequestId),
    /// About quotas.
    Quota(QuotaReply),
    /// To `Outbox`: whether it is held by whoever asked.
    Held(bool),
    /// To `Claim`: the request that the name stands for.
    Claimed(RequestId),
    /// Nothing was done: the log has gone too far since then to know whether it was done before.
    Expired,
}

/// What became of one deletion.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DeleteOutcome {
    /// The object or the version is gone (or never was).
    Deleted,
    /// The key is deleted: this delete marker says so.
    Marked(VersionId),
    /// The version is gone: it was a delete marker.
    MarkerRemoved,
    /// The version's retention or legal hold forbids it.
    Locked,
    /// A condition failed.
    PreconditionFailed,
    /// A condition asked for an object and there is none.
    NoSuchKey,
    /// Nothing: those before it were enough for one mutation. It is to be asked for again, by another one.
    NotYet,
}

/// What can be asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// A version of a key.
    Object {
        /// The key.
        path: KeyPath,
        /// Which; without one, the current.
        version: Option<VersionId>,
    },
    /// A page of one shard's keys, in order.
    List {
        /// The bucket.
        bucket: BucketId,
        /// The shard.
        shard: ShardId,
        /// Only keys that begin with it.
        prefix: String,
        /// Keys that share what goes up to the first delimiter after the prefix are one common prefix.
        delimiter: Option<String>,
        /// The first key or common prefix that may be returned: a byte string, not always a key.
        from: Vec<u8>,
        /// How many entries at most.
        limit: u32,
    },
    /// A page of one shard's versions: by key, then newest first.
    Versions {
        /// The bucket.
        bucket: BucketId,
        /// The shard.
        shard: ShardId,
        /// Only keys that begin with it.
        prefix: String,
        /// As in `List`.
        delimiter: Option<String>,
        /// The first key or common prefix that may be returned.
        from: Vec<u8>,
        /// Of the key whose bytes `from` is exactly, only the versions older than this sequence. A page may end amid a key's
        /// versions: the next one begins `from` that key, after the last version returned.
        older_than: Option<u64>,
        /// How many entries at most.
        limit: u32,
    },
    /// An upload.
    Upload {
        /// Its key.
        path: KeyPath,
        /// Its id.
        upload: UploadId,
    },
    /// An upload's parts in order.
    Parts {
        /// The upload's key.
        path: KeyPath,
        /// The upload.
        upload: UploadId,
        /// Only parts after this number.
        after: u16,
        /// How many at most.
        limit: u16,
    },
    /// A page of one shard's uploads, by key, then by upload id.
    Uploads {
        /// The bucket.
        bucket: BucketId,
        /// The shard.
        shard: ShardId,
        /// Only keys that begin with it.
        prefix: String,
        /// As in `List`.
        delimiter: Option<String>,
        /// The first key or common prefix that may be returned.
        from: Vec<u8>,
        /// Of the key whose bytes `from` is exactly, only the uploads after this id. A page may end amid a key's uploads: the next
        /// one begins `from` that key, after the last upload returned.
        after_upload: Option<UploadId>,
        /// How many entries at most.
        limit: u32,
    },
    /// How much one shard holds under a prefix, and under those below it.
    Usage {
        /// The bucket.
        bucket: BucketId,
        /// The shard.
        shard: ShardId,
        /// One that is counted: [`crate::usage::counted_depth`].
        prefix: String,
        /// Of those below it, only what comes after this one.
        after: Option<String>,
        /// How many of them at most.
        limit: u32,
    },
    /// A page of the shards that may use something of a quota, at its home.
    Grants {
        /// Whose quota.
        payer: Payer,
        /// Only what comes after this one.
        after: Option<(BucketId, ShardId)>,
        /// How many at most.
        limit: u32,
    },
    /// Which of these parts an object or an upload refers to: the collector asks before it drops a chunk.
    References(Vec<PartId>),
    /// What the partition names: a page, for an audit.
    Inventory {
        /// Where to go on: what the last answer said.
        from: Option<Vec<u8>>,
    },
    /// Parts that nothing refers to since before that time.
    Garbage {
        /// Unix milliseconds.
        before_ms: u64,
        /// Only what comes after this entry: its time and its part.
        after: Option<(u64, PartId)>,
        /// How many at most.
        limit: u32,
    },
    /// The next events that wait for a webhook.
    Outbox {
        /// The webhook.
        webhook: String,
    },
}

/// The answer to a query.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum QueryReply {
    /// To `Object`.
    Object(Option<Version>),
    /// To `List`.
    List(Page<ListedObject>),
    /// To `Versions`.
    Versions(Page<ListedVersion>),
    /// To `Upload`.
    Upload(Option<Upload>),
    /// To `Parts`: the upload, its parts, and whether there are more.
    Parts(Option<(Upload, Vec<UploadedPart>, bool)>),
    /// To `Uploads`.
    Uploads(Page<ListedUpload>),
    /// To `Usage`.
    Usage(UsagePage),
    /// To `Grants`: the shards in order, and what each may hold.
    Grants(Vec<(BucketId, ShardId, Usage)>),
    /// To `References`, in the order asked.
    References(Vec<bool>),
    /// To `Inventory`.
    Inventory(Inventory),
    /// To `Garbage`, oldest first.
    Garbage(Vec<Garbage>),
    /// To `Outbox`.
    Outbox(OutboxPage),
}

/// A part that nothing refers to any more; its chunks may go once no reader can still be at them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Garbage {
    /// Since when, Unix milliseconds.
    pub since_ms: u64,
    /// The part.
    pub part: PartId,
    /// Its bytes.
    pub length: u64,
}
