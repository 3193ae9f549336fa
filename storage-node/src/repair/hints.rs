//! Hints: that a node is owed a chunk which this node has. Here they are kept, counted and forgotten; `deliver` acts on them.
//!
//! ```text
//! Hint: node id u64 BE | chunk id (20 bytes)   -> version 1 u8 | since, Unix milliseconds u64 BE
//! ```
//!
//! A hint that is lost is a chunk with a copy too few until anti-entropy finds it: so adding is durable, as the chunk is. A
//! removal that is lost costs one question to a node that answers "I have it": so removing is not.

use std::collections::BTreeMap;
use std::sync::Arc;

use annulus_common::clock::SharedClock;
use annulus_common::ids::{ChunkId, NodeId};
use parking_lot::Mutex;

use super::on_disk;
use crate::kv::{Batch, Durability, Kv, KvError, KvRead, Table};

const NODE_BYTES: usize = 8;
const CHUNK_BYTES: usize = 20;
const VALUE_VERSION: u8 = 1;

/// The hints of a node.
pub struct HintStore {
    kv: Arc<dyn Kv>,
    clock: SharedClock,
    /// Never less than what is stored: an addition is counted after it is written, and a node leaves only when a look under this
    /// lock finds nothing. It may be more, when two ask for the same hint at once, until the node has been served.
    counts: Mutex<BTreeMap<NodeId, u64>>,
}

impl HintStore {
    /// The hints in a database that has the table `Hint`. Counts them: it blocks.
    pub fn open(kv: Arc<dyn Kv>, clock: SharedClock) -> Result<Arc<Self>, KvError> {
        let counts = Mutex::new(count(&*kv)?);
        Ok(Arc::new(Self { kv, clock, counts }))
    }

    /// Remembers what each node is owed, durably. Again is no different from once.
    pub async fn add(self: &Arc<Self>, owed: Vec<(NodeId, ChunkId)>) -> Result<(), KvError> {
        let store = Arc::clone(self);
        on_disk("adding hints", move || store.add_blocking(owed)).await
    }

    /// How many chunks each node is owed; nodes that are owed none are left out.
    pub fn pending(&self) -> Vec<(NodeId, u64)> {
        self.counts.lock().iter().map(|(node, count)| (*node, *count)).collect()
    }

    /// The next chunks that `node` is owed, at most `limit`, in the order of their ids.
    pub async fn page(
        self: &Arc<Self>,
        node: NodeId,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<ChunkId>, KvError> {
        let store = Arc::clone(self);
        on_disk("reading hints", move || store.page_blocking(node, after, limit)).await
    }

    /// Forgets that `node` is owed these chunks, whether it was or not.
    pub async fn remove(self: &Arc<Self>, node: NodeId, chunks: Vec<ChunkId>) -> Result<(), KvError> {
        let store = Arc::clone(self);
        on_disk("removing hints", move || store.remove_blocking(node, chunks)).await
    }

    fn add_blocking(&self, mut owed: Vec<(NodeId, ChunkId)>) -> Result<(), KvError> {
        owed.sort_unstable();
        owed.dedup();
        let value = value(self.clock.now_ms());
        let mut batch = Batch::default();
        let mut added: BTreeMap<NodeId, u64> = BTreeMap::new();
        for (node, chunk) in owed {
            let key = key(node, chunk);
            // What is there was written by a synced write, and keeps the time since which the node is owed.
            if self.kv.get(Table::Hint, &key)?.is_none() {
                batch.put(Table::Hint, key, value.clone());
                *added.entry(node).or_default() += 1;
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.kv.write(batch, Durability::Synced)?;
        let mut counts = self.counts.lock();
        added.into_iter().for_each(|(node, count)| *counts.entry(node).or_default() += count);
        Ok(())
    }

    fn page_blocking(&self, node: NodeId, after: Option<ChunkId>, limit: usize) -> Result<Vec<ChunkId>, KvError> {
        let found = page(&*self.kv, node, after, limit)?;
        if found.is_empty() && after.is_none() {
            let mut counts = self.counts.lock();
            if page(&*self.kv, node, None, 1)?.is_empty() {
                counts.remove(&node);
            }
        }
        Ok(found)
    }

    fn remove_blocking(&self, node: NodeId, chunks: Vec<ChunkId>) -> Result<(), KvError> {
        let mut batch = Batch::default();
        let mut removed = 0;
        let mut counts = self.counts.lock();
        for chunk in chunks {
            let key = key(node, chunk);
            if self.kv.get(Table::Hint, &key)?.is_some() {
                batch.delete(Table::Hint, key);
                removed += 1;
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.kv.write(batch, Durability::Buffered)?;
        match counts.get_mut(&node) {
            Some(count) if *count > removed => *count -= removed,
            _ => drop(counts.remove(&node)),
        }
        Ok(())
    }
}

fn page(
    kv: &(impl KvRead + ?Sized),
    node: NodeId,
    after: Option<ChunkId>,
    limit: usize,
) -> Result<Vec<ChunkId>, KvError> {
    let (from, to) = range(node);
    let mut cursor = kv.cursor(Table::Hint, &from, &to)?;
    cursor.seek(&after.map_or(from, |after| key_after(node, after)))?;
    let mut chunks = Vec::new();
    while let Some((found, _)) = cursor.entry()
        && chunks.len() < limit
    {
        chunks.push(parse(found)?.1);
        cursor.next()?;
    }
    Ok(chunks)
}

fn count(kv: &(impl KvRead + ?Sized)) -> Result<BTreeMap<NodeId, u64>, KvError> {
    let mut counts = BTreeMap::new();
    let mut cursor = kv.cursor(Table::Hint, &[], &[u8::MAX; NODE_BYTES + 1])?;
    cursor.seek(&[])?;
    while let Some((found, value)) = cursor.entry() {
        let (node, _) = parse(found)?;
        check_value(value)?;
        *counts.entry(node).or_default() += 1;
        cursor.next()?;
    }
    Ok(counts)
}

fn range(node: NodeId) -> (Vec<u8>, Vec<u8>) {
    (node.0.to_be_bytes().to_vec(), node.0.saturating_add(1).to_be_bytes().to_vec())
}

fn key(node: NodeId, chunk: ChunkId) -> Vec<u8> {
    [&node.0.to_be_bytes()[..], &chunk.to_bytes()].concat()
}

fn key_after(node: NodeId, chunk: ChunkId) -> Vec<u8> {
    let mut key = key(node, chunk);
    key.push(0);
    key
}

fn parse(key: &[u8]) -> Result<(NodeId, ChunkId), KvError> {
    let corrupt = || corrupt(format!("a key of {} bytes", key.len()));
    let (node, chunk) = key.split_first_chunk::<NODE_BYTES>().ok_or_else(corrupt)?;
    let chunk: &[u8; CHUNK_BYTES] = chunk.try_into().map_err(|_| corrupt())?;
    Ok((NodeId(u64::from_be_bytes(*node)), ChunkId::from_bytes(chunk)))
}

fn value(since_ms: u64) -> Vec<u8> {
    [&[VALUE_VERSION][..], &since_ms.to_be_bytes()].concat()
}

/// A value of another version was written by software that knows more than this one does.
fn check_value(value: &[u8]) -> Result<(), KvError> {
    match value {
        [VALUE_VERSION, since @ ..] if since.len() == 8 => Ok(()),
        _ => Err(corrupt(format!("a value of {} bytes that begins with {:?}", value.len(), value.first()))),
    }
}

fn corrupt(reason: String) -> KvError {
    KvError::Corrupt { during: "reading a hint", reason }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use annulus_common::clock::ManualClock;
    use annulus_common::ids::{ChunkId, NodeId, PartId};

    use super::{HintStore, check_value, key, value};
    use crate::kv::memory::MemoryKv;
    use crate::kv::{Batch, Durability, Kv, Table};

    fn chunk(part: u8, index: u32) -> ChunkId {
        ChunkId { part: PartId([part; 16]), index }
    }

    fn open(kv: &Arc<MemoryKv>) -> Arc<HintStore> {
        HintStore::open(kv.clone(), ManualClock::at(Duration::from_secs(9))).unwrap()
    }

    #[tokio::test]
    async fn what_a_node_is_owed_is_paged_in_order_and_forgotten_one_by_one() {
        let kv = Arc::new(MemoryKv::new());
        let hints = open(&kv);
        let owed = [(1, chunk(255, 3)), (1, chunk(2, 0)), (2, chunk(2, 0)), (1, chunk(2, 0)), (1, chunk(2, 9))];
        hints.add(owed.map(|(node, chunk)| (NodeId(node), chunk)).to_vec()).await.unwrap();
        assert_eq!(hints.page(NodeId(1), None, 2).await.unwrap(), [chunk(2, 0), chunk(2, 9)]);
        assert_eq!(hints.page(NodeId(1), Some(chunk(2, 9)), 2).await.unwrap(), [chunk(255, 3)]);
        assert_eq!(hints.page(NodeId(3), None, 2).await.unwrap(), []);
        hints.remove(NodeId(1), vec![chunk(2, 9), chunk(7, 7)]).await.unwrap();
        assert_eq!(hints.pending(), [(NodeId(1), 2), (NodeId(2), 1)]);
    }

    #[tokio::test]
    async fn hints_survive_a_crash_and_are_counted_again() {
        let kv = Arc::new(MemoryKv::new());
        let hints = open(&kv);
        hints.add(vec![(NodeId(4), chunk(1, 0)), (NodeId(4), chunk(1, 1))]).await.unwrap();
        kv.crash();
        let hints = open(&kv);
        assert_eq!(hints.pending(), [(NodeId(4), 2)]);
        hints.remove(NodeId(4), vec![chunk(1, 0), chunk(1, 1)]).await.unwrap();
        assert_eq!(hints.page(NodeId(4), None, 1).await.unwrap(), []);
        assert_eq!(hints.pending(), []);
    }

    #[tokio::test]
    async fn a_hint_that_is_there_keeps_its_time_and_its_count() {
        let kv = Arc::new(MemoryKv::new());
        let clock = ManualClock::at(Duration::from_secs(9));
        let hints = HintStore::open(kv.clone(), clock.clone()).unwrap();
        hints.add(vec![(NodeId(4), chunk(1, 0))]).await.unwrap();
        clock.advance(Duration::from_secs(1));
        hints.add(vec![(NodeId(4), chunk(1, 0))]).await.unwrap();
        assert_eq!(hints.pending(), [(NodeId(4), 1)]);
        let record = hints.kv.get(Table::Hint, &key(NodeId(4), chunk(1, 0))).unwrap().unwrap();
        assert_eq!(record, value(9_000));
    }

    #[test]
    fn a_record_of_another_version_is_refused() {
        assert!(check_value(&value(5)).is_ok());
        let kv = Arc::new(MemoryKv::new());
        let mut batch = Batch::default();
        batch.put(Table::Hint, key(NodeId(1), chunk(0, 0)), vec![2, 0]);
        kv.write(batch, Durability::Synced).unwrap();
        assert!(HintStore::open(kv, ManualClock::at(Duration::ZERO)).is_err());
    }
}
