//! Nothing that a client asks for is ignored. Each header and query key that AWS documents of each operation is sent with a
//! value that means nothing: whoever honours it refuses the value, whoever does not build it says 501, and only one who
//! ignores it would succeed. Then the same request without it has to succeed, or the test would show nothing.

use annulus_gateway::auth::supported;
use annulus_tests::client::Reply;
use annulus_tests::cluster::shared;

use crate::documented::{Documented, documented};
use crate::requests::{Stage, request};
use crate::{fresh_name, new_bucket};

/// A value that no header or key with a meaning can have.
const NONSENSE: &str = "no%25ff!such";

/// Headers of which every value is right, or of which S3 heeds one value and ignores the others.
const FREE_HEADERS: &[&str] = &[
    // Kept and given back.
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    // Conditions that hold of nonsense; dates and ranges that are none are ignored by HTTP.
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "range",
    "x-amz-copy-source-if-none-match",
    "x-amz-rename-source-if-none-match",
    // Any text is a token.
    "x-amz-client-token",
    // `requester`, `ENABLED` and `true` count.
    "x-amz-bypass-governance-retention",
    "x-amz-checksum-mode",
    "x-amz-confirm-remove-self-bucket-access",
    "x-amz-request-payer",
    "x-amz-skip-destination-validation",
    // The connection's.
    "content-length",
];

/// The same of query keys.
const FREE_KEYS: &[&str] = &[
    // Any text is a key, or the start of one.
    "bucket-region",
    "delimiter",
    "key-marker",
    "marker",
    "prefix",
    "start-after",
    // Of no meaning without a key-marker.
    "upload-id-marker",
    // The name of one configuration of many.
    "id",
    // `true` counts.
    "fetch-owner",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
];

#[tokio::test]
async fn headers_and_keys_are_honoured_or_refused() {
    let s3 = shared().await.s3(0);
    let mut ignored = Vec::new();
    for asked in documented().iter().filter(|asked| supported::is_operation(asked.operation)) {
        let stage = Stage::of(&s3, asked).await;
        for name in asked.headers.iter().filter(|name| !FREE_HEADERS.contains(name)) {
            let reply = stage.call(&request(asked.operation).with_header(name, NONSENSE)).send().await;
            note(&mut ignored, asked, name, &reply);
        }
        for key in asked.keys.iter().filter(|key| !FREE_KEYS.contains(key)) {
            let reply = stage.call(&request(asked.operation).with_key(key, NONSENSE)).send().await;
            note(&mut ignored, asked, key, &reply);
        }
        let reply = stage.call(&request(asked.operation)).send().await;
        let serves = reply.status.is_success() || (asked.method == "GET" && reply.status == 404);
        assert!(serves, "{} without them: {} {}", asked.operation, reply.status, reply.text());
    }
    assert!(ignored.is_empty(), "asked for in vain:\n{}", ignored.join("\n"));
}

fn note(ignored: &mut Vec<String>, asked: &Documented, name: &str, reply: &Reply) {
    let names_what_is_not_there = matches!(name, "uploadId" | "versionId") && reply.status == 404;
    if !matches!(reply.status.as_u16(), 400 | 403 | 412 | 501) && !names_what_is_not_there {
        ignored.push(format!("{} with {name}: {} {}", asked.operation, reply.status, reply.text()));
    }
}

#[tokio::test]
async fn operations_that_are_not_built_say_so_and_do_nothing() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/k");
    s3.put(&target).body("hello").ok().await;
    for asked in documented().iter().filter(|asked| !supported::is_operation(asked.operation)) {
        let reply = Stage::in_bucket(&s3, asked, bucket.clone()).call(&request(asked.operation)).send().await;
        assert_eq!(reply.status, 501, "{}: {}", asked.operation, reply.text());
        assert_eq!(s3.get(&target).ok().await.text(), "hello", "{}", asked.operation);
    }
}

#[tokio::test]
async fn nothing_is_made_of_what_is_refused() {
    let s3 = shared().await.s3(0);
    let bucket = format!("/{}", fresh_name("unmade"));
    s3.put(&bucket).header("x-amz-object-ownership", NONSENSE).send().await;
    assert_eq!(s3.head(&bucket).send().await.status, 404);
    let target = format!("{}/k", new_bucket(&s3).await);
    for name in ["x-amz-acl", "x-amz-storage-class", "x-amz-object-lock-mode", "x-amz-checksum-xxhash64", "if-match"] {
        s3.put(&target).header(name, NONSENSE).body("x").send().await;
        assert_eq!(s3.head(&target).send().await.status, 404, "{name}");
    }
}

/// Whatever S3 has as a sub-resource, and some that it has not.
#[tokio::test]
async fn query_keys_are_never_taken_for_the_plain_operation() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/k");
    s3.put(&target).body("hello").ok().await;
    for key in [
        "abac",
        "accelerate",
        "analytics",
        "attributes",
        "intelligent-tiering",
        "inventory",
        "legal-hold",
        "logging",
        "metadataConfiguration",
        "metadataTable",
        "metrics",
        "notification",
        "object-lock",
        "policyStatus",
        "renameObject",
        "replication",
        "restore",
        "retention",
        "select",
        "session",
        "torrent",
        "versions",
        "location",
    ] {
        for place in [&bucket, &target] {
            for call in [
                s3.put(&format!("{place}?{key}")),
                s3.delete(&format!("{place}?{key}")),
                s3.post(&format!("{place}?{key}")),
            ] {
                let reply = call.body("<X/>").send().await;
                assert!(!reply.status.is_success() || reply.status == 204, "{place}?{key}: {}", reply.status);
            }
        }
        assert_eq!(s3.get(&target).ok().await.text(), "hello", "{key}");
    }
}
