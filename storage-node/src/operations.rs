//! What operators ask a storage node alone over HTTP: whether it lives, whether it is ready, what it counts. A gateway has
//! its own, richer service under the same paths.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::telemetry::{Metrics, OPENMETRICS_CONTENT_TYPE};
use annulus_storage_node::node::StorageNode;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections at once: probes and scrapers are few.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may take over its request's head: a silent one must not keep its place.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause when no connection can be accepted, which is when file descriptors have run out.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// Answers until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    node: Arc<StorageNode>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept an operator's connection");
                tokio::time::sleep(ACCEPT_BACK_OFF).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (node, metrics, stop) = (Arc::clone(&node), Arc::clone(&metrics), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = serve_connection(stream, node, metrics) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn serve_connection(stream: TcpStream, node: Arc<StorageNode>, metrics: Arc<Metrics>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (node, metrics) = (Arc::clone(&node), Arc::clone(&metrics));
        async move { Ok::<_, Infallible>(answer(request.method(), request.uri().path(), &node, &metrics).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(%error, "an operator's connection ended");
    }
}

async fn answer(method: &Method, path: &str, node: &StorageNode, metrics: &Metrics) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD\n".to_owned());
    }
    match path {
        "/-/health/live" => text(StatusCode::OK, "text/plain", "alive\n".to_owned()),
        "/-/health/ready" if node.is_ready() => text(StatusCode::OK, "text/plain", "ready\n".to_owned()),
        "/-/health/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ready\n".to_owned()),
        "/-/metrics" => {
            node.refresh_metrics().await;
            text(StatusCode::OK, OPENMETRICS_CONTENT_TYPE, metrics.render())
        }
        _ => text(StatusCode::NOT_FOUND, "text/plain", "no such page\n".to_owned()),
    }
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
