//! Placement: which nodes hold which partition. A pure function of the nodes and of the previous placement: it plans,
//! moving data is repair's.
//!
//! Of all placements, [`place`] returns one that satisfies, in this order:
//!
//! 1. **Zones.** Each partition has `replication_factor` distinct nodes, spread over the zones as evenly as their
//!    numbers of nodes allow: with as many zones as replicas or more, no two replicas share a zone.
//! 2. **Balance.** Each node holds its fair share, rounded down or up: replicas in proportion to capacity, except that
//!    a node holds at most one replica of each partition and that rule 1 may force a small zone to hold more and a
//!    large one to hold less ([`fair_shares`]). So the fullest node is at most 1/share above the mean, which is 5 %
//!    from 20 replicas per node on.
//! 3. **Movement.** Fewer replicas change nodes than in any other placement that satisfies 1 and 2: it is a flow of
//!    minimum cost, found exactly.
//! 4. **Leaders.** The first replica of a set is its preferred leader. They are spread over the nodes as evenly as the
//!    sets allow, whatever the capacities: leading costs CPU, not space.
//!
//! The same input gives the same placement on every machine, in whatever order the nodes come.

mod fair;
mod flow;
mod leaders;
mod network;
mod stand_in;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use thiserror::Error;

use crate::ids::NodeId;

pub use fair::fair_shares;
pub use stand_in::{STAND_INS_MAX, stand_ins};

/// A node as placement sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacementNode {
    /// Who it is.
    pub id: NodeId,
    /// What it fails together with.
    pub zone: String,
    /// Its weight, in any unit. A node without capacity gets nothing.
    pub capacity: u64,
    /// A node that leaves: it gets nothing.
    pub draining: bool,
}

/// Why there is no placement.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlacementError {
    /// Replicas of a partition are on distinct nodes, and there are too few.
    #[error("{replication_factor} replicas need as many nodes, and {available} can hold data")]
    TooFewNodes {
        /// How many replicas were asked for.
        replication_factor: usize,
        /// How many nodes have capacity and do not drain.
        available: usize,
    },
    /// Two nodes have the same id.
    #[error("node {0} is there twice")]
    DuplicateNode(NodeId),
    /// Partitions are fixed when a cluster is made.
    #[error("a ring of {previous} partitions cannot become one of {partitions}")]
    PartitionsChanged {
        /// How many there were.
        previous: usize,
        /// How many were asked for.
        partitions: u32,
    },
    /// A ring has a partition, and a partition has a replica.
    #[error("at least one partition and one replica")]
    Nothing,
}

/// The nodes that may hold data, by id; what is done to them is done in this order.
struct Candidate<'a> {
    id: NodeId,
    zone: &'a str,
    capacity: u64,
}

/// The placement that the module describes: for each partition its replica set, preferred leader first. `previous` is
/// the placement before, or empty; it may name nodes that are gone and have another number of replicas.
pub fn place(
    nodes: &[PlacementNode],
    replication_factor: usize,
    partitions: u32,
    previous: &[Vec<NodeId>],
) -> Result<Vec<Vec<NodeId>>, PlacementError> {
    if partitions == 0 || replication_factor == 0 {
        return Err(PlacementError::Nothing);
    }
    if !previous.is_empty() && previous.len() != partitions as usize {
        return Err(PlacementError::PartitionsChanged { previous: previous.len(), partitions });
    }
    let candidates = candidates(nodes, replication_factor)?;
    let chosen = network::choose(&candidates, replication_factor, partitions as usize, previous);
    let before = |partition: usize| previous.get(partition).map_or(&[][..], Vec::as_slice);
    let mut placement: Vec<Vec<NodeId>> =
        chosen.into_iter().enumerate().map(|(partition, set)| in_old_order(set, before(partition))).collect();
    leaders::spread(&mut placement);
    Ok(placement)
}

fn candidates(nodes: &[PlacementNode], replication_factor: usize) -> Result<Vec<Candidate<'_>>, PlacementError> {
    let mut by_id = BTreeMap::new();
    for node in nodes {
        if by_id.insert(node.id, node).is_some() {
            return Err(PlacementError::DuplicateNode(node.id));
        }
    }
    let holds_data = |node: &&PlacementNode| node.capacity > 0 && !node.draining;
    let candidates: Vec<_> = by_id
        .into_values()
        .filter(holds_data)
        .map(|node| Candidate { id: node.id, zone: &node.zone, capacity: node.capacity })
        .collect();
    if candidates.len() < replication_factor {
        return Err(PlacementError::TooFewNodes { replication_factor, available: candidates.len() });
    }
    Ok(candidates)
}

/// Who stays keeps its place in front; who comes is appended. So a leader stays the leader where it can.
fn in_old_order(chosen: Vec<NodeId>, before: &[NodeId]) -> Vec<NodeId> {
    let stays = before.iter().copied().filter(|id| chosen.contains(id));
    let comes = chosen.iter().copied().filter(|id| !before.contains(id));
    let mut set: Vec<NodeId> = Vec::with_capacity(chosen.len());
    for id in stays.chain(comes) {
        if !set.contains(&id) {
            set.push(id);
        }
    }
    set
}
