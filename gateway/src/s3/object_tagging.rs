//! GetObjectTagging, PutObjectTagging and DeleteObjectTagging.

use annulus_common::notification::Means;
use annulus_common::object::AttributeChange;
use annulus_common::tags::{OBJECT_TAGS_MAX, Tags};
use http::Extensions;
use s3s::dto::{
    DeleteObjectTaggingInput, DeleteObjectTaggingOutput, GetObjectTaggingInput, GetObjectTaggingOutput,
    PutObjectTaggingInput, PutObjectTaggingOutput,
};
use s3s::{S3Request, S3Response, S3Result};

use super::error::s3_error;
use super::find_object::{Place, find_unmarked};
use super::{Gateway, access, tags, version};
use crate::auth::facts_of_tags;

pub(super) async fn get_object_tagging(
    gateway: &Gateway,
    req: S3Request<GetObjectTaggingInput>,
) -> S3Result<S3Response<GetObjectTaggingOutput>> {
    let access = access(&req.extensions)?;
    let input = req.input;
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    let (bucket, found) = find_unmarked(gateway, access, place, Vec::new()).await?;
    let tag_set = tags::dto_tags(&found.object.attributes.tags);
    let version_id = version::of_read(&bucket, found.version, place.version_id);
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id }))
}

pub(super) async fn put_object_tagging(
    gateway: &Gateway,
    req: S3Request<PutObjectTaggingInput>,
) -> S3Result<S3Response<PutObjectTaggingOutput>> {
    let input = req.input;
    let tags = tags::of_xml(input.tagging.tag_set, OBJECT_TAGS_MAX)?;
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    let version_id = set(gateway, &req.extensions, place, tags).await?;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
}

pub(super) async fn delete_object_tagging(
    gateway: &Gateway,
    req: S3Request<DeleteObjectTaggingInput>,
) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
    let input = req.input;
    let place = Place { bucket: &input.bucket, key: &input.key, version_id: input.version_id.as_deref() };
    let version_id = set(gateway, &req.extensions, place, Tags::new()).await?;
    Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
}

/// Policies may have conditions on the tags that are to be. Returns the version id to answer with.
async fn set(gateway: &Gateway, asked: &Extensions, place: Place<'_>, tags: Tags) -> S3Result<Option<String>> {
    let access = access(asked)?;
    let (bucket, found) = find_unmarked(gateway, access, place, facts_of_tags(&tags)).await?;
    let change = AttributeChange::Tags(tags);
    let objects = gateway.telling(asked, &bucket, Means::Put);
    objects.set_attributes(&bucket, place.key, &found, change).await.map_err(s3_error)?;
    Ok(version::of_read(&bucket, found.version, place.version_id))
}
