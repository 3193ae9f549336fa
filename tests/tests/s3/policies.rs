//! Bucket policies and the public access block: what a policy says holds, for everybody it is about and nobody else; a
//! document with a mistake changes nothing.

use annulus_tests::client::{Call, Reply, S3};
use annulus_tests::cluster::shared;
use serde_json::{Value, json};

use crate::iam::number_of;
use crate::{assert_absent, new_bucket};

/// The canonical id of a client's account.
pub(crate) async fn id_of(s3: &S3) -> String {
    s3.get("/").ok().await.element("ID").expect("a list of buckets names their owner")
}

/// A policy of these statements, in which `BUCKET` stands for the bucket's ARN.
fn policy(bucket: &str, statements: Value) -> String {
    let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    text.replace("BUCKET", &format!("arn:aws:s3:::{}", &bucket[1..]))
}

pub(crate) async fn set_policy(s3: &S3, bucket: &str, statements: Value) {
    let reply = s3.put(&format!("{bucket}?policy")).body(policy(bucket, statements)).send().await;
    assert_eq!(reply.status, 204, "{}", reply.text());
}

async fn set_block(s3: &S3, bucket: &str, settings: &[&str]) {
    let settings: String = settings.iter().map(|name| format!("<{name}>true</{name}>")).collect();
    let body = format!("<PublicAccessBlockConfiguration>{settings}</PublicAccessBlockConfiguration>");
    s3.put(&format!("{bucket}?publicAccessBlock")).body(body).ok().await;
}

/// Whether it is allowed; whatever else goes wrong is not expected.
pub(crate) async fn is_allowed(call: Call<'_>) -> bool {
    let reply = call.send().await;
    assert!(reply.status.is_success() || reply.status == 403, "{} {}", reply.status, reply.text());
    reply.status.is_success()
}

fn assert_denied(reply: &Reply) {
    assert_eq!((reply.status.as_u16(), reply.code().as_deref()), (403, Some("AccessDenied")), "{}", reply.text());
}

#[tokio::test]
async fn a_policy_comes_back_as_it_was_sent_until_it_is_taken_away() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}?policy");
    s3.get(&target).refused(404, "NoSuchBucketPolicy").await;
    let statement = json!({"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteBucket", "Resource": "BUCKET"});
    let text = policy(&bucket, statement).replace("{\"Statement\"", "{ \n \"Statement\"");
    assert_eq!(s3.put(&target).body(text.clone()).send().await.status, 204);
    assert_eq!(s3.get(&target).ok().await.text(), text);
    s3.delete(&bucket).refused(403, "AccessDenied").await;
    assert_eq!(s3.delete(&target).send().await.status, 204);
    assert_eq!(s3.delete(&target).send().await.status, 204);
    s3.get(&target).refused(404, "NoSuchBucketPolicy").await;
    assert_eq!(s3.delete(&bucket).send().await.status, 204);
    s3.get(&target).refused(404, "NoSuchBucket").await;
}

#[tokio::test]
async fn a_document_with_a_mistake_changes_nothing() {
    let s3 = shared().await.s3(0);
    let bucket = new_bucket(&s3).await;
    let target = format!("{bucket}?policy");
    let plain = |changes: Value| {
        let mut statement =
            json!({"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "BUCKET/*"});
        for (name, value) in changes.as_object().expect("an object") {
            statement[name] = value.clone();
        }
        policy(&bucket, statement)
    };
    let good = plain(json!({}));
    assert_eq!(s3.put(&target).body(good.clone()).send().await.status, 204);
    for (document, message) in [
        (String::new(), "Policies must be valid JSON and the first byte must be '{'"),
        ("{".to_owned(), "This policy contains invalid Json"),
        ("{}".to_owned(), "Missing required field Statement"),
        (policy(&bucket, json!([])), "Could not parse the policy: Statement is empty!"),
        (plain(json!({"Effect": "allow"})), "Invalid effect: allow"),
        (plain(json!({"Principal": {"AWS": "alice"}})), "Invalid principal in policy"),
        (plain(json!({"Action": "s3:GetObjects"})), "Policy has invalid action"),
        (plain(json!({"Resource": "arn:aws:s3:::another/*"})), "Policy has invalid resource"),
        (plain(json!({"Resource": "*"})), "Policy has invalid resource"),
        (
            plain(json!({"Condition": {"Equals": {"s3:prefix": "a"}}})),
            "Conditions do not apply to combination of actions and resources in statement",
        ),
        (plain(json!({"Condition": {"Equals": {"aws:Referer": "a"}}})), "Invalid Condition type : Equals"),
        (plain(json!({"Condition": {"StringEquals": {"aws:Refererr": "a"}}})), "Policy has an invalid condition key"),
        (
            plain(json!({"Sid": "x".repeat(20 << 10)})),
            "Normalized policy document exceeds the maximum allowed size of 20480 bytes",
        ),
    ] {
        let refused = s3.put(&target).body(document.clone()).refused(400, "MalformedPolicy").await;
        assert_eq!(refused.element("Message").as_deref(), Some(message), "{document}");
    }
    assert_eq!(s3.get(&target).ok().await.text(), good);
}

#[tokio::test]
async fn a_policy_opens_what_it_names_to_whom_it_names() {
    let cluster = shared().await;
    let (owner, other, anonymous) = (cluster.s3(0), cluster.alt(), cluster.anonymous());
    let bucket = new_bucket(&owner).await;
    for key in ["open/a", "shared/a", "closed/a"] {
        owner.put(&format!("{bucket}/{key}")).body("x").ok().await;
    }
    let other_id = id_of(&other).await;
    set_policy(&owner, &bucket, json!([
        {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "BUCKET/open/*"},
        {"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{other_id}:root")},
         "Action": ["s3:GetObject", "s3:DeleteObject"], "Resource": "BUCKET/shared/*"},
        {"Effect": "Allow", "Principal": {"CanonicalUser": other_id}, "Action": "s3:ListBucket", "Resource": "BUCKET",
         "Condition": {"StringLike": {"s3:prefix": ["open/*", "shared/"]}}}
    ]))
    .await;
    for (key, to_other, to_anybody) in [("open/a", true, true), ("shared/a", true, false), ("closed/a", false, false)] {
        let target = format!("{bucket}/{key}");
        assert!(is_allowed(owner.get(&target)).await, "{key}");
        assert_eq!(is_allowed(other.get(&target)).await, to_other, "{key}");
        assert_eq!(is_allowed(other.head(&target)).await, to_other, "{key}");
        assert_eq!(is_allowed(anonymous.get(&target)).await, to_anybody, "{key}");
        assert!(!is_allowed(anonymous.delete(&target)).await, "{key}");
        assert!(!is_allowed(other.put(&target).body("y")).await, "{key}");
        assert!(!is_allowed(other.get(&format!("{target}?acl"))).await, "{key}");
    }
    for (query, allowed) in [("prefix=open/x", true), ("prefix=shared/", true), ("prefix=shared", false), ("", false)] {
        assert_eq!(is_allowed(other.get(&format!("{bucket}?list-type=2&{query}"))).await, allowed, "{query}");
        assert_eq!(is_allowed(other.get(&format!("{bucket}?{query}"))).await, allowed, "{query}");
    }
    assert!(!is_allowed(anonymous.get(&format!("{bucket}?prefix=open/x"))).await);
    // Who may list a key is told that it is not there.
    other.get(&format!("{bucket}/open/none")).refused(404, "NoSuchKey").await;
    other.get(&format!("{bucket}/closed/none")).refused(403, "AccessDenied").await;
    anonymous.get(&format!("{bucket}/open/none")).refused(403, "AccessDenied").await;
    assert!(is_allowed(other.delete(&format!("{bucket}/shared/a"))).await);
    assert_absent(&owner, &format!("{bucket}/shared/a")).await;
}

#[tokio::test]
async fn what_is_forbidden_is_forbidden_to_the_owner_too() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    owner.put(&format!("{bucket}?acl")).header("x-amz-acl", "public-read").ok().await;
    let target = format!("{bucket}/k");
    owner.put(&target).header("x-amz-acl", "public-read").body("x").ok().await;
    let other_id = id_of(&other).await;
    set_policy(&owner, &bucket, json!([
        {"Effect": "Deny", "Principal": "*", "Action": ["s3:PutObject", "s3:*Policy"], "Resource": ["BUCKET", "BUCKET/*"]},
        {"Effect": "Deny", "Principal": {"AWS": other_id}, "Action": "s3:Get*", "Resource": "BUCKET/*"}
    ]))
    .await;
    owner.put(&target).body("y").refused(403, "AccessDenied").await;
    owner.post(&format!("{target}?uploads")).refused(403, "AccessDenied").await;
    other.get(&target).refused(403, "AccessDenied").await;
    cluster.anonymous().get(&target).ok().await;
    assert_eq!(owner.get(&target).ok().await.text(), "x");
    // A policy that forbids itself to be changed can be changed by the account that owns the bucket.
    owner.get(&format!("{bucket}?policy")).ok().await;
    assert_eq!(owner.delete(&format!("{bucket}?policy")).send().await.status, 204);
    owner.put(&target).body("y").ok().await;
    other.get(&target).refused(403, "AccessDenied").await;
}

#[tokio::test]
async fn nobody_else_reads_or_changes_a_policy_whatever_it_says() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    let target = format!("{bucket}?policy");
    for call in [other.get(&target), other.put(&target).body("{}"), other.delete(&target)] {
        assert_denied(&call.send().await);
    }
    let everything = json!({"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": ["BUCKET", "BUCKET/*"]});
    set_policy(&owner, &bucket, everything).await;
    for call in [other.get(&target), other.put(&target).body("{}"), other.delete(&target)] {
        call.refused(405, "MethodNotAllowed").await;
    }
    // What else is configured of the bucket is open to them then.
    other.get(&format!("{bucket}?location")).ok().await;
    other.get(&format!("{bucket}?policyStatus")).ok().await;
}

#[tokio::test]
async fn each_key_of_a_deletion_is_judged_for_itself() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    for key in ["a/1", "b/1"] {
        owner.put(&format!("{bucket}/{key}")).body("x").ok().await;
    }
    let allow = json!({"Effect": "Allow", "Principal": "*", "Action": "s3:DeleteObject", "Resource": "BUCKET/a/*"});
    set_policy(&owner, &bucket, allow).await;
    let body = "<Delete><Object><Key>a/1</Key></Object><Object><Key>b/1</Key></Object></Delete>";
    let reply = other.post(&format!("{bucket}?delete")).body(body).ok().await;
    assert_eq!(reply.elements("Key"), ["a/1", "b/1"]);
    assert_eq!(reply.elements("Code"), ["AccessDenied"]);
    assert_absent(&owner, &format!("{bucket}/a/1")).await;
    owner.get(&format!("{bucket}/b/1")).ok().await;
}

#[tokio::test]
async fn a_copy_needs_its_source_and_its_destination() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let (from, to) = (new_bucket(&owner).await, new_bucket(&owner).await);
    for key in ["public/a", "private/a"] {
        owner.put(&format!("{from}/{key}")).body(key).ok().await;
    }
    let read = json!({"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "BUCKET/public/*"});
    set_policy(&owner, &from, read).await;
    let put = json!({"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": "BUCKET/*",
        "Condition": {"StringLike": {"s3:x-amz-copy-source": format!("{}/*/a", &from[1..])}}});
    other
        .put(&format!("{to}/k"))
        .header("x-amz-copy-source", &format!("{from}/public/a"))
        .refused(403, "AccessDenied")
        .await;
    set_policy(&owner, &to, put).await;
    other.put(&format!("{to}/k")).header("x-amz-copy-source", &format!("{from}/public/a")).ok().await;
    other
        .put(&format!("{to}/k"))
        .header("x-amz-copy-source", &format!("{from}/private/a"))
        .refused(403, "AccessDenied")
        .await;
    other.put(&format!("{to}/k")).body("no copy").refused(403, "AccessDenied").await;
    assert_eq!(other.get(&format!("{to}/k")).ok().await.text(), "public/a", "it belongs to who made it");
    owner.get(&format!("{to}/k")).refused(403, "AccessDenied").await;
}

#[tokio::test]
async fn conditions_ask_what_the_request_says() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    let target = format!("{bucket}/k");
    owner.put(&target).body("x").ok().await;
    let read = |condition: Value| json!({"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "BUCKET/*", "Condition": condition});
    for (condition, allowed) in [
        (json!({"StringLike": {"aws:Referer": "http://example.com/*"}}), true),
        (json!({"StringLike": {"aws:Referer": "http://example.org/*"}}), false),
        (json!({"StringNotLike": {"aws:Referer": "http://example.org/*"}}), true),
        (json!({"StringEquals": {"aws:UserAgent": "tests"}}), true),
        (json!({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}), true),
        (json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), false),
        (json!({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), true),
        (json!({"Bool": {"aws:SecureTransport": "false"}}), true),
        (json!({"Bool": {"aws:SecureTransport": true}}), false),
        (json!({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}), true),
        (json!({"DateLessThan": {"aws:EpochTime": "1577836800"}}), false),
        (json!({"StringEquals": {"s3:authType": "REST-HEADER"}}), true),
        (json!({"StringEquals": {"s3:signatureversion": "AWS"}}), false),
        (json!({"StringEquals": {"aws:PrincipalAccount": number_of(&other).await}}), true),
        (json!({"StringEquals": {"aws:PrincipalAccount": number_of(&owner).await}}), false),
        (json!({"StringEquals": {"aws:ResourceAccount": number_of(&owner).await}}), true),
        (json!({"StringEquals": {"aws:RequestedRegion": "us-east-1"}}), true),
        (json!({"Null": {"aws:username": true}}), true),
        (json!({"StringEqualsIfExists": {"aws:SourceVpc": "vpc-1"}}), true),
        (json!({"StringLikeIfExists": {"aws:Referer": "http://example.org/*"}}), false),
    ] {
        set_policy(&owner, &bucket, read(condition.clone())).await;
        let call = other.get(&target).header("referer", "http://example.com/page").header("user-agent", "tests");
        assert_eq!(is_allowed(call).await, allowed, "{condition}");
    }
    // An allowance whose condition does not hold takes nothing from the owner, and one without the key holds for everybody.
    owner.get(&target).header("referer", "http://example.com/page").ok().await;
    other.get(&target).ok().await;
}

#[tokio::test]
async fn who_may_write_can_depend_on_the_tags_that_come_along() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    let tagged = json!({"StringEquals": {"s3:RequestObjectTag/security": "public"}});
    let allow = json!({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "s3:PutObject", "Resource": "BUCKET/*", "Condition": tagged});
    set_policy(&owner, &bucket, allow).await;
    let put = || other.put(&format!("{bucket}/k")).body("x");
    put().refused(403, "AccessDenied").await;
    put().header("x-amz-tagging", "security=private").refused(403, "AccessDenied").await;
    put().header("x-amz-tagging", "security=public").ok().await;
}

#[tokio::test]
async fn conditions_on_writes_are_judged_before_the_body() {
    let cluster = shared().await;
    let owner = cluster.s3(0);
    let bucket = new_bucket(&owner).await;
    let forbid = |condition: Value| json!({"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "BUCKET/*", "Condition": condition});
    // "Enforce conditional writes" in the S3 user guide: every part may come, what completes them must have the condition.
    let unconditional = json!({"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}});
    set_policy(&owner, &bucket, forbid(unconditional)).await;
    let target = format!("{bucket}/k");
    owner.put(&target).body("x").refused(403, "AccessDenied").await;
    owner.put(&target).header("if-none-match", "*").body("x").ok().await;
    owner.put(&target).header("if-none-match", "*").body("y").refused(412, "PreconditionFailed").await;
    let upload = owner.post(&format!("{bucket}/u?uploads")).ok().await.element("UploadId").expect("an id");
    owner.put(&format!("{bucket}/u?partNumber=1&uploadId={upload}")).body("x").ok().await;
    set_policy(&owner, &bucket, forbid(json!({"StringLike": {"s3:x-amz-acl": "public-*"}}))).await;
    owner.put(&target).header("x-amz-acl", "public-read").body("z").refused(403, "AccessDenied").await;
    owner.put(&target).header("x-amz-acl", "private").body("z").ok().await;
    set_policy(&owner, &bucket, forbid(json!({"StringNotEquals": {"s3:x-amz-storage-class": "STANDARD"}}))).await;
    owner.put(&target).body("w").refused(403, "AccessDenied").await;
    owner.put(&target).header("x-amz-storage-class", "STANDARD").body("w").ok().await;
}

#[tokio::test]
async fn who_writes_into_anothers_bucket_owns_it_and_its_policy_does_not_open_it() {
    let cluster = shared().await;
    let (owner, other, anonymous) = (cluster.s3(0), cluster.alt(), cluster.anonymous());
    let bucket = new_bucket(&owner).await;
    let open = json!({"Effect": "Allow", "Principal": "*", "Action": ["s3:PutObject", "s3:GetObject"], "Resource": "BUCKET/*"});
    set_policy(&owner, &bucket, open).await;
    let target = format!("{bucket}/theirs");
    other.put(&target).body("x").ok().await;
    other.get(&target).ok().await;
    for s3 in [&owner, &anonymous] {
        assert_denied(&s3.get(&target).send().await);
    }
    assert!(is_allowed(owner.delete(&target)).await, "what is in a bucket its owner can remove");
}

#[tokio::test]
async fn a_bucket_says_whether_it_is_public() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    let public = async || {
        let reply = owner.get(&format!("{bucket}?policyStatus")).ok().await;
        reply.element("IsPublic").expect("an answer") == "true"
    };
    assert!(!public().await);
    owner.put(&format!("{bucket}?acl")).header("x-amz-acl", "authenticated-read").ok().await;
    assert!(public().await);
    owner.put(&format!("{bucket}?acl")).header("x-amz-acl", "private").ok().await;
    let list = |principal: Value, condition: Value| json!({"Effect": "Allow", "Principal": principal, "Action": "s3:ListBucket", "Resource": "BUCKET", "Condition": condition});
    for (statement, expected) in [
        (list(json!("*"), json!({})), true),
        (list(json!({"AWS": id_of(&other).await}), json!({})), false),
        (list(json!("*"), json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})), false),
        (list(json!("*"), json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/1"}})), true),
        (list(json!("*"), json!({"StringLike": {"s3:prefix": "public/*"}})), true),
    ] {
        set_policy(&owner, &bucket, statement.clone()).await;
        assert_eq!(public().await, expected, "{statement}");
    }
}

#[tokio::test]
async fn a_public_access_block_is_shown_as_it_was_set() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    let target = format!("{bucket}?publicAccessBlock");
    owner.get(&target).refused(404, "NoSuchPublicAccessBlockConfiguration").await;
    set_block(&owner, &bucket, &["BlockPublicAcls", "RestrictPublicBuckets"]).await;
    let shown = owner.get(&target).ok().await;
    for (name, expected) in [
        ("BlockPublicAcls", "true"),
        ("IgnorePublicAcls", "false"),
        ("BlockPublicPolicy", "false"),
        ("RestrictPublicBuckets", "true"),
    ] {
        assert_eq!(shown.element(name).as_deref(), Some(expected), "{name}");
    }
    for call in [other.get(&target), other.delete(&target)] {
        assert_denied(&call.send().await);
    }
    owner
        .put(&target)
        .body("<PublicAccessBlockConfiguration><BlockPublicAcls>perhaps")
        .refused(400, "MalformedXML")
        .await;
    assert_eq!(owner.get(&target).ok().await.element("BlockPublicAcls").as_deref(), Some("true"));
    assert_eq!(owner.delete(&target).send().await.status, 204);
    owner.get(&target).refused(404, "NoSuchPublicAccessBlockConfiguration").await;
}

#[tokio::test]
async fn public_lists_are_refused_where_they_are_blocked() {
    let owner = shared().await.s3(0);
    let bucket = new_bucket(&owner).await;
    let target = format!("{bucket}/k");
    owner.put(&target).body("x").ok().await;
    set_block(&owner, &bucket, &["BlockPublicAcls"]).await;
    for acl in ["public-read", "public-read-write", "authenticated-read"] {
        for place in [format!("{bucket}?acl"), format!("{target}?acl"), target.clone()] {
            owner.put(&place).header("x-amz-acl", acl).refused(403, "AccessDenied").await;
        }
        owner.post(&format!("{bucket}/u?uploads")).header("x-amz-acl", acl).refused(403, "AccessDenied").await;
    }
    let group = "uri=\"http://acs.amazonaws.com/groups/global/AllUsers\"";
    owner.put(&target).header("x-amz-grant-read", group).body("y").refused(403, "AccessDenied").await;
    owner.put(&target).header("x-amz-acl", "private").body("y").ok().await;
    owner.put(&format!("{bucket}?acl")).header("x-amz-acl", "private").ok().await;
}

#[tokio::test]
async fn public_lists_count_no_more_where_they_are_ignored() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    let target = format!("{bucket}/k");
    owner.put(&format!("{bucket}?acl")).header("x-amz-acl", "public-read-write").ok().await;
    owner.put(&target).header("x-amz-acl", "public-read").body("x").ok().await;
    let named = format!("{bucket}/named");
    let grantee = format!("id=\"{}\"", id_of(&other).await);
    owner.put(&named).header("x-amz-grant-read", &grantee).body("x").ok().await;
    assert!(is_allowed(other.get(&bucket)).await && is_allowed(other.get(&target)).await);
    set_block(&owner, &bucket, &["IgnorePublicAcls"]).await;
    assert!(!is_allowed(other.get(&bucket)).await);
    assert!(!is_allowed(other.get(&target)).await);
    assert!(!is_allowed(other.put(&target).body("y")).await);
    assert!(is_allowed(other.get(&named)).await, "a grant to one account is not public");
    assert!(is_allowed(owner.get(&target)).await);
    owner.put(&format!("{bucket}?acl")).header("x-amz-acl", "public-read").ok().await;
    assert!(!is_allowed(other.get(&bucket)).await);
    assert_eq!(owner.delete(&format!("{bucket}?publicAccessBlock")).send().await.status, 204);
    assert!(is_allowed(other.get(&bucket)).await && is_allowed(other.get(&target)).await);
}

#[tokio::test]
async fn public_policies_are_refused_or_restricted() {
    let cluster = shared().await;
    let (owner, other, anonymous) = (cluster.s3(0), cluster.alt(), cluster.anonymous());
    let bucket = new_bucket(&owner).await;
    let target = format!("{bucket}/k");
    owner.put(&target).body("x").ok().await;
    let to = |principal: Value| json!({"Effect": "Allow", "Principal": principal, "Action": "s3:GetObject", "Resource": "BUCKET/*"});
    let one = to(json!({"AWS": id_of(&other).await}));
    set_block(&owner, &bucket, &["BlockPublicPolicy"]).await;
    let public = policy(&bucket, to(json!("*")));
    owner.put(&format!("{bucket}?policy")).body(public).refused(403, "AccessDenied").await;
    set_policy(&owner, &bucket, one.clone()).await;
    set_block(&owner, &bucket, &["RestrictPublicBuckets"]).await;
    assert!(is_allowed(other.get(&target)).await, "a policy that is not public is not restricted");
    set_policy(&owner, &bucket, json!([one, to(json!("*"))])).await;
    for (s3, allowed) in [(&owner, true), (&other, false), (&anonymous, false)] {
        assert_eq!(is_allowed(s3.get(&target)).await, allowed);
    }
    assert_eq!(owner.delete(&format!("{bucket}?publicAccessBlock")).send().await.status, 204);
    assert!(is_allowed(other.get(&target)).await && is_allowed(anonymous.get(&target)).await);
}

#[tokio::test]
async fn a_policy_is_in_force_at_every_gateway_when_it_is_set() {
    let cluster = shared().await;
    let (owner, far) = (cluster.s3(0), cluster.s3(1));
    let bucket = new_bucket(&owner).await;
    let target = format!("{bucket}/k");
    let forbid = json!({"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "BUCKET/*"});
    for _ in 0..5 {
        set_policy(&owner, &bucket, forbid.clone()).await;
        assert_denied(&far.put(&target).body("x").send().await);
        assert_eq!(owner.delete(&format!("{bucket}?policy")).send().await.status, 204);
        far.put(&target).body("x").ok().await;
    }
}
