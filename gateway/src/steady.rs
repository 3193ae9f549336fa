//! How slowly a client may send a body or take a reply. Who falls silent, or moves a byte now and then, would hold a connection, and
//! what belongs to its request, for as long as it likes: of a body S3 answers it RequestTimeout, a reply breaks off. Only the time in
//! which the client is waited for counts: nobody is cut off because the cluster is slow to take what came, or to give what goes.
//!
//! Bodies that are small and read whole have a bound on all of their time where they are read.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::time::{Instant, Sleep};

use crate::object::BodyError;

/// How long a client may send, or take, nothing.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a client has to send, or take, in the long run: half of what a modem of 9,600 baud does, and what Apache asks for unless it is told
/// otherwise (`RequestReadTimeout body=20,MinRate=500`).
const BYTES_PER_SECOND_MIN: u32 = 500;

/// A body whose client must go on sending.
pub(crate) struct Steady<S, E> {
    body: S,
    classify: fn(E) -> BodyError,
    waiting: Waiting,
}

/// Waits for a client now and then, and not for ever.
pub(crate) struct Waiting {
    patience: Patience,
    /// Since when the client is waited for, if it is.
    since: Option<Instant>,
    /// Ends when it has been waited for long enough.
    end: Pin<Box<Sleep>>,
}

impl Waiting {
    /// Nobody is waited for yet.
    pub(crate) fn new() -> Self {
        Self::with_silence(SILENCE_MAX)
    }

    /// With another silence than clients are granted.
    pub(crate) fn with_silence(silence_max: Duration) -> Self {
        Self { patience: Patience::new(silence_max), since: None, end: Box::pin(tokio::time::sleep(silence_max)) }
    }

    /// The client moved so much.
    pub(crate) fn moved(&mut self, bytes: usize) {
        let waited = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.patience.moved(bytes, waited);
    }

    /// The client is waited for. Ready when that was long enough.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.since.is_none() {
            let now = Instant::now();
            self.end.as_mut().reset(now + self.patience.left);
            self.since = Some(now);
        }
        self.end.as_mut().poll(cx)
    }
}

/// How long a client is still waited for: waiting uses it up, and what moves restores it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Patience {
    left: Duration,
    max: Duration,
}

impl Patience {
    fn new(max: Duration) -> Self {
        Self { left: max, max }
    }

    /// So much moved after so long.
    fn moved(&mut self, bytes: usize, waited: Duration) {
        let per_byte = Duration::from_secs(1) / BYTES_PER_SECOND_MIN;
        let earned = per_byte.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.left = (self.left.saturating_sub(waited) + earned).min(self.max);
    }
}

impl<S, E> Steady<S, E> {
    /// The body, with what its errors mean.
    pub(crate) fn new(body: S, classify: fn(E) -> BodyError) -> Self {
        Self::with_silence(body, classify, SILENCE_MAX)
    }

    fn with_silence(body: S, classify: fn(E) -> BodyError, silence_max: Duration) -> Self {
        Self { body, classify, waiting: Waiting::with_silence(silence_max) }
    }
}

impl<S, E> Stream for Steady<S, E>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(piece) = self.body.poll_next_unpin(cx) {
            let bytes = piece.as_ref().map_or(0, |piece| piece.as_ref().map_or(0, Bytes::len));
            self.waiting.moved(bytes);
            return Poll::Ready(piece.map(|piece| piece.map_err(self.classify)));
        }
        self.waiting.poll(cx).map(|()| Some(Err(BodyError::TimedOut)))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use bytes::Bytes;
    use futures::{Stream, StreamExt};

    use super::{BYTES_PER_SECOND_MIN, Patience, Steady};
    use crate::object::BodyError;

    const SECOND: Duration = Duration::from_secs(1);

    fn steady(body: impl Stream<Item = Bytes> + Unpin) -> impl Stream<Item = Result<Bytes, BodyError>> + Unpin {
        let body = body.map(Ok::<_, Infallible>);
        Steady::with_silence(body, |never| match never {}, Duration::from_millis(50))
    }

    /// After how many pieces of that size, one each `wait`, nobody waits any more.
    fn endured(bytes: usize, wait: Duration) -> Option<usize> {
        let mut patience = Patience::new(60 * SECOND);
        (0..100_000).find(|_| {
            let is_over = patience.left < wait;
            patience.moved(bytes, wait);
            is_over
        })
    }

    #[test]
    fn slow_bodies_end_and_steady_ones_do_not() {
        assert_eq!(endured(1, 59 * SECOND), Some(1), "a byte a minute");
        assert_eq!(endured(1, SECOND), Some(60), "a byte a second");
        let rate = BYTES_PER_SECOND_MIN as usize;
        assert_eq!(endured(rate, SECOND), None);
        assert!(endured(rate * 9 / 10, SECOND).is_some());
        assert_eq!(endured(rate * 59, 59 * SECOND), None, "long pauses with something between");
        assert_eq!(endured(rate * 1_000, 61 * SECOND), Some(0), "silence");
    }

    #[test]
    fn nothing_is_saved_up() {
        let mut patience = Patience::new(60 * SECOND);
        patience.moved(usize::MAX, SECOND);
        assert_eq!(patience, Patience::new(60 * SECOND));
    }

    #[tokio::test]
    async fn silence_ends_a_body() {
        let begun = futures::stream::iter([Bytes::from_static(b"hello")]);
        let mut body = steady(begun.chain(futures::stream::pending()));
        assert_eq!(body.next().await, Some(Ok(Bytes::from_static(b"hello"))));
        assert_eq!(body.next().await, Some(Err(BodyError::TimedOut)));
    }

    #[tokio::test]
    async fn a_byte_now_and_then_ends_a_body() {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let dribble = futures::stream::poll_fn(move |cx| ticks.poll_tick(cx).map(|_| Some(Bytes::from_static(b"x"))));
        let pieces: Vec<_> = steady(dribble).take_while(|piece| std::future::ready(piece.is_ok())).collect().await;
        assert!(!pieces.is_empty());
    }

    #[tokio::test]
    async fn a_body_that_comes_is_as_it_was() {
        let pieces = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        let body = steady(futures::stream::iter(pieces.clone()));
        assert_eq!(body.map(Result::unwrap).collect::<Vec<_>>().await, pieces);
    }
}
