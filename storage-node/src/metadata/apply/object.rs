//! Objects come and are replaced.

use annulus_common::condition::{Conditions, Verdict};
use annulus_common::ids::UploadId;
use annulus_common::notification::Means;
use annulus_common::object::{Data, KeyPath, NewObject, ObjectVersion, Part, VersionId, Versioning};
use annulus_common::protocol::metadata::{MetaReply, QuotaTerms};

use super::super::schema::records::Head;
use super::Step;
use crate::kv::KvError;

impl Step<'_> {
    /// Makes or replaces an object, if it may be.
    pub(super) fn put_object(
        &mut self,
        path: &KeyPath,
        versioning: Versioning,
        conditions: &Conditions,
        quota: QuotaTerms,
        object: NewObject,
    ) -> Result<MetaReply, KvError> {
        let parts = match &object.data {
            Data::Inline(_) => &[][..],
            Data::Parts(parts) => parts,
        };
        if let Some(before) = self.written_before(path, parts)? {
            return Ok(before);
        }
        if self.is_condemned(&object.data)? {
            return Ok(MetaReply::PartsCondemned);
        }
        let id = self.new_id(versioning, &path.key);
        let refusal = match self.shard(path.bucket, path.shard)?.fence {
            Some(token) => Some(MetaReply::Fenced(token)),
            None => match self.refusal(path, id, conditions)? {
                Some(refusal) => Some(refusal),
                None => self.beyond_quota(path, id, object.size, quota)?,
            },
        };
        if let Some(refusal) = refusal {
            return self.refuse(refusal, parts);
        }
        parts.iter().for_each(|part| self.refer(part.id));
        self.write(path, id, None, object)
    }

    /// The answer to a mutation whose name was carried out so long ago that its answer is forgotten, as happens to names that clients
    /// give: nothing may happen again. Parts are fresh for each mutation, so one that is referred to was written by this one,
    /// whatever became of the object since.
    pub(super) fn written_before(&self, path: &KeyPath, parts: &[Part]) -> Result<Option<MetaReply>, KvError> {
        if let Some(head) = self.head(path)?.filter(|head| head.request == self.request) {
            return Ok(Some(head.written()));
        }
        for part in parts {
            if self.is_referred_to(part)? {
                return Ok(Some(MetaReply::PartsChanged));
            }
        }
        Ok(None)
    }

    /// Why an object must not be written, if it must not.
    pub(super) fn refusal(
        &self,
        path: &KeyPath,
        id: VersionId,
        conditions: &Conditions,
    ) -> Result<Option<MetaReply>, KvError> {
        match judge(conditions, self.head(path)?.as_ref()) {
            Verdict::NoObject => Ok(Some(MetaReply::NoSuchKey)),
            Verdict::Failed | Verdict::NotModified => Ok(Some(MetaReply::PreconditionFailed)),
            Verdict::Holds => Ok(self.replaces_locked(path, id)?.then_some(MetaReply::Locked)),
        }
    }

    /// Writes an object in the place of the one that is there.
    pub(super) fn write(
        &mut self,
        path: &KeyPath,
        version: VersionId,
        upload: Option<UploadId>,
        object: NewObject,
    ) -> Result<MetaReply, KvError> {
        let (sequence, modified_ms, request) = (self.index, self.time_ms, self.request);
        let head = self.add_object(path, ObjectVersion { version, sequence, modified_ms, request, upload, object })?;
        self.announce_object(path, Means::created, &head)?;
        Ok(head.written())
    }
}

impl Head {
    /// What whoever wrote it is told.
    pub(super) fn written(&self) -> MetaReply {
        MetaReply::Written {
            version: self.version,
            modified_ms: self.modified_ms,
            etag: self.etag,
            checksum: self.checksum,
        }
    }
}

/// Whether the conditions hold of the object that is there. A delete marker is none.
pub(super) fn judge(conditions: &Conditions, current: Option<&Head>) -> Verdict {
    conditions.judge_facts(current.map(|head| (head.etag.to_string(), head.modified_ms, head.size)))
}
