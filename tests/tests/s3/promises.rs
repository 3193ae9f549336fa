//! Nothing that a client asks for is ignored. Each documented header of each operation is sent with a value that means
//! nothing: whoever honours the header refuses the value, whoever does not build it says 501, and only one who ignores it
//! would succeed.

use annulus_tests::client::Call;
use annulus_tests::cluster::shared;

use crate::{PART_BYTES_MIN, content, new_bucket};

/// A value that no header with a meaning can have.
const NONSENSE: &str = "no%ff!such";

/// Headers of every request that makes an object.
const OF_NEW_OBJECTS: &[&str] = &[
    "x-amz-acl",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write-acp",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-server-side-encryption-context",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-customer-key-MD5",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
    "x-amz-expected-bucket-owner",
];

/// Headers of every request with a body.
const OF_BODIES: &[&str] = &[
    "content-md5",
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-md5",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "x-amz-checksum-sha512",
    "x-amz-checksum-xxhash128",
    "x-amz-checksum-xxhash3",
    "x-amz-checksum-xxhash64",
    "x-amz-sdk-checksum-algorithm",
];

/// Headers of copies.
const OF_COPIES: &[&str] = &[
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "x-amz-copy-source-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key-MD5",
    "x-amz-source-expected-bucket-owner",
];

async fn assert_kept<'a>(operation: &str, names: &[&[&'static str]], call: impl Fn() -> Call<'a>) {
    for name in names.concat() {
        let reply = call().header(leak_lower(name), NONSENSE).send().await;
        let refused = matches!(reply.status.as_u16(), 400 | 403 | 412 | 501);
        assert!(refused, "{operation} with {name}: {} {}", reply.status, reply.text());
    }
}

/// Header names are in lower case in a request.
fn leak_lower(name: &'static str) -> &'static str {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().leak() } else { name }
}

#[tokio::test]
async fn headers_of_puts_and_copies() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let (source, target) = (format!("{bucket}/source"), format!("{bucket}/k"));
    s3.put(&source).body("hello").ok().await;
    let only: &[&str] = &["if-match", "x-amz-write-offset-bytes"];
    assert_kept("PutObject", &[OF_NEW_OBJECTS, OF_BODIES, only], || s3.put(&target).body("x")).await;
    let only: &[&str] = &["x-amz-checksum-algorithm", "x-amz-metadata-directive", "x-amz-tagging-directive"];
    let copy = || s3.put(&target).header("x-amz-copy-source", &source);
    assert_kept("CopyObject", &[OF_NEW_OBJECTS, OF_COPIES, only], copy).await;
    assert_eq!(s3.head(&target).send().await.status, 404, "nothing was made");
}

#[tokio::test]
async fn headers_of_uploads() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let (source, target) = (format!("{bucket}/source"), format!("{bucket}/k"));
    s3.put(&source).body(content(PART_BYTES_MIN, 1)).ok().await;
    let only: &[&str] = &["x-amz-checksum-algorithm", "x-amz-checksum-type"];
    assert_kept("CreateMultipartUpload", &[OF_NEW_OBJECTS, only], || s3.post(&format!("{target}?uploads"))).await;
    let upload = s3.post(&format!("{target}?uploads")).ok().await.element("UploadId").expect("an upload has an id");
    let part = format!("{target}?partNumber=1&uploadId={upload}");
    let customer: &[&str] = &[
        "x-amz-expected-bucket-owner",
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-server-side-encryption-customer-key",
        "x-amz-server-side-encryption-customer-key-MD5",
    ];
    assert_kept("UploadPart", &[OF_BODIES, customer], || s3.put(&part).body("x")).await;
    let copy = || s3.put(&part).header("x-amz-copy-source", &source);
    assert_kept("UploadPartCopy", &[OF_COPIES, customer, &["x-amz-copy-source-range"]], copy).await;
    let tag = s3.put(&part).body(content(10, 1)).ok().await.header("etag").expect("a part has a tag").to_owned();
    let parts = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    let only: &[&str] = &[
        "x-amz-checksum-type",
        "x-amz-mp-object-size",
        "x-amz-expected-bucket-owner",
        "x-amz-checksum-crc32",
        "x-amz-checksum-sha256",
    ];
    let complete = || s3.post(&format!("{target}?uploadId={upload}")).body(parts.clone());
    assert_kept("CompleteMultipartUpload", &[only], complete).await;
    let failed = complete().header("if-match", "\"0\"").send().await;
    assert_eq!(failed.status, 404, "a match is asked for and there is no object: {}", failed.text());
    complete().ok().await;
    complete().header("if-none-match", "*").send().await;
}

#[tokio::test]
async fn headers_of_reads_and_deletions() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    s3.put(&target).body("hello").ok().await;
    let reads: &[&str] = &[
        "if-match",
        "x-amz-expected-bucket-owner",
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-server-side-encryption-customer-key",
        "x-amz-server-side-encryption-customer-key-MD5",
    ];
    assert_kept("GetObject", &[reads], || s3.get(&target)).await;
    assert_kept("HeadObject", &[reads], || s3.head(&target)).await;
    let deletions: &[&str] = &[
        "if-match",
        "x-amz-if-match-last-modified-time",
        "x-amz-if-match-size",
        "x-amz-mfa",
        "x-amz-expected-bucket-owner",
    ];
    assert_kept("DeleteObject", &[deletions], || s3.delete(&target)).await;
    assert_eq!(s3.get(&target).ok().await.text(), "hello");
}

#[tokio::test]
async fn headers_of_buckets() {
    let s3 = shared().await.s3(0);
    let names: &[&str] = &[
        "x-amz-acl",
        "x-amz-bucket-object-lock-enabled",
        "x-amz-grant-full-control",
        "x-amz-grant-read",
        "x-amz-grant-read-acp",
        "x-amz-grant-write",
        "x-amz-grant-write-acp",
        "x-amz-object-ownership",
    ];
    let bucket = format!("/{}", crate::fresh_name("unmade"));
    assert_kept("CreateBucket", &[names], || s3.put(&bucket)).await;
    assert_eq!(s3.head(&bucket).send().await.status, 404, "nothing was made");
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
