//! DeleteBucketOwnershipControls.

use annulus_common::map::BucketChange;
use s3s::dto::{DeleteBucketOwnershipControlsInput, DeleteBucketOwnershipControlsOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::Gateway;
use super::error::s3_error;

pub(super) async fn delete_bucket_ownership_controls(
    gateway: &Gateway,
    req: S3Request<DeleteBucketOwnershipControlsInput>,
) -> S3Result<S3Response<DeleteBucketOwnershipControlsOutput>> {
    let name = &req.input.bucket;
    let bucket = gateway.objects.bucket(name).await.map_err(s3_error)?;
    gateway.objects.configure_bucket(name, &bucket, BucketChange::Ownership(None)).await.map_err(s3_error)?;
    Ok(S3Response::new(DeleteBucketOwnershipControlsOutput::default()))
}
