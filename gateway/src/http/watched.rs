//! What is learnt of a request's body as it comes, for those that have it watched: when its last piece did, and of small ones the
//! bytes. All other bodies go to s3s untouched.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::recording::LastByte;

/// The largest body that is kept: what a connection may have in its buffers anyway, and all documents but the very long.
const KEPT_BYTES_MAX: u64 = 64 << 10;

/// How a SHA-256 is written.
const DIGEST_CHARS: usize = 64;

/// The bytes of a body whose SHA-256 the client has said. s3s compares it as they arrive and keeps what it finds to itself, but
/// S3 tells it to whose digest is another. Nothing is hashed before that, so requests that are right pay a reference to each
/// piece of theirs.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pieces: Arc<Mutex<Vec<Bytes>>>,
    length: u64,
}

impl Kept {
    /// For a request with these headers; nothing if it says no digest, or has a large body.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
        let says_digest = headers.get("x-amz-content-sha256")?.len() == DIGEST_CHARS;
        (says_digest && length > 0 && length <= KEPT_BYTES_MAX).then(|| Self { pieces: Arc::default(), length })
    }

    /// The SHA-256 of the body, if it has come whole.
    pub(super) fn sha256(&self) -> Option<String> {
        let pieces = self.pieces.lock();
        let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        let whole = || pieces.iter().fold(Sha256::new(), |hasher, piece| hasher.chain_update(piece)).finalize();
        (length == self.length).then(|| hex::encode(whole()))
    }

    fn keep(&self, piece: &Bytes) {
        self.pieces.lock().push(piece.clone());
    }
}

/// The body as s3s takes it.
pub(super) fn watch(body: Incoming, last_byte: Option<LastByte>, kept: Option<Kept>) -> s3s::Body {
    match (&last_byte, &kept) {
        (None, None) => s3s::Body::from(body),
        _ => s3s::Body::http_body_unsync(Watched { body, last_byte, kept }),
    }
}

struct Watched<B> {
    body: B,
    last_byte: Option<LastByte>,
    kept: Option<Kept>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let (Poll::Ready(_), Some(last_byte)) = (&polled, &self.last_byte) {
            last_byte.tell();
        }
        if let (Poll::Ready(Some(Ok(frame))), Some(kept)) = (&polled, &self.kept) {
            frame.data_ref().into_iter().for_each(|piece| kept.keep(piece));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use http_body_util::{BodyExt, Full};
    use sha2::{Digest, Sha256};

    use super::{KEPT_BYTES_MAX, Kept, Watched};

    fn headers(digest: &str, length: u64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-content-sha256", HeaderValue::from_str(digest).unwrap());
        headers.insert("content-length", HeaderValue::from(length));
        headers
    }

    #[tokio::test]
    async fn the_digest_of_a_whole_body_is_known() {
        let kept = Kept::of(&headers(&"0".repeat(64), 5)).unwrap();
        assert_eq!(kept.sha256(), None, "nothing has come yet");
        let body = Watched { body: Full::new("hello".into()), last_byte: None, kept: Some(kept.clone()) };
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
        assert_eq!(kept.sha256(), Some(hex::encode(Sha256::digest("hello"))));
    }

    #[test]
    fn only_small_bodies_with_a_digest_are_kept() {
        let digest = "0".repeat(64);
        assert!(Kept::of(&headers(&digest, KEPT_BYTES_MAX)).is_some());
        assert!(Kept::of(&headers(&digest, KEPT_BYTES_MAX + 1)).is_none());
        assert!(Kept::of(&headers(&digest, 0)).is_none());
        assert!(Kept::of(&headers("UNSIGNED-PAYLOAD", 5)).is_none());
        assert!(Kept::of(&HeaderMap::new()).is_none());
    }
}
