//! What every [`Transport`] promises, as tests that run against each implementation through the same door.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Envelope, IdentitySource, Lane, PAYLOAD_BYTES_MAX, PeerIdentity, RpcError, Service, SharedTransport};
use crate::ids::{ClusterId, InstanceId, NodeId};

/// Where an implementation's peers live.
#[async_trait]
pub(super) trait Site: Sync {
    /// Starts a peer and tells its address.
    async fn start(&self, service: Arc<dyn Service>, identity: IdentitySource) -> String;

    /// Ends a peer. Whoever calls it now must fail.
    async fn stop(&self, addr: &str);

    /// A transport for whoever has this identity.
    fn transport(&self, identity: IdentitySource) -> SharedTransport;
}

/// Runs the whole suite against the site that an expression makes.
macro_rules! conformance_suite {
    ($site:expr) => {
        conformance_suite!($site; echo, large_payloads_travel_both_ways, a_thousand_calls_at_once, deadline_passes,
            dropped_call_reaches_the_server, nobody_there, peer_goes_during_a_call, peer_comes_back, messages_stay_in_order,
            other_cluster, caller_is_known, large_calls_beyond_every_bound);
    };
    ($site:expr; $($name:ident),*) => {
        mod conforms {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::rpc::conformance::$name(&$site).await;
                }
            )*
        }
    };
}
pub(super) use conformance_suite;

/// No test waits longer than this for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A service that does what the request's header says.
pub(super) struct Probe {
    /// Handlers that hang at this moment.
    pub(super) hanging: watch::Sender<usize>,
    /// What was received, in order.
    pub(super) received: watch::Sender<Vec<Bytes>>,
}

impl Probe {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { hanging: watch::Sender::new(0), received: watch::Sender::new(Vec::new()) })
    }

    pub(super) async fn until_hanging(&self, count: usize) {
        let mut hanging = self.hanging.subscribe();
        timeout(PATIENCE, hanging.wait_for(|now| *now == count)).await.expect("in time").expect("the probe lives");
    }

    pub(super) async fn until_received(&self, enough: impl Fn(&[Bytes]) -> bool) -> Vec<Bytes> {
        let mut received = self.received.subscribe();
        let seen = timeout(PATIENCE, received.wait_for(|now| enough(now))).await.expect("in time");
        seen.expect("the probe lives").clone()
    }
}

struct Hanging<'a>(&'a Probe);

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.hanging.send_modify(|count| *count -= 1);
    }
}

#[async_trait]
impl Service for Probe {
    async fn call(&self, peer: &PeerIdentity, request: Envelope) -> Envelope {
        match &request.header[..] {
            b"hang" => {
                self.hanging.send_modify(|count| *count += 1);
                let _hanging = Hanging(self);
                std::future::pending().await
            }
            b"length" => Envelope::from_header(request.payload.len().to_string()),
            b"who" => Envelope::from_header(peer.node.map_or(0, |node| node.0).to_string()),
            b"panic" => panic!("the probe was told to"),
            _ => request,
        }
    }

    fn receive(&self, _peer: &PeerIdentity, message: Envelope) {
        self.received.send_modify(|received| received.push(message.header));
    }
}

pub(super) fn identity(node: u64, cluster: Option<u8>) -> IdentitySource {
    let identity = PeerIdentity {
        instance: InstanceId([node as u8; 16]),
        node: Some(NodeId(node)),
        cluster: cluster.map(|id| ClusterId([id; 16])),
    };
    Arc::new(move || identity.clone())
}

pub(super) fn request(header: &'static str) -> Envelope {
    Envelope::from_header(header)
}

fn large(header: &'static str, payload_bytes: usize, seed: usize) -> Envelope {
    let payload: Vec<u8> = (0..payload_bytes).map(|at| (at * 31 + (at >> 12) + seed) as u8).collect();
    Envelope { header: Bytes::from_static(header.as_bytes()), payload: payload.into() }
}

/// Sends until something arrives: messages are lost without a word as long as there is no connection.
pub(super) async fn knock(probe: &Probe, transport: &SharedTransport, addr: &str) {
    let mut beat = tokio::time::interval(Duration::from_millis(1));
    let arrival = probe.until_received(|received| !received.is_empty());
    tokio::pin!(arrival);
    loop {
        tokio::select! {
            _ = &mut arrival => return,
            _ = beat.tick() => transport.send(addr, request("knock")),
        }
    }
}

fn is_knock(header: &Bytes) -> bool {
    header == "knock"
}

async fn pair(site: &dyn Site) -> (Arc<Probe>, String, SharedTransport) {
    let probe = Probe::new();
    let addr = site.start(probe.clone(), identity(1, Some(1))).await;
    (probe, addr, site.transport(identity(2, Some(1))))
}

pub(super) async fn echo(site: &dyn Site) {
    let (_probe, addr, transport) = pair(site).await;
    for lane in [Lane::Control, Lane::Bulk] {
        for envelope in [Envelope::default(), request("hello"), large("", 1, 0), large("both", 5000, 1)] {
            assert_eq!(transport.call(&addr, lane, envelope.clone(), PATIENCE).await, Ok(envelope));
        }
    }
}

pub(super) async fn large_payloads_travel_both_ways(site: &dyn Site) {
    let (_probe, addr, transport) = pair(site).await;
    let piece_bytes = 256 << 10;
    for lane in [Lane::Control, Lane::Bulk] {
        for payload_bytes in [piece_bytes - 1, piece_bytes, piece_bytes + 1, 4 << 20, PAYLOAD_BYTES_MAX] {
            let envelope = large("echo", payload_bytes, payload_bytes);
            let echoed = transport.call(&addr, lane, envelope.clone(), PATIENCE).await.unwrap();
            assert!(echoed == envelope, "{payload_bytes} bytes on {lane:?}");
        }
    }
}

pub(super) async fn a_thousand_calls_at_once(site: &dyn Site) {
    let (_probe, addr, transport) = pair(site).await;
    let calls = (0..1000_usize).map(|n| {
        let (addr, transport) = (addr.clone(), transport.clone());
        tokio::spawn(async move {
            let lane = if n % 2 == 0 { Lane::Control } else { Lane::Bulk };
            let envelope = Envelope { header: n.to_string().into(), payload: vec![n as u8; n].into() };
            assert_eq!(transport.call(&addr, lane, envelope.clone(), PATIENCE).await, Ok(envelope));
        })
    });
    for call in join_all(calls).await {
        call.unwrap();
    }
}

pub(super) async fn large_calls_beyond_every_bound(site: &dyn Site) {
    let (_probe, addr, transport) = pair(site).await;
    let envelope = large("length", 4 << 20, 3);
    let calls = (0..40).map(|_| transport.call(&addr, Lane::Bulk, envelope.clone(), PATIENCE));
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap().header, (4 << 20).to_string());
    }
    let echoes = (0..20).map(|n| {
        let (addr, transport) = (addr.clone(), transport.clone());
        tokio::spawn(async move {
            let envelope = large("echo", 3 << 20, n);
            assert!(transport.call(&addr, Lane::Bulk, envelope.clone(), PATIENCE).await.unwrap() == envelope);
        })
    });
    for echo in join_all(echoes).await {
        echo.unwrap();
    }
}

pub(super) async fn deadline_passes(site: &dyn Site) {
    let (probe, addr, transport) = pair(site).await;
    let deadline = Duration::from_millis(20);
    let outcome = transport.call(&addr, Lane::Control, request("hang"), deadline).await;
    assert_eq!(outcome, Err(RpcError::TimedOut { addr: addr.clone(), after: deadline }));
    probe.until_hanging(0).await;
    assert!(transport.call(&addr, Lane::Control, request("still there"), PATIENCE).await.is_ok());
}

pub(super) async fn dropped_call_reaches_the_server(site: &dyn Site) {
    let (probe, addr, transport) = pair(site).await;
    for lane in [Lane::Control, Lane::Bulk] {
        let call = tokio::spawn({
            let (addr, transport) = (addr.clone(), transport.clone());
            async move { transport.call(&addr, lane, request("hang"), PATIENCE * 100).await }
        });
        probe.until_hanging(1).await;
        call.abort();
        probe.until_hanging(0).await;
        assert!(transport.call(&addr, lane, request("still there"), PATIENCE).await.is_ok());
    }
}

pub(super) async fn nobody_there(site: &dyn Site) {
    let (_probe, addr, transport) = pair(site).await;
    site.stop(&addr).await;
    for lane in [Lane::Control, Lane::Bulk] {
        // More than one: a failure that is remembered fails as the first one did.
        for _ in 0..3 {
            let outcome = transport.call(&addr, lane, request("echo"), PATIENCE).await;
            assert!(matches!(outcome, Err(RpcError::Unreachable { .. })), "{outcome:?}");
        }
    }
    transport.send(&addr, request("to nobody"));
}

pub(super) async fn peer_goes_during_a_call(site: &dyn Site) {
    let (probe, addr, transport) = pair(site).await;
    let call = tokio::spawn({
        let addr = addr.clone();
        async move { transport.call(&addr, Lane::Control, request("hang"), PATIENCE * 100).await }
    });
    probe.until_hanging(1).await;
    site.stop(&addr).await;
    let outcome = timeout(PATIENCE, call).await.expect("in time").unwrap();
    assert!(matches!(outcome, Err(RpcError::Lost { .. })), "{outcome:?}");
    probe.until_hanging(0).await;
}

pub(super) async fn peer_comes_back(site: &dyn Site) {
    let (_probe, addr, transport) = pair(site).await;
    assert!(transport.call(&addr, Lane::Control, request("echo"), PATIENCE).await.is_ok());
    site.stop(&addr).await;
    let again = site.start(Probe::new(), identity(1, Some(1))).await;
    assert!(transport.call(&again, Lane::Control, request("echo"), PATIENCE).await.is_ok());
}

pub(super) async fn messages_stay_in_order(site: &dyn Site) {
    let (probe, addr, transport) = pair(site).await;
    knock(&probe, &transport, &addr).await;
    let numbers = 0..200_u32;
    for number in numbers.clone() {
        // Some take several pieces' worth of time.
        let payload_bytes = if number % 50 == 7 { 600 << 10 } else { 10 };
        let header = Bytes::copy_from_slice(&number.to_le_bytes());
        transport.send(&addr, Envelope { header, payload: vec![0; payload_bytes].into() });
    }
    let count = numbers.len();
    let received =
        probe.until_received(|received| received.len() > count && !is_knock(&received[received.len() - count])).await;
    let expected: Vec<Bytes> = numbers.map(|number| Bytes::copy_from_slice(&number.to_le_bytes())).collect();
    assert_eq!(received[received.len() - count..], expected);
}

pub(super) async fn other_cluster(site: &dyn Site) {
    let (probe, addr, _) = pair(site).await;
    let stranger = site.transport(identity(3, Some(9)));
    let outcome = stranger.call(&addr, Lane::Control, request("echo"), PATIENCE).await;
    assert!(matches!(&outcome, Err(RpcError::Refused { reason, .. }) if reason.contains("cluster")), "{outcome:?}");
    stranger.send(&addr, request("from a stranger"));

    let newcomer = site.transport(identity(4, None));
    assert!(newcomer.call(&addr, Lane::Control, request("echo"), PATIENCE).await.is_ok());
    knock(&probe, &newcomer, &addr).await;
    assert!(probe.received.borrow().iter().all(is_knock), "the stranger was not heard");
}

pub(super) async fn caller_is_known(site: &dyn Site) {
    let (_probe, addr, _) = pair(site).await;
    let node = Arc::new(std::sync::atomic::AtomicU64::new(5));
    let transport = site.transport({
        let node = node.clone();
        Arc::new(move || identity(node.load(std::sync::atomic::Ordering::Relaxed), Some(1))())
    });
    for number in ["5", "6"] {
        node.store(number.parse().unwrap(), std::sync::atomic::Ordering::Relaxed);
        let answer = transport.call(&addr, Lane::Control, request("who"), PATIENCE).await.unwrap();
        assert_eq!(answer.header, number, "a peer is known by what it is now");
    }
}
