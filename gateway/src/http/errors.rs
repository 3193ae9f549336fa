//! Errors as S3 writes them: the ones raised before or beside s3s, and what s3s leaves out of its own.

use bytes::Bytes;
use http::{Response, StatusCode};
use quick_xml::escape::{escape, partial_escape, unescape};
use s3s::S3ErrorCode;

/// What every error says about where it happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The path of the request, as it came.
    pub(super) resource: &'a str,
    /// S3's name of the operation.
    pub(super) operation: &'a str,
    /// The request's id.
    pub(super) request_id: &'a str,
    /// The gateway's id.
    pub(super) host_id: &'a str,
}

/// Errors of s3s that S3 knows under another code, or tells in other words.
struct Renamed {
    /// Of these operations; of all when there are none.
    operations: &'static [&'static str],
    /// s3s's code.
    code: &'static str,
    /// What s3s's message begins with.
    message: &'static str,
    /// S3's code.
    better: &'static str,
    /// S3's message; s3s's where there is none. `{}` is the first word behind the beginning of s3s's.
    words: Option<&'static str>,
}

const RENAMED: &[Renamed] = &[
    Renamed {
        operations: &[],
        code: "InvalidRequest",
        message: "invalid header: authorization",
        better: "AuthorizationHeaderMalformed",
        words: None,
    },
    Renamed {
        operations: &["PutBucketAcl", "PutObjectAcl"],
        code: "MalformedXML",
        message: "",
        better: "MalformedACLError",
        words: Some(MALFORMED_XML),
    },
    Renamed {
        operations: &[],
        code: "InvalidRequest",
        message: "missing header: ",
        better: "InvalidRequest",
        words: Some("Missing required header for this request: {}"),
    },
    Renamed {
        operations: &[],
        code: "InvalidArgument",
        message: "invalid query: partNumber",
        better: "InvalidArgument",
        words: Some("Part number must be an integer between 1 and 10000, inclusive"),
    },
    Renamed {
        operations: &[],
        code: "InvalidArgument",
        message: "invalid query: ",
        better: "InvalidArgument",
        words: Some("Provided {} not an integer or within integer range"),
    },
    Renamed {
        operations: &[],
        code: "RequestTimeTooSkewed",
        message: "request ",
        better: "RequestTimeTooSkewed",
        words: Some("The difference between the request time and the current time is too large."),
    },
];

const MALFORMED_XML: &str = "The XML you provided was not well-formed or did not validate against our published schema";

/// What S3 says where s3s has the words of its documentation: some programs look for S3's.
const WORDS: &[(&str, &str)] = &[
    ("AccessControlListNotSupported", "The bucket does not allow ACLs"),
    ("BucketNotEmpty", "The bucket you tried to delete is not empty"),
    ("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size"),
    ("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size"),
    ("InvalidDigest", "The Content-MD5 you specified was invalid."),
    (
        "InvalidPart",
        "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.",
    ),
    ("InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number."),
    ("InvalidRange", "The requested range is not satisfiable"),
    ("InvalidStorageClass", "The storage class you specified is not valid"),
    ("KeyTooLongError", "Your key is too long"),
    ("MalformedXML", MALFORMED_XML),
    ("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size"),
    ("NoSuchBucket", "The specified bucket does not exist"),
    ("NoSuchBucketPolicy", "The bucket policy does not exist"),
    (
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
    ),
    ("NotImplemented", "A header you provided implies functionality that is not implemented"),
    ("PreconditionFailed", "At least one of the pre-conditions you specified did not hold"),
];

/// An error that was not raised inside s3s. The service adds the rest of what S3 says.
pub fn error_response<B: From<Bytes>>(status: StatusCode, code: &str, message: &str) -> Response<B> {
    error_response_with(status, code, message, &[])
}

/// The same, with elements that S3 documents for this error beside code and message.
pub(super) fn error_response_with<B: From<Bytes>>(
    status: StatusCode,
    code: &str,
    message: &str,
    more: &[(&str, &str)],
) -> Response<B> {
    let more: String = more.iter().map(|(name, text)| format!("<{name}>{}</{name}>", escape(*text))).collect();
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{}</Code><Message>{}</Message>{more}</Error>",
        escape(code),
        partial_escape(message)
    );
    let mut response = Response::new(B::from(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/xml"));
    response
}

/// The error with S3's code and words, its details, the resource and the ids; nothing when it is not an error's XML. What
/// the details are follows from the code that it has, and from the message that it had.
pub(super) fn complete(
    xml: &[u8],
    place: Place<'_>,
    details: impl FnOnce(&str, &str) -> Vec<(String, String)>,
) -> Option<String> {
    let error = Written::read(std::str::from_utf8(xml).ok()?)?;
    let (code, words) = correct(&error.code, &error.message, place.operation);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{}</Code><Message>{}</Message>{}",
        escape(code),
        // With its quotes as they are, as S3 writes them: tools look for conditions of policies that failed.
        partial_escape(&words),
        error.more
    );
    let mut add = |name: &str, value: &str| {
        if !error.more.contains(&format!("<{name}>")) {
            text.push_str(&format!("<{name}>{}</{name}>", escape(value)));
        }
    };
    for (name, value) in details(code, &error.message) {
        add(&name, &value);
    }
    add("Resource", place.resource);
    add("RequestId", place.request_id);
    add("HostId", place.host_id);
    text.push_str("</Error>");
    Some(text)
}

/// The code of an error's XML.
pub(super) fn code(xml: &[u8]) -> Option<&str> {
    let (_, behind) = std::str::from_utf8(xml).ok()?.split_once("<Error><Code>")?;
    behind.split_once("</Code>").map(|(code, _)| code)
}

/// An error as it was written here or by s3s.
struct Written<'a> {
    code: String,
    message: String,
    /// What stands behind the message.
    more: &'a str,
}

impl<'a> Written<'a> {
    fn read(xml: &'a str) -> Option<Self> {
        let (_, inner) = xml.strip_suffix("</Error>")?.split_once("<Error>")?;
        let (code, rest) = inner.strip_prefix("<Code>")?.split_once("</Code>")?;
        let message = rest.strip_prefix("<Message>").and_then(|rest| rest.split_once("</Message>"));
        let (message, more) = message.unwrap_or(("", rest));
        let plain = |text| unescape(text).ok().map(|text| text.into_owned());
        Some(Self { code: plain(code)?, message: plain(message)?, more })
    }
}

/// S3's code and message for s3s's.
fn correct<'a>(code: &'a str, message: &str, operation: &str) -> (&'a str, String) {
    let known = RENAMED.iter().find(|renamed| {
        let of_operation = renamed.operations.is_empty() || renamed.operations.contains(&operation);
        of_operation && renamed.code == code && message.starts_with(renamed.message)
    });
    if let Some(Renamed { message: begin, better, words, .. }) = known {
        let word = message[begin.len()..].split([':', ' ']).next().unwrap_or_default();
        return (better, words.map_or_else(|| message.to_owned(), |words| words.replace("{}", word)));
    }
    let default = S3ErrorCode::from_bytes(code.as_bytes()).and_then(|code| code.default_message());
    let words = WORDS.iter().find(|(known, _)| *known == code && default == Some(message));
    (code, words.map_or(message, |(_, words)| words).to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Place, code, complete};

    const PLACE: Place<'static> =
        Place { resource: "/b/a&b", operation: "PutBucketAcl", request_id: "17", host_id: "H" };

    fn none(_: &str, _: &str) -> Vec<(String, String)> {
        Vec::new()
    }

    fn key(code: &str, _: &str) -> Vec<(String, String)> {
        assert_eq!(code, "NoSuchKey");
        vec![("Key".to_owned(), "<k>".to_owned())]
    }

    #[test]
    fn s3_has_its_own_words() {
        let said = |code: &str, message: &str| super::correct(code, message, "GetObject").1;
        let of_precondition = "At least one of the pre-conditions you specified did not hold";
        let default = s3s::S3ErrorCode::PreconditionFailed.default_message().expect("s3s has one");
        assert_eq!(said("PreconditionFailed", default), of_precondition);
        assert_eq!(said("PreconditionFailed", "of ours"), "of ours");
        let query = "invalid query: max-keys: many";
        assert_eq!(said("InvalidArgument", query), "Provided max-keys not an integer or within integer range");
        assert_eq!(said("InvalidRequest", "missing header: x-y"), "Missing required header for this request: x-y");
    }

    #[test]
    fn what_an_error_says_already_is_not_said_again() {
        let xml = b"<Error><Code>NoSuchKey</Code><Message>m</Message><Key>a</Key><RequestId>1</RequestId></Error>";
        let completed = complete(xml, PLACE, key).expect("an error");
        assert!(completed.contains("<Key>a</Key><RequestId>1</RequestId><Resource>"), "{completed}");
        assert_eq!(completed.matches("<Key>").count() + completed.matches("<RequestId>").count(), 2);
    }

    #[test]
    fn an_error_is_completed() {
        let xml = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>m</Message></Error>";
        let completed = complete(xml, PLACE, key).expect("an error");
        assert!(completed.ends_with(
            "<Message>m</Message><Key>&lt;k&gt;</Key><Resource>/b/a&amp;b</Resource><RequestId>17</RequestId><HostId>H</HostId></Error>"
        ));
    }

    #[test]
    fn a_known_error_gets_its_name() {
        let xml = b"<Error><Code>InvalidRequest</Code><Message>invalid header: authorization: x</Message></Error>";
        assert!(complete(xml, PLACE, none).expect("an error").contains("<Code>AuthorizationHeaderMalformed</Code>"));
        let xml = b"<Error><Code>MalformedXML</Code><Message>m</Message></Error>";
        assert!(complete(xml, PLACE, none).expect("an error").contains("<Code>MalformedACLError</Code>"));
        let elsewhere = complete(xml, Place { operation: "DeleteObjects", ..PLACE }, none).expect("an error");
        assert!(elsewhere.contains("<Code>MalformedXML</Code>"));
    }

    #[test]
    fn other_bodies_are_left_alone() {
        assert_eq!(complete(b"{}", PLACE, none), None);
        assert_eq!(complete(b"<Error><Code>\xff</Code></Error>", PLACE, none), None);
        assert_eq!(code(b"<Error><Code>NoSuchKey</Code></Error>"), Some("NoSuchKey"));
        assert_eq!(code(b"<DeleteResult><Error><Key>k</Key></Error></DeleteResult>"), None);
    }
}
