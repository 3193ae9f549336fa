//! Preconditions, judged by one pure function: by the metadata state machine for writes (inside the Raft group, never
//! before proposing) and by the gateway for reads. See RFC 9110 section 13 and the S3 pages on conditional requests.

use serde::{Deserialize, Serialize};

use crate::object::ObjectVersion;

/// The entity tags of an `If-Match` or `If-None-Match` header.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ETagCondition {
    /// `*`: any object at all.
    Any,
    /// One of these, without quotes.
    OneOf(Vec<String>),
}

/// What must hold of the current object. Empty holds always.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Conditions {
    /// `If-Match`.
    pub if_match: Option<ETagCondition>,
    /// `If-None-Match`.
    pub if_none_match: Option<ETagCondition>,
    /// `If-Modified-Since`, Unix seconds.
    pub if_modified_since: Option<i64>,
    /// `If-Unmodified-Since`, Unix seconds.
    pub if_unmodified_since: Option<i64>,
    /// `x-amz-if-match-size` of DeleteObject.
    pub if_match_size: Option<u64>,
    /// `x-amz-if-match-last-modified-time` of DeleteObject, Unix seconds.
    pub if_match_modified: Option<i64>,
}

/// The judgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Go on.
    Holds,
    /// `If-None-Match` or `If-Modified-Since` failed: a read answers 304, a write 412.
    NotModified,
    /// Another condition failed: 412.
    Failed,
    /// A write asked for a match and there is no object: 404.
    NoObject,
}

impl Conditions {
    /// Whether there is nothing to judge.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Judges the conditions against the object as it is now.
    pub fn judge(&self, current: Option<&ObjectVersion>) -> Verdict {
        self.judge_facts(
            current.map(|version| (version.object.etag.to_string(), version.modified_ms, version.object.size)),
        )
    }

    /// The same for what is known of the object: its entity tag, `Last-Modified` in Unix milliseconds, and size.
    pub fn judge_facts(&self, current: Option<(String, u64, u64)>) -> Verdict {
        match current {
            Some((etag, modified_ms, size)) => self.judge_object(&etag, modified_ms, size),
            None if self.wants_object() => Verdict::NoObject,
            None => Verdict::Holds,
        }
    }

    fn wants_object(&self) -> bool {
        self.if_match.is_some() || self.if_match_size.is_some() || self.if_match_modified.is_some()
    }

    /// RFC 9110 section 13.2.2: a matching `If-Match` overrules the date, and a present `If-None-Match` does likewise.
    fn judge_object(&self, etag: &str, modified_ms: u64, size: u64) -> Verdict {
        let modified = i64::try_from(modified_ms / 1000).unwrap_or(i64::MAX);
        match &self.if_match {
            Some(condition) if !condition.matches(etag) => return Verdict::Failed,
            Some(_) => {}
            None if self.if_unmodified_since.is_some_and(|since| modified > since) => return Verdict::Failed,
            None => {}
        }
        if self.if_match_size.is_some_and(|wanted| wanted != size)
            || self.if_match_modified.is_some_and(|wanted| wanted != modified)
        {
            return Verdict::Failed;
        }
        match &self.if_none_match {
            Some(condition) if condition.matches(etag) => Verdict::NotModified,
            Some(_) => Verdict::Holds,
            None if self.if_modified_since.is_some_and(|since| modified <= since) => Verdict::NotModified,
            None => Verdict::Holds,
        }
    }
}

impl ETagCondition {
    fn matches(&self, etag: &str) -> bool {
        match self {
            ETagCondition::Any => true,
            ETagCondition::OneOf(tags) => tags.iter().any(|tag| tag == etag),
        }
    }
}
