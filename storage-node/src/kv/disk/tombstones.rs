//! Tombstones that lists would step over: what is left after many deletes costs what it is, not what was deleted.
//!
//! The engine compacts files full of them by itself (see `tuning`), but not what is still in memory, and not what a file took along
//! to the lowest level without being rewritten. Here a walk that has met many has the range that it passed compacted.
//!
//! On a disk without room, memory is flushed: what was deleted takes its space until its tombstones lie in a file, where the
//! engine's own compactions meet them, and the log of writes takes its own until then, too.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};
use rocksdb::{BottommostLevelCompaction, ColumnFamily, CompactOptions, DB};

use super::{bounds, tuning};
use crate::kv::Table;

/// What a walk may step over: about a millisecond of it. To rewrite its range costs some ten.
const TOMBSTONES_MAX: u64 = 4096;

/// Ranges that wait. Past these they are not remembered: the next walk there meets the same.
const RANGES_WAITING_MAX: usize = 64;

/// How often a disk without room is helped: each time leaves a few small files.
const MAKE_ROOM_EVERY: Duration = Duration::from_secs(5);

/// Counts what a walk steps over. The engine counts by thread, and a walk stays on one.
pub(super) struct Met {
    before: u64,
}

impl Met {
    /// Begins to count.
    pub(super) fn none() -> Self {
        set_perf_stats(PerfStatsLevel::EnableCount);
        Self { before: counted() }
    }

    /// The tombstones since.
    pub(super) fn count(&self) -> u64 {
        counted().saturating_sub(self.before)
    }

    pub(super) fn are_many(&self) -> bool {
        self.count() >= TOMBSTONES_MAX
    }
}

fn counted() -> u64 {
    PerfContext::default().metric(PerfMetric::InternalDeleteSkippedCount)
}

/// Keys `from..=to` of a table.
pub(super) struct Passed {
    pub(super) table: Table,
    pub(super) from: Vec<u8>,
    pub(super) to: Vec<u8>,
}

/// What the thread is asked for.
enum Work {
    Compact(Passed),
    Flush,
}

/// The thread that compacts, one range after the other.
pub(super) struct Sweeper {
    db: Arc<DB>,
    work: Option<SyncSender<Work>>,
    /// When room was asked for.
    made_room: Mutex<Option<Instant>>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    pub(super) fn start(db: &Arc<DB>) -> std::io::Result<Self> {
        let (work, waiting) = mpsc::sync_channel(RANGES_WAITING_MAX);
        let swept = Arc::clone(db);
        let thread = thread::Builder::new().name("kv-sweep".into()).spawn(move || sweep(&swept, &waiting))?;
        Ok(Self { db: Arc::clone(db), work: Some(work), made_room: Mutex::default(), thread: Some(thread) })
    }

    /// Has a range compacted, in a while.
    pub(super) fn ask(&self, passed: Passed) {
        self.send(Work::Compact(passed));
    }

    /// Has memory flushed, in a while.
    pub(super) fn make_room(&self) {
        let mut made_room = self.made_room.lock();
        if made_room.is_none_or(|at| at.elapsed() >= MAKE_ROOM_EVERY) {
            *made_room = Some(Instant::now());
            self.send(Work::Flush);
        }
    }

    fn send(&self, work: Work) {
        if let Some(waiting) = &self.work {
            // Full: see RANGES_WAITING_MAX.
            let _ = waiting.try_send(work);
        }
    }
}

impl Drop for Sweeper {
    /// Ends what it is at: a database is closed for whoever opens it next.
    fn drop(&mut self) {
        self.work = None;
        self.db.cancel_all_background_work(false);
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic.
            let _ = thread.join();
        }
    }
}

fn sweep(db: &DB, work: &Receiver<Work>) {
    let mut options = CompactOptions::default();
    options.set_exclusive_manual_compaction(false);
    // The lowest level, too: files are moved there as they are. What this compaction has made there is not made twice.
    options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
    while let Ok(work) = work.recv() {
        match work {
            Work::Compact(passed) => {
                let Some(family) = db.cf_handle(tuning::name(passed.table)) else { continue };
                // Other walks may have met the same ones.
                if are_many(db, family, &passed) {
                    db.compact_range_cf_opt(family, Some(&passed.from), Some(&passed.to), &options);
                }
            }
            Work::Flush => flush(db),
        }
    }
}

/// All tables: the log of writes goes when the last of them has left it.
fn flush(db: &DB) {
    for family in Table::ALL.into_iter().filter_map(|table| db.cf_handle(tuning::name(table))) {
        if let Err(error) = db.flush_cf(family) {
            tracing::debug!(%error, "memory is not flushed to make room");
        }
    }
}

fn are_many(db: &DB, family: &ColumnFamily, passed: &Passed) -> bool {
    let mut options = bounds(&passed.from, &passed.to);
    options.fill_cache(false);
    let met = Met::none();
    let mut iterator = db.raw_iterator_cf_opt(family, options);
    iterator.seek(&passed.from);
    while iterator.valid() && !met.are_many() {
        iterator.next();
    }
    met.are_many()
}
