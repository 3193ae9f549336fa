//! GetObjectAcl.

use s3s::dto::{GetObjectAclInput, GetObjectAclOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::find_object::{Place, find_object};
use super::grants::dto_grants;
use super::{Gateway, access, owner};

pub(super) async fn get_object_acl(
    gateway: &Gateway,
    req: S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    let (access, input) = (access(&req.extensions)?, &req.input);
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    let (bucket, found) = find_object(gateway, access, place, access.action()).await?;
    let map = gateway.accounts.map().await?;
    let owner_id = bucket.object_owner(found.object.owner);
    let acl = bucket.object_acl(&found.object.attributes.acl);
    Ok(S3Response::new(GetObjectAclOutput {
        grants: Some(dto_grants(&map, &acl.grants(owner_id, bucket.owner))),
        owner: Some(owner(&map, owner_id)),
        ..Default::default()
    }))
}
