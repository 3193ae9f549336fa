//! Wrong input to what is asked beside S3: IAM's and STS's actions and the quotas of the admin API. Tables as those of
//! `refusals`: what is sent, and the status and code that come back; and afterwards nothing has changed.

use annulus_gateway::admin::model::{BASE, QuotaReport};
use annulus_gateway::iam::{Service, parameters};
use annulus_tests::client::{Reply, S3};
use annulus_tests::cluster::shared;

use crate::iam::{ALLOW_S3, iam};
use crate::refusals::assert_error;
use crate::{fresh_name, new_bucket};

/// Action, parameters; status, code. What stands in braces is replaced, see [`Account`].
type Row = (&'static str, &'static [(&'static str, &'static str)], u16, &'static str);

/// An account of its own.
struct Account {
    s3: S3,
    names: Vec<(&'static str, String)>,
}

impl Account {
    /// `{user}`: a user with a key, `{key}`, who is in the group `{group}`; `{other}`: another user; `{role}`: a role that trusts
    /// the account, known as `{role-arn}`; `{policy}`: a policy, known as `{policy-arn}`; `{none-arn}`: no policy; `{trust}`: a
    /// document that trusts everybody, `{allow}`: one that allows everything in S3; `{long}`: a name of 129 characters, `{large}`: a document of
    /// more than 2,048.
    async fn set() -> Self {
        let cluster = shared().await;
        let keys = cluster.create_account(&fresh_name("refused"), None).await;
        let s3 = S3::new(&cluster.endpoint(0), &keys.access_key, &keys.secret_key);
        let trust = r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}}"#;
        let told = |reply: Reply, name: &str| reply.element(name).unwrap_or_else(|| panic!("{name}: {}", reply.text()));
        for user in ["user", "other"] {
            iam(&s3, "CreateUser", &[("UserName", user)]).await;
        }
        let key = told(iam(&s3, "CreateAccessKey", &[("UserName", "user")]).await, "AccessKeyId");
        iam(&s3, "CreateGroup", &[("GroupName", "group")]).await;
        iam(&s3, "AddUserToGroup", &[("GroupName", "group"), ("UserName", "user")]).await;
        let role = [("RoleName", "role"), ("AssumeRolePolicyDocument", trust)];
        let role_arn = told(iam(&s3, "CreateRole", &role).await, "Arn");
        let policy = [("PolicyName", "policy"), ("PolicyDocument", ALLOW_S3)];
        let policy_arn = told(iam(&s3, "CreatePolicy", &policy).await, "Arn");
        let names = vec![
            ("{key}", key),
            ("{none-arn}", policy_arn.replace("/policy", "/none")),
            ("{none-role}", role_arn.replace("/role", "/none")),
            ("{role-arn}", role_arn),
            ("{policy-arn}", policy_arn),
            ("{trust}", trust.to_owned()),
            ("{allow}", ALLOW_S3.to_owned()),
            ("{long}", "x".repeat(129)),
            ("{large}", format!("{{{}}}", " ".repeat(2_048))),
        ];
        Self { s3, names }
    }

    fn fill(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// What the account has, counted.
    async fn summary(&self) -> Vec<String> {
        iam(&self.s3, "GetAccountSummary", &[]).await.elements("value")
    }

    async fn check(&self, service: &'static str, rows: &[Row]) {
        let before = self.summary().await;
        for (action, parameters, status, code) in rows {
            let filled: Vec<_> = parameters.iter().map(|(name, value)| (*name, self.fill(value))).collect();
            let filled: Vec<_> = filled.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let reply = self.s3.action(service, action, &filled).send().await;
            assert_refused(&reply, *status, code, &format!("{action} {parameters:?}"));
        }
        assert_eq!(self.summary().await, before, "a refusal changes nothing");
    }
}

/// The error as IAM and STS write it.
fn assert_refused(reply: &Reply, status: u16, code: &str, what: &str) {
    let text = reply.text();
    assert_error(reply, (status, code), "text/xml", what);
    let kind = if status >= 500 { "Receiver" } else { "Sender" };
    assert_eq!(reply.element("Type").as_deref(), Some(kind), "{what}: {text}");
}

#[tokio::test]
async fn of_users_and_their_keys() {
    Account::set()
        .await
        .check(
            "iam",
            &[
                ("NoSuchAction", &[], 400, "InvalidAction"),
                ("CreateUser", &[], 400, "ValidationError"),
                ("CreateUser", &[("UserName", "")], 400, "ValidationError"),
                ("CreateUser", &[("UserName", "a b")], 400, "ValidationError"),
                ("CreateUser", &[("UserName", "{long}")], 400, "ValidationError"),
                ("CreateUser", &[("UserName", "new"), ("Path", "no-slash")], 400, "ValidationError"),
                ("CreateUser", &[("UserName", "new"), ("PermissionsBoundary", "{policy-arn}")], 501, "NotImplemented"),
                (
                    "CreateUser",
                    &[("UserName", "new"), ("Tags.member.1.Key", "aws:a"), ("Tags.member.1.Value", "b")],
                    400,
                    "InvalidInput",
                ),
                ("CreateUser", &[("UserName", "new"), ("Tags.member.1.Key", "a")], 400, "ValidationError"),
                ("CreateUser", &[("UserName", "new"), ("Tags.member.2.Key", "a")], 400, "ValidationError"),
                ("CreateUser", &[("UserName", "new"), ("Tags.1.Key", "a")], 400, "ValidationError"),
                ("CreateUser", &[("UserName", "new"), ("Colour", "red")], 501, "NotImplemented"),
                ("CreateUser", &[("UserName", "new"), ("Version", "2011-06-15")], 400, "InvalidAction"),
                ("AssumeRole", &[], 400, "InvalidAction"),
                ("CreateUser", &[("UserName", "USER")], 409, "EntityAlreadyExists"),
                ("GetUser", &[("UserName", "none")], 404, "NoSuchEntity"),
                ("UpdateUser", &[("UserName", "none"), ("NewUserName", "x")], 404, "NoSuchEntity"),
                ("UpdateUser", &[("UserName", "user"), ("NewUserName", "other")], 409, "EntityAlreadyExists"),
                ("UpdateUser", &[("UserName", "user"), ("NewPath", "x")], 400, "ValidationError"),
                ("DeleteUser", &[("UserName", "none")], 404, "NoSuchEntity"),
                ("DeleteUser", &[("UserName", "user")], 409, "DeleteConflict"),
                ("ListUsers", &[("MaxItems", "0")], 400, "ValidationError"),
                ("ListUsers", &[("MaxItems", "1001")], 400, "ValidationError"),
                ("ListUsers", &[("Marker", "zz")], 400, "ValidationError"),
                ("ListUsers", &[("PathPrefix", "x")], 400, "ValidationError"),
                ("CreateAccessKey", &[("UserName", "none")], 404, "NoSuchEntity"),
                ("UpdateAccessKey", &[("UserName", "user")], 400, "ValidationError"),
                (
                    "UpdateAccessKey",
                    &[("UserName", "user"), ("AccessKeyId", "{key}"), ("Status", "Maybe")],
                    400,
                    "ValidationError",
                ),
                (
                    "UpdateAccessKey",
                    &[("UserName", "other"), ("AccessKeyId", "{key}"), ("Status", "Inactive")],
                    404,
                    "NoSuchEntity",
                ),
                ("DeleteAccessKey", &[("UserName", "user"), ("AccessKeyId", "AKIANONE")], 404, "NoSuchEntity"),
                ("DeleteAccessKey", &[("UserName", "other"), ("AccessKeyId", "{key}")], 404, "NoSuchEntity"),
                ("GetAccessKeyLastUsed", &[("AccessKeyId", "AKIANONE")], 404, "NoSuchEntity"),
                ("GetLoginProfile", &[("UserName", "user")], 404, "NoSuchEntity"),
                ("ListMFADevices", &[("UserName", "none")], 404, "NoSuchEntity"),
                ("ListMFADevices", &[("UserName", "user"), ("MaxItems", "0")], 400, "ValidationError"),
                ("ListAccountAliases", &[("Marker", "zz")], 400, "ValidationError"),
                (
                    "TagUser",
                    &[("UserName", "none"), ("Tags.member.1.Key", "a"), ("Tags.member.1.Value", "b")],
                    404,
                    "NoSuchEntity",
                ),
                ("TagUser", &[("UserName", "user")], 400, "ValidationError"),
                ("UntagUser", &[("UserName", "user")], 400, "ValidationError"),
                ("UntagUser", &[("UserName", "user"), ("TagKeys.member.2", "a")], 400, "ValidationError"),
            ],
        )
        .await;
}

#[tokio::test]
async fn of_policies() {
    const WITH_PRINCIPAL: &str =
        r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}}"#;
    Account::set()
        .await
        .check(
            "iam",
            &[
                ("PutUserPolicy", &[("UserName", "user"), ("PolicyName", "p")], 400, "ValidationError"),
                (
                    "PutUserPolicy",
                    &[("UserName", "user"), ("PolicyName", "p"), ("PolicyDocument", "{")],
                    400,
                    "MalformedPolicyDocument",
                ),
                (
                    "PutUserPolicy",
                    &[("UserName", "user"), ("PolicyName", "p"), ("PolicyDocument", WITH_PRINCIPAL)],
                    400,
                    "MalformedPolicyDocument",
                ),
                (
                    "PutUserPolicy",
                    &[("UserName", "user"), ("PolicyName", "a b"), ("PolicyDocument", "{allow}")],
                    400,
                    "ValidationError",
                ),
                (
                    "PutUserPolicy",
                    &[("UserName", "none"), ("PolicyName", "p"), ("PolicyDocument", "{allow}")],
                    404,
                    "NoSuchEntity",
                ),
                ("GetUserPolicy", &[("UserName", "user"), ("PolicyName", "none")], 404, "NoSuchEntity"),
                ("DeleteUserPolicy", &[("UserName", "user"), ("PolicyName", "none")], 404, "NoSuchEntity"),
                ("ListUserPolicies", &[("UserName", "none")], 404, "NoSuchEntity"),
                ("GetGroupPolicy", &[("GroupName", "group"), ("PolicyName", "none")], 404, "NoSuchEntity"),
                ("DeleteRolePolicy", &[("RoleName", "role"), ("PolicyName", "none")], 404, "NoSuchEntity"),
                (
                    "CreatePolicy",
                    &[("PolicyName", "new"), ("PolicyDocument", "no JSON")],
                    400,
                    "MalformedPolicyDocument",
                ),
                ("CreatePolicy", &[("PolicyName", "{long}"), ("PolicyDocument", "{allow}")], 400, "ValidationError"),
                (
                    "CreatePolicy",
                    &[("PolicyName", "policy"), ("PolicyDocument", "{allow}")],
                    409,
                    "EntityAlreadyExists",
                ),
                ("GetPolicy", &[], 400, "ValidationError"),
                ("GetPolicy", &[("PolicyArn", "short")], 400, "ValidationError"),
                (
                    "AttachUserPolicy",
                    &[("UserName", "user"), ("PolicyArn", "long-enough-but-no-arn")],
                    400,
                    "ValidationError",
                ),
                ("ListPolicyVersions", &[("PolicyArn", "{policy-arn}"), ("MaxItems", "0")], 400, "ValidationError"),
                ("GetPolicyVersion", &[("PolicyArn", "{policy-arn}"), ("VersionId", "1")], 400, "ValidationError"),
                ("GetPolicy", &[("PolicyArn", "{none-arn}")], 404, "NoSuchEntity"),
                ("DeletePolicy", &[("PolicyArn", "arn:aws:iam::aws:policy/AmazonS3FullAccess")], 404, "NoSuchEntity"),
                ("ListPolicies", &[("Scope", "Mine")], 400, "ValidationError"),
                ("ListPolicies", &[("OnlyAttached", "perhaps")], 400, "ValidationError"),
                ("ListPolicies", &[("PolicyUsageFilter", "PermissionsPolicy")], 501, "NotImplemented"),
                ("ListEntitiesForPolicy", &[("PolicyArn", "{none-arn}")], 404, "NoSuchEntity"),
                (
                    "ListEntitiesForPolicy",
                    &[("PolicyArn", "{policy-arn}"), ("EntityFilter", "Robot")],
                    400,
                    "ValidationError",
                ),
                (
                    "ListEntitiesForPolicy",
                    &[("PolicyArn", "{policy-arn}"), ("PolicyUsageFilter", "Boundary")],
                    400,
                    "ValidationError",
                ),
                ("GetPolicyVersion", &[("PolicyArn", "{policy-arn}")], 400, "ValidationError"),
                ("GetPolicyVersion", &[("PolicyArn", "{policy-arn}"), ("VersionId", "v9")], 404, "NoSuchEntity"),
                ("DeletePolicyVersion", &[("PolicyArn", "{policy-arn}"), ("VersionId", "v1")], 409, "DeleteConflict"),
                ("SetDefaultPolicyVersion", &[("PolicyArn", "{none-arn}"), ("VersionId", "v1")], 404, "NoSuchEntity"),
                (
                    "CreatePolicyVersion",
                    &[("PolicyArn", "{policy-arn}"), ("PolicyDocument", "{")],
                    400,
                    "MalformedPolicyDocument",
                ),
                ("AttachUserPolicy", &[("UserName", "user")], 400, "ValidationError"),
                ("AttachUserPolicy", &[("UserName", "user"), ("PolicyArn", "{none-arn}")], 404, "NoSuchEntity"),
                ("AttachUserPolicy", &[("UserName", "none"), ("PolicyArn", "{policy-arn}")], 404, "NoSuchEntity"),
                ("DetachUserPolicy", &[("UserName", "user"), ("PolicyArn", "{policy-arn}")], 404, "NoSuchEntity"),
            ],
        )
        .await;
}

#[tokio::test]
async fn of_groups_and_roles() {
    Account::set()
        .await
        .check(
            "iam",
            &[
                ("CreateGroup", &[("GroupName", "{long}")], 400, "ValidationError"),
                ("CreateGroup", &[("GroupName", "Group")], 409, "EntityAlreadyExists"),
                ("GetGroup", &[("GroupName", "none")], 404, "NoSuchEntity"),
                ("DeleteGroup", &[("GroupName", "group")], 409, "DeleteConflict"),
                ("AddUserToGroup", &[("GroupName", "none"), ("UserName", "user")], 404, "NoSuchEntity"),
                ("AddUserToGroup", &[("GroupName", "group"), ("UserName", "none")], 404, "NoSuchEntity"),
                ("ListGroupsForUser", &[("UserName", "none")], 404, "NoSuchEntity"),
                ("CreateRole", &[("RoleName", "new")], 400, "ValidationError"),
                (
                    "CreateRole",
                    &[("RoleName", "new"), ("AssumeRolePolicyDocument", "{allow}")],
                    400,
                    "MalformedPolicyDocument",
                ),
                (
                    "CreateRole",
                    &[("RoleName", "new"), ("AssumeRolePolicyDocument", "{trust}"), ("MaxSessionDuration", "900")],
                    400,
                    "ValidationError",
                ),
                (
                    "CreateRole",
                    &[("RoleName", "role"), ("AssumeRolePolicyDocument", "{trust}")],
                    409,
                    "EntityAlreadyExists",
                ),
                ("GetRole", &[("RoleName", "none")], 404, "NoSuchEntity"),
                ("DeleteRole", &[("RoleName", "none")], 404, "NoSuchEntity"),
                ("UpdateRole", &[("RoleName", "role"), ("MaxSessionDuration", "one")], 400, "ValidationError"),
                (
                    "UpdateAssumeRolePolicy",
                    &[("RoleName", "role"), ("PolicyDocument", "{")],
                    400,
                    "MalformedPolicyDocument",
                ),
                ("UpdateAssumeRolePolicy", &[("RoleName", "none"), ("PolicyDocument", "{trust}")], 404, "NoSuchEntity"),
                ("ListInstanceProfilesForRole", &[("RoleName", "none")], 404, "NoSuchEntity"),
            ],
        )
        .await;
}

#[tokio::test]
async fn of_sessions() {
    Account::set()
        .await
        .check(
            "sts",
            &[
                ("AssumeRoleWithSAML", &[], 400, "InvalidAction"),
                ("AssumeRole", &[], 400, "ValidationError"),
                ("AssumeRole", &[("RoleArn", "{role-arn}")], 400, "ValidationError"),
                ("AssumeRole", &[("RoleArn", "{role-arn}"), ("RoleSessionName", "x")], 400, "ValidationError"),
                ("AssumeRole", &[("RoleArn", "{role-arn}"), ("RoleSessionName", "a b")], 400, "ValidationError"),
                ("AssumeRole", &[("RoleArn", "{none-role}"), ("RoleSessionName", "night")], 403, "AccessDenied"),
                ("AssumeRole", &[("RoleArn", "role"), ("RoleSessionName", "night")], 400, "ValidationError"),
                (
                    "AssumeRole",
                    &[("RoleArn", "nothing-valid-in-here"), ("RoleSessionName", "night")],
                    400,
                    "ValidationError",
                ),
                (
                    "AssumeRole",
                    &[("RoleArn", "arn:aws:iam::123456789012:"), ("RoleSessionName", "night")],
                    400,
                    "ValidationError",
                ),
                ("AssumeRole", &[("RoleArn", "{role-arn}"), ("RoleSessionName", "{long}")], 400, "ValidationError"),
                (
                    "AssumeRole",
                    &[("RoleArn", "{role-arn}"), ("RoleSessionName", "night"), ("ExternalId", "x")],
                    400,
                    "ValidationError",
                ),
                (
                    "AssumeRole",
                    &[("RoleArn", "{role-arn}"), ("RoleSessionName", "night"), ("DurationSeconds", "43201")],
                    400,
                    "ValidationError",
                ),
                (
                    "AssumeRole",
                    &[("RoleArn", "{role-arn}"), ("RoleSessionName", "night"), ("DurationSeconds", "an hour")],
                    400,
                    "ValidationError",
                ),
                (
                    "AssumeRole",
                    &[("RoleArn", "{role-arn}"), ("RoleSessionName", "night"), ("Policy", "")],
                    400,
                    "ValidationError",
                ),
                (
                    "AssumeRole",
                    &[("RoleArn", "{role-arn}"), ("RoleSessionName", "night"), ("Policy", "{large}")],
                    400,
                    "ValidationError",
                ),
                (
                    "AssumeRole",
                    &[
                        ("RoleArn", "{role-arn}"),
                        ("RoleSessionName", "night"),
                        ("PolicyArns.member.2.arn", "{policy-arn}"),
                    ],
                    400,
                    "ValidationError",
                ),
                ("ListUsers", &[], 400, "InvalidAction"),
                ("GetCallerIdentity", &[("Version", "2010-05-08")], 400, "InvalidAction"),
                (
                    "AssumeRole",
                    &[("RoleArn", "{role-arn}"), ("RoleSessionName", "night"), ("DurationSeconds", "899")],
                    400,
                    "ValidationError",
                ),
                (
                    "AssumeRole",
                    &[("RoleArn", "{role-arn}"), ("RoleSessionName", "night"), ("DurationSeconds", "3601")],
                    400,
                    "ValidationError",
                ),
                (
                    "AssumeRole",
                    &[("RoleArn", "{role-arn}"), ("RoleSessionName", "night"), ("Policy", "{")],
                    400,
                    "MalformedPolicyDocument",
                ),
                (
                    "AssumeRole",
                    &[
                        ("RoleArn", "{role-arn}"),
                        ("RoleSessionName", "night"),
                        ("PolicyArns.member.1.arn", "{none-arn}"),
                    ],
                    404,
                    "NoSuchEntity",
                ),
                (
                    "AssumeRole",
                    &[("RoleArn", "{role-arn}"), ("RoleSessionName", "night"), ("Tags.member.1.Key", "a")],
                    501,
                    "NotImplemented",
                ),
                (
                    "AssumeRole",
                    &[("RoleArn", "{role-arn}"), ("RoleSessionName", "night"), ("SerialNumber", "1")],
                    501,
                    "NotImplemented",
                ),
                ("GetSessionToken", &[("DurationSeconds", "899")], 400, "ValidationError"),
                ("GetSessionToken", &[("DurationSeconds", "129601")], 400, "ValidationError"),
                ("GetSessionToken", &[("TokenCode", "123456")], 501, "NotImplemented"),
            ],
        )
        .await;
}

/// The words of AWS, which SDKs print and people search for.
#[tokio::test]
async fn mistakes_are_told_as_aws_tells_them() {
    let account = Account::set().await;
    let (arn, long) = (account.fill("{role-arn}"), account.fill("{long}"));
    let (arn, long) = (arn.as_str(), long.as_str());
    let constraint = |value: &str, name: &str, rule: &str| {
        format!(
            "1 validation error detected: Value {value} at '{name}' failed to satisfy constraint: Member must {rule}"
        )
    };
    let pattern = "satisfy regular expression pattern: [\\w+=,.@-]*";
    for (service, action, parameters, message) in [
        ("sts", "AssumeRole", vec![], constraint("null", "roleArn", "not be null")),
        (
            "sts",
            "AssumeRole",
            vec![("RoleArn", "role")],
            constraint("'role'", "roleArn", "have length greater than or equal to 20"),
        ),
        (
            "sts",
            "AssumeRole",
            vec![("RoleArn", "nothing-valid-in-here"), ("RoleSessionName", "night")],
            "nothing-valid-in-here is invalid".to_owned(),
        ),
        (
            "sts",
            "AssumeRole",
            vec![("RoleArn", arn), ("RoleSessionName", "a:b")],
            constraint("'a:b'", "roleSessionName", pattern),
        ),
        (
            "sts",
            "AssumeRole",
            vec![("RoleArn", arn), ("RoleSessionName", long)],
            constraint(&format!("'{long}'"), "roleSessionName", "have length less than or equal to 64"),
        ),
        (
            "sts",
            "GetSessionToken",
            vec![("DurationSeconds", "1")],
            constraint("'1'", "durationSeconds", "have value greater than or equal to 900"),
        ),
        (
            "sts",
            "AssumeRole",
            vec![("RoleArn", arn), ("RoleSessionName", "night"), ("SourceIdentity", "me")],
            "The parameter SourceIdentity implies functionality that is not implemented.".to_owned(),
        ),
        ("iam", "GetUser", vec![("UserName", "none")], "The user with name none cannot be found.".to_owned()),
        (
            "iam",
            "AttachUserPolicy",
            vec![("UserName", "user"), ("PolicyArn", "long-enough-but-no-arn")],
            "Invalid ARN:  Could not be parsed!".to_owned(),
        ),
        (
            "iam",
            "UpdateAssumeRolePolicy",
            vec![("RoleName", "role"), ("PolicyDocument", "{")],
            "This policy contains invalid Json".to_owned(),
        ),
    ] {
        let reply = account.s3.action(service, action, &parameters).send().await;
        assert_eq!(reply.element("Message"), Some(message), "{action} {parameters:?}");
        let namespace = format!("xmlns=\"https://{service}.amazonaws.com/doc/");
        assert!(reply.text().contains(&namespace), "{}", reply.text());
    }
}

/// Each parameter that AWS documents of an action that is built is taken or refused.
#[tokio::test]
async fn of_parameters_that_are_not_built() {
    let s3 = &Account::set().await.s3;
    let mut refused = 0;
    for line in include_str!("documented_beside.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        let mut word = || words.next().expect("a line names a service and an action");
        let (service, action) = (word(), word());
        let (service, name) = if service == "iam" { (Service::Iam, "iam") } else { (Service::Sts, "sts") };
        let Some(taken) = parameters(service, action) else {
            assert_refused(&s3.action(name, action, &[]).send().await, 400, "InvalidAction", action);
            continue;
        };
        for parameter in words.filter(|parameter| !taken.contains(parameter)) {
            let reply = s3.action(name, action, &[(parameter, "x")]).send().await;
            assert_refused(&reply, 501, "NotImplemented", &format!("{action} {parameter}"));
            refused += 1;
        }
        let listed = s3.action(name, action, &[("Colours.member.1", "x")]).send().await;
        assert_refused(&listed, 501, "NotImplemented", action);
    }
    assert!(refused > 10, "AWS has more than is built");
}

#[tokio::test]
async fn of_who_asks() {
    let cluster = shared().await;
    let (endpoint, root) = (cluster.endpoint(0), &cluster.root);
    let forger = S3::new(&endpoint, &root.access_key, "not the secret");
    let nobody = S3::new(&endpoint, "NOBODY", "secret");
    let stale = cluster.s3(0).with_token("no token");
    for (service, action) in [("iam", "ListUsers"), ("sts", "GetCallerIdentity")] {
        for (client, code) in [
            (&forger, "SignatureDoesNotMatch"),
            (&nobody, "InvalidClientTokenId"),
            (&stale, "InvalidClientTokenId"),
            (&cluster.anonymous(), "MissingAuthenticationToken"),
        ] {
            let reply = client.action(service, action, &[]).send().await;
            assert_refused(&reply, 403, code, &format!("{action}: {code}"));
            assert!(!reply.text().contains(&root.secret_key), "a refusal tells no secret");
        }
    }
    let twice = cluster.s3(0).action("iam", "ListUsers&Action=ListRoles", &[]).send().await;
    assert_refused(&twice, 400, "ValidationError", "an action that is given twice");
    let s3 = cluster.s3(0);
    let in_url = s3.post("/?PathPrefix=%2Fx%2F");
    let in_url =
        in_url.header("content-type", "application/x-www-form-urlencoded").body("Action=ListUsers").send().await;
    assert_refused(&in_url, 400, "ValidationError", "a parameter in the URL");
    let of_s3 = cluster.s3(0).action("s3", "ListUsers", &[]).send().await;
    assert_refused(&of_s3, 403, "SignatureDoesNotMatch", "a signature for S3");
}

/// The admin API answers in JSON, with a code of its own.
#[tokio::test]
async fn of_quotas() {
    let cluster = shared().await;
    let s3 = cluster.s3(0);
    let bucket = new_bucket(&s3).await;
    let of = format!("buckets{bucket}");
    let path = format!("/{of}/quota");
    let limit = r#"{"objects": 7, "bytes": 7000}"#;
    s3.post(&format!("{BASE}{path}")).body(limit).ok().await;
    for (method, of, body, status, code) in [
        ("POST", "buckets/none-such", limit, 404, "NoSuchBucket"),
        ("GET", "buckets/none-such", "", 404, "NoSuchBucket"),
        ("POST", "users/none-such", limit, 404, "NoSuchUser"),
        ("GET", "users/none-such", "", 404, "NoSuchUser"),
        ("POST", &of, "", 400, "BadBody"),
        ("POST", &of, "{", 400, "BadBody"),
        ("POST", &of, "[]", 400, "BadBody"),
        ("POST", &of, r#"{"objects": -1}"#, 400, "BadBody"),
        ("POST", &of, r#"{"objects": 1.5}"#, 400, "BadBody"),
        ("POST", &of, r#"{"objects": "many"}"#, 400, "BadBody"),
        ("POST", &of, r#"{"bytes": 18446744073709551616}"#, 400, "BadBody"),
        ("POST", &of, r#"{"objects": 1, "objects": 2}"#, 400, "BadBody"),
        ("POST", &of, r#"{"files": 1}"#, 400, "BadBody"),
        ("PUT", &of, limit, 404, "NoSuchCall"),
        ("DELETE", &of, "", 404, "NoSuchCall"),
        ("POST", "nodes/n1", limit, 404, "NoSuchCall"),
    ] {
        let target = format!("{BASE}/{of}/quota");
        let call = match method {
            "GET" => s3.get(&target),
            "PUT" => s3.put(&target),
            "DELETE" => s3.delete(&target),
            _ => s3.post(&target),
        };
        let reply = call.body(body).send().await;
        let problem: serde_json::Value = serde_json::from_slice(&reply.body).expect("a problem is JSON");
        assert_eq!((reply.status.as_u16(), problem["code"].as_str()), (status, Some(code)), "{method} {of} {body}");
        assert!(problem["message"].as_str().is_some_and(|message| !message.is_empty()), "{method} {of} {body}");
    }
    let told: QuotaReport = cluster.admin(1).get(&path).await.expect("an administrator is told");
    assert_eq!((told.objects, told.bytes), (Some(7), Some(7000)), "a refusal changes nothing");
}
