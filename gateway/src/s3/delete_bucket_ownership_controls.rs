//! DeleteBucketOwnershipControls.

use annulus_common::map::BucketChange;
use s3s::dto::{DeleteBucketOwnershipControlsInput, DeleteBucketOwnershipControlsOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::Gateway;

pub(super) async fn delete_bucket_ownership_controls(
    gateway: &Gateway,
    req: S3Request<DeleteBucketOwnershipControlsInput>,
) -> S3Result<S3Response<DeleteBucketOwnershipControlsOutput>> {
    gateway.configure(&req.input.bucket, BucketChange::Ownership(None)).await?;
    Ok(S3Response::new(DeleteBucketOwnershipControlsOutput::default()))
}
