//! The state machine of group 0: the cluster map, changed in the group's order and kept in the database.
//!
//! It holds the map in memory and shows it to the rest of the node through [`MapState`]. What a change means is
//! `common::map::change`'s; who may ask for one and who waits for it is `watch`'s.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use annulus_common::ids::RequestId;
use annulus_common::map::change::{MapEntry, MapRefusal, MapReply};
use annulus_common::map::{ClusterMap, MapVersion};
use annulus_common::protocol::{self, DecodeError, MapUpdate};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::records::{self, Done, HISTORY_MAX, Loaded};
use crate::kv::{Batch, Kv, KvError, Table};
use crate::raft::StateMachine;

/// Changes that one update carries at most; who is further behind gets the whole map, which is then hardly larger.
const UPDATE_CHANGES_MAX: u64 = 256;

/// Bytes of changes that one update carries at most: they travel in a header.
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
    /// Copied before a change only while somebody else holds it.
    map: Arc<ClusterMap>,
    history: VecDeque<Remembered>,
    /// Versions of the changes in `history`.
    requests: HashMap<RequestId, MapVersion>,
}

/// A change that was carried out, and how large it is for those who are told of it.
struct Remembered {
    done: Done,
    bytes: usize,
}

impl Remembered {
    fn of(done: Done) -> Self {
        let bytes = protocol::encode(&done.entry).len();
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

    /// What a watcher that has `have` lacks, and the map that it comes to.
    pub fn update_since(&self, have: Option<MapVersion>) -> Option<(MapUpdate, Arc<ClusterMap>)> {
        let state = self.shared.state.lock();
        state.as_ref().map(|state| (state.update_since(have), Arc::clone(&state.map)))
    }
}

impl State {
    fn of(loaded: Loaded) -> Self {
        let Loaded { map, history } = loaded;
        let first = map.version.0 - history.len() as u64 + 1;
        let requests = history.iter().enumerate().map(|(at, done)| (done.entry.request, MapVersion(first + at as u64)));
        let requests = requests.collect();
        Self { map: Arc::new(map), history: history.into_iter().map(Remembered::of).collect(), requests }
    }

    fn update_since(&self, have: Option<MapVersion>) -> MapUpdate {
        let Some(have) = have else { return MapUpdate::Whole };
        // A watcher that is ahead of a committed map has something else than a copy of it.
        let Some(behind) = self.map.version.0.checked_sub(have.0) else { return MapUpdate::Whole };
        match self.history.len().checked_sub(behind as usize) {
            _ if behind == 0 => MapUpdate::Current,
            Some(from) if behind <= UPDATE_CHANGES_MAX && self.bytes_since(from) <= UPDATE_BYTES_MAX => {
                MapUpdate::Changes(self.history.range(from..).map(|kept| kept.done.entry.clone()).collect())
            }
            _ => MapUpdate::Whole,
        }
    }

    fn bytes_since(&self, from: usize) -> usize {
        self.history.range(from..).map(|kept| kept.bytes).sum()
    }

    fn apply(&mut self, entry: MapEntry, batch: &mut Batch) -> Outcome {
        if let Some(earlier) = self.answered(entry.request) {
            return earlier;
        }
        let touched = records::touched(&self.map, &entry.change);
        let result = Arc::make_mut(&mut self.map).apply(&entry);
        if let Ok(reply) = &result {
            let done = Done { entry, reply: reply.clone() };
            records::put_change(&self.map, &touched, &done, batch);
            self.remember(done);
        }
        Outcome { version: self.map.version, result }
    }

    fn answered(&self, request: RequestId) -> Option<Outcome> {
        let version = *self.requests.get(&request)?;
        let behind = (self.map.version.0 - version.0) as usize;
        let done = &self.history[self.history.len() - 1 - behind].done;
        Some(Outcome { version, result: Ok(done.reply.clone()) })
    }

    fn remember(&mut self, done: Done) {
        self.requests.insert(done.entry.request, self.map.version);
        self.history.push_back(Remembered::of(done));
        if self.history.len() > HISTORY_MAX
            && let Some(forgotten) = self.history.pop_front()
        {
            self.requests.remove(&forgotten.done.entry.request);
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
