//! How a partition's records are written: one version byte, then postcard. A record that cannot be read is corruption.

use annulus_common::encryption::Encryption;
use annulus_common::ids::{RequestId, UploadId};
use annulus_common::object::{
    Data, ETag, NewObject, ObjectAttributes, ObjectChecksum, ObjectHeaders, ObjectVersion, Part, Upload, UploadedPart,
    UserId, VersionId,
};
use annulus_common::protocol::metadata::MetaReply;
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

/// An object version without its body.
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
    pub(crate) attributes: ObjectAttributes,
    pub(crate) encryption: Option<Encryption>,
    pub(crate) body: BodyKind,
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

/// The deletion that stopped a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct FenceToken(pub(crate) RequestId);

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

impl Record for FenceToken {
    const NAME: &'static str = "reading a fence";
}

impl Record for GarbageLength {
    const NAME: &'static str = "reading a garbage entry";
}

impl Head {
    /// Splits a version into its head and its body record.
    pub(crate) fn split(version: ObjectVersion) -> (Self, Option<Bytes>) {
        let ObjectVersion { version, sequence, modified_ms, request, upload, object } = version;
        let NewObject { owner, size, etag, checksum, headers, attributes, encryption, data } = object;
        let (body, record) = match data {
            Data::Inline(bytes) if bytes.is_empty() => (BodyKind::None, None),
            Data::Inline(bytes) => (BodyKind::Inline, Some(body_record(sequence, &bytes))),
            Data::Parts(parts) => (BodyKind::Manifest, Some(body_record(sequence, &Manifest { parts }.encode()))),
        };
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
            attributes,
            encryption,
            body,
        };
        (head, record)
    }

    /// The inverse of [`Head::split`]. Nothing when the body is of another version: it was replaced between two reads.
    pub(crate) fn join(self, record: Option<Bytes>) -> Result<Option<ObjectVersion>, KvError> {
        let body = match record {
            Some(record) if body_sequence(&record)? != self.sequence => return Ok(None),
            Some(record) => record.slice(BODY_SEQUENCE_BYTES..),
            None if self.body != BodyKind::None => return Ok(None),
            None => Bytes::new(),
        };
        let data = match self.body {
            BodyKind::Manifest => Data::Parts(Manifest::decode(&body)?.parts),
            // What is encrypted is longer than its size; by how much, the one who opens it knows and checks.
            BodyKind::None | BodyKind::Inline if self.encryption.is_some() || body.len() as u64 == self.size => {
                Data::Inline(body)
            }
            BodyKind::None | BodyKind::Inline => return Err(corrupt_body()),
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
                attributes: self.attributes,
                encryption: self.encryption,
                data,
            },
        }))
    }
}

impl Manifest {
    /// Reads a manifest's body record.
    pub(crate) fn of_body(record: &[u8]) -> Result<Self, KvError> {
        Self::decode(record.get(BODY_SEQUENCE_BYTES..).ok_or_else(corrupt_body)?)
    }
}

/// A body record begins with the version's sequence, so that a reader notices a head and a body that do not belong together.
const BODY_SEQUENCE_BYTES: usize = 8;

fn body_record(sequence: u64, body: &[u8]) -> Bytes {
    [&sequence.to_be_bytes()[..], body].concat().into()
}

fn body_sequence(record: &[u8]) -> Result<u64, KvError> {
    let (sequence, _) = record.split_first_chunk().ok_or_else(corrupt_body)?;
    Ok(u64::from_be_bytes(*sequence))
}

fn corrupt_body() -> KvError {
    KvError::Corrupt { during: "reading an object's body", reason: "its length is wrong".to_owned() }
}
