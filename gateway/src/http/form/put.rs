//! A form as the put that it stands for: the fields as its headers, the file as its body, of a length that the policy
//! allows and that shows only at its end.

use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body::Frame;
use http_body_util::StreamBody;
use multer::Field;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::Body;
use s3s::dto::Tagging;
use s3s::xml::{Deserialize, Deserializer};

use super::error::FormError;
use super::fields::{Fields, Form};
use crate::http::xml;
use crate::object::{BodyError, KEY_BYTES_MAX};

/// What a path leaves as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// What is told of a value that is wrong: the longest key.
const TOLD_BYTES_MAX: usize = KEY_BYTES_MAX;

/// Fields that a put has as headers, and what the header is called.
const HEADERS: &[(&str, &str)] = &[
    ("acl", "x-amz-acl"),
    ("cache-control", "cache-control"),
    ("content-disposition", "content-disposition"),
    ("content-encoding", "content-encoding"),
    ("content-language", "content-language"),
    ("content-md5", "content-md5"),
    ("content-type", "content-type"),
    ("expires", "expires"),
    ("x-amz-checksum-algorithm", "x-amz-sdk-checksum-algorithm"),
    ("x-amz-expected-bucket-owner", "x-amz-expected-bucket-owner"),
    ("x-amz-request-payer", "x-amz-request-payer"),
    ("x-amz-security-token", "x-amz-security-token"),
    ("x-amz-storage-class", "x-amz-storage-class"),
    ("x-amz-website-redirect-location", "x-amz-website-redirect-location"),
];

/// Beginnings of fields that a put has as headers of the same name.
const PREFIXES: &[&str] =
    &["x-amz-checksum-", "x-amz-grant-", "x-amz-meta-", "x-amz-object-lock-", "x-amz-server-side-encryption"];

/// Fields of S3's that the form itself is about.
const OF_THE_FORM: &[&str] = &["x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"];

/// The put of the form's file at `key`. It has no signature: whoever signed the policy goes with it otherwise.
pub(super) fn request(
    bucket: &str,
    key: &str,
    form: Form,
    allowed: RangeInclusive<u64>,
) -> Result<Request<Body>, FormError> {
    let file = Allowed { file: form.file.bytes, allowed, seen: 0, ended: false };
    let mut put = Request::new(Body::http_body_unsync(StreamBody::new(file.map_ok(Frame::data))));
    *put.method_mut() = Method::PUT;
    let path = format!("/{bucket}/{}", utf8_percent_encode(key, PATH));
    *put.uri_mut() = path.parse().map_err(|_| invalid("key", key))?;
    *put.headers_mut() = headers(&form.fields)?;
    Ok(put)
}

/// Fields of S3's that are unknown would promise something; others are the page's own.
fn headers(fields: &Fields) -> Result<HeaderMap, FormError> {
    let mut headers = HeaderMap::new();
    for (field, value) in fields.iter() {
        let renamed = HEADERS.iter().find(|(name, _)| *name == field).map(|(_, header)| *header);
        let same = PREFIXES.iter().any(|prefix| field.starts_with(prefix)).then_some(field);
        match renamed.or(same) {
            Some(header) => {
                let name = HeaderName::from_bytes(header.as_bytes()).map_err(|_| invalid(field, value))?;
                let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| invalid(field, value))?;
                headers.insert(name, value);
            }
            None if field == "tagging" => {
                let query = tagging_query(value).ok_or(FormError::MalformedTagging)?;
                headers.insert("x-amz-tagging", HeaderValue::from_str(&query).map_err(|_| invalid(field, value))?);
            }
            None if field.starts_with("x-amz-") && !OF_THE_FORM.contains(&field) => {
                return Err(FormError::NotBuilt(field.to_owned()));
            }
            None => {}
        }
    }
    Ok(headers)
}

/// The tags of a form, which writes them in XML, as a put's header writes them.
fn tagging_query(xml: &str) -> Option<String> {
    let xml = xml::plain(xml.as_bytes()).ok()?;
    let tagging = Tagging::deserialize(&mut Deserializer::new(xml.as_bytes())).ok()?;
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs = tagging
        .tag_set
        .iter()
        .map(|tag| Some(format!("{}={}", encode(tag.key.as_deref()?), encode(tag.value.as_deref()?))));
    pairs.collect::<Option<Vec<_>>>().map(|pairs| pairs.join("&"))
}

/// The answer repeats the value: as much of it as shows which it was.
fn invalid(name: &str, value: &str) -> FormError {
    let told = value.floor_char_boundary(TOLD_BYTES_MAX);
    FormError::InvalidField { name: name.to_owned(), value: value[..told].to_owned() }
}

/// The file's bytes, which fail when they are more or fewer than allowed: nothing is stored then.
struct Allowed {
    file: Field<'static>,
    allowed: RangeInclusive<u64>,
    seen: u64,
    ended: bool,
}

impl Stream for Allowed {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(polled) = self.file.poll_next_unpin(cx) else { return Poll::Pending };
        if let Some(Ok(bytes)) = &polled {
            self.seen += bytes.len() as u64;
        }
        let maximum = *self.allowed.end();
        let outcome = match polled {
            Some(Ok(_)) if self.seen > maximum => Some(Err(BodyError::TooLarge { size: self.seen, maximum })),
            Some(Ok(bytes)) => return Poll::Ready(Some(Ok(bytes))),
            Some(Err(error)) => Some(Err(body_error(&error))),
            None if self.seen < *self.allowed.start() => {
                Some(Err(BodyError::TooSmall { size: self.seen, minimum: *self.allowed.start() }))
            }
            None => None,
        };
        self.ended = true;
        Poll::Ready(outcome)
    }
}

fn body_error(error: &multer::Error) -> BodyError {
    match error {
        multer::Error::StreamReadFailed(_) => BodyError::Disconnected,
        _ => BodyError::Truncated,
    }
}

#[cfg(test)]
mod tests {
    use super::{TOLD_BYTES_MAX, headers, tagging_query};
    use crate::http::form::error::FormError;
    use crate::http::form::fields::Fields;

    #[test]
    fn fields_become_headers() {
        let fields = Fields::from([
            ("key", "k"),
            ("acl", "private"),
            ("content-type", "text/plain"),
            ("x-amz-meta-a", "é"),
            ("x-amz-checksum-sha256", "c"),
            ("x-amz-date", "20151229T000000Z"),
            ("success_action_status", "201"),
            ("submit", "Upload"),
        ]);
        let headers = headers(&fields).expect("valid");
        let mut names: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "x-amz-acl", "x-amz-checksum-sha256", "x-amz-meta-a"]);
        assert_eq!(headers["x-amz-meta-a"].as_bytes(), "é".as_bytes());
    }

    #[test]
    fn a_wrong_value_is_told_in_part() {
        let value = format!("\n{}", "é".repeat(TOLD_BYTES_MAX));
        match headers(&Fields::from([("x-amz-meta-a", value.as_str())])) {
            Err(FormError::InvalidField { value: told, .. }) => {
                assert!(value.starts_with(&told) && told.len() == TOLD_BYTES_MAX - 1, "{}", told.len());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tags_are_written_as_a_header_writes_them() {
        let tag = |inner: &str| format!("<Tagging><TagSet>{inner}</TagSet></Tagging>");
        let two = "<Tag><Key>a&amp;b</Key><Value>é</Value></Tag><Tag><Key>c</Key><Value></Value></Tag>";
        assert_eq!(tagging_query(&tag(two)).as_deref(), Some("a%26b=%C3%A9&c="));
        assert_eq!(tagging_query(&tag("")).as_deref(), Some(""));
        let cdata = "<Tag><Key><![CDATA[a&b]]></Key><Value>&#x1F600;</Value></Tag>";
        assert_eq!(tagging_query(&tag(cdata)).as_deref(), Some("a%26b=%F0%9F%98%80"));
        assert_eq!(tagging_query(&tag("<Tags><Key>a</Key><Value>1</Value></Tags>")), None);
        assert_eq!(tagging_query(&tag("<Tag><Value>1</Value></Tag>")), None);
        assert_eq!(tagging_query("team=storage"), None);
        assert_eq!(tagging_query(&format!("{}x", tag(""))), None);
    }

    #[test]
    fn fields_that_would_turn_the_put_into_something_else_are_refused() {
        for name in
            ["x-amz-copy-source", "x-amz-write-offset-bytes", "x-amz-decoded-content-length", "x-amz-content-sha256"]
        {
            assert_eq!(headers(&Fields::from([(name, "1")])), Err(FormError::NotBuilt(name.to_owned())));
        }
        assert!(matches!(headers(&Fields::from([("x-amz-meta-a", "a\nb")])), Err(FormError::InvalidField { .. })));
        assert!(matches!(headers(&Fields::from([("x-amz-meta-a b", "c")])), Err(FormError::InvalidField { .. })));
    }
}
