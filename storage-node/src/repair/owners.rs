//! Asks the owners of chunks, which are index shards, whether their parts are still referred to. The leader of the owner's
//! partition answers, linearizably. What follows from an answer, or from none, is the callers'.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use annulus_common::chunk::ChunkOwner;
use annulus_common::ids::{NodeId, PartId, PartitionId, RequestId};
use annulus_common::map::ClusterMap;
use annulus_common::protocol::metadata::{Command, MetaReply, Mutation, Query, QueryReply};
use annulus_common::protocol::{QUERIES_PER_REQUEST_MAX, Refusal};
use futures::future::join_all;
use parking_lot::Mutex;

use super::peers::Peers;

/// The parts that one node is asked about, by their partition.
type Asks = Vec<(PartitionId, Vec<PartId>)>;

/// Rounds of asking: the leader that was known, the one that it names, and each member once.
const ROUNDS_MAX: usize = 5;

/// A part and who should know of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct OwnedPart {
    pub(super) owner: ChunkOwner,
    pub(super) part: PartId,
}

/// What is known of the partitions' leaders: a guess that costs a question when it is wrong.
pub(super) struct Owners {
    peers: Arc<Peers>,
    leaders: Mutex<BTreeMap<PartitionId, NodeId>>,
}

impl Owners {
    pub(super) fn new(peers: Arc<Peers>) -> Self {
        Self { peers, leaders: Mutex::new(BTreeMap::new()) }
    }

    /// Which of these parts something refers to. What is missing in the answer could not be asked.
    pub(super) async fn references(
        &self,
        map: &ClusterMap,
        parts: impl IntoIterator<Item = OwnedPart>,
    ) -> BTreeMap<PartId, bool> {
        let mut open: BTreeMap<PartitionId, BTreeSet<PartId>> = BTreeMap::new();
        for OwnedPart { owner, part } in parts {
            open.entry(map.partition_of_shard(owner.bucket, owner.shard)).or_default().insert(part);
        }
        self.ask_all(map, open).await.into_values().flatten().collect()
    }

    /// Which of these parts something refers to, where nobody knows whose they are: all partitions are asked. What is missing in
    /// the answer is referred to by none of those that answered.
    pub(super) async fn references_anywhere(
        &self,
        map: &ClusterMap,
        parts: &BTreeSet<PartId>,
    ) -> BTreeMap<PartId, bool> {
        let open = (0..map.partitions()).map(|partition| (PartitionId(partition), parts.clone())).collect();
        let answers = self.ask_all(map, open).await;
        let referenced: BTreeSet<PartId> =
            answers.values().flatten().filter(|(_, is)| *is).map(|(part, _)| *part).collect();
        let all_answered = answers.len() == map.partitions() as usize;
        let known = parts.iter().map(|part| (*part, referenced.contains(part)));
        known.filter(|(_, is_referenced)| *is_referenced || all_answered).collect()
    }

    /// Asks partitions about parts; those that did not answer are missing.
    async fn ask_all(
        &self,
        map: &ClusterMap,
        mut open: BTreeMap<PartitionId, BTreeSet<PartId>>,
    ) -> BTreeMap<PartitionId, Vec<(PartId, bool)>> {
        let mut known = BTreeMap::new();
        for round in 0..ROUNDS_MAX {
            if open.is_empty() {
                break;
            }
            let asks = self.group(map, &open, round);
            let answers = join_all(asks.into_iter().map(|(node, partitions)| self.ask(map, node, partitions))).await;
            for (partition, answer) in answers.into_iter().flatten() {
                if let Some(referenced) = answer {
                    known.insert(partition, referenced);
                    open.remove(&partition);
                }
            }
        }
        known
    }

    /// Makes sure that nothing will ever refer to these parts. Returns those for which that is so; for the others their owner
    /// did not answer, or something refers to them by now.
    pub(super) async fn condemn(&self, map: &ClusterMap, parts: &[OwnedPart], now_ms: u64) -> BTreeSet<PartId> {
        let mut by_partition: BTreeMap<PartitionId, Vec<PartId>> = BTreeMap::new();
        for OwnedPart { owner, part } in parts {
            by_partition.entry(map.partition_of_shard(owner.bucket, owner.shard)).or_default().push(*part);
        }
        let asked = by_partition.into_iter().map(|(partition, parts)| async move {
            // Its leader has just said what is referred to: who is not it any more is asked in the next turn.
            let leader = self.leaders.lock().get(&partition).copied()?;
            let command = Command::Condemn(parts.clone());
            let request = RequestId::generate(now_ms);
            let mutation = Mutation { request, since: None, time_ms: now_ms, command, notice: None };
            match self.peers.mutate(map, leader, partition, mutation).await {
                Ok(MetaReply::Condemned(condemned)) if condemned.len() == parts.len() => {
                    Some(parts.into_iter().zip(condemned).filter_map(|(part, condemned)| condemned.then_some(part)))
                }
                Ok(_) => None,
                Err(error) => {
                    tracing::debug!(partition = partition.0, %error, "parts are not condemned now");
                    None
                }
            }
        });
        join_all(asked).await.into_iter().flatten().flatten().collect()
    }

    /// Whom to ask about which partitions: who was the leader last, or else one member after the other.
    fn group(
        &self,
        map: &ClusterMap,
        open: &BTreeMap<PartitionId, BTreeSet<PartId>>,
        round: usize,
    ) -> Vec<(NodeId, Asks)> {
        let leaders = self.leaders.lock();
        let mut asks: BTreeMap<NodeId, Asks> = BTreeMap::new();
        for (partition, parts) in open {
            let members = map.replicas(*partition);
            let member = || members.get(round % members.len().max(1)).copied();
            if let Some(node) = leaders.get(partition).copied().or_else(member) {
                asks.entry(node).or_default().push((*partition, parts.iter().copied().collect()));
            }
        }
        let pages = |(node, asks): (NodeId, Vec<_>)| {
            asks.chunks(QUERIES_PER_REQUEST_MAX).map(|page| (node, page.to_vec())).collect::<Vec<_>>()
        };
        asks.into_iter().flat_map(pages).collect()
    }

    /// One node's answers. None for a partition that it cannot answer for: another is asked in the next round.
    async fn ask(&self, map: &ClusterMap, node: NodeId, asks: Asks) -> Vec<(PartitionId, Option<Vec<(PartId, bool)>>)> {
        let queries = asks.iter().map(|(partition, parts)| (*partition, Query::References(parts.clone()))).collect();
        let answers = match self.peers.query(map, node, queries).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::debug!(node = node.0, %error, "owners do not say what they refer to");
                self.leaders.lock().retain(|_, leader| *leader != node);
                return Vec::new();
            }
        };
        let mut leaders = self.leaders.lock();
        let mut known = Vec::with_capacity(asks.len());
        for ((partition, parts), answer) in asks.into_iter().zip(answers) {
            match answer {
                Ok(QueryReply::References(referenced)) if referenced.len() == parts.len() => {
                    leaders.insert(partition, node);
                    known.push((partition, Some(parts.into_iter().zip(referenced).collect())));
                }
                Err(Refusal::NotLeader { leader: Some(leader) }) if leader != node => {
                    leaders.insert(partition, leader);
                    known.push((partition, None));
                }
                _ => {
                    leaders.remove(&partition);
                    known.push((partition, None));
                }
            }
        }
        known
    }
}
