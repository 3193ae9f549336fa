//! Many objects deleted in one request, each with its own outcome.

use annulus_tests::cluster::shared;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};

use crate::{assert_absent, etag, new_bucket};

fn request(objects: &str) -> String {
    format!("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{objects}</Delete>")
}

fn key(key: &str) -> String {
    format!("<Object><Key>{key}</Key></Object>")
}

fn md5(body: &str) -> String {
    BASE64.encode(Md5::digest(body))
}

#[tokio::test]
async fn each_key_has_its_outcome() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    for name in ["a", "b", "kept", "&amp"] {
        s3.put(&format!("{bucket}/{}", annulus_tests::client::encode(name))).body("x").ok().await;
    }
    let wrong = "<Object><Key>kept</Key><ETag>0123456789abcdef0123456789abcdef</ETag></Object>";
    let right = format!("<Object><Key>b</Key><ETag>{}</ETag></Object>", etag(b"x").trim_matches('"'));
    let body = request(&format!("{}{right}{wrong}{}{}", key("a"), key("never-there"), key("&amp;amp")));
    let reply = s3.post(&format!("{bucket}?delete")).header("content-md5", &md5(&body)).body(body).ok().await;
    let deleted: Vec<String> = reply.elements("Deleted").concat().split("</Key>").map(str::to_owned).collect();
    assert_eq!(deleted.iter().filter(|key| !key.is_empty()).count(), 4, "{}", reply.text());
    assert!(reply.text().contains("PreconditionFailed"), "{}", reply.text());
    s3.head(&format!("{bucket}/kept")).ok().await;
    for gone in ["a", "b", "%26amp"] {
        assert_absent(&s3, &format!("{bucket}/{gone}")).await;
    }
}

#[tokio::test]
async fn a_quiet_request_hears_of_failures_only() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}/a")).body("x").ok().await;
    let body = request(&format!("<Quiet>true</Quiet>{}", key("a")));
    let reply = s3.post(&format!("{bucket}?delete")).header("content-md5", &md5(&body)).body(body).ok().await;
    assert!(!reply.text().contains("<Deleted>"), "{}", reply.text());
    assert_absent(&s3, &format!("{bucket}/a")).await;
}

#[tokio::test]
async fn a_thousand_keys_are_the_limit() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}/k999")).body("x").ok().await;
    let delete = |count: usize| {
        let body = request(&(0..count).map(|number| key(&format!("k{number}"))).collect::<String>());
        s3.post(&format!("{bucket}?delete")).header("content-md5", &md5(&body)).body(body)
    };
    delete(1_001).refused(400, "MalformedXML").await;
    s3.head(&format!("{bucket}/k999")).ok().await;
    assert_eq!(delete(1_000).ok().await.elements("Deleted").len(), 1_000);
    assert_absent(&s3, &format!("{bucket}/k999")).await;
}

#[tokio::test]
async fn a_request_that_arrives_damaged_deletes_nothing() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}/a")).body("x").ok().await;
    let target = format!("{bucket}?delete");
    let body = request(&key("a"));
    s3.post(&target).header("content-md5", &md5("other")).body(body.clone()).refused(400, "BadDigest").await;
    s3.post(&target).header("x-amz-checksum-crc32", "AAAAAA==").body(body).refused(400, "BadDigest").await;
    s3.post(&target).header("content-md5", &md5("")).refused(400, "MissingRequestBodyError").await;
    for broken in ["no xml", "<Delete>", "<Delete></Delete>", "<Other></Other>"] {
        s3.post(&target).header("content-md5", &md5(broken)).body(broken).refused(400, "MalformedXML").await;
    }
    s3.head(&format!("{bucket}/a")).ok().await;
}
