//! Which record a version of a key is: the head of the object that is there, or one of the others.

use annulus_common::object::{KeyPath, VersionId};
use bytes::Bytes;

use super::keys::Keys;
use super::records::{Head, NullVersion, Other, Record};
use crate::kv::KvError;

/// A version of a key.
pub(crate) enum Found {
    /// The object that is there.
    Current(Head),
    /// An old object, or a delete marker.
    Other(Other),
}

/// The value of a key, as whoever looks sees it.
pub(crate) type Get<'a> = dyn FnMut(&[u8]) -> Result<Option<Bytes>, KvError> + 'a;

/// Finds a version, in two or three reads however many versions there are.
pub(crate) fn find(
    get: &mut Get<'_>,
    keys: Keys,
    path: &KeyPath,
    version: VersionId,
) -> Result<Option<Found>, KvError> {
    if let Some(head) = read::<Head>(get, &keys.object(path))?.filter(|head| head.version == version) {
        return Ok(Some(Found::Current(head)));
    }
    let sequence = match version.sequence() {
        Some(sequence) => Some(sequence),
        None => read(get, &keys.null_version(path))?.map(|NullVersion { sequence }| sequence),
    };
    let Some(sequence) = sequence else { return Ok(None) };
    // An id that nobody was given may name the place of another version.
    let other = read::<Other>(get, &keys.version(path, sequence))?.filter(|other| other.version() == version);
    Ok(other.map(Found::Other))
}

fn read<R: Record>(get: &mut Get<'_>, key: &[u8]) -> Result<Option<R>, KvError> {
    get(key)?.map(|record| R::decode(&record)).transpose()
}
