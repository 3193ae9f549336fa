//! Proxies in front: what those say of a request whom the operator trusts holds everywhere, and what others say nowhere. And the
//! command line asks a gateway behind one by TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use annulus_common::network::Network;
use annulus_tests::certificates::{Authority, Validity};
use annulus_tests::client::{Call, S3};
use annulus_tests::cluster::{Cluster, Spec, WEBSITE_DOMAIN, shared};
use annulus_tests::processes::annulus;
use annulus_tests::wait;
use annulus_tests::webhook::Receiver;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::new_bucket;

/// Who asks a proxy, which asks the gateway.
const CLIENT: &str = "203.0.113.7";

/// A call as a proxy passes it on that was asked by [`CLIENT`] by TLS, whatever that client wrote in front.
fn forwarded(call: Call<'_>) -> Call<'_> {
    call.header("x-forwarded-for", &format!("198.51.100.1, {CLIENT}")).header("x-forwarded-proto", "https")
}

/// A bucket that anybody may read who comes from there by TLS.
async fn bucket_for_client(s3: &S3) -> String {
    let bucket = new_bucket(s3).await;
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
        "Resource": format!("arn:aws:s3:::{}/*", bucket.trim_start_matches('/')),
        "Condition": {"IpAddress": {"aws:SourceIp": CLIENT}, "Bool": {"aws:SecureTransport": "true"}},
    }]});
    s3.put(&format!("{bucket}?policy")).body(policy.to_string()).ok().await;
    s3.put(&format!("{bucket}/k")).body("hello").ok().await;
    bucket
}

#[tokio::test]
async fn nobody_is_believed_whom_the_operator_does_not_trust() {
    let cluster = shared().await;
    let bucket = bucket_for_client(&cluster.s3(0)).await;
    forwarded(cluster.anonymous().get(&format!("{bucket}/k"))).refused(403, "AccessDenied").await;
}

#[tokio::test]
async fn a_trusted_proxy_says_who_asks_and_how() {
    let hook = Receiver::start();
    let spec = Spec {
        nodes: 1,
        gateways: 1,
        replication_factor: 1,
        trusted_proxies: vec![Network::parse("127.0.0.0/8").expect("a network")],
        webhooks: vec![("hook", hook.url("/"))],
        ..Spec::default()
    };
    let cluster = Cluster::start(spec).await;
    let (s3, anonymous) = (cluster.s3(0), cluster.anonymous());
    let bucket = bucket_for_client(&s3).await;
    let target = format!("{bucket}/k");
    forwarded(anonymous.get(&target)).ok().await;
    anonymous.get(&target).refused(403, "AccessDenied").await;
    anonymous.get(&target).header("x-forwarded-for", CLIENT).refused(403, "AccessDenied").await;
    let other = anonymous.get(&target).header("x-forwarded-for", &format!("{CLIENT}, 198.51.100.1"));
    other.header("x-forwarded-proto", "https").refused(403, "AccessDenied").await;

    let logs = new_bucket(&s3).await;
    s3.put(&format!("{logs}?acl")).header("x-amz-acl", "log-delivery-write").ok().await;
    let logging = format!(
        "<BucketLoggingStatus><LoggingEnabled><TargetBucket>{}</TargetBucket><TargetPrefix>of/</TargetPrefix>\
         </LoggingEnabled></BucketLoggingStatus>",
        &logs[1..]
    );
    s3.put(&format!("{bucket}?logging")).body(logging).ok().await;
    let told = "<NotificationConfiguration><QueueConfiguration><Queue>arn:aws:sqs:::hook</Queue>\
                <Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>";
    s3.put(&format!("{bucket}?notification")).body(told).ok().await;
    forwarded(s3.put(&format!("{bucket}/told")).body("x")).ok().await;
    let told = wait::until("the event is told", async || hook.records(&bucket[1..]).pop()).await;
    assert_eq!(told["requestParameters"]["sourceIPAddress"], CLIENT);
    let line = wait::until("the access log is delivered", async || {
        for key in s3.get(&format!("{logs}?list-type=2")).ok().await.elements("Key") {
            let text = s3.get(&format!("{logs}/{key}")).ok().await.text();
            if let Some(line) = text.lines().find(|line| line.contains("REST.PUT.OBJECT told")) {
                return Some(line.to_owned());
            }
        }
        None
    })
    .await;
    assert!(line.contains(&format!("] {CLIENT} ")), "{line}");

    let website = "<WebsiteConfiguration><RedirectAllRequestsTo><HostName>example.org</HostName></RedirectAllRequestsTo>\
                   </WebsiteConfiguration>";
    s3.put(&format!("{bucket}?website")).body(website).ok().await;
    let pages = S3::anonymous(&cluster.endpoint(0)).at_host(&format!("{}.{WEBSITE_DOMAIN}", &bucket[1..]));
    let moved = async |call: Call<'_>| call.send().await.header("location").map(str::to_owned);
    assert_eq!(moved(forwarded(pages.get("/page"))).await.as_deref(), Some("https://example.org/page"));
    assert_eq!(moved(pages.get("/page")).await.as_deref(), Some("http://example.org/page"));
}

/// A proxy that does TLS in front of a gateway, and nothing else.
async fn tls_in_front(gateway: SocketAddr, authority: &Authority) -> SocketAddr {
    let acceptor = TlsAcceptor::from(authority.certify(&["127.0.0.1"], Validity::Now));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("a listener has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let Ok(mut server) = TcpStream::connect(gateway).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn the_command_line_asks_by_tls_whom_the_host_trusts() {
    let cluster = shared().await;
    let (trusted, unknown) = (Authority::new("trusted"), Authority::new("unknown"));
    let directory = tempfile::tempdir().expect("a directory");
    let roots = Arc::new(directory.path().join("roots.pem"));
    std::fs::write(&*roots, trusted.pem()).expect("it can be written");
    for (authority, works) in [(&trusted, true), (&unknown, false)] {
        let proxy = tls_in_front(cluster.addr(0), authority).await;
        let mut command = annulus(&format!("https://{proxy}"), &cluster.root, &["bucket", "list"]);
        command.env("SSL_CERT_FILE", &*roots).env_remove("SSL_CERT_DIR");
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic there");
        let output = output.expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), works, "{said}");
        assert!(works || said.contains("UnknownIssuer"), "{said}");
    }
}
