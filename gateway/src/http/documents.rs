//! What documents take of the memory of all requests: bodies that are read whole, and pages of lists. They have memory of their own,
//! which is asked for before any of an object's bytes.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use s3s::Body;

use super::addressing::Target;
use super::api::{Unread, read_whole};
use super::errors::error_response;
use super::reply::Content;
use crate::budget::Share;
use crate::query;

/// What a page of a list takes while it is put together: 1,000 keys of 1,024 bytes and what is told of them, as entries and as XML.
pub(super) const LIST_BYTES: u64 = 4 << 20;

/// A body sent in HTTP chunks without a length is taken up to this size: it is held in memory, because S3's signature
/// needs a length, and clients that do so send little.
pub(super) const UNSIZED_BODY_BYTES_MAX: usize = 1 << 20;

/// How long such a body may take.
const UNSIZED_BODY_WAIT: Duration = Duration::from_secs(60);

/// How often a document is in memory: as it came, mended, and taken to pieces.
const COPIES: u64 = 3;

/// The share of a document goes with its request: no other one is reserved for it.
#[derive(Clone)]
pub(super) struct IsReserved;

/// What a body of that length takes.
pub(super) fn document_bytes(length: u64) -> u64 {
    COPIES * length
}

/// What a body with these headers takes that has at most so many bytes.
pub(super) fn announced_bytes(headers: &HeaderMap, bytes_max: usize) -> u64 {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    document_bytes(length.unwrap_or(u64::MAX).min(bytes_max as u64))
}

/// Whether the answer may be a long list.
pub(super) fn is_list(method: &Method, uri: &Uri, target: &Target) -> bool {
    let asks = |name: &str| query::has(uri.query(), name);
    *method == Method::GET && (target.key.is_empty() || asks("uploadId") || asks("attributes"))
}

/// The request with its body, which is read whole.
pub(super) async fn take_unsized(request: Request<Incoming>) -> Result<Request<Body>, Response<Content>> {
    let (mut head, body) = request.into_parts();
    head.extensions.insert(IsReserved);
    match read_whole(body, UNSIZED_BODY_BYTES_MAX, UNSIZED_BODY_WAIT).await {
        Ok(body) => Ok(Request::from_parts(head, Body::from(body))),
        Err(Unread::Broken) => Err(error_response(
            StatusCode::LENGTH_REQUIRED,
            "MissingContentLength",
            "You must provide the Content-Length HTTP header.",
        )),
        Err(Unread::Late) => Err(error_response(
            StatusCode::BAD_REQUEST,
            "RequestTimeout",
            "Your socket connection to the server was not read from or written to within the timeout period.",
        )),
    }
}

/// Keeps of the share what the answer takes, until the client has it.
pub(super) fn settle(response: Response<Body>, mut share: Share) -> Response<Body> {
    let Some(document) = response.body().bytes() else { return response };
    share.shrink_to(document.len() as u64);
    let document = Arc::new(share).attach(document);
    response.map(|_| Body::from(document))
}

/// What S3 answers whom it cannot serve now.
pub(super) fn slow_down() -> Response<Content> {
    error_response(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate.")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use annulus_common::telemetry::Metrics;
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method, Response, Uri};
    use s3s::Body;

    use super::super::addressing::Addressing;
    use super::{announced_bytes, is_list, settle};
    use crate::budget::MemoryBudget;

    #[test]
    fn lists_are_known_by_their_request() {
        let is_list = |method: &Method, text: &str| {
            let uri: Uri = text.parse().expect("a URI");
            is_list(method, &uri, &Addressing::default().target(&HeaderMap::new(), &uri))
        };
        for list in ["/", "/b", "/b/?list-type=2", "/b?versions", "/b/k?uploadId=1", "/b/k?attributes"] {
            assert!(is_list(&Method::GET, list), "{list}");
        }
        assert!(!is_list(&Method::GET, "/b/k"));
        assert!(!is_list(&Method::HEAD, "/b"));
        assert!(!is_list(&Method::PUT, "/b/k?uploadId=1&partNumber=1"));
    }

    #[test]
    fn a_body_takes_what_it_announces_and_no_more_than_it_may() {
        let mut headers = HeaderMap::new();
        assert_eq!(announced_bytes(&headers, 1_000), 3_000);
        for (announced, taken) in [(10, 30), (5_000, 3_000)] {
            headers.insert("content-length", HeaderValue::from(announced));
            assert_eq!(announced_bytes(&headers, 1_000), taken);
        }
    }

    #[tokio::test]
    async fn an_answer_is_held_by_what_it_takes() {
        let budget = MemoryBudget::with_wait(1 << 30, Duration::ZERO, Metrics::new());
        let share = budget.document(4 << 20).await.expect("it is free");
        let settled = settle(Response::new(Body::from(Bytes::from(vec![b'x'; 100_000]))), share);
        assert_eq!(budget.held(), 100_000);
        let bytes = settled.body().bytes().expect("it is whole");
        drop(settled);
        assert_eq!((budget.held(), bytes.len()), (100_000, 100_000));
        drop(bytes);
        assert_eq!(budget.held(), 0);
        let share = budget.document(4 << 20).await.expect("it is free");
        settle(Response::new(Body::empty()), share);
        assert_eq!(budget.held(), 0);
    }
}
