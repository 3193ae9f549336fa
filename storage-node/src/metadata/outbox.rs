//! What waits in a partition's outboxes, read: which of them are not empty, what it comes to, and the first events of one.

use std::collections::BTreeMap;

use annulus_common::ids::{GroupId, PartitionId};
use annulus_common::notification::{ACCESS_LOG, Event, EventId};
use annulus_common::protocol::metadata::{Aside, EVENTS_PER_QUERY_MAX, OutboxPage, after_prefix};
use annulus_common::protocol::outbox::{Backlog, Backlogs, OUTBOXES_PER_ANSWER_MAX, Untold, WaitingOutbox};

use super::schema::keys::{Keys, Range};
use super::schema::records::{Outbox, Record};
use crate::kv::{KvError, KvRead, Table};

const READING: &str = "reading outboxes";

/// The outboxes of these partitions that are not empty. One that is has no record.
pub fn waiting(kv: &dyn KvRead, partitions: &[PartitionId]) -> Result<Vec<WaitingOutbox>, KvError> {
    let outboxes = of_webhooks::<Outbox>(kv, partitions, Keys::outboxes)?;
    let waiting = outboxes.into_iter().map(|(partition, webhook, outbox)| {
        let Outbox { pending, aside, claim, .. } = outbox;
        WaitingOutbox { partition, webhook, pending, aside, due_ms: outbox.due_ms(), claim }
    });
    Ok(waiting.collect())
}

/// What waits for each webhook in all of these partitions, and what it is never told. Reads the first event of an outbox and no
/// other. Records for access logs go the same way and are no events.
pub fn backlogs(kv: &dyn KvRead, partitions: &[PartitionId]) -> Result<Backlogs, KvError> {
    let outboxes = of_webhooks::<Outbox>(kv, partitions, Keys::outboxes)?;
    let untold = of_webhooks::<Untold>(kv, partitions, Keys::untolds)?;
    let is_all = outboxes.len().max(untold.len()) < OUTBOXES_PER_ANSWER_MAX;
    let mut of_each = BTreeMap::<String, Backlog>::new();
    let mut add = |backlog: Backlog| {
        let known = of_each.remove(&backlog.webhook).unwrap_or_default();
        of_each.insert(backlog.webhook.clone(), backlog.and(&known));
    };
    for (partition, webhook, outbox) in outboxes.into_iter().filter(|(_, webhook, _)| webhook != ACCESS_LOG) {
        let oldest_ms = oldest_ms(kv, Keys::of(partition.into()), &webhook, &outbox)?;
        let Outbox { pending, aside, .. } = outbox;
        add(Backlog { webhook, pending, aside: aside.into(), oldest_ms, ..Backlog::default() });
    }
    for (_, webhook, untold) in untold.into_iter().filter(|(_, webhook, _)| webhook != ACCESS_LOG) {
        add(Backlog { webhook, untold, ..Backlog::default() });
    }
    Ok(Backlogs { webhooks: of_each.into_values().collect(), is_all })
}

/// The records of a range that lies in each of these partitions, by webhook: at most [`OUTBOXES_PER_ANSWER_MAX`].
fn of_webhooks<R: Record>(
    kv: &dyn KvRead,
    partitions: &[PartitionId],
    range: fn(Keys) -> Range,
) -> Result<Vec<(PartitionId, String, R)>, KvError> {
    let mut records = Vec::new();
    for partition in partitions {
        let (lower, upper) = range(Keys::of(GroupId::from(*partition)));
        let mut cursor = kv.cursor(Table::Meta, &lower, &upper)?;
        cursor.seek(&lower)?;
        while let Some((key, record)) = cursor.entry() {
            if records.len() == OUTBOXES_PER_ANSWER_MAX {
                return Ok(records);
            }
            let webhook = Keys::parse_webhook(key).ok_or_else(|| corrupt("the name of a webhook is not text"))?;
            records.push((*partition, webhook.to_owned(), R::decode(record)?));
            cursor.next()?;
        }
    }
    Ok(records)
}

/// When the oldest event that waits was made. What is left of those that were looked at is set aside, or behind one that is: so it
/// is the first that is set aside, or the first that was not looked at.
fn oldest_ms(kv: &dyn KvRead, keys: Keys, webhook: &str, outbox: &Outbox) -> Result<Option<u64>, KvError> {
    let first = |lower: Vec<u8>, prefix: &[u8]| -> Result<Option<EventId>, KvError> {
        let mut cursor = kv.cursor(Table::Meta, &lower, &after_prefix(prefix).unwrap_or_default())?;
        cursor.seek(&lower)?;
        cursor.entry().map(|(key, _)| parse(key)).transpose()
    };
    let asides = keys.asides(webhook);
    let aside = if outbox.aside > 0 { first(asides.clone(), &asides)? } else { None };
    let id = match aside {
        Some(id) => Some(id),
        None => first(not_looked_at(keys, webhook, outbox.passed), &keys.events(webhook))?,
    };
    let record = id.map(|id| kv.get(Table::Meta, &keys.event(webhook, id))).transpose()?.flatten();
    record.map(|record| Ok(Event::decode(&record)?.time_ms)).transpose()
}

/// Where the events begin that were not looked at.
fn not_looked_at(keys: Keys, webhook: &str, passed: Option<EventId>) -> Vec<u8> {
    passed.map_or_else(|| keys.events(webhook), |passed| keys.events_after(webhook, passed))
}

/// The next events that wait for a webhook, and those that are set aside.
pub(super) fn page(kv: &dyn KvRead, keys: Keys, webhook: &str) -> Result<OutboxPage, KvError> {
    let Some(outbox) = kv.get(Table::Meta, &keys.outbox(webhook))? else { return Ok(OutboxPage::default()) };
    let Outbox { dropped, last, passed, aside, .. } = Outbox::decode(&outbox)?;
    let lower = not_looked_at(keys, webhook, passed);
    let upper = after_prefix(&keys.events(webhook)).unwrap_or_default();
    let mut cursor = kv.cursor(Table::Meta, &lower, &upper)?;
    let mut events = Vec::new();
    cursor.seek(&lower)?;
    while let Some((key, record)) = cursor.entry().filter(|_| events.len() < EVENTS_PER_QUERY_MAX as usize) {
        events.push((parse(key)?, Event::decode(record)?));
        cursor.next()?;
    }
    let is_all = events.len() < EVENTS_PER_QUERY_MAX as usize;
    let through = if is_all { last } else { events.last().map(|(id, _)| *id) };
    let aside = if aside > 0 { asides(kv, keys, webhook)? } else { Vec::new() };
    Ok(OutboxPage { events, through, aside, dropped })
}

/// At most [`ASIDE_MAX`](annulus_common::protocol::metadata::ASIDE_MAX), as no step sets more aside.
fn asides(kv: &dyn KvRead, keys: Keys, webhook: &str) -> Result<Vec<(EventId, Aside, Event)>, KvError> {
    let lower = keys.asides(webhook);
    let mut cursor = kv.cursor(Table::Meta, &lower, &after_prefix(&lower).unwrap_or_default())?;
    let mut asides = Vec::new();
    cursor.seek(&lower)?;
    while let Some((key, record)) = cursor.entry() {
        let id = parse(key)?;
        if let Some(event) = kv.get(Table::Meta, &keys.event(webhook, id))? {
            asides.push((id, Aside::decode(record)?, Event::decode(&event)?));
        }
        cursor.next()?;
    }
    Ok(asides)
}

fn parse(key: &[u8]) -> Result<EventId, KvError> {
    Keys::parse_event(key).ok_or_else(|| corrupt("the key of an event is too short"))
}

fn corrupt(reason: &str) -> KvError {
    KvError::Corrupt { during: READING, reason: reason.to_owned() }
}
