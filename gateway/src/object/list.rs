//! Listings of objects, versions and uploads: every shard of the bucket asked at once, merged, refilled only where a shard has run dry.

use annulus_common::ids::ShardId;
use annulus_common::map::Bucket;
use annulus_common::object::{ListedObject, ListedVersion, VersionId};
use annulus_common::protocol::metadata::{Entry, LIST_ENTRIES_MAX, ListedUpload, Page, Query, QueryReply};

use super::merge::{Amid, Cursor, Listed, Merge};
use super::{ListObjects, ListUploads, ListVersions, ObjectError, ObjectPage, Objects, UploadPage, VersionPage};

/// What is asked of a shard beyond its share, so that few listings need a second round.
const SHARD_ENTRIES_MIN: usize = 8;

/// Rounds before a listing is given up: each brings at least one entry or passes some dead ones.
const ROUNDS_MAX: usize = 10_000;

impl Objects {
    /// A page of a bucket's keys and common prefixes.
    pub async fn list(&self, list: ListObjects<'_>) -> Result<ObjectPage, ObjectError> {
        let scope = Scope::new(list.bucket, list.prefix, list.delimiter, list.max_keys);
        let after = list.after.map(|after| (after, None));
        let (mut entries, more) =
            self.page(&scope, after, |shard, from, limit| scope.objects(shard, from, limit), objects_reply).await?;
        for entry in &mut entries {
            if let Entry::Item(object) = entry {
                object.owner = list.bucket.object_owner(object.owner);
            }
        }
        let next = entries.last().filter(|_| more).map(name::<ListedObject>);
        Ok(ObjectPage { entries, next })
    }

    /// A page of the versions of a bucket's keys and common prefixes.
    pub async fn list_versions(&self, list: ListVersions<'_>) -> Result<VersionPage, ObjectError> {
        let scope = Scope::new(list.bucket, list.prefix, list.delimiter, list.max_keys);
        let after = match (list.after_key, list.after_version) {
            (None, _) => None,
            (Some(key), None) => Some((key, None)),
            (Some(key), Some(version)) => {
                let sequence = self.sequence_of(list.bucket, key, version).await?;
                Some((key, Some(Amid::Version(sequence))))
            }
        };
        let (mut entries, more) =
            self.page(&scope, after, |shard, from, limit| scope.versions(shard, from, limit), versions_reply).await?;
        for entry in &mut entries {
            if let Entry::Item(version) = entry {
                let owner = version.item.owner_mut();
                *owner = list.bucket.object_owner(*owner);
            }
        }
        let next = entries.last().filter(|_| more).map(|last| match last {
            Entry::Item(version) => (version.key().to_owned(), Some(version.item.version())),
            Entry::Prefix(prefix) => (prefix.clone(), None),
        });
        Ok(VersionPage { entries, next })
    }

    /// Where a version of a key is in its order. A null version that is gone is before all others: who deletes what it lists
    /// has deleted what was newer, and nobody misses a version.
    async fn sequence_of(&self, bucket: &Bucket, key: &str, version: VersionId) -> Result<u64, ObjectError> {
        if let Some(sequence) = version.sequence() {
            return Ok(sequence);
        }
        match self.get(bucket, key, Some(version)).await {
            Ok(object) => Ok(object.sequence),
            Err(ObjectError::IsDeleteMarker(marker)) => Ok(marker.sequence),
            Err(ObjectError::NoSuchVersion | ObjectError::InvalidKey { .. }) => Ok(u64::MAX),
            Err(error) => Err(error),
        }
    }

    /// A page of a bucket's multipart uploads and common prefixes.
    pub async fn list_uploads(&self, list: ListUploads<'_>) -> Result<UploadPage, ObjectError> {
        let scope = Scope::new(list.bucket, list.prefix, list.delimiter, list.max_uploads);
        let after = list.after_key.map(|after| (after, list.after_upload.map(Amid::Upload)));
        let (entries, more) =
            self.page(&scope, after, |shard, from, limit| scope.uploads(shard, from, limit), uploads_reply).await?;
        let next = entries.last().filter(|_| more).map(|last| match last {
            Entry::Item(upload) => (upload.key.clone(), Some(upload.id)),
            Entry::Prefix(prefix) => (prefix.clone(), None),
        });
        Ok(UploadPage { entries, next })
    }

    /// The entries of a page, and whether there are more.
    async fn page<T: Listed>(
        &self,
        scope: &Scope<'_>,
        after: Option<(&str, Option<Amid>)>,
        query: impl Fn(u16, Cursor, u32) -> Query,
        page_of: fn(QueryReply) -> Option<Page<T>>,
    ) -> Result<(Vec<Entry<T>>, bool), ObjectError> {
        let start = Cursor::start(scope.prefix, scope.delimiter, after);
        let Some(start) = start.filter(|_| scope.entries_max > 0) else { return Ok((Vec::new(), false)) };
        let map = self.client.watch().latest();
        let mut merge = Merge::new(scope.bucket.shards, &start, scope.entries_max + 1);
        for round in 0..ROUNDS_MAX {
            let starving = merge.advance();
            if starving.is_empty() {
                let mut entries = merge.finish();
                let more = entries.len() > scope.entries_max;
                entries.truncate(scope.entries_max);
                return Ok((entries, more));
            }
            let limit = scope.shard_limit(merge.missing(), round);
            let shards: Vec<u16> = starving.iter().map(|(shard, _)| *shard).collect();
            let queries = starving.into_iter().map(|(shard, cursor)| {
                (map.partition_of_shard(scope.bucket.id, ShardId(shard)), query(shard, cursor, limit))
            });
            let replies = self.client.query(queries.collect()).await?;
            for (shard, reply) in shards.into_iter().zip(replies) {
                let page = page_of(reply).ok_or_else(|| ObjectError::Internal("the answer is not a listing".into()))?;
                merge.feed(shard, page);
            }
        }
        Err(ObjectError::Internal("a listing does not end".into()))
    }
}

/// What is listed.
struct Scope<'a> {
    bucket: &'a Bucket,
    prefix: &'a str,
    delimiter: Option<&'a str>,
    entries_max: usize,
}

impl<'a> Scope<'a> {
    fn new(bucket: &'a Bucket, prefix: &'a str, delimiter: Option<&'a str>, entries_max: u32) -> Self {
        let entries_max = entries_max.min(LIST_ENTRIES_MAX) as usize;
        Self { bucket, prefix, delimiter: delimiter.filter(|delimiter| !delimiter.is_empty()), entries_max }
    }

    /// How many entries to ask of each shard: its share of what is missing and half as much again. Once common prefixes
    /// needed a second round, as many as are missing: every shard has about the same ones.
    fn shard_limit(&self, missing: usize, round: usize) -> u32 {
        let share = missing.div_ceil(usize::from(self.bucket.shards).max(1));
        let repeated = self.delimiter.is_some() && round > 0;
        let limit = if repeated { missing } else { (share + share / 2 + SHARD_ENTRIES_MIN).min(missing) };
        limit.clamp(1, LIST_ENTRIES_MAX as usize) as u32
    }

    fn objects(&self, shard: u16, cursor: Cursor, limit: u32) -> Query {
        Query::List {
            bucket: self.bucket.id,
            shard: ShardId(shard),
            prefix: self.prefix.to_owned(),
            delimiter: self.delimiter.map(str::to_owned),
            from: cursor.from,
            limit,
        }
    }

    fn versions(&self, shard: u16, cursor: Cursor, limit: u32) -> Query {
        Query::Versions {
            bucket: self.bucket.id,
            shard: ShardId(shard),
            prefix: self.prefix.to_owned(),
            delimiter: self.delimiter.map(str::to_owned),
            from: cursor.from,
            older_than: match cursor.amid {
                Some(Amid::Version(sequence)) => Some(sequence),
                _ => None,
            },
            limit,
        }
    }

    fn uploads(&self, shard: u16, cursor: Cursor, limit: u32) -> Query {
        Query::Uploads {
            bucket: self.bucket.id,
            shard: ShardId(shard),
            prefix: self.prefix.to_owned(),
            delimiter: self.delimiter.map(str::to_owned),
            from: cursor.from,
            after_upload: match cursor.amid {
                Some(Amid::Upload(upload)) => Some(upload),
                _ => None,
            },
            limit,
        }
    }
}

fn objects_reply(reply: QueryReply) -> Option<Page<ListedObject>> {
    match reply {
        QueryReply::List(page) => Some(page),
        _ => None,
    }
}

fn versions_reply(reply: QueryReply) -> Option<Page<ListedVersion>> {
    match reply {
        QueryReply::Versions(page) => Some(page),
        _ => None,
    }
}

fn uploads_reply(reply: QueryReply) -> Option<Page<ListedUpload>> {
    match reply {
        QueryReply::Uploads(page) => Some(page),
        _ => None,
    }
}

fn name<T: Listed>(entry: &Entry<T>) -> String {
    match entry {
        Entry::Item(item) => item.key().to_owned(),
        Entry::Prefix(prefix) => prefix.clone(),
    }
}
