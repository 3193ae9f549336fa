//! Anti-entropy: what this node holds of its partitions is compared with what every other holder has, and what is missing
//! here is fetched. Nothing is pushed: whoever lacks something finds it out by itself.
//!
//! One question per node brings the digests of all partitions in common; equal ones are done. Where they differ, the part of
//! the ring is cut until it is small enough to list, and what the list has and this node has not is fetched: of all partitions
//! first the chunks that one node alone has, then the rest, partitions with the fewest good copies first. A turn is repeated from
//! its beginning after a minute, so that the order stays right.
//!
//! What is deleted does not come back: only what its owner still refers to is fetched. An exception is a partition that
//! moves, where what is being uploaded right now is taken along too, and an owner that does not answer: then a chunk too many
//! is better than one too few, and the collection of orphans removes it again.

mod survey;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::Digest;
use annulus_common::clock::SharedClock;
use annulus_common::ids::{ChunkId, Epoch, NodeId, PartitionId};
use annulus_common::map::ClusterMap;
use annulus_common::map::watch::MapWatch;
use annulus_common::protocol::{CHUNKS_PER_REQUEST_MAX, ListedChunk};
use annulus_common::ring::positions_of;
use annulus_common::task::Fatal;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;

use self::survey::{Difference, Survey, shared_with};
use super::arrivals;
use super::fetch::{CHUNKS_AT_ONCE, FetchError, Fetcher};
use super::owners::{OwnedPart, Owners};
use super::peers::{PeerError, Peers};
use super::redundancy::{Lacking, Redundancy, partitions_of};
use super::throttle::Urgency;
use super::{Next, RepairSeams, Tools, Worker, end_if_corrupt};
use crate::chunk::{ChunkError, ChunkStore};
use crate::kv::{Kv, KvError};

/// How often it is looked whether a comparison is due: a change of the map makes it so at once.
const LOOK: Duration = Duration::from_millis(500);

/// The pause after a turn that left something open.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// A comparison takes no more than this part of the time, however large the index is.
const TIME_SHARE: u32 = 100;
/// The same while something is open.
const TIME_SHARE_OPEN: u32 = 10;

/// How long a turn fetches last copies, and then what else is lacking, before it begins anew.
const TURN_MAX: Duration = Duration::from_secs(60);

/// Parts that a stretch of the ring is cut into where two nodes differ: four halvings in one question.
const CUTS: u64 = 16;

/// The loop and what it remembers.
pub(super) struct Comparison {
    me: NodeId,
    kv: Arc<dyn Kv>,
    chunks: Arc<ChunkStore>,
    map: MapWatch,
    clock: SharedClock,
    peers: Arc<Peers>,
    owners: Arc<Owners>,
    fetcher: Arc<Fetcher>,
    redundancy: Arc<Redundancy>,
    fatal: Fatal,
    interval: Duration,
    /// Whether it is known what had arrived before a restart.
    is_restored: bool,
    /// The epoch of the last turn, and when the next one is due.
    last: Option<Epoch>,
    due_at: Duration,
}

/// What of all that is lacking is fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    /// What the next failure would lose.
    LastCopies,
    Everything,
}

/// What is fetched in a part of a turn.
#[derive(Clone, Copy)]
struct Errand {
    wanted: Wanted,
    /// When it ends, however much is left: others may have become more endangered meanwhile.
    until: Duration,
}

/// Why a partition is not level with another node now.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    #[error("the holders of the partition changed")]
    MapChanged,
    #[error("moves are paused")]
    Paused,
    #[error("the turn is over")]
    TurnOver,
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Chunks(#[from] ChunkError),
}

impl Worker for Comparison {
    async fn turn(&mut self) -> Next {
        if let Err(error) = self.restore().await {
            tracing::warn!(%error, "it is not known what has arrived of moves");
            end_if_corrupt(&self.fatal, &error);
            return Next::After(RETRY_PAUSE);
        }
        let map = self.map.latest();
        self.redundancy.follow(&map);
        let is_due = self.last != Some(map.epoch) || self.clock.monotonic() >= self.due_at;
        if !is_due || !self.map.has_arrived() {
            return Next::After(LOOK);
        }
        self.last = Some(map.epoch);
        let moving = !map.moves.partitions.is_empty();
        let (took, open) = match self.survey(map).await {
            Ok(survey) => {
                let open = self.level_all(&survey).await || survey.incomplete || moving;
                self.keep_arrivals(&survey.map).await;
                (survey.took, open)
            }
            Err(error) => {
                tracing::warn!(%error, "what is here cannot be compared");
                if let ChunkError::Failed(failed) = &error {
                    end_if_corrupt(&self.fatal, failed);
                }
                (Duration::ZERO, true)
            }
        };
        let pause = if open {
            RETRY_PAUSE.min(self.interval).max(took * TIME_SHARE_OPEN)
        } else {
            self.interval.max(took * TIME_SHARE)
        };
        self.redundancy.compares_every(self.interval.max(took * TIME_SHARE));
        self.due_at = self.clock.monotonic() + pause;
        Next::After(LOOK.min(pause))
    }
}

impl Comparison {
    pub(super) fn new(seams: &RepairSeams, tools: &Tools) -> Self {
        Self {
            me: seams.node,
            kv: Arc::clone(&seams.kv),
            chunks: Arc::clone(&seams.chunks),
            map: seams.map.clone(),
            clock: Arc::clone(&seams.clock),
            peers: Arc::clone(&tools.peers),
            owners: Arc::clone(&tools.owners),
            fetcher: Arc::clone(&tools.fetcher),
            redundancy: Arc::clone(&seams.redundancy),
            fatal: Arc::clone(&seams.fatal),
            interval: seams.settings.compare_interval,
            is_restored: false,
            last: None,
            due_at: Duration::ZERO,
        }
    }

    async fn restore(&mut self) -> Result<(), KvError> {
        if !self.is_restored {
            self.redundancy.restore(arrivals::load(&self.kv).await?);
            self.is_restored = true;
        }
        Ok(())
    }

    async fn keep_arrivals(&self, map: &ClusterMap) {
        if let Some(arrivals) = self.redundancy.arrived(map)
            && let Err(error) = arrivals::save(&self.kv, &arrivals).await
        {
            tracing::warn!(%error, "what has arrived of moves is not remembered");
        }
    }

    /// Adds up the partitions of this node, and asks everyone who shares some of them.
    async fn survey(&self, map: Arc<ClusterMap>) -> Result<Survey, ChunkError> {
        let began = self.clock.monotonic();
        let shared = shared_with(&map, self.me);
        let asked = shared.iter().map(|(node, partitions)| self.ask(&map, *node, partitions));
        let answers = join_all(asked).await;
        let adding_began = self.clock.monotonic();
        let mut mine = BTreeMap::new();
        for partition in partitions_of(&map, self.me) {
            mine.insert(partition, self.chunks.digest(positions_of(partition, map.partitions())).await?);
        }
        let took = self.clock.monotonic().saturating_sub(adding_began);
        let mut theirs: BTreeMap<PartitionId, Vec<(NodeId, Digest)>> = BTreeMap::new();
        let mut incomplete = false;
        for ((node, partitions), answer) in shared.into_iter().zip(answers) {
            match answer {
                Ok(digests) => {
                    for (partition, digest) in partitions.into_iter().zip(digests) {
                        theirs.entry(partition).or_default().push((node, digest));
                    }
                }
                Err(error) => {
                    tracing::debug!(node = node.0, %error, "not compared now");
                    incomplete = true;
                }
            }
        }
        Ok(Survey { map, began, took, mine, theirs, incomplete })
    }

    async fn ask(&self, map: &ClusterMap, node: NodeId, partitions: &[PartitionId]) -> Result<Vec<Digest>, PeerError> {
        let parts: Vec<_> = partitions.iter().map(|at| positions_of(*at, map.partitions())).collect();
        self.peers.digests(map, node, &parts).await
    }

    /// Writes down what is equal and fetches where something is missing. Tells whether something is left open.
    async fn level_all(&self, survey: &Survey) -> bool {
        let Survey { map, began, .. } = survey;
        let mut differences = Vec::new();
        for (partition, other, mine, theirs) in survey.pairs() {
            if mine == theirs {
                self.redundancy.found(map, partition, other, *began, Lacking::NOTHING);
            } else {
                let difference = Difference { partition, other, mine, theirs };
                self.redundancy.suspect(map, partition, other, *began, difference.estimate());
                differences.push(difference);
            }
        }
        survey.sort_by_danger(&mut differences);
        let mut failed = Vec::new();
        self.rescue(survey, &differences, &mut failed).await;
        let rest = self.errand(Wanted::Everything);
        let mut open = false;
        for difference in differences {
            let Difference { partition, other, .. } = difference;
            let levelled = self.level_with(map, &difference, rest, &mut failed).await;
            let lacking = levelled.unwrap_or(difference.estimate());
            self.redundancy.found(map, partition, other, *began, lacking);
            open |= lacking != Lacking::NOTHING;
        }
        open
    }

    /// Fetches the last copies of all partitions, before anything that can wait is fetched of any.
    async fn rescue(&self, survey: &Survey, differences: &[Difference], failed: &mut Vec<NodeId>) {
        let errand = self.errand(Wanted::LastCopies);
        for difference in differences.iter().filter(|difference| survey.may_have_last_copies(difference)) {
            self.level_with(&survey.map, difference, errand, failed).await;
        }
    }

    fn errand(&self, wanted: Wanted) -> Errand {
        Errand { wanted, until: self.clock.monotonic() + TURN_MAX }
    }

    /// Fetches what is wanted from a node, unless it has failed in this turn. Returns what is still lacking, if it got that far.
    async fn level_with(
        &self,
        map: &ClusterMap,
        difference: &Difference,
        errand: Errand,
        failed: &mut Vec<NodeId>,
    ) -> Option<Lacking> {
        let Difference { partition, other, .. } = *difference;
        if failed.contains(&other) {
            return None;
        }
        match self.level(map, partition, other, errand).await {
            Ok(lacking) => Some(lacking),
            Err(Interruption::TurnOver) => None,
            Err(error) => {
                tracing::info!(partition = partition.0, node = other.0, %error, "missing chunks are not fetched now");
                if matches!(error, Interruption::Peer(_)) {
                    failed.push(other);
                }
                None
            }
        }
    }

    /// Fetches what `other` has of a partition and this node has not. Returns what is still lacking.
    async fn level(
        &self,
        map: &ClusterMap,
        partition: PartitionId,
        other: NodeId,
        errand: Errand,
    ) -> Result<Lacking, Interruption> {
        let mut lacking = Lacking::NOTHING;
        let mut stretches = vec![positions_of(partition, map.partitions())];
        while let Some(stretch) = stretches.pop() {
            self.check_time(errand)?;
            let parts = cut(&stretch);
            let digests = self.peers.digests(map, other, &parts).await?;
            for (part, theirs) in parts.into_iter().zip(digests) {
                let mine = self.chunks.digest(part.clone()).await?;
                if theirs == mine || theirs.chunks == 0 {
                    continue;
                }
                let worth_cutting = mine.chunks > 0 && theirs.chunks > CHUNKS_PER_REQUEST_MAX as u64;
                if worth_cutting && part.start() < part.end() {
                    stretches.push(part);
                } else {
                    lacking.merge(self.level_listed(map, partition, other, &part, errand).await?);
                }
            }
        }
        Ok(lacking)
    }

    async fn level_listed(
        &self,
        map: &ClusterMap,
        partition: PartitionId,
        other: NodeId,
        part: &RangeInclusive<u64>,
        errand: Errand,
    ) -> Result<Lacking, Interruption> {
        let mut lacking = Lacking::NOTHING;
        let mut after = None;
        loop {
            let latest = self.map.latest();
            if latest.epoch != map.epoch && !latest.holders(partition).eq(map.holders(partition)) {
                return Err(Interruption::MapChanged);
            }
            if latest.moves.paused && latest.move_of(partition).is_some() {
                return Err(Interruption::Paused);
            }
            let page = self.peers.list_chunks(map, other, part, after).await?;
            let Some(last) = page.last() else { return Ok(lacking) };
            after = Some(last.id);
            let missing = self.missing(&page, &mut lacking).await?;
            let referenced = self.referenced(map, partition, missing).await;
            let mut urgent = self.by_urgency(map, partition, other, referenced).await;
            if errand.wanted == Wanted::LastCopies {
                urgent.retain(|(urgency, _)| *urgency == Urgency::LastCopy);
            }
            lacking.merge(self.fetch_all(map, other, urgent, errand).await?);
        }
    }

    /// Which of these chunks are not here. A chunk that is here as something else is lacking, and nothing can be done.
    async fn missing(&self, page: &[ListedChunk], lacking: &mut Lacking) -> Result<Vec<ListedChunk>, ChunkError> {
        let mut missing = Vec::new();
        for &listed in page {
            match self.chunks.stat(listed.id).await {
                Ok(None) | Err(ChunkError::Corrupt { .. }) => missing.push(listed),
                Ok(Some(info)) if info.listed() == listed => {}
                Ok(Some(_)) => {
                    tracing::error!(chunk = ?listed.id, "another node has another chunk under this id");
                    lacking.add(listed.length);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(missing)
    }

    /// Leaves out what nothing refers to any more.
    async fn referenced(
        &self,
        map: &ClusterMap,
        partition: PartitionId,
        missing: Vec<ListedChunk>,
    ) -> Vec<ListedChunk> {
        let moving = map.move_of(partition).is_some();
        if missing.is_empty() || moving {
            return missing;
        }
        let parts = missing.iter().map(|chunk| OwnedPart { owner: chunk.owner, part: chunk.id.part });
        let referenced = self.owners.references(map, parts).await;
        missing.into_iter().filter(|chunk| referenced.get(&chunk.id.part) != Some(&false)).collect()
    }

    /// Puts those first of which `other` has the only copy, although somebody else should have one. Who does not answer has
    /// none, as far as anybody can tell.
    async fn by_urgency(
        &self,
        map: &ClusterMap,
        partition: PartitionId,
        other: NodeId,
        chunks: Vec<ListedChunk>,
    ) -> Vec<(Urgency, ListedChunk)> {
        let should_have: Vec<NodeId> = map.complete_holders(partition).filter(|node| *node != other).collect();
        if should_have.is_empty() || chunks.is_empty() {
            return chunks.into_iter().map(|chunk| (Urgency::Usual, chunk)).collect();
        }
        let ids: Vec<ChunkId> = chunks.iter().map(|chunk| chunk.id).collect();
        let asked = should_have.into_iter().filter(|node| *node != self.me);
        let answers = join_all(asked.map(|node| self.peers.has_chunks(map, node, &ids))).await;
        by_copies(chunks, &answers.into_iter().flatten().collect::<Vec<_>>())
    }

    /// Fetches chunks, a few at a time. Returns those that nobody could give.
    async fn fetch_all(
        &self,
        map: &ClusterMap,
        other: NodeId,
        chunks: Vec<(Urgency, ListedChunk)>,
        errand: Errand,
    ) -> Result<Lacking, Interruption> {
        let asked_for = chunks.len() as u64;
        let fetches = chunks.into_iter().map(|(urgency, chunk)| async move {
            (chunk, self.fetcher.bring(map, chunk.id, chunk.length, Some(other), urgency).await)
        });
        let mut fetches = stream::iter(fetches).buffer_unordered(CHUNKS_AT_ONCE);
        let mut lacking = Lacking::NOTHING;
        while let Some((chunk, outcome)) = fetches.next().await {
            self.check_time(errand)?;
            match outcome {
                Ok(()) => {}
                Err(FetchError::Silent { node, error }) if node == other => return Err(error.into()),
                Err(FetchError::Chunks(error @ (ChunkError::Full | ChunkError::Failed(_)))) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(chunk = ?chunk.id, %error, "a missing chunk is not fetched");
                    lacking.add(chunk.length);
                }
            }
        }
        if asked_for > 0 {
            tracing::info!(node = other.0, chunks = asked_for - lacking.chunks, "missing chunks fetched");
        }
        Ok(lacking)
    }

    fn check_time(&self, errand: Errand) -> Result<(), Interruption> {
        if self.clock.monotonic() > errand.until { Err(Interruption::TurnOver) } else { Ok(()) }
    }
}

/// The chunks that none of these others has, as the last copies that they are, before those that one has.
fn by_copies(chunks: Vec<ListedChunk>, others: &[Vec<bool>]) -> Vec<(Urgency, ListedChunk)> {
    let urgency = |place: usize| match others.iter().any(|has| has[place]) {
        true => Urgency::Usual,
        false => Urgency::LastCopy,
    };
    let judged = chunks.into_iter().enumerate().map(|(place, chunk)| (urgency(place), chunk));
    let (mut last, rest): (Vec<_>, Vec<_>) = judged.partition(|(urgency, _)| *urgency == Urgency::LastCopy);
    last.extend(rest);
    last
}

/// Cuts a stretch of the ring into parts of the same size, without gaps.
fn cut(stretch: &RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
    let (first, last) = (*stretch.start(), *stretch.end());
    let size = (last - first) / CUTS + 1;
    let mut parts = Vec::with_capacity(CUTS as usize);
    let mut begin = first;
    loop {
        let end = begin.saturating_add(size - 1).min(last);
        parts.push(begin..=end);
        match end.checked_add(1).filter(|_| end < last) {
            Some(next) => begin = next,
            None => return parts,
        }
    }
}

#[cfg(test)]
mod tests;
