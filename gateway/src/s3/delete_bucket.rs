//! DeleteBucket.

use s3s::dto::{DeleteBucketInput, DeleteBucketOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::Gateway;
use super::error::s3_error;

pub(super) async fn delete_bucket(
    gateway: &Gateway,
    req: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    gateway.objects.delete_bucket(&req.input.bucket).await.map_err(s3_error)?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}
