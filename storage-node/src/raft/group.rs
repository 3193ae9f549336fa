//! One group on one node: the Raft core, its log, its state machine, and who waits for them. It follows the core's
//! contract: persist a Ready before sending what promises durability, apply only what is committed and persisted.

use std::sync::Arc;

use annulus_common::ids::{GroupId, NodeId};
use bytes::Bytes;
use parking_lot::Mutex;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{Config, RawNode, ReadOnlyOption, Ready, SnapshotStatus, StateRole};
use xxhash_rust::xxh3::xxh3_64;

use super::frame::Mail;
use super::input::{Fetch, Reply};
use super::install::Transfer;
use super::membership;
use super::proposals::{Proposals, UNCOMMITTED_BYTES_MAX, not_leader};
use super::reads::Reads;
use super::snapshot::{KeyRange, Outcome, SnapshotStore};
use super::storage::{BOOTSTRAP, GroupStorage, Position};
use super::types::{CounterCells, GroupSpec, Limits, StatusCell, count};
use super::worker::Writer;
use super::{RaftError, StateMachine, guard, logger, status};
use crate::kv::{Batch, Durability, Kv};

/// Ticks between heartbeats: 400 ms.
const HEARTBEAT_TICKS: usize = 4;
/// Ticks without a leader until an election, at least: 1.5 s...
const ELECTION_TICKS_MIN: usize = 15;
/// ... and less than 2.5 s, so that with an election and a retry of the client writes go on within 3 s in all of many groups.
const ELECTION_TICKS_MAX: usize = 25;
/// Bytes of entries in one message, so that none holds up a connection.
const MESSAGE_BYTES_MAX: u64 = 512 << 10;
/// Messages of entries on their way to one follower. Beyond it, entries gather in fewer and larger messages.
const INFLIGHT_MESSAGES_MAX: usize = 64;
/// Bytes of entries that are applied before the other groups have their turn.
const APPLY_BYTES_PER_READY: u64 = 4 << 20;
/// Ticks after a new group's start at which its designated first leader stands for election, without waiting for its
/// time.
const FIRST_ELECTION_TICKS: [u64; 3] = [1, 4, 9];

/// What a group needs from its worker while it works.
pub(super) struct Context<'a> {
    /// Ticks since the worker's start.
    pub(super) now: u64,
    pub(super) draining: bool,
    pub(super) mail: &'a mut Mail,
    pub(super) writer: &'a mut Writer,
    pub(super) fetches: &'a mut Vec<Fetch>,
    pub(super) counters: &'a CounterCells,
}

/// What a group keeps for all its life.
pub(super) struct Home {
    pub(super) node: NodeId,
    pub(super) seed: u64,
    pub(super) kv: Arc<dyn Kv>,
    pub(super) outgoing: Arc<SnapshotStore>,
}

/// One group.
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) home: Arc<Home>,
    pub(super) raw: RawNode<GroupStorage>,
    pub(super) machine: Box<dyn StateMachine>,
    pub(super) transfer: Option<Transfer>,
    proposals: Proposals,
    reads: Reads,
    pub(super) membership: Option<membership::Waiting>,
    pub(super) status: StatusCell,
    /// Odd while the state is incomplete; see [`GroupStatus::generation`].
    pub(super) generation: u64,
    created: u64,
    /// Whether this is a new group, and this node the one that should lead it first.
    is_first_leader: bool,
}

impl Group {
    /// Starts a group: from what is stored, else from its spec.
    pub(super) fn create(
        home: Arc<Home>,
        spec: &GroupSpec,
        machine: Box<dyn StateMachine>,
        now: u64,
        writer: &mut Writer,
    ) -> Result<Self, RaftError> {
        let (table, lower, upper) = machine.range();
        let range = KeyRange { table, lower, upper };
        let stored = GroupStorage::open(Arc::clone(&home.kv), spec.group, range.clone(), Arc::clone(&home.outgoing))?;
        let storage = match stored {
            Some(storage) => storage,
            None => {
                let mut batch = Batch::default();
                let (kv, outgoing) = (Arc::clone(&home.kv), Arc::clone(&home.outgoing));
                let storage = GroupStorage::bootstrap(kv, spec, range, outgoing, &mut batch);
                writer.write(batch, Durability::Synced)?;
                storage
            }
        };
        let first = spec.voters.get(spec.group.0 as usize % spec.voters.len().max(1));
        let is_first_leader = first == Some(&home.node) && storage.last() == BOOTSTRAP;
        let generation = u64::from(storage.installing());
        let raw = new_core(&home, spec.group, storage)?;
        let status = Arc::new(Mutex::new(status::initial()));
        let mut group = Self {
            id: spec.group,
            home,
            raw,
            machine,
            transfer: None,
            proposals: Proposals::default(),
            reads: Reads::default(),
            membership: None,
            status,
            generation,
            created: now,
            is_first_leader,
        };
        group.campaign_if_alone();
        group.publish();
        Ok(group)
    }

    /// Where the group publishes its status.
    pub(super) fn status(&self) -> StatusCell {
        Arc::clone(&self.status)
    }

    pub(super) fn leads(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Whether there is a leadership here that somebody else could have.
    pub(super) fn leads_others(&self) -> bool {
        self.leads() && self.raw.store().conf().voters.iter().any(|id| *id != self.home.node.0)
    }

    pub(super) fn has_ready(&self) -> bool {
        self.raw.has_ready()
    }

    /// Whether the state machine's range is incomplete: nothing may be applied, and this replica must not lead.
    pub(super) fn is_incomplete(&self) -> bool {
        self.raw.store().installing()
    }

    // What comes in.

    pub(super) fn propose(&mut self, command: Bytes, reply: Reply<Bytes>) {
        self.proposals.push(command, reply);
    }

    pub(super) fn read(&mut self, reply: Reply<()>, now: u64) {
        self.reads.push(reply, now);
    }

    /// Takes a message of a peer.
    pub(super) fn step(&mut self, from: NodeId, message: Message, context: &mut Context<'_>) {
        let raft = &self.raw.raft;
        let view = guard::View { node: self.home.node, term: raft.term, last_index: raft.raft_log.last_index() };
        if let Err(reason) = guard::check(&message, from, &view) {
            count(&context.counters.messages_refused);
            tracing::warn!(group = self.id.0, from = from.0, reason, "raft message refused");
            return;
        }
        match message.get_msg_type() {
            MessageType::MsgSnapshot => return self.offered_snapshot(message, context),
            MessageType::MsgTimeoutNow if self.is_incomplete() || context.draining => return,
            // Who waits to be made a member has nothing to judge a candidate by, and would vote for one whose membership is
            // long out of date. It has no vote before it knows the members.
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote
                if self.raw.store().conf().voters.is_empty() =>
            {
                return;
            }
            // The follower has lost the snapshot that it was sent, and knows it before our idle time is over.
            MessageType::MsgAppendResponse
                if message.reject && message.request_snapshot != 0 && self.home.outgoing.cancel(self.id, from) =>
            {
                self.raw.report_snapshot(from.0, SnapshotStatus::Failure);
            }
            _ => {}
        }
        self.step_core(message);
    }

    /// The core refuses what is late or comes from strangers; that is the network's normal course.
    pub(super) fn step_core(&mut self, message: Message) {
        if let Err(error) = self.raw.step(message) {
            tracing::trace!(group = self.id.0, %error, "raft message ignored");
        }
    }

    pub(super) fn unreachable(&mut self, peer: NodeId) {
        if self.leads() {
            self.raw.report_unreachable(peer.0);
        }
    }

    /// A snapshot that we sent has arrived, or not.
    pub(super) fn snapshot_ended(&mut self, outcome: Outcome) {
        let status = if outcome.installed { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(outcome.to.0, status);
    }

    /// Asks another voter to take over.
    pub(super) fn transfer_leader(&mut self, to: NodeId) -> Result<(), RaftError> {
        if !self.leads() {
            return Err(not_leader(&self.raw));
        }
        if !self.raw.store().conf().voters.contains(&to.0) {
            return Err(RaftError::Refused { reason: "the node is not a voter" });
        }
        self.raw.transfer_leader(to.0);
        Ok(())
    }

    // Time.

    /// A tick passed.
    pub(super) fn tick(&mut self, context: &mut Context<'_>) {
        self.proposals.expire(context.now);
        self.reads.expire(context.now);
        if self.membership.as_ref().is_some_and(|waiting| waiting.is_late(context.now)) {
            self.answer_membership(Err(RaftError::TimedOut));
        }
        self.tick_install(context);
        if self.is_incomplete() || (context.draining && !self.leads()) {
            // It must not stand for election; but time passes, or it would refuse its vote to others for ever.
            let elapsed = &mut self.raw.raft.election_elapsed;
            *elapsed = (*elapsed + 1).min(ELECTION_TICKS_MIN);
            return;
        }
        let ticks = election_ticks(&self.home, self.id, self.raw.raft.term);
        self.raw.raft.set_randomized_election_timeout(ticks);
        self.raw.tick();
        self.campaign_first(context.now);
        if context.draining {
            self.hand_over();
        }
    }

    /// A new group need not wait for a time-out: one of its voters, another for each group, stands at once.
    fn campaign_first(&mut self, now: u64) {
        let raft = &self.raw.raft;
        let is_new = raft.term == BOOTSTRAP.term && raft.leader_id == 0 && raft.state == StateRole::Follower;
        if self.is_first_leader && is_new && FIRST_ELECTION_TICKS.contains(&(now - self.created)) {
            self.campaign();
        }
    }

    /// A voter without others has nobody to wait for.
    fn campaign_if_alone(&mut self) {
        if self.raw.raft.prs().is_singleton() && self.raw.raft.promotable() && !self.is_incomplete() {
            self.campaign();
        }
    }

    fn campaign(&mut self) {
        if let Err(error) = self.raw.campaign() {
            tracing::debug!(group = self.id.0, %error, "raft election not begun");
        }
    }

    /// Passes the leadership to the most up-to-date voter that answers, if there is one.
    pub(super) fn hand_over(&mut self) {
        // A transfer under way is left alone: the core gives it up by itself after an election time-out.
        if !self.leads() || self.raw.raft.lead_transferee.is_some() {
            return;
        }
        let voters = &self.raw.store().conf().voters;
        let others = self
            .raw
            .raft
            .prs()
            .iter()
            .filter(|(id, progress)| **id != self.home.node.0 && voters.contains(id) && progress.recent_active);
        let best = others.max_by_key(|(id, progress)| (progress.matched, u64::MAX - **id)).map(|(id, _)| *id);
        if let Some(best) = best {
            self.raw.transfer_leader(best);
        }
    }

    // The core's cycle.

    /// Gives the core what has gathered, before it is asked what to do.
    pub(super) fn submit(&mut self, now: u64) {
        self.check_change();
        self.proposals.submit(&mut self.raw, now);
        self.reads.submit(&mut self.raw);
        self.leave_joint();
    }

    /// What the core wants done: entries and hard state go into `batch`, what a leader may say before they are written
    /// into `mail`.
    pub(super) fn collect(&mut self, batch: &mut Batch, mail: &mut Mail) -> Option<Ready> {
        if !self.raw.has_ready() {
            return None;
        }
        let mut ready = self.raw.ready();
        assert!(ready.snapshot().is_empty(), "the core is given a snapshot only when its log already ends there");
        for message in ready.take_messages() {
            mail.put(self.id, &message);
        }
        let entries = ready.take_entries();
        let storage = self.raw.mut_store();
        if let Some(hard) = ready.hs() {
            storage.set_hard(hard.clone(), batch);
        }
        storage.append(entries, batch);
        Some(ready)
    }

    /// The batch is written: says what depended on it, and applies what is committed.
    pub(super) fn finish(&mut self, mut ready: Ready, context: &mut Context<'_>) -> Result<(), RaftError> {
        for state in ready.take_read_states() {
            self.reads.confirm(&state);
        }
        for message in ready.take_persisted_messages() {
            context.mail.put(self.id, &message);
        }
        let mut committed = ready.take_committed_entries();
        let mut light = self.raw.advance_append(ready);
        for message in light.take_messages() {
            context.mail.put(self.id, &message);
        }
        committed.extend(light.take_committed_entries());
        if !self.is_incomplete() {
            self.apply(committed, context.writer)?;
        }
        self.reads.applied(self.raw.store().applied().index);
        Ok(())
    }

    /// The turn is over: publishes, cuts the log, and answers those who wait for a leadership that is gone.
    pub(super) fn settle(&mut self, limits: &Limits, batch: &mut Batch) -> Result<(), RaftError> {
        self.proposals.check_leadership(&self.raw);
        self.publish();
        let needed_after = self.needed_after();
        let cut = self.raw.mut_store().compact(limits, needed_after, batch);
        cut.map(|_| ()).map_err(|error| RaftError::Storage { reason: error.to_string() })
    }

    /// Answers everyone who waits.
    pub(super) fn stop(&mut self, error: &RaftError) {
        self.proposals.stop(error);
        self.reads.stop(error);
        self.answer_membership(Err(error.clone()));
    }

    fn apply(&mut self, entries: Vec<Entry>, writer: &mut Writer) -> Result<(), RaftError> {
        let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(()) };
        for entry in entries {
            let mut batch = Batch::default();
            let reply = match entry.get_entry_type() {
                EntryType::EntryNormal if entry.data.is_empty() => None,
                EntryType::EntryNormal => Some(self.machine.apply(entry.index, &entry.data, &mut batch)),
                EntryType::EntryConfChangeV2 => {
                    self.apply_membership(&entry, &mut batch);
                    None
                }
                // The older form, which is never proposed here.
                EntryType::EntryConfChange => None,
            };
            self.raw.mut_store().set_applied(Position { index: entry.index, term: entry.term }, &mut batch);
            writer.write(batch, Durability::Buffered)?;
            self.proposals.applied(entry.index, entry.term, reply.unwrap_or_default());
            self.membership_applied(&entry);
        }
        self.raw.advance_apply_to(last);
        Ok(())
    }

    /// Starts the core anew from what is stored, as after a restart.
    pub(super) fn reopen(&mut self) -> Result<(), RaftError> {
        let range = self.raw.store().range().clone();
        let (kv, outgoing) = (Arc::clone(&self.home.kv), Arc::clone(&self.home.outgoing));
        let storage = GroupStorage::open(kv, self.id, range, outgoing)?;
        let storage = storage.ok_or(RaftError::Storage { reason: "a group that runs is not stored".into() })?;
        self.raw = new_core(&self.home, self.id, storage)?;
        Ok(())
    }
}

fn new_core(home: &Home, group: GroupId, storage: GroupStorage) -> Result<RawNode<GroupStorage>, RaftError> {
    let config = Config {
        id: home.node.0,
        election_tick: ELECTION_TICKS_MIN,
        min_election_tick: ELECTION_TICKS_MIN,
        max_election_tick: ELECTION_TICKS_MAX,
        heartbeat_tick: HEARTBEAT_TICKS,
        applied: storage.applied_for_core(),
        max_size_per_msg: MESSAGE_BYTES_MAX,
        max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
        max_uncommitted_size: UNCOMMITTED_BYTES_MAX as u64,
        max_committed_size_per_ready: APPLY_BYTES_PER_READY,
        check_quorum: true,
        pre_vote: true,
        read_only_option: ReadOnlyOption::Safe,
        ..Config::default()
    };
    RawNode::new(&config, storage, &logger::of_group(home.node, group))
        .map_err(|error| RaftError::Storage { reason: error.to_string() })
}

/// How long a replica waits for a leader in a term. The core draws lots; this is drawn from the seed instead, so that a
/// simulation can be repeated. Another term gives another draw, so two candidates do not tie for ever.
fn election_ticks(home: &Home, group: GroupId, term: u64) -> usize {
    let mut bytes = [0; 28];
    bytes[..8].copy_from_slice(&home.seed.to_be_bytes());
    bytes[8..16].copy_from_slice(&home.node.0.to_be_bytes());
    bytes[16..20].copy_from_slice(&group.0.to_be_bytes());
    bytes[20..].copy_from_slice(&term.to_be_bytes());
    let spread = (ELECTION_TICKS_MAX - ELECTION_TICKS_MIN) as u64;
    ELECTION_TICKS_MIN + (xxh3_64(&bytes) % spread) as usize
}
