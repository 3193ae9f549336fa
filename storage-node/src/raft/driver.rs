//! Threads around workers: the only place of this module with threads and with time.
//!
//! Each worker's thread sleeps until something arrives or a tick is due. A worker that fails or panics ends its node:
//! the reason goes to the fatal hook, and everyone who waits is answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::NodeId;
use annulus_common::task::panic_text;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::input::Input;
use super::queue::Queue;
use super::types::{Limits, count};
use super::worker::{StoragePatience, Worker, WorkerConfig, WorkerShared};
use super::{Fetch, RaftConfig, RaftError, RaftSeams, Shared, SnapshotSource, frame};
use crate::kv::KvError;

/// The time between two ticks.
const TICK: Duration = Duration::from_millis(100);
/// Workers of one node: more threads than disks have queues for.
const WORKERS_MAX: usize = 64;
/// How often a write that fails for another reason than a full disk is repeated: it may be a hiccup, but is probably
/// not.
const WRITE_ATTEMPTS_MAX: u32 = 10;
/// The pause before a failed write is repeated.
const WRITE_PAUSE: Duration = Duration::from_millis(500);

/// The threads of a node.
#[derive(Default)]
pub(super) struct Driver {
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Starts the threads.
pub(super) fn start(config: RaftConfig, seams: RaftSeams) -> Result<Shared, RaftError> {
    let workers = config.workers.clamp(1, WORKERS_MAX);
    let limits = Limits::default();
    let worker_shared = WorkerShared::new(Arc::clone(&seams.kv), &limits);
    let shared = Shared {
        node: config.node,
        queues: (0..workers).map(|_| Arc::default()).collect(),
        statuses: worker_shared.statuses.clone(),
        counters: Arc::clone(&worker_shared.counters),
        outgoing: Arc::clone(&worker_shared.outgoing),
        driver: Driver::default(),
    };
    let runtime = Handle::try_current().map_err(|_| RaftError::Refused { reason: "there is no tokio runtime" })?;
    for (index, queue) in shared.queues.iter().enumerate() {
        let worker_config = WorkerConfig { node: config.node, seed: config.seed, index, workers, limits };
        let (kv, outbox) = (Arc::clone(&seams.kv), seams.outbox.clone());
        let worker = Worker::with_shared(worker_config, kv, outbox, patience(Arc::clone(queue)), worker_shared.clone());
        let queues = shared.queues.clone();
        let (seams, runtime) = (seams.clone(), runtime.clone());
        let queue = Arc::clone(queue);
        let thread = thread::Builder::new().name(format!("raft-{index}")).spawn(move || {
            run_to_the_end(worker, &queue, &queues, &seams, &runtime);
        });
        let thread =
            thread.map_err(|error| RaftError::Storage { reason: format!("no thread could be started: {error}") })?;
        shared.driver.threads.lock().push(thread);
    }
    Ok(shared)
}

/// Hands a peer's frame to every worker that has groups in it.
pub(super) fn step(shared: &Shared, from: NodeId, frame: Bytes) {
    if frame.len() > frame::FRAME_BYTES_MAX || from == shared.node {
        return count(&shared.counters.frames_malformed);
    }
    let bytes = frame.len();
    for (index, frame) in frame::split(frame, shared.queues.len()) {
        if !shared.queues[index].push_frame(bytes, Input::Frame { from, frame }) {
            count(&shared.counters.frames_overflowed);
        }
    }
}

/// Drains the workers and waits for their threads.
pub(super) async fn shutdown(shared: &Arc<Shared>) {
    for queue in &shared.queues {
        queue.push_control(Input::Drain);
    }
    let threads = std::mem::take(&mut *shared.driver.threads.lock());
    let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
    // The threads end by themselves, within a bounded number of ticks; a panic in one has been reported.
    let _ = joined.await;
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queues.iter().for_each(|queue| queue.close());
    }
}

/// What to do when a write fails: see the module's documentation.
fn patience(queue: Arc<Queue>) -> StoragePatience {
    Box::new(move |error, attempt| {
        let may_pass = match error {
            KvError::Full { .. } => true,
            KvError::Failed { .. } => attempt < WRITE_ATTEMPTS_MAX,
            KvError::Corrupt { .. } => false,
        };
        tracing::error!(%error, attempt, may_pass, "raft cannot write");
        queue.set_stalled(Some(error.to_string()));
        may_pass && queue.pause(WRITE_PAUSE)
    })
}

fn run_to_the_end(mut worker: Worker, queue: &Arc<Queue>, queues: &[Arc<Queue>], seams: &RaftSeams, runtime: &Handle) {
    let end = catch_unwind(AssertUnwindSafe(|| run(&mut worker, queue, seams, runtime)));
    let failure = match end {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => Some(format!("panic: {}", panic_text(&*panic))),
    };
    queue.close();
    // After a failure, what was proposed may be committed by others.
    let answer = if failure.is_some() { RaftError::Uncertain } else { RaftError::Stopped };
    let stopped = catch_unwind(AssertUnwindSafe(|| worker.stop(&answer)));
    if stopped.is_err() {
        tracing::error!("raft worker could not answer who waits");
    }
    if let Some(reason) = failure {
        queues.iter().for_each(|queue| queue.close());
        tracing::error!(reason, "raft worker ended");
        (seams.fatal)(&reason);
    }
}

fn run(worker: &mut Worker, queue: &Arc<Queue>, seams: &RaftSeams, runtime: &Handle) -> Result<(), RaftError> {
    let mut ticks = Ticks::new(seams.clock.clone());
    while !worker.is_drained() {
        let wait = if worker.has_work() { Duration::ZERO } else { ticks.until_next() };
        let Some(mut inputs) = queue.take(wait) else { return Ok(()) };
        if ticks.is_due() {
            inputs.push(Input::Tick);
        }
        let outcome = worker.turn(inputs);
        if outcome.is_err() && queue.is_closed() {
            // A write was being repeated when the node was told to stop.
            return Ok(());
        }
        let fetches = outcome?;
        queue.set_stalled(None);
        for fetch in fetches {
            start_fetch(fetch, Arc::clone(queue), Arc::clone(&seams.snapshots), runtime);
        }
    }
    Ok(())
}

fn start_fetch(fetch: Fetch, queue: Arc<Queue>, source: Arc<dyn SnapshotSource>, runtime: &Handle) {
    runtime.spawn(async move {
        let Fetch { from, group, index, after, request } = fetch;
        let result = source.fetch(from, request).await;
        if let Some(after) = after {
            queue.push_control(Input::Fetched { group, index, after, result });
        }
    });
}

/// When the next tick is due. Ticks that were missed stay missed: a process that was held up for seconds must not take
/// the silence for that of its leaders.
struct Ticks {
    clock: SharedClock,
    next: Duration,
}

impl Ticks {
    fn new(clock: SharedClock) -> Self {
        let next = clock.monotonic() + TICK;
        Self { clock, next }
    }

    fn until_next(&self) -> Duration {
        self.next.saturating_sub(self.clock.monotonic()).min(TICK)
    }

    fn is_due(&mut self) -> bool {
        let now = self.clock.monotonic();
        if now < self.next {
            return false;
        }
        self.next = if now >= self.next + TICK { now + TICK } else { self.next + TICK };
        true
    }
}
