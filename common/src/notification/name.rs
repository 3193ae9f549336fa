//! The names of events, as configurations write them.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

/// An event, or all events of a kind. S3 takes names of what cannot happen here too, such as a restored object; they are
/// kept and never come.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, EnumString, IntoStaticStr)]
#[allow(missing_docs, reason = "each variant is the event of that name")]
pub enum EventName {
    #[strum(serialize = "s3:ObjectCreated:*")]
    ObjectCreated,
    #[strum(serialize = "s3:ObjectCreated:Put")]
    ObjectCreatedPut,
    #[strum(serialize = "s3:ObjectCreated:Post")]
    ObjectCreatedPost,
    #[strum(serialize = "s3:ObjectCreated:Copy")]
    ObjectCreatedCopy,
    #[strum(serialize = "s3:ObjectCreated:CompleteMultipartUpload")]
    ObjectCreatedCompleteMultipartUpload,
    #[strum(serialize = "s3:ObjectRemoved:*")]
    ObjectRemoved,
    #[strum(serialize = "s3:ObjectRemoved:Delete")]
    ObjectRemovedDelete,
    #[strum(serialize = "s3:ObjectRemoved:DeleteMarkerCreated")]
    ObjectRemovedDeleteMarkerCreated,
    #[strum(serialize = "s3:ObjectTagging:*")]
    ObjectTagging,
    #[strum(serialize = "s3:ObjectTagging:Put")]
    ObjectTaggingPut,
    #[strum(serialize = "s3:ObjectTagging:Delete")]
    ObjectTaggingDelete,
    #[strum(serialize = "s3:ObjectAcl:Put")]
    ObjectAclPut,
    #[strum(serialize = "s3:LifecycleExpiration:*")]
    LifecycleExpiration,
    #[strum(serialize = "s3:LifecycleExpiration:Delete")]
    LifecycleExpirationDelete,
    #[strum(serialize = "s3:LifecycleExpiration:DeleteMarkerCreated")]
    LifecycleExpirationDeleteMarkerCreated,
    #[strum(serialize = "s3:LifecycleTransition")]
    LifecycleTransition,
    #[strum(serialize = "s3:IntelligentTiering")]
    IntelligentTiering,
    #[strum(serialize = "s3:ObjectRestore:*")]
    ObjectRestore,
    #[strum(serialize = "s3:ObjectRestore:Post")]
    ObjectRestorePost,
    #[strum(serialize = "s3:ObjectRestore:Completed")]
    ObjectRestoreCompleted,
    #[strum(serialize = "s3:ObjectRestore:Delete")]
    ObjectRestoreDelete,
    #[strum(serialize = "s3:ReducedRedundancyLostObject")]
    ReducedRedundancyLostObject,
    #[strum(serialize = "s3:Replication:*")]
    Replication,
    #[strum(serialize = "s3:Replication:OperationFailedReplication")]
    ReplicationFailed,
    #[strum(serialize = "s3:Replication:OperationMissedThreshold")]
    ReplicationMissedThreshold,
    #[strum(serialize = "s3:Replication:OperationNotTracked")]
    ReplicationNotTracked,
    #[strum(serialize = "s3:Replication:OperationReplicatedAfterThreshold")]
    ReplicationAfterThreshold,
    /// An upload was ended by a lifecycle rule: S3 tells nobody, and records it in access logs.
    #[strum(serialize = "UploadExpired")]
    UploadExpired,
}

impl EventName {
    /// S3's name for it: `s3:ObjectCreated:Put`.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The one of that name, if S3 has it.
    pub fn named(name: &str) -> Option<Self> {
        name.parse().ok().filter(|event| *event != Self::UploadExpired)
    }

    /// Whether whoever asks for this is told of `event`.
    pub fn covers(self, event: Self) -> bool {
        self == event || self.name().strip_suffix('*').is_some_and(|kind| event.name().starts_with(kind))
    }

    /// The version of the message's structure that the event came with. See "Event message structure" in the S3 user guide.
    pub fn message_version(self) -> &'static str {
        match self.name().split(':').nth(1) {
            Some("ObjectCreated" | "ObjectRemoved" | "ReducedRedundancyLostObject") => "2.1",
            Some("Replication") => "2.2",
            _ => "2.3",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EventName;

    #[test]
    fn names_are_s3s() {
        for name in ["s3:ObjectCreated:*", "s3:ObjectAcl:Put", "s3:Replication:OperationNotTracked"] {
            assert_eq!(EventName::named(name).map(EventName::name), Some(name));
        }
        for name in [
            "ObjectCreated:Put",
            "s3:ObjectCreated:",
            "s3:*",
            "s3:ObjectAccessed:Get",
            "s3:TestEvent",
            "UploadExpired",
            "",
        ] {
            assert_eq!(EventName::named(name), None, "{name}");
        }
    }

    #[test]
    fn a_kind_covers_its_events() {
        assert!(EventName::ObjectCreated.covers(EventName::ObjectCreatedPost));
        assert!(EventName::ObjectCreated.covers(EventName::ObjectCreated));
        assert!(EventName::ObjectAclPut.covers(EventName::ObjectAclPut));
        assert!(!EventName::ObjectCreatedPut.covers(EventName::ObjectCreated));
        assert!(!EventName::ObjectRemoved.covers(EventName::LifecycleExpirationDelete));
        assert_eq!(EventName::ObjectTaggingPut.message_version(), "2.3");
        assert_eq!(EventName::ObjectRemovedDelete.message_version(), "2.1");
    }
}
