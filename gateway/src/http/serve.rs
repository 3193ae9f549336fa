//! Accepts connections and serves them until it is told to stop, then lets what is under way end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::io::Connection;
use super::service::GatewayService;

/// How long a client may take for a request's head, and how long a connection may stay idle.
const HEAD_WAIT: Duration = Duration::from_secs(60);

/// A head may be this large: S3's own limit is 8 KiB, and a presigned URL comes on top.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Headers of a request: 2 KiB of user metadata can be many short ones.
const HEADERS_MAX: usize = 256;

/// What a connection reads ahead: large enough for fast uploads, small enough for thousands of connections.
const READ_BUFFER_BYTES_MAX: usize = 128 << 10;

/// A pause after a failed accept: it fails when file descriptors run out, and at once again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `listener` until `shutdown`, and then what is under way.
pub async fn serve(listener: TcpListener, service: GatewayService, shutdown: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(service.connections_max()));
    let drain_wait = service.drain_wait();
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, peer, slot)) = accepted else { continue };
        let connection = builder().serve_connection(TokioIo::new(Connection::new(stream)), service.for_peer(peer));
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%peer, %error, "connection ended");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(drain_wait, graceful.shutdown()).await.is_err() {
        warn!(connections = connections.len(), "requests did not end in time and are cut off");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Replies are written whole; waiting to fill a segment only costs latency.
            let _ = stream.set_nodelay(true);
            Some((stream, peer, slot))
        }
        Err(error) => {
            warn!(%error, "accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// HTTP/1.1 alone, as S3 speaks it.
fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(READ_BUFFER_BYTES_MAX);
    builder
}
