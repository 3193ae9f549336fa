//! A connection that neither waits for its peer for ever nor leaves it without its answer.
//!
//! A client that stops reading would hold a reply's chunks, and a connection, for as long as it likes: writes may wait for a
//! limited time. A client that is answered before it has sent its whole body would lose the answer if the socket were
//! closed with bytes unread, for then TCP resets the connection: what it still sends is read and thrown away, also for a
//! limited time. Reads of requests are bounded where bodies and heads are read.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// How long a write may wait for the peer.
const STALL_MAX: Duration = Duration::from_secs(60);

/// How long a client may be silent after the last answer before its connection is dropped.
const LINGER_IDLE_MAX: Duration = Duration::from_secs(2);

/// How long it may go on sending what nobody wants: 30 s take more than most bodies.
const LINGER_MAX: Duration = Duration::from_secs(30);

/// What is thrown away at once; the more, the fewer calls.
const LINGER_BUFFER_BYTES: usize = 64 << 10;

/// See the module.
pub(super) struct Connection {
    stream: TcpStream,
    /// Runs while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
    /// What is there once everything is said, until the peer has said everything, too.
    lingering: Option<Lingering>,
}

struct Lingering {
    idle: Pin<Box<Sleep>>,
    until: Instant,
    discarded: Vec<u8>,
}

impl Lingering {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            idle: Box::pin(tokio::time::sleep_until(now + LINGER_IDLE_MAX)),
            until: now + LINGER_MAX,
            discarded: vec![0; LINGER_BUFFER_BYTES],
        }
    }

    /// Ready when the peer has ended or failed, or was waited for long enough.
    fn poll(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut bytes = ReadBuf::new(&mut self.discarded);
            match Pin::new(&mut *stream).poll_read(cx, &mut bytes) {
                Poll::Ready(Ok(())) if !bytes.filled().is_empty() => {
                    let now = Instant::now();
                    if now >= self.until {
                        return Poll::Ready(());
                    }
                    self.idle.as_mut().reset(self.until.min(now + LINGER_IDLE_MAX));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.idle.as_mut().poll(cx),
            }
        }
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, stalled: None, lingering: None }
    }

    /// Passes a write's outcome on, and ends a wait that is too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + STALL_MAX)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let lingering = this.lingering.get_or_insert_with(Lingering::new);
        lingering.poll(&mut this.stream, cx).map(Ok)
    }
}
