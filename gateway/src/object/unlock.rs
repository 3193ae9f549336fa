//! Keys of objects: a new one where something is to be encrypted, the old one where it is to be read.

use annulus_common::encryption::{DefaultEncryption, EncryptionMode, KmsUse};
use annulus_common::map::Bucket;
use annulus_common::object::ObjectVersion;

use super::crypt::Sealing;
use super::{Encrypt, ObjectError, ObjectKey, Objects};
use crate::kms::CustomerKey;

impl Objects {
    /// What opens an object of `bucket`. The client's key is needed for an object with SSE-C, and for no other.
    pub async fn unlock(
        &self,
        bucket: &Bucket,
        version: &ObjectVersion,
        customer: Option<&CustomerKey>,
    ) -> Result<ObjectKey, ObjectError> {
        match (&version.object.encryption, customer) {
            (None, None) => Ok(ObjectKey::NONE),
            (None, Some(_)) => Err(ObjectError::KeyNotApplicable),
            (Some(encryption), customer) => ObjectKey::find(&*self.keys, bucket.id, encryption, customer).await,
        }
    }

    /// Whether the client sent the key that the object needs, for operations that read none of its bytes. They need no key of
    /// the key service either.
    pub async fn check_key(
        &self,
        bucket: &Bucket,
        version: &ObjectVersion,
        customer: Option<&CustomerKey>,
    ) -> Result<(), ObjectError> {
        let mode = version.object.encryption.as_ref().map(|encryption| &encryption.mode);
        if customer.is_none() && mode != Some(&EncryptionMode::Customer) {
            return Ok(());
        }
        self.unlock(bucket, version, customer).await.map(drop)
    }

    /// Draws a data key for a new object or upload.
    pub(super) async fn begin_sealing(
        &self,
        bucket: &Bucket,
        encrypt: Option<Encrypt>,
    ) -> Result<Option<Sealing>, ObjectError> {
        match encrypt {
            Some(encrypt) => Sealing::begin(&*self.keys, bucket.id, encrypt).await.map(Some),
            None => Ok(None),
        }
    }
}

impl Encrypt {
    /// What a bucket asks for where the request does not say.
    pub fn default_of(bucket: &Bucket) -> Option<Self> {
        let config = bucket.config.encryption.as_ref()?;
        Some(match config.default.as_ref()? {
            DefaultEncryption::S3 => Encrypt::S3,
            DefaultEncryption::Kms(key) => Encrypt::Kms(KmsUse {
                key: key.clone().unwrap_or_else(|| annulus_common::encryption::DEFAULT_KMS_KEY.to_owned()),
                context: None,
                bucket_key: config.bucket_key.unwrap_or(false),
            }),
        })
    }
}
