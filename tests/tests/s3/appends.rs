//! Adding to objects: at their end, by one writer at a time, and nothing else of them changes.

use annulus_tests::client::{Call, Reply, S3};
use annulus_tests::cluster::shared;
use futures::future::join_all;

use crate::{CHUNK_BYTES, INLINE_BYTES_MAX, PART_BYTES_MIN, assert_absent, content, etag, new_bucket};

fn append<'a>(s3: &'a S3, target: &str, offset: usize, body: &[u8]) -> Call<'a> {
    s3.put(target).header("x-amz-write-offset-bytes", &offset.to_string()).body(body.to_vec())
}

fn told_size(reply: &Reply) -> Option<usize> {
    reply.header("x-amz-object-size").and_then(|size| size.parse().ok())
}

#[tokio::test]
async fn an_object_grows_at_its_end() {
    let cluster = shared().await;
    let clients = [cluster.s3(0), cluster.s3(1)];
    let bucket = new_bucket(&clients[0]).await;
    // From nothing, from an empty object, from bytes in the record, from chunks.
    for first in [None, Some(0), Some(10), Some(INLINE_BYTES_MAX + 1), Some(CHUNK_BYTES + 5)] {
        let target = format!("{bucket}/{first:?}").replace(['(', ')'], "-");
        let mut whole = Vec::new();
        if let Some(bytes) = first {
            whole.extend_from_slice(&content(bytes, 9));
            clients[0].put(&target).header("x-amz-meta-kept", "yes").body(whole.clone()).ok().await;
        }
        for (number, bytes) in [3, 20_000, 1, CHUNK_BYTES + 1].into_iter().enumerate() {
            let tail = content(bytes, number as u64);
            let reply = append(&clients[number % 2], &target, whole.len(), &tail).ok().await;
            whole.extend_from_slice(&tail);
            assert_eq!(told_size(&reply), Some(whole.len()), "{target}");
            let got = clients[(number + 1) % 2].get(&target).ok().await;
            assert!(got.body == whole, "{target} after {number}");
            assert_eq!(got.header("etag"), reply.header("etag"));
        }
        let head = clients[0].head(&target).ok().await;
        assert_eq!(head.header("x-amz-meta-kept"), first.map(|_| "yes"));
        let range = clients[1].get(&target).header("range", "bytes=2-20010").ok().await;
        assert!(range.body == whole[2..=20_010], "{target}");
    }
}

#[tokio::test]
async fn what_is_told_of_an_object_that_grew_is_true() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let made = append(&s3, &target, 0, b"hello").ok().await;
    assert_eq!((made.header("etag"), told_size(&made)), (Some(etag(b"hello").as_str()), Some(5)));
    s3.put(&format!("{target}?tagging"))
        .body("<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>")
        .ok()
        .await;
    let grown = append(&s3, &target, 5, b" world").ok().await;
    assert!(grown.header("etag").is_some_and(|etag| etag.ends_with("-2\"")), "{:?}", grown.headers);
    assert_eq!(grown.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
    // The checksum of the same bytes, put whole.
    let same = s3.put(&format!("{target}-same")).body("hello world").ok().await;
    assert_eq!(grown.header("x-amz-checksum-crc64nvme"), same.header("x-amz-checksum-crc64nvme"));
    let part = s3.get(&format!("{target}?partNumber=2")).send().await;
    assert_eq!((part.status.as_u16(), part.text().as_str()), (206, " world"));
    assert_eq!(s3.get(&format!("{target}?tagging")).ok().await.element("Key").as_deref(), Some("a"));
}

#[tokio::test]
async fn what_was_uploaded_in_parts_grows() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let upload = s3.post(&format!("{target}?uploads")).ok().await.element("UploadId").expect("an id");
    let first = content(PART_BYTES_MIN, 1);
    let part = s3.put(&format!("{target}?partNumber=1&uploadId={upload}")).body(first.clone()).ok().await;
    let tag = part.header("etag").expect("a tag");
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    s3.post(&format!("{target}?uploadId={upload}")).body(list).ok().await;
    append(&s3, &target, first.len(), b"tail").ok().await;
    assert!(s3.get(&target).ok().await.body == [&first[..], b"tail"].concat());
    s3.delete(&target).ok().await;
    assert_absent(&s3, &target).await;
}

#[tokio::test]
async fn one_of_many_writers_adds_at_a_place() {
    let cluster = shared().await;
    let clients = [cluster.s3(0), cluster.s3(1)];
    let target = format!("{}/log", new_bucket(&clients[0]).await);
    for offset in 0..4 {
        let writers = (0..6).map(|number| append(&clients[number % 2], &target, offset, &[b'a' + number as u8]).send());
        let replies = join_all(writers).await;
        let (added, others): (Vec<Reply>, Vec<Reply>) =
            replies.into_iter().partition(|reply| reply.status.is_success());
        assert_eq!(added.len(), 1, "at {offset}");
        for other in others {
            assert_eq!((other.status.as_u16(), other.code().as_deref()), (400, Some("InvalidWriteOffset")));
        }
        assert_eq!(clients[0].get(&target).ok().await.body.len(), offset + 1);
    }
}

#[tokio::test]
async fn one_of_many_writers_makes_the_object_whatever_tags_they_rule_out() {
    let cluster = shared().await;
    let clients = [cluster.s3(0), cluster.s3(1)];
    let bucket = new_bucket(&clients[0]).await;
    for number in 0..5 {
        let target = format!("{bucket}/log-{number}");
        let write = |writer: usize| {
            append(&clients[writer % 2], &target, 0, &[b'a' + writer as u8]).header("if-none-match", "\"other\"").send()
        };
        let replies = join_all((0..6).map(write)).await;
        let added: Vec<usize> = (0..6).filter(|writer| replies[*writer].status.is_success()).collect();
        assert_eq!(added.len(), 1, "{target}");
        for other in replies.iter().filter(|reply| !reply.status.is_success()) {
            assert_eq!((other.status.as_u16(), other.code().as_deref()), (400, Some("InvalidWriteOffset")));
        }
        assert_eq!(clients[0].get(&target).ok().await.body.to_vec(), [b'a' + added[0] as u8]);
    }
}

#[tokio::test]
async fn encrypted_objects_grow_under_their_key() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    for first in [5, INLINE_BYTES_MAX + 5] {
        let target = format!("{bucket}/{first}");
        let mut whole = content(first, 1).to_vec();
        s3.put(&target).header("x-amz-server-side-encryption", "AES256").body(whole.clone()).ok().await;
        for number in 0..3 {
            let tail = content(30_000, number);
            let reply = append(&s3, &target, whole.len(), &tail).ok().await;
            assert_eq!(reply.header("x-amz-server-side-encryption"), Some("AES256"));
            whole.extend_from_slice(&tail);
            assert!(s3.get(&target).ok().await.body == whole);
        }
        append(&s3, &target, whole.len(), b"x")
            .header("x-amz-server-side-encryption", "aws:kms")
            .refused(400, "EncryptionTypeMismatch")
            .await;
    }
    let plain = format!("{bucket}/plain");
    s3.put(&plain).body("x").ok().await;
    append(&s3, &plain, 1, b"x")
        .header("x-amz-server-side-encryption", "AES256")
        .refused(400, "EncryptionTypeMismatch")
        .await;
}

#[tokio::test]
async fn what_cannot_be_added_changes_nothing() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/k");
    append(&s3, &target, 1, b"x").refused(400, "InvalidWriteOffset").await;
    assert_absent(&s3, &target).await;
    s3.put(&target)
        .header("x-amz-checksum-sha256", "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=")
        .body("hello")
        .ok()
        .await;
    for offset in [0, 4, 6] {
        append(&s3, &target, offset, b"x").refused(400, "InvalidWriteOffset").await;
    }
    append(&s3, &target, 5, b"").refused(400, "InvalidRequest").await;
    for (name, value) in [
        ("x-amz-meta-new", "1"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-acl", "private"),
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-checksum-crc32", "AAAAAA=="),
    ] {
        append(&s3, &target, 5, b"x").header(name, value).refused(400, "InvalidRequest").await;
    }
    append(&s3, &target, 5, b"x").header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==").refused(400, "BadDigest").await;
    append(&s3, &target, 5, b"x").header("if-match", "\"other\"").refused(412, "PreconditionFailed").await;
    append(&s3, &target, 5, b"x").header("x-amz-write-offset-bytes", "5").send().await;
    assert!(s3.get(&target).ok().await.text().starts_with("hello"));
    let enable = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    s3.put(&format!("{bucket}?versioning")).body(enable).ok().await;
    append(&s3, &target, 5, b"x").refused(400, "InvalidRequest").await;
}

#[tokio::test]
async fn half_a_word_about_encryption_is_refused() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    s3.put(&target).body("x").ok().await;
    for name in [
        "x-amz-server-side-encryption-context",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-server-side-encryption-customer-key",
        "x-amz-server-side-encryption-customer-key-md5",
    ] {
        let reply = append(&s3, &target, 1, b"y").header(name, "e30=").send().await;
        assert_eq!(reply.status, 400, "{name}: {}", reply.text());
    }
    assert_eq!(s3.get(&target).ok().await.text(), "x");
}
