//! Objects grow: bytes are added behind those that are there, in parts of their own.

use annulus_common::condition::Conditions;
use annulus_common::notification::Means;
use annulus_common::object::{Data, ETag, KeyPath, NewObject, ObjectChecksum, ObjectVersion, Part, VersionId};
use annulus_common::protocol::metadata::{MetaReply, QuotaTerms};

use super::super::schema::records::{BodyKind, Head, Manifest};
use super::Step;
use crate::kv::KvError;

/// What is added to an object, and what it is with that.
pub(super) struct Addition {
    pub(super) sequence: u64,
    pub(super) conditions: Conditions,
    pub(super) quota: QuotaTerms,
    pub(super) parts: Vec<Part>,
    pub(super) size: u64,
    pub(super) etag: ETag,
    pub(super) checksum: Option<ObjectChecksum>,
}

impl Step<'_> {
    /// Only a null version grows: any other is kept as it was written.
    pub(super) fn append(&mut self, path: &KeyPath, addition: Addition) -> Result<MetaReply, KvError> {
        if let Some(before) = self.written_before(path, &addition.parts)? {
            return Ok(before);
        }
        if let Some(token) = self.shard(path.bucket, path.shard)?.fence {
            return Ok(MetaReply::Fenced(token));
        }
        for part in &addition.parts {
            if self.is_part_condemned(part)? {
                return Ok(MetaReply::PartsCondemned);
            }
        }
        let is_meant = |head: &Head| head.sequence == addition.sequence && head.version == VersionId::Null;
        let Some(head) = self.head(path)?.filter(is_meant) else {
            return self.refuse(MetaReply::PartsChanged, &addition.parts);
        };
        let refusal = match self.refusal(path, VersionId::Null, &addition.conditions)? {
            Some(refusal) => Some(refusal),
            None => self.beyond_quota(path, VersionId::Null, addition.size, addition.quota)?,
        };
        match refusal {
            Some(refusal) => self.refuse(refusal, &addition.parts),
            None => self.grow(path, head, addition),
        }
    }

    fn grow(&mut self, path: &KeyPath, head: Head, addition: Addition) -> Result<MetaReply, KvError> {
        let Addition { parts: added, size, etag, checksum, .. } = addition;
        let mut parts = match head.body {
            BodyKind::Manifest => {
                self.read(&self.keys.body(path, head.sequence))?.unwrap_or(Manifest { parts: Vec::new() }).parts
            }
            BodyKind::Inline | BodyKind::None => Vec::new(),
        };
        added.iter().for_each(|part| self.refer(part.id));
        parts.extend(added);
        let attributes = self.attributes(path, &head)?;
        self.release(path, &head)?;
        let (owner, headers, encryption) = (head.owner, head.headers, head.encryption);
        let data = Data::Parts(parts);
        let object = NewObject { owner, size, etag, checksum, headers, attributes, encryption, data };
        let (sequence, modified_ms, request) = (self.index, self.time_ms, self.request);
        let (version, upload) = (VersionId::Null, None);
        let version = ObjectVersion { version, sequence, modified_ms, request, upload, object };
        let head = self.place(path, version)?;
        self.announce_object(path, Means::created, &head)?;
        Ok(head.written())
    }
}
