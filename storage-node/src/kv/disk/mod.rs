//! The database on disk: RocksDB behind the `Kv` seam, and the only module that imports it.
//!
//! A node has two of them (see `directory`): one for metadata and Raft logs, one for the index of chunks. This file opens one, reads and
//! writes; `tuning` says how the engine is set up, `lock` who else may not open it, `wal` what happens to a torn end of its log, `space`
//! when it is full, `tombstones` when those of many deletes are dropped, and `checkpoint` how its files are read again.

mod allocator;
mod checkpoint;
mod lock;
mod space;
#[cfg(test)]
mod tests;
mod tombstones;
mod tuning;
mod wal;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use annulus_common::protocol::room::RoomFor;
use bytes::Bytes;
use rocksdb::{
    Cache, ColumnFamily, DB, DBRawIteratorWithThreadMode, Env, ErrorKind, ReadOptions, SnapshotWithThreadMode,
    WriteBatch, WriteOptions, properties,
};

use self::checkpoint::Checkpoints;
use self::lock::{DirectoryLock, in_use};
pub(crate) use self::space::SpaceGuard;
pub use self::space::{DiskSpace, disk_space};
use self::tombstones::{Met, Passed, Sweeper};
use super::{Batch, Checkpoint, Cursor, Durability, Kv, KvError, KvRead, Op, Table};

/// Whether there may be no database yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// Makes one where there is none.
    Create,
    /// Never makes one: an empty database in the place of a lost one would be taken for the truth.
    Existing,
}

/// A cache of blocks, shared by the databases that are opened with it.
#[derive(Clone)]
pub struct BlockCache(Cache);

impl BlockCache {
    /// A cache of this size.
    pub fn new(bytes_max: usize) -> Self {
        Self(Cache::new_lru_cache(bytes_max))
    }
}

impl Default for BlockCache {
    fn default() -> Self {
        Self::new(tuning::CACHE_BYTES_DEFAULT)
    }
}

/// What a database holds and may take.
#[derive(Clone)]
pub struct DiskOptions {
    /// The tables. Any other that is found refuses the start.
    pub tables: &'static [Table],
    /// The cache of its blocks.
    pub cache: BlockCache,
    /// File handles it may keep open. Both databases and the extents together stay below the usual limit of 1,024.
    pub open_files_max: i32,
    /// Flushes and compactions at the same time.
    pub background_jobs_max: i32,
    /// Bytes of the file system that chunks leave free; without it 1 GiB or 2 % of the disk, whichever is smaller.
    pub reserve_bytes: Option<u64>,
}

impl DiskOptions {
    /// For Raft logs and metadata.
    pub fn metadata(cache: BlockCache) -> Self {
        Self {
            tables: &[Table::System, Table::Log, Table::Meta, Table::Hint],
            cache,
            open_files_max: 256,
            background_jobs_max: 4,
            reserve_bytes: None,
        }
    }

    /// For the index of chunks. One compaction at a time, so that metadata always finds a free thread.
    pub fn chunks(cache: BlockCache) -> Self {
        Self {
            tables: &[Table::System, Table::ChunkIndex, Table::Extent],
            cache,
            open_files_max: 256,
            background_jobs_max: 2,
            reserve_bytes: None,
        }
    }
}

/// There is room for something as long as more than this part of the reserve is free, and more than so many bytes. Between it and
/// what writes leave lies what deletes take until they give something back: their entries in the log, memtables, compactions.
/// However small the reserve: once a flush has found a disk full, the engine writes nothing before 32 MiB are free again.
const ROOM: [(RoomFor, u64, u64); 2] = [(RoomFor::Growth, 2, 64 << 20), (RoomFor::Markers, 4, 48 << 20)];

/// Writes leave this part of the reserve free, which chunks leave whole. When the disk is too full for chunks, and then for new
/// objects ([`Kv::room`]), deletes must still go through the log, and do so on replicas that are fuller than their leader: a log
/// that cannot be written can never be emptied. The index follows chunks that were let in.
const WRITE_SHARE: u64 = 16;

/// Threads of the process for compactions: what both databases may run at once.
const COMPACTION_THREADS: i32 = 4;

/// Threads of the process for flushes: one for each database.
const FLUSH_THREADS: i32 = 2;

/// A database on disk.
pub struct DiskKv {
    // Ends before the database does.
    sweeper: Sweeper,
    db: Arc<DB>,
    space: SpaceGuard,
    // Holds the lock of the directory, so it goes last.
    checkpoints: Checkpoints,
}

impl DiskKv {
    /// Opens the database in `path`. It refuses to when anything in it is damaged, held by another process, or, unless
    /// `mode` allows it, not there.
    pub fn open(path: &Path, mode: OpenMode, options: &DiskOptions) -> Result<Self, KvError> {
        allocator::keep_large_blocks();
        check_presence(path, mode)?;
        let lock = Arc::new(DirectoryLock::take(path)?);
        let checkpoints = Checkpoints::prepare(&lock, path, options)?;
        wal::cut_torn_end(path)?;
        let mut db_options = tuning::database(options);
        db_options.create_if_missing(mode == OpenMode::Create);
        db_options.create_missing_column_families(mode == OpenMode::Create);
        db_options.set_env(&background_threads().map_err(|error| open_error(path, OPENING, error))?);
        let families = options.tables.iter().map(|&table| tuning::column_family(table, Some(&options.cache.0)));
        let db = DB::open_cf_descriptors(&db_options, path, families);
        let db = db.map_err(|error| match open_error(path, OPENING, error) {
            KvError::Full { during } => {
                let reason = format!("no space left on device for {}: make some, and start again", path.display());
                KvError::Failed { during, reason }
            }
            error => error,
        })?;
        let db = Arc::new(db);
        let owing = Arc::clone(&db);
        let space = SpaceGuard::new(path, options.reserve_bytes, Box::new(move || unflushed_bytes(&owing)));
        let space = space.map_err(|error| io_error(MEASURING, path, &error))?;
        let sweeper = Sweeper::start(&db).map_err(|error| io_error(OPENING, path, &error))?;
        Ok(Self { sweeper, db, space, checkpoints })
    }

    /// Whether `path` holds a database.
    pub fn exists(path: &Path) -> Result<bool, KvError> {
        path.join("CURRENT").try_exists().map_err(|error| io_error("looking for a database", path, &error))
    }

    fn family(&self, table: Table) -> Result<&ColumnFamily, KvError> {
        self.db.cf_handle(tuning::name(table)).ok_or_else(|| missing_table(&self.db, table))
    }

    /// Refuses what would eat the reserve. Deletes are let through, with the few counters that go with them: they are how
    /// space comes back.
    fn check_space(&self, batch: &Batch) -> Result<(), KvError> {
        if !grows(batch) {
            return Ok(());
        }
        // They go to the log of writes now, and to a table when memory is flushed.
        match self.space.admit(2 * put_bytes(batch), WRITE_SHARE) {
            Ok(true) => Ok(()),
            Ok(false) => Err(KvError::Full { during: WRITING }),
            Err(error) => Err(io_error(MEASURING, self.db.path(), &error)),
        }
    }

    fn encode(&self, batch: &Batch) -> Result<WriteBatch, KvError> {
        // The engine's framing of an operation takes a few bytes: room for it spares copying the batch to grow it.
        let capacity = put_bytes(batch) as usize + batch.ops.len() * 32;
        let mut encoded = WriteBatch::with_capacity_bytes(capacity);
        for op in &batch.ops {
            match op {
                Op::Put(table, key, value) => encoded.put_cf(self.family(*table)?, key, value),
                Op::Delete(table, key) => encoded.delete_cf(self.family(*table)?, key),
                // The engine takes crossed bounds for an error; the seam takes them for nothing.
                Op::DeleteRange(table, from, to) if from < to => {
                    encoded.delete_range_cf(self.family(*table)?, from, to);
                }
                Op::DeleteRange(..) => {}
            }
        }
        Ok(encoded)
    }
}

const READING: &str = "reading";
const WRITING: &str = "writing";
const OPENING: &str = "opening a database";
const MEASURING: &str = "measuring free space";

impl Kv for DiskKv {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        self.check_space(&batch)?;
        let encoded = self.encode(&batch)?;
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        self.db.write_opt(encoded, &options).map_err(|error| kv_error(self.db.path(), WRITING, error))
    }

    fn snapshot(&self) -> Box<dyn KvRead + '_> {
        Box::new(DiskSnapshot { kv: self, snapshot: self.db.snapshot() })
    }

    /// Where it is short, what was deleted is brought to where compactions find it. A file system that does not say how full it
    /// is refuses writes by itself.
    fn room(&self) -> RoomFor {
        let is_left =
            |(_, share, bytes_min): &(RoomFor, u64, u64)| self.space.has_room(*share, *bytes_min).unwrap_or(true);
        let room = ROOM.into_iter().find(is_left).map_or(RoomFor::Release, |(room, ..)| room);
        if room < RoomFor::Growth {
            self.sweeper.make_room();
        }
        room
    }

    fn disk_bytes(&self, table: Table, from: &[u8], to: &[u8]) -> u64 {
        let Ok(family) = self.family(table) else { return 0 };
        self.db.get_approximate_sizes_cf(family, &[rocksdb::Range::new(from, to)]).iter().sum()
    }

    fn checkpoint(&self) -> Result<Box<dyn Checkpoint>, KvError> {
        Ok(Box::new(self.checkpoints.take(&self.db)?))
    }
}

impl KvRead for DiskKv {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let value =
            self.db.get_cf(self.family(table)?, key).map_err(|error| kv_error(self.db.path(), READING, error))?;
        Ok(value.map(Bytes::from))
    }

    fn cursor<'a>(&'a self, table: Table, lower: &[u8], upper: &[u8]) -> Result<Box<dyn Cursor + 'a>, KvError> {
        let iterator = self.db.raw_iterator_cf_opt(self.family(table)?, bounds(lower, upper));
        Ok(Box::new(DiskCursor::within(self, table, iterator, (lower, upper))))
    }
}

struct DiskSnapshot<'a> {
    kv: &'a DiskKv,
    snapshot: SnapshotWithThreadMode<'a, DB>,
}

impl KvRead for DiskSnapshot<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let value = self.snapshot.get_cf(self.kv.family(table)?, key);
        let value = value.map_err(|error| kv_error(self.kv.db.path(), READING, error))?;
        Ok(value.map(Bytes::from))
    }

    fn cursor<'a>(&'a self, table: Table, lower: &[u8], upper: &[u8]) -> Result<Box<dyn Cursor + 'a>, KvError> {
        let iterator = self.snapshot.raw_iterator_cf_opt(self.kv.family(table)?, bounds(lower, upper));
        Ok(Box::new(DiskCursor::within(self.kv, table, iterator, (lower, upper))))
    }
}

fn bounds(lower: &[u8], upper: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(lower);
    options.set_iterate_upper_bound(upper);
    options
}

struct DiskCursor<'a> {
    kv: &'a DiskKv,
    table: Table,
    iterator: DBRawIteratorWithThreadMode<'a, DB>,
    lower: Vec<u8>,
    upper: Vec<u8>,
    /// The least key that was sought.
    from: Option<Vec<u8>>,
    tombstones: Met,
}

impl<'a> DiskCursor<'a> {
    fn within(
        kv: &'a DiskKv,
        table: Table,
        iterator: DBRawIteratorWithThreadMode<'a, DB>,
        (lower, upper): (&[u8], &[u8]),
    ) -> Self {
        let (lower, upper) = (lower.to_vec(), upper.to_vec());
        Self { kv, table, iterator, lower, upper, from: None, tombstones: Met::none() }
    }

    /// Crossed bounds hold nothing; the engine does not promise so.
    fn is_empty(&self) -> bool {
        self.lower >= self.upper
    }

    /// An iterator that is not valid is either at an end or has failed.
    fn check(&self) -> Result<(), KvError> {
        self.iterator.status().map_err(|error| kv_error(self.kv.db.path(), READING, error))
    }
}

impl Cursor for DiskCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<(), KvError> {
        if self.is_empty() {
            return Ok(());
        }
        if self.from.as_ref().is_none_or(|from| key < from.as_slice()) {
            self.from = Some(key.to_vec());
        }
        self.iterator.seek(key);
        self.check()
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<(), KvError> {
        if self.is_empty() {
            return Ok(());
        }
        self.from = Some(self.lower.clone());
        self.iterator.seek_for_prev(key);
        if self.iterator.key() == Some(key) {
            self.iterator.prev();
        }
        self.check()
    }

    fn next(&mut self) -> Result<(), KvError> {
        if self.iterator.valid() {
            self.iterator.next();
        }
        self.check()
    }

    fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.iterator.item()
    }
}

impl Drop for DiskCursor<'_> {
    fn drop(&mut self) {
        if self.tombstones.are_many() {
            let from = self.from.take().unwrap_or_default().max(std::mem::take(&mut self.lower));
            let to = self.iterator.key().map_or_else(|| std::mem::take(&mut self.upper), <[u8]>::to_vec);
            self.kv.sweeper.ask(Passed { table: self.table, from, to });
        }
    }
}

/// Whether a batch puts at least as many keys as it deletes. Rows of extents are counters that are rewritten in place, one for
/// each extent that a delete touches: they do not count.
fn grows(batch: &Batch) -> bool {
    let adds = |op: &&Op| matches!(op, Op::Put(table, ..) if *table != Table::Extent);
    let puts = batch.ops.iter().filter(adds).count();
    puts > 0 && puts * 2 >= batch.ops.len()
}

/// The bytes that a batch adds.
fn put_bytes(batch: &Batch) -> u64 {
    let size = |op: &Op| match op {
        Op::Put(_, key, value) => (key.len() + value.len()) as u64,
        Op::Delete(..) | Op::DeleteRange(..) => 0,
    };
    batch.ops.iter().map(size).sum()
}

/// What a flush will write. A node that is started again flushes all of it before it does anything else.
fn unflushed_bytes(db: &DB) -> u64 {
    let tables = Table::ALL.into_iter().filter_map(|table| db.cf_handle(tuning::name(table)));
    let bytes = tables.map(|family| db.property_int_value_cf(family, properties::CUR_SIZE_ALL_MEM_TABLES));
    bytes.filter_map(|bytes| bytes.ok().flatten()).sum()
}

/// The engine's thread pools, which all databases of the process share. By itself it would give them the larger of both
/// wishes, not the sum, and a long compaction of chunks would hold up metadata.
fn background_threads() -> Result<Env, rocksdb::Error> {
    let mut env = Env::new()?;
    env.set_low_priority_background_threads(COMPACTION_THREADS);
    env.set_high_priority_background_threads(FLUSH_THREADS);
    Ok(env)
}

/// Refuses to make a database where none may be made, or among the remains of one.
fn check_presence(path: &Path, mode: OpenMode) -> Result<(), KvError> {
    if DiskKv::exists(path)? {
        return Ok(());
    }
    if let Some(remains) = find_remains(path).map_err(|error| io_error(OPENING, path, &error))? {
        let reason = format!("{} is missing, but {remains} is there", path.join("CURRENT").display());
        return Err(KvError::Corrupt { during: OPENING, reason });
    }
    match mode {
        OpenMode::Create => {
            fs::create_dir_all(path).map_err(|error| io_error("making a directory for a database", path, &error))
        }
        OpenMode::Existing => {
            let reason = format!("there is no database in {}", path.display());
            Err(KvError::Failed { during: OPENING, reason })
        }
    }
}

/// A file that holds data of a database.
fn find_remains(path: &Path) -> io::Result<Option<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if [".sst", ".blob", ".log"].iter().any(|end| name.ends_with(end)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn missing_table(db: &DB, table: Table) -> KvError {
    let reason = format!("{} was opened without {table:?}", db.path().display());
    KvError::Failed { during: "finding a table", reason }
}

fn io_error(during: &'static str, path: &Path, error: &io::Error) -> KvError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => KvError::Full { during },
        _ => KvError::Failed { during, reason: format!("{}: {error}", path.display()) },
    }
}

/// Says which database did not open, and what holds it when that is why.
fn open_error(path: &Path, during: &'static str, error: rocksdb::Error) -> KvError {
    if error.as_ref().contains("/LOCK: ") {
        return in_use(path, error.as_ref());
    }
    // That there is a database was looked at before: a file that it names and does not have is damage.
    let misses_a_file = error.as_ref().contains("No such file or directory");
    match kv_error(path, during, error) {
        KvError::Failed { during, reason } if misses_a_file => KvError::Corrupt { during, reason },
        error => error,
    }
}

/// The engine hands over text; its status code is the text's beginning, its cause is somewhere within. It does not always say
/// which file or database that is about: the latter is said here.
fn kv_error(path: &Path, during: &'static str, error: rocksdb::Error) -> KvError {
    const FULL: [&str; 3] = ["No space left on device", "Space limit reached", "Disk quota exceeded"];
    if FULL.iter().any(|cause| error.as_ref().contains(cause)) {
        return KvError::Full { during };
    }
    let corrupt = error.kind() == ErrorKind::Corruption;
    let path = path.to_string_lossy();
    let says_where = error.as_ref().contains(path.as_ref());
    let reason = if says_where { error.into_string() } else { format!("{path}: {error}") };
    if corrupt { KvError::Corrupt { during, reason } } else { KvError::Failed { during, reason } }
}
