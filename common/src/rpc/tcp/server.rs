//! The server's end over TCP: accepts peers, runs their requests side by side within bounds, and drops what nobody waits for.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connection::run;
use super::inbound::{Arrival, Inbound};
use super::liveness::{Heard, Liveness};
use super::outbound::{Outbox, write_loop};
use crate::rpc::frame::{Channel, FrameError};
use crate::rpc::handshake::{self, Agreed, ClusterSecret, HandshakeError, OTHER_CLUSTER};
use crate::rpc::{Envelope, IdentitySource, PeerIdentity, Service};

/// Connections of one server, unproven ones included: three per peer, so some hundred peers.
const CONNECTIONS_MAX: usize = 1024;

/// Requests of one control connection that are handled at once.
pub(super) const CONTROL_HANDLERS_MAX: usize = 256;

/// Requests of one bulk connection that are handled at once. With the payloads that may be under way in pieces, a
/// connection holds at most 16 chunks.
const BULK_HANDLERS_MAX: usize = 12;

/// Bytes of the requests of one connection that are handled at once, whatever their number.
const HANDLED_BYTES_MAX: usize = 64 << 20;

/// How long to wait when no connection can be accepted, which is when the process is out of file descriptors.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// Answers peers over TCP.
pub struct TcpServer;

/// What every connection of a server needs.
struct Host {
    service: Arc<dyn Service>,
    identity: IdentitySource,
    secret: ClusterSecret,
}

impl TcpServer {
    /// Serves until `shutdown`, which closes every connection and drops every handler before this returns. Requests that
    /// should end well must have ended before.
    pub async fn serve(
        listener: TcpListener,
        service: Arc<dyn Service>,
        identity: IdentitySource,
        secret: ClusterSecret,
        shutdown: CancellationToken,
    ) {
        let host = Arc::new(Host { service, identity, secret });
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) if connections.len() < CONNECTIONS_MAX => {
                        connections.spawn(serve_connection(Arc::clone(&host), stream, from.to_string()));
                    }
                    Ok((_, from)) => tracing::warn!(%from, CONNECTIONS_MAX, "too many connections, closed one"),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_BACK_OFF).await;
                    }
                },
            }
        }
        drop(listener);
        connections.shutdown().await;
    }
}

async fn serve_connection(host: Arc<Host>, mut stream: TcpStream, from: String) {
    match greet(&host, &mut stream).await {
        Ok(agreed) => {
            let (instance, channel) = (agreed.peer.instance, agreed.channel);
            tracing::debug!(from, %instance, ?channel, "peer connected");
            let reason = serve_peer(host, stream, agreed).await;
            tracing::debug!(from, %instance, ?channel, reason, "peer disconnected");
        }
        Err(HandshakeError::Refused(reason)) => tracing::warn!(from, reason, "peer refused"),
        Err(HandshakeError::Io(error)) => tracing::debug!(from, %error, "peer left during the handshake"),
    }
}

async fn greet(host: &Host, stream: &mut TcpStream) -> Result<Agreed, HandshakeError> {
    stream.set_nodelay(true)?;
    handshake::accept(stream, (host.identity)(), &host.secret).await
}

async fn serve_peer(host: Arc<Host>, stream: TcpStream, agreed: Agreed) -> String {
    let Agreed { peer, channel } = agreed;
    let (outbox, queue) = Outbox::new();
    let liveness = Arc::new(Liveness::default());
    let (reader, writer) = stream.into_split();
    let inbound = Inbound::new(Heard::new(reader, Arc::clone(&liveness)), channel);
    let handlers = Arc::new(Handlers { host, peer, outbox, running: Mutex::default() });
    // Also when this very task is aborted.
    let _stop = StopAll(&handlers);
    run(read_requests(&handlers, channel, inbound, &liveness), write_loop(queue, writer, channel), &liveness).await
}

async fn read_requests<R: AsyncRead + Unpin>(
    handlers: &Arc<Handlers>,
    channel: Channel,
    mut inbound: Inbound<R>,
    liveness: &Liveness,
) -> FrameError {
    let admission = Admission::new(channel);
    loop {
        let arrival = match inbound.next().await {
            Ok(arrival) => arrival,
            Err(error) => return error,
        };
        // We may have joined another cluster than the peer's since we met.
        if (handlers.host.identity)().conflicts_with(&handlers.peer) {
            return io::Error::other(OTHER_CLUSTER).into();
        }
        match arrival {
            Arrival::Request { .. } if channel == Channel::Messages => {
                return FrameError::Malformed("a call among the messages");
            }
            Arrival::Request { id, deadline, envelope } => {
                // While it waits nothing more is read, and so the peer is held back.
                let admitted = match admission.try_admit(&envelope) {
                    Some(admitted) => admitted,
                    None => liveness.pause_for(admission.admit(&envelope)).await,
                };
                if let Err(error) = handlers.start(id, deadline, envelope, admitted) {
                    return error;
                }
            }
            Arrival::Message(envelope) => handlers.host.service.receive(&handlers.peer, envelope),
            Arrival::Cancel(id) => handlers.cancel(id),
            Arrival::Response { .. } => return FrameError::Malformed("a caller that answers instead of asking"),
        }
    }
}

/// Bounds what a connection's handlers hold, in number and in bytes.
struct Admission {
    handlers: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// Held while a request is handled and until its response is queued.
type Admitted = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Admission {
    fn new(channel: Channel) -> Self {
        let handlers_max = match channel {
            Channel::Control => CONTROL_HANDLERS_MAX,
            Channel::Bulk => BULK_HANDLERS_MAX,
            Channel::Messages => 0,
        };
        Self { handlers: Arc::new(Semaphore::new(handlers_max)), bytes: Arc::new(Semaphore::new(HANDLED_BYTES_MAX)) }
    }

    fn try_admit(&self, request: &Envelope) -> Option<Admitted> {
        let handler = Arc::clone(&self.handlers).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(request.len() as u32).ok()?;
        Some((handler, bytes))
    }

    async fn admit(&self, request: &Envelope) -> Admitted {
        let handler = Arc::clone(&self.handlers).acquire_owned();
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(request.len() as u32);
        let never_closed = "the semaphores of an admission are never closed";
        (handler.await.expect(never_closed), bytes.await.expect(never_closed))
    }
}

/// The requests of one connection that are being handled.
struct Handlers {
    host: Arc<Host>,
    peer: PeerIdentity,
    outbox: Outbox,
    running: Mutex<HashMap<u64, AbortHandle>>,
}

impl Handlers {
    fn start(
        self: &Arc<Self>,
        id: u64,
        deadline: Instant,
        request: Envelope,
        admitted: Admitted,
    ) -> Result<(), FrameError> {
        // Locked until the handler is known, because it forgets itself when it ends.
        let mut running = self.running.lock();
        if running.contains_key(&id) {
            return Err(FrameError::Malformed("an id that is in use"));
        }
        let task = tokio::spawn(Arc::clone(self).handle(id, deadline, request, admitted));
        running.insert(id, task.abort_handle());
        Ok(())
    }

    async fn handle(self: Arc<Self>, id: u64, deadline: Instant, request: Envelope, admitted: Admitted) {
        let _running = Running { handlers: &self, id };
        // The caller keeps the same deadline: when it passes nobody waits for an answer, not even for a failure.
        let _ = timeout_at(deadline, async {
            let response = self.host.service.call(&self.peer, request).await;
            self.outbox.respond(id, response).await
        })
        .await;
        drop(admitted);
    }

    fn cancel(&self, id: u64) {
        if let Some(handler) = self.running.lock().remove(&id) {
            handler.abort();
        }
        // The response may be on its way in pieces.
        self.outbox.cancel(id);
    }

    fn stop_all(&self) {
        self.outbox.close();
        self.running.lock().drain().for_each(|(_, handler)| handler.abort());
    }
}

/// A handler's entry, which goes with it, however it ends.
struct Running<'a> {
    handlers: &'a Handlers,
    id: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.handlers.running.lock().remove(&self.id);
        if std::thread::panicking() {
            self.handlers.outbox.cancel(self.id);
        }
    }
}

struct StopAll<'a>(&'a Handlers);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        self.0.stop_all();
    }
}
