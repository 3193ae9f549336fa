//! The one table from what went wrong to what S3 calls it. Messages say what the client can use, and no more.

use std::borrow::Cow;

use annulus_common::checksum::ChecksumAlgorithm;
use annulus_common::object::DeleteMarker;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::{S3Error, S3ErrorCode, s3_error};
use tracing::{error, warn};

use super::headers::http_date;
use crate::detail::CHUNK_SIGNATURE;
use crate::kms::KeyError;
use crate::object::{BodyError, ObjectError, ReadError};

pub(super) use crate::detail::{detailed, invalid_argument};

/// An argument that is no header and no query key, and makes no sense.
pub(super) fn invalid_value(name: &str, value: &str, message: impl Into<Cow<'static, str>>) -> S3Error {
    detailed(invalid_argument(name, message), &[("ArgumentValue", value)])
}

/// The error of an operation that has a source, once that was found: what is missing then is the destination, which the
/// conditions are about. Else a request's source would be taken for it.
pub(super) fn error_at(destination: &str, error: ObjectError) -> S3Error {
    let is_missing = matches!(error, ObjectError::NoSuchKey | ObjectError::Deleted(_));
    let error = s3_error(error);
    if is_missing { detailed(error, &[("Key", destination)]) } else { error }
}

/// The error of an operation.
pub(super) fn s3_error(error: ObjectError) -> S3Error {
    match error {
        ObjectError::NoSuchBucket => s3_error!(NoSuchBucket),
        ObjectError::NoSuchKey => s3_error!(NoSuchKey),
        ObjectError::NoSuchVersion => s3_error!(NoSuchVersion),
        ObjectError::Deleted(marker) => with_marker(s3_error!(NoSuchKey), &marker),
        ObjectError::IsDeleteMarker(marker) => is_marker(&marker),
        ObjectError::Locked => s3_error!(AccessDenied, "Access Denied because object protected by object lock."),
        ObjectError::NoSuchUpload => s3_error!(NoSuchUpload),
        ObjectError::BucketExists(_) => s3_error!(BucketAlreadyExists),
        ObjectError::InvalidBucketState => with_status(
            S3ErrorCode::Custom("InvalidBucketState".into()),
            StatusCode::CONFLICT,
            "The request is not valid with the current state of the bucket.",
        ),
        ObjectError::TooManyBuckets => s3_error!(TooManyBuckets),
        // What S3 answers where there are as many configurations as may be.
        ObjectError::TooMuchConfigured(limit) => {
            with_status(S3ErrorCode::Custom("TooManyConfigurations".into()), StatusCode::BAD_REQUEST, limit.to_string())
        }
        ObjectError::BucketNotEmpty => s3_error!(BucketNotEmpty),
        ObjectError::PreconditionFailed => s3_error!(PreconditionFailed),
        ObjectError::InvalidKey { bytes: 0 } => invalid_value("key", "", "A key must be specified"),
        ObjectError::InvalidKey { .. } => s3_error!(KeyTooLongError),
        ObjectError::InvalidRange { size } => unsatisfiable(size),
        ObjectError::InvalidPartNumber(_) => part_number_out_of_range(),
        ObjectError::InvalidPart { number, etag } => {
            detailed(s3_error!(InvalidPart), &[("PartNumber", &number.to_string()), ("ETag", &etag)])
        }
        ObjectError::InvalidPartOrder => s3_error!(InvalidPartOrder),
        ObjectError::InvalidPartCount(_) => s3_error!(MalformedXML),
        ObjectError::EntityTooSmall { number, etag, size, minimum } => detailed(
            s3_error!(EntityTooSmall),
            &[
                ("ProposedSize", &size.to_string()),
                ("MinSizeAllowed", &minimum.to_string()),
                ("PartNumber", &number.to_string()),
                ("ETag", &etag),
            ],
        ),
        ObjectError::EntityTooLarge { size, maximum } => detailed(
            s3_error!(EntityTooLarge),
            &[("ProposedSize", &size.to_string()), ("MaxSizeAllowed", &maximum.to_string())],
        ),
        ObjectError::BadDigest { expected, calculated } => bad_digest(&hex::encode(expected), calculated),
        ObjectError::ChecksumMismatch { algorithm } => {
            s3_error!(BadDigest, "The {algorithm} you specified did not match the calculated checksum.")
        }
        ObjectError::ChecksumAlgorithmMismatch { expected, actual } => {
            let lower = |algorithm: ChecksumAlgorithm| algorithm.name().to_ascii_lowercase();
            let [expected, actual] = [expected, actual].map(|named| named.map_or_else(|| "null".to_owned(), lower));
            s3_error!(
                InvalidRequest,
                "Checksum Type mismatch occurred, expected checksum Type: {expected}, actual checksum Type: {actual}"
            )
        }
        ObjectError::ChecksumTypeMismatch { expected, .. } => s3_error!(
            InvalidRequest,
            "The upload was created using the {expected} checksum mode. The complete request must use the same checksum mode."
        ),
        ObjectError::ChecksumTypeUnsupported { algorithm, kind } => {
            s3_error!(
                InvalidRequest,
                "The {kind} checksum type cannot be used with the {} checksum algorithm.",
                algorithm.name().to_ascii_lowercase()
            )
        }
        ObjectError::SizeMismatch { expected, actual } => s3_error!(
            InvalidRequest,
            "The provided 'x-amz-mp-object-size' header value {expected} does not match what was computed: {actual}"
        ),
        ObjectError::IncompleteBody { .. } => s3_error!(IncompleteBody),
        ObjectError::Body(error) => body_error(error),
        ObjectError::Conflict => s3_error!(OperationAborted),
        ObjectError::KeyRequired => s3_error!(
            InvalidRequest,
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object."
        ),
        // For a read S3 is reported to answer 403 AccessDenied; ceph/s3-tests wants 400, as S3 answers for a part.
        ObjectError::KeyMismatch => {
            s3_error!(InvalidRequest, "The provided encryption parameters did not match the ones used originally.")
        }
        ObjectError::KeyNotApplicable => {
            s3_error!(InvalidRequest, "The encryption parameters are not applicable to this object.")
        }
        ObjectError::UploadKeyRequired => s3_error!(
            InvalidRequest,
            "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters."
        ),
        ObjectError::UploadNotEncrypted => {
            s3_error!(InvalidRequest, "The multipart upload initiate did not request encryption.")
        }
        ObjectError::Key(error) => key_error(error),
        ObjectError::Unreadable(error) => read_error(error),
        ObjectError::Unavailable(source) => {
            warn!(error = %source, "the cluster cannot serve a request");
            s3_error!(ServiceUnavailable, "Please reduce your request rate.")
        }
        ObjectError::InvalidWriteOffset => with_status(
            S3ErrorCode::Custom("InvalidWriteOffset".into()),
            StatusCode::BAD_REQUEST,
            "The write offset value that you specified does not match the current object size.",
        ),
        ObjectError::EmptyAppend => {
            s3_error!(InvalidRequest, "Request body cannot be empty when 'write offset' is specified.")
        }
        ObjectError::TooManyParts => with_status(
            S3ErrorCode::Custom("TooManyParts".into()),
            StatusCode::BAD_REQUEST,
            "You have attempted to add more parts than the maximum of 10000 that are allowed for this object. You can use the CopyObject operation to copy this object to another and then add more data to the newly copied object.",
        ),
        // S3 has no quotas; this is what Ceph answers.
        ObjectError::QuotaExceeded => with_status(
            S3ErrorCode::Custom("QuotaExceeded".into()),
            StatusCode::FORBIDDEN,
            "The bucket, or the account that owns it, may not hold as much.",
        ),
        // The one that SDKs repeat by themselves.
        ObjectError::Busy | ObjectError::Overloaded => s3_error!(SlowDown, "Please reduce your request rate."),
        ObjectError::Full => with_status(
            S3ErrorCode::Custom("StorageFull".into()),
            StatusCode::INSUFFICIENT_STORAGE,
            "No space is left to store this.",
        ),
        ObjectError::Internal(reason) => {
            error!(reason, "internal error");
            s3_error!(InternalError)
        }
    }
}

/// What a client is told of a version that is a delete marker: it can only be deleted. See "Working with delete markers" in
/// the S3 user guide.
fn is_marker(marker: &DeleteMarker) -> S3Error {
    let mut error = with_marker(s3_error!(MethodNotAllowed), marker);
    let mut headers = error.headers().cloned().unwrap_or_default();
    headers.insert(http::header::ALLOW, HeaderValue::from_static("DELETE"));
    if let Ok(modified) = HeaderValue::from_str(&http_date(marker.modified_ms)) {
        headers.insert(http::header::LAST_MODIFIED, modified);
    }
    error.set_headers(headers);
    error
}

fn with_marker(mut error: S3Error, marker: &DeleteMarker) -> S3Error {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Ok(version) = HeaderValue::from_str(&marker.version.to_string()) {
        headers.insert("x-amz-version-id", version);
    }
    error.set_headers(headers);
    error
}

/// The error of a body that did not arrive whole.
pub(crate) fn body_error(error: BodyError) -> S3Error {
    match error {
        BodyError::Disconnected | BodyError::Truncated => s3_error!(IncompleteBody),
        BodyError::Malformed => with_status(
            S3ErrorCode::Custom("MalformedTrailerError".into()),
            StatusCode::BAD_REQUEST,
            "The request contained trailing data that was not well-formed or did not conform to our published schema.",
        ),
        BodyError::SignatureMismatch => s3_error!(SignatureDoesNotMatch, "{CHUNK_SIGNATURE}"),
        BodyError::Sha256Mismatch => with_status(
            S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
            StatusCode::BAD_REQUEST,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        ),
        BodyError::ChunkTooLarge { maximum } => {
            s3_error!(EntityTooLarge, "A chunk of the body, or what is said of one, is larger than {maximum} bytes.")
        }
        BodyError::TimedOut => s3_error!(RequestTimeout),
        BodyError::TooLarge { maximum, .. } => {
            detailed(s3_error!(EntityTooLarge), &[("MaxSizeAllowed", &maximum.to_string())])
        }
        BodyError::TooSmall { size, minimum } => detailed(
            s3_error!(EntityTooSmall),
            &[("ProposedSize", &size.to_string()), ("MinSizeAllowed", &minimum.to_string())],
        ),
    }
}

/// The error of a part that is sent.
pub(super) fn part_error(error: ObjectError) -> S3Error {
    match error {
        ObjectError::BadDigest { expected, calculated } => bad_digest(&BASE64.encode(expected), calculated),
        error => s3_error(error),
    }
}

/// A body that does not have its `Content-MD5`. S3 tells its own in base 64, and repeats that of an object in hexadecimal
/// digits, but that of a part and of a document as it came.
pub(super) fn bad_digest(expected: &str, calculated: [u8; 16]) -> S3Error {
    let calculated = BASE64.encode(calculated);
    detailed(s3_error!(BadDigest), &[("ExpectedDigest", expected), ("CalculatedDigest", &calculated)])
}

/// 416, with the size that the client should have known.
pub(super) fn unsatisfiable(size: u64) -> S3Error {
    let mut error = s3_error!(InvalidRange);
    let mut headers = HeaderMap::new();
    if let Ok(range) = HeaderValue::from_str(&format!("bytes */{size}")) {
        headers.insert(http::header::CONTENT_RANGE, range);
    }
    error.set_headers(headers);
    error
}

pub(super) fn part_number_out_of_range() -> S3Error {
    invalid_argument("partNumber", "Part number must be an integer between 1 and 10000, inclusive")
}

/// What the key service says, by the codes that S3 hands through from KMS.
fn key_error(error: KeyError) -> S3Error {
    let kms = |code: &'static str, message| {
        let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
        error.set_status_code(StatusCode::BAD_REQUEST);
        error
    };
    match error {
        KeyError::NotFound(key) => kms("KMS.NotFoundException", format!("Key '{key}' does not exist")),
        KeyError::Disabled(key) => kms("KMS.DisabledException", format!("{key} is disabled.")),
        KeyError::Unreachable(source) => {
            warn!(error = %source, "the key service cannot be reached");
            s3_error!(ServiceUnavailable, "Please reduce your request rate.")
        }
        KeyError::Damaged | KeyError::OtherMaster(_) | KeyError::NoRandomness => {
            error!(%error, "a key cannot be used");
            s3_error!(InternalError)
        }
    }
}

fn read_error(error: ReadError) -> S3Error {
    match error {
        ReadError::Unavailable(_) => s3_error!(ServiceUnavailable, "Please reduce your request rate."),
        ReadError::Lost(chunk) => {
            error!(?chunk, "a chunk cannot be read from any node");
            s3_error!(InternalError)
        }
        ReadError::Tampered(_) | ReadError::RecordTampered => {
            error!(%error, "an object is not what was written");
            s3_error!(InternalError)
        }
    }
}

pub(super) fn with_status(code: S3ErrorCode, status: StatusCode, message: impl Into<Cow<'static, str>>) -> S3Error {
    let mut error = S3Error::with_message(code, message);
    error.set_status_code(status);
    error
}
