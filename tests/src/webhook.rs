//! A webhook of tests: it keeps what is posted to it, and answers what it is told to. It lives on a thread of its own, so
//! that tests with runtimes of their own can share it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::wait;

/// A webhook that listens. It is gone when it is dropped.
pub struct Receiver {
    addr: SocketAddr,
    state: Arc<State>,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
}

/// Something that was posted.
#[derive(Clone, Debug)]
pub struct Post {
    /// The path and its query.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Value,
    /// What was answered.
    pub status: u16,
}

struct State {
    status: AtomicU16,
    connections: AtomicUsize,
    /// What is answered about a key instead.
    refused: Mutex<Option<(String, u16)>>,
    posts: Mutex<Vec<Post>>,
}

impl Receiver {
    /// Listens at a port that is free, and takes what comes.
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same by TLS, with that certificate.
    pub fn start_certified(certificate: Arc<ServerConfig>) -> Self {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), Some(TlsAcceptor::from(certificate)))
    }

    /// Listens there.
    pub fn start_at(addr: SocketAddr) -> Self {
        Self::listen(addr, None)
    }

    fn listen(addr: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a thread can be started");
        let (connections, refused, posts) = (AtomicUsize::default(), Mutex::default(), Mutex::default());
        let state = Arc::new(State { status: AtomicU16::new(200), connections, refused, posts });
        let listener = std::net::TcpListener::bind(addr).expect("the port is free");
        listener.set_nonblocking(true).expect("a listener can be");
        let addr = listener.local_addr().expect("a listener has an address");
        let serving = Arc::clone(&state);
        runtime.spawn(async move { serve(TcpListener::from_std(listener).expect("a listener"), tls, serving).await });
        Self { addr, state, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its URL with that path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// How often somebody has connected.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Answers this from now on.
    pub fn answer(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    /// Answers this about one key from now on; about others it takes what comes.
    pub fn refuse(&self, key: &str, status: u16) {
        *self.state.refused.lock().expect("nobody panics with it") = Some((key.to_owned(), status));
    }

    /// All that was posted so far, what was refused too.
    pub fn posts(&self) -> Vec<Post> {
        self.state.posts.lock().expect("nobody panics with it").clone()
    }

    /// The records of a bucket that were taken so far, in the order of their coming.
    pub fn records(&self, bucket: &str) -> Vec<Value> {
        let taken = self.posts().into_iter().filter(|post| (200..300).contains(&post.status));
        let records = taken.flat_map(|post| post.body["Records"].as_array().cloned().unwrap_or_default());
        records.filter(|record| record["s3"]["bucket"]["name"] == bucket.trim_start_matches('/')).collect()
    }

    /// Waits until so many events of a bucket were taken, and returns them in the order of their coming. One that came again, as it
    /// may, is there once: where it came first.
    pub async fn until(&self, bucket: &str, count: usize) -> Vec<Value> {
        wait::until(&format!("{count} events of {bucket} are told"), async || {
            let mut seen = HashSet::new();
            let mut records = self.records(bucket);
            records.retain(|record| seen.insert(record["s3"]["object"].to_string()));
            Some(records).filter(|records| records.len() >= count)
        })
        .await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for its tasks would block, which a test's own runtime does not allow.
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        state.connections.fetch_add(1, Ordering::SeqCst);
        let (state, tls) = (Arc::clone(&state), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve_connection(stream, state).await,
                // A client that does not like the certificate leaves.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve_connection(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn serve_connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<State>) {
    let take = service_fn(move |request| take(Arc::clone(&state), request));
    // A client that leaves amid a request is no matter.
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), take).await;
}

async fn take(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let refused = state.refused.lock().expect("nobody panics with it").clone();
    let refused = refused.filter(|(key, _)| body["Records"][0]["s3"]["object"]["key"] == **key);
    let status = refused.map_or_else(|| state.status.load(Ordering::SeqCst), |(_, status)| status);
    let target = head.uri.to_string();
    let post = Post { target, headers: head.headers, body, status };
    state.posts.lock().expect("nobody panics with it").push(post);
    let mut response = Response::new(Full::new(Bytes::from_static(b"noted")));
    *response.status_mut() = StatusCode::from_u16(status).expect("a test's status is one");
    Ok(response)
}
