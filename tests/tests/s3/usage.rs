//! How much buckets hold: told at once, exact, by prefix.

use annulus_gateway::admin::model::UsageReport;
use annulus_tests::cluster::{Cluster, shared};

use crate::{PART_BYTES_MIN, content, new_bucket};

async fn usage(cluster: &Cluster, bucket: &str, prefix: &str) -> UsageReport {
    let path = format!("/buckets{bucket}/usage?prefix={}", prefix.replace('/', "%2F"));
    cluster.admin(1).get(&path).await.expect("an administrator is told")
}

/// Objects and bytes under a prefix.
async fn whole(cluster: &Cluster, bucket: &str, prefix: &str) -> (u64, u64) {
    let whole = usage(cluster, bucket, prefix).await.whole;
    (whole.objects, whole.bytes)
}

#[tokio::test]
async fn what_comes_and_goes_is_counted() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    assert_eq!(whole(cluster, &bucket, "").await, (0, 0));
    for (key, bytes) in [("top", 3), ("photos/1", 5), ("photos/2", 100_000), ("photos/2024/1", 7)] {
        s3.put(&format!("{bucket}/{key}")).body(content(bytes, 1)).ok().await;
    }
    assert_eq!(whole(cluster, &bucket, "").await, (4, 100_015));
    let photos = usage(cluster, &bucket, "photos/").await;
    assert_eq!((photos.whole.objects, photos.whole.bytes, photos.more), (3, 100_012, false));
    let below: Vec<_> = photos.below.iter().map(|below| (below.prefix.as_str(), below.bytes)).collect();
    assert_eq!(below, [("photos/2024/", 7)]);
    // What replaces takes the place of what it replaces.
    s3.put(&format!("{bucket}/photos/2")).body(content(50, 2)).ok().await;
    assert_eq!(whole(cluster, &bucket, "photos/").await, (3, 62));
    s3.put(&format!("{bucket}/copy/1")).header("x-amz-copy-source", &format!("{bucket}/photos/2")).ok().await;
    assert_eq!(whole(cluster, &bucket, "copy/").await, (1, 50));
    s3.delete(&format!("{bucket}/photos/2024/1")).ok().await;
    let many = "<Delete><Object><Key>copy/1</Key></Object><Object><Key>not/there</Key></Object></Delete>";
    s3.post(&format!("{bucket}?delete")).body(many).ok().await;
    let root = usage(cluster, &bucket, "").await;
    assert_eq!((root.whole.objects, root.whole.bytes), (3, 58));
    assert_eq!(root.below.iter().map(|below| below.prefix.as_str()).collect::<Vec<_>>(), ["photos/"]);
}

#[tokio::test]
async fn uploads_count_when_they_are_complete_and_versions_until_they_are_removed() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/k");
    let upload = s3.post(&format!("{target}?uploads")).ok().await.element("UploadId").expect("an id");
    let part = s3.put(&format!("{target}?partNumber=1&uploadId={upload}")).body(content(PART_BYTES_MIN, 1)).ok().await;
    let tag = part.header("etag").expect("a tag");
    assert_eq!(whole(cluster, &bucket, "").await, (0, 0));
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    s3.post(&format!("{target}?uploadId={upload}")).body(list).ok().await;
    assert_eq!(whole(cluster, &bucket, "").await, (1, PART_BYTES_MIN as u64));
    let enable = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    s3.put(&format!("{bucket}?versioning")).body(enable).ok().await;
    let version = s3.put(&target).body("new").ok().await.header("x-amz-version-id").expect("a version").to_owned();
    s3.delete(&target).ok().await;
    assert_eq!(whole(cluster, &bucket, "").await, (2, PART_BYTES_MIN as u64 + 3), "a delete marker is no object");
    s3.delete(&format!("{target}?versionId={version}")).ok().await;
    assert_eq!(whole(cluster, &bucket, "").await, (1, PART_BYTES_MIN as u64));
    s3.delete(&format!("{target}?versionId=null")).ok().await;
    assert_eq!(whole(cluster, &bucket, "").await, (0, 0));
}

#[tokio::test]
async fn prefixes_that_are_not_counted_are_refused() {
    let cluster = shared().await;
    let bucket = new_bucket(&cluster.s3(0)).await;
    for prefix in ["photos", "1%2F2%2F3%2F4%2F5%2F"] {
        let path = format!("/-/admin/v1/buckets{bucket}/usage?prefix={prefix}");
        let refused = cluster.s3(0).get(&path).send().await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.text().contains("NotCounted"), "{}", refused.text());
    }
    assert_eq!(cluster.s3(0).get("/-/admin/v1/buckets/no-such-bucket/usage").send().await.status, 404);
    assert_eq!(cluster.alt().get(&format!("/-/admin/v1/buckets{bucket}/usage")).send().await.status, 403);
}
