//! What a body must hash to: which hashes to compute while it passes, and the comparison when it has ended. Pure.

use annulus_common::checksum::{ChecksumAlgorithm, ChecksumValue, Digests, MultiHasher};

use super::{BodyError, ChecksumRequest, Expected, ObjectError};

/// What S3 computes when nothing was asked for.
pub(super) const DEFAULT_ALGORITHM: ChecksumAlgorithm = ChecksumAlgorithm::Crc64Nvme;

/// What a body was found to be.
pub(super) struct Verified {
    pub(super) md5: [u8; 16],
    /// In the algorithm to store.
    pub(super) stored: ChecksumValue,
    /// In the algorithm that the client used, or in the one to store.
    pub(super) answered: ChecksumValue,
}

impl ChecksumRequest {
    /// The algorithm that the client named.
    pub(super) fn algorithm(&self) -> Option<ChecksumAlgorithm> {
        match self {
            ChecksumRequest::Default => None,
            ChecksumRequest::Compute(algorithm) | ChecksumRequest::Trailer { algorithm, .. } => Some(*algorithm),
            ChecksumRequest::Value(value) => Some(value.algorithm()),
        }
    }
}

impl Expected {
    /// Computes MD5, the checksum to store, and the client's where that is another.
    pub(super) fn hasher(&self, store: ChecksumAlgorithm) -> MultiHasher {
        MultiHasher::new([Some(store), self.checksum.algorithm()].into_iter().flatten()).with_md5()
    }

    /// Compares everything that was promised. The body has ended without an error.
    pub(super) fn verify(self, digests: &Digests, store: ChecksumAlgorithm) -> Result<Verified, ObjectError> {
        let missing = || ObjectError::Internal("a digest was not computed".into());
        let md5 = digests.md5.ok_or_else(missing)?;
        if let Some(expected) = self.md5.filter(|expected| *expected != md5) {
            return Err(ObjectError::BadDigest { expected, calculated: md5 });
        }
        let stored = digests.get(store).ok_or_else(missing)?;
        let answered =
            self.checksum.algorithm().map_or(Some(stored), |algorithm| digests.get(algorithm)).ok_or_else(missing)?;
        match self.checksum.promised()? {
            Some(promised) if promised != answered => {
                Err(ObjectError::ChecksumMismatch { algorithm: promised.algorithm() })
            }
            _ => Ok(Verified { md5, stored, answered }),
        }
    }
}

impl ChecksumRequest {
    /// The client's value; a trailer's is read now.
    fn promised(self) -> Result<Option<ChecksumValue>, BodyError> {
        match self {
            ChecksumRequest::Default | ChecksumRequest::Compute(_) => Ok(None),
            ChecksumRequest::Value(value) => Ok(Some(value)),
            ChecksumRequest::Trailer { algorithm, read } => match read()? {
                Some(value) if value.algorithm() == algorithm => Ok(Some(value)),
                _ => Err(BodyError::Malformed),
            },
        }
    }
}
