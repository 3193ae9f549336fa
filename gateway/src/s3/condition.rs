//! Preconditions out of headers. The headers are read as they came: s3s takes a list of entity tags for one tag.

use annulus_common::condition::{Conditions, ETagCondition, Verdict};
use annulus_common::object::ObjectVersion;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use s3s::dto::Timestamp;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::error::{detailed, invalid_argument};
use super::headers;

/// `If-Match` and `If-None-Match` of a write.
pub(super) fn of_write(headers: &HeaderMap) -> S3Result<Conditions> {
    Ok(Conditions {
        if_match: tags(headers, "if-match")?,
        if_none_match: tags(headers, "if-none-match")?,
        ..Conditions::default()
    })
}

/// The conditions of a read.
pub(super) fn of_read(
    headers: &HeaderMap,
    modified_since: Option<&Timestamp>,
    unmodified_since: Option<&Timestamp>,
    now_ms: u64,
) -> S3Result<Conditions> {
    Ok(Conditions {
        if_modified_since: of_the_past(modified_since, now_ms),
        if_unmodified_since: unmodified_since.map(unix_seconds),
        ..of_write(headers)?
    })
}

/// The conditions on what the header `source` names, to be copied or renamed.
pub(super) fn of_source(
    headers: &HeaderMap,
    source: &str,
    modified_since: Option<&Timestamp>,
    unmodified_since: Option<&Timestamp>,
    now_ms: u64,
) -> S3Result<Conditions> {
    Ok(Conditions {
        if_match: tags(headers, &format!("{source}-if-match"))?,
        if_none_match: tags(headers, &format!("{source}-if-none-match"))?,
        if_modified_since: of_the_past(modified_since, now_ms),
        if_unmodified_since: unmodified_since.map(unix_seconds),
        ..Conditions::default()
    })
}

/// Whether an object may be read.
pub(super) fn judge_read(conditions: &Conditions, version: &ObjectVersion) -> S3Result {
    match conditions.judge(Some(version)) {
        Verdict::Holds => Ok(()),
        Verdict::NotModified => Err(not_modified(version)),
        Verdict::Failed | Verdict::NoObject => Err(s3_error!(PreconditionFailed)),
    }
}

/// Whether an object may be what the header `source` names it for, to be copied or renamed: S3 answers 412 either way.
pub(super) fn judge_source(conditions: &Conditions, version: &ObjectVersion, source: &str) -> S3Result {
    let condition = match conditions.judge(Some(version)) {
        Verdict::Holds => return Ok(()),
        _ if conditions.if_match.is_some() => "If-Match",
        _ if conditions.if_unmodified_since.is_some() => "If-Unmodified-Since",
        _ if conditions.if_none_match.is_some() => "If-None-Match",
        _ => "If-Modified-Since",
    };
    Err(detailed(s3_error!(PreconditionFailed), &[("Condition", &format!("{source}-{condition}"))]))
}

/// Whether `Range` is about the object that the client knows, by `If-Range`: a download that goes on where another one ended
/// must not join two objects. A tag must be the same and strong, a date the one that was told; anything else is no match. See
/// RFC 9110 section 13.1.5.
pub(crate) fn range_applies(headers: &HeaderMap, version: &ObjectVersion) -> bool {
    let known = [format!("\"{}\"", version.object.etag), headers::http_date(version.modified_ms)];
    let is_known = |value: &HeaderValue| known.iter().any(|known| known.as_bytes() == value.as_bytes().trim_ascii());
    headers.get_all(http::header::IF_RANGE).iter().all(is_known)
}

/// `If-Modified-Since`, if it is one: a date that is still to come is invalid, and ignored as S3 does. Else a client whose clock is
/// ahead would be told for as long that nothing has changed. See RFC 2616 section 14.25.
fn of_the_past(modified_since: Option<&Timestamp>, now_ms: u64) -> Option<i64> {
    let is_past = |since: &i64| u64::try_from(*since).map_or(true, |since| since <= now_ms / 1000);
    modified_since.map(unix_seconds).filter(is_past)
}

/// Seconds since the Unix epoch.
pub(super) fn unix_seconds(timestamp: &Timestamp) -> i64 {
    time::OffsetDateTime::from(timestamp.clone()).unix_timestamp()
}

/// An entity tag as a client writes it, without quotes and weakness.
pub(super) fn bare_tag(text: &str) -> &str {
    let text = text.trim();
    let text = text.strip_prefix("W/").unwrap_or(text);
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// 304 with what a cache wants to know. See RFC 9110 section 15.4.5.
fn not_modified(version: &ObjectVersion) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom("NotModified".into()), "Not Modified");
    error.set_status_code(StatusCode::NOT_MODIFIED);
    let mut headers = HeaderMap::new();
    let mut insert = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    insert(http::header::ETAG, &format!("\"{}\"", version.object.etag));
    insert(http::header::LAST_MODIFIED, &headers::http_date(version.modified_ms));
    if let Some(cache_control) = &version.object.headers.cache_control {
        insert(http::header::CACHE_CONTROL, cache_control);
    }
    if let Some(expires) = &version.object.headers.expires {
        insert(http::header::EXPIRES, expires);
    }
    error.set_headers(headers);
    error
}

/// A list of entity tags, over all headers of that name. A tag that is empty is one, and no object's: a client whose variable
/// is empty must not overwrite what it meant to compare.
fn tags(headers: &HeaderMap, name: &str) -> S3Result<Option<ETagCondition>> {
    let mut tags = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| invalid_argument(name, format!("invalid header: {name}")))?;
        tags.extend(split_tags(text));
    }
    if tags.is_empty() && headers.contains_key(name) {
        return Err(invalid_argument(name, format!("invalid header: {name}")));
    }
    if tags.iter().any(|tag| tag == "*") {
        return Ok(Some(ETagCondition::Any));
    }
    Ok((!tags.is_empty()).then_some(ETagCondition::OneOf(tags)))
}

/// Splits at commas that are not within quotes.
fn split_tags(text: &str) -> Vec<String> {
    let mut quoted = false;
    let pieces = text.split(|character: char| {
        quoted ^= character == '"';
        character == ',' && !quoted
    });
    pieces.filter(|piece| !piece.trim().is_empty()).map(|piece| bare_tag(piece).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use annulus_common::condition::ETagCondition;
    use http::{HeaderMap, HeaderValue};

    use super::{split_tags, tags};

    #[test]
    fn a_list_of_tags_is_split() {
        assert_eq!(split_tags("\"a\", W/\"b\" ,c"), ["a", "b", "c"]);
        assert_eq!(split_tags("\"a,b\", \"c\""), ["a,b", "c"]);
        assert_eq!(split_tags("*"), ["*"]);
        assert_eq!(split_tags("\"\", W/\"\" ,"), ["", ""]);
        assert!(split_tags(" , ").is_empty());
    }

    #[test]
    fn several_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        assert_eq!(tags(&headers, "if-match").expect("valid"), None);
        headers.append("if-match", HeaderValue::from_static("\"a\""));
        headers.append("if-match", HeaderValue::from_static("\"b\""));
        let both = ETagCondition::OneOf(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(tags(&headers, "if-match").expect("valid"), Some(both));
        headers.append("if-match", HeaderValue::from_static("*"));
        assert_eq!(tags(&headers, "if-match").expect("valid"), Some(ETagCondition::Any));
        for nothing in ["", " ", ","] {
            headers.insert("if-match", HeaderValue::from_static(nothing));
            assert!(tags(&headers, "if-match").is_err(), "{nothing:?}");
        }
        headers.insert("if-match", HeaderValue::from_static("\"\""));
        let empty = ETagCondition::OneOf(vec![String::new()]);
        assert_eq!(tags(&headers, "if-match").expect("valid"), Some(empty));
    }
}
