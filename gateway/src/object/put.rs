//! Putting an object whole: data durable first, then its name, in one mutation of the key's partition.

use std::sync::Arc;

use annulus_common::chunk::ChunkOwner;
use annulus_common::condition::Conditions;
use annulus_common::encryption::EncryptionMode;
use annulus_common::ids::{PartId, RequestId};
use annulus_common::map::{Bucket, ClusterMap};
use annulus_common::object::{
    Data, ETag, INLINE_BYTES_MAX, KeyPath, NewObject, ObjectAttributes, ObjectChecksum, ObjectHeaders, Part, UserId,
};
use annulus_common::protocol::metadata::{Command, MetaReply, QuotaReply, QuotaTerms};
use bytes::Bytes;
use futures::Stream;

use super::attributes::default_retention;
use super::body::{BodyLength, Destination, StoredBody, intake_bytes, store};
use super::crypt::{Place, Sealing, etag_of};
use super::digest::{DEFAULT_ALGORITHM, Verified};
use super::{BodyStream, Encrypt, Expected, ObjectError, Objects, PutObject, Written};
use crate::budget::Allowance;

/// The longest key, in bytes of UTF-8, as S3 says.
pub(crate) const KEY_BYTES_MAX: usize = 1_024;

/// What the object will be, but for its bytes.
pub(super) struct Naming<'a> {
    pub(super) bucket: &'a Bucket,
    pub(super) key: &'a str,
    pub(super) owner: UserId,
    pub(super) headers: ObjectHeaders,
    pub(super) attributes: ObjectAttributes,
    pub(super) conditions: Conditions,
    pub(super) encrypt: Option<Encrypt>,
    /// The name of the mutation, where it has to be a certain one.
    pub(super) request: Option<RequestId>,
}

impl Objects {
    /// Makes or replaces an object. It is there, durable, when this returns; after an error other than
    /// [`ObjectError::Unavailable`] nothing has changed.
    pub async fn put(&self, put: PutObject<'_>, body: BodyStream) -> Result<Written, ObjectError> {
        let PutObject {
            bucket,
            key,
            owner,
            headers,
            attributes,
            conditions,
            content_length,
            held_back_max,
            bytes_max,
            digest,
            encrypt,
        } = put;
        let length = BodyLength { announced: content_length, bytes_max };
        let allowance = self.reserve(intake_bytes(length, held_back_max, encrypt.is_some())).await?;
        let naming = Naming { bucket, key, owner, headers, attributes, conditions, encrypt, request: None };
        self.put_stream(allowance, naming, length, digest, body).await
    }

    /// The same for who has reserved [`intake_bytes`].
    pub(super) async fn put_stream<E: Into<ObjectError>>(
        &self,
        allowance: Allowance,
        mut naming: Naming<'_>,
        length: BodyLength,
        digest: Expected,
        body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
    ) -> Result<Written, ObjectError> {
        let path = key_path(naming.bucket, naming.key)?;
        let sealing = self.begin_sealing(naming.bucket, naming.encrypt.take()).await?;
        let part = PartId::generate(self.clock.now_ms());
        let destination = Destination {
            part,
            owner: owner_of(&path),
            length,
            inline_bytes_max: INLINE_BYTES_MAX,
            cipher: sealing.as_ref().map(|sealing| Arc::new(sealing.cipher(Place::Part(part)))),
        };
        let algorithm = digest.checksum.algorithm().unwrap_or(DEFAULT_ALGORITHM);
        let stored = store(&self.client, allowance, destination, digest.hasher(algorithm), body).await?;
        let verified = digest.verify(&stored.digests, algorithm)?;
        let etag = ETag::of_md5(etag_of(sealing.as_ref(), 1, verified.md5));
        let size = stored.length;
        let retention = naming.attributes.retention.or_else(|| default_retention(naming.bucket, self.clock.now_ms()));
        let object = NewObject {
            owner: naming.owner,
            size,
            etag,
            checksum: Some(ObjectChecksum::FullObject(verified.stored)),
            headers: naming.headers,
            attributes: ObjectAttributes { retention, ..naming.attributes },
            data: new_data(part, stored, sealing.as_ref(), &verified),
            encryption: sealing.map(|sealing| sealing.encryption),
        };
        self.name(naming.request, naming.bucket, path, naming.conditions, object).await
    }

    async fn name(
        &self,
        request: Option<RequestId>,
        bucket: &Bucket,
        path: KeyPath,
        conditions: Conditions,
        object: NewObject,
    ) -> Result<Written, ObjectError> {
        let (shard, size) = (path.shard, object.size);
        let mode = object.encryption.as_ref().map(|encryption| encryption.mode.clone());
        let versioning = bucket.config.versioning;
        let quota = QuotaTerms::default();
        let command = Command::Put { path, versioning, conditions, quota, object };
        written(self.mutate_as(request, bucket, shard, command).await?, size, mode)
    }
}

fn new_data(part: PartId, stored: StoredBody, sealing: Option<&Sealing>, verified: &Verified) -> Data {
    match (&stored.inline, sealing) {
        (Some(body), None) => Data::Inline(body.clone()),
        (Some(body), Some(sealing)) => Data::Inline(sealing.cipher(Place::Inline).seal(0, body, true)),
        (None, _) => Data::Parts(vec![new_part(part, 1, &stored, sealing, verified)]),
    }
}

pub(super) fn new_part(
    id: PartId,
    number: u16,
    body: &StoredBody,
    sealing: Option<&Sealing>,
    verified: &Verified,
) -> Part {
    Part {
        id,
        number,
        length: body.length,
        stored: body.stored,
        md5: etag_of(sealing, number, verified.md5),
        checksum: Some(verified.stored.as_bytes().to_vec()),
    }
}

/// What the answer to a mutation that makes an object means.
pub(super) fn written(reply: MetaReply, size: u64, encryption: Option<EncryptionMode>) -> Result<Written, ObjectError> {
    match reply {
        MetaReply::Written { version, modified_ms, etag, checksum } => {
            Ok(Written { version, etag, checksum, modified_ms, size, encryption })
        }
        reply => Err(refused(reply)),
    }
}

/// The error that a mutation's answer stands for.
pub(super) fn refused(reply: MetaReply) -> ObjectError {
    match reply {
        MetaReply::PreconditionFailed => ObjectError::PreconditionFailed,
        MetaReply::NoSuchKey => ObjectError::NoSuchKey,
        MetaReply::NoSuchVersion => ObjectError::NoSuchVersion,
        MetaReply::Locked => ObjectError::Locked,
        MetaReply::NoSuchUpload => ObjectError::NoSuchUpload,
        MetaReply::PartsChanged | MetaReply::PartsCondemned => ObjectError::Conflict,
        MetaReply::Quota(QuotaReply::Exceeded) => ObjectError::QuotaExceeded,
        other => ObjectError::Internal(format!("unexpected answer to a mutation: {other:?}")),
    }
}

/// Where the key's records live.
pub(super) fn key_path(bucket: &Bucket, key: &str) -> Result<KeyPath, ObjectError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(ObjectError::InvalidKey { bytes: key.len() });
    }
    Ok(ClusterMap::key_path(bucket, key))
}

/// Who is asked before one of the key's chunks is dropped.
pub(super) fn owner_of(path: &KeyPath) -> ChunkOwner {
    ChunkOwner { bucket: path.bucket, shard: path.shard }
}
