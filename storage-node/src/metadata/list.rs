//! Pages of one shard's keys and uploads. Seeks past common prefixes: a page costs what it returns, not what is stored.

use annulus_common::ids::{BucketId, ShardId, UploadId};
use annulus_common::object::{KeyPath, ListedObject, Upload};
use annulus_common::protocol::metadata::{Entry, ListedUpload, Page, after_prefix};

use super::schema::keys::Keys;
use super::schema::records::{Head, Record};
use crate::kv::{Cursor, KvError, KvRead, Table};

/// Keys and prefixes that one page may carry, in bytes: a request asks up to 16 shards, and all pages must fit one answer's header.
pub(super) const PAGE_BYTES_MAX: usize = 96 << 10;

/// What an entry takes beside its key, at most: entity tag, owner, times, storage class.
const ENTRY_BYTES: usize = 160;

/// What is asked of a listing.
pub(super) struct Ask<'a> {
    pub(super) bucket: BucketId,
    pub(super) shard: ShardId,
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    pub(super) from: &'a [u8],
    pub(super) limit: u32,
}

/// Records in the order of a listing, and where the listing is among them.
pub(super) trait Walk {
    /// What the listing returns.
    type Item;

    /// The object key of the record here; nothing past the end of the shard.
    fn key(&self) -> Result<Option<String>, KvError>;

    /// What the listing says of the record here.
    fn item(&self, key: String) -> Result<Self::Item, KvError>;

    /// Moves to the next record.
    fn next(&mut self) -> Result<(), KvError>;

    /// Moves to the first record of an object key at or after `from`.
    fn seek(&mut self, from: &[u8]) -> Result<(), KvError>;
}

/// Objects by key.
pub(super) fn objects(kv: &dyn KvRead, keys: Keys, ask: &Ask<'_>) -> Result<Page<ListedObject>, KvError> {
    let mut objects = Objects::of_shard(kv, keys, ask)?;
    objects.seek(ask.start())?;
    page(&mut objects, ask)
}

/// Uploads by object key, then by upload id; of the key that is `from` only those after `after_upload`.
pub(super) fn uploads(
    kv: &dyn KvRead,
    keys: Keys,
    ask: &Ask<'_>,
    after_upload: Option<UploadId>,
) -> Result<Page<ListedUpload>, KvError> {
    let base = keys.uploads_from(ask.bucket, ask.shard, &[]);
    let cursor = kv.cursor(Table::Meta, &base, &after_prefix(&base).unwrap_or_default())?;
    let mut uploads = Uploads { cursor, keys, bucket: ask.bucket, shard: ask.shard };
    match (after_upload, ask.key_of_start()) {
        (Some(upload), Some(path)) => {
            // Just after that upload: no stored key is longer than it and begins with it.
            let after = [keys.upload(&path, upload), vec![0]].concat();
            uploads.cursor.seek(&after)?;
        }
        _ => uploads.seek(ask.start())?,
    }
    page(&mut uploads, ask)
}

impl Ask<'_> {
    /// The first key that may come.
    pub(super) fn start(&self) -> &[u8] {
        self.from.max(self.prefix.as_bytes())
    }

    /// The key that the listing is to go on amid, if it begins at one.
    pub(super) fn key_of_start(&self) -> Option<KeyPath> {
        let key = std::str::from_utf8(self.from).ok().filter(|from| *from >= self.prefix)?;
        Some(KeyPath { bucket: self.bucket, shard: self.shard, key: key.to_owned() })
    }

    /// The key up to the first delimiter after the prefix, that included.
    fn common_prefix(&self, key: &str) -> Option<String> {
        let delimiter = self.delimiter.filter(|delimiter| !delimiter.is_empty())?;
        let at = key[self.prefix.len()..].find(delimiter)?;
        Some(key[..self.prefix.len() + at + delimiter.len()].to_owned())
    }
}

/// The entries of a page, from where the walk is.
pub(super) fn page<W: Walk>(walk: &mut W, ask: &Ask<'_>) -> Result<Page<W::Item>, KvError> {
    let mut entries = Vec::new();
    let mut bytes = 0;
    while let Some(key) = walk.key()? {
        if !key.starts_with(ask.prefix) {
            break;
        }
        let common = ask.common_prefix(&key);
        bytes += ENTRY_BYTES + key.len();
        if entries.len() == ask.limit as usize || bytes > PAGE_BYTES_MAX {
            let next = common.map_or_else(|| key.into_bytes(), String::into_bytes);
            return Ok(Page { entries, next: Some(next) });
        }
        match common {
            Some(prefix) => {
                let Some(after) = after_prefix(prefix.as_bytes()) else { break };
                entries.push(Entry::Prefix(prefix));
                walk.seek(&after)?;
            }
            None => {
                entries.push(Entry::Item(walk.item(key)?));
                walk.next()?;
            }
        }
    }
    Ok(Page { entries, next: None })
}

/// The objects that are there.
pub(super) struct Objects<'a> {
    cursor: Box<dyn Cursor + 'a>,
    base: Vec<u8>,
}

impl<'a> Objects<'a> {
    pub(super) fn of_shard(kv: &'a dyn KvRead, keys: Keys, ask: &Ask<'_>) -> Result<Self, KvError> {
        let base = keys.objects(ask.bucket, ask.shard);
        let cursor = kv.cursor(Table::Meta, &base, &after_prefix(&base).unwrap_or_default())?;
        Ok(Self { cursor, base })
    }

    pub(super) fn head(&self) -> Result<Option<Head>, KvError> {
        self.cursor.entry().map(|(_, record)| Head::decode(record)).transpose()
    }
}

impl Walk for Objects<'_> {
    type Item = ListedObject;

    fn key(&self) -> Result<Option<String>, KvError> {
        let key = self.cursor.entry().map(|(stored, _)| Keys::parse_object(stored).ok_or_else(unreadable_key));
        Ok(key.transpose()?.map(str::to_owned))
    }

    fn item(&self, key: String) -> Result<ListedObject, KvError> {
        Ok(self.head()?.ok_or_else(unreadable_key)?.listed(key))
    }

    fn next(&mut self) -> Result<(), KvError> {
        self.cursor.next()
    }

    fn seek(&mut self, from: &[u8]) -> Result<(), KvError> {
        self.cursor.seek(&[&self.base, from].concat())
    }
}

impl Head {
    /// What a listing says of the object.
    pub(super) fn listed(self, key: String) -> ListedObject {
        ListedObject {
            key,
            version: self.version,
            size: self.size,
            etag: self.etag,
            modified_ms: self.modified_ms,
            owner: self.owner,
            checksum: self.checksum.map(|checksum| (checksum.algorithm(), checksum.checksum_type())),
            storage_class: self.headers.storage_class,
        }
    }
}

struct Uploads<'a> {
    cursor: Box<dyn Cursor + 'a>,
    keys: Keys,
    bucket: BucketId,
    shard: ShardId,
}

impl Walk for Uploads<'_> {
    type Item = ListedUpload;

    fn key(&self) -> Result<Option<String>, KvError> {
        let key = self.cursor.entry().map(|(stored, _)| Keys::parse_upload(stored).ok_or_else(unreadable_key));
        Ok(key.transpose()?.map(|(key, _)| key))
    }

    fn item(&self, key: String) -> Result<ListedUpload, KvError> {
        let (_, record) = self.cursor.entry().ok_or_else(unreadable_key)?;
        let upload = Upload::decode(record)?;
        Ok(ListedUpload {
            key,
            id: upload.id,
            initiator: upload.initiator,
            owner: upload.owner,
            initiated_ms: upload.initiated_ms,
            checksum: upload.checksum,
            storage_class: upload.headers.storage_class,
        })
    }

    fn next(&mut self) -> Result<(), KvError> {
        self.cursor.next()
    }

    fn seek(&mut self, from: &[u8]) -> Result<(), KvError> {
        self.cursor.seek(&self.keys.uploads_from(self.bucket, self.shard, from))
    }
}

pub(super) fn unreadable_key() -> KvError {
    KvError::Corrupt { during: "listing a shard", reason: "a key cannot be read".to_owned() }
}
