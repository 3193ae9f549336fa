//! How fast repair may go. [`Throttle`] is what everything that moves bytes between nodes shares; [`Pacer`] and [`BackOff`]
//! are the arithmetic, over a clock that is passed in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use annulus_common::clock::SharedClock;
use annulus_common::ids::NodeId;
use parking_lot::Mutex;

use super::pressure::{Foreground, Share};
use super::redundancy::Redundancy;
use super::{Next, RepairSeams, Tools, Worker};

/// The pause after a first failure, and the longest one: a node that comes back is noticed within half a minute.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// What the rate that is shown is measured over: long enough for whole chunks at a low rate.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// How often it is looked at how requests are doing.
const LOOK: Duration = Duration::from_secs(1);

/// How much it matters that something is moved soon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Urgency {
    /// It gives way to clients, down to a sixteenth of the bandwidth.
    Usual,
    /// The only copy there is: the next failure would lose it. It has the whole bandwidth that operators allow, however long
    /// clients wait, and does not stand in line behind what is usual.
    LastCopy,
}

/// The bytes that this node moves, whichever worker moves them.
pub(super) struct Throttle {
    clock: SharedClock,
    state: Mutex<State>,
}

struct State {
    /// What everything has to wait for.
    pacer: Pacer,
    /// What last copies wait for: each other.
    last_copies: Pacer,
    share: Share,
    moved: Moved,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: u64, clock: SharedClock) -> Arc<Self> {
        let state = State {
            pacer: Pacer::new(bytes_per_second),
            last_copies: Pacer::new(bytes_per_second),
            share: Share::default(),
            moved: Moved::default(),
        };
        Arc::new(Self { clock, state: Mutex::new(state) })
    }

    /// Returns when so many bytes may be moved.
    pub(super) async fn take(&self, bytes: u64, urgency: Urgency) {
        let wait = self.state.lock().take(self.clock.monotonic(), bytes, urgency);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Bytes that were moved since the start, and in a second of late.
    pub(super) fn moved(&self) -> (u64, u64) {
        let now = self.clock.monotonic();
        let mut state = self.state.lock();
        (state.moved.total, state.moved.per_second(now))
    }
}

impl State {
    fn take(&mut self, now: Duration, bytes: u64, urgency: Urgency) -> Duration {
        self.moved.add(now, bytes);
        match urgency {
            Urgency::Usual => self.pacer.take(now, self.share.weigh(bytes)),
            Urgency::LastCopy => {
                // What is usual waits for it, so that both together keep to the bandwidth.
                self.pacer.take(now, bytes);
                self.last_copies.take(now, bytes)
            }
        }
    }
}

/// Adapts a throttle to how the requests of clients are doing.
pub(super) struct Adapting {
    throttle: Arc<Throttle>,
    foreground: Arc<Foreground>,
    redundancy: Arc<Redundancy>,
    moved_before: u64,
}

impl Adapting {
    pub(super) fn new(seams: &RepairSeams, tools: &Tools) -> Self {
        let throttle = Arc::clone(&tools.throttle);
        let (foreground, redundancy) = (Arc::clone(&seams.foreground), Arc::clone(&seams.redundancy));
        Self { throttle, foreground, redundancy, moved_before: 0 }
    }
}

impl Worker for Adapting {
    async fn turn(&mut self) -> Next {
        let (moved, rate) = self.throttle.moved();
        self.throttle.state.lock().share.second(&self.foreground, moved > self.moved_before);
        self.moved_before = moved;
        self.redundancy.moved(moved, rate);
        Next::After(LOOK)
    }
}

/// What was moved, in all and of late.
#[derive(Debug, Default)]
struct Moved {
    total: u64,
    late: VecDeque<(Duration, u64)>,
}

impl Moved {
    fn add(&mut self, now: Duration, bytes: u64) {
        self.total += bytes;
        match self.late.back_mut() {
            // One entry a second, however small the chunks are.
            Some((at, sum)) if at.as_secs() == now.as_secs() => *sum += bytes,
            _ => self.late.push_back((now, bytes)),
        }
        self.forget(now);
    }

    fn per_second(&mut self, now: Duration) -> u64 {
        self.forget(now);
        self.late.iter().map(|(_, bytes)| bytes).sum::<u64>() / RATE_WINDOW.as_secs()
    }

    fn forget(&mut self, now: Duration) {
        while self.late.front().is_some_and(|(at, _)| *at + RATE_WINDOW < now) {
            self.late.pop_front();
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

    /// From now on so fast; what was taken before is paid for as it was.
    pub(super) fn set_rate(&mut self, per_second: u64) {
        self.per_second = per_second.max(1);
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

    use annulus_common::clock::ManualClock;
    use annulus_common::ids::NodeId;

    use super::{BackOff, Foreground, Moved, Pacer, Throttle, Urgency};

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
    fn the_rate_is_what_was_moved_of_late() {
        let mut moved = Moved::default();
        moved.add(ms(1_000), 40);
        moved.add(ms(1_500), 60);
        moved.add(ms(5_000), 900);
        assert_eq!((moved.total, moved.per_second(ms(6_000))), (1_000, 100));
        assert_eq!((moved.total, moved.per_second(ms(12_000))), (1_000, 90));
        assert_eq!((moved.total, moved.per_second(ms(60_000))), (1_000, 0));
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

    #[test]
    fn a_last_copy_does_not_give_way_to_clients_and_the_rest_waits_for_it() {
        let throttle = Throttle::new(1_000, ManualClock::at(ms(0)));
        let mut state = throttle.state.lock();
        let foreground = Foreground::default();
        for _ in 0..4 {
            foreground.took(0, Duration::from_secs(9));
            state.share.second(&foreground, true);
        }
        assert_eq!(state.take(ms(0), 100, Urgency::Usual), ms(0));
        assert_eq!(state.take(ms(0), 100, Urgency::Usual), ms(1_600), "clients wait: a sixteenth");
        assert_eq!(state.take(ms(0), 100, Urgency::LastCopy), ms(0));
        assert_eq!(state.take(ms(0), 100, Urgency::LastCopy), ms(100), "the whole bandwidth, and no more");
        assert_eq!(state.take(ms(0), 100, Urgency::Usual), ms(3_400));
    }
}
