//! DeleteObject.

use annulus_common::condition::Conditions;
use annulus_common::map::Bucket;
use annulus_common::notification::Means;
use annulus_common::protocol::metadata::Deletion;
use s3s::dto::{DeleteObjectInput, DeleteObjectOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::error::{invalid_argument, s3_error};
use super::find_object::{Place, check_compares};
use super::version::asked;
use super::{Gateway, access, condition};
use crate::auth::action::BYPASS_GOVERNANCE_RETENTION;
use crate::auth::{Access, Resource};
use crate::object::{DeleteObjects, Deleted};

pub(super) async fn delete_object(
    gateway: &Gateway,
    req: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let access = access(&req.extensions)?;
    let input = req.input;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let conditions = Conditions {
        if_match_size: input.if_match_size.map(size).transpose()?,
        if_match_modified: input.if_match_last_modified_time.as_ref().map(condition::unix_seconds),
        ..condition::of_write(&req.headers)?
    };
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    check_compares(gateway, access, place, &conditions).await?;
    let asks = input.bypass_governance_retention;
    let deletion = Deletion {
        version: asked(place.version_id)?,
        conditions,
        bypass_governance: bypasses(access, (&input.bucket, &bucket, &input.key), asks, Vec::new()),
        key: input.key,
        sequence: None,
    };
    let delete = DeleteObjects { bucket: &bucket, owner: access.user(), deletions: vec![deletion] };
    let objects = gateway.telling(&req.extensions, &bucket, Means::Put);
    let deleted = objects.delete(delete).await.map_err(s3_error)?;
    Ok(S3Response::new(output(deleted, input.version_id)))
}

fn output(deleted: Deleted, version_id: Option<String>) -> DeleteObjectOutput {
    let (delete_marker, version_id) = match deleted {
        Deleted::Gone => (None, version_id),
        Deleted::MarkerGone => (Some(true), version_id),
        Deleted::Marked(marker) => (Some(true), Some(marker.to_string())),
    };
    DeleteObjectOutput { delete_marker, version_id, ..Default::default() }
}

/// Whether the caller wants to bypass governance, and may. Who may not is told so where something is locked, as others are.
///
/// S3 answers InvalidArgument where the bucket has no object lock; here it is done, as nothing is to be bypassed:
/// ceph/s3-tests clears away every bucket that way, and takes a bucket that stays for a test that failed.
pub(super) fn bypasses(
    access: &Access,
    (name, bucket, key): (&str, &Bucket, &str),
    asked: Option<bool>,
    facts: Vec<(String, String)>,
) -> bool {
    asked == Some(true) && access.may_with(BYPASS_GOVERNANCE_RETENTION, &Resource::key(name, bucket, key), facts)
}

/// `x-amz-if-match-size`.
pub(super) fn size(size: i64) -> S3Result<u64> {
    u64::try_from(size).map_err(|_| invalid_argument("x-amz-if-match-size", "A size cannot be negative"))
}
