//! Disks that fail or are full: a worker waits or ends, and never acknowledges what is not stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use annulus_common::ids::NodeId;
use annulus_common::protocol::room::RoomFor;

use super::{GROUP, Net, answered};
use crate::kv::{Batch, Checkpoint, Cursor, Durability, Kv, KvError, KvRead, Table};
use crate::raft::{GroupSpec, Input, Limits, Outbox, RaftError, Worker, WorkerConfig};

/// A disk whose next writes fail.
struct FailingKv {
    inner: Arc<dyn Kv>,
    failures: Arc<AtomicU32>,
}

impl KvRead for FailingKv {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<bytes::Bytes>, KvError> {
        self.inner.get(table, key)
    }

    fn cursor<'a>(&'a self, table: Table, lower: &[u8], upper: &[u8]) -> Result<Box<dyn Cursor + 'a>, KvError> {
        self.inner.cursor(table, lower, upper)
    }
}

impl Kv for FailingKv {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), KvError> {
        let due = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if due.is_ok() { Err(KvError::Full { during: "testing" }) } else { self.inner.write(batch, durability) }
    }

    fn snapshot(&self) -> Box<dyn KvRead + '_> {
        self.inner.snapshot()
    }

    fn room(&self) -> RoomFor {
        self.inner.room()
    }

    fn disk_bytes(&self, table: Table, from: &[u8], to: &[u8]) -> u64 {
        self.inner.disk_bytes(table, from, to)
    }

    fn checkpoint(&self) -> Result<Box<dyn Checkpoint>, KvError> {
        self.inner.checkpoint()
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_only_delays() {
    let mut net = Net::new(3, 1);
    let leader = net.elect();
    net.stop(leader);
    let failures = Arc::new(AtomicU32::new(0));
    let kv = FailingKv { inner: net.nodes[&leader].kv.clone(), failures: Arc::clone(&failures) };
    net.start_on(leader, Arc::new(kv));
    net.converge();
    for number in 0..10 {
        failures.store(2, Ordering::SeqCst);
        net.commit(format!("{number}"));
    }
    net.converge();
    assert_eq!(failures.load(Ordering::SeqCst), 0);
}

#[test]
fn a_disk_that_stays_full_acknowledges_nothing_and_ends_the_worker() {
    let failures = Arc::new(AtomicU32::new(0));
    let kv: Arc<dyn Kv> =
        Arc::new(FailingKv { inner: Arc::new(crate::kv::memory::MemoryKv::new()), failures: Arc::clone(&failures) });
    let sent = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&sent);
    let count = move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    let outbox = Outbox { send: Arc::new(count) };
    let config = WorkerConfig { node: NodeId(1), seed: 1, index: 0, workers: 1, limits: Limits::default() };
    let mut worker = Worker::new(config, Arc::clone(&kv), outbox, Box::new(|_, attempt| attempt < 5));
    let (reply, _created) = tokio::sync::oneshot::channel();
    let machine = Box::new(super::Journal::new(kv, GROUP));
    worker
        .turn(vec![Input::Create { spec: GroupSpec { group: GROUP, voters: vec![NodeId(1)] }, machine, reply }])
        .unwrap();
    failures.store(u32::MAX, Ordering::SeqCst);
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    let result = worker.turn(vec![Input::Propose { group: GROUP, command: "lost".into(), reply }]);
    assert!(matches!(result, Err(RaftError::Storage { .. })));
    assert_eq!(answered(&mut answer), None);
    worker.stop(&RaftError::Uncertain);
    assert_eq!(answered(&mut answer), Some(Err(RaftError::Uncertain)));
    assert_eq!(sent.load(Ordering::SeqCst), 0);
}
