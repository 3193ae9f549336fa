//! Buckets by the names of hosts: the same buckets, the same signatures, and paths that are keys from their first byte.

use std::time::{Duration, SystemTime};

use annulus_tests::cluster::{DOMAINS, shared};
use http::Method;

use crate::{content, fresh_name, new_bucket};

fn name(bucket: &str) -> &str {
    bucket.trim_start_matches('/')
}

#[tokio::test]
async fn a_host_names_a_bucket_and_the_path_its_key() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    for (number, domain) in DOMAINS.iter().enumerate() {
        for port in ["", ":4000"] {
            let by_host = s3.at_host(&format!("{}.{domain}{port}", name(&bucket)));
            let body = format!("hello {number}{port}");
            by_host.put("/a/b%20c").body(body.clone()).ok().await;
            assert_eq!(s3.get(&format!("{bucket}/a/b%20c")).ok().await.text(), body);
            assert_eq!(s3.at_host(domain).get(&format!("{bucket}/a/b%20c")).ok().await.text(), body);
            assert_eq!(by_host.get("/?list-type=2").ok().await.elements("Key"), ["a/b c"]);
            assert_eq!(by_host.head("/").ok().await.status, 200);
            by_host.get(&format!("{bucket}/a/b%20c")).refused(404, "NoSuchKey").await;
        }
    }
}

#[tokio::test]
async fn a_bucket_is_made_used_and_removed_under_its_host() {
    let s3 = shared().await.s3(0);
    let bucket = format!("{}.with.dots", fresh_name("bucket"));
    let by_host = s3.at_host(&format!("{bucket}.s3.test"));
    by_host.get("/").refused(404, "NoSuchBucket").await;
    by_host.put("/").ok().await;
    assert!(s3.get("/").ok().await.elements("Name").contains(&bucket));
    // Paths that are the gateway's own elsewhere are keys here.
    for key in ["/upload", "/-/health/live", "/-"] {
        by_host.put(key).body("x").ok().await;
        assert_eq!(by_host.get(key).ok().await.text(), "x");
    }
    let delete = "<Delete><Object><Key>upload</Key></Object><Object><Key>-/health/live</Key></Object><Object><Key>-</Key></Object></Delete>";
    assert_eq!(by_host.post("/?delete").body(delete).ok().await.elements("Deleted").len(), 3);
    by_host.delete("/").ok().await;
    s3.head(&format!("/{bucket}")).send().await;
    by_host.get("/").refused(404, "NoSuchBucket").await;
    s3.at_host("Not_A_Bucket.s3.test").get("/").refused(400, "InvalidBucketName").await;
}

#[tokio::test]
async fn an_upload_in_parts_is_located_as_it_was_asked_for() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let host = format!("{}.s3.test", name(&bucket));
    let by_host = s3.at_host(&host);
    let upload = by_host.post("/k?uploads").ok().await.element("UploadId").expect("an upload has an id");
    let part = by_host.put(&format!("/k?partNumber=1&uploadId={upload}")).body(content(100, 1)).ok().await;
    let tag = part.header("etag").expect("a part has a tag");
    let parts = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    let done = by_host.post(&format!("/k?uploadId={upload}")).body(parts).ok().await;
    assert_eq!(done.element("Location"), Some(format!("http://{host}/k")));
    assert_eq!(s3.get(&format!("{bucket}/k")).ok().await.body, content(100, 1));
}

#[tokio::test]
async fn a_presigned_url_holds_for_the_host_that_was_signed() {
    let cluster = shared().await;
    let (s3, anybody) = (cluster.s3(0), cluster.anonymous());
    let bucket = new_bucket(&s3).await;
    let (host, other) = (format!("{}.s3.test", name(&bucket)), format!("{}.objects.example", name(&bucket)));
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    let put = s3.at_host(&host).presign(&Method::PUT, "/k", now, hour);
    anybody.at_host(&other).put(&put).body("x").refused(403, "SignatureDoesNotMatch").await;
    anybody.at_host(&host).put(&put).body("x").ok().await;
    let get = s3.at_host(&host).presign(&Method::GET, "/k", now, hour);
    assert_eq!(anybody.at_host(&host).get(&get).header("range", "bytes=5-1").ok().await.text(), "x");
    anybody.get(&format!("{bucket}{get}")).refused(403, "SignatureDoesNotMatch").await;
}

#[tokio::test]
async fn a_form_is_posted_to_a_host() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}?acl")).header("x-amz-acl", "public-read-write").ok().await;
    let host = format!("{}.s3.test", name(&bucket));
    let form = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b\r\nContent-Disposition: form-data; name=\"acl\"\r\n\r\npublic-read\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nhello\r\n--b--\r\n";
    let by_host = cluster.anonymous().at_host(&host);
    let reply = by_host.post("/").header("content-type", "multipart/form-data; boundary=b").body(form).ok().await;
    assert_eq!(reply.header("location"), Some(format!("http://{host}/k").as_str()));
    assert_eq!(by_host.get("/k").ok().await.text(), "hello");
}
