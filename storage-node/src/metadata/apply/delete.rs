//! Deletions: of a key, which leaves a delete marker where versions are kept, and of a version, which is for good.

use annulus_common::condition::{Conditions, Verdict};
use annulus_common::ids::{BucketId, ShardId};
use annulus_common::notification::Means;
use annulus_common::object::{DeleteMarker, KeyPath, UserId, VersionId, Versioning};
use annulus_common::protocol::metadata::{DeleteOutcome, Deletion, MetaReply};

use super::super::schema::find::Found;
use super::super::schema::records::{Head, Other};
use super::Step;
use super::object::judge;
use crate::kv::KvError;

/// Records that one step changes before it puts off what else it should delete. An object of 10,000 parts has two for each part: a
/// thousand of those in one step would hold up every replica for minutes, and again after each crash.
const RECORDS_MAX: usize = 50_000;

/// Who deletes, and where.
pub(super) struct Deleter {
    pub(super) bucket: BucketId,
    pub(super) shard: ShardId,
    pub(super) versioning: Versioning,
    pub(super) owner: UserId,
}

impl Step<'_> {
    /// One after the other: each meets what those before it have left.
    pub(super) fn delete_each(&mut self, deleter: &Deleter, deletions: Vec<Deletion>) -> Result<MetaReply, KvError> {
        let mut outcomes = Vec::with_capacity(deletions.len());
        for Deletion { key, version, conditions, bypass_governance, sequence } in deletions {
            // Nothing is taken out of what is staged, so all that follow are put off too.
            if self.staged.len() > RECORDS_MAX {
                outcomes.push(DeleteOutcome::NotYet);
                continue;
            }
            let path = KeyPath { bucket: deleter.bucket, shard: deleter.shard, key };
            if let Some(sequence) = sequence
                && self.sequence_of(&path, version)? != Some(sequence)
            {
                outcomes.push(DeleteOutcome::PreconditionFailed);
                continue;
            }
            outcomes.push(match version {
                Some(version) => self.delete_version(&path, version, &conditions, bypass_governance)?,
                None => self.delete_key(&path, deleter, &conditions)?,
            });
        }
        Ok(MetaReply::Deleted(outcomes))
    }

    /// The log index that wrote that version, or the object that is there.
    fn sequence_of(&self, path: &KeyPath, version: Option<VersionId>) -> Result<Option<u64>, KvError> {
        let Some(version) = version else { return Ok(self.head(path)?.map(|head| head.sequence)) };
        Ok(self.version(path, version)?.map(|found| match found {
            Found::Current(head) => head.sequence,
            Found::Other(other) => other.sequence(),
        }))
    }

    fn delete_key(
        &mut self,
        path: &KeyPath,
        deleter: &Deleter,
        conditions: &Conditions,
    ) -> Result<DeleteOutcome, KvError> {
        let current = self.head(path)?;
        if let Some(refusal) = refusal_of(judge(conditions, current.as_ref())) {
            return Ok(refusal);
        }
        let id = self.new_id(deleter.versioning, &path.key);
        if self.replaces_locked(path, id)? {
            return Ok(DeleteOutcome::Locked);
        }
        let kept = self.shard(path.bucket, path.shard)?.versioned || deleter.versioning != Versioning::Unversioned;
        if kept {
            self.mark_deleted(path, deleter.owner, id)?;
            self.announce(path, Means::marked, id)?;
            return Ok(DeleteOutcome::Marked(id));
        }
        if let Some(head) = current {
            self.remove_current(path, &head)?;
            self.announce(path, Means::removed, head.version)?;
        }
        Ok(DeleteOutcome::Deleted)
    }

    fn mark_deleted(&mut self, path: &KeyPath, owner: UserId, version: VersionId) -> Result<(), KvError> {
        let marker =
            DeleteMarker { version, sequence: self.index, modified_ms: self.time_ms, request: self.request, owner };
        self.note_versions(path)?;
        self.add_marker(path, marker)
    }

    /// A version that is not there is as good as removed, but to who asks for a certain one.
    fn delete_version(
        &mut self,
        path: &KeyPath,
        version: VersionId,
        conditions: &Conditions,
        bypass_governance: bool,
    ) -> Result<DeleteOutcome, KvError> {
        let outcome = match self.version(path, version)? {
            None => return Ok(refusal_of(judge(conditions, None)).unwrap_or(DeleteOutcome::Deleted)),
            Some(Found::Current(head)) => match self.objection(path, &head, conditions, bypass_governance)? {
                Some(objection) => return Ok(objection),
                None => {
                    self.remove_current(path, &head)?;
                    DeleteOutcome::Deleted
                }
            },
            Some(Found::Other(other)) => {
                let (objection, removed) = match &other {
                    Other::Object(head) => {
                        (self.objection(path, head, conditions, bypass_governance)?, DeleteOutcome::Deleted)
                    }
                    // No condition on an object holds of a marker.
                    Other::Marker(_) => {
                        let failed = judge(conditions, None) != Verdict::Holds;
                        (failed.then_some(DeleteOutcome::PreconditionFailed), DeleteOutcome::MarkerRemoved)
                    }
                };
                if let Some(objection) = objection {
                    return Ok(objection);
                }
                self.remove_other(path, &other)?;
                removed
            }
        };
        self.announce(path, Means::removed, version)?;
        Ok(outcome)
    }

    /// Why an object must not be removed for good.
    fn objection(
        &self,
        path: &KeyPath,
        head: &Head,
        conditions: &Conditions,
        bypass_governance: bool,
    ) -> Result<Option<DeleteOutcome>, KvError> {
        if judge(conditions, Some(head)) != Verdict::Holds {
            return Ok(Some(DeleteOutcome::PreconditionFailed));
        }
        Ok(self.is_locked(path, head, bypass_governance)?.then_some(DeleteOutcome::Locked))
    }
}

/// Why a judgement keeps an object from being deleted, if it does.
fn refusal_of(verdict: Verdict) -> Option<DeleteOutcome> {
    match verdict {
        Verdict::NoObject => Some(DeleteOutcome::NoSuchKey),
        Verdict::Failed | Verdict::NotModified => Some(DeleteOutcome::PreconditionFailed),
        Verdict::Holds => None,
    }
}
