//! Event notifications: which events of a bucket are told to which webhook, and what a mutation needs to tell them. Pure:
//! the gateway checks configurations, the storage node asks them in the step that makes an event.
//!
//! See "Amazon S3 Event Notifications" in the S3 user guide.

mod event;
mod name;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use event::{Cause, Event, EventId, Means};
pub use name::EventName;

/// Configurations of one bucket, as S3 says.
pub const RULES_MAX: usize = 100;

/// The longest id of a configuration, as S3 says.
pub const RULE_ID_CHARS_MAX: usize = 255;

/// The longest prefix or suffix, as S3 says: a key has no more.
pub const FILTER_BYTES_MAX: usize = 1_024;

/// The outbox of what is recorded in access logs instead of being posted to a webhook: none can have that name.
pub const ACCESS_LOG: &str = ":access-log";

/// Whom a bucket tells of what.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Notification {
    /// Its configurations, in the order of the document.
    pub rules: Vec<Arc<Rule>>,
}

/// One configuration: events of some keys, to one webhook.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// Unique in the bucket.
    pub id: String,
    /// What the document calls the webhook.
    pub destination: Destination,
    /// The webhook as the document names it.
    pub arn: String,
    /// The webhook's name.
    pub webhook: String,
    /// The events.
    pub events: Vec<EventName>,
    /// Keys that begin with it.
    pub prefix: Option<String>,
    /// Keys that end with it.
    pub suffix: Option<String>,
}

/// What a document calls a webhook. It is given back alike, and makes no other difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Destination {
    /// An SNS topic.
    Topic,
    /// An SQS queue.
    Queue,
    /// A Lambda function.
    Function,
}

/// What a mutation carries so that the step that carries it out can tell of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// What brought it about.
    pub cause: Cause,
    /// The configurations that may be met by what it does.
    pub rules: Vec<Arc<Rule>>,
}

impl Notification {
    /// What a mutation of these keys is to carry; nothing when nobody wants to know of any of them.
    pub fn notice<'a>(&self, cause: Cause, keys: impl Iterator<Item = &'a str> + Clone) -> Option<Box<Notice>> {
        let is_met = |rule: &&Arc<Rule>| keys.clone().any(|key| rule.matches_key(key));
        let rules: Vec<Arc<Rule>> = self.rules.iter().filter(is_met).cloned().collect();
        (!rules.is_empty()).then(|| Box::new(Notice { cause, rules }))
    }

    /// Whether that event is told to that webhook.
    pub fn tells(&self, webhook: &str, event: EventName, key: &str) -> bool {
        self.rules.iter().any(|rule| rule.webhook == webhook && rule.matches(event, key))
    }

    /// Two configurations that would both be met by the same event of the same key, if there are any.
    pub fn overlap(&self) -> Option<(&Rule, &Rule)> {
        let pairs = self.rules.iter().enumerate();
        let mut pairs = pairs.flat_map(|(place, one)| self.rules[..place].iter().map(move |other| (&**other, &**one)));
        pairs.find(|(one, other)| one.overlaps(other))
    }
}

impl Rule {
    /// What lifecycle rules do, for the access log.
    pub fn of_access_log() -> Self {
        Self {
            id: String::new(),
            destination: Destination::Queue,
            arn: String::new(),
            webhook: ACCESS_LOG.to_owned(),
            events: vec![EventName::LifecycleExpiration, EventName::UploadExpired],
            prefix: None,
            suffix: None,
        }
    }

    /// Whether the event of the key is told.
    pub fn matches(&self, event: EventName, key: &str) -> bool {
        self.events.iter().any(|wanted| wanted.covers(event)) && self.matches_key(key)
    }

    /// Whether some event of the key is told.
    pub fn matches_key(&self, key: &str) -> bool {
        self.prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix.as_str()))
            && self.suffix.as_ref().is_none_or(|suffix| key.ends_with(suffix.as_str()))
    }

    /// Whether both ask for an event, of keys whose prefixes and suffixes are each the beginning or the end of the other's:
    /// how S3 judges it.
    fn overlaps(&self, other: &Self) -> bool {
        let share = |one: &EventName| other.events.iter().any(|another| one.covers(*another) || another.covers(*one));
        let (prefixes, suffixes) = (texts(&self.prefix, &other.prefix), texts(&self.suffix, &other.suffix));
        self.events.iter().any(share)
            && (prefixes.0.starts_with(prefixes.1) || prefixes.1.starts_with(prefixes.0))
            && (suffixes.0.ends_with(suffixes.1) || suffixes.1.ends_with(suffixes.0))
    }
}

fn texts<'a>(one: &'a Option<String>, other: &'a Option<String>) -> (&'a str, &'a str) {
    (one.as_deref().unwrap_or_default(), other.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Cause, Destination, EventName, Means, Notification, Rule};

    fn rule(events: &[EventName], prefix: &str, suffix: &str) -> Rule {
        let filter = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Rule {
            id: "one".to_owned(),
            destination: Destination::Queue,
            arn: "arn:aws:sqs:::hook".to_owned(),
            webhook: "hook".to_owned(),
            events: events.to_vec(),
            prefix: filter(prefix),
            suffix: filter(suffix),
        }
    }

    fn notification(rules: Vec<Rule>) -> Notification {
        Notification { rules: rules.into_iter().map(Arc::new).collect() }
    }

    #[test]
    fn a_rule_is_met_by_its_events_of_its_keys() {
        let rule = rule(&[EventName::ObjectCreated], "images/", ".jpg");
        for (event, key, told) in [
            (EventName::ObjectCreatedPut, "images/a.jpg", true),
            (EventName::ObjectCreatedCopy, "images/.jpg", true),
            (EventName::ObjectRemovedDelete, "images/a.jpg", false),
            (EventName::ObjectCreatedPut, "images/a.png", false),
            (EventName::ObjectCreatedPut, "other/a.jpg", false),
        ] {
            assert_eq!(rule.matches(event, key), told, "{event:?} {key}");
        }
    }

    #[test]
    fn a_mutation_carries_what_may_be_met() {
        let rules = vec![rule(&[EventName::ObjectCreated], "a/", ""), rule(&[EventName::ObjectRemoved], "b/", "")];
        let (notification, cause) = (notification(rules), Cause::of_service(Means::Put));
        let carried = |keys: &[&str]| {
            let notice = notification.notice(cause.clone(), keys.iter().copied());
            notice.map_or(0, |notice| notice.rules.len())
        };
        assert_eq!((carried(&["c"]), carried(&["c", "a/x"]), carried(&["b/x", "a/x"])), (0, 1, 2));
        assert!(notification.tells("hook", EventName::ObjectCreatedPut, "a/x"));
        assert!(!notification.tells("other", EventName::ObjectCreatedPut, "a/x"));
    }

    #[test]
    fn overlaps_are_found_as_s3_finds_them() {
        use EventName::{ObjectCreated, ObjectCreatedPut, ObjectRemoved};
        for (one, other, overlap) in [
            (rule(&[ObjectCreated], "", ""), rule(&[ObjectCreatedPut], "", ""), true),
            (rule(&[ObjectCreated], "", ""), rule(&[ObjectRemoved], "", ""), false),
            (rule(&[ObjectCreated], "images", ""), rule(&[ObjectCreated], "images/a", ""), true),
            (rule(&[ObjectCreated], "images", ""), rule(&[ObjectCreated], "logs", ""), false),
            (rule(&[ObjectCreated], "", ".jpg"), rule(&[ObjectCreated], "images", ".png"), false),
            (rule(&[ObjectCreated], "", ".jpg"), rule(&[ObjectCreated], "images", "jpg"), true),
        ] {
            let found = notification(vec![one.clone(), other.clone()]).overlap().is_some();
            assert_eq!(found, overlap, "{one:?} {other:?}");
        }
    }
}
