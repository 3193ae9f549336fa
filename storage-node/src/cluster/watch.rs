//! The service of group 0's leader: watchers are told of changes and given leases, and a change is acknowledged when it is in
//! force everywhere. The watcher's side is `common::map::watch`; the arithmetic of leases is `leases`.

use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::{GroupId, InstanceId};
use annulus_common::map::MapVersion;
use annulus_common::map::change::{DOCUMENT_BYTES_MAX, MapChange, MapEntry, MapRefusal, MapReply};
use annulus_common::map::watch::POLL_HOLD;
use annulus_common::protocol::{MapUpdate, Refusal};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::copies::{Beginning, Copies};
use super::leases::Leases;
use super::state::{self, Lack, MapState};
use crate::raft::{COMMAND_BYTES_MAX, RaftError, RaftNode, Role};
use crate::refusal;

/// How often waiting for leases looks at the clock without being told of anything.
const RECHECK: Duration = Duration::from_millis(50);

/// The largest change: names, keys and addresses are far smaller, and an update carries up to 256.
const CHANGE_BYTES_MAX: usize = 4 << 10;

/// The largest change of the layout: all replicas of 4,096 partitions are 70 KiB.
const LAYOUT_BYTES_MAX: usize = 128 << 10;

/// The largest change of a document.
const DOCUMENT_CHANGE_BYTES_MAX: usize = DOCUMENT_BYTES_MAX + CHANGE_BYTES_MAX;

const _: () = assert!(DOCUMENT_CHANGE_BYTES_MAX <= COMMAND_BYTES_MAX && LAYOUT_BYTES_MAX <= COMMAND_BYTES_MAX);

/// Group 0's service on this node. It answers only while the node leads the group.
pub struct MapService {
    raft: RaftNode,
    state: MapState,
    registry: Registry,
    copies: Copies,
}

impl MapService {
    /// The service over the group's state.
    pub fn new(raft: RaftNode, state: MapState, clock: SharedClock) -> Self {
        Self { raft, state, copies: Copies::new(clock.clone()), registry: Registry::new(clock) }
    }

    /// Answers a watcher: at once when there is news or `hold` is not set, otherwise after a part of the lease. The first piece of
    /// the map goes with an update that is the whole of it.
    pub async fn watch(
        &self,
        watcher: InstanceId,
        have: Option<MapVersion>,
        hold: bool,
    ) -> Result<(MapUpdate, Bytes), Refusal> {
        self.copies.forget_unused();
        self.registry.confirm(watcher, have);
        // Everything acknowledged before the poll is applied here after this: the lease may be counted from the poll on.
        self.raft.read_index(GroupId::CLUSTER_MAP).await.map_err(refusal::of_read)?;
        if let (true, Some(have)) = (hold, have) {
            let mut news = self.state.news();
            // The sender lives in the state, so only time ends the wait otherwise.
            let _ = tokio::time::timeout(POLL_HOLD, news.wait_for(|version| *version > have)).await;
        }
        let term = self.term_led()?;
        let lack = || {
            let lack = self.state.lack_since(have);
            let is_all_told = lack.as_ref().is_some_and(Lack::is_all_told);
            (lack, is_all_told)
        };
        let lack = self.registry.renew(term, watcher, have, lack)?;
        match lack.ok_or_else(|| Refusal::NotReady("no cluster map yet".into()))? {
            Lack::Nothing => Ok((MapUpdate::Current, Bytes::new())),
            Lack::Changes { entries, more } => Ok((MapUpdate::Changes { entries, more }, Bytes::new())),
            Lack::Everything(map) => {
                let Beginning { version, bytes, first } = self.copies.begin(&map);
                Ok((MapUpdate::Whole { version, bytes }, first))
            }
        }
    }

    /// A piece of a map that a watcher was told to begin with.
    pub fn piece(&self, version: MapVersion, from: u64) -> Result<Bytes, Refusal> {
        let gone = || Refusal::NotReady("that copy of the cluster map is not kept here: begin anew".into());
        self.copies.piece(version, from).ok_or_else(gone)
    }

    /// Carries out a change; returns when no watcher serves from a map without it any more.
    pub async fn change(&self, entry: &MapEntry) -> Result<Result<MapReply, MapRefusal>, Refusal> {
        let command = state::encode_command(entry);
        Self::check_bounds(entry, &command)?;
        // Noted before the change, so that the wait below is counted from as early as is true.
        let _ = self.term_led().map(|term| self.registry.lead(term));
        let reply = self.raft.propose(GroupId::CLUSTER_MAP, command).await.map_err(refusal::of_proposal)?;
        let outcome = state::decode_outcome(&reply).map_err(|error| Refusal::Storage(error.to_string()))?;
        if outcome.result.is_ok() {
            if let Ok(term) = self.term_led() {
                self.registry.lead(term);
            }
            self.registry.in_force(outcome.version).await;
        }
        Ok(outcome.result)
    }

    /// For how long a watcher has not asked for the map, as far as this node knows; nothing if it does not lead.
    pub fn silence(&self, watcher: InstanceId) -> Option<Duration> {
        let term = self.term_led().ok()?;
        Some(self.registry.silence(term, watcher))
    }

    /// Counts everybody's silence from now on: this node was away itself, and did not hear who asked.
    pub fn forgive_silence(&self) {
        self.registry.forgive_silence();
    }

    /// A change must fit into an entry of the log, and into what watchers are told.
    fn check_bounds(entry: &MapEntry, command: &[u8]) -> Result<(), Refusal> {
        let bytes_max = match entry.change {
            MapChange::ChangeLayout(_) | MapChange::Moved(_) => LAYOUT_BYTES_MAX,
            MapChange::ConfigureBucket { .. } | MapChange::Iam { .. } => DOCUMENT_CHANGE_BYTES_MAX,
            _ => CHANGE_BYTES_MAX,
        };
        if command.len() > bytes_max {
            return Err(Refusal::Invalid(format!("such a change of the cluster map has at most {bytes_max} bytes")));
        }
        Ok(())
    }

    fn term_led(&self) -> Result<u64, Refusal> {
        match self.raft.status(GroupId::CLUSTER_MAP) {
            Some(status) if status.role == Role::Leader => Ok(status.term),
            Some(status) => Err(refusal::of_read(RaftError::NotLeader { leader: status.leader })),
            None => Err(refusal::of_read(RaftError::NoSuchGroup)),
        }
    }
}

/// The leases with the clock that they run by, and those who wait for them.
struct Registry {
    clock: SharedClock,
    leases: Mutex<Leases>,
    confirmed: Notify,
}

impl Registry {
    fn new(clock: SharedClock) -> Self {
        Self { clock, leases: Mutex::default(), confirmed: Notify::new() }
    }

    fn lead(&self, term: u64) {
        self.leases.lock().lead(term, self.clock.monotonic());
    }

    fn silence(&self, term: u64, watcher: InstanceId) -> Duration {
        let (mut leases, now) = (self.leases.lock(), self.clock.monotonic());
        leases.lead(term, now);
        leases.silence(watcher, now)
    }

    fn forgive_silence(&self) {
        self.leases.lock().count_silence_from(self.clock.monotonic());
    }

    fn confirm(&self, watcher: InstanceId, has: Option<MapVersion>) {
        self.leases.lock().confirm(watcher, has);
        self.confirmed.notify_waiters();
    }

    /// Takes what the watcher is told, and gives the lease if that is all, in one step: a change that is not in the answer finds
    /// the lease.
    fn renew<T>(
        &self,
        term: u64,
        watcher: InstanceId,
        had: Option<MapVersion>,
        update: impl FnOnce() -> (T, bool),
    ) -> Result<T, Refusal> {
        let mut leases = self.leases.lock();
        let now = self.clock.monotonic();
        leases.lead(term, now);
        let (update, is_all) = update();
        let heard = if is_all { leases.renew(watcher, had, now) } else { leases.note(watcher, had, now) };
        heard.map_err(|_| Refusal::NotReady("too many watchers".into()))?;
        Ok(update)
    }

    /// Returns when no watcher may serve from a map that is older than `version`.
    async fn in_force(&self, version: MapVersion) {
        self.leases.lock().lead_at_least(self.clock.monotonic());
        loop {
            let mut confirmed = std::pin::pin!(self.confirmed.notified());
            confirmed.as_mut().enable();
            let Some(left) = self.leases.lock().outstanding(version, self.clock.monotonic()) else { return };
            let _ = tokio::time::timeout(left.min(RECHECK), confirmed).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use annulus_common::clock::ManualClock;
    use annulus_common::ids::InstanceId;
    use annulus_common::map::MapVersion;
    use futures::FutureExt;

    use super::super::leases::LEASE;
    use super::Registry;

    const WATCHER: InstanceId = InstanceId([1; 16]);

    fn leading() -> (Arc<ManualClock>, Registry) {
        let clock = ManualClock::at(Duration::from_secs(50));
        let registry = Registry::new(clock.clone());
        registry.lead(1);
        clock.advance(LEASE);
        (clock, registry)
    }

    #[tokio::test]
    async fn a_change_waits_for_the_watcher_that_holds_a_lease() {
        let (_clock, registry) = leading();
        registry.renew(1, WATCHER, Some(MapVersion(4)), || ((), true)).unwrap();
        let mut waiting = Box::pin(registry.in_force(MapVersion(5)));
        assert!(waiting.as_mut().now_or_never().is_none());
        // It got the change in an answer: not yet enough.
        registry.renew(1, WATCHER, Some(MapVersion(4)), || ((), true)).unwrap();
        assert!(waiting.as_mut().now_or_never().is_none());
        registry.confirm(WATCHER, Some(MapVersion(5)));
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn a_change_waits_no_longer_than_the_lease() {
        let (clock, registry) = leading();
        registry.renew(1, WATCHER, Some(MapVersion(4)), || ((), true)).unwrap();
        let mut waiting = Box::pin(registry.in_force(MapVersion(5)));
        clock.advance(LEASE - Duration::from_millis(1));
        assert!(waiting.as_mut().now_or_never().is_none());
        clock.advance(Duration::from_millis(1));
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn the_next_leader_waits_for_leases_that_it_does_not_know() {
        let (clock, registry) = leading();
        registry.lead(2);
        let mut waiting = Box::pin(registry.in_force(MapVersion(5)));
        assert!(waiting.as_mut().now_or_never().is_none());
        clock.advance(LEASE);
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    }
}
