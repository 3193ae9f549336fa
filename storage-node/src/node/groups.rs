//! Which Raft groups run on this node: those that the map gives it, and those that it may not forget yet.
//!
//! A group is created when the map gives its partition to the node: it waits there until its leader makes the node a member.
//! It is forgotten when the map neither gives nor takes it from the node any more *and* the group's leader says that the node
//! is no member: the map alone may be ahead of the group. What is on the disk runs, whatever the map says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use annulus_common::ids::{GroupId, NodeId};
use annulus_common::map::{ClusterMap, MapVersion};
use futures::future::{join_all, try_join_all};
use tracing::{info, warn};

use super::StartError;
use super::life::Shared;
use crate::cluster::ask::Asking;
use crate::cluster::conduct::target;
use crate::cluster::membership::{self, Membership};
use crate::cluster::state::MapMachine;
use crate::cluster::watch::MapService;
use crate::kv::KvError;
use crate::metadata::Partition;
use crate::raft::{self, GroupSpec, RaftError, StateMachine};
use crate::server::Server;

/// How often the layout is looked at without news: a map that came as a whole may have an older version's number.
const RECHECK: Duration = Duration::from_secs(5);

/// The same while a group waits to be forgotten.
const RECHECK_TO_FORGET: Duration = Duration::from_secs(1);

/// What has become of a node that keeps up with the map.
pub(super) enum End {
    /// It was removed from the cluster.
    Removed,
}

impl Shared {
    /// Starts what is on the disk, and what the last known map gives to the node. With `is_new`, the node has just got into the
    /// cluster.
    pub(super) async fn resume_groups(
        &self,
        server: &Server,
        membership: &Membership,
        is_new: bool,
    ) -> Result<(), StartError> {
        let stored = raft::stored_groups(&*server.kv)?.into_iter();
        self.create_groups(server, stored.map(|group| GroupSpec { group, voters: Vec::new() }).collect()).await?;
        let begun = self.carry_out(server, membership, &membership.contacts, is_new).await;
        begun.or_else(|error| passing(error).map(|_| ()))
    }

    /// Remembers who is in the cluster, and keeps the groups as the map wants them, until the node is removed.
    pub(super) async fn keep_up(
        &self,
        server: &Server,
        membership: Membership,
        asking: &Asking,
    ) -> Result<End, StartError> {
        let mut known = membership.contacts.clone();
        loop {
            let recheck = self.follow(server, &membership, &known, asking).await.or_else(passing)?;
            let seen = server.map.latest().version.0.max(known.version.0);
            let next = if server.map.has_arrived() { MapVersion(seen + 1) } else { MapVersion(0) };
            let _ = tokio::time::timeout(recheck, server.map.changed(next)).await;
            let map = server.map.latest();
            if server.map.has_arrived() && !map.nodes.contains_key(&server.node) {
                return Ok(End::Removed);
            }
            if !is_same_layout(&known, &map) {
                // A map that is not stored is not followed: forgetting by it, the node would begin groups anew that it had forgotten.
                match membership::store_contacts(&*server.kv, &map) {
                    Ok(()) => known = map.skeleton(),
                    Err(error) => drop(passing(error.into())?),
                }
            }
        }
    }

    /// Starts and forgets groups by a map that is stored. Returns how soon to look again.
    async fn follow(
        &self,
        server: &Server,
        membership: &Membership,
        known: &ClusterMap,
        asking: &Asking,
    ) -> Result<Duration, StartError> {
        let is_confirmed = server.map.has_arrived() && server.map.latest().epoch == known.epoch;
        self.carry_out(server, membership, known, is_confirmed).await?;
        Ok(if forget_groups(server, known, asking).await? { RECHECK_TO_FORGET } else { RECHECK })
    }

    /// Starts the groups that a map gives to this node, and notes that they run.
    async fn carry_out(
        &self,
        server: &Server,
        membership: &Membership,
        map: &ClusterMap,
        is_confirmed: bool,
    ) -> Result<(), StartError> {
        let given = membership.groups(map, is_confirmed);
        let groups: BTreeSet<GroupId> = given.iter().map(|spec| spec.group).collect();
        let existing = server.raft.groups();
        self.create_groups(server, given.into_iter().filter(|spec| !existing.contains(&spec.group)).collect()).await?;
        server.register.carry_out(map.epoch, groups);
        Ok(())
    }

    async fn create_groups(&self, server: &Server, groups: Vec<GroupSpec>) -> Result<(), StartError> {
        let mut creations = Vec::with_capacity(groups.len());
        for spec in groups {
            let machine: Box<dyn StateMachine> = if spec.group == GroupId::CLUSTER_MAP {
                let (machine, state) = MapMachine::open(Arc::clone(&server.kv))?;
                let service = MapService::new(server.raft.clone(), state, Arc::clone(&self.clock));
                server.map_service.store(Some(Arc::new(service)));
                Box::new(machine)
            } else {
                Box::new(Partition::new(spec.group, Arc::clone(&server.kv)))
            };
            creations.push(server.raft.create_group(spec, machine));
        }
        try_join_all(creations).await?;
        Ok(())
    }
}

/// Whether the map can be followed later: a disk that is full is emptied by what comes next, and a queue by itself. What is
/// corrupt, or stopped, ends the node.
fn passing(error: StartError) -> Result<Duration, StartError> {
    match error {
        StartError::Storage(KvError::Full { .. } | KvError::Failed { .. })
        | StartError::Raft(RaftError::Busy | RaftError::Storage { .. } | RaftError::TimedOut | RaftError::Uncertain) => {
            warn!(%error, "the cluster map cannot be followed now, trying again");
            Ok(RECHECK)
        }
        error => Err(error),
    }
}

/// Forgets the groups of which the node is no member any more. Whether some are left that it does not need.
async fn forget_groups(server: &Server, map: &ClusterMap, asking: &Asking) -> Result<bool, StartError> {
    let mut unwanted = server.raft.groups();
    unwanted.retain(|group| !is_needed(map, *group, server.node));
    // By an old map the node could forget what it was given again.
    let is_current = server.map.current().is_some_and(|current| current.epoch == map.epoch);
    if unwanted.is_empty() || !is_current {
        return Ok(!unwanted.is_empty());
    }
    let members = ask_members(server, map, &unwanted, asking).await;
    let (forgotten, kept): (Vec<GroupId>, Vec<GroupId>) =
        unwanted.into_iter().partition(|group| members.get(group).is_some_and(|are| !are.contains(&server.node)));
    for group in forgotten {
        server.raft.destroy_group(group).await?;
        if group == GroupId::CLUSTER_MAP {
            server.map_service.store(None);
        }
        info!(group = group.0, "group forgotten: this node is no member any more");
    }
    Ok(!kept.is_empty())
}

/// Whether the map gives a group to the node, or is only about to take it away.
fn is_needed(map: &ClusterMap, group: GroupId, node: NodeId) -> bool {
    target(map, group).contains(&node) || leaving(map, group).contains(&node)
}

fn leaving(map: &ClusterMap, group: GroupId) -> &[NodeId] {
    map.moves.of(group).map_or(&[], |moving| &moving.leaving)
}

/// The members of those of these groups whose leaders answer.
async fn ask_members(
    server: &Server,
    map: &ClusterMap,
    groups: &[GroupId],
    asking: &Asking,
) -> BTreeMap<GroupId, Vec<NodeId>> {
    let mut asked: BTreeMap<NodeId, Vec<GroupId>> = BTreeMap::new();
    for group in groups {
        for node in target(map, *group).iter().chain(leaving(map, *group)).filter(|node| **node != server.node) {
            asked.entry(*node).or_default().push(*group);
        }
    }
    let answers = asked.into_iter().map(|(node, groups)| asking.members(map, node, groups));
    join_all(answers).await.into_iter().flatten().flatten().collect()
}

fn is_same_layout(known: &ClusterMap, map: &ClusterMap) -> bool {
    known.epoch == map.epoch && known.nodes == map.nodes && known.moves == map.moves
}
