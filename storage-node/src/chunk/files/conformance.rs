//! What all `ExtentFiles` promise, as functions that both implementations pass. Crashes belong to the memory.

use std::io;

use super::disk::DiskFiles;
use super::memory::MemoryFiles;
use super::{ExtentFiles, PAGE_BYTES, Pages};

const PAGE: u64 = PAGE_BYTES as u64;

#[test]
fn memory_conforms() {
    check_all(|check| check(&MemoryFiles::new()));
}

#[test]
fn disk_conforms() {
    check_all(|check| {
        let directory = tempfile::tempdir().unwrap();
        check(&DiskFiles::open(directory.path(), Some(0)).unwrap());
    });
}

/// A file system in memory, most of which refuse writes past the page cache.
#[test]
fn disk_in_memory_conforms() {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() {
        check_all(|check| {
            let directory = tempfile::tempdir_in(memory).unwrap();
            check(&DiskFiles::open(directory.path(), Some(0)).unwrap());
        });
    }
}

type Check = fn(&dyn ExtentFiles);

fn check_all(with_files: impl Fn(Check)) {
    let checks: [Check; 5] =
        [reads_what_was_written, lists_what_is_there, cuts_the_end_off, punches_holes, knows_many_files];
    checks.into_iter().for_each(with_files);
}

fn pages(fill: u8, count: usize) -> Pages {
    let mut pages = Pages::with_room(count * PAGE_BYTES);
    pages.push(&vec![fill; count * PAGE_BYTES]);
    pages
}

fn reads_what_was_written(files: &dyn ExtentFiles) {
    files.create(7).unwrap();
    files.write(7, 0, &pages(1, 2)).unwrap();
    files.sync(7).unwrap();
    assert_eq!(files.read(7, PAGE - 1, 3).unwrap(), [1; 3]);
    // What was read before it was written is not remembered as it was.
    assert!(files.read(7, 2 * PAGE, 10).unwrap().is_empty());
    files.write(7, 2 * PAGE, &pages(2, 1)).unwrap();
    files.sync(7).unwrap();
    assert_eq!(files.read(7, 2 * PAGE - 1, 2).unwrap(), [1, 2]);
    assert_eq!(files.read(7, 3 * PAGE - 5, 100).unwrap(), [2; 5]);
    assert_eq!(files.length(7).unwrap(), 3 * PAGE);
    assert!(files.admits(1).unwrap());
}

fn lists_what_is_there(files: &dyn ExtentFiles) {
    assert!(files.numbers().unwrap().is_empty());
    files.create(1).unwrap();
    files.create(30_000_000_000).unwrap();
    assert_eq!(files.create(1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    let mut numbers = files.numbers().unwrap();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 30_000_000_000]);
    assert!(files.read(1, 0, 10).unwrap().is_empty());
    files.remove(1).unwrap();
    files.remove(1).unwrap();
    assert_eq!(files.numbers().unwrap(), [30_000_000_000]);
    for gone in [files.length(1).map(drop), files.read(1, 0, 1).map(drop), files.write(1, 0, &pages(0, 1))] {
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

fn cuts_the_end_off(files: &dyn ExtentFiles) {
    files.create(1).unwrap();
    files.write(1, 0, &pages(1, 3)).unwrap();
    files.cut(1, PAGE).unwrap();
    assert_eq!(files.length(1).unwrap(), PAGE);
    files.write(1, 2 * PAGE, &pages(2, 1)).unwrap();
    assert_eq!(files.read(1, PAGE, 2 * PAGE_BYTES).unwrap(), [vec![0; PAGE_BYTES], vec![2; PAGE_BYTES]].concat());
}

fn punches_holes(files: &dyn ExtentFiles) {
    files.create(1).unwrap();
    files.write(1, 0, &pages(1, 4)).unwrap();
    files.sync(1).unwrap();
    files.punch(1, &[0..PAGE, 2 * PAGE..4 * PAGE]).unwrap();
    assert_eq!(files.length(1).unwrap(), 4 * PAGE);
    let is: Vec<u8> = files.read(1, 0, 4 * PAGE_BYTES).unwrap().chunks(PAGE_BYTES).map(|page| page[9]).collect();
    assert_eq!(is, [0, 1, 0, 0]);
}

fn knows_many_files(files: &dyn ExtentFiles) {
    for number in 0..600 {
        files.create(number).unwrap();
        files.write(number, 0, &pages(number as u8, 1)).unwrap();
    }
    for number in (0..600).rev() {
        assert_eq!(files.read(number, 8, 1).unwrap(), [number as u8]);
    }
}

#[test]
fn a_crash_loses_what_was_not_synced_and_nothing_else() {
    let files = MemoryFiles::new();
    files.create(1).unwrap();
    files.write(1, 0, &pages(1, 2)).unwrap();
    files.sync(1).unwrap();
    files.write(1, PAGE, &pages(2, 3)).unwrap();
    files.crash();
    assert_eq!(files.read(1, 0, 9 * PAGE_BYTES).unwrap(), vec![1; 2 * PAGE_BYTES]);
    files.write(1, PAGE, &pages(2, 3)).unwrap();
    let mut page = 0;
    files.crash_keeping(|| {
        page += 1;
        page == 2
    });
    let is: Vec<u8> = files.read(1, 0, 9 * PAGE_BYTES).unwrap().chunks(PAGE_BYTES).map(|page| page[9]).collect();
    assert_eq!(is, [1, 1, 2]);
}
