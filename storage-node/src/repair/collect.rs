//! The collector of known garbage: parts that an object or upload referred to once and that nothing refers to any more.
//!
//! Each partition's leader goes through the garbage that its own group remembers, oldest first. A part's chunks are removed from
//! every node that may have them, and the entry is forgotten only when every node of each chunk's replica set has confirmed in
//! one go: what is forgotten too early would stay on a disk for ever. A node that is down keeps the entries of its
//! chunks waiting and no others.
//!
//! Nothing that is referred to is removed. An entry is made in the same step in which the reference goes, and the reference is
//! looked for again, at the leader, in the same moment's state, before anything is removed.
//!
//! Not here: chunks without an entry (`orphans`). Such is also what remains of a chunk when a stand-in that has it is down, or
//! a copy of it is on its way to somebody, while it is collected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::{ChunkId, GroupId, NodeId, PartId, PartitionId, RequestId};
use annulus_common::map::ClusterMap;
use annulus_common::map::watch::MapWatch;
use annulus_common::object::CHUNK_BYTES;
use annulus_common::placement::{STAND_INS_MAX, stand_ins};
use annulus_common::protocol::CHUNKS_PER_REQUEST_MAX;
use annulus_common::protocol::metadata::{Command, Garbage, MetaReply, Mutation, Query, QueryReply};
use futures::future::join_all;

use super::peers::Peers;
use super::throttle::Pacer;
use super::{Next, RepairSeams, Tools, Worker, on_disk};
use crate::chunk::ChunkStore;
use crate::kv::{Kv, KvError, KvRead};
use crate::metadata;
use crate::raft::{RaftError, RaftNode};

/// Entries of one page.
const PAGE_ENTRIES: u32 = 256;

/// Pages of one partition in one turn, so that a partition with much garbage does not keep the others waiting.
const PAGES_PER_TURN_MAX: usize = 16;

/// Chunks that are removed together, unless a single part has more: a few requests to each node.
const BATCH_CHUNKS_MAX: u64 = 2 * CHUNKS_PER_REQUEST_MAX as u64;

/// Entries of one `Collected`: some 40 bytes each, so far below what a command may have.
const COLLECTED_PER_COMMAND_MAX: usize = 1_000;

/// A partition whose garbage all waits is looked at this many times less often.
const STALLED_PAUSES: u32 = 6;

/// Entries per partition that are remembered to wait for a node that is down. What is not remembered is asked for again in
/// every turn, which costs time and nothing else.
const WAITING_MAX: usize = 16_384;

/// The loop and what it remembers.
pub(super) struct Collection {
    me: NodeId,
    kv: Arc<dyn Kv>,
    chunks: Arc<ChunkStore>,
    raft: RaftNode,
    map: MapWatch,
    peers: Arc<Peers>,
    clock: SharedClock,
    grace: Duration,
    pause: Duration,
    pacer: Pacer,
    partitions: BTreeMap<PartitionId, Progress>,
}

/// How far a partition is.
#[derive(Debug, Default)]
struct Progress {
    /// Parts whose chunks were removed where that was possible.
    waiting: BTreeSet<PartId>,
    /// Where the next turn goes on, if this one did not come to the end: what waits must not hide what follows.
    place: Option<(u64, PartId)>,
    /// Until when there is nothing but what waits.
    stalled_until: Duration,
}

/// Why a partition's garbage is left for the next turn.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    #[error(transparent)]
    Raft(#[from] RaftError),
    #[error(transparent)]
    Storage(#[from] KvError),
    #[error("the copy of the cluster map is too old")]
    NoMap,
    #[error("the state was replaced")]
    Replaced,
    #[error("the answer is not one to the question")]
    Unexpected,
}

/// Garbage as a leader knows it.
struct Page {
    entries: Vec<Garbage>,
    /// Those of `entries` that are referred to all the same.
    referenced: BTreeSet<PartId>,
}

impl Worker for Collection {
    /// Goes once through the partitions that this node leads.
    async fn turn(&mut self) -> Next {
        let led = self.raft.led_partitions();
        self.partitions.retain(|partition, _| led.contains(partition));
        let mut reachable = None;
        let mut more = false;
        for partition in led {
            match self.collect(partition, &mut reachable).await {
                Ok(more_here) => more |= more_here,
                Err(error) => tracing::debug!(partition = partition.0, %error, "garbage is not collected now"),
            }
        }
        if more { Next::AtOnce } else { Next::After(self.pause) }
    }
}

impl Collection {
    pub(super) fn new(seams: &RepairSeams, tools: &Tools) -> Self {
        Self {
            me: seams.node,
            kv: Arc::clone(&seams.kv),
            chunks: Arc::clone(&seams.chunks),
            raft: seams.raft.clone(),
            map: seams.map.clone(),
            peers: Arc::clone(&tools.peers),
            clock: Arc::clone(&seams.clock),
            grace: seams.settings.collect_grace,
            pause: seams.settings.collect_pause,
            pacer: Pacer::new(seams.settings.collect_chunks_per_second),
            partitions: BTreeMap::new(),
        }
    }

    /// Collects a partition's garbage, up to a bound. Tells whether more is left that can be collected now.
    async fn collect(
        &mut self,
        partition: PartitionId,
        reachable: &mut Option<BTreeSet<NodeId>>,
    ) -> Result<bool, Interruption> {
        let progress = self.partitions.entry(partition).or_default();
        if self.clock.monotonic() < progress.stalled_until {
            return Ok(false);
        }
        let mut after = progress.place.take();
        let before_ms = self.clock.now_ms().saturating_sub(self.grace.as_millis() as u64);
        if !self.has_garbage(partition, before_ms).await? {
            self.partitions.remove(&partition);
            return Ok(false);
        }
        let mut collected = 0;
        for _ in 0..PAGES_PER_TURN_MAX {
            let page = self.page(partition, before_ms, after).await?;
            after = page.entries.last().map(|last| (last.since_ms, last.part));
            if after.is_none() {
                break;
            }
            collected += self.collect_page(partition, page, reachable).await?;
        }
        let progress = self.partitions.entry(partition).or_default();
        progress.place = after;
        if collected == 0 && after.is_none() {
            progress.stalled_until = self.clock.monotonic() + STALLED_PAUSES * self.pause;
        }
        Ok(collected > 0)
    }

    async fn collect_page(
        &mut self,
        partition: PartitionId,
        page: Page,
        reachable: &mut Option<BTreeSet<NodeId>>,
    ) -> Result<usize, Interruption> {
        let map = self.map.current().ok_or(Interruption::NoMap)?;
        let reachable = match reachable {
            Some(reachable) => reachable,
            None => reachable.insert(self.reachable(&map).await),
        };
        let mut collected = 0;
        for batch in batches(&page) {
            collected += self.collect_batch(partition, &map, reachable, batch).await?;
        }
        self.forget_referenced(partition, &page).await?;
        Ok(collected)
    }

    /// A look at what is applied here, which costs no round to the others.
    async fn has_garbage(&self, partition: PartitionId, before_ms: u64) -> Result<bool, Interruption> {
        let kv = Arc::clone(&self.kv);
        let query = Query::Garbage { before_ms, after: None, limit: 1 };
        let reply = on_disk("looking for garbage", move || metadata::answer(&*kv, partition, &query)).await?;
        Ok(reply != QueryReply::Garbage(Vec::new()))
    }

    /// The next garbage and whether it is referred to, linearizably and of one moment.
    async fn page(
        &self,
        partition: PartitionId,
        before_ms: u64,
        after: Option<(u64, PartId)>,
    ) -> Result<Page, Interruption> {
        let group = GroupId::from(partition);
        let generation = self.raft.generation(group).ok_or(Interruption::Replaced)?;
        self.raft.read_index(group).await?;
        let kv = Arc::clone(&self.kv);
        let read = move || read_page(&*kv.snapshot(), partition, before_ms, after);
        let page = on_disk("reading garbage", read).await?.ok_or(Interruption::Unexpected)?;
        if self.raft.generation(group) != Some(generation) {
            return Err(Interruption::Replaced);
        }
        Ok(page)
    }

    async fn reachable(&self, map: &ClusterMap) -> BTreeSet<NodeId> {
        let others = map.nodes.keys().copied().filter(|&node| node != self.me);
        let probes = others.map(|node| async move { (node, self.peers.is_reachable(map, node).await) });
        let answers = join_all(probes).await.into_iter();
        answers.filter_map(|(node, reachable)| reachable.then_some(node)).chain([self.me]).collect()
    }

    /// Removes the chunks of some parts everywhere and forgets the parts that are gone. Returns how many.
    async fn collect_batch(
        &mut self,
        partition: PartitionId,
        map: &ClusterMap,
        reachable: &mut BTreeSet<NodeId>,
        batch: Vec<Garbage>,
    ) -> Result<usize, Interruption> {
        let progress = self.partitions.entry(partition).or_default();
        let plan = plan(map, reachable, &progress.waiting, batch);
        if plan.parts.is_empty() {
            return Ok(0);
        }
        let wait = self.pacer.take(self.clock.monotonic(), plan.chunks);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let deletions = plan.asks.into_iter().map(|(node, chunks)| self.delete(map, node, chunks));
        let outcomes: BTreeMap<NodeId, bool> = join_all(deletions).await.into_iter().collect();
        // Whoever fails is not asked again in this turn, however many of its chunks wait.
        reachable.retain(|node| outcomes.get(node) != Some(&false));
        let confirmed = |node: &NodeId| outcomes.get(node) == Some(&true);
        let (done, kept): (Vec<_>, Vec<_>) = plan.parts.into_iter().partition(|part| part.needs.iter().all(confirmed));
        let waiting = &mut self.partitions.entry(partition).or_default().waiting;
        for part in &done {
            waiting.remove(&part.garbage.part);
        }
        let room = WAITING_MAX.saturating_sub(waiting.len());
        waiting.extend(kept.iter().take(room).map(|part| part.garbage.part));
        let collected = done.len();
        self.forget(partition, done.into_iter().map(|part| part.garbage).collect()).await?;
        Ok(collected)
    }

    /// Removes chunks from one node, and tells whether it has confirmed them all.
    async fn delete(&self, map: &ClusterMap, node: NodeId, chunks: Vec<ChunkId>) -> (NodeId, bool) {
        for request in chunks.chunks(CHUNKS_PER_REQUEST_MAX) {
            let failure = if node == self.me {
                self.chunks.delete(request.to_vec()).await.err().map(|error| error.to_string())
            } else {
                self.peers.delete_chunks(map, node, request.to_vec()).await.err().map(|error| error.to_string())
            };
            if let Some(error) = failure {
                tracing::debug!(node = node.0, error, "chunks not removed");
                return (node, false);
            }
        }
        (node, true)
    }

    /// A part that is referred to is no garbage: when its last reference goes, it becomes garbage again.
    async fn forget_referenced(&self, partition: PartitionId, page: &Page) -> Result<(), Interruption> {
        let is_referenced = |entry: &&Garbage| page.referenced.contains(&entry.part);
        let referenced: Vec<Garbage> = page.entries.iter().filter(is_referenced).copied().collect();
        for entry in &referenced {
            tracing::warn!(part = %entry.part, "a part counted as garbage is referred to, its chunks stay");
        }
        self.forget(partition, referenced).await
    }

    async fn forget(&self, partition: PartitionId, entries: Vec<Garbage>) -> Result<(), Interruption> {
        for entries in entries.chunks(COLLECTED_PER_COMMAND_MAX) {
            let time_ms = self.clock.now_ms();
            let command = Command::Collected(entries.to_vec());
            let request = RequestId::generate(time_ms);
            let mutation = Mutation { request, since: None, time_ms, command, notice: None };
            let reply = self.raft.propose(partition.into(), metadata::encode_command(&mutation)).await?;
            if !metadata::decode_reply(&reply).is_ok_and(|applied| applied.reply == MetaReply::Done) {
                return Err(Interruption::Unexpected);
            }
            tracing::debug!(partition = partition.0, parts = entries.len(), "garbage collected");
        }
        Ok(())
    }
}

fn read_page(
    kv: &dyn KvRead,
    partition: PartitionId,
    before_ms: u64,
    after: Option<(u64, PartId)>,
) -> Result<Option<Page>, KvError> {
    let query = Query::Garbage { before_ms, after, limit: PAGE_ENTRIES };
    let QueryReply::Garbage(entries) = metadata::answer(kv, partition, &query)? else { return Ok(None) };
    let parts: Vec<PartId> = entries.iter().map(|entry| entry.part).collect();
    let query = Query::References(parts.clone());
    let QueryReply::References(answers) = metadata::answer(kv, partition, &query)? else { return Ok(None) };
    if answers.len() != parts.len() {
        return Ok(None);
    }
    let referenced = parts.into_iter().zip(answers).filter_map(|(part, referenced)| referenced.then_some(part));
    Ok(Some(Page { entries, referenced: referenced.collect() }))
}

/// The unreferenced entries of a page, as many together as are removed together.
fn batches(page: &Page) -> Vec<Vec<Garbage>> {
    let mut batches: Vec<Vec<Garbage>> = Vec::new();
    let mut chunks = 0;
    for &entry in page.entries.iter().filter(|entry| !page.referenced.contains(&entry.part)) {
        let of_entry = u64::from(chunk_count(&entry));
        match batches.last_mut() {
            Some(batch) if chunks + of_entry <= BATCH_CHUNKS_MAX => {
                batch.push(entry);
                chunks += of_entry;
            }
            _ => {
                batches.push(vec![entry]);
                chunks = of_entry;
            }
        }
    }
    batches
}

fn chunk_count(garbage: &Garbage) -> u32 {
    u32::try_from(garbage.length.div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX)
}

/// What to remove where.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    asks: BTreeMap<NodeId, Vec<ChunkId>>,
    parts: Vec<PlannedPart>,
    /// Chunks in all.
    chunks: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct PlannedPart {
    garbage: Garbage,
    /// Who must confirm before the entry is forgotten.
    needs: BTreeSet<NodeId>,
}

/// Asks every reachable node that may have a chunk of these parts. A part for which that was done before waits until everyone
/// can confirm.
fn plan(map: &ClusterMap, reachable: &BTreeSet<NodeId>, waiting: &BTreeSet<PartId>, batch: Vec<Garbage>) -> Plan {
    let mut plan = Plan::default();
    for garbage in batch {
        let chunks = || (0..chunk_count(&garbage)).map(|index| ChunkId { part: garbage.part, index });
        let partitions: BTreeSet<PartitionId> = chunks().map(|chunk| map.partition_of_chunk(chunk)).collect();
        let needs: BTreeSet<NodeId> = partitions.iter().flat_map(|at| map.replicas(*at)).copied().collect();
        if waiting.contains(&garbage.part) && !needs.is_subset(reachable) {
            continue;
        }
        for chunk in chunks() {
            let may_have_it = may_have(map, map.partition_of_chunk(chunk));
            for node in may_have_it.into_iter().filter(|node| reachable.contains(node)) {
                plan.asks.entry(node).or_default().push(chunk);
            }
        }
        plan.chunks += u64::from(chunk_count(&garbage));
        plan.parts.push(PlannedPart { garbage, needs });
    }
    plan
}

/// The nodes that may have a partition's chunks: its own, and those that stand in for them. In a small cluster that is everybody.
fn may_have(map: &ClusterMap, partition: PartitionId) -> Vec<NodeId> {
    if map.nodes.len() <= 2 * usize::from(map.replication_factor) {
        return map.nodes.keys().copied().collect();
    }
    let own = map.holders(partition);
    own.chain(stand_ins(&map.placement, partition, &[]).take(STAND_INS_MAX)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use annulus_common::ids::{ChunkId, NodeId, PartId};
    use annulus_common::object::CHUNK_BYTES;
    use annulus_common::protocol::metadata::Garbage;

    use super::super::tests::{chunk_of, map_of};
    use super::{BATCH_CHUNKS_MAX, Page, batches, plan};

    fn garbage(part: u8, chunks: u64) -> Garbage {
        Garbage { since_ms: 1, part: PartId([part; 16]), length: chunks * CHUNK_BYTES }
    }

    fn nodes(numbers: &[u64]) -> BTreeSet<NodeId> {
        numbers.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn what_is_referred_to_is_in_no_batch() {
        let entries = vec![garbage(1, 1), garbage(2, 1), garbage(3, 1)];
        let page = Page { entries: entries.clone(), referenced: BTreeSet::from([PartId([2; 16])]) };
        assert_eq!(batches(&page), [[entries[0], entries[2]]]);
    }

    #[test]
    fn batches_are_bounded_and_a_large_part_goes_alone() {
        let large = garbage(2, BATCH_CHUNKS_MAX + 5);
        let entries = vec![garbage(1, 7), large, garbage(3, BATCH_CHUNKS_MAX - 1), garbage(4, 1), garbage(5, 1)];
        let page = Page { entries: entries.clone(), referenced: BTreeSet::new() };
        let expected = [vec![entries[0]], vec![large], vec![entries[2], entries[3]], vec![entries[4]]];
        assert_eq!(batches(&page), expected);
    }

    #[test]
    fn every_reachable_node_that_may_have_a_chunk_is_asked_and_its_holders_must_confirm() {
        // Seven nodes with two copies: too many to ask all.
        let map = map_of(7, &[&[1, 2], &[3, 4], &[5, 6]]);
        let part = Garbage { part: chunk_of(&map, 1).part, ..garbage(0, 1) };
        let chunk = ChunkId { part: part.part, index: 0 };
        assert_eq!(map.partition_of_chunk(chunk).0, 1);
        let plan = plan(&map, &nodes(&[1, 3, 4, 5, 6, 7]), &BTreeSet::new(), vec![part]);
        assert_eq!(plan.asks, [3, 4, 5, 6, 1].map(|node| (NodeId(node), vec![chunk])).into());
        assert_eq!((plan.chunks, &plan.parts[0].needs), (1, &nodes(&[3, 4])));
    }

    #[test]
    fn a_node_that_is_down_keeps_its_own_garbage_waiting_and_no_other() {
        let map = map_of(4, &[&[1, 2], &[3, 4]]);
        let [of_first, of_second] = [0, 1].map(|at| Garbage { part: chunk_of(&map, at).part, ..garbage(0, 1) });
        let reachable = nodes(&[1, 2, 3]);
        let both = vec![of_first, of_second];
        let first_time = plan(&map, &reachable, &BTreeSet::new(), both.clone());
        assert_eq!(first_time.parts.len(), 2);
        let waiting = BTreeSet::from([of_second.part]);
        let later = plan(&map, &reachable, &waiting, both.clone());
        assert_eq!(later.parts.iter().map(|part| part.garbage).collect::<Vec<_>>(), [of_first]);
        let back = plan(&map, &nodes(&[1, 2, 3, 4]), &waiting, both);
        assert_eq!(back.parts.len(), 2);
        assert_eq!(back.asks.keys().copied().collect::<BTreeSet<_>>(), nodes(&[1, 2, 3, 4]));
    }

    #[test]
    fn a_part_without_chunks_needs_nobody() {
        let map = map_of(1, &[&[1]]);
        let plan = plan(&map, &nodes(&[1]), &BTreeSet::new(), vec![garbage(1, 0)]);
        assert_eq!((plan.asks, plan.parts[0].needs.len()), (BTreeMap::new(), 0));
    }
}
