//! Elements of an error beside its code and message, on their way through s3s, whose errors have those two alone: whoever
//! refuses a request says them, and whoever finishes the reply writes them.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use s3s::{S3Error, S3ErrorCode};

/// Carries elements of an error, each as `NAME=TEXT` with the text percent-encoded, through s3s, whose errors have a code
/// and a message alone. Whoever finishes the reply takes it off.
pub(crate) const DETAILS: HeaderName = HeaderName::from_static("x-annulus-error-details");

/// What is said of a chunk's signature, so that nobody looks for the mistake in that of the head.
pub(crate) const CHUNK_SIGNATURE: &str =
    "The signature that we calculated for a chunk of the body does not match the one you provided.";

/// The error with elements that S3 documents for it and that do not follow from the request.
pub(crate) fn detailed(mut error: S3Error, details: &[(&str, &str)]) -> S3Error {
    let mut headers = error.headers().cloned().unwrap_or_default();
    for (name, text) in details {
        if let Ok(value) =
            HeaderValue::from_str(&format!("{name}={}", percent_encode(text.as_bytes(), NON_ALPHANUMERIC)))
        {
            headers.append(DETAILS, value);
        }
    }
    error.set_headers(headers);
    error
}

/// An argument of the request, named as its header or query key is, that makes no sense.
pub(crate) fn invalid_argument(name: &str, message: impl Into<Cow<'static, str>>) -> S3Error {
    detailed(S3Error::with_message(S3ErrorCode::InvalidArgument, message), &[("ArgumentName", name)])
}
