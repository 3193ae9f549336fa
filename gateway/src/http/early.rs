//! Answers to copies that take long. The bytes of a copy pass through the gateway, and may take longer than clients and proxies
//! wait for a status: then they are told 200 at once and white space until it is over, and the result or the error behind it, as S3
//! does. See "CopyObject" in the S3 API reference: an error may come within a 200. A fast copy, and so nearly every refusal, gets its
//! status. What a late answer would have said in headers is lost to its client.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tracing::{Instrument, Span, warn};

use super::reply::Content;
use crate::auth::Operation;

/// What an XML document begins with; nothing may stand before it, so it goes ahead of the white space.
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// How long a client waits for a status, as that of CompleteMultipartUpload does. Idle connections are cut by proxies after 30 s and more.
const STATUS_WAIT: Duration = Duration::from_secs(10);

/// How long a client hears nothing. Some give up after 10 s, most after a minute.
const SILENCE: Duration = Duration::from_secs(5);

/// The operations that may take long without a body that is sent.
const COPIES: &[&str] = &["CopyObject", "UploadPartCopy"];

/// How long a client waits: first for a status, then for each sign of life.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub(super) status: Duration,
    pub(super) silence: Duration,
}

impl Patience {
    /// Of clients of S3.
    pub(super) const USUAL: Self = Self { status: STATUS_WAIT, silence: SILENCE };
}

/// Whether a request may be a copy: which operation it is, is known later. Nothing that sends a body is answered before that came.
pub(super) fn may_be_copy(method: &Method, headers: &HeaderMap) -> bool {
    let has_length = headers.get(http::header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    *method == Method::PUT && !has_length && !headers.contains_key(http::header::TRANSFER_ENCODING)
}

/// The answer, or the beginning of a copy's that is late. `complete` gives an error in it what errors have.
pub(super) async fn answer(
    mut answer: BoxFuture<'static, Response<Content>>,
    operation: &Operation,
    patience: Patience,
    complete: impl FnOnce(&mut Response<Content>) + Send + 'static,
) -> Response<Content> {
    match tokio::time::timeout(patience.status, &mut answer).await {
        Ok(answered) => answered,
        Err(_) if !COPIES.contains(&operation.name()) => answer.await,
        Err(_) => {
            let document = async move {
                let mut response = answer.await;
                if response.status().is_server_error() {
                    warn!(status = response.status().as_u16(), "a copy failed whose client was told 200");
                }
                complete(&mut response);
                bare(response.into_body()).await
            };
            begun(document.instrument(Span::current()).boxed(), patience.silence)
        }
    }
}

fn begun(document: BoxFuture<'static, Bytes>, silence: Duration) -> Response<Content> {
    let frames = frames(document, silence).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
    let mut response = Response::new(Content::S3(s3s::Body::http_body_unsync(StreamBody::new(frames))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

/// The declaration, a space for each silence, and the document.
fn frames(document: BoxFuture<'static, Bytes>, silence: Duration) -> impl Stream<Item = Bytes> + Send {
    let rest = stream::unfold(Some(document), move |waiting| async move {
        let mut document = waiting?;
        match tokio::time::timeout(silence, &mut document).await {
            Ok(document) => Some((document, None)),
            Err(_) => Some((Bytes::from_static(b" "), Some(document))),
        }
    });
    stream::iter([Bytes::from_static(DECLARATION.as_bytes())]).chain(rest)
}

/// A document without its declaration. That of a copy, or of an error, is a few lines.
async fn bare(content: Content) -> Bytes {
    let Content::S3(body) = content else { return Bytes::new() };
    let Ok(body) = BodyExt::collect(body).await else { return Bytes::new() };
    let document = body.to_bytes();
    let declaration =
        document.starts_with(b"<?xml").then(|| document.windows(2).position(|end| end == b"?>")).flatten();
    document.slice(declaration.map_or(0, |end| end + 2)..)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    const PATIENCE: Patience = Patience { status: Duration::from_millis(5), silence: Duration::from_millis(2) };

    fn operation(name: &'static str) -> Operation {
        let operation = Operation::default();
        operation.name_it(name);
        operation
    }

    fn written(status: StatusCode, xml: &'static str) -> Response<Content> {
        let mut response = Response::new(Content::from(Bytes::from_static(xml.as_bytes())));
        *response.status_mut() = status;
        response
    }

    fn complete(response: &mut Response<Content>) {
        if response.status().is_client_error() {
            *response.body_mut() =
                Content::from(Bytes::from_static(b"<?xml version=\"1.0\"?><Error>completed</Error>"));
        }
    }

    /// What is told of a copy that is over when the client has heard two signs of life: the status, and what came behind them.
    async fn told_late(name: &'static str, response: Response<Content>) -> (StatusCode, String) {
        let (end, over) = tokio::sync::oneshot::channel();
        let copy = async move { over.await.map(|()| response).expect("the test ends it") };
        let begun = answer(copy.boxed(), &operation(name), PATIENCE, complete).await;
        let (head, Content::S3(mut body)) = begun.into_parts() else { panic!("it is S3's") };
        for expected in [DECLARATION, " ", " "] {
            let frame = body.frame().await.expect("there is more").expect("it does not fail");
            assert_eq!(frame.into_data().ok().as_deref(), Some(expected.as_bytes()));
        }
        end.send(()).expect("it waits for that");
        let rest = BodyExt::collect(body).await.expect("a body").to_bytes();
        (head.status, String::from_utf8(rest.to_vec()).expect("a text").trim_start().to_owned())
    }

    #[tokio::test]
    async fn a_late_copy_is_told_of_behind_white_space() {
        let copied = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><CopyObjectResult/>";
        let told = told_late("CopyObject", written(StatusCode::OK, copied)).await;
        assert_eq!(told, (StatusCode::OK, "<CopyObjectResult/>".to_owned()));
        let refused = written(StatusCode::PRECONDITION_FAILED, "<Error/>");
        let told = told_late("UploadPartCopy", refused).await;
        assert_eq!(told, (StatusCode::OK, "<Error>completed</Error>".to_owned()));
    }

    #[tokio::test]
    async fn all_else_is_answered_when_it_is_over() {
        for (name, took) in
            [("CopyObject", Duration::ZERO), ("PutObject", 2 * PATIENCE.status), ("", 2 * PATIENCE.status)]
        {
            let slow = async move {
                tokio::time::sleep(took).await;
                written(StatusCode::NOT_FOUND, "<Error/>")
            };
            let patience = if took.is_zero() { Patience::USUAL } else { PATIENCE };
            let response = answer(slow.boxed(), &operation(name), patience, complete).await;
            let (head, Content::S3(body)) = response.into_parts() else { panic!("it is S3's") };
            assert_eq!((head.status.as_u16(), body.bytes().as_deref()), (404, Some(&b"<Error/>"[..])), "{name}");
        }
    }

    #[test]
    fn a_copy_sends_no_body() {
        let of = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))])
        };
        assert!(may_be_copy(&Method::PUT, &HeaderMap::new()));
        assert!(may_be_copy(&Method::PUT, &of("content-length", "0")));
        assert!(!may_be_copy(&Method::PUT, &of("content-length", "1")));
        assert!(!may_be_copy(&Method::PUT, &of("transfer-encoding", "chunked")));
        assert!(!may_be_copy(&Method::GET, &HeaderMap::new()));
    }
}
