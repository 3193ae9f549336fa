//! The keys of the key service as the cluster map has them: named, in versions, each wrapped by the master key, which is not
//! here. Wrapping and unwrapping is the gateway's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::change::{MapRefusal, MapReply};
use crate::encryption::WrappedKey;

/// Keys of one cluster: every copy of the map holds them all.
pub const KMS_KEYS_MAX: usize = 10_000;

/// Versions of one key: a rotation a day for 27 years.
pub const KMS_KEY_VERSIONS_MAX: usize = 10_000;

/// Tells master keys apart; says nothing about them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MasterKeyId(pub [u8; 8]);

/// Keys by name.
pub type KmsKeys = BTreeMap<String, KmsKey>;

/// A key of the key service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KmsKey {
    /// Unix milliseconds.
    pub created_ms: u64,
    /// A disabled key neither encrypts nor decrypts.
    pub enabled: bool,
    /// By number. The last one encrypts; all of them decrypt, because what they encrypted is still there.
    pub versions: Vec<KmsKeyVersion>,
}

/// One version of a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KmsKeyVersion {
    /// Unix milliseconds.
    pub created_ms: u64,
    /// The master key that wraps it.
    pub master: MasterKeyId,
    /// The key itself, wrapped.
    pub material: WrappedKey,
}

/// Makes a key.
pub(super) fn create(keys: &mut KmsKeys, name: &str, key: &KmsKey) -> Result<MapReply, MapRefusal> {
    match keys.get(name) {
        Some(there) if there == key => Ok(MapReply::Done),
        Some(_) => Err(MapRefusal::KmsKeyExists),
        None if keys.len() >= KMS_KEYS_MAX => Err(MapRefusal::TooManyKmsKeys),
        None => {
            keys.insert(name.to_owned(), key.clone());
            Ok(MapReply::Done)
        }
    }
}

/// Lets a key be used, or not.
pub(super) fn enable(keys: &mut KmsKeys, name: &str, enabled: bool) -> Result<MapReply, MapRefusal> {
    keys.get_mut(name).ok_or(MapRefusal::NoSuchKmsKey)?.enabled = enabled;
    Ok(MapReply::Done)
}

/// Sets the version of that number: the next one, or one that is wrapped anew.
pub(super) fn put_version(
    keys: &mut KmsKeys,
    name: &str,
    number: u32,
    version: &KmsKeyVersion,
) -> Result<MapReply, MapRefusal> {
    let versions = &mut keys.get_mut(name).ok_or(MapRefusal::NoSuchKmsKey)?.versions;
    let (number, count) = (number as usize, versions.len());
    match versions.get_mut(number) {
        Some(there) if there == version => {}
        // Only the wrapping may change: two rotations at once would otherwise lose one's key.
        Some(there) if there.created_ms == version.created_ms && there.master != version.master => {
            *there = version.clone();
        }
        None if number == count && number < KMS_KEY_VERSIONS_MAX => versions.push(version.clone()),
        Some(_) | None => return Err(MapRefusal::KmsKeyChanged),
    }
    Ok(MapReply::Done)
}

#[cfg(test)]
mod tests {
    use super::{KmsKey, KmsKeyVersion, KmsKeys, MasterKeyId, create, enable, put_version};
    use crate::encryption::WrappedKey;
    use crate::map::change::{MapRefusal, MapReply};

    fn version(created_ms: u64, master: u8) -> KmsKeyVersion {
        let material = WrappedKey { version: 0, salt: [master; 16], sealed: [2; 32], tag: [3; 16] };
        KmsKeyVersion { created_ms, master: MasterKeyId([master; 8]), material }
    }

    #[test]
    fn keys_are_made_once_and_rotated_in_order() {
        let mut keys = KmsKeys::new();
        let key = KmsKey { created_ms: 1, enabled: true, versions: vec![version(1, 1)] };
        assert_eq!(create(&mut keys, "k", &key), Ok(MapReply::Done));
        assert_eq!(create(&mut keys, "k", &key), Ok(MapReply::Done), "asked again");
        let other = KmsKey { created_ms: 2, ..key.clone() };
        assert_eq!(create(&mut keys, "k", &other), Err(MapRefusal::KmsKeyExists));
        assert_eq!(put_version(&mut keys, "k", 1, &version(5, 1)), Ok(MapReply::Done));
        assert_eq!(put_version(&mut keys, "k", 1, &version(5, 1)), Ok(MapReply::Done), "asked again");
        assert_eq!(put_version(&mut keys, "k", 1, &version(6, 1)), Err(MapRefusal::KmsKeyChanged));
        assert_eq!(put_version(&mut keys, "k", 3, &version(6, 1)), Err(MapRefusal::KmsKeyChanged));
        assert_eq!(put_version(&mut keys, "k", 1, &version(5, 9)), Ok(MapReply::Done), "wrapped anew");
        assert_eq!(put_version(&mut keys, "x", 0, &version(5, 9)), Err(MapRefusal::NoSuchKmsKey));
        assert_eq!(keys["k"].versions.len(), 2);
        assert_eq!(enable(&mut keys, "k", false), Ok(MapReply::Done));
        assert!(!keys["k"].enabled);
    }
}
