//! Attributes change: of one version, and of no other than the caller was judged by.

use annulus_common::notification::EventName;
use annulus_common::object::{AttributeChange, KeyPath, VersionId};
use annulus_common::protocol::metadata::MetaReply;

use super::super::schema::find::Found;
use super::super::schema::records::{Head, Other};
use super::Step;
use crate::kv::KvError;

impl Step<'_> {
    pub(super) fn set_attributes(
        &mut self,
        path: &KeyPath,
        version: VersionId,
        sequence: u64,
        change: AttributeChange,
    ) -> Result<MetaReply, KvError> {
        let (head, is_current) = match self.version(path, version)? {
            None => return Ok(MetaReply::NoSuchVersion),
            Some(Found::Current(head)) => (head, true),
            Some(Found::Other(Other::Object(head))) => (head, false),
            // What took the place of the null version that was meant.
            Some(Found::Other(Other::Marker(_))) => return Ok(MetaReply::PreconditionFailed),
        };
        if head.sequence != sequence {
            return Ok(MetaReply::PreconditionFailed);
        }
        let event = event_of(&change);
        let Some(changed) = self.attributes(path, &head)?.changed(change, self.time_ms) else {
            return Ok(MetaReply::Locked);
        };
        if let Some(event) = event {
            self.announce_object(path, |_| event, &head)?;
        }
        self.put(self.keys.attributes(path, sequence), &changed);
        if !head.has_attributes {
            self.note_attributes(path, head, is_current);
        }
        Ok(MetaReply::Done)
    }

    /// Says in the head that there are attributes to read. It stays said, even when they are the default again.
    fn note_attributes(&mut self, path: &KeyPath, head: Head, is_current: bool) {
        let head = Head { has_attributes: true, ..head };
        match is_current {
            true => self.put(self.keys.object(path), &head),
            false => self.put(self.keys.version(path, head.sequence), &Other::Object(head)),
        }
    }
}

/// What a change is told as. S3 tells nobody of locks.
fn event_of(change: &AttributeChange) -> Option<EventName> {
    match change {
        AttributeChange::Acl(_) => Some(EventName::ObjectAclPut),
        AttributeChange::Tags(tags) if tags.is_empty() => Some(EventName::ObjectTaggingDelete),
        AttributeChange::Tags(_) => Some(EventName::ObjectTaggingPut),
        AttributeChange::Retention { .. } | AttributeChange::LegalHold(_) => None,
    }
}
