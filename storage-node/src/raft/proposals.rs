//! Commands that wait: first for the end of the turn's inputs, so that all of a turn travel in one message, then for
//! their entry to be applied. It promises an answer to each within a bounded number of ticks.

use std::collections::VecDeque;

use annulus_common::ids::NodeId;
use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{RawNode, StateRole};

use super::RaftError;
use super::input::Reply;
use super::storage::GroupStorage;

/// Bytes of commands of one group that are not yet committed: memory, and what a new leader may have to resend.
pub(super) const UNCOMMITTED_BYTES_MAX: usize = 16 << 20;
/// Commands of one group that wait for an answer.
const WAITING_MAX: usize = 16_384;
/// Ticks until a proposer is told that it took too long: 10 s, several elections.
const TICKS_MAX: u64 = 100;

/// The commands of one group that wait.
#[derive(Default)]
pub(super) struct Proposals {
    arriving: Vec<(Bytes, Reply<Bytes>)>,
    waiting: VecDeque<Waiting>,
    /// The term of everything in `waiting`.
    term: u64,
}

struct Waiting {
    index: u64,
    deadline: u64,
    reply: Reply<Bytes>,
}

impl Proposals {
    pub(super) fn push(&mut self, command: Bytes, reply: Reply<Bytes>) {
        self.arriving.push((command, reply));
    }

    /// Puts everything that arrived into the log, if this replica leads.
    pub(super) fn submit(&mut self, raw: &mut RawNode<GroupStorage>, now: u64) {
        self.check_leadership(raw);
        if self.arriving.is_empty() {
            return;
        }
        if raw.raft.state != StateRole::Leader {
            return self.refuse_arriving(&not_leader(raw));
        }
        let (entries, replies) = self.take_what_fits(raw.raft.uncommitted_size());
        if entries.is_empty() {
            return;
        }
        let mut message = Message { from: raw.raft.id, entries, ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        if raw.raft.step(message).is_err() {
            // The leadership is being handed over, or this node is no longer a member.
            replies.into_iter().for_each(|reply| answer(reply, Err(RaftError::Dropped)));
            return;
        }
        self.term = raw.raft.term;
        let first = raw.raft.raft_log.last_index() + 1 - replies.len() as u64;
        let deadline = now + TICKS_MAX;
        let waiting = (first..).zip(replies).map(|(index, reply)| Waiting { index, deadline, reply });
        self.waiting.extend(waiting);
    }

    /// An entry has been applied; the command's reply, if it was a command.
    pub(super) fn applied(&mut self, index: u64, term: u64, reply: Bytes) {
        while self.waiting.front().is_some_and(|front| front.index <= index) {
            let Some(front) = self.waiting.pop_front() else { return };
            if front.index == index && self.term == term {
                return answer(front.reply, Ok(reply));
            }
            answer(front.reply, Err(RaftError::Uncertain));
        }
    }

    /// Without the leadership of the term they were proposed in, what becomes of the waiting commands is not known
    /// here.
    pub(super) fn check_leadership(&mut self, raw: &RawNode<GroupStorage>) {
        if raw.raft.state != StateRole::Leader || raw.raft.term != self.term {
            self.fail_waiting(&RaftError::Uncertain);
        }
    }

    /// Answers those who have waited too long. They wait in the order of their deadlines.
    pub(super) fn expire(&mut self, now: u64) {
        while self.waiting.front().is_some_and(|front| front.deadline <= now) {
            if let Some(front) = self.waiting.pop_front() {
                answer(front.reply, Err(RaftError::TimedOut));
            }
        }
    }

    /// Answers everyone.
    pub(super) fn stop(&mut self, error: &RaftError) {
        self.refuse_arriving(error);
        self.fail_waiting(error);
    }

    fn take_what_fits(&mut self, uncommitted_bytes: usize) -> (Vec<Entry>, Vec<Reply<Bytes>>) {
        let mut bytes = uncommitted_bytes;
        let (mut entries, mut replies) = (Vec::new(), Vec::new());
        for (command, reply) in self.arriving.drain(..) {
            // The core lets one command pass when nothing is uncommitted, however large.
            let fits = bytes == 0 || bytes + command.len() <= UNCOMMITTED_BYTES_MAX;
            if !fits || self.waiting.len() + replies.len() >= WAITING_MAX {
                answer(reply, Err(RaftError::Busy));
                continue;
            }
            bytes += command.len();
            entries.push(Entry { data: command.into(), ..Entry::default() });
            replies.push(reply);
        }
        (entries, replies)
    }

    fn refuse_arriving(&mut self, error: &RaftError) {
        self.arriving.drain(..).for_each(|(_, reply)| answer(reply, Err(error.clone())));
    }

    fn fail_waiting(&mut self, error: &RaftError) {
        self.waiting.drain(..).for_each(|waiting| answer(waiting.reply, Err(error.clone())));
    }
}

/// What a replica that does not lead answers.
pub(super) fn not_leader(raw: &RawNode<GroupStorage>) -> RaftError {
    let leader = raw.raft.leader_id;
    // A leader that has just stepped down may still name itself.
    RaftError::NotLeader { leader: (leader != 0 && leader != raw.raft.id).then_some(NodeId(leader)) }
}

/// Answers; whoever asked may have gone.
pub(super) fn answer<T>(reply: Reply<T>, result: Result<T, RaftError>) {
    let _ = reply.send(result);
}
