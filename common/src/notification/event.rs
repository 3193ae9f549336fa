//! What happened, and what brought it about: all that a webhook is told, but for what the cluster map says of the bucket.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::EventName;
use crate::checksum::ETag;
use crate::ids::BucketId;
use crate::object::VersionId;

/// Who acts when nobody asked: how S3 names itself.
const SERVICE: &str = "s3.amazonaws.com";

/// What brought a mutation about, as its events tell it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cause {
    /// By what means objects come.
    pub means: Means,
    /// Who asked.
    pub principal: String,
    /// From where.
    pub source: String,
    /// The request's `x-amz-request-id`.
    pub request_id: String,
    /// Its `x-amz-id-2`.
    pub host_id: String,
}

/// By what means objects come and go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Means {
    /// They are put, or appended to.
    Put,
    /// They are in browsers' forms.
    Post,
    /// They are copies.
    Copy,
    /// They are made of parts.
    CompleteUpload,
    /// They go because a lifecycle rule says so.
    Lifecycle,
}

/// A place in the order of a partition's events, which is the order of each key's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct EventId {
    /// The log entry that made it.
    pub index: u64,
    /// Which of that entry's events it is.
    pub ordinal: u16,
}

/// Something that happened to an object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// What.
    pub name: EventName,
    /// When, Unix milliseconds.
    pub time_ms: u64,
    /// The configuration that asked for it.
    pub configuration: String,
    /// The object's bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: String,
    /// Its version.
    pub version: VersionId,
    /// What it is, unless it is gone.
    pub content: Option<(u64, ETag)>,
    /// What brought it about.
    pub cause: Cause,
}

impl Cause {
    /// The service itself.
    pub fn of_service(means: Means) -> Self {
        Self {
            means,
            principal: SERVICE.to_owned(),
            source: SERVICE.to_owned(),
            request_id: String::new(),
            host_id: String::new(),
        }
    }
}

impl Means {
    /// What it is called that an object came.
    pub fn created(self) -> EventName {
        match self {
            Self::Put | Self::Lifecycle => EventName::ObjectCreatedPut,
            Self::Post => EventName::ObjectCreatedPost,
            Self::Copy => EventName::ObjectCreatedCopy,
            Self::CompleteUpload => EventName::ObjectCreatedCompleteMultipartUpload,
        }
    }

    /// What it is called that a version is gone.
    pub fn removed(self) -> EventName {
        match self {
            Self::Lifecycle => EventName::LifecycleExpirationDelete,
            _ => EventName::ObjectRemovedDelete,
        }
    }

    /// What it is called that a delete marker hides a key.
    pub fn marked(self) -> EventName {
        match self {
            Self::Lifecycle => EventName::LifecycleExpirationDeleteMarkerCreated,
            _ => EventName::ObjectRemovedDeleteMarkerCreated,
        }
    }
}

/// As the `sequencer` of a message: of two events of one key the later has the greater text.
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}{:04X}", self.index, self.ordinal)
    }
}

#[cfg(test)]
mod tests {
    use super::EventId;

    #[test]
    fn sequencers_sort_as_events_do() {
        let ids = [(1, 0), (1, 1), (9, 0x1000), (10, 0), (u64::MAX, u16::MAX)];
        let ids = ids.map(|(index, ordinal)| EventId { index, ordinal });
        let texts = ids.map(|id| id.to_string());
        assert!(ids.is_sorted() && texts.is_sorted() && texts.iter().all(|text| text.len() == 20), "{texts:?}");
    }
}
