//! What partitions come to and how far their moves are, asked of the storage nodes: for plans and progress.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use annulus_common::ids::{NodeId, PartitionId};
use annulus_common::map::ClusterMap;
use annulus_common::protocol::{MoveProgress, PartitionUsage, Request, Response, encode};
use annulus_common::rpc::{Envelope, Lane};
use futures::future::join_all;

use super::ClusterClient;

/// How long a node may take to sum up its index: some ten million chunks.
const USAGE_DEADLINE: Duration = Duration::from_secs(30);

/// How long a node may take to say how far it is.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(2);

impl ClusterClient {
    /// What each of these partitions comes to, as one of the nodes that have all of it says. Partitions of which no such node
    /// answers are left out.
    pub async fn usage(
        &self,
        map: &ClusterMap,
        partitions: impl IntoIterator<Item = PartitionId>,
    ) -> BTreeMap<PartitionId, PartitionUsage> {
        let mut usage = BTreeMap::new();
        // Whom to ask about each: one after the other of those that have all of it.
        let mut open: Vec<(PartitionId, Vec<NodeId>)> = partitions
            .into_iter()
            .map(|partition| (partition, map.complete_holders(partition).chain(map.holders(partition)).collect()))
            .collect();
        while !open.is_empty() {
            let mut asked: BTreeMap<NodeId, Vec<PartitionId>> = BTreeMap::new();
            for (partition, holders) in &open {
                asked.entry(holders[0]).or_default().push(*partition);
            }
            let answers = asked.into_iter().map(|(node, partitions)| self.usage_at(map, node, partitions));
            usage.extend(join_all(answers).await.into_iter().flatten());
            open.retain_mut(|(partition, holders)| {
                let asked = holders.remove(0);
                holders.retain(|holder| *holder != asked);
                !usage.contains_key(partition) && !holders.is_empty()
            });
        }
        usage
    }

    /// What these partitions come to on all nodes that have them or should; nothing of nodes that do not answer.
    pub async fn usage_everywhere(
        &self,
        map: &ClusterMap,
        partitions: impl IntoIterator<Item = PartitionId>,
    ) -> BTreeMap<(PartitionId, NodeId), PartitionUsage> {
        let mut asked: BTreeMap<NodeId, Vec<PartitionId>> = BTreeMap::new();
        for partition in partitions {
            for node in map.holders(partition) {
                asked.entry(node).or_default().push(partition);
            }
        }
        let answers = asked.into_iter().map(|(node, partitions)| async move {
            let usage = self.usage_at(map, node, partitions).await.into_iter();
            usage.map(|(partition, usage)| ((partition, node), usage)).collect::<Vec<_>>()
        });
        join_all(answers).await.into_iter().flatten().collect()
    }

    async fn usage_at(
        &self,
        map: &ClusterMap,
        node: NodeId,
        partitions: Vec<PartitionId>,
    ) -> Vec<(PartitionId, PartitionUsage)> {
        let request = Envelope::from_header(encode(&Request::Usage(partitions.clone())));
        match self.peers.ask(map, node, Lane::Control, request, USAGE_DEADLINE).await {
            Ok((Response::Usage(usage), _)) if usage.len() == partitions.len() => {
                partitions.into_iter().zip(usage).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The nodes that say that all chunks of a partition that moves to them are there, with the partition.
    pub async fn complete_moves(&self, map: &ClusterMap) -> BTreeSet<(PartitionId, NodeId)> {
        let mut asked: BTreeMap<NodeId, Vec<PartitionId>> = BTreeMap::new();
        for partition in map.moves.partitions.keys() {
            for node in map.replicas(*partition) {
                asked.entry(*node).or_default().push(*partition);
            }
        }
        let answers = asked.into_iter().map(|(node, partitions)| async move {
            let request = Envelope::from_header(encode(&Request::Progress(partitions)));
            let moves = match self.peers.ask(map, node, Lane::Control, request, PROGRESS_DEADLINE).await {
                Ok((Response::Progress(progress), _)) => progress.moves,
                _ => Vec::new(),
            };
            let is_now = |it: &MoveProgress| map.move_of(it.partition).is_some_and(|moving| moving.epoch == it.epoch);
            let complete = moves.into_iter().filter(|it| it.complete && is_now(it));
            complete.map(|it| (it.partition, node)).collect::<Vec<_>>()
        });
        join_all(answers).await.into_iter().flatten().collect()
    }
}
