//! The node's databases read from the disk, a piece at a time: for the scrub and for audits, which walk through them at paces of
//! their own and share what is held for that. Nothing is mended: a database that is damaged is the end of the node.

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use parking_lot::Mutex;

use crate::kv::{Checkpoint, Kv, KvError, Table};

/// How long files are held on to: what compactions replace meanwhile stays on the disk. To make a checkpoint takes some syncs.
const HELD_MAX: Duration = Duration::from_secs(5 * 60);

/// Which database a table is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Database {
    /// Raft logs and metadata.
    Metadata,
    /// Where chunks lie.
    ChunkIndex,
}

/// Everything that is read, in this order. Places are stored by their number here.
const TABLES: [(Database, Table); 7] = [
    (Database::Metadata, Table::System),
    (Database::Metadata, Table::Log),
    (Database::Metadata, Table::Meta),
    (Database::Metadata, Table::Hint),
    (Database::ChunkIndex, Table::System),
    (Database::ChunkIndex, Table::ChunkIndex),
    (Database::ChunkIndex, Table::Extent),
];

/// Where to go on: the number of a table, and a key.
pub(crate) type Place = (u8, Vec<u8>);

/// The databases of a node.
pub struct Databases {
    metadata: Opened,
    chunk_index: Opened,
    clock: SharedClock,
}

/// A database, and the files of it that are being read.
struct Opened {
    kv: Arc<dyn Kv>,
    held: Mutex<Option<Held>>,
}

struct Held {
    since: Duration,
    checkpoint: Box<dyn Checkpoint>,
}

impl Databases {
    pub(crate) fn new(metadata: Arc<dyn Kv>, chunk_index: Arc<dyn Kv>, clock: SharedClock) -> Self {
        let opened = |kv| Opened { kv, held: Mutex::new(None) };
        Self { metadata: opened(metadata), chunk_index: opened(chunk_index), clock }
    }

    /// Reads and checks about so many bytes from a place on, the default one being the beginning. Returns where to go on; nothing
    /// at the end. It blocks.
    pub(crate) fn verify(&self, (number, from): Place, bytes_max: usize) -> Result<Option<Place>, KvError> {
        let Some(&(database, table)) = TABLES.get(usize::from(number)) else { return Ok(None) };
        let opened = self.opened(database);
        // Who begins with a database, whose first table this is, reads the files of now.
        let begins = table == Table::System && from.is_empty();
        let mut slot = opened.held.lock();
        let held = match slot.take().filter(|held| !begins && !self.is_old(held)) {
            Some(held) => held,
            None => Held { since: self.clock.monotonic(), checkpoint: opened.kv.checkpoint()? },
        };
        let next = match held.checkpoint.verify(table, &from, bytes_max)? {
            Some(key) => Some((number, key)),
            None => Some((number + 1, Vec::new())).filter(|(next, _)| usize::from(*next) < TABLES.len()),
        };
        let goes_on = next.as_ref().is_some_and(|(next, _)| TABLES[usize::from(*next)].0 == database);
        *slot = goes_on.then_some(held);
        Ok(next)
    }

    /// Lets go of files whose reader has not come back, as an audit that was given up. It blocks.
    pub(crate) fn let_go(&self) {
        for opened in [&self.metadata, &self.chunk_index] {
            // Whoever reads looks for himself.
            if let Some(mut slot) = opened.held.try_lock() {
                slot.take_if(|held| self.is_old(held));
            }
        }
    }

    fn opened(&self, database: Database) -> &Opened {
        match database {
            Database::Metadata => &self.metadata,
            Database::ChunkIndex => &self.chunk_index,
        }
    }

    fn is_old(&self, held: &Held) -> bool {
        self.clock.monotonic() >= held.since + HELD_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use annulus_common::clock::ManualClock;

    use super::{Databases, HELD_MAX};
    use crate::kv::memory::MemoryKv;
    use crate::kv::{Batch, Durability, Kv, Table};

    fn put(kv: &MemoryKv, table: Table, key: &[u8]) {
        let mut batch = Batch::default();
        batch.put(table, key.to_vec(), vec![1; 10]);
        kv.write(batch, Durability::Synced).unwrap();
    }

    /// Every place on the way from the beginning to the end.
    fn walk(databases: &Databases) -> Vec<(u8, Vec<u8>)> {
        let (mut places, mut at) = (Vec::new(), (0, Vec::new()));
        while let Some(next) = databases.verify(at, 1).unwrap() {
            places.push(next.clone());
            at = next;
        }
        places
    }

    fn holds(databases: &Databases) -> bool {
        [&databases.metadata, &databases.chunk_index].iter().any(|opened| opened.held.lock().is_some())
    }

    #[test]
    fn all_tables_of_both_databases_are_read() {
        let (metadata, index) = (Arc::new(MemoryKv::new()), Arc::new(MemoryKv::new()));
        for key in [b"a", b"b"] {
            put(&metadata, Table::Hint, key);
            put(&index, Table::ChunkIndex, key);
        }
        let databases = Databases::new(metadata, index, ManualClock::at(Duration::ZERO));
        let second = |table| (table, b"b".to_vec());
        let first = |table| (table, Vec::new());
        let all = [first(1), first(2), first(3), second(3), first(4), first(5), second(5), first(6)];
        assert_eq!(walk(&databases), all);
        assert!(!holds(&databases), "nothing is held when nobody reads");
        assert_eq!(databases.verify(first(7), 1).unwrap(), None);
    }

    #[test]
    fn who_begins_reads_the_files_of_now() {
        let metadata = Arc::new(MemoryKv::new());
        let databases = Databases::new(metadata.clone(), Arc::new(MemoryKv::new()), ManualClock::at(Duration::ZERO));
        assert_eq!(databases.verify((0, Vec::new()), 1).unwrap(), Some((1, Vec::new())));
        put(&metadata, Table::System, b"a");
        put(&metadata, Table::System, b"b");
        assert_eq!(databases.verify((0, Vec::new()), 1).unwrap(), Some((0, b"b".to_vec())));
    }

    #[test]
    fn files_are_let_go_of_when_nobody_comes_back_for_them() {
        let (metadata, clock) = (Arc::new(MemoryKv::new()), ManualClock::at(Duration::ZERO));
        put(&metadata, Table::System, b"a");
        let databases = Databases::new(metadata.clone(), Arc::new(MemoryKv::new()), clock.clone());
        let next = databases.verify((0, Vec::new()), 1).unwrap().unwrap();
        put(&metadata, Table::Log, b"later");
        put(&metadata, Table::Log, b"latest");
        assert_eq!(databases.verify(next.clone(), 1).unwrap(), Some((2, Vec::new())), "the files are the same");
        clock.advance(HELD_MAX - Duration::from_secs(1));
        databases.let_go();
        assert!(holds(&databases));
        clock.advance(Duration::from_secs(1));
        assert_eq!(databases.verify(next, 1).unwrap(), Some((1, b"latest".to_vec())));
        clock.advance(HELD_MAX);
        databases.let_go();
        assert!(!holds(&databases));
    }
}
