//! The scrub: everything on this node's disk is read and checked once in an interval, so that rot is found while there are good
//! copies to mend it from.
//!
//! A chunk that is damaged is reported by the chunk store itself, whoever reads it; `mend` does the rest. The databases are checked
//! by their own checksums (`databases`). There is no mending a part of one: the node stops and names the file, and it is for the
//! operator to put a fresh node in its place, which the others fill.
//!
//! It goes on after a restart where it was, as slowly as the interval allows, and at most at the rate of repair.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::CHUNK_BYTES;
use annulus_common::clock::SharedClock;
use annulus_common::ring::position_of_chunk;
use annulus_common::task::Fatal;
use serde::{Deserialize, Serialize};

use super::databases::Databases;
use super::mend::Damage;
use super::redundancy::Redundancy;
use super::throttle::Pacer;
use super::{Next, RepairSeams, Worker, end_if_corrupt, on_disk};
use crate::chunk::{ChunkError, ChunkInfo, ChunkStore};
use crate::kv::{Batch, Durability, Kv, KvError, Table};

/// Where the scrub is, in `System`.
const KEY: &[u8] = b"repair/scrub";
const VERSION: u8 = 1;

/// A pass is planned to take this part of the interval, as data grows meanwhile and nodes are down at times.
const PLANNED_SHARE_PERCENT: u64 = 80;

/// A node that has little reads it quickly: rot that is found early costs nothing.
const BYTES_PER_SECOND_MIN: u64 = 4 << 20;

/// Chunks of one turn.
const PAGE_CHUNKS: usize = 32;

/// Metadata of one turn.
const METADATA_BYTES: usize = 1 << 20;

/// The pause before it is looked again whether the next pass is due.
const LOOK: Duration = Duration::from_secs(1);

/// How much may be read again after a crash.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// The loop and what it works with.
pub(super) struct Scrub {
    kv: Arc<dyn Kv>,
    databases: Arc<Databases>,
    chunks: Arc<ChunkStore>,
    clock: SharedClock,
    redundancy: Arc<Redundancy>,
    damage: Arc<Damage>,
    fatal: Fatal,
    interval: Duration,
    bytes_per_second_max: u64,
    pacer: Pacer,
    /// Nothing until it is read from the disk.
    pass: Option<Pass>,
    saved_at: Duration,
}

/// One time through everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pass {
    /// When it began, Unix milliseconds.
    began_ms: u64,
    /// When the last one that came to its end did.
    completed_ms: Option<u64>,
    place: Place,
}

/// How far a pass is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    /// The databases are read: the number of a table, and the key to go on with.
    Metadata { table: u8, from: Vec<u8> },
    /// Chunks are read, in the order of the ring.
    Chunks { from: u64 },
    /// It is over.
    End,
}

impl Worker for Scrub {
    async fn turn(&mut self) -> Next {
        self.step().await.unwrap_or_else(|error| {
            if !end_if_corrupt(&self.fatal, &error) {
                tracing::warn!(%error, "the scrub does not get on now");
            }
            Next::After(LOOK)
        })
    }
}

impl Scrub {
    pub(super) fn new(seams: &RepairSeams) -> Self {
        Self {
            kv: Arc::clone(&seams.kv),
            databases: Arc::clone(&seams.databases),
            chunks: Arc::clone(&seams.chunks),
            clock: Arc::clone(&seams.clock),
            redundancy: Arc::clone(&seams.redundancy),
            damage: Arc::clone(&seams.damage),
            fatal: Arc::clone(&seams.fatal),
            interval: seams.settings.scrub_interval,
            bytes_per_second_max: seams.settings.bandwidth_bytes_per_second,
            pacer: Pacer::new(BYTES_PER_SECOND_MIN),
            pass: None,
            saved_at: Duration::ZERO,
        }
    }

    async fn step(&mut self) -> Result<Next, KvError> {
        let databases = Arc::clone(&self.databases);
        on_disk("letting go of files", move || {
            databases.let_go();
            Ok(())
        })
        .await?;
        let pass = match self.pass.take() {
            Some(pass) => pass,
            None => self.load().await?,
        };
        let pass = if self.damage.has_room_again() { self.look_again(pass).await? } else { pass };
        let place = pass.place.clone();
        // Kept while it is worked on: an error must not lose it.
        self.pass = Some(pass.clone());
        let (place, bytes) = match place {
            Place::Metadata { table, from } => self.read_metadata(table, from).await?,
            Place::Chunks { from } => self.read_chunks(from).await?,
            Place::End => return self.rest(pass).await,
        };
        let ended = place == Place::End;
        let completed_ms = if ended { Some(self.clock.now_ms()) } else { pass.completed_ms };
        let pass = Pass { place, completed_ms, ..pass };
        self.show(&pass);
        let now = self.clock.monotonic();
        if ended || now >= self.saved_at + SAVE_EVERY {
            self.saved_at = now;
            self.damage.remember_all().await?;
            self.save(&pass).await?;
        }
        self.pass = Some(pass);
        let usage = self.chunks.usage().bytes;
        self.pacer.set_rate(rate(usage, self.interval).min(self.bytes_per_second_max));
        Ok(Next::After(self.pacer.take(now, bytes)))
    }

    /// More was damaged than could be remembered: chunks are read from the beginning, now that there is room.
    async fn look_again(&self, pass: Pass) -> Result<Pass, KvError> {
        let place = match pass.place {
            Place::Metadata { .. } => pass.place,
            Place::Chunks { .. } | Place::End => Place::Chunks { from: 0 },
        };
        let pass = Pass { place, ..pass };
        self.save(&pass).await?;
        self.damage.forget_overflow().await?;
        Ok(pass)
    }

    /// Waits for the next pass.
    async fn rest(&mut self, pass: Pass) -> Result<Next, KvError> {
        let now_ms = self.clock.now_ms();
        // A clock that was set back must not stop the scrub for long.
        let due = now_ms >= pass.began_ms + self.interval.as_millis() as u64 || now_ms < pass.began_ms;
        if due {
            let pass = Pass { began_ms: now_ms, place: Place::beginning(), ..pass };
            self.save(&pass).await?;
            self.pass = Some(pass);
        }
        Ok(Next::After(LOOK))
    }

    async fn read_metadata(&self, table: u8, from: Vec<u8>) -> Result<(Place, u64), KvError> {
        let databases = Arc::clone(&self.databases);
        let next = on_disk("scrubbing metadata", move || databases.verify((table, from), METADATA_BYTES)).await?;
        let place = match next {
            Some((table, from)) => Place::Metadata { table, from },
            None => Place::Chunks { from: 0 },
        };
        Ok((place, METADATA_BYTES as u64))
    }

    /// Reads the next chunks whole. The store reports what is damaged, and goes on.
    async fn read_chunks(&self, from: u64) -> Result<(Place, u64), KvError> {
        let page = self.chunks.iterate(from..=u64::MAX, None, PAGE_CHUNKS).await.map_err(storage)?;
        let Some(last) = page.last() else { return Ok((Place::End, 0)) };
        for ChunkInfo { id, .. } in &page {
            match self.chunks.get(*id, 0..CHUNK_BYTES).await {
                Ok(_) | Err(ChunkError::NotFound { .. } | ChunkError::Corrupt { .. }) => {}
                Err(error) => return Err(storage(error)),
            }
        }
        let bytes = page.iter().map(|info| u64::from(info.length)).sum();
        let next = position_of_chunk(last.id).checked_add(1);
        Ok((next.map_or(Place::End, |from| Place::Chunks { from }), bytes))
    }

    fn show(&self, pass: &Pass) {
        let percent = match pass.place {
            Place::Metadata { .. } => 0,
            Place::Chunks { from } => ((u128::from(from) * 100) >> u64::BITS) as u8,
            Place::End => 100,
        };
        self.redundancy.scrubbed(percent, pass.completed_ms);
    }

    async fn load(&self) -> Result<Pass, KvError> {
        let kv = Arc::clone(&self.kv);
        let stored = on_disk("reading where the scrub is", move || kv.get(Table::System, KEY)).await?;
        let pass = stored.as_deref().and_then(Pass::decode).unwrap_or_else(|| Pass {
            began_ms: self.clock.now_ms(),
            completed_ms: None,
            place: Place::beginning(),
        });
        self.show(&pass);
        Ok(pass)
    }

    async fn save(&self, pass: &Pass) -> Result<(), KvError> {
        let (kv, bytes) = (Arc::clone(&self.kv), pass.encode());
        on_disk("remembering where the scrub is", move || {
            let mut batch = Batch::default();
            batch.put(Table::System, KEY, bytes);
            kv.write(batch, Durability::Buffered)
        })
        .await
    }
}

impl Place {
    fn beginning() -> Self {
        Place::Metadata { table: 0, from: Vec::new() }
    }
}

impl Pass {
    fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("a place is plain data, which always encodes")
    }

    /// One of another version, or a damaged one, begins anew.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, body) = bytes.split_first()? else { return None };
        postcard::from_bytes(body).ok()
    }
}

/// Bytes to read in a second, so that all of them are read in time.
fn rate(bytes: u64, interval: Duration) -> u64 {
    let seconds = (interval.as_secs() * PLANNED_SHARE_PERCENT / 100).max(1);
    (bytes / seconds).max(BYTES_PER_SECOND_MIN)
}

fn storage(error: ChunkError) -> KvError {
    let during = "scrubbing chunks";
    match error {
        ChunkError::Failed(failed) => match &*failed {
            KvError::Corrupt { reason, .. } => KvError::Corrupt { during, reason: reason.clone() },
            failed => KvError::Failed { during, reason: failed.to_string() },
        },
        error => KvError::Failed { during, reason: error.to_string() },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::{BYTES_PER_SECOND_MIN, KEY, Pass, Place, rate};

    /// The record of a first pass that has read half of the ring.
    pub(in super::super) fn half_way(began_ms: u64) -> (&'static [u8], Vec<u8>) {
        let pass = Pass { began_ms, completed_ms: None, place: Place::Chunks { from: 1 << 63 } };
        (KEY, pass.encode())
    }

    #[test]
    fn a_pass_takes_most_of_the_interval_where_there_is_much_to_read() {
        let month = Duration::from_secs(30 * 86_400);
        assert_eq!(rate(1 << 20, month), BYTES_PER_SECOND_MIN);
        let of_much = rate(20 << 40, month);
        let pass_seconds = (20 << 40) / of_much;
        assert!((23 * 86_400..25 * 86_400).contains(&pass_seconds), "{pass_seconds}");
        assert!(rate(1 << 30, Duration::ZERO) >= 1 << 30);
    }

    /// The bytes on disk, drawn in FORMATS.md.
    #[test]
    fn version_1_stays_as_it_is() {
        let pass = Pass { began_ms: 300, completed_ms: Some(5), place: Place::Chunks { from: 258 } };
        assert_eq!(pass.encode(), [1, 0xac, 2, 1, 5, 1, 0x82, 2]);
        assert_eq!(Pass::decode(&pass.encode()), Some(pass));
        assert_eq!(Pass::decode(&[2, 0]), None);
    }
}
