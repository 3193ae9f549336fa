//! Delivery of hints: chunks that a node is owed are sent to it when it is back, and a hint is forgotten only when the chunk
//! is where it belongs.
//!
//! A node that has a chunk without being in its replica set stands in for somebody. It gives its copy up when every node of
//! the set says that it has the chunk; until then the hint, redirected to whoever still lacks it, keeps the matter open. So
//! does a hint whose node has left the set or the cluster. Every step can be repeated: a crash in between costs a question.
//!
//! Not here: chunks that nobody remembers to owe (anti-entropy), garbage (`collect`). When a chunk is collected while a copy of
//! it is on its way, the copy stays behind as an orphan, which is the orphan collection's.

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
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::RepairSeams;
use super::hints::HintStore;
use super::pace::{BackOff, Throttle};
use super::peers::{Copy, PeerError, Peers};
use crate::chunk::{ChunkError, ChunkInfo, ChunkStore};
use crate::kv::KvError;

/// Hints that are worked on together: one question to the node.
const PAGE_HINTS: usize = 256;

/// Pages of one node in one turn, which the nodes that are due next wait for: at most a minute at the default rate.
const PAGES_PER_TURN_MAX: usize = 4;

/// Chunks that are on their way at once: enough to keep a link busy, and 16 MiB of memory.
const CHUNKS_AT_ONCE: usize = 4;

/// How long the leader of the map may take to confirm it before delivery goes on with what is known.
const REFRESH_PATIENCE: Duration = Duration::from_secs(2);

/// The loop and what it remembers.
pub(super) struct Delivery {
    me: NodeId,
    hints: Arc<HintStore>,
    chunks: Arc<ChunkStore>,
    map: MapWatch,
    peers: Peers,
    clock: SharedClock,
    pause: Duration,
    throttle: Mutex<Throttle>,
    in_flight: Semaphore,
    back_off: BackOff,
    /// Where the next turn goes on with a node that has more hints than a turn serves.
    places: BTreeMap<NodeId, ChunkId>,
}

/// The map by which a page of hints is judged.
struct Ground {
    map: Arc<ClusterMap>,
    /// Whether it is newer than each of the hints: only then does a hint that does not fit the placement mean that the
    /// placement has changed, and not that this copy of it is old.
    certain: bool,
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
    /// Whoever gave the hint knows a newer one.
    #[error("the node is not in the cluster map yet")]
    MapTooOld,
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Hints(#[from] KvError),
    #[error(transparent)]
    Chunks(#[from] ChunkError),
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

impl Delivery {
    pub(super) fn new(seams: &RepairSeams) -> Self {
        Self {
            me: seams.node,
            hints: Arc::clone(&seams.hints),
            chunks: Arc::clone(&seams.chunks),
            map: seams.map.clone(),
            peers: Peers::new(Arc::clone(&seams.transport)),
            clock: Arc::clone(&seams.clock),
            pause: seams.settings.deliver_pause,
            throttle: Mutex::new(Throttle::new(seams.settings.deliver_bytes_per_second)),
            in_flight: Semaphore::new(CHUNKS_AT_ONCE),
            back_off: BackOff::default(),
            places: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let more = self.turn().await;
            if !more {
                tokio::time::sleep(self.pause).await;
            }
        }
    }

    /// Serves every node that is due, all at once: chunks in flight are bounded, questions are small. Tells whether there is
    /// more to do at once.
    async fn turn(&mut self) -> bool {
        let now = self.clock.monotonic();
        let owed = self.hints.pending().into_iter().map(|(node, _)| node);
        let due: Vec<NodeId> = owed.filter(|node| self.back_off.is_due(*node, now)).collect();
        if due.is_empty() {
            return false;
        }
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
        more
    }

    async fn ground(&self) -> Ground {
        match tokio::time::timeout(REFRESH_PATIENCE, self.map.refresh()).await {
            Ok(map) => Ground { map, certain: true },
            Err(_) => Ground { map: self.map.latest(), certain: false },
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
        let ground = self.ground().await;
        if node >= ground.map.next_node {
            return Err(Interruption::MapTooOld);
        }
        let Sorted { owed, stray } = sort(&ground.map, node, page);
        let mut sending = Sending::default();
        if !owed.is_empty() {
            let has = self.peers.has_chunks(&ground.map, node, &owed).await?;
            let (there, missing): (Vec<_>, Vec<_>) = owed.into_iter().zip(has).partition(|(_, has)| *has);
            sending.there = there.into_iter().map(|(chunk, _)| chunk).collect();
            self.send_all(&ground.map, node, missing.into_iter().map(|(chunk, _)| chunk), &mut sending).await;
        }
        let Sending { there, gone, mut kept, failure } = sending;
        if !there.is_empty() {
            tracing::info!(node = node.0, chunks = there.len(), "owed chunks are in place");
        }
        self.hints.remove(node, gone).await?;
        kept += self.settle(&ground, node, there, stray).await?;
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
        let copy = match self.good_copy(map, node, chunk).await {
            Ok(Some(copy)) => copy,
            Ok(None) => return Sent::Gone,
            Err(error) => {
                tracing::warn!(?chunk, node = node.0, %error, "an owed chunk cannot be read here, its hint is kept");
                return Sent::Kept;
            }
        };
        let wait = self.throttle.lock().take(self.clock.monotonic(), copy.data.len() as u64);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        match self.peers.put_chunk(map, node, chunk, copy).await {
            Ok(()) => Sent::Stored,
            Err(PeerError::Refused(refusal @ (Refusal::Mismatch | Refusal::Invalid(_)))) => {
                tracing::warn!(?chunk, node = node.0, %refusal, "an owed chunk is refused, its hint is kept");
                Sent::Kept
            }
            Err(error) => Sent::Failed(error),
        }
    }

    /// The chunk as it was written; nothing when it is not here. One that has rotted here is got from another holder, which
    /// mends it here too.
    async fn good_copy(&self, map: &ClusterMap, node: NodeId, chunk: ChunkId) -> Result<Option<Copy>, ChunkError> {
        let Some(info) = self.chunks.stat(chunk).await? else { return Ok(None) };
        match self.chunks.get(chunk, 0..CHUNK_BYTES).await {
            Ok(read) => Ok(Some(Copy { owner: info.owner, piece_crcs: read.piece_crcs, data: read.data })),
            Err(ChunkError::NotFound { .. }) => Ok(None),
            Err(corrupt @ ChunkError::Corrupt { .. }) => match self.fetch(map, node, &info).await {
                Some(copy) => {
                    let mended = self.chunks.mend(chunk, copy.owner, copy.piece_crcs.clone(), copy.data.clone()).await;
                    if let Err(error) = mended {
                        tracing::warn!(?chunk, %error, "a corrupt chunk is not mended here");
                    }
                    Ok(Some(copy))
                }
                None => Err(corrupt),
            },
            Err(error) => Err(error),
        }
    }

    async fn fetch(&self, map: &ClusterMap, lacking: NodeId, info: &ChunkInfo) -> Option<Copy> {
        let holders = map.replicas(map.partition_of_chunk(info.id));
        for &holder in holders.iter().filter(|&&holder| holder != self.me && holder != lacking) {
            match self.peers.get_chunk(map, holder, info.id, &info.piece_crcs).await {
                Ok(data) => return Some(Copy { owner: info.owner, piece_crcs: info.piece_crcs.clone(), data }),
                Err(error) => tracing::debug!(chunk = ?info.id, node = holder.0, %error, "no good copy there"),
            }
        }
        None
    }

    /// Closes the hints of chunks that `node` has (`there`), and of those that it should not have any more (`stray`). Returns
    /// how many stay open under `node`.
    async fn settle(
        &self,
        ground: &Ground,
        node: NodeId,
        there: Vec<ChunkId>,
        stray: Vec<ChunkId>,
    ) -> Result<usize, Interruption> {
        let belongs_here = |chunk: &ChunkId| members(&ground.map, *chunk).contains(&self.me);
        let (mut closed, mut open): (Vec<_>, Vec<_>) = there.into_iter().partition(belongs_here);
        for chunk in stray {
            match self.chunks.stat(chunk).await {
                Ok(None) => closed.push(chunk),
                Ok(Some(_)) | Err(ChunkError::Corrupt { .. }) => open.push(chunk),
                Err(error) => return Err(error.into()),
            }
        }
        let is_newest = || self.map.latest().epoch == ground.map.epoch;
        if !ground.certain || !is_newest() {
            self.hints.remove(node, closed).await?;
            return Ok(open.len());
        }
        let lacking = self.lacking(&ground.map, node, &open).await;
        let Ending { forget, delete, redirect, unclear } = end(&ground.map, self.me, open, &lacking);
        closed.extend(forget);
        closed.extend(&delete);
        closed.extend(redirect.iter().map(|(_, chunk)| *chunk));
        self.hints.add(redirect).await?;
        if !delete.is_empty() {
            tracing::info!(chunks = delete.len(), "copies that stood in are given up");
            self.chunks.delete(delete).await?;
        }
        self.hints.remove(node, closed).await?;
        Ok(unclear)
    }

    /// Which nodes of each chunk's replica set do not say that they have it. `confirmed` has said so.
    async fn lacking(&self, map: &ClusterMap, confirmed: NodeId, chunks: &[ChunkId]) -> BTreeMap<ChunkId, Vec<NodeId>> {
        let questions = questions(map, self.me, confirmed, chunks);
        let asked = questions.iter().map(|(node, chunks)| self.peers.has_chunks(map, *node, chunks));
        let answers = join_all(asked).await;
        let mut lacking: BTreeMap<ChunkId, Vec<NodeId>> = BTreeMap::new();
        for ((node, chunks), answer) in questions.into_iter().zip(answers) {
            let has = answer.unwrap_or_else(|_| vec![false; chunks.len()]);
            for (chunk, _) in chunks.into_iter().zip(has).filter(|(_, has)| !has) {
                lacking.entry(chunk).or_default().push(node);
            }
        }
        lacking
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
    stray: Vec<ChunkId>,
}

fn sort(map: &ClusterMap, node: NodeId, chunks: Vec<ChunkId>) -> Sorted {
    let in_cluster = map.nodes.contains_key(&node);
    let (owed, stray) = chunks.into_iter().partition(|chunk| in_cluster && members(map, *chunk).contains(&node));
    Sorted { owed, stray }
}

fn members(map: &ClusterMap, chunk: ChunkId) -> &[NodeId] {
    map.replicas(map.partition_of_chunk(chunk))
}

/// Whom to ask about which chunks: every node of a chunk's replica set but this one and the one that has said it already.
fn questions(map: &ClusterMap, me: NodeId, confirmed: NodeId, chunks: &[ChunkId]) -> BTreeMap<NodeId, Vec<ChunkId>> {
    let mut questions: BTreeMap<NodeId, Vec<ChunkId>> = BTreeMap::new();
    for &chunk in chunks {
        let ask = members(map, chunk).iter().filter(|&&member| member != me && member != confirmed);
        ask.for_each(|&member| questions.entry(member).or_default().push(chunk));
    }
    questions
}

/// What is to be done with hints that are not simply delivered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ending {
    /// Hints alone: the chunk belongs here.
    forget: Vec<ChunkId>,
    /// Hints and chunks: the chunk is everywhere it belongs, and that is not here.
    delete: Vec<ChunkId>,
    /// Hints that take the place of these.
    redirect: Vec<(NodeId, ChunkId)>,
    /// Hints that stay: the map has no place for their chunks.
    unclear: usize,
}

fn end(map: &ClusterMap, me: NodeId, chunks: Vec<ChunkId>, lacking: &BTreeMap<ChunkId, Vec<NodeId>>) -> Ending {
    let mut ending = Ending::default();
    for chunk in chunks {
        let members = members(map, chunk);
        match lacking.get(&chunk) {
            // A placement that says nobody is no reason to delete the last copy.
            None if members.is_empty() => ending.unclear += 1,
            None if members.contains(&me) => ending.forget.push(chunk),
            None => ending.delete.push(chunk),
            Some(lacking) => ending.redirect.extend(lacking.iter().map(|node| (*node, chunk))),
        }
    }
    ending
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use annulus_common::ids::NodeId;

    use super::super::tests::{chunk_of, map_of};
    use super::{Ending, Sorted, end, questions, sort};

    const N: fn(u64) -> NodeId = NodeId;

    #[test]
    fn a_hint_is_owed_only_while_its_node_belongs_to_the_chunk() {
        let map = map_of(3, &[&[1, 2], &[2, 3]]);
        let (first, second) = (chunk_of(&map, 0), chunk_of(&map, 1));
        assert_eq!(sort(&map, N(1), vec![first, second]), Sorted { owed: vec![first], stray: vec![second] });
        // A node that the placement still names but that left the cluster.
        let map = map_of(2, &[&[1, 2], &[2, 3]]);
        assert_eq!(sort(&map, N(3), vec![second]), Sorted { owed: vec![], stray: vec![second] });
    }

    #[test]
    fn everyone_who_belongs_is_asked_but_who_has_said_it() {
        let map = map_of(4, &[&[1, 2, 3], &[2, 3, 4]]);
        let (first, second) = (chunk_of(&map, 0), chunk_of(&map, 1));
        let asked = questions(&map, N(4), N(2), &[first, second]);
        assert_eq!(asked, BTreeMap::from([(N(1), vec![first]), (N(3), vec![first, second])]));
    }

    #[test]
    fn a_copy_is_given_up_only_when_it_is_everywhere_it_belongs() {
        let map = map_of(4, &[&[1, 2, 3], &[2, 3, 4], &[]]);
        let [first, second, nowhere] = [0, 1, 2].map(|partition| chunk_of(&map, partition));
        let lacking = BTreeMap::from([(second, vec![N(2), N(3)])]);
        let ending = end(&map, N(4), vec![first, second, nowhere], &lacking);
        let redirect = vec![(N(2), second), (N(3), second)];
        assert_eq!(ending, Ending { forget: vec![], delete: vec![first], redirect, unclear: 1 });
        let ending = end(&map, N(1), vec![first], &BTreeMap::new());
        assert_eq!(ending, Ending { forget: vec![first], ..Ending::default() });
    }
}
