//! What has arrived of the moves that go on, on the disk: so that a node which restarts need not compare itself with everybody
//! again before a move can end. When something has arrived is `redundancy`'s to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use annulus_common::ids::{Epoch, PartitionId};

use super::on_disk;
use crate::kv::{Batch, Durability, Kv, KvError, Table};

/// Moves of which a node has all chunks, by their epochs. It stays so until the move is over or another begins: chunks only go
/// when nobody refers to them.
pub(super) type Arrivals = BTreeMap<PartitionId, Epoch>;

/// Their place in `System`.
const KEY: &[u8] = b"repair/arrivals";
const VERSION: u8 = 1;

/// What was stored last; nothing where another version wrote it, as it only has to be compared again.
pub(super) async fn load(kv: &Arc<dyn Kv>) -> Result<Arrivals, KvError> {
    let kv = Arc::clone(kv);
    let stored = on_disk("reading what has arrived", move || kv.get(Table::System, KEY)).await?;
    Ok(stored.as_deref().and_then(decode).unwrap_or_default())
}

/// Stores them. What a crash takes of it only has to be compared again.
pub(super) async fn save(kv: &Arc<dyn Kv>, arrivals: &Arrivals) -> Result<(), KvError> {
    let (kv, bytes) = (Arc::clone(kv), encode(arrivals));
    let write = move || {
        let mut batch = Batch::default();
        batch.put(Table::System, KEY, bytes);
        kv.write(batch, Durability::Buffered)
    };
    on_disk("remembering what has arrived", write).await
}

fn encode(arrivals: &Arrivals) -> Vec<u8> {
    postcard::to_extend(arrivals, vec![VERSION]).expect("numbers always encode")
}

fn decode(bytes: &[u8]) -> Option<Arrivals> {
    let (&VERSION, body) = bytes.split_first()? else { return None };
    postcard::from_bytes(body).ok()
}

#[cfg(test)]
mod tests {
    use annulus_common::ids::{Epoch, PartitionId};

    use super::{Arrivals, decode, encode};

    /// The bytes on disk, drawn in FORMATS.md.
    #[test]
    fn version_1_stays_as_it_is() {
        let arrivals: Arrivals = [(PartitionId(3), Epoch(300)), (PartitionId(5), Epoch(7))].into();
        assert_eq!(encode(&arrivals), [1, 2, 3, 0xac, 2, 5, 7]);
        assert_eq!(decode(&encode(&arrivals)), Some(arrivals));
        assert_eq!(decode(&[2, 0]), None);
    }
}
