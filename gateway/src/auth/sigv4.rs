//! Verifies requests that carry a SigV4 signature in their `Authorization` header and do not go through s3s: `/upload`,
//! the admin API, and IAM's and STS's. See "Signature Calculations for the Authorization Header" in the S3 API reference.
//!
//! Only the head is judged. The payload's hash is part of what was signed, so the caller must compare the body with
//! [`Signed::payload`] when one was given. Signed chunks and presigned URLs are for S3 alone.

mod to_sign;

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use annulus_common::map::ClusterMap;
use annulus_common::object::UserId;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use http::request::Parts;
use http::{HeaderMap, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;
use time::macros::format_description;

pub(crate) use to_sign::to_sign;

/// How far the client's clock may be off.
pub const SKEW_MAX: Duration = Duration::from_secs(15 * 60);

/// What S3 leaves as it is in query keys and values.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What S3 leaves as it is in paths.
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What requests may be signed for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) regions: &'a [&'a str],
    pub(crate) service: &'a str,
}

/// A signature that holds, whoever has the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Verified {
    pub(crate) access_key: String,
    pub(crate) payload: SignedPayload,
}

/// A request whose signature holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    /// The account whose key signed.
    pub user: UserId,
    /// The key's public id.
    pub access_key: String,
    /// What was signed of the body.
    pub payload: SignedPayload,
}

/// What a signature says about the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignedPayload {
    /// Nothing.
    Unsigned,
    /// The body must have this SHA-256.
    Sha256([u8; 32]),
}

/// Why a signature does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("the request is not signed")]
    Missing,
    /// The headers that carry it cannot be read.
    #[error("the authorization headers are malformed")]
    Malformed,
    /// The key is not known.
    #[error("the access key does not exist")]
    UnknownKey,
    /// Signed for another region or service.
    #[error("the request is signed for another region or service")]
    WrongScope,
    /// The time of signing is too far from now.
    #[error("the request time differs too much from the server's time")]
    Skewed,
    /// Another secret, or another request.
    #[error("the signature does not match")]
    Mismatch,
    /// Something that changes the request's meaning is not covered by the signature.
    #[error("there are headers that were not signed")]
    UnsignedHeader,
    /// Sessions have no business here.
    #[error("the session token is not valid")]
    Token,
    /// The key is that of a user in an account: what is asked for is the account's own business.
    #[error("the access key is that of a user of an account, not the account's own")]
    NotAccount,
}

impl SignatureError {
    /// S3's error code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing | Self::UnsignedHeader | Self::NotAccount => "AccessDenied",
            Self::Malformed | Self::WrongScope => "AuthorizationHeaderMalformed",
            Self::UnknownKey => "InvalidAccessKeyId",
            Self::Skewed => "RequestTimeTooSkewed",
            Self::Mismatch => "SignatureDoesNotMatch",
            Self::Token => "InvalidToken",
        }
    }

    /// S3's status.
    pub fn status(self) -> http::StatusCode {
        match self {
            Self::Malformed | Self::WrongScope | Self::Token => http::StatusCode::BAD_REQUEST,
            _ => http::StatusCode::FORBIDDEN,
        }
    }
}

/// Whether a request claims to be signed in its header.
pub fn is_signed(headers: &HeaderMap) -> bool {
    headers.get(http::header::AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(ALGORITHM.as_bytes()))
}

/// Verifies the signature of a request's head, by a key of an account's own.
pub fn verify(map: &ClusterMap, region: &str, now_ms: u64, head: &Parts) -> Result<Signed, SignatureError> {
    if head.headers.contains_key("x-amz-security-token") {
        return Err(SignatureError::Token);
    }
    let scope = Scope { regions: &[region], service: "s3" };
    let secret_of = |access_key: &str| map.active_key(access_key).map(|key| key.secret.clone());
    let Verified { access_key, payload } = verify_in(scope, secret_of, now_ms, head, None)?;
    let key = map.active_key(&access_key).ok_or(SignatureError::UnknownKey)?;
    if key.iam_user.is_some() {
        return Err(SignatureError::NotAccount);
    }
    Ok(Signed { user: key.user, access_key, payload })
}

/// Verifies the signature of a request's head and, where it is here already, its body.
pub(crate) fn verify_in(
    scope: Scope<'_>,
    secret_of: impl Fn(&str) -> Option<String>,
    now_ms: u64,
    head: &Parts,
    body: Option<&[u8]>,
) -> Result<Verified, SignatureError> {
    let authorization = Authorization::parse(header(&head.headers, "authorization")?.ok_or(SignatureError::Missing)?)?;
    let (region, service) = (authorization.region, authorization.service);
    if !scope.regions.contains(&region) || scope.service != service {
        return Err(SignatureError::WrongScope);
    }
    let date = header(&head.headers, "x-amz-date")?.ok_or(SignatureError::Malformed)?;
    let signed_at =
        parse_date(date).filter(|_| date.starts_with(authorization.date)).ok_or(SignatureError::Malformed)?;
    if signed_at.abs_diff(now_ms / 1000) > SKEW_MAX.as_secs() {
        return Err(SignatureError::Skewed);
    }
    let secret = secret_of(authorization.access_key).ok_or(SignatureError::UnknownKey)?;
    covers_everything(&head.headers, &authorization.signed_headers)?;
    let payload_hash = match body {
        // Services other than S3 say nothing of the body in a header.
        Some(body) => hex::encode(Sha256::digest(body)),
        None => header(&head.headers, "x-amz-content-sha256")?.ok_or(SignatureError::Malformed)?.to_owned(),
    };
    let payload = parse_payload(&payload_hash)?;
    let time = UNIX_EPOCH + Duration::from_secs(signed_at);
    let signing_key = generate_signing_key(&secret, time, region, service);
    let mut signed = Vec::new();
    for name in &authorization.signed_headers {
        signed.push((*name, signed_value(&head.headers, name)?.ok_or(SignatureError::Mismatch)?));
    }
    // Clients sign the path as they send it, or as S3 would encode it.
    for path in [head.uri.path().to_owned(), canonical_path(head.uri.path())] {
        let request = canonical_request(&head.method, &path, head.uri.query(), &signed, &payload_hash);
        let text = string_to_sign(date, authorization.scope, &request);
        let signature = calculate_signature(&signing_key, text.as_bytes());
        if bool::from(signature.as_bytes().ct_eq(authorization.signature.as_bytes())) {
            return Ok(Verified { access_key: authorization.access_key.to_owned(), payload });
        }
    }
    Err(SignatureError::Mismatch)
}

/// `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, SignedHeaders=a;b, Signature=HEX`
struct Authorization<'a> {
    access_key: &'a str,
    /// From the date on.
    scope: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(text: &'a str) -> Result<Self, SignatureError> {
        let fields = text.strip_prefix(ALGORITHM).ok_or(SignatureError::Missing)?;
        let field = |name: &str| {
            let mut values = fields.split(',').filter_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
            values.next().ok_or(SignatureError::Malformed)
        };
        let (access_key, scope) = field("Credential")?.split_once('/').ok_or(SignatureError::Malformed)?;
        let [date, region, service, "aws4_request"] = scope.split('/').collect::<Vec<_>>()[..] else {
            return Err(SignatureError::Malformed);
        };
        let signed_headers = field("SignedHeaders")?.split(';').collect();
        Ok(Self { access_key, scope, date, region, service, signed_headers, signature: field("Signature")? })
    }
}

/// The one value of a header; two are ambiguous.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, SignatureError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => std::str::from_utf8(value.as_bytes()).map(Some).map_err(|_| SignatureError::Malformed),
        (Some(_), Some(_)) => Err(SignatureError::Malformed),
    }
}

/// Unix seconds of `20150830T123600Z`.
pub(super) fn parse_date(text: &str) -> Option<u64> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = time::PrimitiveDateTime::parse(text, format).ok()?;
    u64::try_from(OffsetDateTime::unix_timestamp(time.assume_utc())).ok()
}

fn parse_payload(text: &str) -> Result<SignedPayload, SignatureError> {
    if text == "UNSIGNED-PAYLOAD" {
        return Ok(SignedPayload::Unsigned);
    }
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).map_err(|_| SignatureError::Malformed)?;
    Ok(SignedPayload::Sha256(hash))
}

fn covers_everything(headers: &HeaderMap, signed: &[&str]) -> Result<(), SignatureError> {
    let is_signed = |name: &str| signed.contains(&name);
    let all_signed =
        headers.keys().map(http::HeaderName::as_str).all(|name| !name.starts_with("x-amz-") || is_signed(name));
    if all_signed && is_signed("host") { Ok(()) } else { Err(SignatureError::UnsignedHeader) }
}

/// A header's values as they are signed; nothing where there is none.
fn signed_value(headers: &HeaderMap, name: &str) -> Result<Option<String>, SignatureError> {
    let mut values = Vec::new();
    for value in headers.get_all(name) {
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| SignatureError::Malformed)?;
        values.push(value.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
    }
    Ok((!values.is_empty()).then(|| values.join(",")))
}

fn canonical_request(
    method: &Method,
    path: &str,
    query: Option<&str>,
    signed: &[(&str, String)],
    payload_hash: &str,
) -> String {
    let headers: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
    format!("{method}\n{path}\n{}\n{headers}\n{}\n{payload_hash}", canonical_query(query), names.join(";"))
}

fn string_to_sign(date: &str, scope: &str, canonical_request: &str) -> String {
    format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical_request)))
}

fn canonical_path(path: &str) -> String {
    percent_encoding::percent_encode(&percent_decode_str(path).collect::<Vec<u8>>(), PATH).to_string()
}

fn canonical_query(query: Option<&str>) -> String {
    let mut pairs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.entry(recode(key)).or_default().push(recode(value));
    }
    let mut fields = Vec::new();
    for (key, mut values) in pairs {
        values.sort();
        fields.extend(values.into_iter().map(|value| format!("{key}={value}")));
    }
    fields.join("&")
}

fn recode(text: &str) -> String {
    utf8_percent_encode(&percent_decode_str(text).decode_utf8_lossy(), UNRESERVED).to_string()
}

#[cfg(test)]
mod tests;
