//! Renaming: in one step where both keys lie in one shard of a bucket that never kept versions, which is where an object can
//! change its key and nothing else. Everywhere else the new object is written first and the old one deleted after, if it
//! still is the same: for a moment both are there, and never neither.

use annulus_common::condition::Conditions;
use annulus_common::encryption::EncryptionMode;
use annulus_common::ids::RequestId;
use annulus_common::map::{Bucket, ClusterMap};
use annulus_common::object::{NewObject, ObjectVersion, UserId, Versioning};
use annulus_common::protocol::metadata::{Command, Deletion, MetaReply};
use sha2::{Digest, Sha256};

use super::put::{key_path, refused};
use super::{CopyObject, DeleteObjects, Encrypt, ObjectError, Objects};

/// What to give another key.
pub struct RenameObject {
    /// Its bucket.
    pub bucket: Bucket,
    /// Its key.
    pub from: String,
    /// The object, as [`Objects::get`] found it.
    pub found: ObjectVersion,
    /// Its new key, which is another one.
    pub to: String,
    /// What must hold of the object that is there.
    pub conditions: Conditions,
    /// Who renames.
    pub caller: UserId,
    /// The name of the rename, where it may be asked for again: it is carried out once, of the object that it found first.
    pub request: Option<RequestId>,
}

/// Bytes of the name of an object's mutation that say by which rename the object came.
const RENAME_BYTES: usize = 8;

impl Objects {
    /// Claims a name, as a client's token, for a request: says whether it is the one that the name stands for. It stands for one
    /// for as long as answers to mutations are remembered.
    pub async fn claim(&self, bucket: &Bucket, token: RequestId, request: RequestId) -> Result<bool, ObjectError> {
        // Wherever the keys of the request are: another one with the same token must come to the same place.
        let shard = ClusterMap::key_path(bucket, &hex::encode(token.0)).shard;
        match self.mutate_as(Some(token), bucket, shard, Command::Claim(request)).await? {
            MetaReply::Claimed(first) => Ok(first == request),
            reply => Err(refused(reply)),
        }
    }

    /// Renames an object. Over shards one of at most 5 GiB, and none with SSE-C, whose key nobody sends with a rename. Once begun
    /// it goes on without its caller, so that a client that leaves does not leave the object at both keys.
    pub async fn rename(&self, rename: RenameObject) -> Result<(), ObjectError> {
        let objects = self.clone();
        let renaming = tokio::spawn(async move { objects.rename_to_the_end(rename).await });
        renaming.await.unwrap_or_else(|error| Err(ObjectError::Internal(format!("the rename ended: {error}"))))
    }

    async fn rename_to_the_end(&self, rename: RenameObject) -> Result<(), ObjectError> {
        let (from, to) = (key_path(&rename.bucket, &rename.from)?, key_path(&rename.bucket, &rename.to)?);
        if from.shard != to.shard || rename.bucket.config.versioning != Versioning::Unversioned {
            return self.move_over(rename).await;
        }
        let (shard, sequence) = (from.shard, rename.found.sequence);
        let command = Command::Rename { path: from, sequence, to: to.key, conditions: rename.conditions };
        match self.mutate_as(rename.request, &rename.bucket, shard, command).await? {
            MetaReply::Written { .. } => Ok(()),
            reply => Err(refused(reply)),
        }
    }

    /// Whether the object that is there got its key by the rename of that name.
    pub async fn is_renamed_by(&self, bucket: &Bucket, key: &str, request: RequestId) -> Result<bool, ObjectError> {
        match self.get(bucket, key, None).await {
            Ok(found) => Ok(found.request.0[..RENAME_BYTES] == request.0[..RENAME_BYTES]),
            Err(ObjectError::NoSuchKey | ObjectError::Deleted(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn move_over(&self, rename: RenameObject) -> Result<(), ObjectError> {
        let RenameObject { bucket, from, found, to, conditions, caller, request } = rename;
        let (bucket, found, to) = (&bucket, &found, to.as_str());
        let request = match request {
            None => None,
            Some(request) => {
                let copy = name_of_copy(request, found);
                if !self.claim(bucket, name_of_binding(request), copy).await? {
                    // Asked for again, when another object lies at the old key already: that one was never meant, and stays.
                    let is_done = self.is_renamed_by(bucket, to, request).await?;
                    return if is_done { Ok(()) } else { Err(ObjectError::Conflict) };
                }
                Some(copy)
            }
        };
        let object = &found.object;
        let encrypt = encrypt_as(object)?;
        self.make_room(bucket, &key_path(bucket, to)?, object.size).await?;
        let source_key = self.unlock(bucket, found, None).await?;
        let copy = CopyObject {
            source: found,
            source_key: &source_key,
            bucket,
            key: to,
            owner: object.owner,
            headers: None,
            attributes: object.attributes.clone(),
            conditions,
            checksum: None,
            encrypt,
            request,
        };
        self.copy(copy).await?;
        let (key, sequence, conditions) = (from, Some(found.sequence), Conditions::default());
        let deletion = Deletion { key, version: None, conditions, bypass_governance: false, sequence };
        match self.delete(DeleteObjects { bucket, owner: caller, deletions: vec![deletion] }).await {
            Err(ObjectError::PreconditionFailed) => Err(ObjectError::Conflict),
            deleted => deleted.map(drop),
        }
    }
}

/// As the object is.
fn encrypt_as(object: &NewObject) -> Result<Option<Encrypt>, ObjectError> {
    match object.encryption.as_ref().map(|encryption| &encryption.mode) {
        None => Ok(None),
        Some(EncryptionMode::S3) => Ok(Some(Encrypt::S3)),
        Some(EncryptionMode::Kms(kms)) => Ok(Some(Encrypt::Kms(kms.clone()))),
        Some(EncryptionMode::Customer) => Err(ObjectError::KeyRequired),
    }
}

/// The name of the mutation that writes an object at its new key: it says by which rename, then which object. A name of the rename
/// alone would have the answer about the first object given for any later one too, which would then be deleted unwritten.
fn name_of_copy(request: RequestId, found: &ObjectVersion) -> RequestId {
    let mut name = digest(&[b"annulus renamed object 1", &request.0, &found.request.0, &found.sequence.to_be_bytes()]);
    name[..RENAME_BYTES].copy_from_slice(&request.0[..RENAME_BYTES]);
    RequestId(name)
}

/// The name that is claimed for the object that a rename found first.
fn name_of_binding(request: RequestId) -> RequestId {
    RequestId(digest(&[b"annulus rename bound 1", &request.0]))
}

fn digest(texts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    texts.iter().for_each(|text| hasher.update(text));
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize()[..16]);
    digest
}
