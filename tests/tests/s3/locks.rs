//! Object lock: what is locked stays, whoever asks and however.

use annulus_tests::client::{Call, S3};
use annulus_tests::cluster::{Cluster, Spec, shared};
use annulus_tests::wait;
use serde_json::{Value, json};

use crate::{PART_BYTES_MIN, content, fresh_name, new_bucket};

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
    here.put(&format!("{other}?object-lock"))
        .body(configuration(""))
        .with_md5()
        .refused(409, "InvalidBucketState")
        .await;
    let enable = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    here.put(&format!("{other}?versioning")).body(enable).ok().await;
    here.put(&format!("{other}?object-lock")).body(configuration("")).with_md5().ok().await;
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
        let set = |body: String| s3.put(&format!("{target}?retention")).body(body).with_md5();
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
    s3.put(&hold).body("<LegalHold><Status>ON</Status></LegalHold>").with_md5().ok().await;
    assert_eq!(s3.get(&hold).ok().await.element("Status").as_deref(), Some("ON"));
    assert_eq!(s3.head(&target).ok().await.header("x-amz-object-lock-legal-hold"), Some("ON"));
    bypassing(s3.delete(&format!("{target}?versionId={version}"))).refused(403, "AccessDenied").await;
    let body = format!("<Delete><Object><Key>k</Key><VersionId>{version}</VersionId></Object></Delete>");
    let many = bypassing(s3.post(&format!("{bucket}?delete"))).body(body).ok().await;
    assert_eq!(many.element("Code").as_deref(), Some("AccessDenied"));
    s3.put(&hold).body("<LegalHold><Status>off</Status></LegalHold>").with_md5().refused(400, "MalformedXML").await;
    s3.put(&hold).body("<LegalHold><Status>OFF</Status></LegalHold>").with_md5().ok().await;
    assert_eq!(s3.get(&hold).ok().await.element("Status").as_deref(), Some("OFF"));
    s3.delete(&format!("{target}?versionId={version}")).ok().await;
}

#[tokio::test]
async fn a_default_retention_is_given_to_what_comes_without_one() {
    let s3 = shared().await.s3(0);
    let bucket = lockable_bucket(&s3).await;
    let rule = |inner: &str| configuration(&format!("<Rule><DefaultRetention>{inner}</DefaultRetention></Rule>"));
    let set = |body: String| s3.put(&format!("{bucket}?object-lock")).body(body).with_md5();
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
    // What locks must come with a checksum.
    let hold = "<LegalHold><Status>ON</Status></LegalHold>";
    s3.put(&format!("{target}?legal-hold")).body(hold).refused(400, "InvalidRequest").await;
    s3.put(&format!("{target}?retention")).body(retention("GOVERNANCE", UNTIL[0])).refused(400, "InvalidRequest").await;
    s3.get(&format!("{target}?legal-hold")).refused(404, "NoSuchObjectLockConfiguration").await;
    s3.put(&format!("{plain}?retention"))
        .body(retention("GOVERNANCE", UNTIL[0]))
        .with_md5()
        .refused(400, "InvalidRequest")
        .await;
    s3.get(&format!("{plain}?retention")).refused(400, "InvalidRequest").await;
    s3.get(&format!("{plain}?legal-hold")).refused(400, "InvalidRequest").await;
    s3.get(&format!("{target}?retention")).refused(404, "NoSuchObjectLockConfiguration").await;
    let set = |body: String| s3.put(&format!("{target}?retention")).body(body).with_md5();
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

/// Lets everybody who signs do this with the bucket's objects, and nothing else.
async fn allow(s3: &S3, bucket: &str, actions: Value) {
    let resource = format!("arn:aws:s3:::{}/*", &bucket[1..]);
    let statement = json!({"Effect": "Allow", "Principal": "*", "Action": actions, "Resource": resource});
    let policy = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
    s3.put(&format!("{bucket}?policy")).body(policy).ok().await;
}

const UNTIL_2040: [(&str, &str); 2] =
    [("x-amz-object-lock-mode", "GOVERNANCE"), ("x-amz-object-lock-retain-until-date", UNTIL[0])];

#[tokio::test]
async fn to_bypass_takes_a_permission_and_a_header() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = lockable_bucket(&owner).await;
    let target = format!("{bucket}/k");
    let of_version = format!("{target}?versionId={}", put(&owner, &target, &UNTIL_2040).await);
    let shorten = || other.put(&format!("{target}?retention")).body("<Retention></Retention>").with_md5();
    allow(&owner, &bucket, json!(["s3:DeleteObjectVersion", "s3:PutObjectRetention"])).await;
    for call in [other.delete(&of_version), shorten()] {
        bypassing(call).refused(403, "AccessDenied").await;
    }
    allow(&owner, &bucket, json!(["s3:DeleteObjectVersion", "s3:PutObjectRetention", "s3:BypassGovernanceRetention"]))
        .await;
    for call in [other.delete(&of_version), shorten()] {
        call.refused(403, "AccessDenied").await;
    }
    bypassing(shorten()).ok().await;
    owner.put(&format!("{target}?retention")).body(retention("GOVERNANCE", UNTIL[0])).with_md5().ok().await;
    assert_eq!(bypassing(other.delete(&of_version)).send().await.status, 204);
    owner.get(&of_version).refused(404, "NoSuchVersion").await;
}

#[tokio::test]
async fn to_lock_takes_a_permission_beside_the_one_to_write() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = lockable_bucket(&owner).await;
    let target = format!("{bucket}/k");
    let locked = |locks: &[(&'static str, &str)]| {
        let call = other.put(&target).body("kept").header("content-md5", "TYtghPPRZ7dsrGaiKpG+Ag==");
        locks.iter().fold(call, |call, (name, value)| call.header(name, value))
    };
    allow(&owner, &bucket, json!("s3:PutObject")).await;
    locked(&[]).ok().await;
    locked(&UNTIL_2040).refused(403, "AccessDenied").await;
    locked(&[("x-amz-object-lock-legal-hold", "ON")]).refused(403, "AccessDenied").await;
    allow(&owner, &bucket, json!(["s3:PutObject", "s3:PutObjectRetention"])).await;
    locked(&UNTIL_2040).ok().await;
    locked(&[("x-amz-object-lock-legal-hold", "ON")]).refused(403, "AccessDenied").await;
}

#[tokio::test]
async fn one_request_deletes_what_is_free_and_names_what_is_locked() {
    let s3 = shared().await.s3(0);
    let bucket = lockable_bucket(&s3).await;
    let locks: [(&str, &[(&'static str, &str)]); 3] =
        [("free", &[]), ("retained", &UNTIL_2040), ("held", &[("x-amz-object-lock-legal-hold", "ON")])];
    let mut objects = Vec::new();
    for (key, locks) in locks {
        objects.push((key, put(&s3, &format!("{bucket}/{key}"), locks).await));
    }
    let named = |objects: &[(&str, String)]| {
        let object = |(key, version): &(&str, String)| {
            format!("<Object><Key>{key}</Key><VersionId>{version}</VersionId></Object>")
        };
        format!("<Delete>{}</Delete>", objects.iter().map(object).collect::<String>())
    };
    let many = s3.post(&format!("{bucket}?delete")).body(named(&objects)).ok().await;
    let (deleted, errors) = many.text().split_once("<Error>").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("both");
    assert!(deleted.contains("<Key>free</Key>") && !deleted.contains("<Key>held</Key>"), "{deleted}");
    assert!(errors.contains("<Key>retained</Key>") && errors.contains("<Key>held</Key>"), "{errors}");
    assert_eq!(many.elements("Code"), ["AccessDenied", "AccessDenied"]);
    let versions = objects[1..].iter().map(|(_, version)| version.clone()).collect::<Vec<_>>();
    assert!(versions.iter().all(|version| errors.contains(version)), "{errors}");
    // Of keys without a version nothing is removed: a marker hides each.
    let hidden =
        s3.post(&format!("{bucket}?delete")).body("<Delete><Object><Key>held</Key></Object></Delete>").ok().await;
    assert_eq!(hidden.element("DeleteMarker").as_deref(), Some("true"));
    let bypassed = bypassing(s3.post(&format!("{bucket}?delete"))).body(named(&objects[1..])).ok().await;
    assert_eq!(bypassed.elements("Code"), ["AccessDenied"], "a legal hold is nobody's to bypass");
    assert!(bypassed.text().contains("<Deleted><Key>retained</Key>"), "{}", bypassed.text());
}

#[tokio::test]
async fn copies_and_uploads_are_locked_as_their_requests_say() {
    let s3 = shared().await.s3(0);
    let bucket = lockable_bucket(&s3).await;
    let source = format!("{bucket}/source");
    let held = [UNTIL_2040[0], UNTIL_2040[1], ("x-amz-object-lock-legal-hold", "ON")];
    put(&s3, &source, &held).await;
    let with_locks = |call| held.iter().fold(call, |call: Call<'_>, (name, value)| call.header(name, value));
    let assert_locked = async |target: &str| {
        let head = s3.head(target).ok().await;
        assert_eq!(head.header("x-amz-object-lock-mode"), Some("GOVERNANCE"), "{target}");
        assert_eq!(head.header("x-amz-object-lock-legal-hold"), Some("ON"), "{target}");
        let version = head.header("x-amz-version-id").expect("a version").to_owned();
        bypassing(s3.delete(&format!("{target}?versionId={version}"))).refused(403, "AccessDenied").await;
    };
    assert_locked(&source).await;
    // The locks of a source are its own.
    let free = format!("{bucket}/free");
    s3.put(&free).header("x-amz-copy-source", &source).ok().await;
    let head = s3.head(&free).ok().await;
    assert_eq!((head.header("x-amz-object-lock-mode"), head.header("x-amz-object-lock-legal-hold")), (None, None));
    let copy = format!("{bucket}/copy");
    with_locks(s3.put(&copy).header("x-amz-copy-source", &source)).ok().await;
    assert_locked(&copy).await;
    let whole = format!("{bucket}/whole");
    let upload = with_locks(s3.post(&format!("{whole}?uploads"))).ok().await.element("UploadId").expect("an id");
    let mut parts = String::new();
    for number in 1..=2u64 {
        let part =
            s3.put(&format!("{whole}?partNumber={number}&uploadId={upload}")).body(content(PART_BYTES_MIN, number));
        let tag = part.ok().await.header("etag").expect("a tag").to_owned();
        parts += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>");
    }
    let list = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    s3.post(&format!("{whole}?uploadId={upload}")).body(list).ok().await;
    assert_locked(&whole).await;
}

#[tokio::test]
async fn a_version_keeps_the_retention_that_it_was_given_when_the_default_changes() {
    let s3 = shared().await.s3(0);
    let bucket = lockable_bucket(&s3).await;
    let set =
        async |rule: &str| s3.put(&format!("{bucket}?object-lock")).body(configuration(rule)).with_md5().ok().await;
    let mode = async |key: &str| {
        s3.head(&format!("{bucket}/{key}")).ok().await.header("x-amz-object-lock-mode").map(str::to_owned)
    };
    set("<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Years>1</Years></DefaultRetention></Rule>").await;
    let lock = s3.get(&format!("{bucket}?object-lock")).ok().await;
    assert_eq!((lock.element("Mode").as_deref(), lock.element("Years").as_deref()), (Some("COMPLIANCE"), Some("1")));
    put(&s3, &format!("{bucket}/before"), &[]).await;
    // Its own retention goes before the default one.
    put(&s3, &format!("{bucket}/own"), &UNTIL_2040).await;
    set("").await;
    assert_eq!(s3.get(&format!("{bucket}?object-lock")).ok().await.element("DefaultRetention"), None);
    put(&s3, &format!("{bucket}/after"), &[]).await;
    assert_eq!(mode("before").await.as_deref(), Some("COMPLIANCE"));
    assert_eq!(mode("own").await.as_deref(), Some("GOVERNANCE"));
    assert_eq!(mode("after").await, None);
}

#[tokio::test]
async fn what_is_locked_does_not_expire() {
    let spec = Spec { nodes: 1, gateways: 1, replication_factor: 1, lifecycle_day_seconds: 1, ..Spec::default() };
    let cluster = Cluster::start(spec).await;
    let s3 = cluster.s3(0);
    let bucket = lockable_bucket(&s3).await;
    let locked = put(&s3, &format!("{bucket}/locked"), &UNTIL_2040).await;
    let held = put(&s3, &format!("{bucket}/held"), &[("x-amz-object-lock-legal-hold", "ON")]).await;
    let free = put(&s3, &format!("{bucket}/free"), &[]).await;
    let rules = "<Rule><ID>all</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>\
                 <Expiration><Days>1</Days></Expiration><NoncurrentVersionExpiration>\
                 <NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>";
    let document = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
    s3.put(&format!("{bucket}?lifecycle")).body(document).ok().await;
    let is_gone = async |target: String| s3.get(&target).send().await.status == 404;
    // Each is hidden by a marker first, and then what is free goes for good.
    let freed = async || {
        let hidden = is_gone(format!("{bucket}/locked")).await && is_gone(format!("{bucket}/held")).await;
        (hidden && is_gone(format!("{bucket}/free?versionId={free}")).await).then_some(())
    };
    wait::until("what is free has gone for good", freed).await;
    for (key, version) in [("locked", &locked), ("held", &held)] {
        assert_eq!(s3.get(&format!("{bucket}/{key}?versionId={version}")).ok().await.text(), "kept");
    }
    let hold = format!("{bucket}/held?legal-hold&versionId={held}");
    s3.put(&hold).body("<LegalHold><Status>OFF</Status></LegalHold>").with_md5().ok().await;
    let gone = async || is_gone(format!("{bucket}/held?versionId={held}")).await.then_some(());
    wait::until("the version that was let go has gone", gone).await;
    assert_eq!(s3.get(&format!("{bucket}/locked?versionId={locked}")).ok().await.text(), "kept");
}
