//! Reading a chunk from whoever has a good copy: one holder, a second one when the first is slow, then everyone else.
//!
//! Every piece is checked against its CRC before a byte is handed out. Repairing what was found damaged is not done here.

use std::ops::Range;
use std::time::Duration;

use annulus_common::chunk::{piece_bytes, piece_range, trim_range, verify_pieces};
use annulus_common::ids::{ChunkId, NodeId};
use annulus_common::map::ClusterMap;
use annulus_common::protocol::{Purpose, Refusal, Request, Response, encode};
use annulus_common::rpc::{Envelope, Lane};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::holders::stand_ins;
use super::peers::CallError;
use super::{ClientError, ClusterClient};

/// How long one node may take to read a chunk, long after it was hedged.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// Nodes that are asked for one chunk at the same time: one, its hedge, and one more when both are silent.
const ASKED_AT_ONCE_MAX: usize = 3;

/// How long the leader of the map may take to confirm it before a chunk is called lost.
const REFRESH_PATIENCE: Duration = Duration::from_secs(2);

/// Nodes beyond the holders that are asked before a chunk is given up: stand-ins come first in ring order.
const STAND_INS_MAX: usize = 32;

impl ClusterClient {
    /// Reads `range` of a chunk of `length` bytes.
    pub async fn read_chunk(&self, id: ChunkId, range: Range<u32>, length: u32) -> Result<Bytes, ClientError> {
        assert!(range.start < range.end && range.end <= length, "a range that is read lies within its chunk");
        let map = self.watch.latest();
        let outcome = self.read_by(&map, id, range.clone(), length).await;
        let Err(ClientError::ChunkLost(_)) = outcome else { return outcome };
        // By an old map, the wrong nodes were asked: that says nothing.
        let Ok(newest) = tokio::time::timeout(REFRESH_PATIENCE, self.watch.refresh()).await else {
            return Err(ClientError::ChunkUnavailable(id));
        };
        if candidates(&newest, id) == candidates(&map, id) {
            return outcome;
        }
        self.read_by(&newest, id, range, length).await
    }

    async fn read_by(
        &self,
        map: &ClusterMap,
        id: ChunkId,
        range: Range<u32>,
        length: u32,
    ) -> Result<Bytes, ClientError> {
        let mut candidates = self.read_order(map, id).into_iter().peekable();
        let mut asked = FuturesUnordered::new();
        let mut silent = false;
        loop {
            if asked.is_empty() {
                let Some(node) = candidates.next() else { break };
                asked.push(self.read_at(map, node, id, range.clone(), length));
            }
            let may_hedge = asked.len() < ASKED_AT_ONCE_MAX && candidates.peek().is_some();
            let patience = if may_hedge { self.peers.health.hedge_delay() } else { READ_DEADLINE };
            match tokio::time::timeout(patience, asked.next()).await {
                Ok(Some(Ok(data))) => return Ok(data),
                Ok(Some(Err(error))) => silent |= may_have_it(&error),
                Ok(None) => {}
                Err(_) if may_hedge => {
                    let hedge = candidates.next().map(|node| self.read_at(map, node, id, range.clone(), length));
                    asked.extend(hedge);
                }
                Err(_) => {}
            }
        }
        Err(if silent { ClientError::ChunkUnavailable(id) } else { ClientError::ChunkLost(id) })
    }

    /// Holders in the placement's order, then stand-ins in ring order; of both, suspects last. Always the same holder first:
    /// a chunk then fills the page cache of one node instead of all, and as every node comes first equally often in the
    /// placement, they share the load all the same.
    fn read_order(&self, map: &ClusterMap, id: ChunkId) -> Vec<NodeId> {
        let (usable, suspect): (Vec<NodeId>, Vec<NodeId>) =
            candidates(map, id).into_iter().partition(|&node| self.peers.health.is_usable(node));
        [usable, suspect].concat()
    }

    async fn read_at(
        &self,
        map: &ClusterMap,
        node: NodeId,
        id: ChunkId,
        range: Range<u32>,
        length: u32,
    ) -> Result<Bytes, CallError> {
        let begun = self.clock.monotonic();
        let request = Request::GetChunk { id, from: range.start, to: range.end, purpose: Purpose::Client };
        let envelope = Envelope::from_header(encode(&request));
        let (response, payload) =
            self.peers.ask(map, node, Lane::Bulk, envelope, READ_DEADLINE).await.inspect_err(|error| {
                if matches!(error, CallError::Refused(Refusal::CorruptChunk)) {
                    tracing::warn!(chunk = ?id, node = node.0, "a node's copy of a chunk is corrupt");
                }
            })?;
        self.peers.health.read_took(self.clock.monotonic().saturating_sub(begun));
        verified(response, payload, &range, length).inspect_err(|_| {
            tracing::warn!(chunk = ?id, node = node.0, "a chunk came damaged");
        })
    }
}

/// Who may have a chunk: its holders in the placement's order, then stand-ins in ring order.
fn candidates(map: &ClusterMap, id: ChunkId) -> Vec<NodeId> {
    let partition = map.partition_of_chunk(id);
    let mut nodes: Vec<NodeId> = map.holders(partition).collect();
    let stand_ins = stand_ins(map, partition, STAND_INS_MAX);
    nodes.extend(stand_ins.into_iter().filter(|node| !map.holders(partition).any(|holder| holder == *node)));
    nodes
}

/// Whether a node that failed like this may have a good copy.
fn may_have_it(error: &CallError) -> bool {
    !matches!(error, CallError::Refused(Refusal::NoSuchChunk | Refusal::CorruptChunk | Refusal::Mismatch))
}

/// The bytes of `range`, if they are exactly those that were stored.
fn verified(response: Response, payload: Bytes, range: &Range<u32>, length: u32) -> Result<Bytes, CallError> {
    let Response::Chunk { first_piece, piece_crcs, length: stored, .. } = response else {
        return Err(Refusal::Invalid("the answer is not a chunk".into()).into());
    };
    let pieces = piece_range(range, length);
    let expected = piece_bytes(&pieces, length);
    let fits = stored == length && first_piece == pieces.start && payload.len() == expected.len();
    if !fits || verify_pieces(&payload, &piece_crcs).is_err() {
        return Err(Refusal::Mismatch.into());
    }
    Ok(payload.slice(trim_range(range, first_piece, length)))
}
