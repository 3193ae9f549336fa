//! The newest entries of a log, in memory, so that applying and replicating what was just written reads nothing from
//! the disk. It also weighs the log, to decide when to cut it. It writes nothing.

use std::collections::VecDeque;

use prost::Message as _;
use raft::eraftpb::Entry;

/// What one group's cache may hold: with hundreds of groups on a node it must stay small.
const CACHE_BYTES_MAX: usize = 1 << 20;
/// So must the number of entries, each of which costs more than its bytes.
const CACHE_ENTRIES_MAX: usize = 2048;
/// How finely the log is weighed.
const MARK_BYTES: u64 = 64 << 10;

/// A contiguous run of entries that ends with the last of the log.
#[derive(Default)]
pub(super) struct LogCache {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl LogCache {
    /// Takes entries that follow, or replace, those that are here.
    pub(super) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first().map(|entry| entry.index) else { return };
        self.truncate_from(first);
        if self.entries.back().is_some_and(|last| last.index + 1 != first) {
            self.clear();
        }
        for entry in entries {
            self.bytes += cost(&entry);
            self.entries.push_back(entry);
        }
        while self.bytes > CACHE_BYTES_MAX || self.entries.len() > CACHE_ENTRIES_MAX {
            self.pop_front();
        }
    }

    /// The entry at an index, if it is here.
    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        let first = self.entries.front()?.index;
        self.entries.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// Forgets everything up to `index`.
    pub(super) fn compact(&mut self, index: u64) {
        while self.entries.front().is_some_and(|entry| entry.index <= index) {
            self.pop_front();
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    fn truncate_from(&mut self, index: u64) {
        while self.entries.back().is_some_and(|entry| entry.index >= index) {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= cost(&entry);
            }
        }
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= cost(&entry);
        }
    }
}

fn cost(entry: &Entry) -> usize {
    entry.encoded_len() + size_of::<Entry>()
}

/// How many bytes the log holds behind each of some of its entries. It begins empty at every start: a log that is older
/// than the process is not read again just to be weighed, so it may once grow to twice its bound.
#[derive(Default)]
pub(super) struct LogWeight {
    /// `(index, bytes appended up to it)`, rising, at least [`MARK_BYTES`] apart.
    marks: VecDeque<(u64, u64)>,
    appended: u64,
    /// What had been appended up to the last cut.
    cut: u64,
}

impl LogWeight {
    /// An entry was appended. Replaced entries stay counted: the error is small and on the safe side.
    pub(super) fn append(&mut self, index: u64, bytes: usize) {
        while self.marks.back().is_some_and(|(mark, _)| *mark >= index) {
            self.marks.pop_back();
        }
        self.appended += bytes as u64;
        let last = self.marks.back().map_or(self.cut, |(_, appended)| *appended);
        if self.appended - last >= MARK_BYTES {
            self.marks.push_back((index, self.appended));
        }
    }

    /// Roughly the bytes of the log.
    pub(super) fn bytes(&self) -> u64 {
        self.appended - self.cut
    }

    /// The lowest known index behind which there are at most `bytes`.
    pub(super) fn index_before_last(&self, bytes: u64) -> Option<u64> {
        self.marks.iter().find(|(_, appended)| self.appended - appended <= bytes).map(|(index, _)| *index)
    }

    /// The log was cut up to `index`.
    pub(super) fn compact(&mut self, index: u64) {
        while let Some((mark, appended)) = self.marks.front().copied() {
            if mark > index {
                break;
            }
            self.cut = appended;
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CACHE_BYTES_MAX, LogCache, LogWeight, MARK_BYTES};
    use raft::eraftpb::Entry;

    fn entry(index: u64, term: u64, bytes: usize) -> Entry {
        Entry { index, term, data: vec![0; bytes], ..Entry::default() }
    }

    #[test]
    fn a_conflicting_tail_is_replaced() {
        let mut cache = LogCache::default();
        cache.append((1..=5).map(|index| entry(index, 1, 1)).collect());
        cache.append(vec![entry(4, 2, 1)]);
        assert_eq!(cache.get(3).map(|entry| entry.term), Some(1));
        assert_eq!(cache.get(4).map(|entry| entry.term), Some(2));
        assert!(cache.get(5).is_none());
    }

    #[test]
    fn a_gap_empties_it() {
        let mut cache = LogCache::default();
        cache.append(vec![entry(1, 1, 1)]);
        cache.append(vec![entry(9, 1, 1)]);
        assert!(cache.get(1).is_none());
        assert!(cache.get(9).is_some());
    }

    #[test]
    fn it_is_bounded() {
        let mut cache = LogCache::default();
        for index in 1..=100 {
            cache.append(vec![entry(index, 1, CACHE_BYTES_MAX / 10)]);
        }
        assert!(cache.bytes <= CACHE_BYTES_MAX);
        assert!(cache.get(1).is_none());
        assert!(cache.get(100).is_some());
        cache.compact(100);
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn the_weight_finds_where_to_cut() {
        let mut weight = LogWeight::default();
        for index in 1..=100 {
            weight.append(index, MARK_BYTES as usize);
        }
        assert_eq!(weight.bytes(), 100 * MARK_BYTES);
        assert_eq!(weight.index_before_last(10 * MARK_BYTES), Some(90));
        weight.compact(90);
        assert_eq!(weight.bytes(), 10 * MARK_BYTES);
    }
}
