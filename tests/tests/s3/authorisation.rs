//! What permissions cannot be got round by: keys of conditions are what the request does, not what it says beside, and what
//! a request does in passing is asked for as well.

use annulus_tests::client::{Call, S3};
use annulus_tests::cluster::shared;
use serde_json::{Value, json};

use crate::iam::{iam, new_user};
use crate::policies::{id_of, is_allowed, set_policy};
use crate::{assert_absent, etag, fresh_name, new_bucket};

/// A statement about all objects of a bucket.
fn objects(effect: &str, action: Value, condition: Value) -> Value {
    json!({"Effect": effect, "Principal": "*", "Action": action, "Resource": "BUCKET/*", "Condition": condition})
}

/// A statement about a bucket itself.
fn whole(effect: &str, action: Value, condition: Value) -> Value {
    json!({"Effect": effect, "Principal": "*", "Action": action, "Resource": "BUCKET", "Condition": condition})
}

fn copy<'a>(s3: &'a S3, from: &str, to: &str) -> Call<'a> {
    s3.put(to).header("x-amz-copy-source", from)
}

async fn enable_versioning(s3: &S3, bucket: &str) {
    let enable = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    s3.put(&format!("{bucket}?versioning")).body(enable).ok().await;
}

#[tokio::test]
async fn conditions_ask_what_a_body_says_of_locks() {
    let s3 = shared().await.s3(0);
    let bucket = format!("/{}", fresh_name("locked"));
    s3.put(&bucket).header("x-amz-bucket-object-lock-enabled", "true").ok().await;
    let target = format!("{bucket}/k");
    s3.put(&target).body("x").ok().await;
    let days = |days: i64| {
        let until = time::OffsetDateTime::now_utc() + time::Duration::days(days) + time::Duration::hours(1);
        until.format(&time::format_description::well_known::Rfc3339).expect("a time has a text")
    };
    let retain = |mode: &str, until: &str| {
        let body = format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>");
        s3.put(&format!("{target}?retention")).body(body).with_md5()
    };
    let set = json!("s3:PutObjectRetention");
    let long = json!({"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": "10"}});
    set_policy(&s3, &bucket, objects("Deny", set.clone(), long)).await;
    retain("COMPLIANCE", &days(36_500)).refused(403, "AccessDenied").await;
    // What is sent beside the document is not what is done.
    let beside = retain("GOVERNANCE", &days(36_500)).header("x-amz-meta-a", "b");
    beside.refused(403, "AccessDenied").await;
    retain("GOVERNANCE", &days(5)).ok().await;
    let governed = json!({"StringNotEquals": {"s3:object-lock-mode": "GOVERNANCE"}});
    set_policy(&s3, &bucket, objects("Deny", set.clone(), governed)).await;
    retain("COMPLIANCE", &days(6)).refused(403, "AccessDenied").await;
    retain("GOVERNANCE", &days(6)).ok().await;
    let late = json!({"DateGreaterThan": {"s3:object-lock-retain-until-date": days(8)}});
    set_policy(&s3, &bucket, objects("Deny", set, late)).await;
    retain("GOVERNANCE", &days(9)).refused(403, "AccessDenied").await;
    retain("GOVERNANCE", &days(7)).ok().await;
    // To bypass is to bypass for that, too.
    let bypass = json!("s3:BypassGovernanceRetention");
    let short = json!({"NumericLessThan": {"s3:object-lock-remaining-retention-days": "3"}});
    set_policy(&s3, &bucket, objects("Deny", bypass, short)).await;
    for (left, allowed) in [(1, false), (4, true)] {
        let call = retain("GOVERNANCE", &days(left)).header("x-amz-bypass-governance-retention", "true");
        assert_eq!(is_allowed(call).await, allowed, "{left}");
    }
    let on = json!({"StringEquals": {"s3:object-lock-legal-hold": "ON"}});
    set_policy(&s3, &bucket, objects("Deny", json!("s3:PutObjectLegalHold"), on)).await;
    for (status, allowed) in [("ON", false), ("OFF", true)] {
        let body = format!("<LegalHold><Status>{status}</Status></LegalHold>");
        assert_eq!(
            is_allowed(s3.put(&format!("{target}?legal-hold")).body(body).with_md5()).await,
            allowed,
            "{status}"
        );
    }
}

#[tokio::test]
async fn conditions_ask_what_a_body_says_of_buckets() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let enforced = json!({"StringNotEquals": {"s3:x-amz-object-ownership": "BucketOwnerEnforced"}});
    set_policy(&s3, &bucket, whole("Deny", json!("s3:PutBucketOwnershipControls"), enforced)).await;
    for (ownership, allowed) in [("ObjectWriter", false), ("BucketOwnerEnforced", true)] {
        let body = format!(
            "<OwnershipControls><Rule><ObjectOwnership>{ownership}</ObjectOwnership></Rule></OwnershipControls>"
        );
        let call =
            s3.put(&format!("{bucket}?ownershipControls")).header("x-amz-object-ownership", "BucketOwnerEnforced");
        assert_eq!(is_allowed(call.body(body)).await, allowed, "{ownership}");
    }
    let (name, user) = new_user(cluster, &s3, 0).await;
    let here = json!({"Statement": [{"Effect": "Allow", "Action": "s3:CreateBucket", "Resource": "*",
        "Condition": {"StringEquals": {"s3:LocationConstraint": "us-east-1"}}}]});
    iam(&s3, "PutUserPolicy", &[("UserName", &name), ("PolicyName", "p"), ("PolicyDocument", &here.to_string())]).await;
    let made = format!("/{}", fresh_name("placed"));
    user.put(&made).refused(403, "AccessDenied").await;
    assert_absent(&s3, &made).await;
    let place =
        "<CreateBucketConfiguration><LocationConstraint>us-east-1</LocationConstraint></CreateBucketConfiguration>";
    user.put(&made).body(place).ok().await;
}

#[tokio::test]
async fn who_makes_a_bucket_may_do_all_that_it_asks_for() {
    let cluster = shared().await;
    let account = cluster.s3(0);
    let (name, user) = new_user(cluster, &account, 0).await;
    let allow = async |actions: &[&str]| {
        let document = json!({"Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}).to_string();
        iam(&account, "PutUserPolicy", &[("UserName", &name), ("PolicyName", "p"), ("PolicyDocument", &document)])
            .await;
    };
    for (header, value, more) in [
        ("x-amz-acl", "private", &["s3:PutBucketAcl"][..]),
        ("x-amz-object-ownership", "ObjectWriter", &["s3:PutBucketOwnershipControls"]),
        (
            "x-amz-bucket-object-lock-enabled",
            "true",
            &["s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning"],
        ),
        ("x-amz-bucket-object-lock-enabled", "false", &[]),
    ] {
        let made = format!("/{}", fresh_name("asked"));
        let make = || user.put(&made).header(header, value);
        for missing in more {
            let rest: Vec<&str> = more.iter().copied().filter(|action| action != missing).collect();
            allow(&[&["s3:CreateBucket"][..], &rest].concat()).await;
            make().refused(403, "AccessDenied").await;
        }
        assert_absent(&account, &made).await;
        allow(&[&["s3:CreateBucket"][..], more].concat()).await;
        make().ok().await;
    }
}

#[tokio::test]
async fn a_condition_that_a_write_must_have_is_one() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}/k");
    for key in ["k", "from"] {
        s3.put(&format!("{bucket}/{key}")).body("x").ok().await;
    }
    let without = json!({"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}});
    set_policy(&s3, &bucket, objects("Deny", json!("s3:PutObject"), without)).await;
    let rename = || s3.put(&format!("{target}?renameObject")).header("x-amz-rename-source", &format!("{bucket}/from"));
    // Another entity tag than all of them leaves the object to be replaced.
    for call in [
        s3.put(&target).header("if-none-match", "\"other\"").body("y"),
        s3.put(&target).header("if-none-match", "").body("y"),
        copy(&s3, &format!("{bucket}/from"), &target),
        rename(),
        rename().header("if-none-match", "\"other\""),
    ] {
        call.refused(403, "AccessDenied").await;
    }
    rename().header("if-none-match", "*").refused(412, "PreconditionFailed").await;
    s3.post(&format!("{bucket}/u?uploads")).ok().await;
    let without = json!({"Null": {"s3:if-match": "true"}});
    set_policy(&s3, &bucket, objects("Deny", json!("s3:PutObject"), without)).await;
    for nothing in ["", " ", ","] {
        s3.put(&target).header("if-match", nothing).body("y").refused(403, "AccessDenied").await;
    }
    s3.put(&target).header("if-match", &etag(b"x")).body("x").ok().await;
    // A rename obeys no header of a put's or a copy's.
    for (header, value, key) in [
        ("x-amz-server-side-encryption", "AES256", "s3:x-amz-server-side-encryption"),
        ("x-amz-copy-source", "a/b", "s3:x-amz-copy-source"),
    ] {
        let without = json!({"Null": {key: "true"}});
        set_policy(&s3, &bucket, objects("Deny", json!("s3:PutObject"), without)).await;
        let reply = rename().header(header, value).send().await;
        assert_eq!(reply.status, 403, "{header}: {}", reply.text());
    }
    s3.head(&format!("{bucket}/from")).ok().await;
}

#[tokio::test]
async fn a_condition_that_a_deletion_must_have_is_each_objects() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    for key in ["a", "b"] {
        s3.put(&format!("{bucket}/{key}")).body("x").ok().await;
    }
    let without = json!({"Null": {"s3:if-match": "true"}});
    set_policy(&s3, &bucket, objects("Deny", json!("s3:DeleteObject"), without)).await;
    let tag = etag(b"x").replace('"', "");
    let body = format!("<Delete><Object><Key>a</Key></Object><Object><Key>b</Key><ETag>{tag}</ETag></Object></Delete>");
    // A header is a condition on no object of many: it is refused.
    let delete = || s3.post(&format!("{bucket}?delete")).body(body.clone());
    delete().header("if-match", "x").refused(501, "NotImplemented").await;
    let many = delete().ok().await;
    assert_eq!(many.elements("Code"), ["AccessDenied"], "{}", many.text());
    assert_absent(&s3, &format!("{bucket}/b")).await;
    let target = format!("{bucket}/a");
    s3.delete(&target).refused(403, "AccessDenied").await;
    s3.delete(&target).header("if-match", "").refused(403, "AccessDenied").await;
    s3.delete(&target).header("if-match", &etag(b"x")).ok().await;
}

#[tokio::test]
async fn a_version_is_asked_for_wherever_it_is_named() {
    let cluster = shared().await;
    let (s3, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&s3).await;
    enable_versioning(&s3, &bucket).await;
    let target = format!("{bucket}/k");
    let put = async || {
        let written = s3.put(&target).body("x").ok().await;
        written.header("x-amz-version-id").expect("versions are kept").to_owned()
    };
    let (one, two) = (put().await, put().await);
    let of_one = json!({"StringEquals": {"s3:VersionId": one}});
    let actions = json!(["s3:GetObjectVersion", "s3:DeleteObjectVersion"]);
    set_policy(&s3, &bucket, objects("Allow", actions, of_one)).await;
    let own = new_bucket(&other).await;
    for (version, allowed) in [(&two, false), (&one, true)] {
        let source = format!("{target}?versionId={version}");
        assert_eq!(is_allowed(other.get(&source)).await, allowed);
        assert_eq!(is_allowed(copy(&other, &source, &format!("{own}/copy"))).await, allowed);
    }
    let body: String =
        [&two, &one].map(|id| format!("<Object><Key>k</Key><VersionId>{id}</VersionId></Object>")).concat();
    let many = other.post(&format!("{bucket}?delete")).body(format!("<Delete>{body}</Delete>")).ok().await;
    assert_eq!(many.elements("Code"), ["AccessDenied"], "{}", many.text());
    s3.get(&format!("{target}?versionId={two}")).ok().await;
    s3.get(&format!("{target}?versionId={one}")).refused(404, "NoSuchVersion").await;
}

#[tokio::test]
async fn who_copies_tags_may_write_them() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    let source = format!("{}/tagged", new_bucket(&other).await);
    other.put(&source).header("x-amz-tagging", "team=red").body("x").ok().await;
    let target = format!("{bucket}/k");
    owner.put(&format!("{bucket}?ownershipControls"))
        .body("<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>")
        .ok()
        .await;
    let put = objects("Allow", json!("s3:PutObject"), json!({}));
    set_policy(&owner, &bucket, put.clone()).await;
    copy(&other, &source, &target).refused(403, "AccessDenied").await;
    copy(&other, &source, &target).header("x-amz-tagging-directive", "REPLACE").ok().await;
    for (team, allowed) in [("blue", false), ("red", true)] {
        let tagged = json!({"StringEquals": {"s3:RequestObjectTag/team": team}});
        set_policy(&owner, &bucket, json!([put, objects("Allow", json!("s3:PutObjectTagging"), tagged)])).await;
        assert_eq!(is_allowed(copy(&other, &source, &target)).await, allowed, "{team}");
    }
}

#[tokio::test]
async fn who_does_not_own_what_it_writes_has_no_say_over_tags_and_lists() {
    let cluster = shared().await;
    let (owner, other, anonymous) = (cluster.s3(0), cluster.alt(), cluster.anonymous());
    let bucket = new_bucket(&owner).await;
    let put = objects("Allow", json!("s3:PutObject"), json!({}));
    set_policy(&owner, &bucket, put.clone()).await;
    let target = format!("{bucket}/k");
    let (tags, acl) = (("x-amz-tagging", "a=b"), ("x-amz-acl", "bucket-owner-full-control"));
    for (name, value) in [tags, acl] {
        other.put(&target).header(name, value).body("x").ok().await;
    }
    owner.put(&format!("{bucket}?ownershipControls"))
        .body("<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>")
        .ok()
        .await;
    for (name, value) in [tags, acl] {
        for s3 in [&other, &anonymous] {
            s3.put(&target).header(name, value).body("x").refused(403, "AccessDenied").await;
        }
        other.post(&format!("{target}?uploads")).header(name, value).refused(403, "AccessDenied").await;
        owner.put(&target).header(name, value).body("x").ok().await;
    }
    other.put(&target).body("x").ok().await;
    let more = json!(["s3:PutObject", "s3:PutObjectTagging", "s3:PutObjectAcl"]);
    set_policy(&owner, &bucket, objects("Allow", more, json!({}))).await;
    for (name, value) in [tags, acl] {
        other.put(&target).header(name, value).body("x").ok().await;
    }
}

#[tokio::test]
async fn who_compares_entity_tags_may_read() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    let target = format!("{bucket}/k");
    owner.put(&target).body("secret").ok().await;
    let id = id_of(&other).await;
    let allow = |actions: Value| json!({"Effect": "Allow", "Principal": {"AWS": id}, "Action": actions, "Resource": "BUCKET/*"});
    set_policy(&owner, &bucket, allow(json!(["s3:PutObject", "s3:DeleteObject"]))).await;
    let own = format!("{}/k", new_bucket(&other).await);
    other.put(&own).body("x").ok().await;
    let upload = other.post(&format!("{target}?uploads")).ok().await.element("UploadId").expect("an id");
    let part = format!("{target}?partNumber=1&uploadId={upload}");
    let part = other.put(&part).body("x").ok().await.header("etag").expect("a tag").to_owned();
    let complete = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part}</ETag></Part></CompleteMultipartUpload>"
    );
    for guess in [etag(b"secret"), etag(b"guess")] {
        for key in [target.clone(), format!("{bucket}/none")] {
            for call in [
                other.put(&key).body("x"),
                copy(&other, &own, &key),
                other.delete(&key),
                other.post(&format!("{key}?uploadId={upload}")).body(complete.clone()),
            ] {
                let reply = call.header("if-match", &guess).send().await;
                let told = (reply.status.as_u16(), reply.code());
                let is_upload = told.0 == 404 && told.1.as_deref() == Some("NoSuchUpload");
                assert!(is_upload || told == (403, Some("AccessDenied".to_owned())), "{key} {guess}: {told:?}");
            }
            let name = key.rsplit('/').next().unwrap_or_default();
            let tag = guess.replace('"', "");
            let body = format!("<Delete><Object><Key>{name}</Key><ETag>{tag}</ETag></Object></Delete>");
            let many = other.post(&format!("{bucket}?delete")).body(body).ok().await;
            assert_eq!(many.elements("Code"), ["AccessDenied"], "{}", many.text());
        }
    }
    assert_eq!(owner.get(&target).ok().await.text(), "secret");
    // That there is one, or none, is no more than writing it tells.
    other.put(&target).header("if-none-match", "*").body("x").refused(412, "PreconditionFailed").await;
    set_policy(&owner, &bucket, allow(json!(["s3:PutObject", "s3:DeleteObject", "s3:GetObject"]))).await;
    other.put(&target).header("if-match", &etag(b"guess")).body("x").refused(412, "PreconditionFailed").await;
    other.delete(&target).header("if-match", &etag(b"secret")).ok().await;
}

#[tokio::test]
async fn nobody_overrides_headers_unsigned() {
    let cluster = shared().await;
    let (owner, anonymous) = (cluster.s3(0), cluster.anonymous());
    let target = format!("{}/k", new_bucket(&owner).await);
    owner.put(&target).header("x-amz-acl", "public-read").body("x").ok().await;
    for parameter in ["response-content-type", "%72esponse-content-type", "response%2Dcontent-type"] {
        anonymous.get(&format!("{target}?{parameter}=text/html")).refused(400, "InvalidRequest").await;
    }
    anonymous.get(&format!("{target}?xresponse-content-type=text/html")).ok().await;
}
