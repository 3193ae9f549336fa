//! Many clients at once, and some who want everything: what a gateway holds for all of them is bounded, and others still get through.

use std::net::SocketAddr;
use std::time::Duration;

use annulus_tests::client::S3;
use annulus_tests::cluster::{Cluster, Spec};
use annulus_tests::wait;
use annulus_tests::wire::Wire;
use aws_sigv4::http_request::SignableBody::UnsignedPayload;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::{CHUNK_BYTES, content, new_bucket};

const MIB: usize = 1 << 20;

/// What all requests of a gateway may hold: as little as can be configured. Three quarters of it are for objects' bytes.
const MEMORY_BYTES: usize = 128 * MIB;

/// As many uploads as find memory at once.
const UPLOADS: usize = MEMORY_BYTES / 4 * 3 / CHUNK_BYTES;

fn small_cluster() -> Spec {
    Spec { nodes: 1, gateways: 1, replication_factor: 1, ..Spec::default() }
}

async fn metric(cluster: &Cluster, name: &str) -> usize {
    let text = cluster.anonymous().get("/-/metrics").ok().await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in\n{text}"))
}

/// Waits until requests hold so much, or little.
async fn until_held(cluster: &Cluster, what: &str, holds: impl Fn(usize) -> bool) {
    wait::until(what, async || holds(metric(cluster, "annulus_http_memory_bytes").await).then_some(())).await;
}

/// Requests whose clients sent their heads and nothing else.
async fn stalled(cluster: &Cluster, s3: &S3, targets: impl Iterator<Item = String>, bytes: usize) -> Vec<Wire> {
    let mut wires = Vec::new();
    for target in targets {
        let call = if target.ends_with("?delete") { s3.post(&target) } else { s3.put(&target) };
        wires.push(Wire::open(cluster.addr(0), &call.signed_body(UnsignedPayload).prepare(), bytes).await);
    }
    wires
}

#[tokio::test]
async fn stalled_uploads_leave_small_requests_alone_and_large_ones_are_told_to_slow_down() {
    let cluster = Cluster::start(Spec { request_memory_bytes: MEMORY_BYTES as u64, ..small_cluster() }).await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let large = content(CHUNK_BYTES + 1, 1);
    s3.put(&format!("{bucket}/large")).body(large.clone()).ok().await;
    let targets = (0..UPLOADS).map(|number| format!("{bucket}/stalled-{number}"));
    let mut wires = stalled(&cluster, &s3, targets, large.len()).await;
    until_held(&cluster, "the uploads hold all there is", |held| held >= UPLOADS * CHUNK_BYTES).await;

    let (put, get) = (s3.put(&format!("{bucket}/more")).body(large.clone()), s3.get(&format!("{bucket}/large")));
    let small = async {
        s3.put(&format!("{bucket}/small")).body(content(60_000, 2)).ok().await;
        assert!(s3.get(&format!("{bucket}/small")).ok().await.body == content(60_000, 2));
        assert_eq!(s3.get(&format!("{bucket}?list-type=2")).ok().await.elements("Key").len(), 2);
    };
    tokio::join!(put.refused(503, "SlowDown"), get.refused(503, "SlowDown"), small);
    assert_eq!(metric(&cluster, "annulus_http_memory_refused_total").await, 2);

    // Who waits when an upload ends gets what it held.
    let (put, mut finished) =
        (s3.put(&format!("{bucket}/more")).body(large.clone()), wires.pop().expect("there are some"));
    assert!(finished.send(&large).await);
    let (_, answer) = tokio::join!(put.ok(), finished.answer());
    assert!(answer.expect("an answer").status.is_success());
    wires.into_iter().for_each(Wire::vanish);
    until_held(&cluster, "who has gone holds nothing", |held| held == 0).await;
    assert!(s3.get(&format!("{bucket}/more")).ok().await.body == large);
}

#[tokio::test]
async fn clients_who_do_not_read_do_not_keep_others_from_reading() {
    const READERS: usize = 16;
    let cluster = Cluster::start(Spec { request_memory_bytes: MEMORY_BYTES as u64, ..small_cluster() }).await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    // More than sockets hold.
    let body = content(24 * MIB, 3);
    let target = format!("{bucket}/k");
    s3.put(&target).body(body.clone()).ok().await;
    let mut wires = Vec::new();
    for _ in 0..READERS {
        wires.push(Wire::open(cluster.addr(0), &s3.get(&target).prepare(), 0).await);
    }
    let ahead = MEMORY_BYTES / 4 * 3 / 2;
    until_held(&cluster, "they hold what they may", |held| held > ahead / 2).await;
    for _ in 0..3 {
        assert!(s3.get(&target).ok().await.body == body);
        let held = metric(&cluster, "annulus_http_memory_bytes").await;
        assert!(held <= ahead + (READERS + 1) * MIB, "{held}");
    }
    s3.put(&format!("{bucket}/other")).body(body.clone()).ok().await;
    for wire in wires {
        assert!(wire.answer().await.expect("an answer").body == body, "who reads at last gets everything");
    }
    until_held(&cluster, "nobody holds anything", |held| held == 0).await;
}

#[tokio::test]
async fn documents_have_memory_of_their_own() {
    let cluster = Cluster::start(Spec { request_memory_bytes: MEMORY_BYTES as u64, ..small_cluster() }).await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    // Each in three copies, of a quarter of all memory.
    let wires = stalled(&cluster, &s3, (0..4).map(|_| format!("{bucket}?delete")), 5 * MIB / 2).await;
    until_held(&cluster, "the documents hold all there is", |held| held > 29 * MIB).await;
    let body = content(2 * CHUNK_BYTES, 4);
    let objects = async {
        s3.put(&format!("{bucket}/k")).body(body.clone()).ok().await;
        assert!(s3.get(&format!("{bucket}/k")).ok().await.body == body);
    };
    tokio::join!(s3.get(&bucket).refused(503, "SlowDown"), objects);
    wires.into_iter().for_each(Wire::vanish);
    until_held(&cluster, "who has gone holds nothing", |held| held == 0).await;
    assert_eq!(s3.get(&bucket).ok().await.elements("Key"), ["k"]);
}

/// A connection from an address of this host's own, of which nothing comes.
async fn idle(cluster: &Cluster, from: &str) -> TcpStream {
    let from: SocketAddr = from.parse().expect("an address");
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    socket.bind(from).expect("all of 127.0.0.0/8 is this host");
    socket.connect(cluster.addr(0)).await.expect("the gateway listens")
}

#[tokio::test]
async fn a_client_with_many_connections_does_not_shut_others_out() {
    const CONNECTIONS: usize = 32;
    let cluster = Cluster::start(Spec { connections_max: CONNECTIONS, ..small_cluster() }).await;
    let mut greedy = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        greedy.push(idle(&cluster, "127.0.0.2:0").await);
    }
    wait::until("they were all accepted", async || {
        let served = metric(&cluster, "annulus_http_connections").await;
        let waiting = metric(&cluster, "annulus_http_connections_waiting").await;
        assert!(served < CONNECTIONS);
        (waiting > CONNECTIONS && served > CONNECTIONS / 2).then_some(())
    })
    .await;
    let s3 = S3::new(&cluster.endpoint(0), &cluster.root.access_key, &cluster.root.secret_key);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}/k")).body("x").ok().await;
    assert_eq!(s3.get(&format!("{bucket}/k")).ok().await.text(), "x");
    assert_eq!(metric(&cluster, "annulus_http_connections_refused_total").await, 0);

    // Those who wait are served when the others go.
    let mut last = greedy.pop().expect("there are some");
    last.write_all(b"GET /-/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("it is open");
    drop(greedy);
    let mut answer = Vec::new();
    let answered = tokio::time::timeout(Duration::from_secs(60), last.read_to_end(&mut answer)).await;
    answered.expect("its turn comes").expect("it is not cut off");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}
