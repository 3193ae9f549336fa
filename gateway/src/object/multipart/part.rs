//! Parts: from a body, or from a range of an object. The upload is looked at first, so that nobody sends 5 GiB in vain.

use annulus_common::ids::PartId;
use annulus_common::object::{ETag, Upload};
use annulus_common::protocol::metadata::{Command, MetaReply, PARTS_MAX};
use bytes::Bytes;
use futures::Stream;

use super::super::body::{BodyLength, Destination, store};
use super::super::digest::DEFAULT_ALGORITHM;
use super::super::put::{key_path, new_part, owner_of, refused};
use super::super::{
    BODY_BYTES_MAX, BodyStream, CopyPart, Expected, ObjectError, Objects, PartWritten, PutPart, UploadPath,
};

impl Objects {
    /// Adds or replaces a part.
    pub async fn put_part(&self, put: PutPart<'_>, body: BodyStream) -> Result<PartWritten, ObjectError> {
        let PutPart { path, number, content_length, digest } = put;
        self.put_part_stream(path, number, content_length, digest, body).await
    }

    /// Adds or replaces a part by the bytes of an object, at most 5 GiB of them.
    pub async fn copy_part(&self, copy: CopyPart<'_>) -> Result<PartWritten, ObjectError> {
        let range = copy.range.unwrap_or(0..copy.source.object.size);
        let size = range.end.saturating_sub(range.start);
        if size > BODY_BYTES_MAX {
            return Err(ObjectError::EntityTooLarge { size, maximum: BODY_BYTES_MAX });
        }
        let body = self.read(copy.source, range).await?;
        self.put_part_stream(copy.path, copy.number, Some(size), Expected::default(), body).await
    }

    async fn put_part_stream<E: Into<ObjectError>>(
        &self,
        path: UploadPath<'_>,
        number: u16,
        content_length: Option<u64>,
        digest: Expected,
        body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
    ) -> Result<PartWritten, ObjectError> {
        if number == 0 || number > PARTS_MAX {
            return Err(ObjectError::InvalidPartNumber(number));
        }
        let key_path = key_path(path.bucket, path.key)?;
        let upload = self.find_upload(&key_path, path.upload).await?;
        check_algorithm(&upload, &digest)?;
        let algorithm = upload.checksum.map_or(DEFAULT_ALGORITHM, |(algorithm, _)| algorithm);
        let id = PartId::generate(self.clock.now_ms());
        let length = BodyLength { announced: content_length, bytes_max: BODY_BYTES_MAX };
        let destination = Destination { part: id, owner: owner_of(&key_path), length, inline_bytes_max: 0 };
        let stored = store(&self.client, destination, digest.hasher(algorithm), body).await?;
        let verified = digest.verify(&stored.digests, algorithm)?;
        let part = new_part(id, number, stored.length, &verified);
        let shard = key_path.shard;
        let command = Command::PutPart { path: key_path, upload: path.upload, part };
        match self.mutate(path.bucket, shard, command).await? {
            MetaReply::Done => Ok(PartWritten {
                etag: ETag { md5: verified.md5, parts: None },
                checksum: Some(verified.answered),
                modified_ms: self.clock.now_ms(),
            }),
            reply => Err(refused(reply)),
        }
    }
}

/// A part's checksum must be in the algorithm that the upload was begun with. When it was begun with none, any will do: it
/// is checked, and the default one is stored.
fn check_algorithm(upload: &Upload, digest: &Expected) -> Result<(), ObjectError> {
    match (upload.checksum, digest.checksum.algorithm()) {
        (Some((expected, _)), Some(actual)) if expected != actual => {
            Err(ObjectError::ChecksumAlgorithmMismatch { expected: Some(expected), actual })
        }
        _ => Ok(()),
    }
}
