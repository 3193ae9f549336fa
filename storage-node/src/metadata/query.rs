//! Answers queries from what is applied.

use annulus_common::ids::{GroupId, PartId, PartitionId, UploadId};
use annulus_common::object::{KeyPath, ObjectVersion, Upload, UploadedPart};
use annulus_common::protocol::metadata::{Garbage, LIST_ENTRIES_MAX, PARTS_MAX, Query, QueryReply};

use super::list;
use super::schema::keys::Keys;
use super::schema::records::{BodyKind, GarbageLength, Head, Record};
use crate::kv::{KvError, KvRead, Table};

/// How often an object that is being replaced is read again: each time takes a put that was applied in between.
const REREADS_MAX: usize = 1_000;

/// Answers a query of a partition, from one moment's state where it reads more than one record.
pub fn answer(kv: &dyn KvRead, partition: PartitionId, query: &Query) -> Result<QueryReply, KvError> {
    let reader = Reader { keys: Keys::of(GroupId::from(partition)), kv };
    match query {
        Query::Object(path) => reader.object(path).map(|found| QueryReply::Object(found.map(Box::new))),
        Query::List { bucket, shard, prefix, delimiter, from, limit } => {
            let limit = (*limit).min(LIST_ENTRIES_MAX);
            let ask =
                list::Ask { bucket: *bucket, shard: *shard, prefix, delimiter: delimiter.as_deref(), from, limit };
            list::objects(kv, reader.keys, &ask).map(QueryReply::List)
        }
        Query::Uploads { bucket, shard, prefix, delimiter, from, after_upload, limit } => {
            let limit = (*limit).min(LIST_ENTRIES_MAX);
            let ask =
                list::Ask { bucket: *bucket, shard: *shard, prefix, delimiter: delimiter.as_deref(), from, limit };
            list::uploads(kv, reader.keys, &ask, *after_upload).map(QueryReply::Uploads)
        }
        Query::Upload { path, upload } => reader.upload(path, *upload).map(QueryReply::Upload),
        Query::Parts { path, upload, after, limit } => {
            let Some(found) = reader.upload(path, *upload)? else { return Ok(QueryReply::Parts(None)) };
            let (parts, more) = reader.parts(*upload, *after, (*limit).min(LIST_ENTRIES_MAX as u16))?;
            Ok(QueryReply::Parts(Some((found, parts, more))))
        }
        Query::References(parts) => reader.references(parts).map(QueryReply::References),
        Query::Garbage { before_ms, after, limit } => {
            reader.garbage(*before_ms, *after, (*limit).min(LIST_ENTRIES_MAX)).map(QueryReply::Garbage)
        }
    }
}

struct Reader<'a> {
    keys: Keys,
    kv: &'a dyn KvRead,
}

impl Reader<'_> {
    /// Head and body are two reads: one that is replaced in between is noticed and read again, which is cheaper than a snapshot
    /// for every get.
    fn object(&self, path: &KeyPath) -> Result<Option<ObjectVersion>, KvError> {
        for _ in 0..REREADS_MAX {
            let Some(record) = self.kv.get(Table::Meta, &self.keys.object(path))? else { return Ok(None) };
            let head = Head::decode(&record)?;
            let body = match head.body {
                BodyKind::None => None,
                BodyKind::Inline | BodyKind::Manifest => self.kv.get(Table::Meta, &self.keys.body(path))?,
            };
            if let Some(version) = head.join(body)? {
                return Ok(Some(version));
            }
        }
        Err(KvError::Corrupt {
            during: "reading an object",
            reason: "its head and its body do not belong together".to_owned(),
        })
    }

    fn upload(&self, path: &KeyPath, upload: UploadId) -> Result<Option<Upload>, KvError> {
        self.kv.get(Table::Meta, &self.keys.upload(path, upload))?.map(|record| Upload::decode(&record)).transpose()
    }

    fn parts(&self, upload: UploadId, after: u16, limit: u16) -> Result<(Vec<UploadedPart>, bool), KvError> {
        let lower = self.keys.part(upload, after.saturating_add(1));
        let mut cursor = self.kv.cursor(Table::Meta, &lower, &self.keys.part(upload, PARTS_MAX + 1))?;
        let mut parts = Vec::new();
        cursor.seek(&lower)?;
        while let Some((_, record)) = cursor.entry() {
            if parts.len() == usize::from(limit) {
                return Ok((parts, true));
            }
            parts.push(UploadedPart::decode(record)?);
            cursor.next()?;
        }
        Ok((parts, false))
    }

    fn references(&self, parts: &[PartId]) -> Result<Vec<bool>, KvError> {
        parts.iter().map(|part| Ok(self.kv.get(Table::Meta, &self.keys.reference(*part))?.is_some())).collect()
    }

    fn garbage(&self, before_ms: u64, after: Option<(u64, PartId)>, limit: u32) -> Result<Vec<Garbage>, KvError> {
        let lower =
            after.map_or(self.keys.garbage_since(0), |(since_ms, part)| self.keys.garbage_after(since_ms, part));
        let mut cursor = self.kv.cursor(Table::Meta, &lower, &self.keys.garbage_since(before_ms))?;
        let mut garbage = Vec::new();
        cursor.seek(&lower)?;
        while let Some((key, record)) = cursor.entry() {
            if garbage.len() == limit as usize {
                break;
            }
            if let Some((since_ms, part)) = Keys::parse_garbage(key) {
                let GarbageLength(length) = GarbageLength::decode(record)?;
                garbage.push(Garbage { since_ms, part, length });
            }
            cursor.next()?;
        }
        Ok(garbage)
    }
}
