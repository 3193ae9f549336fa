//! Delivers what waits in outboxes. Every gateway looks; who holds an outbox delivers from it, and lets go when it is empty
//! or its webhook fails. A gateway that dies holds nothing for longer than [`CLAIM_MS_MAX`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::{BucketId, PartitionId, RequestId};
use annulus_common::map::{Bucket, ClusterMap, MapVersion};
use annulus_common::notification::{ACCESS_LOG, Event, EventId};
use annulus_common::protocol::metadata::{CLAIM_MS_MAX, EVENTS_PER_QUERY_MAX, OutboxChange};
use annulus_common::protocol::outbox::WaitingOutbox;
use annulus_common::telemetry::Metrics;
use tokio::task::{Id, JoinSet};
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use super::message::message;
use super::webhook::{POST_DEADLINE, Webhooks};
use crate::access_log::AccessLog;
use crate::client::{ClientError, ClusterClient};

/// How often it is looked whether something waits that another process or a lifecycle rule has made.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked while no bucket has anybody told: what was left behind is dropped then.
const IDLE_LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// The pause between two looks, however much happens: what comes within it is found by one.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// Outboxes that are delivered from at once: each has one page of events in memory and one post under way.
const DELIVERIES_MAX: usize = 16;

/// Pages that are delivered from an outbox before the others have their turn.
const PAGES_MAX: usize = 16;

/// How long after it was asked for an outbox counts as held here: a post that begins then ends before the claim does, also
/// by another's clock that is a few seconds ahead.
const HELD: Duration = Duration::from_millis(CLAIM_MS_MAX / 2);

const _: () = assert!(HELD.as_millis() as u64 + (POST_DEADLINE.as_millis() as u64) < CLAIM_MS_MAX);

/// Delivers events.
pub struct EventDelivery {
    deliverer: Arc<Deliverer>,
}

/// What each delivery works with.
struct Deliverer {
    client: Arc<ClusterClient>,
    webhooks: Arc<Webhooks>,
    access_log: Arc<AccessLog>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    region: String,
    /// By what name this gateway holds outboxes.
    holder: RequestId,
}

/// An outbox.
type Place = (PartitionId, String);

/// How a delivery ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    /// There may be more to deliver.
    GoesOn,
    /// Its webhook fails, or another gateway holds it.
    Rests,
}

/// How far a page was delivered.
struct Delivered {
    through: Option<EventId>,
    ended: Ended,
}

impl EventDelivery {
    pub(crate) fn new(
        client: Arc<ClusterClient>,
        webhooks: Arc<Webhooks>,
        access_log: Arc<AccessLog>,
        (clock, metrics): (SharedClock, Arc<Metrics>),
        region: String,
    ) -> Self {
        let holder = RequestId::generate(clock.now_ms());
        Self { deliverer: Arc::new(Deliverer { client, webhooks, access_log, clock, metrics, region, holder }) }
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
        for place in in_turn(waiting, self.last.as_ref()) {
            if self.running.len() == DELIVERIES_MAX {
                return;
            }
            if self.places.values().any(|busy| *busy == place) {
                continue;
            }
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
        let events = waiting.iter().filter(|outbox| outbox.webhook != ACCESS_LOG);
        let pending: u64 = events.map(|outbox| outbox.pending).sum();
        self.metrics.events.pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
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
        let free = waiting.into_iter().filter(|outbox| is_free(outbox) && can(&outbox.webhook));
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
        let claim = self.change(None, 0, true);
        if !self.client.change_outbox(partition, webhook, claim).await? {
            return Ok(Ended::Rests);
        }
        for turn in 1..=PAGES_MAX {
            let page = self.client.outbox_page(partition, webhook).await?;
            if page.dropped > 0 {
                self.note_dropped(place, page.dropped);
            }
            let is_last = page.events.len() < EVENTS_PER_QUERY_MAX as usize;
            let Delivered { through, ended } = self.deliver_page(webhook, page.events, held_since).await?;
            let goes_on = ended == Ended::GoesOn && !is_last && turn < PAGES_MAX;
            held_since = self.clock.monotonic();
            let held =
                self.client.change_outbox(partition, webhook, self.change(through, page.dropped, goes_on)).await?;
            if !held {
                return Ok(ended);
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

    fn change(&self, through: Option<EventId>, dropped: u64, holds: bool) -> OutboxChange {
        let until_ms = holds.then(|| self.clock.now_ms() + CLAIM_MS_MAX);
        OutboxChange { holder: self.holder, through, dropped, until_ms }
    }

    /// Posts one event after the other until one is not taken, or the outbox may soon be another's. What no bucket has told
    /// any more is passed over.
    async fn deliver_page(
        &self,
        webhook: &str,
        events: Vec<(EventId, Event)>,
        held_since: Duration,
    ) -> Result<Delivered, ClientError> {
        let map = self.client.map().await?;
        let buckets: BTreeMap<BucketId, (&str, &Bucket)> =
            map.buckets.iter().map(|(name, bucket)| (bucket.id, (name.as_str(), bucket))).collect();
        let mut through = None;
        for (id, event) in events {
            if webhook == ACCESS_LOG {
                if let Some(bucket) = buckets.get(&event.bucket) {
                    self.access_log.record_expiry(*bucket, id, &event);
                }
                through = Some(id);
                continue;
            }
            let is_told = |bucket: &&(&str, &Bucket)| {
                let notification = bucket.1.config.notification.as_ref();
                notification.is_some_and(|notification| notification.tells(webhook, event.name, &event.key))
            };
            if let Some(bucket) = buckets.get(&event.bucket).filter(is_told) {
                if self.clock.monotonic().saturating_sub(held_since) >= HELD {
                    return Ok(Delivered { through, ended: Ended::GoesOn });
                }
                let message = message(id, &event, *bucket, &self.region);
                if let Err(error) = self.webhooks.post(webhook, message).await {
                    warn!(webhook, bucket = bucket.0, %error, "an event is not delivered yet");
                    self.metrics.events.failed.inc();
                    return Ok(Delivered { through, ended: Ended::Rests });
                }
                self.metrics.events.delivered.inc();
            }
            through = Some(id);
        }
        Ok(Delivered { through, ended: Ended::GoesOn })
    }
}

#[cfg(test)]
mod tests {
    use annulus_common::ids::PartitionId;

    use super::{Place, in_turn};

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
