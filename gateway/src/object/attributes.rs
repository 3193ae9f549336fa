//! What can be changed of an object without a new version: its access control list, its tags, its locks.

use annulus_common::map::Bucket;
use annulus_common::object::{AttributeChange, ObjectVersion, Retention};
use annulus_common::protocol::metadata::{Command, MetaReply};

use super::put::{key_path, refused};
use super::{ObjectError, Objects};

/// The retention that the bucket gives a version which is written at `now_ms` and comes with none of its own.
pub(super) fn default_retention(bucket: &Bucket, now_ms: u64) -> Option<Retention> {
    let default = bucket.config.object_lock.and_then(|lock| lock.default);
    default.map(|default| default.from(now_ms))
}

impl Objects {
    /// The time, Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Changes an attribute of a version, as [`Objects::get`] found it. [`ObjectError::Conflict`] when it is not that one any
    /// more: whoever was allowed to change the one may not be allowed to change the other.
    pub async fn set_attributes(
        &self,
        bucket: &Bucket,
        key: &str,
        version: &ObjectVersion,
        change: AttributeChange,
    ) -> Result<(), ObjectError> {
        let path = key_path(bucket, key)?;
        let shard = path.shard;
        let command = Command::SetAttributes { path, version: version.version, sequence: version.sequence, change };
        match self.mutate(bucket, shard, command).await? {
            MetaReply::Done => Ok(()),
            MetaReply::PreconditionFailed => Err(ObjectError::Conflict),
            reply => Err(refused(reply)),
        }
    }
}
