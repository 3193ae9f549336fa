//! Conditions: a request that says what must hold of the object is carried out only if it holds.

use annulus_tests::client::{Call, Reply, S3};
use annulus_tests::cluster::shared;
use http::StatusCode;

use crate::{assert_absent, content, etag, new_bucket};

const LONG_AGO: &str = "Tue, 01 Jan 2019 00:00:00 GMT";
const IN_A_LONG_TIME: &str = "Fri, 01 Jan 2100 00:00:00 GMT";

type Headers<'a> = &'a [(&'static str, &'a str)];

fn with<'a>(call: Call<'a>, headers: Headers<'_>) -> Call<'a> {
    headers.iter().fold(call, |call, (name, value)| call.header(name, value))
}

fn assert_refused(reply: &Reply, headers: Headers<'_>) {
    assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (412, Some("PreconditionFailed")), "{headers:?}");
}

#[tokio::test]
async fn reads() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let put = s3.put(&target).body("hello").ok().await;
    let tag = put.header("etag").expect("a put answers with its tag").to_owned();
    let modified = s3.head(&target).ok().await.header("last-modified").expect("it has a date").to_owned();
    let (tag, modified, other) = (tag.as_str(), modified.as_str(), "\"0123456789abcdef0123456789abcdef\"");
    let list = format!("{other}, {tag}");
    let table: &[(Headers, u16)] = &[
        (&[("if-match", tag)], 200),
        (&[("if-match", tag.trim_matches('"'))], 200),
        (&[("if-match", "*")], 200),
        (&[("if-match", &list)], 200),
        (&[("if-match", other)], 412),
        (&[("if-none-match", tag)], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", &list)], 304),
        (&[("if-none-match", other)], 200),
        (&[("if-modified-since", LONG_AGO)], 200),
        (&[("if-modified-since", modified)], 304),
        (&[("if-modified-since", "yesterday")], 200),
        // A date that is still to come is none.
        (&[("if-modified-since", IN_A_LONG_TIME)], 200),
        (&[("if-unmodified-since", modified)], 200),
        (&[("if-unmodified-since", IN_A_LONG_TIME)], 200),
        (&[("if-unmodified-since", LONG_AGO)], 412),
        // A tag says more than a date.
        (&[("if-match", tag), ("if-unmodified-since", LONG_AGO)], 200),
        (&[("if-match", other), ("if-unmodified-since", modified)], 412),
        (&[("if-none-match", other), ("if-modified-since", modified)], 200),
        (&[("if-none-match", tag), ("if-modified-since", LONG_AGO)], 304),
    ];
    for (headers, expected) in table {
        let got = with(s3.get(&target), headers).send().await;
        assert_eq!(got.status, *expected, "GET {headers:?}: {}", got.text());
        assert_eq!(with(s3.head(&target), headers).send().await.status, *expected, "HEAD {headers:?}");
        match expected {
            200 => assert_eq!(got.text(), "hello"),
            304 => {
                assert!(got.body.is_empty(), "304 has no body");
                assert_eq!(got.header("etag"), Some(tag));
            }
            _ => assert_refused(&got, headers),
        }
    }
    for headers in [[("if-match", "*")], [("if-none-match", "*")]] {
        with(s3.get(&format!("{target}-none")), &headers).refused(404, "NoSuchKey").await;
    }
}

#[tokio::test]
async fn puts() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let (target, none) = (format!("{bucket}/k"), format!("{bucket}/none"));
    // Small enough to lie inside the metadata, and too large for that: the chunks of the second are written before it is judged.
    for size in [10, 100_000] {
        let (first, second) = (content(size, 1), content(size, 2));
        s3.put(&target).body(first.clone()).ok().await;
        let (tag, other) = (etag(&first), etag(&second));
        let put = |headers: Headers| with(s3.put(&target), headers).body(second.clone());
        for headers in [[("if-none-match", "*")], [("if-match", other.as_str())]] {
            assert_refused(&put(&headers).send().await, &headers);
            assert!(s3.get(&target).ok().await.body == first, "nothing has changed after {headers:?}");
        }
        put(&[("if-match", &tag)]).ok().await;
        assert!(s3.get(&target).ok().await.body == second);
        s3.delete(&target).ok().await;
        put(&[("if-match", &tag)]).refused(404, "NoSuchKey").await;
        assert_absent(&s3, &target).await;
        put(&[("if-none-match", "*")]).ok().await;
        assert!(s3.get(&target).ok().await.body == second);
        assert_absent(&s3, &none).await;
    }
}

#[tokio::test]
async fn deletes() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    s3.put(&target).body("hello").ok().await;
    let wrong = [("if-match", "\"0123456789abcdef0123456789abcdef\"")];
    assert_refused(&with(s3.delete(&target), &wrong).send().await, &wrong);
    s3.head(&target).ok().await;
    s3.delete(&target).header("if-match", &etag(b"hello")).ok().await;
    assert_absent(&s3, &target).await;
}

#[tokio::test]
async fn copies() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let (source, target) = (format!("{bucket}/source"), format!("{bucket}/target"));
    s3.put(&source).body("hello").ok().await;
    let (tag, other) = (etag(b"hello"), etag(b"other"));
    let table: &[(Headers, StatusCode)] = &[
        (&[("x-amz-copy-source-if-match", &tag)], StatusCode::OK),
        (&[("x-amz-copy-source-if-match", &other)], StatusCode::PRECONDITION_FAILED),
        (&[("x-amz-copy-source-if-none-match", &other)], StatusCode::OK),
        (&[("x-amz-copy-source-if-none-match", &tag)], StatusCode::PRECONDITION_FAILED),
        (&[("x-amz-copy-source-if-modified-since", LONG_AGO)], StatusCode::OK),
        (&[("x-amz-copy-source-if-modified-since", IN_A_LONG_TIME)], StatusCode::OK),
        (&[("x-amz-copy-source-if-unmodified-since", LONG_AGO)], StatusCode::PRECONDITION_FAILED),
        (&[("if-none-match", "*")], StatusCode::OK),
        (&[("if-match", &tag)], StatusCode::NOT_FOUND),
    ];
    for (headers, expected) in table {
        let copied = with(s3.put(&target), headers).header("x-amz-copy-source", &source).send().await;
        assert_eq!(copied.status, *expected, "{headers:?}: {}", copied.text());
        assert_eq!(s3.head(&target).send().await.status.is_success(), expected.is_success(), "{headers:?}");
        s3.delete(&target).ok().await;
    }
    s3.put(&target).body("there").ok().await;
    let onto = |headers: Headers| with(s3.put(&target), headers).header("x-amz-copy-source", &source);
    assert_refused(&onto(&[("if-none-match", "*")]).send().await, &[("if-none-match", "*")]);
    assert_eq!(s3.get(&target).ok().await.text(), "there");
    onto(&[("if-match", &etag(b"there"))]).ok().await;
    assert_eq!(s3.get(&target).ok().await.text(), "hello");
}

#[tokio::test]
async fn completed_uploads() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let complete = async |headers: Headers<'_>| {
        let (upload, parts) = one_part(&s3, &target).await;
        let reply = with(s3.post(&format!("{target}?uploadId={upload}")), headers).body(parts).send().await;
        (upload, reply)
    };
    let (_, absent) = complete(&[("if-match", "\"0123456789abcdef0123456789abcdef\"")]).await;
    assert_eq!((absent.status.as_u16(), absent.code().as_deref()), (404, Some("NoSuchKey")));
    let (_, made) = complete(&[("if-none-match", "*")]).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let (upload, refused) = complete(&[("if-none-match", "*")]).await;
    assert_refused(&refused, &[("if-none-match", "*")]);
    // The upload that was refused is still there to be completed without the condition, or aborted.
    s3.get(&format!("{target}?uploadId={upload}")).ok().await;
    s3.delete(&format!("{target}?uploadId={upload}")).ok().await;
}

async fn one_part(s3: &S3, target: &str) -> (String, String) {
    let begun = s3.post(&format!("{target}?uploads")).ok().await;
    let upload = begun.element("UploadId").expect("an upload has an id");
    let part = s3.put(&format!("{target}?partNumber=1&uploadId={upload}")).body("part").ok().await;
    let tag = part.header("etag").expect("a part has a tag");
    let parts = format!(
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Part><PartNumber>1</PartNumber>\
         <ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    (upload, parts)
}

/// What a client sends whose variable is empty: a tag that no object has, or no tag at all.
#[tokio::test]
async fn an_empty_tag_is_no_objects() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let (source, target) = (format!("{bucket}/source"), format!("{bucket}/target"));
    for key in [&source, &target] {
        s3.put(key).body("hello").ok().await;
    }
    let rename = format!("{target}?renameObject");
    for (value, status) in [("\"\"", 412), ("W/\"\"", 412), ("", 400), (",", 400)] {
        let calls = [
            s3.put(&target).body("other").header("if-match", value),
            s3.delete(&target).header("if-match", value),
            s3.get(&target).header("if-match", value),
            s3.put(&target).header("x-amz-copy-source", &source).header("x-amz-copy-source-if-match", value),
            s3.put(&rename).header("x-amz-rename-source", &source).header("x-amz-rename-source-if-match", value),
        ];
        for call in calls {
            let reply = call.send().await;
            assert_eq!(reply.status, status, "{value:?}: {}", reply.text());
        }
    }
    assert_eq!(s3.get(&target).ok().await.text(), "hello");
    s3.get(&target).header("if-none-match", "\"\"").ok().await;
}

/// Whoever says on which condition something is to be done does not want it done without.
#[tokio::test]
async fn what_does_not_judge_a_condition_is_not_done() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/k");
    s3.put(&target).body("hello").ok().await;
    let tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let upload = s3.post(&format!("{target}?uploads")).ok().await.element("UploadId").expect("an upload has an id");
    let table: [(Call<'_>, &'static str); 12] = [
        (s3.put(&target).body("other"), "if-unmodified-since"),
        (s3.put(&target).body("other"), "if-modified-since"),
        (s3.delete(&target), "if-unmodified-since"),
        (s3.put(&target).header("x-amz-copy-source", &target), "if-unmodified-since"),
        (s3.put(&format!("{target}?tagging")).body(tagging), "if-match"),
        (s3.delete(&format!("{target}?tagging")), "if-match"),
        (s3.put(&format!("{target}?acl")).header("x-amz-acl", "public-read"), "if-match"),
        (s3.put(&format!("{target}?partNumber=1&uploadId={upload}")).body("part"), "if-none-match"),
        (s3.post(&format!("{target}?uploads")), "if-none-match"),
        (s3.delete(&format!("{target}?uploadId={upload}")), "if-match"),
        (s3.put(&format!("{bucket}?tagging")).body(tagging), "if-match"),
        (s3.delete(&bucket), "if-match"),
    ];
    for (call, name) in table {
        let value = if name.ends_with("since") { LONG_AGO } else { "\"0123456789abcdef0123456789abcdef\"" };
        let refused = call.header(name, value).refused(501, "NotImplemented").await;
        assert_eq!(refused.element("Header").as_deref(), Some(name));
    }
    assert_eq!(s3.get(&target).ok().await.text(), "hello");
    assert_eq!(s3.get(&format!("{target}?tagging")).ok().await.elements("Tag").len(), 0);
    // A read that judges none is answered in full.
    s3.get(&bucket).header("if-none-match", "*").ok().await;
}
