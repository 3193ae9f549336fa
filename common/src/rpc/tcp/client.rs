//! The caller's end over TCP: who is connected, what is awaited, and when to try again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::Connection;
use crate::rpc::frame::Channel;
use crate::rpc::handshake::{self, ClusterSecret, HandshakeError};
use crate::rpc::{Envelope, IdentitySource, Lane, PeerIdentity, RpcError, Transport};

/// How long the operating system may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a failed attempt speaks for the next callers: a dead peer costs them nothing meanwhile.
const BACK_OFF: Duration = Duration::from_millis(200);

/// How long callers wait for another attempt at a peer that was just lost or found dead. One that is back answers well
/// within, which takes three round trips; one that hangs must not cost each of them the whole handshake's time-out.
const RETRY_PATIENCE: Duration = Duration::from_millis(400);

/// A longer deadline than this is none: it would overflow what clocks and frames can carry.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How many addresses are remembered per channel before those without a connection are forgotten: many times a cluster.
const PEERS_MAX: usize = 4096;

/// Calls peers over TCP. Connections are made when first needed, and again whenever our own identity has changed, so that
/// peers know a node by the number that it was given.
pub struct TcpTransport {
    dialer: Arc<Dialer>,
    control: RwLock<HashMap<String, Arc<Peer>>>,
    bulk: RwLock<HashMap<String, Arc<Peer>>>,
    messages: RwLock<HashMap<String, Arc<Peer>>>,
}

/// What it takes to make a connection.
struct Dialer {
    identity: IdentitySource,
    secret: ClusterSecret,
    /// Messages may be sent from threads that the runtime does not know.
    runtime: Handle,
}

impl TcpTransport {
    /// A transport without connections yet. To be called inside the runtime that will run them.
    pub fn new(identity: IdentitySource, secret: ClusterSecret) -> Self {
        let dialer = Arc::new(Dialer { identity, secret, runtime: Handle::current() });
        Self { dialer, control: RwLock::default(), bulk: RwLock::default(), messages: RwLock::default() }
    }

    fn peer(&self, addr: &str, channel: Channel) -> Arc<Peer> {
        let peers = match channel {
            Channel::Control => &self.control,
            Channel::Bulk => &self.bulk,
            Channel::Messages => &self.messages,
        };
        if let Some(peer) = peers.read().get(addr) {
            return Arc::clone(peer);
        }
        let mut peers = peers.write();
        if peers.len() >= PEERS_MAX {
            peers.retain(|_, peer| matches!(*peer.link.lock(), Link::Up(_)));
        }
        Arc::clone(peers.entry(addr.to_owned()).or_insert_with(|| Arc::new(Peer::new(addr, channel))))
    }
}

#[async_trait]
impl Transport for TcpTransport {
    async fn call(&self, addr: &str, lane: Lane, request: Envelope, deadline: Duration) -> Result<Envelope, RpcError> {
        let ends = Instant::now() + deadline.min(DEADLINE_MAX);
        let call = async {
            let connection = self.peer(addr, lane.into()).connection(&self.dialer).await?;
            connection.call(addr, request, ends).await
        };
        timeout_at(ends, call)
            .await
            .unwrap_or_else(|_| Err(RpcError::TimedOut { addr: addr.to_owned(), after: deadline }))
    }

    fn send(&self, addr: &str, message: Envelope) {
        if let Look::Up(connection) = self.peer(addr, Channel::Messages).look(&self.dialer) {
            connection.send(message);
        }
    }
}

/// One address on one channel.
struct Peer {
    addr: String,
    channel: Channel,
    link: Mutex<Link>,
    /// Told whenever an attempt to connect has ended.
    changed: Notify,
}

enum Link {
    /// Nobody has needed it yet.
    Idle,
    /// An attempt is being made. `after` is how the one before it failed.
    Connecting {
        after: Option<RpcError>,
    },
    Up(Arc<Connection>),
    Failed {
        error: RpcError,
        at: Instant,
    },
}

/// What a caller sees of a [`Link`].
enum Look {
    Up(Arc<Connection>),
    Connecting { after: Option<RpcError> },
    Failed(RpcError),
}

impl Peer {
    fn new(addr: &str, channel: Channel) -> Self {
        Self { addr: addr.to_owned(), channel, link: Mutex::new(Link::Idle), changed: Notify::new() }
    }

    async fn connection(self: &Arc<Self>, dialer: &Arc<Dialer>) -> Result<Arc<Connection>, RpcError> {
        loop {
            // Made before looking: it wakes for whatever changes from now on.
            let changed = self.changed.notified();
            match self.look(dialer) {
                Look::Up(connection) => return Ok(connection),
                Look::Failed(error) => return Err(error),
                Look::Connecting { after: None } => changed.await,
                Look::Connecting { after: Some(error) } => {
                    timeout(RETRY_PATIENCE, changed).await.map_err(|_| error)?;
                }
            }
        }
    }

    /// The state of the link, after an attempt was started if one is due.
    fn look(self: &Arc<Self>, dialer: &Arc<Dialer>) -> Look {
        let identity = (dialer.identity)();
        let mut link = self.link.lock();
        let after = match &*link {
            Link::Up(connection) => match connection.broken() {
                // A peer that was just lost may be dead: its callers are as impatient as after a failed attempt.
                Some(reason) => Some(RpcError::Unreachable { addr: self.addr.clone(), reason: reason.to_string() }),
                None if connection.is_made_as(&identity) => return Look::Up(Arc::clone(connection)),
                None => None,
            },
            Link::Connecting { after } => return Look::Connecting { after: after.clone() },
            Link::Failed { error, at } if at.elapsed() < BACK_OFF => return Look::Failed(error.clone()),
            Link::Failed { error, .. } => Some(error.clone()),
            Link::Idle => None,
        };
        *link = Link::Connecting { after: after.clone() };
        let (peer, dialer) = (Arc::clone(self), Arc::clone(dialer));
        let runtime = dialer.runtime.clone();
        runtime.spawn(async move { peer.connect(&dialer, identity).await });
        Look::Connecting { after }
    }

    async fn connect(&self, dialer: &Dialer, identity: PeerIdentity) {
        let outcome = dial(&self.addr, self.channel, identity, &dialer.secret).await;
        let link = match outcome {
            Ok(connection) => {
                tracing::debug!(peer = self.addr, channel = ?self.channel, "connected");
                Link::Up(Arc::new(connection))
            }
            Err(error) => {
                tracing::debug!(peer = self.addr, channel = ?self.channel, %error, "not connected");
                Link::Failed { error, at: Instant::now() }
            }
        };
        *self.link.lock() = link;
        self.changed.notify_waiters();
    }
}

async fn dial(
    addr: &str,
    channel: Channel,
    identity: PeerIdentity,
    secret: &ClusterSecret,
) -> Result<Connection, RpcError> {
    let unreachable = |reason: String| RpcError::Unreachable { addr: addr.to_owned(), reason };
    let mut stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(addr))
        .await
        .map_err(|_| unreachable(format!("no connection within {CONNECT_TIMEOUT:?}")))?
        .map_err(|error| unreachable(error.to_string()))?;
    stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
    match handshake::connect(&mut stream, channel, identity.clone(), secret).await {
        Ok(agreed) => Ok(Connection::start(stream, agreed.channel, identity)),
        Err(HandshakeError::Refused(reason)) => Err(RpcError::Refused { addr: addr.to_owned(), reason }),
        Err(HandshakeError::Io(error)) => Err(unreachable(error.to_string())),
    }
}
