//! Tags of buckets by S3 Control, as Terraform's AWS provider asks for them, and with the bucket as it is made.

use annulus_tests::client::S3;
use annulus_tests::cluster::shared;
use futures::future::join_all;
use serde_json::json;

use crate::iam::{iam, new_user, number_of};
use crate::{fresh_name, new_bucket};

/// Where the tags of a bucket are.
fn target(bucket: &str) -> String {
    format!("/v20180820/tags/arn%3Aaws%3As3%3A%3A%3A{}", &bucket[1..])
}

fn document(tags: &[(&str, &str)]) -> String {
    let tag = |(key, value): &(&str, &str)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>");
    let tags: String = tags.iter().map(tag).collect();
    format!(
        "<TagResourceRequest xmlns=\"http://awss3control.amazonaws.com/doc/2018-08-20/\"><Tags>{tags}</Tags></TagResourceRequest>"
    )
}

/// Keys and values, as that answer lists them.
async fn tags(s3: &S3, account: &str, bucket: &str) -> Vec<(String, String)> {
    let listed = s3.get(&target(bucket)).header("x-amz-account-id", account).ok().await;
    let of_s3 = s3.get(&format!("{bucket}?tagging")).send().await;
    assert_eq!(listed.elements("Key"), of_s3.elements("Key"), "they are the tags that S3 knows");
    listed.elements("Key").into_iter().zip(listed.elements("Value")).collect()
}

fn owned(tags: &[(&str, &str)]) -> Vec<(String, String)> {
    tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn some_tags_of_a_bucket_are_set_and_removed_and_the_others_stay() {
    let cluster = shared().await;
    let (s3, elsewhere) = (cluster.s3(0), cluster.s3(1));
    let account = number_of(&s3).await;
    let bucket = new_bucket(&s3).await;
    assert_eq!(tags(&s3, &account, &bucket).await, []);
    let set = async |tags: &[(&str, &str)]| {
        let call = s3.post(&target(&bucket)).header("x-amz-account-id", &account);
        assert_eq!(call.body(document(tags)).ok().await.status, 204);
    };
    set(&[("team", "a+b"), ("stage", "")]).await;
    set(&[("team", "storage"), ("more", " x ")]).await;
    assert_eq!(
        tags(&elsewhere, &account, &bucket).await,
        owned(&[("more", " x "), ("stage", ""), ("team", "storage")])
    );
    let removed = format!("{}?tagKeys=stage&tagKeys=none", target(&bucket));
    assert_eq!(elsewhere.delete(&removed).header("x-amz-account-id", &account).ok().await.status, 204);
    assert_eq!(tags(&s3, &account, &bucket).await, owned(&[("more", " x "), ("team", "storage")]));
    // Many at the same time lose nothing.
    let calls = (0..10).map(|number| {
        let client = if number % 2 == 0 { &s3 } else { &elsewhere };
        let body = document(&[(&format!("k{number}"), "v")]);
        client.post(&target(&bucket)).header("x-amz-account-id", &account).body(body).ok()
    });
    join_all(calls).await;
    assert_eq!(tags(&s3, &account, &bucket).await.len(), 12);
    let many: Vec<String> = (0..39).map(|number| format!("m{number}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "")).collect();
    let too_many = s3.post(&target(&bucket)).header("x-amz-account-id", &account).body(document(&many));
    too_many.refused(400, "InvalidTag").await;
    set(&many[..38]).await;
    assert_eq!(tags(&s3, &account, &bucket).await.len(), 50);
}

#[tokio::test]
async fn tags_are_set_by_those_who_may() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let account = number_of(&s3).await;
    let bucket = new_bucket(&s3).await;
    let target = target(&bucket);
    let (name, user) = new_user(cluster, &s3, 1).await;
    let allow = async |statement: serde_json::Value| {
        let document = json!({"Statement": [statement]}).to_string();
        iam(&s3, "PutUserPolicy", &[("UserName", &name), ("PolicyName", "p"), ("PolicyDocument", &document)]).await;
    };
    let list = || user.get(&target).header("x-amz-account-id", &account);
    let tag = |key: &str| user.post(&target).header("x-amz-account-id", &account).body(document(&[(key, "v")]));
    // In the words by which Terraform knows that it should ask S3 itself.
    let words = "is not authorized to perform: s3:ListTagsForResource on resource";
    assert!(list().refused(403, "AccessDenied").await.text().contains(words));
    let arn = format!("arn:aws:s3:::{}", &bucket[1..]);
    allow(json!({"Effect": "Allow", "Action": "s3:ListTagsForResource", "Resource": arn})).await;
    list().ok().await;
    tag("a").refused(403, "AccessDenied").await;
    allow(json!({"Effect": "Allow", "Action": "s3:*Resource", "Resource": "*",
        "Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": ["a"]}}}))
    .await;
    tag("a").ok().await;
    tag("b").refused(403, "AccessDenied").await;
    user.delete(&format!("{target}?tagKeys=b")).header("x-amz-account-id", &account).refused(403, "AccessDenied").await;
    user.delete(&format!("{target}?tagKeys=a")).header("x-amz-account-id", &account).ok().await;
    // The bucket must be the account's that is named, and the body what was signed.
    s3.get(&target).header("x-amz-account-id", "123456789012").refused(403, "AccessDenied").await;
    let other = number_of(&cluster.alt()).await;
    cluster.alt().get(&target).header("x-amz-account-id", &other).refused(403, "AccessDenied").await;
    cluster.alt().get(&target).header("x-amz-account-id", &account).refused(403, "AccessDenied").await;
    cluster.anonymous().get(&target).header("x-amz-account-id", &account).refused(403, "AccessDenied").await;
}

#[tokio::test]
async fn what_is_not_built_of_it_is_refused() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let account = number_of(&s3).await;
    let bucket = new_bucket(&s3).await;
    for path in [
        "/v20180820/tags/arn%3Aaws%3As3%3Aus-east-1%3A123456789012%3Aaccesspoint%2Fp".to_owned(),
        format!("/v20180820/bucket/{}/tagging", &bucket[1..]),
        "/v20180820/jobs".to_owned(),
        format!("{}?maxResults=1", target(&bucket)),
    ] {
        s3.get(&path).header("x-amz-account-id", &account).refused(501, "NotImplemented").await;
    }
    s3.get(&target("/no-such-bucket")).header("x-amz-account-id", &account).refused(404, "NoSuchBucket").await;
    let tag = |body: &str| s3.post(&target(&bucket)).header("x-amz-account-id", &account).body(body.to_owned());
    tag("").refused(400, "MalformedXML").await;
    tag(&document(&[("aws:mine", "x")])).refused(400, "InvalidTag").await;
    tag(&document(&[("a", "1"), ("a", "2")])).refused(400, "InvalidTag").await;
    s3.put(&target(&bucket)).header("x-amz-account-id", &account).refused(405, "MethodNotAllowed").await;
    // Without an account it is a request for an object, of a bucket that has this name or of none.
    s3.get(&target(&bucket)).refused(404, "NoSuchBucket").await;
}

#[tokio::test]
async fn a_bucket_is_made_with_tags() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let account = number_of(&s3).await;
    let with = |tags: &str| format!("<CreateBucketConfiguration><Tags>{tags}</Tags></CreateBucketConfiguration>");
    let one = with("<Tag><Key>team</Key><Value>storage</Value></Tag>");
    let bucket = format!("/{}", fresh_name("tagged"));
    s3.put(&bucket).body(one.clone()).ok().await;
    assert_eq!(tags(&s3, &account, &bucket).await, owned(&[("team", "storage")]));
    // Asked for again it is as if it had just been made; with other tags somebody means another one.
    s3.put(&bucket).body(one.clone()).ok().await;
    s3.put(&bucket).ok().await;
    let other = with("<Tag><Key>team</Key><Value>other</Value></Tag>");
    s3.put(&bucket).body(other).refused(409, "BucketAlreadyExists").await;
    let unmade = format!("/{}", fresh_name("untagged"));
    s3.put(&unmade).body(with("<Tag><Key>aws:x</Key><Value/></Tag>")).refused(400, "InvalidTag").await;
    let (name, user) = new_user(cluster, &s3, 0).await;
    for (action, is_allowed) in [("s3:CreateBucket", false), ("s3:*", true)] {
        let condition = json!({"StringEquals": {"aws:RequestTag/team": "storage"}});
        let statement = json!({"Effect": "Allow", "Action": action, "Resource": "*", "Condition": condition});
        let document = json!({"Statement": [statement]}).to_string();
        iam(&s3, "PutUserPolicy", &[("UserName", &name), ("PolicyName", "p"), ("PolicyDocument", &document)]).await;
        user.put(&unmade).refused(403, "AccessDenied").await;
        let tagged = user.put(&unmade).body(one.clone());
        if is_allowed {
            tagged.ok().await
        } else {
            tagged.refused(403, "AccessDenied").await
        };
    }
}
