//! One request: named, told apart, handed on, and its reply finished.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use annulus_common::telemetry::Metrics;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use s3s::service::S3Service;
use tracing::{Instrument, error, info_span};

use super::addressing::{Addressing, Target};
use super::connections::Seat;
use super::cors::CrossOrigin;
use super::documents::{
    LIST_BYTES, UNSIZED_BODY_BYTES_MAX, announced_bytes, document_bytes, is_list, settle, slow_down, take_unsized,
};
use super::early::{self, Patience};
use super::error_details::Asked;
use super::errors::{error_response, error_response_with};
use super::form::{self, Forms};
use super::proxies::TrustedProxies;
use super::recording::{LastByte, Recording};
use super::reply::{Content, CountedBody, Exchange, InFlight, Site, complete_error, finish, is_error};
use super::watched::{Kept, watch};
use super::website::Websites;
use super::{GatewayHttpConfig, Handlers, presigned};
use crate::access_log::AccessLog;
use crate::auth::{Accounts, Operation, subresource};
use crate::budget::{MemoryBudget, Share};
use crate::request::{HostId, NamedByHost, NoLength, Peer, RequestId};
use crate::routes::{UPLOAD_PATH, is_control_call, is_iam_call};

/// The longest document of IAM, STS or S3 Control.
const CALL_BYTES_MAX: usize = 256 << 10;

/// The service. Clones share it.
#[derive(Clone)]
pub struct GatewayService {
    shared: Arc<Shared>,
}

struct Shared {
    config: GatewayHttpConfig,
    addressing: Addressing,
    proxies: TrustedProxies,
    s3: S3Service,
    accounts: Accounts,
    forms: Forms,
    websites: Websites,
    handlers: Handlers,
    metrics: Arc<Metrics>,
    access_log: Arc<AccessLog>,
    budget: Arc<MemoryBudget>,
    /// `x-amz-id-2`: which gateway it was.
    host_id: HeaderValue,
}

/// The service for the requests of one connection.
pub(super) struct PeerService {
    shared: Arc<Shared>,
    /// Who is at the other end: a client, or a proxy in front of many.
    peer: SocketAddr,
    seat: Arc<Seat>,
}

/// Who serves a request.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Server {
    Operations,
    Upload,
    Iam,
    Control,
    Website(Target),
    S3(Target),
}

impl GatewayService {
    pub(super) fn new(
        config: GatewayHttpConfig,
        forms: Forms,
        budget: Arc<MemoryBudget>,
        handlers: Handlers,
        metrics: Arc<Metrics>,
        access_log: Arc<AccessLog>,
    ) -> Self {
        let host_id = hex::encode(rand::random::<[u8; 16]>());
        let host_id = HeaderValue::from_str(&host_id).expect("hexadecimal digits are a header's value");
        let (s3, accounts) = (forms.s3.clone(), forms.accounts.clone());
        let websites = Addressing::new(config.website_domain.as_slice());
        let websites = Websites { s3: s3.clone(), accounts: accounts.clone(), addressing: websites };
        let addressing = Addressing::new(&config.domains);
        let proxies = TrustedProxies::new(config.trusted_proxies.clone());
        let shared = Shared {
            config,
            addressing,
            proxies,
            s3,
            accounts,
            forms,
            websites,
            handlers,
            metrics,
            access_log,
            budget,
            host_id,
        };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn connections_max(&self) -> usize {
        self.shared.config.connections_max
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    pub(super) fn drain_wait(&self) -> Duration {
        self.shared.config.drain_wait
    }

    pub(super) fn for_peer(&self, peer: SocketAddr, seat: Seat) -> PeerService {
        PeerService { shared: Arc::clone(&self.shared), peer, seat: Arc::new(seat) }
    }
}

impl hyper::service::Service<Request<Incoming>> for PeerService {
    type Response = Response<CountedBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (shared, seat) = (Arc::clone(&self.shared), Arc::clone(&self.seat));
        let peer = shared.proxies.peer(self.peer, request.headers());
        Box::pin(async move {
            let mut response = shared.serve(request, peer).await;
            if seat.is_one_too_many() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, mut request: Request<Incoming>, peer: Peer) -> Response<CountedBody> {
        let request_id = RequestId(format!("{:016X}", rand::random::<u64>()).into());
        let operation = Operation::default();
        let span = info_span!("request", id = %request_id.0, peer = %peer.ip);
        let server = self.server(&request);
        if matches!(server, Server::S3(_)) {
            let uri = request.uri().clone();
            presigned::take_digest(&uri, request.headers_mut());
        }
        let recording = self.recording(&request, &server, peer);
        let kept = Kept::of(request.headers()).filter(|_| matches!(server, Server::S3(_)));
        let exchange = Exchange {
            asked: Asked::new(request.method(), request.uri(), request.headers(), kept.clone()),
            request_id: request_id.clone(),
            operation: operation.clone(),
            request_bytes: content_length(request.headers()).unwrap_or(0),
            started: Instant::now(),
            span: span.clone(),
            in_flight: InFlight::begin(&self.metrics),
            status: None,
            response_bytes: 0,
            host_id: self.host_id.clone(),
            recording,
        };
        let extensions = request.extensions_mut();
        if let Some(recording) = &exchange.recording {
            extensions.insert(recording.last_byte());
        }
        if let Some(kept) = kept {
            extensions.insert(kept);
        }
        extensions.insert(request_id);
        extensions.insert(HostId(self.host_id.clone()));
        extensions.insert(operation.clone());
        extensions.insert(peer);
        let content = self.answer(request, server, &operation).instrument(span).await;
        finish(content, exchange, Site { addressing: &self.addressing, clock: &self.forms.clock })
    }

    fn server(&self, request: &Request<Incoming>) -> Server {
        if let Some(target) = self.websites.target(request) {
            return Server::Website(target);
        }
        // Its clients put the account in front of the host, where buckets have their names.
        if is_control_call(request.uri().path(), request.headers()) {
            return Server::Control;
        }
        let target = self.addressing.target(request.headers(), request.uri());
        // A bucket that the host names has every path.
        let beside = beside_s3(request.method(), request.uri().path(), request.headers()).filter(|_| !target.by_host);
        beside.unwrap_or(Server::S3(target))
    }

    /// Begins the record that the request's bucket wants of it.
    fn recording(&self, request: &Request<Incoming>, server: &Server, peer: Peer) -> Option<Recording> {
        let place = match server {
            Server::S3(target) => (target.bucket.as_deref(), target.key.as_str(), false),
            Server::Website(target) => (target.bucket.as_deref(), target.key.as_str(), true),
            Server::Upload => {
                let below = request.uri().path().strip_prefix(UPLOAD_PATH).unwrap_or_default();
                (self.config.upload_bucket.as_deref(), below.trim_start_matches('/'), false)
            }
            Server::Operations | Server::Iam | Server::Control => return None,
        };
        Recording::begin(&self.access_log, self.accounts.current().as_deref(), request, place, peer)
    }

    async fn answer(&self, request: Request<Incoming>, server: Server, operation: &Operation) -> Response<Content> {
        let (handler, name) = match server {
            Server::Website(target) => {
                let cross_origin = CrossOrigin::of(&request, &target);
                let host_id = self.host_id.to_str().unwrap_or_default();
                let answer = self.websites.answer(request, &target, host_id);
                return self.answer_any_origin(cross_origin, operation, answer).await;
            }
            Server::S3(target) => {
                let cross_origin = CrossOrigin::of(&request, &target);
                return self
                    .answer_any_origin(cross_origin, operation, self.answer_s3(request, &target, operation))
                    .await;
            }
            Server::Operations => (&self.handlers.operations, "operations"),
            Server::Upload => (&self.handlers.upload, "upload"),
            Server::Iam => (&self.handlers.iam, "iam"),
            Server::Control => (&self.handlers.control, "control"),
        };
        operation.name_it(name);
        let bytes = match name {
            "iam" | "control" => announced_bytes(request.headers(), CALL_BYTES_MAX),
            _ => 0,
        };
        let Ok(_share) = self.budget.document_of_stranger(bytes).await else { return slow_down() };
        match handler {
            Some(handler) => handler.handle(request).await.map(Content::Handler),
            None => error_response(StatusCode::NOT_FOUND, "NotFound", "Nothing is served here."),
        }
    }

    /// Answers what a browser asks in advance, or with what it may show of the answer.
    async fn answer_any_origin(
        &self,
        cross_origin: CrossOrigin,
        operation: &Operation,
        answer: impl Future<Output = Response<Content>>,
    ) -> Response<Content> {
        if cross_origin.is_preflight() {
            operation.name_it("Preflight");
            return cross_origin.preflight(&self.accounts).await;
        }
        let mut response = answer.await;
        cross_origin.dress(&mut response, &self.accounts).await;
        response
    }

    async fn answer_s3(&self, request: Request<Incoming>, target: &Target, operation: &Operation) -> Response<Content> {
        if let Some(refusal) = refuse(&request, target, &self.config.region) {
            return refusal;
        }
        if *request.method() == Method::POST {
            match posted(&request, target) {
                Posted::Form => return self.forms.take(request, target).await,
                Posted::Refused(refusal) => return refusal,
                Posted::Operation => {}
            }
        }
        let is_unsized = is_unsized(request.method(), request.headers());
        let reserved = match is_unsized {
            true => self.budget.document_of_stranger(document_bytes(UNSIZED_BODY_BYTES_MAX as u64)).await,
            false if is_list(request.method(), request.uri(), target) => self.budget.document(LIST_BYTES).await,
            false => Ok(Share::nothing()),
        };
        let Ok(mut share) = reserved else { return slow_down() };
        let mut request = match is_unsized {
            true => match take_unsized(request).await {
                Ok(request) => {
                    share.shrink_to(request.body().bytes().map_or(0, |body| document_bytes(body.len() as u64)));
                    request
                }
                Err(refusal) => return refusal,
            },
            false => s3_request(request),
        };
        if has_no_length(request.headers()) {
            request.extensions_mut().insert(NoLength);
        }
        if target.by_host {
            request.extensions_mut().insert(NamedByHost);
        }
        match early::may_be_copy(request.method(), request.headers()) {
            true => self.answer_early(request, operation).await,
            false => call(&self.s3, request, share).await,
        }
    }

    /// Answers a copy before it is over, if it takes long.
    async fn answer_early(&self, request: Request<s3s::Body>, operation: &Operation) -> Response<Content> {
        let asked = Asked::new(request.method(), request.uri(), request.headers(), None);
        let request_id = request.extensions().get::<RequestId>().cloned();
        let (addressing, clock, host_id) = (self.addressing.clone(), self.forms.clock.clone(), self.host_id.clone());
        let named = operation.clone();
        let complete = move |response: &mut Response<Content>| {
            if let Some(request_id) = request_id.filter(|_| is_error(response.status())) {
                let place = asked.place(&named, &request_id, host_id.to_str().unwrap_or_default());
                complete_error(response, &asked, place, &Site { addressing: &addressing, clock: &clock });
            }
        };
        let s3 = self.s3.clone();
        let answer = async move { call(&s3, request, Share::nothing()).await }.boxed();
        early::answer(answer, operation, Patience::USUAL, complete).await
    }
}

/// Lets S3 answer. The share becomes the answer's.
async fn call(s3: &S3Service, request: Request<s3s::Body>, share: Share) -> Response<Content> {
    match s3.call(request).await {
        Ok(response) => settle(response, share).map(Content::S3),
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

/// `/upload` is the one path outside `/-/` that is not S3's. What nobody serves there is left to S3, which answers that no
/// bucket has that name.
fn beside_s3(method: &Method, path: &str, headers: &HeaderMap) -> Option<Server> {
    let under = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let is_read = *method == Method::GET || *method == Method::HEAD;
    if under("/-") {
        Some(Server::Operations)
    } else if (*method == Method::POST && path.trim_end_matches('/') == UPLOAD_PATH) || (is_read && under(UPLOAD_PATH))
    {
        Some(Server::Upload)
    } else if *method == Method::POST && path == "/" && is_iam_call(headers) {
        Some(Server::Iam)
    } else {
        None
    }
}

/// The request with its body as s3s takes it.
fn s3_request(mut request: Request<Incoming>) -> Request<s3s::Body> {
    let extensions = request.extensions_mut();
    let (last_byte, kept) = (extensions.remove::<LastByte>(), extensions.remove::<Kept>());
    request.map(|body| watch(body, last_byte, kept))
}

/// What a POST is.
enum Posted {
    /// A form with a file for a bucket.
    Form,
    /// An operation that the query names.
    Operation,
    /// Neither.
    Refused(Response<Content>),
}

/// Tells a form from an operation. s3s would take every body of that type for a form, and into memory before it asks who
/// sent it.
fn posted(request: &Request<Incoming>, target: &Target) -> Posted {
    let to_bucket = target.bucket.is_some() && target.key.is_empty();
    let is_form = form::is_form(request.headers());
    let is_operation = !subresource::is_plain(request.uri().query());
    match (to_bucket, is_form, is_operation) {
        (true, true, false) => Posted::Form,
        (_, true, true) => Posted::Refused(error_response(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            "This operation is not implemented for bodies of the type multipart/form-data.",
        )),
        (true, false, false) => Posted::Refused(error_response_with(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold.",
            &[("Condition", "Bucket POST must be of the enclosure-type multipart/form-data")],
        )),
        (false, true, false) => Posted::Refused(method_not_allowed()),
        (_, false, _) => Posted::Operation,
    }
}

/// Refuses what must not reach s3s.
fn refuse(request: &Request<Incoming>, target: &Target, region: &str) -> Option<Response<Content>> {
    if !is_allowed(request.method(), target) {
        return Some(method_not_allowed());
    }
    refuse_encoding(request.uri()).or_else(|| presigned::refuse(request.uri(), request.headers(), region))
}

/// Names are UTF-8, in a query as in a path. s3s would put a replacement character where a query is not.
fn refuse_encoding(uri: &Uri) -> Option<Response<Content>> {
    percent_decode_str(uri.query()?)
        .decode_utf8()
        .is_err()
        .then(|| error_response(StatusCode::BAD_REQUEST, "InvalidURI", "Couldn't parse the specified URI."))
}

fn method_not_allowed() -> Response<Content> {
    error_response(
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        "The specified method is not allowed against this resource.",
    )
}

/// Whether S3 has any operation of that method there: of the service itself one can only ask for what it has.
fn is_allowed(method: &Method, target: &Target) -> bool {
    match *method {
        Method::GET | Method::HEAD => true,
        Method::PUT | Method::POST | Method::DELETE => target.bucket.is_some(),
        _ => false,
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

/// Whether nothing is said of a body.
fn has_no_length(headers: &HeaderMap) -> bool {
    !headers.contains_key(http::header::CONTENT_LENGTH) && !headers.contains_key(http::header::TRANSFER_ENCODING)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::{Server, beside_s3};

    fn beside(method: Method, path: &str) -> Option<Server> {
        beside_s3(&method, path, &HeaderMap::new())
    }

    #[test]
    fn what_is_not_s3_is_told_apart() {
        assert_eq!(beside(Method::GET, "/-/health/live"), Some(Server::Operations));
        assert_eq!(beside(Method::GET, "/-"), Some(Server::Operations));
        assert_eq!(beside(Method::POST, "/upload"), Some(Server::Upload));
        assert_eq!(beside(Method::GET, "/upload/x"), Some(Server::Upload));
    }

    #[test]
    fn forms_posted_to_the_root_are_calls() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"));
        assert_eq!(beside_s3(&Method::POST, "/", &headers), Some(Server::Iam));
        assert_eq!(beside_s3(&Method::POST, "/b", &headers), None);
        assert_eq!(beside_s3(&Method::PUT, "/", &headers), None);
        assert_eq!(beside(Method::POST, "/"), None);
    }

    #[test]
    fn the_rest_is_s3() {
        for path in ["/", "/uploads", "/uploads/x", "/-x/y", "/b/-/x", "/b/upload", "//upload"] {
            assert_eq!(beside(Method::GET, path), None, "{path}");
        }
        assert_eq!(beside(Method::PUT, "/upload"), None, "no bucket has that name, says S3");
    }
}
