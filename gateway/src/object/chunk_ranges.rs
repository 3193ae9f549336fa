//! Which chunks a range of an object touches, which pieces of them can be read one by one, and what reading them takes of memory.

use std::collections::VecDeque;
use std::ops::Range;

use annulus_common::chunk::{CHUNK_BYTES, PIECE_BYTES, piece_bytes, piece_range};
use annulus_common::ids::ChunkId;
use annulus_common::object::{Data, NewObject, Part};

use super::crypt::{SEALED_CHUNK_BYTES, SEGMENTS_PER_CHUNK, stored_length, stored_range};

/// What a part's record takes of memory, roughly. An object may have 10,000.
const PART_RECORD_BYTES: u64 = 192;

/// The pieces of a whole chunk.
const PIECES_PER_CHUNK: u64 = CHUNK_BYTES as u64 / PIECE_BYTES as u64;

const _: () = assert!(SEGMENTS_PER_CHUNK.is_multiple_of(PIECES_PER_CHUNK), "no segment lies in two pieces");

/// What a reader holds at least of an object: the piece that the client takes, and the next one (twice, where it is decrypted).
pub(super) fn reading_bytes(object: &NewObject) -> u64 {
    let Data::Parts(parts) = &object.data else { return 0 };
    let is_sealed = object.encryption.is_some();
    let pieces = match object.size <= PIECE_BYTES.into() {
        true => object.size * if is_sealed { 2 } else { 1 },
        false => u64::from(PIECE_BYTES) * if is_sealed { 3 } else { 2 },
    };
    pieces + parts.len() as u64 * PART_RECORD_BYTES
}

/// A piece of a range that lies within one chunk, counted in the object's bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ChunkRange {
    pub(super) id: ChunkId,
    /// How many of the object's bytes the chunk holds.
    pub(super) length: u32,
    pub(super) range: Range<u32>,
    /// Whether it is the part's last chunk.
    pub(super) ends: bool,
}

impl ChunkRange {
    /// What reading it takes of memory: whole pieces, and where they are encrypted what comes out of them, too.
    pub(super) fn held_bytes(&self, is_sealed: bool) -> u64 {
        let (range, length) = match is_sealed {
            true => (stored_range(&self.range, self.length).1, stored_length(self.length.into()) as u32),
            false => (self.range.clone(), self.length),
        };
        let pieces = piece_bytes(&piece_range(&range, length), length);
        u64::from(pieces.end - pieces.start) * if is_sealed { 2 } else { 1 }
    }
}

/// The chunks that a range of an object touches, one by one: an object of 5 TiB has more than a million.
pub(super) struct ChunkRanges {
    /// The parts that the range touches.
    parts: VecDeque<Part>,
    /// What is left of the range, counted from the first part's start.
    left: Range<u64>,
    /// How many of the object's bytes a whole chunk holds.
    chunk_bytes: u64,
}

impl ChunkRanges {
    pub(super) fn new(parts: &[Part], range: Range<u64>, is_sealed: bool) -> Self {
        let chunk_bytes = if is_sealed { SEALED_CHUNK_BYTES } else { u64::from(CHUNK_BYTES) };
        let mut start = 0;
        let mut touched = VecDeque::new();
        let mut skipped = 0;
        for part in parts {
            let end = start + part.length;
            if end <= range.start {
                skipped = end;
            } else if start < range.end {
                touched.push_back(part.clone());
            }
            start = end;
        }
        let left = range.start.saturating_sub(skipped)..range.end.saturating_sub(skipped);
        Self { parts: touched, left, chunk_bytes }
    }

    /// What is left of the range in the next chunk.
    pub(super) fn in_chunk(&mut self) -> Option<ChunkRange> {
        self.up_to_multiple_of(self.chunk_bytes)
    }

    /// What is left of the range in the next piece of a chunk.
    pub(super) fn in_piece(&mut self) -> Option<ChunkRange> {
        self.up_to_multiple_of(self.chunk_bytes / PIECES_PER_CHUNK)
    }

    /// Goes on behind what was told last.
    pub(super) fn pass(&mut self, passed: &ChunkRange) {
        self.left.start += u64::from(passed.range.end - passed.range.start);
    }

    fn up_to_multiple_of(&mut self, bytes: u64) -> Option<ChunkRange> {
        while self.parts.front().is_some_and(|part| part.length <= self.left.start) {
            let passed = self.parts.pop_front()?.length;
            self.left = self.left.start - passed..self.left.end - passed;
        }
        let part = self.parts.front().filter(|_| !self.left.is_empty())?;
        let index = self.left.start / self.chunk_bytes;
        let chunk_start = index * self.chunk_bytes;
        let length = (part.length - chunk_start).min(self.chunk_bytes);
        let next_multiple = (self.left.start / bytes + 1) * bytes;
        let end = self.left.end.min(chunk_start + length).min(next_multiple);
        let range = (self.left.start - chunk_start) as u32..(end - chunk_start) as u32;
        let id = ChunkId { part: part.id, index: u32::try_from(index).ok()? };
        Some(ChunkRange { id, length: length as u32, range, ends: chunk_start + length == part.length })
    }
}

#[cfg(test)]
mod tests {
    use annulus_common::ids::PartId;
    use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, proptest};

    use super::{CHUNK_BYTES, ChunkRanges, PIECE_BYTES, Part, SEALED_CHUNK_BYTES};

    fn parts_of(lengths: &[u64]) -> Vec<Part> {
        let part = |(place, &length): (usize, &u64)| Part {
            id: PartId([place as u8; 16]),
            number: place as u16 + 1,
            length,
            stored: length,
            md5: [0; 16],
            checksum: None,
        };
        lengths.iter().enumerate().map(part).collect()
    }

    fn lengths_and_range() -> impl Strategy<Value = (Vec<u64>, u64, u64)> {
        let length = proptest::prop_oneof![0..10u64, Just(u64::from(CHUNK_BYTES)), 0..3 * u64::from(CHUNK_BYTES)];
        proptest::collection::vec(length, 0..6).prop_flat_map(|lengths| {
            let size = lengths.iter().sum::<u64>();
            (Just(lengths), 0..=size, 0..=size)
        })
    }

    proptest! {
        #[test]
        fn chunk_ranges_are_the_range((lengths, a, b) in lengths_and_range()) {
            let parts = parts_of(&lengths);
            let (start, end) = (a.min(b), a.max(b));
            let mut at = start;
            let mut ranges = ChunkRanges::new(&parts, start..end, false);
            while let Some(chunk) = ranges.in_chunk() {
                let place = parts.iter().position(|part| part.id == chunk.id.part).unwrap();
                let part_start: u64 = lengths[..place].iter().sum();
                let chunk_start = part_start + u64::from(chunk.id.index) * u64::from(CHUNK_BYTES);
                prop_assert_eq!(chunk_start + u64::from(chunk.range.start), at);
                let known = parts[place].chunks().nth(chunk.id.index as usize);
                prop_assert_eq!(known, Some((chunk.id, chunk.length)));
                prop_assert!(chunk.range.start < chunk.range.end && chunk.range.end <= chunk.length);
                at += u64::from(chunk.range.end - chunk.range.start);
                ranges.pass(&chunk);
            }
            prop_assert_eq!(at, end);
        }

        /// Wherever pieces are read, what follows is the rest of the same chunk, and no piece takes more than its memory.
        #[test]
        fn pieces_are_the_chunks((lengths, a, b) in lengths_and_range(), is_sealed: bool, every in 1..4usize) {
            let (parts, range) = (parts_of(&lengths), a.min(b)..a.max(b));
            let mut chunks = ChunkRanges::new(&parts, range.clone(), is_sealed);
            let mut pieces = ChunkRanges::new(&parts, range, is_sealed);
            let piece_held = u64::from(PIECE_BYTES) * if is_sealed { 2 } else { 1 };
            while let Some(chunk) = chunks.in_chunk() {
                let mut at = chunk.range.start;
                while at < chunk.range.end {
                    let rest = pieces.in_chunk().unwrap();
                    prop_assert_eq!(&rest.range, &(at..chunk.range.end));
                    prop_assert_eq!((rest.id, rest.length, rest.ends), (chunk.id, chunk.length, chunk.ends));
                    let piece = pieces.in_piece().unwrap();
                    prop_assert!(piece.held_bytes(is_sealed) <= piece_held);
                    prop_assert!(piece.range.end <= chunk.range.end);
                    let next = if (at as usize).is_multiple_of(every) { piece } else { rest };
                    pieces.pass(&next);
                    at = next.range.end;
                }
                chunks.pass(&chunk);
            }
            prop_assert_eq!(pieces.in_piece(), None);
        }
    }

    #[test]
    fn whole_chunks_are_held_whole() {
        for (is_sealed, length, held) in
            [(false, u64::from(CHUNK_BYTES), CHUNK_BYTES), (true, SEALED_CHUNK_BYTES, 2 * CHUNK_BYTES)]
        {
            let mut ranges = ChunkRanges::new(&parts_of(&[length]), 1..length, is_sealed);
            assert_eq!(ranges.in_chunk().unwrap().held_bytes(is_sealed), u64::from(held));
        }
    }
}
