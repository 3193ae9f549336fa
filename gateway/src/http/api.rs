//! What the APIs beside S3 have in common: requests that are read whole, answers that are here already, and errors as those of
//! AWS write them. Which codes there are is each API's own.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use quick_xml::escape::escape;

use super::handler::{BodyFailure, HandlerBody, whole};

/// Why a request is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unread {
    /// It broke off, or is longer than it may be.
    Broken,
    /// It did not come in time.
    Late,
}

/// The body of a request.
pub(crate) async fn read_whole<B>(body: B, bytes_max: usize, wait: Duration) -> Result<Bytes, Unread>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BodyFailure>,
{
    match tokio::time::timeout(wait, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(Unread::Broken),
        Err(_) => Err(Unread::Late),
    }
}

/// An answer.
pub(crate) fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<HandlerBody> {
    let mut response = Response::new(whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An error; IAM and STS also say whose fault it is, by its `Type`.
pub(crate) fn error_xml(
    namespace: &str,
    fault: Option<&str>,
    (code, message): (&str, &str),
    request_id: &str,
) -> String {
    let fault = fault.map(|fault| format!("<Type>{fault}</Type>")).unwrap_or_default();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ErrorResponse xmlns=\"{namespace}\"><Error>{fault}<Code>{code}</Code>\
         <Message>{}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>",
        escape(message)
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::{Unread, error_xml, read_whole};

    #[tokio::test]
    async fn a_request_is_bounded_in_time_and_size() {
        let silent = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        assert_eq!(read_whole(silent, 9, Duration::from_millis(1)).await, Err(Unread::Late));
        let whole = |bytes: usize| read_whole(Full::new(Bytes::from(vec![0; bytes])), 9, Duration::from_secs(60));
        assert_eq!(whole(9).await.map(|body| body.len()), Ok(9));
        assert_eq!(whole(10).await, Err(Unread::Broken));
    }

    #[test]
    fn errors_say_whose_fault_they_are_where_that_is_told() {
        let error = |fault| error_xml("urn:x", fault, ("NoSuchEntity", "no <user>"), "7");
        let rest = "<Code>NoSuchEntity</Code><Message>no &lt;user&gt;</Message></Error><RequestId>7</RequestId></ErrorResponse>";
        let begin = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ErrorResponse xmlns=\"urn:x\"><Error>";
        assert_eq!(error(None), format!("{begin}{rest}"));
        assert_eq!(error(Some("Sender")), format!("{begin}<Type>Sender</Type>{rest}"));
    }
}
