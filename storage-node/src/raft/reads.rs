//! Readers that wait for a linearizable moment: a quorum confirms, after they asked, that this replica still leads;
//! then its state must reach what was committed when they asked.
//!
//! All readers of one loop turn share one ReadIndex context. The Raft core forgets contexts without a word when the
//! leadership is lost, and ignores them until something is committed in the leader's term, so both are watched for
//! here.

use std::collections::VecDeque;

use raft::{RawNode, ReadState, StateRole};

use super::RaftError;
use super::input::Reply;
use super::proposals::{answer, not_leader};
use super::storage::GroupStorage;

/// Readers of one group that may wait.
const WAITING_MAX: usize = 16_384;
/// Ticks until a reader is told that no quorum answered: 3 s, one election.
const TICKS_MAX: u64 = 30;

/// The readers of one group.
#[derive(Default)]
pub(super) struct Reads {
    /// Not yet asked for.
    arriving: Vec<Reader>,
    /// Asked for, in the order of their contexts.
    asked: VecDeque<Asked>,
    /// Confirmed, waiting for the state to reach an index, in the order of confirmation.
    confirmed: Vec<(u64, Vec<Reader>)>,
    /// How many readers there are in all three.
    waiting: usize,
    /// The last context: never used twice by one process, and a new process leads in a new term.
    context: u64,
}

struct Reader {
    deadline: u64,
    reply: Reply<()>,
}

struct Asked {
    context: u64,
    term: u64,
    readers: Vec<Reader>,
}

impl Reads {
    pub(super) fn push(&mut self, reply: Reply<()>, now: u64) {
        if self.waiting >= WAITING_MAX {
            return answer(reply, Err(RaftError::Busy));
        }
        self.waiting += 1;
        self.arriving.push(Reader { deadline: now + TICKS_MAX, reply });
    }

    /// Asks the quorum on behalf of everyone who arrived, if this replica leads.
    pub(super) fn submit(&mut self, raw: &mut RawNode<GroupStorage>) {
        self.check_leadership(raw);
        if self.arriving.is_empty() {
            return;
        }
        if raw.raft.state != StateRole::Leader {
            let readers = std::mem::take(&mut self.arriving);
            return self.answer_all(readers, &Err(not_leader(raw)));
        }
        // Until then the leader does not know what is committed, and the core would drop the question.
        if !raw.raft.commit_to_current_term() {
            return;
        }
        self.context += 1;
        let readers = std::mem::take(&mut self.arriving);
        self.asked.push_back(Asked { context: self.context, term: raw.raft.term, readers });
        raw.read_index(self.context.to_be_bytes().to_vec());
    }

    /// A quorum answered.
    pub(super) fn confirm(&mut self, state: &ReadState) {
        let Ok(context) = state.request_ctx.as_slice().try_into().map(u64::from_be_bytes) else { return };
        let at = self.asked.iter().position(|asked| asked.context == context);
        if let Some(asked) = at.and_then(|at| self.asked.remove(at)) {
            self.confirmed.push((state.index, asked.readers));
        }
    }

    /// The state has reached `applied`.
    pub(super) fn applied(&mut self, applied: u64) {
        if self.confirmed.iter().all(|(index, _)| *index > applied) {
            return;
        }
        for (index, readers) in std::mem::take(&mut self.confirmed) {
            if index <= applied {
                self.answer_all(readers, &Ok(()));
            } else {
                self.confirmed.push((index, readers));
            }
        }
    }

    /// What was asked in another term, or as a leader, has been forgotten by the core: it is asked again, or refused.
    pub(super) fn check_leadership(&mut self, raw: &RawNode<GroupStorage>) {
        let leads = raw.raft.state == StateRole::Leader;
        while self.asked.front().is_some_and(|asked| !leads || asked.term != raw.raft.term) {
            if let Some(asked) = self.asked.pop_front() {
                self.arriving.extend(asked.readers);
            }
        }
    }

    /// Answers those who have waited too long.
    pub(super) fn expire(&mut self, now: u64) {
        let all = self.asked.iter_mut().map(|asked| &mut asked.readers);
        let all = all.chain(self.confirmed.iter_mut().map(|(_, readers)| readers)).chain([&mut self.arriving]);
        let mut late = Vec::new();
        for readers in all {
            late.extend(readers.extract_if(.., |reader| reader.deadline <= now));
        }
        self.answer_all(late, &Err(RaftError::TimedOut));
    }

    /// Answers everyone.
    pub(super) fn stop(&mut self, error: &RaftError) {
        let asked = std::mem::take(&mut self.asked).into_iter().flat_map(|asked| asked.readers);
        let confirmed = std::mem::take(&mut self.confirmed).into_iter().flat_map(|(_, readers)| readers);
        let readers: Vec<_> = asked.chain(confirmed).chain(std::mem::take(&mut self.arriving)).collect();
        self.answer_all(readers, &Err(error.clone()));
    }

    fn answer_all(&mut self, readers: Vec<Reader>, result: &Result<(), RaftError>) {
        self.waiting -= readers.len();
        readers.into_iter().for_each(|reader| answer(reader.reply, result.clone()));
    }
}
