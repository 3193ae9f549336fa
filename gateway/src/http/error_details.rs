//! What an error says beside its code, message, resource and ids: which bucket, key, argument or condition it is about. See
//! "Error responses" in the S3 API reference; clients decide by these elements, not by messages. Most of them stand in the
//! request. What only the operation knows comes with its error as [`DETAILS`].

use http::{HeaderMap, HeaderName, Method, Uri};
use percent_encoding::percent_decode_str;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::addressing::{Addressing, Target};
use super::errors::Place;
use super::watched::Kept;
use crate::auth::{Operation, sigv4};
use crate::detail::{CHUNK_SIGNATURE, DETAILS};
use crate::object::KEY_BYTES_MAX;
use crate::request::RequestId;

/// How far a request's time may be from ours: s3s's default, and S3's.
const SKEW_MS_MAX: u32 = 15 * 60 * 1_000;

/// Conditions by their headers, as S3 spells them; of several the first is the one that S3 looks at first.
const CONDITIONS: &[(&str, &str)] = &[
    ("if-match", "If-Match"),
    ("if-unmodified-since", "If-Unmodified-Since"),
    ("if-none-match", "If-None-Match"),
    ("if-modified-since", "If-Modified-Since"),
    ("x-amz-if-match-size", "x-amz-if-match-size"),
    ("x-amz-if-match-last-modified-time", "x-amz-if-match-last-modified-time"),
];

/// What was asked, kept for the case that an error has to speak of it.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) uri: Uri,
    headers: HeaderMap,
    /// Its body, if it is small and its digest was said.
    kept: Option<Kept>,
}

/// What s3s says, as S3 does, of headers that a signature leaves out.
const NOT_SIGNED: &str = "There were headers present in the request which were not signed";

/// An element's name and text.
type Detail = (String, String);

impl Asked {
    pub(super) fn new(method: &Method, uri: &Uri, headers: &HeaderMap, kept: Option<Kept>) -> Self {
        Self { method: method.clone(), uri: uri.clone(), headers: headers.clone(), kept }
    }

    /// Where an error happened.
    pub(super) fn place<'a>(
        &'a self,
        operation: &'a Operation,
        request_id: &'a RequestId,
        host_id: &'a str,
    ) -> Place<'a> {
        Place { resource: self.uri.path(), operation: operation.name(), request_id: &request_id.0, host_id }
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    fn query(&self, name: &str) -> Option<String> {
        let mut pairs = self.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| decode(key) == name).map(|(_, value)| decode(&value.replace('+', " ")))
    }

    /// Whose signature it is. See "Authenticating requests" in the S3 API reference.
    fn access_key(&self) -> Option<String> {
        let credential = match self.header("authorization") {
            Some(header) => header.split_once("Credential=").map(|(_, rest)| rest.to_owned())?,
            None => self.query("X-Amz-Credential")?,
        };
        credential.split('/').next().map(str::to_owned)
    }

    fn signature(&self) -> Option<String> {
        match self.header("authorization") {
            Some(header) => Some(header.split_once("Signature=")?.1.split(',').next()?.trim().to_owned()),
            None => self.query("X-Amz-Signature"),
        }
    }

    fn time(&self) -> Option<String> {
        self.header("x-amz-date").or_else(|| self.query("X-Amz-Date")).or_else(|| self.header("date"))
    }
}

/// The error's elements, in order: what the operation told, then what follows from the request.
pub(super) fn details(
    code: &str,
    message: &str,
    asked: &Asked,
    reply: &HeaderMap,
    addressing: &Addressing,
    now_ms: u64,
) -> Vec<Detail> {
    let mut details = told(reply);
    let about = About { asked, reply, target: addressing.target(&asked.headers, &asked.uri), now_ms };
    for (name, text) in about.derived(code, message) {
        let Some(text) = text else { continue };
        if !details.iter().any(|(known, _)| known == name) {
            details.push((name.to_owned(), text));
        }
    }
    let named = details.iter().find(|(name, _)| name == "ArgumentName").map(|(_, argument)| argument.clone());
    if let Some(argument) = named.filter(|_| !details.iter().any(|(name, _)| name == "ArgumentValue")) {
        let value = asked.query(&argument).or_else(|| asked.header(&argument));
        details.extend(value.map(|value| ("ArgumentValue".to_owned(), value)));
    }
    details
}

/// What came with the error.
fn told(reply: &HeaderMap) -> Vec<Detail> {
    let pairs = reply.get_all(DETAILS).into_iter().filter_map(|value| value.to_str().ok()?.split_once('='));
    pairs.map(|(name, text)| (name.to_owned(), decode(text))).collect()
}

/// A request and its reply, for one code after the other.
struct About<'a> {
    asked: &'a Asked,
    reply: &'a HeaderMap,
    target: Target,
    now_ms: u64,
}

impl About<'_> {
    /// What the request says about an error of that code. Nothing where it does not say it.
    fn derived(&self, code: &str, message: &str) -> Vec<(&'static str, Option<String>)> {
        let asked = self.asked;
        match code {
            "NoSuchKey" => vec![("Key", self.key())],
            "NoSuchVersion" => vec![("Key", self.key()), ("VersionId", self.version())],
            "NoSuchUpload" | "InvalidPart" | "InvalidPartOrder" => vec![("UploadId", asked.query("uploadId"))],
            "KeyTooLongError" => vec![
                ("Size", Some(decode_bytes(&self.target.key).to_string())),
                ("MaxSizeAllowed", Some(KEY_BYTES_MAX.to_string())),
            ],
            "PreconditionFailed" => vec![("Condition", self.condition())],
            "InvalidRange" => vec![
                ("RangeRequested", asked.header("range").or_else(|| asked.header("x-amz-copy-source-range"))),
                ("ActualObjectSize", self.actual_size()),
            ],
            "MethodNotAllowed" => {
                vec![
                    ("Method", Some(asked.method.to_string())),
                    ("ResourceType", Some(self.resource_type().to_owned())),
                ]
            }
            "InvalidAccessKeyId" => vec![("AWSAccessKeyId", asked.access_key())],
            "SignatureDoesNotMatch" => self.signature(message),
            "RequestTimeTooSkewed" => vec![
                ("RequestTime", asked.time()),
                ("ServerTime", iso(self.now_ms)),
                ("MaxAllowedSkewMilliseconds", Some(SKEW_MS_MAX.to_string())),
            ],
            "AccessDenied" if message == "Request has expired" => self.expiry(),
            "AccessDenied" if message == NOT_SIGNED => vec![("HeadersNotSigned", self.not_signed())],
            "AuthorizationHeaderMalformed" => vec![("Region", quoted_behind(message, "expecting "))],
            "InvalidStorageClass" => vec![("StorageClassRequested", asked.header("x-amz-storage-class"))],
            "InvalidDigest" => vec![("Content-MD5", asked.header("content-md5"))],
            "XAmzContentSHA256Mismatch" => vec![
                ("ClientComputedContentSHA256", asked.header("x-amz-content-sha256")),
                ("S3ComputedContentSHA256", asked.kept.as_ref().and_then(Kept::sha256)),
            ],
            // s3s's own: "invalid query: max-keys: many".
            "InvalidArgument" => vec![("ArgumentName", misread(message))],
            "EntityTooLarge" => vec![("ProposedSize", self.proposed_size())],
            code if is_about_bucket(code) => vec![("BucketName", self.target.bucket.clone())],
            _ => Vec::new(),
        }
    }

    /// The key: of a copy, or a renaming, it is the source that is missing.
    fn key(&self) -> Option<String> {
        match self.asked.header("x-amz-copy-source").or_else(|| self.asked.header("x-amz-rename-source")) {
            Some(source) => {
                let path = source.split('?').next()?.trim_start_matches('/').replace('+', " ");
                decode(&path).split_once('/').map(|(_, key)| key.to_owned())
            }
            None => Some(decode(&self.target.key)),
        }
    }

    fn version(&self) -> Option<String> {
        match self.asked.header("x-amz-copy-source") {
            Some(source) => source.split_once("?versionId=").map(|(_, version)| decode(version)),
            None => self.asked.query("versionId"),
        }
    }

    fn condition(&self) -> Option<String> {
        let condition = CONDITIONS.iter().find(|(header, _)| self.asked.headers.contains_key(*header));
        condition.map(|(_, condition)| (*condition).to_owned())
    }

    /// `Content-Range: bytes */SIZE`.
    fn actual_size(&self) -> Option<String> {
        let range = self.reply.get(http::header::CONTENT_RANGE)?.to_str().ok()?;
        range.strip_prefix("bytes */").map(str::to_owned)
    }

    fn resource_type(&self) -> &'static str {
        if self.reply.contains_key("x-amz-delete-marker") {
            "DeleteMarker"
        } else if self.target.bucket.is_none() {
            "SERVICE"
        } else if self.target.key.is_empty() {
            "BUCKET"
        } else {
            "OBJECT"
        }
    }

    /// The headers of S3's own that the client forgot to sign. That of the body's digest is part of what is signed in any case.
    fn not_signed(&self) -> Option<String> {
        let signed = match self.asked.header("authorization") {
            Some(header) => header.split_once("SignedHeaders=")?.1.split(',').next()?.trim().to_owned(),
            None => self.asked.query("X-Amz-SignedHeaders")?,
        };
        let signed: Vec<&str> = signed.split(';').collect();
        let is_signed = |name: &str| signed.iter().any(|signed| signed.eq_ignore_ascii_case(name));
        let of_s3 = self.asked.headers.keys().map(HeaderName::as_str).filter(|name| name.starts_with("x-amz-"));
        let mut names: Vec<&str> = of_s3.filter(|name| *name != "x-amz-content-sha256" && !is_signed(name)).collect();
        names.sort_unstable();
        (!names.is_empty()).then(|| names.join(", "))
    }

    fn proposed_size(&self) -> Option<String> {
        self.asked.header("x-amz-decoded-content-length").or_else(|| self.asked.header("content-length"))
    }

    /// What the client should have signed, as text and byte by byte. Of a chunk it is not known here.
    fn signature(&self, message: &str) -> Vec<(&'static str, Option<String>)> {
        let key = ("AWSAccessKeyId", self.asked.access_key());
        if message == CHUNK_SIGNATURE {
            return vec![key];
        }
        let to_sign = sigv4::to_sign(&self.asked.method, &self.asked.uri, &self.asked.headers);
        let (string, request) = to_sign.map(|to_sign| (to_sign.string, to_sign.canonical_request)).unzip();
        let request = request.flatten();
        vec![
            key,
            ("StringToSign", string.clone()),
            ("SignatureProvided", self.asked.signature()),
            ("StringToSignBytes", string.as_deref().map(bytes_of)),
            ("CanonicalRequest", request.clone()),
            ("CanonicalRequestBytes", request.as_deref().map(bytes_of)),
        ]
    }

    /// Of a presigned URL.
    fn expiry(&self) -> Vec<(&'static str, Option<String>)> {
        let (from, seconds) = (self.asked.query("X-Amz-Date"), self.asked.query("X-Amz-Expires"));
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let from = from.and_then(|from| PrimitiveDateTime::parse(&from, format).ok());
        let until = from.zip(seconds.as_ref().and_then(|seconds| seconds.parse::<i64>().ok()));
        let until = until.and_then(|(from, seconds)| from.assume_utc().checked_add(time::Duration::seconds(seconds)));
        vec![
            ("X-Amz-Expires", seconds),
            ("Expires", until.and_then(|until| until.format(&Rfc3339).ok())),
            ("ServerTime", iso(self.now_ms)),
        ]
    }
}

/// Errors that name the bucket: it, or what is configured of it, is missing, taken or not empty.
fn is_about_bucket(code: &str) -> bool {
    let of_bucket = [
        "NoSuchBucket",
        "NoSuchBucketPolicy",
        "NoSuchTagSet",
        "NoSuchCORSConfiguration",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "NoSuchWebsiteConfiguration",
        "ObjectLockConfigurationNotFoundError",
        "OwnershipControlsNotFoundError",
        "ReplicationConfigurationNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
        "BucketAlreadyExists",
        "BucketAlreadyOwnedByYou",
        "BucketNotEmpty",
        "InvalidBucketName",
    ];
    of_bucket.contains(&code)
}

fn quoted_behind(message: &str, words: &str) -> Option<String> {
    let (_, rest) = message.split_once(words)?;
    rest.trim_start_matches('\'').split('\'').next().map(str::to_owned)
}

/// The argument that s3s could not read.
fn misread(message: &str) -> Option<String> {
    let rest = message.strip_prefix("invalid query: ").or_else(|| message.strip_prefix("invalid header: "))?;
    rest.split(':').next().map(str::to_owned)
}

/// Hexadecimal digits of each byte, as S3 shows what cannot be seen in a text.
pub(super) fn bytes_of(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn iso(ms: u64) -> Option<String> {
    let seconds = i64::try_from(ms / 1_000).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(&Rfc3339).ok()
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn decode_bytes(text: &str) -> usize {
    percent_decode_str(text).count()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

    use super::{Addressing, Asked, DETAILS, NOT_SIGNED, details};

    fn of(code: &str, message: &str, uri: &str, headers: &[(&'static str, &'static str)], reply: &HeaderMap) -> String {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let uri: Uri = uri.parse().expect("a path");
        let asked = Asked::new(&Method::PUT, &uri, &headers.collect(), None);
        let details = details(code, message, &asked, reply, &Addressing::new(&[]), 1_000_000_000_000);
        details.into_iter().map(|(name, text)| format!("{name}={text};")).collect()
    }

    fn plain(code: &str, uri: &str, headers: &[(&'static str, &'static str)]) -> String {
        of(code, "", uri, headers, &HeaderMap::new())
    }

    #[test]
    fn an_error_names_what_is_missing() {
        assert_eq!(plain("NoSuchBucket", "/b/k", &[]), "BucketName=b;");
        assert_eq!(plain("NoSuchKey", "/b/a%20%3Cb%3E", &[]), "Key=a <b>;");
        assert_eq!(plain("NoSuchKey", "/b/k", &[("x-amz-copy-source", "/from/a+b%2B?versionId=1")]), "Key=a b+;");
        assert_eq!(plain("NoSuchVersion", "/b/k?versionId=17", &[]), "Key=k;VersionId=17;");
        assert_eq!(plain("NoSuchUpload", "/b/k?uploadId=a%2Bb&partNumber=1", &[]), "UploadId=a+b;");
        assert_eq!(plain("InternalError", "/b/k", &[]), "");
    }

    #[test]
    fn an_error_names_what_did_not_hold() {
        assert_eq!(plain("PreconditionFailed", "/b/k", &[("if-none-match", "*")]), "Condition=If-None-Match;");
        assert_eq!(plain("InvalidDigest", "/b/k", &[("content-md5", "x")]), "Content-MD5=x;");
        assert_eq!(plain("MethodNotAllowed", "/", &[]), "Method=PUT;ResourceType=SERVICE;");
        let mut reply = HeaderMap::new();
        reply.insert("content-range", HeaderValue::from_static("bytes */5"));
        let range = of("InvalidRange", "", "/b/k", &[("range", "bytes=9-")], &reply);
        assert_eq!(range, "RangeRequested=bytes=9-;ActualObjectSize=5;");
    }

    #[test]
    fn an_error_names_the_headers_that_were_not_signed() {
        let signed =
            "AWS4-HMAC-SHA256 Credential=AK/20200101/r/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=ab";
        let headers = [
            ("authorization", signed),
            ("x-amz-date", "x"),
            ("x-amz-content-sha256", "x"),
            ("x-amz-meta-b", "x"),
            ("x-amz-acl", "x"),
            ("content-type", "x"),
        ];
        let told = of("AccessDenied", NOT_SIGNED, "/b/k", &headers, &HeaderMap::new());
        assert_eq!(told, "HeadersNotSigned=x-amz-acl, x-amz-meta-b;");
        let url = "/b/k?X-Amz-SignedHeaders=host%3Bx-amz-acl&X-Amz-Signature=ab";
        let told = of("AccessDenied", NOT_SIGNED, url, &headers[4..], &HeaderMap::new());
        assert_eq!(told, "");
        assert_eq!(plain("AccessDenied", "/b/k", &headers), "");
    }

    #[test]
    fn what_the_operation_tells_comes_first() {
        let mut reply = HeaderMap::new();
        reply.insert(DETAILS, HeaderValue::from_static("ArgumentName=max-keys"));
        assert_eq!(of("InvalidArgument", "", "/b?max-keys=-1", &[], &reply), "ArgumentName=max-keys;ArgumentValue=-1;");
        reply.append(DETAILS, HeaderValue::from_static("ArgumentValue=a%20b"));
        assert_eq!(of("InvalidArgument", "", "/b", &[], &reply), "ArgumentName=max-keys;ArgumentValue=a b;");
        reply.insert(DETAILS, HeaderValue::from_static("BucketName=source"));
        assert_eq!(of("NoSuchBucket", "", "/b/k", &[], &reply), "BucketName=source;");
    }

    #[test]
    fn a_signature_is_named_but_never_its_secret() {
        let signed = "AWS4-HMAC-SHA256 Credential=AK/20200101/r/s3/aws4_request, SignedHeaders=host, Signature=ab";
        let of_signature = plain("SignatureDoesNotMatch", "/b", &[("authorization", signed)]);
        assert_eq!(of_signature, "AWSAccessKeyId=AK;SignatureProvided=ab;");
        let headers = [
            ("authorization", signed),
            ("host", "h"),
            ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
            ("x-amz-date", "20200101T000000Z"),
        ];
        let told = plain("SignatureDoesNotMatch", "/b", &headers);
        assert!(told.contains("CanonicalRequest=PUT\n/b\n\nhost:h\n\nhost\nUNSIGNED-PAYLOAD;"), "{told}");
        assert!(told.contains("CanonicalRequestBytes=50 55 54 0a 2f 62 0a 0a 68"), "{told}");
        assert!(
            told.contains("StringToSign=AWS4-HMAC-SHA256\n20200101T000000Z\n20200101/r/s3/aws4_request\n"),
            "{told}"
        );
        let of_chunk = of("SignatureDoesNotMatch", super::CHUNK_SIGNATURE, "/b", &headers, &HeaderMap::new());
        assert_eq!(of_chunk, "AWSAccessKeyId=AK;");
        assert_eq!(plain("InvalidAccessKeyId", "/b?X-Amz-Credential=AK%2F2020", &[]), "AWSAccessKeyId=AK;");
        let skewed = plain("RequestTimeTooSkewed", "/b", &[("x-amz-date", "20200101T000000Z")]);
        let server = "ServerTime=2001-09-09T01:46:40Z;MaxAllowedSkewMilliseconds=900000;";
        assert_eq!(skewed, format!("RequestTime=20200101T000000Z;{server}"));
        let url = "/b/k?X-Amz-Date=20010909T014600Z&X-Amz-Expires=10";
        let expired = of("AccessDenied", "Request has expired", url, &[], &HeaderMap::new());
        assert_eq!(expired, "X-Amz-Expires=10;Expires=2001-09-09T01:46:10Z;ServerTime=2001-09-09T01:46:40Z;");
    }
}
