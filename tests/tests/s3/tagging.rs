//! Tags of objects and buckets: wherever they can be given, what a set of them may be, and where they are shown.

use annulus_tests::client::{Reply, S3};
use annulus_tests::cluster::shared;

use crate::{PART_BYTES_MIN, content, fresh_name, new_bucket};

/// A document with these tags, written as they are.
fn document(tags: &[(&str, &str)]) -> String {
    let tags: String =
        tags.iter().map(|(key, value)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>")).collect();
    format!("<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet>{tags}</TagSet></Tagging>")
}

fn tags_of(reply: &Reply) -> Vec<(String, String)> {
    reply.elements("Key").into_iter().zip(reply.elements("Value")).collect()
}

async fn tags(s3: &S3, target: &str) -> Vec<(String, String)> {
    tags_of(&s3.get(&format!("{target}?tagging")).ok().await)
}

fn pairs(tags: &[(&str, &str)]) -> Vec<(String, String)> {
    tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn tags_of_an_object_are_set_shown_and_removed() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    s3.put(&target).body("hello").ok().await;
    let before = s3.head(&target).ok().await;
    assert_eq!((tags(&s3, &target).await, before.header("x-amz-tagging-count")), (Vec::new(), None));
    let query = format!("{target}?tagging");
    s3.put(&query)
        .body(document(&[("team", "storage"), ("a b", ""), ("é&amp;".trim_end_matches("&amp;"), "x/y")]))
        .ok()
        .await;
    assert_eq!(tags(&s3, &target).await, pairs(&[("a b", ""), ("team", "storage"), ("é", "x/y")]));
    for reply in [s3.head(&target).ok().await, s3.get(&target).ok().await] {
        assert_eq!(reply.header("x-amz-tagging-count"), Some("3"));
        assert_eq!(reply.header("last-modified"), before.header("last-modified"), "tags make no new version");
        assert_eq!(reply.header("etag"), before.header("etag"));
    }
    s3.put(&query).body(document(&[("other", "1")])).ok().await;
    assert_eq!(tags(&shared().await.s3(1), &target).await, pairs(&[("other", "1")]), "a set is replaced whole");
    assert_eq!(s3.delete(&query).ok().await.status, 204);
    assert!(tags(&s3, &target).await.is_empty());
    assert_eq!(s3.get(&target).ok().await.text(), "hello");
}

#[tokio::test]
async fn whoever_makes_an_object_may_give_it_tags() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/put");
    s3.put(&target).header("x-amz-tagging", "team=storage%20one&draft").body("x").ok().await;
    let given = pairs(&[("draft", ""), ("team", "storage one")]);
    assert_eq!(tags(&s3, &target).await, given);

    let upload = format!("{bucket}/parts");
    let begun = s3.post(&format!("{upload}?uploads")).header("x-amz-tagging", "team=storage+one&draft=").ok().await;
    let id = begun.element("UploadId").expect("an upload has an id");
    let part = s3.put(&format!("{upload}?partNumber=1&uploadId={id}")).body(content(PART_BYTES_MIN, 1)).ok().await;
    let parts = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag").expect("a part has a tag")
    );
    s3.post(&format!("{upload}?uploadId={id}")).body(parts).ok().await;
    assert_eq!(tags(&s3, &upload).await, given);

    s3.put(&target).body("y").ok().await;
    assert!(tags(&s3, &target).await.is_empty(), "a new object has the tags that it was given: none");
}

#[tokio::test]
async fn a_copy_has_the_tags_of_its_source_or_others() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let (source, copy) = (format!("{bucket}/source"), format!("{bucket}/copy"));
    s3.put(&source).header("x-amz-tagging", "team=storage").body("x").ok().await;
    let request = || s3.put(&copy).header("x-amz-copy-source", &source);
    request().ok().await;
    assert_eq!(tags(&s3, &copy).await, pairs(&[("team", "storage")]));
    request().header("x-amz-tagging-directive", "REPLACE").header("x-amz-tagging", "a=1").ok().await;
    assert_eq!(tags(&s3, &copy).await, pairs(&[("a", "1")]));
    request().header("x-amz-tagging-directive", "REPLACE").ok().await;
    assert!(tags(&s3, &copy).await.is_empty());
    request().header("x-amz-tagging", "a=1").refused(400, "InvalidArgument").await;
    request().header("x-amz-tagging-directive", "MERGE").refused(400, "InvalidArgument").await;
    request()
        .header("x-amz-tagging-directive", "REPLACE")
        .header("x-amz-tagging", "aws:a=1")
        .refused(400, "InvalidTag")
        .await;
}

#[tokio::test]
async fn what_is_no_set_of_tags_is_refused_and_changes_nothing() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    s3.put(&target).header("x-amz-tagging", "kept=1").body("x").ok().await;
    let (long_key, long_value) = ("k".repeat(129), "v".repeat(257));
    let numbers: Vec<String> = (0..11).map(|number| number.to_string()).collect();
    let eleven: Vec<(&str, &str)> = numbers.iter().map(|number| (number.as_str(), "")).collect();
    let invalid: [&[(&str, &str)]; 8] = [
        &[(&long_key, "")],
        &[("a", &long_value)],
        &[("", "a")],
        &[("a", "1"), ("a", "2")],
        &[("aws:team", "1")],
        &[("a!", "1")],
        &[("a", "&lt;b&gt;")],
        &eleven,
    ];
    for tags in invalid {
        s3.put(&format!("{target}?tagging")).body(document(tags)).refused(400, "InvalidTag").await;
    }
    s3.put(&format!("{target}?tagging")).refused(400, "MissingRequestBodyError").await;
    for malformed in ["<Tagging/>", "<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>", "<Tagging><TagSet>"]
    {
        s3.put(&format!("{target}?tagging")).body(malformed).refused(400, "MalformedXML").await;
    }
    assert_eq!(tags(&s3, &target).await, pairs(&[("kept", "1")]));
    for (header, code) in
        [("a=1&a=2", "InvalidArgument"), ("a=%ff", "InvalidArgument"), ("a=!", "InvalidTag"), ("aws:a=1", "InvalidTag")]
    {
        s3.put(&target).header("x-amz-tagging", header).body("y").refused(400, code).await;
        s3.post(&format!("{target}?uploads")).header("x-amz-tagging", header).refused(400, code).await;
    }
    assert_eq!(s3.get(&target).ok().await.text(), "x");
    let bound = document(&[(&"k".repeat(128), &"v".repeat(256))]);
    s3.put(&format!("{target}?tagging")).body(bound).ok().await;
}

#[tokio::test]
async fn tags_of_what_is_not_there() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/none?tagging");
    s3.get(&target).refused(404, "NoSuchKey").await;
    s3.put(&target).body(document(&[])).refused(404, "NoSuchKey").await;
    s3.delete(&target).refused(404, "NoSuchKey").await;
    let missing = format!("/{}/k?tagging", fresh_name("missing"));
    s3.get(&missing).refused(404, "NoSuchBucket").await;
}

#[tokio::test]
async fn who_may_only_read_sees_no_tags() {
    let cluster = shared().await;
    let (s3, alt) = (cluster.s3(0), cluster.alt());
    let target = format!("{}/k", new_bucket(&s3).await);
    s3.put(&target).header("x-amz-acl", "public-read").header("x-amz-tagging", "a=1").body("x").ok().await;
    let read = alt.get(&target).ok().await;
    assert_eq!((read.text().as_str(), read.header("x-amz-tagging-count")), ("x", None));
    let query = format!("{target}?tagging");
    alt.get(&query).refused(403, "AccessDenied").await;
    alt.put(&query).body(document(&[])).refused(403, "AccessDenied").await;
    alt.delete(&query).refused(403, "AccessDenied").await;
    assert_eq!(tags(&s3, &target).await, pairs(&[("a", "1")]));
}

#[tokio::test]
async fn tags_of_a_bucket() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let query = format!("{bucket}?tagging");
    s3.get(&query).refused(404, "NoSuchTagSet").await;
    let numbers: Vec<String> = (0..51).map(|number| format!("key{number:02}")).collect();
    let all: Vec<(&str, &str)> = numbers.iter().map(|number| (number.as_str(), "v")).collect();
    s3.put(&query).body(document(&all[..50])).ok().await;
    assert_eq!(tags(&cluster.s3(1), &bucket).await, pairs(&all[..50]), "in force everywhere when it returns");
    s3.put(&query).body(document(&all)).refused(400, "InvalidTag").await;
    s3.put(&query).body(document(&[("aws:a", "")])).refused(400, "InvalidTag").await;
    cluster.alt().get(&query).refused(403, "AccessDenied").await;
    assert_eq!(tags(&s3, &bucket).await.len(), 50);
    assert_eq!(s3.delete(&query).ok().await.status, 204);
    s3.get(&query).refused(404, "NoSuchTagSet").await;
    assert_eq!(s3.head(&bucket).ok().await.status, 200);
}
