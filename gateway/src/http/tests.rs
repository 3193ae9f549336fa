//! Requests through the whole service, as clients send them, on a cluster in memory.

mod acl;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use annulus_common::clock::SystemClock;
use annulus_common::map::{AccessKey, User};
use annulus_common::object::UserId;
use annulus_common::telemetry::Metrics;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::{GatewayHttpConfig, Handlers, Told, serve, service};
use crate::access_log::AccessLog;
use crate::auth::Accounts;
use crate::budget::MemoryBudget;
use crate::client::testing::FakeCluster;
use crate::events::{WebhookTls, Webhooks};
use crate::kms::{LocalKeys, MasterKey, MasterKeys, SecretKey};
use crate::object::Objects;

const ALICE: (&str, UserId) = ("ALICE", UserId([1; 32]));
const BOB: (&str, UserId) = ("BOB", UserId([2; 32]));

/// A gateway that listens.
struct Gateway {
    address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What came back.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// What stands in the first element of that name.
    fn element(&self, name: &str) -> &str {
        let rest = self.text().split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
        rest.split_once("</").map_or("", |(text, _)| text)
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("the header is text"))
    }

    fn code(&self) -> (u16, &str) {
        (self.status.as_u16(), self.element("Code"))
    }
}

/// A request to send.
struct Call<'a> {
    method: Method,
    path: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: Vec<u8>,
    key: Option<&'a str>,
    signed_body: SignableBody<'a>,
}

fn call<'a>(method: Method, path: &'a str) -> Call<'a> {
    let key = Some(ALICE.0);
    Call { method, path, headers: Vec::new(), body: Vec::new(), key, signed_body: SignableBody::UnsignedPayload }
}

impl<'a> Call<'a> {
    fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn signed_body(mut self, body: SignableBody<'a>) -> Self {
        self.signed_body = body;
        self
    }

    fn by(mut self, key: Option<&'a str>) -> Self {
        self.key = key;
        self
    }

    async fn to(self, gateway: &Gateway) -> Reply {
        let host = gateway.address.to_string();
        let uri = format!("http://{host}{}", self.path);
        let mut request = Request::builder().method(self.method).uri(self.path).header("host", &host);
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(Bytes::from(self.body))).expect("the request is valid");
        if let Some(key) = self.key {
            let identity = Credentials::new(key, format!("{key}-secret"), None, None, "test").into();
            let params = SigningParams::builder()
                .identity(&identity)
                .region("us-east-1")
                .name("s3")
                .time(SystemTime::now())
                .settings(settings())
                .build()
                .expect("all parameters are set")
                .into();
            let headers = self.headers.iter().copied().chain([("host", host.as_str())]);
            let signable = SignableRequest::new(request.method().as_str(), &uri, headers, self.signed_body);
            let signed = sign(signable.expect("the request is signable"), &params).expect("the request can be signed");
            signed.into_parts().0.apply_to_request_http1x(&mut request);
        }
        send(gateway.address, request).await
    }
}

fn settings() -> SigningSettings {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings
}

async fn send(address: SocketAddr, mut request: Request<Full<Bytes>>) -> Reply {
    // hyper leaves it out where the body is empty, and clients of S3 do not.
    if request.method() == Method::PUT && request.body().size_hint().exact() == Some(0) {
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("the gateway speaks HTTP");
    tokio::spawn(connection);
    let response = sender.send_request(request).await.expect("the gateway answers");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("the body arrives").to_bytes();
    Reply { status: head.status, headers: head.headers, body }
}

/// A gateway with Alice and Bob, and Alice's bucket `bucket`.
async fn gateway() -> Gateway {
    let cluster = FakeCluster::new(1, 1);
    {
        let mut state = cluster.state.lock();
        state.map.users = BTreeMap::from_iter([ALICE, BOB].map(|(name, id)| (id, user(name))));
        state.map.keys = BTreeMap::from_iter([ALICE, BOB].map(|(name, id)| (name.to_owned(), key(name, id))));
    }
    let client = cluster.client().await;
    let watch = client.watch().clone();
    let clock = SystemClock::shared();
    let masters = MasterKeys::new(MasterKey::new(SecretKey::new([1; 32])), Vec::new());
    let accounts = Accounts::new(watch, &masters);
    let keys = Arc::new(LocalKeys::new(client.clone(), masters, clock.clone()));
    let (config, handlers, metrics) = (GatewayHttpConfig::default(), Handlers::default(), Metrics::new());
    let budget = MemoryBudget::new(1 << 30, metrics.clone());
    let objects = Arc::new(Objects::new(client, keys, clock.clone(), budget));
    let access_log = AccessLog::new(clock.clone(), metrics.clone(), Duration::from_secs(60));
    let told =
        Told { metrics, access_log, webhooks: Webhooks::new(&[], &WebhookTls::trusting_nobody(), clock.clone()) };
    let service = service(config, objects, accounts, clock, handlers, told);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let serving = tokio::spawn(serve(listener, service, std::future::pending()));
    let gateway = Gateway { address, serving };
    assert_eq!(call(Method::PUT, "/bucket").to(&gateway).await.status, StatusCode::OK);
    gateway
}

fn user(name: &str) -> User {
    User { name: name.to_owned(), display_name: name.to_owned(), email: None, admin: false, quota: None, created_ms: 0 }
}

fn key(name: &str, user: UserId) -> AccessKey {
    AccessKey::of_account(user, format!("{name}-secret"), 0)
}

async fn put(gateway: &Gateway, path: &str, body: &str) {
    let reply = call(Method::PUT, path).body(body).to(gateway).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
}

#[tokio::test]
async fn an_object_comes_back_as_it_went_in() {
    let gateway = gateway().await;
    let reply = call(Method::PUT, "/bucket/a/../b//c")
        .header("content-type", "text/plain")
        .header("content-encoding", "aws-chunked,gzip")
        .header("x-amz-meta-Colour", "blue")
        .body("hello")
        .to(&gateway)
        .await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("etag"), "\"5d41402abc4b2a76b9719d911017c592\"");
    let reply = call(Method::GET, "/bucket/a/../b//c").to(&gateway).await;
    assert_eq!((reply.status, reply.text()), (StatusCode::OK, "hello"));
    assert_eq!(reply.header("content-type"), "text/plain");
    assert_eq!(reply.header("content-encoding"), "gzip");
    assert_eq!(reply.header("x-amz-meta-colour"), "blue");
    assert_eq!(reply.header("server"), "Annulus");
    assert!(!reply.header("x-amz-request-id").is_empty());
    let reply = call(Method::GET, "/bucket?list-type=2").to(&gateway).await;
    assert_eq!(reply.element("Key"), "a/../b//c");
}

#[tokio::test]
async fn a_bucket_is_its_owners_alone() {
    let gateway = gateway().await;
    put(&gateway, "/bucket/k", "x").await;
    for path in ["/bucket/k", "/bucket"] {
        assert_eq!(call(Method::GET, path).by(Some("BOB")).to(&gateway).await.code(), (403, "AccessDenied"));
        assert_eq!(call(Method::GET, path).by(None).to(&gateway).await.code(), (403, "AccessDenied"));
    }
    assert_eq!(call(Method::GET, "/none").by(None).to(&gateway).await.code(), (404, "NoSuchBucket"));
    assert_eq!(call(Method::GET, "/bucket").by(Some("EVE")).to(&gateway).await.code(), (403, "InvalidAccessKeyId"));
    assert_eq!(call(Method::PUT, "/bucket").by(Some("BOB")).to(&gateway).await.code(), (409, "BucketAlreadyExists"));
    let copy = call(Method::PUT, "/bobs").by(Some("BOB")).to(&gateway).await;
    assert_eq!(copy.status, StatusCode::OK);
    let copy = call(Method::PUT, "/bobs/k").header("x-amz-copy-source", "bucket/k").by(Some("BOB"));
    assert_eq!(copy.to(&gateway).await.code(), (403, "AccessDenied"));
    let other = call(Method::GET, "/bucket/k").header("x-amz-expected-bucket-owner", "123456789012");
    assert_eq!(other.to(&gateway).await.code(), (403, "AccessDenied"));
}

#[tokio::test]
async fn what_is_not_built_is_refused() {
    let gateway = gateway().await;
    for (method, path) in [
        (Method::DELETE, "/bucket?notification"),
        (Method::DELETE, "/bucket?replication"),
        (Method::PUT, "/bucket?replication"),
    ] {
        assert_eq!(call(method, path).to(&gateway).await.code(), (501, "NotImplemented"), "{path}");
    }
    let encrypted = call(Method::PUT, "/bucket/k").header("x-amz-server-side-encryption", "aws:kms:dsse");
    assert_eq!(encrypted.to(&gateway).await.code(), (501, "NotImplemented"));
    assert_eq!(call(Method::PUT, "/bucket/k?uploadId=x").to(&gateway).await.code(), (400, "InvalidArgument"));
    assert_eq!(call(Method::HEAD, "/bucket").to(&gateway).await.status, StatusCode::OK);
    let form = call(Method::POST, "/bucket/k?uploads").header("content-type", "multipart/form-data; boundary=x");
    assert_eq!(form.to(&gateway).await.code(), (501, "NotImplemented"));
    assert_eq!(call(Method::GET, "/bucket?policy").to(&gateway).await.code(), (404, "NoSuchBucketPolicy"));
    assert!(call(Method::GET, "/bucket?acl").to(&gateway).await.text().contains("FULL_CONTROL"));
}

#[tokio::test]
async fn errors_are_complete_and_head_has_no_body() {
    let gateway = gateway().await;
    let reply = call(Method::GET, "/bucket/none").to(&gateway).await;
    assert_eq!(reply.code(), (404, "NoSuchKey"));
    assert_eq!(reply.element("Resource"), "/bucket/none");
    assert_eq!(reply.element("RequestId"), reply.header("x-amz-request-id"));
    assert_eq!(reply.element("HostId"), reply.header("x-amz-id-2"));
    let reply = call(Method::HEAD, "/bucket/none").to(&gateway).await;
    assert_eq!((reply.status, reply.body.len()), (StatusCode::NOT_FOUND, 0));
    assert!(!reply.header("x-amz-request-id").is_empty());
}

#[tokio::test]
async fn ranges_are_served_or_ignored() {
    let gateway = gateway().await;
    put(&gateway, "/bucket/k", "0123456789").await;
    let get = |range: &'static str| call(Method::GET, "/bucket/k").header("range", range);
    let part = get("bytes=2-4").to(&gateway).await;
    assert_eq!((part.status.as_u16(), part.text(), part.header("content-range")), (206, "234", "bytes 2-4/10"));
    let suffix = get("bytes=-3").to(&gateway).await;
    assert_eq!((suffix.status.as_u16(), suffix.text()), (206, "789"));
    for ignored in ["bytes=0-1,3-4", "bytes=5-4", "lines=1-2"] {
        let whole = get(ignored).to(&gateway).await;
        assert_eq!((whole.status.as_u16(), whole.text()), (200, "0123456789"), "{ignored}");
    }
    let outside = get("bytes=10-12").to(&gateway).await;
    assert_eq!(outside.code(), (416, "InvalidRange"));
    assert_eq!(outside.header("content-range"), "bytes */10");
    let head = call(Method::HEAD, "/bucket/k").header("range", "bytes=2-4").to(&gateway).await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (206, "3"));
}

#[tokio::test]
async fn conditions_of_reads_hold() {
    let gateway = gateway().await;
    put(&gateway, "/bucket/k", "hello").await;
    let tag = "\"5d41402abc4b2a76b9719d911017c592\"";
    let get = |name: &'static str, value: &'static str| call(Method::GET, "/bucket/k").header(name, value);
    let cached = get("if-none-match", "\"x\", \"5d41402abc4b2a76b9719d911017c592\"").to(&gateway).await;
    assert_eq!((cached.status.as_u16(), cached.header("etag"), cached.body.len()), (304, tag, 0));
    assert_eq!(get("if-match", "\"x\"").to(&gateway).await.code(), (412, "PreconditionFailed"));
    assert_eq!(get("if-match", "\"x\", \"5d41402abc4b2a76b9719d911017c592\"").to(&gateway).await.status.as_u16(), 200);
    assert_eq!(get("if-modified-since", "yesterday").to(&gateway).await.status.as_u16(), 200);
    let put = call(Method::PUT, "/bucket/k").header("if-none-match", "*").body("other");
    assert_eq!(put.to(&gateway).await.code(), (412, "PreconditionFailed"));
    let put = call(Method::PUT, "/bucket/new").header("if-match", "*").body("other");
    assert_eq!(put.to(&gateway).await.code(), (404, "NoSuchKey"));
}

#[tokio::test]
async fn odd_keys_are_stored_and_listed() {
    let gateway = gateway().await;
    for path in ["/bucket/a%01b", "/bucket//c", "/bucket/d%0D", "/bucket/e%20f+g"] {
        put(&gateway, path, "x").await;
        assert_eq!(call(Method::GET, path).to(&gateway).await.text(), "x", "{path}");
    }
    let list = call(Method::GET, "/bucket").to(&gateway).await;
    assert_eq!((list.status.as_u16(), list.element("EncodingType")), (200, "url"));
    for key in ["a%01b", "/c", "d%0D", "e%20f%2Bg"] {
        assert!(list.text().contains(&format!("<Key>{key}</Key>")), "{}", list.text());
    }
    assert_eq!(call(Method::PUT, "/bucket/%FF").body("x").to(&gateway).await.code(), (400, "InvalidURI"));
    let long = format!("/bucket/{}", "k".repeat(1025));
    assert_eq!(call(Method::PUT, &long).body("x").to(&gateway).await.code(), (400, "KeyTooLongError"));
    let longest = format!("/bucket/{}", "k".repeat(1024));
    put(&gateway, &longest, "x").await;
    assert_eq!(call(Method::PUT, "/a_b").to(&gateway).await.code(), (400, "InvalidBucketName"));
}

#[tokio::test]
async fn promises_about_bodies_are_compared() {
    let gateway = gateway().await;
    let put =
        |name: &'static str, value: &'static str| call(Method::PUT, "/bucket/k").header(name, value).body("hello");
    assert_eq!(put("content-md5", "N7UdGUp1E+RbVvZSTy1R8g==").to(&gateway).await.code(), (400, "BadDigest"));
    assert_eq!(put("content-md5", "x").to(&gateway).await.code(), (400, "InvalidDigest"));
    assert_eq!(put("x-amz-checksum-crc32", "AAAAAA==").to(&gateway).await.code(), (400, "BadDigest"));
    let other = call(Method::PUT, "/bucket/k").signed_body(SignableBody::Bytes(b"other")).body("hello");
    assert_eq!(other.to(&gateway).await.code(), (400, "XAmzContentSHA256Mismatch"));
    assert_eq!(call(Method::GET, "/bucket/k").to(&gateway).await.code(), (404, "NoSuchKey"));
    let right = put("x-amz-checksum-crc32", "NhCmhg==").to(&gateway).await;
    assert_eq!((right.status.as_u16(), right.header("x-amz-checksum-crc32")), (200, "NhCmhg=="));
}

/// A body in unsigned chunks, with a checksum behind it.
fn chunked(body: &str, trailer: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n{trailer}\r\n\r\n", body.len())
}

fn in_chunks<'a>(call: Call<'a>, body: &str, length: &'a str, trailer: &str) -> Call<'a> {
    call.header("x-amz-decoded-content-length", length)
        .header("x-amz-trailer", "x-amz-checksum-crc32")
        .header("content-encoding", "aws-chunked")
        .signed_body(SignableBody::StreamingUnsignedPayloadTrailer)
        .body(chunked(body, trailer))
}

#[tokio::test]
async fn checksums_behind_a_body_are_compared() {
    let gateway = gateway().await;
    let put = || call(Method::PUT, "/bucket/k");
    let wrong = in_chunks(put(), "hello", "5", "x-amz-checksum-crc32:AAAAAA==").to(&gateway).await;
    assert_eq!(wrong.code(), (400, "BadDigest"));
    let missing = in_chunks(put(), "hello", "5", "x-amz-foo:1").to(&gateway).await;
    assert_eq!(missing.code(), (400, "MalformedTrailerError"));
    let short = in_chunks(put(), "hello", "6", "x-amz-checksum-crc32:NhCmhg==").to(&gateway).await;
    assert_eq!(short.code(), (400, "IncompleteBody"));
    assert_eq!(call(Method::GET, "/bucket/k").to(&gateway).await.code(), (404, "NoSuchKey"));
    let right = in_chunks(put(), "hello", "5", "x-amz-checksum-crc32:NhCmhg==").to(&gateway).await;
    assert_eq!(right.status.as_u16(), 200, "{}", right.text());
    let got = call(Method::GET, "/bucket/k").header("x-amz-checksum-mode", "ENABLED").to(&gateway).await;
    assert_eq!((got.text(), got.header("x-amz-checksum-crc32")), ("hello", "NhCmhg=="));
    assert_eq!(got.header("content-encoding"), "");
}

#[tokio::test]
async fn many_keys_are_deleted_at_once() {
    let gateway = gateway().await;
    put(&gateway, "/bucket/a", "x").await;
    let xml = "<Delete><Object><Key>a</Key></Object><Object><Key>none</Key></Object></Delete>";
    let post = || call(Method::POST, "/bucket?delete").body(xml);
    let wrong = post().header("content-md5", "N7UdGUp1E+RbVvZSTy1R8g==").to(&gateway).await;
    assert_eq!(wrong.code(), (400, "BadDigest"));
    let other = post().signed_body(SignableBody::Bytes(b"other")).to(&gateway).await;
    assert_eq!(other.code(), (400, "XAmzContentSHA256Mismatch"));
    assert_eq!(call(Method::GET, "/bucket/a").to(&gateway).await.status.as_u16(), 200);
    assert_eq!(post().by(None).to(&gateway).await.code(), (403, "AccessDenied"));
    let refused = post().by(Some("BOB")).to(&gateway).await;
    assert_eq!(refused.code(), (200, "AccessDenied"), "each key is judged for itself");
    assert_eq!(refused.text().matches("<Error>").count(), 2);
    assert_eq!(call(Method::GET, "/bucket/a").to(&gateway).await.status.as_u16(), 200);
    let length = xml.len().to_string();
    let crc =
        annulus_common::checksum::ChecksumValue::of(annulus_common::checksum::ChecksumAlgorithm::Crc32, xml.as_bytes());
    let reply = in_chunks(call(Method::POST, "/bucket?delete"), xml, &length, &format!("x-amz-checksum-crc32:{crc}"));
    let reply = reply.to(&gateway).await;
    assert_eq!(reply.status.as_u16(), 200, "{}", reply.text());
    assert_eq!(reply.text().matches("<Deleted>").count(), 2);
    assert_eq!(call(Method::GET, "/bucket/a").to(&gateway).await.code(), (404, "NoSuchKey"));
    let keys: String = (0..1001).map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
    let many = call(Method::POST, "/bucket?delete").body(format!("<Delete>{keys}</Delete>")).to(&gateway).await;
    assert_eq!(many.code(), (400, "MalformedXML"));
    assert_eq!(call(Method::POST, "/bucket?delete").body("<Delete").to(&gateway).await.code(), (400, "MalformedXML"));
}

#[tokio::test]
async fn parts_become_an_object() {
    let gateway = gateway().await;
    let begun = call(Method::POST, "/bucket/k?uploads").to(&gateway).await;
    let id = begun.element("UploadId").to_owned();
    let part = call(Method::PUT, &format!("/bucket/k?partNumber=1&uploadId={id}")).body("hello").to(&gateway).await;
    assert_eq!(part.status.as_u16(), 200);
    let complete = format!("/bucket/k?uploadId={id}");
    let empty = call(Method::POST, &complete).to(&gateway).await;
    assert_eq!(empty.code(), (400, "MalformedXML"));
    let xml = |etag: &str| {
        format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        )
    };
    let wrong = call(Method::POST, &complete).body(xml("5d41402abc4b2a76b9719d911017c593")).to(&gateway).await;
    assert_eq!(wrong.code(), (400, "InvalidPart"));
    let done = call(Method::POST, &complete).body(xml("5d41402abc4b2a76b9719d911017c592")).to(&gateway).await;
    assert_eq!(done.status.as_u16(), 200, "{}", done.text());
    assert!(done.element("ETag").contains("-1"));
    let got = call(Method::GET, "/bucket/k?partNumber=1").to(&gateway).await;
    assert_eq!((got.status.as_u16(), got.text(), got.header("x-amz-mp-parts-count")), (206, "hello", "1"));
    assert_eq!(call(Method::GET, "/bucket/k?partNumber=2").to(&gateway).await.code(), (400, "InvalidPart"));
}

#[tokio::test]
async fn a_presigned_url_is_good_for_what_it_was_signed_for() {
    let gateway = gateway().await;
    put(&gateway, "/bucket/k", "hello").await;
    let presigned = |method: &str, path: &str| {
        let mut settings = settings();
        settings.signature_location = aws_sigv4::http_request::SignatureLocation::QueryParams;
        settings.expires_in = Some(std::time::Duration::from_secs(60));
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        let identity = Credentials::new("ALICE", "ALICE-secret", None, None, "test").into();
        let params =
            SigningParams::builder().identity(&identity).region("us-east-1").name("s3").time(SystemTime::now());
        let params = params.settings(settings).build().expect("all parameters are set").into();
        let host = gateway.address.to_string();
        let uri = format!("http://{host}{path}");
        let headers = [("host", host.as_str())].into_iter();
        let signable = SignableRequest::new(method, &uri, headers, SignableBody::UnsignedPayload).expect("signable");
        let instructions = sign(signable, &params).expect("it can be signed").into_parts().0;
        let mut request = Request::builder().method(method).uri(&uri).body(()).expect("the request is valid");
        instructions.apply_to_request_http1x(&mut request);
        request.uri().path_and_query().expect("it has a path").to_string()
    };
    let get = presigned("GET", "/bucket/k");
    assert_eq!(call(Method::GET, &get).by(None).to(&gateway).await.text(), "hello");
    let ignored = call(Method::GET, &get).by(None).header("range", "bytes=5-4").to(&gateway).await;
    assert_eq!((ignored.status.as_u16(), ignored.text()), (200, "hello"));
    assert_eq!(call(Method::DELETE, &get).by(None).to(&gateway).await.code(), (403, "SignatureDoesNotMatch"));
    let put = presigned("PUT", "/bucket/other");
    let copy = call(Method::PUT, &put).by(None).header("x-amz-copy-source", "bucket/k").to(&gateway).await;
    assert_eq!(copy.code(), (403, "AccessDenied"));
}
