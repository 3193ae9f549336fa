//! PutBucketAcl.

use s3s::dto::{PutBucketAclInput, PutBucketAclOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::error::s3_error;
use super::{Gateway, grants};

pub(super) async fn put_bucket_acl(
    gateway: &Gateway,
    req: S3Request<PutBucketAclInput>,
) -> S3Result<S3Response<PutBucketAclOutput>> {
    let input = req.input;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    if bucket.ignores_acls() {
        return Err(grants::not_supported());
    }
    let map = gateway.accounts.map().await?;
    let asked = grants::of_request(&req.headers, input.access_control_policy.as_ref(), &map, bucket.owner)?;
    let acl = asked.bucket_acl(bucket.owner)?;
    grants::check_public(acl.is_public(), &bucket)?;
    gateway.objects.set_bucket_acl(&input.bucket, &bucket, acl).await.map_err(s3_error)?;
    Ok(S3Response::new(PutBucketAclOutput::default()))
}
