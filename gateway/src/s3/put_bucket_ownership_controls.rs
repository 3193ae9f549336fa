//! PutBucketOwnershipControls.

use annulus_common::acl::{BucketAcl, Grantee};
use annulus_common::map::BucketChange;
use annulus_common::object::UserId;
use annulus_common::ownership::ObjectOwnership;
use s3s::dto::{OwnershipControls, PutBucketOwnershipControlsInput, PutBucketOwnershipControlsOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::error::s3_error;
use super::{Gateway, access};
use crate::auth::Resource;

pub(super) async fn put_bucket_ownership_controls(
    gateway: &Gateway,
    req: S3Request<PutBucketOwnershipControlsInput>,
) -> S3Result<S3Response<PutBucketOwnershipControlsOutput>> {
    let (access, input) = (access(&req.extensions)?, &req.input);
    let ownership = ownership(&input.ownership_controls)?;
    let bucket = gateway.objects.bucket(&input.bucket).await.map_err(s3_error)?;
    // Policies may have conditions on what is to be.
    let facts = vec![("s3:x-amz-object-ownership".to_owned(), ownership.name().to_owned())];
    access.check_with(access.action(), &Resource::bucket(&input.bucket, &bucket), facts)?;
    if ownership == ObjectOwnership::BucketOwnerEnforced {
        check_without_acls(&bucket.config.acl, bucket.owner)?;
    }
    let change = BucketChange::Ownership(Some(ownership));
    gateway.objects.configure_bucket(&input.bucket, &bucket, change).await.map_err(s3_error)?;
    Ok(S3Response::new(PutBucketOwnershipControlsOutput::default()))
}

/// Where lists shall mean nothing, the bucket's must not have let anybody in: who could would be shut out without a word.
pub(super) fn check_without_acls(acl: &BucketAcl, owner: UserId) -> S3Result {
    if acl.grants(owner).iter().all(|grant| grant.grantee == Grantee::User(owner)) {
        Ok(())
    } else {
        Err(s3_error!(
            InvalidBucketAclWithObjectOwnership,
            "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
        ))
    }
}

/// There is one rule, as S3 says.
fn ownership(controls: &OwnershipControls) -> S3Result<ObjectOwnership> {
    match controls.rules.as_slice() {
        [rule] => ObjectOwnership::named(rule.object_ownership.as_str()).ok_or_else(|| s3_error!(MalformedXML)),
        _ => Err(s3_error!(MalformedXML)),
    }
}
