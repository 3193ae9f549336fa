//! A connection that neither waits for its peer for ever nor leaves it without its answer.
//!
//! A client that stops reading, or reads a byte now and then, would hold a reply's chunks, and a connection, for as long as it likes:
//! writes wait as little as bodies are waited for, and it must take as much as others must send. A client that is answered before it has sent its whole body would lose the answer if the socket were
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

use crate::steady::Waiting;

/// How long a client may be silent after the last answer before its connection is dropped.
const LINGER_IDLE_MAX: Duration = Duration::from_secs(2);

/// How long it may go on sending what nobody wants: 30 s take more than most bodies.
const LINGER_MAX: Duration = Duration::from_secs(30);

/// What is thrown away at once; the more, the fewer calls.
const LINGER_BUFFER_BYTES: usize = 64 << 10;

/// See the module.
pub(super) struct Connection<S = TcpStream> {
    stream: S,
    /// For the peer to take what is written.
    waiting: Waiting,
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
    fn poll(&mut self, stream: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<()> {
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

impl<S> Connection<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, waiting: Waiting::new(), lingering: None }
    }

    /// Passes a write's outcome on, and ends waits that are too long.
    fn watch(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            self.waiting.moved(*written.as_ref().unwrap_or(&0));
            return Poll::Ready(written);
        }
        self.waiting.poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<S> {
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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::Connection;
    use crate::steady::Waiting;

    const SILENCE_MAX: Duration = Duration::from_millis(50);

    /// A connection whose peer takes no more than a byte that it has not asked for.
    fn connection() -> (Connection<DuplexStream>, DuplexStream) {
        let (stream, peer) = tokio::io::duplex(1);
        (Connection { waiting: Waiting::with_silence(SILENCE_MAX), ..Connection::new(stream) }, peer)
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (mut connection, _peer) = connection();
        let error = connection.write_all(b"hello").await.expect_err("nobody reads");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_takes_a_byte_now_and_then_is_given_up() {
        let (mut connection, mut peer) = connection();
        let reading = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SILENCE_MAX / 10);
            loop {
                ticks.tick().await;
                if peer.read_u8().await.is_err() {
                    return;
                }
            }
        });
        let error = connection.write_all(&[0; 10_000]).await.expect_err("it reads too slowly");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(connection);
        reading.await.expect("it reads to the end");
    }

    #[tokio::test]
    async fn a_peer_that_reads_gets_everything() {
        let (stream, mut peer) = tokio::io::duplex(64);
        let mut connection = Connection::new(stream);
        let writing = tokio::spawn(async move { connection.write_all(&[7; 10_000]).await });
        let mut read = Vec::new();
        peer.read_to_end(&mut read).await.expect("it comes");
        assert_eq!(read, [7; 10_000]);
        writing.await.expect("it is written").expect("all of it");
    }
}
