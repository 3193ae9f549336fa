//! Signatures: a request whose signature does not hold is refused before anything else, and nothing is stored.

use std::time::{Duration, SystemTime};

use annulus_tests::client::S3;
use annulus_tests::cluster::{Cluster, shared};
use annulus_tests::wire::Wire;
use bytes::Bytes;
use http::{HeaderValue, Request};

use crate::{assert_absent, new_bucket};

async fn refused(cluster: &Cluster, request: Request<Bytes>, status: u16, codes: &[&str]) {
    let body = request.body().clone();
    let mut wire = Wire::open(cluster.addr(0), &request, body.len()).await;
    wire.send(&body).await;
    let reply = wire.answer().await.expect("a refusal is an answer");
    let code = reply.code().unwrap_or_default();
    assert!(reply.status == status && codes.contains(&code.as_str()), "{} {}", reply.status, reply.text());
    assert!(!reply.text().contains(&cluster.root.secret_key), "a refusal tells no secret");
}

#[tokio::test]
async fn a_wrong_key_or_secret_is_refused() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let wrong_secret = S3::new(&cluster.endpoint(0), &cluster.root.access_key, "wrong-secret");
    wrong_secret.put(&target).body("x").refused(403, "SignatureDoesNotMatch").await;
    let unknown = S3::new(&cluster.endpoint(0), "nobody-has-this-key", &cluster.root.secret_key);
    unknown.put(&target).body("x").refused(403, "InvalidAccessKeyId").await;
    assert_absent(&s3, &target).await;
}

#[tokio::test]
async fn what_was_signed_cannot_be_changed() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/k");
    let signed = || s3.put(&target).header("x-amz-meta-a", "b").body("x").prepare();
    let mut header = signed();
    header.headers_mut().insert("x-amz-meta-a", HeaderValue::from_static("c"));
    let mut path = signed();
    *path.uri_mut() = format!("{}{bucket}/other", cluster.endpoint(0)).parse().expect("a URL");
    let mut query = signed();
    *query.uri_mut() = format!("{}{target}?uploads", cluster.endpoint(0)).parse().expect("a URL");
    let mut method = signed();
    *method.method_mut() = http::Method::DELETE;
    for request in [header, path, query, method] {
        refused(cluster, request, 403, &["SignatureDoesNotMatch"]).await;
    }
    assert_absent(&s3, &target).await;
    assert_absent(&s3, &format!("{bucket}/other")).await;
}

#[tokio::test]
async fn an_authorization_that_makes_no_sense_is_refused() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    for nonsense in
        ["nonsense", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b/c", "Basic dXNlcjpwYXNz", "AWS k:s"]
    {
        let mut request = s3.put(&target).body("x").prepare();
        request.headers_mut().insert("authorization", HeaderValue::from_str(nonsense).expect("a header's value"));
        let codes =
            ["AuthorizationHeaderMalformed", "InvalidArgument", "InvalidRequest", "NotImplemented", "AccessDenied"];
        let body = request.body().clone();
        let mut wire = Wire::open(cluster.addr(0), &request, body.len()).await;
        wire.send(&body).await;
        let reply = wire.answer().await.expect("a refusal is an answer");
        let code = reply.code().unwrap_or_default();
        assert!(codes.contains(&code.as_str()), "{nonsense}: {} {}", reply.status, reply.text());
    }
    assert_absent(&s3, &target).await;
}

#[tokio::test]
async fn a_date_too_far_from_now_is_refused() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let (now, minutes) = (SystemTime::now(), |minutes: u64| Duration::from_secs(60 * minutes));
    for time in [now - minutes(20), now + minutes(20), now - minutes(60 * 24 * 400)] {
        s3.put(&target).body("x").signed_at(time).refused(403, "RequestTimeTooSkewed").await;
    }
    assert_absent(&s3, &target).await;
    for time in [now - minutes(10), now + minutes(10)] {
        s3.put(&target).body("x").signed_at(time).ok().await;
    }
}
