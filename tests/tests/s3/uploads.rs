//! `/upload`: files as a browser or curl sends them, and their download.

use annulus_tests::client::{Call, Reply, S3};
use annulus_tests::cluster::{UPLOAD_TOKEN, shared};
use annulus_tests::wire::Wire;
use aws_sigv4::http_request::SignableBody;
use bytes::Bytes;
use serde_json::Value;

use crate::policies::set_policy;
use crate::{CHUNK_BYTES, content};

const BOUNDARY: &str = "----annulus-test-boundary";

/// A form with these files, as curl makes it of `-F file=@NAME`.
fn form(files: &[(&str, &[u8])]) -> Bytes {
    let mut form = Vec::new();
    for (name, body) in files {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(body);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    form.into()
}

fn post<'a>(client: &'a S3, form: Bytes) -> Call<'a> {
    client.post("/upload").header("content-type", &format!("multipart/form-data; boundary={BOUNDARY}")).body(form)
}

fn with_token(call: Call<'_>) -> Call<'_> {
    call.header("authorization", &format!("Bearer {UPLOAD_TOKEN}"))
}

fn files(reply: &Reply) -> Vec<Value> {
    let answer: Value = serde_json::from_slice(&reply.body).expect("the answer is JSON");
    answer["files"].as_array().expect("it lists the files").clone()
}

fn path_of(file: &Value) -> String {
    let url = file["url"].as_str().expect("a file has a URL");
    url[url.find("/upload").expect("below the route")..].to_owned()
}

#[tokio::test]
async fn files_go_in_and_come_out() {
    let cluster = shared().await;
    let client = cluster.anonymous();
    let bodies = [content(0, 1), content(300, 2), content(CHUNK_BYTES + 9, 3)];
    let names = ["empty.bin", "small ü.txt", "large.bin"];
    let sent: Vec<(&str, &[u8])> = names.iter().zip(&bodies).map(|(name, body)| (*name, &body[..])).collect();
    let stored = files(&with_token(post(&client, form(&sent))).ok().await);
    assert_eq!(stored.len(), 3);
    for ((file, name), body) in stored.iter().zip(names).zip(&bodies) {
        assert_eq!((file["key"].as_str(), file["size"].as_u64()), (Some(name), Some(body.len() as u64)));
        let got = with_token(client.get(&path_of(file))).ok().await;
        assert!(got.body == body, "{name}");
        let by_s3 = cluster.s3(1).get(&path_of(file).replace("/upload/", "/uploads/")).ok().await;
        assert!(by_s3.body == body, "it is an object like any other");
    }
    let range = with_token(client.get(&path_of(&stored[2]))).header("range", "bytes=4194300-4194310").send().await;
    assert!(range.status == 206 && range.body == bodies[2][4_194_300..=4_194_310]);
    let head = with_token(client.head(&path_of(&stored[1]))).ok().await;
    assert_eq!((head.header("content-length"), head.body.len()), (Some("300"), 0));
}

#[tokio::test]
async fn a_name_loses_its_path() {
    let client = shared().await.anonymous();
    for (name, key) in [("/etc/passwd", "passwd"), ("../../up.txt", "up.txt"), ("C:\\dir\\win.txt", "win.txt")] {
        let stored = files(&with_token(post(&client, form(&[(name, b"x")]))).ok().await);
        assert_eq!(stored[0]["key"].as_str(), Some(key), "{name}");
    }
    for name in ["..", "."] {
        let refused = with_token(post(&client, form(&[(name, b"x")]))).send().await;
        assert_eq!(refused.status, 400, "{name:?}: {}", refused.text());
    }
}

#[tokio::test]
async fn credentials_are_needed() {
    let cluster = shared().await;
    let one = form(&[("denied.txt", b"x")]);
    let anonymous = cluster.anonymous();
    assert_eq!(post(&anonymous, one.clone()).send().await.status, 401);
    let wrong = post(&anonymous, one.clone()).header("authorization", "Bearer not-the-token").send().await;
    assert_eq!(wrong.status, 401);
    assert_eq!(anonymous.get("/upload/denied.txt").send().await.status, 401);
    let owner = cluster.s3(0);
    let signed = post(&owner, form(&[("signed.txt", b"x")])).signed_body(SignableBody::UnsignedPayload);
    signed.ok().await;
    // The bucket is the administrator's.
    let other = cluster.alt();
    let denied = post(&other, one).signed_body(SignableBody::UnsignedPayload).send().await;
    assert!([401, 403].contains(&denied.status.as_u16()), "{}", denied.status);
    assert_eq!(with_token(anonymous.get("/upload/denied.txt")).send().await.status, 404);
}

#[tokio::test]
async fn a_bad_form_is_refused() {
    let client = shared().await.anonymous();
    let no_form = with_token(client.post("/upload").header("content-type", "text/plain").body("x")).send().await;
    assert_eq!(no_form.status, 400);
    let no_file = with_token(post(&client, form(&[]))).send().await;
    assert_eq!(no_file.status, 400, "{}", no_file.text());
    let mut cut = form(&[("cut.txt", b"some bytes that are not all there")]).to_vec();
    cut.truncate(cut.len() - 20);
    let refused = with_token(post(&client, cut.into())).send().await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(with_token(client.get("/upload/cut.txt")).send().await.status, 404);
    let deleted = with_token(client.delete("/upload/cut.txt")).send().await;
    assert!(deleted.status.is_client_error(), "{} {}", deleted.status, deleted.text());
}

/// Nothing of a form that has no parts is kept, however much of it comes.
#[tokio::test]
async fn a_part_begins_soon() {
    let cluster = shared().await;
    let client = cluster.anonymous();
    for begin in [String::new(), format!("--{BOUNDARY}\r\nX: ")] {
        let request = with_token(post(&client, Bytes::new())).prepare();
        let mut wire = Wire::open(cluster.addr(0), &request, 1 << 30).await;
        let sent = format!("{begin}{}", "x".repeat(300 << 10));
        wire.send(sent.as_bytes()).await;
        let reply = wire.answer().await.expect("an answer before the rest is sent");
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert!(reply.text().contains("no part of the form begins within 65536 bytes"), "{}", reply.text());
    }
}

/// What a form says beside its files is passed over, however long it is.
#[tokio::test]
async fn long_fields_and_files_follow_each_other() {
    let client = shared().await.anonymous();
    let text =
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\n{}\r\n", "x".repeat(1 << 20));
    let body = content(CHUNK_BYTES + 9, 5);
    let files_of = form(&[("beside-1.bin", &body), ("beside-2.bin", &body)]);
    let whole = [text.as_bytes(), &files_of].concat();
    let stored = files(&with_token(post(&client, whole.into())).ok().await);
    assert_eq!(stored.len(), 2);
    for file in &stored {
        assert!(with_token(client.get(&path_of(file))).ok().await.body == body, "{file}");
    }
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_no_file() {
    let cluster = shared().await;
    let client = cluster.anonymous();
    let whole = form(&[("vanished.bin", &content(CHUNK_BYTES, 4))]);
    let request = with_token(post(&client, Bytes::new())).prepare();
    let mut wire = Wire::open(cluster.addr(0), &request, whole.len()).await;
    wire.send(&whole[..whole.len() - 100]).await;
    wire.vanish();
    for _ in 0..20 {
        assert_eq!(with_token(client.get("/upload/vanished.bin")).send().await.status, 404);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn upload_is_no_bucket() {
    let s3 = shared().await.s3(0);
    let made = s3.put("/upload").send().await;
    assert!(made.status.is_client_error(), "{}", made.status);
}

#[tokio::test]
async fn a_download_goes_on_if_the_file_is_the_same() {
    let client = shared().await.anonymous();
    let stored = files(&with_token(post(&client, form(&[("resumed.txt", b"0123456789")]))).ok().await);
    let etag = format!("\"{}\"", stored[0]["etag"].as_str().expect("a tag").trim_matches('"'));
    for (known, status, text) in [(etag.as_str(), 206, "89"), ("\"0123\"", 200, "0123456789")] {
        let get = with_token(client.get("/upload/resumed.txt")).header("range", "bytes=8-").header("if-range", known);
        let got = get.send().await;
        assert_eq!((got.status.as_u16(), got.text().as_str()), (status, text), "{known}");
    }
}

/// Files are stored as forms say them: what a header asks for beside would be dropped, and would satisfy a bucket's policy.
#[tokio::test]
async fn headers_that_promise_something_are_refused() {
    let cluster = shared().await;
    let client = cluster.anonymous();
    let send = |body: &'static [u8]| with_token(post(&client, form(&[("promised.txt", body)])));
    send(b"first").ok().await;
    for (name, value) in [
        ("if-none-match", "*"),
        ("if-match", "\"0123\""),
        ("content-md5", "N7UdGUp1E+RbVvZSTy1R8g=="),
        ("x-amz-acl", "public-read"),
        ("x-amz-checksum-crc32", "y/Q5Jg=="),
        ("x-amz-expected-bucket-owner", "000000000001"),
        ("x-amz-grant-read", "uri=x"),
        ("x-amz-meta-colour", "blue"),
        ("x-amz-object-lock-legal-hold", "ON"),
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-website-redirect-location", "/x"),
    ] {
        let refused = send(b"second").header(name, value).send().await;
        assert_eq!(refused.status, 501, "{name}: {}", refused.text());
        assert!(refused.text().contains(name), "{}", refused.text());
    }
    let digest = send(b"second").header("x-amz-content-sha256", &"0".repeat(64)).send().await;
    assert_eq!(digest.status, 400, "{}", digest.text());
    let version = with_token(client.get("/upload/promised.txt?versionId=null")).send().await;
    assert_eq!(version.status, 501, "{}", version.text());
    assert_eq!(with_token(client.get("/upload/promised.txt")).ok().await.text(), "first");
}

#[tokio::test]
async fn policies_know_whether_an_upload_is_signed() {
    let cluster = shared().await;
    let (owner, guest) = (cluster.s3(0), cluster.anonymous());
    let one = || form(&[("signed-only.txt", b"x")]);
    with_token(post(&guest, one())).ok().await;
    let statement = serde_json::json!({"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject",
        "Resource": "BUCKET/signed-only*", "Condition": {"StringNotEquals": {"s3:authType": "REST-HEADER"}}});
    set_policy(&owner, "/uploads", statement).await;
    assert_eq!(with_token(post(&guest, one())).send().await.status, 401);
    post(&owner, one()).signed_body(SignableBody::UnsignedPayload).ok().await;
    owner.delete("/uploads?policy").ok().await;
}
