//! DeleteBucketCors.

use annulus_common::map::BucketChange;
use s3s::dto::{DeleteBucketCorsInput, DeleteBucketCorsOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::Gateway;

pub(super) async fn delete_bucket_cors(
    gateway: &Gateway,
    req: S3Request<DeleteBucketCorsInput>,
) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
    gateway.configure(&req.input.bucket, BucketChange::Cors(None)).await?;
    Ok(S3Response::new(DeleteBucketCorsOutput::default()))
}
