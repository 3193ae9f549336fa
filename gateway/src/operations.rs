//! What an operator asks of a process under `/-/`: whether it lives, whether it serves, what it counts, and the admin API.

use std::io;
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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::admin::Admin;
use crate::admin::model::BASE as ADMIN_BASE;
use crate::budget::MemoryBudget;
use crate::http::{Handler, HandlerBody, whole};

/// Connections that are served at once; further ones wait. Operators have few, and a probe that hangs must not take what clients need.
const CONNECTIONS_MAX: usize = 256;

/// A pause after a failed accept: it fails when file descriptors run out, and at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    /// What requests hold.
    pub budget: Arc<MemoryBudget>,
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
        self.budget.note_held();
        let mut response = Response::new(whole(self.metrics.render()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPENMETRICS_CONTENT_TYPE));
        response
    }
}

/// Serves the handler on a listener of its own, for operators who keep `/-/` away from clients.
pub async fn serve(listener: &TcpListener, handler: Arc<dyn Handler>, stop: CancellationToken) {
    let (graceful, slots) = (GracefulShutdown::new(), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(listener, &slots) => accepted,
        };
        let Some((stream, slot)) = accepted else { continue };
        let handler = Arc::clone(&handler);
        let service = service_fn(move |request| {
            let handler = Arc::clone(&handler);
            async move { Ok::<_, std::convert::Infallible>(handler.handle(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _ = connection.await;
            drop(slot);
        });
    }
    // A silent connection does not hold up what comes next.
    let _ = tokio::time::timeout(DRAIN_WAIT, graceful.shutdown()).await;
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    let (stream, _) = or_pause(listener.accept().await).await?;
    Some((stream, slot))
}

async fn or_pause<T>(accepted: io::Result<T>) -> Option<T> {
    match accepted {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            warn!(%error, "accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn text(status: StatusCode, words: &'static str) -> Response<HandlerBody> {
    let mut response = Response::new(whole(words));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::{ACCEPT_PAUSE, CONNECTIONS_MAX, Waiting, or_pause, serve};

    #[tokio::test]
    async fn a_failed_accept_is_followed_by_a_pause() {
        let began = Instant::now();
        let too_many_files = io::Error::from_raw_os_error(24);
        assert_eq!(or_pause::<()>(Err(too_many_files)).await, None);
        assert!(began.elapsed() >= ACCEPT_PAUSE);
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let stop = stop.clone();
            async move { serve(&listener, Arc::new(Waiting), stop).await }
        });
        let mut clients = Vec::new();
        for _ in 0..=CONNECTIONS_MAX {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"GET /-/health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            clients.push(client);
        }
        let mut last = clients.pop().unwrap();
        for client in &mut clients {
            assert!(client.read_u8().await.is_ok());
        }
        assert!(tokio::time::timeout(Duration::from_millis(50), last.read_u8()).await.is_err());
        drop(clients.pop());
        assert!(last.read_u8().await.is_ok());
        stop.cancel();
        serving.await.unwrap();
    }
}
