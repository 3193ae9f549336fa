//! Raft groups follow the map: who leads a group brings its members to what the map says, and reports it as moved when its
//! group and its chunks are where they should be.
//!
//! ```text
//! placement names a node that is no member -> learner -> snapshot, log -> caught up
//! every node of the placement is a voter or caught up -> one joint change: learners promoted, the others removed
//! the leader itself has to go -> it hands the leadership to a voter that stays, which removes it
//! ```
//!
//! Replication is never below what it was: nobody is removed before everybody is there. Nothing is remembered between two
//! rounds, so whoever leads after a crash goes on from what the group and the map are. [`next_step`] and [`has_moved`] decide,
//! [`Conductor`] acts. How chunks are moved is repair's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::{Epoch, GroupId, NodeId, PartitionId, RequestId};
use annulus_common::map::change::{MapChange, MapEntry};
use annulus_common::map::watch::MapWatch;
use annulus_common::map::{ClusterMap, MapVersion};
use annulus_common::protocol::Progress;
use futures::future::join_all;
use tracing::{debug, info};

use super::ask::Asking;
use super::register::Register;
use crate::raft::{GroupStatus, MembershipChange, MembershipStep, RaftNode, Role};

/// The pause between two rounds while something moves.
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// How often it is looked for work that no change of the map announces: another node may have led a group until now.
const IDLE_PAUSE: Duration = Duration::from_secs(2);

/// Groups of one leader that bring a new member up at the same time: each is a snapshot of a partition.
const GROUPS_AT_ONCE: usize = 4;

/// Entries that a learner may lack when it gets a vote.
const LAG_MAX: u64 = 64;

/// How long the report that groups have moved may take. It is repeated in the next round.
const REPORT_DEADLINE: Duration = Duration::from_secs(10);

/// Conducts the groups that a node leads.
pub struct Conductor {
    /// This node.
    pub node: NodeId,
    /// Its groups.
    pub raft: RaftNode,
    /// Who should have what.
    pub map: MapWatch,
    /// What of it is carried out here.
    pub register: Arc<Register>,
    /// The way to the others, and to this node itself.
    pub asking: Arc<Asking>,
    /// The time of reports.
    pub clock: SharedClock,
}

/// A group that this node leads and that is not as the map wants it.
struct Open {
    group: GroupId,
    status: GroupStatus,
    target: Vec<NodeId>,
}

/// What a leader does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Changes the members.
    Change(MembershipChange),
    /// Passes the leadership on.
    HandOver(NodeId),
}

impl Conductor {
    /// Conducts for as long as it is polled.
    pub async fn run(&self) {
        loop {
            let known = self.map.latest().version;
            let pause = if self.round().await { ROUND_PAUSE } else { IDLE_PAUSE };
            let change = self.map.changed(MapVersion(known.0 + 1));
            if tokio::time::timeout(pause, change).await.is_ok() {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
        }
    }

    /// Whether anything is open.
    async fn round(&self) -> bool {
        let (map, open, progress) = {
            let _members_stay = self.register.membership.lock().await;
            // An old map would have members added that have been taken away again.
            let Some(map) = self.map.current() else { return true };
            let open = self.open(&map);
            if open.is_empty() {
                return false;
            }
            let progress = self.ask(&map, &open).await;
            self.change_members(&map, &open, &progress).await;
            (map, open, progress)
        };
        let moved = open.iter().filter_map(|open| has_moved(&map, open.group, &open.status, &progress)).collect();
        self.report(moved).await;
        true
    }

    fn open(&self, map: &ClusterMap) -> Vec<Open> {
        let led = self.raft.groups().into_iter().filter_map(|group| Some((group, self.raft.status(group)?)));
        led.filter(|(_, status)| status.role == Role::Leader)
            .map(|(group, status)| Open { group, status, target: target(map, group).to_vec() })
            .filter(|open| !fits(&open.status, &open.target) || map.moves.of(open.group).is_some())
            .collect()
    }

    /// How far those are who should have something that is open here.
    async fn ask(&self, map: &ClusterMap, open: &[Open]) -> BTreeMap<NodeId, Progress> {
        let mut asked: BTreeMap<NodeId, Vec<PartitionId>> = BTreeMap::new();
        for open in open {
            for node in &open.target {
                asked.entry(*node).or_default().extend(open.group.partition());
            }
        }
        let answers = asked
            .into_iter()
            .map(|(node, partitions)| async move { Some((node, self.asking.progress(map, node, partitions).await?)) });
        join_all(answers).await.into_iter().flatten().collect()
    }

    async fn change_members(&self, map: &ClusterMap, open: &[Open], progress: &BTreeMap<NodeId, Progress>) {
        let expects = |node: NodeId, group: GroupId| {
            progress.get(&node).is_some_and(|it| it.epoch >= map.epoch && it.groups.contains(&group))
        };
        let steps = next_steps(self.node, map.moves.paused, open, expects);
        join_all(steps.into_iter().map(|(group, step)| self.act(group, step))).await;
    }

    async fn act(&self, group: GroupId, step: Step) {
        let outcome = match step.clone() {
            Step::Change(change) => self.raft.change_membership(group, change).await,
            Step::HandOver(to) => self.raft.transfer_leader(group, to).await,
        };
        match outcome {
            Ok(()) => info!(group = group.0, ?step, "group follows the map"),
            Err(error) => debug!(group = group.0, ?step, %error, "group does not follow the map yet"),
        }
    }

    async fn report(&self, moved: Vec<(GroupId, Epoch)>) {
        if moved.is_empty() {
            return;
        }
        let (count, now_ms) = (moved.len(), self.clock.now_ms());
        let change = MapChange::Moved(moved);
        let entry = MapEntry { request: RequestId::generate(now_ms), time_ms: now_ms, change };
        match self.map.change(entry, REPORT_DEADLINE).await {
            Ok(_) => info!(groups = count, "groups have moved"),
            Err(refusal) => debug!(%refusal, "not reported that groups have moved"),
        }
    }
}

/// The members that a group should have.
pub fn target(map: &ClusterMap, group: GroupId) -> &[NodeId] {
    match group.partition() {
        None => &map.map_voters,
        Some(partition) => map.replicas(partition),
    }
}

/// Whether a leader's group has exactly these members, and nothing is about to change that.
fn fits(status: &GroupStatus, target: &[NodeId]) -> bool {
    let same = status.voters.len() == target.len() && target.iter().all(|node| status.voters.contains(node));
    same && status.learners.is_empty() && !status.joint && !status.change_pending
}

/// What the leader `me` of these groups does next. Few of them grow at a time, and one that has begun goes on until all that it
/// needs have come: it holds its place among the few for as long.
fn next_steps(
    me: NodeId,
    paused: bool,
    open: &[Open],
    expects: impl Fn(NodeId, GroupId) -> bool,
) -> Vec<(GroupId, Step)> {
    let mut growing = open.iter().filter(|open| !open.status.learners.is_empty()).count();
    let mut steps = Vec::new();
    for Open { group, status, target } in open {
        let Some(step) = next_step(me, status, target, |node| expects(node, *group)) else { continue };
        if is_growth(&step) {
            let begins = status.learners.is_empty();
            if paused || (begins && growing >= GROUPS_AT_ONCE) {
                continue;
            }
            growing += usize::from(begins);
        }
        steps.push((*group, step));
    }
    steps
}

/// What the leader `me` of a group does next so that `target` become its voters. `expects` says whether a node runs the group
/// and will not forget it.
pub fn next_step(
    me: NodeId,
    status: &GroupStatus,
    target: &[NodeId],
    expects: impl Fn(NodeId) -> bool,
) -> Option<Step> {
    if status.role != Role::Leader || status.joint || status.change_pending || target.is_empty() {
        return None;
    }
    let is_voter = |node: &NodeId| status.voters.contains(node);
    let is_learner = |node: &NodeId| status.learners.contains(node);
    if let Some(unwanted) = status.learners.iter().find(|node| !target.contains(node)) {
        return one(MembershipStep::Remove(*unwanted));
    }
    let newcomer = target.iter().find(|node| !is_voter(node) && !is_learner(node) && expects(**node));
    if let Some(newcomer) = newcomer {
        return one(MembershipStep::AddLearner(*newcomer));
    }
    if !target.iter().all(|node| is_voter(node) || (is_learner(node) && has_caught_up(status, *node))) {
        return None;
    }
    let promoted = status.learners.iter().map(|node| MembershipStep::Promote(*node));
    let leaving = status.voters.iter().filter(|node| !target.contains(node) && **node != me);
    let steps: Vec<MembershipStep> = promoted.chain(leaving.map(|node| MembershipStep::Remove(*node))).collect();
    if !steps.is_empty() {
        return Some(Step::Change(MembershipChange { steps }));
    }
    if target.contains(&me) {
        return None;
    }
    let able = target.iter().filter(|node| has_caught_up(status, **node));
    able.copied().next().map(Step::HandOver)
}

fn one(step: MembershipStep) -> Option<Step> {
    Some(Step::Change(MembershipChange::one(step)))
}

fn is_growth(step: &Step) -> bool {
    matches!(step, Step::Change(change) if matches!(change.steps[..], [MembershipStep::AddLearner(_)]))
}

fn has_caught_up(status: &GroupStatus, node: NodeId) -> bool {
    let progress = status.progress.iter().find(|peer| peer.node == node);
    progress.is_some_and(|peer| {
        peer.active && !peer.in_snapshot && peer.matched.saturating_add(LAG_MAX) >= status.last_index
    })
}

/// Whether all of a group is where it should be: it has exactly the members of the map, and each of these says that it has all
/// chunks of the group's partition, by the same epoch of the move. Then the group with that epoch.
fn has_moved(
    map: &ClusterMap,
    group: GroupId,
    status: &GroupStatus,
    progress: &BTreeMap<NodeId, Progress>,
) -> Option<(GroupId, Epoch)> {
    let epoch = map.moves.of(group)?.epoch;
    let target = target(map, group);
    let has_chunks = |node: &NodeId, partition: PartitionId| {
        let told = progress.get(node).into_iter().flat_map(|it| &it.moves);
        told.into_iter().any(|it| (it.partition, it.epoch) == (partition, epoch) && it.complete)
    };
    let is_complete = |node: &NodeId| group.partition().is_none_or(|partition| has_chunks(node, partition));
    (fits(status, target) && target.iter().all(is_complete)).then_some((group, epoch))
}

#[cfg(test)]
mod tests;
