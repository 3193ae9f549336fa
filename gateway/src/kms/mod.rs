//! The key service: keys that wrap the data keys of objects. Where wrapping keys live and who may use them is known here;
//! what is encrypted with a data key is not.
//!
//! Every object (every multipart upload) has a data key of its own, drawn at random. It is stored with the object, wrapped:
//! by the client's key (SSE-C), by the cluster's (SSE-S3), or by a key of the key service (SSE-KMS). The keys of the local
//! service lie in the cluster map, wrapped in turn by the master key, which lies in no database.

mod envelope;
mod local;
mod master;
mod secret;

use annulus_common::encryption::WrappedKey;
use async_trait::async_trait;

use crate::client::ClientError;

pub use envelope::CustomerKey;
pub(crate) use envelope::{open_for_customer, seal_for_customer};
pub use local::{KeyChangeError, LocalKeys};
pub use master::{MasterKey, MasterKeyError, MasterKeys};
pub use secret::SecretKey;

/// Wraps and unwraps data keys. An external key service is another implementation; `context` comes back as it went in, and
/// what was wrapped with it opens with nothing else.
#[async_trait]
pub trait KeyService: Send + Sync {
    /// Draws a data key and wraps it by the newest version of the key that is called `key`.
    async fn generate(&self, key: &str, context: &[u8]) -> Result<(SecretKey, WrappedKey), KeyError>;

    /// Unwraps a data key.
    async fn unwrap(&self, key: &str, wrapped: &WrappedKey, context: &[u8]) -> Result<SecretKey, KeyError>;
}

/// Why the key service did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such key.
    #[error("there is no key {0}")]
    NotFound(String),
    /// The key may not be used.
    #[error("the key {0} is disabled")]
    Disabled(String),
    /// A stored key does not open: the bytes are damaged, or were wrapped for something else.
    #[error("a wrapped key does not open")]
    Damaged,
    /// The key is wrapped by a master key that this process was not given.
    #[error("the key {0} is wrapped by another master key than this process has")]
    OtherMaster(String),
    /// The cluster map, where keys are, cannot be reached or changed now.
    #[error("the key service cannot be reached: {0}")]
    Unreachable(ClientError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
}
