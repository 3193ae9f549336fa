//! GetObjectAcl and GetObjectTagging: every object is its owner's alone, and none has tags, until setting them is built.

use s3s::dto::{GetObjectAclInput, GetObjectAclOutput, GetObjectTaggingInput, GetObjectTaggingOutput};
use s3s::{S3Request, S3Response, S3Result};

use super::bucket_facts::full_control;
use super::copy_object::find_source;
use super::{Gateway, owner, version};

pub(super) async fn get_object_acl(
    gateway: &Gateway,
    req: S3Request<GetObjectAclInput>,
) -> S3Result<S3Response<GetObjectAclOutput>> {
    version::current(req.input.version_id.as_deref())?;
    let found = find_source(gateway, &req.input.bucket, &req.input.key).await?;
    let map = gateway.accounts.map().await?;
    let owner = owner(&map, found.object.owner);
    let grants = Some(vec![full_control(&owner)]);
    Ok(S3Response::new(GetObjectAclOutput { grants, owner: Some(owner), ..Default::default() }))
}

pub(super) async fn get_object_tagging(
    gateway: &Gateway,
    req: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    version::current(req.input.version_id.as_deref())?;
    find_source(gateway, &req.input.bucket, &req.input.key).await?;
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set: Vec::new(), version_id: req.input.version_id }))
}
