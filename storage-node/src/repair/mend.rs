//! Mending: chunks that were found damaged here, or missing by somebody who expected them here, are written anew from a good
//! copy. Whoever reads, scrubs or serves reports them; the reports of one chunk are one.
//!
//! What cannot be mended now is remembered on disk, and so is what the scrub found before it notes how far it is: the header of
//! a damaged chunk still looks well, so that no comparison would notice it after a restart. Where there are more than can be
//! remembered, the scrub reads everything again once there is room.
//!
//! A chunk that no holder has was removed, as a rule. It is lost if its part is still referred to; with the last copy went the
//! name of the owner, so that all partitions are asked. It stays open then, and the status tells of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use annulus_common::chunk::CHUNK_BYTES;
use annulus_common::ids::{ChunkId, NodeId, PartId, PartitionId};
use annulus_common::map::ClusterMap;
use annulus_common::map::watch::MapWatch;
use futures::StreamExt;
use futures::stream;
use parking_lot::Mutex;

use super::fetch::{CHUNKS_AT_ONCE, FetchError, Fetcher};
use super::owners::{OwnedPart, Owners};
use super::peers::Copy;
use super::{Next, RepairSeams, Tools, Worker, on_disk};
use crate::chunk::{ChunkError, ChunkStore};
use crate::kv::{Batch, Durability, Kv, KvError, Table};

/// Damaged chunks that are remembered. With more the disk is dying; the scrub looks for the others when half of them are mended.
const DAMAGED_MAX: usize = 4_096;

/// Chunks of one turn.
const PAGE_CHUNKS: usize = 64;

/// The pause before the next look.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause after a turn that could mend nothing.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Begins the keys of damaged chunks in `System`; the chunk's id follows.
const KEY_PREFIX: &[u8] = b"repair/damaged/";
/// Comes after all of them: `0` follows `/`.
const KEYS_END: &[u8] = b"repair/damaged0";

/// In `System`: more were damaged than are remembered.
pub(super) const OVERFLOW_KEY: &[u8] = b"repair/overflowed";

/// The value says nothing more yet.
const VALUE_VERSION: u8 = 1;

/// The damaged chunks of this node, shared by who finds them and who mends them.
pub struct Damage {
    kv: Arc<dyn Kv>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Each with whether it is remembered on disk.
    open: BTreeMap<ChunkId, bool>,
    /// More were reported than are remembered.
    overflowed: bool,
    mended: u64,
}

impl Damage {
    /// The damaged chunks that a database with the table `System` remembers. It blocks.
    pub fn open(kv: Arc<dyn Kv>) -> Result<Arc<Self>, KvError> {
        let mut open = BTreeMap::new();
        let mut cursor = kv.cursor(Table::System, KEY_PREFIX, KEYS_END)?;
        cursor.seek(KEY_PREFIX)?;
        while let Some((key, _)) = cursor.entry() {
            open.insert(parse(key)?, true);
            cursor.next()?;
        }
        drop(cursor);
        let overflowed = kv.get(Table::System, OVERFLOW_KEY)?.is_some();
        Ok(Arc::new(Self { kv, state: Mutex::new(State { open, overflowed, mended: 0 }) }))
    }

    /// Reports a chunk that is damaged or missing here. Never blocks.
    pub fn report(&self, chunk: ChunkId) {
        let mut state = self.state.lock();
        if state.open.len() < DAMAGED_MAX {
            state.open.entry(chunk).or_insert(false);
        } else if !state.open.contains_key(&chunk) {
            state.overflowed = true;
        }
    }

    /// Whether a chunk is known to be damaged, or to be missing, and not mended yet.
    pub fn is_open(&self, chunk: ChunkId) -> bool {
        self.state.lock().open.contains_key(&chunk)
    }

    /// How many wait to be mended: at least one when there were too many to remember.
    pub fn open_count(&self) -> u64 {
        let state = self.state.lock();
        state.open.len() as u64 + u64::from(state.overflowed)
    }

    /// How many wait to be mended of each partition.
    pub fn by_partition(&self, map: &ClusterMap) -> BTreeMap<PartitionId, u64> {
        let mut damaged = BTreeMap::new();
        for chunk in self.state.lock().open.keys() {
            *damaged.entry(map.partition_of_chunk(*chunk)).or_default() += 1;
        }
        damaged
    }

    /// How many were mended since the start.
    pub fn mended_count(&self) -> u64 {
        self.state.lock().mended
    }

    fn page(&self, after: Option<ChunkId>) -> Vec<ChunkId> {
        let state = self.state.lock();
        let chunks = state.open.keys().copied().filter(|chunk| after.is_none_or(|after| *chunk > after));
        chunks.take(PAGE_CHUNKS).collect()
    }

    /// Whether reports were dropped and there is room again: whoever finds damage is to look once more.
    pub(super) fn has_room_again(&self) -> bool {
        let state = self.state.lock();
        state.overflowed && state.open.len() <= DAMAGED_MAX / 2
    }

    /// All are looked for once more: what was dropped is found again.
    pub(super) async fn forget_overflow(self: &Arc<Self>) -> Result<(), KvError> {
        self.state.lock().overflowed = false;
        self.write(|batch| batch.delete(Table::System, OVERFLOW_KEY)).await
    }

    /// Remembers all that is open on disk, before what comes next in the order of writes.
    pub(super) async fn remember_all(self: &Arc<Self>) -> Result<(), KvError> {
        let (new, overflowed): (Vec<ChunkId>, bool) = {
            let state = self.state.lock();
            (state.open.iter().filter(|(_, stored)| !**stored).map(|(chunk, _)| *chunk).collect(), state.overflowed)
        };
        if new.is_empty() && !overflowed {
            return Ok(());
        }
        self.write(|batch| {
            new.iter().for_each(|chunk| batch.put(Table::System, key(*chunk), &[VALUE_VERSION][..]));
            if overflowed {
                batch.put(Table::System, OVERFLOW_KEY, &[VALUE_VERSION][..]);
            }
        })
        .await?;
        self.remembered(&new);
        Ok(())
    }

    /// A chunk is well again, or was never damaged.
    pub(crate) async fn close(self: &Arc<Self>, chunk: ChunkId, mended: bool) -> Result<(), KvError> {
        let stored = {
            let mut state = self.state.lock();
            state.mended += u64::from(mended);
            state.open.remove(&chunk)
        };
        if stored != Some(true) {
            return Ok(());
        }
        self.write(move |batch| batch.delete(Table::System, key(chunk))).await
    }

    async fn remember(self: &Arc<Self>, chunk: ChunkId) -> Result<(), KvError> {
        if self.state.lock().open.get(&chunk) != Some(&false) {
            return Ok(());
        }
        self.write(move |batch| batch.put(Table::System, key(chunk), &[VALUE_VERSION][..])).await?;
        self.remembered(&[chunk]);
        Ok(())
    }

    /// These are on disk. One that was closed meanwhile is looked at again after a restart, and is well.
    fn remembered(&self, chunks: &[ChunkId]) {
        let mut state = self.state.lock();
        for chunk in chunks {
            if let Some(stored) = state.open.get_mut(chunk) {
                *stored = true;
            }
        }
    }

    /// What a crash loses of this is found again by the next read or scrub.
    async fn write(self: &Arc<Self>, change: impl FnOnce(&mut Batch)) -> Result<(), KvError> {
        let mut batch = Batch::default();
        change(&mut batch);
        let kv = Arc::clone(&self.kv);
        on_disk("remembering damaged chunks", move || kv.write(batch, Durability::Buffered)).await
    }
}

pub(super) fn key(chunk: ChunkId) -> Vec<u8> {
    [KEY_PREFIX, &chunk.to_bytes()].concat()
}

fn parse(key: &[u8]) -> Result<ChunkId, KvError> {
    let id = key.strip_prefix(KEY_PREFIX).and_then(|id| id.try_into().ok());
    let during = "reading damaged chunks";
    id.map(ChunkId::from_bytes).ok_or_else(|| KvError::Corrupt { during, reason: "a key is no chunk's".to_owned() })
}

/// The loop and what it works with.
pub(super) struct Mending {
    me: NodeId,
    chunks: Arc<ChunkStore>,
    damage: Arc<Damage>,
    map: MapWatch,
    owners: Arc<Owners>,
    fetcher: Arc<Fetcher>,
    /// Where the next turn goes on.
    place: Option<ChunkId>,
}

/// What became of a chunk that was reported.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Mended,
    /// It is well, or it should not be here.
    NothingToDo,
    /// No holder has it: removed, or lost.
    Nowhere,
    Open,
}

impl Worker for Mending {
    async fn turn(&mut self) -> Next {
        let page = self.damage.page(self.place);
        self.place = page.last().copied();
        if page.is_empty() {
            return Next::After(PAUSE);
        }
        let (this, map) = (&*self, self.map.latest());
        let map = &*map;
        let mending = page.into_iter().map(|chunk| async move { (chunk, this.try_to_mend(map, chunk).await) });
        let tried: Vec<(ChunkId, Outcome)> = stream::iter(mending).buffer_unordered(CHUNKS_AT_ONCE).collect().await;
        let mut any_closed = false;
        for (chunk, outcome) in self.find_lost(map, tried).await {
            any_closed |= outcome != Outcome::Open;
            self.note(chunk, outcome).await;
        }
        if any_closed { Next::AtOnce } else { Next::After(RETRY_PAUSE) }
    }
}

impl Mending {
    pub(super) fn new(seams: &RepairSeams, tools: &Tools) -> Self {
        Self {
            me: seams.node,
            chunks: Arc::clone(&seams.chunks),
            damage: Arc::clone(&seams.damage),
            map: seams.map.clone(),
            owners: Arc::clone(&tools.owners),
            fetcher: Arc::clone(&tools.fetcher),
            place: None,
        }
    }

    async fn try_to_mend(&self, map: &ClusterMap, chunk: ChunkId) -> Outcome {
        self.mend(map, chunk).await.unwrap_or_else(|error| {
            tracing::warn!(?chunk, %error, "a damaged chunk is not mended now");
            Outcome::Open
        })
    }

    /// Asks who refers to chunks that are nowhere: one question to each partition for all of them.
    async fn find_lost(&self, map: &ClusterMap, tried: Vec<(ChunkId, Outcome)>) -> Vec<(ChunkId, Outcome)> {
        let nowhere = tried.iter().filter(|(_, outcome)| *outcome == Outcome::Nowhere);
        let parts: BTreeSet<PartId> = nowhere.map(|(chunk, _)| chunk.part).collect();
        if parts.is_empty() {
            return tried;
        }
        let referenced = self.owners.references_anywhere(map, &parts).await;
        let judge = |(chunk, outcome): (ChunkId, Outcome)| {
            let outcome = match (outcome, referenced.get(&chunk.part)) {
                (Outcome::Nowhere, Some(false)) => Outcome::NothingToDo,
                (Outcome::Nowhere, Some(true)) => {
                    tracing::error!(?chunk, "a chunk is lost: no holder has it, and its part is referred to");
                    Outcome::Open
                }
                (Outcome::Nowhere, None) => Outcome::Open,
                (outcome, _) => outcome,
            };
            (chunk, outcome)
        };
        tried.into_iter().map(judge).collect()
    }

    async fn note(&self, chunk: ChunkId, outcome: Outcome) {
        let noted = match outcome {
            Outcome::Open | Outcome::Nowhere => self.damage.remember(chunk).await,
            Outcome::Mended | Outcome::NothingToDo => self.damage.close(chunk, outcome == Outcome::Mended).await,
        };
        if let Err(error) = noted {
            tracing::warn!(?chunk, %error, "what became of a damaged chunk is not remembered");
        }
    }

    async fn mend(&self, map: &ClusterMap, chunk: ChunkId) -> Result<Outcome, FetchError> {
        match self.chunks.get(chunk, 0..CHUNK_BYTES).await {
            Ok(_) => return Ok(Outcome::NothingToDo),
            Err(ChunkError::NotFound { .. }) => return self.find(map, chunk).await,
            Err(ChunkError::Corrupt { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let copy = self.fetcher.paid_copy(map, chunk).await?;
        // A header that can be read says what the bytes were: other bytes are no copy.
        if let Ok(Some(info)) = self.chunks.stat(chunk).await
            && (info.owner, &info.piece_crcs) != (copy.owner, &copy.piece_crcs)
        {
            tracing::error!(?chunk, "the other copy of a damaged chunk is not the same chunk");
            return Ok(Outcome::Open);
        }
        let Copy { owner, piece_crcs, data } = copy;
        self.chunks.mend(chunk, owner, piece_crcs, data).await?;
        tracing::info!(?chunk, "a damaged chunk is mended");
        Ok(Outcome::Mended)
    }

    /// A chunk that was expected here and is not: it may have been missed, and it may have been removed.
    async fn find(&self, map: &ClusterMap, chunk: ChunkId) -> Result<Outcome, FetchError> {
        if !map.replicas(map.partition_of_chunk(chunk)).contains(&self.me) {
            return Ok(Outcome::NothingToDo);
        }
        let Copy { owner, piece_crcs, data } = match self.fetcher.paid_copy(map, chunk).await {
            Ok(copy) => copy,
            Err(FetchError::NoGoodCopy) => return Ok(Outcome::Nowhere),
            Err(error) => return Err(error),
        };
        let referenced = self.owners.references(map, [OwnedPart { owner, part: chunk.part }]).await;
        match referenced.get(&chunk.part) {
            Some(true) => self.chunks.put(chunk, owner, piece_crcs, data).await?,
            Some(false) => return Ok(Outcome::NothingToDo),
            None => return Ok(Outcome::Open),
        }
        tracing::info!(?chunk, "a chunk that was missed by a reader is here again");
        Ok(Outcome::Mended)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use annulus_common::ids::{ChunkId, PartId};

    use super::{DAMAGED_MAX, Damage};
    use crate::kv::memory::MemoryKv;
    use crate::kv::{KvRead, Table};

    fn chunk(number: u32) -> ChunkId {
        ChunkId { part: PartId([7; 16]), index: number }
    }

    #[tokio::test]
    async fn reports_of_one_chunk_are_one_and_what_stays_open_outlives_a_restart() {
        let kv = Arc::new(MemoryKv::new());
        let damage = Damage::open(kv.clone()).unwrap();
        for number in [1, 2, 1, 3] {
            damage.report(chunk(number));
        }
        assert_eq!(damage.page(None), [chunk(1), chunk(2), chunk(3)]);
        assert_eq!(damage.page(Some(chunk(2))), [chunk(3)]);
        for number in [1, 2] {
            damage.remember(chunk(number)).await.unwrap();
        }
        damage.close(chunk(1), true).await.unwrap();
        assert_eq!((damage.open_count(), damage.mended_count()), (2, 1));
        let damage = Damage::open(kv).unwrap();
        assert_eq!(damage.page(None), [chunk(2)]);
    }

    /// The bytes on disk, drawn in FORMATS.md.
    #[tokio::test]
    async fn version_1_stays_as_it_is() {
        let kv = Arc::new(MemoryKv::new());
        let damage = Damage::open(kv.clone()).unwrap();
        damage.report(chunk(258));
        damage.remember(chunk(258)).await.unwrap();
        let key = [&b"repair/damaged/\x07\x07\x07\x07\x07\x07\x07\x07"[..], &[7; 8], &[0, 0, 1, 2]].concat();
        assert_eq!(kv.get(Table::System, &key).unwrap().unwrap(), &[1][..]);
    }

    #[test]
    fn a_dying_disk_is_never_taken_for_a_healthy_one() {
        let damage = Damage::open(Arc::new(MemoryKv::new())).unwrap();
        (0..DAMAGED_MAX as u32 + 5).for_each(|number| damage.report(chunk(number)));
        assert_eq!(damage.open_count(), DAMAGED_MAX as u64 + 1);
    }

    #[tokio::test]
    async fn what_was_reported_or_dropped_outlives_a_restart_once_the_scrub_has_noted_its_place() {
        let kv = Arc::new(MemoryKv::new());
        let damage = Damage::open(kv.clone()).unwrap();
        (0..DAMAGED_MAX as u32 + 5).for_each(|number| damage.report(chunk(number)));
        damage.remember_all().await.unwrap();
        let damage = Damage::open(kv.clone()).unwrap();
        assert_eq!(damage.open_count(), DAMAGED_MAX as u64 + 1);
        for number in 0..DAMAGED_MAX as u32 / 2 {
            assert!(!damage.has_room_again(), "{number}");
            damage.close(chunk(number), true).await.unwrap();
        }
        assert!(damage.has_room_again());
        damage.forget_overflow().await.unwrap();
        assert!(!damage.has_room_again());
        assert_eq!(Damage::open(kv).unwrap().open_count(), DAMAGED_MAX as u64 / 2);
    }
}
