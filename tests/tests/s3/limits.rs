//! The limits that AWS documents, each with AWS's error, and just below each of them success.

use annulus_tests::cluster::shared;
use annulus_tests::wire::Wire;

use crate::{PART_BYTES_MIN, assert_absent, content, new_bucket};

const GIB: usize = 1 << 30;

#[tokio::test]
async fn a_key_has_1024_bytes() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    for longest in ["k".repeat(1024), "%C3%A9".repeat(512)] {
        s3.put(&format!("{bucket}/{longest}")).body("x").ok().await;
        for too_long in [format!("{bucket}/{longest}k"), format!("{bucket}/{longest}%C3%A9")] {
            s3.put(&too_long).body("x").refused(400, "KeyTooLongError").await;
            s3.get(&too_long).refused(400, "KeyTooLongError").await;
            s3.post(&format!("{too_long}?uploads")).refused(400, "KeyTooLongError").await;
            s3.put(&too_long)
                .header("x-amz-copy-source", &format!("{bucket}/{longest}"))
                .refused(400, "KeyTooLongError")
                .await;
        }
    }
}

#[tokio::test]
async fn metadata_has_2048_bytes() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    // Names and values count.
    let (most, more) = ("v".repeat(2048 - 4), "v".repeat(2048 - 3));
    s3.put(&target).header("x-amz-meta-name", &most).body("x").ok().await;
    for call in [s3.put(&target).body("y"), s3.post(&format!("{target}?uploads"))] {
        call.header("x-amz-meta-name", &more).refused(400, "MetadataTooLarge").await;
    }
    assert_eq!(s3.get(&target).ok().await.text(), "x");
}

#[tokio::test]
async fn one_body_has_5_gib() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let upload = s3.post(&format!("{target}?uploads")).ok().await.element("UploadId").expect("an upload has an id");
    let part = format!("{target}?partNumber=1&uploadId={upload}");
    for target in [&target, &part] {
        // Refused by what is announced: not a byte of it is sent.
        let request = s3.put(target).signed_body(aws_sigv4::http_request::SignableBody::UnsignedPayload).prepare();
        let reply = Wire::open(cluster.addr(0), &request, 5 * GIB + 1).await.answer().await.expect("an answer");
        assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (400, Some("EntityTooLarge")), "{}", reply.text());
    }
    assert_absent(&s3, &target).await;
}

#[tokio::test]
async fn an_upload_has_10000_parts_of_5_mib() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let upload = s3.post(&format!("{target}?uploads")).ok().await.element("UploadId").expect("an upload has an id");
    let part = |number: &str| s3.put(&format!("{target}?partNumber={number}&uploadId={upload}"));
    for number in ["0", "10001", "-1", "99999999999"] {
        part(number).body("x").refused(400, "InvalidArgument").await;
    }
    let mut listed = String::new();
    for (number, bytes) in [("1", PART_BYTES_MIN - 1), ("10000", 1)] {
        let reply = part(number).body(content(bytes, 1)).ok().await;
        let tag = reply.header("etag").expect("a part has a tag");
        listed.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"));
    }
    let complete = |parts: &str| {
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        s3.post(&format!("{target}?uploadId={upload}")).body(body)
    };
    complete(&listed).refused(400, "EntityTooSmall").await;
    let many: String =
        (1..=10_001).map(|number| format!("<Part><PartNumber>{number}</PartNumber><ETag>x</ETag></Part>")).collect();
    complete(&many).refused(400, "MalformedXML").await;
    let enough = part("1").body(content(PART_BYTES_MIN, 1)).ok().await;
    let first =
        format!("<Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>", enough.header("etag").expect("a tag"));
    let last = listed.split("</Part>").nth(1).expect("two were listed");
    complete(&format!("{first}{last}</Part>")).ok().await;
}

#[tokio::test]
async fn a_listing_has_1000_entries() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let page = s3.get(&format!("{bucket}?list-type=2&max-keys=5000")).ok().await;
    assert_eq!(page.element("MaxKeys").as_deref(), Some("1000"));
    s3.get(&format!("{bucket}?list-type=2&max-keys=-1")).refused(400, "InvalidArgument").await;
}

#[tokio::test]
async fn a_buckets_name_has_3_to_63_characters() {
    let s3 = shared().await.s3(0);
    for name in ["ab".to_owned(), "a".repeat(64), "Upper-case".to_owned(), "192.168.5.4".to_owned()] {
        s3.put(&format!("/{name}")).refused(400, "InvalidBucketName").await;
    }
}
