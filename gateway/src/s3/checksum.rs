//! Checksums between headers and the object layer. They are read from the headers as they came, in one way for every
//! operation; outputs have a field for each algorithm.

use annulus_common::checksum::{ChecksumAlgorithm, ChecksumType};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use s3s::{S3Error, S3Result, TrailingHeaders, dto, s3_error};

use super::body::content_md5;
use crate::object::{BodyError, ChecksumRequest, ChecksumValue, Expected, PromisedChecksum};

/// What the client promised about the body of an object or a part.
pub(super) fn expected(headers: &HeaderMap, trailers: Option<TrailingHeaders>) -> S3Result<Expected> {
    Ok(Expected { md5: content_md5(headers)?, checksum: request(headers, trailers)? })
}

fn request(headers: &HeaderMap, trailers: Option<TrailingHeaders>) -> S3Result<ChecksumRequest> {
    let named = text(headers, "x-amz-sdk-checksum-algorithm").map(algorithm).transpose()?;
    let given = given(headers)?;
    let announced = announced(headers)?;
    let found = match (given, announced) {
        (Some(_), Some(_)) => return Err(more_than_one()),
        (Some(value), None) => ChecksumRequest::Value(value),
        (None, Some(algorithm)) => {
            let trailers = trailers.ok_or_else(|| s3_error!(InvalidRequest, "The body has no trailer."))?;
            ChecksumRequest::Trailer { algorithm, read: Box::new(move || read_trailer(algorithm, &trailers)) }
        }
        (None, None) if named.is_some() => {
            return Err(named_alone());
        }
        (None, None) => ChecksumRequest::Default,
    };
    let actual = match &found {
        ChecksumRequest::Value(value) => Some(value.algorithm()),
        ChecksumRequest::Trailer { algorithm, .. } => Some(*algorithm),
        ChecksumRequest::Default | ChecksumRequest::Compute(_) => None,
    };
    if named.is_some() && named != actual {
        return Err(s3_error!(InvalidRequest, "Value for x-amz-sdk-checksum-algorithm header is invalid."));
    }
    Ok(found)
}

/// What `x-amz-sdk-checksum-algorithm` names must come with the body, before or behind it.
pub(crate) fn check_named(head: &HeaderMap, trailers: Option<&HeaderMap>) -> S3Result {
    let Some(named) = text(head, "x-amz-sdk-checksum-algorithm") else { return Ok(()) };
    let name = algorithm(named)?.header_name();
    let comes = head.contains_key(name) || trailers.is_some_and(|trailers| trailers.contains_key(name));
    if comes { Ok(()) } else { Err(named_alone()) }
}

/// The one checksum in a request's head.
fn given(headers: &HeaderMap) -> S3Result<Option<ChecksumValue>> {
    only(headers)?.map(|(algorithm, text)| value_of(algorithm, text)).transpose()
}

/// The one checksum of an object that is made of parts. A composite one ends with their number.
pub(super) fn given_of_parts(headers: &HeaderMap) -> S3Result<Option<PromisedChecksum>> {
    let Some((algorithm, text)) = only(headers)? else { return Ok(None) };
    let Some((value, parts)) = text.split_once('-') else {
        return Ok(Some(PromisedChecksum { value: value_of(algorithm, text)?, parts: None }));
    };
    let is_number = !parts.is_empty() && parts.bytes().all(|byte| byte.is_ascii_digit());
    let parts = is_number.then(|| parts.parse().ok()).flatten().ok_or_else(|| invalid(algorithm))?;
    Ok(Some(PromisedChecksum { value: value_of(algorithm, value)?, parts: Some(parts) }))
}

/// The one checksum in a request's head, as it is written there.
fn only(headers: &HeaderMap) -> S3Result<Option<(ChecksumAlgorithm, &str)>> {
    let of = |algorithm: ChecksumAlgorithm| {
        headers.get_all(algorithm.header_name()).iter().map(move |value| (algorithm, value))
    };
    let mut found = ChecksumAlgorithm::ALL.into_iter().flat_map(of);
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(more_than_one()),
        (found, _) => Ok(found.map(|(algorithm, value)| (algorithm, value.to_str().unwrap_or_default()))),
    }
}

/// A checksum's value out of its text.
pub(super) fn value_of(algorithm: ChecksumAlgorithm, text: &str) -> S3Result<ChecksumValue> {
    ChecksumValue::parse(algorithm, text).map_err(|_| invalid(algorithm))
}

fn invalid(algorithm: ChecksumAlgorithm) -> S3Error {
    s3_error!(BadDigest, "Value for {} header is invalid.", algorithm.header_name())
}

/// An algorithm by its name.
pub(super) fn algorithm(name: &str) -> S3Result<ChecksumAlgorithm> {
    name.parse().map_err(|_| {
        s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
    })
}

/// A checksum type by its name.
pub(super) fn checksum_type(name: &str) -> S3Result<ChecksumType> {
    name.parse().map_err(|_| s3_error!(InvalidRequest, "Value for x-amz-checksum-type header is invalid."))
}

/// A value as S3 writes it.
pub(super) fn value_text(value: &[u8]) -> String {
    BASE64.encode(value)
}

/// The algorithm as s3s writes it.
pub(super) fn dto_algorithm(algorithm: ChecksumAlgorithm) -> dto::ChecksumAlgorithm {
    dto::ChecksumAlgorithm::from_static(algorithm.name())
}

/// The type as s3s writes it.
pub(super) fn dto_type(kind: ChecksumType) -> dto::ChecksumType {
    dto::ChecksumType::from_static(kind.name())
}

/// Puts a checksum's text into the field that its algorithm has in an output.
macro_rules! set_checksum {
    ($output:expr, $algorithm:expr, $text:expr) => {{
        let text = Some($text);
        match $algorithm {
            annulus_common::checksum::ChecksumAlgorithm::Crc32 => $output.checksum_crc32 = text,
            annulus_common::checksum::ChecksumAlgorithm::Crc32c => $output.checksum_crc32c = text,
            annulus_common::checksum::ChecksumAlgorithm::Crc64Nvme => $output.checksum_crc64nvme = text,
            annulus_common::checksum::ChecksumAlgorithm::Sha1 => $output.checksum_sha1 = text,
            annulus_common::checksum::ChecksumAlgorithm::Sha256 => $output.checksum_sha256 = text,
        }
    }};
}
pub(super) use set_checksum;

/// The checksum that `x-amz-trailer` announces. Other trailers mean nothing to S3.
fn announced(headers: &HeaderMap) -> S3Result<Option<ChecksumAlgorithm>> {
    let mut found = None;
    for value in headers.get_all("x-amz-trailer") {
        for name in value.to_str().unwrap_or_default().split(',').map(|name| name.trim().to_ascii_lowercase()) {
            if !name.starts_with("x-amz-checksum-") {
                continue;
            }
            let known = ChecksumAlgorithm::ALL.into_iter().find(|algorithm| algorithm.header_name() == name);
            let known = known.ok_or_else(|| {
                s3_error!(InvalidRequest, "The value specified in the x-amz-trailer header is not supported")
            })?;
            if found.replace(known).is_some() {
                return Err(more_than_one());
            }
        }
    }
    Ok(found)
}

fn read_trailer(algorithm: ChecksumAlgorithm, trailers: &TrailingHeaders) -> Result<Option<ChecksumValue>, BodyError> {
    let read = |trailers: &HeaderMap| {
        let Some(value) = trailers.get(algorithm.header_name()) else { return Ok(None) };
        let value = ChecksumValue::parse(algorithm, value.to_str().unwrap_or_default());
        value.map(Some).map_err(|_| BodyError::Malformed)
    };
    trailers.read(read).unwrap_or(Ok(None))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn named_alone() -> s3s::S3Error {
    s3_error!(
        InvalidRequest,
        "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found."
    )
}

fn more_than_one() -> s3s::S3Error {
    s3_error!(InvalidRequest, "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
}

#[cfg(test)]
mod tests {
    use annulus_common::checksum::ChecksumAlgorithm;
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{announced, check_named, given, given_of_parts, request};
    use crate::object::{ChecksumRequest, ChecksumValue, PromisedChecksum};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_is_named_of_a_whole_body_comes_with_it() {
        let named = |more: &[(&'static str, &'static str)]| {
            headers(&[&[("x-amz-sdk-checksum-algorithm", "crc32")], more].concat())
        };
        let checksum = [("x-amz-checksum-crc32", "y/Q5Jg==")];
        assert!(check_named(&headers(&[]), None).is_ok());
        assert!(check_named(&named(&checksum), None).is_ok());
        assert!(check_named(&named(&[]), Some(&headers(&checksum))).is_ok());
        assert!(check_named(&named(&[]), None).is_err());
        assert!(check_named(&named(&[("x-amz-checksum-sha1", "x")]), None).is_err());
    }

    fn code(pairs: &[(&'static str, &'static str)]) -> String {
        match request(&headers(pairs), None) {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.code().as_str().to_owned(),
        }
    }

    #[test]
    fn one_checksum_is_taken() {
        let found = given(&headers(&[("x-amz-checksum-crc32", "y/Q5Jg==")])).expect("valid").expect("given");
        assert_eq!(found, ChecksumValue::Crc32([0xcb, 0xf4, 0x39, 0x26]));
        assert!(matches!(request(&headers(&[]), None), Ok(ChecksumRequest::Default)));
    }

    #[test]
    fn a_number_of_parts_is_of_what_has_parts() {
        let of = |text| headers(&[("x-amz-checksum-crc32", text)]);
        assert_eq!(given(&of("y/Q5Jg==-3")).expect_err("a body has no parts").code().as_str(), "BadDigest");
        let value = ChecksumValue::Crc32([0xcb, 0xf4, 0x39, 0x26]);
        for (text, parts) in [("y/Q5Jg==-3", Some(3)), ("y/Q5Jg==", None)] {
            let found = given_of_parts(&of(text)).expect("valid");
            assert_eq!(found, Some(PromisedChecksum { value, parts }), "{text}");
        }
        for text in ["y/Q5Jg==-", "y/Q5Jg==-x", "y/Q5Jg==-+3", "y/Q5Jg==-3-3", "y/Q5Jg==-70000", "bad-3"] {
            assert_eq!(given_of_parts(&of(text)).expect_err(text).code().as_str(), "BadDigest", "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        assert_eq!(code(&[("x-amz-checksum-crc32", "bad")]), "BadDigest");
        assert_eq!(
            code(&[("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-checksum-crc32c", "y/Q5Jg==")]),
            "InvalidRequest"
        );
        assert_eq!(
            code(&[("x-amz-checksum-crc32", "y/Q5Jg=="), ("x-amz-trailer", "x-amz-checksum-sha1")]),
            "InvalidRequest"
        );
        assert_eq!(code(&[("x-amz-sdk-checksum-algorithm", "CRC32")]), "InvalidRequest");
        let other = [("x-amz-sdk-checksum-algorithm", "SHA1"), ("x-amz-checksum-crc32", "y/Q5Jg==")];
        assert_eq!(code(&other), "InvalidRequest");
        let same = [("x-amz-sdk-checksum-algorithm", "crc32"), ("x-amz-checksum-crc32", "y/Q5Jg==")];
        assert_eq!(code(&same), "ok");
    }

    #[test]
    fn trailers_are_announced() {
        let both = headers(&[("x-amz-trailer", "x-foo, X-Amz-Checksum-SHA256")]);
        assert_eq!(announced(&both).expect("valid"), Some(ChecksumAlgorithm::Sha256));
        assert!(announced(&headers(&[("x-amz-trailer", "x-amz-checksum-md4")])).is_err());
        assert_eq!(announced(&headers(&[])).expect("valid"), None);
    }
}
