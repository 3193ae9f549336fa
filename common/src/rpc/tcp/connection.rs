//! One connection as its caller holds it: matches answers to calls, and fails them all when it breaks.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::inbound::{Arrival, Inbound};
use super::liveness::{Heard, Liveness};
use super::outbound::{Closed, Outbox, write_loop};
use crate::rpc::frame::{Channel, FrameError};
use crate::rpc::{Envelope, PeerIdentity, RpcError};

/// A connection that calls can be made on. It closes when the last holder drops it.
pub(super) struct Connection {
    shared: Arc<Shared>,
    /// Who we said we were.
    identity: PeerIdentity,
    _task: AbortOnDropHandle<()>,
}

/// What callers and the connection's task both touch.
struct Shared {
    outbox: Outbox,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    id_last: u64,
    /// Who waits for which answer.
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    /// Why the connection broke, once it has.
    broken: Option<Arc<str>>,
}

/// The answer to a call, or why it was lost.
type Answer = Result<Envelope, Arc<str>>;

impl Connection {
    /// Takes over a stream whose handshake is done.
    pub(super) fn start(stream: TcpStream, channel: Channel, identity: PeerIdentity) -> Self {
        let (outbox, queue) = Outbox::new();
        let shared = Arc::new(Shared { outbox, calls: Mutex::default() });
        let liveness = Arc::new(Liveness::default());
        let (reader, writer) = stream.into_split();
        let inbound = Inbound::new(Heard::new(reader, Arc::clone(&liveness)), channel);
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                let writing = write_loop(queue, writer, channel);
                let reason = run(read_answers(&shared, inbound), writing, &liveness).await;
                shared.break_off(&reason);
            }
        });
        Self { shared, identity, _task: AbortOnDropHandle::new(task) }
    }

    /// Whether it was made under this identity.
    pub(super) fn is_made_as(&self, identity: &PeerIdentity) -> bool {
        self.identity == *identity
    }

    /// Why it broke, once it has.
    pub(super) fn broken(&self) -> Option<Arc<str>> {
        self.shared.calls.lock().broken.clone()
    }

    /// Sends a request and waits for its answer. Dropping the future cancels the call at the server.
    pub(super) async fn call(&self, addr: &str, request: Envelope, deadline: Instant) -> Result<Envelope, RpcError> {
        let lost = |reason: &str| RpcError::Lost { addr: addr.to_owned(), reason: reason.to_owned() };
        let not_sent = |reason: &str| RpcError::Unreachable { addr: addr.to_owned(), reason: reason.to_owned() };

        let (sender, answer) = oneshot::channel();
        let id = self.shared.calls.lock().begin(sender).map_err(|reason| not_sent(&reason))?;
        let mut pending = PendingCall { shared: &self.shared, id, is_over: false };
        if let Err(Closed) = self.shared.outbox.request(id, deadline, request).await {
            return Err(not_sent("the connection was lost before the request was sent"));
        }
        let outcome = answer.await;
        pending.is_over = true;
        match outcome {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(reason)) => Err(lost(&reason)),
            Err(_) => Err(lost("the connection's task is gone")),
        }
    }

    /// Sends a message, or forgets it.
    pub(super) fn send(&self, message: Envelope) {
        let id = self.shared.calls.lock().next_id();
        self.shared.outbox.send(id, message);
    }
}

/// Runs both directions of a connection until one of them ends, and says why it did.
pub(super) async fn run(
    reading: impl Future<Output = FrameError>,
    writing: impl Future<Output = io::Result<()>> + Send + 'static,
    liveness: &Liveness,
) -> String {
    let mut writing = AbortOnDropHandle::new(tokio::spawn(writing));
    tokio::select! {
        error = reading => error.to_string(),
        outcome = &mut writing => match outcome {
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(())) => "closed".to_owned(),
            Err(error) => error.to_string(),
        },
        () = liveness.watch() => "the peer fell silent".to_owned(),
    }
}

async fn read_answers<R: AsyncRead + Unpin>(shared: &Shared, mut inbound: Inbound<R>) -> FrameError {
    loop {
        let (id, answer) = match inbound.next().await {
            Ok(Arrival::Response { id, envelope }) => (id, Ok(envelope)),
            Ok(Arrival::Cancel(id)) => (id, Err(Arc::from("the peer gave the call up"))),
            Ok(Arrival::Request { .. } | Arrival::Message(_)) => {
                return FrameError::Malformed("a server that asks instead of answering");
            }
            Err(error) => return error,
        };
        let mut calls = shared.calls.lock();
        if id > calls.id_last {
            return FrameError::Malformed("an answer to a call that was never made");
        }
        // Nobody waits for the answer to a call that was cancelled meanwhile.
        if let Some(caller) = calls.waiting.remove(&id) {
            drop(calls);
            let _ = caller.send(answer);
        }
    }
}

impl Shared {
    fn break_off(&self, reason: &str) {
        self.outbox.close();
        let reason: Arc<str> = Arc::from(reason);
        let mut calls = self.calls.lock();
        calls.broken = Some(Arc::clone(&reason));
        let waiting = std::mem::take(&mut calls.waiting);
        drop(calls);
        for caller in waiting.into_values() {
            let _ = caller.send(Err(Arc::clone(&reason)));
        }
    }
}

impl Calls {
    fn next_id(&mut self) -> u64 {
        self.id_last += 1;
        self.id_last
    }

    fn begin(&mut self, caller: oneshot::Sender<Answer>) -> Result<u64, Arc<str>> {
        if let Some(reason) = &self.broken {
            return Err(Arc::clone(reason));
        }
        let id = self.next_id();
        self.waiting.insert(id, caller);
        Ok(id)
    }
}

/// A call under way; dropped before its answer came, it is cancelled.
struct PendingCall<'a> {
    shared: &'a Shared,
    id: u64,
    is_over: bool,
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        if !self.is_over && self.shared.calls.lock().waiting.remove(&self.id).is_some() {
            self.shared.outbox.cancel(self.id);
        }
    }
}
