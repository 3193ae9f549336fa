//! Multipart uploads: begun, given parts, and completed or aborted.

use std::collections::BTreeMap;

use annulus_common::checksum::ChecksumValue;
use annulus_common::condition::Conditions;
use annulus_common::ids::UploadId;
use annulus_common::notification::EventName;
use annulus_common::object::{
    Data, ETag, KeyPath, NewObject, ObjectAttributes, ObjectChecksum, Part, Retention, Upload, UploadedPart, VersionId,
    Versioning,
};
use annulus_common::protocol::metadata::{MetaReply, PARTS_MAX, QuotaTerms, parts_fingerprint};

use super::super::schema::records::{Head, Record};
use super::Step;
use crate::kv::{KvError, Table};

/// What makes an upload an object.
pub(super) struct Completion {
    pub(super) upload: UploadId,
    pub(super) conditions: Conditions,
    pub(super) quota: QuotaTerms,
    pub(super) parts: Vec<u16>,
    pub(super) fingerprint: u64,
    pub(super) to_be: ToBe,
}

/// What the object will be beyond its parts and its upload.
pub(super) struct ToBe {
    pub(super) versioning: Versioning,
    pub(super) default_retention: Option<Retention>,
    pub(super) etag: ETag,
    pub(super) checksum: Option<ObjectChecksum>,
}

impl Step<'_> {
    pub(super) fn create_upload(&mut self, path: &KeyPath, upload: &Upload) -> Result<MetaReply, KvError> {
        if let Some(token) = self.shard(path.bucket, path.shard)?.fence {
            return Ok(MetaReply::Fenced(token));
        }
        self.put(self.keys.upload(path, upload.id), upload);
        Ok(MetaReply::Done)
    }

    /// A part whose upload is gone is garbage at once, unless the upload took it along.
    pub(super) fn put_part(
        &mut self,
        path: &KeyPath,
        upload: UploadId,
        part: Part,
        sent: Option<ChecksumValue>,
    ) -> Result<MetaReply, KvError> {
        if self.upload(path, upload)?.is_none() {
            self.discard_unused(&[part])?;
            return Ok(MetaReply::NoSuchUpload);
        }
        if let Some(token) = self.shard(path.bucket, path.shard)?.fence {
            return Ok(MetaReply::Fenced(token));
        }
        if self.is_part_condemned(&part)? {
            return Ok(MetaReply::PartsCondemned);
        }
        let key = self.keys.part(upload, part.number);
        match self.read(&key)? {
            // The answer to this very mutation is forgotten.
            Some(UploadedPart { part: uploaded, .. }) if uploaded.id == part.id => return Ok(MetaReply::Done),
            Some(UploadedPart { part: replaced, .. }) => self.discard(&replaced),
            None => {}
        }
        self.refer(part.id);
        self.put(key, &UploadedPart { part, modified_ms: self.time_ms, sent });
        Ok(MetaReply::Done)
    }

    pub(super) fn complete_upload(&mut self, path: &KeyPath, completion: Completion) -> Result<MetaReply, KvError> {
        let Some(upload) = self.upload(path, completion.upload)? else {
            // Of the same parts, which the entity tag tells: what else was promised of others was judged of no object that is.
            let is_same = |head: &Head| head.upload == Some(completion.upload) && head.etag == completion.to_be.etag;
            let completed = self.head(path)?.filter(is_same);
            return Ok(completed.map_or(MetaReply::NoSuchUpload, |head| head.written()));
        };
        if let Some(token) = self.shard(path.bucket, path.shard)?.fence {
            return Ok(MetaReply::Fenced(token));
        }
        let id = self.new_id(completion.to_be.versioning, &path.key);
        if let Some(refusal) = self.refusal(path, id, &completion.conditions)? {
            return Ok(refusal);
        }
        let mut uploaded = self.parts(completion.upload)?;
        let chosen: Option<Vec<Part>> = completion.parts.iter().map(|number| uploaded.remove(number)).collect();
        let Some(chosen) = chosen.filter(|parts| parts_fingerprint(parts) == completion.fingerprint) else {
            return Ok(MetaReply::PartsChanged);
        };
        let size = chosen.iter().map(|part| part.length).sum();
        if let Some(refusal) = self.beyond_quota(path, id, size, completion.quota)? {
            return Ok(refusal);
        }
        for unused in uploaded.values() {
            self.discard(unused);
        }
        self.remove_upload(path, completion.upload);
        self.write(path, id, Some(completion.upload), completion.to_be.object(upload, chosen))
    }

    pub(super) fn abort_upload(&mut self, path: &KeyPath, upload: UploadId) -> Result<MetaReply, KvError> {
        if self.upload(path, upload)?.is_none() {
            return Ok(MetaReply::NoSuchUpload);
        }
        self.drop_upload(path, upload)?;
        self.announce(path, |_| EventName::UploadExpired, VersionId::Null)?;
        Ok(MetaReply::Done)
    }

    /// Removes an upload; its parts are garbage.
    fn drop_upload(&mut self, path: &KeyPath, upload: UploadId) -> Result<(), KvError> {
        for part in self.parts(upload)?.values() {
            self.discard(part);
        }
        self.remove_upload(path, upload);
        Ok(())
    }

    fn remove_upload(&mut self, path: &KeyPath, upload: UploadId) {
        self.delete(self.keys.upload(path, upload));
        self.batch.delete_range(Table::Meta, self.keys.part(upload, 0), self.keys.part(upload, PARTS_MAX + 1));
    }

    fn upload(&self, path: &KeyPath, upload: UploadId) -> Result<Option<Upload>, KvError> {
        self.read(&self.keys.upload(path, upload))
    }

    fn parts(&self, upload: UploadId) -> Result<BTreeMap<u16, Part>, KvError> {
        let (lower, upper) = (self.keys.part(upload, 0), self.keys.part(upload, PARTS_MAX + 1));
        let mut cursor = self.kv.cursor(Table::Meta, &lower, &upper)?;
        let mut parts = BTreeMap::new();
        cursor.seek(&lower)?;
        while let Some((_, record)) = cursor.entry() {
            let UploadedPart { part, .. } = UploadedPart::decode(record)?;
            parts.insert(part.number, part);
            cursor.next()?;
        }
        Ok(parts)
    }
}

impl ToBe {
    fn object(self, upload: Upload, parts: Vec<Part>) -> NewObject {
        let retention = upload.attributes.retention.or(self.default_retention);
        NewObject {
            owner: upload.owner,
            size: parts.iter().map(|part| part.length).sum(),
            etag: self.etag,
            checksum: self.checksum,
            headers: upload.headers,
            attributes: ObjectAttributes { retention, ..upload.attributes },
            encryption: upload.encryption,
            data: Data::Parts(parts),
        }
    }
}
