//! Renaming: the object has its new key and no other, whatever shards the keys lie in.

use annulus_tests::client::{Call, S3};
use annulus_tests::cluster::shared;

use crate::{assert_absent, content, new_bucket};

/// Keeps versions.
const ENABLE: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";

/// Keys enough for some pairs of them to lie in one shard and others not.
const KEYS: usize = 40;

fn rename<'a>(s3: &'a S3, bucket: &str, from: &str, to: &str) -> Call<'a> {
    s3.put(&format!("{bucket}/{to}?renameObject")).header("x-amz-rename-source", &format!("{bucket}/{from}"))
}

async fn text(s3: &S3, bucket: &str, key: &str) -> String {
    s3.get(&format!("{bucket}/{key}")).ok().await.text()
}

#[tokio::test]
async fn an_object_goes_with_all_that_it_is() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let bucket = new_bucket(&here).await;
    for number in 0..KEYS {
        let body = content(if number % 2 == 0 { 10 } else { 20_000 }, number as u64);
        let (from, to) = (format!("from%20{number}"), format!("to/{number}"));
        here.put(&format!("{bucket}/{from}"))
            .header("x-amz-meta-number", &number.to_string())
            .header("x-amz-tagging", "kept=yes")
            .body(body.clone())
            .ok()
            .await;
        rename(&there, &bucket, &from, &to).ok().await;
        let got = here.get(&format!("{bucket}/{to}")).ok().await;
        assert!(got.body == body, "{to}");
        assert_eq!(got.header("x-amz-meta-number"), Some(number.to_string().as_str()));
        assert_eq!(got.header("x-amz-tagging-count"), Some("1"));
        assert_absent(&here, &format!("{bucket}/{from}")).await;
    }
    assert_eq!(here.get(&bucket).ok().await.elements("Key").len(), KEYS);
}

#[tokio::test]
async fn what_is_at_the_new_key_is_replaced_unless_that_is_ruled_out() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    for number in 0..KEYS {
        let (from, to) = (format!("from-{number}"), format!("to-{number}"));
        s3.put(&format!("{bucket}/{from}")).body("new").ok().await;
        s3.put(&format!("{bucket}/{to}")).body("old").ok().await;
        rename(&s3, &bucket, &from, &to).header("if-none-match", "*").refused(412, "PreconditionFailed").await;
        for (name, value) in [("if-match", "\"other\""), ("x-amz-rename-source-if-match", "\"other\"")] {
            rename(&s3, &bucket, &from, &to).header(name, value).refused(412, "PreconditionFailed").await;
        }
        assert_eq!(s3.get(&format!("{bucket}/{to}")).ok().await.text(), "old");
        rename(&s3, &bucket, &from, &to).ok().await;
        assert_eq!(s3.get(&format!("{bucket}/{to}")).ok().await.text(), "new");
        assert_absent(&s3, &format!("{bucket}/{from}")).await;
    }
}

#[tokio::test]
async fn a_request_that_is_sent_again_with_its_token_is_answered_again() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    for number in 0..KEYS {
        let (from, to) = (format!("from-{number}"), format!("to-{number}"));
        s3.put(&format!("{bucket}/{from}")).body("x").ok().await;
        let with_token = |token: &str| rename(&s3, &bucket, &from, &to).header("x-amz-client-token", token);
        for _ in 0..2 {
            with_token(&format!("one-{number}")).ok().await;
        }
        with_token(&format!("two-{number}")).refused(404, "NoSuchKey").await;
        rename(&s3, &bucket, &from, &to).refused(404, "NoSuchKey").await;
    }
}

#[tokio::test]
async fn a_request_that_is_sent_again_leaves_what_was_put_since() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let (plain, versioned) = (new_bucket(&here).await, new_bucket(&here).await);
    here.put(&format!("{versioned}?versioning")).body(ENABLE).ok().await;
    for (bucket, number) in [&plain, &versioned].into_iter().flat_map(|bucket| (0..KEYS).map(move |key| (bucket, key)))
    {
        let (from, to, token) = (format!("from-{number}"), format!("to-{number}"), format!("token-{number}"));
        let with_token = |s3| rename(s3, bucket, &from, &to).header("x-amz-client-token", &token);
        let texts = async || [text(&here, bucket, &from).await, text(&here, bucket, &to).await];
        here.put(&format!("{bucket}/{from}")).body("first").ok().await;
        with_token(&here).ok().await;
        here.put(&format!("{bucket}/{from}")).body("second").ok().await;
        // As an SDK does that did not hear the answer.
        for s3 in [&there, &here] {
            with_token(s3).ok().await;
            assert_eq!(texts().await, ["second", "first"], "{bucket} {number}");
        }
        // Where somebody has put something at the new key since, nobody can tell any more.
        if bucket == &plain {
            here.put(&format!("{bucket}/{to}")).body("third").ok().await;
            with_token(&there).send().await;
            assert_eq!(texts().await, ["second", "third"], "{number}");
        }
    }
}

#[tokio::test]
async fn what_is_put_during_a_rename_is_not_lost_by_the_next_try() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let bucket = new_bucket(&here).await;
    for number in 0..KEYS {
        let (from, to, token) = (format!("from-{number}"), format!("to-{number}"), format!("token-{number}"));
        let with_token = |s3| rename(s3, &bucket, &from, &to).header("x-amz-client-token", &token);
        let source = format!("{bucket}/{from}");
        here.put(&source).body(content(100_000, 1)).ok().await;
        let (_, put) = tokio::join!(with_token(&here).send(), there.put(&source).body("second").send());
        assert_eq!(put.status, 200, "{}", put.text());
        with_token(&there).ok().await;
        let mut found = Vec::new();
        for key in [&from, &to] {
            let got = here.get(&format!("{bucket}/{key}")).send().await;
            found.push(got.status == 200 && got.body == "second");
        }
        assert!(found[0] != found[1], "{number}: what was put is at the old key or at the new one: {found:?}");
    }
}

#[tokio::test]
async fn a_token_stands_for_one_request() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let (bucket, other) = (new_bucket(&here).await, new_bucket(&here).await);
    for target in [&bucket, &other] {
        for key in ["a", "b"] {
            here.put(&format!("{target}/{key}")).body(key).ok().await;
        }
    }
    let token = "0123456789-~!";
    let with_token = |s3, bucket, from, to| rename(s3, bucket, from, to).header("x-amz-client-token", token);
    with_token(&here, &bucket, "a", "c").ok().await;
    let mismatch = "IdempotencyParameterMismatch";
    with_token(&there, &bucket, "b", "c").refused(400, mismatch).await;
    with_token(&there, &bucket, "a", "d").refused(400, mismatch).await;
    with_token(&there, &bucket, "b", "d").refused(400, mismatch).await;
    with_token(&there, &bucket, "a", "c").header("if-none-match", "*").refused(400, mismatch).await;
    with_token(&there, &bucket, "a", "c").ok().await;
    assert_eq!(here.get(&format!("{bucket}/c")).ok().await.text(), "a");
    assert_eq!(here.get(&format!("{bucket}/b")).ok().await.text(), "b");
    // It is the bucket's, and the account's.
    with_token(&there, &other, "b", "c").ok().await;
    assert_eq!(here.get(&format!("{other}/c")).ok().await.text(), "b");
}

#[tokio::test]
async fn versions_stay_under_the_old_key() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}?versioning")).body(ENABLE).ok().await;
    let version =
        s3.put(&format!("{bucket}/a")).body("x").ok().await.header("x-amz-version-id").expect("one").to_owned();
    rename(&s3, &bucket, "a", "b").ok().await;
    assert_absent(&s3, &format!("{bucket}/a")).await;
    assert_eq!(s3.get(&format!("{bucket}/b")).ok().await.text(), "x");
    assert_eq!(s3.get(&format!("{bucket}/a?versionId={version}")).ok().await.text(), "x");
}

#[tokio::test]
async fn renames_that_make_no_sense_are_refused() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let (bucket, other) = (new_bucket(&s3).await, new_bucket(&s3).await);
    s3.put(&format!("{bucket}/a")).body("x").ok().await;
    rename(&s3, &bucket, "a", "a").refused(400, "InvalidRequest").await;
    rename(&s3, &bucket, "none", "b").refused(404, "NoSuchKey").await;
    let elsewhere = s3.put(&format!("{other}/b?renameObject")).header("x-amz-rename-source", &format!("{bucket}/a"));
    elsewhere.refused(400, "InvalidRequest").await;
    s3.put(&format!("{bucket}/b?renameObject"))
        .header("x-amz-rename-source", "a")
        .refused(400, "InvalidArgument")
        .await;
    rename(&cluster.alt(), &bucket, "a", "b").refused(403, "AccessDenied").await;
    s3.put(&format!("{bucket}/c")).header("x-amz-rename-source", "x/y").body("x").refused(501, "NotImplemented").await;
    assert_eq!(s3.get(&format!("{bucket}/a")).ok().await.text(), "x");
}
