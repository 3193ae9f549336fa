//! What S3's operations mean, without HTTP: buckets, objects, listings and multipart uploads over the cluster client.
//!
//! Here bodies are hashed, cut into chunks and compared with what the client promised; data is made durable first and
//! named last. Nothing here knows a header's name, a status code or an s3s type, and nothing here decides who may do what.

mod append;
mod attributes;
mod body;
mod bucket;
mod chunk_ranges;
mod copy;
mod crypt;
mod delete;
mod digest;
mod error;
mod fence;
mod list;
mod merge;
mod multipart;
mod notice;
mod put;
mod quota;
mod read;
mod rename;
#[cfg(test)]
mod tests;
mod unlock;
mod usage;

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use annulus_common::checksum::{ChecksumAlgorithm, ChecksumType};
use annulus_common::clock::SharedClock;
use annulus_common::condition::Conditions;
use annulus_common::encryption::EncryptionMode;
use annulus_common::ids::{RequestId, UploadId};
use annulus_common::map::Bucket;
use annulus_common::notification::Cause;
use annulus_common::object::{
    ETag, ListedObject, ListedVersion, ObjectAttributes, ObjectChecksum, ObjectHeaders, ObjectVersion, Upload,
    UploadedPart, UserId, VersionId,
};
use annulus_common::protocol::metadata::{Deletion, Entry, ListedUpload};
use bytes::Bytes;
use futures::Stream;

use crate::budget::{Allowance, MemoryBudget};
use crate::client::ClusterClient;
use crate::kms::{CustomerKey, KeyService};

pub use annulus_common::checksum::ChecksumValue;
pub use append::AppendObject;
pub use crypt::{Encrypt, ObjectKey};
pub use error::{BodyError, ObjectError, ReadError};
pub(crate) use put::KEY_BYTES_MAX;
pub use rename::RenameObject;

/// The largest body of one request, a part's too, as S3 says: 5 GiB.
pub const BODY_BYTES_MAX: u64 = 5 << 30;

/// The largest object that parts may become, as S3 says: 5 TiB.
pub const OBJECT_BYTES_MAX: u64 = 5 << 40;

/// The smallest part of a multipart upload, but for the last one, as S3 says: 5 MiB.
pub const PART_BYTES_MIN: u64 = 5 << 20;

/// The bytes of a request, as they arrive. After an error nothing more is read and nothing is stored.
pub type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// The bytes of an object, every piece verified. `Sync`, because that is what a reply's body must be.
pub type ReadStream = Pin<Box<dyn Stream<Item = Result<Bytes, ReadError>> + Send + Sync>>;

/// Reads a checksum that the client sends after the body: called once, when the body has ended. `None` when none came.
pub type TrailerReader = Box<dyn FnOnce() -> Result<Option<ChecksumValue>, BodyError> + Send>;

/// The operations, on behalf of one request or of the service itself. Cheap to clone; holds no state of its own.
///
/// Every method takes the [`Bucket`] that [`Objects::bucket`] found: a bucket that has been deleted since is answered
/// [`ObjectError::NoSuchBucket`], even when another of that name has been made, because ids are never reused.
#[derive(Clone)]
pub struct Objects {
    client: Arc<ClusterClient>,
    keys: Arc<dyn KeyService>,
    clock: SharedClock,
    /// What bytes of objects are held by.
    budget: Arc<MemoryBudget>,
    /// What events of its mutations say of where they come from; without it they are the service's own.
    cause: Option<Arc<Cause>>,
}

/// What the client promised about a body. All of it is compared before anything is named.
#[derive(Default)]
pub struct Expected {
    /// `Content-MD5`.
    pub md5: Option<[u8; 16]>,
    /// The checksum that was given or asked for.
    pub checksum: ChecksumRequest,
}

/// The checksum that goes with a body.
#[derive(Default)]
pub enum ChecksumRequest {
    /// Nothing was asked: CRC64NVME over the whole object is computed and stored, as S3 does (a part: its upload's algorithm).
    #[default]
    Default,
    /// Compute this one and store it.
    Compute(ChecksumAlgorithm),
    /// Known in advance: compare with it and store it.
    Value(ChecksumValue),
    /// Comes after the body: compare with it and store it. None after all is [`BodyError::Malformed`].
    Trailer {
        /// The algorithm that was announced, so that it can be computed as the bytes arrive.
        algorithm: ChecksumAlgorithm,
        /// Gives the value.
        read: TrailerReader,
    },
}

/// An object to put.
pub struct PutObject<'a> {
    /// Its bucket.
    pub bucket: &'a Bucket,
    /// Its key: UTF-8, 1 to 1,024 bytes (checked).
    pub key: &'a str,
    /// Who will own it.
    pub owner: UserId,
    /// The headers to store.
    pub headers: ObjectHeaders,
    /// What can be changed of it later.
    pub attributes: ObjectAttributes,
    /// What must hold of the object that is there.
    pub conditions: Conditions,
    /// How many bytes the (decoded) body will have, where the client said so.
    pub content_length: Option<u64>,
    /// How many bytes of it are held back until they are verified, at most.
    pub held_back_max: u64,
    /// How many bytes it may have: [`BODY_BYTES_MAX`] for S3, more for a route without that rule.
    pub bytes_max: u64,
    /// What the body must hash to.
    pub digest: Expected,
    /// How it is encrypted.
    pub encrypt: Option<Encrypt>,
}

/// An object that is durable and named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Its version.
    pub version: VersionId,
    /// Its entity tag.
    pub etag: ETag,
    /// Its checksum.
    pub checksum: Option<ObjectChecksum>,
    /// Its `Last-Modified`, Unix milliseconds.
    pub modified_ms: u64,
    /// Bytes.
    pub size: u64,
    /// Whose key it is encrypted by.
    pub encryption: Option<EncryptionMode>,
}

/// Objects and versions to delete.
pub struct DeleteObjects<'a> {
    /// Their bucket.
    pub bucket: &'a Bucket,
    /// Who deletes: the owner of the delete markers.
    pub owner: UserId,
    /// Which.
    pub deletions: Vec<Deletion>,
}

/// What a deletion has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deleted {
    /// Nothing: the object or the version is gone, or never was.
    Gone,
    /// This delete marker: the key is deleted, its versions are kept.
    Marked(VersionId),
    /// Nothing: the version was a delete marker.
    MarkerGone,
}

/// An object to make out of another.
pub struct CopyObject<'a> {
    /// What to copy, as [`Objects::get`] found it.
    pub source: &'a ObjectVersion,
    /// What opens it, as [`Objects::unlock`] found it.
    pub source_key: &'a ObjectKey,
    /// The bucket of the copy.
    pub bucket: &'a Bucket,
    /// The key of the copy.
    pub key: &'a str,
    /// Who will own the copy.
    pub owner: UserId,
    /// The headers of the copy; `None` takes the source's.
    pub headers: Option<ObjectHeaders>,
    /// The attributes of the copy: none is the source's.
    pub attributes: ObjectAttributes,
    /// What must hold of the object that is at the copy's key.
    pub conditions: Conditions,
    /// The checksum to store; `None` takes the source's algorithm.
    pub checksum: Option<ChecksumAlgorithm>,
    /// How the copy is encrypted, whatever the source is.
    pub encrypt: Option<Encrypt>,
    /// The name of the mutation that makes it, where it has to be a certain one.
    pub request: Option<RequestId>,
}

/// A page of a bucket's keys to list.
pub struct ListObjects<'a> {
    /// The bucket.
    pub bucket: &'a Bucket,
    /// Only keys that begin with it.
    pub prefix: &'a str,
    /// Keys that share what goes up to its first place after the prefix are one common prefix. Not empty.
    pub delimiter: Option<&'a str>,
    /// Only what comes after it: `marker`, `start-after`, or an earlier page's [`ObjectPage::next`]. Inside a common prefix
    /// it skips that prefix whole.
    pub after: Option<&'a str>,
    /// How many keys and common prefixes at most (0 answers an empty page; more than 1,000 is 1,000).
    pub max_keys: u32,
}

/// A page of keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectPage {
    /// Keys and common prefixes in byte order.
    pub entries: Vec<Entry<ListedObject>>,
    /// When there is more: the last entry's name, with which the next page goes on. `IsTruncated` is whether there is one.
    pub next: Option<String>,
}

/// A page of the versions of a bucket's keys to list.
pub struct ListVersions<'a> {
    /// The bucket.
    pub bucket: &'a Bucket,
    /// Only keys that begin with it.
    pub prefix: &'a str,
    /// As in [`ListObjects`].
    pub delimiter: Option<&'a str>,
    /// `key-marker`: only versions of later keys, and
    pub after_key: Option<&'a str>,
    /// `version-id-marker`: with it, also that key's versions that are older than this one.
    pub after_version: Option<VersionId>,
    /// How many versions and common prefixes at most (0 answers an empty page; more than 1,000 is 1,000).
    pub max_keys: u32,
}

/// A page of versions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VersionPage {
    /// Versions and common prefixes, by key, then newest first.
    pub entries: Vec<Entry<ListedVersion>>,
    /// When there is more: the last entry's key or common prefix, and its version when it was one.
    pub next: Option<(String, Option<VersionId>)>,
}

/// A page of a bucket's multipart uploads to list.
pub struct ListUploads<'a> {
    /// The bucket.
    pub bucket: &'a Bucket,
    /// Only keys that begin with it.
    pub prefix: &'a str,
    /// As in [`ListObjects`].
    pub delimiter: Option<&'a str>,
    /// `key-marker`: only uploads of later keys, and
    pub after_key: Option<&'a str>,
    /// `upload-id-marker`: with it, also that key's uploads after this one.
    pub after_upload: Option<UploadId>,
    /// How many uploads and common prefixes at most (0 answers an empty page; more than 1,000 is 1,000).
    pub max_uploads: u32,
}

/// A page of uploads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadPage {
    /// Uploads and common prefixes, by key, then by upload id.
    pub entries: Vec<Entry<ListedUpload>>,
    /// When there is more: the last entry's key or common prefix, and its upload id when it was an upload.
    pub next: Option<(String, Option<UploadId>)>,
}

/// A multipart upload to begin.
pub struct CreateUpload<'a> {
    /// The bucket of the object to be.
    pub bucket: &'a Bucket,
    /// Its key.
    pub key: &'a str,
    /// Who begins it.
    pub initiator: UserId,
    /// Who will own it.
    pub owner: UserId,
    /// Its headers.
    pub headers: ObjectHeaders,
    /// Its attributes.
    pub attributes: ObjectAttributes,
    /// The checksum of its parts and how they become the object's. `None`: a full-object CRC64NVME, as S3 does.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    /// How its parts are encrypted.
    pub encrypt: Option<Encrypt>,
}

/// Which upload is meant.
#[derive(Clone, Copy)]
pub struct UploadPath<'a> {
    /// The bucket.
    pub bucket: &'a Bucket,
    /// The key.
    pub key: &'a str,
    /// The upload.
    pub upload: UploadId,
}

/// A part to put.
pub struct PutPart<'a> {
    /// The upload.
    pub path: UploadPath<'a>,
    /// The part's number, 1 to 10,000 (checked).
    pub number: u16,
    /// How many bytes the (decoded) body will have, where the client said so.
    pub content_length: Option<u64>,
    /// How many bytes of it are held back until they are verified, at most.
    pub held_back_max: u64,
    /// What the body must hash to.
    pub digest: Expected,
    /// What the client says of its encryption.
    pub encryption: PartEncryption<'a>,
}

/// What the client says of a part's encryption. How it is encrypted was said when the upload began.
#[derive(Clone, Copy, Default)]
pub struct PartEncryption<'a> {
    /// The key of an upload with SSE-C: the one that it was begun with.
    pub customer: Option<&'a CustomerKey>,
    /// The client takes it that the service encrypts like this: refused where it does not.
    pub by_service: Option<ServiceMethod>,
}

/// How the service encrypts by keys of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceMethod {
    /// By keys that nobody names.
    S3,
    /// By a key of the key service.
    Kms,
}

/// A part to make out of an object.
pub struct CopyPart<'a> {
    /// The upload.
    pub path: UploadPath<'a>,
    /// The part's number, 1 to 10,000 (checked).
    pub number: u16,
    /// What to copy, as [`Objects::get`] found it.
    pub source: &'a ObjectVersion,
    /// What opens it, as [`Objects::unlock`] found it.
    pub source_key: &'a ObjectKey,
    /// Which bytes of it; all when `None`.
    pub range: Option<Range<u64>>,
    /// What the client says of the part's encryption.
    pub encryption: PartEncryption<'a>,
}

/// A part that is durable and belongs to its upload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartWritten {
    /// Its entity tag.
    pub etag: ETag,
    /// The checksum to answer with.
    pub checksum: Option<ChecksumValue>,
    /// Unix milliseconds.
    pub modified_ms: u64,
    /// Whose key it is encrypted by.
    pub encryption: Option<EncryptionMode>,
}

/// A page of an upload's parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartPage {
    /// The upload.
    pub upload: Upload,
    /// Its parts by number.
    pub parts: Vec<UploadedPart>,
    /// Whether there are more: the next page begins after the last part's number.
    pub truncated: bool,
}

/// A part as the client lists it to complete an upload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompletePart {
    /// Its number.
    pub number: u16,
    /// Its entity tag, without quotes.
    pub etag: String,
    /// Its checksum, where the client repeats it.
    pub checksum: Option<ChecksumValue>,
}

/// What a client says that the checksum of an object out of parts will be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PromisedChecksum {
    /// Its value.
    pub value: ChecksumValue,
    /// Of how many parts: the `-N` behind a composite one.
    pub parts: Option<u16>,
}

/// An upload to complete.
pub struct CompleteUpload<'a> {
    /// The upload.
    pub path: UploadPath<'a>,
    /// The parts of the object, in order.
    pub parts: Vec<CompletePart>,
    /// What must hold of the object that is there.
    pub conditions: Conditions,
    /// The object's checksum, where the client gives it (`x-amz-checksum-*`).
    pub checksum: Option<PromisedChecksum>,
    /// `x-amz-checksum-type`: must be the upload's.
    pub checksum_type: Option<ChecksumType>,
    /// `x-amz-mp-object-size`: must be the object's size.
    pub size: Option<u64>,
    /// The client's key, for an upload with SSE-C.
    pub customer: Option<&'a CustomerKey>,
}

impl Objects {
    /// The operations over a cluster.
    pub fn new(
        client: Arc<ClusterClient>,
        keys: Arc<dyn KeyService>,
        clock: SharedClock,
        budget: Arc<MemoryBudget>,
    ) -> Self {
        Self { client, keys, clock, budget, cause: None }
    }

    /// The same operations, whose events say that this was what brought them about.
    pub fn because_of(&self, cause: Cause) -> Self {
        Self { cause: Some(Arc::new(cause)), ..self.clone() }
    }

    /// The cluster beneath.
    pub fn client(&self) -> &Arc<ClusterClient> {
        &self.client
    }

    /// The memory of all requests.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// Memory for what a request cannot do without. Whoever has some asks for no more.
    async fn reserve(&self, bytes: u64) -> Result<Allowance, ObjectError> {
        self.budget.body(bytes).await.map_err(|_| ObjectError::Overloaded)
    }
}
