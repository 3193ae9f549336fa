//! What becomes of a reply before it is written: ids and the server's name, complete errors, no body to HEAD, and at the
//! end of its body one line in the log and one count in the metrics.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use annulus_common::clock::SharedClock;
use annulus_common::telemetry::Metrics;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tracing::{Span, debug, warn};

use super::addressing::Addressing;
use super::error_details::{Asked, details};
use super::errors::{self, Place};
use super::handler::{BodyFailure, HandlerBody};
use super::recording::Recording;
use crate::auth::Operation;
use crate::detail::DETAILS;
use crate::request::{RequestId, StatusOverride};

/// Counts a request as in flight while it is held.
pub(super) struct InFlight(Arc<Metrics>);

impl InFlight {
    pub(super) fn begin(metrics: &Arc<Metrics>) -> Self {
        metrics.http_in_flight.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.http_in_flight.dec();
    }
}

/// What the log says of a request whose client left before there was a reply.
const CLIENT_LEFT: u16 = 499;

/// A request while it is served: logged and counted when it is over, however that comes about.
pub(super) struct Exchange {
    pub(super) asked: Asked,
    pub(super) request_id: RequestId,
    pub(super) operation: Operation,
    pub(super) request_bytes: u64,
    pub(super) started: Instant,
    pub(super) span: Span,
    pub(super) in_flight: InFlight,
    /// The reply's status, once there is one.
    pub(super) status: Option<StatusCode>,
    /// Bytes of the reply's body so far.
    pub(super) response_bytes: u64,
    /// Names the gateway.
    pub(super) host_id: HeaderValue,
    /// For the access log of the request's bucket, if it has one.
    pub(super) recording: Option<Recording>,
}

/// The body of a reply, wherever it comes from.
pub(super) enum Content {
    S3(s3s::Body),
    Handler(HandlerBody),
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Content::S3(s3s::Body::from(bytes))
    }
}

/// A reply's body that is counted.
pub(super) struct CountedBody {
    content: Content,
    exchange: Exchange,
}

/// What the gateway knows that errors speak of.
pub(super) struct Site<'a> {
    pub(super) addressing: &'a Addressing,
    pub(super) clock: &'a SharedClock,
}

/// Gives a reply what every reply has.
pub(super) fn finish(mut response: Response<Content>, mut exchange: Exchange, site: Site<'_>) -> Response<CountedBody> {
    if let Some(StatusOverride(status)) = response.extensions_mut().remove() {
        *response.status_mut() = status;
    }
    if is_error(response.status()) {
        let asked = &exchange.asked;
        let host_id = exchange.host_id.to_str().unwrap_or_default();
        let place = asked.place(&exchange.operation, &exchange.request_id, host_id);
        complete_error(&mut response, asked, place, &site);
        response.headers_mut().remove(DETAILS);
    }
    if let Some(recording) = &mut exchange.recording {
        recording.answered(&response);
    }
    if is_error(response.status()) && exchange.asked.method == Method::HEAD {
        leave_out_body(&mut response);
    }
    let succeeded = response.status().is_success();
    let headers = response.headers_mut();
    headers.insert(http::header::SERVER, HeaderValue::from_static("Annulus"));
    headers.insert("x-amz-id-2", exchange.host_id.clone());
    if succeeded && exchange.operation.is_charged() {
        headers.insert("x-amz-request-charged", HeaderValue::from_static("requester"));
    }
    if let Ok(id) = HeaderValue::from_str(&exchange.request_id.0) {
        headers.insert("x-amz-request-id", id);
    }
    exchange.status = Some(response.status());
    response.map(|content| CountedBody { content, exchange })
}

pub(super) fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// Gives an error what every error of S3 has.
pub(super) fn complete_error(response: &mut Response<Content>, asked: &Asked, place: Place<'_>, site: &Site<'_>) {
    let Content::S3(body) = response.body() else { return };
    let Some(xml) = body.bytes().filter(|xml| !xml.is_empty()) else { return };
    let headers = response.headers();
    let details =
        |code: &str, message: &str| details(code, message, asked, headers, site.addressing, site.clock.now_ms());
    if let Some(completed) = errors::complete(&xml, place, details) {
        *response.body_mut() = Content::from(Bytes::from(completed));
        response.headers_mut().remove(http::header::CONTENT_LENGTH);
        // The headers of an error replace those that s3s set for its XML.
        response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    }
}

fn leave_out_body(response: &mut Response<Content>) {
    if matches!(response.body(), Content::S3(_)) {
        *response.body_mut() = Content::S3(s3s::Body::empty());
        response.headers_mut().remove(http::header::CONTENT_LENGTH);
        response.headers_mut().remove(http::header::CONTENT_TYPE);
    }
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = BodyFailure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let polled = match &mut self.content {
            Content::S3(body) => Pin::new(body).poll_frame(cx),
            Content::Handler(body) => Pin::new(body).poll_frame(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.exchange.response_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::S3(body) => body.is_end_stream(),
            Content::Handler(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::S3(body) => body.size_hint(),
            Content::Handler(body) => body.size_hint(),
        }
    }
}

/// One line about an exchange, at the level that the macro is of.
macro_rules! access_line {
    ($level:ident, $exchange:expr, $status:expr, $duration:expr) => {
        $level!(
            target: "annulus::access",
            method = %$exchange.asked.method,
            path = %$exchange.asked.uri.path(),
            operation = $exchange.operation.name(),
            status = $status,
            ms = $duration.as_millis() as u64,
            bytes = $exchange.response_bytes,
            "served"
        )
    };
}

impl Exchange {
    /// Thousands of lines a second would cost more than some requests do: only what the operator should see is logged
    /// unasked.
    fn log(&self, status: u16, duration: Duration) {
        let not_built = status == StatusCode::NOT_IMPLEMENTED.as_u16();
        if status >= 500 && !not_built {
            access_line!(warn, self, status, duration);
        } else {
            access_line!(debug, self, status, duration);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let status = self.status.map_or(CLIENT_LEFT, |status| status.as_u16());
        self.span.in_scope(|| self.log(status, duration));
        let metrics = &self.in_flight.0;
        metrics.http_request(self.operation.name(), status, duration);
        metrics.http_received_bytes.inc_by(self.request_bytes);
        metrics.http_sent_bytes.inc_by(self.response_bytes);
        if let Some(recording) = self.recording.take() {
            let ids = (&self.request_id, self.host_id.to_str().unwrap_or_default());
            let status = self.status.map(|status| status.as_u16());
            recording.end(ids, &self.operation, status, self.response_bytes);
        }
    }
}
