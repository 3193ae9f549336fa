//! Answers queries from what is applied.

use std::collections::BTreeMap;

use annulus_common::ids::{BucketId, GroupId, PartId, PartitionId, ShardId, UploadId};
use annulus_common::object::{KeyPath, ObjectAttributes, Upload, UploadedPart, Version, VersionId};
use annulus_common::protocol::metadata::{
    BOOKED_SHARDS_MAX, Garbage, LIST_ENTRIES_MAX, PARTS_MAX, Query, QueryReply, after_prefix,
};
use annulus_common::usage::{Payer, USAGES_MAX, Usage};
use bytes::Bytes;

use super::schema::find::{Found, find};
use super::schema::keys::Keys;
use super::schema::records::{BodyKind, GarbageLength, Grant, Head, Other, Parcel, Record};
use super::{inventory, list, list_versions, outbox, usage};
use crate::kv::{Cursor, KvError, KvRead, Table};

/// How often an object that is being removed is read again: each time takes a mutation of it that was applied in between.
const REREADS_MAX: usize = 1_000;

/// Answers a query of a partition, from one moment's state where it reads more than one record.
pub fn answer(kv: &dyn KvRead, partition: PartitionId, query: &Query) -> Result<QueryReply, KvError> {
    let reader = Reader { keys: Keys::of(GroupId::from(partition)), kv };
    match query {
        Query::Object { path, version } => reader.version(path, *version).map(QueryReply::Object),
        Query::List { bucket, shard, prefix, delimiter, from, limit } => {
            let limit = (*limit).min(LIST_ENTRIES_MAX);
            let ask =
                list::Ask { bucket: *bucket, shard: *shard, prefix, delimiter: delimiter.as_deref(), from, limit };
            list::objects(kv, reader.keys, &ask).map(QueryReply::List)
        }
        Query::Versions { bucket, shard, prefix, delimiter, from, older_than, limit } => {
            let limit = (*limit).min(LIST_ENTRIES_MAX);
            let ask =
                list::Ask { bucket: *bucket, shard: *shard, prefix, delimiter: delimiter.as_deref(), from, limit };
            list_versions::versions(kv, reader.keys, &ask, *older_than).map(QueryReply::Versions)
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
        Query::Usage { bucket, shard, prefix, after, limit } => {
            let limit = (*limit).min(USAGES_MAX);
            let ask = usage::Ask { bucket: *bucket, shard: *shard, prefix, after: after.as_deref(), limit };
            usage::usage(kv, reader.keys, &ask).map(QueryReply::Usage)
        }
        Query::Grants { payer, after, limit } => reader.grants(*payer, *after, *limit).map(QueryReply::Grants),
        Query::References(parts) => reader.references(parts).map(QueryReply::References),
        Query::Inventory { from } => inventory::page(kv, partition, from.as_deref()).map(QueryReply::Inventory),
        Query::Garbage { before_ms, after, limit } => {
            reader.garbage(*before_ms, *after, (*limit).min(LIST_ENTRIES_MAX)).map(QueryReply::Garbage)
        }
        Query::Outbox { webhook } => outbox::page(kv, reader.keys, webhook).map(QueryReply::Outbox),
    }
}

/// The tags of the version of a key that this log index wrote.
pub fn tags(
    kv: &dyn KvRead,
    partition: PartitionId,
    path: &KeyPath,
    sequence: u64,
) -> Result<BTreeMap<String, String>, KvError> {
    let keys = Keys::of(GroupId::from(partition));
    let record = kv.get(Table::Meta, &keys.attributes(path, sequence))?;
    let attributes = record.map(|record| ObjectAttributes::decode(&record)).transpose()?;
    Ok(attributes.map(|attributes| attributes.tags).unwrap_or_default())
}

/// Reads the records of a partition.
pub(super) struct Reader<'a> {
    pub(super) keys: Keys,
    pub(super) kv: &'a dyn KvRead,
}

impl Reader<'_> {
    /// Head and body are reads apart: what is removed in between is noticed and looked for again, which is cheaper than a
    /// snapshot for every get.
    fn version(&self, path: &KeyPath, version: Option<VersionId>) -> Result<Option<Version>, KvError> {
        for _ in 0..REREADS_MAX {
            let head = match self.find(path, version)? {
                None => return Ok(None),
                Some(Found::Other(Other::Marker(marker))) => return Ok(Some(Version::Marker(marker))),
                Some(Found::Current(head) | Found::Other(Other::Object(head))) => head,
            };
            let parcel = self.parcel(path, &head)?;
            if let Some(version) = head.join(parcel)? {
                return Ok(Some(Version::Object(Box::new(version))));
            }
        }
        Err(KvError::Corrupt {
            during: "reading an object",
            reason: "its head and its body do not belong together".to_owned(),
        })
    }

    /// The object that is there takes one read. For everything else one cursor sees all places at the same moment: a version
    /// that moves from one to the other is not missed.
    fn find(&self, path: &KeyPath, version: Option<VersionId>) -> Result<Option<Found>, KvError> {
        if version.is_none()
            && let Some(record) = self.kv.get(Table::Meta, &self.keys.object(path))?
        {
            return Ok(Some(Found::Current(Head::decode(&record)?)));
        }
        let (lower, upper) = self.keys.heads();
        let mut cursor = self.kv.cursor(Table::Meta, &lower, &upper)?;
        match version {
            Some(version) => find(&mut |key| exactly(&mut *cursor, key), self.keys, path, version),
            None => self.newest(&mut *cursor, path),
        }
    }

    /// The newest version of a key, wherever it is.
    fn newest(&self, cursor: &mut dyn Cursor, path: &KeyPath) -> Result<Option<Found>, KvError> {
        if let Some(record) = exactly(cursor, &self.keys.object(path))? {
            return Ok(Some(Found::Current(Head::decode(&record)?)));
        }
        let (lower, upper) = self.keys.versions_before(path, u64::MAX);
        cursor.seek(&lower)?;
        let newest = cursor.entry().filter(|(key, _)| *key < upper.as_slice());
        newest.map(|(_, record)| Other::decode(record).map(Found::Other)).transpose()
    }

    /// What a version has beside its head.
    pub(super) fn parcel(&self, path: &KeyPath, head: &Head) -> Result<Parcel, KvError> {
        let body = match head.body {
            BodyKind::None => None,
            BodyKind::Inline | BodyKind::Manifest => self.kv.get(Table::Meta, &self.keys.body(path, head.sequence))?,
        };
        let attributes = match head.has_attributes {
            true => self.kv.get(Table::Meta, &self.keys.attributes(path, head.sequence))?,
            false => None,
        };
        Ok(Parcel { body, attributes })
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

    /// What shards were granted of a quota, those that have something.
    fn grants(
        &self,
        payer: Payer,
        after: Option<(BucketId, ShardId)>,
        limit: u32,
    ) -> Result<Vec<(BucketId, ShardId, Usage)>, KvError> {
        let lower = match after {
            None => self.keys.grants(payer),
            Some((bucket, shard)) => [self.keys.grant(payer, bucket, shard), vec![0]].concat(),
        };
        let upper = after_prefix(&self.keys.grants(payer)).unwrap_or_default();
        let mut cursor = self.kv.cursor(Table::Meta, &lower, &upper)?;
        let mut grants = Vec::new();
        cursor.seek(&lower)?;
        while let Some((key, record)) = cursor.entry() {
            if grants.len() == (limit as usize).min(BOOKED_SHARDS_MAX) {
                break;
            }
            if let Some((bucket, shard)) = Keys::parse_grant(key) {
                grants.push((bucket, shard, Grant::decode(record)?.amount));
            }
            cursor.next()?;
        }
        Ok(grants)
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

fn exactly(cursor: &mut dyn Cursor, key: &[u8]) -> Result<Option<Bytes>, KvError> {
    cursor.seek(key)?;
    Ok(cursor.entry().filter(|(found, _)| *found == key).map(|(_, record)| Bytes::copy_from_slice(record)))
}
