//! The files that chunks lie in: the seam between extents and the disk.
//!
//! `disk` is files in a directory; `memory` is its twin for tests and simulation. Both pass the same conformance suite.
//! Nothing here knows what a page holds. All calls block.

#[cfg(test)]
mod conformance;
pub mod disk;
pub mod memory;
mod pages;

use std::io;
use std::ops::Range;

pub use self::pages::Pages;

/// What is written begins and ends at a multiple of this, as writes past the page cache must. It is also the least that can
/// be punched out.
pub const PAGE_BYTES: usize = 4096;

/// Numbered files. What is asked of one that is not there is `NotFound`. A crash loses what was written since the last [`ExtentFiles::sync`] of its file, in whole or in part; it
/// loses nothing else, unless a method says so.
pub trait ExtentFiles: Send + Sync + 'static {
    /// The numbers of the files that are there, in no order.
    fn numbers(&self) -> io::Result<Vec<u64>>;

    /// Makes an empty file. It is an error when there is one.
    fn create(&self, number: u64) -> io::Result<()>;

    /// Writes pages at `at`, a multiple of a page. After an error any part of them may have been written.
    fn write(&self, number: u64, at: u64, pages: &Pages) -> io::Result<()>;

    /// Returns when all that was written to a file is on the disk.
    fn sync(&self, number: u64) -> io::Result<()>;

    /// The bytes at `at`: `length` of them, or fewer when the file ends before. `InvalidData` when the disk cannot read them,
    /// though it can others.
    fn read(&self, number: u64, at: u64, length: usize) -> io::Result<Vec<u8>>;

    /// The bytes up to the file's end.
    fn length(&self, number: u64) -> io::Result<u64>;

    /// Cuts off what lies behind `length`.
    fn cut(&self, number: u64, length: u64) -> io::Result<()>;

    /// Gives the disk space of ranges back, which begin and end at pages. They read as zeros from then on. `Unsupported` where
    /// files cannot have holes.
    fn punch(&self, number: u64, ranges: &[Range<u64>]) -> io::Result<()>;

    /// Removes a file; it is no error when there is none.
    fn remove(&self, number: u64) -> io::Result<()>;

    /// Whether `bytes` more may be written: a reserve of the disk stays free, so that a full one can still delete.
    fn admits(&self, bytes: u64) -> io::Result<bool>;
}
