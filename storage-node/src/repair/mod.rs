//! Repair: the only mover of data. What is where and should not be, or should be and is not, is put right here.
//!
//! Read it in this order:
//!
//! - `compare` finds out what this node lacks, by comparing itself with the other holders of its partitions, and fetches it. It
//!   alone decides how redundant the data is, and writes it down in `redundancy`.
//! - `deliver` is the quick way: what was remembered to be owed to a node that was down (`hints`) is sent to it.
//! - `strays` copies what is here and belongs elsewhere to where it belongs, has that confirmed, and drops it.
//! - `scrub` reads everything on the disk once in a while (`databases` and chunks), and `mend` writes chunks anew that it or anybody else found damaged.
//! - `collect` removes known garbage from the whole cluster, `orphans` what nothing knows of, and `reclaim` gives the disk space
//!   of what was removed back.
//! - `audit` reads everything at once, when somebody asks.
//!
//! Each is a [`Worker`]: a loop over decisions that are plain functions. They share `peers`, the calls to other nodes, `fetch`,
//! which gets a good copy from whoever has one, `owners`, which asks whether a chunk is still referred to, and `throttle`, which
//! steps back when clients wait (`pressure`). Every step can be repeated, and what is done lies on the disk: a worker that begins
//! anew after a crash goes on where it was.
//! Nothing here makes a cluster map or judges a mutation.

mod arrivals;
pub(crate) mod audit;
mod collect;
mod compare;
pub(crate) mod databases;
mod deliver;
mod fetch;
pub mod hints;
pub mod mend;
mod orphans;
mod owners;
mod peers;
pub mod pressure;
mod reclaim;
pub mod redundancy;
mod scrub;
mod strays;
#[cfg(test)]
mod tests;
mod throttle;

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::NodeId;
use annulus_common::map::watch::MapWatch;
use annulus_common::rpc::SharedTransport;
use annulus_common::task::{Fatal, spawn_or_end};
use futures::future::join_all;
use tokio::task::JoinHandle;

use self::collect::Collection;
use self::compare::Comparison;
use self::databases::Databases;
use self::deliver::Delivery;
use self::fetch::Fetcher;
use self::hints::HintStore;
use self::mend::{Damage, Mending};
use self::orphans::Orphans;
use self::owners::Owners;
use self::peers::Peers;
use self::pressure::Foreground;
use self::reclaim::Reclaiming;
use self::redundancy::Redundancy;
use self::scrub::Scrub;
use self::strays::Strays;
use self::throttle::{Adapting, Throttle};
use crate::chunk::ChunkStore;
use crate::kv::{Kv, KvError};
use crate::raft::RaftNode;

/// How long the leader of the map may take to confirm it to a worker that must not decide by an old one.
const REFRESH_PATIENCE: Duration = Duration::from_secs(2);

/// How fast repair goes.
#[derive(Clone, Debug)]
pub struct RepairSettings {
    /// The most bytes that this node moves in a second, whoever moves them: half a gigabit network, so that clients feel little.
    pub bandwidth_bytes_per_second: u64,
    /// The pause between two comparisons with the other holders, when nothing is open.
    pub compare_interval: Duration,
    /// The pause before the next look for chunks that belong elsewhere.
    pub strays_pause: Duration,
    /// How long a chunk that belongs elsewhere is left alone: the hints that came with it are quicker, as a rule.
    pub stray_age_min: Duration,
    /// The pause before the next look for hints that are due.
    pub deliver_pause: Duration,
    /// How long bytes that no object refers to are kept.
    pub collect_grace: Duration,
    /// The pause before the next look for garbage.
    pub collect_pause: Duration,
    /// The most chunks that this node asks others to remove in a second, each from all its holders.
    pub collect_chunks_per_second: u64,
    /// How long a chunk is kept that nothing refers to and that is no known garbage: an upload that takes longer is refused.
    pub orphan_grace: Duration,
    /// The pause before the next look for orphans.
    pub orphans_pause: Duration,
    /// How often everything is read and checked.
    pub scrub_interval: Duration,
    /// How often the removed bytes are looked at.
    pub reclaim_check: Duration,
}

impl Default for RepairSettings {
    fn default() -> Self {
        Self {
            bandwidth_bytes_per_second: 64 << 20,
            compare_interval: Duration::from_secs(60),
            strays_pause: Duration::from_secs(30),
            stray_age_min: Duration::from_secs(60),
            deliver_pause: Duration::from_secs(1),
            collect_grace: Duration::from_secs(900),
            collect_pause: Duration::from_secs(10),
            collect_chunks_per_second: 2_000,
            orphan_grace: Duration::from_secs(24 * 60 * 60),
            orphans_pause: Duration::from_secs(10 * 60),
            scrub_interval: Duration::from_secs(30 * 24 * 60 * 60),
            reclaim_check: Duration::from_secs(60),
        }
    }
}

/// What repair works with.
#[derive(Clone)]
pub struct RepairSeams {
    /// This node.
    pub node: NodeId,
    /// The database of the metadata.
    pub kv: Arc<dyn Kv>,
    /// This one and that of the chunks, as they lie on the disk.
    pub databases: Arc<Databases>,
    /// What others are owed.
    pub hints: Arc<HintStore>,
    /// The chunks of this node.
    pub chunks: Arc<ChunkStore>,
    /// The groups of this node.
    pub raft: RaftNode,
    /// What is damaged here.
    pub damage: Arc<Damage>,
    /// How long clients wait.
    pub foreground: Arc<Foreground>,
    /// How complete this node is.
    pub redundancy: Arc<Redundancy>,
    /// Who holds what.
    pub map: MapWatch,
    /// The way to other nodes.
    pub transport: SharedTransport,
    /// The time.
    pub clock: SharedClock,
    /// Called when the node must not go on.
    pub fatal: Fatal,
    /// How fast.
    pub settings: RepairSettings,
}

/// What the workers share.
struct Tools {
    peers: Arc<Peers>,
    owners: Arc<Owners>,
    fetcher: Arc<Fetcher>,
    throttle: Arc<Throttle>,
}

impl Tools {
    fn new(seams: &RepairSeams) -> Self {
        let peers = Arc::new(Peers::new(Arc::clone(&seams.transport)));
        let owners = Arc::new(Owners::new(Arc::clone(&peers)));
        let throttle = Throttle::new(seams.settings.bandwidth_bytes_per_second, Arc::clone(&seams.clock));
        let (chunks, of_fetcher) = (Arc::clone(&seams.chunks), Arc::clone(&throttle));
        let fetcher = Arc::new(Fetcher::new(seams.node, chunks, Arc::clone(&peers), of_fetcher));
        Self { peers, owners, fetcher, throttle }
    }
}

/// One kind of repair.
trait Worker: Send + 'static {
    /// Does what is due, up to a bound, and says when there is more to do.
    fn turn(&mut self) -> impl Future<Output = Next> + Send;
}

/// When a worker's next turn is.
enum Next {
    AtOnce,
    After(Duration),
}

/// Starts a worker. Without it data would stay below what was promised, and nobody would know: a panic ends the node.
fn start(fatal: &Fatal, name: &'static str, worker: impl Worker) -> JoinHandle<()> {
    spawn_or_end(fatal, name, work(worker))
}

/// A worker's life: one turn after the other until it is aborted, which may be at any moment.
async fn work(mut worker: impl Worker) {
    loop {
        match worker.turn().await {
            Next::AtOnce => tokio::task::yield_now().await,
            Next::After(pause) => tokio::time::sleep(pause).await,
        }
    }
}

/// Repair at work. Dropping it stops it at once; that is safe at any moment, because every step can be repeated.
pub struct Repair {
    workers: Vec<JoinHandle<()>>,
}

impl Repair {
    /// Starts the workers. To be called inside a runtime.
    pub fn start(seams: RepairSeams) -> Repair {
        let (tools, fatal) = (Tools::new(&seams), &seams.fatal);
        let workers = vec![
            start(fatal, "repair: comparison", Comparison::new(&seams, &tools)),
            start(fatal, "repair: delivery", Delivery::new(&seams, &tools)),
            start(fatal, "repair: strays", Strays::new(&seams, &tools)),
            start(fatal, "repair: mending", Mending::new(&seams, &tools)),
            start(fatal, "repair: scrub", Scrub::new(&seams)),
            start(fatal, "repair: orphans", Orphans::new(&seams, &tools)),
            start(fatal, "repair: adapting", Adapting::new(&seams, &tools)),
            start(fatal, "repair: collection", Collection::new(&seams, &tools)),
            start(fatal, "repair: reclaiming", Reclaiming::new(&seams)),
        ];
        Repair { workers }
    }

    /// Stops the workers and returns when they hold nothing any more.
    pub async fn shutdown(mut self) {
        self.abort();
        // They end in the abort.
        join_all(self.workers.drain(..)).await;
    }

    fn abort(&self) {
        self.workers.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Repair {
    fn drop(&mut self) {
        self.abort();
    }
}

/// A database that is corrupt cannot say what is here: the node ends.
fn end_if_corrupt(fatal: &Fatal, error: &KvError) -> bool {
    let is_corrupt = matches!(error, KvError::Corrupt { .. });
    if is_corrupt {
        fatal(&error.to_string());
    }
    is_corrupt
}

/// Uses the database on a thread that may block.
async fn on_disk<T: Send + 'static>(
    during: &'static str,
    work: impl FnOnce() -> Result<T, KvError> + Send + 'static,
) -> Result<T, KvError> {
    let working = tokio::task::spawn_blocking(work);
    working.await.unwrap_or_else(|error| Err(KvError::Failed { during, reason: error.to_string() }))
}
