//! Files in a directory: written past the page cache, read through it.
//!
//! A write of fresh chunks gains nothing from the page cache and costs a copy into it, most of the CPU of a buffered write;
//! a read gains, as what is read is read again. Where the file system refuses to go past the page cache (some in memory, some
//! over a network), writes are buffered; they are synced all the same. No file is allocated ahead: it was measured, and
//! makes a sync of what was appended no cheaper.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, OFlags, fallocate};

use super::{ExtentFiles, PAGE_BYTES, Pages};
use crate::kv::disk::SpaceGuard;

/// Files that are kept open for reading: with the handles of the databases, less than the usual limit of 1,024.
const OPEN_FILES_MAX: usize = 256;

/// The name by which a file is known, behind its number.
const EXTENSION: &str = "extent";

/// Extent files in a directory of their own.
pub struct DiskFiles {
    path: PathBuf,
    /// Synced whenever a name comes or goes.
    directory: File,
    /// Whether writes go past the page cache.
    direct: bool,
    space: SpaceGuard,
    readers: Mutex<Readers>,
    /// The file that was written last: it is the next one as well.
    writer: Mutex<Option<(u64, Arc<File>)>>,
}

impl DiskFiles {
    /// The files in `path`, a directory that exists. They leave `reserve_bytes` of the file system free, by default what
    /// chunks leave.
    pub fn open(path: &Path, reserve_bytes: Option<u64>) -> io::Result<Self> {
        let direct = accepts_direct_writes(path)?;
        if !direct {
            tracing::warn!(path = %path.display(), "no writes past the page cache here: chunks cost more CPU");
        }
        Ok(Self {
            path: path.to_owned(),
            directory: File::open(path)?,
            direct,
            space: SpaceGuard::new(path, reserve_bytes, Box::new(|| 0))?,
            readers: Mutex::new(Readers::default()),
            writer: Mutex::new(None),
        })
    }

    fn file(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:012}.{EXTENSION}"))
    }

    fn reader(&self, number: u64) -> io::Result<Arc<File>> {
        let mut readers = self.readers.lock();
        if let Some(file) = readers.get(number) {
            return Ok(file);
        }
        // Under the lock, so that no file is kept open behind its removal.
        let file = Arc::new(File::open(self.file(number))?);
        readers.keep(number, Arc::clone(&file));
        Ok(file)
    }

    fn writer(&self, number: u64) -> io::Result<Arc<File>> {
        let mut writer = self.writer.lock();
        match &*writer {
            Some((open, file)) if *open == number => Ok(Arc::clone(file)),
            _ => {
                let file = Arc::new(open_to_write(&self.file(number), self.direct)?);
                *writer = Some((number, Arc::clone(&file)));
                Ok(file)
            }
        }
    }
}

impl ExtentFiles for DiskFiles {
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let file = PathBuf::from(entry?.file_name());
            let number = file.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let (Some(number), Some(EXTENSION)) = (number, file.extension().and_then(|end| end.to_str())) {
                numbers.push(number);
            }
        }
        Ok(numbers)
    }

    fn create(&self, number: u64) -> io::Result<()> {
        OpenOptions::new().write(true).create_new(true).open(self.file(number))?;
        self.directory.sync_all()
    }

    fn write(&self, number: u64, at: u64, pages: &Pages) -> io::Result<()> {
        self.writer(number)?.write_all_at(pages.as_slice(), at)
    }

    fn sync(&self, number: u64) -> io::Result<()> {
        self.writer(number)?.sync_data()
    }

    fn read(&self, number: u64, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.reader(number)?;
        let mut bytes = Vec::with_capacity(length);
        // The kernel writes into memory that nobody had to clear for it.
        while bytes.len() < length {
            let (from, room) = (at + bytes.len() as u64, length - bytes.len());
            match rustix::io::pread(&*file, rustix::buffer::spare_capacity(&mut bytes), from) {
                Ok(0) => break,
                // A vector may have more room than was asked for.
                Ok(read) if read > room => bytes.truncate(length),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                // A sector that cannot be read: these bytes are lost, the disk is not.
                Err(error @ rustix::io::Errno::IO) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(bytes)
    }

    fn length(&self, number: u64) -> io::Result<u64> {
        Ok(fs::metadata(self.file(number))?.len())
    }

    fn cut(&self, number: u64, length: u64) -> io::Result<()> {
        let file = open_to_write(&self.file(number), false)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn punch(&self, number: u64, ranges: &[Range<u64>]) -> io::Result<()> {
        let file = open_to_write(&self.file(number), false)?;
        for range in ranges {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&file, hole, range.start, range.end - range.start)?;
        }
        file.sync_data()
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        self.writer.lock().take_if(|(open, _)| *open == number);
        let removed = {
            let mut readers = self.readers.lock();
            readers.forget(number);
            fs::remove_file(self.file(number))
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.directory.sync_all(),
        }
    }

    fn admits(&self, bytes: u64) -> io::Result<bool> {
        self.space.admit(bytes, 1)
    }
}

/// Files that are open for reading. A file that is removed while somebody reads it stays readable for that reader.
#[derive(Default)]
struct Readers {
    files: HashMap<u64, (Arc<File>, u64)>,
    /// Counts uses, to tell which file was not used for longest.
    uses: u64,
}

impl Readers {
    fn get(&mut self, number: u64) -> Option<Arc<File>> {
        self.uses += 1;
        let (file, used) = self.files.get_mut(&number)?;
        *used = self.uses;
        Some(Arc::clone(file))
    }

    fn keep(&mut self, number: u64, file: Arc<File>) {
        if self.files.len() >= OPEN_FILES_MAX {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used).map(|(&number, _)| number);
            oldest.map(|number| self.files.remove(&number));
        }
        self.files.insert(number, (file, self.uses));
    }

    fn forget(&mut self, number: u64) {
        self.files.remove(&number);
    }
}

fn open_to_write(path: &Path, direct: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    if direct {
        options.custom_flags(OFlags::DIRECT.bits() as i32);
    }
    options.open(path)
}

/// Tries it: some file systems refuse the flag, some the write.
fn accepts_direct_writes(path: &Path) -> io::Result<bool> {
    let probe = path.join("probe");
    File::create(&probe)?;
    let mut page = Pages::with_room(PAGE_BYTES);
    page.push(&[0]);
    let written = open_to_write(&probe, true).and_then(|file| file.write_all_at(page.as_slice(), 0));
    fs::remove_file(&probe)?;
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
        // The first chunk will find the disk full as well, and say so to whoever sent it.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(true),
        Err(error) => Err(error),
    }
}
