//! Copying: the bytes pass through the gateway, checked on the way out and hashed on the way in, into chunks of their own;
//! encrypted or not, with whichever key, on either side.
//!
//! A copy shares no chunk with its source, so nothing needs to count references; a copied multipart object becomes a plain
//! one, whose entity tag is the MD5 of its bytes.

use annulus_common::checksum::ChecksumAlgorithm;
use annulus_common::object::NewObject;

use super::body::{BodyLength, intake_bytes};
use super::chunk_ranges::reading_bytes;
use super::digest::DEFAULT_ALGORITHM;
use super::put::Naming;
use super::{BODY_BYTES_MAX, ChecksumRequest, CopyObject, Expected, ObjectError, Objects, Written};

impl Objects {
    /// Makes an object out of another one, of at most 5 GiB.
    pub async fn copy(&self, copy: CopyObject<'_>) -> Result<Written, ObjectError> {
        let source = &copy.source.object;
        if source.size > BODY_BYTES_MAX {
            return Err(ObjectError::EntityTooLarge { size: source.size, maximum: BODY_BYTES_MAX });
        }
        let length = BodyLength { announced: Some(source.size), bytes_max: BODY_BYTES_MAX };
        // For both at once: copies that had one half each could wait for each other's.
        let bytes = reading_bytes(source) + intake_bytes(length, 0, copy.encrypt.is_some());
        let allowance = self.reserve(bytes).await?;
        let body = self.read_within(allowance.clone(), copy.source, 0..source.size, copy.source_key).await?;
        let naming = Naming {
            bucket: copy.bucket,
            key: copy.key,
            owner: copy.owner,
            headers: copy.headers.unwrap_or_else(|| source.headers.clone()),
            attributes: copy.attributes,
            conditions: copy.conditions,
            encrypt: copy.encrypt,
            request: copy.request,
        };
        let algorithm = copy.checksum.or_else(|| source_algorithm(source)).unwrap_or(DEFAULT_ALGORITHM);
        let digest = Expected { md5: None, checksum: ChecksumRequest::Compute(algorithm) };
        self.put_stream(allowance, naming, length, digest, body).await
    }
}

fn source_algorithm(source: &NewObject) -> Option<ChecksumAlgorithm> {
    source.checksum.map(|checksum| checksum.algorithm())
}
