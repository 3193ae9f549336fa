//! The data key of an object or an upload: made when it is written, found again when it is read.

use std::sync::Arc;

use annulus_common::encryption::{Encryption, EncryptionMode, KmsUse, SSE_S3_KEY};
use annulus_common::ids::{BucketId, PartId};

use super::super::ObjectError;
use super::{PartCipher, Place};
use crate::kms::{self, CustomerKey, KeyService, SecretKey};

/// How a client wants bytes encrypted.
#[derive(Clone, Debug)]
pub enum Encrypt {
    /// SSE-C.
    Customer(CustomerKey),
    /// SSE-S3.
    S3,
    /// SSE-KMS.
    Kms(KmsUse),
}

/// What opens an object: its data key, when it is encrypted.
#[derive(Clone, Debug)]
pub struct ObjectKey(Option<Arc<SecretKey>>);

/// A new data key with what is stored of it.
#[derive(Clone)]
pub(in super::super) struct Sealing {
    pub(in super::super) encryption: Encryption,
    key: Arc<SecretKey>,
}

impl Sealing {
    /// Draws a data key for something in `bucket`.
    pub(in super::super) async fn begin(
        keys: &dyn KeyService,
        bucket: BucketId,
        encrypt: Encrypt,
    ) -> Result<Self, ObjectError> {
        let (mode, (key, data_key)) = match encrypt {
            Encrypt::Customer(customer) => {
                let mode = EncryptionMode::Customer;
                let made = kms::seal_for_customer(&customer, &context(bucket, &mode))?;
                (mode, made)
            }
            Encrypt::S3 => {
                let mode = EncryptionMode::S3;
                let made = keys.generate(SSE_S3_KEY, &context(bucket, &mode)).await?;
                (mode, made)
            }
            Encrypt::Kms(kms) => {
                let name = kms.key.clone();
                let mode = EncryptionMode::Kms(kms);
                let made = keys.generate(&name, &context(bucket, &mode)).await?;
                (mode, made)
            }
        };
        Ok(Self { encryption: Encryption { mode, data_key }, key: Arc::new(key) })
    }

    /// The data key of an upload, for one more part.
    pub(in super::super) async fn resume(
        keys: &dyn KeyService,
        bucket: BucketId,
        encryption: Encryption,
        customer: Option<&CustomerKey>,
    ) -> Result<Self, ObjectError> {
        let key = find(keys, bucket, &encryption, customer).await?;
        Ok(Self { encryption, key: Arc::new(key) })
    }

    /// The cipher of a place.
    pub(in super::super) fn cipher(&self, place: Place) -> PartCipher {
        PartCipher::new(&self.key, place)
    }

    /// The entity tag of a part.
    fn etag(&self, number: u16, md5: [u8; 16]) -> [u8; 16] {
        if !self.encryption.mode.hides_md5() {
            return md5;
        }
        let digest = self.key.expand(&[b"annulus etag 1", &number.to_be_bytes(), &md5]);
        let mut etag = [0; 16];
        etag.copy_from_slice(&digest.expose()[..16]);
        etag
    }
}

/// The entity tag of a part: the MD5 of its bytes where S3 says so. Else what cannot be told from a random one without the
/// data key, but is the same when the same bytes are sent again.
pub(in super::super) fn etag_of(sealing: Option<&Sealing>, number: u16, md5: [u8; 16]) -> [u8; 16] {
    sealing.map_or(md5, |sealing| sealing.etag(number, md5))
}

impl ObjectKey {
    /// Of an object that is not encrypted.
    pub(in super::super) const NONE: Self = Self(None);

    pub(in super::super) async fn find(
        keys: &dyn KeyService,
        bucket: BucketId,
        encryption: &Encryption,
        customer: Option<&CustomerKey>,
    ) -> Result<Self, ObjectError> {
        Ok(Self(Some(Arc::new(find(keys, bucket, encryption, customer).await?))))
    }

    pub(in super::super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The cipher of a place; none when the object is not encrypted.
    pub(in super::super) fn cipher(&self, place: Place) -> Option<PartCipher> {
        self.0.as_ref().map(|key| PartCipher::new(key, place))
    }

    /// The cipher of a part.
    pub(in super::super) fn part_cipher(&self, part: PartId) -> Option<PartCipher> {
        self.cipher(Place::Part(part))
    }
}

async fn find(
    keys: &dyn KeyService,
    bucket: BucketId,
    encryption: &Encryption,
    customer: Option<&CustomerKey>,
) -> Result<SecretKey, ObjectError> {
    let context = context(bucket, &encryption.mode);
    match (&encryption.mode, customer) {
        (EncryptionMode::Customer, None) => Err(ObjectError::KeyRequired),
        (EncryptionMode::Customer, Some(customer)) => {
            kms::open_for_customer(customer, &encryption.data_key, &context).ok_or(ObjectError::KeyMismatch)
        }
        (_, Some(_)) => Err(ObjectError::KeyNotApplicable),
        (EncryptionMode::S3, None) => Ok(keys.unwrap(SSE_S3_KEY, &encryption.data_key, &context).await?),
        (EncryptionMode::Kms(kms), None) => Ok(keys.unwrap(&kms.key, &encryption.data_key, &context).await?),
    }
}

/// What a data key is wrapped for: in another bucket, under another mode or with another encryption context it does not open.
fn context(bucket: BucketId, mode: &EncryptionMode) -> Vec<u8> {
    let (mode, client) = match mode {
        EncryptionMode::Customer => (b'c', ""),
        EncryptionMode::S3 => (b's', ""),
        EncryptionMode::Kms(kms) => (b'k', kms.context.as_deref().unwrap_or_default()),
    };
    [b"annulus data key ".as_slice(), &bucket.0.to_be_bytes(), &[mode], client.as_bytes()].concat()
}
