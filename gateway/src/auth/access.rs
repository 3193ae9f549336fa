//! Authorisation of S3 requests, before their bodies are read: who signed, whose bucket it is, and whether the request
//! asks only for what is built.

use annulus_common::acl::{BucketAcl, ObjectAcl};
use annulus_common::map::{Bucket, ClusterMap};
use annulus_common::object::UserId;
use http::HeaderMap;
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::{CopyObjectInput, CopySource, UploadPartCopyInput};
use s3s::{S3Error, S3Request, S3Result, s3_error};

use super::permission::needed;
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
        if !needed(cx.s3_op().name()).is_met(bucket, caller) {
            return Err(s3_error!(AccessDenied));
        }
        if let Some(bucket) = bucket {
            is_expected_owner(cx.headers(), "x-amz-expected-bucket-owner", bucket)?;
        }
        if caller == UserId::ANONYMOUS {
            check_anonymous(cx.headers(), cx.uri().query())?;
        }
        let built = built.ok_or_else(|| s3_error!(NotImplemented))?;
        subresource::check(cx.uri().query(), built.taken).map_err(misplaced)?;
        let is_built: fn(&str) -> bool = match cx.s3_path().get_object_key() {
            Some(_) => |name| ObjectAcl::named(name).is_some(),
            None => |name| BucketAcl::named(name).is_some(),
        };
        promise::check(cx.headers(), is_built).map_err(refused)?;
        cx.extensions_mut().insert(Caller { user: caller });
        Ok(())
    }

    async fn copy_object(&self, req: &mut S3Request<CopyObjectInput>) -> S3Result<()> {
        self.is_expected_source(&req.input.copy_source, &req.headers).await
    }

    async fn upload_part_copy(&self, req: &mut S3Request<UploadPartCopyInput>) -> S3Result<()> {
        self.is_expected_source(&req.input.copy_source, &req.headers).await
    }
}

impl Accounts {
    /// Whether the source's bucket is the one that the client means. Whether it may read the source is decided by the
    /// operation, which finds it.
    async fn is_expected_source(&self, source: &CopySource, headers: &HeaderMap) -> S3Result<()> {
        let CopySource::Bucket { bucket, .. } = source else { return Err(s3_error!(NotImplemented)) };
        let map = self.map().await?;
        let bucket = map.buckets.get(&**bucket).ok_or_else(|| s3_error!(NoSuchBucket))?;
        is_expected_owner(headers, "x-amz-source-expected-bucket-owner", bucket)
    }
}

/// Who signed: s3s verified the signature just now, or an earlier pass of the same request did. Or nobody did.
fn caller(map: &ClusterMap, cx: &mut S3AccessContext<'_>) -> S3Result<UserId> {
    let access_key = match cx.credentials() {
        Some(credentials) => credentials.access_key.clone(),
        None => match cx.extensions_mut().get::<VerifiedKey>() {
            Some(VerifiedKey(access_key)) => access_key.clone(),
            None => return Ok(UserId::ANONYMOUS),
        },
    };
    // It may have been revoked since its signature was verified.
    map.keys.get(&access_key).map(|key| key.user).ok_or_else(|| s3_error!(InvalidAccessKeyId))
}

/// The bucket that the request is about, but for the one that it makes.
fn existing_bucket<'a>(cx: &'a S3AccessContext<'_>) -> Option<&'a str> {
    cx.s3_path().get_bucket_name().filter(|_| cx.s3_op().name() != "CreateBucket")
}

/// What s3s does only for those who sign, and what S3 does only for them.
fn check_anonymous(headers: &HeaderMap, query: Option<&str>) -> S3Result<()> {
    let value = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let framed = value("x-amz-content-sha256").starts_with(b"STREAMING-")
        || value("content-encoding").split(|byte| *byte == b',').any(is_framing);
    if framed {
        // The body would be stored with its framing.
        return Err(s3_error!(NotImplemented, "Bodies in aws-chunked encoding must be signed"));
    }
    if query.unwrap_or_default().split('&').any(|pair| pair.starts_with("response-")) {
        return Err(s3_error!(
            InvalidRequest,
            "Request specific response headers cannot be used for anonymous GET requests."
        ));
    }
    Ok(())
}

fn is_framing(encoding: &[u8]) -> bool {
    encoding.trim_ascii().eq_ignore_ascii_case(b"aws-chunked")
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
