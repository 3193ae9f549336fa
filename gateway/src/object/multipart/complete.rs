//! Completing an upload: checked against the parts as they are, committed only if they still are those.

use annulus_common::checksum::ChecksumType;
use annulus_common::encryption::EncryptionMode;
use annulus_common::map::Bucket;
use annulus_common::object::{ETag, Upload};
use annulus_common::protocol::metadata::{Command, MetaReply, QuotaTerms};

use super::super::attributes::default_retention;
use super::super::digest::DEFAULT_ALGORITHM;
use super::super::put::{key_path, written};
use super::super::{CompletePart, CompleteUpload, ObjectError, ObjectKey, Objects, Written};
use super::assemble::{assemble, check_order, check_promises};
use crate::kms::CustomerKey;

/// Attempts while parts are still being replaced under a client that completes: it should not do that.
const ATTEMPTS_MAX: usize = 4;

impl Objects {
    /// Makes the object. Completing again answers the same, as long as the object is there.
    pub async fn complete_upload(&self, complete: CompleteUpload<'_>) -> Result<Written, ObjectError> {
        check_order(&complete.parts)?;
        let path = key_path(complete.path.bucket, complete.path.key)?;
        for _ in 0..ATTEMPTS_MAX {
            let found = self.find_parts(&path, complete.path.upload).await?;
            let Some((upload, uploaded)) = found else { return self.completed_before(&complete).await };
            if complete.customer.is_none() && is_customers(&upload) {
                return Err(ObjectError::UploadKeyRequired);
            }
            self.check_upload_key(complete.path.bucket, &upload, complete.customer).await?;
            let assembled = assemble(&upload, &uploaded, &complete)?;
            let command = Command::CompleteUpload {
                path: path.clone(),
                upload: complete.path.upload,
                versioning: complete.path.bucket.config.versioning,
                conditions: complete.conditions.clone(),
                quota: QuotaTerms::default(),
                default_retention: default_retention(complete.path.bucket, self.clock.now_ms()),
                parts: assembled.parts,
                fingerprint: assembled.fingerprint,
                etag: assembled.etag,
                checksum: assembled.checksum,
            };
            match self.mutate(complete.path.bucket, path.shard, command).await? {
                MetaReply::PartsChanged => {}
                MetaReply::NoSuchUpload => return self.completed_before(&complete).await,
                reply => return written(reply, assembled.size, upload.encryption.map(|encryption| encryption.mode)),
            }
        }
        Err(ObjectError::Conflict)
    }

    /// The key that a client sends beside what it asks of an upload must be the upload's.
    pub async fn check_upload_key(
        &self,
        bucket: &Bucket,
        upload: &Upload,
        customer: Option<&CustomerKey>,
    ) -> Result<(), ObjectError> {
        match (&upload.encryption, customer) {
            (_, None) => Ok(()),
            (None, Some(_)) => Err(ObjectError::KeyNotApplicable),
            (Some(encryption), Some(_)) => {
                ObjectKey::find(&*self.keys, bucket.id, encryption, customer).await.map(drop)
            }
        }
    }

    /// What an upload that is not under way has become, if it was completed of these parts and its object is still there. Whose
    /// upload it was nobody knows any more: who lists its parts learns nothing that those do not say.
    async fn completed_before(&self, complete: &CompleteUpload<'_>) -> Result<Written, ObjectError> {
        let path = complete.path;
        let is_same = |etag| is_made_of(etag, &complete.parts);
        match self.get(path.bucket, path.key, None).await {
            Ok(version) if version.upload == Some(path.upload) && is_same(version.object.etag) => {
                let (size, checksum) = (version.object.size, version.object.checksum);
                let algorithm = checksum.map_or(DEFAULT_ALGORITHM, |checksum| checksum.algorithm());
                let kind = checksum.map_or(ChecksumType::FullObject, |checksum| checksum.checksum_type());
                check_promises(complete, size, (algorithm, kind), checksum.as_ref())?;
                Ok(Written {
                    version: version.version,
                    etag: version.object.etag,
                    checksum,
                    modified_ms: version.modified_ms,
                    size,
                    encryption: version.object.encryption.map(|encryption| encryption.mode),
                })
            }
            Ok(_) | Err(ObjectError::NoSuchKey | ObjectError::Deleted(_)) => Err(ObjectError::NoSuchUpload),
            Err(error) => Err(error),
        }
    }
}

/// Whether it takes the client's key to go on with it. S3 asks those who complete it only where a checksum goes with the
/// parts, which SDKs send unasked, and the key with it.
fn is_customers(upload: &Upload) -> bool {
    upload.encryption.as_ref().is_some_and(|encryption| encryption.mode == EncryptionMode::Customer)
}

fn is_made_of(etag: ETag, listed: &[CompletePart]) -> bool {
    let digest = |part: &CompletePart| {
        let mut md5 = [0; 16];
        hex::decode_to_slice(&part.etag, &mut md5).ok().map(|()| md5)
    };
    let digests: Option<Vec<[u8; 16]>> = listed.iter().map(digest).collect();
    digests.is_some_and(|digests| ETag::of_parts(digests) == etag)
}
