//! Access control lists: what is granted holds for whom it is granted to, and is shown as it was given.

use annulus_tests::client::{Call, S3};
use annulus_tests::cluster::{ALT_EMAIL, shared};

use crate::{fresh_name, new_bucket};

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";
const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";

/// Each permission with the header that grants it.
const PERMISSIONS: [(&str, &str); 5] = [
    ("READ", "x-amz-grant-read"),
    ("WRITE", "x-amz-grant-write"),
    ("READ_ACP", "x-amz-grant-read-acp"),
    ("WRITE_ACP", "x-amz-grant-write-acp"),
    ("FULL_CONTROL", "x-amz-grant-full-control"),
];

/// The canonical id of a client's account.
pub(crate) async fn id_of(s3: &S3) -> String {
    s3.get("/").ok().await.element("ID").expect("a list of buckets names their owner")
}

/// Grantee of the type that the name looks like, granted a permission.
pub(crate) fn grant(grantee: &str, permission: &str) -> String {
    let (kind, element) = match grantee {
        uri if uri.starts_with("http") => ("Group", "URI"),
        email if email.contains('@') => ("AmazonCustomerByEmail", "EmailAddress"),
        _ => ("CanonicalUser", "ID"),
    };
    grant_of_type(kind, &format!("<{element}>{grantee}</{element}>"), permission)
}

fn grant_of_type(kind: &str, grantee: &str, permission: &str) -> String {
    format!(
        "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"{kind}\">{grantee}</Grantee>\
         <Permission>{permission}</Permission></Grant>"
    )
}

pub(crate) fn policy(owner: &str, grants: &[String]) -> String {
    format!(
        "<AccessControlPolicy><Owner><ID>{owner}</ID></Owner><AccessControlList>{}</AccessControlList></AccessControlPolicy>",
        grants.concat()
    )
}

/// What a list shows: each grantee by id or URI, with its permission.
pub(crate) async fn shown(s3: &S3, target: &str) -> Vec<(String, String)> {
    let text = s3.get(&format!("{target}?acl")).ok().await.text();
    let inner = |text: &str, name: &str| {
        let rest = text.split_once(&format!("<{name}>"))?.1;
        Some(rest.split_once('<')?.0.to_owned())
    };
    let grants = text.split("<Grant>").skip(1).filter_map(|grant| grant.split("</Grant>").next());
    let shown = grants.map(|grant| {
        let grantee = inner(grant, "ID").or_else(|| inner(grant, "URI")).expect("a grantee has a name");
        (grantee, inner(grant, "Permission").expect("a grant has a permission"))
    });
    shown.collect()
}

pub(crate) fn pair(grantee: &str, permission: &str) -> (String, String) {
    (grantee.to_owned(), permission.to_owned())
}

/// Whether it is allowed; whatever else goes wrong is not expected.
pub(crate) async fn is_allowed(call: Call<'_>) -> bool {
    let reply = call.send().await;
    assert!(reply.status.is_success() || reply.status == 403, "{} {}", reply.status, reply.text());
    reply.status.is_success()
}

#[tokio::test]
async fn each_grant_on_a_bucket_opens_what_it_names_and_no_more() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let (owner_id, other_id) = (id_of(&owner).await, id_of(&other).await);
    for (permission, _) in PERMISSIONS {
        let bucket = new_bucket(&owner).await;
        let acl = format!("{bucket}?acl");
        let own = grant(&owner_id, "FULL_CONTROL");
        let body = policy(&owner_id, &[own.clone(), grant(&other_id, permission)]);
        owner.put(&acl).body(body.clone()).ok().await;
        let may = |wanted| permission == wanted || permission == "FULL_CONTROL";
        assert_eq!(is_allowed(other.get(&bucket)).await, may("READ"), "list: {permission}");
        assert_eq!(is_allowed(other.head(&bucket)).await, may("READ"), "head: {permission}");
        let target = format!("{bucket}/k");
        assert_eq!(is_allowed(other.put(&target).body("x")).await, may("WRITE"), "put: {permission}");
        assert_eq!(is_allowed(other.delete(&target)).await, may("WRITE"), "delete: {permission}");
        assert_eq!(is_allowed(other.get(&acl)).await, may("READ_ACP"), "read the list: {permission}");
        assert_eq!(is_allowed(other.put(&acl).body(body)).await, may("WRITE_ACP"), "change the list: {permission}");
        assert!(!is_allowed(other.delete(&bucket)).await, "no grant lets anybody delete a bucket");
        assert_eq!(shown(&owner, &bucket).await, [pair(&owner_id, "FULL_CONTROL"), pair(&other_id, permission)]);
    }
}

#[tokio::test]
async fn who_may_write_deletes_no_version_for_good() {
    let cluster = shared().await;
    let owner = cluster.s3(0);
    let bucket = new_bucket(&owner).await;
    let keeps = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    owner.put(&format!("{bucket}?versioning")).body(keeps).ok().await;
    let target = format!("{bucket}/k");
    let version = owner.put(&target).body("kept").ok().await.header("x-amz-version-id").expect("it has one").to_owned();
    owner.put(&format!("{bucket}?acl")).header("x-amz-acl", "public-read-write").ok().await;
    let one = format!("{target}?versionId={version}");
    let many = format!("<Delete><Object><Key>k</Key><VersionId>{version}</VersionId></Object></Delete>");
    for other in [cluster.anonymous(), cluster.alt()] {
        other.delete(&one).refused(403, "AccessDenied").await;
        other.delete(&format!("{target}?versionId=null")).refused(403, "AccessDenied").await;
        assert_eq!(other.delete(&target).send().await.status, 204, "a marker takes nothing away");
    }
    let reply = cluster.alt().post(&format!("{bucket}?delete")).body(many.clone()).ok().await;
    assert_eq!(reply.element("Code").as_deref(), Some("AccessDenied"), "{}", reply.text());
    assert_eq!(owner.get(&one).ok().await.text(), "kept");
    let name = bucket.trim_start_matches('/');
    let allow = format!(
        r#"{{"Statement": [{{"Effect": "Allow", "Principal": "*", "Action": "s3:DeleteObjectVersion",
            "Resource": "arn:aws:s3:::{name}/k"}}]}}"#
    );
    owner.put(&format!("{bucket}?policy")).body(allow).ok().await;
    let reply = cluster.alt().post(&format!("{bucket}?delete")).body(many).ok().await;
    assert_eq!(reply.element("Code"), None, "a policy says what a list cannot");
    owner.get(&one).refused(404, "NoSuchVersion").await;
}

#[tokio::test]
async fn each_grant_on_an_object_opens_what_it_names_and_no_more() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let (owner_id, other_id) = (id_of(&owner).await, id_of(&other).await);
    let bucket = new_bucket(&owner).await;
    for (permission, header) in PERMISSIONS {
        let target = format!("{bucket}/{permission}");
        let put = owner.put(&target).header(header, &format!("id=\"{other_id}\"")).body("hello");
        put.ok().await;
        let may = |wanted| permission == wanted || permission == "FULL_CONTROL";
        assert_eq!(is_allowed(other.get(&target)).await, may("READ"), "get: {permission}");
        assert_eq!(is_allowed(other.head(&target)).await, may("READ"), "head: {permission}");
        let acl = format!("{target}?acl");
        assert_eq!(is_allowed(other.get(&acl)).await, may("READ_ACP"), "read the list: {permission}");
        let body = policy(&owner_id, &[grant(&other_id, permission)]);
        assert_eq!(is_allowed(other.put(&acl).body(body)).await, may("WRITE_ACP"), "change the list: {permission}");
        assert!(!is_allowed(other.delete(&target)).await, "deleting is the bucket's WRITE");
        assert_eq!(shown(&owner, &target).await, [pair(&other_id, permission)], "nothing is added for the owner");
        assert_eq!(owner.get(&target).ok().await.text(), "hello", "whose object it stays");
    }
}

#[tokio::test]
async fn a_list_is_shown_with_types_names_and_owner() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let (owner_id, other_id) = (id_of(&owner).await, id_of(&other).await);
    let bucket = new_bucket(&owner).await;
    owner.put(&format!("{bucket}/k")).body("x").ok().await;
    let grants = [
        grant(ALT_EMAIL, "READ"),
        grant(ALL_USERS, "READ_ACP"),
        grant(AUTHENTICATED_USERS, "READ"),
        grant(LOG_DELIVERY, "WRITE"),
    ];
    for target in [bucket.clone(), format!("{bucket}/k")] {
        owner.put(&format!("{target}?acl")).body(policy(&owner_id, &grants)).ok().await;
        let list = owner.get(&format!("{target}?acl")).ok().await;
        assert!(list.text().contains(&format!("<ID>{owner_id}</ID></Owner>")), "whose it is: {}", list.text());
        for expected in ["xsi:type=\"CanonicalUser\"", "xsi:type=\"Group\"", "<DisplayName>"] {
            assert!(list.text().contains(expected), "{expected}: {}", list.text());
        }
        assert!(!list.text().contains("EmailAddress"), "an address is settled when it is set: {}", list.text());
        let expected = [
            pair(&other_id, "READ"),
            pair(ALL_USERS, "READ_ACP"),
            pair(AUTHENTICATED_USERS, "READ"),
            pair(LOG_DELIVERY, "WRITE"),
        ];
        assert_eq!(shown(&owner, &target).await, expected);
        assert!(cluster.anonymous().get(&format!("{target}?acl")).send().await.status.is_success());
    }
}

#[tokio::test]
async fn lists_are_given_when_things_are_made() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let other_id = id_of(&other).await;
    let by_email = format!("emailAddress=\"{ALT_EMAIL}\"");
    let bucket = format!("/{}", fresh_name("granted"));
    owner.put(&bucket).header("x-amz-grant-read", &format!("uri={ALL_USERS}, {by_email}")).ok().await;
    assert_eq!(shown(&owner, &bucket).await, [pair(ALL_USERS, "READ"), pair(&other_id, "READ")]);
    let read = format!("id={other_id}");
    owner.put(&format!("{bucket}/put")).header("x-amz-grant-read", &read).body("x").ok().await;
    let copy = owner.put(&format!("{bucket}/copy")).header("x-amz-copy-source", &format!("{bucket}/put"));
    copy.header("x-amz-grant-read-acp", &read).ok().await;
    let upload = owner.post(&format!("{bucket}/parts?uploads")).header("x-amz-grant-write-acp", &read).ok().await;
    let upload = upload.element("UploadId").expect("an upload has an id");
    let part = owner.put(&format!("{bucket}/parts?partNumber=1&uploadId={upload}")).body("x").ok().await;
    let complete = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag").expect("a part has an entity tag")
    );
    owner.post(&format!("{bucket}/parts?uploadId={upload}")).body(complete).ok().await;
    for (key, permission) in [("put", "READ"), ("copy", "READ_ACP"), ("parts", "WRITE_ACP")] {
        assert_eq!(shown(&owner, &format!("{bucket}/{key}")).await, [pair(&other_id, permission)], "{key}");
    }
    owner.put(&format!("{bucket}?acl")).header("x-amz-acl", "log-delivery-write").ok().await;
    let delivery = shown(&owner, &bucket).await;
    assert_eq!(delivery[..2], [pair(LOG_DELIVERY, "WRITE"), pair(LOG_DELIVERY, "READ_ACP")]);
}

#[tokio::test]
async fn a_list_that_makes_no_sense_is_refused_and_the_old_one_stays() {
    let cluster = shared().await;
    let owner = cluster.s3(0);
    let owner_id = id_of(&owner).await;
    let bucket = new_bucket(&owner).await;
    owner.put(&format!("{bucket}/k")).body("x").ok().await;
    let own = grant(&owner_id, "FULL_CONTROL");
    let many: Vec<String> = (0..101).map(|_| own.clone()).collect();
    let mine = policy(&owner_id, std::slice::from_ref(&own));
    for target in [format!("{bucket}?acl"), format!("{bucket}/k?acl")] {
        let by_body = [
            (policy(&owner_id, &[grant("_foo", "READ")]), 400, "InvalidArgument"),
            (policy(&owner_id, &[grant(&"0".repeat(64), "READ")]), 400, "InvalidArgument"),
            (policy(&owner_id, &[grant("nobody@example.invalid", "READ")]), 400, "UnresolvableGrantByEmailAddress"),
            (policy(&owner_id, &[grant("http://example.org/group", "READ")]), 400, "InvalidArgument"),
            (policy(&owner_id, &[grant(&owner_id, "EVERYTHING")]), 400, "MalformedACLError"),
            (policy(&owner_id, &[grant_of_type("Group", "<ID>x</ID>", "READ")]), 400, "MalformedACLError"),
            (policy(&owner_id, &[grant_of_type("Everyone", "<ID>x</ID>", "READ")]), 400, "MalformedACLError"),
            (policy(&owner_id, &[own.replace("Permission", "Right")]), 400, "MalformedACLError"),
            (policy(&owner_id, &many), 400, "MalformedACLError"),
            (
                mine.replace(&format!("<Owner><ID>{owner_id}"), &format!("<Owner><ID>{}", "0".repeat(64))),
                403,
                "AccessDenied",
            ),
            (mine.replace("Owner>", "Nobody>"), 400, "MalformedACLError"),
            (
                format!("<AccessControlPolicy><Owner><ID>{owner_id}</ID></Owner></AccessControlPolicy>"),
                400,
                "MalformedACLError",
            ),
            ("<AccessControlPolicy>".to_owned(), 400, "MalformedACLError"),
            (String::new(), 400, "MissingSecurityHeader"),
        ];
        for (body, status, code) in by_body {
            owner.put(&target).body(body).refused(status, code).await;
        }
        let read = ("x-amz-grant-read", format!("id={owner_id}"));
        owner.put(&target).header("x-amz-acl", "private").header(read.0, &read.1).refused(400, "InvalidRequest").await;
        let both = owner.put(&target).header(read.0, &read.1).body(mine.clone());
        both.refused(400, "UnexpectedContent").await;
        let both = owner.put(&target).header("x-amz-acl", "private").body(mine.clone());
        both.refused(400, "UnexpectedContent").await;
        for value in ["id", "name=x", "id=_foo", "uri=http://example.org/group"] {
            owner.put(&target).header("x-amz-grant-read", value).refused(400, "InvalidArgument").await;
        }
        owner.put(&target).header("x-amz-acl", "everyone").refused(400, "InvalidArgument").await;
        owner.put(&target).header("x-amz-acl", "aws-exec-read").refused(501, "NotImplemented").await;
        let list = target.trim_end_matches("?acl");
        assert_eq!(shown(&owner, list).await, [pair(&owner_id, "FULL_CONTROL")], "{target}");
    }
    owner
        .put(&format!("{bucket}/k?acl"))
        .header("x-amz-acl", "log-delivery-write")
        .refused(400, "InvalidArgument")
        .await;
    for header in [("x-amz-acl", "everyone"), ("x-amz-grant-read", "id=_foo")] {
        owner.put(&format!("{bucket}/new")).header(header.0, header.1).body("x").refused(400, "InvalidArgument").await;
        crate::assert_absent(&owner, &format!("{bucket}/new")).await;
        let name = format!("/{}", fresh_name("never"));
        owner.put(&name).header(header.0, header.1).refused(400, "InvalidArgument").await;
        crate::assert_absent(&owner, &name).await;
    }
}

#[tokio::test]
async fn a_list_may_grant_nothing_and_its_owner_still_changes_it() {
    let owner = shared().await.s3(0);
    let owner_id = id_of(&owner).await;
    let bucket = new_bucket(&owner).await;
    owner.put(&format!("{bucket}?acl")).body(policy(&owner_id, &[])).ok().await;
    assert_eq!(shown(&owner, &bucket).await, []);
    owner.put(&format!("{bucket}?acl")).header("x-amz-acl", "private").ok().await;
    assert_eq!(shown(&owner, &bucket).await, [pair(&owner_id, "FULL_CONTROL")]);
}

#[tokio::test]
async fn what_others_write_is_theirs_and_what_they_give_the_buckets_owner_is_shared() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let (owner_id, other_id) = (id_of(&owner).await, id_of(&other).await);
    let bucket = format!("/{}", fresh_name("open"));
    owner.put(&bucket).header("x-amz-acl", "public-read-write").ok().await;
    let put = |key: &str, acl: &str| other.put(&format!("{bucket}/{key}")).header("x-amz-acl", acl).body("theirs");
    put("private", "private").ok().await;
    put("read", "bucket-owner-read").ok().await;
    put("shared", "bucket-owner-full-control").ok().await;
    for (key, reads, changes) in [("private", false, false), ("read", true, false), ("shared", true, true)] {
        let target = format!("{bucket}/{key}");
        assert_eq!(is_allowed(owner.get(&target)).await, reads, "{key}");
        assert_eq!(is_allowed(owner.get(&format!("{target}?acl"))).await, changes, "{key}");
        let list = other.get(&format!("{target}?acl")).ok().await;
        assert!(list.text().contains(&format!("<ID>{other_id}</ID></Owner>")), "it is the writer's: {}", list.text());
        assert!(is_allowed(owner.delete(&target)).await, "the bucket's owner may delete everything in it");
    }
    put("read", "bucket-owner-read").ok().await;
    let list = shown(&other, &format!("{bucket}/read")).await;
    assert_eq!(list, [pair(&owner_id, "READ"), pair(&other_id, "FULL_CONTROL")]);
}

#[tokio::test]
async fn making_a_bucket_again_does_not_change_who_may_use_it() {
    let owner = shared().await.s3(0);
    let bucket = format!("/{}", fresh_name("again"));
    owner.put(&bucket).header("x-amz-acl", "public-read").ok().await;
    owner.put(&bucket).header("x-amz-acl", "public-read").ok().await;
    owner.put(&bucket).refused(409, "BucketAlreadyExists").await;
    assert_eq!(shown(&owner, &bucket).await[0], pair(ALL_USERS, "READ"));
}
