//! The headers that are stored with an object: out of a request, and what both GET and HEAD answer.

use annulus_common::object::{ObjectHeaders, ObjectVersion};
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{Metadata, Timestamp};
use s3s::{S3Result, s3_error};
use time::OffsetDateTime;
use time::macros::format_description;

use super::error::{detailed, invalid_argument};

/// User metadata, names and values together, as S3 says.
const USER_METADATA_BYTES_MAX: usize = 2 << 10;

/// Storage classes that are echoed. All of them store alike.
const STORAGE_CLASSES: &[&str] = &[
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
];

/// The class that is meant when none is named.
pub(super) const STANDARD: &str = "STANDARD";

/// What S3 says of an object whose client said nothing.
const CONTENT_TYPE_DEFAULT: &str = "binary/octet-stream";

/// The headers that a request asks to store.
pub(super) fn of_request(headers: &HeaderMap, metadata: Option<Metadata>) -> S3Result<ObjectHeaders> {
    Ok(ObjectHeaders {
        content_type: text(headers, "content-type")?,
        content_encoding: text(headers, "content-encoding")?.and_then(|value| without_framing(&value)),
        content_language: text(headers, "content-language")?,
        content_disposition: text(headers, "content-disposition")?,
        cache_control: text(headers, "cache-control")?,
        expires: text(headers, "expires")?,
        website_redirect: website_redirect(headers)?,
        storage_class: storage_class(headers)?,
        user: user_metadata(metadata)?,
    })
}

/// `x-amz-storage-class`.
pub(super) fn storage_class(headers: &HeaderMap) -> S3Result<Option<String>> {
    let class = text(headers, "x-amz-storage-class")?;
    match &class {
        Some(class) if !STORAGE_CLASSES.contains(&class.as_str()) => Err(s3_error!(InvalidStorageClass)),
        _ => Ok(class.filter(|class| class != STANDARD)),
    }
}

/// `x-amz-website-redirect-location`.
pub(super) fn website_redirect(headers: &HeaderMap) -> S3Result<Option<String>> {
    let target = text(headers, "x-amz-website-redirect-location")?;
    let is_target = |target: &String| ["/", "http://", "https://"].iter().any(|start| target.starts_with(start));
    match target {
        Some(target) if !is_target(&target) => Err(invalid_argument(
            "x-amz-website-redirect-location",
            "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
        )),
        target => Ok(target),
    }
}

/// The user's metadata as an output has it: s3s writes what is not ASCII in the encoding of RFC 2047.
pub(super) fn dto_metadata(version: &ObjectVersion) -> Metadata {
    let user = version.object.headers.user.iter().filter(|(_, value)| latin_1(value).is_none());
    user.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The user's metadata that is neither ASCII nor beyond Latin-1, which is what headers are in for clients that decode them
/// (RFC 9110 section 5.5). No client decodes RFC 2047.
pub(super) fn latin_metadata(version: &ObjectVersion) -> HeaderMap {
    let user = version.object.headers.user.iter();
    let header = |(name, value): (&String, &String)| {
        let name = HeaderName::from_bytes(format!("x-amz-meta-{name}").as_bytes()).ok()?;
        Some((name, latin_1(value)?))
    };
    user.filter_map(header).collect()
}

/// A text that is not ASCII, as Latin-1.
fn latin_1(text: &str) -> Option<HeaderValue> {
    if text.is_ascii() {
        return None;
    }
    let bytes = text.chars().map(|ch| u8::try_from(ch).ok().filter(|byte| !(0x80..0xa0).contains(byte)));
    HeaderValue::from_bytes(&bytes.collect::<Option<Vec<u8>>>()?).ok()
}

/// `Content-Type` as an output has it.
pub(super) fn content_type(version: &ObjectVersion) -> String {
    version.object.headers.content_type.clone().unwrap_or_else(|| CONTENT_TYPE_DEFAULT.to_owned())
}

/// The storage class of an output's header, which says nothing of the standard one.
pub(super) fn dto_storage_class(class: Option<&String>) -> Option<s3s::dto::StorageClass> {
    class.filter(|class| *class != STANDARD).map(|class| s3s::dto::StorageClass::from(class.clone()))
}

/// Milliseconds since the Unix epoch as s3s writes them.
pub(super) fn timestamp(ms: u64) -> Timestamp {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    Timestamp::from(time.unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

/// Milliseconds since the Unix epoch as HTTP writes them: RFC 9110 section 5.6.7.
pub(super) fn http_date(ms: u64) -> String {
    let format =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    let time = OffsetDateTime::from(timestamp(ms));
    time.format(format).unwrap_or_default()
}

/// A header's text; nothing when it is not there or empty.
pub(super) fn text(headers: &HeaderMap, name: &str) -> S3Result<Option<String>> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text =
        std::str::from_utf8(value.as_bytes()).map_err(|_| invalid_argument(name, format!("invalid header: {name}")))?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// `aws-chunked` tells how the body travels, not what it is.
fn without_framing(encodings: &str) -> Option<String> {
    let kept: Vec<&str> =
        encodings.split(',').map(str::trim).filter(|encoding| !encoding.eq_ignore_ascii_case("aws-chunked")).collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

fn user_metadata(metadata: Option<Metadata>) -> S3Result<std::collections::BTreeMap<String, String>> {
    let metadata = metadata.unwrap_or_default();
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > USER_METADATA_BYTES_MAX {
        let sizes = [("Size", &*bytes.to_string()), ("MaxSizeAllowed", &*USER_METADATA_BYTES_MAX.to_string())];
        return Err(detailed(s3_error!(MetadataTooLarge), &sizes));
    }
    Ok(metadata.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use s3s::dto::Metadata;

    use super::{http_date, latin_1, of_request, storage_class, without_framing};

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn what_latin_1_can_say_is_said_in_it() {
        let bytes = |text| latin_1(text).map(|value| value.as_bytes().to_vec());
        assert_eq!(bytes("Hello World\u{e9}"), Some(b"Hello World\xe9".to_vec()));
        assert_eq!(bytes("plain"), None);
        assert_eq!(bytes("\u{20ac}"), None);
        assert_eq!(bytes("\u{85}\u{e9}"), None);
    }

    #[test]
    fn framing_is_not_stored() {
        assert_eq!(without_framing("aws-chunked"), None);
        assert_eq!(without_framing("AWS-Chunked, gzip").as_deref(), Some("gzip"));
        assert_eq!(without_framing("gzip,aws-chunked,br").as_deref(), Some("gzip, br"));
        assert_eq!(without_framing("deflate, gzip").as_deref(), Some("deflate, gzip"));
        assert_eq!(without_framing("gzip").as_deref(), Some("gzip"));
    }

    #[test]
    fn classes_are_known_ones() {
        assert_eq!(storage_class(&headers("x-amz-storage-class", "STANDARD")).expect("known"), None);
        assert_eq!(
            storage_class(&headers("x-amz-storage-class", "GLACIER")).expect("known").as_deref(),
            Some("GLACIER")
        );
        let error = storage_class(&headers("x-amz-storage-class", "fast")).expect_err("unknown");
        assert_eq!(error.code().as_str(), "InvalidStorageClass");
    }

    #[test]
    fn user_metadata_is_bounded() {
        let metadata = |bytes: usize| Some(Metadata::from_iter([("k".to_owned(), "v".repeat(bytes - 1))]));
        assert!(of_request(&HeaderMap::new(), metadata(2048)).is_ok());
        let error = of_request(&HeaderMap::new(), metadata(2049)).expect_err("too large");
        assert_eq!(error.code().as_str(), "MetadataTooLarge");
    }

    #[test]
    fn dates_are_http_dates() {
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
