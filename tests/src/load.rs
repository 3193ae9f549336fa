//! A verified history under way: workers that put, replace, delete and read through every server of a cluster, until they
//! are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::S3;
use crate::cluster::Cluster;
use crate::history::{History, Worker};
use crate::processes::Processes;
use crate::wait;

/// Workers at the same time.
const WORKERS: usize = 6;

/// The same where the cluster shares the test's process, and its time, or where there must not be much.
const WORKERS_FEW: usize = 3;

/// Between two requests of a worker where what happens beside them must not drown in data.
const PAUSE: Duration = Duration::from_millis(50);

/// A workload that runs until it is told to stop.
pub struct Load {
    history: Arc<History>,
    stop: Arc<AtomicBool>,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// Spreads the workers over the servers.
    pub async fn start(processes: &Processes, bucket: &str) -> Self {
        Self::over(processes.count(), |server| processes.s3(server), WORKERS, Duration::ZERO, bucket).await
    }

    /// Spreads a few workers over the servers, which pause between requests: a load for minutes that leaves little behind.
    pub async fn start_gently(processes: &Processes, bucket: &str) -> Self {
        Self::over(processes.count(), |server| processes.s3(server), WORKERS_FEW, PAUSE, bucket).await
    }

    /// Spreads fewer workers over the gateways of a cluster in this process.
    pub async fn start_in(cluster: &Cluster, bucket: &str) -> Self {
        Self::over(cluster.gateways(), |gateway| cluster.s3(gateway), WORKERS_FEW, Duration::ZERO, bucket).await
    }

    async fn over(endpoints: usize, s3: impl Fn(usize) -> S3, workers: usize, pause: Duration, bucket: &str) -> Self {
        s3(0).put(bucket).ok().await;
        let (history, stop) = (Arc::new(History::new(bucket)), Arc::new(AtomicBool::new(false)));
        let workers = (0..workers)
            .map(|number| {
                let clients = (0..endpoints).map(|endpoint| s3((number + endpoint) % endpoints)).collect();
                let worker = Worker::new(number, clients, Arc::clone(&history), Arc::clone(&stop));
                tokio::spawn(worker.with_pauses(pause).work())
            })
            .collect();
        Self { history, stop, workers }
    }

    /// Requests that were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.history.acknowledged()
    }

    /// Puts and deletes that were acknowledged so far.
    pub fn written(&self) -> usize {
        self.history.written()
    }

    /// Waits until that many more steps have been acknowledged: the cluster does serve.
    pub async fn progress(&self, steps: usize) {
        let goal = self.history.acknowledged() + steps;
        wait::until("the workload gets on", async || (self.history.acknowledged() >= goal).then_some(())).await;
    }

    /// Whoever gets no answer gives up from now on.
    pub fn tell_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until every worker has stopped, and returns what they know.
    pub async fn stop(self) -> Arc<History> {
        self.tell_to_stop();
        for worker in self.workers {
            worker.await.expect("no worker found anything wrong");
        }
        self.history
    }
}
