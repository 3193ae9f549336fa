//! Checksums computed as the bytes pass: one, or several over the same bytes.

use crc_fast::CrcAlgorithm;
use md5::Digest as _;

use super::{ChecksumAlgorithm, ChecksumValue, ETag};

/// One checksum being computed.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Crc32(crc32fast::Hasher),
    Crc32c(Box<crc_fast::Digest>),
    Crc64Nvme(Box<crc_fast::Digest>),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
}

/// Several checksums, and the MD5 if wanted, over the same bytes in one pass.
#[derive(Clone, Default)]
pub struct MultiHasher {
    hashers: Vec<Hasher>,
    md5: Option<md5::Md5>,
    bytes_len: u64,
}

/// What a [`MultiHasher`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// The MD5, if it was asked for.
    pub md5: Option<[u8; 16]>,
    /// One value per algorithm, in the order in which they were asked for.
    pub checksums: Vec<ChecksumValue>,
    /// How many bytes there were.
    pub bytes_len: u64,
}

/// With several hashers the bytes are fed in blocks of this size, so that all but the first read them from the
/// cache of the core.
const BLOCK_BYTES: usize = 16 * 1024;

impl Hasher {
    /// A checksum of no bytes yet.
    pub fn new(algorithm: ChecksumAlgorithm) -> Self {
        Self(match algorithm {
            ChecksumAlgorithm::Crc32 => State::Crc32(crc32fast::Hasher::new()),
            ChecksumAlgorithm::Crc32c => State::Crc32c(Box::new(crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi))),
            ChecksumAlgorithm::Crc64Nvme => State::Crc64Nvme(Box::new(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme))),
            ChecksumAlgorithm::Sha1 => State::Sha1(sha1::Sha1::new()),
            ChecksumAlgorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
        })
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Crc32(state) => state.update(bytes),
            State::Crc32c(state) | State::Crc64Nvme(state) => state.update(bytes),
            State::Sha1(state) => state.update(bytes),
            State::Sha256(state) => state.update(bytes),
        }
    }

    /// The value of all bytes taken in.
    pub fn finish(self) -> ChecksumValue {
        match self.0 {
            State::Crc32(state) => ChecksumValue::Crc32(state.finalize().to_be_bytes()),
            State::Crc32c(state) => ChecksumValue::Crc32c((state.finalize() as u32).to_be_bytes()),
            State::Crc64Nvme(state) => ChecksumValue::Crc64Nvme(state.finalize().to_be_bytes()),
            State::Sha1(state) => ChecksumValue::Sha1(state.finalize().into()),
            State::Sha256(state) => ChecksumValue::Sha256(state.finalize().into()),
        }
    }
}

impl MultiHasher {
    /// One hasher per algorithm; an algorithm named twice is computed once.
    pub fn new(algorithms: impl IntoIterator<Item = ChecksumAlgorithm>) -> Self {
        let mut wanted: Vec<ChecksumAlgorithm> = Vec::new();
        for algorithm in algorithms {
            if !wanted.contains(&algorithm) {
                wanted.push(algorithm);
            }
        }
        Self { hashers: wanted.into_iter().map(Hasher::new).collect(), md5: None, bytes_len: 0 }
    }

    /// The MD5 too: for the ETag, or for Content-MD5.
    pub fn with_md5(mut self) -> Self {
        self.md5 = Some(md5::Md5::new());
        self
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.bytes_len += bytes.len() as u64;
        for block in bytes.chunks(BLOCK_BYTES) {
            self.hashers.iter_mut().for_each(|hasher| hasher.update(block));
            if let Some(md5) = &mut self.md5 {
                md5.update(block);
            }
        }
    }

    /// The values of all bytes taken in.
    pub fn finish(self) -> Digests {
        Digests {
            md5: self.md5.map(|md5| md5.finalize().into()),
            checksums: self.hashers.into_iter().map(Hasher::finish).collect(),
            bytes_len: self.bytes_len,
        }
    }
}

impl Digests {
    /// The value of one algorithm, if it was asked for.
    pub fn get(&self, algorithm: ChecksumAlgorithm) -> Option<ChecksumValue> {
        self.checksums.iter().copied().find(|value| value.algorithm() == algorithm)
    }

    /// The ETag of an object put in one piece, if the MD5 was asked for.
    pub fn etag(&self) -> Option<ETag> {
        self.md5.map(ETag::of_md5)
    }
}

/// The MD5 of `bytes`.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    md5::Md5::digest(bytes).into()
}
