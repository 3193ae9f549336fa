//! The `Clock` seam: the only way the product learns the time, so that a simulation can own it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

/// Wall time for what is stored and shown, monotonic time for leases and time-outs.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May jump.
    fn now_ms(&self) -> u64;

    /// Time since some fixed moment. Never goes back, and goes on while the machine sleeps: a lease must end then.
    fn monotonic(&self) -> Duration;
}

/// A clock that is passed around.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
pub struct SystemClock;

impl SystemClock {
    /// The machine's clock, ready to be shared.
    pub fn shared() -> SharedClock {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
    }

    fn monotonic(&self) -> Duration {
        // `Instant` stands still in a suspend (CLOCK_MONOTONIC): a gateway that resumed would go on with a lease that the leader has
        // long counted as ended.
        let since_boot = clock_gettime(ClockId::Boottime);
        Duration::new(since_boot.tv_sec as u64, since_boot.tv_nsec as u32)
    }
}

/// A clock that moves only when it is told to.
pub struct ManualClock {
    now: Mutex<Duration>,
}

impl ManualClock {
    /// A clock that stands at `now` after the Unix epoch.
    pub fn at(now: Duration) -> Arc<Self> {
        Arc::new(Self { now: Mutex::new(now) })
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        *self.now.lock() += by;
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.now.lock().as_millis() as u64
    }

    fn monotonic(&self) -> Duration {
        *self.now.lock()
    }
}

#[cfg(test)]
mod tests {
    use rustix::time::{ClockId, clock_gettime};

    use super::SystemClock;

    #[test]
    fn monotonic_time_is_that_which_counts_suspends() {
        let clock = SystemClock::shared();
        let (first, then) = (clock.monotonic(), clock.monotonic());
        let since_boot = clock_gettime(ClockId::Boottime).tv_sec as u64;
        assert!(first <= then && then.as_secs() <= since_boot && since_boot - then.as_secs() < 60);
    }
}
