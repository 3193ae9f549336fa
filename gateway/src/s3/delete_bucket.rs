//! DeleteBucket.

use annulus_common::object::Versioning;
use s3s::dto::{DeleteBucketInput, DeleteBucketOutput};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::Gateway;
use super::error::s3_error;
use crate::object::ObjectError;

pub(super) async fn delete_bucket(
    gateway: &Gateway,
    req: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let name = &req.input.bucket;
    match gateway.objects.delete_bucket(name).await {
        Ok(()) => Ok(S3Response::new(DeleteBucketOutput::default())),
        Err(ObjectError::BucketNotEmpty) => Err(not_empty(gateway, name).await),
        Err(error) => Err(s3_error(error)),
    }
}

/// A bucket that keeps versions may hold some although it lists nothing, which S3 says.
async fn not_empty(gateway: &Gateway, name: &str) -> S3Error {
    match gateway.objects.bucket(name).await {
        Ok(bucket) if bucket.config.versioning != Versioning::Unversioned => s3_error!(
            BucketNotEmpty,
            "The bucket you tried to delete is not empty. You must delete all versions in the bucket."
        ),
        _ => s3_error!(BucketNotEmpty),
    }
}
