//! What an operator asks of a process under `/-/`: whether it lives, whether it serves, what it counts, and the admin API.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::telemetry::{Metrics, OPENMETRICS_CONTENT_TYPE};
use futures::future::BoxFuture;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::admin::model::BASE as ADMIN_BASE;
use crate::http::{Handler, HandlerBody, whole};

/// How long answers that are under way may take to end: they are short.
const DRAIN_WAIT: Duration = Duration::from_secs(2);

/// Tells whether the process can serve clients now.
pub type Readiness = Arc<dyn Fn() -> bool + Send + Sync>;

/// Brings gauges up to date before they are read.
pub type Refresh = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// The handler of `/-/`.
pub struct Operations {
    /// Whether the process serves.
    pub ready: Readiness,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// What is looked at only when somebody asks.
    pub refresh: Refresh,
    /// The admin API.
    pub admin: Admin,
}

#[async_trait::async_trait]
impl Handler for Operations {
    async fn handle(&self, request: Request<Incoming>) -> Response<HandlerBody> {
        let path = request.uri().path();
        if path.starts_with(ADMIN_BASE) {
            return self.admin.handle(request).await;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/-/health/live" => text(StatusCode::OK, "live\n"),
            "/-/health/ready" if (self.ready)() => text(StatusCode::OK, "ready\n"),
            "/-/health/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            "/-/metrics" => self.show_metrics().await,
            _ => text(StatusCode::NOT_FOUND, "nothing is served here\n"),
        }
    }
}

/// What is answered while the process is on its way into a cluster: it lives, and serves nothing yet.
pub struct Waiting;

#[async_trait::async_trait]
impl Handler for Waiting {
    async fn handle(&self, request: Request<Incoming>) -> Response<HandlerBody> {
        if request.uri().path() == "/-/health/live" {
            return text(StatusCode::OK, "live\n");
        }
        let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "not in a cluster yet\n");
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }
}

impl Operations {
    async fn show_metrics(&self) -> Response<HandlerBody> {
        (self.refresh)().await;
        let mut response = Response::new(whole(self.metrics.render()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPENMETRICS_CONTENT_TYPE));
        response
    }
}

/// Serves the handler on a listener of its own, for operators who keep `/-/` away from clients.
pub async fn serve(listener: &TcpListener, handler: Arc<dyn Handler>, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let handler = Arc::clone(&handler);
        let service = service_fn(move |request| {
            let handler = Arc::clone(&handler);
            async move { Ok::<_, std::convert::Infallible>(handler.handle(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(graceful.watch(connection));
    }
    // A silent connection does not hold up what comes next.
    let _ = tokio::time::timeout(DRAIN_WAIT, graceful.shutdown()).await;
}

fn text(status: StatusCode, words: &'static str) -> Response<HandlerBody> {
    let mut response = Response::new(whole(words));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
