//! Delivers what waits in outboxes. Every gateway looks; who holds an outbox delivers from it, and lets go when it is empty
//! or its webhook fails. A gateway that dies holds nothing for longer than [`CLAIM_MS_MAX`]. What is made of a page is
//! [`round`](super::round)'s.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::{PartitionId, RequestId};
use annulus_common::map::{ClusterMap, MapVersion};
use annulus_common::notification::ACCESS_LOG;
use annulus_common::protocol::metadata::{CLAIM_MS_MAX, EVENTS_PER_QUERY_MAX, OutboxChange};
use annulus_common::protocol::outbox::WaitingOutbox;
use annulus_common::telemetry::Metrics;
use tokio::task::{Id, JoinSet};
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use super::round::{Outcome, Round};
use super::verdict::is_due;
use super::webhook::{POST_DEADLINE, Webhooks};
use crate::access_log::AccessLog;
use crate::client::{ClientError, ClusterClient};

/// How often it is looked whether something waits that another process or a lifecycle rule has made.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked while no bucket has anybody told: what was left behind is dropped then.
const IDLE_LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// The pause between two looks, however much happens: what comes within it is found by one. A look asks every node.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Outboxes that are delivered from at once, those of two busy buckets to each of two webhooks: each has one page of events in
/// memory and one post under way.
const DELIVERIES_MAX: usize = 64;

/// Of these, deliveries to one webhook: one that hangs leaves the others as many.
const DELIVERIES_TO_ONE_MAX: usize = DELIVERIES_MAX / 2;

/// The same to one that failed last: it is tried once, not from all outboxes that wait for it.
const TRIES_AT_ONCE: usize = 1;

/// Pages that are delivered from an outbox before the others have their turn.
const PAGES_MAX: usize = 16;

/// How long an outbox is held on to that is empty after several of its events were told: it is in use, and what comes meanwhile
/// is told together. To hold an outbox, and to let go of it, costs an entry of the partition's log each.
const GATHER_WAIT: Duration = Duration::from_millis(300);

/// Events of a page that are several: one alone need not be followed by others.
const GATHER_EVENTS_MIN: usize = 2;

/// How long after it was asked for an outbox counts as held here: a post that begins then ends before the claim does, also
/// by another's clock that is a few seconds ahead.
pub(super) const HELD: Duration = Duration::from_millis(CLAIM_MS_MAX / 2);

const _: () = assert!(HELD.as_millis() as u64 + (POST_DEADLINE.as_millis() as u64) < CLAIM_MS_MAX);

/// Delivers events.
pub struct EventDelivery {
    deliverer: Arc<Deliverer>,
}

/// What each delivery works with.
pub(super) struct Deliverer {
    client: Arc<ClusterClient>,
    pub(super) webhooks: Arc<Webhooks>,
    pub(super) access_log: Arc<AccessLog>,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) region: String,
    /// Tries of one event that may fail while others are taken.
    pub(super) tries_max: u32,
    /// By what name this gateway holds outboxes.
    holder: RequestId,
}

/// An outbox.
type Place = (PartitionId, String);

/// How a delivery ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// There may be more to deliver.
    GoesOn,
    /// Its webhook fails, or another gateway holds it.
    Rests,
}

impl EventDelivery {
    pub(crate) fn new(
        client: Arc<ClusterClient>,
        webhooks: Arc<Webhooks>,
        access_log: Arc<AccessLog>,
        (clock, metrics): (SharedClock, Arc<Metrics>),
        (region, tries_max): (String, u32),
    ) -> Self {
        let holder = RequestId::generate(clock.now_ms());
        let deliverer = Deliverer { client, webhooks, access_log, clock, metrics, region, tries_max, holder };
        Self { deliverer: Arc::new(deliverer) }
    }

    /// Delivers until `stop`. What is under way then is broken off: it may be delivered again.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let (mut looks, mut deliveries) = (Looks::default(), Deliveries::default());
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => return,
                Some(ended) = deliveries.ended() => {
                    if ended == Ended::Rests {
                        continue;
                    }
                }
                () = self.deliverer.client.told().notified() => {}
                _ = ticks.tick() => {}
            }
            let waiting = self.deliverer.look(&mut looks).await;
            deliveries.start(waiting, &self.deliverer);
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

/// The deliveries that are under way.
#[derive(Default)]
struct Deliveries {
    running: JoinSet<Ended>,
    places: HashMap<Id, Place>,
    /// Where the last one began: those behind it are next.
    last: Option<Place>,
}

impl Deliveries {
    /// Starts as many as there may be, each outbox in its turn.
    fn start(&mut self, waiting: Vec<Place>, deliverer: &Arc<Deliverer>) {
        let waiting = in_turn(waiting, self.last.as_ref());
        let most = |webhook: &str| match deliverer.webhooks.is_tried(webhook) {
            true => TRIES_AT_ONCE,
            false => DELIVERIES_TO_ONE_MAX,
        };
        for place in next(waiting, self.places.values(), most) {
            let (deliverer, delivered) = (Arc::clone(deliverer), place.clone());
            let started = self.running.spawn(async move { deliverer.deliver(&delivered).await });
            self.places.insert(started.id(), place.clone());
            self.last = Some(place);
        }
    }

    /// Waits until one ends; nothing when none runs. One that is broken off by a bug of ours ends, too.
    async fn ended(&mut self) -> Option<Ended> {
        let (id, ended) = match self.running.join_next_with_id().await? {
            Ok((id, ended)) => (id, ended),
            Err(error) => (error.id(), Ended::Rests),
        };
        self.places.remove(&id);
        Some(ended)
    }
}

/// Those of the waiting that can be begun beside the running: of each webhook at most so many at once.
fn next<'a>(waiting: Vec<Place>, running: impl Iterator<Item = &'a Place>, most: impl Fn(&str) -> usize) -> Vec<Place> {
    let mut busy: Vec<Place> = running.cloned().collect();
    let mut begun = Vec::new();
    for place in waiting {
        let to_same = busy.iter().filter(|(_, webhook)| *webhook == place.1).count();
        if busy.len() < DELIVERIES_MAX && to_same < most(&place.1) && !busy.contains(&place) {
            busy.push(place.clone());
            begun.push(place);
        }
    }
    begun
}

/// Those behind the last one first, then from the beginning: none waits for ever behind others that are never empty.
fn in_turn(mut waiting: Vec<Place>, last: Option<&Place>) -> Vec<Place> {
    waiting.sort_unstable();
    let next = waiting.partition_point(|place| Some(place) <= last);
    waiting.rotate_left(next);
    waiting
}

/// What is remembered between two looks.
#[derive(Default)]
struct Looks {
    version: Option<MapVersion>,
    /// The webhooks that buckets of that map name.
    told: BTreeSet<String>,
    last: Option<Duration>,
}

impl Looks {
    /// Whether it is time. Most clusters tell nobody, and pay nothing for it.
    fn are_due(&mut self, now: Duration) -> bool {
        let is_due =
            !self.told.is_empty() || self.last.is_none_or(|last| now.saturating_sub(last) >= IDLE_LOOK_INTERVAL);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }

    /// Finds out which webhooks are named, and warns of those that begin to be and are not known here.
    fn learn(&mut self, map: &ClusterMap, webhooks: &Webhooks) {
        if self.version == Some(map.version) {
            return;
        }
        let configs = || map.buckets.values().map(|bucket| &bucket.config);
        let configured = configs().filter_map(|config| config.notification.as_ref());
        let mut told: BTreeSet<String> =
            configured.flat_map(|told| told.rules.iter().map(|rule| rule.webhook.clone())).collect();
        for webhook in told.difference(&self.told).filter(|webhook| !webhooks.has(webhook)) {
            warn!(webhook, "buckets name a webhook that is not configured at this gateway");
        }
        if configs().any(|config| config.logging.is_some() && config.lifecycle.is_some()) {
            told.insert(ACCESS_LOG.to_owned());
        }
        (self.version, self.told) = (Some(map.version), told);
    }
}

impl Deliverer {
    /// The outboxes to deliver from.
    async fn look(&self, looks: &mut Looks) -> Vec<Place> {
        let map = self.client.watch().latest();
        looks.learn(&map, &self.webhooks);
        if !looks.are_due(self.clock.monotonic()) {
            return Vec::new();
        }
        let waiting = self.client.waiting_outboxes(&map).await;
        self.metrics.events.note_waiting(waiting.iter().filter(|outbox| outbox.webhook != ACCESS_LOG));
        let now_ms = self.clock.now_ms();
        let is_free = |outbox: &WaitingOutbox| {
            outbox.claim.is_none_or(|(holder, until_ms)| {
                holder == self.holder || !(now_ms..=now_ms.saturating_add(CLAIM_MS_MAX)).contains(&until_ms)
            })
        };
        // What nobody is told any more is dropped, which any gateway can do.
        let can = |webhook: &str| match self.webhooks.has(webhook) {
            true => !self.webhooks.rests(webhook),
            false => webhook == ACCESS_LOG || !looks.told.contains(webhook),
        };
        let is_due = |outbox: &WaitingOutbox| is_due(outbox.due_ms, now_ms);
        let free = waiting.into_iter().filter(|outbox| is_due(outbox) && is_free(outbox) && can(&outbox.webhook));
        free.map(|outbox| (outbox.partition, outbox.webhook)).collect()
    }

    async fn deliver(&self, place: &Place) -> Ended {
        self.deliver_pages(place).await.unwrap_or_else(|error| {
            debug!(partition = place.0.0, webhook = place.1, %error, "an outbox cannot be delivered from");
            Ended::Rests
        })
    }

    async fn deliver_pages(&self, place: &Place) -> Result<Ended, ClientError> {
        let (partition, webhook) = (place.0, place.1.as_str());
        let mut held_since = self.clock.monotonic();
        if !self.client.change_outbox(partition, webhook, self.change(self.until())).await? {
            return Ok(Ended::Rests);
        }
        for turn in 1..=PAGES_MAX {
            let page = self.client.outbox_page(partition, webhook).await?;
            let (dropped, is_last) = (page.dropped, page.events.len() < EVENTS_PER_QUERY_MAX as usize);
            if dropped > 0 {
                self.note_dropped(place, dropped);
            }
            let map = self.client.map().await?;
            let Outcome { change, ended, frees } = Round::new(self, webhook, &map, held_since).tell(page).await;
            let gathers = is_last && !frees && change.done.len() >= GATHER_EVENTS_MIN;
            let goes_on = ended == Ended::GoesOn && (frees || gathers || !is_last) && turn < PAGES_MAX;
            let until_ms = if goes_on { self.until() } else { None };
            let given_up = change.given_up.len() as u64;
            held_since = self.clock.monotonic();
            let change = OutboxChange { dropped, until_ms, ..change };
            let held = self.client.change_outbox(partition, webhook, change).await?;
            self.metrics.events.given_up.inc_by(given_up);
            if !held {
                return Ok(ended);
            }
            if gathers {
                tokio::time::sleep(GATHER_WAIT).await;
            }
        }
        Ok(Ended::GoesOn)
    }

    fn note_dropped(&self, place: &Place, dropped: u64) {
        warn!(webhook = place.1, partition = place.0.0, events = dropped, "events were dropped: too many waited");
        match place.1 == ACCESS_LOG {
            true => self.metrics.access_log_dropped.inc_by(dropped),
            false => self.metrics.events.dropped.inc_by(dropped),
        };
    }

    /// Until when an outbox is held that is asked for at this moment.
    fn until(&self) -> Option<u64> {
        Some(self.clock.now_ms() + CLAIM_MS_MAX)
    }

    /// Holds an outbox until then, or lets go, and changes nothing else of it.
    pub(super) fn change(&self, until_ms: Option<u64>) -> OutboxChange {
        let (done, given_up, aside) = (Vec::new(), Vec::new(), Vec::new());
        OutboxChange { holder: self.holder, done, given_up, aside, passed: None, dropped: 0, until_ms }
    }
}

#[cfg(test)]
mod tests {
    use annulus_common::ids::PartitionId;

    use super::{DELIVERIES_MAX, DELIVERIES_TO_ONE_MAX, Place, TRIES_AT_ONCE, in_turn, next};

    #[test]
    fn a_webhook_that_hangs_leaves_room_for_others() {
        let outboxes =
            |webhook: &'static str| (0..100).map(move |partition| (PartitionId(partition), webhook.to_owned()));
        let of = |begun: &[Place], webhook: &str| begun.iter().filter(|place| place.1 == webhook).count();
        let most = |webhook: &str| if webhook == "failed" { TRIES_AT_ONCE } else { DELIVERIES_TO_ONE_MAX };
        let hanging = next(outboxes("hangs").collect(), [].iter(), most);
        assert_eq!(hanging.len(), DELIVERIES_TO_ONE_MAX);
        let waiting = outboxes("hangs").chain(outboxes("failed")).chain(outboxes("works")).collect();
        let begun = next(waiting, hanging.iter(), most);
        assert_eq!((of(&begun, "hangs"), of(&begun, "failed")), (0, 1));
        assert_eq!(of(&begun, "works"), DELIVERIES_MAX - DELIVERIES_TO_ONE_MAX - 1);
        let again = next(outboxes("failed").collect(), begun.iter(), most);
        assert!(again.is_empty(), "one try is under way");
        assert!(next(vec![hanging[0].clone()], hanging[..1].iter(), most).is_empty(), "it is delivered from already");
    }

    fn places(names: &[&str]) -> Vec<Place> {
        names.iter().map(|name| (PartitionId(0), (*name).to_owned())).collect()
    }

    #[test]
    fn each_outbox_has_its_turn() {
        let turn = |last: Option<&str>| {
            let last = last.map(|name| (PartitionId(0), name.to_owned()));
            in_turn(places(&["c", "a", "b"]), last.as_ref())
        };
        assert_eq!(turn(None), places(&["a", "b", "c"]));
        assert_eq!(turn(Some("a")), places(&["b", "c", "a"]));
        assert_eq!(turn(Some("bb")), places(&["c", "a", "b"]), "that one is empty meanwhile");
        assert_eq!(turn(Some("c")), places(&["a", "b", "c"]));
    }
}
