//! How long to go on, and how long to pause in between.

use std::time::Duration;

use annulus_common::clock::SharedClock;

/// The first pause: about a Raft round trip.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// The longest pause: a few fall into an election of 1.5 - 3 s, and the end of one is not missed by much.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// A deadline for the whole of an operation, with pauses that grow.
pub(super) struct Retry {
    clock: SharedClock,
    until: Duration,
    pause: Duration,
}

impl Retry {
    pub(super) fn new(clock: &SharedClock, deadline: Duration) -> Self {
        Self { clock: clock.clone(), until: clock.monotonic() + deadline, pause: PAUSE_MIN }
    }

    /// What is left of the deadline; zero when it is over.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_sub(self.clock.monotonic())
    }

    /// Sleeps before the next attempt. False when the deadline leaves no time for one.
    pub(super) async fn pause(&mut self) -> bool {
        // Jitter, so that requests that failed together do not come back together.
        let pause = self.pause.mul_f64(rand::random_range(0.5..=1.0));
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        if pause >= self.left() {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}
