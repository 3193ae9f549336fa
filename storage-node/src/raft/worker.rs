//! The steppable core: it drives the groups of one thread without being one. It takes inputs, a turn at a time, and has
//! no clock (a tick is an input), no randomness beyond its seed and no I/O beyond the `Kv` and the outbox: a simulation
//! drives it exactly as the thread does.
//!
//! One turn: take all inputs; then, until no group wants anything, one write for all groups (synced if any of them
//! demands it), what a leader may say at once before it, what depends on it after it, and the committed entries
//! applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use annulus_common::ids::{GroupId, NodeId};
use annulus_common::protocol::room::RoomFor;
use bytes::Bytes;
use raft::Ready;

use super::frame::{self, Mail};
use super::group::{Context, Group, Home};
use super::proposals::answer;
use super::snapshot::SnapshotStore;
use super::types::{CounterCells, GroupSpec, Limits, count};
use super::{Fetch, GroupStatus, Input, Outbox, RaftCounters, RaftError, Reply, StateMachine, Statuses};
use crate::kv::{Batch, Durability, Kv, KvError};

/// Cycles of the cores in one turn: then new inputs have their chance, so that nothing can hold up time.
const ROUNDS_MAX: usize = 16;
/// Ticks that a stopping node gives others to take over its leaderships: 2 s.
const DRAIN_TICKS_MAX: u64 = 20;

/// Told of a failed write, and how often it failed: pauses and says whether to try again. Without it, the worker ends.
pub type StoragePatience = Box<dyn FnMut(&KvError, u32) -> bool + Send>;

/// What a worker is.
#[derive(Clone, Copy, Debug)]
pub struct WorkerConfig {
    /// The node it belongs to.
    pub node: NodeId,
    /// What election time-outs derive from.
    pub seed: u64,
    /// Which of the node's workers it is...
    pub index: usize,
    /// ... of how many.
    pub workers: usize,
    /// What it keeps for others.
    pub limits: Limits,
}

/// What the workers of a node share with its handle.
#[derive(Clone)]
pub(super) struct WorkerShared {
    pub(super) statuses: Statuses,
    pub(super) counters: Arc<CounterCells>,
    pub(super) outgoing: Arc<SnapshotStore>,
}

impl WorkerShared {
    pub(super) fn new(kv: Arc<dyn Kv>, limits: &Limits) -> Self {
        let outgoing = Arc::new(SnapshotStore::new(kv, limits.piece_bytes));
        Self { statuses: Statuses::default(), counters: Arc::default(), outgoing }
    }
}

/// Writes, and does not give up easily.
pub(super) struct Writer {
    kv: Arc<dyn Kv>,
    patience: StoragePatience,
}

impl Writer {
    /// Whether there is room for a group's state that comes from elsewhere.
    pub(super) fn has_room(&self) -> bool {
        self.kv.room() == RoomFor::Growth
    }

    /// Returns when the batch is written. An error means that the worker must end: what is in memory may be ahead of
    /// the disk.
    pub(super) fn write(&mut self, batch: Batch, durability: Durability) -> Result<(), RaftError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut attempt = 0;
        loop {
            let Err(error) = self.kv.write(batch.clone(), durability) else { return Ok(()) };
            attempt += 1;
            if !(self.patience)(&error, attempt) {
                return Err(error.into());
            }
        }
    }
}

/// Drives groups.
pub struct Worker {
    config: WorkerConfig,
    home: Arc<Home>,
    shared: WorkerShared,
    groups: BTreeMap<GroupId, Group>,
    /// The groups to which something happened: no others are looked at.
    touched: BTreeSet<GroupId>,
    outbox: Outbox,
    mail: Mail,
    writer: Writer,
    fetches: Vec<Fetch>,
    /// Ticks so far.
    now: u64,
    /// The tick at which a draining worker stops waiting.
    drain_until: Option<u64>,
}

impl Worker {
    /// A worker without groups.
    pub fn new(config: WorkerConfig, kv: Arc<dyn Kv>, outbox: Outbox, patience: StoragePatience) -> Self {
        let shared = WorkerShared::new(Arc::clone(&kv), &config.limits);
        Self::with_shared(config, kv, outbox, patience, shared)
    }

    pub(super) fn with_shared(
        config: WorkerConfig,
        kv: Arc<dyn Kv>,
        outbox: Outbox,
        patience: StoragePatience,
        shared: WorkerShared,
    ) -> Self {
        let outgoing = Arc::clone(&shared.outgoing);
        let home = Arc::new(Home { node: config.node, seed: config.seed, kv: Arc::clone(&kv), outgoing });
        Self {
            config,
            home,
            shared,
            groups: BTreeMap::new(),
            touched: BTreeSet::new(),
            outbox,
            mail: Mail::default(),
            writer: Writer { kv, patience },
            fetches: Vec::new(),
            now: 0,
            drain_until: None,
        }
    }

    /// Does everything that follows from the inputs, and returns what to fetch from others. After an error the worker
    /// is at its end: it may only be stopped, and its node must not go on.
    pub fn turn(&mut self, inputs: Vec<Input>) -> Result<Vec<Fetch>, RaftError> {
        for input in inputs {
            self.take(input)?;
        }
        for _ in 0..ROUNDS_MAX {
            if !self.round()? {
                break;
            }
        }
        self.settle()?;
        self.mail.post(&self.outbox);
        Ok(std::mem::take(&mut self.fetches))
    }

    /// Whether a turn without inputs would do something.
    pub fn has_work(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Whether a draining worker has done what it could.
    pub fn is_drained(&self) -> bool {
        self.drain_until.is_some_and(|until| self.now >= until || !self.groups.values().any(Group::leads_others))
    }

    /// Answers everyone who waits with `error`. The worker must not be used any more.
    pub fn stop(&mut self, error: &RaftError) {
        for group in self.groups.values_mut() {
            group.stop(error);
        }
    }

    /// What a group last published.
    pub fn status(&self, group: GroupId) -> Option<GroupStatus> {
        self.shared.statuses.read().get(&group).map(|cell| cell.lock().clone())
    }

    /// How often something was dropped.
    pub fn counters(&self) -> RaftCounters {
        self.shared.counters.read()
    }

    /// Answers a peer's request for a piece of a snapshot, and says what to tell this worker, if anything.
    pub async fn serve_snapshot(&self, peer: NodeId, request: Bytes) -> (Bytes, Option<Input>) {
        let (reply, outcome) = self.shared.outgoing.answer(peer, &request).await;
        (reply, outcome.map(Input::SnapshotEnded))
    }

    fn take(&mut self, input: Input) -> Result<(), RaftError> {
        match input {
            Input::Create { spec, machine, reply } => answer(reply, self.create(&spec, machine)),
            Input::Destroy { group, reply } => {
                let result = self.destroy(group);
                answer(reply, result);
            }
            Input::Propose { group, command, reply } => {
                self.with_or_refuse(group, reply, |group, reply, _| group.propose(command, reply));
            }
            Input::Read { group, reply } => {
                self.with_or_refuse(group, reply, |group, reply, context| group.read(reply, context.now));
            }
            Input::ChangeMembership { group, change, reply } => {
                self.with_or_refuse(group, reply, |group, reply, context| {
                    group.change_membership(&change, reply, context.now);
                });
            }
            Input::TransferLeader { group, to, reply } => {
                self.with_or_refuse(group, reply, |group, reply, _| answer(reply, group.transfer_leader(to)));
            }
            Input::Frame { from, frame } => self.take_frame(from, frame),
            Input::Unreachable { peer } => self.for_each(|group, _| group.unreachable(peer)),
            Input::Fetched { group, index, after, result } => {
                return self
                    .with(group, |group, context| group.fetched(index, &after, result, context))
                    .unwrap_or(Ok(()));
            }
            Input::SnapshotEnded(outcome) => {
                self.with(outcome.group, |group, _| group.snapshot_ended(outcome));
            }
            Input::Tick => self.tick(),
            Input::Drain => {
                self.drain_until = Some(self.now + DRAIN_TICKS_MAX);
                self.for_each(|group, _| group.hand_over());
            }
        }
        Ok(())
    }

    fn create(&mut self, spec: &GroupSpec, machine: Box<dyn StateMachine>) -> Result<(), RaftError> {
        if self.groups.contains_key(&spec.group) {
            return Err(RaftError::Refused { reason: "the group runs already" });
        }
        let group = Group::create(Arc::clone(&self.home), spec, machine, self.now, &mut self.writer)?;
        self.shared.statuses.write().insert(spec.group, group.status());
        self.groups.insert(spec.group, group);
        self.touched.insert(spec.group);
        Ok(())
    }

    fn destroy(&mut self, id: GroupId) -> Result<(), RaftError> {
        let mut group = self.groups.remove(&id).ok_or(RaftError::NoSuchGroup)?;
        self.touched.remove(&id);
        self.shared.statuses.write().remove(&id);
        // What was proposed may be applied by those who remain.
        group.stop(&RaftError::Uncertain);
        let mut batch = Batch::default();
        group.raw.store().destroy(&mut batch);
        self.writer.write(batch, Durability::Synced)
    }

    fn take_frame(&mut self, from: NodeId, frame: Bytes) {
        let (messages, result) = frame::decode(frame);
        for (group, message) in messages {
            if self.with(group, |group, context| group.step(from, message, context)).is_none() {
                count(&self.shared.counters.messages_unknown_group);
            }
        }
        if let Err(error) = result {
            count(&self.shared.counters.frames_malformed);
            tracing::warn!(from = from.0, %error, "raft frame dropped");
        }
    }

    fn tick(&mut self) {
        self.now += 1;
        self.for_each(|group, context| group.tick(context));
        let WorkerConfig { index, workers, .. } = self.config;
        let given_up = self.shared.outgoing.tick(|group| group.0 as usize % workers == index);
        for outcome in given_up {
            self.with(outcome.group, |group, _| group.snapshot_ended(outcome));
        }
    }

    /// One cycle of all cores that want one. Whether there were any.
    fn round(&mut self) -> Result<bool, RaftError> {
        let mut batch = Batch::default();
        let mut readies: Vec<(GroupId, Ready)> = Vec::new();
        for id in &self.touched {
            let Some(group) = self.groups.get_mut(id) else { continue };
            group.submit(self.now);
            if let Some(ready) = group.collect(&mut batch, &mut self.mail) {
                readies.push((*id, ready));
            }
        }
        self.mail.post(&self.outbox);
        let must_sync = readies.iter().any(|(_, ready)| ready.must_sync());
        self.writer.write(batch, if must_sync { Durability::Synced } else { Durability::Buffered })?;
        let any = !readies.is_empty();
        for (id, ready) in readies {
            self.with(id, |group, context| group.finish(ready, context)).unwrap_or(Ok(()))?;
        }
        self.mail.post(&self.outbox);
        Ok(any)
    }

    fn settle(&mut self) -> Result<(), RaftError> {
        let mut batch = Batch::default();
        for id in &self.touched {
            if let Some(group) = self.groups.get_mut(id) {
                group.settle(&self.config.limits, &mut batch)?;
            }
        }
        let groups = &self.groups;
        self.touched.retain(|id| groups.get(id).is_some_and(Group::has_ready));
        self.writer.write(batch, Durability::Buffered)
    }

    fn for_each(&mut self, mut act: impl FnMut(&mut Group, &mut Context<'_>)) {
        let ids: Vec<_> = self.groups.keys().copied().collect();
        for id in ids {
            self.with(id, &mut act);
        }
    }

    fn with_or_refuse<T>(
        &mut self,
        id: GroupId,
        reply: Reply<T>,
        act: impl FnOnce(&mut Group, Reply<T>, &mut Context<'_>),
    ) {
        if self.groups.contains_key(&id) {
            self.with(id, |group, context| act(group, reply, context));
        } else {
            answer(reply, Err(RaftError::NoSuchGroup));
        }
    }

    fn with<T>(&mut self, id: GroupId, act: impl FnOnce(&mut Group, &mut Context<'_>) -> T) -> Option<T> {
        let group = self.groups.get_mut(&id)?;
        self.touched.insert(id);
        let mut context = Context {
            now: self.now,
            draining: self.drain_until.is_some(),
            mail: &mut self.mail,
            writer: &mut self.writer,
            fetches: &mut self.fetches,
            counters: &self.shared.counters,
        };
        Some(act(group, &mut context))
    }
}
