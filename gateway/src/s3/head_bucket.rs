//! HeadBucket.

use s3s::dto::{HeadBucketInput, HeadBucketOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::Gateway;
use super::error::s3_error;

pub(super) async fn head_bucket(
    gateway: &Gateway,
    req: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    Ok(S3Response::new(HeadBucketOutput { bucket_region: Some(gateway.region.clone()), ..Default::default() }))
}
