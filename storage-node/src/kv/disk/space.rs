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

/// Bytes that are not written yet, and will be whatever is refused from now on.
type Owed = Box<dyn Fn() -> u64 + Send + Sync>;

/// Admits writes until only the reserve is left, or a part of it.
pub(crate) struct SpaceGuard {
    path: PathBuf,
    reserve_bytes: u64,
    owed: Owed,
    budget: Mutex<Budget>,
}

/// What is free, less what is owed, until the file system is asked again.
struct Budget {
    measured: Instant,
    free_bytes: u64,
}

impl SpaceGuard {
    /// Guards the file system of `path`. The reserve is [`default_reserve_bytes`] where nothing else is said.
    pub(crate) fn new(path: &Path, reserve_bytes: Option<u64>, owed: Owed) -> io::Result<Self> {
        let space = disk_space(path)?;
        let reserve_bytes = reserve_bytes.unwrap_or_else(|| default_reserve_bytes(space));
        let free_bytes = space.available_bytes.saturating_sub(owed());
        let budget = Mutex::new(Budget { measured: Instant::now(), free_bytes });
        Ok(Self { path: path.to_owned(), reserve_bytes, owed, budget })
    }

    /// Whether `bytes` more may be written, which leave this part of the reserve free. Between two measurements it counts
    /// along, so that a burst cannot eat the reserve.
    pub(crate) fn admit(&self, bytes: u64, share: u64) -> io::Result<bool> {
        let mut budget = self.budget()?;
        match budget.free_bytes.checked_sub(bytes) {
            Some(free_bytes) if free_bytes >= self.reserve_bytes / share => {
                budget.free_bytes = free_bytes;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whether more than this part of the reserve is free, and more than `bytes_min`.
    pub(crate) fn has_room(&self, share: u64, bytes_min: u64) -> io::Result<bool> {
        Ok(self.budget()?.free_bytes > bytes_min.max(self.reserve_bytes / share))
    }

    fn budget(&self) -> io::Result<MutexGuard<'_, Budget>> {
        let mut budget = self.budget.lock();
        if budget.measured.elapsed() >= MEASURE_EVERY {
            let free_bytes = disk_space(&self.path)?.available_bytes.saturating_sub((self.owed)());
            *budget = Budget { measured: Instant::now(), free_bytes };
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

    fn guard(reserve_bytes: u64, owed_bytes: u64) -> SpaceGuard {
        SpaceGuard::new(Path::new("/"), Some(reserve_bytes), Box::new(move || owed_bytes)).unwrap()
    }

    #[test]
    fn writes_end_where_the_reserve_begins() {
        let (open, shut) = (guard(0, 0), guard(u64::MAX, 0));
        assert!(open.admit(1, 1).unwrap() && !open.admit(u64::MAX, 1).unwrap());
        assert!(!shut.admit(1, 1).unwrap());
        assert!(open.has_room(1, 0).unwrap() && !shut.has_room(1, 0).unwrap());
    }

    #[test]
    fn a_part_of_the_reserve_is_kept_for_what_may_use_the_rest() {
        let available_bytes = disk_space(Path::new("/")).unwrap().available_bytes;
        let guard = guard(available_bytes.saturating_mul(4), 0);
        assert!(!guard.has_room(1, 0).unwrap() && !guard.admit(1, 1).unwrap());
        assert!(guard.has_room(16, 0).unwrap() && guard.admit(1, 16).unwrap());
        assert!(!guard.has_room(16, available_bytes.saturating_mul(2)).unwrap());
    }

    #[test]
    fn what_is_owed_is_not_free() {
        let available_bytes = disk_space(Path::new("/")).unwrap().available_bytes;
        assert!(guard(available_bytes / 4, available_bytes / 4).has_room(1, 0).unwrap());
        let guard = guard(available_bytes / 4, available_bytes - available_bytes / 8);
        assert!(!guard.has_room(1, 0).unwrap() && !guard.admit(1, 1).unwrap());
    }

    #[test]
    fn a_path_that_does_not_exist_is_an_error() {
        assert!(SpaceGuard::new(Path::new("/no/such/place"), None, Box::new(|| 0)).is_err());
    }
}
