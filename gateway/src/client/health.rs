//! What recent calls say about nodes: which ones are better not waited for, and how long a chunk read takes.
//!
//! These are guesses that steer; they never decide whether something is durable or lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::NodeId;
use parking_lot::Mutex;

/// How long a node that failed to answer is left alone. After it one call at a time finds out whether it is back.
const SUSPECT_FOR: Duration = Duration::from_secs(1);

/// A second holder is asked no sooner than this, however fast reads are: hedges must stay rare.
const HEDGE_DELAY_MIN: Duration = Duration::from_millis(50);

/// A second holder is asked no later than this.
const HEDGE_DELAY_MAX: Duration = Duration::from_secs(2);

/// The health of all nodes.
pub(super) struct Health {
    clock: SharedClock,
    suspects: Mutex<HashMap<NodeId, Duration>>,
    /// An estimate of the 95th percentile of chunk reads, in microseconds.
    read_p95_us: AtomicU64,
}

impl Health {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { clock, suspects: Mutex::new(HashMap::new()), read_p95_us: AtomicU64::new(0) }
    }

    /// Whether a node should be asked now. When its time as a suspect is over, the first caller to learn so becomes the
    /// probe: for all others it stays a suspect until the probe succeeds.
    pub(super) fn is_usable(&self, node: NodeId) -> bool {
        let mut suspects = self.suspects.lock();
        let Some(until) = suspects.get_mut(&node) else { return true };
        let now = self.clock.monotonic();
        let probe = now >= *until;
        if probe {
            *until = now + SUSPECT_FOR;
        }
        probe
    }

    /// Whether a node failed recently; asking this makes nobody the probe.
    pub(super) fn is_suspect(&self, node: NodeId) -> bool {
        self.suspects.lock().contains_key(&node)
    }

    pub(super) fn failed(&self, node: NodeId) {
        let until = self.clock.monotonic() + SUSPECT_FOR;
        if self.suspects.lock().insert(node, until).is_none() {
            tracing::warn!(node = node.0, "node does not answer");
        }
    }

    pub(super) fn answered(&self, node: NodeId) {
        if self.suspects.lock().remove(&node).is_some() {
            tracing::info!(node = node.0, "node answers again");
        }
    }

    /// Takes in how long a chunk read took. The estimate rises by 19 parts for each read that is slower and sinks by one
    /// for each that is faster, so it rests where 1 read in 20 is slower.
    pub(super) fn read_took(&self, took: Duration) {
        let took_us = took.as_micros() as u64;
        let before = self.read_p95_us.load(Ordering::Relaxed);
        let part = before / 256 + 1;
        let after =
            if took_us > before { before + (19 * part).min(took_us - before) } else { before.saturating_sub(part) };
        self.read_p95_us.store(after, Ordering::Relaxed);
    }

    /// How long to wait for one holder before a second one is asked too.
    pub(super) fn hedge_delay(&self) -> Duration {
        let p95 = Duration::from_micros(self.read_p95_us.load(Ordering::Relaxed));
        (p95 * 2).clamp(HEDGE_DELAY_MIN, HEDGE_DELAY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use annulus_common::clock::ManualClock;

    use super::{Duration, HEDGE_DELAY_MAX, HEDGE_DELAY_MIN, Health, NodeId, SUSPECT_FOR};

    #[test]
    fn a_suspect_is_probed_by_one_caller_at_a_time() {
        let clock = ManualClock::at(Duration::ZERO);
        let health = Health::new(clock.clone());
        let node = NodeId(3);
        assert!(health.is_usable(node) && !health.is_suspect(node));
        health.failed(node);
        assert!(!health.is_usable(node) && health.is_suspect(node));
        clock.advance(SUSPECT_FOR);
        assert!(health.is_usable(node), "the first caller probes");
        assert!(!health.is_usable(node), "the second does not");
        health.answered(node);
        assert!(health.is_usable(node));
    }

    #[test]
    fn the_hedge_delay_follows_the_slow_reads() {
        let health = Health::new(ManualClock::at(Duration::ZERO));
        assert_eq!(health.hedge_delay(), HEDGE_DELAY_MIN);
        for round in 0..20_000 {
            let slow = round % 10 == 0;
            health.read_took(Duration::from_millis(if slow { 400 } else { 10 }));
        }
        assert!(health.hedge_delay() > Duration::from_millis(400), "{:?}", health.hedge_delay());
        (0..20_000).for_each(|_| health.read_took(Duration::from_secs(60)));
        assert_eq!(health.hedge_delay(), HEDGE_DELAY_MAX);
    }
}
