//! DeleteObject.

use annulus_common::condition::Conditions;
use s3s::dto::{DeleteObjectInput, DeleteObjectOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::error::s3_error;
use super::version::{Asked, asked};
use super::{Gateway, condition};

pub(super) async fn delete_object(
    gateway: &Gateway,
    req: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let input = req.input;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    let conditions = Conditions {
        if_match_size: input.if_match_size.map(size).transpose()?,
        if_match_modified: input.if_match_last_modified_time.as_ref().map(condition::unix_seconds),
        ..condition::of_write(&req.headers)?
    };
    // A version that does not exist is as good as deleted.
    if asked(input.version_id.as_deref())? == Asked::Current {
        gateway.objects.delete(&bucket, &input.key, conditions).await.map_err(s3_error)?;
    }
    Ok(S3Response::new(DeleteObjectOutput { version_id: input.version_id, ..Default::default() }))
}

/// `x-amz-if-match-size`.
pub(super) fn size(size: i64) -> S3Result<u64> {
    u64::try_from(size).map_err(|_| s3_error!(InvalidArgument, "A size cannot be negative"))
}
