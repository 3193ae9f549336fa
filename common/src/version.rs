//! Versions of keys: their ids, their order, and whether a bucket keeps them.
//!
//! See "Retaining multiple versions of objects with S3 Versioning" in the Amazon S3 user guide.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{RequestId, UserId};

/// Which version of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum VersionId {
    /// What is written while a bucket keeps no versions: a key has at most one of it.
    Null,
    /// A version of its own.
    Id([u8; 16]),
}

/// Whether a bucket keeps what is replaced and deleted.
///
/// It travels in each mutation, as the gateway's map said when the request came. A change is acknowledged only when everyone's
/// map has it, so a mutation of the old kind that is applied after that was asked for before: it may come before the change as
/// well as after. And it does no harm: what it replaces or removes for good is the null version alone, which was written
/// under the old kind, too.
///
/// The order of the variants is part of stored formats: add at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Versioning {
    /// Never did: the null version is all that there is.
    #[default]
    Unversioned,
    /// Every put and delete adds a version.
    Enabled,
    /// Keeps the versions that there are; puts and deletes replace the null version.
    Suspended,
}

/// Says that a key is deleted, while older versions of it are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteMarker {
    /// Its version id.
    pub version: VersionId,
    /// The Raft log index that wrote it.
    pub sequence: u64,
    /// `Last-Modified`, Unix milliseconds.
    pub modified_ms: u64,
    /// The mutation that wrote it.
    pub request: RequestId,
    /// Who deleted.
    pub owner: UserId,
}

impl VersionId {
    /// The id of the version of `key` that is written by `request` as entry `sequence` of the key's log. It holds the
    /// sequence, so that the version is found without an index, and half of the request's random bits, so that it is no other
    /// log's: they also hide the sequence, which is nobody's business.
    pub fn new(sequence: u64, request: RequestId, key: &str) -> Self {
        let random = (number(&request.0[8..]) ^ xxh3_64(key.as_bytes())).to_be_bytes();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(sequence ^ xxh3_64(&random)).to_be_bytes());
        id[8..].copy_from_slice(&random);
        Self::Id(id)
    }

    /// The place in its key's log that an id names; the null version's is not in its name.
    pub fn sequence(self) -> Option<u64> {
        let Self::Id(id) = self else { return None };
        let (hidden, random) = id.split_at(8);
        Some(number(hidden) ^ xxh3_64(random))
    }

    /// The id that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(Self::Id(id))
    }
}

/// Half of an id.
fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("8 of 16 bytes"))
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionId::Null => f.write_str("null"),
            VersionId::Id(id) => f.write_str(&hex::encode(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, prop_assert_ne, proptest};

    use super::{RequestId, VersionId};

    proptest! {
        #[test]
        fn an_id_holds_its_sequence(sequence: u64, request: [u8; 16], key in ".{0,9}") {
            let id = VersionId::new(sequence, RequestId(request), &key);
            prop_assert_eq!(id.sequence(), Some(sequence));
            prop_assert_eq!(VersionId::parse(&id.to_string()), Some(id));
            prop_assert_ne!(id, VersionId::new(sequence, RequestId(request), &format!("{key}x")));
        }
    }

    #[test]
    fn the_null_version_has_a_name_of_its_own() {
        assert_eq!(VersionId::parse("null"), Some(VersionId::Null));
        assert_eq!(VersionId::Null.to_string(), "null");
        assert_eq!(VersionId::Null.sequence(), None);
        assert_eq!(VersionId::parse("nil"), None);
    }
}
