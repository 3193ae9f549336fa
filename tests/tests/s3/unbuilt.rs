//! What is not built says so with 501, and never pretends: an object that its owner believes locked or encrypted would be neither.

use annulus_tests::cluster::shared;

use crate::{assert_absent, new_bucket};

#[tokio::test]
async fn operations_that_are_not_built() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/k");
    s3.put(&target).body("hello").ok().await;
    let unbuilt = [
        s3.put(&format!("{bucket}?replication")).body("<ReplicationConfiguration></ReplicationConfiguration>"),
        s3.delete(&format!("{bucket}?replication")),
        // MinIO's own: answers that never end. Elsewhere it would be a list.
        s3.get(&format!("{bucket}?events=s3:ObjectCreated:*&ping=10&prefix=&suffix=")),
        s3.get("/?events=s3:ObjectCreated:*&ping=10"),
        s3.post(&format!("{target}?restore")).body("<RestoreRequest></RestoreRequest>"),
    ];
    for call in unbuilt {
        call.refused(501, "NotImplemented").await;
    }
    // A sub-resource that was taken for the plain operation would have deleted or replaced something.
    assert_eq!(s3.get(&target).ok().await.text(), "hello");
}

#[tokio::test]
async fn headers_that_promise_what_is_not_built() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let dsse = ("x-amz-server-side-encryption", "aws:kms:dsse");
    s3.put(&target).header(dsse.0, dsse.1).body("x").refused(501, "NotImplemented").await;
    for (name, value) in [dsse, ("x-amz-write-offset-bytes", "0")] {
        s3.post(&format!("{target}?uploads")).header(name, value).refused(501, "NotImplemented").await;
    }
    assert_absent(&s3, &target).await;
}

/// Whatever it would have encrypted is made by another operation, or was made before.
#[tokio::test]
async fn encryption_is_asked_of_what_encrypts() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let (source, target) = (format!("{bucket}/source"), format!("{bucket}/target"));
    s3.put(&source).body("x").ok().await;
    let upload = s3.post(&format!("{target}?uploads")).ok().await.element("UploadId").expect("an upload has an id");
    let part = s3.put(&format!("{target}?partNumber=1&uploadId={upload}")).body("x").ok().await;
    let tag = part.header("etag").expect("a part has a tag");
    let parts = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    for call in [s3.put(&format!("{target}?renameObject")).header("x-amz-rename-source", &source), s3.delete(&source)] {
        call.header("x-amz-server-side-encryption", "aws:kms").refused(501, "NotImplemented").await;
    }
    // Some clients say at the end what they said at the beginning; others say what they should have said then.
    let complete = s3.post(&format!("{target}?uploadId={upload}")).body(parts);
    complete.header("x-amz-server-side-encryption", "aws:kms").refused(400, "InvalidRequest").await;
    assert_absent(&s3, &target).await;
    for (begun, said, status) in [("AES256", "AES256", 200), ("AES256", "aws:kms", 400)] {
        let begin = s3.post(&format!("{target}?uploads")).header("x-amz-server-side-encryption", begun);
        let upload = begin.ok().await.element("UploadId").expect("an upload has an id");
        let part = s3.put(&format!("{target}?partNumber=1&uploadId={upload}")).body("x").ok().await;
        let tag = part.header("etag").expect("a part has a tag");
        let parts = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
        );
        let complete = s3.post(&format!("{target}?uploadId={upload}")).body(parts);
        let reply = complete.header("x-amz-server-side-encryption", said).send().await;
        assert_eq!(reply.status, status, "{begun} {said}: {}", reply.text());
    }
    s3.get(&source).ok().await;
}

/// A client that miscounts must not write where it did not mean to.
#[tokio::test]
async fn numbers_are_read_to_their_end() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    s3.put(&target).body("hello").ok().await;
    let call = |name: &'static str, value: &str| match name {
        "x-amz-write-offset-bytes" => s3.put(&target).body(" world").header(name, value),
        "x-amz-if-match-size" => s3.delete(&target).header(name, value),
        _ => s3.get(&format!("{target}?attributes")).header("x-amz-object-attributes", "ETag").header(name, value),
    };
    for name in ["x-amz-write-offset-bytes", "x-amz-if-match-size", "x-amz-max-parts", "x-amz-part-number-marker"] {
        for value in ["5x", "5 5", "5.0", ""] {
            let refused = call(name, value).refused(400, "InvalidArgument").await;
            assert_eq!(refused.element("ArgumentName").as_deref(), Some(name), "{value}");
        }
    }
    for query in ["max-keys=5x", "list-type=2&max-keys=5x", "uploads&max-uploads=5x"] {
        let bucket = target.trim_end_matches("/k");
        s3.get(&format!("{bucket}?{query}")).refused(400, "InvalidArgument").await;
    }
    s3.get(&format!("{target}?partNumber=1x")).refused(400, "InvalidArgument").await;
    assert_eq!(s3.get(&target).ok().await.text(), "hello");
}

#[tokio::test]
async fn methods_that_mean_nothing() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let patch = |target: &str| {
        let mut request = s3.put(target).prepare();
        *request.method_mut() = http::Method::PATCH;
        request
    };
    for target in ["/", bucket.as_str(), &format!("{bucket}/k")] {
        let addr = shared().await.addr(0);
        let wire = annulus_tests::wire::Wire::open(addr, &patch(target), 0).await;
        let reply = wire.answer().await.expect("a refusal is an answer");
        assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (405, Some("MethodNotAllowed")), "{target}");
    }
    for call in [s3.post("/"), s3.put("/"), s3.delete("/")] {
        call.refused(405, "MethodNotAllowed").await;
    }
}

#[tokio::test]
async fn what_no_bucket_has_is_said_to_be_not_there() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    for (query, code) in [
        ("policy", "NoSuchBucketPolicy"),
        ("cors", "NoSuchCORSConfiguration"),
        ("lifecycle", "NoSuchLifecycleConfiguration"),
        ("tagging", "NoSuchTagSet"),
        ("website", "NoSuchWebsiteConfiguration"),
    ] {
        s3.get(&format!("{bucket}?{query}")).refused(404, code).await;
    }
    let versioning = s3.get(&format!("{bucket}?versioning")).ok().await;
    assert_eq!(versioning.element("Status"), None, "nobody asked for versions");
}
