//! Events and where they wait: each is put into the outbox of its webhook by the step that makes it, so that none is lost
//! and none tells of what did not happen; whoever delivers takes it out again.

use std::collections::BTreeMap;
use std::sync::Arc;

use annulus_common::ids::BucketId;
use annulus_common::notification::{Event, EventId, EventName, Means, Rule};
use annulus_common::object::{ETag, KeyPath, VersionId};
use annulus_common::protocol::metadata::{ASIDE_MAX, Aside, CLAIM_MS_MAX, MetaReply, OutboxChange, after_prefix};
use annulus_common::protocol::outbox::Untold;
use bytes::Bytes;

use super::super::schema::keys::Keys;
use super::super::schema::records::{Head, Outbox, Record as _};
use super::Step;
use crate::kv::{KvError, Table};

/// Events that wait for one webhook in one partition: some 10 MB. A bucket has 16 shards, so that at most 320,000 of its events
/// wait, shared by all buckets that name the webhook, and fewer where shards lie in one partition.
const PENDING_MAX: u64 = 20_000;

/// How many are dropped at once when there are more: no step makes as many, so that it drops only once. To choose them all that wait are
/// looked at, some twenty for each that is dropped.
const DROPPED_AT_ONCE: u64 = 1_024;

/// Events that were set aside and are gone, by their keys: which they were, and how it stands with what is next of the key.
type Gone = BTreeMap<(BucketId, String), (EventId, Aside)>;

impl Step<'_> {
    /// Tells that an object is there, or is changed.
    pub(super) fn announce_object(
        &mut self,
        path: &KeyPath,
        name: impl Fn(Means) -> EventName,
        head: &Head,
    ) -> Result<(), KvError> {
        self.put_event(path, name, head.version, Some((head.size, head.etag)))
    }

    /// Tells what became of a version.
    pub(super) fn announce(
        &mut self,
        path: &KeyPath,
        name: impl Fn(Means) -> EventName,
        version: VersionId,
    ) -> Result<(), KvError> {
        self.put_event(path, name, version, None)
    }

    /// At most one configuration of the bucket is met by an event, as they do not overlap; the access log may be beside it.
    fn put_event(
        &mut self,
        path: &KeyPath,
        name: impl Fn(Means) -> EventName,
        version: VersionId,
        content: Option<(u64, ETag)>,
    ) -> Result<(), KvError> {
        let Some(notice) = &self.notice else { return Ok(()) };
        let name = name(notice.cause.means);
        let met: Vec<Arc<Rule>> = notice.rules.iter().filter(|rule| rule.matches(name, &path.key)).cloned().collect();
        if met.is_empty() {
            return Ok(());
        }
        let id = EventId { index: self.index, ordinal: self.events };
        self.events += 1;
        let (bucket, key, cause) = (path.bucket, path.key.clone(), notice.cause.clone());
        let (time_ms, configuration) = (self.time_ms, String::new());
        let mut event = Event { name, time_ms, configuration, bucket, key, version, content, cause };
        for rule in met {
            event.configuration.clone_from(&rule.id);
            let outbox = self.make_place(&rule.webhook)?;
            let outbox = Outbox { pending: outbox.pending + 1, last: Some(id), ..outbox };
            self.put(self.keys.outbox(&rule.webhook), &outbox);
            self.put(self.keys.event(&rule.webhook, id), &event);
        }
        Ok(())
    }

    /// The outbox, with room for one more event: a webhook that is down for long, or slower than they come, loses some. Those buckets
    /// lose their oldest that have most waiting, so that nobody's burst takes another's place.
    fn make_place(&mut self, webhook: &str) -> Result<Outbox, KvError> {
        let Some(mut outbox) = self.read::<Outbox>(&self.keys.outbox(webhook))? else {
            // Whoever looks need not step over what was here before.
            let passed = EventId { index: self.index.saturating_sub(1), ordinal: u16::MAX };
            return Ok(Outbox { passed: Some(passed), ..Outbox::default() });
        };
        if outbox.pending >= PENDING_MAX {
            let excess = self.excess_events(webhook)?;
            let dropped = self.take_out(webhook, &mut outbox, &[], &excess)?;
            outbox.dropped += dropped;
            self.note_untold(webhook, Untold { dropped, ..Untold::default() })?;
        }
        Ok(outbox)
    }

    /// Takes out what was delivered, sets aside what was not taken, and holds the outbox or lets go.
    pub(super) fn change_outbox(&mut self, webhook: &str, change: &OutboxChange) -> Result<MetaReply, KvError> {
        let key = self.keys.outbox(webhook);
        let Some(before) = self.read::<Outbox>(&key)? else { return Ok(MetaReply::Held(false)) };
        let mut after = before;
        // Who was slow, so that others have had the outbox meanwhile, does not know what else is set aside.
        let holds = before.claim.is_some_and(|(holder, _)| holder == change.holder);
        if holds && self.set_aside(webhook, &change.aside)? {
            after.passed = before.passed.max(change.passed);
        }
        let given_up = self.take_out(webhook, &mut after, &change.done, &change.given_up)?;
        if given_up > 0 {
            self.note_untold(webhook, Untold { given_up, ..Untold::default() })?;
        }
        after.dropped = before.dropped.saturating_sub(change.dropped);
        let is_others = |(holder, until_ms): &(_, u64)| {
            *holder != change.holder && (self.time_ms..=self.time_ms.saturating_add(CLAIM_MS_MAX)).contains(until_ms)
        };
        let others = before.claim.filter(is_others);
        let own = change.until_ms.map(|until_ms| (change.holder, until_ms));
        after.claim = others.or(own);
        match after {
            after if after == before => {}
            Outbox { pending: 0, dropped: 0, claim: None, .. } => self.delete(key),
            after => self.put(key, &after),
        }
        Ok(MetaReply::Held(others.is_none() && own.is_some()))
    }

    /// Sets events aside, and says whether it did: all of them, or none when they would be too many.
    fn set_aside(&mut self, webhook: &str, events: &[(EventId, Aside)]) -> Result<bool, KvError> {
        if events.is_empty() {
            return Ok(true);
        }
        let known = self.asides(webhook)?;
        let new = events.iter().filter(|(id, _)| !known.contains_key(id)).count();
        if known.len() + new > ASIDE_MAX {
            return Ok(false);
        }
        for (id, aside) in events {
            // It may have been dropped.
            if self.get(&self.keys.event(webhook, *id))?.is_some() {
                self.put(self.keys.aside(webhook, *id), aside);
            }
        }
        Ok(true)
    }

    /// Removes events, those that were told and those that will not be, and says how many there were of these. One that was set
    /// aside leaves its place to the next of its key.
    fn take_out(
        &mut self,
        webhook: &str,
        outbox: &mut Outbox,
        told: &[EventId],
        untold: &[EventId],
    ) -> Result<u64, KvError> {
        let asides = self.asides(webhook)?;
        let (mut removed, mut never_told, mut gone) = (0, 0, Gone::new());
        let heir = Aside { tries: 0, failed_ms: self.time_ms, next_ms: 0 };
        let told = told.iter().map(|id| (id, Some(heir)));
        for (id, heir) in told.chain(untold.iter().map(|id| (id, None))) {
            let key = self.keys.event(webhook, *id);
            let Some(record) = self.get(&key)? else { continue };
            self.delete(key);
            removed += 1;
            never_told += u64::from(heir.is_none());
            if let Some(aside) = asides.get(id) {
                let Event { bucket, key, .. } = Event::decode(&record)?;
                gone.insert((bucket, key), (*id, heir.unwrap_or(*aside)));
                self.delete(self.keys.aside(webhook, *id));
            }
        }
        self.let_follow(webhook, gone, outbox.passed)?;
        outbox.pending = outbox.pending.saturating_sub(removed);
        let asides = if asides.is_empty() { asides } else { self.asides(webhook)? };
        outbox.aside = u32::try_from(asides.len()).unwrap_or(u32::MAX);
        outbox.next_ms = asides.values().map(|aside| aside.next_ms).min().unwrap_or_default();
        Ok(never_told)
    }

    /// Remembers events that are never told, for whoever looks after the cluster.
    fn note_untold(&mut self, webhook: &str, more: Untold) -> Result<(), KvError> {
        let key = self.keys.untold(webhook);
        let before = self.read::<Untold>(&key)?.unwrap_or_default();
        let now = Untold { last_ms: self.time_ms, ..before.of_late(self.time_ms).and(more) };
        self.put(key, &now);
        Ok(())
    }

    /// Of each of these keys the first event that waited behind the one that is gone is set aside instead: it is the next.
    fn let_follow(&mut self, webhook: &str, mut gone: Gone, passed: Option<EventId>) -> Result<(), KvError> {
        let first = gone.values().map(|(id, _)| *id).min();
        let (Some(first), Some(passed)) = (first, passed) else { return Ok(()) };
        let (lower, upper) = (self.keys.event(webhook, first), self.keys.events_after(webhook, passed));
        let kv = self.kv;
        let mut cursor = kv.cursor(Table::Meta, &lower, &upper)?;
        cursor.seek(&lower)?;
        while let Some((key, record)) = cursor.entry().filter(|_| !gone.is_empty()) {
            // What this step has removed is still there for the cursor.
            if !self.staged.contains_key(key) {
                let event = Event::decode(record)?;
                let next = gone.remove(&(event.bucket, event.key)).zip(Keys::parse_event(key));
                if let Some(((_, aside), id)) = next {
                    self.put(self.keys.aside(webhook, id), &aside);
                }
            }
            cursor.next()?;
        }
        Ok(())
    }

    /// All that is set aside, as this step leaves it.
    fn asides(&self, webhook: &str) -> Result<BTreeMap<EventId, Aside>, KvError> {
        let lower = self.keys.asides(webhook);
        let upper = after_prefix(&lower).unwrap_or_default();
        let mut records = BTreeMap::new();
        let mut cursor = self.kv.cursor(Table::Meta, &lower, &upper)?;
        cursor.seek(&lower)?;
        while let Some((key, record)) = cursor.entry() {
            records.insert(key.to_vec(), Some(Bytes::copy_from_slice(record)));
            cursor.next()?;
        }
        let staged = self.staged.range(lower..upper);
        records.extend(staged.map(|(key, record)| (key.clone(), record.clone())));
        let present = records.iter().filter_map(|(key, record)| Some((Keys::parse_event(key)?, record.as_ref()?)));
        present.map(|(id, record)| Ok((id, Aside::decode(record)?))).collect()
    }

    /// The events to drop, oldest first.
    fn excess_events(&self, webhook: &str) -> Result<Vec<EventId>, KvError> {
        let lower = self.keys.events(webhook);
        let mut cursor = self.kv.cursor(Table::Meta, &lower, &after_prefix(&lower).unwrap_or_default())?;
        let (mut events, mut of_buckets) = (Vec::new(), BTreeMap::new());
        cursor.seek(&lower)?;
        while let Some((key, record)) = cursor.entry() {
            // What this step has removed is still there for the cursor.
            if let Some(id) = Keys::parse_event(key).filter(|_| !self.staged.contains_key(key)) {
                let bucket = Event::decode(record)?.bucket;
                events.push((bucket, id));
                *of_buckets.entry(bucket).or_default() += 1;
            }
            cursor.next()?;
        }
        let mut excess = excess(&of_buckets, DROPPED_AT_ONCE);
        events.retain(|(bucket, _)| {
            let left = excess.get_mut(bucket).filter(|left| **left > 0);
            left.map(|left| *left -= 1).is_some()
        });
        Ok(events.into_iter().map(|(_, id)| id).take(DROPPED_AT_ONCE as usize).collect())
    }
}

/// How many of these each bucket has too many, when all together are to lose at least so many: the largest are cut to one level, and
/// nobody below it loses anything.
fn excess(of_buckets: &BTreeMap<BucketId, u64>, wanted: u64) -> BTreeMap<BucketId, u64> {
    let above = |level: u64| of_buckets.values().map(|count| count.saturating_sub(level)).sum::<u64>();
    // The highest level above which there are as many.
    let (mut enough, mut too_high) = (0, of_buckets.values().copied().max().unwrap_or(0).max(1));
    while too_high - enough > 1 {
        let middle = enough + (too_high - enough) / 2;
        if above(middle) >= wanted { enough = middle } else { too_high = middle }
    }
    of_buckets.iter().map(|(bucket, count)| (*bucket, count.saturating_sub(enough))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use annulus_common::ids::BucketId;

    use super::excess;

    fn cut(counts: &[u64], wanted: u64) -> Vec<u64> {
        let of_buckets: BTreeMap<_, _> = (0..).map(BucketId).zip(counts.iter().copied()).collect();
        excess(&of_buckets, wanted).into_values().collect()
    }

    #[test]
    fn the_largest_are_cut_to_one_level() {
        assert_eq!(cut(&[20], 5), [5]);
        assert_eq!(cut(&[3, 17], 5), [0, 5]);
        assert_eq!(cut(&[9, 10, 1], 5), [2, 3, 0]);
        assert_eq!(cut(&[9, 10, 1], 6), [3, 4, 0], "one more than wanted: they are equal");
        assert_eq!(cut(&[1; 8], 5), [1; 8]);
        assert_eq!(cut(&[2, 2], 9), [2, 2], "there are no more");
        assert_eq!(cut(&[], 5), [] as [u64; 0]);
    }
}
