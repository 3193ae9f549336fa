//! How much of a body the parser of a form is given before it finds what it looks for. multer keeps all that it is given until a
//! boundary or the end of a part's head is in it, and searches that from its beginning each time: who sends neither would fill
//! the memory. What a part holds is handed out as it comes, and let through.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt};

/// Between a body and its parser. While it is closed it counts what passes, and lets no more through than a bound, and the piece
/// that goes over it.
#[derive(Clone)]
pub(crate) struct Gate(Arc<State>);

struct State {
    bytes_max: usize,
    passed: AtomicUsize,
    is_open: AtomicBool,
    /// Whether the parser wanted more than it may have: it may have found what it looks for all the same.
    is_exhausted: AtomicBool,
}

/// Why nothing was found.
#[derive(Debug)]
pub(crate) enum NotFound {
    /// It is not in as many bytes as may pass.
    TooFar,
    /// The form is malformed, or its body failed.
    Form(multer::Error),
}

impl Gate {
    /// One that is closed.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let state = State { bytes_max, passed: 0.into(), is_open: false.into(), is_exhausted: false.into() };
        Self(Arc::new(state))
    }

    /// The body behind it.
    pub(crate) fn before<S>(&self, body: S) -> Gated<S> {
        Gated { body, gate: self.clone() }
    }

    /// Lets everything through from now on.
    pub(crate) fn open(&self) {
        self.0.is_open.store(true, Ordering::Relaxed);
    }

    /// Counts from now on, and anew.
    pub(crate) fn close(&self) {
        self.0.is_open.store(false, Ordering::Relaxed);
        self.0.passed.store(0, Ordering::Relaxed);
        self.0.is_exhausted.store(false, Ordering::Relaxed);
    }

    /// Waits for what the parser finds, or for it to want more than it may have.
    pub(crate) async fn watch<T>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<T, multer::Error>>,
    ) -> Result<T, NotFound> {
        poll_fn(|cx| match poll(cx) {
            Poll::Pending if self.0.is_exhausted.load(Ordering::Relaxed) => Poll::Ready(Err(NotFound::TooFar)),
            polled => polled.map_err(NotFound::Form),
        })
        .await
    }

    fn is_shut(&self) -> bool {
        !self.0.is_open.load(Ordering::Relaxed) && self.0.passed.load(Ordering::Relaxed) > self.0.bytes_max
    }
}

/// A body behind its gate.
pub(crate) struct Gated<S> {
    body: S,
    gate: Gate,
}

impl<S, E> Stream for Gated<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    type Item = Result<Bytes, E>;

    /// Pending at the gate is for good, but [`Gate::watch`] ends it. An error would hide from the parser what it has already.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.gate.is_shut() {
            self.gate.0.is_exhausted.store(true, Ordering::Relaxed);
            return Poll::Pending;
        }
        let polled = self.body.poll_next_unpin(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &polled {
            self.gate.0.passed.fetch_add(bytes.len(), Ordering::Relaxed);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use futures::{Stream, StreamExt};
    use multer::Multipart;

    use super::{Gate, NotFound};

    const BYTES_MAX: usize = 4 << 10;
    const PIECE_BYTES: usize = 1 << 10;

    fn in_pieces(body: Vec<u8>) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + Unpin + 'static {
        let pieces: Vec<_> = body.chunks(PIECE_BYTES).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        futures::stream::iter(pieces)
    }

    /// How many pieces were taken of a body that begins so, until nothing more is looked for.
    async fn taken(begin: &[u8]) -> usize {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let endless = in_pieces([begin, &[b'x'; 100 * PIECE_BYTES]].concat());
        let gate = Gate::new(BYTES_MAX);
        let body = gate.before(endless.inspect(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let mut form = Multipart::new(body, "b");
        let found = gate.watch(|cx| form.poll_next_field(cx)).await.map(|_| ());
        assert!(matches!(found, Err(NotFound::TooFar)), "{found:?}");
        taken.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_part_that_does_not_begin_is_not_waited_for() {
        for begin in ["", "--b\r\n", "--b\r\nX: ", "--b\r\nContent-Disposition: form-data; name=\""] {
            assert_eq!(taken(begin.as_bytes()).await, BYTES_MAX / PIECE_BYTES + 1, "{begin}");
        }
    }

    #[tokio::test]
    async fn what_parts_hold_is_let_through() {
        let held = vec![b'x'; 3 * BYTES_MAX];
        let head = b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n";
        let body = [&head[..], &held, b"\r\n", head, &held, b"\r\n--b--\r\n"].concat();
        let gate = Gate::new(BYTES_MAX);
        let mut form = Multipart::new(gate.before(in_pieces(body)), "b");
        for _ in 0..2 {
            let mut field = gate.watch(|cx| form.poll_next_field(cx)).await.unwrap().unwrap();
            gate.open();
            let mut read = 0;
            while let Some(piece) = field.chunk().await.unwrap() {
                read += piece.len();
            }
            assert_eq!(read, held.len());
            gate.close();
        }
        assert!(gate.watch(|cx| form.poll_next_field(cx)).await.unwrap().is_none());
    }
}
