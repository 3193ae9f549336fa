//! How RocksDB is set up: for each table what its values are like, for each database how much it may take.
//!
//! Memory in the worst case, both databases of a node: block cache (shared, 64 MiB unless told), memtables 64 MiB for
//! metadata and 16 MiB for the index of chunks, and some ten MiB for open files, as much again while a checkpoint is read.

use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Options};

use super::DiskOptions;
use crate::kv::Table;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// For the blocks and filters of metadata and of the index of chunks.
pub(super) const CACHE_BYTES_DEFAULT: usize = 64 * MIB;

/// Memtables of one database before it flushes the largest: with more, a restart replays longer.
const MEMTABLES_BYTES_MAX: usize = 64 * MIB;

/// The log of writes of one database: bounds the replay after a crash to about a second.
const WAL_BYTES_MAX: u64 = 256 * MIB as u64;

/// RocksDB's own LOG: ten days of a quiet node, and never a disk full of it.
const INFO_LOG_BYTES_MAX: usize = 4 * MIB;
const INFO_LOG_FILES_MAX: usize = 4;

/// Dirty pages are written back this often, so that an fsync finds little left to do.
const WRITE_BACK_BYTES: u64 = MIB as u64;

/// Filters cost 10 bits a key and spare 99 of 100 needless reads.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// A file in which this many of so many neighbouring entries are tombstones is compacted, so that a list stays fast
/// after a million deletes.
const TOMBSTONE_WINDOW: usize = 4096;
const TOMBSTONES_MAX: usize = 1024;
const TOMBSTONE_RATIO_MAX: f64 = 0.5;

/// Values above this leave the tree: write amplification 2.0 instead of 4.8 for small objects.
const META_BLOB_BYTES_MIN: u64 = 2 * KIB as u64;

/// Of the metadata's blob files the oldest quarter is rewritten as compactions meet it, so that space comes back unasked.
const META_BLOB_AGE_CUTOFF: f64 = 0.25;

/// Blob files of that quarter which are this much garbage are compacted without being met.
const META_BLOB_GARBAGE_RATIO_MAX: f64 = 0.5;

/// Options of the whole database.
pub(super) fn database(options: &DiskOptions) -> Options {
    let mut db = Options::default();
    db.set_paranoid_checks(true);
    // Every damaged or unfinished record in the log of writes refuses the start. `wal` has looked at the files before and
    // cut off the one thing that may be lost: the torn end of what was never synced. Point-in-time recovery would instead
    // drop acknowledged writes behind a damaged record, without a word.
    db.set_wal_recovery_mode(DBRecoveryMode::AbsoluteConsistency);
    db.set_track_and_verify_wals_in_manifest(true); // a missing log of writes is noticed
    db.set_manual_wal_flush(false); // a buffered write reaches the operating system at once
    db.set_max_total_wal_size(WAL_BYTES_MAX);
    db.set_bytes_per_sync(WRITE_BACK_BYTES);
    db.set_db_write_buffer_size(MEMTABLES_BYTES_MAX);
    db.set_max_open_files(options.open_files_max);
    db.set_max_background_jobs(options.background_jobs_max);
    db.set_keep_log_file_num(INFO_LOG_FILES_MAX);
    db.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    db.set_stats_dump_period_sec(0); // an idle node is idle
    db.set_stats_persist_period_sec(0);
    db
}

/// Files of a checkpoint that are open at the same time: it is read from one end to the other, a file of each level at a time.
const CHECKPOINT_FILES_MAX: i32 = 32;

/// Options to read a checkpoint with.
pub(super) fn checkpoint(options: &DiskOptions, direct: bool) -> Options {
    let mut db = database(options);
    db.set_max_open_files(CHECKPOINT_FILES_MAX);
    db.set_max_file_opening_threads(1);
    db.set_use_direct_reads(direct);
    // Its end of the log of writes was copied while it grew, and is not what a checkpoint is for.
    db.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
    db
}

/// A table's column family. Without a cache it reads everything from its files.
pub(super) fn column_family(table: Table, cache: Option<&Cache>) -> ColumnFamilyDescriptor {
    let mut cf = Options::default();
    let mut blocks = blocks(cache);
    cf.set_level_compaction_dynamic_level_bytes(true);
    cf.set_compression_type(DBCompressionType::None);
    match table {
        Table::System => cf.set_write_buffer_size(MIB),
        // Entries are written once, read as ranges and dropped soon: mostly they never leave the memtable.
        Table::Log => {
            cf.set_write_buffer_size(32 * MIB);
            drop_tombstones_early(&mut cf);
        }
        Table::Meta => {
            cf.set_write_buffer_size(32 * MIB);
            cf.set_compression_type(DBCompressionType::Lz4); // neighbouring keys share most of their bytes
            blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
            // No prefix filter: the seam does not know what a prefix of a key means, and lists seek in total order.
            cf.set_min_blob_size(META_BLOB_BYTES_MIN);
            blobs(&mut cf, 64 * MIB);
            cf.set_enable_blob_gc(true);
            cf.set_blob_gc_age_cutoff(META_BLOB_AGE_CUTOFF);
            cf.set_blob_gc_force_threshold(META_BLOB_GARBAGE_RATIO_MAX);
            drop_tombstones_early(&mut cf);
        }
        Table::ChunkIndex => {
            cf.set_write_buffer_size(8 * MIB);
            cf.set_compression_type(DBCompressionType::Lz4);
            blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
            drop_tombstones_early(&mut cf);
        }
        Table::Extent => cf.set_write_buffer_size(MIB),
        Table::Hint => {
            cf.set_write_buffer_size(4 * MIB);
            drop_tombstones_early(&mut cf);
        }
    }
    cf.set_block_based_table_factory(&blocks);
    ColumnFamilyDescriptor::new(name(table), cf)
}

/// The column family of a table. Stored: never rename one.
pub(super) fn name(table: Table) -> &'static str {
    match table {
        // Every RocksDB has this one.
        Table::System => "default",
        Table::Log => "log",
        Table::Meta => "meta",
        Table::ChunkIndex => "chunk-index",
        Table::Extent => "extent",
        Table::Hint => "hint",
    }
}

fn blocks(cache: Option<&Cache>) -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(16 * KIB);
    let Some(cache) = cache else {
        blocks.disable_cache();
        return blocks;
    };
    blocks.set_block_cache(cache);
    // Index and filter blocks live in it too, or memory would grow with the data.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks
}

/// Values in files of their own. Not compressed: they are objects' bytes, which seldom shrink.
fn blobs(cf: &mut Options, file_bytes: usize) {
    cf.set_enable_blob_files(true);
    cf.set_blob_file_size(file_bytes as u64);
    cf.set_blob_compression_type(DBCompressionType::None);
}

fn drop_tombstones_early(cf: &mut Options) {
    cf.add_compact_on_deletion_collector_factory(TOMBSTONE_WINDOW, TOMBSTONES_MAX, TOMBSTONE_RATIO_MAX);
}
