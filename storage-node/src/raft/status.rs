//! What a group tells about itself: to whoever asks for its status, and to its own log, which it may cut only as far as
//! others have it. It changes nothing.

use annulus_common::ids::NodeId;
use raft::{ProgressState, StateRole};

use super::group::Group;
use super::membership::is_joint;
use super::types::{GroupStatus, PeerProgress, Role};

impl Group {
    /// The index up to which everyone who is catching up has the log.
    pub(super) fn needed_after(&self) -> Option<u64> {
        let outgoing = self.home.outgoing.lowest_index(self.id);
        if !self.leads() {
            return outgoing;
        }
        let others =
            self.raw.raft.prs().iter().filter(|(id, progress)| **id != self.home.node.0 && progress.recent_active);
        let needed = others.map(|(_, progress)| progress.matched.max(progress.pending_snapshot));
        needed.chain(outgoing).min()
    }

    /// The state becomes incomplete, or whole again. Readers must know before the first key is gone.
    pub(super) fn turn_generation(&mut self) {
        self.generation += 1;
        self.publish();
    }

    pub(super) fn publish(&self) {
        let raft = &self.raw.raft;
        let storage = self.raw.store();
        let conf = storage.conf();
        let mut status = self.status.lock();
        status.role = match raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower if raft.promotable() => Role::Follower,
            StateRole::Follower => Role::Learner,
        };
        status.leader = (raft.leader_id != 0).then_some(NodeId(raft.leader_id));
        status.term = raft.term;
        status.committed = raft.raft_log.committed;
        status.applied = storage.applied().index;
        status.last_index = raft.raft_log.last_index();
        status.joint = is_joint(conf);
        status.change_pending = raft.state == StateRole::Leader && raft.has_pending_conf();
        status.installing = storage.installing();
        status.generation = self.generation;
        publish_members(&mut status.voters, &conf.voters);
        publish_members(&mut status.learners, &conf.learners);
        status.progress.clear();
        if raft.state == StateRole::Leader {
            let others = raft.prs().iter().filter(|(id, _)| **id != self.home.node.0);
            status.progress.extend(others.map(|(id, progress)| PeerProgress {
                node: NodeId(*id),
                matched: progress.matched,
                active: progress.recent_active,
                in_snapshot: progress.state == ProgressState::Snapshot,
            }));
            status.progress.sort_unstable_by_key(|progress| progress.node);
        }
    }
}

fn publish_members(published: &mut Vec<NodeId>, members: &[u64]) {
    published.clear();
    published.extend(members.iter().map(|id| NodeId(*id)));
    published.sort_unstable();
}

/// What is published before anything is known.
pub(super) fn initial() -> GroupStatus {
    GroupStatus {
        role: Role::Learner,
        leader: None,
        term: 0,
        committed: 0,
        applied: 0,
        last_index: 0,
        voters: Vec::new(),
        learners: Vec::new(),
        joint: false,
        change_pending: false,
        installing: false,
        generation: 0,
        progress: Vec::new(),
    }
}
