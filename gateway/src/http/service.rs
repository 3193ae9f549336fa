//! One request: named, told apart, handed on, and its reply finished.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use annulus_common::telemetry::Metrics;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use s3s::service::S3Service;
use tracing::{Instrument, error, info_span};

use super::errors::{error_response, error_response_with};
use super::form::{self, Forms};
use super::handler::Peer;
use super::reply::{Content, CountedBody, Exchange, InFlight, RequestId, finish};
use super::{GatewayHttpConfig, Handlers};
use crate::auth::{Operation, subresource};

/// A body sent in HTTP chunks without a length is taken up to this size: it is held in memory, because S3's signature
/// needs a length, and clients that do so send little.
const UNSIZED_BODY_BYTES_MAX: usize = 1 << 20;

/// How long such a body may take.
const UNSIZED_BODY_WAIT: Duration = Duration::from_secs(60);

/// The service. Clones share it.
#[derive(Clone)]
pub struct GatewayService {
    shared: Arc<Shared>,
}

struct Shared {
    config: GatewayHttpConfig,
    s3: S3Service,
    forms: Forms,
    handlers: Handlers,
    metrics: Arc<Metrics>,
    /// `x-amz-id-2`: which gateway it was.
    host_id: HeaderValue,
}

/// The service for the requests of one connection.
pub(super) struct PeerService {
    shared: Arc<Shared>,
    peer: Peer,
}

/// Who serves a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Operations,
    Upload,
    S3,
}

impl GatewayService {
    pub(super) fn new(
        config: GatewayHttpConfig,
        s3: S3Service,
        forms: Forms,
        handlers: Handlers,
        metrics: Arc<Metrics>,
    ) -> Self {
        let host_id = hex::encode(rand::random::<[u8; 16]>());
        let host_id = HeaderValue::from_str(&host_id).expect("hexadecimal digits are a header's value");
        Self { shared: Arc::new(Shared { config, s3, forms, handlers, metrics, host_id }) }
    }

    pub(super) fn connections_max(&self) -> usize {
        self.shared.config.connections_max
    }

    pub(super) fn drain_wait(&self) -> Duration {
        self.shared.config.drain_wait
    }

    pub(super) fn for_peer(&self, peer: SocketAddr) -> PeerService {
        PeerService { shared: Arc::clone(&self.shared), peer: Peer(peer) }
    }
}

impl hyper::service::Service<Request<Incoming>> for PeerService {
    type Response = Response<CountedBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let peer = self.peer;
        Box::pin(async move { Ok(shared.serve(request, peer).await) })
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, mut request: Request<Incoming>, peer: Peer) -> Response<CountedBody> {
        let request_id = RequestId(format!("{:016X}", rand::random::<u64>()).into());
        let operation = Operation::default();
        let span = info_span!("request", id = %request_id.0, peer = %peer.0);
        let exchange = Exchange {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            request_id: request_id.clone(),
            operation: operation.clone(),
            request_bytes: content_length(request.headers()).unwrap_or(0),
            started: Instant::now(),
            span: span.clone(),
            in_flight: InFlight::begin(&self.metrics),
            status: None,
            response_bytes: 0,
        };
        let extensions = request.extensions_mut();
        extensions.insert(request_id);
        extensions.insert(operation.clone());
        extensions.insert(peer);
        let content = self.answer(request, &operation).instrument(span).await;
        finish(content, exchange, &self.host_id)
    }

    async fn answer(&self, request: Request<Incoming>, operation: &Operation) -> Response<Content> {
        let (handler, name) = match target(request.method(), request.uri().path()) {
            Target::S3 => return self.answer_s3(request).await,
            Target::Operations => (&self.handlers.operations, "operations"),
            Target::Upload => (&self.handlers.upload, "upload"),
        };
        operation.name_it(name);
        match handler {
            Some(handler) => handler.handle(request).await.map(Content::Handler),
            None => error_response(StatusCode::NOT_FOUND, "NotFound", "Nothing is served here."),
        }
    }

    async fn answer_s3(&self, request: Request<Incoming>) -> Response<Content> {
        if let Some(refusal) = refuse(&request) {
            return refusal;
        }
        if *request.method() == Method::POST {
            match posted_to(&request) {
                Posted::Form { bucket } => return self.forms.take(request, &bucket).await,
                Posted::Refused(refusal) => return refusal,
                Posted::Operation => {}
            }
        }
        let request = match is_unsized(request.method(), request.headers()) {
            true => match take_unsized(request).await {
                Ok(request) => request,
                Err(refusal) => return refusal,
            },
            false => request.map(s3s::Body::from),
        };
        match self.s3.call(request).await {
            Ok(response) => response.map(Content::S3),
            Err(failure) => {
                error!(error = %failure, "the reply could not be made");
                error_response(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "InternalError",
                    "We encountered an internal error. Please try again.",
                )
            }
        }
    }
}

/// `/upload` is the one path outside `/-/` that is not S3's. What nobody serves there is left to S3, which answers that no
/// bucket has that name.
fn target(method: &Method, path: &str) -> Target {
    let under = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_read = *method == Method::GET || *method == Method::HEAD;
    if under("/-") {
        Target::Operations
    } else if (*method == Method::POST && path.trim_end_matches('/') == "/upload") || (is_read && under("/upload")) {
        Target::Upload
    } else {
        Target::S3
    }
}

/// What a POST is.
enum Posted {
    /// A form with a file for this bucket.
    Form { bucket: String },
    /// An operation that the query names.
    Operation,
    /// Neither.
    Refused(Response<Content>),
}

/// Tells a form from an operation. s3s would take every body of that type for a form, and into memory before it asks who
/// sent it.
fn posted_to(request: &Request<Incoming>) -> Posted {
    let is_form = form::is_form(request.headers());
    let is_operation = !subresource::is_plain(request.uri().query());
    match (form::bucket_of(request.uri().path()), is_form, is_operation) {
        (Some(bucket), true, false) => Posted::Form { bucket },
        (_, true, true) => Posted::Refused(error_response(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            "This operation is not implemented for bodies of the type multipart/form-data.",
        )),
        (Some(_), false, false) => Posted::Refused(error_response_with(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold.",
            &[("Condition", "Bucket POST must be of the enclosure-type multipart/form-data")],
        )),
        (None, true, false) => Posted::Refused(method_not_allowed()),
        (_, false, _) => Posted::Operation,
    }
}

/// Refuses what must not reach s3s.
fn refuse(request: &Request<Incoming>) -> Option<Response<Content>> {
    if *request.method() == Method::OPTIONS {
        return Some(refuse_preflight(request.headers()));
    }
    if !is_allowed(request.method(), request.uri().path()) {
        return Some(method_not_allowed());
    }
    None
}

fn method_not_allowed() -> Response<Content> {
    error_response(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        "The specified method is not allowed against this resource.",
    )
}

/// Whether S3 has any operation of that method there: of the service itself one can only ask for what it has.
fn is_allowed(method: &Method, path: &str) -> bool {
    match *method {
        Method::GET | Method::HEAD => true,
        Method::PUT | Method::POST | Method::DELETE => path != "/",
        _ => false,
    }
}

/// No bucket has a CORS configuration, and S3 says so.
fn refuse_preflight(headers: &HeaderMap) -> Response<Content> {
    if headers.contains_key(http::header::ORIGIN) && headers.contains_key(http::header::ACCESS_CONTROL_REQUEST_METHOD) {
        error_response(StatusCode::FORBIDDEN, "AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.")
    } else {
        error_response(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "Insufficient information. Origin and Access-Control-Request-Method request headers are needed.",
        )
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a body comes in HTTP chunks and nothing says how long it is.
fn is_unsized(method: &Method, headers: &HeaderMap) -> bool {
    matches!(*method, Method::PUT | Method::POST)
        && headers.contains_key(http::header::TRANSFER_ENCODING)
        && !headers.contains_key("x-amz-decoded-content-length")
}

async fn take_unsized(request: Request<Incoming>) -> Result<Request<s3s::Body>, Response<Content>> {
    let (head, body) = request.into_parts();
    let whole = Limited::new(body, UNSIZED_BODY_BYTES_MAX).collect();
    match tokio::time::timeout(UNSIZED_BODY_WAIT, whole).await {
        Ok(Ok(body)) => Ok(Request::from_parts(head, s3s::Body::from(body.to_bytes()))),
        Ok(Err(_)) => Err(error_response(
            StatusCode::LENGTH_REQUIRED,
            "MissingContentLength",
            "You must provide the Content-Length HTTP header.",
        )),
        Err(_) => Err(error_response(
            StatusCode::BAD_REQUEST,
            "RequestTimeout",
            "Your socket connection to the server was not read from or written to within the timeout period.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{Target, target};

    #[test]
    fn what_is_not_s3_is_told_apart() {
        assert_eq!(target(&Method::GET, "/-/health/live"), Target::Operations);
        assert_eq!(target(&Method::GET, "/-"), Target::Operations);
        assert_eq!(target(&Method::POST, "/upload"), Target::Upload);
        assert_eq!(target(&Method::GET, "/upload/x"), Target::Upload);
    }

    #[test]
    fn the_rest_is_s3() {
        for path in ["/", "/uploads", "/uploads/x", "/-x/y", "/b/-/x", "/b/upload", "//upload"] {
            assert_eq!(target(&Method::GET, path), Target::S3, "{path}");
        }
        assert_eq!(target(&Method::PUT, "/upload"), Target::S3, "no bucket has that name, says S3");
    }
}
