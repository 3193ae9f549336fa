//! What waits in a partition's outboxes, read: which of them are not empty, and the first events of one.

use annulus_common::ids::{GroupId, PartitionId};
use annulus_common::notification::{Event, EventId};
use annulus_common::protocol::metadata::{Aside, EVENTS_PER_QUERY_MAX, OutboxPage, after_prefix};
use annulus_common::protocol::outbox::{OUTBOXES_PER_ANSWER_MAX, WaitingOutbox};

use super::schema::keys::Keys;
use super::schema::records::{Outbox, Record};
use crate::kv::{KvError, KvRead, Table};

const READING: &str = "reading outboxes";

/// The outboxes of these partitions that are not empty. One that is has no record.
pub fn waiting(kv: &dyn KvRead, partitions: &[PartitionId]) -> Result<Vec<WaitingOutbox>, KvError> {
    let mut waiting = Vec::new();
    for partition in partitions {
        let (lower, upper) = Keys::of(GroupId::from(*partition)).outboxes();
        let mut cursor = kv.cursor(Table::Meta, &lower, &upper)?;
        cursor.seek(&lower)?;
        while let Some((key, record)) = cursor.entry() {
            if waiting.len() == OUTBOXES_PER_ANSWER_MAX {
                return Ok(waiting);
            }
            let webhook = Keys::parse_outbox(key).ok_or_else(|| corrupt("the name of a webhook is not text"))?;
            let outbox = Outbox::decode(record)?;
            let Outbox { pending, aside, claim, .. } = outbox;
            let (webhook, due_ms) = (webhook.to_owned(), outbox.due_ms());
            waiting.push(WaitingOutbox { partition: *partition, webhook, pending, aside, due_ms, claim });
            cursor.next()?;
        }
    }
    Ok(waiting)
}

/// The next events that wait for a webhook, and those that are set aside.
pub(super) fn page(kv: &dyn KvRead, keys: Keys, webhook: &str) -> Result<OutboxPage, KvError> {
    let Some(outbox) = kv.get(Table::Meta, &keys.outbox(webhook))? else { return Ok(OutboxPage::default()) };
    let Outbox { dropped, last, passed, aside, .. } = Outbox::decode(&outbox)?;
    let lower = passed.map_or_else(|| keys.events(webhook), |passed| keys.events_after(webhook, passed));
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
