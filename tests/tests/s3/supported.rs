//! The page that says what is supported of S3, operation by operation, for programs: `tests/conformance/supported.json`. It is
//! made of what AWS documents and of what the gateway's own tables take, so that it says what requests get;
//! [`crate::promises`] tries each header and key. `ANNULUS_BLESS=1` makes it anew.

use std::path::Path;

use annulus_gateway::auth::supported;
use annulus_tests::cluster::shared;
use serde_json::{Map, Value, json};

use crate::documented::{Documented, documented};
use crate::requests::{Request, Stage, request};

/// What an operation does not do, though it takes the header or the element, and the answer to whoever asks for it.
struct Limit {
    operation: &'static str,
    what: &'static str,
    asked: Request,
    answer: (u16, &'static str),
}

fn limits() -> Vec<Limit> {
    let limit = |operation, what, asked, answer| Limit { operation, what, asked, answer };
    let header = |operation, name, value| request(operation).with_header(name, value);
    let body = |operation, body| request(operation).with_body(body);
    let not_implemented = (501, "NotImplemented");
    let dual_layer = |operation| {
        let asked = header(operation, "x-amz-server-side-encryption", "aws:kms:dsse");
        limit(operation, "x-amz-server-side-encryption: aws:kms:dsse", asked, not_implemented)
    };
    vec![
        dual_layer("CopyObject"),
        dual_layer("CreateMultipartUpload"),
        dual_layer("PutObject"),
        limit(
            "CreateBucket",
            "LocationConstraint of another region",
            body(
                "CreateBucket",
                "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>",
            ),
            (400, "IllegalLocationConstraintException"),
        ),
        limit(
            "CreateBucket",
            "Bucket and Location of directory buckets",
            body(
                "CreateBucket",
                "<CreateBucketConfiguration><Bucket><Type>Directory</Type></Bucket></CreateBucketConfiguration>",
            ),
            not_implemented,
        ),
        limit(
            "PutBucketAccelerateConfiguration",
            "Status Enabled",
            body(
                "PutBucketAccelerateConfiguration",
                "<AccelerateConfiguration><Status>Enabled</Status></AccelerateConfiguration>",
            ),
            not_implemented,
        ),
        limit("GetObjectTorrent", "there are no torrents", request("GetObjectTorrent"), (404, "NoSuchKey")),
        limit(
            "PutBucketEncryption",
            "SSEAlgorithm aws:kms:dsse",
            body(
                "PutBucketEncryption",
                "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms:dsse</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>",
            ),
            not_implemented,
        ),
        limit(
            "PutBucketLifecycleConfiguration",
            "Transition and NoncurrentVersionTransition",
            body(
                "PutBucketLifecycleConfiguration",
                "<LifecycleConfiguration><Rule><Filter><Prefix>x</Prefix></Filter><Status>Enabled</Status><Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition></Rule></LifecycleConfiguration>",
            ),
            not_implemented,
        ),
        limit(
            "PutBucketLifecycleConfiguration",
            "x-amz-transition-default-minimum-object-size: varies_by_storage_class",
            header(
                "PutBucketLifecycleConfiguration",
                "x-amz-transition-default-minimum-object-size",
                "varies_by_storage_class",
            ),
            not_implemented,
        ),
        limit(
            "PutBucketNotificationConfiguration",
            "EventBridgeConfiguration",
            body(
                "PutBucketNotificationConfiguration",
                "<NotificationConfiguration><EventBridgeConfiguration/></NotificationConfiguration>",
            ),
            not_implemented,
        ),
        limit(
            "PutBucketVersioning",
            "MfaDelete",
            body(
                "PutBucketVersioning",
                "<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete></VersioningConfiguration>",
            ),
            not_implemented,
        ),
    ]
}

/// Whether it can only answer that nothing is there, as what would put something there is not built.
fn finds_nothing(asked: &Documented, all: &[Documented]) -> bool {
    let mut writers = all.iter().filter(|other| other.method == "PUT" && other.is_beside(asked)).peekable();
    writers.peek().is_some() && !writers.any(|writer| supported::is_operation(writer.operation))
}

fn entry(asked: &Documented, all: &[Documented], limits: &[Limit]) -> Value {
    let operation = asked.operation;
    if !supported::is_operation(operation) {
        return json!({"supported": "no"});
    }
    let mut entry = Map::new();
    let headers = asked.headers.iter().filter(|name| !supported::takes_header(operation, name));
    let refused: Vec<_> =
        headers.chain(asked.keys.iter().filter(|key| !supported::takes_key(operation, key))).collect();
    let limits: Vec<_> = limits.iter().filter(|limit| limit.operation == operation).map(|limit| limit.what).collect();
    let nothing = finds_nothing(asked, all);
    let whole = refused.is_empty() && limits.is_empty() && !nothing;
    entry.insert("supported".to_owned(), json!(if whole { "yes" } else { "partial" }));
    if !refused.is_empty() {
        entry.insert("refused".to_owned(), json!(refused));
    }
    if !limits.is_empty() {
        entry.insert("limits".to_owned(), json!(limits));
    }
    if nothing {
        entry.insert("answers".to_owned(), json!("that there is none: it cannot be set"));
    }
    Value::Object(entry)
}

#[test]
fn the_page_is_current() {
    let (all, limits) = (documented(), limits());
    let entries = all.iter().map(|asked| (asked.operation.to_owned(), entry(asked, &all, &limits)));
    let page = Value::Object(entries.collect());
    let page = serde_json::to_string_pretty(&page).expect("a page is valid JSON") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/supported.json");
    if std::env::var_os("ANNULUS_BLESS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let committed = std::fs::read_to_string(&path).expect("the page is there");
    assert!(committed == page, "conformance/supported.json is out of date: ANNULUS_BLESS=1 makes it anew");
}

#[tokio::test]
async fn what_the_page_calls_a_limit_is_refused() {
    let s3 = shared().await.s3(0);
    let all = documented();
    for limit in limits() {
        let asked = all.iter().find(|asked| asked.operation == limit.operation).expect("a limit is an operation's");
        let (status, code) = limit.answer;
        Stage::of(&s3, asked).await.call(&limit.asked).refused(status, code).await;
    }
}
