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

/// After so long without another one, events that are never told are counted anew, and not shown any more, in milliseconds: who
/// looks after a cluster looks at it once a week.
pub const UNTOLD_KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

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

/// Events of a webhook that are never told, since there was a week without any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Untold {
    /// Dropped: too many waited.
    pub dropped: u64,
    /// Given up: the webhook refused them too often.
    pub given_up: u64,
    /// When the last of them was, Unix milliseconds.
    pub last_ms: u64,
}

/// What waits for a webhook in all partitions that a node leads.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Backlog {
    /// The webhook.
    pub webhook: String,
    /// Events that wait.
    pub pending: u64,
    /// Of these, set aside.
    pub aside: u64,
    /// When the oldest of them was made, Unix milliseconds.
    pub oldest_ms: Option<u64>,
    /// Those that wait no more.
    pub untold: Untold,
}

/// All that a node tells of outboxes in its status.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Backlogs {
    /// The webhooks of which there is something to tell.
    pub webhooks: Vec<Backlog>,
    /// Whether that is everything: a node reads [`OUTBOXES_PER_ANSWER_MAX`] of its outboxes and no more.
    pub is_all: bool,
}

impl Untold {
    /// The events of both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            dropped: self.dropped + other.dropped,
            given_up: self.given_up + other.given_up,
            last_ms: self.last_ms.max(other.last_ms),
        }
    }

    /// What of it is still told at that time.
    #[must_use]
    pub fn of_late(self, now_ms: u64) -> Self {
        if now_ms.saturating_sub(self.last_ms) < UNTOLD_KEPT_MS { self } else { Self::default() }
    }
}

impl Backlog {
    /// What waits in both together, which are of one webhook.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self {
            webhook: self.webhook,
            pending: self.pending + other.pending,
            aside: self.aside + other.aside,
            oldest_ms: [self.oldest_ms, other.oldest_ms].into_iter().flatten().min(),
            untold: self.untold.and(other.untold),
        }
    }
}
