//! Tells a dead peer from a quiet one: both ends ping when they have nothing else to say, so silence means death.
//!
//! Each end judges by what it hears, not by answers to its own pings: a server that has stopped reading, because it is full,
//! still pings and so stays alive for its callers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{MissedTickBehavior, interval};

/// How often an end that has nothing to say says so.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(1);

/// After so many whole intervals without a byte the peer is dead. A ping that just missed its turn comes within two.
const SILENT_INTERVALS_MAX: u32 = 3;

/// What is known of the other end's life.
#[derive(Default)]
pub(super) struct Liveness {
    /// Counts reads that brought something.
    heard: AtomicU64,
    /// Set while we ourselves do not read, when silence says nothing.
    paused: AtomicBool,
}

impl Liveness {
    /// Returns when the other end has been silent for too long.
    pub(super) async fn watch(&self) {
        let mut ticks = interval(PING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick comes at once.
        ticks.tick().await;
        let (mut heard, mut silent_intervals) = (0, 0);
        while silent_intervals < SILENT_INTERVALS_MAX {
            ticks.tick().await;
            let now = self.heard.load(Ordering::Relaxed);
            let alive = now != heard || self.paused.load(Ordering::Relaxed);
            silent_intervals = if alive { 0 } else { silent_intervals + 1 };
            heard = now;
        }
    }

    /// Waits for something other than the peer; its silence does not count meanwhile.
    pub(super) async fn pause_for<T>(&self, wait: impl Future<Output = T>) -> T {
        self.paused.store(true, Ordering::Relaxed);
        let outcome = wait.await;
        self.paused.store(false, Ordering::Relaxed);
        outcome
    }
}

/// A reader that tells a [`Liveness`] whatever arrives.
pub(super) struct Heard<R> {
    reader: R,
    liveness: Arc<Liveness>,
}

impl<R> Heard<R> {
    pub(super) fn new(reader: R, liveness: Arc<Liveness>) -> Self {
        Self { reader, liveness }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Heard<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let outcome = Pin::new(&mut self.reader).poll_read(cx, buf);
        if outcome.is_ready() {
            self.liveness.heard.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }
}
