//! Uploads from browser forms: who may send them, what their policies allow, and what they are answered.

use std::time::{Duration, SystemTime};

use annulus_tests::client::{Reply, S3};
use annulus_tests::cluster::shared;
use annulus_tests::wire::Wire;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::iam::number_of;
use crate::{CHUNK_BYTES, assert_absent, content, etag, new_bucket};

const BOUNDARY: &str = "----boundary7MA4YWxk";

/// A form, field by field.
#[derive(Clone, Default)]
struct Form {
    fields: Vec<(String, String)>,
}

impl Form {
    fn new() -> Self {
        Self::default()
    }

    fn field(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// Signed as many generators of forms still do it.
    async fn signed_v2(self, policy: &str) -> Self {
        let key = &shared().await.root;
        let policy = BASE64.encode(policy);
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(key.secret_key.as_bytes()).expect("any length will do");
        mac.update(policy.as_bytes());
        let signature = BASE64.encode(mac.finalize().into_bytes());
        self.field("AWSAccessKeyId", &key.access_key).field("signature", signature).field("policy", policy)
    }

    /// Signed with version 4; the policy must allow the fields that this needs.
    async fn signed_v4(self, conditions: &str) -> Self {
        let key = &shared().await.root;
        let now = SystemTime::now();
        let at = |format| OffsetDateTime::from(now).format(format).expect("a time has a date");
        let date = at(format_description!("[year][month][day]T[hour][minute][second]Z"));
        let credential = format!("{}/{}/us-east-1/s3/aws4_request", key.access_key, &date[..8]);
        let conditions = format!(
            "{conditions}, {{\"x-amz-algorithm\": \"AWS4-HMAC-SHA256\"}}, {{\"x-amz-credential\": \"{credential}\"}}, {{\"x-amz-date\": \"{date}\"}}"
        );
        let policy = BASE64.encode(policy(&conditions));
        let signing_key = generate_signing_key(&key.secret_key, now, "us-east-1", "s3");
        let signature = calculate_signature(signing_key, policy.as_bytes());
        self.field("x-amz-algorithm", "AWS4-HMAC-SHA256")
            .field("X-Amz-Credential", credential)
            .field("X-Amz-Date", date)
            .field("policy", policy)
            .field("x-amz-signature", signature)
    }

    fn with_file(&self, name: &str, file: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in &self.fields {
            let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(value.as_bytes());
            body.extend_from_slice(b"\r\n");
        }
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: text/x-part\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n");
        // Browsers send the button after the file; what comes there is ignored.
        let button = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nUpload\r\n--{BOUNDARY}--\r\n"
        );
        body.extend_from_slice(button.as_bytes());
        body
    }

    async fn send(&self, bucket: &str, file: &[u8]) -> Reply {
        post(bucket, self.with_file("file.txt", file)).await
    }

    async fn refused(&self, bucket: &str, status: u16, code: &str) -> Reply {
        let reply = self.send(bucket, b"hello").await;
        assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (status, Some(code)), "{}", reply.text());
        reply
    }
}

async fn post(bucket: &str, body: Vec<u8>) -> Reply {
    post_with(bucket, body, &[]).await
}

async fn post_with(bucket: &str, body: Vec<u8>, headers: &[(&'static str, &str)]) -> Reply {
    let anonymous = shared().await.anonymous();
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    let call = anonymous.post(bucket).header("content-type", &content_type).body(body);
    headers.iter().fold(call, |call, (name, value)| call.header(name, value)).send().await
}

/// A policy that holds for an hour.
fn policy(conditions: &str) -> String {
    expiring(conditions, SystemTime::now() + Duration::from_secs(3600))
}

fn expiring(conditions: &str, at: SystemTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].000Z");
    let at = OffsetDateTime::from(at).format(format).expect("a time has a date");
    format!("{{\"expiration\": \"{at}\", \"conditions\": [{conditions}]}}")
}

/// What a policy says at the least: this bucket, and keys that begin so.
fn basic(bucket: &str) -> String {
    format!("{{\"bucket\": \"{}\"}}, [\"starts-with\", \"$key\", \"user/\"]", bucket.trim_start_matches('/'))
}

async fn open_bucket(s3: &S3) -> String {
    let bucket = new_bucket(s3).await;
    s3.put(&format!("{bucket}?acl")).header("x-amz-acl", "public-read-write").ok().await;
    bucket
}

#[tokio::test]
async fn anyone_may_send_a_form_where_anyone_may_write() {
    let s3 = shared().await.s3(0);
    let open = open_bucket(&s3).await;
    let form =
        Form::new().field("key", "a b/${filename}").field("Content-Type", "text/plain").field("acl", "public-read");
    let reply = form.send(&open, b"hello").await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    assert_eq!(reply.header("etag"), Some(etag(b"hello").as_str()));
    assert!(reply.header("location").is_some_and(|location| location.ends_with(&format!("{open}/a%20b/file.txt"))));
    let stored = s3.get(&format!("{open}/a%20b/file.txt")).ok().await;
    assert_eq!((stored.text().as_str(), stored.header("content-type")), ("hello", Some("text/plain")));

    let private = new_bucket(&s3).await;
    form.refused(&private, 403, "AccessDenied").await;
    form.refused("/no-such-bucket-at-all", 404, "NoSuchBucket").await;
}

#[tokio::test]
async fn both_kinds_of_signature_hold() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let v2 = Form::new().field("key", "user/v2").signed_v2(&policy(&basic(&bucket))).await;
    assert_eq!(v2.send(&bucket, b"two").await.status, 204);
    let v4 = Form::new().field("key", "user/v4").signed_v4(&basic(&bucket)).await;
    let reply = v4.send(&bucket, b"four").await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    assert_eq!(s3.get(&format!("{bucket}/user/v2")).ok().await.text(), "two");
    assert_eq!(s3.get(&format!("{bucket}/user/v4")).ok().await.text(), "four");
    // What is stored belongs to who signed, and nobody else.
    assert_eq!(shared().await.anonymous().get(&format!("{bucket}/user/v2")).send().await.status, 403);
}

#[tokio::test]
async fn a_signature_that_does_not_hold_is_refused() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let signed = Form::new().field("key", "user/a").signed_v2(&policy(&basic(&bucket))).await;
    let with = |name: &str, value: Option<&str>| {
        let mut fields = signed.fields.clone();
        fields.retain(|(field, _)| value.is_some() || field != name);
        for (field, text) in &mut fields {
            if let Some(value) = value.filter(|_| field == name) {
                *text = value.to_owned();
            }
        }
        Form { fields }
    };
    with("signature", Some("AAAA")).refused(&bucket, 403, "SignatureDoesNotMatch").await;
    with("AWSAccessKeyId", Some("NOBODY")).refused(&bucket, 403, "InvalidAccessKeyId").await;
    let other = BASE64.encode(policy(""));
    with("policy", Some(&other)).refused(&bucket, 403, "SignatureDoesNotMatch").await;
    for (missing, name) in [("signature", "signature"), ("AWSAccessKeyId", "AWSAccessKeyId"), ("policy", "policy")] {
        let reply = with(missing, None).refused(&bucket, 400, "InvalidArgument").await;
        assert_eq!(reply.element("ArgumentName").as_deref(), Some(name));
    }
    assert_absent(&s3, &format!("{bucket}/user/a")).await;
}

#[tokio::test]
async fn a_policy_is_kept_to_the_letter() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let form = || Form::new().field("key", "user/a");
    let denied = [
        form().field("acl", "public-read").signed_v2(&policy(&basic(&bucket))).await,
        Form::new().field("key", "other/a").signed_v2(&policy(&basic(&bucket))).await,
        form().signed_v2(&policy("[\"starts-with\", \"$key\", \"user/\"]")).await,
        form().signed_v2(&policy("{\"bucket\": \"another\"}, [\"starts-with\", \"$key\", \"user/\"]")).await,
        form().signed_v2(&policy(&format!("{}, [\"starts-with\", \"$x-amz-meta-a\", \"\"]", basic(&bucket)))).await,
        form().signed_v2(&expiring(&basic(&bucket), SystemTime::now() - Duration::from_secs(10))).await,
    ];
    for form in denied {
        let reply = form.refused(&bucket, 403, "AccessDenied").await;
        assert!(reply.element("Message").is_some_and(|message| message.starts_with("Invalid according to Policy: ")));
    }
    let other = Form::new().field("key", "other/a").signed_v2(&policy(&basic(&bucket))).await;
    let told = other.refused(&bucket, 403, "AccessDenied").await.text();
    assert!(
        told.contains("Policy Condition failed: [\"starts-with\", \"$key\", \"user/\"]<"),
        "as it is written: {told}"
    );
    for bad in [
        "{}",
        "{\"expiration\": \"never\", \"conditions\": []}",
        &policy("{}"),
        &policy("[\"content-length-range\", 1]"),
    ] {
        form().signed_v2(bad).await.refused(&bucket, 400, "InvalidPolicyDocument").await;
    }
    assert_absent(&s3, &format!("{bucket}/user/a")).await;
}

#[tokio::test]
async fn a_file_has_the_length_that_its_policy_allows() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let range = format!("{}, [\"content-length-range\", 3, {}]", basic(&bucket), CHUNK_BYTES + 100);
    let form = Form::new().field("key", "user/a").signed_v2(&policy(&range)).await;
    for (bytes, code) in [(2, "EntityTooSmall"), (CHUNK_BYTES + 101, "EntityTooLarge")] {
        let reply = form.send(&bucket, &content(bytes, 1)).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (400, Some(code)), "{bytes} bytes");
        assert_absent(&s3, &format!("{bucket}/user/a")).await;
    }
    for bytes in [3, CHUNK_BYTES + 100] {
        let file = content(bytes, 2);
        assert_eq!(form.send(&bucket, &file).await.status, 204, "{bytes} bytes");
        assert_eq!(s3.get(&format!("{bucket}/user/a")).ok().await.body, file);
    }
}

#[tokio::test]
async fn fields_are_what_headers_are_to_a_put() {
    let s3 = shared().await.s3(0);
    let bucket = open_bucket(&s3).await;
    let form = Form::new()
        .field("KEY", "a")
        .field("acl", "public-read")
        .field("Cache-Control", "no-cache")
        .field("Content-Disposition", "attachment")
        .field("Content-Encoding", "gzip")
        .field("Expires", "Thu, 01 Dec 1994 16:00:00 GMT")
        .field("x-amz-meta-Colour", "green")
        .field("x-amz-storage-class", "STANDARD_IA")
        .field("tagging", "<Tagging><TagSet><Tag><Key>a b</Key><Value>1</Value></Tag></TagSet></Tagging>")
        .field("x-amz-checksum-crc32", "NhCmhg==")
        .field("x-ignore-this", "1")
        .field("page-id", "7");
    let reply = form.send(&bucket, b"hello").await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    assert_eq!(reply.header("x-amz-checksum-crc32"), Some("NhCmhg=="));
    let stored = s3.head(&format!("{bucket}/a")).ok().await;
    for (name, value) in [
        ("cache-control", "no-cache"),
        ("content-disposition", "attachment"),
        ("content-encoding", "gzip"),
        ("content-type", "binary/octet-stream"),
        ("expires", "Thu, 01 Dec 1994 16:00:00 GMT"),
        ("x-amz-meta-colour", "green"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-tagging-count", "1"),
    ] {
        assert_eq!(stored.header(name), Some(value), "{name}");
    }
    let key = Form::new().field("key", "b");
    key.clone().field("x-amz-checksum-crc32", "AAAAAA==").refused(&bucket, 400, "BadDigest").await;
    key.clone().field("x-amz-copy-source", format!("{bucket}/a")).refused(&bucket, 501, "NotImplemented").await;
    key.clone().field("tagging", "a=b").refused(&bucket, 400, "MalformedXML").await;
    key.clone().field("acl", "everyone").refused(&bucket, 400, "InvalidArgument").await;
    key.clone().field("x-amz-storage-class", "COLD").refused(&bucket, 400, "InvalidStorageClass").await;
    assert_absent(&s3, &format!("{bucket}/b")).await;
}

#[tokio::test]
async fn the_answer_is_the_one_asked_for() {
    let s3 = shared().await.s3(0);
    let bucket = open_bucket(&s3).await;
    let form = Form::new().field("key", "a&b");
    let created = form.clone().field("success_action_status", "201").send(&bucket, b"hello").await;
    assert_eq!(created.status, 201);
    assert_eq!(created.element("Bucket").as_deref(), Some(bucket.trim_start_matches('/')));
    assert_eq!(created.element("Key").as_deref(), Some("a&b"));
    assert_eq!(created.element("ETag"), Some(etag(b"hello")));
    assert!(created.element("Location").is_some_and(|location| location.ends_with(&format!("{bucket}/a%26b"))));
    let empty = form.clone().field("success_action_status", "200").send(&bucket, b"hello").await;
    assert_eq!((empty.status.as_u16(), empty.body.len()), (200, 0));
    let other = form.clone().field("success_action_status", "404").send(&bucket, b"hello").await;
    assert_eq!((other.status.as_u16(), other.body.len()), (204, 0));
    let redirect =
        form.clone().field("success_action_redirect", "http://example.org/done?x=1").send(&bucket, b"hello").await;
    let tag = hex::encode(<md5::Md5 as md5::Digest>::digest(b"hello"));
    let name = bucket.trim_start_matches('/');
    let location = format!("http://example.org/done?x=1&bucket={name}&key=a%26b&etag=%22{tag}%22");
    assert_eq!((redirect.status.as_u16(), redirect.header("location")), (303, Some(location.as_str())));
}

#[tokio::test]
async fn what_is_no_form_is_refused() {
    let s3 = shared().await.s3(0);
    let bucket = open_bucket(&s3).await;
    let refused = |reply: Reply, code: &str| {
        assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (400, Some(code)), "{}", reply.text())
    };
    refused(post(&bucket, Vec::new()).await, "MalformedPOSTRequest");
    refused(post(&bucket, b"hello".to_vec()).await, "MalformedPOSTRequest");
    refused(post(&bucket, format!("--{BOUNDARY}--\r\n").into_bytes()).await, "InvalidArgument");
    Form::new().refused(&bucket, 400, "InvalidArgument").await;
    Form::new().field("key", "").refused(&bucket, 400, "InvalidArgument").await;
    Form::new().field("key", "a").field("Key", "b").refused(&bucket, 400, "MalformedPOSTRequest").await;
    Form::new().field("key", "a").field("", "b").refused(&bucket, 400, "MalformedPOSTRequest").await;
    // The fields come before the file.
    let late = Form::new().with_file("a", b"hello");
    refused(post(&bucket, late).await, "InvalidArgument");
    // A file that breaks off is no file.
    let whole = Form::new().field("key", "a").with_file("a", b"hello");
    let within = whole.windows(5).position(|bytes| bytes == b"hello").expect("the file is in the form") + 3;
    refused(post(&bucket, whole[..within].to_vec()).await, "IncompleteBody");
    let plain = shared().await.anonymous().post(&bucket).body("x").send().await;
    assert_eq!((plain.status.as_u16(), plain.code().as_deref()), (412, Some("PreconditionFailed")));
    let form = Form::new().field("key", "a");
    assert_eq!(post(&format!("{bucket}/a"), form.with_file("a", b"x")).await.status, 405);
    assert_absent(&s3, &format!("{bucket}/a")).await;
}

#[tokio::test]
async fn fields_are_bounded() {
    let s3 = shared().await.s3(0);
    let bucket = open_bucket(&s3).await;
    let code = "MaxPostPreDataLengthExceededError";
    Form::new().field("key", "a").field("x-amz-meta-a", "x".repeat(21 << 10)).refused(&bucket, 400, code).await;
    let many = (0..600).fold(Form::new().field("key", "a"), |form, number| form.field(&format!("f{number}"), "1"));
    many.refused(&bucket, 400, code).await;
    // A part's head that never ends is not waited for.
    let endless = [format!("--{BOUNDARY}\r\nContent-Disposition: ").into_bytes(), vec![b'x'; 300 << 10]].concat();
    let reply = post(&bucket, endless).await;
    assert_eq!(reply.code().as_deref(), Some(code));
}

/// Nobody has been asked who they are when the file's name is put where the fields say it.
#[tokio::test]
async fn the_name_of_the_file_makes_no_field_huge() {
    let s3 = shared().await.s3(0);
    let bucket = open_bucket(&s3).await;
    let refused = |reply: &Reply, code: &str| {
        assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (400, Some(code)), "{}", reply.text());
        assert!(reply.body.len() < 16 << 10, "{} bytes", reply.body.len());
    };
    let many = Form::new().field("key", "${filename}".repeat(900));
    refused(&post(&bucket, many.with_file(&"&".repeat(10 << 10), b"x")).await, "MaxPostPreDataLengthExceededError");
    let one = Form::new().field("key", "${filename}");
    let long = post(&bucket, one.with_file(&"&".repeat(1_025), b"x")).await;
    refused(&long, "KeyTooLongError");
    let details = (long.element("Size"), long.element("MaxSizeAllowed"));
    assert_eq!(details, (Some("1025".to_owned()), Some("1024".to_owned())));
    let metadata = Form::new().field("key", "k").field("x-amz-meta-a", format!("\n{}", "&".repeat(15 << 10)));
    refused(&post(&bucket, metadata.with_file("f", b"x")).await, "InvalidArgument");
    // A name that is not the key's may be longer, and one that is as long as a key.
    assert_eq!(post(&bucket, Form::new().field("key", "k").with_file(&"n".repeat(3 << 10), b"x")).await.status, 204);
    assert_eq!(post(&bucket, one.with_file(&"n".repeat(1_024), b"x")).await.status, 204);
}

#[tokio::test]
async fn a_large_file_is_stored_as_it_arrives() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let form = Form::new().field("key", "user/large").signed_v4(&basic(&bucket)).await;
    let file = content(3 * CHUNK_BYTES + 17, 3);
    let whole = form.with_file("large", &file);
    // Half of it: the gateway has written chunks and named nothing.
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    let request =
        shared().await.anonymous().post(&bucket).header("content-type", &content_type).body(whole.clone()).prepare();
    let mut wire = Wire::open(shared().await.addr(0), &request, whole.len()).await;
    wire.send(&whole[..whole.len() / 2]).await;
    wire.vanish();
    assert_absent(&s3, &format!("{bucket}/user/large")).await;
    assert_eq!(post(&bucket, whole).await.status, 204);
    assert_eq!(s3.get(&format!("{bucket}/user/large")).ok().await.body, file);
}

#[tokio::test]
async fn the_bucket_of_a_form_is_a_bucket() {
    let s3 = shared().await.s3(0);
    let (bucket, other) = (open_bucket(&s3).await, open_bucket(&s3).await);
    let name = &other[1..];
    let form = Form::new().field("key", "user/k");
    for path in
        [format!("{bucket}%2F{name}%3F"), format!("{bucket}%3Facl&"), format!("{bucket}%23"), "/%2E%2E".to_owned()]
    {
        let reply = form.send(&path, b"hello").await;
        assert!(reply.status.is_client_error(), "{path}: {} {}", reply.status, reply.text());
        assert_ne!(reply.code().as_deref(), Some("MalformedXML"), "{path} is no other operation: {}", reply.text());
    }
    form.refused(&format!("{bucket}%3Facl&"), 400, "InvalidBucketName").await;
    for bucket in [bucket, other] {
        assert!(s3.get(&bucket).ok().await.elements("Key").is_empty());
    }
}

/// What a form asks for stands in its fields; whose bucket it means may stand in its head, as in any request's.
#[tokio::test]
async fn headers_of_the_form_itself_are_obeyed_or_refused() {
    let s3 = shared().await.s3(0);
    let bucket = open_bucket(&s3).await;
    let owner = number_of(&s3).await;
    let body = |form: Form| form.field("key", "user/headed").with_file("file.txt", b"hello");
    for (name, value) in [
        ("if-none-match", "*"),
        ("x-amz-acl", "private"),
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        ("x-amz-server-side-encryption", "AES256"),
        ("content-md5", "N7UdGUp1E+RbVvZSTy1R8g=="),
    ] {
        let refused = post_with(&bucket, body(Form::new()), &[(name, value)]).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_deref()), (501, Some("NotImplemented")), "{name}");
        assert_eq!(refused.element("Header").as_deref(), Some(name));
    }
    let (field, other) = ("x-amz-expected-bucket-owner", "000000000001");
    for form in [Form::new(), Form::new().field(field, &owner)] {
        let refused = post_with(&bucket, body(form), &[(field, other)]).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_deref()), (403, Some("AccessDenied")));
    }
    assert_absent(&s3, &format!("{bucket}/user/headed")).await;
    for form in [Form::new(), Form::new().field(field, &owner)] {
        let put = post_with(&bucket, body(form), &[(field, &owner)]).await;
        assert_eq!(put.status, 204, "{}", put.text());
    }
}
