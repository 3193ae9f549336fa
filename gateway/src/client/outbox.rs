//! Outboxes of events, which lie in the partitions: which of them are not empty, what is first in one, and holding it.

use std::time::Duration;

use annulus_common::ids::PartitionId;
use annulus_common::map::ClusterMap;
use annulus_common::protocol::metadata::{Command, MetaReply, OutboxChange, OutboxPage, Query, QueryReply};
use annulus_common::protocol::outbox::WaitingOutbox;
use annulus_common::protocol::{Refusal, Request, Response, encode};
use annulus_common::rpc::{Envelope, Lane};
use futures::future::join_all;

use super::{ClientError, ClusterClient};

/// How long a node may take to look: it reads a few records of its own.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);

impl ClusterClient {
    /// The outboxes that are not empty, as far as the nodes that answer lead their partitions.
    pub async fn waiting_outboxes(&self, map: &ClusterMap) -> Vec<WaitingOutbox> {
        let asked = map.nodes.keys().map(|&node| async move {
            let request = Envelope::from_header(encode(&Request::Outboxes));
            match self.peers.ask(map, node, Lane::Control, request, LOOK_DEADLINE).await {
                Ok((Response::Outboxes(waiting), _)) => waiting,
                _ => Vec::new(),
            }
        });
        join_all(asked).await.concat()
    }

    /// The first events of an outbox.
    pub async fn outbox_page(&self, partition: PartitionId, webhook: &str) -> Result<OutboxPage, ClientError> {
        match self.query_one(partition, Query::Outbox { webhook: webhook.to_owned() }).await? {
            QueryReply::Outbox(page) => Ok(page),
            _ => Err(unexpected("the answer is not one to a query for an outbox")),
        }
    }

    /// Changes an outbox, and says whether it is held by whoever the change names.
    pub async fn change_outbox(
        &self,
        partition: PartitionId,
        webhook: &str,
        change: OutboxChange,
    ) -> Result<bool, ClientError> {
        let command = Command::Outbox { webhook: webhook.to_owned(), change };
        match self.mutate(&mut self.proposal(partition, command)).await? {
            MetaReply::Held(held) => Ok(held),
            _ => Err(unexpected("the answer is not one to a change of an outbox")),
        }
    }
}

fn unexpected(reason: &str) -> ClientError {
    ClientError::Refused(Refusal::Invalid(reason.to_owned()))
}
