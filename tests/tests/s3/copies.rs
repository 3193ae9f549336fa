//! Copies: an object as it is, under another name, with the same headers or new ones.

use annulus_tests::client::encode;
use annulus_tests::cluster::shared;
use serde_json::json;

use crate::policies::set_policy;
use crate::{CHUNK_BYTES, assert_absent, content, etag, new_bucket};

#[tokio::test]
async fn a_copy_is_an_object_of_its_own() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let (from, to) = (new_bucket(&here).await, new_bucket(&here).await);
    for size in [0, 100, 20_000, CHUNK_BYTES + 5] {
        let (source, target, body) = (format!("{from}/source"), format!("{to}/target"), content(size, 4));
        here.put(&source).header("content-type", "text/x").header("x-amz-meta-a", "b").body(body.clone()).ok().await;
        let copied = here.put(&target).header("x-amz-copy-source", &source).ok().await;
        assert_eq!(copied.element("ETag").map(|tag| format!("\"{}\"", tag.trim_matches('"'))), Some(etag(&body)));
        here.put(&source).body("another").ok().await;
        here.delete(&source).ok().await;
        let got = there.get(&target).ok().await;
        assert!(got.body == body, "{size} bytes do not need their source");
        assert_eq!((got.header("content-type"), got.header("x-amz-meta-a")), (Some("text/x"), Some("b")));
    }
}

#[tokio::test]
async fn a_copy_may_replace_what_is_said_of_it() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let (source, target) = (format!("{bucket}/source"), format!("{bucket}/target"));
    s3.put(&source).header("content-type", "text/x").header("x-amz-meta-a", "b").body("hello").ok().await;
    let copy = s3.put(&target).header("x-amz-copy-source", &source).header("x-amz-metadata-directive", "REPLACE");
    copy.header("x-amz-meta-c", "d").header("content-type", "text/y").ok().await;
    let got = s3.get(&target).ok().await;
    assert_eq!((got.header("content-type"), got.header("x-amz-meta-c")), (Some("text/y"), Some("d")));
    assert_eq!(got.header("x-amz-meta-a"), None);
    let bad = s3.put(&target).header("x-amz-copy-source", &source).header("x-amz-metadata-directive", "MAYBE");
    bad.refused(400, "InvalidArgument").await;
}

#[tokio::test]
async fn a_copy_onto_itself_must_change_something() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let body = content(30_000, 8);
    s3.put(&target).body(body.clone()).ok().await;
    s3.put(&target).header("x-amz-copy-source", &target).refused(400, "InvalidRequest").await;
    let replaced = s3.put(&target).header("x-amz-copy-source", &target).header("x-amz-metadata-directive", "REPLACE");
    replaced.header("x-amz-meta-new", "1").ok().await;
    let got = s3.get(&target).ok().await;
    assert!(got.body == body && got.header("x-amz-meta-new") == Some("1"));
}

#[tokio::test]
async fn the_source_is_a_url_encoded_path() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    for key in ["a b", "a+b", "ü/%41", "../up"] {
        s3.put(&format!("{bucket}/{}", encode(key))).body(key.to_owned()).ok().await;
        let source = format!("{bucket}/{}", encode(key));
        for source in [source.as_str(), source.trim_start_matches('/')] {
            s3.put(&format!("{bucket}/target")).header("x-amz-copy-source", source).ok().await;
            assert_eq!(s3.get(&format!("{bucket}/target")).ok().await.text(), key);
        }
    }
}

#[tokio::test]
async fn a_source_that_is_not_there_is_said_to_be_not_there() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/target");
    let copy = |source: &str| s3.put(&target).header("x-amz-copy-source", source);
    copy(&format!("{bucket}/none")).refused(404, "NoSuchKey").await;
    copy("/no-such-bucket-anywhere/k").refused(404, "NoSuchBucket").await;
    let malformed = copy("nonsense").send().await;
    assert_eq!(malformed.status, 400, "{}", malformed.text());
    assert_absent(&s3, &target).await;
}

/// A key may have a question mark in it, and is another one than what stands before that.
#[tokio::test]
async fn policies_are_asked_about_the_source_that_is_copied() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    for key in ["open", "open%3Fsecret", "open%3Fversionid=null"] {
        owner.put(&format!("{bucket}/{key}")).body("x").ok().await;
    }
    let read = json!({"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject*", "Resource": "BUCKET/*"});
    let copy = json!({"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": "BUCKET/target",
        "Condition": {"StringEquals": {"s3:x-amz-copy-source": format!("{}/open", &bucket[1..])}}});
    set_policy(&owner, &bucket, json!([read, copy])).await;
    let copy = |source: &str| {
        other.put(&format!("{bucket}/target")).header("x-amz-copy-source", &format!("{bucket}/{source}"))
    };
    for source in ["open", "%6Fpen", "open?versionId=null"] {
        copy(source).ok().await;
    }
    for source in ["open?secret", "open%3Fsecret", "open?versionid=null"] {
        copy(source).refused(403, "AccessDenied").await;
    }
}
