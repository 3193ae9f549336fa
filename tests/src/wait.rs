//! Waiting for a condition, with a bound. Tests never sleep for a guess.

use std::time::{Duration, Instant};

/// Longer than anything here takes on a slow machine: an election, a start, a delivery of hints.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL_EVERY: Duration = Duration::from_millis(50);

/// Asks until the answer is `Some`, and returns it. Panics with `what` when [`PATIENCE`] has run out.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    until_within(PATIENCE, what, &mut ask).await
}

/// The same with another patience, for what moves much.
pub async fn until_within<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < patience, "waited {patience:?} in vain until {what}");
        tokio::time::sleep(POLL_EVERY).await;
    }
}
