//! Wrong input, operation by operation: a table of what is sent, and of the whole error that S3 answers: status, code and
//! every element beside the message.
//!
//! What messages say is not compared here, only that there is one.

use std::time::{Duration, SystemTime};

use annulus_tests::client::{Call, Reply, S3};
use annulus_tests::cluster::shared;
use sha2::{Digest, Sha256};

use crate::{fresh_name, new_bucket};

pub(crate) type Pairs = &'static [(&'static str, &'static str)];

/// `METHOD TARGET`, headers, body; status, code, elements. What stands in braces is replaced, see [`Stage`].
pub(crate) type Row = (&'static str, Pairs, &'static str, u16, &'static str, Pairs);

/// Elements of every error.
const COMMON: [&str; 5] = ["Code", "Message", "Resource", "RequestId", "HostId"];

/// What rows are about.
pub(crate) struct Stage {
    s3: S3,
    names: Vec<(&'static str, String)>,
}

impl Stage {
    /// `{b}`: a bucket with the object `k`, which is `hello`; `{v}`: one with versions, where `{m}` is a delete marker on `k`;
    /// `{l}`: one whose objects can be locked; `{n}`: no bucket, called `{none}`; `{u}`: an upload to `{b}/k` whose parts 1 and 2 have the tag `{t}`; `{long}`: a key of 1,025 bytes.
    pub(crate) async fn set() -> Self {
        let s3 = shared().await.s3(0);
        let (bucket, versioned, lockable) =
            (new_bucket(&s3).await, new_bucket(&s3).await, format!("/{}", fresh_name("lockable")));
        s3.put(&lockable).header("x-amz-bucket-object-lock-enabled", "true").ok().await;
        s3.put(&format!("{bucket}/k")).body("hello").ok().await;
        let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        s3.put(&format!("{versioned}?versioning")).body(enabled).ok().await;
        let marker = s3.delete(&format!("{versioned}/k")).ok().await;
        let marker = marker.header("x-amz-version-id").expect("a marker is a version").to_owned();
        let upload =
            s3.post(&format!("{bucket}/k?uploads")).ok().await.element("UploadId").expect("an upload has an id");
        let mut tag = String::new();
        for number in 1..=2 {
            let part = s3.put(&format!("{bucket}/k?partNumber={number}&uploadId={upload}")).body("small").ok().await;
            tag = part.header("etag").expect("a part has a tag").trim_matches('"').to_owned();
        }
        let none = fresh_name("none");
        let bare = bucket.trim_start_matches('/').to_owned();
        let names = vec![
            ("{b}", bucket),
            ("{bare}", bare),
            ("{v-bare}", versioned.trim_start_matches('/').to_owned()),
            ("{v}", versioned),
            ("{m}", marker),
            ("{l}", lockable),
            ("{none}", none.clone()),
            ("{n}", format!("/{none}")),
            ("{u}", upload),
            ("{t}", tag),
            ("{long}", "k".repeat(1_025)),
        ];
        Self { s3, names }
    }

    fn fill(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    pub(crate) async fn check(&self, rows: &[Row]) {
        for (request, headers, body, status, code, elements) in rows {
            let (method, target) = request.split_once(' ').expect("a row begins with a method");
            let target = self.fill(target);
            let mut call = call(&self.s3, method, &target).body(self.fill(body));
            for (name, value) in *headers {
                call = call.header(name, &self.fill(value));
            }
            let elements = elements.iter().map(|(name, value)| ((*name).to_owned(), self.fill(value))).collect();
            assert_refused(&call.send().await, (*status, code), &target, elements, &format!("{request} {headers:?}"));
        }
        assert_eq!(self.s3.get(&self.fill("{b}/k")).ok().await.text(), "hello", "a refusal changes nothing");
    }
}

fn call<'a>(s3: &'a S3, method: &str, target: &str) -> Call<'a> {
    match method {
        "GET" => s3.get(target),
        "PUT" => s3.put(target),
        "POST" => s3.post(target),
        "DELETE" => s3.delete(target),
        other => panic!("{other} is no method of a row"),
    }
}

/// The reply is an error of that status and code, of that type of content, and names the request as its headers do.
pub(crate) fn assert_error(reply: &Reply, (status, code): (u16, &str), content_type: &str, what: &str) {
    let text = reply.text();
    assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (status, Some(code)), "{what}: {text}");
    assert_eq!(reply.header("content-type"), Some(content_type), "{what}");
    assert_eq!(reply.element("RequestId").as_deref(), reply.header("x-amz-request-id"), "{what}: {text}");
    assert!(reply.element("Message").is_some_and(|message| !message.is_empty()), "{what}: {text}");
}

/// The reply is that error, with these elements and no others, and says where it happened as its headers do.
pub(crate) fn assert_refused(
    reply: &Reply,
    (status, code): (u16, &str),
    target: &str,
    mut elements: Vec<(String, String)>,
    what: &str,
) {
    let text = reply.text();
    assert_error(reply, (status, code), "application/xml", what);
    let mut said = children(&text);
    for (name, value) in &said {
        match name.as_str() {
            "Resource" => assert_eq!(value, target.split('?').next().unwrap_or_default(), "{what}"),
            "HostId" => assert_eq!(Some(value.as_str()), reply.header("x-amz-id-2"), "{what}"),
            _ => {}
        }
    }
    for name in COMMON {
        let before = said.len();
        said.retain(|(said, _)| said != name);
        assert_eq!(before - said.len(), 1, "{what}: one {name}: {text}");
    }
    said.sort();
    elements.sort();
    assert_eq!(said, elements, "{what}: {text}");
    assert!(reply.header("x-annulus-error-details").is_none(), "{what}");
}

/// The elements of an error, which has no further levels, in order.
fn children(xml: &str) -> Vec<(String, String)> {
    let mut rest = xml.split_once("<Error>").and_then(|(_, rest)| rest.strip_suffix("</Error>")).expect("an error");
    let mut children = Vec::new();
    while let Some((name, inner)) = rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        let (text, after) = inner.split_once(&format!("</{name}>")).expect("an element ends");
        let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
        let text = entities.iter().fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character));
        children.push((name.to_owned(), text));
        rest = after;
    }
    assert!(rest.is_empty(), "nothing stands between elements: {xml}");
    children
}

#[tokio::test]
async fn of_buckets() {
    let no_place =
        "<CreateBucketConfiguration><LocationConstraint>mars</LocationConstraint></CreateBucketConfiguration>";
    let wrong_place =
        "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
    let argument: Pairs = &[("ArgumentName", "x-amz-acl"), ("ArgumentValue", "everybody")];
    let ownership: Pairs = &[("ArgumentName", "x-amz-object-ownership"), ("ArgumentValue", "Nobody")];
    let buckets: Pairs = &[("ArgumentName", "max-buckets"), ("ArgumentValue", "0")];
    Stage::set()
        .await
        .check(&[
            ("PUT /Upper", &[], "", 400, "InvalidBucketName", &[("BucketName", "Upper")]),
            ("GET /under_score", &[], "", 400, "InvalidBucketName", &[("BucketName", "under_score")]),
            ("PUT {n}", &[], wrong_place, 400, "IllegalLocationConstraintException", &[]),
            ("PUT {n}", &[], no_place, 400, "InvalidLocationConstraint", &[("LocationConstraint", "mars")]),
            ("PUT {n}", &[], "<broken", 400, "MalformedXML", &[]),
            ("PUT {n}", &[("x-amz-acl", "everybody")], "", 400, "InvalidArgument", argument),
            ("PUT {n}", &[("x-amz-object-ownership", "Nobody")], "", 400, "InvalidArgument", ownership),
            ("DELETE {b}", &[], "", 409, "BucketNotEmpty", &[("BucketName", "{bare}")]),
            ("GET /?max-buckets=0", &[], "", 400, "InvalidArgument", buckets),
            ("PUT /", &[], "", 405, "MethodNotAllowed", &[("Method", "PUT"), ("ResourceType", "SERVICE")]),
        ])
        .await;
}

#[tokio::test]
async fn of_a_bucket_of_somebody_else() {
    let cluster = shared().await;
    let bucket = new_bucket(&cluster.s3(0)).await;
    let alt = cluster.alt();
    let name = bucket.trim_start_matches('/').to_owned();
    let taken = alt.put(&bucket).send().await;
    let named = vec![("BucketName".to_owned(), name)];
    assert_refused(&taken, (409, "BucketAlreadyExists"), &bucket, named, "PUT");
    for reply in [alt.get(&bucket).send().await, alt.delete(&bucket).send().await] {
        assert_refused(&reply, (403, "AccessDenied"), &bucket, Vec::new(), "GET or DELETE");
    }
    let object = format!("{bucket}/k");
    for call in [alt.get(&object), alt.put(&object), alt.delete(&object), alt.post(&format!("{object}?uploads"))] {
        assert_refused(&call.send().await, (403, "AccessDenied"), &object, Vec::new(), "an object");
    }
}

/// Every configuration that a bucket may lack, of one that has none.
#[tokio::test]
async fn of_what_is_not_configured() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    for (query, code) in [
        ("cors", "NoSuchCORSConfiguration"),
        ("lifecycle", "NoSuchLifecycleConfiguration"),
        ("object-lock", "ObjectLockConfigurationNotFoundError"),
        ("ownershipControls", "OwnershipControlsNotFoundError"),
        ("policy", "NoSuchBucketPolicy"),
        ("publicAccessBlock", "NoSuchPublicAccessBlockConfiguration"),
        ("replication", "ReplicationConfigurationNotFoundError"),
        ("tagging", "NoSuchTagSet"),
        ("website", "NoSuchWebsiteConfiguration"),
    ] {
        let reply = s3.get(&format!("{bucket}?{query}")).send().await;
        let named = vec![("BucketName".to_owned(), bucket.trim_start_matches('/').to_owned())];
        assert_refused(&reply, (404, code), &bucket, named, query);
    }
}

#[tokio::test]
async fn of_listings() {
    let argument = "InvalidArgument";
    Stage::set()
        .await
        .check(&[
            ("GET {b}?max-keys=-1", &[], "", 400, argument, &[("ArgumentName", "max-keys"), ("ArgumentValue", "-1")]),
            (
                "GET {b}?max-keys=many",
                &[],
                "",
                400,
                argument,
                &[("ArgumentName", "max-keys"), ("ArgumentValue", "many")],
            ),
            (
                "GET {b}?list-type=2&encoding-type=base64",
                &[],
                "",
                400,
                argument,
                &[("ArgumentName", "encoding-type"), ("ArgumentValue", "base64")],
            ),
            (
                "GET {b}?list-type=2&continuation-token=a%20b",
                &[],
                "",
                400,
                argument,
                &[("ArgumentName", "continuation-token"), ("ArgumentValue", "a b")],
            ),
            (
                "GET {b}?versions&max-keys=1x",
                &[],
                "",
                400,
                argument,
                &[("ArgumentName", "max-keys"), ("ArgumentValue", "1x")],
            ),
            (
                "GET {b}?versions&version-id-marker={m}",
                &[],
                "",
                400,
                argument,
                &[("ArgumentName", "version-id-marker"), ("ArgumentValue", "{m}")],
            ),
            (
                "GET {b}?uploads&max-uploads=-1",
                &[],
                "",
                400,
                argument,
                &[("ArgumentName", "max-uploads"), ("ArgumentValue", "-1")],
            ),
            (
                "GET {b}?uploads&key-marker=a&upload-id-marker=x",
                &[],
                "",
                400,
                argument,
                &[("ArgumentName", "upload-id-marker"), ("ArgumentValue", "x")],
            ),
        ])
        .await;
}

const PAST: &str = "Sat, 01 Jan 2000 00:00:00 GMT";

#[tokio::test]
async fn of_reads() {
    const NO_VERSION: &str = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1";
    let no_version: Pairs = &[("Key", "k"), ("VersionId", NO_VERSION)];
    Stage::set()
        .await
        .check(&[
            ("GET {b}/a%20%26%3C%C3%A9", &[], "", 404, "NoSuchKey", &[("Key", "a &<é")]),
            ("GET {v}/k", &[], "", 404, "NoSuchKey", &[("Key", "k")]),
            ("GET {b}/none?acl", &[], "", 404, "NoSuchKey", &[("Key", "none")]),
            ("GET {b}/none?tagging", &[], "", 404, "NoSuchKey", &[("Key", "none")]),
            (
                "GET {b}/none?attributes",
                &[("x-amz-object-attributes", "ETag")],
                "",
                404,
                "NoSuchKey",
                &[("Key", "none")],
            ),
            ("GET {b}/k?versionId=a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1", &[], "", 404, "NoSuchVersion", no_version),
            (
                "GET {b}/k?versionId=none",
                &[],
                "",
                400,
                "InvalidArgument",
                &[("ArgumentName", "versionId"), ("ArgumentValue", "none")],
            ),
            (
                "GET {b}/k?versionId=",
                &[],
                "",
                400,
                "InvalidArgument",
                &[("ArgumentName", "versionId"), ("ArgumentValue", "")],
            ),
            (
                "GET {v}/k?versionId={m}",
                &[],
                "",
                405,
                "MethodNotAllowed",
                &[("Method", "GET"), ("ResourceType", "DeleteMarker")],
            ),
            ("GET {v}/k?acl", &[], "", 404, "NoSuchKey", &[("Key", "k")]),
            (
                "GET {b}/k",
                &[("range", "bytes=9-")],
                "",
                416,
                "InvalidRange",
                &[("RangeRequested", "bytes=9-"), ("ActualObjectSize", "5")],
            ),
            (
                "GET {b}/k?partNumber=0",
                &[],
                "",
                400,
                "InvalidArgument",
                &[("ArgumentName", "partNumber"), ("ArgumentValue", "0")],
            ),
            (
                "GET {b}/k?partNumber=one",
                &[],
                "",
                400,
                "InvalidArgument",
                &[("ArgumentName", "partNumber"), ("ArgumentValue", "one")],
            ),
            ("GET {b}/k?partNumber=1", &[("range", "bytes=0-1")], "", 400, "InvalidRequest", &[]),
            ("GET {b}/k", &[("if-match", "\"x\"")], "", 412, "PreconditionFailed", &[("Condition", "If-Match")]),
            (
                "GET {b}/k",
                &[("if-unmodified-since", PAST)],
                "",
                412,
                "PreconditionFailed",
                &[("Condition", "If-Unmodified-Since")],
            ),
            (
                "GET {b}/k?attributes",
                &[("x-amz-object-attributes", "Colour")],
                "",
                400,
                "InvalidArgument",
                &[("ArgumentName", "x-amz-object-attributes"), ("ArgumentValue", "Colour")],
            ),
            ("GET {b}/k?uploads", &[], "", 501, "NotImplemented", &[]),
            ("GET {b}/{long}", &[], "", 400, "KeyTooLongError", &[("Size", "1025"), ("MaxSizeAllowed", "1024")]),
        ])
        .await;
}

#[tokio::test]
async fn of_writes() {
    const OTHER_MD5: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";
    let class: Pairs = &[("StorageClassRequested", "COLD")];
    let digests: Pairs =
        &[("ExpectedDigest", "d41d8cd98f00b204e9800998ecf8427e"), ("CalculatedDigest", "ndTkYSaMgDT1yFZOFVxnpg==")];
    // Of parts and documents S3 repeats the text.
    let as_it_came: Pairs = &[("ExpectedDigest", OTHER_MD5), ("CalculatedDigest", "ndTkYSaMgDT1yFZOFVxnpg==")];
    Stage::set()
        .await
        .check(&[
            ("PUT {b}/{long}", &[], "x", 400, "KeyTooLongError", &[("Size", "1025"), ("MaxSizeAllowed", "1024")]),
            ("PUT {b}/k", &[("if-none-match", "*")], "x", 412, "PreconditionFailed", &[("Condition", "If-None-Match")]),
            ("PUT {b}/k", &[("if-match", "\"x\"")], "x", 412, "PreconditionFailed", &[("Condition", "If-Match")]),
            ("PUT {b}/none", &[("if-match", "\"x\"")], "x", 404, "NoSuchKey", &[("Key", "none")]),
            ("DELETE {b}/k", &[("if-match", "\"x\"")], "", 412, "PreconditionFailed", &[("Condition", "If-Match")]),
            // S3 answers so, whatever the condition is (its user guide says 412 in one sentence and not found in the next).
            ("DELETE {b}/none", &[("if-match", "\"x\"")], "", 404, "NoSuchKey", &[("Key", "none")]),
            ("DELETE {b}/none", &[("if-match", "*")], "", 404, "NoSuchKey", &[("Key", "none")]),
            ("PUT {b}/k?legal-hold", &[], "<LegalHold><Status>ON</Status></LegalHold>", 400, "InvalidRequest", &[]),
            ("PUT {b}?object-lock", &[], "<ObjectLockConfiguration/>", 400, "InvalidRequest", &[]),
            ("PUT {b}/k", &[("content-md5", "no")], "x", 400, "InvalidDigest", &[("Content-MD5", "no")]),
            ("PUT {b}/k", &[("content-md5", OTHER_MD5)], "x", 400, "BadDigest", digests),
            ("PUT {b}/k?tagging", &[("content-md5", OTHER_MD5)], "x", 400, "BadDigest", as_it_came),
            ("PUT {b}/k?partNumber=1&uploadId={u}", &[("content-md5", OTHER_MD5)], "x", 400, "BadDigest", as_it_came),
            ("PUT {b}/k", &[("x-amz-checksum-crc32", "AAAAAA==")], "x", 400, "BadDigest", &[]),
            ("PUT {b}/k", &[("x-amz-storage-class", "COLD")], "x", 400, "InvalidStorageClass", class),
            ("POST {b}/k?uploads", &[("x-amz-storage-class", "COLD")], "", 400, "InvalidStorageClass", class),
            (
                "PUT {b}/k",
                &[("x-amz-acl", "everybody")],
                "x",
                400,
                "InvalidArgument",
                &[("ArgumentName", "x-amz-acl"), ("ArgumentValue", "everybody")],
            ),
            (
                "PUT {b}/k",
                &[("x-amz-tagging", "a=1&a=2")],
                "x",
                400,
                "InvalidArgument",
                &[("ArgumentName", "x-amz-tagging"), ("ArgumentValue", "a=1&a=2")],
            ),
            (
                "PUT {b}/k",
                &[("x-amz-website-redirect-location", "there")],
                "x",
                400,
                "InvalidArgument",
                &[("ArgumentName", "x-amz-website-redirect-location"), ("ArgumentValue", "there")],
            ),
            (
                "PUT {b}/k",
                &[("x-amz-server-side-encryption", "rot13")],
                "x",
                400,
                "InvalidArgument",
                &[("ArgumentName", "x-amz-server-side-encryption"), ("ArgumentValue", "rot13")],
            ),
            (
                "PUT {b}/k?versionId=null",
                &[],
                "x",
                400,
                "InvalidArgument",
                &[("ArgumentName", "versionId"), ("ArgumentValue", "null")],
            ),
            (
                "PUT {b}/k",
                &[("x-amz-checksum-xxhash64", "AAAAAAAAAAA=")],
                "x",
                501,
                "NotImplemented",
                &[("Header", "x-amz-checksum-xxhash64")],
            ),
            (
                "DELETE {b}/k?versionId=none",
                &[],
                "",
                400,
                "InvalidArgument",
                &[("ArgumentName", "versionId"), ("ArgumentValue", "none")],
            ),
            ("POST {b}?delete", &[], "<Delete></Delete>", 400, "MalformedXML", &[]),
        ])
        .await;
}

/// A delete marker cannot be changed, whether it is named or found, and has no tags to tell.
#[tokio::test]
async fn of_delete_markers() {
    const TAGS: &str = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    const LIST: Pairs = &[("x-amz-acl", "private")];
    const GET: Pairs = &[("Method", "GET"), ("ResourceType", "DeleteMarker")];
    const PUT: Pairs = &[("Method", "PUT"), ("ResourceType", "DeleteMarker")];
    const DELETE: Pairs = &[("Method", "DELETE"), ("ResourceType", "DeleteMarker")];
    Stage::set()
        .await
        .check(&[
            ("PUT {v}/k?acl", LIST, "", 405, "MethodNotAllowed", PUT),
            ("GET {v}/k?tagging", &[], "", 405, "MethodNotAllowed", GET),
            ("PUT {v}/k?tagging", &[], TAGS, 405, "MethodNotAllowed", PUT),
            ("DELETE {v}/k?tagging", &[], "", 405, "MethodNotAllowed", DELETE),
            ("GET {v}/k?acl&versionId={m}", &[], "", 405, "MethodNotAllowed", GET),
            ("PUT {v}/k?acl&versionId={m}", LIST, "", 405, "MethodNotAllowed", PUT),
            ("GET {v}/k?tagging&versionId={m}", &[], "", 405, "MethodNotAllowed", GET),
            ("PUT {v}/k?tagging&versionId={m}", &[], TAGS, 405, "MethodNotAllowed", PUT),
            ("DELETE {v}/k?tagging&versionId={m}", &[], "", 405, "MethodNotAllowed", DELETE),
        ])
        .await;
}

/// Arguments that S3 names in another way than by what is wrong with them, so that no key is repeated.
#[tokio::test]
async fn of_encryption_and_locks() {
    const ALGORITHM: &str = "x-amz-server-side-encryption-customer-algorithm";
    const KEY: &str = "x-amz-server-side-encryption-customer-key";
    const KEY_MD5: &str = "x-amz-server-side-encryption-customer-key-md5";
    const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const METHOD: &str = "x-amz-server-side-encryption";
    const MODE: &str = "x-amz-object-lock-mode";
    const UNTIL: &str = "x-amz-object-lock-retain-until-date";
    const HOLD: &str = "x-amz-object-lock-legal-hold";
    let nothing: Pairs = &[("ArgumentName", METHOD), ("ArgumentValue", "null")];
    let stage = Stage::set().await;
    let rows: &[Row] = &[
        ("PUT {b}/k", &[(KEY, SECRET), (KEY_MD5, "x")], "x", 400, "InvalidArgument", nothing),
        ("PUT {b}/k", &[(ALGORITHM, "AES256"), (KEY_MD5, "x")], "x", 400, "InvalidArgument", nothing),
        ("PUT {b}/k", &[(ALGORITHM, "AES256"), (KEY, SECRET), (KEY_MD5, "x")], "x", 400, "InvalidArgument", nothing),
        (
            "PUT {b}/k",
            &[(ALGORITHM, "AES256"), (KEY, "c2VjcmV0"), (KEY_MD5, "x")],
            "x",
            400,
            "InvalidArgument",
            nothing,
        ),
        (
            "PUT {b}/k",
            &[(ALGORITHM, "AES128"), (KEY, SECRET), (KEY_MD5, "x")],
            "x",
            400,
            "InvalidEncryptionAlgorithmError",
            &[("ArgumentName", METHOD), ("ArgumentValue", "AES128")],
        ),
        (
            "GET {b}/k",
            &[(METHOD, "AES256")],
            "",
            400,
            "InvalidArgument",
            &[("ArgumentName", METHOD), ("ArgumentValue", "AES256")],
        ),
        (
            "PUT {l}/k",
            &[(MODE, "FOREVER"), (UNTIL, "2040-01-01T00:00:00Z")],
            "x",
            400,
            "InvalidArgument",
            &[("ArgumentName", MODE), ("ArgumentValue", "FOREVER")],
        ),
        (
            "PUT {l}/k",
            &[(MODE, "GOVERNANCE"), (UNTIL, "tomorrow")],
            "x",
            400,
            "InvalidArgument",
            &[("ArgumentName", UNTIL), ("ArgumentValue", "tomorrow")],
        ),
        (
            "PUT {l}/k",
            &[(MODE, "GOVERNANCE"), (UNTIL, "2020-01-01T00:00:00Z")],
            "x",
            400,
            "InvalidArgument",
            &[("ArgumentName", UNTIL), ("ArgumentValue", "2020-01-01T00:00:00Z")],
        ),
        ("PUT {l}/k", &[(MODE, "GOVERNANCE")], "x", 400, "InvalidArgument", &[("ArgumentName", UNTIL)]),
        ("PUT {l}/k", &[(UNTIL, "2040-01-01T00:00:00Z")], "x", 400, "InvalidArgument", &[("ArgumentName", MODE)]),
        ("PUT {l}/k", &[(HOLD, "on")], "x", 400, "InvalidArgument", &[("ArgumentName", HOLD), ("ArgumentValue", "on")]),
    ];
    stage.check(rows).await;
}

#[tokio::test]
async fn of_grants() {
    let stage = Stage::set().await;
    for (name, value) in [("x-amz-grant-read", "everybody"), ("x-amz-grant-full-control", "name=\"me\"")] {
        let target = stage.fill("{b}/k");
        let reply = stage.s3.put(&target).header(name, value).body("x").send().await;
        let argument =
            [("ArgumentName", name), ("ArgumentValue", value)].map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_refused(&reply, (400, "InvalidArgument"), &target, argument.to_vec(), name);
    }
}

#[tokio::test]
async fn of_metadata() {
    let stage = Stage::set().await;
    let target = stage.fill("{b}/k");
    let reply = stage.s3.put(&target).header("x-amz-meta-a", &"v".repeat(2_048)).body("x").send().await;
    let sizes = [("Size", "2049"), ("MaxSizeAllowed", "2048")].map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_refused(&reply, (400, "MetadataTooLarge"), &target, sizes.to_vec(), "PUT");
}

#[tokio::test]
async fn of_copies() {
    let stage = Stage::set().await;
    let missing: Pairs = &[("Key", "no b+")];
    stage
        .check(&[
            ("PUT {b}/c", &[("x-amz-copy-source", "{b}/no+b%2B")], "", 404, "NoSuchKey", missing),
            (
                "PUT {b}/k?partNumber=1&uploadId={u}",
                &[("x-amz-copy-source", "{b}/no+b%2B")],
                "",
                404,
                "NoSuchKey",
                missing,
            ),
            (
                "PUT {b}/c",
                &[("x-amz-copy-source", "none-such/k")],
                "",
                404,
                "NoSuchBucket",
                &[("BucketName", "none-such")],
            ),
            ("PUT {n}/c", &[("x-amz-copy-source", "{b}/k")], "", 404, "NoSuchBucket", &[("BucketName", "{none}")]),
            ("PUT {b}/k", &[("x-amz-copy-source", "{b}/k")], "", 400, "InvalidRequest", &[]),
            (
                "PUT {b}/c",
                &[("x-amz-copy-source", "{b}/k"), ("x-amz-copy-source-if-match", "\"x\"")],
                "",
                412,
                "PreconditionFailed",
                &[("Condition", "x-amz-copy-source-If-Match")],
            ),
            (
                "PUT {b}/c",
                &[("x-amz-copy-source", "{b}/k"), ("x-amz-copy-source-if-unmodified-since", PAST)],
                "",
                412,
                "PreconditionFailed",
                &[("Condition", "x-amz-copy-source-If-Unmodified-Since")],
            ),
            (
                "PUT {b}/k",
                &[("x-amz-copy-source", "{v}/k"), ("if-none-match", "*")],
                "",
                404,
                "NoSuchKey",
                &[("Key", "k")],
            ),
            // What is missing is the destination.
            (
                "PUT {b}/c",
                &[("x-amz-copy-source", "{b}/k"), ("if-match", "\"x\"")],
                "",
                404,
                "NoSuchKey",
                &[("Key", "c")],
            ),
            (
                "PUT {v}/k",
                &[("x-amz-copy-source", "{b}/k"), ("if-match", "\"x\"")],
                "",
                404,
                "NoSuchKey",
                &[("Key", "k")],
            ),
            ("PUT {v}/c", &[("x-amz-copy-source", "{v}/k?versionId={m}")], "", 400, "InvalidRequest", &[]),
            (
                "PUT {b}/c",
                &[("x-amz-copy-source", "{b}/k"), ("x-amz-source-expected-bucket-owner", "12")],
                "",
                400,
                "InvalidBucketOwnerAWSAccountID",
                &[],
            ),
            (
                "PUT {b}/c",
                &[("x-amz-copy-source", "{b}/k"), ("x-amz-metadata-directive", "KEEP")],
                "",
                400,
                "InvalidArgument",
                &[("ArgumentName", "x-amz-metadata-directive"), ("ArgumentValue", "KEEP")],
            ),
            (
                "PUT {b}/c",
                &[("x-amz-copy-source", "{b}/k"), ("x-amz-tagging-directive", "KEEP")],
                "",
                400,
                "InvalidArgument",
                &[("ArgumentName", "x-amz-tagging-directive"), ("ArgumentValue", "KEEP")],
            ),
            (
                "PUT {b}/k?partNumber=1&uploadId={u}",
                &[("x-amz-copy-source", "{b}/k"), ("x-amz-copy-source-range", "bytes=0-9")],
                "",
                416,
                "InvalidRange",
                &[("RangeRequested", "bytes=0-9"), ("ActualObjectSize", "5")],
            ),
            (
                "PUT {b}/k?partNumber=1&uploadId={u}",
                &[("x-amz-copy-source", "{b}/k"), ("x-amz-copy-source-range", "bytes=1-")],
                "",
                400,
                "InvalidArgument",
                &[("ArgumentName", "x-amz-copy-source-range"), ("ArgumentValue", "bytes=1-")],
            ),
        ])
        .await;
}

#[tokio::test]
async fn of_renames() {
    const SOURCE: &str = "x-amz-rename-source";
    let missing: Pairs = &[("Key", "no b+")];
    let argument: Pairs = &[("ArgumentName", SOURCE), ("ArgumentValue", "k")];
    let token: Pairs = &[("ArgumentName", "x-amz-client-token"), ("ArgumentValue", "a b")];
    Stage::set()
        .await
        .check(&[
            ("PUT {b}/c?renameObject", &[], "", 400, "InvalidRequest", &[]),
            ("PUT {b}/c?renameObject", &[(SOURCE, "k")], "", 400, "InvalidArgument", argument),
            ("PUT {b}/c?renameObject", &[(SOURCE, "{b}/no+b%2B")], "", 404, "NoSuchKey", missing),
            ("PUT {v}/c?renameObject", &[(SOURCE, "{v}/k")], "", 404, "NoSuchKey", &[("Key", "k")]),
            ("PUT {n}/c?renameObject", &[(SOURCE, "{n}/k")], "", 404, "NoSuchBucket", &[("BucketName", "{none}")]),
            ("PUT {v}/c?renameObject", &[(SOURCE, "{b}/k")], "", 400, "InvalidRequest", &[]),
            ("PUT {b}/k?renameObject", &[(SOURCE, "{b}/k")], "", 400, "InvalidRequest", &[]),
            ("PUT {b}/c?renameObject", &[(SOURCE, "{b}/k?versionId=null")], "", 400, "InvalidRequest", &[]),
            (
                "PUT {b}/c?renameObject",
                &[(SOURCE, "{b}/k"), ("x-amz-client-token", "a b")],
                "",
                400,
                "InvalidArgument",
                token,
            ),
            (
                "PUT {b}/c?renameObject",
                &[(SOURCE, "{b}/k"), ("x-amz-rename-source-if-match", "\"x\"")],
                "",
                412,
                "PreconditionFailed",
                &[("Condition", "x-amz-rename-source-If-Match")],
            ),
            (
                "PUT {b}/c?renameObject",
                &[(SOURCE, "{b}/k"), ("x-amz-rename-source-if-none-match", "*")],
                "",
                412,
                "PreconditionFailed",
                &[("Condition", "x-amz-rename-source-If-None-Match")],
            ),
            (
                "PUT {b}/c?renameObject",
                &[(SOURCE, "{b}/k"), ("x-amz-rename-source-if-unmodified-since", PAST)],
                "",
                412,
                "PreconditionFailed",
                &[("Condition", "x-amz-rename-source-If-Unmodified-Since")],
            ),
            ("PUT {b}/c?renameObject", &[(SOURCE, "{b}/k"), ("if-match", "*")], "", 404, "NoSuchKey", &[("Key", "c")]),
            (
                "PUT {b}/{long}?renameObject",
                &[(SOURCE, "{b}/k")],
                "",
                400,
                "KeyTooLongError",
                &[("Size", "1025"), ("MaxSizeAllowed", "1024")],
            ),
            ("PUT {b}/c", &[(SOURCE, "{b}/k")], "x", 501, "NotImplemented", &[("Header", SOURCE)]),
        ])
        .await;
}

#[tokio::test]
async fn of_appends() {
    const OFFSET: &str = "x-amz-write-offset-bytes";
    let word: Pairs = &[("ArgumentName", OFFSET), ("ArgumentValue", "one")];
    let digests: Pairs =
        &[("ExpectedDigest", "d41d8cd98f00b204e9800998ecf8427e"), ("CalculatedDigest", "ndTkYSaMgDT1yFZOFVxnpg==")];
    Stage::set()
        .await
        .check(&[
            ("PUT {b}/k", &[(OFFSET, "one")], "x", 400, "InvalidArgument", word),
            ("PUT {b}/k", &[(OFFSET, "-1")], "x", 400, "InvalidWriteOffset", &[]),
            ("PUT {b}/k", &[(OFFSET, "0")], "x", 400, "InvalidWriteOffset", &[]),
            ("PUT {b}/k", &[(OFFSET, "4")], "x", 400, "InvalidWriteOffset", &[]),
            ("PUT {b}/k", &[(OFFSET, "6")], "x", 400, "InvalidWriteOffset", &[]),
            ("PUT {b}/none", &[(OFFSET, "1")], "x", 400, "InvalidWriteOffset", &[]),
            ("PUT {n}/k", &[(OFFSET, "0")], "x", 404, "NoSuchBucket", &[("BucketName", "{none}")]),
            ("PUT {v}/k", &[(OFFSET, "0")], "x", 400, "InvalidRequest", &[]),
            ("PUT {b}/k", &[(OFFSET, "5")], "", 400, "InvalidRequest", &[]),
            ("PUT {b}/k", &[(OFFSET, "5"), ("x-amz-meta-a", "b")], "x", 400, "InvalidRequest", &[]),
            ("PUT {b}/k", &[(OFFSET, "5"), ("x-amz-tagging", "a=b")], "x", 400, "InvalidRequest", &[]),
            ("PUT {b}/k", &[(OFFSET, "5"), ("x-amz-storage-class", "GLACIER")], "x", 400, "InvalidRequest", &[]),
            (
                "PUT {b}/k",
                &[(OFFSET, "5"), ("if-match", "\"x\"")],
                "x",
                412,
                "PreconditionFailed",
                &[("Condition", "If-Match")],
            ),
            (
                "PUT {b}/k",
                &[(OFFSET, "5"), ("if-none-match", "*")],
                "x",
                412,
                "PreconditionFailed",
                &[("Condition", "If-None-Match")],
            ),
            (
                "PUT {b}/k",
                &[(OFFSET, "5"), ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")],
                "x",
                400,
                "BadDigest",
                digests,
            ),
            (
                "PUT {b}/k",
                &[(OFFSET, "5"), ("x-amz-server-side-encryption", "AES256")],
                "x",
                400,
                "EncryptionTypeMismatch",
                &[],
            ),
            (
                "PUT {b}/k?partNumber=1&uploadId={u}",
                &[(OFFSET, "0")],
                "x",
                501,
                "NotImplemented",
                &[("Header", OFFSET)],
            ),
            ("POST {b}/k?uploads", &[(OFFSET, "0")], "", 501, "NotImplemented", &[("Header", OFFSET)]),
        ])
        .await;
}

/// The source of a copy is read as S3 reads it: a plus sign is a space.
#[tokio::test]
async fn a_plus_sign_in_a_source_is_a_space() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}/a%20b")).body("space").ok().await;
    s3.put(&format!("{bucket}/a%2Bb")).body("plus").ok().await;
    for (source, content) in [("a+b", "space"), ("a%20b", "space"), ("a%2Bb", "plus"), ("a%2bb", "plus")] {
        s3.put(&format!("{bucket}/copy")).header("x-amz-copy-source", &format!("{bucket}/{source}")).ok().await;
        assert_eq!(s3.get(&format!("{bucket}/copy")).ok().await.text(), content, "{source}");
    }
}

#[tokio::test]
async fn of_uploads() {
    let no_upload: Pairs = &[("UploadId", "none")];
    let upload: Pairs = &[("UploadId", "{u}")];
    let complete_none =
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>";
    let absent =
        "<CompleteMultipartUpload><Part><PartNumber>7</PartNumber><ETag>{t}</ETag></Part></CompleteMultipartUpload>";
    let backwards = "<CompleteMultipartUpload><Part><PartNumber>2</PartNumber><ETag>{t}</ETag></Part><Part><PartNumber>1</PartNumber><ETag>{t}</ETag></Part></CompleteMultipartUpload>";
    let small = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{t}</ETag></Part><Part><PartNumber>2</PartNumber><ETag>{t}</ETag></Part></CompleteMultipartUpload>";
    let sizes: Pairs = &[("ProposedSize", "5"), ("MinSizeAllowed", "5242880"), ("PartNumber", "1"), ("ETag", "{t}")];
    let zero: Pairs = &[("ArgumentName", "partNumber"), ("ArgumentValue", "0")];
    let word: Pairs = &[("ArgumentName", "partNumber"), ("ArgumentValue", "one")];
    let most: Pairs = &[("ArgumentName", "max-parts"), ("ArgumentValue", "-1")];
    let marker: Pairs = &[("ArgumentName", "part-number-marker"), ("ArgumentValue", "-1")];
    let alone: Pairs = &[("ArgumentName", "uploadId"), ("ArgumentValue", "{u}")];
    Stage::set()
        .await
        .check(&[
            ("PUT {b}/k?partNumber=1&uploadId=none", &[], "x", 404, "NoSuchUpload", no_upload),
            ("POST {b}/k?uploadId=none", &[], complete_none, 404, "NoSuchUpload", no_upload),
            ("GET {b}/k?uploadId=none", &[], "", 404, "NoSuchUpload", no_upload),
            ("DELETE {b}/k?uploadId=none", &[], "", 404, "NoSuchUpload", no_upload),
            // An upload belongs to its key.
            ("GET {b}/other?uploadId={u}", &[], "", 404, "NoSuchUpload", upload),
            ("PUT {b}/k?partNumber=0&uploadId={u}", &[], "x", 400, "InvalidArgument", zero),
            ("PUT {b}/k?partNumber=one&uploadId={u}", &[], "x", 400, "InvalidArgument", word),
            ("PUT {b}/k?uploadId={u}", &[], "x", 400, "InvalidArgument", alone),
            ("GET {b}/k?uploadId={u}&max-parts=-1", &[], "", 400, "InvalidArgument", most),
            ("GET {b}/k?uploadId={u}&part-number-marker=-1", &[], "", 400, "InvalidArgument", marker),
            ("POST {b}/k?uploadId={u}", &[], "<CompleteMultipartUpload/>", 400, "MalformedXML", &[]),
            (
                "POST {b}/k?uploadId={u}",
                &[],
                absent,
                400,
                "InvalidPart",
                &[("UploadId", "{u}"), ("PartNumber", "7"), ("ETag", "{t}")],
            ),
            ("POST {b}/k?uploadId={u}", &[("x-amz-mp-object-size", "-1")], small, 400, "InvalidRequest", &[]),
            ("POST {b}/k?uploadId={u}", &[], backwards, 400, "InvalidPartOrder", upload),
            ("POST {b}/k?uploadId={u}", &[], small, 400, "EntityTooSmall", sizes),
        ])
        .await;
}

#[tokio::test]
async fn of_signatures() {
    let cluster = shared().await;
    let (key, endpoint) = (cluster.root.access_key.as_str(), cluster.endpoint(0));
    let bucket = new_bucket(&cluster.s3(0)).await;
    let nobody = S3::new(&endpoint, "NOBODY", "secret");
    let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let reply = nobody.get(&bucket).send().await;
    assert_refused(&reply, (403, "InvalidAccessKeyId"), &bucket, vec![named("AWSAccessKeyId", "NOBODY")], "nobody");

    let forger = S3::new(&endpoint, key, "not the secret");
    let url = forger.presign(&http::Method::GET, &bucket, SystemTime::now(), Duration::from_secs(60));
    for (reply, payload, what) in [
        (forger.get(&bucket).send().await, hex::encode(Sha256::digest("")), "a forger"),
        (cluster.anonymous().get(&url).send().await, "UNSIGNED-PAYLOAD".to_owned(), "a forged URL"),
    ] {
        let said = |name: &str| reply.element(name).unwrap_or_else(|| panic!("{what}: {name}: {}", reply.text()));
        let (string, request) = (said("StringToSign"), said("CanonicalRequest"));
        assert!(request.starts_with(&format!("GET\n{bucket}\n")), "{what}: {request}");
        assert!(request.ends_with(&format!("\n{payload}")), "{what}: {request}");
        assert!(string.ends_with(&format!("\n{}", hex::encode(Sha256::digest(&request)))), "{what}: {string}");
        let provided = said("SignatureProvided");
        assert!(provided.len() == 64 && provided.bytes().all(|byte| byte.is_ascii_hexdigit()), "{what}: {provided}");
        let bytes = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        let elements = vec![
            named("AWSAccessKeyId", key),
            named("StringToSign", &string),
            named("SignatureProvided", &provided),
            named("StringToSignBytes", &bytes(&string)),
            named("CanonicalRequest", &request),
            named("CanonicalRequestBytes", &bytes(&request)),
        ];
        assert_refused(&reply, (403, "SignatureDoesNotMatch"), &bucket, elements, what);
        // By the texts that it is told a client gets its signature right, with its own secret alone.
        assert!(!reply.text().contains(&cluster.root.secret_key), "{what}");
    }

    let s3 = cluster.s3(0);
    let presigned = s3.presign(&http::Method::GET, &bucket, SystemTime::now(), Duration::from_secs(60));
    let unsigned = cluster.anonymous();
    let reply = unsigned.get(&presigned).header("x-amz-meta-b", "x").header("x-amz-acl", "x").send().await;
    let elements = vec![named("HeadersNotSigned", "x-amz-acl, x-amz-meta-b")];
    assert_refused(&reply, (403, "AccessDenied"), &bucket, elements, "headers that are not signed");
    for (from, to, elements) in [
        ("X-Amz-Signature=", "x-signature=", vec![]),
        ("X-Amz-Expires=60", "X-Amz-Expires=soon", vec![]),
        ("%2Fs3%2F", "%2Fsqs%2F", vec![]),
        ("us-east-1", "mars-1", vec![named("Region", "us-east-1")]),
    ] {
        let reply = cluster.anonymous().get(&presigned.replace(from, to)).send().await;
        assert_refused(&reply, (400, "AuthorizationQueryParametersError"), &bucket, elements, to);
    }

    let long_ago = SystemTime::now() - Duration::from_secs(3_600);
    let reply = s3.get(&bucket).signed_at(long_ago).send().await;
    let said = |name: &str| named(name, &reply.element(name).expect("the error says it"));
    let elements = vec![said("RequestTime"), said("ServerTime"), named("MaxAllowedSkewMilliseconds", "900000")];
    assert!(elements[1].1.ends_with('Z') && elements[1].1.starts_with("20"), "{}", elements[1].1);
    assert_refused(&reply, (403, "RequestTimeTooSkewed"), &bucket, elements, "long ago");

    let expired = s3.presign(&http::Method::GET, &bucket, long_ago, Duration::from_secs(60));
    let reply = cluster.anonymous().get(&expired).send().await;
    let said = |name: &str| named(name, &reply.element(name).expect("the error says it"));
    let elements = vec![named("X-Amz-Expires", "60"), said("Expires"), said("ServerTime")];
    assert!(elements[1].1 < elements[2].1, "it expired before now: {elements:?}");
    assert_refused(&reply, (403, "AccessDenied"), &bucket, elements, "expired");
}
