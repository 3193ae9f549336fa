//! What is said of outboxes: the events of a partition that wait for a webhook. The step that makes an event puts it there;
//! whoever holds the outbox delivers from it, in order, and takes out what the webhook has.

use serde::{Deserialize, Serialize};

use crate::ids::{PartitionId, RequestId};
use crate::notification::{Event, EventId};

/// Events that one query returns, with the longest keys some 150 KiB.
pub const EVENTS_PER_QUERY_MAX: u32 = 64;

/// Outboxes that a node tells of in one answer; of more it tells when these are empty.
pub const OUTBOXES_PER_ANSWER_MAX: usize = 4_096;

/// How long an outbox may be held without being asked for again, in milliseconds. A claim that reaches further into the
/// future is of a clock that is wrong, and void.
pub const CLAIM_MS_MAX: u64 = 30_000;

/// What whoever delivers from an outbox changes of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutboxChange {
    /// Who.
    pub holder: RequestId,
    /// Takes out everything up to this event.
    pub through: Option<EventId>,
    /// So many events that were dropped for want of room have been told of.
    pub dropped: u64,
    /// Holds the outbox until then, Unix milliseconds, if nobody else does; without it lets go.
    pub until_ms: Option<u64>,
}

/// The first events of an outbox.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct OutboxPage {
    /// In order.
    pub events: Vec<(EventId, Event)>,
    /// Events that were dropped for want of room and not told of yet.
    pub dropped: u64,
}

/// An outbox that is not empty, as the node that leads its partition has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WaitingOutbox {
    /// The partition.
    pub partition: PartitionId,
    /// The webhook.
    pub webhook: String,
    /// Events in it.
    pub pending: u64,
    /// Who holds it, and until when, Unix milliseconds.
    pub claim: Option<(RequestId, u64)>,
}
