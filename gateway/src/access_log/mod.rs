//! Server access logs: what was asked of a bucket, a line for each request, in objects of the bucket that its owner names.
//!
//! `http` says when a request begins and ends ([`AccessLog`]), [`request`] and [`record`] make a line of it, [`batches`] gathers
//! lines in memory, and [`delivery`] writes them as objects. It is best effort, as on AWS: a process that dies takes with it
//! what it gathered, and no request waits for its record. What lifecycle rules do is made by storage nodes, and comes
//! through an outbox as events do.
//!
//! See "Logging requests with server access logging" in the Amazon S3 user guide.

mod batches;
mod delivery;
mod expiry;
mod name;
mod record;
mod request;

use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::logging::BucketLogging;
use annulus_common::map::{Bucket, ClusterMap};
use annulus_common::notification::{Event, EventId};
use annulus_common::object::UserId;
use annulus_common::telemetry::Metrics;
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::batches::{Batches, Pushed};

pub use delivery::LogDelivery;
pub(crate) use request::{Logged, Outcome, Place, SignedBy};

/// Takes the records of a process, wherever requests are served.
pub struct AccessLog {
    batches: Mutex<Batches>,
    /// Told when a batch is full.
    full: Notify,
    clock: SharedClock,
    metrics: Arc<Metrics>,
}

/// A bucket whose requests are recorded.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Source {
    bucket: String,
    owner: UserId,
    logging: Arc<BucketLogging>,
}

impl Source {
    /// The bucket of that name, if its requests are recorded.
    fn of(map: &ClusterMap, name: &str) -> Option<Self> {
        let Bucket { owner, config, .. } = map.buckets.get(name)?;
        Some(Self { bucket: name.to_owned(), owner: *owner, logging: config.logging.clone()? })
    }
}

impl AccessLog {
    /// Without records; those that come are gathered for `wait`.
    pub fn new(clock: SharedClock, metrics: Arc<Metrics>, wait: Duration) -> Arc<Self> {
        Arc::new(Self { batches: Mutex::new(Batches::new(wait)), full: Notify::new(), clock, metrics })
    }

    /// When a request was received, as its record says it.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Takes the records of a request that is over.
    pub(crate) fn record(&self, logged: &Logged, outcome: &Outcome<'_>) {
        for (source, line) in logged.lines(outcome) {
            self.push(source, logged.received_ms(), &line);
        }
    }

    /// Takes the record of what a lifecycle rule has done in a bucket.
    pub(crate) fn record_expiry(&self, (name, bucket): (&str, &Bucket), id: EventId, event: &Event) {
        let Some(logging) = bucket.config.logging.clone() else { return };
        let source = Source { bucket: name.to_owned(), owner: bucket.owner, logging };
        if let Some(line) = expiry::line(&source, id, event) {
            self.push(&source, event.time_ms, &line);
        }
    }

    fn push(&self, source: &Source, event_ms: u64, line: &str) {
        let pushed = self.batches.lock().push(source, event_ms, line, self.clock.monotonic());
        match pushed {
            Pushed::Gathered => {}
            Pushed::Full => self.full.notify_one(),
            Pushed::Dropped => {
                self.metrics.access_log_dropped.inc();
            }
        }
    }
}
