//! What a chunk is made of: its size, its pieces and their CRC-32C, and whose it is.
//!
//! The gateway computes the CRCs once and checks them at the end of a read; a storage node checks them before it writes
//! and after it reads. All of them use this arithmetic. Nothing here stores or sends a chunk.

use std::ops::Range;

use crc_fast::{CrcAlgorithm, checksum};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::ids::{BucketId, ChunkId, ShardId};

/// The most bytes of one chunk.
pub const CHUNK_BYTES: u32 = 4 * 1024 * 1024;

/// The bytes of a piece, the unit that is checked and read: small enough that a short range costs little, large enough
/// that its checksum and key cost nothing. The last piece of a chunk is what is left.
pub const PIECE_BYTES: u32 = 256 * 1024;

/// The most pieces of one chunk.
pub const PIECES_MAX: u32 = CHUNK_BYTES / PIECE_BYTES;

/// Who is asked, before a chunk is dropped, whether it is still named: the index shard that holds its object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ChunkOwner {
    /// The bucket of the object.
    pub bucket: BucketId,
    /// The index shard of the object's key.
    pub shard: ShardId,
}

/// What a set of chunks amounts to, whatever their order: equal digests of two nodes mean equal chunks. It notices accidents;
/// someone who makes chunks for it could deceive it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Digest {
    /// How many they are.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The hashes of id, length and piece CRCs of each of them, added with wrap-around.
    pub sum: u64,
}

impl Digest {
    /// Counts a chunk in.
    pub fn add(&mut self, id: ChunkId, length: u32, piece_crcs: &[u32]) {
        let mut described = id.to_bytes().to_vec();
        described.extend_from_slice(&length.to_be_bytes());
        piece_crcs.iter().for_each(|crc| described.extend_from_slice(&crc.to_be_bytes()));
        self.merge(&Self { chunks: 1, bytes: u64::from(length), sum: xxh3_64(&described) });
    }

    /// Counts other chunks in.
    pub fn merge(&mut self, other: &Self) {
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// Bytes that are not those which their CRCs were made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PieceMismatch {
    /// There are not as many CRCs as pieces.
    #[error("{pieces} pieces with {crcs} checksums")]
    Count {
        /// Pieces in the data.
        pieces: usize,
        /// CRCs beside it.
        crcs: usize,
    },
    /// One piece differs.
    #[error("piece {index} has CRC-32C {actual:08x} instead of {expected:08x}")]
    Crc {
        /// The piece, counted from the first one of the data.
        index: usize,
        /// The CRC it should have.
        expected: u32,
        /// The CRC it has.
        actual: u32,
    },
}

/// The CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The CRC-32C of each piece of `data`, which starts at a piece's start.
pub fn piece_crcs(data: &[u8]) -> Vec<u32> {
    data.chunks(PIECE_BYTES as usize).map(crc32c).collect()
}

/// Checks whole pieces against their CRCs.
pub fn verify_pieces(data: &[u8], crcs: &[u32]) -> Result<(), PieceMismatch> {
    let pieces = data.chunks(PIECE_BYTES as usize);
    if pieces.len() != crcs.len() {
        return Err(PieceMismatch::Count { pieces: pieces.len(), crcs: crcs.len() });
    }
    for (index, (piece, &expected)) in pieces.zip(crcs).enumerate() {
        let actual = crc32c(piece);
        if actual != expected {
            return Err(PieceMismatch::Crc { index, expected, actual });
        }
    }
    Ok(())
}

/// How many pieces a chunk of `length` bytes has.
pub fn piece_count(length: u32) -> u32 {
    length.div_ceil(PIECE_BYTES)
}

/// The pieces that `range` touches in a chunk of `length` bytes. What lies past the end touches nothing.
pub fn piece_range(range: &Range<u32>, length: u32) -> Range<u32> {
    let end = range.end.min(length);
    if range.start >= end {
        let none = range.start.min(length) / PIECE_BYTES;
        return none..none;
    }
    range.start / PIECE_BYTES..end.div_ceil(PIECE_BYTES)
}

/// The bytes that `pieces` cover in a chunk of `length` bytes.
pub fn piece_bytes(pieces: &Range<u32>, length: u32) -> Range<u32> {
    let start = pieces.start.saturating_mul(PIECE_BYTES).min(length);
    start..pieces.end.saturating_mul(PIECE_BYTES).min(length).max(start)
}

/// Where `range` lies in data that starts at piece `pieces_from` and was read for it. Use it after the CRCs were checked.
pub fn trim_range(range: &Range<u32>, pieces_from: u32, length: u32) -> Range<usize> {
    let base = pieces_from.saturating_mul(PIECE_BYTES);
    let start = range.start.min(length).saturating_sub(base);
    let end = range.end.min(length).saturating_sub(base).max(start);
    start as usize..end as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::{
        CHUNK_BYTES, Digest, PIECE_BYTES, PIECES_MAX, PieceMismatch, crc32c, piece_bytes, piece_count, piece_crcs,
        piece_range, trim_range, verify_pieces,
    };
    use crate::ids::{ChunkId, PartId};

    #[test]
    fn crc_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(PIECES_MAX * PIECE_BYTES, CHUNK_BYTES);
    }

    #[test]
    fn a_digest_knows_no_order_and_misses_no_difference() {
        let id = |index| ChunkId { part: PartId([7; 16]), index };
        let of = |chunks: &[(u32, u32, u32)]| {
            let mut digest = Digest::default();
            chunks.iter().for_each(|&(index, length, crc)| digest.add(id(index), length, &[crc]));
            digest
        };
        let both = of(&[(0, 5, 9), (1, 6, 8)]);
        assert_eq!(both, of(&[(1, 6, 8), (0, 5, 9)]));
        let mut merged = of(&[(0, 5, 9)]);
        merged.merge(&of(&[(1, 6, 8)]));
        assert_eq!(merged, both);
        for other in
            [of(&[(0, 5, 9)]), of(&[(0, 5, 9), (2, 6, 8)]), of(&[(0, 5, 9), (1, 6, 7)]), of(&[(0, 6, 9), (1, 5, 8)])]
        {
            assert_ne!(other, both);
        }
        // Nodes of different versions compare them.
        assert_eq!(both, Digest { chunks: 2, bytes: 11, sum: 18_264_547_773_959_385_657 });
    }

    #[test]
    fn a_flipped_bit_is_found_in_its_piece() {
        let mut data = vec![7; PIECE_BYTES as usize * 2 + 5];
        let crcs = piece_crcs(&data);
        assert_eq!(crcs.len(), 3);
        assert_eq!(verify_pieces(&data, &crcs), Ok(()));
        data[PIECE_BYTES as usize + 1] ^= 4;
        assert!(matches!(verify_pieces(&data, &crcs), Err(PieceMismatch::Crc { index: 1, .. })));
        assert_eq!(verify_pieces(&data, &crcs[..2]), Err(PieceMismatch::Count { pieces: 3, crcs: 2 }));
    }

    proptest! {
        #[test]
        fn pieces_cover_the_range_and_no_more(length in 1..=CHUNK_BYTES, a in 0..=CHUNK_BYTES, b in 0..=CHUNK_BYTES) {
            let range = a.min(b)..a.max(b);
            let pieces = piece_range(&range, length);
            let bytes = piece_bytes(&pieces, length);
            let wanted = range.start.min(length)..range.end.min(length);
            prop_assert!(pieces.end <= piece_count(length));
            if wanted.is_empty() {
                prop_assert!(pieces.is_empty() && bytes.is_empty());
            } else {
                prop_assert!(bytes.start <= wanted.start && wanted.end <= bytes.end);
                prop_assert!(wanted.start - bytes.start < PIECE_BYTES && bytes.end - wanted.end < PIECE_BYTES);
            }
            let trimmed = trim_range(&range, pieces.start, length);
            prop_assert_eq!(trimmed.len(), wanted.len());
            if !wanted.is_empty() {
                prop_assert_eq!(trimmed.start as u32 + bytes.start, wanted.start);
            }
        }
    }
}
