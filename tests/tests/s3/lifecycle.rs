//! Lifecycle rules: kept as they were written, refused when they make no sense, told in headers, and carried out.

use annulus_tests::client::S3;
use annulus_tests::cluster::{Cluster, Spec, shared};
use annulus_tests::wait;

use crate::new_bucket;

fn document(rules: &str) -> String {
    format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>")
}

fn rule(id: &str, prefix: &str, actions: &str) -> String {
    format!("<Rule><ID>{id}</ID><Filter><Prefix>{prefix}</Prefix></Filter><Status>Enabled</Status>{actions}</Rule>")
}

const ONE_DAY: &str = "<Expiration><Days>1</Days></Expiration>";

#[tokio::test]
async fn what_was_written_is_given_back() {
    let s3 = shared().await.s3(0);
    let target = format!("{}?lifecycle", new_bucket(&s3).await);
    s3.get(&target).refused(404, "NoSuchLifecycleConfiguration").await;
    assert_eq!(s3.delete(&target).send().await.status, 204);
    let tag = "<Tag><Key>a</Key><Value>b</Value></Tag>";
    let rules = [
        rule("one", "x/", ONE_DAY),
        format!("<Rule><ID>old</ID><Prefix>y/</Prefix><Status>Disabled</Status>{ONE_DAY}</Rule>"),
        format!(
            "<Rule><ID>and</ID><Filter><And><Prefix>z/</Prefix>{tag}<ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And></Filter>\
             <Status>Enabled</Status><NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays>\
             <NewerNoncurrentVersions>3</NewerNoncurrentVersions></NoncurrentVersionExpiration></Rule>"
        ),
        rule(
            "upload",
            "",
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
        ),
    ];
    s3.put(&target).body(document(&rules.concat())).ok().await;
    let got = s3.get(&target).ok().await;
    assert_eq!(got.elements("ID"), ["one", "old", "and", "upload"]);
    assert_eq!(got.elements("Prefix"), ["x/", "y/", "z/", ""]);
    assert_eq!(got.elements("Status"), ["Enabled", "Disabled", "Enabled", "Enabled"]);
    let numbers = ["Days", "ObjectSizeGreaterThan", "NoncurrentDays", "NewerNoncurrentVersions", "DaysAfterInitiation"];
    assert_eq!(numbers.map(|name| got.element(name).unwrap_or_default()), ["1", "5", "2", "3", "7"]);
    s3.delete(&target).ok().await;
    s3.get(&target).refused(404, "NoSuchLifecycleConfiguration").await;
}

#[tokio::test]
async fn documents_with_mistakes_are_refused_and_the_old_one_stays() {
    let s3 = shared().await.s3(0);
    let target = format!("{}?lifecycle", new_bucket(&s3).await);
    s3.put(&target).body(document(&rule("kept", "", ONE_DAY))).ok().await;
    let tagged = "<Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter><Status>Enabled</Status>";
    let abort =
        "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
    let wrong = [
        (String::new(), 400, "MalformedXML"),
        (rule("a", "", ONE_DAY).replace("Enabled", "enabled"), 400, "MalformedXML"),
        (rule("a", "", ONE_DAY).replace("<Filter><Prefix></Prefix></Filter>", ""), 400, "MalformedXML"),
        (
            rule("a", "", "<Expiration><Days>1</Days><Date>2030-01-01T00:00:00Z</Date></Expiration>"),
            400,
            "MalformedXML",
        ),
        (rule("a", "", ""), 400, "InvalidRequest"),
        (rule("a", "", "<Expiration><Days>0</Days></Expiration>"), 400, "InvalidArgument"),
        (rule("a", "", "<Expiration><Date>2030-01-01T05:00:00Z</Date></Expiration>"), 400, "InvalidArgument"),
        (rule(&"a".repeat(256), "", ONE_DAY), 400, "InvalidArgument"),
        (rule("a", "x", ONE_DAY) + &rule("a", "y", ONE_DAY), 400, "InvalidArgument"),
        (format!("<Rule><ID>a</ID>{tagged}{abort}</Rule>"), 400, "InvalidRequest"),
        (
            rule("a", "", "<Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition>"),
            501,
            "NotImplemented",
        ),
        (
            rule(
                "a",
                "",
                "<Transition><Date>2030-01-01T05:00:00Z</Date><StorageClass>GLACIER</StorageClass></Transition>",
            ),
            400,
            "InvalidArgument",
        ),
        (rule("a", "", "<Transition><StorageClass>GLACIER</StorageClass></Transition>"), 400, "MalformedXML"),
    ];
    for (rules, status, code) in wrong {
        s3.put(&target).body(document(&rules)).refused(status, code).await;
    }
    assert_eq!(s3.get(&target).ok().await.element("ID").as_deref(), Some("kept"));
}

#[tokio::test]
async fn as_many_rules_as_s3_takes_fit_and_what_does_not_is_refused_as_too_long() {
    let s3 = shared().await.s3(0);
    let target = format!("{}?lifecycle", new_bucket(&s3).await);
    let rules = |prefix_bytes: usize| -> String {
        (0..1_000).map(|number| rule(&format!("rule-{number}"), &"p".repeat(prefix_bytes), ONE_DAY)).collect()
    };
    // 96, 128 and 240 KiB are bounds, or were.
    for prefix_bytes in [90, 110, 200] {
        s3.put(&target).body(document(&rules(prefix_bytes))).ok().await;
    }
    assert_eq!(s3.get(&target).ok().await.elements("ID").len(), 1_000);
    s3.put(&target).body(document(&rules(300))).refused(400, "MaxMessageLengthExceeded").await;
    assert_eq!(s3.get(&target).ok().await.elements("Prefix")[0].len(), 200, "the old one stays");
}

#[tokio::test]
async fn headers_tell_when_something_expires() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let abort =
        "<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
    let rules = rule("a rule", "x/", "<Expiration><Days>3</Days></Expiration>") + &rule("abort", "", abort);
    s3.put(&format!("{bucket}?lifecycle")).body(document(&rules)).ok().await;
    let target = format!("{bucket}/x/k");
    let written = s3.put(&target).body("x").ok().await;
    let told = written.header("x-amz-expiration").expect("a rule means it").to_owned();
    assert!(told.starts_with("expiry-date=\"") && told.ends_with(" 00:00:00 GMT\", rule-id=\"a%20rule\""), "{told}");
    for call in [s3.get(&target), s3.head(&target)] {
        assert_eq!(call.ok().await.header("x-amz-expiration"), Some(told.as_str()));
    }
    assert_eq!(s3.put(&format!("{bucket}/y")).body("x").ok().await.header("x-amz-expiration"), None);
    let enable = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    s3.put(&format!("{bucket}?versioning")).body(enable).ok().await;
    let written = s3.put(&target).body("x").ok().await;
    let told = written.header("x-amz-expiration").expect("a rule means the current version").to_owned();
    for call in [s3.get(&target), s3.head(&target)] {
        assert_eq!(call.ok().await.header("x-amz-expiration"), Some(told.as_str()));
    }
    let of_version = format!("{target}?versionId={}", written.header("x-amz-version-id").expect("a version"));
    assert_eq!(s3.get(&of_version).ok().await.header("x-amz-expiration"), None);
    let upload = s3.post(&format!("{target}?uploads")).ok().await;
    assert_eq!(upload.header("x-amz-abort-rule-id"), Some("abort"));
    assert!(upload.header("x-amz-abort-date").is_some());
}

async fn keys(s3: &S3, bucket: &str) -> Vec<String> {
    s3.get(&format!("{bucket}?list-type=2")).ok().await.elements("Key")
}

#[tokio::test]
async fn what_has_expired_goes_and_nothing_else() {
    let spec = Spec { nodes: 1, gateways: 1, replication_factor: 1, lifecycle_day_seconds: 1, ..Spec::default() };
    let cluster = Cluster::start(spec).await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    for key in ["x/1", "x/2", "y/1"] {
        s3.put(&format!("{bucket}/{key}")).body("x").ok().await;
    }
    let upload = s3.post(&format!("{bucket}/x/u?uploads")).ok().await.element("UploadId").expect("an id");
    let abort =
        "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
    let rules = rule("x", "x/", &format!("{ONE_DAY}{abort}"));
    s3.put(&format!("{bucket}?lifecycle")).body(document(&rules)).ok().await;
    let gone = async || (keys(&s3, &bucket).await == ["y/1"]).then_some(());
    wait::until("the objects have expired", gone).await;
    let parts = format!("{bucket}/x/u?uploadId={upload}");
    wait::until("the upload is aborted", async || (s3.get(&parts).send().await.status == 404).then_some(())).await;
    // In a versioned bucket they are hidden first, and go for good by another rule.
    let versioned = new_bucket(&s3).await;
    let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    s3.put(&format!("{versioned}?versioning")).body(enabled).ok().await;
    s3.put(&format!("{versioned}/k")).body("x").ok().await;
    s3.put(&format!("{versioned}?lifecycle")).body(document(&rule("hide", "", ONE_DAY))).ok().await;
    let versions = async || s3.get(&format!("{versioned}?versions")).ok().await;
    let hidden = async || versions().await.text().contains("<DeleteMarker>").then_some(());
    wait::until("a delete marker hides the object", hidden).await;
    let noncurrent = "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>\
                      <Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>";
    s3.put(&format!("{versioned}?lifecycle")).body(document(&rule("remove", "", noncurrent))).ok().await;
    let empty = async || versions().await.elements("VersionId").is_empty().then_some(());
    wait::until("the version and its marker are gone", empty).await;
    assert_eq!(keys(&s3, &bucket).await, ["y/1"]);
}
