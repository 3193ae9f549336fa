//! What waits in a partition's outboxes, read: which of them are not empty, and the first events of one.

use annulus_common::ids::{GroupId, PartitionId};
use annulus_common::notification::Event;
use annulus_common::protocol::metadata::{EVENTS_PER_QUERY_MAX, OutboxPage, after_prefix};
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
            let Outbox { pending, claim, .. } = Outbox::decode(record)?;
            waiting.push(WaitingOutbox { partition: *partition, webhook: webhook.to_owned(), pending, claim });
            cursor.next()?;
        }
    }
    Ok(waiting)
}

/// The first events that wait for a webhook.
pub(super) fn page(kv: &dyn KvRead, keys: Keys, webhook: &str) -> Result<OutboxPage, KvError> {
    let Some(outbox) = kv.get(Table::Meta, &keys.outbox(webhook))? else { return Ok(OutboxPage::default()) };
    let Outbox { dropped, .. } = Outbox::decode(&outbox)?;
    let lower = keys.events(webhook);
    let mut cursor = kv.cursor(Table::Meta, &lower, &after_prefix(&lower).unwrap_or_default())?;
    let mut events = Vec::new();
    cursor.seek(&lower)?;
    while let Some((key, record)) = cursor.entry() {
        if events.len() == EVENTS_PER_QUERY_MAX as usize {
            break;
        }
        let id = Keys::parse_event(key).ok_or_else(|| corrupt("the key of an event is too short"))?;
        events.push((id, Event::decode(record)?));
        cursor.next()?;
    }
    Ok(OutboxPage { events, dropped })
}

fn corrupt(reason: &str) -> KvError {
    KvError::Corrupt { during: READING, reason: reason.to_owned() }
}
