//! GetBucketTagging, PutBucketTagging and DeleteBucketTagging.
//!
//! The bucket exists and the caller may: the access check has seen to that.

use std::sync::Arc;

use annulus_common::map::BucketChange;
use annulus_common::tags::BUCKET_TAGS_MAX;
use http::StatusCode;
use s3s::dto::{
    DeleteBucketTaggingInput, DeleteBucketTaggingOutput, GetBucketTaggingInput, GetBucketTaggingOutput,
    PutBucketTaggingInput, PutBucketTaggingOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::error::{s3_error, with_status};
use super::{Gateway, tags};

pub(super) async fn get_bucket_tagging(
    gateway: &Gateway,
    req: S3Request<GetBucketTaggingInput>,
) -> S3Result<S3Response<GetBucketTaggingOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let tags = bucket
        .config
        .tags
        .ok_or_else(|| with_status(S3ErrorCode::NoSuchTagSet, StatusCode::NOT_FOUND, "The TagSet does not exist"))?;
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set: tags::dto_tags(&tags) }))
}

pub(super) async fn put_bucket_tagging(
    gateway: &Gateway,
    req: S3Request<PutBucketTaggingInput>,
) -> S3Result<S3Response<PutBucketTaggingOutput>> {
    let tags = tags::of_xml(req.input.tagging.tag_set, BUCKET_TAGS_MAX)?;
    gateway.configure(&req.input.bucket, BucketChange::Tags(Some(Arc::new(tags)))).await?;
    Ok(S3Response::new(PutBucketTaggingOutput::default()))
}

pub(super) async fn delete_bucket_tagging(
    gateway: &Gateway,
    req: S3Request<DeleteBucketTaggingInput>,
) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
    gateway.configure(&req.input.bucket, BucketChange::Tags(None)).await?;
    Ok(S3Response::new(DeleteBucketTaggingOutput::default()))
}
