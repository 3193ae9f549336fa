//! Membership changes: which are sensible, and how they are told to the Raft core. Whether to change is the caller's to say.

use annulus_common::ids::NodeId;
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState};

use super::types::{MembershipChange, MembershipStep};
use super::worker::Reply;
use super::{RaftError, proposals};

/// Steps of one change: more than any move of a partition needs.
const STEPS_MAX: usize = 16;
/// How many entries a learner may lack when it is promoted: it has them within moments.
const PROMOTE_LAG_MAX: u64 = 1_000;
/// Ticks until a change is reported as timed out: 10 s.
const TICKS_MAX: u64 = 100;

/// What a change is judged by: the leader's view.
pub(super) struct View<'a> {
    pub(super) node: NodeId,
    pub(super) conf: &'a ConfState,
    pub(super) last_index: u64,
    /// The last index known to be in a member's log.
    pub(super) matched: &'a dyn Fn(NodeId) -> u64,
}

/// The change in the core's words. One step is a simple change; several enter joint consensus, which the leader leaves as
/// soon as it is entered (the core's own way of leaving is lost with the leadership).
pub(super) fn plan(change: &MembershipChange, view: &View<'_>) -> Result<ConfChangeV2, RaftError> {
    if change.steps.is_empty() || change.steps.len() > STEPS_MAX {
        return Err(RaftError::Refused { reason: "a change has at least one step, and not many" });
    }
    if is_joint(view.conf) {
        return Err(RaftError::Dropped);
    }
    let mut plan = ConfChangeV2::default();
    for step in &change.steps {
        let single = plan_step(*step, view)?;
        if plan.changes.iter().any(|other| other.node_id == single.node_id) {
            return Err(RaftError::Refused { reason: "a node is named twice" });
        }
        plan.changes.push(single);
    }
    if plan.changes.len() > 1 {
        plan.set_transition(ConfChangeTransition::Explicit);
    }
    Ok(plan)
}

/// The change that leaves a joint configuration.
pub(super) fn leave() -> ConfChangeV2 {
    ConfChangeV2::default()
}

/// Whether two configurations decide together.
pub(super) fn is_joint(conf: &ConfState) -> bool {
    !conf.voters_outgoing.is_empty()
}

fn plan_step(step: MembershipStep, view: &View<'_>) -> Result<ConfChangeSingle, RaftError> {
    let refused = |reason| Err(RaftError::Refused { reason });
    let is_voter = |node: NodeId| view.conf.voters.contains(&node.0);
    let is_learner = |node: NodeId| view.conf.learners.contains(&node.0);
    let (node, kind) = match step {
        MembershipStep::AddLearner(NodeId(0)) => return refused("no node has the id 0"),
        MembershipStep::AddLearner(node) if is_voter(node) || is_learner(node) => {
            return refused("the node is a member");
        }
        MembershipStep::AddLearner(node) => (node, ConfChangeType::AddLearnerNode),
        MembershipStep::Promote(node) if !is_learner(node) => return refused("the node is not a learner"),
        MembershipStep::Promote(node) if (view.matched)(node) + PROMOTE_LAG_MAX < view.last_index => {
            return refused("the learner is too far behind");
        }
        MembershipStep::Promote(node) => (node, ConfChangeType::AddNode),
        MembershipStep::Remove(node) if !is_voter(node) && !is_learner(node) => {
            return refused("the node is not a member");
        }
        MembershipStep::Remove(node) if node == view.node => {
            return refused("the node leads; transfer the leadership first");
        }
        MembershipStep::Remove(node) => (node, ConfChangeType::RemoveNode),
    };
    let mut single = ConfChangeSingle { node_id: node.0, ..ConfChangeSingle::default() };
    single.set_change_type(kind);
    Ok(single)
}

/// The one who waits for a change; there is at most one change at a time.
pub(super) struct Waiting {
    /// The entry of the change.
    pub(super) index: u64,
    pub(super) term: u64,
    deadline: u64,
    reply: Reply<()>,
}

impl Waiting {
    pub(super) fn new(index: u64, term: u64, now: u64, reply: Reply<()>) -> Self {
        Self { index, term, deadline: now + TICKS_MAX, reply }
    }

    pub(super) fn is_late(&self, now: u64) -> bool {
        self.deadline <= now
    }

    pub(super) fn answer(self, result: Result<(), RaftError>) {
        proposals::answer(self.reply, result);
    }
}

#[cfg(test)]
mod tests {
    use annulus_common::ids::NodeId;
    use raft::eraftpb::{ConfChangeTransition, ConfState};

    use super::{View, plan};
    use crate::raft::{MembershipChange, MembershipStep, RaftError};

    fn planned(steps: Vec<MembershipStep>) -> Result<ConfChangeTransition, RaftError> {
        let conf = ConfState { voters: vec![1, 2, 3], learners: vec![4, 5], ..ConfState::default() };
        let matched = |node: NodeId| if node == NodeId(4) { 9_900 } else { 10 };
        let view = View { node: NodeId(1), conf: &conf, last_index: 10_000, matched: &matched };
        plan(&MembershipChange { steps }, &view).map(|change| change.get_transition())
    }

    #[test]
    fn one_step_is_simple_and_several_are_joint() {
        assert_eq!(planned(vec![MembershipStep::AddLearner(NodeId(6))]), Ok(ConfChangeTransition::Auto));
        let replace = vec![MembershipStep::Promote(NodeId(4)), MembershipStep::Remove(NodeId(3))];
        assert_eq!(planned(replace), Ok(ConfChangeTransition::Explicit));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let senseless = [
            vec![],
            vec![MembershipStep::AddLearner(NodeId(0))],
            vec![MembershipStep::AddLearner(NodeId(2))],
            vec![MembershipStep::Promote(NodeId(2))],
            vec![MembershipStep::Promote(NodeId(5))],
            vec![MembershipStep::Remove(NodeId(1))],
            vec![MembershipStep::Remove(NodeId(9))],
            vec![MembershipStep::Promote(NodeId(4)), MembershipStep::Remove(NodeId(4))],
        ];
        for steps in senseless {
            assert!(matches!(planned(steps.clone()), Err(RaftError::Refused { .. })), "{steps:?}");
        }
    }
}
