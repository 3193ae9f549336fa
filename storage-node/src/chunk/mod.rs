//! Chunks on this node: immutable pieces of objects, durable before they are acknowledged, checked whenever they are read.
//!
//! This file is what the rest of the node calls, and decides on which thread the work happens and how much may wait. Chunks lie
//! in extents, files that are only appended to (`append`), under an index of where each lies (`index`); `table` reads and
//! removes them, `ledger` counts them, `record` is how they lie on disk. It knows nothing of replicas, objects or who may ask.

mod append;
pub mod files;
mod index;
mod ledger;
mod queue;
mod reclaim;
mod record;
mod recovery;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::thread;

use annulus_common::chunk::{CHUNK_BYTES, ChunkOwner, Digest};
use annulus_common::clock::SharedClock;
use annulus_common::ids::ChunkId;
use annulus_common::protocol::ListedChunk;
use bytes::Bytes;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot};

use self::append::{GROUP_BYTES_MAX, Purpose, Put};
use self::files::ExtentFiles;
use self::index::Span;
use self::queue::Threads;
use self::table::ChunkTable;
use crate::kv::{Kv, KvError};

/// Threads that write: groups are written one after the other, and what waits meanwhile is the next.
const WRITERS: usize = 1;

/// Bytes that wait to be written or are being written: a group at the disk, the next, and as much again behind them.
const WRITING_BYTES_MAX: usize = 4 * GROUP_BYTES_MAX;

/// Threads that read: more than a disk needs to be busy, few enough that their buffers (4 MiB each) are nothing.
const READERS: usize = 4;

/// Reads that wait: what a node can answer within the second or two that callers are willing to wait.
const READS_WAITING_MAX: usize = 256;

/// Deletes and listings, which must not delay reads. Two, as a delete waits while the disk gives space back.
const KEEPERS: usize = 2;
const KEEPING_WAITING_MAX: usize = 64;

/// The most chunks of one page of a listing, and of one batch of deletes.
pub const PAGE_CHUNKS_MAX: usize = 1024;

/// The chunks that a digest reads at a time: a few milliseconds for which the deletes behind it wait.
const DIGEST_CHUNKS_MAX: usize = 16 * 1024;

/// Called with a chunk whose bytes on disk are not what was written: on a thread that reads, so it must not block, again for
/// every read that finds it, and by a start for chunks whose extent is gone.
pub type OnCorrupt = Arc<dyn Fn(ChunkId) + Send + Sync>;

/// Called when no chunk can be written or removed until the next start, with the reason. It must not block either.
pub type OnFailed = Arc<dyn Fn(&str) + Send + Sync>;

/// Whom a store tells of what it cannot put right by itself.
pub struct Alarms {
    /// A chunk is damaged.
    pub on_corrupt: OnCorrupt,
    /// The store is of no use any more.
    pub on_failed: OnFailed,
}

/// Why a chunk could not be written or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChunkError {
    /// It is not here. Another replica may have it.
    #[error("chunk {id:?} is not here")]
    NotFound {
        /// The chunk.
        id: ChunkId,
    },
    /// It is here, but not as it was written. Another replica may have it; this one waits for repair.
    #[error("chunk {id:?} is corrupt: {reason}")]
    Corrupt {
        /// The chunk.
        id: ChunkId,
        /// What did not match.
        reason: String,
    },
    /// The bytes do not match the checksums they came with. The sender may send them again.
    #[error("chunk {id:?} did not arrive intact: {reason}")]
    Mismatch {
        /// The chunk.
        id: ChunkId,
        /// What did not match.
        reason: String,
    },
    /// Other bytes, or another owner, have this id. A bug of the sender.
    #[error("another chunk has the id {id:?}")]
    Conflict {
        /// The chunk.
        id: ChunkId,
    },
    /// No space is left. Another node may have some; reads and deletes go on.
    #[error("no space left for chunks")]
    Full,
    /// The disk failed.
    #[error(transparent)]
    Failed(Arc<KvError>),
}

/// What is known of a chunk without reading its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkInfo {
    /// The chunk.
    pub id: ChunkId,
    /// Whose it is.
    pub owner: ChunkOwner,
    /// Its bytes.
    pub length: u32,
    /// The CRC-32C of each of its pieces.
    pub piece_crcs: Vec<u32>,
    /// When this node wrote it, in Unix milliseconds.
    pub created_ms: u64,
}

impl ChunkInfo {
    /// What other nodes are told of it.
    pub fn listed(&self) -> ListedChunk {
        let mut digest = Digest::default();
        digest.add(self.id, self.length, &self.piece_crcs);
        ListedChunk { id: self.id, owner: self.owner, length: self.length, sum: digest.sum }
    }
}

/// Whole pieces of a chunk, checked here and to be checked again by whoever receives them, before they are trimmed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkRead {
    /// Whose the chunk is.
    pub owner: ChunkOwner,
    /// The index of the first piece.
    pub pieces_from: u32,
    /// The CRC-32C of each piece.
    pub piece_crcs: Vec<u32>,
    /// The pieces, one after the other.
    pub data: Bytes,
    /// The bytes of the whole chunk.
    pub length: u32,
}

/// What the chunks of a node amount to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// How many there are.
    pub chunks: u64,
    /// Their bytes, without what index and extents add.
    pub bytes: u64,
    /// Bytes that a reclaiming is for: extents that are nearly empty, and removed chunks whose disk space did not come back at
    /// once, as it does but for a crash.
    pub removed_bytes: u64,
    /// Reads since the start that found a corrupt chunk.
    pub corrupt_reads: u64,
}

/// Where the work of a store happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Execution {
    /// On threads of its own, as a disk needs it.
    Threads,
    /// At once, where it is asked for: for a simulation, which has no threads, over memory.
    Inline,
}

/// The chunks of a node. Dropping it finishes what was accepted.
pub struct ChunkStore {
    table: Arc<ChunkTable>,
    clock: SharedClock,
    workers: Option<Workers>,
    /// One at a time: a second one would find nothing to do.
    reclaiming: Mutex<()>,
}

struct Workers {
    writers: Threads<Write>,
    writing: Arc<Semaphore>,
    readers: Pool,
    keepers: Pool,
}

struct Write {
    put: Put,
    answer: oneshot::Sender<Result<(), ChunkError>>,
    _permit: OwnedSemaphorePermit,
}

impl ChunkStore {
    /// The chunks in extent files, with their index in a database that has the tables `ChunkIndex` and `Extent`.
    pub fn open(
        kv: Arc<dyn Kv>,
        files: Arc<dyn ExtentFiles>,
        clock: SharedClock,
        execution: Execution,
        alarms: Alarms,
    ) -> Result<Self, ChunkError> {
        let table = Arc::new(ChunkTable::open(kv, files, alarms)?);
        let workers = match execution {
            Execution::Threads => Some(Workers::start(&table).map_err(|error| no_thread(&error))?),
            Execution::Inline => None,
        };
        Ok(Self { table, clock, workers, reclaiming: Mutex::new(()) })
    }

    /// Stores a chunk; it is on disk when this returns. The same chunk again changes nothing.
    pub async fn put(
        &self,
        id: ChunkId,
        owner: ChunkOwner,
        piece_crcs: Vec<u32>,
        data: Bytes,
    ) -> Result<(), ChunkError> {
        let created_ms = self.clock.now_ms();
        self.write(Put { id, owner, piece_crcs, data, created_ms, purpose: Purpose::Store }).await
    }

    /// Stores a chunk over an equal one whose bytes may have rotted. A different one is still refused.
    pub async fn mend(
        &self,
        id: ChunkId,
        owner: ChunkOwner,
        piece_crcs: Vec<u32>,
        data: Bytes,
    ) -> Result<(), ChunkError> {
        let created_ms = self.clock.now_ms();
        self.write(Put { id, owner, piece_crcs, data, created_ms, purpose: Purpose::Mend }).await
    }

    /// Reads the pieces that `range` touches. What lies past the chunk's end is not there; that is no error.
    pub async fn get(&self, id: ChunkId, range: Range<u32>) -> Result<ChunkRead, ChunkError> {
        self.read(move |table| table.read(id, &range)).await
    }

    /// What is known of a chunk, from its header alone.
    pub async fn stat(&self, id: ChunkId) -> Result<Option<ChunkInfo>, ChunkError> {
        self.read(move |table| table.stat(id)).await
    }

    /// Removes chunks, durably, [`PAGE_CHUNKS_MAX`] at a time, and gives their disk space back: after an error some may be gone.
    /// It is no error when one is not there.
    pub async fn delete(&self, ids: Vec<ChunkId>) -> Result<(), ChunkError> {
        for page in ids.chunks(PAGE_CHUNKS_MAX) {
            let page = page.to_vec();
            self.keep(move |table| table.delete(&page)).await?;
        }
        Ok(())
    }

    /// The chunks of a part of the ring, in its order, behind `after`: at most `limit` and at most [`PAGE_CHUNKS_MAX`]; none
    /// when `after` is the last. Nothing but headers is read; a chunk whose header is unreadable is reported as corrupt and
    /// left out.
    pub async fn iterate(
        &self,
        positions: RangeInclusive<u64>,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<ChunkInfo>, ChunkError> {
        let span = Span { positions, after };
        self.keep(move |table| table.list(&span, limit.min(PAGE_CHUNKS_MAX))).await
    }

    /// What the chunks of a part of the ring amount to: those that [`ChunkStore::iterate`] would list. What is written or
    /// removed meanwhile is in it or not.
    pub async fn digest(&self, positions: RangeInclusive<u64>) -> Result<Digest, ChunkError> {
        let mut sum = Digest::default();
        let mut after = None;
        loop {
            let span = Span { positions: positions.clone(), after };
            let (digest, last) = self.keep(move |table| table.digest(&span, DIGEST_CHUNKS_MAX)).await?;
            sum.merge(&digest);
            if last.is_none() {
                return Ok(sum);
            }
            after = last;
        }
    }

    /// How much there is: exact counters, changed by the batches that change what they count.
    pub fn usage(&self) -> Usage {
        self.table.usage()
    }

    /// Gives back the disk space that deletes could not, see [`Usage::removed_bytes`]: it walks the whole index and moves the
    /// last chunks out of extents that are nearly empty.
    pub async fn reclaim(&self) -> Result<(), ChunkError> {
        let _one_at_a_time = self.reclaiming.lock().await;
        if self.workers.is_none() {
            return self.table.reclaim();
        }
        // A thread of its own, which nobody waits for when the store is dropped.
        let (answer, answered) = oneshot::channel();
        let table = self.table.clone();
        let run = move || drop(answer.send(table.reclaim()));
        thread::Builder::new().name("chunk-reclaim".to_owned()).spawn(run).map_err(|error| no_thread(&error))?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    async fn write(&self, put: Put) -> Result<(), ChunkError> {
        let Some(workers) = &self.workers else {
            return self.table.write(&[put]).pop().unwrap_or_else(|| Err(stopped()));
        };
        let weight = put.data.len().min(CHUNK_BYTES as usize) as u32;
        let permit = workers.writing.clone().acquire_many_owned(weight).await.map_err(|_| stopped())?;
        let (answer, answered) = oneshot::channel();
        workers.writers.push(Write { put, answer, _permit: permit });
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ChunkTable) -> Result<T, ChunkError> + Send + 'static,
    ) -> Result<T, ChunkError> {
        match &self.workers {
            Some(workers) => workers.readers.run(&self.table, work).await,
            None => work(&self.table),
        }
    }

    async fn keep<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ChunkTable) -> Result<T, ChunkError> + Send + 'static,
    ) -> Result<T, ChunkError> {
        match &self.workers {
            Some(workers) => workers.keepers.run(&self.table, work).await,
            None => work(&self.table),
        }
    }
}

impl Workers {
    fn start(table: &Arc<ChunkTable>) -> io::Result<Self> {
        let table = table.clone();
        let write = move |group: Vec<Write>| write_group(&table, group);
        let weight = |write: &Write| write.put.record_bytes();
        Ok(Self {
            writers: Threads::start("chunk-write", WRITERS, GROUP_BYTES_MAX, weight, write)?,
            writing: Arc::new(Semaphore::new(WRITING_BYTES_MAX)),
            readers: Pool::start("chunk-read", READERS, READS_WAITING_MAX)?,
            keepers: Pool::start("chunk-keep", KEEPERS, KEEPING_WAITING_MAX)?,
        })
    }
}

/// Everything that waits becomes one write with one sync.
fn write_group(table: &ChunkTable, group: Vec<Write>) {
    let (puts, waiting): (Vec<_>, Vec<_>) =
        group.into_iter().map(|write| (write.put, (write.answer, write._permit))).unzip();
    let answers = table.write(&puts);
    drop(puts);
    for ((answer, permit), result) in waiting.into_iter().zip(answers) {
        drop(permit);
        // Nobody may wait any more: the chunk is written all the same.
        let _ = answer.send(result);
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads for calls that block, with a bound on those that wait.
struct Pool {
    threads: Threads<Job>,
    waiting: Arc<Semaphore>,
}

impl Pool {
    fn start(name: &str, count: usize, waiting_max: usize) -> io::Result<Self> {
        let run = |jobs: Vec<Job>| jobs.into_iter().for_each(|job| job());
        // One job at a time: the next is for the next free thread.
        let threads = Threads::start(name, count, 1, |_| 1, run)?;
        Ok(Self { threads, waiting: Arc::new(Semaphore::new(waiting_max)) })
    }

    async fn run<T: Send + 'static>(
        &self,
        table: &Arc<ChunkTable>,
        work: impl FnOnce(&ChunkTable) -> Result<T, ChunkError> + Send + 'static,
    ) -> Result<T, ChunkError> {
        let permit = self.waiting.clone().acquire_owned().await.map_err(|_| stopped())?;
        let (answer, answered) = oneshot::channel();
        let table = table.clone();
        self.threads.push(Box::new(move || {
            // Who no longer waits needs no answer.
            if !answer.is_closed() {
                let _ = answer.send(work(&table));
            }
            drop(permit);
        }));
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> ChunkError {
    let reason = "the thread that did the work is gone".to_owned();
    ChunkError::Failed(Arc::new(KvError::Failed { during: "waiting for a chunk", reason }))
}

fn no_thread(error: &io::Error) -> ChunkError {
    let reason = error.to_string();
    ChunkError::Failed(Arc::new(KvError::Failed { during: "starting a thread for chunks", reason }))
}
