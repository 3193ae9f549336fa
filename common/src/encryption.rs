//! What is stored about encryption: how an object is encrypted, the wrapped keys that open it, what a bucket asks for by
//! default. Nothing here encrypts, and no key lies here unwrapped.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The key of the key service that wraps the data keys of SSE-S3. It makes itself when it is first needed.
pub const SSE_S3_KEY: &str = "sse-s3";

/// The key that SSE-KMS means when none is named, as on AWS.
pub const DEFAULT_KMS_KEY: &str = "aws/s3";

/// How an object is encrypted: written once, with the object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Encryption {
    /// Whose key wraps the data key.
    pub mode: EncryptionMode,
    /// The object's own key, which its bytes are encrypted with.
    pub data_key: WrappedKey,
}

/// Whose key wraps an object's data key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EncryptionMode {
    /// SSE-C: the client's, who sends it with every request. It is stored nowhere.
    Customer,
    /// SSE-S3: the cluster's.
    S3,
    /// SSE-KMS: one of the key service.
    Kms(KmsUse),
}

/// How an object uses the key service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KmsUse {
    /// The key as the client named it: its name, an alias or an ARN.
    pub key: String,
    /// `x-amz-server-side-encryption-context` as it came: bound to the data key, given back.
    pub context: Option<String>,
    /// `x-amz-server-side-encryption-bucket-key-enabled`: echoed. The local key service is asked no less often for it.
    pub bucket_key: bool,
}

/// A key encrypted under another one, which is derived from the wrapping key and `salt`. Opens for nobody without that key,
/// and for no other purpose than it was wrapped for.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// The version of the wrapping key, where it has several.
    pub version: u32,
    /// Makes the derived key one that wraps nothing else.
    pub salt: [u8; 16],
    /// AES-256-GCM of the key.
    pub sealed: [u8; 32],
    /// Its tag.
    pub tag: [u8; 16],
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrappedKey").field("version", &self.version).finish_non_exhaustive()
    }
}

impl EncryptionMode {
    /// Whether the entity tag must not be the MD5 of the bytes: S3 keeps it so for SSE-S3 alone.
    pub fn hides_md5(&self) -> bool {
        !matches!(self, EncryptionMode::S3)
    }
}

/// What a bucket asks for of objects whose request asks for nothing, and what it refuses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BucketEncryption {
    /// The default; nothing leaves objects as they come.
    pub default: Option<DefaultEncryption>,
    /// `BucketKeyEnabled`, where it was said.
    pub bucket_key: Option<bool>,
    /// `BlockedEncryptionTypes` has `SSE-C`: such objects are refused.
    pub blocks_customer_keys: bool,
}

/// `ApplyServerSideEncryptionByDefault`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DefaultEncryption {
    /// `AES256`.
    S3,
    /// `aws:kms`, with the key where one is named.
    Kms(Option<String>),
}
