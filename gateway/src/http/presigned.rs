//! What is wrong with a presigned URL before its signature is looked at, in S3's words: s3s has one sentence for all of it, and
//! takes a URL without a signature for one that nobody signed.
//!
//! See "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" in the S3 API reference.

use http::{Response, StatusCode, Uri};

use super::errors::error_response_with;
use super::reply::Content;
use crate::query;

/// What a presigned URL has. The first three are in no other URL.
const PARAMETERS: [&str; 6] =
    ["X-Amz-Signature", "X-Amz-Credential", "X-Amz-Algorithm", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires"];

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

/// The answer to a URL that cannot be right, for a gateway of that region.
pub(super) fn refuse(uri: &Uri, region: &str) -> Option<Response<Content>> {
    let Flaw { status, message, region } = flaw(uri, region)?;
    let more: Vec<(&str, &str)> = region.iter().map(|region| ("Region", region.as_str())).collect();
    Some(error_response_with(status, "AuthorizationQueryParametersError", &message, &more))
}

fn flaw(uri: &Uri, region: &str) -> Option<Flaw> {
    let value = |wanted: &str| query::value(uri.query(), wanted);
    let [signature, credential, algorithm, date, headers, expires] = PARAMETERS.map(value);
    if signature.is_none() && credential.is_none() && algorithm.is_none() {
        return None;
    }
    let (Some(_), Some(credential), Some(_), Some(date), Some(_), Some(expires)) =
        (signature, credential, algorithm, date, headers, expires)
    else {
        return Some(bad(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        ));
    };
    of_credential(&credential, &date, region).or_else(|| of_expiry(&expires))
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

fn bad(message: &str) -> Flaw {
    Flaw { status: StatusCode::BAD_REQUEST, message: message.to_owned(), region: None }
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::{Flaw, flaw};

    const GOOD: &str = "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F20260131%2Fus-east-1%2Fs3%2Faws4_request\
        &X-Amz-Date=20260131T120000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=ab";

    fn found(url: &str) -> Option<Flaw> {
        flaw(&url.parse::<Uri>().unwrap(), "us-east-1")
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
}
