//! GetBucketAccelerateConfiguration and PutBucketAccelerateConfiguration. Transfers are as fast as they are: acceleration can be
//! suspended, which promises nothing, and cannot be enabled. What was set is answered, for tools that compare (Terraform's
//! aws_s3_bucket_accelerate_configuration, which also suspends it where its resource is removed); a bucket for which nothing was
//! ever set has no status. See "GetBucketAccelerateConfiguration" in the S3 API reference.

use annulus_common::map::BucketChange;
use s3s::dto::{
    BucketAccelerateStatus, GetBucketAccelerateConfigurationInput, GetBucketAccelerateConfigurationOutput,
    PutBucketAccelerateConfigurationInput, PutBucketAccelerateConfigurationOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Gateway;
use super::error::s3_error;

pub(super) async fn get_bucket_accelerate_configuration(
    gateway: &Gateway,
    req: S3Request<GetBucketAccelerateConfigurationInput>,
) -> S3Result<S3Response<GetBucketAccelerateConfigurationOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let suspended = || BucketAccelerateStatus::from_static(BucketAccelerateStatus::SUSPENDED);
    let status = bucket.config.acceleration_suspended.then(suspended);
    Ok(S3Response::new(GetBucketAccelerateConfigurationOutput { status, ..Default::default() }))
}

pub(super) async fn put_bucket_accelerate_configuration(
    gateway: &Gateway,
    req: S3Request<PutBucketAccelerateConfigurationInput>,
) -> S3Result<S3Response<PutBucketAccelerateConfigurationOutput>> {
    let input = req.input;
    match input.accelerate_configuration.status.as_ref().map(BucketAccelerateStatus::as_str) {
        Some(BucketAccelerateStatus::SUSPENDED) => {}
        Some(BucketAccelerateStatus::ENABLED) => {
            return Err(s3_error!(NotImplemented, "Transfer acceleration is not implemented."));
        }
        _ => return Err(s3_error!(MalformedXML)),
    }
    gateway.configure(&input.bucket, BucketChange::SuspendAcceleration).await?;
    Ok(S3Response::new(PutBucketAccelerateConfigurationOutput::default()))
}
