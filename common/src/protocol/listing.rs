//! Pages of listings, as partitions answer them.

use serde::{Deserialize, Serialize};

use crate::checksum::{ChecksumAlgorithm, ChecksumType};
use crate::ids::UploadId;
use crate::object::UserId;

/// A page of a listing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// In byte order of key or common prefix.
    pub entries: Vec<Entry<T>>,
    /// Where to go on, when there may be more.
    pub next: Option<Vec<u8>>,
}

/// An entry of a listing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Entry<T> {
    /// A key.
    Item(T),
    /// A common prefix, which ends with the delimiter.
    Prefix(String),
}

/// What a listing says of an upload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedUpload {
    /// Its key.
    pub key: String,
    /// The upload's id.
    pub id: UploadId,
    /// Who began it.
    pub initiator: UserId,
    /// Who will own the object.
    pub owner: UserId,
    /// When, Unix milliseconds.
    pub initiated_ms: u64,
    /// Its checksum's algorithm and kind.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    /// The storage class, `STANDARD` when absent.
    pub storage_class: Option<String>,
}

/// The first byte string after every key that begins with `prefix`; nothing when there is none.
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}
