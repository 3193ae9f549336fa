//! One page of an outbox, told: what is new in it, and what was set aside and is due. What became of each event goes into one
//! change of the outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use annulus_common::ids::BucketId;
use annulus_common::map::{Bucket, ClusterMap};
use annulus_common::notification::{ACCESS_LOG, Event, EventId};
use annulus_common::protocol::metadata::{ASIDE_MAX, Aside, CLAIM_MS_MAX, OutboxChange, OutboxPage};
use tracing::warn;

use super::delivery::{Deliverer, Ended, HELD};
use super::message::message;
use super::verdict::{Failure, Judged, Verdict, is_due};

/// Part of the time that an outbox is held may go by while what is set aside is told first: the rest is for what is new, however
/// slow the webhook is with the others.
const ASIDE_FIRST: Duration = Duration::from_millis(CLAIM_MS_MAX / 4);

/// What was made of a page so far.
pub(super) struct Round<'a> {
    deliverer: &'a Deliverer,
    webhook: &'a str,
    buckets: BTreeMap<BucketId, (&'a str, &'a Bucket)>,
    /// Since when the outbox is held.
    held_since: Duration,
    /// Keys that have an event set aside: their others wait.
    held_back: BTreeSet<(BucketId, String)>,
    change: OutboxChange,
    /// Whether an event was taken.
    takes: bool,
    /// When one was posted that was not, and the webhook may be to blame.
    failed_at: Option<Duration>,
    /// Whether it seems to be down.
    fails: bool,
    /// Whether something that was set aside is gone, so that what waits behind it is next.
    frees: bool,
    ended: Ended,
}

/// What was made of a page.
pub(super) struct Outcome {
    pub(super) change: OutboxChange,
    pub(super) ended: Ended,
    /// Whether there is more to tell at once, though the page was the last.
    pub(super) frees: bool,
}

impl<'a> Round<'a> {
    pub(super) fn new(deliverer: &'a Deliverer, webhook: &'a str, map: &'a ClusterMap, held_since: Duration) -> Self {
        Self {
            deliverer,
            webhook,
            buckets: map.buckets.iter().map(|(name, bucket)| (bucket.id, (name.as_str(), bucket))).collect(),
            held_since,
            held_back: BTreeSet::new(),
            change: deliverer.change(None),
            takes: false,
            failed_at: None,
            fails: false,
            frees: false,
            ended: Ended::GoesOn,
        }
    }

    /// What was set aside comes first where the webhook has worked since, and else last: if it is down, what is new shows it.
    pub(super) async fn tell(mut self, page: OutboxPage) -> Outcome {
        self.held_back = page.aside.iter().map(|(_, _, event)| key_of(event)).collect();
        let (now_ms, taken_ms) = (self.deliverer.clock.now_ms(), self.deliverer.webhooks.taken_ms(self.webhook));
        let due = page.aside.into_iter().filter(|(_, aside, _)| is_due(aside.next_ms, now_ms));
        let (first, last): (Vec<_>, Vec<_>) = due.partition(|(_, aside, _)| taken_ms > aside.failed_ms);
        self.tell_again(first, ASIDE_FIRST).await;
        self.tell_new(page.events, page.through).await;
        self.tell_again(last, HELD).await;
        if let Some(failed_at) = self.failed_at.filter(|_| self.fails || !self.takes) {
            self.deliverer.webhooks.fails(self.webhook, failed_at);
            self.ended = Ended::Rests;
        }
        Outcome { change: self.change, ended: self.ended, frees: self.frees }
    }

    /// Tells what was set aside, for so long.
    async fn tell_again(&mut self, events: Vec<(EventId, Aside, Event)>, within: Duration) {
        for (id, aside, event) in events {
            if self.fails || self.held_for() >= within || !self.tell_one(id, &event, Some(aside)).await {
                return;
            }
            self.frees |= self.change.aside.last().is_none_or(|(kept, _)| *kept != id);
        }
    }

    /// Tells what is new, one after the other, but for what has to wait; all of it is everything up to `through`.
    async fn tell_new(&mut self, events: Vec<(EventId, Event)>, through: Option<EventId>) {
        for (id, event) in events {
            let waits = self.held_back.contains(&key_of(&event));
            if self.fails || !(waits || self.tell_one(id, &event, None).await) {
                return;
            }
            self.change.passed = Some(id);
        }
        self.change.passed = through;
    }

    /// Tells an event, unless nobody is to be told of it any more. Says whether the change has what became of it: else it stays
    /// where it is, and so does what follows.
    async fn tell_one(&mut self, id: EventId, event: &Event, before: Option<Aside>) -> bool {
        let deliverer = self.deliverer;
        let bucket = self.buckets.get(&event.bucket).copied();
        if self.webhook == ACCESS_LOG {
            if let Some(bucket) = bucket {
                deliverer.access_log.record_expiry(bucket, id, event);
            }
            self.change.done.push(id);
            return true;
        }
        let is_told = |(_, bucket): &(&str, &Bucket)| {
            let notification = bucket.config.notification.as_ref();
            notification.is_some_and(|notification| notification.tells(self.webhook, event.name, &event.key))
        };
        let Some(bucket) = bucket.filter(is_told) else {
            self.change.done.push(id);
            return true;
        };
        if self.held_for() >= HELD {
            return false;
        }
        let posted_at = deliverer.clock.monotonic();
        let message = message(id, event, bucket, &deliverer.region);
        let Err(error) = deliverer.webhooks.post(self.webhook, message).await else {
            deliverer.webhooks.works(self.webhook);
            deliverer.metrics.events.delivered.inc();
            self.takes = true;
            self.change.done.push(id);
            return true;
        };
        deliverer.metrics.events.failed.inc();
        let failure = Failure {
            fault: error.fault(),
            now_ms: deliverer.clock.now_ms(),
            before,
            taken_ms: deliverer.webhooks.taken_ms(self.webhook),
            takes_others: self.takes,
            has_room: self.held_back.len() < ASIDE_MAX,
        };
        let Judged { verdict, goes_on, counts } = failure.judge(deliverer.tries_max);
        if !counts {
            self.failed_at = Some(posted_at);
        }
        self.fails = !goes_on;
        let (webhook, sequencer) = (self.webhook, id.to_string());
        warn!(webhook, bucket = bucket.0, key = event.key, sequencer, %error, ?verdict, "an event was not taken");
        match verdict {
            Verdict::Aside(aside) => {
                self.change.aside.push((id, aside));
                self.held_back.insert(key_of(event));
            }
            Verdict::GivenUp => self.change.given_up.push(id),
            Verdict::Stays => return false,
        }
        true
    }

    fn held_for(&self) -> Duration {
        self.deliverer.clock.monotonic().saturating_sub(self.held_since)
    }
}

fn key_of(event: &Event) -> (BucketId, String) {
    (event.bucket, event.key.clone())
}
