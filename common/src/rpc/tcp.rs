//! Calls over TCP: the transport for processes of their own.
//!
//! A caller holds one connection per peer and [`Lane`](super::Lane) and one for messages, made when first needed; calls are
//! multiplexed by request id.
//! Each connection has a task that reads and one that writes; both ends run the same [`inbound`] and [`outbound`], under a
//! [`liveness`] watch. [`client`] matches answers to calls and redials, [`server`] runs handlers under its bounds.
//! What is bounded and where:
//!
//! | what | bound | when it is reached |
//! |---|---|---|
//! | bytes queued for writing, per connection | `outbound::QUEUE_BYTES_MAX` | calls wait (within their deadline), messages are dropped |
//! | payloads under way in pieces, per direction | `frame::STREAMS_MAX` | the next ones wait at the sender |
//! | handlers and their bytes, per connection | `server::*_MAX` | the server stops reading |
//! | connections of a server | `server::CONNECTIONS_MAX` | new ones are closed |
//!
//! Not done here: encryption. Frames are not authenticated after the handshake, so off the host this belongs inside TLS.

mod batch;
mod client;
mod connection;
mod inbound;
mod liveness;
mod outbound;
mod server;

#[cfg(test)]
mod tests;

pub use client::TcpTransport;
pub use server::TcpServer;
