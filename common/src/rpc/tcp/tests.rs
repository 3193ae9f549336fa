//! What only TCP has: secrets, lanes, a wire that strangers may write to, and a peer that panics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::server::CONTROL_HANDLERS_MAX;
use super::{TcpServer, TcpTransport};
use crate::rpc::conformance::{PATIENCE, Probe, Site, conformance_suite, identity, knock, request};
use crate::rpc::frame::Channel;
use crate::rpc::handshake::{self, ClusterSecret};
use crate::rpc::{Envelope, IdentitySource, Lane, RpcError, Service, SharedTransport, Transport};

conformance_suite!(crate::rpc::tcp::tests::Loopback::default());

fn secret(text: &str) -> ClusterSecret {
    ClusterSecret::parse(text).unwrap()
}

const SECRET: &str = "the secret of the test cluster";

/// Servers on loopback.
#[derive(Default)]
struct Loopback {
    servers: Mutex<HashMap<String, (CancellationToken, JoinHandle<()>)>>,
}

#[async_trait]
impl Site for Loopback {
    async fn start(&self, service: Arc<dyn Service>, identity: IdentitySource) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let shutdown = CancellationToken::new();
        let server = TcpServer::serve(listener, service, identity, secret(SECRET), shutdown.clone());
        self.servers.lock().insert(addr.clone(), (shutdown, tokio::spawn(server)));
        addr
    }

    async fn stop(&self, addr: &str) {
        let (shutdown, server) = self.servers.lock().remove(addr).unwrap();
        shutdown.cancel();
        timeout(PATIENCE, server).await.expect("in time").unwrap();
    }

    fn transport(&self, identity: IdentitySource) -> SharedTransport {
        Arc::new(TcpTransport::new(identity, secret(SECRET)))
    }
}

async fn server(site: &Loopback) -> (Arc<Probe>, String) {
    let probe = Probe::new();
    let addr = site.start(probe.clone(), identity(1, Some(1))).await;
    (probe, addr)
}

#[tokio::test]
async fn another_secret_is_refused() {
    let site = Loopback::default();
    let (_probe, addr) = server(&site).await;
    let transport = TcpTransport::new(identity(2, Some(1)), secret("some other secret of some length"));
    for _ in 0..2 {
        let outcome = transport.call(&addr, Lane::Control, request("echo"), PATIENCE).await;
        assert!(matches!(&outcome, Err(RpcError::Refused { reason, .. }) if reason.contains("secret")), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_calls_pass_while_bulk_runs() {
    let site = Loopback::default();
    let (_probe, addr) = server(&site).await;
    let transport = site.transport(identity(2, Some(1)));
    let stop = CancellationToken::new();
    let bulk: Vec<_> = (0..8)
        .map(|_| {
            let (addr, transport, stop) = (addr.clone(), transport.clone(), stop.clone());
            tokio::spawn(async move {
                let chunk = Envelope { payload: vec![7; 4 << 20].into(), ..request("length") };
                let mut transfers = 0;
                while !stop.is_cancelled() || transfers == 0 {
                    transport.call(&addr, Lane::Bulk, chunk.clone(), PATIENCE).await.unwrap();
                    transfers += 1;
                }
            })
        })
        .collect();
    for lane in [Lane::Control, Lane::Bulk] {
        for _ in 0..100 {
            transport.call(&addr, lane, request("echo"), PATIENCE).await.unwrap();
        }
    }
    stop.cancel();
    for transfers in bulk {
        transfers.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_holds_calls_back_but_not_messages() {
    let site = Loopback::default();
    let (probe, addr) = server(&site).await;
    let transport = site.transport(identity(2, Some(1)));
    let hang = |lane| {
        let (addr, transport) = (addr.clone(), transport.clone());
        tokio::spawn(async move { transport.call(&addr, lane, request("hang"), Duration::from_secs(10)).await })
    };
    knock(&probe, &transport, &addr).await;
    let calls: Vec<_> = (0..CONTROL_HANDLERS_MAX + 5).map(|_| hang(Lane::Control)).collect();
    probe.until_hanging(CONTROL_HANDLERS_MAX).await;
    transport.send(&addr, request("meanwhile"));
    probe.until_received(|received| received.iter().any(|header| header == "meanwhile")).await;
    for call in calls {
        assert!(matches!(call.await.unwrap(), Err(RpcError::TimedOut { .. })));
    }
    assert!(transport.call(&addr, Lane::Control, request("echo"), PATIENCE).await.is_ok());
}

#[tokio::test]
async fn a_panicking_handler_fails_its_call_alone() {
    let site = Loopback::default();
    let (_probe, addr) = server(&site).await;
    let transport = site.transport(identity(2, Some(1)));
    let outcome = transport.call(&addr, Lane::Control, request("panic"), PATIENCE).await;
    assert!(matches!(outcome, Err(RpcError::Lost { .. })), "{outcome:?}");
    assert!(transport.call(&addr, Lane::Control, request("echo"), PATIENCE).await.is_ok());
}

#[tokio::test]
async fn a_message_makes_the_connection() {
    let site = Loopback::default();
    let (probe, addr) = server(&site).await;
    let transport = site.transport(identity(2, Some(1)));
    let received = probe.until_received(|received| !received.is_empty());
    tokio::pin!(received);
    // The first ones are lost without a word, as long as there is no connection.
    let mut beat = tokio::time::interval(Duration::from_millis(1));
    loop {
        tokio::select! {
            seen = &mut received => {
                assert_eq!(seen[0], "knock");
                return;
            }
            _ = beat.tick() => {
                // From a thread that the runtime does not know, as Raft does.
                let (transport, addr) = (transport.clone(), addr.clone());
                std::thread::spawn(move || transport.send(&addr, request("knock"))).join().unwrap();
            }
        }
    }
}

#[tokio::test]
async fn malformed_frames_close_the_connection() {
    let site = Loopback::default();
    let (_probe, addr) = server(&site).await;
    let mut stream = TcpStream::connect(&addr).await.unwrap();
    handshake::connect(&mut stream, Channel::Control, identity(2, Some(1))(), &secret(SECRET)).await.unwrap();
    stream.write_all(&[0xff; 64]).await.unwrap();
    // It ends, with or without a reset, after the pings that were sent before.
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("in time");
}

#[tokio::test]
async fn a_silent_peer_is_found_dead() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    // Shakes hands, then never says anything again: a machine that lost its power.
    let silent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        handshake::accept(&mut stream, identity(1, Some(1))(), &secret(SECRET)).await.unwrap();
        std::future::pending::<()>().await;
    });
    let transport = Loopback::default().transport(identity(2, Some(1)));
    let outcome = transport.call(&addr, Lane::Control, request("echo"), PATIENCE).await;
    assert!(matches!(&outcome, Err(RpcError::Lost { reason, .. }) if reason.contains("silent")), "{outcome:?}");
    silent.abort();
}
