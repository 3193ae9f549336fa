//! The versions of a key, and which of them is the object that is there.
//!
//! That object, if there is one, is the key's newest version, and lies apart: what asks for it or lists it never meets another
//! version. All others, delete markers too, lie side by side, newest first. So a key without an object is one whose newest
//! version is a delete marker, or one without versions.

use annulus_common::object::{DeleteMarker, KeyPath, ObjectAttributes, ObjectVersion, VersionId, Versioning};

use super::super::schema::find::{Found, find};
use super::super::schema::records::{BodyKind, Head, Manifest, NullVersion, Other, Record, Shard};
use super::Step;
use crate::kv::{KvError, Table};

impl Step<'_> {
    /// The object that is there.
    pub(super) fn head(&self, path: &KeyPath) -> Result<Option<Head>, KvError> {
        self.read(&self.keys.object(path))
    }

    pub(super) fn version(&self, path: &KeyPath, version: VersionId) -> Result<Option<Found>, KvError> {
        find(&mut |key| self.get(key), self.keys, path, version)
    }

    /// The id of what is written to a bucket. One that suspended versioning writes null versions, as one that never had it.
    pub(super) fn new_id(&self, versioning: Versioning, key: &str) -> VersionId {
        match versioning {
            Versioning::Enabled => VersionId::new(self.index, self.request, key),
            Versioning::Unversioned | Versioning::Suspended => VersionId::Null,
        }
    }

    /// Whether a version of that id could not be written because the one that it would replace is locked. Only a null version
    /// is ever replaced: this is one from before its bucket kept versions, which a late write meets.
    pub(super) fn replaces_locked(&self, path: &KeyPath, id: VersionId) -> Result<bool, KvError> {
        if id != VersionId::Null {
            return Ok(false);
        }
        match self.null_version(path)? {
            Some(Found::Current(head) | Found::Other(Other::Object(head))) => self.is_locked(path, &head, false),
            Some(Found::Other(Other::Marker(_))) | None => Ok(false),
        }
    }

    pub(super) fn is_locked(&self, path: &KeyPath, head: &Head, bypass_governance: bool) -> Result<bool, KvError> {
        Ok(head.has_attributes && self.attributes(path, head)?.is_locked(self.time_ms, bypass_governance))
    }

    pub(super) fn attributes(&self, path: &KeyPath, head: &Head) -> Result<ObjectAttributes, KvError> {
        if !head.has_attributes {
            return Ok(ObjectAttributes::default());
        }
        Ok(self.read(&self.keys.attributes(path, head.sequence))?.unwrap_or_default())
    }

    /// Puts a new object in the place of the one that is there.
    pub(super) fn add_object(&mut self, path: &KeyPath, version: ObjectVersion) -> Result<Head, KvError> {
        self.make_room(path, version.version)?;
        self.place(path, version)
    }

    /// Writes the object that is there, where no other is any more.
    pub(super) fn place(&mut self, path: &KeyPath, version: ObjectVersion) -> Result<Head, KvError> {
        let (head, parcel) = Head::split(version);
        self.count(path, head.size)?;
        self.put(self.keys.object(path), &head);
        if let Some(body) = parcel.body {
            self.put_bytes(self.keys.body(path, head.sequence), body);
        }
        if let Some(attributes) = parcel.attributes {
            self.put_bytes(self.keys.attributes(path, head.sequence), attributes);
        }
        Ok(head)
    }

    /// Deletes the key, and keeps what there is of it.
    pub(super) fn add_marker(&mut self, path: &KeyPath, marker: DeleteMarker) -> Result<(), KvError> {
        self.make_room(path, marker.version)?;
        self.delete(self.keys.object(path));
        self.put_other(path, &Other::Marker(marker));
        Ok(())
    }

    /// Removes the object that is there, for good. The next newest version takes its place, if that is an object.
    pub(super) fn remove_current(&mut self, path: &KeyPath, head: &Head) -> Result<(), KvError> {
        self.discard_records(path, head)?;
        self.delete(self.keys.object(path));
        match self.shard(path.bucket, path.shard)?.versioned {
            true => self.promote(path, head.sequence),
            false => Ok(()),
        }
    }

    /// Removes an old object or a delete marker, for good. When that was the newest version, the next takes its place.
    pub(super) fn remove_other(&mut self, path: &KeyPath, other: &Other) -> Result<(), KvError> {
        if let Other::Object(head) = other {
            self.discard_records(path, head)?;
        }
        self.take_other(path, other);
        match self.head(path)? {
            Some(_) => Ok(()),
            None => self.promote(path, u64::MAX),
        }
    }

    /// Moves the newest version before `sequence` to where the object is that is there, unless it is a delete marker.
    fn promote(&mut self, path: &KeyPath, sequence: u64) -> Result<(), KvError> {
        if let Some(newest @ Other::Object(_)) = self.newest_before(path, sequence)? {
            self.take_other(path, &newest);
            let Other::Object(head) = newest else { return Ok(()) };
            self.put(self.keys.object(path), &head);
        }
        Ok(())
    }

    /// What a new version of that id replaces goes, what it follows is kept.
    fn make_room(&mut self, path: &KeyPath, id: VersionId) -> Result<(), KvError> {
        if id == VersionId::Null {
            match self.null_version(path)? {
                Some(Found::Current(head)) => return self.discard_records(path, &head),
                Some(Found::Other(replaced)) => {
                    if let Other::Object(head) = &replaced {
                        self.discard_records(path, head)?;
                    }
                    self.take_other(path, &replaced);
                }
                None => {}
            }
        } else {
            self.note_versions(path)?;
        }
        if let Some(head) = self.head(path)? {
            self.put_other(path, &Other::Object(head));
        }
        Ok(())
    }

    /// The null version of a key. A shard without versions has it where the object is, without a further look.
    pub(super) fn null_version(&self, path: &KeyPath) -> Result<Option<Found>, KvError> {
        match self.head(path)? {
            Some(head) if head.version == VersionId::Null => Ok(Some(Found::Current(head))),
            _ if self.shard(path.bucket, path.shard)?.versioned => self.version(path, VersionId::Null),
            _ => Ok(None),
        }
    }

    /// Remembers that the shard has versions from now on.
    pub(super) fn note_versions(&mut self, path: &KeyPath) -> Result<(), KvError> {
        let shard = self.shard(path.bucket, path.shard)?;
        if !shard.versioned {
            self.put(self.keys.shard(path.bucket, path.shard), &Shard { versioned: true, ..shard });
        }
        Ok(())
    }

    fn put_other(&mut self, path: &KeyPath, other: &Other) {
        let sequence = other.sequence();
        self.put(self.keys.version(path, sequence), other);
        if other.version() == VersionId::Null {
            self.put(self.keys.null_version(path), &NullVersion { sequence });
        }
    }

    fn take_other(&mut self, path: &KeyPath, other: &Other) {
        self.delete(self.keys.version(path, other.sequence()));
        if other.version() == VersionId::Null {
            self.delete(self.keys.null_version(path));
        }
    }

    /// The newest of the other versions that are older than `sequence`.
    fn newest_before(&self, path: &KeyPath, sequence: u64) -> Result<Option<Other>, KvError> {
        let (lower, upper) = self.keys.versions_before(path, sequence);
        let mut cursor = self.kv.cursor(Table::Meta, &lower, &upper)?;
        cursor.seek(&lower)?;
        while cursor.entry().is_some_and(|(key, _)| self.staged.contains_key(key)) {
            cursor.next()?;
        }
        let stored = cursor.entry();
        let staged = self.staged.range(lower..upper).find_map(|(key, value)| Some((key.as_slice(), value.as_deref()?)));
        let newest = match (stored, staged) {
            (Some(stored), Some(staged)) => Some(stored.min(staged)),
            (stored, staged) => stored.or(staged),
        };
        newest.map(|(_, record)| Other::decode(record)).transpose()
    }

    /// Discards what a version has beside its head, which goes.
    pub(super) fn discard_records(&mut self, path: &KeyPath, head: &Head) -> Result<(), KvError> {
        if head.body == BodyKind::Manifest {
            let manifest: Option<Manifest> = self.read(&self.keys.body(path, head.sequence))?;
            for part in manifest.iter().flat_map(|manifest| &manifest.parts) {
                self.discard(part);
            }
        }
        self.release(path, head)
    }

    /// The same, but for its chunks.
    pub(super) fn release(&mut self, path: &KeyPath, head: &Head) -> Result<(), KvError> {
        self.discount(path, head.size)?;
        if head.body != BodyKind::None {
            self.delete(self.keys.body(path, head.sequence));
        }
        if head.has_attributes {
            self.delete(self.keys.attributes(path, head.sequence));
        }
        Ok(())
    }
}
