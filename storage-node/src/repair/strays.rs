//! Strays: chunks of partitions that this node is not in. It stood in for a node that was down, or it held the partition
//! before the map changed, or a gateway wrote by an old map. Each is copied to the members of its partition that lack it,
//! confirmed, and only then dropped here.
//!
//! A node that is leaving a partition drops nothing of it before the map says that the move is over: until then the new
//! members fetch from it. What nothing refers to is not passed on; it is the collection of orphans that removes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::CHUNK_BYTES;
use annulus_common::clock::SharedClock;
use annulus_common::ids::{ChunkId, NodeId, PartitionId};
use annulus_common::map::watch::MapWatch;
use annulus_common::map::{ClusterMap, NodeState};
use annulus_common::ring::positions_of;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;

use super::fetch::CHUNKS_AT_ONCE;
use super::owners::{OwnedPart, Owners};
use super::peers::{Copy, PeerError, Peers};
use super::redundancy::{Redundancy, foreign_to};
use super::throttle::{Throttle, Urgency};
use super::{Next, REFRESH_PATIENCE, RepairSeams, Tools, Worker};
use crate::chunk::{ChunkError, ChunkInfo, ChunkStore};

/// Strays that are worked on together: one question to each member.
const PAGE_CHUNKS: usize = 256;

/// The pause of a node that is drained: it may be switched off when it has no strays any more.
const PAUSE_MAX_WHILE_LEAVING: Duration = Duration::from_secs(1);

/// The loop and what it works with.
pub(super) struct Strays {
    me: NodeId,
    chunks: Arc<ChunkStore>,
    map: MapWatch,
    clock: SharedClock,
    peers: Arc<Peers>,
    owners: Arc<Owners>,
    throttle: Arc<Throttle>,
    redundancy: Arc<Redundancy>,
    pause: Duration,
    /// Copies that stand in are left to the hints that came with them for so long.
    age_min: Duration,
}

/// Why a partition's strays are left for the next turn.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    #[error("the placement changed")]
    MapChanged,
    #[error(transparent)]
    Chunks(#[from] ChunkError),
}

/// What is known of some strays.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Every member has it.
    drop: Vec<ChunkId>,
    /// These members lack it.
    push: Vec<(ChunkId, Vec<NodeId>)>,
}

/// What copying a stray came to.
#[derive(Debug)]
struct Pushed {
    chunk: ChunkId,
    /// Whether every member has it on disk now.
    everywhere: bool,
    /// A member that failed, and is not asked again in this turn.
    failed: Option<NodeId>,
}

impl Worker for Strays {
    async fn turn(&mut self) -> Next {
        // By an old map, what belongs here could look like a stray.
        let Ok(map) = tokio::time::timeout(REFRESH_PATIENCE, self.map.refresh()).await else {
            return Next::After(self.pause);
        };
        if map.moves.paused {
            return Next::After(self.pause);
        }
        let mut found = Some(0);
        for partition in foreign_to(&map, self.me) {
            match self.sweep(&map, partition).await {
                Ok(left) => found = found.map(|found| found + left),
                Err(error) => {
                    tracing::debug!(partition = partition.0, %error, "strays are left where they are now");
                    found = None;
                }
            }
        }
        self.redundancy.strays_left(&map, found);
        Next::After(if self.is_leaving(&map) { self.pause.min(PAUSE_MAX_WHILE_LEAVING) } else { self.pause })
    }
}

impl Strays {
    pub(super) fn new(seams: &RepairSeams, tools: &Tools) -> Self {
        Self {
            me: seams.node,
            chunks: Arc::clone(&seams.chunks),
            map: seams.map.clone(),
            clock: Arc::clone(&seams.clock),
            peers: Arc::clone(&tools.peers),
            owners: Arc::clone(&tools.owners),
            throttle: Arc::clone(&tools.throttle),
            redundancy: Arc::clone(&seams.redundancy),
            pause: seams.settings.strays_pause,
            age_min: seams.settings.stray_age_min,
        }
    }

    /// Whether somebody waits until nothing is left here.
    fn is_leaving(&self, map: &ClusterMap) -> bool {
        map.nodes.get(&self.me).is_some_and(|node| node.state == NodeState::Draining)
    }

    /// Goes through the strays of a partition. Returns how many are left, but for those that nothing refers to.
    async fn sweep(&self, map: &ClusterMap, partition: PartitionId) -> Result<u64, Interruption> {
        let positions = positions_of(partition, map.partitions());
        let mut silent = BTreeSet::new();
        let age_min = if self.is_leaving(map) { Duration::ZERO } else { self.age_min };
        let mut left = 0;
        let mut after = None;
        loop {
            let page = self.chunks.iterate(positions.clone(), after, PAGE_CHUNKS).await?;
            let Some(last) = page.last() else { return Ok(left) };
            after = Some(last.id);
            left += page.len() as u64;
            let written_before = self.clock.now_ms().saturating_sub(age_min.as_millis() as u64);
            let due: Vec<ChunkInfo> = page.into_iter().filter(|info| info.created_ms <= written_before).collect();
            left -= self.sweep_page(map, partition, due, &mut silent).await?;
        }
    }

    /// Returns how many were dropped, or are left to the collection of orphans.
    async fn sweep_page(
        &self,
        map: &ClusterMap,
        partition: PartitionId,
        page: Vec<ChunkInfo>,
        silent: &mut BTreeSet<NodeId>,
    ) -> Result<u64, Interruption> {
        let members = map.replicas(partition);
        let ids: Vec<ChunkId> = page.iter().map(|info| info.id).collect();
        let lacking = self.lacking(map, members, &ids, silent).await;
        let Plan { mut drop, push } = plan(&ids, &lacking);
        let lacked = push.len();
        let push = self.still_referenced(map, &page, push).await;
        let orphans = (lacked - push.len()) as u64;
        let pushes = push.into_iter().map(|(chunk, lacking)| self.push(map, chunk, lacking, silent));
        let pushed: Vec<Pushed> = stream::iter(pushes).buffer_unordered(CHUNKS_AT_ONCE).collect().await;
        drop.extend(pushed.iter().filter(|pushed| pushed.everywhere).map(|pushed| pushed.chunk));
        silent.extend(pushed.iter().filter_map(|pushed| pushed.failed));
        // Whoever confirmed did so as a member of this placement.
        if self.map.latest().epoch != map.epoch {
            return Err(Interruption::MapChanged);
        }
        let dropped = drop.len() as u64;
        if dropped > 0 {
            tracing::info!(partition = partition.0, chunks = dropped, "strays are where they belong, dropped here");
            self.chunks.delete(drop).await?;
        }
        Ok(dropped + orphans)
    }

    /// Which members do not say that they have each chunk.
    async fn lacking(
        &self,
        map: &ClusterMap,
        members: &[NodeId],
        chunks: &[ChunkId],
        silent: &mut BTreeSet<NodeId>,
    ) -> BTreeMap<ChunkId, Vec<NodeId>> {
        let asked = members.iter().filter(|member| !silent.contains(member));
        let answers =
            join_all(asked.map(|&member| async move { (member, self.peers.has_chunks(map, member, chunks).await) }));
        let answers: BTreeMap<NodeId, Result<Vec<bool>, PeerError>> = answers.await.into_iter().collect();
        let mut lacking: BTreeMap<ChunkId, Vec<NodeId>> = BTreeMap::new();
        for &member in members {
            let has = match answers.get(&member) {
                Some(Ok(has)) => has.clone(),
                Some(Err(_)) | None => {
                    silent.insert(member);
                    vec![false; chunks.len()]
                }
            };
            for (&chunk, _) in chunks.iter().zip(has).filter(|(_, has)| !has) {
                lacking.entry(chunk).or_default().push(member);
            }
        }
        lacking
    }

    /// Leaves out what nothing refers to. An owner that does not answer is given the benefit of the doubt.
    async fn still_referenced(
        &self,
        map: &ClusterMap,
        page: &[ChunkInfo],
        push: Vec<(ChunkId, Vec<NodeId>)>,
    ) -> Vec<(ChunkId, Vec<NodeId>)> {
        if push.is_empty() {
            return push;
        }
        let lacked: BTreeSet<ChunkId> = push.iter().map(|(chunk, _)| *chunk).collect();
        let parts = page.iter().filter(|info| lacked.contains(&info.id));
        let parts = parts.map(|info| OwnedPart { owner: info.owner, part: info.id.part });
        let referenced = self.owners.references(map, parts).await;
        push.into_iter().filter(|(chunk, _)| referenced.get(&chunk.part) != Some(&false)).collect()
    }

    /// Copies a chunk to those that lack it and answer.
    async fn push(&self, map: &ClusterMap, chunk: ChunkId, lacking: Vec<NodeId>, silent: &BTreeSet<NodeId>) -> Pushed {
        let able: Vec<NodeId> = lacking.iter().copied().filter(|node| !silent.contains(node)).collect();
        let mut pushed = Pushed { chunk, everywhere: able.len() == lacking.len(), failed: None };
        if able.is_empty() {
            return pushed;
        }
        let copy = match self.chunks.get(chunk, 0..CHUNK_BYTES).await {
            Ok(read) => Copy { owner: read.owner, piece_crcs: read.piece_crcs, data: read.data },
            Err(error) => {
                tracing::warn!(?chunk, %error, "a stray cannot be read here");
                return Pushed { everywhere: false, ..pushed };
            }
        };
        for node in able {
            self.throttle.take(copy.data.len() as u64, Urgency::Usual).await;
            if let Err(error) = self.peers.put_chunk(map, node, chunk, copy.clone()).await {
                tracing::debug!(?chunk, node = node.0, %error, "a stray is not taken now");
                pushed = Pushed { everywhere: false, failed: Some(node), ..pushed };
            }
        }
        pushed
    }
}

fn plan(chunks: &[ChunkId], lacking: &BTreeMap<ChunkId, Vec<NodeId>>) -> Plan {
    let mut plan = Plan::default();
    for &chunk in chunks {
        match lacking.get(&chunk) {
            None => plan.drop.push(chunk),
            Some(lacking) => plan.push.push((chunk, lacking.clone())),
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use annulus_common::ids::NodeId;

    use super::super::tests::{chunk_of, map_of};
    use super::{Plan, plan};

    #[test]
    fn a_stray_is_dropped_only_when_nobody_lacks_it() {
        let map = map_of(2, &[&[1, 2], &[2, 1]]);
        let (one, other) = (chunk_of(&map, 0), chunk_of(&map, 1));
        let lacking = BTreeMap::from([(other, vec![NodeId(2)])]);
        let expected = Plan { drop: vec![one], push: vec![(other, vec![NodeId(2)])] };
        assert_eq!(plan(&[one, other], &lacking), expected);
    }
}
