//! Pages of one shard's versions: the objects that are there and all others, merged by key, each key's newest first.

use std::cmp::Ordering;

use annulus_common::object::{KeyPath, ListedItem, ListedVersion};
use annulus_common::protocol::metadata::{Page, after_prefix};

use super::list::{Ask, Objects, Walk, page, unreadable_key};
use super::schema::keys::Keys;
use super::schema::records::{Other, Record};
use crate::kv::{Cursor, KvError, KvRead, Table};

/// Versions by key, the newest first; of the key that is `from` only those older than that sequence. `kv` shows one moment.
pub(super) fn versions(
    kv: &dyn KvRead,
    keys: Keys,
    ask: &Ask<'_>,
    older_than: Option<u64>,
) -> Result<Page<ListedVersion>, KvError> {
    let base = keys.versions_from(ask.bucket, ask.shard, &[]);
    let others = kv.cursor(Table::Meta, &base, &after_prefix(&base).unwrap_or_default())?;
    let mut versions = Versions { objects: Objects::of_shard(kv, keys, ask)?, others, keys, ask, newer_than: None };
    match (older_than, ask.key_of_start()) {
        (Some(sequence), Some(path)) => versions.seek_amid(&path, sequence)?,
        _ => versions.seek(ask.start())?,
    }
    page(&mut versions, ask)
}

struct Versions<'a> {
    /// Each is the newest version of its key.
    objects: Objects<'a>,
    others: Box<dyn Cursor + 'a>,
    keys: Keys,
    ask: &'a Ask<'a>,
    /// The key of which something newer than what comes is known.
    newer_than: Option<String>,
}

impl Versions<'_> {
    fn other_key(&self) -> Result<Option<(String, u64)>, KvError> {
        let key = self.others.entry().map(|(stored, _)| Keys::parse_version(stored).ok_or_else(unreadable_key));
        key.transpose()
    }

    /// Whether the next version is among the objects: of two of one key that is the newer one.
    fn is_object_next(&self) -> Result<bool, KvError> {
        Ok(match (self.objects.key()?, self.other_key()?) {
            (Some(object), Some((other, _))) => object.as_bytes().cmp(other.as_bytes()) != Ordering::Greater,
            (object, _) => object.is_some(),
        })
    }

    /// Goes to the versions of a key that are older than `sequence`.
    fn seek_amid(&mut self, path: &KeyPath, sequence: u64) -> Result<(), KvError> {
        self.seek(path.key.as_bytes())?;
        let here = |key: Option<String>| key.filter(|key| *key == path.key);
        if let (Some(key), Some(head)) = (here(self.objects.key()?), self.objects.head()?)
            && head.sequence >= sequence
        {
            self.objects.next()?;
            self.newer_than = Some(key);
        }
        if let Some((key, newest)) = self.other_key()?.filter(|(key, _)| *key == path.key)
            && newest >= sequence
        {
            self.newer_than = Some(key);
            let (older, _) = self.keys.versions_before(path, sequence);
            self.others.seek(&older)?;
        }
        Ok(())
    }
}

impl Walk for Versions<'_> {
    type Item = ListedVersion;

    fn key(&self) -> Result<Option<String>, KvError> {
        match self.is_object_next()? {
            true => self.objects.key(),
            false => Ok(self.other_key()?.map(|(key, _)| key)),
        }
    }

    fn item(&self, key: String) -> Result<ListedVersion, KvError> {
        if self.is_object_next()? {
            let head = self.objects.head()?.ok_or_else(unreadable_key)?;
            let sequence = head.sequence;
            return Ok(ListedVersion { sequence, is_latest: true, item: ListedItem::Object(head.listed(key)) });
        }
        let (_, record) = self.others.entry().ok_or_else(unreadable_key)?;
        let other = Other::decode(record)?;
        let (sequence, is_latest) = (other.sequence(), self.newer_than.as_ref() != Some(&key));
        let item = match other {
            Other::Object(head) => ListedItem::Object(head.listed(key)),
            Other::Marker(marker) => ListedItem::Marker { key, marker },
        };
        Ok(ListedVersion { sequence, is_latest, item })
    }

    fn next(&mut self) -> Result<(), KvError> {
        self.newer_than = self.key()?;
        match self.is_object_next()? {
            true => self.objects.next(),
            false => self.others.next(),
        }
    }

    fn seek(&mut self, from: &[u8]) -> Result<(), KvError> {
        self.newer_than = None;
        self.objects.seek(from)?;
        self.others.seek(&self.keys.versions_from(self.ask.bucket, self.ask.shard, from))
    }
}
