//! What the storage nodes say of themselves, for people and monitoring.

use std::time::Duration;

use annulus_common::ids::NodeId;
use annulus_common::map::ClusterMap;
use annulus_common::protocol::{NodeStatus, Request, Response, encode};
use annulus_common::rpc::{Envelope, Lane};
use bytes::Bytes;
use futures::future::join_all;

use super::ClusterClient;

/// A node that is silent for longer is shown as down.
const STATUS_DEADLINE: Duration = Duration::from_secs(2);

impl ClusterClient {
    /// What each node of the map answers, all asked at once; nothing for one that does not.
    pub async fn node_statuses(&self, map: &ClusterMap) -> Vec<(NodeId, Option<NodeStatus>)> {
        join_all(map.nodes.keys().map(|&node| async move { (node, self.node_status(map, node).await) })).await
    }

    async fn node_status(&self, map: &ClusterMap, node: NodeId) -> Option<NodeStatus> {
        let request = Envelope { header: encode(&Request::NodeStatus), payload: Bytes::new() };
        match self.peers.ask(map, node, Lane::Control, request, STATUS_DEADLINE).await {
            // Another node may be at its address by now.
            Ok((Response::NodeStatus(status), _)) => Some(*status).filter(|status| status.node == node),
            _ => None,
        }
    }
}
