//! Who may do what with an object that is there. Objects that others put into an open bucket are theirs, not the bucket's
//! owner's.

use annulus_common::acl::Permission;
use annulus_common::map::Bucket;
use annulus_common::object::{ObjectVersion, UserId};

/// Whether the object's access control list lets `caller` do that.
pub fn permits(version: &ObjectVersion, permission: Permission, bucket: &Bucket, caller: UserId) -> bool {
    version.object.attributes.acl.permits(permission, version.object.owner, bucket.owner, caller)
}
