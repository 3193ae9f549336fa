//! The layout of the cluster: who has a share, which nodes hold which partition, who votes in group 0. It changes in steps
//! that operators ask for (and one that group 0's leader takes by itself, when a node is dead).
//!
//! Whoever asks plans ([`ClusterMap::plan`], pure): the next placement travels in the change. Applying it only checks it, so
//! that nodes of two versions, which may plan differently, still arrive at the same map. A plan is good for the epoch that it
//! was made from; every change of the layout makes a new epoch.
//!
//! Nothing is moved here. A partition whose nodes change gets a [`Move`]: the nodes that held it are remembered, and asked by
//! readers, until everything is where it should be and [`MapChange::Moved`](super::change::MapChange) says so. A
//! second change before that adds to what is remembered and forgets nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::change::{MapRefusal, MapReply};
use super::{ClusterMap, Node, NodeSettings, NodeState};
use crate::ids::{Epoch, GroupId, NodeId, PartitionId};
use crate::placement::{self, PlacementNode};

/// Voters of group 0: a change of the map costs as many fsyncs.
const MAP_VOTERS: usize = 3;

/// Voters of group 0 in a cluster of so many nodes: two may fail.
const MAP_VOTERS_OF_MANY: usize = 5;

/// Replicas of a partition, at most: as the setting.
pub const REPLICATION_FACTOR_MAX: u8 = 7;

/// The partitions that are not yet where the placement says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Moves {
    /// Operators want nothing to be moved now.
    pub paused: bool,
    /// By partition.
    pub partitions: BTreeMap<PartitionId, Move>,
    /// Group 0, while its voters are not those of the map.
    pub map_group: Option<Move>,
}

impl Moves {
    /// The move of a group's partition, or of group 0.
    pub fn of(&self, group: GroupId) -> Option<&Move> {
        match group.partition() {
            Some(partition) => self.partitions.get(&partition),
            None => self.map_group.as_ref(),
        }
    }

    /// Every move that is not over.
    pub fn all(&self) -> impl Iterator<Item = &Move> {
        self.partitions.values().chain(&self.map_group)
    }
}

/// A partition, or group 0, on its way from the nodes that held it to those that should.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Move {
    /// The epoch that changed its nodes last: what is said of an earlier one does not count.
    pub epoch: Epoch,
    /// The nodes that held it at some time since it was last complete, and should not any more. They may have what the others
    /// lack, so who reads asks them too; nothing new is written to them.
    pub leaving: Vec<NodeId>,
    /// The holders, of the placement or leaving, that came to the placement since the partition was last complete: they have
    /// what was written since then and what was brought to them, and need not have the rest.
    pub joining: Vec<NodeId>,
}

impl Move {
    /// What has to be moved when these nodes follow on those, on top of what was under way.
    fn between(before: Vec<NodeId>, after: &[NodeId], under_way: Option<Move>, epoch: Epoch) -> Option<Move> {
        let is_same_set = before.len() == after.len() && before.iter().all(|id| after.contains(id));
        if is_same_set {
            // Another order of the same nodes moves nothing.
            return under_way;
        }
        let (mut held, mut joining) = under_way.map(|moving| (moving.leaving, moving.joining)).unwrap_or_default();
        // Who comes back lacks what was written in between, just as who comes for the first time.
        joining.retain(|id| before.contains(id) || !after.contains(id));
        joining.extend(after.iter().filter(|id| !before.contains(id)));
        held.extend(before);
        let leaving = held.into_iter().filter(|id| !after.contains(id)).collect();
        Some(Move { epoch, leaving, joining })
    }
}

/// What is asked of the layout.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LayoutStep {
    /// These get a share: spares, or nodes that were draining.
    Add(Vec<NodeId>),
    /// The node gives its share to the others.
    Drain(NodeId),
    /// The node leaves the map.
    Remove {
        /// The node.
        node: NodeId,
        /// Even though it holds something, and even if too few nodes remain for all replicas: it is gone for good.
        force: bool,
    },
    /// A node that is gone for good leaves the map, and a spare gets a share in its place.
    Replace {
        /// The node that is gone.
        old: NodeId,
        /// The spare.
        new: NodeId,
    },
    /// What operators say of a node, all of it.
    Set {
        /// The node.
        node: NodeId,
        /// From now on.
        settings: NodeSettings,
    },
    /// How many replicas everything should have.
    SetReplication(u8),
    /// The node was silent for too long.
    Dead(NodeId),
    /// Nothing but to place anew, by what the nodes say of themselves now.
    Rebalance,
}

/// A step with the plan for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LayoutChange {
    /// The epoch that was planned from.
    pub based_on: Epoch,
    /// What is asked.
    pub step: LayoutStep,
    /// The partitions whose replicas change, with the new ones; the first is the preferred leader.
    pub sets: Vec<(PartitionId, Vec<NodeId>)>,
    /// The voters of group 0.
    pub map_voters: Vec<NodeId>,
}

/// Who there is, and how many replicas are wanted, after a step.
struct Membership {
    nodes: BTreeMap<NodeId, Node>,
    replication_factor: u8,
}

impl Membership {
    fn eligible(&self) -> usize {
        self.nodes.values().filter(|node| node.is_eligible()).count()
    }

    fn is_eligible(&self, id: &NodeId) -> bool {
        self.nodes.get(id).is_some_and(Node::is_eligible)
    }

    /// The replicas that a partition can have.
    fn replicas(&self) -> usize {
        usize::from(self.replication_factor).min(self.eligible())
    }

    fn node(&mut self, id: NodeId) -> Result<&mut Node, MapRefusal> {
        self.nodes.get_mut(&id).ok_or(MapRefusal::NoSuchNode(id))
    }

    fn add(&mut self, id: NodeId) -> Result<(), MapRefusal> {
        let node = self.node(id)?;
        if node.state == NodeState::Dead {
            return Err(MapRefusal::NodeDead(id));
        }
        node.state = NodeState::Active;
        Ok(())
    }
}

impl ClusterMap {
    /// What a step would come to, or why it is refused. Changes nothing.
    pub fn plan(&self, step: &LayoutStep) -> Result<LayoutChange, MapRefusal> {
        let next = self.after(step)?;
        let nodes: Vec<PlacementNode> = next.nodes.iter().map(|(id, node)| node.for_placement(*id)).collect();
        let placed = placement::place(&nodes, next.replicas(), self.partitions(), &self.placement);
        let placed = placed.map_err(|error| MapRefusal::NoPlacement(error.to_string()))?;
        let numbered = (0..).map(PartitionId).zip(placed);
        let sets = numbered.filter(|(partition, set)| self.replicas(*partition) != set).collect();
        let map_voters = map_voters(&next.nodes, &self.map_voters);
        let change = LayoutChange { based_on: self.epoch, step: step.clone(), sets, map_voters };
        self.check(&change, &next)?;
        Ok(change)
    }

    /// Carries out a change of the layout.
    pub(super) fn change_layout(&mut self, change: &LayoutChange) -> Result<MapReply, MapRefusal> {
        if change.based_on != self.epoch {
            return Err(MapRefusal::LayoutChanged(self.epoch));
        }
        let next = self.after(&change.step)?;
        self.check(change, &next)?;
        self.epoch = Epoch(self.epoch.0 + 1);
        for (partition, set) in &change.sets {
            let before = std::mem::replace(&mut self.placement[partition.0 as usize], set.clone());
            let moving = Move::between(before, set, self.moves.partitions.remove(partition), self.epoch);
            self.moves.partitions.extend(moving.map(|moving| (*partition, moving)));
        }
        let voters = std::mem::replace(&mut self.map_voters, change.map_voters.clone());
        self.moves.map_group = Move::between(voters, &change.map_voters, self.moves.map_group.take(), self.epoch);
        // Who is not in the cluster any more cannot be asked for anything.
        for moving in self.moves.partitions.values_mut().chain(&mut self.moves.map_group) {
            moving.leaving.retain(|id| next.nodes.contains_key(id));
            moving.joining.retain(|id| next.nodes.contains_key(id));
        }
        self.nodes = next.nodes;
        self.replication_factor = next.replication_factor;
        Ok(MapReply::Done)
    }

    /// Everything of these groups is where it should be, unless their nodes have changed since.
    pub(super) fn end_moves(&mut self, moved: &[(GroupId, Epoch)]) -> MapReply {
        for (group, epoch) in moved {
            if self.moves.of(*group).is_none_or(|moving| moving.epoch != *epoch) {
                continue;
            }
            match group.partition() {
                Some(partition) => drop(self.moves.partitions.remove(&partition)),
                None => self.moves.map_group = None,
            }
        }
        MapReply::Done
    }

    /// Whether anything says that the node may have data or a vote.
    pub fn is_holding(&self, node: NodeId) -> bool {
        self.map_voters.contains(&node)
            || self.placement.iter().any(|set| set.contains(&node))
            || self.moves.all().any(|moving| moving.leaving.contains(&node))
    }

    /// Who there is after a step, if it makes sense.
    fn after(&self, step: &LayoutStep) -> Result<Membership, MapRefusal> {
        let mut next = Membership { nodes: self.nodes.clone(), replication_factor: self.replication_factor };
        match step {
            LayoutStep::Add(ids) => ids.iter().try_for_each(|id| next.add(*id))?,
            LayoutStep::Drain(id) => match &mut next.node(*id)?.state {
                NodeState::Dead => return Err(MapRefusal::NodeDead(*id)),
                state => *state = NodeState::Draining,
            },
            LayoutStep::Remove { node, force } => {
                next.node(*node)?;
                if !force && self.is_holding(*node) {
                    return Err(MapRefusal::NodeHoldsData(*node));
                }
                next.nodes.remove(node);
            }
            LayoutStep::Replace { old, new } => {
                next.node(*old)?;
                next.nodes.remove(old);
                next.add(*new)?;
            }
            LayoutStep::Set { node, settings } => next.node(*node)?.set = settings.clone(),
            LayoutStep::SetReplication(factor) => next.replication_factor = *factor,
            LayoutStep::Dead(id) => next.node(*id)?.state = NodeState::Dead,
            LayoutStep::Rebalance => {}
        }
        self.check_count(step, &next)?;
        Ok(next)
    }

    /// Too few nodes for all replicas are accepted only where there were no more before, or where somebody insists.
    fn check_count(&self, step: &LayoutStep, next: &Membership) -> Result<(), MapRefusal> {
        let (factor, eligible) = (next.replication_factor, next.eligible());
        let before = self.nodes.values().filter(|node| node.is_eligible()).count();
        let worse = eligible < before || factor != self.replication_factor;
        let insists = matches!(step, LayoutStep::Remove { force: true, .. } | LayoutStep::Replace { .. });
        let too_few = usize::from(factor) > eligible && worse && !insists;
        if too_few || factor == 0 || factor > REPLICATION_FACTOR_MAX || eligible == 0 {
            return Err(MapRefusal::TooFewNodes { replication_factor: factor, eligible: eligible as u32 });
        }
        Ok(())
    }

    /// Whether a plan keeps what a layout promises: enough distinct nodes that may hold data, and nothing lost.
    fn check(&self, change: &LayoutChange, next: &Membership) -> Result<(), MapRefusal> {
        let invalid = |reason: String| Err(MapRefusal::NoPlacement(reason));
        let replicas = next.replicas();
        let new: BTreeMap<PartitionId, &[NodeId]> =
            change.sets.iter().map(|(partition, set)| (*partition, set.as_slice())).collect();
        if new.len() != change.sets.len() || new.keys().any(|partition| partition.0 >= self.partitions()) {
            return invalid("a partition is named twice, or does not exist".to_owned());
        }
        for partition in (0..self.partitions()).map(PartitionId) {
            let set = new.get(&partition).copied().unwrap_or_else(|| self.replicas(partition));
            if set.len() != replicas || !are_distinct(set) || !set.iter().all(|id| next.is_eligible(id)) {
                return invalid(format!("partition {} is not on {replicas} nodes that may hold data", partition.0));
            }
            let stays = |id: NodeId| next.nodes.contains_key(&id);
            if !self.holders(partition).all(stays) && !self.complete_holders(partition).any(stays) {
                return Err(MapRefusal::LastReplica(partition));
            }
        }
        let voters = &change.map_voters;
        if voters.is_empty() || !are_distinct(voters) || !voters.iter().all(|id| next.is_eligible(id)) {
            return invalid("group 0 needs voters that may hold data".to_owned());
        }
        Ok(())
    }
}

fn are_distinct(ids: &[NodeId]) -> bool {
    ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id))
}

/// The voters of group 0: three, five from five nodes up, spread over the zones as far as who votes already allows.
pub fn map_voters(nodes: &BTreeMap<NodeId, Node>, before: &[NodeId]) -> Vec<NodeId> {
    let eligible: BTreeMap<NodeId, &str> =
        nodes.iter().filter(|(_, node)| node.is_eligible()).map(|(id, node)| (*id, node.zone())).collect();
    let wanted = if eligible.len() >= MAP_VOTERS_OF_MANY { MAP_VOTERS_OF_MANY } else { MAP_VOTERS };
    let wanted = wanted.min(eligible.len());
    let mut voters: Vec<NodeId> = before.iter().filter(|id| eligible.contains_key(id)).copied().collect();
    let in_zone = |voters: &[NodeId], zone: &str| voters.iter().filter(|id| eligible[id] == zone).count();
    while voters.len() > wanted {
        let crowded = (0..voters.len()).max_by_key(|at| (in_zone(&voters, eligible[&voters[*at]]), *at));
        voters.remove(crowded.expect("more than are wanted is more than none"));
    }
    while voters.len() < wanted {
        let others = eligible.iter().filter(|(id, _)| !voters.contains(id));
        let next = others.min_by_key(|(id, zone)| (in_zone(&voters, zone), **id)).map(|(id, _)| *id);
        voters.push(next.expect("no more are wanted than there are"));
    }
    voters
}

#[cfg(test)]
mod tests;
