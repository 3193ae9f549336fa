//! What is said of outboxes: the events of a partition that wait for a webhook. The step that makes an event puts it there;
//! whoever holds the outbox delivers from it, in order, and takes out what the webhook has. An event that the webhook does not
//! take is set aside, so that those of other keys go on.

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

/// Events that are set aside in one outbox: one for each key that is held back. Refuses a webhook the events of more keys than
/// this, without taking any other, then it is not the events that are wrong.
pub const ASIDE_MAX: usize = 64;

/// The longest pause before an event that is set aside is tried again. One that reaches further into the future is of a clock
/// that is wrong, and void.
pub const ASIDE_PAUSE_MS_MAX: u64 = 600_000;

/// How it stands with an event that was not taken and is set aside: it is tried again later, and other events of its key wait
/// behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Aside {
    /// Tries that failed although the webhook took other events meanwhile.
    pub tries: u32,
    /// When the last one failed, Unix milliseconds.
    pub failed_ms: u64,
    /// Not to be tried before, Unix milliseconds.
    pub next_ms: u64,
}

/// What whoever delivers from an outbox changes of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutboxChange {
    /// Who.
    pub holder: RequestId,
    /// Takes these events out: they were told, or nobody is to be told of them any more.
    pub done: Vec<EventId>,
    /// Takes these out untold. What waits behind one of them inherits how it stood.
    pub given_up: Vec<EventId>,
    /// Sets these aside, or says how it stands with them now: done only for who holds the outbox already.
    pub aside: Vec<(EventId, Aside)>,
    /// Everything up to this event was looked at: what of it is still there is set aside, or behind one that is. Done only for
    /// who holds the outbox already.
    pub passed: Option<EventId>,
    /// So many events that were dropped for want of room have been told of.
    pub dropped: u64,
    /// Holds the outbox until then, Unix milliseconds, if nobody else does; without it lets go.
    pub until_ms: Option<u64>,
}

/// The next events of an outbox.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct OutboxPage {
    /// The first that were not looked at, in order.
    pub events: Vec<(EventId, Event)>,
    /// Who looks at all of these has looked at everything up to here.
    pub through: Option<EventId>,
    /// Those that are set aside, in order.
    pub aside: Vec<(EventId, Aside, Event)>,
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
    /// Of these, set aside.
    pub aside: u32,
    /// Nothing can be done in it before, Unix milliseconds.
    pub due_ms: u64,
    /// Who holds it, and until when, Unix milliseconds.
    pub claim: Option<(RequestId, u64)>,
}
