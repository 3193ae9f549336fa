//! Authorisation of S3 requests, before their bodies are read: who signed, whose bucket it is, and whether the request
//! asks only for what is built.

use annulus_common::map::{Bucket, ClusterMap};
use annulus_common::object::UserId;
use http::HeaderMap;
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::{CopyObjectInput, CopySource, UploadPartCopyInput};
use s3s::{S3Error, S3Request, S3Result, s3_error};

use super::promise::{self, Refused};
use super::subresource::{self, Misplaced};
use super::{Accounts, Caller, Operation, VerifiedKey};

#[async_trait::async_trait]
impl S3Access for Accounts {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let built = subresource::built(cx.s3_op().name());
        if let (Some(built), Some(operation)) = (built, cx.extensions_mut().get::<Operation>()) {
            operation.name_it(built.operation);
        }
        let map = self.map().await?;
        refuse_session_token(cx)?;
        // S3 says that a bucket does not exist before it asks who wants to know.
        let bucket = match existing_bucket(cx) {
            Some(name) => Some(map.buckets.get(name).ok_or_else(|| s3_error!(NoSuchBucket))?),
            None => None,
        };
        let caller = caller(&map, cx)?;
        if let Some(bucket) = bucket {
            may_use(bucket, caller)?;
            is_expected_owner(cx.headers(), "x-amz-expected-bucket-owner", bucket)?;
        }
        let built = built.ok_or_else(|| s3_error!(NotImplemented))?;
        subresource::check(cx.uri().query(), built.taken).map_err(misplaced)?;
        promise::check(cx.headers()).map_err(refused)?;
        cx.extensions_mut().insert(Caller { user: caller });
        Ok(())
    }

    async fn copy_object(&self, req: &mut S3Request<CopyObjectInput>) -> S3Result<()> {
        self.may_copy_from(&req.input.copy_source, &req.headers, req.extensions.get()).await
    }

    async fn upload_part_copy(&self, req: &mut S3Request<UploadPartCopyInput>) -> S3Result<()> {
        self.may_copy_from(&req.input.copy_source, &req.headers, req.extensions.get()).await
    }
}

impl Accounts {
    async fn may_copy_from(&self, source: &CopySource, headers: &HeaderMap, caller: Option<&Caller>) -> S3Result<()> {
        let CopySource::Bucket { bucket, .. } = source else { return Err(s3_error!(NotImplemented)) };
        let caller = caller.ok_or_else(|| s3_error!(AccessDenied))?;
        let map = self.map().await?;
        let bucket = map.buckets.get(&**bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        may_use(bucket, caller.user)?;
        is_expected_owner(headers, "x-amz-source-expected-bucket-owner", bucket)
    }
}

/// Who signed: s3s verified the signature just now, or an earlier pass of the same request did.
fn caller(map: &ClusterMap, cx: &mut S3AccessContext<'_>) -> S3Result<UserId> {
    let access_key = match cx.credentials() {
        Some(credentials) => credentials.access_key.clone(),
        None => match cx.extensions_mut().get::<VerifiedKey>() {
            Some(VerifiedKey(access_key)) => access_key.clone(),
            None => return Err(s3_error!(AccessDenied)),
        },
    };
    // It may have been revoked since its signature was verified.
    map.keys.get(&access_key).map(|key| key.user).ok_or_else(|| s3_error!(InvalidAccessKeyId))
}

/// The bucket that the request is about, but for the one that it makes.
fn existing_bucket<'a>(cx: &'a S3AccessContext<'_>) -> Option<&'a str> {
    cx.s3_path().get_bucket_name().filter(|_| cx.s3_op().name() != "CreateBucket")
}

/// The rule: a bucket and all that is in it is its owner's alone.
fn may_use(bucket: &Bucket, caller: UserId) -> S3Result<()> {
    if bucket.owner == caller { Ok(()) } else { Err(s3_error!(AccessDenied)) }
}

fn is_expected_owner(headers: &HeaderMap, name: &str, bucket: &Bucket) -> S3Result<()> {
    let owner = bucket.owner.to_string();
    let expected = headers.get_all(name).iter().all(|value| value.as_bytes() == owner.as_bytes());
    if expected { Ok(()) } else { Err(s3_error!(AccessDenied)) }
}

/// No sessions are handed out, so a session's token is never valid.
fn refuse_session_token(cx: &S3AccessContext<'_>) -> S3Result<()> {
    let in_query = cx.uri().query().is_some_and(|query| {
        query
            .split('&')
            .any(|pair| pair.split('=').next().is_some_and(|key| key.eq_ignore_ascii_case("x-amz-security-token")))
    });
    if in_query || cx.headers().contains_key("x-amz-security-token") { Err(s3_error!(InvalidToken)) } else { Ok(()) }
}

fn misplaced(misplaced: Misplaced) -> S3Error {
    match misplaced {
        Misplaced::Operation => s3_error!(NotImplemented),
        Misplaced::Argument(name) => s3_error!(InvalidArgument, "This operation does not accept the parameter {name}"),
    }
}

fn refused(refused: Refused) -> S3Error {
    match refused {
        Refused::NotBuilt(header) => {
            s3_error!(NotImplemented, "The header {header} implies functionality that is not implemented")
        }
        Refused::UnknownAcl => s3_error!(InvalidArgument, "Unknown canned ACL"),
    }
}
