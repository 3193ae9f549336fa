//! Objects take another key of their shard, in one step: nobody sees both, or neither.

use annulus_common::condition::Conditions;
use annulus_common::notification::Means;
use annulus_common::object::{KeyPath, VersionId};
use annulus_common::protocol::metadata::MetaReply;

use super::super::schema::records::Head;
use super::Step;
use crate::kv::KvError;

impl Step<'_> {
    /// All that the object is goes with it, its time too; what was at the new key is replaced.
    pub(super) fn rename(
        &mut self,
        from: &KeyPath,
        sequence: u64,
        to: &KeyPath,
        conditions: &Conditions,
    ) -> Result<MetaReply, KvError> {
        if let Some(before) = self.written_before(to, &[])? {
            return Ok(before);
        }
        let shard = self.shard(from.bucket, from.shard)?;
        if let Some(token) = shard.fence {
            return Ok(MetaReply::Fenced(token));
        }
        let head = self.head(from)?.filter(|head| head.sequence == sequence && !shard.versioned);
        let Some(head) = head else { return Ok(MetaReply::PartsChanged) };
        if let Some(refusal) = self.refusal(to, VersionId::Null, conditions)? {
            return Ok(refusal);
        }
        if self.is_locked(from, &head, false)? {
            return Ok(MetaReply::Locked);
        }
        let body = self.get(&self.keys.body(from, sequence))?;
        let attributes = self.get(&self.keys.attributes(from, sequence))?;
        self.release(from, &head)?;
        self.delete(self.keys.object(from));
        if let Some(replaced) = self.head(to)? {
            self.discard_records(to, &replaced)?;
        }
        let head = Head { sequence: self.index, request: self.request, upload: None, ..head };
        self.count(to, head.size)?;
        self.put(self.keys.object(to), &head);
        for (key, record) in
            [(self.keys.body(to, head.sequence), body), (self.keys.attributes(to, head.sequence), attributes)]
        {
            if let Some(record) = record {
                self.put_bytes(key, record);
            }
        }
        self.announce_object(to, Means::created, &head)?;
        self.announce(from, Means::removed, VersionId::Null)?;
        Ok(head.written())
    }
}
