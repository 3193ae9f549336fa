//! What an audit asks the nodes: to read everything that they hold, and to say what they name and what they have.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use annulus_common::ids::{ChunkId, NodeId, PartitionId};
use annulus_common::map::ClusterMap;
use annulus_common::protocol::metadata::{Query, QueryReply};
use annulus_common::protocol::repair::{Inventory, VerifiedChunks};
use annulus_common::protocol::{CHUNKS_PER_REQUEST_MAX, Refusal, Request, Response, encode};
use annulus_common::rpc::{Envelope, Lane};
use futures::future::join_all;

use super::peers::CallError;
use super::{ClientError, ClusterClient};

/// How long a node may take over a page of an audit: it reads some 32 MiB.
const PAGE_DEADLINE: Duration = Duration::from_secs(30);

impl ClusterClient {
    /// Has a node read and check the next chunks of a part of the ring. The text says why it did not.
    pub async fn verify_chunks(
        &self,
        map: &ClusterMap,
        node: NodeId,
        positions: RangeInclusive<u64>,
        after: Option<ChunkId>,
    ) -> Result<VerifiedChunks, String> {
        let request = Request::VerifyChunks { positions, after };
        match self.ask_for_audit(map, node, &request).await {
            Ok(Response::ChunksVerified(page)) => Ok(page),
            Ok(_) => Err("the answer is not understood".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Has a node read and check its next metadata. Returns where to go on.
    pub async fn verify_metadata(
        &self,
        map: &ClusterMap,
        node: NodeId,
        from: Option<(u8, Vec<u8>)>,
    ) -> Result<Option<(u8, Vec<u8>)>, String> {
        match self.ask_for_audit(map, node, &Request::VerifyMetadata { from }).await {
            Ok(Response::MetadataVerified { next }) => Ok(next),
            Ok(_) => Err("the answer is not understood".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What a partition names, a page of it.
    pub async fn inventory(&self, partition: PartitionId, from: Option<Vec<u8>>) -> Result<Inventory, ClientError> {
        match self.query_one(partition, Query::Inventory { from }).await? {
            QueryReply::Inventory(page) => Ok(page),
            _ => Err(ClientError::Refused(Refusal::Invalid("the answer is not an inventory".into()))),
        }
    }

    /// Which of these copies are not there: each chunk on each of these nodes. A node that does not answer has none.
    pub async fn missing_copies(
        &self,
        map: &ClusterMap,
        copies: BTreeMap<NodeId, Vec<ChunkId>>,
    ) -> BTreeMap<NodeId, Vec<ChunkId>> {
        let asked =
            copies.into_iter().map(|(node, chunks)| async move { (node, self.missing_at(map, node, chunks).await) });
        join_all(asked).await.into_iter().filter(|(_, missing)| !missing.is_empty()).collect()
    }

    async fn missing_at(&self, map: &ClusterMap, node: NodeId, chunks: Vec<ChunkId>) -> Vec<ChunkId> {
        let mut missing = Vec::new();
        for page in chunks.chunks(CHUNKS_PER_REQUEST_MAX) {
            match self.ask_for_audit(map, node, &Request::HasChunks(page.to_vec())).await {
                Ok(Response::HasChunks(has)) if has.len() == page.len() => {
                    missing.extend(page.iter().zip(has).filter(|(_, has)| !has).map(|(chunk, _)| *chunk));
                }
                _ => missing.extend(page),
            }
        }
        missing
    }

    async fn ask_for_audit(&self, map: &ClusterMap, node: NodeId, request: &Request) -> Result<Response, CallError> {
        let envelope = Envelope::from_header(encode(request));
        let (response, _) = self.peers.ask(map, node, Lane::Control, envelope, PAGE_DEADLINE).await?;
        Ok(response)
    }
}
