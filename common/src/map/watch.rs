//! A watched copy of the cluster map, with the lease that says how long it may be served from. Gateways and storage nodes
//! use it alike.
//!
//! The lease is what makes a change of the map in force everywhere once it is acknowledged: group 0's leader waits for
//! every watcher that holds one. A watcher counts its lease from before it asked, so it always ends before the leader's
//! count of it. It has one only by an answer after which it lacks nothing: who is far behind catches up in pieces first. The map is changed by [`MapWatch::change`] through the leader, never here. Nothing is stored.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

use super::change::{MapEntry, MapRefusal, MapReply};
use super::leader::MapLeader;
use super::{ClusterMap, MAP_LEASE_MS, MapVersion, whole};
use crate::clock::SharedClock;
use crate::ids::InstanceId;
use crate::protocol::{MapUpdate, Refusal, Request, Response};
use crate::rpc::SharedTransport;
use crate::task::panic_text;

/// How long the leader may hold a poll while there is no news. A third of the lease, so that one lost poll costs nothing.
pub const POLL_HOLD: Duration = Duration::from_millis(MAP_LEASE_MS / 3);

/// How long one poll may take at one address, the hold included: a leader that is silent for longer is looked for elsewhere.
const POLL_DEADLINE: Duration = Duration::from_millis(MAP_LEASE_MS / 3 + 1_000);

/// How long one attempt at a change may take: a new leader waits one lease, then watchers that died another.
const CHANGE_ATTEMPT_DEADLINE: Duration = Duration::from_millis(2 * MAP_LEASE_MS + 1_000);

/// The pause between rounds that found no leader: an election takes 1.5 - 3 s, so a few rounds fall into it.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The pause after a panic, which may come again at once.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// How long the leader is looked for before that is told, an election and a start included; and how often it is told then.
const TELL_AFTER: Duration = Duration::from_secs(5);
const TELL_EVERY: Duration = Duration::from_secs(30);

/// What the lease is shortened by: the clocks of two machines may run at rates that differ by 1 %; twice that is safe.
const LEASE_MARGIN_MS: u64 = MAP_LEASE_MS / 50;

/// A watched copy of the cluster map. Clones share it; it is watched until the last one is dropped.
#[derive(Clone)]
pub struct MapWatch {
    shared: Arc<Shared>,
    /// Ends the loop with the last clone.
    _polling: Arc<AbortOnDrop>,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    watcher: InstanceId,
    leader: MapLeader,
    clock: SharedClock,
    map: ArcSwapOption<ClusterMap>,
    /// The map by which the leader is looked for: newer than `map` when somebody was met who knew a newer one.
    contacts: ArcSwapOption<ClusterMap>,
    /// On the clock's monotonic time, in nanoseconds. Stored after the map that it is for.
    lease_until_ns: AtomicU64,
    /// Taken while an answer is worked in: the loop and a refresh may both have one.
    advancing: Mutex<()>,
    /// The copy is not trusted to take changes: the next poll asks for the whole map.
    start_anew: AtomicBool,
    version: watch::Sender<Option<MapVersion>>,
    /// Orders refreshes, so that those which began before a poll was sent share its answer.
    refresh_ticket: AtomicU64,
    /// The ticket of the newest answered poll of a refresh.
    refreshed: tokio::sync::Mutex<u64>,
}

impl MapWatch {
    /// Looks for the leader by way of `seeds` until the first map is here, then watches it. Give up by dropping the future.
    pub async fn connect(
        seeds: Vec<String>,
        watcher: InstanceId,
        transport: SharedTransport,
        clock: SharedClock,
    ) -> MapWatch {
        let watch = Self::start(None, seeds, watcher, transport, clock);
        let mut version = watch.shared.version.subscribe();
        // The sender lives in `watch`, so waiting cannot fail.
        let _ = version.wait_for(|_| watch.shared.lease_is_valid()).await;
        watch
    }

    /// Watches on from a map that was known before, or its [`ClusterMap::skeleton`]: it serves to find the leader, and is
    /// replaced as a whole by the first answer.
    pub fn resume(
        map: ClusterMap,
        seeds: Vec<String>,
        watcher: InstanceId,
        transport: SharedTransport,
        clock: SharedClock,
    ) -> MapWatch {
        Self::start(Some(Arc::new(map)), seeds, watcher, transport, clock)
    }

    fn start(
        map: Option<Arc<ClusterMap>>,
        seeds: Vec<String>,
        watcher: InstanceId,
        transport: SharedTransport,
        clock: SharedClock,
    ) -> MapWatch {
        let shared = Arc::new(Shared {
            watcher,
            leader: MapLeader::new(seeds, transport),
            clock,
            version: watch::Sender::new(None),
            contacts: ArcSwapOption::new(map.clone()),
            start_anew: AtomicBool::new(true),
            map: ArcSwapOption::new(map),
            lease_until_ns: AtomicU64::new(0),
            advancing: Mutex::new(()),
            refresh_ticket: AtomicU64::new(0),
            refreshed: tokio::sync::Mutex::new(0),
        });
        let polling = tokio::spawn(Arc::clone(&shared).keep_polling());
        MapWatch { shared, _polling: Arc::new(AbortOnDrop(polling)) }
    }

    /// The map, as long as the lease lasts: every change that was acknowledged before this call is in it.
    pub fn current(&self) -> Option<Arc<ClusterMap>> {
        self.shared.lease_is_valid().then(|| self.latest())
    }

    /// The newest map that came here, however old: good enough to find somebody to ask.
    pub fn latest(&self) -> Arc<ClusterMap> {
        self.shared.map.load_full().expect("a watch is handed out with a map and never loses it")
    }

    /// Whether a whole map came from the leader: until then a watch that resumed has only what it began with.
    pub fn has_arrived(&self) -> bool {
        self.shared.version.borrow().is_some()
    }

    /// Waits until the map is at `version` or past it. Give up by dropping the future.
    pub async fn changed(&self, version: MapVersion) -> Arc<ClusterMap> {
        let mut versions = self.shared.version.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = versions.wait_for(|at| at.is_some_and(|at| at >= version)).await;
        self.latest()
    }

    /// Asks the leader now: every change that was committed before this call is in what it returns. Callers that come
    /// together share one poll. Give up by dropping the future.
    pub async fn refresh(&self) -> Arc<ClusterMap> {
        let asked = self.shared.refresh_ticket.fetch_add(1, Ordering::SeqCst);
        let mut refreshed = self.shared.refreshed.lock().await;
        while *refreshed <= asked {
            let begun = self.shared.refresh_ticket.fetch_add(1, Ordering::SeqCst);
            match self.shared.poll(false).await {
                Ok(Caught::Up) => *refreshed = begun,
                Ok(Caught::Some) => {}
                Err(refusal) => {
                    debug!(%refusal, "map refresh failed, trying again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
        self.latest()
    }

    /// Changes the map through the leader. Once answered, the change is in force at every watcher. An error means that the
    /// outcome is not known, or that there was no leader within `deadline`: the same entry may be asked for again.
    pub async fn change(&self, entry: MapEntry, deadline: Duration) -> Result<Result<MapReply, MapRefusal>, Refusal> {
        let request = Request::ChangeMap(entry);
        let attempts = async {
            loop {
                let contacts = self.shared.contacts.load_full();
                match self.shared.leader.ask(&request, contacts.as_deref(), CHANGE_ATTEMPT_DEADLINE).await {
                    Ok((Response::MapChanged(outcome), _)) => return Ok(outcome),
                    Ok(_) => return Err(Refusal::Invalid("the answer is not one to a change of the map".into())),
                    Err(refusal) if is_final(&refusal) => return Err(refusal),
                    Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
                }
            }
        };
        tokio::time::timeout(deadline, attempts).await.unwrap_or(Err(Refusal::Uncertain))
    }
}

/// Whether asking again is of no use.
fn is_final(refusal: &Refusal) -> bool {
    !matches!(refusal, Refusal::NotLeader { .. } | Refusal::NotReady(_) | Refusal::Uncertain)
}

impl Shared {
    fn lease_is_valid(&self) -> bool {
        let until = Duration::from_nanos(self.lease_until_ns.load(Ordering::Acquire));
        self.clock.monotonic() < until
    }

    /// Polls for ever. A panic must not end it unnoticed, as the lease would run out and never come back: what is here is not
    /// trusted then, and all of the map asked for.
    async fn keep_polling(self: Arc<Self>) {
        loop {
            let Err(panic) = AssertUnwindSafe(self.poll_forever()).catch_unwind().await;
            error!(reason = panic_text(&*panic), "watching the cluster map panicked, beginning anew");
            self.start_anew.store(true, Ordering::Release);
            tokio::time::sleep(PANIC_PAUSE).await;
        }
    }

    async fn poll_forever(&self) -> Infallible {
        let mut watching = false;
        let mut tell_at = self.clock.monotonic() + TELL_AFTER;
        loop {
            match self.poll(true).await {
                Ok(_) => {
                    if !watching {
                        info!(version = self.have().map(|version| version.0), "watching the cluster map");
                    }
                    watching = true;
                }
                Err(refusal) => {
                    let now = self.clock.monotonic();
                    if watching {
                        warn!(%refusal, "cluster map leader lost, looking for it");
                        tell_at = now + TELL_AFTER;
                    } else if now >= tell_at {
                        let reason = self.leader.take_out_of_reach().map(|error| error.to_string());
                        warn!(%refusal, reason, "still looking for the leader of the cluster map");
                        tell_at = now + TELL_EVERY;
                    }
                    watching = false;
                    self.look_around().await;
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    fn have(&self) -> Option<MapVersion> {
        self.map.load().as_ref().map(|map| map.version)
    }

    /// One poll at the leader; an answer after which nothing is lacking renews the lease.
    async fn poll(&self, hold: bool) -> Result<Caught, Refusal> {
        let have = self.have().filter(|_| !self.start_anew.load(Ordering::Acquire));
        // Who has no lease waits for one, not for news.
        let hold = hold && have.is_some() && self.lease_is_valid();
        let request = Request::WatchMap { watcher: self.watcher, have, hold };
        let contacts = self.contacts.load_full();
        let asked_at = self.clock.monotonic();
        let (response, payload) = self.leader.ask(&request, contacts.as_deref(), POLL_DEADLINE).await?;
        let Response::Map(update) = response else {
            return Err(Refusal::Invalid("the answer is not one to a poll of the map".into()));
        };
        let (news, caught) = match update {
            MapUpdate::Current => (News::Current, Caught::Up),
            MapUpdate::Changes { entries, more } => {
                (News::Changes(entries), if more { Caught::Some } else { Caught::Up })
            }
            MapUpdate::Whole { version, bytes } => {
                let whole = whole::fetch(&self.leader, contacts.as_deref(), version, bytes, payload).await?;
                (News::Whole(Box::new(whole)), Caught::Some)
            }
        };
        self.take(have, news, (caught == Caught::Up).then_some(asked_at))?;
        Ok(caught)
    }

    /// Works an answer in, which brings a lease that counts from `lease_from`, if one.
    fn take(&self, asked_from: Option<MapVersion>, news: News, lease_from: Option<Duration>) -> Result<(), Refusal> {
        let _one_at_a_time = self.advancing.lock();
        let newest = self.map.load_full();
        let map = newest.clone().filter(|_| !self.start_anew.load(Ordering::Acquire));
        let Some(next) = advance(map.as_ref(), asked_from, news) else {
            self.start_anew.store(true, Ordering::Release);
            return Err(Refusal::Invalid("the changes do not fit the map, asking for all of it".into()));
        };
        if newest.is_some_and(|newest| newest.version > next.version) {
            // One that was not trusted gives way to one that others began with, which may be older: the lease was not for that.
            self.lease_until_ns.store(0, Ordering::Release);
        }
        self.contacts.store(Some(Arc::clone(&next)));
        self.map.store(Some(next));
        self.start_anew.store(false, Ordering::Release);
        if let Some(asked_at) = lease_from {
            let lease = Duration::from_millis(MAP_LEASE_MS - LEASE_MARGIN_MS);
            self.lease_until_ns.fetch_max((asked_at + lease).as_nanos() as u64, Ordering::AcqRel);
        }
        // Also without news: whoever waits for the first lease looks again.
        self.version.send_replace(self.have());
        Ok(())
    }

    /// Takes over the newest addresses that any known node has, to learn where the leader may be reached.
    async fn look_around(&self) {
        let contacts = self.contacts.load_full();
        let Some(found) = self.leader.peek(contacts.as_deref()).await else { return };
        let _one_at_a_time = self.advancing.lock();
        if self.contacts.load().as_ref().is_none_or(|contacts| contacts.version < found.version) {
            self.contacts.store(Some(Arc::new(found)));
        }
    }
}

/// What an answer brings.
enum News {
    Current,
    Changes(Vec<MapEntry>),
    Whole(Box<ClusterMap>),
}

/// How much of what it lacked a watcher has after an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caught {
    /// All that was acknowledged before it asked.
    Up,
    /// A part of it: there is more to ask for.
    Some,
}

/// The map after news that was asked for from `asked_from` on, or nothing when it does not fit.
fn advance(map: Option<&Arc<ClusterMap>>, asked_from: Option<MapVersion>, news: News) -> Option<Arc<ClusterMap>> {
    match news {
        News::Current => map.filter(|map| Some(map.version) >= asked_from).cloned(),
        News::Whole(whole) => match map {
            // Another poll may have brought a newer one meanwhile.
            Some(map) if map.version > whole.version => Some(Arc::clone(map)),
            _ => Some(Arc::from(whole)),
        },
        News::Changes(entries) => {
            let map = map?;
            // Another poll may have brought some of them meanwhile.
            let known = map.version.0.checked_sub(asked_from?.0)? as usize;
            if known >= entries.len() {
                return Some(Arc::clone(map));
            }
            let mut next = ClusterMap::clone(map);
            for entry in &entries[known..] {
                next.apply(entry).ok()?;
            }
            Some(Arc::new(next))
        }
    }
}

#[cfg(test)]
mod tests;
