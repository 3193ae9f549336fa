//! Who may do what with an object that is there. Objects that others put into an open bucket are theirs, not the bucket's
//! owner's.

use annulus_common::acl::{ObjectAcl, Permission};
use annulus_common::map::Bucket;
use annulus_common::object::{ObjectVersion, UserId};
use annulus_common::protocol::metadata::{Command, MetaReply};

use super::put::{key_path, refused};
use super::{ObjectError, Objects};

/// Whether the object's access control list lets `caller` do that.
pub fn permits(version: &ObjectVersion, permission: Permission, bucket: &Bucket, caller: UserId) -> bool {
    version.object.headers.acl.permits(permission, version.object.owner, bucket.owner, caller)
}

impl Objects {
    /// Changes the object's access control list. [`ObjectError::Conflict`] when it is not that version any more: whoever
    /// was allowed to change the one may not be allowed to change the other.
    pub async fn set_object_acl(
        &self,
        bucket: &Bucket,
        key: &str,
        version: &ObjectVersion,
        acl: ObjectAcl,
    ) -> Result<(), ObjectError> {
        let path = key_path(bucket, key)?;
        let shard = path.shard;
        let command = Command::SetAcl { path, sequence: version.sequence, acl };
        match self.mutate(bucket, shard, command).await? {
            MetaReply::Done => Ok(()),
            MetaReply::PreconditionFailed => Err(ObjectError::Conflict),
            reply => Err(refused(reply)),
        }
    }
}
