//! What is stored about objects, uploads and parts: the records of the metadata plane. No keys, no storage, no HTTP.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use crate::attributes::{
    AttributeChange, DefaultRetention, ObjectAttributes, ObjectLock, Retention, RetentionMode, RetentionPeriod,
};
use crate::checksum::{ChecksumAlgorithm, ChecksumType, ChecksumValue};
pub use crate::checksum::{ETag, ObjectChecksum};
use crate::encryption::Encryption;
pub use crate::ids::UserId;
use crate::ids::{BucketId, ChunkId, PartId, RequestId, ShardId, UploadId};
pub use crate::version::{DeleteMarker, VersionId, Versioning};

/// Objects up to this size live in the metadata record itself (measured crossover: 8 - 16 KiB in CPU, 16 - 32 KiB in latency).
pub const INLINE_BYTES_MAX: usize = 16 << 10;

/// Chunks of a part have this size, the last one what remains.
pub const CHUNK_BYTES: u64 = crate::chunk::CHUNK_BYTES as u64;

/// Where a key's records live: its bucket, the index shard that its hash picks, and the key.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct KeyPath {
    /// The bucket.
    pub bucket: BucketId,
    /// The shard of the bucket's index.
    pub shard: ShardId,
    /// The key as the client wrote it: UTF-8, 1 to 1,024 bytes.
    pub key: String,
}

/// What the headers of the request that made an object said of it: given back as they came, never changed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ObjectHeaders {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`, without `aws-chunked`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Expires`, as written.
    pub expires: Option<String>,
    /// `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
    /// `x-amz-storage-class`, echoed; `STANDARD` when absent.
    pub storage_class: Option<String>,
    /// `x-amz-meta-*`, names in lower case.
    pub user: BTreeMap<String, String>,
}

/// The bytes of one uploaded part, in chunks of [`CHUNK_BYTES`] whose ids derive from the part's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Names the chunks.
    pub id: PartId,
    /// The part's number, 1 to 10,000. 1 for an object that was put whole.
    pub number: u16,
    /// Bytes.
    pub length: u64,
    /// Bytes as they lie in the chunks: as many, or more when they are encrypted.
    pub stored: u64,
    /// The entity tag: MD5 of the bytes, or what stands for it where that is not to be told ([`Encryption`]).
    pub md5: [u8; 16],
    /// The part's own checksum, in the object's algorithm.
    pub checksum: Option<Vec<u8>>,
}

impl Part {
    /// How many chunks the part has.
    pub fn chunk_count(&self) -> u32 {
        u32::try_from(self.stored.div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX)
    }

    /// The part's chunks in order, each with the bytes that it holds.
    pub fn chunks(&self) -> impl Iterator<Item = (ChunkId, u32)> + '_ {
        (0..self.chunk_count()).map(|index| {
            let length = (self.stored - u64::from(index) * CHUNK_BYTES).min(CHUNK_BYTES);
            (ChunkId { part: self.id, index }, length as u32)
        })
    }
}

/// A digest of the parts that become an object: equal exactly when number, id, length and MD5 of each are.
pub fn parts_fingerprint<'a>(parts: impl IntoIterator<Item = &'a Part>) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in parts {
        hasher.update(&part.number.to_be_bytes());
        hasher.update(&part.id.0);
        hasher.update(&part.length.to_be_bytes());
        hasher.update(&part.md5);
    }
    hasher.digest()
}

/// Where an object's bytes are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Data {
    /// Here.
    Inline(Bytes),
    /// In chunks: the manifest.
    Parts(Vec<Part>),
}

/// An object as it is proposed: everything but what the Raft group decides (its place in the order).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewObject {
    /// Who owns it.
    pub owner: UserId,
    /// Bytes.
    pub size: u64,
    /// The entity tag.
    pub etag: ETag,
    /// The checksum.
    pub checksum: Option<ObjectChecksum>,
    /// The stored headers.
    pub headers: ObjectHeaders,
    /// What can be changed of it later.
    pub attributes: ObjectAttributes,
    /// How the bytes are encrypted, if they are.
    pub encryption: Option<Encryption>,
    /// The bytes, as they are stored, or where they are.
    pub data: Data,
}

/// One version of an object: exists exactly when this record does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ObjectVersion {
    /// The version's id.
    pub version: VersionId,
    /// The Raft log index that wrote it: versions of a key sort by it, never by a clock.
    pub sequence: u64,
    /// `Last-Modified`, Unix milliseconds, as the gateway's clock said.
    pub modified_ms: u64,
    /// The mutation that wrote it.
    pub request: RequestId,
    /// The multipart upload that became this object, so that completing it again answers the same.
    pub upload: Option<UploadId>,
    /// The object.
    pub object: NewObject,
}

/// A multipart upload that is under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Upload {
    /// The upload's id.
    pub id: UploadId,
    /// Who began it.
    pub initiator: UserId,
    /// Who will own the object.
    pub owner: UserId,
    /// When, Unix milliseconds.
    pub initiated_ms: u64,
    /// The headers of the object to be.
    pub headers: ObjectHeaders,
    /// Its attributes.
    pub attributes: ObjectAttributes,
    /// The checksum that its parts carry, and how they become the object's.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    /// How its parts are encrypted, if they are: all by the one data key.
    pub encryption: Option<Encryption>,
}

/// A part that has been uploaded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UploadedPart {
    /// The part.
    pub part: Part,
    /// When, Unix milliseconds.
    pub modified_ms: u64,
    /// The checksum that the client sent with it, where that is of another algorithm than the part's: it may repeat that one when
    /// it lists its parts.
    pub sent: Option<ChecksumValue>,
}

/// A version of a key, as a query finds it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Version {
    /// An object.
    Object(Box<ObjectVersion>),
    /// The key is deleted.
    Marker(DeleteMarker),
}

/// What a listing says of an object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedObject {
    /// The key.
    pub key: String,
    /// The version.
    pub version: VersionId,
    /// Bytes.
    pub size: u64,
    /// The entity tag.
    pub etag: ETag,
    /// `Last-Modified`, Unix milliseconds.
    pub modified_ms: u64,
    /// Who owns it.
    pub owner: UserId,
    /// The checksum's algorithm and kind.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    /// The storage class, `STANDARD` when absent.
    pub storage_class: Option<String>,
}

/// What a listing of versions says of one of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedVersion {
    /// The Raft log index that wrote it: versions of a key come newest first.
    pub sequence: u64,
    /// Whether it is the key's newest.
    pub is_latest: bool,
    /// What it is.
    pub item: ListedItem,
}

/// A version in a listing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ListedItem {
    /// An object.
    Object(ListedObject),
    /// A delete marker.
    Marker {
        /// The key.
        key: String,
        /// The marker.
        marker: DeleteMarker,
    },
}

impl ListedItem {
    /// Who owns it.
    pub fn owner_mut(&mut self) -> &mut UserId {
        match self {
            Self::Object(object) => &mut object.owner,
            Self::Marker { marker, .. } => &mut marker.owner,
        }
    }

    /// The key.
    pub fn key(&self) -> &str {
        match self {
            Self::Object(object) => &object.key,
            Self::Marker { key, .. } => key,
        }
    }

    /// The version.
    pub fn version(&self) -> VersionId {
        match self {
            Self::Object(object) => object.version,
            Self::Marker { marker, .. } => marker.version,
        }
    }
}
