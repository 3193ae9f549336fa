//! Users, groups and policies of accounts: made by IAM's API, in force in S3 at once and at every gateway.

use annulus_tests::client::{Reply, S3};
use annulus_tests::cluster::{Cluster, shared};

use crate::{fresh_name, new_bucket};

pub(crate) const ALLOW_S3: &str =
    r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}"#;

/// A call that succeeds.
pub(crate) async fn iam(s3: &S3, action: &str, parameters: &[(&str, &str)]) -> Reply {
    s3.action("iam", action, parameters).ok().await
}

/// A call that is refused.
pub(crate) async fn iam_refused(s3: &S3, action: &str, parameters: &[(&str, &str)], status: u16, code: &str) {
    s3.action("iam", action, parameters).refused(status, code).await;
}

/// A new user of an account with a key of its own, as a client of a gateway.
pub(crate) async fn new_user(cluster: &Cluster, account: &S3, gateway: usize) -> (String, S3) {
    let name = fresh_name("user");
    iam(account, "CreateUser", &[("UserName", &name)]).await;
    let key = iam(account, "CreateAccessKey", &[("UserName", &name)]).await;
    let (id, secret) = (key.element("AccessKeyId").expect("an id"), key.element("SecretAccessKey").expect("a secret"));
    (name, S3::new(&cluster.endpoint(gateway), &id, &secret))
}

/// An account's number, as its root user has it in its ARN.
pub(crate) async fn number_of(account: &S3) -> String {
    iam(account, "GetUser", &[]).await.element("UserId").expect("an account has a number")
}

fn allow(action: &str, resource: &str) -> String {
    format!(
        r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Action": "{action}", "Resource": "{resource}"}}]}}"#
    )
}

fn deny(action: &str) -> String {
    allow(action, "*").replace("Allow", "Deny")
}

#[tokio::test]
async fn a_user_may_what_its_policies_allow() {
    let cluster = shared().await;
    let account = cluster.s3(0);
    let bucket = new_bucket(&account).await;
    account.put(&format!("{bucket}/k")).body("x").ok().await;
    let (name, user) = new_user(cluster, &account, 1).await;
    let (user_name, policy_name) = (("UserName", name.as_str()), ("PolicyName", "p"));
    for call in [user.get("/"), user.get(&bucket), user.get(&format!("{bucket}/k")), user.put("/never-made")] {
        call.refused(403, "AccessDenied").await;
    }
    let read = allow("s3:GetObject", &format!("arn:aws:s3:::{}/*", &bucket[1..]));
    iam(&account, "PutUserPolicy", &[user_name, policy_name, ("PolicyDocument", &read)]).await;
    assert_eq!(user.get(&format!("{bucket}/k")).ok().await.text(), "x");
    user.put(&format!("{bucket}/k")).body("y").refused(403, "AccessDenied").await;
    user.get(&bucket).refused(403, "AccessDenied").await;
    let document = iam(&account, "GetUserPolicy", &[user_name, policy_name]).await.element("PolicyDocument");
    let document =
        percent_encoding::percent_decode_str(&document.expect("a document")).decode_utf8().unwrap().into_owned();
    assert_eq!(document, read);
    iam(&account, "PutUserPolicy", &[user_name, policy_name, ("PolicyDocument", ALLOW_S3)]).await;
    user.get("/").ok().await;
    user.put(&format!("{bucket}/k")).body("y").ok().await;
    let made = format!("/{}", fresh_name("bucket"));
    user.put(&made).ok().await;
    account.head(&made).ok().await;
    iam(&account, "PutUserPolicy", &[user_name, ("PolicyName", "d"), ("PolicyDocument", &deny("s3:ListAllMyBuckets"))])
        .await;
    user.get("/").refused(403, "AccessDenied").await;
    let names = iam(&account, "ListUserPolicies", &[user_name]).await.elements("member");
    assert_eq!(names, ["d", "p"]);
    iam(&account, "DeleteUserPolicy", &[user_name, policy_name]).await;
    user.get(&format!("{bucket}/k")).refused(403, "AccessDenied").await;
    iam_refused(&account, "DeleteUserPolicy", &[user_name, policy_name], 404, "NoSuchEntity").await;
}

#[tokio::test]
async fn a_bucket_may_name_a_user_and_other_accounts_must_agree() {
    let cluster = shared().await;
    let (owner, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&owner).await;
    let (name, insider) = new_user(cluster, &owner, 0).await;
    let (alien_name, alien) = new_user(cluster, &other, 0).await;
    let arn = async |account: &S3, name: &str| {
        iam(account, "GetUser", &[("UserName", name)]).await.element("Arn").expect("an ARN")
    };
    let set = async |principal: &str| {
        let policy = format!(
            r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Principal": {{"AWS": [{principal}]}},
                "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::{}"}}]}}"#,
            &bucket[1..]
        );
        owner.put(&format!("{bucket}?policy")).body(policy).ok().await;
    };
    let (insiders, aliens) = (arn(&owner, &name).await, arn(&other, &alien_name).await);
    set(&format!("\"{insiders}\", \"{aliens}\"")).await;
    insider.get(&bucket).ok().await;
    alien.get(&bucket).refused(403, "AccessDenied").await;
    let allowed = [("UserName", alien_name.as_str()), ("PolicyName", "p"), ("PolicyDocument", ALLOW_S3)];
    iam(&other, "PutUserPolicy", &allowed).await;
    alien.get(&bucket).ok().await;
    set(&format!("\"{}\"", number_of(&other).await)).await;
    alien.get(&bucket).ok().await;
    insider.get(&bucket).refused(403, "AccessDenied").await;
    other.get(&bucket).ok().await;
}

#[tokio::test]
async fn groups_and_managed_policies_give_rights() {
    let cluster = shared().await;
    let account = cluster.alt();
    let (name, user) = new_user(cluster, &account, 1).await;
    let group = fresh_name("group");
    let (user_name, group_name) = (("UserName", name.as_str()), ("GroupName", group.as_str()));
    iam(&account, "CreateGroup", &[group_name, ("Path", "/staff/")]).await;
    iam(&account, "AddUserToGroup", &[group_name, user_name]).await;
    let made = iam(&account, "CreatePolicy", &[("PolicyName", &group), ("PolicyDocument", ALLOW_S3)]).await;
    let arn = made.element("Arn").expect("an ARN");
    assert_eq!(made.element("DefaultVersionId").as_deref(), Some("v1"));
    user.get("/").refused(403, "AccessDenied").await;
    iam(&account, "AttachGroupPolicy", &[group_name, ("PolicyArn", &arn)]).await;
    user.get("/").ok().await;
    let nothing = allow("sqs:*", "*");
    let version = [("PolicyArn", arn.as_str()), ("PolicyDocument", &nothing), ("SetAsDefault", "true")];
    assert_eq!(iam(&account, "CreatePolicyVersion", &version).await.element("VersionId").as_deref(), Some("v2"));
    user.get("/").refused(403, "AccessDenied").await;
    iam(&account, "SetDefaultPolicyVersion", &[("PolicyArn", &arn), ("VersionId", "v1")]).await;
    user.get("/").ok().await;
    let versions = iam(&account, "ListPolicyVersions", &[("PolicyArn", &arn)]).await;
    assert_eq!(versions.elements("VersionId"), ["v2", "v1"]);
    iam_refused(&account, "DeletePolicy", &[("PolicyArn", &arn)], 409, "DeleteConflict").await;
    iam_refused(&account, "DeletePolicyVersion", &[("PolicyArn", &arn), ("VersionId", "v1")], 409, "DeleteConflict")
        .await;
    iam(&account, "DeletePolicyVersion", &[("PolicyArn", &arn), ("VersionId", "v2")]).await;
    let attached = iam(&account, "ListEntitiesForPolicy", &[("PolicyArn", &arn)]).await;
    assert_eq!(attached.elements("GroupName"), [group.as_str()]);
    iam(&account, "AttachUserPolicy", &[user_name, ("PolicyArn", &arn)]).await;
    for (filter, groups, users) in [
        (("EntityFilter", "Group"), 1, 0),
        (("EntityFilter", "User"), 0, 1),
        (("EntityFilter", "Role"), 0, 0),
        (("EntityFilter", "LocalManagedPolicy"), 0, 0),
        (("PathPrefix", "/"), 1, 1),
        (("PathPrefix", "/staff/"), 1, 0),
        (("PolicyUsageFilter", "PermissionsPolicy"), 1, 1),
        (("PolicyUsageFilter", "PermissionsBoundary"), 0, 0),
    ] {
        let attached = iam(&account, "ListEntitiesForPolicy", &[("PolicyArn", &arn), filter]).await;
        let found = (attached.elements("GroupName").len(), attached.elements("UserName").len());
        assert_eq!(found, (groups, users), "{filter:?}");
    }
    iam(&account, "DetachUserPolicy", &[user_name, ("PolicyArn", &arn)]).await;
    iam(&account, "RemoveUserFromGroup", &[group_name, user_name]).await;
    user.get("/").refused(403, "AccessDenied").await;
    iam(&account, "DetachGroupPolicy", &[group_name, ("PolicyArn", &arn)]).await;
    iam(&account, "DeletePolicy", &[("PolicyArn", &arn)]).await;
    iam(&account, "DeleteGroup", &[group_name]).await;
    let read_only = ("PolicyArn", "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess");
    iam(&account, "AttachUserPolicy", &[user_name, read_only]).await;
    user.get("/").ok().await;
    user.put(&format!("/{}", fresh_name("bucket"))).refused(403, "AccessDenied").await;
}

#[tokio::test]
async fn a_key_that_is_inactive_or_gone_signs_nothing() {
    let cluster = shared().await;
    let account = cluster.s3(0);
    let (name, user) = new_user(cluster, &account, 1).await;
    let user_name = ("UserName", name.as_str());
    iam(&account, "PutUserPolicy", &[user_name, ("PolicyName", "p"), ("PolicyDocument", ALLOW_S3)]).await;
    user.get("/").ok().await;
    let keys = iam(&account, "ListAccessKeys", &[user_name]).await;
    let id = keys.element("AccessKeyId").expect("one key");
    let key = ("AccessKeyId", id.as_str());
    iam(&account, "UpdateAccessKey", &[user_name, key, ("Status", "Inactive")]).await;
    user.get("/").refused(403, "InvalidAccessKeyId").await;
    iam_refused(&user, "GetUser", &[], 403, "InvalidClientTokenId").await;
    iam(&account, "UpdateAccessKey", &[user_name, key, ("Status", "Active")]).await;
    user.get("/").ok().await;
    iam(&account, "CreateAccessKey", &[user_name]).await;
    iam_refused(&account, "CreateAccessKey", &[user_name], 409, "LimitExceeded").await;
    iam_refused(&account, "DeleteUser", &[user_name], 409, "DeleteConflict").await;
    iam_refused(&account, "DeleteAccessKey", &[key], 404, "NoSuchEntity").await;
    iam(&account, "DeleteAccessKey", &[user_name, key]).await;
    user.get("/").refused(403, "InvalidAccessKeyId").await;
}

#[tokio::test]
async fn users_have_names_paths_and_tags() {
    let cluster = shared().await;
    let account = cluster.s3(0);
    let (path, name) = (format!("/{}/", fresh_name("path")), fresh_name("User"));
    let tags = [("Tags.member.1.Key", "team"), ("Tags.member.1.Value", "a b")];
    let made =
        iam(&account, "CreateUser", &[&[("UserName", name.as_str()), ("Path", &path)], &tags[..]].concat()).await;
    let arn = format!("arn:aws:iam::{}:user{path}{name}", number_of(&account).await);
    assert_eq!(made.element("Arn"), Some(arn));
    let lower = name.to_ascii_lowercase();
    iam_refused(&account, "CreateUser", &[("UserName", &lower)], 409, "EntityAlreadyExists").await;
    assert_eq!(iam(&account, "GetUser", &[("UserName", &lower)]).await.element("UserName"), Some(name.clone()));
    iam(&account, "TagUser", &[("UserName", &name), ("Tags.member.1.Key", "x"), ("Tags.member.1.Value", "y")]).await;
    iam(&account, "UntagUser", &[("UserName", &name), ("TagKeys.member.1", "team")]).await;
    assert_eq!(iam(&account, "ListUserTags", &[("UserName", &name)]).await.elements("Key"), ["x"]);
    for _ in 0..3 {
        iam(&account, "CreateUser", &[("UserName", &fresh_name("z")), ("Path", &path)]).await;
    }
    let (mut seen, mut marker) = (Vec::new(), None::<String>);
    loop {
        let mut page = vec![("PathPrefix", path.as_str()), ("MaxItems", "2")];
        page.extend(marker.as_deref().map(|marker| ("Marker", marker)));
        let listed = iam(&account, "ListUsers", &page).await;
        seen.extend(listed.elements("UserName"));
        marker = listed.element("Marker");
        assert_eq!(listed.element("IsTruncated").as_deref(), Some(if marker.is_some() { "true" } else { "false" }));
        if marker.is_none() {
            break;
        }
    }
    assert_eq!((seen.len(), &seen[0]), (4, &name));
    let other = fresh_name("renamed");
    iam(&account, "UpdateUser", &[("UserName", &name), ("NewUserName", &other)]).await;
    iam_refused(&account, "GetUser", &[("UserName", &name)], 404, "NoSuchEntity").await;
    iam(&account, "DeleteUser", &[("UserName", &other)]).await;
}

#[tokio::test]
async fn a_user_administers_as_far_as_it_is_allowed() {
    let cluster = shared().await;
    let account = cluster.alt();
    let (name, user) = new_user(cluster, &account, 0).await;
    let user_name = ("UserName", name.as_str());
    iam_refused(&user, "ListUsers", &[], 403, "AccessDenied").await;
    iam_refused(&user, "GetUser", &[], 403, "AccessDenied").await;
    let own = allow("iam:*AccessKey*", "arn:aws:iam::*:user/${aws:username}");
    iam(&account, "PutUserPolicy", &[user_name, ("PolicyName", "own"), ("PolicyDocument", &own)]).await;
    assert_eq!(iam(&user, "ListAccessKeys", &[]).await.element("UserName"), Some(name.clone()));
    let other = new_user(cluster, &account, 0).await.0;
    iam_refused(&user, "ListAccessKeys", &[("UserName", &other)], 403, "AccessDenied").await;
    let identity = user.action("sts", "GetCallerIdentity", &[]).ok().await;
    let arn = format!("arn:aws:iam::{}:user/{name}", number_of(&account).await);
    assert_eq!(identity.element("Arn"), Some(arn));
    // The admin API and `/upload` are for accounts themselves.
    assert_eq!(user.get("/-/admin/v1/users").send().await.status, 403);
}

#[tokio::test]
async fn mistakes_are_named() {
    let cluster = shared().await;
    let account = cluster.s3(0);
    let name = fresh_name("user");
    let user_name = ("UserName", name.as_str());
    iam(&account, "CreateUser", &[user_name]).await;
    let policy = |document| [user_name, ("PolicyName", "p"), ("PolicyDocument", document)];
    let perhaps = ALLOW_S3.replace("Allow", "Perhaps");
    for document in ["", "{}", r#"{"Version": "2010-10-17", "Statement": []}"#, &perhaps] {
        iam_refused(&account, "PutUserPolicy", &policy(document), 400, "MalformedPolicyDocument").await;
    }
    let long = allow(&format!("s3:{}", "x".repeat(2_100)), "*");
    iam_refused(&account, "PutUserPolicy", &policy(&long), 409, "LimitExceeded").await;
    let large = allow(&format!("s3:{}", "x".repeat(6_000)), "*");
    iam(&account, "CreatePolicy", &[("PolicyName", &name), ("PolicyDocument", &large)]).await;
    for (action, parameters, status, code) in [
        ("MakeCoffee", &[][..], 400, "InvalidAction"),
        ("CreateUser", &[], 400, "ValidationError"),
        ("CreateUser", &[("UserName", "a b")], 400, "ValidationError"),
        ("CreateUser", &[("UserName", "x"), ("Path", "x")], 400, "ValidationError"),
        (
            "CreateUser",
            &[("UserName", "x"), ("PermissionsBoundary", "arn:aws:iam::aws:policy/x")],
            501,
            "NotImplemented",
        ),
        ("AttachUserPolicy", &[user_name, ("PolicyArn", "arn:aws:iam::aws:policy/None")], 404, "NoSuchEntity"),
        ("ListUsers", &[("MaxItems", "0")], 400, "ValidationError"),
    ] {
        iam_refused(&account, action, parameters, status, code).await;
    }
    let unsigned = cluster.anonymous();
    iam_refused(&unsigned, "ListUsers", &[], 403, "MissingAuthenticationToken").await;
    let wrong = S3::new(&cluster.endpoint(0), &cluster.root.access_key, "wrong");
    iam_refused(&wrong, "ListUsers", &[], 403, "SignatureDoesNotMatch").await;
    account.action("s3", "ListUsers", &[]).refused(403, "SignatureDoesNotMatch").await;
    account.post("/").refused(405, "MethodNotAllowed").await;
}

#[tokio::test]
async fn conditions_ask_what_a_call_is_about() {
    let cluster = shared().await;
    let account = cluster.s3(0);
    let (name, user) = new_user(cluster, &account, 0).await;
    let (other, _) = new_user(cluster, &account, 0).await;
    let (admin, read) =
        ("arn:aws:iam::aws:policy/AdministratorAccess", "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess");
    let tagged = fresh_name("user");
    iam(
        &account,
        "CreateUser",
        &[("UserName", &tagged), ("Tags.member.1.Key", "team"), ("Tags.member.1.Value", "red")],
    )
    .await;
    let made = fresh_name("user");
    let tag = |team| [("UserName", other.as_str()), ("Tags.member.1.Key", "team"), ("Tags.member.1.Value", team)];
    let make = |team| [("UserName", made.as_str()), ("Tags.member.1.Key", "team"), ("Tags.member.1.Value", team)];
    let attach = |arn| [("UserName", other.as_str()), ("PolicyArn", arn)];
    let admin_arn = format!(r#""ArnEquals": {{"iam:PolicyARN": "{admin}"}}"#);
    let red = r#""StringEquals": {"aws:RequestTag/team": "red"}"#;
    let locked = r#""ForAnyValue:StringEquals": {"aws:TagKeys": "locked"}"#;
    let of_red = r#""StringEquals": {"aws:ResourceTag/team": "red"}"#;
    let of_red_too = r#""StringEquals": {"iam:ResourceTag/team": "red"}"#;
    type Asked<'a> = (&'a str, Vec<(&'a str, &'a str)>);
    let cases: Vec<(&str, Asked<'_>, Asked<'_>)> = vec![
        (&admin_arn, ("AttachUserPolicy", attach(admin).into()), ("AttachUserPolicy", attach(read).into())),
        (&admin_arn, ("DetachUserPolicy", attach(admin).into()), ("DetachUserPolicy", attach(read).into())),
        (red, ("TagUser", tag("red").into()), ("TagUser", tag("blue").into())),
        (red, ("CreateUser", make("red").into()), ("CreateUser", make("blue").into())),
        (
            locked,
            ("UntagUser", vec![("UserName", &other), ("TagKeys.member.1", "a"), ("TagKeys.member.2", "locked")]),
            ("UntagUser", vec![("UserName", &other), ("TagKeys.member.1", "a")]),
        ),
        (of_red, ("GetUser", vec![("UserName", &tagged)]), ("GetUser", vec![("UserName", &name)])),
        (
            of_red_too,
            ("ListUserPolicies", vec![("UserName", &tagged)]),
            ("ListUserPolicies", vec![("UserName", &name)]),
        ),
    ];
    for (condition, (denied, denied_with), (allowed, allowed_with)) in &cases {
        let document = format!(
            r#"{{"Statement": [{{"Effect": "Allow", "Action": "iam:*", "Resource": "*"}},
                {{"Effect": "Deny", "Action": "iam:*", "Resource": "*", "Condition": {{{condition}}}}}]}}"#
        );
        iam(&account, "PutUserPolicy", &[("UserName", &name), ("PolicyName", "p"), ("PolicyDocument", &document)])
            .await;
        iam_refused(&user, denied, denied_with, 403, "AccessDenied").await;
        let reply = user.action("iam", allowed, allowed_with).send().await;
        assert!(reply.status.is_success(), "{allowed} {condition}: {}", reply.text());
    }
}

/// A user that may be moved within `/a/` alone gets no other path, and any name there.
#[tokio::test]
async fn who_renames_must_be_let_do_so_where_it_goes() {
    let cluster = shared().await;
    let account = cluster.alt();
    let (name, clerk) = new_user(cluster, &account, 0).await;
    let number = number_of(&account).await;
    let document = format!(
        r#"{{"Statement": [{{"Effect": "Allow", "Action": ["iam:UpdateUser", "iam:UpdateGroup"],
            "Resource": ["arn:aws:iam::{number}:user/a/*", "arn:aws:iam::{number}:group/a/*"]}}]}}"#
    );
    let policy = [("UserName", name.as_str()), ("PolicyName", "p"), ("PolicyDocument", &document)];
    iam(&account, "PutUserPolicy", &policy).await;
    for kind in ["User", "Group"] {
        let (create, update, field, new) =
            (format!("Create{kind}"), format!("Update{kind}"), format!("{kind}Name"), format!("New{kind}Name"));
        let (first, second) = (fresh_name("moved"), fresh_name("moved"));
        iam(&account, &create, &[(&field, &first), ("Path", "/a/")]).await;
        let (first, second) = ((field.as_str(), first.as_str()), (field.as_str(), second.as_str()));
        iam_refused(&clerk, &update, &[first, ("NewPath", "/b/")], 403, "AccessDenied").await;
        iam_refused(&clerk, &update, &[first, ("NewPath", "/b/"), (&new, second.1)], 403, "AccessDenied").await;
        iam(&clerk, &update, &[first, (&new, second.1)]).await;
        iam(&clerk, &update, &[second, ("NewPath", "/a/b/")]).await;
        iam(&account, &update, &[second, ("NewPath", "/b/")]).await;
        iam_refused(&clerk, &update, &[second, ("NewPath", "/a/")], 403, "AccessDenied").await;
    }
}

/// A user who is made anew is another one, and one who is renamed is the same.
#[tokio::test]
async fn policies_mean_those_who_had_the_names_when_they_were_set() {
    let cluster = shared().await;
    let account = cluster.s3(0);
    let bucket = new_bucket(&account).await;
    let target = format!("{bucket}?policy");
    let get_user = async |name: &str, element: &str| {
        iam(&account, "GetUser", &[("UserName", name)]).await.element(element).expect("a user has it")
    };
    let set = |effect: &str, arn: &str| {
        let policy = format!(
            r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "{effect}", "Principal": {{"AWS": "{arn}"}},
                "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::{}"}}]}}"#,
            &bucket[1..]
        );
        (account.put(&target).body(policy.clone()), policy)
    };
    let (name, bob) = new_user(cluster, &account, 0).await;
    let (arn, id) = (get_user(&name, "Arn").await, get_user(&name, "UserId").await);
    let (put, text) = set("Allow", &arn);
    put.ok().await;
    bob.get(&bucket).ok().await;
    assert_eq!(account.get(&target).ok().await.text(), text);
    let key = iam(&account, "ListAccessKeys", &[("UserName", &name)]).await.element("AccessKeyId").expect("a key");
    iam(&account, "DeleteAccessKey", &[("UserName", &name), ("AccessKeyId", &key)]).await;
    iam(&account, "DeleteUser", &[("UserName", &name)]).await;
    set("Allow", &arn).0.refused(400, "MalformedPolicy").await;
    iam(&account, "CreateUser", &[("UserName", &name)]).await;
    let key = iam(&account, "CreateAccessKey", &[("UserName", &name)]).await;
    let (key, secret) = (key.element("AccessKeyId").expect("an id"), key.element("SecretAccessKey").expect("a secret"));
    let other = S3::new(&cluster.endpoint(1), &key, &secret);
    other.get(&bucket).refused(403, "AccessDenied").await;
    let shown = account.get(&target).ok().await.text();
    assert!(shown.contains(&id) && !shown.contains(&arn), "{shown}");
    set("Allow", &id).0.refused(400, "MalformedPolicy").await;
    set("Allow", &arn).0.ok().await;
    other.get(&bucket).ok().await;
    // What is elsewhere is nobody.
    set("Allow", "arn:aws:iam::000000000001:user/bob").0.ok().await;

    let may = [("UserName", name.as_str()), ("PolicyName", "p"), ("PolicyDocument", ALLOW_S3)];
    iam(&account, "PutUserPolicy", &may).await;
    set("Deny", &arn).0.ok().await;
    other.get(&bucket).refused(403, "AccessDenied").await;
    let new_name = fresh_name("user");
    iam(&account, "UpdateUser", &[("UserName", &name), ("NewUserName", &new_name)]).await;
    other.get(&bucket).refused(403, "AccessDenied").await;
    let shown = account.get(&target).ok().await.text();
    assert!(shown.contains(&get_user(&new_name, "Arn").await) && !shown.contains(&arn), "{shown}");
}
