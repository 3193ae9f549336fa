//! Accepts connections and serves them until it is told to stop, then lets what is under way end. A connection whose client has its
//! share of all waits, and keeps nobody else waiting.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::telemetry::Metrics;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::connections::{Connections, Seat};
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

/// Connections that wait to be served, beyond which further ones are closed: each has a file descriptor, and nothing else. As many wait
/// in the kernel.
const WAITING_MAX: usize = 1_024;

/// Serves `listener` until `shutdown`, and then what is under way.
pub async fn serve(listener: TcpListener, service: GatewayService, shutdown: impl Future<Output = ()>) {
    let mut lobby = Lobby::new(&service);
    let drain_wait = service.drain_wait();
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let served = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => lobby.next_served(),
            accepted = accept(&listener) => accepted.and_then(|(stream, peer)| lobby.enter(stream, peer)),
        };
        let Some((stream, peer, seat)) = served else { continue };
        let connection =
            builder().serve_connection(TokioIo::new(Connection::new(stream)), service.for_peer(peer, seat));
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%peer, %error, "connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(drain_wait, graceful.shutdown()).await.is_err() {
        warn!(connections = connections.len(), "requests did not end in time and are cut off");
    }
}

async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Replies are written whole; waiting to fill a segment only costs latency.
            let _ = stream.set_nodelay(true);
            Some((stream, peer))
        }
        Err(error) => {
            warn!(%error, "accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Connections that were accepted and wait to be served.
struct Lobby {
    connections: Arc<Connections>,
    waiting: VecDeque<(TcpStream, SocketAddr)>,
    metrics: Arc<Metrics>,
}

/// A connection that is to be served.
type Served = (TcpStream, SocketAddr, Seat);

impl Lobby {
    fn new(service: &GatewayService) -> Self {
        let metrics = Arc::clone(service.metrics());
        let connections = Connections::new(service.connections_max(), Arc::clone(&metrics));
        Self { connections, waiting: VecDeque::new(), metrics }
    }

    /// A connection comes. It is served at once, waits, or is turned away because too many do.
    fn enter(&mut self, stream: TcpStream, peer: SocketAddr) -> Option<Served> {
        if let Some(seat) = self.connections.seat(peer) {
            return Some((stream, peer, seat));
        }
        if self.waiting.len() == WAITING_MAX {
            self.metrics.connections.refused.inc();
            return None;
        }
        self.waiting.push_back((stream, peer));
        self.note_waiting();
        None
    }

    /// A connection has ended, which makes room for one: the first of those whose client may have one more.
    fn next_served(&mut self) -> Option<Served> {
        let mut waiting = self.waiting.iter().enumerate();
        let (place, seat) = waiting.find_map(|(place, (_, peer))| Some((place, self.connections.seat(*peer)?)))?;
        let (stream, peer) = self.waiting.remove(place)?;
        self.note_waiting();
        Some((stream, peer, seat))
    }

    fn note_waiting(&self) {
        self.metrics.connections.waiting.set(self.waiting.len() as i64);
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
