//! Request bodies as they come from s3s: streamed to the object layer with a bound on how slow the client may be, or read whole
//! when they are XML. What s3s says went wrong becomes what the object layer and S3 call it.

use std::error::Error;

use annulus_common::checksum::{ChecksumAlgorithm, ChecksumValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{Extensions, HeaderMap, HeaderValue};
use md5::{Digest, Md5};
use s3s::dto::StreamingBlob;
use s3s::stream::aws_chunked_stream::AwsChunkedStreamError;
use s3s::stream::upload_stream::UploadStreamError;
use s3s::{Body, BodySizeLimitExceeded, S3Error, S3Result, StdError, s3_error};

use super::error::{bad_digest, body_error, detailed};
use crate::object::{BodyError, BodyStream};
use crate::request::NoLength;
use crate::steady::Steady;

/// The largest chunk of a signed `aws-chunked` body, which is held back until its signature is verified. SDKs send 64 to 128 KiB; it
/// is reserved for every such body.
pub(crate) const SIGNED_CHUNK_BYTES_MAX: u64 = 4 << 20;

/// How many bytes of an object's or part's body are held back until they are verified, at most.
pub(super) fn held_back_max(headers: &HeaderMap) -> u64 {
    let is_signed_in_chunks = |value: &HeaderValue| value.as_bytes().starts_with(b"STREAMING-AWS4-");
    match headers.get("x-amz-content-sha256").is_some_and(is_signed_in_chunks) {
        true => SIGNED_CHUNK_BYTES_MAX,
        false => 0,
    }
}

/// The body of an object or a part.
pub(super) fn stream(body: Option<StreamingBlob>) -> BodyStream {
    match body {
        Some(body) => Box::pin(Steady::new(body, classify_source)),
        None => Box::pin(futures::stream::empty()),
    }
}

/// A body that has to be here whole before it means anything.
pub(crate) async fn read_whole(body: Body, bytes_max: usize) -> S3Result<Bytes> {
    if let Some(bytes) = body.bytes() {
        return Ok(bytes);
    }
    let mut body = Steady::new(body, classify_source);
    let mut whole = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(body_error)?;
        if whole.len() + piece.len() > bytes_max {
            return Err(too_long(bytes_max as u64));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Refuses a document that is longer than S3 takes of its kind, or that does not say how long it is.
pub(super) fn check_document(headers: &HeaderMap, bytes_max: u64) -> S3Result {
    let length = headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length <= bytes_max => Ok(()),
        Some(_) => Err(too_long(bytes_max)),
        None => Err(s3_error!(MissingContentLength)),
    }
}

/// Refuses a body whose length nobody said. HTTP takes it for an empty one, and an object would be replaced by nothing.
pub(super) fn check_length(request: &Extensions) -> S3Result {
    if request.get::<NoLength>().is_some() { Err(s3_error!(MissingContentLength)) } else { Ok(()) }
}

/// A document is longer than may be.
pub(super) fn too_long(bytes_max: u64) -> S3Error {
    detailed(s3_error!(MaxMessageLengthExceeded), &[("MaxMessageLengthBytes", &bytes_max.to_string())])
}

/// Compares a whole body with the checksums in its head and behind it.
pub(crate) fn check_whole(bytes: &[u8], head: Option<&HeaderMap>, trailers: Option<&HeaderMap>) -> S3Result {
    for headers in head.into_iter().chain(trailers) {
        for algorithm in ChecksumAlgorithm::ALL {
            let Some(given) = headers.get(algorithm.header_name()) else { continue };
            let computed = BASE64.encode(ChecksumValue::of(algorithm, bytes).as_bytes());
            if given.as_bytes() != computed.as_bytes() {
                return Err(s3_error!(
                    BadDigest,
                    "The {algorithm} you specified did not match the calculated checksum."
                ));
            }
        }
    }
    Ok(())
}

/// Compares a whole body with its `Content-MD5`.
pub(crate) fn check_content_md5(bytes: &[u8], headers: &HeaderMap) -> S3Result {
    let calculated = Md5::digest(bytes).into();
    match content_md5(headers)? {
        Some(expected) if expected != calculated => Err(bad_digest(&BASE64.encode(expected), calculated)),
        _ => Ok(()),
    }
}

/// `Content-MD5`, raw.
pub(super) fn content_md5(headers: &HeaderMap) -> S3Result<Option<[u8; 16]>> {
    let Some(text) = headers.get("content-md5") else { return Ok(None) };
    let md5 = BASE64.decode(text.as_bytes()).ok().and_then(|md5| md5.try_into().ok());
    md5.map(Some).ok_or_else(|| s3_error!(InvalidDigest))
}

fn classify_source(error: StdError) -> BodyError {
    classify(error.as_ref())
}

/// What an error of s3s or hyper means, from its innermost cause outwards.
fn classify(error: &(dyn Error + 'static)) -> BodyError {
    // A form's file knows by itself what is wrong with it.
    if let Some(error) = error.downcast_ref::<BodyError>() {
        return *error;
    }
    if let Some(error) = error.downcast_ref::<UploadStreamError>() {
        return match error {
            UploadStreamError::Underlying(source) => classify(source.as_ref()),
            UploadStreamError::Sha256Mismatch => BodyError::Sha256Mismatch,
            UploadStreamError::LengthMismatch | UploadStreamError::Incomplete => BodyError::Truncated,
        };
    }
    if let Some(error) = error.downcast_ref::<AwsChunkedStreamError>() {
        return match error {
            AwsChunkedStreamError::Underlying(source) => classify(source.as_ref()),
            AwsChunkedStreamError::SignatureMismatch => BodyError::SignatureMismatch,
            AwsChunkedStreamError::TrailersTooLarge(..) | AwsChunkedStreamError::TooManyTrailerHeaders(..) => {
                BodyError::Malformed
            }
            AwsChunkedStreamError::ChunkDataTooLarge(_, maximum)
            | AwsChunkedStreamError::ChunkMetaTooLarge(_, maximum) => BodyError::ChunkTooLarge { maximum: *maximum },
            _ => BodyError::Truncated,
        };
    }
    if error.is::<BodySizeLimitExceeded>() {
        return BodyError::Truncated;
    }
    BodyError::Disconnected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a header's value"));
        headers
    }

    #[test]
    fn content_md5_is_compared() {
        assert!(check_content_md5(b"bar", &headers("content-md5", "N7UdGUp1E+RbVvZSTy1R8g==")).is_ok());
        let wrong = check_content_md5(b"baz", &headers("content-md5", "N7UdGUp1E+RbVvZSTy1R8g==")).expect_err("wrong");
        assert_eq!(wrong.code().as_str(), "BadDigest");
        let bad = check_content_md5(b"bar", &headers("content-md5", "N7UdGU")).expect_err("malformed");
        assert_eq!(bad.code().as_str(), "InvalidDigest");
    }

    #[test]
    fn checksums_before_and_behind_are_compared() {
        let right = headers("x-amz-checksum-crc32", "y/Q5Jg==");
        assert!(check_whole(b"123456789", Some(&right), None).is_ok());
        assert!(check_whole(b"123456789", None, Some(&right)).is_ok());
        assert!(check_whole(b"12345678", Some(&right), None).is_err());
        assert!(check_whole(b"12345678", None, Some(&right)).is_err());
    }

    #[test]
    fn errors_are_told_apart() {
        assert_eq!(classify(&UploadStreamError::Sha256Mismatch), BodyError::Sha256Mismatch);
        let nested = AwsChunkedStreamError::Underlying(Box::new(AwsChunkedStreamError::SignatureMismatch));
        assert_eq!(classify(&nested), BodyError::SignatureMismatch);
        assert_eq!(classify(&AwsChunkedStreamError::Incomplete), BodyError::Truncated);
        let too_large = AwsChunkedStreamError::ChunkDataTooLarge(9, 8);
        assert_eq!(classify(&too_large), BodyError::ChunkTooLarge { maximum: 8 });
        assert_eq!(classify(&std::io::Error::other("gone")), BodyError::Disconnected);
    }
}
