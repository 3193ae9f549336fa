//! Membership changes: which are sensible, and how they are told to the Raft core. Whether to change is the caller's to
//! say.

use annulus_common::ids::NodeId;
use prost::Message as _;
use raft::StateRole;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType,
};

use super::RaftError;
use super::group::Group;
use super::input::Reply;
use super::proposals::{answer, not_leader};
use super::storage::Position;
use super::types::{MembershipChange, MembershipStep};
use crate::kv::Batch;

/// Steps of one change: more than any move of a partition needs.
const STEPS_MAX: usize = 16;
/// How many entries a learner may lack when it is promoted: it has them within moments.
const PROMOTE_LAG_MAX: u64 = 1_000;
/// Ticks until a change is reported as timed out: 10 s.
const TICKS_MAX: u64 = 100;

impl Group {
    /// Proposes a change of the members; `reply` is answered when it is done.
    pub(super) fn change_membership(&mut self, change: &MembershipChange, reply: Reply<()>, now: u64) {
        match self.propose_change(change) {
            Ok(Position { index, term }) => self.membership = Some(Waiting::new(index, term, now, reply)),
            Err(error) => answer(reply, Err(error)),
        }
    }

    /// Without the leadership of the term it was proposed in, what becomes of a change is not known here.
    pub(super) fn check_change(&mut self) {
        let raft = &self.raw.raft;
        let kept = |waiting: &Waiting| raft.state == StateRole::Leader && raft.term == waiting.term;
        if self.membership.as_ref().is_some_and(|waiting| !kept(waiting)) {
            self.answer_membership(Err(RaftError::Uncertain));
        }
    }

    fn propose_change(&mut self, change: &MembershipChange) -> Result<Position, RaftError> {
        if !self.leads() {
            return Err(not_leader(&self.raw));
        }
        if self.membership.is_some() || self.raw.raft.has_pending_conf() {
            return Err(RaftError::Dropped);
        }
        let matched = |node: NodeId| self.raw.raft.prs().get(node.0).map_or(0, |progress| progress.matched);
        let last_index = self.raw.raft.raft_log.last_index();
        let (node, conf) = (self.home.node, self.raw.store().conf());
        let plan = plan(change, &View { node, conf, last_index, matched: &matched })?;
        self.raw.propose_conf_change(Vec::new(), plan).map_err(|_| RaftError::Dropped)?;
        Ok(Position { index: self.raw.raft.raft_log.last_index(), term: self.raw.raft.term })
    }

    /// Every replica comes to the same result, an error included: then nothing changes.
    pub(super) fn apply_membership(&mut self, entry: &Entry, batch: &mut Batch) {
        let change = ConfChangeV2::decode(entry.data.as_slice());
        let conf = change
            .map_err(|error| error.to_string())
            .and_then(|change| self.raw.apply_conf_change(&change).map_err(|error| error.to_string()));
        match conf {
            Ok(conf) => {
                tracing::info!(group = self.id.0, index = entry.index, ?conf, "raft membership changed");
                let is_voter =
                    conf.voters.contains(&self.home.node.0) || conf.voters_outgoing.contains(&self.home.node.0);
                self.raw.mut_store().set_conf(conf, batch);
                if self.leads() && !is_voter {
                    // The core would go on leading, and panic: it does not expect to be without a vote.
                    let term = self.raw.raft.term;
                    self.raw.raft.become_follower(term, 0);
                }
            }
            Err(error) => {
                tracing::error!(group = self.id.0, index = entry.index, error, "raft membership change impossible")
            }
        }
    }

    pub(super) fn membership_applied(&mut self, entry: &Entry) {
        let Some(waiting) = &self.membership else { return };
        if entry.index < waiting.index {
            return;
        }
        if entry.index == waiting.index
            && (entry.term != waiting.term || entry.get_entry_type() == EntryType::EntryNormal)
        {
            self.answer_membership(Err(RaftError::Dropped));
        } else if !is_joint(self.raw.store().conf()) {
            self.answer_membership(Ok(()));
        }
    }

    /// Leaves a joint configuration as soon as it is in force. A leader that will have no vote then passes on first.
    pub(super) fn leave_joint(&mut self) {
        if !self.leads() || !is_joint(self.raw.store().conf()) || self.raw.raft.has_pending_conf() {
            return;
        }
        if !self.raw.store().conf().voters.contains(&self.home.node.0) {
            self.hand_over();
        } else if let Err(error) = self.raw.propose_conf_change(Vec::new(), leave()) {
            tracing::debug!(group = self.id.0, %error, "raft joint configuration not left yet");
        }
    }

    pub(super) fn answer_membership(&mut self, result: Result<(), RaftError>) {
        if let Some(waiting) = self.membership.take() {
            waiting.answer(result);
        }
    }
}

/// What a change is judged by: the leader's view.
struct View<'a> {
    node: NodeId,
    conf: &'a ConfState,
    last_index: u64,
    /// The last index known to be in a member's log.
    matched: &'a dyn Fn(NodeId) -> u64,
}

/// The change in the core's words. One step is a simple change; several enter joint consensus, which the leader leaves
/// as soon as it is entered (the core's own way of leaving is lost with the leadership).
fn plan(change: &MembershipChange, view: &View<'_>) -> Result<ConfChangeV2, RaftError> {
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
fn leave() -> ConfChangeV2 {
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
    index: u64,
    term: u64,
    deadline: u64,
    reply: Reply<()>,
}

impl Waiting {
    fn new(index: u64, term: u64, now: u64, reply: Reply<()>) -> Self {
        Self { index, term, deadline: now + TICKS_MAX, reply }
    }

    pub(super) fn is_late(&self, now: u64) -> bool {
        self.deadline <= now
    }

    fn answer(self, result: Result<(), RaftError>) {
        answer(self.reply, result);
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
