//! DeleteBucketWebsite.

use annulus_common::map::BucketChange;
use s3s::dto::{DeleteBucketWebsiteInput, DeleteBucketWebsiteOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::Gateway;
use super::error::s3_error;

pub(super) async fn delete_bucket_website(
    gateway: &Gateway,
    req: S3Request<DeleteBucketWebsiteInput>,
) -> S3Result<S3Response<DeleteBucketWebsiteOutput>> {
    let name = &req.input.bucket;
    let bucket = gateway.objects.bucket(name).await.map_err(s3_error)?;
    gateway.objects.configure_bucket(name, &bucket, BucketChange::Website(None)).await.map_err(s3_error)?;
    Ok(S3Response::new(DeleteBucketWebsiteOutput::default()))
}
