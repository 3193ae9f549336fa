//! A bucket's lifecycle configuration and what it means: which version expires when, and by which rule. Pure: the gateway
//! tells it in headers, the storage node carries it out, and both ask the same functions.
//!
//! See "Lifecycle configuration elements" in the S3 user guide. Transitions to other storage classes are not here.

mod calendar;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use calendar::Calendar;
pub use plan::{Due, Standing, VersionFacts, due, expiry};

/// Rules of one bucket, as S3 says.
pub const RULES_MAX: usize = 1_000;

/// The longest id of a rule, as S3 says.
pub const RULE_ID_CHARS_MAX: usize = 255;

/// The most `NewerNoncurrentVersions`, as S3 says.
pub const NEWER_VERSIONS_MAX: u32 = 100;

/// A bucket's lifecycle.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Its rules, in the order of the document.
    pub rules: Vec<Rule>,
}

/// A rule. At least one of its actions is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// Unique in the bucket.
    pub id: String,
    /// A disabled rule is kept and does nothing.
    pub enabled: bool,
    /// What it is about.
    pub filter: Filter,
    /// What becomes of current versions.
    pub expiration: Option<Expiration>,
    /// What becomes of noncurrent versions.
    pub noncurrent: Option<NoncurrentExpiration>,
    /// After how many days uploads that were not completed are aborted.
    pub abort_upload_days: Option<u32>,
}

/// What a rule is about: what meets all of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Filter {
    /// How the document wrote it, so that it is given back alike.
    pub form: FilterForm,
    /// Keys that begin with it.
    pub prefix: Option<String>,
    /// Objects that have all these tags.
    pub tags: BTreeMap<String, String>,
    /// Objects with more bytes.
    pub size_greater: Option<u64>,
    /// Objects with fewer bytes.
    pub size_less: Option<u64>,
}

/// How a document wrote a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum FilterForm {
    /// `Prefix` in the rule itself, as documents of old have it.
    Legacy,
    /// `Filter` with one condition or none.
    #[default]
    One,
    /// `Filter` with `And`.
    And,
}

/// What becomes of current versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Expiration {
    /// They expire so many days after they were written. At least 1.
    Days(u32),
    /// They expire at this midnight, Unix milliseconds, and those that are written later at once.
    Date(u64),
    /// A delete marker goes when no version is left behind it.
    DeleteMarker,
}

/// What becomes of noncurrent versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NoncurrentExpiration {
    /// They expire so many days after they became noncurrent. At least 1.
    pub days: u32,
    /// But for so many of the newest of them.
    pub newer: Option<u32>,
}

impl Filter {
    /// Whether what has that key, size and these tags is meant.
    pub fn matches(&self, key: &str, size: u64, tags: &BTreeMap<String, String>) -> bool {
        self.matches_key(key)
            && self.size_greater.is_none_or(|bound| size > bound)
            && self.size_less.is_none_or(|bound| size < bound)
            && self.tags.iter().all(|(name, value)| tags.get(name) == Some(value))
    }

    /// Whether that key is meant.
    pub fn matches_key(&self, key: &str) -> bool {
        self.prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix.as_str()))
    }

    /// Whether it asks for what uploads and delete markers do not have.
    pub fn needs_object(&self) -> bool {
        !self.tags.is_empty() || self.size_greater.is_some() || self.size_less.is_some()
    }
}

impl Lifecycle {
    /// The rules that are in force.
    pub fn enabled(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.enabled)
    }

    /// When an upload of that key, begun then, is aborted, and by which rule: the earliest counts.
    pub fn upload_expiry(&self, key: &str, initiated_ms: u64, calendar: Calendar) -> Option<(u64, &str)> {
        let rules = self.enabled().filter(|rule| rule.filter.matches_key(key));
        let due =
            rules.filter_map(|rule| Some((calendar.after(initiated_ms, rule.abort_upload_days?), rule.id.as_str())));
        due.min_by_key(|(at_ms, _)| *at_ms)
    }
}
