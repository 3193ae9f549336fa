//! What a form that succeeded is answered: nothing, a document that names the object, or where the browser goes next.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderValue, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quick_xml::escape::escape;
use s3s::Body;

use super::super::addressing::Target;
use super::super::reply::Content;
use super::fields::Fields;

/// What a path leaves as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// What a query's value leaves as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What the form asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Success {
    /// `success_action_redirect`, or `redirect`, as it was called before.
    Redirect(String),
    /// `success_action_status`; 204 unless it is one of those that S3 knows.
    Status(StatusCode),
}

impl Success {
    /// A redirect that goes nowhere is as if it were not there, as S3 says.
    pub(super) fn asked(fields: &Fields) -> Self {
        let target = fields.get("success_action_redirect").or_else(|| fields.get("redirect"));
        if let Some(target) = target.filter(|target| is_url(target)) {
            return Self::Redirect(target.to_owned());
        }
        Self::Status(match fields.get("success_action_status") {
            Some("200") => StatusCode::OK,
            Some("201") => StatusCode::CREATED,
            _ => StatusCode::NO_CONTENT,
        })
    }

    /// The answer, with all headers of the put's.
    pub(super) fn response(
        &self,
        put: &Response<Body>,
        origin: Option<&str>,
        target: &Target,
        key: &str,
    ) -> Response<Content> {
        let bucket = target.bucket.as_deref().unwrap_or_default();
        let etag = put.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
        let (status, location, body) = match self {
            Self::Redirect(url) => (StatusCode::SEE_OTHER, redirect(url, bucket, key, etag), String::new()),
            Self::Status(status) => {
                let location = location(origin, target, key);
                let body =
                    if *status == StatusCode::CREATED { document(&location, bucket, key, etag) } else { String::new() };
                (*status, location, body)
            }
        };
        let mut response = Response::new(Content::from(bytes::Bytes::from(body)));
        *response.status_mut() = status;
        *response.headers_mut() = put.headers().clone();
        let headers = response.headers_mut();
        headers.remove(CONTENT_LENGTH);
        if status == StatusCode::CREATED {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        }
        if let Ok(location) = HeaderValue::from_str(&location) {
            headers.insert(LOCATION, location);
        }
        response
    }
}

/// An absolute URL that can stand in a header.
fn is_url(text: &str) -> bool {
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    (lower.starts_with("http://") || lower.starts_with("https://"))
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && text.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()))
}

fn redirect(target: &str, bucket: &str, key: &str, etag: &str) -> String {
    let (target, fragment) =
        target.split_once('#').map_or((target, None), |(target, fragment)| (target, Some(fragment)));
    let mark = if target.contains('?') { '&' } else { '?' };
    let encode = |text| utf8_percent_encode(text, QUERY).to_string();
    let (bucket, key, etag) = (encode(bucket), encode(key), encode(etag));
    let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
    format!("{target}{mark}bucket={bucket}&key={key}&etag={etag}{fragment}")
}

/// Where the object is, addressed as the form was.
fn location(origin: Option<&str>, target: &Target, key: &str) -> String {
    let key = utf8_percent_encode(key, PATH);
    let path = match &target.bucket {
        Some(bucket) if !target.by_host => format!("/{bucket}/{key}"),
        _ => format!("/{key}"),
    };
    format!("{}{path}", origin.unwrap_or_default())
}

fn document(location: &str, bucket: &str, key: &str, etag: &str) -> String {
    let (location, bucket, key, etag) = (escape(location), escape(bucket), escape(key), escape(etag));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse><Location>{location}</Location><Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>{etag}</ETag></PostResponse>"
    )
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::{Success, redirect};
    use crate::http::form::fields::Fields;

    fn asked(name: &str, value: &str) -> Success {
        Success::asked(&Fields::from([(name, value)]))
    }

    #[test]
    fn only_the_known_answers_are_given() {
        assert_eq!(Success::asked(&Fields::default()), Success::Status(StatusCode::NO_CONTENT));
        assert_eq!(asked("success_action_status", "200"), Success::Status(StatusCode::OK));
        assert_eq!(asked("success_action_status", "201"), Success::Status(StatusCode::CREATED));
        assert_eq!(asked("success_action_status", "404"), Success::Status(StatusCode::NO_CONTENT));
        assert_eq!(asked("redirect", "http://a/b"), Success::Redirect("http://a/b".to_owned()));
        for bad in ["/relative", "javascript:alert(1)", "http://", "http://a/\r\nb", "http://a/ b", ""] {
            assert_eq!(asked("success_action_redirect", bad), Success::Status(StatusCode::NO_CONTENT), "{bad}");
        }
    }

    #[test]
    fn a_redirect_says_what_was_put() {
        assert_eq!(redirect("http://a/b", "c", "d e", "\"f\""), "http://a/b?bucket=c&key=d%20e&etag=%22f%22");
        assert_eq!(redirect("http://a/?b=1#c", "d", "e/f", "g"), "http://a/?b=1&bucket=d&key=e%2Ff&etag=g#c");
    }
}
