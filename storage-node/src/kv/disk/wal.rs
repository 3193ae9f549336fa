//! Looks at the engine's log of writes before it is opened: cuts off a torn end, refuses damage.
//!
//! A crash may leave the last record of the newest log half written. It was never synced, so nobody was told that it is
//! there; it goes. Anything else that does not check means that acknowledged writes may be lost, and the node must not
//! start as if they had never been. The engine's own recovery modes either drop what follows damage in silence or refuse
//! torn ends as well, and all of them skip a block of zeros; so the distinction is made here, and the engine is then told
//! to refuse everything.
//!
//! The format: blocks of 32 KiB; in them fragments of records: a masked CRC-32C of type and payload (4 bytes), the length
//! (2 bytes), the type (1 byte), the payload. Fewer than 7 bytes at a block's end are padding. Every log is a new file,
//! never a recycled one (the engine's default), so what was not written reads as zeros or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use annulus_common::chunk::crc32c;

use super::{OPENING, io_error};
use crate::kv::KvError;

const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;

/// The least that a disk writes at once.
const SECTOR_BYTES: u64 = 512;

/// Cuts the torn end off the newest log of the database in `path`; refuses damaged ones.
pub(super) fn cut_torn_end(path: &Path) -> Result<(), KvError> {
    let mut newest_with_records = true;
    for log in logs_newest_first(path).map_err(|error| io_error(OPENING, path, &error))? {
        let read_error = |error| io_error("reading the log of writes", &log, &error);
        let scan = File::open(&log).and_then(Scan::of).map_err(read_error)?;
        match scan.verdict() {
            Verdict::Clean => {}
            Verdict::Torn { keep_bytes } if newest_with_records => {
                tracing::warn!(file = %log.display(), keep_bytes, cut_bytes = scan.length - keep_bytes, "cut torn end");
                cut(&log, keep_bytes).map_err(read_error)?;
            }
            // A write that found the disk full ends a log like this. The engine knows whether it still needs the file.
            Verdict::Torn { .. } => {}
            Verdict::Damaged { at } => {
                let reason = format!("{} is damaged at byte {at}, where acknowledged writes were", log.display());
                return Err(KvError::Corrupt { during: OPENING, reason });
            }
        }
        newest_with_records &= scan.records == 0;
    }
    Ok(())
}

/// The logs are numbered in the order in which they were begun.
fn logs_newest_first(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut logs = Vec::new();
    for entry in entries {
        let file = entry?.path();
        let number = file.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let (Some(number), Some("log")) = (number, file.extension().and_then(|end| end.to_str())) {
            logs.push((number, file));
        }
    }
    logs.sort_by(|a, b| b.cmp(a));
    Ok(logs.into_iter().map(|(_, file)| file).collect())
}

fn cut(log: &Path, keep_bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(log)?;
    file.set_len(keep_bytes)?;
    file.sync_all()
}

enum Verdict {
    Clean,
    /// What follows was being written when the node stopped.
    Torn {
        keep_bytes: u64,
    },
    /// What was written is no longer what is read.
    Damaged {
        at: u64,
    },
}

/// What is in one log.
#[derive(Default, Debug, PartialEq, Eq)]
struct Scan {
    length: u64,
    /// Complete records.
    records: u64,
    /// Where the record starts whose first fragments were read.
    open_record_at: Option<u64>,
    first_break: Option<Break>,
    /// A record begins behind the break, so the break was on disk, synced, before it.
    record_behind_break: bool,
}

/// The first place that does not check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Break {
    at: u64,
    /// Where the record that it is part of starts.
    record_at: u64,
    /// It looks as if it had not been written, rather than as if it had changed.
    unwritten: bool,
}

impl Scan {
    fn of(mut file: File) -> io::Result<Self> {
        let mut scan = Self::default();
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        loop {
            block.clear();
            (&mut file).take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
            if block.is_empty() {
                return Ok(scan);
            }
            scan.block(&block);
            scan.length += block.len() as u64;
        }
    }

    fn verdict(&self) -> Verdict {
        match (self.first_break, self.open_record_at) {
            (None, None) => Verdict::Clean,
            (None, Some(keep_bytes)) => Verdict::Torn { keep_bytes },
            (Some(found), _) if found.unwritten && !self.record_behind_break => {
                Verdict::Torn { keep_bytes: found.record_at }
            }
            (Some(found), _) => Verdict::Damaged { at: found.at },
        }
    }

    fn block(&mut self, block: &[u8]) {
        let last = block.len() < BLOCK_BYTES;
        let mut position = 0;
        while block.len() - position >= HEADER_BYTES {
            let rest = &block[position..];
            position += match Fragment::parse(rest) {
                Fragment::Valid { kind, bytes } => {
                    self.valid(kind, position);
                    bytes
                }
                broken => {
                    self.breaks(position, broken.is_unwritten(rest, self.length + position as u64, last));
                    1 // its length cannot be trusted: whatever checks further on is found byte by byte
                }
            };
        }
        if last && position < block.len() {
            self.breaks(position, true); // a header cut short
        }
    }

    fn valid(&mut self, kind: Kind, position: usize) {
        let at = self.length + position as u64;
        if self.first_break.is_some() {
            self.record_behind_break |= kind.begins_record();
            return;
        }
        match (kind, self.open_record_at) {
            (Kind::Full, None) => self.records += 1,
            (Kind::First, None) => self.open_record_at = Some(at),
            (Kind::Middle, Some(_)) => {}
            (Kind::Last, Some(_)) => {
                self.open_record_at = None;
                self.records += 1;
            }
            // The record before has no end, or this one has no beginning.
            _ => self.breaks(position, false),
        }
    }

    fn breaks(&mut self, position: usize, unwritten: bool) {
        let at = self.length + position as u64;
        let record_at = self.open_record_at.unwrap_or(at);
        self.first_break.get_or_insert(Break { at, record_at, unwritten });
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Full,
    First,
    Middle,
    Last,
}

impl Kind {
    fn begins_record(self) -> bool {
        matches!(self, Self::Full | Self::First)
    }
}

enum Fragment {
    Valid {
        kind: Kind,
        bytes: usize,
    },
    /// All of it is here, but the CRC says that it is not the same.
    Wrong {
        bytes: usize,
    },
    /// It should go on behind the end of its block or of the file.
    CutOff,
}

impl Fragment {
    /// `rest` runs to the end of the block and has at least a header.
    fn parse(rest: &[u8]) -> Self {
        let stored_crc = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
        let bytes = HEADER_BYTES + usize::from(u16::from_le_bytes([rest[4], rest[5]]));
        if bytes > rest.len() {
            return Self::CutOff;
        }
        let kind = match rest[6] {
            0 => return Self::Wrong { bytes },
            2 => Kind::First,
            3 => Kind::Middle,
            4 => Kind::Last,
            // Besides whole records there are marks of the engine, which are whole as well.
            _ => Kind::Full,
        };
        if masked_crc(&rest[6..bytes]) == stored_crc { Self::Valid { kind, bytes } } else { Self::Wrong { bytes } }
    }

    /// Whether a fragment that does not check, at `at` of the file, was never wholly written: the file ends within it, or
    /// some sector of it is zeros.
    fn is_unwritten(&self, rest: &[u8], at: u64, last_block: bool) -> bool {
        match self {
            Self::Valid { .. } => false,
            // No fragment is of type 0: at least the header's end is missing, and with it the length.
            Self::Wrong { .. } if rest[6] == 0 => {
                rest[..HEADER_BYTES] == [0; HEADER_BYTES] || has_zero_sector(rest, at)
            }
            Self::Wrong { bytes } => has_zero_sector(&rest[..*bytes], at),
            Self::CutOff if last_block => {
                // When the rest of the file is the whole payload, only the length has changed.
                let stored_crc = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
                masked_crc(&rest[6..]) != stored_crc
            }
            Self::CutOff => has_zero_sector(rest, at),
        }
    }
}

/// Whether `bytes`, which start at `at` of the file, hold nothing but zeros in some sector, or in their part of one that is
/// at least a header long.
fn has_zero_sector(bytes: &[u8], at: u64) -> bool {
    let to_boundary = ((SECTOR_BYTES - at % SECTOR_BYTES) as usize).min(bytes.len());
    let (head, tail) = bytes.split_at(to_boundary);
    std::iter::once(head)
        .chain(tail.chunks(SECTOR_BYTES as usize))
        .any(|sector| sector.len() >= HEADER_BYTES && sector.iter().all(|&byte| byte == 0))
}

/// The engine masks CRCs, so that a CRC over bytes which contain CRCs stays one.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::PathBuf;

    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use tempfile::TempDir;

    use super::{BLOCK_BYTES, HEADER_BYTES, Scan, Verdict, cut_torn_end, masked_crc};
    use crate::kv::KvError;

    /// Writes records as the engine does and says where each starts.
    fn log_of(records: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let (mut log, mut starts) = (Vec::new(), Vec::new());
        for record in records {
            let mut rest = record.as_slice();
            let mut first = true;
            loop {
                let room = BLOCK_BYTES - log.len() % BLOCK_BYTES;
                if room < HEADER_BYTES {
                    log.resize(log.len() + room, 0);
                    continue;
                }
                if first {
                    starts.push(log.len());
                }
                let (payload, later) = rest.split_at(rest.len().min(room - HEADER_BYTES));
                let kind = match (first, later.is_empty()) {
                    (true, true) => 1,
                    (true, false) => 2,
                    (false, false) => 3,
                    (false, true) => 4,
                };
                let mut checked = vec![kind];
                checked.extend_from_slice(payload);
                log.extend_from_slice(&masked_crc(&checked).to_le_bytes());
                log.extend_from_slice(&(payload.len() as u16).to_le_bytes());
                log.extend_from_slice(&checked);
                (rest, first) = (later, false);
                if rest.is_empty() {
                    break;
                }
            }
        }
        (log, starts)
    }

    /// Payloads without zeros, so that no sector looks unwritten by chance.
    fn records(sizes: &[usize]) -> Vec<Vec<u8>> {
        sizes.iter().enumerate().map(|(n, &size)| vec![n as u8 | 1; size]).collect()
    }

    fn in_directory(logs: &[(u64, &[u8])]) -> (TempDir, Vec<PathBuf>) {
        let directory = TempDir::new().unwrap();
        let paths = logs.iter().map(|(number, bytes)| {
            let path = directory.path().join(format!("{number:06}.log"));
            fs::write(&path, bytes).unwrap();
            path
        });
        let paths = paths.collect();
        (directory, paths)
    }

    #[test]
    fn a_hole_in_the_last_record_is_a_torn_end() {
        let (mut log, starts) = log_of(&records(&[100, 50_000]));
        log[36_864..40_960].fill(0);
        let (directory, paths) = in_directory(&[(4, &log)]);
        cut_torn_end(directory.path()).unwrap();
        assert_eq!(fs::read(&paths[0]).unwrap().len(), starts[1]);
    }

    #[test]
    fn a_hole_before_a_later_record_is_damage() {
        let (mut log, _) = log_of(&records(&[100, 50_000, 100]));
        log[36_864..40_960].fill(0);
        let (directory, _) = in_directory(&[(4, &log)]);
        let Err(KvError::Corrupt { reason, .. }) = cut_torn_end(directory.path()) else { panic!("not refused") };
        assert!(reason.contains("000004.log"), "{reason}");
    }

    #[test]
    fn a_block_of_zeros_between_records_is_damage() {
        let (mut log, _) = log_of(&records(&[BLOCK_BYTES - HEADER_BYTES, BLOCK_BYTES - HEADER_BYTES, 10]));
        log[BLOCK_BYTES..2 * BLOCK_BYTES].fill(0);
        let (directory, _) = in_directory(&[(4, &log)]);
        assert!(matches!(cut_torn_end(directory.path()), Err(KvError::Corrupt { .. })));
    }

    #[test]
    fn a_changed_length_of_the_last_record_is_damage() {
        let (mut log, starts) = log_of(&records(&[100, 200]));
        log[starts[1] + 5] ^= 0x10;
        let (directory, _) = in_directory(&[(4, &log)]);
        assert!(matches!(cut_torn_end(directory.path()), Err(KvError::Corrupt { .. })));
    }

    #[test]
    fn only_the_newest_log_with_records_is_cut() {
        let (log, starts) = log_of(&records(&[100, 200]));
        let torn = &log[..log.len() - 1];
        let (directory, paths) = in_directory(&[(4, torn), (5, torn), (9, b"")]);
        cut_torn_end(directory.path()).unwrap();
        assert_eq!(fs::read(&paths[0]).unwrap().len(), torn.len());
        assert_eq!(fs::read(&paths[1]).unwrap().len(), starts[1]);
    }

    proptest! {
        #[test]
        fn a_log_that_ends_early_keeps_its_whole_records(
            sizes in proptest::collection::vec(1usize..80_000, 1..6), end in any::<proptest::sample::Index>(),
        ) {
            let (log, starts) = log_of(&records(&sizes));
            let end = end.index(log.len() + 1);
            let (_directory, paths) = in_directory(&[(1, &log[..end])]);
            let whole = starts.iter().skip(1).chain([&log.len()]).filter(|&&next| next <= end).count();
            let scan = Scan::of(File::open(&paths[0]).unwrap()).unwrap();
            prop_assert_eq!(scan.records as usize, whole);
            match scan.verdict() {
                Verdict::Clean => prop_assert!(end == log.len() || starts.iter().any(|&start| end <= start + HEADER_BYTES)),
                Verdict::Torn { keep_bytes } => prop_assert!(starts[..=whole].contains(&(keep_bytes as usize))),
                Verdict::Damaged { at } => prop_assert!(false, "damaged at {}", at),
            }
        }

        #[test]
        fn a_changed_byte_is_damage(
            sizes in proptest::collection::vec(1usize..80_000, 1..6), at in any::<proptest::sample::Index>(),
            flip in 1u8..,
        ) {
            let (mut log, _) = log_of(&records(&sizes));
            let at = at.index(log.len());
            let padding = log[at] == 0 && BLOCK_BYTES - at % BLOCK_BYTES < HEADER_BYTES;
            log[at] ^= flip;
            let (directory, _paths) = in_directory(&[(1, &log)]);
            let refused = matches!(cut_torn_end(directory.path()), Err(KvError::Corrupt { .. }));
            prop_assert!(padding || refused);
        }
    }
}
