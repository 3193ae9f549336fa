//! The source of a copy as S3 reads `x-amz-copy-source`: as a form's value, in which a plus sign is a space. s3s leaves
//! plus signs alone, and programs that write spaces as such (s5cmd does) would not find what they copy.

use http::HeaderMap;
use s3s::S3Result;
use s3s::dto::{CopySource, ParseCopySourceError};

use crate::detail::invalid_argument;

const HEADER: &str = "x-amz-copy-source";

/// An object in a bucket, as a request names it to be copied.
pub(crate) struct Named {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) version_id: Option<String>,
}

/// The source that the request names; what s3s read where it has no such header.
pub(crate) fn of_request(headers: &HeaderMap, read: &CopySource) -> S3Result<CopySource> {
    let Some(source) = text(headers) else { return Ok(read.clone()) };
    parse(source).map_err(|_| invalid_argument(HEADER, format!("Invalid copy source: {source}")))
}

/// The same for those who tell of the request, or judge it. What is none is refused by whoever copies it.
pub(crate) fn named(headers: &HeaderMap) -> Option<Named> {
    match parse(text(headers)?) {
        Ok(CopySource::Bucket { bucket, key, version_id }) => {
            Some(Named { bucket: bucket.into(), key: key.into(), version_id: version_id.map(Into::into) })
        }
        _ => None,
    }
}

fn text(headers: &HeaderMap) -> Option<&str> {
    headers.get(HEADER)?.to_str().ok()
}

/// Plus signs are what they mean.
fn parse(source: &str) -> Result<CopySource, ParseCopySourceError> {
    CopySource::parse(&source.replace('+', "%20"))
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
