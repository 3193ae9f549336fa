//! Multipart uploads: begun, filled part by part in any order, and made into an object without touching a byte again.

mod assemble;
mod complete;
mod part;

use annulus_common::ids::UploadId;
use annulus_common::object::{KeyPath, Upload, UploadedPart};
use annulus_common::protocol::metadata::{Command, MetaReply, PARTS_MAX, Query, QueryReply};

use super::put::{key_path, refused};
use super::{CreateUpload, ObjectError, Objects, PartPage, UploadPath};

/// Parts that one query returns: a reply's 2 MiB hold several times as many.
const PARTS_PER_QUERY_MAX: u16 = 2_500;

impl Objects {
    /// Begins an upload.
    pub async fn create_upload(&self, create: CreateUpload<'_>) -> Result<Upload, ObjectError> {
        if let Some((algorithm, kind)) = create.checksum.filter(|(algorithm, kind)| !algorithm.supports(*kind)) {
            return Err(ObjectError::ChecksumTypeUnsupported { algorithm, kind });
        }
        let path = key_path(create.bucket, create.key)?;
        let sealing = self.begin_sealing(create.bucket, create.encrypt).await?;
        let initiated_ms = self.clock.now_ms();
        let upload = Upload {
            id: UploadId::generate(initiated_ms),
            initiator: create.initiator,
            owner: create.owner,
            initiated_ms,
            headers: create.headers,
            attributes: create.attributes,
            checksum: create.checksum,
            encryption: sealing.map(|sealing| sealing.encryption),
        };
        let shard = path.shard;
        let command = Command::CreateUpload { path, upload: upload.clone() };
        match self.mutate(create.bucket, shard, command).await? {
            MetaReply::Done => Ok(upload),
            reply => Err(refused(reply)),
        }
    }

    /// Removes an upload and its parts.
    pub async fn abort_upload(&self, path: UploadPath<'_>) -> Result<(), ObjectError> {
        let key_path = key_path(path.bucket, path.key)?;
        let shard = key_path.shard;
        let command = Command::AbortUpload { path: key_path, upload: path.upload };
        match self.mutate(path.bucket, shard, command).await? {
            MetaReply::Done => Ok(()),
            reply => Err(refused(reply)),
        }
    }

    /// A page of an upload's parts: those after number `after`, at most `limit`.
    pub async fn list_parts(&self, path: UploadPath<'_>, after: u16, limit: u16) -> Result<PartPage, ObjectError> {
        let key_path = key_path(path.bucket, path.key)?;
        // A page of none still says whether the upload exists.
        let asked = limit.clamp(1, PARTS_PER_QUERY_MAX);
        let page = self.query_parts(&key_path, path.upload, after, asked).await?;
        let (upload, mut parts, truncated) = page.ok_or(ObjectError::NoSuchUpload)?;
        parts.truncate(limit.into());
        Ok(PartPage { upload, parts, truncated: truncated && limit > 0 })
    }

    /// An upload that is under way.
    async fn find_upload(&self, path: &KeyPath, upload: UploadId) -> Result<Upload, ObjectError> {
        let partition = self.client.watch().latest().partition_of_shard(path.bucket, path.shard);
        match self.client.query_one(partition, Query::Upload { path: path.clone(), upload }).await? {
            QueryReply::Upload(found) => found.ok_or(ObjectError::NoSuchUpload),
            _ => Err(ObjectError::Internal("the answer is not one to a query for an upload".into())),
        }
    }

    /// An upload and all its parts by number; none when it is not under way.
    async fn find_parts(
        &self,
        path: &KeyPath,
        upload: UploadId,
    ) -> Result<Option<(Upload, Vec<UploadedPart>)>, ObjectError> {
        let mut parts: Vec<UploadedPart> = Vec::new();
        loop {
            let after = parts.last().map_or(0, |last| last.part.number);
            let page = self.query_parts(path, upload, after, PARTS_PER_QUERY_MAX).await?;
            let Some((upload, page, more)) = page else { return Ok(None) };
            let progress = !page.is_empty();
            parts.extend(page);
            if !more || !progress || parts.len() >= usize::from(PARTS_MAX) {
                return Ok(Some((upload, parts)));
            }
        }
    }

    async fn query_parts(
        &self,
        path: &KeyPath,
        upload: UploadId,
        after: u16,
        limit: u16,
    ) -> Result<Option<(Upload, Vec<UploadedPart>, bool)>, ObjectError> {
        let partition = self.client.watch().latest().partition_of_shard(path.bucket, path.shard);
        match self.client.query_one(partition, Query::Parts { path: path.clone(), upload, after, limit }).await? {
            QueryReply::Parts(page) => Ok(page),
            _ => Err(ObjectError::Internal("the answer is not one to a query for parts".into())),
        }
    }
}
