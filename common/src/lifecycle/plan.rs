//! What is due of a version now, against the rules.

use std::collections::BTreeMap;

use super::{Calendar, Expiration, Lifecycle, Rule};

/// What rules ask of a version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VersionFacts<'a> {
    /// `Last-Modified`, Unix milliseconds.
    pub modified_ms: u64,
    /// Whether it is a delete marker.
    pub is_marker: bool,
    /// Bytes.
    pub size: u64,
    /// Its tags.
    pub tags: &'a BTreeMap<String, String>,
}

/// Where a version stands among those of its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is the newest.
    Current {
        /// There is no other.
        alone: bool,
    },
    /// It is not.
    Noncurrent {
        /// Since when: the next newer version was written then.
        since_ms: u64,
        /// How many of the noncurrent ones are newer.
        newer: u32,
    },
}

/// What is due of a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// The current version expires: it is deleted as a client deletes it, which in a versioned bucket makes a delete marker.
    Expire,
    /// The version is removed for good: it is noncurrent, or a delete marker that hides nothing any more.
    Remove,
}

/// When a current version expires, and by which rule: the earliest counts.
pub fn expiry<'a>(
    lifecycle: &'a Lifecycle,
    key: &str,
    version: &VersionFacts<'_>,
    calendar: Calendar,
) -> Option<(u64, &'a str)> {
    if version.is_marker {
        return None;
    }
    let rules = lifecycle.enabled().filter(|rule| rule.filter.matches(key, version.size, version.tags));
    let expires = rules.filter_map(|rule| {
        let at_ms = match rule.expiration? {
            Expiration::Days(days) => calendar.after(version.modified_ms, days),
            Expiration::Date(at_ms) => at_ms,
            Expiration::DeleteMarker => return None,
        };
        Some((at_ms, rule.id.as_str()))
    });
    expires.min_by_key(|(at_ms, _)| *at_ms)
}

/// What is due of a version of a key.
pub fn due(
    lifecycle: &Lifecycle,
    key: &str,
    version: &VersionFacts<'_>,
    standing: Standing,
    calendar: Calendar,
    now_ms: u64,
) -> Option<Due> {
    let is_due = match standing {
        Standing::Current { .. } if !version.is_marker => {
            return expiry(lifecycle, key, version, calendar)
                .filter(|(at_ms, _)| *at_ms <= now_ms)
                .map(|_| Due::Expire);
        }
        Standing::Current { alone: false } => false,
        Standing::Current { alone: true } => {
            lifecycle.enabled().any(|rule| marker_is_due(rule, key, version, calendar, now_ms))
        }
        Standing::Noncurrent { since_ms, newer } => lifecycle.enabled().any(|rule| {
            rule.noncurrent.is_some_and(|noncurrent| {
                newer >= noncurrent.newer.unwrap_or(0) && calendar.after(since_ms, noncurrent.days) <= now_ms
            }) && matches(rule, key, version)
        }),
    };
    is_due.then_some(Due::Remove)
}

/// A marker that hides nothing goes at once where the rule says so, and in its time where the rule counts days.
fn marker_is_due(rule: &Rule, key: &str, marker: &VersionFacts<'_>, calendar: Calendar, now_ms: u64) -> bool {
    matches(rule, key, marker)
        && match rule.expiration {
            Some(Expiration::DeleteMarker) => true,
            Some(Expiration::Days(days)) => calendar.after(marker.modified_ms, days) <= now_ms,
            Some(Expiration::Date(at_ms)) => at_ms <= now_ms,
            None => false,
        }
}

/// Delete markers have neither tags nor a size: a rule that asks for them does not mean markers.
fn matches(rule: &Rule, key: &str, version: &VersionFacts<'_>) -> bool {
    if version.is_marker {
        !rule.filter.needs_object() && rule.filter.matches_key(key)
    } else {
        rule.filter.matches(key, version.size, version.tags)
    }
}
