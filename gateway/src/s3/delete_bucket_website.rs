//! DeleteBucketWebsite.

use annulus_common::map::BucketChange;
use s3s::dto::{DeleteBucketWebsiteInput, DeleteBucketWebsiteOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::Gateway;

pub(super) async fn delete_bucket_website(
    gateway: &Gateway,
    req: S3Request<DeleteBucketWebsiteInput>,
) -> S3Result<S3Response<DeleteBucketWebsiteOutput>> {
    gateway.configure(&req.input.bucket, BucketChange::Website(None)).await?;
    Ok(S3Response::new(DeleteBucketWebsiteOutput::default()))
}
