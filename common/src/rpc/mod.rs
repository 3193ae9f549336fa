//! How processes talk: the `Transport` seam and its two implementations.
//!
//! A call carries a header (a postcard-encoded message of `protocol`, opaque here) and a payload that travels beside it
//! without a copy. `tcp` is for processes of their own, `local` for one process (embedded mode and most tests). What a
//! message means is not known here.

pub mod counted;
pub mod fault;
mod frame;
pub mod handshake;
pub mod local;
pub mod tcp;

#[cfg(test)]
mod conformance;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, InstanceId, NodeId};

/// The largest payload of one call: a chunk of 4 MiB, with room to spare.
pub const PAYLOAD_BYTES_MAX: usize = 8 << 20;

/// The largest header of one call.
pub const HEADER_BYTES_MAX: usize = 2 << 20;

/// A message as it travels, in either direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The encoded request or response.
    pub header: Bytes,
    /// The bytes that go with it: chunk data, Raft messages, a snapshot's piece.
    pub payload: Bytes,
}

impl Envelope {
    /// A message without a payload.
    pub fn from_header(header: impl Into<Bytes>) -> Self {
        Self { header: header.into(), payload: Bytes::new() }
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.header.len() + self.payload.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Panics when a part is longer than any receiver takes: whoever made it is wrong, and no retry will help.
    fn assert_bounds(&self) {
        assert!(self.header.len() <= HEADER_BYTES_MAX, "an envelope's header is within HEADER_BYTES_MAX");
        assert!(self.payload.len() <= PAYLOAD_BYTES_MAX, "an envelope's payload is within PAYLOAD_BYTES_MAX");
    }
}

/// Who is at the other end, as proven in the handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerIdentity {
    /// The data directory or process.
    pub instance: InstanceId,
    /// The number in the cluster map, for a storage node that has one.
    pub node: Option<NodeId>,
    /// The cluster that the peer belongs to, once it belongs to one. Two peers of different clusters refuse each other.
    pub cluster: Option<ClusterId>,
}

impl PeerIdentity {
    /// Whether two peers belong to different clusters and so must not talk. A peer without a cluster talks to all.
    pub fn conflicts_with(&self, other: &PeerIdentity) -> bool {
        matches!((self.cluster, other.cluster), (Some(ours), Some(theirs)) if ours != theirs)
    }
}

/// Tells who we are now: a node learns its cluster and its number only after it has joined.
pub type IdentitySource = Arc<dyn Fn() -> PeerIdentity + Send + Sync>;

/// Which connection a call takes: bulk data must never delay a Raft message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Small calls. Messages keep to themselves: no call stands before them either.
    Control,
    /// Chunks and snapshots, which carry checksums of their own: payloads on this lane have no other.
    Bulk,
}

/// Why a call failed. `Unreachable` and `Refused` mean that it was not carried out; after `TimedOut` and `Lost` it may have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// No connection could be made.
    #[error("peer {addr} is unreachable: {reason}")]
    Unreachable {
        /// The peer.
        addr: String,
        /// What the operating system said.
        reason: String,
    },
    /// The handshake failed: another secret, another cluster, another version.
    #[error("peer {addr} refused the connection: {reason}")]
    Refused {
        /// The peer.
        addr: String,
        /// Why.
        reason: String,
    },
    /// No answer within the deadline.
    #[error("peer {addr} did not answer within {after:?}")]
    TimedOut {
        /// The peer.
        addr: String,
        /// The deadline.
        after: Duration,
    },
    /// The connection broke while the call was under way.
    #[error("the connection to peer {addr} was lost: {reason}")]
    Lost {
        /// The peer.
        addr: String,
        /// What happened.
        reason: String,
    },
}

/// The client's side: calls to peers by their address (`host:port` for TCP, any name in process).
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends a request and waits for its response, at most `deadline`.
    async fn call(&self, addr: &str, lane: Lane, request: Envelope, deadline: Duration) -> Result<Envelope, RpcError>;

    /// Sends a message that has no response. It may be lost without a word, as Raft expects; it never blocks.
    fn send(&self, addr: &str, message: Envelope);
}

/// The server's side: answers what arrives.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers a request. Dropped when the caller's deadline passes or the connection breaks.
    async fn call(&self, peer: &PeerIdentity, request: Envelope) -> Envelope;

    /// Takes a message that has no response. Must not block.
    fn receive(&self, peer: &PeerIdentity, message: Envelope);
}

/// A transport that is passed around.
pub type SharedTransport = Arc<dyn Transport>;
