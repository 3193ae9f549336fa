//! PutObjectAcl.

use annulus_common::notification::Means;
use annulus_common::object::AttributeChange;
use s3s::dto::{PutObjectAclInput, PutObjectAclOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::error::s3_error;
use super::find_object::{Place, find_unmarked};
use super::{Gateway, access, grants};

pub(super) async fn put_object_acl(
    gateway: &Gateway,
    req: S3Request<PutObjectAclInput>,
) -> S3Result<S3Response<PutObjectAclOutput>> {
    let input = req.input;
    let access = access(&req.extensions)?;
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    let (bucket, found) = find_unmarked(gateway, access, place, Vec::new()).await?;
    if bucket.ignores_acls() {
        return Err(grants::not_supported());
    }
    let map = gateway.accounts.map().await?;
    let owner = found.object.owner;
    let asked = grants::of_request(&req.headers, input.access_control_policy.as_ref(), &map, owner)?;
    let acl = asked.object_acl(owner, bucket.owner)?;
    grants::check_public(acl.is_public(), &bucket)?;
    let change = AttributeChange::Acl(acl);
    let objects = gateway.telling(&req.extensions, &bucket, Means::Put);
    objects.set_attributes(&bucket, &input.key, &found, change).await.map_err(s3_error)?;
    Ok(S3Response::new(PutObjectAclOutput::default()))
}
