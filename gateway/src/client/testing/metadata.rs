//! The metadata of all partitions, as maps: simple enough to be seen right.

use std::collections::{BTreeMap, HashMap};

use annulus_common::condition::{Conditions, Verdict};
use annulus_common::ids::{BucketId, RequestId, ShardId, UploadId};
use annulus_common::object::{Data, KeyPath, ListedObject, NewObject, ObjectVersion, Upload, UploadedPart, VersionId};
use annulus_common::protocol::metadata::{
    Command, DeleteOutcome, Entry, ListedUpload, MetaReply, Mutation, Page, Query, QueryReply, parts_fingerprint,
};

type Shelf = (BucketId, ShardId);

type Parts = BTreeMap<u16, UploadedPart>;

#[derive(Default)]
pub(crate) struct Metadata {
    pub(crate) objects: BTreeMap<(Shelf, String), ObjectVersion>,
    pub(crate) uploads: BTreeMap<(Shelf, String, UploadId), (Upload, Parts)>,
    pub(crate) fences: HashMap<Shelf, RequestId>,
    answers: HashMap<RequestId, MetaReply>,
    sequence: u64,
    /// Entries that a page has at most, whatever is asked.
    pub(crate) page_max: Option<usize>,
}

impl Metadata {
    pub(crate) fn apply(&mut self, mutation: Mutation) -> MetaReply {
        if let Some(reply) = self.answers.get(&mutation.request) {
            return reply.clone();
        }
        self.sequence += 1;
        let request = mutation.request;
        let reply = self.perform(mutation);
        if !matches!(reply, MetaReply::Fenced(_)) {
            self.answers.insert(request, reply.clone());
        }
        reply
    }

    fn perform(&mut self, mutation: Mutation) -> MetaReply {
        let (request, now) = (mutation.request, mutation.time_ms);
        match mutation.command {
            Command::Put { path, conditions, object } => {
                if let Some(token) = self.fences.get(&shelf(&path)) {
                    return MetaReply::Fenced(*token);
                }
                self.replace(path, &conditions, None, object, (request, now))
            }
            Command::Delete { bucket, shard, keys } => {
                let delete = |(key, conditions): (String, Conditions)| {
                    let place = ((bucket, shard), key);
                    match conditions.judge(self.objects.get(&place)) {
                        Verdict::Holds => {
                            self.objects.remove(&place);
                            DeleteOutcome::Deleted
                        }
                        Verdict::NoObject => DeleteOutcome::NoSuchKey,
                        _ => DeleteOutcome::PreconditionFailed,
                    }
                };
                MetaReply::Deleted(keys.into_iter().map(delete).collect())
            }
            Command::CreateUpload { path, upload } => {
                if let Some(token) = self.fences.get(&shelf(&path)) {
                    return MetaReply::Fenced(*token);
                }
                self.uploads.insert((shelf(&path), path.key, upload.id), (upload, BTreeMap::new()));
                MetaReply::Done
            }
            Command::PutPart { path, upload, part } => match self.uploads.get_mut(&(shelf(&path), path.key, upload)) {
                Some((_, parts)) => {
                    parts.insert(part.number, UploadedPart { part, modified_ms: now });
                    MetaReply::Done
                }
                None => MetaReply::NoSuchUpload,
            },
            Command::CompleteUpload { path, upload, conditions, parts, fingerprint, etag, checksum } => {
                let place = (shelf(&path), path.key.clone(), upload);
                let Some((begun, uploaded)) = self.uploads.get(&place).cloned() else { return MetaReply::NoSuchUpload };
                let chosen: Vec<_> =
                    parts.iter().filter_map(|number| Some(uploaded.get(number)?.part.clone())).collect();
                if parts_fingerprint(&chosen) != fingerprint {
                    return MetaReply::PartsChanged;
                }
                let size = chosen.iter().map(|part| part.length).sum();
                let object = NewObject {
                    owner: begun.owner,
                    size,
                    etag,
                    checksum,
                    headers: begun.headers,
                    attributes: begun.attributes,
                    encryption: begun.encryption,
                    data: Data::Parts(chosen),
                };
                let reply = self.replace(path, &conditions, Some(upload), object, (request, now));
                if matches!(reply, MetaReply::Written { .. }) {
                    self.uploads.remove(&place);
                }
                reply
            }
            Command::AbortUpload { path, upload } => match self.uploads.remove(&(shelf(&path), path.key, upload)) {
                Some(_) => MetaReply::Done,
                None => MetaReply::NoSuchUpload,
            },
            Command::Fence { bucket, shard, token } => {
                if self.objects.keys().any(|(shelf, _)| *shelf == (bucket, shard)) {
                    return MetaReply::NotEmpty;
                }
                self.fences.insert((bucket, shard), token);
                MetaReply::Done
            }
            Command::Unfence { bucket, shard, token } => {
                if self.fences.get(&(bucket, shard)) == Some(&token) {
                    self.fences.remove(&(bucket, shard));
                }
                MetaReply::Done
            }
            Command::Collected(_) => MetaReply::Done,
            Command::SetAttributes { path, sequence, change, .. } => {
                match self.objects.get_mut(&(shelf(&path), path.key)) {
                    None => MetaReply::NoSuchVersion,
                    Some(version) if version.sequence != sequence => MetaReply::PreconditionFailed,
                    Some(version) => match version.object.attributes.changed(change, now) {
                        None => MetaReply::Locked,
                        Some(changed) => {
                            version.object.attributes = changed;
                            MetaReply::Done
                        }
                    },
                }
            }
        }
    }

    fn replace(
        &mut self,
        path: KeyPath,
        conditions: &Conditions,
        upload: Option<UploadId>,
        object: NewObject,
        (request, modified_ms): (RequestId, u64),
    ) -> MetaReply {
        let place = (shelf(&path), path.key);
        match conditions.judge(self.objects.get(&place)) {
            Verdict::Holds => {}
            Verdict::NoObject => return MetaReply::NoSuchKey,
            _ => return MetaReply::PreconditionFailed,
        }
        let reply = MetaReply::Written { modified_ms, etag: object.etag, checksum: object.checksum };
        let version =
            ObjectVersion { version: VersionId::Null, sequence: self.sequence, modified_ms, request, upload, object };
        self.objects.insert(place, version);
        reply
    }

    pub(crate) fn answer(&self, query: Query) -> QueryReply {
        match query {
            Query::Object(path) => {
                QueryReply::Object(self.objects.get(&(shelf(&path), path.key)).cloned().map(Box::new))
            }
            Query::List { bucket, shard, prefix, delimiter, from, limit } => {
                let held = self.objects.iter().filter(|((shelf, _), _)| *shelf == (bucket, shard));
                let items = held.map(|((_, key), version)| (key.as_str(), None, listed_object(key, version)));
                QueryReply::List(self.page(items, &prefix, delimiter.as_deref(), (&from, None), limit))
            }
            Query::Uploads { bucket, shard, prefix, delimiter, from, after_upload, limit } => {
                let held = self.uploads.iter().filter(|((shelf, ..), _)| *shelf == (bucket, shard));
                let items =
                    held.map(|((_, key, id), (upload, _))| (key.as_str(), Some(*id), listed_upload(key, upload)));
                QueryReply::Uploads(self.page(items, &prefix, delimiter.as_deref(), (&from, after_upload), limit))
            }
            Query::Upload { path, upload } => QueryReply::Upload(
                self.uploads.get(&(shelf(&path), path.key, upload)).map(|(upload, _)| upload.clone()),
            ),
            Query::Parts { path, upload, after, limit } => {
                let found = self.uploads.get(&(shelf(&path), path.key, upload));
                QueryReply::Parts(found.map(|(upload, parts)| {
                    let limit = usize::from(limit.min(1_000));
                    let rest: Vec<_> = parts.range(after + 1..).map(|(_, part)| part.clone()).collect();
                    (upload.clone(), rest.iter().take(limit).cloned().collect(), rest.len() > limit)
                }))
            }
            other => panic!("gateways do not ask {other:?}"),
        }
    }

    fn page<'a, T>(
        &self,
        items: impl Iterator<Item = (&'a str, Option<UploadId>, T)>,
        prefix: &str,
        delimiter: Option<&str>,
        (from, after_upload): (&[u8], Option<UploadId>),
        limit: u32,
    ) -> Page<T> {
        let limit = (limit as usize).min(self.page_max.unwrap_or(usize::MAX));
        let mut entries: Vec<Entry<T>> = Vec::new();
        for (key, id, item) in items {
            let Some(rest) = key.strip_prefix(prefix) else { continue };
            let common = delimiter.and_then(|delimiter| rest.find(delimiter).map(|at| at + delimiter.len()));
            let name = common.map_or(key, |common| &key[..prefix.len() + common]);
            let passed = key.as_bytes() == from && after_upload.is_some() && id <= after_upload;
            let known = matches!(entries.last(), Some(Entry::Prefix(last)) if last == name);
            if name.as_bytes() < from || passed || known {
                continue;
            }
            if entries.len() == limit {
                return Page { entries, next: Some(name.as_bytes().to_vec()) };
            }
            entries.push(if common.is_some() { Entry::Prefix(name.to_owned()) } else { Entry::Item(item) });
        }
        Page { entries, next: None }
    }
}

fn shelf(path: &KeyPath) -> Shelf {
    (path.bucket, path.shard)
}

fn listed_object(key: &str, version: &ObjectVersion) -> ListedObject {
    ListedObject {
        key: key.to_owned(),
        version: version.version,
        size: version.object.size,
        etag: version.object.etag,
        modified_ms: version.modified_ms,
        owner: version.object.owner,
        checksum: None,
        storage_class: None,
    }
}

fn listed_upload(key: &str, upload: &Upload) -> ListedUpload {
    ListedUpload {
        key: key.to_owned(),
        id: upload.id,
        owner: upload.owner,
        initiated_ms: upload.initiated_ms,
        checksum: upload.checksum,
        storage_class: None,
    }
}
