//! Pages of one shard's keys and uploads. Seeks past common prefixes: a page costs what it returns, not what is stored.

use annulus_common::ids::{BucketId, ShardId, UploadId};
use annulus_common::object::{KeyPath, ListedObject, Upload};
use annulus_common::protocol::metadata::{Entry, ListedUpload, Page, after_prefix};

use super::schema::keys::Keys;
use super::schema::records::{Head, Record};
use crate::kv::{KvError, KvRead, Table};

/// Keys and prefixes that one page may carry, in bytes: a request asks up to 16 shards, and all pages must fit one answer's header.
const PAGE_BYTES_MAX: usize = 96 << 10;

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

/// Objects by key.
pub(super) fn objects(kv: &dyn KvRead, keys: Keys, ask: &Ask<'_>) -> Result<Page<ListedObject>, KvError> {
    let base = keys.objects(ask.bucket, ask.shard);
    let source = Source {
        locate: &|key| [base.as_slice(), key].concat(),
        object_key: &|stored| Keys::parse_object(stored).map(str::to_owned),
        decode: &|key, record| {
            let head = Head::decode(record)?;
            Ok(ListedObject {
                key,
                version: head.version,
                size: head.size,
                etag: head.etag,
                modified_ms: head.modified_ms,
                owner: head.owner,
                checksum: head.checksum.map(|checksum| (checksum.algorithm(), checksum.checksum_type())),
                storage_class: head.headers.storage_class,
            })
        },
        upper: after_prefix(&base).unwrap_or_default(),
    };
    let start = (source.locate)(ask.from.max(ask.prefix.as_bytes()));
    walk(kv, &source, ask, &start)
}

/// Uploads by object key, then by upload id; of the key that is `from` only those after `after_upload`.
pub(super) fn uploads(
    kv: &dyn KvRead,
    keys: Keys,
    ask: &Ask<'_>,
    after_upload: Option<UploadId>,
) -> Result<Page<ListedUpload>, KvError> {
    let base = keys.uploads_from(ask.bucket, ask.shard, &[]);
    let source = Source {
        locate: &|key| keys.uploads_from(ask.bucket, ask.shard, key),
        object_key: &|stored| Keys::parse_upload(stored).map(|(key, _)| key),
        decode: &|key, record| {
            let upload = Upload::decode(record)?;
            Ok(ListedUpload {
                key,
                id: upload.id,
                owner: upload.owner,
                initiated_ms: upload.initiated_ms,
                checksum: upload.checksum,
                storage_class: upload.headers.storage_class,
            })
        },
        upper: after_prefix(&base).unwrap_or_default(),
    };
    let from = ask.from.max(ask.prefix.as_bytes());
    let start = match (after_upload, std::str::from_utf8(from)) {
        (Some(upload), Ok(key)) if from == ask.from => {
            let path = KeyPath { bucket: ask.bucket, shard: ask.shard, key: key.to_owned() };
            // Just after that upload: no stored key is longer than it and begins with it.
            [keys.upload(&path, upload), vec![0]].concat()
        }
        _ => (source.locate)(from),
    };
    walk(kv, &source, ask, &start)
}

type Decode<'a, T> = dyn Fn(String, &[u8]) -> Result<T, KvError> + 'a;

/// Where a listing's entries are and how they are read.
struct Source<'a, T> {
    /// Where the records of object keys at or after a byte string begin.
    locate: &'a dyn Fn(&[u8]) -> Vec<u8>,
    /// The object key of a stored key.
    object_key: &'a dyn Fn(&[u8]) -> Option<String>,
    /// The entry of an object key and its record.
    decode: &'a Decode<'a, T>,
    /// Where the shard ends.
    upper: Vec<u8>,
}

fn walk<T>(kv: &dyn KvRead, source: &Source<'_, T>, ask: &Ask<'_>, start: &[u8]) -> Result<Page<T>, KvError> {
    let mut cursor = kv.cursor(Table::Meta, start, &source.upper)?;
    cursor.seek(start)?;
    let mut entries = Vec::new();
    let mut bytes = 0;
    while let Some((stored, record)) = cursor.entry() {
        let Some(key) = (source.object_key)(stored) else { return Err(unreadable_key()) };
        if !key.starts_with(ask.prefix) {
            break;
        }
        let common = common_prefix(&key, ask);
        bytes += ENTRY_BYTES + key.len();
        if entries.len() == ask.limit as usize || bytes > PAGE_BYTES_MAX {
            let next = common.map_or_else(|| key.clone().into_bytes(), String::into_bytes);
            return Ok(Page { entries, next: Some(next) });
        }
        match common {
            Some(prefix) => {
                let Some(after) = after_prefix(prefix.as_bytes()) else { break };
                entries.push(Entry::Prefix(prefix));
                cursor.seek(&(source.locate)(&after))?;
            }
            None => {
                entries.push(Entry::Item((source.decode)(key, record)?));
                cursor.next()?;
            }
        }
    }
    Ok(Page { entries, next: None })
}

/// The key up to the first delimiter after the prefix, that included.
fn common_prefix(key: &str, ask: &Ask<'_>) -> Option<String> {
    let delimiter = ask.delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let at = key[ask.prefix.len()..].find(delimiter)?;
    Some(key[..ask.prefix.len() + at + delimiter.len()].to_owned())
}

fn unreadable_key() -> KvError {
    KvError::Corrupt { during: "listing a shard", reason: "a key cannot be read".to_owned() }
}
