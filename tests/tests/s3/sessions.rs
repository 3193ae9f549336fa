//! Roles and sessions: temporary credentials that every gateway takes until they expire, and that may do what they were
//! opened for.

use annulus_tests::client::{Reply, S3};
use annulus_tests::cluster::{Cluster, shared};

use crate::iam::{ALLOW_S3, iam, iam_refused, new_user, number_of};
use crate::{fresh_name, new_bucket};

const READ_ONLY: &str = r#"{"Statement": [{"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}]}"#;

fn trust(principal: &str, condition: &str) -> String {
    format!(
        r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Principal": {{"AWS": "{principal}"}},
            "Action": "sts:AssumeRole"{condition}}}]}}"#
    )
}

/// A role that allows everything in S3 to those whom it trusts: its name and its ARN.
async fn new_role(account: &S3, trust: &str) -> (String, String) {
    let name = fresh_name("role");
    let role = [("RoleName", name.as_str()), ("AssumeRolePolicyDocument", trust)];
    let arn = iam(account, "CreateRole", &role).await.element("Arn").expect("an ARN");
    let policy = [("RoleName", name.as_str()), ("PolicyName", "p"), ("PolicyDocument", ALLOW_S3)];
    iam(account, "PutRolePolicy", &policy).await;
    (name, arn)
}

fn session_of(cluster: &Cluster, gateway: usize, reply: &Reply) -> S3 {
    let element = |name| reply.element(name).expect("credentials are whole");
    S3::new(&cluster.endpoint(gateway), &element("AccessKeyId"), &element("SecretAccessKey"))
        .with_token(&element("SessionToken"))
}

#[tokio::test]
async fn a_role_is_assumed_by_those_whom_it_trusts() {
    let cluster = shared().await;
    let (account, other) = (cluster.s3(0), cluster.alt());
    let bucket = new_bucket(&account).await;
    let (user, client) = new_user(cluster, &other, 0).await;
    let arn = iam(&other, "GetUser", &[("UserName", &user)]).await.element("Arn").expect("an ARN");
    let (role, role_arn) = new_role(&account, &trust(&arn, "")).await;
    let assume = [("RoleArn", role_arn.as_str()), ("RoleSessionName", "night")];
    let reply = client.action("sts", "AssumeRole", &assume).ok().await;
    let number = number_of(&account).await;
    let session_arn = format!("arn:aws:sts::{number}:assumed-role/{role}/night");
    assert_eq!(reply.element("Arn").as_ref(), Some(&session_arn));
    for gateway in [0, 1] {
        let session = session_of(cluster, gateway, &reply);
        session.put(&format!("{bucket}/k")).body("x").ok().await;
        session.get("/").ok().await;
        let identity = session.action("sts", "GetCallerIdentity", &[]).ok().await;
        assert_eq!(
            (identity.element("Arn").as_ref(), identity.element("Account").as_ref()),
            (Some(&session_arn), Some(&number))
        );
        iam_refused(&session, "ListUsers", &[], 403, "AccessDenied").await;
    }
    let stranger = new_user(cluster, &other, 0).await.1;
    stranger.action("sts", "AssumeRole", &assume).refused(403, "AccessDenied").await;
    let missing = [("RoleArn", "arn:aws:iam::000000000001:role/x"), ("RoleSessionName", "night")];
    client.action("sts", "AssumeRole", &missing).refused(403, "AccessDenied").await;
    let session = session_of(cluster, 0, &reply);
    iam(&account, "DeleteRolePolicy", &[("RoleName", &role), ("PolicyName", "p")]).await;
    session.get("/").refused(403, "AccessDenied").await;
    iam(&account, "DeleteRole", &[("RoleName", &role)]).await;
    session.get("/").refused(400, "InvalidToken").await;
}

#[tokio::test]
async fn an_account_that_is_trusted_says_who_in_it() {
    let cluster = shared().await;
    let (account, other) = (cluster.s3(0), cluster.alt());
    let (user, client) = new_user(cluster, &other, 0).await;
    let condition = r#", "Condition": {"StringEquals": {"sts:ExternalId": "secret"}}"#;
    let (_, role) = new_role(&account, &trust(&number_of(&other).await, condition)).await;
    let assume = [("RoleArn", role.as_str()), ("RoleSessionName", "s1"), ("ExternalId", "secret")];
    client.action("sts", "AssumeRole", &assume).refused(403, "AccessDenied").await;
    let document =
        format!(r#"{{"Statement": [{{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "{role}"}}]}}"#);
    iam(&other, "PutUserPolicy", &[("UserName", &user), ("PolicyName", "p"), ("PolicyDocument", &document)]).await;
    client.action("sts", "AssumeRole", &assume[..2]).refused(403, "AccessDenied").await;
    client.action("sts", "AssumeRole", &assume).ok().await;
}

#[tokio::test]
async fn a_session_may_nothing_beyond_its_policy() {
    let cluster = shared().await;
    let account = cluster.s3(0);
    let bucket = new_bucket(&account).await;
    account.put(&format!("{bucket}/k")).body("x").ok().await;
    let (_, role) = new_role(&account, &trust("*", "")).await;
    let assume = [("RoleArn", role.as_str()), ("RoleSessionName", "s1")];
    let bounded = [&assume[..], &[("Policy", READ_ONLY)]].concat();
    let user = new_user(cluster, &account, 0).await.1;
    let reply = user.action("sts", "AssumeRole", &bounded).ok().await;
    let session = session_of(cluster, 1, &reply);
    session.get(&format!("{bucket}/k")).ok().await;
    session.put(&format!("{bucket}/k")).body("y").refused(403, "AccessDenied").await;
    let policy = format!(
        r#"{{"Statement": [{{"Effect": "Allow", "Principal": {{"AWS": "{}"}}, "Action": "s3:PutObject",
            "Resource": "arn:aws:s3:::{}/*"}}]}}"#,
        reply.element("Arn").expect("an ARN"),
        &bucket[1..]
    );
    account.put(&format!("{bucket}?policy")).body(policy).ok().await;
    session.put(&format!("{bucket}/k")).body("y").ok().await;
    let managed =
        [&assume[..], &[("PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess")]].concat();
    let reply = user.action("sts", "AssumeRole", &managed).ok().await;
    let session = session_of(cluster, 0, &reply);
    session.get(&format!("{bucket}/k")).ok().await;
    session.delete(&format!("{bucket}/k")).refused(403, "AccessDenied").await;
    for (name, value, code) in [
        ("DurationSeconds", "60", "ValidationError"),
        ("DurationSeconds", "7200", "ValidationError"),
        ("Policy", "{}", "MalformedPolicyDocument"),
        ("PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/None", "NoSuchEntity"),
    ] {
        let reply = account.action("sts", "AssumeRole", &[&assume[..], &[(name, value)]].concat()).send().await;
        assert_eq!(reply.code().as_deref(), Some(code), "{name}={value}");
    }
    let tags = [&assume[..], &[("Tags.member.1.Key", "a")]].concat();
    account.action("sts", "AssumeRole", &tags).refused(501, "NotImplemented").await;
}

#[tokio::test]
async fn a_session_assumes_no_role_beyond_its_policy() {
    let cluster = shared().await;
    let account = cluster.s3(0);
    let (first, first_arn) = new_role(&account, &trust("*", "")).await;
    let session_arn = format!("arn:aws:sts::{}:assumed-role/{first}/s1", number_of(&account).await);
    let user = new_user(cluster, &account, 0).await.1;
    let open = async |policy: Option<&str>| {
        let mut assume = vec![("RoleArn", first_arn.as_str()), ("RoleSessionName", "s1")];
        assume.extend(policy.map(|policy| ("Policy", policy)));
        session_of(cluster, 0, &user.action("sts", "AssumeRole", &assume).ok().await)
    };
    let may = r#"{"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]}"#;
    let may_not = r#"{"Statement": [{"Effect": "Deny", "Action": "sts:AssumeRole", "Resource": "*"}]}"#;
    for (trusted, policy, allowed) in [
        (first_arn.as_str(), None, true),
        (first_arn.as_str(), Some(READ_ONLY), false),
        (first_arn.as_str(), Some(may), true),
        ("*", Some(READ_ONLY), false),
        ("*", Some(may), true),
        // Who names the very session lets it do what it was not opened for, unless that forbids it.
        (session_arn.as_str(), Some(READ_ONLY), true),
        (session_arn.as_str(), Some(may_not), false),
    ] {
        let (_, second) = new_role(&account, &trust(trusted, "")).await;
        let assume = [("RoleArn", second.as_str()), ("RoleSessionName", "s2")];
        let session = open(policy).await;
        let reply = session.action("sts", "AssumeRole", &assume).send().await;
        let expected = if allowed { (200, None) } else { (403, Some("AccessDenied")) };
        assert_eq!((reply.status.as_u16(), reply.code().as_deref()), expected, "{trusted} {policy:?}");
    }
}

#[tokio::test]
async fn a_session_of_its_own_may_what_the_caller_may() {
    let cluster = shared().await;
    let account = cluster.s3(0);
    let reply = account.action("sts", "GetSessionToken", &[]).ok().await;
    let session = session_of(cluster, 1, &reply);
    let bucket = new_bucket(&session).await;
    session.put(&format!("{bucket}/k")).body("x").ok().await;
    let presigned = session.presign(
        &http::Method::GET,
        &format!("{bucket}/k"),
        std::time::SystemTime::now(),
        std::time::Duration::from_secs(60),
    );
    assert_eq!(S3::anonymous(&cluster.endpoint(1)).get(&presigned).ok().await.text(), "x");
    iam_refused(&session, "ListUsers", &[], 403, "AccessDenied").await;
    session.action("sts", "GetSessionToken", &[]).refused(403, "AccessDenied").await;
    let (name, user) = new_user(cluster, &account, 0).await;
    let reply = user.action("sts", "GetSessionToken", &[("DurationSeconds", "900")]).ok().await;
    let session = session_of(cluster, 1, &reply);
    session.get(&format!("{bucket}/k")).refused(403, "AccessDenied").await;
    iam(&account, "PutUserPolicy", &[("UserName", &name), ("PolicyName", "p"), ("PolicyDocument", ALLOW_S3)]).await;
    session.get(&format!("{bucket}/k")).ok().await;
}

#[tokio::test]
async fn only_roles_are_chained() {
    let cluster = shared().await;
    let account = cluster.s3(0);
    let (role, role_arn) = new_role(&account, &trust("*", "")).await;
    iam(&account, "UpdateRole", &[("RoleName", &role), ("MaxSessionDuration", "7200")]).await;
    let assume = [("RoleArn", role_arn.as_str()), ("RoleSessionName", "s1"), ("DurationSeconds", "7200")];
    let user = new_user(cluster, &account, 0).await.1;
    let own = session_of(cluster, 0, &user.action("sts", "GetSessionToken", &[]).ok().await);
    let of_role = session_of(cluster, 0, &own.action("sts", "AssumeRole", &assume).ok().await);
    let may = r#"{"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]}"#;
    iam(&account, "PutRolePolicy", &[("RoleName", &role), ("PolicyName", "q"), ("PolicyDocument", may)]).await;
    of_role.action("sts", "AssumeRole", &assume).refused(400, "ValidationError").await;
    of_role.action("sts", "AssumeRole", &assume[..2]).ok().await;
    let longer = [&assume[..2], &[("DurationSeconds", "7201")]].concat();
    own.action("sts", "AssumeRole", &longer).refused(400, "ValidationError").await;
}

#[tokio::test]
async fn a_token_is_of_its_key_alone() {
    let cluster = shared().await;
    let account = cluster.s3(0);
    let open = async || account.action("sts", "GetSessionToken", &[]).ok().await;
    let (one, other) = (open().await, open().await);
    let element = |reply: &Reply, name| reply.element(name).expect("credentials are whole");
    let keys = |reply: &Reply| {
        S3::new(&cluster.endpoint(0), &element(reply, "AccessKeyId"), &element(reply, "SecretAccessKey"))
    };
    keys(&one).get("/").refused(403, "InvalidAccessKeyId").await;
    let (token, others) = (element(&one, "SessionToken"), element(&other, "SessionToken"));
    keys(&one).with_token(&token).get("/").ok().await;
    keys(&one).with_token(&others).get("/").refused(400, "InvalidToken").await;
    keys(&one).with_token("garbage").get("/").refused(400, "InvalidToken").await;
    account.with_token(&token).get("/").refused(400, "InvalidToken").await;
    let iam = keys(&one).with_token(&others);
    iam.action("sts", "GetCallerIdentity", &[]).refused(403, "InvalidClientTokenId").await;
}

#[tokio::test]
async fn other_accounts_agree_where_a_role_trusts_everybody() {
    let cluster = shared().await;
    let (account, other) = (cluster.s3(0), cluster.alt());
    let (_, role) = new_role(&account, &trust("*", "")).await;
    let assume = [("RoleArn", role.as_str()), ("RoleSessionName", "s1")];
    new_user(cluster, &account, 0).await.1.action("sts", "AssumeRole", &assume).ok().await;
    let refused = other.action("sts", "AssumeRole", &assume).refused(403, "AccessDenied").await;
    assert!(refused.text().contains("Roles may not be assumed by root accounts."), "{}", refused.text());
    let (user, client) = new_user(cluster, &other, 0).await;
    client.action("sts", "AssumeRole", &assume).refused(403, "AccessDenied").await;
    let may = r#"{"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]}"#;
    iam(&other, "PutUserPolicy", &[("UserName", &user), ("PolicyName", "p"), ("PolicyDocument", may)]).await;
    client.action("sts", "AssumeRole", &assume).ok().await;
}

#[tokio::test]
async fn a_role_trusts_those_who_had_the_names_when_it_was_told() {
    let cluster = shared().await;
    let account = cluster.s3(0);
    let (user, client) = new_user(cluster, &account, 0).await;
    let arn = iam(&account, "GetUser", &[("UserName", &user)]).await.element("Arn").expect("an ARN");
    let (role, role_arn) = new_role(&account, &trust(&arn, "")).await;
    let assume = [("RoleArn", role_arn.as_str()), ("RoleSessionName", "s1")];
    let renamed = fresh_name("user");
    iam(&account, "UpdateUser", &[("UserName", &user), ("NewUserName", &renamed)]).await;
    client.action("sts", "AssumeRole", &assume).ok().await;
    iam(&account, "CreateUser", &[("UserName", &user)]).await;
    let key = iam(&account, "CreateAccessKey", &[("UserName", &user)]).await;
    let element = |name| key.element(name).expect("a key is whole");
    let stranger = S3::new(&cluster.endpoint(0), &element("AccessKeyId"), &element("SecretAccessKey"));
    stranger.action("sts", "AssumeRole", &assume).refused(403, "AccessDenied").await;
    let document = iam(&account, "GetRole", &[("RoleName", &role)]).await.element("AssumeRolePolicyDocument");
    assert!(document.expect("a document").contains(&renamed), "the name that it has now");
    let nobody = arn.replace(&user, "nobody-is-called-so");
    let update = [("RoleName", role.as_str()), ("PolicyDocument", &trust(&nobody, ""))];
    iam_refused(&account, "UpdateAssumeRolePolicy", &update, 400, "MalformedPolicyDocument").await;

    // A session of a role that is made anew is another one's, whatever it is called.
    let (first, first_arn) = new_role(&account, &trust("*", "")).await;
    let session_arn = first_arn.replace("iam", "sts").replace(":role/", ":assumed-role/") + "/s2";
    let (_, second_arn) = new_role(&account, &trust(&session_arn, "")).await;
    let user = new_user(cluster, &account, 0).await.1;
    let open = async || {
        let assume = [("RoleArn", first_arn.as_str()), ("RoleSessionName", "s2")];
        session_of(cluster, 0, &user.action("sts", "AssumeRole", &assume).ok().await)
    };
    let assume = [("RoleArn", second_arn.as_str()), ("RoleSessionName", "s3")];
    open().await.action("sts", "AssumeRole", &assume).ok().await;
    iam(&account, "DeleteRolePolicy", &[("RoleName", &first), ("PolicyName", "p")]).await;
    iam(&account, "DeleteRole", &[("RoleName", &first)]).await;
    let again = [("RoleName", first.as_str()), ("AssumeRolePolicyDocument", &trust("*", ""))];
    iam(&account, "CreateRole", &again).await;
    open().await.action("sts", "AssumeRole", &assume).refused(403, "AccessDenied").await;
}
