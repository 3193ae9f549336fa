//! Delivery of hints: chunks that a node is owed are sent to it when it is back, and a hint is forgotten only when the chunk
//! is where it belongs.
//!
//! A hint is the quick way and nothing more: what nobody remembers to owe is found by comparison, and a copy that stood in
//! here is given up by `strays`, which looks at what is there and not at hints. So a hint whose node has left the chunk's
//! partition, or the cluster, is dropped. Every step can be repeated: a crash in between costs a question.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::CHUNK_BYTES;
use annulus_common::clock::SharedClock;
use annulus_common::ids::{ChunkId, NodeId};
use annulus_common::map::ClusterMap;
use annulus_common::map::watch::MapWatch;
use annulus_common::protocol::Refusal;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use tokio::sync::Semaphore;

use super::fetch::{CHUNKS_AT_ONCE, FetchError, Fetcher};
use super::hints::HintStore;
use super::peers::{Copy, PeerError, Peers};
use super::throttle::{BackOff, Throttle, Urgency};
use super::{Next, REFRESH_PATIENCE, RepairSeams, Tools, Worker};
use crate::chunk::{ChunkError, ChunkStore};
use crate::kv::KvError;

/// Hints that are worked on together: one question to the node.
const PAGE_HINTS: usize = 256;

/// Pages of one node in one turn, which the nodes that are due next wait for: at most a minute at the default rate.
const PAGES_PER_TURN_MAX: usize = 4;

/// The loop and what it remembers.
pub(super) struct Delivery {
    hints: Arc<HintStore>,
    chunks: Arc<ChunkStore>,
    map: MapWatch,
    peers: Arc<Peers>,
    fetcher: Arc<Fetcher>,
    clock: SharedClock,
    pause: Duration,
    throttle: Arc<Throttle>,
    in_flight: Semaphore,
    back_off: BackOff,
    /// Where the next turn goes on with a node that has more hints than a turn serves.
    places: BTreeMap<NodeId, ChunkId>,
}

/// How a node's turn ended.
#[derive(Debug)]
enum Served {
    /// All that is left were additions meanwhile, or lies before where the turn began.
    All,
    /// There is more.
    Until {
        /// After this chunk.
        place: ChunkId,
        /// Whether a hint was closed on the way.
        progress: bool,
    },
    /// It cannot go on now.
    Stuck,
}

/// Why a node's turn ended early.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    /// Whoever gave the hint may know a newer one.
    #[error("the newest cluster map is not known now")]
    NoMap,
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Hints(#[from] KvError),
}

/// What became of one chunk that was to be sent.
#[derive(Debug)]
enum Sent {
    /// It is on disk there.
    Stored,
    /// It is not here any more: it was collected.
    Gone,
    /// It could not be sent now, and another one may.
    Kept,
    /// The node failed.
    Failed(PeerError),
}

impl Worker for Delivery {
    /// Serves every node that is due, all at once: chunks in flight are bounded, questions are small.
    async fn turn(&mut self) -> Next {
        let now = self.clock.monotonic();
        let owed = self.hints.pending().into_iter().map(|(node, _)| node);
        let due: Vec<NodeId> = owed.filter(|node| self.back_off.is_due(*node, now)).collect();
        let served = join_all(due.iter().map(|&node| self.serve(node))).await;
        let now = self.clock.monotonic();
        let mut more = false;
        for (node, served) in due.into_iter().zip(served) {
            self.places.remove(&node);
            match served {
                Served::All => self.back_off.succeeded(node),
                Served::Until { place, progress } => {
                    self.back_off.succeeded(node);
                    self.places.insert(node, place);
                    more |= progress;
                }
                Served::Stuck => self.back_off.failed(node, now),
            }
        }
        if more { Next::AtOnce } else { Next::After(self.pause) }
    }
}

impl Delivery {
    pub(super) fn new(seams: &RepairSeams, tools: &Tools) -> Self {
        Self {
            hints: Arc::clone(&seams.hints),
            chunks: Arc::clone(&seams.chunks),
            map: seams.map.clone(),
            peers: Arc::clone(&tools.peers),
            fetcher: Arc::clone(&tools.fetcher),
            clock: Arc::clone(&seams.clock),
            pause: seams.settings.deliver_pause,
            throttle: Arc::clone(&tools.throttle),
            in_flight: Semaphore::new(CHUNKS_AT_ONCE),
            back_off: BackOff::default(),
            places: BTreeMap::new(),
        }
    }

    async fn serve(&self, node: NodeId) -> Served {
        let mut after = self.places.get(&node).copied();
        let mut kept = 0;
        for _ in 0..PAGES_PER_TURN_MAX {
            match self.serve_page(node, after).await {
                Ok(None) => return if kept == 0 { Served::All } else { Served::Stuck },
                Ok(Some((last, kept_of_page))) => {
                    after = Some(last);
                    kept += kept_of_page;
                }
                Err(error) => {
                    tracing::debug!(node = node.0, %error, "hints are not delivered now");
                    return Served::Stuck;
                }
            }
        }
        let progress = kept < PAGES_PER_TURN_MAX * PAGE_HINTS;
        after.map_or(Served::All, |place| Served::Until { place, progress })
    }

    /// Works on the next hints; nothing when there are none. Returns the last one and how many were left as they are.
    async fn serve_page(&self, node: NodeId, after: Option<ChunkId>) -> Result<Option<(ChunkId, usize)>, Interruption> {
        let page = self.hints.page(node, after, PAGE_HINTS).await?;
        let Some(&last) = page.last() else { return Ok(None) };
        // By an old map, what is owed could look as if it were not.
        let refreshed = tokio::time::timeout(REFRESH_PATIENCE, self.map.refresh()).await;
        let map = refreshed.map_err(|_| Interruption::NoMap)?;
        let Sorted { owed, void } = sort(&map, node, page);
        self.hints.remove(node, void).await?;
        let mut sending = Sending::default();
        if !owed.is_empty() {
            let has = self.peers.has_chunks(&map, node, &owed).await?;
            let (there, missing): (Vec<_>, Vec<_>) = owed.into_iter().zip(has).partition(|(_, has)| *has);
            sending.there = there.into_iter().map(|(chunk, _)| chunk).collect();
            self.send_all(&map, node, missing.into_iter().map(|(chunk, _)| chunk), &mut sending).await;
        }
        let Sending { there, gone, kept, failure } = sending;
        if !there.is_empty() {
            tracing::info!(node = node.0, chunks = there.len(), "owed chunks are in place");
        }
        self.hints.remove(node, [there, gone].concat()).await?;
        match failure {
            Some(failure) => Err(failure.into()),
            None => Ok(Some((last, kept))),
        }
    }

    /// Sends chunks, a few at a time, until the node fails.
    async fn send_all(
        &self,
        map: &ClusterMap,
        node: NodeId,
        mut chunks: impl Iterator<Item = ChunkId>,
        sending: &mut Sending,
    ) {
        let mut sends = FuturesUnordered::new();
        loop {
            while sends.len() < CHUNKS_AT_ONCE && sending.failure.is_none() {
                let Some(chunk) = chunks.next() else { break };
                sends.push(async move { (chunk, self.send(map, node, chunk).await) });
            }
            match sends.next().await {
                Some((chunk, Sent::Stored)) => sending.there.push(chunk),
                Some((chunk, Sent::Gone)) => sending.gone.push(chunk),
                Some((_, Sent::Kept)) => sending.kept += 1,
                Some((_, Sent::Failed(error))) => sending.failure = Some(error),
                None => return,
            }
        }
    }

    async fn send(&self, map: &ClusterMap, node: NodeId, chunk: ChunkId) -> Sent {
        let Ok(_permit) = self.in_flight.acquire().await else { return Sent::Kept };
        let copy = match self.good_copy(map, chunk).await {
            Ok(Some(copy)) => copy,
            Ok(None) => return Sent::Gone,
            Err(error) => {
                tracing::warn!(?chunk, node = node.0, %error, "an owed chunk cannot be read here, its hint is kept");
                return Sent::Kept;
            }
        };
        self.throttle.take(copy.data.len() as u64, Urgency::Usual).await;
        match self.peers.put_chunk(map, node, chunk, copy).await {
            Ok(()) => Sent::Stored,
            Err(PeerError::Refused(refusal @ (Refusal::Mismatch | Refusal::Invalid(_)))) => {
                tracing::warn!(?chunk, node = node.0, %refusal, "an owed chunk is refused, its hint is kept");
                Sent::Kept
            }
            Err(error) => Sent::Failed(error),
        }
    }

    /// The chunk as it was written; nothing when it is not here. One that has rotted here is got from another holder.
    async fn good_copy(&self, map: &ClusterMap, chunk: ChunkId) -> Result<Option<Copy>, FetchError> {
        match self.chunks.get(chunk, 0..CHUNK_BYTES).await {
            Ok(read) => Ok(Some(Copy { owner: read.owner, piece_crcs: read.piece_crcs, data: read.data })),
            Err(ChunkError::NotFound { .. }) => Ok(None),
            Err(ChunkError::Corrupt { .. }) => self.fetcher.copy(map, chunk, None).await.map(Some),
            Err(error) => Err(error.into()),
        }
    }
}

/// What sending a page came to.
#[derive(Debug, Default)]
struct Sending {
    there: Vec<ChunkId>,
    gone: Vec<ChunkId>,
    kept: usize,
    failure: Option<PeerError>,
}

/// The hints of a node by what they mean now.
#[derive(Debug, PartialEq, Eq)]
struct Sorted {
    /// The node should have the chunk.
    owed: Vec<ChunkId>,
    /// It should not any more: it left the chunk's replica set, or the cluster.
    void: Vec<ChunkId>,
}

fn sort(map: &ClusterMap, node: NodeId, chunks: Vec<ChunkId>) -> Sorted {
    let in_cluster = map.nodes.contains_key(&node);
    let is_owed = |chunk: &ChunkId| in_cluster && map.replicas(map.partition_of_chunk(*chunk)).contains(&node);
    let (owed, void) = chunks.into_iter().partition(is_owed);
    Sorted { owed, void }
}

#[cfg(test)]
mod tests {
    use annulus_common::ids::NodeId;

    use super::super::tests::{chunk_of, map_of};
    use super::{Sorted, sort};

    #[test]
    fn a_hint_is_owed_only_while_its_node_belongs_to_the_chunk() {
        let map = map_of(3, &[&[1, 2], &[2, 3]]);
        let (first, second) = (chunk_of(&map, 0), chunk_of(&map, 1));
        let hints = vec![first, second];
        assert_eq!(sort(&map, NodeId(1), hints.clone()), Sorted { owed: vec![first], void: vec![second] });
        // A node that the placement still names but that left the cluster.
        let map = map_of(2, &[&[1, 2], &[2, 3]]);
        assert_eq!(sort(&map, NodeId(3), vec![second]), Sorted { owed: vec![], void: vec![second] });
    }
}
