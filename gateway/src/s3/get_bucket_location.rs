//! GetBucketLocation.

use s3s::dto::{BucketLocationConstraint, GetBucketLocationInput, GetBucketLocationOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::Gateway;
use super::create_bucket::CLASSIC_REGION;
use super::error::s3_error;

pub(super) async fn get_bucket_location(
    gateway: &Gateway,
    req: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let constraint = (gateway.region != CLASSIC_REGION).then(|| BucketLocationConstraint::from(gateway.region.clone()));
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: constraint }))
}
