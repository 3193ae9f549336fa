//! S3's checksums of object data: which there are, how S3 writes them, how those of parts make those of objects.
//! Nothing here knows HTTP: names and values are given as text.
//!
//! The rules are those of "Checking object integrity" in the Amazon S3 user guide.

mod algorithm;
mod combine;
mod etag;
mod hasher;
#[cfg(test)]
mod tests;
mod value;

pub use algorithm::{ChecksumAlgorithm, ChecksumType, UnknownChecksumName};
pub use combine::{CombineError, combine_composite, combine_full_object};
pub use etag::{ETag, MalformedETag};
pub use hasher::{Digests, Hasher, MultiHasher, md5};
pub use value::{ChecksumValue, MalformedChecksum, ObjectChecksum};

/// CRC-32C (Castagnoli) of `bytes`, in hardware: the checksum of chunks on the wire and on disk.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The [`crc32c`] of two runs of bytes of which only the checksums, and the length of the second, are known.
pub fn crc32c_combine(first: u32, second: u32, second_len: u64) -> u32 {
    combine::crc32c(first, second, second_len)
}
