//! Authorisation of S3 requests, before their bodies are read: who signed, whose bucket it is, and whether the request
//! asks only for what is built.

use annulus_common::clock::SharedClock;
use annulus_common::ids::AccountNumber;
use annulus_common::map::{Bucket, ClusterMap};
use annulus_common::object::UserId;
use annulus_common::policy::Principal;
use http::request::Parts;
use http::{Extensions, HeaderMap, Uri};
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::{CopyObjectInput, CopySource, UploadPartCopyInput};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};

use super::action::{Action, Judged, Rule, accompanying, accompanying_creation, rule};
use super::copy_source;
use super::facts::{self, Head};
use super::promise::{self, Broken};
use super::subresource::{self, Misplaced};
use super::{Access, Accounts, Caller, Operation, Resource, Signature, bucket_arn, session_token};
use crate::detail::detailed;
use crate::query;
use crate::request::Peer;

/// Canonical ids, in hexadecimal digits.
const CANONICAL_ID_CHARS: usize = 64;

/// Stands in front of all S3 operations.
#[derive(Clone)]
pub(crate) struct Gatekeeper {
    accounts: Accounts,
    clock: SharedClock,
    region: String,
}

#[async_trait::async_trait]
impl S3Access for Gatekeeper {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let built = subresource::built(cx.s3_op().name());
        if let (Some(built), Some(operation)) = (built, cx.extensions_mut().get::<Operation>()) {
            operation.name_it(built.operation);
        }
        let map = self.accounts.map().await?;
        let (signature, peer) = (signature(cx), cx.extensions_mut().get::<Peer>().copied());
        let operation = cx.extensions_mut().get::<Operation>().cloned();
        // S3 says that a bucket does not exist before it asks who wants to know.
        let bucket = match existing_bucket(cx) {
            Some(name) => Some((name, map.buckets.get(name).ok_or_else(|| s3_error!(NoSuchBucket))?)),
            None => None,
        };
        let rule = rule(cx.s3_op().name()).ok_or_else(|| s3_error!(NotImplemented))?;
        let access = self.access(&map, rule, signature.as_ref(), peer, cx)?;
        if let Some(operation) = operation {
            operation.ask(&access, signature.as_ref());
        }
        judge(&access, rule, bucket, cx)?;
        if let Some((_, bucket)) = bucket {
            is_expected_owner(cx.headers(), "x-amz-expected-bucket-owner", bucket)?;
        }
        if let Some((_, bucket)) = bucket.filter(|(_, bucket)| must_pay(bucket, access.user())) {
            agrees_to_pay(bucket, access.user(), cx.headers(), Some(cx.uri()))?;
            if let Some(operation) = cx.extensions_mut().get::<Operation>() {
                operation.charge();
            }
        }
        if access.user() == UserId::ANONYMOUS {
            check_anonymous(cx.headers(), cx.uri())?;
        }
        let built = built.ok_or_else(|| s3_error!(NotImplemented))?;
        subresource::check(cx.uri().query(), built.taken).map_err(misplaced)?;
        promise::check(cx.headers(), cx.s3_op().name()).map_err(refused)?;
        promise::check_numbers(cx.headers()).map_err(refused)?;
        cx.extensions_mut().insert(access);
        Ok(())
    }

    async fn copy_object(&self, req: &mut S3Request<CopyObjectInput>) -> S3Result<()> {
        req.input.copy_source = copy_source::of_request(&req.headers, &req.input.copy_source)?;
        self.is_expected_source(&req.input.copy_source, user(&req.extensions), &req.headers).await
    }

    async fn upload_part_copy(&self, req: &mut S3Request<UploadPartCopyInput>) -> S3Result<()> {
        req.input.copy_source = copy_source::of_request(&req.headers, &req.input.copy_source)?;
        self.is_expected_source(&req.input.copy_source, user(&req.extensions), &req.headers).await
    }
}

impl Gatekeeper {
    /// For the gateway of a region.
    pub(crate) fn new(accounts: Accounts, clock: SharedClock, region: String) -> Self {
        Self { accounts, clock, region }
    }

    /// Who asks, with what is known of the request.
    fn access(
        &self,
        map: &ClusterMap,
        rule: Rule,
        signature: Option<&Signature>,
        peer: Option<Peer>,
        cx: &S3AccessContext<'_>,
    ) -> S3Result<Access> {
        let caller = self.caller(map, signature, cx)?;
        let head = Head {
            operation: cx.s3_op().name(),
            headers: cx.headers(),
            uri: cx.uri(),
            peer,
            signature,
            region: &self.region,
            now_ms: self.clock.now_ms(),
        };
        let context = facts::facts(&caller, &head);
        Ok(Access::new(caller, rule.action, context))
    }

    /// Who signed, or nobody.
    fn caller(&self, map: &ClusterMap, signature: Option<&Signature>, cx: &S3AccessContext<'_>) -> S3Result<Caller> {
        let Some(signature) = signature else {
            // A token without a signature proves nothing.
            return match session_token(cx.uri(), cx.headers()) {
                Some(_) => Err(s3_error!(InvalidToken)),
                None => Ok(Caller::unbounded(Principal::Anonymous)),
            };
        };
        // It may have been revoked since its signature was verified.
        let (sessions, now_ms) = (self.accounts.sessions(), self.clock.now_ms());
        Ok(Caller::identify(map, sessions, now_ms, &signature.access_key, signature.token.as_deref())?)
    }

    /// Whether the source's bucket is the one that the client means. Whether it may read the source is decided by the
    /// operation, which finds it.
    async fn is_expected_source(&self, source: &CopySource, caller: UserId, headers: &HeaderMap) -> S3Result<()> {
        let CopySource::Bucket { bucket, .. } = source else { return Err(s3_error!(NotImplemented)) };
        let map = self.accounts.map().await?;
        let missing = || detailed(s3_error!(NoSuchBucket), &[("BucketName", bucket)]);
        let bucket = map.buckets.get(&**bucket).ok_or_else(missing)?;
        is_expected_owner(headers, "x-amz-source-expected-bucket-owner", bucket)?;
        agrees_to_pay(bucket, caller, headers, None)
    }
}

/// Who asks beside S3, as the account that it is taken for, with what an operation of S3's would know of the request.
pub(crate) fn access_of_account(
    account: UserId,
    (operation, action): (&'static str, Action),
    signature: Option<&Signature>,
    request: &Parts,
    (region, now_ms): (&str, u64),
) -> Access {
    let caller = Caller::unbounded(Principal::Account { id: account });
    let peer = request.extensions.get::<Peer>().copied();
    let (headers, uri) = (&request.headers, &request.uri);
    let head = Head { operation, headers, uri, peer, signature, region, now_ms };
    let context = facts::facts(&caller, &head);
    Access::new(caller, action, context)
}

/// The signature that s3s verified just now, or in an earlier pass of the same request.
fn signature(cx: &mut S3AccessContext<'_>) -> Option<Signature> {
    match cx.credentials() {
        Some(credentials) => Some(Signature::of_request(&credentials.access_key, cx.uri(), cx.headers())),
        None => cx.extensions_mut().get::<Signature>().cloned(),
    }
}

/// Judges what can be judged before the operation looks at anything.
fn judge(access: &Access, rule: Rule, bucket: Option<(&str, &Bucket)>, cx: &S3AccessContext<'_>) -> S3Result {
    let signed = access.user() != UserId::ANONYMOUS;
    if !signed && matches!(rule.judged, Judged::BeforeSigned | Judged::FoundSigned) {
        return Err(s3_error!(AccessDenied));
    }
    let Some((name, bucket)) = bucket else {
        // To list one's buckets or to make one is every account's right, and its users' who are given it; nothing else is
        // about no bucket.
        return if signed { judge_in_account(access, rule, cx) } else { Err(s3_error!(AccessDenied)) };
    };
    if matches!(rule.judged, Judged::Found | Judged::FoundSigned) {
        return Ok(());
    }
    let Some(key) = cx.s3_path().get_object_key() else {
        return access.check(rule.action, &Resource::bucket(name, bucket));
    };
    let of_version = query::has(cx.uri().query(), "versionId");
    access.check(rule.action, &Resource::key(name, bucket, key).of_version(of_version))?;
    let made = Resource::made(name, bucket, key, bucket.object_owner(access.user()));
    accompanying(cx.s3_op().name(), cx.headers()).into_iter().try_for_each(|action| access.check(action, &made))
}

/// Judges what is about no bucket that is there.
fn judge_in_account(access: &Access, rule: Rule, cx: &S3AccessContext<'_>) -> S3Result {
    let made = cx.s3_path().get_bucket_name();
    let arn = bucket_arn(made.unwrap_or("*"));
    let more = if made.is_some() { accompanying_creation(cx.headers()) } else { Vec::new() };
    let own = (rule.judged != Judged::FoundSigned).then_some(rule.action.name);
    own.into_iter().chain(more).try_for_each(|action| access.check_in_account(action, &arn, Vec::new()))
}

/// The bucket that the request is about, but for the one that it makes.
fn existing_bucket<'a>(cx: &'a S3AccessContext<'_>) -> Option<&'a str> {
    cx.s3_path().get_bucket_name().filter(|_| cx.s3_op().name() != "CreateBucket")
}

/// What s3s does only for those who sign, and what S3 does only for them.
fn check_anonymous(headers: &HeaderMap, uri: &Uri) -> S3Result<()> {
    let value = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let framed = value("x-amz-content-sha256").starts_with(b"STREAMING-")
        || value("content-encoding").split(|byte| *byte == b',').any(is_framing);
    if framed {
        // The body would be stored with its framing.
        return Err(s3_error!(NotImplemented, "Bodies in aws-chunked encoding must be signed"));
    }
    if query::pairs(uri.query()).any(|(name, _)| name.starts_with("response-")) {
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
    // S3 takes the account's number; clients of other systems send the canonical id, which is what listings show.
    let names = [bucket.owner.number().to_string(), bucket.owner.to_string()];
    for value in headers.get_all(name) {
        let value = String::from_utf8_lossy(value.as_bytes());
        if !is_account(&value) {
            return Err(invalid_owner(&value));
        }
        if !names.iter().any(|name| *name == value) {
            return Err(s3_error!(AccessDenied));
        }
    }
    Ok(())
}

/// See "Verifying bucket ownership with bucket owner condition" in the S3 user guide.
fn invalid_owner(value: &str) -> S3Error {
    let message = format!("The value of the expected bucket owner parameter must be an AWS Account ID... [{value}]");
    let mut error = S3Error::with_message(S3ErrorCode::Custom("InvalidBucketOwnerAWSAccountID".into()), message);
    error.set_status_code(http::StatusCode::BAD_REQUEST);
    error
}

/// Whether that can be the name of an account: a number, or what begins as canonical ids do (ceph/s3-tests names another account
/// by letters behind one, and wants it to be taken for somebody else).
fn is_account(name: &str) -> bool {
    let canonical = name.len().min(CANONICAL_ID_CHARS);
    AccountNumber::parse(name).is_some() || name.get(..canonical).is_some_and(|id| UserId::parse(id).is_some())
}

/// Whether the caller is the one who pays: everyone but the bucket's owner, where the owner has said so.
fn must_pay(bucket: &Bucket, caller: UserId) -> bool {
    bucket.config.requester_pays && caller != bucket.owner
}

/// Whoever pays must say so, and be known. See "Using Requester Pays general purpose buckets" in the S3 user guide.
fn agrees_to_pay(bucket: &Bucket, caller: UserId, headers: &HeaderMap, uri: Option<&Uri>) -> S3Result<()> {
    let in_header = headers.get("x-amz-request-payer").is_some_and(|payer| payer.as_bytes() == b"requester");
    let in_query = query::pairs(uri.and_then(Uri::query))
        .any(|(name, payer)| name.eq_ignore_ascii_case("x-amz-request-payer") && payer == "requester");
    let agrees = caller != UserId::ANONYMOUS && (in_header || in_query);
    if agrees || !must_pay(bucket, caller) { Ok(()) } else { Err(s3_error!(AccessDenied)) }
}

/// Who asks, as [`S3Access::check`] found out.
fn user(extensions: &Extensions) -> UserId {
    extensions.get::<Access>().map_or(UserId::ANONYMOUS, Access::user)
}

fn misplaced(misplaced: Misplaced) -> S3Error {
    match misplaced {
        Misplaced::Operation => s3_error!(NotImplemented),
        Misplaced::Argument(name) => {
            let error = s3_error!(InvalidArgument, "This operation does not accept the parameter {name}");
            detailed(error, &[("ArgumentName", name)])
        }
    }
}

fn refused(broken: Broken) -> S3Error {
    match broken {
        Broken::NotBuilt(header) => detailed(s3_error!(NotImplemented), &[("Header", &header)]),
        Broken::NoNumber(name) => {
            let error = s3_error!(InvalidArgument, "The header {name} must be a whole number.");
            detailed(error, &[("ArgumentName", name)])
        }
    }
}
