//! What every operation refuses, whatever else it does: the operations are those of AWS's own model that are built, so that none
//! is left out. Afterwards the rest of an error is compared as in `refusals`.

use annulus_gateway::auth::supported;
use annulus_tests::client::{Reply, S3};
use annulus_tests::cluster::shared;

use crate::documented::{Documented, documented};
use crate::refusals::assert_refused;
use crate::requests::{Stage, request, takes_document};
use crate::{fresh_name, new_bucket};

/// Operations that are built.
fn built() -> impl Iterator<Item = Documented> {
    documented().into_iter().filter(|asked| supported::is_operation(asked.operation))
}

/// The answer to the operation's request, without a body for `HEAD`.
fn check(reply: &Reply, asked: &Documented, bucket: &str, error: (u16, &str), elements: &[(&str, &str)]) {
    if asked.method == "HEAD" {
        assert_eq!((reply.status.as_u16(), reply.body.len()), (error.0, 0), "{}", asked.operation);
        return;
    }
    let elements = elements.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    assert_refused(reply, error, &asked.path(bucket, "k"), elements, asked.operation);
}

async fn ask(s3: &S3, asked: &Documented, bucket: &str) -> Reply {
    Stage::in_bucket(s3, asked, bucket.to_owned()).call(&request(asked.operation)).send().await
}

#[tokio::test]
async fn of_a_bucket_that_is_not_there() {
    let s3 = shared().await.s3(0);
    let name = fresh_name("none");
    let bucket = format!("/{name}");
    for asked in built().filter(|asked| !matches!(asked.operation, "ListBuckets" | "CreateBucket")) {
        let reply = ask(&s3, &asked, &bucket).await;
        check(&reply, &asked, &bucket, (404, "NoSuchBucket"), &[("BucketName", &name)]);
    }
}

#[tokio::test]
async fn of_who_does_not_sign() {
    let cluster = shared().await;
    let (s3, anonymous) = (cluster.s3(0), cluster.anonymous());
    let bucket = new_bucket(&s3).await;
    s3.put(&format!("{bucket}/k")).body("hello").ok().await;
    let mut answered = Vec::new();
    // There are no torrents, whoever asks and whatever for.
    for asked in built().filter(|asked| asked.operation != "GetObjectTorrent") {
        let reply = ask(&anonymous, &asked, &bucket).await;
        if reply.status == 403 {
            check(&reply, &asked, &bucket, (403, "AccessDenied"), &[]);
        } else {
            answered.push(format!("{}: {} {}", asked.operation, reply.status, reply.text()));
        }
    }
    assert!(answered.is_empty(), "told to nobody:\n{}", answered.join("\n"));
    assert_eq!(s3.get(&format!("{bucket}/k")).ok().await.text(), "hello");
}

#[tokio::test]
async fn of_another_owner_than_is_expected() {
    const HEADER: &str = "x-amz-expected-bucket-owner";
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let mut count = 0;
    for asked in built().filter(|asked| asked.headers.contains(&HEADER)) {
        let stage = Stage::in_bucket(&s3, &asked, bucket.clone());
        for (owner, error) in [
            ("000000000000", (403, "AccessDenied")),
            ("12", (400, "InvalidBucketOwnerAWSAccountID")),
            ("me", (400, "InvalidBucketOwnerAWSAccountID")),
        ] {
            let reply = stage.call(&request(asked.operation).with_header(HEADER, owner)).send().await;
            check(&reply, &asked, &bucket, error, &[]);
        }
        count += 1;
    }
    assert!(count > 60, "nearly every operation knows the header: {count}");
    s3.head(&bucket).ok().await;
}

/// Every document that a bucket or an object takes, broken off.
#[tokio::test]
async fn of_documents_that_break_off() {
    let s3 = shared().await.s3(0);
    let mut count = 0;
    for asked in built() {
        let code = match asked.operation {
            "PutBucketAcl" | "PutObjectAcl" => "MalformedACLError",
            "PutBucketPolicy" => "MalformedPolicy",
            operation if takes_document(operation) => "MalformedXML",
            _ => continue,
        };
        let stage = Stage::of(&s3, &asked).await;
        for body in ["<broken", "<Broken></Other>", "{", "\u{1}"] {
            let document = request(asked.operation).without_header("x-amz-acl").with_body(body);
            let reply = stage.call(&document).send().await;
            assert_eq!(reply.code().as_deref(), Some(code), "{} {body:?}: {}", asked.operation, reply.text());
            assert_eq!(reply.status, 400, "{} {body:?}", asked.operation);
        }
        count += 1;
    }
    assert!(count > 18, "documents: {count}");
}
