//! Hints: that a node is owed a chunk which this node has. Here they are kept, counted and forgotten; delivering them is
//! repair's.
//!
//! ```text
//! Hint: node id u64 BE | chunk id (20 bytes)   -> nothing
//! ```

use std::collections::BTreeMap;

use annulus_common::ids::{ChunkId, NodeId};
use bytes::Bytes;

use crate::kv::{Batch, KvError, KvRead, Table};

const NODE_BYTES: usize = 8;
const CHUNK_BYTES: usize = 20;

/// Remembers that `node` is owed `chunk`. Again is no different from once.
pub fn put(batch: &mut Batch, node: NodeId, chunk: ChunkId) {
    batch.put(Table::Hint, key(node, chunk), Bytes::new());
}

/// Forgets it.
pub fn delete(batch: &mut Batch, node: NodeId, chunk: ChunkId) {
    batch.delete(Table::Hint, key(node, chunk));
}

/// The next chunks that `node` is owed, at most `limit`, in the order of their ids.
pub fn page(
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

/// How many chunks each node is owed.
pub fn count(kv: &(impl KvRead + ?Sized)) -> Result<BTreeMap<NodeId, u64>, KvError> {
    let mut counts = BTreeMap::new();
    let mut cursor = kv.cursor(Table::Hint, &[], &[u8::MAX; NODE_BYTES + 1])?;
    cursor.seek(&[])?;
    while let Some((found, _)) = cursor.entry() {
        *counts.entry(parse(found)?.0).or_default() += 1;
        cursor.next()?;
    }
    Ok(counts)
}

fn range(node: NodeId) -> (Vec<u8>, Vec<u8>) {
    (node.0.to_be_bytes().to_vec(), (node.0 + 1).to_be_bytes().to_vec())
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
    let corrupt = || KvError::Corrupt { during: "reading a hint", reason: format!("a key of {} bytes", key.len()) };
    let (node, chunk) = key.split_at_checked(NODE_BYTES).ok_or_else(corrupt)?;
    let chunk: &[u8; CHUNK_BYTES] = chunk.try_into().map_err(|_| corrupt())?;
    let node = node.try_into().map_err(|_| corrupt())?;
    Ok((NodeId(u64::from_be_bytes(node)), ChunkId::from_bytes(chunk)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use annulus_common::ids::{ChunkId, NodeId, PartId};

    use super::{count, delete, page, put};
    use crate::kv::memory::MemoryKv;
    use crate::kv::{Batch, Durability, Kv};

    fn chunk(part: u8, index: u32) -> ChunkId {
        ChunkId { part: PartId([part; 16]), index }
    }

    #[test]
    fn what_a_node_is_owed_is_paged_in_order_and_forgotten_one_by_one() {
        let kv = MemoryKv::new();
        let mut batch = Batch::default();
        for (node, owed) in [(1, chunk(255, 3)), (1, chunk(2, 0)), (2, chunk(2, 0)), (1, chunk(2, 0)), (1, chunk(2, 9))] {
            put(&mut batch, NodeId(node), owed);
        }
        kv.write(batch, Durability::Synced).unwrap();
        assert_eq!(page(&kv, NodeId(1), None, 2).unwrap(), [chunk(2, 0), chunk(2, 9)]);
        assert_eq!(page(&kv, NodeId(1), Some(chunk(2, 9)), 2).unwrap(), [chunk(255, 3)]);
        assert_eq!(page(&kv, NodeId(3), None, 2).unwrap(), []);
        let mut batch = Batch::default();
        delete(&mut batch, NodeId(1), chunk(2, 9));
        kv.write(batch, Durability::Synced).unwrap();
        assert_eq!(count(&kv).unwrap(), BTreeMap::from([(NodeId(1), 2), (NodeId(2), 1)]));
    }
}
