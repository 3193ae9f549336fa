//! Adding to an object that is there: the new bytes become a part behind those that it has, nothing is copied. Bytes that lay
//! in the object's record become its first part.

use std::sync::Arc;

use annulus_common::checksum::{ChecksumValue, combine_composite, combine_full_object};
use annulus_common::condition::Conditions;
use annulus_common::ids::PartId;
use annulus_common::map::Bucket;
use annulus_common::object::{Data, ETag, KeyPath, ObjectChecksum, ObjectVersion, Part};
use annulus_common::protocol::metadata::{Command, MetaReply, PARTS_MAX, QuotaTerms};
use bytes::Bytes;
use futures::Stream;

use super::body::{BodyLength, Destination, intake_bytes, store};
use super::crypt::{Place, Sealing};
use super::digest::DEFAULT_ALGORITHM;
use super::put::{key_path, new_part, owner_of, written};
use super::{BODY_BYTES_MAX, BodyStream, Expected, OBJECT_BYTES_MAX, ObjectError, Objects, Written};
use crate::budget::Allowance;
use crate::kms::CustomerKey;

/// What to add to which object.
pub struct AppendObject<'a> {
    /// Its bucket, which keeps no versions.
    pub bucket: &'a Bucket,
    /// Its key.
    pub key: &'a str,
    /// The object, as [`Objects::get`] found it.
    pub found: &'a ObjectVersion,
    /// Where the new bytes are to begin: at its end.
    pub offset: u64,
    /// What must hold of it.
    pub conditions: Conditions,
    /// How many bytes the (decoded) body will have, where the client said so.
    pub content_length: Option<u64>,
    /// How many bytes of it are held back until they are verified, at most.
    pub held_back_max: u64,
    /// What the body must hash to.
    pub digest: Expected,
    /// The client's key, of an object with SSE-C.
    pub customer: Option<&'a CustomerKey>,
}

/// An object that is to grow, with what its new parts need.
struct Growing<'a> {
    path: KeyPath,
    bucket: &'a Bucket,
    found: &'a ObjectVersion,
    customer: Option<&'a CustomerKey>,
    sealing: Option<Sealing>,
    allowance: Allowance,
}

impl Objects {
    /// Adds to an object. [`ObjectError::InvalidWriteOffset`] when it does not end there, or not any more.
    pub async fn append(&self, append: AppendObject<'_>, body: BodyStream) -> Result<Written, ObjectError> {
        let AppendObject { bucket, key, found, offset, conditions, content_length, held_back_max, digest, customer } =
            append;
        let object = &found.object;
        if offset != object.size {
            return Err(ObjectError::InvalidWriteOffset);
        }
        let number = next_number(&object.data)?;
        let path = key_path(bucket, key)?;
        let sealing = self.resume_object(bucket, found, customer).await?;
        let bytes_max = BODY_BYTES_MAX.min(OBJECT_BYTES_MAX.saturating_sub(offset));
        let length = BodyLength { announced: content_length, bytes_max };
        let allowance = self.reserve(intake_bytes(length, held_back_max, sealing.is_some())).await?;
        let growing = Growing { path, bucket, found, customer, sealing, allowance };
        let (tail, added) = self.store_part(&growing, number, length, digest, body).await?;
        if tail.length == 0 {
            return Err(ObjectError::EmptyAppend);
        }
        let size = offset + tail.length;
        let mut parts = self.first_part(&growing).await?;
        parts.push(tail);
        let all: Vec<&Part> = old_parts(&object.data).iter().chain(&parts).collect();
        let (etag, checksum) = (etag(&all), checksum(object.checksum, offset, added, &all));
        let mode = object.encryption.as_ref().map(|encryption| encryption.mode.clone());
        let (path, quota, sequence) = (growing.path, QuotaTerms::default(), found.sequence);
        let shard = path.shard;
        let command = Command::Append { path, sequence, conditions, quota, parts, size, etag, checksum };
        match self.mutate(bucket, shard, command).await? {
            MetaReply::PartsChanged => Err(ObjectError::InvalidWriteOffset),
            reply => written(reply, size, mode),
        }
    }

    /// The object's data key, for one more part.
    async fn resume_object(
        &self,
        bucket: &Bucket,
        found: &ObjectVersion,
        customer: Option<&CustomerKey>,
    ) -> Result<Option<Sealing>, ObjectError> {
        match (&found.object.encryption, customer) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(ObjectError::KeyNotApplicable),
            (Some(encryption), _) => {
                Sealing::resume(&*self.keys, bucket.id, encryption.clone(), customer).await.map(Some)
            }
        }
    }

    /// Makes a part durable; with its checksum in the object's algorithm.
    async fn store_part<E: Into<ObjectError>>(
        &self,
        growing: &Growing<'_>,
        number: u16,
        length: BodyLength,
        digest: Expected,
        body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
    ) -> Result<(Part, ChecksumValue), ObjectError> {
        let expected = growing.found.object.checksum.map(|checksum| checksum.algorithm());
        let algorithm = expected.unwrap_or(DEFAULT_ALGORITHM);
        let actual = digest.checksum.algorithm();
        if expected.is_some() && actual.is_some_and(|actual| actual != algorithm) {
            return Err(ObjectError::ChecksumAlgorithmMismatch { expected, actual });
        }
        let (id, sealing) = (PartId::generate(self.clock.now_ms()), growing.sealing.as_ref());
        let destination = Destination {
            part: id,
            owner: owner_of(&growing.path),
            length,
            inline_bytes_max: 0,
            cipher: sealing.map(|sealing| Arc::new(sealing.cipher(Place::Part(id)))),
        };
        let allowance = growing.allowance.clone();
        let stored = store(&self.client, allowance, destination, digest.hasher(algorithm), body).await?;
        let verified = digest.verify(&stored.digests, algorithm)?;
        Ok((new_part(id, number, &stored, sealing, &verified), verified.stored))
    }

    /// Bytes that lie in the object's record, as a part. Encrypted ones cannot stay there: under one data key that place is
    /// written once.
    async fn first_part(&self, growing: &Growing<'_>) -> Result<Vec<Part>, ObjectError> {
        let size = growing.found.object.size;
        if size == 0 || matches!(growing.found.object.data, Data::Parts(_)) {
            return Ok(Vec::new());
        }
        let key = self.unlock(growing.bucket, growing.found, growing.customer).await?;
        let body = self.read(growing.found, 0..size, &key).await?;
        let length = BodyLength { announced: Some(size), bytes_max: size };
        let (part, _) = self.store_part(growing, 1, length, Expected::default(), body).await?;
        Ok(vec![part])
    }
}

fn old_parts(data: &Data) -> &[Part] {
    match data {
        Data::Inline(_) => &[],
        Data::Parts(parts) => parts,
    }
}

/// The number of the next part. What lies in the record will be the first.
fn next_number(data: &Data) -> Result<u16, ObjectError> {
    let last = match data {
        Data::Inline(bytes) => u16::from(!bytes.is_empty()),
        Data::Parts(parts) => parts.last().map_or(0, |part| part.number),
    };
    if last < PARTS_MAX { Ok(last + 1) } else { Err(ObjectError::TooManyParts) }
}

/// As of an object that was uploaded in these parts.
fn etag(parts: &[&Part]) -> ETag {
    match parts {
        [whole] => ETag::of_md5(whole.md5),
        parts => ETag::of_parts(parts.iter().map(|part| part.md5)),
    }
}

/// The checksum of the whole: of all bytes where it can be combined out of the old one and the new part's, else of the parts'.
fn checksum(old: Option<ObjectChecksum>, size: u64, added: ChecksumValue, parts: &[&Part]) -> Option<ObjectChecksum> {
    let (old, length) = (old?, parts.last()?.length);
    if parts.len() == 1 {
        return Some(ObjectChecksum::FullObject(added));
    }
    if let ObjectChecksum::FullObject(value) = old
        && let Ok(whole) = combine_full_object(&[(value, size), (added, length)])
    {
        return Some(whole);
    }
    let value = |part: &&Part| ChecksumValue::from_bytes(old.algorithm(), part.checksum.as_deref()?).ok();
    combine_composite(&parts.iter().map(value).collect::<Option<Vec<_>>>()?).ok()
}

#[cfg(test)]
mod tests {
    use annulus_common::checksum::{ChecksumAlgorithm, ChecksumType, ChecksumValue};
    use annulus_common::ids::PartId;
    use annulus_common::object::{Data, ETag, ObjectChecksum, Part};
    use annulus_common::protocol::metadata::PARTS_MAX;
    use bytes::Bytes;

    use super::{checksum, etag, next_number};

    fn part(number: u16, bytes: &[u8], algorithm: ChecksumAlgorithm) -> Part {
        let (length, checksum) = (bytes.len() as u64, ChecksumValue::of(algorithm, bytes).as_bytes().to_vec());
        Part { id: PartId([1; 16]), number, length, stored: length, md5: [number as u8; 16], checksum: Some(checksum) }
    }

    #[test]
    fn a_crc_is_of_all_bytes_and_a_hash_of_the_parts() {
        for (algorithm, kind) in [
            (ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject),
            (ChecksumAlgorithm::Crc32, ChecksumType::FullObject),
            (ChecksumAlgorithm::Sha256, ChecksumType::Composite),
        ] {
            let parts = [part(1, b"abc", algorithm), part(2, b"defg", algorithm)];
            let parts = [&parts[0], &parts[1]];
            let old = ObjectChecksum::FullObject(ChecksumValue::of(algorithm, b"abc"));
            let whole = checksum(Some(old), 3, ChecksumValue::of(algorithm, b"defg"), &parts).expect("both have one");
            assert_eq!(whole.checksum_type(), kind);
            if kind == ChecksumType::FullObject {
                assert_eq!(whole.value(), ChecksumValue::of(algorithm, b"abcdefg"));
            }
            assert_eq!(etag(&parts), ETag::of_parts([[1; 16], [2; 16]]));
        }
    }

    #[test]
    fn the_last_number_is_the_last() {
        let inline = |bytes: &'static [u8]| Data::Inline(Bytes::from_static(bytes));
        assert_eq!(next_number(&inline(b"")).expect("there is room"), 1);
        assert_eq!(next_number(&inline(b"x")).expect("there is room"), 2);
        let parts = |last| Data::Parts(vec![part(last, b"x", ChecksumAlgorithm::Crc32)]);
        assert_eq!(next_number(&parts(7)).expect("there is room"), 8);
        assert!(next_number(&parts(PARTS_MAX)).is_err());
    }
}
