//! Renaming: in one step where both keys lie in one shard of a bucket that never kept versions, which is where an object can
//! change its key and nothing else. Everywhere else the new object is written first and the old one deleted after, if it
//! still is the same: for a moment both are there, and never neither.

use annulus_common::condition::Conditions;
use annulus_common::encryption::EncryptionMode;
use annulus_common::ids::RequestId;
use annulus_common::map::{Bucket, ClusterMap};
use annulus_common::object::{ObjectVersion, UserId, Versioning};
use annulus_common::protocol::metadata::{Command, Deletion, MetaReply};

use super::put::{key_path, refused};
use super::{CopyObject, DeleteObjects, Encrypt, ObjectError, Objects};

/// What to give another key.
pub struct RenameObject<'a> {
    /// Its bucket.
    pub bucket: &'a Bucket,
    /// Its key.
    pub from: &'a str,
    /// The object, as [`Objects::get`] found it.
    pub found: &'a ObjectVersion,
    /// Its new key, which is another one.
    pub to: &'a str,
    /// What must hold of the object that is there.
    pub conditions: Conditions,
    /// Who renames.
    pub caller: UserId,
    /// The name of the mutation that writes the new key: the same is carried out once.
    pub request: Option<RequestId>,
}

impl Objects {
    /// Claims a client's token for a request: says whether it is the one that the token stands for. It stands for one for as long
    /// as answers to mutations are remembered.
    pub async fn claim(&self, bucket: &Bucket, token: RequestId, request: RequestId) -> Result<bool, ObjectError> {
        // Wherever the keys of the request are: another one with the same token must come to the same place.
        let shard = ClusterMap::key_path(bucket, &hex::encode(token.0)).shard;
        match self.mutate_as(Some(token), bucket, shard, Command::Claim(request)).await? {
            MetaReply::Claimed(first) => Ok(first == request),
            reply => Err(refused(reply)),
        }
    }

    /// Renames an object. Over shards one of at most 5 GiB, and none with SSE-C, whose key nobody sends with a rename.
    pub async fn rename(&self, rename: RenameObject<'_>) -> Result<(), ObjectError> {
        let (from, to) = (key_path(rename.bucket, rename.from)?, key_path(rename.bucket, rename.to)?);
        if from.shard != to.shard || rename.bucket.config.versioning != Versioning::Unversioned {
            return self.move_over(rename).await;
        }
        let (shard, sequence) = (from.shard, rename.found.sequence);
        let command = Command::Rename { path: from, sequence, to: to.key, conditions: rename.conditions };
        match self.mutate_as(rename.request, rename.bucket, shard, command).await? {
            MetaReply::Written { .. } => Ok(()),
            reply => Err(refused(reply)),
        }
    }

    async fn move_over(&self, rename: RenameObject<'_>) -> Result<(), ObjectError> {
        let RenameObject { bucket, from, found, to, conditions, caller, request } = rename;
        let object = &found.object;
        let encrypt = match object.encryption.as_ref().map(|encryption| &encryption.mode) {
            None => None,
            Some(EncryptionMode::S3) => Some(Encrypt::S3),
            Some(EncryptionMode::Kms(kms)) => Some(Encrypt::Kms(kms.clone())),
            Some(EncryptionMode::Customer) => return Err(ObjectError::KeyRequired),
        };
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
        let deletion = Deletion {
            key: from.to_owned(),
            version: None,
            conditions: Conditions::default(),
            bypass_governance: false,
            sequence: Some(found.sequence),
        };
        match self.delete(DeleteObjects { bucket, owner: caller, deletions: vec![deletion] }).await {
            Err(ObjectError::PreconditionFailed) => Err(ObjectError::Conflict),
            deleted => deleted.map(drop),
        }
    }
}
