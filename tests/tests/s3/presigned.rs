//! Presigned URLs: whoever has one may send that one request, until it expires.

use std::time::{Duration, SystemTime};

use annulus_tests::cluster::shared;
use http::Method;
use sha2::{Digest, Sha256};

use crate::policies::set_policy;
use crate::{CHUNK_BYTES, assert_absent, content, new_bucket};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_presigned_url_needs_no_key() {
    let cluster = shared().await;
    let (owner, anybody) = (cluster.s3(0), cluster.anonymous());
    let target = format!("{}/a%20b", new_bucket(&owner).await);
    let now = SystemTime::now();
    anybody.put(&owner.presign(&Method::PUT, &target, now, HOUR)).body("hello").ok().await;
    let get = owner.presign(&Method::GET, &target, now, HOUR);
    assert_eq!(anybody.get(&get).ok().await.text(), "hello");
    let range = anybody.get(&get).header("range", "bytes=1-2").send().await;
    assert_eq!((range.status.as_u16(), range.text().as_str()), (206, "el"));
    let typed = owner.presign(&Method::GET, &format!("{target}?response-content-type=text%2Fx"), now, HOUR);
    assert_eq!(anybody.get(&typed).ok().await.header("content-type"), Some("text/x"));
    anybody.delete(&owner.presign(&Method::DELETE, &target, now, HOUR)).ok().await;
    assert_absent(&owner, &target).await;
}

#[tokio::test]
async fn a_presigned_url_is_good_for_nothing_else() {
    let cluster = shared().await;
    let (owner, anybody) = (cluster.s3(0), cluster.anonymous());
    let bucket = new_bucket(&owner).await;
    let target = format!("{bucket}/k");
    owner.put(&target).body("hello").ok().await;
    let get = owner.presign(&Method::GET, &target, SystemTime::now(), HOUR);
    anybody.delete(&get).refused(403, "SignatureDoesNotMatch").await;
    anybody.get(&get.replace("/k?", "/other?")).refused(403, "SignatureDoesNotMatch").await;
    anybody.get(&format!("{get}&versionId=null")).refused(403, "SignatureDoesNotMatch").await;
    let longer = get.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200");
    anybody.get(&longer).refused(403, "SignatureDoesNotMatch").await;
    assert_eq!(owner.get(&target).ok().await.text(), "hello");
    let of_other = cluster.alt().presign(&Method::GET, &target, SystemTime::now(), HOUR);
    anybody.get(&of_other).refused(403, "AccessDenied").await;
}

#[tokio::test]
async fn a_presigned_url_ends_and_does_not_begin_early() {
    let cluster = shared().await;
    let (owner, anybody) = (cluster.s3(0), cluster.anonymous());
    let target = format!("{}/k", new_bucket(&owner).await);
    let now = SystemTime::now();
    let expired = owner.presign(&Method::PUT, &target, now - 2 * HOUR, HOUR);
    anybody.put(&expired).body("late").refused(403, "AccessDenied").await;
    let early = anybody.put(&owner.presign(&Method::PUT, &target, now + HOUR, HOUR)).body("early").send().await;
    assert_eq!(early.status, 403, "{}", early.text());
    let too_long = owner.presign(&Method::PUT, &target, now, 200 * HOUR);
    anybody.put(&too_long).body("x").refused(403, "AuthorizationQueryParametersError").await;
    assert_absent(&owner, &target).await;
}

#[tokio::test]
async fn how_a_request_is_signed_is_what_its_signature_is_in() {
    let cluster = shared().await;
    let (owner, anybody) = (cluster.s3(0), cluster.anonymous());
    let bucket = new_bucket(&owner).await;
    let target = format!("{bucket}/k");
    owner.put(&target).body("hello").ok().await;
    let statement = |condition: serde_json::Value| {
        serde_json::json!({"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "BUCKET/*",
            "Condition": condition})
    };
    let signed = SystemTime::now() - HOUR / 2;
    // Another parameter that looks like the date's is nothing.
    let urls = [target.clone(), format!("{target}?x-amz-date=junk"), format!("{target}?x-amz-date=20000101T000000Z")]
        .map(|target| owner.presign(&Method::GET, &target, signed, HOUR));
    for url in &urls {
        anybody.get(url).ok().await;
    }
    for condition in [
        serde_json::json!({"StringNotEquals": {"s3:authType": "REST-HEADER"}}),
        serde_json::json!({"NumericGreaterThan": {"s3:signatureAge": "600000"}}),
    ] {
        set_policy(&owner, &bucket, statement(condition)).await;
        for url in &urls {
            anybody.get(url).refused(403, "AccessDenied").await;
        }
        owner.get(&format!("{target}?X-Amz-Date=20000101T000000Z")).ok().await;
    }
    let old = serde_json::json!({"NumericGreaterThan": {"s3:signatureAge": "7200000"}});
    set_policy(&owner, &bucket, statement(old)).await;
    for url in &urls {
        anybody.get(url).ok().await;
    }
}

#[tokio::test]
async fn headers_in_the_url_are_obeyed() {
    let cluster = shared().await;
    let (owner, anybody) = (cluster.s3(0), cluster.anonymous());
    let target = format!("{}/k", new_bucket(&owner).await);
    let presign = |query: &str| owner.presign(&Method::PUT, &format!("{target}?{query}"), SystemTime::now(), HOUR);
    // More than any XML has.
    let body = content(3 * CHUNK_BYTES, 1);
    let query =
        "X-Amz-Meta-Colour=deep%20blue&x-amz-acl=public-read&x-amz-server-side-encryption=AES256&x-id=PutObject";
    let put = anybody.put(&presign(query)).body(body.clone()).ok().await;
    assert_eq!(put.header("x-amz-server-side-encryption"), Some("AES256"));
    let got = anybody.get(&target).ok().await;
    assert!(got.body == body, "what was put is read, and by everybody");
    assert_eq!(got.header("x-amz-meta-colour"), Some("deep blue"));
    // The header is signed with the query: another one is another request.
    anybody.put(&presign(query).replace("public-read", "private")).refused(403, "SignatureDoesNotMatch").await;
    for (query, status, code) in [
        ("x-amz-expected-bucket-owner=111122223333", 403, "AccessDenied"),
        ("x-amz-acl=nonsense", 400, "InvalidArgument"),
        ("x-amz-tagging=a%3Db", 501, "NotImplemented"),
        ("x-amz-object-lock-legal-hold=ON", 501, "NotImplemented"),
        ("x-amz-mfa=1", 501, "NotImplemented"),
        ("X-Amz-Server-Side-Encryption-Customer-Key=a2V5", 501, "NotImplemented"),
        ("x-amz-copy-source-server-side-encryption-customer-key=a2V5", 501, "NotImplemented"),
        ("x-amz-write-offset-bytes=5x", 400, "InvalidArgument"),
    ] {
        anybody.put(&presign(query)).body("other").refused(status, code).await;
    }
    assert!(owner.get(&target).ok().await.body == body, "nothing else was put");
}

/// SDKs that do not have the body yet put the checksum of no bytes into the URL, which S3 ignores.
#[tokio::test]
async fn a_checksum_in_the_url_is_the_bodys_or_that_of_nothing() {
    let cluster = shared().await;
    let (owner, anybody) = (cluster.s3(0), cluster.anonymous());
    let target = format!("{}/k", new_bucket(&owner).await);
    let put = |query: &str| {
        let query = format!("x-amz-sdk-checksum-algorithm=CRC32{query}");
        owner.presign(&Method::PUT, &format!("{target}?{query}"), SystemTime::now(), HOUR)
    };
    for query in ["", "&x-amz-checksum-crc32=AAAAAA%3D%3D", "&x-amz-checksum-crc32=y%2FQ5Jg%3D%3D"] {
        anybody.put(&put(query)).body("123456789").ok().await;
        assert_eq!(owner.get(&target).ok().await.text(), "123456789", "{query}");
        owner.delete(&target).ok().await;
    }
    anybody.put(&put("&x-amz-checksum-crc32=y%2FQ5Jg%3D%3D")).body("12345678").refused(400, "BadDigest").await;
    assert_absent(&owner, &target).await;
}

/// A URL may be for one body: what it says of it is signed with the rest of the query.
#[tokio::test]
async fn the_digest_in_the_url_is_the_bodys() {
    let cluster = shared().await;
    let (owner, anybody) = (cluster.s3(0), cluster.anonymous());
    let target = format!("{}/k", new_bucket(&owner).await);
    let digest = |body: &[u8]| hex::encode(Sha256::digest(body));
    let put = |digest: &str, more: &str| {
        let target = format!("{target}?X-Amz-Content-Sha256={digest}{more}");
        owner.presign(&Method::PUT, &target, SystemTime::now(), HOUR)
    };
    let large = content(3 * CHUNK_BYTES, 1);
    // A header in the URL makes the request take another way.
    for more in ["", "&x-amz-meta-colour=blue"] {
        for body in [&large[..], b"hello"] {
            let other = anybody.put(&put(&digest(b"other"), more)).body(body.to_vec());
            let reply = other.refused(400, "XAmzContentSHA256Mismatch").await;
            assert_eq!(reply.element("ClientComputedContentSHA256"), Some(digest(b"other")));
            assert_absent(&owner, &target).await;
            anybody.put(&put(&digest(body), more)).body(body.to_vec()).ok().await;
            assert!(owner.get(&target).ok().await.body == body, "what was put is read");
            owner.delete(&target).ok().await;
        }
    }
    let header = anybody.put(&put(&digest(b"hello"), "")).body("hello");
    let header = header.header("x-amz-content-sha256", &digest(b"other"));
    header.refused(400, "AuthorizationQueryParametersError").await;
    let nonsense = anybody.put(&put("STREAMING-UNSIGNED-PAYLOAD-TRAILER", "")).body("hello");
    nonsense.refused(400, "AuthorizationQueryParametersError").await;
    assert_absent(&owner, &target).await;
    anybody.put(&put("UNSIGNED-PAYLOAD", "")).body("hello").ok().await;
    // S3 asks of no read what its body is.
    let get = format!("{target}?X-Amz-Content-Sha256={}", digest(b""));
    let get = owner.presign(&Method::GET, &get, SystemTime::now(), HOUR);
    assert_eq!(anybody.get(&get).ok().await.text(), "hello");
}

#[tokio::test]
async fn headers_in_the_url_are_known_however_they_are_written() {
    let cluster = shared().await;
    let (owner, anybody) = (cluster.s3(0), cluster.anonymous());
    let target = format!("{}/k", new_bucket(&owner).await);
    let presign = |query: &str| owner.presign(&Method::PUT, &format!("{target}?{query}"), SystemTime::now(), HOUR);
    anybody.put(&presign("%78-amz%2Dacl=public-read")).body("x").ok().await;
    assert_eq!(anybody.get(&target).ok().await.text(), "x");
    anybody.put(&presign("%78-amz-tagging=a%3Db")).body("y").refused(501, "NotImplemented").await;
}
