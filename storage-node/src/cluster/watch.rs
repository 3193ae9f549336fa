//! The service of group 0's leader: watchers are told of changes and given leases, and a change is acknowledged when it is in
//! force everywhere. The watcher's side is `common::map::watch`; the arithmetic of leases is `leases`.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::iam::IamChange;
use annulus_common::ids::{GroupId, InstanceId};
use annulus_common::map::change::{DOCUMENT_BYTES_MAX, MapChange, MapEntry, MapRefusal, MapReply};
use annulus_common::map::watch::POLL_HOLD;
use annulus_common::map::{ClusterMap, MapVersion};
use annulus_common::protocol::{self, MapUpdate, Refusal};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::leases::Leases;
use super::state::{self, MapState};
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

/// Users, groups, roles and policies of all accounts, encoded: half of what a payload takes.
const IDENTITIES_BYTES_MAX: usize = 4 << 20;

/// Buckets, accounts and keys together, about 150 bytes each: a map that is larger than a payload could not be sent.
const RECORDS_MAX: usize = 32_000;

/// Group 0's service on this node. It answers only while the node leads the group.
pub struct MapService {
    raft: RaftNode,
    state: MapState,
    registry: Registry,
}

impl MapService {
    /// The service over the group's state.
    pub fn new(raft: RaftNode, state: MapState, clock: SharedClock) -> Self {
        Self { raft, state, registry: Registry::new(clock) }
    }

    /// Answers a watcher: at once when there is news or `hold` is not set, otherwise after a part of the lease. The map goes with
    /// an update that is the whole of it.
    pub async fn watch(
        &self,
        watcher: InstanceId,
        have: Option<MapVersion>,
        hold: bool,
    ) -> Result<(MapUpdate, Arc<ClusterMap>), Refusal> {
        self.registry.confirm(watcher, have);
        // Everything acknowledged before the poll is applied here after this: the lease may be counted from the poll on.
        self.raft.read_index(GroupId::CLUSTER_MAP).await.map_err(refusal::of_read)?;
        if let (true, Some(have)) = (hold, have) {
            let mut news = self.state.news();
            // The sender lives in the state, so only time ends the wait otherwise.
            let _ = tokio::time::timeout(POLL_HOLD, news.wait_for(|version| *version > have)).await;
        }
        let term = self.term_led()?;
        let update = || self.state.update_since(have);
        self.registry.renew(term, watcher, have, update)?.ok_or_else(|| Refusal::NotReady("no cluster map yet".into()))
    }

    /// Carries out a change; returns when no watcher serves from a map without it any more.
    pub async fn change(&self, entry: &MapEntry) -> Result<Result<MapReply, MapRefusal>, Refusal> {
        let command = state::encode_command(entry);
        self.check_bounds(entry, &command)?;
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

    /// Watchers must be able to take what is told to them: each change in a message with others, the map in one payload.
    fn check_bounds(&self, entry: &MapEntry, command: &[u8]) -> Result<(), Refusal> {
        let bytes_max = match entry.change {
            MapChange::ChangeLayout(_) | MapChange::Moved(_) => LAYOUT_BYTES_MAX,
            MapChange::ConfigureBucket { .. } | MapChange::Iam { .. } => DOCUMENT_CHANGE_BYTES_MAX,
            _ => CHANGE_BYTES_MAX,
        };
        if command.len() > bytes_max {
            return Err(Refusal::Invalid(format!("such a change of the cluster map has at most {bytes_max} bytes")));
        }
        let grows = matches!(
            entry.change,
            MapChange::CreateBucket { .. } | MapChange::CreateUser { .. } | MapChange::CreateKey { .. }
        );
        let full = |map: Arc<ClusterMap>| map.buckets.len() + map.users.len() + map.keys.len() >= RECORDS_MAX;
        if grows && self.state.map().is_some_and(full) {
            return Err(Refusal::Full);
        }
        let full = |map: Arc<ClusterMap>| protocol::encode(&map.iam).len() + command.len() > IDENTITIES_BYTES_MAX;
        let removes =
            |change: &IamChange| matches!(change, IamChange::Delete(_) | IamChange::PutInline { policy: None, .. });
        if matches!(&entry.change, MapChange::Iam { change, .. } if !removes(change))
            && self.state.map().is_some_and(full)
        {
            return Err(Refusal::Full);
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

    /// Gives the lease and takes what the watcher is told in one step: a change that is not in the answer finds the lease.
    fn renew<T>(
        &self,
        term: u64,
        watcher: InstanceId,
        had: Option<MapVersion>,
        update: impl FnOnce() -> T,
    ) -> Result<T, Refusal> {
        let mut leases = self.leases.lock();
        let now = self.clock.monotonic();
        leases.lead(term, now);
        leases.renew(watcher, had, now).map_err(|_| Refusal::NotReady("too many watchers".into()))?;
        Ok(update())
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
        registry.renew(1, WATCHER, Some(MapVersion(4)), || ()).unwrap();
        let mut waiting = Box::pin(registry.in_force(MapVersion(5)));
        assert!(waiting.as_mut().now_or_never().is_none());
        // It got the change in an answer: not yet enough.
        registry.renew(1, WATCHER, Some(MapVersion(4)), || ()).unwrap();
        assert!(waiting.as_mut().now_or_never().is_none());
        registry.confirm(WATCHER, Some(MapVersion(5)));
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn a_change_waits_no_longer_than_the_lease() {
        let (clock, registry) = leading();
        registry.renew(1, WATCHER, Some(MapVersion(4)), || ()).unwrap();
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
