//! What nodes ask each other about groups and moves. A node that does not answer is asked again in the next round.

use std::time::Duration;

use annulus_common::ids::{GroupId, NodeId, PartitionId};
use annulus_common::map::ClusterMap;
use annulus_common::protocol::{Answer, Progress, Request, Response, decode, encode};
use annulus_common::rpc::{Envelope, Lane, SharedTransport};

/// How long a node may take to answer from memory.
const ASK_DEADLINE: Duration = Duration::from_secs(2);

/// How long a leader may take to say who the members are: it may be about to change them.
const MEMBERS_DEADLINE: Duration = Duration::from_secs(5);

/// The way to other nodes.
pub struct Asking {
    transport: SharedTransport,
}

impl Asking {
    /// By that transport.
    pub fn new(transport: SharedTransport) -> Self {
        Self { transport }
    }

    /// How far a node is with these partitions.
    pub async fn progress(&self, map: &ClusterMap, node: NodeId, partitions: Vec<PartitionId>) -> Option<Progress> {
        match self.ask(map, node, &Request::Progress(partitions), ASK_DEADLINE).await? {
            Response::Progress(progress) => Some(progress),
            _ => None,
        }
    }

    /// The members of those of these groups that a node leads.
    pub async fn members(
        &self,
        map: &ClusterMap,
        node: NodeId,
        groups: Vec<GroupId>,
    ) -> Option<Vec<(GroupId, Vec<NodeId>)>> {
        match self.ask(map, node, &Request::Members { epoch: map.epoch, groups }, MEMBERS_DEADLINE).await? {
            Response::Members(members) => Some(members),
            _ => None,
        }
    }

    async fn ask(&self, map: &ClusterMap, node: NodeId, request: &Request, deadline: Duration) -> Option<Response> {
        let envelope = Envelope::from_header(encode(request));
        let answer = match self.transport.call(map.addr(node)?, Lane::Control, envelope, deadline).await {
            Ok(answer) => decode::<Answer>(&answer.header),
            Err(error) => {
                tracing::debug!(node = node.0, %error, "a node does not say how far it is");
                return None;
            }
        };
        match answer {
            Ok(Ok(response)) => Some(response),
            Ok(Err(refusal)) => {
                tracing::debug!(node = node.0, %refusal, "a node does not say how far it is");
                None
            }
            Err(error) => {
                tracing::warn!(node = node.0, %error, "a node answers what is not understood");
                None
            }
        }
    }
}
