//! Objects come, are replaced, and go.

use annulus_common::condition::{Conditions, Verdict};
use annulus_common::ids::{BucketId, ShardId, UploadId};
use annulus_common::object::{AttributeChange, Data, KeyPath, NewObject, ObjectVersion, VersionId};
use annulus_common::protocol::metadata::{DeleteOutcome, MetaReply};

use super::super::schema::records::Head;
use super::Step;
use crate::kv::{KvError, Table};

impl Step<'_> {
    /// A put that is refused leaves its chunks behind: they are garbage at once, and a retry is answered the same.
    pub(super) fn put_object(
        &mut self,
        path: &KeyPath,
        conditions: &Conditions,
        object: NewObject,
    ) -> Result<MetaReply, KvError> {
        let current = self.head(path)?;
        let refusal = match self.fenced(path.bucket, path.shard)? {
            Some(token) => Some(MetaReply::Fenced(token)),
            None => refusal(conditions, current.as_ref()),
        };
        match (refusal, &object.data) {
            // The gateway may put the same chunks again once it knows what the fence means.
            (Some(refusal @ MetaReply::Fenced(_)), _) | (Some(refusal), Data::Inline(_)) => Ok(refusal),
            (Some(refusal), Data::Parts(parts)) => {
                for part in parts {
                    self.discard(part);
                }
                Ok(refusal)
            }
            (None, data) => {
                if let Data::Parts(parts) = data {
                    for part in parts {
                        self.refer(part.id);
                    }
                }
                self.replace(path, current.as_ref(), None, object)
            }
        }
    }

    pub(super) fn delete_objects(
        &mut self,
        bucket: BucketId,
        shard: ShardId,
        keys: Vec<(String, Conditions)>,
    ) -> Result<MetaReply, KvError> {
        let mut outcomes = Vec::with_capacity(keys.len());
        for (key, conditions) in keys {
            outcomes.push(self.delete_object(&KeyPath { bucket, shard, key }, &conditions)?);
        }
        Ok(MetaReply::Deleted(outcomes))
    }

    fn delete_object(&mut self, path: &KeyPath, conditions: &Conditions) -> Result<DeleteOutcome, KvError> {
        let current = self.head(path)?;
        match (judge(conditions, current.as_ref()), current) {
            (Verdict::NoObject, _) => Ok(DeleteOutcome::NoSuchKey),
            (Verdict::Failed | Verdict::NotModified, _) => Ok(DeleteOutcome::PreconditionFailed),
            (Verdict::Holds, None) => Ok(DeleteOutcome::Deleted),
            (Verdict::Holds, Some(head)) => {
                self.discard_body(path, &head)?;
                self.delete(self.keys.object(path));
                Ok(DeleteOutcome::Deleted)
            }
        }
    }

    pub(super) fn set_attributes(
        &mut self,
        path: &KeyPath,
        version: VersionId,
        sequence: u64,
        change: AttributeChange,
    ) -> Result<MetaReply, KvError> {
        match self.head(path)?.filter(|head| head.version == version) {
            None => Ok(MetaReply::NoSuchVersion),
            Some(head) if head.sequence != sequence => Ok(MetaReply::PreconditionFailed),
            Some(mut head) => {
                let Some(changed) = head.attributes.changed(change, self.time_ms) else { return Ok(MetaReply::Locked) };
                head.attributes = changed;
                self.put(self.keys.object(path), &head);
                Ok(MetaReply::Done)
            }
        }
    }

    /// Writes an object in the place of the one that is there.
    pub(super) fn replace(
        &mut self,
        path: &KeyPath,
        current: Option<&Head>,
        upload: Option<UploadId>,
        object: NewObject,
    ) -> Result<MetaReply, KvError> {
        if let Some(current) = current {
            self.discard_body(path, current)?;
        }
        let (head, body) = Head::split(ObjectVersion {
            version: VersionId::Null,
            sequence: self.index,
            modified_ms: self.time_ms,
            request: self.request,
            upload,
            object,
        });
        self.put(self.keys.object(path), &head);
        if let Some(body) = body {
            self.batch.put(Table::Meta, self.keys.body(path), body);
        }
        Ok(MetaReply::Written { modified_ms: self.time_ms, etag: head.etag, checksum: head.checksum })
    }
}

/// Why a write is refused, if it is.
pub(super) fn refusal(conditions: &Conditions, current: Option<&Head>) -> Option<MetaReply> {
    match judge(conditions, current) {
        Verdict::Holds => None,
        Verdict::NoObject => Some(MetaReply::NoSuchKey),
        Verdict::Failed | Verdict::NotModified => Some(MetaReply::PreconditionFailed),
    }
}

fn judge(conditions: &Conditions, current: Option<&Head>) -> Verdict {
    conditions.judge_facts(current.map(|head| (head.etag.to_string(), head.modified_ms, head.size)))
}
