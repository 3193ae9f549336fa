//! Buckets: made, found, listed, and deleted only when they are empty.

use annulus_tests::client::S3;
use annulus_tests::cluster::shared;
use bytes::Bytes;
use futures::future::join_all;

use crate::{fresh_name, new_bucket};

#[tokio::test]
async fn a_bucket_is_made_found_listed_and_deleted() {
    let s3 = shared().await.s3(0);
    let name = fresh_name("life");
    let bucket = format!("/{name}");
    s3.head(&bucket).send().await.status.is_client_error().then_some(()).expect("it is not there yet");
    let made = s3.put(&bucket).ok().await;
    assert_eq!(made.header("location"), Some(bucket.as_str()));
    s3.head(&bucket).ok().await;
    assert!(s3.get("/").ok().await.elements("Name").contains(&name));
    let location = s3.get(&format!("{bucket}?location")).ok().await;
    assert!(location.text().contains("LocationConstraint"), "{}", location.text());
    let deleted = s3.delete(&bucket).ok().await;
    assert_eq!(deleted.status, 204);
    assert_eq!(s3.head(&bucket).send().await.status, 404);
    assert!(!s3.get("/").ok().await.elements("Name").contains(&name));
    s3.get(&bucket).refused(404, "NoSuchBucket").await;
    s3.put(&format!("{bucket}/k")).body("late").refused(404, "NoSuchBucket").await;
}

#[tokio::test]
async fn a_change_through_one_gateway_is_in_force_at_the_other_at_once() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    for _ in 0..5 {
        let bucket = new_bucket(&here).await;
        there.head(&bucket).ok().await;
        there.put(&format!("{bucket}/k")).body("x").ok().await;
        here.delete(&format!("{bucket}/k")).ok().await;
        there.delete(&bucket).ok().await;
        here.put(&format!("{bucket}/k")).body("x").refused(404, "NoSuchBucket").await;
    }
}

#[tokio::test]
async fn making_a_bucket_again_changes_nothing() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}/kept")).body("x").ok().await;
    // As the region us-east-1 answers its owner.
    s3.put(&bucket).ok().await;
    s3.get(&format!("{bucket}/kept")).ok().await;
    cluster.alt().put(&bucket).refused(409, "BucketAlreadyExists").await;
}

#[tokio::test]
async fn names_keep_to_the_rules() {
    let s3 = shared().await.s3(0);
    let long = "a".repeat(63);
    for name in ["abc", "a.b-c", "0-9", &long] {
        s3.put(&format!("/{name}")).ok().await;
        s3.delete(&format!("/{name}")).ok().await;
    }
    let too_long = "a".repeat(64);
    for name in ["ab", "Abc", "a_c", "-abc", "abc-", "a..b", "a.-b", "192.168.1.1", "xn--abc", &too_long] {
        s3.put(&format!("/{name}")).refused(400, "InvalidBucketName").await;
    }
}

#[tokio::test]
async fn a_region_that_is_not_ours_is_refused() {
    let s3 = shared().await.s3(0);
    let bucket = format!("/{}", fresh_name("region"));
    let asked = "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
    s3.put(&bucket).body(asked).refused(400, "IllegalLocationConstraintException").await;
    assert_eq!(s3.head(&bucket).send().await.status, 404);
}

#[tokio::test]
async fn a_bucket_with_objects_stays() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}/a")).body("x").ok().await;
    s3.delete(&bucket).refused(409, "BucketNotEmpty").await;
    // It serves on as if nothing had been tried.
    s3.put(&format!("{bucket}/b")).body("y").ok().await;
    assert_eq!(s3.get(&format!("{bucket}/a")).ok().await.text(), "x");
    for key in ["a", "b"] {
        s3.delete(&format!("{bucket}/{key}")).ok().await;
    }
    s3.delete(&bucket).ok().await;
}

#[tokio::test]
async fn a_name_can_be_used_again_and_holds_nothing_of_before() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let begun = s3.post(&format!("{bucket}/k?uploads")).ok().await;
    let upload = begun.element("UploadId").expect("an upload has an id");
    s3.delete(&bucket).ok().await;
    s3.put(&bucket).ok().await;
    assert!(s3.get(&format!("{bucket}?uploads")).ok().await.elements("UploadId").is_empty());
    s3.put(&format!("{bucket}/k?partNumber=1&uploadId={upload}")).body("x").refused(404, "NoSuchUpload").await;
}

/// The object lies in one of 16 shards, uploads in all of them: each shard alone would have let its uploads go.
#[tokio::test]
async fn a_refused_deletion_leaves_uploads_as_they_are() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}/in-the-way")).body("x").ok().await;
    let mut begun = Vec::new();
    for number in 0..40 {
        let object = format!("{bucket}/u{number}");
        let upload = s3.post(&format!("{object}?uploads")).ok().await.element("UploadId").expect("an id");
        let part =
            s3.put(&format!("{object}?partNumber=1&uploadId={upload}")).body(format!("part of {number}")).ok().await;
        begun.push((object, upload, part.header("etag").expect("a tag").to_owned()));
    }
    s3.delete(&bucket).refused(409, "BucketNotEmpty").await;
    assert_eq!(s3.get(&format!("{bucket}?uploads")).ok().await.elements("UploadId").len(), begun.len());
    for (number, (object, upload, etag)) in begun.into_iter().enumerate() {
        let parts = format!("<Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>", etag.replace('"', "&quot;"));
        let completion = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        s3.post(&format!("{object}?uploadId={upload}")).body(completion).ok().await;
        assert_eq!(s3.get(&object).ok().await.text(), format!("part of {number}"));
        s3.delete(&object).ok().await;
    }
    s3.delete(&format!("{bucket}/in-the-way")).ok().await;
    s3.delete(&bucket).ok().await;
}

/// Puts `keys` through both gateways while the bucket is being deleted. A put that was acknowledged is never lost, and no
/// bucket is deleted that one was acknowledged in.
#[tokio::test]
async fn deleting_never_loses_a_put() {
    let cluster = shared().await;
    let gateways = [cluster.s3(0), cluster.s3(1)];
    let (mut deleted, mut stayed) = (0, 0);
    for round in 0..24 {
        let bucket = new_bucket(&gateways[0]).await;
        let puts = (0..4).map(|writer| {
            let (s3, target) = (&gateways[writer % 2], format!("{bucket}/{writer}"));
            async move { (s3.put(&target).body(Bytes::from(target.clone())).send().await, target) }
        });
        // Later in every round, so that the deletion begins before, during and after the puts.
        let deletion = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            gateways[1].delete(&bucket).send().await
        };
        let (puts, deletion) = tokio::join!(join_all(puts), deletion);
        let mut acknowledged = Vec::new();
        for (put, target) in puts {
            match put.status.as_u16() {
                200 => acknowledged.push(target),
                404 => assert_eq!(put.code().as_deref(), Some("NoSuchBucket")),
                409 => assert_eq!(put.code().as_deref(), Some("OperationAborted")),
                _ => panic!("{} {}", put.status, put.text()),
            }
        }
        match deletion.status.as_u16() {
            204 => {
                assert_eq!(acknowledged, Vec::<String>::new(), "in a bucket that was deleted");
                deleted += 1;
            }
            409 => {
                assert_all_there(&gateways[0], &acknowledged).await;
                stayed += 1;
            }
            _ => panic!("{} {}", deletion.status, deletion.text()),
        }
    }
    println!("{deleted} deleted, {stayed} stayed");
}

async fn assert_all_there(s3: &S3, targets: &[String]) {
    for target in targets {
        assert_eq!(s3.get(target).ok().await.text(), *target);
    }
}

#[tokio::test]
async fn transfers_can_be_not_accelerated() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let target = format!("{}?accelerate", new_bucket(&here).await);
    let status = async |s3: &S3| s3.get(&target).ok().await.element("Status");
    assert_eq!(status(&here).await, None, "nothing was ever set");
    let document = |status| format!("<AccelerateConfiguration><Status>{status}</Status></AccelerateConfiguration>");
    here.put(&target).body(document("Enabled")).refused(501, "NotImplemented").await;
    assert_eq!(status(&there).await, None);
    for _ in 0..2 {
        here.put(&target).body(document("Suspended")).ok().await;
        assert_eq!(status(&there).await.as_deref(), Some("Suspended"));
    }
    here.put(&target).body(document("Enabled")).refused(501, "NotImplemented").await;
    cluster.alt().put(&target).body(document("Suspended")).refused(403, "AccessDenied").await;
}
