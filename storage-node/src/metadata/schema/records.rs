//! How a partition's records are written: one version byte, then postcard. A record that cannot be read is corruption.

use annulus_common::encryption::Encryption;
use annulus_common::ids::{RequestId, UploadId};
use annulus_common::notification::{Event, EventId};
use annulus_common::object::{
    Data, DeleteMarker, ETag, NewObject, ObjectAttributes, ObjectChecksum, ObjectHeaders, ObjectVersion, Part, Upload,
    UploadedPart, UserId, VersionId,
};
use annulus_common::protocol::metadata::{Aside, MetaReply, Serial};
use annulus_common::protocol::outbox::Untold;
use annulus_common::usage::Usage;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::kv::KvError;

/// The version of every record of this file.
const VERSION: u8 = 1;

/// A stored record.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// What it is called when it cannot be read.
    const NAME: &'static str;

    fn encode(&self) -> Bytes {
        postcard::to_extend(self, vec![VERSION]).expect("records are plain data, which always encodes").into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, KvError> {
        let corrupt = |reason: String| KvError::Corrupt { during: Self::NAME, reason };
        match bytes.split_first() {
            Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|error| corrupt(error.to_string())),
            Some((version, _)) => Err(corrupt(format!("record version {version} is not understood"))),
            None => Err(corrupt("the record is empty".to_owned())),
        }
    }
}

/// An object version without its body and its attributes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) version: VersionId,
    pub(crate) sequence: u64,
    pub(crate) modified_ms: u64,
    pub(crate) request: RequestId,
    pub(crate) upload: Option<UploadId>,
    pub(crate) owner: UserId,
    pub(crate) size: u64,
    pub(crate) etag: ETag,
    pub(crate) checksum: Option<ObjectChecksum>,
    pub(crate) headers: ObjectHeaders,
    pub(crate) encryption: Option<Encryption>,
    /// Whether there is an attributes record: without one they are the default.
    pub(crate) has_attributes: bool,
    pub(crate) body: BodyKind,
}

/// A version of a key that is not the object that is there.
#[allow(clippy::large_enum_variant, reason = "a record is read, looked at and dropped; it is never kept in numbers")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Other {
    /// An object that was replaced or deleted.
    Object(Head),
    /// A delete marker, the current one too.
    Marker(DeleteMarker),
}

/// Where the null version of a key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NullVersion {
    pub(crate) sequence: u64,
}

/// What holds for a whole shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Shard {
    /// The deletion that stopped writing to it.
    pub(crate) fence: Option<RequestId>,
    /// Whether any version but null ones was ever written.
    pub(crate) versioned: bool,
    /// What it may hold by its bucket's quota, once it was told.
    pub(crate) by_bucket: Option<Allowance>,
    /// By the quota of the account that owns the bucket.
    pub(crate) by_account: Option<Allowance>,
}

/// How much a shard may hold by a quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Allowance {
    /// Of the books that said so.
    pub(crate) serial: Serial,
    /// The most; none when the quota has ended.
    pub(crate) limit: Option<Usage>,
}

/// The books of a quota, beside what each shard was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Books {
    /// The most that all shards may hold together; none when there is no quota.
    pub(crate) limit: Option<Usage>,
    /// Whether every shard has said what it uses since then.
    pub(crate) counted: bool,
    /// When something was last heard of whoever counts, Unix milliseconds.
    pub(crate) counting_ms: u64,
    /// Of the last entry: what a shard was told last is what holds.
    pub(crate) serial: Serial,
    /// The sum of all grants: never less than what all shards may hold.
    pub(crate) granted: Usage,
}

/// What a shard was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// The last entry that was about it.
    pub(crate) serial: Serial,
    /// The most that it may hold.
    pub(crate) amount: Usage,
}

/// The events that wait for a webhook, beside the events themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outbox {
    /// How many.
    pub(crate) pending: u64,
    /// How many were dropped for want of room and not told of yet.
    pub(crate) dropped: u64,
    /// Who delivers them, and until when, Unix milliseconds.
    pub(crate) claim: Option<(RequestId, u64)>,
    /// The last that came.
    pub(crate) last: Option<EventId>,
    /// The last that was looked at: those up to it that are still there are set aside, or behind one that is.
    pub(crate) passed: Option<EventId>,
    /// How many are set aside.
    pub(crate) aside: u32,
    /// When the first of these may be tried again, Unix milliseconds.
    pub(crate) next_ms: u64,
}

/// What the body record holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum BodyKind {
    /// The object is empty: there is no body record.
    None,
    /// The bytes.
    Inline,
    /// A [`Manifest`].
    Manifest,
}

/// The parts of an object, in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) parts: Vec<Part>,
}

/// The answer that a mutation was given, so that the same mutation is given it again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Answered(pub(crate) MetaReply);

/// When a part was condemned, Unix milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct CondemnedSince(pub(crate) u64);

/// The bytes of a part that is garbage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct GarbageLength(pub(crate) u64);

impl Record for Head {
    const NAME: &'static str = "reading an object's head";
}

impl Record for Manifest {
    const NAME: &'static str = "reading an object's manifest";
}

impl Record for Upload {
    const NAME: &'static str = "reading an upload";
}

impl Record for UploadedPart {
    const NAME: &'static str = "reading an uploaded part";
}

impl Record for Answered {
    const NAME: &'static str = "reading an answer";
}

impl Record for Shard {
    const NAME: &'static str = "reading what holds for a shard";
}

impl Record for Other {
    const NAME: &'static str = "reading an old version";
}

impl Record for NullVersion {
    const NAME: &'static str = "reading where a null version is";
}

impl Record for ObjectAttributes {
    const NAME: &'static str = "reading an object's attributes";
}

impl Record for Usage {
    const NAME: &'static str = "reading how much is stored";
}

impl Record for CondemnedSince {
    const NAME: &'static str = "reading a condemned part";
}

impl Record for Books {
    const NAME: &'static str = "reading the books of a quota";
}

impl Record for Grant {
    const NAME: &'static str = "reading a grant";
}

impl Record for Outbox {
    const NAME: &'static str = "reading an outbox";
}

impl Outbox {
    /// Nothing can be done in it before.
    pub(crate) fn due_ms(&self) -> u64 {
        let all_wait = self.last <= self.passed && self.aside > 0 && self.dropped == 0;
        if all_wait { self.next_ms } else { 0 }
    }
}

impl Record for Aside {
    const NAME: &'static str = "reading what is set aside";
}

impl Record for Untold {
    const NAME: &'static str = "reading what is never told";
}

impl Record for Event {
    const NAME: &'static str = "reading an event";
}

impl Record for GarbageLength {
    const NAME: &'static str = "reading a garbage entry";
}

/// The records of an object version beside its head.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Parcel {
    /// Its bytes or its manifest, as the head says.
    pub(crate) body: Option<Bytes>,
    /// Its attributes.
    pub(crate) attributes: Option<Bytes>,
}

impl Head {
    /// Splits a version into its records.
    pub(crate) fn split(version: ObjectVersion) -> (Self, Parcel) {
        let ObjectVersion { version, sequence, modified_ms, request, upload, object } = version;
        let NewObject { owner, size, etag, checksum, headers, attributes, encryption, data } = object;
        let (body, record) = match data {
            Data::Inline(bytes) if bytes.is_empty() => (BodyKind::None, None),
            Data::Inline(bytes) => (BodyKind::Inline, Some(bytes)),
            Data::Parts(parts) => (BodyKind::Manifest, Some(Manifest { parts }.encode())),
        };
        let has_attributes = attributes != ObjectAttributes::default();
        let parcel = Parcel { body: record, attributes: has_attributes.then(|| attributes.encode()) };
        let head = Self {
            version,
            sequence,
            modified_ms,
            request,
            upload,
            owner,
            size,
            etag,
            checksum,
            headers,
            encryption,
            has_attributes,
            body,
        };
        (head, parcel)
    }

    /// The inverse of [`Head::split`]. Nothing when a record is not there: the version was removed between two reads.
    pub(crate) fn join(self, parcel: Parcel) -> Result<Option<ObjectVersion>, KvError> {
        let (Some(data), Some(attributes)) = (self.data(parcel.body)?, self.attributes(parcel.attributes)?) else {
            return Ok(None);
        };
        Ok(Some(ObjectVersion {
            version: self.version,
            sequence: self.sequence,
            modified_ms: self.modified_ms,
            request: self.request,
            upload: self.upload,
            object: NewObject {
                owner: self.owner,
                size: self.size,
                etag: self.etag,
                checksum: self.checksum,
                headers: self.headers,
                attributes,
                encryption: self.encryption,
                data,
            },
        }))
    }

    fn data(&self, body: Option<Bytes>) -> Result<Option<Data>, KvError> {
        match (self.body, body) {
            (BodyKind::None, _) => Ok(Some(Data::Inline(Bytes::new()))),
            (BodyKind::Inline | BodyKind::Manifest, None) => Ok(None),
            (BodyKind::Manifest, Some(body)) => Ok(Some(Data::Parts(Manifest::decode(&body)?.parts))),
            // What is encrypted is longer than its size; by how much, the one who opens it knows and checks.
            (BodyKind::Inline, Some(body)) if self.encryption.is_some() || body.len() as u64 == self.size => {
                Ok(Some(Data::Inline(body)))
            }
            (BodyKind::Inline, Some(_)) => {
                Err(KvError::Corrupt { during: "reading an object's body", reason: "its length is wrong".to_owned() })
            }
        }
    }

    fn attributes(&self, record: Option<Bytes>) -> Result<Option<ObjectAttributes>, KvError> {
        if !self.has_attributes {
            return Ok(Some(ObjectAttributes::default()));
        }
        record.map(|record| ObjectAttributes::decode(&record)).transpose()
    }
}

impl Other {
    pub(crate) fn version(&self) -> VersionId {
        match self {
            Self::Object(head) => head.version,
            Self::Marker(marker) => marker.version,
        }
    }

    pub(crate) fn sequence(&self) -> u64 {
        match self {
            Self::Object(head) => head.sequence,
            Self::Marker(marker) => marker.sequence,
        }
    }
}
