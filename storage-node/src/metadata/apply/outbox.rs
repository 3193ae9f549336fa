//! Events and where they wait: each is put into the outbox of its webhook by the step that makes it, so that none is lost
//! and none tells of what did not happen; whoever delivers takes it out again.

use std::sync::Arc;

use annulus_common::notification::{Event, EventId, EventName, Means, Rule};
use annulus_common::object::{ETag, KeyPath, VersionId};
use annulus_common::protocol::metadata::{CLAIM_MS_MAX, MetaReply, OutboxChange, after_prefix};

use super::super::schema::keys::Keys;
use super::super::schema::records::{Head, Outbox};
use super::Step;
use crate::kv::{KvError, Table};

/// Events that wait for one webhook in one partition: some 10 MB. A bucket has 16 shards, so that 320,000 of its events
/// wait while its webhook is down.
const PENDING_MAX: u64 = 20_000;

/// The oldest that are dropped at once when there are more: no step makes as many, so that it drops only once.
const DROPPED_AT_ONCE: u64 = 1_024;

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
            self.put(self.keys.outbox(&rule.webhook), &Outbox { pending: outbox.pending + 1, ..outbox });
            self.put(self.keys.event(&rule.webhook, id), &event);
        }
        Ok(())
    }

    /// The outbox, with room for one more event: a webhook that is down for long loses the oldest.
    fn make_place(&mut self, webhook: &str) -> Result<Outbox, KvError> {
        let outbox: Outbox = self.read(&self.keys.outbox(webhook))?.unwrap_or_default();
        if outbox.pending < PENDING_MAX {
            return Ok(outbox);
        }
        let removed = self.remove_events(webhook, |removed, _| removed < DROPPED_AT_ONCE)?;
        Ok(Outbox { pending: outbox.pending - removed, dropped: outbox.dropped + removed, ..outbox })
    }

    /// Takes out what was delivered, and holds the outbox or lets go.
    pub(super) fn change_outbox(&mut self, webhook: &str, change: &OutboxChange) -> Result<MetaReply, KvError> {
        let key = self.keys.outbox(webhook);
        let Some(before) = self.read::<Outbox>(&key)? else { return Ok(MetaReply::Held(false)) };
        let removed = match change.through {
            Some(through) => self.remove_events(webhook, |_, id| id <= through)?,
            None => 0,
        };
        let is_others = |(holder, until_ms): &(_, u64)| {
            *holder != change.holder && (self.time_ms..=self.time_ms.saturating_add(CLAIM_MS_MAX)).contains(until_ms)
        };
        let others = before.claim.filter(is_others);
        let own = change.until_ms.map(|until_ms| (change.holder, until_ms));
        let after = Outbox {
            pending: before.pending.saturating_sub(removed),
            dropped: before.dropped.saturating_sub(change.dropped),
            claim: others.or(own),
        };
        match after {
            after if after == before => {}
            Outbox { pending: 0, dropped: 0, claim: None } => self.delete(key),
            after => self.put(key, &after),
        }
        Ok(MetaReply::Held(others.is_none() && own.is_some()))
    }

    /// Removes the first events, as long as `goes` says so, and says how many.
    fn remove_events(&mut self, webhook: &str, goes: impl Fn(u64, EventId) -> bool) -> Result<u64, KvError> {
        let lower = self.keys.events(webhook);
        let kv = self.kv;
        let mut cursor = kv.cursor(Table::Meta, &lower, &after_prefix(&lower).unwrap_or_default())?;
        let mut removed = 0;
        cursor.seek(&lower)?;
        while let Some((key, _)) = cursor.entry() {
            let is_gone = |id: &EventId| goes(removed, *id);
            if Keys::parse_event(key).filter(is_gone).is_none() {
                break;
            }
            self.delete(key.to_vec());
            removed += 1;
            cursor.next()?;
        }
        Ok(removed)
    }
}
