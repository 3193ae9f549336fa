//! Where encrypted bytes lie: the arithmetic between an object's bytes and what is stored of them.

use std::ops::Range;

use annulus_common::chunk::{CHUNK_BYTES, PIECE_BYTES};

/// The tag behind each segment.
pub(super) const TAG_BYTES: u64 = 16;

/// A segment as it is stored. Small enough that a short range costs little, large enough that its tag and the cipher's start
/// cost nothing; a piece holds a whole number of them.
pub(super) const STORED_SEGMENT_BYTES: u64 = 64 << 10;

/// The bytes of an object that one segment holds; the last one holds what remains.
pub(in super::super) const SEGMENT_BYTES: u64 = STORED_SEGMENT_BYTES - TAG_BYTES;

/// Segments of a whole chunk.
pub(in super::super) const SEGMENTS_PER_CHUNK: u64 = CHUNK_BYTES as u64 / STORED_SEGMENT_BYTES;

/// The bytes of an object that one chunk holds when they are encrypted.
pub(in super::super) const SEALED_CHUNK_BYTES: u64 = SEGMENTS_PER_CHUNK * SEGMENT_BYTES;

const _: () =
    assert!((PIECE_BYTES as u64).is_multiple_of(STORED_SEGMENT_BYTES), "a piece holds a whole number of segments");

/// What `length` bytes are stored in. Nothing is nothing.
pub(in super::super) fn stored_length(length: u64) -> u64 {
    length + length.div_ceil(SEGMENT_BYTES) * TAG_BYTES
}

/// The segments that `range` touches, in a chunk of `length` bytes before encryption: their numbers in the chunk, and where they
/// are stored in it.
pub(in super::super) fn stored_range(range: &Range<u32>, length: u32) -> (Range<u64>, Range<u32>) {
    let segments = u64::from(range.start) / SEGMENT_BYTES..u64::from(range.end).div_ceil(SEGMENT_BYTES);
    let end = (segments.end * STORED_SEGMENT_BYTES).min(stored_length(length.into()));
    let stored = (segments.start * STORED_SEGMENT_BYTES) as u32..end as u32;
    (segments, stored)
}
