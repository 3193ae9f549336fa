//! Accounts: each sees its own buckets and nobody else's.

use annulus_tests::client::S3;
use annulus_tests::cluster::shared;

use crate::{fresh_name, new_bucket};

#[tokio::test]
async fn a_bucket_is_its_owners_alone() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    let target = format!("{bucket}/k");
    owner.put(&target).body("mine").ok().await;
    let begun = owner.post(&format!("{bucket}/u?uploads")).ok().await;
    let upload = begun.element("UploadId").expect("an upload has an id");
    let denied = [
        other.get(&target),
        other.put(&target).body("theirs"),
        other.delete(&target),
        other.get(&bucket),
        other.get(&format!("{bucket}?list-type=2")),
        other.get(&format!("{bucket}?versions")),
        other.get(&format!("{bucket}?uploads")),
        other.get(&format!("{bucket}?location")),
        other.delete(&bucket),
        other.post(&format!("{bucket}/new?uploads")),
        other.put(&format!("{bucket}/u?partNumber=1&uploadId={upload}")).body("theirs"),
        other.delete(&format!("{bucket}/u?uploadId={upload}")),
        other.get(&format!("{bucket}/never-there")),
    ];
    for call in denied {
        call.refused(403, "AccessDenied").await;
    }
    assert_eq!(other.head(&bucket).send().await.status, 403);
    assert_eq!(other.head(&target).send().await.status, 403);
    assert_eq!(owner.get(&target).ok().await.text(), "mine");
}

#[tokio::test]
async fn nobody_copies_what_they_may_not_read() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let (from, to) = (new_bucket(&owner).await, new_bucket(&other).await);
    owner.put(&format!("{from}/k")).body("mine").ok().await;
    let copy = other.put(&format!("{to}/k")).header("x-amz-copy-source", &format!("{from}/k"));
    copy.refused(403, "AccessDenied").await;
    let into = owner.put(&format!("{to}/k")).header("x-amz-copy-source", &format!("{from}/k"));
    into.refused(403, "AccessDenied").await;
    other.get(&format!("{to}/k")).refused(404, "NoSuchKey").await;
}

#[tokio::test]
async fn each_account_lists_its_own_buckets() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let (mine, theirs) = (new_bucket(&owner).await, new_bucket(&other).await);
    let names = async |s3: &S3| s3.get("/").ok().await.elements("Name");
    let (owners, others) = (names(&owner).await, names(&other).await);
    let listed = |names: &[String], bucket: &str| names.iter().any(|name| format!("/{name}") == bucket);
    assert!(listed(&owners, &mine) && !listed(&owners, &theirs));
    assert!(listed(&others, &theirs) && !listed(&others, &mine));
    assert_ne!(owner.get("/").ok().await.element("ID"), other.get("/").ok().await.element("ID"));
}

#[tokio::test]
async fn without_a_signature_nothing_is_served() {
    let cluster = shared().await;
    let (owner, anonymous) = (cluster.s3(0), cluster.anonymous());
    let bucket = new_bucket(&owner).await;
    owner.put(&format!("{bucket}/k")).body("mine").ok().await;
    let denied = [
        anonymous.get(&format!("{bucket}/k")),
        anonymous.put(&format!("{bucket}/new")).body("x"),
        anonymous.delete(&format!("{bucket}/k")),
        anonymous.get(&bucket),
        anonymous.put(&format!("/{}", fresh_name("anonymous"))),
        anonymous.get("/"),
    ];
    for call in denied {
        call.refused(403, "AccessDenied").await;
    }
    owner.get(&format!("{bucket}/k")).ok().await;
    owner.get(&format!("{bucket}/new")).refused(404, "NoSuchKey").await;
}

#[tokio::test]
async fn the_expected_owner_is_compared() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let id = s3.get("/").ok().await.element("ID").expect("a list of buckets names their owner");
    s3.get(&bucket).header("x-amz-expected-bucket-owner", &id).ok().await;
    let other = "0".repeat(64);
    s3.get(&bucket).header("x-amz-expected-bucket-owner", &other).refused(403, "AccessDenied").await;
}
