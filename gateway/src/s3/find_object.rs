//! Finding what an operation is about and whether the caller may: objects and uploads have owners of their own.

use annulus_common::acl::Permission;
use annulus_common::map::Bucket;
use annulus_common::object::{ObjectVersion, UserId};
use s3s::{S3Result, s3_error};

use super::Gateway;
use super::error::s3_error;
use crate::object::{ObjectError, UploadPath, permits};

/// The object and its bucket, if the caller has that permission on it. That there is none is told to those alone who may
/// list the bucket.
pub(super) async fn find_object(
    gateway: &Gateway,
    caller: UserId,
    (bucket, key): (&str, &str),
    permission: Permission,
) -> S3Result<(Bucket, ObjectVersion)> {
    let bucket = gateway.objects.bucket(bucket).await.map_err(s3_error)?;
    match gateway.objects.get(&bucket, key).await {
        Ok(version) if permits(&version, permission, &bucket, caller) => Ok((bucket, version)),
        Ok(_) => Err(s3_error!(AccessDenied)),
        Err(ObjectError::NoSuchKey) if !bucket.config.acl.permits(Permission::Read, bucket.owner, caller) => {
            Err(s3_error!(AccessDenied))
        }
        Err(error) => Err(s3_error(error)),
    }
}

/// An upload belongs to the one who began it; the owner of the bucket may do with it as with all that is in the bucket.
pub(super) async fn check_upload(gateway: &Gateway, caller: UserId, path: UploadPath<'_>) -> S3Result {
    if caller == path.bucket.owner {
        return Ok(());
    }
    let page = gateway.objects.list_parts(path, 0, 0).await.map_err(s3_error)?;
    may_use_upload(path.bucket, page.upload.owner, caller)
}

/// The rule of [`check_upload`], where the upload is known.
pub(super) fn may_use_upload(bucket: &Bucket, initiator: UserId, caller: UserId) -> S3Result {
    if caller == bucket.owner || caller == initiator { Ok(()) } else { Err(s3_error!(AccessDenied)) }
}
