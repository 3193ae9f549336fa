//! Memory that begins at a page, as writes past the page cache must.

use super::PAGE_BYTES;

/// Bytes of whole pages, to be written. Its room is fixed, so that nothing ever moves it off its alignment.
pub struct Pages {
    bytes: Vec<u8>,
    /// Where the first page begins in `bytes`.
    start: usize,
}

impl Pages {
    /// Room for this many bytes.
    pub fn with_room(bytes_max: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(bytes_max + PAGE_BYTES);
        let start = bytes.as_ptr().align_offset(PAGE_BYTES);
        assert!(start < PAGE_BYTES, "an address has a page boundary within a page behind it");
        bytes.resize(start, 0);
        Self { bytes, start }
    }

    /// Adds bytes, and zeros up to the end of their last page.
    pub fn push(&mut self, bytes: &[u8]) {
        let end = self.bytes.len() + bytes.len().next_multiple_of(PAGE_BYTES);
        assert!(end <= self.bytes.capacity(), "pages are never moved");
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(end, 0);
    }

    /// Forgets what was added.
    pub fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }

    /// What was added: whole pages, at an address that is a multiple of a page.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::{PAGE_BYTES, Pages};

    #[test]
    fn pages_are_whole_and_aligned() {
        let mut pages = Pages::with_room(3 * PAGE_BYTES);
        pages.push(&[1; PAGE_BYTES]);
        pages.push(&[2; PAGE_BYTES + 1]);
        assert_eq!(pages.as_slice().as_ptr().align_offset(PAGE_BYTES), 0);
        assert_eq!(pages.as_slice().len(), 3 * PAGE_BYTES);
        assert_eq!(pages.as_slice()[PAGE_BYTES..][PAGE_BYTES..], [&[2][..], &[0; PAGE_BYTES - 1]].concat());
        pages.clear();
        assert!(pages.as_slice().is_empty());
    }

    #[test]
    #[should_panic(expected = "never moved")]
    fn more_than_there_is_room_for_is_a_bug() {
        let mut pages = Pages::with_room(PAGE_BYTES);
        pages.push(&[1; PAGE_BYTES]);
        pages.push(&[1; PAGE_BYTES + 1]);
    }
}
