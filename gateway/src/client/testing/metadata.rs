//! The metadata of all partitions, as maps: simple enough to be seen right.

use std::collections::{BTreeMap, HashMap};

use annulus_common::condition::{Conditions, Verdict};
use annulus_common::ids::{BucketId, RequestId, ShardId, UploadId};
use annulus_common::object::{
    Data, DeleteMarker, KeyPath, ListedItem, ListedObject, ListedVersion, NewObject, ObjectAttributes, ObjectVersion,
    Upload, UploadedPart, UserId, Version, VersionId, Versioning,
};
use annulus_common::protocol::metadata::{
    Command, DeleteOutcome, Deletion, Entry, ListedUpload, MetaReply, Mutation, Page, Query, QueryReply, UsagePage,
    parts_fingerprint,
};
use annulus_common::usage::Usage;

type Shelf = (BucketId, ShardId);

type Parts = BTreeMap<u16, UploadedPart>;

#[derive(Default)]
pub(crate) struct Metadata {
    /// The versions of each key, the newest first. A key is there when that is an object.
    pub(crate) versions: BTreeMap<(Shelf, String), Vec<Version>>,
    pub(crate) uploads: BTreeMap<(Shelf, String, UploadId), (Upload, Parts)>,
    pub(crate) fences: HashMap<Shelf, RequestId>,
    answers: HashMap<RequestId, MetaReply>,
    sequence: u64,
    /// Entries that a page has at most, whatever is asked.
    pub(crate) page_max: Option<usize>,
    /// Deletions that a command carries out at most.
    pub(crate) deletions_max: Option<usize>,
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
            Command::Put { path, versioning, conditions, object, .. } => {
                if let Some(token) = self.fences.get(&shelf(&path)) {
                    return MetaReply::Fenced(*token);
                }
                self.replace(path, versioning, &conditions, None, object, (request, now))
            }
            Command::Delete { bucket, shard, versioning, owner, deletions } => {
                let most = self.deletions_max.unwrap_or(usize::MAX);
                let delete = |(number, deletion): (usize, Deletion)| {
                    if number >= most {
                        return DeleteOutcome::NotYet;
                    }
                    let place = ((bucket, shard), deletion.key.clone());
                    match deletion.version {
                        Some(version) => self.remove(place, version, &deletion, now),
                        None => self.mark(place, versioning, &deletion, owner, (request, now)),
                    }
                };
                MetaReply::Deleted(deletions.into_iter().enumerate().map(delete).collect())
            }
            Command::CreateUpload { path, upload } => {
                if let Some(token) = self.fences.get(&shelf(&path)) {
                    return MetaReply::Fenced(*token);
                }
                self.uploads.insert((shelf(&path), path.key, upload.id), (upload, BTreeMap::new()));
                MetaReply::Done
            }
            Command::PutPart { path, upload, part, sent } => {
                let (shelf, fence) = (shelf(&path), self.fences.get(&shelf(&path)));
                match (self.uploads.get_mut(&(shelf, path.key, upload)), fence) {
                    (None, _) => MetaReply::NoSuchUpload,
                    (Some(_), Some(token)) => MetaReply::Fenced(*token),
                    (Some((_, parts)), None) => {
                        parts.insert(part.number, UploadedPart { part, modified_ms: now, sent });
                        MetaReply::Done
                    }
                }
            }
            Command::CompleteUpload {
                path,
                upload,
                versioning,
                conditions,
                default_retention,
                parts,
                fingerprint,
                etag,
                checksum,
                ..
            } => {
                let place = (shelf(&path), path.key.clone(), upload);
                let Some((begun, uploaded)) = self.uploads.get(&place).cloned() else { return MetaReply::NoSuchUpload };
                if let Some(token) = self.fences.get(&shelf(&path)) {
                    return MetaReply::Fenced(*token);
                }
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
                    attributes: ObjectAttributes {
                        retention: begun.attributes.retention.or(default_retention),
                        ..begun.attributes
                    },
                    encryption: begun.encryption,
                    data: Data::Parts(chosen),
                };
                let reply = self.replace(path, versioning, &conditions, Some(upload), object, (request, now));
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
                if self.versions.iter().any(|((shelf, _), held)| *shelf == (bucket, shard) && !held.is_empty()) {
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
            Command::Collected(_) | Command::Condemn(_) => MetaReply::Done,
            command @ (Command::Append { .. }
            | Command::Rename { .. }
            | Command::Books { .. }
            | Command::Allowance { .. }
            | Command::Outbox { .. }
            | Command::Claim(_)) => {
                panic!("this is tried on a true cluster: {command:?}")
            }
            Command::SetAttributes { path, version, sequence, change } => {
                let held = self.versions.entry((shelf(&path), path.key)).or_default();
                match held.iter_mut().find(|held| id(held) == version) {
                    None => MetaReply::NoSuchVersion,
                    Some(Version::Object(object)) if object.sequence == sequence => {
                        match object.object.attributes.changed(change, now) {
                            None => MetaReply::Locked,
                            Some(changed) => {
                                object.object.attributes = changed;
                                MetaReply::Done
                            }
                        }
                    }
                    Some(_) => MetaReply::PreconditionFailed,
                }
            }
        }
    }

    /// The object that is there.
    pub(crate) fn current(&self, place: &(Shelf, String)) -> Option<&ObjectVersion> {
        self.versions.get(place).and_then(|held| held.first()).and_then(object)
    }

    fn replace(
        &mut self,
        path: KeyPath,
        versioning: Versioning,
        conditions: &Conditions,
        upload: Option<UploadId>,
        object: NewObject,
        (request, modified_ms): (RequestId, u64),
    ) -> MetaReply {
        let place = (shelf(&path), path.key);
        match conditions.judge(self.current(&place)) {
            Verdict::Holds => {}
            Verdict::NoObject => return MetaReply::NoSuchKey,
            _ => return MetaReply::PreconditionFailed,
        }
        let sequence = self.sequence;
        let version = self.new_id(versioning, request, &place.1);
        let reply = MetaReply::Written { version, modified_ms, etag: object.etag, checksum: object.checksum };
        let object = ObjectVersion { version, sequence, modified_ms, request, upload, object };
        self.add(place, Version::Object(Box::new(object)));
        reply
    }

    /// Deletes a key.
    fn mark(
        &mut self,
        place: (Shelf, String),
        versioning: Versioning,
        deletion: &Deletion,
        owner: UserId,
        (request, modified_ms): (RequestId, u64),
    ) -> DeleteOutcome {
        match deletion.conditions.judge(self.current(&place)) {
            Verdict::Holds if versioning == Versioning::Unversioned => {
                self.versions.remove(&place);
                DeleteOutcome::Deleted
            }
            Verdict::Holds => {
                let version = self.new_id(versioning, request, &place.1);
                let sequence = self.sequence;
                self.add(place, Version::Marker(DeleteMarker { version, sequence, modified_ms, request, owner }));
                DeleteOutcome::Marked(version)
            }
            Verdict::NoObject => DeleteOutcome::NoSuchKey,
            _ => DeleteOutcome::PreconditionFailed,
        }
    }

    /// Removes a version.
    fn remove(&mut self, place: (Shelf, String), version: VersionId, deletion: &Deletion, now: u64) -> DeleteOutcome {
        let held = self.versions.entry(place).or_default();
        let Some(at) = held.iter().position(|held| id(held) == version) else {
            return match deletion.conditions.judge(None) {
                Verdict::Holds => DeleteOutcome::Deleted,
                Verdict::NoObject => DeleteOutcome::NoSuchKey,
                _ => DeleteOutcome::PreconditionFailed,
            };
        };
        let found = object(&held[at]);
        if deletion.conditions.judge(found) != Verdict::Holds {
            return DeleteOutcome::PreconditionFailed;
        }
        if found.is_some_and(|found| found.object.attributes.is_locked(now, deletion.bypass_governance)) {
            return DeleteOutcome::Locked;
        }
        match held.remove(at) {
            Version::Object(_) => DeleteOutcome::Deleted,
            Version::Marker(_) => DeleteOutcome::MarkerRemoved,
        }
    }

    /// Adds the newest version; there is one null version.
    fn add(&mut self, place: (Shelf, String), version: Version) {
        let held = self.versions.entry(place).or_default();
        held.retain(|held| id(held) != VersionId::Null || id(&version) != VersionId::Null);
        held.insert(0, version);
    }

    fn new_id(&self, versioning: Versioning, request: RequestId, key: &str) -> VersionId {
        match versioning {
            Versioning::Enabled => VersionId::new(self.sequence, request, key),
            Versioning::Unversioned | Versioning::Suspended => VersionId::Null,
        }
    }

    pub(crate) fn answer(&self, query: Query) -> QueryReply {
        match query {
            Query::Object { path, version } => {
                let held = self.versions.get(&(shelf(&path), path.key)).map(Vec::as_slice).unwrap_or_default();
                let found = held.iter().find(|held| version.is_none_or(|version| id(held) == version));
                QueryReply::Object(found.cloned())
            }
            Query::List { bucket, shard, prefix, delimiter, from, limit } => {
                let held = self.versions.iter().filter(|((shelf, _), _)| *shelf == (bucket, shard));
                let items = held.filter_map(|((_, key), held)| {
                    let current = held.first().and_then(object)?;
                    Some((key.as_str(), false, listed_object(key, current)))
                });
                QueryReply::List(self.page(items, &prefix, delimiter.as_deref(), &from, limit))
            }
            Query::Versions { bucket, shard, prefix, delimiter, from, older_than, limit } => {
                let held = self.versions.iter().filter(|((shelf, _), _)| *shelf == (bucket, shard));
                let items = held.flat_map(|((_, key), held)| {
                    let listed = held.iter().enumerate().map(|(at, version)| listed_version(key, version, at == 0));
                    listed.map(|listed| {
                        let newer = older_than.is_some_and(|sequence| listed.sequence >= sequence);
                        (key.as_str(), newer, listed)
                    })
                });
                QueryReply::Versions(self.page(items, &prefix, delimiter.as_deref(), &from, limit))
            }
            Query::Uploads { bucket, shard, prefix, delimiter, from, after_upload, limit } => {
                let held = self.uploads.iter().filter(|((shelf, ..), _)| *shelf == (bucket, shard));
                let items = held.map(|((_, key, id), (upload, _))| {
                    let earlier = after_upload.is_some_and(|after| *id <= after);
                    (key.as_str(), earlier, listed_upload(key, upload))
                });
                QueryReply::Uploads(self.page(items, &prefix, delimiter.as_deref(), &from, limit))
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
            Query::Usage { bucket, shard, prefix, .. } => {
                let held = self
                    .versions
                    .iter()
                    .filter(|((shelf, key), _)| *shelf == (bucket, shard) && key.starts_with(&prefix));
                let objects = held.flat_map(|(_, held)| held.iter().filter_map(object));
                let whole = objects.fold(Usage::NONE, |whole, found| whole.plus(Usage::of_object(found.object.size)));
                QueryReply::Usage(UsagePage { whole, ..UsagePage::default() })
            }
            other => panic!("gateways do not ask {other:?}"),
        }
    }

    /// Each item comes with its key, and with whether it has passed where the page begins amid that key.
    fn page<'a, T>(
        &self,
        items: impl Iterator<Item = (&'a str, bool, T)>,
        prefix: &str,
        delimiter: Option<&str>,
        from: &[u8],
        limit: u32,
    ) -> Page<T> {
        let limit = (limit as usize).min(self.page_max.unwrap_or(usize::MAX));
        let mut entries: Vec<Entry<T>> = Vec::new();
        for (key, passed, item) in items {
            let Some(rest) = key.strip_prefix(prefix) else { continue };
            let common = delimiter.and_then(|delimiter| rest.find(delimiter).map(|at| at + delimiter.len()));
            let name = common.map_or(key, |common| &key[..prefix.len() + common]);
            let passed = passed && key.as_bytes() == from;
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

fn id(version: &Version) -> VersionId {
    match version {
        Version::Object(object) => object.version,
        Version::Marker(marker) => marker.version,
    }
}

fn object(version: &Version) -> Option<&ObjectVersion> {
    match version {
        Version::Object(object) => Some(object),
        Version::Marker(_) => None,
    }
}

fn listed_version(key: &str, version: &Version, is_latest: bool) -> ListedVersion {
    match version {
        Version::Object(object) => {
            ListedVersion { sequence: object.sequence, is_latest, item: ListedItem::Object(listed_object(key, object)) }
        }
        Version::Marker(marker) => ListedVersion {
            sequence: marker.sequence,
            is_latest,
            item: ListedItem::Marker { key: key.to_owned(), marker: *marker },
        },
    }
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
        initiator: upload.initiator,
        owner: upload.owner,
        initiated_ms: upload.initiated_ms,
        checksum: upload.checksum,
        storage_class: None,
    }
}
