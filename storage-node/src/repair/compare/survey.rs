//! What nodes hold of the same partitions, side by side, and what of it is most endangered. Asking and fetching is the
//! comparison's.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::Digest;
use annulus_common::ids::{NodeId, PartitionId};
use annulus_common::map::ClusterMap;

use super::super::redundancy::{Lacking, partitions_of};

/// What all partitions amount to, here and elsewhere.
pub(super) struct Survey {
    pub(super) map: Arc<ClusterMap>,
    pub(super) began: Duration,
    /// How long it took to add up what is here.
    pub(super) took: Duration,
    pub(super) mine: BTreeMap<PartitionId, Digest>,
    pub(super) theirs: BTreeMap<PartitionId, Vec<(NodeId, Digest)>>,
    /// Whether some node did not answer.
    pub(super) incomplete: bool,
}

/// Two nodes that do not hold the same of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) partition: PartitionId,
    pub(super) other: NodeId,
    pub(super) mine: Digest,
    pub(super) theirs: Digest,
}

impl Difference {
    /// What is lacking here, before anything was listed.
    pub(super) fn estimate(&self) -> Lacking {
        Lacking {
            chunks: self.theirs.chunks.saturating_sub(self.mine.chunks).max(1),
            bytes: self.theirs.bytes.saturating_sub(self.mine.bytes),
        }
    }
}

impl Survey {
    /// Each of the others' answers with what is here of the same partition.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (PartitionId, NodeId, Digest, Digest)> + '_ {
        self.theirs.iter().flat_map(|(partition, answers)| {
            let mine = self.mine.get(partition).copied().unwrap_or_default();
            answers.iter().map(move |(node, theirs)| (*partition, *node, mine, *theirs))
        })
    }

    /// The partitions with the fewest good copies first, then those that lack most.
    pub(super) fn sort_by_danger(&self, differences: &mut [Difference]) {
        differences.sort_by_key(|difference| {
            (self.good_copies(difference.partition), Reverse(difference.estimate().chunks), difference.partition)
        });
    }

    /// Whether the other node may have what nobody else has who should: not if another one has exactly the same.
    pub(super) fn may_have_last_copies(&self, difference: &Difference) -> bool {
        let Difference { partition, other, theirs, .. } = *difference;
        let mut answers = self.theirs.get(&partition).into_iter().flatten();
        let somebody_should = self.map.complete_holders(partition).any(|node| node != other);
        somebody_should && theirs.chunks > 0 && !answers.any(|(node, digest)| *node != other && *digest == theirs)
    }

    /// Holders that have as much as any: the others lack something.
    fn good_copies(&self, partition: PartitionId) -> usize {
        let others = self.theirs.get(&partition).into_iter().flatten().map(|(_, digest)| digest.chunks);
        let all: Vec<u64> = others.chain(self.mine.get(&partition).map(|mine| mine.chunks)).collect();
        let most = all.iter().max();
        all.iter().filter(|chunks| Some(*chunks) == most).count()
    }
}

/// The other holders of a node's partitions, each with the partitions in common.
pub(super) fn shared_with(map: &ClusterMap, me: NodeId) -> BTreeMap<NodeId, Vec<PartitionId>> {
    let mut shared: BTreeMap<NodeId, Vec<PartitionId>> = BTreeMap::new();
    for partition in partitions_of(map, me) {
        for other in map.holders(partition).filter(|&node| node != me) {
            shared.entry(other).or_default().push(partition);
        }
    }
    shared
}
