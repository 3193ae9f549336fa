//! GetBucketPolicy, PutBucketPolicy, DeleteBucketPolicy and GetBucketPolicyStatus.
//!
//! The bucket exists and the caller may: the access check has seen to that.

use std::sync::Arc;

use annulus_common::map::{Bucket, BucketChange};
use annulus_common::policy::{BucketPolicy, PolicyError};
use http::{Extensions, StatusCode};
use s3s::dto::{
    DeleteBucketPolicyInput, DeleteBucketPolicyOutput, GetBucketPolicyInput, GetBucketPolicyOutput,
    GetBucketPolicyStatusInput, GetBucketPolicyStatusOutput, PolicyStatus, PutBucketPolicyInput, PutBucketPolicyOutput,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::error::{detailed, s3_error, with_status};
use super::{Gateway, caller};

pub(super) async fn get_bucket_policy(
    gateway: &Gateway,
    req: S3Request<GetBucketPolicyInput>,
) -> S3Result<S3Response<GetBucketPolicyOutput>> {
    let bucket = own_bucket(gateway, &req.input.bucket, &req.extensions).await?;
    let none =
        || with_status(S3ErrorCode::NoSuchBucketPolicy, StatusCode::NOT_FOUND, "The bucket policy does not exist");
    let policy = bucket.config.policy.ok_or_else(none)?;
    let map = gateway.accounts.map().await?;
    let policy = policy.shown(|arn, id| map.name_now(arn, id));
    Ok(S3Response::new(GetBucketPolicyOutput { policy: Some(policy) }))
}

pub(super) async fn put_bucket_policy(
    gateway: &Gateway,
    req: S3Request<PutBucketPolicyInput>,
) -> S3Result<S3Response<PutBucketPolicyOutput>> {
    let bucket = own_bucket(gateway, &req.input.bucket, &req.extensions).await?;
    let input = req.input;
    let map = gateway.accounts.map().await?;
    let policy = BucketPolicy::parse(input.policy, &input.bucket).and_then(|policy| policy.about(|arn| map.whom(arn)));
    let policy = policy.map_err(|error| malformed(&error))?;
    drop(map);
    if policy.is_public() && bucket.config.public_access_block.is_some_and(|block| block.block_public_policy) {
        return Err(s3_error!(AccessDenied));
    }
    let change = BucketChange::Policy(Some(Arc::new(policy)));
    gateway.objects.configure_bucket(&input.bucket, &bucket, change).await.map_err(s3_error)?;
    Ok(S3Response::new(PutBucketPolicyOutput::default()))
}

pub(super) async fn delete_bucket_policy(
    gateway: &Gateway,
    req: S3Request<DeleteBucketPolicyInput>,
) -> S3Result<S3Response<DeleteBucketPolicyOutput>> {
    let bucket = own_bucket(gateway, &req.input.bucket, &req.extensions).await?;
    let change = BucketChange::Policy(None);
    gateway.objects.configure_bucket(&req.input.bucket, &bucket, change).await.map_err(s3_error)?;
    Ok(S3Response::new(DeleteBucketPolicyOutput::default()))
}

/// Says whether the bucket is open to everybody, by its policy or by its access control list. AWS says so of the policy
/// alone, and that there is none where there is none; clients that ask want to know of the bucket.
pub(super) async fn get_bucket_policy_status(
    gateway: &Gateway,
    req: S3Request<GetBucketPolicyStatusInput>,
) -> S3Result<S3Response<GetBucketPolicyStatusOutput>> {
    let config = gateway.objects.bucket(&req.input.bucket).await.map_err(s3_error)?.config;
    let by_policy = config.policy.as_ref().is_some_and(|policy| policy.is_public());
    let ignored = config.public_access_block.is_some_and(|block| block.ignore_public_acls);
    let is_public = by_policy || (config.acl.is_public() && !ignored);
    let policy_status = Some(PolicyStatus { is_public: Some(is_public) });
    Ok(S3Response::new(GetBucketPolicyStatusOutput { policy_status }))
}

/// S3 says which principal, action, resource or key it does not take.
fn malformed(error: &PolicyError) -> S3Error {
    let refusal = with_status(S3ErrorCode::MalformedPolicy, StatusCode::BAD_REQUEST, error.to_string());
    match error.detail() {
        Some(detail) => detailed(refusal, &[("Detail", detail)]),
        None => refusal,
    }
}

/// The bucket. Whomever its policy lets read or change itself: S3 takes that from nobody but the account that owns it.
async fn own_bucket(gateway: &Gateway, name: &str, extensions: &Extensions) -> S3Result<Bucket> {
    let bucket = gateway.objects.bucket(name).await.map_err(s3_error)?;
    if bucket.owner == caller(extensions)? { Ok(bucket) } else { Err(s3_error!(MethodNotAllowed)) }
}
