//! The files of a database at one moment, read from the disk: how it is found out that they have rotted.
//!
//! An open database cannot tell: it takes a block from its cache for as long as it is there. So the engine makes a checkpoint, hard
//! links to its files in a directory beside them, and it is opened as a second database that only reads: without a cache, and
//! past that of the kernel where the file system can do so. What is in memory is written to files first, which takes the
//! place of the log of writes: one that has rotted while the node ran is not needed any more.
//!
//! What is never read is not read here either: values that were replaced and wait for a compaction, and the engine's OPTIONS. A
//! damaged filter is passed over by the engine, which then looks into the table itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::DB;
use rocksdb::checkpoint::Checkpoint as Links;
use rustix::fs::{Advice, OFlags, fadvise};

use super::lock::DirectoryLock;
use super::{DiskOptions, io_error, kv_error, missing_table, open_error, tuning};
use crate::kv::{Checkpoint, KvError, Table};

const DURING: &str = "reading its files from the disk";

/// Where checkpoints lie: in the database's own directory, as links do not reach into another file system. The engine does not look
/// into it.
const DIRECTORY: &str = "checkpoints";

/// Makes the checkpoints of one database.
pub(super) struct Checkpoints {
    options: DiskOptions,
    lock: Arc<DirectoryLock>,
    taken: AtomicU64,
}

impl Checkpoints {
    /// For a database that is about to be opened. Removes what a crash left behind.
    pub(super) fn prepare(lock: &Arc<DirectoryLock>, path: &Path, options: &DiskOptions) -> Result<Self, KvError> {
        remove(&path.join(DIRECTORY)).map_err(|error| io_error("removing old checkpoints", path, &error))?;
        Ok(Self { options: options.clone(), lock: Arc::clone(lock), taken: AtomicU64::new(0) })
    }

    /// Makes one.
    pub(super) fn take(&self, db: &Arc<DB>) -> Result<DiskCheckpoint, KvError> {
        let path = db.path();
        check_current(path)?;
        let directory = path.join(DIRECTORY);
        fs::create_dir_all(&directory).map_err(|error| io_error(DURING, &directory, &error))?;
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let links = LinkDirectory(directory.join(number.to_string()));
        Links::new(db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(&links.0))
            .map_err(|error| blame(path, &links.0, kv_error(path, DURING, error)))?;
        // A MANIFEST that names files which are not there is damaged.
        let files = self.open(&links.0).map_err(|error| blame(path, &links.0, open_error(path, DURING, error)))?;
        Ok(DiskCheckpoint { files, links, db: Arc::clone(db), _lock: Arc::clone(&self.lock) })
    }

    fn open(&self, links: &Path) -> Result<DB, rocksdb::Error> {
        let options = tuning::checkpoint(&self.options, accepts_direct_reads(&links.join(CURRENT)));
        let families = self.options.tables.iter().map(|&table| tuning::column_family(table, None));
        DB::open_cf_descriptors_read_only(&options, links, families, false)
    }
}

/// The files of one moment, open. They go when it is dropped.
pub(super) struct DiskCheckpoint {
    // Dropped in this order: whoever opens the database next finds nothing left of this.
    files: DB,
    links: LinkDirectory,
    db: Arc<DB>,
    _lock: Arc<DirectoryLock>,
}

impl Checkpoint for DiskCheckpoint {
    fn verify(&self, table: Table, from: &[u8], bytes_max: usize) -> Result<Option<Vec<u8>>, KvError> {
        let family = self.files.cf_handle(tuning::name(table)).ok_or_else(|| missing_table(&self.db, table))?;
        let mut options = rocksdb::ReadOptions::default();
        options.set_verify_checksums(true);
        let mut iterator = self.files.raw_iterator_cf_opt(family, options);
        let mut bytes = 0;
        iterator.seek(from);
        while let Some((key, value)) = iterator.item() {
            if bytes >= bytes_max {
                return Ok(Some(key.to_vec()));
            }
            bytes += key.len() + value.len();
            iterator.next();
        }
        // An iterator that is not valid is either at the end or has failed.
        let path = self.db.path();
        iterator.status().map_err(|error| blame(path, &self.links.0, kv_error(path, DURING, error)))?;
        Ok(None)
    }
}

/// A directory of links, removed when it is dropped.
struct LinkDirectory(PathBuf);

impl Drop for LinkDirectory {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a checkpoint was not removed, the next start will");
        }
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Names the file that the database has, not the link to it.
fn blame(path: &Path, links: &Path, error: KvError) -> KvError {
    let named = |reason: String| reason.replace(&links.display().to_string(), &path.display().to_string());
    match error {
        KvError::Corrupt { during, reason } => KvError::Corrupt { during, reason: named(reason) },
        KvError::Failed { during, reason } => KvError::Failed { during, reason: named(reason) },
        full @ KvError::Full { .. } => full,
    }
}

/// The file that names the MANIFEST, which lists all others. The engine reads it when it starts, and never again.
const CURRENT: &str = "CURRENT";

/// Reads it as the next start would, and has the MANIFEST read from the disk when the checkpoint copies it.
fn check_current(path: &Path) -> Result<(), KvError> {
    let current = path.join(CURRENT);
    let failed = |error| io_error(DURING, &current, &error);
    let mut before = None;
    loop {
        let found = read_from_disk(&current).map_err(failed)?;
        if let Some(manifest) = manifest_in(&found).map(|name| path.join(name))
            && manifest.try_exists().map_err(failed)?
        {
            return forget(&manifest).map(drop).map_err(failed);
        }
        // The engine may have begun another MANIFEST in between.
        if before.as_ref() == Some(&found) {
            let reason = format!("{} does not name a MANIFEST that is there", current.display());
            return Err(KvError::Corrupt { during: DURING, reason });
        }
        before = Some(found);
    }
}

fn manifest_in(current: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(current).ok()?.strip_suffix('\n')?;
    name.starts_with("MANIFEST-").then_some(name)
}

fn read_from_disk(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    forget(file)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Has the kernel forget what it holds of a file, as far as that has reached the disk: it is read from there next.
fn forget(file: &Path) -> io::Result<File> {
    let file = File::open(file)?;
    fadvise(&file, 0, None, Advice::DontNeed)?;
    Ok(file)
}

/// Some file systems refuse to go past the page cache. What it holds is believed there.
fn accepts_direct_reads(file: &Path) -> bool {
    OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits() as i32).open(file).is_ok()
}
