//! Keeps a reserve of the file system free, so that a full disk can still delete, compact and flush.
//!
//! Decides whether a write may happen; does not measure how much a database holds.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// How long an answer of the file system is believed: other processes fill the disk as well.
const MEASURE_EVERY: Duration = Duration::from_millis(250);

/// The most that is kept free: enough for flushes and one round of compaction, whatever the size of the disk.
const RESERVE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The part of a small disk that is kept free instead.
const RESERVE_PARTS_OF_DISK: u64 = 50;

/// A file system's size and what an unprivileged process may still write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskSpace {
    /// Its size.
    pub total_bytes: u64,
    /// What may still be written.
    pub available_bytes: u64,
}

/// 1 GiB or 2 % of the disk, whichever is smaller.
fn default_reserve_bytes(space: DiskSpace) -> u64 {
    RESERVE_BYTES_MAX.min(space.total_bytes / RESERVE_PARTS_OF_DISK)
}

/// Admits writes until only the reserve is left.
pub(crate) struct SpaceGuard {
    path: PathBuf,
    reserve_bytes: u64,
    budget: Mutex<Budget>,
}

/// What may be written before the file system is asked again.
struct Budget {
    measured: Instant,
    left_bytes: u64,
}

impl SpaceGuard {
    /// Guards the file system of `path`: `reserve_bytes` divided by `share` stay free, by default [`default_reserve_bytes`].
    pub(crate) fn new(path: &Path, reserve_bytes: Option<u64>, share: u64) -> io::Result<Self> {
        let space = disk_space(path)?;
        let reserve_bytes = reserve_bytes.unwrap_or_else(|| default_reserve_bytes(space)) / share.max(1);
        let left_bytes = space.available_bytes.saturating_sub(reserve_bytes);
        Ok(Self {
            path: path.to_owned(),
            reserve_bytes,
            budget: Mutex::new(Budget { measured: Instant::now(), left_bytes }),
        })
    }

    /// Whether `bytes` more may be written. Between two measurements it counts along, so that a burst cannot eat the
    /// reserve.
    pub(crate) fn admit(&self, bytes: u64) -> io::Result<bool> {
        let mut budget = self.budget()?;
        match budget.left_bytes.checked_sub(bytes) {
            Some(left_bytes) => {
                budget.left_bytes = left_bytes;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Whether anything may be written at all.
    pub(crate) fn has_room(&self) -> io::Result<bool> {
        Ok(self.budget()?.left_bytes > 0)
    }

    fn budget(&self) -> io::Result<MutexGuard<'_, Budget>> {
        let mut budget = self.budget.lock();
        if budget.measured.elapsed() >= MEASURE_EVERY {
            let space = disk_space(&self.path)?;
            *budget = Budget {
                measured: Instant::now(),
                left_bytes: space.available_bytes.saturating_sub(self.reserve_bytes),
            };
        }
        Ok(budget)
    }
}

/// How full the file system of `path` is.
pub fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    let answer = rustix::fs::statvfs(path)?;
    let unit = answer.f_frsize;
    Ok(DiskSpace {
        total_bytes: answer.f_blocks.saturating_mul(unit),
        available_bytes: answer.f_bavail.saturating_mul(unit),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{DiskSpace, SpaceGuard, default_reserve_bytes, disk_space};

    #[test]
    fn the_reserve_is_a_gibibyte_or_two_percent() {
        let reserve = |total_bytes| default_reserve_bytes(DiskSpace { total_bytes, available_bytes: 0 });
        assert_eq!(reserve(10 << 40), 1 << 30);
        assert_eq!(reserve(50 << 20), 1 << 20);
    }

    #[test]
    fn writes_end_where_the_reserve_begins() {
        let path = Path::new("/");
        let open = SpaceGuard::new(path, Some(0), 1).unwrap();
        let shut = SpaceGuard::new(path, Some(u64::MAX), 1).unwrap();
        assert!(open.admit(1).unwrap());
        assert!(!open.admit(u64::MAX).unwrap());
        assert!(!shut.admit(1).unwrap());
        assert!(open.has_room().unwrap() && !shut.has_room().unwrap());
    }

    #[test]
    fn a_share_of_the_reserve_is_kept_whoever_said_how_much_it_is() {
        let path = Path::new("/");
        let reserve_bytes = disk_space(path).unwrap().available_bytes.saturating_mul(4);
        assert!(!SpaceGuard::new(path, Some(reserve_bytes), 1).unwrap().has_room().unwrap());
        assert!(SpaceGuard::new(path, Some(reserve_bytes), 16).unwrap().has_room().unwrap());
    }

    #[test]
    fn a_path_that_does_not_exist_is_an_error() {
        assert!(SpaceGuard::new(Path::new("/no/such/place"), None, 1).is_err());
    }
}
