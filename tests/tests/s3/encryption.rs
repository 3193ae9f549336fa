//! Server-side encryption: with the client's key, the cluster's, or one of the key service; asked for or by default.

use annulus_tests::client::{Call, Reply, S3};
use annulus_tests::cluster::shared;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};

use crate::{CHUNK_BYTES, PART_BYTES_MIN, assert_absent, content, etag, fresh_name, new_bucket};

const METHOD: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const CONTEXT: &str = "x-amz-server-side-encryption-context";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
const ALGORITHM: &str = "x-amz-server-side-encryption-customer-algorithm";
const KEY: &str = "x-amz-server-side-encryption-customer-key";
const KEY_MD5: &str = "x-amz-server-side-encryption-customer-key-md5";
const SOURCE_ALGORITHM: &str = "x-amz-copy-source-server-side-encryption-customer-algorithm";
const SOURCE_KEY: &str = "x-amz-copy-source-server-side-encryption-customer-key";
const SOURCE_KEY_MD5: &str = "x-amz-copy-source-server-side-encryption-customer-key-md5";

/// Sizes that lie inline, in one chunk and in several.
const SIZES: [usize; 4] = [0, 5_000, 100_000, 2 * CHUNK_BYTES + 77];

/// One of the ways to encrypt, with the headers that ask for it.
#[derive(Clone)]
enum Way {
    Plain,
    Customer(u8),
    S3,
    Kms(String),
}

fn key_of(byte: u8) -> (String, String) {
    (BASE64.encode([byte; 32]), BASE64.encode(Md5::digest([byte; 32])))
}

impl Way {
    fn asked<'a>(&self, call: Call<'a>) -> Call<'a> {
        match self {
            Way::Plain => call,
            Way::Customer(_) => self.read(call),
            Way::S3 => call.header(METHOD, "AES256"),
            Way::Kms(key) => call.header(METHOD, "aws:kms").header(KMS_KEY, key),
        }
    }

    /// What a request sends that reads what was written so.
    fn read<'a>(&self, call: Call<'a>) -> Call<'a> {
        let Way::Customer(byte) = self else { return call };
        let (key, md5) = key_of(*byte);
        call.header(ALGORITHM, "AES256").header(KEY, &key).header(KEY_MD5, &md5)
    }

    /// What a copy sends whose source was written so.
    fn source<'a>(&self, call: Call<'a>) -> Call<'a> {
        let Way::Customer(byte) = self else { return call };
        let (key, md5) = key_of(*byte);
        call.header(SOURCE_ALGORITHM, "AES256").header(SOURCE_KEY, &key).header(SOURCE_KEY_MD5, &md5)
    }

    #[track_caller]
    fn assert_told(&self, reply: &Reply) {
        let (method, key, md5) = match self {
            Way::Plain => (None, None, None),
            Way::Customer(byte) => (None, None, Some(key_of(*byte).1)),
            Way::S3 => (Some("AES256"), None, None),
            Way::Kms(key) => (Some("aws:kms"), Some(key.as_str()), None),
        };
        assert_eq!((reply.header(METHOD), reply.header(KMS_KEY), reply.header(KEY_MD5)), (method, key, md5.as_deref()));
    }
}

fn with<'a>(call: Call<'a>, headers: &[(&'static str, &str)]) -> Call<'a> {
    headers.iter().fold(call, |call, (name, value)| call.header(name, value))
}

async fn new_kms_key(s3: &S3) -> String {
    let name = fresh_name("key");
    let body = format!("{{\"name\":\"{name}\"}}");
    let reply = s3.post("/-/admin/v1/kms").body(body).send().await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    name
}

async fn change_kms_key(s3: &S3, name: &str, action: &str) {
    let reply = s3.post(&format!("/-/admin/v1/kms/{name}/{action}")).body("null").send().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn what_is_encrypted_is_read_back_through_any_gateway() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let bucket = new_bucket(&here).await;
    for way in [Way::Customer(1), Way::S3, Way::Kms(new_kms_key(&here).await)] {
        for size in SIZES {
            let (target, body) = (format!("{bucket}/k"), content(size, 5));
            way.assert_told(&way.asked(here.put(&target)).body(body.clone()).ok().await);
            let got = way.read(there.get(&target)).ok().await;
            assert!(got.body == body, "{size} bytes");
            way.assert_told(&got);
            let head = way.read(there.head(&target)).ok().await;
            assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
            way.assert_told(&head);
            assert_eq!(head.header("etag") == Some(&etag(&body)), matches!(way, Way::S3), "only SSE-S3 shows the MD5");
        }
        let (target, body) = (format!("{bucket}/k"), content(SIZES[3], 5));
        for (from, to) in [(0, 0), (65_519, 65_520), (1_000_000, 5_000_000), (SIZES[3] - 1, SIZES[3] - 1)] {
            let call = there.get(&target).header("range", &format!("bytes={from}-{to}"));
            let got = way.read(call).send().await;
            assert_eq!(got.status, 206);
            assert!(got.body == body[from..=to], "{from} to {to}");
        }
        let listed = here.get(&format!("{bucket}?list-type=2")).ok().await;
        assert_eq!(listed.element("Size"), Some(SIZES[3].to_string()), "sizes are those of what was sent");
    }
}

#[tokio::test]
async fn without_the_key_nothing_is_told() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let (right, wrong) = (Way::Customer(1), Way::Customer(2));
    right.asked(s3.put(&target)).body("hello").ok().await;
    s3.get(&target).refused(400, "InvalidRequest").await;
    wrong.read(s3.get(&target)).refused(400, "InvalidRequest").await;
    let attributes = || s3.get(&format!("{target}?attributes")).header("x-amz-object-attributes", "ObjectSize");
    attributes().refused(400, "InvalidRequest").await;
    wrong.read(attributes()).refused(400, "InvalidRequest").await;
    assert_eq!(right.read(attributes()).ok().await.element("ObjectSize").as_deref(), Some("5"));
    for call in [s3.head(&target), wrong.read(s3.head(&target))] {
        assert_eq!(call.send().await.status, 400);
    }
    let copy = || s3.put(&format!("{target}2")).header("x-amz-copy-source", &target);
    copy().refused(400, "InvalidRequest").await;
    wrong.source(copy()).refused(400, "InvalidRequest").await;
    // A key for an object that has none is a mistake too.
    s3.put(&target).body("plain").ok().await;
    right.read(s3.get(&target)).refused(400, "InvalidRequest").await;
    right.source(copy()).refused(400, "InvalidRequest").await;
    assert_absent(&s3, &format!("{target}2")).await;
}

#[tokio::test]
async fn wrong_headers_are_refused_and_nothing_is_stored() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let ((key, md5), (_, other_md5)) = (key_of(1), key_of(2));
    let short = (BASE64.encode([1; 16]), BASE64.encode(Md5::digest([1; 16])));
    let wrong: [(&[(&'static str, &str)], &str); 15] = [
        (&[(KEY, &key), (KEY_MD5, &md5)], "InvalidArgument"),
        (&[(ALGORITHM, "AES256")], "InvalidArgument"),
        (&[(ALGORITHM, "AES256"), (KEY_MD5, &md5)], "InvalidArgument"),
        (&[(ALGORITHM, "AES256"), (KEY, &key)], "InvalidArgument"),
        (&[(ALGORITHM, "AES128"), (KEY, &key), (KEY_MD5, &md5)], "InvalidEncryptionAlgorithmError"),
        (&[(ALGORITHM, "AES256"), (KEY, &key), (KEY_MD5, &other_md5)], "InvalidArgument"),
        (&[(ALGORITHM, "AES256"), (KEY, &short.0), (KEY_MD5, &short.1)], "InvalidArgument"),
        (&[(ALGORITHM, "AES256"), (KEY, "no base64"), (KEY_MD5, &md5)], "InvalidArgument"),
        (&[(ALGORITHM, "AES256"), (KEY, &key), (KEY_MD5, &md5), (METHOD, "AES256")], "InvalidArgument"),
        (&[(ALGORITHM, "AES256"), (KEY, &key), (KEY_MD5, &md5), (METHOD, "aws:kms")], "InvalidArgument"),
        (&[(METHOD, "aes:kms")], "InvalidArgument"),
        (&[(METHOD, "AES256"), (KMS_KEY, "k")], "InvalidArgument"),
        (&[(KMS_KEY, "k")], "InvalidArgument"),
        (&[(METHOD, "aws:kms"), (KMS_KEY, "no-such-key")], "KMS.NotFoundException"),
        (&[(METHOD, "aws:kms")], "KMS.NotFoundException"),
    ];
    for (headers, code) in wrong {
        with(s3.put(&target), headers).body("x").refused(400, code).await;
        with(s3.post(&format!("{target}?uploads")), headers).refused(400, code).await;
    }
    assert_absent(&s3, &target).await;
    // How to encrypt is no question of a read.
    s3.put(&target).body("x").ok().await;
    s3.get(&target).header(METHOD, "AES256").refused(400, "InvalidArgument").await;
}

#[tokio::test]
async fn keys_are_refused_without_tls_unless_the_operator_says_so() {
    use annulus_tests::cluster::{Cluster, Spec};
    let spec = Spec {
        nodes: 1,
        gateways: 1,
        replication_factor: 1,
        partitions: 1,
        sse_c_without_tls: false,
        ..Spec::default()
    };
    let cluster = Cluster::start(spec).await;
    let s3 = cluster.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    Way::Customer(1).asked(s3.put(&target)).body("x").refused(400, "InvalidRequest").await;
    Way::S3.asked(s3.put(&target)).body("x").ok().await;
}

#[tokio::test]
async fn copies_between_all_ways() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let (one, two) = (new_kms_key(&s3).await, new_kms_key(&s3).await);
    let body = content(70_000, 6);
    let (source, target) = (format!("{bucket}/source"), format!("{bucket}/target"));
    for from in [Way::Plain, Way::Customer(1), Way::S3, Way::Kms(one)] {
        from.asked(s3.put(&source)).body(body.clone()).ok().await;
        for to in [Way::Plain, Way::Customer(2), Way::S3, Way::Kms(two.clone())] {
            let copy = s3.put(&target).header("x-amz-copy-source", &source);
            to.assert_told(&to.asked(from.source(copy)).ok().await);
            let got = to.read(s3.get(&target)).ok().await;
            assert!(got.body == body);
            to.assert_told(&got);
        }
    }
    // Encryption is a change that makes a copy onto itself one.
    s3.put(&target).body("x").ok().await;
    let copy = s3.put(&target).header("x-amz-copy-source", &target);
    Way::S3.asked(copy).ok().await;
    Way::S3.assert_told(&s3.get(&target).ok().await);
}

#[tokio::test]
async fn uploads_in_parts() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let (target, source) = (format!("{bucket}/k"), format!("{bucket}/source"));
    let body = content(PART_BYTES_MIN + 1 + 30_000, 7);
    let (first, second) = body.split_at(PART_BYTES_MIN + 1);
    Way::Customer(9).asked(s3.put(&source)).body(second.to_vec()).ok().await;
    for way in [Way::Customer(1), Way::S3, Way::Kms(new_kms_key(&s3).await)] {
        let begun = way.asked(s3.post(&format!("{target}?uploads"))).ok().await;
        way.assert_told(&begun);
        let upload = begun.element("UploadId").expect("an upload has an id");
        let part = |number: u32| s3.put(&format!("{target}?partNumber={number}&uploadId={upload}"));
        if matches!(way, Way::Customer(_)) {
            part(1).body("x").refused(400, "InvalidRequest").await;
            Way::Customer(3).read(part(1)).body("x").refused(400, "InvalidRequest").await;
        }
        let one = way.read(part(1)).body(first.to_vec()).ok().await;
        way.assert_told(&one);
        let copy = way.read(part(2)).header("x-amz-copy-source", &source);
        let two = Way::Customer(9).source(copy).ok().await;
        way.assert_told(&two);
        let tags = [one.header("etag").map(str::to_owned), two.element("ETag")];
        let listed: String = (1..)
            .zip(tags.map(|tag| tag.expect("a part has a tag")))
            .map(|(number, tag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"))
            .collect();
        let document = format!("<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>");
        let complete = || s3.post(&format!("{target}?uploadId={upload}")).body(document.clone());
        if matches!(way, Way::Customer(_)) {
            complete().refused(400, "InvalidRequest").await;
            Way::Customer(3).read(complete()).refused(400, "InvalidRequest").await;
        }
        way.assert_told(&way.read(complete()).ok().await);
        let got = way.read(s3.get(&target)).ok().await;
        assert!(got.body == body);
        way.assert_told(&got);
        let second_part = way.read(s3.get(&format!("{target}?partNumber=2"))).send().await;
        assert!(second_part.body == *second);
        assert_eq!(second_part.header("x-amz-mp-parts-count"), Some("2"));
        let across = s3.get(&target).header("range", &format!("bytes={}-{}", first.len() - 10, first.len() + 9));
        assert!(way.read(across).send().await.body == body[first.len() - 10..first.len() + 10]);
    }
}

#[tokio::test]
async fn a_bucket_may_say_how() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let (config, target) = (format!("{bucket}?encryption"), format!("{bucket}/k"));
    let code = "ServerSideEncryptionConfigurationNotFoundError";
    s3.get(&config).refused(404, code).await;
    let key = new_kms_key(&s3).await;
    let document = |rule: &str| {
        format!("<ServerSideEncryptionConfiguration><Rule>{rule}</Rule></ServerSideEncryptionConfiguration>")
    };
    let default = |inner: &str| {
        document(&format!("<ApplyServerSideEncryptionByDefault>{inner}</ApplyServerSideEncryptionByDefault>"))
    };
    s3.put(&config).body(default("<SSEAlgorithm>AES256</SSEAlgorithm>")).ok().await;
    let got = s3.get(&config).ok().await;
    assert_eq!(got.element("SSEAlgorithm").as_deref(), Some("AES256"));
    Way::S3.assert_told(&s3.put(&target).body("x").ok().await);
    Way::S3.assert_told(&s3.get(&target).ok().await);
    Way::S3.assert_told(&s3.post(&format!("{bucket}/m?uploads")).ok().await);
    let copied = s3.put(&format!("{bucket}/copy")).header("x-amz-copy-source", &target).ok().await;
    Way::S3.assert_told(&copied);

    let inner = format!("<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{key}</KMSMasterKeyID>");
    s3.put(&config).body(default(&inner)).ok().await;
    assert_eq!(s3.get(&config).ok().await.element("KMSMasterKeyID").as_deref(), Some(key.as_str()));
    Way::Kms(key).assert_told(&s3.put(&target).body("x").ok().await);
    // What a request says counts more.
    Way::S3.assert_told(&Way::S3.asked(s3.put(&target)).body("x").ok().await);
    Way::Customer(1).assert_told(&Way::Customer(1).asked(s3.put(&target)).body("x").ok().await);

    // A document with a mistake is refused whole, and the old one stays.
    for mistake in [
        default("<SSEAlgorithm>rot13</SSEAlgorithm>"),
        "<ServerSideEncryptionConfiguration></ServerSideEncryptionConfiguration>".to_owned(),
        document(""),
    ] {
        s3.put(&config).body(mistake).refused(400, "MalformedXML").await;
    }
    assert_eq!(s3.get(&config).ok().await.element("SSEAlgorithm").as_deref(), Some("aws:kms"));
    s3.put(&config)
        .body(document("<BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes>"))
        .ok()
        .await;
    Way::Customer(1).asked(s3.put(&target)).body("x").refused(403, "AccessDenied").await;
    assert_eq!(s3.delete(&config).send().await.status, 204);
    assert_eq!(s3.delete(&config).send().await.status, 204);
    s3.get(&config).refused(404, code).await;
    Way::Plain.assert_told(&s3.put(&target).body("x").ok().await);
}

#[tokio::test]
async fn keys_of_the_service_are_disabled_and_rotated() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let target = format!("{}/k", new_bucket(&here).await);
    let key = new_kms_key(&here).await;
    let way = Way::Kms(format!("arn:aws:kms:us-east-1:000000000000:alias/{key}"));
    way.asked(here.put(&target)).body("before").ok().await;
    change_kms_key(&here, &key, "rotate").await;
    assert_eq!(there.get(&target).ok().await.text(), "before", "what an old version encrypted stays readable");
    change_kms_key(&here, &key, "disable").await;
    there.get(&target).refused(400, "KMS.DisabledException").await;
    way.asked(there.put(&target)).body("x").refused(400, "KMS.DisabledException").await;
    assert_eq!(there.head(&target).send().await.status, 200, "its headers are not encrypted");
    change_kms_key(&there, &key, "enable").await;
    assert_eq!(here.get(&target).ok().await.text(), "before");
    let listed = here.get("/-/admin/v1/kms").ok().await.text();
    let keys: serde_json::Value = serde_json::from_str(&listed).expect("the answer is JSON");
    let found =
        keys.as_array().expect("a list").iter().find(|found| found["name"] == key.as_str()).expect("it is listed");
    assert_eq!((found["versions"].as_u64(), found["enabled"].as_bool()), (Some(2), Some(true)));
    assert!(found.get("material").is_none());
    for (name, status) in [(key.as_str(), 409), ("sse-s3", 400), ("alias/x", 400), ("a b", 400)] {
        let reply = here.post("/-/admin/v1/kms").body(format!("{{\"name\":\"{name}\"}}")).send().await;
        assert_eq!(reply.status, status, "{name}");
    }
}

#[tokio::test]
async fn context_and_bucket_key_come_back() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let way = Way::Kms(new_kms_key(&s3).await);
    let context = BASE64.encode(r#"{"department":"10103.0"}"#);
    let written = way.asked(s3.put(&target)).header(CONTEXT, &context).header(BUCKET_KEY, "true").body("x").ok().await;
    assert_eq!((written.header(CONTEXT), written.header(BUCKET_KEY)), (Some(context.as_str()), Some("true")));
    let got = s3.get(&target).ok().await;
    assert_eq!((got.text().as_str(), got.header(BUCKET_KEY)), ("x", Some("true")));
    for bad in ["no base64!", &BASE64.encode("[1]"), &BASE64.encode(r#"{"a":1}"#)] {
        way.asked(s3.put(&target)).header(CONTEXT, bad).body("x").refused(400, "InvalidArgument").await;
    }
}

#[tokio::test]
async fn parts_are_listed_without_a_key_and_with_no_other_than_the_uploads() {
    let s3 = shared().await.s3(0);
    let target = format!("{}/k", new_bucket(&s3).await);
    let begin = async |way: Way| {
        let begun = way.asked(s3.post(&format!("{target}?uploads"))).ok().await;
        format!("{target}?uploadId={}", begun.element("UploadId").expect("an upload has an id"))
    };
    let sealed = begin(Way::Customer(1)).await;
    s3.get(&sealed).ok().await;
    Way::Customer(1).read(s3.get(&sealed)).ok().await;
    Way::Customer(2).read(s3.get(&sealed)).refused(400, "InvalidRequest").await;
    let open = begin(Way::Plain).await;
    Way::Customer(1).read(s3.get(&open)).refused(400, "InvalidRequest").await;
}

#[tokio::test]
async fn what_a_part_says_of_its_upload_is_compared() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let (target, source) = (format!("{bucket}/k"), format!("{bucket}/source"));
    s3.put(&source).body("x").ok().await;
    let kms = Way::Kms(new_kms_key(&s3).await);
    for (way, said) in [(Way::Plain, None), (Way::S3, Some("AES256")), (kms, Some("aws:kms"))] {
        let begun = way.asked(s3.post(&format!("{target}?uploads"))).ok().await;
        let upload = begun.element("UploadId").expect("an upload has an id");
        let part = || s3.put(&format!("{target}?partNumber=1&uploadId={upload}"));
        for (headers, is_said) in [
            (&[(METHOD, "AES256")][..], said == Some("AES256")),
            (&[(METHOD, "aws:kms")], said == Some("aws:kms")),
            (&[(METHOD, "aws:kms"), (KMS_KEY, "another")], said == Some("aws:kms")),
            (&[(KMS_KEY, "another")], said == Some("aws:kms")),
            (&[(METHOD, "AES256"), (KMS_KEY, "another")], false),
            (&[(METHOD, "foo")], false),
            (&[(CONTEXT, "e30=")], false),
            (&[(BUCKET_KEY, "true")], false),
        ] {
            for call in [part().body("x"), part().header("x-amz-copy-source", &source)] {
                let call = headers.iter().fold(call, |call, (name, value)| call.header(name, value));
                let reply = call.send().await;
                assert_eq!(reply.status.is_success(), is_said, "{said:?} {headers:?}: {}", reply.text());
                assert!(is_said || reply.code().is_some(), "{said:?} {headers:?}: {}", reply.text());
            }
        }
        let listed = s3.get(&format!("{target}?uploadId={upload}")).ok().await.elements("PartNumber");
        assert_eq!(listed.is_empty(), said.is_none(), "nothing is stored plain that was to be encrypted");
    }
}
