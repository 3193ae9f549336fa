//! How fast repair may go. [`Throttle`] is what everything that moves bytes between nodes shares; [`Pacer`] and [`BackOff`]
//! are the arithmetic, over a clock that is passed in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::NodeId;
use parking_lot::Mutex;

/// The pause after a first failure, and the longest one: a node that comes back is noticed within half a minute.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// The bytes that this node moves, whichever worker moves them.
pub(super) struct Throttle {
    clock: SharedClock,
    pacer: Mutex<Pacer>,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: u64, clock: SharedClock) -> Arc<Self> {
        Arc::new(Self { clock, pacer: Mutex::new(Pacer::new(bytes_per_second)) })
    }

    /// Returns when so many bytes may be moved.
    pub(super) async fn take(&self, bytes: u64) {
        let wait = self.pacer.lock().take(self.clock.monotonic(), bytes);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Spreads work so that no more than a rate of it is begun. What was not used is not saved up.
#[derive(Debug)]
pub(super) struct Pacer {
    per_second: u64,
    /// When everything that was taken so far is paid for.
    free_at: Duration,
}

impl Pacer {
    pub(super) fn new(per_second: u64) -> Self {
        Self { per_second: per_second.max(1), free_at: Duration::ZERO }
    }

    /// Takes `amount` and returns how long to wait before it is used.
    pub(super) fn take(&mut self, now: Duration, amount: u64) -> Duration {
        let begins = self.free_at.max(now);
        let nanos = u128::from(amount) * 1_000_000_000 / u128::from(self.per_second);
        self.free_at = begins.saturating_add(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        begins - now
    }
}

/// When a node that failed is tried again.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    failed: BTreeMap<NodeId, Failed>,
}

#[derive(Debug)]
struct Failed {
    pause: Duration,
    until: Duration,
}

impl BackOff {
    pub(super) fn is_due(&self, node: NodeId, now: Duration) -> bool {
        self.failed.get(&node).is_none_or(|failed| failed.until <= now)
    }

    pub(super) fn succeeded(&mut self, node: NodeId) {
        self.failed.remove(&node);
    }

    pub(super) fn failed(&mut self, node: NodeId, now: Duration) {
        let pause = self.failed.get(&node).map_or(BACK_OFF_MIN, |failed| (failed.pause * 2).min(BACK_OFF_MAX));
        self.failed.insert(node, Failed { pause, until: now.saturating_add(pause) });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use annulus_common::ids::NodeId;

    use super::{BackOff, Pacer};

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_pacer_spreads_work_and_saves_nothing_up() {
        let mut pacer = Pacer::new(1_000);
        assert_eq!(pacer.take(ms(500), 100), ms(0));
        assert_eq!(pacer.take(ms(500), 100), ms(100));
        assert_eq!(pacer.take(ms(550), 1), ms(150));
        assert_eq!(pacer.take(ms(9_000), 100), ms(0));
        assert_eq!(pacer.take(ms(9_000), 100), ms(100));
    }

    #[test]
    fn a_node_that_fails_is_asked_ever_more_rarely_until_it_answers() {
        let mut back_off = BackOff::default();
        let node = NodeId(3);
        assert!(back_off.is_due(node, ms(0)));
        let mut now = ms(0);
        for pause in [1, 2, 4, 8, 16, 30, 30].map(Duration::from_secs) {
            back_off.failed(node, now);
            assert!(!back_off.is_due(node, now + pause - ms(1)));
            now += pause;
            assert!(back_off.is_due(node, now));
        }
        back_off.failed(node, now);
        back_off.succeeded(node);
        assert!(back_off.is_due(node, now));
        assert!(back_off.is_due(NodeId(4), now));
    }
}
