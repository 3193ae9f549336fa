//! One call to one node: encoding, its address, and what the outcome says about its health.

use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::NodeId;
use annulus_common::map::ClusterMap;
use annulus_common::protocol::{Answer, Refusal, Response, decode};
use annulus_common::rpc::{Envelope, Lane, RpcError, SharedTransport};
use bytes::Bytes;

use super::health::Health;

/// The other processes.
pub(super) struct Peers {
    transport: SharedTransport,
    pub(super) health: Health,
    pub(super) clock: SharedClock,
}

/// Why a call brought nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CallError {
    /// There was no answer.
    #[error(transparent)]
    Failed(#[from] RpcError),
    /// The node answered no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl CallError {
    /// Whether what was asked may have been done all the same.
    pub(super) fn is_uncertain(&self) -> bool {
        matches!(
            self,
            CallError::Failed(RpcError::TimedOut { .. } | RpcError::Lost { .. })
                | CallError::Refused(Refusal::Uncertain | Refusal::Storage(_))
        )
    }
}

impl Peers {
    pub(super) fn new(transport: SharedTransport, clock: SharedClock) -> Self {
        Self { transport, health: Health::new(clock.clone()), clock }
    }

    /// Asks a node of the map, and remembers whether it answered.
    pub(super) async fn ask(
        &self,
        map: &ClusterMap,
        node: NodeId,
        lane: Lane,
        request: Envelope,
        deadline: Duration,
    ) -> Result<(Response, Bytes), CallError> {
        let Some(addr) = map.addr(node) else {
            return Err(
                RpcError::Unreachable { addr: node.to_string(), reason: "not in the cluster map".into() }.into()
            );
        };
        match self.transport.call(addr, lane, request, deadline).await {
            Ok(answer) => {
                self.health.answered(node);
                match decode::<Answer>(&answer.header) {
                    Ok(Ok(response)) => Ok((response, answer.payload)),
                    Ok(Err(refusal)) => Err(refusal.into()),
                    Err(malformed) => Err(Refusal::Invalid(malformed.to_string()).into()),
                }
            }
            Err(error) => {
                self.health.failed(node);
                Err(error.into())
            }
        }
    }
}
