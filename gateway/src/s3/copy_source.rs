//! The source of a copy as S3 reads `x-amz-copy-source`: as a form's value, in which a plus sign is a space. s3s leaves
//! plus signs alone, and programs that write spaces as such (s5cmd does) would not find what they copy.

use http::HeaderMap;
use s3s::S3Result;
use s3s::dto::CopySource;

use super::error::invalid_argument;

const HEADER: &str = "x-amz-copy-source";

/// The source that the request names; what s3s read where it has no such header.
pub(crate) fn of_request(headers: &HeaderMap, read: &CopySource) -> S3Result<CopySource> {
    match headers.get(HEADER).and_then(|source| source.to_str().ok()) {
        Some(source) if source.contains('+') => {
            let invalid = |_| invalid_argument(HEADER, format!("Invalid copy source: {source}"));
            CopySource::parse(&with_spaces(source)).map_err(invalid)
        }
        _ => Ok(read.clone()),
    }
}

/// The header's text, its plus signs as what they mean.
pub(crate) fn with_spaces(source: &str) -> String {
    source.replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use s3s::dto::CopySource;

    use super::{HEADER, of_request};

    fn key(source: &'static str) -> String {
        let read = CopySource::parse(source).expect("s3s reads it");
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static(HEADER), HeaderValue::from_static(source))]);
        match of_request(&headers, &read).expect("it is one") {
            CopySource::Bucket { key, version_id, .. } => format!("{key} {}", version_id.as_deref().unwrap_or("-")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plus_sign_is_a_space() {
        assert_eq!(key("bucket/a+b"), "a b -");
        assert_eq!(key("/bucket/a%2Bb+%20c?versionId=null"), "a+b  c null");
        assert_eq!(key("bucket/a%20b"), "a b -");
    }
}
