//! The gate before the Raft core: the core panics on messages that cannot be, and a panic stops the node. Whatever a
//! peer sends is checked here first; what fails is dropped, as a network may drop it. It judges form, not membership.
//!
//! A message of a node that is not in the group's membership as this replica knows it passes all the same, unless it is
//! a response (the core ignores those): the replica may be the one that is behind, and the sender its new leader.
//! Pre-vote and the check of the quorum keep a removed node from disturbing a group.

use annulus_common::ids::NodeId;
use raft::eraftpb::{ConfState, EntryType, Message, MessageType};

/// Far beyond what a group reaches, far below an overflow.
const INDEX_MAX: u64 = 1 << 60;
/// More members than a group ever has.
const MEMBERS_MAX: usize = 64;

/// What a message is judged by.
pub(super) struct View {
    /// This node.
    pub(super) node: NodeId,
    /// The replica's term.
    pub(super) term: u64,
    /// The end of its log.
    pub(super) last_index: u64,
}

/// Whether the core can take a message that came from `from`; if not, why.
pub(super) fn check(message: &Message, from: NodeId, view: &View) -> Result<(), &'static str> {
    let kind = MessageType::from_i32(message.msg_type).ok_or("a kind that is not known")?;
    if NodeId(message.from) != from || message.from == 0 || from == view.node {
        return Err("a false sender");
    }
    if NodeId(message.to) != view.node {
        return Err("another addressee");
    }
    // The core takes a message of term 0 for one of its own.
    if message.term == 0 {
        return Err("no term");
    }
    let numbers =
        [message.term, message.log_term, message.index, message.commit, message.commit_term, message.reject_hint];
    if numbers.iter().chain([&message.request_snapshot]).any(|number| *number > INDEX_MAX) {
        return Err("a number beyond bounds");
    }
    if !message.entries.is_empty() && kind != MessageType::MsgAppend {
        return Err("entries where none belong");
    }
    match kind {
        MessageType::MsgAppend => check_entries(message),
        MessageType::MsgHeartbeat if message.term >= view.term && message.commit > view.last_index => {
            Err("a heartbeat that commits what is not in the log")
        }
        MessageType::MsgAppendResponse
            if !message.reject && message.term == view.term && message.index > view.last_index =>
        {
            Err("an acknowledgement of what was never sent")
        }
        MessageType::MsgSnapshot => check_snapshot(message, view.node),
        MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgAppendResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse
        | MessageType::MsgTimeoutNow => Ok(()),
        // The rest is local to a core, or forwards to a leader what we never forward.
        _ => Err("a kind that is never sent"),
    }
}

fn check_entries(message: &Message) -> Result<(), &'static str> {
    let mut term = message.log_term;
    for (expected, entry) in (message.index + 1..).zip(&message.entries) {
        if entry.index != expected {
            return Err("entries with a gap");
        }
        if entry.term < term || entry.term > message.term {
            return Err("entries with impossible terms");
        }
        if EntryType::from_i32(entry.entry_type).is_none() {
            return Err("an entry of a kind that is not known");
        }
        term = entry.term;
    }
    Ok(())
}

fn check_snapshot(message: &Message, node: NodeId) -> Result<(), &'static str> {
    let metadata = message.get_snapshot().get_metadata();
    if metadata.index == 0 || metadata.index > INDEX_MAX || metadata.term == 0 || metadata.term > message.term {
        return Err("a snapshot with impossible numbers");
    }
    let conf = metadata.get_conf_state();
    if !is_consistent(conf) {
        return Err("a snapshot with an impossible membership");
    }
    let is_member = conf.voters.iter().chain(&conf.learners).chain(&conf.voters_outgoing).any(|id| *id == node.0);
    if is_member { Ok(()) } else { Err("a snapshot of a group without this node") }
}

/// What the core demands of a membership.
fn is_consistent(conf: &ConfState) -> bool {
    let lists = [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next];
    let distinct = lists.iter().all(|list| {
        list.len() <= MEMBERS_MAX && list.iter().enumerate().all(|(at, id)| *id != 0 && !list[..at].contains(id))
    });
    let is_joint = !conf.voters_outgoing.is_empty();
    distinct
        && !conf.voters.is_empty()
        && conf.learners.iter().all(|id| !conf.voters.contains(id) && !conf.voters_outgoing.contains(id))
        && conf.learners_next.iter().all(|id| conf.voters_outgoing.contains(id) && !conf.voters.contains(id))
        && (is_joint || !conf.auto_leave)
}

#[cfg(test)]
mod tests {
    use annulus_common::ids::NodeId;
    use raft::eraftpb::{Entry, Message, MessageType};

    use super::{View, check};

    const VIEW: View = View { node: NodeId(1), term: 5, last_index: 10 };

    fn message(kind: MessageType) -> Message {
        let mut message = Message { to: 1, from: 2, term: 5, ..Message::default() };
        message.set_msg_type(kind);
        message
    }

    fn snapshot(voters: Vec<u64>, learners: Vec<u64>) -> Message {
        let mut message = message(MessageType::MsgSnapshot);
        let metadata = message.mut_snapshot().mut_metadata();
        (metadata.index, metadata.term) = (20, 5);
        metadata.mut_conf_state().voters = voters;
        metadata.mut_conf_state().learners = learners;
        message
    }

    #[test]
    fn what_the_core_sends_passes() {
        for kind in [MessageType::MsgAppend, MessageType::MsgHeartbeat, MessageType::MsgRequestVote] {
            assert_eq!(check(&message(kind), NodeId(2), &VIEW), Ok(()));
        }
        assert_eq!(check(&snapshot(vec![1, 2], vec![3]), NodeId(2), &VIEW), Ok(()));
    }

    #[test]
    fn what_would_stop_the_core_does_not() {
        let mut gap = message(MessageType::MsgAppend);
        gap.entries = vec![Entry { index: 7, term: 5, ..Entry::default() }];
        let unknown_kind = Message { msg_type: 99, ..message(MessageType::MsgAppend) };
        let ahead = Message { commit: 11, ..message(MessageType::MsgHeartbeat) };
        let acknowledges_too_much = Message { index: 11, ..message(MessageType::MsgAppendResponse) };
        let no_term = Message { term: 0, ..message(MessageType::MsgHeartbeat) };
        let huge = Message { term: u64::MAX, ..message(MessageType::MsgHeartbeat) };
        let misled = Message { to: 3, ..message(MessageType::MsgHeartbeat) };
        let false_sender = Message { from: 3, ..message(MessageType::MsgHeartbeat) };
        let refused = [gap, unknown_kind, ahead, acknowledges_too_much, no_term, huge, misled, false_sender];
        let kinds =
            [MessageType::MsgHup, MessageType::MsgPropose, MessageType::MsgReadIndex, MessageType::MsgSnapStatus];
        let snapshots = [snapshot(vec![], vec![1]), snapshot(vec![1, 2], vec![2]), snapshot(vec![2, 3], vec![])];
        for message in refused.into_iter().chain(kinds.map(message)).chain(snapshots) {
            assert!(check(&message, NodeId(2), &VIEW).is_err(), "{message:?}");
        }
    }
}
