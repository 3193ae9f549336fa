//! Multipart uploads: parts that become one object when the client says so, and nothing before.

use annulus_tests::client::{Reply, S3};
use annulus_tests::cluster::shared;
use bytes::Bytes;
use md5::{Digest, Md5};
use serde_json::json;

use crate::policies::{id_of, set_policy};
use crate::{CHUNK_BYTES, PART_BYTES_MIN, assert_absent, content, new_bucket};

/// An upload that has begun.
struct Upload<'a> {
    s3: &'a S3,
    target: String,
    id: String,
}

impl<'a> Upload<'a> {
    async fn begin(s3: &'a S3, target: &str) -> Self {
        let begun = s3.post(&format!("{target}?uploads")).ok().await;
        let id = begun.element("UploadId").expect("an upload has an id");
        Self { s3, target: target.to_owned(), id }
    }

    fn query(&self) -> String {
        format!("{}?uploadId={}", self.target, self.id)
    }

    fn part_query(&self, number: u32) -> String {
        format!("{}?partNumber={number}&uploadId={}", self.target, self.id)
    }

    async fn put(&self, number: u32, body: Bytes) -> (u32, String) {
        let put = self.s3.put(&self.part_query(number)).body(body).ok().await;
        (number, put.header("etag").expect("a part has a tag").to_owned())
    }

    async fn complete(&self, parts: &[(u32, String)]) -> Reply {
        self.s3.post(&self.query()).body(manifest(parts)).send().await
    }

    async fn abort(&self) {
        self.s3.delete(&self.query()).ok().await;
    }
}

fn manifest(parts: &[(u32, String)]) -> String {
    let parts: String = parts
        .iter()
        .map(|(number, tag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"))
        .collect();
    format!(
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{parts}</CompleteMultipartUpload>"
    )
}

fn assert_refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (status, Some(code)), "{}", reply.text());
}

#[tokio::test]
async fn parts_in_any_order_become_one_object() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let target = format!("{}/k", new_bucket(&here).await);
    let bodies = [content(PART_BYTES_MIN, 1), content(PART_BYTES_MIN + 123, 2), content(77, 3)];
    let upload = Upload::begin(&here, &target).await;
    let third = upload.put(9, bodies[2].clone()).await;
    let first = upload.put(2, bodies[0].clone()).await;
    let second = upload.put(5, bodies[1].clone()).await;
    assert_absent(&here, &target).await;
    let completed = upload.complete(&[first, second, third]).await;
    assert_eq!(completed.status, 200, "{}", completed.text());
    let digests: Vec<u8> = bodies.iter().flat_map(Md5::digest).collect();
    let tag = format!("{}-3", hex::encode(Md5::digest(digests)));
    assert_eq!(completed.element("ETag").map(|tag| tag.trim_matches('"').to_owned()), Some(tag.clone()));
    let got = there.get(&target).ok().await;
    assert!(got.body == bodies.concat(), "the parts by their numbers");
    assert_eq!(got.header("etag"), Some(format!("\"{tag}\"").as_str()));
    let across = format!("bytes={}-{}", PART_BYTES_MIN - 10, PART_BYTES_MIN + 9);
    let range = there.get(&target).header("range", &across).send().await;
    assert!(range.status == 206 && range.body == bodies.concat()[PART_BYTES_MIN - 10..PART_BYTES_MIN + 10]);
    for (number, body) in bodies.iter().enumerate() {
        let part = there.get(&format!("{target}?partNumber={}", number + 1)).send().await;
        assert!(part.status == 206 && part.body == *body, "part {}", number + 1);
        assert_eq!(part.header("x-amz-mp-parts-count"), Some("3"));
    }
    here.get(&upload.query()).refused(404, "NoSuchUpload").await;
}

#[tokio::test]
async fn a_part_may_be_put_again_and_the_last_one_counts() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let upload = Upload::begin(&s3, &target).await;
    let old = upload.put(1, content(CHUNK_BYTES + 9, 1)).await;
    let new = upload.put(1, content(100, 2)).await;
    assert_refused(&upload.complete(&[old]).await, 400, "InvalidPart");
    assert_eq!(upload.complete(&[new]).await.status, 200);
    assert!(s3.get(&target).ok().await.body == content(100, 2));
}

#[tokio::test]
async fn a_manifest_must_name_what_was_uploaded() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let upload = Upload::begin(&s3, &target).await;
    let small = upload.put(1, content(100, 1)).await;
    let last = upload.put(2, content(100, 2)).await;
    let wrong = (1, "\"0123456789abcdef0123456789abcdef\"".to_owned());
    let missing = (3, last.1.clone());
    assert_refused(&upload.complete(&[small.clone(), last.clone()]).await, 400, "EntityTooSmall");
    assert_refused(&upload.complete(&[last.clone(), small.clone()]).await, 400, "InvalidPartOrder");
    assert_refused(&upload.complete(&[wrong]).await, 400, "InvalidPart");
    assert_refused(&upload.complete(&[missing]).await, 400, "InvalidPart");
    assert_refused(&upload.complete(&[]).await, 400, "MalformedXML");
    for nonsense in ["", "no xml", "<CompleteMultipartUpload>", "<Other/>"] {
        s3.post(&upload.query()).body(nonsense).refused(400, "MalformedXML").await;
    }
    assert_absent(&s3, &target).await;
    // None of that has harmed the upload, and a part that is left out is no part of the object.
    assert_eq!(upload.complete(&[last]).await.status, 200);
    assert!(s3.get(&target).ok().await.body == content(100, 2));
}

#[tokio::test]
async fn completing_twice_answers_twice_the_same() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let target = format!("{}/k", new_bucket(&here).await);
    let upload = Upload::begin(&here, &target).await;
    let part = upload.put(1, content(50_000, 1)).await;
    let first = upload.complete(std::slice::from_ref(&part)).await;
    assert_eq!(first.status, 200, "{}", first.text());
    // As a client does that did not hear the first answer.
    let again = there.post(&upload.query()).body(manifest(&[part])).send().await;
    assert_eq!((again.status, again.element("ETag")), (first.status, first.element("ETag")), "{}", again.text());
}

#[tokio::test]
async fn who_may_put_may_complete_twice_and_learns_nothing_of_what_others_uploaded() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    let put = json!({"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{}:root", id_of(&other).await)},
        "Action": "s3:PutObject", "Resource": "BUCKET/*"});
    set_policy(&owner, &bucket, put).await;
    let theirs = Upload::begin(&other, &format!("{bucket}/theirs")).await;
    let parts = [theirs.put(1, content(50_000, 1)).await];
    let first = theirs.complete(&parts).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let again = theirs.complete(&parts).await;
    assert_eq!((again.status, again.element("ETag")), (first.status, first.element("ETag")), "{}", again.text());
    owner.put(&theirs.target).body("newer").ok().await;
    assert_refused(&theirs.complete(&parts).await, 404, "NoSuchUpload");

    let mine = Upload::begin(&owner, &format!("{bucket}/mine")).await;
    let parts = [mine.put(1, content(50_000, 2)).await];
    let as_other = || other.post(&mine.query()).body(manifest(&[(1, crate::etag(b"a guess"))]));
    assert_refused(&as_other().send().await, 403, "AccessDenied");
    assert_eq!(mine.complete(&parts).await.status, 200);
    assert_refused(&as_other().send().await, 404, "NoSuchUpload");
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/k");
    let upload = Upload::begin(&s3, &target).await;
    let part = upload.put(1, content(50_000, 1)).await;
    upload.abort().await;
    s3.put(&upload.part_query(2)).body("late").refused(404, "NoSuchUpload").await;
    assert_refused(&upload.complete(&[part]).await, 404, "NoSuchUpload");
    s3.get(&upload.query()).refused(404, "NoSuchUpload").await;
    assert_absent(&s3, &target).await;
    assert!(s3.get(&format!("{bucket}?uploads")).ok().await.elements("UploadId").is_empty());
    s3.delete(&bucket).ok().await;
}

#[tokio::test]
async fn an_upload_is_of_one_key_and_one_form() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let upload = Upload::begin(&s3, &format!("{bucket}/k")).await;
    let id = &upload.id;
    s3.put(&format!("{bucket}/other?partNumber=1&uploadId={id}")).body("x").refused(404, "NoSuchUpload").await;
    for id in ["nonsense", "0123456789abcdef0123456789abcdef"] {
        s3.put(&format!("{bucket}/k?partNumber=1&uploadId={id}")).body("x").refused(404, "NoSuchUpload").await;
    }
    for number in ["0", "10001", "-1"] {
        let target = format!("{bucket}/k?partNumber={number}&uploadId={id}");
        s3.put(&target).body("x").refused(400, "InvalidArgument").await;
    }
    s3.put(&format!("{bucket}/k?partNumber=10000&uploadId={id}")).body("x").ok().await;
}

#[tokio::test]
async fn parts_are_listed_page_by_page() {
    let s3 = shared().await.s3(0);
    let upload = Upload::begin(&s3, &format!("{}/k", new_bucket(&s3).await)).await;
    let numbers = [1, 2, 3, 10, 100, 9_999];
    for number in numbers {
        upload.put(number, content(number as usize, 1)).await;
    }
    for page_size in 1..=numbers.len() + 1 {
        let (mut seen, mut marker) = (Vec::new(), String::from("0"));
        loop {
            let page = format!("{}&max-parts={page_size}&part-number-marker={marker}", upload.query());
            let page = s3.get(&page).ok().await;
            let found = page.elements("PartNumber");
            assert!(found.len() <= page_size);
            let sizes = page.elements("Size");
            assert_eq!(found, sizes, "the size of each part was its number");
            seen.extend(found);
            if page.element("IsTruncated").as_deref() == Some("false") {
                break;
            }
            marker = page.element("NextPartNumberMarker").expect("a page that is not the last says where it ends");
        }
        assert_eq!(seen, numbers.map(|number| number.to_string()), "{page_size} a page");
    }
}

#[tokio::test]
async fn uploads_are_listed_page_by_page() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let mut begun = Vec::new();
    for key in ["a", "a", "b/1", "b/2", "c", "ü"] {
        let upload = Upload::begin(&s3, &format!("{bucket}/{}", annulus_tests::client::encode(key))).await;
        begun.push((key.to_owned(), upload.id));
    }
    begun.sort();
    for page_size in 1..=7 {
        let (mut seen, mut markers) = (Vec::new(), String::new());
        loop {
            let page = s3.get(&format!("{bucket}?uploads&max-uploads={page_size}{markers}")).ok().await;
            seen.extend(page.elements("Key").into_iter().zip(page.elements("UploadId")));
            if page.element("IsTruncated").as_deref() == Some("false") {
                break;
            }
            let marker = |name: &str| annulus_tests::client::encode(page.element(name).expect("where the page ends"));
            markers =
                format!("&key-marker={}&upload-id-marker={}", marker("NextKeyMarker"), marker("NextUploadIdMarker"));
        }
        seen.sort();
        assert_eq!(seen, begun, "{page_size} a page");
    }
    let grouped = s3.get(&format!("{bucket}?uploads&delimiter=%2F")).ok().await;
    assert_eq!(grouped.elements("Key"), ["a", "a", "c", "ü"]);
    assert!(grouped.text().contains("<Prefix>b/</Prefix>"), "{}", grouped.text());
    let within = s3.get(&format!("{bucket}?uploads&prefix=b%2F")).ok().await;
    assert_eq!(within.elements("Key"), ["b/1", "b/2"]);
}

#[tokio::test]
async fn parts_are_copied_from_objects() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let (source, body) = (format!("{bucket}/source"), content(CHUNK_BYTES + 1_000, 5));
    s3.put(&source).body(body.clone()).ok().await;
    let upload = Upload::begin(&s3, &format!("{bucket}/k")).await;
    let copy = |number: u32| s3.put(&upload.part_query(number)).header("x-amz-copy-source", &source);
    let tag = |reply: Reply| reply.element("ETag").expect("a copied part has a tag");
    let within = copy(1).header("x-amz-copy-source-range", "bytes=100-4194399").ok().await;
    copy(2).header("x-amz-copy-source-range", "bytes=0-99999999").refused(416, "InvalidRange").await;
    copy(2).header("x-amz-copy-source-range", "bytes=5-").refused(400, "InvalidArgument").await;
    assert_refused(&upload.complete(&[(1, "\"wrong\"".to_owned())]).await, 400, "InvalidPart");
    assert_eq!(upload.complete(&[(1, tag(within))]).await.status, 200);
    assert!(s3.get(&format!("{bucket}/k")).ok().await.body == body[100..4_194_400]);
    let whole = Upload::begin(&s3, &format!("{bucket}/whole")).await;
    let copied = s3.put(&whole.part_query(1)).header("x-amz-copy-source", &source).ok().await;
    assert_eq!(whole.complete(&[(1, tag(copied))]).await.status, 200);
    assert!(s3.get(&format!("{bucket}/whole")).ok().await.body == body);
}

#[tokio::test]
async fn what_was_said_at_the_beginning_holds_for_the_object() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let begun =
        s3.post(&format!("{target}?uploads")).header("content-type", "text/x").header("x-amz-meta-a", "b").ok().await;
    let upload =
        Upload { s3: &s3, target: target.clone(), id: begun.element("UploadId").expect("an upload has an id") };
    let part = upload.put(1, content(10, 1)).await;
    upload.complete(&[part]).await;
    let got = s3.head(&target).ok().await;
    assert_eq!((got.header("content-type"), got.header("x-amz-meta-a")), (Some("text/x"), Some("b")));
}

#[tokio::test]
async fn a_wrong_checksum_refuses_the_part() {
    let s3 = shared().await.s3(0);
    let upload = Upload::begin(&s3, &format!("{}/k", new_bucket(&s3).await)).await;
    let put = |header: &'static str, value: &str| s3.put(&upload.part_query(1)).header(header, value).body("12345678");
    put("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==").refused(400, "BadDigest").await;
    put("x-amz-checksum-crc32", "y/Q5Jg==").refused(400, "BadDigest").await;
    assert!(s3.get(&upload.query()).ok().await.elements("PartNumber").is_empty());
}

#[tokio::test]
async fn a_last_part_of_nothing_is_no_range() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let upload = Upload::begin(&s3, &target).await;
    let parts = [upload.put(1, content(PART_BYTES_MIN, 1)).await, upload.put(2, Bytes::new()).await];
    assert_eq!(upload.complete(&parts).await.status, 200);
    for (number, status, range) in
        [(1, 206, Some(format!("bytes 0-{0}/{1}", PART_BYTES_MIN - 1, PART_BYTES_MIN))), (2, 200, None)]
    {
        for call in
            [s3.get(&format!("{target}?partNumber={number}")), s3.head(&format!("{target}?partNumber={number}"))]
        {
            let got = call.send().await;
            assert_eq!((got.status.as_u16(), got.header("content-range")), (status, range.as_deref()), "part {number}");
            assert_eq!(got.header("x-amz-mp-parts-count"), Some("2"));
        }
    }
}

#[tokio::test]
async fn a_completion_is_of_the_object_that_it_made() {
    let cluster = shared().await;
    let s3 = [cluster.s3(0), cluster.s3(1)];
    let bucket = new_bucket(&s3[0]).await;
    for number in 0..8 {
        let target = format!("{bucket}/{number}");
        let upload = Upload::begin(&s3[0], &target).await;
        let there = Upload { s3: &s3[1], target: target.clone(), id: upload.id.clone() };
        let parts = [upload.put(1, content(PART_BYTES_MIN, 1)).await, upload.put(2, content(9, 2)).await];
        let (all, first) = tokio::join!(upload.complete(&parts), there.complete(&parts[..1]));
        let statuses = [all.status.as_u16(), first.status.as_u16()];
        assert!([[200, 404], [404, 200]].contains(&statuses), "{statuses:?}: {} {}", all.text(), first.text());
        let size = s3[0].get(&target).ok().await.body.len();
        assert_eq!(size, if statuses[0] == 200 { PART_BYTES_MIN + 9 } else { PART_BYTES_MIN });
    }
}

#[tokio::test]
async fn what_is_said_of_an_object_again_must_be_true_of_it() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let upload = Upload::begin(&s3, &target).await;
    let parts = [upload.put(1, content(100, 1)).await];
    let complete = |size: &str| s3.post(&upload.query()).body(manifest(&parts)).header("x-amz-mp-object-size", size);
    complete("99").refused(400, "InvalidRequest").await;
    complete("100").ok().await;
    complete("100").ok().await;
    complete("99").refused(400, "InvalidRequest").await;
    let composite =
        s3.post(&upload.query()).body(manifest(&parts)).header("x-amz-checksum-crc64nvme", "rosUhgp5mIg=-1");
    composite.refused(400, "BadDigest").await;
}
