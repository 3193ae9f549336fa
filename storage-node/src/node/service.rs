//! The node towards the transport: messages decoded, counted, and answered by whatever stage the node is in.

use std::sync::Arc;

use annulus_common::map::change::MapRefusal;
use annulus_common::protocol::{self, Message, NodeStatus, Refusal, Request, Response};
use annulus_common::rpc::{Envelope, PeerIdentity, Service};
use async_trait::async_trait;
use bytes::Bytes;
use tracing::warn;

use super::life::{Shared, Stage};
use crate::repair::pressure;
use crate::server::{self, Server};
use crate::status;

/// Answers for a node.
pub(super) struct NodeService(pub(super) Arc<Shared>);

#[async_trait]
impl Service for NodeService {
    async fn call(&self, peer: &PeerIdentity, request: Envelope) -> Envelope {
        let reply = match protocol::decode::<Request>(&request.header) {
            Ok(decoded) => self.0.measured(peer, decoded, request.payload).await,
            Err(error) => Err(Refusal::Invalid(error.to_string())),
        };
        server::envelope(reply)
    }

    fn receive(&self, peer: &PeerIdentity, message: Envelope) {
        let stage = self.0.stage.load();
        match (&**stage, protocol::decode::<Message>(&message.header)) {
            (Stage::Member(server), Ok(Message::Raft)) => server.step(peer, message.payload),
            (Stage::Fresh(lobby), Ok(Message::Raft)) => {
                if let Some(cluster) = peer.cluster {
                    lobby.saw_cluster(cluster);
                }
            }
            (_, Ok(Message::Raft)) => {}
            (_, Err(error)) => warn!(instance = %peer.instance, %error, "message dropped"),
        }
    }
}

impl Shared {
    /// Answers, and counts how long it took.
    async fn measured(&self, peer: &PeerIdentity, request: Request, payload: Bytes) -> server::Reply {
        let (kind, began) = (pressure::kind_of(&request), self.clock.monotonic());
        let ticket = self.counting.get().map(|counting| (counting, counting.begin(&request, &payload)));
        let reply = self.answer(peer, request, payload).await;
        if let Some((counting, ticket)) = ticket {
            counting.end(ticket, &reply);
        }
        if let Some(kind) = kind {
            self.foreground.took(kind, self.clock.monotonic().saturating_sub(began));
        }
        reply
    }

    async fn answer(&self, peer: &PeerIdentity, request: Request, payload: Bytes) -> server::Reply {
        match &*self.stage.load_full() {
            Stage::Member(server) => match request {
                Request::NodeStatus => {
                    let status = self.status(server).await?;
                    Ok((Response::NodeStatus(Box::new(status)), Bytes::new()))
                }
                request => server.handle(peer, request, payload).await,
            },
            Stage::Fresh(lobby) => {
                if let Some(cluster) = peer.cluster {
                    lobby.saw_cluster(cluster);
                }
                match request {
                    Request::Join(node) => Ok((Response::Join(lobby.join(node)), Bytes::new())),
                    _ => Err(Refusal::NotReady("not a member of a cluster yet".to_owned())),
                }
            }
            Stage::Starting => Err(Refusal::NotReady("starting".to_owned())),
            Stage::Removed(node) => Err(Refusal::NotReady(MapRefusal::NodeRemoved(*node).to_string())),
            Stage::Stopped => Err(Refusal::NotReady("stopping".to_owned())),
        }
    }

    /// What the node knows of itself.
    pub(super) async fn status(&self, server: &Arc<Server>) -> Result<NodeStatus, Refusal> {
        let uptime = self.clock.monotonic().saturating_sub(self.started_at);
        status::gather(server, uptime, &self.config.data_dir).await
    }
}
