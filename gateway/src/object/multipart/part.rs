//! Parts: from a body, or from a range of an object. The upload is looked at first, so that nobody sends 5 GiB in vain.

use std::sync::Arc;

use annulus_common::checksum::ChecksumType;
use annulus_common::encryption::{Encryption, EncryptionMode};
use annulus_common::ids::PartId;
use annulus_common::map::Bucket;
use annulus_common::object::{ETag, Upload};
use annulus_common::protocol::metadata::{Command, MetaReply, PARTS_MAX};
use bytes::Bytes;
use futures::Stream;

use super::super::body::{BodyLength, Destination, intake_bytes, store};
use super::super::chunk_ranges::reading_bytes;
use super::super::crypt::{Place, Sealing};
use super::super::digest::DEFAULT_ALGORITHM;
use super::super::put::{key_path, new_part, owner_of, refused};
use super::super::{
    BODY_BYTES_MAX, BodyStream, CopyPart, Expected, ObjectError, Objects, PartEncryption, PartWritten, PutPart,
    ServiceMethod, UploadPath,
};
use crate::budget::Allowance;

/// Where a part goes, and what is known of it.
struct Incoming<'a> {
    path: UploadPath<'a>,
    number: u16,
    content_length: Option<u64>,
    held_back_max: u64,
    /// None of what is copied, which was verified as it was read.
    digest: Option<Expected>,
    encryption: PartEncryption<'a>,
    /// Of a part whose bytes come from an object: reserved for both.
    allowance: Option<Allowance>,
}

impl Objects {
    /// Adds or replaces a part.
    pub async fn put_part(&self, put: PutPart<'_>, body: BodyStream) -> Result<PartWritten, ObjectError> {
        let PutPart { path, number, content_length, held_back_max, digest, encryption } = put;
        let digest = Some(digest);
        let incoming = Incoming { path, number, content_length, held_back_max, digest, encryption, allowance: None };
        self.put_part_stream(incoming, body).await
    }

    /// Adds or replaces a part by the bytes of an object, at most 5 GiB of them.
    pub async fn copy_part(&self, copy: CopyPart<'_>) -> Result<PartWritten, ObjectError> {
        let range = copy.range.unwrap_or(0..copy.source.object.size);
        let size = range.end.saturating_sub(range.start);
        if size > BODY_BYTES_MAX {
            return Err(ObjectError::EntityTooLarge { size, maximum: BODY_BYTES_MAX });
        }
        let length = BodyLength { announced: Some(size), bytes_max: BODY_BYTES_MAX };
        // For both at once: copies that had one half each could wait for each other's. Whether the upload is encrypted is not known yet.
        let allowance = self.reserve(reading_bytes(&copy.source.object) + intake_bytes(length, 0, true)).await?;
        let body = self.read_within(allowance.clone(), copy.source, range, copy.source_key).await?;
        let incoming = Incoming {
            path: copy.path,
            number: copy.number,
            content_length: Some(size),
            held_back_max: 0,
            digest: None,
            encryption: copy.encryption,
            allowance: Some(allowance),
        };
        self.put_part_stream(incoming, body).await
    }

    async fn put_part_stream<E: Into<ObjectError>>(
        &self,
        incoming: Incoming<'_>,
        body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
    ) -> Result<PartWritten, ObjectError> {
        let Incoming { path, number, content_length, held_back_max, digest, encryption, allowance } = incoming;
        if number == 0 || number > PARTS_MAX {
            return Err(ObjectError::InvalidPartNumber(number));
        }
        let key_path = key_path(path.bucket, path.key)?;
        let upload = self.find_upload(&key_path, path.upload).await?;
        check_algorithm(&upload, digest.as_ref())?;
        let digest = digest.unwrap_or_default();
        let algorithm = upload.checksum.map_or(DEFAULT_ALGORITHM, |(algorithm, _)| algorithm);
        let id = PartId::generate(self.clock.now_ms());
        let length = BodyLength { announced: content_length, bytes_max: BODY_BYTES_MAX };
        let sealing = self.resume_sealing(path.bucket, upload.encryption, encryption).await?;
        let allowance = match allowance {
            Some(allowance) => allowance,
            None => self.reserve(intake_bytes(length, held_back_max, sealing.is_some())).await?,
        };
        let destination = Destination {
            part: id,
            owner: owner_of(&key_path),
            length,
            inline_bytes_max: 0,
            cipher: sealing.as_ref().map(|sealing| Arc::new(sealing.cipher(Place::Part(id)))),
        };
        let stored = store(&self.client, allowance, destination, digest.hasher(algorithm), body).await?;
        let verified = digest.verify(&stored.digests, algorithm)?;
        let part = new_part(id, number, &stored, sealing.as_ref(), &verified);
        let (shard, md5) = (key_path.shard, part.md5);
        let sent = (verified.answered != verified.stored).then_some(verified.answered);
        let command = Command::PutPart { path: key_path, upload: path.upload, part, sent };
        match self.mutate(path.bucket, shard, command).await? {
            MetaReply::Done => Ok(PartWritten {
                etag: ETag { md5, parts: None },
                checksum: Some(verified.answered),
                modified_ms: self.clock.now_ms(),
                encryption: sealing.map(|sealing| sealing.encryption.mode),
            }),
            reply => Err(refused(reply)),
        }
    }
}

impl Objects {
    /// The data key of an upload, if the client says of its encryption what it said when it began it.
    async fn resume_sealing(
        &self,
        bucket: &Bucket,
        encryption: Option<Encryption>,
        said: PartEncryption<'_>,
    ) -> Result<Option<Sealing>, ObjectError> {
        let mode = encryption.as_ref().map(|encryption| &encryption.mode);
        let is_believed = match said.by_service {
            None => true,
            Some(ServiceMethod::S3) => matches!(mode, Some(EncryptionMode::S3)),
            Some(ServiceMethod::Kms) => matches!(mode, Some(EncryptionMode::Kms(_))),
        };
        match (encryption, said.customer) {
            (None, None) if !is_believed => Err(ObjectError::UploadNotEncrypted),
            (Some(_), _) if !is_believed => Err(ObjectError::KeyMismatch),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(ObjectError::KeyNotApplicable),
            (Some(encryption), customer) => match Sealing::resume(&*self.keys, bucket.id, encryption, customer).await {
                Err(ObjectError::KeyRequired) => Err(ObjectError::UploadKeyRequired),
                resumed => resumed.map(Some),
            },
        }
    }
}

/// A part's checksum must be in the algorithm that the upload was begun with; where the object's is made of the parts', each must
/// have one. When the upload was begun with none, any will do: it is checked, and the default one is stored beside it.
fn check_algorithm(upload: &Upload, digest: Option<&Expected>) -> Result<(), ObjectError> {
    let (Some((expected, kind)), Some(digest)) = (upload.checksum, digest) else { return Ok(()) };
    let actual = digest.checksum.algorithm();
    match actual {
        None if kind == ChecksumType::FullObject => Ok(()),
        Some(actual) if actual == expected => Ok(()),
        _ => Err(ObjectError::ChecksumAlgorithmMismatch { expected: Some(expected), actual }),
    }
}
