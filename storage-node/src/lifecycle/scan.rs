//! Pages of a shard against the rules: what is due, and where to go on. Reads, and changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use annulus_common::condition::Conditions;
use annulus_common::ids::{BucketId, PartitionId, ShardId, UploadId};
use annulus_common::lifecycle::{Calendar, Due, Lifecycle, Standing, VersionFacts, due};
use annulus_common::object::{KeyPath, ListedItem, ListedVersion};
use annulus_common::protocol::metadata::{Deletion, Entry, Query, QueryReply};

use crate::kv::{KvError, KvRead};
use crate::metadata;

/// Entries of one page.
const PAGE_ENTRIES: u32 = 500;

/// A shard and its partition.
#[derive(Clone, Copy)]
pub(super) struct ShardAt {
    pub(super) partition: PartitionId,
    pub(super) bucket: BucketId,
    pub(super) shard: ShardId,
}

/// A page that was looked at.
pub(super) struct Page<T, P> {
    /// What is known for the next one.
    pub(super) scan: Scan,
    /// What is due.
    pub(super) due: Vec<T>,
    /// Where to go on, if there is more.
    pub(super) next: Option<P>,
    /// How many entries it had.
    pub(super) looked_at: u32,
}

/// What is known while the versions of a shard pass, by key and newest first.
pub(super) struct Scan {
    lifecycle: Arc<Lifecycle>,
    calendar: Calendar,
    now_ms: u64,
    /// The version before: of the same key when the next one is not its newest.
    newer: Option<Newer>,
}

/// A version that others may follow.
struct Newer {
    modified_ms: u64,
    /// Noncurrent versions up to it.
    noncurrent: u32,
    /// It is a delete marker and the newest: alone, unless another of its key follows.
    marker: Option<(KeyPath, ListedVersion)>,
}

impl Scan {
    pub(super) fn new(lifecycle: Arc<Lifecycle>, calendar: Calendar, now_ms: u64) -> Self {
        Self { lifecycle, calendar, now_ms, newer: None }
    }

    /// Takes the next version; what is due of it, or of the one before, is added.
    fn take(
        &mut self,
        path: KeyPath,
        version: ListedVersion,
        tags: &BTreeMap<String, String>,
        found: &mut Vec<Deletion>,
    ) {
        let newer = match version.is_latest {
            true => {
                self.end_key(found);
                None
            }
            false => self.newer.take(),
        };
        let modified_ms = modified_ms(&version.item);
        let noncurrent = newer.as_ref().map_or(0, |newer| newer.noncurrent + 1);
        let is_marker = matches!(version.item, ListedItem::Marker { .. });
        let standing = match newer {
            None => Standing::Current { alone: false },
            Some(newer) => Standing::Noncurrent { since_ms: newer.modified_ms, newer: newer.noncurrent },
        };
        let due = self.due(&path.key, &version.item, tags, standing);
        found.extend(due.map(|due| deletion(&path.key, &version, due)));
        let marker = (version.is_latest && is_marker).then_some((path, version));
        self.newer = Some(Newer { modified_ms, noncurrent, marker });
    }

    /// The key's last version has passed.
    fn end_key(&mut self, found: &mut Vec<Deletion>) {
        if let Some((path, version)) = self.newer.take().and_then(|newer| newer.marker) {
            let alone = Standing::Current { alone: true };
            let due = self.due(&path.key, &version.item, &BTreeMap::new(), alone);
            found.extend(due.map(|due| deletion(&path.key, &version, due)));
        }
    }

    fn due(&self, key: &str, item: &ListedItem, tags: &BTreeMap<String, String>, standing: Standing) -> Option<Due> {
        let size = match item {
            ListedItem::Object(object) => object.size,
            ListedItem::Marker { .. } => 0,
        };
        let is_marker = matches!(item, ListedItem::Marker { .. });
        let facts = VersionFacts { modified_ms: modified_ms(item), is_marker, size, tags };
        due(&self.lifecycle, key, &facts, standing, self.calendar, self.now_ms)
    }

    /// Whether a rule in force for the key asks for tags.
    fn needs_tags(&self, key: &str) -> bool {
        self.lifecycle.enabled().any(|rule| !rule.filter.tags.is_empty() && rule.filter.matches_key(key))
    }
}

/// A page of what is due, which ends at a key and at one of what the key has; nothing when the shard is not here.
type PageResult<T, At> = Result<Option<Page<T, (String, At)>>, KvError>;

/// The next versions of a shard, after the one of that key and sequence.
pub(super) fn versions_page(
    kv: &dyn KvRead,
    at: ShardAt,
    mut scan: Scan,
    after: Option<(String, u64)>,
) -> PageResult<Deletion, u64> {
    let (from, older_than) = after.map_or((Vec::new(), None), |(key, sequence)| (key.into_bytes(), Some(sequence)));
    let query = Query::Versions {
        bucket: at.bucket,
        shard: at.shard,
        prefix: String::new(),
        delimiter: None,
        from,
        older_than,
        limit: PAGE_ENTRIES,
    };
    let QueryReply::Versions(page) = metadata::answer(kv, at.partition, &query)? else { return Ok(None) };
    let (mut found, mut last, looked_at) = (Vec::new(), None, page.entries.len() as u32);
    for entry in page.entries {
        let Entry::Item(version) = entry else { return Ok(None) };
        let path = KeyPath { bucket: at.bucket, shard: at.shard, key: version.item.key().to_owned() };
        let tags = match (&version.item, scan.needs_tags(&path.key)) {
            (ListedItem::Object(_), true) => metadata::tags(kv, at.partition, &path, version.sequence)?,
            _ => BTreeMap::new(),
        };
        last = Some((path.key.clone(), version.sequence));
        scan.take(path, version, &tags, &mut found);
    }
    let next = page.next.and(last);
    if next.is_none() {
        scan.end_key(&mut found);
    }
    Ok(Some(Page { scan, due: found, next, looked_at }))
}

/// The next uploads of a shard, after that one of that key.
pub(super) fn uploads_page(
    kv: &dyn KvRead,
    at: ShardAt,
    scan: Scan,
    after: Option<(String, UploadId)>,
) -> PageResult<(KeyPath, UploadId), UploadId> {
    let (from, after_upload) = after.map_or((Vec::new(), None), |(key, upload)| (key.into_bytes(), Some(upload)));
    let query = Query::Uploads {
        bucket: at.bucket,
        shard: at.shard,
        prefix: String::new(),
        delimiter: None,
        from,
        after_upload,
        limit: PAGE_ENTRIES,
    };
    let QueryReply::Uploads(page) = metadata::answer(kv, at.partition, &query)? else { return Ok(None) };
    let (mut due, mut last, looked_at) = (Vec::new(), None, page.entries.len() as u32);
    for entry in page.entries {
        let Entry::Item(upload) = entry else { return Ok(None) };
        let expiry = scan.lifecycle.upload_expiry(&upload.key, upload.initiated_ms, scan.calendar);
        if expiry.is_some_and(|(at_ms, _)| at_ms <= scan.now_ms) {
            due.push((KeyPath { bucket: at.bucket, shard: at.shard, key: upload.key.clone() }, upload.id));
        }
        last = Some((upload.key, upload.id));
    }
    Ok(Some(Page { scan, due, next: page.next.and(last), looked_at }))
}

fn modified_ms(item: &ListedItem) -> u64 {
    match item {
        ListedItem::Object(object) => object.modified_ms,
        ListedItem::Marker { marker, .. } => marker.modified_ms,
    }
}

/// Takes that version and nothing that was written since; locks hold.
fn deletion(key: &str, version: &ListedVersion, due: Due) -> Deletion {
    Deletion {
        key: key.to_owned(),
        version: match due {
            Due::Expire => None,
            Due::Remove => Some(version.item.version()),
        },
        conditions: Conditions::default(),
        bypass_governance: false,
        sequence: Some(version.sequence),
    }
}
