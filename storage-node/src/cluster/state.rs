//! The state machine of group 0: the cluster map, changed in the group's order and kept in the database.
//!
//! It holds the map in memory and shows it to the rest of the node through [`MapState`]. What a change means is
//! `common::map::change`'s; who may ask for one and who waits for it is `watch`'s.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use annulus_common::ids::RequestId;
use annulus_common::map::change::{MapEntry, MapRefusal, MapReply};
use annulus_common::map::size::{Growth, MapSize, RECORDS_MAX, SizeLimit};
use annulus_common::map::{ClusterMap, MapVersion};
use annulus_common::protocol::{self, DecodeError};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::records::{self, Done, HISTORY_BYTES_MAX, HISTORY_MAX, Loaded, Part};
use crate::kv::{Batch, Kv, KvError, Table};
use crate::raft::StateMachine;

/// Changes that one update carries at most; who is further behind asks again.
const UPDATE_CHANGES_MAX: usize = 256;

/// Bytes of changes that one update carries at most, but for one that is larger alone: they travel in a header (2 MiB).
const UPDATE_BYTES_MAX: usize = 1 << 20;

/// What the state machine answers to a change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The version of the map that has the change; of a refusal, that which it was judged by.
    pub version: MapVersion,
    /// The answer.
    pub result: Result<MapReply, MapRefusal>,
}

/// A change as the Raft log holds it.
pub fn encode_command(entry: &MapEntry) -> Bytes {
    protocol::encode(entry)
}

/// What the state machine answered to a proposal.
pub fn decode_outcome(reply: &[u8]) -> Result<Outcome, DecodeError> {
    protocol::decode(reply)
}

/// The map as this node has applied it. Clones share it.
#[derive(Clone)]
pub struct MapState {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<Option<State>>,
    news: watch::Sender<MapVersion>,
}

struct State {
    /// Copied before a change only while somebody else holds it, or where it may turn out that the change makes it too large.
    map: Arc<ClusterMap>,
    /// That of the map.
    size: MapSize,
    history: VecDeque<Remembered>,
    /// Of the changes in `history`, with their answers.
    history_bytes: usize,
    /// Versions of the changes in `history`.
    requests: HashMap<RequestId, MapVersion>,
}

/// What a watcher lacks.
pub enum Lack {
    /// Nothing.
    Nothing,
    /// These changes, and others after them if there are `more`.
    Changes {
        /// In their order.
        entries: Vec<MapEntry>,
        /// Whether others follow.
        more: bool,
    },
    /// Everything: it has to begin with this map.
    Everything(Arc<ClusterMap>),
}

impl Lack {
    /// Whether a watcher that is told it lacks nothing afterwards.
    pub fn is_all_told(&self) -> bool {
        matches!(self, Lack::Nothing | Lack::Changes { more: false, .. })
    }
}

/// A change that was carried out, and how large it is with its answer.
struct Remembered {
    done: Done,
    bytes: usize,
}

impl Remembered {
    fn of(done: Done) -> Self {
        let bytes = protocol::encode(&done).len();
        Self { done, bytes }
    }
}

impl MapState {
    /// The map as it is now; nothing before the group has begun here.
    pub fn map(&self) -> Option<Arc<ClusterMap>> {
        self.shared.state.lock().as_ref().map(|state| Arc::clone(&state.map))
    }

    /// The version of the map.
    pub fn version(&self) -> MapVersion {
        *self.shared.news.borrow()
    }

    /// Tells of new versions.
    pub fn news(&self) -> watch::Receiver<MapVersion> {
        self.shared.news.subscribe()
    }

    /// What a watcher that has `have` lacks; nothing before the group has begun here.
    pub fn lack_since(&self, have: Option<MapVersion>) -> Option<Lack> {
        self.shared.state.lock().as_ref().map(|state| state.lack_since(have))
    }
}

impl State {
    fn of(loaded: Loaded) -> Self {
        let Loaded { map, history } = loaded;
        let first = map.version.0 - history.len() as u64 + 1;
        let requests = history.iter().enumerate().map(|(at, done)| (done.entry.request, MapVersion(first + at as u64)));
        let requests = requests.collect();
        let history: VecDeque<Remembered> = history.into_iter().map(Remembered::of).collect();
        let history_bytes = history.iter().map(|kept| kept.bytes).sum();
        Self { size: MapSize::of(&map), map: Arc::new(map), history, history_bytes, requests }
    }

    /// The version that the first change of the history led away from.
    fn told_since(&self) -> MapVersion {
        MapVersion(self.map.version.0 - self.history.len() as u64)
    }

    fn lack_since(&self, have: Option<MapVersion>) -> Lack {
        // A watcher that is ahead of a committed map has something else than a copy of it.
        let behind = have.and_then(|have| self.map.version.0.checked_sub(have.0));
        match behind.and_then(|behind| self.history.len().checked_sub(behind as usize)) {
            _ if behind == Some(0) => Lack::Nothing,
            Some(from) => self.changes_from(from),
            None => Lack::Everything(Arc::clone(&self.map)),
        }
    }

    fn changes_from(&self, from: usize) -> Lack {
        let mut bytes = 0;
        let fits = |kept: &&Remembered| {
            bytes += kept.bytes;
            bytes <= UPDATE_BYTES_MAX || bytes == kept.bytes
        };
        let told = self.history.range(from..).take(UPDATE_CHANGES_MAX).take_while(fits);
        let entries: Vec<MapEntry> = told.map(|kept| kept.done.entry.clone()).collect();
        Lack::Changes { more: from + entries.len() < self.history.len(), entries }
    }

    fn apply(&mut self, entry: MapEntry, batch: &mut Batch) -> Outcome {
        if let Some(earlier) = self.answered(entry.request) {
            return earlier;
        }
        let touched = records::touched(&self.map, &entry.change);
        let result = self.carry_out(&entry, &touched);
        if let Ok(reply) = &result {
            let done = Done { entry, reply: reply.clone() };
            records::put_change(&self.map, &touched, &done, batch);
            self.remember(done, batch);
        }
        Outcome { version: self.map.version, result }
    }

    /// Changes the map, unless that makes it larger than it may be.
    fn carry_out(&mut self, entry: &MapEntry, touched: &[Part]) -> Result<MapReply, MapRefusal> {
        let weights =
            |map: &ClusterMap| touched.iter().filter_map(|part| records::weight(map, part)).collect::<Vec<_>>();
        let before = weights(&self.map);
        let to_go_back_to = entry.change.adds().then(|| Arc::clone(&self.map));
        let reply = Arc::make_mut(&mut self.map).apply(entry)?;
        let growth = Growth::between(&before, &weights(&self.map));
        if let Some(as_it_was) = to_go_back_to
            && let Err(limit) = self.judge(&as_it_was, &growth)
        {
            self.map = as_it_was;
            return Err(MapRefusal::TooLarge(limit));
        }
        self.size.grow(&growth);
        Ok(reply)
    }

    fn judge(&self, before: &ClusterMap, growth: &Growth) -> Result<(), SizeLimit> {
        let records = self.map.records();
        if records > RECORDS_MAX && records > before.records() {
            return Err(SizeLimit::Records);
        }
        self.size.judge(growth)
    }

    fn answered(&self, request: RequestId) -> Option<Outcome> {
        let version = *self.requests.get(&request)?;
        let behind = (self.map.version.0 - version.0) as usize;
        let done = &self.history[self.history.len() - 1 - behind].done;
        Some(Outcome { version, result: Ok(done.reply.clone()) })
    }

    fn remember(&mut self, done: Done, batch: &mut Batch) {
        let request = done.entry.request;
        self.requests.insert(request, self.map.version);
        let remembered = Remembered::of(done);
        self.history_bytes += remembered.bytes;
        self.history.push_back(remembered);
        while self.history.len() > HISTORY_MAX || self.history_bytes > HISTORY_BYTES_MAX {
            let version = MapVersion(self.told_since().0 + 1);
            let Some(forgotten) = self.history.pop_front() else { return };
            self.requests.remove(&forgotten.done.entry.request);
            self.history_bytes -= forgotten.bytes;
            records::forget_change(version, batch);
        }
    }
}

/// The state machine of group 0.
pub struct MapMachine {
    kv: Arc<dyn Kv>,
    shared: Arc<Shared>,
}

impl MapMachine {
    /// The machine as the database has it, and the view of its map.
    pub fn open(kv: Arc<dyn Kv>) -> Result<(Self, MapState), KvError> {
        let state = records::load(&*kv)?.map(State::of);
        let version = state.as_ref().map(|state| state.map.version).unwrap_or_default();
        let shared = Arc::new(Shared { state: Mutex::new(state), news: watch::Sender::new(version) });
        Ok((Self { kv, shared: Arc::clone(&shared) }, MapState { shared }))
    }
}

impl StateMachine for MapMachine {
    fn apply(&mut self, _index: u64, command: &[u8], batch: &mut Batch) -> Bytes {
        let entry = protocol::decode::<MapEntry>(command).expect("a committed change was encoded by a member");
        let mut state = self.shared.state.lock();
        let state = state.as_mut().expect("a replica without a map gets it by a snapshot before it applies anything");
        let outcome = state.apply(entry, batch);
        self.shared.news.send_replace(state.map.version);
        protocol::encode(&outcome)
    }

    fn range(&self) -> (Table, Bytes, Bytes) {
        records::range()
    }

    fn restored(&mut self) {
        let loaded = records::load(&*self.kv).expect("a snapshot that was just installed can be read");
        let state = loaded.map(State::of);
        let version = state.as_ref().map(|state| state.map.version).unwrap_or_default();
        *self.shared.state.lock() = state;
        self.shared.news.send_replace(version);
    }
}

#[cfg(test)]
mod tests;
