//! What an object will be that is made of these parts, or why it cannot be. Pure.

use annulus_common::checksum::{
    ChecksumAlgorithm, ChecksumType, ChecksumValue, combine_composite, combine_full_object,
};
use annulus_common::object::{ETag, ObjectChecksum, Part, Upload, UploadedPart};
use annulus_common::protocol::metadata::{PARTS_MAX, parts_fingerprint};

use super::super::digest::DEFAULT_ALGORITHM;
use super::super::{CompletePart, CompleteUpload, OBJECT_BYTES_MAX, ObjectError, PART_BYTES_MIN, PromisedChecksum};

/// An object out of parts.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) parts: Vec<u16>,
    pub(super) fingerprint: u64,
    pub(super) etag: ETag,
    pub(super) checksum: Option<ObjectChecksum>,
    pub(super) size: u64,
}

/// The rules that need no look at the upload: some parts, in ascending order.
pub(super) fn check_order(parts: &[CompletePart]) -> Result<(), ObjectError> {
    if parts.is_empty() || parts.len() > usize::from(PARTS_MAX) {
        return Err(ObjectError::InvalidPartCount(parts.len()));
    }
    if parts.windows(2).any(|pair| pair[0].number >= pair[1].number) {
        return Err(ObjectError::InvalidPartOrder);
    }
    Ok(())
}

/// Makes the object out of those uploaded parts that the client lists.
pub(super) fn assemble(
    upload: &Upload,
    uploaded: &[UploadedPart],
    complete: &CompleteUpload<'_>,
) -> Result<Assembled, ObjectError> {
    let (algorithm, kind) = upload.checksum.unwrap_or((DEFAULT_ALGORITHM, ChecksumType::FullObject));
    check_numbers(&complete.parts, kind)?;
    let parts = complete.parts.iter().map(|listed| find(uploaded, listed, algorithm));
    let parts: Vec<&Part> = parts.collect::<Result<_, _>>()?;
    check_sizes(&parts)?;
    let size = parts.iter().map(|part| part.length).sum();
    if size > OBJECT_BYTES_MAX {
        return Err(ObjectError::EntityTooLarge { size, maximum: OBJECT_BYTES_MAX });
    }
    let checksum = combine(&parts, algorithm, kind)?;
    check_promises(complete, size, (algorithm, kind), checksum.as_ref())?;
    Ok(Assembled {
        parts: parts.iter().map(|part| part.number).collect(),
        fingerprint: parts_fingerprint(parts.iter().copied()),
        etag: etag(&parts),
        checksum,
        size,
    })
}

/// Parts with a composite checksum leave no number out. See `PartNumber` of "CompletedPart" in the S3 API reference.
fn check_numbers(parts: &[CompletePart], kind: ChecksumType) -> Result<(), ObjectError> {
    let leaves_out = (1..).zip(parts).any(|(number, part)| part.number != number);
    if kind == ChecksumType::Composite && leaves_out { Err(ObjectError::InvalidPartOrder) } else { Ok(()) }
}

fn find<'a>(
    uploaded: &'a [UploadedPart],
    listed: &CompletePart,
    algorithm: ChecksumAlgorithm,
) -> Result<&'a Part, ObjectError> {
    let invalid = || ObjectError::InvalidPart { number: listed.number, etag: listed.etag.clone() };
    let place =
        uploaded.binary_search_by_key(&listed.number, |uploaded| uploaded.part.number).map_err(|_| invalid())?;
    let UploadedPart { part, sent, .. } = &uploaded[place];
    let etag_fits = hex::encode(part.md5).eq_ignore_ascii_case(&listed.etag);
    let checksum_fits = match listed.checksum {
        Some(value) if value.algorithm() == algorithm => part.checksum.as_deref() == Some(value.as_bytes()),
        // The upload was begun without an algorithm: the client chose its own for the part.
        Some(value) => *sent == Some(value),
        None => true,
    };
    if etag_fits && checksum_fits { Ok(part) } else { Err(invalid()) }
}

fn check_sizes(parts: &[&Part]) -> Result<(), ObjectError> {
    let all_but_last = &parts[..parts.len().saturating_sub(1)];
    match all_but_last.iter().find(|part| part.length < PART_BYTES_MIN) {
        Some(part) => Err(ObjectError::EntityTooSmall {
            number: part.number,
            etag: hex::encode(part.md5),
            size: part.length,
            minimum: PART_BYTES_MIN,
        }),
        None => Ok(()),
    }
}

fn etag(parts: &[&Part]) -> ETag {
    ETag::of_parts(parts.iter().map(|part| part.md5))
}

/// The object's checksum, when every part has one.
fn combine(
    parts: &[&Part],
    algorithm: ChecksumAlgorithm,
    kind: ChecksumType,
) -> Result<Option<ObjectChecksum>, ObjectError> {
    let value = |part: &&Part| {
        let bytes = part.checksum.as_deref()?;
        Some((ChecksumValue::from_bytes(algorithm, bytes).ok()?, part.length))
    };
    let Some(values) = parts.iter().map(value).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let combined = match kind {
        ChecksumType::FullObject => combine_full_object(&values),
        ChecksumType::Composite => combine_composite(&values.iter().map(|(value, _)| *value).collect::<Vec<_>>()),
    };
    combined.map(Some).map_err(|_| ObjectError::ChecksumTypeUnsupported { algorithm, kind })
}

/// What the client promised of the object as a whole must hold of the one that is made.
pub(super) fn check_promises(
    complete: &CompleteUpload<'_>,
    size: u64,
    (algorithm, kind): (ChecksumAlgorithm, ChecksumType),
    computed: Option<&ObjectChecksum>,
) -> Result<(), ObjectError> {
    match complete.size {
        Some(expected) if expected != size => return Err(ObjectError::SizeMismatch { expected, actual: size }),
        _ => {}
    }
    match complete.checksum_type {
        Some(actual) if actual != kind => return Err(ObjectError::ChecksumTypeMismatch { expected: kind, actual }),
        _ => {}
    }
    match complete.checksum {
        None => Ok(()),
        Some(given) if given.value.algorithm() != algorithm => {
            let actual = Some(given.value.algorithm());
            Err(ObjectError::ChecksumAlgorithmMismatch { expected: Some(algorithm), actual })
        }
        Some(given) if computed.is_some_and(|computed| is_kept(given, computed)) => Ok(()),
        Some(_) => Err(ObjectError::ChecksumMismatch { algorithm }),
    }
}

fn is_kept(promised: PromisedChecksum, computed: &ObjectChecksum) -> bool {
    let of_as_many = match (promised.parts, computed) {
        (None, _) => true,
        (Some(said), ObjectChecksum::Composite { parts, .. }) => said == *parts,
        (Some(_), ObjectChecksum::FullObject(_)) => false,
    };
    of_as_many && computed.value() == promised.value
}
