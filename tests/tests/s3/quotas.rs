//! Quotas: never more than they say, to the last byte and object, and nothing less while there is room.

use annulus_gateway::admin::model::{KeyReport, NewKey, NewQuota, NewUser, QuotaReport, UserReport};
use annulus_tests::client::S3;
use annulus_tests::cluster::{Cluster, Spec, shared};
use futures::future::join_all;

use crate::{PART_BYTES_MIN, content, fresh_name, new_bucket};

/// Renames enough for one to stay within a shard, of which there are 16.
const RENAMES: usize = 200;

/// Sets the quota of `buckets/NAME` or `users/NAME`.
async fn set(cluster: &Cluster, of: &str, objects: Option<u64>, bytes: Option<u64>) -> QuotaReport {
    let path = format!("/{}/quota", of.trim_start_matches('/'));
    cluster.admin(1).post(&path, &NewQuota { objects, bytes }).await.expect("an administrator sets quotas")
}

async fn report(cluster: &Cluster, of: &str) -> QuotaReport {
    cluster.admin(0).get(&format!("/{}/quota", of.trim_start_matches('/'))).await.expect("an administrator is told")
}

/// An account of its own, with a client at each gateway.
async fn new_account(cluster: &Cluster) -> (String, [S3; 2]) {
    let name = fresh_name("payer");
    let new = NewUser { name: name.clone(), display_name: None, email: None, admin: false };
    let _: UserReport = cluster.admin(0).post("/users", &new).await.expect("it is made");
    let key: KeyReport = cluster.admin(0).post("/keys", &NewKey { user: name.clone() }).await.expect("it is made");
    let secret = key.secret_key.expect("a new key is told with its secret");
    (name, [0, 1].map(|gateway| S3::new(&cluster.endpoint(gateway), &key.access_key, &secret)))
}

/// Puts, and says whether there was room. Who is told to come back, comes back.
async fn put(s3: &S3, target: &str, bytes: usize) -> bool {
    loop {
        let reply = s3.put(target).body(content(bytes, 1)).send().await;
        match (reply.status.as_u16(), reply.code().as_deref()) {
            (200, _) => return true,
            (403, Some("QuotaExceeded")) => return false,
            (503, Some("SlowDown")) => {}
            _ => panic!("{target}: {} {}", reply.status, reply.text()),
        }
    }
}

#[tokio::test]
async fn a_bucket_holds_as_many_objects_as_it_may() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let bucket = new_bucket(&here).await;
    let of = format!("buckets{bucket}");
    let told = set(cluster, &of, Some(3), None).await;
    assert_eq!((told.objects, told.bytes, told.used_objects), (Some(3), None, 0));
    // Keys of different shards, through both gateways.
    for (key, s3) in [("a", &here), ("b", &there), ("c", &here)] {
        assert!(put(s3, &format!("{bucket}/{key}"), 10).await, "{key}");
    }
    for key in ["d", "e", "f", "g"] {
        assert!(!put(&there, &format!("{bucket}/{key}"), 0).await, "{key}");
    }
    assert!(put(&there, &format!("{bucket}/a"), 100_000).await, "what is replaced makes room");
    here.delete(&format!("{bucket}/b")).ok().await;
    assert!(put(&here, &format!("{bucket}/d"), 1).await);
    assert!(!put(&here, &format!("{bucket}/e"), 1).await);
    let copy = here.put(&format!("{bucket}/copy")).header("x-amz-copy-source", &format!("{bucket}/a"));
    copy.refused(403, "QuotaExceeded").await;
    let told = report(cluster, &of).await;
    assert_eq!((told.used_objects, told.used_bytes), (3, 100_011));
    assert_eq!(set(cluster, &of, None, None).await.objects, None);
    assert!(put(&here, &format!("{bucket}/e"), 1).await, "the quota has ended");
}

#[tokio::test]
async fn writers_at_once_fill_a_bucket_to_the_last_byte() {
    let cluster = shared().await;
    let clients = [cluster.s3(0), cluster.s3(1)];
    let bucket = new_bucket(&clients[0]).await;
    let of = format!("buckets{bucket}");
    // Objects within their records and objects in chunks.
    for (round, bytes) in [(0, 10_000), (1, 20_000)] {
        let before = report(cluster, &of).await.used_bytes;
        let room = 12 * bytes as u64;
        set(cluster, &of, None, Some(before + room)).await;
        let writers = (0..30).map(|number| {
            let (s3, target) = (&clients[number % 2], format!("{bucket}/{round}/{number}"));
            async move { put(s3, &target, bytes).await }
        });
        let written = join_all(writers).await.into_iter().filter(|written| *written).count();
        assert!(written <= 12, "{written}");
        // Those who came while others had more than they used come again, one by one.
        for number in 0..30 {
            put(&clients[0], &format!("{bucket}/{round}/again-{number}"), bytes).await;
        }
        assert_eq!(report(cluster, &of).await.used_bytes, before + room);
        assert!(!put(&clients[1], &format!("{bucket}/{round}/last"), 1).await);
    }
}

#[tokio::test]
async fn an_account_has_one_quota_for_all_its_buckets() {
    let cluster = shared().await;
    let (name, clients) = new_account(cluster).await;
    let of = format!("users/{name}");
    let first = new_bucket(&clients[0]).await;
    assert!(put(&clients[0], &format!("{first}/before"), 400).await);
    let told = set(cluster, &of, None, Some(1_000)).await;
    assert_eq!((told.bytes, told.used_bytes), (Some(1_000), 400));
    let second = new_bucket(&clients[1]).await;
    assert!(put(&clients[0], &format!("{second}/a"), 500).await);
    assert!(!put(&clients[1], &format!("{first}/b"), 101).await);
    assert!(put(&clients[1], &format!("{first}/b"), 100).await);
    assert!(!put(&clients[0], &format!("{second}/c"), 1).await);
    // What is in a bucket counts for the account that owns it, whoever put it there.
    let grantee = cluster.s3(0).get("/").ok().await.element("ID").expect("a list of buckets names their owner");
    clients[0].put(&format!("{second}?acl")).header("x-amz-grant-write", &format!("id={grantee}")).ok().await;
    assert!(!put(&cluster.s3(0), &format!("{second}/other"), 1).await);
    // A bucket that is gone takes nothing with it.
    for key in ["before", "b"] {
        clients[0].delete(&format!("{first}/{key}")).ok().await;
    }
    clients[0].delete(&first).ok().await;
    assert!(put(&clients[0], &format!("{second}/c"), 500).await);
    assert!(!put(&clients[0], &format!("{second}/d"), 1).await);
    // The bucket's own quota holds beside the account's.
    set(cluster, &of, None, None).await;
    set(cluster, &format!("buckets{second}"), None, Some(1_002)).await;
    assert!(put(&clients[0], &format!("{second}/d"), 2).await);
    assert!(!put(&clients[0], &format!("{second}/e"), 1).await);
}

#[tokio::test]
async fn what_is_over_a_new_quota_stays_and_may_shrink() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    for key in ["a", "b", "c"] {
        assert!(put(&s3, &format!("{bucket}/{key}"), 1_000).await);
    }
    set(cluster, &format!("buckets{bucket}"), Some(10), Some(1_500)).await;
    assert_eq!(s3.get(&format!("{bucket}/a")).ok().await.body.len(), 1_000);
    assert!(!put(&s3, &format!("{bucket}/d"), 1).await);
    assert!(!put(&s3, &format!("{bucket}/a"), 1_001).await);
    assert!(put(&s3, &format!("{bucket}/a"), 999).await);
    s3.delete(&format!("{bucket}/a")).ok().await;
    assert!(!put(&s3, &format!("{bucket}/d"), 1).await);
    s3.delete(&format!("{bucket}/b")).ok().await;
    assert!(put(&s3, &format!("{bucket}/d"), 500).await);
    assert!(!put(&s3, &format!("{bucket}/e"), 1).await);
}

#[tokio::test]
async fn versions_count_and_uploads_do_when_they_are_complete() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let enable = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    s3.put(&format!("{bucket}?versioning")).body(enable).ok().await;
    set(cluster, &format!("buckets{bucket}"), None, Some(PART_BYTES_MIN as u64)).await;
    let target = format!("{bucket}/k");
    assert!(put(&s3, &target, 10).await);
    let upload = s3.post(&format!("{target}?uploads")).ok().await.element("UploadId").expect("an id");
    let part = s3.put(&format!("{target}?partNumber=1&uploadId={upload}")).body(content(PART_BYTES_MIN, 1)).ok().await;
    let tag = part.header("etag").expect("a tag");
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    let complete = || s3.post(&format!("{target}?uploadId={upload}")).body(list.clone());
    complete().refused(403, "QuotaExceeded").await;
    // A delete marker hides a version, and makes no room.
    s3.delete(&target).ok().await;
    complete().refused(403, "QuotaExceeded").await;
    let versions = s3.get(&format!("{bucket}?versions")).ok().await.elements("VersionId");
    for version in versions {
        s3.delete(&format!("{target}?versionId={version}")).ok().await;
    }
    complete().ok().await;
    assert_eq!(s3.get(&target).ok().await.body.len(), PART_BYTES_MIN);
    assert!(!put(&s3, &target, 1).await);
}

#[tokio::test]
async fn quotas_are_the_administrators_to_set() {
    let cluster = shared().await;
    let bucket = new_bucket(&cluster.s3(0)).await;
    for path in [format!("/-/admin/v1/buckets{bucket}/quota"), "/-/admin/v1/users/root/quota".to_owned()] {
        assert_eq!(cluster.alt().get(&path).send().await.status, 403);
        assert_eq!(cluster.alt().post(&path).body("{\"bytes\":1}").send().await.status, 403);
        assert_eq!(cluster.s3(0).post(&path).body("{\"octets\":1}").send().await.status, 400);
    }
    for path in ["/-/admin/v1/buckets/no-such-bucket/quota", "/-/admin/v1/users/nobody/quota"] {
        assert_eq!(cluster.s3(0).post(path).body("{\"bytes\":1}").send().await.status, 404);
    }
}

/// Which keys share a shard, nobody knows; what has to be copied to another one takes room there until it is deleted here.
#[tokio::test]
async fn a_rename_without_room_is_refused_before_it_copies() {
    let spec = Spec { nodes: 1, gateways: 1, replication_factor: 1, partitions: 1, ..Spec::default() };
    let cluster = Cluster::start(spec).await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}/from")).body(content(100_000, 1)).ok().await;
    let quota = NewQuota { objects: None, bytes: Some(150_000) };
    let _: QuotaReport = cluster.admin(0).post(&format!("/buckets{bucket}/quota"), &quota).await.expect("it is set");
    // No byte of it can be copied.
    cluster.set_disk_full(0, true);
    let (mut at, mut renamed, mut refused) = ("from".to_owned(), 0, 0);
    for number in 0..RENAMES {
        let to = format!("to-{number}");
        let call = s3.put(&format!("{bucket}/{to}?renameObject"));
        let reply = call.header("x-amz-rename-source", &format!("{bucket}/{at}")).send().await;
        match (reply.status.as_u16(), reply.code().as_deref()) {
            (200, _) => (at, renamed) = (to, renamed + 1),
            (403, Some("QuotaExceeded")) => refused += 1,
            _ => panic!("{to}: {} {}", reply.status, reply.text()),
        }
    }
    assert!(renamed > 0 && refused > 0, "{renamed} {refused}");
    assert!(s3.get(&format!("{bucket}/{at}")).ok().await.body == content(100_000, 1));
}
