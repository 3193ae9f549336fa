//! Objects: what was put is what is got, with everything that was said about it.

use annulus_tests::cluster::shared;
use bytes::Bytes;

use crate::{CHUNK_BYTES, INLINE_BYTES_MAX, assert_absent, content, etag, new_bucket};

#[tokio::test]
async fn objects_of_every_size_come_back_byte_for_byte_through_either_gateway() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let bucket = new_bucket(&here).await;
    let sizes = [
        0,
        1,
        100,
        INLINE_BYTES_MAX - 1,
        INLINE_BYTES_MAX,
        INLINE_BYTES_MAX + 1,
        300_000,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        2 * CHUNK_BYTES + 12_345,
    ];
    for size in sizes {
        let (target, body) = (format!("{bucket}/{size}"), content(size, size as u64));
        let put = here.put(&target).body(body.clone()).ok().await;
        assert_eq!(put.header("etag"), Some(etag(&body).as_str()), "{size} bytes");
        let got = there.get(&target).ok().await;
        assert!(got.body == body, "{size} bytes come back");
        assert_eq!(got.header("content-length"), Some(size.to_string().as_str()));
        assert_eq!(got.header("etag"), Some(etag(&body).as_str()));
        assert_eq!(got.header("accept-ranges"), Some("bytes"));
        let head = there.head(&target).ok().await;
        assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
        assert_eq!(head.header("etag"), got.header("etag"));
        assert_eq!(head.header("last-modified"), got.header("last-modified"));
        assert!(head.body.is_empty());
    }
}

#[tokio::test]
async fn the_last_put_is_what_is_there() {
    let cluster = shared().await;
    let gateways = [cluster.s3(0), cluster.s3(1)];
    let target = format!("{}/k", new_bucket(&gateways[0]).await);
    // From inline to chunks and back, through one gateway and read through the other.
    for (round, size) in [10, 50_000, 20, CHUNK_BYTES + 5, 0, 17_000].into_iter().enumerate() {
        let body = content(size, round as u64);
        gateways[round % 2].put(&target).body(body.clone()).ok().await;
        for s3 in &gateways {
            assert!(s3.get(&target).ok().await.body == body, "round {round}");
        }
    }
}

#[tokio::test]
async fn a_deleted_object_is_gone_at_once_and_may_be_deleted_again() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let target = format!("{}/k", new_bucket(&here).await);
    here.put(&target).body(content(20_000, 1)).ok().await;
    assert_eq!(here.delete(&target).ok().await.status, 204);
    there.get(&target).refused(404, "NoSuchKey").await;
    assert_absent(&there, &target).await;
    assert_eq!(there.delete(&target).ok().await.status, 204);
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_not_there() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.get(&format!("{bucket}/none")).refused(404, "NoSuchKey").await;
    s3.get("/no-such-bucket-anywhere/none").refused(404, "NoSuchBucket").await;
    s3.put("/no-such-bucket-anywhere/none").body("x").refused(404, "NoSuchBucket").await;
    s3.delete("/no-such-bucket-anywhere/none").refused(404, "NoSuchBucket").await;
    let head = s3.head(&format!("{bucket}/none")).send().await;
    assert_eq!(head.status, 404);
    assert!(head.body.is_empty(), "an answer to HEAD has no body");
}

#[tokio::test]
async fn headers_are_stored_with_the_object() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let stored = [
        ("content-type", "text/x-novel; charset=utf-8"),
        ("content-encoding", "gzip"),
        ("content-language", "de, fr"),
        ("content-disposition", "attachment; filename=\"a b.txt\""),
        ("cache-control", "max-age=60, private"),
        ("expires", "Thu, 01 Dec 2033 16:00:00 GMT"),
        ("x-amz-meta-colour", "blue"),
        ("x-amz-meta-empty", ""),
        ("x-amz-website-redirect-location", "/elsewhere"),
        ("x-amz-storage-class", "STANDARD_IA"),
    ];
    let put = stored.iter().fold(s3.put(&target), |put, (name, value)| put.header(name, value));
    put.body("hello").ok().await;
    for reply in [s3.get(&target).ok().await, s3.head(&target).ok().await] {
        for (name, value) in stored {
            assert_eq!(reply.header(name), Some(value), "{name}");
        }
    }
    s3.put(&target).body("plain").ok().await;
    let plain = s3.get(&target).ok().await;
    assert_eq!(plain.header("content-type"), Some("binary/octet-stream"));
    assert_eq!(plain.header("x-amz-meta-colour"), None, "a new object has nothing of the one before");
    assert_eq!(plain.header("x-amz-storage-class"), None);
}

#[tokio::test]
async fn a_reader_may_ask_for_other_headers() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    s3.put(&target).header("content-type", "text/plain").body("hello").ok().await;
    let asked =
        "?response-content-type=image%2Fpng&response-content-disposition=inline&response-cache-control=no-store";
    let got = s3.get(&format!("{target}{asked}")).ok().await;
    assert_eq!(got.header("content-type"), Some("image/png"));
    assert_eq!(got.header("content-disposition"), Some("inline"));
    assert_eq!(got.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn user_metadata_is_bounded() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let put = |bytes: usize| s3.put(&target).header("x-amz-meta-a", &"v".repeat(bytes)).body("x");
    put(2_049).refused(400, "MetadataTooLarge").await;
    assert_absent(&s3, &target).await;
    put(2_000).ok().await;
}

#[tokio::test]
async fn an_unknown_storage_class_is_refused() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    s3.put(&target).header("x-amz-storage-class", "QUICK").body("x").refused(400, "InvalidStorageClass").await;
    assert_absent(&s3, &target).await;
}

#[tokio::test]
async fn every_version_is_null_until_there_are_versions() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    s3.put(&target).body("x").ok().await;
    assert_eq!(s3.get(&format!("{target}?versionId=null")).ok().await.text(), "x");
    let other = s3.get(&format!("{target}?versionId=3HL4kqtJlcpXroDTDmJ-rmSpXd3dIbrHY")).send().await;
    assert!(other.status.is_client_error(), "{}", other.text());
    s3.delete(&format!("{target}?versionId=null")).ok().await;
    assert_absent(&s3, &target).await;
}

#[tokio::test]
async fn attributes_are_told_without_the_bytes() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let body = content(70_000, 3);
    s3.put(&target).body(body.clone()).ok().await;
    let asked =
        s3.get(&format!("{target}?attributes")).header("x-amz-object-attributes", "ETag,ObjectSize,StorageClass");
    let reply = asked.ok().await;
    assert_eq!(reply.element("ObjectSize").as_deref(), Some("70000"));
    assert_eq!(reply.element("ETag").as_deref(), Some(etag(&body).trim_matches('"')));
    assert_eq!(reply.element("StorageClass").as_deref(), Some("STANDARD"));
    s3.get(&format!("{target}?attributes"))
        .header("x-amz-object-attributes", "Colour")
        .refused(400, "InvalidArgument")
        .await;
}

#[tokio::test]
async fn every_reply_has_ids_and_errors_say_where() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let refused = s3.get(&format!("{bucket}/none")).refused(404, "NoSuchKey").await;
    let id = refused.header("x-amz-request-id").expect("a reply has an id").to_owned();
    assert_eq!(refused.element("RequestId"), Some(id.clone()));
    assert_eq!(refused.element("Resource"), Some(format!("{bucket}/none")));
    assert!(refused.header("x-amz-id-2").is_some());
    let other = s3.get(&bucket).ok().await;
    assert_ne!(other.header("x-amz-request-id"), Some(id.as_str()));
}

#[tokio::test]
async fn writers_of_one_key_leave_one_whole_object() {
    let cluster = shared().await;
    let gateways = [cluster.s3(0), cluster.s3(1)];
    let target = format!("{}/k", new_bucket(&gateways[0]).await);
    let bodies: Vec<Bytes> = (0..8).map(|writer| content(40_000, writer)).collect();
    let puts =
        bodies.iter().enumerate().map(|(writer, body)| gateways[writer % 2].put(&target).body(body.clone()).ok());
    futures::future::join_all(puts).await;
    let got = gateways[0].get(&target).ok().await.body;
    assert!(bodies.contains(&got), "one of them, whole");
    assert!(gateways[1].get(&target).ok().await.body == got, "and the same everywhere");
}
