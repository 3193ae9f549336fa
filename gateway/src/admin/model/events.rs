//! What the admin API says of events and webhooks.

use serde::{Deserialize, Serialize};

/// Events that wait for webhooks, and those that are never told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsReport {
    /// Whether that is everything: every partition has a leader that answered and had not too much to tell, or no bucket has its
    /// events told.
    pub complete: bool,
    /// The webhooks that something waits for, or that have missed something of late.
    pub webhooks: Vec<WebhookReport>,
}

/// What waits for a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookReport {
    /// Its name.
    pub webhook: String,
    /// Events that wait.
    pub waiting: u64,
    /// Of these, events that it has refused, and that are tried again.
    pub set_aside: u64,
    /// When the oldest of them was made, Unix milliseconds.
    pub oldest_ms: Option<u64>,
    /// Events that are never told, as it refused them too often: those since there was a week without any that are never told.
    pub given_up: u64,
    /// The same of events that were dropped, as too many waited.
    pub dropped: u64,
    /// When the last of both was, Unix milliseconds.
    pub untold_ms: Option<u64>,
}
