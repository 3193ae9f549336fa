//! Snapshots on their way in: a replica that is too far behind replaces its state, piece by piece, and then its log.
//!
//! The order is what makes it safe to crash at any point. The first piece's batch sets the mark "installing" and
//! empties the range; the pieces follow; the last batch clears the mark together with the new applied index, membership
//! and log. While the mark is there the replica votes and takes entries (its log is whole) but applies nothing and
//! never leads. Only when all is on disk is the core started anew from it and given the `MsgSnapshot`, which then tells
//! it nothing new: it answers the leader that its log ends there.

use annulus_common::ids::NodeId;
use bytes::Bytes;
use raft::StateRole;
use raft::eraftpb::{Message, MessageType};

use super::RaftError;
use super::group::{Context, Group};
use super::input::{Fetch, PieceResult};
use super::snapshot::{PieceReply, PieceRequest, PieceStep};
use super::storage::Position;
use super::types::count;
use crate::kv::{Batch, Durability};

/// Ticks after which a fetch that neither succeeded nor failed is taken for failed: 15 s.
const FETCH_TICKS_MAX: u64 = 150;
/// How often one piece is asked for...
const FETCH_ATTEMPTS_MAX: u32 = 5;
/// ... and after how many ticks again: 0.5 s.
const FETCH_RETRY_TICKS: u64 = 5;
/// Ticks between two reminders to the leader that this replica's state is incomplete: 1 s.
const REQUEST_TICKS: u64 = 10;

/// A snapshot that is coming in.
pub(super) struct Transfer {
    from: NodeId,
    /// The message that offered it.
    offer: Message,
    /// The last key that is written.
    after: Bytes,
    /// Whether the range has been emptied for it.
    is_begun: bool,
    attempts: u32,
    state: FetchState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FetchState {
    /// A piece was asked for at this tick.
    Asked(u64),
    /// The piece will be asked for again at this tick.
    Retry(u64),
}

impl Transfer {
    fn position(&self) -> Position {
        let metadata = self.offer.get_snapshot().get_metadata();
        Position { index: metadata.index, term: metadata.term }
    }
}

impl Group {
    /// A leader offers a snapshot.
    pub(super) fn offered_snapshot(&mut self, offer: Message, context: &mut Context<'_>) {
        if offer.term < self.raw.raft.term {
            return self.step_core(offer);
        }
        // The offer says who leads; the core must know even though it does not see the offer yet.
        let mut heartbeat = Message { to: offer.to, from: offer.from, term: offer.term, ..Message::default() };
        heartbeat.set_msg_type(MessageType::MsgHeartbeat);
        self.step_core(heartbeat);
        if self.raw.raft.state != StateRole::Follower {
            return;
        }
        let state = FetchState::Asked(context.now);
        let from = NodeId(offer.from);
        let transfer = Transfer { from, offer, after: Bytes::new(), is_begun: false, attempts: 0, state };
        let position = transfer.position();
        if !self.needs(position) {
            let log = &self.raw.raft.raft_log;
            // The core then only learns how far the group has come. It must not see an offer that contradicts its log.
            if position.index < log.committed || log.match_term(position.index, position.term) {
                self.step_core(transfer.offer);
            }
            return;
        }
        // A worker whose write waits for space holds up all its groups. So what would fill the disk is not begun, and the state
        // that is here is kept; the leader offers it again.
        if !context.writer.has_room() {
            tracing::debug!(group = self.id.0, from = transfer.from.0, "no room for a raft snapshot");
            // It holds the snapshot, and few of them.
            return self.tell_sender(&transfer, PieceStep::Abandoned, context);
        }
        let goes_on = |current: &Transfer| {
            current.offer.term > transfer.offer.term
                || (current.offer.term == transfer.offer.term && current.position().index >= position.index)
        };
        if self.transfer.as_ref().is_some_and(goes_on) {
            return;
        }
        tracing::info!(group = self.id.0, from = transfer.from.0, index = position.index, "raft snapshot coming in");
        self.transfer = Some(transfer);
        self.fetch_next(context);
    }

    /// A piece has come, or has not.
    pub(super) fn fetched(
        &mut self,
        index: u64,
        after: &Bytes,
        result: PieceResult,
        context: &mut Context<'_>,
    ) -> Result<(), RaftError> {
        let is_awaited = self.transfer.as_ref().is_some_and(|transfer| {
            transfer.position().index == index
                && transfer.after == *after
                && matches!(transfer.state, FetchState::Asked(_))
        });
        if !is_awaited {
            return Ok(());
        }
        match result.map(PieceReply::decode) {
            Ok(Some(PieceReply::Piece { pairs, last })) => self.install_piece(pairs, last, context),
            Ok(_) => {
                self.abandon("the sender has it no more", context);
                Ok(())
            }
            Err(error) => {
                self.fetch_failed(&error.reason, context);
                Ok(())
            }
        }
    }

    /// A tick passed.
    pub(super) fn tick_install(&mut self, context: &mut Context<'_>) {
        match self.transfer.as_ref().map(|transfer| transfer.state) {
            Some(FetchState::Asked(since)) if context.now >= since + FETCH_TICKS_MAX => {
                self.fetch_failed("no answer", context);
            }
            Some(FetchState::Retry(at)) if context.now >= at => self.fetch_next(context),
            None if self.is_incomplete() && context.now.is_multiple_of(REQUEST_TICKS) => self.request_snapshot(context),
            _ => {}
        }
    }

    /// Whether a snapshot would bring this replica forward.
    fn needs(&self, position: Position) -> bool {
        let log = &self.raw.raft.raft_log;
        let is_new = position.index > log.committed;
        let is_in_log = log.match_term(position.index, position.term);
        if self.is_incomplete() {
            return position.index >= self.raw.store().truncated().index && (is_new || is_in_log);
        }
        is_new && !is_in_log
    }

    fn fetch_next(&mut self, context: &mut Context<'_>) {
        let Some(transfer) = &mut self.transfer else { return };
        transfer.state = FetchState::Asked(context.now);
        let (index, after) = (transfer.position().index, transfer.after.clone());
        let request = PieceRequest { group: self.id, index, step: PieceStep::Next(after.clone()) }.encode();
        context.fetches.push(Fetch { from: transfer.from, group: self.id, index, after: Some(after), request });
    }

    fn fetch_failed(&mut self, reason: &str, context: &mut Context<'_>) {
        let Some(transfer) = &mut self.transfer else { return };
        transfer.attempts += 1;
        transfer.state = FetchState::Retry(context.now + FETCH_RETRY_TICKS);
        if transfer.attempts >= FETCH_ATTEMPTS_MAX {
            self.abandon(reason, context);
        }
    }

    /// Gives a transfer up. If the range is already incomplete, the leader is asked for another snapshot, tick by tick.
    fn abandon(&mut self, reason: &str, context: &mut Context<'_>) {
        let Some(transfer) = self.transfer.take() else { return };
        count(&context.counters.snapshots_failed);
        tracing::warn!(group = self.id.0, from = transfer.from.0, reason, "raft snapshot abandoned");
        self.tell_sender(&transfer, PieceStep::Abandoned, context);
    }

    fn tell_sender(&self, transfer: &Transfer, step: PieceStep, context: &mut Context<'_>) {
        let index = transfer.position().index;
        let request = PieceRequest { group: self.id, index, step }.encode();
        context.fetches.push(Fetch { from: transfer.from, group: self.id, index, after: None, request });
    }

    fn install_piece(
        &mut self,
        pairs: Vec<(Bytes, Bytes)>,
        last: bool,
        context: &mut Context<'_>,
    ) -> Result<(), RaftError> {
        let Some(transfer) = &mut self.transfer else { return Ok(()) };
        let range = self.raw.store().range().clone();
        let is_sorted = pairs.is_sorted_by(|(one, _), (other, _)| one < other);
        let is_within = pairs
            .first()
            .is_none_or(|(key, _)| *key >= range.lower && (*key > transfer.after || transfer.after.is_empty()))
            && pairs.last().is_none_or(|(key, _)| *key < range.upper);
        if !is_sorted || !is_within || (pairs.is_empty() && !last) {
            self.abandon("the sender's piece makes no sense", context);
            return Ok(());
        }
        if !context.writer.has_room() {
            self.abandon("there is no room for it", context);
            return Ok(());
        }
        transfer.attempts = 0;
        if let Some((key, _)) = pairs.last() {
            transfer.after = key.clone();
        }
        let is_first = !transfer.is_begun;
        transfer.is_begun = true;
        let position = transfer.position();
        if is_first && !self.needs(position) {
            self.abandon("the log has caught up", context);
            return Ok(());
        }
        let mut batch = Batch::default();
        if is_first {
            self.raw.mut_store().begin_install(&mut batch);
            self.begin_generation();
        }
        for (key, value) in pairs {
            batch.put(range.table, key, value);
        }
        let durability = if is_first { Durability::Synced } else { Durability::Buffered };
        context.writer.write(batch, durability)?;
        if last {
            return self.finish_install(context);
        }
        self.fetch_next(context);
        Ok(())
    }

    /// An install that follows a broken one finds the generation odd already.
    fn begin_generation(&mut self) {
        if self.generation.is_multiple_of(2) {
            self.turn_generation();
        }
    }

    fn finish_install(&mut self, context: &mut Context<'_>) -> Result<(), RaftError> {
        let Some(transfer) = self.transfer.take() else { return Ok(()) };
        let position = transfer.position();
        let conf = transfer.offer.get_snapshot().get_metadata().get_conf_state();
        let batch = self.raw.store().finish_install(position, conf);
        let batch = batch.map_err(|error| RaftError::Storage { reason: error.to_string() })?;
        context.writer.write(batch, Durability::Synced)?;
        self.reopen()?;
        self.machine.restored();
        self.turn_generation();
        count(&context.counters.snapshots_installed);
        tracing::info!(group = self.id.0, index = position.index, "raft snapshot installed");
        self.tell_sender(&transfer, PieceStep::Finished, context);
        self.step_core(transfer.offer);
        Ok(())
    }

    /// Reminds the leader that this replica's log is worth nothing without a state. The core has such a request, but
    /// makes it only in the term of the last entry; to the leader it looks the same.
    fn request_snapshot(&mut self, context: &mut Context<'_>) {
        let raft = &self.raw.raft;
        let storage = self.raw.store();
        // What is not yet on disk must not be told.
        if raft.leader_id == 0 || raft.leader_id == raft.id || raft.term != storage.stored_term() {
            return;
        }
        let last = storage.last();
        let mut request = Message {
            to: raft.leader_id,
            from: raft.id,
            term: raft.term,
            index: last.index,
            reject: true,
            reject_hint: last.index,
            log_term: last.term,
            request_snapshot: storage.truncated().index.max(1),
            ..Message::default()
        };
        request.set_msg_type(MessageType::MsgAppendResponse);
        context.mail.put(self.id, &request);
    }
}
