//! What is wrong with a presigned URL before its signature is looked at, in S3's words: s3s has one sentence for all of it, and
//! takes a URL without a signature for one that nobody signed.
//!
//! See "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" in the S3 API reference.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};

use super::errors::error_response_with;
use super::reply::Content;
use crate::query;

/// What a presigned URL has. The first three are in no other URL.
const PARAMETERS: [&str; 6] =
    ["X-Amz-Signature", "X-Amz-Credential", "X-Amz-Algorithm", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires"];

/// The SHA-256 of the body, as a parameter and as a header.
const DIGEST: &str = "x-amz-content-sha256";

/// What it is where the body is not signed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// How long one may hold, as S3 says.
pub(super) const SECONDS_MAX: u32 = 7 * 24 * 3600;

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Flaw {
    status: StatusCode,
    message: String,
    /// The region that it should be signed for, where it is another.
    region: Option<String>,
}

/// Puts the SHA-256 of the body that a presigned URL says among the headers of the request, so that s3s compares the body with it
/// as with that of a header. The signature covers it like the rest of the query.
pub(super) fn take_digest(uri: &Uri, headers: &mut HeaderMap) {
    let is_signed = query::has(uri.query(), PARAMETERS[0]);
    let digest = digests(uri).find(|digest| is_signed && is_sha256(digest));
    if let Some(Ok(digest)) = digest.as_deref().map(HeaderValue::from_str) {
        headers.entry(DIGEST).or_insert(digest);
    }
}

/// The answer to a URL that cannot be right, for a gateway of that region.
pub(super) fn refuse(uri: &Uri, headers: &HeaderMap, region: &str) -> Option<Response<Content>> {
    let Flaw { status, message, region } = flaw(uri, headers, region)?;
    let more: Vec<(&str, &str)> = region.iter().map(|region| ("Region", region.as_str())).collect();
    Some(error_response_with(status, "AuthorizationQueryParametersError", &message, &more))
}

fn flaw(uri: &Uri, headers: &HeaderMap, region: &str) -> Option<Flaw> {
    let value = |wanted: &str| query::value(uri.query(), wanted);
    let [signature, credential, algorithm, date, signed, expires] = PARAMETERS.map(value);
    if signature.is_none() && credential.is_none() && algorithm.is_none() {
        return None;
    }
    let (Some(_), Some(credential), Some(_), Some(date), Some(_), Some(expires)) =
        (signature, credential, algorithm, date, signed, expires)
    else {
        return Some(bad(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        ));
    };
    of_credential(&credential, &date, region).or_else(|| of_expiry(&expires)).or_else(|| of_digest(uri, headers))
}

/// `KEY/20260131/us-east-1/s3/aws4_request`
fn of_credential(credential: &str, date: &str, region: &str) -> Option<Flaw> {
    let parse = |message: String| bad(&format!("Error parsing the X-Amz-Credential parameter; {message}"));
    let [_, day, place, service, terminal] = credential.split('/').collect::<Vec<_>>()[..] else {
        let expected = "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request";
        return Some(parse(format!("the Credential is mal-formed; expecting \"{expected}\".")));
    };
    let is_day = day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit());
    if !is_day {
        let format = "This date in the credential must be in the format \"yyyyMMdd\".";
        Some(parse(format!("incorrect date format \"{day}\". {format}")))
    } else if terminal != "aws4_request" {
        Some(parse(format!("incorrect terminal \"{terminal}\". This endpoint uses \"aws4_request\".")))
    } else if service != "s3" {
        Some(parse(format!("incorrect service \"{service}\". This endpoint belongs to \"s3\".")))
    } else if place != region {
        let flaw = parse(format!("the region '{place}' is wrong; expecting '{region}'"));
        Some(Flaw { region: Some(region.to_owned()), ..flaw })
    } else if !is_time(date) {
        Some(bad("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""))
    } else if !date.starts_with(day) {
        let message = "This date is not the same as X-Amz-Date";
        Some(bad(&format!("Invalid credential date \"{day}\". {message}: \"{}\".", &date[..8])))
    } else {
        None
    }
}

/// `20260131T120000Z`
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_digit = |place: usize| place == 8 || place == 15 || bytes[place].is_ascii_digit();
    bytes.len() == 16 && bytes[8] == b'T' && bytes[15] == b'Z' && (0..16).all(is_digit)
}

/// A URL that never or always holds is answered 403, as ceph/s3-tests has it.
fn of_expiry(seconds: &str) -> Option<Flaw> {
    let Ok(seconds) = seconds.parse::<i64>() else { return Some(bad("X-Amz-Expires should be a number")) };
    let message = match seconds {
        ..0 => "X-Amz-Expires must be non-negative".to_owned(),
        0 => "X-Amz-Expires must be at least a second".to_owned(),
        _ if seconds > i64::from(SECONDS_MAX) => format!(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than {SECONDS_MAX} seconds"
        ),
        _ => return None,
    };
    Some(Flaw { status: StatusCode::FORBIDDEN, ..bad(&message) })
}

/// Each that is said is compared, or is none: of two that differ one could not be.
fn of_digest(uri: &Uri, headers: &HeaderMap) -> Option<Flaw> {
    let is_compared = |digest: &str| is_sha256(digest) && headers.get(DIGEST).is_some_and(|header| header == digest);
    let is_good = |digest: &str| digest == UNSIGNED || is_compared(digest);
    let wrong = digests(uri).find(|digest| !is_good(digest));
    wrong.map(|_| {
        bad("X-Amz-Content-Sha256 must be UNSIGNED-PAYLOAD or the valid sha256 value of the header, if there is one")
    })
}

/// What the URL says of its body. Headers in a query may be in any case.
fn digests(uri: &Uri) -> impl Iterator<Item = Cow<'_, str>> {
    query::pairs(uri.query()).filter(|(name, _)| name.eq_ignore_ascii_case(DIGEST)).map(|(_, digest)| digest)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn bad(message: &str) -> Flaw {
    Flaw { status: StatusCode::BAD_REQUEST, message: message.to_owned(), region: None }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Uri};

    use super::{DIGEST, Flaw, flaw, take_digest};

    const GOOD: &str = "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F20260131%2Fus-east-1%2Fs3%2Faws4_request\
        &X-Amz-Date=20260131T120000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=ab";

    fn found(url: &str) -> Option<Flaw> {
        found_with(url, HeaderMap::new())
    }

    /// As it is found in requests: what the URL says of its body was taken.
    fn found_with(url: &str, mut headers: HeaderMap) -> Option<Flaw> {
        let uri = url.parse::<Uri>().unwrap();
        take_digest(&uri, &mut headers);
        flaw(&uri, &headers, "us-east-1")
    }

    #[test]
    fn a_url_that_can_be_right_passes() {
        for url in [GOOD, "/b/k", "/b/k?X-Amz-Expires=x", "/b?prefix=X-Amz-Signature"] {
            assert_eq!(found(url), None, "{url}");
        }
    }

    #[test]
    fn each_mistake_is_told() {
        for (from, to, status, message) in [
            ("X-Amz-Signature=ab", "", 400, "Query-string authentication version 4 requires"),
            ("X-Amz-Date=20260131T120000Z", "", 400, "Query-string authentication version 4 requires"),
            ("%2Faws4_request", "", 400, "the Credential is mal-formed"),
            ("20260131%2F", "260131%2F", 400, "incorrect date format \"260131\""),
            ("20260131%2F", "20260130%2F", 400, "Invalid credential date \"20260130\""),
            ("us-east-1", "mars", 400, "the region 'mars' is wrong; expecting 'us-east-1'"),
            ("%2Fs3%2F", "%2Fsqs%2F", 400, "incorrect service \"sqs\""),
            ("aws4_request", "aws5_request", 400, "incorrect terminal \"aws5_request\""),
            ("20260131T120000Z", "20260131", 400, "X-Amz-Date must be in the ISO8601 Long Format"),
            ("Expires=60", "Expires=soon", 400, "X-Amz-Expires should be a number"),
            ("Expires=60", "Expires=0", 403, "at least a second"),
            ("Expires=60", "Expires=-1", 403, "non-negative"),
            ("Expires=60", "Expires=604801", 403, "must be less than a week"),
        ] {
            let flaw = found(&GOOD.replace(from, to)).unwrap_or_else(|| panic!("{from} -> {to}"));
            assert_eq!(flaw.status.as_u16(), status, "{to}");
            assert!(flaw.message.contains(message), "{to}: {}", flaw.message);
            assert_eq!(flaw.region.is_some(), to == "mars");
        }
    }

    #[test]
    fn a_digest_is_compared_or_refused() {
        let (one, other) = ("a".repeat(64), "b".repeat(64));
        let taken = |url: &str| {
            let mut headers = HeaderMap::new();
            take_digest(&url.parse().unwrap(), &mut headers);
            headers.get(DIGEST).map(|digest| digest.to_str().unwrap().to_owned())
        };
        for name in ["X-Amz-Content-Sha256", "x-amz-content-sha256", "X-Amz-Content%2DSha256"] {
            let url = format!("{GOOD}&{name}={one}");
            assert_eq!((taken(&url), found(&url)), (Some(one.clone()), None), "{name}");
        }
        assert_eq!(taken(&format!("/b/k?X-Amz-Content-Sha256={one}")), None, "nobody signed it");
        let unsigned = format!("{GOOD}&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD");
        assert_eq!((taken(&unsigned), found(&unsigned)), (None, None));
        let upper = "A".repeat(64);
        for wrong in ["", "x", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", &one[1..], &upper] {
            assert!(found(&format!("{GOOD}&X-Amz-Content-Sha256={wrong}")).is_some(), "{wrong}");
        }
        assert!(found(&format!("{GOOD}&X-Amz-Content-Sha256={one}&x-amz-content-sha256={other}")).is_some());
        for (header, is_right) in [(&one, true), (&other, false)] {
            let headers = HeaderMap::from_iter([(http::HeaderName::from_static(DIGEST), header.parse().unwrap())]);
            let flaw = found_with(&format!("{GOOD}&X-Amz-Content-Sha256={one}"), headers);
            assert_eq!(flaw.is_none(), is_right, "{header}");
        }
    }
}
