//! Files in memory: the twin of `disk` for tests and simulation.
//!
//! It keeps the promises of the seam, no more: a crash loses what was not synced, or whatever part of it the caller says. It
//! is full and it fails when it is told to.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::{ExtentFiles, PAGE_BYTES, Pages};

/// Files in memory.
#[derive(Default)]
pub struct MemoryFiles {
    files: Mutex<BTreeMap<u64, MemoryFile>>,
    full: AtomicBool,
    failing: AtomicBool,
}

#[derive(Default)]
struct MemoryFile {
    bytes: Vec<u8>,
    /// What a crash may leave of the length.
    synced_length: usize,
    /// What pages held when they were last synced, by their number. Nothing for one that was not there.
    unsynced: BTreeMap<usize, Option<Vec<u8>>>,
}

impl MemoryFiles {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses every write since the last sync of its file, as a machine that loses power may.
    pub fn crash(&self) {
        self.crash_keeping(|| false);
    }

    /// Loses power while the disk is at work: of each page that was not synced, `survives` says whether it got there.
    pub fn crash_keeping(&self, mut survives: impl FnMut() -> bool) {
        for file in self.files.lock().values_mut() {
            let mut length = file.synced_length;
            for (page, before) in std::mem::take(&mut file.unsynced) {
                let at = page * PAGE_BYTES;
                if survives() {
                    length = length.max(file.bytes.len().min(at + PAGE_BYTES));
                } else {
                    let end = file.bytes.len().min(at + PAGE_BYTES);
                    file.bytes[at..end].fill(0);
                    before.into_iter().for_each(|before| file.bytes[at..at + before.len()].copy_from_slice(&before));
                }
            }
            file.bytes.truncate(length);
            file.synced_length = length;
        }
    }

    /// Changes one byte behind everybody's back, as a disk that rots does.
    pub fn flip(&self, number: u64, at: u64) {
        let mut files = self.files.lock();
        let file = files.get_mut(&number).expect("only what is there can rot");
        file.bytes[at as usize] ^= 1;
    }

    /// Whether the disk has no space left from now on.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// Whether syncs, and all that keeps others from harm after a failed one, fail from now on.
    pub fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    fn with<T>(&self, number: u64, work: impl FnOnce(&mut MemoryFile) -> T) -> io::Result<T> {
        self.files.lock().get_mut(&number).map(work).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn check_health(&self) -> io::Result<()> {
        if self.failing.load(Ordering::SeqCst) { Err(io::Error::other("told to fail")) } else { Ok(()) }
    }
}

impl MemoryFile {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let pages = at / PAGE_BYTES..(at + bytes.len()).div_ceil(PAGE_BYTES);
        for page in pages {
            let start = page * PAGE_BYTES;
            let before = self.bytes.get(start..self.bytes.len().min(start + PAGE_BYTES)).map(<[u8]>::to_vec);
            self.unsynced.entry(page).or_insert(before);
        }
        let end = self.bytes.len().max(at + bytes.len());
        self.bytes.resize(end, 0);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn sync(&mut self) {
        self.synced_length = self.bytes.len();
        self.unsynced.clear();
    }
}

impl ExtentFiles for MemoryFiles {
    fn numbers(&self) -> io::Result<Vec<u64>> {
        Ok(self.files.lock().keys().copied().collect())
    }

    fn create(&self, number: u64) -> io::Result<()> {
        let mut files = self.files.lock();
        if files.contains_key(&number) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        files.insert(number, MemoryFile::default());
        Ok(())
    }

    fn write(&self, number: u64, at: u64, pages: &Pages) -> io::Result<()> {
        assert!(at.is_multiple_of(PAGE_BYTES as u64), "a disk refuses what is not aligned");
        self.with(number, |file| file.write(at as usize, pages.as_slice()))
    }

    fn sync(&self, number: u64) -> io::Result<()> {
        self.check_health()?;
        self.with(number, MemoryFile::sync)
    }

    fn read(&self, number: u64, at: u64, length: usize) -> io::Result<Vec<u8>> {
        self.with(number, |file| {
            let start = file.bytes.len().min(at as usize);
            let end = file.bytes.len().min(at as usize + length);
            file.bytes[start..end].to_vec()
        })
    }

    fn length(&self, number: u64) -> io::Result<u64> {
        self.with(number, |file| file.bytes.len() as u64)
    }

    fn cut(&self, number: u64, length: u64) -> io::Result<()> {
        self.check_health()?;
        self.with(number, |file| {
            file.bytes.truncate(length as usize);
            file.sync();
        })
    }

    fn punch(&self, number: u64, ranges: &[Range<u64>]) -> io::Result<()> {
        self.with(number, |file| {
            for range in ranges {
                let end = file.bytes.len().min(range.end as usize);
                file.bytes[range.start as usize..end].fill(0);
                let pages = range.start as usize / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
                pages.for_each(|page| drop(file.unsynced.remove(&page)));
            }
        })
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        self.files.lock().remove(&number);
        Ok(())
    }

    fn admits(&self, _bytes: u64) -> io::Result<bool> {
        Ok(!self.full.load(Ordering::SeqCst))
    }
}
