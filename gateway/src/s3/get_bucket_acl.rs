//! GetBucketAcl.

use s3s::dto::{GetBucketAclInput, GetBucketAclOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::error::s3_error;
use super::grants::dto_grants;
use super::{Gateway, owner};

pub(super) async fn get_bucket_acl(
    gateway: &Gateway,
    req: S3Request<GetBucketAclInput>,
) -> S3Result<S3Response<GetBucketAclOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let map = gateway.accounts.map().await?;
    let grants = dto_grants(&map, &bucket.acl().grants(bucket.owner));
    Ok(S3Response::new(GetBucketAclOutput { grants: Some(grants), owner: Some(owner(&map, bucket.owner)) }))
}
