//! Keeps other processes out of a database before anything in its directory is looked at or put right. The engine has a lock of its
//! own, but takes it after that.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::{OPENING, io_error};
use crate::kv::KvError;

/// Held for as long as a database, or anything of it, is open.
pub(super) struct DirectoryLock(#[allow(dead_code)] File); // held, never looked at

impl DirectoryLock {
    /// Takes the lock of a directory that is there. It is the directory's own, and leaves no file.
    pub(super) fn take(path: &Path) -> Result<Self, KvError> {
        let directory = File::open(path).map_err(|error| io_error(OPENING, path, &error))?;
        match directory.try_lock() {
            Ok(()) => Ok(Self(directory)),
            Err(TryLockError::WouldBlock) => Err(in_use(path, "its directory is locked")),
            Err(TryLockError::Error(error)) => Err(io_error("locking a database", path, &error)),
        }
    }
}

pub(super) fn in_use(path: &Path, why: &str) -> KvError {
    KvError::Failed { during: OPENING, reason: format!("{} is in use by another process: {why}", path.display()) }
}
