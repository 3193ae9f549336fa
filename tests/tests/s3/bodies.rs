//! Bodies that do not arrive as they were announced: nothing is stored, and what was there before stays.

use annulus_tests::client::S3;
use annulus_tests::cluster::{Cluster, shared};
use annulus_tests::wire::Wire;
use aws_sigv4::http_request::SignableBody;
use bytes::Bytes;
use http::Request;

use crate::{CHUNK_BYTES, assert_absent, content, new_bucket};

/// A put of a body that is not signed, so that only its length can be wrong.
fn put(s3: &S3, target: &str) -> Request<Bytes> {
    s3.put(target).signed_body(SignableBody::UnsignedPayload).prepare()
}

async fn open(cluster: &Cluster, s3: &S3, target: &str, announced: usize) -> Wire {
    Wire::open(cluster.addr(0), &put(s3, target), announced).await
}

#[tokio::test]
async fn a_truncated_body_is_refused() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    for (announced, sent) in [(10, 0), (10, 9), (20_000, 19_999), (CHUNK_BYTES + 100, CHUNK_BYTES + 50)] {
        let mut wire = open(cluster, &s3, &target, announced).await;
        wire.send(&content(sent, 1)).await;
        if let Some(reply) = wire.finish().await {
            assert_eq!(
                (reply.status.as_u16(), reply.code().as_deref()),
                (400, Some("IncompleteBody")),
                "{sent} of {announced}"
            );
        }
        assert_absent(&s3, &target).await;
    }
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let (target, kept) = (format!("{bucket}/k"), format!("{bucket}/kept"));
    s3.put(&kept).body("before").ok().await;
    let begun = s3.post(&format!("{bucket}/u?uploads")).ok().await;
    let upload = begun.element("UploadId").expect("an upload has an id");
    let part = format!("{bucket}/u?partNumber=1&uploadId={upload}");
    for sent in [0, 1_000, 20_000, 2 * CHUNK_BYTES] {
        for target in [&target, &kept, &part] {
            let mut wire = open(cluster, &s3, target, 3 * CHUNK_BYTES).await;
            wire.send(&content(sent, 2)).await;
            wire.vanish();
        }
    }
    // The next request on a connection of its own is answered after the gateway has noticed, or before: it must not matter.
    for _ in 0..20 {
        assert_absent(&s3, &target).await;
        assert_eq!(s3.get(&kept).ok().await.text(), "before");
        tokio::task::yield_now().await;
    }
    assert!(s3.get(&format!("{bucket}/u?uploadId={upload}")).ok().await.elements("PartNumber").is_empty());
    let listed = s3.get(&format!("{bucket}?list-type=2")).ok().await;
    assert_eq!(listed.elements("Key"), ["kept"]);
}

#[tokio::test]
async fn a_body_ends_where_it_was_announced_to_end() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let mut wire = open(cluster, &s3, &target, 5).await;
    wire.send(b"hello, and more that nobody announced").await;
    let reply = wire.answer().await.expect("the announced bytes are a whole request");
    assert_eq!(reply.status, 200);
    assert_eq!(s3.get(&target).ok().await.text(), "hello");
}

/// Python's and Java's HTTP clients read no answer before they have sent everything.
#[tokio::test]
async fn who_reads_only_after_sending_everything_gets_a_refusal_whole() {
    let cluster = shared().await;
    let target = format!("{}/k", new_bucket(&cluster.s3(0)).await);
    let stranger = S3::new(&cluster.endpoint(0), "nobody-has-this-key", "nor-this-secret");
    let body = content(16 * CHUNK_BYTES, 3);
    let mut wire = open(cluster, &stranger, &target, body.len()).await;
    assert!(wire.send(&body).await, "the connection stays while the client sends");
    let reply = wire.answer().await.expect("the refusal has not been lost");
    assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (403, Some("InvalidAccessKeyId")));
}

#[tokio::test]
async fn an_object_has_a_largest_size() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let wire = open(cluster, &s3, &target, (5 << 30) + 1).await;
    let reply = wire.answer().await.expect("it is refused by its head alone");
    assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (400, Some("EntityTooLarge")));
    assert_absent(&s3, &target).await;
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let long = s3.get(&target).header("x-amz-meta-long", &"v".repeat(100_000)).try_send().await;
    assert!(long.is_err() || long.is_ok_and(|reply| reply.status.is_client_error()));
    s3.put(&target).body("x").ok().await;
}

/// HTTP takes it for an empty body: `curl -X PUT` sends as much.
#[tokio::test]
async fn a_body_of_unsaid_length_replaces_nothing() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/k");
    s3.put(&target).body("before").ok().await;
    let upload = s3.post(&format!("{bucket}/u?uploads")).ok().await.element("UploadId").expect("an upload has an id");
    let part = format!("{bucket}/u?partNumber=1&uploadId={upload}");
    let sent = async |request: &Request<Bytes>| {
        let wire = Wire::open_unsized(cluster.addr(0), request).await;
        wire.answer().await.expect("there is an answer")
    };
    for put in [put(&s3, &target), s3.put(&target).prepare(), s3.put(&part).prepare()] {
        let reply = sent(&put).await;
        let told = (reply.status.as_u16(), reply.code());
        assert_eq!(told, (411, Some("MissingContentLength".to_owned())), "{}", put.uri());
    }
    assert_eq!(s3.get(&target).ok().await.text(), "before");
    assert!(s3.get(&format!("{bucket}/u?uploadId={upload}")).ok().await.elements("PartNumber").is_empty());
    // What has no body need not say so.
    let copy = s3.put(&format!("{bucket}/copy")).header("x-amz-copy-source", &target).prepare();
    let copied_part = s3.put(&part).header("x-amz-copy-source", &target).prepare();
    let rename = s3.put(&format!("{bucket}/renamed?renameObject")).header("x-amz-rename-source", &target).prepare();
    for bodiless in [copy, copied_part, rename, s3.post(&format!("{bucket}/v?uploads")).prepare()] {
        assert_eq!(sent(&bodiless).await.status, 200, "{}", bodiless.uri());
    }
    assert_eq!(s3.get(&format!("{bucket}/renamed")).ok().await.text(), "before");
    s3.put(&target).ok().await;
    assert_eq!(s3.get(&target).ok().await.text(), "", "who says that it is empty means it");
}

/// One that is too large to be held until its signature is verified came whole all the same.
#[tokio::test]
async fn a_signed_chunk_has_a_largest_size() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let bytes = (16 << 20) + 1;
    let mut body = format!("{bytes:x};chunk-signature={}\r\n", "0".repeat(64)).into_bytes();
    body.extend_from_slice(&content(bytes, 4));
    body.extend_from_slice(b"\r\n");
    let signed = SignableBody::Precomputed("STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned());
    s3.put(&target)
        .header("content-encoding", "aws-chunked")
        .header("x-amz-decoded-content-length", &bytes.to_string())
        .signed_body(signed)
        .body(body)
        .refused(400, "EntityTooLarge")
        .await;
    assert_absent(&s3, &target).await;
}
