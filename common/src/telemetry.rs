//! Logs and metrics of every process: how lines are written, and the counters that both crates move.
//! No globals beside the subscriber, which tracing asks for: [`Metrics`] is handed to whoever counts.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;
use crate::protocol::outbox::WaitingOutbox;

/// Logs cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The level is not one.
    #[error("`{0}` is not a log level")]
    Level(String),
    /// Another part of the process has already set them up.
    #[error("logs are already set up")]
    AlreadySet,
}

/// Writes log lines to standard error from now on: `level` and above.
pub fn init_logs(format: LogFormat, level: &str) -> Result<(), LogError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    set.map_err(|_| LogError::AlreadySet)
}

/// s3s is silent: it logs what clients do wrong at ERROR, with the whole body. What matters of it the gateway logs.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let level: tracing::Level = level.parse().map_err(|_| LogError::Level(level.to_owned()))?;
    Ok(EnvFilter::new(format!("{level},s3s=off")))
}

/// What a process counts. Cheap to move: a family that has met its labels costs a read lock and an addition.
pub struct Metrics {
    registry: Registry,
    /// Requests of clients, by operation and status.
    pub http_requests: Family<HttpLabels, Counter>,
    /// How long they took, by operation.
    pub http_request_seconds: Family<OperationLabels, Histogram, fn() -> Histogram>,
    /// Bytes of request bodies received.
    pub http_received_bytes: Counter,
    /// Bytes of response bodies sent.
    pub http_sent_bytes: Counter,
    /// Requests of clients in flight.
    pub http_in_flight: Gauge,
    /// Connections of clients.
    pub connections: ConnectionMetrics,
    /// What clients' requests hold.
    pub memory: MemoryMetrics,
    /// Records of access logs that were written to their bucket.
    pub access_log_delivered: Counter,
    /// Records of access logs that were dropped: their bucket refused them, or too many waited.
    pub access_log_dropped: Counter,
    /// What is told of events.
    pub events: EventMetrics,
    /// Calls to peers, by request and outcome.
    pub rpc_calls: Family<RpcLabels, Counter>,
    /// How long they took, by request.
    pub rpc_call_seconds: Family<OperationLabels, Histogram, fn() -> Histogram>,
    /// Entries proposed to groups that this node leads.
    pub raft_proposals: Counter,
    /// From proposing an entry to its having been applied.
    pub raft_commit_seconds: Histogram,
    /// Groups that this node leads.
    pub raft_leaders: Gauge,
    /// Chunks written.
    pub chunk_puts: Counter,
    /// Chunks read.
    pub chunk_gets: Counter,
    /// Bytes of chunks written.
    pub chunk_written_bytes: Counter,
    /// Bytes of chunks read.
    pub chunk_read_bytes: Counter,
    /// Chunks whose bytes did not match their checksum when they were read.
    pub chunk_corruptions: Counter,
    /// Chunks held for nodes that were down.
    pub hints_pending: Gauge,
    /// Bytes that are free on the disk.
    pub disk_free_bytes: Gauge,
    /// One while the disk has no room for what grows.
    pub disk_full: Gauge,
    /// What repair does and finds.
    pub repair: RepairMetrics,
}

/// Connections of clients.
#[derive(Default)]
pub struct ConnectionMetrics {
    /// Those that are served.
    pub served: Gauge,
    /// Those that wait to be served: their client has its share of all.
    pub waiting: Gauge,
    /// Those that were closed unserved: too many waited.
    pub refused: Counter,
}

/// The memory that the requests of clients reserve.
#[derive(Default)]
pub struct MemoryMetrics {
    /// What is reserved now: brought up to date before it is shown.
    pub held_bytes: Gauge,
    /// Requests that waited for some.
    pub waited: Counter,
    /// Requests that were told to slow down, because they waited in vain.
    pub refused: Counter,
}

/// What a gateway tells of events in buckets.
#[derive(Default)]
pub struct EventMetrics {
    /// Events that a webhook has taken from this gateway.
    pub delivered: Counter,
    /// Posts that a webhook did not take: they are repeated.
    pub failed: Counter,
    /// Events that were dropped: too many waited for their webhook.
    pub dropped: Counter,
    /// Events that were given up: their webhook refused them too often.
    pub given_up: Counter,
    /// Events that wait in the whole cluster, as this gateway saw it last.
    pub pending: Gauge,
    /// The same, by webhook.
    pub waiting: Family<WebhookLabels, Gauge>,
    /// Of these, events that their webhook has refused, and that are tried again.
    pub set_aside: Family<WebhookLabels, Gauge>,
}

/// A webhook.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct WebhookLabels {
    /// Its name: one of those that the operator gave.
    pub webhook: String,
}

impl EventMetrics {
    /// Notes what waits now.
    pub fn note_waiting<'a>(&self, outboxes: impl Iterator<Item = &'a WaitingOutbox>) {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let (mut pending, mut of_webhooks) = (0, BTreeMap::<&str, (u64, u64)>::new());
        for outbox in outboxes {
            let (waiting, aside) = of_webhooks.entry(&outbox.webhook).or_default();
            (*waiting, *aside) = (*waiting + outbox.pending, *aside + u64::from(outbox.aside));
            pending += outbox.pending;
        }
        self.pending.set(count(pending));
        self.waiting.clear();
        self.set_aside.clear();
        for (webhook, (waiting, aside)) in of_webhooks {
            let labels = WebhookLabels { webhook: webhook.to_owned() };
            self.waiting.get_or_create(&labels).set(count(waiting));
            self.set_aside.get_or_create(&labels).set(count(aside));
        }
    }
}

/// What repair does, and what it knows to be wrong: states of the node that are brought up to date before they are shown.
#[derive(Default)]
pub struct RepairMetrics {
    /// Bytes that the node moved.
    pub moved_bytes: Counter,
    /// Chunks that it found damaged and wrote anew.
    pub mended: Counter,
    /// Chunks that were found damaged and wait for it.
    pub damaged: Gauge,
    /// Chunks that other nodes have and this one lacks.
    pub lacking: Gauge,
    /// Their bytes.
    pub lacking_bytes: Gauge,
    /// Partitions that were not compared with the others of late: nothing is known of them.
    pub unverified: Gauge,
    /// Chunks that are here and belong elsewhere.
    pub strays: Gauge,
    /// How far the scrub is, from 0 to 1.
    pub scrubbed: Gauge<f64, AtomicU64>,
    /// When the last whole scrub ended, Unix seconds; 0 before the first.
    pub scrub_completed: Gauge,
}

/// An operation and how it ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct HttpLabels {
    /// The S3 operation, or what else was asked for. Static, so that clients cannot make labels up.
    pub operation: &'static str,
    /// The HTTP status.
    pub status: u16,
}

/// An operation.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct OperationLabels {
    /// The S3 operation, or the kind of request to a peer.
    pub operation: &'static str,
}

/// A call to a peer and how it ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct RpcLabels {
    /// The kind of request.
    pub operation: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a call to a peer ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are label values, which are written in lower case")]
pub enum Outcome {
    /// With an answer.
    ok,
    /// With an error that the peer gave.
    refused,
    /// Without an answer: the connection or the deadline ended first.
    failed,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::with_prefix("annulus"),
            http_requests: Family::default(),
            http_request_seconds: Family::new_with_constructor(seconds),
            http_received_bytes: Counter::default(),
            http_sent_bytes: Counter::default(),
            http_in_flight: Gauge::default(),
            connections: ConnectionMetrics::default(),
            memory: MemoryMetrics::default(),
            access_log_delivered: Counter::default(),
            access_log_dropped: Counter::default(),
            events: EventMetrics::default(),
            rpc_calls: Family::default(),
            rpc_call_seconds: Family::new_with_constructor(seconds),
            raft_proposals: Counter::default(),
            raft_commit_seconds: seconds(),
            raft_leaders: Gauge::default(),
            chunk_puts: Counter::default(),
            chunk_gets: Counter::default(),
            chunk_written_bytes: Counter::default(),
            chunk_read_bytes: Counter::default(),
            chunk_corruptions: Counter::default(),
            hints_pending: Gauge::default(),
            disk_free_bytes: Gauge::default(),
            disk_full: Gauge::default(),
            repair: RepairMetrics::default(),
        };
        metrics.register_http();
        metrics.register_node();
        metrics.register_repair();
        Arc::new(metrics)
    }

    /// Counts a client's request that has ended.
    pub fn http_request(&self, operation: &'static str, status: u16, took: Duration) {
        self.http_requests.get_or_create(&HttpLabels { operation, status }).inc();
        self.http_request_seconds.get_or_create(&OperationLabels { operation }).observe(took.as_secs_f64());
    }

    /// Counts a call to a peer that has ended.
    pub fn rpc_call(&self, operation: &'static str, outcome: Outcome, took: Duration) {
        self.rpc_calls.get_or_create(&RpcLabels { operation, outcome }).inc();
        self.rpc_call_seconds.get_or_create(&OperationLabels { operation }).observe(took.as_secs_f64());
    }

    /// Everything in the OpenMetrics text format, served as [`OPENMETRICS_CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }

    fn register_http(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("http");
        registry.register("requests", "Requests of clients", self.http_requests.clone());
        let latency = self.http_request_seconds.clone();
        registry.register_with_unit("request", "Time to answer clients", Unit::Seconds, latency);
        let received = self.http_received_bytes.clone();
        registry.register_with_unit("received", "Bodies of requests", Unit::Bytes, received);
        registry.register_with_unit("sent", "Bodies of responses", Unit::Bytes, self.http_sent_bytes.clone());
        registry.register("in_flight", "Requests of clients in flight", self.http_in_flight.clone());
        let connections = &self.connections;
        registry.register("connections", "Connections of clients that are served", connections.served.clone());
        registry.register("connections_waiting", "Connections that wait to be served", connections.waiting.clone());
        registry.register("connections_refused", "Connections closed unserved", connections.refused.clone());
        let memory = &self.memory;
        registry.register_with_unit("memory", "Memory that requests reserve", Unit::Bytes, memory.held_bytes.clone());
        registry.register("memory_waited", "Requests that waited for memory", memory.waited.clone());
        registry.register("memory_refused", "Requests refused for want of memory", memory.refused.clone());

        let access_log = self.registry.sub_registry_with_prefix("access_log");
        access_log.register("delivered", "Records written to their bucket", self.access_log_delivered.clone());
        access_log.register("dropped", "Records refused or too many", self.access_log_dropped.clone());

        let events = self.registry.sub_registry_with_prefix("events");
        events.register("delivered", "Events taken by their webhook", self.events.delivered.clone());
        events.register("failed", "Posts of events that failed and are repeated", self.events.failed.clone());
        events.register("dropped", "Events dropped for want of room", self.events.dropped.clone());
        events.register("given_up", "Events refused too often", self.events.given_up.clone());
        let waiting = "Events in the whole cluster that wait for a webhook: every gateway reports the same";
        events.register("waiting", waiting, self.events.waiting.clone());
        let aside = "Those that the webhook has refused, to be tried again: every gateway reports the same";
        events.register("set_aside", aside, self.events.set_aside.clone());
        let pending = "Events that wait in the whole cluster: every gateway reports the same";
        events.register("pending", pending, self.events.pending.clone());
    }

    fn register_node(&mut self) {
        let rpc = self.registry.sub_registry_with_prefix("rpc");
        rpc.register("calls", "Calls to peers", self.rpc_calls.clone());
        rpc.register_with_unit("call", "Time of calls to peers", Unit::Seconds, self.rpc_call_seconds.clone());

        let raft = self.registry.sub_registry_with_prefix("raft");
        raft.register("proposals", "Entries proposed", self.raft_proposals.clone());
        let commit = self.raft_commit_seconds.clone();
        raft.register_with_unit("commit", "Time from proposing to having applied", Unit::Seconds, commit);
        raft.register("leaders", "Groups that this node leads", self.raft_leaders.clone());

        let chunk = self.registry.sub_registry_with_prefix("chunk");
        chunk.register("puts", "Chunks written", self.chunk_puts.clone());
        chunk.register("gets", "Chunks read", self.chunk_gets.clone());
        chunk.register_with_unit("written", "Chunks written", Unit::Bytes, self.chunk_written_bytes.clone());
        chunk.register_with_unit("read", "Chunks read", Unit::Bytes, self.chunk_read_bytes.clone());
        chunk.register("corruptions", "Chunks that did not match their checksum", self.chunk_corruptions.clone());
        self.registry.register("hints_pending", "Chunks held for nodes that were down", self.hints_pending.clone());
        let disk = self.registry.sub_registry_with_prefix("disk");
        disk.register_with_unit(
            "free",
            "Free on the disk of the data directory",
            Unit::Bytes,
            self.disk_free_bytes.clone(),
        );
        disk.register("full", "One while the disk has no room for new objects", self.disk_full.clone());
    }

    fn register_repair(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("repair");
        let repair = &self.repair;
        registry.register_with_unit("moved", "Chunks moved by repair", Unit::Bytes, repair.moved_bytes.clone());
        registry.register("mended", "Damaged chunks written anew", repair.mended.clone());
        registry.register("damaged", "Damaged chunks to be written anew", repair.damaged.clone());
        registry.register("lacking", "Chunks that others have and this node lacks", repair.lacking.clone());
        let lacking = repair.lacking_bytes.clone();
        registry.register_with_unit("lacking", "Chunks that others have and this node lacks", Unit::Bytes, lacking);
        registry.register("unverified", "Partitions not compared with others of late", repair.unverified.clone());
        registry.register("strays", "Chunks here that belong elsewhere", repair.strays.clone());
        registry.register("scrubbed_ratio", "How far the scrub is, from 0 to 1", repair.scrubbed.clone());
        let completed = "Unix time of the last whole scrub";
        registry.register("scrub_completed_timestamp_seconds", completed, repair.scrub_completed.clone());
    }
}

/// The content type of [`Metrics::render`].
pub const OPENMETRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// From 0.1 ms, a small call on one machine, doubling up to 52 s, beyond any deadline.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 20))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LogError, Metrics, Outcome, filter};

    #[test]
    fn what_was_counted_is_rendered() {
        let metrics = Metrics::new();
        metrics.http_request("PutObject", 200, Duration::from_millis(3));
        metrics.http_request("PutObject", 200, Duration::from_millis(5));
        metrics.rpc_call("chunk_put", Outcome::failed, Duration::from_secs(1));
        metrics.http_received_bytes.inc_by(4096);
        metrics.raft_leaders.set(21);

        let text = metrics.render();
        for line in [
            "annulus_http_requests_total{operation=\"PutObject\",status=\"200\"} 2",
            "annulus_http_request_seconds_count{operation=\"PutObject\"} 2",
            "annulus_http_received_bytes_total 4096",
            "annulus_rpc_calls_total{operation=\"chunk_put\",outcome=\"failed\"} 1",
            "annulus_raft_leaders 21",
            "annulus_raft_commit_seconds_count 0",
            "annulus_chunk_corruptions_total 0",
            "annulus_hints_pending 0",
            "annulus_disk_free_bytes 0",
            "annulus_disk_full 0",
            "annulus_http_connections 0",
            "annulus_http_connections_refused_total 0",
            "annulus_http_memory_bytes 0",
            "annulus_http_memory_refused_total 0",
            "annulus_events_pending 0",
            "annulus_events_dropped_total 0",
            "annulus_repair_moved_bytes_total 0",
            "annulus_repair_lacking 0",
            "annulus_repair_lacking_bytes 0",
            "annulus_repair_scrub_completed_timestamp_seconds 0",
            "annulus_repair_scrubbed_ratio 0.0",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn s3s_is_silent_at_every_level() {
        for level in ["error", "warn", "info", "debug", "trace"] {
            let filter = filter(level).unwrap().to_string();
            assert!(filter.contains("s3s=off") && filter.contains(level), "{filter}");
        }
        assert!(matches!(filter("s3s=trace"), Err(LogError::Level(_))));
    }
}
