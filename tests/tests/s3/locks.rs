//! Object lock: what is locked stays, whoever asks and however.

use annulus_tests::client::{Call, S3};
use annulus_tests::cluster::shared;

use crate::{fresh_name, new_bucket};

/// Days that no test sees, the second later than the first.
const UNTIL: [&str; 2] = ["2040-01-01T00:00:00Z", "2041-01-01T00:00:00Z"];

/// A new bucket whose versions can be locked.
async fn lockable_bucket(s3: &S3) -> String {
    let bucket = format!("/{}", fresh_name("locked"));
    s3.put(&bucket).header("x-amz-bucket-object-lock-enabled", "true").ok().await;
    bucket
}

/// Puts an object, and gives its version.
async fn put(s3: &S3, target: &str, locks: &[(&'static str, &str)]) -> String {
    let call = s3.put(target).body("kept").header("content-md5", "TYtghPPRZ7dsrGaiKpG+Ag==");
    let call = locks.iter().fold(call, |call, (name, value)| call.header(name, value));
    call.ok().await.header("x-amz-version-id").expect("it is kept").to_owned()
}

fn retention(mode: &str, until: &str) -> String {
    format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>")
}

fn configuration(rule: &str) -> String {
    format!("<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</ObjectLockConfiguration>")
}

fn bypassing(call: Call<'_>) -> Call<'_> {
    call.header("x-amz-bypass-governance-retention", "true")
}

#[tokio::test]
async fn a_lockable_bucket_keeps_versions_for_good() {
    let cluster = shared().await;
    let (here, there) = (cluster.s3(0), cluster.s3(1));
    let bucket = lockable_bucket(&here).await;
    let versioning = there.get(&format!("{bucket}?versioning")).ok().await;
    assert_eq!(versioning.element("Status").as_deref(), Some("Enabled"));
    let suspend = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    there.put(&format!("{bucket}?versioning")).body(suspend).refused(409, "InvalidBucketState").await;
    let lock = there.get(&format!("{bucket}?object-lock")).ok().await;
    assert_eq!(lock.element("ObjectLockEnabled").as_deref(), Some("Enabled"));
    let other = new_bucket(&here).await;
    here.get(&format!("{other}?object-lock")).refused(404, "ObjectLockConfigurationNotFoundError").await;
    here.put(&format!("{other}?object-lock")).body(configuration("")).refused(409, "InvalidBucketState").await;
    let enable = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    here.put(&format!("{other}?versioning")).body(enable).ok().await;
    here.put(&format!("{other}?object-lock")).body(configuration("")).ok().await;
    there.get(&format!("{other}?object-lock")).ok().await;
}

#[tokio::test]
async fn governance_yields_to_those_who_may_bypass_it_and_compliance_to_nobody() {
    let s3 = shared().await.s3(0);
    let bucket = lockable_bucket(&s3).await;
    for (mode, yields) in [("GOVERNANCE", true), ("COMPLIANCE", false)] {
        let target = format!("{bucket}/{mode}");
        let locks = [("x-amz-object-lock-mode", mode), ("x-amz-object-lock-retain-until-date", UNTIL[0])];
        let version = put(&s3, &target, &locks).await;
        let of_version = format!("{target}?versionId={version}");
        let head = s3.head(&of_version).ok().await;
        assert_eq!(head.header("x-amz-object-lock-mode"), Some(mode));
        let until = head.header("x-amz-object-lock-retain-until-date").expect("a day");
        assert!(until.starts_with("2040-01-01T00:00:00"), "{until}");
        s3.delete(&of_version).refused(403, "AccessDenied").await;
        // A plain delete removes nothing, and so is let through.
        let marker = s3.delete(&target).ok().await;
        s3.delete(&of_version).refused(403, "AccessDenied").await;
        s3.delete(&format!("{target}?versionId={}", marker.header("x-amz-version-id").expect("a marker"))).ok().await;
        let set = |body: String| s3.put(&format!("{target}?retention")).body(body);
        set(retention(mode, UNTIL[1])).ok().await;
        set(retention(mode, UNTIL[0])).refused(403, "AccessDenied").await;
        set("<Retention></Retention>".to_owned()).refused(403, "AccessDenied").await;
        let stored = s3.get(&format!("{target}?retention")).ok().await;
        assert_eq!(stored.element("Mode").as_deref(), Some(mode));
        assert!(stored.element("RetainUntilDate").is_some_and(|until| until.starts_with("2041-01-01T00:00:00")));
        if yields {
            bypassing(set(retention(mode, UNTIL[0]))).ok().await;
            bypassing(s3.delete(&of_version)).ok().await;
            s3.get(&of_version).refused(404, "NoSuchVersion").await;
        } else {
            bypassing(set(retention(mode, UNTIL[0]))).refused(403, "AccessDenied").await;
            bypassing(set(retention("GOVERNANCE", UNTIL[1]))).refused(403, "AccessDenied").await;
            bypassing(s3.delete(&of_version)).refused(403, "AccessDenied").await;
            assert_eq!(s3.get(&of_version).ok().await.text(), "kept");
        }
    }
}

#[tokio::test]
async fn a_legal_hold_holds_until_it_is_lifted() {
    let s3 = shared().await.s3(0);
    let bucket = lockable_bucket(&s3).await;
    let target = format!("{bucket}/k");
    let version = put(&s3, &target, &[]).await;
    let hold = format!("{target}?legal-hold");
    s3.get(&hold).refused(404, "NoSuchObjectLockConfiguration").await;
    s3.put(&hold).body("<LegalHold><Status>ON</Status></LegalHold>").ok().await;
    assert_eq!(s3.get(&hold).ok().await.element("Status").as_deref(), Some("ON"));
    assert_eq!(s3.head(&target).ok().await.header("x-amz-object-lock-legal-hold"), Some("ON"));
    bypassing(s3.delete(&format!("{target}?versionId={version}"))).refused(403, "AccessDenied").await;
    let body = format!("<Delete><Object><Key>k</Key><VersionId>{version}</VersionId></Object></Delete>");
    let many = bypassing(s3.post(&format!("{bucket}?delete"))).body(body).ok().await;
    assert_eq!(many.element("Code").as_deref(), Some("AccessDenied"));
    s3.put(&hold).body("<LegalHold><Status>off</Status></LegalHold>").refused(400, "MalformedXML").await;
    s3.put(&hold).body("<LegalHold><Status>OFF</Status></LegalHold>").ok().await;
    assert_eq!(s3.get(&hold).ok().await.element("Status").as_deref(), Some("OFF"));
    s3.delete(&format!("{target}?versionId={version}")).ok().await;
}

#[tokio::test]
async fn a_default_retention_is_given_to_what_comes_without_one() {
    let s3 = shared().await.s3(0);
    let bucket = lockable_bucket(&s3).await;
    let rule = |inner: &str| configuration(&format!("<Rule><DefaultRetention>{inner}</DefaultRetention></Rule>"));
    let set = |body: String| s3.put(&format!("{bucket}?object-lock")).body(body);
    for (inner, code) in [
        ("<Mode>governance</Mode><Days>1</Days>", "MalformedXML"),
        ("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>", "MalformedXML"),
        ("<Mode>GOVERNANCE</Mode>", "MalformedXML"),
        ("<Mode>GOVERNANCE</Mode><Days>0</Days>", "InvalidRetentionPeriod"),
        ("<Mode>GOVERNANCE</Mode><Years>101</Years>", "InvalidRetentionPeriod"),
    ] {
        set(rule(inner)).refused(400, code).await;
    }
    set(rule("<Mode>GOVERNANCE</Mode><Days>1</Days>")).ok().await;
    let target = format!("{bucket}/k");
    let version = put(&s3, &target, &[]).await;
    assert_eq!(s3.head(&target).ok().await.header("x-amz-object-lock-mode"), Some("GOVERNANCE"));
    s3.delete(&format!("{target}?versionId={version}")).refused(403, "AccessDenied").await;
    // What is locked must be checked.
    s3.put(&target).body("unchecked").refused(400, "InvalidRequest").await;
    let copied = s3.put(&format!("{bucket}/copy")).header("x-amz-copy-source", &target).ok().await;
    let copy = copied.header("x-amz-version-id").expect("a version").to_owned();
    s3.delete(&format!("{bucket}/copy?versionId={copy}")).refused(403, "AccessDenied").await;
    let upload = s3.post(&format!("{target}?uploads")).ok().await.element("UploadId").expect("an id");
    let part = s3.put(&format!("{target}?partNumber=1&uploadId={upload}")).body("part").ok().await;
    let tag = part.header("etag").expect("a tag");
    let body = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    s3.post(&format!("{target}?uploadId={upload}")).body(body).ok().await;
    let head = s3.head(&target).ok().await;
    assert_eq!(head.header("x-amz-object-lock-mode"), Some("GOVERNANCE"));
}

#[tokio::test]
async fn locks_that_make_no_sense_are_refused() {
    let s3 = shared().await.s3(0);
    let plain = format!("{}/k", new_bucket(&s3).await);
    let target = format!("{}/k", lockable_bucket(&s3).await);
    put(&s3, &target, &[]).await;
    s3.put(&plain).header("x-amz-object-lock-legal-hold", "ON").body("x").refused(400, "InvalidRequest").await;
    s3.put(&plain).body("x").ok().await;
    s3.put(&format!("{plain}?retention")).body(retention("GOVERNANCE", UNTIL[0])).refused(400, "InvalidRequest").await;
    s3.get(&format!("{plain}?retention")).refused(400, "InvalidRequest").await;
    s3.get(&format!("{plain}?legal-hold")).refused(400, "InvalidRequest").await;
    s3.get(&format!("{target}?retention")).refused(404, "NoSuchObjectLockConfiguration").await;
    let set = |body: String| s3.put(&format!("{target}?retention")).body(body);
    set(retention("governance", UNTIL[0])).refused(400, "MalformedXML").await;
    set(retention("GOVERNANCE", "2020-01-01T00:00:00Z")).refused(400, "InvalidArgument").await;
    set("<Retention><Mode>GOVERNANCE</Mode></Retention>".to_owned()).refused(400, "MalformedXML").await;
    for (name, value) in [
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-retain-until-date", UNTIL[0]),
        ("x-amz-object-lock-legal-hold", "on"),
    ] {
        s3.put(&target).header(name, value).body("x").refused(400, "InvalidArgument").await;
        s3.post(&format!("{target}?uploads")).header(name, value).refused(400, "InvalidArgument").await;
    }
    // Who may not bypass is not let by for asking.
    let other = shared().await.alt();
    bypassing(other.delete(&target)).refused(403, "AccessDenied").await;
}
