//! Requests byte for byte on a socket of their own: cut short, too long, or left alone halfway.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Reply;

/// Longer than any answer takes; a server that keeps silent is a failure of the test.
const ANSWER_WAIT: Duration = Duration::from_secs(90);

/// A request on its way, of which anything may still be sent.
pub struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Sends the head of a request that says that its body has `content_length` bytes.
    pub async fn open(addr: SocketAddr, request: &Request<Bytes>, content_length: usize) -> Self {
        Self::open_saying(addr, request, &format!("content-length: {content_length}\r\n")).await
    }

    /// Sends the head of a request that does not say how long its body is.
    pub async fn open_unsized(addr: SocketAddr, request: &Request<Bytes>) -> Self {
        Self::open_saying(addr, request, "").await
    }

    async fn open_saying(addr: SocketAddr, request: &Request<Bytes>, length: &str) -> Self {
        let mut stream = TcpStream::connect(addr).await.expect("the gateway accepts");
        let target = request.uri().path_and_query().expect("a target has a path");
        let mut head = format!("{} {target} HTTP/1.1\r\n", request.method()).into_bytes();
        for (name, value) in request.headers() {
            head.extend_from_slice(name.as_str().as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(format!("{length}connection: close\r\n\r\n").as_bytes());
        stream.write_all(&head).await.expect("the head is taken");
        Self { stream }
    }

    /// Sends some of the body, and says whether the server still took it: one that answered long ago need not.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Goes away without a word.
    pub fn vanish(self) {
        drop(self.stream);
    }

    /// Says that nothing more will come, and waits for the answer; nothing if the server just closed the connection.
    pub async fn finish(mut self) -> Option<Reply> {
        let _ = self.stream.shutdown().await;
        self.answer().await
    }

    /// Waits for the answer; nothing if the server just closed the connection.
    pub async fn answer(mut self) -> Option<Reply> {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(ANSWER_WAIT, self.stream.read_to_end(&mut answer));
        // A reset after the answer does not unmake it.
        let _ = read.await.expect("the server answers in time");
        parse(&answer)
    }
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?);
    }
    let body = Bytes::copy_from_slice(&answer[end + 4..]);
    Some(Reply { status: StatusCode::from_u16(status).ok()?, headers, body })
}
