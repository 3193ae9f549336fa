//! Errors as S3 writes them: the ones raised before or beside s3s, and what s3s leaves out of its own.

use bytes::Bytes;
use http::{Response, StatusCode};
use quick_xml::escape::escape;

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

/// Errors of s3s that S3 knows under another code.
struct Renamed {
    /// Of these operations; of all when there are none.
    operations: &'static [&'static str],
    /// s3s's code.
    code: &'static str,
    /// What s3s's message begins with.
    message: &'static str,
    /// S3's code.
    better: &'static str,
}

const RENAMED: &[Renamed] = &[
    Renamed {
        operations: &[],
        code: "InvalidRequest",
        message: "invalid header: authorization",
        better: "AuthorizationHeaderMalformed",
    },
    Renamed {
        operations: &["PutBucketAcl", "PutObjectAcl"],
        code: "MalformedXML",
        message: "",
        better: "MalformedACLError",
    },
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
        escape(message)
    );
    let mut response = Response::new(B::from(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/xml"));
    response
}

/// The error with S3's code, the resource and the ids; nothing when it is not an error's XML.
pub(super) fn complete(xml: &[u8], place: Place<'_>) -> Option<String> {
    let head = std::str::from_utf8(xml).ok()?.strip_suffix("</Error>")?;
    let known_id = head.contains("<RequestId>");
    let mut text = rename(head, place.operation);
    text.push_str(&format!("<Resource>{}</Resource>", escape(place.resource)));
    if !known_id {
        text.push_str(&format!("<RequestId>{}</RequestId>", place.request_id));
    }
    text.push_str(&format!("<HostId>{}</HostId></Error>", place.host_id));
    Some(text)
}

/// The code of an error's XML.
pub(super) fn code(xml: &[u8]) -> Option<&str> {
    let (_, behind) = std::str::from_utf8(xml).ok()?.split_once("<Error><Code>")?;
    behind.split_once("</Code>").map(|(code, _)| code)
}

fn rename(head: &str, operation: &str) -> String {
    let of_operation = |renamed: &&Renamed| renamed.operations.is_empty() || renamed.operations.contains(&operation);
    for Renamed { code, message, better, .. } in RENAMED.iter().filter(of_operation) {
        let found = format!("<Code>{code}</Code><Message>{message}");
        if head.contains(&found) {
            return head.replace(&found, &format!("<Code>{better}</Code><Message>{message}"));
        }
    }
    head.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Place, code, complete};

    const PLACE: Place<'static> =
        Place { resource: "/b/a&b", operation: "PutBucketAcl", request_id: "17", host_id: "H" };

    #[test]
    fn an_error_is_completed() {
        let xml = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>m</Message></Error>";
        let completed = complete(xml, PLACE).expect("an error");
        assert!(completed.ends_with(
            "<Message>m</Message><Resource>/b/a&amp;b</Resource><RequestId>17</RequestId><HostId>H</HostId></Error>"
        ));
    }

    #[test]
    fn a_known_error_gets_its_name() {
        let xml = b"<Error><Code>InvalidRequest</Code><Message>invalid header: authorization: x</Message></Error>";
        assert!(complete(xml, PLACE).expect("an error").contains("<Code>AuthorizationHeaderMalformed</Code>"));
        let xml = b"<Error><Code>MalformedXML</Code><Message>m</Message></Error>";
        assert!(complete(xml, PLACE).expect("an error").contains("<Code>MalformedACLError</Code>"));
        let elsewhere = complete(xml, Place { operation: "DeleteObjects", ..PLACE }).expect("an error");
        assert!(elsewhere.contains("<Code>MalformedXML</Code>"));
    }

    #[test]
    fn other_bodies_are_left_alone() {
        assert_eq!(complete(b"{}", PLACE), None);
        assert_eq!(complete(b"\xff</Error>", PLACE), None);
        assert_eq!(code(b"<Error><Code>NoSuchKey</Code></Error>"), Some("NoSuchKey"));
        assert_eq!(code(b"<DeleteResult><Error><Key>k</Key></Error></DeleteResult>"), None);
    }
}
