//! GetBucketOwnershipControls.

use s3s::dto::{
    GetBucketOwnershipControlsInput, GetBucketOwnershipControlsOutput, ObjectOwnership, OwnershipControls,
    OwnershipControlsRule,
};
use s3s::{S3Request, S3Response, S3Result};

use super::Gateway;
use super::bucket_facts::none;
use super::error::s3_error;

pub(super) async fn get_bucket_ownership_controls(
    gateway: &Gateway,
    req: S3Request<GetBucketOwnershipControlsInput>,
) -> S3Result<S3Response<GetBucketOwnershipControlsOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let Some(ownership) = bucket.config.ownership else {
        return Err(none("OwnershipControlsNotFoundError", "The bucket ownership controls were not found"));
    };
    let rule = OwnershipControlsRule { object_ownership: ObjectOwnership::from_static(ownership.name()) };
    let controls = OwnershipControls { rules: vec![rule] };
    Ok(S3Response::new(GetBucketOwnershipControlsOutput { ownership_controls: Some(controls) }))
}
