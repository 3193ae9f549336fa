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
