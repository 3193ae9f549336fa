//! GetPublicAccessBlock, PutPublicAccessBlock and DeletePublicAccessBlock.
//!
//! The bucket exists and the caller may: the access check has seen to that.

use annulus_common::map::BucketChange;
use annulus_common::policy::PublicAccessBlock;
use http::StatusCode;
use s3s::dto::{
    DeletePublicAccessBlockInput, DeletePublicAccessBlockOutput, GetPublicAccessBlockInput, GetPublicAccessBlockOutput,
    PublicAccessBlockConfiguration, PutPublicAccessBlockInput, PutPublicAccessBlockOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

use super::Gateway;
use super::error::{s3_error, with_status};

pub(super) async fn get_public_access_block(
    gateway: &Gateway,
    req: S3Request<GetPublicAccessBlockInput>,
) -> S3Result<S3Response<GetPublicAccessBlockOutput>> {
    let bucket = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?;
    let block = bucket.config.public_access_block.ok_or_else(|| {
        let code = S3ErrorCode::Custom("NoSuchPublicAccessBlockConfiguration".into());
        with_status(code, StatusCode::NOT_FOUND, "The public access block configuration was not found")
    })?;
    let configuration = PublicAccessBlockConfiguration {
        block_public_acls: Some(block.block_public_acls),
        ignore_public_acls: Some(block.ignore_public_acls),
        block_public_policy: Some(block.block_public_policy),
        restrict_public_buckets: Some(block.restrict_public_buckets),
    };
    Ok(S3Response::new(GetPublicAccessBlockOutput { public_access_block_configuration: Some(configuration) }))
}

pub(super) async fn put_public_access_block(
    gateway: &Gateway,
    req: S3Request<PutPublicAccessBlockInput>,
) -> S3Result<S3Response<PutPublicAccessBlockOutput>> {
    let asked = req.input.public_access_block_configuration;
    let block = PublicAccessBlock {
        block_public_acls: asked.block_public_acls.unwrap_or(false),
        ignore_public_acls: asked.ignore_public_acls.unwrap_or(false),
        block_public_policy: asked.block_public_policy.unwrap_or(false),
        restrict_public_buckets: asked.restrict_public_buckets.unwrap_or(false),
    };
    gateway.configure(&req.input.bucket, BucketChange::PublicAccessBlock(Some(block))).await?;
    Ok(S3Response::new(PutPublicAccessBlockOutput::default()))
}

pub(super) async fn delete_public_access_block(
    gateway: &Gateway,
    req: S3Request<DeletePublicAccessBlockInput>,
) -> S3Result<S3Response<DeletePublicAccessBlockOutput>> {
    gateway.configure(&req.input.bucket, BucketChange::PublicAccessBlock(None)).await?;
    Ok(S3Response::new(DeletePublicAccessBlockOutput::default()))
}
